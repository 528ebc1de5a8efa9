package web

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/internal/testdb"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/providertest"
)

// types are those of a list's events.
func types(t *testing.T, r reply) string {
	t.Helper()
	var all []string
	for _, item := range r.field(t, "items").([]any) {
		all = append(all, item.(map[string]any)["type"].(string))
	}
	return strings.Join(all, " ")
}

// TestEventsOfBoth: one log, of which each sees their part.
func TestEventsOfBoth(t *testing.T) {
	s := start(t, false, providertest.Plain())
	s.imports("one", "plain", "alice", "")
	s.imports("two", "plain", "bob", "acme")
	s.grant()
	s.mustAPI(http.StatusOK, "POST", "/v1/connections/two/pause", "")
	ours, acmes := s.client("ours", "", ScopeRead), s.client("acmes", "acme", ScopeRead)
	for _, tt := range []struct{ token, query, want string }{
		{s.token, "?type=connection.", "connection.paused connection.created connection.created"},
		{s.token, "?type=grant.", "grant.created"},
		{s.token, "?type=connection.paused", "connection.paused"},
		{s.token, "?connection=one", "connection.created"},
		{s.token, "?provider=plain&limit=2", "connection.paused connection.created"},
		{s.token, "?tenant=acme", "connection.paused connection.created"},
		{s.token, "?client=photos&type=client.saved", "client.saved"},
		{s.token, "?connection=none", ""},
		{s.token, "?limit=6", "client.saved client.saved connection.paused grant.created connection.created connection.created"},
		{ours, "", "connection.created"},
		{acmes, "", "connection.paused connection.created"},
		{acmes, "?type=connection.created", "connection.created"},
		{acmes, "?connection=one", ""},
		{acmes, "?type=grant.", ""},
	} {
		if got := types(t, s.as(tt.token, "GET", "/v1/events"+tt.query, "")); got != tt.want {
			t.Errorf("%q lists %q, want %q", tt.query, got, tt.want)
		}
	}
	wantProblem(t, s.as(ours, "GET", "/v1/events?subject=alice", ""), http.StatusForbidden, "Only the operator sees")
	wantProblem(t, s.api("GET", "/v1/events?subject=alice&connection=one", ""), http.StatusBadRequest, "No event has both")

	// The pages of both together are one list without gaps, and nothing twice.
	var whole, paged []string
	for _, item := range s.mustAPI(http.StatusOK, "GET", "/v1/events?limit=500", "").field(t, "items").([]any) {
		whole = append(whole, fmt.Sprint(item.(map[string]any)["id"]))
	}
	for query := form("limit", "2"); ; {
		r := s.mustAPI(http.StatusOK, "GET", "/v1/events?"+query.Encode(), "")
		for _, item := range r.field(t, "items").([]any) {
			paged = append(paged, fmt.Sprint(item.(map[string]any)["id"]))
		}
		next, more := r.field(t, "next").(string)
		if !more {
			break
		}
		query.Set("cursor", next)
	}
	if len(whole) < 8 || strings.Join(whole, " ") != strings.Join(paged, " ") {
		t.Errorf("whole %v\npaged %v", whole, paged)
	}
	r := s.mustAPI(http.StatusOK, "GET", "/v1/connections/two/history?limit=1", "")
	if types(t, r) != "connection.paused" || r.field(t, "next") == nil {
		t.Errorf("history %s", r.body)
	}
	r = s.mustAPI(http.StatusOK, "GET", "/v1/connections/two/history?cursor="+r.field(t, "next").(string), "")
	if types(t, r) != "connection.created" {
		t.Errorf("history %s", r.body)
	}
}

// A type is found behind any number of events of other types.
func TestEventsOfRareType(t *testing.T) {
	t.Parallel()
	s := start(t, false, providertest.Plain())
	s.imports("one", "plain", "alice", "")
	for range 2*maxLimit + 1 {
		happens(t, s.db, "provider.up")
	}
	if got := types(t, s.mustAPI(http.StatusOK, "GET", "/v1/events?provider=plain&type=connection.", "")); got != "connection.created" {
		t.Errorf("listed %q", got)
	}
}

func TestAcceptsStream(t *testing.T) {
	for header, want := range map[string]bool{
		"": false, "*/*": false, "application/json": false, "text/event-stream": true, "text/html, text/event-stream;q=0.9": true, "TEXT/EVENT-STREAM": true, "text/event-streams": false,
	} {
		r := &http.Request{Header: http.Header{"Accept": {header}}}
		if got := acceptsStream(r); got != want {
			t.Errorf("%q: %v", header, got)
		}
	}
}

