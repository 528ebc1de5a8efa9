package sqlite

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	driver "zombiezen.com/go/sqlite"
)

// journal collects what is logged.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) count(text string) int {
	return strings.Count(j.String(), text)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

// unavailableStep wants a refresh to fail as unavailable, and the grant to
// stand where it did.
func unavailableStep(t testing.TB, db *DB, g issuer.Grant) {
	t.Helper()
	if _, rotated, err := db.Rotate(t.Context(), next(g)); rotated || !errors.Is(err, issuer.ErrUnavailable) {
		t.Errorf("%v, %v", rotated, err)
	}
	if got, err := db.Grant(t.Context(), g.ID); err != nil || got.Generation != g.Generation {
		t.Errorf("generation %d, %v", got.Generation, err)
	}
}

// goodStep refreshes a grant and returns it.
func goodStep(t testing.TB, db *DB, g issuer.Grant) issuer.Grant {
	t.Helper()
	got, rotated, err := db.Rotate(t.Context(), next(g))
	if err != nil || !rotated {
		t.Fatal(rotated, err)
	}
	return got
}

func TestLockedByAnother(t *testing.T) {
	path := tempPath(t)
	var log journal
	db := open(t, path, Options{Log: log.logger()})
	g := create1(t, db)
	other, err := openConn(path)
	check(t, err)
	defer other.Close()
	check(t, run(other, "BEGIN IMMEDIATE", nil))

	began := time.Now()
	unavailableStep(t, db, g)
	if waited := time.Since(began); waited > 3*busyTimeout {
		t.Errorf("it took %v to say so", waited)
	}
	if err := db.Ready(t.Context()); !errors.Is(err, issuer.ErrUnavailable) {
		t.Errorf("ready: %v", err)
	}

	check(t, run(other, "ROLLBACK", nil))
	goodStep(t, db, g)
	check(t, db.Ready(t.Context()))
	if failed, mended := log.count("transactions fail"), log.count("succeed again"); failed != 1 || mended != 1 {
		t.Errorf("logged %d failures and %d recoveries", failed, mended)
	}
}

// TestShortLockIsWaitedFor holds the lock for less than anybody gives up.
func TestShortLockIsWaitedFor(t *testing.T) {
	path := tempPath(t)
	db := open(t, path, Options{})
	g := create1(t, db)
	other, err := openConn(path)
	check(t, err)
	defer other.Close()
	check(t, run(other, "BEGIN IMMEDIATE", nil))
	released := make(chan error)
	go func() {
		time.Sleep(100 * time.Millisecond)
		released <- run(other, "ROLLBACK", nil)
	}()
	goodStep(t, db, g)
	check(t, <-released)
}

// TestFullDatabase lets no page be added. SQLite ends the whole transaction
// then: whoever shares it is unavailable too, and nothing is half done.
func TestFullDatabase(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	g := create1(t, db)
	full := func(conn *driver.Conn) error { return run(conn, "PRAGMA max_page_count = 1", nil) } // no more than there are
	inWriter(t, db, full)
	g = goodStep(t, db, g)
	var err error
	var other issuer.Grant
	for err == nil {
		other = usualGrant(g.CreatedAt)
		err = db.CreateGrant(t.Context(), other, issuer.Event{Type: issuer.EventGrantCreated, Actor: "server", Grant: other.ID})
	}
	if !errors.Is(err, issuer.ErrUnavailable) || driver.ErrCode(err) != driver.ResultFull {
		t.Errorf("error is %v", err)
	}
	if _, err := db.Grant(t.Context(), other.ID); !errors.Is(err, issuer.ErrNotFound) {
		t.Errorf("half of a creation was done: %v", err)
	}
	check(t, db.Check(t.Context()))
	goodStep(t, db, g)
	create1(t, db)
}

// TestReadOnlyWhileRunning makes the connection refuse to write, as a file
// system that was remounted read-only does. A new connection is opened, which
// can write again.
func TestReadOnlyWhileRunning(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	g := create1(t, db)
	inWriter(t, db, func(conn *driver.Conn) error { return run(conn, "PRAGMA query_only = ON", nil) })
	unavailableStep(t, db, g)
	goodStep(t, db, g)
}

// TestBrokenBatch lets one operation meet an error of the disk: none of its
// neighbours is done, all are told, and a new connection serves the next.
func TestBrokenBatch(t *testing.T) {
	for _, code := range []driver.ResultCode{driver.ResultIOErrFsync, driver.ResultCorrupt, driver.ResultNoMem} {
		db, s, release := stalled(t)
		before := db.writer.conn
		errs := make(chan error, 11)
		for i := range cap(errs) {
			go func() {
				errs <- db.writer.do(context.Background(), func(conn *driver.Conn) error {
					if i == 5 {
						return code.ToError()
					}
					return insertEvent(conn, issuer.Event{Type: "test", Actor: "server"})
				})
			}()
		}
		enqueued(t, db, cap(errs))
		s.passages()
		release()
		for range cap(errs) {
			if err := <-errs; !errors.Is(err, issuer.ErrUnavailable) || driver.ErrCode(err) != code {
				t.Errorf("error is %v", err)
			}
		}
		if got := s.passages(); got[StepCommitted] != 1 { // of the batch before
			t.Errorf("passages %v", got)
		}
		inWriter(t, db, func(conn *driver.Conn) error {
			if conn == before {
				t.Error("the connection was kept")
			}
			return nil
		})
		stats, err := db.Stats(t.Context())
		if err != nil || stats.Rows["events"] != 0 {
			t.Errorf("%v, %v", stats, err)
		}
	}
}

