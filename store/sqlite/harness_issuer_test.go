package sqlite_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/sqlite"
)

// What every database of these tests has: one client for each access token
// format, and one resource owner. Their secrets have the generated form, which
// costs a microsecond to check.
const (
	opaqueClient = "opaque-app"
	jwtClient    = "jwt-app"
	owner        = "bshaffer"
	redirectURI  = "https://app.test/callback"
)

// site is what outlives a server: the root key, and the secrets of the clients
// and of the owner. All have the same one, since no test is about it.
type site struct {
	root   secret.Root
	secret secret.Text
}

func newSite() site { return site{secret.NewRoot(), secret.NewSecret()} }

// service is an authorization server on a database file.
type service struct {
	store  *sqlite.DB
	server *issuer.Server
}

// openService opens the file at path, as another process would after a crash or
// a restore. A nil now is the clock on the wall.
func openService(ctx context.Context, path string, root secret.Root, o sqlite.Options, now func() time.Time) (*service, error) {
	store, err := sqlite.Open(ctx, path, o)
	if err != nil {
		return nil, err
	}
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
	return &service{store, server}, nil
}

// consent is an owner who agrees to everything without being shown a page.
func consent(_ http.ResponseWriter, _ *http.Request, ask *issuer.Authorization) (issuer.Answer, bool) {
	return issuer.Answer{Subject: owner, Scope: ask.Scope}, true
}

// populate registers the clients and the owner.
func (s *service) populate(ctx context.Context, site site) error {
	admin, actor := issuer.NewAdmin(s.server, s.store), issuer.Actor{Name: "operator"}
	verifiers := []secret.Verifier{secret.NewVerifier(site.secret)}
	for id, format := range map[string]issuer.TokenFormat{opaqueClient: issuer.FormatOpaque, jwtClient: issuer.FormatJWT} {
		_, err := admin.SaveClient(ctx, actor, issuer.Client{
			ID: id, Secrets: verifiers, RedirectURIs: []string{redirectURI},
			GrantTypes: []string{oauth.GrantAuthorizationCode, oauth.GrantPassword, oauth.GrantRefreshToken},
			Policy:     issuer.Policy{Format: format},
		})
		if err != nil {
			return err
		}
	}
	_, err := admin.SaveUser(ctx, actor, issuer.User{Username: owner, Password: verifiers[0]})
	return err
}

// rows are all grants of the database.
func (s *service) rows(ctx context.Context) (map[issuer.GrantID]issuer.Grant, error) {
	rows, filter := map[issuer.GrantID]issuer.Grant{}, issuer.GrantFilter{Limit: 1000}
	for {
		page, err := s.store.Grants(ctx, filter)
		if err != nil || len(page) == 0 {
			return rows, err
		}
		for _, grant := range page {
			rows[grant.ID] = grant
		}
		filter.After = page[len(page)-1].ID
	}
}

// events counts the events of a type by grant.
func (s *service) events(ctx context.Context, eventType string) (map[issuer.GrantID]int, error) {
	counts, filter := map[issuer.GrantID]int{}, issuer.EventFilter{Type: eventType, Limit: 1000}
	for {
		page, err := s.store.Events(ctx, filter)
		if err != nil || len(page) == 0 {
			return counts, err
		}
		for _, event := range page {
			counts[event.Grant]++
		}
		filter.Before = page[len(page)-1].ID
	}
}

// answer is what the token endpoint said: tokens, or an error code. It prints
// without its tokens.
type answer struct {
	status int
	code   string // of the error, or the authorization code in a redirect
	tokens oauth.TokenResponse
}

func (a answer) String() string {
	return fmt.Sprintf("%d %s generation %d", a.status, cmp.Or(a.code, "ok"), a.generation())
}

func (a answer) ok() bool { return a.status == http.StatusOK }

// same reports whether two answers give the same tokens to the byte.
func (a answer) same(b answer) bool {
	return a.ok() && b.ok() && a.tokens.RefreshToken == b.tokens.RefreshToken &&
		a.tokens.AccessToken == b.tokens.AccessToken && a.tokens.Scope == b.tokens.Scope
}

func (a answer) generation() uint32 {
	_, generation := tokenRef(a.tokens.RefreshToken)
	return generation
}
func (a answer) grant() issuer.GrantID    { grant, _ := tokenRef(a.tokens.RefreshToken); return grant }
func (a answer) refuses(code string) bool { return a.status == http.StatusBadRequest && a.code == code }

