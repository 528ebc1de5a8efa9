package oauth_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/oauth"
)

func TestParseScope(t *testing.T) {
	tests := []struct {
		name, in string
		want     oauth.Scope
	}{
		{"empty string", "", nil},
		{"only spaces", "   ", nil},
		{"one token", "read", oauth.Scope{"read"}},
		{"order of first naming", "write read admin", oauth.Scope{"write", "read", "admin"}},
		{"repeated", "read write read", oauth.Scope{"read", "write"}},
		{"repeated next to itself", "read read", oauth.Scope{"read"}},
		{"runs of spaces", "read   write", oauth.Scope{"read", "write"}},
		{"space before and after", " read write ", oauth.Scope{"read", "write"}},
		{"case tells tokens apart", "Read read", oauth.Scope{"Read", "read"}},
		{"first and last of each range", "! # [ ] ~", oauth.Scope{"!", "#", "[", "]", "~"}},
		{"URI as token", "https://api.example/read?x=1#y", oauth.Scope{"https://api.example/read?x=1#y"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := oauth.ParseScope(tt.in)
			if err != nil || !slices.Equal(got, tt.want) || (got == nil) != (tt.want == nil) {
				t.Errorf("ParseScope(%q) = %#v, %v; want %#v", tt.in, got, err, tt.want)
			}
		})
	}
}

// TestParseScopeCharacters tries every byte, alone and inside a token.
func TestParseScopeCharacters(t *testing.T) {
	for c := range 256 {
		legal := c == 0x20 || c == 0x21 || 0x23 <= c && c <= 0x5b || 0x5d <= c && c <= 0x7e // RFC 6749 section 3.3
		for _, text := range []string{string([]byte{byte(c)}), "re" + string([]byte{byte(c)}) + "ad"} {
			scope, err := oauth.ParseScope(text)
			if legal && err != nil {
				t.Errorf("ParseScope(%q): %v", text, err)
			}
			if !legal && (!errors.Is(err, oauth.ErrScopeSyntax) || scope != nil) {
				t.Errorf("ParseScope(%q) = %v, %v; want ErrScopeSyntax", text, scope, err)
			}
		}
	}
	for _, text := range []string{"lesen schrëiben", "read\u00a0write", "read\u3000write"} {
		if _, err := oauth.ParseScope(text); !errors.Is(err, oauth.ErrScopeSyntax) {
			t.Errorf("ParseScope(%q): %v; want ErrScopeSyntax", text, err)
		}
	}
}

// TestParseScopeManyTokens holds that a request cannot keep a processor busy:
// the query of an authorization request, which anybody can send, has room for
// a hundred thousand tokens. To search for each among those before it takes
// thousands of times as long as to read one token as often.
func TestParseScopeManyTokens(t *testing.T) {
	const n = 100_000
	var different strings.Builder
	for i := range n {
		fmt.Fprintf(&different, "%05x ", i)
	}
	parse := func(text string, tokens int) time.Duration {
		started := time.Now()
		scope, err := oauth.ParseScope(text)
		if err != nil || len(scope) != tokens {
			t.Fatalf("got %d of %d tokens, %v", len(scope), tokens, err)
		}
		return time.Since(started)
	}
	same := parse(strings.Repeat("00000 ", n), 1)
	if took := parse(different.String(), n); took > 500*same {
		t.Errorf("%d different tokens took %v, the same one as often %v", n, took, same)
	}
}

func TestScopeSets(t *testing.T) {
	tests := []struct {
		name, s, other string
		covers, equal  bool
	}{
		{"empty and empty", "", "", true, true},
		{"any covers the empty", "read", "", true, false},
		{"empty covers none", "", "read", false, false},
		{"same", "read write", "read write", true, true},
		{"same in another order", "read write", "write read", true, true},
		{"wider", "read write", "write", true, false},
		{"narrower", "write", "read write", false, false},
		{"overlapping", "read write", "read admin", false, false},
		{"disjoint", "read", "write", false, false},
		{"part of a token is another token", "read:all", "read", false, false},
		{"case", "Read", "read", false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, other := scope(t, tt.s), scope(t, tt.other)
			if got := s.Covers(other); got != tt.covers {
				t.Errorf("(%s).Covers(%s) = %t", s, other, got)
			}
			if s.Equal(other) != tt.equal || other.Equal(s) != tt.equal {
				t.Errorf("(%s).Equal(%s) is not %t both ways", s, other, tt.equal)
			}
		})
	}
}

// TestScopeEqualOfRepeated holds that scopes which no parser has seen, such as
// those of a configuration file, are compared as the sets that they stand for.
func TestScopeEqualOfRepeated(t *testing.T) {
	repeated := oauth.Scope{"read", "read"}
	if repeated.Equal(oauth.Scope{"read", "write"}) || (oauth.Scope{"read", "write"}).Equal(repeated) {
		t.Error("{read, read} equals {read, write}")
	}
	if !repeated.Equal(oauth.Scope{"read"}) {
		t.Error("{read, read} does not equal {read}")
	}
}

func TestScopeString(t *testing.T) {
	for in, want := range map[string]string{"": "", "  a  b a ": "a b", "b a": "b a"} {
		if got := scope(t, in).String(); got != want {
			t.Errorf("scope %q prints as %q, want %q", in, got, want)
		}
	}
	var zero oauth.Scope
	if zero.String() != "" || !zero.Equal(scope(t, "")) {
		t.Error("the zero value is not the empty scope")
	}
}

func scope(t testing.TB, text string) oauth.Scope {
	t.Helper()
	scope, err := oauth.ParseScope(text)
	if err != nil {
		t.Fatal(err)
	}
	return scope
}
