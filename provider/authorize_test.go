package provider_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

// TestAuthorizeURL holds how owners are sent to providers.
func TestAuthorizeURL(t *testing.T) {
	const callback = "redirect_uri=https://keeper.example/connect/callback"
	ask := provider.Authorization{State: "st", Challenge: "ch", Owner: "alice", Scope: []string{"a", "b"}}
	tests := []struct {
		name   string
		change func(*provider.Definition, *provider.Config)
		ask    provider.Authorization
		where  string // https://acme.example/authorize where empty
		query  string
	}{
		{name: "RFC 6749 section 4.1.1 and RFC 7636", ask: ask, query: "client_id=app&code_challenge=ch&code_challenge_method=S256&" + callback + "&response_type=code&scope=a b&state=st"},
		{name: "without PKCE", ask: ask, change: func(d *provider.Definition, _ *provider.Config) { d.Authorize.PKCE = "none" },
			query: "client_id=app&" + callback + "&response_type=code&scope=a b&state=st"},
		{name: "without a challenge or scope", ask: provider.Authorization{State: "st"}, query: "client_id=app&" + callback + "&response_type=code&state=st"},
		{name: "scopes of the definition", ask: provider.Authorization{State: "st"}, change: func(d *provider.Definition, _ *provider.Config) {
			d.Authorize.Scopes, d.Authorize.ScopeSeparator = []string{"x", "y"}, ","
		}, query: "client_id=app&" + callback + "&response_type=code&scope=x,y&state=st"},
		{name: "scopes of the registration", ask: provider.Authorization{State: "st"}, change: func(d *provider.Definition, cfg *provider.Config) {
			d.Authorize.Scopes, cfg.Scopes = []string{"x"}, []string{"z"}
		}, query: "client_id=app&" + callback + "&response_type=code&scope=z&state=st"},
		{name: "no scope although there are some", ask: provider.Authorization{State: "st", Scope: oauth.Scope{}}, change: func(_ *provider.Definition, cfg *provider.Config) { cfg.Scopes = []string{"z"} },
			query: "client_id=app&" + callback + "&response_type=code&state=st"},
		{name: "added, renamed, removed and blank", ask: ask, change: func(d *provider.Definition, _ *provider.Config) {
			d.Authorize.Params = map[string]*string{"access_type": new("offline"), "client_id": nil, "client_key": new("{client_id}"), "response_type": new(""),
				"scope": nil, "user_scope": new("{scope}"), "owner": new("{owner}"), "state": new("x-{state}"), "nothing": new("{params.sub}")}
			d.Params = map[string]provider.Param{"sub": {Pattern: "x?"}}
		}, query: "access_type=offline&client_key=app&code_challenge=ch&code_challenge_method=S256&owner=alice&" + callback + "&response_type=&state=x-st&user_scope=a b"},
		{name: "params and a query in the URL", ask: provider.Authorization{State: "st", Params: map[string]string{"shop": "shop-1"}}, change: func(d *provider.Definition, _ *provider.Config) {
			d.AuthorizeURL, d.Params = "https://{params.shop}.myshop.example/auth?v=2", map[string]provider.Param{"shop": {}}
		}, where: "https://shop-1.myshop.example/auth", query: "client_id=app&" + callback + "&response_type=code&state=st&v=2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := register(t, plain("https://acme.example"), func(cfg *provider.Config) {
				if tt.change != nil {
					tt.change(&cfg.Definition, cfg)
				}
			})
			got, err := p.AuthorizeURL(t.Context(), tt.ask)
			if err != nil {
				t.Fatal(err)
			}
			where, query, _ := strings.Cut(got, "?")
			values, err := url.ParseQuery(query)
			if tt.where == "" {
				tt.where = "https://acme.example/authorize"
			}
			if where != tt.where || err != nil || readable(values) != tt.query {
				t.Errorf("%s?%s\nwant %s?%s", where, readable(values), tt.where, tt.query)
			}
			if strings.Contains(got, "s3cr") {
				t.Error("the client secret is in the URL")
			}
		})
	}
}

