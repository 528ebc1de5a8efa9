package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/sqlite"
)

// must ends a test at an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// filled is a SQLite database with rows in every table.
func filled(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "evergrant.db")
	db, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	must(t, err)
	defer func() { must(t, db.Close()) }()
	ctx, at := t.Context(), time.UnixMilli(1_800_000_000_000).UTC()
	event := issuer.Event{At: at, Type: issuer.EventGrantCreated, Actor: "server"}
	must(t, db.AddKey(ctx, secret.KeyRecord{ID: 1, Root: "fingerprint", CreatedAt: at, ActiveFrom: at, SealedRSA: []byte{0, 1, 2}}))
	must(t, db.AddKey(ctx, secret.KeyRecord{ID: 2, Root: "fingerprint", CreatedAt: at, ActiveFrom: at.Add(time.Minute)}))
	must(t, db.PutClient(ctx, issuer.Client{ID: "shöp"}, event))
	must(t, db.PutUser(ctx, issuer.User{Username: "ann"}, event))
	must(t, db.CountUses(ctx, []issuer.Use{
		{ClientID: "shöp", Habit: issuer.HabitRetry, Count: 1 << 40, First: at, Last: at.Add(time.Hour)}, {ClientID: "shöp", Habit: issuer.HabitNoPKCE, Count: 1, First: at, Last: at},
	}))
	for i := range 1200 { // more than progress is told of at once
		g := issuer.Grant{
			ID: issuer.NewGrantID(), ClientID: "shöp", Subject: "ann", Scope: oauth.Scope{"read", "write"}, Generation: uint32(i), KeyID: 2,
			CreatedAt: at, RotatedAt: at, ExpiresAt: at.Add(time.Hour), AccessExpiresAt: at, Retries: 3,
		}
		if event.Grant = g.ID; i%2 == 1 {
			g.RevokedAt, g.RevokedCause, g.EndsAt = at, issuer.CauseClientRequest, at.Add(time.Hour)
		}
		must(t, db.CreateGrant(ctx, g, event))
	}
	must(t, db.RevokeAccessToken(ctx, "jti", at, event))
	for i, id := range []string{"gone", "ann", "bob"} {
		c := keeper.Connection{
			ID: id, Provider: "p", Owner: "Änn", State: keeper.Active, Since: at, CreatedAt: at, UpdatedAt: at, DueAt: at, Generation: uint64(i + 1),
			Params: map[string]string{"region": "eu"}, Metadata: map[string]any{"big": "12345678901234567890"}, Refreshable: i%2 == 0, Rotates: i%2 == 1,
			Tokens: secret.Sealed{KeyID: 2, Data: []byte{9, 8, 7}}, Error: "it said \xff",
		}
		must(t, db.Keeper().Create(ctx, c, keeper.Event{At: at, Type: keeper.EventCreated, Connection: id, Provider: "p", Owner: "Änn"}))
	}
	gone, _, err := db.Keeper().Lease(ctx, "gone", at, at.Add(time.Minute))
	must(t, err)
	_, err = db.Keeper().Delete(ctx, "gone", gone.Fence, keeper.Event{At: at, Type: keeper.EventDeleted, Connection: "gone"})
	must(t, err)
	leased, _, err := db.Keeper().Lease(ctx, "bob", at, at.Add(time.Minute))
	must(t, err)
	intent := keeper.Intent{RequestID: "r1", Kind: provider.Refresh, Generation: leased.Generation, SentAt: at, Deadline: at.Add(time.Second)}
	_, err = db.Keeper().Begin(ctx, "bob", leased.Fence, intent, at.Add(time.Minute))
	must(t, err)
	_, err = db.Keeper().Answer(ctx, "bob", "r1", secret.Sealed{KeyID: 2, Data: []byte{5, 0, 5}})
	must(t, err)
	_, err = db.Keeper().Once(ctx, "name", at, at.Add(time.Hour))
	must(t, err)
	must(t, db.Record(ctx, issuer.Event{At: at, Type: "odd", Subject: "a\x00b", Detail: "c\xffd"}))
	_, err = db.Plan(ctx, 0, 3, []hook.Delivery{
		{Hook: "h", Event: 1, Type: "t", Body: []byte(`{"a":1}`), CreatedAt: at, NextAt: at}, {Hook: "h", Event: 2, Type: "t", Body: []byte(`{}`), CreatedAt: at, Error: "no\x00"},
	})
	must(t, err)
	return path
}

