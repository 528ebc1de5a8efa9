package keeper

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

// settle takes the answer of the open intent, fresh or from the journal, and
// commits what it says.
func (w *work) settle(ctx context.Context, answer provider.Answer) error {
	tokens, err := w.p.Read(answer)
	if err == nil {
		w.told = nil
		return w.succeed(ctx, answer, tokens)
	}
	failure, ok := errors.AsType[*provider.Error](err)
	if !ok {
		failure = &provider.Error{Class: provider.BadDefinition, Outcome: provider.Unknown, Status: answer.Status, Detail: err.Error()}
	}
	w.told = failure
	switch {
	case w.c.Intent.Kind == provider.Exchange:
		return w.notExchanged(ctx, failure)
	case failure.Outcome == provider.Unknown && failure.Class == provider.BadDefinition:
		return w.unreadable(ctx, failure)
	case failure.Outcome == provider.Unknown:
		return w.lost(ctx, failure)
	}
	failure.Class = w.verdict(failure.Class)
	if w.c.Intent.Kind == provider.Reminting && failure.Class != provider.Transient && failure.Class != provider.Throttled {
		if done, err := w.notReminted(ctx); done {
			return err
		}
	}
	switch failure.Class {
	case provider.Revoked, provider.Replayed, provider.RefreshTokenExpired:
		if again := w.withoutOwner(); again != "" && w.c.Intent.Kind == provider.Refresh {
			w.refused = failure
			return w.spend(ctx, again, w.c.Intent.SentAt.Add(-time.Second)) // the refresh token is not sent again, whatever comes
		}
		if w.held.Spent && failure.Class == provider.Revoked && w.c.Intent.Kind == provider.Refresh {
			return w.end(ctx, CauseNoRefreshToken) // it was good for one use, and the access token lives on
		}
		return w.reauthorize(ctx, Cause(failure.Class), failure)
	case provider.ConsentRequired:
		return w.reauthorize(ctx, CauseConsentRequired, failure)
	}
	return w.fail(ctx, failure, w.before)
}

// notReminted handles the refusal of a re-mint that was the way out of another
// failure: some providers re-mint only by arrangement. It says nothing about the
// app or the definition then. done is false where there was no other failure.
func (w *work) notReminted(ctx context.Context) (done bool, err error) {
	switch intent := w.c.Intent; {
	case w.refused != nil:
		w.told = errUnused
		return true, w.reauthorize(ctx, Cause(w.refused.Class), w.refused)
	case w.inDoubtBefore(intent):
		w.told = errUnused
		w.c.Intent = w.earlier(intent)
		return true, w.doubt(ctx)
	}
	return false, nil
}

// verdict is what invalid_grant means, by what the journal and the clock know.
func (w *work) verdict(class provider.Class) provider.Class {
	sent := w.c.Intent
	switch {
	case class != provider.Revoked || sent.Kind != provider.Refresh:
	case w.inDoubtBefore(sent), w.c.State == InDoubt:
		return provider.Replayed // it was sent before, and that answer was lost
	case !w.c.RefreshExpiresAt.IsZero() && !w.k.now().Before(w.c.RefreshExpiresAt), !w.c.EndsAt.IsZero() && !w.k.now().Before(w.c.EndsAt):
		return provider.RefreshTokenExpired
	}
	return class
}

// succeed commits new tokens and publishes the access token: before the commit
// is durable nobody may use it, since some providers end the old refresh token
// at the new access token's first use.
func (w *work) succeed(ctx context.Context, answer provider.Answer, tokens provider.Tokens) error {
	kind, requestID := w.c.Intent.Kind, w.c.Intent.RequestID
	next, h := w.c, w.renewed(kind, tokens)
	events := w.take(&next, kind, answer, tokens, h)
	w.k.sealTokens(&next, h)
	if err := w.commit(ctx, next, events...); err != nil {
		return err
	}
	if err := w.k.spool.drop(requestID); err != nil {
		w.k.cfg.Log.Warn("an answer that is committed stays in the spool; it does no harm there", "connection", next.ID, "error", err)
	}
	w.held = h
	w.k.publish(&w.c, w.p, h, false)
	w.k.cfg.Step(StepPublished)
	w.k.metrics.refreshed(w.p.Name(), kind)
	w.k.allClear(ctx, w.p)
	return nil
}

