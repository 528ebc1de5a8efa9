package web

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
)

// wantProblem checks that an answer is a problem document with a status whose
// detail has some words.
func wantProblem(t *testing.T, r reply, status int, detail string) {
	t.Helper()
	if r.status != status || r.header.Get("Content-Type") != "application/problem+json" || r.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("status %d, want %d, as a problem that is not cached: %v %s", r.status, status, r.header, r.body)
	}
	if r.field(t, "status") != float64(status) || r.field(t, "title") != http.StatusText(status) || r.field(t, "type") != "about:blank" {
		t.Errorf("problem %s", r.body)
	}
	if told, _ := r.field(t, "detail").(string); !strings.Contains(told, detail) {
		t.Errorf("the detail %q does not say %q", told, detail)
	}
}

func TestAdminToken(t *testing.T) {
	s := start(t, false)
	const none, wrong = "Bearer", `Bearer error="invalid_token"` // RFC 6750 section 3.1
	tests := map[string]struct{ header, challenge string }{
		"none":          {"", none},
		"wrong":         {"Bearer " + strings.Repeat("A", len(s.token)), wrong},
		"of no length":  {"Bearer ", none},
		"truncated":     {"Bearer " + s.token[1:], wrong},
		"longer":        {"Bearer " + s.token + "A", wrong},
		"without name":  {s.token, none},
		"by HTTP Basic": {"Basic " + s.token, none},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"/v1/clients", "/v1/backup", "/v1/nothing"} {
				req := s.request("GET", path, "")
				if tt.header != "" {
					req.Header.Set("Authorization", tt.header)
				}
				r := s.do(s.http.Client(), req)
				wantProblem(t, r, http.StatusUnauthorized, "needs the admin token")
				if r.header.Get("WWW-Authenticate") != tt.challenge || !strings.Contains(r.field(t, "next").(string), "admin.token") {
					t.Errorf("how to authenticate is not told: %v %s", r.header, r.body)
				}
			}
		})
	}
	if !strings.Contains(s.log.String(), "address=127.0.0.1") || strings.Contains(s.log.String(), s.token) {
		t.Error("the log does not say who tried, or it has the token")
	}
}

func TestEmptyAdminTokenServesNobody(t *testing.T) {
	req := httptest.NewRequest("GET", "/v1/stats", nil)
	for _, header := range []string{"", "Bearer ", "Bearer"} {
		req.Header.Set("Authorization", header)
		w := httptest.NewRecorder()
		NewAPI(APIConfig{Log: slog.New(slog.DiscardHandler)}).ServeHTTP(w, req)
		if w.Code != http.StatusUnauthorized {
			t.Errorf("%q: status %d", header, w.Code)
		}
	}
}

