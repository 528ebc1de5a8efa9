package oauth

import (
	"fmt"
	"log/slog"
)

// TokenResponse is a successful answer of the token endpoint (RFC 6749 section
// 5.1). It prints and is logged without its tokens; only its JSON form has them.
// (An unexported field of another struct is beyond the reach of Format: do not
// keep one there.)
type TokenResponse struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"` // seconds
	RefreshToken string `json:"refresh_token,omitempty"`
	Scope        string `json:"scope,omitempty"` // told whether or not it differs from what was asked; absent where it is empty, which RFC 6749 section 3.3 cannot write
	// RefreshTokenExpiresIn is the refresh token's idle lifetime in seconds; 0
	// and absent if it does not expire.
	RefreshTokenExpiresIn int64 `json:"refresh_token_expires_in,omitempty"`
	// RefreshTokenTimeout and AuthorizationExpiresIn are the names of
	// draft-ietf-oauth-refresh-token-expiration for the idle lifetime and for
	// the absolute end of the grant, in seconds.
	RefreshTokenTimeout    int64 `json:"refresh_token_timeout,omitempty"`
	AuthorizationExpiresIn int64 `json:"authorization_expires_in,omitempty"`
	// Subject is the resource owner, where there is one. The client is not told.
	Subject string `json:"-"`
}

// Format prints the answer without its tokens, whatever the verb.
func (t TokenResponse) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "token response (scope %q, expires in %d s)", t.Scope, t.ExpiresIn)
}

// LogValue is what Format prints, for handlers that log in JSON.
func (t TokenResponse) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(t)) }

// Introspection is the answer of the introspection endpoint (RFC 7662 section
// 2.2). For a token that is not active only Active is set.
type Introspection struct {
	Active    bool     `json:"active"`
	Scope     string   `json:"scope,omitempty"`
	ClientID  string   `json:"client_id,omitempty"`
	Username  string   `json:"username,omitempty"`
	TokenType string   `json:"token_type,omitempty"`
	ExpiresAt int64    `json:"exp,omitempty"` // seconds since the epoch
	IssuedAt  int64    `json:"iat,omitempty"` // seconds since the epoch
	NotBefore int64    `json:"nbf,omitempty"` // seconds since the epoch
	Subject   string   `json:"sub,omitempty"`
	Audience  []string `json:"aud,omitempty"`
	Issuer    string   `json:"iss,omitempty"`
	ID        string   `json:"jti,omitempty"`
}
