package postgres

import (
	"context"
	"encoding/json"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/jackc/pgx/v5"
)

const (
	// horizon is the id up to which all events have been committed that ever will
	// be. A transaction that is at work holds a lock whose key is an id that all of
	// its own are above (next_event in schema.go). The last id is read before the
	// locks, as the inner query asks for it: who took that id or a lower one has
	// shown a lock by then, and still holds it unless its events can be seen by
	// whatever statement comes next.
	horizon = `SELECT coalesce((
		SELECT min(l.below) FROM (
			SELECT ((classid::bigint & 65535) << 32) + objid::bigint AS below FROM pg_locks
			WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >> 16 = 17782
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
		) AS l WHERE l.below < e.last_value
	), e.last_value) FROM event_numbers AS e`
	// feed is a statement of its own, so that it sees all that was committed when
	// the horizon was read.
	feed = "SELECT " + allColumns + " FROM events WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3"
)

// Feed implements [hook.Store]. An event is in it only when no lower id can
// appear any more, so that who reads on from the last one passes over none.
func (db *DB) Feed(ctx context.Context, after int64, limit int) (events []hook.Event, err error) {
	err = db.read(ctx, func(ctx context.Context, s session) error {
		var to int64
		if err := s.QueryRow(ctx, horizon).Scan(&to); err != nil || to <= after {
			return err
		}
		events, err = all(ctx, s, feed, []any{after, to, limit}, scanEntry)
		return err
	})
	return events, err
}

// scanEntry reads allColumns, of an event of either half.
func scanEntry(row pgx.CollectableRow) (hook.Event, error) {
	of, err := scanEvent(row, nil, nil, nil, nil, nil)
	var entry any = of
	if err == nil && row.RawValues()[10] != nil { // of a connection, or of a provider
		entry, err = scanKeeperEvent(row)
	}
	if err != nil {
		return hook.Event{}, err
	}
	text, err := json.Marshal(entry)
	return hook.Event{ID: of.ID, At: of.At, Type: of.Type, Document: text}, err
}

// LastEvent implements [hook.Store]: the last that Feed does not wait for.
func (db *DB) LastEvent(ctx context.Context) (id int64, err error) {
	err = db.read(ctx, func(ctx context.Context, s session) error {
		return s.QueryRow(ctx, horizon).Scan(&id)
	})
	return id, err
}