// listener reads a stream of events.
type listener struct {
	t      *testing.T
	resp   *http.Response
	lines  *bufio.Reader
	cancel context.CancelFunc
}

// listen opens a stream; last is Last-Event-ID, none where "".
func (s *server) listen(token, query, last string) *listener {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	req := s.request("GET", "/v1/events"+query, "").WithContext(ctx)
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", "text/event-stream")
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := s.http.Client().Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { cancel(); resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		s.t.Fatalf("%s: %s", resp.Status, body)
	}
	return &listener{s.t, resp, bufio.NewReader(resp.Body), cancel}
}

// next is the next event: its id, its type and its data. Comments are passed
// over.
func (l *listener) next() (id, eventType, data string) {
	l.t.Helper()
	for {
		line, err := l.lines.ReadString('\n')
		if err != nil {
			l.t.Fatalf("the stream ended: %v", err)
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch {
		case name == "id":
			id = value
		case name == "event":
			eventType = value
		case name == "data":
			data += value
		case line == "\n" && data != "":
			return id, eventType, data
		}
	}
}

func TestStreamOfEvents(t *testing.T) {
	t.Parallel()
	s := start(t, false, providertest.Plain())
	s.imports("before", "plain", "alice", "")
	s.serveWithDeadlines(100 * time.Millisecond)
	l := s.listen(s.token, "", "")
	for name, want := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"} {
		if got := l.resp.Header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	s.imports("one", "plain", "alice", "acme")
	id, eventType, data := l.next()
	if eventType != "connection.created" || !strings.Contains(data, `"connection":"one"`) || id == "" || !strings.Contains(data, `"id":`+id) {
		t.Errorf("event %s %s %s", id, eventType, data)
	}
	time.Sleep(200 * time.Millisecond) // past the deadlines of other requests
	s.saveUser("bob", "x")
	if _, eventType, _ := l.next(); eventType != "user.saved" {
		t.Errorf("event %s, want the issuer's too", eventType)
	}

	// Whoever comes again goes on where he was, and others begin with what comes.
	s.mustAPI(http.StatusOK, "POST", "/v1/connections/one/pause", "")
	again := s.listen(s.token, "?type=connection.", id)
	if _, eventType, _ := again.next(); eventType != "connection.paused" {
		t.Errorf("event %s after %s", eventType, id)
	}
	all := s.listen(s.token, "", "0")
	if first, _, _ := all.next(); first != "1" {
		t.Errorf("the stream from the beginning begins with %s", first)
	}
	beyond := s.listen(s.token, "", "999999")
	s.mustAPI(http.StatusOK, "POST", "/v1/connections/one/resume", "")
	if _, eventType, _ := beyond.next(); eventType != "connection.resumed" {
		t.Errorf("event %s, want what comes", eventType)
	}
}

// TestStreamsAreFiltered: each stream has only what it asked for and may see.
func TestStreamsAreFiltered(t *testing.T) {
	t.Parallel()
	s := start(t, false, providertest.Plain(), providertest.Google())
	acmes, ours := s.client("acmes", "acme", ScopeRead), s.client("ours", "", ScopeRead)
	streams := map[string]*listener{
		"of a connection": s.listen(s.token, "?connection=two", ""), "of a provider": s.listen(s.token, "?provider=google", ""), "of a tenant": s.listen(s.token, "?tenant=acme", ""),
		"of a type": s.listen(s.token, "?type=connection.paused", ""), "of a client": s.listen(s.token, "?client=films", ""),
		"for acme": s.listen(acmes, "", ""), "for the default": s.listen(ours, "", ""),
	}
	s.imports("one", "plain", "alice", "")
	s.imports("two", "google", "alice", "acme")
	s.mustAPI(http.StatusCreated, "POST", "/v1/clients", `{"id":"films"}`)
	s.mustAPI(http.StatusOK, "POST", "/v1/connections/two/pause", "")
	s.mustAPI(http.StatusOK, "POST", "/v1/connections/one/pause", "")
	for name, want := range map[string][]string{
		"of a connection": {"connection.created two", "connection.paused two"}, "of a provider": {"connection.created two", "connection.paused two"},
		"of a tenant": {"connection.created two", "connection.paused two"}, "for acme": {"connection.created two", "connection.paused two"},
		"of a type": {"connection.paused two", "connection.paused one"}, "for the default": {"connection.created one", "connection.paused one"},
		"of a client": {"client.saved films"},
	} {
		for _, event := range want {
			eventType, about, _ := strings.Cut(event, " ")
			if _, got, data := streams[name].next(); got != eventType || !strings.Contains(data, `"`+about+`"`) {
				t.Errorf("%s: %s %s, want %s", name, got, data, event)
			}
		}
	}
}

func TestRefusedStreams(t *testing.T) {
	s := start(t, false, providertest.Plain())
	acmes := s.client("acmes", "acme", ScopeRead)
	for name, tt := range map[string]struct {
		token, query, last string
		status             int
		detail             string
	}{
		"unknown filter":          {s.token, "?user=a", "", 400, `"user"`},
		"page of a stream":        {s.token, "?cursor=1", "", 400, `"cursor"`},
		"filter twice":            {s.token, "?type=a&type=b", "", 400, "two of it"},
		"bad id":                  {s.token, "", "x", 400, "Last-Event-ID"},
		"negative id":             {s.token, "", "-1", 400, "Last-Event-ID"},
		"another tenant":          {acmes, "?tenant=other", "", 403, "another tenant"},
		"issuer's for a client":   {acmes, "?grant=1", "", 403, "Only the operator"},
		"of both":                 {s.token, "?grant=1&connection=a", "", 400, "No event has both"},
		"nobody's":                {"wrong", "", "", 401, "needs the admin token"},
		"without the right scope": {s.client("user", "", ScopeToken), "", "", 403, "keeper:read"},
	} {
		t.Run(name, func(t *testing.T) {
			req := s.request("GET", "/v1/events"+tt.query, "")
			req.Header.Set("Authorization", "Bearer "+tt.token)
			req.Header.Set("Accept", "text/event-stream")
			if tt.last != "" {
				req.Header.Set("Last-Event-ID", tt.last)
			}
			wantProblem(t, s.do(s.http.Client(), req), tt.status, tt.detail)
		})
	}
	config := s.config
	config.Hooks = nil
	s.serve(NewAPI(config))
	req := s.request("GET", "/v1/events", "")
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("Accept", "text/event-stream")
	wantProblem(t, s.do(s.http.Client(), req), http.StatusNotFound, "no stream of events")
	wantProblem(t, s.api("GET", "/v1/webhooks/deliveries", ""), http.StatusNotFound, "no webhooks")
}

// A server that stops ends its streams.
func TestStreamEndsWithTheServer(t *testing.T) {
	s := start(t, false, providertest.Plain())
	l := s.listen(s.token, "", "")
	close(s.stopping)
	if _, err := io.ReadAll(l.lines); err != nil {
		t.Errorf("the stream ended with %v", err)
	}
}

// TestTooManyStreams: what is beyond the limit is refused, and a stream that
// ends makes room.
func TestTooManyStreams(t *testing.T) {
	s := start(t, false, providertest.Plain())
	a := newAPI(s.config)
	a.tail = newTail(s.db, s.log.logger())
	a.streams.Store(maxStreams)
	s.serve(a.authorized(a.serve(a.resources()["/v1/events"])))
	req := func() *http.Request {
		req := s.request("GET", "/v1/events", "")
		req.Header.Set("Authorization", "Bearer "+s.token)
		req.Header.Set("Accept", "text/event-stream")
		return req
	}
	wantProblem(t, s.do(s.http.Client(), req()), http.StatusServiceUnavailable, "too many streams")
	a.streams.Store(maxStreams - 1)
	s.listen(s.token, "", "").cancel()
}

// within runs a test in a bubble with a database, whose time passes by itself.
func within(t *testing.T, test func(t *testing.T, db *testdb.DB)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		db, err := testdb.New(t).Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		test(t, db)
		db.Close()
	})
}

