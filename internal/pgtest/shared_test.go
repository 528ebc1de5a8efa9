package pgtest

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func databases(t testing.TB) string {
	t.Helper()
	return shared.server.Exec(t, "", "SELECT string_agg(datname, ' ') FROM pg_database")
}

// nameOf is the database of a connection string.
func nameOf(url string) string {
	_, name, _ := strings.Cut(strings.TrimPrefix(url, "postgres://"), "/")
	name, _, _ = strings.Cut(name, "?")
	return name
}

// TestDatabase holds that each database is empty and by itself, and that it goes
// with its test, connected or not, after what the test has opened on it.
func TestDatabase(t *testing.T) {
	var first, second string
	t.Run("test", func(t *testing.T) {
		first = Database(t)
		t.Cleanup(func() { // as the harnesses do
			if got := sql(t, first, "SELECT n FROM t") + sql(t, second, "SELECT count(*) FROM pg_class WHERE relname = 't'"); got != "10" {
				t.Errorf("at the end of the test %q", got)
			}
		})
		second = Database(t)
		sql(t, first, "CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
		forgotten := connect(t, first)
		forgotten.ask("SELECT 1")
		forgotten.answer()
	})
	if left := databases(t); strings.Contains(left, nameOf(first)) || strings.Contains(left, nameOf(second)) {
		t.Errorf("databases %s are left", left)
	}
}

// TestPrepared holds that what is used again is as it was when it was prepared,
// and that who used it before does not find it any more.
func TestPrepared(t *testing.T) {
	prepared := 0
	prepare := func(url string) error {
		prepared++
		_, err := trySQL(url, `CREATE TABLE kept (n int); CREATE TABLE t (n bigserial, m int); CREATE TABLE "select" (n int);
			INSERT INTO kept VALUES (7); CREATE SEQUENCE begun MINVALUE 0 START 0; SELECT nextval('begun')`)
		return err
	}
	seen := map[string]bool{}
	for i := range 3 {
		var url string
		t.Run("test", func(t *testing.T) {
			url = Prepared(t, prepare)
			got := sql(t, url, `INSERT INTO t (m) VALUES (1) RETURNING n; SELECT n FROM kept; SELECT count(*) FROM "select"; SELECT nextval('begun'), current_setting('work_mem')`)
			if got != "1\n7\n0\n1|4MB" {
				t.Errorf("at first it has %q", got)
			}
			sql(t, url, `INSERT INTO t (m) SELECT generate_series(1, 100); INSERT INTO "select" VALUES (1); ALTER DATABASE `+nameOf(url)+` SET work_mem = '5MB'`)
			if i == 1 {
				forgotten := connect(t, url)
				forgotten.ask("BEGIN; LOCK TABLE t; SELECT 1")
				forgotten.answer()
			}
		})
		if _, err := trySQL(url, "SELECT 1"); err == nil || seen[url] {
			t.Errorf("%s is there after its test", url)
		}
		seen[url] = true
	}
	t.Run("broken", func(t *testing.T) { sql(t, Prepared(t, prepare), "DROP TABLE t") })
	t.Run("after it", func(t *testing.T) { sql(t, Prepared(t, prepare), "INSERT INTO t (m) VALUES (1)") })
	if prepared != 2 {
		t.Errorf("prepared %d times, want once, and once for the broken one", prepared)
	}
}

// TestDatabasesAtOnce holds that goroutines get one each.
func TestDatabasesAtOnce(t *testing.T) {
	var all sync.Map
	var done sync.WaitGroup
	for range 8 {
		done.Go(func() { all.Store(Database(t), true) })
	}
	done.Wait()
	n := 0
	all.Range(func(url, _ any) bool {
		n++
		sql(t, url.(string), "CREATE TABLE t (n int)")
		return true
	})
	if n != 8 {
		t.Errorf("%d databases", n)
	}
}

// TestBubble holds that a database can be had in a bubble, even the first one:
// the server does not belong to it, and its clock stands still meanwhile.
func TestBubble(t *testing.T) {
	shared.mu.Lock()
	before := shared.server
	shared.server = nil
	shared.mu.Unlock()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		url := Database(t)
		if waited := time.Since(began); waited > 0 {
			t.Errorf("the bubble's clock went on by %v", waited)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		sql(t, url, "CREATE TABLE t (n int)")
	})
	if !shared.server.process.running() {
		t.Error("the server ended with the bubble")
	}
	if before != nil {
		if err := before.remove(); err != nil {
			t.Error(err)
		}
	}
}

// TestDumpAndLoad holds that a copy has everything, and belongs to the same role.
func TestDumpAndLoad(t *testing.T) {
	url := Database(t)
	sql(t, url, "CREATE TABLE t (n bigserial, b bytea); INSERT INTO t (b) SELECT '\\x000aff0a'::bytea FROM generate_series(1, 3)")
	var dump bytes.Buffer
	if err := Dump(url, &dump); err != nil {
		t.Fatal(err)
	}
	sql(t, url, "DELETE FROM t")
	loaded := Load(t, dump.Bytes())
	got := sql(t, loaded, "INSERT INTO t (b) VALUES ('\\x00'); SELECT max(n), count(DISTINCT b) FROM t; ALTER TABLE t ADD m int")
	if got != "4|2" {
		t.Errorf("the copy has %q", got)
	}
	if err := Dump(url+"&dbname=nowhere", &dump); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("error %v", err)
	}
}

// TestFiles holds that what is committed is in the files of its own database.
func TestFiles(t *testing.T) {
	one, two := Database(t), Database(t)
	sql(t, one, "CREATE TABLE t (n text); INSERT INTO t VALUES ('needle-of-one')")
	for url, want := range map[string]bool{one: true, two: false} {
		found := false
		for _, path := range Files(t, url) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			found = found || bytes.Contains(text, []byte("needle-of-one"))
		}
		if found != want {
			t.Errorf("found is %t, want %t", found, want)
		}
	}
}
