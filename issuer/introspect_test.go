package issuer_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/testdb"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// inactive is the whole answer about a token that is no good (RFC 7662 section
// 2.2), whatever the reason.
const inactive = `{"active":false}`

func TestIntrospection(t *testing.T) {
	e := newSite(t, setup{})
	for name, policy := range formats {
		t.Run(name, func(t *testing.T) {
			as := e.variant(name, policy)
			tokens := e.login(as, "scope", "read")
			machine := e.post(issuer.TokenPath, as, "grant_type", "client_credentials", "scope", "write").tokens(t)
			now := e.clock.now().Unix()
			for _, c := range []struct {
				token string
				want  oauth.Introspection
			}{
				{tokens.AccessToken, oauth.Introspection{Scope: "read", ClientID: name, Username: owner, TokenType: "Bearer", ExpiresAt: now + 3600, IssuedAt: now, Subject: owner, Audience: []string{e.url}, Issuer: e.url}},
				{machine.AccessToken, oauth.Introspection{Scope: "write", ClientID: name, TokenType: "Bearer", ExpiresAt: now + 3600, IssuedAt: now, Subject: name, Audience: []string{e.url}, Issuer: e.url}},
				{tokens.RefreshToken, oauth.Introspection{Scope: "read", ClientID: name, Username: owner, TokenType: "refresh_token", ExpiresAt: now + 14*86400, IssuedAt: now, Subject: owner, Issuer: e.url}},
			} {
				got := e.wantAlive("token", c.token)
				if isAccess := c.want.TokenType == "Bearer"; (got.ID != "") != isAccess {
					t.Errorf("jti %q", got.ID)
				}
				got.Active, got.ID = false, ""
				if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", c.want) {
					t.Errorf("got  %+v\nwant %+v", got, c.want)
				}
			}
		})
	}
}

// TestWhoMayIntrospect: a client sees its own tokens, a resource server all.
func TestWhoMayIntrospect(t *testing.T) {
	e := newSite(t, setup{})
	tokens := e.login(app)
	for _, token := range []string{tokens.AccessToken, tokens.RefreshToken} {
		for as, sees := range map[party]bool{app: true, resources: true, other: false} {
			r := e.post(issuer.IntrospectPath, as, "token", token)
			var seen oauth.Introspection
			r.into(t, &seen)
			if seen.Active != sees || !sees && r.body != inactive {
				t.Errorf("%s sees %s", as.id, r.body)
			}
		}
		for name, r := range map[string]reply{
			"public client": e.post(issuer.IntrospectPath, public, "token", token),
			"wrong secret":  e.post(issuer.IntrospectPath, party{resources.id, other.secret}, "token", token),
			"no secret":     e.post(issuer.IntrospectPath, party{resources.id, ""}, "token", token),
			"nobody":        e.do(e.request(issuer.IntrospectPath, formOf("token", token).Encode())),
			"by Bearer": func() reply {
				req := e.request(issuer.IntrospectPath, formOf("token", token).Encode())
				req.Header.Set("Authorization", "Bearer "+tokens.AccessToken)
				return e.do(req)
			}(),
		} {
			t.Run(name, func(t *testing.T) { r.wantError(t, 401, oauth.InvalidClient) })
		}
	}
	e.post(issuer.IntrospectPath, resources).wantError(t, 400, oauth.InvalidRequest)
}

// TestLookingHasNoEffect: a spent token that is only looked at convicts nobody.
func TestLookingHasNoEffect(t *testing.T) {
	e, count := tallied(t)
	first := e.login(app)
	second := e.refreshed(app, first.RefreshToken)
	third := e.refreshed(app, second.RefreshToken)
	_, writes := count.took(func() {
		for _, spent := range []string{first.RefreshToken, second.RefreshToken} {
			e.wantDead("a spent refresh token", spent)
			if r := e.post(issuer.IntrospectPath, app, "token", spent); r.body != inactive {
				t.Errorf("its own client sees %s", r.body)
			}
		}
	})
	if writes != 0 {
		t.Errorf("%d writes", writes)
	}
	e.refreshed(app, third.RefreshToken)
}

