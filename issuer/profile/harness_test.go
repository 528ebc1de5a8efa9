package profile_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/issuer/profile"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/sqlite"
)

var update = flag.Bool("update", false, "write the transcripts instead of comparing them")

// The resource owner of all sites.
const (
	owner    = "bshaffer"
	password = "brent123"
	callback = "https://app.example/callback"
	verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)

var login = "grant_type=password&username=" + owner + "&password=" + password

// all are the grant types of clients that may do everything.
var all = []string{oauth.GrantAuthorizationCode, oauth.GrantPassword, oauth.GrantRefreshToken, oauth.GrantClientCredentials}

// site is an authorization server with profiles: a real database, real HTTP and a
// clock. What is sent to it is written down.
type site struct {
	t       testing.TB
	profile *issuer.Profile // the server's
	url     string
	at      atomic.Pointer[time.Time]
	db      *sqlite.DB
	server  *issuer.Server
	admin   *issuer.Admin
	web     *http.Client

	script strings.Builder
	names  map[string]string // of the section's tokens
	counts map[string]int
}

// newSite starts a server whose profile has a name, "" for the standard.
func newSite(t testing.TB, name string, options profile.Options) *site {
	t.Helper()
	s := &site{t: t, profile: &issuer.Profile{}}
	s.set(time.Date(2031, 5, 17, 9, 30, 0, 250e6, time.UTC))
	var handler atomic.Pointer[issuer.Server]
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.Load().ServeHTTP(w, r) }))
	s.url = web.URL
	var err error
	s.db, err = sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "evergrant.db"), sqlite.Options{})
	s.must(err)
	t.Cleanup(func() {
		web.Close()
		s.db.Close()
	})
	ring, err := secret.OpenRing(t.Context(), secret.NewRoot(), s.db, s.now, false)
	s.must(err)
	s.must(options.Check())
	profiles := profile.All(options)
	if name != "" {
		s.profile = profiles[name]
	}
	s.server, err = issuer.New(issuer.Config{
		Issuer: s.url, Store: s.db, Keys: ring, Profiles: profiles, Profile: name, Unsafe: options.Unsafe,
		Scopes: map[string]string{"read": "Read your data", "write": "Change your data"},
		AskOwner: func(_ http.ResponseWriter, _ *http.Request, ask *issuer.Authorization) (issuer.Answer, bool) {
			return issuer.Answer{Subject: owner, Scope: ask.Scope}, true
		},
		Log: slog.New(slog.DiscardHandler), Now: s.now,
	})
	s.must(err)
	handler.Store(s.server)
	s.admin = issuer.NewAdmin(s.server, s.db)
	s.web = &http.Client{
		Transport:     &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(s.web.CloseIdleConnections)
	s.user(owner, "")
	s.section("")
	return s
}

func (s *site) now() time.Time  { return *s.at.Load() }
func (s *site) set(t time.Time) { s.at.Store(&t) }

func (s *site) must(err error) {
	if err != nil {
		s.t.Helper()
		s.t.Fatal(err)
	}
}

func (s *site) ctx() context.Context { return context.WithoutCancel(s.t.Context()) }

// user saves a user with some info.
func (s *site) user(name, info string) {
	s.t.Helper()
	_, err := s.admin.SaveUser(s.ctx(), issuer.Actor{Name: "operator"}, issuer.User{
		Username: name, Password: verifierOf(password), Info: json.RawMessage(info),
	})
	s.must(err)
}

// verifiers are made once for each secret, since they cost 17 ms.
var verifiers sync.Map

func verifierOf(text string) secret.Verifier {
	made, ok := verifiers.Load(text)
	if !ok {
		made, _ = verifiers.LoadOrStore(text, secret.NewVerifier(secret.NewText(text)))
	}
	return made.(secret.Verifier)
}

// client registers "id:secret", or "id" for a public client, and returns that.
func (s *site) client(as string, c issuer.Client) string {
	s.t.Helper()
	id, text, _ := strings.Cut(as, ":")
	c.ID = id
	if text != "" {
		c.Secrets = []secret.Verifier{verifierOf(text)}
	}
	if c.RedirectURIs == nil {
		c.RedirectURIs = []string{callback}
	}
	_, err := s.admin.SaveClient(s.ctx(), issuer.Actor{Name: "operator"}, c)
	s.must(err)
	return as
}

// section begins a part of the transcript, in which tokens are numbered anew. An
// hour passes, so that nothing is throttled.
func (s *site) section(format string, args ...any) {
	s.set(s.now().Add(time.Hour).Truncate(time.Second).Add(250 * time.Millisecond))
	s.names, s.counts = map[string]string{}, map[string]int{}
	if format != "" {
		fmt.Fprintf(&s.script, "\n# "+format+"\n", args...)
	}
}

func (s *site) note(format string, args ...any) {
	s.script.WriteString("\n* " + s.mask(fmt.Sprintf(format, args...)) + "\n")
}

// later lets time pass.
func (s *site) later(seconds float64) {
	s.note("%s s later", strconv.FormatFloat(seconds, 'f', -1, 64))
	s.set(s.now().Add(time.Duration(seconds * float64(time.Second))))
}

// reply is an answer, read to its end.
type reply struct {
	t      testing.TB
	status int
	header http.Header
	body   string
}

// get is a member of the answer, "" where it has none.
func (r reply) get(name string) string {
	var members map[string]any
	if json.Unmarshal([]byte(r.body), &members) != nil {
		return ""
	}
	text, _ := members[name].(string)
	return text
}

// want checks the status where the transcript would show it too late.
func (r reply) want(status int) reply {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("status %d, want %d: %s", r.status, status, r.body)
	}
	return r
}

