package issuer

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// Lifetime is a duration that is written with d, h, m and s ("14d", "1h30m").
// Its zero value inherits: a client's from the server, the server's from the
// default. None, written "0", is the explicit nothing: never expires, or no
// window.
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

// or is l, or other where l inherits.
func (l Lifetime) or(other Lifetime) Lifetime {
	if l == 0 {
		return other
	}
	return l
}

// after is the time l after t, or the zero time for None.
func (l Lifetime) after(t time.Time) time.Time {
	if l < 0 {
		return time.Time{}
	}
	return t.Add(time.Duration(l))
}

// RotationPolicy says whether a refresh gives a new refresh token (RFC 9700
// section 4.14.2).
type RotationPolicy string

// The policies. RotateNever does not write on refresh, so that the refresh
// token's lifetime counts from the grant's beginning.
const (
	RotateAlways        RotationPolicy = "always"
	RotateNever         RotationPolicy = "never"
	RotatePublicClients RotationPolicy = "public_clients" // confidential clients keep theirs
)

// TokenFormat is the form of access tokens.
type TokenFormat string

// The formats.
const (
	FormatJWT    TokenFormat = "jwt"    // RFC 9068
	FormatOpaque TokenFormat = "opaque" // sealed, for introspection only
)

// Policy is what may be set for the server and again for each client. The zero
// value of a field inherits: a client's from the server, the server's from the
// default that the comment names.
type Policy struct {
	AccessTokenLifetime Lifetime `json:"access_token_lifetime,omitzero"`       // 1h; cannot be None
	CodeLifetime        Lifetime `json:"authorization_code_lifetime,omitzero"` // 60s; at most 10m (RFC 6749 section 4.1.2)
	// RefreshTokenLifetime is how long a refresh token may stay unused: 14d.
	RefreshTokenLifetime Lifetime `json:"refresh_token_lifetime,omitzero"`
	// GrantLifetime ends a grant whatever is refreshed: None.
	GrantLifetime Lifetime       `json:"grant_lifetime,omitzero"`
	Rotation      RotationPolicy `json:"refresh_token_rotation,omitempty"` // always
	// RetryWindow is how long the previous refresh token still gets the same
	// answer: 60s. None is strict single use.
	RetryWindow Lifetime         `json:"refresh_token_retry_window,omitzero"`
	Format      TokenFormat      `json:"access_token_format,omitempty"`      // jwt
	SigningAlg  secret.Algorithm `json:"access_token_signing_alg,omitempty"` // ES256
}

// DefaultPolicy is what the zero Policy means. The retry window of 60 s covers
// the 30 s after which the FAPI 2.0 conformance check presents the previous
// token and expects success.
func DefaultPolicy() Policy {
	return Policy{
		AccessTokenLifetime:  Lifetime(time.Hour),
		CodeLifetime:         Lifetime(time.Minute),
		RefreshTokenLifetime: Lifetime(14 * 24 * time.Hour),
		GrantLifetime:        None,
		Rotation:             RotateAlways,
		RetryWindow:          Lifetime(time.Minute),
		Format:               FormatJWT,
		SigningAlg:           secret.ES256,
	}
}

// Over is p with what it inherits taken from under.
func (p Policy) Over(under Policy) Policy {
	p.AccessTokenLifetime = p.AccessTokenLifetime.or(under.AccessTokenLifetime)
	p.CodeLifetime = p.CodeLifetime.or(under.CodeLifetime)
	p.RefreshTokenLifetime = p.RefreshTokenLifetime.or(under.RefreshTokenLifetime)
	p.GrantLifetime = p.GrantLifetime.or(under.GrantLifetime)
	p.RetryWindow = p.RetryWindow.or(under.RetryWindow)
	if p.Rotation == "" {
		p.Rotation = under.Rotation
	}
	if p.Format == "" {
		p.Format = under.Format
	}
	if p.SigningAlg == "" {
		p.SigningAlg = under.SigningAlg
	}
	return p
}

// Check says what is wrong with a policy, or nil. The texts name the settings
// as the configuration file does.
func (p Policy) Check() error {
	for _, l := range []Lifetime{p.AccessTokenLifetime, p.CodeLifetime, p.RefreshTokenLifetime, p.GrantLifetime, p.RetryWindow} {
		if l > 0 && time.Duration(l)%time.Millisecond != 0 {
			return fmt.Errorf("lifetime %v is not in whole milliseconds", time.Duration(l))
		}
	}
	switch {
	case p.AccessTokenLifetime < 0:
		return errors.New("access_token_lifetime must be above 0: access tokens always expire")
	case p.CodeLifetime < 0 || p.CodeLifetime > Lifetime(10*time.Minute):
		return errors.New("authorization_code_lifetime must be above 0 and at most 10m (RFC 6749 section 4.1.2)")
	case p.RetryWindow > Lifetime(time.Hour):
		return errors.New("refresh_token_retry_window must be at most 1h: within it a stolen token is served")
	}
	switch p.Rotation {
	case "", RotateAlways, RotateNever, RotatePublicClients:
	default:
		return fmt.Errorf("refresh_token_rotation %q is not one of always, never, public_clients", p.Rotation)
	}
	switch p.Format {
	case "", FormatJWT, FormatOpaque:
	default:
		return fmt.Errorf("access_token_format %q is not one of jwt, opaque", p.Format)
	}
	switch p.SigningAlg {
	case "", secret.ES256, secret.EdDSA, secret.RS256:
	default:
		return fmt.Errorf("access_token_signing_alg %q is not one of ES256, EdDSA, RS256", p.SigningAlg)
	}
	return nil
}

// rotates reports whether a refresh by the client gives a new refresh token.
func (p Policy) rotates(c Client) bool {
	return p.Rotation == RotateAlways || p.Rotation == RotatePublicClients && c.Public()
}

// refreshes reports whether the client gets refresh tokens at all.
func refreshes(c Client) bool { return c.Allows(oauth.GrantRefreshToken) }

// validText reports whether s is UTF-8 without control characters.
func validText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
