package keeper_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
	"github.com/evergrant/evergrant/secret"
)

// running is a world in a bubble. Such tests run side by side.
func running(t *testing.T, test func(t *testing.T, w *world), dialects ...providertest.Dialect) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, closeWorld := newBubble(t, dialects...)
		defer closeWorld()
		test(t, w)
	})
}

// short is a single-use dialect whose access tokens live for 20 minutes.
func short(name string) providertest.Dialect {
	return providertest.Dialect{Name: name, Rotation: provider.RotationSingleUse, AccessLife: 20 * time.Minute}
}

// TestRunKeepsFresh: connections that nobody reads are renewed before they
// expire, within the budget, and drift apart.
func TestRunKeepsFresh(t *testing.T) {
	d := short("away")
	d.ClientRate = provider.Rate{Count: 5, Per: 1e9}
	running(t, func(t *testing.T, w *world) {
		const connections = 80
		sim := w.sims["away"]
		sim.Inject(providertest.Rule{Fault: providertest.Fault{AnswerLatency: 300 * time.Millisecond}})
		w.change = func(cfg *keeper.Config) { cfg.Rand = randomOf(1).Float64 }
		w.start()
		for i := range connections {
			w.connect(fmt.Sprint("c", i), "away")
		}
		runIn(t, func() {
			for range 24 {
				time.Sleep(5 * time.Minute)
				for _, grant := range sim.Grants() {
					if grant.State != providertest.Live {
						t.Fatalf("%s is %s: %s", grant.ID, grant.State, grant.Cause)
					}
				}
				for i := range connections {
					if row := w.row(fmt.Sprint("c", i)); !row.ExpiresAt.After(time.Now()) {
						t.Fatalf("%s expired at %s: %s", row.ID, row.ExpiresAt, row.Error)
					}
				}
			}
		}, w.k)
		stats := sim.Stats()
		if stats.Concurrent > 8 || stats.Peak(time.Second) > 5 {
			t.Errorf("%d at once, %d in a second", stats.Concurrent, stats.Peak(time.Second))
		}
		if n := len(stats.TokenRequests); n < 7*connections || n > 11*connections {
			t.Errorf("%d refreshes of %d connections in two hours of tokens that live for 20 minutes", n, connections)
		}
		if peak := stats.Peak(2 * time.Minute); peak > connections {
			t.Errorf("%d requests within two minutes", peak)
		}
	}, d)
}

// TestRunIsPrompt: what is created or resumed while Run sleeps is looked at at
// once, and what is due within a second when it is.
func TestRunIsPrompt(t *testing.T) {
	running(t, func(t *testing.T, w *world) {
		runIn(t, func() {
			time.Sleep(10*time.Second + 123*time.Millisecond)
			began := time.Now()
			must[keeper.Connection](t)(w.k.Create(t.Context(), operator, keeper.Import{ID: "one", Provider: "machine"}))
			synctest.Wait()
			time.Sleep(time.Millisecond)
			if row := w.row("one"); row.Generation != 1 || time.Since(began) > 5*time.Millisecond {
				t.Errorf("generation %d after %s", row.Generation, time.Since(began))
			}
			due := w.row("one").DueAt
			must[keeper.Connection](t)(w.k.Pause(t.Context(), operator, "one"))
			time.Sleep(2 * time.Hour)
			if row := w.row("one"); row.Generation != 1 || time.Now().Before(due) {
				t.Errorf("a paused one was renewed")
			}
			must[keeper.Connection](t)(w.k.Resume(t.Context(), operator, "one"))
			time.Sleep(time.Millisecond)
			if row := w.row("one"); row.Generation != 2 {
				t.Errorf("generation %d when it was resumed", row.Generation)
			}
			due = w.row("one").DueAt
			time.Sleep(time.Until(due) - 1321*time.Millisecond)
			must[keeper.Connection](t)(w.k.Create(t.Context(), operator, keeper.Import{Provider: "machine"})) // the last look before
			time.Sleep(time.Until(due) - time.Millisecond)
			if row := w.row("one"); row.Generation != 2 {
				t.Errorf("renewed %s before it was due", time.Until(due))
			}
			time.Sleep(3 * time.Millisecond)
			if row := w.row("one"); row.Generation != 3 {
				t.Errorf("not renewed when it was due")
			}
		}, w.k)
	}, machine())
}