func TestAuthorizeURLRefuses(t *testing.T) {
	shop := map[string]provider.Param{"shop": {Pattern: ".*"}}
	for name, change := range map[string]func(*provider.Config){
		"no authorize_url": func(cfg *provider.Config) { cfg.Definition.AuthorizeURL = "" },
		"no callback":      func(cfg *provider.Config) { cfg.RedirectURI = "" },
		"param missing": func(cfg *provider.Config) {
			cfg.Definition.AuthorizeURL, cfg.Definition.Params = "https://{params.shop}.myshop.example/a", map[string]provider.Param{"shop": {}}
		},
		"param that leaves the host": func(cfg *provider.Config) {
			cfg.Definition.AuthorizeURL, cfg.Definition.Params, cfg.Params = "https://{params.shop}.myshop.example/a", shop, map[string]string{"shop": "evil.example?"}
		},
		"http": func(cfg *provider.Config) {
			cfg.AllowPrivateNetworks = false
			cfg.Definition.AuthorizeURL, cfg.Definition.Params = "{params.shop}/a", map[string]provider.Param{"shop": {Pattern: "https?://acme.example", Default: "http://acme.example"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := register(t, plain("https://acme.example"), change).AuthorizeURL(t.Context(), provider.Authorization{State: "st"})
			if e := failure(t, err); got != "" || e.Outcome != provider.NotSent || e.Class != provider.BadDefinition {
				t.Errorf("%s, %v", got, e)
			}
		})
	}
}

// TestRedirected takes what the redirect tells.
func TestRedirected(t *testing.T) {
	d := plain("https://acme.example")
	d.TokenURL = "{params.accounts}/token"
	d.Params = map[string]provider.Param{
		"accounts": {From: "redirect:accounts-server", Pattern: `https://accounts\.zoho\.(com|eu)`, Default: "https://accounts.zoho.com"},
	}
	d.Authorize.Keep = map[string]string{"realm": "realmId", "big": "big"}
	p := register(t, d)
	tests := []struct {
		name   string
		query  string
		params map[string]string
		kept   string
		err    string
	}{
		{name: "nothing", query: "code=c&state=s", kept: "null"},
		{name: "host and metadata", query: "code=c&state=s&accounts-server=https%3A%2F%2Faccounts.zoho.eu&realmId=123&realmId=4&other=5",
			params: map[string]string{"accounts": "https://accounts.zoho.eu"}, kept: `{"realm":"123"}`},
		{name: "a host of somebody else", query: "code=c&accounts-server=https://accounts.zoho.eu.evil.example", err: "accounts-server"},
		{name: "an empty host", query: "code=c&accounts-server=", kept: "null"},
		{name: "too much", query: "big=" + strings.Repeat("x", 70<<10) + "&realmId=1", kept: `{"realm":"1"}`},
		{name: "an issuer, which this provider does not publish", query: "iss=https://other.example", kept: "null"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			query, err := url.ParseQuery(tt.query)
			if err != nil {
				t.Fatal(err)
			}
			params, kept, err := p.Redirected(query)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || params != nil || kept != nil {
					t.Errorf("%v, %v, %v", params, kept, err)
				}
				return
			}
			encoded, _ := json.Marshal(kept)
			if err != nil || !maps.Equal(params, tt.params) || string(encoded) != tt.kept {
				t.Errorf("%v, %s, %v", params, encoded, err)
			}
		})
	}
}

// TestRedirectedIssuer compares iss (RFC 9207).
func TestRedirectedIssuer(t *testing.T) {
	d := plain("https://acme.example")
	d.Issuer = "https://acme.example"
	p := register(t, d)
	for query, ok := range map[string]bool{
		"code=c": true, "iss=https://acme.example": true, "iss=https://acme.example/": false, "iss=https://evil.example": false, "iss=": false,
		"iss=https://acme.example&iss=https://evil.example": false,
	} {
		values, _ := url.ParseQuery(query)
		if _, _, err := p.Redirected(values); (err == nil) != ok {
			t.Errorf("%s: %v", query, err)
		}
	}
}

// TestCheckParams fills in and refuses params.
func TestCheckParams(t *testing.T) {
	d := plain("https://{params.region}.acme.example")
	d.TokenURL = "https://{params.sub}.acme.example/{params.path}/{params.set}/{params.maybe}"
	d.API.BaseURL = "{params.told}"
	d.Params = map[string]provider.Param{
		"region": {Default: "eu"}, "sub": {Title: "Your subdomain"}, "path": {Pattern: "[a-z/]+", Default: "x/y"}, "set": {},
		"maybe": {Pattern: "(v[0-9])?"}, "told": {From: "answer:url", Pattern: "https://[a-z]+[.]acme[.]example"},
	}
	p := register(t, d, func(cfg *provider.Config) { cfg.Params = map[string]string{"set": "fixed"} })
	filled := map[string]string{"region": "eu", "sub": "one", "path": "x/y", "set": "fixed", "maybe": ""}
	with := func(name, value string) map[string]string {
		m := maps.Clone(filled)
		m[name] = value
		return m
	}
	tests := []struct {
		given, want map[string]string
		err         string
	}{
		{given: map[string]string{"sub": "one"}, want: filled},
		{given: map[string]string{"sub": "one", "set": "fixed", "region": "", "maybe": ""}, want: filled},
		{given: map[string]string{"sub": "one", "region": "us"}, want: with("region", "us")},
		{given: map[string]string{"sub": "one", "maybe": "v2"}, want: with("maybe", "v2")},
		{given: map[string]string{"sub": "one", "told": "https://na.acme.example"}, want: with("told", "https://na.acme.example")},
		{given: filled, want: filled},
		{given: nil, err: "needs the param sub (Your subdomain)"},
		{given: map[string]string{"sub": ""}, err: "needs the param sub"},
		{given: map[string]string{"sub": "one", "other": "x"}, err: `no param "other"`},
		{given: map[string]string{"sub": "evil.example/"}, err: "must match"},
		{given: map[string]string{"sub": "one\n"}, err: "must match"},
		{given: map[string]string{"sub": "one", "set": "other"}, err: "set by its registration"},
		{given: map[string]string{"sub": "one", "told": "http://na.acme.example"}, err: "must match"},
	}
	for _, tt := range tests {
		got, err := p.CheckParams(tt.given)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) || got != nil {
				t.Errorf("%v: %v, %v", tt.given, got, err)
			}
		} else if err != nil || !maps.Equal(got, tt.want) {
			t.Errorf("%v: %v, %v", tt.given, got, err)
		}
	}
	if _, err := register(t, plain("https://acme.example")).CheckParams(map[string]string{"x": "y"}); err == nil || !strings.Contains(err.Error(), "has no params") {
		t.Error(err)
	}
	if host := p.TokenHost(map[string]string{"sub": "one"}); host != "one.acme.example" {
		t.Error(host)
	}
}

