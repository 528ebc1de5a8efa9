package sqlite

import (
	"os"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
)

// frame is what one page takes in the log.
const frame = 24 + pageSize

// logSize is the size of the write-ahead log's file.
func logSize(t testing.TB, db *DB) int64 {
	t.Helper()
	info, err := os.Stat(db.path + "-wal")
	check(t, err)
	return info.Size()
}

// refreshAll refreshes grants, each by a goroutine of its own, until stop is
// closed, and returns them as they stand then.
func refreshAll(t *testing.T, db *DB, grants []issuer.Grant, stop <-chan struct{}) {
	t.Helper()
	var done sync.WaitGroup
	for i := range grants {
		done.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				rotated, ok, err := db.Rotate(t.Context(), next(grants[i]))
				if err != nil || !ok {
					t.Error(ok, err)
					return
				}
				grants[i] = rotated
			}
		})
	}
	done.Wait()
}

// createMany stores usual grants.
func createMany(t testing.TB, db *DB, count int) []issuer.Grant {
	t.Helper()
	grants := make([]issuer.Grant, count)
	var done sync.WaitGroup
	for i := range grants {
		done.Go(func() { grants[i] = create1(t, db) })
	}
	done.Wait()
	return grants
}

// TestLogIsBounded writes without a pause: the log is moved again and again
// and its file stops growing.
func TestLogIsBounded(t *testing.T) {
	var s steps
	const pages, checkpoints = 100, 8
	db := open(t, tempPath(t), Options{LogPages: pages, Step: s.step})
	grants := createMany(t, db, 16)
	s.passages()
	stop, passes := make(chan struct{}), 0
	s.when(StepCheckpointed, func() {
		if passes++; passes == checkpoints {
			close(stop)
		}
	})
	refreshAll(t, db, grants, stop)
	if size := logSize(t, db); size > 10*pages*frame {
		t.Errorf("the log has %d pages after %d checkpoints at %d pages", size/frame, checkpoints, pages)
	}
	check(t, db.Check(t.Context()))
}

// TestLongReadDelaysTheLog holds an old state of the database, as a backup
// does: the log grows meanwhile and is moved afterwards.
func TestLongReadDelaysTheLog(t *testing.T) {
	const pages = 100
	var s steps
	db := open(t, tempPath(t), Options{LogPages: pages, Step: s.step})
	g := create1(t, db)
	reader, err := openReader(db.path)
	check(t, err)
	defer reader.Close()
	check(t, run(reader, "BEGIN", nil))
	if n, err := number(reader, "SELECT count(*) FROM grants"); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	s.passages()
	for range 5 * pages {
		g = goodStep(t, db, g)
	}
	grown := logSize(t, db)
	if grown < 5*pages*frame {
		t.Errorf("the log has %d pages though a reader needs them", grown/frame)
	}
	if passes := s.passages()[StepCheckpoint]; passes > 5*8+1 {
		t.Errorf("%d vain checkpoints", passes)
	}
	check(t, run(reader, "COMMIT", nil))
	for range 5 * pages {
		g = goodStep(t, db, g)
	}
	if size := logSize(t, db); size > grown+2*pages*frame {
		t.Errorf("the log has %d pages though nobody needs them", size/frame)
	}
}

// TestFailedPass lets the background fail to open the file: the failure is
// logged and the writer moves the log itself.
func TestFailedPass(t *testing.T) {
	var log journal
	const pages = 50
	db := open(t, tempPath(t), Options{LogPages: pages, Log: log.logger()})
	g := create1(t, db)
	check(t, os.Rename(db.path, db.path+".away"))
	for log.count("in the background failed") < 5 {
		g = goodStep(t, db, g)
	}
	check(t, os.Rename(db.path+".away", db.path))
	if size := logSize(t, db); size > 5*pages*frame {
		t.Errorf("the log has %d pages", size/frame)
	}
}

// TestFailedCheckpoint lets the writer fail as well: within a transaction
// SQLite moves nothing.
func TestFailedCheckpoint(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	conn, err := openConn(db.path)
	check(t, err)
	defer conn.Close()
	check(t, run(conn, "BEGIN IMMEDIATE", nil))
	var log journal
	w := &writer{conn: conn, log: log.logger(), checkpoints: checkpointer{running: true, pages: 100}}
	w.afterPass()
	if log.count("it grows") != 1 || w.checkpoints.running || w.checkpoints.due < 100 {
		t.Errorf("%+v, logged %s", w.checkpoints, log.String())
	}
	w.conn = nil
	w.checkpoints.running = true
	if w.afterPass(); w.checkpoints.running {
		t.Error("without a connection no pass would ever come again")
	}
	check(t, run(conn, "ROLLBACK", nil))
}

// TestCrashBeforeCheckpoint opens what a crash leaves: the file and its log.
func TestCrashBeforeCheckpoint(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	grants := createMany(t, db, 20)
	for i := range grants {
		grants[i] = goodStep(t, db, grants[i])
	}
	path := tempPath(t)
	for _, suffix := range []string{"", "-wal"} { // the index of the log is lost
		content, err := os.ReadFile(db.path + suffix)
		check(t, err)
		check(t, os.WriteFile(path+suffix, content, 0o600))
	}
	// A commit that the crash cut short: its first pages without its last.
	file, err := os.OpenFile(path+"-wal", os.O_WRONLY|os.O_APPEND, 0o600)
	check(t, err)
	if _, err := file.Write(make([]byte, 3*frame/2)); err != nil {
		t.Fatal(err)
	}
	check(t, file.Close())

	restored := open(t, path, Options{})
	if size := logSize(t, restored); size != 0 {
		t.Errorf("%d bytes of the log were not moved when it was opened", size)
	}
	for _, g := range grants {
		if got, err := restored.Grant(t.Context(), g.ID); err != nil || got.Generation != g.Generation {
			t.Errorf("%+v, %v; want generation %d", got, err, g.Generation)
		}
	}
	check(t, restored.Check(t.Context()))
}

// TestWritesGoOnDuringACheckpoint lets a pass take as long as it likes.
func TestWritesGoOnDuringACheckpoint(t *testing.T) {
	var s steps
	db := open(t, tempPath(t), Options{LogPages: 20, Step: s.step})
	g := create1(t, db)
	gate, begun := make(chan struct{}), make(chan struct{}, 1)
	s.when(StepCheckpoint, func() {
		select {
		case begun <- struct{}{}:
			<-gate
		default:
		}
	})
	for len(begun) == 0 {
		g = goodStep(t, db, g)
		time.Sleep(time.Millisecond)
	}
	for range 50 {
		g = goodStep(t, db, g)
	}
	close(gate)
	goodStep(t, db, g)
}