// TestRunSurvivesAClockStep: somebody sets the clock back, and what is due is
// renewed all the same.
func TestRunSurvivesAClockStep(t *testing.T) {
	running(t, func(t *testing.T, w *world) {
		elsewhere := w.another()
		runIn(t, func() {
			time.Sleep(time.Minute)
			w.clock.move(-10 * time.Hour)
			w.k = elsewhere // which does not wake the one that runs
			w.expired("one", "away", "")
			time.Sleep(16 * time.Second)
		}, w.k)
		if row := w.row("one"); row.Generation != 2 || row.State != keeper.Active {
			t.Errorf("generation %d, %s", row.Generation, row.State)
		}
	}, short("away"))
}

// TestSlowProviderHoldsUpNobody: a provider that takes its time, with more due
// than a query reads, leaves the others in time.
func TestSlowProviderHoldsUpNobody(t *testing.T) {
	slow, quick := short("slow"), short("quick")
	slow.AccessLife = 24 * time.Hour
	running(t, func(t *testing.T, w *world) {
		w.sims["slow"].Inject(providertest.Rule{Fault: providertest.Fault{AnswerLatency: 20 * time.Second}})
		for i := range 600 {
			w.expired(fmt.Sprint("s", i), "slow", "")
		}
		for i := range 20 {
			w.connect(fmt.Sprint("q", i), "quick")
		}
		runIn(t, func() {
			for range 40 {
				time.Sleep(time.Minute)
				for i := range 20 {
					if row := w.row(fmt.Sprint("q", i)); !row.ExpiresAt.After(time.Now()) {
						t.Fatalf("%s expired at %s", row.ID, row.ExpiresAt)
					}
				}
			}
		}, w.k)
		stats := w.sims["slow"].Stats()
		if n := stats.Requests[provider.Refresh]; stats.Concurrent != 8 || n != 600 {
			t.Errorf("the slow one: %d at once, %d requests", stats.Concurrent, n)
		}
	}, slow, quick)
}

// expired imports a connection whose access token is over.
func (w *world) expired(id, providerName, owner string) {
	w.t.Helper()
	_, tokens := w.sims[providerName].Connect(id)
	must[keeper.Connection](w.t)(w.k.Create(w.t.Context(), operator, keeper.Import{
		ID: id, Provider: providerName, Owner: owner, AccessToken: tokens.AccessToken, RefreshToken: tokens.RefreshToken, ExpiresAt: w.clock.now().Add(-time.Minute),
	}))
}

// TestManyAreDue: what is due is read as fast as it is served.
func TestManyAreDue(t *testing.T) {
	d := short("away")
	d.ClientRate = provider.Rate{Count: 1000, Per: 1e9}
	running(t, func(t *testing.T, w *world) {
		const connections = 1000
		for i := range connections {
			w.expired(fmt.Sprint("c", i), "away", "")
		}
		runIn(t, func() { time.Sleep(1500 * time.Millisecond) }, w.k)
		if n := w.sims["away"].Stats().Requests[provider.Refresh]; n != connections {
			t.Errorf("%d of %d were renewed", n, connections)
		}
	}, d)
}

// TestOwnersTakeTurnsInTheBackground: an owner with many due connections does not
// stand before one with a few, within what a query reads.
func TestOwnersTakeTurnsInTheBackground(t *testing.T) {
	running(t, func(t *testing.T, w *world) {
		var order []string
		w.sims["away"].Inject(providertest.Rule{Pick: func(q providertest.Request) (providertest.Fault, bool) {
			order = append(order, q.Grant)
			return providertest.Fault{AnswerLatency: time.Second}, true
		}})
		for i := range 150 {
			w.expired(fmt.Sprint("a", i), "away", "big")
		}
		for i := range 3 {
			w.expired(fmt.Sprint("b", i), "away", "small")
		}
		runIn(t, func() { time.Sleep(time.Minute) }, w.k)
		for i := range 3 {
			if at := slices.Index(order, fmt.Sprint("grant-", 151+i)); at < 0 || at > 16 {
				t.Errorf("the small owner's connection %d was served as number %d of %d", i, at, len(order))
			}
		}
	}, short("away"))
}

