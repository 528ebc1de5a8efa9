package issuer_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/issuer/profile"
	"github.com/evergrant/evergrant/oauth"
)

// profiled is a set-up whose server has a profile, with the implicit grant.
func profiled(name string) setup {
	unsafe := []issuer.Compatibility{issuer.UnsafeImplicit}
	return setup{config: func(c *issuer.Config) {
		c.Profile, c.Unsafe = name, unsafe
		c.Profiles = profile.All(profile.Options{Bshaffer: profile.BshafferOptions{AllowImplicit: true}, Unsafe: unsafe})
	}}
}

// sentInFragment is what a redirect carries in its fragment, or else in its query.
func sentInFragment(t testing.TB, r reply) url.Values {
	t.Helper()
	to, err := url.Parse(r.header.Get("Location"))
	if err != nil || r.status != http.StatusFound {
		t.Fatalf("no redirect: %d %s", r.status, r.body)
	}
	values, err := url.ParseQuery(to.RawQuery + "&" + to.EscapedFragment())
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// TestImplicitGrantThatFails: no token is told that its row is not known to stand
// behind, and asking again gives a good one.
func TestImplicitGrantThatFails(t *testing.T) {
	t.Parallel()
	for kind, failure := range failures {
		for _, done := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/done=%t", kind, done), func(t *testing.T) {
				e := newFaulty(t, profiled(profile.NameFOS))
				page := e.register(party{"page", ""}, issuer.Client{RedirectURIs: []string{callback}, GrantTypes: []string{oauth.GrantImplicit}})
				request := func() url.Values {
					return sentInFragment(t, e.authorizePage(formOf("response_type", "token", "client_id", page.id, "redirect_uri", callback, "state", "s", "scope", "read")))
				}
				var answer url.Values
				e.during(&fault{method: "CreateGrant", done: done, err: failure.err}, func() { answer = request() })
				if answer.Get("error") != failure.code || answer.Get("state") != "s" || answer.Has("access_token") {
					t.Errorf("answer %v", answer)
				}
				e.wantAlive("the access token", request().Get("access_token"))
			})
		}
	}
}

// TestProfilesOnAClosedDatabase: what cannot be looked at is an error of ours in
// our own form, which says to try again: no path is missing for it, and no code is
// told to be wrong.
func TestProfilesOnAClosedDatabase(t *testing.T) {
	e := newSite(t, profiled(profile.NameBshaffer))
	moved := e.register(party{"moved", ""}, issuer.Client{RedirectURIs: []string{callback}, Profile: profile.NameFOS})
	ask := formOf("response_type", "code", "client_id", moved.id, "redirect_uri", callback, "scope", "read", "state", "s", "code_challenge", challenge, "code_challenge_method", "S256")
	code := sentInFragment(t, e.authorizePage(ask)).Get("code")
	e.clock.advance(2 * time.Second) // past what is cached of clients
	redeem := func() reply {
		return e.post(issuer.TokenPath, moved, "grant_type", "authorization_code", "code", code, "redirect_uri", callback+"/wrong", "code_verifier", verifier)
	}
	if r := redeem(); r.failure() != "redirect_uri_mismatch" { // also has the client cached
		t.Fatalf("%d %s", r.status, r.body)
	}
	e.checkNothingLeaked()
	e.must(e.db.Close())
	if r := redeem(); r.status != 503 || r.failure() != oauth.TemporarilyUnavailable || r.header.Get("Retry-After") == "" {
		t.Errorf("%d %v %s", r.status, r.header, r.body)
	}
	e.clock.advance(2 * time.Second)
	for _, path := range []string{issuer.AuthorizePath, "/oauth/v2/auth", "/authorize"} {
		r := e.get(path + "?" + ask.Encode())
		if r.status != 503 || r.header.Get("Location") != "" || strings.HasPrefix(r.body, "{") {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	for _, path := range []string{"/oauth/v2/auth", "/tokens/authorize"} { // which needs no database
		if r := e.get(path); r.status != 404 {
			t.Errorf("%s without a client: %d", path, r.status)
		}
	}
	e.open()
}

// TestWrongCodesWhoseNoteFails: a refusal stands without its event.
func TestWrongCodesWhoseNoteFails(t *testing.T) {
	for _, done := range []bool{false, true} {
		e := newFaulty(t, setup{})
		code := e.code(app)
		e.during(&fault{method: "Record", done: done, err: failures["unknown"].err}, func() {
			e.redeem(app, code, "redirect_uri", callback+"/wrong").wantError(t, 400, oauth.InvalidGrant)
		})
		e.redeem(app, code).tokens(t)
	}
}

// TestCodesOutliveAChangeOfProfile: a code is good in the profile that its client has
// when it comes, whichever it had before.
func TestCodesOutliveAChangeOfProfile(t *testing.T) {
	e := newSite(t, profiled(""))
	moving := func(name string) party {
		return e.register(party{"moving", app.secret}, issuer.Client{
			RedirectURIs: []string{callback}, GrantTypes: []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken}, Profile: name,
		})
	}
	names := append(profile.Names(), "")
	for _, before := range names {
		for _, after := range names {
			as := moving(before)
			code := sentOf(t, e.authorizePage(e.authorizationRequest(as, "scope", "read"))).Get("code")
			moving(after)
			r := e.redeem(as, code)
			if r.status != http.StatusOK {
				t.Errorf("from %q to %q: %d %s", before, after, r.status, r.body)
			}
		}
	}
}

// sentOf is the query of a redirect of any profile.
func sentOf(t testing.TB, r reply) url.Values {
	t.Helper()
	to, err := url.Parse(r.header.Get("Location"))
	if err != nil || to.Host == "" {
		t.Fatalf("no redirect: %d %s", r.status, r.body)
	}
	return to.Query()
}
