package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
	"github.com/evergrant/evergrant/secret"
)

// client registers a client with scopes of the keeper, and gets a token for all
// of them.
func (s *server) client(id, tenant string, scopes ...string) (token string) {
	s.t.Helper()
	clientSecret := secret.NewSecret()
	s.saveClient(issuer.Client{
		ID: id, Name: "The client " + id, Tenant: tenant, Secrets: []secret.Verifier{secret.NewVerifier(clientSecret)},
		GrantTypes: []string{oauth.GrantClientCredentials}, Scopes: append(oauth.Scope{"read"}, scopes...),
	})
	r := s.tokenRequest(id, clientSecret, "grant_type", "client_credentials")
	if r.status != http.StatusOK {
		s.t.Fatalf("no token for %s: %s", id, r.body)
	}
	return r.field(s.t, "access_token").(string)
}

// as sends a request to the API with a token.
func (s *server) as(token, method, path, body string) reply {
	s.t.Helper()
	req := s.request(method, path, body)
	req.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return s.do(s.http.Client(), req)
}

// imports makes a connection of tokens that the simulator gave, and returns the
// id of its grant there.
func (s *server) imports(id, providerName, owner, tenant string) (grant string, tokens provider.Tokens) {
	s.t.Helper()
	grant, tokens = s.sims[providerName].Connect(owner)
	s.mustAPI(http.StatusCreated, "POST", "/v1/connections", document(map[string]any{
		"id": id, "provider": providerName, "owner": owner, "tenant": tenant, "tokens": tokenFields(tokens),
	}))
	return grant, tokens
}

// tokenFields are tokens as they are imported.
func tokenFields(tokens provider.Tokens) map[string]any {
	fields := map[string]any{"access_token": tokens.AccessToken.Reveal()}
	if !tokens.RefreshToken.Empty() {
		fields["refresh_token"] = tokens.RefreshToken.Reveal()
	}
	if !tokens.ExpiresAt.IsZero() {
		fields["expires_at"] = tokens.ExpiresAt.UTC().Format(time.RFC3339Nano)
	}
	return fields
}

