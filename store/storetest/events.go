package storetest

import (
	"slices"
	"strings"

	"github.com/evergrant/evergrant/issuer"
)

func eventCases() []contract {
	return []contract{
		{"an event is read back with every field", eventIsRead},
		{"an event with few fields is too", bareEventIsRead},
		{"ids grow and the newest comes first", eventOrder},
		{"events are chosen by grant, client, subject, type and prefix of the type", eventFilters},
		{"events are paged by id", eventPages},
	}
}

func eventIsRead(f *fixture) {
	want := newEvent("test.event", newGrant())
	want.Detail = "two\nlines, \"quotes\" and ünïcode"
	f.ok(f.Record(f.Context(), want))
	f.equal(f.events(issuer.EventFilter{}), []issuer.Event{want})
}

func bareEventIsRead(f *fixture) {
	want := issuer.Event{At: start(), Type: "test.event", Actor: "server"}
	f.ok(f.Record(f.Context(), want))
	f.equal(f.events(issuer.EventFilter{}), []issuer.Event{want})
}

func eventOrder(f *fixture) {
	for i := range 5 {
		e := newEvent("test.event", newGrant())
		e.At = start().AddDate(0, 0, -i) // the clock may go back
		f.ok(f.Record(f.Context(), e))
	}
	events, err := f.Events(f.Context(), issuer.EventFilter{})
	f.ok(err)
	for i := range events[1:] {
		if events[i].ID <= events[i+1].ID || events[i].At.After(events[i+1].At) {
			f.Errorf("%+v comes before %+v", events[i], events[i+1])
		}
	}
}

// recordMany records one event for each combination and returns them, newest
// first.
func (f *fixture) recordMany() []issuer.Event {
	f.Helper()
	var all []issuer.Event
	grants := []issuer.Grant{newGrant(), newGrant(), {}}
	for _, kind := range []string{"grant.created", "grant.revoked", "grants.other", "grant", "client.saved", "grantx"} {
		for i, g := range grants {
			e := newEvent(kind, g)
			e.ClientID, e.Subject = []string{"shop", "bank", ""}[i], []string{"alice", "bob", ""}[(i+1)%3]
			f.ok(f.Record(f.Context(), e))
			all = append(all, e)
		}
	}
	slices.Reverse(all)
	return all
}

func eventFilters(f *fixture) {
	all := f.recordMany()
	grant := all[len(all)-1].Grant
	for _, filter := range []issuer.EventFilter{
		{}, {Grant: grant}, {ClientID: "shop"}, {Subject: "bob"}, {Type: "grant.created"}, {Type: "grant."}, {Type: "client."},
		{Type: "grant"}, {Type: "none."}, {Grant: grant, Type: "grant."}, {ClientID: "bank", Subject: "alice"}, {ClientID: "bank", Subject: "none"},
		{Grant: issuer.NewGrantID()},
	} {
		var want []issuer.Event
		for _, e := range all {
			if chosen(filter, e) {
				want = append(want, e)
			}
		}
		f.equal(f.events(filter), want)
	}
}

func chosen(filter issuer.EventFilter, e issuer.Event) bool {
	kind := filter.Type == "" || e.Type == filter.Type || strings.HasSuffix(filter.Type, ".") && strings.HasPrefix(e.Type, filter.Type)
	return kind && (filter.Grant.IsZero() || filter.Grant == e.Grant) && (filter.ClientID == "" || filter.ClientID == e.ClientID) &&
		(filter.Subject == "" || filter.Subject == e.Subject)
}

func eventPages(f *fixture) {
	want := f.recordMany()
	var got []issuer.Event
	filter := issuer.EventFilter{Limit: 4}
	for {
		page, err := f.Events(f.Context(), filter)
		f.ok(err)
		for _, e := range page {
			filter.Before = e.ID
			e.ID, e.At = 0, e.At.UTC()
			got = append(got, e)
		}
		if len(page) < filter.Limit {
			break
		}
	}
	f.equal(got, want)
}
