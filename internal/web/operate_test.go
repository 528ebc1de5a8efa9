package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/testdb"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
)

// states are the keys' numbers and states.
func (s *server) states() string {
	s.t.Helper()
	var states []string
	for _, item := range s.mustAPI(http.StatusOK, "GET", "/v1/keys", "").field(s.t, "items").([]any) {
		key := item.(map[string]any)
		states = append(states, fmt.Sprint(key["id"], " ", key["state"]))
	}
	return strings.Join(states, ", ")
}

func TestKeys(t *testing.T) {
	s := start(t, false)
	want := func(states string) {
		t.Helper()
		if got := s.states(); got != states {
			t.Errorf("keys are %s, want %s", got, states)
		}
	}
	want("1 current")
	r := s.mustAPI(http.StatusCreated, "POST", "/v1/keys", "")
	if r.field(t, "id") != 2.0 || r.field(t, "state") != "pending" || r.field(t, "rs256") != false || r.field(t, "sealed_rsa") != nil {
		t.Errorf("new key %s", r.body)
	}
	want("1 current, 2 pending")
	wantProblem(t, s.api("DELETE", "/v1/keys/1", ""), http.StatusConflict, "only a retired key can be deleted")
	s.clock.advance(10 * time.Minute)
	want("1 retired, 2 current")
	s.mustAPI(http.StatusCreated, "POST", "/v1/keys", `{"lead":"0"}`)
	want("1 retired, 2 retired, 3 current")
	s.mustAPI(http.StatusCreated, "POST", "/v1/keys", `{"lead":"1d"}`)
	s.mustAPI(http.StatusNoContent, "DELETE", "/v1/keys/1", "")
	want("2 retired, 3 current, 4 pending")
	s.clock.advance(24*time.Hour - time.Second)
	want("2 retired, 3 current, 4 pending")
	s.clock.advance(time.Second)
	want("2 retired, 3 retired, 4 current")
	s.mustAPI(http.StatusCreated, "POST", "/v1/keys", `{"lead":""}`)
	want("2 retired, 3 retired, 4 current, 5 pending")
}

func TestStats(t *testing.T) {
	s := start(t, false)
	before := s.mustAPI(http.StatusOK, "GET", "/v1/stats", "")
	if size, _ := before.field(t, "database_bytes").(float64); size <= 0 || len(before.field(t, "rows").(map[string]any)) == 0 {
		t.Errorf("stats %s", before.body)
	}
}

func TestPurgeOfNothing(t *testing.T) {
	s := start(t, false)
	s.grant()
	if r := s.mustAPI(http.StatusOK, "POST", "/v1/purge", ""); r.body != `{"grants":0,"access_tokens":0,"events":0}` {
		t.Errorf("purged %s", r.body)
	}
}

func TestBackup(t *testing.T) {
	s := start(t, false)
	id, _ := s.grant()
	r := s.mustAPI(http.StatusOK, "GET", "/v1/backup", "")
	if r.header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("content type %q", r.header.Get("Content-Type"))
	}
	restored, err := testdb.Restore(t, []byte(r.body)).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer restored.Close()
	grantID, _ := issuer.ParseGrantID(id)
	if _, err := restored.Grant(t.Context(), grantID); err != nil {
		t.Errorf("the grant is not in the copy: %v", err)
	}
}

// failingBackup is a database whose copy fails after some bytes.
type failingBackup struct {
	*testdb.DB
	after int
}

func (f failingBackup) Backup(_ context.Context, w io.Writer) error {
	if f.after > 0 {
		w.Write(make([]byte, f.after))
	}
	return errors.New("the disk is gone")
}

func TestBackupThatFails(t *testing.T) {
	s := start(t, false)
	serve := func(after int) {
		s.serve(NewAPI(APIConfig{
			Token: secret.NewText(s.token), Admin: s.admin, Database: failingBackup{s.db, after}, Log: s.log.logger(),
		}))
	}
	serve(0)
	wantProblem(t, s.api("GET", "/v1/backup", ""), http.StatusServiceUnavailable, "database is unavailable")

	// After it has begun it must not look whole.
	serve(1 << 16)
	req := s.request("GET", "/v1/backup", "")
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := s.http.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("reading ended with %v, want %v", err, io.ErrUnexpectedEOF)
	}
	if !strings.Contains(s.log.String(), "the disk is gone") {
		t.Error("the log does not say why")
	}
}
