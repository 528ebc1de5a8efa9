package web

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
	"github.com/evergrant/evergrant/secret"
)

// operatorBrowser is a browser that is signed in to the console.
func (s *server) operatorBrowser() *http.Client {
	s.t.Helper()
	browser := s.browser()
	if r := s.submit(browser, "/console/connections", "action", "sign_in", "token", s.token); r.status != http.StatusSeeOther {
		s.t.Fatalf("sign-in answered %d: %s", r.status, r.body)
	}
	return browser
}

func TestConsoleSignIn(t *testing.T) {
	for name, secure := range map[string]bool{"http": false, "https": true} {
		t.Run(name, func(t *testing.T) {
			s := start(t, secure, providertest.Plain())
			browser := s.browser()
			for _, path := range []string{"/console/", "/console/connections", "/console/events", "/console/connections/none", "/console/nothing"} {
				r := s.get(browser, path)
				wantPage(t, r, http.StatusOK, "Admin token", `type="password"`)
				wantStrict(t, r)
				if strings.Contains(r.body, "<nav") {
					t.Errorf("%s shows what there is to whoever is not signed in", path)
				}
			}
			r := s.submit(browser, "/console/events", "action", "sign_in", "token", " "+s.token+"\n")
			if r.status != http.StatusSeeOther || r.header.Get("Location") != "?" {
				t.Fatalf("%d to %q", r.status, r.header.Get("Location"))
			}
			cookie := r.header.Get("Set-Cookie")
			for _, part := range []string{"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"} {
				if !strings.Contains(cookie, part) {
					t.Errorf("%s is not in the cookie %q", part, cookie)
				}
			}
			if strings.Contains(cookie, "Secure") != secure || strings.HasPrefix(cookie, "__Host-") != secure || strings.Contains(cookie, s.token) {
				t.Errorf("cookie %q", cookie)
			}
			wantPage(t, s.get(browser, "/console/events"), http.StatusOK, "<h1>Events</h1>", "Sign out")
			if r := s.get(browser, "/console/"); r.header.Get("Location") != "/console/connections" {
				t.Errorf("the console begins at %q", r.header.Get("Location"))
			}
			s.submit(browser, "/console/", "action", "sign_out")
			wantPage(t, s.get(browser, "/console/events"), http.StatusOK, "Admin token")
		})
	}
}

// TestConsoleSignInEnds: by time, and with the admin token.
func TestConsoleSignInEnds(t *testing.T) {
	s := start(t, false, providertest.Plain())
	browser := s.operatorBrowser()
	s.clock.advance(12*time.Hour - time.Second)
	wantPage(t, s.get(browser, "/console/connections"), http.StatusOK, "<h1>Connections</h1>")
	s.clock.advance(time.Second)
	wantPage(t, s.get(browser, "/console/connections"), http.StatusOK, "Admin token")

	browser = s.operatorBrowser()
	for name, token := range map[string]secret.Text{"another": secret.NewText("another-token-of-some-length"), "none": {}} {
		config := s.config
		config.Token = token
		console, err := NewConsole(config)
		if err != nil {
			t.Fatal(err)
		}
		old := s.http.Config.Handler
		s.http.Config.Handler = console
		wantPage(t, s.get(browser, "/console/connections"), http.StatusOK, "Admin token")
		wantPage(t, s.submit(s.browser(), "/console/connections", "action", "sign_in", "token", ""), http.StatusForbidden, "not the admin token")
		s.http.Config.Handler = old
		if t.Failed() {
			t.Fatalf("with the admin token %s", name)
		}
	}
	// The sign-in of a resource owner is none of an operator, nor a cookie that was made up.
	for _, cookie := range []string{"AAAA", "", strings.Repeat("A", 200)} {
		req := s.request("GET", "/console/connections", "")
		req.AddCookie(&http.Cookie{Name: "evergrant_console", Value: cookie})
		wantPage(t, s.do(s.browser(), req), http.StatusOK, "Admin token")
	}
	owner := s.signIn()
	resp := s.request("GET", "/console/connections", "")
	for _, cookie := range owner.Jar.Cookies(resp.URL) {
		resp.AddCookie(&http.Cookie{Name: "evergrant_console", Value: cookie.Value})
	}
	wantPage(t, s.do(s.browser(), resp), http.StatusOK, "Admin token")
}

