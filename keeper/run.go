package keeper

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

const (
	// The store is asked for what is due each pollBusy while something happens,
	// and each pollIdle otherwise, always for as long ahead.
	pollBusy, pollIdle = time.Second, 15 * time.Second
	// drainEvery is how often the spool is looked at, and a store that failed is
	// asked again.
	drainEvery = 5 * time.Second
	// dueBatch is how many due connections are looked at in one query.
	dueBatch = 256
	// brokenPause is when a connection is looked at again that could be neither
	// renewed nor judged, such as one whose key was deleted.
	brokenPause = 5 * time.Minute
)

// Run refreshes what is due, recovers what was broken off, and seals anew what
// old keys sealed, until the context ends. It returns nil when what it began is
// finished.
func (k *Keeper) Run(ctx context.Context) error {
	var beside sync.WaitGroup
	beside.Go(func() { k.reseals(ctx) })
	beside.Go(func() { k.drains(ctx) })
	if err := k.sending.sweep(ctx, k.cfg.Store); err != nil && ctx.Err() == nil {
		k.cfg.Log.Warn("marks of requests that are over stay; they do no harm", "error", err)
	}
	newRunner(k).run(ctx)
	beside.Wait()
	k.land() // those that readers began and left
	return nil
}

// wake makes Run look for what is due at once.
func (k *Keeper) wake() {
	select {
	case k.woken <- struct{}{}:
	default: // it is awake already
	}
}

// drains moves answers that the store did not take into the journal, as soon as
// it takes them, and resolves them when the leases are over that could not be
// ended.
func (k *Keeper) drains(ctx context.Context) {
	var drained []string // and not resolved
	for {
		ids, err := k.spool.drain(ctx, k.cfg.Store)
		if err != nil && ctx.Err() == nil {
			k.cfg.Log.Error("the store does not take answers from the spool; they are kept", "error", err)
		}
		drained = slices.DeleteFunc(append(drained, ids...), func(id string) bool {
			c := k.attend(ctx, id)
			return !k.now().Before(c.LeaseUntil)
		})
		if sleep(ctx, drainEvery) != nil {
			return
		}
	}
}

// runner dispatches what is due. It is one goroutine, and one more for each
// renewal that is under way, of which a provider's budget bounds the number.
type runner struct {
	k       *Keeper
	names   []string                   // of the registrations
	waiting map[string]*fairQueue[Due] // found due and not begun, by registration
	running map[string]int             // by registration
	flying  map[string]bool            // ids of those that are running
	cut     map[string]bool            // registrations of which there may be more than was read
	polled  time.Time
	busy    bool      // something was due lately
	next    time.Time // when the earliest is due that is not due yet
	failed  bool      // the last query did
	landed  chan Due
}

func newRunner(k *Keeper) *runner {
	r := &runner{
		k: k, waiting: map[string]*fairQueue[Due]{}, running: map[string]int{},
		flying: map[string]bool{}, cut: map[string]bool{}, landed: make(chan Due),
	}
	for name := range k.providers {
		r.names = append(r.names, name)
		r.waiting[name] = &fairQueue[Due]{}
	}
	slices.Sort(r.names)
	return r
}

func (r *runner) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		r.look(ctx)
		r.begin(ctx)
		timer.Reset(r.pause())
		select {
		case due := <-r.landed:
			r.land(due)
		case <-r.k.woken:
			r.polled = time.Time{}
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	for len(r.flying) > 0 {
		r.land(<-r.landed)
	}
}

func (r *runner) land(due Due) {
	r.busy = true
	delete(r.flying, due.ID)
	r.running[due.Provider]--
}

// interval is how long an answer of the store counts.
func (r *runner) interval() time.Duration {
	switch {
	case r.busy:
		return pollBusy
	case r.failed:
		return drainEvery
	}
	return pollIdle
}

// pause is how long nothing can happen but a landing.
func (r *runner) pause() time.Duration {
	if r.next.IsZero() {
		return r.interval()
	}
	return max(time.Millisecond, min(r.interval(), r.next.Sub(r.k.now())))
}

