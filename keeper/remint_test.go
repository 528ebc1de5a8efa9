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

// arranged is a provider that re-mints only for apps for which that was agreed,
// and this one is not among them.
func arranged() providertest.Dialect {
	d := killDialects()["minted"]
	d.Name, d.AccessLife = "single", time.Hour
	return d
}

func (w *world) refuseReminting() {
	w.sims["single"].Inject(providertest.Rule{Kind: provider.Reminting, Fault: providertest.Fault{
		NotActed: true, Status: http.StatusUnauthorized, Header: map[string]string{"Content-Type": "application/json"},
		Body: func([]byte) []byte { return []byte(`{"error":"invalid_client"}`) },
	}})
}

// TestRemintIsRefusedInDoubt holds that where a re-mint is refused, a doubt is
// handled as if there were none, and the app is not taken for a bad one.
func TestRemintIsRefusedInDoubt(t *testing.T) {
	for _, fault := range []providertest.Fault{providertest.DropBefore(), providertest.DropAfter()} {
		w := newWorld(t, arranged())
		w.refuseReminting()
		w.connect("one", "single")
		w.connect("other", "single")
		w.sims["single"].Inject(providertest.Rule{Times: 1, Kind: provider.Refresh, Fault: fault})
		if _, err := w.k.Token(t.Context(), "one", keeper.Want{After: 1}); err == nil {
			t.Fatal("the answer was not lost")
		}
		w.clock.move(10 * time.Second)
		if _, err := w.k.Token(t.Context(), "one", keeper.Want{After: 1}); err == nil {
			t.Fatal("the re-mint was not refused")
		}
		if row := w.row("one"); row.State != keeper.InDoubt {
			t.Errorf("the row is %s (%s): %s", row.State, row.Cause, row.Error)
		}
		if token := w.token("other", keeper.Want{Force: true}); token.Generation != 2 {
			t.Error("the refusal stopped another connection")
		}
		w.clock.move(61 * time.Minute)
		_, err := w.settled("one")
		if wants := fault.NotActed; wants != (err == nil) {
			t.Errorf("in the end: %v", err)
		}
	}
}

// TestRemintIsRefusedAfterRevocation holds that the owner is asked, with the
// cause that the refresh token had.
func TestRemintIsRefusedAfterRevocation(t *testing.T) {
	w := newWorld(t, arranged())
	w.refuseReminting()
	w.sims["single"].Revoke(w.connect("one", "single"))
	_, err := w.k.Token(t.Context(), "one", keeper.Want{Force: true})
	if unusable, ok := errors.AsType[*keeper.Unusable](err); !ok || !unusable.NeedsOwner() || unusable.Cause != keeper.CauseRevoked {
		t.Errorf("got %v", err)
	}
}
