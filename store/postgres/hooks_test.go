package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/issuer"
)

func hookTime() time.Time { return time.UnixMilli(1_900_000_000_000).UTC() }

// plan stores count deliveries to each of some webhooks, due at hookTime.
func plan(t testing.TB, db *DB, count int, hooks ...string) {
	t.Helper()
	from, _, err := db.Planned(t.Context())
	must(t, err)
	var list []hook.Delivery
	for i := range count {
		for _, name := range hooks {
			list = append(list, hook.Delivery{Hook: name, Event: int64(i), Type: "x", Body: json.RawMessage("{}"), CreatedAt: hookTime(), NextAt: hookTime()})
		}
	}
	if planned, err := db.Plan(t.Context(), from, from+int64(count), list); err != nil || !planned {
		t.Fatal(planned, err)
	}
}

// TestClaimWaitsForNobody: a delivery that another process is about to claim is
// passed over, and claimed by nobody else when it has been.
func TestClaimWaitsForNobody(t *testing.T) {
	url := pgtest.Database(t)
	db := opened(t, url)
	plan(t, db, 5, "app")
	until := hookTime().Add(time.Minute)
	tx, err := connected(t, url).Begin(t.Context())
	must(t, err)
	execute(t, tx, claimDeliveries, "app", hookTime().UnixMilli(), 2, until.UnixMilli())
	claimed, err := db.Claim(t.Context(), "app", hookTime(), until, 10)
	must(t, err)
	var events []int64
	for _, d := range claimed {
		events = append(events, d.Event)
	}
	if !slices.Equal(events, []int64{2, 3, 4}) {
		t.Errorf("claimed are %v", events)
	}
	must(t, tx.Commit(t.Context()))
	if claimed, err := db.Claim(t.Context(), "app", hookTime(), until, 10); err != nil || len(claimed) != 0 {
		t.Errorf("claimed again are %v, %v", claimed, err)
	}
}

