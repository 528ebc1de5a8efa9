package evergrant_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant"
	"golang.org/x/oauth2"
)

// tokens is a server that gives the tokens of one connection: "token-N" for
// generation N.
type tokens struct {
	mu         sync.Mutex
	generation int
	lifetime   time.Duration // 0: nobody knows
	kind       string
	asked      []string // queries
	fails      func(w http.ResponseWriter) bool
	wait       chan struct{} // each answer waits for it, unless nil
	now        time.Time
}

func (s *tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.wait != nil {
		select {
		case <-s.wait:
		case <-r.Context().Done():
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.URL.RequestURI())
	if s.fails != nil && s.fails(w) {
		return
	}
	if r.FormValue("force") == "true" {
		s.generation++
	}
	fmt.Fprintf(w, `{"access_token":"token-%d","token_type":%q,"scope":"a b"`, s.generation, s.kind)
	if s.lifetime > 0 {
		fmt.Fprintf(w, `,"expires_at":%q`, s.now.Add(s.lifetime).Format(time.RFC3339Nano))
	}
	io.WriteString(w, "}")
}

func (s *tokens) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// startTokens starts a server that gives tokens, and makes its client, whose
// clock is the server's.
func startTokens(t *testing.T, s *tokens) *evergrant.Client {
	s.generation, s.now = 1, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	client := serve(t, s.ServeHTTP)
	client.Now = func() time.Time {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.now
	}
	return client
}

func (s *tokens) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func TestTokenSource(t *testing.T) {
	for _, tt := range []struct {
		name           string
		lifetime       time.Duration
		kept, notKept  time.Duration // after so long it is, and is no longer
		expiry         bool
		wantType, kind string
	}{
		{"an hour", time.Hour, 59*time.Minute + 29*time.Second, 59*time.Minute + 30*time.Second, true, "Bearer", "bearer"},
		{"a minute", time.Minute, 44 * time.Second, 45 * time.Second, true, "Bearer", ""},
		{"nobody knows", 0, 5*time.Minute - time.Second, 5 * time.Minute, false, "Bearer", "Bearer"},
		{"over already", time.Nanosecond, 0, time.Second, true, "DPoP", "DPoP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := &tokens{lifetime: tt.lifetime, kind: tt.kind}
			client := startTokens(t, server)
			source := client.TokenSource(t.Context(), "a b")
			ask := func() *oauth2.Token {
				t.Helper()
				token, err := source.Token()
				if err != nil {
					t.Fatal(err)
				}
				return token
			}
			token := ask()
			if token.AccessToken != "token-1" || token.Type() != tt.wantType || token.Expiry.IsZero() == tt.expiry {
				t.Errorf("token %+v", token)
			}
			if ask(); tt.kept > 0 && server.requests() != 1 {
				t.Errorf("%d requests for two tokens", server.requests())
			}
			server.pass(tt.kept)
			if ask(); tt.kept > 0 && server.requests() != 1 {
				t.Errorf("after %s the token is not kept", tt.kept)
			}
			before := server.requests()
			server.pass(tt.notKept - tt.kept)
			if ask(); server.requests() != before+1 {
				t.Errorf("after %s the token is kept", tt.notKept)
			}
			if got := server.asked[0]; got != "/v1/connections/a%20b/token" {
				t.Errorf("asked for %s", got)
			}
		})
	}
}

// What failed is not kept.
func TestTokenSourceFails(t *testing.T) {
	down := true
	server := &tokens{fails: func(w http.ResponseWriter) bool {
		if down {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, `{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"The provider is down."}`)
		}
		return down
	}}
	source := startTokens(t, server).TokenSource(t.Context(), "a")
	_, err := source.Token()
	problem, ok := errors.AsType[*evergrant.Problem](err)
	if !ok || problem.Status != 503 || problem.RetryAfter != 7*time.Second {
		t.Errorf("error %v, %+v", err, problem)
	}
	down = false
	if token, err := source.Token(); err != nil || token.AccessToken != "token-1" {
		t.Errorf("token %v, error %v", token, err)
	}
}

// However many ask at once, the server is asked once; each waits with its own
// context.
func TestTokenSourceAsksOnce(t *testing.T) {
	server := &tokens{lifetime: time.Hour, wait: make(chan struct{})}
	client := startTokens(t, server)
	api := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(api.Close)
	http1 := client.HTTPClient("a")
	get := func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, "GET", api.URL, nil)
		if err != nil {
			return err
		}
		resp, err := http1.Do(r)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	var all sync.WaitGroup
	var failed atomic.Int32
	for range 20 {
		all.Go(func() {
			if err := get(t.Context()); err != nil {
				failed.Add(1)
			}
		})
	}
	hurried, cancel := context.WithCancel(t.Context())
	cancel()
	if err := get(hurried); !errors.Is(err, context.Canceled) {
		t.Errorf("one who waits no longer gets %v", err)
	}
	close(server.wait)
	all.Wait()
	if failed.Load() > 0 || server.requests() != 1 {
		t.Errorf("%d of 20 failed, %d requests", failed.Load(), server.requests())
	}
}

