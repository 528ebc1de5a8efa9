package sqlite

import (
	"context"
	"time"

	"github.com/evergrant/evergrant/issuer"
	driver "zombiezen.com/go/sqlite"
)

const (
	// purgeBatch is how many rows one operation looks at, so that whoever
	// refreshes meanwhile waits no more than some milliseconds.
	purgeBatch = 100
	// neverHours is after how long a grant that does not expire is looked at
	// again, since it may have been revoked or given an expiry.
	neverHours = 30 * 24

	// dueGrants are rows that may be dead, in an order in which none is met
	// twice though others are moved meanwhile.
	dueGrants = `SELECT purge_hour, rowid, expires_at, ends_at, access_expires_at FROM grants
		WHERE purge_hour <= ?1 AND (purge_hour, rowid) > (?2, ?3) ORDER BY purge_hour, rowid LIMIT ?4`
	// deleteDead asks again for all that makes a grant dead.
	deleteDead = `DELETE FROM grants WHERE rowid = ?1 AND access_expires_at <= ?2
		AND (expires_at <> 0 AND expires_at <= ?2 OR ends_at <> 0 AND ends_at <= ?2)`
	postpone          = "UPDATE grants SET purge_hour = ?2 WHERE rowid = ?1 AND purge_hour <> ?2"
	purgeAccessTokens = `DELETE FROM revoked_access_tokens WHERE jti IN
		(SELECT jti FROM revoked_access_tokens WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)`
	purgeEvents = `DELETE FROM events WHERE id IN (SELECT id FROM events WHERE at < ?1 ORDER BY at LIMIT ?2)`
)

// Purge implements [issuer.GrantStore]. Other operations are served between
// its batches. It counts what it deleted even where it fails or the context
// ends.
func (db *DB) Purge(ctx context.Context, before, eventsBefore time.Time) (purged issuer.Purged, err error) {
	if err := db.purgeGrants(ctx, before, &purged.Grants); err != nil {
		return purged, err
	}
	if err := db.purgeRows(ctx, purgeAccessTokens, before, &purged.AccessTokens); err != nil {
		return purged, err
	}
	return purged, db.purgeRows(ctx, purgeEvents, eventsBefore, &purged.Events)
}

func (db *DB) purgeRows(ctx context.Context, query string, before time.Time, count *int) error {
	for {
		changes := 0
		err := db.writer.do(ctx, func(conn *driver.Conn) error {
			err := run(conn, query, nil, millis(before), purgeBatch)
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
			ExpiresAt: fromMillis(stmt.ColumnInt64(2)), EndsAt: fromMillis(stmt.ColumnInt64(3)),
			AccessExpiresAt: fromMillis(stmt.ColumnInt64(4)),
		}})
		return nil
	}, unixHour(before), last.hour, last.rowid, purgeBatch)
	if err != nil {
		return 0, 0, last, err
	}
	for _, d := range batch {
		if err := run(conn, deleteDead, nil, d.rowid, millis(before)); err != nil {
			return 0, 0, last, err
		}
		if conn.Changes() == 1 {
			deleted++
		} else if err := run(conn, postpone, nil, d.rowid, purgeHour(d.grant, before)); err != nil {
			return 0, 0, last, err
		}
		next = d
	}
	return len(batch), deleted, next, nil
}

// purgeHour is the Unix hour in which a grant can first be dead: neither its
// code or refresh token nor its access token lives. One that does not expire
// is looked at again neverHours after now.
func purgeHour(g issuer.Grant, now time.Time) int64 {
	end := g.ExpiresAt
	if end.IsZero() || !g.EndsAt.IsZero() && g.EndsAt.Before(end) {
		end = g.EndsAt
	}
	if end.IsZero() {
		return unixHour(now) + neverHours
	}
	if g.AccessExpiresAt.After(end) {
		end = g.AccessExpiresAt
	}
	return unixHour(end)
}

func unixHour(t time.Time) int64 { return millis(t) / time.Hour.Milliseconds() }
