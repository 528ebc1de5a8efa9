package issuer_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// formats are the policies for every form of access token.
var formats = map[string]issuer.Policy{
	"opaque": {Format: issuer.FormatOpaque},
	"ES256":  {SigningAlg: secret.ES256},
	"EdDSA":  {SigningAlg: secret.EdDSA},
	"RS256":  {SigningAlg: secret.RS256},
}

func TestRefreshRotates(t *testing.T) {
	e := newSite(t, setup{})
	for name, policy := range formats {
		t.Run(name, func(t *testing.T) {
			as := e.variant(name, policy)
			first := e.login(as)
			e.clock.advance(10 * time.Minute)
			second := e.refreshed(as, first.RefreshToken)
			if second.RefreshToken == first.RefreshToken || second.AccessToken == first.AccessToken {
				t.Error("a refresh gave an old token")
			}
			if opaque := strings.HasPrefix(second.AccessToken, issuer.AccessPrefix); opaque != (name == "opaque") {
				t.Errorf("access token %s", second.AccessToken)
			}
			if second.ExpiresIn != 3600 || second.RefreshTokenExpiresIn != 14*86400 || second.Scope != "read write" {
				t.Errorf("answer %+v with lifetimes %d and %d", second, second.ExpiresIn, second.RefreshTokenExpiresIn)
			}
			if second.RefreshTokenTimeout != 0 || second.AuthorizationExpiresIn != 0 {
				t.Error("the draft's names are given without being asked for")
			}
			for what, token := range map[string]string{"first access token": first.AccessToken, "second access token": second.AccessToken, "second refresh token": second.RefreshToken} {
				e.wantAlive(what, token)
			}
			e.wantDead("the spent refresh token", first.RefreshToken)
		})
	}
	for _, grant := range e.grants() {
		if grant.Generation != 2 || grant.Subject != owner {
			t.Errorf("grant %+v", grant)
		}
	}
	if n := len(e.grants()); n != len(formats) {
		t.Errorf("%d rows for %d grants", n, len(formats))
	}
}

// TestRetryGivesTheSameBytes is the promise to a client that lost an answer.
func TestRetryGivesTheSameBytes(t *testing.T) {
	t.Parallel()
	e := newSite(t, setup{})
	for name, policy := range formats {
		t.Run(name, func(t *testing.T) {
			as := e.variant(name, policy)
			first := e.login(as)
			lost := e.refreshed(as, first.RefreshToken)
			narrow := e.refreshed(as, first.RefreshToken, "scope", "read")
			for range 3 {
				e.clock.advance(20 * time.Second)
				again := e.refreshed(as, first.RefreshToken)
				if again.AccessToken != lost.AccessToken || again.RefreshToken != lost.RefreshToken {
					t.Fatal("a retry was answered with other tokens")
				}
				if again.Scope != lost.Scope {
					t.Errorf("scope %q, was %q", again.Scope, lost.Scope)
				}
				if narrower := e.refreshed(as, first.RefreshToken, "scope", "read"); narrower.AccessToken != narrow.AccessToken {
					t.Error("a narrowed retry was answered with other tokens")
				}
			}
			again := e.refreshed(as, first.RefreshToken)
			if again.ExpiresIn != lost.ExpiresIn-60 || again.RefreshTokenExpiresIn != lost.RefreshTokenExpiresIn-60 {
				t.Errorf("after 60 s the lifetimes are %d and %d, were %d and %d", again.ExpiresIn, again.RefreshTokenExpiresIn, lost.ExpiresIn, lost.RefreshTokenExpiresIn)
			}
			if narrow.RefreshToken != lost.RefreshToken || narrow.AccessToken == lost.AccessToken {
				t.Error("the narrowed retry has another refresh token, or the wide access token")
			}
			e.refreshed(as, lost.RefreshToken)
		})
	}
	e.must(e.db.Ready(e.ctx())) // the counts of retries are behind it in the queue
	for _, grant := range e.grants() {
		if grant.Generation != 3 || grant.Retries != 8 {
			t.Errorf("generation %d with %d retries, want 3 with 8", grant.Generation, grant.Retries)
		}
	}
	if events := e.events("grant.reuse_detected"); len(events) != 0 {
		t.Errorf("a retry convicted: %+v", events)
	}
}

