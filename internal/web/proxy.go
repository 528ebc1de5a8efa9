package web

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
)

const (
	// proxyPath is followed by the id of a connection and a path of the API.
	proxyPath = "/v1/proxy/"
	// maxReplay is how long a body may be, in bytes, that is kept to be sent again
	// with a newer token.
	maxReplay = 1 << 20
	// fromHeader tells what the provider answered from what this server did.
	fromHeader = "Evergrant-Answer-From"
)

// proxied is a call of a provider's API on its way.
type proxied struct {
	connection keeper.Connection
	provider   *provider.Provider
	token      keeper.Token
	path       string // below the API's base URL, escaped as it came
	query      string
	body       []byte // to be sent again; nil where there is none, or where it cannot be
	replayable bool
}

type proxiedKey struct{}

func proxiedOf(r *http.Request) *proxied {
	call, _ := r.Context().Value(proxiedKey{}).(*proxied)
	return call
}

// serveProxy serves ANY /v1/proxy/{id}/{path...}.
func (a *api) serveProxy(proxy http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !callerOf(r).may(ScopeToken) {
			writeProblem(w, insufficient(w, ScopeToken))
			return
		}
		call, err := a.prepare(w, r)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		// An answer may begin before the body ends.
		_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/2 always is
		w.Header().Del("Cache-Control")                      // the provider's counts
		proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), proxiedKey{}, call)))
	}
}

// prepare checks a request and gets what it needs.
func (a *api) prepare(w http.ResponseWriter, r *http.Request) (*proxied, error) {
	if a.Keeper == nil {
		return nil, refuse(http.StatusNotFound, "The keeper is not running here.", "ask the server that runs it, or start this one without --only")
	}
	id, path, err := splitProxyPath(r.URL.EscapedPath())
	if err != nil {
		return nil, err
	}
	if r.Header.Get("Upgrade") != "" {
		return nil, refuse(http.StatusNotImplemented, "The proxy does not pass on other protocols, such as WebSocket.",
			"get a token from /v1/connections/"+url.PathEscape(id)+"/token and connect to the provider itself")
	}
	r.SetPathValue("id", id)
	call := &proxied{path: path, query: r.URL.RawQuery}
	if call.connection, err = a.connection(r); err != nil {
		return nil, err
	}
	if call.provider, err = a.apiOf(call.connection); err != nil {
		return nil, err
	}
	if err := call.keepBody(w, r); err != nil {
		return nil, err
	}
	unhurried(w) // an answer may be long or endless
	call.token, err = a.Keeper.Token(r.Context(), id, keeper.Want{Tenant: callerOf(r).tenant()})
	return call, err
}

// apiOf is the provider of a connection, if it is known where its API is.
func (a *api) apiOf(c keeper.Connection) (*provider.Provider, error) {
	p, ok := a.provider(c.Provider)
	if !ok {
		return nil, refuse(http.StatusServiceUnavailable, "No provider is called "+c.Provider+" any more.", "put the provider back into the configuration")
	}
	if p.Definition().API.BaseURL == "" {
		return nil, refuse(http.StatusNotFound, "The definition of the provider "+c.Provider+" does not say where its API is.", "set api.base_url of the provider in the configuration")
	}
	return p, nil
}

// splitProxyPath takes the id and the API's path apart. What could leave the
// API's base URL is refused, however it is escaped; escaped slashes, which are
// part of a name in some APIs, are passed on as they are.
func splitProxyPath(escaped string) (id, path string, err error) {
	rest := strings.TrimPrefix(escaped, proxyPath)
	id, path, _ = strings.Cut(rest, "/")
	if id, err = url.PathUnescape(id); err != nil || !keeper.ValidID(id) {
		return "", "", keeper.ErrNotFound
	}
	decoded := path
	for range 3 { // as often as a careless server might decode it
		next, err := url.PathUnescape(decoded)
		if err != nil || next == decoded {
			break
		}
		decoded = next
	}
	segments := strings.FieldsFunc(decoded, func(r rune) bool { return r == '/' || r == '\\' })
	for _, segment := range segments {
		segment, _, _ = strings.Cut(segment, ";") // some servers cut parameters off first
		if segment == "." || segment == ".." {
			return "", "", badRequest(`The path has "." or ".." in it.`, "write the path that is meant")
		}
	}
	return id, "/" + path, nil
}

// keepBody reads a short body, so that it can be sent again. A long one, or one
// whose length nobody told, is streamed.
func (c *proxied) keepBody(w http.ResponseWriter, r *http.Request) error {
	if r.ContentLength < 0 || r.ContentLength > maxReplay {
		return nil
	}
	c.replayable = true
	if r.ContentLength == 0 {
		return nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReplay))
	if err != nil {
		return badRequest("The body could not be read to its end.", "send the same request again")
	}
	c.body = body
	return nil
}

