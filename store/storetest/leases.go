package storetest

import (
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
)

func leaseCases() []contract {
	return []contract{
		{"a lease raises the fence by one and lasts until its time", leaseIsTaken},
		{"a lease that is held is not given, and the row is", leaseIsHeld},
		{"an intent is stored and extends the lease", intentIsStored},
		{"an intent takes the place of an open one, answer and all", intentIsReplaced},
		{"an intent with a stale fence or generation changes nothing", staleIntent},
		{"an answer is stored, whatever the fence is", answerIsStored},
		{"an answer to another request, or to none that is open, changes nothing", strayAnswer},
		{"a commit puts every field in place, keeps the fence and ends the lease", commitIsMade},
		{"a commit can leave an intent open", commitKeepsIntent},
		{"a commit with a stale fence or generation changes nothing", staleCommit},
		{"a connection is deleted under its fence alone", connectionIsDeleted},
		{"a key is not deleted while a token or an answer is sealed under it", keyIsInUse},
	}
}

// did is an answer without an error.
func (f *fixture) did(answer bool, err error) bool {
	f.Helper()
	f.ok(err)
	return answer
}

// leaseFor is how long the leases of these checks last.
const leaseFor = time.Minute

// lease takes a lease that must be free at a time.
func (f *fixture) lease(id string, at time.Time) keeper.Connection {
	f.Helper()
	c, leased, err := f.Keeper.Lease(f.Context(), id, at, at.Add(leaseFor))
	f.ok(err)
	if !leased {
		f.Fatalf("the lease of %q is held until %v, at %v", id, c.LeaseUntil, at)
	}
	return sameZone(c)
}

// begin stores the usual intent under a lease.
func (f *fixture) begin(c keeper.Connection, requestID string) keeper.Connection {
	f.Helper()
	intent := keeper.Intent{
		RequestID: requestID, Kind: provider.Refresh, Generation: c.Generation, SentAt: start().Add(time.Second), Deadline: start().Add(30 * time.Second),
	}
	until := start().Add(2 * leaseFor)
	f.equal(f.did(f.Keeper.Begin(f.Context(), c.ID, c.Fence, intent, until)), true)
	if c.DueAt.IsZero() || until.Before(c.DueAt) {
		c.DueAt = until // so that the background finds what is broken off
	}
	c.Intent, c.LeaseUntil = &intent, until
	return c
}

// commit ends a lease with the next generation.
func (f *fixture) commit(c keeper.Connection) keeper.Connection {
	f.Helper()
	next := c
	next.Generation, next.Intent = c.Generation+1, nil
	f.equal(f.did(f.Keeper.Commit(f.Context(), c.Fence, c.Generation, next, happened(keeper.EventRefreshed, next))), true)
	next.LeaseUntil = time.Time{}
	return next
}

func leaseIsTaken(f *fixture) {
	want := f.keep(idle("c"))
	for i, at := range []time.Time{start(), start().Add(leaseFor), start().Add(leaseFor + day)} {
		got := f.lease(want.ID, at)
		want.Fence, want.LeaseUntil = want.Fence+1, at.Add(leaseFor)
		f.equal(got, want)
		f.equal(f.connection(want.ID), want)
		f.equal(want.Fence, uint64(start().UnixMilli())+uint64(i)+1)
	}
}

func leaseIsHeld(f *fixture) {
	f.keep(idle("c"))
	held := f.lease("c", start())
	for _, at := range []time.Time{start(), start().Add(leaseFor - time.Millisecond), start().Add(-day)} {
		got, leased, err := f.Keeper.Lease(f.Context(), "c", at, at.Add(day))
		f.ok(err)
		f.equal(leased, false)
		f.equal(sameZone(got), held)
	}
	f.equal(f.connection("c"), held)
}

func intentIsStored(f *fixture) {
	f.keep(idle("c"))
	c := f.begin(f.lease("c", start()), "r1")
	f.equal(f.connection("c"), c)
	_, leased, err := f.Keeper.Lease(f.Context(), "c", start().Add(leaseFor), start().Add(day))
	f.ok(err)
	f.equal(leased, false)
}