// TestInactive has every way in which a token is no good. All get the same
// answer.
func TestInactive(t *testing.T) {
	t.Parallel()
	for name, policy := range formats {
		for why, end := range map[string]func(e *site, as party, tokens oauth.TokenResponse){
			"expired": func(e *site, _ party, tokens oauth.TokenResponse) {
				e.clock.advance(time.Hour - time.Millisecond - 250*time.Millisecond) // exp is in whole seconds
				e.wantAlive("an access token in its last moment", tokens.AccessToken)
				e.clock.advance(time.Millisecond)
			},
			"revoked alone": func(e *site, as party, tokens oauth.TokenResponse) { e.revoke(as, tokens.AccessToken) },
			"grant revoked": func(e *site, as party, tokens oauth.TokenResponse) { e.revoke(as, tokens.RefreshToken) },
			"by an operator": func(e *site, _ party, _ oauth.TokenResponse) {
				e.must(e.admin.RevokeGrant(e.ctx(), operator, e.grant().ID))
			},
			"client deleted": func(e *site, as party, _ oauth.TokenResponse) { e.must(e.admin.DeleteClient(e.ctx(), operator, as.id)) },
			"user deleted":   func(e *site, _ party, _ oauth.TokenResponse) { e.must(e.admin.DeleteUser(e.ctx(), operator, owner)) },
			"another database": func(e *site, _ party, _ oauth.TokenResponse) {
				e.place = testdb.New(e.t)
				e.open()
				e.register(resources, issuer.Client{Introspect: true, GrantTypes: []string{oauth.GrantClientCredentials}})
			},
		} {
			t.Run(name+"/"+why, func(t *testing.T) {
				e := newSite(t, setup{})
				as := e.variant("variant", policy)
				tokens := e.login(as)
				e.wantAlive("access token", tokens.AccessToken)
				end(e, as, tokens)
				if r := e.post(issuer.IntrospectPath, resources, "token", tokens.AccessToken); r.body != inactive {
					t.Errorf("answer %s", r.body)
				}
			})
		}
	}
	e := newSite(t, setup{})
	code := e.code(app)
	for _, token := range []string{"x", "..", "a.b.c", code, issuer.AccessPrefix, "null", "{}"} {
		if r := e.post(issuer.IntrospectPath, resources, "token", token); r.body != inactive {
			t.Errorf("%q: %s", token, r.body)
		}
	}
}

// TestClientCredentialsTokenOfADeletedClient: no row stands behind it, but a
// client must.
func TestClientCredentialsTokenOfADeletedClient(t *testing.T) {
	e := newSite(t, setup{})
	token := e.post(issuer.TokenPath, other, "grant_type", "client_credentials").tokens(t).AccessToken
	e.wantAlive("access token", token)
	e.must(e.admin.DeleteClient(e.ctx(), operator, other.id))
	e.wantDead("the access token of a deleted client", token)
}

// TestRefreshTokenWithoutExpiry: exp is left out, not 0.
func TestRefreshTokenWithoutExpiry(t *testing.T) {
	e := newSite(t, setup{})
	as := e.variant("forever", issuer.Policy{RefreshTokenLifetime: issuer.None})
	tokens := e.login(as)
	if tokens.RefreshTokenExpiresIn != 0 {
		t.Errorf("expires in %d", tokens.RefreshTokenExpiresIn)
	}
	e.clock.advance(10 * 365 * 24 * time.Hour)
	if r := e.post(issuer.IntrospectPath, resources, "token", tokens.RefreshToken); strings.Contains(r.body, "exp") || !strings.Contains(r.body, `"active":true`) {
		t.Errorf("answer %s", r.body)
	}
	e.refreshed(as, tokens.RefreshToken)
}

