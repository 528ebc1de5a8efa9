package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

func TestTourKeepsItsPromises(t *testing.T) {
	e := startExample(t, "")
	var out bytes.Buffer
	tour := e.tour(&out)
	if err := tour.run(t.Context(), issuerSteps()); err != nil {
		t.Fatal(err)
	}
	for _, p := range tour.broken() {
		t.Errorf("%s: %s: %s", p.Step, p.Promise, p.Compared)
	}
	if len(tour.promises) < 3*len(issuerSteps()) {
		t.Errorf("only %d promises were checked", len(tour.promises))
	}
	for _, s := range issuerSteps() {
		if !strings.Contains(out.String(), s.title) {
			t.Errorf("%q is not shown", s.title)
		}
	}
	if strings.ContainsRune(out.String(), '\x1b') || strings.ContainsRune(out.String(), '\r') {
		t.Error("what is no terminal gets control characters")
	}
}

// TestTourAgain holds that a tour depends on nothing that another left behind.
func TestTourAgain(t *testing.T) {
	e := startExample(t, "")
	for range 2 {
		tour := e.tour(io.Discard)
		if err := tour.run(t.Context(), issuerSteps()); err != nil || len(tour.broken()) > 0 {
			t.Fatal(err, tour.broken())
		}
	}
}

// sabotage is something that a server does wrong in one step, and the promise
// that it breaks.
type sabotage struct {
	step, promise string
	change        func(*call)
}

// on changes answers of one path, those whose number is n, or all where n is 0.
func on(path string, n int, change func(*call)) func(*call) {
	return func(c *call) {
		if strings.HasPrefix(c.path, path) && (n == 0 || c.nth == n) {
			change(c)
		}
	}
}

func setting(name string, value any) func(*call) { return func(c *call) { c.set(name, value) } }

func status(code int) func(*call) { return func(c *call) { c.status = code } }

// oneFurther answers that the grant is one generation further than it is.
func oneFurther(c *call) { c.set("generation", c.get("generation").(float64)+1) }

// items changes the items of a list.
func items(change func([]map[string]any) []map[string]any) func(*call) {
	return func(c *call) {
		var list struct {
			Items []map[string]any `json:"items"`
		}
		json.Unmarshal(c.body, &list)
		c.set("items", change(list.Items))
	}
}

func eachItem(name string, value any) func(*call) {
	return items(func(all []map[string]any) []map[string]any {
		for _, item := range all {
			item[name] = value
		}
		return all
	})
}

func twice(all []map[string]any) []map[string]any { return append(all, all...) }

func none([]map[string]any) []map[string]any { return []map[string]any{} }

const (
	onIssue     = "Issue"
	onRefresh   = "Refresh"
	onRace      = "A race: one refresh, 20 times at once"
	onLoss      = "A lost answer, and its retry"
	onNarrowing = "A narrower scope"
	onLook      = "Introspection"
	onClient    = "A client for itself"
	onCode      = "Authorization code with PKCE"
	onMove      = "A client of another server"
	onTheft     = "A thief with an old token"
	onRevoking  = "Revocation"
	grantsPath  = "/v1/grants"
)

// sabotages has at least one for every promise of the tour.
func sabotages() []sabotage {
	return slices.Concat(sabotagesOfTokens(), sabotagesOfRetries(), sabotagesOfScopes(), sabotagesOfCodes(), sabotagesOfMoving(), sabotagesOfEnds())
}

