package storetest

import (
	"context"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/secret"
)

// FaultyKeeper is a keeper's store that fails on request, as [Faulty] is the
// issuer's; here, reads can fail as well.
type FaultyKeeper struct {
	keeper.Store
	Before, After func(method string) error
}

// leased is what Lease answers.
type leased struct {
	row  keeper.Connection
	took bool
}

// Create implements [keeper.ConnectionStore].
func (f FaultyKeeper) Create(ctx context.Context, c keeper.Connection, e keeper.Event) error {
	return faulted(f.Before, f.After, "Create", func() error { return f.Store.Create(ctx, c, e) })
}

// Connection implements [keeper.ConnectionStore].
func (f FaultyKeeper) Connection(ctx context.Context, id string) (keeper.Connection, error) {
	return faultedAnswer(f.Before, f.After, "Connection", func() (keeper.Connection, error) { return f.Store.Connection(ctx, id) })
}

// Lease implements [keeper.ConnectionStore].
func (f FaultyKeeper) Lease(ctx context.Context, id string, at, until time.Time) (keeper.Connection, bool, error) {
	answer, err := faultedAnswer(f.Before, f.After, "Lease", func() (l leased, err error) {
		l.row, l.took, err = f.Store.Lease(ctx, id, at, until)
		return l, err
	})
	return answer.row, answer.took, err
}

// Begin implements [keeper.ConnectionStore].
func (f FaultyKeeper) Begin(ctx context.Context, id string, fence uint64, intent keeper.Intent, leaseUntil time.Time) (bool, error) {
	return faultedAnswer(f.Before, f.After, "Begin", func() (bool, error) { return f.Store.Begin(ctx, id, fence, intent, leaseUntil) })
}

// Answer implements [keeper.ConnectionStore].
func (f FaultyKeeper) Answer(ctx context.Context, id, requestID string, answer secret.Sealed) (bool, error) {
	return faultedAnswer(f.Before, f.After, "Answer", func() (bool, error) { return f.Store.Answer(ctx, id, requestID, answer) })
}

// Commit implements [keeper.ConnectionStore].
func (f FaultyKeeper) Commit(ctx context.Context, fence, generation uint64, next keeper.Connection, events ...keeper.Event) (bool, error) {
	return faultedAnswer(f.Before, f.After, "Commit", func() (bool, error) { return f.Store.Commit(ctx, fence, generation, next, events...) })
}

// Delete implements [keeper.ConnectionStore].
func (f FaultyKeeper) Delete(ctx context.Context, id string, fence uint64, e keeper.Event) (bool, error) {
	return faultedAnswer(f.Before, f.After, "Delete", func() (bool, error) { return f.Store.Delete(ctx, id, fence, e) })
}

// Due implements [keeper.ConnectionStore].
func (f FaultyKeeper) Due(ctx context.Context, at time.Time, limit int, providers ...string) ([]keeper.Due, error) {
	return faultedAnswer(f.Before, f.After, "Due", func() ([]keeper.Due, error) { return f.Store.Due(ctx, at, limit, providers...) })
}

// Stale implements [keeper.ConnectionStore].
func (f FaultyKeeper) Stale(ctx context.Context, key uint32, after string, limit int) ([]string, error) {
	return faultedAnswer(f.Before, f.After, "Stale", func() ([]string, error) { return f.Store.Stale(ctx, key, after, limit) })
}

// Record implements [keeper.EventStore].
func (f FaultyKeeper) Record(ctx context.Context, e keeper.Event, types ...string) (bool, error) {
	return faultedAnswer(f.Before, f.After, "Record", func() (bool, error) { return f.Store.Record(ctx, e, types...) })
}

// Once implements [keeper.EventStore].
func (f FaultyKeeper) Once(ctx context.Context, name string, at, until time.Time) (bool, error) {
	return faultedAnswer(f.Before, f.After, "Once", func() (bool, error) { return f.Store.Once(ctx, name, at, until) })
}

// Events implements [keeper.EventStore].
func (f FaultyKeeper) Events(ctx context.Context, filter keeper.EventFilter) ([]keeper.Event, error) {
	return faultedAnswer(f.Before, f.After, "Events", func() ([]keeper.Event, error) { return f.Store.Events(ctx, filter) })
}

// FaultyHooks is a store of deliveries that fails on request, reads included.
type FaultyHooks struct {
	hook.Store
	Before, After func(method string) error
}

// plannedTo is what Planned answers.
type plannedTo struct {
	to    int64
	begun bool
}

// Feed implements [hook.Store].
func (f FaultyHooks) Feed(ctx context.Context, after int64, limit int) ([]hook.Event, error) {
	return faultedAnswer(f.Before, f.After, "Feed", func() ([]hook.Event, error) { return f.Store.Feed(ctx, after, limit) })
}

// LastEvent implements [hook.Store].
func (f FaultyHooks) LastEvent(ctx context.Context) (int64, error) {
	return faultedAnswer(f.Before, f.After, "LastEvent", func() (int64, error) { return f.Store.LastEvent(ctx) })
}

// Planned implements [hook.Store].
func (f FaultyHooks) Planned(ctx context.Context) (int64, bool, error) {
	answer, err := faultedAnswer(f.Before, f.After, "Planned", func() (p plannedTo, err error) {
		p.to, p.begun, err = f.Store.Planned(ctx)
		return p, err
	})
	return answer.to, answer.begun, err
}

// Plan implements [hook.Store].
func (f FaultyHooks) Plan(ctx context.Context, from, to int64, deliveries []hook.Delivery) (bool, error) {
	return faultedAnswer(f.Before, f.After, "Plan", func() (bool, error) { return f.Store.Plan(ctx, from, to, deliveries) })
}

// Claim implements [hook.Store].
func (f FaultyHooks) Claim(ctx context.Context, name string, at, until time.Time, limit int) ([]hook.Delivery, error) {
	return faultedAnswer(f.Before, f.After, "Claim", func() ([]hook.Delivery, error) { return f.Store.Claim(ctx, name, at, until, limit) })
}

// Settle implements [hook.Store].
func (f FaultyHooks) Settle(ctx context.Context, d hook.Delivery) error {
	return faulted(f.Before, f.After, "Settle", func() error { return f.Store.Settle(ctx, d) })
}

// Deliveries implements [hook.Store].
func (f FaultyHooks) Deliveries(ctx context.Context, before int64, limit int) ([]hook.Delivery, error) {
	return faultedAnswer(f.Before, f.After, "Deliveries", func() ([]hook.Delivery, error) { return f.Store.Deliveries(ctx, before, limit) })
}
