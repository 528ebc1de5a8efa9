package postgres

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/store/storetest"
)

// aBatch is a part of an import.
func aBatch(t *testing.T, each int) issuer.Batch {
	t.Helper()
	batches := slices.Collect(storetest.Batches(each, each, each, each))
	if len(batches) != 1 {
		t.Fatalf("%d batches", len(batches))
	}
	return batches[0]
}

// counts are the rows of the tables that an import writes.
func counts(t *testing.T, s session) (counts [4]int) {
	t.Helper()
	for i, table := range []string{"clients", "users", "grants", "events"} {
		counts[i] = value[int](t, s, "SELECT count(*) FROM "+table)
	}
	return counts
}

// TestImportIsWhole refuses a row of each table in the middle of a batch: nothing
// of it is left.
func TestImportIsWhole(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db, conn := opened(t, url), connected(t, url)
	b := aBatch(t, 10)
	execute(t, conn, `CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN RAISE EXCEPTION 'a bad row' USING ERRCODE = '22003'; END $$`)
	for table, condition := range map[string]string{
		"clients": "NEW.id = 'client5'", "users": "NEW.username = 'user5'",
		"grants": fmt.Sprintf("NEW.id = '%s'", b.Grants[5].ID), "events": "NEW.type = '" + issuer.EventImported + "'",
	} {
		execute(t, conn, "CREATE TRIGGER fail BEFORE INSERT ON "+table+" FOR EACH ROW WHEN ("+condition+") EXECUTE FUNCTION fail()")
		if done, err := db.Import(t.Context(), b); sqlState(err) != "22003" || done.Clients.Created+done.Grants.Created > 0 {
			t.Errorf("%s: %+v, %v", table, done, err)
		}
		if got := counts(t, conn); got != [4]int{} {
			t.Errorf("%s: rows %v", table, got)
		}
		execute(t, conn, "DROP TRIGGER fail ON "+table)
	}
	if done, err := db.Import(t.Context(), b); err != nil || done.Clients.Created != 10 || done.Users.Created != 10 || done.Grants.Created != 10 {
		t.Errorf("%+v, %v", done, err)
	}
	if got := counts(t, conn); got != [4]int{10, 10, 10, 1} {
		t.Errorf("rows %v", got)
	}
}

// TestImportMeetsAChange lets an import decide on a client, a user or a grant that
// somebody else writes meanwhile: it begins anew, and sees what they did.
func TestImportMeetsAChange(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db, conn, other := opened(t, url), connected(t, url), connected(t, url)
	first := aBatch(t, 3)
	if _, err := db.Import(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, sql string
		args      []any
		change    func(*issuer.Batch)
		want      issuer.Imported
	}{
		{"a client that is changed here", "UPDATE clients SET doc = '{}' WHERE id = 'client1'", nil,
			func(b *issuer.Batch) { b.Clients[1].Imported.Digest = "d2" },
			issuer.Imported{Clients: issuer.ImportCount{Unchanged: 2, Kept: []string{"client1"}}, Users: issuer.ImportCount{Unchanged: 3}}},
		{"a user that is created here", "INSERT INTO users VALUES ('new', '{}')", nil,
			func(b *issuer.Batch) { b.Users[1].Username = "new" },
			issuer.Imported{Clients: issuer.ImportCount{Unchanged: 2, Kept: []string{"client1"}}, Users: issuer.ImportCount{Unchanged: 2, Kept: []string{"new"}}}},
		{"a user that is deleted here, and is stored all the same", "DELETE FROM users WHERE username = 'user2'", nil,
			func(b *issuer.Batch) { b.Users[2].Imported.Digest = "d2" },
			issuer.Imported{Clients: issuer.ImportCount{Unchanged: 2, Kept: []string{"client1"}}, Users: issuer.ImportCount{Updated: 1, Unchanged: 2}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := aBatch(t, 3)
			b.Grants = nil
			c.change(&b)
			tx, err := conn.Begin(t.Context())
			must(t, err)
			defer tx.Rollback(t.Context())
			execute(t, tx, c.sql, c.args...)
			type outcome struct {
				done issuer.Imported
				err  error
			}
			ended := make(chan outcome, 1)
			go func() {
				done, err := db.Import(t.Context(), b)
				ended <- outcome{done, err}
			}()
			eventually(t, "the import waits", func() bool {
				return value[int](t, other, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") > 0
			})
			must(t, tx.Commit(t.Context()))
			got := <-ended
			if got.err != nil || fmt.Sprint(got.done) != fmt.Sprint(c.want) {
				t.Errorf("%+v, %v, want %+v", got.done, got.err, c.want)
			}
			b.DryRun = true
			if left, err := db.Import(t.Context(), b); err != nil || left.Clients.Updated+left.Users.Created+left.Users.Updated > 0 {
				t.Errorf("left to do: %+v, %v", left, err)
			}
		})
	}
}

// TestImportGivesUp meets a change at each attempt.
func TestImportGivesUp(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db, conn := opened(t, url), connected(t, url)
	execute(t, conn, `CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN RAISE EXCEPTION 'somebody else' USING ERRCODE = '40001'; END $$;
		CREATE TRIGGER fail BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION fail()`)
	if done, err := db.Import(t.Context(), aBatch(t, 3)); !errors.Is(err, issuer.ErrUnavailable) || strings.Contains(err.Error(), "not known") {
		t.Errorf("%+v, %v", done, err)
	}
	if got := counts(t, conn); got != [4]int{} {
		t.Errorf("rows %v", got)
	}
}

// TestImportAgainWritesNothing asks the server for what was written.
func TestImportAgainWritesNothing(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db, conn := opened(t, url), connected(t, url)
	b := aBatch(t, 50)
	_, err := db.Import(t.Context(), b)
	must(t, err)
	const versions = `SELECT count(DISTINCT (xmin::text, ctid)) FROM (SELECT xmin, ctid FROM clients UNION ALL SELECT xmin, ctid FROM users
		UNION ALL SELECT xmin, ctid FROM grants) AS rows`
	newest := value[string](t, conn, "SELECT max(xmin::text) FROM clients")
	before := value[int](t, conn, versions)
	for _, b.DryRun = range []bool{false, true} {
		done, err := db.Import(t.Context(), b)
		if err != nil || done.Clients.Unchanged != 50 || done.Users.Unchanged != 50 || done.Grants.Unchanged != 50 {
			t.Errorf("%+v, %v", done, err)
		}
	}
	if after := value[int](t, conn, versions); after != before || value[string](t, conn, "SELECT max(xmin::text) FROM clients") != newest {
		t.Errorf("%d row versions, %d before", after, before)
	}
	if got := counts(t, conn); got != [4]int{50, 50, 50, 1} {
		t.Errorf("rows %v", got)
	}
}
