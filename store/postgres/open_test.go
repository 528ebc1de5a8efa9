package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/issuer"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// layout is what a database says of its own layout: version, oldest and rows.
func layout(t testing.TB, s session) (layout [3]int) {
	t.Helper()
	must(t, s.QueryRow(t.Context(), "SELECT max(version), max(oldest), count(*) FROM evergrant").Scan(&layout[0], &layout[1], &layout[2]))
	return layout
}

func TestOpenTogether(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	var opening sync.WaitGroup
	for range 8 {
		opening.Go(func() {
			db, err := Open(t.Context(), url, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			if err := db.Ready(t.Context()); err != nil {
				t.Error(err)
			}
			db.Close()
		})
	}
	opening.Wait()
	conn := connected(t, url)
	present := [3]int{len(migrations()), 1, 1}
	if got := layout(t, conn); got != present {
		t.Errorf("layout %v", got)
	}
	g := created(t, opened(t, url), 1)[0]
	if got, err := opened(t, url).Grant(t.Context(), g.ID); err != nil || got.ID != g.ID {
		t.Errorf("opened again: %+v, %v", got, err)
	}
	if got := layout(t, conn); got != present {
		t.Errorf("layout %v", got)
	}
}

// TestMigrationIsWhole breaks migrations in their middle: what was there before
// is there, and the next start migrates.
func TestMigrationIsWhole(t *testing.T) {
	t.Parallel()
	steps := migrations()
	more := migration{"ALTER TABLE grants ADD COLUMN more integer NOT NULL DEFAULT 0", 1}
	for _, c := range []struct {
		name string
		bad  string
		want error
	}{
		{"a bad statement", "no SQL", nil},
		{"the session ends", "SELECT pg_terminate_backend(pg_backend_pid())", issuer.ErrUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := pgtest.Database(t)
			pool, err := connect(t.Context(), url)
			must(t, err)
			t.Cleanup(pool.Close)
			db := &DB{pool: pool, deadline: defaultDeadline}
			conn := connected(t, url)
			bad := append(steps, more, migration{c.bad, 1})
			if err := db.advance(t.Context(), bad); err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("in an empty database: %v", err)
			}
			if tables := value[int](t, conn, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"); tables != 0 {
				t.Errorf("%d tables are left", tables)
			}
			g := created(t, opened(t, url), 1)[0]
			if err := db.advance(t.Context(), bad); err == nil {
				t.Error("a bad migration passed")
			}
			if got := layout(t, conn); got != [3]int{len(migrations()), 1, 1} {
				t.Errorf("layout %v", got)
			}
			stepped(t, opened(t, url), g)
		})
	}
}

// TestReleasesSideBySide lets the next release migrate while this one works.
func TestReleasesSideBySide(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db := opened(t, url)
	g := created(t, db, 1)[0]
	next := append(migrations(), migration{"ALTER TABLE grants ADD COLUMN more integer NOT NULL DEFAULT 0", 1})
	must(t, db.advance(t.Context(), next))
	conn := connected(t, url)
	if got := layout(t, conn); got != [3]int{3, 1, 1} {
		t.Errorf("layout %v", got)
	}
	g = stepped(t, db, g)
	created(t, db, 1)
	stepped(t, opened(t, url), g) // by a process of this release that starts only now
	next = append(next, migration{"ALTER TABLE grants DROP COLUMN retries", 4})
	must(t, db.advance(t.Context(), next))
	if got := layout(t, conn); got != [3]int{4, 4, 1} {
		t.Errorf("layout %v", got)
	}
	if _, err := Open(t.Context(), url, Options{}); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "version 4") {
		t.Errorf("error is %v", err)
	}
}

func TestOthersTables(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, sql string
		want      error
	}{
		{"a table", "CREATE TABLE customers (id int)", ErrNotOurs},
		{"a partitioned table", "CREATE TABLE customers (id int) PARTITION BY HASH (id)", ErrNotOurs},
		{"a table with our name", "CREATE TABLE evergrant (id int)", ErrNotOurs},
		{"a view and a table elsewhere", "CREATE SCHEMA other; CREATE TABLE other.customers (id int); CREATE VIEW customers AS SELECT * FROM other.customers", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := pgtest.Database(t)
			conn := connected(t, url)
			execute(t, conn, c.sql)
			db, err := Open(t.Context(), url, Options{})
			if err == nil {
				db.Close()
			}
			if !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("error is %v", err)
			}
			if tables := value[int](t, conn, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"); c.want != nil && tables != 1 {
				t.Errorf("there are %d tables", tables)
			}
		})
	}
}

