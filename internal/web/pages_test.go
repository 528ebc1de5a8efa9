package web

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// signIn signs alice in and returns the browser.
func (s *server) signIn() *http.Client {
	s.t.Helper()
	browser := s.browser()
	r := s.submit(browser, authorizePath("photos"), "action", "sign_in", "username", "alice", "password", "wonderland")
	if r.status != http.StatusSeeOther {
		s.t.Fatalf("sign-in answered %d: %s", r.status, r.body)
	}
	return browser
}

// sentBack is the query with which an answer sends the browser to the client.
func sentBack(t *testing.T, r reply) url.Values {
	t.Helper()
	location, query, _ := strings.Cut(r.header.Get("Location"), "?")
	if r.status != http.StatusSeeOther || location != redirectURI {
		t.Fatalf("status %d to %q, want a redirect to the client: %s", r.status, location, r.body)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

func wantPage(t *testing.T, r reply, status int, has ...string) {
	t.Helper()
	if r.status != status {
		t.Errorf("status %d, want %d", r.status, status)
	}
	for _, part := range has {
		if !strings.Contains(r.body, part) {
			_, main, _ := strings.Cut(r.body, "<main>")
			t.Errorf("%q is not on the page:\n%s", part, main)
		}
	}
}

func TestSignInConsentAndCode(t *testing.T) {
	s := start(t, false)
	browser, path := s.browser(), authorizePath("photos", "scope", "read write plain")
	r := s.get(browser, path)
	wantPage(t, r, http.StatusOK, "<h1>Sign in</h1>", "Holiday &lt;Photos&gt;", `lang="en"`,
		`<label for="username">`, `<label for="password">`, `autocomplete="username"`, `autocomplete="current-password"`)

	r = s.submit(browser, path, "action", "sign_in", "username", "alice", "password", "wonderland")
	_, query, _ := strings.Cut(path, "?")
	if r.status != http.StatusSeeOther || r.header.Get("Location") != "?"+query {
		t.Fatalf("after sign-in: %d to %q, want 303 to the same query", r.status, r.header.Get("Location"))
	}

	r = s.get(browser, path)
	wantPage(t, r, http.StatusOK, "Allow <bdi>Holiday &lt;Photos&gt;</bdi>?", "<bdi>alice</bdi>", "Sign out", "<bdi>photos.example</bdi>",
		`value="read" checked`, "Read your albums", `value="write" checked`, "Change your albums", `value="plain" checked`, "<legend>")

	r = s.submit(browser, path, "action", "allow", "username", "alice", "scope", "read", "scope", "plain", "scope", "admin")
	back := sentBack(t, r)
	if back.Get("state") != "s t&1" || back.Get("iss") != s.url {
		t.Errorf("state %q, iss %q", back.Get("state"), back.Get("iss"))
	}
	r = s.tokenRequest("photos", photosSecret, "grant_type", "authorization_code", "code", back.Get("code"), "redirect_uri", redirectURI, "code_verifier", verifier)
	if r.status != http.StatusOK || r.field(t, "scope") != "read plain" {
		t.Errorf("token answer %d: %s", r.status, r.body)
	}
}

func TestPagesCannotBeFramedOrKept(t *testing.T) {
	s := start(t, false)
	signedIn := s.signIn()
	for name, r := range map[string]reply{
		"sign-in": s.get(s.browser(), authorizePath("photos")),
		"wrong":   s.submit(s.browser(), authorizePath("photos"), "action", "sign_in", "username", "alice", "password", "x"),
		"consent": s.get(signedIn, authorizePath("photos")),
		"error":   s.get(signedIn, "/oauth/authorize?client_id=nobody"),
		"landing": s.get(signedIn, "/"),
	} {
		t.Run(name, func(t *testing.T) {
			policy := r.header.Get("Content-Security-Policy")
			for _, directive := range []string{"default-src 'none'", "style-src 'sha256-", "frame-ancestors 'none'", "base-uri 'none'"} {
				if !strings.Contains(policy, directive) {
					t.Errorf("%q is not in the policy %q", directive, policy)
				}
			}
			if strings.Contains(policy, "form-action") {
				t.Error("form-action would stop the redirect to the client")
			}
			for header, want := range map[string]string{
				"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
				"Referrer-Policy": "same-origin", "Content-Type": "text/html; charset=utf-8",
			} {
				if got := r.header.Get(header); got != want {
					t.Errorf("%s: %q, want %q", header, got, want)
				}
			}
			if strings.Contains(r.body, "<script") || strings.Contains(r.body, "style=") || strings.Contains(r.body, "ZgotmplZ") {
				t.Errorf("the page has something that its policy forbids, or that the template refused:\n%s", r.body)
			}
		})
	}
}

func TestWrongCredentials(t *testing.T) {
	s := start(t, false)
	path := authorizePath("photos")
	wrong := s.submit(s.browser(), path, "action", "sign_in", "username", "alice", "password", "looking-glass")
	wantPage(t, wrong, http.StatusForbidden, `role="alert"`, "The user name or the password is wrong.", `value="alice"`)
	unknown := s.submit(s.browser(), path, "action", "sign_in", "username", "bob<i>", "password", "looking-glass")
	wantPage(t, unknown, http.StatusForbidden, `value="bob&lt;i&gt;"`)
	if strings.ReplaceAll(unknown.body, "bob&lt;i&gt;", "alice") != wrong.body {
		t.Error("the page tells a user who exists from one who does not")
	}
	if strings.Contains(wrong.body, "looking-glass") || len(wrong.header.Values("Set-Cookie")) != 0 {
		t.Error("the page gives the password back, or signs in")
	}
}

func TestThrottledSignIn(t *testing.T) {
	s := start(t, false)
	attempt := func(password string) reply {
		return s.submit(s.browser(), authorizePath("photos"), "action", "sign_in", "username", "alice", "password", password)
	}
	r := attempt("wrong")
	for n := 0; r.status == http.StatusForbidden && n < 100; n++ {
		r = attempt("wrong")
	}
	wantPage(t, r, http.StatusTooManyRequests, `role="alert"`, "There were too many attempts. Wait a")
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if r = attempt("wonderland"); r.status != http.StatusTooManyRequests {
		t.Errorf("the right password while throttled: status %d", r.status)
	}
	s.clock.advance(time.Hour)
	if r = attempt("wonderland"); r.status != http.StatusSeeOther {
		t.Errorf("the right password an hour later: status %d", r.status)
	}
}

func TestConsentAnswers(t *testing.T) {
	s := start(t, false)
	path := authorizePath("photos", "scope", "read write")
	tests := []struct {
		name   string
		form   []string
		status int
		has    []string
	}{
		{"no scope chosen", []string{"action", "allow", "username", "alice"}, http.StatusBadRequest, []string{"Choose at least one, or deny.", `role="alert"`, `value="read">`}},
		{"only a scope that was not asked for", []string{"action", "allow", "username", "alice", "scope", "admin"}, http.StatusBadRequest, []string{"Choose at least one"}},
		{"a page made for another user", []string{"action", "allow", "username", "bob", "scope", "read"}, http.StatusConflict, []string{"Another user is signed in now.", "<bdi>alice</bdi>", `value="read" checked`, `value="write">`}},
		{"a page made for nobody", []string{"action", "allow", "scope", "read"}, http.StatusConflict, []string{"Another user is signed in now."}},
		{"an unknown action", []string{"action", "dance"}, http.StatusBadRequest, []string{"does not understand"}},
	}
	browser := s.signIn()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { wantPage(t, s.submit(browser, path, tt.form...), tt.status, tt.has...) })
	}
	grants, err := s.db.Grants(t.Context(), issuer.GrantFilter{})
	if err != nil || len(grants) != 0 {
		t.Errorf("%d grants were made, error %v", len(grants), err)
	}
	if back := sentBack(t, s.submit(browser, path, "action", "deny")); back.Get("error") != oauth.AccessDenied || back.Get("code") != "" {
		t.Errorf("denied: sent back with %v", back)
	}
	if back := sentBack(t, s.submit(s.browser(), path, "action", "deny")); back.Get("error") != oauth.AccessDenied {
		t.Errorf("cancelled before signing in: sent back with %v", back)
	}
}

