package sqlite

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/secret"
	driver "zombiezen.com/go/sqlite"
)

// openExport reads a file out until the test ends.
func openExport(t *testing.T, path string) *Export {
	t.Helper()
	e, err := OpenExport(t.Context(), path)
	check(t, err)
	t.Cleanup(func() { check(t, e.Close()) })
	return e
}

// rowsOf are the rows of a table.
func rowsOf(t *testing.T, e *Export, table string, columns ...string) (rows [][]any) {
	t.Helper()
	for row, err := range e.Rows(table, columns...) {
		check(t, err)
		rows = append(rows, row)
	}
	return rows
}

// TestExport reads each kind of value out, and rows as the stores read them.
func TestExport(t *testing.T) {
	path := tempPath(t)
	db := open(t, path, Options{})
	at := time.UnixMilli(1_800_000_000_000).UTC()
	g := create1(t, db)
	check(t, db.AddKey(t.Context(), secret.KeyRecord{ID: 1, Root: "fingerprint", CreatedAt: at, ActiveFrom: at, SealedRSA: []byte{0, 1}}))
	check(t, db.AddKey(t.Context(), secret.KeyRecord{ID: 2, Root: "fingerprint", CreatedAt: at, ActiveFrom: at}))
	create2(t, db, "gone")
	leased, _, err := db.Keeper().Lease(t.Context(), "gone", at, at.Add(time.Minute))
	check(t, err)
	_, err = db.Keeper().Delete(t.Context(), "gone", leased.Fence, keeper.Event{At: at, Type: keeper.EventDeleted, Connection: "gone"})
	check(t, err)
	create2(t, db, "ann") // whose number is not 1 where numbers are not given again
	check(t, db.PutClient(t.Context(), issuer.Client{ID: "shop"}, issuer.Event{At: at, Type: issuer.EventClientSaved}))
	check(t, db.CountUses(t.Context(), []issuer.Use{{ClientID: "shop", Habit: issuer.HabitRetry, Count: 3, First: at, Last: at}}))
	check(t, db.Record(t.Context(), issuer.Event{At: at, Type: "odd", Detail: "a\x00b\xff"}))
	_, err = db.Plan(t.Context(), 0, 2, []hook.Delivery{{Hook: "h", Event: 1, Type: "t", Body: []byte("{}"), CreatedAt: at, NextAt: at}})
	check(t, err)
	check(t, db.Close())

	before, err := os.ReadFile(path)
	check(t, err)
	e := openExport(t, path)
	if got := rowsOf(t, e, "grants", "id", "client_id", "generation"); !reflect.DeepEqual(got, [][]any{{g.ID[:], g.ClientID, int64(g.Generation)}}) {
		t.Errorf("grants are %v", got)
	}
	if got := rowsOf(t, e, "keys", "id", "sealed_rsa"); !reflect.DeepEqual(got, [][]any{{int64(1), []byte{0, 1}}, {int64(2), nil}}) {
		t.Errorf("keys are %v", got)
	}
	if got := rowsOf(t, e, "journal", "connection", "fence", "answer"); len(got) != 1 || got[0][0] != "ann" || got[0][1].(int64) == 0 || got[0][2] != nil {
		t.Errorf("the journal is %v", got)
	}
	if got := rowsOf(t, e, "habits", "client_id", "habit", "count", "last_at"); !reflect.DeepEqual(got, [][]any{{"shop", string(issuer.HabitRetry), int64(3), at.UnixMilli()}}) {
		t.Errorf("habits are %v", got)
	}
	if got := rowsOf(t, e, "events", "detail"); !slices.ContainsFunc(got, func(row []any) bool { return row[0] == "a\x00b\xff" }) {
		t.Errorf("events are %q", got)
	}
	for table, want := range map[string]int64{"grants": 1, "keys": 2, "connections": 1, "journal": 1, "events": 6, "deliveries": 1, "planned": 1, "clients": 1, "habits": 1, "users": 0} {
		if n, err := e.Count(table); err != nil || n != want {
			t.Errorf("%s has %d rows, %v, want %d", table, n, err, want)
		}
	}
	for table, want := range map[string]int64{"events": 6, "deliveries": 1, "grants": 0} {
		if n, err := e.Last(table); err != nil || n != want {
			t.Errorf("the last id of %s is %d, %v, want %d", table, n, err, want)
		}
	}
	if got, err := e.Grant(g.ID); err != nil || got.ID != g.ID || got.ClientID != g.ClientID {
		t.Errorf("grant %+v, %v", got, err)
	}
	if _, err := e.Grant(issuer.NewGrantID()); !errors.Is(err, issuer.ErrNotFound) {
		t.Errorf("no grant: %v", err)
	}
	if got, err := e.Connection("ann"); err != nil || got.ID != "ann" {
		t.Errorf("connection %+v, %v", got, err)
	}
	if _, err := e.Connection("gone"); !errors.Is(err, keeper.ErrNotFound) {
		t.Errorf("no connection: %v", err)
	}
	if keys, err := e.Keys(); err != nil || len(keys) != 2 {
		t.Errorf("keys %v, %v", keys, err)
	}
	if after, err := os.ReadFile(path); err != nil || !reflect.DeepEqual(before, after) {
		t.Errorf("the file was changed: %v", err)
	}
}

