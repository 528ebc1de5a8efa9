package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
	"time"

	"github.com/evergrant/evergrant/issuer"
)

func importCases() []contract {
	return []contract{
		{"a batch is stored with every field, and one event", importStores},
		{"a second run changes nothing, and records nothing", importAgain},
		{"what the other server has changed is replaced", importReplaces},
		{"what was changed here, or is another source's, is kept and named", importKeeps},
		{"a rehash is no change", importAfterRehash},
		{"a grant that went on here is left as it is", importSparesGrants},
		{"a grant that is new is stored though all others are there", importFindsNew},
		{"a dry run counts the same and writes nothing", importDry},
		{"a batch with a bad row is refused as a whole", importBadRow},
		{"a name or grant that is twice in a batch is stored once", importTwice},
		{"an empty batch does nothing", importNothing},
		{"a batch of 1,000 of each kind is stored", importMany},
		{"of a batch through two stores at once each row is created once", raceImport},
		{"an import whose answer is lost is made, and a second one finds all there", lostImport},
		{"grants that never expire are purged no sooner", importedPurge},
	}
}

// imported is the event of an import.
func imported() issuer.Event {
	return issuer.Event{At: start(), Type: issuer.EventImported, Actor: "operator", Detail: "from old"}
}

// aBatch has two rows of each kind.
func aBatch() issuer.Batch {
	b := issuer.Batch{
		Clients: []issuer.Client{newClient("shop"), newClient("bank")}, Users: []issuer.User{newUser("älice"), newUser("bob")},
		Grants: []issuer.Grant{newGrant(), newGrant()}, Event: imported(),
	}
	b.Grants[0].EndsAt = start().Add(90 * day)
	b.Grants[1].Generation, b.Grants[1].KeyID, b.Grants[1].Scope, b.Grants[1].ExpiresAt = 1, 0, nil, time.Time{}
	return b
}

// count is a count without names.
func count(created, updated, unchanged int) issuer.ImportCount {
	return issuer.ImportCount{Created: created, Updated: updated, Unchanged: unchanged}
}

func (f *fixture) importing(b issuer.Batch) issuer.Imported {
	f.Helper()
	done, err := f.Import(f.Context(), b)
	f.ok(err)
	return done
}

// has wants the rows of a batch to be there.
func (f *fixture) has(b issuer.Batch) {
	f.Helper()
	for _, c := range b.Clients {
		f.equal(f.client(c.ID), c)
	}
	for _, u := range b.Users {
		f.equal(f.user(u.Username), u)
	}
	for _, g := range b.Grants {
		f.equal(f.grant(g.ID), g)
	}
}

// rows are how many there are of each table that an import writes.
func (f *fixture) rows() [4]int64 {
	f.Helper()
	stats, err := f.Stats(f.Context())
	f.ok(err)
	return [4]int64{stats.Rows["clients"], stats.Rows["users"], stats.Rows["grants"], stats.Rows["events"]}
}

func importStores(f *fixture) {
	b := aBatch()
	f.equal(f.importing(b), issuer.Imported{Clients: count(2, 0, 0), Users: count(2, 0, 0), Grants: count(2, 0, 0)})
	f.has(b)
	f.equal(f.events(issuer.EventFilter{}), []issuer.Event{imported()})
	f.reopen()
	f.has(b)
	_, rotated := f.rotate(next(b.Grants[1]))
	f.equal(rotated, true)
}

func importAgain(f *fixture) {
	b := aBatch()
	f.importing(b)
	again := aBatch()
	again.Grants = b.Grants
	for i := range again.Clients {
		again.Clients[i].UpdatedAt, again.Clients[i].CreatedAt = start().Add(day), start().Add(day)
		again.Users[i].UpdatedAt, again.Users[i].CreatedAt = start().Add(day), start().Add(day)
	}
	f.equal(f.importing(again), issuer.Imported{Clients: count(0, 0, 2), Users: count(0, 0, 2), Grants: count(0, 0, 2)})
	f.has(b)
	f.equal(f.rows(), [4]int64{2, 2, 2, 1})
}

