package providertest

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
)

// catalogue is the built-in one, read once.
var catalogue = sync.OnceValue(provider.Builtin)

func definition(t *testing.T, name string) provider.Definition {
	t.Helper()
	d, ok := catalogue().Definition(name)
	if !ok {
		t.Fatalf("%s is not in the catalogue", name)
	}
	return d
}

// transcript reads the transcript of a definition.
func transcript(t *testing.T, name string) Transcript {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "transcripts", name+".yaml"))
	if err != nil {
		t.Fatalf("there is no transcript of what %s documents; write one: %v", name, err)
	}
	script, err := ReadTranscript(data)
	if err != nil {
		t.Fatalf("%s.yaml: %v", name, err)
	}
	return script
}

// TestCatalogueConforms holds every definition against what its provider
// documents.
func TestCatalogueConforms(t *testing.T) {
	for _, name := range catalogue().Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, text := range Conform(t.Context(), definition(t, name), transcript(t, name)) {
				t.Error(text)
			}
		})
	}
}

func TestEveryTranscriptHasADefinition(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*")
	if err != nil || len(files) < 60 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		if _, ok := catalogue().Definition(strings.TrimSuffix(filepath.Base(file), ".yaml")); !ok {
			t.Errorf("%s is of no definition", file)
		}
	}
}

// mistake changes a definition into one that the provider would not understand,
// or that would not understand the provider. It is false where it cannot.
type mistake func(d *provider.Definition) bool

// more is a parameter list with one more.
func more(params map[string]*string, name string, value *string) map[string]*string {
	out := maps.Clone(params)
	if out == nil {
		out = map[string]*string{}
	}
	out[name] = value
	return out
}

func mistakes() map[string]mistake {
	text := func(field func(d *provider.Definition) *string, change func(string) string) mistake {
		return func(d *provider.Definition) bool {
			at := field(d)
			was := *at
			if was != "" {
				*at = change(was)
			}
			return was != ""
		}
	}
	longer := func(s string) string { return strings.TrimSuffix(s, "/") + "/x" }
	return map[string]mistake{
		"authorize_url":         text(func(d *provider.Definition) *string { return &d.AuthorizeURL }, longer),
		"token_url":             text(func(d *provider.Definition) *string { return &d.TokenURL }, longer),
		"revoke_url":            text(func(d *provider.Definition) *string { return &d.RevokeURL }, longer),
		"no revoke_url":         text(func(d *provider.Definition) *string { return &d.RevokeURL }, func(string) string { return "" }),
		"refresh.url":           text(func(d *provider.Definition) *string { return &d.Refresh.URL }, longer),
		"api.base_url":          text(func(d *provider.Definition) *string { return &d.API.BaseURL }, longer),
		"api.check":             text(func(d *provider.Definition) *string { return &d.API.Check }, longer),
		"response.error_code":   text(func(d *provider.Definition) *string { return &d.Response.ErrorCode }, func(string) string { return "nothing" }),
		"response.envelope":     text(func(d *provider.Definition) *string { return &d.Response.Envelope }, func(string) string { return "nothing" }),
		"response.access_token": func(d *provider.Definition) bool { d.Response.AccessToken = "nothing"; return true },
		"response.refresh_token": func(d *provider.Definition) bool {
			d.Response.RefreshToken = "nothing"
			return rotates(d.RefreshToken.Rotation)
		},
		"response.expires": func(d *provider.Definition) bool {
			d.Response.Expires, d.AccessToken.Lifetime = []provider.Expiry{{Path: "nothing"}}, 7
			return true
		},
		"token.client_auth": func(d *provider.Definition) bool {
			if d.Token.ClientAuth == provider.AuthBody {
				d.Token.ClientAuth = provider.AuthBasicRaw
			} else {
				d.Token.ClientAuth = provider.AuthBody
			}
			return d.Issuer == ""
		},
		"token.body": func(d *provider.Definition) bool {
			d.Token.Body = provider.BodyMultipart
			return d.Token.Method == "" && d.Exchange.Body == ""
		},
		"a parameter": func(d *provider.Definition) bool {
			d.Token.Params = more(d.Token.Params, "surplus", new("1"))
			return true
		},
		"no grant parameter": func(d *provider.Definition) bool {
			d.Token.Params = more(d.Token.Params, "grant_type", nil)
			return len(d.Remint.Steps) > 0 || d.Refresh.Params == nil
		},
		"a redirect URI": func(d *provider.Definition) bool {
			d.Exchange.Params = more(d.Exchange.Params, "redirect_uri", new("https://elsewhere.example"))
			return d.AuthorizeURL != ""
		},
		"pkce": func(d *provider.Definition) bool {
			d.Authorize.PKCE = map[string]string{"none": "S256"}[d.Authorize.PKCE]
			if d.Authorize.PKCE == "" {
				d.Authorize.PKCE = "none"
			}
			return d.AuthorizeURL != ""
		},
		"scope_separator": func(d *provider.Definition) bool { d.Authorize.ScopeSeparator = ";"; return d.AuthorizeURL != "" },
		"api.authorization": func(d *provider.Definition) bool {
			d.API.Authorization = "Token {access_token}"
			return d.API.BaseURL != ""
		},
		"one step less": func(d *provider.Definition) bool {
			if len(d.Remint.Steps) > 0 {
				d.Remint.Steps = d.Remint.Steps[1:]
			}
			return len(d.Remint.Steps) > 0 && d.Remint.Steps[0].Params["refresh_token"] == nil && d.Name != "tink" && !strings.HasPrefix(d.Name, "highlevel")
		},
	}
}