func TestNothingToChooseFrom(t *testing.T) {
	s := start(t, false)
	alice, err := s.db.User(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := NewPages(PagesConfig{PublicURL: s.url, Keys: s.keys, User: s.db.User, Now: s.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	s.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/signed-in" {
			pages.keepSignIn(w, alice)
			return
		}
		ask := &issuer.Authorization{Client: issuer.Client{ID: "photos"}, RedirectURI: redirectURI}
		if answer, decided := pages.Ask(w, r, ask); decided {
			fmt.Fprintf(w, "decided: %+v", answer)
		}
	}))
	browser := s.browser()
	s.get(browser, "/signed-in")
	wantPage(t, s.get(browser, "/"), http.StatusOK, "asks to know who you are", `value="allow"`)
	r := s.submit(browser, "/", "action", "allow", "username", "alice")
	wantPage(t, r, http.StatusOK, "decided: {Subject:alice Scope: Denied:false}")
}

func TestTrustedClientIsNotAsked(t *testing.T) {
	s := start(t, false)
	s.saveClient(issuer.Client{
		ID: "own", Trusted: true, Secrets: []secret.Verifier{secret.NewVerifier(photosSecret)},
		RedirectURIs: []string{redirectURI}, Scopes: oauth.Scope{"read", "write"},
	})
	wantPage(t, s.get(s.browser(), authorizePath("own")), http.StatusOK, "<h1>Sign in</h1>", "<bdi>own</bdi>")
	browser := s.signIn()
	back := sentBack(t, s.get(browser, authorizePath("own")))
	r := s.tokenRequest("own", photosSecret, "grant_type", "authorization_code", "code", back.Get("code"), "redirect_uri", redirectURI, "code_verifier", verifier)
	if r.status != http.StatusOK || r.field(t, "scope") != "read write" {
		t.Errorf("token answer %d: %s", r.status, r.body)
	}
}

