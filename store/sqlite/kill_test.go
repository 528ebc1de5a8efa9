package sqlite_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/killtest"
	"github.com/evergrant/evergrant/store/sqlite"
)

const (
	// killsOfRound is how many kills one database lives through before the next
	// test begins with a new one.
	killsOfRound = 50
	// leastLoad is how many refreshes must have been answered between two kills,
	// or the second does not count.
	leastLoad = 12
	// reachTime is how long a server may take to come to the step where it ends.
	reachTime = time.Minute
	// outside is the aim of a kill that this process sends, at any moment.
	outside = "outside"
)

// TestKillBetweenAnySteps kills a server under load with kill -9, between any
// two steps of its writes and at any other moment, starts it again on the same
// file, and checks that nothing that it ever answered is lost or doubled.
// EVERGRANT_KILLS sets how often: 200 times unless it does.
func TestKillBetweenAnySteps(t *testing.T) {
	kills := 200
	if text := os.Getenv("EVERGRANT_KILLS"); text != "" {
		kills = must[int](t)(strconv.Atoi(text))
	}
	declared := declaredSteps(t)
	total := tally{kills: map[string]int{}, seen: map[string]bool{}, kept: map[string]int{}, lost: map[string]int{}}
	for total.counted < kills {
		if total.uncounted > kills/2 {
			t.Fatalf("%d kills came before %d refreshes were answered: the load is too small", total.uncounted, leastLoad)
		}
		newRound(t, &total).run(min(killsOfRound, kills-total.counted), append(declared, outside, outside))
		if t.Failed() {
			return
		}
	}
	total.report(t)
	delete(total.seen, outside)
	if seen := slices.Sorted(maps.Keys(total.seen)); !slices.Equal(seen, declared) {
		t.Errorf("steps passed %v, declared %v", seen, declared)
	}
	for _, step := range declared {
		if total.kills[step] == 0 {
			t.Errorf("never killed at step %q", step)
		}
	}
	// The kills must have fallen on both sides of the commit, or the test says
	// nothing.
	if durable := total.kept[sqlite.StepCommitted] + total.kept[sqlite.StepAnswer]; durable == 0 {
		t.Error("no kill between commit and answer left a refresh done and unanswered")
	}
	if undone := total.lost[sqlite.StepBegun] + total.lost[sqlite.StepCommit]; undone == 0 {
		t.Error("no kill before a commit left a refresh undone")
	}
}

// tally is what happened over all rounds.
type tally struct {
	cycles, counted, uncounted int
	kills                      map[string]int // by step
	seen                       map[string]bool
	refreshed                  int            // answered
	kept, lost                 map[string]int // by step: refreshes whose answer was lost, and that were done or not
	orphans                    int            // grants that nobody was told of
	times                      []time.Duration
}

func (s *tally) report(t *testing.T) {
	slices.Sort(s.times)
	t.Logf("%d kills (and %d before %d refreshes were answered), %d refreshes answered; a cycle took %v (median), %v (longest)",
		s.counted, s.uncounted, leastLoad, s.refreshed, s.times[len(s.times)/2].Round(time.Millisecond), s.times[len(s.times)-1].Round(time.Millisecond))
	for _, step := range slices.Sorted(maps.Keys(s.kills)) {
		t.Logf("killed at %-13s %4d times; refreshes without answer: %4d were done, %4d were not", step, s.kills[step], s.kept[step], s.lost[step])
	}
	t.Logf("grants made without answer: %d", s.orphans)
}

// round is one database, from its making to its last check.
type round struct {
	t      *testing.T
	total  *tally
	path   string
	site   killtest.Site
	random *rand.Rand
	load   *killtest.Load
	target string // of the present cycle
}

func newRound(t *testing.T, total *tally) *round {
	t.Helper()
	r := &round{t: t, total: total, path: databaseIn(t.TempDir()), site: killtest.NewSite(), random: rand.New(rand.NewPCG(uint64(total.counted), 7))}
	service := must[*service](t)(openService(t.Context(), r.path, r.site.Root, sqlite.Options{}, nil))
	if err := service.Populate(t.Context(), r.site); err != nil {
		t.Fatal(err)
	}
	r.load = killtest.NewLoad(t, killtest.NewApp(r.site, "https://issuer.test", killtest.InProcess{Handler: service.Server}), r.random)
	if err := service.Store.Close(); err != nil {
		t.Fatal(err)
	}
	return r
}

