package provider

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant/oauth"
)

// path checks a path in an answer.
func (c *checker) path(at, path string) {
	if !answerPath.MatchString(path) {
		c.bad(at, "%s is not a path in an answer; write keys with dots between them, such as data.token, and | between alternatives", at)
	}
}

func (c *checker) response() {
	r := c.Response
	for _, p := range []struct{ name, path string }{
		{"envelope", r.Envelope}, {"access_token", r.AccessToken}, {"refresh_token", r.RefreshToken}, {"token_type", r.TokenType},
		{"scope", r.Scope}, {"error_code", r.ErrorCode}, {"error_detail", r.ErrorDetail},
	} {
		if p.path != "" {
			c.path("response."+p.name, p.path)
		}
	}
	c.expiries("response.expires.", r.Expires)
	c.expiries("response.refresh_ends.", r.RefreshEnds)
	c.named("response.keep", r.Keep)
	c.named("response.extra", r.Extra)
	if r.Success != nil {
		c.match("response.success", *r.Success)
	}
	if r.Prolongs && c.AccessToken.Lifetime <= 0 {
		c.bad("response.prolongs", "response.prolongs needs access_token.lifetime, by which it prolongs; add it")
	}
}

func (c *checker) expiries(at string, list []Expiry) {
	for i, expiry := range list {
		if expiry.Path != "" {
			c.path(at+strconv.Itoa(i)+".path", expiry.Path)
		}
	}
}

// named checks paths by names of ours.
func (c *checker) named(at string, paths map[string]string) {
	c.names(at, paths)
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		c.path(at+"."+name, paths[name])
	}
}

func (c *checker) match(at string, m Match) {
	switch {
	case m.Path == "":
		c.bad(at, "%s has no path to compare; add one", at)
	case len(m.Is) == 0 && m.Has == "":
		c.bad(at, "%s has a path and nothing to compare it with; add is or has", at)
	default:
		c.path(at+".path", m.Path)
	}
}

func (c *checker) errors() {
	for i, rule := range c.Errors {
		at := "errors." + strconv.Itoa(i)
		switch {
		case rule.Path != "" || len(rule.Is) > 0 || rule.Has != "":
			c.match(at, rule.Match)
		case rule.Status == 0:
			c.bad(at, "%s has no condition and would hold for every answer; add status, or path with is or has", at)
		}
		if rule.Status != 0 && (rule.Status < 100 || rule.Status > 599) {
			c.bad(at+".status", "%s.status is no HTTP status; write 100 to 599", at)
		}
		if rule.RetryAfter != 0 && rule.Class != Throttled && rule.Class != Transient {
			c.bad(at+".retry_after", "%s.retry_after has a meaning for transient and throttled alone; delete it or change the class", at)
		}
		c.above0(at+".retry_after", rule.RetryAfter)
	}
}

// above0 refuses an explicit nothing where it has no meaning.
func (c *checker) above0(at string, lifetime oauth.Lifetime) {
	if lifetime < 0 {
		c.bad(at, "%s must be above 0; write a duration such as 90s, or delete it", at)
	}
}

func (c *checker) lifetimes() {
	access, refresh := c.AccessToken, c.RefreshToken
	c.above0("access_token.refresh_ahead", access.RefreshAhead)
	c.above0("access_token.no_early_refresh", access.NoEarlyRefresh)
	if access.Lifetime > 0 && access.RefreshAhead >= access.Lifetime {
		c.bad("access_token.refresh_ahead", "access_token.refresh_ahead is not below access_token.lifetime, so that every use would refresh; write less")
	}
	if access.NoEarlyRefresh > 0 && access.RefreshAhead > access.NoEarlyRefresh {
		c.bad("access_token.refresh_ahead", "access_token.refresh_ahead is above access_token.no_early_refresh, when a refresh is refused yet; write at most that")
	}
	rotation := cmp.Or(refresh.Rotation, RotationSingleUse)
	if kept := rotation == RotationFixed || rotation == RotationNone; kept && refresh.ReplayWindow > 0 {
		c.bad("refresh_token.replay_window", "refresh_token.replay_window has no meaning where rotation is %s; delete it", rotation)
	}
	if rotation == RotationNone {
		if refresh.IdleLifetime != 0 {
			c.bad("refresh_token.idle_lifetime", "refresh_token.idle_lifetime has no meaning where rotation is none; delete it")
		}
		if refresh.DiesWithAccessToken {
			c.bad("refresh_token.dies_with_access_token", "refresh_token.dies_with_access_token has no meaning where rotation is none; delete it")
		}
	}
	if refresh.Lifetime > 0 && refresh.IdleLifetime > refresh.Lifetime {
		c.bad("refresh_token.idle_lifetime", "refresh_token.idle_lifetime is above refresh_token.lifetime; write at most that")
	}
	if refresh.DiesWithAccessToken && access.Lifetime < 0 {
		c.bad("refresh_token.dies_with_access_token", "refresh_token.dies_with_access_token has no meaning where access_token.lifetime is 0, never; delete one of them")
	}
}

// maxTimeout keeps a lease on a connection, which outlives its request, short.
const maxTimeout = oauth.Lifetime(5 * time.Minute)

func (c *checker) limits() {
	for _, l := range []struct {
		at string
		Rate
	}{{"limits.rate", c.Limits.Rate}, {"limits.connection", c.Limits.Connection}} {
		if (l.Count > 0) != (l.Per > 0) {
			c.bad(l.at, "%s needs both count and per, above 0; write for example {count: 10, per: 10m}", l.at)
		}
	}
	c.above0("limits.timeout", c.Limits.Timeout)
	if c.Limits.Timeout > maxTimeout {
		c.bad("limits.timeout", "limits.timeout is above %s; write at most that", maxTimeout)
	}
}

func (c *checker) facts() {
	for _, path := range slices.Sorted(maps.Keys(c.Facts)) {
		if !fieldExists(reflect.TypeFor[Definition](), path) {
			c.bad("facts."+path, "facts has %q, which is no field of a definition; write the dotted path of one, such as refresh_token.rotation", path)
		}
	}
}

// fieldExists follows a dotted path through the fields of a type.
func fieldExists(t reflect.Type, path string) bool {
	for key := range strings.SplitSeq(path, ".") {
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		switch t.Kind() {
		case reflect.Struct:
			index, ok := keys(t)[key]
			if !ok {
				return false
			}
			t = t.FieldByIndex(index).Type
		case reflect.Slice:
			if _, err := strconv.ParseUint(key, 10, 16); err != nil {
				return false
			}
			t = t.Elem()
		case reflect.Map:
			t = t.Elem()
		default:
			return false
		}
	}
	return true
}
