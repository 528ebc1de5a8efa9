package keeper

import (
	"encoding/base32"
	"strings"

	"github.com/evergrant/evergrant/secret"
)

// maxID is the longest id of a connection, in bytes.
const maxID = 128

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewID makes an id for a connection: "conn_" and 26 characters of chance.
func NewID() string { return "conn_" + idEncoding.EncodeToString(secret.Bytes(16)) }

// ValidID reports whether a text can be the id of a connection: 1 to 128 ASCII
// letters, digits and -._~, the characters that stand in a URL as they are (RFC
// 3986 section 2.3); but not "." or "..", which a path swallows.
func ValidID(id string) bool {
	return id != "" && len(id) <= maxID && id != "." && id != ".." && !strings.ContainsFunc(id, func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		return !letter && (r < '0' || r > '9') && !strings.ContainsRune("-._~", r)
	})
}