func document(fields map[string]any) string {
	text, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// ids are those of a list's items.
func ids(t *testing.T, r reply) string {
	t.Helper()
	var all []string
	for _, item := range r.field(t, "items").([]any) {
		all = append(all, fmt.Sprint(item.(map[string]any)["id"]))
	}
	return strings.Join(all, " ")
}

func TestConnectionLife(t *testing.T) {
	s := start(t, false, providertest.Plain())
	grant, tokens := s.sims["plain"].Connect("alice", "read")
	r := s.mustAPI(http.StatusCreated, "POST", "/v1/connections", document(map[string]any{
		"provider": "plain", "id": "photos-1", "owner": "alice", "metadata": map[string]any{"plan": "gold"}, "background": "on_demand",
		"tokens": map[string]any{
			"access_token": tokens.AccessToken.Reveal(), "refresh_token": tokens.RefreshToken.Reveal(), "token_type": "bearer",
			"scope": "read", "expires_in": "3600", "refresh_token_expires_in": 86400,
		},
	}))
	if r.header.Get("Location") != "/v1/connections/photos-1" {
		t.Errorf("Location %q", r.header.Get("Location"))
	}
	at := s.clock.now()
	r = s.mustAPI(http.StatusOK, "GET", "/v1/connections/photos-1", "")
	for field, want := range map[string]any{
		"id": "photos-1", "provider": "plain", "owner": "alice", "state": "active", "generation": 1.0, "refreshable": true, "token_type": "bearer",
		"metadata.plan": "gold", "background": "on_demand", "tenant": nil, "cause": nil, "error": nil,
		"expires_at": at.Add(time.Hour).UTC().Truncate(time.Millisecond).Format(time.RFC3339Nano), "tokens": nil, "fence": nil, "intent": nil,
	} {
		if got := r.field(t, field); got != want {
			t.Errorf("%s is %v, want %v", field, got, want)
		}
	}
	if ends, _ := time.Parse(time.RFC3339Nano, r.field(t, "refresh_expires_at").(string)); ends.Sub(at).Round(time.Second) != 24*time.Hour {
		t.Errorf("the refresh token ends at %v", ends)
	}

	r = s.mustAPI(http.StatusOK, "POST", "/v1/connections/photos-1/refresh", "")
	if r.field(t, "generation") != 2.0 || len(s.sims["plain"].Stats().DoubleSpends) != 0 {
		t.Errorf("refreshed: %s", r.body)
	}
	r = s.mustAPI(http.StatusOK, "POST", "/v1/connections/photos-1/pause", "")
	if r.field(t, "state") != "paused" || r.field(t, "cause") != "operator_request" {
		t.Errorf("paused: %s", r.body)
	}
	r = s.mustAPI(http.StatusOK, "POST", "/v1/connections/photos-1/resume", "")
	if r.field(t, "state") != "active" {
		t.Errorf("resumed: %s", r.body)
	}

	r = s.mustAPI(http.StatusOK, "GET", "/v1/connections/photos-1/explain", "")
	if r.field(t, "kind") != "connection" || r.field(t, "alive") != true || r.field(t, "verdict") == "" || r.field(t, "connection.id") != "photos-1" {
		t.Errorf("explained: %s", r.body)
	}
	same := s.mustAPI(http.StatusOK, "POST", "/v1/explain", `{"of":"photos-1"}`)
	if same.body != r.body {
		t.Errorf("explained by %s\nand by %s", r.body, same.body)
	}

	r = s.mustAPI(http.StatusOK, "DELETE", "/v1/connections/photos-1", "")
	if r.body != `{"revoked":true}` || s.sims["plain"].Grant(grant).State == providertest.Live {
		t.Errorf("deleted: %s, the grant is %s", r.body, s.sims["plain"].Grant(grant).State)
	}
	wantProblem(t, s.api("GET", "/v1/connections/photos-1", ""), http.StatusNotFound, "no such thing")
	if log := s.log.String(); strings.Contains(log, "sim_at_") || strings.Contains(log, "sim_rt_") {
		t.Error("a token is in the log")
	}
}

// A provider that does not say that it revoked the grant is no reason to keep
// the connection, but one to tell.
func TestDeletionThatIsNotRevoked(t *testing.T) {
	s := start(t, false, providertest.Plain())
	s.imports("one", "plain", "alice", "")
	s.sims["plain"].Inject(providertest.Rule{Kind: providertest.KindRevoke, Fault: providertest.Page(http.StatusBadGateway)})
	r := s.mustAPI(http.StatusOK, "DELETE", "/v1/connections/one", "")
	if r.field(t, "revoked") != false || !strings.Contains(r.field(t, "problem").(string), "not revoked at plain") {
		t.Errorf("deleted: %s", r.body)
	}
	wantProblem(t, s.api("DELETE", "/v1/connections/one", ""), http.StatusNotFound, "no such thing")
}

// A provider whose grant needs no owner is connected without tokens.
func TestConnectionWithoutOwner(t *testing.T) {
	s := start(t, false, providertest.Flexiti())
	r := s.mustAPI(http.StatusCreated, "POST", "/v1/connections", `{"provider":"flexiti"}`)
	id := r.field(t, "id").(string)
	if !strings.HasPrefix(id, "conn_") || r.header.Get("Location") != "/v1/connections/"+id {
		t.Errorf("id %q at %q", id, r.header.Get("Location"))
	}
	if r := s.mustAPI(http.StatusOK, "GET", "/v1/connections/"+id+"/token", ""); !strings.HasPrefix(r.field(t, "access_token").(string), "sim_at_") {
		t.Errorf("token %s", r.body)
	}
	wantProblem(t, s.api("POST", "/v1/connect-sessions", `{"provider":"flexiti"}`), http.StatusBadRequest, "asks no owner")
}

func TestListConnections(t *testing.T) {
	s := start(t, false, providertest.Plain(), providertest.Google())
	s.imports("a", "plain", "alice", "")
	s.imports("b", "google", "alice", "")
	s.imports("c", "plain", "bob", "")
	s.imports("d", "plain", "alice", "acme")
	s.mustAPI(http.StatusOK, "POST", "/v1/connections/c/pause", "")
	for query, want := range map[string]string{
		"": "a b c d", "?provider=plain": "a c d", "?owner=alice": "a b d", "?state=paused": "c", "?state=active&provider=plain": "a d",
		"?tenant=acme": "d", "?owner=bob&state=active": "", "?provider=nobody": "", "?cursor=b": "c d", "?limit=2": "a b", "?cursor=zzz": "",
	} {
		if got := ids(t, s.mustAPI(http.StatusOK, "GET", "/v1/connections"+query, "")); got != want {
			t.Errorf("%q lists %q, want %q", query, got, want)
		}
	}
	r := s.mustAPI(http.StatusOK, "GET", "/v1/connections?limit=3&owner=", "")
	if r.field(t, "next") != "c" || strings.Contains(r.body, "sim_") {
		t.Errorf("page %s", r.body)
	}
}

func TestRefusedConnections(t *testing.T) {
	s := startDefined(t, false, func(d *provider.Definition) {
		d.Params = map[string]provider.Param{"shop": {Pattern: "[a-z]+"}}
		d.Authorize.Params = map[string]*string{"shop": new("{params.shop}")}
	}, providertest.Plain())
	params := `"params":{"shop":"tea"}`
	tokens := `"tokens":{"access_token":"secret-a","refresh_token":"secret-r","expires_in":3600}`
	s.mustAPI(http.StatusCreated, "POST", "/v1/connections", `{"id":"taken","provider":"plain",`+params+`,`+tokens+`}`)
	tests := []struct {
		name, method, path, body string
		status                   int
		detail                   string
	}{
		{"no provider", "POST", "/v1/connections", `{` + tokens + `}`, 400, `"provider" is missing`},
		{"unknown provider", "POST", "/v1/connections", `{"provider":"nobody",` + tokens + `}`, 400, "provider"},
		{"bad id", "POST", "/v1/connections", `{"id":"a b","provider":"plain",` + params + `,` + tokens + `}`, 400, "id"},
		{"taken id", "POST", "/v1/connections", `{"id":"taken","provider":"plain",` + params + `,` + tokens + `}`, 409, "exists"},
		{"missing param", "POST", "/v1/connections", `{"provider":"plain",` + tokens + `}`, 400, "shop"},
		{"bad param", "POST", "/v1/connections", `{"provider":"plain","params":{"shop":"T.."},` + tokens + `}`, 400, "shop"},
		{"unknown param", "POST", "/v1/connections", `{"provider":"plain","params":{"shop":"tea","shape":"x"},` + tokens + `}`, 400, "shape"},
		{"no tokens", "POST", "/v1/connections", `{"provider":"plain",` + params + `}`, 400, "nothing to begin with"},
		{"dead token", "POST", "/v1/connections", `{"provider":"plain",` + params + `,"tokens":{"access_token":"x","expires_at":1}}`, 400, "expired"},
		{"bad background", "POST", "/v1/connections", `{"provider":"plain","background":"never",` + params + `,` + tokens + `}`, 400, "ackground"},
		{"unknown field", "POST", "/v1/connections", `{"provider":"plain","token":"x"}`, 400, `no field "token"`},
		{"unknown token field", "POST", "/v1/connections", `{"provider":"plain","tokens":{"id_token":"x"}}`, 400, `no field "id_token"`},
		{"two expiries", "POST", "/v1/connections", `{"provider":"plain",` + params + `,"tokens":{"expires_in":1,"expires_at":2}}`, 400, `Both "expires_in" and "expires_at"`},
		{"two ends of the refresh token", "POST", "/v1/connections", `{"provider":"plain",` + params + `,"tokens":{"refresh_token_expires_in":1,"refresh_token_expires_at":2}}`, 400, `Both "refresh_token_expires_in"`},
		{"bad seconds", "POST", "/v1/connections", `{"provider":"plain","tokens":{"expires_in":"soon"}}`, 400, "number of seconds"},
		{"negative seconds", "POST", "/v1/connections", `{"provider":"plain","tokens":{"expires_in":-1}}`, 400, "number of seconds"},
		{"bad time", "POST", "/v1/connections", `{"provider":"plain","tokens":{"expires_at":"tomorrow"}}`, 400, "a time is written"},
		{"bad scope", "POST", "/v1/connections", `{"provider":"plain","tokens":{"scope":7}}`, 400, "a scope is"},
		{"scope with a quote", "POST", "/v1/connections", `{"provider":"plain","tokens":{"scope":"a\"b"}}`, 400, "scope"},
		{"no connection", "GET", "/v1/connections/none", "", 404, "no such thing"},
		{"explanation of none", "GET", "/v1/connections/none/explain", "", 404, "no such thing"},
		{"explanation of nothing", "POST", "/v1/explain", `{"of":"none"}`, 404, "no such thing"},
		{"history of none", "GET", "/v1/connections/none/history", "", 404, "no such thing"},
		{"refresh of none", "POST", "/v1/connections/none/refresh", "", 404, "no such thing"},
		{"pause of none", "POST", "/v1/connections/none/pause", "", 404, "no such thing"},
		{"resumption of none", "POST", "/v1/connections/none/resume", "", 404, "no such thing"},
		{"token of none", "GET", "/v1/connections/none/token", "", 404, "no such thing"},
		{"deletion of none", "DELETE", "/v1/connections/none", "", 404, "no such thing"},
		{"id that no connection has", "GET", "/v1/connections/a%20b", "", 404, "no such thing"},
		{"refresh with a bad body", "POST", "/v1/connections/taken/refresh", `{"force":true}`, 400, `no field "force"`},
		{"unknown state", "GET", "/v1/connections?state=dead", "", 400, `no state "dead"`},
		{"unknown filter", "GET", "/v1/connections?user=a", "", 400, `no query parameter "user"`},
		{"bad duration", "GET", "/v1/connections/taken/token?min_ttl=soon", "", 400, `min_ttl cannot be "soon"`},
		{"negative duration", "GET", "/v1/connections/taken/token?min_ttl=-5", "", 400, "min_ttl cannot be"},
		{"bad force", "GET", "/v1/connections/taken/token?force=perhaps", "", 400, `force cannot be "perhaps"`},
		{"unknown wish", "GET", "/v1/connections/taken/token?ttl=5", "", 400, `no query parameter "ttl"`},
		{"wish twice", "GET", "/v1/connections/taken/token?force=true&force=true", "", 400, "more than once"},
		{"bad cursor of a history", "GET", "/v1/connections/taken/history?cursor=x", "", 400, "cursor"},
		{"no such provider", "GET", "/v1/providers/nobody", "", 404, "no such thing"},
		{"filter of providers", "GET", "/v1/providers?state=up", "", 400, "no query parameter"},
		{"wrong method", "DELETE", "/v1/connections", "", 405, "DELETE"},
		{"wrong method of a token", "POST", "/v1/connections/taken/token", "{}", 405, "POST"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := s.api(tt.method, tt.path, tt.body)
			wantProblem(t, r, tt.status, tt.detail)
			if strings.Contains(r.body, "secret-") {
				t.Errorf("a token is in the answer: %s", r.body)
			}
		})
	}
	if log := s.log.String(); strings.Contains(log, "level=ERROR") || strings.Contains(log, "secret-") {
		t.Errorf("a refusal is in the log as an error, or a token is:\n%s", log)
	}
}

