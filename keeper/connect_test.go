package keeper_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
	"github.com/evergrant/evergrant/secret"
)

const cookie = "a browser's cookie"

// link makes a link and opens it, as the connect page does.
func (w *world) link(in keeper.Connect) keeper.Connect {
	w.t.Helper()
	token, expires, err := w.k.Link(w.t.Context(), in)
	if err != nil {
		w.t.Fatal(err)
	}
	if left := expires.Sub(w.clock.now()); left > 30*time.Minute || left < 29*time.Minute {
		w.t.Errorf("the link lives for %s", left)
	}
	return must[keeper.Connect](w.t)(w.k.OpenLink(token))
}

// visit sends the browser to the provider and gives the query of the callback.
func (w *world) visit(in keeper.Connect) url.Values {
	w.t.Helper()
	return w.follow(must[string](w.t)(w.k.Begin(w.t.Context(), in, cookie)))
}

func (w *world) follow(authorizeURL string) url.Values {
	w.t.Helper()
	browser := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp := must[*http.Response](w.t)(browser.Get(authorizeURL))
	resp.Body.Close()
	back := must[*url.URL](w.t)(resp.Location())
	if !strings.HasPrefix(back.String(), "http://127.0.0.1/connect/callback?") {
		w.t.Fatalf("the browser is sent to %s", back)
	}
	return back.Query()
}

// consenting is a world of one provider whose owner says yes.
func consenting(t *testing.T, dialect providertest.Dialect) *world {
	t.Helper()
	w := newWorld(t, dialect)
	w.sims[dialect.Name].SetConsent(providertest.Allow)
	return w
}

func TestConnect(t *testing.T) {
	d := single()
	d.PKCE = true
	w := consenting(t, d)
	in := w.link(keeper.Connect{Provider: "single", Tenant: "t", Owner: "Zoë", ReturnURL: "https://app.example/done?x=1"})
	if !strings.HasPrefix(in.Connection, "conn_") {
		t.Errorf("the link is for the connection %q", in.Connection)
	}
	query := w.visit(in)
	if _, err := w.db.Keeper().Connection(t.Context(), in.Connection); !errors.Is(err, keeper.ErrNotFound) {
		t.Errorf("there is a row before there is a code: %v", err)
	}
	told, c, err := w.k.Finish(t.Context(), query, cookie)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(told) != fmt.Sprint(in) || told.ReturnURL != "https://app.example/done?x=1" {
		t.Errorf("asked was %+v, told is %+v", in, told)
	}
	if c.ID != in.Connection || c.State != keeper.Active || c.Cause != "" || c.Tenant != "t" || c.Owner != "Zoë" || c.Generation != 1 || !c.Refreshable || c.DueAt.IsZero() {
		t.Errorf("the row is %+v", c)
	}
	if token := w.token(c.ID, keeper.Want{}); !w.sims["single"].Alive(token.AccessToken.Reveal()) {
		t.Error("its token is not alive")
	}
	if got, want := w.events(c.ID), []string{keeper.EventCreated, keeper.EventConnected}; !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
	for _, event := range must[[]keeper.Event](t)(w.db.Keeper().Events(t.Context(), keeper.EventFilter{Connection: c.ID})) {
		if event.Actor != "owner" {
			t.Errorf("%s was done by %s", event.Type, event.Actor)
		}
	}
	if again := w.token(c.ID, keeper.Want{Force: true}); again.Generation != 2 {
		t.Errorf("refreshed to generation %d", again.Generation)
	}
}

