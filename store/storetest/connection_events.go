package storetest

import (
	"slices"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/secret"
)

func keeperEventCases() []contract {
	return []contract{
		{"an event is read back with every field, and with few", keeperEventIsRead},
		{"neither half sees the events of the other, and their ids are of one order", halves},
		{"events are chosen by connection, provider and tenant", keeperEventFilters},
		{"events are listed newest first before an id, and oldest first after one", keeperEventPages},
		{"of a connection the newest 100 events are kept, and of others all", historyIsBounded},
		{"an alarm is recorded where the newest one of its kind is another", alarms},
		{"a name is new once, until its time is over", onceNames},
	}
}

func keeperPurgeCases() []contract {
	return []contract{
		{"events of both halves are purged by their time", purgeBothHalves},
		{"events that webhooks are still to be told of stay 30 days longer", purgeUnplanned},
		{"names are purged when their time is over", purgeNames},
		{"deliveries that are done with are purged with events, others 30 days later", purgeDeliveries},
	}
}

// keeperEvents are those that a filter chooses, without their ids.
func (f *fixture) keeperEvents(filter keeper.EventFilter) []keeper.Event {
	f.Helper()
	events, err := f.Keeper.Events(f.Context(), filter)
	f.ok(err)
	for i := range events {
		events[i].ID = 0
		events[i] = inUTC(events[i])
	}
	return events
}

// record stores an event without condition.
func (f *fixture) record(e keeper.Event) {
	f.Helper()
	f.equal(f.did(f.Keeper.Record(f.Context(), e)), true)
}

func keeperEventIsRead(f *fixture) {
	full := happened("test.event", newConnection("c"))
	full.Detail = "two\nlines, \"quotes\" and ünïcode"
	bare := keeper.Event{At: start(), Type: keeper.EventResealed, Actor: "keeper"}
	alarm := keeper.Event{At: start(), Type: keeper.EventProviderDown, Provider: "acme", Actor: "keeper"}
	for _, e := range []keeper.Event{full, bare, alarm} {
		f.record(e)
	}
	f.equal(f.keeperEvents(keeper.EventFilter{}), []keeper.Event{alarm, bare, full})
}

func halves(f *fixture) {
	var keepers []keeper.Event
	var issuers []issuer.Event
	for i := range 12 {
		theirs, ours := newEvent("test.event", newGrant()), happened("test.event", newConnection("c"))
		if i%3 == 0 {
			theirs = issuer.Event{At: start(), Type: "test.event", Actor: "server"}
			ours = keeper.Event{At: start(), Type: "test.event", Actor: "keeper"}
		}
		theirs.Subject, ours.Owner = "alice", "alice"
		f.ok(f.Record(f.Context(), theirs))
		f.record(ours)
		issuers, keepers = append(issuers, theirs), append(keepers, ours)
	}
	slices.Reverse(issuers)
	slices.Reverse(keepers)
	for _, filter := range []issuer.EventFilter{{}, {Subject: "alice"}, {Type: "test.event"}, {Type: "test."}} {
		f.equal(f.events(filter), issuers)
	}
	f.equal(f.keeperEvents(keeper.EventFilter{}), keepers)
	theirs, err := f.Events(f.Context(), issuer.EventFilter{})
	f.ok(err)
	ours, err := f.Keeper.Events(f.Context(), keeper.EventFilter{})
	f.ok(err)
	for i := range ours {
		if ours[i].ID <= theirs[i].ID || i > 0 && theirs[i-1].ID <= ours[i].ID {
			f.Errorf("id %d stands beside %d", ours[i].ID, theirs[i].ID)
		}
	}
}

// recordKeepers records one event for each combination, and returns them oldest
// first.
func (f *fixture) recordKeepers() (all []keeper.Event) {
	f.Helper()
	for i := range 60 {
		c := idle(name("c", i%7))
		c.Provider, c.Tenant = []string{"acme", "bank", ""}[i%3], []string{"", "north", "south"}[i%5%3]
		e := happened("test.event", c)
		if i%4 == 0 {
			e.Connection = ""
		}
		e.Generation = uint64(i)
		f.record(e)
		f.ok(f.Record(f.Context(), newEvent("test.event", newGrant())))
		all = append(all, e)
	}
	return all
}

func keeperEventFilters(f *fixture) {
	all := f.recordKeepers()
	slices.Reverse(all)
	none, north, other := "", "north", "other"
	for _, connection := range []string{"", name("c", 3), "none"} {
		for _, provider := range []string{"", "acme", "none"} {
			for _, tenant := range []*string{nil, &none, &north, &other} {
				var want []keeper.Event
				for _, e := range all {
					if (connection == "" || e.Connection == connection) && (provider == "" || e.Provider == provider) && (tenant == nil || e.Tenant == *tenant) {
						want = append(want, e)
					}
				}
				filter := keeper.EventFilter{Connection: connection, Provider: provider, Tenant: tenant, Limit: 1000}
				if got := f.keeperEvents(filter); len(got) > 0 || len(want) > 0 {
					f.equal(got, want)
				}
			}
		}
	}
}