// renewed are the tokens that a connection has after a success.
func (w *work) renewed(kind provider.Kind, tokens provider.Tokens) held {
	h := held{AccessToken: tokens.AccessToken, RefreshToken: tokens.RefreshToken, Extra: tokens.Extra}
	if tokens.AccessToken.Empty() { // the old ones live on (Response.Prolongs)
		h.AccessToken = w.held.AccessToken
	}
	// An answer to a refresh without refresh token means the old one (RFC 6749
	// section 6), and some providers give one at the first consent only.
	keeps := kind == provider.Refresh || kind == provider.Exchange && w.c.State != Reauthorize
	if h.RefreshToken.Empty() && keeps {
		h.RefreshToken = w.held.RefreshToken
		h.Spent = w.held.Spent || kind == provider.Refresh && !tokens.AccessToken.Empty() && w.p.Definition().RefreshToken.Rotation != provider.RotationFixed
	}
	for name, token := range w.held.Extra {
		if _, renewed := h.Extra[name]; !renewed && kind == provider.Refresh {
			if h.Extra == nil {
				h.Extra = maps.Clone(w.held.Extra)
			}
			h.Extra[name] = token
		}
	}
	return h
}

// take writes what an answer says into next, and returns the events of it.
func (w *work) take(next *Connection, kind provider.Kind, answer provider.Answer, tokens provider.Tokens, h held) []Event {
	def, now := w.p.Definition(), w.k.now()
	old := w.c
	next.Intent, next.Generation = nil, old.Generation+1
	next.State, next.Cause, next.Attempt, next.Class, next.Error = Active, "", 0, "", ""
	if old.State != Active {
		next.Since = now
	}
	if w.restored {
		next.State, next.Cause, next.Since = old.State, old.Cause, old.Since
	}
	next.IssuedAt, next.ExpiresAt = answer.SentAt, tokens.ExpiresAt
	next.TokenType = cmp.Or(tokens.TokenType, old.TokenType)
	next.Params = merged(merged(old.Params, w.params), tokens.Params)
	next.Metadata = merged(merged(old.Metadata, w.metadata), tokens.Kept)
	next.RefreshExpiresAt = refreshExpiry(def, answer.SentAt, tokens, h)
	next.Refreshable = !h.RefreshToken.Empty() && !certainlySpent(h, def) || w.withoutOwner() != "" || !w.p.SendsRefreshToken()
	if kind != provider.Refresh || old.EndsAt.IsZero() {
		next.EndsAt, next.WarnedAt = time.Time{}, time.Time{}
		if def.RefreshToken.Lifetime > 0 {
			next.EndsAt = answer.SentAt.Add(time.Duration(def.RefreshToken.Lifetime))
		}
	}

	detail := ""
	if tokens.Salvaged {
		detail = "The answer broke off; the tokens in it were whole."
	}
	events := []Event{w.k.event(next, successes[kind])}
	events[0].Detail = detail
	if kind == provider.Exchange && w.actor.Name != "" {
		events[0].Actor, events[0].Address = w.actor.Name, w.actor.Address
	}
	if next.State == Active && (old.State == InDoubt || old.State == Reauthorize && old.Cause != CauseNotConnected) {
		recovered := w.k.event(next, EventRecovered)
		recovered.Cause, recovered.Detail = old.Cause, "It was "+string(old.State)+" since "+old.Since.UTC().Format(time.RFC3339)+"."
		events = append(events, recovered)
	}
	if kind == provider.Refresh && changed(w.held, h) && !old.Rotates {
		next.Rotates = true
		if def.RefreshToken.Rotation == provider.RotationFixed {
			event := w.k.event(next, EventRotationChanged)
			event.Detail = "The provider gave another refresh token, and its definition calls the token fixed: correct refresh_token.rotation."
			events = append(events, event)
		}
	}
	if tokens.Scope != nil {
		if missing := without(old.Scope, tokens.Scope); len(missing) > 0 && old.Generation > 0 && old.Scope != nil {
			event := w.k.event(next, EventScopeChanged)
			event.Detail = "No longer granted: " + missing.String() + "."
			events = append(events, event)
		}
		next.Scope = tokens.Scope
		if asked := w.asks(kind); kind != provider.Refresh {
			next.Asked = nil
			if !next.Scope.Covers(asked) {
				next.Asked = asked
			}
		}
	}
	if next.DueAt = w.k.due(next, w.p); w.restored {
		next.DueAt = now
	}
	return events
}

