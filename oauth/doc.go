// Package oauth is the vocabulary that both halves of Evergrant share: grant
// types, requests and answers, errors with their codes and statuses, scopes,
// PKCE, client authentication forms, redirect URI matching and server metadata.
//
// Nothing here does I/O, reads a clock or keeps state. Each name carries the
// section of the RFC that defines it.
package oauth

// Grant types (RFC 6749 sections 4.1.3, 4.3.2, 4.4.2 and 6).
const (
	GrantAuthorizationCode = "authorization_code"
	GrantClientCredentials = "client_credentials"
	GrantPassword          = "password"
	GrantImplicit          = "implicit" // section 4.2; of a client's registration (RFC 7591 section 2), never of a token request
	GrantRefreshToken      = "refresh_token"
)

// Client authentication methods (RFC 7591 section 2).
const (
	AuthBasic = "client_secret_basic"
	AuthPost  = "client_secret_post"
	AuthNone  = "none"
)

// Token types of access tokens (RFC 6750) and of token type hints (RFC 7009
// section 2.1).
const (
	Bearer           = "Bearer"
	HintAccessToken  = "access_token"
	HintRefreshToken = "refresh_token"
)

// FormType is the media type of token, revocation and introspection requests
// (RFC 6749 appendix B).
const FormType = "application/x-www-form-urlencoded"
