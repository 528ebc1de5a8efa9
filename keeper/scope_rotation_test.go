package keeper_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
	"github.com/evergrant/evergrant/secret"
)

const day = 24 * time.Hour

// count is how often an event is among those of a connection.
func (w *world) count(id, eventType string) (n int) {
	w.t.Helper()
	for _, told := range w.events(id) {
		if told == eventType {
			n++
		}
	}
	return n
}

// TestRotationIsLearned lets a provider begin to rotate what its definition calls
// fixed, as some did: it is told once, and from then on a lost answer is not
// answered by sending the same refresh token again.
func TestRotationIsLearned(t *testing.T) {
	d := single()
	d.Rotation = provider.RotationFixed
	w := newWorld(t, d)
	grant := w.connect("one", "single")
	w.token("one", keeper.Want{Force: true})
	if row := w.row("one"); row.Rotates || w.count("one", keeper.EventRotationChanged) > 0 {
		t.Errorf("before the change: %+v", row)
	}
	w.sims["single"].Change(func(d *providertest.Dialect) { d.Rotation = provider.RotationSingleUse })
	w.token("one", keeper.Want{Force: true})
	w.token("one", keeper.Want{Force: true})
	if row := w.row("one"); !row.Rotates || w.count("one", keeper.EventRotationChanged) != 1 {
		t.Errorf("after the change: %+v, events %v", row, w.events("one"))
	}
	// What was learned outlives the process, and decides what a lost answer costs.
	w.start()
	w.sims["single"].Inject(providertest.Rule{Times: 1, Fault: providertest.DropBefore()})
	w.token("one", keeper.Want{Force: true})
	sent := w.sims["single"].Stats().Requests[provider.Refresh]
	w.clock.move(10 * time.Minute)
	w.token("one", keeper.Want{Force: true})
	if row := w.row("one"); row.State != keeper.InDoubt || w.sims["single"].Stats().Requests[provider.Refresh] != sent {
		t.Errorf("after a lost answer: %+v", row)
	}
	w.clock.move(time.Hour)
	if token := w.token("one", keeper.Want{}); token.Generation != 5 || w.sims["single"].Grant(grant).State != providertest.Live {
		t.Errorf("at the end: generation %d", token.Generation)
	}
}

// TestRotationDocumented holds that nothing is told of a refresh token that
// changes where the definition says so.
func TestRotationDocumented(t *testing.T) {
	w := newWorld(t, single())
	w.connect("one", "single")
	w.token("one", keeper.Want{Force: true})
	if row := w.row("one"); !row.Rotates || w.count("one", keeper.EventRotationChanged) > 0 {
		t.Errorf("the row is %+v, events %v", row, w.events("one"))
	}
}

// TestScopeChanges holds that a scope which shrinks is told and shown with the
// token, and that one which grows or is not told of is not an event.
func TestScopeChanges(t *testing.T) {
	w := newWorld(t, single())
	_, tokens := w.sims["single"].Connect("one", "read", "write", "admin")
	must[keeper.Connection](t)(w.k.Create(t.Context(), operator, keeper.Import{ID: "one", Provider: "single", AccessToken: tokens.AccessToken,
		RefreshToken: tokens.RefreshToken, Scope: tokens.Scope, ExpiresAt: tokens.ExpiresAt}))
	for _, step := range []struct {
		answer any
		scope  oauth.Scope
		told   string
	}{
		{"admin read write", oauth.Scope{"read", "write", "admin"}, ""},
		{"read write", oauth.Scope{"read", "write"}, "admin"},
		{"read,write", oauth.Scope{"read", "write"}, ""},
		{nil, oauth.Scope{"read", "write"}, ""},
		{"", oauth.Scope{"read", "write"}, ""},
		{[]any{"read", "write", "more"}, oauth.Scope{"read", "write", "more"}, ""},
		{"more", oauth.Scope{"more"}, "read write"},
	} {
		before := w.count("one", keeper.EventScopeChanged)
		w.sims["single"].Inject(providertest.Rule{Times: 1, Fault: providertest.Set("scope", step.answer)})
		token := w.token("one", keeper.Want{Force: true})
		if !token.Scope.Equal(step.scope) || !w.row("one").Scope.Equal(step.scope) {
			t.Errorf("after the answer %v: %v", step.answer, token.Scope)
		}
		events := must[[]keeper.Event](t)(w.store.Events(t.Context(), keeper.EventFilter{Connection: "one", Limit: 1}))
		if told := w.count("one", keeper.EventScopeChanged) > before; told != (step.told != "") || told && !strings.Contains(events[0].Detail, step.told) {
			t.Errorf("after the answer %v there is %+v", step.answer, events[0])
		}
	}
}

