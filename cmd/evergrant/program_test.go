package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/internal/mariatest"
	"github.com/evergrant/evergrant/internal/pgtest"
)

// running is a server in this process, with its data directory.
type running struct {
	t      *testing.T
	url    string
	dir    string
	stdout *record
	stderr *record
	stop   func() int // ends it and returns the exit status
}

// record keeps what is written to it.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// start runs `evergrant serve` on a free port until the test ends.
func start(t *testing.T, dir, config string, args ...string) *running {
	t.Helper()
	s, code := tryStart(t, dir, config, args...)
	if s == nil {
		t.Fatalf("serve ended with status %d", code)
	}
	return s
}

// tryStart is start, and returns nil and the exit status where the server ends
// by itself.
func tryStart(t *testing.T, dir, config string, args ...string) (*running, int) {
	t.Helper()
	args = append([]string{"serve", "--data", dir, "--listen", "127.0.0.1:0"}, args...)
	if config != "" {
		args = append(args, "--config", writeConfig(t, config))
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	reader, writer := io.Pipe()
	s := &running{t: t, dir: dir, stdout: &record{}, stderr: &record{}}
	exit := make(chan int, 1)
	go func() {
		exit <- program{env: environment(), now: time.Now}.Run(ctx, args, strings.NewReader(""), io.MultiWriter(s.stdout, writer), s.stderr)
		writer.Close()
	}()
	s.stop = sync.OnceValue(func() int {
		cancel()
		return <-exit
	})
	t.Cleanup(func() { s.stop() })
	lines := bufio.NewScanner(reader)
	for lines.Scan() {
		if s.url = regexp.MustCompile(`https?://[^\s"]+`).FindString(lines.Text()); s.url != "" {
			go io.Copy(io.Discard, reader)
			return s, 0
		}
	}
	code := s.stop()
	t.Logf("serve said: %s", s.stderr)
	return nil, code
}

// result is what a command came to.
type result struct {
	code        int
	out, stderr string
}

// run runs a command against the server.
func (s *running) run(stdin string, args ...string) result {
	return run(s.t, environment("EVERGRANT_SERVER", s.url), stdin, append(args, "--data", s.dir)...)
}

// ok runs a command that must end well, and returns what it printed.
func (s *running) ok(args ...string) string {
	s.t.Helper()
	r := s.run("", args...)
	if r.code != 0 {
		s.t.Fatalf("evergrant %s: status %d\n%s", strings.Join(args, " "), r.code, r.stderr)
	}
	return r.out
}

func run(t *testing.T, env func(string) (string, bool), stdin string, args ...string) result {
	t.Helper()
	var out, stderr bytes.Buffer
	code := program{env: env, now: time.Now}.Run(t.Context(), args, strings.NewReader(stdin), &out, &stderr)
	return result{code, out.String(), stderr.String()}
}

// document is what a command with --json printed, which must be one document.
func document[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	decoder := json.NewDecoder(strings.NewReader(text))
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("more than one document in %q", text)
	}
	return v
}

// tokens is the token endpoint's answer.
type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Error   string `json:"error"`
}

// token makes a token request as the client with id TestClient.
func (s *running) token(pairs ...string) tokens {
	s.t.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	req, err := http.NewRequestWithContext(s.t.Context(), "POST", s.url+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("TestClient", "TestSecret")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer tokens
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		s.t.Fatal(err)
	}
	return answer
}

// login makes a grant by the password grant.
func (s *running) login() tokens {
	s.t.Helper()
	answer := s.token("grant_type", "password", "username", "bshaffer", "password", "brent123")
	if answer.Refresh == "" {
		s.t.Fatalf("no grant was made: %+v", answer)
	}
	return answer
}

func (s *running) refresh(token string) tokens {
	s.t.Helper()
	return s.token("grant_type", "refresh_token", "refresh_token", token)
}

// grants are the grants of the server, by the order of their ids.
func (s *running) grants() []evergrant.Grant {
	s.t.Helper()
	return document[[]evergrant.Grant](s.t, s.ok("grant", "list", "--json"))
}

// TestMain lets the tests start the program as a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("EVERGRANT_TEST_PROCESS") != "" {
		main()
	}
	os.Exit(mariatest.Main(func() int { return pgtest.Main(m) }))
}

