package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/internal/testdb"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/issuer/profile"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
	"github.com/evergrant/evergrant/secret"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const (
	verifier    = "a-code-verifier-of-at-least-forty-three-characters"
	redirectURI = "https://photos.example/callback"
)

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// logs is a log that a test reads while the server writes.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// logger writes to the log, down to debug level.
func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// server is a whole server on a database of its own.
type server struct {
	t     *testing.T
	url   string
	http  *httptest.Server
	db    *testdb.DB
	admin *issuer.Admin
	keys  *secret.Ring
	clock *clock
	log   *logs
	token string // the admin's

	// Of servers with a keeper.
	keeper    *keeper.Keeper
	sims      map[string]*providertest.Simulator // by the name of the provider
	providers []*provider.Provider
	stopping  chan struct{} // closed by a test that stops the server
	config    APIConfig
}

// start starts a server, with TLS or without, with the client "photos" and the
// user "alice" whose password is "wonderland". Where there are dialects it has a
// keeper, with a simulated provider for each, called by the dialect's name.
func start(t *testing.T, tls bool, dialects ...providertest.Dialect) *server {
	t.Helper()
	return startDefined(t, tls, func(*provider.Definition) {}, dialects...)
}

// startDefined is start with a change of the providers' definitions.
func startDefined(t *testing.T, tls bool, define func(*provider.Definition), dialects ...providertest.Dialect) *server {
	t.Helper()
	s := &server{t: t, clock: &clock{at: time.Now()}, log: &logs{}, token: rand.Text(), sims: map[string]*providertest.Simulator{}, stopping: make(chan struct{})}
	logger := s.log.logger()
	s.http = httptest.NewUnstartedServer(nil)
	s.url = "http://" + s.http.Listener.Addr().String()
	if tls {
		s.url = "https://" + s.http.Listener.Addr().String()
	}
	ctx := t.Context()
	var err error
	if s.db, err = testdb.New(t).Open(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.db.Close() })
	if s.keys, err = secret.OpenRing(ctx, secret.NewRoot(), s.db, s.clock.now, false); err != nil {
		t.Fatal(err)
	}
	pages, err := NewPages(PagesConfig{PublicURL: s.url, Keys: s.keys, User: s.db.User, Log: logger, Now: s.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	oauthServer, err := issuer.New(issuer.Config{
		Issuer: s.url, Store: s.db, Keys: s.keys, AskOwner: pages.Ask, ErrorPage: pages.Error, Log: logger, Now: s.clock.now,
		Scopes: map[string]string{"read": "Read your albums", "write": "Change your albums"}, Reserved: Scopes(),
		Profiles: profile.All(profile.Options{}),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.admin = issuer.NewAdmin(oauthServer, s.db)
	s.config = APIConfig{
		Token: secret.NewText(s.token), Admin: s.admin, Database: s.db, Inspect: oauthServer.Inspect, Log: logger, Now: s.clock.now,
		Keys: s.keys, PublicURL: s.url, Hooks: s.db, Stopping: s.stopping,
	}
	if len(dialects) > 0 {
		s.keep(define, dialects)
	}
	s.http.Config.Handler = s.site(oauthServer, pages, s.config)
	if tls {
		s.http.StartTLS()
	} else {
		s.http.Start()
	}
	t.Cleanup(s.http.Close)
	s.saveClient(issuer.Client{
		ID: "photos", Name: "Holiday <Photos>", Secrets: []secret.Verifier{secret.NewVerifier(photosSecret)},
		RedirectURIs: []string{redirectURI}, Scopes: oauth.Scope{"read", "write", "plain"},
		GrantTypes: []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken, oauth.GrantPassword, oauth.GrantClientCredentials},
	})
	s.saveUser("alice", "wonderland")
	return s
}

// keep makes the keeper and its providers.
func (s *server) keep(define func(*provider.Definition), dialects []providertest.Dialect) {
	s.t.Helper()
	for _, dialect := range dialects {
		sim := providertest.New(dialect, providertest.Options{Now: s.clock.now, Consent: providertest.Allow, RedirectURIs: []string{s.url + CallbackPath}})
		at, stop := providertest.Listen(sim)
		s.t.Cleanup(stop)
		definition := sim.Definition(at)
		definition.Title = dialect.Name
		define(&definition)
		p, err := provider.New(provider.Config{
			Name: dialect.Name, Definition: definition, ClientID: "sim-client", ClientSecrets: []secret.Text{secret.NewText("sim-secret")},
			RedirectURI: s.url + CallbackPath, AllowPrivateNetworks: true, Now: s.clock.now,
		})
		if err != nil {
			s.t.Fatal(err)
		}
		s.sims[dialect.Name], s.providers = sim, append(s.providers, p)
	}
	var err error
	s.keeper, err = keeper.New(keeper.Config{Store: s.db.Keeper(), Keys: s.keys, Providers: s.providers, Log: s.log.logger(), Now: s.clock.now})
	if err != nil {
		s.t.Fatal(err)
	}
	s.config.Keeper, s.config.Providers = s.keeper, s.providers
	s.config.Connections, s.config.Events = s.db.Keeper(), s.db.Keeper()
}

// site is a whole server's handler.
func (s *server) site(issuer http.Handler, pages *Pages, config APIConfig) http.Handler {
	s.t.Helper()
	connect, err := NewConnect(config)
	if err != nil {
		s.t.Fatal(err)
	}
	console, err := NewConsole(config)
	if err != nil {
		s.t.Fatal(err)
	}
	return NewSite(SiteConfig{
		Issuer: issuer, Pages: pages, Ready: s.db.Ready, Log: config.Log, Now: config.Now,
		API: NewAPI(config), Connect: connect, Console: console,
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "metric 1\n") }),
	})
}

