package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// defaultDeadline is the Deadline of Options: longer than any statement of
	// ours takes on a busy database, shorter than clients wait.
	defaultDeadline = 5 * time.Second
	// defaultConns is how many connections there are at most, where the connection
	// string does not say pool_max_conns: batches of refreshes take up to
	// batchesAtOnce of them.
	defaultConns = 16
	// connectTimeout is for one host, where the connection string says nothing.
	connectTimeout = 2 * time.Second
	// pingTimeout is how long a connection that was idle is waited for, before
	// another one is tried: its server may have gone without a word.
	pingTimeout = time.Second
	// attempts is how often a statement is begun that certainly was not done: its
	// connection was dead before, or it was the victim of a deadlock.
	attempts = 4
	// oldestServer is the first version of PostgreSQL that the statements are
	// written for, as server_version_num has it.
	oldestServer = 130000
)

// session is what statements run on: a connection, or a transaction.
type session interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// connect makes the pool. It connects to nothing yet.
func connect(ctx context.Context, url string) (*pgxpool.Pool, error) {
	if _, err := ParseAddress(url); err != nil { // the driver's own error may show the password
		return nil, err
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	given := config.ConnConfig
	if raw, err := pgx.ParseConfig(url); err == nil && raw.RuntimeParams["pool_max_conns"] == "" {
		config.MaxConns = defaultConns
	}
	if config.PingTimeout == 0 {
		config.PingTimeout = pingTimeout
	}
	if given.ConnectTimeout == 0 {
		given.ConnectTimeout = connectTimeout
	}
	if _, named := given.RuntimeParams["application_name"]; !named {
		given.RuntimeParams["application_name"] = "evergrant"
	}
	// Nothing is prepared by name: poolers give each transaction another session.
	given.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	given.DialFunc = withoutCancelling(given.DialFunc)
	// A pooler may share out a session that listens; pgx would keep what it is told.
	given.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) {}
	var hosts hosts
	config.BeforeConnect = hosts.order
	timeout := given.ConnectTimeout
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		hosts.connected(conn)
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return checkServer(ctx, conn)
	}
	var pool *pgxpool.Pool
	ping := config.PingTimeout
	config.ShouldPing = func(ctx context.Context, idle pgxpool.ShouldPingParams) bool {
		if idle.IdleDuration < time.Second {
			return false
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ping)
		defer cancel()
		dead := idle.Conn.Ping(ctx) != nil
		if dead { // so are the others, each of which would be waited for
			pool.Reset()
		}
		return dead // the pool's own ping then fails at once, and gives it up
	}
	pool, err = pgxpool.NewWithConfig(ctx, config)
	return pool, err
}

// withoutCancelling makes connections of which pgx can cancel no statement. It
// tries to wherever it gives a connection up, and PostgreSQL takes a commit that
// is cancelled while it waits for its standby as done: everybody would see what
// the standby does not have.
func withoutCancelling(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if network == uncancelled {
			return nil, errors.New("postgres: no statement is cancelled")
		}
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return lasting{conn}, nil
	}
}

// uncancelled is the network of which servers seem to be that must not be told to
// cancel: pgx sends that to where the connection leads.
const uncancelled = "uncancelled"

type lasting struct{ net.Conn }

func (l lasting) RemoteAddr() net.Addr { return lastingAddr{l.Conn.RemoteAddr()} }

type lastingAddr struct{ net.Addr }

func (lastingAddr) Network() string { return uncancelled }

// serverSettings are those that promises rest on.
type serverSettings struct {
	commit, fsync, standbys, encoding string
	version                           int
}

// checkServer refuses a server on which what is answered as done could be lost,
// or that cannot hold what is stored. Each new connection reads that back, since
// it may lead to another server than the last one did, and since nothing can be
// set for a session behind a pooler.
func checkServer(ctx context.Context, conn *pgx.Conn) error {
	const query = `SELECT current_setting('synchronous_commit'), coalesce(current_setting('fsync', true), ''),
		coalesce(current_setting('synchronous_standby_names', true), ''), current_setting('server_encoding'),
		current_setting('server_version_num')::integer`
	var s serverSettings
	row := conn.QueryRow(ctx, query, pgx.QueryExecModeExec)
	if err := row.Scan(&s.commit, &s.fsync, &s.standbys, &s.encoding, &s.version); err != nil {
		return err
	}
	return s.check()
}

