package keeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
)

// The steps of a refresh, in their order, as Config.Step is told them. What is
// durable after each, and what recovery does after a crash there:
//
//   - lease, leased: the lease, which ends by itself. Nothing else.
//   - intent: as before. A Begin that failed sends nothing.
//   - journaled: the intent, without a mark (sending.go): nothing was sent, and on
//     this machine that is known.
//   - send: the intent, and a mark. Whether the request left is not known: after
//     its deadline the definition says what is safe (resolve.go).
//   - sent, answer: the same; the answer was in memory only. Where the store
//     does not take it, the spool does, and drains into the journal.
//   - answered, commit: the intent with the raw answer: it is read and committed
//     as if it had just come. Nobody has seen its tokens.
//   - committed: the new tokens; the intent is closed. Nothing to recover.
//   - published: the same.
const (
	StepLease     = "lease"     // before the lease is taken
	StepLeased    = "leased"    // after it
	StepIntent    = "intent"    // before the intent is written
	StepJournaled = "journaled" // after it
	StepSend      = "send"      // before the request, after the mark that it is sent
	StepSent      = "sent"      // after its answer
	StepAnswer    = "answer"    // before the answer is written
	StepAnswered  = "answered"  // after it
	StepCommit    = "commit"    // before the commit
	StepCommitted = "committed" // after it
	StepPublished = "published" // after the token may be seen
)

// leaseMargin is how much longer a lease lasts than the request for which it
// was taken: time to write what came of it, and for clocks that differ.
const leaseMargin = 10 * time.Second

// need is what a renewal is for.
type need struct {
	minTTL      time.Duration // of the access token
	after       uint64        // a token of a later generation than this
	due         bool          // by the schedule: do not wait for others
	evenInDoubt bool          // an operator has decided that the refresh token is sent
	operator    bool          // do not wait out the pause after a failure
}

// errBusy says that somebody else holds the lease.
var errBusy = errors.New("keeper: another renewal of the connection is under way")

// fresh reports whether a connection's access token satisfies a need.
func (k *Keeper) fresh(c *Connection, p *provider.Provider, n need, now time.Time) bool {
	if c.State == Paused || c.State == Reauthorize || c.Tokens.Empty() || c.IssuedAt.IsZero() || n.after >= c.Generation {
		return false
	}
	if n.due {
		return c.Intent == nil && (c.DueAt.IsZero() || now.Before(c.DueAt))
	}
	if c.ExpiresAt.IsZero() {
		return true
	}
	left := c.ExpiresAt.Sub(now)
	return left > k.ahead(c, p) && left >= n.minTTL
}

// alive reports whether a connection's access token can be answered to a need
// that a renewal could not satisfy.
func alive(c *Connection, n need, now time.Time) bool {
	if c.State == Paused || c.Tokens.Empty() || c.IssuedAt.IsZero() {
		return false
	}
	return c.ExpiresAt.IsZero() || c.ExpiresAt.Sub(now) >= max(n.minTTL, 1)
}

// renew makes a connection satisfy a need: it waits for whoever is at it, takes
// the lease, and refreshes where that is still needed. The error is an *Unusable,
// errBusy, or the store's. The returned row is the newest that was seen.
func (k *Keeper) renewRow(ctx context.Context, id string, n need) (Connection, error) {
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		c, err := k.cfg.Store.Connection(ctx, id)
		if err != nil {
			return c, err
		}
		p, err := k.provider(c.Provider)
		if err != nil {
			return c, k.unusable(&c, err)
		}
		now := k.now()
		if k.fresh(&c, p, n, now) {
			return c, nil
		}
		if err := k.hopeless(&c, n, now); err != nil {
			return c, err
		}
		if now.Before(c.LeaseUntil) {
			if n.due {
				return c, errBusy
			}
			if err := sleep(ctx, wait); err != nil {
				return c, err
			}
			continue
		}
		c, done, err := k.leaseAndWork(ctx, c, p, n)
		if errors.Is(err, errBusy) && !n.due {
			continue // somebody else was faster: look what came of it
		}
		if done || err != nil {
			return c, err
		}
	}
}

// hopeless is why nothing that could be done now satisfies a need, or nil.
func (k *Keeper) hopeless(c *Connection, n need, now time.Time) error {
	switch {
	case c.State == Paused, over(c, n):
		return k.unusable(c, nil)
	case n.operator || n.due:
		return nil
	case c.Attempt > 0 && now.Before(c.DueAt), // it has just failed
		c.State == InDoubt && now.Before(c.DueAt),
		c.State == InDoubt && c.DueAt.IsZero() && (c.Cause == CauseRestored || n.after == 0),
		!c.Refreshable && now.Before(c.ExpiresAt):
		return k.unusable(c, nil)
	}
	return nil
}

