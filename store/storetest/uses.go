package storetest

import (
	"slices"
	"time"

	"github.com/evergrant/evergrant/issuer"
)

func useCases() []contract {
	return []contract{
		{"a count begins with what is given", useBegins},
		{"counts are added, the first time stays the earliest and the last one the latest", usesAdd},
		{"a pair that is twice in a batch is added twice", usesTwice},
		{"two stores count together", usesTogether},
		{"64 goroutines count together", raceUses},
		{"none are counted of a client that is not there", usesOfNobody},
		{"a client's counts begin anew when they are forgotten", usesAreForgotten},
		{"a deleted client leaves no counts behind", usesAreDeleted},
		{"counts come in the order of clients and habits, page by page", usePages},
	}
}

// newUse is a use with no field empty.
func newUse(client string, habit issuer.Habit) issuer.Use {
	return issuer.Use{ClientID: client, Habit: habit, Count: 3, First: start(), Last: start().Add(time.Hour)}
}

// uses are those that a filter chooses.
func (f *fixture) uses(filter issuer.UseFilter) []issuer.Use {
	f.Helper()
	uses, err := f.Uses(f.Context(), filter)
	f.ok(err)
	return uses
}

// shops makes clients.
func (f *fixture) shops(ids ...string) {
	f.Helper()
	for _, id := range ids {
		f.ok(f.PutClient(f.Context(), newClient(id), saved(issuer.EventClientSaved)))
	}
}

func useBegins(f *fixture) {
	f.shops("shop", "bank")
	shop, bank := newUse("shop", issuer.HabitPassword), newUse("bank", issuer.HabitRetry)
	bank.Count = 1<<62 - 1
	f.ok(f.CountUses(f.Context(), []issuer.Use{shop, bank}))
	f.ok(f.CountUses(f.Context(), nil))
	f.equal(f.uses(issuer.UseFilter{}), []issuer.Use{bank, shop})
	f.reopen()
	f.equal(f.uses(issuer.UseFilter{}), []issuer.Use{bank, shop})
}

func usesAdd(f *fixture) {
	f.shops("shop")
	want := newUse("shop", issuer.HabitPassword)
	f.ok(f.CountUses(f.Context(), []issuer.Use{want}))
	for _, c := range []struct{ first, last, wantFirst, wantLast time.Time }{
		{start().Add(time.Minute), start().Add(2 * time.Minute), start(), start().Add(time.Hour)}, // within
		{start().Add(-time.Minute), start(), start().Add(-time.Minute), start().Add(time.Hour)},   // by a clock that is behind
		{start(), start().Add(day), start().Add(-time.Minute), start().Add(day)},
	} {
		f.ok(f.CountUses(f.Context(), []issuer.Use{{ClientID: "shop", Habit: issuer.HabitPassword, Count: 5, First: c.first, Last: c.last}}))
		want.Count, want.First, want.Last = want.Count+5, c.wantFirst, c.wantLast
		f.equal(f.uses(issuer.UseFilter{}), []issuer.Use{want})
	}
}

func usesTwice(f *fixture) {
	f.shops("shop")
	use, later := newUse("shop", issuer.HabitPassword), newUse("shop", issuer.HabitPassword)
	later.First, later.Last = later.Last, later.Last.Add(time.Hour)
	f.ok(f.CountUses(f.Context(), []issuer.Use{later, newUse("shop", issuer.HabitRetry), use}))
	use.Count, use.Last = 6, later.Last
	f.equal(f.uses(issuer.UseFilter{}), []issuer.Use{use, newUse("shop", issuer.HabitRetry)})
}

func usesTogether(f *fixture) {
	other := f.open()
	defer other.Close()
	f.shops("shop")
	use := newUse("shop", issuer.HabitPassword)
	for range 10 {
		f.ok(f.CountUses(f.Context(), []issuer.Use{use}))
		f.ok(other.CountUses(f.Context(), []issuer.Use{use}))
	}
	use.Count *= 20
	f.equal(f.uses(issuer.UseFilter{}), []issuer.Use{use})
}

