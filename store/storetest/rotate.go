package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
)

func rotateCases() []contract {
	return []contract{
		{"a step changes generation, key and times, and nothing else", stepChanges},
		{"a step may skip generations", stepSkips},
		{"a step is refused, and the row is returned as it stands", stepIsRefused},
		{"a step is made up to the last millisecond", stepInTime},
		{"the new expiries are capped at the grant's end", stepIsCapped},
		{"the event is recorded with the step", stepRecords},
		{"steps follow each other", stepsFollow},
		{"a step with a scope narrows the grant for good, and others do not", stepNarrows},
		{"a step that narrows records its event", narrowingRecords},
		{"a step that is refused narrows nothing", refusedNarrowing},
		{"a step that narrowed and whose answer is lost is made, once", lostNarrowing},
	}
}

func stepChanges(f *fixture) {
	g := f.create(newGrant())
	other := f.create(newGrant())
	r := next(g)
	want := g
	want.Generation, want.KeyID, want.RotatedAt = r.To, r.KeyID, r.At
	want.ExpiresAt, want.AccessExpiresAt = r.ExpiresAt, r.AccessExpiresAt

	got, rotated := f.rotate(r)
	f.equal(rotated, true)
	f.equal(got, want)
	f.equal(f.grant(g.ID), want)
	f.equal(f.grant(other.ID), other)
}

func stepSkips(f *fixture) {
	g := f.create(newGrant())
	r := next(g)
	r.To = g.Generation + 900
	got, rotated := f.rotate(r)
	f.equal([]any{rotated, got.Generation}, []any{true, g.Generation + 900})
}

// stepIsRefused tries each reason with an event, which must not be recorded.
func stepIsRefused(f *fixture) {
	at := next(newGrant()).At
	cases := []struct {
		name   string
		grant  func(*issuer.Grant)
		change func(*issuer.Rotation)
	}{
		{"by another client", nil, func(r *issuer.Rotation) { r.ClientID = "thief" }},
		{"by no client", nil, func(r *issuer.Rotation) { r.ClientID = "" }},
		{"from the generation before", nil, func(r *issuer.Rotation) { r.From-- }},
		{"from a long past generation", nil, func(r *issuer.Rotation) { r.From = 0 }},
		{"from a later generation", nil, func(r *issuer.Rotation) { r.From++ }},
		{"when revoked", func(g *issuer.Grant) {
			g.RevokedAt, g.RevokedCause = at.Add(-time.Second), issuer.CauseClientRequest
		}, nil},
		{"when revoked later than the step", func(g *issuer.Grant) { g.RevokedAt = at.Add(time.Hour) }, nil},
		{"when expired at this very time", func(g *issuer.Grant) { g.ExpiresAt = at }, nil},
		{"when expired", func(g *issuer.Grant) { g.ExpiresAt = at.Add(-time.Millisecond) }, nil},
		{"when ended at this very time", func(g *issuer.Grant) { g.EndsAt = at }, nil},
		{"when ended", func(g *issuer.Grant) { g.EndsAt = at.Add(-day) }, nil},
		{"when ended and never expiring", func(g *issuer.Grant) { g.ExpiresAt, g.EndsAt = time.Time{}, at }, nil},
	}
	for _, c := range cases {
		f.Run(c.name, func(t *testing.T) {
			f := &fixture{T: t, Database: f.Database}
			g := newGrant()
			if c.grant != nil {
				c.grant(&g)
			}
			f.create(g)
			r := next(g)
			e := newEvent("test.step", g)
			r.Event = &e
			if c.change != nil {
				c.change(&r)
			}
			got, rotated := f.rotate(r)
			f.equal(rotated, false)
			f.equal(got, g)
			f.equal(f.grant(g.ID), g)
			f.equal(f.events(issuer.EventFilter{Type: "test.step"}), []issuer.Event(nil))
		})
	}
}

func stepInTime(f *fixture) {
	at := next(newGrant()).At
	for _, times := range [][2]time.Time{
		{at.Add(time.Millisecond), {}}, {{}, at.Add(time.Millisecond)}, {at.Add(time.Millisecond), at.Add(time.Millisecond)}, {{}, {}},
	} {
		g := newGrant()
		g.ExpiresAt, g.EndsAt = times[0], times[1]
		f.create(g)
		if _, rotated := f.rotate(next(g)); !rotated {
			f.Errorf("refused at %v though it expires at %v and ends at %v", at, times[0], times[1])
		}
	}
}

