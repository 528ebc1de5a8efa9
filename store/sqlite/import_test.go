package sqlite

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/store/storetest"
	driver "zombiezen.com/go/sqlite"
)

// aBatch is a part of an import.
func aBatch(t *testing.T, clients, users, grants int) issuer.Batch {
	t.Helper()
	batches := slices.Collect(storetest.Batches(clients, users, grants, max(clients, users, grants)))
	if len(batches) != 1 {
		t.Fatalf("%d batches", len(batches))
	}
	return batches[0]
}

// TestImportIsWhole refuses a row of each table in the middle of a batch: nothing
// of it is left, and its neighbours are not touched.
func TestImportIsWhole(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	g := create1(t, db)
	b := aBatch(t, 10, 10, 10)
	before, err := db.Stats(t.Context())
	check(t, err)
	for table, condition := range map[string]string{
		"clients": "NEW.id = 'client5'", "users": "NEW.username = 'user5'",
		"grants": fmt.Sprintf("NEW.id = x'%s'", b.Grants[5].ID), "events": "NEW.type = '" + issuer.EventImported + "'",
	} {
		inWriter(t, db, func(conn *driver.Conn) error {
			return run(conn, "CREATE TRIGGER refusal BEFORE INSERT ON "+table+" WHEN "+condition+" BEGIN SELECT RAISE(ABORT, 'refused'); END", nil)
		})
		if done, err := db.Import(t.Context(), b); err == nil || !strings.Contains(err.Error(), "refused") || done.Clients.Created+done.Grants.Created > 0 {
			t.Errorf("%s: %+v, %v", table, done, err)
		}
		g = goodStep(t, db, g)
		if after, err := db.Stats(t.Context()); err != nil || fmt.Sprint(after.Rows) != fmt.Sprint(before.Rows) {
			t.Errorf("%s: rows %v, were %v, %v", table, after.Rows, before.Rows, err)
		}
		inWriter(t, db, func(conn *driver.Conn) error { return run(conn, "DROP TRIGGER refusal", nil) })
	}
	if done, err := db.Import(t.Context(), b); err != nil || done.Clients.Created != 10 || done.Users.Created != 10 || done.Grants.Created != 10 {
		t.Errorf("%+v, %v", done, err)
	}
}

// TestImportAgainWritesNothing looks at the log, in which any change would be.
func TestImportAgainWritesNothing(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	b := aBatch(t, 20, 50, 100)
	_, err := db.Import(t.Context(), b)
	check(t, err)
	pages := func() (pages int64) {
		check(t, db.readers.do(t.Context(), func(conn *driver.Conn) (err error) {
			pages, _, err = checkpoint(conn, "NOOP")
			return err
		}))
		return pages
	}
	before := pages()
	if done, err := db.Import(t.Context(), b); err != nil || storedAny(done) {
		t.Errorf("%+v, %v", done, err)
	}
	b.DryRun = true
	if done, err := db.Import(t.Context(), b); err != nil || storedAny(done) {
		t.Errorf("dry: %+v, %v", done, err)
	}
	if after := pages(); after != before {
		t.Errorf("%d pages were written", after-before)
	}
}

func storedAny(done issuer.Imported) bool {
	return done.Clients.Created+done.Clients.Updated+done.Users.Created+done.Users.Updated+done.Grants.Created > 0
}

// TestImportServesOthers refreshes while much is imported: between any two batches
// those are served that wait.
func TestImportServesOthers(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	g := create1(t, db)
	const batches = 20
	importing := make(chan error)
	go func() {
		for b := range storetest.Batches(100, 2_000, batches*500, 500) {
			if _, err := db.Import(t.Context(), b); err != nil {
				importing <- err
				return
			}
		}
		importing <- nil
	}()
	refreshes := 0
	for done := false; !done; {
		select {
		case err := <-importing:
			check(t, err)
			done = true
		default:
			g = goodStep(t, db, g)
			refreshes++
		}
	}
	if refreshes < batches/2 { // about one for each, less what the goroutines' start costs
		t.Errorf("only %d refreshes were served while %d batches were imported", refreshes, batches)
	}
	stats, err := db.Stats(t.Context())
	if err != nil || stats.Rows["grants"] != batches*500+1 || stats.Rows["users"] != 2_000 || stats.Rows["clients"] != 100 {
		t.Errorf("rows %v, %v", stats.Rows, err)
	}
}

// TestImportOverDamage meets a document that cannot be read.
func TestImportOverDamage(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	inWriter(t, db, func(conn *driver.Conn) error {
		return run(conn, "INSERT INTO users (username, doc) VALUES ('user1', '{')", nil)
	})
	b := aBatch(t, 2, 2, 2)
	for _, b.DryRun = range []bool{true, false} {
		if _, err := db.Import(t.Context(), b); err == nil || !strings.Contains(err.Error(), "damaged document") {
			t.Errorf("error is %v", err)
		}
	}
	stats, err := db.Stats(t.Context())
	if err != nil || stats.Rows["clients"] != 0 || stats.Rows["grants"] != 0 {
		t.Errorf("rows %v, %v", stats.Rows, err)
	}
}

// TestCountUsesIsWhole refuses one count of several.
func TestCountUsesIsWhole(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	check(t, db.PutClient(t.Context(), issuer.Client{ID: "shop"}, issuer.Event{}))
	inWriter(t, db, func(conn *driver.Conn) error {
		return run(conn, "CREATE TRIGGER refusal BEFORE INSERT ON habits WHEN NEW.habit = 'implicit' BEGIN SELECT RAISE(ABORT, 'refused'); END", nil)
	})
	uses := []issuer.Use{{ClientID: "shop", Habit: issuer.HabitRetry, Count: 1}, {ClientID: "shop", Habit: issuer.HabitImplicit, Count: 1}}
	if err := db.CountUses(t.Context(), uses); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("error is %v", err)
	}
	if stored, err := db.Uses(t.Context(), issuer.UseFilter{}); err != nil || len(stored) != 0 {
		t.Errorf("%+v, %v", stored, err)
	}
}
