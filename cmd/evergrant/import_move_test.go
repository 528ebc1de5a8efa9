package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/internal/foreign"
	"github.com/evergrant/evergrant/internal/foreign/foreigntest"
)

// movedIn is a server with what it has imported from another one.
type movedIn struct {
	*running
	old *oldServer
}

// ask sends a form as a client, whose secret is in the body; a public one has none.
func (m *movedIn) ask(path, id, secret string, pairs ...string) (int, map[string]any) {
	m.t.Helper()
	form := url.Values{"client_id": {id}}
	if secret != "" {
		form.Set("client_secret", secret)
	}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	resp, err := http.PostForm(m.url+path, form)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer map[string]any
	json.NewDecoder(resp.Body).Decode(&answer) // a revocation has none
	return resp.StatusCode, answer
}

// refreshAs refreshes a token as the client of token i.
func (m *movedIn) refreshAs(i int, token string) (int, map[string]any) {
	m.t.Helper()
	id, secret := m.old.client(i)
	return m.ask("/oauth/token", id, secret, "grant_type", "refresh_token", "refresh_token", token)
}

// refreshes refreshes a token that must be good, and returns its successor.
func (m *movedIn) refreshes(i int, token string) string {
	m.t.Helper()
	status, answer := m.refreshAs(i, token)
	next, _ := answer["refresh_token"].(string)
	if status != http.StatusOK || !strings.HasPrefix(next, "egr_") {
		m.t.Fatalf("token %d gives %d %v", i, status, answer)
	}
	return next
}

// wantRefused refreshes a token that must not be good.
func (m *movedIn) wantRefused(what string, i int, token string) {
	m.t.Helper()
	if status, answer := m.refreshAs(i, token); status != http.StatusBadRequest || answer["error"] != "invalid_grant" {
		m.t.Errorf("%s gives %d %v", what, status, answer)
	}
}

// introspect is what the resource server is told of a token.
func (m *movedIn) introspect(token string) map[string]any {
	m.t.Helper()
	status, seen := m.ask("/oauth/introspect", "resources", "ResourcesSecret", "token", token)
	if status != http.StatusOK {
		m.t.Fatalf("introspection: %d %v", status, seen)
	}
	return seen
}

// wantSeen checks what introspection tells of a live token.
func (m *movedIn) wantSeen(what, token string, i int, expires time.Time) {
	m.t.Helper()
	seen := m.introspect(token)
	id, _ := m.old.client(i)
	scope, _ := seen["scope"].(string)
	if seen["active"] != true || seen["client_id"] != id || seen["sub"] != m.old.user(i) || scope != foreigntest.Scope(i) {
		m.t.Errorf("%s of token %d is seen as %v", what, i, seen)
	}
	exp, told := seen["exp"].(float64)
	if told == expires.IsZero() || told && int64(exp) != expires.Unix() {
		m.t.Errorf("%s of token %d expires at %v, want %v", what, i, seen["exp"], expires)
	}
}

// wantToken takes one imported token all the way: seen, refreshed, retried, and
// convicted when it comes back later.
func (m *movedIn) wantToken(i int) {
	m.t.Helper()
	token := foreigntest.Token(i)
	m.wantSeen("the refresh token", token, i, foreigntest.ExpiresAt(m.old.kind, i))
	status, first := m.refreshAs(i, token)
	scope, _ := first["scope"].(string)
	if status != http.StatusOK || scope != foreigntest.Scope(i) {
		m.t.Fatalf("token %d gives %d %v", i, status, first)
	}
	status, again := m.refreshAs(i, token)
	if status != http.StatusOK || again["access_token"] != first["access_token"] || again["refresh_token"] != first["refresh_token"] {
		m.t.Errorf("token %d again gives %d %v, after %v", i, status, again, first)
	}
	if seen := m.introspect(first["access_token"].(string)); seen["active"] != true || seen["sub"] != m.old.user(i) {
		m.t.Errorf("the new access token of %d is seen as %v", i, seen)
	}
	next := m.refreshes(i, first["refresh_token"].(string))
	m.wantRefused("the imported token after its successor", i, token)
	m.wantRefused("a convicted grant", i, next)
}

