package evergrant_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/secret"
)

// oldBatch is what another server has: a client, a user, and two tokens.
func oldBatch() evergrant.ImportBatch {
	soon := time.Now().Add(time.Hour)
	return evergrant.ImportBatch{
		Source: "fos at db.example/shop",
		Clients: []evergrant.ImportClient{
			{ID: "1_old", Name: "Old", Secret: secret.NewText("old secret"), RedirectURIs: []string{"https://old.example/", "/"}, GrantTypes: []string{"refresh_token"}, Scope: "read", Trusted: true},
			{ID: "2_public"}, {ID: "3_hashed", Verifier: "{sha1}0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33"},
		},
		Users: []evergrant.ImportUser{{Username: "ann", Password: "{sha1}0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33", Info: json.RawMessage(`{"guid":"7"}`)}},
		Tokens: []evergrant.ImportToken{
			{Token: secret.NewText("old refresh"), ClientID: "1_old", Subject: "ann", Scope: "read admin", IssuedAt: soon.Add(-2 * time.Hour)},
			{Access: true, Token: secret.NewText("old access"), ClientID: "1_old", ExpiresAt: soon},
			{Token: secret.NewText(""), ClientID: "1_old", Subject: "ann"},
			{Token: secret.NewText("endless"), ClientID: "1_old", Subject: "ann", ExpiresAt: time.Unix(1<<40, 0)},
		},
	}
}

func TestImport(t *testing.T) {
	s, client := start(t)
	ctx, batch := t.Context(), oldBatch()
	batch.DryRun = true
	would, err := client.Import(ctx, batch)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.Client(ctx, "1_old"); err == nil {
		t.Error("a dry run writes")
	}
	batch.DryRun = false
	report, err := client.Import(ctx, batch)
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]evergrant.ImportReport{"dry run": would, "real run": report} {
		if r.Clients.Created != 3 || r.Users.Created != 1 || r.Tokens.Created != 3 || len(r.IDs) != 4 || r.IDs[2] != "" || r.At.IsZero() ||
			!slices.Equal(r.UnknownScopes, []string{"admin", "read"}) || !slices.Equal(r.IDs, report.IDs) {
			t.Errorf("%s: %+v", name, r)
		}
		want := []evergrant.ImportSkip{
			{Kind: "client", Name: "1_old", Reason: "without one of its redirect URIs: it is not an absolute URI", Part: true},
			{Kind: "token", Name: "of client 1_old, user ann", Reason: "the token is empty"},
		}
		if !slices.Equal(r.Skipped, want) {
			t.Errorf("%s skipped %+v", name, r.Skipped)
		}
	}
	stored, err := s.db.Client(ctx, "1_old")
	if err != nil || stored.Name != "Old" || !stored.Trusted || stored.Scopes.String() != "read" || !stored.Secrets[0].Verify(secret.NewText("old secret")) || stored.Foreign != batch.Source {
		t.Errorf("client %+v, %v", stored, err)
	}
	if public, err := s.db.Client(ctx, "2_public"); err != nil || !public.Public() {
		t.Errorf("client %+v, %v", public, err)
	}
	if hashed, err := s.db.Client(ctx, "3_hashed"); err != nil || !hashed.Secrets[0].Verify(secret.NewText("foo")) {
		t.Errorf("client %+v, %v", hashed, err)
	}
	if ann, err := s.db.User(ctx, "ann"); err != nil || string(ann.Info) != `{"guid":"7"}` || !ann.Password.Verify(secret.NewText("foo")) {
		t.Errorf("user %+v, %v", ann, err)
	}
	grant, err := client.Grant(ctx, report.IDs[0])
	if err != nil || grant.Subject != "ann" || grant.Scope.String() != "read admin" || !grant.ExpiresAt.IsZero() || !grant.CreatedAt.Equal(batch.Tokens[0].IssuedAt.Truncate(time.Millisecond)) {
		t.Errorf("grant %+v, %v", grant, err)
	}
	if grant, err = client.Grant(ctx, report.IDs[1]); err != nil || grant.Subject != "1_old" || !grant.AccessExpiresAt.Equal(batch.Tokens[1].ExpiresAt.Truncate(time.Millisecond)) {
		t.Errorf("grant %+v, %v", grant, err)
	}

	if grant, err = client.Grant(ctx, report.IDs[3]); err != nil || grant.ExpiresAt.Year() != 9999 {
		t.Errorf("grant %+v, %v", grant, err)
	}

	gone := evergrant.ImportGone{Source: batch.Source, ClientID: "1_old", Live: []string{report.IDs[0], report.IDs[3]}, ReadAt: report.At, DryRun: true}
	for range 2 {
		counted, err := client.ImportGone(ctx, gone)
		if err != nil || counted != (evergrant.ImportedGone{Imported: 3, Revoked: 1}) {
			t.Errorf("dry run %v: %+v, %v", gone.DryRun, counted, err)
		}
		gone.DryRun = false
	}
	if grant, err = client.Grant(ctx, report.IDs[1]); err != nil || grant.RevokedCause != "import_gone" {
		t.Errorf("grant %+v, %v", grant, err)
	}
	gone.After, gone.Until = report.IDs[0], report.IDs[0]
	if counted, err := client.ImportGone(ctx, gone); err != nil || counted != (evergrant.ImportedGone{}) {
		t.Errorf("an empty range: %+v, %v", counted, err)
	}
}

func TestImportRefused(t *testing.T) {
	_, client := start(t)
	if _, err := client.Import(t.Context(), evergrant.ImportBatch{Source: "x", Profile: "none"}); problemStatus(err) != http.StatusBadRequest || !strings.Contains(err.Error(), `no profile "none"`) {
		t.Errorf("an unknown profile: %v", err)
	}
	many := evergrant.ImportBatch{Source: "x", Users: make([]evergrant.ImportUser, 1001)}
	if _, err := client.Import(t.Context(), many); problemStatus(err) != http.StatusBadRequest {
		t.Errorf("too many users: %v", err)
	}
	if _, err := client.ImportGone(t.Context(), evergrant.ImportGone{Source: "x", ClientID: "a", Live: []string{"x"}}); problemStatus(err) != http.StatusBadRequest {
		t.Errorf("no id: %v", err)
	}
}

func problemStatus(err error) int {
	if problem, ok := err.(*evergrant.Problem); ok {
		return problem.Status
	}
	return 0
}

// TestImportInClear: the secrets of a batch are in the body of its request, and
// print nowhere else.
func TestImportInClear(t *testing.T) {
	var body, url string
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		body, url = string(text), r.URL.String()
		io.WriteString(w, `{}`)
	})
	batch := oldBatch()
	batch.Revive = true
	if _, err := client.Import(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	printed := fmt.Sprintf("%v %+v %#v", batch, batch, batch)
	asJSON, _ := json.Marshal(batch)
	for _, text := range []string{"old secret", "old refresh", "old access"} {
		if strings.Count(body, text) != 1 || strings.Contains(printed+string(asJSON)+url, text) {
			t.Errorf("%q is %d times in the body, or elsewhere", text, strings.Count(body, text))
		}
	}
	if url != "/v1/import" || !strings.Contains(body, `"revive":true`) {
		t.Errorf("sent to %s", url)
	}
}
