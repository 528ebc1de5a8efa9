package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// oldSecrets are in clear in imports of these tests, and nowhere else.
var oldSecrets = []string{"old-client-secret", "old-refresh-token", "old-access-token"}

// importBody is an import of a client, a user and two tokens.
func (s *server) importBody(change string) string {
	expires := s.clock.now().Add(time.Hour).UTC().Truncate(time.Second)
	return fmt.Sprintf(`{"source":"bshaffer at db/app"%s,
		"clients":[{"id":"old app","name":"Old","secret":"old-client-secret","redirect_uris":["https://old.example/","/relative"],
			"grant_types":["refresh_token","authorization_code"],"scope":"read  write","trusted":true}],
		"users":[{"username":"ann","password":"$2y$04$QOyRZLRzQOUPnSqSIRNKweJWW7Zcr6i1a9mV2NRWpvYdLFLCYvgYu","info":{"guid":"7"}},{"username":"bob","password":"%s","info":null}],
		"tokens":[{"token":"old-refresh-token","client_id":"old app","subject":"ann","scope":"read","issued_at":"2020-05-17T09:30:00+02:00","expires_at":%q},
			{"access":true,"token":"old-access-token","client_id":"old app","scope":"read","expires_at":%q},
			{"access":true,"token":"gone","client_id":"old app","expires_at":"2020-05-17T09:30:00Z"}]}`,
		change, string(secret.Slow()), expires.Format(time.RFC3339), expires.Format(time.RFC3339))
}

func TestImport(t *testing.T) {
	s := start(t, false)
	dry := s.mustAPI(http.StatusOK, "POST", "/v1/import", s.importBody(`,"dry_run":true`))
	if _, err := s.db.Client(t.Context(), "old app"); err == nil {
		t.Error("a dry run has made the client")
	}
	r := s.mustAPI(http.StatusOK, "POST", "/v1/import", s.importBody(""))
	for _, answer := range []reply{dry, r} {
		for field, want := range map[string]any{
			"clients.created": 1.0, "clients.updated": 0.0, "users.created": 2.0, "tokens.created": 2.0, "tokens.unchanged": 0.0,
			"at": s.clock.now().UTC().Truncate(time.Millisecond).Format(time.RFC3339Nano),
		} {
			if got := answer.field(t, field); got != want {
				t.Errorf("%s is %v, want %v: %s", field, got, want, answer.body)
			}
		}
	}
	skipped, _ := json.Marshal(r.field(t, "skipped"))
	if string(skipped) != `[{"kind":"client","name":"old app","part":true,"reason":"without one of its redirect URIs: it is not an absolute URI"},`+
		`{"kind":"token","name":"of client old app, user old app","reason":"it has expired"}]` {
		t.Errorf("skipped %s", skipped)
	}
	client, err := s.db.Client(t.Context(), "old app")
	if err != nil || client.Name != "Old" || client.Scopes.String() != "read write" || len(client.RedirectURIs) != 1 || len(client.GrantTypes) != 2 || !client.Trusted {
		t.Errorf("client %+v, %v", client, err)
	}
	if ann, err := s.db.User(t.Context(), "ann"); err != nil || string(ann.Info) != `{"guid":"7"}` || !ann.Password.Foreign() {
		t.Errorf("user %+v, %v", ann, err)
	}
	if bob, err := s.db.User(t.Context(), "bob"); err != nil || bob.Info != nil {
		t.Errorf("user %+v, %v", bob, err)
	}
	ids := r.field(t, "ids").([]any)
	for i, subject := range []string{"ann", "old app"} {
		id, _ := issuer.ParseGrantID(ids[i].(string))
		if grant, err := s.db.Grant(t.Context(), id); err != nil || grant.Subject != subject || grant.Scope.String() != "read" || (i == 0) != (grant.CreatedAt.Year() == 2020) {
			t.Errorf("grant %d: %+v, %v", i, grant, err)
		}
	}
	moved := s.tokenRequest("old app", secret.NewText("old-client-secret"), "grant_type", "refresh_token", "refresh_token", "old-refresh-token")
	if moved.status != http.StatusOK || moved.field(t, "scope") != "read" {
		t.Errorf("the imported token gives %d %s", moved.status, moved.body)
	}
	again := s.mustAPI(http.StatusOK, "POST", "/v1/import", s.importBody(`,"revive":true`))
	if again.field(t, "clients.unchanged") != 1.0 || again.field(t, "users.unchanged") != 2.0 || again.field(t, "tokens.unchanged") != 2.0 {
		t.Errorf("again: %s", again.body)
	}

	events := s.mustAPI(http.StatusOK, "GET", "/v1/events", "").body
	for _, text := range oldSecrets {
		for where, said := range map[string]string{"the log": s.log.String(), "an answer": r.body + dry.body + again.body, "the events": events} {
			if strings.Contains(said, text) {
				t.Errorf("%s has %s", where, text)
			}
		}
	}
	for _, document := range []any{foreignClient{Secret: secret.NewText("hush")}, foreignUser{Password: secret.NewText("hush")}, foreignToken{Token: secret.NewText("hush")}} {
		if text := fmt.Sprintf("%+v %#v", document, document); strings.Contains(text, "hush") {
			t.Errorf("%T prints its secret: %s", document, text)
		}
	}
}

