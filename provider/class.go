package provider

import (
	"fmt"
	"time"
)

// Class is what an error at a provider means for a connection.
type Class string

// The classes. Only Revoked, RefreshTokenExpired and ConsentRequired may ask
// the owner.
const (
	Transient           Class = "transient"             // nothing happened, or nothing that matters: try again later
	Throttled           Class = "throttled"             // try again later than that
	Ambiguous           Class = "ambiguous"             // sent, and no answer that tells what came of it
	LostRace            Class = "lost_race"             // somebody else refreshed: his tokens are used
	Replayed            Class = "replayed"              // refused, and this refresh token had been sent before without an answer
	Revoked             Class = "revoked"               // the owner or the provider ended the grant
	RefreshTokenExpired Class = "refresh_token_expired" // by its own lifetime
	BadClient           Class = "bad_client"            // the app's registration is refused: the integration stops, not its connections
	BadDefinition       Class = "bad_definition"        // the provider does not understand us, or we it: an operator mends the definition
	ConsentRequired     Class = "consent_required"      // the owner must do something at the provider
)

// Outcome is what is known of a request that gave no tokens.
type Outcome int

// The outcomes.
const (
	Unknown Outcome = iota // bytes may have been sent; the provider may have acted on them
	NotSent                // no byte of the request left: the provider cannot have acted
	Refused                // the provider answered that it did not do it
)

// String is the outcome in words.
func (o Outcome) String() string {
	switch o {
	case NotSent:
		return "not sent"
	case Refused:
		return "refused"
	}
	return "unknown"
}

// Error is a request to a provider that gave no tokens. It holds no token, and
// what it quotes is cut to printable characters.
type Error struct {
	Class      Class
	Outcome    Outcome
	Status     int           // HTTP status; 0 without an answer
	Code       string        // the provider's error code
	Detail     string        // the provider's description, or what went wrong on the way
	RetryAfter time.Duration // 0 where the provider did not say
}

// Error says what happened in one line: its class, and why.
func (e *Error) Error() string { return string(e.Class) + ": " + e.Why() }

// Why says what happened without the class, for where that stands beside it.
func (e *Error) Why() string {
	text := "outcome " + e.Outcome.String()
	if e.Outcome != Unknown {
		text = e.Outcome.String()
	}
	if e.Status != 0 {
		text += fmt.Sprintf(", status %d", e.Status)
	}
	if e.Code != "" {
		text += ", " + e.Code
	}
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}
