package keeper_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/testdb"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/issuer/profile"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
	"github.com/evergrant/evergrant/secret"
)

// ownIssuer is a server of this project on a database of its own, which loses
// the answers to as many token requests as it is told.
type ownIssuer struct {
	t        testing.TB
	url      string
	store    *testdb.DB
	server   *issuer.Server
	lose     atomic.Int32 // answers, when the server acted
	drop     atomic.Int32 // requests, before it acts
	requests atomic.Int32 // for tokens
	path     string       // they come to
}

func (o *ownIssuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != o.path {
		o.server.ServeHTTP(w, r)
		return
	}
	o.requests.Add(1)
	if o.drop.Add(-1) >= 0 {
		panic(http.ErrAbortHandler)
	}
	if o.lose.Add(-1) >= 0 {
		o.server.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
	o.server.ServeHTTP(w, r)
}

// grant is the one grant that there is.
func (o *ownIssuer) grant() issuer.Grant {
	o.t.Helper()
	grants := must[[]issuer.Grant](o.t)(o.store.Grants(o.t.Context(), issuer.GrantFilter{}))
	if len(grants) != 1 {
		o.t.Fatalf("there are %d grants", len(grants))
	}
	return grants[0]
}

// withIssuer is a world with a connection at a server of this project, by the
// definition that comes with the program: it is told the issuer alone.
func withIssuer(t testing.TB) (*world, *ownIssuer) {
	t.Helper()
	w, o := withProfile(t, "evergrant", "", issuer.TokenPath, func(cfg *provider.Config, url string) { cfg.Params = map[string]string{"issuer": url} })
	row := w.row("one")
	if !row.Scope.Equal(oauth.Scope{"read"}) || row.ExpiresAt.Sub(row.IssuedAt) != time.Hour || row.RefreshExpiresAt.Sub(row.IssuedAt) != 14*24*time.Hour {
		t.Errorf("connected as %+v", row)
	}
	return w, o
}

// withProfile is a world with a connection at a server of this project that
// speaks as another one does, by the definition of that one, whose registration
// lead points at it.
func withProfile(t testing.TB, name, speaks, path string, lead func(cfg *provider.Config, url string)) (*world, *ownIssuer) {
	t.Helper()
	w, o := emptyWorld(t), &ownIssuer{t: t, path: path}
	var stop func()
	o.url, stop = providertest.Listen(o)
	t.Cleanup(stop)
	o.store = must[*testdb.DB](t)(testdb.New(t).Open(t.Context()))
	t.Cleanup(func() { o.store.Close() })
	ring := must[*secret.Ring](t)(secret.OpenRing(t.Context(), secret.NewRoot(), o.store, w.clock.now, false))
	yes := true
	o.server = must[*issuer.Server](t)(issuer.New(issuer.Config{
		Issuer: o.url, Store: o.store, Keys: ring, Now: w.clock.now, Log: slog.New(slog.DiscardHandler),
		Profile: speaks, Profiles: profile.All(profile.Options{Bshaffer: profile.BshafferOptions{AlwaysIssueNewRefreshToken: &yes}}),
		Scopes: map[string]string{"read": "read it", "write": "change it"},
		AskOwner: func(_ http.ResponseWriter, _ *http.Request, ask *issuer.Authorization) (issuer.Answer, bool) {
			return issuer.Answer{Subject: "ada", Scope: ask.Scope}, true
		},
	}))
	clientSecret, password := secret.NewSecret(), secret.NewSecret()
	admin, actor := issuer.NewAdmin(o.server, o.store), issuer.Actor{Name: "operator"}
	must[issuer.User](t)(admin.SaveUser(t.Context(), actor, issuer.User{
		Username: "ada", Password: secret.NewVerifier(password), Info: []byte(`{"companies":[{"guid":"5f2a"}]}`),
	}))
	must[issuer.Client](t)(admin.SaveClient(t.Context(), actor, issuer.Client{
		ID: "keeper", Secrets: []secret.Verifier{secret.NewVerifier(clientSecret)}, RedirectURIs: []string{"http://127.0.0.1/connect/callback"},
		GrantTypes: []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken},
	}))
	definition, _ := provider.Builtin().Definition(name)
	w.change = func(cfg *keeper.Config) {
		registered := provider.Config{
			Definition: definition, ClientID: "keeper", ClientSecrets: []secret.Text{clientSecret},
			RedirectURI: "http://127.0.0.1/connect/callback", Scopes: oauth.Scope{"read"}, AllowPrivateNetworks: true, Now: w.clock.now,
		}
		lead(&registered, o.url)
		cfg.Providers = []*provider.Provider{must[*provider.Provider](t)(provider.New(registered))}
	}
	w.openStore()
	w.start()
	if _, _, err := w.k.Finish(t.Context(), w.visit(w.link(keeper.Connect{Provider: name, Connection: "one", Owner: "ada"})), cookie); err != nil {
		t.Fatal(err)
	}
	return w, o
}

// TestOwnIssuer holds that both halves of the project agree: connected by
// discovery, refreshed, and healed of each lost answer within the retry window,
// without a generation too many.
func TestOwnIssuer(t *testing.T) {
	w, o := withIssuer(t)
	w.refreshAndLose(o, time.Hour, 40)
}

