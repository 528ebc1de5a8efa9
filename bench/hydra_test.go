package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/bench"
	"github.com/goccy/go-yaml"
)

// fakeHydra walks a browser through its flow as Hydra does, and gives a code
// once each step was taken.
type fakeHydra struct {
	example
	self      string // its address, for browsers
	refuses   string // a path that it refuses
	challenge string // of the authorization that is under way
	steps     []string
}

func actAsHydra(how, config string) error {
	text, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	type at struct{ Host, Port string }
	var c struct {
		DSN   string
		Serve struct{ Public, Admin at }
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		return err
	}
	if !strings.Contains(c.DSN, "/bench?sslmode=disable&max_conns=20&max_idle_conns=20") {
		return fmt.Errorf("dsn %s", c.DSN)
	}
	f := &fakeHydra{example: example{how: how}, self: "http://" + c.Serve.Public.Host + ":" + c.Serve.Public.Port}
	go http.ListenAndServe(c.Serve.Admin.Host+":"+c.Serve.Admin.Port, f)
	return http.ListenAndServe(c.Serve.Public.Host+":"+c.Serve.Public.Port, f)
}

func (f *fakeHydra) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	step, status := f.step(r), http.StatusOK
	f.mu.Unlock()
	if r.URL.Path == f.refuses {
		step, status = "", http.StatusTeapot
	}
	switch {
	case status != http.StatusOK:
		w.WriteHeader(status)
	case strings.HasPrefix(step, "http") && r.Method == http.MethodGet:
		http.Redirect(w, r, step, http.StatusSeeOther)
	case step == "refused":
		w.WriteHeader(http.StatusBadRequest)
	case step != "":
		json.NewEncoder(w).Encode(map[string]string{"redirect_to": step})
	default:
		f.example.ServeHTTP(w, r)
	}
}

// step is where a request leads, "" where the example answers it.
func (f *fakeHydra) step(r *http.Request) string {
	query := r.URL.Query()
	var body map[string]any
	if r.Method == http.MethodPut || r.URL.Path == "/admin/clients" {
		json.NewDecoder(r.Body).Decode(&body)
	}
	took := r.URL.Path
	switch {
	case r.URL.Path == "/admin/clients":
		f.steps = append(f.steps, fmt.Sprint(body["client_id"], body["token_endpoint_auth_method"]))
		return "none"
	case r.URL.Path == "/oauth2/auth" && query.Get("step") == "":
		f.challenge = query.Get("code_challenge")
		return "http://127.0.0.1/login?login_challenge=l%2F1"
	case r.URL.Path == "/oauth2/auth" && query.Get("step") == "login":
		return "http://127.0.0.1/consent?consent_challenge=c"
	case r.URL.Path == "/oauth2/auth":
		return hydraCallback + "?code=code"
	case strings.HasSuffix(took, "/login/accept") && query.Get("login_challenge") == "l/1" && body["subject"] == username:
		return f.self + "/oauth2/auth?step=login"
	case strings.HasSuffix(took, "/consent/accept") && query.Get("consent_challenge") == "c" && fmt.Sprint(body["grant_scope"]) == "[offline read]":
		return f.self + "/oauth2/auth?step=consent"
	case took == "/oauth2/token" && r.FormValue("grant_type") == "authorization_code":
		verified := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		if base64.RawURLEncoding.EncodeToString(verified[:]) == f.challenge && r.FormValue("code") == "code" && r.FormValue("redirect_uri") == hydraCallback {
			return ""
		}
		return "refused"
	}
	return ""
}

// flow is a fake Hydra that runs in this process.
func flow(t *testing.T, refuses string) (*fakeHydra, *running) {
	t.Helper()
	f := &fakeHydra{refuses: refuses}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	f.self = server.URL
	address := server.Listener.Addr().String()
	return f, &running{servers: []*bench.Server{{Address: address}}, admin: address}
}

func TestSeedHydra(t *testing.T) {
	fake, server := flow(t, "")
	tokens, err := (&field{}).seedHydra(t.Context(), server, "opaque", 3)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(tokens); got != "[{a1 r1} {a2 r2} {a3 r3}]" || fmt.Sprint(fake.steps) != "[opaquenone]" {
		t.Errorf("%s by %v", got, fake.steps)
	}
}

func TestSeedHydraTellsWhatWentWrong(t *testing.T) {
	for path, want := range map[string]string{
		"/admin/clients": "/admin/clients answered 418",
		"/oauth2/auth":   "/oauth2/auth answered 418 and led to no login_challenge",
		"/admin/oauth2/auth/requests/login/accept":   "/login/accept answered 418",
		"/admin/oauth2/auth/requests/consent/accept": "/consent/accept answered 418",
		"/oauth2/token": "/oauth2/token answered 418",
	} {
		_, server := flow(t, path)
		if _, err := (&field{}).seedHydra(t.Context(), server, "opaque", 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("where %s is refused: %v", path, err)
		}
	}
	nobody := &running{servers: []*bench.Server{{Address: "127.0.0.1:1"}}, admin: "127.0.0.1:1"}
	if _, err := (&field{}).seedHydra(t.Context(), nobody, "opaque", 1); err == nil {
		t.Error("no error without a server")
	}
}

// What Hydra is told is what it understands: every secret and address is where
// it looks for it, and two pools' sizes are set.
func TestHydraConfiguration(t *testing.T) {
	text := credentials{clientSecret: "s"}.hydra("postgres://p@127.0.0.1:5/bench?sslmode=disable", "127.0.0.1:1", "127.0.0.1:2")
	var c map[string]any
	if err := yaml.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	dsn, err := url.Parse(c["dsn"].(string))
	if err != nil || dsn.Query().Encode() != "max_conns=20&max_idle_conns=20&sslmode=disable" {
		t.Errorf("%v, %v", dsn, err)
	}
	for _, want := range []string{"public:map[host:127.0.0.1 port:1]", "admin:map[host:127.0.0.1 port:2]", "access_token:opaque", "system:[s]"} {
		if !strings.Contains(fmt.Sprint(c), want) {
			t.Errorf("%v is without %s", c, want)
		}
	}
}
