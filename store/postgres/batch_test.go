package postgres

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/jackc/pgx/v5"
)

// flights notes the batches that a database makes, and can keep them back.
type flights struct {
	mu    sync.Mutex
	sizes []int
	gate  chan struct{} // where it is not nil, batches wait until it is closed
}

func watched(db *DB) *flights {
	f := &flights{}
	fly := db.rotation.commit
	db.rotation.commit = func(batch []*rotation) {
		f.mu.Lock()
		f.sizes = append(f.sizes, len(batch))
		gate := f.gate
		f.mu.Unlock()
		if gate != nil {
			<-gate
		}
		fly(batch)
	}
	return f
}

func (f *flights) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.sizes)
}

// taken are the sizes of the batches since the last call.
func (f *flights) taken() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	sizes := f.sizes
	f.sizes = nil
	return sizes
}

// held fills all flights with one rotation each, which wait until release.
func (f *flights) held(t *testing.T, db *DB) (release func()) {
	t.Helper()
	gate := make(chan struct{})
	f.mu.Lock()
	f.gate = gate
	f.mu.Unlock()
	grants := created(t, db, batchesAtOnce)
	var done sync.WaitGroup
	for i, g := range grants {
		done.Go(func() { stepped(t, db, g) })
		eventually(t, "a batch is in flight", func() bool { return f.count() == i+1 })
	}
	if sizes := f.taken(); !slices.Equal(sizes, slices.Repeat([]int{1}, batchesAtOnce)) {
		t.Fatalf("lone rotations flew in batches of %v", sizes)
	}
	return sync.OnceFunc(func() {
		f.mu.Lock()
		f.gate = nil
		f.mu.Unlock()
		close(gate)
		done.Wait()
	})
}

// queued waits until a number of rotations wait.
func queued(t *testing.T, db *DB, count int) {
	t.Helper()
	eventually(t, "rotations wait", func() bool {
		db.rotation.mu.Lock()
		defer db.rotation.mu.Unlock()
		return len(db.rotation.waiting) == count
	})
}

func TestBatches(t *testing.T) {
	t.Parallel()
	db := opened(t, pgtest.Database(t))
	f := watched(db)
	const count = 2*batchLimit + 10
	grants := created(t, db, count)
	release := f.held(t, db)
	defer release()
	var done sync.WaitGroup
	for _, g := range grants {
		done.Go(func() { stepped(t, db, g) })
	}
	queued(t, db, count)
	release()
	done.Wait()
	sizes := f.taken()
	if slices.Sort(sizes); !slices.Equal(sizes, []int{10, batchLimit, batchLimit}) {
		t.Errorf("batches of %v", sizes)
	}
	// Rows that one transaction has written have one number: a batch is one commit.
	var ids [][16]byte
	for _, g := range grants {
		ids = append(ids, g.ID)
	}
	conn := connected(t, db.pool.Config().ConnString())
	if commits := value[int](t, conn, "SELECT count(DISTINCT xmin::text) FROM grants WHERE id = ANY ($1)", ids); commits != 3 {
		t.Errorf("%d commits", commits)
	}
	db.rotation.mu.Lock()
	defer db.rotation.mu.Unlock()
	if db.rotation.flying != 0 || len(db.rotation.busy) != 0 || len(db.rotation.waiting) != 0 {
		t.Errorf("%d in flight, %d grants busy, %d waiting", db.rotation.flying, len(db.rotation.busy), len(db.rotation.waiting))
	}
}

