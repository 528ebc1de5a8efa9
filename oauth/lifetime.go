package oauth

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Lifetime is a duration that is written with d, h, m and s ("14d", "1h30m").
// Its zero value says nothing, and something else decides. None, written "0", is
// the explicit nothing: never expires, or no window.
type Lifetime time.Duration

// None is the explicit nothing.
const None Lifetime = -1

// ParseLifetime reads "0" as None, and otherwise one or more numbers each with
// a unit d, h, m, s or ms.
func ParseLifetime(s string) (Lifetime, error) {
	bad := fmt.Errorf("%q is not a duration: write a number with d, h, m or s, such as 14d, 1h or 90s", s)
	if s == "0" {
		return None, nil
	}
	days, rest, ok := strings.Cut(s, "d")
	var total time.Duration
	if ok {
		n, err := strconv.ParseUint(days, 10, 32)
		if err != nil || n > math.MaxInt64/uint64(48*time.Hour) {
			return 0, bad
		}
		total = time.Duration(n) * 24 * time.Hour
	} else {
		rest = s
	}
	if rest != "" {
		d, err := time.ParseDuration(rest)
		if err != nil || d < 0 || d > math.MaxInt64/2 || rest[0] == '+' || rest[0] == '-' {
			return 0, bad
		}
		total += d
	}
	if s == "" || total%time.Millisecond != 0 { // the store's precision
		return 0, bad
	}
	if total == 0 {
		return None, nil
	}
	return Lifetime(total), nil
}

// String is the written form, "" for the zero value.
func (l Lifetime) String() string {
	switch {
	case l == 0:
		return ""
	case l < 0:
		return "0"
	}
	d, out := time.Duration(l), ""
	if days := d / (24 * time.Hour); days > 0 {
		out, d = strconv.Itoa(int(days))+"d", d%(24*time.Hour)
	}
	if d == 0 {
		return out
	}
	rest := d.String()
	if strings.HasSuffix(rest, "m0s") {
		rest = rest[:len(rest)-2]
	}
	if strings.HasSuffix(rest, "h0m") {
		rest = rest[:len(rest)-2]
	}
	return out + rest
}

// MarshalText is String.
func (l Lifetime) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText is ParseLifetime; the empty text is the zero value.
func (l *Lifetime) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		*l = 0
		return nil
	}
	*l, err = ParseLifetime(string(text))
	return err
}

// Or is l, or other where l says nothing.
func (l Lifetime) Or(other Lifetime) Lifetime {
	if l == 0 {
		return other
	}
	return l
}

// After is the time l after t, or the zero time for None.
func (l Lifetime) After(t time.Time) time.Time {
	if l < 0 {
		return time.Time{}
	}
	return t.Add(time.Duration(l))
}
