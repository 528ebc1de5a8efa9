package profile_test

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/issuer/profile"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// protected has two resources: /api/photos needs the scope read, /api/me none.
// They answer with what they know of the access token, and with what body came.
func (x *talk) protected() {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		access, ok := issuer.AccessOf(r.Context())
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%t: %s by %s for %q, body %q, %v\n", ok, access.Subject, access.Client.ID, access.Scope, body, err)
	})
	x.api.Handle("/api/photos", x.server.Protect(oauth.Scope{"read"}, page))
	x.api.Handle("/api/me", x.server.Protect(nil, page))
}

// tokenFor is an access token, which is not written down.
func (x *talk) tokenFor(scope string) string {
	x.t.Helper()
	var token string
	x.unwritten(func() {
		token = x.redeemWith(webClient, x.codeOf("scope", scope)).want(http.StatusOK).get("access_token")
	})
	return token
}

func bearer(token string) string { return "Authorization: Bearer " + token }

// TestProtectTranscript is the transcript of protected resources.
func TestProtectTranscript(t *testing.T) {
	for _, name := range everyProfile {
		t.Run(cmp.Or(name, "standard"), func(t *testing.T) {
			t.Parallel()
			x := newTalk(t, issuer.Config{Profile: name, Policy: issuer.Policy{PKCE: issuer.PKCEPublicClients, Format: issuer.FormatOpaque}})
			x.registerAll()
			x.protected()
			get := func(path string, headers ...string) reply { return x.send(http.MethodGet, path, "", headers...) }

			x.section("no token")
			get("/api/photos")
			x.section("an access token")
			token := x.tokenFor("read write")
			get("/api/photos", bearer(token))
			get("/api/me", bearer(token))
			x.section("in a form")
			x.send(http.MethodPost, "/api/photos", "title=A+cat&access_token="+x.tokenFor("read"), formHeader)
			x.section("in the query")
			get("/api/photos?access_token=" + x.tokenFor("read"))
			x.section("in two places")
			token = x.tokenFor("read")
			get("/api/photos?access_token="+token, bearer(token))
			x.send(http.MethodPost, "/api/photos?access_token="+token, "access_token="+token, formHeader)
			x.section("an empty one in a form")
			x.send(http.MethodPost, "/api/photos", "access_token=", formHeader)
			x.section("another Authorization header")
			get("/api/photos", "Authorization: Basic web:secret")
			get("/api/photos", "Authorization: Bearer")
			x.section("a token that there is not")
			get("/api/photos", bearer("nonsense"))
			get("/api/me", bearer("nonsense"))
			x.section("a token without the scope")
			get("/api/photos", bearer(x.tokenFor("write")))
			x.section("a revoked token")
			revoked := x.tokenFor("read")
			x.unwritten(func() {
				x.send(http.MethodPost, issuer.RevokePath, "token="+revoked, basic(webClient), formHeader).want(http.StatusOK)
			})
			get("/api/photos", bearer(revoked))
			x.section("an expired token")
			late := x.tokenFor("read")
			x.later(3 * 24 * 3600)
			get("/api/photos", bearer(late))
			get("/api/me", bearer(late))
			x.compare(transcriptOf("authorize_resource", name))
		})
	}
}