func TestRefusedRequests(t *testing.T) {
	s := start(t, false)
	long := strings.Repeat("x", maxSecret+1)
	tests := []struct {
		name, method, path, body string
		status                   int
		detail                   string
	}{
		{"unknown path", "GET", "/v1/nothing", "", 404, "nothing at this path"},
		{"wrong method", "PUT", "/v1/clients", "", 405, "PUT"},
		{"wrong method on one", "POST", "/v1/clients/photos", "{}", 405, "POST"},

		{"no client", "GET", "/v1/clients/nobody", "", 404, "no such thing"},
		{"change of no client", "PATCH", "/v1/clients/nobody", "{}", 404, "no such thing"},
		{"deletion of no client", "DELETE", "/v1/clients/nobody", "", 404, "no such thing"},
		{"no user", "GET", "/v1/users/bob", "", 404, "no such thing"},
		{"change of no user", "PATCH", "/v1/users/bob", `{"password":"x"}`, 404, "no such thing"},
		{"deletion of no user", "DELETE", "/v1/users/bob", "", 404, "no such thing"},
		{"no grant", "GET", "/v1/grants/00000000000000000000000000000000", "", 404, "no such thing"},
		{"revocation of no grant", "DELETE", "/v1/grants/00000000000000000000000000000000", "", 404, "no such thing"},
		{"explanation of nothing", "POST", "/v1/explain", `{"of":"nonsense"}`, 404, "no such thing"},
		{"no key", "DELETE", "/v1/keys/7", "", 404, "no such thing"},
		{"no key number", "DELETE", "/v1/keys/one", "", 404, "no such thing"},

		{"cut off", "POST", "/v1/clients", `{"id":"a"`, 400, "ends before"},
		{"not JSON", "POST", "/v1/clients", `{id:1}`, 400, "not valid JSON"},
		{"two documents", "POST", "/v1/clients", `{"id":"a"}{}`, 400, "something after"},
		{"an array", "POST", "/v1/clients", `[]`, 400, "must be a JSON object, not an array"},
		{"large", "POST", "/v1/clients", `{"id":"` + strings.Repeat("x", maxBody) + `"}`, 413, "larger than"},
		{"unknown field", "POST", "/v1/clients", `{"id":"a","redirect_uri":"https://a.example"}`, 400, `no field "redirect_uri"`},
		{"field of a change", "POST", "/v1/clients", `{"id":"a","keep_old_secret":true}`, 400, `no field "keep_old_secret"`},
		{"mistyped field", "POST", "/v1/clients", `{"id":7}`, 400, `The field "id" cannot be a number.`},
		{"mistyped in a list", "POST", "/v1/clients", `{"id":"a","redirect_uris":[{}]}`, 400, `The field "redirect_uris" cannot be an object.`},
		{"mistyped secret", "POST", "/v1/clients", `{"id":"a","secret":["x"]}`, 400, `"secret" cannot be an array.`},
		{"bad lifetime", "POST", "/v1/clients", `{"id":"a","access_token_lifetime":"soon"}`, 400, `"soon" is not a duration`},
		{"endless access token", "POST", "/v1/clients", `{"id":"a","access_token_lifetime":"0"}`, 400, "access_token_lifetime must be above 0"},
		{"no id", "POST", "/v1/clients", `{}`, 400, "the id must be"},
		{"bad redirect URI", "POST", "/v1/clients", `{"id":"a","redirect_uris":["http://a.example"]}`, 400, "http is allowed for loopback hosts only"},
		{"public with credentials", "POST", "/v1/clients", `{"id":"a","public":true,"grant_types":["client_credentials"]}`, 400, "needs a secret"},
		{"public with secret", "POST", "/v1/clients", `{"id":"a","public":true,"secret":"x"}`, 400, "public client has no secret"},
		{"public with generated secret", "POST", "/v1/clients", `{"id":"a","public":true,"generate_secret":true}`, 400, "public client has no secret"},
		{"two secrets", "POST", "/v1/clients", `{"id":"a","secret":"x","generate_secret":true}`, 400, "Both"},
		{"empty secret", "POST", "/v1/clients", `{"id":"a","secret":""}`, 400, "1 to 1024 printable ASCII"},
		{"secret with umlaut", "POST", "/v1/clients", `{"id":"a","secret":"ä"}`, 400, "1 to 1024 printable ASCII"},
		{"long secret", "POST", "/v1/clients", `{"id":"a","secret":"` + long + `"}`, 400, "1 to 1024 printable ASCII"},
		{"given time", "POST", "/v1/clients", `{"id":"a","created_at":"2020-01-01T00:00:00Z"}`, 400, `"created_at" is told by the server`},
		{"given declaration", "POST", "/v1/clients", `{"id":"a","declared":true}`, 400, `"declared" is told by the server`},
		{"given count", "POST", "/v1/clients", `{"id":"a","secrets":2}`, 400, `"secrets" counts`},
		{"taken id", "POST", "/v1/clients", `{"id":"photos"}`, 409, "exists already"},

		{"patch of id", "PATCH", "/v1/clients/photos", `{"id":"films"}`, 400, "cannot be changed"},
		{"patch that removes the id", "PATCH", "/v1/clients/photos", `{"id":null}`, 400, "cannot be changed"},
		{"patch of time", "PATCH", "/v1/clients/photos", `{"updated_at":"2020-01-01T00:00:00Z"}`, 400, `"updated_at" is told by the server`},
		{"patch of unknown field", "PATCH", "/v1/clients/photos", `{"colour":"red"}`, 400, `no field "colour"`},
		{"patch in other letters", "PATCH", "/v1/clients/photos", `{"Name":"x"}`, 400, `no field "Name"`},
		{"patch of wrong type", "PATCH", "/v1/clients/photos", `{"trusted":"yes"}`, 400, `The field "trusted" cannot be a string.`},
		{"patch that is an array", "PATCH", "/v1/clients/photos", `[]`, 400, "must be a JSON object"},
		{"patch with wrong secret", "PATCH", "/v1/clients/photos", `{"secret":7}`, 400, `"secret" cannot be a number.`},
		{"profile that is not known", "PATCH", "/v1/clients/photos", `{"profile":"foo"}`, 400, `there is no profile "foo"; write one of bshaffer, eventix, fos`},
		{"rotation that is not known", "PATCH", "/v1/clients/photos", `{"refresh_token_rotation":"sometimes"}`, 400, "always, never, public_clients, once, additive"},
		{"rotation that is not safe", "PATCH", "/v1/clients/photos", `{"refresh_token_rotation":"additive"}`, 400, "this needs unsafe_compatibility: [additive_refresh_tokens]"},
		{"PKCE for nobody", "PATCH", "/v1/clients/photos", `{"require_pkce":"never"}`, 400, "this needs unsafe_compatibility: [public_clients_without_pkce]"},
		{"redirects that are not safe", "POST", "/v1/clients", `{"id":"a","redirect_matching":"prefix"}`, 400, "this needs unsafe_compatibility: [redirect_prefix]"},
		{"told where it is from", "POST", "/v1/clients", `{"id":"a","imported_from":"x"}`, 400, `"imported_from" is told by the server`},
		{"told how secrets are kept", "PATCH", "/v1/clients/photos", `{"secret_forms":[]}`, 400, `"secret_forms" is told by the server`},
		{"habits of nobody", "DELETE", "/v1/clients/nobody/habits", "", 404, "no such thing"},
		{"habits by something else", "GET", "/v1/habits?habit=implicit", "", 400, `no query parameter "habit"`},
		{"bad cursor of habits", "GET", "/v1/habits?cursor=photos", "", 400, "cursor"},
		{"habits that are made", "POST", "/v1/habits", "{}", 405, "POST"},
		{"patch that keeps without new", "PATCH", "/v1/clients/photos", `{"keep_old_secret":true}`, 400, "no new secret"},
		{"patch that keeps none", "PATCH", "/v1/clients/photos", `{"secrets":0}`, 400, "1 to 1"},
		{"patch that keeps more than there are", "PATCH", "/v1/clients/photos", `{"secrets":2}`, 400, "1 to 1"},
		{"patch that counts and adds", "PATCH", "/v1/clients/photos", `{"secrets":1,"generate_secret":true}`, 400, "Both a new secret"},
		{"patch to public with secret", "PATCH", "/v1/clients/photos", `{"public":true,"secret":"x"}`, 400, "public client has no secret"},
		{"patch to public with credentials", "PATCH", "/v1/clients/photos", `{"public":true}`, 400, "client_credentials needs a secret"},

		{"no password", "POST", "/v1/users", `{"username":"bob"}`, 400, "A password has 1 to"},
		{"long password", "POST", "/v1/users", `{"username":"bob","password":"` + long + `"}`, 400, "A password has 1 to"},
		{"no user name", "POST", "/v1/users", `{"password":"x"}`, 400, "the user name must be"},
		{"control character", "POST", "/v1/users", `{"username":"b\u0007b","password":"x"}`, 400, "the user name must be"},
		{"unknown field of user", "POST", "/v1/users", `{"username":"bob","password":"x","admin":true}`, 400, `no field "admin"`},
		{"taken name", "POST", "/v1/users", `{"username":"alice","password":"x"}`, 409, "exists already"},
		{"empty new password", "PATCH", "/v1/users/alice", `{"password":""}`, 400, "A password has 1 to"},
		{"nothing new of a user", "PATCH", "/v1/users/alice", `{}`, 400, "nothing to change"},
		{"info that is no object", "POST", "/v1/users", `{"username":"bob","password":"x","info":[]}`, 400, "info must be a JSON object"},
		{"info that is a text", "PATCH", "/v1/users/alice", `{"info":"x"}`, 400, "info must be a JSON object"},
		{"change of user name", "PATCH", "/v1/users/alice", `{"username":"bob"}`, 400, `no field "username"`},

		{"bad grant id", "GET", "/v1/grants/7", "", 400, "32 hexadecimal digits"},
		{"revocation by bad id", "DELETE", "/v1/grants/xyz", "", 400, "32 hexadecimal digits"},
		{"events of bad id", "GET", "/v1/events?grant=7", "", 400, "32 hexadecimal digits"},
		{"unknown filter", "GET", "/v1/grants?client_id=photos", "", 400, `no query parameter "client_id"`},
		{"filter of another list", "GET", "/v1/clients?subject=alice", "", 400, `no query parameter "subject"`},
		{"filter twice", "GET", "/v1/grants?client=a&client=b", "", 400, "more than once"},
		{"query that is none", "GET", "/v1/users?cursor=%zz", "", 400, "query is not valid"},
		{"limit 0", "GET", "/v1/users?limit=0", "", 400, "1 to 500"},
		{"limit 501", "GET", "/v1/users?limit=501", "", 400, "1 to 500"},
		{"limit that is no number", "GET", "/v1/users?limit=all", "", 400, "1 to 500"},
		{"bad cursor of grants", "GET", "/v1/grants?cursor=photos", "", 400, "cursor"},
		{"bad cursor of events", "GET", "/v1/events?cursor=photos", "", 400, "cursor"},
		{"cursor of events before all", "GET", "/v1/events?cursor=0", "", 400, "cursor"},

		{"explanation without subject", "POST", "/v1/explain", `{}`, 400, `"of" is missing`},
		{"bad lead", "POST", "/v1/keys", `{"lead":"later"}`, 400, `"later" is not a duration`},
		{"current key", "DELETE", "/v1/keys/1", "", 409, "only a retired key can be deleted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { wantProblem(t, s.api(tt.method, tt.path, tt.body), tt.status, tt.detail) })
	}
	if r := s.api("PUT", "/v1/clients/photos", ""); r.header.Get("Allow") != "DELETE, GET, PATCH" {
		t.Errorf("Allow: %q", r.header.Get("Allow"))
	}
	if log := s.log.String(); strings.Contains(log, "level=ERROR") {
		t.Errorf("a refusal is in the log as an error:\n%s", log)
	}
}

func TestMediaTypes(t *testing.T) {
	s := start(t, false)
	send := func(mediaType string) reply {
		req := s.request("PATCH", "/v1/clients/photos", `{"name":"Photos"}`)
		req.Header.Set("Authorization", "Bearer "+s.token)
		req.Header.Set("Content-Type", mediaType)
		return s.do(s.http.Client(), req)
	}
	for _, mediaType := range []string{"application/json", "application/json; charset=utf-8", "application/merge-patch+json"} {
		if r := send(mediaType); r.status != http.StatusOK {
			t.Errorf("%s: status %d", mediaType, r.status)
		}
	}
	for _, mediaType := range []string{"", "application/x-www-form-urlencoded", "text/json"} {
		wantProblem(t, send(mediaType), http.StatusUnsupportedMediaType, "must be JSON")
	}
}

func TestAPIWithoutDatabase(t *testing.T) {
	s := start(t, false)
	s.db.Close()
	for _, call := range []string{
		"GET /v1/clients", "GET /v1/clients/photos", "DELETE /v1/clients/photos", "GET /v1/users", "GET /v1/users/alice",
		"DELETE /v1/users/alice", "GET /v1/grants", "GET /v1/grants/00000000000000000000000000000001",
		"DELETE /v1/grants/00000000000000000000000000000001", "GET /v1/events", "POST /v1/purge", "GET /v1/stats",
		"GET /v1/habits", "DELETE /v1/clients/photos/habits", `PATCH /v1/users/alice {"info":{}}`,
		`POST /v1/clients {"id":"a"}`, `PATCH /v1/clients/photos {"name":"a"}`, `POST /v1/users {"username":"a","password":"x"}`,
		`PATCH /v1/users/alice {"password":"x"}`, `POST /v1/keys {"lead":"0"}`, `POST /v1/explain {"of":"00000000000000000000000000000001"}`,
	} {
		t.Run(call, func(t *testing.T) {
			method, rest, _ := strings.Cut(call, " ")
			path, body, _ := strings.Cut(rest, " ")
			r := s.api(method, path, body)
			wantProblem(t, r, http.StatusServiceUnavailable, "database is unavailable")
			if r.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			if strings.Contains(r.body, ".db") || strings.Contains(r.body, "sqlite") {
				t.Errorf("the answer tells of the inside: %s", r.body)
			}
		})
	}
	if log := s.log.String(); !strings.Contains(log, `msg="administration failed" method=GET path=/v1/stats error=`) {
		t.Errorf("the log does not say why:\n%s", log)
	}
}

func TestPaging(t *testing.T) {
	s := start(t, false) // photos is there already
	for _, id := range []string{"a b", "a/b", "c", "d&e=f"} {
		s.saveClient(issuer.Client{ID: id, Secrets: []secret.Verifier{secret.NewVerifier(photosSecret)}})
	}
	for _, tt := range []struct {
		limit string
		pages []int
	}{{"1", []int{1, 1, 1, 1, 1}}, {"2", []int{2, 2, 1}}, {"4", []int{4, 1}}, {"5", []int{5}}, {"500", []int{5}}} {
		t.Run("by "+tt.limit, func(t *testing.T) {
			var ids []string
			var pages []int
			for query := form("limit", tt.limit); ; {
				r := s.mustAPI(http.StatusOK, "GET", "/v1/clients?"+query.Encode(), "")
				items := r.field(t, "items").([]any)
				pages = append(pages, len(items))
				for _, item := range items {
					ids = append(ids, item.(map[string]any)["id"].(string))
				}
				next, more := r.field(t, "next").(string)
				if !more {
					break
				}
				query.Set("cursor", next)
			}
			if !slices.Equal(ids, []string{"a b", "a/b", "c", "d&e=f", "photos"}) || !slices.Equal(pages, tt.pages) {
				t.Errorf("ids %q in pages of %v", ids, pages)
			}
		})
	}
	if r := s.mustAPI(http.StatusOK, "GET", "/v1/grants", ""); r.body != `{"items":[]}` {
		t.Errorf("an empty list is %s", r.body)
	}
	if r := s.mustAPI(http.StatusOK, "GET", "/v1/clients/a%2Fb", ""); r.field(t, "id") != "a/b" {
		t.Errorf("a client whose id has a slash: %s", r.body)
	}
}