// TestImportMoves moves from each kind of server in each database.
func TestImportMoves(t *testing.T) {
	for _, kind := range foreign.Kinds() {
		for _, dialect := range []string{foreigntest.SQLite, foreigntest.MySQL, foreigntest.Postgres} {
			t.Run(kind+" in "+dialect, func(t *testing.T) {
				t.Parallel()
				o := newOldServer(t, kind, dialect, 30, 8, 60)
				m := &movedIn{start(t, t.TempDir(), importConfig), o}
				m.wantImported()
				for i := range 24 { // every client, scope, and sort of expiry
					if foreigntest.Expired(i) {
						m.wantRefused("an expired token", i, foreigntest.Token(i))
					} else if i%5 == 0 || i%10 == 1 {
						m.wantToken(i)
					}
					if token := foreigntest.AccessToken(i); foreigntest.AccessLive(i) {
						m.wantSeen("the access token", token, i, foreigntest.AccessExpiresAt(i))
					} else if seen := m.introspect(token); seen["active"] != false {
						m.t.Errorf("an expired access token is %v", seen)
					}
				}
				m.wantSignIns()
				m.wantSecondRun()
			})
		}
	}
}

// wantImported imports, dry and then for good.
func (m *movedIn) wantImported() {
	m.t.Helper()
	o := m.old
	before := m.everything()
	would := m.importFrom(o, "--dry-run", "--profile", "standard")
	if m.everything() != before {
		m.t.Error("a dry run writes")
	}
	report := m.importFrom(o, "--profile", "standard")
	refresh, access := o.live()
	want := importReport{Kind: o.kind, Clients: importCount{Created: o.clients}, Users: importCount{Created: o.users}, Tokens: importCount{Created: refresh + access, Expired: report.Tokens.Expired}}
	for name, got := range map[string]importReport{"a dry run": would, "the run": report} {
		if got.Kind != want.Kind || got.Clients != want.Clients || got.Users != want.Users || got.Tokens != want.Tokens || len(got.UnknownScopes) > 0 || got.Gone.Gone > 0 {
			m.t.Errorf("%s reports %+v, want %+v", name, got, want)
		}
		if strings.Contains(got.Source, "@") || !strings.HasPrefix(got.Source, o.kind+" ") {
			m.t.Errorf("%s calls the source %q", name, got.Source)
		}
	}
	if report.Tokens.Expired < int64(o.tokens/10) {
		m.t.Errorf("%d tokens expired", report.Tokens.Expired)
	}
	events := m.ok("event", "list", "--type", "database.imported", "--json", "--limit", "0")
	if strings.Contains(events, foreigntest.Token(0)) || !strings.Contains(events, o.kind) {
		m.t.Errorf("events are %s", events)
	}
}

// wantSignIns has users sign in with the passwords that they have, which are hashed
// anew by it.
func (m *movedIn) wantSignIns() {
	m.t.Helper()
	for _, i := range []int{0, 7, 9} {
		name := foreigntest.Username(i)
		for range 2 {
			if answer := m.token("grant_type", "password", "username", name, "password", foreigntest.Password(i)); answer.Access == "" {
				m.t.Errorf("%s cannot sign in: %+v", name, answer)
			}
		}
		if answer := m.token("grant_type", "password", "username", name, "password", foreigntest.Password(i)+"x"); answer.Error != "invalid_grant" {
			m.t.Errorf("%s signs in with a wrong password: %+v", name, answer)
		}
		events := document[[]evergrant.Event](m.t, m.ok("event", "list", "--type", "secret.rehashed", "--subject", name, "--json"))
		if len(events) != 1 || !strings.HasPrefix(m.stored(name), "$argon2id$v=19$m=19456,t=2,p=1$") {
			m.t.Errorf("the password of %s was hashed anew %d times, and is %.32s", name, len(events), m.stored(name))
		}
	}
	if untouched := m.stored(foreigntest.Username(2)); strings.HasPrefix(untouched, "$argon2id") {
		m.t.Errorf("the password of one who has not signed in is %.32s", untouched)
	}
}

