package issuer

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/evergrant/evergrant/secret"
	"github.com/prometheus/client_golang/prometheus"
)

// Config is what a [Server] is made of. Store, Keys and Issuer are required;
// every other field has a useful zero value.
type Config struct {
	// Issuer is the issuer identifier (RFC 8414 section 2): the URL under which
	// clients reach the server, without a trailing slash.
	Issuer string
	Store  Store
	Keys   *secret.Ring

	// Policy holds for clients that do not set their own.
	Policy Policy
	// Profiles are how else the server can speak, by name, and Profile is how it
	// does: the standard where it is "".
	Profiles map[string]*Profile
	Profile  string
	// Unsafe is what the operator asked for although it is not safe.
	Unsafe []Compatibility
	// Scopes are the scopes that the server knows, with the words that describe
	// them to a resource owner. A client may be registered for others.
	Scopes map[string]string
	// Reserved are further scopes that the server knows, with the same words, and
	// gives only to clients that list them by name: never as part of all scopes,
	// and not to public clients, whose tokens are in the hands of resource owners.
	Reserved map[string]string
	// DraftExpiryNames adds refresh_token_timeout and authorization_expires_in
	// (draft-ietf-oauth-refresh-token-expiration) to token answers.
	DraftExpiryNames bool
	// ClockSkew is how far the clocks of servers that share the Store may differ: 0
	// where there is one. A retry window stays open for as much longer, so that
	// no client is taken for a thief because two clocks measured it.
	ClockSkew time.Duration
	// EventRetention is how long events are kept: 90 days.
	EventRetention time.Duration

	// AskOwner asks the resource owner. Without it the authorization endpoint
	// answers that there is no such page, and metadata does not list it.
	AskOwner AskOwner
	// ErrorPage shows the resource owner an error of the authorization endpoint,
	// in plain text where it is nil. The message is for people and not secret.
	ErrorPage func(w http.ResponseWriter, r *http.Request, status int, message string)

	// Address tells the network address of whoever sent a request: by default
	// the connection's, which behind a proxy is the proxy's.
	Address func(*http.Request) string
	Metrics prometheus.Registerer // none where nil
	Log     *slog.Logger          // slog.Default() where nil
	Now     func() time.Time      // time.Now where nil
}

// check says what is missing.
func (c Config) check() error {
	u, err := url.Parse(c.Issuer)
	switch {
	case err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "":
		return fmt.Errorf("issuer: Config.Issuer %q must be an http or https URL", c.Issuer)
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil || (u.Path != "" && u.Path[len(u.Path)-1] == '/'):
		return fmt.Errorf("issuer: Config.Issuer %q must have no query, fragment, user or trailing slash (RFC 8414 section 2)", c.Issuer)
	case c.Store == nil:
		return errors.New("issuer: Config.Store is required")
	case c.Keys == nil:
		return errors.New("issuer: Config.Keys is required; see secret.OpenRing")
	}
	for token := range c.Scopes {
		if _, reserved := c.Reserved[token]; reserved {
			return fmt.Errorf("issuer: the scope %s is reserved: list it for the clients that need it, and not among the scopes that all may have", token)
		}
	}
	for name, profile := range c.Profiles {
		if err := profile.Policy.Check(); err != nil {
			return fmt.Errorf("issuer: profile %s: %w", name, err)
		}
		if profile.Implicit && !slices.Contains(c.Unsafe, UnsafeImplicit) {
			return fmt.Errorf("issuer: profile %s has the implicit grant, which Config.Unsafe does not name", name)
		}
		if err := c.checkUnsafe(profile.Policy); err != nil {
			return fmt.Errorf("issuer: profile %s: %w", name, err)
		}
	}
	if c.Profile != "" && c.Profiles[c.Profile] == nil {
		return fmt.Errorf("issuer: there is no profile %q", c.Profile)
	}
	return cmp.Or(c.Policy.Check(), c.checkUnsafe(c.Policy))
}

// checkUnsafe refuses a policy that is not safe where the operator did not ask
// for it.
func (c Config) checkUnsafe(p Policy) error {
	for _, need := range p.unsafe() {
		if !slices.Contains(c.Unsafe, need) {
			return fmt.Errorf("this needs unsafe_compatibility: [%s], since %s", need, Compatibilities()[need])
		}
	}
	return nil
}

func (c Config) log() *slog.Logger {
	if c.Log == nil {
		return slog.Default()
	}
	return c.Log
}

func (c Config) eventRetention() time.Duration {
	if c.EventRetention == 0 {
		return 90 * 24 * time.Hour
	}
	return c.EventRetention
}

// clock is the clock as it is, for what is kept in memory: durations that hold
// although somebody sets the clock.
func (c Config) clock() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// now is the clock in UTC with the precision of the store, so that what is
// derived from a time is the same before and after it was stored.
func (c Config) now() time.Time { return c.clock().UTC().Truncate(time.Millisecond) }

func (c Config) address(r *http.Request) string {
	if c.Address != nil {
		return c.Address(r)
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
