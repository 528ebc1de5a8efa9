// Package testdb opens the database for tests of packages that run on any: a
// SQLite file in a temporary directory, or a PostgreSQL database on a server that
// [pgtest] starts. The environment says which:
//
//	EVERGRANT_TEST_DATABASE=postgres go test ./issuer
//
// Packages that use it end their TestMain with os.Exit(pgtest.Main(m)).
package testdb

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/store/postgres"
	"github.com/evergrant/evergrant/store/sqlite"
	"github.com/evergrant/evergrant/store/storetest"
)

// Variable is the environment variable that names the database of the tests:
// "sqlite", which it is where the variable is empty, or "postgres".
const Variable = "EVERGRANT_TEST_DATABASE"

// Place is where a database is: the path of a SQLite file, or the connection
// string of a PostgreSQL database. Any number of processes may open it.
type Place string

// New is the place of an empty database, which goes with the test.
func New(t testing.TB) Place {
	t.Helper()
	if onPostgres(t) {
		return Place(pgtest.Prepared(t, func(url string) error {
			db, err := postgres.Open(context.Background(), url, postgres.Options{})
			if err != nil {
				return err
			}
			return db.Close()
		}))
	}
	return Place(filepath.Join(t.TempDir(), "evergrant.db"))
}

// Restore is the place of a database that is made of a copy ([DB.Backup]).
func Restore(t testing.TB, copied []byte) Place {
	t.Helper()
	if onPostgres(t) {
		return Place(pgtest.Load(t, copied))
	}
	p := New(t)
	if err := os.WriteFile(string(p), copied, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func onPostgres(t testing.TB) bool {
	t.Helper()
	name := os.Getenv(Variable)
	if name != "" && name != "sqlite" && name != "postgres" {
		t.Fatalf("%s is %q: it must be sqlite or postgres", Variable, name)
	}
	return name == "postgres"
}

func (p Place) postgres() bool { return strings.HasPrefix(string(p), "postgres://") }

// Files are the paths of the files that hold the database.
func (p Place) Files(t testing.TB) []string {
	t.Helper()
	if p.postgres() {
		return pgtest.Files(t, string(p))
	}
	files, err := filepath.Glob(string(p) + "*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files at %s: %v", p, err)
	}
	return files
}

// database is what both kinds offer.
type database interface {
	issuer.Store
	issuer.Lists
	hook.Store
	Ready(ctx context.Context) error
	Restored(ctx context.Context, now time.Time) ([]string, error)
	Close() error
}

// DB is an open database of either kind. It does not listen for events
// ([hook.Listener]), on neither: in a synctest bubble the clock would stand still
// for as long as a connection waits to be told something.
type DB struct {
	database
	keeper storetest.Keeper
	place  Place
}

// Open opens the database at a place.
func (p Place) Open(ctx context.Context) (*DB, error) {
	if p.postgres() {
		db, err := postgres.Open(ctx, string(p), postgres.Options{})
		if err != nil {
			return nil, err
		}
		return &DB{db, db.Keeper(), p}, nil
	}
	db, err := sqlite.Open(ctx, string(p), sqlite.Options{})
	if err != nil {
		return nil, err
	}
	return &DB{db, db.Keeper(), p}, nil
}

// Keeper is what a keeper persists in the database.
func (db *DB) Keeper() storetest.Keeper { return db.keeper }

// Backup writes a copy of the database as it is: SQLite's own, or pg_dump's. The
// database goes on meanwhile.
func (db *DB) Backup(ctx context.Context, w io.Writer) error {
	if file, ok := db.database.(*sqlite.DB); ok {
		return file.Backup(ctx, w)
	}
	return pgtest.Dump(string(db.place), w)
}
