package profile

import (
	"cmp"
	"errors"
	"net/http"
	"slices"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
)

// BshafferOptions are the keys of the configuration array of OAuth2\Server. Those
// are not here that concern OpenID Connect, or how tokens are stored.
type BshafferOptions struct {
	UseJWTAccessTokens bool `json:"use_jwt_access_tokens,omitempty"` // they are those of RFC 9068

	// Seconds; nil is the default.
	AccessLifetime       *int64 `json:"access_lifetime,omitempty"`        // 3600; 0 is refused
	RefreshTokenLifetime *int64 `json:"refresh_token_lifetime,omitempty"` // 1209600; 0 never expires
	AuthCodeLifetime     *int64 `json:"auth_code_lifetime,omitempty"`     // 30; at most 600, and 0 is refused

	// For each, nil is the default.
	EnforceState                  *bool `json:"enforce_state,omitempty"`                     // true
	RequireExactRedirectURI       *bool `json:"require_exact_redirect_uri,omitempty"`        // true; false needs redirect_prefix
	AllowCredentialsInRequestBody *bool `json:"allow_credentials_in_request_body,omitempty"` // true
	AllowPublicClients            *bool `json:"allow_public_clients,omitempty"`              // true

	AllowImplicit bool `json:"allow_implicit,omitempty"` // needs implicit
	EnforcePKCE   bool `json:"enforce_pkce,omitempty"`   // of confidential clients as well
	// EnforceRedirect has no effect, as there: the registered redirect URI stands in
	// for one that is left out.
	EnforceRedirect bool `json:"enforce_redirect,omitempty"`

	// AlwaysIssueNewRefreshToken (false) gives a new refresh token with each
	// refresh, and UnsetRefreshTokenAfterUse (true) spends the one that was used.
	// Where only the first is given, the second is the same.
	AlwaysIssueNewRefreshToken *bool `json:"always_issue_new_refresh_token,omitempty"`
	UnsetRefreshTokenAfterUse  *bool `json:"unset_refresh_token_after_use,omitempty"`

	// WWWRealm is what protected resources tell: Service.
	WWWRealm string `json:"www_realm,omitempty"`

	// DefaultScope is what a request gets that names none, of what the client may
	// have: the rows of oauth_scopes with is_default. None where it is empty.
	DefaultScope oauth.Scope `json:"default_scope,omitempty"`
	// RequireScope refuses such a request, as there where a storage has false for
	// the default scope.
	RequireScope bool `json:"require_scope,omitempty"`

	// Unsafe permits what the keys above ask for: implicit, redirect_prefix and
	// additive_refresh_tokens; and public_clients_without_pkce.
	Unsafe []issuer.Compatibility `json:"unsafe_compatibility,omitempty"`
}

// Check says what is wrong with the options, or nil. The texts name the keys.
func (o BshafferOptions) Check() error {
	switch {
	case or(o.AccessLifetime, 1) == 0:
		return errors.New("access_lifetime 0 does not mean for ever: tokens would expire at once; give a number of seconds")
	case len(o.DefaultScope) > 0 && o.RequireScope:
		return errors.New("default_scope is never used where require_scope is true; delete one of them")
	}
	return cmp.Or(
		checkLifetime("access_lifetime", or(o.AccessLifetime, 1), 1, maxLifetime),
		checkLifetime("refresh_token_lifetime", or(o.RefreshTokenLifetime, 0), 0, maxLifetime),
		checkLifetime("auth_code_lifetime", or(o.AuthCodeLifetime, 1), 1, maxCodeLifetime),
	)
}

// Warnings are sentences about settings that are not had here as they were.
func (o BshafferOptions) Warnings() []string {
	var all []string
	if always, unset := o.rotation(); always && !unset && !o.permits(issuer.UnsafeAdditive) {
		all = append(all, "always_issue_new_refresh_token with unset_refresh_token_after_use false keeps all refresh tokens good; here a refresh spends the older ones, unless unsafe_compatibility names "+string(issuer.UnsafeAdditive))
	}
	if !or(o.RequireExactRedirectURI, true) && !o.permits(issuer.UnsafeRedirectPrefix) {
		all = append(all, "require_exact_redirect_uri is true, unless unsafe_compatibility names "+string(issuer.UnsafeRedirectPrefix))
	}
	if o.AllowImplicit && !o.permits(issuer.UnsafeImplicit) {
		all = append(all, "allow_implicit is false, unless unsafe_compatibility names "+string(issuer.UnsafeImplicit))
	}
	return all
}

