package provider_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

// sentAt is when the requests of these tests are sent.
var sentAt = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// plain is a provider at a URL that does everything as RFC 6749 says.
func plain(base string) provider.Definition {
	return provider.Definition{Name: "acme", AuthorizeURL: base + "/authorize", TokenURL: base + "/token"}
}

// register makes a provider of a definition.
func register(t testing.TB, d provider.Definition, changes ...func(*provider.Config)) *provider.Provider {
	t.Helper()
	cfg := provider.Config{
		Definition: d, ClientID: "app", ClientSecrets: []secret.Text{secret.NewText("s3cr&t+")}, RedirectURI: "https://keeper.example/connect/callback",
		AllowPrivateNetworks: true, Now: func() time.Time { return sentAt },
	}
	for _, change := range changes {
		change(&cfg)
	}
	p, err := provider.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// refresh is a call with all that one can have.
var refresh = provider.Call{
	Kind: provider.Refresh, Owner: "alice", Scope: []string{"read", "write"},
	AccessToken: secret.NewText("old-access"), RefreshToken: secret.NewText("old-refresh"),
}

// exchange is a call for an authorization code.
var exchange = provider.Call{Kind: provider.Exchange, Code: secret.NewText("the-code"), CodeVerifier: secret.NewText("the-verifier")}

// failure is the *provider.Error that an error is.
func failure(t testing.TB, err error) *provider.Error {
	t.Helper()
	e, ok := errors.AsType[*provider.Error](err)
	if !ok {
		t.Fatalf("error %v of type %T", err, err)
	}
	return e
}

// seen is a request as a server got it.
type seen struct {
	method, uri, body string
	header            http.Header
	form              url.Values // of the body
	proto             int
}

// recorder is a server that keeps the requests that it gets, and answers as it
// is told.
type recorder struct {
	*httptest.Server
	mu     sync.Mutex
	seen   []seen
	answer http.HandlerFunc
}

func record(t testing.TB, answer http.HandlerFunc) *recorder {
	r := &recorder{answer: answer}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	form, _ := url.ParseQuery(string(body))
	r.mu.Lock()
	r.seen = append(r.seen, seen{req.Method, req.RequestURI, string(body), req.Header, form, req.ProtoMajor})
	r.mu.Unlock()
	r.answer(w, req)
}

// requests are those that the server has got.
func (r *recorder) requests() []seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]seen(nil), r.seen...)
}

// say answers with a status and a JSON body.
func say(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

const success = `{"access_token":"new-access","refresh_token":"new-refresh","token_type":"Bearer","expires_in":3600}`

// wire is a server below HTTP: it reads one request of each connection, and
// then does with the connection what it is told. (hang waits until the client
// has gone.)
type wire struct {
	url      string
	requests atomic.Int32
}

func listen(t testing.TB, then func(net.Conn)) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{url: "http://" + l.Addr().String()}
	var open sync.WaitGroup
	t.Cleanup(open.Wait)
	t.Cleanup(func() { l.Close() })
	open.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(10 * time.Second)) // no test waits longer
				req, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				io.Copy(io.Discard, req.Body)
				w.requests.Add(1)
				then(conn)
			})
		}
	})
	return w
}

func hang(conn net.Conn) { io.Copy(io.Discard, conn) }

// Short names for tables of answers.
type (
	hw = http.ResponseWriter
	hr = http.Request
)

// drop answers a request by closing its connection.
func drop(w hw, _ *hr) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		conn.Close()
	}
}
