package postgres

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/issuer"
)

// manyGrants stores grants that all have one client, one lifetime, and no event.
func manyGrants(t testing.TB, s session, count int) (expires time.Time) {
	t.Helper()
	g := usualGrant()
	execute(t, s, `INSERT INTO grants SELECT gen_random_uuid(), 'many', '', 'read', 1, 1, $1, $1, $2, 0, $2, 0, '', 0, $2::bigint / 3600000
		FROM generate_series(1, $3::integer)`, g.CreatedAt.UnixMilli(), g.ExpiresAt.UnixMilli(), count)
	return g.ExpiresAt
}

func rows(t testing.TB, s session, table string) int {
	return value[int](t, s, "SELECT count(*) FROM "+table)
}

// TestPurgeByTwo: of two processes that purge at once all that is dead is
// deleted, and each row is counted by the one that deleted it.
func TestPurgeByTwo(t *testing.T) {
	url := pgtest.Database(t)
	processes := []*DB{opened(t, url), opened(t, url)}
	conn := connected(t, url)
	for round := range 3 {
		const count = 7*purgeBatch + 13
		expires := manyGrants(t, conn, count)
		execute(t, conn, "INSERT INTO revoked_access_tokens SELECT 'jti' || i, 1 FROM generate_series(1, $1::integer) AS i", count)
		execute(t, conn, "INSERT INTO events ("+eventColumns+", id) SELECT 1, 'x', NULL, '', '', '', '', '', '', $2 * 100000 + i FROM generate_series(1, $1::integer) AS i", count, round)
		var purged [2]issuer.Purged
		var purging sync.WaitGroup
		for i, db := range processes {
			purging.Go(func() {
				var err error
				if purged[i], err = db.Purge(t.Context(), expires, expires); err != nil {
					t.Error(err)
				}
			})
		}
		purging.Wait()
		t.Logf("%+v", purged)
		both := issuer.Purged{
			Grants: purged[0].Grants + purged[1].Grants, AccessTokens: purged[0].AccessTokens + purged[1].AccessTokens,
			Events: purged[0].Events + purged[1].Events,
		}
		if both != (issuer.Purged{Grants: count, AccessTokens: count, Events: count}) {
			t.Errorf("purged are %+v", both)
		}
		if n := rows(t, conn, "grants") + rows(t, conn, "revoked_access_tokens") + rows(t, conn, "events"); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	}
}

// TestPurgeLeavesItToAnother: while one purges another one ends at once, with no
// error.
func TestPurgeLeavesItToAnother(t *testing.T) {
	url := pgtest.Database(t)
	db, other := opened(t, url), connected(t, url)
	expires := manyGrants(t, other, 3)
	tx, err := other.Begin(t.Context())
	must(t, err)
	execute(t, tx, "SELECT pg_advisory_xact_lock($1)", int64(purgeKey))
	if purged, err := db.Purge(t.Context(), expires, expires); err != nil || purged != (issuer.Purged{}) {
		t.Errorf("%+v, %v", purged, err)
	}
	must(t, tx.Rollback(t.Context()))
	if purged, err := db.Purge(t.Context(), expires, expires); err != nil || purged != (issuer.Purged{Grants: 3}) {
		t.Errorf("%+v, %v", purged, err)
	}
}

// TestPurgeLooksOnce counts row writes: a live grant that was due is put off,
// and not touched again before its hour comes.
func TestPurgeLooksOnce(t *testing.T) {
	url := pgtest.Database(t)
	db, conn := opened(t, url), connected(t, url)
	const count = 2*purgeBatch + 7
	due := manyGrants(t, conn, count)
	execute(t, conn, "UPDATE grants SET expires_at = $1", due.Add(48*time.Hour).UnixMilli())
	written := func() string {
		return value[string](t, conn, "SELECT md5(string_agg(xmin::text || xmax::text, ',' ORDER BY id)) FROM grants")
	}
	for round, want := range []bool{true, false, false} {
		before := written()
		if purged, err := db.Purge(t.Context(), due, time.Time{}); err != nil || purged != (issuer.Purged{}) {
			t.Fatalf("%+v, %v", purged, err)
		}
		if got := written() != before; got != want {
			t.Errorf("round %d: rows were written %v, want %v", round, got, want)
		}
	}
	if n := value[int](t, conn, "SELECT count(*) FROM grants WHERE purge_hour = $1", due.Add(48*time.Hour).Unix()/3600); n != count {
		t.Errorf("%d grants are put off, want %d", n, count)
	}
}

