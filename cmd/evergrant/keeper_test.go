package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant"
)

// keeping is a server that keeps tokens of another one, which is a third party
// like any other.
type keeping struct {
	*running
	third *running
}

const hookSecret = "a-secret-for-webhooks"

// startKeeping starts both. more is added to the configuration of the keeper.
func startKeeping(t *testing.T, more string, args ...string) *keeping {
	t.Helper()
	third := start(t, t.TempDir(), strings.Replace(seeds, "issuer:\n", "issuer:\n  access_token_lifetime: 1h\n  access_token_format: opaque\n", 1))
	k := &keeping{third: third}
	k.running = start(t, t.TempDir(), k.config(more), args...)
	return k
}

func (k *keeping) config(more string) string {
	return `keeper:
  allow_private_networks: true
  providers:
    - name: home
      definition: evergrant
      client_id: TestClient
      client_secret: TestSecret
      params: {issuer: "` + k.third.url + `"}
      limits: {rate: {count: 1000, per: 1s}}
    - {name: gone, client_id: a, client_secret: hush-gone, authorize_url: "http://127.0.0.1:1/authorize", token_url: "http://127.0.0.1:1/token"}
` + more
}

// connect makes a connection of tokens of the third party.
func (k *keeping) connect(id string, args ...string) tokens {
	k.t.Helper()
	grant := k.third.login()
	r := k.run(fmt.Sprintf(`{"access_token":%q,"refresh_token":%q,"expires_in":3600}`, grant.Access, grant.Refresh),
		append([]string{"connection", "create", "home", "--id", id}, args...)...)
	if r.code != exitDone {
		k.t.Fatalf("connection create: status %d, %s", r.code, r.stderr)
	}
	return grant
}

// active reports whether the third party takes an access token.
func (k *keeping) active(token string) bool {
	k.t.Helper()
	form := strings.NewReader("token=" + token)
	req, err := http.NewRequestWithContext(k.t.Context(), "POST", k.third.url+"/oauth/introspect", form)
	if err != nil {
		k.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("TestClient", "TestSecret")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		k.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Active bool }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		k.t.Fatal(err)
	}
	return answer.Active
}

func TestToken(t *testing.T) {
	k := startKeeping(t, "")
	grant := k.connect("ann")
	if got := k.ok("token", "ann"); got != grant.Access+"\n" {
		t.Errorf("token prints %q", got)
	}
	forced := strings.TrimSpace(k.ok("token", "ann", "--force"))
	if forced == grant.Access || !k.active(forced) {
		t.Errorf("--force gives %q", forced)
	}
	if again := strings.TrimSpace(k.ok("token", "ann", "--min-ttl", "30m")); again != forced {
		t.Errorf("--min-ttl gives %q, want the one that lives so long", again)
	}
	if got := k.ok("token", "ann", "--header"); got != "Authorization: Bearer "+forced+"\n" {
		t.Errorf("--header gives %q", got)
	}
	if metrics := k.get("/metrics", http.StatusOK); !strings.Contains(metrics, "\nevergrant_keeper_renewals_total{") {
		t.Error("the renewal is not counted")
	}
	answer := document[map[string]any](t, k.ok("token", "ann", "--json"))
	if answer["access_token"] != forced || answer["token_type"] != "Bearer" || answer["expires_at"] == "" || answer["scope"] != "read write" {
		t.Errorf("--json gives %v", answer)
	}
	k.script(t, []command{
		{args: "token nobody", code: exitFailed, out: `^$`, error: "^evergrant: there is no connection nobody on this server\n`evergrant connection list` shows"},
		{args: "token ann --min-ttl soon", code: exitUsage, out: `^$`, error: `^evergrant: --min-ttl: "soon" is not a duration`},
		{args: "token", code: exitUsage, error: `^evergrant: expected as arguments: evergrant token CONNECTION`},
	})
}