func TestUsage(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		code int
		want string // on stderr
	}{
		{"nothing", nil, exitUsage, "evergrant: a command is missing\nrun `evergrant --help` to see how it is used\n"},
		{"unknown command", []string{"srve"}, exitUsage, "evergrant: unknown command \"srve\", did you mean serve?\nrun `evergrant --help`"},
		{"group", []string{"client"}, exitUsage, "evergrant: a command is missing\nrun `evergrant client --help`"},
		{"unknown in group", []string{"client", "lst"}, exitUsage, "evergrant: unknown command \"lst\", did you mean list?\nrun `evergrant client --help`"},
		{"unknown flag", []string{"serve", "--frobnicate"}, exitUsage, "evergrant: unknown flag: --frobnicate\nrun `evergrant serve --help`"},
		{"missing argument", []string{"client", "show"}, exitUsage, "evergrant: expected as arguments: evergrant client show ID"},
		{"too many arguments", []string{"purge", "now"}, exitUsage, "evergrant: expected as arguments: evergrant purge"},
		{"no number", []string{"grant", "list", "--limit", "x"}, exitUsage, "evergrant: invalid argument \"x\" for \"--limit\""},
		{"key number", []string{"key", "delete", "x"}, exitUsage, "evergrant: \"x\" is not the number of a key"},
		{"public with secret", []string{"client", "create", "a", "--public", "--secret-stdin"}, exitUsage, "evergrant: a public client has no secret"},
		{"nothing to change", []string{"client", "update", "a"}, exitUsage, "evergrant: nothing to change"},
		{"only", []string{"serve", "--only", "demo"}, exitUsage, "evergrant: --only \"demo\" is not issuer or keeper"},
		{"log level", []string{"serve", "--log-level", "loud"}, exitUsage, "evergrant: --log-level \"loud\" is not debug, info, warn or error"},
		{"log format", []string{"serve", "--log-format", "xml"}, exitUsage, "evergrant: --log-format \"xml\" is not text or json"},
		{"server URL", []string{"client", "list", "--server", "localhost:1"}, exitUsage, "evergrant: \"localhost:1\" is not the URL of a server"},
		{"token in clear", []string{"client", "list", "--server", "http://example.com", "--token", "t"}, exitUsage,
			"evergrant: the admin token would cross the network in clear to example.com\nname the server by its https URL"},
		{"completion", []string{"completion", "cmd.exe"}, exitUsage, "evergrant: there is no completion for \"cmd.exe\""},
		{"no token", []string{"client", "list"}, exitFailed, "evergrant: no admin token: there is no evergrant-data/admin.token\nstart `evergrant serve`"},
		{"no server", []string{"client", "list", "--server", "http://127.0.0.1:1", "--token", "t"}, exitUnavailable,
			"evergrant: the server cannot be reached at http://127.0.0.1:1"},
		{"no backup", []string{"restore", "nothing.db"}, exitFailed, "evergrant: nothing.db is no backup: there is no such file, or it is empty\n"},
		{"no configuration", []string{"serve", "--config", "nothing.yaml"}, exitFailed, "evergrant: open nothing.yaml: no such file or directory\nname the configuration file"},
		{"help", []string{"client", "create", "--help"}, exitDone, ""},
		{"version", []string{"version"}, exitDone, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			r := run(t, environment(), "", test.args...)
			if r.code != test.code || !strings.Contains(r.stderr, test.want) {
				t.Errorf("status %d, stderr %q; want %d, %q", r.code, r.stderr, test.code, test.want)
			}
			if test.code != exitDone && r.out != "" {
				t.Errorf("stdout has %q", r.out)
			}
		})
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		r := run(t, environment(), "", "completion", shell)
		if r.code != 0 || !strings.Contains(r.out, "evergrant") {
			t.Errorf("completion %s: status %d, %d bytes, %s", shell, r.code, len(r.out), r.stderr)
		}
	}
	if r := run(t, environment(), "", "__complete", "client", "cre"); !strings.HasPrefix(r.out, "create\t") {
		t.Errorf("completing `client cre` gives %q", r.out)
	}
}