func intentIsReplaced(f *fixture) {
	f.keep(idle("c"))
	c := f.begin(f.lease("c", start()), "r1")
	f.equal(f.did(f.Keeper.Answer(f.Context(), "c", "r1", sealed(1, "first"))), true)
	c = f.begin(c, "r2")
	f.equal(f.connection("c"), c)
	f.equal(f.did(f.Keeper.Answer(f.Context(), "c", "r1", sealed(1, "first, again"))), false)
	f.equal(f.connection("c"), c)
}

func staleIntent(f *fixture) {
	f.keep(idle("c"))
	old := f.lease("c", start())
	c := f.begin(f.lease("c", start().Add(day)), "r1")
	intent := keeper.Intent{RequestID: "r2", Kind: provider.Exchange, Generation: c.Generation, SentAt: start()}
	f.equal(f.did(f.Keeper.Begin(f.Context(), "c", old.Fence, intent, start().Add(5*day))), false)
	f.equal(f.did(f.Keeper.Begin(f.Context(), "c", c.Fence+1, intent, start().Add(5*day))), false)
	for _, intent.Generation = range []uint64{c.Generation - 1, c.Generation + 1, 0} {
		f.equal(f.did(f.Keeper.Begin(f.Context(), "c", c.Fence, intent, start().Add(5*day))), false)
	}
	f.equal(f.connection("c"), c)
}

// answerIsStored lets the answer come after somebody else took the lease.
func answerIsStored(f *fixture) {
	f.keep(idle("c"))
	c := f.begin(f.lease("c", start()), "r1")
	late := f.lease("c", start().Add(day))
	f.equal(f.did(f.Keeper.Answer(f.Context(), "c", "r1", sealed(6, "answer"))), true)
	late.Intent.Answer = sealed(6, "answer")
	f.equal(f.connection("c"), late)
	f.equal(late.Fence, c.Fence+1)
	f.equal(f.did(f.Keeper.Answer(f.Context(), "c", "r1", sealed(7, "the same, stored again"))), true)
	late.Intent.Answer = sealed(7, "the same, stored again")
	f.equal(f.connection("c"), late)
	next := late
	next.Intent, next.Generation = nil, late.Generation+1
	f.equal(f.did(f.Keeper.Commit(f.Context(), c.Fence, c.Generation, next)), false)
	f.equal(f.did(f.Keeper.Commit(f.Context(), late.Fence, late.Generation, next)), true)
}

func strayAnswer(f *fixture) {
	other := f.keep(idle("other"))
	f.keep(idle("c"))
	c := f.begin(f.lease("c", start()), "r1")
	for _, requestID := range []string{"r2", "", "R1", "r1 "} {
		f.equal(f.did(f.Keeper.Answer(f.Context(), "c", requestID, sealed(1, "stray"))), false)
	}
	f.equal(f.did(f.Keeper.Answer(f.Context(), "other", "r1", sealed(1, "stray"))), false)
	f.equal(f.connection("c"), c)
	c = f.commit(c)
	f.equal(f.did(f.Keeper.Answer(f.Context(), "c", "r1", sealed(1, "too late"))), false)
	f.equal(f.connection("c"), c)
	f.equal(f.connection("other"), other)
}

