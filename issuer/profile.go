package issuer

import (
	"net/http"
	"regexp"

	"github.com/evergrant/evergrant/oauth"
)

// Profile is how another authorization server speaks, so that its clients need
// not change: what an endpoint reads, the order in which it refuses, and what its
// answers look like. It is data for the edge of this package; what a grant is and
// when it ends is the same for all profiles. The zero Profile is the standard.
//
// The profile of a request is that of the client it names, and until that is
// known the one whose path it came to, or the server's. Package profile has those
// of known servers.
type Profile struct {
	Name string // "" is the standard

	// TokenPath, AuthorizePath and RevokePath are the server's own paths, beside
	// [TokenPath] and its neighbours; "" where it has none. They answer 404 unless
	// the server or the client that the request names has this profile.
	TokenPath, AuthorizePath, RevokePath string

	// Policy holds for clients of the profile where neither they nor the server's
	// configuration say otherwise.
	Policy Policy

	// What a token or revocation request may look like.

	QueryRequests     bool // GET with the parameters in the query as well
	QueryScope        bool // scope is also read from the query of a POST
	JSONRequests      bool // a JSON object as the body as well
	MultipartRequests bool // multipart/form-data as the body as well
	// Allow is the Allow header of an answer to OPTIONS, which is 200 then, and to
	// a method that is not served.
	Allow string
	// BasicWins ignores credentials in the body beside Basic ones, and any other
	// Authorization header, instead of refusing them.
	BasicWins bool
	// HeaderOnly takes client credentials from the Authorization header alone.
	HeaderOnly bool
	// AnySecret lets a public client send any secret, which is ignored.
	AnySecret bool
	// SecretFor are the grant types for which a request without a client's secret
	// is refused, whoever sends it.
	SecretFor []string
	// GrantTypes is the syntax of grant_type, where one that does not match is
	// refused as missing. Any is good where it is nil.
	GrantTypes *regexp.Regexp
	// GrantTypeFirst refuses an unknown grant_type before the client is looked at.
	GrantTypeFirst bool
	// GrantTypeLast refuses a grant_type that the client may not use after its
	// code or refresh token was found to be good.
	GrantTypeLast bool
	// ScopeLast refuses the scope of a password request after its password was
	// found to be right.
	ScopeLast bool
	// ExpiredFirst says that a refresh token has expired before it says that it is
	// another client's.
	ExpiredFirst bool

	// What is granted.

	// WithoutScope is the scope that a request for a new grant asks for when it
	// names none, of the scope that the client may have; all of it where this is
	// nil. The grant type is "" at the authorization endpoint. False refuses the
	// request.
	WithoutScope func(grantType string, allowed oauth.Scope) (oauth.Scope, bool)
	// IgnoreScope takes every request as one that names no scope.
	IgnoreScope bool
	// NarrowForGood lets a refresh that asks for less scope narrow the grant.
	NarrowForGood bool
	// RefreshTokenAlways gives a refresh token to clients, too, that may not use it.
	RefreshTokenAlways bool
	// WholeSeconds lets codes and refresh tokens live to the end of the second in
	// which they expire.
	WholeSeconds bool

	// What answers look like.

	// Fields are the members of a successful token answer, in their order, those
	// that have no value left out: of access_token, token_type, expires_in, scope,
	// refresh_token, refresh_token_expires_in and info. Those of
	// [oauth.TokenResponse] where it is nil.
	Fields    []string
	TokenType string // Bearer where it is ""
	// NullScope writes an empty scope as null.
	NullScope bool
	// OmitKept leaves a refresh token out of the answer that the client has.
	OmitKept bool
	// RoundDown tells remaining lifetimes of refresh tokens in whole seconds that
	// are over, so that one of 365 days has a second less.
	RoundDown bool
	Header    http.Header // of every token answer, over the standard ones

	// Errors is what the client is told of a cause, instead of the standard's. The
	// description {grant_type} stands for what was asked for.
	Errors map[Cause]oauth.Error
	// CodeErrors are those of authorization codes at the token endpoint, where they
	// are not the same as those of refresh tokens in Errors.
	CodeErrors map[Cause]oauth.Error
	// NullDescription writes an error_description that is empty as null.
	NullDescription bool
	// EscapeJSON writes texts as PHP does: slashes, and all that is not ASCII, are
	// escaped.
	EscapeJSON bool

	// The authorization endpoint.

	RequireState    bool
	RequireRedirect bool // redirect_uri, also where one is registered, and in the token request for a code
	// RepeatRedirect has the token request for a code name the redirect_uri if the
	// authorization request did (RFC 6749 section 4.1.3). Elsewhere one that alone is
	// registered may be left out of either.
	RepeatRedirect bool
	// RedirectFields are the parameters of a redirect with a code, in their order:
	// of code and state. Those of the standard where it is nil, with iss. Where there
	// is an access token instead, its Fields stand in the place of code.
	RedirectFields []string
	// ErrorFields are those of a redirect with an error: of error,
	// error_description, error_uri and state.
	ErrorFields    []string
	RedirectStatus int  // of redirects to the client; 303 where it is 0
	ErrorsAsJSON   bool // errors that must not go to the client are JSON, not a page
	// Implicit allows response_type=token to clients with the grant type implicit
	// (RFC 6749 section 4.2). Unsafe: the token stands in a URL.
	Implicit bool
	// FragmentErrors are those that go back in the fragment of the redirect URI
	// where response_type=token was asked for. Others stand in its query.
	FragmentErrors []Cause

	// The revocation endpoint.

	// OpenRevocation lets whoever has a token revoke it, without a client's secret.
	// A request that names no client is then one of the token's client.
	OpenRevocation bool
	// StrictHint refuses an unknown token_type_hint.
	StrictHint bool
	// Revoked is the JSON body of an answer; none where it is "".
	Revoked string

	// Resource is how protected resources speak; by RFC 6750 where it is nil.
	Resource *Resource
}

