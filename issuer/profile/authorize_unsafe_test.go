package profile_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/issuer/profile"
	"github.com/evergrant/evergrant/oauth"
)

// permitted is a configuration in which a profile has all that is not safe.
func permitted(name string) issuer.Config {
	unsafe := []issuer.Compatibility{issuer.UnsafeImplicit, issuer.UnsafeRedirectPrefix, issuer.UnsafePublicWithoutPKCE}
	inexact := false
	return issuer.Config{Profile: name, Unsafe: unsafe, Profiles: profile.All(profile.Options{
		Bshaffer: profile.BshafferOptions{AllowImplicit: true, RequireExactRedirectURI: &inexact}, Unsafe: unsafe,
	})}
}

// TestAuthorizeUnsafeTranscript is the transcript of what is had only where
// unsafe_compatibility names it.
func TestAuthorizeUnsafeTranscript(t *testing.T) {
	for _, name := range []string{profile.NameFOS, profile.NameBshaffer} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newTalk(t, permitted(name))
			x.registerAll()
			x.client("page", issuer.Client{GrantTypes: []string{oauth.GrantImplicit, oauth.GrantRefreshToken}})
			implicit := []string{"response_type", "token", "client_id", "page"}

			x.section("implicit: the access token")
			x.ask(append(implicit, "scope", "read write")...)
			x.section("implicit: no scope")
			x.ask(implicit...)
			x.section("implicit: no state")
			x.ask(append(implicit, "state", "")...)
			x.section("implicit: a redirect URI with a query")
			x.client(queriedClient, issuer.Client{GrantTypes: []string{oauth.GrantImplicit}, RedirectURIs: []string{callback + "?tenant=a%20b"}})
			x.ask("response_type", "token", "client_id", "queried", "redirect_uri", callback+"?tenant=a%20b")
			x.section("implicit: a client that may not")
			x.ask("response_type", "token")
			x.section("implicit: a client that may do nothing else asks for a code")
			x.ask("client_id", "page")
			x.section("implicit: a scope that there is not")
			x.ask(append(implicit, "scope", "admin")...)
			x.section("implicit: the owner refuses")
			x.answer.Denied = true
			x.ask(implicit...)
			x.answer.Denied = false
			x.section("implicit: an error of ours")
			x.answer = issuer.Answer{Subject: owner, Scope: []string{"unheard-of"}}
			x.ask(implicit...)
			x.answer = issuer.Answer{}

			x.section("a redirect URI that is longer")
			x.ask("redirect_uri", callback+"/deeper?x=1")
			x.section("one in another case")
			x.ask("redirect_uri", "https://app.example/CALLBACK")
			x.section("one that climbs")
			x.ask("redirect_uri", callback+"/../evil")
			x.section("one that climbs in disguise")
			x.ask("redirect_uri", callback+"/%2e%2e/evil")
			x.section("one of another host")
			x.ask("redirect_uri", "https://app.example.evil.example/callback")
			x.section("one of another port")
			x.ask("redirect_uri", "https://app.example:8443/callback")
			x.section("one of another scheme")
			x.ask("redirect_uri", "http://app.example/callback")
			x.section("one with a fragment")
			x.ask("redirect_uri", callback+"/deeper#top")

			x.section("a public client without PKCE")
			x.ask(asMobile()...)
			x.section("a challenge that is sent holds")
			code := x.codeOf(asMobile(withPKCE...)...)
			x.redeemWith(mobileClient, code, "redirect_uri", mobileCallback)
			x.redeemWith(mobileClient, code, "redirect_uri", mobileCallback, "code_verifier", verifier)
			x.compare(transcriptOf("authorize", name+"_unsafe"))

			granted := map[string]int64{profile.NameFOS: 3, profile.NameBshaffer: 2}[name] // which needs a state
			x.wantHabits("page", map[issuer.Habit]int64{issuer.HabitImplicit: granted})
			x.wantHabits("web", map[issuer.Habit]int64{issuer.HabitRedirectPrefix: 2, issuer.HabitNoPKCE: 2})
			x.wantHabits("mobile", map[issuer.Habit]int64{issuer.HabitNoPKCE: 1})
		})
	}
}

