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
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/store/sqlite"
)

const (
	// killsOfRound is how many kills one database lives through before the next
	// test begins with a new one.
	killsOfRound = 50
	// leastLoad is how many refreshes must have been answered between two kills,
	// or the second does not count.
	leastLoad = 12
	// newGrants is how many grants a client makes between two kills.
	newGrants = 2
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
	t       *testing.T
	total   *tally
	dir     string
	site    site
	random  *rand.Rand
	workers []*worker
	orphans map[string]bool // grants that were made without anybody being told, by id

	app *app
	// Of the present cycle:
	before     string // the target of the last one
	target     string
	refreshed  atomic.Int64 // refreshes that were answered
	unanswered atomic.Int64 // requests for a new grant that were not
}

func newRound(t *testing.T, total *tally) *round {
	t.Helper()
	dir, site := t.TempDir(), newSite()
	if err := os.WriteFile(rootIn(dir), []byte(site.root.Base64()), 0o600); err != nil {
		t.Fatal(err)
	}
	service := must[*service](t)(openService(t.Context(), databaseIn(dir), site.root, sqlite.Options{}, nil))
	if err := service.populate(t.Context(), site); err != nil {
		t.Fatal(err)
	}
	r := &round{t: t, total: total, dir: dir, site: site, orphans: map[string]bool{}, random: rand.New(rand.NewPCG(uint64(total.counted), 7))}
	r.app = newApp(site, "https://issuer.test", inProcess{service.server})
	for i, role := range []func(*round, *worker) bool{
		(*round).refreshOnly, (*round).refreshOnly, (*round).refreshOnly, (*round).refreshOnly, (*round).refreshOnly,
		(*round).refreshAndRetry, (*round).refreshAndRetry, (*round).refreshTwice, (*round).refreshTwice,
		(*round).acquire, (*round).acquire, (*round).revokeOften,
	} {
		w := &worker{client: []string{opaqueClient, jwtClient}[i%2], role: role, random: rand.New(rand.NewPCG(r.random.Uint64(), uint64(i)))}
		w.own = &chain{client: w.client}
		if !r.obtain(w.own) {
			t.FailNow()
		}
		r.workers = append(r.workers, w)
	}
	if err := service.store.Close(); err != nil {
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
		r.before, r.target = r.target, targets[r.total.cycles%len(targets)]
		r.total.cycles++
		r.cycle()
		r.total.refreshed += int(r.refreshed.Load())
		if r.refreshed.Load() < leastLoad {
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
	p, _, err := spawn(r.dir, r.logPages())
	if err != nil {
		r.t.Fatal(err)
	}
	time.Sleep(r.upTo(100 * time.Millisecond))
	p.cmd.Process.Kill()
	p.killed(r.t)
}

// cycle starts a server, checks that it remembers, and kills it under load.
func (r *round) cycle() {
	t := r.t
	server := startServer(t, r.dir, r.logPages(), r.site)
	r.app = server.app
	var known state
	server.operate(t, http.MethodGet, "/test/state", &known)
	r.recall(known)
	r.each(func(w *worker) { r.resolve(w, known.Grants) })
	if t.Failed() {
		server.fail(t, errors.New("not as it was before the kill"))
	}
	r.refreshed.Store(0)
	r.unanswered.Store(0)
	watchdog := time.AfterFunc(reachTime, func() {
		t.Errorf("the server was not killed at %q in time", r.target)
		server.cmd.Process.Kill()
	})
	defer watchdog.Stop()
	var load sync.WaitGroup
	load.Go(func() {
		r.each(func(w *worker) {
			for w.made = 0; w.role(r, w); {
			}
		})
	})
	r.aim(server)
	load.Wait()
	server.killed(t)
}

// aim makes that the server ends at the target.
func (r *round) aim(server *process) {
	if r.target == outside {
		time.Sleep(20*time.Millisecond + r.upTo(80*time.Millisecond))
		server.cmd.Process.Kill()
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
	server.operate(r.t, http.MethodPost, fmt.Sprintf("/test/arm?step=%s&passages=%d", r.target, passages), &passed)
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
func (r *round) logPages() int {
	if r.movesLog() || r.random.IntN(2) == 0 {
		return 64
	}
	return 0
}

func (r *round) upTo(d time.Duration) time.Duration { return time.Duration(r.random.Int64N(int64(d))) }

// each lets all workers do something at once.
func (r *round) each(f func(*worker)) {
	var all sync.WaitGroup
	for _, w := range r.workers {
		all.Go(func() { f(w) })
	}
	all.Wait()
}

// recall compares the rows of a server that was just started with what the
// clients were told before it was killed.
func (r *round) recall(s state) {
	t, unknown := r.t, maps.Clone(s.Grants)
	if s.Alarms > 0 {
		t.Errorf("%d events say that a token was reused, or came to a row that was behind it", s.Alarms)
	}
	for _, w := range r.workers {
		for _, c := range w.chains() {
			row, ok := s.Grants[c.id.String()]
			delete(unknown, c.id.String())
			if !ok {
				t.Errorf("grant %s, which was answered at generation %d, is unknown after a kill at %q", c.id, c.generation(), r.before)
				continue
			}
			if problem := c.contradicts(row); problem != "" {
				t.Errorf("grant %s after a kill at %q: %s", c.id, r.before, problem)
			}
			switch {
			case !c.pending || c.end != alive:
			case row.Generation > c.generation():
				r.total.kept[r.before]++
			default:
				r.total.lost[r.before]++
			}
		}
	}
	found := 0
	for id := range unknown {
		if !r.orphans[id] {
			r.orphans[id] = true
			found++
		}
	}
	r.total.orphans += found
	if asked := int(r.unanswered.Load()); found > asked {
		t.Errorf("%d grants that nobody was told of after %d requests without answer", found, asked)
	}
	for id := range r.orphans {
		if _, ok := unknown[id]; !ok {
			t.Errorf("grant %s was there after one restart and is not after another", id)
		}
	}
}

// examine opens the file after the last kill and compares all that it holds.
func (r *round) examine() {
	t, ctx := r.t, r.t.Context()
	service := must[*service](t)(openService(ctx, databaseIn(r.dir), r.site.root, sqlite.Options{}, nil))
	defer service.store.Close()
	if err := service.store.Check(ctx); err != nil {
		t.Error(err)
	}
	last := must[state](t)(service.state(ctx))
	r.before = r.target
	r.recall(last)
	known := len(r.orphans)
	for _, w := range r.workers {
		known += len(w.chains())
	}
	if len(last.Grants) != known {
		t.Errorf("%d grants, %d made", len(last.Grants), known)
	}
	created := must[map[issuer.GrantID]int](t)(service.events(ctx, issuer.EventGrantCreated))
	ended := must[map[issuer.GrantID]int](t)(service.events(ctx, issuer.EventGrantRevoked))
	for id, count := range must[map[issuer.GrantID]int](t)(service.events(ctx, issuer.EventCodeReplayed)) {
		ended[id] += count
	}
	for _, row := range last.Grants {
		if created[row.ID] != 1 {
			t.Errorf("grant %s has %d events of its making", row.ID, created[row.ID])
		}
		if (ended[row.ID] == 1) == row.RevokedAt.IsZero() || ended[row.ID] > 1 {
			t.Errorf("grant %s, revoked at %q, has %d events of its end", row.ID, row.RevokedAt, ended[row.ID])
		}
	}
	if len(created) != known {
		t.Errorf("%d grants, events of the making of %d", known, len(created))
	}
}
