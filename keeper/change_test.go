package keeper_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
	"github.com/evergrant/evergrant/secret"
)

var operator = keeper.Actor{Name: "operator", Address: "192.0.2.7"}

// reasonOf is why a request is refused; "" where it is not.
func reasonOf(err error) keeper.Reason {
	if refusal, ok := errors.AsType[*keeper.Refusal](err); ok {
		return refusal.Reason
	}
	return ""
}

// asking is single with a grant that ends and a param.
func asking() providertest.Dialect {
	d := single()
	d.Name, d.GrantLife = "asking", 365*24*time.Hour
	d.Definition.Params = map[string]provider.Param{"region": {Title: "Region", Pattern: "eu|us", Default: "eu"}, "shop": {Title: "Shop"}}
	d.Definition.API.Headers = map[string]string{"X-Shop": "{params.region}/{params.shop}"}
	return d
}

func TestCreate(t *testing.T) {
	text := secret.NewText
	shop := map[string]string{"shop": "one"}
	for _, tt := range []struct {
		name   string
		in     keeper.Import
		reason keeper.Reason
		check  func(c keeper.Connection, now time.Time) bool
	}{
		{"all there is", keeper.Import{ID: "x", Provider: "asking", Tenant: "t", Owner: "Jörg", Params: shop, Metadata: map[string]any{"realm": "7"}, Background: keeper.OnDemand,
			AccessToken: text("at"), RefreshToken: text("rt"), TokenType: "bearer", Scope: oauth.Scope{"a", "b"}, ExpiresAt: time.Now().Add(time.Hour), RefreshEnds: time.Now().Add(40 * 24 * time.Hour)}, "",
			func(c keeper.Connection, now time.Time) bool {
				due := c.DueAt.Sub(now).Round(time.Hour)
				return c.ID == "x" && c.Tenant == "t" && c.Owner == "Jörg" && c.Params["region"] == "eu" && c.Metadata["realm"] == "7" && c.Generation == 1 && c.Refreshable &&
					c.TokenType == "bearer" && c.Scope.String() == "a b" && due > 30*24*time.Hour && due < 40*24*time.Hour && c.EndsAt.Sub(now).Round(time.Hour) == 365*24*time.Hour
			}},
		{"an id is made", keeper.Import{Provider: "single", AccessToken: text("at"), RefreshToken: text("rt"), ExpiresAt: time.Now().Add(time.Hour)}, "",
			func(c keeper.Connection, now time.Time) bool {
				due := c.DueAt.Sub(now)
				return strings.HasPrefix(c.ID, "conn_") && due > 45*time.Minute && due < 56*time.Minute
			}},
		{"of unknown life", keeper.Import{Provider: "single", AccessToken: text("at"), RefreshToken: text("rt")}, "",
			func(c keeper.Connection, now time.Time) bool { return !c.DueAt.After(now) }},
		{"of unknown life, on demand", keeper.Import{Provider: "single", AccessToken: text("at"), RefreshToken: text("rt"), Background: keeper.OnDemand}, "",
			func(c keeper.Connection, now time.Time) bool { return !c.DueAt.After(now) }},
		{"expired", keeper.Import{Provider: "single", AccessToken: text("at"), RefreshToken: text("rt"), ExpiresAt: time.Now().Add(-time.Hour)}, "",
			func(c keeper.Connection, now time.Time) bool { return !c.DueAt.After(now) && !c.DueAt.IsZero() }},
		{"expired, on demand", keeper.Import{Provider: "single", AccessToken: text("at"), RefreshToken: text("rt"), ExpiresAt: time.Now().Add(-time.Hour), Background: keeper.OnDemand}, "",
			func(c keeper.Connection, now time.Time) bool { return c.DueAt.After(now.Add(24 * time.Hour)) }},
		{"a refresh token alone", keeper.Import{Provider: "single", RefreshToken: text("rt"), Background: keeper.OnDemand}, "",
			func(c keeper.Connection, now time.Time) bool {
				return c.Generation == 0 && !c.DueAt.After(now) && !c.DueAt.IsZero() && c.IssuedAt.IsZero() && !c.Tokens.Empty()
			}},
		{"an access token alone", keeper.Import{Provider: "single", AccessToken: text("at"), ExpiresAt: time.Now().Add(time.Hour)}, "",
			func(c keeper.Connection, now time.Time) bool {
				return !c.Refreshable && c.DueAt.After(now.Add(50*time.Minute))
			}},
		{"an access token for ever", keeper.Import{Provider: "single", AccessToken: text("at")}, "",
			func(c keeper.Connection, _ time.Time) bool { return !c.Refreshable && c.DueAt.IsZero() }},
		{"nothing, for the client's own grant", keeper.Import{Provider: "machine"}, "",
			func(c keeper.Connection, now time.Time) bool {
				return c.Refreshable && c.Tokens.Empty() && c.Generation == 0 && !c.DueAt.After(now) && !c.DueAt.IsZero()
			}},
		{"nothing, on demand", keeper.Import{Provider: "machine", Background: keeper.OnDemand}, "",
			func(c keeper.Connection, _ time.Time) bool { return c.DueAt.IsZero() }},

		{"no such provider", keeper.Import{Provider: "tonk", AccessToken: text("at")}, keeper.ReasonUnknownProvider, nil},
		{"no provider", keeper.Import{AccessToken: text("at")}, keeper.ReasonUnknownProvider, nil},
		{"a bad id", keeper.Import{ID: "a/b", Provider: "single", AccessToken: text("at")}, keeper.ReasonBadID, nil},
		{"a param is missing", keeper.Import{Provider: "asking", AccessToken: text("at")}, keeper.ReasonBadParams, nil},
		{"a bad param", keeper.Import{Provider: "asking", AccessToken: text("at"), Params: map[string]string{"shop": "one", "region": "mars"}}, keeper.ReasonBadParams, nil},
		{"an unknown param", keeper.Import{Provider: "single", AccessToken: text("at"), Params: shop}, keeper.ReasonBadParams, nil},
		{"nothing", keeper.Import{Provider: "single"}, keeper.ReasonNoTokens, nil},
		{"an expired access token alone", keeper.Import{Provider: "single", AccessToken: text("at"), ExpiresAt: time.Now().Add(-time.Second)}, keeper.ReasonNoTokens, nil},
		{"a long owner", keeper.Import{Provider: "single", AccessToken: text("at"), Owner: strings.Repeat("x", 256)}, keeper.ReasonBadField, nil},
		{"an owner with a line end", keeper.Import{Provider: "single", AccessToken: text("at"), Owner: "a\nb"}, keeper.ReasonBadField, nil},
		{"an owner that is no text", keeper.Import{Provider: "single", AccessToken: text("at"), Owner: "a\xff"}, keeper.ReasonBadField, nil},
		{"a bad tenant", keeper.Import{Provider: "single", AccessToken: text("at"), Tenant: "a\x00"}, keeper.ReasonBadField, nil},
		{"a bad background", keeper.Import{Provider: "single", AccessToken: text("at"), Background: "sometimes"}, keeper.ReasonBadField, nil},
		{"a long token type", keeper.Import{Provider: "single", AccessToken: text("at"), TokenType: strings.Repeat("x", 256)}, keeper.ReasonBadField, nil},
		{"much metadata", keeper.Import{Provider: "single", AccessToken: text("at"), Metadata: map[string]any{"x": strings.Repeat("x", 65<<10)}}, keeper.ReasonBadField, nil},
		{"metadata that is no JSON", keeper.Import{Provider: "single", AccessToken: text("at"), Metadata: map[string]any{"x": func() {}}}, keeper.ReasonBadField, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, single(), asking(), machine())
			now := w.clock.now()
			c, err := w.k.Create(t.Context(), operator, tt.in)
			if reasonOf(err) != tt.reason || (err == nil) != (tt.reason == "") {
				t.Fatalf("refused because of %q: %v", reasonOf(err), err)
			}
			if err != nil {
				if err.Error() == "" || strings.Contains(err.Error(), "\n") {
					t.Errorf("the error says %q", err)
				}
				return
			}
			if c.State != keeper.Active || c.Cause != "" || c.CreatedAt.IsZero() || c.Since.IsZero() || !tt.check(c, now.Add(time.Second)) {
				t.Errorf("the row is %+v", c)
			}
			stored := w.row(c.ID)
			stored.Fence = c.Fence
			if fmt.Sprint(stored) != fmt.Sprint(stamped(c)) {
				t.Errorf("stored is\n%v, told is\n%v", stored, stamped(c))
			}
			events := must[[]keeper.Event](t)(w.db.Keeper().Events(t.Context(), keeper.EventFilter{Connection: c.ID}))
			if len(events) != 1 || events[0].Type != keeper.EventCreated || events[0].Actor != operator.Name || events[0].Address != operator.Address {
				t.Errorf("events %+v", events)
			}
		})
	}
}

