package issuer

import (
	"context"
	"errors"
	"time"

	"github.com/evergrant/evergrant/secret"
)

// Errors that stores return. Any other one is a defect, and answered as
// server_error. After any error but ErrNotFound the outcome is not known, and
// the same request can be made again.
var (
	// ErrNotFound says that there is no such row.
	ErrNotFound = errors.New("issuer: not found")
	// ErrUnavailable is wrapped by errors of a database that is read-only, full,
	// locked or unreachable. Nothing is half done.
	ErrUnavailable = errors.New("issuer: the database is unavailable")
)

// Store is what a [Server] persists. Every method is one atomic intent: all of
// it happened durably before the method returns nil, or none of it is seen.
// Every method may be called concurrently, and sees what any earlier call that
// has returned, by whatever process, did.
type Store interface {
	GrantStore
	Registry
	Importer
	UseStore
	secret.KeyStore
}

// GrantStore keeps grants, revoked access tokens and events. No method touches
// two grants.
type GrantStore interface {
	// CreateGrant stores a new grant and an event.
	CreateGrant(ctx context.Context, grant Grant, event Event) error
	// Grant reads one grant, or ErrNotFound.
	Grant(ctx context.Context, id GrantID) (Grant, error)
	// Rotate is a compare-and-set: if the grant belongs to the rotation's client,
	// is at generation From, is not revoked, and neither ExpiresAt nor EndsAt has
	// come at time At, it is now at generation To with the rotation's key, times
	// and, where it has one, scope, its expiries capped at EndsAt, and true is
	// returned with the new row. Otherwise nothing changed and the row as it stands is returned with
	// false. ErrNotFound where there is no row. Of concurrent calls with equal
	// From exactly one gets true.
	Rotate(ctx context.Context, rotation Rotation) (Grant, bool, error)
	// Retried counts an answer that was given again. It may return before it is
	// durable, and a failure loses no more than the count.
	Retried(ctx context.Context, id GrantID) error
	// Revoke ends a grant, unless it is revoked already, at a time for
	// event.Cause, and records the event. It reports whether it did. A grant
	// that never expires expires 30 days later, to be purged. ErrNotFound where
	// there is no row.
	Revoke(ctx context.Context, id GrantID, at time.Time, event Event) (bool, error)
	// RevokeAccessToken remembers the jti of an access token until it expires,
	// and records the event unless it was remembered already.
	RevokeAccessToken(ctx context.Context, jti string, expires time.Time, event Event) error
	// AccessTokenRevoked reports whether a jti is remembered.
	AccessTokenRevoked(ctx context.Context, jti string) (bool, error)
	// Record appends to the event log.
	Record(ctx context.Context, event Event) error
	// Purge deletes, in small batches until the context ends or nothing is left,
	// grants whose ExpiresAt (or EndsAt) and AccessExpiresAt have both come by a
	// time, jtis of access tokens that expired before it, and events from before
	// eventsBefore. It never deletes a grant that can still be used at that time.
	Purge(ctx context.Context, before, eventsBefore time.Time) (Purged, error)
}

// Purged counts deleted rows.
type Purged struct {
	Grants       int `json:"grants"`
	AccessTokens int `json:"access_tokens"` // revoked ones that expired
	Events       int `json:"events"`
}

// Registry keeps clients and users.
type Registry interface {
	// Client reads one client, or ErrNotFound.
	Client(ctx context.Context, id string) (Client, error)
	// PutClient creates or replaces a client and records the event.
	PutClient(ctx context.Context, client Client, event Event) error
	// DeleteClient deletes a client and records the event, or ErrNotFound.
	DeleteClient(ctx context.Context, id string, event Event) error
	// User reads one user by name, or ErrNotFound.
	User(ctx context.Context, username string) (User, error)
	// PutUser creates or replaces a user and records the event.
	PutUser(ctx context.Context, user User, event Event) error
	// DeleteUser deletes a user and records the event, or ErrNotFound.
	DeleteUser(ctx context.Context, username string, event Event) error
	// RehashClient puts a verifier in the place of another one of the same client,
	// if that is still there, and records the event. It reports whether it did.
	// ErrNotFound where there is no client.
	RehashClient(ctx context.Context, id string, old, verifier secret.Verifier, event Event) (bool, error)
	// RehashUser does the same with a user's password.
	RehashUser(ctx context.Context, username string, old, verifier secret.Verifier, event Event) (bool, error)
}
