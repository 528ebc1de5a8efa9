package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

// Bounds of what a request may put into a row, in bytes.
const (
	maxName     = 255
	maxMetadata = 64 << 10
)

// Actor is who asks for a change: "operator", "owner" or "client:ID".
type Actor struct {
	Name    string
	Address string
}

// by says who did what an event tells.
func (e Event) by(actor Actor) Event {
	e.Actor, e.Address = actor.Name, actor.Address
	return e
}

// Import is a connection with tokens that somebody already has.
type Import struct {
	ID           string // made where ""
	Provider     string
	Tenant       string
	Owner        string
	Params       map[string]string
	Metadata     map[string]any
	Background   Background
	AccessToken  secret.Text
	RefreshToken secret.Text
	TokenType    string
	Scope        oauth.Scope
	ExpiresAt    time.Time // zero where nobody knows: it is then refreshed at once where it can be
	RefreshEnds  time.Time
}

// Create makes a connection of tokens that somebody already has, or, for a
// provider whose grant needs no owner or that can be re-minted, of none. The
// error is a *[Refusal], [ErrExists] or the store's.
func (k *Keeper) Create(ctx context.Context, actor Actor, in Import) (Connection, error) {
	p, err := k.provider(in.Provider)
	if err != nil {
		return Connection{}, err
	}
	c, err := k.imported(p, in)
	if err != nil {
		return Connection{}, err
	}
	if err := k.cfg.Store.Create(ctx, c, k.event(&c, EventCreated).by(actor)); err != nil {
		return Connection{}, err
	}
	k.wake()
	return c, nil
}

// imported is the row of an import.
func (k *Keeper) imported(p *provider.Provider, in Import) (Connection, error) {
	c, err := k.newRow(p, Connect{Provider: in.Provider, Tenant: in.Tenant, Owner: in.Owner, Connection: in.ID, Params: in.Params})
	if err != nil {
		return c, err
	}
	if err := checkImport(in); err != nil {
		return c, err
	}
	def, now := p.Definition(), c.CreatedAt
	h := held{AccessToken: in.AccessToken, RefreshToken: in.RefreshToken}
	c.Metadata, c.Background, c.Scope, c.TokenType = in.Metadata, in.Background, in.Scope, in.TokenType
	c.Refreshable = !h.RefreshToken.Empty() || remintable(def) || !h.AccessToken.Empty() && !p.SendsRefreshToken()
	over := h.AccessToken.Empty() || !in.ExpiresAt.IsZero() && !now.Before(in.ExpiresAt)
	switch {
	case over && !c.Refreshable && h.AccessToken.Empty():
		return c, refuse(ReasonNoTokens, "there is nothing to begin with: give tokens, or let the owner connect at %s", p.Name())
	case over && !c.Refreshable:
		return c, refuse(ReasonNoTokens, "the access token is expired and there is no refresh token: let the owner connect at %s", p.Name())
	}
	c.State, c.Cause = Active, ""
	if !h.AccessToken.Empty() {
		c.Generation, c.IssuedAt, c.ExpiresAt = 1, now, in.ExpiresAt
	}
	if !h.AccessToken.Empty() || !h.RefreshToken.Empty() {
		k.sealTokens(&c, h)
		c.RefreshExpiresAt = refreshExpiry(def, now, provider.Tokens{ExpiresAt: in.ExpiresAt, RefreshExpiresAt: in.RefreshEnds}, h)
		if def.RefreshToken.Lifetime > 0 { // at the latest: nobody tells when the grant began
			c.EndsAt = now.Add(time.Duration(def.RefreshToken.Lifetime))
		}
	}
	forever := def.AccessToken.Lifetime == oauth.None
	atOnce := !over && in.ExpiresAt.IsZero() && !forever
	if over { // what is read on demand is renewed when it is read, but a refresh token of unknown age is used first
		atOnce = in.Background != OnDemand || h.AccessToken.Empty() && !h.RefreshToken.Empty()
	}
	if c.DueAt = k.due(&c, p); atOnce && c.Refreshable {
		c.DueAt = now
	}
	return c, nil
}

