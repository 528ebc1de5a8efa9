package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/keeper"
)

// TestHost holds that connections are refused while a host is down, that its
// address stays the same, and that what was asked before is answered.
func TestHost(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	h, err := newHost(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(asked)
			<-answer
		}
		io.WriteString(w, "up")
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path string) (string, error) {
		resp, err := client.Get(h.url + path)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	slow := make(chan string, 1)
	go func() {
		text, _ := get("/slow")
		slow <- text
	}()
	<-asked
	down := make(chan error, 1)
	go func() { down <- h.down(t.Context()) }()
	for !errors.Is(err, syscall.ECONNREFUSED) { // until it is down for others
		_, err = get("/")
	}
	close(answer)
	if err := <-down; err != nil || <-slow != "up" {
		t.Errorf("what was asked before was not answered: %v", err)
	}
	if err := h.up(); err != nil {
		t.Fatal(err)
	}
	if text, err := get("/"); text != "up" {
		t.Errorf("up again it gives %q, %v", text, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.down(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestDemoConfigIsClean holds that the configuration of the demo needs no excuse.
func TestDemoConfigIsClean(t *testing.T) {
	providers, err := simulate()
	if err != nil {
		t.Fatal(err)
	}
	defer providers.stop()
	file := filepath.Join(t.TempDir(), "evergrant.yaml")
	if err := createFile(file, demoConfig+providers.config("http://127.0.0.1:1"+hooksPath)); err != nil {
		t.Fatal(err)
	}
	c, err := loadConfig(file, overrides{"127.0.0.1:0", t.TempDir()}, environment())
	if err != nil {
		t.Fatal(err)
	}
	if len(c.warnings) > 0 || len(c.Keeper.Providers) != 3 || len(c.Keeper.Webhooks) != 1 {
		t.Errorf("%d providers, %d webhooks, warnings: %v", len(c.Keeper.Providers), len(c.Keeper.Webhooks), c.warnings)
	}
	for _, p := range c.Keeper.Providers {
		if p.Base != p.Name || p.definition.Docs == "" {
			t.Errorf("%s is not by its shipped definition", p.Name)
		}
	}
}

// TestSecondRefusals has the second server not start, and none be left behind.
func TestSecondRefusals(t *testing.T) {
	asProcess(t)
	t.Run("a bad configuration", func(t *testing.T) {
		dir := t.TempDir()
		if err := createFile(filepath.Join(dir, "evergrant.yaml"), "listn: 1\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := startSecond(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "listn") {
			t.Errorf("the error is %v", err)
		}
	})
	t.Run("an end of all", func(t *testing.T) {
		dir := t.TempDir()
		if err := createFile(filepath.Join(dir, "evergrant.yaml"), seeds); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		s, err := startSecond(ctx, dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.admin.Client(t.Context(), demoClient); err != nil {
			t.Error(err)
		}
		cancel()
		<-s.ended
		if state := s.end(os.Kill); state.Success() {
			t.Errorf("it ended as %s", state)
		}
	})
}

func TestSecondHasItsOwnRootKey(t *testing.T) {
	given := []string{"PATH=/bin", rootKeyEnv + "=secret", rootKeyEnv + "_OTHER=x", "HOME=/"}
	if got := secondEnv(given); !slices.Equal(got, []string{"PATH=/bin", rootKeyEnv + "_OTHER=x", "HOME=/"}) {
		t.Errorf("the environment is %q", got)
	}
}

func TestRenewalsCount(t *testing.T) {
	var r renewals
	event := func(eventType, id string, generation uint64) evergrant.Event {
		return evergrant.Event{At: time.Now(), Type: eventType, Connection: id, Generation: generation}
	}
	for _, e := range []evergrant.Event{
		event(keeper.EventCreated, onTink, 0),
		event(keeper.EventReminted, onTink, 1), // its first tokens
		event(keeper.EventReminted, onTink, 2),
		event(keeper.EventRefreshed, "eventix-001", 2),
		event(keeper.EventFailed, "eventix-001", 2),
		event(keeper.EventRefreshed, onTink, 3),
		event(keeper.EventReauthorize, onTink, 3),
		{Type: keeper.EventProviderDown, Provider: "eventix"},
		{Type: keeper.EventProviderDown, Provider: "tink"},
	} {
		r.add(e)
	}
	for id, want := range map[string][2]int{onTink: {2, 1}, "eventix-001": {1, 0}, onFlexiti: {0, 0}} {
		if since := [2]int{r.since(id, 0), r.since(id, 2)}; since != want {
			t.Errorf("%s was renewed %d times, and %d times since generation 2", id, since[0], since[1])
		}
	}
	if r.ofEventix(keeper.EventProviderDown) != 1 || r.ofEventix(keeper.EventProviderUp) != 0 {
		t.Errorf("of Eventix: %v", r.eventix)
	}
	unseen, total, connections := r.take()
	if len(unseen) != 2 || unseen[0].Generation != 2 || total != 3 || connections != 2 {
		t.Errorf("to be shown: %v; %d renewals of %d connections", unseen, total, connections)
	}
	if unseen, total, _ = r.take(); len(unseen) != 0 || total != 3 {
		t.Errorf("again: %v, %d", unseen, total)
	}
}

func TestSomeOf(t *testing.T) {
	for _, test := range []struct {
		all  []string
		want string
	}{
		{nil, "0"}, {[]string{"a: 503"}, "a: 503"}, {[]string{"a", "b", "c"}, "a; b; c"}, {[]string{"a", "b", "c", "d"}, "4, such as a; b; c"},
	} {
		if got := someOf(test.all); got != test.want {
			t.Errorf("%q gives %q", test.all, got)
		}
	}
}