func TestSignOut(t *testing.T) {
	s := start(t, false)
	browser := s.signIn()
	r := s.submit(browser, authorizePath("photos"), "action", "sign_out")
	if r.status != http.StatusSeeOther {
		t.Fatalf("status %d", r.status)
	}
	wantPage(t, s.get(browser, authorizePath("photos")), http.StatusOK, "<h1>Sign in</h1>")
}

func TestSignInEnds(t *testing.T) {
	s := start(t, false)
	tests := []struct {
		name string
		do   func(browser *http.Client) // what happens after alice signed in
	}{
		{"after twelve hours", func(*http.Client) { s.clock.advance(12 * time.Hour) }},
		{"with a new password", func(*http.Client) { s.saveUser("alice", "wonderland") }},
		{"with a damaged cookie", func(browser *http.Client) {
			s.alterCookie(browser, func(value string) string { return value[:len(value)-2] + "AA" })
		}},
		{"with a truncated cookie", func(browser *http.Client) {
			s.alterCookie(browser, func(string) string { return "AAAA" })
		}},
		{"with a cookie of another key", func(browser *http.Client) {
			s.alterCookie(browser, func(value string) string { return "AAAACQ" + value[6:] })
		}},
		{"with the key", func(browser *http.Client) {
			s.mustAPI(http.StatusCreated, "POST", "/v1/keys", `{"lead":"0"}`)
			wantPage(t, s.get(browser, authorizePath("photos")), http.StatusOK, "Allow <bdi>")
			s.mustAPI(http.StatusNoContent, "DELETE", "/v1/keys/1", "")
		}},
		{"with the user", func(*http.Client) {
			if err := s.admin.DeleteUser(t.Context(), operator, "alice"); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			browser := s.signIn()
			tt.do(browser)
			wantPage(t, s.get(browser, authorizePath("photos")), http.StatusOK, "<h1>Sign in</h1>")
			wantPage(t, s.submit(browser, authorizePath("photos"), "action", "allow", "username", "alice", "scope", "read"),
				http.StatusForbidden, "You are no longer signed in.")
		})
	}
}

// alterCookie replaces the value of the sign-in cookie.
func (s *server) alterCookie(browser *http.Client, alter func(string) string) {
	s.t.Helper()
	at, err := url.Parse(s.url)
	if err != nil {
		s.t.Fatal(err)
	}
	cookies := browser.Jar.Cookies(at)
	if len(cookies) != 1 {
		s.t.Fatalf("%d cookies", len(cookies))
	}
	cookies[0].Value = alter(cookies[0].Value)
	if browser.Jar, err = cookiejar.New(nil); err != nil {
		s.t.Fatal(err)
	}
	browser.Jar.SetCookies(at, cookies)
}

func TestSignInCookie(t *testing.T) {
	for name, tls := range map[string]bool{"http": false, "https": true} {
		t.Run(name, func(t *testing.T) {
			s := start(t, tls)
			var values []string
			for range 2 {
				r := s.submit(s.browser(), authorizePath("photos"), "action", "sign_in", "username", "alice", "password", "wonderland")
				cookie, err := http.ParseSetCookie(r.header.Get("Set-Cookie"))
				if err != nil {
					t.Fatal(err)
				}
				if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" || cookie.Domain != "" ||
					cookie.Secure != tls || strings.HasPrefix(cookie.Name, "__Host-") != tls || cookie.MaxAge != 12*60*60 {
					t.Errorf("cookie %s", strings.ReplaceAll(cookie.Raw, cookie.Value, "..."))
				}
				values = append(values, cookie.Value)
			}
			if values[0] == values[1] {
				t.Error("two sign-ins have the same cookie")
			}
			wantPage(t, s.get(s.signIn(), authorizePath("photos")), http.StatusOK, "Allow <bdi>")
		})
	}
}

