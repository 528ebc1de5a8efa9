package issuer

import "context"

// Lists are the queries of administration, apart from the protocol's Store.
// Results come in a stable order, at most Limit at once (100 where it is 0, and
// never above 1000); the next page begins after the last one's key.
type Lists interface {
	// Clients are in the order of their ids, beginning after one.
	Clients(ctx context.Context, after string, limit int) ([]Client, error)
	// Users are in the order of their names, beginning after one.
	Users(ctx context.Context, after string, limit int) ([]User, error)
	// Grants are in the order of their ids.
	Grants(ctx context.Context, filter GrantFilter) ([]Grant, error)
	// Events are newest first.
	Events(ctx context.Context, filter EventFilter) ([]Event, error)
	// Uses are in the order of their clients and habits.
	Uses(ctx context.Context, filter UseFilter) ([]Use, error)
	// Stats counts rows and bytes. Where a table is so large that counting its rows
	// would take long, their number may be estimated.
	Stats(ctx context.Context) (Stats, error)
}

// GrantFilter chooses grants; empty fields choose all.
type GrantFilter struct {
	ClientID string
	Subject  string
	After    GrantID // only ids above it
	Limit    int
}

// EventFilter chooses events; empty fields choose all.
type EventFilter struct {
	Grant    GrantID
	ClientID string
	Subject  string
	Type     string // a type, or a prefix that ends in a dot: "grant."
	Before   int64  // only event ids below it
	Limit    int
}

// UseFilter chooses counts of what clients rely on; empty fields choose all.
type UseFilter struct {
	ClientID    string
	AfterClient string // only what comes after this client and AfterHabit
	AfterHabit  Habit
	Limit       int
}

// Stats are the sizes of a database.
type Stats struct {
	Rows          map[string]int64 `json:"rows"`           // per table; of large ones perhaps estimated
	DatabaseBytes int64            `json:"database_bytes"` // tables and indexes, without write-ahead log; without free pages where they can be told
}
