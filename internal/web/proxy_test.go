package web

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
)

// called is a request as a provider's API saw it.
type called struct {
	method, uri string
	header      http.Header
	body        string
}

// apiServer is the API of a provider.
type apiServer struct {
	url   string
	mu    sync.Mutex
	calls []called
	serve http.HandlerFunc // in place of an answer "hello"
}

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	a := &apiServer{}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		serve := a.serve
		a.mu.Unlock()
		if serve != nil {
			serve(w, r)
			return
		}
		a.note(r)
		io.WriteString(w, "hello")
	}))
	t.Cleanup(web.Close)
	a.url = web.URL
	return a
}

// note keeps a request, with its body.
func (a *apiServer) note(r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, called{r.Method, r.RequestURI, r.Header.Clone(), string(body)})
}

// seen are the requests so far.
func (a *apiServer) seen() []called {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]called{}, a.calls...)
}

func (a *apiServer) answer(serve http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.serve, a.calls = serve, nil
}

// startProxied starts a server with a connection "one" at a provider whose API is
// another server, below /base.
func startProxied(t *testing.T) (*server, *apiServer) {
	t.Helper()
	api := newAPIServer(t)
	s := startDefined(t, false, func(d *provider.Definition) {
		d.API.BaseURL, d.API.Headers = api.url+"/base", map[string]string{"X-Version": "2031", "X-Owner": "{owner}"}
	}, providertest.Plain())
	s.imports("one", "plain", "alice", "")
	return s, api
}

// call sends a request through the proxy.
func (s *server) call(method, path, body string, header http.Header) reply {
	s.t.Helper()
	req := s.request(method, path, body)
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	client := *s.http.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return s.do(&client, req)
}

func TestProxy(t *testing.T) {
	s, api := startProxied(t)
	r := s.call("POST", "/v1/proxy/one/users/7//x%2Fy?q=a+b&q=%2F&;z", "body of the client", http.Header{
		"Content-Type": {"text/x-test"}, "Accept": {"text/x-other"}, "X-Custom": {"1", "2"}, "User-Agent": {"my-app"},
		"Cookie": {"session=hush"}, "X-Forwarded-For": {"192.0.2.7"}, "X-Forwarded-Anything": {"hush"}, "Forwarded": {"for=192.0.2.7"}, "X-Real-Ip": {"192.0.2.7"},
		"Connection": {"X-Hop"}, "X-Hop": {"hush"}, "Te": {"trailers"}, "Proxy-Authorization": {"Basic hush"}, "X-Version": {"1999"}, "X-Owner": {"mallory"},
	})
	if r.status != http.StatusOK || r.body != "hello" || r.header.Get("Evergrant-Answer-From") != "provider" {
		t.Fatalf("%d %v %s", r.status, r.header, r.body)
	}
	got := api.seen()[0]
	if got.method != "POST" || got.uri != "/base/users/7//x%2Fy?q=a+b&q=%2F&;z" || got.body != "body of the client" {
		t.Errorf("the API saw %s %s %q", got.method, got.uri, got.body)
	}
	for name, want := range map[string]string{
		"Content-Type": "text/x-test", "Accept": "text/x-other", "X-Custom": "1", "User-Agent": "my-app", "X-Version": "2031", "X-Owner": "alice",
		"Cookie": "", "X-Forwarded-For": "", "X-Forwarded-Anything": "", "X-Forwarded-Host": "", "X-Forwarded-Proto": "", "Forwarded": "", "X-Real-Ip": "",
		"X-Hop": "", "Proxy-Authorization": "", "Connection": "",
	} {
		if got.header.Get(name) != want {
			t.Errorf("the API saw %s: %q, want %q", name, got.header.Get(name), want)
		}
	}
	token, ok := strings.CutPrefix(got.header.Get("Authorization"), "Bearer ")
	if !ok || !s.sims["plain"].Alive(token) || len(got.header["X-Custom"]) != 2 {
		t.Errorf("headers %v", got.header)
	}
	if all := fmt.Sprint(got); strings.Contains(all, s.token) || strings.Contains(all, "hush") {
		t.Errorf("the API saw what is not for it: %s", all)
	}
	if log := s.log.String(); strings.Contains(log, "q=a") || strings.Contains(log, token) {
		t.Errorf("the log has a query or a token:\n%s", log)
	}
}

