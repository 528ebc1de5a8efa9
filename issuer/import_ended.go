package issuer

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// arrivalsTTL is how long it is gone by what is known of when clients arrived.
	arrivalsTTL = 10 * time.Second
	// endlessRetained is how long the row of a revoked grant without end stays, see
	// GrantStore.Revoke.
	endlessRetained = 30 * 24 * time.Hour
)

// arrivals are when clients first used an imported token here.
type arrivals struct {
	mu    sync.Mutex
	first map[string]time.Time
	until time.Time
}

// arrived is when a client first used an imported token here, zero where it has
// not.
func (a *Admin) arrived(ctx context.Context, clientID string) (time.Time, error) {
	now := a.server.cfg.clock()
	a.arrivals.mu.Lock()
	defer a.arrivals.mu.Unlock()
	if now.Before(a.arrivals.until) {
		return a.arrivals.first[clientID], nil
	}
	first, filter := map[string]time.Time{}, UseFilter{Limit: 1000}
	for {
		uses, err := a.lists.Uses(ctx, filter)
		if err != nil {
			return time.Time{}, err
		}
		for _, u := range uses {
			if u.Habit == HabitImportedToken {
				first[u.ClientID] = u.First
			}
			filter.AfterClient, filter.AfterHabit = u.ClientID, u.Habit
		}
		if len(uses) == 0 {
			break
		}
	}
	a.arrivals.first, a.arrivals.until = first, now.Add(arrivalsTTL)
	return first[clientID], nil
}

// maybeEnded reports whether a refresh token that is not here may have been: it
// was imported, spent or revoked here, and its grant expired and purged since,
// while the other server knows nothing of that and has the token still. It cannot
// have where its client has not used such a token for as long as a grant stays
// that ends here, or where the token is not as old.
func (i *importing) maybeEnded(ctx context.Context, client Client, t ImportToken, id GrantID) (bool, error) {
	config := i.server.cfg
	retained := min(config.PolicyOf(client).retained(), config.PolicyOf(Client{Profile: client.Profile}).retained()) // it may have been tightened
	before := i.batch.Event.At.Add(-retained)
	if t.Access || i.Revive || t.IssuedAt.After(before) {
		return false, nil // an access token's grant stays until the token expires there, too
	}
	arrived, err := i.arrived(ctx, client.ID)
	if err != nil || arrived.IsZero() || arrived.After(before) {
		return false, err
	}
	_, err = i.server.cfg.Store.Grant(ctx, id)
	return errors.Is(err, ErrNotFound), ignoreNotFound(err)
}

// retained is for how long at least the row of a grant stays that is used or
// revoked now.
func (p Policy) retained() time.Duration {
	least := endlessRetained
	lifetimes := []Lifetime{p.RefreshTokenLifetime, p.GrantLifetime}
	if p.Rotation == RotateOnce {
		lifetimes[0] = p.AccessTokenLifetime // no refresh token follows
	}
	for _, l := range lifetimes {
		if l > 0 {
			least = min(least, time.Duration(l))
		}
	}
	return least
}
