package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"pgregory.net/rapid"
)

// newBareGate is a gate that has nothing to tell.
func newBareGate() *gate {
	return newGate(&Keeper{cfg: Config{Log: slog.New(slog.DiscardHandler), Now: time.Now, Rand: func() float64 { return 0 }}})
}

// answered is an outcome of which there is nothing to tell.
var answered = &provider.Error{Class: provider.Revoked, Outcome: provider.Refused}

func perSecond(n int) provider.Rate { return provider.Rate{Count: n, Per: oauth.Lifetime(time.Second)} }

// TestConcurrency: no more than the budget are under way, and all get through.
func TestConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBareGate()
		var mu sync.Mutex
		var running, peak int
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				leave, err := g.admitted(t.Context(), &visit{provider: "a", limits: provider.Limits{Concurrency: 3, Rate: perSecond(1000)}, connection: fmt.Sprint(i)})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				running++
				peak = max(peak, running)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				running--
				mu.Unlock()
				leave(errUnused)
				leave(errUnused) // once is what counts
			})
		}
		began := time.Now()
		all.Wait()
		if took := time.Since(began); peak != 3 || took != 34*time.Second {
			t.Errorf("%d at once, all in %s", peak, took)
		}
		empty(t, g)
	})
}

// empty holds that a gate remembers nobody who waits or is under way.
func empty(t *testing.T, g *gate) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, b := range g.budgets {
		if b.running != 0 || !b.urgent.empty() || !b.background.empty() || len(b.urgent.waiting)+len(b.background.waiting) > 0 {
			t.Errorf("%s: %d under way, and some wait", name, b.running)
		}
	}
}

// TestDefaultLimits: of a provider about which nothing is known, 8 at once and
// 20 in a second are asked.
func TestDefaultLimits(t *testing.T) {
	if got := limitsOf(provider.Limits{}); got.Concurrency != 8 || got.Rate != perSecond(20) || got.Connection != (provider.Rate{}) {
		t.Errorf("limits %+v", got)
	}
	whole := provider.Limits{Concurrency: 2, Rate: perSecond(3), Connection: provider.Rate{Count: 10, Per: oauth.Lifetime(10 * time.Minute)}}
	if got := limitsOf(whole); got != whole {
		t.Errorf("limits %+v, want %+v", got, whole)
	}
	if got := limitsOf(provider.Limits{Rate: provider.Rate{Count: 5}, Connection: provider.Rate{Per: oauth.Lifetime(time.Second)}}); got.Rate != perSecond(20) || got.Connection != (provider.Rate{}) {
		t.Errorf("halves of rates count: %+v", got)
	}
}

// TestRate: in no span of time more requests begin than the rate says, and the
// queue is not slower than that.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBareGate()
		limits := provider.Limits{Concurrency: 50, Rate: provider.Rate{Count: 10, Per: oauth.Lifetime(10 * time.Second)}}
		var mu sync.Mutex
		var began []time.Time
		var all sync.WaitGroup
		start := time.Now()
		for i := range 95 {
			all.Go(func() {
				time.Sleep(time.Duration(i%7) * time.Second)
				leave, err := g.admitted(t.Context(), &visit{provider: "a", limits: limits, connection: fmt.Sprint(i)})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				began = append(began, time.Now())
				mu.Unlock()
				leave(answered)
			})
		}
		all.Wait()
		slices.SortFunc(began, time.Time.Compare)
		for i := 10; i < len(began); i++ {
			if span := began[i].Sub(began[i-10]); span < 10*time.Second {
				t.Errorf("eleven began within %s", span)
			}
		}
		if took := time.Since(start); took != 90*time.Second {
			t.Errorf("95 took %s, want 90s", took)
		}
		empty(t, g)
	})
}