// TestAuthorizeImplicitGrant: the row of an implicit grant lives as long as its
// access token, which is good, and there is no refresh token for it.
func TestAuthorizeImplicitGrant(t *testing.T) {
	t.Parallel()
	for _, name := range []string{profile.NameFOS, profile.NameBshaffer} {
		x := newTalk(t, permitted(name))
		x.client("page", issuer.Client{GrantTypes: []string{oauth.GrantImplicit, oauth.GrantRefreshToken, oauth.GrantAuthorizationCode}})
		for _, format := range []issuer.TokenFormat{issuer.FormatOpaque, issuer.FormatJWT} {
			x.client("page", issuer.Client{GrantTypes: []string{oauth.GrantImplicit, oauth.GrantRefreshToken}, Policy: issuer.Policy{Format: format}})
			r := x.ask("response_type", "token", "client_id", "page", "scope", "read")
			location, given := r.header.Get("Location"), r.carried()
			if at := strings.Index(location, "#"); at < 0 || strings.Contains(location[:at], "access_token") || given.Has("refresh_token") || given.Has("code") || strings.Contains(r.body, "ega_") {
				t.Errorf("%s: %d %s %s", name, r.status, location, r.body)
			}
			seen, client, err := x.server.Inspect(x.ctx(), given.Get("access_token"))
			if err != nil || !seen.Active || seen.Subject != owner || seen.Scope != "read" || client.ID != "page" {
				t.Errorf("%s: the access token is %+v, %v", name, seen, err)
			}
		}
		for _, grant := range x.grants() {
			if grant.Generation != 1 || !grant.ExpiresAt.Equal(grant.AccessExpiresAt) || grant.AccessExpiresAt.Sub(x.now()).Seconds() != 3600 {
				t.Errorf("%s: grant %+v", name, grant)
			}
		}
		created := x.events(issuer.EventGrantCreated)
		if len(created) != 2 || created[0].Actor != "user:"+owner || created[0].Detail != "implicit grant, scope read" {
			t.Errorf("%s: events %+v", name, created)
		}
		x.later(3600 + 61)
		purged, err := x.admin.Purge(x.ctx())
		x.must(err)
		if purged.Grants != 2 {
			t.Errorf("%s: %d rows were purged, want 2", name, purged.Grants)
		}
	}
}

// TestAuthorizeImplicitIsAskedFor: without unsafe_compatibility there is none,
// whatever the client is registered for; and none in the standard.
func TestAuthorizeImplicitIsAskedFor(t *testing.T) {
	t.Parallel()
	for _, name := range everyProfile {
		x := newTalk(t, issuer.Config{Profile: name})
		x.client("page", issuer.Client{GrantTypes: []string{oauth.GrantImplicit}})
		r := x.ask("response_type", "token", "client_id", "page")
		if r.carried().Get("error") != oauth.UnsupportedResponseType || len(x.grants()) != 0 {
			t.Errorf("profile %q: %s", name, r.header.Get("Location"))
		}
		x.wantHabits("page", nil)
	}
}

// TestAuthorizeImplicitMode: the only response mode of the implicit grant is the
// fragment.
func TestAuthorizeImplicitMode(t *testing.T) {
	t.Parallel()
	x := newTalk(t, permitted(profile.NameFOS))
	x.client("page", issuer.Client{GrantTypes: []string{oauth.GrantImplicit}})
	for mode, good := range map[string]bool{"fragment": true, "query": false, "form_post": false} {
		r := x.ask("response_type", "token", "client_id", "page", "response_mode", mode)
		if got := r.carried(); got.Has("access_token") != good || got.Get("error") == "" != good {
			t.Errorf("%s: %s", mode, r.header.Get("Location"))
		}
	}
}

