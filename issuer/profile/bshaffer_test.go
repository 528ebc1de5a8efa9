package profile_test

import (
	"net/http"
	"testing"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/issuer/profile"
	"github.com/evergrant/evergrant/oauth"
)

const (
	testClient = "TestClient:TestSecret"
	someOther  = "Other:OtherSecret"
	nativeApp  = "Native"
	cron       = "Cron:TestSecret"
)

func bshafferSite(t *testing.T, options profile.BshafferOptions) *site {
	s := newSite(t, profile.NameBshaffer, profile.Options{Bshaffer: options, Unsafe: options.Unsafe})
	s.client(testClient, issuer.Client{GrantTypes: all})
	s.client(someOther, issuer.Client{GrantTypes: all})
	s.client(nativeApp, issuer.Client{GrantTypes: []string{oauth.GrantAuthorizationCode, oauth.GrantPassword, oauth.GrantRefreshToken}})
	s.client(cron, issuer.Client{GrantTypes: []string{oauth.GrantClientCredentials}, Scopes: oauth.Scope{"read"}})
	return s
}

var yes, no = true, false

// TestBshaffer is the transcript of the token and revocation endpoints, where a
// refresh gives a new refresh token.
func TestBshaffer(t *testing.T) {
	t.Parallel()
	s := bshafferSite(t, profile.BshafferOptions{AlwaysIssueNewRefreshToken: &yes})
	bshafferSuccess(s)
	bshafferRequests(s)
	bshafferErrors(s)
	bshafferOrder(s)
	bshafferCodes(s)
	bshafferScope(s)
	bshafferLifetimes(s)
	bshafferRevocation(s)
	s.compare("bshaffer.txt")
}

func bshafferSuccess(s *site) {
	s.section("password: no scope where none is asked for")
	s.login(testClient)
	s.section("refresh: the old access token lives on")
	r := s.login(testClient)
	s.refresh(testClient, s.refresh(testClient, r.get("refresh_token")).get("refresh_token"))
	s.alive(r)
	s.section("password: the scope that is asked for")
	s.login(testClient, "&scope=write read")
	s.section("client_credentials: no refresh token")
	s.post(testClient, "grant_type=client_credentials")
	s.post(cron, "grant_type=client_credentials&scope=read")
	s.section("authorization_code")
	s.redeem(testClient, s.code(testClient), back)
	s.redeem(testClient, s.code(testClient, "scope", "read"), back)
	s.section("a refresh token although the client may not use it")
	s.client("Login:TestSecret", issuer.Client{GrantTypes: []string{oauth.GrantPassword}})
	s.login("Login:TestSecret")
}

func bshafferRequests(s *site) {
	s.section("a JSON body, and the same object at the standard's path")
	s.json("", `{"grant_type":"client_credentials","client_id":"TestClient","client_secret":"TestSecret"}`)
	s.send(http.MethodPost, "/oauth/token", `{"grant_type": "client_credentials", "scope": "read"}`, basic(testClient), "Content-Type: application/json; charset=utf-8")
	s.section("JSON bodies that have no parameters, or other things than texts")
	s.json(testClient, `["client_credentials"]`)
	s.json(testClient, `{"grant_type":"client_credentials"`)
	s.json(testClient, `{"grant_type":"client_credentials","scope":["read","write"]}`)
	s.json(testClient, `{"grant_type":"client_credentials","grant_type":"password"}`)
	s.section("multipart/form-data, and what is nothing of this")
	s.send(http.MethodPost, "/token", multipart("grant_type", "client_credentials"), basic(testClient), multipartHeader)
	s.send(http.MethodPost, "/token", "grant_type=client_credentials", basic(testClient), "Content-Type: text/plain")
	s.section("scope in the query, where the body has none")
	s.send(http.MethodPost, "/token?scope=read", "grant_type=client_credentials", basic(testClient), formHeader)
	s.send(http.MethodPost, "/token?scope=read", "grant_type=client_credentials&scope=write", basic(testClient), formHeader)
	s.section("secrets in the query, which are refused here")
	s.send(http.MethodPost, "/token?client_secret=TestSecret", "grant_type=client_credentials&client_id=TestClient", formHeader)
	s.section("Basic wins over the body; another Authorization header is not looked at")
	s.post(testClient, "grant_type=client_credentials&client_id=Other&client_secret=wrong")
	s.send(http.MethodPost, "/token", "grant_type=client_credentials&client_id=TestClient&client_secret=TestSecret", "Authorization: Bearer an-old-access-token", formHeader)
	s.section("other methods")
	s.send(http.MethodGet, "/token?grant_type=client_credentials", "", basic(testClient))
	s.send(http.MethodPut, "/token", "grant_type=client_credentials", basic(testClient), formHeader)
	s.send(http.MethodOptions, "/token", "")
	s.send(http.MethodOptions, "/revoke", "")
	s.send(http.MethodGet, "/revoke?token=x", "")
}

