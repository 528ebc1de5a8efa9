package sqlite

import (
	"context"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/store/column"
	driver "zombiezen.com/go/sqlite"
)

const eventColumns = "at, type, grant_id, client_id, subject, actor, address, cause, detail"

// Record implements [issuer.GrantStore].
func (db *DB) Record(ctx context.Context, event issuer.Event) error {
	return db.writer.do(ctx, func(conn *driver.Conn) error { return insertEvent(conn, event) })
}

func insertEvent(conn *driver.Conn, e issuer.Event) error {
	const query = "INSERT INTO events (" + eventColumns + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
	var grant any // NULL, and out of the index, where the event is of no grant
	if !e.Grant.IsZero() {
		grant = e.Grant[:]
	}
	return run(conn, query, nil, column.Millis(e.At), e.Type, grant, e.ClientID, e.Subject, e.Actor, e.Address, string(e.Cause), e.Detail)
}

func scanEvent(stmt *driver.Stmt) issuer.Event {
	e := issuer.Event{
		At:       column.Time(stmt.ColumnInt64(0)),
		Type:     stmt.ColumnText(1),
		ClientID: stmt.ColumnText(3),
		Subject:  stmt.ColumnText(4),
		Actor:    stmt.ColumnText(5),
		Address:  stmt.ColumnText(6),
		Cause:    issuer.Cause(stmt.ColumnText(7)),
		Detail:   stmt.ColumnText(8),
		ID:       stmt.ColumnInt64(9),
	}
	stmt.ColumnBytes(2, e.Grant[:])
	return e
}

// RevokeAccessToken implements [issuer.GrantStore].
func (db *DB) RevokeAccessToken(ctx context.Context, jti string, expires time.Time, event issuer.Event) error {
	const query = "INSERT INTO revoked_access_tokens (jti, expires_at) VALUES (?, ?) ON CONFLICT (jti) DO NOTHING"
	return db.writer.do(ctx, whole(func(conn *driver.Conn) error {
		if err := run(conn, query, nil, jti, column.Millis(expires)); err != nil || conn.Changes() == 0 {
			return err
		}
		return insertEvent(conn, event)
	}))
}

// AccessTokenRevoked implements [issuer.GrantStore].
func (db *DB) AccessTokenRevoked(ctx context.Context, jti string) (bool, error) {
	var count int64
	err := db.readers.do(ctx, func(conn *driver.Conn) (err error) {
		count, err = number(conn, "SELECT count(*) FROM revoked_access_tokens WHERE jti = ?", jti)
		return err
	})
	return count > 0, err
}
