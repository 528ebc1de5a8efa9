package keeper_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
	"github.com/evergrant/evergrant/store/storetest"
)

var errDown = errors.New("the database is down")

// faulty puts a store before the world's keeper that fails as it is told.
func (w *world) faulty(before, after func(method string) error) {
	w.store = storetest.FaultyKeeper{Store: w.db.Keeper(), Before: before, After: after}
	w.start()
}

// TestEveryWriteFails fails each write of a refresh of a token for single use,
// once before it is done and once after, and later lets the same keeper, or a
// new one on the same database, go on: no token is spent twice and none is lost.
func TestEveryWriteFails(t *testing.T) {
	for _, method := range []string{"Lease", "Begin", "Answer", "Commit"} {
		for _, applied := range []bool{false, true} {
			for _, restarted := range []bool{false, true} {
				name := method + map[bool]string{false: " not applied", true: " applied"}[applied] + map[bool]string{false: "", true: ", then a restart"}[restarted]
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					testWriteFails(t, method, applied, restarted)
				})
			}
		}
	}
}

func testWriteFails(t *testing.T, method string, applied, restarted bool) {
	w := newWorld(t, single())
	grant := w.connect("one", "single")
	var failing atomic.Bool
	fail := func(called string) error {
		if called == method && failing.Load() {
			return errDown
		}
		return nil
	}
	if applied {
		w.faulty(nil, fail)
	} else {
		w.faulty(fail, nil)
	}
	failing.Store(true)
	token, err := w.k.Token(t.Context(), "one", keeper.Want{After: 1})
	switch tolerated := method == "Answer" || method == "Commit" && applied; {
	case tolerated && (err != nil || token.Generation != 2):
		t.Fatalf("got generation %d, %v", token.Generation, err)
	case !tolerated && !errors.Is(err, errDown):
		t.Fatalf("got %v", err)
	}
	failing.Store(false)
	if restarted {
		w.start()
	}
	w.clock.move(time.Minute) // the lease may have stayed
	got := w.token("one", keeper.Want{After: 1})
	if got.Generation != 2 || !w.sims["single"].Alive(got.AccessToken.Reveal()) {
		t.Errorf("afterwards: generation %d", got.Generation)
	}
	if at := w.sims["single"].Grant(grant); at.State != providertest.Live || !slices.Equal(at.Spends, []int{1, 0}) {
		t.Errorf("at the provider: %+v", at)
	}
	if next := w.token("one", keeper.Want{Force: true}); next.Generation != 3 {
		t.Errorf("the next refresh gives generation %d", next.Generation)
	}
	if left := must[[]string](t)(filepath.Glob(filepath.Join(w.dir, "spool", "*.*"))); len(left) > 0 {
		t.Errorf("the spool keeps %v", left)
	}
}

// TestOldAnswer lets the access token of an answer that was never committed expire
// in the journal: whoever asks then is given the next one, for each kind of need.
func TestOldAnswer(t *testing.T) {
	for name, want := range map[string]keeper.Want{"a live one": {}, "another one": {After: 1}, "for a minute": {MinTTL: time.Minute}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, single())
			w.connect("one", "single")
			var failing atomic.Bool
			failing.Store(true)
			w.faulty(func(method string) error {
				if method == "Commit" && failing.Load() {
					return errDown
				}
				return nil
			}, nil)
			if _, err := w.k.Token(t.Context(), "one", keeper.Want{After: 1}); !errors.Is(err, errDown) {
				t.Fatalf("got %v", err)
			}
			failing.Store(false)
			w.clock.move(2 * time.Hour)
			got := w.token("one", want)
			if got.Generation != 3 || !w.sims["single"].Alive(got.AccessToken.Reveal()) {
				t.Errorf("got generation %d, which ends at %v; it is %v", got.Generation, got.ExpiresAt, w.clock.now())
			}
		})
	}
}

