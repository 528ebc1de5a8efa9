package keeper_test

import (
	"bytes"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/testdb"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
)

// backup copies the database as it is, and says so in it first, as the command
// for backups does.
func (w *world) backup() []byte {
	w.t.Helper()
	var out bytes.Buffer
	if err := w.db.Record(w.t.Context(), issuer.Event{At: w.clock.now(), Type: issuer.EventBackedUp, Actor: "operator"}); err != nil {
		w.t.Fatal(err)
	}
	if err := w.db.Backup(w.t.Context(), &out); err != nil {
		w.t.Fatal(err)
	}
	return out.Bytes()
}

// restore puts a copy in the place of the database, and starts a keeper on it.
// The spool stays as it is.
func (w *world) restore(copied []byte) {
	w.t.Helper()
	w.db.Close()
	w.place = testdb.Restore(w.t, copied)
	w.openStore()
	must[[]string](w.t)(w.db.Restored(w.t.Context(), w.clock.now()))
	w.start()
}

// restoreDialects are providers with each way to repair a restored connection,
// and with none.
func restoreDialects() map[string]providertest.Dialect {
	all := map[string]providertest.Dialect{"fixed": single(), "window": single(), "single": single(), "rotating": single(), "checked": single(), "minted": providertest.Tink()}
	for name, change := range map[string]func(*providertest.Dialect){
		"fixed":    func(d *providertest.Dialect) { d.Rotation = provider.RotationFixed },
		"window":   func(d *providertest.Dialect) { d.ReplayWindow = 30 * time.Minute },
		"rotating": func(d *providertest.Dialect) { d.Rotation = provider.RotationRotating },
		"checked":  func(d *providertest.Dialect) { d.LiveAccessTokens = 1 },
		"minted": func(d *providertest.Dialect) {
			d.AccessLife, d.Definition.Authorize.Scopes = time.Hour, []string{"accounts:read"}
		},
		"single": func(*providertest.Dialect) {},
	} {
		d := all[name]
		d.Name = name
		change(&d)
		all[name] = d
	}
	return all
}

