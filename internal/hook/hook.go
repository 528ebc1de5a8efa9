// Package hook tells other programs what happened here: signed webhooks with
// retries and a log of deliveries.
package hook

import (
	"context"
	"encoding/json"
	"time"
)

// Event is one entry of the server's log, of the issuer or the keeper.
type Event struct {
	ID       int64 // grows
	At       time.Time
	Type     string          // such as connection.reauthorize
	Document json.RawMessage // the whole entry; no secret is in it
}

// Delivery is one event on its way to one webhook.
type Delivery struct {
	ID        int64           `json:"id"`   // given by the store; grows
	Hook      string          `json:"hook"` // name of the webhook
	Event     int64           `json:"event"`
	Type      string          `json:"type"`
	Body      json.RawMessage `json:"body"`
	CreatedAt time.Time       `json:"created_at"`
	Attempts  int             `json:"attempts"`
	NextAt    time.Time       `json:"next_at,omitzero"` // zero when delivered or given up
	DoneAt    time.Time       `json:"done_at,omitzero"` // delivered; zero otherwise
	Status    int             `json:"status,omitempty"` // of the last answer; 0 where none came
	Error     string          `json:"error,omitempty"`  // of the last attempt
}

// Store keeps deliveries. Its methods are atomic and durable, see keeper.Store.
type Store interface {
	// Feed lists events with ids above one, oldest first, at most limit.
	Feed(ctx context.Context, after int64, limit int) ([]Event, error)
	// LastEvent is the highest id that was given, 0 where none was.
	LastEvent(ctx context.Context) (int64, error)
	// Planned is the id up to which deliveries have been planned; false where
	// Plan was never called.
	Planned(ctx context.Context) (int64, bool, error)
	// Plan stores deliveries for the events above from up to to, if from is what
	// Planned gives (0 where it was never called). It reports whether it did.
	Plan(ctx context.Context, from, to int64, deliveries []Delivery) (bool, error)
	// Claim takes deliveries to one webhook whose NextAt has come at a time, at
	// most limit, the longest due first, and moves their NextAt to until, when
	// somebody else may take them. It is asked for each webhook apart, so that one
	// that does not answer keeps no other waiting.
	Claim(ctx context.Context, hook string, at, until time.Time, limit int) ([]Delivery, error)
	// Settle stores what came of an attempt: Attempts, NextAt, DoneAt, Status and
	// Error.
	Settle(ctx context.Context, d Delivery) error
	// Deliveries lists deliveries, newest first, with ids below before unless it
	// is 0.
	Deliveries(ctx context.Context, before int64, limit int) ([]Delivery, error)
}

// Listener is what a Store is as well where it can tell of new events, so that
// they are seen before anybody looks for them the next time.
type Listener interface {
	// Listen gives a channel on which something comes soon after events were
	// stored, by any process, until the context ends. Something may come where
	// there is no event, and events may come of which nothing tells: who listens
	// looks by himself as well.
	Listen(ctx context.Context) <-chan struct{}
}

// Listen is the Listen of a store that has one. On the channel of another one
// nothing ever comes.
func Listen(ctx context.Context, store Store) <-chan struct{} {
	if listener, ok := store.(Listener); ok {
		return listener.Listen(ctx)
	}
	return nil
}
