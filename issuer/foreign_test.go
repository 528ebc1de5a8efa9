package issuer_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// newMoved is a site that has imported a client with a refresh token, "r0", and an
// access token, "a0".
func newMoved(t *testing.T, s setup) *site {
	t.Helper()
	e := newSite(t, s)
	access := issuer.ImportToken{
		Access: true, Token: secret.NewText("a0"), ClientID: moved.id, Subject: owner, Scope: oauth.Scope{"read"},
		IssuedAt: e.clock.now().Add(-time.Minute), ExpiresAt: e.clock.now().Add(time.Hour),
	}
	refresh := e.movedToken("r0")
	refresh.Scope = oauth.Scope{"read", "write"}
	e.imports(issuer.Import{Clients: []issuer.ImportClient{movedClient()}, Tokens: []issuer.ImportToken{refresh, access}})
	return e
}

// TestForeignRefresh moves a client from a refresh token of the other server to
// ours.
func TestForeignRefresh(t *testing.T) {
	e := newMoved(t, setup{})
	seen := e.wantAlive("the imported refresh token", "r0")
	if seen.Subject != owner || seen.ClientID != moved.id || seen.Scope != "read write" || seen.ExpiresAt != e.clock.now().Add(7*24*time.Hour).Unix() {
		t.Errorf("introspection of the imported token is %+v", seen)
	}
	first := e.refreshed(moved, "r0")
	if first.Scope != "read write" || !strings.HasPrefix(first.RefreshToken, issuer.RefreshPrefix) {
		t.Errorf("the first refresh gives %+v", first)
	}
	if seen := e.wantAlive("its access token", first.AccessToken); seen.Subject != owner || seen.Scope != "read write" {
		t.Errorf("introspection is %+v", seen)
	}
	e.clock.advance(30 * time.Second)
	again := e.refreshed(moved, "r0")
	if again.AccessToken != first.AccessToken || again.RefreshToken != first.RefreshToken {
		t.Error("the imported token again, within the retry window, gives other tokens")
	}
	e.wantDead("the spent imported token", "r0")
	second := e.refreshed(moved, first.RefreshToken)
	e.wantAlive("the old access token", "a0") // is a grant of its own

	e.refresh(moved, "r0").wantError(t, http.StatusBadRequest, oauth.InvalidGrant) // somebody has a copy
	e.wantEvent(issuer.EventReuseDetected, issuer.CauseRefreshTokenReused)
	e.refresh(moved, second.RefreshToken).wantError(t, http.StatusBadRequest, oauth.InvalidGrant)
	e.wantDead("an access token of the convicted grant", second.AccessToken)
}

// TestForeignRefreshAfterTheWindow has nobody use the successor: who comes late is
// one of two all the same.
func TestForeignRefreshAfterTheWindow(t *testing.T) {
	e := newMoved(t, setup{})
	e.refreshed(moved, "r0")
	e.clock.advance(61 * time.Second)
	e.refresh(moved, "r0").wantError(t, http.StatusBadRequest, oauth.InvalidGrant)
	e.wantEvent(issuer.EventReuseDetected, issuer.CauseRefreshTokenReused)
}