// TestReadersGoFirst: who reads a connection of a provider that has much to do
// does not wait for all of it.
func TestReadersGoFirst(t *testing.T) {
	d := short("away")
	d.ClientRate = provider.Rate{Count: 1, Per: 1e9}
	running(t, func(t *testing.T, w *world) {
		for i := range 100 {
			w.expired(fmt.Sprint("c", i), "away", "")
		}
		runIn(t, func() {
			time.Sleep(10 * time.Second)
			began := time.Now()
			if token := w.token("c99", keeper.Want{}); token.Generation != 2 || time.Since(began) > 4*time.Second {
				t.Errorf("generation %d after %s", token.Generation, time.Since(began))
			}
		}, w.k)
	}, d)
}

// TestRunEnds: when it is told to end, what is under way is finished and
// committed, and nothing is begun any more.
func TestRunEnds(t *testing.T) {
	running(t, func(t *testing.T, w *world) {
		for i := range 50 {
			w.expired(fmt.Sprint("c", i), "away", "")
		}
		w.sims["away"].Inject(providertest.Rule{Fault: providertest.Fault{AnswerLatency: 5 * time.Second}})
		runIn(t, func() { time.Sleep(7 * time.Second) }, w.k)
		renewed := 0
		for i := range 50 {
			row := w.row(fmt.Sprint("c", i))
			if row.Generation == 2 {
				renewed++
			}
			if row.Intent != nil || row.State != keeper.Active {
				t.Errorf("%s is %s, and an intent is open: %v", row.ID, row.State, row.Intent != nil)
			}
		}
		if n := w.sims["away"].Stats().Requests[provider.Refresh]; renewed != 16 || n != 16 {
			t.Errorf("%d were renewed, %d requests sent", renewed, n)
		}
	}, short("away"))
}

// TestTwoRunners: two processes on one database renew each connection once.
func TestTwoRunners(t *testing.T) {
	running(t, func(t *testing.T, w *world) {
		for i := range 100 {
			w.connect(fmt.Sprint("c", i), "away")
		}
		runIn(t, func() { time.Sleep(time.Hour) }, w.k, w.another())
		stats := w.sims["away"].Stats()
		if len(stats.DoubleSpends) > 0 || stats.Requests[provider.Refresh] > 500 {
			t.Errorf("%d requests, double spends %v", stats.Requests[provider.Refresh], stats.DoubleSpends)
		}
		for i := range 100 {
			if row := w.row(fmt.Sprint("c", i)); row.State != keeper.Active || !row.ExpiresAt.After(time.Now()) {
				t.Errorf("%s is %s and expires at %s: %s", row.ID, row.State, row.ExpiresAt, row.Error)
			}
		}
	}, short("away"))
}

// countedDue is a store that counts queries for what is due, and fails for a
// while.
type countedDue struct {
	keeper.Store
	queries atomic.Int64
	failing atomic.Bool
}

func (c *countedDue) Due(ctx context.Context, at time.Time, limit int, providers ...string) ([]keeper.Due, error) {
	c.queries.Add(1)
	if c.failing.Load() {
		return nil, errLamed
	}
	return c.Store.Due(ctx, at, limit, providers...)
}

// TestPolling: the store is asked about once a second with much to do, seldom
// with nothing, and a store that fails is neither hurried nor given up.
func TestPolling(t *testing.T) {
	d := short("away")
	d.ClientRate = provider.Rate{Count: 50, Per: 1e9}
	running(t, func(t *testing.T, w *world) {
		var log strings.Builder
		w.log = &lockedWriter{to: &log}
		store := &countedDue{Store: w.store}
		w.store = store
		w.start()
		runIn(t, func() {
			time.Sleep(100 * time.Second)
			if n := store.queries.Swap(0); n < 5 || n > 9 {
				t.Errorf("%d queries in 100 seconds without work", n)
			}
			for i := range 1000 {
				w.expired(fmt.Sprint("c", i), "away", "")
			}
			store.queries.Store(0)
			time.Sleep(40 * time.Second)
			if n, served := store.queries.Swap(0), w.sims["away"].Stats().Requests[provider.Refresh]; n > 60 || served != 1000 {
				t.Errorf("%d queries in 40 seconds, for %d connections", n, served)
			}
			store.failing.Store(true)
			time.Sleep(30 * time.Minute)
			if n := store.queries.Swap(0); n < 300 || n > 2000 {
				t.Errorf("%d queries of a store that fails, in half an hour", n)
			}
			store.failing.Store(false)
			time.Sleep(time.Minute)
			for i := range 1000 {
				if row := w.row(fmt.Sprint("c", i)); !row.ExpiresAt.After(time.Now()) {
					t.Fatalf("%s expired at %s", row.ID, row.ExpiresAt)
				}
			}
		}, w.k)
		if n := strings.Count(log.String(), "does not say what is due"); n != 1 {
			t.Errorf("told %d times", n)
		}
	}, d)
}