// TestTokenOfADeadConnection has what a script sees: nothing on stdout, and the
// statuses by which it knows what to do.
func TestTokenOfADeadConnection(t *testing.T) {
	k := startKeeping(t, "")
	k.connect("ann")
	k.third.ok("user", "delete", "bshaffer") // ends the grant
	r := k.run("", "token", "ann", "--force")
	if r.code != exitReauthorize || r.out != "" {
		t.Fatalf("status %d, %q, %q", r.code, r.out, r.stderr)
	}
	lines := strings.Split(r.stderr, "\n")
	if !strings.Contains(lines[0], "revoked") || !regexp.MustCompile(`since \d{4}-\d\d-\d\dT`).MatchString(lines[0]) ||
		!strings.HasPrefix(lines[1], "send its owner to "+k.url+"/connect/") || !strings.HasSuffix(lines[1], " to connect again") {
		t.Errorf("stderr %q", r.stderr)
	}
	link := strings.Fields(strings.TrimPrefix(lines[1], "send its owner to "))[0]
	resp, err := http.Get(link)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("the page to connect again: %v, %v", resp, err)
	}
	resp.Body.Close()
	k.script(t, []command{
		{args: "token ann", code: exitReauthorize, out: `^$`},
		{args: "connection refresh ann", code: exitReauthorize, out: `^$`},
		{args: "connection list --state reauthorize", out: `(?s)^ID +PROVIDER +STATE +.*\nann +home +reauthorize: revoked`},
		{args: "explain ann", out: `(?s)^dead .*kind +connection\ncause +revoked\nrepair +\S.*connection +ann\n.*time line\n\S+ +connection.created .*connection.reauthorize`},
	})
}

// TestTokenWhileTheProviderIsDown has a live token served, and one that is over
// not.
func TestTokenWhileTheProviderIsDown(t *testing.T) {
	k := startKeeping(t, "")
	grant := k.connect("alive")
	k.third.stop()
	if got := strings.TrimSpace(k.ok("token", "alive", "--force")); got != grant.Access {
		t.Errorf("while the provider is down the token is %q, want the one that lives", got)
	}
	r := k.run(`{"access_token":"a","refresh_token":"b","expires_at":1000000000}`, "connection", "create", "home", "--id", "over")
	if r.code != exitDone && r.code != exitUnavailable {
		t.Fatalf("status %d, %q", r.code, r.stderr)
	}
	r = k.run("", "token", "over")
	if r.code != exitUnavailable || r.out != "" || !strings.Contains(r.stderr, "try again in ") {
		t.Errorf("status %d, %q, %q", r.code, r.out, r.stderr)
	}
	k.stop()
	if r := k.run("", "token", "alive"); r.code != exitUnavailable || r.out != "" || !strings.Contains(r.stderr, "the server cannot be reached") {
		t.Errorf("without server: status %d, %q, %q", r.code, r.out, r.stderr)
	}
}

