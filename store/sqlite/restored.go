package sqlite

import (
	"context"
	"time"

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
)

// Restored prepares a restored copy for what happened between its making and
// now, which it cannot know. A grant that was alive may have been refreshed
// meanwhile: its idle expiry moves on by the age of the copy, never beyond its
// absolute end, so that a client who refreshed in time is not logged out. A
// code that was waiting may have been redeemed: it is spent, and the refresh
// token that it may have given is good. Who holds no newer token than the copy
// knows gains the age of the copy as lifetime, and nothing else.
func (db *DB) Restored(ctx context.Context, now time.Time) error {
	return db.writer.do(ctx, whole(func(conn *driver.Conn) error {
		made, err := number(conn, copiedAt)
		if err != nil || made == 0 {
			return err
		}
		if err := run(conn, extendIdle, nil, made, max(0, millis(now)-made)); err != nil {
			return err
		}
		return run(conn, redeemCodes, nil, made, millis(now.Add(revokedFor)))
	}))
}
