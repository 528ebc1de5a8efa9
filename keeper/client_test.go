package keeper_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
	"github.com/evergrant/evergrant/secret"
	"golang.org/x/oauth2"
)

// resource is a provider's API that takes only living tokens and remembers what
// it was asked.
type resource struct {
	sim    *providertest.Simulator
	mu     sync.Mutex
	asked  []string // method, path, token and body
	always int      // a status that it answers whatever the token is
}

func (r *resource) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	header := req.Header.Get("Authorization")
	scheme, token, _ := strings.Cut(header, " ")
	r.mu.Lock()
	defer r.mu.Unlock()
	said := "refused"
	if r.sim.Alive(token) {
		said = "alive"
	}
	if header == "" {
		said = "none"
	}
	r.asked = append(r.asked, fmt.Sprintf("%s %s %s %s %q %s", req.Method, req.URL.RequestURI(), scheme, said, body, req.Header.Get("X-Shop")))
	switch {
	case req.URL.Path == "/away":
		http.Redirect(w, req, req.URL.Query().Get("to"), http.StatusTemporaryRedirect)
	case r.always != 0:
		w.WriteHeader(r.always)
	case said != "alive":
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, "no")
	default:
		io.WriteString(w, "yes")
	}
}

func (r *resource) log() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.asked)
}

// apiWorld is a world whose provider has its API elsewhere.
func apiWorld(t *testing.T, change func(*provider.Definition)) (*world, *resource, string) {
	t.Helper()
	w := newWorld(t, single())
	api := &resource{sim: w.sims["single"]}
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	w.change = func(cfg *keeper.Config) {
		def := w.sims["single"].Definition(w.urls["single"])
		def.API = provider.API{}
		change(&def)
		def.API.BaseURL = strings.ReplaceAll(def.API.BaseURL, "API", server.URL)
		cfg.Providers = []*provider.Provider{newProvider(t, "single", def, w.clock.now, nil)}
	}
	w.start()
	w.connect("one", "single")
	return w, api, server.URL
}

func read(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	return fmt.Sprintf("%d %s", resp.StatusCode, must[[]byte](t)(io.ReadAll(resp.Body)))
}

// stream is a body that cannot be had twice.
type stream struct {
	io.Reader
	closed int
}

func (s *stream) Close() error { s.closed++; return nil }

func TestClient(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*provider.Definition)
		want   string // of the request
	}{
		{"nothing is known of the API", func(*provider.Definition) {}, `GET /x?y=1 Bearer alive "" `},
		{"a scheme of its own", func(d *provider.Definition) { d.API.Authorization = "Zoho-oauthtoken {access_token}" }, `GET /x?y=1 Zoho-oauthtoken alive "" `},
		{"a base URL and headers", func(d *provider.Definition) {
			d.API.BaseURL, d.API.Headers = "API/v2", map[string]string{"X-Shop": "{owner}"}
		}, `GET /x?y=1 Bearer alive "" one`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, api, url := apiWorld(t, tt.change)
			client := w.k.Client(t.Context(), "one")
			if got := read(t, must[*http.Response](t)(client.Get(url+"/x?y=1"))); got != "200 yes" {
				t.Errorf("got %s", got)
			}
			if got := api.log(); !slices.Equal(got, []string{tt.want}) {
				t.Errorf("asked %q, want %q", got, tt.want)
			}
		})
	}
}

