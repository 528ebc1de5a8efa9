package keeper_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
	"github.com/evergrant/evergrant/secret"
)

// The whole form of TestScale keeps as many connections as scaleEnv says, with
// access tokens of 20 minutes, for as many minutes as scaleMinutesEnv says.
const (
	scaleEnv         = "EVERGRANT_SCALE"
	scaleMinutesEnv  = "EVERGRANT_SCALE_MINUTES"
	scaleProviderEnv = "EVERGRANT_SCALE_PROVIDER" // in the provider's process, the lifetime
)

// scale is what is to be kept fresh.
type scale struct {
	connections int
	life        time.Duration // of access tokens
	lasts       time.Duration
	behind      time.Duration // how much is due at the beginning
}

func scaleOf(t *testing.T) scale {
	number := func(name string, otherwise int) int {
		n, err := strconv.Atoi(cmp.Or(os.Getenv(name), strconv.Itoa(otherwise)))
		if err != nil || n < 1 {
			t.Fatalf("%s must be a number of 1 or more", name)
		}
		return n
	}
	if os.Getenv(scaleEnv) == "" {
		return scale{connections: 3000, life: 10 * time.Minute, lasts: 3 * time.Second, behind: 20 * time.Second}
	}
	return scale{connections: number(scaleEnv, 0), life: 20 * time.Minute, lasts: time.Duration(number(scaleMinutesEnv, 3)) * time.Minute}
}

// fresh is the part of an access token's life after which it is renewed, on
// average: a quarter is the refresh ahead, and up to a tenth is jitter.
const fresh = 0.7

// TestScale keeps many connections fresh at the rate at which their tokens
// expire. Their renewals are spread evenly over the time between two of them. No
// token may expire, no refresh token be sent twice, and what is idle must cost
// next to no memory.
func TestScale(t *testing.T) {
	s := scaleOf(t)
	p := startScaleProvider(t, s.life)
	w := emptyWorld(t)
	w.openStore()
	store := &scaleStore{Store: w.db.Keeper(), now: w.clock.now, due: make([]atomic.Int64, s.connections), expires: make([]int64, s.connections),
		lateness: make([]time.Duration, 0, s.connections)}
	w.store = store
	w.change = func(cfg *keeper.Config) {
		sim := providertest.New(scaleDialect(s.life), providertest.Options{})
		def := sim.Definition(p.url)
		def.Limits = provider.Limits{Concurrency: 64, Rate: provider.Rate{Count: 100_000, Per: oauth.Lifetime(time.Second)}}
		cfg.Providers = []*provider.Provider{newProvider(t, "scale", def, w.clock.now, nil)}
		cfg.Log, cfg.Rand = slog.New(slog.DiscardHandler), nil
	}
	w.start()
	before := heap()
	first := p.connections(t, w.k, s, store)
	idle := float64(heap()-before) / float64(s.connections)
	if idle >= 1024 {
		t.Errorf("an idle connection costs %.0f bytes of heap", idle)
	}

	w.clock.move(first.Add(s.behind).Sub(w.clock.now()))
	needed, began, spentBefore := store.dueWithin(s.lasts), time.Now(), cpu()
	store.began = w.clock.now().UnixMilli()
	runIn(t, func() {
		time.Sleep(s.lasts)
		for store.renewed() < needed && time.Since(began) < s.lasts+time.Minute { // of a machine that is busy with other things
			time.Sleep(10 * time.Millisecond)
		}
	}, w.k)
	took, spent := time.Since(began), cpu()-spentBefore

	done := len(store.lateness)
	if done < needed || needed == 0 {
		t.Errorf("%d renewals were needed and %d done", needed, done)
	}
	if store.expired > 0 || store.dead(w.clock.now()) > 0 {
		t.Errorf("%d tokens were renewed too late, and %d are expired", store.expired, store.dead(w.clock.now()))
	}
	if got := p.stats(t); got.DoubleSpends != 0 || got.Refreshes != done {
		t.Errorf("the provider saw %d refreshes and %d refresh tokens twice", got.Refreshes, got.DoubleSpends)
	}
	slices.Sort(store.lateness)
	at := func(part float64) time.Duration {
		return store.lateness[min(int(part*float64(done)), done-1)].Round(time.Millisecond)
	}
	if done > 0 {
		t.Logf("%d connections with tokens of %s for %s", s.connections, s.life, took.Round(time.Millisecond))
		t.Logf("renewals per second: %.1f needed, %.1f done", float64(needed)/s.lasts.Seconds(), float64(done)/took.Seconds())
		t.Logf("from due to durable: median %s, p99 %s, at most %s", at(0.5), at(0.99), at(1))
		t.Logf("CPU: %.2f s, %.2f ms per renewal", spent.Seconds(), spent.Seconds()*1000/float64(done))
		t.Logf("per connection: %.0f bytes of heap when idle, %.0f afterwards, %.0f bytes resident in all", idle,
			float64(heap()-before)/float64(s.connections), float64(resident())/float64(s.connections))
	}
}

func scaleDialect(life time.Duration) providertest.Dialect {
	return providertest.Dialect{Name: "scale", AccessLife: life}
}

// scaleStore notes when renewals are due, and when they are durable.
type scaleStore struct {
	keeper.Store
	now func() time.Time
	due []atomic.Int64 // by number, in milliseconds

	began int64 // when the keeper began to renew

	mu       sync.Mutex
	expires  []int64 // by number, in milliseconds
	lateness []time.Duration
	expired  int
}

func scaleID(n int) string { return fmt.Sprintf("scale-%07d", n) }

func numberOf(id string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(id, "scale-"))
	return n
}

