package web

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
)

// link makes a connect link and returns its path and the id of its connection.
func (s *server) link(fields map[string]any) (path, connection string) {
	s.t.Helper()
	r := s.mustAPI(http.StatusCreated, "POST", "/v1/connect-sessions", document(fields))
	return strings.TrimPrefix(r.field(s.t, "url").(string), s.url), r.field(s.t, "connection").(string)
}

// leave presses the button of a link's page, and returns where the provider
// sends the browser back to.
func (s *server) leave(browser *http.Client, path string) (callback string) {
	s.t.Helper()
	r := s.submit(browser, path)
	if r.status != http.StatusSeeOther {
		s.t.Fatalf("the button answers %d: %s", r.status, r.body)
	}
	for header, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"} {
		if r.header.Get(header) != want {
			s.t.Errorf("%s: %q, want %q", header, r.header.Get(header), want)
		}
	}
	return s.consent(browser, r.header.Get("Location"))
}

// consent visits a provider's page, which sends the browser back.
func (s *server) consent(browser *http.Client, at string) (callback string) {
	s.t.Helper()
	resp, err := browser.Get(at)
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusFound {
		s.t.Fatalf("the provider answers %s at %s", resp.Status, at)
	}
	callback, ok := strings.CutPrefix(resp.Header.Get("Location"), s.url)
	if !ok {
		s.t.Fatalf("the provider sends the browser to %s", resp.Header.Get("Location"))
	}
	return callback
}

// connected goes the whole way to a new or repaired connection.
func (s *server) connected(fields map[string]any) (connection string, end reply) {
	s.t.Helper()
	path, connection := s.link(fields)
	browser := s.browser()
	return connection, s.get(browser, s.leave(browser, path))
}

func TestConnect(t *testing.T) {
	for name, secure := range map[string]bool{"http": false, "https": true} {
		t.Run(name, func(t *testing.T) {
			s := startDefined(t, secure, func(d *provider.Definition) {
				d.Title, d.Authorize.Scopes = "The Plain <Service>", oauth.Scope{"read", "a<b"}
			}, providertest.Plain())
			path, id := s.link(map[string]any{"provider": "plain", "owner": "alice <1>", "return_url": "https://app.example/done?x=1"})
			browser := s.browser()
			r := s.get(browser, path)
			wantPage(t, r, http.StatusOK, "<h1>Connect <bdi>The Plain &lt;Service&gt;</bdi></h1>", "<bdi>app.example</bdi>", "for access", "alice &lt;1&gt;",
				">read<", "a&lt;b", `<form method="post">`)
			wantStrict(t, r)
			if len(r.header.Values("Set-Cookie")) != 0 {
				t.Error("looking at the page sets a cookie")
			}

			r = s.submit(browser, path)
			cookie := r.header.Get("Set-Cookie")
			for _, part := range []string{"HttpOnly", "SameSite=Lax", "Path=/"} {
				if !strings.Contains(cookie, part) {
					t.Errorf("%s is not in the cookie %q", part, cookie)
				}
			}
			if strings.Contains(cookie, "Secure") != secure || strings.HasPrefix(cookie, "__Host-") != secure {
				t.Errorf("cookie %q", cookie)
			}
			at, err := url.Parse(r.header.Get("Location"))
			if err != nil || at.Query().Get("redirect_uri") != s.url+"/connect/callback" || at.Query().Get("code_challenge_method") != "S256" || at.Query().Get("scope") != "read a<b" {
				t.Errorf("authorization request %v, %v", at, err)
			}

			r = s.get(browser, s.consent(browser, at.String()))
			want := "https://app.example/done?x=1&connection=" + id + "&status=connected"
			if r.status != http.StatusSeeOther || r.header.Get("Location") != want {
				t.Errorf("%d to %q, want %q: %s", r.status, r.header.Get("Location"), want, r.body)
			}
			c, err := s.keeper.Connection(t.Context(), id)
			if err != nil || c.State != keeper.Active || c.Owner != "alice <1>" || c.Provider != "plain" {
				t.Errorf("connection %+v, %v", c, err)
			}
			s.mustAPI(http.StatusOK, "GET", "/v1/connections/"+id+"/token", "")
			log := s.log.String()
			if strings.Contains(log, path) || strings.Contains(log, at.Query().Get("state")) || strings.Contains(log, "sim_") {
				t.Errorf("the log has the link, the state or a token:\n%s", log)
			}
		})
	}
}

