package provider_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"path"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
)

// dialects are definitions that read answers in all ways there are.
func dialects(t testing.TB) []*provider.Provider {
	nested := plain("https://acme.example")
	nested.Response = provider.Response{
		Envelope: "data|body.0", AccessToken: "token|access_token", Scope: "scopes|scope", ErrorCode: "err.code|error", ErrorDetail: "err",
		Expires:     []provider.Expiry{{Path: "expires_in", Form: "milliseconds"}, {Path: "x", Form: "auto"}, {Path: "y", Form: "days_clock"}},
		RefreshEnds: []provider.Expiry{{Path: "expires_in", Form: "unix"}, {Path: "x", Form: "rfc3339"}, {Path: "y", Form: "http_date"}, {Path: "z", Form: "unix_ms"}},
		Keep:        map[string]string{"all": "data", "x": "x", "y": "y.0"}, Extra: map[string]string{"bot": "bot", "x": "x"},
		Success: &provider.Match{Path: "ok", Is: []string{"true", "0"}},
	}
	nested.Errors = []provider.ErrorRule{{Status: 400, Match: provider.Match{Path: "error", Has: "gone"}, Class: provider.Revoked}}
	nested.Params = map[string]provider.Param{"base": {From: "answer:base|data.base", Pattern: "https://[a-z]+[.]example"}}
	nested.API.BaseURL = "{params.base}"
	nested.AccessToken.ZeroIsForever = true
	fixed := plain("https://acme.example")
	fixed.RefreshToken.Rotation, fixed.RefreshToken.DiesWithAccessToken = provider.RotationFixed, true
	fixed.AccessToken.Lifetime = oauth.Lifetime(time.Hour)
	prolonging := plain("https://acme.example")
	prolongs(&prolonging)
	return []*provider.Provider{register(t, plain("https://acme.example")), register(t, nested), register(t, fixed), register(t, prolonging)}
}

// FuzzRead holds that any bytes are read, to tokens that can be stored or to an
// error that can be shown, and always to the same.
func FuzzRead(f *testing.F) {
	for _, body := range []string{
		success, `{"ok":true,"data":{"token":"a","refresh_token":"r","expires_in":"3599.5","scopes":["a"],"x":1893553445000},"bot":{"access_token":"b"}}`,
		`{"data":"{\"token\":\"a\"}","ok":0}`, `access_token=a&refresh_token=r`, `"{\"access_token\":\"a\"}"`, "\uFEFF{}", zip(success), `<html>`, `OK`, ``, `{"error":{"code":{},"message":[]}}`,
		`{"access_token":1e400,"expires_in":-1e999,"y":"1:2:3","x":"2030-01-02 03:04:05","base":"https://x.example"}`, `[[[[`, `{"a":{"a":{"a":`, "\x1f\x8b\x08", `{"body":[{"access_token":"\ud800"}],"ok":true}`,
	} {
		f.Add([]byte(body), 200, false, "17", "Wed, 02 Jan 2030 03:04:05 GMT")
		f.Add([]byte(body), 400, true, "Wed, 02 Jan 2030 03:04:05 GMT", "")
	}
	providers := dialects(f)
	f.Fuzz(func(t *testing.T, body []byte, status int, cut bool, retryAfter, date string) {
		for i, p := range providers {
			answer := provider.Answer{Status: status, Body: body, Cut: cut, RetryAfter: retryAfter, Date: date, SentAt: sentAt, Kind: provider.Refresh, Sent: []string{"old-refresh"}}
			tokens, err := p.Read(answer)
			if again, errAgain := p.Read(answer); (err == nil) != (errAgain == nil) || err == nil && !reflect.DeepEqual(tokens, again) {
				t.Fatalf("%d: %v, %v, then %v, %v", i, tokens, err, again, errAgain)
			}
			if err != nil {
				checkShown(t, failure(t, err))
				continue
			}
			prolonged := p.Definition().Response.Prolongs && !tokens.ExpiresAt.IsZero()
			if status/100 != 2 || tokens.AccessToken.Empty() && !prolonged {
				t.Fatalf("%d: success of %d: %+v", i, status, tokens)
			}
			encoded, err := json.Marshal(tokens)
			if err != nil || len(encoded) > 500_000 {
				t.Fatalf("%d: %d bytes, %v", i, len(encoded), err)
			}
			if base := tokens.Params["base"]; base != "" && !regexp.MustCompile(`\Ahttps://[a-z]+[.]example\z`).MatchString(base) {
				t.Fatalf("base %q", base)
			}
			if strings.ContainsFunc(tokens.TokenType, func(c rune) bool { return c <= ' ' || c > '~' }) {
				t.Fatalf("token type %q", tokens.TokenType)
			}
			if _, err := oauth.ParseScope(tokens.Scope.String()); err != nil {
				t.Fatalf("scope %q", tokens.Scope)
			}
		}
	})
}