func TestImportGone(t *testing.T) {
	s := start(t, false)
	r := s.mustAPI(http.StatusOK, "POST", "/v1/import", s.importBody(""))
	ids := r.field(t, "ids").([]any)
	body := fmt.Sprintf(`{"source":"bshaffer at db/app","client_id":"old app","after":"","until":"ffffffffffffffffffffffffffffffff","live":[%q],"read_at":%q,"dry_run":%%v}`, ids[0], r.field(t, "at"))
	for _, dry := range []bool{true, false} {
		answer := s.mustAPI(http.StatusOK, "POST", "/v1/import/gone", fmt.Sprintf(body, dry))
		if answer.field(t, "imported") != 2.0 || answer.field(t, "revoked") != 1.0 {
			t.Errorf("dry run %v: %s", dry, answer.body)
		}
	}
	if seen := s.mustAPI(http.StatusOK, "GET", "/v1/grants/"+ids[1].(string), ""); seen.field(t, "revoked_cause") != string(issuer.CauseImportGone) {
		t.Errorf("grant %s", seen.body)
	}
	if seen := s.mustAPI(http.StatusOK, "GET", "/v1/grants/"+ids[0].(string), ""); seen.field(t, "alive") != true {
		t.Errorf("grant %s", seen.body)
	}
}

// TestImportRefused has what is wrong with a batch as a whole, or with the question
// what is gone.
func TestImportRefused(t *testing.T) {
	s := start(t, false)
	many := func(field, item string) string {
		return `{"source":"x","` + field + `":[` + strings.TrimSuffix(strings.Repeat(item+",", maxImport+1), ",") + `]}`
	}
	const gone = `{"source":"x","client_id":"a","read_at":"2031-05-17T09:30:00Z","live":[]`
	for _, test := range []struct {
		name, path, body string
		status           int
		detail           string
	}{
		{"no source", "", `{}`, 400, "bad import: the source must be 1 to 255 bytes"},
		{"profile", "", `{"source":"x","profile":"none"}`, 400, `there is no profile "none"`},
		{"clients", "", many("clients", `{"id":"a"}`), 400, `The field "clients" has 1001 items, and 1000 are the most.`},
		{"users", "", many("users", `{}`), 400, `The field "users" has 1001 items`},
		{"tokens", "", many("tokens", `{}`), 400, `The field "tokens" has 1001 items`},
		{"large", "", `{"source":"` + strings.Repeat("x", maxImportBody) + `"}`, 413, "The body is larger than 16777216 bytes."},
		{"cut off", "", `{"source":"x","tokens":[{"token":"hush`, 400, "ends before"},
		{"mistyped", "", `{"source":"x","tokens":[{"token":7}]}`, 400, `The field "token" cannot be a number.`},
		{"unknown field", "", `{"source":"x","token":[]}`, 400, `There is no field "token".`},
		{"time", "", `{"source":"x","tokens":[{"token":"hush","expires_at":"soon"}]}`, 400, "A value in the body is not valid"},
		{"gone, no source", "/gone", `{"client_id":"a","read_at":"2031-05-17T09:30:00Z","live":[]}`, 400, "bad import: the source"},
		{"gone, no time", "/gone", `{"source":"x","client_id":"a","live":[]}`, 400, `The field "read_at" is missing`},
		{"gone, no id", "/gone", gone + `,"after":"x"}`, 400, "32 hexadecimal digits"},
		{"gone, large", "/gone", gone + `,"until":"` + strings.Repeat("0", maxBody) + `"}`, 413, "larger than"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := s.api("POST", "/v1/import"+test.path, test.body)
			wantProblem(t, r, test.status, test.detail)
			if strings.Contains(r.body, "hush") {
				t.Errorf("a token is told: %s", r.body)
			}
		})
	}
	if r := s.mustAPI(http.StatusOK, "POST", "/v1/import/gone", gone+"}"); r.field(t, "revoked") != 0.0 {
		t.Errorf("a client that is not there: %s", r.body)
	}
}