// TestRights opens databases as a role that may not do all that is needed.
func TestRights(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	s.Create(t, "a")
	s.Exec(t, "", "CREATE ROLE guest LOGIN")
	guest := strings.Replace(s.URL("a"), "evergrant@", "guest@", 1)
	refuses := func() {
		t.Helper()
		_, err := Open(t.Context(), guest, Options{})
		if sqlState(err) != noPrivilege || !strings.Contains(err.Error(), `GRANT USAGE, CREATE ON SCHEMA public TO "guest"`) {
			t.Fatalf("error is %v", err)
		}
	}
	refuses()
	s.Exec(t, "a", "GRANT USAGE, CREATE ON SCHEMA public TO guest")
	db := openedWith(t, guest, Options{})
	created(t, db, 1)

	// The tables are another role's.
	s.Create(t, "b")
	opened(t, s.URL("b"))
	guest = s.URL("b")
	guest = strings.Replace(guest, "evergrant@", "guest@", 1)
	refuses()
	s.Exec(t, "b", "GRANT USAGE, CREATE ON SCHEMA public TO guest")
	s.Exec(t, "b", "GRANT ALL ON ALL TABLES IN SCHEMA public TO guest; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO guest")
	created(t, opened(t, guest), 1)

	// Tables of an extension are nobody's.
	s.Create(t, "c")
	s.Exec(t, "c", "CREATE TABLE places (id int); ALTER EXTENSION plpgsql ADD TABLE places")
	opened(t, s.URL("c"))
}

// TestSettings opens databases on which answers would not be durable, and finds
// that out on a later connection.
func TestSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		s    serverSettings
		want string // of the error
	}{
		{"usual", serverSettings{"on", "on", "", "UTF8", 150018}, ""},
		{"a synchronous standby", serverSettings{"on", "on", "s1", "UTF8", 130000}, ""},
		{"the standby's memory", serverSettings{"remote_write", "on", "s1", "UTF8", 150018}, ""},
		{"the standby's answers", serverSettings{"remote_apply", "on", "s1", "UTF8", 150018}, ""},
		{"this disk alone, and there is no other", serverSettings{"local", "on", "", "UTF8", 150018}, ""},
		{"another engine without the setting", serverSettings{"on", "", "", "UTF8", 130000}, ""},
		{"this disk alone", serverSettings{"local", "on", "s1", "UTF8", 150018}, "synchronous_commit is local"},
		{"no disk", serverSettings{"off", "on", "", "UTF8", 150018}, "synchronous_commit is off"},
		{"no flush", serverSettings{"on", "off", "", "UTF8", 150018}, "fsync is off"},
		{"another encoding", serverSettings{"on", "on", "", "LATIN1", 150018}, "encoding is LATIN1"},
		{"an old server", serverSettings{"on", "on", "", "UTF8", 120022}, "PostgreSQL 12: upgrade it to 13"},
	} {
		if err := c.s.check(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}

	url := pgtest.Database(t)
	db := opened(t, url)
	g := created(t, db, 1)[0]
	conn := connected(t, url)
	database := value[string](t, conn, "SELECT current_database()")
	execute(t, conn, "ALTER DATABASE "+database+" SET synchronous_commit = off")
	if _, err := Open(t.Context(), url, Options{}); !errors.Is(err, issuer.ErrUnavailable) || !strings.Contains(err.Error(), "synchronous_commit is off") {
		t.Errorf("opened: %v", err)
	}
	db.pool.Reset()
	if err := refused(t, db, g); !strings.Contains(err.Error(), "synchronous_commit is off") {
		t.Errorf("a new connection: %v", err)
	}
	execute(t, conn, "ALTER DATABASE "+database+" RESET synchronous_commit")
	stepped(t, db, g)
}

