package keeper_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
)

// TestDoubtSurvivesAnAnswer: a refresh token is in doubt, and its second sending
// within the replay window is put off by the provider. Whoever finds that answer
// in the journal, after a crash, still knows of the doubt: when the window is
// closed the token is not sent a third time.
func TestDoubtSurvivesAnAnswer(t *testing.T) {
	d := single()
	d.ReplayWindow = 5 * time.Minute
	w := newWorld(t, d)
	sim := w.sims["single"]
	grant := w.connect("one", "single")
	store := &lamedRows{Store: w.store}
	w.store = store
	w.start()
	again := keeper.Want{After: 1}
	sim.Inject(providertest.Rule{Kind: provider.Refresh, Times: 1, Fault: providertest.DropAfter()})
	w.unusable("one", again)

	store.commit = "before"
	w.clock.move(time.Minute)
	sim.Inject(providertest.Rule{Kind: provider.Refresh, Times: 1, Fault: providertest.Unavailable(http.StatusTooManyRequests, "")})
	if _, err := w.k.Token(t.Context(), "one", again); !errors.Is(err, errLamed) {
		t.Fatalf("got %v", err)
	}
	store.commit = ""
	w.start()
	w.clock.move(time.Minute)
	if u := w.unusable("one", again); u.Class != provider.Throttled {
		t.Errorf("from the journal: %v", u)
	}

	w.clock.move(10 * time.Minute)
	w.unusable("one", again)
	if row := w.row("one"); row.State != keeper.InDoubt {
		t.Errorf("the row is %s, its intent %+v", row.State, row.Intent)
	}
	if stats := sim.Stats(); stats.Requests[provider.Refresh] != 2 || len(stats.DoubleSpends) != 0 || sim.Grant(grant).State != providertest.Live {
		t.Errorf("%d requests, %v; the grant is %s", stats.Requests[provider.Refresh], stats.DoubleSpends, sim.Grant(grant).State)
	}
}

// TestDoubtSurvivesACode: an owner comes back while a refresh token is in doubt,
// and the process ends while the code is on its way. The doubt is still known.
func TestDoubtSurvivesACode(t *testing.T) {
	d := single()
	d.ReplayWindow = 5 * time.Minute
	w := consenting(t, d)
	sim := w.sims["single"]
	grant := w.connect("one", "single")
	store := &lamedRows{Store: w.store}
	w.store = store
	w.start()
	sim.Inject(providertest.Rule{Kind: provider.Refresh, Times: 1, Fault: providertest.DropAfter()})
	w.unusable("one", keeper.Want{After: 1})

	query := w.visit(w.link(keeper.Connect{Provider: "single", Connection: "one"}))
	store.commit = "before"
	sim.Inject(providertest.Rule{Kind: provider.Exchange, Times: 1, Fault: providertest.DropBefore()})
	if _, _, err := w.k.Finish(t.Context(), query, cookie); !errors.Is(err, errLamed) {
		t.Fatalf("got %v", err)
	}
	store.commit = ""
	w.start()
	w.clock.move(10 * time.Minute)
	w.unusable("one", keeper.Want{After: 1})
	if row := w.row("one"); row.State != keeper.InDoubt {
		t.Errorf("the row is %s, its intent %+v", row.State, row.Intent)
	}
	if stats := sim.Stats(); stats.Requests[provider.Refresh] != 1 || sim.Grant(grant).State != providertest.Live {
		t.Errorf("%d requests; the grant is %s", stats.Requests[provider.Refresh], sim.Grant(grant).State)
	}
}