// over reports whether only the owner can help: or an operator, who has a
// refresh token sent although it may have been spent.
func over(c *Connection, n need) bool {
	return c.State == Reauthorize && c.Intent == nil && !(n.evenInDoubt && c.Cause == CauseInterrupted)
}

// leaseAndWork waits for its turn at the provider, takes the lease and works.
// done is false where the row is to be looked at again: somebody else took the
// lease first or the id, or the tokens of an answer from the journal were
// committed, which may be over by now.
func (k *Keeper) leaseAndWork(ctx context.Context, c Connection, p *provider.Provider, n need) (_ Connection, done bool, err error) {
	leave, err := k.gate.enter(ctx, p, p.TokenHost(c.Params), c.Owner, c.ID, !n.due)
	if err != nil {
		return c, false, k.unusable(&c, err)
	}
	told := errUnused // what the provider's gate learns
	defer func() { leave(told) }()
	k.cfg.Step(StepLease)
	now := k.now()
	row, leased, err := k.cfg.Store.Lease(ctx, c.ID, now, now.Add(p.Timeout()+leaseMargin))
	if err != nil || !leased {
		return row, false, err
	}
	k.cfg.Step(StepLeased)
	w := &work{k: k, p: p, c: row, need: n, told: errUnused}
	if row.Provider != p.Name() { // another connection has the id by now
		return row, false, w.unlock(ctx, nil)
	}
	err = w.do(ctx)
	told = w.told
	return w.c, !w.recovered, err
}

// work is one renewal under a lease. c is the row as it is in the store.
type work struct {
	k    *Keeper
	p    *provider.Provider
	c    Connection
	held held
	need need
	told error // the last outcome at the provider: nil, a *provider.Error, or errUnused

	before      *Intent         // what was open when the intent of c was made
	requestID   string          // of the last request
	recovered   bool            // the answer is from the journal
	interrupted bool            // a process ended while a refresh token was on its way
	refused     *provider.Error // the refresh token was, and a re-mint is the way out
	restored    bool            // the answer is of a restored copy, and its tokens may have been used since as well

	// Of an exchange: what the redirect told, and who asked.
	params   map[string]string
	metadata map[string]any
	actor    Actor
}

// do resolves what was broken off and renews where that is still needed, and
// ends the lease whatever happens. A lease that could not be ended ends by
// itself.
func (w *work) do(ctx context.Context) (err error) {
	if w.held, err = w.k.openTokens(w.c); err != nil {
		return w.unlock(ctx, err)
	}
	if w.c.State == Paused || over(&w.c, w.need) {
		return w.unlock(ctx, w.k.unusable(&w.c, nil))
	}
	if w.c.Intent != nil || w.c.State == InDoubt {
		if done, err := w.resolve(ctx); done || err != nil {
			return err
		}
	}
	now := w.k.now()
	if w.k.fresh(&w.c, w.p, w.need, now) {
		return w.unlock(ctx, nil)
	}
	if w.warn(now) {
		return w.commit(ctx, w.c, w.k.expiring(&w.c))
	}
	return w.refresh(ctx)
}

// warn reports whether all that is due is a warning, and notes it.
func (w *work) warn(now time.Time) bool {
	at := warnAt(&w.c, w.p.Definition())
	if !w.need.due || at.IsZero() || !w.c.WarnedAt.IsZero() || now.Before(at) {
		return false
	}
	next := w.c
	next.WarnedAt = now
	next.DueAt = w.k.due(&next, w.p)
	if !next.DueAt.IsZero() && !now.Before(next.DueAt) {
		return false // a refresh is due as well, and goes first
	}
	w.c = next
	return true
}

// refresh spends what the connection has to renew its tokens by.
func (w *work) refresh(ctx context.Context) error {
	way, reason := w.way(w.k.now())
	if way == "" {
		return w.end(ctx, reason)
	}
	return w.spend(ctx, way, time.Time{})
}

// way is how the connection can be renewed, or why it cannot.
func (w *work) way(now time.Time) (provider.Kind, Cause) {
	def := w.p.Definition()
	var reason Cause = CauseNoRefreshToken
	switch usesRefreshToken := w.p.SendsRefreshToken(); {
	case usesRefreshToken && w.held.RefreshToken.Empty(), !usesRefreshToken && w.held.AccessToken.Empty():
	case !usesRefreshToken && !w.c.ExpiresAt.IsZero() && !now.Before(w.c.ExpiresAt):
		// The access token is what is exchanged, and it is over.
	case certainlyOver(&w.c, def, now):
		reason = CauseRefreshTokenExpired
	case usesRefreshToken && !w.c.Refreshable: // used, and no other came for it
	case def.RefreshToken.Rotation != provider.RotationNone || !usesRefreshToken:
		return provider.Refresh, ""
	}
	return w.withoutOwner(), reason
}

