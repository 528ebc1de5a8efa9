package sqlite

import (
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/store/column"
	driver "zombiezen.com/go/sqlite"
)

// schema1Database makes a file as the release wrote it that knew schema1 alone,
// with rows in every table.
func schema1Database(t *testing.T) string {
	t.Helper()
	path := tempPath(t)
	conn, err := driver.OpenConn(path, driver.OpenReadWrite, driver.OpenCreate)
	check(t, err)
	check(t, useLog(conn))
	check(t, conn.Close())
	script := schema1 + fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = 1;\n", applicationID)
	for i := range 300 {
		script += fmt.Sprintf(`INSERT INTO grants VALUES (unhex('%032x'), 'shop', 'alice', 'read write', 3, 7, %d, %d, %d, 0, %d, 0, '', 2, 500000);
			INSERT INTO events (at, type, grant_id, client_id, subject, actor, address, cause, detail)
				VALUES (%d, 'grant.created', unhex('%032x'), 'shop', 'alice', 'client:shop', '192.0.2.7', 'client_request', 'detail %d');
			`, i+1, int64(1e12), int64(2e12), int64(4e12), int64(3e12), int64(1e12)+int64(i), i+1, i)
	}
	script += `DELETE FROM events WHERE id = 300;
		INSERT INTO events (at, type, client_id, subject, actor, address, cause, detail) VALUES (1000000000300, 'client.saved', 'shop', '', 'operator', '', '', '');
		INSERT INTO clients VALUES ('shop', '{"id": "shop", "name": "Shop"}');
		INSERT INTO users VALUES ('alice', '{"username": "alice"}');
		INSERT INTO revoked_access_tokens VALUES ('jti', 4000000000000);
		INSERT INTO keys VALUES (1, 'fingerprint', 1000000000000, 1000000000000, NULL);`
	execute(t, path, script)
	return path
}

// schema2Database is the same of the release that knew schema2, too.
func schema2Database(t *testing.T) string {
	t.Helper()
	path := schema1Database(t)
	execute(t, path, schema2+"PRAGMA user_version = 2;")
	return path
}

// TestMigrationKeepsEverything opens databases that earlier releases wrote.
func TestMigrationKeepsEverything(t *testing.T) {
	t.Run("version 1", func(t *testing.T) { migrationKeepsEverything(t, schema1Database(t)) })
	t.Run("version 2", func(t *testing.T) { migrationKeepsEverything(t, schema2Database(t)) })
}

func migrationKeepsEverything(t *testing.T, path string) {
	before, err := KeysIn(path)
	check(t, err)
	for range 2 {
		db := open(t, path, Options{})
		check(t, db.Check(t.Context()))
		inWriter(t, db, func(conn *driver.Conn) error {
			version, err := schemaVersion(conn)
			if version != 3 {
				t.Errorf("version %d", version)
			}
			return err
		})
		keptAll(t, db)
		keys, err := db.Keys(t.Context())
		check(t, err)
		if !reflect.DeepEqual(keys, before) || len(keys) != 1 {
			t.Errorf("keys %+v, before %+v", keys, before)
		}
		check(t, db.Close())
	}
	db := open(t, path, Options{})
	id := issuer.GrantID{15: 9}
	g, err := db.Grant(t.Context(), id)
	check(t, err)
	goodStep(t, db, g)
	create2(t, db, "new")
	use := issuer.Use{ClientID: "shop", Habit: issuer.HabitPassword, Count: 1, First: column.Time(1e12), Last: column.Time(1e12)}
	check(t, db.CountUses(t.Context(), []issuer.Use{use}))
	if uses, err := db.Uses(t.Context(), issuer.UseFilter{}); err != nil || !slices.Equal(uses, []issuer.Use{use}) {
		t.Errorf("uses %+v, %v", uses, err)
	}
	feed, err := db.Feed(t.Context(), 299, 10)
	check(t, err)
	if len(feed) != 2 || feed[0].ID != 301 || feed[1].ID != 302 || feed[1].Type != keeper.EventCreated {
		t.Errorf("feed is %+v", feed)
	}
	events, err := db.Keeper().Events(t.Context(), keeper.EventFilter{})
	if err != nil || len(events) != 1 {
		t.Errorf("events %+v, %v", events, err)
	}
	purged, err := db.Purge(t.Context(), time.UnixMilli(1), time.UnixMilli(1e12+100))
	if err != nil || purged != (issuer.Purged{Events: 100}) {
		t.Errorf("%+v, %v", purged, err)
	}
}