type lockedWriter struct {
	mu sync.Mutex
	to *strings.Builder
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(p)
}

// TestWhatCannotBeRenewedIsPutOff: connections that can be neither renewed nor
// judged do not stand before others, and are looked at again.
func TestWhatCannotBeRenewedIsPutOff(t *testing.T) {
	running(t, func(t *testing.T, w *world) {
		w.expired("good", "away", "")
		row := w.row("good")
		for i := range 300 {
			bad := row
			bad.ID, bad.Tokens = fmt.Sprint("bad", i), secret.Sealed{KeyID: 1, Data: []byte("nobody sealed this")}
			bad.DueAt = row.DueAt.Add(-time.Hour)
			if err := w.store.Create(t.Context(), bad, keeper.Event{At: time.Now(), Type: keeper.EventCreated, Connection: bad.ID}); err != nil {
				t.Fatal(err)
			}
		}
		runIn(t, func() {
			time.Sleep(time.Minute)
			if row := w.row("good"); row.Generation != 2 {
				t.Errorf("behind 300 that cannot be opened one is not renewed: generation %d, due %s", row.Generation, row.DueAt)
			}
			if left := time.Until(w.row("bad7").DueAt); left < time.Minute || left > 5*time.Minute {
				t.Errorf("looked at again in %s", left)
			}
		}, w.k)
	}, short("away"))
}

// TestOtherHostsGoOn: of a provider with a host for each connection, those whose
// host is down do not stand before the others.
func TestOtherHostsGoOn(t *testing.T) {
	running(t, func(t *testing.T, w *world) {
		reach := w.dials["away"]
		w.dials["away"] = func(ctx context.Context, network, address string) (net.Conn, error) {
			if strings.HasPrefix(address, "127.0.0.2:") {
				return nil, errors.New("connection refused")
			}
			return reach(ctx, network, address)
		}
		w.change = func(cfg *keeper.Config) {
			def := w.sims["away"].Definition(w.urls["away"])
			def.Params = map[string]provider.Param{"host": {Pattern: `127\.0\.0\.\d`}}
			def.TokenURL = "http://{params.host}:1" + providertest.TokenPath
			cfg.Providers = []*provider.Provider{newProvider(t, "away", def, w.clock.now, w.dials["away"])}
		}
		w.start()
		create := func(id, host string) {
			_, tokens := w.sims["away"].Connect(id)
			must[keeper.Connection](t)(w.k.Create(t.Context(), operator, keeper.Import{
				ID: id, Provider: "away", Params: map[string]string{"host": host}, AccessToken: tokens.AccessToken, RefreshToken: tokens.RefreshToken, ExpiresAt: time.Now().Add(-time.Hour),
			}))
		}
		for i := range 300 {
			create(fmt.Sprint("down", i), "127.0.0.2")
		}
		for i := range 10 {
			create(fmt.Sprint("up", i), "127.0.0.1")
		}
		runIn(t, func() {
			time.Sleep(2 * time.Minute)
			for i := range 10 {
				if row := w.row(fmt.Sprint("up", i)); row.Generation != 2 {
					t.Errorf("%s: generation %d, %s", row.ID, row.Generation, row.Error)
				}
			}
			if row := w.row("down7"); row.State != keeper.Active || !row.DueAt.After(time.Now()) {
				t.Errorf("%s is %s, due %s", row.ID, row.State, row.DueAt)
			}
		}, w.k)
		if w.k.Room("away") != 8 {
			t.Errorf("one host that is down leaves room for %d requests", w.k.Room("away"))
		}
	}, short("away"))
}

// TestDownProviderCostsNothing: while a provider is known to be down its
// connections are neither asked about nor written.
func TestDownProviderCostsNothing(t *testing.T) {
	running(t, func(t *testing.T, w *world) {
		for i := range 100 {
			w.connect(fmt.Sprint("c", i), "away")
		}
		w.sims["away"].Inject(providertest.Rule{Until: time.Now().Add(12 * time.Hour), Fault: providertest.Unavailable(http.StatusServiceUnavailable, "3600")})
		runIn(t, func() {
			time.Sleep(6 * time.Hour)
			untouched := 0
			for i := range 100 {
				if row := w.row(fmt.Sprint("c", i)); row.Attempt == 0 {
					untouched++
				}
			}
			if untouched < 30 {
				t.Errorf("%d of 100 connections were not touched in six hours", untouched)
			}
			if n := w.sims["away"].Stats().Requests[provider.Refresh]; n > 80 {
				t.Errorf("%d requests", n)
			}
			if room := w.k.Room("away"); room > 1 {
				t.Errorf("there is room for %d requests", room)
			}
		}, w.k)
	}, providertest.Dialect{Name: "away", Rotation: provider.RotationFixed, AccessLife: 20 * time.Minute})
}

