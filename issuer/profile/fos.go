package profile

import (
	"cmp"
	"fmt"
	"net/http"
	"regexp"
	"slices"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
)

// FOSOptions are the keys of fos_oauth_server.service.options.
type FOSOptions struct {
	// Seconds; 0 is the default, as there.
	AccessTokenLifetime  int64 `json:"access_token_lifetime,omitempty"`  // 3600
	RefreshTokenLifetime int64 `json:"refresh_token_lifetime,omitempty"` // 1209600
	AuthCodeLifetime     int64 `json:"auth_code_lifetime,omitempty"`     // 30; at most 600
	// TokenType is the token_type of answers: bearer.
	TokenType string `json:"token_type,omitempty"`
	// Realm is what protected resources tell: Service.
	Realm string `json:"realm,omitempty"`
	// SupportedScopes are what a request of the grant types password and
	// client_credentials gets that names no scope, of what the client may have; all
	// of that where this is empty. The server must know them: list them in
	// [issuer.Config.Scopes] as well.
	SupportedScopes oauth.Scope `json:"supported_scopes,omitempty"`
	// EnforceRedirect has requests for a code, and with one, name their
	// redirect_uri: true where it is nil.
	EnforceRedirect *bool `json:"enforce_redirect,omitempty"`
	// EnforceState has requests for a code name a state.
	EnforceState bool `json:"enforce_state,omitempty"`
	// ResponseExtraHeaders are put on every answer of the token endpoint, beside
	// those that it needs.
	ResponseExtraHeaders map[string]string `json:"response_extra_headers,omitempty"`
	// Unsafe is what is had as it was, of implicit, redirect_prefix and
	// public_clients_without_pkce.
	Unsafe []issuer.Compatibility `json:"unsafe_compatibility,omitempty"`
}

// Check says what is wrong with the options, or nil. The texts name the keys.
func (o FOSOptions) Check() error {
	for name := range o.ResponseExtraHeaders {
		if slices.Contains([]string{"Cache-Control", "Pragma", "Content-Type"}, http.CanonicalHeaderKey(name)) {
			return fmt.Errorf("response_extra_headers must not have %s: tokens are never cached (RFC 6749 section 5.1)", name)
		}
	}
	return cmp.Or(
		checkLifetime("access_token_lifetime", o.AccessTokenLifetime, 0, maxLifetime),
		checkLifetime("refresh_token_lifetime", o.RefreshTokenLifetime, 0, maxLifetime),
		checkLifetime("auth_code_lifetime", o.AuthCodeLifetime, 0, maxCodeLifetime),
	)
}

// FOS is the profile of FOSOAuthServerBundle with oauth2-php. The options must have
// passed Check.
func FOS(o FOSOptions) *issuer.Profile {
	policy := issuer.Policy{
		AccessTokenLifetime:  lifetime(cmp.Or(o.AccessTokenLifetime, 3600)),
		RefreshTokenLifetime: lifetime(cmp.Or(o.RefreshTokenLifetime, 14*24*3600)),
		CodeLifetime:         lifetime(cmp.Or(o.AuthCodeLifetime, 30)),
		Rotation:             issuer.RotateAlways,
		Format:               issuer.FormatOpaque,
		PKCE:                 pkce(o.Unsafe),
	}
	if slices.Contains(o.Unsafe, issuer.UnsafeRedirectPrefix) {
		policy.Redirects = issuer.RedirectPrefix
	}
	header := http.Header{"Cache-Control": {"no-store, private"}} // Symfony adds the second
	for name, value := range o.ResponseExtraHeaders {
		header.Set(name, value)
	}
	return &issuer.Profile{
		Name: NameFOS, TokenPath: "/oauth/v2/token", AuthorizePath: "/oauth/v2/auth", Policy: policy,

		QueryRequests: true, MultipartRequests: true, BasicWins: true, AnySecret: true,
		GrantTypes: regexp.MustCompile(`^(authorization_code|password|client_credentials|refresh_token|https?://.+|urn:.+)$`),
		ScopeLast:  true,

		WithoutScope:  o.withoutScope,
		NarrowForGood: true, RefreshTokenAlways: true, WholeSeconds: true,

		Fields:    []string{"access_token", "expires_in", "token_type", "scope", "refresh_token"},
		TokenType: cmp.Or(o.TokenType, "bearer"),
		NullScope: true, Header: header, NullDescription: true, EscapeJSON: true,
		Errors: fosErrors(), CodeErrors: fosCodeErrors(),

		RequireState: o.EnforceState, RequireRedirect: or(o.EnforceRedirect, true),
		RedirectFields: []string{"state", "code"},
		ErrorFields:    []string{"error", "error_description", "state"},
		RedirectStatus: http.StatusFound, ErrorsAsJSON: true,
		Implicit:       slices.Contains(o.Unsafe, issuer.UnsafeImplicit),
		FragmentErrors: []issuer.Cause{issuer.CauseResponseTypeImplicit, issuer.CauseOwnerDenied},

		Resource: fosResource(cmp.Or(o.Realm, "Service")),
	}
}

// withoutScope is all that is supported for a token, and nothing for a code.
func (o FOSOptions) withoutScope(grantType string, allowed oauth.Scope) (oauth.Scope, bool) {
	switch {
	case grantType == "":
		return nil, true
	case len(o.SupportedScopes) == 0:
		return allowed, true
	}
	return within(o.SupportedScopes, allowed), true
}

