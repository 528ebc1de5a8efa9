package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
)

// works reports whether a client can authenticate with a secret.
func (s *server) works(id, secretText string) bool {
	s.t.Helper()
	return s.tokenRequest(id, secret.NewText(secretText), "grant_type", "client_credentials").status == http.StatusOK
}

func TestClientLife(t *testing.T) {
	s := start(t, false)
	r := s.mustAPI(http.StatusCreated, "POST", "/v1/clients",
		`{"id":"films","name":"Films","grant_types":["client_credentials"],"scopes":["read"],"access_token_lifetime":"2h","refresh_token_retry_window":"0"}`)
	generated, _ := r.field(t, "secret").(string)
	if !secret.Generated(secret.NewText(generated)) || !s.works("films", generated) {
		t.Fatal("the generated secret does not work")
	}
	if r.header.Get("Location") != "/v1/clients/films" || r.field(t, "client.secrets") != 1.0 || r.field(t, "client.public") != false {
		t.Errorf("created: %v %s", r.header, strings.ReplaceAll(r.body, generated, "..."))
	}

	r = s.mustAPI(http.StatusOK, "GET", "/v1/clients/films", "")
	for field, want := range map[string]any{
		"id": "films", "name": "Films", "secrets": 1.0, "access_token_lifetime": "2h", "refresh_token_retry_window": "0",
		"declared": false, "trusted": false, "introspect": false, "access_token_format": nil, "secret": nil,
		"profile": nil, "require_pkce": nil, "redirect_matching": nil, "imported_from": nil,
	} {
		if got := r.field(t, field); got != want {
			t.Errorf("%s is %v, want %v", field, got, want)
		}
	}
	if list := s.mustAPI(http.StatusOK, "GET", "/v1/clients", "").body; strings.Contains(list, "hmac-sha256$") || strings.Contains(list, generated) {
		t.Error("the list shows secrets or verifiers")
	}

	r = s.mustAPI(http.StatusOK, "PATCH", "/v1/clients/films", `{"name":null,"access_token_lifetime":null,"introspect":true,"scopes":["read","write"]}`)
	if r.field(t, "client.name") != nil || r.field(t, "client.access_token_lifetime") != nil || r.field(t, "client.introspect") != true ||
		fmt.Sprint(r.field(t, "client.scopes")) != "[read write]" || r.field(t, "client.refresh_token_retry_window") != "0" {
		t.Errorf("patched: %s", r.body)
	}
	if !s.works("films", generated) {
		t.Error("a patch of other fields ended the secret")
	}

	s.mustAPI(http.StatusNoContent, "DELETE", "/v1/clients/films", "")
	wantProblem(t, s.api("GET", "/v1/clients/films", ""), http.StatusNotFound, "")
	if s.works("films", generated) {
		t.Error("a deleted client still gets tokens")
	}
}

// What a client's document shows can be sent back unchanged.
func TestPatchWithWholeDocument(t *testing.T) {
	s := start(t, false)
	before := s.mustAPI(http.StatusOK, "GET", "/v1/clients/photos", "")
	after := s.mustAPI(http.StatusOK, "PATCH", "/v1/clients/photos", before.body)
	var was, is map[string]any
	if json.Unmarshal([]byte(before.body), &was) != nil {
		t.Fatal(before.body)
	}
	is = after.field(t, "client").(map[string]any)
	delete(was, "updated_at")
	delete(is, "updated_at")
	if fmt.Sprint(was) != fmt.Sprint(is) {
		t.Errorf("before %v\nafter %v", was, is)
	}
	if !s.works("photos", photosSecret.Reveal()) {
		t.Error("the secret no longer works")
	}
}

// TestTightening changes one setting of a client after the other.
func TestTightening(t *testing.T) {
	s := start(t, false)
	for _, step := range []struct{ patch, field, want string }{
		{`{"profile":"bshaffer"}`, "client.profile", "bshaffer"},
		{`{"refresh_token_rotation":"once"}`, "client.refresh_token_rotation", "once"},
		{`{"require_pkce":"public_clients"}`, "client.require_pkce", "public_clients"},
		{`{"refresh_token_rotation":"always"}`, "client.refresh_token_rotation", "always"},
		{`{"refresh_token_retry_window":"0"}`, "client.refresh_token_retry_window", "0"},
		{`{"require_pkce":"always"}`, "client.require_pkce", "always"},
		{`{"redirect_matching":"exact"}`, "client.redirect_matching", "exact"},
	} {
		if r := s.mustAPI(http.StatusOK, "PATCH", "/v1/clients/photos", step.patch); r.field(t, step.field) != step.want {
			t.Errorf("%s: %s", step.patch, r.body)
		}
	}
	r := s.mustAPI(http.StatusOK, "PATCH", "/v1/clients/photos", `{"profile":null,"require_pkce":null}`)
	if r.field(t, "client.profile") != nil || r.field(t, "client.require_pkce") != nil || r.field(t, "client.redirect_matching") != "exact" {
		t.Errorf("reset: %s", r.body)
	}
	r = s.mustAPI(http.StatusCreated, "POST", "/v1/clients", `{"id":"films","profile":"fos","refresh_token_rotation":"never","require_pkce":"public_clients","redirect_matching":"exact"}`)
	if r.field(t, "client.profile") != "fos" || r.field(t, "client.refresh_token_rotation") != "never" || r.field(t, "client.redirect_matching") != "exact" {
		t.Errorf("created: %s", r.body)
	}
}

