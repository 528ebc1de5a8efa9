package secret

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Verifier is what is stored to check a client secret or a password: not the
// secret, and nothing from which it can be computed with bearable effort.
//
// For a generated secret of 256 bits it is "hmac-sha256$salt$digest", which
// takes a microsecond to check. For what a person chose it is the PHC string of
// argon2id (RFC 9106) with 19 MiB, 2 passes and 1 lane. One that came from another
// server has a form of [ForeignVerifier].
type Verifier string

// ErrVerifierSyntax says that a text is not a Verifier.
var ErrVerifierSyntax = errors.New("secret: unknown form of secret verifier")

const (
	secretPrefix = "egs_"
	macForm      = "hmac-sha256"
	argonForm    = "argon2id"
	argonTime    = 2
	argonMemory  = 19 * 1024 // KiB
	argonParams  = "v=19$m=19456,t=2,p=1"
)

var generatedForm = regexp.MustCompile(`^` + secretPrefix + `[A-Za-z0-9_-]{43}$`)

// NewSecret generates a client secret of 256 bits, "egs_" and 43 characters.
func NewSecret() Text { return NewText(secretPrefix + base64.RawURLEncoding.EncodeToString(Bytes(32))) }

// Generated reports whether a secret has the form that NewSecret gives. Which
// check is made depends on this form of the presented secret alone, so that its
// time says nothing about the client.
func Generated(secret Text) bool { return generatedForm.MatchString(secret.Reveal()) }

// NewVerifier makes the verifier of a secret: keyed for a generated one,
// argon2id for any other (17 ms and 19 MiB).
func NewVerifier(secret Text) Verifier {
	salt := Bytes(16)
	if Generated(secret) {
		return Verifier(macForm + "$" + encode(salt) + "$" + encode(macDigest(salt, secret)))
	}
	return Verifier("$" + argonForm + "$" + argonParams + "$" + encode(salt) + "$" + encode(argonDigest(salt, secret)))
}

// Verify reports whether secret is the one that the verifier was made of.
// A verifier of the other form costs what a wrong secret costs, and one of
// another server that and its own cost, so that a quick one does not tell who has
// not signed in since the move.
func (v Verifier) Verify(secret Text) bool {
	salt, digest, err := v.parse()
	if Generated(secret) {
		match := subtle.ConstantTimeCompare(macDigest(salt, secret), digest) == 1
		return err == nil && match && !v.slow()
	}
	match := subtle.ConstantTimeCompare(argonDigest(salt, secret), digest) == 1
	if err == nil {
		return match && v.slow()
	}
	foreign, err := parseForeign(string(v))
	return err == nil && foreign(secret.Reveal())
}

// Check says whether the verifier is of a known form, of this or another server:
// nil, or an error that wraps ErrVerifierSyntax.
func (v Verifier) Check() error {
	_, err := ForeignVerifier(string(v))
	return err
}

// Slow is a verifier that no secret satisfies, to spend on an unknown client or
// user the time that a known one costs.
func Slow() Verifier { return "$" + argonForm + "$" + argonParams + "$" + "$" }

func (v Verifier) slow() bool { return strings.HasPrefix(string(v), "$"+argonForm+"$") }

func (v Verifier) parse() (salt, digest []byte, err error) {
	fields := strings.Split(string(v), "$")
	switch {
	case len(fields) == 3 && fields[0] == macForm:
	case len(fields) == 6 && fields[0] == "" && fields[1] == argonForm && fields[2]+"$"+fields[3] == argonParams:
	default:
		return nil, nil, ErrVerifierSyntax
	}
	if salt, err = base64.RawStdEncoding.Strict().DecodeString(fields[len(fields)-2]); err != nil {
		return nil, nil, ErrVerifierSyntax
	}
	if digest, err = base64.RawStdEncoding.Strict().DecodeString(fields[len(fields)-1]); err != nil {
		return nil, nil, ErrVerifierSyntax
	}
	if fields[0] == "" && len(digest) != sha256.Size && v != Slow() { // another server's, of the same cost
		return nil, nil, ErrVerifierSyntax
	}
	return salt, digest, nil
}

// Format prints which form the verifier has, and nothing of one of an unknown
// form: somebody may have put the secret itself in its place.
func (v Verifier) Format(f fmt.State, _ rune) {
	form := "unknown"
	switch {
	case v.slow():
		form = argonForm
	case strings.HasPrefix(string(v), macForm+"$"):
		form = macForm
	case v.Foreign():
		form = formName(formStart.FindString(string(v)))
	}
	fmt.Fprintf(f, "%s verifier", form)
}

func macDigest(salt []byte, secret Text) []byte {
	h := hmac.New(sha256.New, salt)
	h.Write([]byte(secret.Reveal()))
	return h.Sum(nil)
}

func argonDigest(salt []byte, secret Text) []byte {
	return argon2.IDKey([]byte(secret.Reveal()), salt, argonTime, argonMemory, 1, 32)
}

// encode is the base64 of PHC strings: standard alphabet, no padding.
func encode(b []byte) string { return base64.RawStdEncoding.EncodeToString(b) }