// TestNew holds what a registration needs, and its defaults.
func TestNew(t *testing.T) {
	good := func() provider.Config {
		return provider.Config{Definition: plain("https://acme.example"), ClientID: "app"}
	}
	for want, change := range map[string]func(*provider.Config){
		"client_id": func(cfg *provider.Config) { cfg.ClientID = "" },
		"token_url": func(cfg *provider.Config) { cfg.Definition.TokenURL = "" },
		"http://":   func(cfg *provider.Config) { cfg.Definition.TokenURL = "http://acme.example/token" },
		"HTTP://": func(cfg *provider.Config) {
			cfg.Definition.Remint.Steps = []provider.Step{{Request: provider.Request{URL: "HTTP://acme.example/token"}}}
		},
		"no param x":            func(cfg *provider.Config) { cfg.Params = map[string]string{"x": "y"} },
		"is none of its values": func(cfg *provider.Config) { cfg.Definition.Token.Body = "xml" },
		"secret is empty":       func(cfg *provider.Config) { cfg.ClientSecrets = []secret.Text{secret.NewText("")} },
		"provider second: ":     func(cfg *provider.Config) { cfg.Name, cfg.ClientID = "second", "" },
	} {
		cfg := good()
		change(&cfg)
		if p, err := provider.New(cfg); err == nil || p != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	cfg := good()
	cfg.Definition.Params = map[string]provider.Param{"sub": {}}
	cfg.Definition.TokenURL = "https://{params.sub}.acme.example/token"
	before := fmt.Sprintf("%+v", cfg.Definition)
	p, err := provider.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d := p.Definition()
	if d.Grant != "authorization_code" || d.Token.Method != "POST" || d.Token.Body != "form" || d.Token.ClientAuth != "body" || d.RefreshToken.Rotation != "single_use" ||
		d.Limits.Concurrency != 8 || d.Limits.Rate.Count != 20 || d.Params["sub"].Pattern == "" || d.Title != "acme" || d.API.Authorization != "Bearer {access_token}" {
		t.Errorf("%+v", d)
	}
	if after := fmt.Sprintf("%+v", cfg.Definition); after != before {
		t.Errorf("the definition given is now %s", after)
	}
	if p.Name() != "acme" || p.Secrets() != 1 || p.Scopes() != nil || p.TokenHost(nil) != "acme" {
		t.Errorf("%s, %d, %v, %s", p.Name(), p.Secrets(), p.Scopes(), p.TokenHost(nil))
	}
	cfg.Name, cfg.ClientSecrets = "sandbox", []secret.Text{secret.NewText("1"), secret.NewText("2")}
	if p, err = provider.New(cfg); err != nil || p.Name() != "sandbox" || p.Secrets() != 2 || !reflect.DeepEqual(p.Definition(), d) {
		t.Errorf("%v, %v", p, err)
	}
}

// TestTokenHost is the unit of outages.
func TestTokenHost(t *testing.T) {
	d := plain("https://acme.example:8443")
	if host := register(t, d).TokenHost(nil); host != "acme.example:8443" {
		t.Error(host)
	}
	d.Refresh.URL = "https://refresh.example/x"
	if host := register(t, d).TokenHost(nil); host != "refresh.example" {
		t.Error(host)
	}
	d.Grant = "client_credentials"
	if host := register(t, d).TokenHost(nil); host != "acme.example:8443" {
		t.Error(host)
	}
	d = provider.Definition{Name: "acme", Issuer: "https://login.example/realm"}
	if host := register(t, d).TokenHost(nil); host != "login.example" {
		t.Error(host)
	}
}