// TestScopesOfTheKeeper: what each scope lets a client do, and how the rest is
// refused.
func TestScopesOfTheKeeper(t *testing.T) {
	s := start(t, false, providertest.Plain())
	s.imports("one", "plain", "alice", "")
	tokens := map[string]string{
		ScopeRead: s.client("reader", "", ScopeRead), ScopeToken: s.client("user", "", ScopeToken), ScopeWrite: s.client("writer", "", ScopeWrite), "": s.client("other", ""),
	}
	for _, tt := range []struct{ call, scope string }{
		{"GET /v1/connections", ScopeRead}, {"GET /v1/connections/one", ScopeRead}, {"GET /v1/connections/one/history", ScopeRead},
		{"GET /v1/connections/one/explain", ScopeRead}, {`POST /v1/explain {"of":"one"}`, ScopeRead},
		{"GET /v1/providers", ScopeRead}, {"GET /v1/providers/plain", ScopeRead}, {"GET /v1/events", ScopeRead},
		{"GET /v1/connections/one/token", ScopeToken}, {"GET /v1/proxy/one/me", ScopeToken},
		{"POST /v1/connections/one/refresh", ScopeWrite}, {"POST /v1/connections/one/pause", ScopeWrite}, {"POST /v1/connections/one/resume", ScopeWrite},
		{`POST /v1/connect-sessions {"connection":"one"}`, ScopeWrite},
		{`POST /v1/connections {"provider":"plain","tokens":{"access_token":"a"}}`, ScopeWrite},
		{"DELETE /v1/connections/one", ScopeWrite},
		{"GET /v1/clients", "the operator"}, {"GET /v1/webhooks/deliveries", "the operator"}, {"GET /v1/keys", "the operator"}, {"GET /v1/backup", "the operator"},
	} {
		method, rest, _ := strings.Cut(tt.call, " ")
		path, body, _ := strings.Cut(rest, " ")
		for scope, token := range tokens {
			r := s.as(token, method, path, body)
			if scope == tt.scope {
				if r.status >= 300 {
					t.Errorf("%s with %s: %d %s", tt.call, scope, r.status, r.body)
				}
				continue
			}
			wantProblem(t, r, http.StatusForbidden, "")
			challenge := `Bearer error="insufficient_scope", scope="` + tt.scope + `"`
			if tt.scope == "the operator" {
				challenge = `Bearer error="insufficient_scope"`
			}
			if r.header.Get("WWW-Authenticate") != challenge {
				t.Errorf("%s: WWW-Authenticate %q, want %q", tt.call, r.header.Get("WWW-Authenticate"), challenge)
			}
		}
	}
}

