package sqlite_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/store/sqlite"
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
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "copy.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
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
	if err := db.Restored(t.Context(), restored); err != nil {
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

// TestRestoredWithoutEvents leaves a copy alone whose age nothing tells.
func TestRestoredWithoutEvents(t *testing.T) {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "copy.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Restored(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
}
