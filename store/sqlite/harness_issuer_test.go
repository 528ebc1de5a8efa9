package sqlite_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/killtest"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/sqlite"
)

// service is an authorization server on a database file.
type service = killtest.Service[*sqlite.DB]

// openService opens the file at path, as another process would after a crash or
// a restore. A nil now is the clock on the wall.
func openService(ctx context.Context, path string, root secret.Root, o sqlite.Options, now func() time.Time) (*service, error) {
	store, err := sqlite.Open(ctx, path, o)
	if err != nil {
		return nil, err
	}
	return killtest.NewService(ctx, store, root, now)
}

func databaseIn(dir string) string { return filepath.Join(dir, "evergrant.db") }

// must ends the test where there is an error, and passes the value on.
func must[T any](t *testing.T) func(T, error) T { return killtest.Must[T](t) }
