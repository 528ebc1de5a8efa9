package keeper

import "fmt"

// Refusal is a request that cannot be done as it is: nothing was changed, and
// the same request will be refused again.
type Refusal struct {
	Reason Reason
	Detail string // what to mend, for people
	Code   string // the provider's error code, for ReasonDenied, ReasonProviderError and ReasonCodeRefused
}

// Error is the detail.
func (r *Refusal) Error() string { return r.Detail }

// Reason is why a request is refused. The edge maps each to its status.
type Reason string

// The reasons. Those of a callback are for the owner's eyes, in a browser.
const (
	ReasonUnknownProvider Reason = "unknown_provider"
	ReasonBadID           Reason = "bad_id"           // not 1 to 128 of letters, digits and -._~
	ReasonBadParams       Reason = "bad_params"       // not those that the provider's definition asks for
	ReasonBadField        Reason = "bad_field"        // another field of the request, which Detail names
	ReasonNoTokens        Reason = "no_tokens"        // nothing to begin with, and the provider needs the owner
	ReasonNoOwnerNeeded   Reason = "no_owner_needed"  // there is nothing to ask an owner for
	ReasonBadDefinition   Reason = "bad_definition"   // the provider's definition or registration does not do; an operator mends it
	ReasonOtherConnection Reason = "other_connection" // the id is that of another provider's, tenant's or owner's connection

	ReasonBadLink       Reason = "bad_link"       // damaged, or not made here
	ReasonLinkExpired   Reason = "link_expired"   // older than half an hour
	ReasonBadState      Reason = "bad_state"      // the callback's state is missing, damaged or not made here
	ReasonStateExpired  Reason = "state_expired"  // the owner took more than half an hour
	ReasonOtherBrowser  Reason = "other_browser"  // the callback came from another browser than the one that left
	ReasonReplayed      Reason = "replayed"       // the callback was used before
	ReasonBadCallback   Reason = "bad_callback"   // neither a code nor an error, or of another issuer (RFC 9207)
	ReasonDenied        Reason = "denied"         // the owner said no, at the provider
	ReasonProviderError Reason = "provider_error" // the provider sent the owner back with an error
	ReasonCodeRefused   Reason = "code_refused"   // the provider did not give tokens for its code
)

// ErrUnknownProvider says that no provider of this name is configured. It is a
// *[Refusal].
var ErrUnknownProvider error = &Refusal{Reason: ReasonUnknownProvider, Detail: "no provider of this name is configured"}

func refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// NotRevoked says that a connection was deleted here, but that the provider did
// not say that it revoked the grant: what the provider issued may live on there.
type NotRevoked struct {
	Connection string
	Provider   string
	Err        error
}

// Error says what to do.
func (n *NotRevoked) Error() string {
	return fmt.Sprintf("connection %s is deleted, but was not revoked at %s: ask its owner to end the grant there (%v)", n.Connection, n.Provider, n.Err)
}

// Unwrap is why.
func (n *NotRevoked) Unwrap() error { return n.Err }