func TestConsoleThrottlesGuesses(t *testing.T) {
	s := start(t, false, providertest.Plain())
	attempt := func(token string) reply {
		return s.submit(s.browser(), "/console/", "action", "sign_in", "token", token)
	}
	for range guessBurst {
		wantPage(t, attempt("wrong-guess"), http.StatusForbidden, "not the admin token", `role="alert"`)
	}
	r := attempt(s.token)
	wantPage(t, r, http.StatusTooManyRequests, "too many attempts", `role="alert"`)
	if r.header.Get("Retry-After") == "" || r.header.Get("Set-Cookie") != "" {
		t.Errorf("headers %v", r.header)
	}
	s.clock.advance(guessEvery)
	if r := attempt(s.token); r.status != http.StatusSeeOther {
		t.Errorf("the right token after waiting: %d", r.status)
	}
	if log := s.log.String(); !strings.Contains(log, "wrong admin token") || strings.Contains(log, s.token) || strings.Contains(log, "wrong-guess") {
		t.Errorf("log %s", log)
	}
}

func TestGuesses(t *testing.T) {
	now := time.Date(2031, 5, 17, 9, 30, 0, 0, time.UTC)
	g := &guesses{now: func() time.Time { return now }, full: map[string]time.Time{}}
	for i := range guessBurst {
		if wait := g.wait("a"); wait != 0 {
			t.Fatalf("attempt %d waits %v", i, wait)
		}
		g.wrong("a")
	}
	if wait := g.wait("a"); wait != guessEvery {
		t.Errorf("after the burst: %v", wait)
	}
	if wait := g.wait("b"); wait != 0 {
		t.Errorf("another address waits %v", wait)
	}
	now = now.Add(time.Hour)
	for i := range guessBurst {
		if wait := g.wait("a"); wait != 0 {
			t.Fatalf("an hour later attempt %d waits %v", i, wait)
		}
		g.wrong("a")
	}
	for i := range 3 * guessSize {
		g.wrong(fmt.Sprint(i))
	}
	if len(g.full) > guessSize {
		t.Errorf("%d addresses are remembered", len(g.full))
	}
}

func TestConsoleFormsOfOtherSites(t *testing.T) {
	s := start(t, false, providertest.Plain())
	s.imports("one", "plain", "alice", "")
	browser := s.operatorBrowser()
	for _, action := range []string{"sign_in", "sign_out", "pause", "delete"} {
		req := s.request("POST", "/console/connections/one", form("action", action, "token", s.token, "sure", "yes").Encode())
		req.Header.Set("Content-Type", oauth.FormType)
		req.Header.Set("Sec-Fetch-Site", "cross-site")
		req.Header.Set("Origin", "https://evil.example")
		r := s.do(browser, req)
		wantPage(t, r, http.StatusForbidden, "sent by another site")
		if r.header.Get("Set-Cookie") != "" || r.header.Get("Location") != "" {
			t.Errorf("%s: something was done", action)
		}
	}
	if c, err := s.keeper.Connection(t.Context(), "one"); err != nil || c.State != keeper.Active {
		t.Errorf("%+v, %v", c, err)
	}
	req := s.request("DELETE", "/console/connections/one", "")
	if r := s.do(browser, req); r.status != http.StatusMethodNotAllowed {
		t.Errorf("DELETE: %d", r.status)
	}
	// What is not signed in does nothing either.
	wantPage(t, s.submit(s.browser(), "/console/connections/one", "action", "pause"), http.StatusOK, "Admin token")
	if c, _ := s.keeper.Connection(t.Context(), "one"); c.State != keeper.Active {
		t.Errorf("state %s", c.State)
	}
}

