package postgres

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/killtest"
	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// answersWithin is how long after a promotion refreshes are answered again.
const answersWithin = 2 * time.Second

// TestPromotion kills the primary under load and promotes its synchronous
// standby, there and back again. Nobody tells the servers.
func TestPromotion(t *testing.T) {
	primary := pgtest.Start(t)
	primary.Create(t, "a")
	standby := primary.Standby(t)
	c := newCluster(t, replica{URL: pgtest.URL("a", primary, standby)}, 3)
	for range kills(t, 2) {
		stop := c.working()
		c.refreshed(200)
		probe := c.renewing(t, killtest.OpaqueClient)
		c.outage(true)
		primary.Kill(t)
		standby.Promote(t)
		promoted := time.Now()
		standby.Alone(t)
		alone := time.Since(promoted)
		took := probe().Sub(promoted)
		if took > answersWithin {
			t.Errorf("the first refresh was answered %v after the promotion", took)
		}
		c.allReady()
		c.outage(false)
		c.refreshed(200)
		refreshed := stop()
		c.judge()
		t.Logf("answered %v after the promotion (its standby's name was taken out after %v); %d refreshes around it, 503 %d times so far",
			took.Round(time.Millisecond), alone.Round(time.Millisecond), refreshed, c.refusals)
		primary.Rejoin(t, standby)
		primary, standby = standby, primary
	}
	killtest.Examine(t.Context(), c.load, c.service)
}

// TestPromotionLeftUndone promotes the standby and leaves it waiting for one of
// its own, so that no commit ends. Every server says that it is not ready, refuses
// at once what it cannot do, and leaves the database's sessions alone. When commits
// pass again all is well by itself, and nobody is taken for a thief whose token was
// spent by one that hung for longer than a retry window is open.
func TestPromotionLeftUndone(t *testing.T) {
	primary := pgtest.Start(t)
	primary.Create(t, "a")
	standby := primary.Standby(t)
	const deadline = 2 * time.Second
	c := newCluster(t, replica{URL: pgtest.URL("a", primary, standby), Deadline: deadline}, 3)
	c.register(t, "hasty-app", deadline/2)
	var back []func() time.Time
	for range 12 {
		back = append(back, c.renewing(t, "hasty-app"))
	}
	stop := c.working()
	c.refreshed(200)
	c.outage(true)
	primary.Kill(t)
	standby.Promote(t)

	for _, p := range c.servers {
		eventually(t, "a server says that it is not ready, and need not find out first", func() bool {
			asked := time.Now()
			return !c.ready(p) && time.Since(asked) < deadline/2
		})
	}
	hung, open := number(t, standby, "", hungInSync), number(t, standby, "", sessions)
	if hung == 0 || hung > len(c.servers)*defaultConns {
		t.Errorf("%d commits hang, of %d servers", hung, len(c.servers))
	}
	asked := time.Now()
	const many = 100
	for i := range many {
		app := c.at(c.servers[i%len(c.servers)])
		if _, err := app.Grant(t.Context(), killtest.OpaqueClient); !errors.Is(err, errAway) {
			t.Errorf("a database that does not commit: %v", err)
		}
	}
	if took := time.Since(asked); took > many*deadline/10 {
		t.Errorf("%d requests were refused in %v: they waited for something", many, took)
	}
	c.refusedMore(t, 300)
	if now := number(t, standby, "", hungInSync); now != hung {
		t.Errorf("%d commits hung, and now %d", hung, now)
	}
	if now := number(t, standby, "", sessions); now > hung+(len(c.servers)+1)*defaultConns {
		t.Errorf("%d sessions were open, and now %d", open, now)
	}
	for _, p := range c.servers {
		if c.ready(p) {
			t.Error("a server says that it is ready")
		}
	}

	standby.Alone(t)
	c.allReady()
	c.outage(false)
	for _, wait := range back {
		wait()
	}
	c.refreshed(200)
	refreshed := stop()
	c.judge()
	killtest.Examine(t.Context(), c.load, c.service)
	t.Logf("%d commits hung, in %d sessions; %d refreshes before and after, 503 %d times", hung, open, refreshed, c.refusals)
}

// TestPrimaryVanishes freezes the primary, so that it neither answers nor refuses,
// promotes its standby, and lets the former primary come back, which takes itself
// for one still. The servers, which know both, stay with the one that was promoted.
func TestPrimaryVanishes(t *testing.T) {
	primary := pgtest.Start(t)
	primary.Create(t, "a")
	standby := primary.Standby(t)
	const deadline = 2 * time.Second
	c := newCluster(t, replica{URL: pgtest.URL("a", primary, standby) + "&connect_timeout=1", Deadline: deadline}, 3)
	stop := c.working()
	c.refreshed(200)
	c.outage(true)
	primary.Freeze(t)
	time.Sleep(deadline) // for as long, at least, nobody can know
	standby.Promote(t)
	promoted := time.Now()
	standby.Alone(t)
	c.allReady()
	c.outage(false)
	t.Logf("all are ready %v after the promotion", time.Since(promoted).Round(time.Millisecond))
	c.refreshed(200)

	time.Sleep(deadline) // until no attempt to connect to it is left from before
	primary.Thaw(t)
	c.refreshed(200)
	c.outage(true)
	number(t, standby, "", "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'evergrant'")
	c.allReady()
	c.outage(false)
	c.refreshed(200)
	stop()
	c.open(standby.URL("a")) // who did nothing meanwhile still takes the former one for the primary
	c.judge()
	killtest.Examine(t.Context(), c.load, c.service)
	eventually(t, "nobody is left at the former primary, but for what hangs there", func() bool {
		return number(t, primary, "", sessions+" AND state <> 'active'") == 0
	})
}

// register makes a client with a retry window of its own.
func (c *cluster) register(t *testing.T, id string, window time.Duration) {
	t.Helper()
	_, err := issuer.NewAdmin(c.service.Server, c.service.Store).SaveClient(t.Context(), issuer.Actor{Name: "operator"}, issuer.Client{
		ID: id, Secrets: []secret.Verifier{secret.NewVerifier(c.site.Secret)},
		GrantTypes: []string{oauth.GrantPassword, oauth.GrantRefreshToken},
		Policy:     issuer.Policy{RetryWindow: issuer.Lifetime(window)},
	})
	must(t, err)
}

// refusedMore waits until so many more requests were refused.
func (c *cluster) refusedMore(t *testing.T, more int) {
	t.Helper()
	count := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.refusals
	}
	goal := count() + more
	eventually(t, "requests are refused", func() bool { return count() >= goal })
}

// renewing refreshes a grant of its own until the database has gone and come back.
// The function that it returns waits for the first answer that the new database
// must have committed: the one after the one to a token that may have been spent
// before.
func (c *cluster) renewing(t *testing.T, client string) (back func() time.Time) {
	t.Helper()
	a, err := c.load.App.Grant(t.Context(), client)
	last := answered(t, a, err)
	c.load.Except(last.Grant())
	var at time.Time
	var renewing sync.WaitGroup
	renewing.Go(func() {
		left := -1 // answers until the one that counts, once there was none
		for left != 0 && !t.Failed() {
			a, err := c.load.App.Refresh(t.Context(), client, last.Tokens.RefreshToken)
			switch {
			case err != nil:
				left = 2
				time.Sleep(10 * time.Millisecond)
				continue
			case !a.OK():
				t.Errorf("generation %d was answered %v", last.Generation(), a)
				return
			case left > 0:
				left--
			}
			last = a
		}
		at = time.Now()
	})
	return func() time.Time {
		renewing.Wait()
		return at
	}
}