// TestPurgeWaitsForNobody: a row that somebody is changing is left alone, and the
// others are deleted meanwhile.
func TestPurgeWaitsForNobody(t *testing.T) {
	url := pgtest.Database(t)
	db, other, conn := opened(t, url), connected(t, url), connected(t, url)
	expires := manyGrants(t, conn, 5)
	execute(t, conn, "INSERT INTO once SELECT 'name' || i, 1 FROM generate_series(1, 5) AS i")
	execute(t, conn, "INSERT INTO events ("+eventColumns+") SELECT 1, 'x', NULL, '', '', '', '', '', '' FROM generate_series(1, 5)")
	tx, err := other.Begin(t.Context())
	must(t, err)
	for _, change := range []string{
		"UPDATE grants SET expires_at = expires_at + 100000000 WHERE id = (SELECT min(id::text)::uuid FROM grants)",
		"UPDATE once SET until = 9000000000000 WHERE name = 'name3'",
		"DELETE FROM events WHERE id = 2",
	} {
		execute(t, tx, change)
	}
	purged, err := db.Purge(t.Context(), expires, expires)
	if err != nil || purged != (issuer.Purged{Grants: 4, Events: 4}) {
		t.Errorf("%+v, %v", purged, err)
	}
	must(t, tx.Commit(t.Context()))
	if purged, err := db.Purge(t.Context(), expires, expires); err != nil || purged != (issuer.Purged{}) {
		t.Errorf("%+v, %v", purged, err)
	}
	for table, want := range map[string]int{"grants": 1, "once": 1, "events": 0} {
		if n := rows(t, conn, table); n != want {
			t.Errorf("%s has %d rows, want %d", table, n, want)
		}
	}
}

// TestPurgeServesOthers refreshes while many rows are deleted, and some of those
// that are refreshed were due.
func TestPurgeServesOthers(t *testing.T) {
	url := pgtest.Database(t)
	db, conn := opened(t, url), connected(t, url)
	grants := created(t, db, 20)
	expires := manyGrants(t, conn, 20*purgeBatch)
	purging := make(chan error, 1)
	go func() {
		purged, err := db.Purge(t.Context(), expires.Add(-time.Hour), time.Time{}) // none of them is dead
		if err == nil {
			purged, err = db.Purge(t.Context(), expires, time.Time{})
		}
		if purged.Grants < 20*purgeBatch {
			err = errors.Join(err, errors.New("not all were purged"))
		}
		purging <- err
	}()
	refreshes := 0
	for done := false; !done; {
		select {
		case err := <-purging:
			must(t, err)
			done = true
		default:
			var refreshing sync.WaitGroup
			for i := range grants {
				refreshing.Go(func() {
					got, rotated, err := db.Rotate(t.Context(), next(grants[i]))
					if err != nil || !rotated {
						t.Error(rotated, err)
					}
					grants[i] = got
				})
			}
			refreshing.Wait()
			refreshes += len(grants)
		}
		if t.Failed() {
			return
		}
	}
	if refreshes < 2*len(grants) {
		t.Errorf("only %d refreshes were served while 20 batches were deleted", refreshes)
	}
}

// TestPurgeFails counts what was deleted before the failure.
func TestPurgeFails(t *testing.T) {
	url := pgtest.Database(t)
	db, conn := opened(t, url), connected(t, url)
	at := manyGrants(t, conn, 3)
	execute(t, conn, "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$")
	tables := []string{"revoked_access_tokens", "once", "deliveries", "events"}
	for _, table := range tables {
		execute(t, conn, "CREATE TRIGGER refuse BEFORE DELETE ON "+table+" FOR EACH ROW EXECUTE FUNCTION refuse()")
	}
	before := at.Add(-time.Hour)
	must(t, db.RevokeAccessToken(t.Context(), "jti", before, issuer.Event{Type: "x", At: before}))
	_, err := db.Keeper().Once(t.Context(), "name", before, before)
	must(t, err)
	_, err = db.Plan(t.Context(), 0, 1<<40, []hook.Delivery{{Hook: "app", CreatedAt: before}})
	must(t, err)
	for i, want := range []issuer.Purged{{Grants: 3}, {AccessTokens: 1}, {}, {}, {Events: 1}} {
		purged, err := db.Purge(t.Context(), at, at)
		if purged != want || err == nil != (i == len(tables)) {
			t.Errorf("%d: %+v, %v", i, purged, err)
		}
		if i < len(tables) {
			execute(t, conn, "DROP TRIGGER refuse ON "+tables[i])
		}
	}
	for _, table := range tables {
		if n := rows(t, conn, table); n != 0 {
			t.Errorf("%s has %d rows", table, n)
		}
	}
}

// TestPurgeEndsWithItsContext, between two batches.
func TestPurgeEndsWithItsContext(t *testing.T) {
	url := pgtest.Database(t)
	db, conn := opened(t, url), connected(t, url)
	expires := manyGrants(t, conn, 3*purgeBatch)
	ctx, cancel := context.WithCancel(t.Context())
	batches := 0
	count := 0
	err := db.purgeBatches(ctx, &count, func(ctx context.Context, s session, after due) (int, int, due, error) {
		if batches++; batches == 2 {
			cancel()
		}
		return grantBatch(expires)(ctx, s, after)
	})
	if !errors.Is(err, context.Canceled) || count != 2*purgeBatch || rows(t, conn, "grants") != purgeBatch {
		t.Errorf("%d of %d were deleted, %v", count, 3*purgeBatch, err)
	}
}
