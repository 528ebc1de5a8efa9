package sqlite

import (
	"errors"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/store/column"
	driver "zombiezen.com/go/sqlite"
)

func TestPurgeHour(t *testing.T) {
	now := time.Unix(1000*3600+1, 0)
	soon, late := now.Add(5*time.Hour), now.Add(9*time.Hour)
	var none time.Time
	for _, c := range []struct {
		name                  string
		expires, ends, access time.Time
		want                  int64
	}{
		{"expires", soon, none, none, 1005},
		{"expires with an access token", late, none, soon, 1009},
		{"access token lives longer", soon, none, late, 1009},
		{"ends first", late, soon, none, 1005},
		{"ends last", soon, late, none, 1005},
		{"ends only", none, soon, none, 1005},
		{"never", none, none, late, 1000 + 720},
		{"in this hour", now, none, none, 1000},
	} {
		g := issuer.Grant{ExpiresAt: c.expires, EndsAt: c.ends, AccessExpiresAt: c.access}
		if got := column.PurgeHour(g, now); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// TestPurgeLooksOnce counts row writes: a live grant that was due is put off,
// and not touched again before its hour comes.
func TestPurgeLooksOnce(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	grants := createMany(t, db, 2*purgeBatch+7)
	due := grants[0].ExpiresAt
	for _, g := range grants {
		r := next(g)
		r.ExpiresAt = due.Add(48 * time.Hour)
		if _, rotated, err := db.Rotate(t.Context(), r); err != nil || !rotated {
			t.Fatal(rotated, err)
		}
	}
	writes := func() (n int64) {
		inWriter(t, db, func(conn *driver.Conn) (err error) {
			n, err = number(conn, "SELECT total_changes()")
			return err
		})
		return n
	}
	for _, want := range []int64{int64(len(grants)), 0, 0} {
		before := writes()
		purged, err := db.Purge(t.Context(), due, time.Time{})
		if err != nil || purged != (issuer.Purged{}) {
			t.Fatalf("%+v, %v", purged, err)
		}
		if got := writes() - before; got != want {
			t.Errorf("%d rows written, want %d", got, want)
		}
	}
}

// TestPurgeServesOthers refreshes while many rows are deleted.
func TestPurgeServesOthers(t *testing.T) {
	var s steps
	db := open(t, tempPath(t), Options{Step: s.step})
	g := create1(t, db)
	grants := createMany(t, db, 20*purgeBatch)
	for i := range 7 * 24 { // beyond the expiry of the others
		r := next(g)
		r.At = g.RotatedAt.Add(2 * time.Hour)
		r.ExpiresAt = r.At.Add(14 * 24 * time.Hour)
		rotated, ok, err := db.Rotate(t.Context(), r)
		if err != nil || !ok {
			t.Fatal(i, ok, err)
		}
		g = rotated
	}
	purging := make(chan error)
	go func() {
		purged, err := db.Purge(t.Context(), grants[0].ExpiresAt, time.Time{})
		if purged.Grants != len(grants) {
			err = errors.Join(err, errors.New("not all were purged"))
		}
		purging <- err
	}()
	refreshes := 0
	for done := false; !done; {
		select {
		case err := <-purging:
			check(t, err)
			done = true
		default:
			g = goodStep(t, db, g)
			refreshes++
		}
	}
	if refreshes < 10 { // about one for each, less what the goroutines' start costs
		t.Errorf("only %d refreshes were served while 20 batches were deleted", refreshes)
	}
}

// TestPurgeFails counts what was deleted before the failure.
func TestPurgeFails(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	grants := createMany(t, db, 3)
	for _, table := range []string{"revoked_access_tokens", "once", "deliveries", "events"} {
		inWriter(t, db, func(conn *driver.Conn) error {
			return run(conn, "CREATE TRIGGER no_"+table+" BEFORE DELETE ON "+table+" BEGIN SELECT RAISE(ABORT, 'refused'); END", nil)
		})
	}
	check(t, db.RevokeAccessToken(t.Context(), "jti", grants[0].CreatedAt, issuer.Event{Type: "test", Actor: "server", At: grants[0].CreatedAt}))
	purged, err := db.Purge(t.Context(), grants[0].ExpiresAt, grants[0].ExpiresAt)
	if err == nil || purged != (issuer.Purged{Grants: 3}) {
		t.Errorf("%+v, %v", purged, err)
	}
	if _, err := db.Keeper().Once(t.Context(), "name", grants[0].CreatedAt, grants[0].CreatedAt); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Plan(t.Context(), 0, 1<<40, []hook.Delivery{{Hook: "app", CreatedAt: grants[0].CreatedAt}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		mended string
		want   issuer.Purged
	}{
		{"revoked_access_tokens", issuer.Purged{AccessTokens: 1}},
		{"once", issuer.Purged{}},
		{"deliveries", issuer.Purged{}},
	} {
		inWriter(t, db, func(conn *driver.Conn) error { return run(conn, "DROP TRIGGER no_"+c.mended, nil) })
		purged, err = db.Purge(t.Context(), grants[0].ExpiresAt, grants[0].ExpiresAt)
		if err == nil || purged != c.want {
			t.Errorf("%s mended: %+v, %v", c.mended, purged, err)
		}
		stats, err := db.Stats(t.Context())
		check(t, err)
		if stats.Rows[c.mended] != 0 {
			t.Errorf("%s has %d rows", c.mended, stats.Rows[c.mended])
		}
	}
}