// successes are the events of answers with tokens.
var successes = map[provider.Kind]string{
	provider.Refresh: EventRefreshed, provider.Reminting: EventReminted,
	provider.ClientCredentials: EventReminted, provider.Exchange: EventConnected,
}

// refreshExpiry is when the refresh token of an answer expires unless it is
// used: told, or known of the provider.
func refreshExpiry(def *provider.Definition, issued time.Time, tokens provider.Tokens, h held) time.Time {
	known := def.RefreshToken
	switch {
	case h.RefreshToken.Empty():
		return time.Time{}
	case known.DiesWithAccessToken:
		return tokens.ExpiresAt
	case !tokens.RefreshExpiresAt.IsZero():
		return tokens.RefreshExpiresAt
	case known.IdleLifetime > 0:
		return issued.Add(time.Duration(known.IdleLifetime))
	}
	return time.Time{}
}

// certainlySpent reports whether a refresh token need not be sent again, because
// it was used and the provider documents that each is good for one use.
func certainlySpent(h held, def *provider.Definition) bool {
	return h.Spent && def.RefreshToken.Rotation != provider.RotationFixed && def.Facts["refresh_token.rotation"].Known == provider.KnownRead
}

func changed(old, renewed held) bool {
	return !old.RefreshToken.Empty() && !renewed.RefreshToken.Equal(old.RefreshToken.Reveal())
}

// merged is old with what is new over it; old is not changed.
func merged[V any](old, over map[string]V) map[string]V {
	if len(over) == 0 {
		return old
	}
	all := maps.Clone(old)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, over)
	return all
}

// without is what of a scope is not in another.
func without(scope, other []string) (missing oauth.Scope) {
	for _, s := range scope {
		if !slices.Contains(other, s) {
			missing = append(missing, s)
		}
	}
	return missing
}

// fail commits that a request changed nothing at the provider: the connection is
// tried again later, with intent as what is open.
func (w *work) fail(ctx context.Context, failure *provider.Error, intent *Intent) error {
	next := w.c
	next.Intent = intent
	events := w.failed(&next, failure)
	return w.conclude(ctx, next, failure, events)
}

// failed counts a failed attempt in next.
func (w *work) failed(next *Connection, failure *provider.Error) (events []Event) {
	if next.Attempt == 0 || next.Class != failure.Class {
		event := w.k.event(next, EventFailed)
		event.Class, event.Detail = failure.Class, failure.Why()
		events = append(events, event)
	}
	next.Attempt++
	next.Class, next.Error = failure.Class, failure.Why()
	next.DueAt = retryAt(next, w.p.Definition(), failure.Class, failure.RetryAfter, w.k.now(), w.k.cfg.Rand())
	return events
}

// conclude commits a failure, raises the alarm that it is, and says what it
// means for whoever asked.
func (w *work) conclude(ctx context.Context, next Connection, failure *provider.Error, events []Event) error {
	w.k.metrics.failed(w.p.Name(), failure.Class)
	if alarm := alarms[failure.Class]; alarm != "" {
		w.k.alarm(ctx, w.p, alarm, failure)
	}
	if err := w.commit(ctx, next, events...); err != nil {
		return err
	}
	if w.c.State == Reauthorize {
		w.k.forget(w.c.ID)
	}
	return w.k.unusable(&w.c, failure)
}