func (s *scaleStore) Create(ctx context.Context, c keeper.Connection, event keeper.Event) error {
	err := s.Store.Create(ctx, c, event)
	s.note(c)
	return err
}

func (s *scaleStore) note(c keeper.Connection) {
	s.due[numberOf(c.ID)].Store(c.DueAt.UnixMilli())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expires[numberOf(c.ID)] = c.ExpiresAt.UnixMilli()
}

func (s *scaleStore) Commit(ctx context.Context, fence, generation uint64, next keeper.Connection, events ...keeper.Event) (bool, error) {
	done, err := s.Store.Commit(ctx, fence, generation, next, events...)
	if !done || len(events) == 0 || events[0].Type != keeper.EventRefreshed {
		return done, err
	}
	now, n := s.now().UnixMilli(), numberOf(next.ID)
	s.mu.Lock()
	s.lateness = append(s.lateness, time.Duration(now-max(s.due[n].Load(), s.began))*time.Millisecond)
	if now >= s.expires[n] {
		s.expired++
	}
	s.mu.Unlock()
	s.note(next)
	return done, err
}

// renewed counts renewals that are durable.
func (s *scaleStore) renewed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.lateness)
}

// dueWithin counts what is due now or will be.
func (s *scaleStore) dueWithin(d time.Duration) (n int) {
	end := s.now().Add(d).UnixMilli()
	for i := range s.due {
		if s.due[i].Load() <= end {
			n++
		}
	}
	return n
}

// dead counts expired tokens.
func (s *scaleStore) dead(now time.Time) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, expires := range s.expires {
		if expires <= now.UnixMilli() {
			n++
		}
	}
	return n
}

// scaleProvider is a simulator in a process of its own, whose work is not counted.
type scaleProvider struct{ url string }

// scaleGrant is a new grant's tokens, and scaleStats what a simulator counted.
type (
	scaleGrant struct{ Access, Refresh string }
	scaleStats struct{ Refreshes, DoubleSpends int }
)

// serveScale is the provider's process, which ends with its standard input.
func serveScale(life string) error {
	d, err := time.ParseDuration(life)
	if err != nil {
		return err
	}
	sim, mux := providertest.New(scaleDialect(d), providertest.Options{}), http.NewServeMux()
	mux.Handle("/", sim)
	mux.HandleFunc("/scale/connect", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.FormValue("n"))
		grants := make([]scaleGrant, n)
		for i := range grants {
			_, tokens := sim.Connect("owner")
			grants[i] = scaleGrant{tokens.AccessToken.Reveal(), tokens.RefreshToken.Reveal()}
		}
		json.NewEncoder(w).Encode(grants)
	})
	mux.HandleFunc("/scale/stats", func(w http.ResponseWriter, _ *http.Request) {
		stats := sim.Stats()
		json.NewEncoder(w).Encode(scaleStats{stats.Requests[provider.Refresh], len(stats.DoubleSpends)})
	})
	url, stop := providertest.Listen(mux)
	defer stop()
	fmt.Println(url)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func startScaleProvider(t *testing.T, life time.Duration) *scaleProvider {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), scaleProviderEnv+"="+life.String())
	cmd.Stderr = os.Stderr
	stdin, stdout := must[io.WriteCloser](t)(cmd.StdinPipe()), must[io.ReadCloser](t)(cmd.StdoutPipe())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the provider's process does not start: %v", err)
	}
	return &scaleProvider{url: strings.TrimSpace(line)}
}

func (p *scaleProvider) get(t *testing.T, path string, into any) {
	t.Helper()
	resp := must[*http.Response](t)(http.Get(p.url + path))
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}

func (p *scaleProvider) stats(t *testing.T) (stats scaleStats) {
	t.Helper()
	p.get(t, "/scale/stats", &stats)
	return stats
}

// connections imports all, with renewals that are due evenly between a first
// time, which is returned, and the time between two renewals later.
func (p *scaleProvider) connections(t *testing.T, k *keeper.Keeper, s scale, store *scaleStore) (first time.Time) {
	t.Helper()
	const batch = 500
	began := store.now()
	first = began.Add(s.life / 4)
	var grants []scaleGrant
	for at := 0; at < s.connections; at += batch {
		p.get(t, fmt.Sprintf("/scale/connect?n=%d", min(batch, s.connections-at)), &grants)
		var importing sync.WaitGroup
		for part := range 50 {
			importing.Go(func() {
				for i := part; i < len(grants); i += 50 {
					due := first.Add(time.Duration(float64(at+i) / float64(s.connections) * fresh * float64(s.life))).Sub(store.now())
					_, err := k.Create(context.Background(), operator, keeper.Import{ID: scaleID(at + i), Provider: "scale", Owner: strconv.Itoa((at + i) % 1000),
						AccessToken: secret.NewText(grants[i].Access), RefreshToken: secret.NewText(grants[i].Refresh),
						ExpiresAt: store.now().Add(time.Duration(float64(due) / fresh))})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		importing.Wait()
	}
	return first
}

// heap is what is in use of it, when nothing is left to be collected.
func heap() int64 {
	var stats runtime.MemStats
	for range 2 {
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// resident is the memory of this process, in bytes; 0 elsewhere than on Linux.
func resident() (n int64) {
	text, _ := os.ReadFile("/proc/self/status")
	for line := range bytes.Lines(text) {
		if fields := strings.Fields(string(line)); len(fields) == 3 && fields[0] == "VmRSS:" {
			n, _ = strconv.ParseInt(fields[1], 10, 64)
		}
	}
	return n << 10
}

// cpu is the time that this process has computed.
func cpu() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
