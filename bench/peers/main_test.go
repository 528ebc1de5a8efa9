package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

var testCredentials = credentials{clientSecret: "a secret", password: "a password"}

func start(t *testing.T, peer string) string {
	t.Helper()
	handler, err := newPeer(peer, testCredentials)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// post sends a form, with Basic authentication of the service client when
// asked, and answers the status and the JSON object.
func post(t *testing.T, address, authorization string, form url.Values) (int, map[string]any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "POST", address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	switch {
	case authorization == "basic":
		request.SetBasicAuth(serviceClient, testCredentials.clientSecret)
	case authorization != "":
		request.Header.Set("Authorization", authorization)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer map[string]any
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, answer
}

func password(t *testing.T, base string) map[string]any {
	t.Helper()
	status, answer := post(t, base+"/oauth/token", "", url.Values{
		"grant_type": {"password"}, "client_id": {publicClient}, "scope": {scope},
		"username": {username}, "password": {testCredentials.password},
	})
	if status != 200 || answer["refresh_token"] == nil || answer["access_token"] == nil {
		t.Fatalf("password grant: %d %v", status, answer)
	}
	return answer
}

func TestRefreshRotatesAndRefusesTheOldToken(t *testing.T) {
	for _, peer := range []string{"go-oauth2", "fosite"} {
		t.Run(peer, func(t *testing.T) {
			base := start(t, peer)
			first, _ := password(t, base)["refresh_token"].(string)
			form := url.Values{"grant_type": {"refresh_token"}, "client_id": {publicClient}, "refresh_token": {first}}
			status, answer := post(t, base+"/oauth/token", "", form)
			if second := answer["refresh_token"]; status != 200 || second == nil || second == first {
				t.Fatalf("refresh: %d %v", status, answer)
			}
			if status, answer := post(t, base+"/oauth/token", "", form); status == 200 {
				t.Fatalf("the old refresh token still works: %v", answer)
			}
		})
	}
}

func TestPasswordAndSecretAreChecked(t *testing.T) {
	for _, peer := range []string{"go-oauth2", "fosite"} {
		t.Run(peer, func(t *testing.T) {
			base := start(t, peer)
			if status, answer := post(t, base+"/oauth/token", "", url.Values{
				"grant_type": {"password"}, "client_id": {publicClient}, "username": {username}, "password": {"wrong"},
			}); status == 200 {
				t.Errorf("wrong password: %v", answer)
			}
			if status, answer := post(t, base+"/oauth/token", "Basic c2VydmljZTp3cm9uZw==", url.Values{
				"grant_type": {"client_credentials"},
			}); status == 200 {
				t.Errorf("wrong secret: %v", answer)
			}
			status, answer := post(t, base+"/oauth/token", "basic", url.Values{"grant_type": {"client_credentials"}, "scope": {scope}})
			if status != 200 || answer["access_token"] == nil {
				t.Errorf("client_credentials: %d %v", status, answer)
			}
		})
	}
}

func TestFositeIntrospects(t *testing.T) {
	base := start(t, "fosite")
	_, service := post(t, base+"/oauth/token", "basic", url.Values{"grant_type": {"client_credentials"}, "scope": {scope}})
	access, _ := password(t, base)["access_token"].(string)
	for name, authorization := range map[string]string{"basic": "basic", "bearer": "Bearer " + service["access_token"].(string)} {
		t.Run(name, func(t *testing.T) {
			status, answer := post(t, base+"/oauth/introspect", authorization, url.Values{"token": {access}})
			if status != 200 || answer["active"] != true {
				t.Fatalf("introspection: %d %v", status, answer)
			}
		})
	}
	if status, answer := post(t, base+"/oauth/introspect", "", url.Values{"token": {access}}); status == 200 {
		t.Fatalf("introspection without authentication: %v", answer)
	}
}

func TestEchoAnswersLikeATokenEndpoint(t *testing.T) {
	base := start(t, "echo")
	status, answer := post(t, base+"/oauth/token", "", url.Values{"grant_type": {"refresh_token"}})
	if status != 200 || answer["refresh_token"] == nil {
		t.Fatalf("echo: %d %v", status, answer)
	}
	response, err := http.PostForm(base+"/oauth/token", url.Values{})
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 400 {
		t.Fatalf("echo without grant_type: %d", response.StatusCode)
	}
}

// The first line names the address, /readyz answers on it, and the server
// ends with its context.
func TestRunPrintsItsAddressAndStops(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"-peer", "echo", "-listen", "127.0.0.1:0"}, testCredentials, writer)
	}()
	line, err := bufio.NewReader(reader).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Get("http://" + strings.TrimSpace(line) + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 200 {
		t.Fatalf("/readyz answered %d", response.StatusCode)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestRunRefusesAnUnknownPeer(t *testing.T) {
	if err := run(t.Context(), []string{"-peer", "nobody"}, testCredentials, io.Discard); err == nil {
		t.Fatal("no error")
	}
}
