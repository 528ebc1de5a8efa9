package oauth_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/oauth"
)

func params(t testing.TB, encoded string) oauth.Params {
	t.Helper()
	p, err := oauth.ParseParams(encoded)
	if err != nil {
		t.Fatalf("ParseParams(%q): %v", encoded, err)
	}
	return p
}

func TestParseParams(t *testing.T) {
	tests := []struct {
		name, encoded, param, want string
	}{
		{"no parameters", "", "code", ""},
		{"plain", "code=abc&state=x", "code", "abc"},
		{"plus is a space", "scope=read+write", "scope", "read write"},
		{"percent", "scope=read%20write%2Badmin", "scope", "read write+admin"},
		// The example of RFC 6749 appendix B.
		{"UTF-8", "v=+%25%26%2B%C2%A3%E2%82%AC", "v", " %&+£€"},
		{"name is decoded", "grant%5Ftype=password", "grant_type", "password"},
		{"equals sign in the value", "a=b=c", "a", "b=c"},
		{"empty value", "code=", "code", ""},
		{"no equals sign", "code", "code", ""},
		{"other case is another name", "Code=abc", "code", ""},
		{"not given", "code=abc", "state", ""},
		{"empty pieces", "&&code=abc&", "code", "abc"},
		{"repeatable, one", "resource=https://a.example", "resource", "https://a.example"},
		{"repeatable, first of two", "audience=a&audience=b", "audience", "a"},
		{"repeatable, first is empty", "resource=&resource=b", "resource", "b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := params(t, tt.encoded)
			if got := p.Get(tt.param); got != tt.want {
				t.Errorf("Get(%q) = %q, want %q", tt.param, got, tt.want)
			}
			if got := p.Has(tt.param); got != (tt.want != "") {
				t.Errorf("Has(%q) = %t", tt.param, got)
			}
		})
	}
}

func TestParseParamsRefuses(t *testing.T) {
	tests := []struct {
		name, encoded, reason string
	}{
		{"twice", "scope=a&scope=b", "The parameter scope is given more than once."},
		{"twice the same", "scope=a&scope=a", "The parameter scope is given more than once."},
		{"second is empty", "scope=a&scope=", "The parameter scope is given more than once."},
		{"both empty", "scope&scope", "The parameter scope is given more than once."},
		{"unknown name twice", "x=1&y=2&x=3", "The parameter x is given more than once."},
		{"names equal once decoded", "a_b=1&a%5Fb=2", "The parameter a_b is given more than once."},
		{"name with quotes and controls", "%22%0A%5C=1&%22%0A%5C=2", "The parameter ??? is given more than once."},
		{"NUL", "username=a%00b", "The parameter username is not UTF-8 or contains a NUL character."},
		{"NUL unescaped", "username=a\x00b", "The parameter username is not UTF-8 or contains a NUL character."},
		{"NUL in a repeatable one", "resource=a&resource=%00", "The parameter resource is not UTF-8 or contains a NUL character."},
		{"Latin-1", "username=J%FCrgen", "The parameter username is not UTF-8 or contains a NUL character."},
		{"half a character", "username=%E2%82", "The parameter username is not UTF-8 or contains a NUL character."},
		{"bad escape", "a=%zz", "The parameters are not valid application/x-www-form-urlencoded."},
		{"cut escape", "a=%2", "The parameters are not valid application/x-www-form-urlencoded."},
		{"bad escape in a name", "%g=1", "The parameters are not valid application/x-www-form-urlencoded."},
		{"semicolon", "a=1;b=2", "The parameters are not valid application/x-www-form-urlencoded."},
		{"more than any request has", strings.Repeat("x=&", 100_000), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := oauth.ParseParams(tt.encoded)
			refused, ok := errors.AsType[*oauth.ParamsError](err)
			if !ok {
				t.Fatalf("ParseParams = %v, %v; want a *ParamsError", p, err)
			}
			if tt.reason != "" && (refused.Reason != tt.reason || err.Error() != tt.reason) {
				t.Errorf("got %q, want %q", refused.Reason, tt.reason)
			}
			if refused.Reason != oauth.Legal(refused.Reason) {
				t.Errorf("%q is not fit for an error_description", refused.Reason)
			}
			if p.Has("a") || p.Has("scope") || p.Has("username") {
				t.Errorf("refused parameters are readable: %v", p)
			}
		})
	}
}

func TestParamsAll(t *testing.T) {
	tests := []struct {
		name, encoded string
		want          []string
	}{
		{"omitted", "audience=a", nil},
		{"empty", "resource=", nil},
		{"one", "resource=a", []string{"a"}},
		{"several in their order", "resource=b&audience=x&resource=a&resource=b", []string{"b", "a", "b"}},
		{"empty ones left out", "resource=&resource=a&resource=&resource=b&resource=", []string{"a", "b"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := params(t, tt.encoded)
			got := p.All("resource")
			if !slices.Equal(got, tt.want) {
				t.Errorf("All = %q, want %q", got, tt.want)
			}
			for i := range got {
				got[i] = "changed"
			}
			if !slices.Equal(p.All("resource"), tt.want) {
				t.Error("the result is not the caller's own")
			}
			if p.Has("resource") != (len(tt.want) > 0) {
				t.Errorf("Has = %t with values %q", p.Has("resource"), tt.want)
			}
		})
	}
}

func TestParamsZeroValue(t *testing.T) {
	var p oauth.Params
	if p.Get("a") != "" || p.Has("a") || len(p.All("resource")) != 0 {
		t.Error("the zero value has parameters")
	}
	if got := fmt.Sprint(p); got != "params[]" {
		t.Errorf("it prints as %q", got)
	}
}

func TestParamsPrintNamesOnly(t *testing.T) {
	const planted = "hunter2"
	p := params(t, "username=bshaffer&password="+planted+"&client_secret=x"+planted+"&resource="+planted+"&resource="+planted)
	for how, text := range printings(p) {
		if how != "slog JSON" && !strings.Contains(text, "params[client_secret password resource username]") {
			t.Errorf("%s prints %q, not the sorted names", how, text)
		}
	}
	for _, v := range []any{p, &p, hold(p), bury(p), struct{ p oauth.Params }{p}} {
		checkPrintings(t, v, planted, "bshaffer")
	}
	if encoded, err := json.Marshal(hold(p)); err != nil || strings.Contains(string(encoded), planted) {
		t.Errorf("as JSON: %s, %v", encoded, err)
	}
}

// TestParamsPrintOneLine holds that names, which anybody chooses, cannot forge
// lines of a log.
func TestParamsPrintOneLine(t *testing.T) {
	p := params(t, "a%0Alevel=ERROR&b%1B%5B31m=1")
	if got, want := fmt.Sprint(p), "params[a?level b?[31m]"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}
