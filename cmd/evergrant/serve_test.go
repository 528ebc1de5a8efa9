package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/secret"
)

// seeds are the client and user that most tests use.
const seeds = `issuer:
  scopes: {read: "Read your data", write: "Change your data"}
  clients:
    - {id: TestClient, secret: TestSecret, grant_types: [password, authorization_code, refresh_token, client_credentials]}
  users:
    - {username: bshaffer, password: brent123}
`

func TestServe(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := start(t, dir, seeds)
	for name, mode := range map[string]os.FileMode{".": 0o700 | os.ModeDir, rootKeyName: 0o600, adminTokenFile: 0o600, databaseName: 0o600, lockName: 0o600, spoolName: 0o700 | os.ModeDir} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, mode %v, want %v", name, err, info.Mode(), mode)
		}
	}
	token, err := os.ReadFile(filepath.Join(dir, adminTokenFile))
	if err != nil || !regexp.MustCompile(`^egadm_[A-Za-z0-9_-]{43}\n$`).Match(token) {
		t.Errorf("admin token has %d bytes, %v", len(token), err)
	}

	var metadata struct{ Issuer, Token_endpoint string }
	body := s.get("/.well-known/oauth-authorization-server", http.StatusOK)
	if err := json.Unmarshal([]byte(body), &metadata); err != nil || metadata.Issuer != s.url || metadata.Token_endpoint != s.url+"/oauth/token" {
		t.Errorf("metadata are %s, the server is at %s", body, s.url)
	}
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ready", "/metrics": "go_goroutines", "/": "<html"} {
		if body := s.get(path, http.StatusOK); !strings.Contains(body, want) {
			t.Errorf("%s has no %q: %.200s", path, want, body)
		}
	}

	first := s.login()
	second := s.refresh(first.Refresh)
	if second.Refresh == "" || second.Refresh == first.Refresh {
		t.Errorf("refresh gave %+v", second)
	}
	for _, want := range []string{"process_open_fds", "evergrant_token_seconds"} {
		if body := s.get("/metrics", http.StatusOK); !strings.Contains(body, want) {
			t.Errorf("metrics have no %s", want)
		}
	}
	if code := s.stop(); code != exitDone {
		t.Errorf("stopping gave status %d", code)
	}
	if _, err := http.Get(s.url + "/healthz"); err == nil {
		t.Error("the server still answers")
	}
	if !strings.Contains(s.stdout.String(), "evergrant client list --server "+s.url+" --data "+dir) {
		t.Errorf("no command to try next in %q", s.stdout)
	}

	again := start(t, dir, seeds)
	if third := again.refresh(second.Refresh); third.Refresh == "" {
		t.Errorf("after a restart a refresh gave %+v", third)
	}
}

func (s *running) get(path string, status int) string {
	s.t.Helper()
	resp, err := http.Get(s.url + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		s.t.Fatalf("%s: status %d, %v", path, resp.StatusCode, err)
	}
	return string(body)
}

func TestServeJSON(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, "", "--json", "--log-format", "json", "--only", "issuer")
	s.stop()
	if ready := document[map[string]string](t, s.stdout.String()); ready["issuer"] != s.url || ready["data_dir"] != dir {
		t.Errorf("ready: %v", ready)
	}
	for line := range strings.Lines(s.stderr.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("log line %q", line)
		}
	}
}