func bshafferErrors(s *site) {
	s.section("no grant type, and one that is not known")
	s.post(testClient, "scope=read")
	s.post(testClient, "grant_type=device_code")
	s.post(testClient, `grant_type=a/"b"\é<c>`)
	s.section("no credentials")
	s.post("", "grant_type=password")
	s.section("a client with a secret that does not send it, an unknown one that sends none")
	s.post("", "grant_type=password&client_id=TestClient")
	s.post("TestClient:", "grant_type=password")
	s.post("", "grant_type=password&client_id=nobody")
	s.section("a wrong secret, an unknown client, and a public one that sends a secret")
	s.post("TestClient:wrong", "grant_type=password")
	s.post("nobody:TestSecret", "grant_type=password")
	s.post("Native:anything", "grant_type=password")
	s.section("client_credentials without a secret")
	s.post("", "grant_type=client_credentials&client_id=Native")
	s.post("", "grant_type=client_credentials&client_id=TestClient")
	s.section("no refresh token, an unknown one, one of another client, a spent one")
	s.post(testClient, "grant_type=refresh_token")
	s.refresh(testClient, "x")
	r := s.login(testClient)
	s.refresh(someOther, r.get("refresh_token"))
	second := s.refresh(testClient, r.get("refresh_token")).want(200)
	s.refresh(testClient, second.get("refresh_token")).want(200)
	s.refresh(testClient, r.get("refresh_token"))
	s.section("a grant type that the client may not use")
	s.post(cron, login)
	s.section("no user name or password, and wrong ones")
	s.post(testClient, "grant_type=password&username=bshaffer")
	s.post(testClient, "grant_type=password&password=brent123")
	s.post(testClient, "grant_type=password&username=bshaffer&password=wrong")
	s.post(testClient, "grant_type=password&username=nobody&password=brent123")
	s.section("scopes: not of the grant, not of the client, not of the server")
	r = s.login(testClient, "&scope=read")
	s.refresh(testClient, r.get("refresh_token"), "&scope=write")
	s.post(cron, "grant_type=client_credentials&scope=write")
	s.post(testClient, "grant_type=client_credentials&scope=admin")
}

func bshafferOrder(s *site) {
	s.section("two mistakes: the first of method, grant type, client, token, expiry, client of the token, permission, scope")
	s.send(http.MethodGet, "/token", "")
	s.post("", "client_id=nobody")
	s.post("", "grant_type=nonsense")
	s.post("TestClient:wrong", "grant_type=nonsense")
	s.post("TestClient:wrong", "grant_type=refresh_token")
	s.post(cron, "grant_type=refresh_token")
	s.refresh(cron, "x", "&scope=admin")
	r := s.login(testClient)
	s.refresh(cron, r.get("refresh_token"))
	s.later(15 * 24 * 3600)
	s.refresh(someOther, r.get("refresh_token"))
	s.refresh(cron, r.get("refresh_token"))
	s.refresh(testClient, r.get("refresh_token"), "&scope=admin")
	s.section("two mistakes: a good refresh token, whose client may no longer use it, asks for too much")
	s.client("Login:TestSecret", issuer.Client{GrantTypes: []string{oauth.GrantPassword}})
	r = s.login("Login:TestSecret")
	s.refresh("Login:TestSecret", r.get("refresh_token"), "&scope=admin")
	s.client("Login:TestSecret", issuer.Client{GrantTypes: []string{oauth.GrantPassword, oauth.GrantRefreshToken}})
	s.note("which has not spent it")
	second := s.refresh("Login:TestSecret", r.get("refresh_token")).want(200)
	s.refresh("Login:TestSecret", second.get("refresh_token")).want(200)
	s.client("Login:TestSecret", issuer.Client{GrantTypes: []string{oauth.GrantPassword}})
	s.note("nor does a spent one end the grant")
	s.refresh("Login:TestSecret", r.get("refresh_token"))
	s.section("two mistakes of a login: what is missing, the password, permission, scope")
	s.post(cron, "grant_type=password&username=bshaffer")
	s.post(testClient, "grant_type=password&username=bshaffer&password=wrong&scope=admin")
	s.post(cron, login+"&scope=admin")
	s.note("whether a password is right is told here to clients alone that may ask")
	s.post(cron, "grant_type=password&username=bshaffer&password=wrong")
	s.section("two mistakes with codes: the code, its redirect URI, expiry, client, permission")
	s.post(cron, "grant_type=authorization_code")
	s.redeem(cron, "x")
	code := s.code(testClient)
	s.redeem(someOther, code, "&redirect_uri=https://evil.example/")
	s.redeem(cron, code, back)
	s.later(60)
	s.redeem(testClient, code, "&redirect_uri=https://evil.example/")
	s.redeem(someOther, code, back)
}