func TestFormsOfOtherSites(t *testing.T) {
	s := start(t, false)
	tests := []struct {
		name, site, origin string
		refused            bool
	}{
		{"same origin", "same-origin", s.url, false},
		{"typed by hand", "none", "", false},
		{"not a browser", "", "", false},
		{"an older browser", "", s.url, false},
		{"another site", "cross-site", "https://evil.example", true},
		{"a neighbour", "same-site", "https://evil.photos.example", true},
		{"an older browser on another site", "", "https://evil.example", true},
		{"a sandboxed frame", "cross-site", "null", true},
		{"an older browser's sandboxed frame", "", "null", true},
	}
	for _, tt := range tests {
		for _, action := range []string{"sign_in", "sign_out", "allow", "deny"} {
			t.Run(tt.name+"/"+action, func(t *testing.T) {
				browser := s.signIn()
				req := s.request("POST", authorizePath("photos"), form("action", action, "username", "alice", "password", "wonderland", "scope", "read").Encode())
				req.Header.Set("Content-Type", oauth.FormType)
				if tt.site != "" {
					req.Header.Set("Sec-Fetch-Site", tt.site)
				}
				if tt.origin != "" {
					req.Header.Set("Origin", tt.origin)
				}
				r := s.do(browser, req)
				if tt.refused {
					wantPage(t, r, http.StatusForbidden, "sent by another site")
				} else if r.status != http.StatusSeeOther {
					t.Errorf("status %d: %s", r.status, r.body)
				}
				if tt.refused && (r.header.Get("Location") != "" || len(r.header.Values("Set-Cookie")) > 0) {
					t.Error("something was done")
				}
			})
		}
	}
}

func TestErrorPages(t *testing.T) {
	s := start(t, false)
	for name, path := range map[string]string{
		"no client":          "/oauth/authorize",
		"unknown client":     authorizePath("nobody"),
		"other redirect URI": authorizePath("photos", "redirect_uri", "https://evil.example/"),
		"twice":              authorizePath("photos") + "&state=2",
	} {
		t.Run(name, func(t *testing.T) {
			wantPage(t, s.get(s.browser(), path), http.StatusBadRequest, "<h1>This request cannot be served</h1>", `role="alert"`, "start again there")
		})
	}
}

func TestPagesWithoutDatabase(t *testing.T) {
	s := start(t, false)
	browser := s.signIn()
	s.get(browser, authorizePath("photos")) // the server has the client at hand from now on
	s.db.Close()
	for name, r := range map[string]reply{
		"page":    s.get(browser, authorizePath("photos")),
		"sign in": s.submit(s.browser(), authorizePath("photos"), "action", "sign_in", "username", "alice", "password", "wonderland"),
		"allow":   s.submit(browser, authorizePath("photos"), "action", "allow", "username", "alice", "scope", "read"),
	} {
		t.Run(name, func(t *testing.T) {
			wantPage(t, r, http.StatusServiceUnavailable, "<h1>Something went wrong</h1>")
			if r.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		})
	}
}

func TestDestination(t *testing.T) {
	for uri, want := range map[string]string{
		"https://photos.example/callback":    "photos.example",
		"https://photos.example:8443/?a=b":   "photos.example:8443",
		"http://127.0.0.1:4711/callback":     "an application on this computer (127.0.0.1:4711)",
		"com.example.photos:/callback":       "the application com.example.photos on this device",
		"https://photos.example.evil.test/x": "photos.example.evil.test",
		"::":                                 "an unknown place",
	} {
		if got := destination(uri); got != want {
			t.Errorf("destination(%q) = %q, want %q", uri, got, want)
		}
	}
}

func TestRoughly(t *testing.T) {
	for seconds, want := range map[int]string{
		0: "a second", 1: "a second", 2: "2 seconds", 59: "59 seconds", 60: "a minute", 61: "2 minutes", 600: "10 minutes",
	} {
		if got := roughly(seconds); got != want {
			t.Errorf("roughly(%d) = %q, want %q", seconds, got, want)
		}
	}
}

func TestBadPublicURL(t *testing.T) {
	for _, public := range []string{"", "::", "auth.example"} {
		if _, err := NewPages(PagesConfig{PublicURL: public}); err == nil {
			t.Errorf("NewPages accepts %q", public)
		}
	}
}