// TestRetryAndReuse is the table of what a spent refresh token is worth.
func TestRetryAndReuse(t *testing.T) {
	t.Parallel()
	const window = time.Minute
	for name, c := range map[string]struct {
		policy  issuer.Policy
		after   time.Duration // since the step
		goOn    int           // further refreshes by the successor
		present int           // generation that comes again
		retry   bool
	}{
		"at once":                    {present: 1, retry: true},
		"within the window":          {present: 1, after: window / 2, retry: true},
		"at the end of the window":   {present: 1, after: window, retry: true},
		"after the window":           {present: 1, after: window + time.Millisecond},
		"after the successor's use":  {present: 1, goOn: 1},
		"the one before the last":    {present: 2, goOn: 1, retry: true},
		"two generations further":    {present: 2, goOn: 2},
		"an ancestor at some depth":  {present: 1, goOn: 12},
		"an ancestor after a while":  {present: 3, goOn: 7, after: 24 * time.Hour},
		"window of 0":                {policy: issuer.Policy{RetryWindow: issuer.None}, present: 1},
		"a client's shorter window":  {policy: issuer.Policy{RetryWindow: issuer.Lifetime(5 * time.Second)}, present: 1, after: 6 * time.Second},
		"a client's longer window":   {policy: issuer.Policy{RetryWindow: issuer.Lifetime(time.Hour)}, present: 1, after: time.Hour, retry: true},
		"a clock that was set back":  {present: 1, after: -time.Hour, retry: true},
		"the public clients' policy": {policy: issuer.Policy{Rotation: issuer.RotatePublicClients}, present: 1, after: time.Hour, retry: true},
	} {
		t.Run(name, func(t *testing.T) {
			e := newSite(t, setup{})
			c.policy.Format = issuer.FormatOpaque
			as := e.variant("variant", c.policy)
			chain := []oauth.TokenResponse{{}, e.login(as)}
			for range 1 + c.goOn {
				chain = append(chain, e.refreshed(as, chain[len(chain)-1].RefreshToken))
			}
			e.clock.advance(c.after)
			last := chain[len(chain)-1]
			again := e.refresh(as, chain[c.present].RefreshToken)
			if c.retry {
				if tokens := again.tokens(t); tokens.RefreshToken != last.RefreshToken {
					t.Error("the retry has another refresh token")
				}
				e.refreshed(as, last.RefreshToken)
				return
			}
			again.wantError(t, 400, oauth.InvalidGrant)
			e.wantConvicted(t, as, chain[1:])
			event := e.wantEvent(issuer.EventReuseDetected, issuer.CauseRefreshTokenReused)
			if event.ClientID != as.id || event.Actor != "client:"+as.id || event.Address != clientAddress(t, e) || event.Subject != owner || event.Grant != e.grant().ID || !event.At.Equal(e.clock.now()) {
				t.Errorf("event %+v", event)
			}
			if want := fmt.Sprintf("refresh token of generation %d presented, the grant is at %d", c.present, len(chain)-1); event.Detail != want {
				t.Errorf("detail %q, want %q", event.Detail, want)
			}
			if grant := e.grant(); grant.RevokedCause != issuer.CauseRefreshTokenReused || !grant.RevokedAt.Equal(e.clock.now()) {
				t.Errorf("grant %+v", grant)
			}
		})
	}
}

