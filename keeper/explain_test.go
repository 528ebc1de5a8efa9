package keeper_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
	"github.com/evergrant/evergrant/secret"
)

func TestExplain(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(w *world)
		alive   bool
		cause   string
		verdict []string // words of it
		repair  string   // words of it; "" for nothing
	}{
		{"fresh", func(*world) {}, true, "", []string{"lives for another 1h0m0s", "looked at again in"}, ""},
		{"expired, and renewed when it is read", func(w *world) { w.clock.move(2 * time.Hour) }, true, "", []string{"expired 1h0m0s ago", "It is due."}, ""},
		{"a failure while it lives", func(w *world) {
			w.sims["single"].Inject(providertest.Rule{Fault: providertest.Unavailable(http.StatusTooManyRequests, "60")})
			w.unusable("one", keeper.Want{After: 1})
		}, true, "throttled", []string{"The last 1 attempts", "429", "lives for another"}, "try again later"},
		{"the app is refused", func(w *world) {
			w.sims["single"].SetSecrets("x")
			w.clock.move(2 * time.Hour)
			w.unusable("one", keeper.Want{})
		}, false, "bad_client", []string{"expired 1h0m0s ago"}, "correct the client id"},
		{"in doubt", func(w *world) {
			w.sims["single"].Inject(providertest.Rule{Fault: providertest.DropAfter()})
			w.unusable("one", keeper.Want{After: 1})
		}, true, "answer_lost", []string{"in doubt", "no answer came", "lives for another"}, "wait"},
		{"unreadable", func(w *world) {
			w.sims["single"].Inject(providertest.Rule{Fault: providertest.Page(http.StatusOK)})
			w.unusable("one", keeper.Want{After: 1})
		}, true, "answer_unreadable", []string{"could not be read; it is kept"}, "mend the definition"},
		{"revoked", func(w *world) {
			w.sims["single"].Revoke("grant-1")
			w.unusable("one", keeper.Want{After: 1})
		}, false, "revoked", []string{"Only its owner", "ended the grant"}, "connect again"},
		{"paused", func(w *world) { must[keeper.Connection](w.t)(w.k.Pause(w.t.Context(), operator, "one")) }, false, "operator_request", []string{"was paused"}, "resume"},
		{"its provider is gone", func(w *world) { delete(w.sims, "single"); w.start() }, true, "", []string{"lives for another"}, "configuration"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, single())
			w.connect("one", "single")
			tt.prepare(w)
			e := must[keeper.Explanation](t)(w.k.Explain(t.Context(), "one"))
			if e.Alive != tt.alive || e.Cause != tt.cause || e.Connection.ID != "one" || len(e.Events) == 0 || e.Events[len(e.Events)-1].Type != keeper.EventCreated {
				t.Errorf("explained as %+v", e)
			}
			for _, words := range tt.verdict {
				if !strings.Contains(e.Verdict, words) {
					t.Errorf("the verdict is %q; it lacks %q", e.Verdict, words)
				}
			}
			if (e.Repair == "") != (tt.repair == "") || !strings.Contains(e.Repair, tt.repair) {
				t.Errorf("the repair is %q, want %q", e.Repair, tt.repair)
			}
			if text := string(must[[]byte](t)(json.Marshal(e))); strings.Contains(text, "sim_at_") || strings.Contains(text, "sim_rt_") || !strings.Contains(text, `"verdict":`) {
				t.Errorf("as JSON: %s", text)
			}
		})
	}
}

// TestExplainOthers: what has no refresh token, no tokens yet, or no end.
func TestExplainOthers(t *testing.T) {
	w := newWorld(t, single(), machine())
	must[keeper.Connection](t)(w.k.Create(t.Context(), operator, keeper.Import{ID: "none", Provider: "machine"}))
	must[keeper.Connection](t)(w.k.Create(t.Context(), operator, keeper.Import{ID: "forever", Provider: "single", AccessToken: secret.NewText("at")}))
	must[keeper.Connection](t)(w.k.Create(t.Context(), operator, keeper.Import{ID: "once", Provider: "single", AccessToken: secret.NewText("at"), ExpiresAt: w.clock.now().Add(time.Minute)}))
	for id, want := range map[string]string{"none": "no access token yet", "forever": "not known to expire", "once": "lives for another"} {
		e := must[keeper.Explanation](t)(w.k.Explain(t.Context(), id))
		if !e.Alive || e.Repair != "" || !strings.Contains(e.Verdict, want) {
			t.Errorf("%s: %+v", id, e)
		}
	}
	w.clock.move(2 * time.Minute)
	w.unusable("once", keeper.Want{})
	if e := must[keeper.Explanation](t)(w.k.Explain(t.Context(), "once")); e.Alive || !strings.Contains(e.Verdict, "there was no refresh token") {
		t.Errorf("over: %+v", e)
	}
	if _, err := w.k.Explain(t.Context(), "nobody"); !errors.Is(err, keeper.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if n := w.sims["machine"].Stats().Requests[provider.ClientCredentials]; n != 0 {
		t.Errorf("an explanation sent %d requests", n)
	}
}

// TestExplainCauses: each cause is told in words.
func TestExplainCauses(t *testing.T) {
	w := newWorld(t, single())
	w.connect("one", "single")
	row := w.row("one")
	verdicts := map[string]bool{}
	for state, causes := range map[keeper.State][]keeper.Cause{
		keeper.InDoubt: {keeper.CauseAnswerLost, keeper.CauseAnswerUnreadable, keeper.CauseRestored},
		keeper.Reauthorize: {keeper.CauseNotConnected, keeper.CauseRevoked, keeper.CauseReplayed, keeper.CauseRefreshTokenExpired,
			keeper.CauseConsentRequired, keeper.CauseNoRefreshToken},
	} {
		for _, cause := range causes {
			row.ID, row.State, row.Cause = string(cause), state, cause
			if err := w.store.Create(t.Context(), row, keeper.Event{At: time.Now(), Type: keeper.EventCreated, Connection: row.ID}); err != nil {
				t.Fatal(err)
			}
			e := must[keeper.Explanation](t)(w.k.Explain(t.Context(), row.ID))
			if e.Cause != string(cause) || strings.Contains(e.Verdict, "_") || verdicts[e.Verdict] || e.Repair == "" || e.Alive != (state == keeper.InDoubt) {
				t.Errorf("%s: %+v", cause, e)
			}
			verdicts[e.Verdict] = true
		}
	}
}