func keeperEventPages(f *fixture) {
	want := f.recordKeepers()
	all, err := f.Keeper.Events(f.Context(), keeper.EventFilter{Limit: 1000})
	f.ok(err)
	oldest := all[len(all)-1].ID
	var got []keeper.Event
	for after := oldest - 1; ; {
		page, err := f.Keeper.Events(f.Context(), keeper.EventFilter{After: max(after, 1), Limit: 7})
		f.ok(err)
		if len(page) == 0 {
			break
		}
		after = page[len(page)-1].ID
		got = append(got, page...)
	}
	slices.Reverse(all)
	if oldest == 1 { // After 0 chooses all
		all = all[1:]
	}
	f.equal(got, all)
	f.equal(len(want), 60)

	slices.Reverse(all)
	got = nil
	for before := all[0].ID + 1; ; {
		page, err := f.Keeper.Events(f.Context(), keeper.EventFilter{Before: before, Limit: 7})
		f.ok(err)
		if len(page) == 0 {
			break
		}
		before = page[len(page)-1].ID
		got = append(got, page...)
	}
	f.equal(got[:len(all)], all)
	between, err := f.Keeper.Events(f.Context(), keeper.EventFilter{After: all[9].ID, Before: all[5].ID})
	f.ok(err)
	f.equal(between, []keeper.Event{all[8], all[7], all[6]})
}

func historyIsBounded(f *fixture) {
	f.keep(idle("quiet"))
	c := f.keep(idle("busy"))
	alarm := keeper.Event{At: start(), Type: keeper.EventProviderDown, Provider: "acme", Actor: "keeper"}
	var want []keeper.Event
	for i := range 130 {
		f.record(alarm)
		c = f.lease("busy", start().Add(time.Duration(i)*day))
		next := c
		next.Generation++
		events := []keeper.Event{happened(keeper.EventRefreshed, next)}
		if i%10 == 0 {
			events = append(events, happened(keeper.EventRecovered, next))
		}
		f.equal(f.did(f.Keeper.Commit(f.Context(), c.Fence, c.Generation, next, events...)), true)
		want = append(want, events...)
	}
	slices.Reverse(want)
	f.equal(f.history("busy"), want[:100])
	f.equal(len(f.history("quiet")), 1)
	f.equal(len(f.keeperEvents(keeper.EventFilter{Limit: 1000})), 130+100+1)
	c = f.lease("busy", start().Add(500*day))
	gone := happened(keeper.EventDeleted, c)
	f.equal(f.did(f.Keeper.Delete(f.Context(), c.ID, c.Fence, gone)), true)
	f.keep(idle("busy"))
	f.equal(f.history("busy"), append([]keeper.Event{happened(keeper.EventCreated, idle("busy")), gone}, want[:98]...)[:100])
}

func alarms(f *fixture) {
	alarm := func(kind, provider string, types ...string) bool {
		f.Helper()
		return f.did(f.Keeper.Record(f.Context(), keeper.Event{At: start(), Type: kind, Provider: provider, Actor: "keeper"}, types...))
	}
	const down, up, bad = keeper.EventProviderDown, keeper.EventProviderUp, keeper.EventBadClient
	for i, step := range []struct {
		kind, provider string
		types          []string
		want           bool
	}{
		{down, "acme", []string{down, up}, true},
		{down, "acme", []string{down, up}, false},
		{down, "bank", []string{down, up}, true},
		{bad, "acme", []string{bad}, true},
		{down, "acme", []string{down, up}, false}, // another kind in between
		{bad, "acme", []string{bad}, false},
		{up, "acme", []string{down, up}, true},
		{up, "acme", []string{down, up}, false},
		{down, "acme", []string{down, up}, true},
		{down, "acme", nil, true}, // without condition
		{keeper.EventResealed, "", []string{keeper.EventResealed}, true},
		{keeper.EventResealed, "", []string{keeper.EventResealed}, false},
	} {
		if got := alarm(step.kind, step.provider, step.types...); got != step.want {
			f.Errorf("step %d: %s of %q was recorded: %v", i, step.kind, step.provider, got)
		}
	}
	// What a connection of the provider went through is no alarm.
	c := idle("c")
	f.record(happened(up, c))
	f.equal(alarm(down, "acme", down, up), false)
	f.equal(len(f.keeperEvents(keeper.EventFilter{})), 8)
}

func onceNames(f *fixture) {
	once := func(name string, at, until time.Duration) bool {
		f.Helper()
		return f.did(f.Keeper.Once(f.Context(), name, start().Add(at), start().Add(until)))
	}
	f.equal(once("a", 0, time.Hour), true)
	f.equal(once("a", 0, time.Hour), false)
	f.equal(once("A", 0, time.Hour), true)
	f.equal(once("", 0, time.Hour), true)
	f.equal(once("", 0, time.Hour), false)
	f.equal(once("a", time.Hour-time.Millisecond, 9*time.Hour), false)
	f.equal(once("a", time.Hour, 2*time.Hour), true) // it was not moved by who was refused
	f.equal(once("a", time.Hour, 2*time.Hour), false)
}