func TestConsoleConnections(t *testing.T) {
	s := start(t, false, providertest.Plain(), providertest.Google())
	browser := s.operatorBrowser()
	wantPage(t, s.get(browser, "/console/connections"), http.StatusOK, "There are none yet.", "No connection is like that.")
	for i := range consoleRows + 2 {
		s.imports(fmt.Sprintf("c%02d", i), "plain", "alice", "")
	}
	s.imports("d", "google", "bob <b>", "acme")
	s.mustAPI(http.StatusOK, "POST", "/v1/connections/d/pause", "")
	r := s.get(browser, "/console/connections")
	wantPage(t, r, http.StatusOK, `href="/console/connections/c00"`, `<span class="state active">active</span> 52`, `<span class="state paused">paused</span> 1`, "in 60 min", "<option>google</option>", `href="?cursor=c49"`)
	wantStrict(t, r)
	if strings.Contains(r.body, "/c50\"") || strings.Contains(r.body, "sim_") {
		t.Error("the page is longer than it should be, or has a token")
	}
	wantPage(t, s.get(browser, "/console/connections?cursor=c49"), http.StatusOK, "/c50", "/c51", "/d\"", "bob &lt;b&gt;", "acme")
	for query, want := range map[string]string{"state=paused": "/d\"", "provider=google": "/d\"", "owner=bob+%3Cb%3E": "/d\"", "tenant=acme": "/d\""} {
		r := s.get(browser, "/console/connections?"+query)
		wantPage(t, r, http.StatusOK, want)
		if strings.Contains(r.body, "/c00") {
			t.Errorf("%s shows others", query)
		}
	}
	wantPage(t, s.get(browser, "/console/connections?state=paused&provider=google"), http.StatusOK, "<option selected>paused</option>", "<option selected>google</option>")
}

func TestConsoleConnection(t *testing.T) {
	s := start(t, false, providertest.Plain())
	s.imports("one", "plain", "alice <a>", "acme")
	browser, path := s.operatorBrowser(), "/console/connections/one"
	r := s.get(browser, path)
	wantPage(t, r, http.StatusOK, "<h1>one</h1>", "alice &lt;a&gt;", "acme", "connection.created", ">Pause<", ">Refresh now<", "Link to connect again", "Access token expires")
	wantStrict(t, r)

	do := func(action string, more ...string) reply {
		t.Helper()
		r := s.submit(browser, path, append([]string{"action", action}, more...)...)
		if r.status == http.StatusSeeOther && strings.HasPrefix(r.header.Get("Location"), "?") {
			return s.get(browser, path+r.header.Get("Location"))
		}
		return r
	}
	wantPage(t, do("refresh"), http.StatusOK, "Refreshed.", "connection.refreshed")
	wantPage(t, do("pause"), http.StatusOK, "Paused: nothing is sent", ">Resume<", `<span class="state paused">`, "operator")
	wantPage(t, do("refresh"), http.StatusConflict, `role="alert"`, "is paused", "resume it")
	wantPage(t, do("resume"), http.StatusOK, "Resumed.", ">Pause<")
	wantPage(t, do("dance"), http.StatusBadRequest, "does not understand")
	wantPage(t, do("refresh_in_doubt"), http.StatusBadRequest, "box was not checked")
	wantPage(t, do("delete"), http.StatusBadRequest, "box was not checked")

	r = do("reconnect")
	wantPage(t, r, http.StatusOK, "Send this link to the owner", s.url+"/connect/")
	_, rest, _ := strings.Cut(r.body, s.url+"/connect/")
	link, _, _ := strings.Cut(rest, "<")
	owner := s.browser()
	wantPage(t, s.get(owner, s.leave(owner, "/connect/"+link)), http.StatusOK, "is connected")

	if r := do("delete", "sure", "yes"); r.status != http.StatusSeeOther || r.header.Get("Location") != "/console/connections" {
		t.Errorf("deleted: %d to %q", r.status, r.header.Get("Location"))
	}
	wantPage(t, s.get(browser, path), http.StatusNotFound, "no such thing", "<nav")
	wantPage(t, s.submit(browser, path, "action", "pause"), http.StatusNotFound, "no such thing")
	if got := types(t, s.mustAPI(http.StatusOK, "GET", "/v1/events?connection=one&limit=1", "")); got != "connection.deleted" {
		t.Errorf("newest event %s", got)
	}
}