// stamped is a row with its times as stores keep them.
func stamped(c keeper.Connection) keeper.Connection {
	for _, at := range []*time.Time{&c.Since, &c.IssuedAt, &c.ExpiresAt, &c.RefreshExpiresAt, &c.EndsAt, &c.DueAt, &c.WarnedAt, &c.CreatedAt, &c.UpdatedAt} {
		if !at.IsZero() {
			*at = at.UTC().Truncate(time.Millisecond)
		}
	}
	return c
}

// machine is a provider whose grant is the client's own.
func machine() providertest.Dialect {
	return providertest.Dialect{Name: "machine", Grants: []string{oauth.GrantClientCredentials}, AccessLife: time.Hour}
}

// TestCreateTwice: an id is given away once.
func TestCreateTwice(t *testing.T) {
	w := newWorld(t, single())
	w.connect("one", "single")
	_, err := w.k.Create(t.Context(), operator, keeper.Import{ID: "one", Provider: "single", AccessToken: secret.NewText("at")})
	if !errors.Is(err, keeper.ErrExists) || w.token("one", keeper.Want{}).AccessToken.Equal("at") {
		t.Errorf("got %v", err)
	}
}

// TestCreatedOfNothing: a connection without tokens gets them at the first read.
func TestCreatedOfNothing(t *testing.T) {
	w := newWorld(t, machine(), single())
	c := must[keeper.Connection](t)(w.k.Create(t.Context(), operator, keeper.Import{Provider: "machine", Background: keeper.OnDemand}))
	if token := w.token(c.ID, keeper.Want{}); !w.sims["machine"].Alive(token.AccessToken.Reveal()) || token.Generation != 1 {
		t.Errorf("generation %d", token.Generation)
	}
	_, tokens := w.sims["single"].Connect("somebody")
	c = must[keeper.Connection](t)(w.k.Create(t.Context(), operator, keeper.Import{Provider: "single", RefreshToken: tokens.RefreshToken}))
	if token := w.token(c.ID, keeper.Want{}); !w.sims["single"].Alive(token.AccessToken.Reveal()) || token.Generation != 1 {
		t.Errorf("generation %d", token.Generation)
	}
}

