package keeper

import (
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

// State is what can be expected of a connection.
type State string

// The states.
const (
	Active      State = "active"      // its tokens are kept fresh
	InDoubt     State = "in_doubt"    // a refresh token was sent and nobody knows what came of it; its access token is served while it lives
	Reauthorize State = "reauthorize" // the owner is needed
	Paused      State = "paused"      // by an operator or the application: nothing is sent
)

// Cause is why a connection is in its state, where that needs a reason.
type Cause string

// The causes. Those of Reauthorize which a provider's answer decided are named
// as the classes of package provider.
const (
	CauseNotConnected        Cause = "not_connected" // the owner has not come back from the provider yet
	CauseAnswerLost          Cause = "answer_lost"   // a refresh token was sent, and the answer did not arrive or was not kept
	CauseAnswerUnreadable    Cause = "answer_unreadable"
	CauseInterrupted         Cause = "interrupted" // the keeper ended while a refresh token was on its way
	CauseRestored            Cause = "restored"    // the database is a restored copy; the refresh token may have been used since
	CauseRevoked                   = Cause(provider.Revoked)
	CauseReplayed                  = Cause(provider.Replayed)
	CauseRefreshTokenExpired       = Cause(provider.RefreshTokenExpired)
	CauseConsentRequired           = Cause(provider.ConsentRequired)
	CauseNoRefreshToken      Cause = "no_refresh_token" // the access token expired and there is nothing to renew it by
	CauseOperator            Cause = "operator_request"
)

// Background says whether a connection is refreshed ahead of expiry.
type Background string

// The choices.
const (
	Always   Background = "always"    // also where empty
	OnDemand Background = "on_demand" // when it is read, and before its refresh token expires unused
)

// Connection is one owner's grant at one provider, as stores keep it: one row.
// Times that are zero are never, or not yet. It holds tokens only sealed.
type Connection struct {
	ID         string            `json:"id"` // 1 to 128 of letters, digits and -._~
	Provider   string            `json:"provider"`
	Tenant     string            `json:"tenant,omitempty"` // "" is the operator's
	Owner      string            `json:"owner,omitempty"`
	State      State             `json:"state"`
	Cause      Cause             `json:"cause,omitempty"`
	Since      time.Time         `json:"since"` // when the state began
	Background Background        `json:"background,omitempty"`
	Params     map[string]string `json:"params,omitempty"`
	Metadata   map[string]any    `json:"metadata,omitempty"` // kept from the provider's answers
	Scope      oauth.Scope       `json:"scope,omitempty"`    // as granted
	Asked      oauth.Scope       `json:"asked,omitempty"`    // as asked for, where it differs
	TokenType  string            `json:"token_type,omitempty"`

	Generation       uint64    `json:"generation"`         // how many times its tokens have been renewed
	IssuedAt         time.Time `json:"issued_at,omitzero"` // of the tokens
	ExpiresAt        time.Time `json:"expires_at,omitzero"`
	RefreshExpiresAt time.Time `json:"refresh_expires_at,omitzero"` // unless it is used
	EndsAt           time.Time `json:"ends_at,omitzero"`            // whatever is used
	Refreshable      bool      `json:"refreshable"`                 // has a refresh token, or can be re-minted
	Rotates          bool      `json:"rotates,omitempty"`           // a refresh has changed its refresh token, whatever the definition says

	DueAt    time.Time      `json:"due_at,omitzero"`   // when to look at it next
	Attempt  int            `json:"attempt,omitempty"` // failed ones since the last success
	Class    provider.Class `json:"error_class,omitempty"`
	Error    string         `json:"error,omitempty"` // of the last attempt; "" after a success
	WarnedAt time.Time      `json:"warned_at,omitzero"`

	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`

	Fence      uint64        `json:"-"` // raised by each lease
	LeaseUntil time.Time     `json:"-"`
	Intent     *Intent       `json:"-"` // open, or nil
	Tokens     secret.Sealed `json:"-"`
}

// Intent is the journal's entry of a request that spends something: durable
// before a byte of the request is sent, and gone when its outcome is.
type Intent struct {
	RequestID  string        // names the answer; "" when none can come any more, and the refresh token is in doubt
	Kind       provider.Kind // what is asked for
	Generation uint64        // of the connection's tokens when it was made
	SentAt     time.Time     // when the request was about to be sent for the first time: replay windows count from here
	Deadline   time.Time     // after which nothing more is sent
	Answer     secret.Sealed // the raw answer, when it has come
}

// Due is a connection that wants to be looked at.
type Due struct {
	ID       string
	Provider string
	Tenant   string
	Owner    string
	DueAt    time.Time
}