// TestConformFindsMistakes plants mistakes in definitions, one at a time.
func TestConformFindsMistakes(t *testing.T) {
	for _, name := range []string{"hubspot", "xero", "withings", "facebook", "fitbit", "clover", "zoho", "tiktok", "square", "github", "figma", "tink", "flexiti", "gong"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script, planted := transcript(t, name), 0
			for what, plant := range mistakes() {
				d := definition(t, name)
				if !plant(&d) {
					continue
				}
				planted++
				if found := Conform(t.Context(), d, script); len(found) == 0 {
					t.Errorf("a wrong %s is not found", what)
				}
			}
			if planted < 7 {
				t.Errorf("only %d mistakes could be planted", planted)
			}
		})
	}
}

// TestConformFindsWrongRules changes each error rule, adds one that nothing
// needs, and one that takes a firewall for the provider.
func TestConformFindsWrongRules(t *testing.T) {
	for _, name := range []string{"slack", "withings", "facebook", "microsoft", "salesforce"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script := transcript(t, name)
			wrong := func(what string, change func([]provider.ErrorRule) []provider.ErrorRule) {
				t.Helper()
				d := definition(t, name)
				d.Errors = change(slices.Clone(d.Errors))
				if found := Conform(t.Context(), d, script); len(found) == 0 {
					t.Errorf("%s is not found", what)
				}
			}
			for i := range definition(t, name).Errors {
				wrong("the wrong class of a rule", func(rules []provider.ErrorRule) []provider.ErrorRule {
					rules[i].Class = map[bool]provider.Class{true: provider.Transient, false: provider.Revoked}[rules[i].Class == provider.Revoked]
					return rules
				})
				wrong("a rule that is missing", func(rules []provider.ErrorRule) []provider.ErrorRule { return slices.Delete(rules, i, i+1) })
			}
			wrong("a rule without need", func(rules []provider.ErrorRule) []provider.ErrorRule {
				return append(rules, class(provider.Revoked, "nothing", "never"))
			})
			wrong("a rule for all of a status", func(rules []provider.ErrorRule) []provider.ErrorRule {
				return append(rules, provider.ErrorRule{Status: 403, Class: provider.Revoked})
			})
		})
	}
}

