package keeper_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
)

// taken deletes a connection and makes another one with its id.
func (w *world) taken(k *keeper.Keeper, in keeper.Import) {
	w.t.Helper()
	if _, err := k.Delete(w.t.Context(), operator, in.ID); err != nil {
		w.t.Fatal(err)
	}
	_, tokens := w.sims[in.Provider].Connect(in.Owner)
	in.AccessToken, in.RefreshToken, in.ExpiresAt = tokens.AccessToken, tokens.RefreshToken, tokens.ExpiresAt
	must[keeper.Connection](w.t)(k.Create(w.t.Context(), operator, in))
}

// TestIDOfAnotherProvider: while a refresh waits for its turn, the connection is
// deleted and its id taken for one at another provider. No provider sees the
// tokens of the other.
func TestIDOfAnotherProvider(t *testing.T) {
	other := single()
	other.Name = "other"
	w := newWorld(t, single(), other)
	w.connect("one", "single")
	second := w.another()
	var swapped atomic.Bool
	w.change = func(cfg *keeper.Config) {
		cfg.Step = func(step string) {
			if step == keeper.StepLease && !swapped.Swap(true) {
				w.taken(second, keeper.Import{ID: "one", Provider: "other", Owner: "new"})
			}
		}
	}
	w.start()
	token := w.token("one", keeper.Want{After: 1})
	if !w.sims["other"].Alive(token.AccessToken.Reveal()) || token.Generation != 2 {
		t.Errorf("generation %d", token.Generation)
	}
	if n := w.sims["single"].Stats().Requests[provider.Refresh]; n != 0 {
		t.Errorf("the first provider was sent %d refresh tokens of the second", n)
	}
	if row := w.row("one"); row.State != keeper.Active || row.Provider != "other" {
		t.Errorf("the row is %+v", row)
	}
}

// TestIDOfAnotherTenant: what a process remembers of a deleted connection is not
// given to the tenant who takes its id.
func TestIDOfAnotherTenant(t *testing.T) {
	w := newWorld(t, single())
	w.connect("one", "single")
	ours, theirs := "", "other"
	old := w.token("one", keeper.Want{Tenant: &ours})
	w.taken(w.another(), keeper.Import{ID: "one", Provider: "single", Tenant: theirs, Owner: "new"})
	token := w.token("one", keeper.Want{Tenant: &theirs})
	if token.AccessToken.Equal(old.AccessToken.Reveal()) {
		t.Error("the other tenant gets the token of the first")
	}
	for _, want := range []keeper.Want{{Tenant: &ours}, {Tenant: &ours, Force: true}, {Tenant: &ours, MinTTL: time.Minute}} {
		if _, err := w.k.Token(t.Context(), "one", want); !errors.Is(err, keeper.ErrNotFound) {
			t.Errorf("the first tenant gets %v", err)
		}
	}
	if row := w.row("one"); row.Generation != 1 {
		t.Errorf("what another tenant asks for is refreshed: generation %d", row.Generation)
	}
}

// TestIDTakenWhileTheOwnerIsAway: tokens for a code go into the connection that
// the link was for, and into none of another tenant.
func TestIDTakenWhileTheOwnerIsAway(t *testing.T) {
	w := consenting(t, single())
	w.connect("one", "single")
	second := w.another()
	var swapped atomic.Bool
	w.change = func(cfg *keeper.Config) {
		cfg.Step = func(step string) {
			if step == keeper.StepLease && !swapped.Swap(true) {
				w.taken(second, keeper.Import{ID: "one", Provider: "single", Tenant: "other", Owner: "new"})
			}
		}
	}
	w.start()
	query := w.visit(w.link(keeper.Connect{Provider: "single", Connection: "one"}))
	if _, _, err := w.k.Finish(t.Context(), query, cookie); reasonOf(err) != keeper.ReasonOtherConnection {
		t.Errorf("got %v", err)
	}
	if n := w.sims["single"].Stats().Requests[provider.Exchange]; n != 0 {
		t.Errorf("the code was sent %d times", n)
	}
	if row := w.row("one"); row.Tenant != "other" || row.Generation != 1 || !row.LeaseUntil.IsZero() {
		t.Errorf("the row is %+v", row)
	}
}
