package evergrant_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant"
)

// stream answers each request with the next of several scripts.
type stream struct {
	mu      sync.Mutex
	scripts []func(w http.ResponseWriter, r *http.Request)
	asked   []string // query and Last-Event-ID
}

func (s *stream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	n := len(s.asked)
	s.asked = append(s.asked, r.URL.RequestURI()+" "+r.Header.Get("Last-Event-ID")+" "+r.Header.Get("Accept"))
	s.mu.Unlock()
	if n < len(s.scripts) {
		s.scripts[n](w, r)
		return
	}
	<-r.Context().Done() // nothing more happens
}

func events(text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		io.WriteString(w, text)
	}
}

func failing(status int, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func broken(w http.ResponseWriter, r *http.Request) {
	events("id: 3\ndata: {\"id\":3,\"type\":\"lost")(w, r)
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// TestFollowEvents has a stream that breaks off in every way, and comes back.
func TestFollowEvents(t *testing.T) {
	s := &stream{scripts: []func(http.ResponseWriter, *http.Request){
		events("retry: 1000\n\n: hello\n\nid: 1\nevent: connection.refreshed\ndata: {\"id\":1,\ndata:\"type\":\"a\"}\n\ndata: nothing\n\ndata: {}\n\n"),
		failing(503, `{"title":"Service Unavailable","status":503}`),
		events("data: {\"id\":2,\"type\":\"b\",\"connection\":\"c\",\"provider\":\"p\",\"class\":\"revoked\"}\r\n\r\n"),
		broken,
		failing(502, "<html>"),
		failing(429, `{"title":"Too Many Requests","status":429}`),
		events(": still here\nid: 2\n\n: still here\nid: 20\n\n"),
		events("data: {\"id\":23,\"type\":\"c\"}\n\ndata: {\"id\":24,\"type\":\"d\"}\n\n"),
	}}
	client := serve(t, s.ServeHTTP)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []string
	for event, err := range client.FollowEvents(ctx, evergrant.EventFilter{Connection: "c", Provider: "p", Type: "connection."}, -1) {
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
			got = append(got, "end")
			continue
		}
		got = append(got, fmt.Sprintf("%d%s", event.ID, event.Type))
		if event.ID == 2 && (event.Connection != "c" || event.Provider != "p" || event.Class != "revoked") {
			t.Errorf("event %+v", event)
		}
		if event.ID == 24 {
			cancel()
		}
	}
	if want := []string{"1a", "2b", "23c", "24d", "end"}; !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	const path, accept = "/v1/events?connection=c&provider=p&type=connection. ", " text/event-stream"
	want := []string{path + accept}
	for _, last := range []string{"1", "1", "2", "2", "2", "2", "20"} {
		want = append(want, path+last+accept)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.asked, want) {
		t.Errorf("asked\n%s\nwant\n%s", strings.Join(s.asked, "\n"), strings.Join(want, "\n"))
	}
}

func TestFollowEventsEnds(t *testing.T) {
	const one = "data: {\"id\":8,\"type\":\"a\"}\n\n"
	for _, tt := range []struct {
		name    string
		scripts []func(http.ResponseWriter, *http.Request)
		check   func(error) bool
	}{
		{"refused", []func(http.ResponseWriter, *http.Request){failing(403, `{"title":"Forbidden","status":403}`)}, is(403)},
		{"refused later", []func(http.ResponseWriter, *http.Request){events(one), failing(401, `{"title":"Unauthorized","status":401}`)}, is(401)},
		{"unavailable at first", []func(http.ResponseWriter, *http.Request){failing(503, `{"title":"Service Unavailable","status":503}`)}, is(503)},
		{"no stream", []func(http.ResponseWriter, *http.Request){failing(200, `{"items":[]}`)}, func(err error) bool {
			return err != nil && strings.Contains(err.Error(), "not as an Evergrant server does")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client := serve(t, (&stream{scripts: tt.scripts}).ServeHTTP)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var errs []error
			for _, err := range client.FollowEvents(ctx, evergrant.EventFilter{}, 7) {
				if err != nil {
					errs = append(errs, err)
				}
			}
			if len(errs) != 1 || !tt.check(errs[0]) {
				t.Errorf("errors %v", errs)
			}
		})
	}
	t.Run("enough", func(t *testing.T) {
		s := &stream{scripts: []func(http.ResponseWriter, *http.Request){events(one + one)}}
		for range serve(t, s.ServeHTTP).FollowEvents(t.Context(), evergrant.EventFilter{}, 0) {
			break
		}
		if want := []string{"/v1/events? 0 text/event-stream"}; !slices.Equal(s.asked, want) {
			t.Errorf("asked %q, want %q", s.asked, want)
		}
	})
	t.Run("a message without end", func(t *testing.T) {
		endless := func(w http.ResponseWriter, r *http.Request) {
			events("data: ")(w, r)
			for chunk := strings.Repeat("x", 1<<16); ; {
				if _, err := io.WriteString(w, chunk); err != nil {
					return
				}
			}
		}
		s := &stream{scripts: []func(http.ResponseWriter, *http.Request){endless, events(one)}}
		for event, err := range serve(t, s.ServeHTTP).FollowEvents(t.Context(), evergrant.EventFilter{}, 7) {
			if err != nil || event.ID != 8 {
				t.Errorf("event %+v, error %v", event, err)
			}
			break
		}
	})
}

// is a check for a problem with a status.
func is(status int) func(error) bool {
	return func(err error) bool {
		problem, ok := errors.AsType[*evergrant.Problem](err)
		return ok && problem.Status == status
	}
}
