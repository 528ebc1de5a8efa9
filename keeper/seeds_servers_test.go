package keeper_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
	"github.com/evergrant/evergrant/secret"
)

// site is the host of a provider: a simulator under the paths that the shipped
// definition has, which remembers what it was sent.
type site struct {
	*providertest.Simulator
	url   string
	paths map[string]string // of the provider → of the simulator; nil where they are the same

	mu     sync.Mutex
	seen   []sent
	answer func(sent) string // in place of the simulator's to token requests, with status 400
}

// sent is one request as it came over the wire.
type sent struct {
	path   string // of the provider
	query  string
	header http.Header
	body   string
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	path, known := s.paths[r.URL.Path]
	if s.paths == nil {
		path, known = r.URL.Path, true
	}
	if err != nil || !known {
		http.NotFound(w, r)
		return
	}
	q := sent{r.URL.Path, r.URL.RawQuery, r.Header.Clone(), string(body)}
	s.mu.Lock()
	s.seen = append(s.seen, q)
	answer := s.answer
	s.mu.Unlock()
	if path == providertest.TokenPath && answer != nil {
		http.Error(w, answer(q), http.StatusBadRequest)
		return
	}
	r.URL.Path, r.Body = path, io.NopCloser(strings.NewReader(string(body)))
	s.Simulator.ServeHTTP(w, r)
}

