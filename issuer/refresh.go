package issuer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/evergrant/evergrant/oauth"
)

// refresh is the refresh_token grant (RFC 6749 section 6). It is one
// compare-and-set of the grant's row; where that changes nothing, the row
// decides (judge).
//
// What is durable, and what a crash leaves:
//
//	before Rotate        nothing; the client's token is as good as before
//	after Rotate         generation g+1; the client, who has no answer, presents
//	                     g again and is given the tokens of g+1 (retry)
//	after the answer     the client holds g+1; g still answers until the retry
//	                     window closes or g+1 is presented
func (s *Server) refresh(ctx context.Context, c *registered, req *tokenRequest) (oauth.TokenResponse, error) {
	token := req.params.Get("refresh_token")
	if token == "" {
		return oauth.TokenResponse{}, refuse(CauseRefreshTokenMissing)
	}
	ref, err := s.presented(c, token)
	if err != nil {
		return oauth.TokenResponse{}, err
	}
	asked, err := c.askedScope(req.params)
	if asked != nil || err != nil {
		// A scope that cannot be had must not cost a generation.
		if err := s.checkGrantScope(ctx, c, ref, asked, err); err != nil {
			return oauth.TokenResponse{}, err
		}
	}
	if !c.policy.rotates(c.Client) {
		return s.refreshInPlace(ctx, c, req, ref, asked)
	}
	rotation := s.step(c, ref, ref.generation, ref.generation+1)
	if c.profile.NarrowForGood {
		rotation.Scope = asked
	}
	grant, stepped, err := s.rotate(ctx, rotation)
	if err != nil {
		return oauth.TokenResponse{}, unknownGrant(err)
	}
	outcome := outcomeRotated
	if !stepped {
		if grant, outcome, err = s.judge(ctx, c, req, ref, grant, rotation.To); err != nil {
			return oauth.TokenResponse{}, err
		}
	}
	return s.refreshed(grant, c, asked, outcome)
}

// step is the rotation of a grant to a later generation at this moment.
func (s *Server) step(c *registered, ref tokenRef, from, to uint32) Rotation {
	now := s.cfg.now()
	r := Rotation{
		ID: ref.grant, ClientID: c.ID, From: from, To: to, KeyID: s.cfg.Keys.Current().ID, At: now,
		ExpiresAt:       c.after(c.policy.RefreshTokenLifetime, now),
		AccessExpiresAt: c.policy.AccessTokenLifetime.After(now),
	}
	if c.policy.Rotation == RotateOnce && from > 0 {
		r.KeyID, r.ExpiresAt = 0, r.AccessExpiresAt // no refresh token follows
	}
	return r
}

// after is when a code or refresh token of a lifetime expires.
func (c *registered) after(l Lifetime, now time.Time) time.Time {
	if !c.profile.WholeSeconds || l <= 0 {
		return l.After(now)
	}
	return l.After(now.Truncate(time.Second)).Add(time.Second)
}

// rotate makes a step, and notes whether the store does.
func (s *Server) rotate(ctx context.Context, r Rotation) (Grant, bool, error) {
	grant, made, err := s.cfg.Store.Rotate(ctx, r)
	s.outage.saw(s.cfg.now(), made, errors.Is(err, ErrUnavailable))
	return grant, made, err
}

