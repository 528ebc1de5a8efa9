package postgres

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/issuer"
)

// shortDeadline is for tests in which statements meet it.
const shortDeadline = 500 * time.Millisecond

// number is what a query of the administrator gives.
func number(t testing.TB, s *pgtest.Server, database, sql string) int {
	t.Helper()
	n, err := strconv.Atoi(s.Exec(t, database, sql))
	must(t, err)
	return n
}

const (
	sessions   = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'evergrant'"
	hungInSync = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
)

// TestHungCommits lets every commit wait for a standby that is not there. Nothing
// is answered as done or as not done, nothing piles up on the server, and when
// commits pass again all is well by itself.
func TestHungCommits(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	s.Create(t, "a")
	var log logged
	db := openedWith(t, s.URL("a"), Options{Deadline: shortDeadline, Log: slog.New(slog.NewTextHandler(&log, nil))})
	grants := created(t, db, 60)
	s.Configure(t, "synchronous_standby_names", "nobody")
	var done sync.WaitGroup
	for i, g := range grants {
		done.Go(func() {
			switch i % 3 {
			case 0:
				refused(t, db, g)
				return
			case 1: // waits for a connection when the first deadline comes, and not for its own
				time.Sleep(shortDeadline / 2)
			}
			e := event("test", g)
			e.Cause = issuer.CauseClientRequest
			if revoked, err := db.Revoke(t.Context(), g.ID, g.CreatedAt, e); revoked || !errors.Is(err, issuer.ErrUnavailable) {
				t.Errorf("%v, %v", revoked, err)
			}
		})
	}
	done.Wait()
	if log.count("does not commit") != 1 {
		t.Error("the log does not say once that the database does not commit")
	}

	hung := number(t, s, "", hungInSync)
	if hung == 0 || hung > defaultConns {
		t.Fatalf("%d commits hang", hung)
	}
	for range 100 { // at once: all together within one deadline
		refused(t, db, grants[0])
	}
	if err := db.Ready(t.Context()); !errors.Is(err, errNoCommit) {
		t.Errorf("ready: %v", err)
	}
	for _, g := range grants { // who reads does not hang, and sees nothing of what hangs
		if got, err := db.Grant(t.Context(), g.ID); err != nil || got.Generation != g.Generation || !got.RevokedAt.IsZero() {
			t.Errorf("%+v, %v", got, err)
		}
	}
	for range 3 { // as a supervisor would start it again and again
		if _, err := Open(t.Context(), s.URL("a"), Options{Deadline: shortDeadline}); !errors.Is(err, issuer.ErrUnavailable) || !strings.Contains(err.Error(), "synchronous_standby_names") {
			t.Errorf("opened: %v", err)
		}
	}
	time.Sleep(3 * shortDeadline) // while the probe looks
	if still := number(t, s, "", hungInSync); still < hung || still > hung+1 {
		t.Errorf("%d commits hang, %d did before", still, hung)
	}
	if n := number(t, s, "", sessions); n > 2*defaultConns {
		t.Errorf("there are %d sessions", n)
	}

	s.Configure(t, "synchronous_standby_names", "")
	eventually(t, "the database is ready", func() bool { return db.Ready(t.Context()) == nil })
	if log.count("commits again") != 1 {
		t.Error("the log does not say once that the database commits again")
	}
	for i, g := range grants {
		if i%3 != 0 {
			continue
		}
		// Asked again, the step is made, or found to have been.
		if got, _, err := db.Rotate(t.Context(), next(g)); err != nil || got.Generation != g.Generation+1 || !got.RotatedAt.Equal(next(g).At) {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

// TestClosingWhileCommitsHang ends within the deadline.
func TestClosingWhileCommitsHang(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	s.Create(t, "a")
	db := openedWith(t, s.URL("a"), Options{Deadline: shortDeadline})
	grants := created(t, db, 2)
	s.Configure(t, "synchronous_standby_names", "nobody")
	asked := make(chan error)
	go func() {
		_, _, err := db.Rotate(context.Background(), next(grants[0]))
		asked <- err
	}()
	eventually(t, "a commit hangs", func() bool { return number(t, s, "", hungInSync) == 1 })
	must(t, db.Close())
	if err := <-asked; !errors.Is(err, issuer.ErrUnavailable) {
		t.Errorf("the commit that hung: %v", err)
	}
	refused(t, db, grants[1])
}

// TestLockedTable keeps a table locked: those who wait for it do not pile up
// either.
func TestLockedTable(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(db *DB, g issuer.Grant) error{
		"statements": func(db *DB, g issuer.Grant) error { return db.Retried(t.Context(), g.ID) },
		"transactions": func(db *DB, g issuer.Grant) error {
			return db.transact(t.Context(), func(ctx context.Context, s session) error {
				_, err := s.Exec(ctx, countRetry, [16]byte(g.ID))
				return err
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			db := openedWith(t, url, Options{Deadline: shortDeadline})
			grants := created(t, db, 20)
			conn, watch := connected(t, url), connected(t, url)
			tx, err := conn.Begin(t.Context())
			must(t, err)
			execute(t, tx, "LOCK TABLE grants IN EXCLUSIVE MODE")
			var asking sync.WaitGroup
			ctx, cancel := context.WithTimeout(t.Context(), 6*shortDeadline)
			defer cancel()
			for _, g := range grants {
				asking.Go(func() {
					for ctx.Err() == nil {
						if err := write(db, g); !errors.Is(err, issuer.ErrUnavailable) {
							t.Errorf("error is %v", err)
						}
						pause(ctx, time.Millisecond)
					}
				})
			}
			asking.Wait()
			if n := value[int](t, watch, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"); n == 0 || n > defaultConns {
				t.Errorf("%d statements wait", n)
			}
			must(t, tx.Rollback(t.Context()))
			eventually(t, "the database is ready", func() bool { return db.Ready(t.Context()) == nil })
			stepped(t, db, grants[0])
		})
	}
}

// TestFrozenServer stops the server where it is, with all connections open.
func TestFrozenServer(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	s.Create(t, "a")
	db := openedWith(t, s.URL("a"), Options{Deadline: shortDeadline})
	g := created(t, db, 1)[0]
	s.Freeze(t)
	refused(t, db, g)
	if _, err := db.Grant(t.Context(), g.ID); !errors.Is(err, issuer.ErrUnavailable) {
		t.Errorf("read: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(shortDeadline/10, cancel)
	if _, err := db.Grant(ctx, g.ID); !errors.Is(err, context.Canceled) {
		t.Errorf("who left before there was a connection got %v", err)
	}
	s.Thaw(t)
	eventually(t, "the database is ready", func() bool { return db.Ready(t.Context()) == nil })
	if got, _, err := db.Rotate(t.Context(), next(g)); err != nil || got.Generation != g.Generation+1 {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestStallInFakeTime lets a stall begin and end while nothing waits for a real
// clock.
func TestStallInFakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := opened(t, pgtest.Database(t))
		g := created(t, db, 1)[0]
		db.stall.begin()
		db.stall.begin() // again, while it lasts
		refused(t, db, g)
		if err := db.Ready(t.Context()); !errors.Is(err, errNoCommit) {
			t.Errorf("ready: %v", err)
		}
		time.Sleep(firstProbe - time.Millisecond)
		refused(t, db, g)
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		g = stepped(t, db, g)

		db.stall.begin()
		must(t, db.Close())
		db.stall.begin() // of who was late
		refused(t, db, g)
	})
}
