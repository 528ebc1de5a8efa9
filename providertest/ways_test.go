package providertest_test

import (
	"bytes"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
)

// clientToken is a Tink client's own token.
func (b *bench) clientToken(scope string) string {
	b.Helper()
	g := b.token("grant_type", "client_credentials", "scope", scope)
	if g.text("access_token") == "" || g.at("refresh_token") != nil {
		b.Fatalf("client_credentials gave %d %s", g.status, g.body)
	}
	return g.text("access_token")
}

// grantCode asks Tink for a code for a user.
func (b *bench) grantCode(client string, pairs ...string) got {
	b.Helper()
	return b.do(b.request("POST", providertest.MintPath, oauth.FormType, form(pairs...), "Authorization", "Bearer "+client))
}

func TestTinkGivesCodesToItsClients(t *testing.T) {
	b := serve(t, providertest.Tink())
	client := b.clientToken("authorization:grant,user:create")
	create := func(bearer, body string) got {
		return b.do(b.request("POST", providertest.OwnersPath, "application/json", body, "Authorization", "Bearer "+bearer))
	}
	b.want(create(client, `{"external_user_id":"alice","market":"NL","locale":"nl_NL"}`), 200, "user_id", "id-alice")
	b.want(create(client, `{"external_user_id":"alice"}`), 409, "errorMessage", "The user is there already.")
	b.want(create(client, `{}`), 400, "errorCode", "invalid_request")
	b.want(create("x", `{"external_user_id":"bob"}`), 401, "errorCode", "invalid_token")

	byName := b.grantCode(client, "external_user_id", "alice", "scope", "accounts:read,balances:read")
	byID := b.grantCode(client, "user_id", "id-alice", "scope", "accounts:read")
	if byName.text("code") == "" || byID.text("code") == "" || byName.text("code") == byID.text("code") {
		t.Fatalf("the codes are %s and %s", byName.body, byID.body)
	}
	one := b.token("grant_type", "authorization_code", "code", byName.text("code"))
	b.want(one, 200, "scope", "accounts:read,balances:read")
	b.want(b.token("grant_type", "authorization_code", "code", byName.text("code")), 400, "errorCode", "oauth.invalid_grant")
	b.want(b.me(one.text("access_token")), 200, "owner", "alice")

	for name, refused := range map[string]got{
		"somebody else's user": b.grantCode(client, "external_user_id", "bob"),
		"no user":              b.grantCode(client),
	} {
		if refused.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", name, refused.status, refused.body)
		}
	}
	b.want(b.grantCode(b.clientToken("user:create"), "external_user_id", "alice"), 403, "errorCode", "insufficient_scope")
	b.want(b.grantCode(one.text("access_token"), "external_user_id", "alice"), 403, "errorCode", "insufficient_scope")
	b.want(b.grantCode("x", "external_user_id", "alice"), 401, "errorCode", "invalid_token")
	b.want(b.do(b.request("POST", providertest.MintPath, "text/plain", "x", "Authorization", "Bearer "+client)), 400, "errorCode", "invalid_request")
	b.pass(30 * time.Minute)
	b.want(b.grantCode(client, "external_user_id", "alice"), 401, "errorCode", "invalid_token")
}

func TestTinkAppThatMayNotGrant(t *testing.T) {
	d := providertest.Tink()
	d.Withheld = []string{"authorization:grant"}
	b := serve(t, d)
	b.connect("alice")
	b.want(b.grantCode(b.clientToken("authorization:grant"), "external_user_id", "alice"), 403, "errorCode", "insufficient_scope")
}

