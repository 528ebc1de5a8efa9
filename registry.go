package evergrant

import (
	"context"
	"encoding/json"
	"iter"
	"maps"
	"net/url"
	"time"

	"github.com/evergrant/evergrant/secret"
)

// SecretChange says which secret a client gets. The zero value generates one
// for a new confidential client, and changes nothing of an existing client.
type SecretChange struct {
	Set      secret.Text // this one
	Generate bool        // a generated one, which is told once
	// KeepOld lets the old secrets of an existing client authenticate it until
	// a patch of "secrets" to 1 drops all but the newest.
	KeepOld bool
}

// fields are the change's members of a request.
func (s SecretChange) fields() map[string]any {
	fields := map[string]any{}
	if !s.Set.Empty() {
		fields["secret"] = s.Set.Reveal()
	}
	if s.Generate {
		fields["generate_secret"] = true
	}
	if s.KeepOld {
		fields["keep_old_secret"] = true
	}
	return fields
}

// savedClient is the answer to a client's creation or change.
type savedClient struct {
	Client Registration `json:"client"`
	Secret secret.Text  `json:"secret"`
}

// Clients are all registered clients, in the order of their ids. An error ends
// the sequence.
func (c *Client) Clients(ctx context.Context) iter.Seq2[Registration, error] {
	return list[Registration](ctx, c, "/v1/clients", url.Values{})
}

// Client is the registered client with an id.
func (c *Client) Client(ctx context.Context, id string) (Registration, error) {
	return get[Registration](ctx, c, "/v1/clients/"+url.PathEscape(id))
}

// CreateClient registers a client. The secret is returned where the server
// generated it, and can never be read again. An id that is taken gives a
// *Problem with status 409.
func (c *Client) CreateClient(ctx context.Context, client Registration, change SecretChange) (Registration, secret.Text, error) {
	client.Secrets, client.SecretForms, client.ImportedFrom = 0, nil, ""
	client.Declared, client.CreatedAt, client.UpdatedAt = false, time.Time{}, time.Time{}
	request := struct {
		Registration
		Secret   string `json:"secret,omitempty"`
		Generate bool   `json:"generate_secret,omitempty"`
	}{client, change.Set.Reveal(), change.Generate}
	var saved savedClient
	err := c.call(ctx, "POST", "/v1/clients", request, &saved)
	return saved.Client, saved.Secret, err
}

// UpdateClient changes fields of a client: patch is a JSON merge patch (RFC
// 7396) of a [Registration], in which nil resets a field. The secret is
// returned where the server generated it.
func (c *Client) UpdateClient(ctx context.Context, id string, patch map[string]any, change SecretChange) (Registration, secret.Text, error) {
	request := change.fields()
	maps.Copy(request, patch)
	var saved savedClient
	err := c.call(ctx, "PATCH", "/v1/clients/"+url.PathEscape(id), request, &saved)
	return saved.Client, saved.Secret, err
}

// DeleteClient deletes a client and revokes its grants.
func (c *Client) DeleteClient(ctx context.Context, id string) error {
	return c.call(ctx, "DELETE", "/v1/clients/"+url.PathEscape(id), nil, nil)
}

// Habits are what clients rely on that stricter settings would end, in the order
// of the clients' ids; those of one client where an id is given. An error ends
// the sequence.
func (c *Client) Habits(ctx context.Context, clientID string) iter.Seq2[Habit, error] {
	return list[Habit](ctx, c, "/v1/habits", query("client", clientID))
}

// ForgetHabits starts counting anew what a client relies on.
func (c *Client) ForgetHabits(ctx context.Context, clientID string) error {
	return c.call(ctx, "DELETE", "/v1/clients/"+url.PathEscape(clientID)+"/habits", nil, nil)
}

// Users are all users, in the order of their names. An error ends the sequence.
func (c *Client) Users(ctx context.Context) iter.Seq2[User, error] {
	return list[User](ctx, c, "/v1/users", url.Values{})
}

// User is the user with a name.
func (c *Client) User(ctx context.Context, username string) (User, error) {
	return get[User](ctx, c, "/v1/users/"+url.PathEscape(username))
}

// CreateUser adds a user with name and info. A name that is taken gives a
// *Problem with status 409.
func (c *Client) CreateUser(ctx context.Context, user User, password secret.Text) (User, error) {
	request := map[string]any{"username": user.Username, "password": password.Reveal()}
	if len(user.Info) > 0 {
		request["info"] = user.Info
	}
	var created User
	err := c.call(ctx, "POST", "/v1/users", request, &created)
	return created, err
}

// SetPassword replaces a user's password and ends the user's sign-ins. Grants
// live on.
func (c *Client) SetPassword(ctx context.Context, username string, password secret.Text) (User, error) {
	return c.changeUser(ctx, username, map[string]any{"password": password.Reveal()})
}

// SetInfo replaces what a profile's token answers show of a user: a JSON object,
// or nil for nothing.
func (c *Client) SetInfo(ctx context.Context, username string, info json.RawMessage) (User, error) {
	request := map[string]any{"info": nil}
	if len(info) > 0 {
		request["info"] = info
	}
	return c.changeUser(ctx, username, request)
}

func (c *Client) changeUser(ctx context.Context, username string, request map[string]any) (User, error) {
	var user User
	err := c.call(ctx, "PATCH", "/v1/users/"+url.PathEscape(username), request, &user)
	return user, err
}

// DeleteUser deletes a user and revokes the grants that the user gave.
func (c *Client) DeleteUser(ctx context.Context, username string) error {
	return c.call(ctx, "DELETE", "/v1/users/"+url.PathEscape(username), nil, nil)
}