// stored is what the server verifies a user's password with.
func (m *movedIn) stored(name string) string {
	m.t.Helper()
	db, _, err := foreigntest.Connect("sqlite:" + filepath.Join(m.dir, databaseName))
	if err != nil {
		m.t.Fatal(err)
	}
	defer db.Close()
	var password string
	if err := db.QueryRow("SELECT doc ->> 'password' FROM users WHERE username = ?", name).Scan(&password); err != nil {
		m.t.Fatal(err)
	}
	return password
}

// wantSecondRun runs it again: over an unchanged source, and after both servers
// have changed something.
func (m *movedIn) wantSecondRun() {
	m.t.Helper()
	o := m.old
	before := m.everything()
	again := m.importFrom(o, "--profile", "standard")
	if after := m.everything(); after != before {
		m.t.Errorf("a second run changes\n%s\nto\n%s", before, after)
	}
	refresh, access := o.live()
	if again.Clients.Unchanged != o.clients || again.Users.Unchanged != o.users || again.Tokens.Unchanged != refresh+access || again.Gone.Gone != 0 {
		m.t.Errorf("the second run reports %+v", again)
	}

	const thereNow, hereNow, kept = 40, 42, 43 // places of tokens
	successor := strings.Repeat("5ucce550", 5)
	o.refresh(foreigntest.Token(thereNow), successor)
	next := m.refreshes(hereNow, foreigntest.Token(hereNow))
	tightened := foreigntest.ClientID(o.kind, kept%o.clients)
	m.ok("client", "update", tightened, "--name", "Tightened")
	third := m.importFrom(o, "--profile", "standard")
	if third.Tokens.Created != 1 || third.Gone.Revoked != 1 || third.Clients.Kept != 1 || third.Clients.Unchanged != o.clients-1 {
		m.t.Errorf("the third run reports %+v", third)
	}
	m.wantRefused("the token that was spent there", thereNow, foreigntest.Token(thereNow))
	m.wantToken2(thereNow, successor)
	m.refreshes(hereNow, next)
	if shown := document[evergrant.Registration](m.t, m.ok("client", "show", tightened, "--json")); shown.Name != "Tightened" {
		m.t.Errorf("a client that was changed here is %+v", shown)
	}
	m.refreshes(kept, foreigntest.Token(kept))
}

// wantToken2 checks that what a second run found is good.
func (m *movedIn) wantToken2(i int, token string) {
	m.t.Helper()
	m.wantSeen("the token that was found", token, i, m.introspectExpiry(token))
	m.refreshes(i, token)
}

func (m *movedIn) introspectExpiry(token string) time.Time {
	m.t.Helper()
	if exp, ok := m.introspect(token)["exp"].(float64); ok {
		return time.Unix(int64(exp), 0)
	}
	return time.Time{}
}

// TestImportDefaultProfiles has the profile that clients get without --profile, and
// its dialect.
func TestImportDefaultProfiles(t *testing.T) {
	for _, test := range []struct{ kind, tokenType, next string }{{"bshaffer", "Bearer", ""}, {"fos", "bearer", "egr_"}, {"doorkeeper", "Bearer", "egr_"}} {
		m := &movedIn{start(t, t.TempDir(), importConfig), newOldServer(t, test.kind, foreigntest.SQLite, 5, 2, 10)}
		m.importFrom(m.old)
		status, answer := m.refreshAs(2, foreigntest.Token(2))
		next, _ := answer["refresh_token"].(string)
		if status != http.StatusOK || answer["token_type"] != test.tokenType || !strings.HasPrefix(next, test.next) || (next == "") != (test.next == "") {
			t.Errorf("%s: %d %v", test.kind, status, answer)
		}
	}
}