// TestWindowRules: a window lets through what its rate says, in any span of
// time, and tells when the next may come.
func TestWindowRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		given := provider.Rate{Count: rapid.IntRange(1, 5000).Draw(t, "count"), Per: oauth.Lifetime(rapid.Int64Range(1000, int64(time.Hour)).Draw(t, "per"))}
		rate := steady(given)
		if rate.Count > mostRemembered || float64(rate.Count)/float64(rate.Per) > 1.0001*float64(given.Count)/float64(given.Per) {
			t.Fatalf("%+v becomes %+v", given, rate)
		}
		rate.Count = min(rate.Count, 7)
		now, w := issued, window{}
		var passed []time.Time
		for range rapid.IntRange(1, 60).Draw(t, "attempts") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(rate.Per)/3).Draw(t, "pause")))
			wait := w.wait(rate, now)
			if wait > 0 && rapid.Bool().Draw(t, "waits") {
				now, wait = now.Add(wait), 0
				if again := w.wait(rate, now); again > 0 {
					t.Fatalf("another %s to wait", again)
				}
			}
			if wait <= 0 {
				w.add(now)
				passed = append(passed, now)
			}
			if len(w.began) > rate.Count {
				t.Fatalf("%d are remembered", len(w.began))
			}
		}
		for i := rate.Count; i < len(passed); i++ {
			if passed[i].Sub(passed[i-rate.Count]) < time.Duration(rate.Per) {
				t.Fatalf("%d passed within %s", rate.Count+1, passed[i].Sub(passed[i-rate.Count]))
			}
		}
	})
}

// order lets visits wait at a gate that serves one at a time, and gives the
// connections in the order in which they were served.
func order(t *testing.T, visits []*visit) (served []string) {
	t.Helper()
	g := newBareGate()
	limits := provider.Limits{Concurrency: 1, Rate: perSecond(1000)}
	first, err := g.admitted(t.Context(), &visit{provider: "a", limits: limits, connection: "first"})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for _, v := range visits {
		v.provider, v.limits = "a", limits
		all.Go(func() {
			leave, err := g.admitted(t.Context(), v)
			if err != nil {
				t.Error(err)
				return
			}
			served = append(served, v.connection) // one at a time: no lock is needed
			leave(errUnused)
		})
		synctest.Wait() // in the order of the slice
	}
	first(errUnused)
	all.Wait()
	empty(t, g)
	return served
}

// TestOwnersTakeTurns: who has a hundred requests waiting does not stand before
// who has one.
func TestOwnersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var visits []*visit
		for i := range 100 {
			visits = append(visits, &visit{owner: "busy", connection: fmt.Sprint("busy-", i)})
		}
		visits = append(visits, &visit{owner: "small", connection: "small-0"}, &visit{connection: "alone-0"}, &visit{owner: "small", connection: "small-1"}, &visit{connection: "alone-1"})
		want := []string{"busy-0", "small-0", "alone-0", "alone-1", "busy-1", "small-1", "busy-2", "busy-3"}
		if got := order(t, visits); !slices.Equal(got[:8], want) || len(got) != 104 || got[103] != "busy-99" {
			t.Errorf("served %v, want %v first", got, want)
		}
	})
}

// TestUrgentGoFirst: who waits for a token goes before the schedule, but not for
// ever.
func TestUrgentGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var visits []*visit
		for i := range 3 {
			visits = append(visits, &visit{connection: fmt.Sprint("due-", i)})
		}
		for i := range 16 {
			visits = append(visits, &visit{connection: fmt.Sprint("read-", i), urgent: true})
		}
		got := order(t, visits)
		at := func(name string) int { return slices.Index(got, name) }
		if at("read-0") != 0 || at("due-0") != mostOvertaken || at("due-1") != 2*mostOvertaken+1 || at("due-2") != 18 {
			t.Errorf("served %v", got)
		}
	})
}

// TestLeavingTheQueue: who gives up waiting takes no place, and nobody waits for
// them.
func TestLeavingTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBareGate()
		limits := provider.Limits{Concurrency: 1, Rate: perSecond(1000)}
		first, err := g.admitted(t.Context(), &visit{provider: "a", limits: limits, connection: "first"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for i := range 20 {
			for _, urgent := range []bool{true, false} {
				all.Go(func() {
					if _, err := g.admitted(ctx, &visit{provider: "a", limits: limits, connection: fmt.Sprint(i), owner: []string{"one", ""}[i%2], urgent: urgent}); !errors.Is(err, context.Canceled) {
						t.Errorf("got %v", err)
					}
				})
			}
		}
		synctest.Wait()
		cancel()
		all.Wait()
		if _, err := g.admitted(ctx, &visit{provider: "a", limits: limits}); !errors.Is(err, context.Canceled) {
			t.Errorf("who has gone already got %v", err)
		}
		first(errUnused)
		empty(t, g)
		again, err := g.admitted(t.Context(), &visit{provider: "a", limits: limits, connection: "again"})
		if err != nil {
			t.Fatal(err)
		}
		again(errUnused)
	})
}

