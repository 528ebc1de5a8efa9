package storetest

import (
	"context"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
)

func grantCases() []contract {
	return []contract{
		{"a created grant is read back with every field", createdGrantIsRead},
		{"an empty scope and zero times stay so", emptyGrantIsRead},
		{"creating records its event", creatingRecords},
		{"an id that exists is refused and nothing changes", existingGrantIsRefused},
		{"an unknown grant is ErrNotFound", unknownGrant},
		{"times are kept to the millisecond", timesToTheMillisecond},
		{"numbers keep all their bits", numbersKeepTheirBits},
		{"a retry is counted, and nothing else changes", retryIsCounted},
		{"a retry of an unknown grant does no harm", unknownRetry},
		{"a context that has ended is refused by every method, without effect", endedContext},
	}
}

func createdGrantIsRead(f *fixture) {
	want := newGrant()
	want.EndsAt = start().Add(90 * day)
	want.RevokedAt, want.RevokedCause = start(), issuer.CauseOperatorRequest
	f.create(want)
	f.equal(f.grant(want.ID), want)
}

func emptyGrantIsRead(f *fixture) {
	want := issuer.Grant{ID: issuer.NewGrantID(), ClientID: "shop", CreatedAt: start(), RotatedAt: start()}
	f.create(want)
	f.equal(f.grant(want.ID), want)
}

func creatingRecords(f *fixture) {
	g := newGrant()
	f.create(g)
	f.equal(f.events(issuer.EventFilter{}), []issuer.Event{newEvent(issuer.EventGrantCreated, g)})
}

func existingGrantIsRefused(f *fixture) {
	g := f.create(newGrant())
	other := g
	other.Subject, other.Scope = "mallory", oauth.Scope{"admin"}
	if err := f.CreateGrant(f.Context(), other, newEvent("test.second", other)); err == nil {
		f.Error("the id was taken twice")
	}
	f.equal(f.grant(g.ID), g)
	f.equal(f.events(issuer.EventFilter{Type: "test.second"}), []issuer.Event(nil))
}

func unknownGrant(f *fixture) {
	_, err := f.Store.Grant(f.Context(), issuer.NewGrantID())
	f.is(err, issuer.ErrNotFound)
	_, _, err = f.Rotate(f.Context(), next(newGrant()))
	f.is(err, issuer.ErrNotFound)
	_, err = f.Revoke(f.Context(), issuer.NewGrantID(), start(), newEvent(issuer.EventGrantRevoked, newGrant()))
	f.is(err, issuer.ErrNotFound)
	f.equal(f.events(issuer.EventFilter{}), []issuer.Event(nil))
}

func timesToTheMillisecond(f *fixture) {
	g := newGrant()
	want := g.ExpiresAt
	g.ExpiresAt = g.ExpiresAt.Add(999 * time.Microsecond).In(time.FixedZone("", 3600))
	f.create(g)
	f.equal(f.grant(g.ID).ExpiresAt, want)
}

func numbersKeepTheirBits(f *fixture) {
	g := newGrant()
	g.Generation, g.KeyID, g.Retries = 1<<32-2, 1<<32-2, 1<<32-1
	f.create(g)
	f.equal(f.grant(g.ID), g)
	rotated, ok := f.rotate(next(g))
	f.equal([]any{ok, rotated.Generation, rotated.KeyID}, []any{true, uint32(1<<32 - 1), uint32(1<<32 - 1)})
}

func retryIsCounted(f *fixture) {
	want := f.create(newGrant())
	for range 3 {
		f.ok(f.Retried(f.Context(), want.ID))
	}
	want.Retries += 3
	f.eventually(func() bool { return f.grant(want.ID).Retries == want.Retries })
	f.equal(f.grant(want.ID), want)
}

func unknownRetry(f *fixture) {
	g := f.create(newGrant())
	f.ok(f.Retried(f.Context(), issuer.NewGrantID()))
	f.ok(f.Retried(f.Context(), g.ID))
	f.eventually(func() bool { return f.grant(g.ID).Retries == g.Retries+1 })
}