// TestProtectByClient: each token is answered in the profile of its client,
// whatever the server's is.
func TestProtectByClient(t *testing.T) {
	t.Parallel()
	for _, name := range everyProfile {
		x := newTalk(t, issuer.Config{Profile: name, Policy: issuer.Policy{PKCE: issuer.PKCEPublicClients, Format: issuer.FormatOpaque}})
		x.protected()
		x.profile = &issuer.Profile{TokenPath: issuer.TokenPath, AuthorizePath: issuer.AuthorizePath}
		for _, of := range profile.Names() {
			x.client(webClient, issuer.Client{GrantTypes: all, Profile: of})
			token, wrong := x.tokenFor("read"), x.tokenFor("write")
			query := x.send(http.MethodGet, "/api/photos?access_token="+token, "")
			form := x.send(http.MethodPost, "/api/photos", "access_token="+token, formHeader)
			if reads := of != profile.NameEventix; (query.status == 200) != reads || (form.status == 200) != reads {
				t.Errorf("server %q, client of %s: %d by query, %d in a form", name, of, query.status, form.status)
			}
			if r := x.send(http.MethodGet, "/api/photos?access_token=unknown", "", bearer(token)); r.status != 200 && (name == "" || name == profile.NameEventix) {
				t.Errorf("server %q, client of %s: a parameter that nobody reads was taken for a token: %d %s", name, of, r.status, r.body)
			}
			r := x.send(http.MethodGet, "/api/photos", "", bearer(wrong))
			if want := map[string]string{profile.NameFOS: "invalid_scope", profile.NameBshaffer: "insufficient_scope", profile.NameEventix: "insufficient_scope"}[of]; r.get("error") != want && of != profile.NameEventix {
				t.Errorf("server %q, client of %s: %d %s", name, of, r.status, r.body)
			}
			x.later(3 * 24 * 3600)
			r = x.send(http.MethodGet, "/api/photos", "", bearer(token))
			if want := map[string]string{profile.NameFOS: "invalid_grant", profile.NameBshaffer: "invalid_token", profile.NameEventix: "invalid_token"}[of]; r.get("error") != want || !strings.Contains(r.body, "expired") {
				t.Errorf("server %q, client of %s, late: %d %s", name, of, r.status, r.body)
			}
		}
		r := x.send(http.MethodGet, "/api/photos", "", bearer("unknown"))
		want := cmp.Or(map[string]string{profile.NameFOS: "invalid_grant"}[name], "invalid_token")
		if r.get("error") != want {
			t.Errorf("server %q, a token of nobody: %d %s", name, r.status, r.body)
		}
	}
}

// TestProtectPlaces is about where tokens stand, and what comes through to the
// resource.
func TestProtectPlaces(t *testing.T) {
	t.Parallel()
	x := newTalk(t, issuer.Config{Profile: profile.NameFOS})
	x.registerAll()
	x.protected()
	token := x.tokenFor("read")
	long := strings.Repeat("x", 70<<10)
	for name, c := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		says               string
	}{
		"scheme in another case":    {"GET", "/api/photos", "", []string{"Authorization: bEARER " + token}, 200, "bshaffer by web"},
		"spaces":                    {"GET", "/api/photos", "", []string{"Authorization: Bearer   " + token + " "}, 200, ""},
		"two headers":               {"GET", "/api/photos", "", []string{bearer(token), bearer(token)}, 400, "Only one method"},
		"two tokens in one":         {"GET", "/api/photos", "", []string{bearer(token + " " + token)}, 401, "invalid."},
		"no space":                  {"GET", "/api/photos", "", []string{"Authorization: Bearer" + token}, 401, "authentication required"},
		"form and header":           {"POST", "/api/photos", "access_token=" + token, []string{formHeader, bearer(token)}, 400, "Only one method"},
		"twice in a form":           {"POST", "/api/photos", "access_token=a&access_token=" + token, []string{formHeader}, 400, "Only one method"},
		"form with a charset":       {"POST", "/api/photos", "access_token=" + token, []string{formHeader + "; charset=utf-8"}, 200, `body "access_token=ega_`},
		"form by PUT":               {"PUT", "/api/photos", "access_token=" + token, []string{formHeader}, 200, ""},
		"form that is none":         {"POST", "/api/photos", "%zz&access_token=" + token, []string{formHeader}, 401, "authentication required"},
		"JSON":                      {"POST", "/api/photos", `{"access_token":"` + token + `"}`, []string{"Content-Type: application/json"}, 401, "authentication required"},
		"a body without a token":    {"POST", "/api/photos", "title=cat", []string{formHeader, bearer(token)}, 200, `body "title=cat", <nil>`},
		"a long body":               {"POST", "/api/photos", "title=" + long, []string{formHeader, bearer(token)}, 200, `xx", <nil>`},
		"a token behind a long one": {"POST", "/api/photos", "title=" + long + "&access_token=" + token, []string{formHeader}, 401, "authentication required"},
		"a refresh token":           {"GET", "/api/photos", "", []string{bearer(x.refreshTokenFor("read"))}, 401, "invalid."},
		"a code":                    {"GET", "/api/photos", "", []string{bearer(x.codeOf())}, 401, "invalid."},
		"a broken token":            {"GET", "/api/photos", "", []string{bearer(token[:len(token)-1])}, 401, "invalid."},
	} {
		t.Run(name, func(t *testing.T) {
			r := x.send(c.method, c.path, c.body, c.headers...)
			if r.status != c.status || !strings.Contains(r.body, c.says) {
				t.Errorf("%d %.200s", r.status, r.body)
			}
			if body := "body " + fmt.Sprintf("%q", c.body); c.status == 200 && !strings.Contains(r.body, body) {
				t.Errorf("the resource got another body: %.100s", r.body)
			}
			if challenged := r.header.Get("WWW-Authenticate") != ""; challenged == (c.status == 200) {
				t.Errorf("WWW-Authenticate %q", r.header.Get("WWW-Authenticate"))
			}
		})
	}
	if r := x.send(http.MethodGet, "/api/photos?access_token="+token, ""); r.header.Get("Cache-Control") != "private" {
		t.Errorf("an answer to a token in a URL may be kept: %q", r.header.Get("Cache-Control"))
	}
	counted := int64(0)
	reliances, err := x.admin.Habits(x.ctx(), issuer.UseFilter{ClientID: "web"})
	x.must(err)
	for _, reliance := range reliances {
		if reliance.Habit == issuer.HabitTokenInRequest {
			counted = reliance.Count
		}
	}
	if counted != 3 { // in two forms, and in a URL
		t.Errorf("%d requests with the token elsewhere than in the header were counted", counted)
	}
}