func happens(t *testing.T, db *testdb.DB, eventType string) {
	t.Helper()
	if _, err := db.Keeper().Record(t.Context(), keeper.Event{At: time.Now(), Type: eventType, Provider: "plain", Actor: "keeper"}); err != nil {
		t.Fatal(err)
	}
}

// TestHeartbeat: a stream on which nothing happens says so, and where to go on.
func TestHeartbeat(t *testing.T) {
	within(t, func(t *testing.T, db *testdb.DB) {
		a := newAPI(APIConfig{Hooks: db})
		a.tail = newTail(db, a.Log)
		near, far := net.Pipe()
		serving := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := a.streamEvents(w, asOperator(r)); err != nil {
				t.Error(err)
			}
		})}
		conns := make(chan net.Conn, 1)
		conns <- far
		go serving.Serve(onePipe{conns})
		fmt.Fprint(near, "GET /v1/events?type=grant. HTTP/1.1\r\nHost: x\r\n\r\n")
		lines := bufio.NewReader(near)
		read := func(until string) (text string) {
			for !strings.Contains(text, until) {
				line, err := lines.ReadString('\n')
				if err != nil {
					t.Fatalf("%q, %v", text, err)
				}
				text += line
			}
			return text
		}
		read("retry: 2000")
		began := time.Now()
		happens(t, db, "provider.up") // which the filter leaves out
		beat := read(": still here\nid: ")
		if waited := time.Since(began); waited != heartbeat {
			t.Errorf("the sign of life came after %v", waited)
		}
		if !strings.Contains(beat, "id: 1\n") {
			t.Errorf("the sign of life %q does not say where to go on", beat)
		}
		near.Close()
		serving.Close()
		time.Sleep(time.Minute)
		a.tail.mu.Lock()
		defer a.tail.mu.Unlock()
		if a.tail.listeners != 0 || a.streams.Load() != 0 {
			t.Errorf("%d listeners and %d streams are left", a.tail.listeners, a.streams.Load())
		}
	})
}

