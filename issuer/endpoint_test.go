package issuer_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
)

// direct are the endpoints that clients call directly.
var direct = []string{issuer.TokenPath, issuer.RevokePath, issuer.IntrospectPath}

// TestErrorAnswers has every error of RFC 6749 section 5.2, with its status.
func TestErrorAnswers(t *testing.T) {
	e := newSite(t, setup{})
	machine := e.register(party{"machine", "a s3cret that a person chose"}, issuer.Client{GrantTypes: []string{oauth.GrantClientCredentials}, Scopes: oauth.Scope{"read"}})
	tokens := e.login(app)
	basic := oauth.BasicHeader(app.id, app.secret)
	for name, c := range map[string]struct {
		body, authorization string
		status              int
		code                string
	}{
		"no grant type":               {"", basic, 400, oauth.InvalidRequest},
		"empty grant type":            {"grant_type=", basic, 400, oauth.InvalidRequest},
		"duplicate grant type":        {"grant_type=password&grant_type=password", basic, 400, oauth.InvalidRequest},
		"duplicate unknown parameter": {"grant_type=client_credentials&x=1&x=2", basic, 400, oauth.InvalidRequest},
		"duplicate, one empty":        {"grant_type=client_credentials&scope=&scope=read", basic, 400, oauth.InvalidRequest},
		"duplicate refresh token":     {"grant_type=refresh_token&refresh_token=a&refresh_token=a", basic, 400, oauth.InvalidRequest},
		"illegal name twice":          {"grant_type=client_credentials&%22%5C%C3%BC%0A=1&%22%5C%C3%BC%0A=2", basic, 400, oauth.InvalidRequest},
		"bad percent-encoding":        {"grant_type=%zz", basic, 400, oauth.InvalidRequest},
		"semicolons":                  {"grant_type=client_credentials;scope=read", basic, 400, oauth.InvalidRequest},
		"NUL":                         {"grant_type=client_credentials&scope=re%00ad", basic, 400, oauth.InvalidRequest},
		"not UTF-8":                   {"grant_type=client_credentials&scope=%ff", basic, 400, oauth.InvalidRequest},
		"unknown grant type":          {"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code", basic, 400, oauth.UnsupportedGrantType},
		"implicit":                    {"grant_type=implicit", basic, 400, oauth.UnsupportedGrantType},
		"case of the grant type":      {"grant_type=PASSWORD", basic, 400, oauth.UnsupportedGrantType},
		"unknown one, no client":      {"grant_type=implicit", "", 401, oauth.InvalidClient},
		"no client":                   {"grant_type=client_credentials", "", 401, oauth.InvalidClient},
		"wrong secret":                {"grant_type=client_credentials", oauth.BasicHeader(app.id, "wrong"), 401, oauth.InvalidClient},
		"unknown client":              {"grant_type=client_credentials", oauth.BasicHeader("unknown", "wrong"), 401, oauth.InvalidClient},
		"not registered for it":       {"grant_type=password&username=u&password=p", oauth.BasicHeader(machine.id, machine.secret), 400, oauth.UnauthorizedClient},
		"public, not registered":      {"grant_type=client_credentials&client_id=public", "", 400, oauth.UnauthorizedClient},
		"unknown scope":               {"grant_type=client_credentials&scope=admin", basic, 400, oauth.InvalidScope},
		"another client's scope":      {"grant_type=client_credentials&scope=write", oauth.BasicHeader(machine.id, machine.secret), 400, oauth.InvalidScope},
		"scope syntax":                {"grant_type=client_credentials&scope=re%5Cad", basic, 400, oauth.InvalidScope},
		"scope of another alphabet":   {"grant_type=client_credentials&scope=l%C3%A4sen", basic, 400, oauth.InvalidScope},
		"scope of a login":            {"grant_type=password&username=u&password=p&scope=admin", basic, 400, oauth.InvalidScope},
		"scope syntax of a login":     {"grant_type=password&username=u&password=p&scope=%22", basic, 400, oauth.InvalidScope},
		"no username":                 {"grant_type=password&password=p", basic, 400, oauth.InvalidRequest},
		"no password":                 {"grant_type=password&username=u", basic, 400, oauth.InvalidRequest},
		"wrong password":              {"grant_type=password&username=u&password=p", basic, 400, oauth.InvalidGrant},
		"no refresh token":            {"grant_type=refresh_token", basic, 400, oauth.InvalidRequest},
		"no such refresh token":       {"grant_type=refresh_token&refresh_token=x", basic, 400, oauth.InvalidGrant},
		"no code":                     {"grant_type=authorization_code", basic, 400, oauth.InvalidRequest},
		"no such code":                {"grant_type=authorization_code&code=x&code_verifier=" + verifier, basic, 400, oauth.InvalidGrant},
	} {
		t.Run(name, func(t *testing.T) {
			req := e.request(issuer.TokenPath, c.body)
			if c.authorization != "" {
				req.Header.Set("Authorization", c.authorization)
			}
			r := e.do(req)
			r.wantError(t, c.status, c.code)
			if want := `Basic realm="` + e.url + `", charset="UTF-8"`; c.status == 401 && r.header.Get("WWW-Authenticate") != want {
				t.Errorf("WWW-Authenticate %q, want %q", r.header.Get("WWW-Authenticate"), want)
			}
			var fields map[string]string
			if err := json.Unmarshal([]byte(r.body), &fields); err != nil || len(fields) != 2 {
				t.Errorf("answer %s", r.body)
			}
		})
	}
	e.refreshed(app, tokens.RefreshToken)
}

