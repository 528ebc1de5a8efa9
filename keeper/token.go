package keeper

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

// Token is a live access token.
type Token struct {
	AccessToken secret.Text
	TokenType   string    // Bearer where the provider did not say
	ExpiresAt   time.Time // zero where it never expires or nobody knows
	Scope       oauth.Scope
	Generation  uint64 // for Want.After

	tenant string // whose connection it is
}

// Want is what is asked of a token. The zero value asks for one that lives.
type Want struct {
	// MinTTL is how long the token must live at least.
	MinTTL time.Duration
	// Force refreshes even a fresh token.
	Force bool
	// After asks for a token of a later generation than this one, which was
	// refused at the API; like Force, but once only for all who were refused.
	After uint64
	// Tenant is whose the connection must be, anybody's where nil: for others there
	// is none with its id.
	Tenant *string
}

// of reports whether a want is for what is a tenant's.
func (w *Want) of(tenant string) bool { return w.Tenant == nil || *w.Tenant == tenant }

// Token gives a token of a connection, refreshing it where it must. Waiting ends
// with the context; the refresh goes on. A refresh that fails while the old
// token still lives gives the old one. MinTTL counts as nine tenths of the
// token's lifetime where it is more than that. The error is an *[Unusable], or
// wraps [ErrNotFound], [ErrUnavailable] or the context's error.
func (k *Keeper) Token(ctx context.Context, id string, want Want) (Token, error) {
	if token, ok := k.memory.get(id, k.now(), &want); ok {
		return token, nil
	}
	c, err := k.cfg.Store.Connection(ctx, id)
	if err != nil {
		if last, ok := k.memory.last(id, k.now(), &want); ok && !errors.Is(err, ErrNotFound) {
			return last, nil // an outage of the store ends no token
		}
		return Token{}, err
	}
	if !want.of(c.Tenant) {
		return Token{}, ErrNotFound
	}
	n := need{minTTL: want.MinTTL, after: want.After}
	if want.Force {
		n.after = max(n.after, c.Generation)
	}
	if lifetime := c.ExpiresAt.Sub(c.IssuedAt); !c.ExpiresAt.IsZero() {
		n.minTTL = min(n.minTTL, lifetime/10*9)
	}
	for range joins {
		if p, err := k.provider(c.Provider); err == nil && k.fresh(&c, p, n, k.now()) {
			return k.token(c, &want)
		}
		renewed, own, err := k.fly(ctx, id, n)
		switch {
		case ctx.Err() != nil:
			return Token{}, ctx.Err()
		case err == nil && own:
			return k.token(renewed, &want)
		case err != nil && (own || !errors.Is(err, context.Canceled)):
			return k.oldToken(ctx, id, n, &want, err)
		}
		if c, err = k.cfg.Store.Connection(ctx, id); err != nil {
			return Token{}, err
		}
	}
	return Token{}, k.unusable(&c, errBusy)
}

// joins is how often a reader waits for what others began before it gives up.
const joins = 8

// oldToken gives the token that a failed renewal was to replace, where it still
// serves; otherwise the error of the renewal.
func (k *Keeper) oldToken(ctx context.Context, id string, n need, want *Want, failure error) (Token, error) {
	c, err := k.cfg.Store.Connection(ctx, id)
	if err != nil || c.State == Reauthorize || want.After >= c.Generation || !alive(&c, n, k.now()) {
		return Token{}, failure
	}
	return k.token(c, want)
}

// token opens and publishes the token of a row that is durable.
func (k *Keeper) token(c Connection, want *Want) (Token, error) {
	if !want.of(c.Tenant) { // another connection has the id by now
		return Token{}, ErrNotFound
	}
	h, err := k.openTokens(c)
	if err != nil {
		return Token{}, err
	}
	p, err := k.provider(c.Provider)
	if err != nil {
		return Token{}, k.unusable(&c, err)
	}
	return k.publish(&c, p, h, true), nil
}