// export reads a SQLite database out until the test ends.
func export(t *testing.T, path string) *sqlite.Export {
	t.Helper()
	from, err := sqlite.OpenExport(t.Context(), path)
	must(t, err)
	t.Cleanup(func() { must(t, from.Close()) })
	return from
}

func noProgress(string, int64, int64) {}

// TestLoad copies every table, and reads the copy as SQLite's stores read the
// source.
func TestLoad(t *testing.T) {
	path := filled(t)
	from := export(t, path)
	url := pgtest.Database(t)
	to := opened(t, url)
	var told []string
	loaded, err := to.Load(t.Context(), from, func(table string, done, of int64) {
		told = append(told, fmt.Sprintf("%s %d/%d", table, done, of))
	})
	must(t, err)
	want := map[string]int64{"keys": 2, "clients": 1, "users": 1, "habits": 2, "grants": 1200, "revoked_access_tokens": 1, "connections": 2, "journal": 2, "once": 1, "planned": 1, "deliveries": 2, "events": 1208}
	for table, rows := range want {
		if loaded.Rows[table] != rows {
			t.Errorf("%d rows of %s, want %d", loaded.Rows[table], table, rows)
		}
	}
	if len(loaded.Rows) != len(want) || len(Tables()) != len(want) || loaded.Mended != 5 {
		t.Errorf("loaded %+v", loaded)
	}
	if !slices.Contains(told, "grants 0/1200") || !slices.Contains(told, "grants 1000/1200") {
		t.Errorf("progress is %v", told)
	}
	same(t, path, from, to)
	conn := connected(t, url)
	if next := value[int64](t, conn, "SELECT nextval('event_numbers')"); next != 1209 {
		t.Errorf("the next event is %d", next)
	}
	if next := value[int64](t, conn, "SELECT nextval(pg_get_serial_sequence('deliveries', 'id'))"); next != 3 {
		t.Errorf("the next delivery is %d", next)
	}
	if detail := value[string](t, conn, "SELECT subject || detail FROM events WHERE type = 'odd'"); detail != "a\uFFFDbc\uFFFDd" {
		t.Errorf("the odd event is %q", detail)
	}
	if analyzed := value[float32](t, conn, "SELECT reltuples FROM pg_class WHERE relname = 'grants'"); analyzed != 1200 {
		t.Errorf("the planner thinks of %v grants", analyzed)
	}
	if _, err := to.Load(t.Context(), from, noProgress); !errors.Is(err, ErrNotEmpty) || !strings.Contains(err.Error(), "(table keys has rows)") {
		t.Errorf("a second copy: %v", err)
	}
	if n := value[int64](t, conn, "SELECT count(*) FROM grants"); n != 1200 {
		t.Errorf("%d grants after a second copy", n)
	}
}

