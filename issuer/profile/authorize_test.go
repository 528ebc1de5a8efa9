package profile_test

import (
	"cmp"
	"net/http"
	"testing"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/issuer/profile"
	"github.com/evergrant/evergrant/oauth"
)

// everyProfile are the profiles, and "" for the standard.
var everyProfile = append(profile.Names(), "")

// transcriptOf is the file of a profile's answers.
func transcriptOf(kind, name string) string { return kind + "/" + cmp.Or(name, "standard") + ".txt" }

// TestAuthorizeTranscript is the transcript of the authorization endpoint: what
// is shown to the owner or told in JSON, what goes back to the client, and codes.
func TestAuthorizeTranscript(t *testing.T) {
	for _, name := range everyProfile {
		t.Run(cmp.Or(name, "standard"), func(t *testing.T) {
			t.Parallel()
			x := newTalk(t, issuer.Config{Profile: name})
			x.registerAll()
			x.shownErrors()
			x.redirectedErrors()
			if n := len(x.grants()); n != 0 {
				t.Errorf("%d grants came of errors", n)
			}
			x.codes()
			x.compare(transcriptOf("authorize", name))
		})
	}
}

func (x *talk) shownErrors() {
	path := x.profile.AuthorizePath
	x.section("no client")
	x.send(http.MethodGet, path, "")
	x.section("a client that there is not")
	x.ask("client_id", "nobody")
	x.section("a redirect URI that is not registered")
	x.ask("redirect_uri", "https://evil.example/callback")
	x.section("one that is longer")
	x.ask("redirect_uri", callback+"/deeper")
	x.section("one in another case")
	x.ask("redirect_uri", "https://APP.example/callback")
	x.section("one with a fragment")
	x.ask("redirect_uri", callback+"#top")
	x.section("one of a client that has none")
	x.ask("client_id", "none")
	x.section("none, and none is registered")
	x.ask("client_id", "none", "redirect_uri", "")
	x.section("none, and two are registered")
	x.ask("client_id", "two", "redirect_uri", "")
	x.section("a parameter that is there twice")
	x.send(http.MethodGet, path+"?client_id=web&client_id=two", "")
	x.section("another method")
	x.send(http.MethodPut, path+"?client_id=web", "")
	x.section("at the standard's path")
	x.send(http.MethodGet, issuer.AuthorizePath+"?client_id=nobody", "")
}

func (x *talk) redirectedErrors() {
	x.section("no response type")
	x.ask(append(withPKCE, "response_type", "")...)
	x.section("a response type that there is not")
	x.ask(append(withPKCE, "response_type", "magic")...)
	x.section("the implicit grant")
	x.ask("response_type", "token")
	x.section("a client that may not have codes")
	x.ask(append(withPKCE, "client_id", "machine")...)
	x.section("a response mode that there is not")
	x.ask(append(withPKCE, "response_mode", "fragment")...)
	if !x.profile.IgnoreScope {
		x.section("a scope that there is not")
		x.ask(append(withPKCE, "scope", "read admin")...)
		x.section("a scope that the client may not have")
		x.ask(append(withPKCE, "client_id", "reader", "scope", "read write")...)
		x.section("a scope that is none")
		x.ask(append(withPKCE, "scope", `re"ad`)...)
		x.section("an error and no state")
		x.ask(append(withPKCE, "scope", "admin", "state", "")...)
	}
	if x.profile.RequireState {
		x.section("no state")
		x.ask(append(withPKCE, "state", "")...)
	}
	x.section("no code_challenge of a public client")
	x.ask(asMobile()...)
	x.section("code_challenge_method=plain")
	x.ask("code_challenge", codeChallenge, "code_challenge_method", "plain")
	x.section("no code_challenge_method")
	x.ask("code_challenge", codeChallenge)
	x.section("a code_challenge that is no digest")
	x.ask("code_challenge", codeChallenge+"=", "code_challenge_method", "S256")
	x.section("the owner refuses")
	x.answer.Denied = true
	x.ask(withPKCE...)
	x.answer.Denied = false
	x.section("the owner is nobody: an error of ours, in our own form")
	x.answer = issuer.Answer{Subject: owner, Scope: []string{"unheard-of"}}
	x.ask(withPKCE...)
	x.answer = issuer.Answer{}
}

