package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/killtest"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
)

// replica is what a server process of these tests is told: its place.
type replica struct {
	URL      string        `json:"url"`
	Deadline time.Duration `json:"deadline"`
	Next     bool          `json:"next"` // it is of the next release
}

// nextRelease has a migration more than this one, which only adds.
func nextRelease() []migration {
	const more = `ALTER TABLE grants ADD COLUMN note text NOT NULL DEFAULT ''; CREATE INDEX grants_created ON grants (created_at);
		ALTER TABLE events ADD COLUMN session text; CREATE TABLE notes (id bigint PRIMARY KEY)`
	return append(migrations(), migration{more, 1})
}

// serveReplica is the server process.
func serveReplica(place string) error {
	var told replica
	if err := json.Unmarshal([]byte(place), &told); err != nil {
		return err
	}
	steps := migrations()
	if told.Next {
		steps = nextRelease()
	}
	ctx := context.Background()
	db, err := open(ctx, told.URL, Options{Deadline: told.Deadline}, steps)
	if err != nil {
		return err
	}
	return killtest.Serve(ctx, db, func(mux *http.ServeMux) {
		mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
			if err := db.Ready(r.Context()); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
			}
		})
	})
}

// cluster is servers that share a database, what distributes requests to them,
// and clients.
type cluster struct {
	*balancer
	site    killtest.Site
	told    replica
	servers []*killtest.Process
	service *killtest.Service[*DB] // of this process, to read what the database holds
	load    *killtest.Load
}

// newCluster starts servers on an empty database.
func newCluster(t *testing.T, told replica, servers int) *cluster {
	t.Helper()
	c := &cluster{balancer: newBalancer(t), site: killtest.NewSite(), told: told}
	c.site.RetryWindow = issuer.Lifetime(time.Hour) // clients come back to their grants late
	c.open(told.URL)
	must(t, c.service.Populate(t.Context(), c.site))
	for range servers {
		c.start(told)
	}
	c.load = killtest.NewLoad(t, killtest.NewApp(c.site, "http://any", c.balancer), rand.New(rand.NewPCG(1, 7)))
	c.load.Ended = c.checkEnded
	return c
}

// open makes the service of this process one on a database.
func (c *cluster) open(url string) {
	c.t.Helper()
	if c.service != nil {
		must(c.t, c.service.Store.Close())
	}
	var err error
	c.service, err = killtest.NewService(c.t.Context(), opened(c.t, url), c.site.Root, nil)
	must(c.t, err)
}

// start adds a server to those that requests are sent to.
func (c *cluster) start(told replica) *killtest.Process {
	c.t.Helper()
	place, err := json.Marshal(told)
	must(c.t, err)
	p := killtest.Start(c.t, string(place), c.site)
	c.servers = append(c.servers, p)
	c.add(p.Address)
	return p
}

// kill kills a server under load, and forgets it.
func (c *cluster) kill(i int) {
	c.t.Helper()
	p := c.servers[i]
	c.servers = slices.Delete(c.servers, i, i+1)
	c.dying(p.Address)
	p.Kill()
	p.Killed(c.t)
	c.remove(p.Address)
}

// at is a client that talks to one server alone.
func (c *cluster) at(p *killtest.Process) *killtest.App {
	return killtest.NewApp(c.site, "http://any", pinned{c.balancer, p.Address})
}

// ready asks a server for its health.
func (c *cluster) ready(p *killtest.Process) bool {
	response, err := p.App.HTTP.Get("http://" + p.Address + "/readyz")
	if err != nil {
		c.t.Error(err)
		return false
	}
	defer response.Body.Close()
	io.Copy(io.Discard, response.Body)
	return response.StatusCode == http.StatusOK
}

// allReady waits until all servers say that they are.
func (c *cluster) allReady() {
	c.t.Helper()
	for _, p := range c.servers {
		eventually(c.t, "a server is ready", func() bool { return c.ready(p) })
	}
}

// checkEnded holds that every server knows at once of a revocation that one has
// answered. A server that dies, or has no database, may give no answer.
func (c *cluster) checkEnded(client string, newest killtest.Answer) {
	for _, p := range c.living() {
		app := killtest.NewApp(c.site, "http://any", pinned{c.balancer, p})
		for _, token := range []string{newest.Tokens.AccessToken, newest.Tokens.RefreshToken} {
			if seen, err := app.Introspect(c.t.Context(), client, token); err == nil && seen.Active {
				c.t.Errorf("grant %s was revoked, and another server takes its token for good", newest.Grant())
			}
		}
		if a, err := app.Refresh(c.t.Context(), client, newest.Tokens.RefreshToken); err == nil && !a.Refuses(oauth.InvalidGrant) {
			c.t.Errorf("grant %s was revoked, and another server answers %v", newest.Grant(), a)
		}
	}
}

