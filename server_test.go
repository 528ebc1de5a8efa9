package evergrant_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/internal/testdb"
	"github.com/evergrant/evergrant/internal/web"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/issuer/profile"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

const adminToken = "only-for-tests"

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// server is a whole server on a database of its own, with the client "photos" and
// the user "alice" whose password is "wonderland".
type server struct {
	*httptest.Server
	directory string // of an example's database
	db        *testdb.DB
	admin     *issuer.Admin
}

// startServer starts the server of an example: on SQLite, in a temporary
// directory.
func startServer() (*server, error) {
	directory, err := os.MkdirTemp("", "evergrant")
	if err != nil {
		return nil, err
	}
	s, err := startOn(testdb.Place(filepath.Join(directory, "test.db")))
	if err != nil {
		return nil, err
	}
	s.directory = directory
	return s, nil
}

// startOn starts a server on the database at a place.
func startOn(place testdb.Place) (*server, error) {
	s, ctx := &server{Server: httptest.NewUnstartedServer(nil)}, context.Background()
	url := "http://" + s.Listener.Addr().String()
	var err error
	if s.db, err = place.Open(ctx); err != nil {
		return nil, err
	}
	keys, err := secret.OpenRing(ctx, secret.NewRoot(), s.db, time.Now, false)
	if err != nil {
		return nil, err
	}
	pages, err := web.NewPages(web.PagesConfig{PublicURL: url, Keys: keys, User: s.db.User})
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.DiscardHandler)
	oauthServer, err := issuer.New(issuer.Config{Issuer: url, Store: s.db, Keys: keys, Reserved: web.Scopes(), Profiles: profile.All(profile.Options{}), Log: log})
	if err != nil {
		return nil, err
	}
	s.admin = issuer.NewAdmin(oauthServer, s.db)
	kept, providers, err := s.keep(keys, url, log)
	if err != nil {
		return nil, err
	}
	s.Config.Handler = web.NewSite(web.SiteConfig{
		Issuer: oauthServer, Pages: pages, Ready: s.db.Ready, Log: log,
		API: web.NewAPI(web.APIConfig{
			Token: secret.NewText(adminToken), Admin: s.admin, Database: s.db, Inspect: oauthServer.Inspect, Hooks: s.db, Log: log,
			Keeper: kept, Providers: providers, Connections: s.db.Keeper(), Events: s.db.Keeper(), Keys: keys, PublicURL: url,
		}),
	})
	s.Start()
	return s, s.fill(ctx)
}

// keep makes a keeper with one provider, "photos": the server itself, at which
// the client of that name is the registered app.
func (s *server) keep(keys *secret.Ring, url string, log *slog.Logger) (*keeper.Keeper, []*provider.Provider, error) {
	definition, _ := provider.Builtin().Definition("evergrant")
	photos, err := provider.New(provider.Config{
		Name: "photos", Definition: definition, ClientID: "photos", ClientSecrets: []secret.Text{photosSecret}, RedirectURI: url + web.CallbackPath,
		Params: map[string]string{"issuer": url}, AllowPrivateNetworks: true,
	})
	if err != nil {
		return nil, nil, err
	}
	kept, err := keeper.New(keeper.Config{Store: s.db.Keeper(), Keys: keys, Providers: []*provider.Provider{photos}, Log: log})
	return kept, []*provider.Provider{photos}, err
}

var photosSecret = secret.NewSecret()

func (s *server) fill(ctx context.Context) error {
	operator := issuer.Actor{Name: "operator"}
	_, err := s.admin.SaveClient(ctx, operator, issuer.Client{
		ID: "photos", Secrets: []secret.Verifier{secret.NewVerifier(photosSecret)}, Scopes: oauth.Scope{"read"},
		GrantTypes: []string{oauth.GrantPassword, oauth.GrantRefreshToken},
	})
	if err != nil {
		return err
	}
	alice := issuer.User{Username: "alice", Password: secret.NewVerifier(secret.NewText("wonderland"))}
	_, err = s.admin.SaveUser(ctx, operator, alice)
	return err
}

func (s *server) stop() error {
	s.Close()
	return errors.Join(s.db.Close(), os.RemoveAll(s.directory))
}

// start starts a server for a test, and makes its client.
func start(t *testing.T) (*server, *evergrant.Client) {
	t.Helper()
	s, err := startOn(testdb.New(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	return s, &evergrant.Client{Server: s.URL, Token: secret.NewText(adminToken)}
}

// serve is a client of a server that answers all with one handler.
func serve(t *testing.T, answer http.HandlerFunc) *evergrant.Client {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return &evergrant.Client{Server: s.URL, Token: secret.NewText(adminToken)}
}
