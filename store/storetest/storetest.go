// Package storetest is the one suite that every database of Evergrant passes:
// each subtest is a sentence of the contract of [issuer.Store], [issuer.Lists],
// [keeper.Store], [keeper.Lists] or [hook.Store]. [Faulty], [FaultyKeeper] and
// [FaultyHooks] make a store fail on request, for tests of what stands above it.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// Store is what a database offers to the issuer.
type Store interface {
	issuer.Store
	issuer.Lists
	// Restored prepares a restored copy at a time, and gives the ids of connections
	// that are in doubt since the copy was made.
	Restored(ctx context.Context, now time.Time) ([]string, error)
	Close() error
}

// Keeper is what a database offers to the keeper.
type Keeper interface {
	keeper.Store
	keeper.Lists
}

// Database is an open database as each part of a server sees it.
type Database struct {
	Store  // its Close closes all
	Keeper Keeper
	Hooks  hook.Store
}

// Run runs the suite. For each subtest, fresh prepares an empty database and
// returns a function that opens it, and may be called again: after the first
// one was closed, or beside it, as another process would.
func Run(t *testing.T, fresh func(t *testing.T) (open func() Database)) {
	groups := []struct {
		name  string
		cases []contract
	}{
		{"Grant", grantCases()},
		{"Rotate", rotateCases()},
		{"Revoke", revokeCases()},
		{"Concurrent", concurrentCases()},
		{"AccessToken", accessTokenCases()},
		{"Purge", purgeCases()},
		{"Registry", registryCases()},
		{"Rehash", rehashCases()},
		{"Import", importCases()},
		{"Uses", useCases()},
		{"Keys", keyCases()},
		{"Lists", listCases()},
		{"Events", eventCases()},
		{"Processes", processCases()},
		{"Connection", connectionCases()},
		{"Lease", leaseCases()},
		{"ConnectionRaces", connectionRaceCases()},
		{"ConnectionLists", connectionListCases()},
		{"KeeperEvents", keeperEventCases()},
		{"KeeperPurge", keeperPurgeCases()},
		{"Hooks", hookCases()},
		{"Restored", restoredCases()},
	}
	for _, group := range groups {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.cases {
				t.Run(c.sentence, func(t *testing.T) {
					f := &fixture{T: t, open: fresh(t)}
					f.Database = f.open()
					t.Cleanup(func() { f.Store.Close() })
					c.check(f)
				})
			}
		})
	}
}

// contract is one sentence and its check.
type contract struct {
	sentence string
	check    func(*fixture)
}

// fixture is what a check works with: its test and an open database.
type fixture struct {
	*testing.T
	Database
	open func() Database
}

// reopen closes the database and opens it anew.
func (f *fixture) reopen() {
	f.Helper()
	f.ok(f.Store.Close())
	f.Database = f.open()
}

// ok ends the test where there is an error.
func (f *fixture) ok(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// is wants an error that wraps target.
func (f *fixture) is(err, target error) {
	f.Helper()
	if !errors.Is(err, target) {
		f.Errorf("error is %v, want %v", err, target)
	}
}

// equal compares deeply; times must be in UTC on both sides.
func (f *fixture) equal(got, want any) {
	f.Helper()
	if !reflect.DeepEqual(got, want) {
		f.Errorf("got\n  %+v, want\n  %+v", got, want)
	}
}

// create stores a grant.
func (f *fixture) create(g issuer.Grant) issuer.Grant {
	f.Helper()
	f.ok(f.CreateGrant(f.Context(), g, newEvent(issuer.EventGrantCreated, g)))
	return g
}

// grant reads a grant that must exist.
func (f *fixture) grant(id issuer.GrantID) issuer.Grant {
	f.Helper()
	g, err := f.Store.Grant(f.Context(), id)
	f.ok(err)
	return utc(g)
}

// rotate is Rotate without error.
func (f *fixture) rotate(r issuer.Rotation) (issuer.Grant, bool) {
	f.Helper()
	g, rotated, err := f.Rotate(f.Context(), r)
	f.ok(err)
	return utc(g), rotated
}

// events are those that a filter chooses, newest first and without their ids,
// so that they can be compared with what was recorded.
func (f *fixture) events(filter issuer.EventFilter) []issuer.Event {
	f.Helper()
	events, err := f.Events(f.Context(), filter)
	f.ok(err)
	for i := range events {
		events[i].ID, events[i].At = 0, events[i].At.UTC()
	}
	return events
}

// start is when the tests begin; it has milliseconds.
func start() time.Time { return time.Date(2031, 2, 3, 4, 5, 6, 789e6, time.UTC) }

// day is 24 hours.
const day = 24 * time.Hour

// newGrant is a usual grant at generation 3 with no field empty but EndsAt and
// the revocation.
func newGrant() issuer.Grant {
	now := start()
	return issuer.Grant{
		ID: issuer.NewGrantID(), ClientID: "shop", Subject: "alice", Scope: oauth.Scope{"read", "write"},
		Generation: 3, KeyID: 7, CreatedAt: now.Add(-time.Hour), RotatedAt: now.Add(-time.Minute),
		ExpiresAt: now.Add(14 * day), AccessExpiresAt: now.Add(time.Hour), Retries: 2,
	}
}

// newEvent is an event of a grant with no field empty.
func newEvent(kind string, g issuer.Grant) issuer.Event {
	return issuer.Event{
		At: start(), Type: kind, Grant: g.ID, ClientID: g.ClientID, Subject: g.Subject,
		Actor: "client:" + g.ClientID, Address: "192.0.2.7", Cause: issuer.CauseClientRequest, Detail: "for the test",
	}
}

// next is the usual rotation of a grant, one second after it began to stand
// where it does.
func next(g issuer.Grant) issuer.Rotation {
	at := g.RotatedAt.Add(time.Second)
	return issuer.Rotation{
		ID: g.ID, ClientID: g.ClientID, From: g.Generation, To: g.Generation + 1, KeyID: g.KeyID + 1,
		At: at, ExpiresAt: at.Add(14 * day), AccessExpiresAt: at.Add(time.Hour),
	}
}

// utc makes the times of a grant comparable.
func utc(g issuer.Grant) issuer.Grant {
	for _, t := range []*time.Time{&g.CreatedAt, &g.RotatedAt, &g.ExpiresAt, &g.EndsAt, &g.AccessExpiresAt, &g.RevokedAt} {
		*t = t.UTC()
	}
	return g
}

// generated is a verifier of the form that generated secrets have.
func generated(n int) secret.Verifier {
	return secret.Verifier(fmt.Sprintf("hmac-sha256$c2FsdHNhbHRzYWx0%04d$ZGlnZXN0ZGlnZXN0", n))
}

// ended is a context that is over.
func ended(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}