// restorable is a world with two connections at each provider: one that is
// renewed after the copy is made, and one that is not.
func restorable(t *testing.T) (w *world, ids []string) {
	t.Helper()
	all := restoreDialects()
	var dialects []providertest.Dialect
	for _, d := range all {
		dialects = append(dialects, d)
	}
	w = newWorld(t, dialects...)
	for name := range all {
		w.sims[name].SetConsent(providertest.Allow)
		for _, id := range []string{name + "-renewed", name + "-untouched"} {
			w.connect(id, name)
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return w, ids
}

func nameOf(id string) string { name, _, _ := strings.Cut(id, "-"); return name }

// spentTwice lists what no restore may do.
func (w *world) spentTwice() (found []string) {
	for name, sim := range w.sims {
		for _, spend := range sim.Stats().DoubleSpends {
			found = append(found, name+" "+spend.Grant)
		}
	}
	return found
}

// attended runs the keeper until nothing is due.
func (w *world) attended(t *testing.T) {
	t.Helper()
	runIn(t, func() {
		for range 1000 {
			rows, now := must[[]keeper.Connection](t)(w.db.Keeper().Connections(t.Context(), keeper.Filter{})), w.clock.now()
			if !slices.ContainsFunc(rows, func(c keeper.Connection) bool { return !c.DueAt.IsZero() && !now.Before(c.DueAt) }) {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Fatal("something stays due")
	}, w.k)
}

// TestRestore goes back to a copy of the database that is older than the newest
// tokens. What can be repaired without a risk repairs itself; of the others no
// refresh token is sent that may have been used since, their access tokens are
// served to their ends, and then a person is needed.
func TestRestore(t *testing.T) {
	w, ids := restorable(t)
	w.clock.move(5 * time.Minute)
	copied := w.backup()
	w.clock.move(time.Minute)
	for _, id := range ids {
		if strings.HasSuffix(id, "-renewed") {
			w.token(id, keeper.Want{Force: true})
		}
	}
	w.clock.move(4 * time.Minute)
	w.restore(copied)
	for _, id := range ids {
		if row := w.row(id); row.State != keeper.InDoubt || row.Cause != keeper.CauseRestored || row.Generation != 1 {
			t.Errorf("%s is %s (%s) at generation %d", id, row.State, row.Cause, row.Generation)
		}
	}
	w.attended(t)

	repaired := []string{"checked-untouched", "fixed-renewed", "fixed-untouched", "minted-renewed", "minted-untouched", "window-renewed", "window-untouched"}
	doubtful := []string{"rotating-renewed", "rotating-untouched", "single-renewed", "single-untouched"}
	for _, id := range repaired {
		row, token := w.row(id), w.token(id, keeper.Want{})
		if row.State != keeper.Active || row.Generation != 2 || row.Intent != nil || !w.sims[nameOf(id)].Alive(token.AccessToken.Reveal()) {
			t.Errorf("%s: the row is %s (%s) at generation %d: %s", id, row.State, row.Cause, row.Generation, row.Error)
		}
		if !slices.Contains(w.events(id), keeper.EventRecovered) {
			t.Errorf("%s: events %v", id, w.events(id))
		}
	}
	if u := w.unusable("checked-renewed", keeper.Want{}); u.Cause != keeper.CauseReplayed || !u.NeedsOwner() {
		t.Errorf("what proved to be used: %v", u)
	}
	served := func(id string) {
		t.Helper()
		for _, want := range []keeper.Want{{}, {Force: true}} {
			if token := w.token(id, want); token.Generation != 1 || !w.sims[nameOf(id)].Alive(token.AccessToken.Reveal()) {
				t.Errorf("%s: generation %d", id, token.Generation)
			}
		}
	}
	for _, id := range doubtful {
		served(id)
		w.clock.move(time.Minute)
		w.attended(t)
	}
	if found := w.spentTwice(); len(found) > 0 {
		t.Fatalf("spent twice: %v", found)
	}

	w.clock.move(time.Hour)
	for range 5 {
		w.attended(t)
		w.clock.move(24 * time.Hour)
	}
	for _, id := range doubtful {
		u := w.unusable(id, keeper.Want{Force: true})
		if u.State != keeper.InDoubt || u.Cause != keeper.CauseRestored || !u.NeedsOwner() || u.RetryAfter != 0 ||
			!strings.Contains(u.Repair, "connect again") || !strings.Contains(u.Repair, "in spite of the doubt") {
			t.Errorf("%s: %v", id, u)
		}
		if n := w.sims[nameOf(id)].Stats().Requests[provider.Refresh]; n != 1 { // of the renewed one, before the restore
			t.Errorf("%s: %d refreshes", id, n)
		}
	}
	testRestoredRepairs(t, w)
}

// testRestoredRepairs holds what an operator and an owner can do about a restored
// connection that is left in doubt.
func testRestoredRepairs(t *testing.T, w *world) {
	row, err := w.k.Refresh(t.Context(), operator, "single-untouched", true)
	if token := w.token("single-untouched", keeper.Want{}); err != nil || row.State != keeper.Active || !w.sims["single"].Alive(token.AccessToken.Reveal()) {
		t.Errorf("refreshed in spite of the doubt: %+v, %v", row, err)
	}
	if _, err := w.k.Refresh(t.Context(), operator, "rotating-untouched", false); err == nil {
		t.Error("refreshed without the operator's word")
	}
	for _, id := range []string{"single-renewed", "rotating-renewed"} {
		before := w.row(id)
		in := w.link(keeper.Connect{Provider: nameOf(id), Connection: id})
		_, row, err := w.k.Finish(t.Context(), w.visit(in), cookie)
		if err != nil || row.ID != id || row.State != keeper.Active || row.Intent != nil || !row.CreatedAt.Equal(before.CreatedAt) || row.Owner != id {
			t.Errorf("%s, reconnected: %+v, %v", id, row, err)
		}
		for range 2 {
			if token := w.token(id, keeper.Want{Force: true}); !w.sims[nameOf(id)].Alive(token.AccessToken.Reveal()) {
				t.Errorf("%s: the token is dead", id)
			}
		}
	}
	if found := w.spentTwice(); len(found) > 0 {
		t.Errorf("spent twice: %v", found)
	}
}

// TestRestoredTooLateForTheWindow holds that a window which has closed since the
// copy was made is not used, nor one that is open but in which the successor of
// the copy's refresh token may have been used: providers end the window then.
func TestRestoredTooLateForTheWindow(t *testing.T) {
	for _, tt := range []struct {
		name   string
		window time.Duration
		pass   time.Duration // between the copy and its return
		times  int           // renewals in it
	}{
		{"closed", 10 * time.Minute, 11 * time.Minute, 1},
		{"closed, nothing renewed", 10 * time.Minute, 11 * time.Minute, 0},
		{"open, renewed many times", 30 * 24 * time.Hour, 20 * time.Hour, 25},
		{"open, could have been renewed twice", 2 * time.Hour, 57 * time.Minute, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := single()
			d.ReplayWindow = tt.window
			w := newWorld(t, d)
			grant := w.connect("one", "single")
			copied := w.backup()
			for range tt.times {
				w.clock.move(tt.pass / time.Duration(tt.times))
				w.token("one", keeper.Want{Force: true})
			}
			if tt.times == 0 {
				w.clock.move(tt.pass)
			}
			sent := w.sims["single"].Stats().Requests[provider.Refresh]
			w.restore(copied)
			w.attended(t)
			w.k.Token(t.Context(), "one", keeper.Want{Force: true})
			w.clock.move(2 * time.Hour)
			w.attended(t)
			if u := w.unusable("one", keeper.Want{}); u.State != keeper.InDoubt || u.Cause != keeper.CauseRestored || !u.NeedsOwner() {
				t.Errorf("got %v", u)
			}
			if got := w.sims["single"].Grant(grant); got.State != providertest.Live || w.sims["single"].Stats().Requests[provider.Refresh] != sent {
				t.Errorf("something was sent; at the provider: %+v", got)
			}
		})
	}
}

// TestRestoredInTheMiddle makes the copy while a refresh is under way, at each of
// its steps, and lets it and another one be finished: no refresh token of the
// copy is sent that was used, whatever its journal holds.
func TestRestoredInTheMiddle(t *testing.T) {
	for _, step := range []string{keeper.StepLeased, keeper.StepJournaled, keeper.StepSend, keeper.StepSent, keeper.StepAnswered, keeper.StepCommit, keeper.StepCommitted} {
		for _, name := range []string{"single", "checked", "fixed", "minted"} {
			t.Run(step+" "+name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, restoreDialects()[name])
				w.connect("one", name)
				var copied []byte
				var done atomic.Bool
				w.change = func(cfg *keeper.Config) {
					cfg.Step = func(at string) {
						if at == step && done.CompareAndSwap(false, true) {
							copied = w.backup()
						}
					}
				}
				w.start()
				w.token("one", keeper.Want{Force: true})
				w.token("one", keeper.Want{Force: true})
				w.clock.move(time.Minute)
				w.restore(copied)
				w.attended(t)
				w.k.Token(t.Context(), "one", keeper.Want{Force: true})
				row := w.row("one")
				if wants := name == "fixed" || name == "minted"; wants != (row.State == keeper.Active) {
					t.Errorf("the row is %s (%s) at generation %d", row.State, row.Cause, row.Generation)
				}
				if token, err := w.k.Token(t.Context(), "one", keeper.Want{}); name != "checked" && (err != nil || !w.sims[name].Alive(token.AccessToken.Reveal())) {
					t.Errorf("its access token is not served: %v", err)
				}
				w.clock.move(3 * time.Hour)
				w.attended(t)
				w.k.Token(t.Context(), "one", keeper.Want{})
				if found := w.spentTwice(); len(found) > 0 {
					t.Errorf("spent twice: %v", found)
				}
			})
		}
	}
}

// TestRestoredWhilePaused holds that a pause which the copy has and which was
// ended since does not hide that the refresh token may have been used.
func TestRestoredWhilePaused(t *testing.T) {
	w := newWorld(t, single())
	grant := w.connect("one", "single")
	must[keeper.Connection](t)(w.k.Pause(t.Context(), operator, "one"))
	copied := w.backup()
	must[keeper.Connection](t)(w.k.Resume(t.Context(), operator, "one"))
	w.token("one", keeper.Want{Force: true})
	w.restore(copied)
	if row := w.row("one"); row.State != keeper.Paused {
		t.Errorf("the row is %s", row.State)
	}
	must[keeper.Connection](t)(w.k.Resume(t.Context(), operator, "one"))
	w.attended(t)
	if token := w.token("one", keeper.Want{Force: true}); token.Generation != 1 {
		t.Errorf("generation %d", token.Generation)
	}
	w.clock.move(2 * time.Hour)
	if u := w.unusable("one", keeper.Want{}); u.Cause != keeper.CauseRestored || !u.NeedsOwner() {
		t.Errorf("got %v", u)
	}
	if got := w.sims["single"].Grant(grant); got.State != providertest.Live || !slices.Equal(got.Spends, []int{1, 0}) {
		t.Errorf("at the provider: %+v", got)
	}
}