// TestRemint takes a grant that lost its refresh token, one that was killed and
// one that was revoked through a re-mint.
func TestRemint(t *testing.T) {
	d := providertest.Tink()
	d.Rotation = provider.RotationSingleUse
	b := serve(t, d)
	again := func(owner string) got {
		code := b.grantCode(b.clientToken("authorization:grant"), "external_user_id", owner, "scope", "accounts:read")
		if code.text("code") == "" {
			return code
		}
		return b.token("grant_type", "authorization_code", "code", code.text("code"))
	}
	lost, access, _ := b.connect("alice", "accounts:read")
	g := again("alice")
	b.want(b.me(g.text("access_token")), 200, "grant", lost)
	b.want(b.me(g.text("access_token")), 200, "generation", 2.0)
	b.want(b.me(access), 200, "generation", 1.0)
	b.refreshed(g.text("refresh_token"))

	killed, _, refresh := b.connect("bob", "accounts:read")
	b.refreshed(refresh)
	b.refresh(refresh)
	if state := b.sim.Grant(killed).State; state != providertest.Killed {
		t.Fatalf("the grant is %s", state)
	}
	fresh := again("bob")
	if is := b.sim.GrantOf(fresh.text("access_token")); is == killed || is == "" {
		t.Errorf("the re-mint belongs to %q, the killed grant is %q", is, killed)
	}

	revoked, _, _ := b.connect("carol", "accounts:read")
	b.sim.Revoke(revoked)
	b.want(again("carol"), 404, "errorMessage", "The user revoked the access.")
}

func TestTinkWithoutRefreshTokens(t *testing.T) {
	d := providertest.Tink()
	d.Rotation = provider.RotationNone
	b := serve(t, d)
	_, access, refresh := b.connect("alice")
	if access == "" || refresh != "" {
		t.Fatalf("the tokens are %q and %q", access, refresh)
	}
	code := b.grantCode(b.clientToken("authorization:grant"), "external_user_id", "alice")
	b.want(b.token("grant_type", "authorization_code", "code", code.text("code")), 200, "refresh_token", nil)
	b.want(b.refresh(access), 400, "errorCode", "oauth.invalid_grant")
}

// TestMintedTokens is a recovery call that gives tokens at once, by a client
// that proves itself there.
func TestMintedTokens(t *testing.T) {
	d := providertest.Plain()
	d.Mint = &providertest.Mint{Owner: []string{"user_id"}}
	b := serve(t, d)
	grant, _, _ := b.connect("alice")
	mint := func(pairs ...string) got {
		pairs = append([]string{"client_id", "sim-client", "client_secret", "sim-secret"}, pairs...)
		return b.do(b.request("POST", providertest.MintPath, oauth.FormType, form(pairs...)))
	}
	g := mint("user_id", "id-alice")
	if is := b.sim.GrantOf(g.text("refresh_token")); is != grant {
		t.Errorf("the tokens are of %q: %s", is, g.body)
	}
	b.want(mint("user_id", "id-alice", "client_secret", "x"), 401, "error", "invalid_client")
	b.want(mint("user_id", "id-bob"), 404, "error", "not_found")
	if n := b.sim.Stats().Requests[provider.Reminting]; n != 3 {
		t.Errorf("%d re-mints counted", n)
	}
}

func TestEventixRefusesTheMultipartMistake(t *testing.T) {
	b := serve(t, providertest.Eventix())
	_, _, refresh := b.connect("alice")
	var body bytes.Buffer
	parts := multipart.NewWriter(&body)
	for name, value := range pairsOf([]string{"grant_type", "refresh_token", "refresh_token", refresh}) {
		parts.WriteField(name, value)
	}
	parts.Close()
	g := b.do(b.request("POST", providertest.TokenPath, parts.FormDataContentType(), body.String()))
	b.want(g, 400, "error", "invalid_request")
	if text := g.text("error_description"); !strings.Contains(text, "multipart/form-data") || !strings.Contains(text, "json") {
		t.Errorf("the error says %q", text)
	}
	if !b.sim.Alive(refresh) {
		t.Error("the refused request spent the refresh token")
	}
	b.sim.Change(func(d *providertest.Dialect) { d.Bodies = []provider.Body{provider.BodyMultipart} })
	if g = b.do(b.request("POST", providertest.TokenPath, parts.FormDataContentType(), body.String())); g.status != 200 {
		t.Errorf("where it is read: %d %s", g.status, g.body)
	}
}

