package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// call is one request and its answer as they pass a middleman.
type call struct {
	method string
	path   string
	form   url.Values
	nth    int                   // among those of this path in the step, from 1
	same   int                   // among those of this path and form
	issued []oauth.TokenResponse // by earlier calls, in every step

	status int
	header http.Header
	body   []byte
}

// set changes a member of the JSON answer; nil deletes it.
func (c *call) set(name string, value any) {
	var members map[string]any
	if json.Unmarshal(c.body, &members) != nil || members == nil {
		members = map[string]any{}
	}
	if value == nil {
		delete(members, name)
	} else {
		members[name] = value
	}
	c.body, _ = json.Marshal(members)
}

// get is a member of the JSON answer.
func (c *call) get(name string) any {
	var members map[string]any
	json.Unmarshal(c.body, &members)
	return members[name]
}

// grantTokens makes the answer one of tokens.
func (c *call) grantTokens() {
	c.status, c.body = http.StatusOK, []byte(`{"access_token":"a","token_type":"Bearer","expires_in":3600,"refresh_token":"r","scope":"read write"}`)
}

// middleman stands in front of a server and changes answers.
type middleman struct {
	server string // URL

	mu     sync.Mutex
	change func(*call) // nil for none
	seen   map[string]int
	issued []oauth.TokenResponse
	muted  string // connection of which streams tell nothing
}

// use begins a step.
func (m *middleman) use(change func(*call)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.change, m.seen = change, map[string]int{}
}

func (m *middleman) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	sent, _ := io.ReadAll(r.Body)
	out := r.Clone(r.Context())
	out.RequestURI, out.URL.Scheme, out.URL.Host = "", "http", strings.TrimPrefix(m.server, "http://")
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(sent)), int64(len(sent))
	resp, err := http.DefaultTransport.RoundTrip(out)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") == "text/event-stream" {
		m.stream(w, resp.Header, resp.Body)
		return
	}
	c := &call{method: r.Method, path: r.URL.Path, status: resp.StatusCode, header: w.Header()}
	c.form, _ = url.ParseQuery(string(sent))
	c.body, _ = io.ReadAll(resp.Body)
	for name, values := range resp.Header {
		if name != "Content-Length" {
			c.header[name] = values
		}
	}
	m.pass(c, string(sent))
	w.WriteHeader(c.status)
	w.Write(c.body)
}

// mute keeps the events of a connection out of streams.
func (m *middleman) mute(connection string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.muted = connection
}

// stream passes on what comes, as it comes, but for what is muted.
func (m *middleman) stream(w http.ResponseWriter, header http.Header, body io.Reader) {
	maps.Copy(w.Header(), header)
	w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(w)
	for lines := bufio.NewReader(body); out.Flush() == nil; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		m.mu.Lock()
		muted := m.muted != "" && strings.Contains(line, `"connection":"`+m.muted+`"`)
		m.mu.Unlock()
		if muted {
			line = ": nothing\n"
		}
		if _, err := io.WriteString(w, line); err != nil {
			return
		}
	}
}

// pass changes an answer.
func (m *middleman) pass(c *call, sent string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen[c.path]++
	m.seen[c.path+"\x00"+sent]++
	c.nth, c.same, c.issued = m.seen[c.path], m.seen[c.path+"\x00"+sent], m.issued
	if tokens := decode[oauth.TokenResponse](exchange{body: c.body}); tokens.RefreshToken != "" {
		m.issued = append(m.issued, tokens)
	}
	if m.change != nil {
		m.change(c)
	}
}

// example is a server with the demo's configuration behind a middleman.
type example struct {
	*middleman
	url   string // of the middleman, under which the server knows itself
	token secret.Text
	stage *stage
}

// startExample starts one, with more lines of configuration of the issuer.
func startExample(t *testing.T, more string) *example {
	t.Helper()
	m := &middleman{seen: map[string]int{}}
	front := httptest.NewServer(m)
	application, err := newApp(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	providers, err := simulate()
	if err != nil {
		t.Fatal(err)
	}
	stage := newStage(providers, application.hooks, t.TempDir())
	t.Cleanup(func() {
		stage.close()
		front.Close()
	})
	file := filepath.Join(t.TempDir(), "evergrant.yaml")
	if err := createFile(file, "public_url: "+front.URL+"\n"+demoConfig+more+providers.config(application.hook())); err != nil {
		t.Fatal(err)
	}
	p := program{env: func(string) (string, bool) { return "", false }, now: time.Now}
	c, err := loadConfig(file, overrides{"127.0.0.1:0", filepath.Join(t.TempDir(), "data")}, p.env)
	if err != nil {
		t.Fatal(err)
	}
	s, err := openServer(t.Context(), c, p, io.Discard, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.declare(t.Context(), c, true); err != nil {
		t.Fatal(err)
	}
	m.server = "http://" + s.listener.Addr().String()
	token, err := adminToken(filepath.Join(s.dataDir, adminTokenFile))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go application.run(ctx)
	go func() { ended <- s.run(ctx) }()
	t.Cleanup(func() {
		stop()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return &example{m, front.URL, token, stage}
}

// tour prepares a tour of the example that writes to out.
func (e *example) tour(out io.Writer) *tour {
	in := &invocation{program: program{env: func(string) (string, bool) { return "", false }, now: time.Now}, stdout: out}
	return in.newTour(e.url, e.token, "http://127.0.0.1:1"+callbackPath, e.stage)
}

// until goes through the steps to the one with a title, in which answers are
// changed.
func (e *example) until(t *testing.T, tour *tour, title string, change func(*call)) {
	t.Helper()
	for _, s := range steps() {
		if s.title != title {
			e.use(nil)
			tour.take(t.Context(), "", s)
			continue
		}
		if broken := tour.broken(); len(broken) > 0 {
			t.Fatalf("broken before anything was changed: %v", broken)
		}
		e.use(change)
		tour.take(t.Context(), "", s)
		return
	}
	t.Fatalf("there is no step %q", title)
}
