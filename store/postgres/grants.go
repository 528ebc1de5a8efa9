package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/store/column"
	"github.com/jackc/pgx/v5"
)

// grantColumns are in the order that scanGrant reads.
const grantColumns = "grants.id, grants.client_id, grants.subject, grants.scope, grants.generation, grants.key_id, grants.created_at," +
	" grants.rotated_at, grants.expires_at, grants.ends_at, grants.access_expires_at, grants.revoked_at, grants.revoked_cause, grants.retries"

const (
	createGrant = `WITH step AS (INSERT INTO grants (id, client_id, subject, scope, generation, key_id, created_at, rotated_at,
		expires_at, ends_at, access_expires_at, revoked_at, revoked_cause, retries, purge_hour)
		VALUES ($10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24) RETURNING id)` + recordStep
	selectGrant  = "SELECT " + grantColumns + " FROM grants WHERE id = $1"
	selectGrants = "SELECT " + grantColumns + " FROM grants WHERE id = ANY ($1::uuid[])"
	revokeGrant  = `WITH step AS (UPDATE grants SET revoked_at = $11, revoked_cause = $12,
		expires_at = CASE WHEN expires_at = 0 AND ends_at = 0 THEN $13 ELSE expires_at END
		WHERE id = $10 AND revoked_at = 0 RETURNING id)` + recordStep
	// countRetry waits for no disk and no standby: many count at once on one row,
	// which each would keep from the next until it is flushed.
	countRetry = `UPDATE grants SET retries = retries + 1 FROM (SELECT set_config('synchronous_commit', 'off', TRUE)) AS hurry WHERE id = $1`

	rotateGrants = "SELECT " + grantColumns + " FROM rotate_grants($1, $2, $3, $4, $5, $6, $7, $8, $9) AS grants"
	// rotateRecorded is the same of one grant, with its event.
	rotateRecorded = `WITH step AS (SELECT * FROM rotate_grants(ARRAY[$10::uuid], ARRAY[$11::text], ARRAY[$12::bigint], ARRAY[$13::bigint],
		ARRAY[$14::bigint], ARRAY[$15::bigint], ARRAY[$16::bigint], ARRAY[$17::bigint], ARRAY[$18::text])), recorded AS (` + recordStep + ") SELECT " + grantColumns + " FROM step AS grants"
)

// CreateGrant implements [issuer.GrantStore]. An id that exists is an error.
func (db *DB) CreateGrant(ctx context.Context, g issuer.Grant, event issuer.Event) error {
	if !storable(g.ClientID, g.Subject, g.Scope.String(), string(g.RevokedCause)) {
		return errText
	}
	_, err := db.record(ctx, createGrant, eventArgs(event,
		[16]byte(g.ID), g.ClientID, g.Subject, g.Scope.String(), int64(g.Generation), int64(g.KeyID),
		column.Millis(g.CreatedAt), column.Millis(g.RotatedAt), column.Millis(g.ExpiresAt), column.Millis(g.EndsAt),
		column.Millis(g.AccessExpiresAt), column.Millis(g.RevokedAt), string(g.RevokedCause), int64(g.Retries),
		column.PurgeHour(g, g.CreatedAt))...)
	if sqlState(err) == uniqueViolation {
		return fmt.Errorf("postgres: grant %s exists: %w", g.ID, err)
	}
	return db.settle(ctx, err, func(ctx context.Context) (bool, error) {
		row, err := db.Grant(ctx, g.ID)
		return row.ClientID == g.ClientID && row.Subject == g.Subject && row.CreatedAt.Equal(column.Stored(g.CreatedAt)), err
	})
}

// Grant implements [issuer.GrantStore].
func (db *DB) Grant(ctx context.Context, id issuer.GrantID) (grant issuer.Grant, err error) {
	err = db.read(ctx, func(ctx context.Context, s session) (err error) {
		grant, err = grantRow(ctx, s, selectGrant, [16]byte(id))
		return err
	})
	return grant, err
}

// Rotate implements [issuer.GrantStore].
func (db *DB) Rotate(ctx context.Context, r issuer.Rotation) (issuer.Grant, bool, error) {
	if err := ctx.Err(); err != nil {
		return issuer.Grant{}, false, err
	}
	switch {
	case !storable(r.Scope.String()):
		return issuer.Grant{}, false, errText
	case !storable(r.ClientID): // no row is such a client's
		grant, err := db.Grant(ctx, r.ID)
		return grant, false, err
	case r.Event != nil:
		return db.rotateRecorded(ctx, r)
	}
	return db.rotation.rotate(ctx, r)
}

// narrowed is the scope that a rotation gives its grant, or nil for NULL, which
// leaves it.
func narrowed(r issuer.Rotation) *string {
	if r.Scope == nil {
		return nil
	}
	scope := r.Scope.String()
	return &scope
}

