package web

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evergrant/evergrant/internal/testdb"
	"github.com/evergrant/evergrant/secret"
)

func TestHealth(t *testing.T) {
	s := start(t, false)
	client := s.http.Client()
	wantText := func(path string, status int, text string) {
		t.Helper()
		r := s.get(client, path)
		if r.status != status || !strings.HasPrefix(r.body, text) || !strings.HasPrefix(r.header.Get("Content-Type"), "text/plain") || r.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v %q", path, r.status, r.header, r.body)
		}
	}
	wantText("/healthz", http.StatusOK, "ok\n")
	wantText("/readyz", http.StatusOK, "ready\n")
	s.db.Close()
	wantText("/healthz", http.StatusOK, "ok\n")
	wantText("/readyz", http.StatusServiceUnavailable, "not ready: ")
}

func TestParts(t *testing.T) {
	s := start(t, false)
	client := s.browser()
	wantPage(t, s.get(client, "/"), http.StatusOK, "<h1>Evergrant</h1>", `href=".well-known/oauth-authorization-server"`, `href="oauth/jwks"`, `href="console/"`)
	for path, has := range map[string]string{
		"/metrics": "metric 1", "/.well-known/oauth-authorization-server": s.url, "/oauth/jwks": `"keys"`,
	} {
		if r := s.get(client, path); r.status != http.StatusOK || !strings.Contains(r.body, has) || r.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v %s", path, r.status, r.header, r.body)
		}
	}
	if r := s.get(client, "/nothing"); r.status != http.StatusNotFound {
		t.Errorf("/nothing: status %d", r.status)
	}
}

func TestPartsThatAreLeftOut(t *testing.T) {
	pages, err := NewPages(PagesConfig{PublicURL: "http://127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	site := NewSite(SiteConfig{Issuer: http.NotFoundHandler(), Pages: pages})
	for _, path := range []string{"/metrics", "/v1/stats"} {
		w := httptest.NewRecorder()
		site.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != http.StatusNotFound {
			t.Errorf("%s: status %d", path, w.Code)
		}
	}
}

func TestAccessLog(t *testing.T) {
	s := start(t, false)
	s.get(s.browser(), "/oauth/authorize?client_id=photos&state=hush")
	s.submit(s.browser(), authorizePath("photos"), "action", "sign_in", "username", "alice", "password", "wonderland-hush")
	s.api("GET", "/v1/stats", "")
	log := s.log.String()
	for _, has := range []string{"level=DEBUG msg=request method=GET path=/oauth/authorize status=", "path=/v1/stats status=200 duration=0s address=127.0.0.1"} {
		if !strings.Contains(log, has) {
			t.Errorf("%q is not in the log:\n%s", has, log)
		}
	}
	for _, secretText := range []string{"hush", s.token, "photos&"} {
		if strings.Contains(log, secretText) {
			t.Errorf("%q is in the log", secretText)
		}
	}
}

// startWith starts a server with another handler in the issuer's place.
func startWith(t *testing.T, serve http.HandlerFunc) *server {
	t.Helper()
	s := start(t, false)
	pages, err := NewPages(PagesConfig{PublicURL: s.url, Keys: s.keys, User: s.db.User})
	if err != nil {
		t.Fatal(err)
	}
	s.serve(NewSite(SiteConfig{Issuer: serve, Pages: pages, Ready: s.db.Ready, Log: s.log.logger()}))
	return s
}

func TestPanicBeforeTheAnswer(t *testing.T) {
	s := startWith(t, func(http.ResponseWriter, *http.Request) { panic("the roof is on fire") })
	r := s.get(s.http.Client(), "/anything?password=hush")
	if r.status != http.StatusInternalServerError || r.header.Get("Content-Type") != "application/problem+json" || strings.Contains(r.body, "roof") {
		t.Errorf("%d %v %s", r.status, r.header, r.body)
	}
	log := s.log.String()
	if !strings.Contains(log, "the roof is on fire") || !strings.Contains(log, "site_test.go") || strings.Contains(log, "hush") {
		t.Errorf("log: %s", log)
	}
	if r := s.get(s.http.Client(), "/healthz"); r.status != http.StatusOK {
		t.Errorf("afterwards: %d", r.status)
	}
}

func TestPanicWithinTheAnswer(t *testing.T) {
	for name, cause := range map[string]any{"of the program": "the roof is on fire", "that breaks off": http.ErrAbortHandler} {
		t.Run(name, func(t *testing.T) {
			s := startWith(t, func(w http.ResponseWriter, _ *http.Request) {
				io.WriteString(w, "half")
				http.NewResponseController(w).Flush()
				panic(cause)
			})
			resp, err := s.http.Client().Get(s.url + "/anything")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("read %q to the end %v", body, err)
			}
			if logged := strings.Contains(s.log.String(), "msg=panic"); logged != (cause != http.ErrAbortHandler) {
				t.Errorf("logged: %v", logged)
			}
		})
	}
}

func TestInformationalAnswersAreNotTheAnswer(t *testing.T) {
	s := startWith(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		panic("after the hints")
	})
	if r := s.get(s.http.Client(), "/anything"); r.status != http.StatusInternalServerError {
		t.Errorf("status %d", r.status)
	}
}

// A database that hangs is not ready, and does not hang the check.
func TestReadinessOfHangingDatabase(t *testing.T) {
	pages, err := NewPages(PagesConfig{PublicURL: "http://127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		site := NewSite(SiteConfig{Issuer: http.NotFoundHandler(), Pages: pages, Ready: func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}})
		w := httptest.NewRecorder()
		site.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
		if w.Code != http.StatusServiceUnavailable || !strings.HasPrefix(w.Body.String(), "not ready: ") {
			t.Errorf("%d %q", w.Code, w.Body)
		}
	})
}

// Whatever a browser sends as the cookie, only a seal of ours opens.
func FuzzOpenSignIn(f *testing.F) {
	pages := fuzzPages(f)
	f.Add("")
	f.Add("AAAA")
	f.Add("AAAAAQ" + strings.Repeat("A", 80))
	f.Add("_____w" + strings.Repeat("A", 80))
	f.Fuzz(func(t *testing.T, value string) {
		if state, err := pages.openSignIn(value); err == nil {
			t.Errorf("%q opens as %q", value, state.Username)
		}
	})
}

// fuzzPages are pages with keys of their own.
func fuzzPages(f *testing.F) *Pages {
	f.Helper()
	db, err := testdb.New(f).Open(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { db.Close() })
	ring, err := secret.OpenRing(f.Context(), secret.NewRoot(), db, time.Now, false)
	if err != nil {
		f.Fatal(err)
	}
	pages, err := NewPages(PagesConfig{PublicURL: "http://127.0.0.1", Keys: ring})
	if err != nil {
		f.Fatal(err)
	}
	return pages
}
