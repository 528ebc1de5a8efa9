package providertest_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/providertest"
)

func TestConsentAtOnce(t *testing.T) {
	b := serve(t, providertest.Plain())
	g, back := b.authorize("scope", "read", "redirect_uri", callback+"?kept=1")
	location := g.header.Get("Location")
	if g.status != 302 || !strings.HasPrefix(location, callback+"?") || back.Get("kept") != "1" || back.Get("state") != "s1" || back.Get("iss") != b.url {
		t.Errorf("redirected with %d to %s", g.status, location)
	}
	if !strings.HasPrefix(back.Get("code"), "sim_code_") {
		t.Errorf("the code is %q", back.Get("code"))
	}
	if _, back = b.authorize("state", ""); back.Has("state") {
		t.Error("a state came back that was not sent")
	}
}

func TestConsentRefused(t *testing.T) {
	for code, dialect := range map[string]providertest.Dialect{
		"access_denied": providertest.Plain(), "USER_CANCELLED": providertest.Tink(),
	} {
		b := serveWith(t, dialect, providertest.Options{Consent: providertest.Deny})
		_, back := b.authorize()
		if back.Get("error") != code || back.Get("state") != "s1" || back.Has("code") || back.Get("error_description") == "" {
			t.Errorf("%s: the redirect tells %v", dialect.Name, back)
		}
		b.sim.SetConsent(providertest.Allow)
		b.code()
	}
}

// TestConsentPage is what a browser does: it shows the page and presses a
// button.
func TestConsentPage(t *testing.T) {
	b := serveWith(t, providertest.Plain(), providertest.Options{})
	query := "?" + form("response_type", "code", "client_id", "sim-client", "redirect_uri", callback, "state", "s1", "scope", "read <b>", "login_hint", "alice")
	page := b.do(b.request("GET", providertest.AuthorizePath+query, "", ""))
	for _, part := range []string{"<form method=\"post\">", `name="decision" value="allow"`, `name="decision" value="deny"`, "<li>read</li>", "&lt;b&gt;", "alice", "sim-client"} {
		if page.status != 200 || !strings.Contains(page.body, part) {
			t.Errorf("the page lacks %s: %d\n%s", part, page.status, page.body)
		}
	}
	press := func(button string) url.Values {
		g := b.do(b.request("POST", providertest.AuthorizePath+query, oauth.FormType, form("decision", button)))
		back, err := url.Parse(g.header.Get("Location"))
		if err != nil || g.status != 302 {
			t.Fatalf("the button %s: %d %v", button, g.status, err)
		}
		return back.Query()
	}
	if back := press("deny"); back.Get("error") != "access_denied" {
		t.Errorf("refused: %v", back)
	}
	code := press("allow").Get("code")
	g := b.token("grant_type", "authorization_code", "code", code, "redirect_uri", callback)
	b.want(b.me(g.text("access_token")), 200, "owner", "alice")
}

// TestUnfitAuthorizationRequests shows a page where the redirect cannot
// be trusted, and redirects with an error where it can.
func TestUnfitAuthorizationRequests(t *testing.T) {
	d := providertest.Plain()
	d.PKCE = true
	b := serveWith(t, d, providertest.Options{Consent: providertest.Allow, RedirectURIs: []string{callback}})
	challenge := []string{"code_challenge", oauth.Challenge(strings.Repeat("v", 43)), "code_challenge_method", "S256"}
	for name, pairs := range map[string][]string{
		"another client":            {"client_id", "x"},
		"another redirect_uri":      {"redirect_uri", "https://evil.example/"},
		"no redirect_uri":           {"redirect_uri", ""},
		"a relative one":            {"redirect_uri", "/callback"},
		"one that cannot be parsed": {"redirect_uri", "https://%zz"},
	} {
		if g, back := b.authorize(append(challenge, pairs...)...); g.status != 400 || len(back) != 0 || !strings.Contains(g.body, "not understood") {
			t.Errorf("%s: %d %v %s", name, g.status, back, g.body)
		}
	}
	for name, pairs := range map[string][]string{
		"implicit":         append(challenge, "response_type", "token"),
		"plain challenge":  append(challenge, "code_challenge_method", "plain"),
		"without PKCE":     nil,
		"without a method": challenge[:2],
	} {
		if _, back := b.authorize(pairs...); back.Get("error") != "invalid_request" {
			t.Errorf("%s: %v", name, back)
		}
	}
	b.code(challenge...)
}

