package providertest_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
	"github.com/evergrant/evergrant/secret"
)

// provider is the simulator's provider as the keeper would call it.
func (b *bench) provider(secrets ...string) *provider.Provider {
	b.Helper()
	cfg := provider.Config{Definition: b.sim.Definition(b.url), ClientID: "sim-client", RedirectURI: callback, Scopes: oauth.Scope{"read", "write"},
		AllowPrivateNetworks: true, Now: b.now}
	for _, text := range append(secrets, "sim-secret") {
		cfg.ClientSecrets = append(cfg.ClientSecrets, secret.NewText(text))
	}
	p, err := provider.New(cfg)
	if err != nil {
		b.Fatalf("the definition is refused: %v", err)
	}
	return p
}

func (b *bench) send(p *provider.Provider, call provider.Call) (provider.Tokens, error) {
	b.Helper()
	answer, err := p.Send(b.Context(), call)
	if err != nil {
		return provider.Tokens{}, err
	}
	return p.Read(answer)
}

// begin makes a connection as its dialect has it: through a browser, or by the
// client alone.
func (b *bench) begin(p *provider.Provider) provider.Tokens {
	b.Helper()
	call := provider.Call{Kind: provider.ClientCredentials}
	if p.Definition().Grant != oauth.GrantClientCredentials {
		verifier := strings.Repeat("v", 43)
		target, err := p.AuthorizeURL(b.Context(), provider.Authorization{State: "s1", Challenge: oauth.Challenge(verifier)})
		if err != nil {
			b.Fatal(err)
		}
		page, err := url.Parse(target)
		if err != nil {
			b.Fatal(err)
		}
		g := b.do(b.request("GET", page.RequestURI(), "", ""))
		back, err := url.Parse(g.header.Get("Location"))
		if err != nil || !back.Query().Has("code") {
			b.Fatalf("%s gave %d %s", target, g.status, g.body)
		}
		call = provider.Call{Kind: provider.Exchange, Code: secret.NewText(back.Query().Get("code")), CodeVerifier: secret.NewText(verifier)}
	}
	tokens, err := b.send(p, call)
	if err != nil {
		b.Fatalf("no tokens: %v", err)
	}
	return tokens
}

// TestDefinitions speaks each dialect by the definition that its simulator
// gives: consent, code, refresh, refusal, and what is told of lifetimes.
func TestDefinitions(t *testing.T) {
	for _, d := range providertest.Dialects() {
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			b := serve(t, d)
			p := b.provider()
			one := b.begin(p)
			if ends := began.Add(d.AccessLife); !one.ExpiresAt.Equal(ends) {
				t.Errorf("the access token expires at %s, want %s", one.ExpiresAt, ends)
			}
			if (d.Rotation == provider.RotationNone) != one.RefreshToken.Empty() {
				t.Errorf("a refresh token came: %t", !one.RefreshToken.Empty())
			}
			alive := func(tokens provider.Tokens) bool {
				alive, known := p.Alive(t.Context(), provider.Call{AccessToken: tokens.AccessToken})
				if !known {
					t.Error("nobody knows whether the access token is alive")
				}
				return alive
			}
			if !alive(one) {
				t.Error("the first access token is dead")
			}
			b.pass(time.Minute)
			refresh := provider.Call{Kind: provider.Refresh, AccessToken: one.AccessToken, RefreshToken: one.RefreshToken, Owner: "owner"}
			two, err := b.send(p, refresh)
			if err != nil || !alive(two) {
				t.Fatalf("the refresh gave %v", err)
			}
			if alive(one) != (d.LiveAccessTokens != 1) {
				t.Error("the first access token is not as one_at_a_time says")
			}
			b.sim.Revoke(b.sim.Grants()[0].ID)
			if alive(two) {
				t.Error("the access token outlives the grant")
			}
			refresh.AccessToken = two.AccessToken
			if !two.RefreshToken.Empty() {
				refresh.RefreshToken = two.RefreshToken
			}
			_, err = b.send(p, refresh)
			if failed, ok := errors.AsType[*provider.Error](err); !ok || failed.Class != provider.Revoked || failed.Outcome != provider.Refused {
				t.Errorf("after the end of the grant: %v", err)
			}
		})
	}
}

// TestDefinitionsKnowABadClient holds that each dialect's refusal of a client is
// told from that of a token.
func TestDefinitionsKnowABadClient(t *testing.T) {
	for _, d := range providertest.Dialects() {
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			b := serve(t, d)
			grant, tokens := b.sim.Connect("alice")
			_, err := b.send(b.provider("old"), provider.Call{Kind: provider.Refresh, AccessToken: tokens.AccessToken, RefreshToken: secret.NewText("sim_rt_x")})
			if failed, ok := errors.AsType[*provider.Error](err); !ok || failed.Class != provider.BadClient {
				t.Errorf("with the wrong secret: %v", err)
			}
			if g := b.sim.Grant(grant); g.State != providertest.Live || g.Generation != 1 {
				t.Errorf("the grant is %+v", g)
			}
		})
	}
}

