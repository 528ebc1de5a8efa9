package profile_test

import (
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/issuer/profile"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/sqlite"
)

const codeChallenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM" // of verifier

// withPKCE is PKCE in an authorization request.
var withPKCE = []string{"code_challenge", codeChallenge, "code_challenge_method", "S256"}

// talk is a site with an owner who decides as a test wants, and with protected
// resources below /api/. Its issuer has a name of its own, so that links in its
// answers are the same in each run.
type talk struct {
	*site
	answer issuer.Answer // of the owner; all that is asked for where it is zero
	api    *http.ServeMux
}

// newTalk starts a server with a configuration. Profiles that are nil are all, with
// what config.Unsafe names.
func newTalk(t testing.TB, config issuer.Config) *talk {
	t.Helper()
	x := &talk{site: &site{t: t}, api: http.NewServeMux()}
	x.set(time.Date(2031, 5, 17, 9, 30, 0, 250e6, time.UTC))
	var err error
	x.db, err = sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "evergrant.db"), sqlite.Options{})
	x.must(err)
	t.Cleanup(func() { x.db.Close() })
	config.Issuer, config.Store, config.Now, config.Log = "https://id.example", x.db, x.now, slog.New(slog.DiscardHandler)
	config.Keys, err = secret.OpenRing(t.Context(), secret.NewRoot(), x.db, x.now, false)
	x.must(err)
	if config.Profiles == nil {
		config.Profiles = profile.All(profile.Options{Unsafe: config.Unsafe})
	}
	if x.profile = config.Profiles[config.Profile]; x.profile == nil {
		x.profile = &issuer.Profile{TokenPath: issuer.TokenPath, AuthorizePath: issuer.AuthorizePath}
	}
	config.Scopes = map[string]string{"read": "Read your data", "write": "Change your data"}
	config.AskOwner = func(_ http.ResponseWriter, _ *http.Request, ask *issuer.Authorization) (issuer.Answer, bool) {
		if x.answer.Denied || x.answer.Subject != "" {
			return x.answer, true
		}
		return issuer.Answer{Subject: owner, Scope: ask.Scope}, true
	}
	x.server, err = issuer.New(config)
	x.must(err)
	x.admin = issuer.NewAdmin(x.server, x.db)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/") {
			x.api.ServeHTTP(w, r)
			return
		}
		x.server.ServeHTTP(w, r)
	}))
	t.Cleanup(web.Close)
	x.url = web.URL
	x.web = &http.Client{
		Transport:     &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(x.web.CloseIdleConnections)
	x.section("")
	return x
}

// The clients that most tests of the authorization endpoint have. Their secrets have
// the generated form, which is checked in no time.
const (
	webClient     = "web:egs_wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww"
	twoClient     = "two:egs_ttttttttttttttttttttttttttttttttttttttttttt"     // with two redirect URIs
	noneClient    = "none:egs_nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"    // with none
	mobileClient  = "mobile"                                                  // public
	machineClient = "machine:egs_mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm" // may not ask owners
	readerClient  = "reader:egs_rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr"  // may read
	queriedClient = "queried:egs_qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq" // whose redirect URI has a query
)

const mobileCallback = "com.example.app:/callback"

func (x *talk) registerAll() {
	x.t.Helper()
	code := []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken}
	x.client(webClient, issuer.Client{GrantTypes: code})
	x.client(twoClient, issuer.Client{GrantTypes: code, RedirectURIs: []string{callback, callback + "/two"}})
	x.client(noneClient, issuer.Client{GrantTypes: code, RedirectURIs: []string{}})
	x.client(mobileClient, issuer.Client{GrantTypes: code, RedirectURIs: []string{mobileCallback}})
	x.client(machineClient, issuer.Client{GrantTypes: []string{oauth.GrantClientCredentials}})
	x.client(readerClient, issuer.Client{GrantTypes: code, Scopes: oauth.Scope{"read"}})
	x.client(queriedClient, issuer.Client{GrantTypes: code, RedirectURIs: []string{callback + "?tenant=a%20b"}})
}

// ask sends an authorization request to the profile's own path: a good one of the
// client web, with pairs of names and values in the place of its parameters. An
// empty value leaves one out.
func (x *talk) ask(pairs ...string) reply {
	x.t.Helper()
	return x.askAt(x.profile.AuthorizePath, pairs...)
}

func (x *talk) askAt(path string, pairs ...string) reply {
	x.t.Helper()
	request := []string{"response_type", "code", "client_id", "web", "redirect_uri", callback, "state", "xyz"}
	for pair := range slices.Chunk(pairs, 2) {
		if at := slices.Index(request, pair[0]); at >= 0 && at%2 == 0 {
			request[at+1] = pair[1]
		} else {
			request = append(request, pair...)
		}
	}
	var query []string
	for pair := range slices.Chunk(request, 2) {
		if pair[1] != "" {
			query = append(query, pair[0]+"="+url.QueryEscape(pair[1]))
		}
	}
	return x.send(http.MethodGet, path+"?"+strings.Join(query, "&"), "")
}

// asMobile is a request of the public client.
func asMobile(pairs ...string) []string {
	return append([]string{"client_id", "mobile", "redirect_uri", mobileCallback}, pairs...)
}

// carried is what a redirect carries, in its query or in its fragment.
func (r reply) carried() url.Values {
	r.t.Helper()
	to, err := url.Parse(r.header.Get("Location"))
	if err != nil {
		r.t.Fatal(err)
	}
	text := to.RawQuery
	if to.Fragment != "" {
		text = to.EscapedFragment()
	}
	values, err := url.ParseQuery(text)
	if err != nil {
		r.t.Fatal(err)
	}
	return values
}

// unwritten runs what is not to stand in the transcript.
func (x *talk) unwritten(f func()) {
	x.t.Helper()
	before := x.script.String()
	f()
	x.script.Reset()
	x.script.WriteString(before)
}

// wantHabits checks what was counted for a client.
func (x *talk) wantHabits(client string, want map[issuer.Habit]int64) {
	x.t.Helper()
	all, err := x.admin.Habits(x.ctx(), issuer.UseFilter{ClientID: client})
	x.must(err)
	got := map[issuer.Habit]int64{}
	for _, use := range all {
		got[use.Habit] = use.Count
	}
	if !maps.Equal(got, want) {
		x.t.Errorf("habits of %s: %v, want %v", client, got, want)
	}
}

// events are those of a type, newest first.
func (x *talk) events(eventType string) []issuer.Event {
	x.t.Helper()
	all, err := x.db.Events(x.ctx(), issuer.EventFilter{Type: eventType, Limit: 1000})
	x.must(err)
	return all
}

// grants are all rows.
func (x *talk) grants() []issuer.Grant {
	x.t.Helper()
	all, err := x.db.Grants(x.ctx(), issuer.GrantFilter{Limit: 1000})
	x.must(err)
	return all
}
