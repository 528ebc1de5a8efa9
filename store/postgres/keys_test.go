package postgres

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/secret"
)

// addKey stores the record of a key.
func addKey(t testing.TB, db *DB, id uint32) {
	t.Helper()
	if err := db.AddKey(t.Context(), secret.KeyRecord{ID: id, Root: "root"}); err != nil {
		t.Fatal(err)
	}
}

func hasKey(t testing.TB, db *DB, id uint32) bool {
	t.Helper()
	records, err := db.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range records {
		if record.ID == id {
			return true
		}
	}
	return false
}

// TestDeleteKeyWaits: a key is deleted when all that may be about to seal
// something under it has been committed or has failed, and then only if nothing
// is sealed under it.
func TestDeleteKeyWaits(t *testing.T) {
	url := pgtest.Database(t)
	db := opened(t, url)
	for i, test := range []struct {
		name, seals string
		commit      bool
		want        error
	}{
		{"tokens", "UPDATE connections SET key_id = 1, tokens = 'x' WHERE id = 'c'", true, secret.ErrKeyInUse},
		{"an answer", "UPDATE journal SET answer_key = 1, answer = 'x' WHERE connection = 'c'", true, secret.ErrKeyInUse},
		{"tokens of a commit that fails", "UPDATE connections SET key_id = 1, tokens = 'x' WHERE id = 'c'", false, nil},
		{"tokens under another key", "UPDATE connections SET key_id = 2, tokens = 'x' WHERE id = 'c'", true, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			if i == 0 {
				c := keeper.Connection{ID: "c", Provider: "acme", State: keeper.Active}
				if err := db.Keeper().Create(t.Context(), c, keeper.Event{Type: "x", Connection: "c"}); err != nil {
					t.Fatal(err)
				}
			}
			addKey(t, db, 1)
			conn, watch := connected(t, url), connected(t, url)
			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			execute(t, tx, test.seals)
			deleted := make(chan error, 1)
			go func() { deleted <- db.DeleteKey(t.Context(), 1) }()
			eventually(t, "the deletion waits", func() bool {
				return value[int](t, watch, "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ShareLock' AND relation IN ('connections'::regclass, 'journal'::regclass)") == 1
			})
			if test.commit {
				err = tx.Commit(t.Context())
			} else {
				err = tx.Rollback(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := <-deleted; !errors.Is(err, test.want) {
				t.Errorf("the error is %v, want %v", err, test.want)
			}
			if is := hasKey(t, db, 1); is != (test.want != nil) {
				t.Errorf("the key is there: %v", is)
			}
			execute(t, conn, "UPDATE connections SET key_id = 0, tokens = NULL")
			execute(t, conn, "UPDATE journal SET answer_key = NULL, answer = NULL")
			execute(t, conn, "DELETE FROM keys")
		})
	}
}

// TestDeleteKeyGivesWay: who waits too long for a transaction that does not end
// lets the others pass, and the key stays.
func TestDeleteKeyGivesWay(t *testing.T) {
	url := pgtest.Database(t)
	db := openedWith(t, url, Options{Deadline: 2 * time.Second})
	addKey(t, db, 1)
	tx, err := connected(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	execute(t, tx, "INSERT INTO journal (connection, fence, lease_until) VALUES ('other', 1, 0)")
	if err := db.DeleteKey(t.Context(), 1); !errors.Is(err, issuer.ErrUnavailable) {
		t.Errorf("the error is %v", err)
	}
	if !hasKey(t, db, 1) {
		t.Error("the key is gone")
	}
	if err := db.Ready(t.Context()); err != nil {
		t.Errorf("the database is taken as one that does not commit: %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := db.DeleteKey(t.Context(), 1); err != nil || hasKey(t, db, 1) {
		t.Error(err)
	}
}

// TestKeysIn reads the keys of databases that are not open, and leaves them as
// they are.
func TestKeysIn(t *testing.T) {
	empty, foreign, newer, ours := pgtest.Database(t), pgtest.Database(t), pgtest.Database(t), pgtest.Database(t)
	execute(t, connected(t, foreign), "CREATE TABLE keys (id integer)")
	addKey(t, opened(t, ours), 3)
	opened(t, newer)
	execute(t, connected(t, newer), "UPDATE evergrant SET version = 1000, oldest = 1000")
	tables := func(url string) int {
		return value[int](t, connected(t, url), "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
	}
	for _, test := range []struct {
		name, url string
		want      int
		err       error
	}{
		{"empty", empty, 0, nil},
		{"another program's", foreign, 0, ErrNotOurs},
		{"a newer release's", newer, 0, ErrNewer},
		{"ours", ours, 1, nil},
		{"one that is not there", strings.Replace(empty, "/test_", "/none_", 1), 0, issuer.ErrUnavailable},
	} {
		before := 0
		if !errors.Is(test.err, issuer.ErrUnavailable) {
			before = tables(test.url)
		}
		records, err := KeysIn(t.Context(), test.url)
		if len(records) != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s: %v, %v", test.name, records, err)
		}
		if before != 0 && tables(test.url) != before || test.url == empty && tables(empty) != 0 {
			t.Errorf("%s was changed", test.name)
		}
	}
	if _, err := KeysIn(t.Context(), "postgres://x:hush@[broken"); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("the error is %v", err)
	}
}
