package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/evergrant/evergrant/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() storetest.Store {
		path := filepath.Join(t.TempDir(), "evergrant.db")
		return func() storetest.Store { return open(t, path, Options{}) }
	})
}

// open opens a database; whoever closes it first, it is closed in the end.
func open(t testing.TB, path string, o Options) *DB {
	t.Helper()
	db, err := Open(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}
