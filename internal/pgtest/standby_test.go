package pgtest

import (
	"fmt"
	"testing"
	"time"
)

// waiting counts the commits that wait for a standby.
func waiting(t testing.TB, s *Server) string {
	t.Helper()
	return s.Exec(t, "", "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
}

// TestPair leads a pair through two failovers, back to where it began: what was
// acknowledged is on the server that is promoted.
func TestPair(t *testing.T) {
	t.Parallel()
	one := Start(t)
	one.Create(t, "a")
	sql(t, one.URL("a"), "CREATE TABLE t (n int)")
	two := one.Standby(t)
	either := URL("a", one, two)
	primary, standby := one, two
	for i := range 3 {
		sql(t, either, fmt.Sprintf("INSERT INTO t VALUES (%d)", i))
		primary.Kill(t)
		if _, err := trySQL(either, "SELECT 1"); err == nil {
			t.Fatal("a standby was taken for one that can be written to")
		}
		standby.Promote(t)
		if i == 1 {
			standby.Alone(t)
			sql(t, either, "INSERT INTO t VALUES (10)")
		}
		primary.Rejoin(t, standby)
		primary, standby = standby, primary
	}
	if got := sql(t, either, "SELECT string_agg(n::text, ' ' ORDER BY n) FROM t"); got != "0 1 2 10" {
		t.Errorf("rows %q", got)
	}
}

// TestLostStandby holds that commits wait for a standby that is lost, and for one
// that there is not after a promotion, until they are told not to.
func TestLostStandby(t *testing.T) {
	t.Parallel()
	one := Start(t)
	one.Create(t, "a")
	sql(t, one.URL("a"), "CREATE TABLE t (n int)")
	two := one.Standby(t)

	two.Kill(t)
	committing := connect(t, one.URL("a"))
	committing.ask("INSERT INTO t VALUES (1) RETURNING n")
	until(t, "a commit waits", func() bool { return waiting(t, one) == "1" })
	two.Restart(t)
	if got := committing.answer(); got != "1" {
		t.Errorf("answer %q", got)
	}

	until(t, "the standby is synchronous again", func() bool { return one.Exec(t, "", "SELECT sync_state FROM pg_stat_replication") == "sync" })
	one.Kill(t)
	two.Promote(t)
	committing = connect(t, two.URL("a"))
	committing.ask("INSERT INTO t VALUES (2) RETURNING n")
	until(t, "a commit waits", func() bool { return waiting(t, two) == "1" })
	select {
	case line := <-committing.line:
		t.Errorf("answer %q before there is a standby", line)
	case <-time.After(200 * time.Millisecond):
	}
	two.Alone(t)
	if got := committing.answer(); got != "2" {
		t.Errorf("answer %q", got)
	}
}

// TestLostWrites holds that a former primary gives up what its standby never had.
func TestLostWrites(t *testing.T) {
	t.Parallel()
	one := Start(t)
	one.Create(t, "a")
	sql(t, one.URL("a"), "CREATE TABLE t (n int)")
	two := one.Standby(t)
	two.Kill(t)
	one.Alone(t)
	sql(t, one.URL("a"), "INSERT INTO t VALUES (1)")
	one.Kill(t)
	two.Restart(t)
	two.Promote(t)
	two.Alone(t)
	sql(t, two.URL("a"), "INSERT INTO t VALUES (2)")
	one.Rejoin(t, two)
	if got := sql(t, one.URL("a"), "SELECT string_agg(n::text, ' ') FROM t"); got != "2" {
		t.Errorf("rows %q", got)
	}
}
