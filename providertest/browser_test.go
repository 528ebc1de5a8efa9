package providertest_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/evergrant/evergrant/providertest"
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
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	return ctx
}

// TestBrowser presses both buttons of the page in a real browser, which then
// goes back to the client.
func TestBrowser(t *testing.T) {
	answers := make(chan url.Values, 1)
	client := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/callback" {
			answers <- r.URL.Query()
		}
		io.WriteString(w, "back")
	}))
	t.Cleanup(client.Close)
	b := serveWith(t, providertest.Zoho(), providertest.Options{})
	browser := chromium(t)
	press := func(button string) url.Values {
		t.Helper()
		start := b.url + providertest.AuthorizePath + "?" + form("response_type", "code", "client_id", "sim-client", "redirect_uri", client.URL+"/callback",
			"state", "s t&1", "scope", "read,write", "access_type", "offline", "login_hint", "alice")
		if err := chromedp.Do(browser, chromedp.Navigate(start)); err != nil {
			t.Fatal(err)
		}
		// The client has the answer before its page is loaded, and going elsewhere
		// meanwhile would end the load.
		click := chromedp.Click(`button[value="` + button + `"]`)
		if _, err := chromedp.Run(browser, chromedp.WaitEvent(page.LoadEventFired, nil, click)); err != nil {
			t.Fatal(err)
		}
		select {
		case answer := <-answers:
			return answer
		case <-browser.Done():
			t.Fatal("the browser did not come back to the client")
		}
		return nil
	}
	if answer := press("deny"); answer.Get("error") != "access_denied" || answer.Get("state") != "s t&1" || answer.Has("code") {
		t.Errorf("after a refusal: %v", answer)
	}
	answer := press("allow")
	if answer.Get("accounts-server") != b.url || answer.Get("state") != "s t&1" {
		t.Errorf("after the consent: %v", answer)
	}
	g := b.token("grant_type", "authorization_code", "code", answer.Get("code"), "redirect_uri", client.URL+"/callback")
	b.want(g, http.StatusOK, "scope", "read,write")
	if owner := b.sim.Grants()[0].Owner; owner != "alice" {
		t.Errorf("the owner is %q", owner)
	}
}
