package sqlite

import (
	"context"
	"slices"
	"time"

	"github.com/evergrant/evergrant/store/column"
	driver "zombiezen.com/go/sqlite"
)

const (
	// copiedAt is when the copy was made: its newest event, for a backup
	// records one before it begins.
	copiedAt = "SELECT max(at) FROM events"
	// extendIdle moves on what may have slid since the copy was made. Grants that
	// were over by then stay over.
	extendIdle = `UPDATE grants SET
		expires_at = CASE WHEN ends_at <> 0 AND expires_at + ?2 > ends_at THEN ends_at ELSE expires_at + ?2 END
		WHERE revoked_at = 0 AND generation > 0 AND expires_at > ?1`
	// redeemCodes counts codes that were about to be redeemed as redeemed.
	redeemCodes = `UPDATE grants SET generation = 1,
		expires_at = CASE WHEN ends_at <> 0 AND ?2 > ends_at THEN ends_at ELSE ?2 END
		WHERE revoked_at = 0 AND generation = 0 AND expires_at > ?1`
	// doubtConnections concerns those whose refresh token may have been sent since
	// the copy was made. Whether the provider minds, the keeper knows.
	doubtConnections = `UPDATE connections SET state = 'in_doubt', cause = 'restored', since = ?1, due_at = ?2, updated_at = ?2
		WHERE state = 'in_doubt' OR state = 'active' AND
			(refreshable OR number IN (SELECT connection FROM journal WHERE request_id IS NOT NULL))
		RETURNING id`
	// doubtPaused concerns those that were paused when the copy was made, and may
	// have been resumed since: their cause says what ends the pause.
	doubtPaused = `UPDATE connections SET cause = 'restored', since = ?1, updated_at = ?2
		WHERE state = 'paused' AND cause IN ('', 'operator_request', 'answer_lost', 'answer_unreadable', 'interrupted') AND
			(refreshable OR number IN (SELECT connection FROM journal WHERE request_id IS NOT NULL))`
	endLeases = "UPDATE journal SET lease_until = 0 WHERE lease_until > 0"
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
func (db *DB) Restored(ctx context.Context, now time.Time) ([]string, error) {
	var doubtful []string // read only after the writer has answered
	err := db.writer.do(ctx, whole(func(conn *driver.Conn) error {
		made, err := number(conn, copiedAt)
		if err != nil {
			return err
		}
		if made != 0 {
			if err := run(conn, extendIdle, nil, made, max(0, column.Millis(now)-made)); err != nil {
				return err
			}
			if err := run(conn, redeemCodes, nil, made, now.Add(column.RevokedFor)); err != nil {
				return err
			}
		}
		if err := run(conn, endLeases, nil); err != nil {
			return err
		}
		if err := run(conn, doubtPaused, nil, made, now); err != nil {
			return err
		}
		doubtful, err = texts(conn, doubtConnections, made, now)
		return err
	}))
	if err != nil {
		return nil, err
	}
	slices.Sort(doubtful)
	return doubtful, nil
}
