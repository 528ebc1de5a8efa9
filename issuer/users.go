package issuer

import (
	"context"
	"errors"
	"strings"

	"github.com/evergrant/evergrant/secret"
)

// authenticate checks a user name and password, throttled per user and per
// address. An unknown user costs what a wrong password costs. The error is a
// *Refusal with CauseCredentialsWrong or CauseLoginThrottled, or the store's.
func (s *Server) authenticate(ctx context.Context, clientID, address, username string, password secret.Text) (User, error) {
	account, from := strings.ToLower(username), network(address)
	keys := []limitedKey{
		{"user\x00" + account + "\x00" + from, perAccountLimit},
		{"user\x00" + account, perUserLimit},
		{"users\x00" + from, perAddressLimit},
	}
	if !validText(username) || len(username) > maxIDLength {
		return User{}, refuse(CauseCredentialsWrong)
	}
	user, err := s.cfg.Store.User(ctx, username)
	verifier := user.Password
	if errors.Is(err, ErrNotFound) {
		verifier = secret.Slow()
	} else if err != nil {
		return User{}, err
	}
	right, wait, err := s.verifySlowly(ctx, keys, func() bool { return verifier.Verify(password) })
	event := Event{At: s.cfg.now(), Type: EventLoginFailed, ClientID: clientID, Actor: "user:" + username, Address: address}
	switch {
	case err != nil:
		return User{}, err
	case wait > 0:
		if s.noted.take("login\x00"+account+"\x00"+from, noteLimit) == 0 {
			event.Cause = CauseLoginThrottled
			s.record(ctx, event)
		}
		return User{}, &Refusal{Cause: CauseLoginThrottled, RetryAfter: wait}
	case !right:
		event.Cause = CauseCredentialsWrong
		s.record(ctx, event)
		return User{}, refuse(CauseCredentialsWrong)
	}
	s.rehashUser(ctx, clientID, address, user, password)
	return user, nil
}
