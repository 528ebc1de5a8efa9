package main

import (
	"bytes"
	"context"
	"html"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/oauth"
)

// runDemo runs the demo with its temporary directory below a directory of the
// test, which must be empty afterwards. The environment has settings that the
// demo must not take from it.
func runDemo(ctx context.Context, t *testing.T, stdout *record, args ...string) (code int, stderr string) {
	t.Helper()
	asProcess(t)
	temporary := t.TempDir()
	p := program{now: time.Now, env: environment(rootKeyEnv, "not a key", "EVERGRANT_SERVER", "http://127.0.0.1:1", "EVERGRANT_TOKEN", "wrong", "TMPDIR", temporary)}
	var errors record
	code = p.Run(ctx, append([]string{"demo"}, args...), strings.NewReader(""), stdout, &errors)
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	return code, errors.String()
}

// asProcess lets the tour start this test binary as the program.
func asProcess(t *testing.T) {
	t.Helper()
	t.Setenv("EVERGRANT_TEST_PROCESS", "1")
}

// TestDemoJSON holds that what --once --json prints at the end is one document
// with every promise.
func TestDemoJSON(t *testing.T) {
	e := startExample(t, "")
	var out bytes.Buffer
	in := &invocation{program: program{env: environment(), now: time.Now}, stdout: &out, json: true}
	tour := in.newTour(e.url, e.token, "http://127.0.0.1:1"+callbackPath, e.stage)
	if err := tour.run(t.Context(), issuerSteps()); err != nil {
		t.Fatal(err)
	}
	tour.promise(false, "the last one", "%s", "this with that")
	outcome := in.sum(tour, time.Second)
	told := document[struct {
		Kept, Broken int
		Promises     []promise
	}](t, out.String())
	if outcome == nil || told.Kept == 0 || told.Broken != 1 || len(told.Promises) != told.Kept+1 {
		t.Errorf("%v: %d kept, %d broken, %d in all", outcome, told.Kept, told.Broken, len(told.Promises))
	}
	for i, p := range told.Promises {
		if p.Step == "" || p.Promise == "" || p.Kept != (i < told.Kept) || p.Compared == "" {
			t.Errorf("incomplete, or broken: %+v", p)
		}
	}
}

func TestDemoRefusals(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, test := range []struct {
		name   string
		args   []string
		code   int
		stderr []string
	}{
		{"a taken port", []string{"--once", "--listen", taken.Addr().String()}, exitFailed, []string{taken.Addr().String() + " is in use", "--listen 127.0.0.1:0"}},
		{"a taken port, to stay", []string{"--listen", taken.Addr().String()}, exitFailed, []string{"is in use", "--listen 127.0.0.1:0"}},
		{"an address that others reach", []string{"--listen", "0.0.0.0:0"}, exitFailed, []string{"--listen: ", "in clear"}},
		{"no address", []string{"--listen", "8080"}, exitFailed, []string{"HOST:PORT"}},
		{"a data directory", []string{"--data", "/tmp/somewhere"}, exitUsage, []string{"leave --data out", "demo --help"}},
		{"a document without end", []string{"--json"}, exitUsage, []string{"add --once"}},
		{"arguments", []string{"now"}, exitUsage, []string{"evergrant demo"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out record
			code, stderr := runDemo(t.Context(), t, &out, test.args...)
			if code != test.code || out.String() != "" {
				t.Errorf("exit status %d, stdout %q", code, &out)
			}
			for _, want := range test.stderr {
				if !strings.Contains(stderr, want) {
					t.Errorf("stderr has no %q: %s", want, stderr)
				}
			}
		})
	}
}

func TestDemoWithoutTemporaryDirectory(t *testing.T) {
	var out, stderr record
	p := program{env: environment("TMPDIR", t.TempDir()+"/missing"), now: time.Now}
	if code := p.Run(t.Context(), []string{"demo", "--once"}, strings.NewReader(""), &out, &stderr); code != exitFailed || !strings.Contains(stderr.String(), "TMPDIR") {
		t.Errorf("exit status %d: %s", code, &stderr)
	}
}

// TestDemoInterrupted interrupts the demo at once, while its second server starts,
// and when that is started again.
func TestDemoInterrupted(t *testing.T) {
	for _, at := range []string{"", "serve --config", "kill -9"} {
		t.Run(at, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			var out record
			ended, watched := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(watched)
				waitFor(ended, &out, at)
				interrupt()
			}()
			if at == "" {
				<-watched
			}
			code, stderr := runDemo(ctx, t, &out, "--once", "--listen", "127.0.0.1:0")
			close(ended)
			<-watched
			if code != exitFailed || strings.Contains(out.String(), "BROKEN") || !strings.Contains(out.String(), at) {
				t.Errorf("exit status %d: %s\n%s", code, stderr, &out)
			}
		})
	}
}