func TestEventixYear(t *testing.T) {
	b := serve(t, providertest.Eventix())
	_, _, refresh := b.connect("alice")
	b.pass(365*24*time.Hour - 2*time.Second)
	g := b.refreshed(refresh)
	if companies, _ := g.at("info.companies").([]any); len(companies) != 2 || fmt.Sprint(companies[0]) != "map[guid:id-alice-1]" {
		t.Errorf("the companies are %v", g.at("info"))
	}
	b.pass(365*24*time.Hour - time.Second)
	b.want(b.refresh(g.text("refresh_token")), 400, "message", "The refresh token has expired.")
	if b.sim.Alive(g.text("refresh_token")) {
		t.Error("the expired refresh token is alive")
	}
}

func TestFlexiti(t *testing.T) {
	b := serve(t, providertest.Flexiti())
	one := b.token() // client_credentials is the default
	b.want(one, 200, "scope", "merchant")
	b.want(one, 200, "expires_in", 1200.0)
	b.want(b.do(b.request("POST", providertest.TokenPath, oauth.FormType, form("client_id", "sim-client", "client_secret", "sim-secret"))), 400,
		"error_description", "The header X-Reference-Id is missing.")
	b.want(b.do(b.request("POST", providertest.TokenPath+"?client_id=sim-client&client_secret=sim-secret", "", "", "X-Reference-Id", "1")), 400, "error", "invalid_request")

	b.pass(19 * time.Minute)
	two := b.refreshed(one.text("refresh_token"))
	b.want(b.me(one.text("access_token")), 200, "generation", 1.0)
	b.want(b.refresh(one.text("refresh_token")), 400, "error", "invalid_grant")
	b.pass(20 * time.Minute)
	b.want(b.refresh(two.text("refresh_token")), 400, "error_description", "The refresh token has expired.")
	b.want(b.me(two.text("access_token")), 401, "error", "invalid_token")
	three := b.token("grant_type", "client_credentials")
	b.want(b.me(three.text("access_token")), 200, "generation", 3.0)

	b.want(b.refresh(three.text("access_token")), 400, "error", "invalid_grant")
	b.want(b.token("grant_type", "client_credential"), 400, "error", "unsupported_grant_type")
	b.sim.Change(func(d *providertest.Dialect) {
		d.AccessTokenRefreshes = true
		d.GrantTypes = map[string]string{"client_credential": oauth.GrantClientCredentials, "refresh_token": oauth.GrantRefreshToken}
	})
	four := b.refreshed(three.text("access_token"))
	b.want(b.refresh(three.text("refresh_token")), 400, "error", "invalid_grant")
	b.refreshed(four.text("refresh_token"))
	b.want(b.token("grant_type", "client_credential"), 200, "token_type", "bearer")
	if grants := b.sim.Grants(); len(grants) != 1 || grants[0].Generation != 6 {
		t.Errorf("the grants are %+v", grants)
	}
}

// TestFlexitiImported is a connection that begins with tokens that somebody has:
// client_credentials goes on with the same grant.
func TestFlexitiImported(t *testing.T) {
	b := serve(t, providertest.Flexiti())
	grant, _, refresh := b.connect("shop")
	if is := b.sim.GrantOf(b.token().text("access_token")); is != grant {
		t.Errorf("client_credentials gave tokens of %q", is)
	}
	b.refreshed(refresh)
	b.sim.Revoke(grant)
	if is := b.sim.GrantOf(b.token().text("access_token")); is == grant || is == "" {
		t.Errorf("after the end client_credentials gave tokens of %q", is)
	}
}

func TestGitHubAnswersForms(t *testing.T) {
	b := serve(t, providertest.GitHub())
	_, access, refresh := b.connect("alice")
	post := func(token string) url.Values {
		g := b.do(b.request("POST", providertest.TokenPath, oauth.FormType,
			form("client_id", "sim-client", "client_secret", "sim-secret", "grant_type", "refresh_token", "refresh_token", token)))
		values, err := url.ParseQuery(g.body)
		if err != nil || g.status != 200 || g.header.Get("Content-Type") != oauth.FormType {
			t.Errorf("answered %d %s: %v", g.status, g.body, err)
		}
		return values
	}
	b.want(b.me(access), 200, "owner", "alice")
	next := post(refresh)
	if next.Get("expires_in") != "28800" || next.Get("token_type") != "bearer" {
		t.Errorf("the tokens are %v", next)
	}
	b.want(b.me(access), 401, "error", "invalid_token")
	b.want(b.me(next.Get("access_token")), 200, "owner", "alice")
	if again := post(refresh); again.Get("error") != "bad_refresh_token" {
		t.Errorf("the spent refresh token: %v", again)
	}
	b.want(b.me(next.Get("access_token")), 401, "error", "invalid_token")
}

