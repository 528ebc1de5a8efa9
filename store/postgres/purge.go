package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/store/column"
	"github.com/jackc/pgx/v5"
)

const (
	// purgeBatch is how many rows one transaction looks at, so that whoever
	// refreshes one of them meanwhile waits no more than some milliseconds.
	purgeBatch = 200
	// purgeKey is the advisory lock of whoever purges.
	purgeKey = migrateKey + 1

	// dueGrants are rows that may be dead, in an order in which none is met twice
	// though others are moved meanwhile. One that somebody is changing is no dead
	// one, and nobody is waited for, so that nobody waits in a circle.
	dueGrants = `SELECT id, purge_hour, expires_at, ends_at, access_expires_at FROM grants
		WHERE purge_hour <= $1 AND (purge_hour, id) > ($2, $3) ORDER BY purge_hour, id LIMIT $4 FOR UPDATE SKIP LOCKED`
	deleteDead = `DELETE FROM grants WHERE id = ANY ($1::uuid[]) AND access_expires_at <= $2
		AND (expires_at <> 0 AND expires_at <= $2 OR ends_at <> 0 AND ends_at <= $2)`
	postpone = `UPDATE grants SET purge_hour = alive.hour FROM unnest($1::uuid[], $2::bigint[]) AS alive (id, hour)
		WHERE grants.id = alive.id AND grants.purge_hour <> alive.hour`
	purgeAccessTokens = `DELETE FROM revoked_access_tokens WHERE jti = ANY (ARRAY
		(SELECT jti FROM revoked_access_tokens WHERE expires_at <= $2 ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED))`
	purgeNames = `DELETE FROM once WHERE name = ANY (ARRAY
		(SELECT name FROM once WHERE until <= $2 ORDER BY until LIMIT $1 FOR UPDATE SKIP LOCKED))`
	// purgeEvents and purgeDeliveries leave what webhooks have not done with yet
	// until a second time, $3.
	purgeEvents = `DELETE FROM events WHERE id = ANY (ARRAY (SELECT id FROM events
		WHERE at < $2 AND (at < $3 OR id <= coalesce((SELECT event FROM planned), id)) ORDER BY at LIMIT $1 FOR UPDATE SKIP LOCKED))`
	purgeDeliveries = `DELETE FROM deliveries WHERE id = ANY (ARRAY (SELECT id FROM deliveries
		WHERE created_at < $2 AND (created_at < $3 OR next_at = 0) ORDER BY created_at LIMIT $1 FOR UPDATE SKIP LOCKED))`
)

// abandonedFor is how much longer than other events those are kept for which
// webhooks have not been planned, and deliveries that are neither done nor given
// up. Webhooks that were taken out of the configuration do not keep them for
// ever.
const abandonedFor = 30 * 24 * time.Hour

// errPurged ends a purge that another process has taken over.
var errPurged = errors.New("postgres: another process purges")

// Purge implements [issuer.GrantStore], for both halves and webhooks. Each batch
// is a transaction of its own. Where it meets another process that purges, it
// leaves the rest to that one, which goes through all kinds of rows. It counts
// what it deleted even where it fails or the context ends.
func (db *DB) Purge(ctx context.Context, before, eventsBefore time.Time) (purged issuer.Purged, err error) {
	abandoned := eventsBefore.Add(-abandonedFor)
	var others int // are not counted
	for _, rows := range []struct {
		count *int
		batch batch
	}{
		{&purged.Grants, grantBatch(before)},
		{&purged.AccessTokens, rowBatch(purgeAccessTokens, before)},
		{&others, rowBatch(purgeNames, before)},
		{&others, rowBatch(purgeDeliveries, eventsBefore, abandoned)},
		{&purged.Events, rowBatch(purgeEvents, eventsBefore, abandoned)},
	} {
		err := db.purgeBatches(ctx, rows.count, rows.batch)
		if errors.Is(err, errPurged) {
			return purged, nil
		}
		if err != nil {
			return purged, err
		}
	}
	return purged, nil
}

// batch looks at purgeBatch rows at most, those after one where they have an
// order, and deletes some or all of them.
type batch func(ctx context.Context, s session, after due) (looked, deleted int, last due, err error)

// purgeBatches repeats a batch until there is no full one, and counts what it
// deleted.
func (db *DB) purgeBatches(ctx context.Context, count *int, next batch) error {
	var last due
	for {
		var looked, deleted int
		var to due
		err := db.transact(ctx, func(ctx context.Context, s session) error {
			var alone bool
			err := s.QueryRow(ctx, "SELECT pg_try_advisory_xact_lock($1)", int64(purgeKey)).Scan(&alone)
			if err == nil && !alone {
				err = errPurged
			}
			if err == nil {
				looked, deleted, to, err = next(ctx, s, last)
			}
			return err
		})
		if err != nil {
			return err
		}
		*count += deleted
		if looked < purgeBatch {
			return nil
		}
		last = to
	}
}

// rowBatch is a query that deletes rows by times, as many as its first argument
// says.
func rowBatch(query string, times ...time.Time) batch {
	args := []any{purgeBatch}
	for _, t := range times {
		args = append(args, column.Millis(t))
	}
	return func(ctx context.Context, s session, _ due) (looked, deleted int, _ due, err error) {
		tag, err := s.Exec(ctx, query, args...)
		deleted = int(tag.RowsAffected())
		return deleted, deleted, due{}, err
	}
}

// due is a grant that purging looks at: its id and expiries alone.
type due struct {
	hour  int64
	grant issuer.Grant
}

func scanDue(row pgx.CollectableRow) (d due, err error) {
	var expires, ends, access int64
	err = row.Scan((*[16]byte)(&d.grant.ID), &d.hour, &expires, &ends, &access)
	d.grant.ExpiresAt, d.grant.EndsAt, d.grant.AccessExpiresAt = column.Time(expires), column.Time(ends), column.Time(access)
	return d, err
}

// grantBatch deletes dead grants, and puts off the others that it meets until they
// can next be dead.
func grantBatch(before time.Time) batch {
	return func(ctx context.Context, s session, after due) (looked, deleted int, last due, err error) {
		met, err := all(ctx, s, dueGrants, []any{column.UnixHour(before), after.hour, [16]byte(after.grant.ID), purgeBatch}, scanDue)
		if err != nil || len(met) == 0 {
			return 0, 0, after, err
		}
		var ids [][16]byte
		var hours []int64
		for _, d := range met {
			ids, hours = append(ids, d.grant.ID), append(hours, column.PurgeHour(d.grant, before))
		}
		tag, err := s.Exec(ctx, deleteDead, ids, column.Millis(before))
		if err == nil {
			_, err = s.Exec(ctx, postpone, ids, hours) // those that are left
		}
		return len(met), int(tag.RowsAffected()), met[len(met)-1], err
	}
}
