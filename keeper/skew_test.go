package keeper_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
)

// TestClocksOfKeepersDiffer lets two keepers, whose clocks are ten seconds apart,
// renew the same connections for hours, at a provider that answers shortly before
// it is given up: no lease is taken for over that is not, and no token is given
// for longer than the clocks differ.
func TestClocksOfKeepersDiffer(t *testing.T) {
	t.Parallel()
	const skew, connections, hours = 10 * time.Second, 12, 6
	synctest.Test(t, func(t *testing.T) {
		dialect := single()
		dialect.AccessLife = 20 * time.Minute
		dialect.ClientRate = provider.Rate{Count: 1000, Per: 1e9}
		w, closeWorld := newBubble(t, dialect)
		defer closeWorld()
		w.start()
		sim, random := w.sims["single"], randomOf(5)
		sim.Inject(providertest.Rule{Pick: func(providertest.Request) (providertest.Fault, bool) {
			latency := time.Duration(random.Int64N(int64(10 * time.Second)))
			return providertest.Fault{Latency: latency, AnswerLatency: 29900*time.Millisecond - latency}, true
		}})
		for i := range connections {
			w.connect(fmt.Sprint("c", i), "single")
		}
		ahead := func() time.Time { return w.clock.now().Add(skew) }
		w.change = func(cfg *keeper.Config) {
			cfg.Now, cfg.Spool = ahead, filepath.Join(w.dir, "another")
			cfg.Providers = []*provider.Provider{newProvider(t, "single", sim.Definition(w.urls["single"]), ahead, w.dials["single"])}
		}
		keepers := []*keeper.Keeper{w.k, w.another()}
		runIn(t, func() {
			end := time.Now().Add(hours * time.Hour)
			var readers sync.WaitGroup
			for i, k := range keepers {
				for n := range connections {
					readers.Go(func() { w.readUntil(end, k, fmt.Sprint("c", n), skew, randomOf(uint64(100*i+n))) })
				}
			}
			readers.Wait()
		}, keepers...)
		if stats := sim.Stats(); len(stats.DoubleSpends)+stats.FamiliesRevoked > 0 || stats.Requests[provider.Refresh] < hours*connections {
			t.Errorf("%d refreshes, double spends %v", stats.Requests[provider.Refresh], stats.DoubleSpends)
		}
		for i := range connections {
			if row := w.row(fmt.Sprint("c", i)); row.State != keeper.Active {
				t.Errorf("%s is %s: %s", row.ID, row.State, row.Error)
			}
		}
	})
}

// readUntil reads a token again and again, and now and then asks for another.
func (w *world) readUntil(end time.Time, k *keeper.Keeper, id string, skew time.Duration, random *rand.Rand) {
	var last keeper.Token
	for time.Now().Before(end) {
		want := keeper.Want{}
		if random.IntN(20) == 0 {
			want.After = last.Generation
		}
		token, err := k.Token(w.t.Context(), id, want)
		switch over := time.Since(token.ExpiresAt); {
		case err != nil:
			w.t.Errorf("%s: %v", id, err)
		case over > skew:
			w.t.Errorf("%s: a token is given %v after its end", id, over)
		}
		last = token
		time.Sleep(time.Duration(random.Int64N(int64(4 * time.Minute))))
	}
}