func TestGoogleGivesRefreshTokensWhenAsked(t *testing.T) {
	for _, test := range []struct {
		pairs []string
		given bool
	}{
		{nil, false},
		{[]string{"access_type", "offline"}, false},
		{[]string{"access_type", "online", "prompt", "consent"}, false},
		{[]string{"access_type", "offline", "prompt", "consent"}, true},
	} {
		b := serve(t, providertest.Google())
		g := b.token("grant_type", "authorization_code", "code", b.code(test.pairs...), "redirect_uri", callback)
		if given := g.text("refresh_token") != ""; g.status != 200 || given != test.given {
			t.Errorf("%v: %s", test.pairs, g.body)
		}
	}
}

func TestOwnersCap(t *testing.T) {
	b := serve(t, providertest.Salesforce())
	first, _, refresh := b.connect("alice")
	_, _, other := b.connect("bob")
	for range 4 {
		b.connect("alice")
	}
	b.refreshed(refresh)
	b.connect("alice")
	b.want(b.refresh(refresh), 400, "error_description", "expired access/refresh token")
	b.refreshed(other)
	if g := b.sim.Grant(first); g.State != providertest.Revoked || g.Cause == "" {
		t.Errorf("the oldest is %+v", g)
	}
	if s := b.sim.Stats(); s.FamiliesRevoked != 0 || len(s.DoubleSpends) != 0 {
		t.Errorf("a cap is no double spend: %+v", s)
	}
}

func TestSalesforceTellsNoExpiry(t *testing.T) {
	b := serve(t, providertest.Salesforce())
	_, access, refresh := b.connect("alice")
	g := b.refreshed(refresh)
	b.want(g, 200, "expires_in", nil)
	b.want(g, 200, "instance_url", b.url)
	b.want(g, 200, "id", b.url+"/id/id-alice")
	b.want(b.me(access), 200, "owner", "alice")
	b.pass(2 * time.Hour)
	b.want(b.me(access), 401, "error", "invalid_token")
}

func TestZohoThrottlesWithADenial(t *testing.T) {
	b := serve(t, providertest.Zoho())
	_, _, refresh := b.connect("alice")
	_, _, other := b.connect("bob")
	for range 10 {
		b.refreshed(refresh)
		b.pass(time.Second)
	}
	g := b.refresh(refresh)
	b.want(g, 400, "error", "Access Denied")
	if g.header.Get("Retry-After") != "" {
		t.Errorf("it tells when: %v", g.header)
	}
	b.refreshed(other)
	b.pass(10*time.Minute - 10*time.Second - time.Nanosecond)
	b.want(b.refresh(refresh), 400, "error", "Access Denied")
	b.pass(time.Nanosecond)
	b.refreshed(refresh)
	b.want(b.refresh(refresh), 400, "error", "Access Denied")
}

func TestZohoKeepsFifteenAccessTokens(t *testing.T) {
	d := providertest.Zoho()
	d.TokenRate = provider.Rate{}
	b := serve(t, d)
	_, access, refresh := b.connect("alice")
	for range 14 {
		b.refreshed(refresh)
	}
	if !b.sim.Alive(access) {
		t.Error("with 15 access tokens the first is dead")
	}
	b.refreshed(refresh)
	if b.sim.Alive(access) {
		t.Error("with 16 access tokens the first is alive")
	}
}

func TestZohoTellsTheDataCentre(t *testing.T) {
	b := serve(t, providertest.Zoho())
	if _, back := b.authorize("access_type", "offline"); back.Get("accounts-server") != b.url || back.Get("location") != "eu" {
		t.Errorf("the redirect tells %v", back)
	}
}