func TestRenamedClientID(t *testing.T) {
	d := providertest.Plain()
	d.Names = map[string]string{"client_id": "client_key", "grant_type": "type"}
	d.GrantTypes = map[string]string{"web_server": oauth.GrantAuthorizationCode, "refresh": oauth.GrantRefreshToken}
	b := serve(t, d)
	if g, _ := b.authorize(); g.status != 400 {
		t.Errorf("client_id is known: %d", g.status)
	}
	code := b.code("client_key", "sim-client")
	g := b.token("client_key", "sim-client", "type", "web_server", "code", code, "redirect_uri", callback)
	b.want(g, 200, "token_type", "Bearer")
	refresh := g.text("refresh_token")
	b.want(b.token("type", "refresh", "refresh_token", refresh), 401, "error", "invalid_client")
	b.want(b.token("client_key", "sim-client", "type", "refresh_token", "refresh_token", refresh), 400, "error", "unsupported_grant_type")
	b.want(b.token("client_key", "sim-client", "grant_type", "refresh", "refresh_token", refresh), 400, "error", "unsupported_grant_type")
	b.want(b.token("client_key", "sim-client", "type", "refresh", "refresh_token", refresh), 200, "token_type", "Bearer")
}

func TestCodes(t *testing.T) {
	verifier := strings.Repeat("v", 43)
	b := serve(t, providertest.Plain())
	redeem := func(code string, pairs ...string) got {
		return b.token(append([]string{"grant_type", "authorization_code", "code", code, "redirect_uri", callback}, pairs...)...)
	}
	with := b.code("code_challenge", oauth.Challenge(verifier), "code_challenge_method", "S256")
	b.want(redeem(with), 400, "error_description", "The code_verifier does not answer the code_challenge.")
	b.want(redeem(with, "code_verifier", strings.Repeat("w", 43)), 400, "error", "invalid_grant")
	b.want(redeem(with, "code_verifier", verifier, "redirect_uri", "https://other.example/"), 400, "error", "invalid_grant")
	g := redeem(with, "code_verifier", verifier)
	b.want(g, 200, "token_type", "Bearer")

	// A second use ends what the first began (RFC 6749 section 4.1.2).
	b.want(redeem(with, "code_verifier", verifier), 400, "error_description", "The code was used before.")
	b.want(b.me(g.text("access_token")), 401, "error", "invalid_token")
	if grant := b.sim.Grants()[0]; grant.State != providertest.Killed || b.sim.Stats().FamiliesRevoked != 0 {
		t.Errorf("the grant is %+v", grant)
	}

	late := b.code()
	b.pass(time.Minute)
	b.want(redeem(late), 400, "error_description", "The code has expired.")
}

func TestScopes(t *testing.T) {
	d := providertest.Slack()
	d.Withheld = []string{"admin"}
	b := serve(t, d)
	g := b.token("code", b.code("scope", "chat,admin,files"), "redirect_uri", callback)
	b.want(g, 200, "scope", "chat,files")
	b.want(b.refresh(g.text("refresh_token"), "scope", "chat,more"), 200, "error", "invalid_scope")
	g = b.refresh(g.text("refresh_token"), "scope", "chat")
	b.want(g, 200, "scope", "chat")
	b.want(b.refresh(g.text("refresh_token")), 200, "scope", "chat,files")
}

func TestMetadata(t *testing.T) {
	b := serve(t, providertest.Plain())
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"} {
		g := b.do(b.request("GET", path, "", ""))
		b.want(g, 200, "issuer", b.url)
		b.want(g, 200, "authorization_endpoint", b.url+"/authorize")
		b.want(g, 200, "token_endpoint", b.url+"/token")
		b.want(g, 200, "revocation_endpoint", b.url+"/revoke")
		b.want(g, 200, "authorization_response_iss_parameter_supported", true)
	}
	b = serve(t, providertest.Slack())
	g := b.do(b.request("GET", "/.well-known/oauth-authorization-server", "", ""))
	b.want(g, 200, "revocation_endpoint", nil)
	b.want(g, 200, "authorization_response_iss_parameter_supported", nil)
}