func sabotagesOfTokens() []sabotage {
	token := issuer.TokenPath
	return []sabotage{
		{onIssue, "the client gets an access token and a refresh token", on(token, 1, setting("expires_in", nil))},
		{onIssue, "the client gets an access token and a refresh token", on(token, 1, setting("refresh_token", nil))},
		{onIssue, "the client gets an access token and a refresh token", on(token, 1, setting("token_type", "mac"))},
		{onIssue, "the client gets an access token and a refresh token", on(token, 1, status(201))},
		{onIssue, "a request without scope gets all of the client's, and is told so", on(token, 1, setting("scope", "read"))},
		{onIssue, "no cache may keep the answer", on(token, 1, func(c *call) { c.header.Set("Cache-Control", "public") })},
		{onIssue, "the step goes through to its end", on("/v1/explain", 1, status(500))},

		{onRefresh, "the client gets a new refresh token", on(token, 1, func(c *call) { c.set("refresh_token", c.form.Get("refresh_token")) })},
		{onRefresh, "the client gets a new refresh token", on(token, 1, setting("refresh_token", nil))},
		{onRefresh, "and a new access token", on(token, 1, func(c *call) { c.set("access_token", c.issued[len(c.issued)-1].AccessToken) })},
		{onRefresh, "the scope stays as it was granted", on(token, 1, setting("scope", "read"))},

		{onLook, "the newest access token is active", on(issuer.IntrospectPath, 1, setting("active", false))},
		{onLook, "the resource server learns for whom it acts, and what it may do", on(issuer.IntrospectPath, 1, setting("username", "eve"))},
		{onLook, "the resource server learns for whom it acts, and what it may do", on(issuer.IntrospectPath, 1, setting("scope", "read write admin"))},
		{onLook, "the step goes through to its end", on(issuer.IntrospectPath, 1, status(401))},

		{onClient, "the client gets an access token in its own name", on(token, 1, func(c *call) { c.set("access_token", c.issued[0].AccessToken) })},
		{onClient, "the client gets an access token in its own name", on(token, 1, status(400))},
		{onClient, "it gets no refresh token, as it needs none", on(token, 1, setting("refresh_token", "egr_x"))},
		{onClient, "nothing is stored for it", on(grantsPath, 2, items(twice))},
	}
}

func sabotagesOfRetries() []sabotage {
	token := issuer.TokenPath
	other := func(name string) func(*call) { return func(c *call) { c.set(name, c.get(name).(string)+"x") } }
	return []sabotage{
		{onRace, "every request is answered with tokens", on(token, 7, status(503))},
		{onRace, "all answers have the same refresh token", on(token, 20, other("refresh_token"))},
		{onRace, "and the same access token, byte for byte", on(token, 1, other("access_token"))},
		{onRace, "there is one chain: the grant moved by one generation", on(grantsPath, 2, oneFurther)},

		{onLoss, "the server answered, and the client saw nothing of it", on(token, 1, status(503))},
		{onLoss, "the retry gets the lost refresh token, byte for byte", on(token, 2, other("refresh_token"))},
		{onLoss, "the retry gets the lost refresh token, byte for byte", on(token, 2, status(400))},
		{onLoss, "and the lost access token, byte for byte", on(token, 2, other("access_token"))},
		{onLoss, "the two requests cost one generation", on(grantsPath, 2, oneFurther)},
		{onLoss, "the step goes through to its end", on(token, 1, func(*call) { panic(http.ErrAbortHandler) })},
	}
}

func sabotagesOfScopes() []sabotage {
	asked := func(scope string, change func(*call)) func(*call) {
		return on(issuer.TokenPath, 0, func(c *call) {
			if c.form.Get("scope") == scope {
				change(c)
			}
		})
	}
	return []sabotage{
		{onNarrowing, "the access token is narrowed", asked("read", setting("scope", "read write"))},
		{onNarrowing, "the access token is narrowed", asked("read", func(c *call) { c.set("access_token", c.issued[0].AccessToken) })},
		{onNarrowing, "more than was granted is refused", asked("read write admin", (*call).grantTokens)},
		{onNarrowing, "more than was granted is refused", asked("read write admin", setting("error", "invalid_grant"))},
		{onNarrowing, "the refusal spent nothing: the same refresh token still works", asked("", status(400))},
		{onNarrowing, "the refresh token has kept the whole scope", asked("", setting("scope", "read"))},
		{onNarrowing, "the refresh token has kept the whole scope", asked("", func(c *call) { c.set("access_token", c.issued[len(c.issued)-1].AccessToken) })},
	}
}

