package issuer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

func TestCodeWithPKCE(t *testing.T) {
	e := newSite(t, setup{})
	jwt := e.variant("jwt", issuer.Policy{})
	for _, as := range []party{app, public, jwt} {
		t.Run(as.id, func(t *testing.T) {
			code := e.code(as)
			tokens := e.redeem(as, code).tokens(t)
			if tokens.Scope != "read write" || tokens.ExpiresIn != 3600 || tokens.RefreshTokenExpiresIn != 14*86400 {
				t.Errorf("answer %+v", tokens)
			}
			if seen := e.wantAlive("access token", tokens.AccessToken); seen.Username != owner || seen.Subject != owner || seen.ClientID != as.id {
				t.Errorf("access token %+v", seen)
			}
			e.refreshed(as, tokens.RefreshToken)
		})
	}
	for _, grant := range e.grants() {
		if grant.Generation != 2 {
			t.Errorf("grant %+v", grant)
		}
	}
}

// TestCodeWithoutRefresh: a client that may not refresh gets an access token,
// and its row lives as long as that.
func TestCodeWithoutRefresh(t *testing.T) {
	e := newSite(t, setup{})
	as := e.register(party{"once", secret.NewSecret().Reveal()}, issuer.Client{RedirectURIs: []string{callback}, GrantTypes: []string{oauth.GrantAuthorizationCode}})
	tokens := e.redeem(as, e.code(as)).tokens(t)
	if tokens.RefreshToken != "" || tokens.RefreshTokenExpiresIn != 0 {
		t.Errorf("answer %+v", tokens)
	}
	if grant := e.grant(); !grant.ExpiresAt.Equal(grant.AccessExpiresAt) {
		t.Errorf("the row lives until %s, the access token until %s", grant.ExpiresAt, grant.AccessExpiresAt)
	}
	e.clock.advance(time.Hour)
	purged, err := e.admin.Purge(e.ctx())
	e.must(err)
	if purged.Grants != 1 {
		t.Errorf("purged %+v", purged)
	}
}

// TestWrongRequestsSpendNothing: whoever has seen a code, but lacks what belongs
// to it, neither gets tokens nor ends the grant.
func TestWrongRequestsSpendNothing(t *testing.T) {
	t.Parallel()
	e := newSite(t, setup{})
	two := e.register(party{"two", secret.NewSecret().Reveal()}, issuer.Client{RedirectURIs: []string{callback, callback + "/two"}, GrantTypes: []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken}})
	long := strings.Repeat("v", 128)
	for name, c := range map[string]struct {
		as   party
		with []string
		code string
	}{
		"other verifier":           {app, []string{"code_verifier", strings.Replace(verifier, "d", "e", 1)}, oauth.InvalidGrant},
		"longest verifier":         {app, []string{"code_verifier", long}, oauth.InvalidGrant},
		"no verifier":              {app, []string{"code_verifier", ""}, oauth.InvalidGrant},
		"short verifier":           {app, []string{"code_verifier", verifier[:42]}, oauth.InvalidGrant},
		"too long a verifier":      {app, []string{"code_verifier", long + "v"}, oauth.InvalidGrant},
		"illegal verifier":         {app, []string{"code_verifier", strings.Replace(verifier, "d", "+", 1)}, oauth.InvalidGrant},
		"the challenge itself":     {app, []string{"code_verifier", challenge}, oauth.InvalidGrant},
		"other redirect":           {app, []string{"redirect_uri", "https://evil.example/callback"}, oauth.InvalidGrant},
		"longer redirect":          {app, []string{"redirect_uri", callback + "/"}, oauth.InvalidGrant},
		"registered, but not used": {two, []string{"redirect_uri", callback + "/two"}, oauth.InvalidGrant},
		"redirect left out of two": {two, []string{"redirect_uri", ""}, oauth.InvalidGrant},
	} {
		for _, before := range []bool{true, false} { // the right request was made already
			when := map[bool]string{true: " after", false: ""}[before]
			t.Run(name+when, func(t *testing.T) {
				code := e.code(c.as)
				var tokens oauth.TokenResponse
				if before {
					tokens = e.redeem(c.as, code).tokens(t)
				}
				for range 3 {
					e.redeem(c.as, code, c.with...).wantError(t, 400, c.code)
					e.redeem(other, code).wantError(t, 400, oauth.InvalidGrant)
				}
				if !before {
					tokens = e.redeem(c.as, code).tokens(t)
				}
				e.refreshed(c.as, tokens.RefreshToken)
			})
		}
	}
	for _, event := range e.events(issuer.EventGrantRefused) {
		if event.Cause != issuer.CauseCodeBinding {
			t.Errorf("event %+v", event)
		}
	}
	if n := len(e.events(issuer.EventCodeReplayed)); n != 0 {
		t.Errorf("%d convictions", n)
	}
}

