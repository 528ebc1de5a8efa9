package issuer

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// Lifetime is [oauth.Lifetime]. Its zero value inherits: a client's from the
// server, the server's from the default.
type Lifetime = oauth.Lifetime

// None is [oauth.None].
const None = oauth.None

// RotationPolicy says whether a refresh gives a new refresh token (RFC 9700
// section 4.14.2).
type RotationPolicy string

// The policies. RotateNever does not write on refresh, so that the refresh
// token's lifetime counts from the grant's beginning.
const (
	RotateAlways        RotationPolicy = "always"
	RotateNever         RotationPolicy = "never"
	RotatePublicClients RotationPolicy = "public_clients" // confidential clients keep theirs
	RotateOnce          RotationPolicy = "once"           // a refresh gives none, and spends the one it used
	RotateAdditive      RotationPolicy = "additive"       // a refresh gives one, and all older ones stay good; see UnsafeAdditive
)

// PKCEPolicy says who must send a code_challenge (RFC 7636).
type PKCEPolicy string

// The policies. A challenge that is sent holds in any case.
const (
	PKCEAlways        PKCEPolicy = "always"
	PKCEPublicClients PKCEPolicy = "public_clients" // clients with a secret may go without (RFC 9700 section 2.1.1)
	PKCENever         PKCEPolicy = "never"          // see UnsafePublicWithoutPKCE
)

// RedirectMatching says which redirect URIs are the registered one.
type RedirectMatching string

// The rules.
const (
	RedirectExact  RedirectMatching = "exact"  // see [oauth.MatchRedirectURI]
	RedirectPrefix RedirectMatching = "prefix" // longer ones too, see UnsafeRedirectPrefix
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
	PKCE        PKCEPolicy       `json:"require_pkce,omitempty"`             // always
	Redirects   RedirectMatching `json:"redirect_matching,omitempty"`        // exact
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
		PKCE:                 PKCEAlways,
		Redirects:            RedirectExact,
	}
}

// Over is p with what it inherits taken from under.
func (p Policy) Over(under Policy) Policy {
	p.AccessTokenLifetime = p.AccessTokenLifetime.Or(under.AccessTokenLifetime)
	p.CodeLifetime = p.CodeLifetime.Or(under.CodeLifetime)
	p.RefreshTokenLifetime = p.RefreshTokenLifetime.Or(under.RefreshTokenLifetime)
	p.GrantLifetime = p.GrantLifetime.Or(under.GrantLifetime)
	p.RetryWindow = p.RetryWindow.Or(under.RetryWindow)
	p.Rotation = cmp.Or(p.Rotation, under.Rotation)
	p.Format = cmp.Or(p.Format, under.Format)
	p.SigningAlg = cmp.Or(p.SigningAlg, under.SigningAlg)
	p.PKCE = cmp.Or(p.PKCE, under.PKCE)
	p.Redirects = cmp.Or(p.Redirects, under.Redirects)
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
	return cmp.Or(
		oneOf("refresh_token_rotation", p.Rotation, RotateAlways, RotateNever, RotatePublicClients, RotateOnce, RotateAdditive),
		oneOf("access_token_format", p.Format, FormatJWT, FormatOpaque),
		oneOf("access_token_signing_alg", p.SigningAlg, secret.ES256, secret.EdDSA, secret.RS256),
		oneOf("require_pkce", p.PKCE, PKCEAlways, PKCEPublicClients, PKCENever),
		oneOf("redirect_matching", p.Redirects, RedirectExact, RedirectPrefix),
	)
}

// oneOf refuses a setting that is neither empty nor one of the known ones.
func oneOf[T ~string](name string, is T, known ...T) error {
	if is == "" || slices.Contains(known, is) {
		return nil
	}
	names := make([]string, len(known))
	for i, k := range known {
		names[i] = string(k)
	}
	return fmt.Errorf("%s %q is not one of %s", name, is, strings.Join(names, ", "))
}

// unsafe names what a policy needs that is not safe.
func (p Policy) unsafe() []Compatibility {
	var needs []Compatibility
	if p.Rotation == RotateAdditive {
		needs = append(needs, UnsafeAdditive)
	}
	if p.PKCE == PKCENever {
		needs = append(needs, UnsafePublicWithoutPKCE)
	}
	if p.Redirects == RedirectPrefix {
		needs = append(needs, UnsafeRedirectPrefix)
	}
	return needs
}

// rotates reports whether a refresh by the client gives a new refresh token.
func (p Policy) rotates(c Client) bool {
	return p.Rotation != RotateNever && (p.Rotation != RotatePublicClients || c.Public())
}

// validText reports whether s is UTF-8 without control characters.
func validText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