// raceUses counts in orders that would wait for each other in a circle.
func raceUses(f *fixture) {
	ids := names()
	f.shops(ids...)
	race(func(i int) {
		var uses []issuer.Use
		for k := range ids {
			uses = append(uses, newUse(ids[(i+k)%len(ids)], issuer.HabitPassword))
		}
		if err := f.CountUses(f.Context(), uses); err != nil {
			f.Error(err)
		}
	})
	for _, u := range f.uses(issuer.UseFilter{}) {
		f.equal(u.Count, int64(3*racers))
	}
	f.equal(len(f.uses(issuer.UseFilter{})), len(ids))
}

func usesOfNobody(f *fixture) {
	f.shops("shop")
	f.ok(f.CountUses(f.Context(), []issuer.Use{newUse("gone", issuer.HabitPassword), newUse("shop", issuer.HabitPassword)}))
	f.equal(f.uses(issuer.UseFilter{}), []issuer.Use{newUse("shop", issuer.HabitPassword)})
}

func usesAreForgotten(f *fixture) {
	f.shops("shop", "shopper")
	f.ok(f.CountUses(f.Context(), []issuer.Use{
		newUse("shop", issuer.HabitPassword), newUse("shop", issuer.HabitRetry), newUse("shopper", issuer.HabitRetry),
	}))
	f.ok(f.ForgetUses(f.Context(), "shop"))
	f.ok(f.ForgetUses(f.Context(), "shop"))
	f.ok(f.ForgetUses(f.Context(), "nobody\x00"))
	f.equal(f.uses(issuer.UseFilter{}), []issuer.Use{newUse("shopper", issuer.HabitRetry)})
	f.ok(f.CountUses(f.Context(), []issuer.Use{newUse("shop", issuer.HabitRetry)}))
	f.equal(f.uses(issuer.UseFilter{ClientID: "shop"}), []issuer.Use{newUse("shop", issuer.HabitRetry)})
}

func usesAreDeleted(f *fixture) {
	f.shops("shop", "other")
	f.ok(f.CountUses(f.Context(), []issuer.Use{
		newUse("shop", issuer.HabitPassword), newUse("shop", issuer.HabitRetry), newUse("other", issuer.HabitRetry),
	}))
	f.is(f.DeleteClient(f.Context(), "nobody", saved(issuer.EventClientDeleted)), issuer.ErrNotFound)
	f.ok(f.DeleteClient(f.Context(), "shop", saved(issuer.EventClientDeleted)))
	f.equal(f.uses(issuer.UseFilter{}), []issuer.Use{newUse("other", issuer.HabitRetry)})
	f.shops("shop")
	f.equal(f.uses(issuer.UseFilter{ClientID: "shop"}), []issuer.Use(nil))
}

func usePages(f *fixture) {
	ids := names()
	f.shops(ids...)
	habits := []issuer.Habit{"B", "_", "a", "ä"}
	var want []issuer.Use
	for _, id := range ids {
		for _, habit := range habits {
			want = append(want, newUse(id, habit))
		}
	}
	f.ok(f.CountUses(f.Context(), slices.Concat(want[17:], want[:17])))
	for _, filter := range []issuer.UseFilter{{Limit: 1}, {Limit: 3}, {Limit: 36}, {Limit: 37}, {ClientID: "aa", Limit: 3}} {
		chosen := want
		if filter.ClientID != "" {
			chosen = nil
			for _, u := range want {
				if u.ClientID == filter.ClientID {
					chosen = append(chosen, u)
				}
			}
		}
		var got []issuer.Use
		for {
			page := f.uses(filter)
			got = append(got, page...)
			if len(page) < filter.Limit {
				break
			}
			last := page[len(page)-1]
			filter.AfterClient, filter.AfterHabit = last.ClientID, last.Habit
		}
		f.equal(got, chosen)
	}
	f.equal(f.uses(issuer.UseFilter{AfterClient: "Z", AfterHabit: "ä"}), want[12:])
	f.equal(f.uses(issuer.UseFilter{AfterClient: "Z"}), want[8:])
}