// onePipe is a listener of connections that never touch the network.
type onePipe struct{ conns chan net.Conn }

func (l onePipe) Accept() (net.Conn, error) {
	conn, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}
func (l onePipe) Close() error   { close(l.conns); return nil }
func (l onePipe) Addr() net.Addr { return &net.UnixAddr{} }

// counting counts what the tail asks the store for.
type counting struct {
	*testdb.DB
	mu   sync.Mutex
	read int
	fail bool
}

func (c *counting) Feed(ctx context.Context, after int64, limit int) ([]hook.Event, error) {
	c.mu.Lock()
	c.read++
	fail := c.fail
	c.mu.Unlock()
	if fail {
		return nil, context.DeadlineExceeded
	}
	return c.DB.Feed(ctx, after, limit)
}

// count is how often the store was asked since the last count.
func (c *counting) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.read
	c.read = 0
	return n
}

// TestTail: one reader serves all who listen; who falls behind reads himself;
// nobody misses anything or sees it twice; and when all have left nobody reads.
func TestTail(t *testing.T) {
	t.Parallel()
	within(t, func(t *testing.T, db *testdb.DB) {
		store, log := &counting{DB: db}, &logs{}
		tail := newTail(store, log.logger())
		happens(t, db, "provider.before")
		const total = tailSize + tailSize/2
		var wait sync.WaitGroup
		leaving := make(chan func(), 20)
		for i := range 20 {
			newest, leave, err := tail.join(t.Context())
			if err != nil || newest != 1 {
				t.Fatalf("joined at %d, %v", newest, err)
			}
			leaving <- leave
			wait.Go(func() {
				last := newest
				for last < total+1 {
					events, next, changed, err := tail.since(t.Context(), last)
					if err != nil {
						t.Error(err)
						return
					}
					for _, e := range events {
						if e.ID != last+1 {
							t.Errorf("listener %d saw %d after %d", i, e.ID, last)
						}
						last = e.ID
					}
					if last != next {
						t.Errorf("listener %d is at %d, not %d", i, last, next)
					}
					if changed != nil {
						<-changed
					}
					if i == 0 {
						time.Sleep(10 * time.Second) // one reads slowly
					}
				}
			})
		}
		time.Sleep(10 * time.Second)
		if n := store.count(); n > 25 {
			t.Errorf("the store was asked %d times in ten seconds by 20 who listen", n)
		}
		for i := range total {
			happens(t, db, fmt.Sprint("provider.", i))
			if i%100 == 0 {
				time.Sleep(time.Second)
			}
		}
		wait.Wait()
		tail.mu.Lock()
		if len(tail.kept) > tailSize {
			t.Errorf("%d events are kept", len(tail.kept))
		}
		tail.mu.Unlock()
		close(leaving)
		for leave := range leaving {
			leave()
			leave() // again is nothing
		}
		store.count()
		time.Sleep(time.Minute)
		if n := store.count(); n != 0 {
			t.Errorf("the store was asked %d times when nobody listened", n)
		}
	})
}

// telling is a store that tells of events when the test says so.
type telling struct {
	*testdb.DB
	told      chan struct{}
	listening atomic.Int32
}

func (s *telling) Listen(ctx context.Context) <-chan struct{} {
	s.listening.Add(1)
	context.AfterFunc(ctx, func() { s.listening.Add(-1) })
	return s.told
}