// wantStrict checks that nothing can run in a page, frame it or keep it.
func wantStrict(t *testing.T, r reply) {
	t.Helper()
	policy := r.header.Get("Content-Security-Policy")
	for _, directive := range []string{"default-src 'none'", "style-src 'sha256-", "frame-ancestors 'none'", "base-uri 'none'"} {
		if !strings.Contains(policy, directive) {
			t.Errorf("%q is not in the policy %q", directive, policy)
		}
	}
	if r.header.Get("Cache-Control") != "no-store" || r.header.Get("X-Frame-Options") != "DENY" {
		t.Errorf("headers %v", r.header)
	}
	if strings.Contains(r.body, "<script") || strings.Contains(r.body, "style=") || strings.Contains(r.body, "ZgotmplZ") {
		t.Errorf("the page has something that its policy forbids, or that the template refused:\n%s", r.body)
	}
}

// Without a return URL the browser stays on a page that says that it is done.
func TestConnectWithoutReturn(t *testing.T) {
	s := start(t, false, providertest.Plain())
	_, r := s.connected(map[string]any{"provider": "plain", "owner": "alice"})
	wantPage(t, r, http.StatusOK, "<h1><bdi>plain</bdi> is connected</h1>", "<bdi>alice</bdi>", "close this page")
	wantStrict(t, r)
}

// TestReconnect: the same connection lives again, with its owner, under its id.
func TestReconnect(t *testing.T) {
	s := start(t, false, providertest.Plain())
	grant, _ := s.imports("one", "plain", "alice", "acme")
	s.sims["plain"].Revoke(grant)
	s.clock.advance(2 * time.Hour)
	r := s.api("GET", "/v1/connections/one/token", "")
	wantProblem(t, r, http.StatusConflict, "reauthorize")
	browser := s.browser()
	r = s.get(browser, s.leave(browser, strings.TrimPrefix(r.field(t, "connect_url").(string), s.url)))
	wantPage(t, r, http.StatusOK, "is connected")
	r = s.mustAPI(http.StatusOK, "GET", "/v1/connections/one", "")
	if r.field(t, "state") != "active" || r.field(t, "owner") != "alice" || r.field(t, "tenant") != "acme" || r.field(t, "cause") != nil {
		t.Errorf("repaired: %s", r.body)
	}
	if token := s.mustAPI(http.StatusOK, "GET", "/v1/connections/one/token", "").field(t, "access_token").(string); !s.sims["plain"].Alive(token) {
		t.Error("the token is dead")
	}
	history := s.mustAPI(http.StatusOK, "GET", "/v1/connections/one/history", "").body
	for _, event := range []string{"connection.created", "connection.reauthorize", "connection.connected"} {
		if !strings.Contains(history, event) {
			t.Errorf("no %s in %s", event, history)
		}
	}
	if id, _ := s.connected(map[string]any{"connection": "one"}); id != "one" {
		t.Errorf("a session for the connection alone made %q", id)
	}
	if got := ids(t, s.mustAPI(http.StatusOK, "GET", "/v1/connections", "")); got != "one" {
		t.Errorf("connections %q", got)
	}
}

