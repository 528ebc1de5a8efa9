package storetest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// racers is how many goroutines race in these checks.
const racers = 64

func concurrentCases() []contract {
	return []contract{
		{"of 64 equal steps exactly one is made, and all see its row", raceOneStep},
		{"64 clients racing through 20 generations fork no chain", raceManySteps},
		{"64 grants are renewed side by side, each narrowed once", renewSideBySide},
		{"after a revocation returned no step is made", raceRevocation},
		{"of 64 equal revocations exactly one is made and recorded", raceRevocations},
		{"of 64 grants with one id exactly one is created", raceCreation},
		{"of 64 keys with one number exactly one is added", raceKeys},
		{"what a purge may delete is either renewed or gone", racePurge},
	}
}

// race runs f in 64 goroutines that start together.
func race(f func(i int)) {
	var start, done sync.WaitGroup
	start.Add(1)
	for i := range racers {
		done.Go(func() {
			start.Wait()
			f(i)
		})
	}
	start.Done()
	done.Wait()
}

func raceOneStep(f *fixture) {
	g := f.create(newGrant())
	var wins atomic.Int32
	race(func(int) {
		e := newEvent("test.step", g)
		r := next(g)
		r.Event = &e
		got, rotated, err := f.Rotate(f.Context(), r)
		if err != nil || got.Generation != g.Generation+1 || !got.ExpiresAt.Equal(r.ExpiresAt) {
			f.Errorf("got %+v, %v", got, err)
		}
		if rotated {
			wins.Add(1)
		}
	})
	f.equal(wins.Load(), int32(1))
	f.equal(f.grant(g.ID).Generation, g.Generation+1)
	f.equal(len(f.events(issuer.EventFilter{Type: "test.step"})), 1)
}

func raceManySteps(f *fixture) {
	const generations = 20
	g := f.create(newGrant())
	var wins [generations]atomic.Int32
	race(func(int) {
		for i := range wins {
			r := next(g)
			r.From, r.To = g.Generation+uint32(i), g.Generation+uint32(i)+1
			got, rotated, err := f.Rotate(f.Context(), r)
			if err != nil || got.Generation < r.To {
				f.Errorf("from %d: %+v, %v", r.From, got, err)
			}
			if rotated {
				wins[i].Add(1)
			}
		}
	})
	for i := range wins {
		f.equal(wins[i].Load(), int32(1))
	}
	f.equal(f.grant(g.ID).Generation, g.Generation+generations)
}

func renewSideBySide(f *fixture) {
	race(func(i int) {
		g := newGrant()
		if err := f.CreateGrant(f.Context(), g, newEvent(issuer.EventGrantCreated, g)); err != nil {
			f.Error(err)
			return
		}
		for step := range 10 {
			r := next(g)
			if step == i%10 {
				r.Scope = oauth.Scope{fmt.Sprint("only", i)}
			}
			got, rotated, err := f.Rotate(f.Context(), r)
			if err != nil || !rotated || r.Scope != nil && !got.Scope.Equal(r.Scope) {
				f.Errorf("%+v: %+v, %v, %v", g, got, rotated, err)
				return
			}
			g = utc(got)
		}
		f.equal(f.grant(g.ID), g)
	})
}

func raceRevocation(f *fixture) {
	g := f.create(newGrant())
	var revoked atomic.Bool
	race(func(i int) {
		if i == 0 {
			time.Sleep(20 * time.Millisecond) // into the middle of the others
			if did, err := f.Revoke(f.Context(), g.ID, start(), newEvent(issuer.EventGrantRevoked, g)); err != nil || !did {
				f.Errorf("revocation: %v, %v", did, err)
			}
			revoked.Store(true)
			return
		}
		current := g
		for late := 0; late < 3; {
			after := revoked.Load()
			got, rotated, err := f.Rotate(f.Context(), next(current))
			switch {
			case err != nil:
				f.Error(err)
				return
			case after && (rotated || got.RevokedAt.IsZero()):
				f.Errorf("a step after the revocation: %v, %+v", rotated, got)
			case after:
				late++
			}
			current = utc(got)
		}
	})
	want := f.grant(g.ID)
	if _, rotated := f.rotate(next(want)); rotated || want.RevokedAt.IsZero() {
		f.Errorf("not revoked: %+v", want)
	}
}

func raceRevocations(f *fixture) {
	g := f.create(newGrant())
	var wins atomic.Int32
	race(func(int) {
		did, err := f.Revoke(f.Context(), g.ID, start(), newEvent(issuer.EventGrantRevoked, g))
		if err != nil {
			f.Error(err)
		}
		if did {
			wins.Add(1)
		}
	})
	f.equal(wins.Load(), int32(1))
	f.equal(len(f.events(issuer.EventFilter{Type: issuer.EventGrantRevoked})), 1)
}

func raceCreation(f *fixture) {
	g := newGrant()
	var wins atomic.Int32
	race(func(int) {
		if f.CreateGrant(f.Context(), g, newEvent(issuer.EventGrantCreated, g)) == nil {
			wins.Add(1)
		}
	})
	f.equal(wins.Load(), int32(1))
	f.equal(len(f.events(issuer.EventFilter{})), 1)
}

func raceKeys(f *fixture) {
	var wins atomic.Int32
	race(func(int) {
		switch err := f.AddKey(f.Context(), newKey(5)); err {
		case nil:
			wins.Add(1)
		default:
			f.is(err, secret.ErrKeyExists)
		}
	})
	f.equal(wins.Load(), int32(1))
}

// racePurge renews grants in their last second while they are purged for the
// next one.
func racePurge(f *fixture) {
	grants := make([]issuer.Grant, racers)
	for i := range grants {
		grants[i] = newGrant()
		grants[i].ExpiresAt = start().Add(time.Second)
		grants[i].AccessExpiresAt = start()
		f.create(grants[i])
	}
	var renewed [racers]bool
	race(func(i int) {
		if i%8 == 0 {
			if _, err := f.Purge(f.Context(), start().Add(time.Second), time.Time{}); err != nil {
				f.Error(err)
			}
		}
		_, rotated, err := f.Rotate(f.Context(), next(grants[i]))
		if err != nil {
			f.is(err, issuer.ErrNotFound)
		}
		renewed[i] = rotated
	})
	if _, err := f.Purge(f.Context(), start().Add(time.Second), time.Time{}); err != nil {
		f.Error(err)
	}
	for i, g := range grants {
		_, err := f.Store.Grant(f.Context(), g.ID)
		if renewed[i] {
			f.ok(err)
		} else {
			f.is(err, issuer.ErrNotFound)
		}
	}
}