func TestServeRefuses(t *testing.T) {
	prepared := func(t *testing.T) string { // a data directory with a database
		dir := t.TempDir()
		start(t, dir, "").stop()
		return dir
	}
	t.Run("missing root key", func(t *testing.T) {
		dir := prepared(t)
		before := contents(t, dir)
		if err := os.Remove(filepath.Join(dir, rootKeyName)); err != nil {
			t.Fatal(err)
		}
		r := run(t, environment(), "", "serve", "--data", dir, "--listen", "127.0.0.1:0")
		if r.code != exitFailed || !strings.Contains(r.stderr, "evergrant: the root key is missing: there is no "+filepath.Join(dir, rootKeyName)+"\nput the root key") {
			t.Errorf("status %d, %q", r.code, r.stderr)
		}
		delete(before, rootKeyName)
		if after := contents(t, dir); !sameFiles(before, after) {
			t.Errorf("the data directory was changed")
		}
	})
	t.Run("wrong root key", func(t *testing.T) {
		dir := prepared(t)
		before := contents(t, dir)
		r := run(t, environment(rootKeyEnv, testRoot), "", "serve", "--data", dir, "--listen", "127.0.0.1:0")
		if r.code != exitFailed || !strings.Contains(r.stderr, "evergrant: "+secret.ErrWrongRoot.Error()+"\ngive the root key that ") {
			t.Errorf("status %d, %q", r.code, r.stderr)
		}
		after := contents(t, dir)
		if !sameFiles(before, after) {
			t.Errorf("the data directory was changed")
		}
	})
	t.Run("damaged root key", func(t *testing.T) {
		dir := prepared(t)
		if err := os.WriteFile(filepath.Join(dir, rootKeyName), []byte("AAAA"), 0o600); err != nil {
			t.Fatal(err)
		}
		r := run(t, environment(), "", "serve", "--data", dir, "--listen", "127.0.0.1:0")
		if r.code != exitFailed || !strings.Contains(r.stderr, "root.key cannot be read: a root key is 32 random bytes") {
			t.Errorf("status %d, %q", r.code, r.stderr)
		}
	})
	t.Run("guessable admin token", func(t *testing.T) {
		dir := prepared(t)
		if err := os.WriteFile(filepath.Join(dir, adminTokenFile), []byte("admin\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		r := run(t, environment(), "", "serve", "--data", dir, "--listen", "127.0.0.1:0")
		if r.code != exitFailed || !strings.Contains(r.stderr, "admin.token has no admin token, or one that can be guessed\ndelete the file") {
			t.Errorf("status %d, %q", r.code, r.stderr)
		}
	})
	t.Run("data directory in use", func(t *testing.T) {
		s := start(t, t.TempDir(), "")
		r := run(t, environment(), "", "serve", "--data", s.dir, "--listen", "127.0.0.1:0")
		if r.code != exitFailed || !strings.Contains(r.stderr, "evergrant: another process uses the data directory "+s.dir+"\nstop the server") {
			t.Errorf("status %d, %q", r.code, r.stderr)
		}
	})
	t.Run("address in use", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		r := run(t, environment(), "", "serve", "--data", t.TempDir(), "--listen", listener.Addr().String())
		if r.code != exitFailed || !strings.Contains(r.stderr, listener.Addr().String()+" is in use\nstop what listens there") {
			t.Errorf("status %d, %q", r.code, r.stderr)
		}
	})
	t.Run("no database", func(t *testing.T) {
		dir := prepared(t)
		if err := os.WriteFile(filepath.Join(dir, databaseName), []byte(strings.Repeat("not a database ", 500)), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := run(t, environment(), "", "serve", "--data", dir, "--listen", "127.0.0.1:0"); r.code != exitFailed || !strings.Contains(r.stderr, "evergrant: database ") {
			t.Errorf("status %d, %q", r.code, r.stderr)
		}
	})
	t.Run("data directory that is a file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if r := run(t, environment(), "", "serve", "--data", file, "--listen", "127.0.0.1:0"); r.code != exitFailed || !strings.Contains(r.stderr, "evergrant: data directory: ") {
			t.Errorf("status %d, %q", r.code, r.stderr)
		}
	})
}

// contents are the files of a directory that hold data.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > 0 && !strings.HasSuffix(entry.Name(), "-shm") {
			files[entry.Name()] = string(text)
		}
	}
	return files
}

func sameFiles(a, b map[string]string) bool {
	for name := range a {
		if a[name] != b[name] {
			return false
		}
	}
	return len(a) == len(b)
}

