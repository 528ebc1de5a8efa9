package web

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/issuer/profile"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// ownPaths are where clients of a profile send resource owners.
var ownPaths = map[string]string{profile.NameFOS: "/oauth/v2/auth", profile.NameBshaffer: "/authorize", profile.NameEventix: "/tokens/authorize"}

// moved registers a client of a profile, and is its authorization request at the
// profile's own path.
func (s *server) moved(name, redirectURI string) string {
	s.t.Helper()
	s.saveClient(issuer.Client{
		ID: name, Name: "Moved", Secrets: []secret.Verifier{secret.NewVerifier(photosSecret)}, Profile: name,
		RedirectURIs: []string{redirectURI}, Scopes: oauth.Scope{"read", "write"},
	})
	return ownPaths[name] + strings.TrimPrefix(authorizePath(name, "redirect_uri", redirectURI, "scope", "read write"), issuer.AuthorizePath)
}

// TestPagesAtOwnPaths walks through sign-in and consent where a profile has its
// authorization endpoint: each form and redirect stays at that path.
func TestPagesAtOwnPaths(t *testing.T) {
	s := start(t, false)
	for name := range ownPaths {
		t.Run(name, func(t *testing.T) {
			path := s.moved(name, redirectURI)
			_, query, _ := strings.Cut(path, "?")
			browser := s.browser()
			r := s.get(browser, path)
			wantPage(t, r, http.StatusOK, "<h1>Sign in</h1>", "<bdi>Moved</bdi>")
			if strings.Contains(r.body, "action=\"") {
				t.Error("the form goes to another URL than the page's")
			}
			r = s.submit(browser, path, "action", "sign_in", "username", "alice", "password", "wrong")
			wantPage(t, r, http.StatusForbidden, "The user name or the password is wrong.")
			r = s.submit(browser, path, "action", "sign_in", "username", "alice", "password", "wonderland")
			if r.status != http.StatusSeeOther || r.header.Get("Location") != "?"+query {
				t.Fatalf("after sign-in: %d to %q", r.status, r.header.Get("Location"))
			}
			wantPage(t, s.get(browser, path), http.StatusOK, "Allow <bdi>Moved</bdi>?", "<bdi>alice</bdi>")

			r = s.submit(browser, path, "action", "deny", "username", "alice")
			location, err := url.Parse(r.header.Get("Location"))
			if err != nil || r.status != http.StatusFound || location.Query().Get("error") != oauth.AccessDenied || location.Query().Has("iss") {
				t.Errorf("denied: %d to %s", r.status, location)
			}
			r = s.submit(browser, path, "action", "allow", "username", "alice", "scope", "read", "scope", "write")
			if location, err = url.Parse(r.header.Get("Location")); err != nil || r.status != http.StatusFound {
				t.Fatalf("allowed: %d to %s", r.status, location)
			}
			answer := s.tokenRequest(name, photosSecret, "grant_type", "authorization_code", "code", location.Query().Get("code"), "redirect_uri", redirectURI, "code_verifier", verifier)
			if answer.status != http.StatusOK || answer.field(t, "access_token") == nil {
				t.Errorf("token answer %d: %s", answer.status, answer.body)
			}

			r = s.submit(browser, path, "action", "sign_out")
			if r.status != http.StatusSeeOther || r.header.Get("Location") != "?"+query {
				t.Errorf("after sign-out: %d to %q", r.status, r.header.Get("Location"))
			}
			wantPage(t, s.get(browser, path), http.StatusOK, "<h1>Sign in</h1>")
			r = s.submit(browser, ownPaths[name]+"?client_id=nobody", "action", "sign_in", "username", "alice", "password", "wonderland")
			if r.status != http.StatusNotFound {
				t.Errorf("a form of nobody's client: %d", r.status)
			}
		})
	}
}

// TestConsentToNothing: a request without scope asks for none in some profiles,
// and can be allowed.
func TestConsentToNothing(t *testing.T) {
	s := start(t, false)
	path := strings.Replace(s.moved(profile.NameFOS, redirectURI), "scope=read+write", "", 1)
	browser := s.signIn()
	wantPage(t, s.get(browser, path), http.StatusOK, "asks to know who you are, and nothing else")
	r := s.submit(browser, path, "action", "allow", "username", "alice")
	location, err := url.Parse(r.header.Get("Location"))
	if err != nil || !location.Query().Has("code") {
		t.Errorf("%d to %s", r.status, location)
	}
}

func TestBrowserAtOwnPath(t *testing.T) {
	s := start(t, false)
	app, answers := application(t)
	path := s.moved(profile.NameFOS, app.URL+"/callback")
	browser := chromium(t)

	do(t, browser, chromedp.Navigate(s.url+path))
	wantFocus(t, browser, "username")
	do(t, browser, chromedp.SendKeys("#username", "alice"))
	load(t, browser, chromedp.SendKeys("#password", "wrong\n"))
	if at := see(t, browser, chromedp.Location()); at != s.url+path {
		t.Errorf("after a wrong password at %s", at)
	}
	load(t, browser, chromedp.SendKeys("#password", "wonderland\n"))
	if name, at := see(t, browser, chromedp.Text(".who strong")), see(t, browser, chromedp.Location()); name != "alice" || at != s.url+path {
		t.Errorf("signed in as %q, at %s", name, at)
	}
	load(t, browser, chromedp.Click(`button[value="allow"]`))
	select {
	case answer := <-answers:
		if answer.Get("state") != "s t&1" || answer.Get("code") == "" || answer.Has("iss") {
			t.Errorf("sent back with %v", answer)
		}
	case <-browser.Done():
		t.Fatal("the browser did not come back to the client")
	}
}
