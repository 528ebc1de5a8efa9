package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/evergrant/evergrant"
)

// slow is a provider whose answers wait to be released.
type slow struct {
	*httptest.Server
	asked   chan struct{}
	release chan struct{}
	free    func() // releases all
}

func startSlow(t *testing.T) *slow {
	t.Helper()
	p := &slow{asked: make(chan struct{}, 10), release: make(chan struct{})}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked <- struct{}{}
		<-p.release
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"access_token":"new","refresh_token":"next","token_type":"Bearer","expires_in":3600}`)
	}))
	t.Cleanup(p.Close)
	p.free = sync.OnceFunc(func() { close(p.release) })
	t.Cleanup(p.free)
	return p
}

func (p *slow) config() string {
	return fmt.Sprintf("keeper:\n  allow_private_networks: true\n  providers:\n    - {name: slow, client_id: a, client_secret: b, authorize_url: %q, token_url: %q}\n", p.URL+"/authorize", p.URL+"/token")
}

// TestShutdownWaitsForRefreshes has a refresh with the provider while the server
// is told to stop: one that somebody waits for, and one of the background.
func TestShutdownWaitsForRefreshes(t *testing.T) {
	for _, test := range []struct {
		name, expires string
		command       []string
	}{
		{"asked for", "3600", []string{"connection", "refresh", "one"}},
		{"in the background", "1", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, dir := startSlow(t), t.TempDir()
			s := start(t, dir, p.config())
			answer := fmt.Sprintf(`{"access_token":"old","refresh_token":"first","expires_in":%s}`, test.expires)
			if r := s.run(answer, "connection", "create", "slow", "--id", "one"); r.code != exitDone {
				t.Fatalf("status %d, %s", r.code, r.stderr)
			}
			asked := make(chan result, 1)
			go func() {
				if test.command != nil {
					asked <- s.run("", test.command...)
				}
			}()
			<-p.asked
			stopped := make(chan int, 1)
			go func() { stopped <- s.stop() }()
			eventually(t, func() bool { return strings.Contains(s.stderr.String(), "stopping") })
			p.free()
			if code := <-stopped; code != exitDone {
				t.Errorf("status %d: %s", code, s.stderr)
			}
			if test.command != nil {
				if r := <-asked; r.code != exitDone {
					t.Errorf("who waited gets status %d, %q", r.code, r.stderr)
				}
			}
			again := start(t, dir, p.config())
			if c := document[evergrant.Connection](t, again.ok("connection", "show", "one", "--json")); c.Generation != 2 || c.State != evergrant.ConnectionActive {
				t.Errorf("after the restart: %+v", c)
			}
			if got := again.ok("token", "one"); got != "new\n" {
				t.Errorf("after the restart the token is %q", got)
			}
		})
	}
}

// TestShutdownEndsStreams has somebody follow events, who must not keep the
// server from stopping.
func TestShutdownEndsStreams(t *testing.T) {
	s := start(t, t.TempDir(), "")
	token, err := os.ReadFile(filepath.Join(s.dir, adminTokenFile))
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.url+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", resp, err)
	}
	defer resp.Body.Close()
	if code := s.stop(); code != exitDone || strings.Contains(s.stderr.String(), "broken off") {
		t.Errorf("status %d: %s", code, s.stderr)
	}
	if _, err := io.ReadAll(resp.Body); err != nil {
		t.Errorf("the stream ends with %v", err)
	}
}

// TestWebhooks has events come to a webhook, signed, and no others.
func TestWebhooks(t *testing.T) {
	type seen struct{ header, kind, body string }
	got := make(chan seen, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		select {
		case got <- seen{r.Header.Get("Evergrant-Signature"), r.Header.Get("Evergrant-Event"), string(body)}:
		default: // the first ones are enough
		}
	}))
	t.Cleanup(receiver.Close)
	k := startKeeping(t, "  webhooks:\n    - {name: app, url: \""+receiver.URL+"/hooks\", secret: "+hookSecret+", events: [connection.paused]}\n")
	// What happened before the first start of the webhook is not told; when that
	// is, nobody says.
	k.connect("ann")
	var first seen
	eventually(t, func() bool {
		k.ok("connection", "pause", "ann")
		k.ok("connection", "resume", "ann")
		select {
		case first = <-got:
			return true
		default:
			return false
		}
	})
	at, signature, _ := strings.Cut(strings.TrimPrefix(first.header, "t="), ",v1=")
	mac := hmac.New(sha256.New, []byte(hookSecret))
	mac.Write([]byte(at + "." + first.body))
	if signature != hex.EncodeToString(mac.Sum(nil)) || first.kind != "connection.paused" {
		t.Errorf("delivery %+v", first)
	}
	var event struct {
		Type string
		Data evergrant.Event
	}
	if err := json.Unmarshal([]byte(first.body), &event); err != nil || event.Type != "connection.paused" || event.Data.Connection != "ann" || event.Data.Actor != "operator" {
		t.Errorf("event %+v, error %v", event, err)
	}
	eventually(t, func() bool { return strings.Contains(k.ok("webhook", "deliveries"), " delivered ") })
	if out := k.ok("webhook", "deliveries", "--json"); !strings.Contains(out, `"hook": "app"`) || strings.Contains(out, hookSecret) {
		t.Errorf("deliveries %s", out)
	}
}