// TestDefinitionRemints goes through the steps of a re-mint.
func TestDefinitionRemints(t *testing.T) {
	for _, d := range []providertest.Dialect{providertest.Tink(), providertest.Flexiti()} {
		b := serve(t, d)
		grant, _ := b.sim.Connect("alice", "accounts:read")
		tokens, err := b.send(b.provider(), provider.Call{Kind: provider.Reminting, Owner: "alice", Scope: oauth.Scope{"accounts:read", "more:read"}})
		if err != nil {
			t.Fatalf("%s: %v", d.Name, err)
		}
		if is := b.sim.GrantOf(tokens.AccessToken.Reveal()); is != grant || b.sim.Grant(grant).Generation != 2 {
			t.Errorf("%s: the tokens are of %q", d.Name, is)
		}
	}
}

func TestDefinitionTellsWhatTheDialectDoes(t *testing.T) {
	d := providertest.Withings()
	d.GrantLife, d.NoEarlyRefresh, d.LiveAccessTokens = 5*365*24*time.Hour, time.Minute, 1
	sim := providertest.New(d, providertest.Options{})
	def := sim.Definition("http://sim.example")
	want := provider.RefreshToken{Rotation: provider.RotationRotating, ReplayWindow: oauth.Lifetime(8 * time.Hour),
		IdleLifetime: oauth.Lifetime(365 * 24 * time.Hour), Lifetime: oauth.Lifetime(5 * 365 * 24 * time.Hour)}
	if def.RefreshToken != want {
		t.Errorf("refresh tokens: %+v", def.RefreshToken)
	}
	if at := def.AccessToken; at.Lifetime != oauth.Lifetime(3*time.Hour) || at.NoEarlyRefresh != oauth.Lifetime(time.Minute) || !at.OneAtATime {
		t.Errorf("access tokens: %+v", at)
	}
	if def.AuthorizeURL != "http://sim.example/authorize" || def.TokenURL != "http://sim.example/token" || def.RevokeURL != "" || def.API.BaseURL != "http://sim.example/api" {
		t.Errorf("URLs: %+v", def)
	}
	sim.Change(func(d *providertest.Dialect) { d.Rotation, d.AccessLife = provider.RotationFixed, 0 })
	if def = sim.Definition("http://sim.example"); def.RefreshToken.Rotation != provider.RotationFixed || def.AccessToken.Lifetime != oauth.None {
		t.Errorf("after a change: %+v", def)
	}

	flexiti := providertest.New(providertest.Flexiti(), providertest.Options{})
	if def = flexiti.Definition("http://sim.example"); def.AuthorizeURL != "" || def.Grant != oauth.GrantClientCredentials || !def.RefreshToken.DiesWithAccessToken {
		t.Errorf("Flexiti: %+v", def)
	}
	tink := providertest.New(providertest.Tink(), providertest.Options{})
	for range 2 { // the first must not change the second
		if url := tink.Definition("http://sim.example").Remint.Steps[1].URL; url != "http://sim.example"+providertest.MintPath {
			t.Errorf("the step's URL is %s", url)
		}
	}
}

// TestDefinitionOutcomes joins the faults with what the keeper's side makes of
// them: whether the provider may have acted.
func TestDefinitionOutcomes(t *testing.T) {
	for name, test := range map[string]struct {
		fault   providertest.Fault
		outcome provider.Outcome
	}{
		"drop before": {providertest.DropBefore(), provider.Unknown},
		"drop after":  {providertest.DropAfter(), provider.Unknown},
		"502 after":   {providertest.BadGateway(), provider.Unknown},
		"429":         {providertest.Unavailable(http.StatusTooManyRequests, "7"), provider.Refused},
		"page":        {providertest.Page(http.StatusOK), provider.Unknown},
		"empty":       {providertest.Empty(), provider.Unknown},
	} {
		b := serve(t, providertest.Plain())
		_, tokens := b.sim.Connect("alice")
		b.sim.Inject(providertest.Rule{Fault: test.fault})
		_, err := b.send(b.provider(), provider.Call{Kind: provider.Refresh, RefreshToken: tokens.RefreshToken})
		if failed, ok := errors.AsType[*provider.Error](err); !ok || failed.Outcome != test.outcome {
			t.Errorf("%s: %v", name, err)
		}
	}
}
