package postgres

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/killtest"
	"github.com/evergrant/evergrant/internal/pgtest"
)

const (
	// leastRate is how many refreshes must have been answered for each second of a
	// kill's cycle in which there was a database, or the kill does not count.
	leastRate = 100
	// between is how many refreshes are answered before a kill, and again after it.
	between = 25
)

// kills is how often to kill: so many times, or EVERGRANT_KILLS for 50.
func kills(t *testing.T, usual int) int {
	text := os.Getenv("EVERGRANT_KILLS")
	if text == "" {
		return usual
	}
	all, err := strconv.Atoi(text)
	must(t, err)
	return max(1, all*usual/50)
}

// tally is what happened over all kills.
type tally struct {
	counted, uncounted, refreshed int
	working                       time.Duration // with a database
	found                         killtest.Recalled
}

// repeat goes through cycles of a kill until so many count. A cycle lets the
// clients work, and gives for how long there was no database.
func (c *cluster) repeat(kills int, cycle func(i int) (away time.Duration)) {
	c.t.Helper()
	var s tally
	for i := 0; s.counted < kills; i++ {
		if s.uncounted > kills/2+5 {
			c.t.Fatalf("%d kills came under less than %d refreshes a second", s.uncounted, leastRate)
		}
		stop, began := c.working(), time.Now()
		c.refreshed(between)
		away := cycle(i)
		c.refreshed(between)
		refreshed, worked := stop(), time.Since(began)-away
		if refreshed < int(leastRate*worked.Seconds()) {
			s.uncounted++
		} else {
			s.counted++
		}
		s.refreshed += refreshed
		s.working += worked
		found := c.judge()
		s.found.Kept += found.Kept
		s.found.Lost += found.Lost
		s.found.Orphans += found.Orphans
	}
	found := killtest.Examine(c.t.Context(), c.load, c.service)
	c.t.Logf("%d kills (and %d under less than %d refreshes a second), %d refreshes answered, %.0f/s; 503 %d times; at the end of cycles %d refreshes without answer were done, %d not; %d grants made without answer",
		s.counted, s.uncounted, leastRate, s.refreshed, float64(s.refreshed)/s.working.Seconds(), c.refusals, s.found.Kept, s.found.Lost, s.found.Orphans+found.Orphans)
}

// TestKillReplica kills one of three servers under load with kill -9, again and
// again, while the clients go on with the two others.
func TestKillReplica(t *testing.T) {
	c := newCluster(t, replica{URL: pgtest.Database(t)}, 3)
	random := rand.New(rand.NewPCG(2, 7))
	c.repeat(kills(t, 50), func(int) time.Duration {
		time.Sleep(time.Duration(random.Int64N(int64(30 * time.Millisecond))))
		c.kill(random.IntN(len(c.servers)))
		c.start(c.told)
		return 0
	})
	if c.refusals > 0 {
		t.Errorf("the database was there, and %d answers were 503", c.refusals)
	}
}

// TestKillDatabase kills all processes of PostgreSQL at one moment under load,
// again and again, and starts it anew. The servers live on.
func TestKillDatabase(t *testing.T) {
	s := pgtest.Start(t)
	s.Create(t, "a")
	c := newCluster(t, replica{URL: s.URL("a")}, 3)
	random := rand.New(rand.NewPCG(3, 7))
	c.repeat(kills(t, 20), func(int) time.Duration {
		time.Sleep(time.Duration(random.Int64N(int64(30 * time.Millisecond))))
		c.outage(true)
		began := time.Now()
		s.Kill(t)
		s.Restart(t)
		c.allReady()
		c.outage(false)
		return time.Since(began)
	})
	if c.refusals == 0 {
		t.Error("no client noticed that the database was away")
	}
}

// TestKillPooler lets three servers work through pgbouncer in transaction pooling,
// and kills it under load, again and again.
func TestKillPooler(t *testing.T) {
	s := pgtest.Start(t)
	s.Create(t, "a")
	p := s.Pooler(t)
	c := newCluster(t, replica{URL: p.URL("a")}, 3)
	random := rand.New(rand.NewPCG(4, 7))
	c.repeat(kills(t, 10), func(int) time.Duration {
		time.Sleep(time.Duration(random.Int64N(int64(30 * time.Millisecond))))
		c.outage(true)
		began := time.Now()
		p.Kill(t)
		p.Restart(t)
		c.allReady()
		c.outage(false)
		return time.Since(began)
	})
	if c.refusals == 0 {
		t.Error("no client noticed that the pooler was away")
	}
}
