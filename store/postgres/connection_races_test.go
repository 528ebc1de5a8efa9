package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/column"
	"github.com/jackc/pgx/v5"
)

// begun is when these connections were made.
func begun() time.Time { return time.UnixMilli(1_900_000_000_000).UTC() }

// usual is an active connection that is due.
func usual(id string) keeper.Connection {
	return keeper.Connection{
		ID: id, Provider: "acme", Tenant: "north", Owner: "alice", State: keeper.Active, Since: begun(), TokenType: "Bearer", Generation: 5,
		IssuedAt: begun(), ExpiresAt: begun().Add(time.Hour), Refreshable: true, DueAt: begun(), CreatedAt: begun(), UpdatedAt: begun(),
		Tokens: sealedText(7, "tokens"),
	}
}

func sealedText(key uint32, text string) secret.Sealed {
	return secret.Sealed{KeyID: key, Data: []byte(text)}
}

func eventOf(kind string, c keeper.Connection) keeper.Event {
	return keeper.Event{At: begun(), Type: kind, Connection: c.ID, Provider: c.Provider, Tenant: c.Tenant, Owner: c.Owner, Generation: c.Generation, Actor: "keeper"}
}

// requested is the intent that is open of connections which somebody works at.
func requested(id string) keeper.Intent {
	return keeper.Intent{RequestID: id, Kind: provider.Refresh, Generation: 5, SentAt: begun(), Deadline: begun().Add(time.Minute)}
}

const leaseFor = time.Minute

// worked makes a connection with a lease and an open intent, "first".
func worked(t testing.TB, db *DB, id string) keeper.Connection {
	t.Helper()
	c := usual(id)
	must(t, db.Keeper().Create(t.Context(), c, eventOf(keeper.EventCreated, c)))
	c, leased, err := db.Keeper().Lease(t.Context(), id, begun(), begun().Add(leaseFor))
	if err != nil || !leased {
		t.Fatal(leased, err)
	}
	done, err := db.Keeper().Begin(t.Context(), id, c.Fence, requested("first"), begun().Add(leaseFor))
	if err != nil || !done {
		t.Fatal(done, err)
	}
	return row(t, db, id)
}

// row is a connection that must be there.
func row(t testing.TB, db *DB, id string) keeper.Connection {
	t.Helper()
	c, err := db.Keeper().Connection(t.Context(), id)
	must(t, err)
	return c
}

// renewed is what a connection is after a commit.
func renewed(c keeper.Connection) keeper.Connection {
	c.Generation, c.Tokens, c.Intent, c.DueAt = c.Generation+1, sealedText(8, "renewed"), nil, begun().Add(time.Hour)
	return c
}

// statement is one of the keeper's intents, to be made in a transaction that
// stays open for a while.
type statement struct {
	sql  string
	args []any
}

func leasing(c keeper.Connection) statement {
	return statement{takeLease, []any{c.ID, column.Millis(c.LeaseUntil), column.Millis(c.LeaseUntil.Add(leaseFor))}}
}

func beginning(c keeper.Connection) statement {
	intent := requested("second")
	return statement{beginIntent, append([]any{c.ID, int64(c.Fence), int64(5), column.Millis(c.LeaseUntil.Add(leaseFor))}, intentArgs(&intent)...)}
}

func answering(c keeper.Connection) statement {
	return statement{addAnswer, []any{c.ID, []int64{7}, "first", int64(7), []byte("answer")}}
}

func committing(c keeper.Connection) statement {
	next := renewed(c)
	args := append([]any{c.ID, sealingKeys(&next)}, keeperEventArgs([]keeper.Event{eventOf(keeper.EventRefreshed, next)})...)
	columns, _ := connectionArgs(next)
	args = append(append(args, int64(c.Fence), int64(c.Generation)), columns...)
	return statement{commitConnection, append(args, intentArgs(nil)...)}
}

func deleting(c keeper.Connection) statement {
	return statement{deleteConnection, append([]any{c.ID, int64(c.Fence)}, keeperEventArgs([]keeper.Event{eventOf(keeper.EventDeleted, c)})...)}
}

func creating(c keeper.Connection) statement {
	c.CreatedAt = c.CreatedAt.Add(time.Second)
	args := append([]any{c.ID, sealingKeys(&c)}, keeperEventArgs([]keeper.Event{eventOf(keeper.EventCreated, c)})...)
	columns, _ := connectionArgs(c)
	args = append(append(args, columns...), column.Millis(c.CreatedAt), int64(0))
	return statement{createConnection, append(args, intentArgs(nil)...)}
}

// behind calls f while a transaction is open in which statements were made, and
// ends that when f waits for it.
func behind(t testing.TB, other *pgx.Conn, commit bool, statements []statement, f func()) {
	t.Helper()
	tx, err := other.Begin(t.Context())
	must(t, err)
	for _, s := range statements {
		execute(t, tx, s.sql, s.args...)
	}
	var done sync.WaitGroup
	done.Go(f)
	waits(t, tx, 1)
	if commit {
		must(t, tx.Commit(t.Context()))
	} else {
		must(t, tx.Rollback(t.Context()))
	}
	done.Wait()
}

