package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// rotating is a token endpoint that knows one current refresh token for each
// grant, and refuses every other.
type rotating struct {
	mu      sync.Mutex
	current map[string]bool
	issued  int
	before  func(http.ResponseWriter) // called before an answer is written
	form    string                    // a request body that was seen
}

func newRotating(tokens ...string) *rotating {
	r := &rotating{current: map[string]bool{}}
	for _, token := range tokens {
		r.current[token] = true
	}
	return r
}

func (s *rotating) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	token := r.PostFormValue("refresh_token")
	if r.URL.Path != "/oauth/token" || r.PostFormValue("grant_type") != "refresh_token" || !s.current[token] {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"invalid_grant"}`)
		return
	}
	s.form = r.PostForm.Encode()
	delete(s.current, token)
	s.issued++
	next := fmt.Sprintf("next+/=&%%%d", s.issued) // with all that a form must escape
	s.current[next] = true
	if s.before != nil {
		s.before(w)
	}
	fmt.Fprintf(w, `{"access_token":"a","refresh_token_expires_in":60,"refresh_token":"%s"}`, next)
}

func serve(t *testing.T, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func dial(t *testing.T, load Load) *Generator {
	t.Helper()
	g, err := Dial(t.Context(), load)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

func run(t *testing.T, g *Generator, length time.Duration) Result {
	t.Helper()
	result, err := g.Run(t.Context(), length)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

const short = 100 * time.Millisecond

func TestEachClientChainsItsOwnToken(t *testing.T) {
	variants := map[string]func(http.ResponseWriter){
		"with a length": nil,
		"chunked":       func(w http.ResponseWriter) { w.(http.Flusher).Flush() },
		"closing":       func(w http.ResponseWriter) { w.Header().Set("Connection", "close") },
	}
	for name, before := range variants {
		t.Run(name, func(t *testing.T) {
			server := newRotating("one", "two", "three+/=")
			server.before = before
			g := dial(t, Load{Addresses: []string{serve(t, server)}, Mode: Refresh, Clients: 3, ClientID: "a client", Tokens: []string{"one", "two", "three+/="}})
			first := run(t, g, short)
			second := run(t, g, short) // the chains go on
			if first.Errors+second.Errors != 0 {
				t.Fatalf("%d and %d errors: %s%s", first.Errors, second.Errors, first.Failure, second.Failure)
			}
			server.mu.Lock()
			defer server.mu.Unlock()
			if first.Requests == 0 || first.Requests+second.Requests != server.issued {
				t.Errorf("%d + %d requests, the server answered %d", first.Requests, second.Requests, server.issued)
			}
			if len(server.current) != 3 {
				t.Errorf("%d live tokens for 3 clients", len(server.current))
			}
			if !strings.Contains(server.form, "client_id=a+client") {
				t.Errorf("the request was %s", server.form)
			}
		})
	}
}

// Clients are spread over the addresses, use their own tokens in turn, and keep
// every chain.
func TestSeveralAddressesAndTokens(t *testing.T) {
	var tokens []string
	for i := range 12 {
		tokens = append(tokens, fmt.Sprint("t", i))
	}
	server := newRotating(tokens...)
	var asked [2]atomic.Int64
	front := func(i int) string {
		return serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked[i].Add(1)
			if r.URL.Path != "/elsewhere/token" {
				t.Errorf("a request went to %s", r.URL.Path)
			}
			r.URL.Path = "/oauth/token"
			server.ServeHTTP(w, r)
		}))
	}
	load := Load{Addresses: []string{front(0), front(1)}, Path: "/elsewhere/token", Mode: Refresh, Clients: 4, Tokens: tokens}
	result := run(t, dial(t, load), short)
	if result.Errors != 0 || result.Requests < 2*len(tokens) {
		t.Fatalf("%d requests, %d errors: %s", result.Requests, result.Errors, result.Failure)
	}
	if one, two := asked[0].Load(), asked[1].Load(); one == 0 || two == 0 || int(one+two) != result.Requests {
		t.Errorf("%d and %d requests of %d", one, two, result.Requests)
	}
	server.mu.Lock()
	defer server.mu.Unlock()
	for _, token := range tokens {
		if server.current[token] {
			t.Errorf("%s was never used", token)
		}
	}
	if len(server.current) != len(tokens) {
		t.Errorf("%d live tokens of %d", len(server.current), len(tokens))
	}
}

func TestRunMeasures(t *testing.T) {
	server := newRotating("one")
	server.before = func(http.ResponseWriter) { time.Sleep(2 * time.Millisecond) }
	g := dial(t, Load{Addresses: []string{serve(t, server)}, Mode: Refresh, Clients: 1, Tokens: []string{"one"}})
	result := run(t, g, short)
	if result.P50 < 2*time.Millisecond || result.P99 < result.P50 || result.Elapsed < short {
		t.Errorf("%+v", result)
	}
	if rate := result.Rate(); rate <= 0 || rate > 500 {
		t.Errorf("%v requests per second at 2 ms each", rate)
	}
	if rate := (Result{}).Rate(); rate != 0 {
		t.Errorf("%v requests per second in no time", rate)
	}
}

// answer is a handler that always says the same.
func answer(status int, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
}

func TestErrorsAreCounted(t *testing.T) {
	tests := []struct {
		name    string
		mode    Mode
		handler http.Handler
		failure string
	}{
		{"not rotated", Refresh, answer(200, `{"access_token":"a","refresh_token":"sent/1"}`), "the answer's refresh token is the one that was sent"},
		{"no refresh token", Refresh, answer(200, `{"access_token":"a"}`), "the answer has no refresh_token"},
		{"refused", Refresh, answer(400, `{"error":"invalid_grant","refresh_token":"sent/1"}`), "status 400: invalid_grant"},
		{"failed", Refresh, answer(503, `upstream is sent/1`), "status 503"},
		{"created", Refresh, answer(201, `{"refresh_token":"r"}`), "status 201"},
		{"inactive", Introspect, answer(200, `{"active":false}`), "the token is not active"},
		{"no access token", ClientCredentials, answer(200, `{}`), "the answer has no access_token"},
		{"unauthorized", ClientCredentials, answer(401, `{"error":"invalid_client"}`), "status 401: invalid_client"},
		{"echo refused", Echo, answer(400, ``), "status 400"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			load := Load{Addresses: []string{serve(t, test.handler)}, Mode: test.mode, Clients: 1}
			if test.mode != ClientCredentials {
				load.Tokens = []string{"sent/1"}
			}
			result := run(t, dial(t, load), short)
			// The token of a server that does not rotate is never new.
			if result.Requests != 0 || result.Errors == 0 {
				t.Errorf("%d requests, %d errors", result.Requests, result.Errors)
			}
			if result.Failure != test.failure || strings.Contains(result.Failure, "sent/1") {
				t.Errorf("failure %q, want %q", result.Failure, test.failure)
			}
			if result.P50 != 0 || result.P99 != 0 {
				t.Error("refused requests have latencies")
			}
		})
	}
}

func TestModesSendWhatTheyShould(t *testing.T) {
	tests := []struct {
		name string
		load Load
		path string
		form string
		body string
	}{
		{"refresh", Load{Mode: Refresh, ClientID: "c", Tokens: []string{"t/1"}}, "/oauth/token",
			"client_id=c&grant_type=refresh_token&refresh_token=t%2F1", `{"refresh_token":"t/1"}`},
		{"refresh of a confidential client", Load{Mode: Refresh, Authorization: "Basic YTpi", Tokens: []string{"t/1"}}, "/oauth/token",
			"grant_type=refresh_token&refresh_token=t%2F1", `{"refresh_token":"t/1"}`},
		{"introspect", Load{Mode: Introspect, Authorization: "Basic YTpi", Tokens: []string{"t/1"}}, "/oauth/introspect",
			"token=t%2F1", `{"active": true}`},
		{"client_credentials", Load{Mode: ClientCredentials, Authorization: "Basic YTpi"}, "/oauth/token",
			"grant_type=client_credentials", `{"access_token":"a"}`},
		{"client_credentials in the form", Load{Mode: ClientCredentials, ClientID: "c"}, "/oauth/token",
			"client_id=c&grant_type=client_credentials", `{"access_token":"a"}`},
		{"echo", Load{Mode: Echo, ClientID: "c", Tokens: []string{"t/1"}}, "/oauth/token",
			"client_id=c&grant_type=refresh_token&refresh_token=t%2F1", `anything`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var wrong atomic.Pointer[string]
			test.load.Addresses = []string{serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.ParseForm()
				got := fmt.Sprint(r.Method, " ", r.URL.Path, " ", r.Header.Get("Authorization"), " ", r.PostForm.Encode())
				if want := fmt.Sprint("POST ", test.path, " ", test.load.Authorization, " ", test.form); got != want {
					wrong.Store(&got)
				}
				fmt.Fprint(w, test.body)
			}))}
			test.load.Clients = 1
			result := run(t, dial(t, test.load), short)
			if got := wrong.Load(); got != nil {
				t.Errorf("the server got %s", *got)
			}
			if rotates := test.load.Mode == Refresh; !rotates && (result.Requests == 0 || result.Errors != 0) {
				t.Errorf("%+v", result)
			}
		})
	}
}

// A server that breaks connections is met with new ones; every break counts.
func TestLostConnections(t *testing.T) {
	tests := map[string]http.HandlerFunc{
		"before an answer": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"inside an answer": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
	}
	for name, breaks := range tests {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int64
			address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1)%2 == 0 {
					breaks(w, r)
				}
				fmt.Fprint(w, `{"access_token":"a"}`)
			}))
			result := run(t, dial(t, Load{Addresses: []string{address}, Mode: ClientCredentials, Clients: 2}), short)
			if result.Errors == 0 || result.Requests == 0 || int64(result.Errors+result.Requests) != n.Load() {
				t.Errorf("%d requests, %d errors, the server saw %d", result.Requests, result.Errors, n.Load())
			}
		})
	}
}

func TestAServerThatIsGone(t *testing.T) {
	server := httptest.NewServer(answer(200, `{"access_token":"a"}`))
	g := dial(t, Load{Addresses: []string{server.Listener.Addr().String()}, Mode: ClientCredentials, Clients: 1})
	server.Close()
	result := run(t, g, short)
	if result.Requests != 0 || result.Errors == 0 || result.Errors > 100 {
		t.Errorf("%d requests, %d errors in %v", result.Requests, result.Errors, short)
	}
}

// stuck is a server that never answers, until the test is over.
func stuck(t *testing.T) string {
	t.Helper()
	over := make(chan struct{})
	address := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
	t.Cleanup(func() { close(over) }) // runs before the server is closed
	return address
}

func TestPatienceEnds(t *testing.T) {
	g := dial(t, Load{Addresses: []string{stuck(t)}, Mode: ClientCredentials, Clients: 2, Patience: short})
	result := run(t, g, short)
	if result.Requests != 0 || result.Errors != 2 {
		t.Errorf("%+v", result)
	}
	if !strings.Contains(result.Failure, "timeout") {
		t.Errorf("failure %q", result.Failure)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	g := dial(t, Load{Addresses: []string{stuck(t)}, Mode: ClientCredentials, Clients: 2})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(short, cancel)
	result, err := g.Run(ctx, time.Hour)
	if !errors.Is(err, context.Canceled) || result.Errors != 0 {
		t.Errorf("%v, %+v", err, result)
	}
	// What was interrupted stays so.
	if result, err := g.Run(t.Context(), time.Hour); err != nil || result.Requests != 0 {
		t.Errorf("%v, %+v", err, result)
	}
}

func TestDialRefuses(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	listener.Close()
	somebody := serve(t, answer(200, ""))
	tests := []struct {
		name string
		load Load
		want string
	}{
		{"too few tokens", Load{Addresses: []string{somebody}, Mode: Refresh, Clients: 2, Tokens: []string{"t"}}, "1 tokens for 2 clients"},
		{"no tokens", Load{Addresses: []string{somebody}, Mode: Introspect, Clients: 1}, "0 tokens for 1 clients"},
		{"unknown mode", Load{Addresses: []string{somebody}, Mode: "dance", Clients: 1}, `unknown mode "dance"`},
		{"tokens that cannot be shared out", Load{Addresses: []string{somebody}, Mode: Refresh, Clients: 2, Tokens: []string{"t", "u", "v"}}, "3 tokens for 2 clients"},
		{"no clients", Load{Addresses: []string{somebody}, Mode: ClientCredentials}, "at least one client"},
		{"no address", Load{Mode: ClientCredentials, Clients: 1}, "one address"},
		{"no server", Load{Addresses: []string{nobody}, Mode: ClientCredentials, Clients: 1}, "refused"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			g, err := Dial(t.Context(), test.load)
			if err == nil {
				g.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("%q does not say %q", err, test.want)
			}
		})
	}
}

func TestQuantile(t *testing.T) {
	up := func(n int) []time.Duration {
		var list []time.Duration
		for i := range n {
			list = append(list, time.Duration(i+1))
		}
		return list
	}
	tests := []struct {
		n, perMille int
		want        time.Duration
	}{
		{0, 500, 0}, {1, 500, 1}, {1, 990, 1}, {2, 500, 1}, {2, 990, 2}, {3, 500, 2},
		{100, 500, 50}, {100, 990, 99}, {101, 990, 100}, {1000, 990, 990}, {1000, 1000, 1000},
	}
	for _, test := range tests {
		if got := Quantile(up(test.n), test.perMille); got != test.want {
			t.Errorf("%d ‰ of 1..%d is %d, want %d", test.perMille, test.n, got, test.want)
		}
	}
}

func TestAppendEscaped(t *testing.T) {
	const unreserved = "abcXYZ019-._~"
	if got := string(appendEscaped(nil, []byte(unreserved+" +/=&%\x00é"))); got != unreserved+"%20%2B%2F%3D%26%25%00%C3%A9" {
		t.Error(got)
	}
}
