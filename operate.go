package evergrant

import (
	"context"
	"io"
	"iter"
	"net/url"
	"strconv"
	"time"

	"github.com/evergrant/evergrant/secret"
)

// GrantFilter chooses grants; empty fields choose all.
type GrantFilter struct {
	ClientID string
	Subject  string
}

// EventFilter chooses events; empty fields choose all. Those of the issuer have
// the first three, those of the keeper the next three, and none has both.
type EventFilter struct {
	Grant      string // id
	ClientID   string
	Subject    string
	Connection string // id
	Provider   string
	Tenant     string
	Type       string // a type, or a prefix that ends in a dot: "grant."
}

func (f EventFilter) query() url.Values {
	return query("grant", f.Grant, "client", f.ClientID, "subject", f.Subject,
		"connection", f.Connection, "provider", f.Provider, "tenant", f.Tenant, "type", f.Type)
}

// Grants are grants in the order of their ids. An error ends the sequence.
func (c *Client) Grants(ctx context.Context, filter GrantFilter) iter.Seq2[Grant, error] {
	return list[Grant](ctx, c, "/v1/grants", query("client", filter.ClientID, "subject", filter.Subject))
}

// Grant is the grant with an id.
func (c *Client) Grant(ctx context.Context, id string) (Grant, error) {
	return get[Grant](ctx, c, "/v1/grants/"+url.PathEscape(id))
}

// RevokeGrant revokes a grant and with it all its tokens. One that is revoked
// already is no error.
func (c *Client) RevokeGrant(ctx context.Context, id string) error {
	return c.call(ctx, "DELETE", "/v1/grants/"+url.PathEscape(id), nil, nil)
}

// RevokeGrants revokes all grants that a filter chooses, which must not be empty,
// and counts those that were not revoked already. After an error it can be
// called again.
func (c *Client) RevokeGrants(ctx context.Context, filter GrantFilter) (int, error) {
	var answer struct {
		Revoked int `json:"revoked"`
	}
	err := c.call(ctx, "DELETE", "/v1/grants?"+query("client", filter.ClientID, "subject", filter.Subject).Encode(), nil, &answer)
	return answer.Revoked, err
}

// Events are entries of the audit log, newest first. An error ends the
// sequence.
func (c *Client) Events(ctx context.Context, filter EventFilter) iter.Seq2[Event, error] {
	return list[Event](ctx, c, "/v1/events", filter.query())
}

// Explain says why a grant, token or connection is alive or dead. It takes the
// id of a grant or connection, or a token in clear, which it does not spend.
// Where it is none of them, the *Problem has status 404.
func (c *Client) Explain(ctx context.Context, of secret.Text) (Explanation, error) {
	var explanation Explanation
	err := c.call(ctx, "POST", "/v1/explain", map[string]string{"of": of.Reveal()}, &explanation)
	return explanation, err
}

// Keys are the keys in force, lowest number first.
func (c *Client) Keys(ctx context.Context) ([]Key, error) {
	answer, err := get[page[Key]](ctx, c, "/v1/keys")
	return answer.Items, err
}

// Resealing is how far the keeper is with sealing tokens under the newest key;
// nil where no keeper runs.
func (c *Client) Resealing(ctx context.Context) (*Resealing, error) {
	answer, err := get[struct {
		Resealing *Resealing `json:"resealing"`
	}](ctx, c, "/v1/keys")
	return answer.Resealing, err
}

// RotateKeys adds a key that begins to make tokens after lead, which should
// outlast the time for which resource servers cache the public keys; 0 is at
// once. Old keys go on verifying, and what they sealed is sealed anew, see
// [Client.Resealing].
func (c *Client) RotateKeys(ctx context.Context, lead time.Duration) (Key, error) {
	var key Key
	err := c.call(ctx, "POST", "/v1/keys", map[string]string{"lead": lead.String()}, &key)
	return key, err
}

// DeleteKey ends a retired key at once: tokens that it made are refused.
func (c *Client) DeleteKey(ctx context.Context, id uint32) error {
	return c.call(ctx, "DELETE", "/v1/keys/"+strconv.FormatUint(uint64(id), 10), nil, nil)
}

// Purge deletes what is dead now, as the server does by itself in the
// background.
func (c *Client) Purge(ctx context.Context) (Purged, error) {
	var purged Purged
	err := c.call(ctx, "POST", "/v1/purge", nil, &purged)
	return purged, err
}

// Stats are the sizes of the server's database.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	return get[Stats](ctx, c, "/v1/stats")
}

// Backup writes a consistent copy of the database, taken while the server goes
// on, and counts its bytes. After an error what was written is no backup.
func (c *Client) Backup(ctx context.Context, w io.Writer) (int64, error) {
	resp, err := c.send(ctx, "GET", "/v1/backup", nil, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	written := &writeErr{w: w}
	n, err := io.Copy(written, resp.Body)
	if err != nil && written.err == nil {
		err = c.unreachable(ctx, err)
	}
	return n, err
}

// writeErr remembers that writing failed, not reading.
type writeErr struct {
	w   io.Writer
	err error
}

func (w *writeErr) Write(b []byte) (n int, err error) {
	n, w.err = w.w.Write(b)
	return n, w.err
}
