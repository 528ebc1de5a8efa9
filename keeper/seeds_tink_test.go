package keeper_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
)

const (
	tinkToken = "/api/v1/oauth/token"
	tinkGrant = "/api/v1/oauth/authorization-grant"
	tinkUser  = "/api/v1/user/create"
)

// tink is a world at Tink, with an app that asks for what the seed asks for.
func tink(t testing.TB, listen listener, dialect providertest.Dialect) (*world, *site) {
	t.Helper()
	return ship(t, listen, "tink", dialect,
		map[string]string{tinkToken: providertest.TokenPath, tinkGrant: providertest.MintPath, tinkUser: providertest.OwnersPath, "/me": providertest.MePath},
		func(cfg *provider.Config, url string) {
			leadTo(&cfg.Definition, "https://{params.host}", url)
			delete(cfg.Definition.Params, "host")
		}, "accounts:read", "balances:read", "transactions:read", "provider-consents:read")
}

// withoutRefresh is Tink for an app to which it gives no refresh tokens.
func withoutRefresh(life time.Duration) providertest.Dialect {
	d := providertest.Tink()
	d.Rotation, d.AccessLife = provider.RotationNone, life
	return d
}

// user makes a user at Tink as an app does: by its own token.
func (s *site) user(t testing.TB, client *http.Client, external string) {
	t.Helper()
	post := func(path, kind, token, body string) map[string]any {
		req := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+path, strings.NewReader(body)))
		req.Header.Set("Content-Type", kind)
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp := must[*http.Response](t)(client.Do(req))
		defer resp.Body.Close()
		var fields map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&fields); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s gave %d %v, %v", path, resp.StatusCode, fields, err)
		}
		return fields
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"sim-client"}, "client_secret": {"sim-secret"}, "scope": {"authorization:grant,user:create"}}
	token := post(tinkToken, oauth.FormType, "", form.Encode())
	post(tinkUser, "application/json", token["access_token"].(string), `{"external_user_id":"`+external+`","market":"SE","locale":"en_US"}`)
	s.take()
}

// users makes users at Tink, and a connection without any tokens for each.
func (w *world) users(s *site, names ...string) {
	w.t.Helper()
	for _, name := range names {
		s.user(w.t, http.DefaultClient, name)
		must[keeper.Connection](w.t)(w.k.Create(w.t.Context(), operator, keeper.Import{ID: name, Provider: "tink", Owner: name}))
	}
}

// TestTinkWithoutRefreshTokens goes through the seed's two calls for each of two
// users: the app's own token makes a code for the user, and the code gives the
// user's token. That is how a connection begins and how it is renewed, so that
// nobody authorizes again every half hour.
func TestTinkWithoutRefreshTokens(t *testing.T) {
	for _, life := range []time.Duration{1800 * time.Second, 7200 * time.Second} {
		t.Run(life.String(), func(t *testing.T) {
			t.Parallel()
			w, s := tink(t, overHTTP, withoutRefresh(life))
			w.users(s, "alice", "bob")
			alice := w.token("alice", keeper.Want{})
			checkTinkCalls(t, s.take(), "alice")
			if left := alice.ExpiresAt.Sub(w.clock.now()); left > life || left < life-time.Minute {
				t.Errorf("it lives for %s", left)
			}
			bob := w.token("bob", keeper.Want{})
			checkTinkCalls(t, s.take(), "bob")
			for token, owner := range map[string]string{alice.AccessToken.Reveal(): "alice", bob.AccessToken.Reveal(): "bob"} {
				if got := s.Grant(s.GrantOf(token)).Owner; got != owner {
					t.Errorf("the token of %s is of %q", owner, got)
				}
			}

			w.clock.move(life - 6*time.Minute)
			if again := w.token("alice", keeper.Want{}); again.Generation != 1 || len(s.take()) > 0 {
				t.Error("it was renewed with six minutes left")
			}
			w.clock.move(time.Minute)
			if next := w.token("alice", keeper.Want{}); next.Generation != 2 || !s.Alive(next.AccessToken.Reveal()) {
				t.Errorf("with five minutes left there is generation %d", next.Generation)
			}
			checkTinkCalls(t, s.take(), "alice")
			w.clock.move(3 * 24 * time.Hour)
			if next := w.token("bob", keeper.Want{}); next.Generation != 2 || !s.Alive(next.AccessToken.Reveal()) {
				t.Errorf("days after it expired there is generation %d", next.Generation)
			}
			row := w.row("bob")
			if row.State != keeper.Active || !row.Refreshable || !row.RefreshExpiresAt.IsZero() {
				t.Errorf("the row is %+v", row)
			}
			if got, want := w.events("bob"), []string{keeper.EventCreated, keeper.EventReminted, keeper.EventReminted}; !slices.Equal(got, want) {
				t.Errorf("events %v, want %v", got, want)
			}
		})
	}
}

