package keeper_test

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/testdb"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
)

// TestReplicas lets four keeper processes begin while everything is due, and
// leases are held by others that were killed: each connection is refreshed once,
// those of the dead ones when their leases are over.
func TestReplicas(t *testing.T) {
	const dead = 5
	connections := 200 // in one file, whose writers wait for each other
	if os.Getenv(testdb.Variable) == "postgres" {
		connections = 10_000
	}
	w := newWorld(t, raceDialects()["quick"])
	sim := w.sims["quick"]
	w.connectMany("quick", connections)
	w.clock.move(56 * time.Minute)
	o := order{Dir: w.dir, Place: w.place, Root: w.root.Base64(), Providers: w.urls, Ahead: time.Until(w.clock.now())}

	doomed := o
	doomed.Limit, doomed.KillAt, doomed.KillAfter = 1, keeper.StepJournaled, 3 // nothing else is on its way then
	for range dead {
		if p := spawn(t, doomed); !p.within(30 * time.Second) {
			t.Fatalf("it was not killed: %s", p.stderr)
		}
	}
	var left []string
	for _, c := range w.rows() {
		if w.clock.now().Before(c.LeaseUntil) {
			left = append(left, c.ID)
		}
	}
	if len(left) == 0 || len(left) > dead {
		t.Fatalf("%d leases are left of %d that were killed: is the step in its place?", len(left), dead)
	}

	var all []*process
	for range 4 {
		all = append(all, spawn(t, o))
	}
	began := time.Now()
	for len(w.waiting()) > len(left) && time.Since(began) < 5*time.Minute {
		time.Sleep(time.Second)
	}
	most := time.Since(began)
	for len(w.waiting()) > 0 && time.Since(began) < 6*time.Minute {
		time.Sleep(time.Second)
	}
	stopAll(t, all)
	if waiting := w.waiting(); len(waiting) > 0 {
		t.Fatalf("%d connections were not refreshed, such as %s: %v", len(waiting), waiting[0], w.events(waiting[0]))
	}
	stats := sim.Stats()
	t.Logf("%d connections in %v, of which %d were held by who was killed, in %v; at most %d requests at once", connections, most, len(left), time.Since(began), stats.Concurrent)
	if got := stats.Requests[provider.Refresh]; got != connections || len(stats.DoubleSpends) > 0 {
		t.Errorf("%d refreshes of %d connections, %d double spends", got, connections, len(stats.DoubleSpends))
	}
	for _, grant := range sim.Grants() {
		if !slices.Equal(grant.Spends, []int{1, 0}) || grant.State != providertest.Live {
			t.Errorf("%s: %s at the provider, its tokens were sent %v times", grant.Owner, grant.State, grant.Spends)
		}
	}
	for _, c := range w.rows() {
		if c.State != keeper.Active || c.Generation != 2 || c.Intent != nil {
			t.Errorf("%s: %s at generation %d, intent %+v", c.ID, c.State, c.Generation, c.Intent)
		}
	}
}

// connectMany is connect for many, some at once.
func (w *world) connectMany(name string, connections int) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for n := next.Add(1); n <= int64(connections) && !w.t.Failed(); n = next.Add(1) {
				id := fmt.Sprintf("%s-%05d", name, n)
				_, tokens := w.sims[name].Connect(id)
				_, err := w.k.Create(w.t.Context(), keeper.Actor{Name: "operator"}, keeper.Import{
					ID: id, Provider: name, Owner: id, AccessToken: tokens.AccessToken, RefreshToken: tokens.RefreshToken, ExpiresAt: tokens.ExpiresAt,
				})
				if err != nil {
					w.t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if w.t.Failed() {
		w.t.FailNow()
	}
}

// rows are all connections, without what is sealed.
func (w *world) rows() (all []keeper.Connection) {
	w.t.Helper()
	for page := []keeper.Connection{{}}; len(page) > 0; {
		after := page[len(page)-1].ID
		page = must[[]keeper.Connection](w.t)(w.db.Keeper().Connections(w.t.Context(), keeper.Filter{After: after, Limit: 1000}))
		all = append(all, page...)
	}
	return all
}

// waiting are the ids of connections that were not refreshed yet.
func (w *world) waiting() (ids []string) {
	w.t.Helper()
	for _, c := range w.rows() {
		if c.Generation < 2 {
			ids = append(ids, c.ID)
		}
	}
	return ids
}
