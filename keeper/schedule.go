package keeper

import (
	"time"

	"github.com/evergrant/evergrant/provider"
)

const (
	day = 24 * time.Hour

	// keepAliveMargin is how long before its idle expiry an unused refresh token
	// is used, so that an outage of days does not end the grant; where it lives
	// for less than four weeks, a quarter of its life.
	keepAliveMargin = 7 * day
	// assumedIdle is the idle lifetime of a refresh token of which nobody says
	// how long it lives: below nearly all that are known.
	assumedIdle = 7 * day
	// leastPause keeps a provider whose tokens live for no time at all from being
	// asked without end.
	leastPause = time.Second
	// warnAhead is how long before an end that no refresh moves the owner is
	// warned; where the grant is shorter than 140 days, a tenth of its lifetime.
	warnAhead = 14 * day
	// longestRetryAfter is the longest wait that a provider is believed to mean.
	longestRetryAfter = day
)

// refreshAhead is how long before its expiry an access token is refreshed: the
// definition's time or else the setting, at most a quarter of the lifetime, and
// not before the provider allows it.
func refreshAhead(c *Connection, def *provider.Definition, setting time.Duration) time.Duration {
	ahead := setting
	if own := def.AccessToken.RefreshAhead; own != 0 {
		ahead = max(0, time.Duration(own))
	}
	if allowed := time.Duration(def.AccessToken.NoEarlyRefresh); allowed > 0 {
		ahead = min(ahead, allowed/2) // the other half is for jitter and for clocks that differ
	}
	return max(0, min(ahead, c.ExpiresAt.Sub(c.IssuedAt)/4))
}

// nextDue is when a connection wants to be looked at next after a success:
// refreshed, kept alive, warned of its end, or found to be over. It is the zero
// time where nothing is ever due. random in [0, 1) makes it earlier by at most a
// tenth of the lifetime, so that connections which began together drift apart.
func nextDue(c *Connection, def *provider.Definition, ahead time.Duration, random float64) time.Time {
	if c.IssuedAt.IsZero() {
		return time.Time{}
	}
	var due time.Time
	switch {
	case !c.Refreshable:
		due = c.ExpiresAt // when somebody must be told
	case c.Background == OnDemand || c.ExpiresAt.IsZero():
		due = keepAlive(c, def, random)
	default:
		due = sooner(refreshDue(c, def, ahead, random), keepAlive(c, def, random))
	}
	if c.Refreshable && !due.IsZero() {
		due = later(due, c.IssuedAt.Add(leastPause))
		if allowed := time.Duration(def.AccessToken.NoEarlyRefresh); allowed > 0 && !c.ExpiresAt.IsZero() {
			due = later(due, c.ExpiresAt.Add(-allowed*9/10))
		}
	}
	if c.WarnedAt.IsZero() {
		due = sooner(due, warnAt(c, def))
	}
	return due
}

// refreshDue is when the access token is refreshed ahead of its expiry.
func refreshDue(c *Connection, def *provider.Definition, ahead time.Duration, random float64) time.Time {
	lifetime := c.ExpiresAt.Sub(c.IssuedAt)
	if lifetime <= 0 { // the provider says that its tokens are born dead
		return c.IssuedAt.Add(time.Minute)
	}
	jitter := lifetime / 10
	if allowed := time.Duration(def.AccessToken.NoEarlyRefresh); allowed > 0 {
		jitter = min(jitter, allowed*2/5)
	}
	early := refreshAhead(c, def, ahead) + part(jitter, random)
	return c.ExpiresAt.Add(-early)
}

// keepAlive is when a connection is refreshed although nobody reads it, so that
// its refresh token does not expire unused. It is the zero time where that
// cannot happen, or does no harm.
func keepAlive(c *Connection, def *provider.Definition, random float64) time.Time {
	if remintable(def) {
		return time.Time{}
	}
	end := refreshEnd(c, def)
	if end.IsZero() {
		return end
	}
	idle := end.Sub(c.IssuedAt)
	margin := min(idle/4, keepAliveMargin)
	return end.Add(-margin - part(min(idle/10, day), random))
}

// refreshEnd is when the refresh token is of no use any more unless it is used
// before: as the provider told, as the definition knows, or as is assumed where
// both are silent. The zero time is never.
func refreshEnd(c *Connection, def *provider.Definition) time.Time {
	end := c.RefreshExpiresAt
	switch idle := time.Duration(def.RefreshToken.IdleLifetime); {
	case !end.IsZero() || idle < 0:
	case idle > 0:
		end = c.IssuedAt.Add(idle)
	case !def.RefreshToken.DiesWithAccessToken && (c.Background == OnDemand || c.ExpiresAt.IsZero()):
		end = c.IssuedAt.Add(max(assumedIdle, c.ExpiresAt.Sub(c.IssuedAt)))
	}
	if def.RefreshToken.DiesWithAccessToken {
		end = sooner(end, c.ExpiresAt)
	}
	return end
}

// remintable reports whether new tokens can be had without a refresh token and
// without the owner, so that the loss of the refresh token is none.
func remintable(def *provider.Definition) bool {
	return len(def.Remint.Steps) > 0 || def.Grant == string(provider.ClientCredentials)
}

// retryAt is when to try again after a failure; c.Attempt counts it. There is no
// last attempt.
func retryAt(c *Connection, def *provider.Definition, class provider.Class, retryAfter time.Duration, now time.Time, random float64) time.Time {
	first, most := time.Second, 5*time.Minute
	switch class {
	case provider.BadClient, provider.BadDefinition: // nothing changes until an operator does something
		first, most = time.Minute, 15*time.Minute
	case provider.Throttled:
		first = 5 * time.Second
	}
	if lifetime := c.ExpiresAt.Sub(c.IssuedAt); !c.ExpiresAt.IsZero() && lifetime > 0 {
		first = max(leastPause, min(first, lifetime/16))
		most = max(first, min(most, lifetime/8))
	}
	pause := backoff(first, most, c.Attempt, random)
	if retryAfter > 0 {
		retryAfter = min(retryAfter, longestRetryAfter)
		return now.Add(max(pause, retryAfter+part(retryAfter/10, random)))
	}
	at := now.Add(pause)
	if end := refreshEnd(c, def); now.Before(end) && !at.Before(end) && !remintable(def) {
		at = now.Add(max(leastPause, end.Sub(now)/2)) // the last chances count more than the provider's peace
	}
	return at
}

// warnAt is when the owner is warned that the connection comes to an end that no
// refresh moves, or the zero time where it has none.
func warnAt(c *Connection, def *provider.Definition) time.Time {
	end, lifetime := c.EndsAt, time.Duration(def.RefreshToken.Lifetime)
	if lifetime <= 0 {
		lifetime = end.Sub(c.CreatedAt)
	}
	if !c.Refreshable && sooner(c.ExpiresAt, end).Equal(c.ExpiresAt) {
		end, lifetime = c.ExpiresAt, c.ExpiresAt.Sub(c.IssuedAt)
	}
	if end.IsZero() {
		return end
	}
	return end.Add(-min(warnAhead, max(0, lifetime/10)))
}

// backoff is the pause after the n-th failure of a series: first, doubled with
// each failure up to most, and by chance up to half of it shorter, so that those
// who failed together do not come back together.
func backoff(first, most time.Duration, n int, random float64) time.Duration {
	pause := min(first, most)
	for ; n > 1 && pause < most; n-- {
		pause = min(2*pause, most)
	}
	return pause - part(pause/2, random)
}

// sooner is the earlier of two times, of which zero ones are never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func part(d time.Duration, random float64) time.Duration { return time.Duration(random * float64(d)) }
