package web

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
)

// login gets tokens of alice's by the password grant for a client with the
// secret of photos.
func (s *server) login(id string) {
	s.t.Helper()
	if r := s.tokenRequest(id, photosSecret, "grant_type", "password", "username", "alice", "password", "wonderland"); r.status != http.StatusOK {
		s.t.Fatalf("status %d", r.status)
	}
}

func TestHabits(t *testing.T) {
	s := start(t, false)
	if r := s.mustAPI(http.StatusOK, "GET", "/v1/habits", ""); r.body != `{"items":[]}` {
		t.Errorf("before all: %s", r.body)
	}
	s.login("photos")
	begun := s.clock.now()
	s.clock.advance(time.Minute)
	_, token := s.grant()
	for range 3 {
		s.tokenRequest("photos", photosSecret, "grant_type", "refresh_token", "refresh_token", token)
	}
	// What just happened is there, although it was not stored yet.
	items := s.mustAPI(http.StatusOK, "GET", "/v1/habits?client=photos", "").field(t, "items").([]any)
	if len(items) != 2 {
		t.Fatalf("habits %v", items)
	}
	seconds := func(at time.Time) string { return at.UTC().Truncate(time.Second).Format(time.RFC3339) }
	for i, want := range []map[string]any{
		{"client_id": "photos", "habit": "password_grant", "count": 2.0, "setting": "grant_types: without password", "past": false, "does": "asks resource owners for their passwords"},
		{"client_id": "photos", "habit": "retried_refresh_token", "count": 2.0, "setting": "refresh_token_retry_window: 0", "past": false},
	} {
		is := items[i].(map[string]any)
		for member, value := range want {
			if is[member] != value {
				t.Errorf("%s is %v, want %v", member, is[member], value)
			}
		}
		first, _ := time.Parse(time.RFC3339, is["first"].(string))
		last, _ := time.Parse(time.RFC3339, is["last"].(string))
		if i == 0 && (seconds(first) != seconds(begun) || seconds(last) != seconds(s.clock.now())) {
			t.Errorf("from %v to %v", first, last)
		}
	}
	s.mustAPI(http.StatusOK, "PATCH", "/v1/clients/photos", `{"refresh_token_retry_window":"0"}`)
	items = s.mustAPI(http.StatusOK, "GET", "/v1/habits", "").field(t, "items").([]any)
	if items[0].(map[string]any)["past"] != false || items[1].(map[string]any)["past"] != true {
		t.Errorf("after it was tightened: %v", items)
	}

	s.login("photos")
	if r := s.mustAPI(http.StatusNoContent, "DELETE", "/v1/clients/photos/habits", ""); r.body != "" {
		t.Errorf("forgotten: %s", r.body)
	}
	s.mustAPI(http.StatusNoContent, "DELETE", "/v1/clients/photos/habits", "")
	if r := s.mustAPI(http.StatusOK, "GET", "/v1/habits", ""); r.body != `{"items":[]}` {
		t.Errorf("afterwards: %s", r.body)
	}
	s.login("photos")
	items = s.mustAPI(http.StatusOK, "GET", "/v1/habits", "").field(t, "items").([]any)
	if len(items) != 1 || items[0].(map[string]any)["count"] != 1.0 {
		t.Errorf("counted anew: %v", items)
	}
}

// TestHabitPages reads the list in pages of each size, with ids that have all
// that separates.
func TestHabitPages(t *testing.T) {
	s := start(t, false)
	var want []string
	for _, id := range []string{"a:b", "a:b:c", "d&e=f", "g h"} {
		s.saveClient(issuer.Client{ID: id, Secrets: []secret.Verifier{secret.NewVerifier(photosSecret)}, GrantTypes: []string{"password"}})
		s.login(id)
		want = append(want, id+" password_grant")
	}
	for limit := 1; limit <= len(want); limit++ {
		var got []string
		for query := form("limit", fmt.Sprint(limit)); ; {
			r := s.mustAPI(http.StatusOK, "GET", "/v1/habits?"+query.Encode(), "")
			for _, item := range r.field(t, "items").([]any) {
				got = append(got, fmt.Sprint(item.(map[string]any)["client_id"], " ", item.(map[string]any)["habit"]))
			}
			next, more := r.field(t, "next").(string)
			if !more {
				break
			}
			query.Set("cursor", next)
		}
		if !slices.Equal(got, want) {
			t.Errorf("by %d: %q", limit, got)
		}
	}
}