// same compares what the stores of both read.
func same(t *testing.T, path string, from *sqlite.Export, to *DB) {
	t.Helper()
	ctx := t.Context()
	was, err := sqlite.Open(ctx, path, sqlite.Options{})
	must(t, err)
	defer was.Close()
	equal := func(what string, a, b any, errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%s: %v\nwas %+v\nis  %+v", what, err, a, b)
		}
	}
	oldKeys, err := was.Keys(ctx)
	newKeys, err2 := to.Keys(ctx)
	equal("keys", oldKeys, newKeys, err, err2)
	oldGrants, err := was.Grants(ctx, issuer.GrantFilter{Limit: 1000})
	newGrants, err2 := to.Grants(ctx, issuer.GrantFilter{Limit: 1000})
	equal("grants", oldGrants, newGrants, err, err2)
	oldClients, err := was.Clients(ctx, "", 0)
	newClients, err2 := to.Clients(ctx, "", 0)
	equal("clients", oldClients, newClients, err, err2)
	oldUses, err := was.Uses(ctx, issuer.UseFilter{})
	newUses, err2 := to.Uses(ctx, issuer.UseFilter{})
	equal("uses", oldUses, newUses, err, err2)
	for _, id := range []string{"ann", "bob"} {
		old, err := from.Connection(id)
		copied, err2 := to.Keeper().Connection(ctx, id)
		if old.Error != "it said \xff" || copied.Error != "it said \uFFFD" {
			t.Errorf("errors %q, %q", old.Error, copied.Error)
		}
		old.Error, copied.Error = "", ""
		equal(id, old, copied, err, err2)
	}
	oldFeed, err := was.Feed(ctx, 1190, 10)
	newFeed, err2 := to.Feed(ctx, 1190, 10)
	equal("feed", oldFeed, newFeed, err, err2)
	oldPlan, _, err := was.Planned(ctx)
	newPlan, _, err2 := to.Planned(ctx)
	equal("planned", oldPlan, newPlan, err, err2)
	oldDeliveries, err := was.Deliveries(ctx, 2, 0)
	newDeliveries, err2 := to.Deliveries(ctx, 2, 0)
	equal("deliveries", oldDeliveries, newDeliveries, err, err2)
}

// TestLoadEmpty copies a database in which nothing is, and uses the copy.
func TestLoadEmpty(t *testing.T) {
	path := filepath.Join(t.TempDir(), "evergrant.db")
	db, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	must(t, err)
	must(t, db.Close())
	to := opened(t, pgtest.Database(t))
	if loaded, err := to.Load(t.Context(), export(t, path), noProgress); err != nil || loaded.Rows["grants"] != 0 {
		t.Errorf("loaded %+v, %v", loaded, err)
	}
	must(t, to.Record(t.Context(), issuer.Event{At: time.UnixMilli(1), Type: "first"}))
	if last, err := to.LastEvent(t.Context()); err != nil || last != 1 {
		t.Errorf("the first event is %d, %v", last, err)
	}
}

// spoiled is a source that is not what it was.
type spoiled struct {
	Source
	table string
	count int64                                                 // rows that it says there are beside those there are
	rows  func(iter.Seq2[[]any, error]) iter.Seq2[[]any, error] // what becomes of the rows; nil for nothing
}

func (s spoiled) Count(table string) (int64, error) {
	n, err := s.Source.Count(table)
	if table == s.table {
		n += s.count
	}
	return n, err
}

func (s spoiled) Rows(table string, columns ...string) iter.Seq2[[]any, error] {
	rows := s.Source.Rows(table, columns...)
	if table == s.table && s.rows != nil {
		return s.rows(rows)
	}
	return rows
}

// changing changes each row.
func changing(change func([]any) ([]any, error)) func(iter.Seq2[[]any, error]) iter.Seq2[[]any, error] {
	return func(rows iter.Seq2[[]any, error]) iter.Seq2[[]any, error] {
		return func(yield func([]any, error) bool) {
			for row := range rows {
				if !yield(change(row)) {
					return
				}
			}
		}
	}
}