// signed makes a JWT with a signer, from a header and payload that may lie.
func signed(t testing.TB, signer *secret.Signer, header, payload map[string]any) string {
	t.Helper()
	segment := func(fields map[string]any) string {
		text, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	text := segment(header) + "." + segment(payload)
	signature, err := signer.Sign([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// TestJWTsThatLie: only what we signed for this purpose is a token of ours, and
// a true signature alone does not make one.
func TestJWTsThatLie(t *testing.T) {
	e := newSite(t, setup{})
	as := e.variant("jwt", issuer.Policy{})
	token := e.login(as, "scope", "read").AccessToken
	header, payload := decodeSegment(t, token, 0), decodeSegment(t, token, 1)
	ours, err := e.ring.Current().Signer(secret.ES256)
	e.must(err)
	edwards, err := e.ring.Current().Signer(secret.EdDSA)
	e.must(err)
	theirs, err := newSite(t, setup{}).ring.Current().Signer(secret.ES256)
	e.must(err)
	with := func(fields map[string]any, pairs ...any) map[string]any {
		changed := maps.Clone(fields)
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i+1] == nil {
				delete(changed, pairs[i].(string))
			} else {
				changed[pairs[i].(string)] = pairs[i+1]
			}
		}
		return changed
	}
	if seen := e.introspect(signed(t, ours, header, payload)); !seen.Active {
		t.Fatal("the test does not make a token as the server does")
	}
	parts := strings.Split(token, ".")
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt","kid":"` + ours.KeyID + `"}`))
	elsewhere := decodeSegment(t, e.login(as, "scope", "write").AccessToken, 1)
	for name, lie := range map[string]string{
		"another server's key":        signed(t, theirs, header, payload),
		"another key under its kid":   signed(t, theirs, with(header, "kid", theirs.KeyID), payload),
		"the other algorithm":         signed(t, edwards, with(header, "alg", "EdDSA"), payload),
		"the other key of ours":       signed(t, edwards, with(header, "kid", edwards.KeyID), payload),
		"unknown kid":                 signed(t, ours, with(header, "kid", "unknown"), payload),
		"no kid":                      signed(t, ours, with(header, "kid", nil), payload),
		"typ JWT":                     signed(t, ours, with(header, "typ", "JWT"), payload),
		"no typ":                      signed(t, ours, with(header, "typ", nil), payload),
		"alg none":                    unsigned + "." + parts[1] + ".",
		"alg none, kept signature":    unsigned + "." + parts[1] + "." + parts[2],
		"HMAC with the public key":    signed(t, ours, with(header, "alg", "HS256"), payload),
		"no signature":                parts[0] + "." + parts[1] + ".",
		"no payload":                  parts[0] + ".." + parts[2],
		"two parts":                   parts[0] + "." + parts[1],
		"JSON serialization":          `{"protected":"` + parts[0] + `","payload":"` + parts[1] + `","signature":"` + parts[2] + `"}`,
		"another issuer":              signed(t, ours, header, with(payload, "iss", "https://evil.example")),
		"no issuer":                   signed(t, ours, header, with(payload, "iss", nil)),
		"no expiry":                   signed(t, ours, header, with(payload, "exp", nil)),
		"expired":                     signed(t, ours, header, with(payload, "exp", e.clock.now().Unix())),
		"jti of nobody":               signed(t, ours, header, with(payload, "jti", "x")),
		"jti too short":               signed(t, ours, header, with(payload, "jti", "AAAA")),
		"no jti":                      signed(t, ours, header, with(payload, "jti", nil)),
		"jti of another token":        signed(t, ours, header, with(payload, "jti", elsewhere["jti"])),
		"more scope under its jti":    signed(t, ours, header, with(payload, "scope", "read write")),
		"a scope that is none":        signed(t, ours, header, with(payload, "scope", "re\"ad")),
		"another time under its jti":  signed(t, ours, header, with(payload, "iat", payload["iat"].(float64)-1)),
		"another client":              signed(t, ours, header, with(payload, "client_id", "unknown")),
		"expiry that is no number":    signed(t, ours, header, with(payload, "exp", "tomorrow")),
		"payload that is no object":   signed(t, ours, header, nil),
		"critical header":             signed(t, ours, with(header, "crit", []string{"exp"}), payload),
		"payload of the other format": issuer.AccessPrefix + parts[1],
	} {
		t.Run(name, func(t *testing.T) {
			if r := e.post(issuer.IntrospectPath, resources, "token", lie); r.body != inactive {
				t.Errorf("%d %s", r.status, r.body)
			}
			if r := e.post(issuer.RevokePath, as, "token", lie); r.status != 200 && name != "another client" {
				t.Errorf("revocation: %d %s", r.status, r.body)
			}
		})
	}
	e.wantAlive("the true token", token)
}