func TestRootKeySources(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(testRoot+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, config := range []string{"root_key: " + testRoot, "root_key_file: " + file, "root_key_command: cat " + file, "root_key: '" + strings.TrimRight(testRoot, "=") + "'"} {
		s := start(t, dir, config) // the same database every time: a wrong root key would be refused
		s.stop()
		if strings.Contains(s.stderr.String()+s.stdout.String(), testRoot) {
			t.Errorf("%s: the root key is shown", config)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, rootKeyName)); err == nil {
		t.Error("a root key was made although one was given")
	}
	for _, test := range []struct{ config, want string }{
		{"root_key_file: " + file + ".none", "root_key_file: open " + file + ".none: no such file or directory\nput the root key there"},
		{"root_key_command: echo oops >&2; exit 3", "oops\nevergrant: root_key_command failed: exit status 3\nrun the command by hand"},
		{"root_key_command: echo hush", "evergrant: the root key of root_key_command cannot be read: a root key is"},
	} {
		r := run(t, environment(), "", "serve", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--config", writeConfig(t, test.config))
		if r.code != exitFailed || !strings.Contains(r.stderr, test.want) || strings.Contains(r.stderr, "hush") {
			t.Errorf("%s: status %d, %q", test.config, r.code, r.stderr)
		}
	}
}

// saved counts the events of clients and users that were saved or deleted.
func (s *running) saved() int {
	s.t.Helper()
	n := 0
	for _, event := range document[[]evergrant.Event](s.t, s.ok("event", "list", "--json", "--limit", "0")) {
		if strings.HasPrefix(event.Type, "client.") || strings.HasPrefix(event.Type, "user.") {
			n++
		}
	}
	return n
}

func TestDeclared(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, seeds)
	grant := s.login()
	if n := s.saved(); n != 2 {
		t.Errorf("first start: %d events, want 2", n)
	}
	s.ok("client", "create", "own")
	s.stop()

	s = start(t, dir, seeds)
	if n := s.saved(); n != 3 {
		t.Errorf("start without a change: %d events, want 3", n)
	}
	s.ok("client", "update", "TestClient", "--name", "Changed by hand", "--introspect")
	s.stop()

	s = start(t, dir, strings.Replace(seeds, "brent123", "other-password", 1))
	client := document[evergrant.Registration](t, s.ok("client", "show", "TestClient", "--json"))
	if client.Name != "" || client.Introspect || !client.Declared {
		t.Errorf("the file does not win: %+v", client)
	}
	if answer := s.token("grant_type", "password", "username", "bshaffer", "password", "brent123"); answer.Error != "invalid_grant" {
		t.Errorf("old password: %+v", answer)
	}
	if answer := s.token("grant_type", "password", "username", "bshaffer", "password", "other-password"); answer.Access == "" {
		t.Errorf("new password: %+v", answer)
	}
	s.stop()

	s = start(t, dir, "") // no file: nothing is gone from it
	if grant = s.refresh(grant.Refresh); grant.Refresh == "" {
		t.Errorf("without a configuration file a grant ended: %+v", grant)
	}
	s.stop()

	s = start(t, dir, "issuer:\n  users:\n    - {username: bshaffer, password: other-password}")
	if r := s.run("", "client", "show", "TestClient"); r.code != exitFailed || r.stderr != "evergrant: there is no client TestClient on this server\n`evergrant client list` shows what there is\n" {
		t.Errorf("a client gone from the file: status %d, %q", r.code, r.stderr)
	}
	if !strings.Contains(s.stderr.String(), "client deleted and its grants revoked, because it is gone from the configuration file") {
		t.Errorf("the log does not tell: %s", s.stderr)
	}
	for _, g := range s.grants() {
		if g.Alive {
			t.Errorf("a grant outlived its client: %+v", g)
		}
	}
	s.ok("client", "show", "own")
	s.stop()

	s = start(t, dir, "issuer: {}")
	if r := s.run("", "user", "show", "bshaffer"); r.code != exitFailed {
		t.Errorf("a user gone from the file: status %d, %q", r.code, r.out)
	}
}

func TestServeRS256(t *testing.T) {
	s := start(t, t.TempDir(), strings.Replace(seeds, "id: TestClient", "access_token_signing_alg: RS256, id: TestClient", 1))
	keys := document[[]evergrant.Key](t, s.ok("key", "list", "--json"))
	if len(keys) != 1 || !keys[0].RS256 {
		t.Errorf("keys are %+v", keys)
	}
	if !strings.HasPrefix(s.login().Access, "eyJhbGciOiJSUzI1NiI") {
		t.Error("the access token is not signed with RS256")
	}
}

// TestShutdown has a request on its way while the server is told to stop.
func TestShutdown(t *testing.T) {
	s := start(t, t.TempDir(), seeds)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const body = "grant_type=client_credentials&client_id=TestClient&client_secret=TestSecret"
	io.WriteString(conn, "POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 75\r\n\r\n"+body[:20])
	s.get("/healthz", http.StatusOK) // by now the other connection is being read
	done := make(chan int, 1)
	go func() { done <- s.stop() }()
	for !strings.Contains(s.stderr.String(), "stopping") {
		time.Sleep(time.Millisecond)
	}
	io.WriteString(conn, body[20:])
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 OK") {
		t.Errorf("the request was not answered: %v, %.100q", err, answer)
	}
	if code := <-done; code != exitDone {
		t.Errorf("status %d", code)
	}
}