// waitFor waits until texts were written, one after the other, and reports
// whether they were before the demo ended.
func waitFor(ended <-chan struct{}, out *record, texts ...string) bool {
	for {
		rest, found := out.String(), true
		for _, text := range texts {
			var here bool
			_, rest, here = strings.Cut(rest, text)
			found = found && here
		}
		if found {
			return true
		}
		select {
		case <-ended:
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestDemoStaysUp goes through the whole tour, and tries what the demo says to
// try, until it is interrupted. The tour takes half a minute, since it waits for
// tokens to come to their end.
func TestDemoStaysUp(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var out record
	ended, tried := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(tried)
		defer interrupt()
		if waitFor(ended, &out, "The renewals, as they come:\n") {
			_, shown, _ := strings.Cut(out.String(), "Now try it yourself")
			tryDemo(t, shown)
			tryKeeper(t, shown)
			waitFor(ended, &out, "The renewals, as they come:\n", "minted anew")
		}
	}()
	code, stderr := runDemo(ctx, t, &out, "--listen", "127.0.0.1:0")
	close(ended)
	<-tried
	if code != exitDone || stderr != "" || !strings.Contains(out.String(), " promises kept, 0 broken") {
		t.Errorf("exit status %d: %s\n%s", code, stderr, &out)
	}
}

// tryDemo pastes and opens what is shown. It uses t.Errorf only, as it runs
// beside the test.
func tryDemo(t *testing.T, shown string) {
	lines := commands(shown)
	if len(lines) != 8 {
		t.Errorf("there are %d commands:\n%s", len(lines), shown)
		return
	}
	first := pasted(t, lines[0]+"\n"+lines[1]+"\n"+lines[1])
	if strings.Count(first, `"refresh_token"`) != 2 {
		t.Errorf("refresh and retry printed %s", first)
	}
	for i, want := range map[int]string{2: `"access_token":"sim_at_`, 3: `"owner":"bob"`, 4: `"owner":"client"`, 6: demoClient, 7: "connection.reminted"} {
		if printed := pasted(t, lines[i]); !strings.Contains(printed, want) {
			t.Errorf("%s printed no %s: %s", lines[i], want, printed)
		}
	}
	base := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(shown)
	for _, url := range regexp.MustCompile(`(?m)^    (http://\S+)$`).FindAllStringSubmatch(shown, -1) {
		if resp, err := http.Get(url[1]); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %v", url[1], err)
		} else {
			resp.Body.Close()
		}
	}
	tryBrowser(t, base, shown)
}

// tryKeeper connects at Eventix as a user does, who is asked there now.
func tryKeeper(t *testing.T, shown string) {
	lines := commands(shown)
	link := strings.TrimSpace(pasted(t, lines[5]))
	base := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(link)
	touring := &tour{base: base, http: http.DefaultClient, out: &story{w: &record{}}}
	b, err := touring.newBrowser()
	if err != nil {
		t.Error(err)
		return
	}
	left, err := b.press(t.Context(), link)
	if err != nil || left.status != http.StatusSeeOther {
		t.Errorf("%q leads to %s, %v", link, left.outcome(), err)
		return
	}
	at := left.header.Get("Location")
	asked, err := b.open(t.Context(), at)
	if err != nil || !strings.Contains(string(asked.body), `value="allow"`) {
		t.Errorf("Eventix does not ask: %s, %v\n%s", asked.outcome(), err, asked.body)
		return
	}
	back, err := b.open(t.Context(), at, "decision", "allow")
	if err != nil {
		t.Error(err)
		return
	}
	if last, err := b.open(t.Context(), back.header.Get("Location")); err != nil || last.title() != "Eventix is connected" {
		t.Errorf("the end is %q, %v", last.title(), err)
	}
}

// tryBrowser opens the page to sign in, as a browser does, and redeems the code
// with the line that the client's page shows.
func tryBrowser(t *testing.T, base, shown string) {
	page := regexp.MustCompile(`http://\S+/oauth/authorize\S+`).FindString(shown)
	browsing := &tour{base: base, http: http.DefaultClient, out: &story{w: &record{}}}
	back, err := browsing.consent(t.Context(), page)
	if err != nil {
		t.Errorf("%s: %v", page, err)
		return
	}
	for target, want := range map[string]string{back.String(): "works once", "http://" + back.Host + back.Path + "?error=access_denied&error_description=The+%3Cowner%3E+refused.": "access_denied: The &lt;owner&gt; refused."} {
		req, err := http.NewRequest(http.MethodGet, target, nil)
		if err != nil {
			t.Error(err)
			return
		}
		e, err := send(http.DefaultClient, req)
		if err != nil || e.status != http.StatusOK || !strings.Contains(string(e.body), want) {
			t.Errorf("%s: %v\n%s", target, err, e.body)
		}
		if _, command, ok := strings.Cut(string(e.body), "<pre>"); ok {
			command, _, _ = strings.Cut(command, "</pre>")
			if !strings.Contains(command, oauth.GrantAuthorizationCode) {
				t.Errorf("no command to redeem: %s", command)
			}
			tokens := decode[oauth.TokenResponse](exchange{body: []byte(pasted(t, html.UnescapeString(command)))})
			if tokens.RefreshToken == "" || tokens.Scope != demoScope {
				t.Errorf("%s did not redeem the code", command)
			}
		}
	}
}