// answers has token requests answered by f, or by the simulator where nil.
func (s *site) answers(f func(sent) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

// take gives what was sent since it was last called.
func (s *site) take() (seen []sent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen, s.seen = s.seen, nil
	return seen
}

// fields are the parameters of a request in a body of one form.
func (q sent) fields(t testing.TB, form provider.Body) map[string]string {
	t.Helper()
	fields := map[string]string{}
	kind := q.header.Get("Content-Type")
	switch form {
	case provider.BodyJSON:
		if err := json.Unmarshal([]byte(q.body), &fields); err != nil || kind != "application/json" {
			t.Fatalf("%s was sent %s as %q: %v", q.path, q.body, kind, err)
		}
	case provider.BodyForm:
		values, err := url.ParseQuery(q.body)
		if err != nil || kind != oauth.FormType {
			t.Fatalf("%s was sent %s as %q: %v", q.path, q.body, kind, err)
		}
		for name := range values {
			fields[name] = values.Get(name)
		}
	}
	if q.query != "" {
		t.Errorf("%s was sent %s in the URL", q.path, q.query)
	}
	return fields
}

// expect holds which parameters were sent: "*" stands for any value that is not
// empty, and no others may be there.
func (q sent) expect(t testing.TB, form provider.Body, want map[string]string) {
	t.Helper()
	got := q.fields(t, form)
	for name, value := range got {
		if want[name] == "*" && value != "" {
			got[name] = "*"
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("%s was sent %v, want %v", q.path, got, want)
	}
}

// listener makes a server that serves a handler.
type listener func(http.Handler) (url string, dial dial, stop func())

// overHTTP listens on a port of this machine.
func overHTTP(h http.Handler) (string, dial, func()) {
	url, stop := providertest.Listen(h)
	return url, nil, stop
}

// inMemory is for tests in a bubble.
func inMemory(h http.Handler) (string, dial, func()) {
	dial, stop := providertest.Pipe(h)
	return "http://127.0.0.1:1", dial, stop
}

// ship makes a world of one provider with the definition that comes with the
// program, whose registration lead changes so that its URLs and params are those
// of the simulator. scopes are what the app asks for.
func ship(t testing.TB, listen listener, name string, dialect providertest.Dialect, paths map[string]string,
	lead func(cfg *provider.Config, url string), scopes ...string) (*world, *site) {
	t.Helper()
	definition, ok := provider.Builtin().Definition(name)
	if !ok {
		t.Fatalf("%s is not in the catalogue", name)
	}
	w := emptyWorld(t)
	s := &site{Simulator: providertest.New(dialect, providertest.Options{Now: w.clock.now, Consent: providertest.Allow}), paths: paths}
	var dial dial
	var stop func()
	s.url, dial, stop = listen(s)
	t.Cleanup(stop)
	definition.Params = maps.Clone(definition.Params)
	registered := provider.Config{
		Definition: definition, ClientID: "sim-client", ClientSecrets: []secret.Text{secret.NewText("sim-secret")}, Scopes: scopes,
		RedirectURI: "http://127.0.0.1/connect/callback", AllowPrivateNetworks: true, Now: w.clock.now, Dial: dial,
	}
	lead(&registered, s.url)
	w.sims[name], w.urls[name] = s.Simulator, s.url
	w.change = func(cfg *keeper.Config) {
		cfg.Providers = []*provider.Provider{must[*provider.Provider](t)(provider.New(registered))}
	}
	w.openStore()
	w.start()
	return w, s
}

// leadTo puts another beginning before the URLs of a definition.
func leadTo(d *provider.Definition, from, to string) {
	for _, u := range []*string{&d.AuthorizeURL, &d.TokenURL, &d.RevokeURL, &d.API.BaseURL} {
		*u = strings.Replace(*u, from, to, 1)
	}
	d.Remint.Steps = slices.Clone(d.Remint.Steps)
	for i := range d.Remint.Steps {
		d.Remint.Steps[i].URL = strings.Replace(d.Remint.Steps[i].URL, from, to, 1)
	}
}

// served is a world of one of the servers that the seeds set up, whose URL is a
// param of its definition.
func served(t testing.TB, name string, dialect providertest.Dialect, paths map[string]string) (*world, *site) {
	t.Helper()
	return ship(t, overHTTP, name, dialect, paths, func(cfg *provider.Config, url string) { cfg.Params = map[string]string{"server": url} })
}

func fos(t testing.TB, dialect providertest.Dialect) (*world, *site) {
	t.Helper()
	return served(t, "fosoauthserver", dialect, map[string]string{"/oauth/v2/token": providertest.TokenPath, "/oauth/v2/auth": providertest.AuthorizePath})
}

func bshaffer(t testing.TB, dialect providertest.Dialect) (*world, *site) {
	t.Helper()
	return served(t, "bshaffer", dialect, map[string]string{"/token": providertest.TokenPath, "/authorize": providertest.AuthorizePath})
}

// grants connects an owner through the browser.
func (w *world) grants(s *site, name, id string) keeper.Connection {
	w.t.Helper()
	in := w.link(keeper.Connect{Provider: name, Connection: id, Owner: id})
	_, row, err := w.k.Finish(w.t.Context(), w.visit(in), cookie)
	if err != nil {
		w.t.Fatal(err)
	}
	s.take()
	return row
}

// TestServersOfTheSeeds connects to servers like those of the seeds, refreshes
// as often as there is cause to, and finds the end of what expired.
func TestServersOfTheSeeds(t *testing.T) {
	rotating := providertest.Bshaffer()
	rotating.OneShot = false
	for name, open := range map[string]func(t *testing.T) (*world, *site){
		"fosoauthserver": func(t *testing.T) (*world, *site) { return fos(t, providertest.FOS()) },
		"bshaffer":       func(t *testing.T) (*world, *site) { return bshaffer(t, rotating) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, s := open(t)
			first := w.grants(s, name, "one")
			if life := first.ExpiresAt.Sub(first.IssuedAt); life != time.Hour || !first.Refreshable || first.Scope != nil {
				t.Errorf("the token lives for %s, with the scope %v", life, first.Scope)
			}
			if life := first.RefreshExpiresAt.Sub(first.IssuedAt); life != 14*24*time.Hour {
				t.Errorf("the refresh token is taken to live for %s", life)
			}
			for generation := uint64(2); generation < 8; generation++ {
				w.clock.move(time.Duration(generation) * 30 * time.Minute)
				if token := w.token("one", keeper.Want{Force: true}); token.Generation != generation || !s.Alive(token.AccessToken.Reveal()) {
					t.Fatalf("refreshed to generation %d, want %d", token.Generation, generation)
				}
				seen := s.take()
				if len(seen) != 1 {
					t.Fatalf("%d requests were sent", len(seen))
				}
				seen[0].expect(t, provider.BodyForm, map[string]string{"grant_type": "refresh_token", "refresh_token": "*", "client_id": "sim-client", "client_secret": "sim-secret"})
			}
			grant := s.Grants()[0]
			if want := []int{1, 1, 1, 1, 1, 1, 0}; !slices.Equal(grant.Spends, want) || len(s.Stats().DoubleSpends) > 0 {
				t.Errorf("at the provider: %+v", grant)
			}

			w.clock.move(14*24*time.Hour + time.Minute)
			if u := w.unusable("one", keeper.Want{}); u.Cause != keeper.CauseRefreshTokenExpired || !u.NeedsOwner() || len(s.take()) > 0 {
				t.Errorf("after two idle weeks: %v", u)
			}
			if row := w.grants(s, name, "one"); row.State != keeper.Active || row.Generation != 8 {
				t.Errorf("after reconnecting: %+v", row)
			}
		})
	}
}

// TestServersExpireEarlier holds that the servers' words for an expired refresh
// token are understood, where they are set up for a shorter life.
func TestServersExpireEarlier(t *testing.T) {
	rotating := providertest.Bshaffer()
	rotating.OneShot, rotating.RefreshIdle = false, 24*time.Hour
	short := providertest.FOS()
	short.RefreshIdle = 24 * time.Hour
	for name, open := range map[string]func() (*world, *site){
		"fosoauthserver": func() (*world, *site) { return fos(t, short) },
		"bshaffer":       func() (*world, *site) { return bshaffer(t, rotating) },
	} {
		w, s := open()
		w.grants(s, name, "one")
		w.clock.move(25 * time.Hour)
		if u := w.unusable("one", keeper.Want{}); u.Cause != keeper.CauseRefreshTokenExpired || u.Class != provider.RefreshTokenExpired || !u.NeedsOwner() || len(s.take()) != 1 {
			t.Errorf("%s: %v", name, u)
		}
	}
}

// TestOneShot is oauth2-server-php as it comes: a refresh uses the refresh token
// up and gives no other. The second access token is served to its end, nothing
// more is sent, and only then is the owner asked, who was named in good time.
func TestOneShot(t *testing.T) {
	w, s := bshaffer(t, providertest.Bshaffer())
	w.grants(s, "bshaffer", "one")
	w.clock.move(58 * time.Minute)
	token := w.token("one", keeper.Want{})
	row := w.row("one")
	if token.Generation != 2 || row.Refreshable || row.State != keeper.Active {
		t.Fatalf("generation %d, and the row is %+v", token.Generation, row)
	}
	s.take()
	if warned := row.ExpiresAt.Sub(row.DueAt); warned != 6*time.Minute {
		t.Errorf("the owner is warned %s before the end", warned)
	}
	for range 59 {
		w.clock.move(time.Minute)
		for _, want := range []keeper.Want{{}, {Force: true}, {MinTTL: 30 * time.Second}} {
			if again := w.token("one", want); again.Generation != 2 || !s.Alive(again.AccessToken.Reveal()) {
				t.Fatalf("generation %d", again.Generation)
			}
		}
	}
	runIn(t, func() { w.settles("one", func(row keeper.Connection) bool { return !row.WarnedAt.IsZero() }) }, w.k)
	warned := must[[]keeper.Event](t)(w.store.Events(t.Context(), keeper.EventFilter{Connection: "one", Limit: 1}))[0]
	if ends := row.ExpiresAt.UTC().Format(time.RFC3339); !strings.Contains(warned.Detail, ends) {
		t.Errorf("the owner is not told of %s: %+v", ends, warned)
	}
	w.clock.move(time.Minute)
	u := w.unusable("one", keeper.Want{})
	if u.Cause != keeper.CauseNoRefreshToken || !u.NeedsOwner() || u.State != keeper.Reauthorize {
		t.Errorf("at the end: %v", u)
	}
	if n := len(s.take()); n > 0 || len(s.Stats().DoubleSpends) > 0 {
		t.Errorf("%d requests were sent for nothing", n)
	}
	if got, want := w.events("one"), []string{keeper.EventCreated, keeper.EventConnected, keeper.EventRefreshed, keeper.EventExpiring, keeper.EventReauthorize}; !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}

// settles waits until a row is as it should be.
func (w *world) settles(id string, as func(row keeper.Connection) bool) {
	w.t.Helper()
	for range 1000 {
		if as(w.row(id)) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	w.t.Fatalf("the row stays %+v", w.row(id))
}

// TestOneShotUnknown is the same server, configured by its URLs alone. Nobody
// knows that the refresh token is used up, so that it is tried; but its refusal
// does not cost what is left of the access token.
func TestOneShotUnknown(t *testing.T) {
	d := providertest.Bshaffer()
	w := newWorld(t, d)
	grant := w.connect("one", "bshaffer")
	sim := w.sims["bshaffer"]
	if token := w.token("one", keeper.Want{Force: true}); token.Generation != 2 {
		t.Fatalf("generation %d", token.Generation)
	}
	w.clock.move(56 * time.Minute)
	for range 3 {
		if again := w.token("one", keeper.Want{}); again.Generation != 2 || !sim.Alive(again.AccessToken.Reveal()) {
			t.Fatalf("generation %d", again.Generation)
		}
		w.clock.move(time.Minute)
	}
	row := w.row("one")
	if row.State != keeper.Active || row.Refreshable || row.Intent != nil || !row.DueAt.Equal(row.ExpiresAt) {
		t.Errorf("the row is %+v", row)
	}
	w.clock.move(2 * time.Minute)
	if u := w.unusable("one", keeper.Want{}); u.Cause != keeper.CauseNoRefreshToken || !u.NeedsOwner() {
		t.Errorf("at the end: %v", u)
	}
	if n := sim.Stats().Requests[provider.Refresh]; n != 2 || !slices.Equal(sim.Grant(grant).Spends, []int{1}) {
		t.Errorf("%d requests, spent %v", n, sim.Grant(grant).Spends)
	}
}

// TestKeptRefreshToken holds that a refresh token of which no other came, but
// which goes on to be good, is used on, although no definition calls it fixed.
func TestKeptRefreshToken(t *testing.T) {
	d := single()
	d.Rotation = provider.RotationFixed
	w := newWorld(t, d)
	w.change = func(cfg *keeper.Config) {
		def := w.sims["single"].Definition(w.urls["single"])
		def.RefreshToken.Rotation = ""
		cfg.Providers = []*provider.Provider{newProvider(t, "single", def, w.clock.now, nil)}
	}
	w.start()
	w.connect("one", "single")
	for generation := uint64(2); generation < 6; generation++ {
		w.clock.move(56 * time.Minute)
		if token := w.token("one", keeper.Want{}); token.Generation != generation {
			t.Fatalf("generation %d", token.Generation)
		}
	}
}
