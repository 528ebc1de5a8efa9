package web

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
)

// TestProviderWithParams: whoever makes connections is told what to give.
func TestProviderWithParams(t *testing.T) {
	s := startDefined(t, false, func(d *provider.Definition) {
		d.Title, d.Params = "", map[string]provider.Param{
			"shop":   {Title: "Name of the shop", Pattern: "[a-z]+", Default: "tea"},
			"region": {From: "redirect:region"},
		}
		d.Authorize.Params = map[string]*string{"shop": new("{params.shop}")}
		d.API.Headers = map[string]string{"X-Region": "{params.region}"}
	}, providertest.Plain())
	r := s.mustAPI(http.StatusOK, "GET", "/v1/providers/plain", "")
	for field, want := range map[string]any{
		"params.shop.title": "Name of the shop", "params.shop.pattern": "[a-z]+", "params.shop.default": "tea", "params.region.from": "redirect:region",
		"title": "plain", "definition": "plain",
	} {
		if got := r.field(t, field); got != want {
			t.Errorf("%s is %v, want %v", field, got, want)
		}
	}
	path, id := s.link(map[string]any{"provider": "plain", "owner": "alice", "params": map[string]string{"shop": "coffee"}})
	browser := s.browser()
	callback := replaced(s.leave(browser, path), "region", "eu")
	wantPage(t, s.get(browser, callback), http.StatusOK, "<bdi>plain</bdi> is connected")
	c, err := s.keeper.Connection(t.Context(), id)
	if err != nil || c.Params["shop"] != "coffee" || c.Params["region"] != "eu" {
		t.Errorf("%+v, %v", c.Params, err)
	}
	wantPage(t, s.get(s.operatorBrowser(), "/console/connections/"+id), http.StatusOK, "region=eu, shop=coffee")
}