func TestVersion(t *testing.T) {
	version := document[map[string]string](t, run(t, environment(), "", "version", "--json").out)
	if version["version"] == "" || !strings.HasPrefix(version["go"], "go") {
		t.Errorf("version is %v", version)
	}
}

// TestUnavailable asks something that answers, and is no server of ours.
func TestUnavailable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answers := http.NewServeMux()
	answers.HandleFunc("/v1/clients", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"title":"Service Unavailable","status":503,"detail":"The database is \u001b[31mgone."}`)
	})
	server := &http.Server{Handler: answers}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	env := environment("EVERGRANT_SERVER", "http://"+listener.Addr().String(), "EVERGRANT_TOKEN", "t")
	r := run(t, env, "", "client", "list")
	if r.code != exitUnavailable || r.stderr != "evergrant: The database is \ufffd[31mgone.\ntry again in a moment; the server's log says more\n" {
		t.Errorf("status %d, %q", r.code, r.stderr)
	}
	r = run(t, env, "", "user", "show", "x")
	if r.code != exitFailed || !strings.Contains(r.stderr, "not as an Evergrant server does") {
		t.Errorf("another server: status %d, %q", r.code, r.stderr)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, stderr bytes.Buffer
	code := program{env: environment("EVERGRANT_TOKEN", "t"), now: time.Now}.Run(ctx, []string{"client", "list", "--server", "http://127.0.0.1:1"}, strings.NewReader(""), &out, &stderr)
	if code != exitFailed || !strings.HasPrefix(stderr.String(), "evergrant: interrupted\n") {
		t.Errorf("status %d, %q", code, stderr.String())
	}
}

func TestConfigCheck(t *testing.T) {
	good := writeConfig(t, sample)
	r := run(t, environment(), "", "config", "check", "--config", good)
	for _, want := range []string{good + ": ok\n", "clients                      1 (TestClient)\n", "refresh_token_lifetime       14d\n", "grant_lifetime               0\n"} {
		if r.code != exitDone || !strings.Contains(r.out, want) {
			t.Errorf("status %d, stdout without %q:\n%s%s", r.code, want, r.out, r.stderr)
		}
	}
	r = run(t, environment(), "", "config", "check", "--config", good, "--json")
	checked := document[struct {
		OK       bool
		Settings config
	}](t, r.out)
	if r.code != exitDone || !checked.OK || checked.Settings.Issuer.Clients[0].ID != "TestClient" || strings.Contains(r.out, "TestSecret") || strings.Contains(r.out, "brent123") {
		t.Errorf("status %d: %s", r.code, r.out)
	}

	bad := writeConfig(t, "listn: 1\nissuer: {profile: foo}")
	r = run(t, environment(), "", "config", "check", "--config", bad)
	if r.code != exitFailed || r.out != "" || !strings.HasPrefix(r.stderr, bad+":1: unknown key \"listn\"") || !strings.Contains(r.stderr, "\n"+bad+":2: profile \"foo\" is not known; write standard, bshaffer, eventix or fos\n") {
		t.Errorf("status %d, stdout %q, stderr %q", r.code, r.out, r.stderr)
	}
	r = run(t, environment(), "", "config", "check", "--config", bad, "--json")
	if refused := document[struct {
		OK       bool
		Problems []problem
	}](t, r.out); r.code != exitFailed || refused.OK || len(refused.Problems) != 2 || refused.Problems[0].Place != bad+":1" {
		t.Errorf("status %d: %+v", r.code, refused)
	}
	if r = run(t, environment(), "", "config", "check"); r.code != exitDone || !strings.HasPrefix(r.out, "(defaults): ok\n") {
		t.Errorf("defaults: status %d, %q", r.code, r.out)
	}
	if r = run(t, environment(), "", "serve", "--config", bad, "--data", filepath.Join(t.TempDir(), "data")); r.code != exitFailed || !strings.HasPrefix(r.stderr, bad+":1: ") {
		t.Errorf("serve: status %d, %q", r.code, r.stderr)
	}
	if r = run(t, environment(), "", "config", "check", "--config", filepath.Join(os.TempDir(), "no such file")); r.code != exitFailed {
		t.Errorf("no file: status %d", r.code)
	}
}
