package issuer_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
)

// TestExplain has every verdict.
func TestExplain(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		policy  issuer.Policy
		subject func(e *site, as party) string // what is asked about, after all has happened
		kind    string
		alive   bool
		cause   issuer.Cause
		says    string
		repair  string // a word of it; "" for none
	}{
		"grant alive": {subject: func(e *site, as party) string {
			e.refreshed(as, e.login(as).RefreshToken)
			e.clock.advance(5 * time.Minute)
			return e.grant().ID.String()
		}, kind: "grant", alive: true, says: "alive at generation 2, last renewed 5m0s ago"},
		"grant revoked": {subject: func(e *site, as party) string {
			e.revoke(as, e.login(as).RefreshToken)
			return " " + e.grant().ID.String() + "\n"
		}, kind: "grant", cause: issuer.CauseGrantRevoked, says: "revoked 0s ago", repair: "authorization"},
		"grant convicted": {subject: func(e *site, as party) string {
			first := e.login(as)
			e.refreshed(as, first.RefreshToken)
			e.clock.advance(time.Hour)
			e.refresh(as, first.RefreshToken)
			return strings.ToUpper(e.grant().ID.String())
		}, kind: "grant", cause: issuer.CauseGrantRevoked, says: "because: refresh_token_reused", repair: "authorization"},
		"grant ended": {policy: issuer.Policy{GrantLifetime: issuer.Lifetime(time.Hour)}, subject: func(e *site, as party) string {
			e.login(as)
			e.clock.advance(2 * time.Hour)
			return e.grant().ID.String()
		}, kind: "grant", cause: issuer.CauseGrantEnded, says: "absolute lifetime 1h0m0s ago", repair: "authorization"},
		"code expired": {subject: func(e *site, as party) string {
			e.code(as)
			e.clock.advance(2 * time.Minute)
			return e.grant().ID.String()
		}, kind: "grant", cause: issuer.CauseCodeExpired, says: "never redeemed and expired 1m0s ago", repair: "authorization"},
		"grant purged": {subject: func(e *site, as party) string {
			e.login(as)
			id := e.grant().ID.String()
			e.clock.advance(15 * day)
			_, err := e.admin.Purge(e.ctx())
			e.must(err)
			return id
		}, kind: "grant", cause: issuer.CauseGrantUnknown, says: "no row any more", repair: "authorization"},
		"code good":                {subject: func(e *site, as party) string { return e.code(as) }, kind: "authorization_code", alive: true, says: "has not been redeemed and is good"},
		"code of an expired grant": {subject: func(e *site, as party) string { code := e.code(as); e.clock.advance(time.Hour); return code }, kind: "authorization_code", cause: issuer.CauseCodeExpired, says: "never redeemed", repair: "authorization"},
		"code redeemed":            {subject: func(e *site, as party) string { code := e.code(as); e.redeem(as, code).tokens(e.t); return code }, kind: "authorization_code", cause: issuer.CauseCodeReplayed, says: "Presenting it again would revoke the grant", repair: "refresh token"},
		"refresh token good":       {subject: func(e *site, as party) string { return e.login(as).RefreshToken }, kind: "refresh_token", alive: true, says: "current refresh token, and it is good"},
		"refresh token used": {subject: func(e *site, as party) string {
			first := e.login(as)
			e.refreshed(as, first.RefreshToken)
			return first.RefreshToken
		}, kind: "refresh_token", cause: issuer.CauseRefreshTokenReused, says: "of generation 1 and was used", repair: "newest"},
		"refresh token idle": {subject: func(e *site, as party) string {
			first := e.login(as)
			e.clock.advance(15 * day)
			return first.RefreshToken
		}, kind: "refresh_token", cause: issuer.CauseRefreshTokenExpired, says: "not used for its whole idle lifetime and expired 24h0m0s ago", repair: "authorization"},
		"refresh token of a lost row": {subject: lostRow(func(tokens oauth.TokenResponse) string { return tokens.RefreshToken }), kind: "refresh_token", cause: issuer.CauseGrantUnknown, says: "made after the backup", repair: "authorization"},
		"access token of a lost row":  {subject: lostRow(func(tokens oauth.TokenResponse) string { return tokens.AccessToken }), kind: "access_token", cause: issuer.CauseGrantUnknown, says: "made after the backup", repair: "authorization"},
		"refresh token ahead":         {subject: aheadOfItsRow, kind: "refresh_token", alive: true, says: "using it heals the row"},
		"access token good":           {subject: func(e *site, as party) string { return e.login(as).AccessToken }, kind: "access_token", alive: true, says: "good for another 1h0m0s"},
		"access token good, JWT":      {policy: issuer.Policy{Format: issuer.FormatJWT}, subject: func(e *site, as party) string { return e.login(as).AccessToken }, kind: "access_token", alive: true, says: "good for another 1h0m0s"},
		"access token expired": {subject: func(e *site, as party) string {
			token := e.login(as).AccessToken
			e.clock.advance(2 * time.Hour)
			return token
		}, kind: "access_token", cause: "access_token_expired", says: "The access token expired 1h0m0s ago", repair: "Refresh it"},
		"access token revoked": {subject: func(e *site, as party) string { token := e.login(as).AccessToken; e.revoke(as, token); return token }, kind: "access_token", cause: "access_token_revoked", says: "was revoked", repair: "Refresh it"},
		"access token of a revocation": {subject: func(e *site, as party) string {
			tokens := e.login(as)
			e.revoke(as, tokens.RefreshToken)
			return tokens.AccessToken
		}, kind: "access_token", cause: issuer.CauseGrantRevoked, says: "because: client_request", repair: "authorization"},
		"access token that outlives its refresh token": {policy: issuer.Policy{RefreshTokenLifetime: issuer.Lifetime(time.Minute)}, subject: func(e *site, as party) string {
			token := e.login(as).AccessToken
			e.clock.advance(10 * time.Minute)
			e.wantAlive("the access token", token)
			return token
		}, kind: "access_token", alive: true, says: "good for another 50m0s"},
		"machine's":         {subject: func(e *site, as party) string { return machineToken(e, as) }, kind: "access_token", alive: true, says: "good for another"},
		"machine's expired": {subject: func(e *site, as party) string { token := machineToken(e, as); e.clock.advance(time.Hour); return token }, kind: "access_token", cause: "access_token_expired", says: "expired 0s ago", repair: "Refresh it"},
		"machine's revoked": {subject: func(e *site, as party) string { token := machineToken(e, as); e.revoke(as, token); return token }, kind: "access_token", cause: "access_token_revoked", says: "revoked", repair: "Refresh it"},
		"machine's deleted": {subject: func(e *site, as party) string {
			token := machineToken(e, as)
			e.must(e.admin.DeleteClient(e.ctx(), operator, as.id))
			return token
		}, kind: "access_token", cause: "access_token_revoked", says: "its client was deleted", repair: "Refresh it"},
	} {
		t.Run(name, func(t *testing.T) {
			e, count := tallied(t)
			if c.policy.Format == "" {
				c.policy.Format = issuer.FormatOpaque
			}
			as := e.variant("variant", c.policy)
			subject := c.subject(e, as)
			var got issuer.Explanation
			var err error
			_, writes := count.took(func() { got, err = e.admin.Explain(e.ctx(), subject) })
			e.must(err)
			if writes != 0 {
				t.Errorf("%d writes", writes)
			}
			if got.Kind != c.kind || got.Alive != c.alive || got.Cause != c.cause || !strings.Contains(got.Verdict, c.says) {
				t.Errorf("got %+v, want %s alive=%t cause=%q saying %q", got, c.kind, c.alive, c.cause, c.says)
			}
			if strings.Contains(got.Repair, c.repair) && (c.repair != "") == (got.Repair != "") {
				return
			}
			t.Errorf("repair %q, want %q", got.Repair, c.repair)
		})
	}
}

