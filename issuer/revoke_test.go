package issuer_test

import (
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// revoke revokes a token, which must be answered as RFC 7009 section 2.2 says.
func (e *site) revoke(as party, token string, more ...string) {
	e.t.Helper()
	r := e.post(issuer.RevokePath, as, append([]string{"token", token}, more...)...)
	if r.status != 200 || r.body != "" || r.header.Get("Cache-Control") != "no-store" {
		e.t.Fatalf("revocation was answered %d %q", r.status, r.body)
	}
}

// TestRevokeRefreshToken: the grant ends, and with it every token.
func TestRevokeRefreshToken(t *testing.T) {
	t.Parallel()
	for name, policy := range formats {
		for what, generation := range map[string]int{"current": 2, "previous": 1, "first": 0} {
			t.Run(name+"/"+what, func(t *testing.T) {
				e := newSite(t, setup{})
				as := e.variant("variant", policy)
				chain := []oauth.TokenResponse{e.login(as)}
				for range 2 {
					chain = append(chain, e.refreshed(as, chain[len(chain)-1].RefreshToken))
				}
				bystander := e.login(as)
				e.clock.advance(time.Second)
				e.revoke(as, chain[generation].RefreshToken)
				e.wantConvicted(t, as, chain)
				event := e.wantEvent(issuer.EventGrantRevoked, issuer.CauseClientRequest)
				if event.ClientID != as.id || event.Actor != "client:"+as.id || event.Subject != owner || event.Address != clientAddress(t, e) || !event.At.Equal(e.clock.now()) {
					t.Errorf("event %+v", event)
				}
				e.revoke(as, chain[2].RefreshToken) // again: nothing more happens
				e.revoke(as, chain[2].AccessToken)
				e.wantEvent(issuer.EventGrantRevoked, issuer.CauseClientRequest)
				if n := len(e.events(issuer.EventReuseDetected)); n != 0 {
					t.Errorf("%d convictions", n)
				}
				e.wantAlive("a token of another grant", bystander.AccessToken)
				e.refreshed(as, bystander.RefreshToken)
			})
		}
	}
}

// TestRevokeAccessToken: one access token ends alone.
func TestRevokeAccessToken(t *testing.T) {
	t.Parallel()
	for name, policy := range formats {
		t.Run(name, func(t *testing.T) {
			e := newSite(t, setup{})
			as := e.variant("variant", policy)
			first := e.login(as)
			second := e.refreshed(as, first.RefreshToken)
			narrow := e.refreshed(as, first.RefreshToken, "scope", "read") // a retry: another token of the same generation
			machine := e.post(issuer.TokenPath, as, "grant_type", "client_credentials").tokens(t)
			for _, token := range []string{first.AccessToken, machine.AccessToken} {
				e.revoke(as, token)
				e.revoke(as, token)
				e.wantDead("the revoked access token", token)
			}
			e.wantAlive("the next access token", second.AccessToken)
			e.wantAlive("the narrowed access token", narrow.AccessToken)
			e.revoke(as, narrow.AccessToken)
			e.wantDead("the narrowed access token", narrow.AccessToken)
			e.wantAlive("its neighbour of one generation", second.AccessToken)
			events := e.events(issuer.EventAccessTokenRevoked)
			if len(events) != 3 {
				t.Fatalf("%d events, want one for each token", len(events))
			}
			for i, event := range events { // newest first
				if event.Actor != "client:variant" || event.Cause != issuer.CauseClientRequest || event.Grant.IsZero() != (i == 1) {
					t.Errorf("event %+v", event)
				}
			}
			e.refreshed(as, second.RefreshToken)
			e.clock.advance(2 * time.Hour)
			purged, err := e.admin.Purge(e.ctx())
			e.must(err)
			if purged.AccessTokens != 3 || purged.Grants != 0 {
				t.Errorf("purged %+v", purged)
			}
		})
	}
}

// TestRevokeByOthers covers RFC 7009 section 2.1: refused, and nothing happens.
func TestRevokeByOthers(t *testing.T) {
	e := newSite(t, setup{})
	jwt := e.variant("jwt", issuer.Policy{})
	code, opaque, signed := e.code(app, "scope", "read"), e.login(app), e.login(jwt)
	machine := e.post(issuer.TokenPath, app, "grant_type", "client_credentials").tokens(t)
	tokens := []string{code, opaque.AccessToken, opaque.RefreshToken, signed.AccessToken, signed.RefreshToken, machine.AccessToken}
	for _, token := range tokens {
		for _, as := range []party{other, public, resources} {
			e.post(issuer.RevokePath, as, "token", token).wantError(t, 400, oauth.InvalidGrant)
		}
		e.post(issuer.RevokePath, party{app.id, secret.NewSecret().Reveal()}, "token", token).wantError(t, 401, oauth.InvalidClient)
		e.post(issuer.RevokePath, party{app.id, ""}, "token", token).wantError(t, 401, oauth.InvalidClient)
		e.do(e.request(issuer.RevokePath, formOf("token", token).Encode())).wantError(t, 401, oauth.InvalidClient)
		e.clock.advance(2 * time.Minute) // no throttling here
	}
	for _, token := range tokens[1:] {
		e.wantAlive("a token that others wanted to revoke", token)
	}
}

// TestHintsDoNotMatter covers RFC 7009 section 2.1 and RFC 7662 section 2.1:
// wrong and unknown hints, and none.
func TestHintsDoNotMatter(t *testing.T) {
	e := newSite(t, setup{})
	jwt := e.variant("jwt", issuer.Policy{})
	for _, as := range []party{app, jwt} {
		for _, hint := range []string{"", "access_token", "refresh_token", "unheard_of", "pct_token"} {
			tokens := e.login(as)
			for _, token := range []string{tokens.AccessToken, tokens.RefreshToken} {
				var seen oauth.Introspection
				e.post(issuer.IntrospectPath, as, "token", token, "token_type_hint", hint).into(t, &seen)
				if !seen.Active {
					t.Errorf("hint %q: not active", hint)
				}
				e.revoke(as, token, "token_type_hint", hint)
				e.wantDead("with the hint "+hint, token)
			}
		}
	}
}

// TestRevokeWhatIsNothing covers RFC 7009 section 2.2: it is answered with 200.
func TestRevokeWhatIsNothing(t *testing.T) {
	e, count := tallied(t)
	tokens := e.login(app)
	e.clock.advance(3 * time.Hour)
	expired := tokens.AccessToken
	foreign := newSite(t, setup{}).login(app)
	e.refreshed(app, tokens.RefreshToken)
	_, writes := count.took(func() {
		for _, token := range []string{expired, foreign.AccessToken, foreign.RefreshToken, "x", "a.b.c", issuer.RefreshPrefix, issuer.AccessPrefix, issuer.CodePrefix} {
			e.revoke(app, token)
		}
	})
	if writes != 0 {
		t.Errorf("%d writes", writes)
	}
	backup := e.backup()
	lost := e.login(app)
	e.restore(backup)
	e.revoke(app, lost.RefreshToken) // a genuine token without a row
	e.post(issuer.RevokePath, app).wantError(t, 400, oauth.InvalidRequest)
	e.post(issuer.RevokePath, app, "token_type_hint", "access_token").wantError(t, 400, oauth.InvalidRequest)
}

// TestPublicClientsRevoke: they name themselves (RFC 7009 section 5).
func TestPublicClientsRevoke(t *testing.T) {
	e := newSite(t, setup{})
	tokens := e.redeem(public, e.code(public)).tokens(t)
	e.revoke(public, tokens.AccessToken)
	e.wantDead("access token", tokens.AccessToken)
	e.revoke(public, tokens.RefreshToken)
	e.refresh(public, tokens.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
}

// TestTokensWonByARaceDieTogether: what several processes got for one token is
// one grant.
func TestTokensWonByARaceDieTogether(t *testing.T) {
	e := newSite(t, setup{})
	tokens := e.login(app)
	var won []oauth.TokenResponse
	scopes := []string{"", "read", "write"}
	for _, r := range e.concurrently(12, func(i int) reply { return e.refresh(app, tokens.RefreshToken, "scope", scopes[i%3]) }) {
		won = append(won, r.tokens(t))
	}
	e.revoke(app, won[0].RefreshToken)
	e.wantConvicted(t, app, won)
}