// TestRedirectURIAtTheTokenEndpoint covers RFC 6749 section 4.1.3: the same as
// in the authorization request, also where that left it out.
func TestRedirectURIAtTheTokenEndpoint(t *testing.T) {
	e := newSite(t, setup{})
	for name, c := range map[string]struct {
		as          party
		asked, sent string
		good        bool
	}{
		"both":                        {app, callback, callback, true},
		"omitted at first":            {app, "", callback, true},
		"omitted then":                {app, callback, "", true},
		"omitted twice":               {app, "", "", true},
		"loopback port":               {public, "http://127.0.0.1:49152/callback", "http://127.0.0.1:49152/callback", true},
		"loopback, other port":        {public, "http://127.0.0.1:49152/callback", "http://127.0.0.1:49153/callback", false},
		"loopback, port then omitted": {public, "http://127.0.0.1:49152/callback", "", false},
		"loopback without a port":     {public, "", loopback, true},
	} {
		t.Run(name, func(t *testing.T) {
			code := e.code(c.as, "redirect_uri", c.asked)
			r := e.redeem(c.as, code, "redirect_uri", c.sent)
			if c.good {
				r.tokens(t)
				return
			}
			r.wantError(t, 400, oauth.InvalidGrant)
			e.redeem(c.as, code, "redirect_uri", c.asked).tokens(t)
		})
	}
}

// TestPKCEDowngrade tries the three ways around PKCE: without a challenge at
// first, with plain, and with the verifier dropped.
func TestPKCEDowngrade(t *testing.T) {
	e := newSite(t, setup{})
	for name, request := range map[string][]string{
		"no challenge":             {"code_challenge", "", "code_challenge_method", ""},
		"plain":                    {"code_challenge", verifier, "code_challenge_method", "plain"},
		"plain by leaving out":     {"code_challenge", verifier, "code_challenge_method", ""},
		"method without challenge": {"code_challenge", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if answer := e.authorize(e.authorizationRequest(app, request...)); answer.Get("error") != oauth.InvalidRequest || answer.Has("code") {
				t.Errorf("answer %v", answer)
			}
		})
	}
	code := e.code(app)
	e.redeem(app, code, "code_verifier", "").wantError(t, 400, oauth.InvalidGrant)
	e.redeem(app, code, "code_verifier", "", "code_challenge_method", "plain").wantError(t, 400, oauth.InvalidGrant)
	e.redeem(app, code, "code_verifier", challenge, "code_challenge_method", "plain").wantError(t, 400, oauth.InvalidGrant)
	e.redeem(app, code).tokens(t)
}

// TestReplayedCode: there is no window at generation 0 (RFC 6749 section 4.1.2).
func TestReplayedCode(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		refreshes int
		after     time.Duration
	}{"at once": {}, "after a refresh": {refreshes: 1}, "after many": {refreshes: 5}, "after 30 s": {after: 30 * time.Second}, "after the code's lifetime": {after: time.Hour}} {
		t.Run(name, func(t *testing.T) {
			e := newSite(t, setup{})
			code := e.code(app)
			chain := []oauth.TokenResponse{e.redeem(app, code).tokens(t)}
			for range c.refreshes {
				chain = append(chain, e.refreshed(app, chain[len(chain)-1].RefreshToken))
			}
			e.clock.advance(c.after)
			e.redeem(app, code).wantError(t, 400, oauth.InvalidGrant)
			e.wantConvicted(t, app, chain)
			event := e.wantEvent(issuer.EventCodeReplayed, issuer.CauseCodeReplayed)
			if event.ClientID != app.id || event.Actor != "client:app" || event.Address != clientAddress(t, e) || event.Grant != e.grant().ID {
				t.Errorf("event %+v", event)
			}
			if description := e.redeem(app, code).wantError(t, 400, oauth.InvalidGrant); !strings.HasPrefix(description, "The grant was revoked.") {
				t.Errorf("a third redemption is told %q", description)
			}
			if n := len(e.events(issuer.EventCodeReplayed)); n != 1 {
				t.Errorf("%d convictions", n)
			}
		})
	}
}

