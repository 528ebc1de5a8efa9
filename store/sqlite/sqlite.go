// Package sqlite keeps what an [issuer.Server], a [keeper.Keeper] and webhooks
// persist in one SQLite file.
//
// # How a write becomes durable
//
// One goroutine owns the one connection that writes (writer.go). It takes all
// operations that wait, runs them in one transaction, commits it, and answers
// them: durable before the answer, with one flush of the disk for all. The file
// is in write-ahead logging with synchronous=FULL, which each connection reads
// back. What a crash leaves at each step stands beside the Step constants. Reads
// go to connections of their own and never wait for a write (readers.go). The
// log is moved into the file by a third goroutine (checkpoint.go).
//
// A refresh by a client is one UPDATE of one row that touches no index, and so
// one page in the log. Nothing grows by it. A refresh at a provider is four such
// writes, of which only the last one moves the tokens (schema.go).
//
// # The driver, and what was measured
//
// The driver is zombiezen.com/go/sqlite, a direct interface to SQLite as
// translated to Go by modernc.org/sqlite; neither needs a C compiler. Durable
// updates of random rows among 100,000, on one CPU, 64 in a commit, the log
// moved at 20,000 pages of 1 KiB:
//
//	driver                              CPU per update   updates/s
//	mattn/go-sqlite3 (needs cgo)        8.5 µs           89,000
//	zombiezen.com/go/sqlite             9.6 µs           83,000
//	ncruces/go-sqlite3                  11.2 µs          74,000
//	modernc.org/sqlite (database/sql)   11.3 µs          70,000
//
// Small pages write less: at 4 KiB an update writes 5.4 kB instead of 1.8 kB and
// takes 10.6 µs. Moving the log at 1,000 pages, as SQLite does by itself, takes
// 11.7 µs. In a WITHOUT ROWID table a row is an index entry, of which a page of
// 1 KiB holds 231 bytes at most and leaves the rest to a page of its own: 29 µs,
// and four times the size.
//
// SQLite must be 3.51.3 or later: before, two connections that wrote and moved
// the log in the same moment could damage the file.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/issuer"
	driver "zombiezen.com/go/sqlite"
)

// Options of Open. The zero value is good.
type Options struct {
	// Log hears of failed commits and checkpoints; nil is silence.
	Log *slog.Logger
	// LogPages is at how many pages the write-ahead log is moved into the
	// database file: 16384, which is 16 MiB, where it is 0.
	LogPages int
	// Step, where it is not nil, is called at each of the Step constants, by two
	// goroutines: the one that writes and the one that moves the log. It is for
	// tests that end the process there.
	Step func(name string)
}

// DB is an open database: an [issuer.Store], an [issuer.Lists] and a
// [hook.Store]; what the keeper persists is behind [DB.Keeper]. It is safe for
// concurrent use, and so is one file for several processes.
type DB struct {
	path    string
	writer  *writer
	readers *readers
	close   sync.Once
	closed  error
}

var (
	_ issuer.Store = (*DB)(nil)
	_ issuer.Lists = (*DB)(nil)
	_ hook.Store   = (*DB)(nil)
)

// Open opens the database file at path, which it creates with mode 0600 where
// there is none, and brings its schema up to date. Its directory must exist.
// The error wraps [ErrNotOurs] or [ErrNewer] where the file is not for this
// program, and [issuer.ErrUnavailable] where it cannot be written.
func Open(ctx context.Context, path string, o Options) (*DB, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.LogPages == 0 {
		o.LogPages = defaultLogPages
	}
	if o.Step == nil {
		o.Step = func(string) {}
	}
	path, err := filepath.Abs(path) // no name is special to SQLite then
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := create(path); err != nil {
		return nil, fmt.Errorf("database %s: %w", path, err)
	}
	conn, err := prepare(path)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", path, explain(err))
	}
	db := &DB{path: path, readers: newReaders(path)}
	if db.writer, err = newWriter(path, conn, o); err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", path, err), conn.Close())
	}
	return db, nil
}

// create makes an empty file that only its owner can read; SQLite gives the
// same mode to the files that it puts beside it. An existing file is left as
// it is, unopened: closing it here would drop the locks that another
// connection of this process holds on it.
func create(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the directory does not exist: create it with mode 0700 first: %w", err)
	case err != nil:
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

// syncDirectory makes the name of a new file durable.
func syncDirectory(path string) error {
	if runtime.GOOS == "windows" { // keeps names durable itself, and refuses
		return nil
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// prepare opens the connection that writes and brings the schema up to date.
func prepare(path string) (*driver.Conn, error) {
	conn, err := openWriter(path)
	if err != nil {
		return nil, err
	}
	conn.SetBusyTimeout(openTimeout)              // other processes may be at work; settleLog sets the usual one
	if _, err = schemaVersion(conn); err == nil { // before anything is written to a file that is not ours
		err = useLog(conn)
	}
	if err == nil {
		err = migrate(conn)
	}
	if err == nil { // a file that is read-only is found out here, not at the first request
		err = touch(conn)
	}
	if err == nil {
		err = settleLog(conn)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// settleLog moves the log into the file. What recovery found in it after a crash
// may never have been flushed, and is from now on. Where another process has
// the file open, nothing was recovered and nothing is waited for.
func settleLog(conn *driver.Conn) error {
	conn.SetBusyTimeout(0)
	defer conn.SetBusyTimeout(busyTimeout)
	_, _, err := checkpoint(conn, "TRUNCATE")
	return err
}

// explain adds to an error of opening what to do about it.
func explain(err error) error {
	switch driver.ErrCode(err).ToPrimary() {
	case driver.ResultNotADB:
		return fmt.Errorf("%w: %w", ErrNotOurs, err)
	case driver.ResultCorrupt:
		return fmt.Errorf("the file is damaged: restore a backup: %w", err)
	case driver.ResultReadOnly:
		return classify(fmt.Errorf("the file, its directory or its file system is read-only for this user: mend the permissions: %w", err))
	case driver.ResultCantOpen:
		return classify(fmt.Errorf("the file or its directory cannot be opened by this user: mend the permissions: %w", err))
	case driver.ResultBusy:
		return classify(fmt.Errorf("another program holds the database: end it, or try again: %w", err))
	}
	return classify(err)
}

// Ready reads and writes, durably but without effect, and says what keeps it
// from it: the error wraps [issuer.ErrUnavailable] where the database is
// read-only, full, locked or closed.
func (db *DB) Ready(ctx context.Context) error {
	err := db.readers.do(ctx, func(conn *driver.Conn) error {
		_, err := schemaVersion(conn)
		return err
	})
	if err != nil {
		return err
	}
	return db.writer.do(ctx, touch)
}

// Close answers what has been asked, moves the write-ahead log into the
// database file and closes it. Whatever is called afterwards fails with an
// error that wraps [issuer.ErrUnavailable].
func (db *DB) Close() error {
	db.close.Do(func() {
		db.closed = errors.Join(db.readers.close(), db.writer.close())
	})
	return db.closed
}
