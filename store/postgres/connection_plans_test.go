package postgres

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/keeper"
)

// many is how many connections these tests read some of.
const many = 50_000

// crowd makes many connections that are all due: of five providers, mostly active,
// one of twenty under an older key, and a few with an answer under it. Each has
// two events, and providers have few.
func crowd(t testing.TB, s session) {
	t.Helper()
	execute(t, s, `INSERT INTO connections (id, `+connectionColumns+`) SELECT 'c' || lpad(n::text, 6, '0'), 'p' || n % 5,
			CASE WHEN n % 2 = 0 THEN 't' || n % 100 ELSE '' END, CASE WHEN n % 10 = 0 THEN '' ELSE 'o' || n / 3 END,
			CASE WHEN n % 200 = 0 THEN 'paused' ELSE 'active' END, CASE WHEN n % 20 = 0 THEN 1 ELSE 2 END, '', 0, '', '', '', '', '', '', 1,
			0, 0, 0, 0, TRUE, FALSE, 1000 + n, 0, '', '', 0, 0, 0, decode(repeat('00', 400), 'hex')
		FROM generate_series(1, `+fmt.Sprint(many)+`) AS n`)
	execute(t, s, `INSERT INTO journal (connection, fence, lease_until, answer_key)
		SELECT id, 1, 0, CASE WHEN number % 5000 = 0 THEN 1 END FROM (SELECT id, row_number() OVER () AS number FROM connections) AS c`)
	execute(t, s, `INSERT INTO events (id, at, type, client_id, subject, actor, address, cause, detail, connection, provider, tenant)
		SELECT row_number() OVER (), 0, 'connection.refreshed', '', '', '', '', '', '', id, provider, tenant FROM connections, generate_series(1, 2)`)
	execute(t, s, `INSERT INTO events (id, at, type, client_id, subject, actor, address, cause, detail)
		SELECT 200000 + n, 0, 'grant.created', '', '', '', '', '', '' FROM generate_series(1, 50000) AS n`)
	execute(t, s, `INSERT INTO events (id, at, type, client_id, subject, actor, address, cause, detail, connection, provider)
		SELECT 400000 + n, 0, 'provider.down', '', '', '', '', '', '', '', 'p' || n % 5 FROM generate_series(1, 20) AS n`)
	execute(t, s, "SELECT setval('event_numbers', 500000)")
	execute(t, s, "ANALYZE")
}

// node is a step of a plan.
type node struct {
	Node   string  `json:"Node Type"`
	Table  string  `json:"Relation Name"`
	Index  string  `json:"Index Name"`
	Hit    int     `json:"Shared Hit Blocks"`
	Read   int     `json:"Shared Read Blocks"`
	Inner  []node  `json:"Plans"`
	Actual float64 `json:"Actual Rows"`
}

// walk gives each step.
func (n node) walk(visit func(node)) {
	visit(n)
	for _, inner := range n.Inner {
		inner.walk(visit)
	}
}

