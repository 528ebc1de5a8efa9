package oauth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
)

// S256 is the only PKCE method (RFC 7636 section 4.2); plain is refused.
const S256 = "S256"

// ValidVerifier reports whether v is 43 to 128 unreserved characters (RFC 7636
// section 4.1).
func ValidVerifier(v string) bool {
	if len(v) < 43 || len(v) > 128 {
		return false
	}
	for i := range len(v) {
		c := v[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' && c != '~' {
			return false
		}
	}
	return true
}

// ValidChallenge reports whether c is the unpadded base64url form of a SHA-256
// digest (RFC 7636 section 4.2).
func ValidChallenge(c string) bool {
	digest, err := base64.RawURLEncoding.Strict().DecodeString(c)
	return err == nil && len(digest) == sha256.Size && len(c) == 43
}

// Challenge is the S256 code challenge of a verifier (RFC 7636 section 4.2).
func Challenge(verifier string) string {
	digest := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(digest[:])
}

// VerifyChallenge reports, in constant time, whether verifier answers the S256
// challenge (RFC 7636 section 4.6).
func VerifyChallenge(verifier, challenge string) bool {
	return ValidVerifier(verifier) && subtle.ConstantTimeCompare([]byte(Challenge(verifier)), []byte(challenge)) == 1
}
