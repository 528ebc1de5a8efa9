package evergrant_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

func TestClients(t *testing.T) {
	_, client := start(t)
	ctx := t.Context()
	sent := evergrant.Registration{
		ID: "films/2", Name: "Films", RedirectURIs: []string{"https://films.example/"}, GrantTypes: []string{"authorization_code", "refresh_token"},
		Scopes: oauth.Scope{"read", "write"}, Introspect: true, Trusted: true, Tenant: "shop", AccessTokenLifetime: "5m", CodeLifetime: "30s",
		RefreshTokenLifetime: "30d", GrantLifetime: "0", Rotation: "public_clients", RetryWindow: "0", Format: "opaque", SigningAlg: "EdDSA",
		Profile: "fos", PKCE: "public_clients", Redirects: "exact",
		Secrets: 7, SecretForms: []string{"x"}, ImportedFrom: "x", Declared: true, CreatedAt: time.Unix(1, 0), // what the server tells is not sent
	}
	created, generated, err := client.CreateClient(ctx, sent, evergrant.SecretChange{})
	if err != nil || !secret.Generated(generated) {
		t.Fatalf("secret %v, error %v", generated, err)
	}
	if created.CreatedAt.IsZero() || created.CreatedAt.Equal(sent.CreatedAt) {
		t.Errorf("created at %v", created.CreatedAt)
	}
	want := sent
	want.Secrets, want.Declared, want.CreatedAt, want.UpdatedAt = 1, false, created.CreatedAt, created.UpdatedAt
	want.SecretForms, want.ImportedFrom = []string{"hmac-sha256"}, ""
	if !reflect.DeepEqual(created, want) {
		t.Errorf("created %+v\n   want %+v", created, want)
	}
	if read, err := client.Client(ctx, "films/2"); err != nil || !reflect.DeepEqual(read, want) {
		t.Errorf("read %+v, error %v", read, err)
	}

	patch := map[string]any{"name": nil, "scopes": []string{"read"}, "grant_lifetime": "90d"}
	updated, generated, err := client.UpdateClient(ctx, "films/2", patch, evergrant.SecretChange{Set: secret.NewText("chosen"), KeepOld: true})
	if err != nil || !generated.Empty() || updated.Name != "" || updated.GrantLifetime != "90d" || updated.Secrets != 2 || len(updated.Scopes) != 1 ||
		!slices.Equal(updated.SecretForms, []string{"argon2id", "hmac-sha256"}) {
		t.Errorf("updated %+v, secret %v, error %v", updated, generated, err)
	}
	updated, generated, err = client.UpdateClient(ctx, "films/2", nil, evergrant.SecretChange{Generate: true})
	if err != nil || !secret.Generated(generated) || updated.Secrets != 1 {
		t.Errorf("updated %+v, secret %v, error %v", updated, generated, err)
	}
	if len(patch) != 3 {
		t.Errorf("the patch of the caller was changed: %v", patch)
	}
	if err := client.DeleteClient(ctx, "films/2"); err != nil {
		t.Error(err)
	}
	public, generated, err := client.CreateClient(ctx, evergrant.Registration{ID: "phone", Public: true}, evergrant.SecretChange{})
	if err != nil || !public.Public || public.Secrets != 0 || !generated.Empty() {
		t.Errorf("public %+v, secret %v, error %v", public, generated, err)
	}
	chosen, generated, err := client.CreateClient(ctx, evergrant.Registration{ID: "chosen"}, evergrant.SecretChange{Set: secret.NewText("one")})
	if err != nil || chosen.Secrets != 1 || !generated.Empty() {
		t.Errorf("chosen %+v, secret %v, error %v", chosen, generated, err)
	}
}