// TestRolledBackByItself lets a transaction end under an operation, as SQLite
// does after some errors.
func TestRolledBackByItself(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	g := create1(t, db)
	full := driver.ResultFull.ToError()
	for _, wrap := range []func(func(*driver.Conn) error) func(*driver.Conn) error{
		whole, func(f func(*driver.Conn) error) func(*driver.Conn) error { return f },
	} {
		err := db.writer.do(t.Context(), wrap(func(conn *driver.Conn) error {
			return errors.Join(full, run(conn, "ROLLBACK", nil))
		}))
		if !errors.Is(err, issuer.ErrUnavailable) {
			t.Errorf("error is %v", err)
		}
	}
	goodStep(t, db, g)
}

// TestFileIsTakenAway removes or replaces the file while the connection has to
// be opened anew.
func TestFileIsTakenAway(t *testing.T) {
	path := tempPath(t)
	db := open(t, path, Options{})
	g := create1(t, db)
	breakWriter(t, db)
	hidden := filepath.Join(filepath.Dir(path), "hidden")
	check(t, os.Rename(path, hidden))
	if _, _, err := db.Rotate(t.Context(), next(g)); !errors.Is(err, issuer.ErrUnavailable) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
	check(t, os.WriteFile(path, nil, 0o600))
	if _, _, err := db.Rotate(t.Context(), next(g)); !errors.Is(err, issuer.ErrUnavailable) || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("error is %v", err)
	}
	check(t, os.Rename(hidden, path))
	goodStep(t, db, g)
}

// breakWriter makes the writer close its connection.
func breakWriter(t testing.TB, db *DB) {
	t.Helper()
	err := db.writer.do(t.Context(), func(*driver.Conn) error { return driver.ResultIOErr.ToError() })
	if !errors.Is(err, issuer.ErrUnavailable) {
		t.Fatal(err)
	}
}

// TestReopeningKeepsTheIndexOfTheLog opens the writer's connection anew while
// nobody reads: the anchor alone must keep the shared index, or the pages of a
// failed commit would be read as if they had succeeded.
func TestReopeningKeepsTheIndexOfTheLog(t *testing.T) {
	path := tempPath(t)
	db := open(t, path, Options{})
	create1(t, db)
	before, err := os.Stat(path + "-shm")
	check(t, err)
	for range 3 {
		breakWriter(t, db)
		after, err := os.Stat(path + "-shm")
		check(t, err)
		if !os.SameFile(before, after) {
			t.Error("the index was made anew")
		}
	}
	goodStep(t, db, create1(t, db))
}

func TestBrokenReaderIsReplaced(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	g := create1(t, db)
	for range 3 * readerCount {
		err := db.readers.do(t.Context(), func(*driver.Conn) error { return driver.ResultIOErrRead.ToError() })
		if !errors.Is(err, issuer.ErrUnavailable) {
			t.Errorf("error is %v", err)
		}
		if _, err := db.Grant(t.Context(), g.ID); err != nil {
			t.Error(err)
		}
	}
	for range 3 * readerCount {
		_, err := db.Grant(t.Context(), issuer.NewGrantID())
		if !errors.Is(err, issuer.ErrNotFound) {
			t.Errorf("error is %v", err)
		}
	}
	check(t, os.Rename(db.path, db.path+".away"))
	for range readerCount {
		db.readers.do(t.Context(), func(*driver.Conn) error { return driver.ResultIOErrRead.ToError() })
	}
	if _, err := db.Grant(t.Context(), g.ID); !errors.Is(err, issuer.ErrUnavailable) {
		t.Errorf("error is %v", err)
	}
	check(t, os.Rename(db.path+".away", db.path))
	if _, err := db.Grant(t.Context(), g.ID); err != nil {
		t.Error(err)
	}
}

func TestBusyReadersHeedTheContext(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	gate := make(chan struct{})
	var reading, done sync.WaitGroup
	for range readerCount {
		reading.Add(1)
		done.Go(func() {
			db.readers.do(context.Background(), func(*driver.Conn) error {
				reading.Done()
				<-gate
				return nil
			})
		})
	}
	reading.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := db.Grant(ctx, issuer.NewGrantID()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	close(gate)
	done.Wait()
}

// TestLongReadsAreInterrupted ends a read that would never end.
func TestLongReadsAreInterrupted(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := db.readers.scan(ctx, func(conn *driver.Conn) error {
		_, err := number(conn, "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")
		return err
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	if _, err := db.Stats(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDamagedDocument(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	inWriter(t, db, func(conn *driver.Conn) error {
		return run(conn, "INSERT INTO clients (id, doc) VALUES ('shop', '{\"id\": 7}')", nil)
	})
	if _, err := db.Client(t.Context(), "shop"); err == nil || !strings.Contains(err.Error(), "damaged document") {
		t.Errorf("error is %v", err)
	}
	if _, err := db.Clients(t.Context(), "", 0); err == nil || !strings.Contains(err.Error(), "damaged document") {
		t.Errorf("error is %v", err)
	}
	if did, err := db.RehashClient(t.Context(), "shop", "a", "b", issuer.Event{}); did || err == nil || !strings.Contains(err.Error(), "damaged document") {
		t.Errorf("%v, %v", did, err)
	}
}

func TestClientThatCannotBeStored(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	client := issuer.Client{ID: "shop", CreatedAt: time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)}
	if err := db.PutClient(t.Context(), client, issuer.Event{}); err == nil || !strings.Contains(err.Error(), "cannot be stored") {
		t.Errorf("error is %v", err)
	}
}
