package hook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/internal/testdb"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/secret"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// received is one attempt as the receiver saw it.
type received struct {
	at     time.Time
	path   string
	header http.Header
	body   []byte
}

// place is a database, and receivers at the other end of pipes, in a bubble of
// testing/synctest.
type place struct {
	t     *testing.T
	db    *testdb.DB
	store hook.Store // the database, or what a test puts before it
	log   bytes.Buffer
	logMu sync.Mutex

	mu      sync.Mutex
	seen    []received
	respond http.HandlerFunc // answers at all URLs
	server  *http.Server
	conns   chan net.Conn
	dead    map[string]bool // hosts that cannot be reached
}

// within runs a test in a bubble with a database and receivers.
func within(t *testing.T, test func(p *place)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &place{t: t, conns: make(chan net.Conn), dead: map[string]bool{}, respond: func(w http.ResponseWriter, r *http.Request) {}}
		var err error
		if p.db, err = testdb.New(t).Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.store = p.db
		p.server = &http.Server{Handler: http.HandlerFunc(p.receive), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
		listener := pipes{p.conns, make(chan struct{})}
		go p.server.Serve(listener)
		test(p)
		p.server.Close()
		time.Sleep(2 * time.Minute) // until the slowest receiver has answered
		p.db.Close()
	})
}

// pipes is a listener of connections that never touch the network.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l pipes) Close() error   { close(l.closed); return nil }
func (l pipes) Addr() net.Addr { return &net.UnixAddr{} }

func (p *place) transport() http.RoundTripper {
	return &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		p.mu.Lock()
		dead := p.dead[address]
		p.mu.Unlock()
		if dead {
			return nil, errors.New("connection refused")
		}
		near, far := net.Pipe()
		select {
		case p.conns <- far:
			return near, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
}

func (p *place) receive(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	p.mu.Lock()
	p.seen = append(p.seen, received{time.Now(), r.Host + r.URL.Path, r.Header, body})
	respond := p.respond
	p.mu.Unlock()
	respond(w, r)
}

// answers sets how receivers answer from now on.
func (p *place) answers(respond http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.respond = respond
}

func (p *place) attempts() []received {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen)
}

// Write is for the log.
func (p *place) Write(b []byte) (int, error) {
	p.logMu.Lock()
	defer p.logMu.Unlock()
	return p.log.Write(b)
}

func (p *place) logged() string {
	p.logMu.Lock()
	defer p.logMu.Unlock()
	return p.log.String()
}

// run starts a worker; stop ends it.
func (p *place) run(hooks ...hook.Hook) (stop func()) {
	p.t.Helper()
	w, err := hook.New(hook.Config{Store: p.store, Hooks: hooks, Transport: p.transport(), Log: slog.New(slog.NewTextHandler(p, nil))})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(p.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Errorf("Run: %v", err)
		}
	})
}

// after lets time pass, and waits until nothing moves.
func (p *place) after(d time.Duration) {
	p.t.Helper()
	time.Sleep(d)
	synctest.Wait()
}

// happens stores an event.
func (p *place) happens(eventType, connection string) {
	p.t.Helper()
	event := keeper.Event{At: time.Now(), Type: eventType, Connection: connection, Provider: "plain", Actor: "keeper"}
	if _, err := p.db.Keeper().Record(p.t.Context(), event); err != nil {
		p.t.Fatal(err)
	}
}

// deliveries are all, oldest first.
func (p *place) deliveries() []hook.Delivery {
	p.t.Helper()
	all, err := p.db.Deliveries(p.t.Context(), 0, 1000)
	if err != nil {
		p.t.Fatal(err)
	}
	slices.Reverse(all)
	return all
}

var key = secret.NewText("whsec")

// claimed is for how long a delivery that was begun is nobody else's.
const claimed = time.Minute

func to(name string, events ...string) hook.Hook {
	return hook.Hook{Name: name, URL: "http://" + name + ".example/hooks?token=hush", Secret: key, Events: events}
}

