package postgres

import (
	"errors"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/issuer"
)

func TestVersion(t *testing.T) {
	known := len(migrations())
	url := pgtest.Database(t)
	if version, latest, err := Version(t.Context(), url); err != nil || version != 0 || latest != known {
		t.Errorf("an empty database has layout %d of %d, %v", version, latest, err)
	}
	opened(t, url)
	if version, latest, err := Version(t.Context(), url); err != nil || version != known || latest != known {
		t.Errorf("a new database has layout %d of %d, %v", version, latest, err)
	}
	conn := connected(t, url)
	execute(t, conn, "UPDATE evergrant SET version = 1000, oldest = 1000")
	if _, _, err := Version(t.Context(), url); !errors.Is(err, ErrNewer) {
		t.Errorf("a newer database: %v", err)
	}
	other := pgtest.Database(t)
	execute(t, connected(t, other), "CREATE TABLE other (id integer)")
	if _, _, err := Version(t.Context(), other); !errors.Is(err, ErrNotOurs) {
		t.Errorf("another program's database: %v", err)
	}
	if _, _, err := Version(t.Context(), "postgres://ann@127.0.0.1:1/none?sslmode=disable"); !errors.Is(err, issuer.ErrUnavailable) {
		t.Errorf("no server: %v", err)
	}
	if _, _, err := Version(t.Context(), "nonsense"); err == nil {
		t.Error("no connection string: no error")
	}
}

func TestSessions(t *testing.T) {
	url := pgtest.Database(t)
	counts := func(want bool) {
		t.Helper()
		var n int
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			var err error
			if n, err = Sessions(t.Context(), url); err != nil {
				t.Fatal(err)
			}
			if n > 0 == want { // the server takes a moment to see that a client is gone
				return
			}
		}
		t.Errorf("%d sessions", n)
	}
	counts(false)
	connected(t, url) // by another name
	counts(false)
	db := opened(t, url)
	counts(true)
	db.Close()
	counts(false)
}