// TestConcurrentReplay: of many redemptions one may win, and nothing lives
// afterwards.
func TestConcurrentReplay(t *testing.T) {
	t.Parallel()
	e := newSite(t, setup{})
	for range 10 {
		code, won := e.code(app), 0
		for _, r := range e.concurrently(8, func(int) reply { return e.redeem(app, code) }) {
			if r.status != 200 {
				r.wantError(t, 400, oauth.InvalidGrant)
				continue
			}
			won++
			tokens := r.tokens(t)
			e.wantConvicted(t, app, []oauth.TokenResponse{tokens})
		}
		if won != 1 {
			t.Errorf("%d redemptions of one code", won)
		}
	}
	if n := len(e.events(issuer.EventCodeReplayed)); n != 10 {
		t.Errorf("%d convictions, want 10", n)
	}
}

func TestCodeExpiry(t *testing.T) {
	e := newSite(t, setup{})
	slow := e.variant("slow", issuer.Policy{CodeLifetime: issuer.Lifetime(10 * time.Minute)})
	ending := e.variant("ending", issuer.Policy{GrantLifetime: issuer.Lifetime(20 * time.Second)})
	for _, c := range []struct {
		as    party
		after time.Duration
		cause issuer.Cause
	}{{app, time.Minute, issuer.CauseCodeExpired}, {slow, 10 * time.Minute, issuer.CauseCodeExpired}, {ending, 20 * time.Second, issuer.CauseGrantEnded}} {
		t.Run(c.as.id, func(t *testing.T) {
			early, late := e.code(c.as), e.code(c.as)
			e.clock.advance(c.after - time.Millisecond)
			e.redeem(c.as, early).tokens(t)
			e.clock.advance(time.Millisecond)
			e.redeem(c.as, late).wantError(t, 400, oauth.InvalidGrant)
			if event := e.events(issuer.EventGrantRefused)[0]; event.Cause != c.cause {
				t.Errorf("event %+v", event)
			}
		})
	}
	if n := len(e.events(issuer.EventCodeReplayed)); n != 0 {
		t.Errorf("%d convictions for codes that were never redeemed", n)
	}
}

// TestCodeOfARevokedGrant: revoked before it was redeemed.
func TestCodeOfARevokedGrant(t *testing.T) {
	e := newSite(t, setup{})
	code := e.code(app)
	if r := e.post(issuer.RevokePath, app, "token", code); r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	e.redeem(app, code).wantError(t, 400, oauth.InvalidGrant)
	e.wantEvent(issuer.EventGrantRefused, issuer.CauseGrantRevoked)
}

// TestCodeOfAPurgedGrant: a genuine code without a row.
func TestCodeOfAPurgedGrant(t *testing.T) {
	e := newSite(t, setup{})
	backup := e.backup()
	code := e.code(app)
	e.restore(backup)
	e.redeem(app, code).wantError(t, 400, oauth.InvalidGrant)
}

func TestCodeRequestsThatLackSomething(t *testing.T) {
	e := newSite(t, setup{})
	e.redeem(app, "").wantError(t, 400, oauth.InvalidRequest)
	e.redeem(app, "nonsense").wantError(t, 400, oauth.InvalidGrant)
	e.redeem(app, e.code(app), "grant_type", "").wantError(t, 400, oauth.InvalidRequest)
}

// TestKeyRotationBetweenCodeAndToken: a code of the old key is good.
func TestKeyRotationBetweenCodeAndToken(t *testing.T) {
	e := newSite(t, setup{})
	code := e.code(app)
	_, err := e.admin.RotateKeys(e.ctx(), operator, 0)
	e.must(err)
	tokens := e.redeem(app, code).tokens(t)
	if grant := e.grant(); grant.KeyID != 2 {
		t.Errorf("grant %+v", grant)
	}
	e.refreshed(app, tokens.RefreshToken)
	e.redeem(app, code).wantError(t, 400, oauth.InvalidGrant)
	e.wantEvent(issuer.EventCodeReplayed, issuer.CauseCodeReplayed)
}
