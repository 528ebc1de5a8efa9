package oauth

import (
	"errors"
	"slices"
	"strings"
)

// Scope is a set of scope tokens in the order in which they were first named
// (RFC 6749 section 3.3). The zero value is the empty scope.
type Scope []string

// ErrScopeSyntax says that a scope has a character outside
// %x21 / %x23-5B / %x5D-7E (RFC 6749 section 3.3).
var ErrScopeSyntax = errors.New("oauth: scope has a character that RFC 6749 section 3.3 does not allow")

// ParseScope reads a space-separated scope. Repeated tokens are dropped, runs
// of spaces are tolerated, and the empty string is the empty scope.
func ParseScope(s string) (Scope, error) {
	if s == "" {
		return nil, nil
	}
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return nil, ErrScopeSyntax
		}
	}
	var scope Scope
	seen := map[string]bool{"": true} // a search of the scope takes seconds where a request has 50,000 tokens
	for token := range strings.SplitSeq(s, " ") {
		if !seen[token] {
			seen[token] = true
			scope = append(scope, token)
		}
	}
	return scope, nil
}

// Covers reports whether every token of other is in s. The order is irrelevant
// and the empty scope is covered by any.
func (s Scope) Covers(other Scope) bool {
	for _, token := range other {
		if !slices.Contains(s, token) {
			return false
		}
	}
	return true
}

// Equal reports whether both scopes have the same tokens in any order.
func (s Scope) Equal(other Scope) bool {
	return s.Covers(other) && other.Covers(s)
}

// String is the wire form: tokens joined by single spaces.
func (s Scope) String() string { return strings.Join(s, " ") }
