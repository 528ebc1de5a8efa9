package evergrant

import (
	"context"
	"io"
	"net/http"
	"time"

	"golang.org/x/oauth2"
)

// How long a token is kept in this process: until shortly before it expires,
// and for a while where nobody knows when that is.
const (
	keepMargin  = 30 * time.Second // or a quarter of what is left, where that is less
	keepUnknown = 5 * time.Minute
)

// forceEvery is how often at most a token is replaced where the API refuses the
// new one as well, and so means something else by its 401.
const forceEvery = time.Minute

// source gives the tokens of one connection and keeps the last one.
type source struct {
	client *Client
	id     string
	turn   chan struct{} // holds one while somebody reads or changes what is below, or asks the server
	kept   Token
	until  time.Time // for which it is kept
	vain   time.Time // until when it is not replaced although the API refuses it
}

func (c *Client) source(id string) *source {
	return &source{client: c, id: id, turn: make(chan struct{}, 1)}
}

// token is the kept token, or the server's where that is over or was refused at
// the API. However many ask at once, the server is asked by one of them; the
// others wait, each with its own context.
func (s *source) token(ctx context.Context, refused Token) (Token, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return Token{}, ctx.Err()
	}
	now := s.client.clock()
	bad := s.kept.is(refused) && !now.Before(s.vain)
	if !bad && now.Before(s.until) {
		return s.kept, nil
	}
	token, err := s.client.AccessToken(ctx, s.id, TokenOptions{Force: bad})
	if err != nil {
		return Token{}, err
	}
	now = s.client.clock()
	s.kept, s.until, s.vain = token, now.Add(keepUnknown), time.Time{}
	if !token.ExpiresAt.IsZero() {
		s.until = token.ExpiresAt.Add(-min(keepMargin, token.ExpiresAt.Sub(now)/4))
	}
	return token, nil
}

// inVain says that the API refused a token that replaced one which it refused.
func (s *source) inVain(ctx context.Context, token Token) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
		if s.kept.is(token) {
			s.vain = s.client.clock().Add(forceEvery)
		}
	case <-ctx.Done():
	}
}

// is reports whether both are the same token, and one at all.
func (t Token) is(other Token) bool {
	return !t.AccessToken.Empty() && t.AccessToken.Equal(other.AccessToken.Reveal())
}

// TokenSource gives the tokens of a connection to whatever takes them as
// golang.org/x/oauth2 has them, and asks the server only when the last one is
// about to expire. Asking ends with the context. Errors are as those of
// [Client.AccessToken].
func (c *Client) TokenSource(ctx context.Context, id string) oauth2.TokenSource {
	return oauthSource{ctx, c.source(id)}
}

type oauthSource struct {
	ctx context.Context
	*source
}

// Token is for golang.org/x/oauth2.
func (s oauthSource) Token() (*oauth2.Token, error) {
	token, err := s.token(s.ctx, Token{})
	if err != nil {
		return nil, err
	}
	return &oauth2.Token{AccessToken: token.AccessToken.Reveal(), TokenType: token.TokenType, Expiry: token.ExpiresAt}, nil
}

// HTTPClient sends requests to a provider's API with a connection's token, see
// [Transport].
func (c *Client) HTTPClient(id string) *http.Client {
	return &http.Client{Transport: c.Transport(id)}
}

// Transport puts a connection's fresh token on each request. Where the API
// refuses it with 401, the request is sent once more with a newer one, if its
// body can be sent again (http.Request.GetBody). A redirect to another host is
// followed without token. The token goes into the header Authorization: where an
// API wants it elsewhere, /v1/proxy/ of the server knows. It is safe for
// concurrent use.
type Transport struct {
	Base   http.RoundTripper // sends the requests; http.DefaultTransport where nil
	source *source
}

// Transport is the transport of a connection. It keeps the token while it
// lives, so use one for many requests.
func (c *Client) Transport(id string) *Transport { return &Transport{source: c.source(id)} }

// RoundTrip is for http.Client. Its errors are also those of
// [Client.AccessToken].
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if strayed(r) {
		return t.base().RoundTrip(r)
	}
	token, err := t.source.token(r.Context(), Token{})
	if err != nil {
		if r.Body != nil {
			r.Body.Close() // as a RoundTripper does, also where it fails
		}
		return nil, err
	}
	resp, err := t.base().RoundTrip(authorize(r, token))
	once := r.Body != nil && r.Body != http.NoBody && r.GetBody == nil
	if err != nil || resp.StatusCode != http.StatusUnauthorized || once {
		return resp, err
	}
	newer, err := t.source.token(r.Context(), token)
	if err == nil && newer.is(token) {
		return resp, nil // there is no other
	}
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	again := authorize(r, newer)
	if r.GetBody != nil {
		if again.Body, err = r.GetBody(); err != nil {
			return nil, err
		}
	}
	resp, err = t.base().RoundTrip(again)
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		t.source.inVain(r.Context(), newer)
	}
	return resp, err
}

func (t *Transport) base() http.RoundTripper {
	if t.Base == nil {
		return http.DefaultTransport
	}
	return t.Base
}

// authorize is a copy of a request with a token: a RoundTripper must not change
// what it is given.
func authorize(r *http.Request, token Token) *http.Request {
	r = r.Clone(r.Context())
	kind := (&oauth2.Token{TokenType: token.TokenType}).Type() // as APIs want it written
	r.Header.Set("Authorization", kind+" "+token.AccessToken.Reveal())
	return r
}

// strayed reports whether redirects have led a request over another host, or away
// from https: the token is not for others, nor for what they make of a request.
func strayed(r *http.Request) bool {
	for before := r; before.Response != nil && before.Response.Request != nil; {
		before = before.Response.Request
		if before.URL.Host != r.URL.Host || before.URL.Scheme == "https" && r.URL.Scheme != "https" {
			return true
		}
	}
	return false
}
