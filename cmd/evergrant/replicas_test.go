package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/evergrant/evergrant/internal/pgtest"
)

// startReplicas runs servers in processes of their own on one database, each
// with its own arguments, data directory and address, and one root key.
func startReplicas(t *testing.T, config string, args ...[]string) []*process {
	t.Helper()
	config = onPostgres(pgtest.Database(t), "root_key: "+testRoot+"\n"+config)
	replicas := make([]*process, len(args))
	for i := range args {
		address := freeAddress(t)
		replicas[i] = startProcess(t, t.TempDir(), config, append(args[i], "--listen", address)...)
		replicas[i].url = "http://" + address
	}
	return replicas
}

// post sends a form as TestClient and returns status and answer.
func (s *running) post(path string, pairs ...string) (int, map[string]any) {
	s.t.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	req, err := http.NewRequestWithContext(s.t.Context(), "POST", s.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("TestClient", "TestSecret")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer map[string]any
	json.NewDecoder(resp.Body).Decode(&answer) // a revocation has none
	return resp.StatusCode, answer
}

// alive reports whether a server says that a token is.
func (s *running) alive(token string) bool {
	s.t.Helper()
	status, answer := s.post("/oauth/introspect", "token", token)
	if status != http.StatusOK {
		s.t.Fatalf("introspection: status %d, %v", status, answer)
	}
	return answer["active"] == true
}

// TestReplicas has three processes on one database, and what each knows of what
// another one did.
func TestReplicas(t *testing.T) {
	config := strings.Replace(seeds, "client_credentials]}", "client_credentials]}\n    - {id: opaque, access_token_format: opaque, grant_types: [password, refresh_token]}", 1)
	t.Parallel() // it waits for the keys of others, at the end
	replicas := startReplicas(t, config, nil, nil, nil)
	a, b, c := replicas[0], replicas[1], replicas[2]

	t.Run("revocation", func(t *testing.T) {
		grant := a.login()
		if !b.alive(grant.Access) || !c.alive(grant.Refresh) {
			t.Fatal("tokens of A are not known")
		}
		if status, _ := a.post("/oauth/revoke", "token", grant.Access); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
		if b.alive(grant.Access) || c.alive(grant.Access) || !b.alive(grant.Refresh) {
			t.Error("an access token that A revoked is alive at others, or its grant is not")
		}
		if status, _ := a.post("/oauth/revoke", "token", grant.Refresh); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
		if b.alive(grant.Refresh) || b.refresh(grant.Refresh).Error != "invalid_grant" || c.refresh(grant.Refresh).Error != "invalid_grant" {
			t.Error("a grant that A revoked is alive at others")
		}
	})
	before := b.login()
	a.ok("key", "rotate", "--now")
	signed := a.login() // by a key of which others hear by and by
	t.Run("keys", func(t *testing.T) {
		if c.refresh(signed.Refresh).Refresh == "" || a.refresh(before.Refresh).Refresh == "" {
			t.Error("a refresh token of another one's key is refused")
		}
		_, answer := a.post("/oauth/token", "grant_type", "client_credentials")
		if !a.alive(answer["access_token"].(string)) {
			t.Error("A does not know its own token")
		}
		resp, err := http.PostForm(a.url+"/oauth/token", url.Values{"grant_type": {"password"}, "client_id": {"opaque"}, "username": {"bshaffer"}, "password": {"brent123"}})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var sealed tokens
		if err := json.NewDecoder(resp.Body).Decode(&sealed); err != nil || !strings.HasPrefix(sealed.Access, "ega_") {
			t.Fatalf("%+v, %v", sealed, err)
		}
		if got := b.explain(sealed.Access); !got.Alive {
			t.Errorf("an opaque token of a key that A has made is %+v at B", got)
		}
	})
	t.Run("refresh", func(t *testing.T) {
		grant := a.login()
		next := b.refresh(grant.Refresh)
		if again := c.refresh(grant.Refresh); next.Refresh == "" || again != next {
			t.Errorf("B gives %+v, and C %+v", next, again)
		}
		third := a.refresh(next.Refresh)
		if answer := b.refresh(grant.Refresh); answer.Error != "invalid_grant" { // a thief, at any of them
			t.Errorf("a token of two generations ago gives %+v", answer)
		}
		if answer := c.refresh(third.Refresh); answer.Error != "invalid_grant" {
			t.Errorf("the convicted grant gives %+v", answer)
		}
	})
	t.Run("race", func(t *testing.T) {
		grant := a.login()
		answers := make([]tokens, 16*len(replicas))
		var work sync.WaitGroup
		for i := range answers {
			work.Go(func() { answers[i] = replicas[i%len(replicas)].refresh(grant.Refresh) })
		}
		work.Wait()
		for _, answer := range answers {
			if answer != answers[0] || answer.Refresh == "" {
				t.Fatalf("one gets %+v, and another %+v", answers[0], answer)
			}
		}
		if next := b.refresh(answers[0].Refresh); next.Refresh == "" {
			t.Errorf("the successor gives %+v", next)
		}
	})
	t.Run("clients", func(t *testing.T) {
		made := document[struct {
			Secret string `json:"secret"`
		}](t, a.ok("client", "create", "made-at-a", "--grant-type", "client_credentials", "--json"))
		ask := func(s *process, secret string) int {
			resp, err := http.PostForm(s.url+"/oauth/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {"made-at-a"}, "client_secret": {secret}})
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			return resp.StatusCode
		}
		if status := ask(b, made.Secret); status != http.StatusOK {
			t.Errorf("B answers a client that A has made with %d", status)
		}
		a.ok("client", "delete", "made-at-a")
		eventually(t, func() bool { return ask(b, made.Secret) == http.StatusUnauthorized })
	})
	t.Run("events", func(t *testing.T) {
		if events := c.ok("event", "list", "--type", "client.deleted"); !strings.Contains(events, "made-at-a") {
			t.Errorf("C knows of %s", events)
		}
	})
	t.Run("the end of one", func(t *testing.T) {
		grant := a.login()
		lost := a.refresh(grant.Refresh)
		a.end(os.Kill)
		if again := b.refresh(grant.Refresh); again != lost {
			t.Errorf("a retry gives %+v, and gave %+v", again, lost)
		}
	})
	eventually(t, func() bool { return b.alive(signed.Access) && c.alive(signed.Access) })
}

// TestReplicasOfOnePart has issuers and keepers apart.
func TestReplicasOfOnePart(t *testing.T) {
	t.Parallel() // it waits for what a keeper remembers
	third := start(t, t.TempDir(), strings.Replace(seeds, "issuer:\n", "issuer:\n  access_token_lifetime: 1h\n  access_token_format: opaque\n", 1))
	k := &keeping{third: third}
	config := k.config("") + strings.Replace(seeds, "client_credentials]}", "client_credentials]}\n    - {id: reader, secret: reader-secret, grant_types: [client_credentials], scopes: [\"keeper:read\", \"keeper:token\"]}", 1)
	replicas := startReplicas(t, config, []string{"--only", "issuer"}, []string{"--only", "keeper"}, []string{"--only", "keeper"})
	k.running = replicas[1].running
	k.connect("ann")

	resp, err := http.PostForm(replicas[0].url+"/oauth/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {"reader"}, "client_secret": {"reader-secret"}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var issued tokens
	if err := json.NewDecoder(resp.Body).Decode(&issued); err != nil || issued.Access == "" {
		t.Fatalf("the issuer gives %+v, %v", issued, err)
	}
	var first string
	for i, want := range []int{http.StatusNotFound, http.StatusOK, http.StatusOK} {
		req, err := http.NewRequest("GET", replicas[i].url+"/v1/connections/ann/token", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+issued.Access)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var answer tokens
		json.NewDecoder(resp.Body).Decode(&answer)
		resp.Body.Close()
		if (resp.StatusCode == http.StatusOK) != (want == http.StatusOK) {
			t.Errorf("replica %d: status %d, want %d", i, resp.StatusCode, want)
		}
		if want == http.StatusOK && (answer.Access == "" || first != "" && answer.Access != first) {
			t.Errorf("replica %d gives another token", i)
		}
		first = answer.Access
	}
	if resp, err := http.PostForm(replicas[1].url+"/oauth/token", nil); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("a keeper issues tokens: %v, %v", resp, err)
	}

	renewed := strings.TrimSpace(replicas[2].ok("token", "ann", "--force"))
	if renewed == first || !k.active(renewed) {
		t.Errorf("a renewal gives %q", renewed)
	}
	eventually(t, func() bool { return strings.TrimSpace(replicas[1].ok("token", "ann")) == renewed })
}