func TestConnectionCommands(t *testing.T) {
	k := startKeeping(t, "")
	k.script(t, []command{
		{args: "connection list", out: `^$`, error: "^no such connections; `evergrant connection connect PROVIDER` makes a page"},
		{args: "connection list --json", out: `^\[\]\n$`, error: `^$`},
	})
	grant := k.connect("ann", "--owner", "Ann", "--tenant", "shop", "--scope", "read", "--background", "on_demand", "--token-type", "bearer")
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(k.third.login().Refresh+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	second := k.run("", "connection", "create", "home", "--id", "bob", "--refresh-token-file", file, "--owner", "Bob", "--json")
	if bob := document[evergrant.Connection](t, second.out); second.code != exitDone || bob.ID != "bob" || bob.Owner != "Bob" || bob.State != evergrant.ConnectionActive {
		t.Errorf("status %d, %+v, %q", second.code, bob, second.stderr)
	}
	k.script(t, []command{
		{args: "connection list", out: `^ID +PROVIDER +TENANT +OWNER +STATE +GENERATION +EXPIRES +DUE\nann +home +shop +Ann +active +\d+ +\S+ +\S+\nbob +home +- +Bob +active`},
		{args: "connection list --owner Ann --provider home --tenant shop", out: `^.*\nann .*\n$`},
		{args: "connection list --limit 1", out: `^.*\nann .*\n$`, error: `--limit 0 shows all`},
		{args: "connection list --state broken", code: exitFailed, error: `^evergrant: There is no state "broken"`},
		{args: "connection show ann", out: `(?s)^connection +ann\nprovider +home\ntenant +shop\nowner +Ann\nstate +active\nsince +\S+\nrefreshed in the background +on_demand\ncan be renewed without the owner +yes\ngeneration +1\nscope +read\n.*access token expires +\S+\n`},
		{args: "connection show ann --json", out: `"background": "on_demand"`},
		{args: "connection show nobody", code: exitFailed, error: "^evergrant: there is no connection nobody on this server\n`evergrant connection list` shows what there is\n$"},
		{args: "connection refresh ann", out: `(?s)^connection +ann\n.*generation +2\n`, error: `^$`},
		{args: "connection refresh ann --json", out: `"generation": 3`},
		{args: "connection refresh nobody", code: exitFailed, error: `there is no connection nobody`},
		{args: "connection pause ann", out: `state +paused`},
		{args: "token ann", code: exitFailed, out: `^$`, error: `^evergrant: .*paused.*\n.*resume`},
		{args: "connection resume ann", out: `state +active\n`},
		{args: "connection pause nobody", code: exitFailed, error: `there is no connection nobody`},
		{args: "connection history ann", out: `(?s)^AT +TYPE +.*connection.resumed.*connection.paused.*connection.created `},
		{args: "connection history ann --limit 1 --json", out: `^\[\n  \{\n    "id": \d+,`},
		{args: "connection history nobody", code: exitFailed, error: `there is no connection nobody`},
		{args: "explain ann", out: `(?s)^alive .*kind +connection\n.*connection +ann\n`},
		{args: "explain ann --json", out: `"kind": "connection"`},
		{args: "event list --connection ann", out: `(?s)^AT +TYPE +CONNECTION +PROVIDER +TENANT +OWNER +.*connection.paused +ann +home +shop +Ann `},
		{args: "event list --provider home --type connection.created", out: `(?s)connection.created +bob.*connection.created +ann`},
		{args: "event list --connection ann --client x", code: exitFailed, error: `(?i)^evergrant: .*\n`},
		{args: "provider list", out: `(?s)^NAME +TITLE +DEFINITION +STATE +REFRESH TOKENS +CONNECTIONS\ngone +.*\nhome +Evergrant +evergrant +up +single_use +2 active\n$`},
		{args: "provider list --json", out: `"definition": "evergrant"`},
		{args: "provider show home", out: `(?s)^provider +home\ntitle +Evergrant\n.*a spent one still works for +1m\n.*param issuer .*how it is known\nrefresh_token.replay_window +read `},
		{args: "provider show home --json", out: `"replay_window": "1m"`},
		{args: "provider show nobody", code: exitFailed, error: `^evergrant: there is no provider nobody on this server`},
		{args: "connection delete ann", out: `^deleted connection ann\n$`},
		{args: "connection delete ann", code: exitFailed, error: `there is no connection ann`},
		{args: "connection delete bob --json", out: `"deleted": true,\n  "revoked": `},
		{args: "webhook deliveries", out: `^$`, error: `^no deliveries; webhooks are set under keeper.webhooks`},
		{args: "webhook deliveries --json", out: `^\[\]\n$`},
	})
	if k.active(grant.Access) {
		t.Error("the connection was not revoked at the provider")
	}
}

// TestConnectionCreateRefuses has what is wrong with tokens and flags. No
// message shows a token.
func TestConnectionCreateRefuses(t *testing.T) {
	k := startKeeping(t, "")
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	for file, text := range map[string]string{one: "hush\n", two: "hush\nhush\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k.connect("taken")
	const answer = `{"access_token":"hush","refresh_token":"hush"}`
	k.script(t, []command{
		{args: "connection create home", code: exitUsage, error: `^evergrant: stdin has no token answer: JSON with access_token or refresh_token is expected\nsend for example`},
		{args: "connection create home", stdin: "hush", code: exitUsage, error: `stdin has no token answer`},
		{args: "connection create home", stdin: `{"access":"hush"}`, code: exitUsage, error: `stdin has no token answer`},
		{args: "connection create home", stdin: `{"access_token":"hush","expires_in":"hush"}`, code: exitUsage, error: `stdin has no token answer`},
		{args: "connection create home", stdin: strings.Repeat("hush", 80<<10), code: exitUsage, error: `the token answer is longer than 256 KiB`},
		{args: "connection create home --access-token-file - --refresh-token-file -", stdin: "hush", code: exitUsage, error: `stdin has one token`},
		{args: "connection create home --without-tokens --access-token-file " + one, code: exitUsage, error: `contradict each other`},
		{args: "connection create home --refresh-token-file " + two, code: exitUsage, error: `the refresh token must be one line`},
		{args: "connection create home --refresh-token-file " + dir + "/none", code: exitFailed, error: `no such file or directory\nname a file that has the refresh token and nothing else`},
		{args: "connection create home --expires-in 1h --expires-at 2031-05-17T09:30:00Z", stdin: answer, code: exitUsage, error: `give --expires-in or --expires-at`},
		{args: "connection create home --expires-in soon", stdin: answer, code: exitUsage, error: `--expires-in "soon" is not a duration`},
		{args: "connection create home --expires-in 0", stdin: answer, code: exitUsage, error: `--expires-in "0" is not a duration`},
		{args: "connection create home --expires-at tomorrow", stdin: answer, code: exitUsage, error: `--expires-at "tomorrow" is not a time such as`},
		{args: "connection create home --refresh-token-expires-at tomorrow", stdin: answer, code: exitUsage, error: `--refresh-token-expires-at "tomorrow" is not a time`},
		{args: "connection create home --param nothing", stdin: answer, code: exitUsage, error: `--param "nothing" is not NAME=VALUE`},
		{args: "connection create home --param a=1 --param a=2", stdin: answer, code: exitUsage, error: `its name is given twice`},
		{args: "connection create home --param shop=x", stdin: answer, code: exitFailed, error: "(?i)^evergrant: .*\n.*provider show"},
		{args: "connection create home --without-tokens", code: exitFailed, error: "(?i)^evergrant: .*\n.*connect"},
		{args: "connection create nobody", stdin: answer, code: exitFailed, error: "(?i)^evergrant: .*provider.*\n.*evergrant provider list"},
		{args: "connection create home --id taken", stdin: answer, code: exitFailed, error: `(?i)^evergrant: .*exists\n`},
		{args: "connection create home --id a/b", stdin: answer, code: exitFailed, error: `(?i)^evergrant: .*128`},
		{args: "connection create home --background never", stdin: answer, code: exitFailed, error: `(?i)^evergrant: .*background`},
	})
	k.stop()
	if shown := k.stdout.String() + k.stderr.String(); strings.Contains(shown, "hush") {
		t.Errorf("the server shows a token: %s", shown)
	}
}

func TestConnectionConnect(t *testing.T) {
	k := startKeeping(t, "")
	r := k.run("", "connection", "connect", "home", "--owner", "ann", "--id", "new", "--return-url", "https://app.example/settings")
	if r.code != exitDone || !regexp.MustCompile(`^`+regexp.QuoteMeta(k.url)+`/connect/\S+\n$`).MatchString(r.out) ||
		!regexp.MustCompile(`^send the owner's browser there before \S+; the connection is new\n$`).MatchString(r.stderr) {
		t.Fatalf("status %d, %q, %q", r.code, r.out, r.stderr)
	}
	resp, err := http.Get(strings.TrimSpace(r.out))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("the page: %v, %v", resp, err)
	}
	resp.Body.Close()
	session := document[evergrant.ConnectSession](t, k.ok("connection", "connect", "home", "--json"))
	if !strings.HasPrefix(session.URL, k.url+"/connect/") || session.Connection == "" || time.Until(session.ExpiresAt) < 20*time.Minute {
		t.Errorf("session %+v", session)
	}
	k.script(t, []command{
		{args: "connection connect nobody", code: exitFailed, error: "(?i)^evergrant: .*provider.*\n.*evergrant provider list"},
		{args: "connection connect home --return-url nowhere", code: exitFailed, error: `(?i)^evergrant: .*return_url`},
		{args: "connection connect home --param x", code: exitUsage, error: `NAME=VALUE`},
	})
}

// TestEventFollowStream sees events as they come, and with --after what was
// missed.
func TestEventFollowStream(t *testing.T) {
	k := startKeeping(t, "")
	k.connect("bob")
	k.connect("ann")
	for _, test := range []struct{ args, want string }{
		{"event follow --after 1", `(?s)^\S+ connection.created connection="ann" .*connection.paused `},
		{"event follow --connection ann", `(?m)^\S+ connection.paused connection="ann" provider="home" `},
		{"event follow --provider home --type connection. --json", `(?m)^{"id":\d+,.*"type":"connection.paused",.*}$`},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		out, done := &record{}, make(chan int, 1)
		var stderr bytes.Buffer
		go func() {
			args := append(strings.Fields(test.args), "--data", k.dir, "--server", k.url)
			done <- program{env: environment(), now: time.Now}.Run(ctx, args, strings.NewReader(""), out, &stderr)
		}()
		// It begins with what happens from its beginning on; nobody says when that
		// is, so that things happen until one is seen.
		eventually(t, func() bool {
			k.ok("connection", "pause", "ann")
			k.ok("connection", "resume", "ann")
			return strings.Contains(out.String(), "connection.paused")
		})
		cancel()
		if code := <-done; code != exitDone || stderr.Len() > 0 {
			t.Errorf("interrupted: status %d, %q", code, stderr.String())
		}
		if !regexp.MustCompile(test.want).MatchString(out.String()) {
			t.Errorf("%s: %q, want %s", test.args, out, test.want)
		}
	}
	k.stop()
	if r := k.run("", "event", "follow"); r.code != exitUnavailable {
		t.Errorf("without server: status %d, %q", r.code, r.stderr)
	}
}

var at2026 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// TestReauthorize has what is printed of each kind of refusal.
func TestReauthorize(t *testing.T) {
	problem := &evergrant.Problem{Title: "Conflict", Status: 409, Detail: "It is over.", Next: "ask its owner"}
	for _, test := range []struct {
		name       string
		dead       evergrant.ReauthorizationError
		what, next string
	}{
		{"all", evergrant.ReauthorizationError{Cause: "revoked", Since: at2026, ConnectURL: "https://x.example/connect/a", Problem: problem},
			"It is over (revoked), since " + localTime(at2026), "send its owner to https://x.example/connect/a to connect again"},
		{"nothing", evergrant.ReauthorizationError{Problem: problem}, "It is over", "ask its owner"},
		{"told already", evergrant.ReauthorizationError{Cause: "revoked", Since: at2026, Problem: &evergrant.Problem{Detail: "It is revoked since 2026."}}, "It is revoked since 2026", ""},
	} {
		f := failureOf(&test.dead)
		if f.code != exitReauthorize || f.what != test.what || f.next != test.next {
			t.Errorf("%s: %+v", test.name, *f)
		}
	}
	f := failureOf(&evergrant.Problem{Status: 503, Detail: "It is down.", Next: "wait", Code: evergrant.CodeUnavailable, RetryAfter: 90 * time.Second})
	if f.code != exitUnavailable || f.next != "wait; try again in 1m30s" {
		t.Errorf("unavailable: %+v", *f)
	}
}

// TestServeOnly has one part of the server run alone.
func TestServeOnly(t *testing.T) {
	status := func(s *running, path string) int {
		t.Helper()
		resp, err := http.Get(s.url + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	k := startKeeping(t, "", "--only", "keeper")
	grant := k.connect("ann")
	if got := k.ok("token", "ann"); got != grant.Access+"\n" {
		t.Errorf("token %q", got)
	}
	for path, want := range map[string]int{"/oauth/token": 404, "/oauth/authorize": 404, "/.well-known/oauth-authorization-server": 404, "/healthz": 200, "/readyz": 200} {
		if got := status(k.running, path); got != want {
			t.Errorf("keeper alone: %s gives %d, want %d", path, got, want)
		}
	}
	k.ok("backup", filepath.Join(t.TempDir(), "backup.db"))
	k.stop()
	if !strings.Contains(k.stdout.String(), "evergrant connection list --server ") {
		t.Errorf("it says %q", k.stdout)
	}

	s := start(t, t.TempDir(), seeds, "--only", "issuer")
	s.login()
	if got := status(s, "/connect/callback"); got != 404 {
		t.Errorf("issuer alone: /connect/callback gives %d", got)
	}
	r := s.run("", "connection", "list")
	if r.code != exitFailed || !strings.Contains(r.stderr, "keeper is not running") {
		t.Errorf("issuer alone: status %d, %q", r.code, r.stderr)
	}
	if s.stop(); strings.Contains(s.stdout.String(), "it keeps") {
		t.Errorf("issuer alone says %q", s.stdout)
	}
}

// TestServeSaysWhatItKeeps restarts a server after its configuration changed.
func TestServeSaysWhatItKeeps(t *testing.T) {
	k := startKeeping(t, "")
	k.connect("ann")
	k.connect("bob")
	k.ok("connection", "pause", "bob")
	k.stop()
	if !strings.Contains(k.stdout.String(), "it keeps                 0 connections at 2 providers\n") {
		t.Errorf("it says %q", k.stdout)
	}
	again := start(t, k.dir, k.config(""))
	again.stop()
	if !strings.Contains(again.stdout.String(), "it keeps                 2 connections at 2 providers (1 paused)\n") {
		t.Errorf("it says %q", again.stdout)
	}
	without := start(t, k.dir, "", "--json")
	r := without.run("", "token", "ann")
	without.stop()
	if ready := document[map[string]string](t, without.stdout.String()); ready["keeps"] != "2 connections at 0 providers (1 paused); not configured: home" {
		t.Errorf("it says %v", ready)
	}
	if r.code != exitUnavailable || !strings.Contains(r.stderr, "put the provider back into the configuration") {
		t.Errorf("without its provider: status %d, %q", r.code, r.stderr)
	}
}

// TestClientsOfTenants has applications with clients of their own.
func TestClientsOfTenants(t *testing.T) {
	k := startKeeping(t, `issuer:
  clients:
    - {id: shop, secret: a-secret-of-the-shop, grant_types: [client_credentials], scopes: ["keeper:read", "keeper:token"], tenant: shop}
`)
	k.connect("ann", "--tenant", "shop")
	k.connect("bob", "--tenant", "other")
	resp, err := http.PostForm(k.url+"/oauth/token", map[string][]string{"grant_type": {"client_credentials"}, "client_id": {"shop"}, "client_secret": {"a-secret-of-the-shop"}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer tokens
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Access == "" {
		t.Fatalf("no token: %v", err)
	}
	env := environment("EVERGRANT_SERVER", k.url, "EVERGRANT_TOKEN", answer.Access)
	for _, test := range []struct {
		args       string
		code       int
		out, error string
	}{
		{"connection list", exitDone, "ann", ""},
		{"token ann", exitDone, "e", ""},
		{"token bob", exitFailed, "", "there is no connection bob"},
		{"connection refresh ann", exitFailed, "", "keeper:write"},
		{"client list", exitFailed, "", "Only the operator may do this"},
	} {
		r := run(t, env, "", strings.Fields(test.args)...)
		if r.code != test.code || !strings.Contains(r.out, test.out) || !strings.Contains(r.stderr, test.error) || strings.Contains(r.out, "bob") {
			t.Errorf("%s: status %d, %q, %q", test.args, r.code, r.out, r.stderr)
		}
	}
	if out := k.ok("client", "show", "shop"); !regexp.MustCompile(`\ntenant +shop\n`).MatchString(out) {
		t.Errorf("client show: %s", out)
	}
}

// TestNoSecretOfAConnectionIsShown plants secrets and looks for them in all that
// a server and its commands print, at the most talkative level. Only the command
// token may show one.
func TestNoSecretOfAConnectionIsShown(t *testing.T) {
	k := startKeeping(t, "  webhooks: [{name: nobody, url: \"http://127.0.0.1:1/hush-path\", secret: "+hookSecret+"}]\n", "--log-level", "debug")
	hidden := map[string]string{"client secret": "hush-gone", "webhook secret": hookSecret, "path of a webhook": "hush-path"}
	grant := k.connect("ann")
	hidden["imported access token"], hidden["imported refresh token"] = grant.Access, grant.Refresh
	k.run(`{"access_token":"hush-dead-access","refresh_token":"hush-dead-refresh","expires_at":1000000000}`, "connection", "create", "gone", "--id", "dead")
	hidden["access token at a dead provider"], hidden["refresh token at a dead provider"] = "hush-dead-access", "hush-dead-refresh"
	hidden["renewed access token"] = strings.TrimSpace(k.ok("token", "ann", "--force"))
	var shown strings.Builder
	for _, args := range []string{"connection list --json", "connection show ann", "connection show ann --json", "connection history ann --json", "connection refresh ann",
		"connection refresh dead", "token dead", "explain dead", "explain dead --json", "connection pause ann --json", "token ann", "connection resume ann", "provider list --json",
		"provider show gone --json", "provider show home --json", "event list --json --limit 0", "webhook deliveries --json", "connection create home", "connection delete dead", "connection delete ann --json"} {
		r := k.run("hush-on-stdin", strings.Fields(args)...)
		fmt.Fprintln(&shown, args, r.out, r.stderr)
	}
	hidden["what was on stdin"] = "hush-on-stdin"
	k.stop()
	shown.WriteString(k.stdout.String() + k.stderr.String())
	for name, secret := range hidden {
		if strings.Contains(shown.String(), secret) {
			t.Errorf("the %s is shown", name)
		}
	}
	if text := shown.String(); !strings.Contains(text, "connection.refreshed") && !strings.Contains(text, "generation") {
		t.Errorf("too little is shown for this test: %s", text)
	}
}

func TestConnectionCreateOnATerminal(t *testing.T) {
	_, tty, screen := openTerminal(t)
	var out strings.Builder
	code := program{env: environment("EVERGRANT_TOKEN", "t"), now: time.Now}.Run(t.Context(), []string{"connection", "create", "home"}, tty, &out, tty)
	if code != exitUsage || out.Len() > 0 {
		t.Errorf("status %d, %q", code, out.String())
	}
	eventually(t, func() bool { return strings.Contains(screen.String(), "evergrant: there are no tokens") })
}

func TestServeRefusesTheKeeper(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, config, want string }{
		{"spool directory", "keeper: {spool_dir: " + file + "}", "evergrant: spool directory: "},
		{"spool directory below a file", "keeper: {spool_dir: " + file + "/spool}", "evergrant: spool directory: "},
		{"provider", "keeper:\n  providers:\n    - {name: acme, client_id: a}", ":3: the catalogue has no definition acme"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := run(t, environment(), "", "serve", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--config", writeConfig(t, test.config))
			if r.code != exitFailed || !strings.Contains(r.stderr, test.want) || strings.Count(r.stderr, "\n") < 2 {
				t.Errorf("status %d, %q", r.code, r.stderr)
			}
		})
	}
	dir := filepath.Join(t.TempDir(), "a", "spool")
	s := start(t, t.TempDir(), "keeper: {spool_dir: "+dir+"}")
	if info, err := os.Stat(dir); err != nil || info.Mode() != 0o700|os.ModeDir {
		t.Errorf("spool directory: %v, %v", info, err)
	}
	s.get("/readyz", http.StatusOK)
}
