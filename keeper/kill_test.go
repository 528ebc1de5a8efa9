package keeper_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
)

const (
	// connectionsEach is how many connections of each dialect live through the
	// kills.
	connectionsEach = 12
	// killLife is the lifetime of access tokens: a few kills.
	killLife = 50 * time.Second
	// afterKill is what the clock moves on by after a kill, so that the leases of
	// the dead are over.
	afterKill = 15 * time.Second
	// outside is the aim of a kill that this process sends, at any moment.
	outside = "outside"
)

// killDialects are the ways in which refresh tokens behave. forgiving ones give
// the keeper a way back from a lost answer: no grant of theirs may be lost.
func killDialects() map[string]providertest.Dialect {
	single := providertest.Dialect{Name: "single", Rotation: provider.RotationSingleUse}
	checked := single
	checked.Name, checked.LiveAccessTokens = "checked", 1
	window := single
	window.Name, window.ReplayWindow = "window", 24*time.Hour
	untilUsed := window
	untilUsed.Name, untilUsed.UntilUsed = "until-used", true
	fixed := providertest.Dialect{Name: "fixed", Rotation: provider.RotationFixed}
	tink := providertest.Tink()
	tink.Name, tink.Rotation = "minted", provider.RotationSingleUse
	all := map[string]providertest.Dialect{}
	for _, d := range []providertest.Dialect{single, checked, window, untilUsed, fixed, tink} {
		d.AccessLife = killLife
		d.ClientRate = provider.Rate{Count: 500, Per: 1e9}
		d.Definition.Limits.Timeout = 2e9
		all[d.Name] = d
	}
	return all
}

var forgiving = []string{"window", "until-used", "fixed", "minted"}

// TestKillAtEveryStep kills a keeper with kill -9 at every step of the protocol
// and at any other moment, with answers that are slow enough to be out then, and
// starts another one on the same database. At the end no grant is lost where the
// definition has a way back, no refresh token was sent again after it was spent,
// and every loss is explained. EVERGRANT_KILLS sets how
// often: 300 times unless it does.
func TestKillAtEveryStep(t *testing.T) {
	t.Parallel()
	kills := 300
	if text := os.Getenv("EVERGRANT_KILLS"); text != "" {
		kills = must[int](t)(strconv.Atoi(text))
	}
	dialects := killDialects()
	w := newWorld(t, slices.Collect(maps.Values(dialects))...)
	w.connectAll(dialects)
	for _, sim := range w.sims {
		n := 0
		sim.Inject(providertest.Rule{Pick: func(providertest.Request) (providertest.Fault, bool) {
			n++ // the simulator's mutex is held
			return providertest.Fault{Latency: time.Duration(n%5) * 5 * time.Millisecond, AnswerLatency: time.Duration(n%7) * 7 * time.Millisecond}, true
		}})
	}
	targets := append(steps(), outside, outside, outside)
	random := randomOf(1)
	killed, late, lost := map[string]int{}, 0, 0
	for i := 0; i < kills && !t.Failed(); {
		target := targets[i%len(targets)]
		o := w.order()
		o.KillAfter = random.IntN(12)
		if target != outside {
			o.KillAt = target
		}
		p := spawn(t, o)
		if target == outside {
			time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
			p.kill()
		} else if !p.within(10 * time.Second) {
			if late++; late > kills/4 {
				t.Fatalf("step %q is not passed %d times in 10 s: %s", target, o.KillAfter+1, p.stderr)
			}
			w.clock.move(afterKill)
			continue
		}
		killed[target]++
		i++
		w.clock.move(afterKill)
		if i%len(targets) == 0 {
			lost += w.replace("single", "checked")
		}
	}
	for _, sim := range w.sims {
		sim.Clear()
	}
	report := w.settle(dialects)
	renewed := 0
	for _, sim := range w.sims {
		renewed += sim.Stats().Requests[provider.Refresh]
	}
	t.Logf("killed %v; %d refreshes; %d connections lost, explained and replaced on the way; in the end %s", killed, renewed, lost, report)
	for _, target := range targets {
		if killed[target] == 0 && kills >= len(targets) {
			t.Errorf("never killed at %q", target)
		}
	}
}

func steps() []string {
	return []string{
		keeper.StepLease, keeper.StepLeased, keeper.StepIntent, keeper.StepJournaled, keeper.StepSend, keeper.StepSent,
		keeper.StepAnswer, keeper.StepAnswered, keeper.StepCommit, keeper.StepCommitted, keeper.StepPublished,
	}
}

