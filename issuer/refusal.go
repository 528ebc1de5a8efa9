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
	CauseClientMissing:       {Code: oauth.InvalidClient, Description: "The request names no client. Send client_id and client_secret by HTTP Basic or in the body."},
	CauseClientUnknown:       {Code: oauth.InvalidClient, Description: "Unknown client or wrong client secret."},
	CauseClientSecretWrong:   {Code: oauth.InvalidClient, Description: "Unknown client or wrong client secret."},
	CauseClientAuthMethod:    {Code: oauth.InvalidRequest, Description: "Authenticate the client in one way only."},
	CauseClientThrottled:     {Code: oauth.TemporarilyUnavailable, Description: "Too many failed client authentications from this address. Wait before the next one.", Status: http.StatusTooManyRequests},
	CauseGrantTypeUnknown:    {Code: oauth.UnsupportedGrantType, Description: "The grant type is not supported."},
	CauseGrantTypeForbidden:  {Code: oauth.UnauthorizedClient, Description: "The client is not registered for this grant type."},
	CauseScopeSyntax:         {Code: oauth.InvalidScope, Description: "The scope contains a character that is not allowed."},
	CauseScopeExceeded:       {Code: oauth.InvalidScope, Description: "The scope exceeds what was granted or what the client may ask for."},
	CauseTokenForged:         {Code: oauth.InvalidGrant, Description: "The token or code is malformed or was not issued by this server."},
	CauseGrantUnknown:        {Code: oauth.InvalidGrant, Description: "The grant has ended. Ask the resource owner again."},
	CauseGrantRevoked:        {Code: oauth.InvalidGrant, Description: "The grant was revoked. Ask the resource owner again."},
	CauseGrantEnded:          {Code: oauth.InvalidGrant, Description: "The grant has ended. Ask the resource owner again."},
	CauseRefreshTokenExpired: {Code: oauth.InvalidGrant, Description: "The refresh token has expired. Ask the resource owner again."},
	CauseRefreshTokenReused:  {Code: oauth.InvalidGrant, Description: "The refresh token was used before. The grant is revoked; ask the resource owner again."},
	CauseOtherClient:         {Code: oauth.InvalidGrant, Description: "The token or code was issued to another client."},
	CauseCodeExpired:         {Code: oauth.InvalidGrant, Description: "The authorization code has expired."},
	CauseCodeReplayed:        {Code: oauth.InvalidGrant, Description: "The authorization code was used before. The grant is revoked; ask the resource owner again."},
	CauseCodeBinding:         {Code: oauth.InvalidGrant, Description: "The redirect_uri or the code_verifier does not match the authorization request, or the code was issued to another client."},
	CauseCredentialsWrong:    {Code: oauth.InvalidGrant, Description: "Wrong user name or password."},
	CauseLoginThrottled:      {Code: oauth.TemporarilyUnavailable, Description: "Too many failed sign-ins. Wait before the next one.", Status: http.StatusTooManyRequests},
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
