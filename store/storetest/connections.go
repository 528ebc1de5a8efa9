package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

func connectionCases() []contract {
	return []contract{
		{"a connection is read back with every field", connectionIsRead},
		{"a connection with few fields is too", bareConnectionIsRead},
		{"ids are any text, and differ by any byte", oddIDs},
		{"numbers in metadata stay as they were written", metadataNumbers},
		{"an id that is taken is ErrExists, and nothing changes", connectionExists},
		{"the fence begins above those of an earlier connection with the id", fencesGoOn},
		{"one that is not there is ErrNotFound, and takes no change", connectionIsMissing},
		{"a sealed answer of 20 MB is read back", largeAnswer},
		{"an answer that comes beside a change stays", answerBesideAChange},
		{"every connection survives that the database is closed", connectionsSurvive},
		{"with a context that is over nothing is done", keeperContextEnded},
		{"a closed database is unavailable", keeperIsClosed},
	}
}

// newConnection is an active connection with no field empty, due an hour after
// start.
func newConnection(id string) keeper.Connection {
	at := start()
	next := func() time.Time {
		at = at.Add(time.Hour + time.Millisecond)
		return at
	}
	return keeper.Connection{
		DueAt: next(), ID: id, Provider: "acme", Tenant: "north", Owner: "alice",
		State: keeper.Active, Cause: keeper.CauseOperator, Since: next(), Background: keeper.OnDemand,
		Params:   map[string]string{"region": "eu", "empty": ""},
		Metadata: map[string]any{"name": "Å\n\"quoted\"", "nested": map[string]any{"list": []any{true, nil, "x"}}},
		Scope:    oauth.Scope{"read", "write"}, Asked: oauth.Scope{"admin"}, TokenType: "Bearer",
		Generation: 1<<63 + 7, IssuedAt: next(), ExpiresAt: next(), RefreshExpiresAt: next(), EndsAt: next(),
		Refreshable: true, Rotates: true, Attempt: 3, Class: provider.Throttled, Error: "too many requests", WarnedAt: next(),
		CreatedAt: start(), UpdatedAt: next(), Fence: uint64(start().UnixMilli()), LeaseUntil: start().Add(-time.Second),
		Tokens: sealed(7, "tokens of "+id),
		Intent: &keeper.Intent{
			RequestID: "request", Kind: provider.Refresh, Generation: 1<<63 + 7, SentAt: next(), Deadline: next(), Answer: sealed(8, "answer"),
		},
	}
}

func sealed(key uint32, text string) secret.Sealed {
	return secret.Sealed{KeyID: key, Data: append([]byte{0, 0xff}, text...)}
}

// happened is an event of a connection with no field empty but the id.
func happened(kind string, c keeper.Connection) keeper.Event {
	return keeper.Event{
		At: start(), Type: kind, Connection: c.ID, Provider: c.Provider, Tenant: c.Tenant, Owner: c.Owner, Generation: c.Generation,
		Class: provider.Transient, Cause: keeper.CauseAnswerLost, Actor: "keeper", Address: "192.0.2.7", Detail: "for the test",
	}
}

// inUTC makes the times of a struct comparable.
func inUTC[T any](v T) T {
	fields := reflect.ValueOf(&v).Elem()
	for i := range fields.NumField() {
		if at, ok := fields.Field(i).Interface().(time.Time); ok {
			fields.Field(i).Set(reflect.ValueOf(at.UTC()))
		}
	}
	return v
}

func sameZone(c keeper.Connection) keeper.Connection {
	if c.Intent != nil {
		intent := inUTC(*c.Intent)
		c.Intent = &intent
	}
	return inUTC(c)
}

// keep stores a connection, and returns it as it is stored.
func (f *fixture) keep(c keeper.Connection) keeper.Connection {
	f.Helper()
	f.ok(f.Keeper.Create(f.Context(), c, happened(keeper.EventCreated, c)))
	c.Fence = uint64(c.CreatedAt.UnixMilli())
	return c
}

