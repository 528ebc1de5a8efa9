package postgres

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/evergrant/evergrant/internal/killtest"
	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) {
	place := killtest.Place()
	if place == "" {
		os.Exit(pgtest.Main(m))
	}
	if err := serveReplica(place); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// opened opens the database at a URL, until the test ends.
func opened(t testing.TB, url string) *DB {
	t.Helper()
	db, err := Open(t.Context(), url, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// connected is a connection past all that the package does, until the test ends.
func connected(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// execute runs a statement on a connection or in a transaction.
func execute(t testing.TB, s session, sql string, args ...any) {
	t.Helper()
	if _, err := s.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// value is what a query gives: one row of one column.
func value[T any](t testing.TB, s session, sql string, args ...any) (v T) {
	t.Helper()
	if err := s.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// explained is how PostgreSQL runs a query.
func explained(t testing.TB, db *DB, query string, args ...any) string {
	t.Helper()
	var plan []string
	err := db.read(t.Context(), func(ctx context.Context, s session) (err error) {
		plan, err = all(ctx, s, "EXPLAIN "+query, args, pgx.RowTo[string])
		return err
	})
	if err != nil {
		t.Fatalf("%v: %s", err, query)
	}
	return strings.Join(plan, "\n")
}

// logged is a log that a test reads.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

// count is how often the log says something.
func (l *logged) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}
