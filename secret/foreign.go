package secret

import (
	"crypto/hmac"
	"crypto/sha256"
)

// ForeignKind is what of another server is digested, so that one text is not
// taken for another.
type ForeignKind string

// The kinds.
const (
	ForeignRefresh ForeignKind = "refresh"
	ForeignAccess  ForeignKind = "access"
	ForeignRow     ForeignKind = "row"
)

// Foreign digests a token of another server, so that it can be found again
// without being stored: the first 128 bits of an HMAC-SHA-256 under a key that is
// derived from the root key and is no numbered one, since such a token has no
// number in it. Nobody without the root key finds a text with a given digest.
func (r *Ring) Foreign(kind ForeignKind, token Text) [16]byte {
	h := hmac.New(sha256.New, derive(r.root.bytes(), "foreign/"+string(kind), 32))
	h.Write([]byte(token.Reveal()))
	return [16]byte(h.Sum(nil))
}
