package sqlite

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evergrant/evergrant/issuer"
	driver "zombiezen.com/go/sqlite"
)

// steps counts the passages of each step, and calls a function at one.
type steps struct {
	mu    sync.Mutex
	count map[string]int
	order []string
	at    string
	do    func()
}

func (s *steps) step(name string) {
	s.mu.Lock()
	if s.count == nil {
		s.count = map[string]int{}
	}
	s.count[name]++
	s.order = append(s.order, name)
	do := s.do
	if name != s.at {
		do = nil
	}
	s.mu.Unlock()
	if do != nil {
		do()
	}
}

// when makes do run at each passage of a step, from now on.
func (s *steps) when(name string, do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.do = name, do
}

// passages is how often each step was passed since the last call.
func (s *steps) passages() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	count := s.count
	s.count, s.order = nil, nil
	return count
}

func TestStepsOfALoneWrite(t *testing.T) {
	var s steps
	db := open(t, tempPath(t), Options{Step: s.step})
	g := create1(t, db)
	s.passages()
	if _, rotated, err := db.Rotate(t.Context(), next(g)); err != nil || !rotated {
		t.Fatal(rotated, err)
	}
	want := []string{StepBegin, StepBegun, StepApplied, StepCommit, StepCommitted, StepAnswer}
	if !slices.Equal(s.order, want) {
		t.Errorf("steps %v, want %v", s.order, want)
	}
}

// TestAnswersFollowTheCommit looks at the file from outside at each step.
func TestAnswersFollowTheCommit(t *testing.T) {
	var s steps
	path := tempPath(t)
	db := open(t, path, Options{Step: s.step})
	other := open(t, path, Options{})
	g := create1(t, db)
	for _, c := range []struct {
		step string
		want uint32
	}{{StepApplied, 1}, {StepCommit, 2}, {StepCommitted, 4}, {StepAnswer, 5}} {
		var seen issuer.Grant
		var err error
		s.when(c.step, func() { seen, err = other.Grant(t.Context(), g.ID) })
		g, _, _ = db.Rotate(t.Context(), next(g))
		s.when("", nil)
		if err != nil || seen.Generation != c.want {
			t.Errorf("at %s generation %d is seen, want %d (%v)", c.step, seen.Generation, c.want, err)
		}
	}
}

// TestGroupCommit counts commits while 64 goroutines write, on several CPUs and
// on one, where each of them would be committed alone if the writer did not let
// the others run first.
func TestGroupCommit(t *testing.T) {
	for _, cpus := range []int{runtime.GOMAXPROCS(0), 1} {
		t.Run(fmt.Sprintf("GOMAXPROCS=%d", cpus), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cpus))
			countCommits(t)
		})
	}
}

func countCommits(t *testing.T) {
	var s steps
	db := open(t, tempPath(t), Options{Step: s.step})
	const goroutines, each = 64, 20
	var done sync.WaitGroup
	grants := createMany(t, db, goroutines)
	s.passages()
	for _, g := range grants {
		done.Go(func() {
			for range each {
				rotated, ok, err := db.Rotate(t.Context(), next(g))
				if err != nil || !ok {
					t.Error(ok, err)
					return
				}
				g = rotated
			}
		})
	}
	done.Wait()
	got := s.passages()
	if got[StepApplied] != goroutines*each || got[StepCommitted] != got[StepBegin] {
		t.Errorf("passages %v", got)
	}
	t.Logf("%d commits for %d refreshes", got[StepCommitted], goroutines*each)
	if got[StepCommitted] > goroutines*each/4 {
		t.Errorf("%d commits for %d refreshes: they were not grouped", got[StepCommitted], goroutines*each)
	}
}

// stalled is a database whose writer stands at its first operation, which is in
// a batch of its own, until release is called.
func stalled(t testing.TB) (db *DB, s *steps, release func()) {
	t.Helper()
	s = &steps{}
	db = open(t, tempPath(t), Options{Step: s.step})
	gate, stalled := make(chan struct{}), make(chan struct{})
	go db.writer.do(context.Background(), func(*driver.Conn) error {
		close(stalled)
		<-gate
		return nil
	})
	<-stalled
	release = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release)
	return db, s, release
}