func (w *world) unusable(id string, want keeper.Want) *keeper.Unusable {
	w.t.Helper()
	token, err := w.k.Token(w.t.Context(), id, want)
	unusable, ok := errors.AsType[*keeper.Unusable](err)
	if !ok {
		w.t.Fatalf("got a token of generation %d, %v", token.Generation, err)
	}
	return unusable
}

func TestPauseAndResume(t *testing.T) {
	w := newWorld(t, single())
	w.connect("one", "single")
	before := w.row("one")
	c := must[keeper.Connection](t)(w.k.Pause(t.Context(), operator, "one"))
	if c.State != keeper.Paused || c.Cause != keeper.CauseOperator || !c.DueAt.IsZero() {
		t.Errorf("paused is %s (%s), due %s", c.State, c.Cause, c.DueAt)
	}
	must[keeper.Connection](t)(w.k.Pause(t.Context(), operator, "one"))
	w.clock.move(2 * time.Hour)
	if u := w.unusable("one", keeper.Want{}); u.State != keeper.Paused || u.NeedsOwner() || u.Repair == "" {
		t.Errorf("a reader is told %v", u)
	}
	if due := must[[]keeper.Due](t)(w.db.Keeper().Due(t.Context(), w.clock.now(), 10)); len(due) > 0 {
		t.Errorf("due: %v", due)
	}
	c = must[keeper.Connection](t)(w.k.Resume(t.Context(), operator, "one"))
	if c.State != keeper.Active || c.Cause != "" || !c.DueAt.Equal(before.DueAt) && c.DueAt.IsZero() {
		t.Errorf("resumed is %s (%s), due %s", c.State, c.Cause, c.DueAt)
	}
	must[keeper.Connection](t)(w.k.Resume(t.Context(), operator, "one"))
	if got := w.token("one", keeper.Want{}); got.Generation != 2 {
		t.Errorf("generation %d", got.Generation)
	}
	if got, want := w.events("one"), []string{keeper.EventCreated, keeper.EventPaused, keeper.EventResumed, keeper.EventRefreshed}; !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
	for _, f := range []func(context.Context, keeper.Actor, string) (keeper.Connection, error){w.k.Pause, w.k.Resume} {
		if _, err := f(t.Context(), operator, "nobody"); !errors.Is(err, keeper.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	}
}

// TestResumeGoesBack: a pause does not make a connection better than it was.
func TestResumeGoesBack(t *testing.T) {
	w := newWorld(t, single())
	sim := w.sims["single"]
	w.connect("doubt", "single")
	revoked := w.connect("revoked", "single")
	sim.Inject(providertest.Rule{Times: 1, Fault: providertest.DropAfter()})
	w.unusable("doubt", keeper.Want{After: 1})
	sim.Revoke(revoked)
	w.unusable("revoked", keeper.Want{After: 1})
	w.clock.move(time.Minute)
	for id, want := range map[string]keeper.State{"doubt": keeper.InDoubt, "revoked": keeper.Reauthorize} {
		before, asked := w.row(id), sim.Stats().Requests[provider.Refresh]
		if before.State != want {
			t.Fatalf("%s is %s", id, before.State)
		}
		must[keeper.Connection](t)(w.k.Pause(t.Context(), operator, id))
		w.clock.move(time.Minute)
		after := must[keeper.Connection](t)(w.k.Resume(t.Context(), operator, id))
		if after.State != before.State || after.Cause != before.Cause || (after.Intent == nil) != (before.Intent == nil) {
			t.Errorf("%s was %s (%s) and is %s (%s)", id, before.State, before.Cause, after.State, after.Cause)
		}
		if want == keeper.InDoubt && !after.Since.Equal(before.Since) {
			t.Errorf("the doubt is since %s, and was since %s", after.Since, before.Since)
		}
		if (after.DueAt.IsZero()) != (want == keeper.Reauthorize) {
			t.Errorf("%s is due %s", id, after.DueAt)
		}
		w.unusable(id, keeper.Want{After: 1})
		if n := sim.Stats().Requests[provider.Refresh]; n != asked {
			t.Errorf("%s: %d requests were sent", id, n-asked)
		}
	}
}

// revocable is single, of which tokens can be revoked.
func revocable() providertest.Dialect {
	d := single()
	d.Name, d.Revoke = "revocable", &providertest.Revocation{}
	return d
}

func TestDelete(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(w *world)
		revoked bool
		told    bool // that it was not revoked
	}{
		{"revoked", func(*world) {}, true, false},
		{"paused", func(w *world) { must[keeper.Connection](w.t)(w.k.Pause(w.t.Context(), operator, "one")) }, true, false},
		{"revoked before", func(w *world) { w.sims["revocable"].Revoke("grant-1") }, true, false},
		{"the provider fails", func(w *world) {
			w.sims["revocable"].Inject(providertest.Rule{Kind: providertest.Everything, Fault: providertest.Unavailable(http.StatusInternalServerError, "")})
		}, false, true},
		{"the provider does not answer", func(w *world) {
			w.sims["revocable"].Inject(providertest.Rule{Kind: providertest.Everything, Fault: providertest.DropBefore()})
		}, false, true},
		{"the client is refused", func(w *world) { w.sims["revocable"].SetSecrets("another") }, false, true},
		{"the provider is not configured any more", func(w *world) { delete(w.sims, "revocable"); w.start() }, false, true},
		{"the provider is known to be down", func(w *world) {
			for range 5 {
				ask(w.t.(*testing.T), w.k, keeper.GateVisit{Provider: "revocable", Host: strings.TrimPrefix(w.urls["revocable"], "http://"), Connection: "x"}, unreached)
			}
		}, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, revocable())
			sim := w.sims["revocable"]
			grant := w.connect("one", "revocable")
			token := w.token("one", keeper.Want{})
			tt.prepare(w)
			revoked, err := w.k.Delete(t.Context(), operator, "one")
			told, ok := errors.AsType[*keeper.NotRevoked](err)
			if revoked != tt.revoked || ok != tt.told || (err != nil) != tt.told {
				t.Fatalf("revoked %v, %v", revoked, err)
			}
			if ok && (told.Connection != "one" || told.Provider != "revocable" || errors.Unwrap(told) == nil || !strings.Contains(err.Error(), "is deleted")) {
				t.Errorf("told %+v", told)
			}
			if sim.Alive(token.AccessToken.Reveal()) == tt.revoked {
				t.Errorf("at the provider: %+v", sim.Grant(grant))
			}
			for range 2 { // also from memory
				if _, err := w.k.Token(t.Context(), "one", keeper.Want{}); !errors.Is(err, keeper.ErrNotFound) {
					t.Errorf("a reader gets %v", err)
				}
			}
			events := must[[]keeper.Event](t)(w.db.Keeper().Events(t.Context(), keeper.EventFilter{Connection: "one"}))
			if last := events[0]; last.Type != keeper.EventDeleted || last.Actor != "operator" || strings.Contains(last.Detail, "Revoked at") != tt.revoked {
				t.Errorf("the last event is %+v", last)
			}
			if _, err := w.k.Delete(t.Context(), operator, "one"); !errors.Is(err, keeper.ErrNotFound) {
				t.Errorf("deleted twice: %v", err)
			}
		})
	}
}