// TestForgottenCode: a row that was made for a code of which nothing came, by a
// process that ended, goes.
func TestForgottenCode(t *testing.T) {
	running(t, func(t *testing.T, w *world) {
		w.connect("one", "away")
		row := w.row("one")
		row.ID, row.State, row.Cause, row.Generation, row.Tokens = "two", keeper.Reauthorize, keeper.CauseNotConnected, 0, secret.Sealed{}
		row.DueAt = time.Now().Add(5 * time.Minute)
		if err := w.store.Create(t.Context(), row, keeper.Event{At: time.Now(), Type: keeper.EventCreated, Connection: "two"}); err != nil {
			t.Fatal(err)
		}
		runIn(t, func() {
			time.Sleep(4 * time.Minute)
			w.row("two")
			time.Sleep(2 * time.Minute)
		}, w.k)
		if _, err := w.store.Connection(t.Context(), "two"); !errors.Is(err, keeper.ErrNotFound) {
			t.Errorf("it is still there: %v", err)
		}
		if got, want := w.events("two"), []string{keeper.EventCreated, keeper.EventDeleted}; !slices.Equal(got, want) {
			t.Errorf("events %v, want %v", got, want)
		}
	}, short("away"))
}

// TestWarnedOnce: the owner is told once that the grant comes to its end, also by
// a process that was away when that began, and the connection lives on.
func TestWarnedOnce(t *testing.T) {
	d := short("away")
	d.GrantLife = 100 * 24 * time.Hour
	running(t, func(t *testing.T, w *world) {
		w.connect("one", "away")
		must[keeper.Connection](t)(w.k.Create(t.Context(), operator, keeper.Import{
			ID: "bare", Provider: "away", AccessToken: secret.NewText("at"), ExpiresAt: time.Now().Add(100 * 24 * time.Hour),
		}))
		w.clock.move(95 * 24 * time.Hour)
		runIn(t, func() { time.Sleep(time.Hour) }, w.k)
		for _, id := range []string{"one", "bare"} {
			n := 0
			for _, event := range must[[]keeper.Event](t)(w.store.Events(t.Context(), keeper.EventFilter{Connection: id})) {
				if event.Type == keeper.EventExpiring {
					n++
					if !strings.Contains(event.Detail, w.row(id).CreatedAt.UTC().AddDate(0, 0, 100).Format("2006-01-02")) {
						t.Errorf("%s: told %q", id, event.Detail)
					}
				}
			}
			if row := w.row(id); n != 1 || row.State != keeper.Active || row.WarnedAt.IsZero() || !row.ExpiresAt.After(w.clock.now()) {
				t.Errorf("%s: told %d times; it is %s and expires at %s", id, n, row.State, row.ExpiresAt)
			}
		}
	}, d)
}

// TestNothingToDo: what cannot be worked on any more is due no more, and nothing
// is sent for it.
func TestNothingToDo(t *testing.T) {
	running(t, func(t *testing.T, w *world) {
		w.connect("one", "away")
		row := w.row("one")
		for state, cause := range map[keeper.State]keeper.Cause{keeper.Reauthorize: keeper.CauseRevoked, keeper.Paused: keeper.CauseOperator} {
			row.ID, row.State, row.Cause, row.DueAt = string(state), state, cause, time.Now()
			if err := w.store.Create(t.Context(), row, keeper.Event{At: time.Now(), Type: keeper.EventCreated, Connection: row.ID}); err != nil {
				t.Fatal(err)
			}
		}
		runIn(t, func() { time.Sleep(time.Minute) }, w.k)
		for _, id := range []string{"reauthorize", "paused"} {
			if after := w.row(id); !after.DueAt.IsZero() || string(after.State) != id || after.Generation != row.Generation {
				t.Errorf("%s is %s, due %s", id, after.State, after.DueAt)
			}
		}
		if n := w.sims["away"].Stats().Requests[provider.Refresh]; n != 0 {
			t.Errorf("%d requests were sent", n)
		}
	}, short("away"))
}