// A scope that a client has lost is worth nothing in tokens that it still has.
func TestScopeThatAClientLost(t *testing.T) {
	s := start(t, false, providertest.Plain())
	s.imports("one", "plain", "alice", "")
	token := s.client("app", "", ScopeRead, ScopeToken)
	if r := s.as(token, "GET", "/v1/connections/one/token", ""); r.status != http.StatusOK {
		t.Fatalf("token: %s", r.body)
	}
	s.mustAPI(http.StatusOK, "PATCH", "/v1/clients/app", document(map[string]any{"scopes": []string{"read", ScopeRead}}))
	wantProblem(t, s.as(token, "GET", "/v1/connections/one/token", ""), http.StatusForbidden, "does not have the scope keeper:token")
	if r := s.as(token, "GET", "/v1/connections/one", ""); r.status != http.StatusOK {
		t.Errorf("connection: %s", r.body)
	}
	s.mustAPI(http.StatusNoContent, "DELETE", "/v1/clients/app", "")
	wantProblem(t, s.as(token, "GET", "/v1/connections/one", ""), http.StatusUnauthorized, "needs the admin token")
}

// A refresh token, of whatever client, opens nothing here.
func TestRefreshTokenIsNoAccessToken(t *testing.T) {
	s := start(t, false, providertest.Plain())
	_, token := s.grant()
	r := s.as(token, "GET", "/v1/connections", "")
	wantProblem(t, r, http.StatusUnauthorized, "needs the admin token")
	if r.header.Get("WWW-Authenticate") != `Bearer error="invalid_token"` {
		t.Errorf("WWW-Authenticate %q", r.header.Get("WWW-Authenticate"))
	}
}

