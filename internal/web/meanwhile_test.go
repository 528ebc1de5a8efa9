package web

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/testdb"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
	"github.com/evergrant/evergrant/secret"
)

// TestProxyAfterAnswerTellsParams: what the answer to a refresh tells of a
// connection, such as where its API is, holds for the call that waited for it,
// and for the one that is sent again after a 401.
func TestProxyAfterAnswerTellsParams(t *testing.T) {
	api := newAPIServer(t)
	s := startDefined(t, false, func(d *provider.Definition) {
		d.Params = map[string]provider.Param{"dc": {Pattern: "eu|us", From: "answer:dc"}}
		d.API.BaseURL = api.url + "/{params.dc}"
	}, providertest.Plain())
	s.imports("one", "plain", "alice", "")
	sim := s.sims["plain"]
	s.clock.advance(2 * time.Hour) // the imported access token is over
	sim.Inject(providertest.Rule{Kind: provider.Refresh, Times: 1, Fault: providertest.Set("dc", "eu")})
	if r := s.call("GET", "/v1/proxy/one/me", "", nil); r.status != http.StatusOK || len(api.seen()) != 1 || api.seen()[0].uri != "/eu/me" {
		t.Fatalf("%d %s; the API saw %+v", r.status, r.body, api.seen())
	}
	sim.Clear()
	sim.Inject(providertest.Rule{Kind: provider.Refresh, Times: 1, Fault: providertest.Set("dc", "us")})
	api.answer(func(w http.ResponseWriter, r *http.Request) {
		api.note(r)
		if !strings.HasPrefix(r.URL.Path, "/us/") {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	if r := s.call("GET", "/v1/proxy/one/me", "", nil); r.status != http.StatusOK || len(api.seen()) != 2 {
		t.Errorf("%d %s; the API saw %+v", r.status, r.body, api.seen())
	}
}

// TestTokenOfAnothersConnection: the id of a deleted connection is taken by
// another tenant, in another process. What this process remembers of the first is
// not for them, and what is theirs is not for the first.
func TestTokenOfAnothersConnection(t *testing.T) {
	s, api := startProxied(t)
	s.imports("shared", "plain", "alice", "acme")
	acme, globex := s.client("acme-app", "acme", ScopeToken), s.client("globex-app", "globex", ScopeToken)
	path := "/v1/connections/shared/token"
	old := s.as(acme, "GET", path, "").field(t, "access_token").(string)
	elsewhere, err := keeper.New(keeper.Config{Store: s.db.Keeper(), Keys: s.keys, Providers: s.providers, Log: s.log.logger(), Now: s.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := elsewhere.Delete(t.Context(), keeper.Actor{Name: "operator"}, "shared"); err != nil {
		t.Fatal(err)
	}
	_, tokens := s.sims["plain"].Connect("bob")
	if _, err := elsewhere.Create(t.Context(), keeper.Actor{Name: "operator"}, keeper.Import{ID: "shared", Provider: "plain", Tenant: "globex", Owner: "bob",
		AccessToken: tokens.AccessToken, RefreshToken: tokens.RefreshToken, ExpiresAt: tokens.ExpiresAt}); err != nil {
		t.Fatal(err)
	}
	api.answer(func(_ http.ResponseWriter, r *http.Request) { api.note(r) })
	if r := s.as(globex, "GET", "/v1/proxy/shared/me", ""); r.status != http.StatusOK || api.seen()[0].header.Get("Authorization") != "Bearer "+tokens.AccessToken.Reveal() {
		t.Errorf("the new tenant calls with another token: %d %s", r.status, r.body)
	}
	if r := s.as(globex, "GET", path, ""); r.field(t, "access_token") == old || r.field(t, "access_token") != tokens.AccessToken.Reveal() {
		t.Errorf("the new tenant gets %d %s", r.status, r.body)
	}
	if r := s.as(acme, "GET", path, ""); r.status != http.StatusNotFound {
		t.Errorf("the old tenant gets %d %s", r.status, r.body)
	}
}

// TestStreamOfWithdrawnAccess: a stream ends when its access token does, or the
// scope of the client, and goes on while neither does.
func TestStreamOfWithdrawnAccess(t *testing.T) {
	for name, withdraw := range map[string]func(seen *oauth.Introspection, client *issuer.Client){
		"nothing":            func(*oauth.Introspection, *issuer.Client) {},
		"the token is over":  func(seen *oauth.Introspection, _ *issuer.Client) { *seen = oauth.Introspection{} },
		"the scope":          func(_ *oauth.Introspection, client *issuer.Client) { client.Scopes = []string{ScopeToken} },
		"the tenant changed": func(_ *oauth.Introspection, client *issuer.Client) { client.Tenant = "globex" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			within(t, func(t *testing.T, db *testdb.DB) {
				var withdrawn atomic.Bool
				a := newAPI(APIConfig{Hooks: db, Keeper: &keeper.Keeper{}, Inspect: func(_ context.Context, token string) (oauth.Introspection, issuer.Client, error) {
					seen := oauth.Introspection{Active: token == "live", Scope: ScopeRead}
					client := issuer.Client{ID: "app", Tenant: "acme", Scopes: []string{ScopeRead}, Secrets: []secret.Verifier{secret.NewVerifier(photosSecret)}}
					if withdrawn.Load() {
						withdraw(&seen, &client)
					}
					return seen, client, nil
				}})
				a.tail = newTail(db, a.Log)
				near, far := net.Pipe()
				serving := &http.Server{Handler: a.authorized(a.serve(a.resources()["/v1/events"]))}
				conns := make(chan net.Conn, 1)
				conns <- far
				go serving.Serve(onePipe{conns})
				fmt.Fprint(near, "GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer live\r\nAccept: text/event-stream\r\n\r\n")
				lines := bufio.NewReader(near)
				beats := func() (n int) {
					for n < 3 {
						line, err := lines.ReadString('\n')
						if err != nil || line == "0\r\n" { // the last chunk
							return n
						}
						if strings.Contains(line, "still here") {
							n++
						}
					}
					return n
				}
				if beats() != 3 {
					t.Fatal("the stream ended")
				}
				withdrawn.Store(true)
				if n := beats(); (n == 3) != (name == "nothing") || n != 3 && n != 0 {
					t.Errorf("%d signs of life after %s was withdrawn", n, name)
				}
				near.Close()
				serving.Close()
			})
		})
	}
}
