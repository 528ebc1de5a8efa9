package web

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// chromium starts a browser without a window or a past, which ends with the
// test.
func chromium(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Fatal("this test needs Chromium: install it, for instance with `apt-get install -y chromium`")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WindowSize(560, 700),
		chromedp.Flag("disable-component-update", true))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	return ctx
}

// do drives the browser.
func do(t *testing.T, browser context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(browser, steps...); err != nil {
		t.Fatal(err)
	}
}

// load does a step that ends in another page, and waits for that page.
func load(t *testing.T, browser context.Context, step chromedp.Action[chromedp.Void]) {
	t.Helper()
	see(t, browser, chromedp.WaitEvent(page.LoadEventFired, nil, step))
}

// see reads something of the page.
func see[T any](t *testing.T, browser context.Context, action chromedp.Action[T]) T {
	t.Helper()
	seen, err := chromedp.Run(browser, action)
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// wantFocus waits until the browser has put the focus where autofocus says, which
// it does with the first frame and not with the load.
func wantFocus(t *testing.T, browser context.Context, want string) {
	t.Helper()
	var got string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if got = see(t, browser, focusedID()); got == want {
			return
		}
	}
	t.Errorf("the page has its focus on %q, not %q", got, want)
}

// focusedID is the id of the element that has the focus.
func focusedID() chromedp.Action[string] {
	return chromedp.Evaluate[string](`document.activeElement.id`)
}

// application is a client's web server: it takes the redirect and tries to
// frame pages.
func application(t *testing.T) (*httptest.Server, <-chan url.Values) {
	t.Helper()
	answers := make(chan url.Values, 1)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		switch r.URL.Path {
		case "/callback":
			answers <- r.URL.Query()
			io.WriteString(w, "back")
		case "/frame":
			fmt.Fprintf(w, `<iframe src=%q></iframe>`, r.FormValue("of"))
		}
	}))
	t.Cleanup(app.Close)
	return app, answers
}

func TestBrowser(t *testing.T) {
	s := start(t, false)
	app, answers := application(t)
	s.saveClient(issuer.Client{
		ID: "app", Name: "Holiday Photos", Secrets: []secret.Verifier{secret.NewVerifier(photosSecret)},
		RedirectURIs: []string{app.URL + "/callback"}, Scopes: oauth.Scope{"read", "write"},
	})
	request := s.url + authorizePath("app", "redirect_uri", app.URL+"/callback")
	browser := chromium(t)

	do(t, browser, chromedp.Navigate(request))
	wantFocus(t, browser, "username")
	if width := see(t, browser, chromedp.Evaluate[string](`getComputedStyle(document.querySelector("main")).maxWidth`)); width != "416px" {
		t.Errorf("the style is not in force: width %q", width)
	}
	do(t, browser, chromedp.SendKeys("#username", "alice"))
	load(t, browser, chromedp.SendKeys("#password", "looking-glass\n"))
	if message := see(t, browser, chromedp.Text("[role=alert]")); message != "The user name or the password is wrong." {
		t.Errorf("message %q", message)
	}
	wantFocus(t, browser, "password")
	if name := see(t, browser, chromedp.Value("#username")); name != "alice" {
		t.Errorf("after a wrong password the user name is %q", name)
	}

	load(t, browser, chromedp.SendKeys("#password", "wonderland\n"))
	if name, at := see(t, browser, chromedp.Text(".who strong")), see(t, browser, chromedp.Location()); name != "alice" || at != request {
		t.Errorf("signed in as %q, at %s", name, at)
	}
	do(t, browser, chromedp.Reload()) // would ask whether to send the password again, had it not been answered with a redirect
	do(t, browser, chromedp.Click(`input[value="write"]`))
	load(t, browser, chromedp.Click(`button[value="allow"]`))
	var answer url.Values
	select {
	case answer = <-answers:
	case <-browser.Done():
		t.Fatal("the browser did not come back to the client")
	}
	if answer.Get("state") != "s t&1" || answer.Get("iss") != s.url {
		t.Errorf("sent back with state %q, iss %q, error %q", answer.Get("state"), answer.Get("iss"), answer.Get("error"))
	}
	r := s.tokenRequest("app", photosSecret, "grant_type", "authorization_code", "code", answer.Get("code"),
		"redirect_uri", app.URL+"/callback", "code_verifier", verifier)
	if r.status != http.StatusOK || r.field(t, "scope") != "read" {
		t.Errorf("token answer: %d, scope %v", r.status, r.field(t, "scope"))
	}
}

func TestBrowserDoesNotFrame(t *testing.T) {
	s := start(t, false)
	app, _ := application(t)
	browser := chromium(t)
	for name, tt := range map[string]struct{ of, shown string }{
		"another page":     {app.URL + "/page", app.URL + "/page"}, // shows that the test sees what is framed
		"the sign-in page": {s.url + authorizePath("photos"), "chrome-error://chromewebdata/"},
		"the landing page": {s.url + "/", "chrome-error://chromewebdata/"},
		"an error page":    {s.url + "/oauth/authorize", "chrome-error://chromewebdata/"},
	} {
		t.Run(name, func(t *testing.T) {
			do(t, browser, chromedp.Navigate(app.URL+"/frame?"+form("of", tt.of).Encode()))
			answer, err := chromedp.Call(browser, page.GetFrameTree, cdp.Empty{})
			if err != nil {
				t.Fatal(err)
			}
			frames := answer.FrameTree
			if len(frames.ChildFrames) != 1 || !strings.HasPrefix(frames.ChildFrames[0].Frame.URL, tt.shown) {
				t.Errorf("frames %+v, want one that shows %s", frames.ChildFrames, tt.shown)
			}
		})
	}
}