// TestTailIsTold: where the store tells of an event, it is read at once, and
// otherwise with the next look; while nobody listens to the tail, it does not
// listen to the store.
func TestTailIsTold(t *testing.T) {
	within(t, func(t *testing.T, db *testdb.DB) {
		store, log := &telling{DB: db, told: make(chan struct{})}, &logs{}
		tail := newTail(store, log.logger())
		last, leave, err := tail.join(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		read := func() int {
			synctest.Wait()
			events, next, _, err := tail.since(t.Context(), last)
			if err != nil {
				t.Fatal(err)
			}
			last = next
			return len(events)
		}
		time.Sleep(tailPoll + tailPoll/2)
		happens(t, db, "provider.down")
		if n := read(); n != 0 {
			t.Fatalf("%d events before anybody looked", n)
		}
		store.told <- struct{}{}
		if n := read(); n != 1 {
			t.Errorf("%d events after it was told", n)
		}
		happens(t, db, "provider.up") // of which nothing tells
		time.Sleep(tailPoll)
		if n := read(); n != 1 {
			t.Errorf("%d events after the next look", n)
		}
		if n := store.listening.Load(); n != 1 {
			t.Errorf("%d listen", n)
		}
		leave()
		if synctest.Wait(); store.listening.Load() != 0 {
			t.Error("the store is listened to for nobody")
		}
	})
}

// TestTailWithoutStore: a store that fails for a while costs no event, and is
// told once.
func TestTailWithoutStore(t *testing.T) {
	within(t, func(t *testing.T, db *testdb.DB) {
		store, log := &counting{DB: db, fail: true}, &logs{}
		tail := newTail(store, log.logger())
		last, leave, err := tail.join(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { leave(); synctest.Wait() }()
		happens(t, db, "provider.down")
		time.Sleep(time.Minute)
		if events, _, changed, err := tail.since(t.Context(), last); len(events) != 0 || changed == nil || err != nil {
			t.Errorf("%v, %v", events, err)
		}
		store.mu.Lock()
		store.fail = false
		store.mu.Unlock()
		time.Sleep(2 * time.Second)
		if events, _, _, err := tail.since(t.Context(), last); len(events) != 1 || err != nil {
			t.Errorf("%v, %v", events, err)
		}
		if n := strings.Count(log.String(), "streams of events"); n != 2 {
			t.Errorf("the log tells %d times that the store failed or works again", n)
		}
	})
}

func TestDeliveriesAreListed(t *testing.T) {
	s := start(t, false, providertest.Plain())
	now := s.clock.now()
	var planned []hook.Delivery
	for i := range 3 {
		planned = append(planned, hook.Delivery{Hook: "app", Event: int64(i + 1), Type: "connection.created", Body: []byte(`{}`), CreatedAt: now, NextAt: now})
	}
	if done, err := s.db.Plan(t.Context(), 0, 3, planned); err != nil || !done {
		t.Fatal(done, err)
	}
	r := s.mustAPI(http.StatusOK, "GET", "/v1/webhooks/deliveries?limit=2", "")
	if ids(t, r) != "3 2" || r.field(t, "next") != "2" {
		t.Errorf("deliveries %s", r.body)
	}
	if r := s.mustAPI(http.StatusOK, "GET", "/v1/webhooks/deliveries?cursor=2", ""); ids(t, r) != "1" {
		t.Errorf("deliveries %s", r.body)
	}
	wantProblem(t, s.api("GET", "/v1/webhooks/deliveries?cursor=x", ""), http.StatusBadRequest, "cursor")
	wantProblem(t, s.api("GET", "/v1/webhooks/deliveries?hook=app", ""), http.StatusBadRequest, "no query parameter")
}

// TestResealingIsTold: the list of keys says how far the keeper is.
func TestResealingIsTold(t *testing.T) {
	s := start(t, false, providertest.Plain())
	s.imports("one", "plain", "alice", "")
	s.mustAPI(http.StatusCreated, "POST", "/v1/keys", `{"lead":"0"}`)
	r := s.api("DELETE", "/v1/keys/1", "")
	wantProblem(t, r, http.StatusConflict, "still sealed under this key")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.keeper.Run(ctx) }()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		r = s.mustAPI(http.StatusOK, "GET", "/v1/keys", "")
		if r.field(t, "resealing.key") == 2.0 && r.field(t, "resealing.left") == 0.0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("keys %s", r.body)
		}
	}
	stop()
	<-done
	s.mustAPI(http.StatusNoContent, "DELETE", "/v1/keys/1", "")
	s.mustAPI(http.StatusOK, "GET", "/v1/connections/one/token", "")
}