// checkTinkCalls holds that a user's token was got by the seed's two calls, after
// the one for the app's own token, and by nothing else.
func checkTinkCalls(t *testing.T, seen []sent, user string) {
	t.Helper()
	if len(seen) != 3 || seen[0].path != tinkToken || seen[1].path != tinkGrant || seen[2].path != tinkToken {
		t.Fatalf("%d requests were sent: %+v", len(seen), seen)
	}
	app := map[string]string{"client_id": "sim-client", "client_secret": "sim-secret"}
	with := func(more map[string]string) map[string]string {
		for name, value := range app {
			more[name] = value
		}
		return more
	}
	seen[0].expect(t, provider.BodyForm, with(map[string]string{"grant_type": "client_credentials", "scope": "authorization:grant"}))
	seen[1].expect(t, provider.BodyForm, map[string]string{"external_user_id": user, "scope": "accounts:read,balances:read,transactions:read,provider-consents:read"})
	seen[2].expect(t, provider.BodyForm, with(map[string]string{"grant_type": "authorization_code", "code": "*"}))
	for i, bearer := range []bool{false, true, false} {
		if token := seen[i].header.Get("Authorization"); strings.HasPrefix(token, "Bearer sim_at_") != bearer || (token != "") != bearer {
			t.Errorf("request %d has the header Authorization: %t", i+1, token != "")
		}
	}
}

// TestTinkFiveMinutesAhead runs the keeper for an hour and a half with users who
// came one after the other: each has a token of their own at every moment,
// renewed when it has five minutes left, or by chance up to a tenth of its life
// earlier.
func TestTinkFiveMinutesAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := tink(t, inMemory, withoutRefresh(30*time.Minute))
		w.change = seededChance(w.change)
		w.start()
		var names []string
		runIn(t, func() {
			for i := range 6 {
				names = append(names, fmt.Sprintf("user-%d", i))
				s.Connect(names[i]) // who is known at Tink
				must[keeper.Connection](t)(w.k.Create(t.Context(), operator, keeper.Import{ID: names[i], Provider: "tink", Owner: names[i]}))
				time.Sleep(100 * time.Second)
			}
			w.staysAhead(t, names)
		}, w.k)
		for _, name := range names {
			token := w.token(name, keeper.Want{})
			if got := s.Grant(s.GrantOf(token.AccessToken.Reveal())); got.Owner != name || !s.Alive(token.AccessToken.Reveal()) {
				t.Errorf("%s has the token of %q", name, got.Owner)
			}
			if token.Generation < 4 || token.Generation > 6 {
				t.Errorf("%s was renewed %d times", name, token.Generation)
			}
		}
	})
}

// staysAhead looks every half minute whether tokens are alive, and with how much
// left they were renewed.
func (w *world) staysAhead(t *testing.T, names []string) {
	const least, most = 4*time.Minute + 29*time.Second, 8 * time.Minute
	generations, expires := map[string]uint64{}, map[string]time.Time{}
	for range 90 * 2 {
		time.Sleep(30 * time.Second)
		for _, name := range names {
			row, left := w.row(name), time.Until(expires[name])
			if renewed := generations[name] > 0 && row.Generation != generations[name]; renewed && (left > most || left < least) {
				t.Errorf("%s was renewed with %s left", name, left)
			}
			if left := time.Until(row.ExpiresAt); left < least {
				t.Errorf("the token of %s has %s left", name, left)
			}
			generations[name], expires[name] = row.Generation, row.ExpiresAt
		}
	}
}

// seededChance gives a keeper numbers for jitter that differ, and are the same
// in each run.
func seededChance(change func(*keeper.Config)) func(*keeper.Config) {
	return func(cfg *keeper.Config) {
		change(cfg)
		random, mu := randomOf(11), sync.Mutex{}
		cfg.Rand = func() float64 {
			mu.Lock()
			defer mu.Unlock()
			return random.Float64()
		}
	}
}