func bshafferCodes(s *site) {
	s.section("codes: missing, unknown, of another client")
	code := s.code(testClient)
	s.post(testClient, "grant_type=authorization_code")
	s.redeem(testClient, "x")
	s.redeem(someOther, code, back)
	s.section("codes: the redirect URI of the authorization request is missing, or another")
	code = s.code(testClient)
	s.redeem(testClient, code)
	s.redeem(testClient, code, "&redirect_uri=https://evil.example/")
	s.redeem(testClient, code, back)
	s.section("codes: it was left out there, and may be here")
	s.redeem(testClient, s.code(testClient, "redirect_uri", ""))
	s.section("codes: a second use; the grant is over, which that server does not do")
	code = s.code(testClient)
	r := s.redeem(testClient, code, back).want(200)
	s.redeem(testClient, code, back)
	s.refresh(testClient, r.get("refresh_token"))
	s.section("codes: their 30 seconds")
	code = s.code(testClient)
	s.later(30.7)
	s.redeem(testClient, code, back)
	s.section("codes: a second after")
	code = s.code(testClient)
	s.later(31)
	s.redeem(testClient, code, back)
	s.section("codes: PKCE")
	with := []string{"code_challenge", oauth.Challenge(verifier), "code_challenge_method", "S256"}
	code = s.code(nativeApp, with...)
	s.redeem("", code, back, "&client_id=Native")
	s.redeem("", code, back, "&client_id=Native&code_verifier=short")
	s.redeem("", code, back, "&client_id=Native&code_verifier=x"+verifier)
	s.redeem("", code, back, "&client_id=Native&code_verifier="+verifier)
}

func bshafferScope(s *site) {
	s.section("narrowing is for good, and what exceeds it leaves the refresh token good")
	r := s.login(testClient, "&scope=read write")
	r = s.refresh(testClient, r.get("refresh_token"), "&scope=read")
	s.refresh(testClient, r.get("refresh_token"), "&scope=read write")
	s.refresh(testClient, r.get("refresh_token"))
	s.section("a grant without a scope gets none at a refresh, which that server allows")
	r = s.login(testClient)
	s.refresh(testClient, r.get("refresh_token"), "&scope=read")
	s.refresh(testClient, r.get("refresh_token"))
	s.section("codes: less scope, and more")
	code := s.code(testClient, "scope", "read write")
	s.redeem(testClient, code, back, "&scope=admin")
	s.redeem(testClient, code, back, "&scope=write")
}

func bshafferLifetimes(s *site) {
	const fortnight = 14 * 24 * 3600
	s.section("refresh tokens: a second before they expire, as they do, and after")
	r := s.login(testClient)
	s.later(fortnight - 1)
	r = s.refresh(testClient, r.get("refresh_token"))
	s.later(fortnight + 0.7)
	r = s.refresh(testClient, r.get("refresh_token"))
	s.later(fortnight + 1)
	s.refresh(testClient, r.get("refresh_token"))
}

func bshafferRevocation(s *site) {
	revoke := func(as, form string) reply {
		return s.send(http.MethodPost, "/revoke", form, basic(as), formHeader)
	}
	s.section("revocation without a client: unknown tokens, no token, and hints")
	revoke("", "token=x")
	revoke("", "token=x&token_type_hint=access_token")
	revoke("", "token=x&token_type_hint=refresh_token")
	revoke("", "token=x&token_type_hint=id_token")
	revoke("", "token_type_hint=access_token")
	revoke("", "token_type_hint=id_token")
	s.section("revocation of a refresh token, by whoever has it")
	r := s.login(testClient)
	revoke("", "token="+r.get("refresh_token"))
	s.refresh(testClient, r.get("refresh_token"))
	revoke("", "token="+r.get("refresh_token"))
	s.section("revocation of an access token, which leaves the refresh token")
	r = s.login(testClient)
	revoke("", "token="+r.get("access_token")+"&token_type_hint=access_token")
	s.refresh(testClient, r.get("refresh_token"))
	s.section("revocation with the client's secret, a wrong one, by another client, in JSON and at the standard's path")
	revoke(testClient, "token="+s.login(testClient).get("refresh_token"))
	revoke("TestClient:wrong", "token="+s.login(testClient).get("refresh_token"))
	revoke(someOther, "token="+s.login(testClient).get("refresh_token"))
	s.send(http.MethodPost, "/revoke", `{"token":"`+s.login(testClient).get("refresh_token")+`"}`, "Content-Type: application/json")
	s.send(http.MethodPost, "/oauth/revoke", "token="+s.login(testClient).get("refresh_token"), formHeader)
}