// eventually waits for what may become durable later.
func (f *fixture) eventually(done func() bool) {
	f.Helper()
	for range 1000 {
		if done() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	f.Fatal("it did not happen")
}

func endedContext(f *fixture) {
	g := f.create(newGrant())
	client, user := newClient("shop"), newUser("alice")
	f.ok(f.PutClient(f.Context(), client, newEvent(issuer.EventClientSaved, g)))
	f.ok(f.PutUser(f.Context(), user, newEvent(issuer.EventUserSaved, g)))
	f.ok(f.AddKey(f.Context(), newKey(1)))
	before := f.events(issuer.EventFilter{})

	ctx, e := ended(f.Context()), newEvent("test.ended", g)
	for method, err := range f.everyWrite(ctx, g, e) {
		if err == nil {
			f.Errorf("%s did not mind that its context had ended", method)
		}
		f.is(err, context.Canceled)
	}
	for method, err := range f.everyRead(ctx, g) {
		if err == nil {
			f.Errorf("%s did not mind that its context had ended", method)
		}
		f.is(err, context.Canceled)
	}

	f.equal(f.grant(g.ID), g)
	f.equal(f.client("shop"), client)
	f.equal(f.user("alice"), user)
	f.equal(f.keys(), []any{newKey(1)})
	f.equal(f.events(issuer.EventFilter{}), before)
}

// everyWrite calls each method that writes.
func (f *fixture) everyWrite(ctx context.Context, g issuer.Grant, e issuer.Event) map[string]error {
	errs := map[string]error{
		"CreateGrant":       f.CreateGrant(ctx, newGrant(), e),
		"Retried":           f.Retried(ctx, g.ID),
		"RevokeAccessToken": f.RevokeAccessToken(ctx, "jti", start(), e),
		"Record":            f.Record(ctx, e),
		"PutClient":         f.PutClient(ctx, newClient("other"), e),
		"DeleteClient":      f.DeleteClient(ctx, "shop", e),
		"PutUser":           f.PutUser(ctx, newUser("bob"), e),
		"DeleteUser":        f.DeleteUser(ctx, "alice", e),
		"AddKey":            f.AddKey(ctx, newKey(9)),
		"DeleteKey":         f.DeleteKey(ctx, 1),
		"CountUses":         f.CountUses(ctx, []issuer.Use{newUse("shop", issuer.HabitPassword)}),
		"ForgetUses":        f.ForgetUses(ctx, "shop"),
	}
	_, errs["RehashClient"] = f.RehashClient(ctx, "shop", generated(1), generated(9), e)
	_, errs["RehashUser"] = f.RehashUser(ctx, "alice", newUser("alice").Password, generated(9), e)
	_, errs["Import"] = f.Import(ctx, issuer.Batch{Grants: []issuer.Grant{newGrant()}, Event: e})
	_, _, errs["Rotate"] = f.Rotate(ctx, next(g))
	_, errs["Revoke"] = f.Revoke(ctx, g.ID, start(), e)
	_, errs["Purge"] = f.Purge(ctx, start().Add(1000*day), start().Add(1000*day))
	return errs
}

// everyRead calls each method that reads.
func (f *fixture) everyRead(ctx context.Context, g issuer.Grant) map[string]error {
	errs := map[string]error{}
	_, errs["Grant"] = f.Store.Grant(ctx, g.ID)
	_, errs["AccessTokenRevoked"] = f.AccessTokenRevoked(ctx, "jti")
	_, errs["Client"] = f.Client(ctx, "shop")
	_, errs["User"] = f.User(ctx, "alice")
	_, errs["Keys"] = f.Keys(ctx)
	_, errs["Clients"] = f.Clients(ctx, "", 0)
	_, errs["Users"] = f.Users(ctx, "", 0)
	_, errs["Grants"] = f.Grants(ctx, issuer.GrantFilter{})
	_, errs["Events"] = f.Events(ctx, issuer.EventFilter{})
	_, errs["Uses"] = f.Uses(ctx, issuer.UseFilter{})
	_, errs["Import, dry"] = f.Import(ctx, issuer.Batch{Clients: []issuer.Client{newClient("shop")}, DryRun: true})
	_, errs["Stats"] = f.Stats(ctx)
	return errs
}