func TestServeTLS(t *testing.T) {
	certificate, key := selfSigned(t)
	dir := t.TempDir()
	s := start(t, dir, "tls: {cert_file: "+certificate+", key_file: "+key+"}\n"+seeds)
	if !strings.HasPrefix(s.url, "https://127.0.0.1:") {
		t.Fatalf("the server is at %s", s.url)
	}
	text, err := os.ReadFile(certificate)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	resp, err := client.Get(s.url + "/healthz")
	if err != nil || resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
		t.Fatalf("%v, %+v", err, resp)
	}
	resp.Body.Close()
}

// selfSigned makes a certificate for 127.0.0.1 and returns the files.
func selfSigned(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certificate, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key
}

// TestBehindProxy looks at which address an event records.
func TestBehindProxy(t *testing.T) {
	for _, test := range []struct{ name, config, want string }{
		{"behind a proxy", "behind_proxy: true\npublic_url: https://login.example.com\n", "203.0.113.7"},
		{"directly", "", "127.0.0.1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			c, _, wrong := parseConfig("FILE", []byte(test.config+seeds), environment())
			c.Listen, c.DataDir = "127.0.0.1:0", dir
			wrong = append(wrong, c.check(environment())...)
			if len(wrong) > 0 {
				t.Fatal(wrong)
			}
			log, err := newLog(io.Discard, "info", "text")
			if err != nil {
				t.Fatal(err)
			}
			s, err := openServer(t.Context(), c, program{env: environment(), now: time.Now}, io.Discard, log)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- s.run(ctx) }()
			defer func() {
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
				s.close()
			}()
			r := &running{t: t, url: "http://" + s.listener.Addr().String(), dir: dir}
			req, _ := http.NewRequest("POST", r.url+"/oauth/token", strings.NewReader("grant_type=client_credentials&client_id=nobody&client_secret=x"))
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("X-Forwarded-For", "198.51.100.1, 203.0.113.7")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			events := document[[]evergrant.Event](t, r.ok("event", "list", "--json", "--type", "client.refused"))
			if len(events) != 1 || events[0].Address != test.want {
				t.Errorf("events are %+v, want address %s", events, test.want)
			}
		})
	}
}

// TestServeRemovesLeftBackups starts beside a copy that a killed server left.
func TestServeRemovesLeftBackups(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, databaseName+".backup-123")
	if err := os.WriteFile(left, []byte("half a copy"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, dir, "").stop()
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the copy is still there: %v", err)
	}
}