// judge decides what a genuine refresh token is worth when its step did not
// apply to the row.
//
//	the row is another client's         refused
//	further, and without a successor    refused: it was spent (RotateOnce)
//	revoked, expired or ended           refused
//	one generation further, in window   retry: the same answer again
//	further                             reuse: the grant is revoked, but where older
//	                                    ones stay good (RotateAdditive) a step
//	behind                              healed: only we could have made the token,
//	                                    so the row is older than what we answered
//	at the token's generation           somebody healed it meanwhile: step again
//
// A healed row goes to the generation to: the token's successor, or the token
// itself where it is not rotated.
func (s *Server) judge(ctx context.Context, c *registered, req *tokenRequest, ref tokenRef, row Grant, to uint32) (Grant, outcome, error) {
	additive := c.policy.Rotation == RotateAdditive
	for range judgeRounds {
		now := s.cfg.now()
		if additive && row.Generation >= to {
			to = row.Generation + 1
		}
		reused := s.reused(c, row, ref, now)
		switch cause := row.deadCause(now); {
		case row.ClientID != c.ID && c.profile.ExpiredFirst && cause == CauseRefreshTokenExpired:
			return row, "", s.refuseGrant(ctx, req, row, cause)
		case row.ClientID != c.ID:
			return row, "", s.refuseGrant(ctx, req, row, CauseOtherClient)
		case reused && row.ended():
			return row, "", s.refuseGrant(ctx, req, row, CauseRefreshTokenSpent)
		case cause != "":
			return row, "", s.refuseGrant(ctx, req, row, cause)
		case additive && row.Generation > ref.generation:
			s.count(c.ID, HabitOlderToken)
		case reused:
			return row, "", s.convict(ctx, req, row, ref)
		case row.Generation > ref.generation:
			s.count(c.ID, HabitRetry)
			if err := s.cfg.Store.Retried(ctx, row.ID); err != nil {
				s.cfg.log().Warn("a retry was not counted", "grant", row.ID, "error", err)
			}
			return row, outcomeRetried, nil
		case row.Generation == to:
			return row, outcomeKept, nil
		}
		rotation, outcome := s.step(c, ref, row.Generation, to), outcomeRotated
		if row.Generation < ref.generation {
			event := s.grantEvent(req, EventGrantHealed, row, "")
			event.Detail = "the row was at generation " + keyName(row.Generation) + ", the client at " + keyName(ref.generation) + ": an older copy of the database was restored"
			rotation.Event, outcome = &event, outcomeHealed
		}
		grant, stepped, err := s.rotate(ctx, rotation)
		if err != nil {
			return grant, "", unknownGrant(err)
		}
		if stepped {
			if outcome == outcomeHealed {
				s.cfg.log().Error("grant healed: the database is older than what was answered; was a backup restored?", "grant", grant.ID, "client", c.ID)
			}
			return grant, outcome, nil
		}
		row = grant
	}
	return row, "", fmt.Errorf("%w: a grant moved on during %d attempts to judge it", ErrUnavailable, judgeRounds)
}

// judgeRounds bounds the attempts to judge a token. Each further one needs
// another step of the row in between: a healing, of which two are plenty, or with
// RotateAdditive any refresh.
const judgeRounds = 32

// reused reports whether a token is older than the row, and not just the
// previous one within the retry window, which still gets the answer of the
// current generation. The window has closed when the row has gone on, since
// only the successor's use makes it go on; and it is counted from the end of an
// outage of the store in which the step was asked for. A window of 0 has no length that
// clocks could disagree about.
func (s *Server) reused(c *registered, row Grant, ref tokenRef, now time.Time) bool {
	window := time.Duration(c.policy.RetryWindow)
	retry := row.Generation == ref.generation+1 && window > 0 && now.Sub(s.outage.since(row.RotatedAt, now)) <= window+s.cfg.ClockSkew
	return row.Generation > ref.generation && !retry
}

// convict revokes a grant because a token of an older generation came back: one
// of its two holders is not the client (RFC 9700 section 4.14.2).
func (s *Server) convict(ctx context.Context, req *tokenRequest, row Grant, ref tokenRef) error {
	event := s.grantEvent(req, EventReuseDetected, row, CauseRefreshTokenReused)
	event.Detail = "refresh token of generation " + keyName(ref.generation) + " presented, the grant is at " + keyName(row.Generation)
	if _, err := s.cfg.Store.Revoke(ctx, row.ID, event.At, event); err != nil {
		return unknownGrant(err)
	}
	s.metrics.refresh(outcomeReused)
	s.cfg.log().Warn("refresh token reused; grant revoked", "grant", row.ID, "client", row.ClientID, "address", req.address)
	return refuse(CauseRefreshTokenReused)
}

