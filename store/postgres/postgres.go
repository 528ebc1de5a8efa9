// Package postgres keeps what an [issuer.Server], a [keeper.Keeper] and webhooks
// persist in a PostgreSQL database, 13 or later, which any number of processes
// share.
//
// # How a write becomes durable
//
// Every intent is one statement, or one short transaction, which is committed
// with synchronous_commit on: the answer leaves when the commit is flushed, and
// on the synchronous standby where there is one. Each connection reads that
// setting and fsync back, and refuses a server that does not flush; remote_write
// and remote_apply are taken as well. Nothing is held between
// statements, no session has a state, and no statement is prepared by name, so
// that a pooler may give each transaction another session (pgbouncer in
// transaction pooling).
//
// Refreshes by clients are compared and set in batches: those that wait while
// others are being committed go together in one statement (batch.go). But for an
// import, which stores many, no statement touches two grants for one caller, nor
// two connections.
//
// # Deadlines, and outcomes that are not known
//
// PostgreSQL lets a commit wait for a lost synchronous standby for ever, and no
// setting of its own ends that. So each statement has a deadline here. It is not
// cancelled then: a commit that is would be seen although the standby lacks it. A
// statement that met it, or whose connection broke, may have been done or not,
// or be done later. That is never guessed: the row is read (outcome.go), and
// where it does not say so, the error says that the outcome is not known.
// Until the database is proven to commit again, writes fail at once instead of
// waiting too (stall.go).
package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/issuer"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Options of Open. The zero value is good.
type Options struct {
	// Log hears of what fails and recovers; nil is silence.
	Log *slog.Logger
	// Deadline is how long a statement may take, with waiting for a connection: 5
	// seconds where it is 0.
	Deadline time.Duration
}

// DB is an open database: an [issuer.Store], an [issuer.Lists] and a
// [hook.Store]; what the keeper persists is behind [DB.Keeper]. It is safe for
// concurrent use, and so is one database for several processes.
type DB struct {
	address  Address
	pool     *pgxpool.Pool
	deadline time.Duration
	log      *slog.Logger
	stall    *stall
	rotation *batcher
	wakes    *wakes
	close    sync.Once
}

var (
	_ issuer.Store  = (*DB)(nil)
	_ issuer.Lists  = (*DB)(nil)
	_ hook.Store    = (*DB)(nil)
	_ hook.Listener = (*DB)(nil)
)

// Open connects to the database that a URL or a connection string names, and
// brings its schema up to date. Parameters are those of libpq (several hosts and
// target_session_attrs among them), and pool_max_conns. The error wraps
// [ErrNotOurs] or [ErrNewer] where the database is not for this program, and
// [issuer.ErrUnavailable] where it cannot be reached or written. No error shows
// the password.
func Open(ctx context.Context, url string, o Options) (*DB, error) {
	return open(ctx, url, o, migrations())
}

// open is Open of a release that has these migrations.
func open(ctx context.Context, url string, o Options, steps []migration) (*DB, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Deadline == 0 {
		o.Deadline = defaultDeadline
	}
	address, err := ParseAddress(url)
	if err != nil {
		return nil, err
	}
	pool, err := connect(ctx, url)
	if err != nil {
		return nil, err
	}
	db := &DB{address: address, pool: pool, deadline: o.Deadline, log: o.Log}
	db.stall = newStall(db)
	if err := db.migrate(ctx, steps); err != nil {
		pool.Close()
		return nil, fmt.Errorf("database %s: %w", address, err)
	}
	db.rotation = newBatcher(db)
	db.wakes = newWakes(db)
	return db, nil
}

// Ready reads and writes, durably but without effect, and says what keeps it
// from it: the error wraps [issuer.ErrUnavailable] where the database is
// read-only, unreachable, closed, or does not commit.
func (db *DB) Ready(ctx context.Context) error {
	return db.write(ctx, touch)
}

// Close answers what has been asked and closes all connections. Whatever is
// called afterwards fails with an error that wraps [issuer.ErrUnavailable].
func (db *DB) Close() error {
	db.close.Do(func() {
		db.rotation.close()
		db.wakes.close()
		db.stall.close()
		db.pool.Close()
	})
	return nil
}
