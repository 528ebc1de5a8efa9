package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// startKeys is a server that rotates keys and is then asked how far it is.
func startKeys(t *testing.T, answers ...string) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			io.WriteString(w, `{"id":2,"state":"current"}`)
			return
		}
		n := min(int(asked.Add(1)), len(answers))
		fmt.Fprintf(w, `{"items":[]%s}`, answers[n-1])
	}))
	t.Cleanup(s.Close)
	return s, &asked
}

func TestKeyRotateWaits(t *testing.T) {
	s, asked := startKeys(t, `,"resealing":{"key":1,"done":0,"left":0}`, `,"resealing":{"key":2,"done":3,"left":4}`, `,"resealing":{"key":2,"done":7,"left":0}`)
	env := environment("EVERGRANT_SERVER", s.URL, "EVERGRANT_TOKEN", "t")
	if r := run(t, env, "", "key", "rotate", "--now"); r.code != exitDone || asked.Load() != 0 {
		t.Errorf("in a pipe it waits: status %d, asked %d times", r.code, asked.Load())
	}
	if r := run(t, env, "", "key", "rotate", "--wait"); r.code != exitDone || r.stderr != "" || asked.Load() != 3 {
		t.Errorf("status %d, %q, asked %d times", r.code, r.stderr, asked.Load())
	}
	without, asked := startKeys(t, "")
	env = environment("EVERGRANT_SERVER", without.URL, "EVERGRANT_TOKEN", "t")
	if r := run(t, env, "", "key", "rotate", "--wait"); r.code != exitDone || asked.Load() != 1 {
		t.Errorf("without keeper: status %d, %q, asked %d times", r.code, r.stderr, asked.Load())
	}
}

// TestKeyRotateShows has the progress on a terminal, and an interrupt.
func TestKeyRotateShows(t *testing.T) {
	s, _ := startKeys(t, `,"resealing":{"key":1,"done":0,"left":0}`, `,"resealing":{"key":2,"done":3,"left":4}`)
	_, tty, screen := openTerminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	var out strings.Builder
	go func() {
		env := environment("EVERGRANT_SERVER", s.URL, "EVERGRANT_TOKEN", "t")
		done <- program{env: env, now: time.Now}.Run(ctx, []string{"key", "rotate", "--now"}, strings.NewReader(""), &out, tty)
	}()
	eventually(t, func() bool {
		return strings.Contains(screen.String(), "waiting for the new key to be used ...") && strings.Contains(screen.String(), "sealing anew: 3 done, 4 left")
	})
	cancel()
	if code := <-done; code != exitFailed || !strings.HasPrefix(out.String(), "id     2\n") {
		t.Errorf("status %d, %q", code, out.String())
	}
}
