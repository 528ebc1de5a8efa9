package evergrant

import (
	"context"
	"encoding/json"
	"time"

	"github.com/evergrant/evergrant/secret"
)

// ImportBatch is a part of what another authorization server has, for
// [Client.Import]. Batches with clients come before those with their tokens.
type ImportBatch struct {
	Source  string         // names the other server, the same at each run
	Profile string         // of the clients that are created; the server's where empty
	DryRun  bool           // count what would be done, and do nothing
	Revive  bool           // take refresh tokens, too, that may have ended on the server since an earlier import
	Clients []ImportClient // at most 1,000 of each in one batch
	Users   []ImportUser
	Tokens  []ImportToken
}

// ImportClient is a client of the other server. One with neither Secret nor
// Verifier is public.
type ImportClient struct {
	ID, Name     string
	Secret       secret.Text     // in clear, as many servers keep it
	Verifier     secret.Verifier // or what that server verifies it with, see [secret.ForeignVerifier]
	RedirectURIs []string
	GrantTypes   []string
	Scope        string
	Trusted      bool // no consent page
}

// ImportUser is a user of the other server.
type ImportUser struct {
	Username string
	Password secret.Verifier
	Info     json.RawMessage // a JSON object that a profile's token answers show, or nil
}

// ImportToken is a refresh or access token of the other server, in clear.
type ImportToken struct {
	Access    bool // an access token
	Token     secret.Text
	ClientID  string
	Subject   string    // user name; "" for a token of the client itself
	Scope     string    // space-separated
	IssuedAt  time.Time // zero where it is not known
	ExpiresAt time.Time // zero for a refresh token that never does
}

// ImportReport says what became of a batch. Counts of a dry run are of what would
// be done.
type ImportReport struct {
	Clients ImportCount  `json:"clients"`
	Users   ImportCount  `json:"users"`
	Tokens  ImportCount  `json:"tokens"`
	Skipped []ImportSkip `json:"skipped"`
	// IDs are the ids of the tokens' grants, in the order of the tokens, those that
	// were skipped among them; "" for an empty token.
	IDs []string `json:"ids"`
	// UnknownScopes are scopes of clients and tokens that the server's
	// configuration does not have. Who has them keeps them; nobody else gets them.
	UnknownScopes []string  `json:"unknown_scopes"`
	At            time.Time `json:"at"` // by the server's clock
}

// ImportCount counts what became of rows of a kind. The names in Kept are of those
// that were changed on the server since they were imported, or that it had before.
type ImportCount struct {
	Created   int      `json:"created"`
	Updated   int      `json:"updated"`
	Unchanged int      `json:"unchanged"`
	Kept      []string `json:"kept"`
}

// ImportSkip is something that was not imported, or not all of it.
type ImportSkip struct {
	Kind   string `json:"kind"` // client, user or token
	Name   string `json:"name"` // its id or name; of a token its client and user
	Reason string `json:"reason"`
	Part   bool   `json:"part"` // the rest of it was imported
}

// Import takes a batch over from another server, whose tokens go on here. The same
// batch again changes nothing, so that it can be sent again where no answer came.
func (c *Client) Import(ctx context.Context, batch ImportBatch) (ImportReport, error) {
	var report ImportReport
	err := c.call(ctx, "POST", "/v1/import", batch.wire(), &report)
	return report, err
}

// ImportGone asks which tokens of a client the other server has no longer: those
// whose grants have ids above After, up to and with Until (to the end where it is
// ""), and are not among Live.
type ImportGone struct {
	Source   string    `json:"source"`
	ClientID string    `json:"client_id"`
	After    string    `json:"after,omitempty"`
	Until    string    `json:"until,omitempty"`
	Live     []string  `json:"live"`    // at most 1,000, see [ImportReport]
	ReadAt   time.Time `json:"read_at"` // when the other server was read, by the clock of this one
	DryRun   bool      `json:"dry_run"` // count only
}

// ImportedGone counts grants.
type ImportedGone struct {
	Imported int `json:"imported"` // live, and not refreshed on the server yet
	Revoked  int `json:"revoked"`  // of them, since the other server has their token no longer
}

// ImportGone revokes imported grants whose token the other server has no longer:
// somebody has used or revoked it there. Grants that were refreshed since they
// were imported are spared.
func (c *Client) ImportGone(ctx context.Context, gone ImportGone) (ImportedGone, error) {
	var report ImportedGone
	err := c.call(ctx, "POST", "/v1/import/gone", gone, &report)
	return report, err
}

// wire is the batch as it is sent: the one place where its secrets are in clear.
func (b ImportBatch) wire() any {
	type client struct {
		ID           string   `json:"id"`
		Name         string   `json:"name,omitempty"`
		Secret       string   `json:"secret,omitempty"`
		Verifier     string   `json:"verifier,omitempty"`
		RedirectURIs []string `json:"redirect_uris,omitempty"`
		GrantTypes   []string `json:"grant_types,omitempty"`
		Scope        string   `json:"scope,omitempty"`
		Trusted      bool     `json:"trusted,omitempty"`
	}
	type user struct {
		Username string          `json:"username"`
		Password string          `json:"password"`
		Info     json.RawMessage `json:"info,omitempty"`
	}
	type token struct {
		Access    bool      `json:"access,omitempty"`
		Token     string    `json:"token"`
		ClientID  string    `json:"client_id"`
		Subject   string    `json:"subject,omitempty"`
		Scope     string    `json:"scope,omitempty"`
		IssuedAt  time.Time `json:"issued_at,omitzero"`
		ExpiresAt time.Time `json:"expires_at,omitzero"`
	}
	body := struct {
		Source  string   `json:"source"`
		Profile string   `json:"profile,omitempty"`
		DryRun  bool     `json:"dry_run"`
		Revive  bool     `json:"revive,omitempty"`
		Clients []client `json:"clients,omitempty"`
		Users   []user   `json:"users,omitempty"`
		Tokens  []token  `json:"tokens,omitempty"`
	}{Source: b.Source, Profile: b.Profile, DryRun: b.DryRun, Revive: b.Revive}
	for _, c := range b.Clients {
		body.Clients = append(body.Clients, client{c.ID, c.Name, c.Secret.Reveal(), string(c.Verifier), c.RedirectURIs, c.GrantTypes, c.Scope, c.Trusted})
	}
	for _, u := range b.Users {
		body.Users = append(body.Users, user{u.Username, string(u.Password), u.Info})
	}
	for _, t := range b.Tokens {
		body.Tokens = append(body.Tokens, token{t.Access, t.Token.Reveal(), t.ClientID, t.Subject, t.Scope, t.IssuedAt, writable(t.ExpiresAt)})
	}
	return body
}

// writable is a time that JSON can have: one after the year 9999 is its end.
func writable(t time.Time) time.Time {
	if last := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC); t.After(last) {
		return last
	}
	return t
}