// TestConformFindsWrongTranscripts changes the transcript instead.
func TestConformFindsWrongTranscripts(t *testing.T) {
	for what, change := range map[string]func(*Transcript){
		"no authorize":        func(s *Transcript) { s.Authorize = "" },
		"another authorize":   func(s *Transcript) { s.Authorize = strings.ReplaceAll(s.Authorize, "$STATE", "$CODE") },
		"an unreadable query": func(s *Transcript) { s.Authorize += "&%zz" },
		"another param told":  func(s *Transcript) { s.Told = map[string]string{"accounts_server": "https://accounts.zoho.in"} },
		"a host of a stranger": func(s *Transcript) {
			s.Redirect = map[string]string{"accounts-server": "https://accounts.zoho.eu.evil.example"}
		},
		"a param that is none": func(s *Transcript) { s.With = map[string]string{"shop": "x"} },
		"no exchange":          func(s *Transcript) { s.Exchange.Request = "POST https://accounts.zoho.eu/oauth/v2/token" },
		"a header": func(s *Transcript) {
			s.Refresh.Request = strings.Replace(s.Refresh.Request, "\n\n", "\nX-One: 1\n\n", 1)
		},
		"an unreadable form":    func(s *Transcript) { s.Refresh.Request += "&%zz" },
		"a body in JSON":        func(s *Transcript) { s.Refresh.Request = "POST https://accounts.zoho.eu/oauth/v2/token\n\n{}" },
		"no refresh":            func(s *Transcript) { s.Refresh = nil },
		"no status":             func(s *Transcript) { s.Refresh.Answer = "{}" },
		"an impossible status":  func(s *Transcript) { s.Refresh.Answer = "99 text/plain" },
		"an error as answer":    func(s *Transcript) { s.Refresh.Answer = "400 application/json\n\n{}" },
		"another lifetime":      func(s *Transcript) { s.Refresh.Lives = 7 },
		"a refresh lifetime":    func(s *Transcript) { s.Refresh.RefreshLives = 7 },
		"another scope":         func(s *Transcript) { s.Exchange.Scope = []string{"first"} },
		"another param":         func(s *Transcript) { s.Exchange.Params = nil },
		"metadata":              func(s *Transcript) { s.Exchange.Kept = map[string]any{"user": "1"} },
		"a further token":       func(s *Transcript) { s.Exchange.Extra = map[string]string{"user": "1"} },
		"a re-mint":             func(s *Transcript) { s.Remint = []Turn{*s.Refresh} },
		"client_credentials":    func(s *Transcript) { s.ClientCredentials = s.Refresh },
		"no revoke":             func(s *Transcript) { s.Revoke = "" },
		"another revoke":        func(s *Transcript) { s.Revoke = strings.ReplaceAll(s.Revoke, "$REFRESH", "$ACCESS") },
		"no api":                func(s *Transcript) { s.API = "" },
		"another api":           func(s *Transcript) { s.API = strings.ReplaceAll(s.API, "zohoapis.eu", "zohoapis.in") },
		"another authorization": func(s *Transcript) { s.API = strings.ReplaceAll(s.API, "$ACCESS", "$REFRESH") },
		"another class":         func(s *Transcript) { s.Errors[0].Class = provider.Revoked },
		"another wait":          func(s *Transcript) { s.Errors[0].Wait = oauth.None },
		"no errors":             func(s *Transcript) { s.Errors = nil },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			script := transcript(t, "zoho")
			change(&script)
			if found := Conform(t.Context(), definition(t, "zoho"), script); len(found) == 0 {
				t.Error("it is not found")
			}
		})
	}
}

func TestReadTranscript(t *testing.T) {
	for text, want := range map[string]string{
		"source: https://example.com":                                         "",
		"authorize: GET https://example.com":                                  "there is no source",
		"source: https://example.com\nexchanges: {}":                          "unknown field",
		"source: https://example.com\nexchange: {lives: soon}":                "not a duration",
		"source: https://example.com\nerrors: [{status: 99, class: revoked}]": "no HTTP status",
		"{": "",
	} {
		_, err := ReadTranscript([]byte(text))
		if ok := err == nil; ok != (text == "source: https://example.com") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzReadTranscript(f *testing.F) {
	files, err := filepath.Glob("testdata/transcripts/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		script, err := ReadTranscript(data)
		if err != nil {
			return
		}
		said, got := words{"ID": "client", "A": "token"}, heard{method: "POST", url: "https://example.com/%zz", header: http.Header{"Content-Type": {"application/json"}}, body: data}
		for _, turn := range append(script.Remint, Turn{Request: script.API}, Turn{Request: script.Authorize, Answer: script.Metadata}) {
			for _, text := range said.differences(got, turn.Request) {
				if text == "" {
					t.Error("a difference without words")
				}
			}
			if a, err := said.saying(turn.Answer); err == nil && (a.status < 200 || a.status > 599) {
				t.Errorf("an answer with status %d", a.status)
			}
		}
	})
}