// TestDeleteWhereNothingIsRevoked: without a way to revoke, or tokens, there is
// nothing to tell.
func TestDeleteWhereNothingIsRevoked(t *testing.T) {
	w := newWorld(t, single(), machine())
	w.connect("one", "single")
	must[keeper.Connection](t)(w.k.Create(t.Context(), operator, keeper.Import{ID: "two", Provider: "machine"}))
	for _, id := range []string{"one", "two"} {
		if revoked, err := w.k.Delete(t.Context(), operator, id); revoked || err != nil {
			t.Errorf("%s: revoked %v, %v", id, revoked, err)
		}
	}
}

// TestDeleteTriesAllSecrets: a client secret that is no longer taken does not
// keep a grant alive.
func TestDeleteTriesAllSecrets(t *testing.T) {
	w := newWorld(t, revocable())
	w.change = func(cfg *keeper.Config) {
		cfg.Providers = []*provider.Provider{must[*provider.Provider](t)(provider.New(provider.Config{
			Definition: w.sims["revocable"].Definition(w.urls["revocable"]), ClientID: "sim-client", RedirectURI: "http://127.0.0.1/connect/callback",
			ClientSecrets: []secret.Text{secret.NewText("old"), secret.NewText("older"), secret.NewText("sim-secret")}, AllowPrivateNetworks: true, Now: w.clock.now,
		}))}
	}
	w.start()
	w.connect("one", "revocable")
	if revoked, err := w.k.Delete(t.Context(), operator, "one"); !revoked || err != nil {
		t.Errorf("revoked %v, %v", revoked, err)
	}
}

