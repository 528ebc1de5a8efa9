package storetest

import (
	"time"

	"github.com/evergrant/evergrant/issuer"
)

func revokeCases() []contract {
	return []contract{
		{"revoking sets time and cause, records the event, and nothing else changes", revokingChanges},
		{"revoking again changes nothing and records nothing", revokingAgain},
		{"a grant that never expires expires 30 days later", revokingNeverExpiring},
		{"a grant that ends keeps its expiries", revokingEnding},
		{"a revoked grant is not rotated", revokedIsNotRotated},
		{"an expired grant is revoked all the same", revokingExpired},
	}
}

func (f *fixture) revoke(id issuer.GrantID, at time.Time, e issuer.Event) bool {
	f.Helper()
	did, err := f.Revoke(f.Context(), id, at, e)
	f.ok(err)
	return did
}

func revokingChanges(f *fixture) {
	g, other := f.create(newGrant()), f.create(newGrant())
	e := newEvent(issuer.EventReuseDetected, g)
	e.Cause = issuer.CauseRefreshTokenReused
	f.equal(f.revoke(g.ID, start(), e), true)

	want := g
	want.RevokedAt, want.RevokedCause = start(), issuer.CauseRefreshTokenReused
	f.equal(f.grant(g.ID), want)
	f.equal(f.grant(other.ID), other)
	f.equal(f.events(issuer.EventFilter{Type: issuer.EventReuseDetected}), []issuer.Event{e})
}

func revokingAgain(f *fixture) {
	g := f.create(newGrant())
	f.revoke(g.ID, start(), newEvent(issuer.EventGrantRevoked, g))
	want := f.grant(g.ID)

	e := newEvent("test.again", g)
	e.Cause = issuer.CauseOperatorRequest
	f.equal(f.revoke(g.ID, start().Add(time.Hour), e), false)
	f.equal(f.grant(g.ID), want)
	f.equal(f.events(issuer.EventFilter{Type: "test.again"}), []issuer.Event(nil))
}

func revokingNeverExpiring(f *fixture) {
	g := newGrant()
	g.ExpiresAt = time.Time{}
	f.create(g)
	f.revoke(g.ID, start(), newEvent(issuer.EventGrantRevoked, g))
	f.equal(f.grant(g.ID).ExpiresAt, start().Add(30*day))
}

func revokingEnding(f *fixture) {
	g := newGrant()
	g.ExpiresAt, g.EndsAt = time.Time{}, start().Add(400*day)
	f.create(g)
	f.revoke(g.ID, start(), newEvent(issuer.EventGrantRevoked, g))
	got := f.grant(g.ID)
	f.equal([]time.Time{got.ExpiresAt, got.EndsAt}, []time.Time{{}, g.EndsAt})
}

func revokedIsNotRotated(f *fixture) {
	g := f.create(newGrant())
	f.revoke(g.ID, start(), newEvent(issuer.EventGrantRevoked, g))
	got, rotated := f.rotate(next(g))
	f.equal(rotated, false)
	f.equal(got, f.grant(g.ID))
	f.equal(got.Generation, g.Generation)
}

func revokingExpired(f *fixture) {
	g := f.create(newGrant())
	f.equal(f.revoke(g.ID, g.ExpiresAt.Add(day), newEvent(issuer.EventGrantRevoked, g)), true)
}