// TestClientRefreshesOnce: a token that the API refuses is renewed and the
// request sent again, if its body can be.
func TestClientRefreshesOnce(t *testing.T) {
	for _, tt := range []struct {
		name string
		body func() io.Reader
		got  string
		sent []string // the bodies
	}{
		{"no body", func() io.Reader { return nil }, "200 yes", []string{"", ""}},
		{"an empty body", func() io.Reader { return http.NoBody }, "200 yes", []string{"", ""}},
		{"a body at hand", func() io.Reader { return strings.NewReader("hello") }, "200 yes", []string{"hello", "hello"}},
		{"a stream", func() io.Reader { return &stream{Reader: strings.NewReader("hello")} }, "401 no", []string{"hello"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, api, url := apiWorld(t, func(*provider.Definition) {})
			client := w.k.Client(t.Context(), "one")
			w.sims["single"].Change(func(d *providertest.Dialect) { d.LiveAccessTokens = 1 })
			w.token("one", keeper.Want{Force: true})
			other := must[*keeper.Keeper](t)(w.another(), nil)
			must[keeper.Token](t)(other.Token(t.Context(), "one", keeper.Want{Force: true})) // what w.k has in memory is dead now
			req := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodPut, url+"/x", tt.body()))
			if got := read(t, must[*http.Response](t)(client.Do(req))); got != tt.got {
				t.Errorf("got %s", got)
			}
			asked := api.log()
			for i, body := range tt.sent {
				said := "refused"
				if i == 1 {
					said = "alive"
				}
				if want := fmt.Sprintf("PUT /x Bearer %s %q ", said, body); i >= len(asked) || asked[i] != want {
					t.Errorf("asked %q, want %q", asked, want)
				}
			}
			if len(asked) != len(tt.sent) {
				t.Errorf("asked %q", asked)
			}
		})
	}
}

// TestClientRefreshesInVain: an API that answers 401 to a new token means
// something else, and is not answered by a refresh for each request.
func TestClientRefreshesInVain(t *testing.T) {
	w, api, url := apiWorld(t, func(*provider.Definition) {})
	api.always = http.StatusUnauthorized
	client := w.k.Client(t.Context(), "one")
	for range 20 {
		if got := read(t, must[*http.Response](t)(client.Get(url))); got != "401 " {
			t.Errorf("got %s", got)
		}
	}
	if n := w.sims["single"].Stats().Requests[provider.Refresh]; n != 1 || len(api.log()) != 21 {
		t.Errorf("%d refreshes, %d requests", n, len(api.log()))
	}
	w.clock.move(2 * time.Minute)
	read(t, must[*http.Response](t)(client.Get(url)))
	if n := w.sims["single"].Stats().Requests[provider.Refresh]; n != 2 {
		t.Errorf("%d refreshes", n)
	}
}

// TestClientOtherAnswers: nothing but 401 is about the token.
func TestClientOtherAnswers(t *testing.T) {
	w, api, url := apiWorld(t, func(*provider.Definition) {})
	client := w.k.Client(t.Context(), "one")
	for _, status := range []int{http.StatusForbidden, http.StatusInternalServerError, http.StatusTooManyRequests} {
		api.always = status
		if got := read(t, must[*http.Response](t)(client.Get(url))); got != fmt.Sprint(status, " ") {
			t.Errorf("got %s", got)
		}
	}
	if n := w.sims["single"].Stats().Requests[provider.Refresh]; n != 0 || len(api.log()) != 3 {
		t.Errorf("%d refreshes, %d requests", n, len(api.log()))
	}
}

// TestClientRefreshFails: the API's own 401 is the answer, unless the owner is
// needed: the error says so.
func TestClientRefreshFails(t *testing.T) {
	w, api, url := apiWorld(t, func(*provider.Definition) {})
	api.always = http.StatusUnauthorized
	client := w.k.Client(t.Context(), "one")
	w.sims["single"].Inject(providertest.Rule{Times: 1, Fault: providertest.Unavailable(http.StatusTooManyRequests, "1")})
	if got := read(t, must[*http.Response](t)(client.Get(url))); got != "401 " {
		t.Errorf("got %s", got)
	}
	w.clock.move(time.Hour)
	w.sims["single"].Revoke("grant-1")
	_, err := client.Get(url)
	if unusable, ok := errors.AsType[*keeper.Unusable](err); !ok || !unusable.NeedsOwner() {
		t.Errorf("got %v", err)
	}
	body := &stream{Reader: strings.NewReader("x")}
	if _, err := client.Post(url, "text/plain", body); err == nil || body.closed == 0 {
		t.Errorf("got %v, the body was closed %d times", err, body.closed)
	}
}