// fullDisk is a store that takes neither answers nor rows for a while.
type fullDisk struct {
	keeper.Store
	full atomic.Bool
}

func (f *fullDisk) Answer(ctx context.Context, id, requestID string, answer secret.Sealed) (bool, error) {
	if f.full.Load() {
		return false, errLamed
	}
	return f.Store.Answer(ctx, id, requestID, answer)
}

func (f *fullDisk) Commit(ctx context.Context, fence, generation uint64, next keeper.Connection, events ...keeper.Event) (bool, error) {
	if f.full.Load() {
		return false, errLamed
	}
	return f.Store.Commit(ctx, fence, generation, next, events...)
}

// TestSpoolDrains: answers that the store did not take are committed in the
// background as soon as it does, whether or not anybody reads the connections.
func TestSpoolDrains(t *testing.T) {
	running(t, func(t *testing.T, w *world) {
		store := &fullDisk{Store: w.store}
		w.store = store
		w.start()
		for i := range 5 {
			w.connect(fmt.Sprint("c", i), "away")
		}
		runIn(t, func() {
			store.full.Store(true)
			for i := range 5 {
				if token, err := w.k.Token(t.Context(), fmt.Sprint("c", i), keeper.Want{After: 1}); err == nil {
					t.Errorf("a token is given that is not durable: generation %d of c%d", token.Generation, i)
				}
			}
			store.full.Store(false)
			time.Sleep(time.Minute) // by when the leases are over
		}, w.k)
		for i := range 5 {
			if row := w.row(fmt.Sprint("c", i)); row.Generation != 2 || row.Intent != nil || row.State != keeper.Active {
				t.Errorf("%s: generation %d, %s, an intent is open: %v", row.ID, row.Generation, row.State, row.Intent != nil)
			}
		}
		if n := w.sims["away"].Stats().Requests[provider.Refresh]; n != 5 {
			t.Errorf("%d requests were sent", n)
		}
		if left := must[[]string](t)(filepath.Glob(filepath.Join(w.dir, "spool", "*.answer"))); len(left) > 0 {
			t.Errorf("in the spool: %v", left)
		}
	}, short("away"))
}

// TestBrokenOffIsResolved: what a process left in the middle of a refresh that
// was not due is brought to its end in the background, at once and not when the
// token expires: a replay window may be short.
func TestBrokenOffIsResolved(t *testing.T) {
	d := short("away")
	d.ReplayWindow = 5 * time.Minute
	running(t, func(t *testing.T, w *world) {
		w.connect("one", "away")
		store := &lamedRows{Store: w.store, commit: "before"}
		w.store = store
		w.start()
		time.Sleep(2 * time.Minute)
		w.sims["away"].Inject(providertest.Rule{Times: 1, Fault: providertest.DropAfter()})
		if _, err := w.k.Token(t.Context(), "one", keeper.Want{After: 1}); err == nil {
			t.Fatal("it was not broken off")
		}
		store.commit = ""
		w.start()
		runIn(t, func() { time.Sleep(2 * time.Minute) }, w.k)
		if row := w.row("one"); row.Generation != 2 || row.State != keeper.Active || row.Intent != nil {
			t.Errorf("generation %d, %s, due %s, at %s", row.Generation, row.State, row.DueAt, time.Now())
		}
	}, d)
}

// TestRunWaitsForReaders: Run ends only when no request is out, although it was a
// reader that began it, and who has left.
func TestRunWaitsForReaders(t *testing.T) {
	w := newWorld(t, single())
	w.connect("one", "single")
	acted, answer := make(chan struct{}), make(chan struct{})
	w.sims["single"].Inject(providertest.Rule{Times: 1, Fault: providertest.Fault{After: func() { close(acted); <-answer }}})
	running, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.k.Run(running) }()
	reader, leave := context.WithCancel(t.Context())
	left := make(chan struct{})
	go func() {
		w.k.Token(reader, "one", keeper.Want{Force: true})
		close(left)
	}()
	<-acted
	leave()
	<-left
	stop()
	select {
	case <-ended:
		t.Error("it ended with a request out")
	case <-time.After(200 * time.Millisecond):
	}
	close(answer)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if row := w.row("one"); row.Generation != 2 {
		t.Errorf("generation %d", row.Generation)
	}
}