func sabotagesOfCodes() []sabotage {
	token := issuer.TokenPath
	back := func(name, value string) func(*call) {
		return func(c *call) {
			location, _ := url.Parse(c.header.Get("Location"))
			query := location.Query()
			query.Set(name, value)
			location.RawQuery = query.Encode()
			c.header.Set("Location", location.String())
		}
	}
	page := func(c *call) { c.body = []byte("<title>Welcome back</title>") }
	return []sabotage{
		{onCode, "the owner is asked to sign in, and then what to allow", on(issuer.AuthorizePath, 1, page)},
		{onCode, "the owner is asked to sign in, and then what to allow", on(issuer.AuthorizePath, 3, page)},
		{onCode, "the step goes through to its end", on(issuer.AuthorizePath, 4, status(200))},
		{onCode, "the code comes back to the client, with its state and the issuer", on(issuer.AuthorizePath, 4, back("state", "x"))},
		{onCode, "the code comes back to the client, with its state and the issuer", on(issuer.AuthorizePath, 4, back("iss", "https://evil.example"))},
		{onCode, "the code comes back to the client, with its state and the issuer", on(issuer.AuthorizePath, 4, back("code", ""))},
		{onCode, "without the verifier the code is worth nothing", on(token, 1, (*call).grantTokens)},
		{onCode, "code and verifier give tokens, and the attempt before spent nothing", on(token, 2, status(400))},
		{onCode, "code and verifier give tokens, and the attempt before spent nothing", on(token, 2, setting("access_token", ""))},
		{onCode, "a code works once: its replay is refused", on(token, 3, (*call).grantTokens)},
		{onCode, "and what it had given is revoked: the access token is inactive", on(issuer.IntrospectPath, 1, setting("active", true))},
		{onCode, "the grant says why", on("/v1/explain", 1, func(c *call) {
			grant := c.get("grant").(map[string]any)
			grant["revoked_cause"] = "client_request"
			c.set("grant", grant)
		})},
		{onCode, "the step goes through to its end", on("/v1/explain", 1, setting("grant", nil))},
	}
}

func sabotagesOfMoving() []sabotage {
	token := legacyPath()
	return []sabotage{
		{onMove, "it is answered as by its old server, member by member: a refresh gives no refresh token", on(token, 2, setting("refresh_token", "r"))},
		{onMove, "it is answered as by its old server, member by member: a refresh gives no refresh token", on(token, 2, setting("token_type", "bearer"))},
		{onMove, "the report says what the client relies on, and which setting ends it", on("/v1/habits", 1, items(none))},
		{onMove, "from the next request on each refresh gives the next refresh token", on(token, 5, setting("refresh_token", nil))},
		{onMove, "a lost answer, which was a new sign-in before, is given again", on(token, 8, setting("refresh_token", "r"))},
		{onMove, "a lost answer, which was a new sign-in before, is given again", on(token, 8, setting("access_token", "a"))},
		{onMove, "no request of the client has failed on the way", on(token, 8, status(503))},
		{onMove, "no request of the client has failed on the way", on(token, 6, status(400))},
	}
}

