package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"pgregory.net/rapid"
)

func purgeCases() []contract {
	return []contract{
		{"a grant is deleted when neither of its tokens lives, and not before", purgeBoundaries},
		{"a renewed grant survives its first expiry and not its second", purgeRenewed},
		{"a revoked grant stays until it would have expired", purgeRevoked},
		{"a grant that never expires stays", purgeNever},
		{"an access token is forgotten when it has expired, and not before", purgeTokens},
		{"events from before a time are deleted, later ones stay, and ids go on growing", purgeEvents},
		{"more rows than a batch has are purged at once", purgeMany},
		{"purging is complete whatever was renewed, revoked or purged before", purgeModel},
	}
}

func (f *fixture) purge(before time.Time) issuer.Purged {
	f.Helper()
	purged, err := f.Purge(f.Context(), before, time.Time{})
	f.ok(err)
	return purged
}

func (f *fixture) exists(id issuer.GrantID) bool {
	f.Helper()
	_, err := f.Store.Grant(f.Context(), id)
	if err != nil && !errors.Is(err, issuer.ErrNotFound) {
		f.Fatal(err)
	}
	return err == nil
}

func purgeBoundaries(f *fixture) {
	soon, late := start().Add(time.Minute), start().Add(3*time.Hour)
	var none time.Time
	cases := []struct {
		name                  string
		expires, ends, access time.Time
		dead                  time.Time
	}{
		{"the refresh token expires last", late, none, soon, late},
		{"the access token expires last", soon, none, late, late},
		{"no access token", soon, none, none, soon},
		{"it ends before the refresh token expires", late, soon, none, soon},
		{"the refresh token expires before it ends", soon, late, none, soon},
		{"it ends and never expires", none, soon, none, soon},
		{"it ends and an access token outlives it", none, soon, late, late},
	}
	for _, c := range cases {
		f.Run(c.name, func(t *testing.T) {
			f := &fixture{T: t, Database: f.Database}
			g := newGrant()
			g.ExpiresAt, g.EndsAt, g.AccessExpiresAt = c.expires, c.ends, c.access
			f.create(g)
			f.equal(f.purge(c.dead.Add(-time.Millisecond)), issuer.Purged{})
			f.equal(f.grant(g.ID), g)
			f.equal(f.purge(c.dead), issuer.Purged{Grants: 1})
			f.equal(f.exists(g.ID), false)
			f.equal(f.purge(c.dead), issuer.Purged{})
		})
	}
}

func purgeRenewed(f *fixture) {
	g := f.create(newGrant())
	r := next(g)
	r.ExpiresAt, r.AccessExpiresAt = g.ExpiresAt.Add(day), time.Time{}
	renewed, _ := f.rotate(r)
	for before := g.ExpiresAt; before.Before(r.ExpiresAt); before = before.Add(time.Hour) {
		f.equal(f.purge(before), issuer.Purged{})
	}
	f.equal(f.grant(g.ID), renewed)
	f.equal(f.purge(r.ExpiresAt), issuer.Purged{Grants: 1})
}

func purgeRevoked(f *fixture) {
	g := f.create(newGrant())
	f.revoke(g.ID, start(), newEvent(issuer.EventGrantRevoked, g))
	f.equal(f.purge(g.ExpiresAt.Add(-time.Millisecond)), issuer.Purged{})
	f.equal(f.purge(g.ExpiresAt), issuer.Purged{Grants: 1})

	never := newGrant()
	never.ExpiresAt = time.Time{}
	f.create(never)
	f.revoke(never.ID, start(), newEvent(issuer.EventGrantRevoked, never))
	f.equal(f.purge(start().Add(30*day-time.Millisecond)), issuer.Purged{})
	f.equal(f.purge(start().Add(30*day)), issuer.Purged{Grants: 1})
}

func purgeNever(f *fixture) {
	g := newGrant()
	g.ExpiresAt = time.Time{}
	f.create(g)
	for _, years := range []int{0, 1, 10, 100} {
		f.equal(f.purge(start().AddDate(years, 0, 0)), issuer.Purged{})
	}
	f.equal(f.grant(g.ID), g)
}

func purgeTokens(f *fixture) {
	f.revokeToken("early", start())
	f.revokeToken("late", start().Add(time.Millisecond))
	f.equal(f.purge(start().Add(-time.Millisecond)), issuer.Purged{})
	f.equal(f.purge(start()), issuer.Purged{AccessTokens: 1})
	f.equal([]bool{f.tokenRevoked("early"), f.tokenRevoked("late")}, []bool{false, true})
}

