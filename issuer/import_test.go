package issuer_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// oldSource is the server that things are imported from.
const oldSource = "bshaffer at db.example/app"

// moved are the client, the user and the tokens that most imports have.
var moved = party{"moved", secret.NewSecret().Reveal()}

// movedClient is the client as the other server has it.
func movedClient() issuer.ImportClient {
	return issuer.ImportClient{
		ID: moved.id, Name: "Moved", Secret: secret.NewText(moved.secret), RedirectURIs: []string{callback},
		GrantTypes: []string{oauth.GrantAuthorizationCode, oauth.GrantPassword, oauth.GrantRefreshToken}, Scopes: oauth.Scope{"read", "write"}, Trusted: true,
	}
}

// movedToken is a refresh token of the client, good for a week.
func (e *site) movedToken(token string) issuer.ImportToken {
	return issuer.ImportToken{
		Token: secret.NewText(token), ClientID: moved.id, Subject: owner, Scope: oauth.Scope{"read"},
		IssuedAt: e.clock.now().Add(-time.Hour), ExpiresAt: e.clock.now().Add(7 * 24 * time.Hour),
	}
}

// imports imports a batch, which must be good.
func (e *site) imports(in issuer.Import) issuer.ImportReport {
	e.t.Helper()
	if in.Source == "" {
		in.Source = oldSource
	}
	report, err := e.admin.Import(e.ctx(), operator, in)
	e.must(err)
	return report
}

// state is all that is in the database but for keys, as text.
func (e *site) state() string {
	e.t.Helper()
	clients, err := e.db.Clients(e.ctx(), "", 1000)
	e.must(err)
	users, err := e.db.Users(e.ctx(), "", 1000)
	e.must(err)
	text, err := json.Marshal([]any{clients, users, e.grants(), e.events("")})
	e.must(err)
	return string(text)
}