// TestScopeAskedFor holds that who granted less than was asked for is known to
// have, until they grant it.
func TestScopeAskedFor(t *testing.T) {
	d := single()
	d.Definition.Authorize.Scopes = oauth.Scope{"read", "write"}
	d.Withheld = []string{"write"}
	w := consenting(t, d)
	connect := func() keeper.Connection {
		_, row, err := w.k.Finish(t.Context(), w.visit(w.link(keeper.Connect{Provider: "single", Connection: "one"})), cookie)
		if err != nil {
			t.Fatal(err)
		}
		return row
	}
	if row := connect(); !row.Scope.Equal(oauth.Scope{"read"}) || !row.Asked.Equal(oauth.Scope{"read", "write"}) {
		t.Errorf("granted is %v of %v", row.Scope, row.Asked)
	}
	w.token("one", keeper.Want{Force: true})
	if row := w.row("one"); !row.Scope.Equal(oauth.Scope{"read"}) || !row.Asked.Equal(oauth.Scope{"read", "write"}) {
		t.Errorf("after a refresh, granted is %v of %v", row.Scope, row.Asked)
	}
	w.sims["single"].Change(func(d *providertest.Dialect) { d.Withheld = nil })
	if row := connect(); !row.Scope.Equal(oauth.Scope{"read", "write"}) || row.Asked != nil {
		t.Errorf("granted is %v of %v", row.Scope, row.Asked)
	}
}

// TestExpiring holds that an owner is warned once, in good time, of an end that
// no refresh moves, and that at the end nothing is sent.
func TestExpiring(t *testing.T) {
	for name, life := range map[string]time.Duration{"a year": 365 * day, "five years": 5 * 365 * day} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := single()
			d.AccessLife, d.RefreshIdle, d.GrantLife = day, 90*day, life
			w := newWorld(t, d)
			grant := w.connect("one", "single")
			began := w.clock.now()
			at := func(left time.Duration) {
				w.clock.move(began.Add(life - left).Sub(w.clock.now()))
				w.attended(t)
			}
			for left := life - 30*day; left > 15*day; left -= 60 * day {
				at(left)
				if row := w.row("one"); row.State != keeper.Active || !row.WarnedAt.IsZero() || row.EndsAt.Sub(began) > life+time.Minute || row.EndsAt.Sub(began) < life-time.Minute {
					t.Fatalf("%s before the end: %+v", left, row)
				}
			}
			at(15 * day)
			if n := w.count("one", keeper.EventExpiring); n != 0 {
				t.Errorf("warned %d times with fifteen days left", n)
			}
			for _, left := range []time.Duration{14*day - time.Hour, 13 * day, 3 * day, time.Hour} {
				at(left)
				w.token("one", keeper.Want{})
				if n := w.count("one", keeper.EventExpiring); n != 1 {
					t.Errorf("with %s left the owner was warned %d times", left, n)
				}
			}
			events := must[[]keeper.Event](t)(w.store.Events(t.Context(), keeper.EventFilter{Connection: "one", Limit: 1000}))
			i := slices.IndexFunc(events, func(e keeper.Event) bool { return e.Type == keeper.EventExpiring })
			if end := w.row("one").EndsAt.UTC().Format(time.RFC3339); i < 0 || !strings.Contains(events[i].Detail, end) {
				t.Errorf("the owner is not told of %s: %+v", end, events)
			}
			sent := w.sims["single"].Stats().Requests[provider.Refresh]
			at(-25 * time.Hour)
			if u := w.unusable("one", keeper.Want{}); u.Cause != keeper.CauseRefreshTokenExpired || !u.NeedsOwner() {
				t.Errorf("at the end: %v", u)
			}
			if n := w.sims["single"].Stats().Requests[provider.Refresh]; n != sent || w.sims["single"].Grant(grant).State != providertest.Live {
				t.Errorf("%d requests were sent for a grant that is over", n-sent)
			}
		})
	}
}