// send sends a request and writes it down with its answer. Headers are "Name:
// value"; Basic credentials are written in clear.
func (s *site) send(method, path, body string, headers ...string) reply {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.ctx(), method, s.url+path, strings.NewReader(body))
	s.must(err)
	s.script.WriteString("\n> " + s.mask(method+" "+path) + "\n")
	for _, line := range headers {
		if line == "" {
			continue
		}
		name, value, _ := strings.Cut(line, ": ")
		s.script.WriteString("> " + s.mask(line) + "\n")
		if pair, basic := strings.CutPrefix(value, "Basic "); basic {
			value = "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
		}
		req.Header.Add(name, value)
	}
	if body != "" {
		s.script.WriteString("> " + s.mask(strings.ReplaceAll(strings.ReplaceAll(body, "\r", ""), "\n", "\n> ")) + "\n")
	}
	response, err := s.web.Do(req)
	s.must(err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	s.must(err)
	s.script.WriteString(fmt.Sprintf("< %d\n", response.StatusCode))
	for _, name := range slices.Sorted(maps.Keys(response.Header)) {
		if name != "Date" && name != "Content-Length" {
			s.script.WriteString("< " + name + ": " + s.mask(strings.Join(response.Header[name], ", ")) + "\n")
		}
	}
	if len(answer) > 0 {
		s.script.WriteString("< " + s.mask(strings.TrimSuffix(string(answer), "\n")) + "\n")
	}
	return reply{s.t, response.StatusCode, response.Header, string(answer)}
}

// basic is the header of a client, none for "".
func basic(as string) string {
	if as == "" {
		return ""
	}
	return "Authorization: Basic " + as
}

const formHeader = "Content-Type: " + oauth.FormType

// post sends a form to the profile's own token endpoint.
func (s *site) post(as, form string) reply {
	s.t.Helper()
	return s.send(http.MethodPost, s.profile.TokenPath, form, basic(as), formHeader)
}

// json sends a JSON body there.
func (s *site) json(as, body string) reply {
	s.t.Helper()
	return s.send(http.MethodPost, s.profile.TokenPath, body, basic(as), "Content-Type: application/json")
}

// login gets tokens by the password grant, which must succeed.
func (s *site) login(as string, more ...string) reply {
	s.t.Helper()
	return s.post(as, login+strings.Join(more, "")).want(http.StatusOK)
}

// alive checks that an access token is still good.
func (s *site) alive(what reply) {
	s.t.Helper()
	seen, _, err := s.server.Inspect(s.ctx(), what.get("access_token"))
	s.must(err)
	if !seen.Active {
		s.t.Error("an access token has ended before its time")
	}
}

// refresh uses a refresh token.
func (s *site) refresh(as, token string, more ...string) reply {
	s.t.Helper()
	return s.post(as, "grant_type=refresh_token&refresh_token="+token+strings.Join(more, ""))
}

// code gets an authorization code; what leads to it is not written down.
func (s *site) code(as string, more ...string) string {
	s.t.Helper()
	id, _, _ := strings.Cut(as, ":")
	query := url.Values{"response_type": {"code"}, "client_id": {id}, "redirect_uri": {callback}, "state": {"xyz"}}
	for pair := range slices.Chunk(more, 2) {
		query.Set(pair[0], pair[1])
		if pair[1] == "" {
			query.Del(pair[0])
		}
	}
	response, err := s.web.Get(s.url + s.profile.AuthorizePath + "?" + query.Encode())
	s.must(err)
	defer response.Body.Close()
	back, err := url.Parse(response.Header.Get("Location"))
	s.must(err)
	code := back.Query().Get("code")
	if code == "" {
		body, _ := io.ReadAll(response.Body)
		s.t.Fatalf("no code: %d %s %s", response.StatusCode, back, body)
	}
	s.note("the owner gives %s the code %s", id, code)
	return code
}

// redeem uses a code.
func (s *site) redeem(as, code string, more ...string) reply {
	s.t.Helper()
	return s.post(as, "grant_type=authorization_code&code="+code+strings.Join(more, ""))
}

// back is the redirect_uri as a parameter.
var back = "&redirect_uri=" + url.QueryEscape(callback)

// secrets finds tokens and codes.
var secrets = regexp.MustCompile(`eg([acr])_[A-Za-z0-9_-]+|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+`)

// mask puts a name in the place of each token, the same one for the same token.
func (s *site) mask(text string) string {
	text = strings.ReplaceAll(text, s.url, "http://issuer")
	return secrets.ReplaceAllStringFunc(text, func(token string) string {
		kind := map[string]string{"egc": "code", "ega": "access", "egr": "refresh", "eyJ": "jwt"}[token[:3]]
		if s.names[token] == "" {
			s.counts[kind]++
			s.names[token] = fmt.Sprintf("<%s %d>", kind, s.counts[kind])
		}
		return s.names[token]
	})
}

// compare compares the transcript with the one that was reviewed.
func (s *site) compare(name string) {
	s.t.Helper()
	file, got := filepath.Join("testdata", name), []byte(strings.TrimLeft(s.script.String(), "\n"))
	if *update {
		s.must(os.WriteFile(file, got, 0o644))
		return
	}
	want, err := os.ReadFile(file)
	s.must(err)
	if bytes.Equal(got, want) {
		return
	}
	gotLines, wantLines := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	title := ""
	for i := range max(len(gotLines), len(wantLines)) {
		var g, w string
		if i < len(gotLines) {
			g = gotLines[i]
		}
		if i < len(wantLines) {
			w = wantLines[i]
		}
		if strings.HasPrefix(w, "# ") {
			title = w
		}
		if g != w {
			s.t.Fatalf("%s:%d, in %q:\n got %s\nwant %s\n(go test ./issuer/profile -update writes it anew: review what changes)", file, i+1, title, g, w)
		}
	}
}
