package postgres

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/column"
)

// Keeper is a [DB] as a [keeper.Store] and [keeper.Lists]. It is a type of its
// own because both halves have methods named Record and Events.
type Keeper struct{ db *DB }

var (
	_ keeper.Store = Keeper{}
	_ keeper.Lists = Keeper{}
)

// Keeper is what the keeper persists in the same database.
func (db *DB) Keeper() Keeper { return Keeper{db} }

// Each intent is one statement. It first holds the two rows of the connection,
// where they are what the caller believes: of callers at the same time all but
// one wait there, and then see the rows as they are by now. A statement sees all
// else as it was when it began, so what it has not held it must not rely on.
// All hold the journal's row first, so that no two wait for each other.
//
// In all of these the first argument is the id.
const (
	holdRow   = "WITH held AS (SELECT * FROM journal JOIN connections ON id = connection WHERE connection = $1 AND "
	forUpdate = " FOR UPDATE OF journal, connections)"
	holdsRow  = " SELECT count(*) = 1 FROM held"

	// keepKeys puts back the records of deleted keys ($2) under which a process
	// has sealed that does not know of it yet: else what it sealed could never be
	// opened. Who seals waits while a key is being deleted (keys.go), and sees by
	// then that it is gone. The record is as that of the next key, which makes
	// tokens instead.
	keepKeys = `, kept AS (INSERT INTO keys (id, root, created_at, active_from)
			SELECT key, next.root, next.created_at, next.active_from
			FROM held, unnest($2::bigint[]) AS key, LATERAL (SELECT * FROM keys WHERE id > key ORDER BY id LIMIT 1) AS next
			WHERE NOT EXISTS (SELECT FROM keys WHERE id = key)
			ON CONFLICT (id) DO NOTHING)`

	createConnection = "WITH held AS (INSERT INTO connections (id, " + connectionColumns + `) VALUES ($1,
				$15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42)
			ON CONFLICT (id) DO NOTHING RETURNING id AS connection),
		opened AS (INSERT INTO journal (connection, fence, lease_until, ` + intentColumns + `)
			SELECT connection, $43, $44, $45, $46, $47, $48, $49, $50, $51 FROM held)` + keepKeys + logEvents + holdsRow

	takeLease = holdRow + "lease_until <= $2" + forUpdate + `,
		taken AS (UPDATE journal SET (fence, lease_until) = ROW (held.fence + 1, $3::bigint) FROM held WHERE journal.connection = held.connection)
		SELECT ` + rowColumns + " FROM held"

	// beginIntent moves when the connection is due only where it must, so that the
	// background finds what a process left broken off.
	beginIntent = holdRow + "fence = $2 AND generation = $3" + forUpdate + `,
		moved AS (UPDATE connections SET due_at = $4 FROM held
			WHERE connections.id = held.connection AND (held.due_at = 0 OR held.due_at > $4)),
		opened AS (UPDATE journal SET (lease_until, ` + intentColumns + `) = ROW ($4, $5, $6, $7, $8, $9, $10, $11) FROM held
			WHERE journal.connection = held.connection)` + holdsRow

	addAnswer = "WITH held AS (UPDATE journal SET (answer_key, answer) = ROW ($4::bigint, $5::bytea)" +
		" WHERE connection = $1 AND request_id = $3 RETURNING connection)" + keepKeys + holdsRow

	// commitConnection leaves an answer that came to the same request since the row
	// was read.
	commitConnection = holdRow + "fence = $15 AND generation = $16" + forUpdate + `,
		changed AS (UPDATE connections SET (` + connectionColumns + `) = ROW (
				$17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43, $44)
			FROM held WHERE connections.id = held.connection),
		ended AS (UPDATE journal SET (lease_until, ` + intentColumns + `) = ROW (0, $45, $46, $47, $48, $49,
				CASE WHEN $51::bytea IS NULL AND held.request_id = $45 THEN held.answer_key ELSE $50::bigint END,
				CASE WHEN $51::bytea IS NULL AND held.request_id = $45 THEN held.answer ELSE $51::bytea END) FROM held
			WHERE journal.connection = held.connection)` + keepKeys + logEvents + holdsRow

	deleteConnection = holdRow + "fence = $2" + forUpdate + `,
		gone AS (DELETE FROM connections USING held WHERE connections.id = held.connection),
		ended AS (DELETE FROM journal USING held WHERE journal.connection = held.connection)` + logEvents + holdsRow
)

// Create implements [keeper.ConnectionStore].
func (k Keeper) Create(ctx context.Context, c keeper.Connection, event keeper.Event) error {
	if !storable(c.ID) {
		return errText
	}
	args, err := connectionArgs(c)
	if err != nil {
		return err
	}
	args = append(append(args, column.Millis(c.CreatedAt), column.Millis(c.LeaseUntil)), intentArgs(c.Intent)...)
	done, err := k.logs(ctx, createConnection, c.ID, sealingKeys(&c), []keeper.Event{event}, args)
	switch {
	case err == nil && !done:
		return keeper.ErrExists
	case outcomeUnknown(err) && k.created(context.WithoutCancel(ctx), c):
		k.db.happened()
		return nil
	}
	return err
}