// wantReasons checks what was skipped, as "kind name: reason".
func wantReasons(t *testing.T, report issuer.ImportReport, want ...string) {
	t.Helper()
	got := []string{}
	for _, s := range report.Skipped {
		line := s.Kind + " " + s.Name + ": " + s.Reason
		if s.Part {
			line = "part of " + line
		}
		got = append(got, line)
	}
	slices.Sort(got)
	slices.Sort(want)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("skipped\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestImport(t *testing.T) {
	e := newSite(t, setup{})
	hash := secret.NewVerifier(ownerText)
	batch := issuer.Import{
		Clients: []issuer.ImportClient{movedClient(), {ID: "phone", RedirectURIs: []string{loopback}, Trusted: true}, {ID: "hashed", Verifier: hash}},
		Users:   []issuer.ImportUser{{Username: "ann", Password: hash, Info: []byte(`{"company":7}`)}},
		Tokens: []issuer.ImportToken{
			e.movedToken("r1"), // refresh
			{Access: true, Token: secret.NewText("a1"), ClientID: moved.id, Subject: "ann", Scope: oauth.Scope{"read", "admin"}, ExpiresAt: e.clock.now().Add(time.Minute)},
			{Token: secret.NewText("r2"), ClientID: "phone", IssuedAt: e.clock.now().Add(time.Hour)}, // never expires, from a clock that is ahead
		},
	}
	report := e.imports(batch)
	wantReasons(t, report)
	if want := (issuer.ImportCount{Created: 3}); report.Clients.Created != 3 || report.Users.Created != 1 || report.Grants.Created != want.Created {
		t.Errorf("report %+v", report)
	}
	if !slices.Equal(report.UnknownScopes, []string{"admin"}) || !report.At.Equal(e.clock.now()) {
		t.Errorf("unknown scopes %q, at %v", report.UnknownScopes, report.At)
	}
	client, err := e.db.Client(e.ctx(), moved.id)
	e.must(err)
	if client.Name != "Moved" || !client.Trusted || client.Foreign != oldSource || client.Imported.Source != oldSource || client.Public() ||
		!client.Secrets[0].Verify(secret.NewText(moved.secret)) || !slices.Equal(client.Scopes, oauth.Scope{"read", "write"}) || !client.CreatedAt.Equal(e.clock.now()) {
		t.Errorf("client %+v", client)
	}
	phone, err := e.db.Client(e.ctx(), "phone")
	e.must(err)
	if !phone.Public() || phone.Trusted || !slices.Equal(phone.GrantTypes, []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken}) {
		t.Errorf("public client %+v", phone)
	}
	if hashed, err := e.db.Client(e.ctx(), "hashed"); err != nil || hashed.Secrets[0] != hash {
		t.Errorf("client with a verifier %+v, %v", hashed, err)
	}
	if user, err := e.db.User(e.ctx(), "ann"); err != nil || user.Password != hash || string(user.Info) != `{"company":7}` || user.Imported.Source != oldSource {
		t.Errorf("user %+v, %v", user, err)
	}
	want := []issuer.Grant{
		{ClientID: moved.id, Subject: owner, Scope: oauth.Scope{"read"}, CreatedAt: e.clock.now().Add(-time.Hour), ExpiresAt: e.clock.now().Add(7 * 24 * time.Hour)},
		{ClientID: moved.id, Subject: "ann", Scope: oauth.Scope{"read", "admin"}, CreatedAt: e.clock.now(), ExpiresAt: e.clock.now().Add(time.Minute), AccessExpiresAt: e.clock.now().Add(time.Minute)},
		{ClientID: "phone", Subject: "phone", CreatedAt: e.clock.now()},
	}
	for i, w := range want {
		w.ID, w.Generation, w.RotatedAt = report.IDs[i], 1, w.CreatedAt
		if got, err := e.db.Grant(e.ctx(), w.ID); err != nil || asJSON(got) != asJSON(w) {
			t.Errorf("grant %d is %s, %v\nwant %s", i, asJSON(got), err, asJSON(w))
		}
	}
	event := e.wantEvent(issuer.EventImported, "")
	if event.Actor != "operator" || event.Detail != "from "+oldSource+": 3 clients, 1 users, 3 tokens" {
		t.Errorf("event %+v", event)
	}
	e.login(moved)

	before := e.state()
	e.clock.advance(time.Second)
	again := e.imports(batch)
	if after := e.state(); after != before {
		t.Errorf("importing again changes\n%s\nto\n%s", before, after)
	}
	if again.Clients.Unchanged != 3 || again.Users.Unchanged != 1 || again.Grants.Unchanged != 3 || !slices.Equal(again.IDs, report.IDs) {
		t.Errorf("again: %+v", again)
	}
}

var ownerText = secret.NewText(ownerPassword)

// asJSON is how things with lists, nil or empty, are compared.
func asJSON(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}

// TestImportHashes has secrets in clear that cost 17 ms each, and one that is there
// already.
func TestImportHashes(t *testing.T) {
	e := newSite(t, setup{})
	var batch issuer.Import
	for n := range 20 {
		batch.Clients = append(batch.Clients, issuer.ImportClient{ID: fmt.Sprintf("client %d", n), Secret: secret.NewText(fmt.Sprintf("secret %d", n))})
	}
	e.imports(batch)
	for n := range 20 {
		client, err := e.db.Client(e.ctx(), fmt.Sprintf("client %d", n))
		e.must(err)
		if len(client.Secrets) != 1 || !client.Secrets[0].Verify(secret.NewText(fmt.Sprintf("secret %d", n))) {
			t.Errorf("client %d does not have its secret", n)
		}
	}
	batch.Clients[3].Secret = secret.NewText("changed")
	if again := e.imports(batch); again.Clients.Unchanged != 19 || again.Clients.Updated != 1 {
		t.Errorf("again: %+v", again.Clients)
	}
	if client, err := e.db.Client(e.ctx(), "client 3"); err != nil || !client.Secrets[0].Verify(secret.NewText("changed")) {
		t.Errorf("the changed secret is not taken over: %v", err)
	}
	if client, err := e.db.Client(e.ctx(), "client 4"); err != nil || !client.Secrets[0].Verify(secret.NewText("secret 4")) {
		t.Errorf("another secret is lost: %v", err)
	}
}

