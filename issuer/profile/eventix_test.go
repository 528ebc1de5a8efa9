package profile_test

import (
	"net/http"
	"testing"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/issuer/profile"
	"github.com/evergrant/evergrant/oauth"
)

const shop = "shop-identifier:shop-secret"

func eventixSite(t *testing.T) *site {
	s := newSite(t, profile.NameEventix, profile.Options{})
	s.client(shop, issuer.Client{GrantTypes: all})
	s.client("box-office", issuer.Client{GrantTypes: []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken}})
	s.user(owner, `{"name": "B. Shaffer", "companies": [{"guid": "1a2b/3c", "name": "Théâtre"}]}`)
	return s
}

// TestEventix is the transcript of the token endpoint of an API like Eventix's.
func TestEventix(t *testing.T) {
	t.Parallel()
	s := eventixSite(t)
	const credentials = `"client_id":"shop-identifier","client_secret":"shop-secret"`
	s.section("a code in JSON, and its refresh token")
	r := s.json("", `{"grant_type":"authorization_code",`+credentials+`,"redirect_uri":"`+callback+`","code":"`+s.code(shop)+`"}`)
	s.json("", `{"grant_type":"refresh_token","refresh_token":"`+r.get("refresh_token")+`",`+credentials+`}`)
	s.section("the same as forms")
	r = s.post("", "grant_type=authorization_code&client_id=shop-identifier&client_secret=shop-secret"+back+"&code="+s.code(shop))
	s.refresh(shop, r.get("refresh_token"))
	s.section("numbers, truth values and null in JSON; an Authorization header of another kind")
	s.send(http.MethodPost, "/tokens", `{"grant_type":"client_credentials",`+credentials+`,"redirect_uri":null,"company":4711,"remember":true}`,
		"Authorization: Bearer an-old-access-token", "Content-Type: application/json")
	s.section("scopes are not looked at")
	r = s.login(shop, "&scope=admin")
	s.refresh(shop, r.get("refresh_token"), "&scope=%22nonsense")
	s.section("the mistake of its documentation: multipart/form-data")
	s.send(http.MethodPost, "/tokens", multipart("grant_type", "refresh_token", "refresh_token", "x", "client_id", "shop-identifier", "client_secret", "shop-secret"), multipartHeader)
	s.send(http.MethodPost, "/tokens", "grant_type=refresh_token", "Content-Type: text/plain")
	s.section("nested values, duplicates, and what is no object")
	s.json("", `{"grant_type":"refresh_token","refresh_token":{"token":"x"}}`)
	s.json("", `{"grant_type":"refresh_token","refresh_token":"x","refresh_token":"y"}`)
	s.json("", `"grant_type"`)
	s.section("refresh tokens are good once, and their next answer is given again for a minute")
	r = s.login(shop)
	s.refresh(shop, r.get("refresh_token"))
	s.later(60)
	s.refresh(shop, r.get("refresh_token"))
	s.later(1)
	s.refresh(shop, r.get("refresh_token"))
	s.section("365 days, less a second, and the second")
	r = s.login(shop)
	s.later(365*24*3600 - 1)
	r = s.refresh(shop, r.get("refresh_token"))
	s.later(365 * 24 * 3600)
	s.refresh(shop, r.get("refresh_token"))
	s.section("client_credentials: nobody's info")
	s.post(shop, "grant_type=client_credentials")
	s.section("a resource owner without info")
	s.user(owner, "")
	s.login(shop)
	s.section("errors are the standard's")
	s.post("", "grant_type=client_credentials")
	s.post("shop-identifier:wrong", "grant_type=client_credentials")
	s.post(shop, "grant_type=nonsense")
	s.post(shop, "grant_type=refresh_token")
	s.refresh(shop, "x")
	s.post(shop, "grant_type=password&username=nobody&password=x")
	s.send(http.MethodGet, "/tokens?grant_type=client_credentials", "", basic(shop))
	s.compare("eventix.txt")
}
