package keeper

import (
	"context"
	"time"

	"github.com/evergrant/evergrant/provider"
)

// plan is what the definition allows for a refresh token that was sent, or may
// have been, without an answer.
type plan int

const (
	doubt  plan = iota // nothing: see work.doubt
	resend             // the same token again
	remint             // new tokens without it
)

// windowMargin is kept clear of a replay window's end: the request takes time,
// and clocks differ. A tenth of short windows.
const windowMargin = 10 * time.Second

// plan says what to do about a refresh token whose use is in doubt.
func (w *work) plan(c *Connection) plan {
	known := w.p.Definition().RefreshToken
	if known.Rotation == provider.RotationFixed && !c.Rotates {
		return resend
	}
	if window := time.Duration(known.ReplayWindow); window > 0 {
		if lifetime := c.ExpiresAt.Sub(c.IssuedAt); c.Cause == CauseRestored && lifetime > 0 {
			// Nobody knows how often it was renewed since the copy was made, and the
			// use of a successor closes the window: there must have been no time for it.
			window = min(window, lifetime/2)
		}
		closes := spentSince(c).Add(window - min(windowMargin, window/10))
		if w.k.now().Before(closes) {
			return resend
		}
	}
	if w.withoutOwner() != "" {
		return remint
	}
	return doubt
}

// spentSince is the earliest time at which the refresh token may have been spent.
func spentSince(c *Connection) time.Time {
	if c.Intent != nil {
		return c.Intent.SentAt
	}
	return c.Since // of the doubt: of a restored copy, when it was made
}

// resolve brings an intent that was broken off, or a doubt, to its end, by the
// normal code. done is false where nothing is left of it and the renewal goes
// on as usual.
func (w *work) resolve(ctx context.Context) (done bool, err error) {
	if intent := w.c.Intent; intent != nil && intent.RequestID != "" {
		answer, found, err := w.answer(ctx)
		never := w.k.sending.never(intent.RequestID)
		switch {
		case err != nil:
			return true, w.unlock(ctx, err)
		case found:
			w.recovered, w.restored = true, w.c.State == InDoubt && w.c.Cause == CauseRestored
			if w.inDoubtBefore(intent) { // which an answer that decides nothing does not end
				w.before = w.earlier(intent)
			}
			return true, w.settle(ctx, answer)
		case !never && w.k.now().Before(intent.Deadline):
			return true, w.unlock(ctx, errBusy) // whoever made it may be about to send
		case !never && intent.Kind == provider.Refresh:
			w.interrupted = true
		case w.inDoubtBefore(intent): // not by this request, but by an earlier one
			w.c.Intent = w.earlier(intent)
		default:
			w.c.Intent = nil // it spent nothing, or nothing that cannot be asked for again
		}
	}
	if w.c.Intent == nil && w.c.State != InDoubt {
		return false, nil
	}
	switch w.plan(&w.c) {
	case resend:
		return true, w.spend(ctx, provider.Refresh, spentSince(&w.c))
	case remint:
		return true, w.spend(ctx, w.withoutOwner(), spentSince(&w.c))
	}
	return true, w.doubt(ctx)
}

// earlier is the doubt that there was before the request of an intent.
func (w *work) earlier(intent *Intent) *Intent {
	return &Intent{Kind: provider.Refresh, Generation: intent.Generation, SentAt: intent.SentAt, Deadline: intent.Deadline}
}

// inDoubtBefore reports whether the refresh token was sent before the request of
// an intent, or was to be given up by it. Begin keeps the time of the first.
func (w *work) inDoubtBefore(intent *Intent) bool {
	return intent.SentAt.Before(intent.Deadline.Add(-w.p.Timeout() - time.Millisecond))
}

// answer finds the answer of the open intent, in the journal or the spool.
func (w *work) answer(ctx context.Context) (provider.Answer, bool, error) {
	intent := w.c.Intent
	sealed := intent.Answer
	if sealed.Empty() {
		spooled, ok := w.k.spool.get(intent.RequestID)
		if !ok {
			return provider.Answer{}, false, nil
		}
		if _, err := w.k.cfg.Store.Answer(ctx, w.c.ID, intent.RequestID, spooled); err != nil {
			return provider.Answer{}, false, err
		}
		sealed, intent.Answer = spooled, spooled
	}
	kept, err := w.k.openAnswer(w.c.ID, intent.RequestID, sealed)
	w.params, w.metadata = kept.Params, kept.Metadata
	return kept.Answer, err == nil, err
}

// doubt handles a refresh token that must not be sent blindly. Where the
// provider ends the old access token with each refresh, that token's life tells
// whether the refresh token was spent. Otherwise the access token is served
// while it lives; when it is over and nothing is left to lose, the refresh token
// is tried and the answer is the verdict: a request that failed has often not
// reached the provider. It is not tried after a crash, when it was most likely
// spent, nor of a restored copy.
func (w *work) doubt(ctx context.Context) error {
	firstSent := spentSince(&w.c)
	if w.need.evenInDoubt {
		return w.spend(ctx, provider.Refresh, firstSent)
	}
	now := w.k.now()
	living := w.c.ExpiresAt.IsZero() && w.need.after < w.c.Generation || now.Before(w.c.ExpiresAt)
	if living && w.p.Definition().AccessToken.OneAtATime {
		switch alive, known := w.p.Alive(ctx, w.call(provider.Refresh)); {
		case known && alive:
			return w.spend(ctx, provider.Refresh, firstSent)
		case known:
			return w.reauthorize(ctx, CauseReplayed, &provider.Error{Class: provider.Replayed, Outcome: provider.NotSent,
				Detail: "the provider ended the access token, which it does when the refresh token is used: the answer with its successor was lost"})
		}
	}
	failure := &provider.Error{Class: provider.Ambiguous, Outcome: provider.Unknown, Detail: "the answer to a refresh was lost, or was not kept"}
	cause := CauseAnswerLost
	if w.interrupted || w.c.Cause == CauseInterrupted {
		cause = CauseInterrupted
		failure.Detail = "the keeper ended while a refresh token was on its way; the provider has most likely taken it, and its answer is lost"
	}
	switch {
	case !living && cause == CauseInterrupted && w.c.Cause != CauseRestored:
		return w.reauthorize(ctx, cause, failure)
	case !living && w.c.State == InDoubt && w.c.Cause != CauseRestored: // the doubt is on record before the token is sent again
		return w.spend(ctx, provider.Refresh, firstSent)
	}
	next := w.c
	events := w.intoDoubt(&next, cause, failure, nil)
	next.DueAt = w.doubtDue(&next)
	if err := w.commit(ctx, next, events...); err != nil {
		return err
	}
	return w.k.unusable(&w.c, nil)
}

// doubtDue is when a doubt is looked at next: at the end of the access token,
// earlier where a check can tell, and never where only a person can.
func (w *work) doubtDue(c *Connection) time.Time {
	now := w.k.now()
	access := w.p.Definition().AccessToken
	switch {
	case access.OneAtATime && w.p.Definition().API.Check != "" && now.Before(c.ExpiresAt):
		return retryAt(c, w.p.Definition(), provider.Transient, 0, now, w.k.cfg.Rand())
	case now.Before(c.ExpiresAt):
		return c.ExpiresAt
	case c.Cause == CauseRestored, c.ExpiresAt.IsZero():
		return time.Time{}
	}
	return retryAt(c, w.p.Definition(), provider.Ambiguous, 0, now, w.k.cfg.Rand())
}