func (o BshafferOptions) permits(c issuer.Compatibility) bool { return slices.Contains(o.Unsafe, c) }

// rotation is whether a refresh gives a new refresh token, and spends the old one.
func (o BshafferOptions) rotation() (always, unset bool) {
	return or(o.AlwaysIssueNewRefreshToken, false), or(o.UnsetRefreshTokenAfterUse, or(o.AlwaysIssueNewRefreshToken, true))
}

func (o BshafferOptions) policy() issuer.Policy {
	p := issuer.Policy{
		AccessTokenLifetime:  lifetime(or(o.AccessLifetime, 3600)),
		RefreshTokenLifetime: lifetime(or(o.RefreshTokenLifetime, 14*24*3600)),
		CodeLifetime:         lifetime(or(o.AuthCodeLifetime, 30)),
		Rotation:             issuer.RotateOnce,
		Format:               issuer.FormatOpaque,
		PKCE:                 pkce(o.Unsafe),
	}
	if p.RefreshTokenLifetime == 0 {
		p.RefreshTokenLifetime = issuer.None
	}
	switch always, unset := o.rotation(); {
	case always && !unset && o.permits(issuer.UnsafeAdditive):
		p.Rotation = issuer.RotateAdditive
	case always:
		p.Rotation = issuer.RotateAlways
	case !unset:
		p.Rotation = issuer.RotateNever
	}
	if o.UseJWTAccessTokens {
		p.Format = issuer.FormatJWT
	}
	if o.EnforcePKCE {
		p.PKCE = issuer.PKCEAlways
	}
	if !or(o.RequireExactRedirectURI, true) && o.permits(issuer.UnsafeRedirectPrefix) {
		p.Redirects = issuer.RedirectPrefix
	}
	return p
}

// Bshaffer is the profile of bshaffer/oauth2-server-php. The options must have
// passed Check.
func Bshaffer(o BshafferOptions) *issuer.Profile {
	always, _ := o.rotation()
	p := &issuer.Profile{
		Name: NameBshaffer, TokenPath: "/token", AuthorizePath: "/authorize", RevokePath: "/revoke", Policy: o.policy(),

		JSONRequests: true, MultipartRequests: true, QueryScope: true, Allow: "POST, OPTIONS",
		BasicWins: true, HeaderOnly: !or(o.AllowCredentialsInRequestBody, true),
		SecretFor:      []string{oauth.GrantClientCredentials},
		GrantTypeFirst: true, GrantTypeLast: true, ScopeLast: true, ExpiredFirst: true,

		WithoutScope: func(_ string, allowed oauth.Scope) (oauth.Scope, bool) {
			return within(o.DefaultScope, allowed), !o.RequireScope
		},
		NarrowForGood: true, RefreshTokenAlways: true, WholeSeconds: true,

		Fields:    []string{"access_token", "expires_in", "token_type", "scope", "refresh_token"},
		NullScope: true, OmitKept: !always, EscapeJSON: true,
		Errors: bshafferErrors(), CodeErrors: bshafferCodeErrors(),

		RequireState: or(o.EnforceState, true), RepeatRedirect: true,
		RedirectFields: []string{"code", "state"},
		ErrorFields:    []string{"error", "error_description", "error_uri", "state"},
		RedirectStatus: http.StatusFound, ErrorsAsJSON: true,
		Implicit: o.AllowImplicit && o.permits(issuer.UnsafeImplicit),

		OpenRevocation: true, StrictHint: true, Revoked: `{"revoked":true}`,

		Resource: bshafferResource(cmp.Or(o.WWWRealm, "Service")),
	}
	if !or(o.AllowPublicClients, true) {
		p.SecretFor = append(p.SecretFor, oauth.GrantAuthorizationCode, oauth.GrantPassword, oauth.GrantRefreshToken)
	}
	if o.UseJWTAccessTokens {
		p.TokenType = "bearer"
	}
	if p.HeaderOnly {
		table(p.Errors).tell(oauth.InvalidClient, "Client credentials were not found in the headers", issuer.CauseClientMissing)
	}
	return p
}