// TestImportText has what is printed for people.
func TestImportText(t *testing.T) {
	o := newOldServer(t, "bshaffer", foreigntest.SQLite, 5, 4, 20)
	o.exec("UPDATE oauth_clients SET redirect_uri = 'https://app0.example/ http://evil.example/', scope = 'read offline' WHERE client_id = 'app-0'")
	o.exec("UPDATE oauth_users SET password = 'x' WHERE username = 'user1'")
	o.exec("UPDATE oauth_refresh_tokens SET client_id = 'nobody' WHERE refresh_token IN ('" + foreigntest.Token(0) + "', '" + foreigntest.Token(2) + "')")
	s := start(t, t.TempDir(), importConfig)
	want := `imported from bshaffer ` + o.address + `, with the profile bshaffer
         CREATED  UPDATED  UNCHANGED  KEPT  EXPIRED  SKIPPED
clients  4        0        0          0     0        0
users    4        0        0          0     0        1
tokens   18       0        0          0     4        2
1 client: without one of its redirect URIs: http is allowed for loopback hosts only; use https (app-0)
2 tokens: its client is not here (of client nobody, user user0, of client nobody, user user2)
1 user: what verifies the password is not known here: secret: unknown form of secret verifier: it does not begin with the name of a form (user1)
`
	dry := s.run("", "import", o.address, "--dry-run")
	if dry.code != exitDone || dry.out != strings.Replace(want, "imported from", "would import from", 1) || dry.stderr !=
		"scopes that this server does not know: offline; tokens keep them, and clients get them anew once issuer.scopes has them or the client lists them\nnothing was written; run it without --dry-run to import\n" {
		t.Errorf("status %d\n%s%s", dry.code, dry.out, dry.stderr)
	}
	r := s.run("", "import", o.address)
	if r.code != exitDone || r.out != want || !strings.HasSuffix(r.stderr, "\nnext: let the clients come here, then run this again: it finds what the old server did in between\n") {
		t.Errorf("status %d\n%s%s\nwant\n%s", r.code, r.out, r.stderr, want)
	}
	s.ok("client", "update", "app-1", "--name", "One")
	o.exec("UPDATE oauth_clients SET redirect_uri = 'https://app0.example/' WHERE client_id = 'app-0'")
	o.spend(foreigntest.Token(4))
	for _, last := range []string{"revoked 1 of the 18 that were imported and not refreshed here yet: the source has them no longer\n", ""} {
		r = s.run("", "import", o.address)
		if r.code != exitDone || !strings.HasSuffix(r.out, last) || !strings.Contains(r.out, "1 client: "+importKept+" (app-1)\n") {
			t.Errorf("status %d\n%s%s", r.code, r.out, r.stderr)
		}
	}
	if !strings.HasSuffix(r.stderr, "nothing has changed there since the last time\n") {
		t.Errorf("the last run says %q", r.stderr)
	}
}

// TestImportGone has sources that have lost most or all of what was imported.
func TestImportGone(t *testing.T) {
	o := newOldServer(t, "bshaffer", foreigntest.SQLite, 5, 4, 20)
	m := &movedIn{start(t, t.TempDir(), importConfig), o}
	refresh, access := o.live()
	m.importFrom(o, "--profile", "standard")
	next := m.refreshes(1, foreigntest.Token(1))
	o.exec("DELETE FROM oauth_refresh_tokens")
	before := m.everything()
	for _, dry := range []string{"--dry-run=true", "--dry-run=false"} {
		r := m.run("", "import", o.address, "--profile", "standard", dry)
		want := fmt.Sprintf("evergrant: the source has %d tokens of the %d that were imported and not refreshed here yet no longer: more than half, so that none of them was revoked\n", refresh-1, refresh+access-1)
		if r.code != exitFailed || !strings.Contains(r.stderr, want) || !strings.Contains(r.stderr, "run it again with --revoke-missing") || strings.Contains(r.out, "revoke") {
			t.Errorf("%s: status %d, %s%s", dry, r.code, r.out, r.stderr)
		}
	}
	if m.everything() != before {
		t.Error("something was revoked")
	}
	m.wantSeen("a token that is gone there", foreigntest.Token(2), 2, foreigntest.ExpiresAt(o.kind, 2))
	o.exec("DELETE FROM oauth_access_tokens")
	if r := m.run("", "import", o.address, "--profile", "standard"); r.code != exitFailed || m.everything() != before {
		t.Errorf("an empty source: status %d, %s", r.code, r.stderr)
	}
	report := m.importFrom(o, "--profile", "standard", "--revoke-missing")
	if report.Gone != (importGone{Imported: refresh + access - 1, Gone: refresh + access - 1, Revoked: refresh + access - 1}) {
		t.Errorf("report %+v", report.Gone)
	}
	m.wantRefused("a revoked token", 2, foreigntest.Token(2))
	m.refreshes(1, next)
}