// withoutOwner is how new tokens can be had without the refresh token, or "".
func (w *work) withoutOwner() provider.Kind {
	switch def := w.p.Definition(); {
	case len(def.Remint.Steps) > 0:
		return provider.Reminting
	case def.Grant == string(provider.ClientCredentials):
		return provider.ClientCredentials
	}
	return ""
}

// certainlyOver reports whether the refresh token need not be sent, because it
// expired: by what the provider told or documents. What is only believed is
// tried.
func certainlyOver(c *Connection, def *provider.Definition, now time.Time) bool {
	if !c.EndsAt.IsZero() && !now.Before(c.EndsAt) && def.Facts["refresh_token.lifetime"].Known != provider.KnownBelieved {
		return true
	}
	if c.RefreshExpiresAt.IsZero() || now.Before(c.RefreshExpiresAt) {
		return false
	}
	return def.RefreshToken.DiesWithAccessToken || def.Facts["refresh_token.idle_lifetime"].Known != provider.KnownBelieved
}

// spend asks the provider for tokens, journaled. firstSent is when the same
// refresh token was sent for the first time, the zero time if it was not.
func (w *work) spend(ctx context.Context, kind provider.Kind, firstSent time.Time) error {
	return w.spendCall(ctx, w.call(kind), firstSent)
}

func (w *work) spendCall(ctx context.Context, call provider.Call, firstSent time.Time) error {
	for {
		answer, err := w.send(ctx, call, firstSent)
		if err != nil {
			return err
		}
		next, failure := call.Secret+1, w.read(answer)
		if failure != nil && failure.Class == provider.BadClient && next < w.p.Secrets() {
			call.Secret, w.c.Intent = next, w.before // the refused request spent nothing
			continue
		}
		if failure == nil && call.Secret > 0 {
			w.k.cfg.Log.Warn("a provider refuses the first client secret and takes a later one", "provider", w.p.Name(), "secret", call.Secret+1)
		}
		return w.settle(ctx, answer)
	}
}

func (w *work) call(kind provider.Kind) provider.Call {
	return provider.Call{
		Kind: kind, Params: w.c.Params, Owner: w.c.Owner, Scope: w.asks(kind),
		AccessToken: w.held.AccessToken, RefreshToken: w.held.RefreshToken,
	}
}

// asks is the scope that a request asks for: a refresh what was granted, since
// more is refused (RFC 6749 section 6), and the others what was asked for first.
func (w *work) asks(kind provider.Kind) oauth.Scope {
	switch {
	case kind == provider.Exchange: // the authorization request did
		return w.p.Scopes()
	case kind != provider.Refresh && w.c.Asked != nil:
		return w.c.Asked
	case w.c.Scope != nil:
		return w.c.Scope
	}
	return w.p.Scopes()
}

// read reads an answer, for its error.
func (w *work) read(answer provider.Answer) *provider.Error {
	_, err := w.p.Read(answer)
	failure, _ := errors.AsType[*provider.Error](err)
	return failure
}

// send journals a request, sends it once and journals its answer. Where there
// is no answer, what that means is committed and the error says it.
func (w *work) send(ctx context.Context, call provider.Call, firstSent time.Time) (answer provider.Answer, err error) {
	now := w.k.now()
	if firstSent.IsZero() {
		firstSent = now
	}
	requestID := w.k.sending.newRequestID()
	intent := Intent{RequestID: requestID, Kind: call.Kind, Generation: w.c.Generation, SentAt: firstSent, Deadline: now.Add(w.p.Timeout())}
	w.k.cfg.Step(StepIntent)
	begun, err := w.k.cfg.Store.Begin(ctx, w.c.ID, w.c.Fence, intent, intent.Deadline.Add(leaseMargin))
	if err != nil {
		return answer, w.unlock(ctx, err)
	}
	if !begun {
		return answer, w.lostLease(ctx)
	}
	w.k.cfg.Step(StepJournaled)
	if err := w.k.sending.mark(requestID, w.c.ID); err != nil {
		w.k.sending.unmark(requestID)
		return answer, w.unlock(ctx, err)
	}
	if !w.k.now().Before(intent.Deadline) { // the process stood still: others may be about to act
		w.k.sending.unmark(requestID)
		return answer, w.unlock(ctx, errBusy)
	}
	w.before, w.c.Intent, w.requestID = w.c.Intent, &intent, requestID
	sending, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.p.Timeout())
	defer cancel()
	w.k.cfg.Step(StepSend)
	answer, err = w.p.Send(sending, call)
	if err != nil {
		return answer, w.unanswered(ctx, err)
	}
	w.k.cfg.Step(StepSent)
	w.keep(ctx, requestID, answer)
	return answer, nil
}

