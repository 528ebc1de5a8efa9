package issuer_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
)

// uses are the stored counts of a client, by habit.
func (e *site) uses(client string) map[issuer.Habit]issuer.Use {
	e.t.Helper()
	all := map[issuer.Habit]issuer.Use{}
	listed, err := e.admin.Habits(e.ctx(), issuer.UseFilter{ClientID: client})
	e.must(err)
	for _, u := range listed {
		all[u.Habit] = u.Use
	}
	return all
}

// wantUses checks how often a client relied on what; anything else is none.
func (e *site) wantUses(client string, want map[issuer.Habit]int64) {
	e.t.Helper()
	got := e.uses(client)
	for habit, n := range want {
		if got[habit].Count != n {
			e.t.Errorf("%s of %s: %d, want %d", habit, client, got[habit].Count, n)
		}
	}
	for habit, u := range got {
		if _, ok := want[habit]; !ok {
			e.t.Errorf("%s of %s: %d, want none", habit, client, u.Count)
		}
	}
}

// TestHabitsOfRefreshing: what a refresh relied on is counted for its client, and
// what every client does is not.
func TestHabitsOfRefreshing(t *testing.T) {
	e := legacy(t, issuer.Profile{}, issuer.UnsafeAdditive)
	always := e.variant("always", issuer.Policy{})
	first := e.login(always)
	e.refreshed(always, e.refreshed(always, first.RefreshToken).RefreshToken)
	e.wantUses("always", map[issuer.Habit]int64{issuer.HabitPassword: 1})

	lost := e.login(always)
	e.refreshed(always, lost.RefreshToken)
	e.refreshed(always, lost.RefreshToken)
	e.wantUses("always", map[issuer.Habit]int64{issuer.HabitPassword: 2, issuer.HabitRetry: 1})

	never := e.variant("never", issuer.Policy{Rotation: issuer.RotateNever})
	kept := e.login(never)
	for range 3 {
		e.refreshed(never, kept.RefreshToken)
	}
	e.wantUses("never", map[issuer.Habit]int64{issuer.HabitPassword: 1, issuer.HabitKeptToken: 3})

	once := e.variant("once", issuer.Policy{Rotation: issuer.RotateOnce})
	e.refreshed(once, e.login(once).RefreshToken)
	e.wantUses("once", map[issuer.Habit]int64{issuer.HabitPassword: 1, issuer.HabitNoSuccessor: 1})

	additive := e.variant("additive", issuer.Policy{Rotation: issuer.RotateAdditive})
	old := e.login(additive)
	e.refreshed(additive, old.RefreshToken)
	e.refreshed(additive, old.RefreshToken)
	e.wantUses("additive", map[issuer.Habit]int64{issuer.HabitPassword: 1, issuer.HabitOlderToken: 1})
}

// TestHabitsHaveTheirTimes: when a habit was first and last relied on, over
// several times that counts were stored, and anew after it was forgotten.
func TestHabitsHaveTheirTimes(t *testing.T) {
	e := newSite(t, setup{})
	never := e.variant("never", issuer.Policy{Rotation: issuer.RotateNever, RefreshTokenLifetime: issuer.None})
	token := e.login(never).RefreshToken
	begin := e.clock.now()
	var last time.Time
	for range 5 {
		last = e.clock.now()
		e.refreshed(never, token)
		e.refreshed(never, token)
		e.uses("never")
		e.clock.advance(time.Hour)
	}
	if u := e.uses("never")[issuer.HabitKeptToken]; u.Count != 10 || !u.First.Equal(begin) || !u.Last.Equal(last) {
		t.Errorf("%+v, want 10 from %v to %v", u, begin, last)
	}
	e.must(e.admin.ForgetHabits(e.ctx(), "never"))
	e.wantUses("never", map[issuer.Habit]int64{})
	e.refreshed(never, token)
	if u := e.uses("never")[issuer.HabitKeptToken]; u.Count != 1 || !u.First.Equal(e.clock.now()) {
		t.Errorf("%+v", u)
	}
}

var errFull = errors.New("the disk is full")

// uncounted is a store that cannot count for a while.
type uncounted struct {
	issuer.Store
	fail error
}

func (u *uncounted) CountUses(ctx context.Context, uses []issuer.Use) error {
	if u.fail != nil {
		return u.fail
	}
	return u.Store.CountUses(ctx, uses)
}

// TestCountsWaitForTheStore: counts that could not be stored are stored later,
// once, and no request minds.
func TestCountsWaitForTheStore(t *testing.T) {
	store := &uncounted{}
	e := newSite(t, setup{wrap: func(s issuer.Store) issuer.Store {
		store.Store = s
		return store
	}})
	never := e.variant("never", issuer.Policy{Rotation: issuer.RotateNever})
	token := e.login(never).RefreshToken
	store.fail = errFull
	for range 3 {
		e.refreshed(never, token)
		if _, err := e.admin.Habits(e.ctx(), issuer.UseFilter{}); !errors.Is(err, errFull) {
			t.Errorf("the report with a store that fails: %v", err)
		}
	}
	store.fail = nil
	e.wantUses("never", map[issuer.Habit]int64{issuer.HabitPassword: 1, issuer.HabitKeptToken: 3})
}

// TestCountsAreStoredAtTheEnd: what was counted before a server stops is stored.
func TestCountsAreStoredAtTheEnd(t *testing.T) {
	e := newSite(t, setup{})
	never := e.variant("never", issuer.Policy{Rotation: issuer.RotateNever})
	e.refreshed(never, e.login(never).RefreshToken)
	ctx, cancel := context.WithCancel(e.ctx())
	cancel()
	if err := e.server.Run(ctx); err != nil {
		t.Fatal(err)
	}
	stored, err := e.db.Uses(e.ctx(), issuer.UseFilter{ClientID: "never"})
	e.must(err)
	if len(stored) != 2 {
		t.Errorf("%+v", stored)
	}
}