// TestBshafferMatrix is what three refreshes give for each pair of
// always_issue_new_refresh_token and unset_refresh_token_after_use.
func TestBshafferMatrix(t *testing.T) {
	t.Parallel()
	additive := []issuer.Compatibility{issuer.UnsafeAdditive}
	for name, options := range map[string]profile.BshafferOptions{
		"default":       {},
		"f-t":           {AlwaysIssueNewRefreshToken: &no, UnsetRefreshTokenAfterUse: &yes},
		"t-t":           {AlwaysIssueNewRefreshToken: &yes, UnsetRefreshTokenAfterUse: &yes},
		"t-alone":       {AlwaysIssueNewRefreshToken: &yes},
		"f-alone":       {AlwaysIssueNewRefreshToken: &no},
		"f-f":           {AlwaysIssueNewRefreshToken: &no, UnsetRefreshTokenAfterUse: &no},
		"t-f":           {AlwaysIssueNewRefreshToken: &yes, UnsetRefreshTokenAfterUse: &no},
		"t-f-permitted": {AlwaysIssueNewRefreshToken: &yes, UnsetRefreshTokenAfterUse: &no, Unsafe: additive},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := bshafferSite(t, options)
			s.section("the refresh token of a login, three times, and then what it gave, five minutes apart")
			first := s.login(testClient)
			var given []string
			for range 3 {
				s.later(300)
				if next := s.refresh(testClient, first.get("refresh_token")).get("refresh_token"); next != "" {
					given = append(given, next)
				}
			}
			for _, token := range given {
				s.later(300)
				s.refresh(testClient, token)
			}
			s.section("the newest refresh token, three times")
			newest := s.login(testClient).get("refresh_token")
			for range 3 {
				s.later(300)
				if next := s.refresh(testClient, newest).get("refresh_token"); next != "" {
					newest = next
				}
			}
			s.section("the same request again at once")
			r := s.login(testClient)
			s.refresh(testClient, r.get("refresh_token"))
			s.later(10)
			s.refresh(testClient, r.get("refresh_token"))
			s.compare("bshaffer-matrix-" + name + ".txt")
		})
	}
}

// TestBshafferOptions is the transcript of the other configuration keys.
func TestBshafferOptions(t *testing.T) {
	t.Parallel()
	never, day, ten := int64(0), int64(86400), int64(10)
	s := bshafferSite(t, profile.BshafferOptions{
		AccessLifetime: &day, RefreshTokenLifetime: &never, AuthCodeLifetime: &ten, UseJWTAccessTokens: true, AlwaysIssueNewRefreshToken: &yes,
		AllowCredentialsInRequestBody: &no, AllowPublicClients: &no, DefaultScope: oauth.Scope{"read", "admin"},
	})
	s.section("use_jwt_access_tokens, access_lifetime and the default scope")
	s.login(testClient)
	s.post(cron, "grant_type=client_credentials")
	s.section("refresh_token_lifetime 0: never expires")
	r := s.login(testClient)
	s.later(20 * 365 * 24 * 3600)
	s.refresh(testClient, r.get("refresh_token"))
	s.section("auth_code_lifetime")
	code := s.code(testClient)
	s.later(11)
	s.redeem(testClient, code, back)
	s.section("allow_credentials_in_request_body: false")
	s.post("", "grant_type=client_credentials&client_id=TestClient&client_secret=TestSecret")
	s.section("allow_public_clients: false")
	s.post("Native:", login)
	s.post("TestClient:", "grant_type=refresh_token")
	s.compare("bshaffer-options.txt")

	s = bshafferSite(t, profile.BshafferOptions{RequireScope: true, EnforcePKCE: true})
	s.section("a scope is required")
	s.post(testClient, login)
	s.post(testClient, "grant_type=client_credentials")
	s.login(testClient, "&scope=read")
	s.compare("bshaffer-required.txt")
}