// TestSeedsAtOwnIssuer is the same where the server speaks as those of the seeds
// do, by their definitions: FOSOAuthServerBundle, bshaffer's with rotation, and
// Eventix with its JSON, three days and info. Those servers have no replay window;
// this one has, and a registration says so.
func TestSeedsAtOwnIssuer(t *testing.T) {
	server := func(cfg *provider.Config, url string) { cfg.Params = map[string]string{"server": url} }
	for name, c := range map[string]struct {
		profile, path string
		life          time.Duration
		lead          func(*provider.Config, string)
	}{
		"fosoauthserver": {profile.NameFOS, "/oauth/v2/token", time.Hour, server},
		"bshaffer":       {profile.NameBshaffer, "/token", time.Hour, server},
		"eventix": {profile.NameEventix, "/tokens", 72 * time.Hour, func(cfg *provider.Config, url string) {
			leadTo(&cfg.Definition, "https://auth.openticket.tech", url)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w, o := withProfile(t, name, c.profile, c.path, func(cfg *provider.Config, url string) {
				c.lead(cfg, url)
				cfg.Definition.RefreshToken.ReplayWindow = oauth.Lifetime(time.Minute)
			})
			w.refreshAndLose(o, c.life, 20)
			row := w.row("one")
			// The last answer may be one that was given again, some seconds later.
			if life := row.ExpiresAt.Sub(row.IssuedAt); life > c.life || life < c.life-time.Minute {
				t.Errorf("access tokens live for %v", life)
			}
			if name == "eventix" && (row.Metadata["info"] == nil || row.RefreshExpiresAt.Sub(row.IssuedAt) < 364*24*time.Hour) {
				t.Errorf("of the info is kept %v; the refresh token is good until %v", row.Metadata, row.RefreshExpiresAt)
			}
		})
	}
}

// refreshAndLose refreshes a connection through some generations ahead of its
// expiry, while answers and requests are lost.
func (w *world) refreshAndLose(o *ownIssuer, life time.Duration, generations uint64) {
	t := w.t
	t.Helper()
	random := randomOf(5)
	for generation := uint64(2); generation < generations; generation++ {
		w.clock.move(life - 4*time.Minute)
		before := o.requests.Load()
		lost := int32(random.IntN(4))
		if random.IntN(3) > 0 {
			o.lose.Store(lost)
		} else {
			o.drop.Store(lost)
		}
		for range lost {
			if token := w.token("one", keeper.Want{}); token.Generation != generation-1 {
				t.Fatalf("generation %d out of a lost answer", token.Generation)
			}
			w.clock.move(6 * time.Second)
		}
		token := w.token("one", keeper.Want{})
		if token.Generation != generation {
			t.Fatalf("after %d lost answers there is generation %d, want %d: %+v", lost, token.Generation, generation, w.row("one"))
		}
		if sent := o.requests.Load() - before; sent != lost+1 {
			t.Fatalf("%d requests for %d lost answers", sent, lost)
		}
		if grant := o.grant(); uint64(grant.Generation) != generation || !grant.RevokedAt.IsZero() {
			t.Fatalf("at the issuer: generation %d, revoked at %v", grant.Generation, grant.RevokedAt)
		}
	}
	if events := w.events("one"); slices.Contains(events, keeper.EventInDoubt) || slices.Contains(events, keeper.EventReauthorize) {
		t.Errorf("events %v", events)
	}
}

// TestOwnIssuerAfterTheWindow holds that the refresh token of a lost answer is
// not sent again when the retry window is over and something is left to lose: the
// issuer would take it for a theft.
func TestOwnIssuerAfterTheWindow(t *testing.T) {
	w, o := withIssuer(t)
	w.clock.move(30 * time.Minute)
	o.lose.Store(1)
	if token := w.token("one", keeper.Want{Force: true}); token.Generation != 1 {
		t.Fatalf("generation %d", token.Generation)
	}
	sent := o.requests.Load()
	for range 27 {
		w.clock.move(time.Minute)
		if token := w.token("one", keeper.Want{}); token.Generation != 1 {
			t.Fatalf("generation %d", token.Generation)
		}
	}
	if again := o.requests.Load() - sent; again > 0 || !o.grant().RevokedAt.IsZero() {
		t.Fatalf("%d requests; revoked at %v", again, o.grant().RevokedAt)
	}
	if row := w.row("one"); row.State != keeper.InDoubt || row.Cause != keeper.CauseAnswerLost {
		t.Errorf("the row is %s (%s)", row.State, row.Cause)
	}
	w.clock.move(4 * time.Minute)
	if u := w.unusable("one", keeper.Want{}); u.Cause != keeper.CauseReplayed || !u.NeedsOwner() {
		t.Errorf("at the end: %v", u)
	}
}

// TestOwnIssuerRevokes holds that a deleted connection's grant is revoked by the
// endpoint that was discovered, and that a revocation at the issuer asks the
// owner.
func TestOwnIssuerRevokes(t *testing.T) {
	w, o := withIssuer(t)
	if revoked, err := w.k.Delete(t.Context(), operator, "one"); !revoked || err != nil || o.grant().RevokedAt.IsZero() {
		t.Errorf("revoked is %t, %v; at the issuer %v", revoked, err, o.grant().RevokedAt)
	}
	w, o = withIssuer(t)
	if err := issuer.NewAdmin(o.server, o.store).RevokeGrant(t.Context(), issuer.Actor{Name: "operator"}, o.grant().ID); err != nil {
		t.Fatal(err)
	}
	if u := w.unusable("one", keeper.Want{Force: true}); u.Cause != keeper.CauseRevoked || !u.NeedsOwner() {
		t.Errorf("got %v", u)
	}
}
