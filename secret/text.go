// Package secret holds what must not leak: the root key and the keys derived
// from it, token MACs, sealing, signing keys, verifiers of client secrets and
// passwords, and the Text type that prints as redacted.
//
// One root key of 32 bytes stands above all. Numbered keys are derived from it
// with HKDF (RFC 5869), and from each numbered key one key for each purpose. A
// database that uses them stores numbers and dates, so that a copy of it is
// worth nothing without the root key, and a restored older copy still knows
// how to verify what later keys made.
package secret

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"io"
)

// redacted is what every type of this package prints as.
const redacted = "[redacted]"

// Text is a secret string: a token, a password, a client secret. It prints and
// marshals as "[redacted]"; Reveal is the only way to its value. The zero value
// is the empty text.
type Text struct {
	value *string // fmt, which does not ask unexported fields, follows pointers to structs, slices and maps, and none to a string
}

// NewText makes s a secret.
func NewText(s string) Text { return Text{&s} }

// Reveal is the value in clear.
func (t Text) Reveal() string {
	if t.value == nil {
		return ""
	}
	return *t.value
}

// Empty reports whether there is no secret.
func (t Text) Empty() bool { return t.Reveal() == "" }

// Equal compares in constant time for texts of equal length.
func (t Text) Equal(other string) bool {
	return subtle.ConstantTimeCompare([]byte(t.Reveal()), []byte(other)) == 1
}

// Format prints "[redacted]" whatever the verb.
func (t Text) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalText is "[redacted]", so that JSON and YAML do not show the secret.
func (t Text) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText takes the secret in clear, as configuration files have it.
func (t *Text) UnmarshalText(b []byte) error {
	*t = NewText(string(b))
	return nil
}

// Bytes returns n random bytes from the operating system.
func Bytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails: crypto/rand ends the program instead
	return b
}
