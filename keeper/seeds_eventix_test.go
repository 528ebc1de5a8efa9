package keeper_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
)

const (
	eventixTokens    = "/tokens"
	eventixAuthorize = "/tokens/authorize"
)

// eventix is a world at Eventix, which calls its API as well as its token
// endpoint on one host.
func eventix(t testing.TB) (*world, *site) {
	t.Helper()
	return ship(t, overHTTP, "eventix", providertest.Eventix(),
		map[string]string{eventixTokens: providertest.TokenPath, eventixAuthorize: providertest.AuthorizePath, "/me": providertest.MePath},
		func(cfg *provider.Config, url string) {
			leadTo(&cfg.Definition, "https://auth.openticket.tech", url)
			leadTo(&cfg.Definition, "https://api.eventix.io", url)
		})
}

// TestEventixConnect goes through the seed: the owner's browser, a code, and a
// token request in JSON. There is no PKCE and no scope.
func TestEventixConnect(t *testing.T) {
	w, s := eventix(t)
	companies := "0b9f4f4e-7a4a-4a50-9c3e-4c1b2f6f5d11,1c9f4f4e-7a4a-4a50-9c3e-4c1b2f6f5d12"
	in := w.link(keeper.Connect{Provider: "eventix", Owner: "org", Connection: "org", Params: map[string]string{"company": companies}})
	query := w.visit(in)
	asked := must[url.Values](t)(url.ParseQuery(s.take()[0].query))
	state := asked.Get("state")
	want := url.Values{"client_id": {"sim-client"}, "redirect_uri": {"http://127.0.0.1/connect/callback"}, "response_type": {"code"}, "state": {state}}
	if fmt.Sprint(asked) != fmt.Sprint(want) {
		t.Errorf("the browser asked for %v, want %v", asked, want)
	}
	_, row, err := w.k.Finish(t.Context(), query, cookie)
	if err != nil {
		t.Fatal(err)
	}
	s.take()[0].expect(t, provider.BodyJSON, map[string]string{"grant_type": "authorization_code", "client_id": "sim-client",
		"client_secret": "sim-secret", "redirect_uri": "http://127.0.0.1/connect/callback", "code": query.Get("code")})
	if life := row.ExpiresAt.Sub(row.IssuedAt); life != 259200*time.Second {
		t.Errorf("the access token lives for %s", life)
	}
	if life := row.RefreshExpiresAt.Sub(row.IssuedAt); life != 31535999*time.Second {
		t.Errorf("the refresh token lives for %s", life)
	}
	checkCompanies(t, w.row("org"))

	resp := must[*http.Response](t)(w.k.Client(t.Context(), "org").Get(s.url + "/me"))
	resp.Body.Close()
	called := s.take()[0].header
	if resp.StatusCode != http.StatusOK || called.Get("Company") != companies || called.Get("Authorization") == "" {
		t.Errorf("the API answered %d to the companies %q", resp.StatusCode, called.Get("Company"))
	}

	w.clock.move(3*24*time.Hour - 6*time.Minute)
	if token := w.token("org", keeper.Want{}); token.Generation != 1 || token.TokenType != "Bearer" {
		t.Errorf("with six minutes left there is generation %d of the type %s", token.Generation, token.TokenType)
	}
	w.clock.move(2 * time.Minute)
	if token := w.token("org", keeper.Want{}); token.Generation != 2 || !s.Alive(token.AccessToken.Reveal()) {
		t.Errorf("with four minutes left there is generation %d", token.Generation)
	}
	s.take()[0].expect(t, provider.BodyJSON, map[string]string{"grant_type": "refresh_token", "client_id": "sim-client",
		"client_secret": "sim-secret", "refresh_token": "*"})
	renewed := w.row("org")
	checkCompanies(t, renewed)
	if life := renewed.RefreshExpiresAt.Sub(renewed.IssuedAt); life != 31535999*time.Second {
		t.Errorf("after a refresh the refresh token lives for %s", life)
	}
}

// checkCompanies holds that the answer's info.companies are kept.
func checkCompanies(t *testing.T, row keeper.Connection) {
	t.Helper()
	info, _ := row.Metadata["info"].(map[string]any)
	list, _ := info["companies"].([]any)
	if len(list) != 2 || fmt.Sprint(list[0]) == "" || fmt.Sprint(list[1]) != "map[guid:id-owner-2]" {
		t.Errorf("kept is %v", row.Metadata)
	}
}

// TestEventixForYears refreshes for three years, a quarter of them in time and
// the others late: every refresh token is used once, and the grant is alive at
// the end.
func TestEventixForYears(t *testing.T) {
	w, s := eventix(t)
	grant := w.connect("org", "eventix")
	day, random := 24*time.Hour, randomOf(3)
	for at := time.Duration(0); at < 3*365*day; {
		pause := time.Duration(random.Int64N(int64(60 * day)))
		if random.IntN(4) > 0 {
			pause = 3*day - time.Duration(random.Int64N(int64(5*time.Minute)))
		}
		at += pause
		w.clock.move(pause)
		if token := w.token("org", keeper.Want{}); !s.Alive(token.AccessToken.Reveal()) {
			t.Fatalf("after %s the token is dead", at)
		}
	}
	got := s.Grant(grant)
	last := len(got.Spends) - 1
	if got.State != providertest.Live || last < 40 || slices.ContainsFunc(got.Spends[:last], func(n int) bool { return n != 1 }) || got.Spends[last] != 0 {
		t.Errorf("at the provider: %+v", got)
	}
	if row := w.row("org"); int(row.Generation) != last+1 {
		t.Errorf("generation %d after %d refreshes", row.Generation, last)
	}
}

