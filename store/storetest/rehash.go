package storetest

import (
	"errors"
	"strconv"
	"sync/atomic"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
)

func rehashCases() []contract {
	return []contract{
		{"a verifier of a client is replaced, and nothing else", clientIsRehashed},
		{"a user's password is replaced, and nothing else", userIsRehashed},
		{"a verifier that is not there any more is not replaced", rehashedBefore},
		{"what is not there cannot be rehashed", rehashNothing},
		{"of 64 rehashes through two stores one is made and recorded", raceRehash},
		{"a rehash and changes of something else lose nothing", rehashAndOthers},
		{"a rehash whose answer is lost is made, once", lostRehash},
	}
}

func rehashed(subject string) issuer.Event {
	return issuer.Event{At: start(), Type: issuer.EventSecretRehashed, ClientID: "shop", Subject: subject, Actor: "client:shop"}
}

func clientIsRehashed(f *fixture) {
	want := newClient("shop")
	f.ok(f.PutClient(f.Context(), want, saved(issuer.EventClientSaved)))
	f.ok(f.PutClient(f.Context(), newClient("other"), saved(issuer.EventClientSaved)))
	f.equal(f.did(f.RehashClient(f.Context(), "shop", generated(2), generated(3), rehashed(""))), true)
	want.Secrets = []secret.Verifier{generated(1), generated(3)}
	f.equal(f.client("shop"), want)
	f.equal(f.client("other"), newClient("other"))
	f.equal(f.events(issuer.EventFilter{Type: issuer.EventSecretRehashed}), []issuer.Event{rehashed("")})
}

func userIsRehashed(f *fixture) {
	want := newUser("alice")
	f.ok(f.PutUser(f.Context(), want, saved(issuer.EventUserSaved)))
	f.ok(f.PutUser(f.Context(), newUser("bob"), saved(issuer.EventUserSaved)))
	f.equal(f.did(f.RehashUser(f.Context(), "alice", want.Password, generated(3), rehashed("alice"))), true)
	want.Password = generated(3)
	f.equal(f.user("alice"), want)
	f.equal(f.user("bob"), newUser("bob"))
	f.equal(f.events(issuer.EventFilter{Type: issuer.EventSecretRehashed}), []issuer.Event{rehashed("alice")})
}

func rehashedBefore(f *fixture) {
	f.ok(f.PutClient(f.Context(), newClient("shop"), saved(issuer.EventClientSaved)))
	f.ok(f.PutUser(f.Context(), newUser("alice"), saved(issuer.EventUserSaved)))
	f.equal(f.did(f.RehashClient(f.Context(), "shop", generated(7), generated(3), rehashed(""))), false)
	f.equal(f.did(f.RehashUser(f.Context(), "alice", generated(7), generated(3), rehashed("alice"))), false)
	f.equal(f.client("shop"), newClient("shop"))
	f.equal(f.user("alice"), newUser("alice"))
	f.equal(f.events(issuer.EventFilter{Type: issuer.EventSecretRehashed}), []issuer.Event(nil))
}

func rehashNothing(f *fixture) {
	for _, name := range []string{"shop", "", "a\x00b", "a\xffb"} {
		_, err := f.RehashClient(f.Context(), name, generated(1), generated(2), rehashed(""))
		f.is(err, issuer.ErrNotFound)
		_, err = f.RehashUser(f.Context(), name, generated(1), generated(2), rehashed(""))
		f.is(err, issuer.ErrNotFound)
	}
	f.equal(f.events(issuer.EventFilter{}), []issuer.Event(nil))
}

func raceRehash(f *fixture) {
	stores := []Database{f.Database, f.open()}
	defer stores[1].Close()
	f.ok(f.PutClient(f.Context(), newClient("shop"), saved(issuer.EventClientSaved)))
	f.ok(f.PutUser(f.Context(), newUser("alice"), saved(issuer.EventUserSaved)))
	var clients, users atomic.Int32
	race(func(i int) {
		did, err := stores[i%2].RehashClient(f.Context(), "shop", generated(1), generated(100+i), rehashed(""))
		if err != nil {
			f.Error(err)
		}
		if did {
			clients.Add(1)
		}
		did, err = stores[i%2].RehashUser(f.Context(), "alice", newUser("alice").Password, generated(100+i), rehashed("alice"))
		if err != nil {
			f.Error(err)
		}
		if did {
			users.Add(1)
		}
	})
	f.equal([]int32{clients.Load(), users.Load()}, []int32{1, 1})
	f.equal(len(f.events(issuer.EventFilter{Type: issuer.EventSecretRehashed})), 2)
	f.equal([]any{len(f.client("shop").Secrets), f.client("shop").Secrets[1]}, []any{2, generated(2)})
}

// rehashAndOthers rehashes the two secrets of each client at the same time, while
// others write another client's document.
func rehashAndOthers(f *fixture) {
	for i := range racers / 2 {
		f.ok(f.PutClient(f.Context(), newClient("shop"+strconv.Itoa(i)), saved(issuer.EventClientSaved)))
	}
	race(func(i int) {
		did, err := f.RehashClient(f.Context(), "shop"+strconv.Itoa(i/2), generated(1+i%2), generated(11+i%2), rehashed(""))
		if err != nil || !did {
			f.Errorf("%v, %v", did, err)
		}
	})
	for i := range racers / 2 {
		f.equal(f.client("shop"+strconv.Itoa(i)).Secrets, []secret.Verifier{generated(11), generated(12)})
	}
}

func lostRehash(f *fixture) {
	f.ok(f.PutUser(f.Context(), newUser("alice"), saved(issuer.EventUserSaved)))
	lost := errors.New("the answer is lost")
	faulty := Faulty{Store: f.Store, After: func(string) error { return lost }}
	_, err := faulty.RehashUser(f.Context(), "alice", newUser("alice").Password, generated(3), rehashed("alice"))
	f.is(err, lost)
	f.equal(f.did(f.RehashUser(f.Context(), "alice", newUser("alice").Password, generated(4), rehashed("alice"))), false)
	f.equal(f.user("alice").Password, generated(3))
	f.equal(len(f.events(issuer.EventFilter{Type: issuer.EventSecretRehashed})), 1)
}