// refreshTokenFor is a refresh token, which is not written down.
func (x *talk) refreshTokenFor(scope string) string {
	x.t.Helper()
	var token string
	x.unwritten(func() {
		token = x.redeemWith(webClient, x.codeOf("scope", scope)).want(http.StatusOK).get("refresh_token")
	})
	return token
}

// TestProtectTokens: every kind of access token, and what ends it.
func TestProtectTokens(t *testing.T) {
	t.Parallel()
	x := newTalk(t, issuer.Config{Profile: profile.NameBshaffer})
	x.registerAll()
	x.protected()
	status := func(token string) int {
		return x.send(http.MethodGet, "/api/photos", "", bearer(token)).status
	}
	x.client(webClient, issuer.Client{GrantTypes: all, Policy: issuer.Policy{Format: issuer.FormatJWT}})
	jwt := x.tokenFor("read")
	if status(jwt) != 200 {
		t.Error("a JWT is refused")
	}
	own := x.post(webClient, "grant_type=client_credentials&scope=read").want(200).get("access_token")
	if r := x.send(http.MethodGet, "/api/photos", "", bearer(own)); !strings.HasPrefix(r.body, `true: web by web for "read"`) {
		t.Errorf("a client of its own: %d %s", r.status, r.body)
	}
	granted := x.grants()
	for _, grant := range granted {
		x.must(x.admin.RevokeGrant(x.ctx(), issuer.Actor{Name: "operator"}, grant.ID))
	}
	if status(jwt) != 401 {
		t.Error("the token of a revoked grant is good")
	}
	x.must(x.admin.DeleteClient(x.ctx(), issuer.Actor{Name: "operator"}, "web"))
	if status(own) != 401 {
		t.Error("the token of a client that is gone is good")
	}
}

// TestProtectImportedTokens: tokens of the server that the clients came from are
// good until they expire, and say so then.
func TestProtectImportedTokens(t *testing.T) {
	t.Parallel()
	x := newTalk(t, issuer.Config{Profile: profile.NameFOS})
	x.registerAll()
	x.protected()
	const foreign = "NTI5MmY2ZjA2YzQyZTFkM2Q0ZGQ5YjM5ZjYxZGRkZWE4ZDc5YjY0YjMzZTQ5M2M1OGYwZDk"
	_, err := x.admin.Import(x.ctx(), issuer.Actor{Name: "operator"}, issuer.Import{
		Source:  "the old server",
		Clients: []issuer.ImportClient{{ID: "1_old", Secret: secret.NewText("old-secret")}},
		Tokens: []issuer.ImportToken{{
			Access: true, Token: secret.NewText(foreign), ClientID: "1_old", Subject: "alice", Scope: oauth.Scope{"read"}, ExpiresAt: x.now().Add(3600 * 1e9),
		}},
	})
	x.must(err)
	r := x.send(http.MethodGet, "/api/photos?access_token="+foreign, "")
	if r.status != 200 || !strings.HasPrefix(r.body, `true: alice by 1_old for "read"`) {
		t.Errorf("%d %s", r.status, r.body)
	}
	x.later(3601)
	r = x.send(http.MethodGet, "/api/photos", "", bearer(foreign))
	if r.get("error_description") != "The access token provided has expired." {
		t.Errorf("late: %d %s", r.status, r.body)
	}
}