// keep makes an answer durable before anybody reads it: in the journal, or in
// the spool where the store does not take it.
func (w *work) keep(ctx context.Context, requestID string, answer provider.Answer) {
	sealed := w.k.sealAnswer(w.c.ID, requestID, journaled{answer, w.params, w.metadata})
	w.c.Intent.Answer = sealed
	w.k.cfg.Step(StepAnswer)
	_, err := w.k.cfg.Store.Answer(context.WithoutCancel(ctx), w.c.ID, requestID, sealed)
	if err != nil {
		w.k.cfg.Log.Error("the store did not take an answer: it goes to the spool", "connection", w.c.ID, "provider", w.p.Name(), "error", err)
		if err = w.k.spool.put(spooled{w.c.ID, requestID, sealed}); err != nil {
			w.k.cfg.Log.Error("the spool did not take an answer either: it is in memory only", "connection", w.c.ID, "error", err)
		}
	}
	if err == nil {
		w.k.sending.unmark(requestID)
	}
	w.k.cfg.Step(StepAnswered)
}

// unanswered commits that a request had no answer.
func (w *work) unanswered(ctx context.Context, err error) error {
	failure, ok := errors.AsType[*provider.Error](err)
	if !ok {
		failure = &provider.Error{Class: provider.Ambiguous, Outcome: provider.Unknown, Detail: "the request failed"}
		w.k.cfg.Log.Error("a request to a provider failed in a way that is not known", "connection", w.c.ID, "error", err)
	}
	w.told = failure
	if failure.Outcome == provider.NotSent {
		w.k.sending.unmark(w.requestID)
	}
	switch {
	case w.c.Intent.Kind == provider.Exchange:
		return w.notExchanged(ctx, failure)
	case failure.Outcome == provider.NotSent:
		return w.fail(ctx, failure, w.before)
	}
	return w.lost(ctx, failure)
}

// lostLease is the error of a worker that stood still for longer than its lease:
// the row is somebody else's, and what it says now counts.
func (w *work) lostLease(ctx context.Context) error {
	c, err := w.k.cfg.Store.Connection(ctx, w.c.ID)
	if err != nil {
		return err
	}
	w.k.cfg.Log.Warn("a lease was lost to another process", "connection", c.ID, "generation", c.Generation)
	w.c = c
	return errBusy
}

// unlock ends the lease and changes nothing else.
func (w *work) unlock(ctx context.Context, cause error) error {
	if _, err := w.k.cfg.Store.Commit(context.WithoutCancel(ctx), w.c.Fence, w.c.Generation, w.c); err != nil {
		w.k.cfg.Log.Warn("a lease was not given back and ends by itself", "connection", w.c.ID, "error", err)
	}
	return cause
}

// commit puts next in place of the row and ends the lease. Where the outcome of
// the write is not known, the row is read. errBusy where the lease was lost.
func (w *work) commit(ctx context.Context, next Connection, events ...Event) error {
	ctx = context.WithoutCancel(ctx)
	fence, generation := w.c.Fence, w.c.Generation
	next.UpdatedAt = later(w.k.now(), w.c.UpdatedAt.Add(time.Millisecond)) // by which this write is known below
	w.k.cfg.Step(StepCommit)
	done, err := w.k.cfg.Store.Commit(ctx, fence, generation, next, events...)
	for attempt := 1; !done && attempt < 3; attempt++ {
		if err != nil {
			if waited := sleep(ctx, time.Duration(attempt)*100*time.Millisecond); waited != nil {
				return waited
			}
		}
		var row Connection
		if row, err = w.k.cfg.Store.Connection(ctx, next.ID); err != nil {
			continue
		}
		if done = row.Fence == fence && row.UpdatedAt.UnixMilli() == next.UpdatedAt.UnixMilli(); done {
			break
		}
		if row.Fence != fence || row.Generation != generation { // the winner's row counts
			w.c = row
			return errBusy
		}
		done, err = w.k.cfg.Store.Commit(ctx, fence, generation, next, events...)
	}
	if !done {
		return fmt.Errorf("what came of a request was not written: %w", err)
	}
	w.k.cfg.Step(StepCommitted)
	w.k.sending.unmark(w.requestID)
	next.Fence, next.LeaseUntil = fence, time.Time{}
	w.c = next
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
