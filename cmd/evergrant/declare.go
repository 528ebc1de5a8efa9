package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
)

// declare makes the clients and users of the database those of the
// configuration file: what changed is saved, and what was declared before and
// is gone from the file is deleted. Without a file nothing is gone from it, so
// that a start without --config does not end grants. A crash in between is
// mended by the next start.
func (s *server) declare(ctx context.Context, c *config, fromFile bool) error {
	clients, users := map[string]bool{}, map[string]bool{}
	for _, client := range c.Issuer.Clients {
		clients[client.ID] = true
		if err := s.declareClient(ctx, client); err != nil {
			return fmt.Errorf("declared client %s: %w", client.ID, err)
		}
	}
	for _, user := range c.Issuer.Users {
		users[user.Username] = true
		if err := s.declareUser(ctx, user); err != nil {
			return fmt.Errorf("declared user %s: %w", user.Username, err)
		}
	}
	if !fromFile {
		return nil
	}
	return errors.Join(s.dropClients(ctx, clients), s.dropUsers(ctx, users))
}

// asServer is the actor of what the configuration file causes.
func asServer() issuer.Actor { return issuer.Actor{Name: "server"} }

func (s *server) declareClient(ctx context.Context, declared declaredClient) error {
	wanted := declared.Client
	wanted.Declared = true
	stored, err := s.store.Client(ctx, wanted.ID)
	if err != nil && !errors.Is(err, issuer.ErrNotFound) {
		return err
	}
	switch {
	case declared.Secret.Empty():
	case len(stored.Secrets) == 1 && ours(stored.Secrets[0], declared.Secret):
		wanted.Secrets = stored.Secrets
	default:
		wanted.Secrets = []secret.Verifier{secret.NewVerifier(declared.Secret)}
	}
	stored.CreatedAt, stored.UpdatedAt = time.Time{}, time.Time{}
	wanted.Foreign = stored.Foreign // SaveClient keeps it
	if same(stored, wanted) {
		return nil
	}
	_, err = s.admin.SaveClient(ctx, asServer(), wanted)
	return err
}

// ours reports whether a verifier is of a secret, and of a form of this server's:
// any other is replaced.
func ours(verifier secret.Verifier, text secret.Text) bool {
	return !verifier.Foreign() && verifier.Verify(text)
}

// same compares as the database would keep it, in which no list and an empty
// one are equal.
func same(a, b issuer.Client) bool {
	first, err := json.Marshal(a)
	second, err2 := json.Marshal(b)
	return err == nil && err2 == nil && bytes.Equal(first, second)
}

func (s *server) declareUser(ctx context.Context, declared declaredUser) error {
	stored, err := s.store.User(ctx, declared.Username)
	if err != nil && !errors.Is(err, issuer.ErrNotFound) {
		return err
	}
	wanted := issuer.User{Username: declared.Username, Info: declared.Info, Declared: true}
	right := err == nil && ours(stored.Password, declared.Password)
	if right && stored.Declared && bytes.Equal(stored.Info, wanted.Info) {
		return nil
	}
	if wanted.Password = stored.Password; !right {
		wanted.Password = secret.NewVerifier(declared.Password)
	}
	_, err = s.admin.SaveUser(ctx, asServer(), wanted)
	return err
}

func (s *server) dropClients(ctx context.Context, declared map[string]bool) error {
	for after := ""; ; {
		page, err := s.store.Clients(ctx, after, 0)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, client := range page {
			after = client.ID
			if !client.Declared || declared[client.ID] {
				continue
			}
			if err := s.admin.DeleteClient(ctx, asServer(), client.ID); err != nil {
				return err
			}
			s.log.Warn("client deleted and its grants revoked, because it is gone from the configuration file", "client", client.ID)
		}
	}
}

func (s *server) dropUsers(ctx context.Context, declared map[string]bool) error {
	for after := ""; ; {
		page, err := s.store.Users(ctx, after, 0)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, user := range page {
			after = user.Username
			if !user.Declared || declared[user.Username] {
				continue
			}
			if err := s.admin.DeleteUser(ctx, asServer(), user.Username); err != nil {
				return err
			}
			s.log.Warn("user deleted and the grants that the user gave revoked, because it is gone from the configuration file", "user", user.Username)
		}
	}
}