// idle is a usual connection: nothing is open, and nobody holds its lease.
func idle(id string) keeper.Connection {
	c := newConnection(id)
	c.Intent, c.LeaseUntil, c.Generation = nil, time.Time{}, 5
	return c
}

// connection reads a connection that must exist.
func (f *fixture) connection(id string) keeper.Connection {
	f.Helper()
	c, err := f.Keeper.Connection(f.Context(), id)
	f.ok(err)
	return sameZone(c)
}

// history are the events of a connection, newest first and without their ids.
func (f *fixture) history(id string) []keeper.Event {
	f.Helper()
	return f.keeperEvents(keeper.EventFilter{Connection: id, Limit: 1000})
}

func connectionIsRead(f *fixture) {
	want := newConnection("acme-1")
	for _, v := range []reflect.Value{reflect.ValueOf(want), reflect.ValueOf(*want.Intent)} {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				f.Fatalf("%s is empty, so that nothing is found out about it", v.Type().Field(i).Name)
			}
		}
	}
	f.keep(want)
	f.equal(f.connection("acme-1"), want)
	f.equal(f.history("acme-1"), []keeper.Event{happened(keeper.EventCreated, want)})
	text, err := json.Marshal(want)
	f.ok(err)
	again, err := json.Marshal(f.connection("acme-1"))
	f.ok(err)
	f.equal(string(again), string(text))
}

func bareConnectionIsRead(f *fixture) {
	want := keeper.Connection{ID: "bare", Provider: "acme", State: keeper.Reauthorize, CreatedAt: start()}
	want = f.keep(want)
	f.equal(f.connection("bare"), want)

	want.ID, want.Intent = "bare-with-intent", &keeper.Intent{}
	f.keep(want)
	f.equal(f.connection("bare-with-intent"), want)
}

// connectionIDs are in the order of their bytes.
func connectionIDs() []string {
	return []string{"-", ".", "..", "0", "00", "A", "AA", "_", "a", "a-b", "a.b", "aa", strings.Repeat("x", 128), "~"}
}

func oddIDs(f *fixture) {
	for _, id := range shuffled(connectionIDs()) {
		f.keep(idle(id))
	}
	for _, id := range connectionIDs() {
		c := idle(id)
		f.equal(f.connection(id), c)
		f.equal(f.history(id), []keeper.Event{happened(keeper.EventCreated, c)})
	}
}

func metadataNumbers(f *fixture) {
	c := idle("numbers")
	c.Metadata = map[string]any{"id": json.Number("123456789012345678901234567890"), "half": json.Number("0.50"), "deep": []any{json.Number("1e3")}}
	f.keep(c)
	f.equal(f.connection("numbers"), c)
	c = idle("plain")
	c.Metadata = map[string]any{"id": 17}
	f.keep(c)
	f.equal(f.connection("plain").Metadata, map[string]any{"id": json.Number("17")})
}

func connectionExists(f *fixture) {
	c := f.keep(idle("taken"))
	other := idle("taken")
	other.Provider = "other"
	f.is(f.Keeper.Create(f.Context(), other, happened(keeper.EventCreated, other)), keeper.ErrExists)
	f.equal(f.connection("taken"), c)
	f.equal(len(f.history("taken")), 1)
}

// fencesGoOn deletes a connection under somebody who is slow to commit.
func fencesGoOn(f *fixture) {
	c := f.keep(idle("again"))
	slow := f.lease(c.ID, start())
	for i := range 50 {
		c = f.lease(c.ID, start().Add(time.Duration(i+1)*day))
	}
	f.equal(f.did(f.Keeper.Delete(f.Context(), c.ID, c.Fence, happened(keeper.EventDeleted, c))), true)
	again := idle("again")
	again.CreatedAt, again.Fence = start().Add(time.Second), 0
	f.ok(f.Keeper.Create(f.Context(), again, happened(keeper.EventCreated, again)))
	stored := f.connection("again")
	if stored.Fence <= c.Fence {
		f.Errorf("the fence is %d after %d", stored.Fence, c.Fence)
	}
	for i := range 3 {
		f.equal(f.did(f.Keeper.Commit(f.Context(), slow.Fence, slow.Generation, slow)), false)
		f.lease(c.ID, start().Add(time.Duration(i)*day))
	}
}