func sabotagesOfEnds() []sabotage {
	token := issuer.TokenPath
	return []sabotage{
		{onTheft, "the thief gets nothing", on(token, 1, (*call).grantTokens)},
		{onTheft, "the thief gets nothing", on(token, 1, setting("error", "server_error"))},
		{onTheft, "the theft is one event", on("/v1/events", 1, items(twice))},
		{onTheft, "the theft is one event", on("/v1/events", 1, items(none))},
		{onTheft, "it says from where the token came", on("/v1/events", 1, eachItem("address", ""))},
		{onTheft, "and of which generation it was", on("/v1/events", 1, eachItem("detail", "refresh token of generation 2 presented, the grant is at 6"))},
		{onTheft, "and of which generation it was", on("/v1/events", 1, eachItem("detail", "refresh token of generation 1 presented, the grant is at 16"))},
		{onTheft, "the newest refresh token is dead too", on(token, 2, (*call).grantTokens)},
		{onTheft, "the newest access token is inactive at once", on(issuer.IntrospectPath, 1, setting("active", true))},
		{onTheft, "evergrant explain says why the grant is dead, and what repairs it", on("/v1/explain", 1, setting("alive", true))},
		{onTheft, "evergrant explain says why the grant is dead, and what repairs it", on("/v1/explain", 1, setting("repair", ""))},
		{onTheft, "evergrant explain says why the grant is dead, and what repairs it", on("/v1/explain", 1, setting("grant", nil))},

		{onRevoking, "the revocation is acknowledged", on(issuer.RevokePath, 1, status(503))},
		{onRevoking, "the access token is inactive at once", on(issuer.IntrospectPath, 2, setting("active", true))},
		{onRevoking, "the access token is inactive at once", on(issuer.IntrospectPath, 1, setting("active", false))},
		{onRevoking, "the refresh token is refused", on(token, 2, (*call).grantTokens)},
	}
}

// TestTourSeesWhatIsBroken puts a server that does one thing wrong in front of
// the tour, for every promise.
func TestTourSeesWhatIsBroken(t *testing.T) {
	e := startExample(t, "")
	for _, s := range sabotages() {
		t.Run(s.step+"/"+s.promise, func(t *testing.T) {
			var out, stderr bytes.Buffer
			tour := e.tour(&out)
			e.until(t, tour, s.step, s.change)
			e.use(nil)
			broken := tour.broken()
			if !slices.ContainsFunc(broken, func(p promise) bool { return p.Step == s.step && p.Promise == s.promise }) {
				t.Fatalf("broken are %v", broken)
			}
			in := &invocation{stdout: &out, stderr: &stderr}
			if code := in.report(in.sum(tour, time.Second)); code != exitFailed {
				t.Errorf("exit status %d", code)
			}
			if !strings.Contains(stderr.String(), "in "+s.step+": "+s.promise) {
				t.Errorf("stderr does not name the promise: %s", &stderr)
			}
			if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), "✗ BROKEN: "+s.promise) {
				t.Errorf("it is not shown:\n%s", &out)
			}
		})
	}
}

// TestEveryPromiseIsSabotaged holds that no promise is only printed.
func TestEveryPromiseIsSabotaged(t *testing.T) {
	e := startExample(t, "")
	tour := e.tour(io.Discard)
	if err := tour.run(t.Context(), issuerSteps()); err != nil {
		t.Fatal(err)
	}
	for _, p := range tour.promises {
		if !slices.ContainsFunc(sabotages(), func(s sabotage) bool { return s.step == p.Step && s.promise == p.Promise }) {
			t.Errorf("%s: nothing shows that %q is checked", p.Step, p.Promise)
		}
	}
}

// TestStrictServerBreaksTheRetry runs the tour against a real server that does
// not promise what the tour expects.
func TestStrictServerBreaksTheRetry(t *testing.T) {
	e := startExample(t, "  refresh_token_retry_window: 0\n")
	tour := e.tour(io.Discard)
	e.until(t, tour, onRace, nil)
	broken := tour.broken()
	if len(broken) == 0 || broken[0].Promise != "every request is answered with tokens" || broken[0].Compared != "1 of 20 got 200" {
		t.Errorf("broken are %v", broken)
	}
}

func TestTourWithoutServer(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	e := &example{url: gone.URL, token: secret.NewText("token")}
	tour := e.tour(io.Discard)
	if err := tour.run(t.Context(), issuerSteps()); err != nil {
		t.Fatal(err)
	}
	if broken := tour.broken(); len(broken) != len(issuerSteps()) || len(tour.promises) != len(issuerSteps()) {
		t.Errorf("of %d promises broken are %v", len(tour.promises), broken)
	}
}

