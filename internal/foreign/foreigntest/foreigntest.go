// Package foreigntest makes databases as other authorization servers have them,
// with as many rows as a test wants. What row number i has follows from i alone, so
// that a test can take samples.
package foreigntest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"time"
)

// Username is the name of user i. Some have letters beyond ASCII.
func Username(i int) string {
	if i%100 == 7 {
		return fmt.Sprintf("jürgen%d", i)
	}
	return fmt.Sprintf("user%d", i)
}

// passwords is how many different passwords there are: it takes long to hash one.
const passwords = 8

// Password is the password of user i.
func Password(i int) string { return fmt.Sprintf("correct horse %d", i%passwords) }

// ClientID is the id of client i, as clients send it.
func ClientID(kind string, i int) string {
	if kind == "fos" {
		return fmt.Sprintf("%d_%s", i+1, digest("random", i))
	}
	return fmt.Sprintf("app-%d", i)
}

// Public reports whether client i has no secret: every fourth.
func Public(i int) bool { return i%4 == 3 }

// Secret is the secret of client i, "" for a public one.
func Secret(i int) string {
	if Public(i) {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "secret %d", i))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// RedirectURI is the redirect URI of client i.
func RedirectURI(i int) string { return fmt.Sprintf("https://app%d.example/callback", i) }

// Token is refresh token i. It is one of client i modulo the number of clients, and
// of user i modulo that of users.
func Token(i int) string { return digest("refresh", i) }

// AccessToken is the access token that came with refresh token i. It is live for
// every tenth one ([AccessLive]).
func AccessToken(i int) string { return digest("access", i) }

// AccessLive reports whether access token i has not expired.
func AccessLive(i int) bool { return i%10 == 5 }

// Scope is the scope of refresh and access token i: "" for some.
func Scope(i int) string { return []string{"read", "read write", "profile", ""}[i%4] }

// Expired reports whether refresh token i has expired or, where those of a kind do
// not (doorkeeper, django), is revoked: every tenth.
func Expired(i int) bool { return i%10 == 9 }

// ExpiresAt is when a refresh token that has not expired does, in UTC; the zero
// time where those of the kind do not. Some of bshaffer's and fos's never do,
// too.
func ExpiresAt(kind string, i int) time.Time {
	if kind == "doorkeeper" || kind == "django" || i%10 == 1 {
		return time.Time{}
	}
	return AccessExpiresAt(i)
}

// AccessExpiresAt is when a live access token expires, in UTC.
func AccessExpiresAt(i int) time.Time {
	return time.Date(2037, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(i) * time.Second)
}

// IssuedAt is when all tokens were issued, where the tables say it (doorkeeper,
// django).
func IssuedAt() time.Time { return time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC) }

// digest is 40 hexadecimal digits, as bshaffer's tokens are.
func digest(what string, i int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", what, i))
	return hex.EncodeToString(sum[:20])
}