// TestTenants: what belongs to another tenant is not there.
func TestTenants(t *testing.T) {
	s := start(t, false, providertest.Plain())
	s.imports("ours", "plain", "alice", "acme")
	s.imports("theirs", "plain", "alice", "other")
	s.imports("operators", "plain", "alice", "")
	token := s.client("app", "acme", ScopeRead, ScopeToken, ScopeWrite)
	nobody := s.client("default", "", ScopeRead, ScopeToken, ScopeWrite)
	for who, want := range map[string]string{token: "ours", nobody: "operators", s.token: "operators ours theirs"} {
		if got := ids(t, s.as(who, "GET", "/v1/connections", "")); got != want {
			t.Errorf("listed %q, want %q", got, want)
		}
	}
	missing := s.as(token, "GET", "/v1/connections/none", "")
	for _, id := range []string{"theirs", "operators"} {
		for _, call := range []string{
			"GET /v1/connections/ID", "GET /v1/connections/ID/token", "GET /v1/connections/ID/history", "GET /v1/connections/ID/explain",
			"POST /v1/connections/ID/refresh", "POST /v1/connections/ID/pause", "POST /v1/connections/ID/resume", "DELETE /v1/connections/ID",
			`POST /v1/explain {"of":"ID"}`, "GET /v1/proxy/ID/me",
		} {
			method, rest, _ := strings.Cut(strings.ReplaceAll(call, "ID", id), " ")
			path, body, _ := strings.Cut(rest, " ")
			r := s.as(token, method, path, body)
			wantProblem(t, r, http.StatusNotFound, "no such thing")
			if r.body != missing.body {
				t.Errorf("%s: %s tells more than %s", call, r.body, missing.body)
			}
		}
		if c, err := s.keeper.Connection(t.Context(), id); err != nil || c.State != keeper.Active || c.Generation != 1 {
			t.Errorf("%s is %+v, %v", id, c, err)
		}
	}
	if r := s.as(token, "GET", "/v1/connections/ours/token", ""); r.status != http.StatusOK {
		t.Errorf("our token: %s", r.body)
	}

	// What is made belongs to the client's tenant.
	r := s.as(token, "POST", "/v1/connections", `{"provider":"plain","id":"new","tokens":{"access_token":"a"}}`)
	if r.status != http.StatusCreated || r.field(t, "tenant") != "acme" {
		t.Errorf("created: %s", r.body)
	}
	r = s.as(token, "POST", "/v1/connections", `{"provider":"plain","id":"newer","tenant":"acme","tokens":{"access_token":"a"}}`)
	if r.status != http.StatusCreated || r.field(t, "tenant") != "acme" {
		t.Errorf("created by name: %s", r.body)
	}
	for _, call := range []string{
		`POST /v1/connections {"provider":"plain","tenant":"other","tokens":{"access_token":"a"}}`,
		`POST /v1/connect-sessions {"provider":"plain","tenant":"other"}`, "GET /v1/connections?tenant=other", "GET /v1/events?tenant=other",
	} {
		method, rest, _ := strings.Cut(call, " ")
		path, body, _ := strings.Cut(rest, " ")
		wantProblem(t, s.as(token, method, path, body), http.StatusForbidden, "another tenant")
	}
	wantProblem(t, s.as(token, "POST", "/v1/connect-sessions", `{"provider":"plain","connection":"theirs"}`), http.StatusConflict, "in use")
	if r := s.as(token, "GET", "/v1/providers", ""); strings.Contains(r.body, `"active"`) {
		t.Errorf("a client sees how many connections there are: %s", r.body)
	}
}

