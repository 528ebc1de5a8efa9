package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/store/column"
	"github.com/jackc/pgx/v5/pgconn"
)

// Codes of PostgreSQL, appendix A.
const (
	uniqueViolation = "23505"
	readOnly        = "25006"
	serialization   = "40001"
	unknownOutcome  = "40003"
	deadlock        = "40P01"
	undefinedColumn = "42703"
	noPrivilege     = "42501"
	noSchema        = "3F000"
	lockTimeout     = "55P03"
)

// sqlState is the code of an error that the server gave, or "".
func sqlState(err error) string {
	if failure, ok := errors.AsType[*pgconn.PgError](err); ok {
		return failure.Code
	}
	return ""
}

// notBegun is why there was no connection for a statement.
type notBegun struct{ error }

func (e notBegun) Error() string { return "no connection: " + e.error.Error() }

func (e notBegun) Unwrap() error { return e.error }

// SafeToRetry is what [pgconn.SafeToRetry] asks for.
func (notBegun) SafeToRetry() bool { return true }

// rolledBack is why a transaction was not committed: its connection broke before
// that was asked for.
type rolledBack struct{ error }

func (e rolledBack) Unwrap() error { return e.error }

// neverDone reports whether a statement certainly was not done. Where pgx says
// that the connection was closed, which it takes for safe, it may have found out
// when it read the answer: so it does of statements without arguments, as a
// commit is.
func neverDone(err error) bool {
	_, unconnected := errors.AsType[notBegun](err)
	_, uncommitted := errors.AsType[rolledBack](err)
	return unconnected || uncommitted || pgconn.SafeToRetry(err) && !errors.Is(err, pgconn.ErrConnClosed)
}

// again reports whether a statement was certainly not done, and may succeed if it
// is begun anew.
func again(err error) bool {
	switch sqlState(err) {
	case deadlock, serialization, readOnly:
		return true
	}
	return neverDone(err)
}

// outcomeUnknown reports whether a statement that failed may have been done, or
// be done yet. The server's word that it failed settles that, unless the
// connection ended with it: that may have been while it was being committed.
func outcomeUnknown(err error) bool {
	if err == nil || neverDone(err) {
		return false
	}
	failure, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return broken(err)
	}
	severity := failure.SeverityUnlocalized
	if severity == "" {
		severity = failure.Severity
	}
	return severity != "ERROR" || failure.Code == unknownOutcome || failure.Code[:min(2, len(failure.Code))] == "08"
}

// broken reports whether an error is one of the connection, of which the server
// said nothing.
func broken(err error) bool {
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	_, network := errors.AsType[net.Error](err)
	return connecting || network || pgconn.SafeToRetry(err) || pgconn.Timeout(err) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// classify makes errors of a database that cannot serve at the moment
// unavailable, and leaves all others as they are: what the stores answer, and
// the server's about a statement.
func classify(err error) error {
	if outcomeUnknown(err) {
		return unavailable(err)
	}
	if state := sqlState(err); len(state) == 5 {
		switch state[:2] {
		// Connection, transaction state, rollback, resources, object state,
		// intervention, system, internal, authorization, database.
		case "08", "25", "40", "53", "55", "57", "58", "XX", "28", "3D":
			return unavailable(err)
		}
		return err
	}
	if err != nil && broken(err) {
		return unavailable(err)
	}
	return err
}

func unavailable(err error) error {
	if errors.Is(err, issuer.ErrUnavailable) {
		return err
	}
	return column.Unavailable(err, issuer.ErrUnavailable, keeper.ErrUnavailable)
}

// unproven is the error of a write of which the row does not tell whether it was
// done.
func unproven(err error) error {
	return fmt.Errorf("whether it was written is not known: ask again: %w", err)
}

// settleRotation reads from a grant's row what became of a rotation whose outcome
// is not known. At its generation To the row says it, by the key, the scope and the
// times: where they are of an equal step that another process made, its tokens are
// the same. Anywhere else the step may be made yet, or have been made before the row
// went on.
func settleRotation(r issuer.Rotation, row issuer.Grant, cause error) (issuer.Grant, bool, error) {
	if row.Generation != r.To {
		return issuer.Grant{}, false, unproven(cause)
	}
	made := column.Rotated(row, r)
	ours := row.ClientID == r.ClientID && row.KeyID == made.KeyID && row.RotatedAt.Equal(made.RotatedAt) &&
		row.ExpiresAt.Equal(made.ExpiresAt) && row.AccessExpiresAt.Equal(made.AccessExpiresAt) &&
		slices.Equal(row.Scope, made.Scope)
	return row, ours, nil
}

// settleRecorded is settleRotation of a rotation that has an event.
func (db *DB) settleRecorded(ctx context.Context, r issuer.Rotation, cause error) (issuer.Grant, bool, error) {
	row, err := db.Grant(context.WithoutCancel(ctx), r.ID)
	if errors.Is(err, issuer.ErrNotFound) {
		return row, false, err
	}
	if err != nil {
		return issuer.Grant{}, false, unproven(cause)
	}
	row, made, err := settleRotation(r, row, cause)
	if made {
		db.happened()
	}
	return row, made, err
}

// settleRevocation reads whether a grant was revoked at a time for a reason, where
// that is not known.
func (db *DB) settleRevocation(ctx context.Context, id issuer.GrantID, at time.Time, why issuer.Cause, cause error) (bool, error) {
	row, err := db.Grant(context.WithoutCancel(ctx), id)
	switch {
	case errors.Is(err, issuer.ErrNotFound):
		return false, err
	case err != nil || row.RevokedAt.IsZero():
		return false, unproven(cause)
	}
	ours := row.RevokedAt.Equal(column.Stored(at)) && row.RevokedCause == why
	if ours {
		db.happened()
	}
	return ours, nil
}