// TestImportAtOnce has batches with tokens of a client that was here before, and
// changes of it, at the same time: neither undoes the other.
func TestImportAtOnce(t *testing.T) {
	s := start(t, false)
	var work sync.WaitGroup
	for n := range 12 {
		work.Go(func() {
			s.mustAPI(http.StatusOK, "POST", "/v1/import", fmt.Sprintf(`{"source":"x","tokens":[{"token":"old %d","client_id":"photos","subject":"alice","scope":"read"}]}`, n))
		})
		work.Go(func() {
			s.mustAPI(http.StatusOK, "PATCH", "/v1/clients/photos", fmt.Sprintf(`{"scopes":["read","write","plain","s%d"],"name":"Photos"}`, n))
		})
	}
	work.Wait()
	client, err := s.db.Client(t.Context(), "photos")
	if err != nil || client.Foreign != "x" || client.Name != "Photos" || len(client.Scopes) != 4 {
		t.Errorf("client %+v, %v", client, err)
	}
	for n := range 12 {
		if r := s.tokenRequest("photos", photosSecret, "grant_type", "refresh_token", "refresh_token", fmt.Sprint("old ", n)); r.status != http.StatusOK {
			t.Errorf("token %d gives %d %s", n, r.status, r.body)
		}
	}
}

// TestImportIsTheOperators: no scope of the keeper allows it.
func TestImportIsTheOperators(t *testing.T) {
	s := start(t, false)
	s.saveClient(issuer.Client{
		ID: "reader", Secrets: []secret.Verifier{secret.NewVerifier(photosSecret)}, Scopes: oauth.Scope{ScopeRead, ScopeToken, ScopeWrite},
		GrantTypes: []string{oauth.GrantClientCredentials},
	})
	token := s.tokenRequest("reader", photosSecret, "grant_type", "client_credentials").field(t, "access_token").(string)
	for _, path := range []string{"/v1/import", "/v1/import/gone"} {
		req := s.request("POST", path, s.importBody(""))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+token)
		wantProblem(t, s.do(s.http.Client(), req), http.StatusForbidden, "Only the operator may do this.")
	}
	if _, err := s.db.Client(t.Context(), "old app"); err == nil {
		t.Error("a client was imported")
	}
}

// TestImportedAccessToken: a token of the other server opens nothing of the API,
// whatever its scope.
func TestImportedAccessToken(t *testing.T) {
	s := start(t, false)
	body := fmt.Sprintf(`{"source":"x","clients":[{"id":"old","secret":"s","scope":"read keeper:read"}],
		"tokens":[{"access":true,"token":"theirs","client_id":"old","scope":"keeper:read","expires_at":%q},{"access":true,"token":"plain","client_id":"old","scope":"read","expires_at":%q}]}`,
		s.clock.now().Add(time.Hour).UTC().Format(time.RFC3339), s.clock.now().Add(time.Hour).UTC().Format(time.RFC3339))
	if r := s.mustAPI(http.StatusOK, "POST", "/v1/import", body); r.field(t, "tokens.created") != 1.0 {
		t.Errorf("imported: %s", r.body)
	}
	for token, status := range map[string]int{"theirs": http.StatusUnauthorized, "plain": http.StatusForbidden} {
		req := s.request("GET", "/v1/connections", "")
		req.Header.Set("Authorization", "Bearer "+token)
		if r := s.do(s.http.Client(), req); r.status != status {
			t.Errorf("%s: %d %s", token, r.status, r.body)
		}
	}
}

// FuzzImport: whatever is sent as a batch is refused, or is one whose scopes have
// each token once and whose secrets do not print.
func FuzzImport(f *testing.F) {
	for _, seed := range []string{
		`{"source":"x","clients":[{"id":"a","secret":"hush","scope":"a b  a","redirect_uris":["/"]}]}`,
		`{"source":"x","users":[{"username":"a","password":"hush","info":{"a":1}},{"username":"b","info":null}]}`,
		`{"source":"x","tokens":[{"token":"hush","access":true,"scope":"é é","issued_at":"2031-05-17T09:30:00Z","expires_at":"0001-01-01T00:00:00Z"}]}`,
		`{"dry_run":true,"profile":"bshaffer"}`, `{"tokens":[null,{}]}`, `null`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var document importDocument
		if err := unmarshal([]byte(text), &document); err != nil {
			return
		}
		in := document.batch()
		if len(in.Clients) != len(document.Clients) || len(in.Users) != len(document.Users) || len(in.Tokens) != len(document.Tokens) {
			t.Errorf("%s lost rows", text)
		}
		for _, token := range in.Tokens {
			if scope, err := oauth.ParseScope(token.Scope.String()); err == nil && len(scope) != len(token.Scope) {
				t.Errorf("%s has the scope %q", text, token.Scope)
			}
		}
		for _, user := range in.Users {
			if user.Info != nil && !json.Valid(user.Info) {
				t.Errorf("%s has the info %s", text, user.Info)
			}
		}
	})
}