// TestDeleteWithAnAnswerInTheJournal: what the provider gave last is what must be
// revoked, although nobody has seen it: of the token before, it may know nothing
// any more, and call it revoked.
func TestDeleteWithAnAnswerInTheJournal(t *testing.T) {
	w := newWorld(t, single())
	sent := make(chan string, 1)
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { sent <- r.FormValue("token") }))
	defer endpoint.Close()
	store := &lamedRows{Store: w.store}
	w.store = store
	w.change = func(cfg *keeper.Config) {
		def := w.sims["single"].Definition(w.urls["single"])
		def.RevokeURL = endpoint.URL
		cfg.Providers = []*provider.Provider{newProvider(t, "single", def, w.clock.now, nil)}
	}
	w.start()
	_, tokens := w.sims["single"].Connect("one")
	must[keeper.Connection](t)(w.k.Create(t.Context(), operator, keeper.Import{ID: "one", Provider: "single", AccessToken: tokens.AccessToken, RefreshToken: tokens.RefreshToken}))
	store.commit = "before"
	if _, err := w.k.Token(t.Context(), "one", keeper.Want{After: 1}); !errors.Is(err, errLamed) {
		t.Fatalf("got %v", err)
	}
	store.commit = ""
	w.clock.move(time.Minute)
	if revoked, err := w.k.Delete(t.Context(), operator, "one"); !revoked || err != nil {
		t.Fatalf("revoked %v, %v", revoked, err)
	}
	if token := <-sent; !strings.HasPrefix(token, "sim_rt_") || tokens.RefreshToken.Equal(token) {
		t.Error("the refresh token that was spent is revoked")
	}
}

