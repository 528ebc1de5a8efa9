package sqlite

import (
	"context"
	"encoding/json"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/store/column"
	driver "zombiezen.com/go/sqlite"
)

const (
	feed      = "SELECT " + allColumns + " FROM events WHERE id > ? ORDER BY id LIMIT ?"
	lastEvent = "SELECT seq FROM sqlite_sequence WHERE name = 'events'" // may be deleted by now
	planTo    = "INSERT INTO planned (only, event) VALUES (1, ?1) ON CONFLICT (only) DO UPDATE SET event = ?1"

	deliveryColumns = "hook, event, type, body, created_at, attempts, next_at, done_at, status, error"
	insertDelivery  = "INSERT INTO deliveries (" + deliveryColumns + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	selectDelivery  = "SELECT id, " + deliveryColumns + " FROM deliveries"
	dueDeliveries   = selectDelivery + " WHERE hook = ?1 AND next_at > 0 AND next_at <= ?2 ORDER BY next_at, id LIMIT ?3"
	claimDelivery   = "UPDATE deliveries SET next_at = ?2 WHERE id = ?1"
	settleDelivery  = "UPDATE deliveries SET (attempts, next_at, done_at, status, error) = (?2, ?3, ?4, ?5, ?6) WHERE id = ?1"
)

// Feed implements [hook.Store].
func (db *DB) Feed(ctx context.Context, after int64, limit int) (events []hook.Event, err error) {
	err = db.readers.scan(ctx, func(conn *driver.Conn) error {
		return run(conn, feed, func(stmt *driver.Stmt) error {
			of := scanEvent(stmt)
			var entry any = of
			if !stmt.ColumnIsNull(10) {
				entry = scanKeeperEvent(stmt)
			}
			text, err := json.Marshal(entry)
			events = append(events, hook.Event{ID: of.ID, At: of.At, Type: of.Type, Document: text})
			return err
		}, after, limit)
	})
	return events, err
}

// LastEvent implements [hook.Store].
func (db *DB) LastEvent(ctx context.Context) (id int64, err error) {
	err = db.readers.do(ctx, func(conn *driver.Conn) (err error) {
		id, err = number(conn, lastEvent)
		return err
	})
	return id, err
}

// Planned implements [hook.Store].
func (db *DB) Planned(ctx context.Context) (to int64, begun bool, err error) {
	err = db.readers.do(ctx, func(conn *driver.Conn) (err error) {
		to, begun, err = planned(conn)
		return err
	})
	return to, begun, err
}

func planned(conn *driver.Conn) (to int64, begun bool, err error) {
	err = run(conn, "SELECT event FROM planned", func(stmt *driver.Stmt) error {
		to, begun = stmt.ColumnInt64(0), true
		return nil
	})
	return to, begun, err
}

// Plan implements [hook.Store].
func (db *DB) Plan(ctx context.Context, from, to int64, deliveries []hook.Delivery) (bool, error) {
	return db.when(ctx, func(conn *driver.Conn) (bool, error) {
		at, _, err := planned(conn)
		if err != nil || at != from {
			return false, err
		}
		for _, d := range deliveries {
			err := run(conn, insertDelivery, nil, d.Hook, d.Event, d.Type, []byte(d.Body), d.CreatedAt,
				d.Attempts, d.NextAt, d.DoneAt, d.Status, d.Error)
			if err != nil {
				return false, err
			}
		}
		return true, run(conn, planTo, nil, to)
	})
}

// Claim implements [hook.Store].
func (db *DB) Claim(ctx context.Context, name string, at, until time.Time, limit int) ([]hook.Delivery, error) {
	var claimed []hook.Delivery // read only after the writer has answered
	err := db.writer.do(ctx, whole(func(conn *driver.Conn) (err error) {
		if claimed, err = readDeliveries(conn, dueDeliveries, name, at, limit); err != nil {
			return err
		}
		for i := range claimed {
			claimed[i].NextAt = column.Stored(until)
			if err := run(conn, claimDelivery, nil, claimed[i].ID, until); err != nil {
				return err
			}
		}
		return nil
	}))
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

// Settle implements [hook.Store].
func (db *DB) Settle(ctx context.Context, d hook.Delivery) error {
	return db.writer.do(ctx, func(conn *driver.Conn) error {
		return run(conn, settleDelivery, nil, d.ID, d.Attempts, d.NextAt, d.DoneAt, d.Status, d.Error)
	})
}

// Deliveries implements [hook.Store].
func (db *DB) Deliveries(ctx context.Context, before int64, limit int) (deliveries []hook.Delivery, err error) {
	var c conditions
	if before != 0 {
		c.add("id < ?", before)
	}
	err = db.readers.scan(ctx, func(conn *driver.Conn) (err error) {
		deliveries, err = readDeliveries(conn, selectDelivery+c.where()+" ORDER BY id DESC LIMIT ?", append(c.args, column.Capped(limit))...)
		return err
	})
	return deliveries, err
}

func readDeliveries(conn *driver.Conn, query string, args ...any) (deliveries []hook.Delivery, err error) {
	err = run(conn, query, func(stmt *driver.Stmt) error {
		row := columns{stmt: stmt}
		deliveries = append(deliveries, hook.Delivery{
			ID: row.integer(), Hook: row.text(), Event: row.integer(), Type: row.text(), Body: row.bytes(), CreatedAt: row.time(),
			Attempts: int(row.integer()), NextAt: row.time(), DoneAt: row.time(), Status: int(row.integer()), Error: row.text(),
		})
		return nil
	}, args...)
	return deliveries, err
}
