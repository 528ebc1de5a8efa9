package keeper_test

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/testdb"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
	"github.com/evergrant/evergrant/secret"
)

// clock is the time of a test: it runs, and can be moved on.
type clock struct {
	mu    sync.Mutex
	moved time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.moved)
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moved += d
}

type dial = func(ctx context.Context, network, address string) (net.Conn, error)

// world is a database with simulated providers, and a keeper on it.
type world struct {
	t     testing.TB
	dir   string // of the spool
	place testdb.Place
	clock *clock
	root  secret.Root
	log   io.Writer
	db    *testdb.DB
	ring  *secret.Ring
	sims  map[string]*providertest.Simulator
	urls  map[string]string
	dials map[string]dial // in memory, where a test runs in a bubble

	store  keeper.Store // the database, or what a test puts before it
	change func(*keeper.Config)
	k      *keeper.Keeper
}

// newWorld makes a world with a simulated provider for each dialect, called by
// the dialect's name.
func newWorld(t testing.TB, dialects ...providertest.Dialect) *world {
	t.Helper()
	w := emptyWorld(t)
	for _, dialect := range dialects {
		sim := providertest.New(dialect, providertest.Options{Now: w.clock.now})
		url, stop := providertest.Listen(sim)
		t.Cleanup(stop)
		w.sims[dialect.Name], w.urls[dialect.Name] = sim, url
	}
	w.openStore()
	w.start()
	return w
}

func emptyWorld(t testing.TB) *world {
	return &world{
		t: t, dir: t.TempDir(), place: testdb.New(t), clock: &clock{}, root: secret.NewRoot(), log: io.Discard,
		sims: map[string]*providertest.Simulator{}, urls: map[string]string{}, dials: map[string]dial{}, change: func(*keeper.Config) {},
	}
}

// newBubble is newWorld for a test in a bubble of testing/synctest: nothing in it
// waits for the network. close must be called before the bubble ends.
func newBubble(t testing.TB, dialects ...providertest.Dialect) (w *world, close func()) {
	t.Helper()
	w = emptyWorld(t)
	var stops []func()
	for _, dialect := range dialects {
		sim := providertest.New(dialect, providertest.Options{Now: w.clock.now})
		dial, stop := providertest.Pipe(sim)
		stops = append(stops, stop)
		w.sims[dialect.Name], w.urls[dialect.Name], w.dials[dialect.Name] = sim, "http://127.0.0.1:1", dial
	}
	w.openStore()
	w.start()
	return w, func() {
		for _, stop := range stops {
			stop()
		}
		w.db.Close()
	}
}

func (w *world) openStore() {
	w.t.Helper()
	w.db = must[*testdb.DB](w.t)(w.place.Open(w.t.Context()))
	w.t.Cleanup(func() { w.db.Close() })
	w.ring = must[*secret.Ring](w.t)(secret.OpenRing(w.t.Context(), w.root, w.db, w.clock.now, false))
	w.store = w.db.Keeper()
}

// start makes a new keeper on the database, as a process that starts does.
func (w *world) start() {
	w.t.Helper()
	w.k = w.another()
}

// another makes a keeper beside the one that is there.
func (w *world) another() *keeper.Keeper {
	w.t.Helper()
	cfg := keeper.Config{
		Store: w.store, Keys: w.ring, Spool: filepath.Join(w.dir, "spool"),
		Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now: w.clock.now, Rand: func() float64 { return 0.5 },
	}
	for name, sim := range w.sims {
		cfg.Providers = append(cfg.Providers, newProvider(w.t, name, sim.Definition(w.urls[name]), w.clock.now, w.dials[name]))
	}
	w.change(&cfg)
	return must[*keeper.Keeper](w.t)(keeper.New(cfg))
}

func newProvider(t testing.TB, name string, definition provider.Definition, now func() time.Time, dial dial) *provider.Provider {
	t.Helper()
	return must[*provider.Provider](t)(openProvider(name, definition, now, dial))
}

func openProvider(name string, definition provider.Definition, now func() time.Time, dial dial) (*provider.Provider, error) {
	return provider.New(provider.Config{
		Name: name, Definition: definition, ClientID: "sim-client", ClientSecrets: []secret.Text{secret.NewText("sim-secret")},
		RedirectURI: "http://127.0.0.1/connect/callback", AllowPrivateNetworks: true, Now: now, Dial: dial,
	})
}

// connect imports a connection, and returns the id of its grant at the provider.
func (w *world) connect(id, providerName string) (grant string) {
	w.t.Helper()
	grant, tokens := w.sims[providerName].Connect(id)
	_, err := w.k.Create(w.t.Context(), keeper.Actor{Name: "operator"}, keeper.Import{
		ID: id, Provider: providerName, Owner: id, AccessToken: tokens.AccessToken, RefreshToken: tokens.RefreshToken,
		TokenType: tokens.TokenType, Scope: tokens.Scope, ExpiresAt: tokens.ExpiresAt, RefreshEnds: tokens.RefreshExpiresAt,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return grant
}

func (w *world) row(id string) keeper.Connection {
	w.t.Helper()
	return must[keeper.Connection](w.t)(w.db.Keeper().Connection(w.t.Context(), id))
}

func (w *world) events(id string) (types []string) {
	w.t.Helper()
	for _, event := range must[[]keeper.Event](w.t)(w.db.Keeper().Events(w.t.Context(), keeper.EventFilter{Connection: id, After: -1})) {
		types = append(types, event.Type)
	}
	return types
}

// must gives a value, or ends the test.
func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func randomOf(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }
