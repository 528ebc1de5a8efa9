package providertest_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
)

// TestClientAuthentication sends a client's proof in every way to servers that
// accept some of them.
func TestClientAuthentication(t *testing.T) {
	const id, secret = "client:1", "se cret+%2"
	header := func(user, password string) string {
		req := &http.Request{Header: http.Header{}}
		req.SetBasicAuth(user, password)
		return req.Header.Get("Authorization")
	}
	body, basic, raw := provider.AuthBody, provider.AuthBasic, provider.AuthBasicRaw
	user, named, none := provider.AuthSecretAsUser, provider.AuthID, provider.AuthNone
	tests := []struct {
		name     string
		accepted []provider.ClientAuth
		header   string
		pairs    []string
		ok       bool
	}{
		{"body by default", nil, "", []string{"client_id", id, "client_secret", secret}, true},
		{"Basic by default", nil, oauth.BasicHeader(id, secret), nil, true},
		{"nothing by default", nil, "", nil, false},
		{"id alone by default", nil, "", []string{"client_id", id}, false},
		{"body refused", []provider.ClientAuth{basic}, "", []string{"client_id", id, "client_secret", secret}, false},
		{"Basic refused", []provider.ClientAuth{body}, oauth.BasicHeader(id, secret), nil, false},
		{"body, wrong secret", []provider.ClientAuth{body}, "", []string{"client_id", id, "client_secret", "x"}, false},
		{"body, wrong id", []provider.ClientAuth{body}, "", []string{"client_id", "x", "client_secret", secret}, false},
		{"Basic, wrong secret", []provider.ClientAuth{basic}, oauth.BasicHeader(id, "x"), nil, false},
		{"Basic, wrong id", []provider.ClientAuth{basic}, oauth.BasicHeader("x", secret), nil, false},
		{"Basic encoded where raw is wanted", []provider.ClientAuth{raw}, oauth.BasicHeader(id, secret), nil, false},
		{"not Basic", nil, "Bearer x", nil, false},
		{"raw cannot say a colon", []provider.ClientAuth{raw}, header(id, secret), nil, false},
		{"secret as user", []provider.ClientAuth{user}, header(secret, ""), nil, true},
		{"secret as user, wrong", []provider.ClientAuth{user}, header("x", ""), nil, false},
		{"secret as user, with a password", []provider.ClientAuth{user}, header(secret, "x"), nil, false},
		{"id alone", []provider.ClientAuth{named}, "", []string{"client_id", id}, true},
		{"wrong id alone", []provider.ClientAuth{named}, "", []string{"client_id", "x"}, false},
		{"no id", []provider.ClientAuth{named}, "", nil, false},
		{"nothing", []provider.ClientAuth{none}, "", nil, true},
		{"id or body", []provider.ClientAuth{named, body}, "", []string{"client_id", id, "client_secret", "x"}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := providertest.Plain()
			d.ClientAuth = test.accepted
			b := serveWith(t, d, providertest.Options{ClientID: id, ClientSecret: secret})
			req := b.request("POST", providertest.TokenPath, oauth.FormType, form(append(test.pairs, "grant_type", "client_credentials")...))
			if test.header != "" {
				req.Header.Set("Authorization", test.header)
			}
			if g := b.do(req); (g.status == 200) != test.ok || !test.ok && g.text("error") != "invalid_client" {
				t.Errorf("%d %s", g.status, g.body)
			}
		})
	}
	d := providertest.Plain()
	d.ClientAuth = []provider.ClientAuth{raw}
	b := serveWith(t, d, providertest.Options{ClientID: "plain-id", ClientSecret: secret})
	req := b.request("POST", providertest.TokenPath, oauth.FormType, "grant_type=client_credentials", "Authorization", header("plain-id", secret))
	b.want(b.do(req), 200, "token_type", "Bearer")
}

