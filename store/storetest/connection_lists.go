package storetest

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/secret"
)

func connectionListCases() []contract {
	return []contract{
		{"what is due comes the longest due first, at most limit", dueOrder},
		{"what is leased is not due, nor what is never due", dueLeases},
		{"what is due is chosen by providers", dueProviders},
		{"a commit moves when a connection is due", dueMoves},
		{"connections that an older key sealed are found, page by page", staleKeys},
		{"connections are chosen by provider, owner, state and tenant, in the order of their ids, page by page", connectionFilters},
		{"a list does not have what is sealed", listsAreOpen},
		{"a list has 100 connections where no limit is given, and 1000 at most", connectionLimits},
		{"connections are counted by provider and state, as they are now", connectionCounts},
		{"statistics count the rows of each of the keeper's tables", keeperStatistics},
	}
}

// dueIDs are ids of what is due.
func (f *fixture) dueIDs(at time.Time, limit int, providers ...string) []string {
	f.Helper()
	due, err := f.Keeper.Due(f.Context(), at, limit, providers...)
	f.ok(err)
	var ids []string
	for _, d := range due {
		ids = append(ids, d.ID)
	}
	return ids
}

// makeDue makes count connections of three providers that are due one minute
// after the other, in another order than that of their ids.
func (f *fixture) makeDue(count int) []string {
	f.Helper()
	ids := make([]string, count)
	for i := range count {
		c := idle(name("c", i*7%count))
		c.Provider = fmt.Sprintf("provider%d", i%3)
		c.DueAt = start().Add(time.Duration(i) * time.Minute)
		ids[i] = f.keep(c).ID
	}
	return ids
}

func dueOrder(f *fixture) {
	f.equal(f.dueIDs(start(), 10), []string(nil))
	ids := f.makeDue(20)
	for _, c := range []struct {
		at, limit int
		want      []string
	}{{-1, 100, nil}, {0, 100, ids[:1]}, {9, 100, ids[:10]}, {19, 100, ids}, {10000, 100, ids}, {19, 20, ids}, {19, 5, ids[:5]}, {19, 1, ids[:1]}, {19, 0, nil}} {
		f.equal(f.dueIDs(start().Add(time.Duration(c.at)*time.Minute), c.limit), c.want)
	}
	due, err := f.Keeper.Due(f.Context(), start(), 1)
	f.ok(err)
	f.equal(inUTC(due[0]), keeper.Due{ID: ids[0], Provider: "provider0", Tenant: "north", Owner: "alice", DueAt: start()})

	for _, id := range []string{"tie-c", "tie-a", "tie-b"} {
		c := idle(id)
		c.Provider, c.DueAt = "provider-of-"+id, start().Add(-day)
		f.keep(c)
	}
	f.equal(f.dueIDs(start(), 100), append([]string{"tie-a", "tie-b", "tie-c"}, ids[0]))
}

func dueLeases(f *fixture) {
	ids := f.makeDue(6)
	never := idle("never")
	never.DueAt = time.Time{}
	f.keep(never)
	at := start().Add(day)
	f.lease(ids[0], at)
	f.lease(ids[3], at)
	f.equal(f.dueIDs(at, 2), []string{ids[1], ids[2]})
	f.equal(f.dueIDs(at.Add(leaseFor-time.Millisecond), 100), []string{ids[1], ids[2], ids[4], ids[5]})
	f.equal(f.dueIDs(at.Add(leaseFor), 100), ids)
}

func dueProviders(f *fixture) {
	ids := f.makeDue(9)
	at := start().Add(day)
	f.equal(f.dueIDs(at, 100, "provider1"), []string{ids[1], ids[4], ids[7]})
	f.equal(f.dueIDs(at, 100, "provider2", "none", "provider0", "provider2"), []string{ids[0], ids[2], ids[3], ids[5], ids[6], ids[8]})
	f.equal(f.dueIDs(at, 3, "provider2", "provider0"), []string{ids[0], ids[2], ids[3]})
	f.equal(f.dueIDs(at, 100, "provider", ""), []string(nil))
}

func dueMoves(f *fixture) {
	c := f.keep(idle("c"))
	f.equal(f.dueIDs(c.DueAt, 10), []string{"c"})
	for _, at := range []time.Time{start().Add(40 * day), {}, start().Add(5 * day)} {
		next := f.lease("c", c.DueAt.Add(365*day))
		next.DueAt, next.Provider = at, next.Provider+"x"
		f.commit(next)
		f.equal(f.dueIDs(start().Add(day), 10), []string(nil))
		f.equal(len(f.dueIDs(start().Add(100*day), 10, next.Provider)), min(1, int(at.Unix()-time.Time{}.Unix())))
	}
}

func staleKeys(f *fixture) {
	var want []string
	for i := range 40 {
		c := idle(name("c", i))
		c.Tokens = sealed(uint32(i%4), "tokens") // key 0 is none
		if i%4 == 0 {
			c.Tokens = secret.Sealed{}
		}
		if i%5 == 0 {
			c.Intent = newConnection(c.ID).Intent
			c.Intent.Answer = sealed(uint32(i%10/5+1), "answer")
		}
		f.keep(c)
		if token, answer := i%4, i%5 == 0 && i%10/5+1 < 3; token > 0 && token < 3 || answer {
			want = append(want, c.ID)
		}
	}
	for _, limit := range []int{1, 3, 7, 1000} {
		var got []string
		for after := ""; ; after = got[len(got)-1] {
			page, err := f.Keeper.Stale(f.Context(), 3, after, limit)
			f.ok(err)
			if len(page) > limit {
				f.Fatalf("%d ids, limit %d", len(page), limit)
			}
			if got = append(got, page...); len(page) == 0 {
				break
			}
		}
		f.equal(got, want)
	}
	none, err := f.Keeper.Stale(f.Context(), 1, "", 10)
	f.ok(err)
	f.equal(none, []string(nil))
}