func TestProxyMethodsAndAnswers(t *testing.T) {
	s, api := startProxied(t)
	api.answer(func(w http.ResponseWriter, r *http.Request) {
		api.note(r)
		w.Header().Set("Set-Cookie", "session=hush")
		w.Header().Set("Strict-Transport-Security", "max-age=1")
		w.Header().Set("Alt-Svc", `h3=":443"`)
		w.Header().Set("X-Content-Type-Options", "other")
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("X-Rate-Left", "7")
		w.Header().Set("Location", "https://elsewhere.example/")
		w.Header().Set("WWW-Authenticate", `Bearer realm="api"`)
		var status int
		fmt.Sscan(r.URL.Query().Get("status"), &status)
		w.WriteHeader(status)
	})
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"} {
		for _, status := range []int{200, 201, 204, 301, 303, 307, 400, 403, 404, 409, 429, 500, 503} {
			r := s.call(method, fmt.Sprintf("/v1/proxy/one/things?status=%d", status), "", nil)
			if r.status != status {
				t.Errorf("%s: status %d, want %d", method, r.status, status)
			}
			for name, want := range map[string]string{
				"Set-Cookie": "", "Strict-Transport-Security": "", "Alt-Svc": "", "Cache-Control": "max-age=60", "X-Rate-Left": "7",
				"Location": "https://elsewhere.example/", "X-Content-Type-Options": "nosniff", "Evergrant-Answer-From": "provider",
			} {
				if got := strings.Join(r.header.Values(name), " and "); got != want {
					t.Errorf("%s %d: %s: %q, want %q", method, status, name, got, want)
				}
			}
		}
	}
	for _, c := range api.seen() {
		if !strings.HasPrefix(c.uri, "/base/things?status=") {
			t.Errorf("the API saw %s %s", c.method, c.uri)
		}
	}
}

// TestProxyRefuses: what does not reach the API, and how that is told.
func TestProxyRefuses(t *testing.T) {
	s, api := startProxied(t)
	s.mustAPI(http.StatusCreated, "POST", "/v1/connections", `{"provider":"plain","id":"paused","tokens":{"access_token":"a"}}`)
	s.mustAPI(http.StatusOK, "POST", "/v1/connections/paused/pause", "")
	for name, tt := range map[string]struct {
		path   string
		header http.Header
		status int
		detail string
	}{
		"dots":                  {"/v1/proxy/one/../admin", nil, 400, "in it"},
		"dots at the end":       {"/v1/proxy/one/a/..", nil, 400, "in it"},
		"one dot":               {"/v1/proxy/one/./a", nil, 400, "in it"},
		"escaped dots":          {"/v1/proxy/one/%2e%2e/admin", nil, 400, "in it"},
		"half escaped dots":     {"/v1/proxy/one/.%2E/admin", nil, 400, "in it"},
		"dots and slash":        {"/v1/proxy/one/..%2fadmin", nil, 400, "in it"},
		"all escaped":           {"/v1/proxy/one/a%2F%2e%2e%2F%2e%2e%2fadmin", nil, 400, "in it"},
		"escaped twice":         {"/v1/proxy/one/%252e%252e%252fadmin", nil, 400, "in it"},
		"backslashes":           {"/v1/proxy/one/..%5cadmin", nil, 400, "in it"},
		"dots with a parameter": {"/v1/proxy/one/..;x=1/admin", nil, 400, "in it"},
		"no connection":         {"/v1/proxy/none/me", nil, 404, "no such thing"},
		"no id":                 {"/v1/proxy//me", nil, 404, "no such thing"},
		"nothing":               {"/v1/proxy/", nil, 404, "no such thing"},
		"id with a slash":       {"/v1/proxy/a%2Fb/me", nil, 404, "no such thing"},
		"dots as id":            {"/v1/proxy/../clients", nil, 404, "no such thing"},
		"paused":                {"/v1/proxy/paused/me", nil, 409, "is paused"},
		"websocket":             {"/v1/proxy/one/live", http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}, 501, "WebSocket"},
	} {
		t.Run(name, func(t *testing.T) {
			r := s.call("GET", tt.path, "", tt.header)
			wantProblem(t, r, tt.status, tt.detail)
			if r.header.Get("Evergrant-Answer-From") != "" {
				t.Error("the refusal is said to be the provider's")
			}
		})
	}
	if calls := api.seen(); len(calls) != 0 {
		t.Errorf("the API saw %v", calls)
	}
	req := s.request("GET", "/v1/proxy/one/me", "")
	wantProblem(t, s.do(s.http.Client(), req), http.StatusUnauthorized, "")
}