func (w *world) connectAll(dialects map[string]providertest.Dialect) {
	for _, name := range slices.Sorted(maps.Keys(dialects)) {
		for i := range connectionsEach {
			w.connect(fmt.Sprintf("%s-%d", name, i), name)
		}
	}
}

// replace makes lost connections anew, as their owners do, when they are
// explained. It returns how many.
func (w *world) replace(names ...string) (lost int) {
	w.t.Helper()
	for _, name := range names {
		for i := range connectionsEach {
			id := fmt.Sprintf("%s-%d", name, i)
			if w.row(id).State != keeper.Reauthorize {
				continue
			}
			w.explained(id)
			if _, err := w.k.Delete(w.t.Context(), keeper.Actor{Name: "operator"}, id); err != nil {
				w.t.Fatal(err)
			}
			w.connect(id, name)
			lost++
		}
	}
	return lost
}

// explained holds that a lost connection says why, and what repairs it.
func (w *world) explained(id string) {
	w.t.Helper()
	why := must[keeper.Explanation](w.t)(w.k.Explain(w.t.Context(), id))
	known := why.Cause == string(keeper.CauseReplayed) || why.Cause == string(keeper.CauseInterrupted)
	if why.Alive || !known || why.Repair == "" || why.Verdict == "" || len(why.Events) == 0 {
		w.t.Errorf("%s is lost and not explained: %+v", id, why)
	}
}

// order is for a process on the same database with the same providers.
func (w *world) order() order {
	o := order{Dir: w.dir, Place: w.place, Root: w.root.Base64(), Providers: w.urls, Ahead: time.Until(w.clock.now()), Readers: 2}
	for name := range w.sims {
		for i := range connectionsEach { // those that are not there are not found
			o.IDs = append(o.IDs, fmt.Sprintf("%s-%d", name, i))
		}
	}
	return o
}

// provider is the simulated one with a name, as the test's own process has it.
func (o order) provider(name, url string, now func() time.Time) (*provider.Provider, error) {
	dialect, ok := processDialects()[name]
	if !ok {
		return nil, fmt.Errorf("there is no dialect %s", name)
	}
	definition := providertest.New(dialect, providertest.Options{}).Definition(url)
	if o.Limit > 0 {
		definition.Limits.Concurrency = o.Limit
	}
	return openProvider(name, definition, now, nil)
}

// settle lets an undisturbed keeper finish what is open, and judges every
// connection.
func (w *world) settle(dialects map[string]providertest.Dialect) string {
	t := w.t
	t.Helper()
	w.start()
	lost, saved := 0, 0
	for _, name := range slices.Sorted(maps.Keys(dialects)) {
		sim := w.sims[name]
		for i := range connectionsEach {
			id := fmt.Sprintf("%s-%d", name, i)
			token, err := w.settled(id)
			events := w.events(id)
			if err == nil {
				saved++
				if grant := sim.Grant(sim.GrantOf(token.AccessToken.Reveal())); !sim.Alive(token.AccessToken.Reveal()) {
					t.Errorf("%s: the token is dead at the provider: %v", id, sim.History(grant.ID))
				}
				continue
			}
			lost++
			if slices.Contains(forgiving, name) {
				t.Errorf("%s is lost: %v; %v", id, err, events)
				continue
			}
			w.explained(id)
		}
		if stats := sim.Stats(); len(stats.DoubleSpends)+stats.FamiliesRevoked > 0 {
			spend := stats.DoubleSpends[0]
			owner := sim.Grant(spend.Grant).Owner
			t.Errorf("%s: %d double spends, %d families revoked; the first is of %s: %v; %s", name, len(stats.DoubleSpends), stats.FamiliesRevoked,
				owner, w.events(owner), strings.Join(sim.History(spend.Grant), "\n"))
		}
	}
	return fmt.Sprintf("%d connections saved, %d lost and explained", saved, lost)
}

// settled asks for a token until the keeper has made up its mind.
func (w *world) settled(id string) (keeper.Token, error) {
	var token keeper.Token
	var err error
	for range 50 {
		token, err = w.k.Token(w.t.Context(), id, keeper.Want{After: w.row(id).Generation}) // a renewed one, not the old one in its place
		if unusable, ok := errors.AsType[*keeper.Unusable](err); !ok || unusable.NeedsOwner() {
			return token, err
		}
		w.clock.move(afterKill)
	}
	return token, fmt.Errorf("not settled: %w", err)
}