// TestExpiringAgain holds that a reconnected grant is warned of anew.
func TestExpiringAgain(t *testing.T) {
	d := single()
	d.AccessLife, d.RefreshIdle, d.GrantLife = day, 90*day, 365*day
	w := consenting(t, d)
	w.connect("one", "single")
	for year := range 2 {
		for range 7 {
			w.clock.move(50 * day)
			w.attended(t)
		}
		w.clock.move(2 * day)
		w.attended(t)
		if n := w.count("one", keeper.EventExpiring); n != year+1 {
			t.Errorf("in year %d the owner was warned %d times", year+1, n)
		}
		if _, row, err := w.k.Finish(t.Context(), w.visit(w.link(keeper.Connect{Provider: "single", Connection: "one"})), cookie); err != nil || !row.WarnedAt.IsZero() {
			t.Fatalf("reconnected: %+v, %v", row, err)
		}
	}
}

// TestKeptAlive holds that a connection which is refreshed when it is read, and
// which nobody reads for a year, is refreshed just before its refresh token would
// expire unused, and then lives.
func TestKeptAlive(t *testing.T) {
	d := single()
	d.RefreshIdle = 30 * day
	w := newWorld(t, d)
	_, tokens := w.sims["single"].Connect("one")
	must[keeper.Connection](t)(w.k.Create(t.Context(), operator, keeper.Import{ID: "one", Provider: "single", Background: keeper.OnDemand,
		AccessToken: tokens.AccessToken, RefreshToken: tokens.RefreshToken, ExpiresAt: tokens.ExpiresAt, RefreshEnds: tokens.RefreshExpiresAt}))
	sim, renewed := w.sims["single"], w.clock.now()
	for range 365 {
		w.clock.move(day)
		before := sim.Stats().Requests[provider.Refresh]
		w.attended(t)
		since := w.clock.now().Sub(renewed)
		switch n := sim.Stats().Requests[provider.Refresh] - before; {
		case n > 1, n == 1 && since < 21*day, n == 0 && since > 24*day:
			t.Fatalf("after %s there were %d refreshes", since, n)
		case n == 1:
			renewed = w.clock.now()
		}
	}
	if row := w.row("one"); row.State != keeper.Active || row.Generation < 15 || row.Generation > 18 {
		t.Errorf("the row is %+v", row)
	}
	if token := w.token("one", keeper.Want{}); !sim.Alive(token.AccessToken.Reveal()) {
		t.Error("the token is dead")
	}
}

// TestOldKeyGoes holds that a key is deleted when nothing is sealed under it any
// more and not before, while tokens are read and renewed all the time.
func TestOldKeyGoes(t *testing.T) {
	w := newWorld(t, single())
	ids := []string{"a", "b", "c", "d", "e", "f"}
	for _, id := range ids {
		w.connect(id, "single")
	}
	must[keeper.Connection](t)(w.k.Pause(t.Context(), operator, "f")) // whose tokens nobody reads
	must[secret.KeyRecord](t)(w.ring.Rotate(t.Context(), 0, false))
	if err := w.ring.Delete(t.Context(), 1); !errors.Is(err, secret.ErrKeyInUse) {
		t.Fatalf("the key of all tokens is deleted: %v", err)
	}
	var reading atomic.Bool
	var readers sync.WaitGroup
	reading.Store(true)
	for i, k := range []*keeper.Keeper{w.k, w.another()} {
		readers.Go(func() {
			for n := 0; reading.Load(); n++ {
				id := ids[n%(len(ids)-1)]
				if token, err := k.Token(t.Context(), id, keeper.Want{Force: i == 0 && n%10 == 0}); err != nil || token.AccessToken.Empty() {
					t.Errorf("%s: %v", id, err)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	runIn(t, func() {
		for range 1000 {
			if err := w.ring.Delete(t.Context(), 1); err == nil {
				break
			} else if !errors.Is(err, secret.ErrKeyInUse) {
				t.Errorf("deleting: %v", err)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}, w.k)
	reading.Store(false)
	readers.Wait()
	if keys := w.ring.Keys(); len(keys) != 1 || keys[0].ID != 2 {
		t.Fatalf("there are %d keys", len(keys))
	}
	must[keeper.Connection](t)(w.k.Resume(t.Context(), operator, "f"))
	w.start()
	for _, id := range ids {
		if token := w.token(id, keeper.Want{Force: true}); !w.sims["single"].Alive(token.AccessToken.Reveal()) || w.row(id).Tokens.KeyID != 2 {
			t.Errorf("%s is dead", id)
		}
	}
}