func TestExpiryTexts(t *testing.T) {
	at := time.Date(2031, 5, 17, 9, 30, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		`{}`: {}, `{"expires_in":null}`: {}, `{"expires_in":60}`: at.Add(time.Minute), `{"expires_in":"60"}`: at.Add(time.Minute), `{"expires_in":59.5}`: at.Add(59*time.Second + 500*time.Millisecond),
		`{"expires_in":6e1}`: at.Add(time.Minute), `{"expires_in":0}`: at,
		`{"expires_at":"2031-05-17T10:00:00+02:00"}`: time.Date(2031, 5, 17, 8, 0, 0, 0, time.UTC), `{"expires_at":1936776600}`: at,
	} {
		var tokens importedTokens
		if err := json.Unmarshal([]byte(text), &tokens); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := ends("expires", tokens.ExpiresIn, tokens.ExpiresAt, at); err != nil || !got.Equal(want) {
			t.Errorf("%s ends %v, %v; want %v", text, got, err, want)
		}
	}
}

// FuzzImportedTokens: whatever is sent as tokens is refused or has an end that
// is a time.
func FuzzImportedTokens(f *testing.F) {
	for _, seed := range []string{`{"expires_in":"3600"}`, `{"expires_in":1e99}`, `{"expires_at":"2031-05-17T09:30:00Z"}`, `{"expires_at":9e18}`, `{"scope":["a","b"]}`, `{"scope":"a b a"}`, `{"expires_in":"NaN"}`} {
		f.Add(seed)
	}
	at := time.Date(2031, 5, 17, 9, 30, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		var tokens importedTokens
		if err := unmarshal([]byte(text), &tokens); err != nil {
			return
		}
		until, err := ends("expires", tokens.ExpiresIn, tokens.ExpiresAt, at)
		if err != nil {
			return
		}
		if tokens.ExpiresIn != nil && (until.Before(at) || until.Sub(at) > maxSeconds*time.Second) {
			t.Errorf("%s ends %v", text, until)
		}
		if _, err := json.Marshal(until); err != nil {
			t.Errorf("%s ends at a time that JSON cannot write: %v", text, err)
		}
		if scope, err := oauth.ParseScope(oauth.Scope(tokens.Scope).String()); err != nil || !slices.Equal(scope, oauth.Scope(tokens.Scope)) {
			t.Errorf("%s has the scope %q", text, tokens.Scope)
		}
	})
}

