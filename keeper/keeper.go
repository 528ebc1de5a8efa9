package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
	"github.com/prometheus/client_golang/prometheus"
)

// Config is what a Keeper is made of. Store, Keys and Providers are required.
type Config struct {
	Store     Store
	Keys      *secret.Ring
	Providers []*provider.Provider
	// RefreshAhead is how long before an access token expires it is refreshed:
	// 5m; never more than a quarter of its lifetime.
	RefreshAhead time.Duration
	// Spool is a directory for answers that the store did not take; none are kept
	// where "".
	Spool string
	// EventRetention is how long events are kept: 90 days. (Purged by the server.)
	Metrics prometheus.Registerer // none where nil
	Log     *slog.Logger          // slog.Default() where nil
	Now     func() time.Time      // time.Now where nil
	// Rand gives numbers in [0, 1) for jitter; math/rand where nil.
	Rand func() float64
	// Step, where it is not nil, is called at each of the Step constants. It is
	// for tests that end the process there.
	Step func(name string)
}

// Keeper holds connections and keeps them fresh. It is safe for concurrent use;
// several, in one process or many, may share a store.
type Keeper struct {
	cfg       Config
	providers map[string]*provider.Provider
	gate      *gate
	woken     chan struct{} // something may be due
	resealed  struct {
		sync.Mutex
		Resealing
	}
	spool   *spool
	sending *sending
	metrics *metrics
	memory  memory
	flights flights
	alarmed names // of providers whose alarm is to be taken back
}

// New makes a Keeper. Token works from then on; Run does the work in the
// background.
func New(cfg Config) (*Keeper, error) {
	if cfg.Store == nil || cfg.Keys == nil {
		return nil, errors.New("keeper: Store and Keys are required")
	}
	if cfg.RefreshAhead == 0 {
		cfg.RefreshAhead = 5 * time.Minute
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Float64
	}
	if cfg.Step == nil {
		cfg.Step = func(string) {}
	}
	k := &Keeper{cfg: cfg, providers: map[string]*provider.Provider{}, woken: make(chan struct{}, 1)}
	for _, p := range cfg.Providers {
		if k.providers[p.Name()] != nil {
			return nil, fmt.Errorf("keeper: two providers are called %s", p.Name())
		}
		k.providers[p.Name()] = p
	}
	var err error
	if k.metrics, err = newMetrics(cfg.Metrics); err != nil {
		return nil, err
	}
	if k.spool, err = openSpool(cfg.Spool); err != nil {
		return nil, err
	}
	if k.sending, err = openSending(cfg.Spool); err != nil {
		return nil, err
	}
	k.gate = newGate(k)
	return k, nil
}

func (k *Keeper) now() time.Time { return k.cfg.Now() }

// provider is the one with a name, or an error that wraps ErrUnknownProvider.
func (k *Keeper) provider(name string) (*provider.Provider, error) {
	if p := k.providers[name]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("%w: %q", ErrUnknownProvider, name)
}

// event begins an event of a connection.
func (k *Keeper) event(c *Connection, eventType string) Event {
	return Event{
		At: k.now(), Type: eventType, Connection: c.ID, Provider: c.Provider, Tenant: c.Tenant, Owner: c.Owner,
		Generation: c.Generation, Cause: c.Cause, Actor: "keeper",
	}
}

func (k *Keeper) expiring(c *Connection) Event {
	event := k.event(c, EventExpiring)
	event.Detail = "Whatever is renewed, the grant ends at " + stamp(c.EndsAt) + ": ask the owner to connect again before."
	if !c.Refreshable {
		event.Detail = "There is nothing to renew the access token by, and it ends at " + stamp(sooner(c.ExpiresAt, c.EndsAt)) + ": ask the owner to connect again before."
	}
	return event
}

// alarm raises the alarm of a provider, unless it is raised already.
func (k *Keeper) alarm(ctx context.Context, p *provider.Provider, eventType string, failure *provider.Error) {
	event := Event{At: k.now(), Type: eventType, Provider: p.Name(), Class: failure.Class, Actor: "keeper", Detail: failure.Why()}
	raised, err := k.cfg.Store.Record(context.WithoutCancel(ctx), event, eventType, EventProviderUp)
	if err != nil {
		k.cfg.Log.Error("an alarm was not recorded", "provider", p.Name(), "type", eventType, "error", err)
	}
	if raised {
		k.cfg.Log.Error("a provider needs an operator", "provider", p.Name(), "type", eventType, "error", failure)
	}
	k.alarmed.add(p.Name())
}

// allClear takes back an alarm that this process raised or saw.
func (k *Keeper) allClear(ctx context.Context, p *provider.Provider) {
	if !k.alarmed.take(p.Name()) {
		return
	}
	event := Event{At: k.now(), Type: EventProviderUp, Provider: p.Name(), Actor: "keeper"}
	if _, err := k.cfg.Store.Record(context.WithoutCancel(ctx), event, EventBadClient, EventBadDefinition, EventProviderUp); err != nil {
		k.cfg.Log.Warn("the end of an alarm was not recorded", "provider", p.Name(), "error", err)
	}
}

// due is when to look at a connection next, after a success.
func (k *Keeper) due(c *Connection, p *provider.Provider) time.Time {
	return nextDue(c, p.Definition(), k.cfg.RefreshAhead, k.cfg.Rand())
}