// TestEqualRotations asks for one step many times in one moment.
func TestEqualRotations(t *testing.T) {
	t.Parallel()
	db := opened(t, pgtest.Database(t))
	f := watched(db)
	g, other := created(t, db, 1)[0], created(t, db, 1)[0]
	release := f.held(t, db)
	defer release()
	const count = 16
	var wins atomic.Int32
	var done sync.WaitGroup
	for i := range count {
		done.Go(func() {
			r := next(g)
			r.At = r.At.Add(time.Duration(i) * time.Millisecond) // so that each is another's
			got, rotated, err := db.Rotate(t.Context(), r)
			if err != nil || got.Generation != g.Generation+1 || rotated != got.RotatedAt.Equal(r.At) {
				t.Errorf("%+v, %v, %v", got, rotated, err)
			}
			if rotated {
				wins.Add(1)
			}
		})
	}
	done.Go(func() { stepped(t, db, other) })
	queued(t, db, count+1)
	release()
	done.Wait()
	if wins.Load() != 1 {
		t.Errorf("%d of %d equal rotations were made", wins.Load(), count)
	}
	sizes := f.taken()
	if slices.Sort(sizes); !slices.Equal(sizes[count-1:], []int{2}) && !slices.Equal(sizes, slices.Repeat([]int{1}, count+1)) {
		t.Errorf("batches of %v: no two rotations of a grant in one, and the other's in the first or alone", sizes)
	}
}

// TestRotationsAreGrouped counts batches while 64 goroutines refresh, on several
// CPUs and on one.
func TestRotationsAreGrouped(t *testing.T) {
	db := opened(t, pgtest.Database(t))
	f := watched(db)
	for _, cpus := range []int{runtime.GOMAXPROCS(0), 1} {
		t.Run(fmt.Sprintf("GOMAXPROCS=%d", cpus), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cpus))
			const goroutines, each = 64, 20
			grants := created(t, db, goroutines)
			f.taken()
			var done sync.WaitGroup
			for _, g := range grants {
				done.Go(func() {
					for range each {
						g = stepped(t, db, g)
					}
				})
			}
			done.Wait()
			if batches := len(f.taken()); batches > goroutines*each/4 {
				t.Errorf("%d batches for %d refreshes: they were not grouped", batches, goroutines*each)
			}
		})
	}
}

// TestOneBadRotation makes the server fail on one row: the others of its batch do
// not notice, unless it cannot write at all.
func TestOneBadRotation(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db := opened(t, url)
	f := watched(db)
	conn := connected(t, url)
	grants := created(t, db, 9)
	bad := grants[4]
	execute(t, conn, fmt.Sprintf(`CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN RAISE EXCEPTION 'a bad row' USING ERRCODE = '22003'; END $$;
		CREATE TRIGGER fail BEFORE UPDATE ON grants FOR EACH ROW WHEN (OLD.id = '%s') EXECUTE FUNCTION fail()`, bad.ID))
	release := f.held(t, db)
	defer release()
	var done sync.WaitGroup
	for _, g := range grants {
		done.Go(func() {
			got, rotated, err := db.Rotate(t.Context(), next(g))
			switch {
			case g.ID != bad.ID && (err != nil || !rotated || got.Generation != g.Generation+1):
				t.Errorf("a neighbour: %+v, %v, %v", got, rotated, err)
			case g.ID == bad.ID && (rotated || sqlState(err) != "22003" || errors.Is(err, issuer.ErrUnavailable)):
				t.Errorf("the bad one: %+v, %v, %v", got, rotated, err)
			}
		})
	}
	queued(t, db, len(grants))
	release()
	done.Wait()
	if sizes := f.taken(); !slices.Equal(sizes, []int{len(grants)}) {
		t.Errorf("batches of %v", sizes)
	}
}

// TestTextThatNoRowHas rotates for a client whose id cannot be in the database.
func TestTextThatNoRowHas(t *testing.T) {
	t.Parallel()
	db := opened(t, pgtest.Database(t))
	g := created(t, db, 1)[0]
	for _, id := range []string{"a\x00b", "a\xffb"} {
		r := next(g)
		r.ClientID = id
		if got, rotated, err := db.Rotate(t.Context(), r); err != nil || rotated || got.Generation != g.Generation {
			t.Errorf("%q: %+v, %v, %v", id, got, rotated, err)
		}
		other := usualGrant()
		other.ClientID = id
		if err := db.CreateGrant(t.Context(), other, event("test", other)); !errors.Is(err, errText) {
			t.Errorf("%q: %v", id, err)
		}
		r = next(g)
		r.Scope = oauth.Scope{id}
		if got, rotated, err := db.Rotate(t.Context(), r); rotated || !errors.Is(err, errText) {
			t.Errorf("%q: %+v, %v, %v", id, got, rotated, err)
		}
		for _, b := range []issuer.Batch{
			{Clients: []issuer.Client{{ID: id}}}, {Users: []issuer.User{{Username: "ann"}, {Username: id}}}, {Grants: []issuer.Grant{usualGrant(), other}},
		} {
			for _, b.DryRun = range []bool{true, false} {
				if done, err := db.Import(t.Context(), b); !errors.Is(err, errText) {
					t.Errorf("%q: %+v, %v", id, done, err)
				}
			}
		}
		if err := db.CountUses(t.Context(), []issuer.Use{{ClientID: id, Habit: issuer.HabitRetry}}); !errors.Is(err, errText) {
			t.Errorf("%q: %v", id, err)
		}
		if uses, err := db.Uses(t.Context(), issuer.UseFilter{ClientID: id}); err != nil || uses != nil {
			t.Errorf("%q: %v, %v", id, uses, err)
		}
		e := event("test", g)
		e.Cause = issuer.Cause(id)
		if revoked, err := db.Revoke(t.Context(), g.ID, g.CreatedAt, e); revoked || !errors.Is(err, errText) {
			t.Errorf("%q: %v, %v", id, revoked, err)
		}
	}
}

func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	db := opened(t, pgtest.Database(t))
	f := watched(db)
	waiting, flying := created(t, db, 1)[0], created(t, db, 1)[0]
	release := f.held(t, db)
	defer release()

	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, rotated, err := db.Rotate(ctx, next(waiting))
		if rotated {
			t.Error("it was made")
		}
		left <- err
	}()
	queued(t, db, 1)
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("who left got %v", err)
	}
	queued(t, db, 0)
	release()
	if got, err := db.Grant(t.Context(), waiting.ID); err != nil || got.Generation != waiting.Generation {
		t.Errorf("what was left was done: %+v, %v", got, err)
	}

	ctx, cancel = context.WithCancel(t.Context())
	commit := db.rotation.commit
	db.rotation.commit = func(batch []*rotation) {
		cancel()
		commit(batch)
	}
	if got, rotated, err := db.Rotate(ctx, next(flying)); err != nil || !rotated || got.Generation != flying.Generation+1 {
		t.Errorf("who left too late got %+v, %v, %v", got, rotated, err)
	}
}

func TestClosingAnswersWhatWaits(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db := opened(t, url)
	f := watched(db)
	const count = 20
	grants := created(t, db, count)
	release := f.held(t, db)
	defer release()
	var done sync.WaitGroup
	for _, g := range grants {
		done.Go(func() { stepped(t, db, g) })
	}
	queued(t, db, count)
	closed := make(chan struct{})
	go func() {
		db.Close()
		close(closed)
	}()
	eventually(t, "it closes", func() bool {
		db.rotation.mu.Lock()
		defer db.rotation.mu.Unlock()
		return db.rotation.closed
	})
	release()
	done.Wait()
	<-closed
	refused(t, db, grants[0])
	if err := db.Ready(t.Context()); !errors.Is(err, issuer.ErrUnavailable) {
		t.Errorf("ready: %v", err)
	}
	if _, err := db.Grant(t.Context(), grants[0].ID); !errors.Is(err, issuer.ErrUnavailable) {
		t.Errorf("read: %v", err)
	}
}

// TestDeadlock makes a batch the victim of a deadlock: it is made all the same.
func TestDeadlock(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db := opened(t, url)
	conn, other := connected(t, url), connected(t, url)
	for range 10 {
		if deadlocked(t, db, conn, other) {
			return
		}
	}
	t.Error("the batch was never the victim")
}

