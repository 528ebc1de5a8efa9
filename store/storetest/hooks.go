package storetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
)

func hookCases() []contract {
	return []contract{
		{"the feed has the events of both halves as documents, oldest first", feedIsRead},
		{"the last event is known though it was purged", lastEventIsKnown},
		{"deliveries are planned once for each event", deliveriesArePlanned},
		{"of 64 equal plans through two stores exactly one is made", racePlans},
		{"deliveries are claimed for one webhook, the longest due first, and are then somebody's until a time", deliveriesAreClaimed},
		{"workers in two processes share deliveries without taking any twice", raceClaims},
		{"what came of an attempt is stored", attemptIsSettled},
		{"deliveries are listed newest first, page by page", deliveriesAreListed},
	}
}

// newDelivery is a delivery that is due at start, with no field empty but what
// an attempt leaves.
func newDelivery(name string, event int64) hook.Delivery {
	return hook.Delivery{
		Hook: name, Event: event, Type: "test.event", Body: json.RawMessage(fmt.Sprintf(`{"id": %d, "at" : "ünïcode"}`, event)),
		CreatedAt: start(), NextAt: start(),
	}
}

func (f *fixture) deliveries(name string, count int) (list []hook.Delivery) {
	for i := range count {
		list = append(list, newDelivery(name, int64(i+1)))
	}
	return list
}

// planned stores deliveries after those that are planned.
func (f *fixture) planned(list ...hook.Delivery) {
	f.Helper()
	from, _, err := f.Hooks.Planned(f.Context())
	f.ok(err)
	f.equal(f.did(f.Hooks.Plan(f.Context(), from, from+1, list)), true)
}

// delivered are all deliveries, oldest first.
func (f *fixture) delivered() []hook.Delivery {
	f.Helper()
	list, err := f.Hooks.Deliveries(f.Context(), 0, 1000)
	f.ok(err)
	for i := range list {
		list[i] = inUTC(list[i])
	}
	slices.Reverse(list)
	return list
}

func (f *fixture) claim(name string, at time.Time, limit int) []hook.Delivery {
	f.Helper()
	list, err := f.Hooks.Claim(f.Context(), name, at, at.Add(time.Minute), limit)
	f.ok(err)
	for i := range list {
		list[i] = inUTC(list[i])
	}
	return list
}

func feedIsRead(f *fixture) {
	theirs, ours := newEvent("test.theirs", newGrant()), happened("test.ours", newConnection("c"))
	bare := issuer.Event{At: start().Add(time.Hour), Type: "test.bare", Actor: "server"}
	f.ok(f.Record(f.Context(), theirs))
	f.record(ours)
	f.ok(f.Record(f.Context(), bare))
	feed, err := f.Hooks.Feed(f.Context(), 0, 10)
	f.ok(err)
	f.equal(len(feed), 3)
	var types []string
	for i, e := range feed {
		types = append(types, e.Type)
		if i > 0 && e.ID <= feed[i-1].ID {
			f.Errorf("event %d comes after %d", e.ID, feed[i-1].ID)
		}
	}
	f.equal(types, []string{"test.theirs", "test.ours", "test.bare"})
	f.equal(feed[2].At.UTC(), bare.At)
	var first, last issuer.Event
	var second keeper.Event
	for i, into := range []any{&first, &second, &last} {
		f.ok(json.Unmarshal(feed[i].Document, into))
	}
	theirs.ID, ours.ID, bare.ID = feed[0].ID, feed[1].ID, feed[2].ID
	f.equal(first, theirs)
	f.equal(second, ours)
	f.equal(last, bare)

	feed, err = f.Hooks.Feed(f.Context(), feed[0].ID, 1)
	f.ok(err)
	f.equal(len(feed), 1)
	f.equal(feed[0].Type, "test.ours")
	feed, err = f.Hooks.Feed(f.Context(), bare.ID, 10)
	f.ok(err)
	f.equal(len(feed), 0)
}

func lastEventIsKnown(f *fixture) {
	last := func() int64 {
		id, err := f.Hooks.LastEvent(f.Context())
		f.ok(err)
		return id
	}
	f.equal(last(), int64(0))
	f.record(happened("test.event", newConnection("c")))
	events, err := f.Keeper.Events(f.Context(), keeper.EventFilter{})
	f.ok(err)
	f.equal(last(), events[0].ID)
	f.equal(f.purgeEvents(start().Add(day)), 1)
	f.equal(last(), events[0].ID)
}

func deliveriesArePlanned(f *fixture) {
	planned := func(want int64, wantBegun bool) {
		f.Helper()
		to, begun, err := f.Hooks.Planned(f.Context())
		f.ok(err)
		f.equal(to, want)
		f.equal(begun, wantBegun)
	}
	plan := func(from, to int64, list ...hook.Delivery) bool {
		f.Helper()
		return f.did(f.Hooks.Plan(f.Context(), from, to, list))
	}
	planned(0, false)
	f.equal(plan(5, 9, newDelivery("app", 6)), false)
	planned(0, false)
	f.equal(plan(0, 0), true)
	planned(0, true)
	f.equal(plan(0, 7, newDelivery("app", 3), newDelivery("crm", 3), newDelivery("app", 7)), true)
	planned(7, true)
	f.equal(plan(0, 7, newDelivery("app", 3)), false)
	f.equal(plan(3, 9, newDelivery("app", 9)), false)
	f.equal(plan(7, 9), true)
	planned(9, true)
	var got []string
	for _, d := range f.delivered() {
		got = append(got, fmt.Sprint(d.Hook, d.Event))
	}
	f.equal(got, []string{"app3", "crm3", "app7"})
}

