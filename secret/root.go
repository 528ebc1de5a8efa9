package secret

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// RootSize is the length of a root key in bytes.
const RootSize = 32

// ErrRootSyntax says that a text is not a root key.
var ErrRootSyntax = errors.New("a root key is 32 random bytes in base64, such as `openssl rand -base64 32` prints")

// Root is the root key: 32 random bytes from which all other keys are derived.
// Replicas share it. It prints as redacted. The zero value is no root key.
type Root struct {
	key *string // a string for the reason that Text has one
}

// NewRoot makes a random root key.
func NewRoot() Root { return newRoot(Bytes(RootSize)) }

func newRoot(key []byte) Root {
	text := string(key)
	return Root{&text}
}

// ParseRoot reads a root key in base64, standard or URL-safe, with or without
// padding; surrounding white space is ignored. The error is ErrRootSyntax.
func ParseRoot(text []byte) (Root, error) {
	text = bytes.TrimRight(bytes.TrimSpace(text), "=")
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if key, err := encoding.DecodeString(string(text)); err == nil && len(key) == RootSize {
			return newRoot(key), nil
		}
	}
	return Root{}, ErrRootSyntax
}

// Base64 is the root key in clear, for the file that keeps it.
func (r Root) Base64() string { return base64.StdEncoding.EncodeToString(r.bytes()) }

// Empty reports whether there is no root key.
func (r Root) Empty() bool { return r.key == nil }

// Fingerprint tells two root keys apart and says nothing else of them: 8 bytes
// in hexadecimal.
func (r Root) Fingerprint() string { return hex.EncodeToString(derive(r.bytes(), "fingerprint", 8)) }

func (r Root) bytes() []byte { return []byte(*r.key) }

// Format prints "[redacted]" whatever the verb.
func (r Root) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalJSON is the string "[redacted]".
func (r Root) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// derive makes n bytes for a purpose from key material (HKDF-SHA-256, RFC 5869).
func derive(key []byte, purpose string, n int) []byte {
	out, err := hkdf.Key(sha256.New, key, nil, "evergrant/"+purpose, n)
	if err != nil {
		panic(err) // only for n above 255*32, which no caller asks for
	}
	return out
}
