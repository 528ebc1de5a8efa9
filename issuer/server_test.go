package issuer_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/storetest"
	dto "github.com/prometheus/client_model/go"
)

// meddled is a site whose store does something before the nth call of Rotate.
func meddled(t *testing.T) (e *site, before func(nth int, do func())) {
	t.Helper()
	calls, at, meddle := 0, 0, func() {}
	e = newSite(t, setup{wrap: func(s issuer.Store) issuer.Store {
		return storetest.Faulty{Store: s, Before: func(method string) error {
			if method == "Rotate" {
				if calls++; calls == at {
					meddle()
				}
			}
			return nil
		}}
	}})
	return e, func(nth int, do func()) { calls, at, meddle = 0, nth, do }
}

// TestHealedMeanwhile: between finding a row behind and healing it, another
// process heals it, to the very generation that is presented.
func TestHealedMeanwhile(t *testing.T) {
	e, before := meddled(t)
	chain := []oauth.TokenResponse{e.login(app)}
	backup := e.backup()
	for range 3 {
		chain = append(chain, e.refreshed(app, chain[len(chain)-1].RefreshToken))
	}
	e.restore(backup)
	behind := e.grant()
	before(2, func() {
		_, done, err := e.db.Rotate(e.ctx(), issuer.Rotation{ID: behind.ID, ClientID: app.id, From: 1, To: 4, KeyID: 1, At: e.clock.now(), ExpiresAt: behind.ExpiresAt, AccessExpiresAt: behind.AccessExpiresAt})
		if err != nil || !done {
			t.Errorf("%t, %v", done, err)
		}
	})
	next := e.refreshed(app, chain[3].RefreshToken)
	if grant := e.grant(); grant.Generation != 5 {
		t.Errorf("generation %d", grant.Generation)
	}
	e.wantAlive("refresh token", next.RefreshToken)
	if n := len(e.events(issuer.EventGrantHealed)); n != 0 {
		t.Errorf("%d healings, and it was another's", n)
	}
}

// TestHealedInPlaceMeanwhile: without rotation the other process has done all
// there was to do.
func TestHealedInPlaceMeanwhile(t *testing.T) {
	e, before := meddled(t)
	first := e.login(app)
	backup := e.backup()
	third := e.refreshed(app, e.refreshed(app, first.RefreshToken).RefreshToken)
	e.restore(backup)
	e.register(app, issuer.Client{GrantTypes: []string{oauth.GrantPassword, oauth.GrantRefreshToken}, Policy: issuer.Policy{Rotation: issuer.RotateNever}})
	behind, healed := e.grant(), issuer.Grant{}
	before(1, func() {
		var err error
		healed, _, err = e.db.Rotate(e.ctx(), issuer.Rotation{ID: behind.ID, ClientID: app.id, From: 1, To: 3, KeyID: 1, At: e.clock.now(), ExpiresAt: behind.ExpiresAt, AccessExpiresAt: behind.AccessExpiresAt})
		e.must(err)
		e.clock.advance(time.Minute)
	})
	if kept := e.refreshed(app, third.RefreshToken); kept.RefreshToken != third.RefreshToken {
		t.Error("the refresh token was rotated")
	}
	if grant := e.grant(); grant.Generation != 3 || !grant.RotatedAt.Equal(healed.RotatedAt) || !grant.ExpiresAt.Equal(healed.ExpiresAt) {
		t.Errorf("the row moved on from %+v to %+v", healed, grant)
	}
}

// TestHealedFurtherMeanwhile: the other process healed with a newer token, so
// that this one is old by now.
func TestHealedFurtherMeanwhile(t *testing.T) {
	e, before := meddled(t)
	chain := []oauth.TokenResponse{e.login(app)}
	backup := e.backup()
	for range 4 {
		chain = append(chain, e.refreshed(app, chain[len(chain)-1].RefreshToken))
	}
	e.restore(backup)
	before(2, func() {
		before(0, nil)
		e.refreshed(app, chain[4].RefreshToken)
	})
	e.refresh(app, chain[2].RefreshToken).wantError(t, 400, oauth.InvalidGrant)
	e.wantEvent(issuer.EventReuseDetected, issuer.CauseRefreshTokenReused)
}

// TestRevokedMeanwhile: between the look at the scope and the step.
func TestRevokedMeanwhile(t *testing.T) {
	e, before := meddled(t)
	tokens := e.login(app)
	before(1, func() { e.must(e.admin.RevokeGrant(e.ctx(), operator, e.grant().ID)) })
	e.refresh(app, tokens.RefreshToken, "scope", "read").wantError(t, 400, oauth.InvalidGrant)
	if grant := e.grant(); grant.Generation != 1 {
		t.Errorf("a revoked grant was stepped to %d", grant.Generation)
	}
}

// stubborn is a store that never steps and never says why.
type stubborn struct{ issuer.Store }

func (s stubborn) Rotate(ctx context.Context, r issuer.Rotation) (issuer.Grant, bool, error) {
	grant, err := s.Grant(ctx, r.ID)
	return grant, false, err
}

func TestJudgingEnds(t *testing.T) {
	e := newSite(t, setup{wrap: func(s issuer.Store) issuer.Store { return stubborn{s} }})
	e.refresh(app, e.login(app).RefreshToken).wantError(t, 503, oauth.TemporarilyUnavailable)
}