func importReplaces(f *fixture) {
	b := aBatch()
	f.importing(b)
	later := aBatch()
	later.Grants = nil
	later.Clients[1].Name, later.Clients[1].Imported.Digest = "The bank", "d2"
	later.Clients[1].CreatedAt, later.Clients[1].UpdatedAt = start().Add(day), start().Add(day)
	later.Users[0].Password, later.Users[0].Imported.Digest = generated(5), "d2"
	later.Users[0].CreatedAt, later.Users[0].UpdatedAt = start().Add(day), start().Add(day)
	f.equal(f.importing(later), issuer.Imported{Clients: count(0, 1, 1), Users: count(0, 1, 1)})
	later.Clients[1].CreatedAt, later.Users[0].CreatedAt = start(), start()
	f.has(later)
	f.equal(f.rows(), [4]int64{2, 2, 2, 2})
	f.equal(f.importing(later), issuer.Imported{Clients: count(0, 0, 2), Users: count(0, 0, 2)})
	f.equal(f.rows(), [4]int64{2, 2, 2, 2})
}

func importKeeps(f *fixture) {
	b := aBatch()
	f.importing(b)
	here, user := b.Clients[0], b.Users[1]
	here.Name, here.Imported = "Changed here", issuer.Origin{}
	user.Password, user.Imported = generated(6), issuer.Origin{}
	f.ok(f.PutClient(f.Context(), here, saved(issuer.EventClientSaved)))
	f.ok(f.PutUser(f.Context(), user, saved(issuer.EventUserSaved)))
	want := b
	want.Clients, want.Users = []issuer.Client{here, b.Clients[1]}, []issuer.User{b.Users[0], user}
	for _, digest := range []string{"d1", "d2"} {
		again := aBatch()
		again.Grants = nil
		again.Clients[0].Imported.Digest, again.Users[1].Imported.Digest = digest, digest
		wantDone := issuer.Imported{Clients: count(0, 0, 1), Users: count(0, 0, 1)}
		wantDone.Clients.Kept, wantDone.Users.Kept = []string{"shop"}, []string{"bob"}
		f.equal(f.importing(again), wantDone)
		f.has(want)
	}
	other := aBatch()
	other.Grants = nil
	for i := range other.Clients {
		other.Clients[i].Imported.Source, other.Users[i].Imported.Source = "older", "older"
	}
	var wantDone issuer.Imported
	wantDone.Clients.Kept, wantDone.Users.Kept = []string{"shop", "bank"}, []string{"älice", "bob"}
	f.equal(f.importing(other), wantDone)
	f.has(want)
	f.equal(f.rows(), [4]int64{2, 2, 2, 3})
}

func importAfterRehash(f *fixture) {
	b := aBatch()
	f.importing(b)
	f.equal(f.did(f.RehashClient(f.Context(), "shop", generated(1), generated(8), rehashed(""))), true)
	f.equal(f.did(f.RehashUser(f.Context(), "bob", b.Users[1].Password, generated(9), rehashed("bob"))), true)
	f.equal(f.importing(b), issuer.Imported{Clients: count(0, 0, 2), Users: count(0, 0, 2), Grants: count(0, 0, 2)})
	f.equal(f.client("shop").Secrets[0], generated(8))
	f.equal(f.user("bob").Password, generated(9))
	later := aBatch()
	later.Clients[0].Imported.Digest, later.Users[1].Imported.Digest = "d2", "d2" // their secrets were changed there
	f.equal(f.importing(later).Users, count(0, 1, 1))
	f.has(later)
}

func importSparesGrants(f *fixture) {
	b := aBatch()
	f.importing(b)
	r := next(b.Grants[0])
	renewed, rotated := f.rotate(r)
	f.equal(rotated, true)
	f.equal(f.revoke(b.Grants[1].ID, start(), newEvent(issuer.EventGrantRevoked, b.Grants[1])), true)
	revoked := f.grant(b.Grants[1].ID)
	f.equal(f.importing(b).Grants, count(0, 0, 2))
	f.equal(f.grant(renewed.ID), renewed)
	f.equal(f.grant(revoked.ID), revoked)
}