// lamedRows is a store that does not take some changes of rows: before they are
// there, or after.
type lamedRows struct {
	keeper.Store
	create, remove, commit, once string // "before" or "after"; remove also "stale"
}

func (l *lamedRows) Create(ctx context.Context, c keeper.Connection, event keeper.Event) error {
	if l.create == "before" {
		return errLamed
	}
	if err := l.Store.Create(ctx, c, event); err != nil || l.create == "" {
		return err
	}
	return errLamed
}

func (l *lamedRows) Delete(ctx context.Context, id string, fence uint64, event keeper.Event) (bool, error) {
	switch l.remove {
	case "before":
		return false, errLamed
	case "stale":
		return false, nil
	}
	done, err := l.Store.Delete(ctx, id, fence, event)
	if l.remove == "after" {
		return false, errLamed
	}
	return done, err
}

func (l *lamedRows) Once(ctx context.Context, name string, at, until time.Time) (bool, error) {
	if l.once == "before" {
		return false, errLamed
	}
	isNew, err := l.Store.Once(ctx, name, at, until)
	if l.once == "after" {
		return false, errLamed
	}
	return isNew, err
}

func (l *lamedRows) Commit(ctx context.Context, fence, generation uint64, next keeper.Connection, events ...keeper.Event) (bool, error) {
	if l.commit == "before" {
		return false, errLamed
	}
	done, err := l.Store.Commit(ctx, fence, generation, next, events...)
	if l.commit == "after" {
		return false, errLamed
	}
	return done, err
}

// TestChangesThatFail: the error is the store's, and the same request made again
// ends as if it had been made once.
func TestChangesThatFail(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			w := newWorld(t, revocable())
			store := &lamedRows{Store: w.store}
			w.store = store
			w.start()

			store.create = when
			in := keeper.Import{ID: "two", Provider: "revocable", AccessToken: secret.NewText("at")}
			if _, err := w.k.Create(t.Context(), operator, in); !errors.Is(err, errLamed) {
				t.Errorf("create: %v", err)
			}
			store.create = ""
			if _, err := w.k.Create(t.Context(), operator, in); when == "before" && err != nil || when == "after" && !errors.Is(err, keeper.ErrExists) {
				t.Errorf("create again: %v", err)
			}

			w.connect("one", "revocable")
			store.commit = when
			if _, err := w.k.Pause(t.Context(), operator, "one"); when == "before" && !errors.Is(err, errLamed) || when == "after" && err != nil {
				t.Errorf("pause: %v", err) // a row that is as it was to be is a success
			}
			store.commit = ""
			w.clock.move(time.Minute) // the lease that nobody gave back
			if c, err := w.k.Pause(t.Context(), operator, "one"); err != nil || c.State != keeper.Paused {
				t.Errorf("pause again: %v", err)
			}

			store.remove = when
			if _, err := w.k.Delete(t.Context(), operator, "one"); !errors.Is(err, errLamed) {
				t.Errorf("delete: %v", err)
			}
			store.remove = ""
			w.clock.move(time.Hour)
			revoked, err := w.k.Delete(t.Context(), operator, "one")
			if when == "before" && (!revoked || err != nil) || when == "after" && !errors.Is(err, keeper.ErrNotFound) {
				t.Errorf("delete again: %v, %v", revoked, err)
			}
		})
	}
}

// TestDeleteWithALostLease: who stood still for longer than the lease does not
// delete what is somebody else's by now, and says so.
func TestDeleteWithALostLease(t *testing.T) {
	w := newWorld(t, single())
	store := &lamedRows{Store: w.store, remove: "stale"}
	w.store = store
	w.start()
	w.connect("one", "single")
	if revoked, err := w.k.Delete(t.Context(), operator, "one"); revoked || err == nil {
		t.Errorf("revoked %v, %v", revoked, err)
	}
	if row := must[keeper.Connection](t)(w.k.Connection(t.Context(), "one")); row.ID != "one" {
		t.Errorf("the row is %+v", row)
	}
}
