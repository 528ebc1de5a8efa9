package sqlite

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/storetest"
	driver "zombiezen.com/go/sqlite"
)

// usualConnection is an active connection that is due at a time.
func usualConnection(id string, at time.Time) keeper.Connection {
	return keeper.Connection{
		ID: id, Provider: "acme", Owner: "alice", State: keeper.Active, Since: at, TokenType: "Bearer", Generation: 1, IssuedAt: at,
		ExpiresAt: at.Add(20 * time.Minute), Refreshable: true, DueAt: at, CreatedAt: at, UpdatedAt: at,
		Tokens: secret.Sealed{KeyID: 1, Data: make([]byte, 1500)},
	}
}

func eventOf(kind string, c keeper.Connection) keeper.Event {
	return keeper.Event{At: c.UpdatedAt, Type: kind, Connection: c.ID, Provider: c.Provider, Owner: c.Owner, Generation: c.Generation, Actor: "keeper"}
}

// create2 stores a usual connection and takes its lease.
func create2(t testing.TB, db *DB, id string) keeper.Connection {
	t.Helper()
	c := usualConnection(id, time.UnixMilli(1_700_000_000_000).UTC())
	check(t, db.Keeper().Create(t.Context(), c, eventOf(keeper.EventCreated, c)))
	c, leased, err := db.Keeper().Lease(t.Context(), id, c.CreatedAt, c.CreatedAt.Add(time.Minute))
	if err != nil || !leased {
		t.Fatal(leased, err)
	}
	return c
}

// TestKeeperQueriesUseTheirIndexes keeps what the keeper does all the time away
// from reading whole tables and from sorting, however many connections there
// are.
func TestKeeperQueriesUseTheirIndexes(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	tenant, none := "north", ""
	list := func(f keeper.Filter) (query string, args []any) {
		check(t, db.readers.do(t.Context(), func(conn *driver.Conn) error {
			runs, text, err := connectionRuns(conn, f)
			if query = text; len(runs) > 0 {
				args = runs[0]
			}
			return err
		}))
		return query, args
	}
	events := func(f keeper.EventFilter) (string, []any) { return keeperEventsQuery(f) }
	type asked struct {
		query string
		args  []any
	}
	ask := func(query string, args []any) asked { return asked{query, args} }
	for want, cases := range map[string][]asked{
		"INDEX connections_due (provider=? AND due_at>? AND due_at<?)": {{dueConnections, nil}},
		"INDEX connections_key (key_id=? AND id>?)":                    {{staleTokens, nil}},
		"INDEX connections_key (key_id>?)":                             {{heldKeys, nil}},
		"INDEX connections_provider (provider>?)":                      {{heldProviders, nil}},
		"INDEX connections_provider (provider=? AND state=? AND id>?)": {
			ask(list(keeper.Filter{Provider: "p"})), ask(list(keeper.Filter{Provider: "p", State: keeper.Paused, Tenant: &none})),
		},
		"INDEX connections_owner (owner=? AND id>?)": {
			ask(list(keeper.Filter{Owner: "o"})), ask(list(keeper.Filter{Owner: "o", Provider: "p", State: keeper.Active})),
		},
		"INDEX connections_tenant (tenant=? AND id>?)": {
			ask(list(keeper.Filter{Tenant: &tenant})), ask(list(keeper.Filter{Tenant: &tenant, Provider: "p"})),
		},
		"INDEX sqlite_autoindex_connections_1 (id>?)": {ask(list(keeper.Filter{})), ask(list(keeper.Filter{Tenant: &none}))},
		"INDEX sqlite_autoindex_connections_1 (id=?)": {{findConnection, nil}, {selectConnection, nil}, {writeAnswer, nil}},
		"INTEGER PRIMARY KEY (rowid=?)":               {{updateConnection, nil}, {updateIndexed, nil}, {writeJournal, nil}, {takeLease, nil}},
		"INDEX events_connection (connection=? AND rowid<?)": {
			{pruneHistory, nil}, ask(events(keeper.EventFilter{Connection: "c", Before: 7})),
		},
		"INDEX events_connection (connection=? AND rowid>?)": {ask(events(keeper.EventFilter{Connection: "c", Tenant: &none, After: 7}))},
		"INDEX events_provider (provider=?)":                 {ask(events(keeper.EventFilter{Provider: "p"}))},
		"INDEX events_tenant (tenant=?":                      {ask(events(keeper.EventFilter{Tenant: &tenant, Before: 7}))},
		"INDEX events_half (<expr>=? AND rowid<?)":           {ask(events(keeper.EventFilter{Before: 7})), ask(events(keeper.EventFilter{Tenant: &none, Before: 7}))},
		"INDEX events_half (<expr>=? AND rowid>?)":           {ask(events(keeper.EventFilter{After: 7}))},
		"SEARCH events USING INTEGER PRIMARY KEY (rowid>?)":  {{feed, nil}},
		"INDEX deliveries_due (hook=? AND next_at>? AND next_at<?)": {
			{dueDeliveries, nil},
		},
	} {
		for _, c := range cases {
			got := plan(t, db, c.query, c.args...)
			scans := strings.NewReplacer("SCAN held", "", "SCAN CONSTANT ROW", "").Replace(got) // the values that were found so far
			if !strings.Contains(got, want) || strings.Contains(scans, "SCAN") || strings.Contains(got, "TEMP B-TREE") {
				t.Errorf("%s\nis run as %q, want %q", c.query, got, want)
			}
		}
	}
	if got := plan(t, db, countConnections); got != "SCAN connections USING COVERING INDEX connections_provider" {
		t.Errorf("counts are run as %q", got)
	}
}