func importFindsNew(f *fixture) {
	b := aBatch()
	f.importing(b)
	b.Grants = append(b.Grants, newGrant()) // refreshed at the other server since
	f.equal(f.importing(b), issuer.Imported{Clients: count(0, 0, 2), Users: count(0, 0, 2), Grants: count(1, 0, 2)})
	f.has(b)
	f.equal(len(f.events(issuer.EventFilter{Type: issuer.EventImported})), 2)
}

func importDry(f *fixture) {
	first, b := aBatch(), aBatch()
	first.Clients, first.Users, first.Grants = first.Clients[:1], first.Users[:1], first.Grants[:1]
	b.Grants[0] = first.Grants[0]
	b.Clients[0].Imported.Digest, b.Users[0].Imported.Source = "d2", "older"
	b.DryRun = true
	empty := f.rows()
	f.equal(f.importing(b), issuer.Imported{Clients: count(2, 0, 0), Users: count(2, 0, 0), Grants: count(2, 0, 0)})
	f.equal(f.rows(), empty)
	f.importing(first)
	before := f.rows()
	dry := f.importing(b)
	want := issuer.Imported{Clients: count(1, 1, 0), Users: count(1, 0, 0), Grants: count(1, 0, 1)}
	want.Users.Kept = []string{"älice"}
	f.equal(dry, want)
	f.equal(f.rows(), before)
	f.has(first)
	b.DryRun = false
	f.equal(f.importing(b), dry)
}

func importBadRow(f *fixture) {
	for name, spoil := range map[string]func(*issuer.Batch){
		"a user": func(b *issuer.Batch) { b.Users[1].Info = json.RawMessage("{") },
		"one of two with a name": func(b *issuer.Batch) {
			b.Users[1] = b.Users[0]
			b.Users[1].Info, b.Users[1].Imported.Digest = json.RawMessage("no JSON"), "d2"
		},
	} {
		b := aBatch()
		spoil(&b)
		for _, b.DryRun = range []bool{true, false} {
			if done, err := f.Import(f.Context(), b); err == nil || errors.Is(err, issuer.ErrUnavailable) || done.Clients.Created+done.Grants.Created > 0 {
				f.Errorf("%s: %+v, %v", name, done, err)
			}
			f.equal(f.rows(), [4]int64{})
		}
	}
}

func importTwice(f *fixture) {
	b := aBatch()
	changed := b.Clients[0]
	changed.Name, changed.Imported.Digest, changed.CreatedAt = "The shop", "d2", start().Add(day)
	b.Clients = append(b.Clients, b.Clients[0], changed, changed)
	b.Users = append(b.Users, b.Users[0])
	b.Grants = append(b.Grants, b.Grants[0], b.Grants[0])
	want := issuer.Imported{Clients: count(2, 1, 2), Users: count(2, 0, 1), Grants: count(2, 0, 2)}
	b.DryRun = true
	f.equal(f.importing(b), want)
	b.DryRun = false
	f.equal(f.importing(b), want)
	changed.CreatedAt = start()
	f.equal(f.client("shop"), changed)
	f.equal(f.rows(), [4]int64{2, 2, 2, 1})
}

func importNothing(f *fixture) {
	f.equal(f.importing(issuer.Batch{Event: imported()}), issuer.Imported{})
	f.equal(f.rows(), [4]int64{})
}

// Batches are those of an import of clients, users and tokens of another server,
// of at most size rows of each kind.
func Batches(clients, users, grants, size int) iter.Seq[issuer.Batch] {
	return func(yield func(issuer.Batch) bool) {
		for at := 0; at < max(clients, users, grants); at += size {
			b := issuer.Batch{Event: imported()}
			for i := at; i < at+size; i++ {
				if i < clients {
					b.Clients = append(b.Clients, newClient(fmt.Sprint("client", i)))
				}
				if i < users {
					b.Users = append(b.Users, newUser(fmt.Sprint("user", i)))
				}
				if i < grants {
					g := newGrant()
					g.ClientID, g.Subject, g.Generation, g.KeyID = fmt.Sprint("client", i%clients), fmt.Sprint("user", i%users), 1, 0
					b.Grants = append(b.Grants, g)
				}
			}
			if !yield(b) {
				return
			}
		}
	}
}