// TestHarmlessRequests: what RFC 6749 section 3.2 has a server accept.
func TestHarmlessRequests(t *testing.T) {
	e := newSite(t, setup{})
	for name, c := range map[string]struct{ path, body, contentType string }{
		"plain":                  {"", "grant_type=client_credentials", ""},
		"unknown parameters":     {"", "grant_type=client_credentials&unheard_of=1", ""},
		"empty parameters":       {"", "grant_type=client_credentials&scope=&refresh_token=&client_secret=&client_id=", ""},
		"the client id as well":  {"", "grant_type=client_credentials&client_id=app", ""},
		"resource indicators":    {"", "grant_type=client_credentials&resource=https%3A%2F%2Fa&resource=https%3A%2F%2Fb", ""},
		"charset":                {"", "grant_type=client_credentials", "application/x-www-form-urlencoded; charset=UTF-8"},
		"media type in capitals": {"", "grant_type=client_credentials", "Application/X-WWW-Form-UrlEncoded"},
		"a query of no concern":  {"?tenant=7", "grant_type=client_credentials", ""},
		"an empty query":         {"?", "grant_type=client_credentials", ""},
	} {
		t.Run(name, func(t *testing.T) {
			req := e.request(issuer.TokenPath+c.path, c.body)
			req.Header.Set("Authorization", oauth.BasicHeader(app.id, app.secret))
			if c.contentType != "" {
				req.Header.Set("Content-Type", c.contentType)
			}
			if tokens := e.do(req).tokens(t); tokens.RefreshToken != "" || tokens.Scope != "read write" {
				t.Errorf("answer %+v", tokens)
			}
		})
	}
}

func TestOnlyPOST(t *testing.T) {
	e := newSite(t, setup{})
	for _, path := range direct {
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodPatch} {
			req := e.request(path, "grant_type=client_credentials")
			req.Method = method
			r := e.do(req)
			r.wantError(t, 405, oauth.InvalidRequest)
			if r.header.Get("Allow") != "POST" {
				t.Errorf("%s %s: Allow %q", method, path, r.header.Get("Allow"))
			}
		}
		head := e.request(path, "")
		head.Method, head.Body = http.MethodHead, nil
		if r := e.do(head); r.status != 405 || r.body != "" {
			t.Errorf("HEAD %s: %d %q", path, r.status, r.body)
		}
	}
}

// TestBrowsers: clients in browsers may call the endpoints from other origins.
func TestBrowsers(t *testing.T) {
	e := newSite(t, setup{})
	for _, path := range direct {
		req := e.request(path, "")
		req.Method = http.MethodOptions
		req.Header.Set("Origin", "https://app.example")
		req.Header.Set("Access-Control-Request-Method", "POST")
		r := e.do(req)
		if r.status != 204 || r.header.Get("Access-Control-Allow-Origin") != "*" || r.header.Get("Access-Control-Allow-Methods") != "POST" || r.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: %d %v", path, r.status, r.header)
		}
		if r := e.do(e.request(path, "")); r.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: an error that a browser cannot read", path)
		}
	}
}

