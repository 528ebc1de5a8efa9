package issuer_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// reserving has a scope that only clients get which list it.
func reserving(c *issuer.Config) { c.Reserved = map[string]string{"vault:open": "Open the vault"} }

func TestReservedScopes(t *testing.T) {
	e := newSite(t, setup{config: reserving})
	machine := []string{oauth.GrantClientCredentials}
	named := e.register(party{"named", secret.NewSecret().Reveal()}, issuer.Client{GrantTypes: machine, Scopes: oauth.Scope{"read", "vault:open"}})
	unnamed := e.register(party{"unnamed", secret.NewSecret().Reveal()}, issuer.Client{GrantTypes: machine})
	for name, c := range map[string]struct {
		as    party
		asked []string
		scope string // "" where it is refused
	}{
		"listed":                    {named, []string{"scope", "vault:open"}, "vault:open"},
		"listed, and not asked for": {named, nil, "read vault:open"},
		"not listed":                {unnamed, []string{"scope", "vault:open"}, ""},
		"not listed, with others":   {unnamed, []string{"scope", "read vault:open"}, ""},
		"not listed, nor asked for": {unnamed, nil, "read write"},
	} {
		t.Run(name, func(t *testing.T) {
			r := e.post(issuer.TokenPath, c.as, append([]string{"grant_type", "client_credentials"}, c.asked...)...)
			if c.scope == "" {
				r.wantError(t, http.StatusBadRequest, oauth.InvalidScope)
			} else if got := r.tokens(t).Scope; got != c.scope {
				t.Errorf("scope %q, want %q", got, c.scope)
			}
		})
	}
	var metadata oauth.Metadata
	e.document(issuer.MetadataPath, &metadata)
	if slices.Contains(metadata.ScopesSupported, "vault:open") {
		t.Error("metadata offers a scope that those who read it do not get")
	}
}

// The resource owner sees in words what a reserved scope allows.
func TestReservedScopeIsDescribed(t *testing.T) {
	e := newSite(t, setup{config: reserving})
	web := e.register(party{"web", secret.NewSecret().Reveal()}, issuer.Client{RedirectURIs: []string{callback}, Scopes: oauth.Scope{"vault:open"}})
	words := ""
	e.owner = func(w http.ResponseWriter, r *http.Request, ask *issuer.Authorization) (issuer.Answer, bool) {
		words = ask.Descriptions["vault:open"]
		return issuer.Answer{Denied: true}, true
	}
	e.authorize(e.authorizationRequest(web))
	if words != "Open the vault" {
		t.Errorf("described as %q", words)
	}
}

func TestReservedScopeNeedsSecret(t *testing.T) {
	e := newSite(t, setup{config: reserving})
	_, err := e.admin.SaveClient(e.ctx(), operator, issuer.Client{ID: "native", RedirectURIs: []string{loopback}, Scopes: oauth.Scope{"vault:open"}})
	if !errors.Is(err, issuer.ErrBadClient) || !strings.Contains(err.Error(), "vault:open needs a secret") {
		t.Errorf("error %v", err)
	}
}

func TestScopeThatIsReservedAndNot(t *testing.T) {
	e := newSite(t, setup{})
	_, err := issuer.New(issuer.Config{
		Issuer: e.url, Store: e.db, Keys: e.ring,
		Scopes: map[string]string{"read": "Read"}, Reserved: map[string]string{"read": "Read more"},
	})
	if err == nil || !strings.Contains(err.Error(), "the scope read is reserved") {
		t.Errorf("error %v", err)
	}
}

func TestTenantOfClient(t *testing.T) {
	for tenant, good := range map[string]bool{
		"": true, "acme": true, "Acme-1.eu_x~": true, strings.Repeat("a", 128): true,
		strings.Repeat("a", 129): false, "a b": false, "a/b": false, "ä": false, "a\n": false,
	} {
		err := issuer.Client{ID: "a", Tenant: tenant}.Check()
		if (err == nil) != good || err != nil && !strings.Contains(err.Error(), "the tenant must be") {
			t.Errorf("%q: %v", tenant, err)
		}
	}
}

// TestInspect: in the process, as at the introspection endpoint, only a live
// access token counts, and it tells its client.
func TestInspect(t *testing.T) {
	e := newSite(t, setup{})
	e.register(party{"tenant", secret.NewSecret().Reveal()}, issuer.Client{})
	tokens := e.login(app, "scope", "read")
	seen, client, err := e.server.Inspect(e.ctx(), tokens.AccessToken)
	if err != nil || !seen.Active || seen.Scope != "read" || seen.ClientID != app.id || client.ID != app.id {
		t.Errorf("%+v of %q, %v", seen, client.ID, err)
	}
	inactive := func(name, token string) {
		t.Helper()
		seen, client, err := e.server.Inspect(e.ctx(), token)
		if err != nil || seen.Active || seen.ClientID != "" || client.ID != "" {
			t.Errorf("%s: %+v of %q, %v", name, seen, client.ID, err)
		}
	}
	inactive("a refresh token", tokens.RefreshToken)
	inactive("a forged token", tokens.AccessToken+"A")
	inactive("nothing", "")
	e.post(issuer.RevokePath, app, "token", tokens.AccessToken)
	inactive("a revoked token", tokens.AccessToken)

	tokens = e.login(app)
	e.must(e.admin.DeleteClient(e.ctx(), operator, app.id))
	inactive("a token of a deleted client", tokens.AccessToken)
}

// Where the store does not answer, nothing is said of the token.
func TestInspectThatIsGivenUp(t *testing.T) {
	e := newSite(t, setup{})
	token := e.login(app).AccessToken
	ctx, giveUp := context.WithCancel(e.ctx())
	giveUp()
	if seen, client, err := e.server.Inspect(ctx, token); err == nil || seen.Active || client.ID != "" {
		t.Errorf("%+v of %q, %v", seen, client.ID, err)
	}
}