func TestDelivery(t *testing.T) {
	within(t, func(p *place) {
		p.happens("connection.created", "before")
		stop := p.run(to("app", "connection.*"))
		defer stop()
		p.after(2 * time.Second)
		p.happens("connection.reauthorize", "one")
		p.happens("provider.down", "")
		p.after(2 * time.Second)
		seen := p.attempts()
		if len(seen) != 1 {
			t.Fatalf("%d attempts, want 1: what happened before there were webhooks, and what they do not want, is not delivered", len(seen))
		}
		got := seen[0]
		delivery := p.deliveries()[0]
		for name, want := range map[string]string{
			"Content-Type": "application/json", "User-Agent": "evergrant", "Evergrant-Event": "connection.reauthorize",
			"Evergrant-Delivery": fmt.Sprint(delivery.ID), "Evergrant-Attempt": "1", "Evergrant-Signature": hook.Sign(key, got.at, got.body),
		} {
			if got.header.Get(name) != want {
				t.Errorf("%s: %q, want %q", name, got.header.Get(name), want)
			}
		}
		var body struct {
			ID   int64
			Type string
			At   time.Time
			Data keeper.Event
		}
		if err := json.Unmarshal(got.body, &body); err != nil {
			t.Fatal(err)
		}
		if body.ID != delivery.Event || body.Type != "connection.reauthorize" || body.At.IsZero() || body.Data.Connection != "one" || body.Data.Type != body.Type {
			t.Errorf("body %s", got.body)
		}
		if delivery.Hook != "app" || delivery.Attempts != 1 || delivery.Status != 200 || delivery.DoneAt.IsZero() || !delivery.NextAt.IsZero() || delivery.Error != "" {
			t.Errorf("delivery %+v", delivery)
		}
		p.after(5 * time.Minute)
		if n := len(p.attempts()); n != 1 {
			t.Errorf("%d attempts after five minutes", n)
		}
	})
}

// TestRetries: the attempts come when they are promised, and end, whichever
// process makes them.
func TestRetries(t *testing.T) {
	within(t, func(p *place) {
		p.answers(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
		stop := p.run(to("app"))
		p.after(2 * time.Second)
		p.happens("connection.expiring", "one")
		p.after(3 * time.Second)
		var waits []time.Duration
		for d := p.deliveries()[0]; !d.NextAt.IsZero() && len(waits) < 20; d = p.deliveries()[0] {
			stop()
			seen := p.attempts()
			waits = append(waits, d.NextAt.Sub(seen[len(seen)-1].at).Round(time.Second))
			p.after(time.Until(d.NextAt) - 2*time.Second)
			stop = p.run(to("app"))
			p.after(time.Second)
			if n := len(p.attempts()); n != len(seen) {
				t.Fatalf("attempt %d came too early", n)
			}
			p.after(3 * time.Second)
			if n := len(p.attempts()); n != len(seen)+1 {
				t.Fatalf("%d attempts, want %d", n, len(seen)+1)
			}
		}
		stop()
		want := []time.Duration{10 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour}
		if !slices.Equal(waits, want) {
			t.Errorf("waits %v, want %v", waits, want)
		}
		seen := p.attempts()
		for i, attempt := range seen {
			if attempt.header.Get("Evergrant-Attempt") != fmt.Sprint(i+1) || attempt.header.Get("Evergrant-Delivery") != seen[0].header.Get("Evergrant-Delivery") {
				t.Errorf("attempt %d: %v", i+1, attempt.header)
			}
			if attempt.header.Get("Evergrant-Signature") != hook.Sign(key, attempt.at, attempt.body) || !bytes.Equal(attempt.body, seen[0].body) {
				t.Errorf("attempt %d is signed for another time, or has another body", i+1)
			}
		}
		d := p.deliveries()[0]
		if d.Attempts != 9 || !d.DoneAt.IsZero() || d.Status != 500 || !strings.Contains(d.Error, "500 Internal Server Error") {
			t.Errorf("given up as %+v", d)
		}
		if !strings.Contains(p.logged(), "a delivery was given up") || strings.Contains(p.logged(), "hush") {
			t.Errorf("log %s", p.logged())
		}
	})
}

func TestAnswersOfReceivers(t *testing.T) {
	for name, tt := range map[string]struct {
		respond   http.HandlerFunc
		delivered bool
		status    int
		says      string
	}{
		"200": {func(w http.ResponseWriter, r *http.Request) {}, true, 200, ""},
		"202": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(202) }, true, 202, ""},
		"204": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }, true, 204, ""},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://else.example/hush", http.StatusTemporaryRedirect)
		}, false, 307, "redirects are not followed"},
		"400":     {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(400) }, false, 400, "400 Bad Request"},
		"410":     {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(410) }, false, 410, "410 Gone"},
		"429":     {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(429) }, false, 429, "429 Too Many Requests"},
		"late":    {func(w http.ResponseWriter, r *http.Request) { time.Sleep(20 * time.Second) }, false, 0, "no answer within 15s"},
		"cut off": {func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, false, 0, "EOF"},
		"long":    {func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 1<<20)) }, true, 200, ""},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, true, 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func(p *place) {
				p.answers(tt.respond)
				stop := p.run(to("app"))
				p.after(2 * time.Second)
				p.happens("connection.recovered", "one")
				p.after(18 * time.Second)
				stop()
				p.after(10 * time.Second)
				d := p.deliveries()[0]
				if d.DoneAt.IsZero() == tt.delivered || d.Status != tt.status || !strings.Contains(d.Error, tt.says) || tt.says == "" && d.Error != "" {
					t.Errorf("delivery %+v", d)
				}
				if strings.Contains(d.Error, "hush") {
					t.Errorf("the error tells a secret: %s", d.Error)
				}
				for _, attempt := range p.attempts() {
					if strings.HasPrefix(attempt.path, "else.example") {
						t.Error("a redirect was followed")
					}
				}
			})
		})
	}
}