// Names with dots, slashes and percent signs in them are none of that.
func TestProxyPathsThatAreFine(t *testing.T) {
	s, api := startProxied(t)
	for path, want := range map[string]string{
		"": "/base/", "/": "/base/", "/a": "/base/a", "/a/": "/base/a/", "/...": "/base/...", "/.well-known/x": "/base/.well-known/x", "/a..b/c": "/base/a..b/c",
		"/group%2Fproject": "/base/group%2Fproject", "/100%25": "/base/100%25", "/a%20b": "/base/a%20b", "/%3Fq": "/base/%3Fq", "/a;b=c": "/base/a;b=c", "/ä": "/base/%C3%A4",
		"/https://x.example/": "/base/https://x.example/", "//a//b": "/base//a//b",
	} {
		r := s.call("GET", "/v1/proxy/one"+path, "", nil)
		calls := api.seen()
		if r.status != http.StatusOK || len(calls) == 0 || calls[len(calls)-1].uri != want {
			t.Errorf("%q: %d, the API saw %+v, want %s", path, r.status, calls[max(0, len(calls)-1):], want)
		}
	}
}

func FuzzSplitProxyPath(f *testing.F) {
	for _, seed := range []string{"one/a/b", "one/%2e%2e/x", "one/..%2f..", "a%2Fb/c", "one/%252e%252e/", "one", "one/a;b/..;c", `one/..\x`} {
		f.Add(seed)
	}
	p, err := provider.New(provider.Config{
		Definition: provider.Definition{Name: "x", AuthorizeURL: "https://x.example/a", TokenURL: "https://x.example/t", API: provider.API{BaseURL: "https://x.example/base/api"}},
		ClientID:   "id", RedirectURI: "https://y.example/connect/callback",
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, rest string) {
		id, path, err := splitProxyPath(proxyPath + rest)
		if err != nil {
			return
		}
		if !keeper.ValidID(id) {
			t.Errorf("%q gives the id %q", rest, id)
		}
		r := &http.Request{Header: http.Header{}}
		if p.APIRequest(r, path, provider.Call{}) != nil {
			return
		}
		if at := r.URL.EscapedPath(); r.URL.Host != "x.example" || !strings.HasPrefix(at, "/base/api/") {
			t.Errorf("%q leads to %s", rest, r.URL)
		}
	})
}

// TestProxyAfter401: the API refuses the token; it is refreshed once and the
// request sent again, with the same body.
func TestProxyAfter401(t *testing.T) {
	s, api := startProxied(t)
	refuse := map[string]bool{}
	only := func(w http.ResponseWriter, r *http.Request) {
		api.note(r)
		api.mu.Lock()
		dead := refuse[r.Header.Get("Authorization")]
		api.mu.Unlock()
		if dead {
			w.WriteHeader(http.StatusUnauthorized)
			io.WriteString(w, "dead")
			return
		}
		io.WriteString(w, "alive")
	}
	kill := func() { // the token that the connection has now
		token := s.mustAPI(http.StatusOK, "GET", "/v1/connections/one/token", "").field(t, "access_token").(string)
		api.mu.Lock()
		refuse["Bearer "+token] = true
		api.mu.Unlock()
	}
	for name, body := range map[string]string{"no body": "", "a body": "the body", "a long body": strings.Repeat("x", maxReplay)} {
		t.Run(name, func(t *testing.T) {
			kill()
			api.answer(only)
			before := s.sims["plain"].Stats().Requests[provider.Refresh]
			r := s.call("PUT", "/v1/proxy/one/me?a=b", body, nil)
			calls := api.seen()
			if r.status != http.StatusOK || r.body != "alive" || len(calls) != 2 {
				t.Fatalf("%d %q after %d calls", r.status, r.body, len(calls))
			}
			if n := s.sims["plain"].Stats().Requests[provider.Refresh] - before; n != 1 {
				t.Errorf("%d refreshes", n)
			}
			for _, c := range calls {
				if c.method != "PUT" || c.uri != "/base/me?a=b" || c.body != body || c.header.Get("X-Owner") != "alice" {
					t.Errorf("the API saw %s %s with %d bytes", c.method, c.uri, len(c.body))
				}
			}
		})
	}
	for name, send := range map[string]func(*http.Request){
		"longer":         func(*http.Request) {},
		"of unknown end": func(r *http.Request) { r.ContentLength = -1 },
	} {
		t.Run("a body "+name, func(t *testing.T) {
			kill()
			api.answer(only)
			body := strings.Repeat("x", maxReplay+1)
			if name == "of unknown end" {
				body = "short"
			}
			req := s.request("POST", "/v1/proxy/one/me", body)
			req.Header.Set("Authorization", "Bearer "+s.token)
			send(req)
			r := s.do(s.http.Client(), req)
			if calls := api.seen(); r.status != http.StatusUnauthorized || r.body != "dead" || len(calls) != 1 || calls[0].body != body || r.header.Get("Evergrant-Answer-From") != "provider" {
				t.Errorf("%d %q after %d calls", r.status, r.body, len(calls))
			}
		})
	}
}