// alarms are the events of a provider that failures raise, once and not for each
// connection. That a provider is down is the breaker's to say.
var alarms = map[provider.Class]string{
	provider.BadClient: EventBadClient, provider.BadDefinition: EventBadDefinition,
}

// unreadable commits that an answer came which the definition cannot read. It
// stays in the journal, and is read again.
func (w *work) unreadable(ctx context.Context, failure *provider.Error) error {
	next := w.c
	events := w.failed(&next, failure)
	return w.conclude(ctx, next, failure, w.intoDoubt(&next, CauseAnswerUnreadable, failure, events))
}

func (w *work) intoDoubt(next *Connection, cause Cause, failure *provider.Error, events []Event) []Event {
	if next.State == InDoubt && next.Cause != CauseRestored && cause == CauseInterrupted {
		next.Cause = cause // which is worse
	}
	if next.State == InDoubt || next.State == Reauthorize {
		return events
	}
	next.State, next.Cause, next.Since = InDoubt, cause, w.k.now()
	event := w.k.event(next, EventInDoubt)
	event.Class, event.Detail = failure.Class, failure.Why()
	return append(events, event)
}

// lost commits that a request may have been acted upon and that its answer did
// not come.
func (w *work) lost(ctx context.Context, failure *provider.Error) error {
	next, sent := w.c, *w.c.Intent
	sent.RequestID, sent.Deadline = "", w.k.now() // nothing more comes of it
	sent.Answer = secret.Sealed{}                 // one that says nothing, such as 502, is not read again
	next.Intent = &sent
	if sent.Kind != provider.Refresh {
		next.Intent = w.before // whatever came of it, it can be asked for again
	}
	events := w.failed(&next, failure)
	if sent.Kind == provider.Refresh && w.plan(&next) == doubt {
		events = w.intoDoubt(&next, CauseAnswerLost, failure, events)
		next.DueAt = w.doubtDue(&next)
	}
	return w.conclude(ctx, next, failure, events)
}

// reauthorize commits that only the owner can help.
func (w *work) reauthorize(ctx context.Context, cause Cause, failure *provider.Error) error {
	next := w.c
	next.Intent = nil
	if next.State != Reauthorize {
		next.State, next.Since = Reauthorize, w.k.now()
	}
	next.Cause, next.Class, next.Error, next.Attempt = cause, failure.Class, failure.Why(), next.Attempt+1
	next.DueAt = time.Time{}
	event := w.k.event(&next, EventReauthorize)
	event.Class, event.Cause, event.Detail = failure.Class, next.Cause, failure.Why()
	return w.conclude(ctx, next, failure, []Event{event})
}

// end commits that there is nothing to renew a connection by: it is served while
// its access token lives, and then needs its owner.
func (w *work) end(ctx context.Context, cause Cause) error {
	next := w.c
	next.Intent, next.Refreshable = nil, false
	living := w.k.now().Before(next.ExpiresAt)
	if next.ExpiresAt.IsZero() && !next.IssuedAt.IsZero() {
		// One refusal at the API is not the end of a token that has none.
		alive, known := w.p.Alive(ctx, w.call(provider.Refresh))
		living = w.need.after < next.Generation || alive || !known
	}
	if living {
		next.DueAt = next.ExpiresAt
		if err := w.commit(ctx, next); err != nil {
			return err
		}
		return w.k.unusable(&w.c, nil)
	}
	failure := &provider.Error{Class: provider.Class(cause), Outcome: provider.NotSent, Detail: endings[cause]}
	return w.reauthorize(ctx, cause, failure)
}

// endings say in words why nothing was sent.
var endings = map[Cause]string{
	CauseNoRefreshToken:      "the access token expired and there is no refresh token",
	CauseRefreshTokenExpired: "the refresh token expired before it was used",
}