func commitIsMade(f *fixture) {
	f.keep(newConnection("c"))
	c := f.begin(f.lease("c", start()), "r1")
	at := start().Add(100 * day)
	next := keeper.Connection{
		ID: "c", Provider: "other", Tenant: "south", Owner: "bob", State: keeper.InDoubt, Cause: keeper.CauseRestored, Since: at, Background: keeper.Always,
		Params: map[string]string{"shop": "1"}, Metadata: map[string]any{"a": "b"}, Scope: oauth.Scope{"x"}, Asked: oauth.Scope{"y"}, TokenType: "mac",
		Generation: c.Generation + 1, IssuedAt: at.Add(1e6), ExpiresAt: at.Add(2e6), RefreshExpiresAt: at.Add(3e6), EndsAt: at.Add(4e6),
		DueAt: at.Add(5e6), Attempt: 9, Class: provider.Revoked, Error: "invalid_grant", WarnedAt: at.Add(6e6),
		CreatedAt: at.Add(7e6), UpdatedAt: at.Add(8e6), Tokens: sealed(99, "new"),
		Fence: 5, LeaseUntil: at, // neither is the caller's to set
	}
	first, second := happened(keeper.EventRefreshed, next), happened(keeper.EventRecovered, next)
	f.equal(f.did(f.Keeper.Commit(f.Context(), c.Fence, c.Generation, next, first, second)), true)
	next.Fence, next.LeaseUntil = c.Fence, time.Time{}
	f.equal(f.connection("c"), next)
	f.equal(f.history("c"), []keeper.Event{second, first, happened(keeper.EventCreated, newConnection("c"))})

	f.equal(f.ids(keeper.Filter{Provider: "acme"}), []string(nil))
	f.equal(f.ids(keeper.Filter{Owner: "bob"}), []string{"c"})
	c = f.lease("c", start())
	empty := keeper.Connection{ID: "c", Generation: c.Generation}
	f.equal(f.did(f.Keeper.Commit(f.Context(), c.Fence, c.Generation, empty)), true)
	empty.Fence = c.Fence
	f.equal(f.connection("c"), empty)
}

func commitKeepsIntent(f *fixture) {
	f.keep(idle("c"))
	c := f.begin(f.lease("c", start()), "r1")
	next := c
	next.State, next.Cause = keeper.InDoubt, keeper.CauseAnswerUnreadable
	intent := *c.Intent
	intent.Answer = sealed(2, "cannot be read")
	next.Intent = &intent
	f.equal(f.did(f.Keeper.Commit(f.Context(), c.Fence, c.Generation, next)), true)
	next.LeaseUntil = time.Time{}
	f.equal(f.connection("c"), next)
	f.equal(f.did(f.Keeper.Answer(f.Context(), "c", "r1", sealed(3, "it came again"))), true)
}

func staleCommit(f *fixture) {
	f.keep(idle("c"))
	old := f.lease("c", start())
	c := f.begin(f.lease("c", start().Add(day)), "r1")
	next := c
	next.Intent, next.Generation, next.Owner, next.Tokens = nil, c.Generation+1, "mallory", sealed(1, "stale")
	before := f.keeperEvents(keeper.EventFilter{})
	for _, at := range []struct{ fence, generation uint64 }{
		{old.Fence, c.Generation}, {c.Fence + 1, c.Generation}, {c.Fence, c.Generation - 1}, {c.Fence, c.Generation + 1}, {0, 0},
	} {
		f.equal(f.did(f.Keeper.Commit(f.Context(), at.fence, at.generation, next, happened("test.event", next))), false)
	}
	f.equal(f.connection("c"), c)
	f.equal(f.keeperEvents(keeper.EventFilter{}), before)
	next = f.commit(c)
	f.equal(f.did(f.Keeper.Commit(f.Context(), c.Fence, c.Generation, c)), false) // once more, for the answer was lost
	f.equal(f.connection("c"), next)
}

func connectionIsDeleted(f *fixture) {
	other := f.keep(idle("other"))
	f.keep(newConnection("c"))
	old := f.lease("c", start())
	c := f.lease("c", start().Add(day))
	e := happened(keeper.EventDeleted, c)
	f.equal(f.did(f.Keeper.Delete(f.Context(), "c", old.Fence, e)), false)
	f.equal(f.connection("c"), c)
	f.equal(len(f.history("c")), 1)
	f.equal(f.did(f.Keeper.Delete(f.Context(), "c", c.Fence, e)), true)
	_, err := f.Keeper.Connection(f.Context(), "c")
	f.is(err, keeper.ErrNotFound)
	f.equal(f.history("c"), []keeper.Event{e, happened(keeper.EventCreated, c)})
	f.equal(f.connection("other"), other)
	f.keep(idle("c"))
	f.equal(f.connection("c"), idle("c"))
}