// TestReconnect: an owner who comes back repairs the connection under its id,
// with what it had.
func TestReconnect(t *testing.T) {
	d := asking()
	w := consenting(t, d)
	shop := map[string]string{"shop": "one", "region": "us"}
	_, tokens := w.sims["asking"].Connect("first")
	must[keeper.Connection](t)(w.k.Create(t.Context(), operator, keeper.Import{ID: "one", Provider: "asking", Owner: "first", Params: shop,
		AccessToken: tokens.AccessToken, RefreshToken: tokens.RefreshToken, ExpiresAt: tokens.ExpiresAt, Metadata: map[string]any{"kept": "this"}}))
	w.sims["asking"].Revoke("grant-1")
	if u := w.unusable("one", keeper.Want{After: 1}); !u.NeedsOwner() {
		t.Fatal(u)
	}
	in := w.link(keeper.Connect{Provider: "asking", Connection: "one"})
	if in.Owner != "first" || in.Params["region"] != "us" {
		t.Errorf("the link is for %+v", in)
	}
	_, c, err := w.k.Finish(t.Context(), w.visit(in), cookie)
	if err != nil {
		t.Fatal(err)
	}
	if c.ID != "one" || c.State != keeper.Active || c.Params["shop"] != "one" || c.Metadata["kept"] != "this" || c.Generation != 2 {
		t.Errorf("the row is %+v", c)
	}
	if got := w.events("one"); !slices.Contains(got, keeper.EventRecovered) {
		t.Errorf("events %v", got)
	}
	if token := w.token("one", keeper.Want{}); !w.sims["asking"].Alive(token.AccessToken.Reveal()) {
		t.Error("its token is not alive")
	}
}

func TestLinkRefuses(t *testing.T) {
	w := newWorld(t, single(), machine(), asking())
	w.connect("taken", "single")
	in := func(change func(*keeper.Connect)) keeper.Connect {
		c := keeper.Connect{Provider: "single", Owner: "taken"}
		change(&c)
		return c
	}
	for name, tt := range map[string]struct {
		in     keeper.Connect
		reason keeper.Reason
	}{
		"as it should be":          {in(func(c *keeper.Connect) { c.ReturnURL = "http://app.example:8080/x?y=z" }), ""},
		"of one that is there":     {in(func(c *keeper.Connect) { c.Connection = "taken" }), ""},
		"without the owner's name": {in(func(c *keeper.Connect) { c.Connection, c.Owner = "taken", "" }), ""},
		"no such provider":         {in(func(c *keeper.Connect) { c.Provider = "tonk" }), keeper.ReasonUnknownProvider},
		"one that asks no owner":   {in(func(c *keeper.Connect) { c.Provider = "machine" }), keeper.ReasonNoOwnerNeeded},
		"a bad id":                 {in(func(c *keeper.Connect) { c.Connection = "a/b" }), keeper.ReasonBadID},
		"a param is missing":       {in(func(c *keeper.Connect) { c.Provider = "asking" }), keeper.ReasonBadParams},
		"a bad owner":              {in(func(c *keeper.Connect) { c.Owner = "\x1b[0m" }), keeper.ReasonBadField},
		"a bad tenant":             {in(func(c *keeper.Connect) { c.Tenant = strings.Repeat("t", 256) }), keeper.ReasonBadField},
		"another owner's":          {in(func(c *keeper.Connect) { c.Connection, c.Owner = "taken", "other" }), keeper.ReasonOtherConnection},
		"another tenant's":         {in(func(c *keeper.Connect) { c.Connection, c.Tenant = "taken", "other" }), keeper.ReasonOtherConnection},
		"another provider's": {in(func(c *keeper.Connect) {
			c.Connection, c.Provider, c.Params = "taken", "asking", map[string]string{"shop": "x"}
		}), keeper.ReasonOtherConnection},
		"a script to return to":        {in(func(c *keeper.Connect) { c.ReturnURL = "javascript:alert(1)" }), keeper.ReasonBadField},
		"a path to return to":          {in(func(c *keeper.Connect) { c.ReturnURL = "//evil.example/x" }), keeper.ReasonBadField},
		"a password to return with":    {in(func(c *keeper.Connect) { c.ReturnURL = "https://a:b@app.example/" }), keeper.ReasonBadField},
		"a fragment to return to":      {in(func(c *keeper.Connect) { c.ReturnURL = "https://app.example/#x" }), keeper.ReasonBadField},
		"a very long URL to return to": {in(func(c *keeper.Connect) { c.ReturnURL = "https://app.example/" + strings.Repeat("x", 1000) }), keeper.ReasonBadField},
		"no host to return to":         {in(func(c *keeper.Connect) { c.ReturnURL = "https:///x" }), keeper.ReasonBadField},
	} {
		_, _, err := w.k.Link(t.Context(), tt.in)
		_, begin := w.k.Begin(t.Context(), tt.in, cookie)
		for _, err := range []error{err, begin} {
			if reasonOf(err) != tt.reason || (err == nil) != (tt.reason == "") {
				t.Errorf("%s: refused because of %q: %v", name, reasonOf(err), err)
			}
		}
	}
	if _, err := w.k.Begin(t.Context(), in(func(*keeper.Connect) {}), ""); reasonOf(err) != keeper.ReasonOtherBrowser {
		t.Errorf("without a cookie: %v", err)
	}
}

