package storetest

import (
	"fmt"
	"slices"

	"github.com/evergrant/evergrant/issuer"
)

func listCases() []contract {
	return []contract{
		{"an empty database has empty lists", emptyLists},
		{"clients come in the order of their ids, page by page", clientPages},
		{"users come in the order of their names, page by page", userPages},
		{"grants come in the order of their ids, page by page", grantPages},
		{"grants are chosen by client, subject and both", grantFilters},
		{"a limit of 0 is 100, and none is above 1000", limits},
		{"statistics count the rows of each table and the bytes in use", statistics},
	}
}

func emptyLists(f *fixture) {
	clients, err := f.Clients(f.Context(), "", 0)
	f.ok(err)
	users, err := f.Users(f.Context(), "", 0)
	f.ok(err)
	grants, err := f.Grants(f.Context(), issuer.GrantFilter{})
	f.ok(err)
	f.equal([]int{len(clients), len(users), len(grants), len(f.events(issuer.EventFilter{})), len(f.uses(issuer.UseFilter{}))}, []int{0, 0, 0, 0, 0})
}

// names are in the order of their bytes, which is no language's.
func names() []string { return []string{"1", "B", "Z", "_", "a", "aa", "b", "ä", "日"} }

func clientPages(f *fixture) {
	for _, id := range shuffled(names()) {
		f.ok(f.PutClient(f.Context(), newClient(id), saved(issuer.EventClientSaved)))
	}
	var got []string
	for after := ""; ; {
		page, err := f.Clients(f.Context(), after, 2)
		f.ok(err)
		for _, c := range page {
			f.equal(c, newClient(c.ID))
			got, after = append(got, c.ID), c.ID
		}
		if len(page) < 2 {
			break
		}
	}
	f.equal(got, names())
}

func userPages(f *fixture) {
	for _, name := range shuffled(names()) {
		f.ok(f.PutUser(f.Context(), newUser(name), saved(issuer.EventUserSaved)))
	}
	var got []string
	for after := ""; ; {
		page, err := f.Users(f.Context(), after, 4)
		f.ok(err)
		for _, u := range page {
			f.equal(u, newUser(u.Username))
			got, after = append(got, u.Username), u.Username
		}
		if len(page) < 4 {
			break
		}
	}
	f.equal(got, names())
}

// shuffled is another order of a list, the same each time.
func shuffled(list []string) []string {
	slices.Reverse(list)
	return append(list[3:], list[:3]...)
}

// createGrants makes count grants, the i-th of client i%3 and subject i%2, and
// returns them in the order of their ids.
func (f *fixture) createGrants(count int) []issuer.Grant {
	f.Helper()
	grants := make([]issuer.Grant, count)
	race(func(racer int) {
		for i := racer; i < count; i += racers {
			g := newGrant()
			g.ID[0] = byte(i * 37) // so that order of creation and of ids differ
			g.ClientID, g.Subject = fmt.Sprintf("client%d", i%3), fmt.Sprintf("subject%d", i%2)
			grants[i] = g
			if err := f.CreateGrant(f.Context(), g, newEvent(issuer.EventGrantCreated, g)); err != nil {
				f.Error(err)
			}
		}
	})
	slices.SortFunc(grants, func(a, b issuer.Grant) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return grants
}

// pages follows a filter through its pages.
func (f *fixture) pages(filter issuer.GrantFilter) []issuer.Grant {
	f.Helper()
	var all []issuer.Grant
	for {
		page, err := f.Grants(f.Context(), filter)
		f.ok(err)
		if len(page) > filter.Limit {
			f.Fatalf("%d grants, limit %d", len(page), filter.Limit)
		}
		for _, g := range page {
			all = append(all, utc(g))
		}
		if len(page) < filter.Limit {
			return all
		}
		filter.After = page[len(page)-1].ID
	}
}

func grantPages(f *fixture) {
	want := f.createGrants(25)
	for _, limit := range []int{1, 5, 24, 25, 26} {
		f.equal(f.pages(issuer.GrantFilter{Limit: limit}), want)
	}
}

func grantFilters(f *fixture) {
	all := f.createGrants(30)
	for _, filter := range []issuer.GrantFilter{
		{ClientID: "client1"}, {Subject: "subject0"}, {ClientID: "client2", Subject: "subject1"}, {ClientID: "client"}, {Subject: "alice"},
	} {
		var want []issuer.Grant
		for _, g := range all {
			if (filter.ClientID == "" || g.ClientID == filter.ClientID) && (filter.Subject == "" || g.Subject == filter.Subject) {
				want = append(want, g)
			}
		}
		for _, filter.Limit = range []int{2, 3, 100} {
			f.equal(f.pages(filter), want)
		}
	}
}

func limits(f *fixture) {
	f.createGrants(1001)
	for limit, want := range map[int]int{0: 100, 1: 1, 1000: 1000, 5000: 1000, -1: 100} {
		grants, err := f.Grants(f.Context(), issuer.GrantFilter{Limit: limit})
		f.ok(err)
		events, err := f.Events(f.Context(), issuer.EventFilter{Limit: limit})
		f.ok(err)
		if len(grants) != want || len(events) != want {
			f.Errorf("limit %d gives %d grants and %d events, want %d", limit, len(grants), len(events), want)
		}
	}
}

func statistics(f *fixture) {
	before, err := f.Stats(f.Context())
	f.ok(err)
	f.createGrants(50)
	f.ok(f.PutClient(f.Context(), newClient("shop"), saved(issuer.EventClientSaved)))
	f.ok(f.PutUser(f.Context(), newUser("alice"), saved(issuer.EventUserSaved)))
	f.ok(f.PutUser(f.Context(), newUser("bob"), saved(issuer.EventUserSaved)))
	f.ok(f.AddKey(f.Context(), newKey(1)))
	f.revokeToken("jti", start())
	f.ok(f.CountUses(f.Context(), []issuer.Use{newUse("shop", issuer.HabitPassword), newUse("shop", issuer.HabitRetry)}))
	after, err := f.Stats(f.Context())
	f.ok(err)
	for table, want := range map[string]int64{
		"grants": 50, "clients": 1, "users": 2, "habits": 2, "keys": 1, "revoked_access_tokens": 1, "events": 54,
	} {
		f.equal(after.Rows[table], want)
	}
	if before.DatabaseBytes <= 0 || after.DatabaseBytes < before.DatabaseBytes+50*100 {
		f.Errorf("%d bytes before and %d after", before.DatabaseBytes, after.DatabaseBytes)
	}
}