func fosErrors() table {
	t := table{}
	t.tell(oauth.InvalidRequest, "Invalid grant_type parameter or parameter missing", issuer.CauseGrantTypeMissing, issuer.CauseContentType)
	t.tell(oauth.InvalidClient, "Client id was not found in the headers or body", issuer.CauseClientMissing)
	t.tell(oauth.InvalidClient, "The client credentials are invalid", issuer.CauseClientUnknown, issuer.CauseClientSecretWrong, issuer.CauseClientSecretMissing)
	t.tell(oauth.InvalidClient, `The client_secret is mandatory for the "client_credentials" grant type`, issuer.CauseClientPublic)
	t.tell(oauth.UnsupportedGrantType, "", issuer.CauseGrantTypeUnknown)
	t.tell(oauth.UnauthorizedClient, "The grant type is unauthorized for this client_id", issuer.CauseGrantTypeForbidden, issuer.CauseResponseTypeForbidden)
	t.tell(oauth.InvalidScope, "An unsupported scope was requested.",
		issuer.CauseScopeSyntax, issuer.CauseScopeExceeded, issuer.CauseScopeForbidden, issuer.CauseScopeUnknown)

	t.tell(oauth.InvalidRequest, `No "refresh_token" parameter found`, issuer.CauseRefreshTokenMissing)
	t.tell(oauth.InvalidGrant, "Invalid refresh token", issuer.CauseTokenForged, issuer.CauseGrantUnknown, issuer.CauseGrantRevoked,
		issuer.CauseRefreshTokenSpent, issuer.CauseRefreshTokenReused, issuer.CauseOtherClient)
	t.tell(oauth.InvalidGrant, "Refresh token has expired", issuer.CauseRefreshTokenExpired, issuer.CauseGrantEnded)
	t.tell(oauth.InvalidRequest, `Missing parameters. "username" and "password" required`, issuer.CauseLoginMissing)
	t.tell(oauth.InvalidGrant, "Invalid username and password combination", issuer.CauseCredentialsWrong)

	t.tell(oauth.InvalidRequest, "No client id supplied", issuer.CauseAuthorizeClient)
	t.tell(oauth.InvalidClient, "Unknown client", issuer.CauseAuthorizeUnknownClient)
	t.tell(redirectMismatch, "The redirect URI provided does not match registered URI(s).", issuer.CauseAuthorizeRedirect, issuer.CauseAuthorizeRedirectFragment)
	t.tell(redirectMismatch, "No redirect URL was supplied or registered.", issuer.CauseAuthorizeRedirectNone)
	t.tell(redirectMismatch, "No redirect URL was supplied and more than one is registered.", issuer.CauseAuthorizeRedirectAmbiguous)
	t.tell(redirectMismatch, "The redirect URI is mandatory and was not supplied.", issuer.CauseAuthorizeRedirectMissing)
	t.tell(oauth.InvalidRequest, "Invalid response type.", issuer.CauseResponseTypeMissing)
	t.tell(oauth.UnsupportedResponseType, "", issuer.CauseResponseTypeUnknown, issuer.CauseResponseTypeImplicit)
	t.tell(oauth.InvalidRequest, "The state parameter is required.", issuer.CauseStateMissing)
	t.tell(oauth.AccessDenied, "The user denied access to your application", issuer.CauseOwnerDenied)
	return t
}

// redirectMismatch is an error code of both libraries.
const redirectMismatch = "redirect_uri_mismatch"

func fosCodeErrors() table {
	t := table{}
	t.tell(oauth.InvalidRequest, `Missing parameter. "code" is required`, issuer.CauseCodeMissing)
	t.tell(oauth.InvalidRequest, "The redirect URI parameter is required.", issuer.CauseRedirectMissing)
	t.tell(redirectMismatch, "The redirect URI is missing or do not match", issuer.CauseRedirectMismatch)
	t.tell(oauth.InvalidGrant, "Code doesn't exist or is invalid for the client", issuer.CauseTokenForged, issuer.CauseGrantUnknown,
		issuer.CauseGrantRevoked, issuer.CauseCodeReplayed, issuer.CauseCodeBinding, issuer.CauseCodeClient, issuer.CauseOtherClient)
	t.tell(oauth.InvalidGrant, "The authorization code has expired", issuer.CauseCodeExpired, issuer.CauseGrantEnded)
	return t
}

func fosResource(realm string) *issuer.Resource {
	refused := func(status int, code, description string) oauth.Error {
		return oauth.Error{Code: code, Description: description, Status: status}
	}
	return &issuer.Resource{
		Realm: realm, Form: true, Query: true,
		Fields: []string{"error", "error_description", "scope"}, ScopeAlways: true,
		Missing: refused(http.StatusUnauthorized, oauth.AccessDenied, "OAuth2 authentication required"),
		Empty: refused(http.StatusBadRequest, oauth.InvalidRequest, "The request is missing a required parameter, includes an unsupported parameter or parameter value, "+
			"repeats the same parameter, uses more than one method for including an access token, or is otherwise malformed."),
		Several: refused(http.StatusBadRequest, oauth.InvalidRequest, "Only one method may be used to authenticate at a time (Auth header, GET or POST)."),
		Unknown: refused(http.StatusUnauthorized, oauth.InvalidGrant, "The access token provided is invalid."),
		Expired: refused(http.StatusUnauthorized, oauth.InvalidGrant, "The access token provided has expired."),
		Scope:   refused(http.StatusForbidden, oauth.InvalidScope, "The request requires higher privileges than provided by the access token."),
	}
}
