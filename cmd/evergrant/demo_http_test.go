package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/oauth"
)

func TestQuoteIsOneWordOfAShell(t *testing.T) {
	for _, text := range []string{
		"plain", "a b", "", "it's", "''", `"$HOME"`, "`id`", "a\nb", `back\slash`, "*", "~", "#", "a=b&c=d", "!x", "é…", "-d", "$(id)", "a;b|c>d",
	} {
		printed, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+quote(text)).Output()
		if err != nil || string(printed) != text {
			t.Errorf("%q became the word %s, which a shell reads as %q, %v", text, quote(text), printed, err)
		}
	}
	if quote("http://127.0.0.1:8080/oauth/token") != "http://127.0.0.1:8080/oauth/token" {
		t.Error("a URL without query needs no quotes")
	}
}

func TestCurlLines(t *testing.T) {
	post := func(client string, pairs ...string) *http.Request {
		req, err := form(t.Context(), "http://host/oauth/token", client, pairs...)
		if err != nil {
			t.Fatal(err)
		}
		return req
	}
	get, _ := http.NewRequest(http.MethodGet, "http://host/?a=b&c=d", nil)
	get.AddCookie(&http.Cookie{Name: "name", Value: "value"})
	get.Header.Set("Origin", "http://host")
	empty, _ := http.NewRequest(http.MethodPost, "http://host/v1/purge", nil)
	bearer, _ := http.NewRequest(http.MethodDelete, "http://host/v1/keys/1", nil)
	bearer.Header.Set("Authorization", "Bearer token")

	for _, test := range []struct {
		name, want string
		req        *http.Request
	}{
		{"a form in the order of its pairs", "curl -u a:b http://host/oauth/token -d 'grant_type=password&username=u&password=p'",
			post("a:b", "grant_type", "password", "username", "u", "password", "p")},
		{"values are encoded", "curl -u 'a:it'\\''s' http://host/oauth/token -d 'scope=read+write&x=%26%3D%27'", post("a:it's", "scope", "read write", "x", "&='")},
		{"without client", "curl http://host/oauth/token -d 'a=b'", post("", "a", "b")},
		{"cookies, headers and a query", "curl -b 'name=value' -H 'Origin: http://host' 'http://host/?a=b&c=d'", get},
		{"another method", "curl -X DELETE -H 'Authorization: Bearer token' http://host/v1/keys/1", bearer},
		{"a POST of nothing", "curl -X POST http://host/v1/purge", empty},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := strings.Join(curl(test.req), " "); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// TestCurlSendsTheSame runs the curl line of a request, and compares what
// arrives with what arrives from the request itself.
func TestCurlSendsTheSame(t *testing.T) {
	arrived := make(chan string, 2)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		id, secret, _ := r.BasicAuth()
		arrived <- strings.Join([]string{r.Method, r.URL.String(), id, secret, r.Header.Get("Content-Type"), r.Header.Get("Cookie"), r.Header.Get("Origin"), string(body)}, "\n")
	}))
	t.Cleanup(server.Close)
	req, err := form(t.Context(), server.URL+"/page?a=b&c=it's", "id:it's $HOME", "name", "a b&c='\"", "empty", "")
	if err != nil {
		t.Fatal(err)
	}
	req.AddCookie(&http.Cookie{Name: "sign_in", Value: "abc-_"})
	req.Header.Set("Origin", server.URL)
	e, err := send(server.Client(), req)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", layOut(e.curl)).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", layOut(e.curl), err, out)
	}
	if ours, curls := <-arrived, <-arrived; ours != curls {
		t.Errorf("the request arrived as\n%s\nand curl's as\n%s", ours, curls)
	}
}