func TestContentTypes(t *testing.T) {
	e := newSite(t, setup{})
	for _, path := range direct {
		for _, contentType := range []string{"", "application/json", "multipart/form-data; boundary=x", "text/plain", "application/x-www-form-urlencoded;;", "nonsense/"} {
			req := e.request(path, `{"grant_type":"client_credentials"}`)
			req.Header.Set("Authorization", oauth.BasicHeader(app.id, app.secret))
			req.Header.Del("Content-Type")
			if contentType != "" {
				req.Header.Set("Content-Type", contentType)
			}
			r := e.do(req)
			if description := r.wantError(t, 400, oauth.InvalidRequest); !strings.Contains(description, "application/x-www-form-urlencoded") {
				t.Errorf("%s does not say what to send: %s", contentType, description)
			}
		}
	}
}

// TestSecretsInTheURL covers RFC 6749 section 2.3.1 and RFC 7662 section 4.
func TestSecretsInTheURL(t *testing.T) {
	e := newSite(t, setup{})
	tokens := e.login(app)
	for _, path := range direct {
		for name, value := range map[string]string{
			"client_secret": app.secret, "refresh_token": tokens.RefreshToken, "token": tokens.AccessToken, "code": "x", "code_verifier": verifier,
			"username": owner, "password": ownerPassword, "grant_type": "client_credentials", "client_id": app.id,
		} {
			req := e.request(path+"?"+formOf(name, value).Encode(), "grant_type=client_credentials&token=x")
			req.Header.Set("Authorization", oauth.BasicHeader(app.id, app.secret))
			if description := e.do(req).wantError(t, 400, oauth.InvalidRequest); !strings.Contains(description, name) || strings.Contains(description, value) && name != "grant_type" {
				t.Errorf("%s in the URL of %s: %s", name, path, description)
			}
		}
	}
	e.refreshed(app, tokens.RefreshToken)
}

func TestLargeBodies(t *testing.T) {
	e := newSite(t, setup{})
	body := "grant_type=client_credentials&x="
	for size, status := range map[int]int{64 << 10: 200, 64<<10 + 1: 413, 1 << 20: 413} {
		for _, chunked := range []bool{false, true} {
			req := e.request(issuer.TokenPath, body+strings.Repeat("x", size-len(body)))
			req.Header.Set("Authorization", oauth.BasicHeader(app.id, app.secret))
			if chunked {
				req.ContentLength = -1
			}
			r := e.do(req)
			if status == 413 {
				r.wantError(t, 413, oauth.InvalidRequest)
			} else {
				r.tokens(t)
			}
		}
	}
}

// TestBrokenBodies sends less than was announced.
func TestBrokenBodies(t *testing.T) {
	e := newSite(t, setup{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(e.url, "http://"))
	e.must(err)
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: issuer.test\r\nContent-Type: %s\r\nContent-Length: 100\r\n\r\ngrant_type=client", issuer.TokenPath, oauth.FormType)
	e.must(conn.(*net.TCPConn).CloseWrite())
	answer, err := io.ReadAll(conn)
	e.must(err)
	if !strings.HasPrefix(string(answer), "HTTP/1.1 400") || !strings.Contains(string(answer), oauth.InvalidRequest) {
		t.Errorf("answer %q", answer)
	}
}

// TestScopeWithManyTokens: a request of the largest size is answered quickly.
func TestScopeWithManyTokens(t *testing.T) {
	e := newSite(t, setup{})
	var scope strings.Builder
	for i := range 8000 {
		fmt.Fprintf(&scope, "s%d ", i)
	}
	e.post(issuer.TokenPath, app, "grant_type", "client_credentials", "scope", scope.String()).wantError(t, 400, oauth.InvalidScope)
}

// TestClientCredentials covers RFC 6749 section 4.4: no owner, no refresh token,
// no row.
func TestClientCredentials(t *testing.T) {
	e := newSite(t, setup{})
	jwt := e.variant("jwt", issuer.Policy{AccessTokenLifetime: issuer.Lifetime(90_000_000_000)})
	for as, lifetime := range map[party]int64{app: 3600, jwt: 90} {
		r := e.post(issuer.TokenPath, as, "grant_type", "client_credentials", "scope", "write")
		tokens := r.tokens(t)
		if tokens.RefreshToken != "" || strings.Contains(r.body, "refresh") || tokens.ExpiresIn != lifetime || tokens.Scope != "write" {
			t.Errorf("answer %s", r.body)
		}
		if seen := e.wantAlive("access token", tokens.AccessToken); seen.Subject != as.id || seen.ClientID != as.id || seen.Username != "" {
			t.Errorf("introspection %+v", seen)
		}
	}
	if n := len(e.grants()); n != 0 {
		t.Errorf("%d rows", n)
	}
}