// An API that refuses every token means something else by its 401: it costs one
// refresh, and not one for each request.
func TestProxyOf401ThatMeansSomethingElse(t *testing.T) {
	s, api := startProxied(t)
	api.answer(func(w http.ResponseWriter, r *http.Request) {
		api.note(r)
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, "not for you")
	})
	for range 5 {
		if r := s.call("GET", "/v1/proxy/one/admin", "", nil); r.status != http.StatusUnauthorized || r.body != "not for you" {
			t.Fatalf("%d %q", r.status, r.body)
		}
	}
	if n := s.sims["plain"].Stats().Requests[provider.Refresh]; n != 1 {
		t.Errorf("%d refreshes", n)
	}
	s.clock.advance(2 * time.Minute)
	s.call("GET", "/v1/proxy/one/admin", "", nil)
	if n := s.sims["plain"].Stats().Requests[provider.Refresh]; n != 2 {
		t.Errorf("%d refreshes after two minutes", n)
	}
}

// Where the refresh after a 401 shows that the grant is over, that is told.
func TestProxyOfRevokedGrant(t *testing.T) {
	s, api := startProxied(t)
	c := s.mustAPI(http.StatusOK, "GET", "/v1/connections/one/token", "").field(t, "access_token").(string)
	s.sims["plain"].Revoke(s.sims["plain"].GrantOf(c))
	api.answer(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	r := s.call("GET", "/v1/proxy/one/me", "", nil)
	wantProblem(t, r, http.StatusConflict, "revoked")
	if r.field(t, "code") != "reauthorization_required" || r.field(t, "connect_url") == nil {
		t.Errorf("revoked: %s", r.body)
	}
}

// Where the refresh fails for now, the API's own answer is passed on.
func TestProxyOf401WithoutProvider(t *testing.T) {
	s, api := startProxied(t)
	api.answer(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, "dead")
	})
	s.sims["plain"].Inject(providertest.Rule{Fault: providertest.Unavailable(http.StatusTooManyRequests, "60")})
	if r := s.call("GET", "/v1/proxy/one/me", "", nil); r.status != http.StatusUnauthorized || r.body != "dead" {
		t.Errorf("%d %q", r.status, r.body)
	}
}

func TestProxyWithoutAPI(t *testing.T) {
	s := startDefined(t, false, func(d *provider.Definition) { d.API = provider.API{} }, providertest.Plain())
	s.imports("one", "plain", "alice", "")
	wantProblem(t, s.call("GET", "/v1/proxy/one/me", "", nil), http.StatusNotFound, "does not say where its API is")

	config := s.config
	config.Providers = nil
	s.serve(NewAPI(config))
	wantProblem(t, s.call("GET", "/v1/proxy/one/me", "", nil), http.StatusServiceUnavailable, "No provider is called plain any more")
}

// An API that does not answer is the provider's failure.
func TestProxyOfDeadAPI(t *testing.T) {
	s, api := startProxied(t)
	api.answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	r := s.call("POST", "/v1/proxy/one/me", "x", nil)
	wantProblem(t, r, http.StatusBadGateway, "API of the provider plain did not answer")
	if strings.Contains(r.body, api.url) || strings.Contains(r.body, "EOF") {
		t.Errorf("the answer tells of the inside: %s", r.body)
	}
}

// A short body that is not sent to its end reaches nobody.
func TestProxyOfBrokenBody(t *testing.T) {
	s, api := startProxied(t)
	conn, err := net.Dial("tcp", s.http.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /v1/proxy/one/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 10\r\n\r\nhalf", s.token)
	conn.(*net.TCPConn).CloseWrite()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err == nil {
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("status %d", resp.StatusCode)
		}
	}
	if calls := api.seen(); len(calls) != 0 {
		t.Errorf("the API saw %v", calls)
	}
}

