package providertest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/providertest"
)

// began is when the clock of every test begins.
var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// clock is a clock that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// pass moves the clock.
func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// bench is a simulator that is served on a port of its own, and whoever calls
// it.
type bench struct {
	*testing.T
	*clock
	sim *providertest.Simulator
	url string
}

func serve(t *testing.T, d providertest.Dialect) *bench {
	t.Helper()
	return serveWith(t, d, providertest.Options{Consent: providertest.Allow})
}

func serveWith(t *testing.T, d providertest.Dialect, options providertest.Options) *bench {
	t.Helper()
	b := &bench{T: t, clock: &clock{at: began}}
	options.Now = b.now
	b.sim = providertest.New(d, options)
	var stop func()
	b.url, stop = providertest.Listen(b.sim)
	t.Cleanup(stop)
	return b
}

// got is an answer.
type got struct {
	status int
	header http.Header
	body   string
	json   map[string]any // nil where the body is none
	err    error          // instead of all, or of the rest of the body
}

// at is the value at a dotted path of the JSON, nil where there is none.
func (g got) at(path string) any {
	var value any = g.json
	for name := range strings.SplitSeq(path, ".") {
		fields, _ := value.(map[string]any)
		value = fields[name]
	}
	return value
}

func (g got) text(path string) string {
	text, _ := g.at(path).(string)
	return text
}

// do sends a request on a connection of its own, and follows no redirect.
func (b *bench) do(req *http.Request) got {
	b.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return got{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	g := got{status: resp.StatusCode, header: resp.Header, body: string(body), err: err}
	g.json = decode(g.body)
	return g
}

// decode reads a JSON object, nil where the text is none.
func decode(text string) (fields map[string]any) {
	if json.Unmarshal([]byte(text), &fields) != nil {
		return nil
	}
	return fields
}

func (b *bench) request(method, path, kind, body string, headers ...string) *http.Request {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), method, b.url+path, strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return req
}

// form is pairs of names and values, form-encoded.
func form(pairs ...string) string {
	values := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	return values.Encode()
}

// token posts a form to the token endpoint, with the client's id and secret and
// the header that Flexiti wants.
func (b *bench) token(pairs ...string) got {
	b.Helper()
	pairs = append([]string{"client_id", "sim-client", "client_secret", "sim-secret"}, pairs...)
	return b.do(b.request("POST", providertest.TokenPath, oauth.FormType, form(pairs...), "Accept", "application/json", "X-Reference-Id", "1"))
}

// basic is token with Basic credentials.
func (b *bench) basic(pairs ...string) got {
	b.Helper()
	return b.do(b.request("POST", providertest.TokenPath, oauth.FormType, form(pairs...), "Authorization", oauth.BasicHeader("sim-client", "sim-secret")))
}

// refresh spends a refresh token.
func (b *bench) refresh(token string, pairs ...string) got {
	b.Helper()
	return b.token(append([]string{"grant_type", "refresh_token", "refresh_token", token}, pairs...)...)
}

// refreshed spends a refresh token that must be good, and returns the answer.
func (b *bench) refreshed(token string) got {
	b.Helper()
	g := b.refresh(token)
	if g.err != nil || g.status != http.StatusOK || g.text("access_token") == "" {
		b.Fatalf("the refresh was refused: %d %s %v", g.status, g.body, g.err)
	}
	return g
}

// connect makes a grant and returns its first tokens.
func (b *bench) connect(owner string, scope ...string) (grant, access, refresh string) {
	b.Helper()
	grant, tokens := b.sim.Connect(owner, scope...)
	return grant, tokens.AccessToken.Reveal(), tokens.RefreshToken.Reveal()
}

// me calls the API.
func (b *bench) me(access string) got {
	b.Helper()
	return b.do(b.request("GET", providertest.MePath, "", "", "Authorization", "Bearer "+access))
}

const callback = "https://app.example/callback"

// authorize asks for consent and returns the answer, and the query of the
// redirect.
func (b *bench) authorize(pairs ...string) (got, url.Values) {
	b.Helper()
	pairs = append([]string{"response_type", "code", "client_id", "sim-client", "redirect_uri", callback, "state", "s1"}, pairs...)
	g := b.do(b.request("GET", providertest.AuthorizePath+"?"+form(pairs...), "", ""))
	back, err := url.Parse(g.header.Get("Location"))
	if err != nil {
		b.Fatal(err)
	}
	return g, back.Query()
}

// code is an authorization code.
func (b *bench) code(pairs ...string) string {
	b.Helper()
	g, back := b.authorize(pairs...)
	if back.Get("code") == "" {
		b.Fatalf("no code: %d %s %v", g.status, g.body, back)
	}
	return back.Get("code")
}

// want fails the test where an answer has not this status and, at a path, this
// value.
func (b *bench) want(g got, status int, path string, value any) {
	b.Helper()
	if is := g.at(path); g.err != nil || g.status != status || is != value {
		b.Errorf("status %d, %s %v (%T), error %v; want status %d, %v\n%s", g.status, path, is, is, g.err, status, value, g.body)
	}
}
