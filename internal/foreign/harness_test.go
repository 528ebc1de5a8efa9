package foreign

import (
	"context"
	"database/sql"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/foreign/foreigntest"
	"github.com/evergrant/evergrant/internal/mariatest"
	"github.com/evergrant/evergrant/internal/pgtest"
)

func TestMain(m *testing.M) {
	os.Exit(mariatest.Main(func() int { return pgtest.Main(m) }))
}

// today is when sources of these tests are read.
var today = time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)

// dialects are the databases of these tests.
var dialects = []string{foreigntest.SQLite, foreigntest.MySQL, foreigntest.Postgres}

// database is an empty database, its address and a connection that writes to it.
func database(t testing.TB, dialect string) (address string, db *sql.DB) {
	t.Helper()
	switch dialect {
	case foreigntest.SQLite:
		address = "sqlite:" + filepath.Join(t.TempDir(), "other server.db")
	case foreigntest.MySQL:
		address = mariatest.Database(t)
	case foreigntest.Postgres:
		address = pgtest.Database(t)
	}
	db, got, err := foreigntest.Connect(address)
	if err != nil || got != dialect {
		t.Fatal(got, err)
	}
	t.Cleanup(func() { db.Close() })
	return address, db
}

// filled is a database with rows of a kind.
func filled(t testing.TB, dialect, kind string, users, clients, tokens int) (address string, db *sql.DB) {
	t.Helper()
	address, db = database(t, dialect)
	if err := foreigntest.Fill(db, dialect, kind, users, clients, tokens); err != nil {
		t.Fatal(err)
	}
	return address, db
}

// empty is a database with the tables of a kind, and nothing in them.
func empty(t testing.TB, dialect, kind string) (address string, db *sql.DB) {
	t.Helper()
	address, db = database(t, dialect)
	run(t, db, foreigntest.Schema(dialect, kind)...)
	return address, db
}

func run(t testing.TB, db *sql.DB, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// opened is a source that is read as of today, and closed with the test.
func opened(t testing.TB, address string, o Options) *Source {
	t.Helper()
	o.Now = func() time.Time { return today }
	s, err := Open(context.Background(), address, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// collect reads a sequence to its end: the values, what cannot be used, and the
// error that ended it.
func collect[T any](sequence iter.Seq2[T, error]) (values []T, skipped []string, err error) {
	for value, problem := range sequence {
		var row *RowError
		switch {
		case problem == nil:
			values = append(values, value)
		case errors.As(problem, &row):
			skipped = append(skipped, row.Error())
		default:
			err = errors.Join(err, problem)
		}
	}
	return values, skipped, err
}

// all is collect of a sequence in which nothing may go wrong.
func all[T any](t testing.TB, sequence iter.Seq2[T, error]) []T {
	t.Helper()
	values, skipped, err := collect(sequence)
	if len(skipped) > 0 || err != nil {
		t.Fatalf("skipped %q, %v", skipped, err)
	}
	return values
}