// A deletion that the provider did not take part in has to be seen.
func TestConsoleDeletionThatIsNotRevoked(t *testing.T) {
	s := start(t, false, providertest.Plain())
	s.imports("one", "plain", "alice", "")
	s.sims["plain"].Inject(providertest.Rule{Kind: providertest.KindRevoke, Fault: providertest.Page(http.StatusBadGateway)})
	r := s.submit(s.operatorBrowser(), "/console/connections/one", "action", "delete", "sure", "yes")
	wantPage(t, r, http.StatusOK, "Deleted, and not revoked", "ask its owner to end the grant there")
}

func TestConsoleProviders(t *testing.T) {
	s := startDefined(t, false, func(d *provider.Definition) { d.Title, d.Docs = "The "+d.Name, "https://docs.example/" },
		providertest.Plain(), providertest.Google(), providertest.Xero(), providertest.Flexiti(), providertest.Tink())
	s.imports("one", "plain", "alice", "")
	s.sims["plain"].SetSecrets("another")
	s.api("POST", "/v1/connections/one/refresh", "")
	r := s.get(s.operatorBrowser(), "/console/providers")
	wantPage(t, r, http.StatusOK, "The google", `href="https://docs.example/"`, "single_use", "fixed", "in doubt until the access token is over", "the same refresh token again within 30m",
		"new tokens without the owner", `<span class="state bad_client">bad_client</span>`, `<span class="state up">up</span>`)
	wantStrict(t, r)
}

func TestConsoleGrants(t *testing.T) {
	s := start(t, false)
	first, _ := s.grant()
	second, token := s.grant()
	s.mustAPI(http.StatusNoContent, "DELETE", "/v1/grants/"+first, "")
	s.clock.advance(time.Hour)
	if r := s.tokenRequest("photos", photosSecret, "grant_type", "refresh_token", "refresh_token", token); r.status != http.StatusOK {
		t.Fatal(r.body)
	}
	s.clock.advance(10 * time.Minute)
	browser := s.operatorBrowser()
	r := s.get(browser, "/console/grants")
	wantPage(t, r, http.StatusOK, first, second, "operator_request", `<span class="state revoked">`, `<span class="state alive">`, "10 min ago", `data-label="Generation">2<`)
	wantStrict(t, r)
	if strings.Contains(r.body, "/console/connections") {
		t.Error("a server without keeper offers connections")
	}
	if r := s.get(browser, "/console/"); r.header.Get("Location") != "/console/grants" {
		t.Errorf("the console begins at %q", r.header.Get("Location"))
	}
	wantPage(t, s.get(browser, "/console/grants?subject=bob"), http.StatusOK, "No grant is like that.", `value="bob"`)
	wantPage(t, s.get(browser, "/console/grants?cursor=x"), http.StatusBadRequest, "cursor")
	wantPage(t, s.get(browser, "/console/connections"), http.StatusNotFound, "no such page")
	s.clock.advance(30 * 24 * time.Hour)
	wantPage(t, s.get(s.operatorBrowser(), "/console/grants"), http.StatusOK, `<span class="state expired">`)
}

func TestConsoleEvents(t *testing.T) {
	s := start(t, false, providertest.Plain())
	s.imports("one", "plain", "alice", "")
	for i := range consoleRows {
		s.saveClient(issuer.Client{ID: fmt.Sprint("app", i)})
	}
	browser := s.operatorBrowser()
	r := s.get(browser, "/console/events")
	wantPage(t, r, http.StatusOK, `<meta http-equiv="refresh" content="10">`, "client.saved", "app49", `rel="next"`)
	wantStrict(t, r)
	_, rest, _ := strings.Cut(r.body, `href="?cursor=`)
	cursor, _, _ := strings.Cut(rest, `"`)
	r = s.get(browser, "/console/events?cursor="+cursor)
	wantPage(t, r, http.StatusOK, "connection.created", `href="/console/connections/one"`, "client.saved", "photos")
	if strings.Contains(r.body, "http-equiv") {
		t.Error("an older page loads itself again")
	}
	wantPage(t, s.get(browser, "/console/events?cursor=x"), http.StatusBadRequest, "cursor")
}