// list is a list, in which the limit is 100 or the filter's.
func (f *fixture) list(filter keeper.Filter) []keeper.Connection {
	f.Helper()
	connections, err := f.Keeper.Connections(f.Context(), filter)
	f.ok(err)
	return connections
}

// ids are those of all pages of a list.
func (f *fixture) ids(filter keeper.Filter) (ids []string) {
	f.Helper()
	for {
		page := f.list(filter)
		for _, c := range page {
			ids = append(ids, c.ID)
		}
		if len(page) == 0 {
			return ids
		}
		filter.After = page[len(page)-1].ID
	}
}

// makeMany makes connections of each provider, owner, state and tenant, and
// returns them by id.
func (f *fixture) makeMany() (all []keeper.Connection) {
	f.Helper()
	states := []keeper.State{keeper.Active, keeper.InDoubt, keeper.Reauthorize, keeper.Paused}
	for i := range 120 {
		c := idle(name("c", i*37%120))
		c.Provider, c.Owner, c.Tenant = fmt.Sprintf("p%d", i%3), fmt.Sprintf("o%d", i%5), []string{"", "north"}[i%7%2]
		c.State = states[i%11%4]
		if i%5 == 4 {
			c.Owner = ""
		}
		all = append(all, f.keep(c))
	}
	slices.SortFunc(all, func(a, b keeper.Connection) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

func connectionFilters(f *fixture) {
	all := f.makeMany()
	none, north, other := "", "north", "other"
	for _, provider := range []string{"", "p1", "none"} {
		for _, owner := range []string{"", "o2", "none"} {
			for _, state := range []keeper.State{"", keeper.Active, keeper.Paused} {
				for _, tenant := range []*string{nil, &none, &north, &other} {
					filter := keeper.Filter{Provider: provider, Owner: owner, State: state, Tenant: tenant}
					var want []string
					for _, c := range all {
						if (provider == "" || c.Provider == provider) && (owner == "" || c.Owner == owner) &&
							(state == "" || c.State == state) && (tenant == nil || c.Tenant == *tenant) {
							want = append(want, c.ID)
						}
					}
					for _, filter.Limit = range []int{7, 1000} {
						f.equal(f.ids(filter), want)
					}
				}
			}
		}
	}
}

func listsAreOpen(f *fixture) {
	want := f.keep(newConnection("c"))
	intent := *want.Intent
	want.Tokens, want.Intent, intent.Answer = secret.Sealed{}, &intent, secret.Sealed{}
	got := f.list(keeper.Filter{})
	f.equal(len(got), 1)
	c := sameZone(got[0])
	c.Tokens.KeyID, c.Intent.Answer.KeyID = 0, 0
	f.equal(c, want)
}

func connectionLimits(f *fixture) {
	race(func(racer int) {
		for i := racer; i <= 1000; i += racers {
			c := idle(name("c", i))
			if err := f.Keeper.Create(f.Context(), c, happened(keeper.EventCreated, c)); err != nil {
				f.Error(err)
			}
		}
	})
	for limit, want := range map[int]int{0: 100, 1: 1, 1000: 1000, 5000: 1000, -1: 100} {
		for _, filter := range []keeper.Filter{{Limit: limit}, {Limit: limit, Provider: "acme"}, {Limit: limit, Owner: "alice"}} {
			connections := f.list(filter)
			f.equal(len(connections), want)
			f.equal(connections[0].ID, name("c", 0))
		}
		events, err := f.Keeper.Events(f.Context(), keeper.EventFilter{Limit: limit})
		f.ok(err)
		f.equal(len(events), want)
	}
	f.equal(len(f.dueIDs(start().Add(day), 1001)), 1001)
}

func connectionCounts(f *fixture) {
	counts := func() map[string]map[keeper.State]int {
		counts, err := f.Keeper.Counts(f.Context())
		f.ok(err)
		return counts
	}
	f.equal(counts(), map[string]map[keeper.State]int{})
	want := map[string]map[keeper.State]int{}
	for _, c := range f.makeMany() {
		if want[c.Provider] == nil {
			want[c.Provider] = map[keeper.State]int{}
		}
		want[c.Provider][c.State]++
	}
	f.equal(counts(), want)
	c := f.lease(name("c", 0), start())
	want[c.Provider][c.State]--
	c.State = keeper.Paused
	want[c.Provider][c.State]++
	f.commit(c)
	f.equal(counts(), want)
}

func keeperStatistics(f *fixture) {
	for i := range 3 {
		f.keep(newConnection(name("c", i)))
	}
	f.equal(f.did(f.Keeper.Once(f.Context(), "state", start(), start())), true)
	f.equal(f.did(f.Hooks.Plan(f.Context(), 0, 1, f.deliveries("app", 2))), true)
	stats, err := f.Stats(f.Context())
	f.ok(err)
	for table, want := range map[string]int64{"connections": 3, "journal": 3, "events": 3, "once": 1, "planned": 1, "deliveries": 2} {
		f.equal(stats.Rows[table], want)
	}
}
