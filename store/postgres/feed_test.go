package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/issuer"
)

// someEvent is an event of a type.
func someEvent(eventType string) issuer.Event {
	return issuer.Event{At: time.UnixMilli(1_900_000_000_000).UTC(), Type: eventType, Actor: "server"}
}

// record stores an event, in a transaction or by itself.
func record(t testing.TB, s session, eventType string) {
	t.Helper()
	execute(t, s, insertEvent, eventArgs(someEvent(eventType))...)
}

// fed are the types of the events in the feed after an id.
func fed(t testing.TB, db *DB, after int64) string {
	t.Helper()
	events, err := db.Feed(t.Context(), after, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, e := range events {
		types = append(types, e.Type)
	}
	return strings.Join(types, " ")
}

func lastEvent(t testing.TB, db *DB) int64 {
	t.Helper()
	id, err := db.LastEvent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestFeedWaits: a transaction that took an id and stays open holds the feed back
// until it ends, whichever way, and holds back only what comes after its ids.
func TestFeedWaits(t *testing.T) {
	for _, test := range []struct {
		commit bool
		want   string
	}{{true, "one two three"}, {false, "one three"}} {
		url := pgtest.Database(t)
		db, other := opened(t, url), connected(t, url)
		record(t, other, "one")
		tx, err := other.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		record(t, tx, "two")
		if err := db.Record(t.Context(), someEvent("three")); err != nil {
			t.Fatal(err)
		}
		if got, last := fed(t, db, 0), lastEvent(t, db); got != "one" || last != 1 {
			t.Errorf("the feed has %q and the last event is %d while a transaction is open", got, last)
		}
		if got := fed(t, db, 1); got != "" {
			t.Errorf("the feed goes on with %q while a transaction is open", got)
		}
		if test.commit {
			err = tx.Commit(t.Context())
		} else {
			err = tx.Rollback(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		if got, last := fed(t, db, 0), lastEvent(t, db); got != test.want || last != 3 {
			t.Errorf("committed %v: the feed has %q and the last event is %d", test.commit, got, last)
		}
	}
}

// TestFeedWaitsForNobodyElse: locks of other databases and with other keys hold
// nothing back, nor does a transaction without events.
func TestFeedWaitsForNobodyElse(t *testing.T) {
	url := pgtest.Database(t)
	db := opened(t, url)
	elsewhere := connected(t, pgtest.Database(t))
	for _, lock := range []string{
		"pg_advisory_lock((17782::bigint << 48))",
		"pg_advisory_lock_shared((17782::bigint << 48) + 1)",
	} {
		execute(t, elsewhere, "SELECT "+lock)
	}
	here := connected(t, url)
	for _, lock := range []string{
		"pg_advisory_lock(0)", "pg_advisory_lock(1)", "pg_advisory_lock((17781::bigint << 48))", "pg_advisory_lock((17783::bigint << 48) + 1)",
		"pg_advisory_lock(-1)", "pg_advisory_lock(17782, 1)", "pg_advisory_lock(17782 << 16, 0)",
	} {
		execute(t, here, "SELECT "+lock)
	}
	tx, err := connected(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	execute(t, tx, "INSERT INTO once (name, until) VALUES ('x', 1)")
	for range 3 {
		if err := db.Record(t.Context(), someEvent("x")); err != nil {
			t.Fatal(err)
		}
	}
	if got, last := fed(t, db, 0), lastEvent(t, db); got != "x x x" || last != 3 {
		t.Errorf("the feed has %q and the last event is %d", got, last)
	}
}

// TestIdsOfManyDigits: the key of a lock holds ids of 48 bits.
func TestIdsOfManyDigits(t *testing.T) {
	url := pgtest.Database(t)
	db, other := opened(t, url), connected(t, url)
	for _, id := range []int64{1 << 31, 1<<32 - 1, 1 << 32, 1<<40 + 5} {
		execute(t, other, "SELECT setval('event_numbers', $1)", id)
		tx, err := other.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		record(t, tx, "x")
		if last := lastEvent(t, db); last != id {
			t.Errorf("the last event is %d, want %d", last, id)
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if last := lastEvent(t, db); last != id+1 || fed(t, db, id) != "x" {
			t.Errorf("the last event is %d, want %d", last, id+1)
		}
	}
}

// TestHorizonReadsTheLastIdFirst holds the order that the query rests on: what
// reads the locks depends on the row with the last id.
func TestHorizonReadsTheLastIdFirst(t *testing.T) {
	db := opened(t, pgtest.Database(t))
	plan := explained(t, db, horizon)
	if !strings.Contains(plan, "SubPlan") || !strings.Contains(plan, "< e.last_value") {
		t.Errorf("the locks are not read after the last id:\n%s", plan)
	}
	if strings.Contains(plan, "CTE") || strings.Count(plan, "event_numbers") != 1 {
		t.Errorf("the last id is read more than once:\n%s", plan)
	}
}

// TestNothingIsPassedOver: many write at once, in transactions of every length,
// of which some are rolled back; who reads on by id sees each event that was
// committed, once and in the order of the ids.
func TestNothingIsPassedOver(t *testing.T) {
	url := pgtest.Database(t)
	db := opened(t, url)
	const writers, rounds = 8, 60
	var committed atomic.Int64
	var writing sync.WaitGroup
	for w := range writers {
		conn, random := connected(t, url), rand.New(rand.NewPCG(uint64(w), 7))
		writing.Go(func() {
			for range rounds {
				tx, err := conn.Begin(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				n := 1 + random.IntN(3)
				for range n {
					if _, err := tx.Exec(t.Context(), insertEvent, eventArgs(someEvent(fmt.Sprint("w", w)))...); err != nil {
						t.Error(err)
					}
					time.Sleep(time.Duration(random.IntN(2000)) * time.Microsecond)
				}
				if random.IntN(4) == 0 {
					err = tx.Rollback(t.Context())
				} else if err = tx.Commit(t.Context()); err == nil {
					committed.Add(int64(n))
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writing.Wait(); close(done) }()
	var last, seen int64
	var reads, waits int
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		default:
		}
		var events []hook.Event
		for first := true; first || len(events) == 50; first = false {
			var err error
			if events, err = db.Feed(t.Context(), last, 50); err != nil {
				t.Fatal(err)
			}
			if reads++; len(events) == 0 {
				waits++
			}
			for _, e := range events {
				if e.ID <= last {
					t.Fatalf("event %d comes after %d", e.ID, last)
				}
				last = e.ID
				seen++
			}
		}
	}
	t.Logf("%d reads, %d of them with nothing to see", reads, waits)
	if seen != committed.Load() || seen < writers*rounds {
		t.Errorf("%d events were seen, %d were committed", seen, committed.Load())
	}
	if left := value[int64](t, connected(t, url), "SELECT count(*) FROM events"); left != seen {
		t.Errorf("%d events are stored, %d were seen", left, seen)
	}
}
