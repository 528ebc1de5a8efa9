package testdb_test

import (
	"bytes"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/internal/testdb"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// each runs a test on both kinds of database.
func each(t *testing.T, test func(t *testing.T)) {
	for _, kind := range []string{"sqlite", "postgres"} {
		t.Run(kind, func(t *testing.T) {
			t.Setenv(testdb.Variable, kind)
			test(t)
		})
	}
}

func open(t *testing.T, p testdb.Place) *testdb.DB {
	t.Helper()
	db, err := p.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// put saves a client, and happens records an event of the keeper.
func put(t *testing.T, db *testdb.DB, id string) {
	t.Helper()
	if err := db.PutClient(t.Context(), issuer.Client{ID: id}, issuer.Event{At: time.Now(), Type: issuer.EventClientSaved, ClientID: id}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Keeper().Record(t.Context(), keeper.Event{At: time.Now(), Type: "provider.up", Provider: id}); err != nil {
		t.Fatal(err)
	}
}

// has lists the clients.
func has(t *testing.T, db *testdb.DB) (ids string) {
	t.Helper()
	clients, err := db.Clients(t.Context(), "", 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range clients {
		ids += c.ID + " "
	}
	return ids
}

// TestPlaces holds that each place is a database of its own, that several may
// have it open, and that it outlives them.
func TestPlaces(t *testing.T) {
	each(t, func(t *testing.T) {
		one, two := testdb.New(t), testdb.New(t)
		if one == two {
			t.Fatalf("both are at %s", one)
		}
		first, again, other := open(t, one), open(t, one), open(t, two)
		put(t, first, "a")
		put(t, other, "b")
		if got := has(t, again); got != "a " {
			t.Errorf("clients %q", got)
		}
		if err := first.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		first.Close()
		again.Close()
		db := open(t, one)
		if got := has(t, db); got != "a " {
			t.Errorf("clients %q after all were closed", got)
		}
		var feed []hook.Event
		feed, err := db.Feed(t.Context(), 0, 10)
		if err != nil || len(feed) != 2 {
			t.Errorf("the feed has %d events, %v", len(feed), err)
		}
		if _, err := db.Restored(t.Context(), time.Now()); err != nil {
			t.Error(err)
		}
	})
}

// TestBackup holds that a copy has what was there when it was made, and that its
// ids go on from there.
func TestBackup(t *testing.T) {
	each(t, func(t *testing.T) {
		db := open(t, testdb.New(t))
		put(t, db, "a")
		var copied bytes.Buffer
		if err := db.Backup(t.Context(), &copied); err != nil {
			t.Fatal(err)
		}
		put(t, db, "b")
		restored := open(t, testdb.Restore(t, copied.Bytes()))
		put(t, restored, "c")
		if a, b := has(t, db), has(t, restored); a != "a b " || b != "a c " {
			t.Errorf("clients %q, and restored %q", a, b)
		}
	})
}

// TestFiles holds that what a database keeps can be looked for in its files.
func TestFiles(t *testing.T) {
	each(t, func(t *testing.T) {
		place := testdb.New(t)
		db := open(t, place)
		put(t, db, "needle-in-the-files")
		found := false
		for _, path := range place.Files(t) {
			text, err := os.ReadFile(path)
			found = found || bytes.Contains(text, []byte("needle-in-the-files"))
			if err != nil {
				t.Error(err)
			}
		}
		if !found {
			t.Error("the files do not have what was written")
		}
	})
}

// TestInABubble holds that a database can be made, used and closed in a bubble,
// whose time passes while nobody waits for it.
func TestInABubble(t *testing.T) {
	each(t, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			db := open(t, testdb.New(t))
			put(t, db, "a")
			if waited := time.Since(began); waited > 0 {
				t.Errorf("the bubble's clock went on by %v", waited)
			}
			time.Sleep(26 * time.Hour) // past every timer of a pool
			synctest.Wait()
			if got := has(t, db); got != "a " {
				t.Errorf("clients %q", got)
			}
		})
	})
}