// waits returns when some sessions wait for a lock of a row or table.
func waits(t testing.TB, s session, count int) {
	t.Helper()
	for deadline := time.Now().Add(4 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if value[int](t, s, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == count {
			return
		}
	}
	t.Fatalf("%d sessions do not wait for a lock", count)
}

// TestWhoWaitsSeesTheRowAsItIs lets each intent wait for each other one on the
// same connection, which was there or not when the statement began: what it
// decides on and what it answers is the row as the other one left it.
func TestWhoWaitsSeesTheRowAsItIs(t *testing.T) {
	url := pgtest.Database(t)
	db, other := opened(t, url), connected(t, url)
	k := db.Keeper()
	seconds := map[string]func(ctx context.Context, c keeper.Connection) (keeper.Connection, bool, error){
		"lease": func(ctx context.Context, c keeper.Connection) (keeper.Connection, bool, error) {
			return k.Lease(ctx, c.ID, c.LeaseUntil, c.LeaseUntil.Add(2*leaseFor))
		},
		"begin": func(ctx context.Context, c keeper.Connection) (keeper.Connection, bool, error) {
			did, err := k.Begin(ctx, c.ID, c.Fence, requested("third"), c.LeaseUntil.Add(2*leaseFor))
			return keeper.Connection{}, did, err
		},
		"answer": func(ctx context.Context, c keeper.Connection) (keeper.Connection, bool, error) {
			did, err := k.Answer(ctx, c.ID, "first", sealedText(7, "answer of the second"))
			return keeper.Connection{}, did, err
		},
		"commit": func(ctx context.Context, c keeper.Connection) (keeper.Connection, bool, error) {
			next := renewed(c)
			next.Owner = "bob"
			did, err := k.Commit(ctx, c.Fence, c.Generation, next, eventOf(keeper.EventRecovered, next))
			return keeper.Connection{}, did, err
		},
		"delete": func(ctx context.Context, c keeper.Connection) (keeper.Connection, bool, error) {
			did, err := k.Delete(ctx, c.ID, c.Fence, eventOf(keeper.EventDeleted, c))
			return keeper.Connection{}, did, err
		},
	}
	for _, test := range []struct {
		name  string
		first []func(keeper.Connection) statement
		done  string // those of the second that are done after it
	}{
		{"lease", []func(keeper.Connection) statement{leasing}, "answer"},
		{"begin", []func(keeper.Connection) statement{beginning}, "begin commit delete"},
		{"answer", []func(keeper.Connection) statement{answering}, "lease begin answer commit delete"},
		{"commit", []func(keeper.Connection) statement{committing}, "lease delete"},
		{"delete", []func(keeper.Connection) statement{deleting}, ""},
		{"delete and create", []func(keeper.Connection) statement{deleting, creating}, ""},
	} {
		for name, second := range seconds {
			for _, committed := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s after %s, %v", name, test.name, committed), func(t *testing.T) {
					id := strings.ReplaceAll(fmt.Sprintf("%s-%s-%v", name, test.name, committed), " ", "-")
					c := worked(t, db, id)
					var statements []statement
					for _, make := range test.first {
						statements = append(statements, make(c))
					}
					var got keeper.Connection
					var did bool
					var err error
					behind(t, other, committed, statements, func() { got, did, err = second(t.Context(), c) })
					gone := committed && test.name == "delete" && name == "lease"
					if gone && !errors.Is(err, keeper.ErrNotFound) || !gone && err != nil {
						t.Fatal(err)
					}
					if want := !committed || strings.Contains(test.done, name); did != want {
						t.Errorf("done: %v, want %v", did, want)
					}
					if name == "lease" && !gone && !reflect.DeepEqual(got, row(t, db, id)) {
						t.Errorf("it gave\n  %+v, the row is\n  %+v", got, row(t, db, id))
					}
					if !did && !(committed && test.name == "delete") {
						unchanged(t, db, c, statements)
					}
				})
			}
		}
	}
}

// unchanged compares a connection with its twin, to which only the first
// statements were made.
func unchanged(t *testing.T, db *DB, c keeper.Connection, statements []statement) {
	t.Helper()
	twin := worked(t, db, c.ID+"-twin")
	for _, s := range statements {
		args := append([]any{twin.ID}, s.args[1:]...)
		must(t, db.write(t.Context(), func(ctx context.Context, session session) error {
			_, err := session.Exec(ctx, s.sql, args...)
			return err
		}))
	}
	want := row(t, db, twin.ID)
	want.ID = c.ID
	if got := row(t, db, c.ID); !reflect.DeepEqual(got, want) {
		t.Errorf("it is\n  %+v, and was\n  %+v", got, want)
	}
}