// TestCommitTouchesOneIndex holds that a refresh leaves all indexes of
// connections alone but for the one of what is due.
func TestCommitTouchesOneIndex(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	names := map[int64]string{}
	check(t, db.readers.do(t.Context(), func(conn *driver.Conn) error {
		return run(conn, "SELECT rootpage, name FROM sqlite_schema", func(stmt *driver.Stmt) error {
			names[stmt.ColumnInt64(0)] = stmt.ColumnText(1)
			return nil
		})
	}))
	for query, want := range map[string][]string{
		updateConnection: {"connections", "connections_due"},
		takeLease:        {"journal"},
		writeJournal:     {"journal", "journal_key"},
	} {
		var written []string
		check(t, db.readers.do(t.Context(), func(conn *driver.Conn) error {
			return run(conn, "EXPLAIN "+query, func(stmt *driver.Stmt) error {
				if stmt.ColumnText(1) == "OpenWrite" {
					written = append(written, names[stmt.ColumnInt64(3)])
				}
				return nil
			})
		}))
		if slices.Sort(written); !slices.Equal(written, want) {
			t.Errorf("%s\nwrites %v, want %v", query, written, want)
		}
	}
}

// TestRefreshWritesLittle counts the pages that each step of a refresh at a
// provider writes to the log, alone in its transaction. The tokens fill two
// pages, the answer three.
func TestRefreshWritesLittle(t *testing.T) {
	const count = 50
	db := open(t, tempPath(t), Options{})
	k := db.Keeper()
	var rows []keeper.Connection
	for i := range count {
		rows = append(rows, create2(t, db, fmt.Sprintf("connection-%d", i)))
	}
	at := rows[0].CreatedAt.Add(time.Hour)
	answer := secret.Sealed{KeyID: 1, Data: make([]byte, 2000)}
	pages := func() (n int64) {
		check(t, db.readers.do(t.Context(), func(conn *driver.Conn) (err error) {
			n, _, err = checkpoint(conn, "NOOP")
			return err
		}))
		return n
	}
	for _, step := range []struct {
		name string
		most int64 // pages of all
		do   func(c *keeper.Connection) (bool, error)
	}{
		{"lease", count, func(c *keeper.Connection) (did bool, err error) {
			*c, did, err = k.Lease(t.Context(), c.ID, at, at.Add(time.Minute))
			return did, err
		}},
		{"intent", 3 * count, func(c *keeper.Connection) (bool, error) {
			return k.Begin(t.Context(), c.ID, c.Fence, keeper.Intent{RequestID: "request", Generation: c.Generation, SentAt: at}, at.Add(time.Minute))
		}},
		{"answer", 8 * count, func(c *keeper.Connection) (bool, error) { return k.Answer(t.Context(), c.ID, "request", answer) }},
		{"commit", 20 * count, func(c *keeper.Connection) (bool, error) {
			next := *c
			next.Generation, next.DueAt = c.Generation+1, at.Add(time.Hour)
			return k.Commit(t.Context(), c.Fence, c.Generation, next, eventOf(keeper.EventRefreshed, next))
		}},
	} {
		before := pages()
		for i := range rows {
			if did, err := step.do(&rows[i]); err != nil || !did {
				t.Fatal(step.name, did, err)
			}
		}
		wrote := pages() - before
		t.Logf("%s: %.1f pages", step.name, float64(wrote)/count)
		if wrote < count || wrote > step.most {
			t.Errorf("%d times %s wrote %d pages, at most %d were expected", count, step.name, wrote, step.most)
		}
	}
}