// TestAuthorizePKCEPolicy: who must send a challenge, and that one that is sent
// holds in any case.
func TestAuthorizePKCEPolicy(t *testing.T) {
	t.Parallel()
	x := newTalk(t, issuer.Config{Unsafe: []issuer.Compatibility{issuer.UnsafePublicWithoutPKCE}, Policy: issuer.Policy{Format: issuer.FormatOpaque}})
	code := []string{oauth.GrantAuthorizationCode}
	for policy, c := range map[issuer.PKCEPolicy]struct{ confidential, public bool }{
		"":                       {true, true},
		issuer.PKCEAlways:        {true, true},
		issuer.PKCEPublicClients: {false, true},
		issuer.PKCENever:         {false, false},
	} {
		confidential, public := "c-"+string(policy)+":egs_"+strings.Repeat("c", 43), "p-"+string(policy)
		x.client(confidential, issuer.Client{GrantTypes: code, Policy: issuer.Policy{PKCE: policy}})
		x.client(public, issuer.Client{GrantTypes: code, Policy: issuer.Policy{PKCE: policy}})
		for as, required := range map[string]bool{confidential: c.confidential, public: c.public} {
			id, _, _ := strings.Cut(as, ":")
			r := x.ask("client_id", id)
			if refused := r.carried().Get("error") == oauth.InvalidRequest; refused != required || refused == r.carried().Has("code") {
				t.Errorf("%s: %s", id, r.header.Get("Location"))
			}
			if !required {
				plain := r.carried().Get("code")
				x.redeemWith(as, plain, "code_verifier", verifier).want(http.StatusBadRequest)
				x.redeemWith(as, plain).want(http.StatusOK)
				x.wantHabits(id, map[issuer.Habit]int64{issuer.HabitNoPKCE: 1})
			} else {
				x.wantHabits(id, nil)
			}
			for _, wrong := range [][]string{
				{"code_challenge", codeChallenge}, {"code_challenge", codeChallenge, "code_challenge_method", "plain"},
				{"code_challenge", verifier[:42], "code_challenge_method", "S256"},
			} {
				if r := x.ask(append(wrong, "client_id", id)...); r.carried().Get("error") != oauth.InvalidRequest {
					t.Errorf("%s with %v: %s", id, wrong, r.header.Get("Location"))
				}
			}
			proven := x.ask(append(withPKCE, "client_id", id)...).carried().Get("code")
			x.redeemWith(as, proven).want(http.StatusBadRequest)
			x.redeemWith(as, proven, "code_verifier", strings.ToUpper(verifier)).want(http.StatusBadRequest)
			x.redeemWith(as, proven, "code_verifier", verifier).want(http.StatusOK)
		}
	}
}

// TestAuthorizeRedirectMatching: prefixes match by policy alone, and each such
// request is counted.
func TestAuthorizeRedirectMatching(t *testing.T) {
	t.Parallel()
	x := newTalk(t, issuer.Config{Unsafe: []issuer.Compatibility{issuer.UnsafeRedirectPrefix}, Policy: issuer.Policy{PKCE: issuer.PKCEPublicClients}})
	uris := []string{"https://other.example/cb", callback, "http://127.0.0.1/cb"}
	x.client("exact:egs_"+strings.Repeat("e", 43), issuer.Client{GrantTypes: []string{oauth.GrantAuthorizationCode}, RedirectURIs: uris})
	x.client("prefix:egs_"+strings.Repeat("p", 43), issuer.Client{GrantTypes: []string{oauth.GrantAuthorizationCode}, RedirectURIs: uris, Policy: issuer.Policy{Redirects: issuer.RedirectPrefix}})
	for given, c := range map[string]struct{ exact, prefix bool }{
		callback:                       {true, true},
		"http://127.0.0.1:49152/cb":    {true, true},
		callback + "/x":                {false, true},
		"https://OTHER.example/cb?y=1": {false, true},
		callback + "/x/..":             {false, false},
		"https://app.example/":         {false, false},
	} {
		for client, good := range map[string]bool{"exact": c.exact, "prefix": c.prefix} {
			r := x.ask("client_id", client, "redirect_uri", given)
			to, _ := url.Parse(r.header.Get("Location"))
			if to.Query().Has("code") != good || good && !strings.EqualFold(given, strings.TrimRight(strings.SplitN(to.String(), "code=", 2)[0], "?&")) {
				t.Errorf("%s, %s: %d %s", client, given, r.status, to)
			}
		}
	}
	x.wantHabits("prefix", map[issuer.Habit]int64{issuer.HabitRedirectPrefix: 2, issuer.HabitNoPKCE: 4})
	x.wantHabits("exact", map[issuer.Habit]int64{issuer.HabitNoPKCE: 2})
}