// serve has another handler answer from now on.
func (s *server) serve(handler http.Handler) {
	s.t.Helper()
	s.http = httptest.NewServer(handler)
	s.t.Cleanup(s.http.Close)
	s.url = s.http.URL
}

var (
	photosSecret = secret.NewSecret()
	operator     = issuer.Actor{Name: "operator"}
)

func (s *server) saveClient(client issuer.Client) {
	s.t.Helper()
	if _, err := s.admin.SaveClient(context.Background(), operator, client); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) saveUser(name, password string) {
	s.t.Helper()
	user := issuer.User{Username: name, Password: secret.NewVerifier(secret.NewText(password))}
	if _, err := s.admin.SaveUser(context.Background(), operator, user); err != nil {
		s.t.Fatal(err)
	}
}

// reply is an answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

// field is a member of a JSON answer, such as "client.id".
func (r reply) field(t *testing.T, path string) any {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(r.body), &value); err != nil {
		t.Fatalf("%v in %q", err, r.body)
	}
	for name := range strings.SplitSeq(path, ".") {
		object, ok := value.(map[string]any)
		if !ok {
			t.Fatalf("no %s in %s", path, r.body)
		}
		value = object[name]
	}
	return value
}

func (s *server) do(client *http.Client, req *http.Request) reply {
	s.t.Helper()
	resp, err := client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(body)}
}

func (s *server) request(method, path, body string) *http.Request {
	s.t.Helper()
	req, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	return req
}

// api sends a request of the administrator.
func (s *server) api(method, path, body string) reply {
	s.t.Helper()
	req := s.request(method, path, body)
	req.Header.Set("Authorization", "Bearer "+s.token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return s.do(s.http.Client(), req)
}

// mustAPI is api for a request that has to succeed with a status.
func (s *server) mustAPI(status int, method, path, body string) reply {
	s.t.Helper()
	r := s.api(method, path, body)
	if r.status != status {
		s.t.Fatalf("%s %s: status %d, want %d: %s", method, path, r.status, status, r.body)
	}
	if r.header.Get("Cache-Control") != "no-store" {
		s.t.Fatalf("%s %s may be cached", method, path)
	}
	return r
}

// tokenRequest asks the token endpoint as a client.
func (s *server) tokenRequest(id string, secretText secret.Text, pairs ...string) reply {
	s.t.Helper()
	req := s.request("POST", "/oauth/token", form(pairs...).Encode())
	req.Header.Set("Content-Type", oauth.FormType)
	req.Header.Set("Authorization", oauth.BasicHeader(id, secretText.Reveal()))
	return s.do(s.http.Client(), req)
}

// grant gets a grant of alice's by the password grant, and its refresh token.
func (s *server) grant() (id, refreshToken string) {
	s.t.Helper()
	r := s.tokenRequest("photos", photosSecret, "grant_type", "password", "username", "alice", "password", "wonderland", "scope", "read")
	if r.status != http.StatusOK {
		s.t.Fatalf("no token: %s", r.body)
	}
	grants, err := s.db.Grants(s.t.Context(), issuer.GrantFilter{Subject: "alice"})
	if err != nil || len(grants) == 0 {
		s.t.Fatalf("no grant: %v", err)
	}
	token := r.field(s.t, "refresh_token").(string)
	r = s.mustAPI(http.StatusOK, "POST", "/v1/explain", `{"of":"`+token+`"}`)
	return r.field(s.t, "grant.id").(string), token
}

// form makes form values of pairs of name and value.
func form(pairs ...string) url.Values {
	values := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		values.Add(pairs[i], pairs[i+1])
	}
	return values
}

// browser is an HTTP client with cookies that does not follow redirects.
func (s *server) browser() *http.Client {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	client := *s.http.Client()
	client.Jar = jar
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}

// authorizePath is an authorization request of a client, with further or other
// parameters.
func authorizePath(client string, pairs ...string) string {
	query := form("response_type", "code", "client_id", client, "redirect_uri", redirectURI, "state", "s t&1",
		"code_challenge", oauth.Challenge(verifier), "code_challenge_method", "S256")
	for name, values := range form(pairs...) {
		query[name] = values
	}
	return "/oauth/authorize?" + query.Encode()
}

// submit sends a form as a browser does.
func (s *server) submit(client *http.Client, path string, pairs ...string) reply {
	s.t.Helper()
	req := s.request("POST", path, form(pairs...).Encode())
	req.Header.Set("Content-Type", oauth.FormType)
	req.Header.Set("Origin", s.url)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	return s.do(client, req)
}

func (s *server) get(client *http.Client, path string) reply {
	s.t.Helper()
	return s.do(client, s.request("GET", path, ""))
}

// asOperator is a request that authorized has let pass.
func asOperator(r *http.Request) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), callerKey{}, caller{operator: true}))
}
