package storetest

import (
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
)

func processCases() []contract {
	return []contract{
		{"everything survives that the store is closed", survivesClose},
		{"one store sees what another did, at once", seesOthers},
		{"of equal steps through two stores one is made", raceAcross},
		{"a closed store is unavailable", closedStore},
	}
}

func survivesClose(f *fixture) {
	g, gone := f.create(newGrant()), f.create(newGrant())
	renewed, _ := f.rotate(next(g))
	f.revoke(gone.ID, start(), newEvent(issuer.EventGrantRevoked, gone))
	f.ok(f.PutClient(f.Context(), newClient("shop"), saved(issuer.EventClientSaved)))
	f.ok(f.PutUser(f.Context(), newUser("alice"), saved(issuer.EventUserSaved)))
	f.ok(f.AddKey(f.Context(), newKey(4)))
	f.revokeToken("jti", start())
	f.ok(f.Retried(f.Context(), g.ID))
	events := f.events(issuer.EventFilter{})

	f.reopen()

	renewed.Retries++
	f.equal(f.grant(g.ID), renewed)
	f.equal(f.grant(gone.ID).RevokedAt, start())
	f.equal(f.client("shop"), newClient("shop"))
	f.equal(f.user("alice"), newUser("alice"))
	f.equal(f.keys(), []any{newKey(4)})
	f.equal(f.tokenRevoked("jti"), true)
	f.equal(f.events(issuer.EventFilter{}), events)
	if _, rotated := f.rotate(next(g)); rotated {
		f.Error("a generation that was left before is left again")
	}
}

func seesOthers(f *fixture) {
	other := f.open()
	defer other.Close()
	g := f.create(newGrant())
	for range 20 {
		got, rotated, err := other.Rotate(f.Context(), next(g))
		f.ok(err)
		f.equal(rotated, true)
		g = utc(got)
		f.equal(f.grant(g.ID), g)
	}
	f.ok(other.AddKey(f.Context(), newKey(1)))
	f.is(f.AddKey(f.Context(), newKey(1)), secret.ErrKeyExists)
	f.equal(f.keys(), []any{newKey(1)})
	f.ok(other.PutClient(f.Context(), newClient("shop"), saved(issuer.EventClientSaved)))
	f.equal(f.client("shop"), newClient("shop"))
	f.equal(f.revoke(g.ID, start(), newEvent(issuer.EventGrantRevoked, g)), true)
	_, rotated, err := other.Rotate(f.Context(), next(g))
	f.ok(err)
	f.equal(rotated, false)
}

func raceAcross(f *fixture) {
	stores := []Database{f.Database, f.open()}
	defer stores[1].Close()
	g := f.create(newGrant())
	won := make(chan bool, racers)
	race(func(i int) {
		_, rotated, err := stores[i%2].Rotate(f.Context(), next(g))
		if err != nil {
			f.Error(err)
		}
		won <- rotated
	})
	close(won)
	count := 0
	for rotated := range won {
		if rotated {
			count++
		}
	}
	f.equal(count, 1)
}

func closedStore(f *fixture) {
	g := f.create(newGrant())
	f.ok(f.Store.Close())
	f.ok(f.Store.Close())
	for method, err := range f.everyWrite(f.Context(), g, newEvent("test.closed", g)) {
		if err == nil {
			f.Errorf("%s worked", method)
		}
		f.is(err, issuer.ErrUnavailable)
	}
	for method, err := range f.everyRead(f.Context(), g) {
		if err == nil {
			f.Errorf("%s worked", method)
		}
		f.is(err, issuer.ErrUnavailable)
	}
	f.Database = f.open()
	f.equal(f.grant(g.ID), g)
}
