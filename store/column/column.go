// Package column is the stored form of values, which both databases share: the
// same columns hold the same, so that rows can move from one to the other.
package column

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

const (
	// RevokedFor is how long a revoked grant that would never have expired is
	// kept.
	RevokedFor = 30 * 24 * time.Hour
	// neverHours is after how long a grant that does not expire is looked at
	// again, since it may have been revoked or given an expiry.
	neverHours = 30 * 24
)

// Millis is the stored form of a time: Unix milliseconds, 0 for the zero time.
func Millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// Time is the inverse of Millis, in UTC.
func Time(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// Stored is a time as it comes back: in UTC, and without what is less than a
// millisecond.
func Stored(t time.Time) time.Time { return Time(Millis(t)) }

// Scope is the inverse of oauth.Scope.String.
func Scope(text string) oauth.Scope {
	if text == "" {
		return nil
	}
	return strings.Split(text, " ")
}

// Document is the stored form of a map.
func Document[V any](m map[string]V) (string, error) {
	if len(m) == 0 {
		return "", nil
	}
	text, err := json.Marshal(m)
	return string(text), err
}

// ReadDocument is the inverse of Document. Numbers in it stay as they were
// written, since providers have ids that no float64 can hold.
func ReadDocument[V any](text string) (m map[string]V, err error) {
	if text == "" {
		return nil, nil
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	return m, decoder.Decode(&m)
}

// Sealed are key and data of what is sealed, 0 and NULL where nothing is.
func Sealed(s secret.Sealed) (key uint32, data any) {
	if s.Empty() {
		return 0, nil
	}
	return s.KeyID, s.Data
}

// Capped is the number of rows that a list gives for a limit.
func Capped(limit int) int {
	if limit <= 0 {
		return 100
	}
	return min(limit, 1000)
}

// Rotated is a grant after a rotation that applies to it.
func Rotated(g issuer.Grant, r issuer.Rotation) issuer.Grant {
	g.Generation, g.KeyID = r.To, r.KeyID
	g.RotatedAt = Stored(r.At)
	g.ExpiresAt = earlier(r.ExpiresAt, g.EndsAt)
	g.AccessExpiresAt = earlier(r.AccessExpiresAt, g.EndsAt)
	if r.Scope != nil {
		g.Scope = Scope(r.Scope.String())
	}
	return g
}

// Rotates reports whether a rotation applies to a grant.
func Rotates(g issuer.Grant, r issuer.Rotation) bool {
	come := func(expiry time.Time) bool { return !expiry.IsZero() && Millis(expiry) <= Millis(r.At) }
	return g.ClientID == r.ClientID && g.Generation == r.From && g.RevokedAt.IsZero() && !come(g.ExpiresAt) && !come(g.EndsAt)
}

// earlier is the earlier of two times as they are stored, of which the zero time
// is never.
func earlier(t, end time.Time) time.Time {
	if t.IsZero() || !end.IsZero() && end.Before(t) {
		t = end
	}
	return Stored(t)
}

// PurgeHour is the Unix hour in which a grant can first be dead: neither its
// code or refresh token nor its access token lives. One that does not expire
// is looked at again 30 days after now.
func PurgeHour(g issuer.Grant, now time.Time) int64 {
	end := g.ExpiresAt
	if end.IsZero() || !g.EndsAt.IsZero() && g.EndsAt.Before(end) {
		end = g.EndsAt
	}
	if end.IsZero() {
		return UnixHour(now) + neverHours
	}
	if g.AccessExpiresAt.After(end) {
		end = g.AccessExpiresAt
	}
	return UnixHour(end)
}

// UnixHour is the number of whole hours since 1970.
func UnixHour(t time.Time) int64 { return Millis(t) / time.Hour.Milliseconds() }

// Unavailable is the error of a database that cannot serve at the moment: it
// wraps the cause, and what both halves call it.
func Unavailable(cause error, as ...error) error { return unavailable{cause, as} }

type unavailable struct {
	cause error
	as    []error
}

func (e unavailable) Error() string { return "the database is unavailable: " + e.cause.Error() }

func (e unavailable) Unwrap() []error { return append(slices.Clip(e.as), e.cause) }
