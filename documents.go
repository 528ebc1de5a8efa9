package evergrant

import (
	"encoding/json"
	"time"

	"github.com/evergrant/evergrant/oauth"
)

// Registration is a registered client (RFC 6749 section 2). Lifetimes are
// written with d, h, m and s ("14d", "1h30m"); "" takes the server's setting,
// and "0" is none. The fields from Secrets on are told by the server and not sent
// to it.
type Registration struct {
	ID           string      `json:"id"`
	Name         string      `json:"name,omitempty"`
	Public       bool        `json:"public,omitempty"` // without secret
	RedirectURIs []string    `json:"redirect_uris,omitempty"`
	GrantTypes   []string    `json:"grant_types,omitempty"` // authorization_code and refresh_token where empty
	Scopes       oauth.Scope `json:"scopes,omitempty"`      // all of the server's where empty
	Introspect   bool        `json:"introspect,omitempty"`  // may introspect tokens of all clients
	Trusted      bool        `json:"trusted,omitempty"`     // without consent page
	Tenant       string      `json:"tenant,omitempty"`      // whose connections its tokens reach; the operator's where empty
	Profile      string      `json:"profile,omitempty"`     // standard, fos, bshaffer or eventix

	AccessTokenLifetime  string `json:"access_token_lifetime,omitempty"`
	CodeLifetime         string `json:"authorization_code_lifetime,omitempty"`
	RefreshTokenLifetime string `json:"refresh_token_lifetime,omitempty"`
	GrantLifetime        string `json:"grant_lifetime,omitempty"`
	Rotation             string `json:"refresh_token_rotation,omitempty"` // always, never, public_clients, once or additive
	RetryWindow          string `json:"refresh_token_retry_window,omitempty"`
	Format               string `json:"access_token_format,omitempty"`      // jwt or opaque
	SigningAlg           string `json:"access_token_signing_alg,omitempty"` // ES256, EdDSA or RS256
	PKCE                 string `json:"require_pkce,omitempty"`             // always, public_clients or never
	Redirects            string `json:"redirect_matching,omitempty"`        // exact or prefix

	Secrets      int       `json:"secrets,omitempty"`       // how many authenticate the client; two while one replaces the other
	SecretForms  []string  `json:"secret_forms,omitempty"`  // what the server keeps of each, newest first, such as argon2id
	ImportedFrom string    `json:"imported_from,omitempty"` // the source of an import, where nobody has changed it since
	Declared     bool      `json:"declared,omitempty"`      // by the configuration file, which wins at each start of the server
	CreatedAt    time.Time `json:"created_at,omitzero"`
	UpdatedAt    time.Time `json:"updated_at,omitzero"`
}

// Habit is something that a client relies on and a stricter setting of it would
// end.
type Habit struct {
	ClientID string    `json:"client_id"`
	Habit    string    `json:"habit"` // such as query_request
	Count    int64     `json:"count"` // requests
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Does     string    `json:"does"`              // the client, in words
	Setting  string    `json:"setting,omitempty"` // that would break these requests, such as "profile: standard"; "" where none does
	Past     bool      `json:"past"`              // the setting is in force, or the client is gone
}

// User is a resource owner who can sign in.
type User struct {
	Username     string          `json:"username"`
	Info         json.RawMessage `json:"info,omitempty"`          // a JSON object that a profile's token answers show
	ImportedFrom string          `json:"imported_from,omitempty"` // the source of an import, where nobody has changed it since
	Declared     bool            `json:"declared,omitempty"`      // by the configuration file
	CreatedAt    time.Time       `json:"created_at,omitzero"`
	UpdatedAt    time.Time       `json:"updated_at,omitzero"`
}