func TestReadOnlyDatabase(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db := opened(t, url)
	g := created(t, db, 1)[0]
	conn := connected(t, url)
	database := value[string](t, conn, "SELECT current_database()")
	execute(t, conn, "ALTER DATABASE "+database+" SET default_transaction_read_only = on")
	db.pool.Reset()
	if err := refused(t, db, g); sqlState(err) != readOnly || strings.Contains(err.Error(), "not known") {
		t.Errorf("error is %v", err)
	}
	if err := db.Ready(t.Context()); !errors.Is(err, issuer.ErrUnavailable) {
		t.Errorf("ready: %v", err)
	}
	if got, err := db.Grant(t.Context(), g.ID); err != nil || got.Generation != g.Generation {
		t.Errorf("read: %+v, %v", got, err)
	}
	if _, err := Open(t.Context(), url, Options{}); !errors.Is(err, issuer.ErrUnavailable) || !strings.Contains(err.Error(), "name the primary") {
		t.Errorf("opened: %v", err)
	}
	execute(t, conn, "SET default_transaction_read_only = off; ALTER DATABASE "+database+" RESET default_transaction_read_only")
	stepped(t, db, g) // the read-only connections were given up
}

// TestPasswordsAreNotShown connects with a password where that fails.
func TestPasswordsAreNotShown(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	s.Create(t, "a")
	rules := s.Exec(t, "", "SHOW hba_file")
	s.Exec(t, "", fmt.Sprintf(`COPY (VALUES ('local all all trust'), ('host all all 127.0.0.1/32 scram-sha-256')) TO '%s'`, rules))
	s.Exec(t, "", "ALTER ROLE evergrant PASSWORD 'right-secret'")
	s.Exec(t, "", "SELECT pg_reload_conf()")
	with := func(password string) string {
		return strings.Replace(s.URL("a"), "evergrant@", "evergrant:"+password+"@", 1)
	}
	opened(t, with("right-secret"))
	for name, url := range map[string]string{
		"wrong":       with("wrong-secret"),
		"no database": strings.Replace(with("right-secret"), "/a?", "/b?", 1),
		"no server":   "postgres://evergrant:right-secret@127.0.0.1:1/a?sslmode=disable",
		"words":       "host=127.0.0.1 port=1 user=evergrant password=right-secret dbname=a",
	} {
		_, err := Open(t.Context(), url, Options{})
		if !errors.Is(err, issuer.ErrUnavailable) || strings.Contains(fmt.Sprintf("%+v", err), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, url := range []string{
		"postgres://evergrant:right-secret@127.0.0.1:port/a", "postgres://evergrant:right-secret%zz@127.0.0.1/a",
		"password=right-secret host", with("right-secret") + "&pool_max_conns=right-secret", "postgres://evergrant:right/secret@127.0.0.1/a",
	} {
		if _, err := Open(t.Context(), url, Options{}); err == nil || strings.Contains(fmt.Sprintf("%+v", err), "secret") {
			t.Errorf("%v", err)
		}
	}
}

// TestConnections counts the connections of a pool of the usual size, and of one
// whose size is given.
func TestConnections(t *testing.T) {
	for _, c := range []struct {
		more string
		want int32
	}{{"", defaultConns}, {"&pool_max_conns=3", 3}} {
		pool, err := connect(t.Context(), "postgres://a@127.0.0.1:1/a?sslmode=disable"+c.more)
		must(t, err)
		if got := pool.Config(); got.MaxConns != c.want || got.ConnConfig.DefaultQueryExecMode != pgx.QueryExecModeCacheDescribe {
			t.Errorf("%q: %d connections, %v", c.more, got.MaxConns, got.ConnConfig.DefaultQueryExecMode)
		}
		pool.Close()
	}
}

func TestLostVersion(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db := opened(t, url)
	execute(t, connected(t, url), "DELETE FROM evergrant")
	if err := db.Ready(t.Context()); !errors.Is(err, errNoVersion) {
		t.Errorf("ready: %v", err)
	}
	if _, err := Open(t.Context(), url, Options{}); !errors.Is(err, errNoVersion) {
		t.Errorf("opened: %v", err)
	}
}

// TestLockedMigration says what keeps a migration waiting.
func TestLockedMigration(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db := opened(t, url)
	conn := connected(t, url)
	tx, err := conn.Begin(t.Context())
	must(t, err)
	execute(t, tx, "SELECT pg_advisory_xact_lock($1)", int64(migrateKey))
	err = db.run(t.Context(), func(ctx context.Context, s session) error {
		return pgx.BeginFunc(ctx, s.(*pgxpool.Conn), func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = 1"); err != nil { // sooner than beginMigration has it
				return err
			}
			_, err := tx.Exec(ctx, lockMigration, int64(migrateKey))
			return err
		})
	})
	if err = db.explain(err); !errors.Is(err, issuer.ErrUnavailable) || !strings.Contains(err.Error(), "start again when it has ended") {
		t.Errorf("error is %v", err)
	}
}
