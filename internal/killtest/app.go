package killtest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
)

// Answer is what the token endpoint said: tokens, or an error code. It prints
// without its tokens.
type Answer struct {
	Status int
	Code   string // of the error, or the authorization code in a redirect
	Tokens oauth.TokenResponse
}

// String is the status, the error if any, and the generation.
func (a Answer) String() string {
	return fmt.Sprintf("%d %s generation %d", a.Status, cmp.Or(a.Code, "ok"), a.Generation())
}

// OK reports whether the answer is no error.
func (a Answer) OK() bool { return a.Status == http.StatusOK }

// Same reports whether two answers give the same tokens to the byte.
func (a Answer) Same(b Answer) bool {
	return a.OK() && b.OK() && a.Tokens.RefreshToken == b.Tokens.RefreshToken &&
		a.Tokens.AccessToken == b.Tokens.AccessToken && a.Tokens.Scope == b.Tokens.Scope
}

// Generation is that of the refresh token, 0 where there is none.
func (a Answer) Generation() uint32 {
	_, generation := tokenRef(a.Tokens.RefreshToken)
	return generation
}

// Grant is that of the refresh token.
func (a Answer) Grant() issuer.GrantID { grant, _ := tokenRef(a.Tokens.RefreshToken); return grant }

// Refuses reports whether the answer is an error of a code (RFC 6749 section 5.2).
func (a Answer) Refuses(code string) bool { return a.Status == http.StatusBadRequest && a.Code == code }

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

// App is the side of the clients: it speaks HTTP to a server.
type App struct {
	HTTP   *http.Client
	base   string
	secret string
}

// NewApp talks to a server at base through transport.
func NewApp(site Site, base string, transport http.RoundTripper) *App {
	return &App{
		HTTP: &http.Client{
			Transport: transport, Timeout: 30 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		base: base, secret: site.Secret.Reveal(),
	}
}

// KeptAlive is a transport with room for as many connections as clients.
func KeptAlive() *http.Transport { return &http.Transport{MaxIdleConnsPerHost: 128} }

// InProcess is a transport that calls a handler instead of a network.
type InProcess struct{ Handler http.Handler }

// RoundTrip implements [http.RoundTripper].
func (p InProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := &recorded{header: http.Header{}, status: http.StatusOK}
	p.Handler.ServeHTTP(w, r)
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

// send sends a form as a client. The error means that there was no whole answer.
func (a *App) send(ctx context.Context, path, client string, form url.Values) (status int, body []byte, err error) {
	form.Set("client_id", client)
	form.Set("client_secret", a.secret)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Content-Type", oauth.FormType)
	response, err := a.HTTP.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	body, err = io.ReadAll(response.Body)
	return response.StatusCode, body, err
}

// post is send where the answer is tokens, nothing, or an error.
func (a *App) post(ctx context.Context, path, client string, form url.Values) (Answer, error) {
	status, body, err := a.send(ctx, path, client, form)
	if err != nil {
		return Answer{}, err
	}
	result := Answer{Status: status}
	if len(body) == 0 {
		return result, nil
	}
	if !result.OK() {
		var told oauth.Error
		err = json.Unmarshal(body, &told)
		result.Code = told.Code
		return result, err
	}
	return result, json.Unmarshal(body, &result.Tokens)
}

// Refresh sends a refresh token.
func (a *App) Refresh(ctx context.Context, client, token string) (Answer, error) {
	return a.post(ctx, issuer.TokenPath, client, url.Values{"grant_type": {oauth.GrantRefreshToken}, "refresh_token": {token}})
}

// Grant makes a new grant with the owner's password.
func (a *App) Grant(ctx context.Context, client string) (Answer, error) {
	return a.post(ctx, issuer.TokenPath, client, url.Values{"grant_type": {oauth.GrantPassword}, "username": {Owner}, "password": {a.secret}})
}

// Revoke ends a token (RFC 7009).
func (a *App) Revoke(ctx context.Context, client, token string) (Answer, error) {
	return a.post(ctx, issuer.RevokePath, client, url.Values{"token": {token}})
}

// Introspect asks about a token (RFC 7662).
func (a *App) Introspect(ctx context.Context, client, token string) (seen oauth.Introspection, err error) {
	status, body, err := a.send(ctx, issuer.IntrospectPath, client, url.Values{"token": {token}})
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("introspection answered %d", status)
	}
	if err != nil {
		return seen, err
	}
	return seen, json.Unmarshal(body, &seen)
}

// verifier is the PKCE verifier of all authorization requests here.
const verifier = "a-code-verifier-of-more-than-forty-three-characters"

// Authorize asks the owner, who consents, and gives a code in the answer's Code.
func (a *App) Authorize(ctx context.Context, client string) (Answer, error) {
	query := url.Values{
		"response_type": {"code"}, "client_id": {client}, "redirect_uri": {redirectURI},
		"code_challenge": {oauth.Challenge(verifier)}, "code_challenge_method": {oauth.S256},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+issuer.AuthorizePath+"?"+query.Encode(), nil)
	if err != nil {
		return Answer{}, err
	}
	response, err := a.HTTP.Do(request)
	if err != nil {
		return Answer{}, err
	}
	response.Body.Close()
	back, err := url.Parse(response.Header.Get("Location"))
	if err != nil {
		return Answer{}, err
	}
	return Answer{Status: response.StatusCode, Code: back.Query().Get("code")}, nil
}

// Redeem sends an authorization code.
func (a *App) Redeem(ctx context.Context, client, code string) (Answer, error) {
	return a.post(ctx, issuer.TokenPath, client, url.Values{
		"grant_type": {oauth.GrantAuthorizationCode}, "code": {code}, "redirect_uri": {redirectURI}, "code_verifier": {verifier},
	})
}