// missing calls each method with an id that is not there, as somebody does
// whose connection was deleted.
func connectionIsMissing(f *fixture) {
	c := f.keep(idle("gone"))
	c = f.lease(c.ID, start())
	f.equal(f.did(f.Keeper.Delete(f.Context(), c.ID, c.Fence, happened(keeper.EventDeleted, c))), true)
	before := f.keeperEvents(keeper.EventFilter{})

	_, err := f.Keeper.Connection(f.Context(), c.ID)
	f.is(err, keeper.ErrNotFound)
	_, leased, err := f.Keeper.Lease(f.Context(), c.ID, start().Add(day), start().Add(2*day))
	f.is(err, keeper.ErrNotFound)
	f.equal(leased, false)
	f.equal(f.did(f.Keeper.Begin(f.Context(), c.ID, c.Fence, keeper.Intent{RequestID: "r", Generation: c.Generation}, start())), false)
	f.equal(f.did(f.Keeper.Answer(f.Context(), c.ID, "r", sealed(1, "late"))), false)
	f.equal(f.did(f.Keeper.Commit(f.Context(), c.Fence, c.Generation, c, happened("test.event", c))), false)
	f.equal(f.did(f.Keeper.Delete(f.Context(), c.ID, c.Fence, happened(keeper.EventDeleted, c))), false)
	f.equal(f.keeperEvents(keeper.EventFilter{}), before)
	f.equal(len(f.list(keeper.Filter{})), 0)
}

func largeAnswer(f *fixture) {
	c := f.keep(idle("large"))
	c = f.lease(c.ID, start())
	f.begin(c, "r1")
	large := secret.Sealed{KeyID: 3, Data: bytes.Repeat([]byte("0123456789abcdef"), 20<<16)}
	f.equal(f.did(f.Keeper.Answer(f.Context(), c.ID, "r1", large)), true)
	got := f.connection(c.ID)
	if got.Intent.Answer.KeyID != 3 || !bytes.Equal(got.Intent.Answer.Data, large.Data) {
		f.Errorf("read %d bytes under key %d", len(got.Intent.Answer.Data), got.Intent.Answer.KeyID)
	}
	c.Tokens = sealed(9, strings.Repeat("t", 64<<10))
	f.commit(c)
	f.equal(f.connection(c.ID).Tokens, c.Tokens)
}

func answerBesideAChange(f *fixture) {
	f.keep(idle("c"))
	change := func(c keeper.Connection) keeper.Intent {
		f.equal(f.did(f.Keeper.Commit(f.Context(), c.Fence, c.Generation, c, happened(keeper.EventInDoubt, c))), true)
		return *f.connection(c.ID).Intent
	}
	c := f.begin(f.lease("c", start()), "r1")
	f.equal(f.did(f.Keeper.Answer(f.Context(), c.ID, "r1", sealed(4, "answer"))), true)
	f.equal(change(c).Answer, sealed(4, "answer")) // by who read the row before

	c = f.lease("c", start().Add(day))
	c.Intent.Answer = sealed(5, "sealed anew")
	f.equal(change(c).Answer, sealed(5, "sealed anew"))

	c = f.lease("c", start().Add(2*day))
	c.Intent.RequestID, c.Intent.Answer = "", secret.Sealed{} // of which nothing more comes
	f.equal(change(c).Answer.Empty(), true)
}

