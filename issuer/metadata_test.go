package issuer_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// get fetches a public document.
func (e *site) get(path string) reply {
	e.t.Helper()
	req, err := http.NewRequestWithContext(e.ctx(), http.MethodGet, e.url+path, nil)
	e.must(err)
	return e.do(req)
}

// document fetches and decodes a public document.
func (e *site) document(path string, v any) reply {
	e.t.Helper()
	r := e.get(path)
	if r.status != 200 || r.header.Get("Content-Type") != "application/json" {
		e.t.Fatalf("%s: %d %s", path, r.status, r.header.Get("Content-Type"))
	}
	e.must(json.Unmarshal([]byte(r.body), v))
	return r
}

func (e *site) jwks() *jose.JSONWebKeySet {
	e.t.Helper()
	set := &jose.JSONWebKeySet{}
	e.document(issuer.JWKSPath, set)
	return set
}

// decodeSegment decodes the header (0) or payload (1) of a JWT unverified.
func decodeSegment(t testing.TB, token string, segment int) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is no JWT", token)
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[segment])
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	return fields
}

// TestMetadata checks the fields of RFC 8414 section 2.
func TestMetadata(t *testing.T) {
	e := newSite(t, setup{})
	var got oauth.Metadata
	r := e.document(issuer.MetadataPath, &got)
	if got.Issuer != e.url {
		t.Errorf("issuer %q is not where the document was found, %q (RFC 8414 section 3.3)", got.Issuer, e.url)
	}
	for name, at := range map[string]struct{ got, want string }{
		"token":         {got.TokenEndpoint, issuer.TokenPath},
		"authorization": {got.AuthorizationEndpoint, issuer.AuthorizePath},
		"revocation":    {got.RevocationEndpoint, issuer.RevokePath},
		"introspection": {got.IntrospectionEndpoint, issuer.IntrospectPath},
		"jwks":          {got.JWKSURI, issuer.JWKSPath},
	} {
		if at.got != e.url+at.want {
			t.Errorf("%s endpoint is %q", name, at.got)
		}
	}
	for name, list := range map[string]struct{ got, want []string }{
		"scopes":              {got.ScopesSupported, []string{"read", "write"}},
		"response types":      {got.ResponseTypesSupported, []string{"code"}},
		"response modes":      {got.ResponseModesSupported, []string{"query"}},
		"grant types":         {got.GrantTypesSupported, []string{"authorization_code", "client_credentials", "password", "refresh_token"}},
		"token auth":          {got.TokenEndpointAuthMethods, []string{"client_secret_basic", "client_secret_post", "none"}},
		"revocation auth":     {got.RevocationEndpointAuthMethods, []string{"client_secret_basic", "client_secret_post", "none"}},
		"introspection auth":  {got.IntrospectionEndpointAuthMethods, []string{"client_secret_basic", "client_secret_post"}},
		"PKCE methods":        {got.CodeChallengeMethodsSupported, []string{"S256"}},
		"cacheable, and open": {[]string{r.header.Get("Cache-Control"), r.header.Get("Access-Control-Allow-Origin")}, []string{"public, max-age=300", "*"}},
	} {
		if !slices.Equal(list.got, list.want) {
			t.Errorf("%s: %q, want %q", name, list.got, list.want)
		}
	}
	if !got.AuthorizationResponseIssSupported {
		t.Error("iss in authorization responses is not announced (RFC 9207 section 3)")
	}
}

