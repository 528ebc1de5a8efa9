package issuer

import (
	"encoding/hex"
	"errors"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// GrantID is the random 128-bit number of a grant. It is no credential: a token
// needs a MAC beside it.
type GrantID [16]byte

// NewGrantID makes a random one.
func NewGrantID() GrantID { return GrantID(secret.Bytes(16)) }

// ParseGrantID reads the form that String gives: 32 hexadecimal digits.
func ParseGrantID(s string) (GrantID, error) {
	var id GrantID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, errors.New("a grant id is 32 hexadecimal digits")
	}
	return GrantID(b), nil
}

// String is the id as 32 hexadecimal digits.
func (id GrantID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether there is no grant.
func (id GrantID) IsZero() bool { return id == GrantID{} }

// MarshalText is String; the zero id is the empty text.
func (id GrantID) MarshalText() ([]byte, error) {
	if id.IsZero() {
		return nil, nil
	}
	return []byte(id.String()), nil
}

// UnmarshalText is ParseGrantID; the empty text is the zero id.
func (id *GrantID) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		*id = GrantID{}
		return nil
	}
	*id, err = ParseGrantID(string(text))
	return err
}

// Grant is a resource owner's decision and the one row from which all its
// tokens are derived. Times have millisecond precision; a zero time means
// never, or not yet.
type Grant struct {
	ID       GrantID     `json:"id"`
	ClientID string      `json:"client_id"`
	Subject  string      `json:"subject"` // the resource owner's user name
	Scope    oauth.Scope `json:"scope"`   // the whole granted scope; a refresh never narrows it
	// Generation counts renewals: 0 is an authorization code not yet redeemed,
	// n ≥ 1 means that refresh token n is the current one.
	Generation uint32 `json:"generation"`
	// KeyID is of the key that made the current generation's tokens: 0 where none
	// did, because its refresh token is one of another server (generation 1), or
	// because there is none ([RotateOnce]).
	KeyID uint32 `json:"key_id"`

	CreatedAt       time.Time `json:"created_at"`
	RotatedAt       time.Time `json:"rotated_at"`                 // when the current generation began
	ExpiresAt       time.Time `json:"expires_at,omitzero"`        // of the code or refresh token; slides with each renewal
	EndsAt          time.Time `json:"ends_at,omitzero"`           // absolute end of the grant
	AccessExpiresAt time.Time `json:"access_expires_at,omitzero"` // of the current generation's access token
	RevokedAt       time.Time `json:"revoked_at,omitzero"`
	RevokedCause    Cause     `json:"revoked_cause,omitempty"`
	Retries         uint32    `json:"retries"` // answers that were given again
}

// Live reports whether the grant's code or refresh token can still be used at a
// time.
func (g Grant) Live(now time.Time) bool { return g.deadCause(now) == "" }

// ended reports whether the grant's last refresh gave no refresh token, so that
// there is none to steal.
func (g Grant) ended() bool { return g.Generation > 1 && g.KeyID == 0 }

// deadCause says why nothing can be redeemed at a time, or "".
func (g Grant) deadCause(now time.Time) Cause {
	switch {
	case !g.RevokedAt.IsZero():
		return CauseGrantRevoked
	case !g.EndsAt.IsZero() && !now.Before(g.EndsAt):
		return CauseGrantEnded
	case !g.ExpiresAt.IsZero() && !now.Before(g.ExpiresAt) && g.Generation == 0:
		return CauseCodeExpired
	case !g.ExpiresAt.IsZero() && !now.Before(g.ExpiresAt):
		return CauseRefreshTokenExpired
	}
	return ""
}

// Rotation is one step of a grant from a generation to a later one.
type Rotation struct {
	ID       GrantID
	ClientID string // the step is for this client only
	From, To uint32
	KeyID    uint32
	At       time.Time
	// ExpiresAt and AccessExpiresAt are the new expiries, before they are
	// capped at the grant's EndsAt.
	ExpiresAt, AccessExpiresAt time.Time
	Scope                      oauth.Scope // becomes the grant's; nil leaves it
	Event                      *Event      // recorded with the step, and only with it; nil for a usual refresh
}
