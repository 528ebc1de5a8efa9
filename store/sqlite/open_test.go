package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	driver "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// tempPath is where a test keeps its database.
func tempPath(t testing.TB) string { return filepath.Join(t.TempDir(), "evergrant.db") }

// execute runs a script on a database file, past all that the package does.
func execute(t testing.TB, path, script string) {
	t.Helper()
	conn, err := driver.OpenConn(path, driver.OpenReadWrite, driver.OpenCreate)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := sqlitex.ExecuteScript(conn, script, nil); err != nil {
		t.Fatal(err)
	}
}

// inWriter runs f where operations run.
func inWriter(t testing.TB, db *DB, f func(*driver.Conn) error) {
	t.Helper()
	if err := db.writer.do(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreForTheirOwnerOnly(t *testing.T) {
	path := tempPath(t)
	db := open(t, path, Options{})
	create1(t, db)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", info.Name(), info.Mode().Perm())
		}
	}
}

// create1 stores a usual grant.
func create1(t testing.TB, db *DB) issuer.Grant {
	t.Helper()
	g := usualGrant(time.UnixMilli(1_700_000_000_000).UTC())
	if err := db.CreateGrant(t.Context(), g, issuer.Event{At: g.CreatedAt, Type: issuer.EventGrantCreated, Grant: g.ID}); err != nil {
		t.Fatal(err)
	}
	return g
}

// next is the usual step of a grant.
func next(g issuer.Grant) issuer.Rotation {
	at := g.RotatedAt.Add(time.Second)
	return issuer.Rotation{
		ID: g.ID, ClientID: g.ClientID, From: g.Generation, To: g.Generation + 1, KeyID: g.KeyID,
		At: at, ExpiresAt: at.Add(14 * 24 * time.Hour), AccessExpiresAt: at.Add(time.Hour),
	}
}

func TestCommitsAreDurable(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	settings := func(conn *driver.Conn) error {
		for pragma, want := range map[string]int64{"synchronous": 2, "page_size": 1024, "wal_autocheckpoint": 0, "fullfsync": 1, "checkpoint_fullfsync": 1} {
			if got, err := number(conn, "PRAGMA "+pragma); err != nil || got != want {
				t.Errorf("%s is %d (%v), want %d", pragma, got, err, want)
			}
		}
		return run(conn, "PRAGMA journal_mode", func(stmt *driver.Stmt) error {
			if mode := stmt.ColumnText(0); mode != "wal" {
				t.Errorf("journal mode is %s", mode)
			}
			return nil
		})
	}
	inWriter(t, db, settings)
	for range readerCount + 1 {
		if err := db.readers.do(t.Context(), settings); err != nil {
			t.Error(err)
		}
	}
}