func TestQuickBooksChangesTheTokenNowAndThen(t *testing.T) {
	b := serve(t, providertest.QuickBooks())
	_, _, one := b.connect("alice")
	spend := func(token string) string {
		g := b.basic("grant_type", "refresh_token", "refresh_token", token)
		b.want(g, 200, "token_type", "bearer")
		return g.text("refresh_token")
	}
	for range 2 {
		if spend(one) != one {
			t.Error("the refresh token changed early")
		}
	}
	two := spend(one)
	if two == one || spend(one) != two || spend(two) != two {
		t.Error("beside the new refresh token, the one before does not work")
	}
	three := spend(one)
	if three == two || three == one {
		t.Error("the refresh token did not change again")
	}
	b.want(b.basic("grant_type", "refresh_token", "refresh_token", one), 400, "error", "invalid_grant")
	if spend(two) != three {
		t.Error("the one before does not work")
	}
	b.pass(5 * 365 * 24 * time.Hour)
	b.want(b.basic("grant_type", "refresh_token", "refresh_token", three), 400, "error_description", "The refresh token has expired.")
	if n := b.sim.Stats().DoubleSpends; len(n) != 0 {
		t.Errorf("double spends: %v", n)
	}
}

// TestGrantLife is the wall at the end of a grant, whatever was used.
func TestGrantLife(t *testing.T) {
	d := providertest.Plain()
	d.GrantLife, d.RefreshIdle = 3*time.Hour, 2*time.Hour
	b := serve(t, d)
	_, _, refresh := b.connect("alice")
	b.pass(90 * time.Minute)
	refresh = b.refreshed(refresh).text("refresh_token")
	b.pass(90*time.Minute - time.Second)
	if !b.sim.Alive(refresh) {
		t.Error("dead before the end")
	}
	b.pass(time.Second)
	if b.sim.Alive(refresh) {
		t.Error("alive after the end")
	}
	b.want(b.refresh(refresh), 400, "error_description", "The refresh token has expired.")
}

func TestMetaExchangesAccessTokens(t *testing.T) {
	b := serve(t, providertest.Meta())
	code := b.code()
	one := b.token("code", code, "redirect_uri", callback)
	b.want(one, 200, "refresh_token", nil)
	b.pass(59 * 24 * time.Hour)
	spend := func(access string) got {
		return b.token("grant_type", "fb_exchange_token", "fb_exchange_token", access)
	}
	two := spend(one.text("access_token"))
	b.want(two, 200, "expires_in", 5184000.0)
	b.want(two, 200, "refresh_token", nil)
	b.pass(time.Hour)
	b.want(b.me(one.text("access_token")), 200, "generation", 1.0)
	b.want(b.me(two.text("access_token")), 200, "generation", 2.0)
	b.pass(60 * 24 * time.Hour)
	b.want(spend(two.text("access_token")), 400, "error.code", 190.0)
	b.want(b.me(two.text("access_token")), 401, "error.code", 190.0)
}

func TestLegacyServers(t *testing.T) {
	t.Run("fos", func(t *testing.T) {
		b := serve(t, providertest.FOS())
		_, access, refresh := b.connect("alice")
		if len(refresh) != len("sim_rt_")+86 {
			t.Errorf("the refresh token has %d characters", len(refresh))
		}
		g := b.refreshed(refresh)
		if scope, told := g.json["scope"]; !told || scope != nil {
			t.Errorf("the scope is %v, told %t", scope, told)
		}
		b.want(b.me(access), 200, "generation", 1.0)
		b.want(b.refresh(refresh), 400, "error_description", "Invalid refresh token")
		b.refreshed(g.text("refresh_token")) // no family is killed
		b.want(b.token("grant_type", "client_credentials"), 200, "refresh_token", nil)
	})
	t.Run("bshaffer", func(t *testing.T) {
		b := serve(t, providertest.Bshaffer())
		_, _, refresh := b.connect("alice")
		b.want(b.refreshed(refresh), 200, "refresh_token", nil)
		b.want(b.refresh(refresh), 400, "error_description", "Invalid refresh token")
		b.sim.Change(func(d *providertest.Dialect) { d.OneShot = false })
		_, _, refresh = b.connect("alice")
		b.refreshed(b.refreshed(refresh).text("refresh_token"))
	})
}

