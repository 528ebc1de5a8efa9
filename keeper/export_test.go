package keeper

import (
	"context"
	"errors"
	"time"

	"github.com/evergrant/evergrant/provider"
)

// GateVisit is a request before a keeper's gate.
type GateVisit struct {
	Provider, Host, Owner, Connection string
	Urgent                            bool
	Limits                            provider.Limits
}

// ErrUnused is what the gate is told by who sent nothing.
var ErrUnused = errUnused

// Visit goes through the gate of a keeper as a renewal does.
func (k *Keeper) Visit(ctx context.Context, v GateVisit) (leave func(error), err error) {
	return k.gate.admitted(ctx, &visit{
		provider: v.Provider, limits: v.Limits, host: v.Host, owner: v.Owner, connection: v.Connection, urgent: v.Urgent,
	})
}

// Room is how many requests of the schedule may be under way at a provider.
func (k *Keeper) Room(name string) int { return k.gate.room(k.providers[name]) }

// HeldBack is what an error of the gate says.
func HeldBack(err error) (class provider.Class, retryAfter time.Duration, ok bool) {
	held, ok := errors.AsType[*heldBack](err)
	if !ok {
		return "", 0, false
	}
	return held.class, held.retryAfter, true
}

// Remembered is how many tokens a keeper has in memory.
func (k *Keeper) Remembered() int {
	k.memory.mu.RLock()
	defer k.memory.mu.RUnlock()
	return len(k.memory.tokens)
}

// Breakers is how many breakers a keeper remembers.
func (k *Keeper) Breakers() int {
	k.gate.mu.Lock()
	defer k.gate.mu.Unlock()
	return len(k.gate.hosts) + len(k.gate.apps)
}