// TestCreateWaits lets a creation wait for one that makes or removes the same
// connection.
func TestCreateWaits(t *testing.T) {
	url := pgtest.Database(t)
	db, other := opened(t, url), connected(t, url)
	for _, test := range []struct {
		first     func(keeper.Connection) statement
		committed bool
		want      error
	}{{creating, true, keeper.ErrExists}, {creating, false, nil}, {deleting, true, nil}, {deleting, false, keeper.ErrExists}} {
		c := usual(fmt.Sprintf("c%p-%v", test.first, test.committed))
		if reflect.ValueOf(test.first).Pointer() == reflect.ValueOf(deleting).Pointer() {
			c = worked(t, db, c.ID)
		}
		fresh := usual(c.ID)
		fresh.Owner = "bob"
		var err error
		behind(t, other, test.committed, []statement{test.first(c)}, func() {
			err = db.Keeper().Create(t.Context(), fresh, eventOf(keeper.EventCreated, fresh))
		})
		if !errors.Is(err, test.want) {
			t.Errorf("error is %v, want %v", err, test.want)
		}
		if got := row(t, db, c.ID); (got.Owner == "bob") != (test.want == nil) {
			t.Errorf("the row is %+v", got)
		}
	}
}

// TestTheJournalIsHeldFirst holds the other row of a connection: whoever waits
// for it has the journal's, so that no two can wait for each other.
func TestTheJournalIsHeldFirst(t *testing.T) {
	url := pgtest.Database(t)
	db, other, third := opened(t, url), connected(t, url), connected(t, url)
	for i, second := range []func(keeper.Connection) statement{leasing, beginning, committing, deleting} {
		c := worked(t, db, fmt.Sprintf("c%d", i))
		tx, err := other.Begin(t.Context())
		must(t, err)
		execute(t, tx, "SELECT FROM connections WHERE id = $1 FOR UPDATE", c.ID)
		var done sync.WaitGroup
		done.Go(func() {
			s := second(c)
			if _, err := third.Exec(t.Context(), s.sql, s.args...); err != nil {
				t.Error(err)
			}
		})
		waits(t, tx, 1)
		if free := value[int](t, tx, "SELECT count(*) FROM (SELECT FROM journal WHERE connection = $1 FOR UPDATE SKIP LOCKED) AS free", c.ID); free != 0 {
			t.Errorf("statement %d holds the connection's row first", i)
		}
		must(t, tx.Rollback(t.Context()))
		done.Wait()
	}
}

// TestNoDeadlock lets all intents meet on few connections, through two stores.
func TestNoDeadlock(t *testing.T) {
	url := pgtest.Database(t)
	dbs := []*DB{opened(t, url), opened(t, url)}
	for i := range 3 {
		worked(t, dbs[0], fmt.Sprintf("c%d", i))
	}
	var clock, done atomic.Int64
	var workers sync.WaitGroup
	for worker := range 16 {
		workers.Go(func() {
			k, chance := dbs[worker%2].Keeper(), rand.New(rand.NewPCG(uint64(worker), 4))
			for range 40 {
				at := begun().Add(time.Hour + time.Duration(clock.Add(1))*time.Millisecond)
				did, err := anyIntent(t.Context(), k, fmt.Sprintf("c%d", chance.IntN(3)), at, chance)
				if err != nil && !errors.Is(err, keeper.ErrNotFound) && !errors.Is(err, keeper.ErrExists) {
					t.Error(err)
				}
				if did {
					done.Add(1)
				}
			}
		})
	}
	workers.Wait()
	for _, db := range dbs {
		must(t, db.Close()) // so that the server counts all of it
	}
	conn := connected(t, url)
	for value[int](t, conn, "SELECT numbackends FROM pg_stat_database WHERE datname = current_database()") > 1 {
		time.Sleep(5 * time.Millisecond)
	}
	if deadlocks := value[int](t, conn, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"); deadlocks != 0 || done.Load() < 100 {
		t.Errorf("%d deadlocks; %d intents were done", deadlocks, done.Load())
	}
}

// anyIntent does something to a connection, as somebody who has just read it.
func anyIntent(ctx context.Context, k Keeper, id string, at time.Time, chance *rand.Rand) (bool, error) {
	c, err := k.Connection(ctx, id)
	if err != nil {
		fresh := usual(id)
		fresh.CreatedAt = at
		return true, k.Create(ctx, fresh, eventOf(keeper.EventCreated, fresh))
	}
	switch chance.IntN(12) {
	case 0:
		return k.Delete(ctx, id, c.Fence, eventOf(keeper.EventDeleted, c))
	case 1, 2, 3:
		_, leased, err := k.Lease(ctx, id, at, at.Add(time.Millisecond))
		return leased, err
	case 4, 5:
		intent := requested("any")
		intent.Generation = c.Generation
		return k.Begin(ctx, id, c.Fence, intent, at.Add(time.Millisecond))
	case 6, 7, 8:
		return k.Answer(ctx, id, "any", sealedText(7, "answer"))
	}
	return k.Commit(ctx, c.Fence, c.Generation, renewed(c), eventOf(keeper.EventRefreshed, c))
}
