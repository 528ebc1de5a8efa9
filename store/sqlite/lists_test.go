package sqlite

import (
	"strings"
	"testing"

	"github.com/evergrant/evergrant/issuer"
	driver "zombiezen.com/go/sqlite"
)

// plan is how SQLite runs a query.
func plan(t *testing.T, db *DB, query string, args ...any) string {
	t.Helper()
	var steps []string
	check(t, db.readers.do(t.Context(), func(conn *driver.Conn) error {
		return run(conn, "EXPLAIN QUERY PLAN "+query, func(stmt *driver.Stmt) error {
			steps = append(steps, stmt.ColumnText(3))
			return nil
		}, args...)
	}))
	return strings.Join(steps, "; ")
}

// TestQueriesUseTheirIndexes keeps every query away from reading a whole table
// and from sorting.
func TestQueriesUseTheirIndexes(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	id := issuer.NewGrantID()
	grants := func(f issuer.GrantFilter) (string, []any) { return grantsQuery(f) }
	cases := map[string]string{}
	add := func(want, query string, args []any) { cases[plan(t, db, query, args...)] = want }

	query, args := grants(issuer.GrantFilter{After: id})
	add("INDEX sqlite_autoindex_grants_1 (id>?)", query, args)
	query, args = grants(issuer.GrantFilter{ClientID: "c", After: id})
	add("INDEX grants_client (client_id=? AND id>?)", query, args)
	query, args = grants(issuer.GrantFilter{Subject: "s"})
	add("INDEX grants_subject (subject=?)", query, args)
	query, args = grants(issuer.GrantFilter{ClientID: "c", Subject: "s", After: id})
	add("INDEX grants_", query, args)
	query, args = eventsQuery(issuer.EventFilter{Grant: id, Type: "grant.", Before: 7})
	add("INDEX events_grant (grant_id=? AND rowid<?)", query, args)
	query, args = eventsQuery(issuer.EventFilter{ClientID: "c", Before: 7})
	add("INDEX events_half (<expr>=? AND rowid<?)", query, args)
	query, args = usesQuery(issuer.UseFilter{AfterClient: "c", AfterHabit: issuer.HabitRetry})
	add("PRIMARY KEY ((client_id,habit)>(?,?))", query, args)
	query, args = usesQuery(issuer.UseFilter{ClientID: "c"})
	add("PRIMARY KEY (client_id=?)", query, args)
	query, args = usesQuery(issuer.UseFilter{ClientID: "c", AfterClient: "c", AfterHabit: issuer.HabitRetry})
	add("PRIMARY KEY (client_id=?", query, args)
	add("PRIMARY KEY (client_id=?)", forgetUses, nil)
	add("INTEGER PRIMARY KEY (rowid=?)", narrowGrant, nil)
	add("INDEX sqlite_autoindex_grants_1 (id=?)", findGrant, nil)
	add("INTEGER PRIMARY KEY (rowid=?)", rotateGrant, nil)
	add("INDEX sqlite_autoindex_grants_1 (id=?)", revokeGrant, nil)
	add("INDEX grants_purge (purge_hour>? AND purge_hour<?)", dueGrants, nil)
	add("INDEX revoked_access_tokens_expiry (expires_at<?)", purgeAccessTokens, nil)
	add("INDEX events_at (at<?)", purgeEvents, nil)
	add("INDEX once_until (until<?)", purgeNames, nil)
	add("INDEX deliveries_created (created_at<?)", purgeDeliveries, nil)
	for got, want := range cases {
		if !strings.Contains(got, want) || strings.Contains(got, "SCAN") || strings.Contains(got, "TEMP B-TREE") {
			t.Errorf("plan is %q, want %q", got, want)
		}
	}
}

// TestRowIsSmall measures what a usual grant takes: its row, and its entries in
// the four indexes.
func TestRowIsSmall(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	const count = 1000
	createMany(t, db, count)
	size := func(where string) (bytes int64) {
		check(t, db.readers.do(t.Context(), func(conn *driver.Conn) (err error) {
			bytes, err = number(conn, "SELECT sum(payload) FROM dbstat WHERE aggregate = TRUE AND name IN (SELECT name FROM sqlite_schema WHERE tbl_name = 'grants' AND "+where+")")
			return err
		}))
		return bytes / count
	}
	row, indexes := size("type = 'table'"), size("type = 'index'")
	t.Logf("a usual grant takes %d bytes and %d in indexes", row, indexes)
	if row == 0 || row > 300 {
		t.Errorf("the row of a usual grant takes %d bytes", row)
	}
}
