package web

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/providertest"
)

func TestToken(t *testing.T) {
	s := start(t, false, providertest.Plain())
	grant, tokens := s.imports("one", "plain", "alice", "")
	r := s.mustAPI(http.StatusOK, "GET", "/v1/connections/one/token", "")
	if r.field(t, "access_token") != tokens.AccessToken.Reveal() || r.field(t, "token_type") != "Bearer" || r.field(t, "refresh_token") != nil {
		t.Errorf("token %s", r.body)
	}
	if left, _ := r.field(t, "expires_in").(float64); left < 3590 || left > 3600 {
		t.Errorf("expires_in %v", r.field(t, "expires_in"))
	}
	at, err := time.Parse(time.RFC3339Nano, r.field(t, "expires_at").(string))
	if err != nil || at.Sub(s.clock.now()).Round(time.Minute) != time.Hour {
		t.Errorf("expires_at %v, %v", at, err)
	}
	s.clock.advance(30 * time.Minute)
	for query, refreshed := range map[string]bool{
		"?min_ttl=60s": false, "?min_ttl=25m": false, "?min_ttl=600": false, "?min_ttl=0": false, "?force=false": false, "?min_ttl=0&force=0": false,
		"?force=true": true, "?force=1": true, "?min_ttl=50m": true, "?min_ttl=2400": true, "?min_ttl=1d": true,
	} {
		t.Run(query, func(t *testing.T) {
			before := s.sims["plain"].Stats().Requests["refresh"]
			r := s.mustAPI(http.StatusOK, "GET", "/v1/connections/one/token"+query, "")
			after := s.sims["plain"].Stats().Requests["refresh"]
			if (after > before) != refreshed || after > before+1 {
				t.Errorf("%d refreshes: %s", after-before, r.body)
			}
			if !s.sims["plain"].Alive(r.field(t, "access_token").(string)) {
				t.Error("the token is dead")
			}
			s.clock.advance(30 * time.Minute)
			s.mustAPI(http.StatusOK, "GET", "/v1/connections/one/token?force=true", "") // as fresh as before
			s.clock.advance(30 * time.Minute)
		})
	}
	if state := s.sims["plain"].Grant(grant).State; state != providertest.Live {
		t.Errorf("the grant is %s", state)
	}
}

// Many who ask at once are answered by one refresh.
func TestTokenForMany(t *testing.T) {
	s := start(t, false, providertest.Plain())
	s.imports("one", "plain", "alice", "")
	s.clock.advance(2 * time.Hour)
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			if r := s.api("GET", "/v1/connections/one/token", ""); r.status != http.StatusOK {
				t.Errorf("%d: %s", r.status, r.body)
			}
		})
	}
	wait.Wait()
	if n := s.sims["plain"].Stats().Requests["refresh"]; n != 1 {
		t.Errorf("%d refreshes", n)
	}
}

// TestDeadConnection: only the owner can repair it, and whoever may let them is
// told where.
func TestDeadConnection(t *testing.T) {
	s := start(t, false, providertest.Plain())
	grant, _ := s.imports("one", "plain", "alice", "")
	s.sims["plain"].Revoke(grant)
	s.clock.advance(2 * time.Hour)
	user, reader := s.client("user", "", ScopeToken), s.client("reader", "", ScopeRead)
	for name, token := range map[string]string{"operator": s.token, "user": user} {
		t.Run(name, func(t *testing.T) {
			r := s.as(token, "GET", "/v1/connections/one/token", "")
			wantProblem(t, r, http.StatusConflict, "Connection one at plain is reauthorize (revoked)")
			for field, want := range map[string]any{
				"code": "reauthorization_required", "connection": "one", "provider": "plain", "state": "reauthorize", "cause": "revoked",
			} {
				if got := r.field(t, field); got != want {
					t.Errorf("%s is %v, want %v", field, got, want)
				}
			}
			if since, err := time.Parse(time.RFC3339Nano, r.field(t, "since").(string)); err != nil || since.After(s.clock.now()) {
				t.Errorf("since %v, %v", since, err)
			}
			link, _ := r.field(t, "connect_url").(string)
			if !strings.HasPrefix(link, s.url+"/connect/") || r.field(t, "next") == "" {
				t.Errorf("no way to repair it: %s", r.body)
			}
			path := strings.TrimPrefix(link, s.url)
			wantPage(t, s.get(s.browser(), path), http.StatusOK, "Connect <bdi>plain</bdi>", "renew the access", "alice")
		})
	}
	// Who may neither use nor write it cannot let anybody connect.
	wantProblem(t, s.as(reader, "GET", "/v1/connections/one/token", ""), http.StatusForbidden, "keeper:token")
	if r := s.as(reader, "GET", "/v1/connections/one/explain", ""); r.field(t, "alive") != false || r.field(t, "cause") != "revoked" || strings.Contains(r.body, "/connect/") {
		t.Errorf("explained: %s", r.body)
	}
	wantProblem(t, s.api("POST", "/v1/connections/one/refresh", ""), http.StatusConflict, "revoked")
	if r := s.api("GET", "/v1/proxy/one/me", ""); r.field(t, "code") != "reauthorization_required" {
		t.Errorf("proxy: %d %s", r.status, r.body)
	}
}