func TestProviders(t *testing.T) {
	s := startDefined(t, false, func(d *provider.Definition) {
		d.Title, d.Docs = "The "+d.Name, "https://docs.example/"
		d.Facts = map[string]provider.Fact{"refresh_token.rotation": {Known: provider.KnownRead, Source: "https://docs.example/rotation"}}
	}, providertest.Plain(), providertest.Flexiti(), providertest.Xero())
	s.imports("a", "plain", "alice", "")
	s.imports("b", "plain", "bob", "")
	s.mustAPI(http.StatusOK, "POST", "/v1/connections/b/pause", "")
	r := s.mustAPI(http.StatusOK, "GET", "/v1/providers", "")
	var names []string
	for _, item := range r.field(t, "items").([]any) {
		names = append(names, item.(map[string]any)["name"].(string))
	}
	if !slices.Equal(names, []string{"flexiti", "plain", "xero"}) {
		t.Errorf("providers %q", names)
	}
	r = s.mustAPI(http.StatusOK, "GET", "/v1/providers/plain", "")
	for field, want := range map[string]any{
		"name": "plain", "title": "The plain", "docs": "https://docs.example/", "needs_owner": true, "refresh_token_rotation": "single_use", "remints": false,
		"state": "up", "connections.active": 1.0, "connections.paused": 1.0, "since": nil,
	} {
		if got := r.field(t, field); got != want {
			t.Errorf("%s is %v, want %v: %s", field, got, want, r.body)
		}
	}
	if fact := r.field(t, "facts").(map[string]any)["refresh_token.rotation"].(map[string]any); fact["known"] != "read" {
		t.Errorf("fact %v", fact)
	}
	if r := s.mustAPI(http.StatusOK, "GET", "/v1/providers/flexiti", ""); r.field(t, "needs_owner") != false {
		t.Errorf("flexiti: %s", r.body)
	}
	if r := s.mustAPI(http.StatusOK, "GET", "/v1/providers/xero", ""); r.field(t, "replay_window") != "30m" {
		t.Errorf("xero: %s", r.body)
	}
	if strings.Contains(r.body, "sim-secret") {
		t.Error("a client secret is shown")
	}
}

// A provider whose client is refused says so.
func TestProviderThatRefusesTheClient(t *testing.T) {
	s := start(t, false, providertest.Plain())
	s.imports("a", "plain", "alice", "")
	s.sims["plain"].SetSecrets("another")
	r := s.api("POST", "/v1/connections/a/refresh", "")
	wantProblem(t, r, http.StatusServiceUnavailable, "Connection a at plain")
	if r.field(t, "code") != "provider_unavailable" || r.field(t, "error_class") != "bad_client" || !strings.Contains(r.field(t, "next").(string), "client id and secret") {
		t.Errorf("refused: %s", r.body)
	}
	r = s.mustAPI(http.StatusOK, "GET", "/v1/providers/plain", "")
	if r.field(t, "state") != "bad_client" || r.field(t, "since") == nil {
		t.Errorf("provider: %s", r.body)
	}
	if r := s.mustAPI(http.StatusOK, "GET", "/v1/connections/a", ""); r.field(t, "state") != "active" {
		t.Errorf("connection: %s", r.body)
	}
}

// Where the keeper is not running, its paths say so.
func TestWithoutKeeper(t *testing.T) {
	s := start(t, false)
	for _, call := range []string{
		"GET /v1/connections", `POST /v1/connections {"provider":"plain"}`, "GET /v1/connections/a", "GET /v1/connections/a/token", "GET /v1/providers",
		`POST /v1/connect-sessions {"provider":"plain"}`, "GET /v1/proxy/a/me", "GET /v1/events?connection=a",
	} {
		method, rest, _ := strings.Cut(call, " ")
		path, body, _ := strings.Cut(rest, " ")
		wantProblem(t, s.api(method, path, body), http.StatusNotFound, "not running here")
	}
	wantProblem(t, s.api("POST", "/v1/explain", `{"of":"a"}`), http.StatusNotFound, "no such thing")
	wantPage(t, s.get(s.browser(), "/connect/abc"), http.StatusNotFound, "connects to no other services")
}

// Where the issuer is not running, its paths say so.
func TestWithoutIssuer(t *testing.T) {
	s := start(t, false, providertest.Plain())
	s.imports("one", "plain", "alice", "")
	config := s.config
	config.Admin, config.Database, config.Inspect = nil, nil, nil
	pages, err := NewPages(PagesConfig{PublicURL: s.url})
	if err != nil {
		t.Fatal(err)
	}
	s.serve(s.site(nil, pages, config))
	for _, call := range []string{"GET /v1/clients", "GET /v1/grants", "GET /v1/keys", "GET /v1/backup", "POST /v1/purge", "GET /v1/events?grant=00000000000000000000000000000001"} {
		method, path, _ := strings.Cut(call, " ")
		wantProblem(t, s.api(method, path, ""), http.StatusNotFound, "not running here")
	}
	if r := s.mustAPI(http.StatusOK, "GET", "/v1/events", ""); len(r.field(t, "items").([]any)) == 0 {
		t.Errorf("events %s", r.body)
	}
	s.mustAPI(http.StatusOK, "POST", "/v1/explain", `{"of":"one"}`)
	s.mustAPI(http.StatusOK, "GET", "/v1/connections/one/token", "")
	if r := s.get(s.browser(), "/oauth/token"); r.status != http.StatusNotFound {
		t.Errorf("/oauth/token: %d", r.status)
	}
}