// TestLoadFails breaks copies off in the last table but one, and finds nothing
// of them.
func TestLoadFails(t *testing.T) {
	broken := errors.New("the disk is gone")
	path := filled(t)
	ctx, cancel := context.WithCancel(t.Context())
	for _, test := range []struct {
		name   string
		ctx    context.Context
		source spoiled
		want   string
	}{
		{"the source breaks", t.Context(), spoiled{table: "deliveries", rows: changing(func([]any) ([]any, error) { return nil, broken })}, "table deliveries: the disk is gone"},
		{"rows are missing", t.Context(), spoiled{table: "deliveries", count: 1}, "table deliveries: 3 rows were to be copied, and 2 were"},
		{"rows twice", t.Context(), spoiled{table: "deliveries", rows: changing(func(row []any) ([]any, error) { row[0] = int64(1); return row, nil })}, "duplicate key"},
		{"no id", t.Context(), spoiled{table: "grants", rows: changing(func(row []any) ([]any, error) { row[0] = []byte{1}; return row, nil })}, "table grants: column id has 1 bytes where 16 are an id"},
		{"texts", t.Context(), spoiled{table: "connections", rows: changing(func(row []any) ([]any, error) { row[3] = "a\x00"; return row, nil })},
			`2 rows have a NUL in a text, or what is not UTF-8, and PostgreSQL holds neither: connections "ann" (owner), connections "bob" (owner)`},
		{"texts of grants", t.Context(), spoiled{table: "grants", rows: changing(func(row []any) ([]any, error) { row[2] = "\xff"; return row, nil })}, "1200 rows have a NUL in a text"},
		{"interrupted", ctx, spoiled{table: "deliveries", rows: changing(func(row []any) ([]any, error) { cancel(); return row, nil })}, context.Canceled.Error()},
	} {
		t.Run(test.name, func(t *testing.T) {
			url := pgtest.Database(t)
			to := opened(t, url)
			test.source.Source = export(t, path)
			loaded, err := to.Load(test.ctx, test.source, noProgress)
			if err == nil || !strings.Contains(err.Error(), test.want) || loaded.Rows != nil {
				t.Errorf("error %v, want %q; loaded %+v", err, test.want, loaded)
			}
			if len(err.Error()) > 2000 {
				t.Errorf("the error has %d characters", len(err.Error()))
			}
			conn := connected(t, url)
			for _, table := range Tables() {
				if n := value[int64](t, conn, "SELECT count(*) FROM "+table); n != 0 {
					t.Errorf("%d rows of %s are there", n, table)
				}
			}
			loaded, err = to.Load(t.Context(), test.source.Source, noProgress) // the next attempt
			if err != nil || loaded.Rows["grants"] != 1200 {
				t.Errorf("the next attempt: %+v, %v", loaded, err)
			}
		})
	}
}

// TestLoadWithoutServer has a server that goes away.
func TestLoadWithoutServer(t *testing.T) {
	server := pgtest.Start(t)
	server.Create(t, "d")
	to := opened(t, server.URL("d"))
	source := spoiled{Source: export(t, filled(t)), table: "deliveries", rows: changing(func(row []any) ([]any, error) {
		server.Kill(t)
		return row, nil
	})}
	source.rows = func(rows iter.Seq2[[]any, error]) iter.Seq2[[]any, error] {
		server.Kill(t)
		return rows
	}
	if _, err := to.Load(t.Context(), source, noProgress); !errors.Is(err, issuer.ErrUnavailable) {
		t.Errorf("while it goes: %v", err)
	}
	if _, err := to.Load(t.Context(), source.Source, noProgress); !errors.Is(err, issuer.ErrUnavailable) {
		t.Errorf("when it is gone: %v", err)
	}
	server.Restart(t)
	if loaded, err := to.Load(t.Context(), source.Source, noProgress); err != nil || loaded.Rows["grants"] != 1200 {
		t.Errorf("when it is back: %+v, %v", loaded, err)
	}
}

// TestLoadThroughPooler copies where each transaction may have another session.
func TestLoadThroughPooler(t *testing.T) {
	server := pgtest.Start(t)
	server.Create(t, "d")
	to := opened(t, server.Pooler(t).URL("d"))
	if loaded, err := to.Load(t.Context(), export(t, filled(t)), noProgress); err != nil || loaded.Rows["events"] != 1208 {
		t.Errorf("loaded %+v, %v", loaded, err)
	}
}
