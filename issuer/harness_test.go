package issuer_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/internal/testdb"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
	"github.com/prometheus/client_golang/prometheus"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// party is a client as a request names it.
type party struct{ id, secret string }

// The clients that every site has. Their secrets have the generated form, which
// costs a microsecond to check.
var (
	app       = party{"app", secret.NewSecret().Reveal()}       // confidential, every grant type, opaque tokens
	other     = party{"other", secret.NewSecret().Reveal()}     // the same again, for theft between clients
	resources = party{"resources", secret.NewSecret().Reveal()} // a resource server: introspects everything
	public    = party{"public", ""}                             // a native app
)

// The resource owner, whose password has the generated form too.
const owner = "bshaffer"

var ownerPassword = secret.NewSecret().Reveal()

const (
	callback = "https://app.example/callback"
	loopback = "http://127.0.0.1/callback"
)

// chosen is a secret that a person chose, and its verifier, which costs 17 ms
// to make.
const chosenSecret = "correct horse+battery%staple"

var chosen = sync.OnceValue(func() secret.Verifier { return secret.NewVerifier(secret.NewText(chosenSecret)) })

// clock stands still until a test moves it.
type clock struct{ at atomic.Pointer[time.Time] }

func newClock() *clock {
	c := &clock{}
	c.set(time.Date(2031, 5, 17, 9, 30, 0, 250e6, time.UTC))
	return c
}

func (c *clock) now() time.Time          { return *c.at.Load() }
func (c *clock) set(t time.Time)         { c.at.Store(&t) }
func (c *clock) advance(d time.Duration) { c.set(c.now().Add(d)) }

// setup is what a test wants other than usual. The zero value is good.
type setup struct {
	config func(*issuer.Config)            // the last word on the configuration
	wrap   func(issuer.Store) issuer.Store // around the database
	policy issuer.Policy
}

// site is an authorization server under test: a real database, real HTTP, and a
// clock.
type site struct {
	t     testing.TB
	setup setup
	url   string
	place testdb.Place
	clock *clock
	root  secret.Root
	owner issuer.AskOwner // who is asked; the default agrees to everything

	db      *testdb.DB
	ring    *secret.Ring
	server  *issuer.Server
	admin   *issuer.Admin
	handler atomic.Pointer[issuer.Server] // what HTTP requests reach; changed by restore

	web     *http.Client
	metrics *prometheus.Registry
	log     journal // at debug level
	answers journal // every error that a client was given
}

// operator is who administers in tests.
var operator = issuer.Actor{Name: "operator", Address: "192.0.2.1"}

// newSite starts a server with its clients and its owner. When the test ends it
// checks that no secret has come into the log, the error answers or the events.
func newSite(t testing.TB, s setup) *site {
	t.Helper()
	e := &site{t: t, setup: s, place: testdb.New(t), clock: newClock(), root: secret.NewRoot(), owner: agree}
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { e.handler.Load().ServeHTTP(w, r) }))
	e.url = "http://" + web.Listener.Addr().String()
	e.open()
	t.Cleanup(func() {
		web.Close()
		e.t = t // a fuzz target had set its own
		e.checkNothingLeaked()
		e.db.Close()
	})
	web.Start()
	e.web = &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 64},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(e.web.CloseIdleConnections)

	for _, p := range []party{app, other} {
		e.register(p, issuer.Client{
			RedirectURIs: []string{callback},
			GrantTypes:   []string{oauth.GrantAuthorizationCode, oauth.GrantPassword, oauth.GrantRefreshToken, oauth.GrantClientCredentials},
			Policy:       issuer.Policy{Format: issuer.FormatOpaque},
		})
	}
	e.register(resources, issuer.Client{GrantTypes: []string{oauth.GrantClientCredentials}, Introspect: true})
	e.register(public, issuer.Client{RedirectURIs: []string{loopback}})
	_, err := e.admin.SaveUser(e.ctx(), operator, issuer.User{Username: owner, Password: secret.NewVerifier(secret.NewText(ownerPassword))})
	e.must(err)
	return e
}