func TestConnectionsWithoutDatabase(t *testing.T) {
	s := start(t, false, providertest.Plain())
	s.imports("one", "plain", "alice", "")
	token := s.client("app", "", ScopeRead)
	s.db.Close()
	for _, call := range []string{
		"GET /v1/connections", "GET /v1/connections/one", "GET /v1/connections/one/token", "GET /v1/connections/one/history", "GET /v1/connections/one/explain",
		"POST /v1/connections/one/refresh", "POST /v1/connections/one/pause", "DELETE /v1/connections/one", "GET /v1/providers", "GET /v1/proxy/one/me",
		`POST /v1/connections {"provider":"plain","tokens":{"access_token":"a"}}`, `POST /v1/connect-sessions {"connection":"one"}`, "GET /v1/webhooks/deliveries",
	} {
		method, rest, _ := strings.Cut(call, " ")
		path, body, _ := strings.Cut(rest, " ")
		wantProblem(t, s.api(method, path, body), http.StatusServiceUnavailable, "database is unavailable")
	}
	s.clock.advance(time.Minute) // what is cached of the client
	wantProblem(t, s.as(token, "GET", "/v1/connections", ""), http.StatusServiceUnavailable, "database is unavailable")
}

func TestConnectSessions(t *testing.T) {
	s := start(t, false, providertest.Plain(), providertest.Google())
	s.imports("one", "plain", "alice", "")
	for name, tt := range map[string]struct {
		body, detail string
		status       int
	}{
		"no provider":           {`{"owner":"alice"}`, `"provider" is missing`, 400},
		"unknown provider":      {`{"provider":"nobody"}`, `"nobody"`, 400},
		"bad return":            {`{"provider":"plain","return_url":"http://app.example/"}`, "return_url", 400},
		"return to an app":      {`{"provider":"plain","return_url":"com.example.app:/done"}`, "return_url", 400},
		"relative return":       {`{"provider":"plain","return_url":"/done"}`, "return_url", 400},
		"return to a script":    {`{"provider":"plain","return_url":"javascript:alert(1)"}`, "return_url", 400},
		"return with a user":    {`{"provider":"plain","return_url":"https://a@app.example/"}`, "return_url", 400},
		"bad id":                {`{"provider":"plain","connection":"a b"}`, "id", 400},
		"unknown connection":    {`{"connection":"none"}`, `"provider" is missing`, 400},
		"of another provider":   {`{"provider":"google","connection":"one"}`, "in use", 409},
		"of another owner":      {`{"provider":"plain","connection":"one","owner":"bob"}`, "in use", 409},
		"params that are none":  {`{"provider":"plain","params":{"x":"y"}}`, "x", 400},
		"owner with a control":  {`{"provider":"plain","owner":"a\nb"}`, "Owner must be", 400},
		"endless URL to return": {`{"provider":"plain","return_url":"https://app.example/` + strings.Repeat("x", 2000) + `"}`, "return_url", 400},
	} {
		t.Run(name, func(t *testing.T) {
			wantProblem(t, s.api("POST", "/v1/connect-sessions", tt.body), tt.status, tt.detail)
		})
	}
	r := s.mustAPI(http.StatusCreated, "POST", "/v1/connect-sessions", `{"provider":"plain","owner":"bob"}`)
	link, err := url.Parse(r.field(t, "url").(string))
	if err != nil || !strings.HasPrefix(link.String(), s.url+"/connect/") || r.header.Get("Location") != link.String() {
		t.Errorf("URL %v, %v", link, err)
	}
	if until, _ := time.Parse(time.RFC3339, r.field(t, "expires_at").(string)); until.Sub(s.clock.now()).Round(time.Minute) != 30*time.Minute {
		t.Errorf("expires at %v", until)
	}
	if !keeper.ValidID(r.field(t, "connection").(string)) {
		t.Errorf("connection %v", r.field(t, "connection"))
	}
	if strings.Contains(link.String(), "bob") {
		t.Error("the link tells the owner to whoever sees it")
	}
}