// TestLinks: what an owner sees of links that do not work.
func TestLinks(t *testing.T) {
	s := start(t, false, providertest.Plain())
	good, _ := s.link(map[string]any{"provider": "plain"})
	for name, path := range map[string]string{
		"changed":    good[:len(good)-1] + "A",
		"cut":        good[:len(good)-8],
		"nonsense":   "/connect/nonsense",
		"none":       "/connect/",
		"with a dot": "/connect/a.b/c",
	} {
		t.Run(name, func(t *testing.T) {
			if path == good {
				path = good[:len(good)-1] + "Q"
			}
			for _, r := range []reply{s.get(s.browser(), path), s.submit(s.browser(), path)} {
				wantPage(t, r, http.StatusNotFound, "This link does not work", "ask for a new one")
				wantStrict(t, r)
			}
		})
	}
	s.clock.advance(31 * time.Minute)
	for _, r := range []reply{s.get(s.browser(), good), s.submit(s.browser(), good)} {
		wantPage(t, r, http.StatusGone, "This link is too old", "half an hour")
	}
}

// TestCallbacks: what an owner sees of ways back that are not theirs. Nothing is
// connected by any of them.
func TestCallbacks(t *testing.T) {
	s := start(t, false, providertest.Plain())
	for name, tt := range map[string]struct {
		// change turns the callback into a bad one, by the browser that is returned.
		change func(browser *http.Client, callback string) (*http.Client, string)
		status int
		has    []string
	}{
		"no state":           {func(b *http.Client, _ string) (*http.Client, string) { return b, CallbackPath + "?code=x" }, 400, []string{"opened from nowhere", "Nothing was connected"}},
		"nothing at all":     {func(b *http.Client, _ string) (*http.Client, string) { return b, CallbackPath }, 400, []string{"opened from nowhere"}},
		"forged state":       {func(b *http.Client, c string) (*http.Client, string) { return b, replaced(c, "state", "AAAA") }, 400, []string{"opened from nowhere"}},
		"state twice":        {func(b *http.Client, c string) (*http.Client, string) { return b, c + "&state=x" }, 400, []string{"opened from nowhere"}},
		"query that is none": {func(b *http.Client, c string) (*http.Client, string) { return b, c + "&%zz" }, 400, []string{"opened from nowhere"}},
		"another browser":    {func(b *http.Client, c string) (*http.Client, string) { return s.browser(), c }, 400, []string{"another browser", "stay in one browser"}},
		"no code":            {func(b *http.Client, c string) (*http.Client, string) { return b, replaced(c, "code", "") }, 502, []string{"something else", "Try again"}},
		"code of nobody":     {func(b *http.Client, c string) (*http.Client, string) { return b, replaced(c, "code", "sim_code_x") }, 502, []string{"gave no access", "Try again"}},
		"error of the server": {func(b *http.Client, c string) (*http.Client, string) {
			return b, failed(c, "server_error", "It <b>broke</b>.")
		}, 502, []string{"answered with an error", "It &lt;b&gt;broke&lt;/b&gt;.", "Try again"}},
		"denied": {func(b *http.Client, c string) (*http.Client, string) { return b, failed(c, "access_denied", "") }, 200, []string{"Nothing was connected", "You said no", "Try again"}},
	} {
		t.Run(name, func(t *testing.T) {
			path, id := s.link(map[string]any{"provider": "plain", "owner": "alice", "return_url": "https://app.example/done"})
			browser := s.browser()
			browser, callback := tt.change(browser, s.leave(browser, path))
			r := s.get(browser, callback)
			wantPage(t, r, tt.status, append(tt.has, `role="alert"`)...)
			wantStrict(t, r)
			if known := strings.Contains(strings.Join(tt.has, " "), "Try again"); known {
				status := "failed"
				if name == "denied" {
					status = "denied"
				}
				wantPage(t, r, tt.status, `href="https://app.example/done?connection=`+id+`&amp;status=`+status+`"`, "Back to <bdi>app.example</bdi>")
			}
			if c, err := s.keeper.Connection(t.Context(), id); err == nil {
				t.Errorf("there is %+v", c)
			}
		})
	}
}