func TestConsoleDeliveries(t *testing.T) {
	s := start(t, false, providertest.Plain())
	browser, now := s.operatorBrowser(), s.clock.now()
	wantPage(t, s.get(browser, "/console/deliveries"), http.StatusOK, "Nothing was delivered yet.")
	var planned []hook.Delivery
	for i := range consoleRows + 1 {
		planned = append(planned, hook.Delivery{Hook: "app <x>", Event: int64(i + 1), Type: "connection.created", Body: []byte(`{}`), CreatedAt: now, NextAt: now.Add(time.Minute)})
	}
	planned[consoleRows-1].NextAt, planned[consoleRows-1].Status, planned[consoleRows-1].Attempts, planned[consoleRows-1].Error = time.Time{}, 500, 9, "the receiver answered 500"
	planned[consoleRows].NextAt, planned[consoleRows].DoneAt, planned[consoleRows].Status = time.Time{}, now, 204
	if done, err := s.db.Plan(t.Context(), 0, 3, planned); err != nil || !done {
		t.Fatal(done, err)
	}
	r := s.get(browser, "/console/deliveries")
	wantPage(t, r, http.StatusOK, "app &lt;x&gt;", `<span class="state delivered">`, `<span class="state given_up">`, `<span class="state waiting">`, "the receiver answered 500", "in 60 s", `href="?cursor=2"`)
	wantStrict(t, r)
	wantPage(t, s.get(browser, "/console/deliveries?cursor=2"), http.StatusOK, `data-label="Delivery">1 `)
	wantPage(t, s.get(browser, "/console/deliveries?cursor=-1"), http.StatusBadRequest, "cursor")
}

func TestConsoleWithoutDatabase(t *testing.T) {
	s := start(t, false, providertest.Plain())
	s.imports("one", "plain", "alice", "")
	browser := s.operatorBrowser()
	s.db.Close()
	for _, path := range []string{"/console/connections", "/console/connections/one", "/console/providers", "/console/grants", "/console/events", "/console/deliveries"} {
		r := s.get(browser, path)
		wantPage(t, r, http.StatusServiceUnavailable, "Service Unavailable", "database is unavailable", "<nav")
		if strings.Contains(r.body, "sqlite") {
			t.Errorf("%s tells of the inside", path)
		}
	}
	wantPage(t, s.submit(browser, "/console/connections/one", "action", "pause"), http.StatusServiceUnavailable, "database is unavailable")
	if log := s.log.String(); !strings.Contains(log, "console page failed") || !strings.Contains(log, "console action failed") {
		t.Errorf("log %s", log)
	}
}

// A console below a prefix of a proxy links to pages below it.
func TestConsoleBelowPrefix(t *testing.T) {
	s := start(t, false, providertest.Plain())
	config := s.config
	config.PublicURL = "https://example.com/auth"
	console, err := NewConsole(config)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Cookie{Name: "__Host-evergrant_console"}
	s.http.Config.Handler = console
	r := s.submit(s.browser(), "/console/events", "action", "sign_in", "token", s.token)
	c.Value, _, _ = strings.Cut(strings.TrimPrefix(r.header.Get("Set-Cookie"), c.Name+"="), ";")
	req := s.request("GET", "/console/events", "")
	req.AddCookie(c)
	wantPage(t, s.do(s.browser(), req), http.StatusOK, `href="/auth/console/connections"`, `action="/auth/console/"`)
}

func TestMoment(t *testing.T) {
	now := time.Date(2031, 5, 17, 9, 30, 0, 0, time.UTC)
	c := &console{api: newAPI(APIConfig{Now: func() time.Time { return now }})}
	for away, want := range map[time.Duration]string{
		0: "now", time.Second: "in 1 s", -time.Second: "1 s ago", 119 * time.Second: "in 119 s", 2 * time.Minute: "in 2 min", -90 * time.Minute: "90 min ago",
		2 * time.Hour: "in 2 h", -47 * time.Hour: "47 h ago", 48 * time.Hour: "in 2 d", -365 * 24 * time.Hour: "365 d ago",
	} {
		if got := c.moment(now.Add(away)); got.Text != want || got.Full != now.Add(away).Format(time.RFC3339) {
			t.Errorf("%v: %+v, want %q", away, got, want)
		}
	}
	if got := c.moment(time.Time{}); got != (moment{}) {
		t.Errorf("no time: %+v", got)
	}
}