// TestHooksAreApart: one that does not answer keeps no other waiting, however
// much there is for it.
func TestHooksAreApart(t *testing.T) {
	within(t, func(p *place) {
		p.answers(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.Host, "slow") {
				time.Sleep(time.Minute)
			}
		})
		p.dead["dead.example:80"] = true
		stop := p.run(to("slow"), to("app", "connection.*"), to("dead"))
		defer stop()
		p.after(2 * time.Second)
		for range 100 {
			p.happens("connection.refreshed", "one")
		}
		p.after(5 * time.Second)
		done := map[string]int{}
		for _, d := range p.deliveries() {
			if !d.DoneAt.IsZero() {
				done[d.Hook]++
			}
			if d.Hook == "dead" && (d.Attempts != 1 || !strings.Contains(d.Error, "connection refused") || strings.Contains(d.Error, "hush")) {
				t.Errorf("delivery %+v", d)
			}
		}
		if done["app"] != 100 || done["slow"] != 0 || done["dead"] != 0 {
			t.Errorf("delivered %v", done)
		}
	})
}

// TestTwoWorkers: what two share is delivered once.
func TestTwoWorkers(t *testing.T) {
	within(t, func(p *place) {
		stopOne, stopTwo := p.run(to("app")), p.run(to("app"))
		defer stopOne()
		defer stopTwo()
		p.after(2 * time.Second)
		for i := range 200 {
			p.happens("connection.refreshed", fmt.Sprint("c", i))
		}
		p.after(30 * time.Second)
		times := map[string]int{}
		for _, attempt := range p.attempts() {
			times[attempt.header.Get("Evergrant-Delivery")]++
		}
		for id, n := range times {
			if n != 1 {
				t.Errorf("delivery %s was sent %d times", id, n)
			}
		}
		if len(times) != 200 {
			t.Errorf("%d deliveries were sent", len(times))
		}
	})
}

// TestStopAndStart: nothing that happened while no worker ran is missed.
func TestStopAndStart(t *testing.T) {
	within(t, func(p *place) {
		stop := p.run(to("app"))
		p.after(2 * time.Second)
		stop()
		p.happens("connection.paused", "one")
		p.after(time.Hour)
		if n := len(p.attempts()); n != 0 {
			t.Fatalf("%d attempts while nothing ran", n)
		}
		stop = p.run(to("app"))
		defer stop()
		p.after(3 * time.Second)
		if n := len(p.attempts()); n != 1 {
			t.Errorf("%d attempts afterwards", n)
		}
	})
}

// An attempt that the end breaks off counts for nothing, and is made again.
func TestStopWithinAnAttempt(t *testing.T) {
	within(t, func(p *place) {
		p.answers(func(w http.ResponseWriter, r *http.Request) { time.Sleep(5 * time.Second) })
		stop := p.run(to("app"))
		p.after(2 * time.Second)
		p.happens("connection.paused", "one")
		p.after(2 * time.Second)
		stop()
		if d := p.deliveries()[0]; d.Attempts != 0 || d.Error != "" || d.NextAt.IsZero() {
			t.Errorf("broken off as %+v", d)
		}
		p.answers(func(w http.ResponseWriter, r *http.Request) {})
		stop = p.run(to("app"))
		defer stop()
		p.after(2 * time.Minute)
		if d := p.deliveries()[0]; d.Attempts != 1 || d.DoneAt.IsZero() {
			t.Errorf("in the end %+v", d)
		}
	})
}

// failing is the database with a step that fails: before it is done, or after.
type failing struct {
	*testdb.DB
	mu     sync.Mutex
	method string
	after  bool
	struck int
}

func (f *failing) step(method string, do func() error) error {
	f.mu.Lock()
	fails := f.method == method
	after := f.after
	if fails {
		f.struck++
	}
	f.mu.Unlock()
	if fails && !after {
		return errors.New("disk I/O error")
	}
	err := do()
	if fails && err == nil {
		return errors.New("disk I/O error")
	}
	return err
}

func (f *failing) set(method string, after bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.method, f.after = method, after
}

func (f *failing) Feed(ctx context.Context, after int64, limit int) (events []hook.Event, err error) {
	err = f.step("Feed", func() error { events, err = f.DB.Feed(ctx, after, limit); return err })
	return events, err
}