// keptAll wants the rows of schema1Database, and no others.
func keptAll(t *testing.T, db *DB) {
	t.Helper()
	stats, err := db.Stats(t.Context())
	check(t, err)
	for table, want := range map[string]int64{
		"grants": 300, "events": 300, "clients": 1, "users": 1, "revoked_access_tokens": 1, "keys": 1,
		"habits": 0, "connections": 0, "journal": 0, "once": 0, "planned": 0, "deliveries": 0,
	} {
		if stats.Rows[table] != want {
			t.Errorf("%s has %d rows, want %d", table, stats.Rows[table], want)
		}
	}
	g, err := db.Grant(t.Context(), issuer.GrantID{15: 9})
	check(t, err)
	want := issuer.Grant{
		ID: issuer.GrantID{15: 9}, ClientID: "shop", Subject: "alice", Scope: []string{"read", "write"}, Generation: 3, KeyID: 7, Retries: 2,
		CreatedAt: column.Time(1e12), RotatedAt: column.Time(2e12), ExpiresAt: column.Time(4e12), AccessExpiresAt: column.Time(3e12),
	}
	if !reflect.DeepEqual(g, want) {
		t.Errorf("got %+v, want %+v", g, want)
	}
	events, err := db.Events(t.Context(), issuer.EventFilter{Limit: 1000})
	check(t, err)
	ids := make([]int64, 0, len(events))
	for _, e := range events {
		ids = append(ids, e.ID)
	}
	if len(ids) != 300 || ids[0] != 301 || ids[1] != 299 || !slices.IsSortedFunc(ids, func(a, b int64) int { return int(b - a) }) {
		t.Errorf("ids %v", ids)
	}
	wantEvent := issuer.Event{
		ID: 9, At: column.Time(1e12 + 8), Type: "grant.created", Grant: issuer.GrantID{15: 9}, ClientID: "shop", Subject: "alice",
		Actor: "client:shop", Address: "192.0.2.7", Cause: "client_request", Detail: "detail 8",
	}
	if got := events[291]; got != wantEvent {
		t.Errorf("got %+v, want %+v", got, wantEvent)
	}
	if revoked, err := db.AccessTokenRevoked(t.Context(), "jti"); err != nil || !revoked {
		t.Errorf("%v, %v", revoked, err)
	}
	client, err := db.Client(t.Context(), "shop")
	if err != nil || client.Name != "Shop" {
		t.Errorf("%+v, %v", client, err)
	}
}

// TestMigratedIsAsNew finds the same layout in a file that was migrated as in a
// new one.
func TestMigratedIsAsNew(t *testing.T) {
	layout := func(db *DB) (rows []string) {
		check(t, db.readers.do(t.Context(), func(conn *driver.Conn) (err error) {
			rows, err = texts(conn, "SELECT type || ' ' || name || ' ' || ifnull(sql, '') FROM sqlite_schema ORDER BY 1")
			return err
		}))
		return rows
	}
	want := layout(open(t, tempPath(t), Options{}))
	for _, path := range []string{schema1Database(t), schema2Database(t)} {
		if got := layout(open(t, path, Options{})); !slices.Equal(got, want) {
			t.Errorf("got\n%v, want\n%v", got, want)
		}
	}
}

// TestMigrateTogether migrates one file in eight processes that start at once.
func TestMigrateTogether(t *testing.T) {
	path := schema1Database(t)
	var opening sync.WaitGroup
	for range 8 {
		opening.Go(func() {
			db, err := Open(t.Context(), path, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			defer db.Close()
			if err := db.Ready(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	opening.Wait()
	keptAll(t, open(t, path, Options{}))
}

// TestMigrationThatFails leaves the file as the earlier release wrote it.
func TestMigrationThatFails(t *testing.T) {
	path := schema1Database(t)
	execute(t, path, "CREATE TABLE deliveries (x)")
	if db, err := Open(t.Context(), path, Options{}); err == nil {
		db.Close()
		t.Fatal("it was opened")
	}
	execute(t, path, "DROP TABLE deliveries")
	conn, err := driver.OpenConn(path, driver.OpenReadOnly)
	check(t, err)
	version, err := number(conn, "PRAGMA user_version")
	check(t, err)
	tables, err := number(conn, "SELECT count(*) FROM sqlite_schema WHERE name = 'connections'")
	check(t, err)
	check(t, conn.Close())
	if version != 1 || tables != 0 {
		t.Errorf("version %d, %d tables of the next one", version, tables)
	}
	keptAll(t, open(t, path, Options{}))
}