// rfc6749 is where the links of errors lead.
const rfc6749 = "http://tools.ietf.org/html/rfc6749#section-"

func bshafferErrors() table {
	t := table{}
	t.tell(oauth.InvalidRequest, "The request method must be POST when requesting an access token", issuer.CauseMethod)
	t.change(issuer.CauseMethod, http.StatusMethodNotAllowed, rfc6749+"3.2")
	t.tell(oauth.InvalidRequest, "The grant type was not specified in the request", issuer.CauseGrantTypeMissing)
	t.tell(oauth.UnsupportedGrantType, `Grant type "{grant_type}" not supported`, issuer.CauseGrantTypeUnknown)
	t.tell(oauth.InvalidClient, "Client credentials were not found in the headers or body", issuer.CauseClientMissing)
	t.tell(oauth.InvalidClient, "This client is invalid or must authenticate using a client secret", issuer.CauseClientSecretMissing)
	t.tell(oauth.InvalidClient, "The client credentials are invalid", issuer.CauseClientUnknown, issuer.CauseClientSecretWrong)
	t.tell(oauth.InvalidClient, "client credentials are required", issuer.CauseClientPublic)
	t.tell(oauth.UnauthorizedClient, "The grant type is unauthorized for this client_id", issuer.CauseGrantTypeForbidden, issuer.CauseResponseTypeForbidden)
	t.tell(oauth.InvalidScope, "The scope requested is invalid for this request", issuer.CauseScopeExceeded)
	t.tell(oauth.InvalidScope, "The scope requested is invalid for this client", issuer.CauseScopeForbidden)
	t.tell(oauth.InvalidScope, "An unsupported scope was requested", issuer.CauseScopeUnknown, issuer.CauseScopeSyntax)
	t.tell(oauth.InvalidScope, "This application requires you specify a scope parameter", issuer.CauseScopeMissing)

	t.tell(oauth.InvalidRequest, `Missing parameter: "refresh_token" is required`, issuer.CauseRefreshTokenMissing)
	t.tell(oauth.InvalidGrant, "Invalid refresh token", issuer.CauseTokenForged, issuer.CauseGrantUnknown, issuer.CauseGrantRevoked,
		issuer.CauseRefreshTokenSpent, issuer.CauseRefreshTokenReused)
	t.tell(oauth.InvalidGrant, "Refresh token has expired", issuer.CauseRefreshTokenExpired, issuer.CauseGrantEnded)
	t.tell(oauth.InvalidGrant, "refresh_token doesn't exist or is invalid for the client", issuer.CauseOtherClient)
	t.tell(oauth.InvalidRequest, `Missing parameters: "username" and "password" required`, issuer.CauseLoginMissing)
	t.tell(oauth.InvalidGrant, "Invalid username and password combination", issuer.CauseCredentialsWrong)
	t.change(issuer.CauseCredentialsWrong, http.StatusUnauthorized, "")

	t.tell(oauth.InvalidRequest, "The request method must be POST when revoking an access token", issuer.CauseRevocationMethod)
	t.change(issuer.CauseRevocationMethod, http.StatusMethodNotAllowed, rfc6749+"3.2")
	t.tell(oauth.InvalidRequest, "Token type hint must be either 'access_token' or 'refresh_token'", issuer.CauseTokenHint)
	t.tell(oauth.InvalidRequest, "Missing token parameter to revoke", issuer.CauseTokenMissing)

	t.tell(oauth.InvalidClient, "No client id supplied", issuer.CauseAuthorizeClient)
	t.tell(oauth.InvalidClient, "The client id supplied is invalid", issuer.CauseAuthorizeUnknownClient)
	t.tell("invalid_uri", "The redirect URI must not contain a fragment", issuer.CauseAuthorizeRedirectFragment)
	t.tell("invalid_uri", "No redirect URI was supplied or stored", issuer.CauseAuthorizeRedirectNone)
	t.tell("invalid_uri", "A redirect URI must be supplied when multiple redirect URIs are registered", issuer.CauseAuthorizeRedirectAmbiguous)
	t.change(issuer.CauseAuthorizeRedirectAmbiguous, http.StatusBadRequest, rfc6749+"3.1.2.3")
	t.tell(redirectMismatch, "The redirect URI provided is missing or does not match", issuer.CauseAuthorizeRedirect)
	t.change(issuer.CauseAuthorizeRedirect, http.StatusBadRequest, rfc6749+"3.1.2")
	t.tell(oauth.InvalidRequest, "Invalid or missing response type", issuer.CauseResponseTypeMissing, issuer.CauseResponseTypeUnknown)
	t.tell(oauth.UnsupportedResponseType, "implicit grant type not supported", issuer.CauseResponseTypeImplicit)
	t.tell(oauth.InvalidRequest, "The state parameter is required", issuer.CauseStateMissing)
	t.tell("missing_code_challenge", "This application requires you provide a PKCE code challenge", issuer.CauseChallengeMissing)
	t.tell("code_challenge_method_invalid", "Unknown PKCE code challenge method.", issuer.CauseChallengeMethod)
	t.tell(oauth.AccessDenied, "The user denied access to your application", issuer.CauseOwnerDenied)
	return t
}

