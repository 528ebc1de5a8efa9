package provider

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant/oauth"
)

// maxLifetime is beyond what any provider means: such a number is a mistake, or
// counts in another unit.
const maxLifetime = 100 * 365 * 24 * time.Hour

// ends is when something expires, by the first of the ways in which an answer
// tells it, or by what is known otherwise. It is the zero time where that is
// never, or nobody knows.
func ends(answer any, ways []Expiry, from time.Time, otherwise oauth.Lifetime, zeroIsForever bool) time.Time {
	for _, way := range ways {
		value := strings.TrimSpace(text(find(answer, way.Path)))
		if number, ok := number(value); ok && number == 0 && zeroIsForever {
			return time.Time{}
		}
		if at, ok := way.at(value, from); ok {
			return at
		}
	}
	if otherwise == 0 {
		return time.Time{}
	}
	return otherwise.After(from)
}

// at reads a value. It is false for what is no value of that form, and for one
// that is not after from: a token that had expired when it was asked for says
// that clocks differ, or that the field is not what it seems.
func (e Expiry) at(value string, from time.Time) (time.Time, bool) {
	var at time.Time
	number, isNumber := number(value)
	switch e.Form {
	case "", FormSeconds:
		return after(from, number*float64(time.Second), isNumber)
	case FormMilliseconds:
		return after(from, number*float64(time.Millisecond), isNumber)
	case FormDaysClock:
		left, ok := daysClock(value)
		return after(from, float64(left), ok)
	case FormUnix:
		at = epoch(number, time.Second)
	case FormUnixMilli:
		at = epoch(number, time.Millisecond)
	case FormRFC3339:
		at = dateTime(value)
	case FormHTTPDate:
		at, _ = http.ParseTime(value)
	case FormAuto:
		at = pointInTime(value, number, isNumber)
	}
	return at, at.After(from) && at.Before(from.Add(maxLifetime))
}

// after is from with some nanoseconds added, if that makes sense.
func after(from time.Time, nanoseconds float64, ok bool) (time.Time, bool) {
	if !ok || nanoseconds < float64(time.Millisecond) || nanoseconds > float64(maxLifetime) {
		return time.Time{}, false
	}
	return from.Add(time.Duration(nanoseconds).Truncate(time.Millisecond)), true
}

// number reads a number in any notation of JSON. Texts that are none, and
// infinities, are not.
func number(value string) (float64, bool) {
	f, err := strconv.ParseFloat(value, 64)
	return f, err == nil && !math.IsNaN(f) && !math.IsInf(f, 0)
}

// epoch is the time so many units after the beginning of 1970, or the zero time
// where a number is out of all bounds.
func epoch(number float64, unit time.Duration) time.Time {
	if nanoseconds := number * float64(unit); nanoseconds > 0 && nanoseconds < math.MaxInt64 {
		return time.Unix(0, int64(nanoseconds)).UTC()
	}
	return time.Time{}
}

// pointInTime guesses a form: a number of milliseconds since 1970 has been above
// 10^11 since 1973, and one of seconds will be below it until the year 5138.
func pointInTime(value string, number float64, isNumber bool) time.Time {
	switch {
	case isNumber && number < 1e11:
		return epoch(number, time.Second)
	case isNumber:
		return epoch(number, time.Millisecond)
	}
	if at := dateTime(value); !at.IsZero() {
		return at
	}
	at, _ := http.ParseTime(value)
	return at
}

// dateTime reads a date and time of RFC 3339, also with a space between them,
// without a colon in its zone, or without a zone, which is UTC.
func dateTime(value string) time.Time {
	if len(value) > 10 && value[10] == ' ' {
		value = value[:10] + "T" + value[11:]
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05"} {
		if at, err := time.Parse(layout, value); err == nil {
			return at.UTC()
		}
	}
	return time.Time{}
}

// daysClock reads D:HH:MM.
func daysClock(value string) (time.Duration, bool) {
	fields := strings.Split(value, ":")
	if len(fields) != 3 {
		return 0, false
	}
	var sum time.Duration
	for i, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute} {
		n, err := strconv.ParseUint(fields[i], 10, 16)
		if err != nil {
			return 0, false
		}
		sum += time.Duration(n) * unit
	}
	return sum, true
}

// retryAfter is how long an answer says to wait (RFC 9110 section 10.2.3), in
// seconds or until a date, and 0 where it does not. Dates are taken by the
// provider's own clock where it tells the time. A day is the most that is
// believed.
func (a Answer) retryAfter() time.Duration {
	wait := time.Duration(0)
	if seconds, ok := number(a.RetryAfter); ok {
		wait = time.Duration(min(max(seconds, 0), 1e6) * float64(time.Second))
	} else if until, err := http.ParseTime(a.RetryAfter); err == nil {
		now, err := http.ParseTime(a.Date)
		if err != nil {
			now = a.SentAt
		}
		wait = until.Sub(now)
	}
	return min(max(wait, 0), 24*time.Hour)
}