// TestClientKeepsTheToken: a redirect to another host, which whoever answers can
// write, does not get the token.
func TestClientKeepsTheToken(t *testing.T) {
	w, api, url := apiWorld(t, func(*provider.Definition) {})
	elsewhere := &resource{sim: w.sims["single"]}
	server := httptest.NewServer(elsewhere)
	defer server.Close()
	client := w.k.Client(t.Context(), "one")
	if got := read(t, must[*http.Response](t)(client.Get(url+"/away?to="+server.URL+"/trap"))); got != "401 no" {
		t.Errorf("got %s", got)
	}
	if got := elsewhere.log(); !slices.Equal(got, []string{`GET /trap  none "" `}) {
		t.Errorf("the other host was asked %q", got)
	}
	if got := read(t, must[*http.Response](t)(client.Get(url+"/away?to=/home"))); got != "200 yes" {
		t.Errorf("got %s", got)
	}
	if got := api.log(); got[len(got)-1] != `GET /home Bearer alive "" ` || w.sims["single"].Stats().Requests[provider.Refresh] != 0 {
		t.Errorf("asked %q", got)
	}
	// Back from elsewhere it is the host that was asked first, but who sent the
	// browser there may have been the other one.
	back := server.URL + "/away?to=" + url + "/back"
	read(t, must[*http.Response](t)(client.Get(url+"/away?to="+back)))
	if got := api.log(); !strings.HasPrefix(got[len(got)-1], "GET /back ") || !strings.Contains(got[len(got)-1], " none ") {
		t.Errorf("asked %q", got)
	}
}

// TestClientWithoutToken: errors are those of Token, and the caller's request is
// left as it was.
func TestClientWithoutToken(t *testing.T) {
	w, api, url := apiWorld(t, func(*provider.Definition) {})
	if _, err := w.k.Client(t.Context(), "nobody").Get(url); !errors.Is(err, keeper.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	must[keeper.Connection](t)(w.k.Pause(t.Context(), operator, "one"))
	body := &stream{Reader: strings.NewReader("x")}
	if _, err := w.k.Client(t.Context(), "one").Post(url, "text/plain", body); err == nil || body.closed == 0 {
		t.Errorf("got %v, the body was closed %d times", err, body.closed)
	}
	if len(api.log()) > 0 {
		t.Errorf("asked %q", api.log())
	}
	must[keeper.Connection](t)(w.k.Resume(t.Context(), operator, "one"))
	req := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader([]byte("x"))))
	read(t, must[*http.Response](t)(w.k.Client(t.Context(), "one").Do(req)))
	if req.Header.Get("Authorization") != "" {
		t.Error("the token is in the caller's request")
	}
	ctx, cancel := context.WithCancel(t.Context())
	client := w.k.Client(ctx, "one")
	cancel()
	if _, err := client.Get(url); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestTokenSource(t *testing.T) {
	w := newWorld(t, single())
	w.connect("one", "single")
	source := w.k.TokenSource(t.Context(), "one")
	first := must[*oauth2.Token](t)(source.Token())
	if !first.Valid() || first.RefreshToken != "" || !w.sims["single"].Alive(first.AccessToken) || first.Type() != "Bearer" {
		t.Errorf("got a token of type %s, valid %v", first.Type(), first.Valid())
	}
	w.clock.move(58 * time.Minute)
	if next := must[*oauth2.Token](t)(source.Token()); next.AccessToken == first.AccessToken || !next.Expiry.After(w.clock.now().Add(59*time.Minute)) {
		t.Errorf("the next one expires %s", next.Expiry)
	}
	must[keeper.Connection](t)(w.k.Create(t.Context(), operator, keeper.Import{ID: "forever", Provider: "single", AccessToken: secret.NewText("at"), TokenType: "mac"}))
	if token := must[*oauth2.Token](t)(w.k.TokenSource(t.Context(), "forever").Token()); !token.Expiry.IsZero() || token.TokenType != "mac" {
		t.Errorf("got %s, expiring %s", token.TokenType, token.Expiry)
	}
	if _, err := w.k.TokenSource(t.Context(), "nobody").Token(); !errors.Is(err, keeper.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}