// newProxy is the reverse proxy to the providers' APIs. It follows no redirect:
// the answer goes to the client as it is.
func (a *api) newProxy() http.Handler {
	return &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { strip(r.Out) },
		Transport:      injector{a},
		FlushInterval:  -1, // what comes is passed on at once
		ModifyResponse: fromProvider,
		ErrorLog:       slog.NewLogLogger(a.Log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			w.Header().Set("Cache-Control", "no-store")
			a.fail(w, r, err)
		},
	}
}

// strip removes from a request what is between the client and this server. The
// reverse proxy has removed what is of one connection only.
func strip(out *http.Request) {
	for name := range out.Header {
		lower := strings.ToLower(name)
		if lower == "authorization" || lower == "cookie" || lower == "forwarded" || lower == "x-real-ip" || lower == "true-client-ip" ||
			strings.HasPrefix(lower, "x-forwarded-") {
			out.Header.Del(name)
		}
	}
}

// fromProvider removes from an answer what would hold for all of this server's
// host, and says whose answer it is.
func fromProvider(resp *http.Response) error {
	for _, name := range []string{"Set-Cookie", "Set-Cookie2", "Strict-Transport-Security", "Alt-Svc", "Clear-Site-Data", "X-Content-Type-Options"} {
		resp.Header.Del(name) // the last one is set already
	}
	resp.Header.Set(fromHeader, "provider")
	return nil
}

// injector puts the token of a connection on requests, and sends one again with
// a newer token where the API answers 401 and the body is at hand.
type injector struct{ api *api }

// RoundTrip implements http.RoundTripper.
func (i injector) RoundTrip(out *http.Request) (*http.Response, error) {
	call := proxiedOf(out)
	resp, err := i.send(out, call, call.token)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || !call.replayable || i.api.vain.is(call.connection.ID) {
		return resp, err
	}
	newer, err := i.api.Keeper.Token(out.Context(), call.connection.ID, keeper.Want{After: call.token.Generation, Tenant: callerOf(out).tenant()})
	if unusable, ok := errors.AsType[*keeper.Unusable](err); ok && unusable.NeedsOwner() {
		resp.Body.Close()
		return nil, err // which says more than the API does
	}
	if err != nil || newer.Generation <= call.token.Generation {
		return resp, nil
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
	resp.Body.Close()
	resp, err = i.send(out, call, newer)
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		i.api.vain.note(call.connection.ID)
	}
	return resp, err
}

// send sends a request with a token.
func (i injector) send(out *http.Request, call *proxied, token keeper.Token) (*http.Response, error) {
	req := out.Clone(out.Context())
	if call.replayable {
		req.Body, req.ContentLength = http.NoBody, int64(len(call.body))
		if len(call.body) > 0 {
			req.Body = io.NopCloser(bytes.NewReader(call.body))
		}
	}
	req.URL.RawQuery = call.query // as it came
	if token.Generation > call.connection.Generation {
		// The answer to a refresh may have told where the API is.
		renewed, err := i.api.Keeper.Connection(out.Context(), call.connection.ID)
		if err != nil {
			return nil, err
		}
		call.connection = renewed
	}
	err := call.provider.APIRequest(req, call.path, provider.Call{
		Params: call.connection.Params, Owner: call.connection.Owner, Scope: call.connection.Scope, AccessToken: token.AccessToken,
	})
	if err != nil {
		return nil, badRequest("The request cannot be made: "+err.Error()+".", "")
	}
	resp, err := call.provider.Transport().RoundTrip(req)
	if err != nil && out.Context().Err() == nil {
		i.api.Log.WarnContext(out.Context(), "a provider's API did not answer", "provider", call.connection.Provider, "host", req.URL.Host, "error", err)
		return nil, refuse(http.StatusBadGateway, "The API of the provider "+call.connection.Provider+" did not answer.", "look whether it was done, and send the same request again if not")
	}
	return resp, err
}

// Bounds of what is remembered of APIs that refuse new tokens.
const (
	vainFor  = time.Minute
	vainSize = 10_000 // connections
)

// vain remembers connections whose API has refused a new token as well, and so
// means something else by its 401: for a while it costs no further refresh.
type vain struct {
	now   func() time.Time
	mu    sync.Mutex
	until map[string]time.Time
}

func (v *vain) is(id string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now().Before(v.until[id])
}

func (v *vain) note(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.until) >= vainSize {
		clear(v.until)
	}
	v.until[id] = v.now().Add(vainFor)
}