// An answer that another authorization server gave is not redeemed (RFC 9207).
func TestCallbackOfAnotherIssuer(t *testing.T) {
	s := startDefined(t, false, func(d *provider.Definition) { d.Issuer, _, _ = strings.Cut(d.TokenURL, "/token") }, providertest.Plain())
	path, id := s.link(map[string]any{"provider": "plain"})
	browser := s.browser()
	callback := s.leave(browser, path)
	wantPage(t, s.get(browser, replaced(callback, "iss", "https://evil.example")), http.StatusBadGateway, "something else", "Try again")
	if _, err := s.keeper.Connection(t.Context(), id); err == nil || s.sims["plain"].Stats().Requests[provider.Exchange] != 0 {
		t.Errorf("the code was redeemed: %v", err)
	}
	_, end := s.connected(map[string]any{"provider": "plain"})
	wantPage(t, end, http.StatusOK, "is connected")
}

// replaced is a callback with another value of a parameter; none where "".
func replaced(callback, name, value string) string {
	path, query, _ := strings.Cut(callback, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		panic(err)
	}
	if values.Set(name, value); value == "" {
		values.Del(name)
	}
	return path + "?" + values.Encode()
}

// failed is a callback with an error in place of the code.
func failed(callback, code, description string) string {
	callback = replaced(replaced(callback, "code", ""), "error", code)
	return replaced(callback, "error_description", description)
}