func importMany(f *fixture) {
	const each = 1000
	for b := range Batches(each, each, each, each) {
		f.equal(f.importing(b), issuer.Imported{Clients: count(each, 0, 0), Users: count(each, 0, 0), Grants: count(each, 0, 0)})
		f.equal(f.rows(), [4]int64{each, each, each, 1})
		for i := 0; i < each; i += 111 {
			f.has(issuer.Batch{Clients: b.Clients[i : i+1], Users: b.Users[i : i+1], Grants: b.Grants[i : i+1]})
		}
		f.equal(f.importing(b), issuer.Imported{Clients: count(0, 0, each), Users: count(0, 0, each), Grants: count(0, 0, each)})
	}
}

// raceImport gives the same batch, in several orders, to two stores, while clients
// of it are changed and grants of it renewed.
func raceImport(f *fixture) {
	stores := []Database{f.Database, f.open()}
	defer stores[1].Close()
	all := aBatch()
	for i := range 30 {
		all.Clients, all.Users = append(all.Clients, newClient(fmt.Sprint("c", i))), append(all.Users, newUser(fmt.Sprint("u", i)))
		all.Grants = append(all.Grants, newGrant())
	}
	n := len(all.Clients)
	var created atomic.Int32
	race(func(i int) {
		b := issuer.Batch{Event: imported()}
		for k := range n {
			k = (k*5 + i) % n
			b.Clients, b.Users, b.Grants = append(b.Clients, all.Clients[k]), append(b.Users, all.Users[k]), append(b.Grants, all.Grants[k])
		}
		for {
			done, err := stores[i%2].Import(f.Context(), b)
			if errors.Is(err, issuer.ErrUnavailable) {
				continue // others were in the way, and nothing was done
			}
			if err != nil || done.Clients.Created+done.Clients.Unchanged != n || done.Users.Created+done.Users.Unchanged != n {
				f.Errorf("%+v, %v", done, err)
			}
			created.Add(int32(done.Clients.Created + done.Users.Created + done.Grants.Created))
			break
		}
		g := all.Grants[i%n]
		if _, _, err := stores[i%2].Rotate(f.Context(), next(g)); err != nil {
			f.Error(err)
		}
	})
	f.equal(created.Load(), int32(3*n))
	rows := f.rows()
	f.equal(rows[:3], []int64{int64(n), int64(n), int64(n)})
	for _, g := range all.Grants {
		f.equal(f.grant(g.ID).Generation, g.Generation+1)
	}
}

func lostImport(f *fixture) {
	lost := errors.New("the answer is lost")
	faulty := Faulty{Store: f.Store, After: func(string) error { return lost }}
	b := aBatch()
	done, err := faulty.Import(f.Context(), b)
	f.is(err, lost)
	f.equal(done, issuer.Imported{})
	f.has(b)
	f.equal(f.importing(b), issuer.Imported{Clients: count(0, 0, 2), Users: count(0, 0, 2), Grants: count(0, 0, 2)})
	f.equal(f.rows(), [4]int64{2, 2, 2, 1})
}

func importedPurge(f *fixture) {
	b := aBatch()
	old := start().Add(-5000 * day)
	for i := range b.Grants {
		b.Grants[i].CreatedAt, b.Grants[i].RotatedAt = old, old
		b.Grants[i].ExpiresAt, b.Grants[i].EndsAt, b.Grants[i].AccessExpiresAt = time.Time{}, time.Time{}, time.Time{}
	}
	b.Grants[1].ExpiresAt = start().Add(-time.Minute) // by the clock of the other server
	f.importing(b)
	purged, err := f.Purge(f.Context(), start(), time.Time{})
	f.ok(err)
	f.equal(purged, issuer.Purged{Grants: 1})
	f.equal(f.grant(b.Grants[0].ID), b.Grants[0])
}