// TestProtectWhenTheDatabaseFails: an answer of our own, which says that it can be
// tried again, and the resource is not reached.
func TestProtectWhenTheDatabaseFails(t *testing.T) {
	t.Parallel()
	x := newTalk(t, issuer.Config{Profile: profile.NameBshaffer})
	x.registerAll()
	x.protected()
	token := x.tokenFor("read")
	x.must(x.db.Close())
	r := x.send(http.MethodGet, "/api/photos", "", bearer(token))
	if r.status < 500 || r.header.Get("Retry-After") == "" || r.header.Get("WWW-Authenticate") != "" || r.get("error") == "" {
		t.Errorf("%d %v %s", r.status, r.header, r.body)
	}
	if r := x.send(http.MethodGet, "/api/photos", ""); r.status != 401 {
		t.Errorf("without a token: %d", r.status)
	}
}

// TestProtectRealm: the realm is the configured one, quoted, or the issuer.
func TestProtectRealm(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]*issuer.Profile{
		`Bearer realm="My \"own\" \\"`:       profile.Bshaffer(profile.BshafferOptions{WWWRealm: `My "own" \`}),
		`Bearer realm="Service"`:             profile.Bshaffer(profile.BshafferOptions{}),
		`Bearer realm="https://id.example"`:  profile.Eventix(profile.EventixOptions{}),
		`Bearer realm="Photos", error="acce`: profile.FOS(profile.FOSOptions{Realm: "Photos"}),
	} {
		x := newTalk(t, issuer.Config{Profile: "p", Profiles: map[string]*issuer.Profile{"p": p}})
		x.protected()
		if got := x.send(http.MethodGet, "/api/photos", "").header.Get("WWW-Authenticate"); !strings.HasPrefix(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestProtectAlone: no other request has an Access.
func TestProtectAlone(t *testing.T) {
	if access, ok := issuer.AccessOf(t.Context()); ok {
		t.Errorf("access %+v", access)
	}
}

// FuzzProtect: no header, query or body without a token of the server gets through,
// and none makes an answer that is not one.
func FuzzProtect(f *testing.F) {
	x := newTalk(f, issuer.Config{Profile: profile.NameFOS})
	x.registerAll()
	reached := false
	handler := x.server.Protect(nil, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	f.Add("Bearer x", "access_token=y", "access_token=z")
	f.Add("Bearer ", "", "access_token=")
	f.Add("Basic eDp5", "access_token=%zz", "%zz")
	f.Add(bearer("ega_"+strings.Repeat("A", 80)), "a;b", strings.Repeat("&", 100))
	f.Fuzz(func(t *testing.T, header, query, body string) {
		r, err := http.NewRequest(http.MethodPost, "http://api.example/", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.URL.RawQuery = query
		r.Header.Set("Content-Type", oauth.FormType)
		r.Header["Authorization"] = []string{header}
		w := &answerRecorder{header: http.Header{}}
		handler.ServeHTTP(w, r)
		left, err := io.ReadAll(r.Body)
		if reached || (w.status != 400 && w.status != 401) || err != nil || string(left) != body {
			t.Errorf("status %d, reached %t, %d of %d bytes of the body are left, %v", w.status, reached, len(left), len(body), err)
		}
		if w.header.Get("WWW-Authenticate") == "" || !bytes.HasPrefix(w.body.Bytes(), []byte(`{"error":"`)) {
			t.Errorf("%v %s", w.header, w.body.String())
		}
	})
}

// answerRecorder keeps an answer.
type answerRecorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answerRecorder) Header() http.Header         { return a.header }
func (a *answerRecorder) WriteHeader(status int)      { a.status = status }
func (a *answerRecorder) Write(b []byte) (int, error) { return a.body.Write(b) }
