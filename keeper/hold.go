package keeper

import (
	"context"
	"errors"
	"time"

	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

// holdFor is how long the lease for a change without a request lasts.
const holdFor = 30 * time.Second

// hold takes the lease of a connection, waiting for whoever has it.
func (k *Keeper) hold(ctx context.Context, id string, lasting time.Duration) (*work, error) {
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		k.cfg.Step(StepLease)
		now := k.now()
		c, leased, err := k.cfg.Store.Lease(ctx, id, now, now.Add(lasting))
		if err != nil {
			return nil, err
		}
		if leased {
			k.cfg.Step(StepLeased)
			return &work{k: k, p: k.providers[c.Provider], c: c, told: errUnused}, nil
		}
		if err := sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// change changes a row under its lease, without a request to the provider. What
// f returns as an error leaves the row as it is.
func (k *Keeper) change(ctx context.Context, id string, f func(c *Connection) ([]Event, error)) (Connection, error) {
	w, err := k.hold(ctx, id, holdFor)
	if err != nil {
		return Connection{}, err
	}
	next := w.c
	events, err := f(&next)
	if err != nil {
		return w.c, w.unlock(ctx, err)
	}
	err = w.commit(ctx, next, events...)
	k.forget(id)
	return w.c, err
}

// exchange redeems an authorization code for a connection, through the same
// journal as a refresh: a crash after the answer does not ask the owner again.
// What the connection had stays if the provider refuses. The error is a
// *provider.Error where the provider decided.
func (k *Keeper) exchange(ctx context.Context, in Connect, code, verifier secret.Text, params map[string]string, metadata map[string]any, actor Actor) (Connection, error) {
	c, err := k.cfg.Store.Connection(ctx, in.Connection)
	if err != nil {
		return c, err
	}
	p, err := k.provider(in.Provider)
	if err != nil {
		return c, err
	}
	leave, err := k.gate.enter(ctx, p, p.TokenHost(c.Params), c.Owner, c.ID, true)
	if err != nil {
		return c, k.unusable(&c, err)
	}
	told := errUnused
	defer func() { leave(told) }()
	w, err := k.hold(ctx, c.ID, p.Timeout()+leaseMargin)
	if err != nil {
		return c, err
	}
	if err := in.fits(&w.c); err != nil { // another connection has the id by now
		return w.c, w.unlock(ctx, err)
	}
	if w.held, err = k.openTokens(w.c); err != nil {
		// What cannot be opened any more is replaced by what comes.
		k.cfg.Log.Error("the tokens of a connection cannot be opened and are replaced", "connection", c.ID, "error", err)
	}
	w.params, w.metadata, w.actor = params, metadata, actor
	call := w.call(provider.Exchange)
	call.Params = merged(w.c.Params, params)
	call.Code, call.CodeVerifier = code, verifier
	var doubted time.Time // since when a refresh token is in doubt, which it stays where the code gives nothing
	if w.c.Intent != nil && w.c.Intent.Kind == provider.Refresh {
		doubted = w.c.Intent.SentAt
	}
	err = w.spendCall(ctx, call, doubted)
	told = w.told
	return w.c, err
}

// notExchanged leaves the connection as it was, with what was open before.
func (w *work) notExchanged(ctx context.Context, failure *provider.Error) error {
	next := w.c
	next.Intent = w.before
	w.k.metrics.failed(w.p.Name(), failure.Class)
	if err := w.commit(ctx, next); err != nil {
		return err
	}
	return failure
}

// Refresh refreshes now. evenInDoubt sends a refresh token that may have been
// spent, which an operator decides. Errors are those of Token.
func (k *Keeper) Refresh(ctx context.Context, actor Actor, id string, evenInDoubt bool) (Connection, error) {
	c, err := k.cfg.Store.Connection(ctx, id)
	if err != nil {
		return c, err
	}
	k.cfg.Log.InfoContext(ctx, "a refresh was asked for", "connection", id, "actor", actor.Name, "in_doubt", evenInDoubt)
	n := need{after: c.Generation, operator: true, evenInDoubt: evenInDoubt}
	for range joins {
		renewed, own, err := k.fly(ctx, id, n)
		if own || ctx.Err() != nil || err == nil && renewed.Generation > n.after {
			return renewed, err
		}
		if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, errBusy) && !evenInDoubt {
			return renewed, err
		}
	}
	return c, k.unusable(&c, errBusy)
}