func racePlans(f *fixture) {
	f.equal(f.count(func(db Database, i int) (bool, error) {
		return db.Hooks.Plan(f.Context(), 0, 10, f.deliveries("app", 3))
	}), 1)
	f.equal(len(f.delivered()), 3)
}

func deliveriesAreClaimed(f *fixture) {
	var list []hook.Delivery
	for i, next := range []int{5, 1, 3, 1, 9, 0} {
		d := newDelivery("app", int64(i))
		d.NextAt = start().Add(time.Duration(next) * time.Second)
		if next == 0 {
			d.NextAt, d.DoneAt = time.Time{}, start()
		}
		list = append(list, d)
	}
	f.planned(append(list, newDelivery("crm", 100))...)
	stored := f.delivered()
	for i := range list {
		list[i].ID = stored[i].ID
		f.equal(stored[i], list[i])
	}
	f.equal(f.claim("app", start(), 10), []hook.Delivery(nil))
	at := start().Add(5 * time.Second)
	want := []hook.Delivery{list[1], list[3], list[2], list[0]}
	for i := range want {
		want[i].NextAt = at.Add(time.Minute)
	}
	f.equal(f.claim("app", at, 3), want[:3])
	f.equal(f.claim("app", at, 3), want[3:])
	f.equal(f.claim("app", at, 3), []hook.Delivery(nil))
	f.equal(len(f.claim("crm", at, 3)), 1)
	f.equal(f.claim("none", at, 3), []hook.Delivery(nil))
	f.equal(len(f.claim("app", at.Add(time.Minute), 10)), 5) // whoever had them has died
}

func raceClaims(f *fixture) {
	const count = 200
	f.planned(f.deliveries("app", count)...)
	var mu sync.Mutex
	taken := map[int64]int{}
	f.count(func(db Database, i int) (bool, error) {
		for {
			list, err := db.Hooks.Claim(f.Context(), "app", start(), start().Add(time.Minute), 3)
			if err != nil || len(list) == 0 {
				return false, err
			}
			mu.Lock()
			for _, d := range list {
				taken[d.ID]++
			}
			mu.Unlock()
		}
	})
	f.equal(len(taken), count)
	for id, times := range taken {
		if times != 1 {
			f.Errorf("delivery %d was taken %d times", id, times)
		}
	}
}

func attemptIsSettled(f *fixture) {
	f.planned(f.deliveries("app", 3)...)
	list := f.claim("app", start(), 3)
	list[0].Attempts, list[0].NextAt, list[0].Status, list[0].Error = 1, start().Add(time.Hour), 503, "the receiver answered 503"
	list[1].Attempts, list[1].NextAt, list[1].DoneAt, list[1].Status = 2, time.Time{}, start().Add(time.Second), 204
	list[2].Attempts, list[2].NextAt, list[2].Error = 9, time.Time{}, "given up"
	for _, d := range list {
		f.ok(f.Hooks.Settle(f.Context(), d))
		d.Hook, d.Body, d.Event = "other", nil, 0 // are not an attempt's to change
		f.ok(f.Hooks.Settle(f.Context(), d))
	}
	f.equal(f.delivered(), list)
	f.reopen()
	f.equal(f.delivered(), list)
	later := f.claim("app", start().Add(day), 10)
	f.equal(len(later), 1)
	f.equal(later[0].ID, list[0].ID)
	gone := list[0]
	gone.ID = 1 << 40
	f.ok(f.Hooks.Settle(f.Context(), gone))
}

func deliveriesAreListed(f *fixture) {
	f.planned(f.deliveries("app", 25)...)
	var got []int64
	for before := int64(0); ; {
		page, err := f.Hooks.Deliveries(f.Context(), before, 7)
		f.ok(err)
		if len(page) == 0 {
			break
		}
		for _, d := range page {
			got, before = append(got, d.Event), d.ID
		}
	}
	slices.Reverse(got)
	f.equal(len(got), 25)
	for i, event := range got {
		f.equal(event, int64(i+1))
	}
}

func purgeDeliveries(f *fixture) {
	open, done, late := newDelivery("app", 1), newDelivery("app", 2), newDelivery("app", 3)
	done.NextAt = time.Time{}
	late.NextAt, late.CreatedAt = time.Time{}, start().Add(day)
	f.planned(open, done, late)
	left := func() (events []int64) {
		for _, d := range f.delivered() {
			events = append(events, d.Event)
		}
		return events
	}
	for _, step := range []struct {
		before time.Time
		want   []int64
	}{
		{start(), []int64{1, 2, 3}}, {start().Add(time.Millisecond), []int64{1, 3}}, {start().Add(30 * day), []int64{1}},
		{start().Add(30*day + time.Millisecond), nil},
	} {
		f.equal(f.purgeEvents(step.before), 0)
		f.equal(left(), step.want)
	}
}
