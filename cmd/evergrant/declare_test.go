package main

import (
	"crypto/sha1"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/secret"
	"golang.org/x/crypto/bcrypt"
)

// client is the Go client of the server, as its operator.
func (s *running) client() *evergrant.Client {
	s.t.Helper()
	token, err := os.ReadFile(filepath.Join(s.dir, adminTokenFile))
	if err != nil {
		s.t.Fatal(err)
	}
	return &evergrant.Client{Server: s.url, Token: secret.NewText(strings.TrimSpace(string(token)))}
}

// TestDeclaredInfo: what is known of a user follows the file, and nothing is
// saved where it has not changed.
func TestDeclaredInfo(t *testing.T) {
	dir, events := t.TempDir(), 2
	for _, step := range []struct {
		name, info, want string
		saves            int
	}{
		{"as it was", "", "", 0},
		{"given", ", info: {z: 1, a: [x]}", `{"z":1,"a":["x"]}`, 1},
		{"the same", ", info: {z: 1, a: [x]}", `{"z":1,"a":["x"]}`, 0},
		{"in another order", ", info: {a: [x], z: 1}", `{"a":["x"],"z":1}`, 1},
		{"empty", ", info: {}", `{}`, 1},
		{"gone", "", "", 1},
	} {
		s := start(t, dir, strings.Replace(seeds, "password: brent123", "password: brent123"+step.info, 1))
		events += step.saves
		user, err := s.client().User(t.Context(), "bshaffer")
		if err != nil || string(user.Info) != step.want {
			t.Errorf("%s: info %s, want %s; %v", step.name, user.Info, step.want, err)
		}
		if n := s.saved(); n != events {
			t.Errorf("%s: %d events, want %d", step.name, n, events)
		}
		s.login()
		s.stop()
	}
}

// TestDeclaredAfterImport declares what an import put there: the file wins, once,
// tokens of the other server go on, and secrets are kept in our form.
func TestDeclaredAfterImport(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, "")
	hashed, err := bcrypt.GenerateFromPassword([]byte("TestSecret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	forms := []secret.Verifier{}
	for _, text := range []string{string(hashed), fmt.Sprintf("{sha1}%x", sha1.Sum([]byte("brent123")))} {
		form, err := secret.ForeignVerifier(text)
		if err != nil {
			t.Fatal(err)
		}
		forms = append(forms, form)
	}
	_, err = s.client().Import(t.Context(), evergrant.ImportBatch{
		Source: "old", Profile: "bshaffer",
		Clients: []evergrant.ImportClient{{ID: "TestClient", Verifier: forms[0], GrantTypes: []string{"password", "refresh_token"}}, {ID: "other", Secret: secret.NewText("other secret")}},
		Users:   []evergrant.ImportUser{{Username: "bshaffer", Password: forms[1]}},
		Tokens:  []evergrant.ImportToken{{Token: secret.NewText("0123456789abcdef0123456789abcdef01234567"), ClientID: "TestClient", Subject: "bshaffer", Scope: "read"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if client, err := s.client().Client(t.Context(), "TestClient"); err != nil || client.ImportedFrom != "old" || client.Profile != "bshaffer" || client.SecretForms[0] != "bcrypt" {
		t.Errorf("imported %+v, %v", client, err)
	}
	s.stop()

	s = start(t, dir, seeds)
	n := s.saved()
	client, err := s.client().Client(t.Context(), "TestClient")
	if err != nil || client.ImportedFrom != "" || !client.Declared || client.Profile != "" || client.SecretForms[0] != "argon2id" {
		t.Errorf("declared %+v, %v", client, err)
	}
	s.login()
	s.stop()

	s = start(t, dir, seeds)
	if again := s.saved(); again != n {
		t.Errorf("the next start saves again: %d events, had %d", again, n)
	}
	if answer := s.refresh("0123456789abcdef0123456789abcdef01234567"); answer.Refresh == "" {
		t.Errorf("a token of the other server: %+v", answer)
	}
	if other, err := s.client().Client(t.Context(), "other"); err != nil || other.ImportedFrom != "old" {
		t.Errorf("one that is not in the file: %+v, %v", other, err)
	}
}