func TestForeignRefreshRefused(t *testing.T) {
	t.Run("scope", func(t *testing.T) {
		e := newMoved(t, setup{})
		e.refresh(moved, "r0", "scope", "admin").wantError(t, http.StatusBadRequest, oauth.InvalidScope)
		if narrowed := e.refreshed(moved, "r0", "scope", "read"); narrowed.Scope != "read" {
			t.Errorf("narrowed to %q", narrowed.Scope)
		}
	})
	t.Run("expired", func(t *testing.T) {
		e := newMoved(t, setup{})
		e.clock.advance(7 * 24 * time.Hour)
		e.refresh(moved, "r0").wantError(t, http.StatusBadRequest, oauth.InvalidGrant)
		e.wantEvent(issuer.EventGrantRefused, issuer.CauseRefreshTokenExpired)
		e.wantDead("the expired token", "r0")
	})
	t.Run("another client", func(t *testing.T) {
		e := newMoved(t, setup{})
		thief := movedClient()
		thief.ID = "thief"
		e.imports(issuer.Import{Clients: []issuer.ImportClient{thief}})
		e.refresh(party{"thief", moved.secret}, "r0").wantError(t, http.StatusBadRequest, oauth.InvalidGrant)
		e.refreshed(moved, "r0")
	})
	t.Run("access token", func(t *testing.T) {
		e := newMoved(t, setup{})
		e.refresh(moved, "a0").wantError(t, http.StatusBadRequest, oauth.InvalidGrant)
		e.wantAlive("the access token", "a0")
	})
	t.Run("unknown", func(t *testing.T) {
		e := newMoved(t, setup{})
		for _, token := range []string{"never seen", "R0", "r0 ", issuer.RefreshPrefix + "r0"} {
			e.refresh(moved, token).wantError(t, http.StatusBadRequest, oauth.InvalidGrant)
		}
		e.refreshed(moved, "r0")
	})
}

// TestForeignCostsNoRead: for a client that was not imported a text that is none
// of our tokens is refused before the database is asked.
func TestForeignCostsNoRead(t *testing.T) {
	e, count := tallied(t)
	e.login(app)
	reads, writes := count.took(func() { e.refresh(app, "never seen").wantError(t, http.StatusBadRequest, oauth.InvalidGrant) })
	if reads+writes != 0 {
		t.Errorf("%d reads and %d writes", reads, writes)
	}
	e.imports(issuer.Import{Clients: []issuer.ImportClient{movedClient()}})
	e.login(moved)
	if reads, _ = count.took(func() { e.refresh(moved, "never seen").wantError(t, http.StatusBadRequest, oauth.InvalidGrant) }); reads > 1 {
		t.Errorf("%d reads for an imported client", reads)
	}
}

func TestForeignAccess(t *testing.T) {
	e := newMoved(t, setup{})
	seen := e.wantAlive("the imported access token", "a0")
	if seen.Subject != owner || seen.Username != owner || seen.ClientID != moved.id || seen.Scope != "read" || seen.TokenType != oauth.Bearer ||
		seen.IssuedAt != e.clock.now().Add(-time.Minute).Unix() || seen.ExpiresAt != e.clock.now().Add(time.Hour).Unix() {
		t.Errorf("introspection is %+v", seen)
	}
	inside, client, err := e.server.Inspect(e.ctx(), "a0")
	if err != nil || !inside.Active || client.ID != moved.id {
		t.Errorf("inside: %+v of %+v, %v", inside, client, err)
	}
	if inside, _, err = e.server.Inspect(e.ctx(), "r0"); err != nil || inside.Active {
		t.Errorf("a refresh token is taken for an access token: %+v, %v", inside, err)
	}
	e.imports(issuer.Import{Tokens: []issuer.ImportToken{{Access: true, Token: secret.NewText("own"), ClientID: moved.id, ExpiresAt: e.clock.now().Add(time.Hour)}}})
	if seen := e.wantAlive("one of the client itself", "own"); seen.Subject != moved.id || seen.Username != "" {
		t.Errorf("introspection is %+v", seen)
	}
	var others oauth.Introspection
	e.post(issuer.IntrospectPath, app, "token", "a0").into(t, &others)
	if others.Active {
		t.Error("another client is told of the token")
	}
	e.clock.advance(time.Hour)
	e.wantDead("the expired access token", "a0")
	e.must(e.admin.DeleteClient(e.ctx(), operator, moved.id))
	e.wantDead("a token of no client", "r0")
}

