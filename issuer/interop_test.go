package issuer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// The clients in these tests are foreign and unmodified.

// endpoint is what golang.org/x/oauth2 needs to know of the server.
func (e *site) endpoint(style oauth2.AuthStyle) oauth2.Endpoint {
	return oauth2.Endpoint{AuthURL: e.url + issuer.AuthorizePath, TokenURL: e.url + issuer.TokenPath, AuthStyle: style}
}

// inTheBrowser follows an authorization URL and returns what comes back.
func (e *site) inTheBrowser(authURL string) url.Values {
	e.t.Helper()
	return e.get(strings.TrimPrefix(authURL, e.url)).carried(e.t)
}

// expire makes x/oauth2, which goes by the clock on the wall, refresh.
func expire(token *oauth2.Token) *oauth2.Token {
	expired := *token
	expired.Expiry = time.Now().Add(-time.Minute)
	return &expired
}

func TestGoOAuth2Client(t *testing.T) {
	t.Parallel()
	e := newSite(t, setup{})
	special := e.register(party{"client with space", "a s3cret/with+special%chars"}, issuer.Client{
		RedirectURIs: []string{callback},
		GrantTypes:   []string{oauth.GrantAuthorizationCode, oauth.GrantPassword, oauth.GrantRefreshToken, oauth.GrantClientCredentials},
	})
	for name, style := range map[string]oauth2.AuthStyle{"detected": oauth2.AuthStyleAutoDetect, "header": oauth2.AuthStyleInHeader, "params": oauth2.AuthStyleInParams} {
		for _, as := range []party{app, special} {
			t.Run(name+"/"+as.id, func(t *testing.T) {
				ctx := context.WithValue(e.ctx(), oauth2.HTTPClient, e.web)
				config := oauth2.Config{ClientID: as.id, ClientSecret: as.secret, Endpoint: e.endpoint(style), RedirectURL: callback, Scopes: []string{"read", "write"}}
				token, err := config.PasswordCredentialsToken(ctx, owner, ownerPassword)
				e.must(err)
				e.refreshByGo(ctx, t, &config, token)

				verifier := oauth2.GenerateVerifier()
				answer := e.inTheBrowser(config.AuthCodeURL("some state", oauth2.S256ChallengeOption(verifier)))
				if answer.Get("state") != "some state" || answer.Get("iss") != e.url {
					t.Errorf("answer %v", answer)
				}
				token, err = config.Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(verifier))
				e.must(err)
				e.refreshByGo(ctx, t, &config, token)

				machine := clientcredentials.Config{ClientID: as.id, ClientSecret: as.secret, TokenURL: e.url + issuer.TokenPath, Scopes: []string{"read"}, AuthStyle: style}
				token, err = machine.Token(ctx)
				e.must(err)
				if token.RefreshToken != "" || token.Extra("scope") != "read" {
					t.Errorf("token with scope %v", token.Extra("scope"))
				}
				e.wantAlive("access token", token.AccessToken)
			})
		}
	}
}

// refreshByGo lets x/oauth2 refresh a token twice, each time on its own.
func (e *site) refreshByGo(ctx context.Context, t *testing.T, config *oauth2.Config, token *oauth2.Token) {
	t.Helper()
	if left := time.Until(token.Expiry); left < 50*time.Minute || token.Type() != "Bearer" {
		t.Errorf("%s token expires in %s", token.Type(), left)
	}
	for range 2 {
		next, err := config.TokenSource(ctx, expire(token)).Token()
		e.must(err)
		if next.RefreshToken == token.RefreshToken || next.AccessToken == token.AccessToken {
			t.Error("nothing was refreshed")
		}
		e.wantAlive("access token", next.AccessToken)
		token = next
	}
}

// TestGoOAuth2PublicClient: the library sends an empty secret by Basic.
func TestGoOAuth2PublicClient(t *testing.T) {
	e := newSite(t, setup{})
	ctx := context.WithValue(e.ctx(), oauth2.HTTPClient, e.web)
	config := oauth2.Config{ClientID: public.id, Endpoint: e.endpoint(oauth2.AuthStyleAutoDetect), RedirectURL: "http://127.0.0.1:49152/callback"}
	verifier := oauth2.GenerateVerifier()
	answer := e.inTheBrowser(config.AuthCodeURL("x", oauth2.S256ChallengeOption(verifier)))
	token, err := config.Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(verifier))
	e.must(err)
	e.refreshByGo(ctx, t, &config, token)
}

