// Package killtest is what the tests share that kill servers under load, of
// whatever database: an authorization server in a process of its own, the clients
// that are its load, and what they hold against it afterwards. Whatever was
// answered must still be so; whatever was not may have been done or not, and
// never in part or twice.
package killtest

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// What every database of these tests has: one client for each access token
// format, and one resource owner. Their secrets have the generated form, which
// costs a microsecond to check.
const (
	OpaqueClient = "opaque-app"
	JWTClient    = "jwt-app"
	Owner        = "bshaffer"
	redirectURI  = "https://app.test/callback"
)

// Site is what outlives a server: the root key, and the secrets of the clients
// and of the owner. All have the same one, since no test is about it.
type Site struct {
	Root   secret.Root
	Secret secret.Text
	// RetryWindow is the clients', where it is not 0.
	RetryWindow issuer.Lifetime
}

// NewSite makes a site of new secrets.
func NewSite() Site { return Site{Root: secret.NewRoot(), Secret: secret.NewSecret()} }

// Store is a database as these tests use it.
type Store interface {
	issuer.Store
	issuer.Lists
	Close() error
}

// Service is an authorization server on an open database.
type Service[S Store] struct {
	Store  S
	Server *issuer.Server
}

// NewService makes a server on a database, as another process would after a
// crash or a restore. A nil now is the clock on the wall.
func NewService[S Store](ctx context.Context, store S, root secret.Root, now func() time.Time) (*Service[S], error) {
	if now == nil {
		now = time.Now
	}
	ring, err := secret.OpenRing(ctx, root, store, now, false)
	if err != nil {
		return nil, err
	}
	server, err := issuer.New(issuer.Config{
		Issuer: "https://issuer.test", Store: store, Keys: ring, Now: now,
		Scopes:   map[string]string{"read": "read it", "write": "change it"},
		AskOwner: consent,
		Log:      slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	return &Service[S]{store, server}, nil
}

// consent is an owner who agrees to everything without being shown a page.
func consent(_ http.ResponseWriter, _ *http.Request, ask *issuer.Authorization) (issuer.Answer, bool) {
	return issuer.Answer{Subject: Owner, Scope: ask.Scope}, true
}

// Populate registers the clients and the owner.
func (s *Service[S]) Populate(ctx context.Context, site Site) error {
	admin, actor := issuer.NewAdmin(s.Server, s.Store), issuer.Actor{Name: "operator"}
	verifiers := []secret.Verifier{secret.NewVerifier(site.Secret)}
	for id, format := range map[string]issuer.TokenFormat{OpaqueClient: issuer.FormatOpaque, JWTClient: issuer.FormatJWT} {
		_, err := admin.SaveClient(ctx, actor, issuer.Client{
			ID: id, Secrets: verifiers, RedirectURIs: []string{redirectURI},
			GrantTypes: []string{oauth.GrantAuthorizationCode, oauth.GrantPassword, oauth.GrantRefreshToken},
			Policy:     issuer.Policy{Format: format, RetryWindow: site.RetryWindow},
		})
		if err != nil {
			return err
		}
	}
	_, err := admin.SaveUser(ctx, actor, issuer.User{Username: Owner, Password: verifiers[0]})
	return err
}

// State is what is held against what clients were told.
type State struct {
	Grants map[string]issuer.Grant `json:"grants"` // by id
	Alarms int                     `json:"alarms"` // grants of which an event says that a token was reused or the row was behind
}

// State reads all grants of the database.
func (s *Service[S]) State(ctx context.Context) (State, error) {
	result, filter := State{Grants: map[string]issuer.Grant{}}, issuer.GrantFilter{Limit: 1000}
	for {
		page, err := s.Store.Grants(ctx, filter)
		if err != nil {
			return result, err
		}
		if len(page) == 0 {
			break
		}
		for _, grant := range page {
			result.Grants[grant.ID.String()] = grant
		}
		filter.After = page[len(page)-1].ID
	}
	for _, alarm := range []string{issuer.EventGrantHealed, issuer.EventReuseDetected} {
		counts, err := s.events(ctx, alarm)
		if err != nil {
			return result, err
		}
		result.Alarms += len(counts)
	}
	return result, nil
}

// events counts the events of a type by grant.
func (s *Service[S]) events(ctx context.Context, eventType string) (map[issuer.GrantID]int, error) {
	counts, filter := map[issuer.GrantID]int{}, issuer.EventFilter{Type: eventType, Limit: 1000}
	for {
		page, err := s.Store.Events(ctx, filter)
		if err != nil || len(page) == 0 {
			return counts, err
		}
		for _, event := range page {
			counts[event.Grant]++
		}
		filter.Before = page[len(page)-1].ID
	}
}

// Must ends the test where there is an error, and passes the value on.
func Must[T any](t testing.TB) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}
