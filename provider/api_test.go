package provider_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

// withAPI is a provider with an API below a base URL.
func withAPI(base string) provider.Definition {
	d := plain("https://acme.example")
	d.API = provider.API{BaseURL: base, Check: "/me?fields=id"}
	return d
}

// TestAPIRequest holds where requests go and what they carry.
func TestAPIRequest(t *testing.T) {
	type header = map[string]string
	tests := []struct {
		name   string
		change func(*provider.Definition)
		path   string
		query  string // of the request as it comes
		want   string
		header header
	}{
		{name: "path", path: "/users/me", want: "https://api.acme.example/v2/users/me", header: header{"Authorization": "Bearer old-access"}},
		{name: "path without slash", path: "users/", want: "https://api.acme.example/v2/users/"},
		{name: "nothing", path: "", want: "https://api.acme.example/v2"},
		{name: "root", path: "/", want: "https://api.acme.example/v2/"},
		{name: "queries", path: "/x?a=1&b=%20", query: "c=3", want: "https://api.acme.example/v2/x?a=1&b=%20&c=3"},
		{name: "escapes stay", path: "/projects/group%2Fname/a%20b/%3F", want: "https://api.acme.example/v2/projects/group%2Fname/a%20b/%3F"},
		{name: "dots that are names", path: "/a..b/.../.well-known", want: "https://api.acme.example/v2/a..b/.../.well-known"},
		{name: "another host in the path", path: "//evil.example/x", want: "https://api.acme.example/v2//evil.example/x"},
		{name: "a URL as path", path: "https://evil.example/x", want: "https://api.acme.example/v2/https://evil.example/x"},
		{name: "a user in the path", path: "@evil.example", want: "https://api.acme.example/v2/@evil.example"},
		{name: "headers and another scheme", change: func(d *provider.Definition) {
			d.API.Authorization = "Zoho-oauthtoken {access_token}"
			d.API.Headers = header{"Company": "{params.company}", "X-Client": "{client_id}", "X-None": "{params.none}"}
			d.Params = map[string]provider.Param{"company": {Default: "guid-1"}, "none": {Pattern: ".?"}}
		}, path: "/x", want: "https://api.acme.example/v2/x", header: header{"Authorization": "Zoho-oauthtoken old-access", "Company": "guid-1", "X-Client": "app", "X-None": "", "Accept": "text/csv"}},
		{name: "base told by the provider", change: func(d *provider.Definition) {
			d.API.BaseURL, d.API.Check = "{params.base}/rest/", ""
			d.Params = map[string]provider.Param{"base": {Pattern: "https://[a-z.]+", Default: "https://na.acme.example"}}
		}, path: "/x", want: "https://na.acme.example/rest/x"},
		{name: "base with a query", change: func(d *provider.Definition) { d.API.BaseURL += "?key=1" }, path: "/x", query: "a=1", want: "https://api.acme.example/v2/x?key=1&a=1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := withAPI("https://api.acme.example/v2")
			if tt.change != nil {
				tt.change(&d)
			}
			r, err := http.NewRequest("GET", "http://keeper.example/v1/proxy/c/x?"+tt.query, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer of-the-caller")
			r.Header.Set("Accept", "text/csv")
			r.Header.Set("X-None", "of-the-caller")
			r.RequestURI = "/v1/proxy"
			if err := register(t, d).APIRequest(r, tt.path, refresh); err != nil {
				t.Fatal(err)
			}
			if r.URL.String() != tt.want || r.Host != "" || r.RequestURI != "" {
				t.Errorf("%s for %q, %q\nwant %s", r.URL, r.Host, r.RequestURI, tt.want)
			}
			for name, want := range tt.header {
				if got := r.Header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
		})
	}
}

// TestAPIRequestRefuses holds that no path leads out of the API.
func TestAPIRequestRefuses(t *testing.T) {
	p := register(t, withAPI("https://api.acme.example/v2"))
	for _, path := range []string{"/../admin", "..", "/a/../../admin", "/%2e%2e/admin", "/%2E./admin", "/a/%2e%2e%2fadmin", "/..%2Fadmin", "/a/./b", `/..\admin`, `/%5c..%5cadmin`, "/%zz", "/..?x"} {
		r := &http.Request{}
		if err := p.APIRequest(r, path, refresh); err == nil || failure(t, err).Class != provider.BadDefinition || r.URL != nil || r.Header != nil {
			t.Errorf("%q: %v, %v", path, r.URL, err)
		}
	}
	if err := register(t, plain("https://acme.example")).APIRequest(&http.Request{}, "/x", refresh); err == nil || !strings.Contains(err.Error(), "base_url") {
		t.Error(err)
	}
	d := withAPI("{params.base}")
	d.Params = map[string]provider.Param{"base": {Pattern: "https?://[a-z.]+"}}
	strict := register(t, d, func(cfg *provider.Config) { cfg.AllowPrivateNetworks = false })
	for _, base := range []string{"", "http://api.acme.example"} {
		if err := strict.APIRequest(&http.Request{}, "/x", provider.Call{Params: map[string]string{"base": base}}); err == nil {
			t.Errorf("%q was taken", base)
		}
	}
}

// TestTransport holds that connections are used again, and that no redirect is
// followed.
func TestTransport(t *testing.T) {
	server := record(t, func(w hw, r *hr) { http.Redirect(w, r, "/elsewhere", http.StatusFound) })
	dials := 0
	p := register(t, withAPI(server.URL), func(cfg *provider.Config) {
		cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			dials++
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
	})
	for range 3 {
		r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := p.Transport().RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusFound {
			t.Error(resp.Status)
		}
	}
	if dials != 1 || len(server.requests()) != 3 {
		t.Errorf("%d connections for %d requests", dials, len(server.requests()))
	}
	(&http.Client{Transport: p.Transport()}).CloseIdleConnections()
	if resp, err := p.Transport().RoundTrip(mustRequest(t, server.URL)); err != nil || dials != 2 {
		t.Errorf("%v, %d connections", err, dials)
	} else {
		resp.Body.Close()
	}
}

func mustRequest(t *testing.T, url string) *http.Request {
	r, err := http.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestTransportGuards holds that also the API cannot be in a private network,
// nor be reached there by a redirect.
func TestTransportGuards(t *testing.T) {
	server := record(t, say(200, ``))
	strict := register(t, plain("https://acme.example"), func(cfg *provider.Config) { cfg.AllowPrivateNetworks = false })
	for _, url := range []string{server.URL, strings.Replace(server.URL, "http:", "https:", 1), "ftp://acme.example/", "https://169.254.169.254/latest/meta-data/", "https://[::1]/"} {
		if resp, err := strict.Transport().RoundTrip(mustRequest(t, url)); err == nil {
			t.Errorf("%s answered %s", url, resp.Status)
		}
	}
	if len(server.requests()) != 0 {
		t.Error("the server was reached")
	}
}

// TestAlive asks the API whether a token lives.
func TestAlive(t *testing.T) {
	tests := []struct {
		status       int
		alive, known bool
	}{{200, true, true}, {204, true, true}, {401, false, true}, {403, false, false}, {429, false, false}, {500, false, false}, {302, false, false}}
	for _, tt := range tests {
		server := record(t, say(tt.status, ``))
		alive, known := register(t, withAPI(server.URL+"/v2")).Alive(t.Context(), refresh)
		if alive != tt.alive || known != tt.known {
			t.Errorf("%d: alive %v, known %v", tt.status, alive, known)
		}
		got := server.requests()
		if len(got) != 1 || got[0].method != "GET" || got[0].uri != "/v2/me?fields=id" || got[0].header.Get("Authorization") != "Bearer old-access" {
			t.Errorf("%+v", got)
		}
	}
}

// TestAliveUnknown is all that does not tell.
func TestAliveUnknown(t *testing.T) {
	server := record(t, drop)
	if alive, known := register(t, withAPI(server.URL)).Alive(t.Context(), refresh); alive || known {
		t.Error("dropped")
	}
	before := len(server.requests())
	if alive, known := register(t, withAPI(server.URL)).Alive(t.Context(), provider.Call{RefreshToken: secret.NewText("r")}); alive || known {
		t.Error("no access token")
	}
	d := withAPI(server.URL)
	d.API.Check = ""
	if alive, known := register(t, d).Alive(t.Context(), refresh); alive || known {
		t.Error("no check")
	}
	d = withAPI("{params.base}")
	d.Params = map[string]provider.Param{"base": {Pattern: "https?://[a-z.]+", From: "answer:base"}}
	if alive, known := register(t, d).Alive(t.Context(), refresh); alive || known {
		t.Error("base not known")
	}
	if len(server.requests()) != before {
		t.Error("it was asked")
	}
	w := listen(t, hang)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if alive, known := register(t, withAPI(w.url)).Alive(ctx, refresh); alive || known {
		t.Error("no answer")
	}
}