// publish makes the access token of a committed row visible. read says that it is
// for somebody who asked.
func (k *Keeper) publish(c *Connection, p *provider.Provider, h held, read bool) Token {
	token := Token{AccessToken: h.AccessToken, TokenType: c.TokenType, ExpiresAt: c.ExpiresAt, Scope: c.Scope, Generation: c.Generation, tenant: c.Tenant}
	if token.TokenType == "" {
		token.TokenType = oauth.Bearer
	}
	now := k.now()
	until := now.Add(staleAfter)
	if !c.ExpiresAt.IsZero() {
		if ahead := c.ExpiresAt.Add(-k.ahead(c, p)); ahead.Before(until) {
			until = ahead
		}
	}
	if now.Before(until) {
		k.memory.put(c.ID, token, now, until, read)
	}
	return token
}

// forget drops what memory has of a connection, so that the store is asked.
func (k *Keeper) forget(id string) { k.memory.forget(id) }

// flights are the renewals that are under way in this process, one for each
// connection however many wait for it.
type flights struct {
	mu sync.Mutex
	by map[string]*flight
}

// flight is one renewal.
type flight struct {
	done    chan struct{}
	c       Connection
	err     error
	waiters int
	cancel  context.CancelFunc // ends its waiting, when nobody waits for it; a request that is out is not ended
}

// land waits until no renewal is under way any more.
func (k *Keeper) land() {
	for {
		var last *flight
		k.flights.mu.Lock()
		for _, f := range k.flights.by {
			last = f
		}
		k.flights.mu.Unlock()
		if last == nil {
			return
		}
		<-last.done
	}
}

// fly begins a renewal or joins the one that is under way, and waits for its
// end. own says that it was begun for this need.
func (k *Keeper) fly(ctx context.Context, id string, n need) (c Connection, own bool, err error) {
	k.flights.mu.Lock()
	f := k.flights.by[id]
	if own = f == nil; own {
		f = &flight{done: make(chan struct{})}
		var flying context.Context
		flying, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
		if k.flights.by == nil {
			k.flights.by = map[string]*flight{}
		}
		k.flights.by[id] = f
		go func() {
			f.c, f.err = k.renewRow(flying, id, n)
			f.cancel()
			k.flights.mu.Lock()
			delete(k.flights.by, id)
			k.flights.mu.Unlock()
			close(f.done)
		}()
	}
	f.waiters++
	k.flights.mu.Unlock()
	select {
	case <-f.done:
		return f.c, own, f.err
	case <-ctx.Done():
	}
	k.flights.mu.Lock()
	f.waiters--
	if f.waiters == 0 {
		f.cancel()
	}
	k.flights.mu.Unlock()
	if n.due { // the background's own: it ends before Run does
		<-f.done
		return f.c, own, f.err
	}
	return Connection{}, own, ctx.Err()
}

// renew makes a connection satisfy a want. Without urgency it is the schedule's:
// it does what is due, waits for nobody, and ends with what it began.
func (k *Keeper) renew(ctx context.Context, id string, want Want, urgent bool) (Connection, error) {
	n := need{minTTL: want.MinTTL, after: want.After, due: !urgent}
	c, _, err := k.fly(ctx, id, n)
	if errors.Is(err, errBusy) {
		return c, nil // somebody else does it
	}
	return c, err
}

// names is a set of names that is safe for concurrent use.
type names struct {
	mu  sync.Mutex
	set map[string]bool
}

func (s *names) add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set == nil {
		s.set = map[string]bool{}
	}
	s.set[name] = true
}

func (s *names) take(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	had := s.set[name]
	delete(s.set, name)
	return had
}

// ahead is how long before its expiry a connection's access token stops being
// fresh.
func (k *Keeper) ahead(c *Connection, p *provider.Provider) time.Duration {
	return refreshAhead(c, p.Definition(), k.cfg.RefreshAhead)
}