func TestUnreadableRequests(t *testing.T) {
	credentials := form("client_id", "sim-client", "client_secret", "sim-secret", "grant_type", "client_credentials")
	all := []provider.Body{provider.BodyForm, provider.BodyJSON, provider.BodyMultipart, provider.BodyQuery}
	tests := []struct {
		name, method, path, kind, body string
		says                           string // "" where it is read
	}{
		{"form", "POST", "/token", oauth.FormType, credentials, ""},
		{"form with a charset", "POST", "/token", oauth.FormType + "; charset=UTF-8", credentials, ""},
		{"path below", "POST", "/token/refresh", oauth.FormType, credentials, ""},
		{"query", "POST", "/token?" + credentials, "", "", ""},
		{"GET", "GET", "/token?" + credentials, "", "", ""},
		{"JSON", "POST", "/token", "application/json", `{"client_id":"sim-client","client_secret":"sim-secret","grant_type":"client_credentials","n":1,"b":true,"z":null}`, ""},
		{"twice", "POST", "/token", oauth.FormType, credentials + "&scope=a&scope=b", "The parameter scope is given more than once."},
		{"bad escape", "POST", "/token", oauth.FormType, credentials + "&x=%zz", "The parameters are not form-encoded."},
		{"no JSON", "POST", "/token", "application/json", "x=1", "The body is not a JSON object."},
		{"JSON array", "POST", "/token", "application/json", "[]", "The body is not a JSON object."},
		{"JSON within", "POST", "/token", "application/json", `{"client_id":{}}`, "The parameter client_id is not a text."},
		{"no parts", "POST", "/token", "multipart/form-data; boundary=b", "x", "The parts of the body cannot be read."},
		{"other type", "POST", "/token", "text/xml", "<x/>", `The content type "text/xml" is not read.`},
		{"no type", "POST", "/token", "", credentials, `The content type "" is not read.`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := providertest.Plain()
			d.Bodies = all
			b := serve(t, d)
			g := b.do(b.request(test.method, test.path, test.kind, test.body))
			if test.says == "" {
				b.want(g, 200, "token_type", "Bearer")
				return
			}
			b.want(g, 400, "error", "invalid_request")
			b.want(g, 400, "error_description", test.says)
		})
	}
	b := serve(t, providertest.Plain())
	b.want(b.do(b.request("GET", "/token?"+credentials, "", "")), 400, "error_description", "The method must be POST.")
}

func TestBodyThatBreaksOff(t *testing.T) {
	sim := providertest.New(providertest.Plain(), providertest.Options{})
	req := httptest.NewRequest("POST", "https://sim.example/token", &brokenReader{})
	req.Header.Set("Content-Type", oauth.FormType)
	w := httptest.NewRecorder()
	sim.ServeHTTP(w, req)
	if w.Code != 400 || !strings.Contains(w.Body.String(), "The body broke off.") {
		t.Errorf("answered %d %s", w.Code, w.Body)
	}
	// Behind TLS the simulator calls itself by https.
	w = httptest.NewRecorder()
	sim.ServeHTTP(w, httptest.NewRequest("GET", "https://sim.example/.well-known/openid-configuration", nil))
	if !strings.Contains(w.Body.String(), `"issuer":"https://sim.example"`) {
		t.Errorf("the metadata is %s", w.Body)
	}
}

// brokenReader fails as a connection that closes does.
type brokenReader struct{}

func (*brokenReader) Read([]byte) (int, error) { return 0, http.ErrBodyReadAfterClose }

// FuzzRequest sends anything to a dialect: whatever it is, it is answered, and
// not with a token.
func FuzzRequest(f *testing.F) {
	f.Add(byte(0), "/token", oauth.FormType, "", []byte("grant_type=refresh_token&refresh_token=x&client_id=sim-client"))
	f.Add(byte(2), "/token", "application/json", "Basic eDp5", []byte(`{"grant_type":"authorization_code","code":["x"]}`))
	f.Add(byte(2), "/token", "multipart/form-data; boundary=b", "", []byte("--b\r\nContent-Disposition: form-data; name=\"code\"\r\n\r\nx\r\n--b--\r\n"))
	f.Add(byte(10), "/authorize?client_id=sim-client&redirect_uri=https://a.example/%3Fx&response_type=code", "", "", []byte(nil))
	f.Add(byte(1), "/user/create", "application/json", "Bearer x", []byte(`{"external_user_id":1}`))
	f.Add(byte(1), "/authorization-grant", oauth.FormType, "Bearer x", []byte(`user_id=id-alice`))
	f.Add(byte(14), "/revoke", oauth.FormType, "", []byte("token=x"))
	f.Add(byte(5), "/api/../token/%2e", "", "Bearer", []byte("x"))
	dialects := providertest.Dialects()
	f.Fuzz(func(t *testing.T, dialect byte, target, kind, authorization string, body []byte) {
		sim := providertest.New(dialects[int(dialect)%len(dialects)], providertest.Options{})
		sim.Connect("alice")
		for _, method := range []string{"GET", "POST"} {
			req, err := http.NewRequest(method, "http://sim.example/", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if at, err := req.URL.Parse(target); err == nil {
				req.URL = at
			}
			req.Header.Set("Content-Type", kind)
			req.Header.Set("Authorization", authorization)
			w := httptest.NewRecorder()
			sim.ServeHTTP(w, req)
			known := bytes.Contains(body, []byte("sim")) || strings.Contains(target+authorization+kind, "sim")
			if w.Code >= 500 || !known && strings.Contains(w.Body.String(), "sim_") {
				t.Errorf("%s %s answered %d %s", method, target, w.Code, w.Body)
			}
		}
	})
}