// enqueued waits until the queue has n operations.
func enqueued(t testing.TB, db *DB, n int) {
	t.Helper()
	for len(db.writer.queue) < n {
		time.Sleep(time.Millisecond)
	}
}

func TestBatchesAreLimited(t *testing.T) {
	db, s, release := stalled(t)
	var done sync.WaitGroup
	const count = 2*batchLimit + 10
	for range count {
		done.Go(func() {
			check(t, db.Record(t.Context(), issuer.Event{Type: "test", Actor: "server"}))
		})
	}
	enqueued(t, db, count)
	s.passages()
	release()
	done.Wait()
	if got := s.passages(); got[StepBegin] != 3 || got[StepApplied] != count+1 { // with the first one's own passage
		t.Errorf("passages %v", got)
	}
}

// TestOneBadOperation runs good and bad operations in one batch: each bad one
// fails alone and leaves nothing.
func TestOneBadOperation(t *testing.T) {
	db, s, release := stalled(t)
	bad := errors.New("bad")
	event := issuer.Event{Type: "test", Actor: "server"}
	operations := map[string]struct {
		f    func(*driver.Conn) error
		want error
	}{
		"good":       {func(conn *driver.Conn) error { return insertEvent(conn, event) }, nil},
		"good whole": {whole(func(conn *driver.Conn) error { return insertEvent(conn, event) }), nil},
		"fails after it wrote": {whole(func(conn *driver.Conn) error {
			return errors.Join(insertEvent(conn, event), insertEvent(conn, event), bad)
		}), bad},
		"constraint": {whole(func(conn *driver.Conn) error {
			err := insertEvent(conn, event)
			return errors.Join(err, run(conn, "INSERT INTO keys (id, root, created_at, active_from) VALUES (1, NULL, 0, 0)", nil))
		}), driver.ResultConstraintNotNull.ToError()},
		"bad statement": {whole(func(conn *driver.Conn) error {
			return errors.Join(insertEvent(conn, event), run(conn, "no SQL", nil))
		}), driver.ResultError.ToError()},
	}
	var done sync.WaitGroup
	for name, o := range operations {
		done.Go(func() {
			if err := db.writer.do(t.Context(), o.f); !errors.Is(err, o.want) && (o.want == nil || driver.ErrCode(err) != driver.ErrCode(o.want)) {
				t.Errorf("%s: %v, want %v", name, err, o.want)
			}
		})
	}
	enqueued(t, db, len(operations))
	s.passages()
	release()
	done.Wait()
	if got := s.passages(); got[StepBegin] != 1 {
		t.Errorf("the operations were in %d batches", got[StepBegin])
	}
	stats, err := db.Stats(t.Context())
	if err != nil || stats.Rows["events"] != 2 || stats.Rows["keys"] != 0 {
		t.Errorf("rows %v, want the 2 events of the good operations (%v)", stats.Rows, err)
	}
}

func TestLeftOperationIsNotRun(t *testing.T) {
	db, _, release := stalled(t)
	ctx, cancel := context.WithCancel(t.Context())
	var ran atomic.Bool
	result := make(chan error)
	go func() {
		result <- db.writer.do(ctx, func(*driver.Conn) error {
			ran.Store(true)
			return nil
		})
	}()
	enqueued(t, db, 1)
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	release()
	check(t, db.Ready(t.Context()))
	if ran.Load() {
		t.Error("the operation was run after its caller had left")
	}
}

