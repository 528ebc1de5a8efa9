package provider

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// Kind is what a request to a provider asks for.
type Kind string

// The kinds.
const (
	Exchange          Kind = "exchange" // of an authorization code
	Refresh           Kind = "refresh"
	ClientCredentials Kind = "client_credentials"
	Reminting         Kind = "remint"
)

// Call is one request for tokens, with what the definition's templates may need.
type Call struct {
	Kind         Kind
	Secret       int // which of the client secrets
	Params       map[string]string
	Owner        string
	Scope        oauth.Scope // p.Scopes() where nil
	AccessToken  secret.Text
	RefreshToken secret.Text
	Code         secret.Text
	CodeVerifier secret.Text
}

// Answer is what a provider answered, before it is read. It is what a journal
// keeps, sealed, and holds tokens: it prints and is logged as its status and
// length. (An unexported field of another struct is beyond the reach of Format:
// do not keep one there.)
type Answer struct {
	Status      int       `json:"status"`
	ContentType string    `json:"content_type,omitempty"`
	RetryAfter  string    `json:"retry_after,omitempty"`
	Date        string    `json:"date,omitempty"`
	Body        []byte    `json:"body,omitempty"`
	Cut         bool      `json:"cut,omitempty"` // the body broke off, or is longer than is read
	SentAt      time.Time `json:"sent_at"`       // from which lifetimes count
	Kind        Kind      `json:"kind"`
	// Sent are the secrets that were sent for it, of which some providers' errors
	// quote: Read keeps them out of its own.
	Sent []string `json:"sent,omitempty"`
}

// Format prints the status and length of an answer, whatever the verb.
func (a Answer) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "answer with status %d and %d bytes", a.Status, len(a.Body))
	if a.Cut {
		fmt.Fprint(f, ", broken off")
	}
}

// LogValue is what Format prints, for handlers that log in JSON.
func (a Answer) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(a)) }

// Tokens is what a token answer gives.
type Tokens struct {
	AccessToken      secret.Text // empty where the answer only says that the old ones live on (Response.Prolongs)
	RefreshToken     secret.Text // empty where the answer has none
	TokenType        string      // as the provider writes it; "" where it does not
	Scope            oauth.Scope // as granted; nil where the answer does not tell
	ExpiresAt        time.Time   // of the access token; zero where it never expires or nobody knows
	RefreshExpiresAt time.Time   // of the refresh token unless it is used; zero as above
	Params           map[string]string
	Kept             map[string]any         // metadata, by name
	Extra            map[string]secret.Text // further access tokens, by name
	Salvaged         bool                   // read from an answer that broke off
}