// run kills the server a number of times, at each target in turn.
func (r *round) run(kills int, targets []string) {
	for i := 0; kills > 0 && i < 4*killsOfRound && !r.t.Failed(); i++ {
		began := time.Now()
		if r.random.IntN(10) == 0 {
			r.killAtStart()
		}
		r.load.Before, r.target = r.target, targets[r.total.cycles%len(targets)]
		r.total.cycles++
		r.cycle()
		r.total.refreshed += int(r.load.Refreshed.Load())
		if r.load.Refreshed.Load() < leastLoad {
			r.total.uncounted++
			continue
		}
		kills--
		r.total.counted++
		r.total.kills[r.target]++
		r.total.seen[r.target] = true
		r.total.times = append(r.total.times, time.Since(began))
	}
	r.examine()
}

// killAtStart kills a server while it opens the database.
func (r *round) killAtStart() {
	p, _ := killtest.Spawn(r.t, r.path, r.site, r.logPages())
	time.Sleep(r.upTo(100 * time.Millisecond))
	p.Kill()
	p.Killed(r.t)
}

// cycle starts a server, checks that it remembers, and kills it under load.
func (r *round) cycle() {
	t := r.t
	server := killtest.Start(t, r.path, r.site, r.logPages())
	r.load.App = server.App
	var known killtest.State
	server.Operate(t, http.MethodGet, killtest.StatePath, &known)
	r.count(r.load.Recall(known))
	r.load.Resolve(known)
	if t.Failed() {
		server.Fail(t, errors.New("not as it was before the kill"))
	}
	r.load.Refreshed.Store(0)
	r.load.Forget()
	watchdog := time.AfterFunc(reachTime, func() {
		t.Errorf("the server was not killed at %q in time", r.target)
		server.Kill()
	})
	defer watchdog.Stop()
	var load sync.WaitGroup
	load.Go(func() { r.load.Work(func(answered bool) bool { return answered }) })
	r.aim(server)
	load.Wait()
	server.Killed(t)
}

// aim makes that the server ends at the target.
func (r *round) aim(server *killtest.Process) {
	if r.target == outside {
		time.Sleep(20*time.Millisecond + r.upTo(80*time.Millisecond))
		server.Kill()
		return
	}
	passages := 4 + r.random.IntN(10)
	switch {
	case r.target == sqlite.StepApplied:
		passages *= 5 // it is passed so often in a batch
	case r.movesLog():
		passages = 1 + r.random.IntN(2)
		time.Sleep(r.upTo(40 * time.Millisecond))
	}
	var passed []string
	server.Operate(r.t, http.MethodPost, fmt.Sprintf("/test/arm?step=%s&passages=%d", r.target, passages), &passed)
	for _, step := range passed {
		r.total.seen[step] = true
	}
}

// movesLog reports whether the target is where the write-ahead log is moved
// into the file.
func (r *round) movesLog() bool {
	return r.target == sqlite.StepCheckpoint || r.target == sqlite.StepCheckpointed
}

// logPages is how long the write-ahead log of a server gets: it is moved all
// the time, or never, so that it is recovered when it is short and long.
func (r *round) logPages() string {
	pages := 0
	if r.movesLog() || r.random.IntN(2) == 0 {
		pages = 64
	}
	return serverLogPages + "=" + strconv.Itoa(pages)
}

func (r *round) upTo(d time.Duration) time.Duration { return time.Duration(r.random.Int64N(int64(d))) }

func (r *round) count(found killtest.Recalled) {
	r.total.kept[r.load.Before] += found.Kept
	r.total.lost[r.load.Before] += found.Lost
	r.total.orphans += found.Orphans
}

// examine opens the file after the last kill and compares all that it holds.
func (r *round) examine() {
	t, ctx := r.t, r.t.Context()
	service := must[*service](t)(openService(ctx, r.path, r.site.Root, sqlite.Options{}, nil))
	defer service.Store.Close()
	if err := service.Store.Check(ctx); err != nil {
		t.Error(err)
	}
	r.load.Before = r.target
	r.count(killtest.Examine(ctx, r.load, service))
}
