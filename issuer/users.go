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
	account := strings.ToLower(username)
	keys := []limitedKey{
		{"user\x00" + account + "\x00" + address, perAccountLimit},
		{"user\x00" + account, perUserLimit},
		{"users\x00" + address, perAddressLimit},
	}
	event := Event{At: s.cfg.now(), Type: EventLoginFailed, ClientID: clientID, Actor: "user:" + username, Address: address}
	if !validText(username) || len(username) > 255 {
		return User{}, refuse(CauseCredentialsWrong)
	}
	if wait := s.failures.takeAll(keys); wait > 0 {
		if s.noted.take("login\x00"+account+"\x00"+address, noteLimit) == 0 {
			event.Cause = CauseLoginThrottled
			s.record(ctx, event)
		}
		return User{}, &Refusal{Cause: CauseLoginThrottled, RetryAfter: wait}
	}
	user, err := s.cfg.Store.User(ctx, username)
	verifier := user.Password
	if errors.Is(err, ErrNotFound) {
		verifier = secret.Slow()
	} else if err != nil {
		return User{}, err
	}
	right, err := s.verifySlowly(ctx, verifier, password)
	if err != nil {
		return User{}, err
	}
	if !right {
		event.Cause = CauseCredentialsWrong
		s.record(ctx, event)
		return User{}, refuse(CauseCredentialsWrong)
	}
	s.failures.giveBack(keys)
	return user, nil
}