func purgeEvents(f *fixture) {
	record := func(at time.Time) int64 {
		e := newEvent("test.event", newGrant())
		e.At = at
		f.ok(f.Record(f.Context(), e))
		events, err := f.Events(f.Context(), issuer.EventFilter{Limit: 1})
		f.ok(err)
		return events[0].ID
	}
	record(start().Add(-time.Millisecond))
	second := record(start())
	purged, err := f.Purge(f.Context(), time.Time{}, start())
	f.ok(err)
	f.equal(purged, issuer.Purged{Events: 1})
	f.equal(len(f.events(issuer.EventFilter{})), 1)

	purged, err = f.Purge(f.Context(), time.Time{}, start().Add(time.Hour))
	f.ok(err)
	f.equal(purged, issuer.Purged{Events: 1})
	if third := record(start()); third <= second {
		f.Errorf("event %d after %d", third, second)
	}
}

func purgeMany(f *fixture) {
	const each = 8 // of 64 goroutines
	var live [racers]issuer.Grant
	race(func(i int) {
		for j := range each {
			g := newGrant()
			g.AccessExpiresAt, g.ExpiresAt = start(), start().Add(time.Duration(j)*time.Minute)
			e := newEvent(issuer.EventGrantCreated, g)
			if j == each-1 {
				g.ExpiresAt = start().Add(day)
				live[i] = g
				e.At = start().Add(day)
			}
			if err := f.CreateGrant(f.Context(), g, e); err != nil {
				f.Error(err)
			}
			if err := f.RevokeAccessToken(f.Context(), g.ID.String(), g.ExpiresAt, e); err != nil {
				f.Error(err)
			}
		}
	})
	const gone = racers * (each - 1)
	purged, err := f.Purge(f.Context(), start().Add(time.Hour), start().Add(time.Hour))
	f.ok(err)
	f.equal(purged, issuer.Purged{Grants: gone, AccessTokens: gone, Events: 2 * gone})
	for _, g := range live {
		f.equal(f.grant(g.ID), g)
		f.equal(f.tokenRevoked(g.ID.String()), true)
	}
}

// purgeModel compares a store with a map through random steps. Lifetimes do
// not shrink from one renewal to the next, as for an unchanged configuration;
// a grant whose lifetime was shortened may be purged later than it died.
func purgeModel(f *fixture) {
	rapid.Check(f.T, func(t *rapid.T) {
		now := start()
		model := map[issuer.GrantID]issuer.Grant{}
		lifetime := rapid.SampledFrom([]time.Duration{time.Minute, time.Hour, 5 * day, 40 * day, 0})
		at := func(life time.Duration) time.Time {
			if life == 0 {
				return time.Time{}
			}
			return now.Add(life)
		}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			now = now.Add(rapid.SampledFrom([]time.Duration{time.Second, 20 * time.Minute, 7 * time.Hour, 20 * day}).Draw(t, "pass"))
			switch rapid.SampledFrom([]string{"create", "rotate", "revoke", "purge"}).Draw(t, "step") {
			case "create":
				g := newGrant()
				g.CreatedAt, g.RotatedAt, g.AccessExpiresAt = now, now, now.Add(time.Minute)
				g.ExpiresAt, g.EndsAt = at(lifetime.Draw(t, "expires")), at(lifetime.Draw(t, "ends"))
				f.create(g)
				model[g.ID] = g
			case "rotate":
				for id, g := range model {
					if g.ExpiresAt.IsZero() {
						continue
					}
					r := next(g)
					r.At, r.AccessExpiresAt, r.ExpiresAt = now, now.Add(time.Minute), now.Add(g.ExpiresAt.Sub(g.RotatedAt))
					model[id], _ = f.rotate(r)
				}
			case "revoke":
				for id, g := range model {
					f.revoke(id, now, newEvent(issuer.EventGrantRevoked, g))
					model[id] = f.grant(id)
					break
				}
			case "purge":
				f.purge(now)
				f.compare(t, model, now)
			}
		}
		f.purge(now)
		f.compare(t, model, now)
		f.purge(now.AddDate(200, 0, 0)) // leaves what never expires, which the next round does not know
	})
}

// compare wants the grants that are not dead in the store, as they are in the
// model, and the dead ones gone from both.
func (f *fixture) compare(t *rapid.T, model map[issuer.GrantID]issuer.Grant, now time.Time) {
	for id, g := range model {
		stored, err := f.Store.Grant(f.Context(), id)
		dead := lastUse(g)
		switch {
		case !dead.IsZero() && !now.Before(dead):
			if !errors.Is(err, issuer.ErrNotFound) {
				t.Fatalf("at %v, %+v, dead since %v, is still there", now, g, dead)
			}
			delete(model, id)
		case err != nil || utc(stored).ExpiresAt != g.ExpiresAt || stored.Generation != g.Generation:
			t.Fatalf("at %v, %+v, which lives until %v, is %+v, %v", now, g, dead, stored, err)
		}
	}
}

// lastUse is when no token of a grant can be used any more, or zero for never.
func lastUse(g issuer.Grant) time.Time {
	dead := g.ExpiresAt
	if dead.IsZero() || !g.EndsAt.IsZero() && g.EndsAt.Before(dead) {
		dead = g.EndsAt
	}
	if !dead.IsZero() && g.AccessExpiresAt.After(dead) {
		return g.AccessExpiresAt
	}
	return dead
}