// TestKillOneConnection kills a keeper at each step of the one refresh of a token
// for single use, which has no way back: nothing is lost where the step says so.
func TestKillOneConnection(t *testing.T) {
	t.Parallel()
	inFlight := []string{keeper.StepSend, keeper.StepSent, keeper.StepAnswer}
	for _, step := range steps() {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, killDialects()["single"])
			w.connect("single-0", "single")
			w.clock.move(killLife - killLife/4 + time.Second)
			o := w.order()
			o.Readers, o.KillAt = 0, step
			if p := spawn(t, o); !p.within(20 * time.Second) {
				t.Fatalf("it was not killed: %s", p.stderr)
			}
			w.clock.move(afterKill)
			w.start()
			token, err := w.settled("single-0")
			if stats := w.sims["single"].Stats(); len(stats.DoubleSpends) > 0 {
				t.Errorf("double spends: %v", stats.DoubleSpends)
			}
			if slices.Contains(inFlight, step) {
				if err == nil {
					t.Fatal("it is not lost: is the step in its place?")
				}
				w.explained("single-0")
				return
			}
			if err != nil || !w.sims["single"].Alive(token.AccessToken.Reveal()) {
				t.Errorf("it is lost: %v; %v", err, w.events("single-0"))
			}
		})
	}
}

func processDialects() map[string]providertest.Dialect {
	all := killDialects()
	for name, dialect := range raceDialects() {
		all[name] = dialect
	}
	return all
}

// raceDialects are those of the tests with several processes.
func raceDialects() map[string]providertest.Dialect {
	slow := providertest.Dialect{
		Name: "slow", Rotation: provider.RotationSingleUse, AccessLife: time.Hour, ClientRate: provider.Rate{Count: 500, Per: 1e9},
	}
	quick := slow
	quick.Name, quick.ClientRate.Count = "quick", 100_000
	quick.Definition.Limits = provider.Limits{Timeout: 2e9, Concurrency: 32, Rate: quick.ClientRate}
	return map[string]providertest.Dialect{"slow": slow, "quick": quick}
}

// TestFourProcesses lets four keeper processes keep the same 200 connections of
// a slow provider, which ends a grant whose refresh token comes twice.
func TestFourProcesses(t *testing.T) {
	t.Parallel()
	for _, slowness := range []struct{ least, most time.Duration }{{time.Second, 4 * time.Second}, {8 * time.Second, 14 * time.Second}} {
		t.Run(slowness.most.String(), func(t *testing.T) {
			t.Parallel()
			testFourProcesses(t, slowness.least, slowness.most)
		})
	}
}

func testFourProcesses(t *testing.T, least, most time.Duration) {
	const connections, processes = 200, 4
	w := newWorld(t, raceDialects()["slow"])
	sim, random := w.sims["slow"], randomOf(2)
	sim.Inject(providertest.Rule{Pick: func(providertest.Request) (providertest.Fault, bool) {
		whole := least + time.Duration(random.Int64N(int64(most-least)))
		part := time.Duration(random.Int64N(int64(whole)))
		return providertest.Fault{Latency: part, AnswerLatency: whole - part}, true
	}})
	o := order{Dir: w.dir, Place: w.place, Root: w.root.Base64(), Providers: w.urls, Limit: 60, Readers: 8}
	for i := range connections {
		id := fmt.Sprintf("slow-%d", i)
		w.connect(id, "slow")
		o.IDs = append(o.IDs, id)
	}
	w.clock.move(56 * time.Minute) // all are due
	o.Ahead = 56 * time.Minute
	var all []*process
	for range processes {
		all = append(all, spawn(t, o))
	}
	deadline := time.Now().Add(5 * time.Minute)
	for {
		time.Sleep(500 * time.Millisecond)
		waiting := 0
		for _, id := range o.IDs {
			if w.row(id).Generation < 2 {
				waiting++
			}
		}
		if waiting == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections were not refreshed in time", waiting)
		}
	}
	stopAll(t, all)
	stats := sim.Stats()
	t.Logf("%d requests for tokens, at most %d at once", len(stats.TokenRequests), stats.Concurrent)
	if len(stats.DoubleSpends) > 0 || stats.FamiliesRevoked > 0 {
		t.Errorf("%d double spends, %d families revoked", len(stats.DoubleSpends), stats.FamiliesRevoked)
	}
	for _, grant := range sim.Grants() {
		row := w.row(grant.Owner)
		if grant.State != providertest.Live || row.State != keeper.Active {
			t.Errorf("%s: %s at the provider, %s here: %s", grant.Owner, grant.State, row.State, strings.Join(sim.History(grant.ID), "; "))
		}
	}
}
