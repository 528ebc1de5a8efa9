package sqlite

import (
	"context"
	"slices"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/column"
	driver "zombiezen.com/go/sqlite"
)

// Keeper is a [DB] as a [keeper.Store] and [keeper.Lists]. It is a type of its
// own because both halves have methods named Record and Events.
type Keeper struct{ db *DB }

var (
	_ keeper.Store = Keeper{}
	_ keeper.Lists = Keeper{}
)

// Keeper is what the keeper persists in the same file.
func (db *DB) Keeper() Keeper { return Keeper{db} }

const (
	takeLease = "UPDATE journal SET fence = ?2, lease_until = ?3 WHERE connection = ?1"
	// writeJournal leaves the fence alone, and an answer that came to the same
	// request since the row was read.
	writeJournal = `UPDATE journal SET (lease_until, request_id, kind, renews, sent_at, deadline, answer_key, answer) =
		(?2, ?3, ?4, ?5, ?6, ?7, iif(?9 IS NULL AND request_id = ?3, answer_key, ?8), iif(?9 IS NULL AND request_id = ?3, answer, ?9))
		WHERE connection = ?1`
	// dueAfterLease lets the background find what a process left broken off.
	dueAfterLease = "UPDATE connections SET due_at = ?2 WHERE number = ?1 AND (due_at = 0 OR due_at > ?2)"
	writeAnswer   = `UPDATE journal SET answer_key = ?3, answer = ?4
		WHERE connection = (SELECT number FROM connections WHERE id = ?1) AND request_id = ?2`
)

// Create implements [keeper.ConnectionStore].
func (k Keeper) Create(ctx context.Context, c keeper.Connection, event keeper.Event) error {
	values, err := connectionValues(c)
	if err != nil {
		return err
	}
	values = append(append([]any{c.ID}, indexedValues(c)...), values...)
	return k.db.writer.do(ctx, whole(func(conn *driver.Conn) error {
		if err := run(conn, insertConnection, nil, values...); err != nil {
			return err
		}
		if conn.Changes() == 0 {
			return keeper.ErrExists
		}
		number := conn.LastInsertRowID()
		if err := run(conn, "INSERT INTO journal (connection, fence, lease_until) VALUES (?, ?, 0)", nil, number, c.CreatedAt); err != nil {
			return err
		}
		if err := run(conn, writeJournal, nil, journalValues(number, c.LeaseUntil, c.Intent)...); err != nil {
			return err
		}
		return logEvents(conn, event)
	}))
}

// Connection implements [keeper.ConnectionStore].
func (k Keeper) Connection(ctx context.Context, id string) (c keeper.Connection, err error) {
	err = k.db.readers.do(ctx, func(conn *driver.Conn) (err error) {
		_, c, err = readConnection(conn, id)
		return err
	})
	return c, err
}

// Lease implements [keeper.ConnectionStore].
func (k Keeper) Lease(ctx context.Context, id string, at, until time.Time) (keeper.Connection, bool, error) {
	var c keeper.Connection // read only after the writer has answered
	var leased bool
	err := k.db.writer.do(ctx, func(conn *driver.Conn) (err error) {
		var number int64
		number, c, err = readConnection(conn, id)
		if err != nil || column.Millis(c.LeaseUntil) > column.Millis(at) {
			return err
		}
		leased = true
		c.Fence, c.LeaseUntil = c.Fence+1, column.Stored(until)
		return run(conn, takeLease, nil, number, c.Fence, c.LeaseUntil)
	})
	if err != nil {
		return keeper.Connection{}, false, err
	}
	return c, leased, nil
}

// Begin implements [keeper.ConnectionStore].
func (k Keeper) Begin(ctx context.Context, id string, fence uint64, intent keeper.Intent, leaseUntil time.Time) (bool, error) {
	return k.db.when(ctx, func(conn *driver.Conn) (bool, error) {
		row, err := find(conn, id)
		if err != nil || row == nil || row.fence != fence || row.generation != intent.Generation {
			return false, err
		}
		if err := run(conn, writeJournal, nil, journalValues(row.number, leaseUntil, &intent)...); err != nil {
			return false, err
		}
		return true, run(conn, dueAfterLease, nil, row.number, leaseUntil)
	})
}

// Answer implements [keeper.ConnectionStore].
func (k Keeper) Answer(ctx context.Context, id, requestID string, answer secret.Sealed) (bool, error) {
	return k.db.when(ctx, func(conn *driver.Conn) (bool, error) {
		key, data := column.Sealed(answer)
		err := run(conn, writeAnswer, nil, id, requestID, key, data)
		return err == nil && conn.Changes() == 1, err
	})
}

// Commit implements [keeper.ConnectionStore]. What stands in indexes is written
// only where it changed.
func (k Keeper) Commit(ctx context.Context, fence, generation uint64, next keeper.Connection, events ...keeper.Event) (bool, error) {
	values, err := connectionValues(next)
	if err != nil {
		return false, err
	}
	indexed := indexedValues(next)
	return k.db.when(ctx, func(conn *driver.Conn) (bool, error) {
		row, err := find(conn, next.ID)
		if err != nil || row == nil || row.fence != fence || row.generation != generation {
			return false, err
		}
		if !slices.Equal(row.indexed, indexed) {
			if err := run(conn, updateIndexed, nil, append(slices.Clone(indexed), row.number)...); err != nil {
				return false, err
			}
		}
		if err := run(conn, updateConnection, nil, append(values, row.number)...); err != nil {
			return false, err
		}
		if err := run(conn, writeJournal, nil, journalValues(row.number, time.Time{}, next.Intent)...); err != nil {
			return false, err
		}
		return true, logEvents(conn, events...)
	})
}

// Delete implements [keeper.ConnectionStore].
func (k Keeper) Delete(ctx context.Context, id string, fence uint64, event keeper.Event) (bool, error) {
	return k.db.when(ctx, func(conn *driver.Conn) (bool, error) {
		row, err := find(conn, id)
		if err != nil || row == nil || row.fence != fence {
			return false, err
		}
		if err := run(conn, "DELETE FROM connections WHERE number = ?", nil, row.number); err != nil {
			return false, err
		}
		if err := run(conn, "DELETE FROM journal WHERE connection = ?", nil, row.number); err != nil {
			return false, err
		}
		return true, logEvents(conn, event)
	})
}
