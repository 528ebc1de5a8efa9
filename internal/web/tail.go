package web

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
)

// Bounds of the tail.
const (
	tailPoll = 500 * time.Millisecond // how often the store is asked for events, whether or not it tells of them
	tailSize = 1024                   // events that are kept in memory
	tailPage = 256                    // events that are read at once
)

// tail is the end of the log of events. One reader asks the store for all who
// listen; whoever falls behind what is kept in memory reads the store himself.
// So a listener costs no memory, however slowly he reads.
type tail struct {
	store hook.Store
	log   *slog.Logger

	mu        sync.Mutex
	listeners int
	stop      context.CancelFunc // of the reader, which runs while anybody listens
	after     int64              // the events with ids above it are kept
	kept      []hook.Event       // oldest first
	changed   chan struct{}      // closed when there are more
}

func newTail(store hook.Store, log *slog.Logger) *tail { return &tail{store: store, log: log} }

// join begins to listen. It returns the id of the newest event; leave ends it.
func (t *tail) join(ctx context.Context) (newest int64, leave func(), err error) {
	newest, err = t.store.LastEvent(ctx)
	if err != nil {
		return 0, nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.listeners == 0 {
		var reading context.Context
		reading, t.stop = context.WithCancel(context.WithoutCancel(ctx))
		t.after, t.kept, t.changed = newest, nil, make(chan struct{})
		go t.read(reading, newest)
	}
	t.listeners++
	return newest, sync.OnceFunc(t.leave), nil
}

func (t *tail) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.listeners--; t.listeners == 0 {
		t.stop()
	}
}

// since gives the events after an id, some at a time, and where to go on. Where
// there are none it gives a channel that is closed when there are.
func (t *tail) since(ctx context.Context, after int64) (events []hook.Event, next int64, changed <-chan struct{}, err error) {
	t.mu.Lock()
	if after >= t.after {
		defer t.mu.Unlock()
		i, _ := slices.BinarySearchFunc(t.kept, after+1, func(e hook.Event, id int64) int { return int(e.ID - id) })
		events = slices.Clone(t.kept[i:min(i+tailPage, len(t.kept))])
		if len(events) == 0 {
			return nil, after, t.changed, nil
		}
		return events, events[len(events)-1].ID, nil, nil
	}
	missing := t.after
	t.mu.Unlock()
	events, err = t.store.Feed(ctx, after, tailPage)
	if err != nil {
		return nil, after, nil, err
	}
	if len(events) == 0 { // purged meanwhile
		return nil, missing, nil, nil
	}
	return events, events[len(events)-1].ID, nil, nil
}

// read takes new events over until the context ends.
func (t *tail) read(ctx context.Context, last int64) {
	tick := time.NewTicker(tailPoll)
	defer tick.Stop()
	told := hook.Listen(ctx, t.store)
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-told:
		}
		for more := ctx.Err() == nil; more; {
			events, err := t.store.Feed(ctx, last, tailPage)
			if ctx.Err() != nil {
				return
			}
			if failing != (err != nil) { // once, not twice a second
				failing = err != nil
				t.log.Warn("streams of events: the store fails, or does again what it should", "failing", failing, "error", err)
			}
			if len(events) > 0 {
				last = events[len(events)-1].ID
				t.keep(ctx, events)
			}
			more = len(events) == tailPage
		}
	}
}

// keep adds new events and wakes whoever waits for them.
func (t *tail) keep(ctx context.Context, events []hook.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ctx.Err() != nil {
		return // another reader may be at work by now
	}
	t.kept = append(t.kept, events...)
	if excess := len(t.kept) - tailSize; excess > 0 {
		t.after = t.kept[excess-1].ID
		t.kept = slices.Delete(t.kept, 0, excess)
	}
	close(t.changed)
	t.changed = make(chan struct{})
}
