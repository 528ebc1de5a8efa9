package postgres

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

// TestRestoredMovesOnWhatMayHaveSlid puts grants in each state into a database
// that was copied at one moment and is restored ten hours later.
func TestRestoredMovesOnWhatMayHaveSlid(t *testing.T) {
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
	db := opened(t, pgtest.Database(t))
	for i := range tests {
		g := &tests[i].grant
		g.ID, g.ClientID, g.Subject, g.CreatedAt, g.RotatedAt = issuer.NewGrantID(), "app", "ada", at(-3), at(-3)
		if err := db.CreateGrant(t.Context(), *g, issuer.Event{At: at(-3), Type: issuer.EventGrantCreated, Grant: g.ID, Actor: "server"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Record(t.Context(), issuer.Event{At: copied, Type: issuer.EventBackedUp, Actor: "operator"}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Restored(t.Context(), restored); err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := db.Grant(t.Context(), test.grant.ID)
			if err != nil {
				t.Fatal(err)
			}
			want := test.grant
			want.Generation, want.ExpiresAt = test.wantGeneration, test.wantExpires
			if got.Generation != want.Generation || !got.ExpiresAt.Equal(want.ExpiresAt) {
				t.Errorf("got generation %d until %v, want %d until %v", got.Generation, got.ExpiresAt, want.Generation, want.ExpiresAt)
			}
			if !got.EndsAt.Equal(want.EndsAt) || !got.RevokedAt.Equal(want.RevokedAt) || !got.RotatedAt.Equal(want.RotatedAt) {
				t.Errorf("something else was changed: %+v", got)
			}
		})
	}
}

// TestRestoredPutsConnectionsInDoubt puts connections in each state into a
// database that was copied at one moment and is restored ten hours later.
func TestRestoredPutsConnectionsInDoubt(t *testing.T) {
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
	db := opened(t, pgtest.Database(t))
	var want []string
	for i := range tests {
		c := &tests[i].c
		c.ID, c.Provider, c.Since, c.DueAt, c.CreatedAt, c.UpdatedAt = tests[i].id, "acme", before, before, before, before
		c.Tokens, c.Generation = secret.Sealed{KeyID: 1, Data: []byte("tokens")}, 3
		if err := db.Keeper().Create(t.Context(), *c, keeper.Event{At: copied, Type: keeper.EventCreated, Connection: c.ID, Actor: "keeper"}); err != nil {
			t.Fatal(err)
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
	ids, err := db.Restored(t.Context(), restored)
	if err != nil || !slices.Equal(ids, want) {
		t.Fatalf("in doubt are %q (%v), want %q", ids, err, want)
	}
	for _, test := range tests {
		if got, err := db.Keeper().Connection(t.Context(), test.id); err != nil || !reflect.DeepEqual(got, test.c) {
			t.Errorf("got %+v (%v), want %+v", got, err, test.c)
		}
	}
	due, err := db.Keeper().Due(t.Context(), restored, 10)
	if err != nil || len(due) != len(tests) {
		t.Errorf("due are %+v, %v", due, err)
	}
}

// TestRestoredWithoutEvents leaves a copy alone whose age nothing tells.
func TestRestoredWithoutEvents(t *testing.T) {
	db := opened(t, pgtest.Database(t))
	ids, err := db.Restored(t.Context(), time.Now())
	if err != nil || len(ids) != 0 {
		t.Fatal(ids, err)
	}
}

// TestRestoredOfUnknownAge puts connections in doubt since ever where nothing
// tells the age of a copy, so that no replay window is open.
func TestRestoredOfUnknownAge(t *testing.T) {
	db := opened(t, pgtest.Database(t))
	now := time.Date(2026, 5, 1, 2, 0, 0, 0, time.UTC)
	c := keeper.Connection{ID: "c", Provider: "acme", State: keeper.Active, Refreshable: true, CreatedAt: now, Since: now}
	if err := db.Keeper().Create(t.Context(), c, keeper.Event{At: now, Actor: "keeper"}); err != nil {
		t.Fatal(err)
	}
	if purged, err := db.Purge(t.Context(), now, now.Add(time.Hour)); err != nil || purged.Events != 1 {
		t.Fatal(purged, err)
	}
	if ids, err := db.Restored(t.Context(), now); err != nil || len(ids) != 1 {
		t.Fatal(ids, err)
	}
	if got, err := db.Keeper().Connection(t.Context(), "c"); err != nil || got.State != keeper.InDoubt || !got.Since.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
}
