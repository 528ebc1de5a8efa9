package postgres

import (
	"context"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/store/column"
	"github.com/jackc/pgx/v5"
)

const (
	deliveryColumns = "hook, event, type, body, created_at, attempts, next_at, done_at, status, error"
	selectDelivery  = "SELECT id, " + deliveryColumns + " FROM deliveries"

	// planDeliveries moves on what has been planned, if it is where the planner
	// saw it, and stores the deliveries with it. Of two at once the second waits
	// for the first one's row, and sees it moved.
	planDeliveries = `WITH step AS (INSERT INTO planned ("only", event)
			SELECT 1, $2::bigint WHERE $1::bigint = 0 OR EXISTS (SELECT FROM planned)
			ON CONFLICT ("only") DO UPDATE SET event = excluded.event WHERE planned.event = $1 RETURNING event),
		made AS (INSERT INTO deliveries (` + deliveryColumns + `)
			SELECT d.hook, d.event, d.type, d.body, d.created_at, d.attempts, d.next_at, d.done_at, d.status, d.error
			FROM step, unnest($3::text[], $4::bigint[], $5::text[], $6::bytea[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::text[])
				WITH ORDINALITY AS d (` + deliveryColumns + `, number) ORDER BY d.number)
		SELECT count(*) = 1 FROM step`
	// claimDeliveries passes over what somebody else is about to take.
	claimDeliveries = `WITH due AS (` + selectDelivery + ` WHERE hook = $1 AND next_at > 0 AND next_at <= $2
			ORDER BY next_at, id LIMIT $3 FOR UPDATE SKIP LOCKED),
		taken AS (UPDATE deliveries SET next_at = $4 WHERE id = ANY (ARRAY (SELECT id FROM due)))
		SELECT * FROM due ORDER BY next_at, id`
	settleDelivery = "UPDATE deliveries SET (attempts, next_at, done_at, status, error) = ROW ($2::bigint, $3::bigint, $4::bigint, $5::bigint, $6::text) WHERE id = $1"
)

// Planned implements [hook.Store].
func (db *DB) Planned(ctx context.Context) (to int64, begun bool, err error) {
	err = db.read(ctx, func(ctx context.Context, s session) error {
		return s.QueryRow(ctx, "SELECT coalesce(max(event), 0), count(*) > 0 FROM planned").Scan(&to, &begun)
	})
	return to, begun, err
}

// Plan implements [hook.Store].
func (db *DB) Plan(ctx context.Context, from, to int64, deliveries []hook.Delivery) (planned bool, err error) {
	var hooks, types, failures []string
	var bodies [][]byte
	var events, created, attempts, next, done, status []int64
	for _, d := range deliveries {
		hooks, types, failures = append(hooks, clean(d.Hook)), append(types, clean(d.Type)), append(failures, clean(d.Error))
		bodies = append(bodies, append([]byte{}, d.Body...)) // nil would be NULL
		events, created, attempts = append(events, d.Event), append(created, column.Millis(d.CreatedAt)), append(attempts, int64(d.Attempts))
		next, done, status = append(next, column.Millis(d.NextAt)), append(done, column.Millis(d.DoneAt)), append(status, int64(d.Status))
	}
	err = db.write(ctx, func(ctx context.Context, s session) error {
		return s.QueryRow(ctx, planDeliveries, from, to, hooks, events, types, bodies, created, attempts, next, done, status, failures).Scan(&planned)
	})
	return planned && err == nil, err
}

// Claim implements [hook.Store].
func (db *DB) Claim(ctx context.Context, name string, at, until time.Time, limit int) (claimed []hook.Delivery, err error) {
	err = db.write(ctx, func(ctx context.Context, s session) (err error) {
		claimed, err = readDeliveries(ctx, s, claimDeliveries, clean(name), column.Millis(at), limit, column.Millis(until))
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range claimed {
		claimed[i].NextAt = column.Stored(until)
	}
	return claimed, nil
}

// Settle implements [hook.Store].
func (db *DB) Settle(ctx context.Context, d hook.Delivery) error {
	return db.write(ctx, func(ctx context.Context, s session) error {
		_, err := s.Exec(ctx, settleDelivery, d.ID, d.Attempts, column.Millis(d.NextAt), column.Millis(d.DoneAt), d.Status, clean(d.Error))
		return err
	})
}

// Deliveries implements [hook.Store].
func (db *DB) Deliveries(ctx context.Context, before int64, limit int) (deliveries []hook.Delivery, err error) {
	var c conditions
	if before != 0 {
		c.add("id < ?", before)
	}
	err = db.read(ctx, func(ctx context.Context, s session) (err error) {
		deliveries, err = readDeliveries(ctx, s, c.query(selectDelivery, "id DESC", limit), c.args...)
		return err
	})
	return deliveries, err
}

func readDeliveries(ctx context.Context, s session, query string, args ...any) ([]hook.Delivery, error) {
	return all(ctx, s, query, args, func(row pgx.CollectableRow) (d hook.Delivery, err error) {
		var created, next, done int64
		err = row.Scan(&d.ID, &d.Hook, &d.Event, &d.Type, (*[]byte)(&d.Body), &created, &d.Attempts, &next, &done, &d.Status, &d.Error)
		d.CreatedAt, d.NextAt, d.DoneAt = column.Time(created), column.Time(next), column.Time(done)
		return d, err
	})
}