// wantConvicted checks that no token of a chain is worth anything.
func (e *site) wantConvicted(t *testing.T, as party, chain []oauth.TokenResponse) {
	t.Helper()
	for i, tokens := range chain {
		e.wantDead(fmt.Sprintf("access token %d", i), tokens.AccessToken)
		e.wantDead(fmt.Sprintf("refresh token %d", i), tokens.RefreshToken)
		if tokens.RefreshToken != "" {
			e.refresh(as, tokens.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
		}
	}
}

// TestTheThiefComesFirst shows that it does not matter which of the two holders
// of a token is the client.
func TestTheThiefComesFirst(t *testing.T) {
	e := newSite(t, setup{})
	stolen := e.login(app)
	thief := e.refreshed(app, stolen.RefreshToken)
	e.clock.advance(2 * time.Minute)
	e.refresh(app, stolen.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
	e.wantConvicted(t, app, []oauth.TokenResponse{stolen, thief})
}

// TestRefusedTokensAreNotedOnce holds that a client that goes on asking does
// not fill the event log.
func TestRefusedTokensAreNotedOnce(t *testing.T) {
	e := newSite(t, setup{})
	tokens := e.login(app)
	e.must(e.admin.RevokeGrant(e.ctx(), operator, e.grant().ID))
	for range 20 {
		e.refresh(app, tokens.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
	}
	e.wantEvent(issuer.EventGrantRefused, issuer.CauseGrantRevoked)
	e.clock.advance(10*time.Minute + time.Millisecond)
	e.refresh(app, tokens.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
	if n := len(e.events(issuer.EventGrantRefused)); n != 2 {
		t.Errorf("%d events, want another one after ten minutes", n)
	}
}

func TestOtherClientsTokenIsRefusedAndNotSpent(t *testing.T) {
	e := newSite(t, setup{})
	e.register(party{"native", ""}, issuer.Client{RedirectURIs: []string{loopback}})
	tokens := e.login(app)
	for _, thief := range []party{other, {"native", ""}} {
		for _, scope := range []string{"", "read", "read admin"} {
			e.refresh(thief, tokens.RefreshToken, "scope", scope).wantError(t, 400, oauth.InvalidGrant)
		}
	}
	if got := e.grant(); got.Generation != 1 || !got.RevokedAt.IsZero() || got.Retries != 0 {
		t.Errorf("the grant was touched: %+v", got)
	}
	second := e.refreshed(app, tokens.RefreshToken)
	// Nor does an old token in foreign hands convict: its holder is no party to
	// the grant, and could otherwise end it.
	e.clock.advance(time.Hour)
	e.refresh(other, tokens.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
	e.refreshed(app, second.RefreshToken)
	for _, event := range e.events(issuer.EventGrantRefused) {
		if event.Cause != issuer.CauseOtherClient || event.Actor == "client:app" || event.ClientID != app.id {
			t.Errorf("event %+v", event)
		}
	}
}

func TestRefreshNeedsItsParameters(t *testing.T) {
	e := newSite(t, setup{})
	tokens := e.login(app)
	e.refresh(app, "").wantError(t, 400, oauth.InvalidRequest)
	e.refresh(app, tokens.AccessToken).wantError(t, 400, oauth.InvalidGrant)
	e.refresh(app, tokens.RefreshToken, "scope", "read\x01").wantError(t, 400, oauth.InvalidScope)
	e.refresh(app, tokens.RefreshToken, "scope", `re"ad`).wantError(t, 400, oauth.InvalidScope)
	e.refreshed(app, tokens.RefreshToken, "unheard_of", "and ignored")
}

// TestConfidentialClientsMustAuthenticate covers RFC 6749 sections 3.2.1 and 6.
func TestConfidentialClientsMustAuthenticate(t *testing.T) {
	e := newSite(t, setup{})
	tokens := e.login(app)
	form := []string{"grant_type", "refresh_token", "refresh_token", tokens.RefreshToken}
	for name, as := range map[string]party{"no secret": {app.id, ""}, "wrong secret": {app.id, "wrong"}, "another's secret": {app.id, other.secret}} {
		t.Run(name, func(t *testing.T) {
			e.post(issuer.TokenPath, as, form...).wantError(t, 401, oauth.InvalidClient)
		})
	}
	e.refreshed(app, tokens.RefreshToken)
}

// TestRefreshOfAPurgedGrant: a genuine token whose row is gone.
func TestRefreshOfAPurgedGrant(t *testing.T) {
	e := newSite(t, setup{})
	tokens := e.login(app)
	before := e.clock.now()
	e.clock.advance(15 * 24 * time.Hour)
	_, err := e.admin.Purge(e.ctx())
	e.must(err)
	e.clock.set(before)
	for _, scope := range []string{"", "read"} {
		e.refresh(app, tokens.RefreshToken, "scope", scope).wantError(t, 400, oauth.InvalidGrant)
	}
	never := e.variant("never", issuer.Policy{Rotation: issuer.RotateNever})
	e.refresh(never, tokens.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
	e.wantDead("access token", tokens.AccessToken)
	e.wantDead("refresh token", tokens.RefreshToken)
}

// TestGrantTypeTakenAway: a client that may no longer refresh.
func TestGrantTypeTakenAway(t *testing.T) {
	e := newSite(t, setup{})
	tokens := e.login(app)
	e.register(app, issuer.Client{GrantTypes: []string{oauth.GrantPassword}})
	e.refresh(app, tokens.RefreshToken).wantError(t, 400, oauth.UnauthorizedClient)
	if answer := e.login(app); answer.RefreshToken != "" || answer.RefreshTokenExpiresIn != 0 {
		t.Error("a client that may not refresh was given a refresh token")
	}
}

// TestDraftExpiryNames covers draft-ietf-oauth-refresh-token-expiration.
func TestDraftExpiryNames(t *testing.T) {
	e := newSite(t, setup{config: func(c *issuer.Config) { c.DraftExpiryNames = true }})
	plain := e.login(app)
	if plain.RefreshTokenTimeout != 14*86400 || plain.RefreshTokenExpiresIn != plain.RefreshTokenTimeout || plain.AuthorizationExpiresIn != 0 {
		t.Errorf("timeout %d, end %d", plain.RefreshTokenTimeout, plain.AuthorizationExpiresIn)
	}
	ending := e.variant("ending", issuer.Policy{GrantLifetime: issuer.Lifetime(30 * 24 * time.Hour), RefreshTokenLifetime: issuer.None})
	tokens := e.login(ending)
	e.clock.advance(24 * time.Hour)
	tokens = e.refreshed(ending, tokens.RefreshToken)
	if tokens.RefreshTokenTimeout != 29*86400 || tokens.AuthorizationExpiresIn != 29*86400 {
		t.Errorf("timeout %d, end %d", tokens.RefreshTokenTimeout, tokens.AuthorizationExpiresIn)
	}
	forever := e.variant("forever", issuer.Policy{RefreshTokenLifetime: issuer.None})
	if body := e.post(issuer.TokenPath, forever, "grant_type", "password", "username", owner, "password", ownerPassword).body; strings.Contains(body, "refresh_token_expires_in") || strings.Contains(body, "timeout") {
		t.Errorf("a refresh token that does not expire is answered with an expiry: %s", http.StatusText(200))
	}
}
