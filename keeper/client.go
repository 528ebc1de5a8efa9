package keeper

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/evergrant/evergrant/provider"
	"golang.org/x/oauth2"
)

// TokenSource is Token as golang.org/x/oauth2 has it. Waiting for a token ends
// with the context.
func (k *Keeper) TokenSource(ctx context.Context, id string) oauth2.TokenSource {
	return tokenSource{ctx, k, id}
}

type tokenSource struct {
	ctx context.Context
	k   *Keeper
	id  string
}

// Token gives a live access token, and never the refresh token.
func (s tokenSource) Token() (*oauth2.Token, error) {
	token, err := s.k.Token(s.ctx, s.id, Want{})
	if err != nil {
		return nil, err
	}
	return &oauth2.Token{AccessToken: token.AccessToken.Reveal(), TokenType: token.TokenType, Expiry: token.ExpiresAt}, nil
}

// Client sends requests to the provider's API with a fresh token, and once more
// with a newer one where it is refused with 401 and the body can be sent again
// (http.Request.GetBody). A redirect to another host is followed without the
// token. Requests fail when the context has ended. Their errors wrap those of
// [Keeper.Token]. Keep the client for many requests; it is safe for concurrent
// use.
func (k *Keeper) Client(ctx context.Context, id string) *http.Client {
	return &http.Client{Transport: &transport{ctx: ctx, k: k, id: id}}
}

// transport puts the token of one connection on requests.
type transport struct {
	ctx context.Context
	k   *Keeper
	id  string

	mu   sync.Mutex
	row  Connection // as of its generation
	vain time.Time  // until when a 401 does not force a refresh
}

// forceEvery is how often at most a token is refreshed where the API refuses the
// new one as well, and so means something else by its 401.
const forceEvery = time.Minute

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.roundTrip(req)
	if err != nil && req.Body != nil {
		req.Body.Close() // also where nothing was sent; twice does no harm
	}
	return resp, err
}

func (t *transport) roundTrip(req *http.Request) (*http.Response, error) {
	if err := t.ctx.Err(); err != nil {
		return nil, err
	}
	token, err := t.k.Token(req.Context(), t.id, Want{})
	if err != nil {
		return nil, err
	}
	resp, err := t.send(req, req.Body, token)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || leftHost(req) || t.inVain() {
		return resp, err
	}
	body, ok := bodyAgain(req)
	if !ok {
		return resp, nil
	}
	newer, err := t.k.Token(req.Context(), t.id, Want{After: token.Generation})
	if unusable, ok := errors.AsType[*Unusable](err); ok && unusable.NeedsOwner() {
		resp.Body.Close()
		return nil, err // which says more than the API does
	}
	if err != nil || newer.Generation <= token.Generation {
		return resp, nil
	}
	io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
	resp.Body.Close()
	resp, err = t.send(req, body, newer)
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		t.mu.Lock()
		t.vain = t.k.now().Add(forceEvery)
		t.mu.Unlock()
	}
	return resp, err
}

func (t *transport) inVain() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.k.now().Before(t.vain)
}

// bodyAgain is the body of a request once more, if there is a way to have it.
func bodyAgain(req *http.Request) (io.ReadCloser, bool) {
	switch {
	case req.Body == nil || req.Body == http.NoBody:
		return req.Body, true
	case req.GetBody == nil:
		return nil, false // it is a stream, and read by now
	}
	body, err := req.GetBody()
	return body, err == nil
}

// send sends a copy of a request with a token.
func (t *transport) send(req *http.Request, body io.ReadCloser, token Token) (*http.Response, error) {
	row, err := t.connection(req.Context(), token.Generation)
	if err != nil {
		return nil, err
	}
	p, err := t.k.provider(row.Provider)
	if err != nil {
		return nil, err
	}
	out := req.Clone(req.Context())
	out.Body = body
	if !leftHost(req) {
		header, err := apiHeader(p, provider.Call{Params: row.Params, Owner: row.Owner, Scope: row.Scope, AccessToken: token.AccessToken})
		if err != nil {
			return nil, err
		}
		for name, values := range header {
			out.Header[name] = values
		}
	}
	return p.Transport().RoundTrip(out)
}

// connection is the row of a generation, or a later one.
func (t *transport) connection(ctx context.Context, generation uint64) (Connection, error) {
	t.mu.Lock()
	row := t.row
	t.mu.Unlock()
	if row.ID != "" && row.Generation >= generation {
		return row, nil
	}
	row, err := t.k.cfg.Store.Connection(ctx, t.id)
	if err == nil {
		t.mu.Lock()
		t.row = row
		t.row.Tokens.Data = nil // nothing of it is needed here
		t.mu.Unlock()
	}
	return row, err
}

// apiHeader is what the definition puts on requests to the provider's API.
func apiHeader(p *provider.Provider, call provider.Call) (http.Header, error) {
	api := p.Definition().API
	if api.BaseURL == "" { // then there is only the token
		template := api.Authorization
		if template == "" {
			template = "Bearer {access_token}"
		}
		return http.Header{"Authorization": {strings.ReplaceAll(template, "{access_token}", call.AccessToken.Reveal())}}, nil
	}
	r := &http.Request{Header: http.Header{}}
	err := p.APIRequest(r, "", call)
	return r.Header, err
}

// leftHost reports whether a request follows a redirect to another host than the
// one that was asked first, or from https to http: the token is not for there.
func leftHost(req *http.Request) bool {
	for r := req; r.Response != nil && r.Response.Request != nil; {
		r = r.Response.Request
		if r.URL.Host != req.URL.Host || r.URL.Scheme != req.URL.Scheme && req.URL.Scheme != "https" {
			return true
		}
	}
	return false
}