func checkShown(t *testing.T, e *provider.Error) {
	t.Helper()
	if e.Class == "" || e.RetryAfter < 0 || e.RetryAfter > 24*time.Hour || e.Outcome == provider.NotSent {
		t.Fatalf("%+v", e)
	}
	for _, text := range []string{e.Code, e.Detail} {
		if utf8.RuneCountInString(text) > 200 || strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) || strings.Contains(text, "old-refresh") {
			t.Fatalf("%q", text)
		}
	}
}

// FuzzRedirected holds that any redirect is taken or refused, and that what is
// taken is what may be.
func FuzzRedirected(f *testing.F) {
	for _, query := range []string{"", "code=c&state=s", "accounts-server=https%3A%2F%2Faccounts.zoho.eu&realmId=1", "iss=https://acme.example", "iss=&iss=", "realmId=%ff%00"} {
		f.Add(query)
	}
	d := plain("https://acme.example")
	d.TokenURL, d.Issuer = "{params.accounts}/token", "https://acme.example"
	d.Params = map[string]provider.Param{"accounts": {From: "redirect:accounts-server", Pattern: `https://accounts\.zoho\.(com|eu)`, Default: "https://accounts.zoho.com"}}
	d.Authorize.Keep = map[string]string{"realm": "realmId", "other": "a"}
	p := register(f, d)
	f.Fuzz(func(t *testing.T, encoded string) {
		query, _ := url.ParseQuery(encoded)
		params, kept, err := p.Redirected(query)
		if err != nil {
			return
		}
		if _, err := p.CheckParams(params); err != nil {
			t.Fatal(err)
		}
		if iss, given := query["iss"]; given && (len(iss) != 1 || iss[0] != "https://acme.example") {
			t.Fatalf("issuer %q", iss)
		}
		if document, err := json.Marshal(kept); err != nil || len(document) > 64<<10 {
			t.Fatalf("%d bytes, %v", len(document), err)
		}
	})
}

// FuzzAPIRequest holds that no path leads out of the provider's API, also not
// for a server that decodes it twice or takes a backslash for a slash.
func FuzzAPIRequest(f *testing.F) {
	for _, p := range []string{"", "/", "/users/me?x=1", "/../x", "/%2e%2e/x", "//x", "@x", "?", "/a%2Fb", "/%", "#"} {
		f.Add(p, "a=b")
	}
	p := register(f, withAPI("https://api.acme.example/v2"))
	f.Fuzz(func(t *testing.T, given, query string) {
		r := &http.Request{URL: &url.URL{RawQuery: query}}
		if err := p.APIRequest(r, given, refresh); err != nil {
			checkUnsent(t, err)
			return
		}
		again, err := url.Parse(r.URL.String())
		if err != nil {
			return // net/http refuses it as well
		}
		clean := path.Clean(strings.ReplaceAll(again.Path, `\`, "/"))
		if again.Scheme != "https" || again.Host != "api.acme.example" || again.User != nil || clean != "/v2" && !strings.HasPrefix(clean, "/v2/") {
			t.Fatalf("%q: %s", given, r.URL)
		}
	})
}

func checkUnsent(t *testing.T, err error) {
	t.Helper()
	if e := failure(t, err); e.Outcome != provider.NotSent || e.Class != provider.BadDefinition {
		t.Fatal(e)
	}
}