// TestProviderThatWasRemoved: its connections stay, and say what is missing.
func TestProviderThatWasRemoved(t *testing.T) {
	s := start(t, false, providertest.Plain())
	s.imports("one", "plain", "alice", "")
	s.clock.advance(2 * time.Hour)
	path, _ := s.link(map[string]any{"connection": "one"})
	k, err := keeper.New(keeper.Config{Store: s.db.Keeper(), Keys: s.keys, Log: s.log.logger(), Now: s.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	config := s.config
	config.Keeper, config.Providers = k, nil
	pages, err := NewPages(PagesConfig{PublicURL: s.url, Keys: s.keys, User: s.db.User})
	if err != nil {
		t.Fatal(err)
	}
	s.http.Config.Handler = s.site(nil, pages, config)
	r := s.api("GET", "/v1/connections/one/token", "")
	wantProblem(t, r, http.StatusServiceUnavailable, "Connection one at plain")
	if !strings.Contains(r.field(t, "next").(string), "configuration") {
		t.Errorf("what to do is not told: %s", r.body)
	}
	s.mustAPI(http.StatusOK, "GET", "/v1/connections/one", "")
	if r := s.mustAPI(http.StatusOK, "GET", "/v1/providers", ""); r.body != `{"items":[]}` {
		t.Errorf("providers %s", r.body)
	}
	wantProblem(t, s.api("POST", "/v1/connect-sessions", `{"connection":"one"}`), http.StatusBadRequest, `"plain"`)
	wantPage(t, s.submit(s.browser(), path), http.StatusNotFound, "not known here any more")
	browser := s.operatorBrowser()
	wantPage(t, s.get(browser, "/console/connections"), http.StatusOK, "<option>plain</option>")
	r = s.get(browser, "/console/connections/one")
	wantPage(t, r, http.StatusOK, "<h1>one</h1>")
	if strings.Contains(r.body, `value="reconnect"`) {
		t.Error("a link is offered that cannot be made")
	}
	wantPage(t, s.get(browser, "/console/providers"), http.StatusOK, "No provider is configured.")
}

// TestDeadConnectionOfRemovedProvider: without its provider there is no link to
// connect again, and the refusal is told all the same.
func TestDeadConnectionOfRemovedProvider(t *testing.T) {
	s := start(t, false, providertest.Plain())
	grant, _ := s.imports("one", "plain", "alice", "")
	s.sims["plain"].Revoke(grant)
	s.clock.advance(2 * time.Hour)
	wantProblem(t, s.api("GET", "/v1/connections/one/token", ""), http.StatusConflict, "revoked")
	k, err := keeper.New(keeper.Config{Store: s.db.Keeper(), Keys: s.keys, Log: s.log.logger(), Now: s.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	a := newAPI(s.config)
	a.Keeper = k
	r := s.request("GET", "/v1/connections/one/token", "")
	if got := a.repairURL(r, "one"); got != "" {
		t.Errorf("nobody in particular gets %q", got)
	}
	for _, id := range []string{"one", "none"} {
		if got := a.repairURL(asOperator(r), id); got != "" {
			t.Errorf("link %q for %s", got, id)
		}
	}
}

// TestWhoDidIt: the log of events names who asked for a change, and from where.
func TestWhoDidIt(t *testing.T) {
	s := start(t, false, providertest.Plain())
	writer := s.client("billing", "", ScopeWrite, ScopeRead)
	if r := s.as(writer, "POST", "/v1/connections", `{"id":"one","provider":"plain","tokens":{"access_token":"a"}}`); r.status != http.StatusCreated {
		t.Fatal(r.body)
	}
	s.as(writer, "POST", "/v1/connections/one/pause", "")
	s.api("POST", "/v1/connections/one/resume", "")
	s.submit(s.operatorBrowser(), "/console/connections/one", "action", "pause")
	var actors []string
	for _, item := range s.mustAPI(http.StatusOK, "GET", "/v1/connections/one/history", "").field(t, "items").([]any) {
		event := item.(map[string]any)
		actors = append(actors, fmt.Sprint(event["type"], " by ", event["actor"], " at ", event["address"]))
	}
	want := "connection.paused by operator at 127.0.0.1, connection.resumed by operator at 127.0.0.1, " +
		"connection.paused by client:billing at 127.0.0.1, connection.created by client:billing at 127.0.0.1"
	if got := strings.Join(actors, ", "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestConsentHost(t *testing.T) {
	for at, want := range map[string]string{
		"https://login.example/authorize": "login.example", "https://{params.shop}.example/authorize": "", "": "", "::": "",
	} {
		if got := consentHost(&provider.Definition{AuthorizeURL: at}); got != want {
			t.Errorf("consentHost(%q) = %q, want %q", at, got, want)
		}
	}
}

func TestLifetimesInWords(t *testing.T) {
	for _, tt := range []struct {
		of   providerDocument
		want string
	}{
		{providerDocument{}, "as the provider tells"},
		{providerDocument{AccessTokenLifetime: oauth.None}, "as the provider tells"},
		{providerDocument{AccessTokenLifetime: oauth.Lifetime(time.Hour)}, "access token 1h"},
		{providerDocument{AccessTokenLifetime: oauth.Lifetime(time.Hour), RefreshTokenIdle: oauth.Lifetime(60 * 24 * time.Hour), GrantLifetime: oauth.Lifetime(365 * 24 * time.Hour)}, "access token 1h, unused 60d, grant 365d"},
	} {
		if got := lifetimes(tt.of); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

// TestStreamFilter: which events a filter chooses, whatever is in them.
func TestStreamFilter(t *testing.T) {
	kept := hook.Event{ID: 7, Type: "connection.paused", Document: []byte(`{"connection":"one","provider":"plain","tenant":"acme","owner":"alice"}`)}
	issued := hook.Event{ID: 8, Type: "grant.created", Document: []byte(`{"client_id":"photos","subject":"alice"}`)}
	operators := hook.Event{ID: 9, Type: "key.resealed", Document: []byte(`{}`)}
	broken := hook.Event{ID: 10, Type: "connection.paused", Document: []byte(`{`)}
	of := func(pairs ...string) map[string]string {
		members := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			members[pairs[i]] = pairs[i+1]
		}
		return members
	}
	for name, tt := range map[string]struct {
		filter streamFilter
		want   string // ids
	}{
		"all":                 {streamFilter{}, "7 8 9 10"},
		"a type":              {streamFilter{eventType: "grant.created"}, "8"},
		"a prefix":            {streamFilter{eventType: "connection."}, "7 10"},
		"no prefix":           {streamFilter{eventType: "connection"}, ""},
		"the keeper's":        {streamFilter{keeperOnly: true}, "7 10"},
		"a connection":        {streamFilter{of: of("connection", "one")}, "7"},
		"another connection":  {streamFilter{of: of("connection", "two")}, ""},
		"a client":            {streamFilter{of: of("client_id", "photos")}, "8"},
		"two at once":         {streamFilter{of: of("connection", "one", "provider", "plain")}, "7"},
		"two of which one":    {streamFilter{of: of("connection", "one", "provider", "google")}, ""},
		"a tenant's":          {streamFilter{of: of("tenant", "acme"), keeperOnly: true}, "7"},
		"the default's":       {streamFilter{of: of("tenant", ""), keeperOnly: true}, ""},
		"what is not in them": {streamFilter{of: of("grant", "1")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for line := range strings.Lines(string(streamed(tt.filter, []hook.Event{kept, issued, operators, broken}))) {
				if id, ok := strings.CutPrefix(line, "id: "); ok {
					got = append(got, strings.TrimSpace(id))
				}
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("chosen %q, want %q", got, tt.want)
			}
		})
	}
	lines := hook.Event{ID: 1, Type: "x", Document: []byte("{\n\"a\": 1}")}
	if got := string(streamed(streamFilter{}, []hook.Event{lines})); got != "id: 1\nevent: x\ndata: {\ndata: \"a\": 1}\n\n" {
		t.Errorf("a document of two lines is written as %q", got)
	}
}

func TestMerged(t *testing.T) {
	list := func(name string, ids ...int64) (all []event) {
		for _, id := range ids {
			all = append(all, event{id, name})
		}
		return all
	}
	for _, tt := range []struct {
		first, second []event
		want          string
	}{
		{nil, nil, ""}, {list("k", 3, 1), nil, "3k 1k"}, {list("k", 5, 2), list("i", 4, 3, 1), "5k 4i 3i 2k 1i"}, {list("k", 3, 2), list("i", 3, 1), "3k 2k 1i"},
	} {
		var got []string
		for _, e := range merged(tt.first, tt.second) {
			got = append(got, fmt.Sprint(e.id, e.document))
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

// What is remembered of APIs that refuse new tokens is forgotten in time, and is
// bounded.
func TestVain(t *testing.T) {
	now := time.Date(2031, 5, 17, 9, 30, 0, 0, time.UTC)
	v := &vain{now: func() time.Time { return now }, until: map[string]time.Time{}}
	v.note("one")
	if !v.is("one") || v.is("two") {
		t.Error("the wrong connection is remembered")
	}
	now = now.Add(vainFor)
	if v.is("one") {
		t.Error("it is remembered for too long")
	}
	for i := range 3 * vainSize {
		v.note(fmt.Sprint(i))
	}
	if len(v.until) > vainSize {
		t.Errorf("%d connections are remembered", len(v.until))
	}
}