// Grant is a resource owner's decision, from which all its tokens are derived.
// A zero time means never, or not yet.
type Grant struct {
	ID       string      `json:"id"` // 32 hexadecimal digits
	ClientID string      `json:"client_id"`
	Subject  string      `json:"subject"` // the resource owner's user name
	Scope    oauth.Scope `json:"scope"`
	// Generation counts renewals: 0 is an authorization code not yet redeemed.
	Generation uint32 `json:"generation"`
	KeyID      uint32 `json:"key_id"` // of the key that made the current tokens
	Alive      bool   `json:"alive"`  // its code or refresh token can still be used

	CreatedAt       time.Time `json:"created_at"`
	RotatedAt       time.Time `json:"rotated_at"`          // when the current generation began
	ExpiresAt       time.Time `json:"expires_at,omitzero"` // of the code or refresh token; slides with each renewal
	EndsAt          time.Time `json:"ends_at,omitzero"`    // absolute end of the grant
	AccessExpiresAt time.Time `json:"access_expires_at,omitzero"`
	RevokedAt       time.Time `json:"revoked_at,omitzero"`
	RevokedCause    string    `json:"revoked_cause,omitempty"`
	Retries         uint32    `json:"retries"` // answers that were given again
}

// Event is one entry of the audit log, of the issuer or of the keeper.
type Event struct {
	ID      int64     `json:"id"` // grows
	At      time.Time `json:"at"`
	Type    string    `json:"type"`              // such as grant.reuse_detected or connection.refreshed
	Actor   string    `json:"actor"`             // "client:ID", "user:NAME", "owner", "operator", "server" or "keeper"
	Address string    `json:"address,omitempty"` // network address, without port
	Cause   string    `json:"cause,omitempty"`
	Detail  string    `json:"detail,omitempty"` // for people

	Grant    string `json:"grant,omitempty"`
	ClientID string `json:"client_id,omitempty"`
	Subject  string `json:"subject,omitempty"`

	Connection string `json:"connection,omitempty"`
	Provider   string `json:"provider,omitempty"`
	Tenant     string `json:"tenant,omitempty"`
	Owner      string `json:"owner,omitempty"`
	Generation uint64 `json:"generation,omitempty"` // of the connection
	Class      string `json:"class,omitempty"`      // of the error at the provider
}

// Key is one numbered key of the server.
type Key struct {
	ID         uint32    `json:"id"`
	State      string    `json:"state"` // pending, current or retired
	CreatedAt  time.Time `json:"created_at"`
	ActiveFrom time.Time `json:"active_from"` // when it begins to make tokens
	RS256      bool      `json:"rs256"`       // can sign RS256
}

// The states of keys. A retired key still verifies what it made.
const (
	KeyPending = "pending"
	KeyCurrent = "current"
	KeyRetired = "retired"
)

// Resealing is how far the keeper is with sealing tokens under the newest key
// that makes any. Where none is left, older keys can be deleted as far as
// connections go.
type Resealing struct {
	Key  uint32 `json:"key"`  // under which it seals
	Done int    `json:"done"` // since the server was started
	Left int    `json:"left"` // still sealed under older keys
}

// Explanation says why a grant, token or connection is alive or dead.
type Explanation struct {
	Kind    string  `json:"kind"` // grant, authorization_code, refresh_token, access_token or connection
	Alive   bool    `json:"alive"`
	Verdict string  `json:"verdict"`         // one sentence
	Cause   string  `json:"cause,omitempty"` // why it is dead
	Repair  string  `json:"repair,omitempty"`
	Grant   *Grant  `json:"grant,omitempty"`
	Events  []Event `json:"events"` // the grant's or connection's, newest first

	Connection *Connection `json:"connection,omitempty"`
}

// Purged counts rows that a purge deleted.
type Purged struct {
	Grants       int `json:"grants"`
	AccessTokens int `json:"access_tokens"` // revoked ones that expired
	Events       int `json:"events"`
}

// Stats are the sizes of the server's database.
type Stats struct {
	Rows          map[string]int64 `json:"rows"`           // per table; of large ones perhaps estimated
	DatabaseBytes int64            `json:"database_bytes"` // live data
}