// TestKeeperIsWhole lets each table refuse in turn: where any part of an
// operation fails, nothing of it is done.
func TestKeeperIsWhole(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	k := db.Keeper()
	c := create2(t, db, "c")
	next := c
	next.State, next.Generation = keeper.Paused, 2
	other := usualConnection("other", c.CreatedAt)
	create := func() error { return k.Create(t.Context(), other, eventOf(keeper.EventCreated, other)) }
	begin := func() error {
		_, err := k.Begin(t.Context(), c.ID, c.Fence, keeper.Intent{RequestID: "r", Generation: 1}, c.LeaseUntil)
		return err
	}
	commit := func() error {
		_, err := k.Commit(t.Context(), c.Fence, c.Generation, next, eventOf(keeper.EventPaused, next))
		return err
	}
	remove := func() error {
		_, err := k.Delete(t.Context(), c.ID, c.Fence, eventOf(keeper.EventDeleted, c))
		return err
	}
	planAll := func() error {
		_, err := db.Plan(t.Context(), 0, 5, []hook.Delivery{{Hook: "app", Event: 1, NextAt: c.CreatedAt}, {Hook: "app", Event: 2, NextAt: c.CreatedAt}})
		return err
	}
	claim := func() error {
		_, err := db.Claim(t.Context(), "crm", c.CreatedAt, c.CreatedAt.Add(time.Hour), 10)
		return err
	}
	restore := func() error {
		_, err := db.Restored(t.Context(), c.CreatedAt)
		return err
	}
	if did, err := db.Plan(t.Context(), 0, 0, []hook.Delivery{{Hook: "crm", NextAt: c.CreatedAt}, {Hook: "crm", NextAt: c.CreatedAt}}); !did || err != nil {
		t.Fatal(did, err)
	}
	before := contents(t, db)
	for refusal, ops := range map[string][]func() error{
		"INSERT ON connections":                    {create},
		"UPDATE OF state ON connections":           {commit, restore},
		"UPDATE OF generation ON connections":      {commit},
		"DELETE ON connections":                    {remove},
		"INSERT ON journal":                        {create},
		"UPDATE ON journal":                        {create, begin, commit, restore},
		"DELETE ON journal":                        {remove},
		"INSERT ON events":                         {create, commit, remove},
		"UPDATE ON planned":                        {planAll},
		"INSERT ON deliveries WHEN NEW.event = 2":  {planAll},
		"UPDATE ON deliveries WHEN NEW.id % 2 = 0": {claim},
	} {
		inWriter(t, db, func(conn *driver.Conn) error {
			table, when, _ := strings.Cut(refusal, " WHEN ")
			if when != "" {
				when = "WHEN " + when
			}
			return run(conn, "CREATE TRIGGER refusal BEFORE "+table+" "+when+" BEGIN SELECT RAISE(ABORT, 'refused'); END", nil)
		})
		for i, op := range ops {
			if err := op(); err == nil || !strings.Contains(err.Error(), "refused") {
				t.Errorf("refused %s, and operation %d gave %v", refusal, i, err)
			}
		}
		inWriter(t, db, func(conn *driver.Conn) error { return run(conn, "DROP TRIGGER refusal", nil) })
		if after := contents(t, db); after != before {
			t.Errorf("refused %s, and it left\n%s, it was\n%s", refusal, after, before)
		}
	}
	for i, op := range []func() error{create, begin, commit, planAll, claim, restore, func() error { return k.Create(t.Context(), usualConnection("x", c.CreatedAt), keeper.Event{}) }} {
		if err := op(); err != nil {
			t.Errorf("operation %d: %v", i, err)
		}
	}
}