func machineToken(e *site, as party) string {
	return e.post(issuer.TokenPath, as, "grant_type", "client_credentials").tokens(e.t).AccessToken
}

// lostRow makes a token whose grant was made after the backup.
func lostRow(which func(oauth.TokenResponse) string) func(*site, party) string {
	return func(e *site, as party) string {
		backup := e.backup()
		tokens := e.login(as)
		e.restore(backup)
		return which(tokens)
	}
}

// aheadOfItsRow makes a refresh token that is newer than the restored database.
func aheadOfItsRow(e *site, as party) string {
	first := e.login(as)
	backup := e.backup()
	last := e.refreshed(as, e.refreshed(as, first.RefreshToken).RefreshToken)
	e.restore(backup)
	return last.RefreshToken
}

// TestExplainShowsTheTimeLine: the row, and its events, newest first.
func TestExplainShowsTheTimeLine(t *testing.T) {
	e := newSite(t, setup{})
	first := e.login(app)
	e.refreshed(app, e.refreshed(app, first.RefreshToken).RefreshToken)
	e.clock.advance(time.Hour)
	e.refresh(app, first.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
	got, err := e.admin.Explain(e.ctx(), first.AccessToken)
	e.must(err)
	if len(got.Events) != 2 || got.Events[0].Type != issuer.EventReuseDetected || got.Events[1].Type != issuer.EventGrantCreated {
		t.Errorf("events %+v", got.Events)
	}
	if got.Grant == nil || got.Grant.Generation != 3 || got.Grant.RevokedCause != issuer.CauseRefreshTokenReused {
		t.Errorf("grant %+v", got.Grant)
	}
}

func TestExplainNothing(t *testing.T) {
	e := newSite(t, setup{})
	foreign := newSite(t, setup{}).login(app)
	for _, subject := range []string{"", "x", issuer.NewGrantID().String(), foreign.AccessToken, foreign.RefreshToken, strings.Repeat("f", 33)} {
		if got, err := e.admin.Explain(e.ctx(), subject); !errors.Is(err, issuer.ErrNotFound) {
			t.Errorf("%q: %+v, %v", subject, got, err)
		}
	}
	tokens := e.login(app)
	e.must(e.db.Close())
	for _, subject := range []string{issuer.NewGrantID().String(), tokens.AccessToken, tokens.RefreshToken} {
		if _, err := e.admin.Explain(e.ctx(), subject); !errors.Is(err, issuer.ErrUnavailable) {
			t.Errorf("with the database closed: %v", err)
		}
	}
	e.open()
}