func TestPausedConnectionGivesNoToken(t *testing.T) {
	s := start(t, false, providertest.Plain())
	s.imports("one", "plain", "alice", "")
	s.mustAPI(http.StatusOK, "POST", "/v1/connections/one/pause", "")
	r := s.api("GET", "/v1/connections/one/token", "")
	wantProblem(t, r, http.StatusConflict, "is paused")
	if r.field(t, "code") != "connection_paused" || r.field(t, "next") != "resume it" || r.field(t, "connect_url") != nil {
		t.Errorf("paused: %s", r.body)
	}
}

// TestProviderThatIsDown: time mends it, and the answer says when to ask again.
func TestProviderThatIsDown(t *testing.T) {
	s := start(t, false, providertest.Plain())
	grant, _ := s.imports("one", "plain", "alice", "")
	s.clock.advance(2 * time.Hour)
	s.sims["plain"].Inject(providertest.Rule{Fault: providertest.Unavailable(http.StatusTooManyRequests, "120")})
	r := s.api("GET", "/v1/connections/one/token", "")
	wantProblem(t, r, http.StatusServiceUnavailable, "Connection one at plain")
	if seconds := r.header.Get("Retry-After"); r.field(t, "code") != "provider_unavailable" || len(seconds) < 2 || r.field(t, "connect_url") != nil {
		t.Errorf("Retry-After %q: %s", seconds, r.body)
	}
	s.sims["plain"].Clear()
	s.clock.advance(5 * time.Minute)
	if r := s.mustAPI(http.StatusOK, "GET", "/v1/connections/one/token", ""); !s.sims["plain"].Alive(r.field(t, "access_token").(string)) {
		t.Errorf("token %s", r.body)
	}
	if state := s.sims["plain"].Grant(grant).State; state != providertest.Live {
		t.Errorf("the grant is %s", state)
	}
}

// TestConnectionInDoubt: while its access token lives it is served; then whoever
// asks is told whether time or the owner mends it. Only the operator sends what
// may have been spent.
func TestConnectionInDoubt(t *testing.T) {
	s := start(t, false, providertest.GitHub())
	s.imports("one", "github", "alice", "")
	writer := s.client("writer", "", ScopeWrite, ScopeToken)
	s.sims["github"].Inject(providertest.Rule{Times: 1, Fault: providertest.DropBefore()})
	r := s.api("POST", "/v1/connections/one/refresh", "")
	if r.status != http.StatusServiceUnavailable && r.status != http.StatusConflict {
		t.Fatalf("a refresh without an answer: %d %s", r.status, r.body)
	}
	wantProblem(t, s.as(writer, "POST", "/v1/connections/one/refresh", `{"even_in_doubt":true}`), http.StatusForbidden, "Only the operator")
	for range 100 { // the intent's deadline passes
		s.clock.advance(time.Minute)
		if c, err := s.keeper.Connection(t.Context(), "one"); err != nil || c.Generation > 1 {
			break
		}
		s.api("POST", "/v1/connections/one/refresh", `{"even_in_doubt":true}`)
	}
	r = s.mustAPI(http.StatusOK, "GET", "/v1/connections/one", "")
	if r.field(t, "generation").(float64) < 2 || r.field(t, "state") != "active" {
		t.Errorf("after the operator's decision: %s", r.body)
	}
}

func TestReadDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "60": time.Minute, "60s": time.Minute, "5m": 5 * time.Minute, "1h30m": 90 * time.Minute, "2d": 48 * time.Hour, "0s": 0,
	} {
		if got, err := readDuration(text); err != nil || got != want {
			t.Errorf("readDuration(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1", "+5", "1.5", "soon", "9999999999", "1y", "5 m"} {
		if got, err := readDuration(text); err == nil {
			t.Errorf("readDuration(%q) = %v", text, got)
		}
	}
}

func FuzzReadDuration(f *testing.F) {
	for _, seed := range []string{"60", "60s", "5m", "1d12h", "0", "-1", "9999999999999", "1.5h", "NaN"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := readDuration(text); err == nil && d < 0 {
			t.Errorf("readDuration(%q) = %v", text, d)
		}
	})
}
