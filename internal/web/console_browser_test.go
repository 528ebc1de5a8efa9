package web

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/evergrant/evergrant/providertest"
)

// TestConnectInBrowser goes the way of an owner: from an application to the
// connect page, the provider's consent, and back.
func TestConnectInBrowser(t *testing.T) {
	s := start(t, false, providertest.Plain())
	s.sims["plain"].SetConsent(providertest.Ask)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("<!doctype html><title>app</title><p id=back>" + r.URL.RawQuery + "</p>"))
	}))
	t.Cleanup(app.Close)
	browser := chromium(t)

	path, id := s.link(map[string]any{"provider": "plain", "owner": "alice", "return_url": app.URL + "/done"})
	do(t, browser, chromedp.Navigate(s.url+path))
	if width := see(t, browser, chromedp.Evaluate[string](`getComputedStyle(document.querySelector("main")).maxWidth`)); width != "416px" {
		t.Errorf("the style is not in force: width %q", width)
	}
	load(t, browser, chromedp.Click("main button"))
	if title := see(t, browser, chromedp.Title()); !strings.Contains(title, "simulated") {
		t.Fatalf("the button leads to %q", title)
	}
	load(t, browser, chromedp.Click(`button[value=deny]`))
	if text := see(t, browser, chromedp.Text("h1")); text != "Nothing was connected" {
		t.Errorf("after saying no: %q", text)
	}
	load(t, browser, chromedp.Click("a.button:not(.second)"))
	load(t, browser, chromedp.Click("main button"))
	load(t, browser, chromedp.Click(`button[value=allow]`))
	if query := see(t, browser, chromedp.Text("#back")); query != "connection="+id+"&status=connected" {
		t.Errorf("the application sees %q", query)
	}
	if c, err := s.keeper.Connection(t.Context(), id); err != nil || c.Owner != "alice" || c.Generation != 1 {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestConsoleInBrowser goes the way of an operator: a sign-in, a connection that
// is dead, and a link for its owner.
func TestConsoleInBrowser(t *testing.T) {
	s := start(t, false, providertest.Plain(), providertest.Google())
	grant, _ := s.imports("invoices", "plain", "alice", "")
	s.imports("calendar", "google", "bob", "")
	s.sims["plain"].Revoke(grant)
	s.clock.advance(2 * time.Hour)
	s.api("GET", "/v1/connections/invoices/token", "")
	browser := chromium(t)

	do(t, browser, chromedp.Navigate(s.url+"/console/connections"))
	wantFocus(t, browser, "token")
	load(t, browser, chromedp.SendKeys("#token", s.token+"\n"))
	if at := see(t, browser, chromedp.Evaluate[string](`location.pathname`)); at != "/console/connections" {
		t.Errorf("signed in at %s", at)
	}
	load(t, browser, chromedp.Click(`.counts a:last-child`))
	if rows := see(t, browser, chromedp.Evaluate[int](`document.querySelectorAll("tbody tr").length`)); rows != 1 {
		t.Errorf("%d connections need their owner", rows)
	}
	load(t, browser, chromedp.Click("tbody a"))
	if text := see(t, browser, chromedp.Text("main")); !strings.Contains(text, "revoked") {
		t.Errorf("the page does not say why: %s", text)
	}
	load(t, browser, chromedp.Click(`button[value=reconnect]`))
	link := see(t, browser, chromedp.Text("code.link"))
	if !strings.HasPrefix(link, s.url+"/connect/") {
		t.Errorf("link %q", link)
	}
	// Without its box the button does nothing, which the browser sees to.
	see(t, browser, chromedp.Evaluate[bool](`document.querySelectorAll("details").forEach(d => d.open = true) === undefined`))
	do(t, browser, chromedp.Click(`button[value=delete]`))
	if _, err := s.keeper.Connection(t.Context(), "invoices"); err != nil {
		t.Errorf("deleted without the box: %v", err)
	}
	do(t, browser, chromedp.Click(`details:last-of-type input[type=checkbox]`))
	load(t, browser, chromedp.Click(`button[value=delete]`))
	if text := see(t, browser, chromedp.Text("main")); strings.Contains(text, "invoices") {
		t.Errorf("the connection is still listed: %s", text)
	}
	for _, section := range []string{"providers", "grants", "events", "deliveries"} {
		load(t, browser, chromedp.Click(`nav a[href$=`+section+`]`))
		if current := see(t, browser, chromedp.Evaluate[string](`document.querySelector("nav [aria-current]").href`)); !strings.HasSuffix(current, section) {
			t.Errorf("the navigation is at %s", current)
		}
		if wide := see(t, browser, chromedp.Evaluate[bool](`document.documentElement.scrollWidth > document.documentElement.clientWidth`)); wide {
			t.Errorf("%s is wider than a small window", section)
		}
	}
	load(t, browser, chromedp.Click(`header button`))
	if text := see(t, browser, chromedp.Text("h1")); text != "Console" {
		t.Errorf("signed out to %q", text)
	}
}
