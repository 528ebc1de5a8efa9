package sqlite

import (
	"context"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/store/column"
	driver "zombiezen.com/go/sqlite"
)

const (
	// purgeBatch is how many rows one operation looks at, so that whoever
	// refreshes meanwhile waits no more than some milliseconds.
	purgeBatch = 100

	// dueGrants are rows that may be dead, in an order in which none is met
	// twice though others are moved meanwhile.
	dueGrants = `SELECT purge_hour, rowid, expires_at, ends_at, access_expires_at FROM grants
		WHERE purge_hour <= ?1 AND (purge_hour, rowid) > (?2, ?3) ORDER BY purge_hour, rowid LIMIT ?4`
	// deleteDead asks again for all that makes a grant dead.
	deleteDead = `DELETE FROM grants WHERE rowid = ?1 AND access_expires_at <= ?2
		AND (expires_at <> 0 AND expires_at <= ?2 OR ends_at <> 0 AND ends_at <= ?2)`
	postpone          = "UPDATE grants SET purge_hour = ?2 WHERE rowid = ?1 AND purge_hour <> ?2"
	purgeAccessTokens = `DELETE FROM revoked_access_tokens WHERE jti IN
		(SELECT jti FROM revoked_access_tokens WHERE expires_at <= ?2 ORDER BY expires_at LIMIT ?1)`
	purgeNames = "DELETE FROM once WHERE name IN (SELECT name FROM once WHERE until <= ?2 ORDER BY until LIMIT ?1)"
	// purgeEvents and purgeDeliveries leave what webhooks have not done with yet
	// until a second time, ?3.
	purgeEvents = `DELETE FROM events WHERE id IN (SELECT id FROM events
		WHERE at < ?2 AND (at < ?3 OR id <= ifnull((SELECT event FROM planned WHERE only = 1), id)) ORDER BY at LIMIT ?1)`
	purgeDeliveries = `DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries
		WHERE created_at < ?2 AND (created_at < ?3 OR next_at = 0) ORDER BY created_at LIMIT ?1)`
)

// abandonedFor is how much longer than other events those are kept for which
// webhooks have not been planned, and deliveries that are neither done nor given
// up. Webhooks that were taken out of the configuration do not keep them for
// ever.
const abandonedFor = 30 * 24 * time.Hour

// Purge implements [issuer.GrantStore], for both halves and webhooks. Other
// operations are served between its batches. It counts what it deleted even
// where it fails or the context ends.
func (db *DB) Purge(ctx context.Context, before, eventsBefore time.Time) (purged issuer.Purged, err error) {
	if err := db.purgeGrants(ctx, before, &purged.Grants); err != nil {
		return purged, err
	}
	abandoned := eventsBefore.Add(-abandonedFor)
	var others int // are not counted
	for _, rows := range []struct {
		count *int
		query string
		times []any
	}{
		{&purged.AccessTokens, purgeAccessTokens, []any{before}},
		{&others, purgeNames, []any{before}},
		{&others, purgeDeliveries, []any{eventsBefore, abandoned}},
		{&purged.Events, purgeEvents, []any{eventsBefore, abandoned}},
	} {
		if err := db.purgeRows(ctx, rows.count, rows.query, rows.times...); err != nil {
			return purged, err
		}
	}
	return purged, nil
}

// purgeRows runs a query that deletes at most purgeBatch rows, its first
// argument, until nothing is left.
func (db *DB) purgeRows(ctx context.Context, count *int, query string, times ...any) error {
	args := append([]any{purgeBatch}, times...)
	for {
		changes := 0
		err := db.writer.do(ctx, func(conn *driver.Conn) error {
			err := run(conn, query, nil, args...)
			changes = conn.Changes()
			return err
		})
		if err != nil {
			return err
		}
		*count += changes
		if changes < purgeBatch {
			return nil
		}
	}
}

func (db *DB) purgeGrants(ctx context.Context, before time.Time, count *int) error {
	var last due
	for {
		looked, deleted := 0, 0
		err := db.writer.do(ctx, whole(func(conn *driver.Conn) (err error) {
			looked, deleted, last, err = sweep(conn, last, before)
			return err
		}))
		if err != nil {
			return err
		}
		*count += deleted
		if looked < purgeBatch {
			return nil
		}
	}
}

// due is a grant that purging looks at.
type due struct {
	hour, rowid int64
	grant       issuer.Grant // the expiries alone
}

// sweep looks at the next batch of due grants after last. It deletes the dead
// ones and puts off the others until they can next be dead.
func sweep(conn *driver.Conn, last due, before time.Time) (looked, deleted int, next due, err error) {
	var batch []due
	err = run(conn, dueGrants, func(stmt *driver.Stmt) error {
		batch = append(batch, due{stmt.ColumnInt64(0), stmt.ColumnInt64(1), issuer.Grant{
			ExpiresAt: column.Time(stmt.ColumnInt64(2)), EndsAt: column.Time(stmt.ColumnInt64(3)),
			AccessExpiresAt: column.Time(stmt.ColumnInt64(4)),
		}})
		return nil
	}, column.UnixHour(before), last.hour, last.rowid, purgeBatch)
	if err != nil {
		return 0, 0, last, err
	}
	for _, d := range batch {
		if err := run(conn, deleteDead, nil, d.rowid, column.Millis(before)); err != nil {
			return 0, 0, last, err
		}
		if conn.Changes() == 1 {
			deleted++
		} else if err := run(conn, postpone, nil, d.rowid, column.PurgeHour(d.grant, before)); err != nil {
			return 0, 0, last, err
		}
		next = d
	}
	return len(batch), deleted, next, nil
}
