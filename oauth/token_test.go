package oauth_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/oauth"
)

func TestTokenResponseJSON(t *testing.T) {
	tests := []struct {
		name     string
		response oauth.TokenResponse
		want     string
	}{
		{"without refresh token", oauth.TokenResponse{AccessToken: "ega_x", TokenType: oauth.Bearer, ExpiresIn: 3600, Scope: "read"},
			`{"access_token":"ega_x","token_type":"Bearer","expires_in":3600,"scope":"read"}`},
		{"empty scope and no time left are told", oauth.TokenResponse{AccessToken: "ega_x", TokenType: oauth.Bearer},
			`{"access_token":"ega_x","token_type":"Bearer","expires_in":0}`},
		{"refresh token that expires", oauth.TokenResponse{AccessToken: "a", TokenType: oauth.Bearer, ExpiresIn: 1, RefreshToken: "egr_y", Scope: "read write", RefreshTokenExpiresIn: 1209600},
			`{"access_token":"a","token_type":"Bearer","expires_in":1,"refresh_token":"egr_y","scope":"read write","refresh_token_expires_in":1209600}`},
		{"names of the draft", oauth.TokenResponse{AccessToken: "a", TokenType: oauth.Bearer, RefreshToken: "egr_y", RefreshTokenTimeout: 60, AuthorizationExpiresIn: 90},
			`{"access_token":"a","token_type":"Bearer","expires_in":0,"refresh_token":"egr_y","refresh_token_timeout":60,"authorization_expires_in":90}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := json.Marshal(tt.response)
			if err != nil || string(got) != tt.want {
				t.Errorf("got %s, %v\nwant %s", got, err, tt.want)
			}
			var back oauth.TokenResponse
			if err := json.Unmarshal(got, &back); err != nil || back != tt.response {
				t.Errorf("read back: %s, %v", back.AccessToken, err)
			}
		})
	}
}

func TestTokenResponsePrintsWithoutTokens(t *testing.T) {
	response := oauth.TokenResponse{AccessToken: "ega_planted1", TokenType: oauth.Bearer, ExpiresIn: 3600, RefreshToken: "egr_planted2", Scope: "read write"}
	if got, want := fmt.Sprintf("%+v", response), `token response (scope "read write", expires in 3600 s)`; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	checkPrintings(t, response, "planted")
	checkPrintings(t, &response, "planted")
	for how, text := range printings(hold(response)) {
		if how != "slog JSON" && strings.Contains(text, "planted") { // in a struct that is logged as JSON it has its JSON form
			t.Errorf("%s of a struct shows a token: %s", how, text)
		}
	}
}

func TestIntrospectionJSON(t *testing.T) {
	tests := []struct {
		name   string
		answer oauth.Introspection
		want   string
	}{
		{"not active", oauth.Introspection{}, `{"active":false}`},
		{"active", oauth.Introspection{
			Active: true, Scope: "read", ClientID: "TestClient", Username: "bshaffer", TokenType: oauth.Bearer,
			ExpiresAt: 20, IssuedAt: 10, NotBefore: 11, Subject: "bshaffer", Audience: []string{"https://api.example"}, Issuer: "https://as.example", ID: "j",
		}, `{"active":true,"scope":"read","client_id":"TestClient","username":"bshaffer","token_type":"Bearer","exp":20,"iat":10,"nbf":11,` +
			`"sub":"bshaffer","aud":["https://api.example"],"iss":"https://as.example","jti":"j"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := json.Marshal(tt.answer); err != nil || string(got) != tt.want {
				t.Errorf("got %s, %v\nwant %s", got, err, tt.want)
			}
		})
	}
}

func TestMetadataJSON(t *testing.T) {
	least, err := json.Marshal(oauth.Metadata{Issuer: "https://as.example", ResponseTypesSupported: []string{}})
	if want := `{"issuer":"https://as.example","response_types_supported":[]}`; err != nil || string(least) != want {
		t.Errorf("got %s, %v\nwant %s", least, err, want)
	}
	// The names of RFC 8414 section 2 and RFC 9207 section 3, as a client reads them.
	const document = `{
		"issuer": "https://as.example",
		"authorization_endpoint": "1", "token_endpoint": "2", "jwks_uri": "3", "registration_endpoint": "4",
		"scopes_supported": ["5"], "response_types_supported": ["6"], "response_modes_supported": ["7"], "grant_types_supported": ["8"],
		"token_endpoint_auth_methods_supported": ["9"], "service_documentation": "10",
		"revocation_endpoint": "11", "revocation_endpoint_auth_methods_supported": ["12"],
		"introspection_endpoint": "13", "introspection_endpoint_auth_methods_supported": ["14"],
		"code_challenge_methods_supported": ["15"], "authorization_response_iss_parameter_supported": true,
		"of_an_extension": [1]
	}`
	want := oauth.Metadata{
		Issuer: "https://as.example", AuthorizationEndpoint: "1", TokenEndpoint: "2", JWKSURI: "3", RegistrationEndpoint: "4",
		ScopesSupported: []string{"5"}, ResponseTypesSupported: []string{"6"}, ResponseModesSupported: []string{"7"}, GrantTypesSupported: []string{"8"},
		TokenEndpointAuthMethods: []string{"9"}, ServiceDocumentation: "10",
		RevocationEndpoint: "11", RevocationEndpointAuthMethods: []string{"12"},
		IntrospectionEndpoint: "13", IntrospectionEndpointAuthMethods: []string{"14"},
		CodeChallengeMethodsSupported: []string{"15"}, AuthorizationResponseIssSupported: true,
	}
	var got oauth.Metadata
	if err := json.Unmarshal([]byte(document), &got); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

func TestWireNames(t *testing.T) {
	for got, want := range map[string]string{
		oauth.GrantAuthorizationCode: "authorization_code",
		oauth.GrantClientCredentials: "client_credentials",
		oauth.GrantPassword:          "password",
		oauth.GrantRefreshToken:      "refresh_token",
		oauth.AuthBasic:              "client_secret_basic",
		oauth.AuthPost:               "client_secret_post",
		oauth.AuthNone:               "none",
		oauth.Bearer:                 "Bearer",
		oauth.HintAccessToken:        "access_token",
		oauth.FormType:               "application/x-www-form-urlencoded",
		oauth.S256:                   "S256",
	} {
		if got != want {
			t.Errorf("%q is not %q", got, want)
		}
	}
}