// working lets the clients work until the function that it returns is called,
// and says then how many refreshes were answered.
func (c *cluster) working() (stop func() int) {
	var stopped atomic.Bool
	var load sync.WaitGroup
	before := c.load.Refreshed.Load()
	load.Go(func() {
		c.load.Work(func(answered bool) bool {
			if !answered {
				time.Sleep(50 * time.Millisecond) // and not as fast as it can, or nothing else has a CPU
			}
			return !stopped.Load() && !c.t.Failed()
		})
	})
	return func() int {
		stopped.Store(true)
		load.Wait()
		return int(c.load.Refreshed.Load() - before)
	}
}

// refreshed waits until the clients have been answered so many refreshes more.
func (c *cluster) refreshed(more int64) {
	c.t.Helper()
	goal := c.load.Refreshed.Load() + more
	eventually(c.t, "refreshes are answered", func() bool { return c.load.Refreshed.Load() >= goal || c.t.Failed() })
	if c.t.Failed() {
		c.t.FailNow()
	}
}

// judge compares what the database holds, while no client works, with what they
// were told, and lets them find out about what they were not.
func (c *cluster) judge() killtest.Recalled {
	c.t.Helper()
	state, err := c.service.State(c.t.Context())
	must(c.t, err)
	found := c.load.Recall(state)
	c.load.Resolve(state)
	if c.t.Failed() {
		c.t.FailNow()
	}
	return found
}

// balancer sends each request to another server than the last one, and minds what
// comes back: no answer only of servers that are being killed, and 503 only while
// the database is away, with the word to come again. Its clients see neither.
type balancer struct {
	t         *testing.T
	transport *http.Transport

	mu       sync.Mutex
	servers  []*upstream
	next     int
	away     bool // the database is
	outages  int
	refusals int
}

// upstream is a server of a balancer.
type upstream struct {
	address string
	dying   bool
	flying  sync.WaitGroup // requests
}

func newBalancer(t *testing.T) *balancer {
	b := &balancer{t: t, transport: killtest.KeptAlive()}
	t.Cleanup(b.transport.CloseIdleConnections)
	return b
}

func (b *balancer) add(address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.servers = append(b.servers, &upstream{address: address})
}

// remove takes a server out, and waits until all that it was asked is answered.
func (b *balancer) remove(address string) {
	b.mu.Lock()
	i := slices.IndexFunc(b.servers, func(u *upstream) bool { return u.address == address })
	u := b.servers[i]
	b.servers = slices.Delete(b.servers, i, i+1)
	b.mu.Unlock()
	u.flying.Wait()
}

func (b *balancer) dying(address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, u := range b.servers {
		u.dying = u.dying || u.address == address
	}
}

func (b *balancer) living() (addresses []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, u := range b.servers {
		addresses = append(addresses, u.address)
	}
	return addresses
}

// outage says that the database goes away, or that it is back.
func (b *balancer) outage(away bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = away
	b.outages++
}

// RoundTrip sends a request to the next server.
func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	b.mu.Lock()
	b.next++
	address := b.servers[b.next%len(b.servers)].address
	b.mu.Unlock()
	return b.send(r, address)
}

// pinned sends requests to one server.
type pinned struct {
	b       *balancer
	address string
}

func (p pinned) RoundTrip(r *http.Request) (*http.Response, error) { return p.b.send(r, p.address) }

var (
	errGone = errors.New("the server is gone")
	errAway = errors.New("the server says that its database is away")
)

func (b *balancer) send(r *http.Request, address string) (*http.Response, error) {
	b.mu.Lock()
	i := slices.IndexFunc(b.servers, func(u *upstream) bool { return u.address == address })
	if i < 0 {
		b.mu.Unlock()
		return nil, errGone
	}
	u, away, outages := b.servers[i], b.away, b.outages
	u.flying.Add(1)
	b.mu.Unlock()
	defer u.flying.Done()

	r = r.Clone(r.Context())
	r.URL.Host = address
	response, err := b.transport.RoundTrip(r)

	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		if !u.dying && r.Context().Err() == nil {
			b.t.Errorf("a server that nobody kills gives no answer: %v", err)
		}
		return nil, err
	}
	if !unavailableNow(response) {
		return response, nil
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode == http.StatusServiceUnavailable && response.Header.Get("Retry-After") == "" {
		b.t.Errorf("503 without Retry-After: %s", body)
	}
	if !away && outages == b.outages {
		b.t.Errorf("refused while the database is there: %s%s", response.Header.Get("Location"), body)
	}
	b.refusals++
	return nil, errAway
}

// unavailableNow reports whether an answer says that the server cannot serve at the
// moment: with its status, or to the client's page (RFC 6749 section 4.1.2.1).
func unavailableNow(r *http.Response) bool {
	if r.StatusCode == http.StatusServiceUnavailable {
		return true
	}
	back, err := r.Location()
	return err == nil && back.Query().Get("error") == oauth.TemporarilyUnavailable
}

// answered passes an answer on that must be good.
func answered(t *testing.T, a killtest.Answer, err error) killtest.Answer {
	t.Helper()
	if err == nil && !a.OK() {
		err = fmt.Errorf("answered %v", a)
	}
	must(t, err)
	return a
}
