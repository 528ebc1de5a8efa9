package evergrant

import (
	"context"
	"iter"
	"net/url"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// Connection is one owner's grant at one provider, which the keeper keeps
// fresh. A zero time means never, or not yet.
type Connection struct {
	ID         string            `json:"id"`
	Provider   string            `json:"provider"`
	Tenant     string            `json:"tenant,omitempty"`
	Owner      string            `json:"owner,omitempty"`
	State      string            `json:"state"`           // active, in_doubt, reauthorize or paused
	Cause      string            `json:"cause,omitempty"` // why it is in its state, such as revoked
	Since      time.Time         `json:"since"`           // when the state began
	Background string            `json:"background,omitempty"`
	Params     map[string]string `json:"params,omitempty"`
	Metadata   map[string]any    `json:"metadata,omitempty"` // kept from the provider's answers
	Scope      oauth.Scope       `json:"scope,omitempty"`    // as granted
	Asked      oauth.Scope       `json:"asked,omitempty"`    // as asked for, where it differs
	TokenType  string            `json:"token_type,omitempty"`

	Generation       uint64    `json:"generation"` // how many times its tokens have been renewed
	IssuedAt         time.Time `json:"issued_at,omitzero"`
	ExpiresAt        time.Time `json:"expires_at,omitzero"`         // of the access token
	RefreshExpiresAt time.Time `json:"refresh_expires_at,omitzero"` // unless it is used
	EndsAt           time.Time `json:"ends_at,omitzero"`            // whatever is used
	Refreshable      bool      `json:"refreshable"`                 // can be renewed without its owner

	DueAt      time.Time `json:"due_at,omitzero"`       // when the keeper looks at it next
	Attempt    int       `json:"attempt,omitempty"`     // failed ones since the last success
	ErrorClass string    `json:"error_class,omitempty"` // of the last attempt; "" after a success
	Error      string    `json:"error,omitempty"`

	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// The states of connections.
const (
	ConnectionActive      = "active"      // its tokens are kept fresh
	ConnectionInDoubt     = "in_doubt"    // nobody knows whether its refresh token was spent; its access token is served while it lives
	ConnectionReauthorize = "reauthorize" // its owner is needed
	ConnectionPaused      = "paused"      // by an operator or the application
)

// ConnectionFilter chooses connections; empty fields choose all.
type ConnectionFilter struct {
	Provider string
	Owner    string
	State    string
	Tenant   string
}

// NewConnection is a connection that is made of tokens which somebody has
// already.
type NewConnection struct {
	ID         string // made by the server where ""
	Provider   string
	Tenant     string
	Owner      string
	Params     map[string]string
	Metadata   map[string]any
	Background string // always (also where "") or on_demand
	Tokens     Tokens
}

// Tokens are what a provider's token endpoint answered. They may be empty for a
// provider whose grant needs no owner.
type Tokens struct {
	AccessToken  secret.Text
	RefreshToken secret.Text
	TokenType    string
	Scope        oauth.Scope
	// ExpiresAt is when the access token expires. Where nobody knows it is zero,
	// and the token is refreshed at once.
	ExpiresAt        time.Time
	RefreshExpiresAt time.Time // zero where nobody knows
}

// fields are the members of a request.
func (t Tokens) fields() map[string]any {
	fields := map[string]any{}
	for name, value := range map[string]string{
		"access_token": t.AccessToken.Reveal(), "refresh_token": t.RefreshToken.Reveal(),
		"token_type": t.TokenType, "scope": t.Scope.String(),
	} {
		if value != "" {
			fields[name] = value
		}
	}
	if !t.ExpiresAt.IsZero() {
		fields["expires_at"] = t.ExpiresAt
	}
	if !t.RefreshExpiresAt.IsZero() {
		fields["refresh_token_expires_at"] = t.RefreshExpiresAt
	}
	return fields
}

// Connections are connections in the order of their ids. An error ends the
// sequence.
func (c *Client) Connections(ctx context.Context, filter ConnectionFilter) iter.Seq2[Connection, error] {
	return list[Connection](ctx, c, "/v1/connections", query("provider", filter.Provider, "owner", filter.Owner,
		"state", filter.State, "tenant", filter.Tenant))
}

// Connection is the connection with an id.
func (c *Client) Connection(ctx context.Context, id string) (Connection, error) {
	return get[Connection](ctx, c, connectionPath(id, ""))
}

func connectionPath(id, action string) string {
	return "/v1/connections/" + url.PathEscape(id) + action
}

// CreateConnection makes a connection of tokens. An id that is taken gives a
// *Problem with status 409.
func (c *Client) CreateConnection(ctx context.Context, in NewConnection) (Connection, error) {
	request := map[string]any{"provider": in.Provider, "tokens": in.Tokens.fields()}
	for name, value := range map[string]string{"id": in.ID, "tenant": in.Tenant, "owner": in.Owner, "background": in.Background} {
		if value != "" {
			request[name] = value
		}
	}
	if len(in.Params) > 0 {
		request["params"] = in.Params
	}
	if len(in.Metadata) > 0 {
		request["metadata"] = in.Metadata
	}
	var made Connection
	err := c.call(ctx, "POST", "/v1/connections", request, &made)
	return made, err
}

// Refresh renews the tokens of a connection now. evenInDoubt sends a refresh
// token that may have been spent already, at which some providers end the
// grant. The error is as that of [Client.AccessToken].
func (c *Client) Refresh(ctx context.Context, id string, evenInDoubt bool) (Connection, error) {
	return c.change(ctx, connectionPath(id, "/refresh"), map[string]bool{"even_in_doubt": evenInDoubt})
}

// Pause stops all work on a connection. Its tokens are kept and not told.
func (c *Client) Pause(ctx context.Context, id string) (Connection, error) {
	return c.change(ctx, connectionPath(id, "/pause"), nil)
}

// Resume ends a pause.
func (c *Client) Resume(ctx context.Context, id string) (Connection, error) {
	return c.change(ctx, connectionPath(id, "/resume"), nil)
}

func (c *Client) change(ctx context.Context, path string, in any) (Connection, error) {
	var changed Connection
	err := c.call(ctx, "POST", path, in, &changed)
	return changed, err
}

// Deleted is what came of deleting a connection.
type Deleted struct {
	Revoked bool   `json:"revoked"`           // at the provider
	Problem string `json:"problem,omitempty"` // why not
}

// DeleteConnection revokes a connection at its provider, where that is possible,
// and removes it, whether it was revoked or not.
func (c *Client) DeleteConnection(ctx context.Context, id string) (Deleted, error) {
	var deleted Deleted
	err := c.call(ctx, "DELETE", connectionPath(id, ""), nil, &deleted)
	return deleted, err
}

// History is what happened to a connection, newest first. An error ends the
// sequence.
func (c *Client) History(ctx context.Context, id string) iter.Seq2[Event, error] {
	return list[Event](ctx, c, connectionPath(id, "/history"), url.Values{})
}

// Connect asks for a page on which an owner connects, or reconnects.
type Connect struct {
	Provider   string            `json:"provider"`
	Tenant     string            `json:"tenant,omitempty"`
	Owner      string            `json:"owner,omitempty"`
	Connection string            `json:"connection,omitempty"` // the one to repair, or the id of the new one; made where ""
	Params     map[string]string `json:"params,omitempty"`
	ReturnURL  string            `json:"return_url,omitempty"` // where the browser goes afterwards
}

// ConnectSession is a page on which an owner connects.
type ConnectSession struct {
	URL        string    `json:"url"`
	ExpiresAt  time.Time `json:"expires_at"`
	Connection string    `json:"connection"` // its id, which a new connection has from then on
}

// ConnectSession makes a page on which an owner connects, to which a browser is
// sent.
func (c *Client) ConnectSession(ctx context.Context, in Connect) (ConnectSession, error) {
	var session ConnectSession
	err := c.call(ctx, "POST", "/v1/connect-sessions", in, &session)
	return session, err
}

// Token is a live access token of a connection.
type Token struct {
	AccessToken secret.Text `json:"access_token"`
	TokenType   string      `json:"token_type"`
	ExpiresAt   time.Time   `json:"expires_at,omitzero"` // zero where it never expires or nobody knows
	Scope       string      `json:"scope,omitempty"`     // separated by spaces
}

// TokenOptions are what is asked of a token. The zero value asks for one that
// lives.
type TokenOptions struct {
	MinTTL time.Duration // how long it must live at least; whole milliseconds
	Force  bool          // refreshes even a fresh token
}

// AccessToken gives a live access token of a connection; the server refreshes
// it where it must. The error is a *[ReauthorizationError] where the owner is
// needed, and a *[Problem] with status 503 where trying again later helps.
func (c *Client) AccessToken(ctx context.Context, id string, o TokenOptions) (Token, error) {
	values := url.Values{}
	if o.MinTTL > 0 {
		values.Set("min_ttl", oauth.Lifetime(o.MinTTL.Round(time.Millisecond)).String())
	}
	if o.Force {
		values.Set("force", "true")
	}
	path := connectionPath(id, "/token")
	if len(values) > 0 {
		path += "?" + values.Encode()
	}
	return get[Token](ctx, c, path)
}