// TestAlgorithmChange: a client is set to an algorithm that the key of its
// tokens cannot sign.
func TestAlgorithmChange(t *testing.T) {
	e := newSite(t, setup{})
	as := e.variant("variant", issuer.Policy{})
	first := e.login(as)
	lost := e.refreshed(as, first.RefreshToken)
	e.register(as, issuer.Client{GrantTypes: []string{oauth.GrantPassword, oauth.GrantRefreshToken}, Policy: issuer.Policy{SigningAlg: secret.RS256}})
	again := e.refreshed(as, first.RefreshToken)
	if again.RefreshToken != lost.RefreshToken || decodeSegment(t, again.AccessToken, 0)["alg"] != "RS256" {
		t.Errorf("header %v", decodeSegment(t, again.AccessToken, 0))
	}
	e.wantAlive("the token of the old algorithm", lost.AccessToken)
	e.wantAlive("the token of the new one", again.AccessToken)
}

// TestReplicaLearnsOfRS256: a client wants an algorithm for which another
// process has made a key that this one has not loaded. It looks before it
// writes anything.
func TestReplicaLearnsOfRS256(t *testing.T) {
	e := newSite(t, setup{})
	first, ring := e.server, e.ring
	e.open()
	as := e.variant("rs", issuer.Policy{SigningAlg: secret.RS256})
	e.handler.Store(first)
	if _, err := ring.Current().Signer(secret.RS256); err == nil {
		t.Fatal("this process knows the key already")
	}
	e.post(issuer.TokenPath, as, "grant_type", "client_credentials").tokens(t)
}

// TestAddress: without a port, and as it is where there is none.
func TestAddress(t *testing.T) {
	e := newSite(t, setup{})
	for remote, want := range map[string]string{"192.0.2.7:4711": "192.0.2.7", "[2001:db8::1]:4711": "2001:db8::1", "@": "@", "": ""} {
		req := httptest.NewRequest(http.MethodPost, issuer.TokenPath, strings.NewReader("grant_type=client_credentials&client_id=app&client_secret="+other.secret))
		req.Header.Set("Content-Type", oauth.FormType)
		req.RemoteAddr = remote
		e.server.ServeHTTP(httptest.NewRecorder(), req)
		if event := e.events(issuer.EventClientRefused)[0]; event.Address != want {
			t.Errorf("%q is noted as %q", remote, event.Address)
		}
	}
}

// TestDefaultsOfConfig: nothing but what is required.
func TestDefaultsOfConfig(t *testing.T) {
	e := newSite(t, setup{})
	ring, err := secret.OpenRing(e.ctx(), e.root, e.db, time.Now, false)
	e.must(err)
	server, err := issuer.New(issuer.Config{Issuer: "https://issuer.example", Store: e.db, Keys: ring})
	e.must(err)
	req := httptest.NewRequest(http.MethodPost, issuer.TokenPath, strings.NewReader("grant_type=client_credentials"))
	req.Header.Set("Content-Type", oauth.FormType)
	req.Header.Set("Authorization", oauth.BasicHeader(app.id, app.secret))
	w := httptest.NewRecorder()
	server.ServeHTTP(w, req)
	tokens := reply{w.Code, w.Header(), w.Body.String()}.tokens(t)
	if tokens.ExpiresIn != 3600 || tokens.Scope != "" {
		t.Errorf("answer %+v, want no scope where the server knows none", tokens)
	}
}

// count is the value of a metric with a label.
func (e *site) count(name, label string) float64 {
	e.t.Helper()
	families, err := e.metrics.Gather()
	e.must(err)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() != name || !hasLabel(metric, label) {
				continue
			}
			return metric.GetCounter().GetValue() + float64(metric.GetHistogram().GetSampleCount())
		}
	}
	return 0
}

func hasLabel(metric *dto.Metric, value string) bool {
	for _, pair := range metric.GetLabel() {
		if pair.GetValue() == value {
			return true
		}
	}
	return false
}

// TestMetrics: every outcome of a refresh is counted, and every refusal.
func TestMetrics(t *testing.T) {
	e := newSite(t, setup{})
	never := e.variant("never", issuer.Policy{Rotation: issuer.RotateNever})
	first, kept := e.login(app), e.login(never)
	backup := e.backup()
	last := e.refreshed(app, e.refreshed(app, first.RefreshToken).RefreshToken)
	e.restore(backup) // with counters that begin anew
	e.refreshed(app, last.RefreshToken)
	e.refreshed(app, last.RefreshToken)
	e.refreshed(never, kept.RefreshToken)
	e.refreshed(never, kept.RefreshToken)
	chain := e.login(app)
	e.refreshed(app, e.refreshed(app, chain.RefreshToken).RefreshToken)
	e.refresh(app, chain.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
	e.authorizePage(nil)
	for _, want := range []struct {
		name, label string
		n           float64
	}{
		{"evergrant_refreshes_total", "rotated", 2}, {"evergrant_refreshes_total", "retried", 1}, {"evergrant_refreshes_total", "healed", 1},
		{"evergrant_refreshes_total", "kept", 2}, {"evergrant_refreshes_total", "reused", 1},
		{"evergrant_token_seconds", "refresh_token", 6}, {"evergrant_token_seconds", "password", 1},
		{"evergrant_refusals_total", oauth.InvalidGrant, 1}, {"evergrant_refusals_total", oauth.InvalidRequest, 1},
	} {
		if got := e.count(want.name, want.label); got != want.n {
			t.Errorf("%s of %s is %v, want %v", want.name, want.label, got, want.n)
		}
	}
}

// TestBackupsAreNoted: whoever takes a copy of the database is in the events.
func TestBackupsAreNoted(t *testing.T) {
	e := newSite(t, setup{})
	e.must(e.admin.BackingUp(e.ctx(), operator))
	if event := e.wantEvent(issuer.EventBackedUp, ""); event.Actor != "operator" || event.Address != operator.Address || !event.At.Equal(e.clock.now()) {
		t.Errorf("event %+v", event)
	}
}