// TestKeeperQueriesUseTheirIndexes keeps what the keeper does all the time away
// from reading whole tables, and from sorting more than it gives, however many
// connections there are: it counts pages.
func TestKeeperQueriesUseTheirIndexes(t *testing.T) {
	url := pgtest.Database(t)
	db, conn := opened(t, url), connected(t, url)
	crowd(t, conn)
	tenant, none := "t2", ""
	later := int64(2 * many)
	type asked struct {
		query string
		args  []any
		index string // that it must use
		pages int    // that it may read at most
	}
	list := func(f keeper.Filter, index string) asked {
		f.Limit = 100
		query, args := connectionsQuery(f)
		return asked{query, args, index, 2000}
	}
	events := func(f keeper.EventFilter, index string) asked {
		f.Limit = 100
		query, args := keeperEventsQuery(f)
		return asked{query, args, index, 500}
	}
	c := usual("c000777")
	c.Fence, c.Generation = 1, 1
	intent := requested("r")
	recorded := append([]any{"", []string{"provider.down"}}, keeperEventArgs([]keeper.Event{{Type: "provider.up"}})...)
	committed := committing(c)
	for _, test := range []asked{
		{dueConnections, []any{[]string{"p1"}, later, int64(100)}, "connections_due", 1000},
		{dueConnections, []any{[]string{"p1", "p3", "none"}, later, int64(100)}, "connections_due", 2000},
		{dueConnections, []any{[]string{}, later, int64(100)}, "connections_due", 4000},
		{dueConnections, []any{[]string{}, int64(999), int64(100)}, "connections_due", 200},
		{staleConnections, []any{int64(2), "", int64(100)}, "connections_key", 1000},
		{staleConnections, []any{int64(2), "c040000", int64(100)}, "connections_key", 1000},
		{staleConnections, []any{int64(1), "", int64(100)}, "journal_key", 100},
		list(keeper.Filter{Provider: "p1"}, "connections_provider"),
		list(keeper.Filter{Provider: "p1", State: keeper.Active, After: "c020000"}, "connections_provider"),
		list(keeper.Filter{State: keeper.Paused}, "connections_provider"),
		list(keeper.Filter{State: keeper.InDoubt, Tenant: &none}, "connections_provider"),
		list(keeper.Filter{Owner: "o777"}, "connections_owner"),
		list(keeper.Filter{Owner: "o777", Provider: "p2", State: keeper.Active}, "connections_owner"),
		list(keeper.Filter{Tenant: &tenant}, "connections_tenant"),
		list(keeper.Filter{Tenant: &tenant, State: keeper.Active, After: "c020000"}, "connections_tenant"),
		list(keeper.Filter{}, "connections_pkey"),
		list(keeper.Filter{Tenant: &none, After: "c030000"}, "connections_pkey"),
		events(keeper.EventFilter{Connection: "c000777"}, "events_connection"),
		events(keeper.EventFilter{Connection: "c000777", Tenant: &none, After: 7}, "events_connection"),
		events(keeper.EventFilter{Provider: "p1"}, "events_provider"),
		events(keeper.EventFilter{Tenant: &tenant, Before: 90_000}, "events_tenant"),
		events(keeper.EventFilter{}, "events_keeper"),
		events(keeper.EventFilter{Before: 300_000}, "events_keeper"),
		events(keeper.EventFilter{After: 50_000}, ""),
		{selectConnection, []any{"c000777"}, "connections_pkey", 20},
		{recordEvent, append(recorded, "p1"), "events_connection", 100},
		{takeLease, leasing(c).args, "journal_pkey", 100},
		{beginIntent, append([]any{"c000777", int64(1), int64(1), int64(5)}, intentArgs(&intent)...), "journal_pkey", 200},
		{addAnswer, answering(c).args, "journal_pkey", 100},
		{committed.sql, committed.args, "connections_pkey", 300},
		{deleteConnection, deleting(c).args, "connections_pkey", 300},
		{createConnection, creating(usual("new")).args, "", 300},
		{rememberOnce, []any{"name", int64(0), int64(1)}, "", 100},
	} {
		tx, err := conn.Begin(t.Context())
		must(t, err)
		var plans []struct{ Plan node }
		must(t, json.Unmarshal(value[[]byte](t, tx, "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+test.query, test.args...), &plans))
		must(t, tx.Rollback(t.Context()))
		top, used := plans[0].Plan, false
		top.walk(func(n node) {
			used = used || n.Index == test.index
			if strings.Contains(n.Node, "Seq Scan") && n.Table != "keys" && n.Table != "once" {
				t.Errorf("it reads all of %s: %s", n.Table, test.query)
			}
			if strings.Contains(n.Node, "Sort") && n.Actual > 1000 {
				t.Errorf("it sorts %.0f rows: %s", n.Actual, test.query)
			}
		})
		if pages := top.Hit + top.Read; pages > test.pages || !used {
			t.Errorf("it reads %d pages, at most %d were expected; %s is used: %v\n%s\n%v\n%s",
				pages, test.pages, test.index, used, test.query, test.args, explained(t, db, test.query, test.args...))
		}
	}
}

// TestJournalIsHeapOnly holds that the steps of a refresh at a provider leave
// indexes alone: lease and intent change no column that stands in one. The answer
// and its end move the row in the index of keys. A commit that leaves alone when
// the connection is due is heap-only as well.
func TestJournalIsHeapOnly(t *testing.T) {
	const connections, rounds = 40, 5
	for _, test := range []struct {
		name         string
		answer, due  bool
		journal      int // updates of each round
		heapOnly     int // of them
		rowsHeapOnly bool
	}{
		{"nothing came of it", false, false, 3, 3, true},
		{"it was answered", true, true, 4, 2, false},
	} {
		url := pgtest.Database(t)
		db := opened(t, url)
		k, ctx := db.Keeper(), t.Context()
		for i := range connections {
			c := usual(fmt.Sprintf("%s-%d", test.name, i))
			must(t, k.Create(ctx, c, eventOf(keeper.EventCreated, c)))
		}
		for round := range rounds {
			at := begun().Add(time.Duration(round) * time.Hour)
			for i := range connections {
				c, did, err := k.Lease(ctx, fmt.Sprintf("%s-%d", test.name, i), at, at.Add(leaseFor))
				expect(t, did, err)
				intent := requested("first")
				intent.Generation = c.Generation
				did, err = k.Begin(ctx, c.ID, c.Fence, intent, at.Add(leaseFor))
				expect(t, did, err)
				if test.answer {
					did, err = k.Answer(ctx, c.ID, "first", sealedText(7, strings.Repeat("a", 400)))
					expect(t, did, err)
				}
				next := renewed(c)
				next.DueAt, next.Tokens = begun(), c.Tokens // which is where it was
				if test.due {
					next.DueAt = at.Add(time.Hour)
				}
				did, err = k.Commit(ctx, c.Fence, c.Generation, next, eventOf(keeper.EventRefreshed, next))
				expect(t, did, err)
			}
		}
		must(t, db.Close()) // so that the server counts all of it
		conn := connected(t, url)
		counted := func(table, of string) int {
			return value[int](t, conn, "SELECT "+of+" FROM pg_stat_user_tables WHERE relname = $1", table)
		}
		const all = connections * rounds
		for deadline := time.Now().Add(5 * time.Second); counted("journal", "n_tup_upd") < test.journal*all && time.Now().Before(deadline); {
			time.Sleep(5 * time.Millisecond)
		}
		updates, heapOnly := counted("journal", "n_tup_upd"), counted("journal", "n_tup_hot_upd")
		t.Logf("%s: %d of %d updates of the journal were heap-only, %d of %d of connections", test.name,
			heapOnly, updates, counted("connections", "n_tup_hot_upd"), counted("connections", "n_tup_upd"))
		// Where a page is full, the row moves to another one.
		if updates != test.journal*all || heapOnly < test.heapOnly*all*4/5 || heapOnly > test.heapOnly*all {
			t.Errorf("%s: %d of %d updates of the journal were heap-only", test.name, heapOnly, updates)
		}
		if updates := counted("connections", "n_tup_upd"); updates != all {
			t.Errorf("%s: connections had %d updates, want the commits' alone, %d", test.name, updates, all)
		}
		if heapOnly := counted("connections", "n_tup_hot_upd"); test.rowsHeapOnly && heapOnly < all/2 || !test.due && heapOnly == 0 {
			t.Errorf("%s: %d updates of connections were heap-only", test.name, heapOnly)
		}
	}
}

// expect ends a test where something was not done.
func expect(t testing.TB, did bool, err error) {
	t.Helper()
	if !did || err != nil {
		t.Fatal(did, err)
	}
}