// created reports whether a connection is there as it was to be created.
func (k Keeper) created(ctx context.Context, c keeper.Connection) bool {
	row, err := k.Connection(ctx, c.ID)
	return err == nil && row.CreatedAt.Equal(column.Stored(c.CreatedAt)) && bytes.Equal(row.Tokens.Data, c.Tokens.Data)
}

// Connection implements [keeper.ConnectionStore].
func (k Keeper) Connection(ctx context.Context, id string) (c keeper.Connection, err error) {
	if !storable(id) {
		return c, keeper.ErrNotFound
	}
	err = k.db.read(ctx, func(ctx context.Context, s session) (err error) {
		c, err = one(ctx, s, selectConnection, id)
		return err
	})
	return c, err
}

// one is the connection that a query gives, or keeper.ErrNotFound.
func one(ctx context.Context, s session, query string, args ...any) (keeper.Connection, error) {
	rows, err := all(ctx, s, query, args, scanConnection)
	if err != nil || len(rows) == 0 {
		return keeper.Connection{}, cmp.Or(err, keeper.ErrNotFound)
	}
	return rows[0], nil
}

// Lease implements [keeper.ConnectionStore]. Who does not get it has locked
// nothing, and reads the row.
func (k Keeper) Lease(ctx context.Context, id string, at, until time.Time) (c keeper.Connection, leased bool, err error) {
	if !storable(id) {
		return c, false, keeper.ErrNotFound
	}
	err = k.db.write(ctx, func(ctx context.Context, s session) (err error) {
		c, err = one(ctx, s, takeLease, id, column.Millis(at), column.Millis(until))
		return err
	})
	switch {
	case errors.Is(err, keeper.ErrNotFound):
		c, err = k.Connection(ctx, id)
		return c, false, err
	case err != nil:
		return keeper.Connection{}, false, orUnproven(err)
	}
	c.Fence, c.LeaseUntil = c.Fence+1, column.Stored(until)
	return c, true, nil
}

// Begin implements [keeper.ConnectionStore].
func (k Keeper) Begin(ctx context.Context, id string, fence uint64, intent keeper.Intent, leaseUntil time.Time) (bool, error) {
	args := []any{int64(fence), int64(intent.Generation), column.Millis(leaseUntil)}
	return k.when(ctx, beginIntent, id, append(args, intentArgs(&intent)...)...)
}

// Answer implements [keeper.ConnectionStore].
func (k Keeper) Answer(ctx context.Context, id, requestID string, answer secret.Sealed) (bool, error) {
	args := intentArgs(&keeper.Intent{RequestID: requestID, Answer: answer})
	keys := sealingKeys(&keeper.Connection{Tokens: answer})
	return k.when(ctx, addAnswer, id, keys, args[0], args[5], args[6])
}

// Commit implements [keeper.ConnectionStore].
func (k Keeper) Commit(ctx context.Context, fence, generation uint64, next keeper.Connection, events ...keeper.Event) (bool, error) {
	row, err := connectionArgs(next)
	if err != nil {
		return false, err
	}
	args := append([]any{int64(fence), int64(generation)}, row...)
	return k.logs(ctx, commitConnection, next.ID, sealingKeys(&next), events, append(args, intentArgs(next.Intent)...))
}

// Delete implements [keeper.ConnectionStore].
func (k Keeper) Delete(ctx context.Context, id string, fence uint64, event keeper.Event) (bool, error) {
	return k.logs(ctx, deleteConnection, id, int64(fence), []keeper.Event{event}, nil)
}

// when makes a statement about a connection that says whether it was done.
func (k Keeper) when(ctx context.Context, sql, id string, args ...any) (did bool, err error) {
	if !storable(id) {
		return false, nil
	}
	err = k.db.write(ctx, func(ctx context.Context, s session) error {
		return s.QueryRow(ctx, sql, append([]any{id}, args...)...).Scan(&did)
	})
	return did && err == nil, orUnproven(err)
}

// logs is when for a statement with logEvents: it takes the events behind the
// second argument.
func (k Keeper) logs(ctx context.Context, sql, id string, second any, events []keeper.Event, more []any) (bool, error) {
	args := append([]any{second}, keeperEventArgs(events)...)
	did, err := k.when(ctx, sql, id, append(args, more...)...)
	if did && len(events) > 0 {
		k.db.happened()
	}
	return did, err
}

// orUnproven is the error of a write, which says so where the outcome is not
// known: the keeper reads the row then.
func orUnproven(err error) error {
	if outcomeUnknown(err) {
		return unproven(err)
	}
	return err
}