// TestLinksAreSealed: a link says nothing to who has it, cannot be changed, is no
// state, and is over after half an hour.
func TestLinksAreSealed(t *testing.T) {
	w := consenting(t, single())
	token, _, err := w.k.Link(t.Context(), keeper.Connect{Provider: "single", Owner: "nobody-else"})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(token, "nobody") || url.PathEscape(token) != token {
		t.Errorf("the link is %s", token)
	}
	state := must[*url.URL](t)(url.Parse(must[string](t)(w.k.Begin(t.Context(), keeper.Connect{Provider: "single"}, cookie)))).Query().Get("state")
	other := newWorld(t, single())
	foreign, _, err := other.k.Link(t.Context(), keeper.Connect{Provider: "single"})
	if err != nil {
		t.Fatal(err)
	}
	bad := []string{"", "x", token[1:], token[:len(token)-1], "A" + token, token + "A", token + "=", strings.ToUpper(token), state, foreign, "AAAA", "!!!!", "AAAAAAAAAAAAAAAA"}
	for i := range len(token) {
		changed := []byte(token)
		changed[i] ^= 1
		bad = append(bad, string(changed))
	}
	for _, text := range bad {
		if in, err := w.k.OpenLink(text); reasonOf(err) != keeper.ReasonBadLink {
			t.Fatalf("%q opens as %+v, %v", text, in, err)
		}
	}
	if _, _, err := w.k.Finish(t.Context(), url.Values{"state": {token}, "code": {"x"}}, cookie); reasonOf(err) != keeper.ReasonBadState {
		t.Errorf("a link is a state: %v", err)
	}
	w.clock.move(29 * time.Minute)
	must[keeper.Connect](t)(w.k.OpenLink(token))
	w.clock.move(time.Minute)
	if _, err := w.k.OpenLink(token); reasonOf(err) != keeper.ReasonLinkExpired || !strings.Contains(err.Error(), "new one") {
		t.Errorf("half an hour later: %v", err)
	}
}

// TestStateIsShort: some providers take no more than a few hundred characters.
func TestStateIsShort(t *testing.T) {
	w := newWorld(t, single())
	in := keeper.Connect{Provider: "single", Owner: "customer-123456", ReturnURL: "https://app.example/settings/integrations"}
	u := must[*url.URL](t)(url.Parse(must[string](t)(w.k.Begin(t.Context(), in, cookie))))
	if n := len(u.Query().Get("state")); n > 500 {
		t.Errorf("the state has %d characters", n)
	}
}

func TestFinishRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(w *world, query url.Values) (binding string)
		reason keeper.Reason
		code   string
		told   bool // what was asked for
		kept   bool // the code is still good: a second try with the right request succeeds
	}{
		{"no state", func(_ *world, q url.Values) string { q.Del("state"); return cookie }, keeper.ReasonBadState, "", false, true},
		{"two states", func(_ *world, q url.Values) string { q.Add("state", q.Get("state")); return cookie }, keeper.ReasonBadState, "", false, true},
		{"a changed state", func(_ *world, q url.Values) string { q.Set("state", q.Get("state")[:40]); return cookie }, keeper.ReasonBadState, "", false, true},
		{"another browser", func(*world, url.Values) string { return "another" }, keeper.ReasonOtherBrowser, "", false, true},
		{"no cookie", func(*world, url.Values) string { return "" }, keeper.ReasonOtherBrowser, "", false, true},
		{"too late", func(w *world, _ url.Values) string { w.clock.move(30 * time.Minute); return cookie }, keeper.ReasonStateExpired, "", false, false},
		{"no code", func(_ *world, q url.Values) string { q.Del("code"); return cookie }, keeper.ReasonBadCallback, "", true, false},
		{"two codes", func(_ *world, q url.Values) string { q.Add("code", "x"); return cookie }, keeper.ReasonBadCallback, "", true, false},
		{"the owner said no", func(_ *world, q url.Values) string { q.Set("error", "access_denied"); return cookie }, keeper.ReasonDenied, "access_denied", true, false},
		{"the owner went away", func(_ *world, q url.Values) string { q.Set("error", "USER_CANCELLED"); return cookie }, keeper.ReasonDenied, "USER_CANCELLED", true, false},
		{"the provider failed", func(_ *world, q url.Values) string {
			q.Set("error", "server_error")
			q.Set("error_description", "out of\norder <b>"+strings.Repeat("x", 1000))
			return cookie
		}, keeper.ReasonProviderError, "server_error", true, false},
		{"the code is refused", func(w *world, _ url.Values) string { w.clock.move(5 * time.Minute); return cookie }, keeper.ReasonCodeRefused, "invalid_grant", true, false},
		{"the client is refused", func(w *world, _ url.Values) string { w.sims["single"].SetSecrets("x"); return cookie }, keeper.ReasonCodeRefused, "invalid_client", true, false},
		{"the answer is lost", func(w *world, _ url.Values) string {
			w.sims["single"].Inject(providertest.Rule{Fault: providertest.DropAfter()})
			return cookie
		}, keeper.ReasonCodeRefused, "", true, false},
		{"the answer cannot be read", func(w *world, _ url.Values) string {
			w.sims["single"].Inject(providertest.Rule{Fault: providertest.Page(http.StatusOK)})
			return cookie
		}, keeper.ReasonCodeRefused, "", true, false},
		{"the provider is away", func(w *world, _ url.Values) string {
			w.sims["single"].Inject(providertest.Rule{Fault: providertest.Unavailable(http.StatusServiceUnavailable, "9")})
			return cookie
		}, keeper.ReasonCodeRefused, "", true, false},
		{"the provider is gone from the configuration", func(w *world, _ url.Values) string {
			delete(w.sims, "single")
			w.start()
			return cookie
		}, keeper.ReasonUnknownProvider, "", true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := consenting(t, single())
			in := w.link(keeper.Connect{Provider: "single", Owner: "one", Connection: "one", ReturnURL: "https://app.example/"})
			good := w.visit(in)
			query := url.Values{}
			for name, values := range good {
				query[name] = slices.Clone(values)
			}
			binding := tt.change(w, query)
			told, _, err := w.k.Finish(t.Context(), query, binding)
			refusal, _ := errors.AsType[*keeper.Refusal](err)
			if refusal == nil || refusal.Reason != tt.reason || refusal.Code != tt.code || (told.ReturnURL != "") != tt.told {
				t.Fatalf("refused because of %q: %v; told %+v", reasonOf(err), err, told)
			}
			if text := err.Error(); len(text) > 800 || strings.ContainsAny(text, "\n\x00") || strings.Contains(text, good.Get("code")) {
				t.Errorf("the owner is told %q", text)
			}
			if _, err := w.db.Keeper().Connection(t.Context(), "one"); !errors.Is(err, keeper.ErrNotFound) {
				t.Errorf("there is a row: %v", err)
			}
			_, _, err = w.k.Finish(t.Context(), good, cookie)
			if (err == nil) != tt.kept {
				t.Errorf("the right request afterwards gets %v", err)
			}
			if err != nil && reasonOf(err) != keeper.ReasonReplayed && reasonOf(err) != keeper.ReasonStateExpired {
				t.Errorf("the same again is refused because of %q", reasonOf(err))
			}
		})
	}
}