// TestSettingsAreReadBack finds a connection whose synchronous setting cannot
// be made: within a transaction SQLite refuses.
func TestSettingsAreReadBack(t *testing.T) {
	path := tempPath(t)
	open(t, path, Options{})
	conn, err := driver.OpenConn(path, driver.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	check(t, run(conn, "PRAGMA synchronous = NORMAL", nil))
	check(t, run(conn, "BEGIN", nil))
	if err := settle(conn); err == nil {
		t.Error("a connection that is not durable was taken")
	}
}

func TestReadersCannotWrite(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	err := db.readers.do(t.Context(), func(conn *driver.Conn) error { return run(conn, "DELETE FROM grants", nil) })
	if !errors.Is(err, issuer.ErrUnavailable) || driver.ErrCode(err) != driver.ResultReadOnly {
		t.Errorf("error is %v", err)
	}
}

func TestNoPathIsSpecial(t *testing.T) {
	for _, name := range []string{":memory:", "file:x?mode=memory", "a?b#c%20d", "ünï code.db"} {
		path := filepath.Join(t.TempDir(), name)
		g := create1(t, open(t, path, Options{}))
		if info, err := os.Stat(path); err != nil || info.Size() == 0 && name != "" {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := open(t, path, Options{}).Grant(t.Context(), g.ID); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Chdir(t.TempDir())
	create1(t, open(t, ":memory:", Options{}))
	if _, err := os.Stat(":memory:"); err != nil {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	cases := []struct {
		name    string
		prepare func(t *testing.T, path string)
		is      error
		says    string
	}{
		{"a directory that is missing", func(t *testing.T, path string) { remove(t, filepath.Dir(path)) }, os.ErrNotExist, "create it"},
		{"a directory in place of the file", func(t *testing.T, path string) { check(t, os.Mkdir(path, 0o700)) }, issuer.ErrUnavailable, "mend the permissions"},
		{"a file that is no database", func(t *testing.T, path string) {
			check(t, os.WriteFile(path, []byte(strings.Repeat("not a database ", 1000)), 0o600))
		}, ErrNotOurs, "name another path"},
		{"a database of another program", func(t *testing.T, path string) {
			execute(t, path, "CREATE TABLE t (x); INSERT INTO t VALUES (1)")
		}, ErrNotOurs, "name another path"},
		{"a marked database of another program", func(t *testing.T, path string) { execute(t, path, "PRAGMA application_id = 7; CREATE TABLE t (x)") }, ErrNotOurs, ""},
		{"a newer schema", func(t *testing.T, path string) {
			open(t, path, Options{}).Close()
			execute(t, path, "PRAGMA user_version = 1000")
		}, ErrNewer, "run that release"},
		{"a database that another program holds", func(t *testing.T, path string) { hold(t, path) }, issuer.ErrUnavailable, "another program"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "dir", "evergrant.db")
			check(t, os.Mkdir(filepath.Dir(path), 0o700))
			c.prepare(t, path)
			db, err := Open(t.Context(), path, Options{})
			if err == nil {
				db.Close()
			}
			if !errors.Is(err, c.is) || !strings.Contains(fmt.Sprint(err), c.says) || !strings.Contains(fmt.Sprint(err), path) {
				t.Errorf("error is %v, want one that is %v and says %q", err, c.is, c.says)
			}
		})
	}
}

func TestOpenLeavesOtherFilesAlone(t *testing.T) {
	path := tempPath(t)
	execute(t, path, "CREATE TABLE t (x); INSERT INTO t VALUES (1)")
	before, err := os.ReadFile(path)
	check(t, err)
	if _, err := Open(t.Context(), path, Options{}); !errors.Is(err, ErrNotOurs) {
		t.Fatal(err)
	}
	after, err := os.ReadFile(path)
	check(t, err)
	if string(before) != string(after) {
		t.Error("the file was written")
	}
}

func TestOpenHeedsItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	path := tempPath(t)
	if _, err := Open(ctx, path, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was made: %v", err)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, path string) {
	t.Helper()
	check(t, os.Remove(path))
}

// hold opens the file and keeps all others from reading and writing it.
func hold(t testing.TB, path string) {
	t.Helper()
	conn, err := driver.OpenConn(path, driver.OpenReadWrite, driver.OpenCreate)
	check(t, err)
	t.Cleanup(func() { conn.Close() })
	check(t, sqlitex.ExecuteScript(conn, "PRAGMA journal_mode = DELETE", nil))
	check(t, run(conn, "BEGIN EXCLUSIVE", nil))
}

// TestOpenTogether opens one new file eight times at once, as processes that
// start together do.
func TestOpenTogether(t *testing.T) {
	path := tempPath(t)
	var opening sync.WaitGroup
	for range 8 {
		opening.Go(func() {
			db, err := Open(t.Context(), path, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			defer db.Close()
			if err := db.Ready(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	opening.Wait()
}

// TestMigrationGoesOn opens a file whose maker died before the first step was
// complete, and one that saw all steps.
func TestMigrationGoesOn(t *testing.T) {
	path := tempPath(t)
	check(t, os.WriteFile(path, nil, 0o600))
	open(t, path, Options{}).Close()
	db := open(t, path, Options{})
	check(t, db.Check(t.Context()))
	inWriter(t, db, func(conn *driver.Conn) error {
		version, err := schemaVersion(conn)
		if version != len(migrations()) {
			t.Errorf("version %d", version)
		}
		return err
	})
}

func TestFailedMigrationLeavesNothing(t *testing.T) {
	path := tempPath(t)
	conn, err := driver.OpenConn(path, driver.OpenReadWrite, driver.OpenCreate)
	check(t, err)
	defer conn.Close()
	check(t, run(conn, "PRAGMA max_page_count = 5", nil))
	if err := migrate(conn); driver.ErrCode(err) != driver.ResultFull || !strings.Contains(err.Error(), "from version 0") {
		t.Errorf("error is %v", err)
	}
	check(t, run(conn, "PRAGMA max_page_count = 1000000", nil))
	if tables, err := number(conn, "SELECT count(*) FROM sqlite_schema"); err != nil || tables != 0 {
		t.Errorf("%d tables, %v", tables, err)
	}
	check(t, migrate(conn))
}

func TestReady(t *testing.T) {
	path := tempPath(t)
	db := open(t, path, Options{})
	check(t, db.Ready(t.Context()))

	execute(t, path, "PRAGMA user_version = 1000") // by a newer release, while this one runs
	if err := db.Ready(t.Context()); !errors.Is(err, ErrNewer) {
		t.Errorf("error is %v", err)
	}
	execute(t, path, "PRAGMA user_version = 1")
	check(t, db.Ready(t.Context()))

	check(t, db.Close())
	if err := db.Ready(t.Context()); !errors.Is(err, issuer.ErrUnavailable) {
		t.Errorf("error is %v", err)
	}
}

func TestClosingMovesTheLogIntoTheFile(t *testing.T) {
	path := tempPath(t)
	db := open(t, path, Options{})
	g := create1(t, db)
	check(t, db.Close())
	for _, suffix := range []string{"-wal", "-shm"} {
		if _, err := os.Stat(path + suffix); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", suffix, err)
		}
	}
	if _, err := open(t, path, Options{}).Grant(t.Context(), g.ID); err != nil {
		t.Error(err)
	}
}