// tokenRef reads what a refresh token or code says openly: behind a prefix of
// four characters and a key id of four bytes, the grant and its generation.
func tokenRef(token string) (grant issuer.GrantID, generation uint32) {
	if len(token) < 36 {
		return grant, 0
	}
	b, err := base64.RawURLEncoding.DecodeString(token[4:36])
	if err != nil {
		return grant, 0
	}
	return issuer.GrantID(b[4:20]), binary.BigEndian.Uint32(b[20:])
}

// app is the side of the clients: it speaks HTTP to a server.
type app struct {
	http   *http.Client
	base   string
	secret string
}

// newApp talks to a server at base through transport.
func newApp(site site, base string, transport http.RoundTripper) *app {
	return &app{
		http: &http.Client{
			Transport: transport, Timeout: 30 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		base: base, secret: site.secret.Reveal(),
	}
}

// keptAlive is a transport with room for as many connections as clients.
func keptAlive() *http.Transport { return &http.Transport{MaxIdleConnsPerHost: 128} }

// inProcess is a transport that calls a handler instead of a network.
type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := &recorded{header: http.Header{}, status: http.StatusOK}
	p.handler.ServeHTTP(w, r)
	return &http.Response{StatusCode: w.status, Header: w.header, Body: io.NopCloser(&w.body), Request: r}, nil
}

type recorded struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorded) Header() http.Header         { return w.header }
func (w *recorded) WriteHeader(status int)      { w.status = status }
func (w *recorded) Write(b []byte) (int, error) { return w.body.Write(b) }

// post sends a form as a client. The error means that there was no whole
// answer.
func (a *app) post(ctx context.Context, path, client string, form url.Values) (answer, error) {
	form.Set("client_id", client)
	form.Set("client_secret", a.secret)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return answer{}, err
	}
	request.Header.Set("Content-Type", oauth.FormType)
	response, err := a.http.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	result := answer{status: response.StatusCode}
	if len(body) == 0 {
		return result, nil
	}
	if !result.ok() {
		var told oauth.Error
		err = json.Unmarshal(body, &told)
		result.code = told.Code
		return result, err
	}
	return result, json.Unmarshal(body, &result.tokens)
}

func (a *app) refresh(ctx context.Context, client, token string) (answer, error) {
	return a.post(ctx, issuer.TokenPath, client, url.Values{"grant_type": {oauth.GrantRefreshToken}, "refresh_token": {token}})
}

// grant makes a new grant with the owner's password.
func (a *app) grant(ctx context.Context, client string) (answer, error) {
	return a.post(ctx, issuer.TokenPath, client, url.Values{"grant_type": {oauth.GrantPassword}, "username": {owner}, "password": {a.secret}})
}

func (a *app) revoke(ctx context.Context, client, token string) (answer, error) {
	return a.post(ctx, issuer.RevokePath, client, url.Values{"token": {token}})
}

// verifier is the PKCE verifier of all authorization requests here.
const verifier = "a-code-verifier-of-more-than-forty-three-characters"

// authorize asks the owner, who consents, and is given a code in answer.code.
func (a *app) authorize(ctx context.Context, client string) (answer, error) {
	query := url.Values{
		"response_type": {"code"}, "client_id": {client}, "redirect_uri": {redirectURI},
		"code_challenge": {oauth.Challenge(verifier)}, "code_challenge_method": {oauth.S256},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+issuer.AuthorizePath+"?"+query.Encode(), nil)
	if err != nil {
		return answer{}, err
	}
	response, err := a.http.Do(request)
	if err != nil {
		return answer{}, err
	}
	response.Body.Close()
	back, err := url.Parse(response.Header.Get("Location"))
	if err != nil {
		return answer{}, err
	}
	return answer{status: response.StatusCode, code: back.Query().Get("code")}, nil
}

func (a *app) redeem(ctx context.Context, client, code string) (answer, error) {
	return a.post(ctx, issuer.TokenPath, client, url.Values{
		"grant_type": {oauth.GrantAuthorizationCode}, "code": {code}, "redirect_uri": {redirectURI}, "code_verifier": {verifier},
	})
}

// must ends the test where there is an error, and passes the value on.
func must[T any](t *testing.T) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}
