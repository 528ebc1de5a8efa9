package postgres

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/issuer"
)

// client refreshes one grant again and again. What it was told is done is in
// grant; where it was told nothing it asks for the same again.
type client struct {
	grant   issuer.Grant
	refused int // answers that the database is unavailable
}

func (c *client) refresh(ctx context.Context, t *testing.T, db *DB) {
	r := next(c.grant)
	for ctx.Err() == nil {
		got, rotated, err := db.Rotate(context.WithoutCancel(ctx), r)
		switch {
		case errors.Is(err, issuer.ErrUnavailable):
			c.refused++
			pause(ctx, 10*time.Millisecond)
			continue
		case err != nil:
			t.Error(err)
			return
		case got.Generation != r.To || !got.RotatedAt.Equal(r.At):
			t.Errorf("asked for %d, got %+v, %v", r.To, got, rotated)
			return
		}
		c.grant = got
		r = next(got)
	}
}

// loaded lets clients refresh until the function that it returns is called, which
// then checks that what they were told is so.
func loaded(t *testing.T, db *DB, grants []issuer.Grant) (clients []*client, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var refreshing sync.WaitGroup
	for _, g := range grants {
		c := &client{grant: g}
		clients = append(clients, c)
		refreshing.Go(func() { c.refresh(ctx, t, db) })
	}
	return clients, func() {
		t.Helper()
		cancel()
		refreshing.Wait()
		eventually(t, "the database is ready", func() bool { return db.Ready(t.Context()) == nil })
		for _, c := range clients {
			got, err := db.Grant(t.Context(), c.grant.ID)
			if err != nil || got.Generation < c.grant.Generation || got.Generation > c.grant.Generation+1 {
				t.Errorf("%d was acknowledged, the row is %+v, %v", c.grant.Generation, got, err)
			}
		}
	}
}

// TestFailover loses the primary under load, and promotes its standby, which lets
// no commit pass until it is told that it is alone.
func TestFailover(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t)
	primary.Create(t, "a")
	standby := primary.Standby(t)
	db := openedWith(t, pgtest.URL("a", primary, standby), Options{Deadline: shortDeadline})
	grants := created(t, db, 8)
	clients, stop := loaded(t, db, grants)
	time.Sleep(200 * time.Millisecond)
	primary.Kill(t)
	standby.Promote(t)
	eventually(t, "the new primary is found, and does not commit", func() bool { return number(t, standby, "", hungInSync) > 0 })
	eventually(t, "it is not ready", func() bool { return errors.Is(db.Ready(t.Context()), errNoCommit) })
	standby.Alone(t)
	eventually(t, "the database is ready", func() bool { return db.Ready(t.Context()) == nil })
	time.Sleep(200 * time.Millisecond)
	stop()
	for _, c := range clients {
		if c.refused == 0 || c.grant.Generation < 3 {
			t.Errorf("a client saw %d refusals and came to generation %d", c.refused, c.grant.Generation)
		}
	}
}

// TestServerIsKilled kills the server under load, several times.
func TestServerIsKilled(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	s.Create(t, "a")
	db := openedWith(t, s.URL("a"), Options{Deadline: 2 * time.Second})
	clients, stop := loaded(t, db, created(t, db, 16))
	for range 3 {
		time.Sleep(150 * time.Millisecond)
		s.Kill(t)
		s.Restart(t)
		eventually(t, "the database is ready", func() bool { return db.Ready(t.Context()) == nil })
	}
	stop()
	for _, c := range clients {
		if c.refused == 0 || c.grant.Generation < 3 {
			t.Errorf("a client saw %d refusals and came to generation %d", c.refused, c.grant.Generation)
		}
	}
}

// TestPooler works through a pooler that gives each transaction another session,
// and goes away.
func TestPooler(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	s.Create(t, "a")
	p := s.Pooler(t)
	db, other := opened(t, p.URL("a")), opened(t, p.URL("a"))
	grants := created(t, db, 32)
	for range 3 {
		var done sync.WaitGroup
		for i := range grants {
			done.Go(func() {
				grants[i] = stepped(t, []*DB{db, other}[i%2], grants[i])
			})
		}
		done.Wait()
	}
	e := event("test", grants[0])
	if revoked, err := other.Revoke(t.Context(), grants[0].ID, grants[0].CreatedAt, e); err != nil || !revoked {
		t.Errorf("%v, %v", revoked, err)
	}
	if got, err := db.Grant(t.Context(), grants[0].ID); err != nil || got.RevokedAt.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
	clients, stop := loaded(t, db, grants[1:])
	time.Sleep(100 * time.Millisecond)
	p.Kill(t)
	p.Restart(t)
	eventually(t, "the database is ready", func() bool { return db.Ready(t.Context()) == nil })
	time.Sleep(100 * time.Millisecond)
	stop()
	for _, c := range clients {
		if c.grant.Generation < 5 {
			t.Errorf("a client came to generation %d", c.grant.Generation)
		}
	}
}

// TestEndedSessions ends all sessions of a pool: one of them costs a write its
// outcome, and none a read its answer.
func TestEndedSessions(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db := opened(t, url)
	conn := connected(t, url)
	end := func() int {
		ended := value[[]int32](t, conn, `SELECT array_agg(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'evergrant'`)
		execute(t, conn, "SELECT pg_terminate_backend(pid) FROM unnest($1::integer[]) AS pid", ended)
		eventually(t, "the sessions end", func() bool {
			return value[int](t, conn, "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY ($1)", ended) == 0
		})
		return len(ended)
	}
	grants := created(t, db, 40) // by all connections that a pool has
	g := grants[0]
	if ended := end(); ended < 3 {
		t.Fatalf("there were %d sessions", ended)
	}
	if got, err := db.Grant(t.Context(), g.ID); err != nil || got.ID != g.ID {
		t.Errorf("read: %+v, %v", got, err)
	}
	created(t, db, 40)
	end()
	refusals := 0
	for range 5 {
		got, _, err := db.Rotate(t.Context(), next(g))
		switch {
		case errors.Is(err, issuer.ErrUnavailable):
			refusals++
		case err != nil || got.Generation != g.Generation+1:
			t.Fatalf("%+v, %v", got, err)
		default:
			g = got
		}
	}
	if refusals > 1 {
		t.Errorf("%d of 5 refreshes were refused", refusals)
	}
}