// TestPlanWaitsForAnother: of two who plan the same, the second waits for the
// first, and plans it only if that one did not.
func TestPlanWaitsForAnother(t *testing.T) {
	url := pgtest.Database(t)
	db, other, watch := opened(t, url), connected(t, url), connected(t, url)
	for _, begun := range []bool{false, true} {
		for _, committed := range []bool{true, false} {
			execute(t, other, "DELETE FROM planned")
			execute(t, other, "DELETE FROM deliveries")
			if begun {
				execute(t, other, `INSERT INTO planned ("only", event) VALUES (1, 0)`)
			}
			tx, err := other.Begin(t.Context())
			must(t, err)
			none := []string{}
			execute(t, tx, planDeliveries, 0, 9, none, []int64{}, none, [][]byte{}, []int64{}, []int64{}, []int64{}, []int64{}, []int64{}, none)
			type answer struct {
				planned bool
				err     error
			}
			answers := make(chan answer, 1)
			go func() {
				planned, err := db.Plan(t.Context(), 0, 9, []hook.Delivery{{Hook: "app", Event: 9}})
				answers <- answer{planned, err}
			}()
			eventually(t, "the second waits", func() bool {
				return value[int](t, watch, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == 1
			})
			if committed {
				err = tx.Commit(t.Context())
			} else {
				err = tx.Rollback(t.Context())
			}
			must(t, err)
			if got := <-answers; got.err != nil || got.planned == committed {
				t.Errorf("begun %v, the other committed %v: %+v", begun, committed, got)
			}
			if n := value[int](t, watch, "SELECT count(*) FROM deliveries"); n == 1 == committed {
				t.Errorf("begun %v, the other committed %v: %d deliveries", begun, committed, n)
			}
		}
	}
}

// TestWorkersOfTwoProcesses plan the events that others record, and claim the
// deliveries, each of which is made once.
func TestWorkersOfTwoProcesses(t *testing.T) {
	url := pgtest.Database(t)
	processes := []*DB{opened(t, url), opened(t, url)}
	const events = 120
	if planned, err := processes[0].Plan(t.Context(), 0, 0, nil); err != nil || !planned {
		t.Fatal(planned, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	taken, planners := map[int64]int{}, 0
	var working, recording sync.WaitGroup
	for _, db := range processes {
		for range 2 {
			recording.Go(func() {
				for range events / 4 {
					if err := db.Record(t.Context(), someEvent("x")); err != nil {
						t.Error(err)
					}
				}
			})
			working.Go(func() {
				for ctx.Err() == nil {
					planned, claimed, err := workOnce(ctx, db)
					if err != nil && ctx.Err() == nil {
						t.Error(err)
						return
					}
					mu.Lock()
					if planned {
						planners++
					}
					for _, d := range claimed {
						taken[d.Event]++
					}
					mu.Unlock()
				}
			})
		}
	}
	recording.Wait()
	eventually(t, "all are delivered", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(taken) == events
	})
	cancel()
	working.Wait()
	if planners == 0 || len(taken) != events {
		t.Errorf("%d plans, %d deliveries", planners, len(taken))
	}
	for event, times := range taken {
		if times != 1 {
			t.Errorf("event %d was delivered %d times", event, times)
		}
	}
}

// workOnce plans what is new, and claims some of what is due.
func workOnce(ctx context.Context, db *DB) (planned bool, claimed []hook.Delivery, err error) {
	from, _, err := db.Planned(ctx)
	if err != nil {
		return false, nil, err
	}
	events, err := db.Feed(ctx, from, 10)
	if err != nil {
		return false, nil, err
	}
	if len(events) > 0 {
		var list []hook.Delivery
		for _, e := range events {
			list = append(list, hook.Delivery{Hook: "app", Event: e.ID, NextAt: hookTime()})
		}
		if planned, err = db.Plan(ctx, from, events[len(events)-1].ID, list); err != nil {
			return false, nil, err
		}
	}
	claimed, err = db.Claim(ctx, "app", hookTime(), hookTime().Add(time.Minute), 3)
	return planned, claimed, err
}

// TestTextThatCannotBeStored: what clients and receivers choose may hold what
// PostgreSQL refuses. Events and deliveries keep it in another form, lookups find
// nothing, and nothing fails.
func TestTextThatCannotBeStored(t *testing.T) {
	db := opened(t, pgtest.Database(t))
	ctx := t.Context()
	for _, text := range []string{"a\x00b", "\x00", "a\xffb", "\xc3\x28", "\xed\xa0\x80"} {
		kept := clean(text)
		e := issuer.Event{
			At: hookTime(), Type: text, ClientID: text, Subject: text, Actor: text, Address: text, Cause: issuer.Cause(text), Detail: text,
		}
		want := issuer.Event{
			At: hookTime(), Type: kept, ClientID: kept, Subject: kept, Actor: kept, Address: kept, Cause: issuer.Cause(kept), Detail: kept,
		}
		for _, record := range []func() error{
			func() error { return db.Record(ctx, e) },
			func() error { return db.RevokeAccessToken(ctx, fmt.Sprintf("%x", text), hookTime(), e) },
			func() error { return db.PutClient(ctx, issuer.Client{ID: "c"}, e) },
			func() error { return db.DeleteClient(ctx, "c", e) },
		} {
			must(t, record())
			events, err := db.Events(ctx, issuer.EventFilter{ClientID: text, Subject: text, Type: text, Limit: 1})
			if err != nil || len(events) != 1 {
				t.Fatalf("%q: %v, %v", text, events, err)
			}
			events[0].ID = 0
			if events[0] != want {
				t.Errorf("kept is %+v, want %+v", events[0], want)
			}
		}
		for what, err := range map[string]error{
			"Client":       errorOf(db.Client(ctx, text)),
			"User":         errorOf(db.User(ctx, text)),
			"DeleteClient": db.DeleteClient(ctx, text, e),
			"DeleteUser":   db.DeleteUser(ctx, text, e),
		} {
			if !errors.Is(err, issuer.ErrNotFound) {
				t.Errorf("%s of %q: %v", what, text, err)
			}
		}
		for what, err := range map[string]error{
			"PutClient":         db.PutClient(ctx, issuer.Client{ID: text}, e),
			"PutUser":           db.PutUser(ctx, issuer.User{Username: text}, e),
			"RevokeAccessToken": db.RevokeAccessToken(ctx, text, hookTime(), e),
		} {
			if !errors.Is(err, errText) {
				t.Errorf("%s of %q: %v", what, text, err)
			}
		}
		if revoked, err := db.AccessTokenRevoked(ctx, text); revoked || err != nil {
			t.Errorf("AccessTokenRevoked of %q: %v, %v", text, revoked, err)
		}
		for what, found := range map[string]func() (int, error){
			"Clients": func() (int, error) { list, err := db.Clients(ctx, text, 0); return len(list), err },
			"Users":   func() (int, error) { list, err := db.Users(ctx, text, 0); return len(list), err },
			"Grants": func() (int, error) {
				list, err := db.Grants(ctx, issuer.GrantFilter{ClientID: text})
				return len(list), err
			},
			"Grants of a subject": func() (int, error) {
				list, err := db.Grants(ctx, issuer.GrantFilter{Subject: text})
				return len(list), err
			},
		} {
			if n, err := found(); n != 0 || err != nil {
				t.Errorf("%s of %q: %d, %v", what, text, n, err)
			}
		}
		if events, err := db.Events(ctx, issuer.EventFilter{Type: text + "."}); err != nil || len(events) != 0 {
			t.Errorf("events of a prefix: %v, %v", events, err)
		}
	}
	bad := "answered \x00\xff"
	from, _, err := db.Planned(ctx)
	must(t, err)
	if planned, err := db.Plan(ctx, from, 1, []hook.Delivery{{Hook: bad, Type: bad, Error: bad, Body: json.RawMessage(bad), NextAt: hookTime()}}); err != nil || !planned {
		t.Fatal(planned, err)
	}
	claimed, err := db.Claim(ctx, bad, hookTime(), hookTime(), 1)
	if err != nil || len(claimed) != 1 || string(claimed[0].Body) != bad || claimed[0].Error != clean(bad) {
		t.Fatalf("claimed is %+v, %v", claimed, err)
	}
	claimed[0].Error = bad
	must(t, db.Settle(ctx, claimed[0]))
	if feed, err := db.Feed(ctx, 0, 1000); err != nil || len(feed) != 20 || strings.Contains(string(feed[0].Document), `\u0000`) {
		t.Errorf("the feed has %d events, %v", len(feed), err)
	}
}

func errorOf[T any](_ T, err error) error { return err }

// FuzzClean: whatever a text holds, it is kept in a form that can be stored; and
// one that can be is kept as it is.
func FuzzClean(f *testing.F) {
	for _, text := range []string{"", "plain", "a\x00b", "\xff\xfe", "ünïcode 日本", "\uFFFD", "\xed\xa0\x80", "\xf4\x90\x80\x80"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		kept := clean(text)
		if !storable(kept) || clean(kept) != kept || storable(text) && kept != text {
			t.Errorf("%q is kept as %q", text, kept)
		}
		if !storable("x", kept) || storable(text, kept) != storable(text) {
			t.Errorf("%q beside others", text)
		}
	})
}