// contents is all that the keeper and webhooks have stored, as text.
func contents(t *testing.T, db *DB) string {
	t.Helper()
	var all []string
	check(t, db.readers.do(t.Context(), func(conn *driver.Conn) error {
		for _, table := range []string{"connections", "journal", "events", "once", "planned", "deliveries"} {
			err := run(conn, "SELECT * FROM "+table+" ORDER BY 1", func(stmt *driver.Stmt) error {
				row := table
				for i := range stmt.ColumnCount() {
					row += " " + stmt.ColumnName(i) + "=" + stmt.ColumnText(i)
				}
				all = append(all, row)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	return strings.Join(all, "\n")
}

// TestConnectionThatCannotBeStored gives metadata that JSON cannot have.
func TestConnectionThatCannotBeStored(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	c := create2(t, db, "c")
	before := contents(t, db)
	c.Metadata = map[string]any{"nan": math.NaN()}
	if _, err := db.Keeper().Commit(t.Context(), c.Fence, c.Generation, c); err == nil || !strings.Contains(err.Error(), `connection "c" cannot be stored`) {
		t.Errorf("error is %v", err)
	}
	c.ID = "other"
	if err := db.Keeper().Create(t.Context(), c, keeper.Event{}); err == nil || !strings.Contains(err.Error(), `connection "other" cannot be stored`) {
		t.Errorf("error is %v", err)
	}
	if after := contents(t, db); after != before {
		t.Errorf("it left\n%s", after)
	}
}

func TestDamagedConnection(t *testing.T) {
	for _, column := range []string{"params", "metadata"} {
		db := open(t, tempPath(t), Options{})
		c := create2(t, db, "c")
		inWriter(t, db, func(conn *driver.Conn) error { return run(conn, "UPDATE connections SET "+column+" = '{\"a\": '", nil) })
		_, err := db.Keeper().Connection(t.Context(), "c")
		_, _, leaseErr := db.Keeper().Lease(t.Context(), "c", c.LeaseUntil, c.LeaseUntil.Add(time.Minute))
		_, listErr := db.Keeper().Connections(t.Context(), keeper.Filter{})
		for _, err := range []error{err, leaseErr, listErr} {
			if err == nil || !strings.Contains(err.Error(), `connection "c" is damaged`) {
				t.Errorf("error is %v", err)
			}
		}
	}
}

// TestUnavailableInBothWords lets callers of either half recognize the error
// without the other.
func TestUnavailableInBothWords(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	c := create2(t, db, "c")
	inWriter(t, db, func(conn *driver.Conn) error { return run(conn, "PRAGMA query_only = ON", nil) })
	_, readOnly := db.Keeper().Answer(t.Context(), c.ID, "r", secret.Sealed{})
	begun, busy := db.Keeper().Begin(t.Context(), c.ID, c.Fence, keeper.Intent{Generation: 1}, c.LeaseUntil)
	if busy != nil || !begun {
		t.Errorf("the next one: %v, %v", begun, busy)
	}
	check(t, db.Close())
	_, closed := db.Keeper().Connection(t.Context(), c.ID)
	for _, err := range []error{readOnly, closed, unavailable(readOnly), classify(driver.ResultFull.ToError())} {
		if !errors.Is(err, issuer.ErrUnavailable) || !errors.Is(err, keeper.ErrUnavailable) || errors.Is(err, keeper.ErrNotFound) {
			t.Errorf("error is %v", err)
		}
		if strings.Count(err.Error(), "unavailable") != 1 {
			t.Errorf("error says %q", err)
		}
	}
	if driver.ErrCode(readOnly) != driver.ResultReadOnly {
		t.Errorf("the cause is lost: %v", readOnly)
	}
}

// keeperCalls calls every method of the two stores, each with good arguments
// and so that it does something.
func keeperCalls(ctx context.Context, s keeper.Store, h hook.Store, c keeper.Connection) map[string]func() (bool, error) {
	e := eventOf("test.event", c)
	intent := keeper.Intent{RequestID: "r", Kind: provider.Refresh, Generation: c.Generation}
	later := c.LeaseUntil.Add(time.Hour)
	return map[string]func() (bool, error){
		"Create": func() (bool, error) {
			err := s.Create(ctx, usualConnection("other", c.CreatedAt), e)
			return err == nil, err
		},
		"Connection": func() (bool, error) {
			got, err := s.Connection(ctx, c.ID)
			return got.ID != "", err
		},
		"Lease": func() (bool, error) {
			got, leased, err := s.Lease(ctx, c.ID, later, later)
			return leased && got.ID != "", err
		},
		"Begin":  func() (bool, error) { return s.Begin(ctx, c.ID, c.Fence, intent, later) },
		"Answer": func() (bool, error) { return s.Answer(ctx, c.ID, "open", c.Tokens) },
		"Commit": func() (bool, error) { return s.Commit(ctx, c.Fence, c.Generation, c, e) },
		"Delete": func() (bool, error) { return s.Delete(ctx, c.ID, c.Fence, e) },
		"Due": func() (bool, error) {
			got, err := s.Due(ctx, later, 10)
			return len(got) > 0, err
		},
		"Stale": func() (bool, error) {
			got, err := s.Stale(ctx, 2, "", 10)
			return len(got) > 0, err
		},
		"Record": func() (bool, error) { return s.Record(ctx, e) },
		"Once":   func() (bool, error) { return s.Once(ctx, "name", c.CreatedAt, later) },
		"Events": func() (bool, error) {
			got, err := s.Events(ctx, keeper.EventFilter{})
			return len(got) > 0, err
		},
		"Feed": func() (bool, error) {
			got, err := h.Feed(ctx, 0, 10)
			return len(got) > 0, err
		},
		"LastEvent": func() (bool, error) {
			got, err := h.LastEvent(ctx)
			return got > 0, err
		},
		"Planned": func() (bool, error) {
			got, begun, err := h.Planned(ctx)
			return begun && got > 0, err
		},
		"Plan": func() (bool, error) { return h.Plan(ctx, 1, 2, nil) },
		"Claim": func() (bool, error) {
			got, err := h.Claim(ctx, "app", later, later.Add(time.Hour), 10)
			return len(got) > 0, err
		},
		"Settle": func() (bool, error) {
			err := h.Settle(ctx, hook.Delivery{ID: 1, Attempts: 7})
			return err == nil, err
		},
		"Deliveries": func() (bool, error) {
			got, err := h.Deliveries(ctx, 0, 10)
			return len(got) > 0, err
		},
	}
}

// TestFaultyKeeper checks the fault wrappers on a real store: what failed before
// is not done, what failed after is, either way nothing is answered, and no
// fault is no change.
func TestFaultyKeeper(t *testing.T) {
	fault := errors.New("fault")
	fail := func(string) error { return fault }
	reads := []string{"Connection", "Due", "Stale", "Events", "Feed", "LastEvent", "Planned", "Deliveries"}
	for _, c := range []struct {
		name          string
		before, after func(string) error
		fails, writes bool
	}{{"before", fail, nil, true, false}, {"after", nil, fail, true, true}, {"never", nil, nil, false, true}} {
		t.Run(c.name, func(t *testing.T) {
			for _, name := range slices.Sorted(maps.Keys(keeperCalls(t.Context(), nil, nil, keeper.Connection{}))) {
				db := open(t, tempPath(t), Options{})
				row := create2(t, db, "c")
				if begun, err := db.Keeper().Begin(t.Context(), "c", row.Fence, keeper.Intent{RequestID: "open", Generation: 1}, row.LeaseUntil); err != nil || !begun {
					t.Fatal(begun, err)
				}
				if did, err := db.Plan(t.Context(), 0, 1, []hook.Delivery{{Hook: "app", Event: 1, NextAt: row.CreatedAt}}); err != nil || !did {
					t.Fatal(did, err)
				}
				before := contents(t, db)
				s := storetest.FaultyKeeper{Store: db.Keeper(), Before: c.before, After: c.after}
				h := storetest.FaultyHooks{Store: db, Before: c.before, After: c.after}
				did, err := keeperCalls(t.Context(), s, h, row)[name]()
				if errors.Is(err, fault) != c.fails || did == c.fails {
					t.Errorf("%s: %v, %v", name, did, err)
				}
				if wrote := contents(t, db) != before; wrote != (c.writes && !slices.Contains(reads, name)) {
					t.Errorf("%s wrote: %v", name, wrote)
				}
			}
		})
	}
	t.Run("names", func(t *testing.T) {
		db := open(t, tempPath(t), Options{})
		var asked string
		ask := func(method string) error {
			asked = method
			return fault
		}
		calls := keeperCalls(t.Context(), storetest.FaultyKeeper{Store: db.Keeper(), Before: ask}, storetest.FaultyHooks{Store: db, Before: ask}, keeper.Connection{})
		for want, call := range calls {
			if _, err := call(); !errors.Is(err, fault) || asked != want {
				t.Errorf("%s is called %s", want, asked)
			}
		}
	})
}