// refreshInPlace serves clients whose refresh token is not rotated. It writes
// nothing, except to judge a token of another generation, left from a time when
// it was.
func (s *Server) refreshInPlace(ctx context.Context, c *registered, req *tokenRequest, ref tokenRef, asked oauth.Scope) (oauth.TokenResponse, error) {
	grant, err := s.cfg.Store.Grant(ctx, ref.grant)
	if err != nil {
		return oauth.TokenResponse{}, unknownGrant(err)
	}
	outcome, now := outcomeKept, s.cfg.now()
	if grant.Generation != ref.generation || grant.ClientID != c.ID || !grant.Live(now) {
		if grant, outcome, err = s.judge(ctx, c, req, ref, grant, ref.generation); err != nil {
			return oauth.TokenResponse{}, err
		}
	}
	if outcome == outcomeKept {
		s.count(c.ID, HabitKeptToken)
		// The times are of this answer, not of the row, which is purged when the
		// refresh token has expired: no access token may be promised for longer.
		grant.RotatedAt = now
		grant.AccessExpiresAt = capped(capped(c.policy.AccessTokenLifetime.After(now), grant.ExpiresAt), grant.EndsAt)
	}
	return s.refreshed(grant, c, asked, outcome)
}

// refreshed answers a refresh. The access token gets the asked scope; the
// refresh token keeps the whole of the grant's (RFC 6749 section 6). Where the
// answer may be one that was given before, the key is the one that made it.
func (s *Server) refreshed(g Grant, c *registered, asked oauth.Scope, outcome outcome) (oauth.TokenResponse, error) {
	scope := g.Scope
	if asked != nil {
		scope = asked
	}
	if !g.Scope.Covers(scope) {
		return oauth.TokenResponse{}, refuse(CauseScopeExceeded)
	}
	key := s.cfg.Keys.Current()
	if g.KeyID != 0 {
		made, err := s.cfg.Keys.Key(g.KeyID)
		if err != nil { // deleted: what it made is refused, so it makes nothing either
			return oauth.TokenResponse{}, refuse(CauseTokenForged)
		}
		if outcome != outcomeKept {
			key = made
		}
	}
	s.metrics.refresh(outcome)
	response, err := s.answer(g, c, scope, key)
	switch {
	case outcome == outcomeKept && c.profile.OmitKept:
		response.RefreshToken, response.RefreshTokenExpiresIn = "", 0
	case g.ended():
		s.count(c.ID, HabitNoSuccessor)
	}
	return response, err
}

// checkGrantScope refuses a scope that the grant does not cover, or for which
// there is an error. Any other reason to refuse is left for Rotate and judge to
// find.
func (s *Server) checkGrantScope(ctx context.Context, c *registered, ref tokenRef, asked oauth.Scope, bad error) error {
	grant, err := s.cfg.Store.Grant(ctx, ref.grant)
	if err != nil {
		return unknownGrant(err)
	}
	now := s.cfg.now()
	good := grant.ClientID == c.ID && grant.Live(now) && !s.reused(c, grant, ref, now)
	switch {
	case good && bad != nil:
		return bad
	case good && !grant.Scope.Covers(asked):
		return refuse(CauseScopeExceeded)
	case good && c.profile.NarrowForGood && !asked.Covers(grant.Scope):
		s.count(c.ID, HabitNarrowed)
	}
	return nil
}

// unknownGrant turns a missing row into a refusal.
func unknownGrant(err error) error {
	if errors.Is(err, ErrNotFound) {
		return refuse(CauseGrantUnknown)
	}
	return err
}

// capped is the earlier of two times, where the zero time means never.
func capped(t, end time.Time) time.Time {
	if end.IsZero() || (!t.IsZero() && t.Before(end)) {
		return t
	}
	return end
}