// TestImportSkips has what cannot be taken over, and why.
func TestImportSkips(t *testing.T) {
	e := newSite(t, setup{config: func(c *issuer.Config) {
		c.Reserved = map[string]string{"keeper:read": "See connections"}
	}})
	good, long := movedClient(), strings.Repeat("x", 256)
	var clients []issuer.ImportClient
	client := func(id string, change func(*issuer.ImportClient)) {
		c := movedClient()
		c.ID = id
		change(&c)
		clients = append(clients, c)
	}
	client("line\nbreak", func(c *issuer.ImportClient) {})
	client("named", func(c *issuer.ImportClient) { c.Name = "line\nbreak" })
	client("uris", func(c *issuer.ImportClient) { c.RedirectURIs = []string{"/callback", callback, "http://evil.example/"} })
	client("kiosk", func(c *issuer.ImportClient) {
		c.Secret = secret.Text{}
		c.GrantTypes = []string{oauth.GrantClientCredentials, oauth.GrantRefreshToken, "http://ours.example/extension"}
	})
	client("verifier", func(c *issuer.ImportClient) { c.Verifier = "in clear by mistake" })
	client("scopes", func(c *issuer.ImportClient) { c.Scopes = oauth.Scope{"read", "read", "keeper:read", "two words", `"`} })
	client("all reserved", func(c *issuer.ImportClient) { c.Scopes = oauth.Scope{"keeper:read"} })
	var tokens []issuer.ImportToken
	token := func(change func(*issuer.ImportToken)) {
		t := e.movedToken(fmt.Sprintf("token %d", len(tokens)))
		change(&t)
		tokens = append(tokens, t)
	}
	token(func(t *issuer.ImportToken) { t.Token = secret.Text{} })
	token(func(t *issuer.ImportToken) { t.Token = secret.NewText("egr_theirs") })
	token(func(t *issuer.ImportToken) { t.ClientID = "" })
	token(func(t *issuer.ImportToken) { t.ClientID = "nobody" })
	token(func(t *issuer.ImportToken) { t.ClientID = "all reserved" })
	token(func(t *issuer.ImportToken) { t.Subject = long })
	token(func(t *issuer.ImportToken) { t.Subject = "bell\a" })
	token(func(t *issuer.ImportToken) { t.Scope = oauth.Scope{"é"} })
	token(func(t *issuer.ImportToken) { t.Scope = oauth.Scope{"read", "read"} })
	token(func(t *issuer.ImportToken) { t.Scope = oauth.Scope{"keeper:read"} })
	token(func(t *issuer.ImportToken) { t.Access, t.ExpiresAt = true, time.Time{} })
	token(func(t *issuer.ImportToken) { t.ExpiresAt = e.clock.now() })
	token(func(t *issuer.ImportToken) { t.ExpiresAt = e.clock.now().Add(time.Millisecond) }) // not yet

	report := e.imports(issuer.Import{
		Clients: append(clients, good),
		Users: []issuer.ImportUser{
			{Username: "", Password: secret.Slow()}, {Username: long, Password: secret.Slow()}, {Username: "ann"},
			{Username: "bob", Password: secret.Slow(), Info: []byte(`[]`)}, {Username: "cat", Password: "$2y$10$tooshort"},
		},
		Tokens: tokens,
	})
	characters := "its scope has characters which RFC 6749 section 3.3 does not allow, or one token twice"
	wantReasons(t, report,
		"client line\nbreak: the id must be 1 to 255 printable ASCII characters",
		"part of client named: without its name, which is longer than 255 bytes or has control characters",
		"part of client uris: without one of its redirect URIs: it is not an absolute URI",
		"part of client uris: without one of its redirect URIs: http is allowed for loopback hosts only; use https",
		"part of client kiosk: without the grant type client_credentials, which needs a secret",
		`part of client kiosk: without the grant type "http://ours.example/extension", which is not known here`,
		"client verifier: "+secret.Verifier("in clear by mistake").Check().Error(),
		"part of client scopes: without the scope keeper:read, which is reserved here",
		"part of client scopes: without a scope that has characters which RFC 6749 section 3.3 does not allow",
		"part of client scopes: without a scope that has characters which RFC 6749 section 3.3 does not allow",
		"part of client all reserved: without the scope keeper:read, which is reserved here",
		"client all reserved: none of its scopes can be had here, and a client without scopes may have all",
		"user : the user name must be 1 to 255 bytes of UTF-8 without control characters",
		"user "+long+": the user name must be 1 to 255 bytes of UTF-8 without control characters",
		"user ann: "+secret.Verifier("").Check().Error(),
		"user bob: info must be a JSON object",
		"user cat: "+secret.Verifier("$2y$10$tooshort").Check().Error(),
		"token of client moved, user bshaffer: the token is empty",
		"token of client moved, user bshaffer: it begins as a token of this server does",
		"token of client , user bshaffer: it has no client",
		"token of client nobody, user bshaffer: its client is not here",
		"token of client all reserved, user bshaffer: its client is not here",
		"token of client moved, user "+long+": the user name is longer than 255 bytes or has control characters",
		"token of client moved, user bell\a: the user name is longer than 255 bytes or has control characters",
		"token of client moved, user bshaffer: "+characters,
		"token of client moved, user bshaffer: "+characters,
		"token of client moved, user bshaffer: its scope keeper:read is reserved here",
		"token of client moved, user bshaffer: an access token that never expires is not taken over",
		"token of client moved, user bshaffer: it has expired",
	)
	if report.Clients.Created != 5 || report.Users.Created != 0 || report.Grants.Created != 1 || len(e.grants()) != 1 {
		t.Errorf("report %+v", report.Imported)
	}
	if scopes, err := e.db.Client(e.ctx(), "scopes"); err != nil || !slices.Equal(scopes.Scopes, oauth.Scope{"read"}) {
		t.Errorf("client %+v, %v", scopes, err)
	}
	for i, id := range report.IDs {
		if id.IsZero() != tokens[i].Token.Empty() {
			t.Errorf("the id of token %d is %q", i, id)
		}
	}
}