func bshafferCodeErrors() table {
	t := table{}
	t.tell(oauth.InvalidRequest, `Missing parameter: "code" is required`, issuer.CauseCodeMissing)
	t.tell(oauth.InvalidGrant, "Authorization code doesn't exist or is invalid for the client", issuer.CauseTokenForged, issuer.CauseGrantUnknown,
		issuer.CauseGrantRevoked, issuer.CauseCodeReplayed, issuer.CauseCodeBinding)
	t.tell(oauth.InvalidGrant, "authorization_code doesn't exist or is invalid for the client", issuer.CauseCodeClient, issuer.CauseOtherClient)
	t.tell(oauth.InvalidGrant, "The authorization code has expired", issuer.CauseCodeExpired, issuer.CauseGrantEnded)
	t.tell(redirectMismatch, "The redirect URI is missing or do not match", issuer.CauseRedirectMissing, issuer.CauseRedirectMismatch)
	t.change(issuer.CauseRedirectMissing, http.StatusBadRequest, rfc6749+"4.1.3")
	t.change(issuer.CauseRedirectMismatch, http.StatusBadRequest, rfc6749+"4.1.3")
	t.tell("code_verifier_missing", "The PKCE code verifier parameter is required.", issuer.CauseVerifierMissing)
	t.tell("code_verifier_invalid", "The PKCE code verifier parameter is invalid.", issuer.CauseVerifierSyntax)
	t.tell("code_verifier_mismatch", "The PKCE code verifier parameter does not match the code challenge.", issuer.CauseVerifierMismatch)
	return t
}

// bshafferResource has status 401 throughout: PHP sends it with any
// WWW-Authenticate header.
func bshafferResource(realm string) *issuer.Resource {
	refused := func(code, description string) oauth.Error {
		return oauth.Error{Code: code, Description: description, Status: http.StatusUnauthorized}
	}
	return &issuer.Resource{
		Realm: realm, Form: true, Query: true,
		Fields:    []string{"scope", "error", "error_description"},
		Missing:   refused("", ""),
		Malformed: refused(oauth.InvalidRequest, "Malformed auth header"),
		Several:   refused(oauth.InvalidRequest, "Only one method may be used to authenticate at a time (Auth header, GET or POST)"),
		Unknown:   refused(oauth.InvalidToken, "The access token provided is invalid"),
		Expired:   refused(oauth.InvalidToken, "The access token provided has expired"),
		Scope:     refused(oauth.InsufficientScope, "The request requires higher privileges than provided by the access token"),
	}
}