func TestFullQueueHeedsTheContext(t *testing.T) {
	db, _, release := stalled(t)
	for range cap(db.writer.queue) {
		check(t, db.Retried(t.Context(), issuer.NewGrantID()))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := db.Retried(ctx, issuer.NewGrantID()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	release()
	check(t, db.Ready(t.Context()))
}

// TestTakenOperationIsAwaited ends a context while the operation is written.
func TestTakenOperationIsAwaited(t *testing.T) {
	var s steps
	db := open(t, tempPath(t), Options{Step: s.step})
	g := create1(t, db)
	ctx, cancel := context.WithCancel(t.Context())
	s.when(StepCommit, cancel)
	if got, rotated, err := db.Rotate(ctx, next(g)); err != nil || !rotated || got.Generation != g.Generation+1 {
		t.Errorf("%+v, %v, %v", got, rotated, err)
	}
}

// TestPatienceEnds lets the disk hang for longer than anybody waits.
func TestPatienceEnds(t *testing.T) {
	path := tempPath(t)
	synctest.Test(t, func(t *testing.T) {
		var s steps
		db, err := Open(t.Context(), path, Options{Step: s.step})
		check(t, err)
		g := create1(t, db)
		ctx, cancel := context.WithCancel(t.Context())
		gate := make(chan struct{})
		s.when(StepCommit, func() {
			cancel()
			<-gate
		})
		began := time.Now()
		_, rotated, err := db.Rotate(ctx, next(g))
		if rotated || !errors.Is(err, context.Canceled) || errors.Is(err, issuer.ErrUnavailable) {
			t.Errorf("%v, %v", rotated, err)
		}
		if waited := time.Since(began); waited != patience {
			t.Errorf("it waited %v", waited)
		}
		s.when("", nil)
		close(gate)
		got, err := db.Grant(t.Context(), g.ID)
		for err == nil && got.Generation == g.Generation {
			time.Sleep(time.Millisecond)
			got, err = db.Grant(t.Context(), g.ID)
		}
		check(t, err) // the step was made in the end, unseen
		check(t, db.Close())
	})
}

func TestClosingAnswersWhatWaits(t *testing.T) {
	db, _, release := stalled(t)
	const count = 50
	results := make(chan error, count)
	for range count {
		go func() { results <- db.Record(context.Background(), issuer.Event{Type: "test", Actor: "server"}) }()
	}
	enqueued(t, db, count)
	closed := make(chan error)
	go func() { closed <- db.Close() }()
	<-db.writer.closing
	release()
	for range count {
		check(t, <-results)
	}
	check(t, <-closed)
	stats, err := open(t, db.path, Options{}).Stats(t.Context())
	if err != nil || stats.Rows["events"] != count {
		t.Errorf("%v, %v", stats, err)
	}
}

// TestClosingUnderLoad closes while everybody writes: each call succeeds or is
// unavailable, none hangs, and what succeeded is there.
func TestClosingUnderLoad(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	var recorded atomic.Int64
	var done sync.WaitGroup
	for range 64 {
		done.Go(func() {
			for {
				err := db.Record(context.Background(), issuer.Event{Type: "test", Actor: "server"})
				if err != nil {
					if !errors.Is(err, issuer.ErrUnavailable) {
						t.Error(err)
					}
					return
				}
				recorded.Add(1)
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	check(t, db.Close())
	done.Wait()
	stats, err := open(t, db.path, Options{}).Stats(t.Context())
	if err != nil || stats.Rows["events"] != recorded.Load() {
		t.Errorf("%d events, %d were recorded (%v)", stats.Rows["events"], recorded.Load(), err)
	}
}

// TestRefreshIsOneRowWrite counts changed rows, and the pages that each commit
// writes: a refresh that touched an index would write two.
func TestRefreshIsOneRowWrite(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	g := create1(t, db)
	for range 500 { // enough rows that indexes have pages of their own
		create1(t, db)
	}
	count := func() (rows, pages int64) {
		inWriter(t, db, func(conn *driver.Conn) (err error) {
			rows, err = number(conn, "SELECT total_changes()")
			return err
		})
		check(t, db.readers.do(t.Context(), func(conn *driver.Conn) (err error) {
			pages, _, err = checkpoint(conn, "NOOP")
			return err
		}))
		return rows, pages
	}
	rows, pages := count()
	const refreshes = 300 // past 127 and 255, where the stored number grows
	for i := range refreshes {
		r := next(g)
		if i%10 == 9 {
			r.Scope = g.Scope[:1]
		}
		rotated, ok, err := db.Rotate(t.Context(), r)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		g = rotated
	}
	rowsAfter, pagesAfter := count()
	if rowsAfter-rows != refreshes || pagesAfter-pages != refreshes {
		t.Errorf("%d refreshes changed %d rows and wrote %d pages", refreshes, rowsAfter-rows, pagesAfter-pages)
	}
}