// api is an API that takes the tokens that it is told to take.
type api struct {
	*httptest.Server
	good  atomic.Value // string; "" refuses all
	calls atomic.Int32
	seen  sync.Map // by Authorization: the body
}

func startAPI(t *testing.T, good string) *api {
	a := &api{}
	a.good.Store(good)
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.calls.Add(1)
		body, _ := io.ReadAll(r.Body)
		a.seen.Store(r.Header.Get("Authorization"), string(body))
		if r.Header.Get("Authorization") != "Bearer "+a.good.Load().(string) {
			w.WriteHeader(http.StatusUnauthorized)
		}
		io.WriteString(w, "answer to "+string(body))
	}))
	t.Cleanup(a.Close)
	return a
}

func TestTransportRetriesOnce(t *testing.T) {
	for _, tt := range []struct {
		name   string
		good   string
		body   func() io.Reader
		status int
		calls  int32
		asked  []string
	}{
		{"fresh", "token-1", nil, 200, 1, []string{"token"}},
		{"refused once", "token-2", nil, 200, 2, []string{"token", "token?force=true"}},
		{"refused twice", "token-9", nil, 401, 2, []string{"token", "token?force=true"}},
		{"body that can be sent again", "token-2", func() io.Reader { return strings.NewReader("hello") }, 200, 2, []string{"token", "token?force=true"}},
		{"body that cannot", "token-2", func() io.Reader { return io.MultiReader(strings.NewReader("hello")) }, 401, 1, []string{"token"}},
		{"empty body", "token-2", func() io.Reader { return http.NoBody }, 200, 2, []string{"token", "token?force=true"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := &tokens{lifetime: time.Hour}
			client, api := startTokens(t, server), startAPI(t, tt.good)
			var body io.Reader
			if tt.body != nil {
				body = tt.body()
			}
			r, err := http.NewRequestWithContext(t.Context(), "POST", api.URL, body)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.HTTPClient("a").Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			answer, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != tt.status || api.calls.Load() != tt.calls {
				t.Errorf("status %d after %d calls, want %d after %d", resp.StatusCode, api.calls.Load(), tt.status, tt.calls)
			}
			want := ""
			if strings.HasPrefix(tt.name, "body") {
				want = "hello"
			}
			if string(answer) != "answer to "+want {
				t.Errorf("answer %q", answer)
			}
			if sent, _ := api.seen.Load(fmt.Sprintf("Bearer token-%d", tt.calls)); sent != want {
				t.Errorf("the last request has the body %q, want %q", sent, want)
			}
			for i, asked := range tt.asked {
				if i >= len(server.asked) || server.asked[i] != "/v1/connections/a/"+asked {
					t.Errorf("asked %q, want %q", server.asked, tt.asked)
				}
			}
			if len(server.asked) != len(tt.asked) {
				t.Errorf("asked %q, want %q", server.asked, tt.asked)
			}
			if r.Header.Get("Authorization") != "" {
				t.Error("the request of the caller was changed")
			}
		})
	}
}

// Where many requests are refused at once, the token is replaced once.
func TestTransportReplacesOnce(t *testing.T) {
	server := &tokens{lifetime: time.Hour}
	client, api := startTokens(t, server), startAPI(t, "token-2")
	http1 := client.HTTPClient("a")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			resp, err := http1.Get(api.URL)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("%v, error %v", resp, err)
				return
			}
			resp.Body.Close()
		})
	}
	all.Wait()
	if server.generation != 2 || server.requests() != 2 {
		t.Errorf("generation %d after %d requests", server.generation, server.requests())
	}
}

// An API that answers 401 whatever the token is does not cost a refresh for
// each request.
func TestTransportDoesNotReplaceInVain(t *testing.T) {
	server := &tokens{lifetime: time.Hour}
	client, api := startTokens(t, server), startAPI(t, "")
	http1 := client.HTTPClient("a")
	get := func() {
		t.Helper()
		resp, err := http1.Get(api.URL)
		if err != nil || resp.StatusCode != http.StatusUnauthorized {
			t.Fatalf("%v, error %v", resp, err)
		}
		resp.Body.Close()
	}
	for range 5 {
		get()
	}
	if server.generation != 2 {
		t.Errorf("generation %d after five requests in vain", server.generation)
	}
	server.pass(time.Minute)
	if get(); server.generation != 3 {
		t.Errorf("generation %d a minute later", server.generation)
	}
	api.good.Store("token-3")
	resp, err := http1.Get(api.URL)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v, error %v", resp, err)
	}
	resp.Body.Close()
}

// closing notes that a body was closed.
type closing struct {
	io.Reader
	closed chan struct{}
}

func (c closing) Close() error {
	close(c.closed)
	return nil
}