// TestImportRefusesAll has what is wrong with an import as a whole.
func TestImportRefusesAll(t *testing.T) {
	e := newSite(t, setup{config: func(c *issuer.Config) { c.Profiles = map[string]*issuer.Profile{"old": {}, "older": {}} }})
	before := e.state()
	for name, bad := range map[string]issuer.Import{
		"no source":      {},
		"long source":    {Source: strings.Repeat("x", 256)},
		"line in source": {Source: "a\nb"},
		"profile":        {Source: oldSource, Profile: "new"},
	} {
		bad.Clients = []issuer.ImportClient{movedClient()}
		if _, err := e.admin.Import(e.ctx(), operator, bad); !errors.Is(err, issuer.ErrBadImport) {
			t.Errorf("%s: %v", name, err)
		} else if name == "profile" && !strings.HasSuffix(err.Error(), "write one of old, older") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := e.admin.ImportGone(e.ctx(), operator, issuer.Gone{}); !errors.Is(err, issuer.ErrBadImport) {
		t.Errorf("gone from nowhere: %v", err)
	}
	if e.state() != before {
		t.Error("something was written")
	}
	if report := e.imports(issuer.Import{Profile: "old", Clients: []issuer.ImportClient{movedClient()}}); report.Clients.Created != 1 {
		t.Errorf("report %+v", report)
	}
	if client, err := e.db.Client(e.ctx(), moved.id); err != nil || client.Profile != "old" {
		t.Errorf("client %+v, %v", client, err)
	}
	if report := e.imports(issuer.Import{Profile: "older", Clients: []issuer.ImportClient{movedClient()}}); report.Clients.Updated != 1 {
		t.Errorf("with another profile: %+v", report)
	}
}

// TestImportAgain has what either server changes between two imports.
func TestImportAgain(t *testing.T) {
	e := newSite(t, setup{})
	password := secret.NewVerifier(ownerText)
	batch := issuer.Import{
		Clients: []issuer.ImportClient{movedClient(), {ID: "tightened", Verifier: password}, {ID: app.id, Verifier: password}},
		Users:   []issuer.ImportUser{{Username: "ann", Password: password}, {Username: "bob", Password: password}, {Username: owner, Password: password}},
	}
	if report := e.imports(batch); !slices.Equal(report.Clients.Kept, []string{app.id}) || !slices.Equal(report.Users.Kept, []string{owner}) {
		t.Errorf("what was here before: %+v", report.Imported)
	}
	created := e.clock.now()
	e.clock.advance(time.Hour)
	tightened, err := e.db.Client(e.ctx(), "tightened")
	e.must(err)
	tightened.Policy.Rotation = issuer.RotateAlways
	_, err = e.admin.SaveClient(e.ctx(), operator, tightened)
	e.must(err)
	_, err = e.admin.SaveUser(e.ctx(), operator, issuer.User{Username: "bob", Password: chosen()})
	e.must(err)

	batch.Clients[0].Trusted = false
	batch.Clients[0].Name = "Moved on"
	batch.Clients[1].Name = "Not to be seen"
	batch.Users[0].Info = []byte(`{"company":8}`)
	batch.Users[1].Info = []byte(`{"company":9}`)
	dry := batch
	dry.DryRun = true
	before := e.state()
	would := e.imports(dry)
	if e.state() != before {
		t.Error("a dry run writes")
	}
	report := e.imports(batch)
	if asJSON(would.Imported) != asJSON(report.Imported) {
		t.Errorf("a dry run says %s, and a real one %s", asJSON(would.Imported), asJSON(report.Imported))
	}
	want := `{"clients":{"created":0,"updated":1,"unchanged":0,"kept":["tightened","app"]},"users":{"created":0,"updated":1,"unchanged":0,"kept":["bob","bshaffer"]},"tokens":{"created":0,"updated":0,"unchanged":0}}`
	if got := asJSON(report.Imported); got != want {
		t.Errorf("again: %s\n want %s", got, want)
	}
	client, err := e.db.Client(e.ctx(), moved.id)
	if err != nil || client.Trusted || client.Name != "Moved on" || !client.CreatedAt.Equal(created) || !client.UpdatedAt.Equal(e.clock.now()) {
		t.Errorf("client %+v, %v", client, err)
	}
	if client, err = e.db.Client(e.ctx(), "tightened"); err != nil || client.Policy.Rotation != issuer.RotateAlways || client.Foreign != oldSource || client.Name != "" {
		t.Errorf("a client that was changed here is %+v, %v", client, err)
	}
	if user, err := e.db.User(e.ctx(), "ann"); err != nil || string(user.Info) != `{"company":8}` {
		t.Errorf("user %+v, %v", user, err)
	}
	if user, err := e.db.User(e.ctx(), "bob"); err != nil || user.Password != chosen() {
		t.Errorf("a user that was changed here is %+v, %v", user, err)
	}
}

// TestImportDryRun imports what is new without writing it.
func TestImportDryRun(t *testing.T) {
	e := newSite(t, setup{})
	before := e.state()
	batch := issuer.Import{
		DryRun: true, Clients: []issuer.ImportClient{{ID: "chosen", Secret: secret.NewText(chosenSecret)}},
		Users:  []issuer.ImportUser{{Username: "ann", Password: chosen()}},
		Tokens: []issuer.ImportToken{e.movedToken("r1"), {Token: secret.NewText("r2"), ClientID: app.id}}, // of a client of another batch, and of one that was here before
	}
	report := e.imports(batch)
	if report.Clients.Created != 1 || report.Users.Created != 1 || report.Grants.Created != 2 || len(report.Skipped) > 0 {
		t.Errorf("report %+v", report)
	}
	if e.state() != before {
		t.Error("a dry run writes")
	}
	if ids := e.imports(issuer.Import{DryRun: true, Tokens: batch.Tokens}).IDs; !slices.Equal(ids, report.IDs) {
		t.Errorf("ids are %v and then %v", report.IDs, ids)
	}
}

// TestImportOfClientsThatAreHere has tokens of clients that the import did not
// create: one that somebody has registered by hand may send them from then on, and
// one of another source may not.
func TestImportOfClientsThatAreHere(t *testing.T) {
	e := newSite(t, setup{})
	token := e.movedToken("by-hand")
	token.ClientID = other.id
	if answer := e.refresh(other, "by-hand"); answer.failure() != oauth.InvalidGrant {
		t.Errorf("before the import: %s", answer.body)
	}
	e.imports(issuer.Import{Tokens: []issuer.ImportToken{token}})
	if client, err := e.db.Client(e.ctx(), other.id); err != nil || client.Foreign != oldSource || client.Imported != (issuer.Origin{}) {
		t.Errorf("client %+v, %v", client, err)
	}
	if event := e.events(issuer.EventClientSaved)[0]; event.ClientID != other.id || event.Detail != "may send tokens of "+oldSource {
		t.Errorf("event %+v", event)
	}
	e.refreshed(other, "by-hand")

	before := e.state()
	token.Token = secret.NewText("of another server")
	report := e.imports(issuer.Import{Source: "fos at db.example/shop", Tokens: []issuer.ImportToken{token}})
	wantReasons(t, report, "token of client other, user bshaffer: its client here came from another server, "+oldSource)
	if e.state() != before {
		t.Error("a client takes tokens of two sources")
	}
}

// TestImportEndsGrants has imported tokens on a server whose grants have an
// absolute end, which counts from the import.
func TestImportEndsGrants(t *testing.T) {
	const day = 24 * time.Hour
	e := newSite(t, setup{policy: issuer.Policy{GrantLifetime: issuer.Lifetime(3 * day)}})
	short := e.movedToken("short")
	short.ExpiresAt = e.clock.now().Add(day)
	access := issuer.ImportToken{Access: true, Token: secret.NewText("access"), ClientID: moved.id, ExpiresAt: e.clock.now().Add(9 * day)}
	report := e.imports(issuer.Import{Clients: []issuer.ImportClient{movedClient()}, Tokens: []issuer.ImportToken{e.movedToken("long"), short, access}})
	for i, want := range []time.Duration{3 * day, day, 3 * day} {
		grant, err := e.db.Grant(e.ctx(), report.IDs[i])
		if err != nil || !grant.EndsAt.Equal(e.clock.now().Add(3*day)) || !grant.ExpiresAt.Equal(e.clock.now().Add(want)) {
			t.Errorf("grant %d: %+v, %v", i, grant, err)
		}
	}
	e.refreshed(moved, "long")
	e.clock.advance(3 * day)
	e.wantDead("an access token beyond its grant's end", "access")
}

// TestImportFaults fails each write of an import, done or not: the same batch
// again comes out as if nothing had happened.
func TestImportFaults(t *testing.T) {
	for name, done := range map[string]bool{"not done": false, "done": true} {
		for _, method := range []string{"Import", "PutClient"} {
			t.Run(method+" "+name, func(t *testing.T) {
				e := newFaulty(t, setup{})
				by := e.movedToken("by-hand")
				by.ClientID = other.id
				batch := issuer.Import{Source: oldSource, Clients: []issuer.ImportClient{movedClient()}, Tokens: []issuer.ImportToken{e.movedToken("r1"), by}}
				e.during(&fault{method: method, done: done, err: issuer.ErrUnavailable}, func() {
					if _, err := e.admin.Import(e.ctx(), operator, batch); !errors.Is(err, issuer.ErrUnavailable) {
						t.Errorf("the error is %v", err)
					}
				})
				report := e.imports(batch)
				if whole := done && method == "Import"; (report.Grants.Created == 2) == whole || (report.Grants.Unchanged == 2) != whole {
					t.Errorf("again: %+v", report.Imported)
				}
				e.wantEvent(issuer.EventImported, "")
				e.refreshed(moved, "r1")
				e.refreshed(other, "by-hand")
			})
		}
	}
}