func stepIsCapped(f *fixture) {
	at := next(newGrant()).At
	soon, end, late := at.Add(time.Minute), at.Add(time.Hour), at.Add(2*time.Hour)
	var never time.Time
	cases := []struct {
		name                   string
		ends, expires, access  time.Time
		wantExpires, wantAcces time.Time
	}{
		{"both before the end", end, soon, soon, soon, soon},
		{"both at the end", end, end, end, end, end},
		{"both after the end", end, late, late, end, end},
		{"the refresh token alone", end, late, soon, end, soon},
		{"the access token alone", end, soon, late, soon, end},
		{"a refresh token that never expires", end, never, soon, end, soon},
		{"no end", never, late, late, late, late},
		{"no end and no expiry", never, never, late, never, late},
	}
	for _, c := range cases {
		g := newGrant()
		g.EndsAt = c.ends
		f.create(g)
		r := next(g)
		r.ExpiresAt, r.AccessExpiresAt = c.expires, c.access
		got, rotated := f.rotate(r)
		if !rotated || !got.ExpiresAt.Equal(c.wantExpires) || !got.AccessExpiresAt.Equal(c.wantAcces) {
			f.Errorf("%s: %v, expires %v, access %v; want %v, %v", c.name, rotated, got.ExpiresAt, got.AccessExpiresAt, c.wantExpires, c.wantAcces)
		}
		f.equal(f.grant(g.ID), got)
	}
}

func stepRecords(f *fixture) {
	g := f.create(newGrant())
	r := next(g)
	e := newEvent(issuer.EventGrantHealed, g)
	r.Event = &e
	got, rotated := f.rotate(r)
	f.equal(rotated, true)
	f.equal(f.grant(g.ID), got)
	f.equal(f.events(issuer.EventFilter{Type: issuer.EventGrantHealed}), []issuer.Event{e})
}

func stepsFollow(f *fixture) {
	g := f.create(newGrant())
	for range 300 {
		after, rotated := f.rotate(next(g))
		if !rotated || after.Generation != g.Generation+1 {
			f.Fatalf("from %+v to %+v", g, after)
		}
		if again, rotated := f.rotate(next(g)); rotated || again.Generation != after.Generation {
			f.Fatalf("generation %d was left twice", g.Generation)
		}
		g = after
	}
	f.equal(f.grant(g.ID), g)
}

func stepNarrows(f *fixture) {
	g, other := f.create(newGrant()), f.create(newGrant())
	r := next(g)
	r.Scope = oauth.Scope{"write"}
	want := g
	want.Generation, want.KeyID, want.RotatedAt = r.To, r.KeyID, r.At
	want.ExpiresAt, want.AccessExpiresAt, want.Scope = r.ExpiresAt, r.AccessExpiresAt, r.Scope
	got, rotated := f.rotate(r)
	f.equal(rotated, true)
	f.equal(got, want)
	f.equal(f.grant(g.ID), want)
	f.equal(f.grant(other.ID), other)

	got, rotated = f.rotate(next(got))
	f.equal([]any{rotated, got.Scope}, []any{true, r.Scope})
	r = next(got)
	r.Scope = oauth.Scope{} // nothing is left, which is not the same as nothing said
	got, rotated = f.rotate(r)
	f.equal([]any{rotated, got.Scope}, []any{true, oauth.Scope(nil)})
	f.equal(f.grant(g.ID), got)
}

func narrowingRecords(f *fixture) {
	g := f.create(newGrant())
	r := next(g)
	e := newEvent(issuer.EventGrantHealed, g)
	r.Scope, r.Event = oauth.Scope{"read"}, &e
	got, rotated := f.rotate(r)
	f.equal([]any{rotated, got.Scope}, []any{true, r.Scope})
	f.equal(f.grant(g.ID), got)
	f.equal(f.events(issuer.EventFilter{Type: issuer.EventGrantHealed}), []issuer.Event{e})
}

func refusedNarrowing(f *fixture) {
	g := f.create(newGrant())
	e := newEvent("test.step", g)
	for _, event := range []*issuer.Event{nil, &e} {
		r := next(g)
		r.From, r.Scope, r.Event = g.Generation-1, oauth.Scope{"read"}, event
		got, rotated := f.rotate(r)
		f.equal(rotated, false)
		f.equal(got, g)
	}
	f.equal(f.grant(g.ID), g)
}

func lostNarrowing(f *fixture) {
	g := f.create(newGrant())
	lost := errors.New("the answer is lost")
	answers := 0
	faulty := Faulty{Store: f.Store, After: func(string) error {
		if answers++; answers == 1 {
			return lost
		}
		return nil
	}}
	r := next(g)
	r.Scope = oauth.Scope{"read"}
	_, _, err := faulty.Rotate(f.Context(), r)
	f.is(err, lost)
	r.At = r.At.Add(time.Second)
	got, rotated, err := faulty.Rotate(f.Context(), r)
	f.ok(err)
	want := g
	want.Generation, want.KeyID, want.RotatedAt, want.Scope = r.To, r.KeyID, next(g).At, r.Scope
	want.ExpiresAt, want.AccessExpiresAt = r.ExpiresAt, r.AccessExpiresAt
	f.equal(rotated, false)
	f.equal(utc(got), want)
}
