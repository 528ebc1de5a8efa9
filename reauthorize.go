package evergrant

import "time"

// ReauthorizationError says that only its owner can bring a connection back. It
// wraps the *[Problem] with status 409.
type ReauthorizationError struct {
	Cause      string    // such as revoked or refresh_token_expired
	Since      time.Time // when it began
	ConnectURL string    // of the page on which the owner connects again; "" where the server told none
	Problem    *Problem
}

// Error says why, and what repairs it.
func (e *ReauthorizationError) Error() string { return e.Problem.Error() }

// Unwrap is the problem.
func (e *ReauthorizationError) Unwrap() error { return e.Problem }
