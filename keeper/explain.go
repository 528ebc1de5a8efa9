package keeper

import (
	"context"
	"fmt"
	"time"
)

// Explanation says why a connection is as it is.
type Explanation struct {
	Connection Connection `json:"connection"`
	Alive      bool       `json:"alive"`   // a token can be given
	Verdict    string     `json:"verdict"` // one or two sentences
	Cause      string     `json:"cause,omitempty"`
	Repair     string     `json:"repair,omitempty"` // what to do; "" where nothing is wrong
	Events     []Event    `json:"events"`           // newest first
}

// Explain says why a connection is alive or dead, since when, and what repairs
// it.
func (k *Keeper) Explain(ctx context.Context, id string) (Explanation, error) {
	c, err := k.cfg.Store.Connection(ctx, id)
	if err != nil {
		return Explanation{}, err
	}
	events, err := k.cfg.Store.Events(ctx, EventFilter{Connection: id})
	if err != nil {
		return Explanation{}, err
	}
	e := Explanation{Connection: c, Cause: string(c.Cause), Events: append([]Event{}, events...)}
	now := k.now()
	e.Alive = c.State != Reauthorize && alive(&c, need{}, now)
	e.Verdict = explained(&c, now)
	_, unknown := k.provider(c.Provider)
	if c.State == Active && c.Attempt == 0 && unknown == nil && (e.Alive || c.Refreshable) {
		e.Alive = true // at the latest after the refresh that the next reader waits for
		return e, nil
	}
	if e.Cause == "" {
		e.Cause = string(c.Class)
	}
	e.Repair = k.unusable(&c, unknown).Repair
	return e, nil
}

// explained tells a row in words.
func explained(c *Connection, now time.Time) string {
	switch c.State {
	case Paused:
		return "It was paused " + ago(now, c.Since) + ", and nothing is sent for it."
	case Reauthorize:
		return fmt.Sprintf("Only its owner can bring it back, since %s ago (%s): %s.", now.Sub(c.Since).Round(time.Second), stamp(c.Since), deaths(c.Cause))
	case InDoubt:
		return fmt.Sprintf("It is in doubt since %s, because %s. %s%s", stamp(c.Since), doubts(c.Cause), access(c, now), next(c, now))
	}
	if c.Attempt > 0 {
		return fmt.Sprintf("The last %d attempts to renew it failed (%s). %s%s", c.Attempt, c.Error, access(c, now), next(c, now))
	}
	return access(c, now) + next(c, now)
}

func deaths(cause Cause) string {
	switch cause {
	case CauseNotConnected:
		return "they have not come back from the provider yet"
	case CauseRevoked:
		return "the provider refused the refresh token, which neither expired by our clock nor was sent twice: the owner or the provider ended the grant"
	case CauseReplayed:
		return "an answer with a new refresh token was lost, and the provider refused the old one"
	case CauseInterrupted:
		return "the keeper ended while a refresh token was on its way, and the provider, which takes each once, has most likely taken it: the answer with its successor is lost"
	case CauseRefreshTokenExpired:
		return "the refresh token expired"
	case CauseConsentRequired:
		return "the provider wants something of them"
	case CauseNoRefreshToken:
		return "the access token ended and there was no refresh token"
	}
	return string(cause)
}

func doubts(cause Cause) string {
	switch cause {
	case CauseRestored:
		return "the database is a restored copy, and the refresh token in it may have been used since"
	case CauseAnswerUnreadable:
		return "the provider's answer could not be read; it is kept"
	}
	return "a refresh token was sent, and no answer came or was kept"
}

func access(c *Connection, now time.Time) string {
	switch {
	case c.IssuedAt.IsZero():
		return "It has no access token yet."
	case c.ExpiresAt.IsZero():
		return fmt.Sprintf("Its access token was issued %s and is not known to expire.", ago(now, c.IssuedAt))
	case now.Before(c.ExpiresAt):
		return fmt.Sprintf("Its access token, issued %s, lives for another %s.", ago(now, c.IssuedAt), c.ExpiresAt.Sub(now).Round(time.Second))
	}
	return fmt.Sprintf("Its access token expired %s.", ago(now, c.ExpiresAt))
}

func next(c *Connection, now time.Time) string {
	switch {
	case c.DueAt.IsZero():
		return ""
	case now.Before(c.DueAt):
		return fmt.Sprintf(" It is looked at again in %s (%s).", c.DueAt.Sub(now).Round(time.Second), stamp(c.DueAt))
	}
	return " It is due."
}

func ago(now, t time.Time) string {
	return fmt.Sprintf("%s ago (%s)", now.Sub(t).Round(time.Second), stamp(t))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
