package keeper_test

import (
	"errors"
	"net/http"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
)

const flexitiToken = "/flexiti/online-api/oauth/token"

// flexiti is a world at Flexiti, with a connection that began with nothing.
func flexiti(t testing.TB, life time.Duration) (*world, *site) {
	t.Helper()
	d := providertest.Flexiti()
	d.AccessLife = life
	w, s := ship(t, overHTTP, "flexiti", d, map[string]string{flexitiToken: providertest.TokenPath},
		func(cfg *provider.Config, url string) {
			cfg.Definition.Params["api"] = provider.Param{Pattern: "http:.*", Default: url + "/flexiti/online-api"}
		})
	must[keeper.Connection](t)(w.k.Create(t.Context(), operator, keeper.Import{ID: "shop", Provider: "flexiti"}))
	return w, s
}

var (
	flexitiBegins    = map[string]string{"grant_type": "client_credentials", "client_id": "sim-client", "client_secret": "sim-secret", "scope": "merchant"}
	flexitiRefreshes = map[string]string{"grant_type": "refresh_token", "client_id": "sim-client", "client_secret": "sim-secret", "refresh_token": "*"}
	isUUID           = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
)

// only gives the one request that was sent, which is a form with a reference id.
func (s *site) only(t *testing.T, want map[string]string) (reference string) {
	t.Helper()
	seen := s.take()
	if len(seen) != 1 || seen[0].path != flexitiToken {
		t.Fatalf("%d requests were sent: %+v", len(seen), seen)
	}
	seen[0].expect(t, provider.BodyForm, want)
	if reference = seen[0].header.Get("X-Reference-Id"); !isUUID.MatchString(reference) {
		t.Errorf("the x-reference-id is %q", reference)
	}
	return reference
}

// TestFlexitiThreshold holds the seed's rule, by which a token is over when
// now - created >= expires_in - 60, for both lifetimes that are documented.
func TestFlexitiThreshold(t *testing.T) {
	for _, life := range []time.Duration{1200 * time.Second, 1199 * time.Second} {
		t.Run(life.String(), func(t *testing.T) {
			t.Parallel()
			w, s := flexiti(t, life)
			first := w.token("shop", keeper.Want{})
			reference := s.only(t, flexitiBegins)
			row := w.row("shop")
			if got := row.ExpiresAt.Sub(row.IssuedAt); got != life || first.TokenType != "bearer" || first.Scope.String() != "merchant" {
				t.Errorf("a token of the type %s for %s lives for %s", first.TokenType, first.Scope, got)
			}
			if !row.RefreshExpiresAt.Equal(row.ExpiresAt) {
				t.Errorf("the refresh token lives until %s, and the access token until %s", row.RefreshExpiresAt, row.ExpiresAt)
			}

			// Calculator calls: a token from the cache until the threshold.
			w.clock.move(life - 70*time.Second)
			for range 3 {
				if again := w.token("shop", keeper.Want{}); again.Generation != 1 || !again.AccessToken.Equal(first.AccessToken.Reveal()) {
					t.Errorf("70 seconds before its end there is generation %d", again.Generation)
				}
			}
			if seen := s.take(); len(seen) > 0 {
				t.Errorf("%d requests were sent for what is cached", len(seen))
			}
			w.clock.move(10 * time.Second)
			if next := w.token("shop", keeper.Want{}); next.Generation != 2 || !s.Alive(next.AccessToken.Reveal()) {
				t.Errorf("60 seconds before its end there is generation %d", next.Generation)
			}
			if again := s.only(t, flexitiRefreshes); again == reference {
				t.Error("two calls have the same x-reference-id")
			}
		})
	}
}

// TestFlexitiPurchase holds what the seed does for calls that need the whole
// twenty minutes: a token that is not over is refreshed all the same, or has the
// life that is asked for.
func TestFlexitiPurchase(t *testing.T) {
	w, s := flexiti(t, 20*time.Minute)
	w.token("shop", keeper.Want{})
	s.only(t, flexitiBegins)
	if forced := w.token("shop", keeper.Want{Force: true}); forced.Generation != 2 {
		t.Errorf("forced to generation %d", forced.Generation)
	}
	s.only(t, flexitiRefreshes)
	w.clock.move(5 * time.Minute)
	if enough := w.token("shop", keeper.Want{MinTTL: 10 * time.Minute}); enough.Generation != 2 {
		t.Errorf("for ten minutes there is generation %d", enough.Generation)
	}
	whole := w.token("shop", keeper.Want{MinTTL: 20 * time.Minute})
	if left := whole.ExpiresAt.Sub(w.clock.now()); whole.Generation != 3 || left < 19*time.Minute {
		t.Errorf("for twenty minutes there is generation %d with %s", whole.Generation, left)
	}
	s.only(t, flexitiRefreshes)
}

