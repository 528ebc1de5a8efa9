package postgres

import (
	"errors"
	"testing"

	"github.com/evergrant/evergrant/internal/killtest"
	"github.com/evergrant/evergrant/internal/pgtest"
)

// TestRollout brings the next release to three servers under load, one after the
// other, with a migration that the first of them makes. No request fails.
func TestRollout(t *testing.T) {
	url := pgtest.Database(t)
	old, next := replica{URL: url}, replica{URL: url, Next: true}
	c := newCluster(t, old, 3)
	conn := connected(t, url)
	stop := c.working()
	replace := func(told replica) {
		t.Helper()
		before := c.servers[0]
		c.refreshed(100)
		c.start(told)
		c.refreshed(100)
		c.remove(before.Address)
		before.Stop(t)
		c.servers = c.servers[1:]
	}
	replace(next)
	if got := layout(t, conn); got != [3]int{3, 1, 1} {
		t.Errorf("layout %v", got)
	}
	replace(old) // one that crashed, say, and is started again
	replace(next)
	replace(next)
	replace(next)
	c.refreshed(100)
	refreshed := stop()
	c.judge()
	killtest.Examine(t.Context(), c.load, c.service)
	if c.refusals > 0 {
		t.Errorf("%d answers were 503", c.refusals)
	}
	t.Logf("%d refreshes", refreshed)

	// The release after that takes away what this one needs.
	later := append(nextRelease(), migration{"ALTER TABLE grants DROP COLUMN retries", 4})
	db, err := open(t.Context(), url, Options{}, later)
	must(t, err)
	must(t, db.Close())
	for _, steps := range [][]migration{migrations(), nextRelease()} {
		if _, err := open(t.Context(), url, Options{}, steps); !errors.Is(err, ErrNewer) {
			t.Errorf("a release of %d migrations: %v", len(steps), err)
		}
	}
}