// TestGoOAuth2Errors: the library understands what it is told.
func TestGoOAuth2Errors(t *testing.T) {
	e := newSite(t, setup{})
	ctx := context.WithValue(e.ctx(), oauth2.HTTPClient, e.web)
	config := oauth2.Config{ClientID: app.id, ClientSecret: app.secret, Endpoint: e.endpoint(oauth2.AuthStyleInHeader)}
	_, err := config.PasswordCredentialsToken(ctx, owner, "wrong")
	failed, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok || failed.ErrorCode != oauth.InvalidGrant || failed.ErrorDescription == "" || failed.Response.StatusCode != http.StatusBadRequest {
		t.Errorf("error %v", err)
	}
	config.ClientSecret = other.secret
	_, err = config.PasswordCredentialsToken(ctx, owner, ownerPassword)
	failed, ok = errors.AsType[*oauth2.RetrieveError](err)
	if !ok || failed.ErrorCode != oauth.InvalidClient || failed.Response.StatusCode != http.StatusUnauthorized {
		t.Errorf("error %v", err)
	}
}

// curl runs the real curl and returns what it prints.
func (e *site) curl(args ...string) string {
	e.t.Helper()
	path, err := exec.LookPath("curl")
	if err != nil {
		e.t.Fatal("curl is missing, and this test is about it: install it, for example with `apt-get install curl`")
	}
	cmd := exec.CommandContext(e.ctx(), path, append([]string{"--silent", "--show-error", "--max-time", "20", "--noproxy", "*"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		e.t.Fatalf("curl: %v: %s", err, stderr.String())
	}
	return stdout.String()
}

// curlTokens runs curl for an answer with tokens.
func (e *site) curlTokens(args ...string) (tokens oauth.TokenResponse) {
	e.t.Helper()
	answer := e.curl(append(args, e.url+issuer.TokenPath)...)
	if err := json.Unmarshal([]byte(answer), &tokens); err != nil || tokens.AccessToken == "" {
		e.t.Fatalf("curl was answered %s", answer)
	}
	return tokens
}

// TestCurl makes the requests of the documentation as they stand there.
func TestCurl(t *testing.T) {
	t.Parallel()
	e := newSite(t, setup{})
	user := app.id + ":" + app.secret
	tokens := e.curlTokens("-u", user, "-d", "grant_type=password", "-d", "username="+owner, "-d", "password="+ownerPassword)
	tokens = e.curlTokens("-u", user, "-d", "grant_type=refresh_token", "-d", "refresh_token="+tokens.RefreshToken)
	narrow := e.curlTokens("-d", "client_id="+app.id, "-d", "client_secret="+app.secret, "-d", "grant_type=refresh_token", "-d", "refresh_token="+tokens.RefreshToken, "--data-urlencode", "scope=read")
	if narrow.Scope != "read" {
		t.Errorf("scope %q", narrow.Scope)
	}
	machine := e.curlTokens("-u", user, "-d", "grant_type=client_credentials")
	if machine.RefreshToken != "" {
		t.Error("client_credentials gave a refresh token")
	}
	if seen := e.curl("-u", user, "-d", "token="+machine.AccessToken, e.url+issuer.IntrospectPath); !strings.Contains(seen, `"active":true`) {
		t.Errorf("introspection: %s", seen)
	}

	// Code and PKCE: curl is the browser too, and keeps its cookies in a file.
	jar := filepath.Join(t.TempDir(), "cookies")
	location := e.curl("-b", jar, "-c", jar, "-o", "/dev/null", "-w", "%{redirect_url}", e.url+issuer.AuthorizePath+"?"+e.authorizationRequest(app).Encode())
	to, err := url.Parse(location)
	e.must(err)
	tokens = e.curlTokens("-u", user, "-d", "grant_type=authorization_code", "-d", "code="+to.Query().Get("code"), "-d", "code_verifier="+verifier, "--data-urlencode", "redirect_uri="+callback)
	tokens = e.curlTokens("-u", user, "-d", "grant_type=refresh_token", "-d", "refresh_token="+tokens.RefreshToken)
	if status := e.curl("-u", user, "-d", "token="+tokens.RefreshToken, "-w", "%{http_code}", e.url+issuer.RevokePath); status != "200" {
		t.Errorf("revocation: %s", status)
	}
	answer := e.curl("-i", "-u", user, "-d", "grant_type=refresh_token", "-d", "refresh_token="+tokens.RefreshToken, e.url+issuer.TokenPath)
	if !strings.HasPrefix(answer, "HTTP/1.1 400 ") || !strings.Contains(answer, "invalid_grant") {
		t.Errorf("after the revocation: %s", answer)
	}
}
