package postgres

import (
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/issuer"
	"github.com/jackc/pgx/v5"
)

// crowded is a database with so many rows that reading a whole table is slower
// than its index: thousands of grants of each client, events of both
// halves, deliveries, and what purging finds.
func crowded(t testing.TB) (*DB, *pgx.Conn) {
	t.Helper()
	url := pgtest.Database(t)
	db, conn := opened(t, url), connected(t, url)
	for _, sql := range []string{
		`INSERT INTO grants SELECT gen_random_uuid(), 'client' || i % 10, 'subject' || i % 20, 'read', 1, 1, i, i, i, 0, i, 0, '', 0, i
			FROM generate_series(1, 12000) AS i`,
		`INSERT INTO events (id, at, type, grant_id, client_id, subject, actor, address, cause, detail, connection)
			SELECT i, i, 'grant.created', gen_random_uuid(), 'client' || i % 300, '', '', '', '', '', CASE WHEN i % 2 = 0 THEN 'c' || i % 100 END
			FROM generate_series(1, 12000) AS i`,
		"SELECT setval('event_numbers', 12000)",
		`INSERT INTO deliveries (hook, event, type, body, created_at, attempts, next_at, done_at, status, error)
			SELECT 'hook' || i % 3, i, 'x', '{}', i, 0, CASE WHEN i % 10 = 0 THEN i ELSE 0 END, 0, 0, '' FROM generate_series(1, 12000) AS i`,
		"INSERT INTO clients SELECT 'client' || i, '{}' FROM generate_series(1, 3000) AS i",
		"INSERT INTO users SELECT 'user' || i, '{}' FROM generate_series(1, 3000) AS i",
		"INSERT INTO habits SELECT 'client' || i % 3000, 'habit' || i / 3000, 1, i, i FROM generate_series(0, 11999) AS i",
		"INSERT INTO revoked_access_tokens SELECT 'jti' || i, i FROM generate_series(1, 12000) AS i",
		"INSERT INTO once SELECT 'name' || i, i FROM generate_series(1, 12000) AS i",
		"ANALYZE",
	} {
		execute(t, conn, sql)
	}
	return db, conn
}

// TestQueriesUseTheirIndexes keeps every query away from reading a whole table,
// and from sorting more than what it gives.
func TestQueriesUseTheirIndexes(t *testing.T) {
	db, _ := crowded(t)
	id := issuer.GrantID{0x40}
	ids := [][16]byte{id, {0x50}}
	type query struct {
		want, sql string
		args      []any
	}
	var cases []query
	for _, f := range []struct {
		want   string
		filter issuer.GrantFilter
	}{
		{"grants_pkey", issuer.GrantFilter{}},
		{"grants_pkey", issuer.GrantFilter{After: id, Limit: 1000}},
		{"grants_client", issuer.GrantFilter{ClientID: "client7", After: id}},
		{"grants_subject", issuer.GrantFilter{Subject: "subject7"}},
		{"grants_", issuer.GrantFilter{ClientID: "client7", Subject: "subject7", After: id}},
	} {
		sql, args := grantsQuery(f.filter)
		cases = append(cases, query{f.want, sql, args})
	}
	for _, f := range []struct {
		want   string
		filter issuer.EventFilter
	}{
		{"events_", issuer.EventFilter{}},
		{"events_", issuer.EventFilter{Limit: 1000, Before: 9000}},
		{"events_grant", issuer.EventFilter{Grant: id, Type: "grant.", Before: 9000}},
		{"events_", issuer.EventFilter{ClientID: "client7", Before: 11000}},
		{"events_", issuer.EventFilter{Type: "grant.", Subject: "x"}},
	} {
		sql, args := eventsQuery(f.filter)
		cases = append(cases, query{f.want, sql, args})
	}
	for _, f := range []issuer.UseFilter{{}, {ClientID: "client7"}, {AfterClient: "client7", AfterHabit: "habit2"}, {ClientID: "client7", AfterClient: "client7", AfterHabit: "habit2"}} {
		sql, args := usesQuery(f)
		cases = append(cases, query{"habits_pkey", sql, args})
	}
	var deliveries conditions
	deliveries.add("id < ?", 9000)
	for _, c := range append(cases, []query{
		{"clients_pkey", clients().get, []any{"client7"}},
		{"clients_pkey", clients().list, []any{"client7", 100}},
		{"clients_pkey", clients().remove, eventArgs(someEvent("x"), "client7")},
		{"clients_pkey", clients().change, eventArgs(someEvent("x"), "client7", "new", "old")},
		{"clients_pkey", clients().getAll, []any{[]string{"client7", "client8"}}},
		{"users_pkey", users().change, eventArgs(someEvent("x"), "user7", "new", "old")},
		{"users_pkey", users().getAll, []any{[]string{"user7", "user8"}}},
		{"grants_pkey", countGrants, []any{ids}},
		{"habits_pkey", forgetUses, []any{"client7"}},
		{"habits_pkey", clients().remove, eventArgs(someEvent("x"), "client7")},
		{"users_pkey", users().get, []any{"user7"}},
		{"users_pkey", users().list, []any{"user7", 100}},
		{"revoked_access_tokens_pkey", accessTokenRevoked, []any{"jti7"}},
		{"events_pkey", feed, []any{100, 12000, 256}},
		{"events_pkey", feed, []any{11990, 12000, 256}},
		{"deliveries_pkey", (&conditions{}).query(selectDelivery, "id DESC", 100), nil},
		{"deliveries_pkey", deliveries.query(selectDelivery, "id DESC", 100), deliveries.args},
		{"deliveries_due", claimDeliveries, []any{"hook1", 9000, 16, 12000}},
		{"deliveries_pkey", settleDelivery, []any{7, 1, 0, 0, 200, ""}},
		{"grants_purge", dueGrants, []any{9000, 5000, [16]byte(id), purgeBatch}},
		{"grants_pkey", deleteDead, []any{ids, 9000}},
		{"grants_pkey", postpone, []any{ids, []int64{1, 2}}},
		{"revoked_access_tokens_expiry", purgeAccessTokens, []any{purgeBatch, 1000}},
		{"once_until", purgeNames, []any{purgeBatch, 1000}},
		{"events_at", purgeEvents, []any{purgeBatch, 1000, 500}},
		{"deliveries_created", purgeDeliveries, []any{purgeBatch, 1000, 500}},
	}...) {
		got := explained(t, db, c.sql, c.args...)
		if !strings.Contains(got, c.want) || strings.Contains(got, "Seq Scan on grants") || strings.Contains(got, "Seq Scan on events") ||
			strings.Contains(got, "Seq Scan on deliveries") || strings.Contains(got, "Seq Scan on clients") || strings.Contains(got, "Seq Scan on users") ||
			strings.Contains(got, "Seq Scan on revoked") || strings.Contains(got, "Seq Scan on once") || strings.Contains(got, "Seq Scan on habits") {
			t.Errorf("%s\n%s", c.sql, got)
		}
		// Few are what both filters choose, what is claimed, and what one client relies on.
		few := c.want == "grants_" || c.sql == claimDeliveries || strings.Contains(c.sql, "FROM habits WHERE client_id")
		if strings.Contains(got, "Sort Key") && !few {
			t.Errorf("%s sorts:\n%s", c.sql, got)
		}
	}
}