// open opens the database, as another process does, and serves it.
func (e *site) open() {
	e.t.Helper()
	var err error
	e.db, err = e.place.Open(e.ctx())
	e.must(err)
	var store issuer.Store = e.db
	if e.setup.wrap != nil {
		store = e.setup.wrap(store)
	}
	e.ring, err = secret.OpenRing(e.ctx(), e.root, store, e.clock.now, false)
	e.must(err)
	e.metrics = prometheus.NewRegistry()
	config := issuer.Config{
		Issuer: e.url, Store: store, Keys: e.ring, Policy: e.setup.policy,
		Scopes: map[string]string{"read": "Read your data", "write": "Change your data"},
		AskOwner: func(w http.ResponseWriter, r *http.Request, ask *issuer.Authorization) (issuer.Answer, bool) {
			return e.owner(w, r, ask)
		},
		Metrics: e.metrics,
		Log:     slog.New(slog.NewTextHandler(&e.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now:     e.clock.now,
	}
	if e.setup.config != nil {
		e.setup.config(&config)
	}
	e.server, err = issuer.New(config)
	e.must(err)
	e.admin = issuer.NewAdmin(e.server, e.db)
	e.handler.Store(e.server)
}

// restore goes on with a copy of the database, as after the loss of the disk.
func (e *site) restore(backup []byte) {
	e.t.Helper()
	e.must(e.db.Close())
	e.place = testdb.Restore(e.t, backup)
	e.open()
}

func (e *site) backup() []byte {
	e.t.Helper()
	var copy bytes.Buffer
	e.must(e.db.Backup(e.ctx(), &copy))
	return copy.Bytes()
}

func (e *site) ctx() context.Context { return context.WithoutCancel(e.t.Context()) }

func (e *site) must(err error) {
	if err != nil {
		e.t.Helper()
		e.t.Fatal(err)
	}
}

// register saves a client under a party's name and secret.
func (e *site) register(p party, c issuer.Client) party {
	e.t.Helper()
	c.ID = p.id
	if p.secret != "" {
		c.Secrets = []secret.Verifier{secret.NewVerifier(secret.NewText(p.secret))}
	}
	_, err := e.admin.SaveClient(e.ctx(), operator, c)
	e.must(err)
	return p
}

// variant registers a client that differs from app in its policy alone.
func (e *site) variant(id string, policy issuer.Policy) party {
	e.t.Helper()
	return e.register(party{id, secret.NewSecret().Reveal()}, issuer.Client{
		RedirectURIs: []string{callback},
		GrantTypes:   []string{oauth.GrantAuthorizationCode, oauth.GrantPassword, oauth.GrantRefreshToken, oauth.GrantClientCredentials},
		Policy:       policy,
	})
}

// agree is an owner who grants all that is asked for without being shown a page.
func agree(_ http.ResponseWriter, _ *http.Request, ask *issuer.Authorization) (issuer.Answer, bool) {
	return issuer.Answer{Subject: owner, Scope: ask.Scope}, true
}

// reply is an answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

// do sends a request.
func (e *site) do(req *http.Request) reply {
	e.t.Helper()
	response, err := e.web.Do(req)
	e.must(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	e.must(err)
	if response.StatusCode >= 400 {
		e.answers.Write(append(body, '\n'))
	}
	return reply{response.StatusCode, response.Header, string(body)}
}

// request makes a POST request with a form body and no authentication.
func (e *site) request(path, body string) *http.Request {
	e.t.Helper()
	req, err := http.NewRequestWithContext(e.ctx(), http.MethodPost, e.url+path, strings.NewReader(body))
	e.must(err)
	req.Header.Set("Content-Type", oauth.FormType)
	return req
}

// post sends a form as a client, whose secret goes by Basic.
func (e *site) post(path string, as party, form ...string) reply {
	e.t.Helper()
	values := formOf(form...)
	if as.secret == "" {
		values.Set("client_id", as.id)
	}
	req := e.request(path, values.Encode())
	if as.secret != "" {
		req.Header.Set("Authorization", oauth.BasicHeader(as.id, as.secret))
	}
	return e.do(req)
}

// formOf makes a form of names and values in turn; an empty value leaves the
// parameter out.
func formOf(pairs ...string) url.Values {
	values := url.Values{}
	for pair := range slices.Chunk(pairs, 2) {
		if pair[1] != "" {
			values.Set(pair[0], pair[1])
		}
	}
	return values
}

func (e *site) refresh(as party, token string, more ...string) reply {
	e.t.Helper()
	return e.post(issuer.TokenPath, as, append([]string{"grant_type", "refresh_token", "refresh_token", token}, more...)...)
}

// refreshed refreshes a token that must be good.
func (e *site) refreshed(as party, token string, more ...string) oauth.TokenResponse {
	e.t.Helper()
	return e.refresh(as, token, more...).tokens(e.t)
}

// login gets tokens by the password grant.
func (e *site) login(as party, more ...string) oauth.TokenResponse {
	e.t.Helper()
	return e.post(issuer.TokenPath, as, append([]string{"grant_type", "password", "username", owner, "password", ownerPassword}, more...)...).tokens(e.t)
}

// introspect is what the resource server is told of a token.
func (e *site) introspect(token string) oauth.Introspection {
	e.t.Helper()
	var seen oauth.Introspection
	e.post(issuer.IntrospectPath, resources, "token", token).into(e.t, &seen)
	return seen
}

// wantDead checks that a token is worth nothing.
func (e *site) wantDead(what, token string) {
	e.t.Helper()
	if seen := e.introspect(token); seen.Active {
		e.t.Errorf("%s is active: %+v", what, seen)
	}
}

func (e *site) wantAlive(what, token string) oauth.Introspection {
	e.t.Helper()
	seen := e.introspect(token)
	if !seen.Active {
		e.t.Errorf("%s is not active", what)
	}
	return seen
}

// events are the events of a type (all for ""), newest first.
func (e *site) events(eventType string) []issuer.Event {
	e.t.Helper()
	var all []issuer.Event
	filter := issuer.EventFilter{Type: eventType, Limit: 1000}
	for {
		page, err := e.db.Events(e.ctx(), filter)
		e.must(err)
		if len(page) == 0 {
			return all
		}
		all = append(all, page...)
		filter.Before = page[len(page)-1].ID
	}
}

// wantEvent checks that there is one event of a type, and returns it.
func (e *site) wantEvent(eventType string, cause issuer.Cause) issuer.Event {
	e.t.Helper()
	events := e.events(eventType)
	if len(events) != 1 {
		e.t.Fatalf("%d events %s, want 1: %+v", len(events), eventType, events)
	}
	if events[0].Cause != cause {
		e.t.Errorf("event %s has cause %q, want %q", eventType, events[0].Cause, cause)
	}
	return events[0]
}

// grants are all rows.
func (e *site) grants() []issuer.Grant {
	e.t.Helper()
	grants, err := e.db.Grants(e.ctx(), issuer.GrantFilter{Limit: 1000})
	e.must(err)
	return grants
}

// grant is the only row.
func (e *site) grant() issuer.Grant {
	e.t.Helper()
	grants := e.grants()
	if len(grants) != 1 {
		e.t.Fatalf("%d grants, want 1", len(grants))
	}
	return grants[0]
}

// into decodes an answer of status 200.
func (r reply) into(t testing.TB, v any) {
	t.Helper()
	if r.status != http.StatusOK {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	r.wantHeaders(t)
	if err := json.Unmarshal([]byte(r.body), v); err != nil {
		t.Fatalf("%v in %s", err, r.body)
	}
}

// tokens decodes an answer with tokens (RFC 6749 section 5.1).
func (r reply) tokens(t testing.TB) oauth.TokenResponse {
	t.Helper()
	var tokens oauth.TokenResponse
	r.into(t, &tokens)
	if tokens.AccessToken == "" || tokens.TokenType != "Bearer" {
		t.Fatalf("no token in %s", r.body)
	}
	return tokens
}

// failure is the error code of an answer, "" for none.
func (r reply) failure() string {
	var told oauth.Error
	json.Unmarshal([]byte(r.body), &told)
	return told.Code
}

// legalText is what RFC 6749 section 5.2 allows in error and error_description.
var legalText = regexp.MustCompile(`^[\x20-\x21\x23-\x5B\x5D-\x7E]*$`)

// wantError checks an error answer (RFC 6749 section 5.2) and returns its
// description.
func (r reply) wantError(t testing.TB, status int, code string) string {
	t.Helper()
	var told oauth.Error
	if err := json.Unmarshal([]byte(r.body), &told); err != nil {
		t.Fatalf("status %d, %v in %q", r.status, err, r.body)
	}
	if r.status != status || told.Code != code {
		t.Fatalf("status %d %s, want %d %s", r.status, r.body, status, code)
	}
	r.wantHeaders(t)
	if !legalText.MatchString(told.Code) || !legalText.MatchString(told.Description) || told.Description == "" {
		t.Errorf("error text is empty or not legal: %s", r.body)
	}
	if challenge := r.header.Get("WWW-Authenticate"); (status == http.StatusUnauthorized) != (challenge != "") {
		t.Errorf("status %d with WWW-Authenticate %q", status, challenge)
	}
	if again := r.header.Get("Retry-After"); (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable) != (again != "") {
		t.Errorf("status %d with Retry-After %q", status, again)
	}
	return told.Description
}

// wantHeaders checks what every JSON answer to a client has (RFC 6749 section
// 5.1).
func (r reply) wantHeaders(t testing.TB) {
	t.Helper()
	for name, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache"} {
		if got := r.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// journal is a buffer for concurrent writers.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// tokenShaped finds codes, refresh tokens, opaque access tokens, generated
// secrets, and JWTs with their payload.
var tokenShaped = regexp.MustCompile(`eg[acrs]_[A-Za-z0-9_-]{40}|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{20}`)

// checkNothingLeaked looks through all that is written down outside of answers
// to the right client.
func (e *site) checkNothingLeaked() {
	events, err := json.Marshal(e.events(""))
	e.must(err)
	for where, text := range map[string]string{"the log": e.log.String(), "error answers": e.answers.String(), "events": string(events)} {
		found := tokenShaped.FindString(text)
		for _, planted := range []string{chosenSecret, url.QueryEscape(chosenSecret), e.root.Base64()} {
			if strings.Contains(text, planted) {
				found = cmp.Or(found, planted)
			}
		}
		if found != "" {
			e.t.Errorf("%s: a secret is in %s", found, where)
		}
	}
}

// clientAddress is the address from which all requests of the tests come.
func clientAddress(t testing.TB, e *site) string {
	t.Helper()
	host, _, err := net.SplitHostPort(strings.TrimPrefix(e.url, "http://"))
	e.must(err)
	return host
}