// TestImportedDocuments: where a client and a user come from is told until
// somebody changes them here, and how their secrets are kept is told without them.
func TestImportedDocuments(t *testing.T) {
	s := start(t, false)
	chosen := secret.NewVerifier(secret.NewText("chosen"))
	_, err := s.admin.Import(t.Context(), operator, issuer.Import{
		Source:  "old server",
		Clients: []issuer.ImportClient{{ID: "films", Secret: secret.NewText("film secret"), GrantTypes: []string{"password"}}, {ID: "phone", GrantTypes: []string{"authorization_code"}}},
		Users:   []issuer.ImportUser{{Username: "bob", Password: chosen, Info: []byte(`{"z":1,"a":[]}`)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	films := s.mustAPI(http.StatusOK, "GET", "/v1/clients/films", "")
	if films.field(t, "imported_from") != "old server" || fmt.Sprint(films.field(t, "secret_forms")) != "[argon2id]" || strings.Contains(films.body, "$") {
		t.Errorf("films: %s", films.body)
	}
	if phone := s.mustAPI(http.StatusOK, "GET", "/v1/clients/phone", ""); fmt.Sprint(phone.field(t, "secret_forms")) != "[]" {
		t.Errorf("phone: %s", phone.body)
	}
	bob := s.mustAPI(http.StatusOK, "GET", "/v1/users/bob", "")
	if bob.field(t, "imported_from") != "old server" || !strings.Contains(bob.body, `"info":{"z":1,"a":[]}`) {
		t.Errorf("bob: %s", bob.body)
	}
	changed := s.mustAPI(http.StatusOK, "PATCH", "/v1/clients/films", `{"generate_secret":true,"keep_old_secret":true}`)
	if changed.field(t, "client.imported_from") != nil || fmt.Sprint(changed.field(t, "client.secret_forms")) != "[hmac-sha256 argon2id]" {
		t.Errorf("films changed: status %d, forms %v", changed.status, changed.field(t, "client.secret_forms"))
	}
	if bob = s.mustAPI(http.StatusOK, "PATCH", "/v1/users/bob", `{"info":null}`); bob.field(t, "imported_from") != nil || bob.field(t, "info") != nil {
		t.Errorf("bob changed: %s", bob.body)
	}
}

func TestUserInfo(t *testing.T) {
	s := start(t, false)
	r := s.mustAPI(http.StatusCreated, "POST", "/v1/users", `{"username":"bob","password":"builder","info": {"z": 1, "a": {"y": [ "<&>" ], "b": 1.50}} }`)
	const info = `"info":{"z":1,"a":{"y":["<&>"],"b":1.50}}`
	same := func(what, body string) {
		t.Helper()
		var is struct{ Info json.RawMessage }
		if err := json.Unmarshal([]byte(body), &is); err != nil || strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(`"info":`+string(is.Info)) != info {
			t.Errorf("%s: %s", what, body)
		}
	}
	same("created", r.body)
	same("read", s.mustAPI(http.StatusOK, "GET", "/v1/users/bob", "").body)
	signIn := func(password string) bool {
		return s.tokenRequest("photos", photosSecret, "grant_type", "password", "username", "bob", "password", password).status == http.StatusOK
	}
	same("new password", s.mustAPI(http.StatusOK, "PATCH", "/v1/users/bob", `{"password":"carpenter"}`).body)
	if !signIn("carpenter") {
		t.Error("the password was not replaced")
	}
	if r = s.mustAPI(http.StatusOK, "PATCH", "/v1/users/bob", `{"info":{}}`); !strings.Contains(r.body, `"info":{}`) || !signIn("carpenter") {
		t.Errorf("an empty object, or the password is gone: %s", r.body)
	}
	if r = s.mustAPI(http.StatusOK, "PATCH", "/v1/users/bob", `{"info":{"a":1},"password":"plumber"}`); !strings.Contains(r.body, `"info":{"a":1}`) || !signIn("plumber") {
		t.Errorf("both at once: %s", r.body)
	}
	if r = s.mustAPI(http.StatusOK, "PATCH", "/v1/users/bob", `{"info":null}`); r.field(t, "info") != nil {
		t.Errorf("taken away: %s", r.body)
	}
}

func TestSecretReplacement(t *testing.T) {
	s := start(t, false)
	s.mustAPI(http.StatusCreated, "POST", "/v1/clients", `{"id":"films","grant_types":["client_credentials"],"secret":"first choice"}`)
	steps := []struct {
		name, patch string
		count       float64
		works       []string
		fails       []string
	}{
		{"added beside the old one", `{"secret":"second choice","keep_old_secret":true}`, 2, []string{"first choice", "second choice"}, nil},
		{"old one dropped", `{"secrets":1}`, 1, []string{"second choice"}, []string{"first choice"}},
		{"replaced", `{"secret":"third choice"}`, 1, []string{"third choice"}, []string{"second choice"}},
		{"unchanged", `{"name":"Films"}`, 1, []string{"third choice"}, nil},
		{"added again", `{"secret":"4","keep_old_secret":true}`, 2, []string{"third choice", "4"}, nil},
		{"and again", `{"secret":"5","keep_old_secret":true}`, 3, []string{"third choice", "4", "5"}, nil},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			r := s.mustAPI(http.StatusOK, "PATCH", "/v1/clients/films", step.patch)
			if r.field(t, "client.secrets") != step.count || r.field(t, "secret") != nil {
				t.Errorf("answer %s", r.body)
			}
			for _, text := range step.works {
				if !s.works("films", text) {
					t.Errorf("%q does not work", text)
				}
			}
			for _, text := range step.fails {
				if s.works("films", text) {
					t.Errorf("%q still works", text)
				}
			}
		})
	}
	wantProblem(t, s.api("PATCH", "/v1/clients/films", `{"generate_secret":true,"keep_old_secret":true}`), http.StatusBadRequest, "at most 3 secrets")
	r := s.mustAPI(http.StatusOK, "PATCH", "/v1/clients/films", `{"generate_secret":true}`)
	if generated, _ := r.field(t, "secret").(string); !s.works("films", generated) || s.works("films", "5") {
		t.Error("a generated secret did not replace the others")
	}
}

func TestPublicClient(t *testing.T) {
	s := start(t, false)
	r := s.mustAPI(http.StatusCreated, "POST", "/v1/clients", `{"id":"phone","public":true,"redirect_uris":["com.example.phone:/callback"]}`)
	if r.field(t, "client.public") != true || r.field(t, "client.secrets") != 0.0 || r.field(t, "secret") != nil ||
		fmt.Sprint(r.field(t, "client.grant_types")) != "[authorization_code refresh_token]" {
		t.Errorf("created: %s", r.body)
	}
	wantProblem(t, s.api("PATCH", "/v1/clients/phone", `{"public":false}`), http.StatusBadRequest, "needs a secret")
	r = s.mustAPI(http.StatusOK, "PATCH", "/v1/clients/phone", `{"public":false,"generate_secret":true}`)
	if r.field(t, "client.public") != false || r.field(t, "secret") == nil {
		t.Error("it did not become confidential")
	}
	r = s.mustAPI(http.StatusOK, "PATCH", "/v1/clients/phone", `{"public":true}`)
	if r.field(t, "client.public") != true || r.field(t, "client.secrets") != 0.0 {
		t.Errorf("it did not become public again: %s", r.body)
	}
}

func TestUserLife(t *testing.T) {
	s := start(t, false)
	r := s.mustAPI(http.StatusCreated, "POST", "/v1/users", `{"username":"Bob Böhm/2","password":"builder"}`)
	if r.header.Get("Location") != "/v1/users/Bob%20B%C3%B6hm%2F2" || r.field(t, "username") != "Bob Böhm/2" || r.field(t, "declared") != false {
		t.Errorf("created: %v %s", r.header, r.body)
	}
	signIn := func(password string) bool {
		return s.tokenRequest("photos", photosSecret, "grant_type", "password", "username", "Bob Böhm/2", "password", password).status == http.StatusOK
	}
	if !signIn("builder") {
		t.Error("the password does not work")
	}
	s.mustAPI(http.StatusOK, "PATCH", r.header.Get("Location"), `{"password":"carpenter"}`)
	if signIn("builder") || !signIn("carpenter") {
		t.Error("the password was not replaced")
	}
	for _, path := range []string{"/v1/users", r.header.Get("Location")} {
		if shown := s.mustAPI(http.StatusOK, "GET", path, "").body; strings.Contains(shown, "argon2id") || !strings.Contains(shown, "Bob Böhm/2") {
			t.Errorf("%s shows %s", path, shown)
		}
	}
	s.mustAPI(http.StatusNoContent, "DELETE", r.header.Get("Location"), "")
	grants := s.mustAPI(http.StatusOK, "GET", "/v1/grants?subject=Bob+B%C3%B6hm%2F2", "").field(t, "items").([]any)
	for _, grant := range grants {
		if grant := grant.(map[string]any); grant["alive"] != false || grant["revoked_cause"] != "user_deleted" {
			t.Errorf("a grant outlived its user: %v", grant)
		}
	}
	if len(grants) != 2 || signIn("carpenter") {
		t.Errorf("%d grants are left of two, or the user can still sign in", len(grants))
	}
}

// Two requests that change different fields at once both count.
func TestConcurrentPatches(t *testing.T) {
	s := start(t, false)
	var patches sync.WaitGroup
	for _, patch := range []string{`{"name":"N"}`, `{"introspect":true}`, `{"grant_lifetime":"1d"}`, `{"access_token_lifetime":"5m"}`} {
		patches.Go(func() {
			if r := s.api("PATCH", "/v1/clients/photos", patch); r.status != http.StatusOK {
				t.Errorf("%s: %d %s", patch, r.status, r.body)
			}
		})
	}
	patches.Wait()
	r := s.mustAPI(http.StatusOK, "GET", "/v1/clients/photos", "")
	if r.field(t, "name") != "N" || r.field(t, "introspect") != true || r.field(t, "grant_lifetime") != "1d" || r.field(t, "access_token_lifetime") != "5m" {
		t.Errorf("a change was lost: %s", r.body)
	}
}

// Of many requests for one id exactly one creates it.
func TestConcurrentCreation(t *testing.T) {
	s := start(t, false)
	statuses := make(chan int, 8)
	var requests sync.WaitGroup
	for range cap(statuses) {
		requests.Go(func() { statuses <- s.api("POST", "/v1/clients", `{"id":"films"}`).status })
	}
	requests.Wait()
	close(statuses)
	count := map[int]int{}
	for status := range statuses {
		count[status]++
	}
	if count[http.StatusCreated] != 1 || count[http.StatusConflict] != 7 {
		t.Errorf("statuses %v", count)
	}
}

func TestEveryChangeIsAnEvent(t *testing.T) {
	s := start(t, false)
	s.mustAPI(http.StatusCreated, "POST", "/v1/clients", `{"id":"films"}`)
	s.mustAPI(http.StatusNoContent, "DELETE", "/v1/clients/films", "")
	s.mustAPI(http.StatusCreated, "POST", "/v1/users", `{"username":"bob","password":"x"}`)
	s.mustAPI(http.StatusNoContent, "DELETE", "/v1/users/bob", "")
	s.mustAPI(http.StatusCreated, "POST", "/v1/keys", `{"lead":"0"}`)
	s.mustAPI(http.StatusNoContent, "DELETE", "/v1/keys/1", "")
	var types []string
	for _, item := range s.mustAPI(http.StatusOK, "GET", "/v1/events?limit=6", "").field(t, "items").([]any) {
		event := item.(map[string]any)
		types = append(types, event["type"].(string))
		if event["actor"] != "operator" || event["address"] != "127.0.0.1" {
			t.Errorf("event %v does not say who and from where", event)
		}
	}
	if got := strings.Join(types, " "); got != "key.deleted key.rotated user.deleted user.saved client.deleted client.saved" {
		t.Errorf("events, newest first: %s", got)
	}
}

// A patch changes what it names, and nothing else.
func FuzzMergePatch(f *testing.F) {
	f.Add(`{"name":"x","scopes":null,"access_token_lifetime":"1h"}`)
	f.Add(`{"id":null}`)
	f.Add(`{"Name":"x"}`)
	f.Add(`{"redirect_uris":["https://a.example/"],"public":true}`)
	f.Add(`{"":0}`)
	f.Fuzz(func(t *testing.T, text string) {
		var patch map[string]json.RawMessage
		if unmarshal([]byte(text), &patch) != nil {
			return
		}
		is, want := clientDocument{ID: "a", Name: "n", Secrets: 1}, clientDocument{}
		var got clientDocument
		if err := mergePatch(is, patch, &got); err != nil {
			return
		}
		if json.Unmarshal([]byte(text), &want) != nil {
			t.Fatalf("%q was taken", text)
		}
		for member, field := range map[string]struct{ is, want, got any }{
			"id": {is.ID, want.ID, got.ID}, "name": {is.Name, want.Name, got.Name}, "secrets": {is.Secrets, want.Secrets, got.Secrets},
		} {
			if _, named := patch[member]; named && field.got != field.want || !named && field.got != field.is {
				t.Errorf("%q made %s %v", text, member, field.got)
			}
		}
	})
}