func TestRevocation(t *testing.T) {
	revoke := func(b *bench, pairs ...string) got {
		return b.do(b.request("POST", providertest.RevokePath, oauth.FormType, form(pairs...)))
	}
	client := []string{"client_id", "sim-client", "client_secret", "sim-secret"}
	t.Run("plain", func(t *testing.T) {
		b := serve(t, providertest.Plain())
		grant, access, refresh := b.connect("alice")
		b.want(revoke(b, "token", refresh), 401, "error", "invalid_client")
		b.want(revoke(b, client...), 400, "error", "invalid_request")
		if g := revoke(b, append(client, "token", access)...); g.status != 200 || g.body != "" {
			t.Errorf("answered %d %s", g.status, g.body)
		}
		if b.sim.Alive(access) || !b.sim.Alive(refresh) {
			t.Error("the access token did not end alone")
		}
		b.want(revoke(b, append(client, "token", "unknown")...), 200, "error", nil)
		b.want(revoke(b, append(client, "token", refresh)...), 200, "error", nil)
		if g := b.sim.Grant(grant); g.State != providertest.Revoked || g.Cause != "by its client" {
			t.Errorf("the grant is %+v", g)
		}
	})
	t.Run("bshaffer", func(t *testing.T) {
		b := serve(t, providertest.Bshaffer())
		_, access, refresh := b.connect("alice")
		b.want(revoke(b, "token", refresh), 200, "revoked", true)
		b.want(revoke(b, "token", "unknown"), 200, "revoked", true)
		if !b.sim.Alive(access) || b.sim.Alive(refresh) {
			t.Error("the refresh token did not end alone")
		}
	})
	t.Run("none", func(t *testing.T) {
		b := serve(t, providertest.Eventix())
		if g := revoke(b, client...); g.status != http.StatusNotFound {
			t.Errorf("answered %d", g.status)
		}
	})
}

// TestInferredGrantType is a server that looks at what came along.
func TestInferredGrantType(t *testing.T) {
	d := providertest.Plain()
	d.DefaultGrant = providertest.Inferred
	b := serve(t, d)
	g := b.token("code", b.code(), "redirect_uri", callback)
	b.want(g, 200, "token_type", "Bearer")
	b.want(b.token("refresh_token", g.text("refresh_token")), 200, "token_type", "Bearer")
	b.want(b.token("scope", "read"), 200, "refresh_token", nil)
	b.want(b.token("grant_type", "odd", "refresh_token", "x"), 400, "error", "unsupported_grant_type")
}

// TestSlackGivesTwoTokens is the bot's and the user's, of one grant.
func TestSlackGivesTwoTokens(t *testing.T) {
	d := providertest.Slack()
	d.Grants = []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken, oauth.GrantClientCredentials}
	b := serve(t, d)
	grant, _, refresh := b.connect("alice")
	g := b.refreshed(refresh)
	bot, user := g.text("access_token"), g.text("authed_user.access_token")
	if bot == user || b.sim.GrantOf(user) != grant || !b.sim.Alive(bot) || !b.sim.Alive(user) {
		t.Errorf("the tokens are %s", g.body)
	}
	b.want(b.token("grant_type", "client_credentials"), 200, "authed_user.access_token", nil) // nobody's grant
}

// TestFailureStatus is of token requests: an API says what everybody says.
func TestFailureStatus(t *testing.T) {
	d := providertest.Tink()
	d.FailureStatus = http.StatusOK
	b := serve(t, d)
	b.want(b.refresh("x"), 200, "errorCode", "oauth.invalid_grant")
	b.want(b.me("x"), 401, "errorCode", "invalid_token")
	b.want(b.grantCode("x"), 401, "errorCode", "invalid_token")
	b.want(b.grantCode(b.clientToken("other")), 403, "errorCode", "insufficient_scope")
	b.want(b.grantCode(b.clientToken("authorization:grant"), "user_id", "x"), 404, "errorCode", "not_found")
}