// newRow is a row without tokens, of which nothing is stored yet.
func (k *Keeper) newRow(p *provider.Provider, in Connect) (c Connection, err error) {
	if in.Connection == "" {
		in.Connection = NewID()
	}
	switch {
	case !ValidID(in.Connection):
		return c, refuse(ReasonBadID, "an id is 1 to %d letters, digits and -._~, and not a dot or two alone", maxID)
	case !validName(in.Owner):
		return c, refuse(ReasonBadField, "owner must be at most %d bytes of printable text", maxName)
	case !validName(in.Tenant):
		return c, refuse(ReasonBadField, "tenant must be at most %d bytes of printable text", maxName)
	}
	params, err := p.CheckParams(in.Params)
	if err != nil {
		return c, refuse(ReasonBadParams, "%s", err.Error())
	}
	now := k.now().UTC().Truncate(time.Millisecond)
	return Connection{
		ID: in.Connection, Provider: p.Name(), Tenant: in.Tenant, Owner: in.Owner, Params: params,
		State: Reauthorize, Cause: CauseNotConnected, Since: now, CreatedAt: now, UpdatedAt: now,
	}, nil
}

func validName(s string) bool {
	return len(s) <= maxName && strings.ToValidUTF8(s, "") == s && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// checkImport checks what only an import has.
func checkImport(in Import) error {
	metadata, err := json.Marshal(in.Metadata)
	switch {
	case err != nil || len(metadata) > maxMetadata:
		return refuse(ReasonBadField, "metadata must be at most %d bytes of JSON", maxMetadata)
	case in.Background != "" && in.Background != Always && in.Background != OnDemand:
		return refuse(ReasonBadField, "background is %q or %q", Always, OnDemand)
	case !validName(in.TokenType):
		return refuse(ReasonBadField, "token_type must be at most %d bytes of printable text", maxName)
	}
	return nil
}

// Connection reads one connection, or ErrNotFound.
func (k *Keeper) Connection(ctx context.Context, id string) (Connection, error) {
	return k.cfg.Store.Connection(ctx, id)
}

// errUnchanged ends a change that is none.
var errUnchanged = errors.New("the connection is like that already")

// Pause stops all work on a connection, and Resume takes it up again. A
// connection that is paused already stays as it is.
func (k *Keeper) Pause(ctx context.Context, actor Actor, id string) (Connection, error) {
	return k.changed(ctx, id, func(c *Connection) ([]Event, error) {
		if c.State == Paused {
			return nil, errUnchanged
		}
		if c.State != InDoubt { // its age decides which replay window is still open
			c.Since = k.now()
		}
		if c.Cause == "" { // otherwise it says what Resume goes back to
			c.Cause = CauseOperator
		}
		c.State, c.DueAt = Paused, time.Time{}
		return []Event{k.event(c, EventPaused).by(actor)}, nil
	})
}

// Resume ends a pause: the connection is again what it was. One that is not
// paused stays as it is.
func (k *Keeper) Resume(ctx context.Context, actor Actor, id string) (Connection, error) {
	c, err := k.changed(ctx, id, func(c *Connection) ([]Event, error) {
		if c.State != Paused {
			return nil, errUnchanged
		}
		k.resume(c)
		return []Event{k.event(c, EventResumed).by(actor)}, nil
	})
	if err == nil {
		k.wake()
	}
	return c, err
}

// resume gives a paused connection the state that its cause stands for.
func (k *Keeper) resume(c *Connection) {
	now := k.now()
	switch c.Cause {
	case CauseAnswerLost, CauseAnswerUnreadable, CauseInterrupted, CauseRestored:
		c.State, c.DueAt = InDoubt, now
		return
	case CauseOperator, "":
		c.State, c.Cause, c.Since, c.DueAt = Active, "", now, now
		if p := k.providers[c.Provider]; p != nil && c.Intent == nil && !c.IssuedAt.IsZero() {
			c.DueAt = k.due(c, p)
		}
		return
	}
	c.State, c.Since = Reauthorize, now
}

// changed is change, of which errUnchanged is a success.
func (k *Keeper) changed(ctx context.Context, id string, f func(c *Connection) ([]Event, error)) (Connection, error) {
	c, err := k.change(ctx, id, f)
	if errors.Is(err, errUnchanged) {
		return c, nil
	}
	return c, err
}

// Delete revokes a connection at the provider, where it can, and removes it.
// revoked says that the provider revoked it. Where the provider was asked to and
// did not, the connection is removed all the same and the error is a
// *[NotRevoked]; after any other error it may still be there.
func (k *Keeper) Delete(ctx context.Context, actor Actor, id string) (revoked bool, err error) {
	c, err := k.cfg.Store.Connection(ctx, id)
	if err != nil {
		return false, err
	}
	lasting, leave := holdFor, func(error) {}
	p, failure := k.provider(c.Provider)
	if failure == nil {
		lasting = p.Timeout() + leaseMargin
		var entered func(error)
		if entered, failure = k.gate.enter(ctx, p, p.TokenHost(c.Params), c.Owner, id, true); failure == nil {
			leave = entered
		}
	}
	w, err := k.hold(ctx, id, lasting)
	if err != nil {
		leave(errUnused)
		return false, err
	}
	ctx = context.WithoutCancel(ctx) // what is revoked must not stay as if it lived
	if failure == nil {
		revoked, failure = k.revoke(ctx, w)
		leave(failure)
	}
	event := k.event(&w.c, EventDeleted).by(actor)
	event.Detail = deletion(revoked, failure)
	if err := k.remove(ctx, w, event); err != nil {
		return false, err
	}
	if failure != nil && !errors.Is(failure, errUnused) {
		return false, &NotRevoked{id, c.Provider, failure}
	}
	return revoked, nil
}

// revoke asks the provider to revoke a grant under its lease. The error is
// errUnused where there was nothing to ask.
func (k *Keeper) revoke(ctx context.Context, w *work) (revoked bool, err error) {
	if w.held, err = k.openTokens(w.c); err != nil {
		return false, err
	}
	w.takeOver(ctx)
	if w.held.AccessToken.Empty() && w.held.RefreshToken.Empty() {
		return false, errUnused
	}
	ctx, cancel := context.WithTimeout(ctx, w.p.Timeout())
	defer cancel()
	call := w.call(provider.Refresh)
	for ; call.Secret < w.p.Secrets(); call.Secret++ {
		err = w.p.Revoke(ctx, call)
		if errors.Is(err, provider.ErrCannotRevoke) {
			return false, errUnused
		}
		if failure, ok := errors.AsType[*provider.Error](err); !ok || failure.Class != provider.BadClient {
			return err == nil, err
		}
	}
	return false, err
}

// takeOver has the tokens of an answer held that is in the journal still.
func (w *work) takeOver(ctx context.Context) {
	if w.c.Intent == nil || w.c.Intent.RequestID == "" {
		return
	}
	if answer, found, err := w.answer(ctx); err == nil && found {
		if tokens, err := w.p.Read(answer); err == nil {
			w.held = w.renewed(w.c.Intent.Kind, tokens)
		}
	}
}

func deletion(revoked bool, failure error) string {
	switch {
	case revoked:
		return "Revoked at the provider."
	case failure != nil && !errors.Is(failure, errUnused):
		return "Not revoked at the provider: " + failure.Error()
	}
	return "Not revoked at the provider, which has no way for it or nothing to revoke."
}

// remove deletes the row of a lease, unless the lease was lost.
func (k *Keeper) remove(ctx context.Context, w *work, event Event) error {
	done, err := k.cfg.Store.Delete(ctx, w.c.ID, w.c.Fence, event)
	if err != nil {
		return err
	}
	k.forget(w.c.ID)
	if done {
		return nil
	}
	if _, err := k.cfg.Store.Connection(ctx, w.c.ID); errors.Is(err, ErrNotFound) {
		return nil // an earlier try did it, or somebody else
	}
	return errBusy
}