func connectionsSurvive(f *fixture) {
	want := []keeper.Connection{f.keep(newConnection("a")), f.keep(idle("b"))}
	c := f.keep(idle("c"))
	c = f.lease(c.ID, start())
	c = f.begin(c, "r1")
	f.equal(f.did(f.Keeper.Answer(f.Context(), c.ID, "r1", sealed(4, "answer"))), true)
	c.Intent.Answer = sealed(4, "answer")
	f.equal(f.did(f.Keeper.Once(f.Context(), "state", start(), start().Add(day))), true)
	events := f.keeperEvents(keeper.EventFilter{})

	f.reopen()

	for _, c := range append(want, c) {
		f.equal(f.connection(c.ID), c)
	}
	f.equal(f.did(f.Keeper.Once(f.Context(), "state", start(), start().Add(day))), false)
	f.equal(f.keeperEvents(keeper.EventFilter{}), events)
	next := c
	next.Intent, next.Generation = nil, c.Generation+1
	f.equal(f.did(f.Keeper.Commit(f.Context(), c.Fence, c.Generation, next)), true)
}

// keeperCalls calls each method of the keeper's and the webhooks' stores.
func (f *fixture) keeperCalls(ctx context.Context, c keeper.Connection) map[string]error {
	e, errs := happened("test.event", c), map[string]error{}
	errs["Create"] = f.Keeper.Create(ctx, idle("other"), e)
	_, errs["Connection"] = f.Keeper.Connection(ctx, c.ID)
	_, _, errs["Lease"] = f.Keeper.Lease(ctx, c.ID, start().Add(day), start().Add(2*day))
	_, errs["Begin"] = f.Keeper.Begin(ctx, c.ID, c.Fence, keeper.Intent{Generation: c.Generation}, start())
	_, errs["Answer"] = f.Keeper.Answer(ctx, c.ID, "request", sealed(1, "x"))
	_, errs["Commit"] = f.Keeper.Commit(ctx, c.Fence, c.Generation, c, e)
	_, errs["Delete"] = f.Keeper.Delete(ctx, c.ID, c.Fence, e)
	_, errs["Due"] = f.Keeper.Due(ctx, start(), 10)
	_, errs["Stale"] = f.Keeper.Stale(ctx, 9, "", 10)
	_, errs["Record"] = f.Keeper.Record(ctx, e)
	_, errs["Once"] = f.Keeper.Once(ctx, "name", start(), start())
	_, errs["Events"] = f.Keeper.Events(ctx, keeper.EventFilter{})
	_, errs["Connections"] = f.Keeper.Connections(ctx, keeper.Filter{})
	_, errs["Counts"] = f.Keeper.Counts(ctx)
	_, errs["Feed"] = f.Hooks.Feed(ctx, 0, 10)
	_, errs["LastEvent"] = f.Hooks.LastEvent(ctx)
	_, _, errs["Planned"] = f.Hooks.Planned(ctx)
	_, errs["Plan"] = f.Hooks.Plan(ctx, 0, 1, nil)
	_, errs["Claim"] = f.Hooks.Claim(ctx, "app", start(), start(), 10)
	errs["Settle"] = f.Hooks.Settle(ctx, newDelivery("app", 1))
	_, errs["Deliveries"] = f.Hooks.Deliveries(ctx, 0, 10)
	return errs
}

func keeperContextEnded(f *fixture) {
	c := f.keep(newConnection("c"))
	last, err := f.Hooks.LastEvent(f.Context())
	f.ok(err)
	for method, err := range f.keeperCalls(ended(f.Context()), c) {
		if err == nil {
			f.Errorf("%s did not mind that its context had ended", method)
		}
		f.is(err, context.Canceled)
	}
	f.equal(f.connection(c.ID), c)
	f.equal(f.ids(keeper.Filter{}), []string{c.ID})
	after, err := f.Hooks.LastEvent(f.Context())
	f.ok(err)
	f.equal(after, last)
}

func keeperIsClosed(f *fixture) {
	c := f.keep(newConnection("c"))
	f.ok(f.Store.Close())
	for method, err := range f.keeperCalls(f.Context(), c) {
		if err == nil {
			f.Errorf("%s worked", method)
		}
		f.is(err, keeper.ErrUnavailable)
	}
	f.Database = f.open()
	f.equal(f.connection(c.ID), c)
}

// name is the n-th of many names.
func name(kind string, n int) string { return fmt.Sprintf("%s-%04d", kind, n) }