// TestExportBreaksOff leaves a sequence early, and reads what is not there.
func TestExportBreaksOff(t *testing.T) {
	path := tempPath(t)
	db := open(t, path, Options{})
	createMany(t, db, 5)
	check(t, db.Close())
	e := openExport(t, path)
	for range 2 { // the statement can be used again
		n := 0
		for range e.Rows("grants", "id") {
			if n++; n == 2 {
				break
			}
		}
	}
	if n := len(rowsOf(t, e, "grants", "id")); n != 5 {
		t.Errorf("%d grants", n)
	}
	for _, names := range [][]string{{"grants", "none"}, {"none", "id"}, {`gr"ants`, "id"}} {
		n := 0
		for row, err := range e.Rows(names[0], names[1]) {
			if n++; row != nil || err == nil {
				t.Errorf("%v gives %v, %v", names, row, err)
			}
		}
		if n != 1 {
			t.Errorf("%v gives %d rows", names, n)
		}
	}
	if _, err := e.Count("none"); err == nil {
		t.Error("a table that is not there is counted")
	}
}

// TestExportIsOneMoment reads a file to which somebody writes meanwhile.
func TestExportIsOneMoment(t *testing.T) {
	path := tempPath(t)
	db := open(t, path, Options{})
	createMany(t, db, 3)
	e := openExport(t, path)
	if n, err := e.Count("grants"); err != nil || n != 3 {
		t.Fatalf("%d grants, %v", n, err)
	}
	createMany(t, db, 2)
	if n := len(rowsOf(t, e, "grants", "id")); n != 3 {
		t.Errorf("%d grants, 3 were there at first", n)
	}
}

func TestExportIsInterrupted(t *testing.T) {
	path := tempPath(t)
	db := open(t, path, Options{})
	createMany(t, db, 3)
	ctx, cancel := context.WithCancel(t.Context())
	e, err := OpenExport(ctx, path)
	check(t, err)
	cancel()
	failed := false
	for _, err := range e.Rows("grants", "id") {
		failed = driver.ErrCode(err).ToPrimary() == driver.ResultInterrupt
	}
	if !failed {
		t.Error("reading went on")
	}
	check(t, e.Close())
}

func TestExportRefuses(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other.db")
	execute(t, other, "CREATE TABLE other (id INTEGER)")
	newer := tempPath(t)
	check(t, open(t, newer, Options{}).Close())
	execute(t, newer, "PRAGMA user_version = 1000")
	for _, test := range []struct {
		name, path string
		want       error
	}{
		{"none", tempPath(t), os.ErrNotExist},
		{"another program's", other, ErrNotOurs},
		{"newer", newer, ErrNewer},
		{"older", schema1Database(t), ErrOlder},
		{"of the release before", schema2Database(t), ErrOlder},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := OpenExport(t.Context(), test.path); !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	current := tempPath(t)
	check(t, open(t, current, Options{}).Close())
	empty := filepath.Join(t.TempDir(), "empty.db")
	check(t, os.WriteFile(empty, nil, 0o600))
	known := len(migrations())
	for _, test := range []struct {
		name, path string
		want       int
	}{{"none", tempPath(t), 0}, {"empty", empty, 0}, {"older", schema1Database(t), 1}, {"of the release before", schema2Database(t), 2}, {"current", current, known}} {
		if version, latest, err := Version(test.path); err != nil || version != test.want || latest != known {
			t.Errorf("%s: layout %d of %d, %v; want %d of %d", test.name, version, latest, err, test.want, known)
		}
	}
	text := filepath.Join(t.TempDir(), "text")
	check(t, os.WriteFile(text, []byte("this is no database, and long enough to be looked at as if it was one: "+string(make([]byte, 1000))), 0o600))
	if _, _, err := Version(text); !errors.Is(err, ErrNotOurs) {
		t.Errorf("no database: %v", err)
	}
}