// look reads what is due, for registrations that could begin something and know
// of nothing to begin.
func (r *runner) look(ctx context.Context) {
	now := r.k.now()
	again := r.polled.IsZero() || now.Before(r.polled) || now.Sub(r.polled) >= r.interval() || !r.next.IsZero() && !now.Before(r.next)
	for {
		var names []string
		for _, name := range r.names {
			if r.waiting[name].empty() && (again || r.cut[name]) && r.room(name) > 0 {
				names = append(names, name)
			}
		}
		if again {
			again, r.polled, r.next, r.busy = false, now, time.Time{}, len(r.flying) > 0
		}
		if len(names) == 0 {
			return
		}
		due, err := r.k.cfg.Store.Due(ctx, now.Add(pollIdle), dueBatch, names...)
		if err != nil {
			if !r.failed && ctx.Err() == nil {
				r.k.cfg.Log.Error("the store does not say what is due; it is asked again until it does", "error", err)
			}
			r.failed = true
			return
		}
		r.failed = false
		found := r.take(due, now)
		for _, name := range names {
			r.cut[name] = len(due) == dueBatch
		}
		if !found || len(due) < dueBatch {
			return
		}
		r.begin(ctx)
	}
}

// take puts what is due into the queues, and reports whether anything was.
func (r *runner) take(due []Due, now time.Time) (found bool) {
	for _, d := range due {
		switch {
		case r.flying[d.ID] || r.waiting[d.Provider] == nil:
		case now.Before(d.DueAt):
			r.next = sooner(r.next, d.DueAt)
		default:
			r.waiting[d.Provider].push(turn(d.Tenant, d.Owner, d.ID), d)
			found, r.busy = true, true
		}
	}
	return found
}

func (r *runner) room(name string) int {
	return r.k.gate.room(r.k.providers[name]) - r.running[name]
}

// begin starts as much as the budgets allow.
func (r *runner) begin(ctx context.Context) {
	for _, name := range r.names {
		for queue := r.waiting[name]; !queue.empty() && r.room(name) > 0; {
			due := queue.pop()
			r.running[name]++
			r.flying[due.ID] = true
			go func() {
				r.k.attend(ctx, due.ID)
				r.landed <- due
			}()
		}
	}
}

// attend does what is due for one connection, and gives its row. What fails
// without a word in its row is put off, so that it does not stand before others.
func (k *Keeper) attend(ctx context.Context, id string) Connection {
	c, err := k.renew(ctx, id, Want{}, false)
	now := k.now()
	if err == nil || ctx.Err() != nil || c.ID == "" || c.DueAt.IsZero() || now.Before(c.DueAt) {
		if _, told := errors.AsType[*Unusable](err); err != nil && !told && ctx.Err() == nil && !errors.Is(err, ErrNotFound) {
			k.cfg.Log.Error("a connection was not renewed", "connection", id, "error", err)
		}
		return c
	}
	if neverConnected(&c) {
		k.discard(ctx, id)
		return c
	}
	pause := brokenPause
	if unusable, ok := errors.AsType[*Unusable](err); ok && unusable.RetryAfter > 0 {
		pause = unusable.RetryAfter
	}
	if _, err := k.changed(ctx, id, func(c *Connection) ([]Event, error) { return nil, putOff(c, now, pause) }); err != nil && ctx.Err() == nil {
		k.cfg.Log.Error("a connection was not put off", "connection", id, "error", err)
	}
	return c
}

// putOff moves what is still due.
func putOff(c *Connection, now time.Time, pause time.Duration) error {
	switch {
	case c.DueAt.IsZero() || now.Before(c.DueAt):
		return errUnchanged
	case c.State == Paused || c.State == Reauthorize && c.Intent == nil:
		c.DueAt = time.Time{}
	default:
		c.DueAt = now.Add(pause)
	}
	return nil
}