func purgeBothHalves(f *fixture) {
	for _, at := range []time.Duration{-time.Millisecond, 0, time.Hour} {
		theirs, ours := newEvent("test.event", newGrant()), happened("test.event", newConnection("c"))
		theirs.At, ours.At = start().Add(at), start().Add(at)
		f.ok(f.Record(f.Context(), theirs))
		f.record(ours)
	}
	f.equal(f.purgeEvents(start()), 2)
	f.equal(len(f.events(issuer.EventFilter{})), 2)
	f.equal(len(f.history("c")), 2)
	f.equal(f.purgeEvents(start().Add(2*time.Hour)), 4)
	f.equal(f.keeperEvents(keeper.EventFilter{}), []keeper.Event(nil))
}

// purgeEvents purges events from before a time, and counts them.
func (f *fixture) purgeEvents(before time.Time) int {
	f.Helper()
	purged, err := f.Purge(f.Context(), time.Time{}, before)
	f.ok(err)
	return purged.Events
}

func purgeUnplanned(f *fixture) {
	for range 5 {
		f.record(happened("test.event", newConnection("c")))
		f.ok(f.Record(f.Context(), newEvent("test.event", newGrant())))
	}
	last, err := f.Hooks.LastEvent(f.Context())
	f.ok(err)
	f.equal(f.did(f.Hooks.Plan(f.Context(), 0, last-3, nil)), true)
	f.equal(f.purgeEvents(start().Add(time.Millisecond)), 7)
	f.equal(f.purgeEvents(start().Add(30*day)), 0)
	feed, err := f.Hooks.Feed(f.Context(), last-3, 10)
	f.ok(err)
	f.equal(len(feed), 3)
	f.equal(f.did(f.Hooks.Plan(f.Context(), last-3, last-2, nil)), true)
	f.equal(f.purgeEvents(start().Add(30*day)), 1)
	f.equal(f.purgeEvents(start().Add(30*day+time.Millisecond)), 2)
	after, err := f.Hooks.LastEvent(f.Context())
	f.ok(err)
	f.equal(after, last)
}

func purgeNames(f *fixture) {
	for i := range 250 {
		f.equal(f.did(f.Keeper.Once(f.Context(), name("early", i), start(), start().Add(time.Hour))), true)
	}
	f.equal(f.did(f.Keeper.Once(f.Context(), "late", start(), start().Add(time.Hour+time.Millisecond))), true)
	left := func() int64 {
		stats, err := f.Stats(f.Context())
		f.ok(err)
		return stats.Rows["once"]
	}
	f.equal(f.purge(start().Add(time.Hour-time.Millisecond)), issuer.Purged{})
	f.equal(left(), int64(251))
	f.equal(f.purge(start().Add(time.Hour)), issuer.Purged{})
	f.equal(left(), int64(1))
	f.equal(f.did(f.Keeper.Once(f.Context(), "late", start().Add(time.Hour), start().Add(2*time.Hour))), false)
}

func keyIsInUse(f *fixture) {
	for id := range uint32(9) {
		f.ok(f.AddKey(f.Context(), newKey(id+1)))
	}
	c := f.keep(newConnection("c")) // tokens under key 7, its answer under key 8
	f.keep(keeper.Connection{ID: "bare", CreatedAt: start()})
	f.is(f.DeleteKey(f.Context(), 7), secret.ErrKeyInUse)
	f.is(f.DeleteKey(f.Context(), 8), secret.ErrKeyInUse)
	f.ok(f.DeleteKey(f.Context(), 6))
	f.ok(f.DeleteKey(f.Context(), 0))
	f.equal(len(f.keys()), 8)

	c = f.lease("c", start())
	c.Tokens = sealed(9, "sealed anew")
	intent := *c.Intent
	f.equal(f.did(f.Keeper.Commit(f.Context(), c.Fence, c.Generation, c)), true)
	f.ok(f.DeleteKey(f.Context(), 7))
	f.is(f.DeleteKey(f.Context(), 8), secret.ErrKeyInUse)

	c = f.lease("c", start())
	intent.Answer = sealed(9, "sealed anew")
	c.Intent = &intent
	f.equal(f.did(f.Keeper.Commit(f.Context(), c.Fence, c.Generation, c)), true)
	f.ok(f.DeleteKey(f.Context(), 8))
	f.is(f.DeleteKey(f.Context(), 9), secret.ErrKeyInUse)
	c = f.lease("c", start())
	f.equal(f.did(f.Keeper.Delete(f.Context(), "c", c.Fence, happened(keeper.EventDeleted, c))), true)
	f.ok(f.DeleteKey(f.Context(), 9))
	f.equal(len(f.keys()), 5)
}