// TestCallbackReplayed: a callback works once, over all replicas, and what it did
// stays.
func TestCallbackReplayed(t *testing.T) {
	w := consenting(t, single())
	query := w.visit(w.link(keeper.Connect{Provider: "single"}))
	_, c, err := w.k.Finish(t.Context(), query, cookie)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []*keeper.Keeper{w.k, w.another()} {
		if _, _, err := k.Finish(t.Context(), query, cookie); reasonOf(err) != keeper.ReasonReplayed {
			t.Errorf("again: %v", err)
		}
	}
	if token := w.token(c.ID, keeper.Want{}); !w.sims["single"].Alive(token.AccessToken.Reveal()) {
		t.Error("the replay ended the grant")
	}
}

// TestReconnectRefused: a repair that does not succeed leaves what is there, and
// its token is served.
func TestReconnectRefused(t *testing.T) {
	w := consenting(t, single())
	w.connect("one", "single")
	before := w.row("one")
	query := w.visit(w.link(keeper.Connect{Provider: "single", Connection: "one"}))
	w.clock.move(5 * time.Minute)
	if _, _, err := w.k.Finish(t.Context(), query, cookie); reasonOf(err) != keeper.ReasonCodeRefused {
		t.Fatal(err)
	}
	if after := w.row("one"); after.State != keeper.Active || after.Generation != before.Generation || after.Intent != nil {
		t.Errorf("the row is %+v", after)
	}
	w.token("one", keeper.Want{})
	if got := w.token("one", keeper.Want{Force: true}); got.Generation != 2 {
		t.Errorf("generation %d", got.Generation)
	}
}

// TestTwoOwnersOfOneID: of two links for the same new id the first one counts.
func TestTwoOwnersOfOneID(t *testing.T) {
	w := consenting(t, single())
	first := w.visit(w.link(keeper.Connect{Provider: "single", Owner: "first", Connection: "one"}))
	second := w.visit(w.link(keeper.Connect{Provider: "single", Owner: "second", Connection: "one"}))
	if _, _, err := w.k.Finish(t.Context(), first, cookie); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.k.Finish(t.Context(), second, cookie); reasonOf(err) != keeper.ReasonOtherConnection {
		t.Errorf("the second: %v", err)
	}
	if row := w.row("one"); row.Owner != "first" || row.State != keeper.Active {
		t.Errorf("the row is %+v", row)
	}
}

// TestWhatTheRedirectTells: params and metadata of the redirect are kept, and an
// answer of another issuer is refused (RFC 9207).
func TestWhatTheRedirectTells(t *testing.T) {
	d := single()
	d.Redirect = map[string]string{"realmId": "4711", "iss": "{base}", "dc": "eu"}
	d.Definition.Authorize.Keep = map[string]string{"realm": "realmId"}
	d.Definition.Params = map[string]provider.Param{"dc": {Pattern: "eu|us", From: "redirect:dc"}}
	d.Definition.API.Headers = map[string]string{"X-DC": "{params.dc|owner}"}
	w := consenting(t, d)
	w.change = func(cfg *keeper.Config) {
		def := w.sims["single"].Definition(w.urls["single"])
		def.Issuer = w.urls["single"]
		cfg.Providers = []*provider.Provider{newProvider(t, "single", def, w.clock.now, nil)}
	}
	w.start()
	_, c, err := w.k.Finish(t.Context(), w.visit(w.link(keeper.Connect{Provider: "single", Connection: "one"})), cookie)
	if err != nil || c.Params["dc"] != "eu" || c.Metadata["realm"] != "4711" {
		t.Errorf("kept are %v and %v, %v", c.Params, c.Metadata, err)
	}
	query := w.visit(w.link(keeper.Connect{Provider: "single", Connection: "two"}))
	query.Set("iss", "https://evil.example")
	if _, _, err := w.k.Finish(t.Context(), query, cookie); reasonOf(err) != keeper.ReasonBadCallback {
		t.Errorf("another issuer: %v", err)
	}
	query = w.visit(w.link(keeper.Connect{Provider: "single", Connection: "three"}))
	query.Set("dc", "evil.example/")
	if _, _, err := w.k.Finish(t.Context(), query, cookie); reasonOf(err) != keeper.ReasonBadCallback {
		t.Errorf("a bad param: %v", err)
	}
}

