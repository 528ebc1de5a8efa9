package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/evergrant/evergrant/store/column"
	"github.com/jackc/pgx/v5"
)

const (
	// copiedAt is when the copy was made: its newest event.
	copiedAt = "SELECT coalesce(max(at), 0) FROM events"
	// extendIdle moves on what may have slid since the copy was made. Grants that
	// were over by then stay over.
	extendIdle = `UPDATE grants SET
		expires_at = CASE WHEN ends_at <> 0 AND expires_at + $2 > ends_at THEN ends_at ELSE expires_at + $2 END
		WHERE revoked_at = 0 AND generation > 0 AND expires_at > $1`
	// redeemCodes counts codes that were about to be redeemed as redeemed.
	redeemCodes = `UPDATE grants SET generation = 1,
		expires_at = CASE WHEN ends_at <> 0 AND $2 > ends_at THEN ends_at ELSE $2 END
		WHERE revoked_at = 0 AND generation = 0 AND expires_at > $1`
	endLeases = "UPDATE journal SET lease_until = 0 WHERE lease_until > 0"
	// doubtPaused concerns those that were paused when the copy was made, and may
	// have been resumed since: their cause says what ends the pause.
	doubtPaused = `UPDATE connections SET cause = 'restored', since = $1, updated_at = $2
		WHERE state = 'paused' AND cause IN ('', 'operator_request', 'answer_lost', 'answer_unreadable', 'interrupted') AND
			(refreshable OR EXISTS (SELECT FROM journal WHERE connection = id AND request_id IS NOT NULL))`
	// doubtConnections concerns those whose refresh token may have been sent since
	// the copy was made. Whether the provider minds, the keeper knows.
	doubtConnections = `UPDATE connections SET state = 'in_doubt', cause = 'restored', since = $1, due_at = $2, updated_at = $2
		WHERE state = 'in_doubt' OR state = 'active' AND
			(refreshable OR EXISTS (SELECT FROM journal WHERE connection = id AND request_id IS NOT NULL))
		RETURNING id`
)

// Restored prepares a restored copy for what happened between its making and
// now, which it cannot know. A grant that was alive may have been refreshed
// meanwhile: its idle expiry moves on by the age of the copy, never beyond its
// absolute end, so that a client who refreshed in time is not logged out. A
// code that was waiting may have been redeemed: it is spent, and the refresh
// token that it may have given is good. Who holds no newer token than the copy
// knows gains the age of the copy as lifetime, and nothing else.
//
// A connection may have been refreshed meanwhile, too, and its refresh token be
// spent: it is in doubt since the copy was made, and due now, for the keeper to
// see what can be done. The ids of those are returned, in order. One that is
// paused is in doubt when it is resumed, and those that wait for their owner stay
// as they are.
//
// All of it is one transaction, which takes as long as so many rows need: it has
// no deadline but the context's.
func (db *DB) Restored(ctx context.Context, now time.Time) (doubtful []string, err error) {
	err = pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		var made int64
		if err := tx.QueryRow(ctx, copiedAt).Scan(&made); err != nil {
			return err
		}
		at := column.Millis(now)
		if made != 0 {
			if _, err := tx.Exec(ctx, extendIdle, made, max(0, at-made)); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, redeemCodes, made, column.Millis(now.Add(column.RevokedFor))); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, endLeases); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, doubtPaused, made, at); err != nil {
			return err
		}
		doubtful, err = all(ctx, tx, doubtConnections, []any{made, at}, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return nil, classify(err)
	}
	slices.Sort(doubtful)
	return doubtful, nil
}