// TestFlexitiBeginsAgain holds that a refresh token is not tried after the access
// token beside it expired, nor again after it was refused or may have been used:
// client_credentials takes its place, and nobody is asked.
func TestFlexitiBeginsAgain(t *testing.T) {
	for _, tt := range []struct {
		name      string
		fault     providertest.Fault
		pass      time.Duration
		refreshes int
	}{
		{"late", providertest.Fault{}, 21 * time.Minute, 0},
		{"days late", providertest.Fault{}, 90 * time.Hour, 0},
		{"refused", providertest.Fault{NotActed: true, Status: http.StatusBadRequest, Header: map[string]string{"Content-Type": "application/json"},
			Body: func([]byte) []byte {
				return []byte(`{"error":"invalid_grant","error_description":"Invalid refresh token"}`)
			}}, 19*time.Minute + 30*time.Second, 1},
		{"its answer was lost", providertest.DropAfter(), 19*time.Minute + 30*time.Second, 1},
		{"502", providertest.BadGateway(), 19*time.Minute + 30*time.Second, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, s := flexiti(t, 20*time.Minute)
			w.token("shop", keeper.Want{})
			w.clock.move(tt.pass)
			s.Inject(providertest.Rule{Times: 1, Kind: provider.Refresh, Fault: tt.fault})
			w.k.Token(t.Context(), "shop", keeper.Want{}) // which may be the old one
			w.clock.move(time.Minute)
			token := w.token("shop", keeper.Want{})
			if token.Generation != 2 || !s.Alive(token.AccessToken.Reveal()) {
				t.Errorf("generation %d", token.Generation)
			}
			if stats := s.Stats(); stats.Requests[provider.Refresh] != tt.refreshes || stats.Requests[provider.ClientCredentials] != 2 || len(stats.DoubleSpends) > 0 {
				t.Errorf("requests: %v, spent twice: %v", stats.Requests, stats.DoubleSpends)
			}
			if row := w.row("shop"); row.State != keeper.Active || row.Intent != nil || row.Error != "" {
				t.Errorf("the row is %+v", row)
			}
			if slices.Contains(w.events("shop"), keeper.EventReauthorize) {
				t.Error("somebody is asked")
			}
		})
	}
}

// TestFlexitiErrors holds that an error is never kept as if it were tokens, which
// the seed does.
func TestFlexitiErrors(t *testing.T) {
	w, s := flexiti(t, 20*time.Minute)
	first := w.token("shop", keeper.Want{})
	s.SetSecrets("another")
	again := w.token("shop", keeper.Want{Force: true})
	if !again.AccessToken.Equal(first.AccessToken.Reveal()) {
		t.Error("another token is given after a refused refresh")
	}
	w.clock.move(25 * time.Minute)
	_, err := w.k.Token(t.Context(), "shop", keeper.Want{})
	if unusable, ok := errors.AsType[*keeper.Unusable](err); !ok || unusable.Class != provider.BadClient || unusable.NeedsOwner() {
		t.Errorf("got %v", err)
	}
	s.SetSecrets("sim-secret")
	w.clock.move(20 * time.Minute)
	if token := w.token("shop", keeper.Want{}); token.Generation != 2 || !s.Alive(token.AccessToken.Reveal()) {
		t.Errorf("with the right secret there is generation %d", token.Generation)
	}
}

// TestFlexitiOthersToken holds that one shop is one connection however many
// processes use it: two keepers on one database share its token, where the seed
// has a token for each session and no lock.
func TestFlexitiOthersToken(t *testing.T) {
	w, s := flexiti(t, 20*time.Minute)
	other := w.another()
	first := w.token("shop", keeper.Want{})
	second := must[keeper.Token](t)(other.Token(t.Context(), "shop", keeper.Want{}))
	if !second.AccessToken.Equal(first.AccessToken.Reveal()) || len(s.take()) != 1 {
		t.Error("the second process got a token of its own")
	}
}