func TestUsers(t *testing.T) {
	_, client := start(t)
	ctx := t.Context()
	bob, err := client.CreateUser(ctx, evergrant.User{Username: "Bob Böhm"}, secret.NewText("builder"))
	if err != nil || bob.Username != "Bob Böhm" || bob.CreatedAt.IsZero() || bob.Declared {
		t.Fatalf("created %+v, error %v", bob, err)
	}
	if read, err := client.User(ctx, "Bob Böhm"); err != nil || !reflect.DeepEqual(read, bob) {
		t.Errorf("read %+v, error %v", read, err)
	}
	if changed, err := client.SetPassword(ctx, "Bob Böhm", secret.NewText("carpenter")); err != nil || !changed.CreatedAt.Equal(bob.CreatedAt) {
		t.Errorf("changed %+v, error %v", changed, err)
	}
	info := json.RawMessage(`{"z":1,"a":[{"guid":"x"}]}`)
	if changed, err := client.SetInfo(ctx, "Bob Böhm", info); err != nil || string(changed.Info) != string(info) {
		t.Errorf("changed %+v, error %v", changed, err)
	}
	if read, err := client.User(ctx, "Bob Böhm"); err != nil || string(read.Info) != string(info) || read.ImportedFrom != "" {
		t.Errorf("read %+v, error %v", read, err)
	}
	for _, none := range []json.RawMessage{nil, {}, json.RawMessage("null")} {
		if changed, err := client.SetInfo(ctx, "Bob Böhm", none); err != nil || changed.Info != nil {
			t.Errorf("%q: changed %+v, error %v", none, changed, err)
		}
	}
	carl, err := client.CreateUser(ctx, evergrant.User{Username: "carl", Info: info, Declared: true}, secret.NewText("cartwright"))
	if err != nil || string(carl.Info) != string(info) || carl.Declared {
		t.Errorf("created %+v, error %v", carl, err)
	}
	if err := client.DeleteUser(ctx, "carl"); err != nil {
		t.Error(err)
	}
	var names []string
	for user, err := range client.Users(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, user.Username)
	}
	if !slices.Equal(names, []string{"Bob Böhm", "alice"}) {
		t.Errorf("users %q", names)
	}
	if err := client.DeleteUser(ctx, "Bob Böhm"); err != nil {
		t.Error(err)
	}
}

// refreshToken gets a grant of alice's, and returns its refresh token.
func refreshToken(t *testing.T, s *server) secret.Text {
	t.Helper()
	token, err := s.grant()
	if err != nil {
		t.Fatal(err)
	}
	return secret.NewText(token.RefreshToken)
}

func TestGrants(t *testing.T) {
	s, client := start(t)
	ctx := t.Context()
	token := refreshToken(t, s)
	var grants []evergrant.Grant
	for grant, err := range client.Grants(ctx, evergrant.GrantFilter{ClientID: "photos", Subject: "alice"}) {
		if err != nil {
			t.Fatal(err)
		}
		grants = append(grants, grant)
	}
	if len(grants) != 1 || grants[0].ClientID != "photos" || grants[0].Subject != "alice" || !grants[0].Alive || grants[0].Generation != 1 ||
		grants[0].Scope.String() != "read" || grants[0].ExpiresAt.IsZero() || grants[0].KeyID != 1 {
		t.Fatalf("grants %+v", grants)
	}
	for range client.Grants(ctx, evergrant.GrantFilter{Subject: "bob"}) {
		t.Error("bob has a grant")
	}
	id := grants[0].ID
	if read, err := client.Grant(ctx, id); err != nil || !reflect.DeepEqual(read, grants[0]) {
		t.Errorf("read %+v, error %v", read, err)
	}

	explanation, err := client.Explain(ctx, token)
	if err != nil || !explanation.Alive || explanation.Kind != "refresh_token" || explanation.Grant == nil || !explanation.Grant.Alive || explanation.Verdict == "" {
		t.Errorf("explanation %+v, error %v", explanation, err)
	}
	if n, err := client.RevokeGrants(ctx, evergrant.GrantFilter{Subject: "bob"}); n != 0 || err != nil {
		t.Errorf("revoked %d of bob's, error %v", n, err)
	}
	if _, err := client.RevokeGrants(ctx, evergrant.GrantFilter{}); err == nil {
		t.Error("a filter that chooses all is taken")
	}
	if n, err := client.RevokeGrants(ctx, evergrant.GrantFilter{ClientID: grants[0].ClientID, Subject: grants[0].Subject}); n != len(grants) || err != nil {
		t.Errorf("revoked %d of %d, error %v", n, len(grants), err)
	}
	if err := client.RevokeGrant(ctx, id); err != nil {
		t.Error(err)
	}
	explanation, err = client.Explain(ctx, secret.NewText(id))
	if err != nil || explanation.Alive || explanation.Kind != "grant" || explanation.Grant.RevokedCause != "operator_request" || len(explanation.Events) < 2 {
		t.Errorf("explanation %+v, error %v", explanation, err)
	}

	var types []string
	for event, err := range client.Events(ctx, evergrant.EventFilter{Grant: id, ClientID: "photos", Subject: "alice", Type: "grant."}) {
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, event.Type)
		if event.ID == 0 || event.At.IsZero() || event.Grant != id || event.Actor == "" || event.Address != "127.0.0.1" {
			t.Errorf("event %+v", event)
		}
	}
	if !slices.Equal(types, []string{"grant.revoked", "grant.created"}) {
		t.Errorf("events %q", types)
	}
}

