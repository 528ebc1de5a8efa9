package storetest

import (
	"reflect"
	"slices"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

func restoredCases() []contract {
	return []contract{
		{"a restored copy moves on what may have slid", restoredMovesOn},
		{"a restored copy has connections in doubt that may have been renewed", restoredDoubts},
		{"a copy whose age nothing tells is left alone", restoredWithoutEvents},
		{"connections of a copy of unknown age are in doubt since ever", restoredOfUnknownAge},
	}
}

// restoredMovesOn puts grants in each state into a database
// that was copied at one moment and is restored ten hours later.
func restoredMovesOn(f *fixture) {
	copied := time.Date(2026, 5, 1, 2, 0, 0, 0, time.UTC)
	restored := copied.Add(10 * time.Hour)
	at := func(hours int) time.Time { return copied.Add(time.Duration(hours) * time.Hour) }
	tests := []struct {
		name           string
		grant          issuer.Grant
		wantGeneration uint32
		wantExpires    time.Time
	}{
		{"alive: may have been refreshed until the restore", issuer.Grant{Generation: 5, ExpiresAt: at(8)}, 5, at(18)},
		{"alive and ending: not beyond its absolute end", issuer.Grant{Generation: 5, ExpiresAt: at(8), EndsAt: at(12)}, 5, at(12)},
		{"expired when it was copied: stays so", issuer.Grant{Generation: 5, ExpiresAt: at(-1)}, 5, at(-1)},
		{"never expires", issuer.Grant{Generation: 5}, 5, time.Time{}},
		{"revoked", issuer.Grant{Generation: 5, ExpiresAt: at(8), RevokedAt: at(-2), RevokedCause: issuer.CauseClientRequest}, 5, at(8)},
		{"a code that waited: spent, and what it gave is good", issuer.Grant{ExpiresAt: copied.Add(time.Minute)}, 1, restored.Add(30 * 24 * time.Hour)},
		{"the same, ending", issuer.Grant{ExpiresAt: copied.Add(time.Minute), EndsAt: at(20)}, 1, at(20)},
		{"a code that had expired", issuer.Grant{ExpiresAt: at(-1)}, 0, at(-1)},
	}
	for i := range tests {
		g := &tests[i].grant
		g.ID, g.ClientID, g.Subject, g.CreatedAt, g.RotatedAt = issuer.NewGrantID(), "app", "ada", at(-3), at(-3)
		if err := f.Store.CreateGrant(f.Context(), *g, issuer.Event{At: at(-3), Type: issuer.EventGrantCreated, Grant: g.ID, Actor: "server"}); err != nil {
			f.Fatal(err)
		}
	}
	if err := f.Store.Record(f.Context(), issuer.Event{At: copied, Type: issuer.EventBackedUp, Actor: "operator"}); err != nil {
		f.Fatal(err)
	}
	if _, err := f.Store.Restored(f.Context(), restored); err != nil {
		f.Fatal(err)
	}
	for _, test := range tests {
		got, want := f.grant(test.grant.ID), test.grant
		want.Generation, want.ExpiresAt = test.wantGeneration, test.wantExpires
		if got.Generation != want.Generation || !got.ExpiresAt.Equal(want.ExpiresAt) {
			f.Errorf("%s: got generation %d until %v, want %d until %v", test.name, got.Generation, got.ExpiresAt, want.Generation, want.ExpiresAt)
		}
		if !got.EndsAt.Equal(want.EndsAt) || !got.RevokedAt.Equal(want.RevokedAt) || !got.RotatedAt.Equal(want.RotatedAt) {
			f.Errorf("%s: something else was changed: %+v", test.name, got)
		}
	}
}

// restoredDoubts puts connections in each state into a
// database that was copied at one moment and is restored ten hours later.
func restoredDoubts(f *fixture) {
	copied := time.Date(2026, 5, 1, 2, 0, 0, 0, time.UTC)
	restored, before := copied.Add(10*time.Hour), copied.Add(-time.Hour)
	intent := &keeper.Intent{RequestID: "r", Kind: provider.Refresh, SentAt: before}
	tests := []struct {
		id      string
		c       keeper.Connection
		inDoubt bool
	}{
		{"active", keeper.Connection{State: keeper.Active, Refreshable: true, LeaseUntil: copied.Add(time.Minute)}, true},
		{"active-in-flight", keeper.Connection{State: keeper.Active, Intent: intent}, true},
		{"active-fixed-access-token", keeper.Connection{State: keeper.Active}, false},
		{"in-doubt", keeper.Connection{State: keeper.InDoubt, Cause: keeper.CauseAnswerLost, Intent: intent}, true},
		{"paused", keeper.Connection{State: keeper.Paused, Refreshable: true}, false},
		{"reauthorize", keeper.Connection{State: keeper.Reauthorize, Cause: keeper.CauseRevoked, Refreshable: true, Intent: intent}, false},
	}
	var want []string
	for i := range tests {
		c := &tests[i].c
		c.ID, c.Provider, c.Since, c.DueAt, c.CreatedAt, c.UpdatedAt = tests[i].id, "acme", before, before, before, before
		c.Tokens, c.Generation = secret.Sealed{KeyID: 1, Data: []byte("tokens")}, 3
		if err := f.Keeper.Create(f.Context(), *c, keeper.Event{At: copied, Type: keeper.EventCreated, Connection: c.ID, Actor: "keeper"}); err != nil {
			f.Fatal(err)
		}
		if c.State == keeper.Paused { // in doubt when it is resumed
			c.Cause, c.Since, c.UpdatedAt = keeper.CauseRestored, copied, restored
		}
		if c.Fence = uint64(before.UnixMilli()); tests[i].inDoubt {
			want = append(want, c.ID)
			c.State, c.Cause, c.Since, c.DueAt, c.UpdatedAt = keeper.InDoubt, keeper.CauseRestored, copied, restored, restored
		}
		c.LeaseUntil = time.Time{}
	}
	slices.Sort(want)
	ids, err := f.Store.Restored(f.Context(), restored)
	if err != nil || !slices.Equal(ids, want) {
		f.Fatalf("in doubt are %q (%v), want %q", ids, err, want)
	}
	for _, test := range tests {
		if got, err := f.Keeper.Connection(f.Context(), test.id); err != nil || !reflect.DeepEqual(got, test.c) {
			f.Errorf("got %+v (%v), want %+v", got, err, test.c)
		}
	}
	due, err := f.Keeper.Due(f.Context(), restored, 10)
	if err != nil || len(due) != len(tests) {
		f.Errorf("due are %+v, %v", due, err)
	}
}

// restoredWithoutEvents leaves a copy alone whose age nothing tells.
func restoredWithoutEvents(f *fixture) {
	ids, err := f.Store.Restored(f.Context(), time.Now())
	if err != nil || len(ids) != 0 {
		f.Fatal(ids, err)
	}
}

// restoredOfUnknownAge puts connections in doubt since ever where nothing
// tells the age of a copy, so that no replay window is open.
func restoredOfUnknownAge(f *fixture) {
	now := time.Date(2026, 5, 1, 2, 0, 0, 0, time.UTC)
	c := keeper.Connection{ID: "c", Provider: "acme", State: keeper.Active, Refreshable: true, CreatedAt: now, Since: now}
	if err := f.Keeper.Create(f.Context(), c, keeper.Event{At: now, Actor: "keeper"}); err != nil {
		f.Fatal(err)
	}
	if purged, err := f.Store.Purge(f.Context(), now, now.Add(time.Hour)); err != nil || purged.Events != 1 {
		f.Fatal(purged, err)
	}
	if ids, err := f.Store.Restored(f.Context(), now); err != nil || len(ids) != 1 {
		f.Fatal(ids, err)
	}
	if got, err := f.Keeper.Connection(f.Context(), "c"); err != nil || got.State != keeper.InDoubt || !got.Since.IsZero() {
		f.Errorf("%+v, %v", got, err)
	}
}