// TestConnectionRate: a connection that has used up what the provider allows it
// is sent away at once, and others are not held up by it.
func TestConnectionRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBareGate()
		limits := provider.Limits{Rate: perSecond(1000), Connection: provider.Rate{Count: 2, Per: oauth.Lifetime(10 * time.Minute)}}
		enter := func(connection string) error {
			leave, err := g.admitted(t.Context(), &visit{provider: "a", limits: limits, connection: connection})
			if err == nil {
				leave(answered)
			}
			return err
		}
		for range 2 {
			if err := enter("one"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		began := time.Now()
		held, ok := errors.AsType[*heldBack](enter("one"))
		if !ok || held.class != provider.Throttled || held.retryAfter != 8*time.Minute || time.Since(began) != 0 {
			t.Fatalf("got %+v after %s", held, time.Since(began))
		}
		if err := enter("other"); err != nil {
			t.Errorf("another connection got %v", err)
		}
		time.Sleep(held.retryAfter)
		if err := enter("one"); err != nil {
			t.Errorf("when it was told to come again it got %v", err)
		}
	})
}

// TestUnusedIsGivenBack: who was let through and sent nothing has used up nothing.
func TestUnusedIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBareGate()
		once := provider.Rate{Count: 1, Per: oauth.Lifetime(time.Hour)}
		v := visit{provider: "a", limits: provider.Limits{Rate: once, Connection: once}, connection: "one"}
		began := time.Now()
		for range 5 {
			again := v
			leave, err := g.admitted(t.Context(), &again)
			if err != nil {
				t.Fatal(err)
			}
			leave(errUnused)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("five that sent nothing took %s", took)
		}
		for i := range 2 {
			other := v
			other.connection = fmt.Sprint("other", i)
			leave, err := g.admitted(t.Context(), &other)
			if err != nil {
				t.Fatal(err)
			}
			leave(answered)
		}
		if took := time.Since(began); took != time.Hour {
			t.Errorf("two that sent something took %s", took)
		}
	})
}

// TestConnectionRateForgets: only connections that sent something lately are
// remembered.
func TestConnectionRateForgets(t *testing.T) {
	b := &budget{each: provider.Rate{Count: 2, Per: oauth.Lifetime(time.Minute)}, sentBy: map[string]*window{}, sweep: leastSweep}
	now := issued
	for i := range 20 * leastSweep {
		b.count(fmt.Sprint(i), now)
		now = now.Add(time.Minute / 100)
	}
	if n := len(b.sentBy); n > 2*leastSweep {
		t.Errorf("%d connections are remembered", n)
	}
	if b.exhausted("0", now) > 0 {
		t.Error("one that is forgotten waits")
	}
}

// TestFairQueueRules: nothing is lost or invented, owners take turns, and each
// owner's own come in their order.
func TestFairQueueRules(t *testing.T) {
	type item struct {
		turn string
		n    int
	}
	rapid.Check(t, func(t *rapid.T) {
		var q fairQueue[item]
		waiting := map[string][]item{}
		var turns []string // whose turn it is, as a plain model
		for n := range rapid.IntRange(1, 80).Draw(t, "steps") {
			switch turn := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "owner"); rapid.IntRange(0, 2).Draw(t, "step") {
			case 0:
				if len(waiting[turn]) == 0 {
					turns = append(turns, turn)
				}
				q.push(turn, item{turn, n})
				waiting[turn] = append(waiting[turn], item{turn, n})
			case 1:
				if len(turns) == 0 {
					continue
				}
				who := turns[0]
				want := waiting[who][0]
				turns, waiting[who] = turns[1:], waiting[who][1:]
				if len(waiting[who]) > 0 {
					turns = append(turns, who)
				}
				if got := q.pop(); got != want {
					t.Fatalf("%v, want %v", got, want)
				}
			case 2:
				if len(waiting[turn]) == 0 {
					continue
				}
				gone := rapid.SampledFrom(waiting[turn]).Draw(t, "gone")
				q.remove(turn, gone)
				waiting[turn] = slices.DeleteFunc(slices.Clone(waiting[turn]), func(i item) bool { return i == gone })
				if len(waiting[turn]) == 0 {
					turns = slices.DeleteFunc(turns, func(other string) bool { return other == turn })
				}
			}
			total := 0
			for _, items := range waiting {
				total += len(items)
			}
			if len(q.all()) != total || q.empty() != (total == 0) || len(q.waiting) != len(q.turns) {
				t.Fatalf("%d wait, want %d", len(q.all()), total)
			}
		}
	})
}
