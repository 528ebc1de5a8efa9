package evergrant

import (
	"context"
	"encoding/json"
	"iter"
	"net/url"
	"time"

	"github.com/evergrant/evergrant/oauth"
)

// Provider is a third-party authorization server at which an app of the
// operator is registered. Lifetimes that are "" are not known, and "0" is none.
type Provider struct {
	Name       string                   `json:"name"`       // of the registration
	Definition string                   `json:"definition"` // name of what is known of it
	Title      string                   `json:"title"`      // for people
	Docs       string                   `json:"docs,omitempty"`
	NeedsOwner bool                     `json:"needs_owner"` // connections begin with the owner's consent
	Scopes     oauth.Scope              `json:"scopes,omitempty"`
	Params     map[string]ProviderParam `json:"params,omitempty"`
	APIBaseURL string                   `json:"api_base_url,omitempty"` // below which /v1/proxy calls

	Rotation            string `json:"refresh_token_rotation"`  // none, fixed, rotating or single_use
	ReplayWindow        string `json:"replay_window,omitempty"` // for which a spent refresh token still works
	Remints             bool   `json:"remints"`                 // gets new tokens without owner and refresh token
	AccessTokenLifetime string `json:"access_token_lifetime,omitempty"`
	RefreshTokenIdle    string `json:"refresh_token_idle_lifetime,omitempty"`
	GrantLifetime       string `json:"grant_lifetime,omitempty"`

	State       string                  `json:"state"` // up, down, bad_client or bad_definition
	Since       time.Time               `json:"since,omitzero"`
	Detail      string                  `json:"detail,omitempty"`
	Connections map[string]int          `json:"connections"`     // by state; for the operator
	Facts       map[string]ProviderFact `json:"facts,omitempty"` // how behaviours are known, by field of the definition; of one provider only
}

// ProviderParam is a value that differs between a provider's connections.
type ProviderParam struct {
	Title   string `json:"title,omitempty"`
	Pattern string `json:"pattern,omitempty"` // regular expression for the whole value
	Default string `json:"default,omitempty"`
	From    string `json:"from,omitempty"` // where the provider tells it; "" where whoever connects does
}

// ProviderFact says how a behaviour is known.
type ProviderFact struct {
	Known  string `json:"known"`  // read or believed
	Source string `json:"source"` // URL of the document, or where it was seen
	Note   string `json:"note,omitempty"`
}

// Providers are all providers, by name.
func (c *Client) Providers(ctx context.Context) ([]Provider, error) {
	answer, err := get[page[Provider]](ctx, c, "/v1/providers")
	return answer.Items, err
}

// Provider is the provider with a name.
func (c *Client) Provider(ctx context.Context, name string) (Provider, error) {
	return get[Provider](ctx, c, "/v1/providers/"+url.PathEscape(name))
}

// Delivery is one event on its way to one webhook.
type Delivery struct {
	ID        int64           `json:"id"`   // grows
	Hook      string          `json:"hook"` // name of the webhook
	Event     int64           `json:"event"`
	Type      string          `json:"type"`
	Body      json.RawMessage `json:"body"`
	CreatedAt time.Time       `json:"created_at"`
	Attempts  int             `json:"attempts"`
	NextAt    time.Time       `json:"next_at,omitzero"` // zero when delivered or given up
	DoneAt    time.Time       `json:"done_at,omitzero"` // delivered; zero otherwise
	Status    int             `json:"status,omitempty"` // of the last answer; 0 where none came
	Error     string          `json:"error,omitempty"`  // of the last attempt
}

// Deliveries are the deliveries to webhooks, newest first. An error ends the
// sequence.
func (c *Client) Deliveries(ctx context.Context) iter.Seq2[Delivery, error] {
	return list[Delivery](ctx, c, "/v1/webhooks/deliveries", url.Values{})
}