func TestSendDoesNotFollowRedirects(t *testing.T) {
	server := httptest.NewServer(http.RedirectHandler("/elsewhere", http.StatusSeeOther))
	t.Cleanup(server.Close)
	req, err := form(t.Context(), server.URL, "", "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	e, err := send(server.Client(), req)
	if err != nil || e.status != http.StatusSeeOther || e.header.Get("Location") != "/elsewhere" {
		t.Errorf("got %d to %q, %v", e.status, e.header.Get("Location"), err)
	}
}

func TestSendWithoutServer(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	req, err := form(t.Context(), server.URL, "", "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	e, err := send(http.DefaultClient, req)
	if err == nil || strings.Contains(err.Error(), server.URL) || e.status != 0 || e.outcome() != "no answer" {
		t.Errorf("status %d, outcome %q, error %v", e.status, e.outcome(), err)
	}
	if !slices.Contains(e.curl, server.URL) {
		t.Errorf("the command is missing: %q", e.curl)
	}
}

func TestFormRefusesABadURL(t *testing.T) {
	if _, err := form(t.Context(), "http://bad host", "", "a", "b"); err == nil {
		t.Error("a URL with a blank was taken")
	}
}

func TestDecodeTakesNothingFromWhatDoesNotFit(t *testing.T) {
	for _, body := range []string{"", "[]", `{"access_token": 1, "scope": "read"}`, `{"scope": "read", "expires_in": "soon"}`, "<html>"} {
		if got := decode[oauth.TokenResponse](exchange{body: []byte(body)}); got != (oauth.TokenResponse{}) {
			t.Errorf("%s was read as scope %q", body, got.Scope)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		body   string
		want   bool
	}{
		{"the error", 400, `{"error": "invalid_grant"}`, true},
		{"another error", 400, `{"error": "invalid_scope"}`, false},
		{"another status", 401, `{"error": "invalid_grant"}`, false},
		{"a success", 200, `{"error": "invalid_grant"}`, false},
		{"no JSON", 400, `invalid_grant`, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := (exchange{status: test.status, body: []byte(test.body)}).refused(oauth.InvalidGrant); got != test.want {
				t.Errorf("refused is %t", got)
			}
		})
	}
}

func TestClaims(t *testing.T) {
	for _, test := range []struct{ name, token, scope, subject string }{
		{"a JWT", "e30.eyJzY29wZSI6InJlYWQiLCJzdWIiOiJhIn0.c2ln", "read", "a"},
		{"an opaque token", "ega_abc", "", ""},
		{"none", "", "", ""},
		{"no base64", "a.!.c", "", ""},
		{"no JSON", "a.YWJj.c", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if scope, subject := claims(test.token); scope != test.scope || subject != test.subject {
				t.Errorf("scope %q, subject %q", scope, subject)
			}
		})
	}
}

func TestSendAndCutLosesTheAnswer(t *testing.T) {
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests++
		w.Header().Set("X-Answer", "yes")
		io.WriteString(w, "what is lost")
	}))
	req, err := form(t.Context(), server.URL, "", "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	lost, seen, err := sendAndCut(demoTimeout, req)
	server.Close() // waits for the request
	if err != nil || seen != "EOF" {
		t.Errorf("the client saw %q, %v", seen, err)
	}
	if string(lost.body) != "what is lost" || lost.status != 200 || lost.header.Get("X-Answer") != "yes" || len(lost.curl) == 0 {
		t.Errorf("lost %d %q by %q", lost.status, lost.body, lost.curl)
	}
	if requests != 1 {
		t.Errorf("the request was sent %d times", requests)
	}
}

func TestSendAndCutWithoutAnswer(t *testing.T) {
	broken := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(broken.Close)
	half := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "half")
	}))
	t.Cleanup(half.Close)
	gone := httptest.NewServer(nil)
	gone.Close()
	for name, url := range map[string]string{"a server that breaks off": broken.URL, "one in the middle": half.URL, "no server": gone.URL} {
		t.Run(name, func(t *testing.T) {
			req, err := form(t.Context(), url, "", "a", "b")
			if err != nil {
				t.Fatal(err)
			}
			lost, _, err := sendAndCut(demoTimeout, req)
			if err == nil || lost.status != 0 || len(lost.curl) == 0 {
				t.Errorf("lost %d by %q, %v", lost.status, lost.curl, err)
			}
		})
	}
}

func TestOutcome(t *testing.T) {
	for _, test := range []struct {
		name, body, outcome, title, whose string
		status                            int
	}{
		{"an error of OAuth", `{"error":"invalid_grant"}`, "400 Bad Request, invalid_grant", "", "", http.StatusBadRequest},
		{"a problem", `{"title":"Conflict","code":"reauthorization_required","owner":"bob"}`, "409 Conflict, reauthorization_required", "", "", http.StatusConflict},
		{"an API's answer", `{"owner":"bob"}`, "200 OK", "", "bob", http.StatusOK},
		{"a page", "<!doctype html><title>Connect &amp; go</title>", "200 OK", "Connect & go", "", http.StatusOK},
		{"nothing", "", "no answer", "", "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := exchange{status: test.status, body: []byte(test.body)}
			if e.outcome() != test.outcome || e.title() != test.title || e.whose() != test.whose {
				t.Errorf("outcome %q, title %q, of %q", e.outcome(), e.title(), e.whose())
			}
		})
	}
}
