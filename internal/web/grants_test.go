package web

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestGrantLife(t *testing.T) {
	s := start(t, false)
	id, token := s.grant()
	r := s.mustAPI(http.StatusOK, "GET", "/v1/grants/"+id, "")
	for field, want := range map[string]any{
		"id": id, "client_id": "photos", "subject": "alice", "generation": 1.0, "alive": true, "retries": 0.0, "revoked_at": nil,
	} {
		if got := r.field(t, field); got != want {
			t.Errorf("%s is %v, want %v", field, got, want)
		}
	}
	for query, want := range map[string]int{
		"": 1, "?client=photos": 1, "?subject=alice": 1, "?client=photos&subject=alice": 1,
		"?client=films": 0, "?subject=bob": 0, "?cursor=" + id: 0, "?cursor=00000000000000000000000000000000": 1,
	} {
		if items := s.mustAPI(http.StatusOK, "GET", "/v1/grants"+query, "").field(t, "items").([]any); len(items) != want {
			t.Errorf("%q lists %d grants, want %d", query, len(items), want)
		}
	}

	for range 2 { // revoking again is no error
		s.mustAPI(http.StatusNoContent, "DELETE", "/v1/grants/"+id, "")
	}
	r = s.mustAPI(http.StatusOK, "GET", "/v1/grants/"+id, "")
	if r.field(t, "alive") != false || r.field(t, "revoked_cause") != "operator_request" {
		t.Errorf("revoked: %s", r.body)
	}
	if r := s.tokenRequest("photos", photosSecret, "grant_type", "refresh_token", "refresh_token", token); r.status != http.StatusBadRequest {
		t.Errorf("a revoked grant was refreshed: %d", r.status)
	}
}

// TestRevokeAllOf: all grants of a client or of an owner, and never all there are.
func TestRevokeAllOf(t *testing.T) {
	s := start(t, false)
	for query, want := range map[string]float64{"client=films": 0, "subject=bob": 0, "client=photos&subject=bob": 0, "client=photos": 2, "subject=alice": 2, "client=photos&subject=alice": 2} {
		_, first := s.grant()
		s.grant()
		if r := s.mustAPI(http.StatusOK, "DELETE", "/v1/grants?"+query, ""); r.field(t, "revoked") != want {
			t.Errorf("%s: %s, want %v", query, r.body, want)
		}
		r := s.tokenRequest("photos", photosSecret, "grant_type", "refresh_token", "refresh_token", first)
		if (r.status == http.StatusOK) != (want == 0) {
			t.Errorf("%s: a refresh afterwards is answered with %d", query, r.status)
		}
		s.mustAPI(http.StatusOK, "DELETE", "/v1/grants?client=photos", "")
	}
	wantProblem(t, s.api("DELETE", "/v1/grants", ""), http.StatusBadRequest, "is not said")
	wantProblem(t, s.api("DELETE", "/v1/grants?id=1", ""), http.StatusBadRequest, "is not said")
}

func TestExpiredGrantIsNotAlive(t *testing.T) {
	s := start(t, false)
	id, _ := s.grant()
	s.clock.advance(15 * 24 * time.Hour)
	if r := s.mustAPI(http.StatusOK, "GET", "/v1/grants/"+id, ""); r.field(t, "alive") != false {
		t.Errorf("%s", r.body)
	}
	r := s.mustAPI(http.StatusOK, "POST", "/v1/purge", "")
	if r.field(t, "grants") != 1.0 {
		t.Errorf("purged %s", r.body)
	}
	wantProblem(t, s.api("GET", "/v1/grants/"+id, ""), http.StatusNotFound, "")
}

func TestExplain(t *testing.T) {
	s := start(t, false)
	id, token := s.grant()
	for name, of := range map[string]string{"grant": id, "refresh_token": token} {
		r := s.mustAPI(http.StatusOK, "POST", "/v1/explain", `{"of":"`+of+`"}`)
		if r.field(t, "kind") != name || r.field(t, "alive") != true || r.field(t, "grant.alive") != true || r.field(t, "grant.id") != id {
			t.Errorf("%s: %s", name, r.body)
		}
		if strings.Contains(r.body, token) || strings.Contains(s.log.String(), token) {
			t.Error("the token is in the answer or the log")
		}
	}
	if r := s.tokenRequest("photos", photosSecret, "grant_type", "refresh_token", "refresh_token", token); r.status != http.StatusOK {
		t.Errorf("explaining spent the token: %s", r.body)
	}
	s.mustAPI(http.StatusNoContent, "DELETE", "/v1/grants/"+id, "")
	r := s.mustAPI(http.StatusOK, "POST", "/v1/explain", `{"of":"`+token+`"}`)
	if r.field(t, "alive") != false || r.field(t, "grant.alive") != false || r.field(t, "cause") == nil || len(r.field(t, "events").([]any)) == 0 {
		t.Errorf("revoked: %s", r.body)
	}
}

func TestEvents(t *testing.T) {
	s := start(t, false)
	first, _ := s.grant()
	second, _ := s.grant()
	s.mustAPI(http.StatusNoContent, "DELETE", "/v1/grants/"+first, "")
	for query, want := range map[string]string{
		"?grant=" + first:                      "grant.revoked grant.created",
		"?grant=" + second:                     "grant.created",
		"?type=grant.":                         "grant.revoked grant.created grant.created",
		"?type=grant.revoked":                  "grant.revoked",
		"?type=grant.&subject=bob":             "",
		"?type=client.&client=photos":          "client.saved",
		"?type=grant.created&grant=" + second:  "grant.created",
		"?type=grant.&subject=alice&limit=500": "grant.revoked grant.created grant.created",
	} {
		var types []string
		for _, item := range s.mustAPI(http.StatusOK, "GET", "/v1/events"+query, "").field(t, "items").([]any) {
			types = append(types, item.(map[string]any)["type"].(string))
		}
		if got := strings.Join(types, " "); got != want {
			t.Errorf("%s lists %q, want %q", query, got, want)
		}
	}
	r := s.mustAPI(http.StatusOK, "GET", "/v1/events?type=grant.&limit=2", "")
	r = s.mustAPI(http.StatusOK, "GET", "/v1/events?type=grant.&limit=2&cursor="+r.field(t, "next").(string), "")
	if len(r.field(t, "items").([]any)) != 1 || r.field(t, "next") != nil {
		t.Errorf("second page: %s", r.body)
	}
}
