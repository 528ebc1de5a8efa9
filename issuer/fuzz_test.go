package issuer_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
)

func FuzzParseGrantID(f *testing.F) {
	for _, seed := range []string{"", "00", strings.Repeat("0f", 16), strings.Repeat("0F", 16), strings.Repeat("g", 32), strings.Repeat("0", 31)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := issuer.ParseGrantID(text)
		if err != nil {
			return
		}
		if !strings.EqualFold(id.String(), text) {
			t.Errorf("%q is read as %s", text, id)
		}
		var back issuer.GrantID
		marshalled, err := id.MarshalText()
		if err != nil || back.UnmarshalText(marshalled) != nil || back != id {
			t.Errorf("%s came back as %s", id, back)
		}
	})
}

// Placeholders of fuzzed requests stand for something genuine, which a fuzzer
// could not guess.
func (e *site) fill(text string) string {
	for placeholder, make := range map[string]func() string{
		"$refresh": func() string { return e.login(app).RefreshToken },
		"$access":  func() string { return e.login(app).AccessToken },
		"$code":    func() string { return e.code(app) },
		"$secret":  func() string { return app.secret },
		"$basic":   func() string { return oauth.BasicHeader(app.id, app.secret) },
	} {
		if strings.Contains(text, placeholder) {
			text = strings.ReplaceAll(text, placeholder, make())
		}
	}
	return text
}

// FuzzTokenEndpoint sends anything to the endpoints that clients call. Whatever
// it is, the answer is a proper one and the fault is never the server's.
func FuzzTokenEndpoint(f *testing.F) {
	e := newSite(f, setup{})
	for _, body := range []string{
		"grant_type=client_credentials", "grant_type=refresh_token&refresh_token=$refresh", "grant_type=refresh_token&refresh_token=$refresh&scope=read",
		"grant_type=password&username=" + owner + "&password=x", "grant_type=authorization_code&code=$code&code_verifier=" + verifier + "&redirect_uri=" + url.QueryEscape(callback),
		"token=$access", "token=$refresh&token_type_hint=x", "grant_type=refresh_token&refresh_token=egr_" + strings.Repeat("%0A", 60), "token=ega_" + strings.Repeat("%0D", 60),
		"grant_type=client_credentials&client_id=app&client_secret=$secret", "client_id=public&grant_type=refresh_token", "", "&&&", "a=%", "=", "grant_type=\x00", `{"grant_type":"password"}`,
	} {
		for path := range direct {
			f.Add(uint8(path), "POST", body, oauth.FormType, "$basic", "")
		}
	}
	f.Add(uint8(0), "GET", "", "", "", "grant_type=password")
	f.Add(uint8(0), "POST", "grant_type=client_credentials", oauth.FormType+";charset=utf-8", "Basic ***", "client_secret=x")
	f.Add(uint8(0), "POST", "grant_type=client_credentials", "application/json", "Bearer $access", "%zz")
	f.Fuzz(func(t *testing.T, path uint8, method, body, contentType, authorization, query string) {
		e.t = t
		req := httptest.NewRequest(http.MethodPost, direct[int(path)%len(direct)], strings.NewReader(e.fill(body)))
		req.Method, req.URL.RawQuery = method, query
		req.Header["Content-Type"], req.Header["Authorization"] = []string{contentType}, []string{e.fill(authorization)}
		if authorization == "" {
			req.Header.Del("Authorization")
		}
		w := httptest.NewRecorder()
		e.server.ServeHTTP(w, req)
		r := reply{w.Code, w.Header(), w.Body.String()}
		if r.status >= 500 || r.status < 200 {
			t.Fatalf("status %d: %s", r.status, r.body)
		}
		if r.status >= 400 && r.status != http.StatusNotFound && r.status != http.StatusPermanentRedirect {
			var told oauth.Error
			if err := json.Unmarshal(w.Body.Bytes(), &told); err != nil || told.Code == "" || !legalText.MatchString(told.Description) {
				t.Errorf("status %d: %s", r.status, r.body)
			}
		}
		if r.status == 200 && r.header.Get("Cache-Control") != "no-store" {
			t.Error("an answer may be cached")
		}
	})
}

// FuzzAuthorizationEndpoint opens the authorization page with any query: the
// browser is sent to nowhere but a registered redirect URI.
func FuzzAuthorizationEndpoint(f *testing.F) {
	e := newSite(f, setup{})
	good := e.authorizationRequest(app).Encode()
	for _, seed := range []string{
		good, good + "&state=x", e.authorizationRequest(public, "redirect_uri", "http://127.0.0.1:1/callback").Encode(), e.authorizationRequest(app, "response_type", "token").Encode(),
		e.authorizationRequest(app, "scope", "read admin").Encode(), e.authorizationRequest(app, "redirect_uri", "").Encode(), e.authorizationRequest(app, "state", "\r\nSet-Cookie: a=b").Encode(),
		"client_id=app&redirect_uri=//evil.example", "client_id=public&redirect_uri=http://127.0.0.1:80@evil.example/callback", "", "%", ";", "client_id=app", "client_id=app&client_id=other",
	} {
		f.Add(seed, "")
		f.Add("", seed)
	}
	f.Fuzz(func(t *testing.T, query, form string) {
		req := httptest.NewRequest(http.MethodGet, issuer.AuthorizePath, nil)
		if form != "" {
			req = httptest.NewRequest(http.MethodPost, issuer.AuthorizePath, strings.NewReader(form))
			req.Header.Set("Content-Type", oauth.FormType)
		}
		req.URL.RawQuery = query
		w := httptest.NewRecorder()
		e.server.ServeHTTP(w, req)
		location := w.Header().Get("Location")
		if w.Code >= 500 || (w.Code == http.StatusSeeOther) != (location != "") {
			t.Fatalf("status %d, Location %q: %s", w.Code, location, w.Body)
		}
		if location == "" {
			return
		}
		to, err := url.Parse(location)
		if err != nil || strings.ContainsAny(location, "\r\n") {
			t.Fatalf("Location %q: %v", location, err)
		}
		base := to.Scheme + "://" + to.Host + to.Path
		switch loopbackPort := to.Scheme == "http" && to.Hostname() == "127.0.0.1" && to.Path == "/callback"; {
		case base == e.url+issuer.AuthorizePath: // a posted request, to be asked again
		case base != callback && !loopbackPort:
			t.Errorf("the browser was sent to %s", location)
		case to.Query().Get("iss") != e.url || to.Query().Has("code") == to.Query().Has("error"):
			t.Errorf("answer %s", location)
		}
	})
}