func (f *failing) Plan(ctx context.Context, from, to int64, deliveries []hook.Delivery) (did bool, err error) {
	err = f.step("Plan", func() error { did, err = f.DB.Plan(ctx, from, to, deliveries); return err })
	return did, err
}

func (f *failing) Claim(ctx context.Context, name string, at, until time.Time, limit int) (due []hook.Delivery, err error) {
	err = f.step("Claim", func() error { due, err = f.DB.Claim(ctx, name, at, until, limit); return err })
	return due, err
}

func (f *failing) Settle(ctx context.Context, d hook.Delivery) error {
	return f.step("Settle", func() error { return f.DB.Settle(ctx, d) })
}

// TestStoreThatFails fails each step, not done and done. When the store works
// again everything is delivered: once, or where it could not be noted, again.
func TestStoreThatFails(t *testing.T) {
	for _, method := range []string{"Feed", "Plan", "Claim", "Settle"} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s done %v", method, after), func(t *testing.T) {
				within(t, func(p *place) {
					store := &failing{DB: p.db}
					p.store = store
					stop := p.run(to("app"))
					defer stop()
					p.after(2 * time.Second)
					store.set(method, after)
					p.happens("connection.reauthorize", "one")
					p.after(5 * time.Second)
					store.set("", false)
					p.after(claimed + 15*time.Second)
					if store.struck == 0 {
						t.Fatal("the step was not made to fail")
					}
					all := p.deliveries()
					if len(all) != 1 || all[0].DoneAt.IsZero() {
						t.Fatalf("deliveries %+v", all)
					}
					attempts := len(p.attempts())
					if again := method == "Settle" && !after; attempts < 1 || attempts > 1 && !again {
						t.Errorf("%d attempts", attempts)
					}
					log := p.logged()
					if strings.Count(log, "the store fails") != 1 || strings.Count(log, "the store works again") != 1 {
						t.Errorf("the log does not say once that and when the store failed:\n%s", log)
					}
				})
			})
		}
	}
}

// telling is a store that tells of events when the test says so.
type telling struct {
	hook.Store
	told      chan struct{}
	listening atomic.Int32
}

func (s *telling) Listen(ctx context.Context) <-chan struct{} {
	s.listening.Add(1)
	context.AfterFunc(ctx, func() { s.listening.Add(-1) })
	return s.told
}

// TestToldOfEvents: where the store tells of an event, it is delivered at once,
// and otherwise with the next look, as it is where nothing was told.
func TestToldOfEvents(t *testing.T) {
	within(t, func(p *place) {
		store := &telling{Store: p.db, told: make(chan struct{})}
		p.store = store
		stop := p.run() // without webhooks nobody has to be told
		p.after(2500 * time.Millisecond)
		if n := store.listening.Load(); n != 0 {
			t.Errorf("%d listen", n)
		}
		stop()
		stop = p.run(to("app"))
		p.after(1500 * time.Millisecond) // half a second before the next look
		p.happens("connection.recovered", "one")
		p.after(0)
		if n := len(p.attempts()); n != 0 {
			t.Fatalf("%d attempts before anybody looked", n)
		}
		store.told <- struct{}{}
		p.after(0)
		if n := len(p.attempts()); n != 1 {
			t.Errorf("%d attempts after it was told", n)
		}
		p.happens("connection.recovered", "two") // of which nothing tells
		p.after(time.Second)
		if n := len(p.attempts()); n != 2 {
			t.Errorf("%d attempts after a second", n)
		}
		if n := store.listening.Load(); n != 1 {
			t.Errorf("%d listen", n)
		}
		stop()
		p.after(0)
		if n := store.listening.Load(); n != 0 {
			t.Errorf("%d listen after the end", n)
		}
	})
}

func TestNew(t *testing.T) {
	if _, err := hook.New(hook.Config{Hooks: []hook.Hook{to("a"), to("a")}}); err == nil || !strings.Contains(err.Error(), "taken") {
		t.Errorf("two of one name: %v", err)
	}
	if _, err := hook.New(hook.Config{Hooks: []hook.Hook{{Name: "a"}}}); err == nil {
		t.Error("a bad webhook is accepted")
	}
	if _, err := hook.New(hook.Config{Hooks: []hook.Hook{to("a"), to("b")}}); err != nil {
		t.Error(err)
	}
}

// Without webhooks the plan goes on all the same, so that one that is configured
// later begins with what happens then.
func TestWithoutHooks(t *testing.T) {
	within(t, func(p *place) {
		stop := p.run()
		p.after(2 * time.Second)
		p.happens("connection.paused", "one")
		p.after(2 * time.Second)
		stop()
		stop = p.run(to("app"))
		defer stop()
		p.after(2 * time.Second)
		if n := len(p.attempts()); n != 0 {
			t.Errorf("%d attempts of what happened before", n)
		}
	})
}
