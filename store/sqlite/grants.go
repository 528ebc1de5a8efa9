package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/store/column"
	driver "zombiezen.com/go/sqlite"
)

// grantColumns are in the order that scanGrant reads.
const grantColumns = "id, client_id, subject, scope, generation, key_id, created_at, rotated_at, expires_at, ends_at," +
	" access_expires_at, revoked_at, revoked_cause, retries"

const (
	insertGrant = "INSERT INTO grants (" + grantColumns + ", purge_hour)" +
		" VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	selectGrant = "SELECT " + grantColumns + " FROM grants WHERE id = ?"
	// findGrant is selectGrant, and tells where the row is.
	findGrant = "SELECT " + grantColumns + ", rowid FROM grants WHERE id = ?"
	// rotateGrant is the whole write of a refresh. It names no column that an
	// index covers.
	rotateGrant = `UPDATE grants SET generation = ?2, key_id = ?3, rotated_at = ?4, expires_at = ?5, access_expires_at = ?6
		WHERE rowid = ?1`
	// narrowGrant is the same with a scope.
	narrowGrant = `UPDATE grants SET generation = ?2, key_id = ?3, rotated_at = ?4, expires_at = ?5, access_expires_at = ?6, scope = ?7
		WHERE rowid = ?1`
	revokeGrant = `UPDATE grants SET revoked_at = ?2, revoked_cause = ?3,
		expires_at = CASE WHEN expires_at = 0 AND ends_at = 0 THEN ?4 ELSE expires_at END
		WHERE id = ?1 AND revoked_at = 0`
	countRetry = "UPDATE grants SET retries = retries + 1 WHERE id = ?"
)

// CreateGrant implements [issuer.GrantStore]. An id that exists is an error.
func (db *DB) CreateGrant(ctx context.Context, g issuer.Grant, event issuer.Event) error {
	return db.writer.do(ctx, whole(func(conn *driver.Conn) error {
		err := run(conn, insertGrant, nil, grantValues(g, g.CreatedAt)...)
		if driver.ErrCode(err).ToPrimary() == driver.ResultConstraint {
			return fmt.Errorf("sqlite: grant %s exists: %w", g.ID, err)
		}
		if err != nil {
			return err
		}
		return insertEvent(conn, event)
	}))
}

// grantValues are the arguments of insertGrant, of a grant that is stored at a
// time.
func grantValues(g issuer.Grant, now time.Time) []any {
	return []any{
		g.ID[:], g.ClientID, g.Subject, g.Scope.String(), g.Generation, g.KeyID,
		column.Millis(g.CreatedAt), column.Millis(g.RotatedAt), column.Millis(g.ExpiresAt), column.Millis(g.EndsAt),
		column.Millis(g.AccessExpiresAt), column.Millis(g.RevokedAt), string(g.RevokedCause), g.Retries,
		column.PurgeHour(g, now),
	}
}

// Grant implements [issuer.GrantStore].
func (db *DB) Grant(ctx context.Context, id issuer.GrantID) (issuer.Grant, error) {
	var grant issuer.Grant
	err := db.readers.do(ctx, func(conn *driver.Conn) (err error) {
		grant, err = readGrant(conn, id)
		return err
	})
	return grant, err
}

// Rotate implements [issuer.GrantStore].
func (db *DB) Rotate(ctx context.Context, r issuer.Rotation) (issuer.Grant, bool, error) {
	var grant issuer.Grant // read only after the writer has answered
	var rotated bool
	step := func(conn *driver.Conn) (err error) {
		if grant, rotated, err = rotate(conn, r); err != nil || !rotated || r.Event == nil {
			return err
		}
		return insertEvent(conn, *r.Event)
	}
	if r.Event != nil {
		step = whole(step)
	}
	if err := db.writer.do(ctx, step); err != nil {
		return issuer.Grant{}, false, err
	}
	return grant, rotated, nil
}

// rotate reads the row, compares, and sets: one step for everybody else, since
// it runs in a transaction that holds the lock for writing. An UPDATE with the
// comparison in it that returns the row does the same at 1.3 times the cost,
// most of it for the temporary table that SQLite returns rows through.
func rotate(conn *driver.Conn, r issuer.Rotation) (grant issuer.Grant, rotated bool, err error) {
	var rowid int64
	found := false
	err = run(conn, findGrant, func(stmt *driver.Stmt) error {
		grant, rowid, found = scanGrant(stmt), stmt.ColumnInt64(14), true
		return nil
	}, r.ID[:])
	if err != nil {
		return grant, false, err
	}
	if !found {
		return grant, false, issuer.ErrNotFound
	}
	if !column.Rotates(grant, r) {
		return grant, false, nil
	}
	grant = column.Rotated(grant, r)
	query, values := rotateGrant, []any{
		rowid, grant.Generation, grant.KeyID,
		column.Millis(grant.RotatedAt), column.Millis(grant.ExpiresAt), column.Millis(grant.AccessExpiresAt),
	}
	if r.Scope != nil {
		query, values = narrowGrant, append(values, grant.Scope.String())
	}
	err = run(conn, query, nil, values...)
	return grant, err == nil, err
}

// Retried implements [issuer.GrantStore]: it does not wait for the disk.
func (db *DB) Retried(ctx context.Context, id issuer.GrantID) error {
	_, err := db.writer.ask(ctx, func(conn *driver.Conn) error {
		return run(conn, countRetry, nil, id[:])
	})
	return err
}

// Revoke implements [issuer.GrantStore].
func (db *DB) Revoke(ctx context.Context, id issuer.GrantID, at time.Time, event issuer.Event) (bool, error) {
	revoked := false
	err := db.writer.do(ctx, whole(func(conn *driver.Conn) error {
		err := run(conn, revokeGrant, nil, id[:], column.Millis(at), string(event.Cause), column.Millis(at.Add(column.RevokedFor)))
		if err != nil {
			return err
		}
		if revoked = conn.Changes() == 1; revoked {
			return insertEvent(conn, event)
		}
		_, err = readGrant(conn, id)
		return err
	}))
	if err != nil {
		return false, err
	}
	return revoked, nil
}

func readGrant(conn *driver.Conn, id issuer.GrantID) (grant issuer.Grant, err error) {
	found := false
	err = run(conn, selectGrant, func(stmt *driver.Stmt) error {
		grant, found = scanGrant(stmt), true
		return nil
	}, id[:])
	if err == nil && !found {
		err = issuer.ErrNotFound
	}
	return grant, err
}

func scanGrant(stmt *driver.Stmt) issuer.Grant {
	g := issuer.Grant{
		ClientID:        stmt.ColumnText(1),
		Subject:         stmt.ColumnText(2),
		Scope:           column.Scope(stmt.ColumnText(3)),
		Generation:      uint32(stmt.ColumnInt64(4)),
		KeyID:           uint32(stmt.ColumnInt64(5)),
		CreatedAt:       column.Time(stmt.ColumnInt64(6)),
		RotatedAt:       column.Time(stmt.ColumnInt64(7)),
		ExpiresAt:       column.Time(stmt.ColumnInt64(8)),
		EndsAt:          column.Time(stmt.ColumnInt64(9)),
		AccessExpiresAt: column.Time(stmt.ColumnInt64(10)),
		RevokedAt:       column.Time(stmt.ColumnInt64(11)),
		RevokedCause:    issuer.Cause(stmt.ColumnText(12)),
		Retries:         uint32(stmt.ColumnInt64(13)),
	}
	stmt.ColumnBytes(0, g.ID[:])
	return g
}
