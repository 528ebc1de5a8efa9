package storetest

import (
	"sync/atomic"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
)

func connectionRaceCases() []contract {
	return []contract{
		{"of 64 connections with one id exactly one is created", raceConnections},
		{"of 64 leases through two stores exactly one is taken", raceLeases},
		{"of 64 commits under one fence through two stores exactly one is made", raceCommits},
		{"whoever leases, commits or loses: each generation is made once", raceGenerations},
		{"an answer is kept while others take the lease", raceAnswers},
		{"of 64 equal alarms and names exactly one is new", raceOnce},
	}
}

// count races a method that answers through two stores, and counts how often it
// was done.
func (f *fixture) count(try func(db Database, i int) (bool, error)) int {
	f.Helper()
	dbs := []Database{f.Database, f.open()}
	defer dbs[1].Close()
	var did atomic.Int32
	race(func(i int) {
		done, err := try(dbs[i%2], i)
		if err != nil {
			f.Error(err)
		}
		if done {
			did.Add(1)
		}
	})
	return int(did.Load())
}

func raceConnections(f *fixture) {
	f.equal(f.count(func(db Database, i int) (bool, error) {
		c := idle("c")
		err := db.Keeper.Create(f.Context(), c, happened(keeper.EventCreated, c))
		if err != nil {
			f.is(err, keeper.ErrExists)
		}
		return err == nil, nil
	}), 1)
	f.equal(len(f.history("c")), 1)
	f.equal(f.connection("c"), idle("c"))
}

func raceLeases(f *fixture) {
	f.keep(idle("c"))
	f.equal(f.count(func(db Database, i int) (bool, error) {
		c, leased, err := db.Keeper.Lease(f.Context(), "c", start(), start().Add(leaseFor))
		if err == nil && c.Fence != uint64(start().UnixMilli())+1 {
			f.Errorf("the fence is %d", c.Fence)
		}
		return leased, err
	}), 1)
}

func raceCommits(f *fixture) {
	f.keep(idle("c"))
	c := f.lease("c", start())
	f.equal(f.count(func(db Database, i int) (bool, error) {
		next := c
		next.Generation++
		next.Attempt = i
		return db.Keeper.Commit(f.Context(), c.Fence, c.Generation, next, happened(keeper.EventRefreshed, next))
	}), 1)
	f.equal(len(f.history("c")), 2)
	f.equal(f.connection("c").Generation, c.Generation+1)
}

// raceGenerations lets leases end while they are held: each refresh goes through
// all its steps, and may lose its fence before any of them.
func raceGenerations(f *fixture) {
	created := f.keep(idle("c"))
	var clock atomic.Int64
	made := f.count(func(db Database, i int) (bool, error) {
		at := start().Add(time.Duration(clock.Add(1)) * time.Millisecond)
		c, leased, err := db.Keeper.Lease(f.Context(), "c", at, at.Add(2*time.Millisecond))
		if err != nil || !leased {
			return false, err
		}
		intent := keeper.Intent{RequestID: name("r", i), Kind: provider.Refresh, Generation: c.Generation, SentAt: at, Deadline: at}
		if begun, err := db.Keeper.Begin(f.Context(), "c", c.Fence, intent, at.Add(time.Millisecond)); err != nil || !begun {
			return false, err
		}
		if _, err := db.Keeper.Answer(f.Context(), "c", intent.RequestID, sealed(1, intent.RequestID)); err != nil {
			return false, err
		}
		next := c
		next.Generation, next.Tokens = c.Generation+1, sealed(1, intent.RequestID)
		return db.Keeper.Commit(f.Context(), c.Fence, c.Generation, next, happened(keeper.EventRefreshed, next))
	})
	last, history := f.connection("c"), f.history("c")
	f.equal(int(last.Generation-created.Generation), made)
	f.equal(len(history)-1, made)
	for i, e := range history[:len(history)-1] {
		f.equal(e.Generation, last.Generation-uint64(i))
	}
}

func raceAnswers(f *fixture) {
	f.keep(idle("c"))
	f.begin(f.lease("c", start()), "r1")
	f.equal(f.count(func(db Database, i int) (bool, error) {
		if i%2 == 0 {
			return db.Keeper.Answer(f.Context(), "c", "r1", sealed(1, "answer"))
		}
		at := start().Add(time.Duration(i) * day)
		_, _, err := db.Keeper.Lease(f.Context(), "c", at, at.Add(leaseFor))
		return false, err
	}), racers/2)
	f.equal(f.connection("c").Intent.Answer, sealed(1, "answer"))
}

func raceOnce(f *fixture) {
	f.equal(f.count(func(db Database, i int) (bool, error) {
		return db.Keeper.Once(f.Context(), "state", start(), start().Add(day))
	}), 1)
	f.equal(f.count(func(db Database, i int) (bool, error) {
		return db.Keeper.Record(f.Context(), keeper.Event{At: start(), Type: keeper.EventProviderDown, Provider: "acme", Actor: "keeper"},
			keeper.EventProviderDown, keeper.EventProviderUp)
	}), 1)
}