func (x *talk) codes() {
	x.section("a code")
	x.ask(append(withPKCE, "scope", "read")...)
	x.section("a code of a public client")
	x.ask(asMobile(withPKCE...)...)
	x.section("without PKCE")
	x.ask()
	if !x.profile.RequireState {
		x.section("without a state")
		x.ask(append(withPKCE, "state", "")...)
	}
	x.section("the state comes back as it was")
	x.ask(append(withPKCE, "state", "a b&c=d/é+%")...)
	x.section("a redirect URI with a query")
	x.ask(append(withPKCE, "client_id", "queried", "redirect_uri", callback+"?tenant=a%20b")...)
	x.section("no redirect URI, and one is registered")
	x.ask(append(withPKCE, "redirect_uri", "")...)
	x.section("the request in a form")
	x.send(http.MethodPost, x.profile.AuthorizePath, "response_type=code&client_id=web", formHeader)
	x.section("at the standard's path")
	x.askAt(issuer.AuthorizePath, withPKCE...)
}

// TestAuthorizePaths: a profile's own path is there for clients of that profile, and for
// all where it is the server's.
func TestAuthorizePaths(t *testing.T) {
	t.Parallel()
	paths := map[string]string{profile.NameFOS: "/oauth/v2/auth", profile.NameBshaffer: "/authorize", profile.NameEventix: "/tokens/authorize", "": issuer.AuthorizePath}
	for _, name := range everyProfile {
		x := newTalk(t, issuer.Config{Profile: name})
		for _, of := range profile.Names() {
			x.client("of-"+of, issuer.Client{GrantTypes: []string{oauth.GrantAuthorizationCode}, Profile: of})
		}
		x.client("of-server", issuer.Client{GrantTypes: []string{oauth.GrantAuthorizationCode}})
		for of, path := range paths {
			for _, client := range append(profile.Names(), "server", "nobody") {
				own := client
				if client == "server" {
					own = name
				}
				served := of == "" || of == name || of == own
				r := x.askAt(path, append(withPKCE, "client_id", "of-"+client)...)
				if got := r.status != http.StatusNotFound; got != served {
					t.Errorf("server %q, client of %q at %s: %d", name, client, path, r.status)
				}
				if served && client != "nobody" {
					wantDialect(t, own, r)
				}
				if r := x.send(http.MethodPut, path+"?client_id=of-"+client, ""); (r.status == http.StatusMethodNotAllowed) != served {
					t.Errorf("server %q, PUT of a client of %q to %s: %d", name, client, path, r.status)
				}
			}
			if r := x.send(http.MethodGet, path, ""); (r.status == http.StatusNotFound) != (of != "" && of != name) {
				t.Errorf("server %q, no client at %s: %d", name, path, r.status)
			}
			if r := x.send(http.MethodGet, path+"?client_id=%zz", ""); (r.status == http.StatusNotFound) != (of != "" && of != name) {
				t.Errorf("server %q, no query at %s: %d", name, path, r.status)
			}
		}
	}
}

// wantDialect checks that a redirect with a code is that of a profile.
func wantDialect(t *testing.T, name string, r reply) {
	t.Helper()
	location := r.header.Get("Location")
	want := map[string]string{
		profile.NameFOS: callback + "?state=xyz&code=egc_", profile.NameBshaffer: callback + "?code=egc_", profile.NameEventix: callback + "?code=egc_", "": callback + "?code=egc_",
	}[name]
	status := http.StatusFound
	if name == "" {
		status = http.StatusSeeOther
	}
	if len(location) < len(want) || location[:len(want)] != want || r.status != status || r.carried().Has("iss") != (name == "") {
		t.Errorf("profile %q: %d %s", name, r.status, location)
	}
}