// Compatibility is a behaviour of an older server that is not safe. It is had
// only where Config.Unsafe names it.
type Compatibility string

// What can be named.
const (
	// UnsafeImplicit is the implicit grant (RFC 9700 section 2.1.2).
	UnsafeImplicit Compatibility = "implicit"
	// UnsafeRedirectPrefix matches redirect URIs by prefix (RFC 9700 section 4.1).
	UnsafeRedirectPrefix Compatibility = "redirect_prefix"
	// UnsafePublicWithoutPKCE spares public clients PKCE (RFC 9700 section 2.1.1).
	UnsafePublicWithoutPKCE Compatibility = "public_clients_without_pkce"
	// UnsafeAdditive keeps every refresh token good that was ever given out (RFC
	// 9700 section 4.14).
	UnsafeAdditive Compatibility = "additive_refresh_tokens"
)

// Compatibilities are all that can be named, with what they put at risk.
func Compatibilities() map[Compatibility]string {
	return map[Compatibility]string{
		UnsafeImplicit:          "access tokens stand in URLs, which browsers keep and pages leak (RFC 9700 section 2.1.2)",
		UnsafeRedirectPrefix:    "whoever controls a page below a registered redirect URI, or an open redirect there, gets codes (RFC 9700 section 4.1)",
		UnsafePublicWithoutPKCE: "whoever sees the code of a public client redeems it (RFC 9700 section 2.1.1)",
		UnsafeAdditive:          "a stolen refresh token is good as long as its grant, and nobody sees it (RFC 9700 section 4.14)",
	}
}

// profileOf is the profile that a client has, or the server's.
func (c Config) profileOf(client Client) *Profile {
	if named := c.Profiles[client.Profile]; named != nil && client.Profile != "" {
		return named
	}
	return c.profile()
}

// profile is the server's.
func (c Config) profile() *Profile {
	if named := c.Profiles[c.Profile]; named != nil {
		return named
	}
	return &Profile{}
}

// PolicyOf is the policy that holds for a client: its own, that of the profile
// which it names and the server does not have, the server's, that of the server's
// profile, the default.
func (c Config) PolicyOf(client Client) Policy {
	p := client.Policy
	if named := c.Profiles[client.Profile]; named != nil && client.Profile != "" && client.Profile != c.Profile {
		p = p.Over(named.Policy)
	}
	return p.Over(c.Policy).Over(c.profile().Policy).Over(DefaultPolicy())
}