// TestTinkRefreshToken holds that an app which gets refresh tokens uses them, and
// that their loss asks nobody: the user is re-minted.
func TestTinkRefreshToken(t *testing.T) {
	t.Run("used", func(t *testing.T) {
		w, s := tink(t, overHTTP, providertest.Tink())
		w.users(s, "alice")
		w.token("alice", keeper.Want{})
		s.take()
		w.clock.move(26 * time.Minute)
		if next := w.token("alice", keeper.Want{}); next.Generation != 2 || !s.Alive(next.AccessToken.Reveal()) {
			t.Errorf("generation %d", next.Generation)
		}
		seen := s.take()
		if len(seen) != 1 || seen[0].path != tinkToken {
			t.Fatalf("%d requests were sent: %+v", len(seen), seen)
		}
		seen[0].expect(t, provider.BodyForm, map[string]string{"grant_type": "refresh_token", "refresh_token": "*", "client_id": "sim-client", "client_secret": "sim-secret"})
	})
	t.Run("kept where the answer has none", func(t *testing.T) {
		d := providertest.Tink()
		d.Rotation = provider.RotationFixed
		w, s := tink(t, overHTTP, d)
		w.users(s, "alice")
		for generation := uint64(1); generation < 4; generation++ {
			if got := w.token("alice", keeper.Want{Force: generation > 1}); got.Generation != generation {
				t.Fatalf("generation %d", got.Generation)
			}
		}
		if n := s.Stats().Requests[provider.Refresh]; n != 2 {
			t.Errorf("%d refreshes", n)
		}
	})
	for _, tt := range []struct {
		name  string
		fault func(w *world, s *site)
	}{
		{"refused", func(_ *world, s *site) {
			s.Inject(providertest.Rule{Times: 1, Kind: provider.Refresh, Fault: providertest.Fault{NotActed: true, Status: http.StatusBadRequest,
				Header: map[string]string{"Content-Type": "application/json"},
				Body: func([]byte) []byte {
					return []byte(`{"errorMessage":"Invalid refresh token","errorCode":"oauth.invalid_grant"}`)
				}}})
		}},
		{"answer lost", func(_ *world, s *site) {
			s.Inject(providertest.Rule{Times: 1, Kind: provider.Refresh, Fault: providertest.DropAfter()})
		}},
		{"answer unreadable", func(_ *world, s *site) {
			s.Inject(providertest.Rule{Times: 1, Kind: provider.Refresh, Fault: providertest.BadGateway()})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, s := tink(t, overHTTP, providertest.Tink())
			w.users(s, "alice")
			w.token("alice", keeper.Want{})
			tt.fault(w, s)
			w.clock.move(26 * time.Minute)
			w.k.Token(t.Context(), "alice", keeper.Want{Force: true}) // which may say that it failed
			w.clock.move(5 * time.Minute)
			if got := w.token("alice", keeper.Want{}); got.Generation != 2 || !s.Alive(got.AccessToken.Reveal()) {
				t.Errorf("generation %d", got.Generation)
			}
			if stats := s.Stats(); len(stats.DoubleSpends) > 0 || stats.Requests[provider.Refresh] != 1 {
				t.Errorf("%d refreshes, spent twice: %v", stats.Requests[provider.Refresh], stats.DoubleSpends)
			}
			if row := w.row("alice"); row.State != keeper.Active || row.Intent != nil {
				t.Errorf("the row is %+v", row)
			}
			if slices.Contains(w.events("alice"), keeper.EventReauthorize) {
				t.Error("the user was asked")
			}
		})
	}
}