// TestMetadataWithoutAuthorizationPage: nothing is listed that is not there.
func TestMetadataWithoutAuthorizationPage(t *testing.T) {
	e := newSite(t, setup{config: func(c *issuer.Config) { c.AskOwner = nil }})
	var got map[string]any
	e.document(issuer.MetadataPath, &got)
	for _, name := range []string{"authorization_endpoint", "code_challenge_methods_supported", "authorization_response_iss_parameter_supported", "response_modes_supported"} {
		if _, listed := got[name]; listed {
			t.Errorf("%s is listed", name)
		}
	}
	if types, ok := got["response_types_supported"].([]any); !ok || len(types) != 0 {
		t.Errorf("response_types_supported %v, which RFC 8414 requires", got["response_types_supported"])
	}
	if slices.Contains(got["grant_types_supported"].([]any), any("authorization_code")) {
		t.Error("authorization_code is listed")
	}
	if r := e.get(issuer.AuthorizePath + "?client_id=app"); r.status != 404 || !strings.Contains(r.body, "no authorization page") {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestPublicDocumentsAreReadOnly(t *testing.T) {
	e := newSite(t, setup{})
	for _, path := range []string{issuer.JWKSPath, issuer.MetadataPath} {
		r := e.do(e.request(path, ""))
		if r.status != 405 || !strings.Contains(r.header.Get("Allow"), "GET") {
			t.Errorf("POST %s: %d, Allow %q", path, r.status, r.header.Get("Allow"))
		}
	}
	if r := e.get("/nothing/here"); r.status != 404 {
		t.Errorf("elsewhere: %d", r.status)
	}
}

// TestAccessTokensVerify lets go-jose verify every kind of JWT with nothing but
// the public documents (RFC 9068 section 4).
func TestAccessTokensVerify(t *testing.T) {
	e := newSite(t, setup{})
	for name, policy := range formats {
		if policy.Format == issuer.FormatOpaque {
			continue
		}
		t.Run(name, func(t *testing.T) {
			as := e.variant(name, policy)
			set := e.jwks()
			for _, key := range set.Keys {
				if !key.IsPublic() || !key.Valid() || key.Use != "sig" || key.KeyID == "" || key.Algorithm == "" {
					t.Fatalf("published key %+v", key)
				}
			}
			for kind, token := range map[string]string{
				"owner":  e.login(as, "scope", "read").AccessToken,
				"client": e.post(issuer.TokenPath, as, "grant_type", "client_credentials", "scope", "read").tokens(t).AccessToken,
			} {
				parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(policy.SigningAlg)})
				if err != nil {
					t.Fatal(err)
				}
				var claims jwt.Claims
				var more struct {
					ClientID string `json:"client_id"`
					Scope    string `json:"scope"`
				}
				if err := parsed.Claims(set, &claims, &more); err != nil {
					t.Fatal(err)
				}
				subject := map[string]string{"owner": owner, "client": name}[kind]
				err = claims.ValidateWithLeeway(jwt.Expected{Issuer: e.url, Subject: subject, AnyAudience: jwt.Audience{e.url}, Time: e.clock.now()}, 0)
				if err != nil {
					t.Error(err)
				}
				if parsed.Headers[0].ExtraHeaders["typ"] != "at+jwt" || more.ClientID != name || more.Scope != "read" || claims.ID == "" {
					t.Errorf("header %+v, claims %+v %+v", parsed.Headers[0], claims, more)
				}
				if life := claims.Expiry.Time().Sub(claims.IssuedAt.Time()); life != time.Hour {
					t.Errorf("it lives for %s", life)
				}
				for _, grant := range e.grants() {
					if strings.Contains(token, grant.ID.String()) || strings.Contains(claims.ID, grant.ID.String()) {
						t.Error("the grant's id is in the token in clear")
					}
				}
			}
		})
	}
}

// TestTokensAreDistinct: different grants, scopes, generations and moments never
// share a jti.
func TestTokensAreDistinct(t *testing.T) {
	e := newSite(t, setup{})
	seen := map[string]bool{}
	note := func(token string) {
		jti := e.wantAlive("access token", token).ID
		if jti == "" || seen[jti] {
			t.Errorf("jti %q came before", jti)
		}
		seen[jti] = true
	}
	for _, policy := range []issuer.Policy{{Format: issuer.FormatOpaque}, {SigningAlg: secret.EdDSA}, {SigningAlg: secret.EdDSA, Rotation: issuer.RotateNever}} {
		as := e.variant("variant", policy)
		for range 2 {
			tokens := e.login(as)
			note(tokens.AccessToken)
			for _, scope := range []string{"read", "write", ""} {
				e.clock.advance(time.Second)
				tokens = e.refreshed(as, tokens.RefreshToken, "scope", scope)
				note(tokens.AccessToken)
			}
			note(e.post(issuer.TokenPath, as, "grant_type", "client_credentials").tokens(t).AccessToken)
		}
	}
}