func TestForeignRevocation(t *testing.T) {
	e := newMoved(t, setup{})
	e.post(issuer.RevokePath, app, "token", "a0").wantError(t, http.StatusBadRequest, oauth.InvalidGrant)
	for _, token := range []string{"a0", "r0", "a0", "never seen"} {
		if r := e.post(issuer.RevokePath, moved, "token", token); r.status != http.StatusOK {
			t.Errorf("revoking %s: %d %s", token, r.status, r.body)
		}
	}
	e.wantDead("the revoked access token", "a0")
	e.wantDead("the revoked refresh token", "r0")
	e.refresh(moved, "r0").wantError(t, http.StatusBadRequest, oauth.InvalidGrant)
	if events := e.events(issuer.EventGrantRevoked); len(events) != 2 || events[0].Cause != issuer.CauseClientRequest {
		t.Errorf("events %+v", events)
	}
	e.imports(issuer.Import{Tokens: []issuer.ImportToken{e.movedToken("r0")}})
	e.wantDead("a revoked token that is imported again", "r0")
}

// TestForeignRotation has clients that do not rotate, and such that are given one
// refresh token only.
func TestForeignRotation(t *testing.T) {
	tighten := func(e *site, rotation issuer.RotationPolicy) {
		client, err := e.db.Client(e.ctx(), moved.id)
		e.must(err)
		client.Policy.Rotation = rotation
		_, err = e.admin.SaveClient(e.ctx(), operator, client)
		e.must(err)
	}
	t.Run("never", func(t *testing.T) {
		e := newMoved(t, setup{})
		tighten(e, issuer.RotateNever)
		kept := e.refreshed(moved, "r0")
		e.clock.advance(time.Hour)
		e.refreshed(moved, "r0")
		e.refreshed(moved, kept.RefreshToken)
		tighten(e, issuer.RotateAlways)
		next := e.refreshed(moved, "r0")
		e.refreshed(moved, next.RefreshToken)
		e.refresh(moved, "r0").wantError(t, http.StatusBadRequest, oauth.InvalidGrant)
		e.wantEvent(issuer.EventReuseDetected, issuer.CauseRefreshTokenReused)
	})
	t.Run("once", func(t *testing.T) {
		e := newMoved(t, setup{})
		tighten(e, issuer.RotateOnce)
		last := e.refreshed(moved, "r0")
		if last.RefreshToken != "" {
			t.Error("there is a second refresh token")
		}
		if again := e.refreshed(moved, "r0"); again.AccessToken != last.AccessToken {
			t.Error("a retry gives another token")
		}
		e.clock.advance(2 * time.Minute)
		e.refresh(moved, "r0").wantError(t, http.StatusBadRequest, oauth.InvalidGrant)
		e.wantAlive("the last access token", last.AccessToken) // nobody was convicted
	})
}

func TestForeignExplained(t *testing.T) {
	e := newMoved(t, setup{})
	for token, kind := range map[string]string{"r0": "imported_refresh_token", "a0": "imported_access_token"} {
		if got, err := e.admin.Explain(e.ctx(), token); err != nil || got.Kind != kind || !got.Alive || got.Grant == nil || got.Grant.ClientID != moved.id {
			t.Errorf("%s is explained as %+v, %v", token, got, err)
		}
	}
	e.refreshed(moved, e.refreshed(moved, "r0").RefreshToken)
	if got, err := e.admin.Explain(e.ctx(), "r0"); err != nil || got.Alive {
		t.Errorf("a spent token is explained as %+v, %v", got, err)
	}
}

// TestForeignStore fails the lookup of an imported token: the client is told to ask
// again, and not that its token is no good.
func TestForeignStore(t *testing.T) {
	e := newFaulty(t, setup{})
	e.manyMoved(1)
	e.login(moved)
	for _, done := range []bool{false, true} {
		e.during(&fault{method: "Rotate", done: done, err: issuer.ErrUnavailable}, func() {
			e.refresh(moved, "r0").wantError(t, http.StatusServiceUnavailable, oauth.TemporarilyUnavailable)
		})
	}
	e.refreshed(moved, e.refreshed(moved, "r0").RefreshToken)
}