// TestTinkScopes holds that a user who was asked for four scopes and granted
// three is known to have three, is asked for four the next time, and that the
// loss of one more is told.
func TestTinkScopes(t *testing.T) {
	d := withoutRefresh(30 * time.Minute)
	d.Withheld = []string{"provider-consents:read"}
	w, s := tink(t, overHTTP, d)
	w.users(s, "alice")
	token := w.token("alice", keeper.Want{})
	if want := (oauth.Scope{"accounts:read", "balances:read", "transactions:read"}); !token.Scope.Equal(want) {
		t.Errorf("granted are %v", token.Scope)
	}
	if row := w.row("alice"); len(row.Asked) != 4 || !row.Asked.Covers(oauth.Scope{"provider-consents:read"}) {
		t.Errorf("asked for were %v", row.Asked)
	}
	checkTinkCalls(t, s.take(), "alice")
	w.token("alice", keeper.Want{Force: true})
	checkTinkCalls(t, s.take(), "alice") // with all four
	if slices.Contains(w.events("alice"), keeper.EventScopeChanged) {
		t.Error("nothing changed, and it is told")
	}
	grants := func(scope string) keeper.Token {
		s.Clear()
		s.Inject(providertest.Rule{Kind: provider.Exchange, Fault: providertest.Set("scope", scope)})
		return w.token("alice", keeper.Want{Force: true})
	}
	token = grants("accounts:read,transactions:read")
	events := must[[]keeper.Event](t)(w.db.Keeper().Events(t.Context(), keeper.EventFilter{Connection: "alice", Limit: 1}))
	if len(token.Scope) != 2 || events[0].Type != keeper.EventScopeChanged || !strings.Contains(events[0].Detail, "balances:read") {
		t.Errorf("granted are %v, told is %+v", token.Scope, events[0])
	}
	token = grants("accounts:read,balances:read,transactions:read,provider-consents:read")
	if len(token.Scope) != 4 || w.row("alice").Asked != nil {
		t.Errorf("granted are %v, asked for beyond that %v", token.Scope, w.row("alice").Asked)
	}
}

// TestTinkErrors holds what Tink's errors mean, which have an errorCode and no
// error.
func TestTinkErrors(t *testing.T) {
	t.Run("the client is refused", func(t *testing.T) {
		w, s := tink(t, overHTTP, withoutRefresh(30*time.Minute))
		w.users(s, "alice", "bob")
		s.SetSecrets("another")
		for _, name := range []string{"alice", "bob"} {
			_, err := w.k.Token(t.Context(), name, keeper.Want{})
			if unusable, ok := errors.AsType[*keeper.Unusable](err); !ok || unusable.Class != provider.BadClient || unusable.NeedsOwner() {
				t.Errorf("%s gets %v", name, err)
			}
			if row := w.row(name); row.State != keeper.Active {
				t.Errorf("%s is %s", name, row.State)
			}
		}
		if n := len(s.take()); n != 1 {
			t.Errorf("%d requests were sent by an app that is refused", n)
		}
		if got := alarms(t, w); !slices.Equal(got, []string{keeper.EventBadClient + " tink"}) {
			t.Errorf("alarms %v", got)
		}
	})
	t.Run("too many requests", func(t *testing.T) {
		w, s := tink(t, overHTTP, withoutRefresh(30*time.Minute))
		w.users(s, "alice")
		s.Inject(providertest.Rule{Times: 1, Fault: providertest.Unavailable(http.StatusTooManyRequests, "40")})
		_, err := w.k.Token(t.Context(), "alice", keeper.Want{})
		unusable, ok := errors.AsType[*keeper.Unusable](err)
		if !ok || unusable.Class != provider.Throttled || unusable.RetryAfter < 39*time.Second {
			t.Fatalf("got %v", err)
		}
		w.clock.move(30 * time.Second)
		if _, err := w.k.Token(t.Context(), "alice", keeper.Want{}); err == nil || len(s.take()) != 1 {
			t.Errorf("it was asked again too early: %v", err)
		}
		w.clock.move(15 * time.Second)
		w.token("alice", keeper.Want{})
	})
	t.Run("the user is not there", func(t *testing.T) {
		w, s := tink(t, overHTTP, withoutRefresh(30*time.Minute))
		must[keeper.Connection](t)(w.k.Create(t.Context(), operator, keeper.Import{ID: "ghost", Provider: "tink", Owner: "ghost"}))
		_, err := w.k.Token(t.Context(), "ghost", keeper.Want{})
		if unusable, ok := errors.AsType[*keeper.Unusable](err); !ok || unusable.NeedsOwner() || !strings.Contains(unusable.Detail, "not_found") {
			t.Errorf("got %v", err)
		}
		if n := len(s.take()); n != 2 {
			t.Errorf("%d requests were sent", n)
		}
	})
}