func TestHabits(t *testing.T) {
	s, client := start(t)
	ctx := t.Context()
	all := func(id string) (found []evergrant.Habit) {
		t.Helper()
		for habit, err := range client.Habits(ctx, id) {
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, habit)
		}
		return found
	}
	refreshToken(t, s)
	refreshToken(t, s)
	habits := all("photos")
	if len(habits) != 1 || habits[0].ClientID != "photos" || habits[0].Habit != "password_grant" || habits[0].Count != 2 || habits[0].Past ||
		habits[0].Setting != "grant_types: without password" || habits[0].Does == "" || habits[0].First.IsZero() || habits[0].Last.Before(habits[0].First) {
		t.Errorf("habits %+v", habits)
	}
	if len(all("")) != 1 || len(all("nobody")) != 0 {
		t.Errorf("of all %+v, of nobody %+v", all(""), all("nobody"))
	}
	if err := client.ForgetHabits(ctx, "photos"); err != nil || len(all("")) != 0 {
		t.Errorf("forgotten: %v, and left %+v", err, all(""))
	}
	if problem, ok := errors.AsType[*evergrant.Problem](client.ForgetHabits(ctx, "a/b")); !ok || problem.Status != http.StatusNotFound {
		t.Errorf("of a client that is not there: %+v", problem)
	}
}

func TestKeys(t *testing.T) {
	_, client := start(t)
	ctx := t.Context()
	pending, err := client.RotateKeys(ctx, time.Hour)
	if err != nil || pending.ID != 2 || pending.State != evergrant.KeyPending {
		t.Fatalf("key %+v, error %v", pending, err)
	}
	if lead := pending.ActiveFrom.Sub(pending.CreatedAt); lead != time.Hour {
		t.Errorf("the key begins %v after it was made", lead)
	}
	current, err := client.RotateKeys(ctx, 0)
	if err != nil || current.ID != 3 || current.State != evergrant.KeyCurrent {
		t.Fatalf("key %+v, error %v", current, err)
	}
	if err := client.DeleteKey(ctx, 1); err != nil {
		t.Error(err)
	}
	keys, err := client.Keys(ctx)
	if err != nil || len(keys) != 2 || keys[0].ID != 2 || keys[1].ID != 3 || keys[1].RS256 {
		t.Errorf("keys %+v, error %v", keys, err)
	}
}

func TestPurgeAndStats(t *testing.T) {
	s, client := start(t)
	refreshToken(t, s)
	if purged, err := client.Purge(t.Context()); err != nil || purged != (evergrant.Purged{}) {
		t.Errorf("purged %+v, error %v", purged, err)
	}
	stats, err := client.Stats(t.Context())
	if err != nil || stats.DatabaseBytes <= 0 || stats.Rows["grants"] != 1 || stats.Rows["users"] != 1 {
		t.Errorf("stats %+v, error %v", stats, err)
	}
}

// Lists are read page by page: all of it, as often as one likes, and no further
// than one looks.
func TestPaging(t *testing.T) {
	s, _ := start(t)
	for n := range 150 {
		_, err := s.admin.SaveClient(t.Context(), issuer.Actor{Name: "operator"}, issuer.Client{ID: fmt.Sprintf("client %03d", n)})
		if err != nil {
			t.Fatal(err)
		}
	}
	requests := 0
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		requests++
		s.Config.Handler.ServeHTTP(w, r)
	})
	list := client.Clients(t.Context())
	for range 2 {
		var ids []string
		for client, err := range list {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, client.ID)
		}
		if len(ids) != 151 || !slices.IsSorted(ids) || len(slices.Compact(ids)) != 151 {
			t.Errorf("%d clients: %s", len(ids), strings.Join(ids, ", "))
		}
	}
	if requests != 4 {
		t.Errorf("%d requests for two times two pages", requests)
	}
	for range list {
		break
	}
	if requests != 5 {
		t.Errorf("%d requests after the first client of a third time", requests)
	}
}
