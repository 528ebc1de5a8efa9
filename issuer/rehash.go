package issuer

import (
	"context"

	"github.com/evergrant/evergrant/secret"
)

// rehashUser puts a verifier of ours in the place of one of another server, now
// that the password is known and right. Where that fails the old one stays good,
// and the next sign-in tries again; a password that was changed meanwhile is left
// alone.
func (s *Server) rehashUser(ctx context.Context, clientID, address string, user User, password secret.Text) {
	if !user.Password.Foreign() {
		return
	}
	event := Event{
		At: s.cfg.now(), Type: EventSecretRehashed, ClientID: clientID, Subject: user.Username,
		Actor: "user:" + user.Username, Address: address,
	}
	_, err := s.cfg.Store.RehashUser(ctx, user.Username, user.Password, secret.NewVerifier(password), event)
	s.rehashed(clientID, err)
}

// rehashClient does the same with a client's secret.
func (s *Server) rehashClient(ctx context.Context, req *tokenRequest, client *registered, verifier secret.Verifier, presented secret.Text) {
	if !verifier.Foreign() {
		return
	}
	event := Event{At: s.cfg.now(), Type: EventSecretRehashed, ClientID: client.ID, Actor: req.actor, Address: req.address}
	_, err := s.cfg.Store.RehashClient(ctx, client.ID, verifier, secret.NewVerifier(presented), event)
	s.clients.forget(client.ID)
	s.rehashed(client.ID, err)
}

func (s *Server) rehashed(clientID string, err error) {
	s.count(clientID, HabitImportedSecret)
	if err != nil {
		s.cfg.log().Warn("a secret in the form of another server was not hashed anew; it stays good", "client", clientID, "error", err)
	}
}
