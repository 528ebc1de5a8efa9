package main

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// TestServeProfiles starts servers with profiles, and looks at what they say and
// at what paths they answer.
func TestServeProfiles(t *testing.T) {
	const clients = `
  clients:
    - {id: TestClient, secret: TestSecret, grant_types: [password, authorization_code, refresh_token, client_credentials]}
    - {id: other, secret: a-long-secret, grant_types: [password, refresh_token], profile: fos}
  users:
    - {username: bshaffer, password: brent123, info: {companies: [{guid: c1}], name: B}}
`
	for _, test := range []struct{ config, said, warned string }{
		{"issuer:" + clients, "it speaks the profile  standard\nit speaks the profile  fos, at /oauth/v2/token /oauth/v2/auth as well, for 1 (other) of the clients\n", ""},
		{"issuer:\n  profile: fos" + clients, "it speaks the profile  fos, at /oauth/v2/token /oauth/v2/auth as well\n", ""},
		{"issuer:\n  profile: bshaffer\n  unsafe_compatibility: [implicit, redirect_prefix]" + clients, "it speaks the profile  bshaffer, at /token /authorize /revoke as well\n",
			"implicit is on, although it is not safe: access tokens stand in URLs"},
		{"issuer:\n  profile: eventix" + clients, "it speaks the profile  eventix, at /tokens /tokens/authorize as well\n", ""},
	} {
		s := start(t, t.TempDir(), test.config)
		eventually(t, func() bool { return strings.Contains(s.stdout.String(), "next, in another shell") })
		lines := strings.Join(strings.Fields(s.stdout.String()), " ")
		if !strings.Contains(lines, strings.Join(strings.Fields(test.said), " ")) || !strings.Contains(s.stderr.String(), test.warned) {
			t.Errorf("%s\nsaid %s\n%s", test.config, s.stdout, s.stderr)
		}
		s.login() // at the standard path
		for _, own := range ownRequests() {
			status := http.StatusNotFound
			if strings.Contains(test.config, "\n  profile: "+own.profile) || own.client == "other" {
				status = http.StatusOK
			}
			if answer := s.ask(own.method, own.path, own.mediaType, own.body); answer.status != status || status == http.StatusOK && !regexp.MustCompile(own.want).MatchString(answer.body) {
				t.Errorf("%s\n%s %s: status %d, want %d: %s", test.config, own.method, own.path, answer.status, status, answer.body)
			}
		}
		s.stop()
	}
}

// ownRequest is a token request as a client of another server makes it.
type ownRequest struct{ profile, client, method, path, mediaType, body, want string }

func ownRequests() []ownRequest {
	const password = "grant_type=password&username=bshaffer&password=brent123"
	const fos = `^\{"access_token":"[^"]+","expires_in":3600,"token_type":"bearer","scope":null,"refresh_token":"[^"]+"\}$`
	return []ownRequest{
		{"fos", "TestClient", "GET", "/oauth/v2/token?client_id=TestClient&client_secret=TestSecret&" + password, "", "", fos},
		{"fos", "other", "GET", "/oauth/v2/token?client_id=other&client_secret=a-long-secret&" + password, "", "", fos},
		{"bshaffer", "TestClient", "POST", "/token", "application/x-www-form-urlencoded", "client_id=TestClient&client_secret=TestSecret&" + password,
			`^\{"access_token":"[^"]+","expires_in":3600,"token_type":"Bearer","scope":null,"refresh_token":"[^"]+"\}$`},
		{"eventix", "TestClient", "POST", "/tokens", "application/json",
			`{"grant_type":"password","client_id":"TestClient","client_secret":"TestSecret","username":"bshaffer","password":"brent123"}`,
			`^\{"token_type":"Bearer","expires_in":259200,"access_token":"[^"]+","refresh_token":"[^"]+","refresh_token_expires_in":31535999,"info":\{"companies":\[\{"guid":"c1"\}\],"name":"B"\}\}$`},
	}
}

// answered is an answer of the server.
type answered struct {
	status int
	body   string
}

func (s *running) ask(method, path, mediaType, body string) answered {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answered{resp.StatusCode, string(text)}
}