func TestTransportErrors(t *testing.T) {
	dead := func(w http.ResponseWriter) bool {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusConflict)
		io.WriteString(w, `{"type":"about:blank","code":"reauthorization_required","title":"Conflict","status":409,`+
			`"detail":"The owner ended the grant.","cause":"revoked","since":"2026-01-02T03:04:05Z","connect_url":"https://x.example/connect/abc"}`)
		return true
	}
	check := func(t *testing.T, err error) {
		t.Helper()
		ended, ok := errors.AsType[*evergrant.ReauthorizationError](err)
		if !ok || ended.Cause != "revoked" || ended.ConnectURL != "https://x.example/connect/abc" || ended.Since.Unix() != 1767323045 {
			t.Errorf("error %v, %+v", err, ended)
		}
		if problem, ok := errors.AsType[*evergrant.Problem](err); !ok || problem.Status != 409 || !strings.Contains(err.Error(), "The owner ended the grant.") {
			t.Errorf("error %v, %+v", err, problem)
		}
	}
	t.Run("before", func(t *testing.T) {
		server := &tokens{fails: dead}
		client, api := startTokens(t, server), startAPI(t, "token-1")
		body := closing{strings.NewReader("x"), make(chan struct{})}
		r, err := http.NewRequestWithContext(t.Context(), "POST", api.URL, body)
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Transport("a").RoundTrip(r)
		check(t, err)
		<-body.closed
		if api.calls.Load() != 0 {
			t.Error("the API was called")
		}
	})
	t.Run("at the second", func(t *testing.T) {
		server := &tokens{lifetime: time.Hour}
		client, api := startTokens(t, server), startAPI(t, "token-2")
		transport := client.Transport("a")
		first, err := http.NewRequestWithContext(t.Context(), "GET", api.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		server.fails = func(w http.ResponseWriter) bool { return server.generation == 1 && len(server.asked) > 1 && dead(w) }
		_, err = transport.RoundTrip(first)
		check(t, err)
	})
	t.Run("body", func(t *testing.T) {
		server := &tokens{lifetime: time.Hour}
		client, api := startTokens(t, server), startAPI(t, "token-2")
		r, err := http.NewRequestWithContext(t.Context(), "POST", api.URL, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		lost := errors.New("the file is gone")
		r.GetBody = func() (io.ReadCloser, error) { return nil, lost }
		if _, err = client.Transport("a").RoundTrip(r); !errors.Is(err, lost) {
			t.Errorf("error %v", err)
		}
	})
}

// The token is not told to another host, nor without TLS, whatever redirects
// say; and not where another host has sent the request, though it be back.
func TestTransportStrays(t *testing.T) {
	server := &tokens{lifetime: time.Hour}
	client := startTokens(t, server)
	var here *httptest.Server
	got := make(chan string, 1)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/back" {
			http.Redirect(w, r, here.URL+"/end", http.StatusFound)
			return
		}
		got <- r.Header.Get("Authorization")
	}))
	t.Cleanup(elsewhere.Close)
	here = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, elsewhere.URL, http.StatusFound)
		case "/away-and-back":
			http.Redirect(w, r, elsewhere.URL+"/back", http.StatusFound)
		case "/near":
			http.Redirect(w, r, "/end", http.StatusFound)
		default:
			got <- r.Header.Get("Authorization")
		}
	}))
	t.Cleanup(here.Close)
	for path, want := range map[string]string{"/near": "Bearer token-1", "/away": "", "/away-and-back": ""} {
		resp, err := client.HTTPClient("a").Get(here.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if sent := <-got; sent != want {
			t.Errorf("%s: the end got %q, want %q", path, sent, want)
		}
	}
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, strings.Replace("http://"+r.Host, "https", "http", 1), http.StatusFound)
	}))
	t.Cleanup(secure.Close)
	transport := client.Transport("a")
	transport.Base = roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.URL.Scheme == "http" {
			got <- r.Header.Get("Authorization")
			return &http.Response{StatusCode: 200, Body: http.NoBody, Request: r}, nil
		}
		return secure.Client().Transport.RoundTrip(r)
	})
	resp, err := (&http.Client{Transport: transport}).Get(secure.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if sent := <-got; sent != "" {
		t.Errorf("without TLS %q was sent", sent)
	}
}

// Nothing prints a token that was given.
func TestNothingPrintsConnectionTokens(t *testing.T) {
	server := &tokens{lifetime: time.Hour}
	client := startTokens(t, server)
	token, err := client.AccessToken(t.Context(), "a", evergrant.TokenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	transport := client.Transport("a")
	api := startAPI(t, "token-1")
	r, err := http.NewRequestWithContext(t.Context(), "GET", api.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	tokens := evergrant.Tokens{AccessToken: token.AccessToken, RefreshToken: token.AccessToken}
	for _, printed := range []string{fmt.Sprintf("%v %+v %#v", token, token, token), fmt.Sprintf("%v %+v", transport, transport),
		fmt.Sprintf("%+v", tokens), fmt.Sprintf("%+v", evergrant.NewConnection{Tokens: tokens})} {
		if strings.Contains(printed, "token-1") {
			t.Errorf("printed %s", printed)
		}
	}
}