// TestImportOfRotatedSource: every client has refreshed on the old server, so that
// all tokens of the first run are spent, and as many have come.
func TestImportOfRotatedSource(t *testing.T) {
	o := newOldServer(t, "bshaffer", foreigntest.SQLite, 5, 4, 20)
	m := &movedIn{start(t, t.TempDir(), importConfig), o}
	m.importFrom(o, "--profile", "standard")
	o.exec("UPDATE oauth_refresh_tokens SET refresh_token = 'new' || refresh_token")
	refresh, _ := o.live()
	if would := m.importFrom(o, "--profile", "standard", "--dry-run"); would.Gone.Gone != refresh || would.Gone.Refused || would.Tokens.Created != refresh {
		t.Errorf("a dry run reports %+v", would)
	}
	if report := m.importFrom(o, "--profile", "standard"); report.Gone.Revoked != refresh || report.Tokens.Created != refresh {
		t.Errorf("report %+v", report)
	}
	m.wantRefused("a spent token", 1, foreigntest.Token(1))
	m.refreshes(1, "new"+foreigntest.Token(1))
}

// TestImportBringsNothingBack: a token that was spent here, and whose grant is
// forgotten, is taken over again only by who asks for it.
func TestImportBringsNothingBack(t *testing.T) {
	o := newOldServer(t, "bshaffer", foreigntest.SQLite, 5, 4, 20)
	config := strings.Replace(importConfig, "issuer:\n", "issuer:\n  refresh_token_lifetime: 1s\n  access_token_lifetime: 1s\n", 1)
	m := &movedIn{start(t, t.TempDir(), config), o}
	m.importFrom(o, "--profile", "standard")
	m.refreshes(1, foreigntest.Token(1))
	m.stop() // what it has counted is stored
	db, _, err := foreigntest.Connect("sqlite:" + filepath.Join(m.dir, databaseName))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("DELETE FROM grants WHERE generation > 1"); err != nil { // as a purge does, in time
		t.Fatal(err)
	}
	db.Close()
	m.running = start(t, m.dir, config)
	eventually(t, func() bool { return m.importFrom(o, "--profile", "standard", "--dry-run").Tokens.Skipped == 1 })
	report := m.importFrom(o, "--profile", "standard")
	if report.Tokens.Created != 0 || report.Tokens.Skipped != 1 || !strings.HasPrefix(report.Notes[0].Reason, "it may have ended here since an earlier import") {
		t.Errorf("report %+v", report)
	}
	m.wantRefused("a token that was spent here", 1, foreigntest.Token(1))
	if report = m.importFrom(o, "--profile", "standard", "--revive"); report.Tokens.Created != 1 || report.Tokens.Skipped != 0 {
		t.Errorf("with --revive: %+v", report)
	}
	m.refreshes(1, foreigntest.Token(1))
}

// TestImportOfDeletedClient: the source no longer has a client, nor its tokens. The
// client stays, and its tokens end.
func TestImportOfDeletedClient(t *testing.T) {
	o := newOldServer(t, "bshaffer", foreigntest.SQLite, 5, 4, 20)
	m := &movedIn{start(t, t.TempDir(), importConfig), o}
	m.importFrom(o, "--profile", "standard")
	o.exec("DELETE FROM oauth_clients WHERE client_id = 'app-2'")
	o.exec("DELETE FROM oauth_refresh_tokens WHERE client_id = 'app-2'")
	if report := m.importFrom(o, "--profile", "standard"); report.Gone.Revoked == 0 || report.Clients.Unchanged != 3 {
		t.Errorf("report %+v", report)
	}
	m.wantRefused("a token of the client that was deleted there", 2, foreigntest.Token(2))
	m.refreshes(1, foreigntest.Token(1))
	m.ok("client", "show", "app-2")
}

// TestImportIntoPostgres imports into a server that keeps its data there.
func TestImportIntoPostgres(t *testing.T) {
	o := newOldServer(t, "fos", foreigntest.SQLite, 30, 8, 60)
	replicas := startReplicas(t, importConfig, nil, nil)
	m := &movedIn{replicas[0].running, o}
	m.wantImported()
	m.running = replicas[1].running
	for i := range 12 {
		if !foreigntest.Expired(i) {
			m.wantToken(i)
		}
	}
	m.wantSecondRun()
}