// TestBeginWithoutMetadata: a provider whose metadata cannot be had now is not
// one whose definition is bad.
func TestBeginWithoutMetadata(t *testing.T) {
	w := newWorld(t, single())
	withIssuer := func(change func(*provider.Definition)) {
		w.change = func(cfg *keeper.Config) {
			def := w.sims["single"].Definition(w.urls["single"])
			def.AuthorizeURL, def.Issuer = "", w.urls["single"]
			change(&def)
			cfg.Providers = []*provider.Provider{newProvider(t, "single", def, w.clock.now, nil)}
		}
		w.start()
	}
	withIssuer(func(*provider.Definition) {})
	must[string](t)(w.k.Begin(t.Context(), keeper.Connect{Provider: "single"}, cookie))
	withIssuer(func(*provider.Definition) {})
	w.sims["single"].Inject(providertest.Rule{Kind: providertest.Everything, Fault: providertest.Unavailable(http.StatusServiceUnavailable, "")})
	_, err := w.k.Begin(t.Context(), keeper.Connect{Provider: "single"}, cookie)
	if failure, ok := errors.AsType[*provider.Error](err); !ok || failure.Class == provider.BadDefinition {
		t.Errorf("got %v", err)
	}
	w.sims["single"].Clear()
	withIssuer(func(def *provider.Definition) { def.Issuer = w.urls["single"] + "/nowhere" })
	if _, err := w.k.Begin(t.Context(), keeper.Connect{Provider: "single"}, cookie); reasonOf(err) != keeper.ReasonBadDefinition {
		t.Errorf("got %v", err)
	}
}

// TestNoPKCE: where the provider knows no PKCE it gets neither challenge nor
// verifier.
func TestNoPKCE(t *testing.T) {
	d := single()
	d.Definition.Authorize.PKCE = "none"
	w := consenting(t, d)
	authorizeURL := must[string](t)(w.k.Begin(t.Context(), keeper.Connect{Provider: "single"}, cookie))
	if strings.Contains(authorizeURL, "code_challenge") {
		t.Errorf("the browser is sent to %s", authorizeURL)
	}
	if _, _, err := w.k.Finish(t.Context(), w.follow(authorizeURL), cookie); err != nil {
		t.Error(err)
	}
}

// TestCodeSurvivesACrash: tokens for a code that were in the journal when the
// process ended make the connection, and the code is not sent again.
func TestCodeSurvivesACrash(t *testing.T) {
	w := consenting(t, single())
	store := &lamedRows{Store: w.store, commit: "before"}
	w.store = store
	w.start()
	query := w.visit(w.link(keeper.Connect{Provider: "single", Connection: "one"}))
	if _, _, err := w.k.Finish(t.Context(), query, cookie); !errors.Is(err, errLamed) {
		t.Fatalf("got %v", err)
	}
	store.commit = ""
	w.start()
	w.clock.move(10 * time.Minute)
	if due := must[[]keeper.Due](t)(w.store.Due(t.Context(), w.clock.now(), 10)); len(due) != 1 {
		t.Errorf("due: %v", due)
	}
	if token := w.token("one", keeper.Want{}); !w.sims["single"].Alive(token.AccessToken.Reveal()) {
		t.Error("its token is not alive")
	}
	if n := w.sims["single"].Stats().Requests[provider.Exchange]; n != 1 {
		t.Errorf("the code was sent %d times", n)
	}
}

