package issuer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/evergrant/evergrant/oauth"
)

// Refusal is a decision of this package to refuse a request. The table below
// says what the client is told.
type Refusal struct {
	Cause Cause
	// Detail replaces the table's description where the request itself says
	// what to mend. It is shown to the client.
	Detail string
	// RetryAfter is set for throttled requests.
	RetryAfter time.Duration
}

// Error is the cause and its detail, for logs.
func (r *Refusal) Error() string {
	if r.Detail != "" {
		return string(r.Cause) + ": " + r.Detail
	}
	return string(r.Cause)
}

func refuse(cause Cause) *Refusal { return &Refusal{Cause: cause} }

func refuseBecause(cause Cause, format string, args ...any) *Refusal {
	return &Refusal{Cause: cause, Detail: oauth.Legal(fmt.Sprintf(format, args...))}
}

// refusals is the one table from causes to OAuth errors (RFC 6749 section 5.2).
// The descriptions do not tell apart a token that never was from one that is
// no longer good, except by its holder's own doing.
var refusals = map[Cause]oauth.Error{
	CauseBadRequest:          {Code: oauth.InvalidRequest},
	CauseMethod:              {Code: oauth.InvalidRequest, Description: "Use POST.", Status: http.StatusMethodNotAllowed},
	CauseRevocationMethod:    {Code: oauth.InvalidRequest, Description: "Use POST.", Status: http.StatusMethodNotAllowed},
	CauseContentType:         {Code: oauth.InvalidRequest, Description: "The Content-Type must be " + oauth.FormType + "."},
	CauseGrantTypeMissing:    {Code: oauth.InvalidRequest, Description: "The parameter grant_type is missing."},
	CauseRefreshTokenMissing: {Code: oauth.InvalidRequest, Description: "The parameter refresh_token is missing."},
	CauseCodeMissing:         {Code: oauth.InvalidRequest, Description: "The parameter code is missing."},
	CauseLoginMissing:        {Code: oauth.InvalidRequest, Description: "The parameters username and password are required."},
	CauseTokenMissing:        {Code: oauth.InvalidRequest, Description: "The parameter token is missing."},
	CauseTokenHint:           {Code: oauth.UnsupportedTokenType, Description: "The token_type_hint must be access_token or refresh_token."},
	CauseRedirectMissing:     {Code: oauth.InvalidGrant, Description: "The redirect_uri or the code_verifier does not match the authorization request, or the code was issued to another client."},
	CauseRedirectMismatch:    {Code: oauth.InvalidGrant, Description: "The redirect_uri or the code_verifier does not match the authorization request, or the code was issued to another client."},
	CauseVerifierMissing:     {Code: oauth.InvalidGrant, Description: "The parameter code_verifier is missing (RFC 7636)."},
	CauseVerifierSyntax:      {Code: oauth.InvalidGrant, Description: "The code_verifier must be 43 to 128 characters of A-Z a-z 0-9 - . _ ~ (RFC 7636 section 4.1)."},
	CauseVerifierMismatch:    {Code: oauth.InvalidGrant, Description: "The redirect_uri or the code_verifier does not match the authorization request, or the code was issued to another client."},
	CauseClientMissing:       {Code: oauth.InvalidClient, Description: "The request names no client. Send client_id and client_secret by HTTP Basic or in the body."},
	CauseClientUnknown:       {Code: oauth.InvalidClient, Description: "Unknown client or wrong client secret."},
	CauseClientSecretWrong:   {Code: oauth.InvalidClient, Description: "Unknown client or wrong client secret."},
	CauseClientSecretMissing: {Code: oauth.InvalidClient, Description: "Unknown client or wrong client secret."},
	CauseClientPublic:        {Code: oauth.UnauthorizedClient, Description: "Only clients with a secret may use this grant type."},
	CauseClientAuthMethod:    {Code: oauth.InvalidRequest, Description: "Authenticate the client in one way only."},
	CauseClientThrottled:     {Code: oauth.TemporarilyUnavailable, Description: "Too many failed client authentications from this address. Wait before the next one.", Status: http.StatusTooManyRequests},
	CauseGrantTypeUnknown:    {Code: oauth.UnsupportedGrantType, Description: "The grant type is not supported."},
	CauseGrantTypeForbidden:  {Code: oauth.UnauthorizedClient, Description: "The client is not registered for this grant type."},
	CauseScopeMissing:        {Code: oauth.InvalidScope, Description: "The parameter scope is missing."},
	CauseScopeSyntax:         {Code: oauth.InvalidScope, Description: "The scope contains a character that is not allowed."},
	CauseScopeExceeded:       {Code: oauth.InvalidScope, Description: "The scope exceeds what was granted or what the client may ask for."},
	CauseScopeForbidden:      {Code: oauth.InvalidScope, Description: "The scope exceeds what was granted or what the client may ask for."},
	CauseScopeUnknown:        {Code: oauth.InvalidScope, Description: "The scope exceeds what was granted or what the client may ask for."},
	CauseTokenForged:         {Code: oauth.InvalidGrant, Description: "The token or code is malformed or was not issued by this server."},
	CauseGrantUnknown:        {Code: oauth.InvalidGrant, Description: "The grant has ended. Ask the resource owner again."},
	CauseGrantRevoked:        {Code: oauth.InvalidGrant, Description: "The grant was revoked. Ask the resource owner again."},
	CauseGrantEnded:          {Code: oauth.InvalidGrant, Description: "The grant has ended. Ask the resource owner again."},
	CauseRefreshTokenExpired: {Code: oauth.InvalidGrant, Description: "The refresh token has expired. Ask the resource owner again."},
	CauseRefreshTokenSpent:   {Code: oauth.InvalidGrant, Description: "The refresh token was used before, and the client gets one only. Ask the resource owner again."},
	CauseRefreshTokenReused:  {Code: oauth.InvalidGrant, Description: "The refresh token was used before. The grant is revoked; ask the resource owner again."},
	CauseOtherClient:         {Code: oauth.InvalidGrant, Description: "The token or code was issued to another client."},
	CauseCodeExpired:         {Code: oauth.InvalidGrant, Description: "The authorization code has expired."},
	CauseCodeReplayed:        {Code: oauth.InvalidGrant, Description: "The authorization code was used before. The grant is revoked; ask the resource owner again."},
	CauseCodeBinding:         {Code: oauth.InvalidGrant, Description: "The redirect_uri or the code_verifier does not match the authorization request, or the code was issued to another client."},
	CauseCodeClient:          {Code: oauth.InvalidGrant, Description: "The redirect_uri or the code_verifier does not match the authorization request, or the code was issued to another client."},
	CauseCredentialsWrong:    {Code: oauth.InvalidGrant, Description: "Wrong user name or password."},
	CauseLoginThrottled:      {Code: oauth.TemporarilyUnavailable, Description: "Too many failed sign-ins. Wait before the next one.", Status: http.StatusTooManyRequests},

	CauseAuthorizeClient:            {Code: oauth.InvalidRequest, Description: "The parameter client_id is missing."},
	CauseAuthorizeUnknownClient:     {Code: oauth.InvalidRequest, Description: "The client is not registered here."},
	CauseAuthorizeRedirect:          {Code: oauth.InvalidRequest, Description: "The redirect_uri is not registered for this client. It must be the same to the letter."},
	CauseAuthorizeRedirectFragment:  {Code: oauth.InvalidRequest, Description: "The redirect_uri is not registered for this client. It must be the same to the letter."},
	CauseAuthorizeRedirectMissing:   {Code: oauth.InvalidRequest, Description: "The parameter redirect_uri is missing."},
	CauseAuthorizeRedirectNone:      {Code: oauth.InvalidRequest, Description: "The parameter redirect_uri is missing."},
	CauseAuthorizeRedirectAmbiguous: {Code: oauth.InvalidRequest, Description: "The parameter redirect_uri is missing."},
	CauseResponseTypeMissing:        {Code: oauth.InvalidRequest, Description: "The parameter response_type is missing."},
	CauseResponseTypeUnknown:        {Code: oauth.UnsupportedResponseType, Description: "Only response_type=code is supported."},
	CauseResponseTypeImplicit:       {Code: oauth.UnsupportedResponseType, Description: "Only response_type=code is supported."},
	CauseResponseTypeForbidden:      {Code: oauth.UnauthorizedClient, Description: "The client is not registered for the authorization_code grant."},
	CauseStateMissing:               {Code: oauth.InvalidRequest, Description: "The parameter state is missing."},
	CauseChallengeMissing:           {Code: oauth.InvalidRequest, Description: "The parameter code_challenge is missing (PKCE, RFC 7636)."},
	CauseChallengeMethod:            {Code: oauth.InvalidRequest, Description: "The code_challenge_method must be S256; plain is not accepted."},
	CauseOwnerDenied:                {Code: oauth.AccessDenied, Description: "The resource owner refused."},
}

// protocolError maps any error to what the client is told.
func protocolError(err error) *oauth.Error {
	var protocol *oauth.Error
	var refusal *Refusal
	var params *oauth.ParamsError
	switch {
	case errors.As(err, &protocol):
		return protocol
	case errors.As(err, &params):
		return &oauth.Error{Code: oauth.InvalidRequest, Description: params.Reason}
	case errors.As(err, &refusal):
		told, ok := refusals[refusal.Cause]
		if !ok {
			return &oauth.Error{Code: oauth.ServerError}
		}
		if refusal.Detail != "" {
			told.Description = refusal.Detail
		}
		return &told
	case errors.Is(err, ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &oauth.Error{Code: oauth.TemporarilyUnavailable, Description: "The server cannot answer at the moment. Try again."}
	}
	return &oauth.Error{Code: oauth.ServerError, Description: "The server failed. Its log says why."}
}