// deadlocked lets a batch and a transaction wait for each other, and reports
// whether the batch was the one that PostgreSQL broke off: whoever waits for a
// second and finds the circle then.
func deadlocked(t *testing.T, db *DB, conn, other *pgx.Conn) bool {
	t.Helper()
	grants := created(t, db, 2)
	slices.SortFunc(grants, func(a, b issuer.Grant) int { return strings.Compare(a.ID.String(), b.ID.String()) })
	lock := func(tx pgx.Tx, g issuer.Grant) error {
		_, err := tx.Exec(t.Context(), "SELECT FROM grants WHERE id = $1 FOR UPDATE", [16]byte(g.ID))
		return err
	}
	tx, err := conn.Begin(t.Context())
	must(t, err)
	must(t, lock(tx, grants[1]))
	batch := []*rotation{{Rotation: next(grants[0])}, {Rotation: next(grants[1])}}
	made := make(chan struct{})
	go func() {
		db.rotateBatch(batch)
		close(made)
	}()
	eventually(t, "the batch waits", func() bool {
		return value[int](t, other, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") > 0
	})
	err = lock(tx, grants[0])
	if err != nil && sqlState(err) != deadlock {
		t.Fatal(err)
	}
	must(t, tx.Rollback(t.Context()))
	<-made
	for _, one := range batch {
		if one.err != nil || !one.rotated || one.grant.Generation != one.To {
			t.Errorf("%+v, %v, %v", one.grant, one.rotated, one.err)
		}
	}
	return err == nil
}

// TestRotationIsHeapOnly reads PostgreSQL's own count of updates that touched no
// index, of refreshes of which some narrow their grant. Of each page no more rows are refreshed than it has room for: how soon it
// is cleaned depends on what else goes on.
func TestRotationIsHeapOnly(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db := opened(t, url)
	conn := connected(t, url)
	const goroutines, refreshes = 8, 1000
	fillGrants(t, conn, 5000)
	rows, err := conn.Query(t.Context(), `SELECT `+grantColumns+` FROM
		(SELECT *, row_number() OVER (PARTITION BY (ctid::text::point)[0]) AS n FROM grants) AS grants WHERE n <= 6 LIMIT $1`, refreshes)
	must(t, err)
	grants, err := pgx.CollectRows(rows, scanGrant)
	must(t, err)
	var done sync.WaitGroup
	for some := range slices.Chunk(grants, refreshes/goroutines) {
		done.Go(func() {
			for i, g := range some {
				r := next(g)
				if i%3 == 0 {
					r.Scope = g.Scope[:2]
				}
				if got, rotated, err := db.Rotate(t.Context(), r); err != nil || !rotated || r.Scope != nil && !got.Scope.Equal(r.Scope) {
					t.Errorf("%+v, %v, %v", got, rotated, err)
				}
			}
		})
	}
	done.Wait()
	must(t, db.Close()) // sessions that end tell their counts
	var updates, heapOnly int64
	eventually(t, "the refreshes are counted", func() bool {
		must(t, conn.QueryRow(t.Context(), "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'grants'").Scan(&updates, &heapOnly))
		return updates >= refreshes
	})
	if updates != refreshes || heapOnly != updates {
		t.Errorf("%d refreshes were %d updates, %d of them heap-only", refreshes, updates, heapOnly)
	}
}

// TestTwoProcesses lets two processes race through the generations of grants that
// both refresh in batches.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	dbs := []*DB{opened(t, url), opened(t, url)}
	const generations = 10
	grants := created(t, dbs[0], 16)
	wins := make([][generations]atomic.Int32, len(grants))
	var done sync.WaitGroup
	for i, g := range grants {
		for racer := range 4 {
			done.Go(func() {
				for step := range uint32(generations) {
					r := next(g)
					r.From, r.To = g.Generation+step, g.Generation+step+1
					got, rotated, err := dbs[racer%2].Rotate(t.Context(), r)
					if err != nil || got.Generation < r.To {
						t.Errorf("to %d: %+v, %v", r.To, got, err)
					}
					if rotated {
						wins[i][step].Add(1)
					}
				}
			})
		}
	}
	done.Wait()
	for i := range wins {
		for step := range wins[i] {
			if n := wins[i][step].Load(); n != 1 {
				t.Errorf("grant %d left generation %d %d times", i, step+1, n)
			}
		}
	}
}
