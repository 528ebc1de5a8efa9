package keeper

import (
	"context"
	"errors"
	"time"

	"github.com/evergrant/evergrant/secret"
)

// Errors that stores return. After any other error the outcome is not known,
// and the same request can be made again.
var (
	// ErrNotFound says that there is no such row.
	ErrNotFound = errors.New("keeper: not found")
	// ErrExists says that the id is taken.
	ErrExists = errors.New("keeper: a connection with this id exists")
	// ErrUnavailable is wrapped by errors of a database that is read-only, full,
	// locked or unreachable. Nothing is half done.
	ErrUnavailable = errors.New("keeper: the database is unavailable")
)

// Store is what a [Keeper] persists. Every method is one atomic intent: all of
// it happened durably before the method returns nil, or none of it is seen.
// Every method may be called concurrently, and sees what any earlier call that
// has returned, by whatever process, did.
type Store interface {
	ConnectionStore
	EventStore
}

// ConnectionStore keeps connections. No method touches two of them. A row is
// changed only by the holder of its lease, but for Answer. Where there is no row
// any more, nothing is the row's: the answer is false. Times are kept to the
// millisecond, and numbers in Metadata come back as json.Number.
type ConnectionStore interface {
	// Create stores a new connection and an event. ErrExists where the id is
	// taken. Its fence begins at the time of creation in milliseconds, whatever
	// c.Fence is: above those of an earlier connection with this id, so that who
	// held a lease on that one cannot change this one.
	Create(ctx context.Context, c Connection, event Event) error
	// Connection reads one connection with its open intent, or ErrNotFound.
	Connection(ctx context.Context, id string) (Connection, error)
	// Lease takes the right to change a connection: if its lease is over at a
	// time, the fence is raised by one, the lease lasts until another time, and
	// true is returned with the row as it is now. Otherwise nothing changed and
	// the row is returned with false. ErrNotFound where there is no row.
	Lease(ctx context.Context, id string, at, until time.Time) (Connection, bool, error)
	// Begin stores an intent in place of any that is open, and extends the lease,
	// if the fence and the intent's generation are the row's. False where they
	// are not, and nothing changed. The connection becomes due when that lease
	// ends, if it is not due before: should the process end, the background finds
	// the intent while a replay window is open.
	Begin(ctx context.Context, id string, fence uint64, intent Intent, leaseUntil time.Time) (bool, error)
	// Answer adds the sealed answer to the open intent with a request id,
	// whatever the fence is: an answer that comes late is still the only copy of
	// its tokens. False where that intent is not open any more.
	Answer(ctx context.Context, id, requestID string, answer secret.Sealed) (bool, error)
	// Commit puts next in place of the row, with next.Intent as its open intent,
	// or none where nil, ends the lease, and stores the events; if fence and
	// generation are the row's. False where they are not, and nothing changed. An
	// answer that the open intent has stays where next.Intent is of the same request
	// and has none: it came after the row was read.
	Commit(ctx context.Context, fence, generation uint64, next Connection, events ...Event) (bool, error)
	// Delete removes a connection with its intent and stores an event, if the
	// fence is the row's.
	Delete(ctx context.Context, id string, fence uint64, event Event) (bool, error)
	// Due lists connections that are due at a time and not leased then, the
	// longest due first, at most limit, of the providers named or of all.
	Due(ctx context.Context, at time.Time, limit int, providers ...string) ([]Due, error)
	// Stale lists ids of connections whose tokens or answer are sealed under a
	// key below the given one, at most limit, in order, after an id.
	Stale(ctx context.Context, key uint32, after string, limit int) ([]string, error)
}

// EventStore keeps the log and what must not happen twice.
type EventStore interface {
	// Record stores an event of a provider, unless the newest event of that
	// provider which is of one of the types is of the same type. It reports
	// whether it did. So replicas that see the same outage raise one alarm.
	Record(ctx context.Context, event Event, types ...string) (bool, error)
	// Once remembers a name until a time, and reports whether it is new.
	Once(ctx context.Context, name string, at, until time.Time) (bool, error)
	// Events lists events, newest first, or oldest first where the filter says so.
	Events(ctx context.Context, filter EventFilter) ([]Event, error)
}

// EventFilter chooses events. Empty fields do not choose.
type EventFilter struct {
	Connection string
	Provider   string
	Tenant     *string // nil for all
	After      int64   // ids above it, oldest first; for listing what is new
	Before     int64   // ids below it, newest first
	Limit      int     // at most 1,000; 100 where 0
}

// Lists are the queries of people, apart from the protocol's.
type Lists interface {
	// Connections lists connections by id, without what is sealed: the tokens and
	// the answer of an open intent.
	Connections(ctx context.Context, filter Filter) ([]Connection, error)
	// Counts counts connections by provider and state.
	Counts(ctx context.Context) (map[string]map[State]int, error)
}

// Filter chooses connections. Empty fields do not choose.
type Filter struct {
	Provider string
	Owner    string
	State    State
	Tenant   *string // nil for all
	After    string  // ids above it
	Limit    int     // at most 1,000; 100 where 0
}