// TestEventixIsKeptAlive holds that a connection which nobody reads, and whose
// access token is not kept fresh, is refreshed before its year is over.
func TestEventixIsKeptAlive(t *testing.T) {
	w, s := eventix(t)
	_, tokens := s.Connect("org")
	must[keeper.Connection](t)(w.k.Create(t.Context(), operator, keeper.Import{ID: "org", Provider: "eventix", Background: keeper.OnDemand,
		AccessToken: tokens.AccessToken, RefreshToken: tokens.RefreshToken, ExpiresAt: tokens.ExpiresAt, RefreshEnds: tokens.RefreshExpiresAt}))
	left := w.row("org").RefreshExpiresAt.Sub(w.row("org").DueAt)
	if left < 7*24*time.Hour || left > 8*24*time.Hour {
		t.Errorf("it is due %s before its end", left)
	}
}

// TestEventixAfterAYear holds that nothing is sent for a refresh token of which
// the keeper knows that it expired, and that its owner is asked.
func TestEventixAfterAYear(t *testing.T) {
	w, s := eventix(t)
	w.connect("org", "eventix")
	w.connect("late", "eventix")
	w.clock.move(365*24*time.Hour - 10*time.Second)
	if token := w.token("late", keeper.Want{}); token.Generation != 2 {
		t.Errorf("in the last seconds of its year it gives generation %d", token.Generation)
	}
	s.take()
	w.clock.move(10 * time.Second)
	for _, want := range []keeper.Want{{}, {Force: true}, {MinTTL: time.Hour}} {
		_, err := w.k.Token(t.Context(), "org", want)
		unusable, ok := errors.AsType[*keeper.Unusable](err)
		if !ok || unusable.State != keeper.Reauthorize || unusable.Cause != keeper.CauseRefreshTokenExpired || !unusable.NeedsOwner() || unusable.Since.IsZero() {
			t.Fatalf("got %v", err)
		}
	}
	if _, err := w.k.Refresh(t.Context(), operator, "org", true); err == nil {
		t.Error("it was refreshed")
	}
	if seen := s.take(); len(seen) > 0 {
		t.Errorf("%d requests were sent", len(seen))
	}
	if got, want := w.events("org"), []string{keeper.EventCreated, keeper.EventReauthorize}; !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}

	// The owner comes back, and the same connection lives.
	_, row, err := w.k.Finish(t.Context(), w.visit(w.link(keeper.Connect{Provider: "eventix", Connection: "org"})), cookie)
	if err != nil || row.ID != "org" || row.State != keeper.Active || row.Owner != "org" {
		t.Errorf("after reconnecting: %+v, %v", row, err)
	}
	if token := w.token("org", keeper.Want{}); !s.Alive(token.AccessToken.Reveal()) {
		t.Error("the token is dead")
	}
}

// TestEventixLosesAnAnswer holds that a refresh token which can be used once is
// not sent again while there is something to lose, although no window is
// documented, and that its access token serves to its end.
func TestEventixLosesAnAnswer(t *testing.T) {
	for name, fault := range map[string]providertest.Fault{"lost before": providertest.DropBefore(), "lost after": providertest.DropAfter()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, s := eventix(t)
			w.connect("org", "eventix")
			w.clock.move(2 * 24 * time.Hour)
			s.Inject(providertest.Rule{Times: 1, Fault: fault})
			old := w.token("org", keeper.Want{Force: true})
			if row := w.row("org"); old.Generation != 1 || row.State != keeper.InDoubt || row.Cause != keeper.CauseAnswerLost {
				t.Fatalf("generation %d, and the row is %s (%s)", old.Generation, row.State, row.Cause)
			}
			for range 23 {
				w.clock.move(time.Hour)
				w.k.Token(t.Context(), "org", keeper.Want{Force: true})
			}
			if again := w.token("org", keeper.Want{}); again.Generation != 1 || s.Stats().Requests[provider.Refresh] != 1 {
				t.Errorf("generation %d after %d requests", again.Generation, s.Stats().Requests[provider.Refresh])
			}
			w.clock.move(2 * time.Hour)
			token, err := w.k.Token(t.Context(), "org", keeper.Want{})
			if acted := name == "lost after"; acted {
				if unusable, ok := errors.AsType[*keeper.Unusable](err); !ok || unusable.Cause != keeper.CauseReplayed || !unusable.NeedsOwner() {
					t.Errorf("got %v", err)
				}
			} else if err != nil || token.Generation != 2 || !s.Alive(token.AccessToken.Reveal()) {
				t.Errorf("got generation %d, %v", token.Generation, err)
			}
			if n := s.Stats().Requests[provider.Refresh]; n != 2 {
				t.Errorf("%d requests", n)
			}
		})
	}
}