// check says what is wrong with the settings. A commit that the standby has
// received and not yet flushed (remote_write) is taken as durable: it is lost
// only where both machines are at the same time.
func (s serverSettings) check() error {
	const mend = ": set it to on, with ALTER ROLE or ALTER DATABASE ... SET, or in postgresql.conf"
	switch {
	case s.commit == "off":
		return errors.New("synchronous_commit is off, so that a crash of the server loses what was answered as done" + mend)
	case s.commit == "local" && s.standbys != "":
		return errors.New("synchronous_commit is local, so that the loss of the primary loses what was answered as done although there is a synchronous standby" + mend)
	case s.fsync == "off":
		return errors.New("fsync is off, so that a crash of the machine destroys the database: set it to on in postgresql.conf")
	case s.encoding != "UTF8":
		return fmt.Errorf("the database's encoding is %s, which cannot hold all names: make one with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0", s.encoding)
	case s.version < oldestServer:
		return fmt.Errorf("the server is PostgreSQL %d: upgrade it to %d or later", s.version/10000, oldestServer/10000)
	}
	return nil
}

// write runs f, one statement, under the deadline. The caller may leave until
// there is a connection for it, and not any more then: an interrupted statement
// would cost the connection, and leave an outcome that is not known. While the
// database does not commit it fails at once. f may be run again where it was
// certainly not done.
func (db *DB) write(ctx context.Context, f func(ctx context.Context, s session) error) error {
	err := db.stall.err()
	if err == nil {
		err = db.run(ctx, func(ctx context.Context, s session) error {
			if err := db.stall.err(); err != nil { // meanwhile: the connection was waited for
				return err
			}
			return f(ctx, s)
		})
	}
	if _, unconnected := errors.AsType[notBegun](err); !unconnected && errors.Is(err, context.DeadlineExceeded) {
		db.stall.begin()
	}
	return left(ctx, err)
}

// transact is write for more than one statement, in one transaction.
func (db *DB) transact(ctx context.Context, f func(ctx context.Context, s session) error) error {
	return db.write(ctx, func(ctx context.Context, s session) error {
		tx, err := s.(*pgxpool.Conn).Begin(ctx)
		if err == nil {
			if err = f(ctx, tx); err == nil {
				return tx.Commit(ctx)
			}
			_ = tx.Rollback(ctx) // where that fails, so has the connection
		}
		if outcomeUnknown(err) {
			err = rolledBack{err}
		}
		return err
	})
}

// read runs f, which changes nothing, as write does, and again where its
// connection broke: another one may be good.
func (db *DB) read(ctx context.Context, f func(ctx context.Context, s session) error) error {
	err := db.run(ctx, f)
	if outcomeUnknown(err) && !errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = db.run(ctx, f)
	}
	return left(ctx, err)
}

// left is the error of a caller who left before anything was begun for him.
func left(ctx context.Context, err error) error {
	if _, ok := errors.AsType[notBegun](err); ok && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// run gives f a connection, and another one where certainly nothing was done.
func (db *DB) run(ctx context.Context, f func(ctx context.Context, s session) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	working, done := context.WithTimeout(context.WithoutCancel(ctx), db.deadline)
	defer done()
	waiting, cancel := context.WithTimeout(ctx, db.deadline)
	defer cancel()
	for range attempts {
		var conn *pgxpool.Conn
		if conn, err = db.acquire(waiting); err != nil {
			return err
		}
		if err = db.use(working, conn, f); !again(err) || working.Err() != nil {
			break
		}
	}
	return classify(err)
}

// acquire takes a connection out of the pool, for whoever gives it to use, or
// releases it.
func (db *DB) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return nil, unavailable(notBegun{err})
	}
	return conn, nil
}

// use runs f on a connection, which is given back, or up: then with all others,
// since what ended one has mostly ended them, which is only found out by using
// them.
func (db *DB) use(ctx context.Context, conn *pgxpool.Conn, f func(ctx context.Context, s session) error) error {
	defer conn.Release()
	err := f(ctx, conn)
	if sqlState(err) == readOnly { // it was a primary before: the next one is looked for
		conn.Conn().Close(ctx)
	}
	if conn.Conn().IsClosed() {
		// The server is not waited for, as pgx would, while the next connection is
		// kept waiting: it may never answer.
		conn.Conn().PgConn().Conn().Close()
		db.pool.Reset()
	}
	return err
}
