package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// firstProbe is how long after a stall began it is first looked whether it is
	// over, and lastProbe how long it is between two looks at most: so much later
	// than the database is the service well again.
	firstProbe, lastProbe = 250 * time.Millisecond, time.Second

	// leftBehind counts the statements of this role that have hung for longer than
	// any is waited for: in a commit for its standby, or for a row or table that
	// somebody keeps. A migration waits for another one on an advisory lock.
	leftBehind = `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND usename = session_user AND pid <> pg_backend_pid() AND state = 'active'
			AND (wait_event = 'SyncRep' OR wait_event_type = 'Lock' AND wait_event <> 'advisory')
			AND query_start < clock_timestamp() - $1::bigint * interval '1 millisecond'`
)

// errNoCommit answers writes, as unavailable, while the database does not commit.
var errNoCommit = errors.New("it does not commit: a statement was not done by its deadline, and none is begun until one is;" +
	" see pg_stat_replication for a lost synchronous standby, and pg_locks")

// stall keeps writes from piling up behind commits that hang: each of them would
// keep one of the server's connections, for hung commits cannot be ended. It
// begins with the first statement that met its deadline, and ends when one
// goroutine, which there is only meanwhile, has proven that the database commits.
type stall struct {
	db      *DB
	on      atomic.Bool
	ctx     context.Context // until close
	cancel  context.CancelFunc
	mu      sync.Mutex // of beginning and ending
	probing sync.WaitGroup
}

func newStall(db *DB) *stall {
	s := &stall{db: db}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// err is why no write may be begun, or nil.
func (s *stall) err() error {
	if s.on.Load() {
		return unavailable(errNoCommit)
	}
	return nil
}

// begin makes writes fail until the database is proven to commit.
func (s *stall) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on.Load() || s.ctx.Err() != nil {
		return
	}
	s.on.Store(true)
	s.db.log.Error("the database does not commit: writes fail until it does", "database", s.db.address.String(), "deadline", s.db.deadline)
	// What else is connected there may be dead as well.
	s.db.pool.Reset()
	s.probing.Go(s.probe)
}

func (s *stall) probe() {
	for wait := firstProbe; ; wait = min(2*wait, lastProbe) {
		pause(s.ctx, wait)
		if s.ctx.Err() != nil {
			return
		}
		err := s.db.proven(s.ctx)
		if err == nil {
			break
		}
		s.db.log.Debug("the database still does not commit", "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on.Store(false)
	s.db.log.Info("the database commits again", "database", s.db.address.String())
}

// close ends the probe, and waits for it.
func (s *stall) close() {
	s.mu.Lock()
	s.cancel()
	s.mu.Unlock()
	s.probing.Wait()
}

// proven proves that the database commits. It does not try where statements hang
// already, so that none is added to them.
func (db *DB) proven(ctx context.Context) error {
	var hung int
	err := db.run(ctx, func(ctx context.Context, s session) error {
		return s.QueryRow(ctx, leftBehind, db.deadline.Milliseconds()).Scan(&hung)
	})
	if err != nil {
		return err
	}
	if hung > 0 {
		return unavailable(fmt.Errorf("statements hang for longer than %v (%d of them), commits of which wait for a synchronous standby, others for a lock:"+
			" bring the standby back, or take it out of synchronous_standby_names", db.deadline, hung))
	}
	return db.run(ctx, touch)
}
