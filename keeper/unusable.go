package keeper

import (
	"errors"
	"time"

	"github.com/evergrant/evergrant/provider"
)

// Unusable is why no token can be given now.
type Unusable struct {
	Connection string
	Provider   string
	State      State
	Cause      Cause
	Class      provider.Class // of the last attempt
	Since      time.Time
	RetryAfter time.Duration // where trying again helps; 0 where it does not
	Detail     string        // what went wrong last, for people
	Repair     string        // what repairs it, for people
}

// Error says what is wrong and what repairs it.
func (u *Unusable) Error() string {
	text := "connection " + u.Connection + " at " + u.Provider + " is " + string(u.State)
	if u.Cause != "" {
		text += " (" + string(u.Cause) + ")"
	}
	if !u.Since.IsZero() {
		text += " since " + u.Since.UTC().Format(time.RFC3339)
	}
	if u.Detail != "" {
		text += ": " + u.Detail
	}
	return text + "; " + u.Repair
}

// NeedsOwner reports whether only the owner can repair it.
func (u *Unusable) NeedsOwner() bool {
	return u.State == Reauthorize || u.State == InDoubt && u.RetryAfter == 0
}

// heldBack says that the gate of a provider lets nothing through for a while.
type heldBack struct {
	class      provider.Class
	retryAfter time.Duration
	detail     string
}

func (h *heldBack) Error() string { return h.detail }

// unusable is why a connection gives no token, after a failure or, where that is
// nil, by what its row says.
func (k *Keeper) unusable(c *Connection, failure error) *Unusable {
	now := k.now()
	u := &Unusable{Connection: c.ID, Provider: c.Provider, State: c.State, Cause: c.Cause, Class: c.Class, Since: c.Since, Detail: c.Error}
	if now.Before(c.DueAt) {
		u.RetryAfter = c.DueAt.Sub(now)
	}
	if gate, ok := errors.AsType[*heldBack](failure); ok {
		u.Class, u.RetryAfter, u.Detail = gate.class, gate.retryAfter, gate.detail
	} else if refused, ok := errors.AsType[*provider.Error](failure); ok {
		u.Class, u.Detail = refused.Class, refused.Why()
	} else if failure != nil {
		u.Class, u.Detail, u.RetryAfter = provider.Transient, failure.Error(), time.Second
	}
	u.Repair = repair(u, failure)
	return u
}

// repair says what to do, and to whom.
func repair(u *Unusable, failure error) string {
	switch {
	case errors.Is(failure, ErrUnknownProvider):
		return "put the provider back into the configuration"
	case u.State == Paused:
		return "resume it"
	case u.State == Reauthorize:
		return "ask its owner to connect again: a connect session for this connection makes the link"
	case u.State == InDoubt && u.Cause == CauseRestored && u.RetryAfter > 0:
		return "its access token is served while it lives; then its owner must connect again, or an operator refreshes it if it was not refreshed since the backup was made"
	case u.State == InDoubt && u.Cause == CauseRestored:
		return "ask its owner to connect again, or, if it was not refreshed since the backup was made, refresh it in spite of the doubt"
	case u.State == InDoubt && u.Cause == CauseAnswerUnreadable:
		return "mend the definition of the provider: the answer is kept and read again"
	case u.State == InDoubt && u.Cause == CauseInterrupted:
		return "its access token is served while it lives; then its owner must connect again, unless an operator refreshes it in spite of the doubt"
	case u.State == InDoubt:
		return "wait: its refresh token is tried once the access token is over"
	case u.Class == provider.BadClient:
		return "correct the client id and secret of the provider in the configuration"
	case u.Class == provider.BadDefinition:
		return "correct the definition of the provider"
	}
	return "try again later; it is tried in the background as well"
}
