package postgres

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/store/column"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	eventColumns = "at, type, grant_id, client_id, subject, actor, address, cause, detail"
	// eventValues are eventColumns of an event whose eventArgs are the first
	// arguments of the statement; what else it takes begins with $10.
	eventValues = "$1::bigint, $2::text, $3::uuid, $4::text, $5::text, $6::text, $7::text, $8::text, $9::text"
	insertEvent = "INSERT INTO events (" + eventColumns + ") VALUES (" + eventValues + ")"
	// recordStep records an event for each row that a common table expression with
	// the name of step gave: for none where the step was not made.
	recordStep = " INSERT INTO events (" + eventColumns + ") SELECT " + eventValues + " FROM step"

	revokeAccessToken = `WITH step AS (INSERT INTO revoked_access_tokens (jti, expires_at) VALUES ($10, $11)
		ON CONFLICT (jti) DO NOTHING RETURNING jti)` + recordStep
	accessTokenRevoked = "SELECT EXISTS (SELECT FROM revoked_access_tokens WHERE jti = $1)"
)

// errText refuses what no PostgreSQL database holds as text.
var errText = errors.New("postgres: text that has a NUL or is not UTF-8 cannot be stored")

// storable reports whether PostgreSQL can hold a text. No row has one that it
// cannot.
func storable(texts ...string) bool {
	for _, text := range texts {
		if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			return false
		}
	}
	return true
}

// clean is a text as events keep it, which may have come from anybody.
func clean(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

// eventArgs are the arguments of eventValues, and more that come after them.
func eventArgs(e issuer.Event, more ...any) []any {
	var grant any // NULL, and out of the index, where the event is of no grant
	if !e.Grant.IsZero() {
		grant = [16]byte(e.Grant)
	}
	return append([]any{
		column.Millis(e.At), clean(e.Type), grant, clean(e.ClientID), clean(e.Subject), clean(e.Actor), clean(e.Address),
		clean(string(e.Cause)), clean(e.Detail),
	}, more...)
}

// scanEvent reads eventColumns and the id, and more columns that come after them.
func scanEvent(row pgx.CollectableRow, more ...any) (e issuer.Event, err error) {
	var at int64
	var grant pgtype.UUID // zero where it is NULL
	err = row.Scan(append([]any{
		&at, &e.Type, &grant, &e.ClientID, &e.Subject, &e.Actor, &e.Address, (*string)(&e.Cause), &e.Detail, &e.ID,
	}, more...)...)
	e.At, e.Grant = column.Time(at), grant.Bytes
	return e, err
}

// Record implements [issuer.GrantStore].
func (db *DB) Record(ctx context.Context, event issuer.Event) error {
	_, err := db.record(ctx, insertEvent, eventArgs(event)...)
	return err
}

// record makes a statement that ends by recording events, tells who listens for
// them, and gives how many they are.
func (db *DB) record(ctx context.Context, sql string, args ...any) (events int64, err error) {
	err = db.write(ctx, func(ctx context.Context, s session) error {
		tag, err := s.Exec(ctx, sql, args...)
		events = tag.RowsAffected()
		return err
	})
	if err == nil && events > 0 {
		db.happened()
	}
	return events, err
}

// settle answers a write whose outcome is not known: it was made if what is read
// says so.
func (db *DB) settle(ctx context.Context, cause error, made func(ctx context.Context) (bool, error)) error {
	if !outcomeUnknown(cause) {
		return cause
	}
	if is, err := made(context.WithoutCancel(ctx)); err != nil || !is {
		return unproven(cause)
	}
	db.happened()
	return nil
}

// RevokeAccessToken implements [issuer.GrantStore].
func (db *DB) RevokeAccessToken(ctx context.Context, jti string, expires time.Time, event issuer.Event) error {
	if !storable(jti) {
		return errText
	}
	_, err := db.record(ctx, revokeAccessToken, eventArgs(event, jti, column.Millis(expires))...)
	return db.settle(ctx, err, func(ctx context.Context) (bool, error) { return db.AccessTokenRevoked(ctx, jti) })
}

// AccessTokenRevoked implements [issuer.GrantStore].
func (db *DB) AccessTokenRevoked(ctx context.Context, jti string) (revoked bool, err error) {
	if !storable(jti) {
		return false, nil
	}
	err = db.read(ctx, func(ctx context.Context, s session) error {
		return s.QueryRow(ctx, accessTokenRevoked, jti).Scan(&revoked)
	})
	return revoked, err
}