// TestStatsAreExactOrEstimated counts the rows of small tables, and asks how many
// there are likely to be in large ones instead of reading them.
func TestStatsAreExactOrEstimated(t *testing.T) {
	db, conn := crowded(t)
	stats, err := db.Stats(t.Context())
	must(t, err)
	for table, want := range map[string]int64{"clients": 3000, "users": 3000, "keys": 0, "connections": 0, "planned": 0} {
		if got := stats.Rows[table]; got != want {
			t.Errorf("%s has %d rows, want %d", table, got, want)
		}
	}
	near := func(what string, got, want int64) {
		t.Helper()
		if got < want*9/10 || got > want*11/10 {
			t.Errorf("%s is %d, want %d or so", what, got, want)
		}
	}
	for _, table := range []string{"grants", "events", "deliveries", "once", "revoked_access_tokens", "habits"} {
		near(table, stats.Rows[table], 12000)
	}
	// Rows that came since it was last looked at are in pages that came since.
	execute(t, conn, "INSERT INTO once SELECT 'later' || i, i FROM generate_series(1, 12000) AS i")
	grown, err := db.Stats(t.Context())
	must(t, err)
	near("a table that has grown", grown.Rows["once"], 24000)
	if grown.DatabaseBytes <= stats.DatabaseBytes || stats.DatabaseBytes < 12000*100 {
		t.Errorf("%d bytes, and then %d", stats.DatabaseBytes, grown.DatabaseBytes)
	}
	// At the border.
	execute(t, conn, "DELETE FROM users")
	execute(t, conn, "INSERT INTO users SELECT 'user' || i, '{}' FROM generate_series(1, $1::integer) AS i", countTo)
	stats, err = db.Stats(t.Context())
	if must(t, err); stats.Rows["users"] != countTo {
		t.Errorf("%d users, want %d", stats.Rows["users"], countTo)
	}
	plan := explained(t, db, "(ANALYZE, TIMING OFF) "+statistics([]string{"grants"}), []string{"grants"})
	if strings.Contains(plan, "rows=12000 loops") || !strings.Contains(plan, "rows=10001 loops") {
		t.Errorf("the whole table is read:\n%s", plan)
	}
}

// TestStatsOfATableThatNobodyHasLookedAt says at least that it is large.
func TestStatsOfATableThatNobodyHasLookedAt(t *testing.T) {
	url := pgtest.Database(t)
	db, conn := opened(t, url), connected(t, url)
	execute(t, conn, "ALTER TABLE once SET (autovacuum_enabled = FALSE)")
	execute(t, conn, "INSERT INTO once SELECT 'name' || i, i FROM generate_series(1, 12000) AS i")
	stats, err := db.Stats(t.Context())
	if must(t, err); stats.Rows["once"] != countTo+1 {
		t.Errorf("%d rows", stats.Rows["once"])
	}
}
