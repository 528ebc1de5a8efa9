package issuer_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

func TestClientCheck(t *testing.T) {
	verifier := []secret.Verifier{secret.NewVerifier(secret.NewSecret())}
	for name, c := range map[string]struct {
		client issuer.Client
		says   string // of the error; "" for none
	}{
		"smallest":                 {issuer.Client{ID: "a"}, ""},
		"full":                     {issuer.Client{ID: "a b/c:d", Name: "Ä", Secrets: verifier, RedirectURIs: []string{"https://a.example/cb?x=1", "http://127.0.0.1/", "http://localhost:8080/cb", "com.example.app:/cb"}, GrantTypes: []string{oauth.GrantAuthorizationCode, oauth.GrantClientCredentials, oauth.GrantPassword, oauth.GrantRefreshToken}, Scopes: oauth.Scope{"read", "https://a/b"}, Introspect: true, Trusted: true}, ""},
		"public with a password":   {issuer.Client{ID: "a", GrantTypes: []string{oauth.GrantPassword}}, ""},
		"longest id":               {issuer.Client{ID: strings.Repeat("x", 255)}, ""},
		"no id":                    {issuer.Client{}, "the id must be"},
		"endless id":               {issuer.Client{ID: strings.Repeat("x", 256)}, "the id must be"},
		"id with a control":        {issuer.Client{ID: "a\n"}, "the id must be"},
		"id with an umlaut":        {issuer.Client{ID: "ä"}, "the id must be"},
		"unknown grant type":       {issuer.Client{ID: "a", GrantTypes: []string{"device_code"}}, `"device_code" is not one of`},
		"public machine":           {issuer.Client{ID: "a", GrantTypes: []string{oauth.GrantClientCredentials}}, "client_credentials needs a secret"},
		"public resource server":   {issuer.Client{ID: "a", Introspect: true}, "introspect needs a secret"},
		"public and trusted":       {issuer.Client{ID: "a", Trusted: true}, "cannot be trusted"},
		"http elsewhere":           {issuer.Client{ID: "a", RedirectURIs: []string{"http://a.example/"}}, "loopback"},
		"relative redirect":        {issuer.Client{ID: "a", RedirectURIs: []string{"/cb"}}, "not an absolute URI"},
		"redirect with a fragment": {issuer.Client{ID: "a", RedirectURIs: []string{"https://a.example/#x"}}, "fragment"},
		"redirect with a user":     {issuer.Client{ID: "a", RedirectURIs: []string{"https://u@a.example/"}}, "user"},
		"javascript":               {issuer.Client{ID: "a", RedirectURIs: []string{"javascript:alert(1)"}}, "scheme"},
		"secret in clear":          {issuer.Client{ID: "a", Secrets: []secret.Verifier{"TestSecret"}}, "verifier"},
		"scope syntax":             {issuer.Client{ID: "a", Scopes: oauth.Scope{`re"ad`}}, "scope"},
		"scopes in one":            {issuer.Client{ID: "a", Scopes: oauth.Scope{"read write"}}, "scope"},
		"empty scope":              {issuer.Client{ID: "a", Scopes: oauth.Scope{""}}, "scope"},
		"policy":                   {issuer.Client{ID: "a", Policy: issuer.Policy{AccessTokenLifetime: issuer.None}}, "access_token_lifetime"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.client.Check()
			if c.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, issuer.ErrBadClient) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), fmt.Sprintf("%q", c.client.ID)) {
				t.Errorf("error %v, want it to say %q", err, c.says)
			}
			if strings.Contains(err.Error(), "TestSecret") {
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
}

func TestUserCheck(t *testing.T) {
	password := secret.NewVerifier(secret.NewSecret())
	for name, c := range map[string]struct {
		user issuer.User
		good bool
	}{
		"plain":          {issuer.User{Username: "bshaffer", Password: password}, true},
		"any language":   {issuer.User{Username: "Zoë 王", Password: password}, true},
		"longest":        {issuer.User{Username: strings.Repeat("x", 255), Password: password}, true},
		"no name":        {issuer.User{Password: password}, false},
		"endless":        {issuer.User{Username: strings.Repeat("x", 256), Password: password}, false},
		"control":        {issuer.User{Username: "a\x1b[2J", Password: password}, false},
		"not UTF-8":      {issuer.User{Username: "\xff", Password: password}, false},
		"no password":    {issuer.User{Username: "a"}, false},
		"clear password": {issuer.User{Username: "a", Password: "brent123"}, false},
	} {
		err := c.user.Check()
		if (err == nil) != c.good || err != nil && !errors.Is(err, issuer.ErrBadUser) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "brent123") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

// TestConfigIsChecked: what is missing is said before anything is served.
func TestConfigIsChecked(t *testing.T) {
	e := newSite(t, setup{})
	good := issuer.Config{Issuer: "https://issuer.example/tenant", Store: e.db, Keys: e.ring}
	if s, err := issuer.New(good); err != nil || s.Issuer() != good.Issuer {
		t.Errorf("%v", err)
	}
	for says, change := range map[string]func(*issuer.Config){
		"http or https URL":   func(c *issuer.Config) { c.Issuer = "issuer.example" },
		"no query":            func(c *issuer.Config) { c.Issuer = "https://issuer.example?x=1" },
		"fragment":            func(c *issuer.Config) { c.Issuer = "https://issuer.example#x" },
		"user":                func(c *issuer.Config) { c.Issuer = "https://u@issuer.example" },
		"trailing slash":      func(c *issuer.Config) { c.Issuer = "https://issuer.example/" },
		"Store is required":   func(c *issuer.Config) { c.Store = nil },
		"Keys is required":    func(c *issuer.Config) { c.Keys = nil },
		"access_token_format": func(c *issuer.Config) { c.Policy.Format = "xml" },
	} {
		bad := good
		change(&bad)
		if _, err := issuer.New(bad); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want it to say %q", err, says)
		}
	}
	if _, err := issuer.New(issuer.Config{Issuer: "https://issuer.example\x00", Store: e.db, Keys: e.ring}); err == nil {
		t.Error("an issuer that is no URL")
	}
	// The same registry twice is the embedder's mistake, and is said.
	twice := good
	twice.Metrics = e.metrics
	if _, err := issuer.New(twice); err == nil {
		t.Error("metrics were registered twice")
	}
}