func TestTourEndsWithItsContext(t *testing.T) {
	e := startExample(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	tour := e.tour(io.Discard)
	e.use(func(c *call) {
		if c.form.Get("grant_type") == oauth.GrantRefreshToken {
			cancel()
		}
	})
	if err := tour.run(ctx, issuerSteps()); err == nil || ctx.Err() == nil {
		t.Errorf("the tour went on: %v", err)
	}
	for _, p := range tour.promises {
		if p.Step != onIssue && p.Step != onRefresh {
			t.Errorf("%s was begun", p.Step)
		}
	}
}

// commands are the command lines in the demo's output, as they can be pasted.
func commands(out string) []string {
	var found []string
	var open bool
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		first, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		begins := strings.HasPrefix(line, "    ") && (first == "curl" || first == "for" || first == "evergrant" || strings.HasPrefix(first, "R=$(curl"))
		switch {
		case open:
			found[len(found)-1] += "\n" + line
		case begins:
			found = append(found, line)
		}
		open = (begins || open) && strings.HasSuffix(line, "\\")
	}
	return found
}

// pasted is what a command prints that is pasted into a shell, where this binary
// is evergrant.
func pasted(t *testing.T, command string) string {
	t.Helper()
	bin := t.TempDir()
	if err := os.Symlink(os.Args[0], filepath.Join(bin, "evergrant")); err != nil {
		t.Error(err)
	}
	shell := exec.CommandContext(t.Context(), "sh", "-c", command)
	shell.Env = append(os.Environ(), "EVERGRANT_TEST_PROCESS=1", "PATH="+bin+":"+os.Getenv("PATH"))
	out, err := shell.Output()
	if err != nil {
		t.Errorf("%s: %v", command, err)
	}
	return string(out)
}

// TestCurlLinesWork pastes what the tour printed, while it is as true as when
// it was printed, and compares with what the tour got.
func TestCurlLinesWork(t *testing.T) {
	e := startExample(t, "")
	for _, test := range []struct {
		step  string
		after int // which of its commands
		check func(t *testing.T, printed string, tour *tour)
	}{
		{onIssue, 0, func(t *testing.T, printed string, _ *tour) {
			if tokens := decode[oauth.TokenResponse](exchange{body: []byte(printed)}); tokens.RefreshToken == "" || tokens.Scope != demoScope {
				t.Errorf("printed %s", printed)
			}
		}},
		{onRefresh, 0, func(t *testing.T, printed string, tour *tour) {
			if tokens := decode[oauth.TokenResponse](exchange{body: []byte(printed)}); tokens.RefreshToken != tour.newest.RefreshToken || tokens.AccessToken != tour.newest.AccessToken {
				t.Errorf("the retry of the refresh printed %s", printed)
			}
		}},
		{onRace, 0, func(t *testing.T, printed string, tour *tour) {
			if n := strings.Count(printed, tour.newest.RefreshToken); n != racers {
				t.Errorf("%d of %d got the token: %s", n, racers, printed)
			}
		}},
		{onLook, 0, func(t *testing.T, printed string, _ *tour) {
			if seen := decode[oauth.Introspection](exchange{body: []byte(printed)}); !seen.Active || seen.Username != demoUsername {
				t.Errorf("printed %s", printed)
			}
		}},
		{onCode, 0, func(t *testing.T, printed string, _ *tour) {
			if !strings.Contains(printed, `name="password"`) {
				t.Errorf("no sign-in page: %s", printed)
			}
		}},
		{onCode, 2, func(t *testing.T, printed string, _ *tour) {
			if !strings.Contains(printed, `value="allow"`) {
				t.Errorf("no consent page: %s", printed)
			}
		}},
	} {
		t.Run(test.step, func(t *testing.T) {
			var out bytes.Buffer
			tour := e.tour(&out)
			e.until(t, tour, test.step, nil)
			_, shown, _ := strings.Cut(out.String(), "── "+test.step)
			test.check(t, pasted(t, commands(shown)[test.after]), tour)
		})
	}
}