// TestSpool holds that an answer which the store does not take outlives the
// process, and that its tokens are not seen before they are committed.
func TestSpool(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		t.Run(map[bool]string{false: "the same process", true: "another process"}[restarted], func(t *testing.T) {
			w := newWorld(t, single())
			grant := w.connect("one", "single")
			var down atomic.Bool
			w.sims["single"].Inject(providertest.Rule{Times: 1, Fault: providertest.Fault{Before: func() { down.Store(true) }}})
			w.faulty(func(string) error {
				if down.Load() {
					return errDown
				}
				return nil
			}, nil)
			if _, err := w.k.Token(t.Context(), "one", keeper.Want{After: 1}); !errors.Is(err, errDown) {
				t.Fatalf("got %v", err)
			}
			if _, err := w.k.Token(t.Context(), "one", keeper.Want{After: 1}); !errors.Is(err, errDown) {
				t.Errorf("a token was seen that is not committed: %v", err)
			}
			kept := must[[]string](t)(filepath.Glob(filepath.Join(w.dir, "spool", "*.answer")))
			if len(kept) != 1 {
				t.Fatalf("the spool has %v", kept)
			}
			info := must[os.FileInfo](t)(os.Stat(kept[0]))
			if info.Mode().Perm() != 0o600 {
				t.Errorf("the file has mode %v", info.Mode())
			}
			if text := must[[]byte](t)(os.ReadFile(kept[0])); strings.Contains(string(text), "sim_") {
				t.Error("the file shows a token")
			}
			down.Store(false)
			if restarted {
				w.start()
			}
			w.clock.move(time.Minute)
			if got := w.token("one", keeper.Want{After: 1}); got.Generation != 2 || !w.sims["single"].Alive(got.AccessToken.Reveal()) {
				t.Errorf("afterwards: generation %d", got.Generation)
			}
			if at := w.sims["single"].Grant(grant); !slices.Equal(at.Spends, []int{1, 0}) {
				t.Errorf("at the provider: %+v", at)
			}
			if left := must[[]string](t)(filepath.Glob(filepath.Join(w.dir, "spool", "*.*"))); len(left) > 0 {
				t.Errorf("the spool keeps %v", left)
			}
		})
	}
}

// TestSpoolOfAnotherKind refuses to start over an answer that it cannot read,
// and says what to do with it.
func TestSpoolOfAnotherKind(t *testing.T) {
	w := newWorld(t, single())
	path := filepath.Join(w.dir, "spool", "0123.answer")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := keeper.New(keeper.Config{Store: w.store, Keys: w.ring, Spool: filepath.Join(w.dir, "spool")})
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "keep it") {
		t.Errorf("got %v", err)
	}
}

// TestReadsFail gives the store's error, and nothing is sent.
func TestReadsFail(t *testing.T) {
	w := newWorld(t, single())
	w.connect("one", "single")
	w.faulty(func(method string) error {
		if method == "Connection" {
			return errDown
		}
		return nil
	}, nil)
	if _, err := w.k.Token(t.Context(), "one", keeper.Want{Force: true}); !errors.Is(err, errDown) {
		t.Errorf("got %v", err)
	}
	if n := w.sims["single"].Stats().Requests[provider.Refresh]; n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

// TestOutageOfTheStore holds that a token which was read goes on being served
// while the store is away, as long as it lives; and that one which a refresh was
// to replace is served where only writing fails.
func TestOutageOfTheStore(t *testing.T) {
	for _, away := range []string{"", "Lease"} {
		w := newWorld(t, single())
		w.connect("one", "single")
		var down atomic.Bool
		w.faulty(func(method string) error {
			if down.Load() && (away == "" || away == method) {
				return errDown
			}
			return nil
		}, nil)
		first := w.token("one", keeper.Want{})
		down.Store(true)
		w.clock.move(58 * time.Minute)
		if again := w.token("one", keeper.Want{}); again.Generation != first.Generation {
			t.Errorf("generation %d", again.Generation)
		}
		if _, err := w.k.Token(t.Context(), "one", keeper.Want{MinTTL: 10 * time.Minute}); !errors.Is(err, errDown) {
			t.Errorf("a token that lives too short is served: %v", err)
		}
		w.clock.move(3 * time.Minute)
		if _, err := w.k.Token(t.Context(), "one", keeper.Want{}); !errors.Is(err, errDown) {
			t.Errorf("a token that is over is served: %v", err)
		}
		down.Store(false)
		if renewed := w.token("one", keeper.Want{}); renewed.Generation != 2 {
			t.Errorf("afterwards: generation %d", renewed.Generation)
		}
	}
}

// TestStoreFailsWhileInDoubt holds that what could not be written about a lost
// answer is found out later from the journal.
func TestStoreFailsWhileInDoubt(t *testing.T) {
	w := newWorld(t, single())
	w.connect("one", "single")
	var down atomic.Bool
	w.sims["single"].Inject(providertest.Rule{Times: 1, Fault: providertest.Fault{Drop: true, After: func() { down.Store(true) }}})
	w.faulty(func(string) error {
		if down.Load() {
			return errDown
		}
		return nil
	}, nil)
	if _, err := w.k.Token(t.Context(), "one", keeper.Want{After: 1}); !errors.Is(err, errDown) {
		t.Fatalf("got %v", err)
	}
	down.Store(false)
	w.clock.move(time.Minute)
	if _, err := w.k.Token(t.Context(), "one", keeper.Want{After: 1}); err == nil {
		t.Error("a token is given")
	}
	if row := w.row("one"); row.State != keeper.InDoubt || row.Cause != keeper.CauseInterrupted {
		t.Errorf("the row is %s (%s)", row.State, row.Cause)
	}
	if stats := w.sims["single"].Stats(); stats.Requests[provider.Refresh] != 1 {
		t.Errorf("%d requests were sent", stats.Requests[provider.Refresh])
	}
}