// TestAuthorizeOptions: the legacy server's own configuration keys.
func TestAuthorizeOptions(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	for name, c := range map[string]struct {
		profile *issuer.Profile
		pairs   []string
		err     string // that goes back, or stands in JSON; "" for a code
	}{
		"fos, enforce_state":                        {profile.FOS(profile.FOSOptions{EnforceState: true}), []string{"state", ""}, "invalid_request"},
		"fos, enforce_state, with one":              {profile.FOS(profile.FOSOptions{EnforceState: true}), nil, ""},
		"fos, enforce_redirect":                     {profile.FOS(profile.FOSOptions{}), []string{"redirect_uri", ""}, "redirect_uri_mismatch"},
		"fos, no enforce_redirect":                  {profile.FOS(profile.FOSOptions{EnforceRedirect: &no}), []string{"redirect_uri", ""}, ""},
		"bshaffer, enforce_state":                   {profile.Bshaffer(profile.BshafferOptions{}), []string{"state", ""}, "invalid_request"},
		"bshaffer, no enforce_state":                {profile.Bshaffer(profile.BshafferOptions{EnforceState: &no}), []string{"state", ""}, ""},
		"bshaffer, enforce_redirect does nothing":   {profile.Bshaffer(profile.BshafferOptions{EnforceRedirect: true}), []string{"redirect_uri", ""}, ""},
		"bshaffer, enforce_pkce":                    {profile.Bshaffer(profile.BshafferOptions{EnforcePKCE: true}), nil, "missing_code_challenge"},
		"bshaffer, enforce_pkce, with a challenge":  {profile.Bshaffer(profile.BshafferOptions{EnforcePKCE: true}), withPKCE, ""},
		"bshaffer, require_exact_redirect_uri":      {profile.Bshaffer(profile.BshafferOptions{RequireExactRedirectURI: &yes}), []string{"redirect_uri", callback + "/x"}, "redirect_uri_mismatch"},
		"bshaffer, allow_implicit, but not in fact": {profile.Bshaffer(profile.BshafferOptions{AllowImplicit: true}), []string{"response_type", "token"}, "unsupported_response_type"},
		"bshaffer, no default scope":                {profile.Bshaffer(profile.BshafferOptions{RequireScope: true}), nil, "invalid_scope"},
	} {
		t.Run(name, func(t *testing.T) {
			x := newTalk(t, issuer.Config{Profile: "p", Profiles: map[string]*issuer.Profile{"p": c.profile}})
			x.registerAll()
			r := x.ask(c.pairs...)
			got := cmp.Or(r.get("error"), r.carried().Get("error"))
			if got != c.err || (got == "") != r.carried().Has("code") {
				t.Errorf("%d %s %s, want %q", r.status, r.header.Get("Location"), r.body, c.err)
			}
		})
	}
}

// TestAuthorizeScope: what a request that names no scope gets.
func TestAuthorizeScope(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		profile *issuer.Profile
		want    string
	}{
		"fos: none":            {profile.FOS(profile.FOSOptions{SupportedScopes: []string{"read", "write"}}), ""},
		"bshaffer: none":       {profile.Bshaffer(profile.BshafferOptions{}), ""},
		"bshaffer: defaults":   {profile.Bshaffer(profile.BshafferOptions{DefaultScope: []string{"write"}}), "write"},
		"eventix: it has none": {profile.Eventix(profile.EventixOptions{}), "read write"},
		"standard: all of it":  {&issuer.Profile{TokenPath: "/t", AuthorizePath: "/a"}, "read write"},
	} {
		t.Run(name, func(t *testing.T) {
			x := newTalk(t, issuer.Config{Profile: "p", Profiles: map[string]*issuer.Profile{"p": c.profile}})
			x.registerAll()
			x.ask(withPKCE...)
			if grants := x.grants(); len(grants) != 1 || grants[0].Scope.String() != c.want {
				t.Errorf("grants %+v, want the scope %q", grants, c.want)
			}
		})
	}
}