// TestCodeSurvivesACrashWithWhatTheRedirectTold: params and metadata of the
// redirect are as much part of a connection as the tokens of the answer.
func TestCodeSurvivesACrashWithWhatTheRedirectTold(t *testing.T) {
	t.Parallel()
	d := single()
	d.Redirect = map[string]string{"realmId": "4711", "dc": "eu"}
	d.Definition.Authorize.Keep = map[string]string{"realm": "realmId"}
	d.Definition.Params = map[string]provider.Param{"dc": {Pattern: "eu|us", From: "redirect:dc"}}
	d.Definition.API.Headers = map[string]string{"X-DC": "{params.dc|owner}"}
	w := consenting(t, d)
	store := &lamedRows{Store: w.store, commit: "before"}
	w.store = store
	w.start()
	query := w.visit(w.link(keeper.Connect{Provider: "single", Connection: "one"}))
	if _, _, err := w.k.Finish(t.Context(), query, cookie); !errors.Is(err, errLamed) {
		t.Fatalf("got %v", err)
	}
	store.commit = ""
	w.start()
	w.clock.move(10 * time.Minute)
	w.token("one", keeper.Want{})
	if row := w.row("one"); row.Params["dc"] != "eu" || row.Metadata["realm"] != "4711" {
		t.Errorf("kept are %v and %v", row.Params, row.Metadata)
	}
}

// TestConnectWhileTheStoreFails: nothing is sent to the provider before the row
// is there.
func TestConnectWhileTheStoreFails(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		w := consenting(t, single())
		store := &lamedRows{Store: w.store, create: when}
		w.store = store
		w.start()
		query := w.visit(w.link(keeper.Connect{Provider: "single", Connection: "one"}))
		if _, _, err := w.k.Finish(t.Context(), query, cookie); !errors.Is(err, errLamed) {
			t.Errorf("%s: %v", when, err)
		}
		if n := w.sims["single"].Stats().Requests[provider.Exchange]; n != 0 {
			t.Errorf("%s: the code was sent", when)
		}
		store.create = ""
		query = w.visit(w.link(keeper.Connect{Provider: "single", Connection: "one"}))
		if _, c, err := w.k.Finish(t.Context(), query, cookie); err != nil || c.State != keeper.Active {
			t.Errorf("%s, again: %v", when, err)
		}
	}
}

// TestOnceFails: a callback whose use could not be noted is not taken, and can
// come again unless it was noted after all.
func TestOnceFails(t *testing.T) {
	for when, again := range map[string]keeper.Reason{"before": "", "after": keeper.ReasonReplayed} {
		w := consenting(t, single())
		store := &lamedRows{Store: w.store, once: when}
		w.store = store
		w.start()
		query := w.visit(w.link(keeper.Connect{Provider: "single", Connection: "one"}))
		if _, _, err := w.k.Finish(t.Context(), query, cookie); !errors.Is(err, errLamed) {
			t.Errorf("%s: %v", when, err)
		}
		store.once = ""
		if _, _, err := w.k.Finish(t.Context(), query, cookie); reasonOf(err) != again || (err == nil) != (again == "") {
			t.Errorf("%s, again: %v", when, err)
		}
	}
}

// FuzzOpenLink: nothing that was not made here opens, and nothing panics.
func FuzzOpenLink(f *testing.F) {
	w := newWorld(f, single())
	token, _, err := w.k.Link(f.Context(), keeper.Connect{Provider: "single", Connection: "one"})
	if err != nil {
		f.Fatal(err)
	}
	plaintext := must[[]byte](f)(json.Marshal(map[string]any{"p": "single", "c": "one", "u": 1 << 40}))
	sealed := w.ring.Seal(secret.AnswerSeal, plaintext, []byte("connect/link"))
	for _, seed := range []string{token, "", "AAAAAQ", "AAAAAA", string(sealed.Data), token + token, strings.Repeat("A", 4000)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if in, err := w.k.OpenLink(text); err == nil && text != token {
			t.Errorf("%q opens as %+v", text, in)
		}
		if _, _, err := w.k.Finish(t.Context(), url.Values{"state": {text}, "code": {"x"}}, cookie); reasonOf(err) != keeper.ReasonBadState {
			t.Errorf("%q is a state: %v", text, err)
		}
	})
}