// rotateRecorded makes a rotation that has an event, in a statement of its own.
func (db *DB) rotateRecorded(ctx context.Context, r issuer.Rotation) (grant issuer.Grant, rotated bool, err error) {
	err = db.write(ctx, func(ctx context.Context, s session) (err error) {
		grant, err = grantRow(ctx, s, rotateRecorded, eventArgs(*r.Event,
			[16]byte(r.ID), r.ClientID, int64(r.From), int64(r.To), int64(r.KeyID),
			column.Millis(r.At), column.Millis(r.ExpiresAt), column.Millis(r.AccessExpiresAt), narrowed(r))...)
		return err
	})
	switch {
	case err == nil:
		db.happened()
		return grant, true, nil
	case outcomeUnknown(err):
		return db.settleRecorded(ctx, r, err)
	case errors.Is(err, issuer.ErrNotFound):
		grant, err = db.Grant(context.WithoutCancel(ctx), r.ID)
	}
	return grant, false, err
}

// rotateGrants makes rotations of grants that are all different, and returns the
// rows of those that applied.
func (db *DB) rotateGrants(ctx context.Context, batch []*rotation) (rows map[issuer.GrantID]issuer.Grant, err error) {
	var clients []string
	var scopes []*string
	var was, becomes, keys, at, expires, accessExpires []int64
	for _, r := range batch {
		clients = append(clients, r.ClientID)
		was, becomes, keys = append(was, int64(r.From)), append(becomes, int64(r.To)), append(keys, int64(r.KeyID))
		at = append(at, column.Millis(r.At))
		expires = append(expires, column.Millis(r.ExpiresAt))
		accessExpires = append(accessExpires, column.Millis(r.AccessExpiresAt))
		scopes = append(scopes, narrowed(r.Rotation))
	}
	err = db.write(ctx, func(ctx context.Context, s session) (err error) {
		rows, err = byID(all(ctx, s, rotateGrants, []any{ids(batch), clients, was, becomes, keys, at, expires, accessExpires, scopes}, scanGrant))
		return err
	})
	return rows, err
}

// grantRows reads the grants of rotations.
func (db *DB) grantRows(ctx context.Context, batch []*rotation) (rows map[issuer.GrantID]issuer.Grant, err error) {
	err = db.read(ctx, func(ctx context.Context, s session) (err error) {
		rows, err = byID(all(ctx, s, selectGrants, []any{ids(batch)}, scanGrant))
		return err
	})
	return rows, err
}

func ids(batch []*rotation) [][16]byte {
	ids := make([][16]byte, len(batch))
	for i, r := range batch {
		ids[i] = r.ID
	}
	return ids
}

func byID(grants []issuer.Grant, err error) (map[issuer.GrantID]issuer.Grant, error) {
	rows := make(map[issuer.GrantID]issuer.Grant, len(grants))
	for _, g := range grants {
		rows[g.ID] = g
	}
	return rows, err
}

// Retried implements [issuer.GrantStore].
func (db *DB) Retried(ctx context.Context, id issuer.GrantID) error {
	return db.write(ctx, func(ctx context.Context, s session) error {
		_, err := s.Exec(ctx, countRetry, [16]byte(id))
		return err
	})
}

// Revoke implements [issuer.GrantStore].
func (db *DB) Revoke(ctx context.Context, id issuer.GrantID, at time.Time, event issuer.Event) (bool, error) {
	if !storable(string(event.Cause)) {
		return false, errText
	}
	revoked, err := db.record(ctx, revokeGrant, eventArgs(event,
		[16]byte(id), column.Millis(at), string(event.Cause), column.Millis(at.Add(column.RevokedFor)))...)
	switch {
	case outcomeUnknown(err):
		return db.settleRevocation(ctx, id, at, event.Cause, err)
	case err == nil && revoked == 0:
		_, err = db.Grant(context.WithoutCancel(ctx), id)
	}
	return revoked > 0, err
}

// grantRow is the one row of a query, or ErrNotFound.
func grantRow(ctx context.Context, s session, query string, args ...any) (issuer.Grant, error) {
	rows, err := s.Query(ctx, query, args...)
	if err != nil {
		return issuer.Grant{}, err
	}
	grant, err := pgx.CollectExactlyOneRow(rows, scanGrant)
	if errors.Is(err, pgx.ErrNoRows) {
		err = issuer.ErrNotFound
	}
	return grant, err
}

func scanGrant(row pgx.CollectableRow) (g issuer.Grant, err error) {
	var scope string
	var created, rotated, expires, ends, accessExpires, revoked int64
	err = row.Scan((*[16]byte)(&g.ID), &g.ClientID, &g.Subject, &scope, &g.Generation, &g.KeyID, &created, &rotated,
		&expires, &ends, &accessExpires, &revoked, (*string)(&g.RevokedCause), &g.Retries)
	g.Scope = column.Scope(scope)
	g.CreatedAt, g.RotatedAt = column.Time(created), column.Time(rotated)
	g.ExpiresAt, g.EndsAt = column.Time(expires), column.Time(ends)
	g.AccessExpiresAt, g.RevokedAt = column.Time(accessExpires), column.Time(revoked)
	return g, err
}