// TestCallbackTwice: each answer counts once.
func TestCallbackTwice(t *testing.T) {
	s := start(t, false, providertest.Plain())
	path, id := s.link(map[string]any{"provider": "plain"})
	browser := s.browser()
	callback := s.leave(browser, path)
	wantPage(t, s.get(browser, callback), http.StatusOK, "is connected")
	wantPage(t, s.get(browser, callback), http.StatusConflict, "opened before")
	if c, err := s.keeper.Connection(t.Context(), id); err != nil || c.Generation != 1 || len(s.sims["plain"].Stats().DoubleSpends) != 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestCallbackTooLate(t *testing.T) {
	s := start(t, false, providertest.Plain())
	path, _ := s.link(map[string]any{"provider": "plain"})
	browser := s.browser()
	callback := s.leave(browser, path)
	s.clock.advance(31 * time.Minute)
	wantPage(t, s.get(browser, callback), http.StatusBadRequest, "took too long", "Begin again")
}

// TestTryAgain: the button after a failure goes the whole way once more.
func TestTryAgain(t *testing.T) {
	s := start(t, false, providertest.Plain())
	s.sims["plain"].SetConsent(providertest.Deny)
	path, id := s.link(map[string]any{"provider": "plain", "owner": "alice"})
	browser := s.browser()
	r := s.get(browser, s.leave(browser, path))
	wantPage(t, r, http.StatusOK, "You said no")
	_, rest, _ := strings.Cut(r.body, `class="button" href="`+s.url)
	again, _, _ := strings.Cut(rest, `"`)
	s.sims["plain"].SetConsent(providertest.Allow)
	wantPage(t, s.get(browser, again), http.StatusOK, "Connect <bdi>plain</bdi>")
	wantPage(t, s.get(browser, s.leave(browser, again)), http.StatusOK, "is connected")
	if c, err := s.keeper.Connection(t.Context(), id); err != nil || c.Owner != "alice" {
		t.Errorf("%+v, %v", c, err)
	}
}

// Two connections under way in two tabs of one browser do not disturb each
// other.
func TestConnectInTwoTabs(t *testing.T) {
	s := start(t, false, providertest.Plain(), providertest.Google())
	browser := s.browser()
	one, _ := s.link(map[string]any{"provider": "plain"})
	two, _ := s.link(map[string]any{"provider": "google"})
	first, second := s.leave(browser, one), s.leave(browser, two)
	wantPage(t, s.get(browser, second), http.StatusOK, "<bdi>google</bdi> is connected")
	wantPage(t, s.get(browser, first), http.StatusOK, "<bdi>plain</bdi> is connected")
}

// A provider may post the answer from its own site, with which no cookie comes.
func TestPostedCallback(t *testing.T) {
	s := start(t, false, providertest.Plain())
	path, _ := s.link(map[string]any{"provider": "plain"})
	browser := s.browser()
	_, query, _ := strings.Cut(s.leave(browser, path), "?")
	req := s.request("POST", CallbackPath, query)
	req.Header.Set("Content-Type", oauth.FormType)
	req.Header.Set("Origin", "https://provider.example")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	r := s.do(s.browser(), req)
	if r.status != http.StatusSeeOther || !strings.HasPrefix(r.header.Get("Location"), CallbackPath+"?") {
		t.Fatalf("%d to %q", r.status, r.header.Get("Location"))
	}
	wantPage(t, s.get(browser, r.header.Get("Location")), http.StatusOK, "is connected")

	req = s.request("POST", CallbackPath, "code=%zz")
	req.Header.Set("Content-Type", oauth.FormType)
	wantPage(t, s.do(browser, req), http.StatusBadRequest, "could not be read")
}

func TestButtonOfAnotherSite(t *testing.T) {
	s := start(t, false, providertest.Plain())
	path, _ := s.link(map[string]any{"provider": "plain"})
	req := s.request("POST", path, "")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	req.Header.Set("Origin", "https://evil.example")
	r := s.do(s.browser(), req)
	wantPage(t, r, http.StatusForbidden, "sent by another site")
	if r.header.Get("Location") != "" || r.header.Get("Set-Cookie") != "" {
		t.Errorf("something was done: %v", r.header)
	}
}

// TestConnectWithoutProvider: the token endpoint is down when the owner comes
// back.
func TestConnectWithoutProvider(t *testing.T) {
	s := start(t, false, providertest.Plain())
	path, id := s.link(map[string]any{"provider": "plain", "owner": "alice"})
	browser := s.browser()
	callback := s.leave(browser, path)
	s.sims["plain"].Inject(providertest.Rule{Fault: providertest.Unavailable(http.StatusServiceUnavailable, "")})
	r := s.get(browser, callback)
	if r.status < 500 {
		t.Errorf("status %d", r.status)
	}
	wantPage(t, r, r.status, `role="alert"`, "Try again")
	if c, err := s.keeper.Connection(t.Context(), id); err == nil && c.State == keeper.Active {
		t.Errorf("there is %+v", c)
	}
}

func TestConnectWithoutDatabase(t *testing.T) {
	s := start(t, false, providertest.Plain())
	path, _ := s.link(map[string]any{"provider": "plain"})
	browser := s.browser()
	callback := s.leave(browser, path)
	s.db.Close()
	for name, r := range map[string]reply{"page": s.get(browser, path), "button": s.submit(browser, path), "callback": s.get(browser, callback)} {
		t.Run(name, func(t *testing.T) {
			wantPage(t, r, http.StatusServiceUnavailable, "<h1>Something went wrong</h1>")
			if r.header.Get("Retry-After") == "" || strings.Contains(r.body, "sqlite") {
				t.Errorf("%v %s", r.header, r.body)
			}
		})
	}
	if log := s.log.String(); !strings.Contains(log, "connect page failed") || strings.Contains(log, path) {
		t.Errorf("log %s", log)
	}
}

func TestReturnTo(t *testing.T) {
	for url, want := range map[string]string{
		"https://app.example":            "https://app.example?connection=a%26b&status=connected",
		"https://app.example/done?x=%20": "https://app.example/done?x=%20&connection=a%26b&status=connected",
		"http://127.0.0.1:3000/done":     "http://127.0.0.1:3000/done?connection=a%26b&status=connected",
	} {
		if got := returnTo(url, "a&b", "connected"); got != want {
			t.Errorf("returnTo(%q) = %q, want %q", url, got, want)
		}
	}
}

func TestBadPublicURLOfPages(t *testing.T) {
	if _, err := NewConnect(APIConfig{PublicURL: "::"}); err == nil {
		t.Error("NewConnect accepts ::")
	}
	if _, err := NewConsole(APIConfig{PublicURL: "::"}); err == nil {
		t.Error("NewConsole accepts ::")
	}
}