// TestProxyStreams: each side sees what the other sends when it sends it, for
// longer than the server gives other requests.
func TestProxyStreams(t *testing.T) {
	s, api := startProxied(t)
	s.serveWithDeadlines(100 * time.Millisecond)
	api.answer(func(w http.ResponseWriter, r *http.Request) {
		connection := http.NewResponseController(w)
		connection.EnableFullDuplex()
		connection.Flush()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintf(w, "heard %s\n", lines.Text())
			connection.Flush()
		}
		io.WriteString(w, "that was all\n")
	})
	out, in := io.Pipe()
	req, err := http.NewRequest("POST", s.url+"/v1/proxy/one/talk", out)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := s.http.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answers := bufio.NewReader(resp.Body)
	for i := range 4 {
		time.Sleep(70 * time.Millisecond)
		fmt.Fprintf(in, "word %d\n", i)
		if line, err := answers.ReadString('\n'); err != nil || line != fmt.Sprintf("heard word %d\n", i) {
			t.Fatalf("%q, %v", line, err)
		}
	}
	in.Close()
	if rest, err := io.ReadAll(answers); err != nil || string(rest) != "that was all\n" {
		t.Errorf("%q, %v", rest, err)
	}
}

// serveWithDeadlines serves the same as before, with deadlines for reading and
// writing.
func (s *server) serveWithDeadlines(d time.Duration) {
	s.t.Helper()
	web := httptest.NewUnstartedServer(s.http.Config.Handler)
	web.Config.ReadTimeout, web.Config.WriteTimeout = d, d
	web.Start()
	s.t.Cleanup(web.Close)
	s.http, s.url = web, web.URL
}

// A token that has to be waited for is no reason to break the request off.
func TestTokenThatTakesLong(t *testing.T) {
	s := start(t, false, providertest.Plain())
	s.imports("one", "plain", "alice", "")
	s.clock.advance(2 * time.Hour)
	s.serveWithDeadlines(100 * time.Millisecond)
	s.sims["plain"].Inject(providertest.Rule{Fault: providertest.Fault{Latency: 300 * time.Millisecond}})
	s.mustAPI(http.StatusOK, "GET", "/v1/connections/one/token", "")
	s.mustAPI(http.StatusOK, "POST", "/v1/connections/one/refresh", `{}`)
}

// TestProxyOfLargeBodies: much goes through in both directions without being
// kept.
func TestProxyOfLargeBodies(t *testing.T) {
	s, api := startProxied(t)
	const size = 32 << 20
	api.answer(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(w, r.Body)
		if err != nil || n != size {
			t.Errorf("the API read %d bytes, %v", n, err)
		}
	})
	req, err := http.NewRequest("POST", s.url+"/v1/proxy/one/copy", io.LimitReader(endless{}, size))
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = size
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := s.http.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != size {
		t.Errorf("%d bytes came back, %v", n, err)
	}
}

// endless is a body of zeros.
type endless struct{}

func (endless) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// An answer that the provider breaks off does not look whole.
func TestProxyOfBrokenAnswer(t *testing.T) {
	s, api := startProxied(t)
	api.answer(func(w http.ResponseWriter, r *http.Request) {
		w.Write(bytes.Repeat([]byte("x"), 1<<16))
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	req := s.request("GET", "/v1/proxy/one/me", "")
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := s.http.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("reading ended with %v", err)
	}
}

// TestProxyForClients: the scope, and the tenant, of whoever calls.
func TestProxyForClients(t *testing.T) {
	s, _ := startProxied(t)
	s.imports("acmes", "plain", "alice", "acme")
	token := s.client("app", "acme", ScopeToken)
	for path, status := range map[string]int{"/v1/proxy/acmes/me": 200, "/v1/proxy/one/me": 404} {
		if r := s.as(token, "GET", path, ""); r.status != status {
			t.Errorf("%s: %d", path, r.status)
		}
	}
	reader := s.client("reader", "acme", ScopeRead)
	r := s.as(reader, "GET", "/v1/proxy/acmes/me", "")
	wantProblem(t, r, http.StatusForbidden, "keeper:token")
	if got := r.header.Get("WWW-Authenticate"); got != `Bearer error="insufficient_scope", scope="keeper:token"` {
		t.Errorf("WWW-Authenticate %q", got)
	}
	if _, err := s.admin.SaveClient(t.Context(), operator, issuer.Client{ID: "spa", Scopes: []string{ScopeToken}}); err == nil {
		t.Error("a public client was given keeper:token")
	}
}
