package keeper_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
)

var (
	unreached = &provider.Error{Class: provider.Transient, Outcome: provider.NotSent, Detail: "connection refused"}
	unknown   = &provider.Error{Class: provider.Ambiguous, Outcome: provider.Unknown, Status: http.StatusBadGateway}
	closed    = &provider.Error{Class: provider.Throttled, Outcome: provider.Unknown, Status: http.StatusServiceUnavailable}
	throttled = &provider.Error{Class: provider.Throttled, Outcome: provider.Refused, Status: http.StatusTooManyRequests}
	revoked   = &provider.Error{Class: provider.Revoked, Outcome: provider.Refused, Status: http.StatusBadRequest}
	badClient = &provider.Error{Class: provider.BadClient, Outcome: provider.Refused, Status: http.StatusUnauthorized}
	badBody   = &provider.Error{Class: provider.BadDefinition, Outcome: provider.Unknown, Status: http.StatusOK}
)

// gates runs a test in a bubble, with a keeper on a database.
func gates(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w, closeWorld := newBubble(t)
		defer closeWorld()
		test(t, w)
	})
}

var fast = provider.Limits{Concurrency: 100, Rate: provider.Rate{Count: 1000, Per: oauth.Lifetime(time.Second)}}

// at is a visit of the provider "a" at its one host.
func at(connection string) keeper.GateVisit {
	return keeper.GateVisit{Provider: "a", Host: "a.example", Connection: connection, Limits: fast}
}

// ask lets one request through the gate, which comes out as err says.
func ask(t *testing.T, k *keeper.Keeper, v keeper.GateVisit, outcome error) (through bool, retryAfter time.Duration) {
	t.Helper()
	leave, err := k.Visit(t.Context(), v)
	if err == nil {
		leave(outcome)
		return true, 0
	}
	_, retryAfter, ok := keeper.HeldBack(err)
	if !ok || retryAfter <= 0 || !strings.Contains(err.Error(), "try again in") {
		t.Errorf("the gate says %v", err)
	}
	return false, retryAfter
}

// alarms are the types of the events of providers, oldest first.
func alarms(t *testing.T, w *world) (types []string) {
	t.Helper()
	for _, event := range must[[]keeper.Event](t)(w.db.Keeper().Events(t.Context(), keeper.EventFilter{After: -1})) {
		if event.Connection == "" && event.Provider != "" {
			types = append(types, event.Type+" "+event.Provider)
		}
	}
	return types
}

// TestBreakerOpens: after five failures in a row of the host, whoever they came
// to, and not after anything else.
func TestBreakerOpens(t *testing.T) {
	gates(t, func(t *testing.T, w *world) {
		for i, tt := range []struct {
			outcomes []error
			open     bool
		}{
			{[]error{unreached, unreached, unreached, unreached}, false},
			{[]error{unreached, unreached, unreached, unreached, unreached}, true},
			{[]error{unreached, unknown, closed, unknown, unreached}, true},
			{[]error{unreached, unreached, unreached, unreached, nil, unreached, unreached, unreached, unreached}, false},
			{[]error{unknown, unknown, unknown, unknown, revoked, unknown, unknown}, false},
			{[]error{unknown, unknown, unknown, unknown, badBody, unknown, unknown}, false},
			{[]error{unknown, unknown, unknown, unknown, throttled, unknown}, false},
			{[]error{unreached, unreached, unreached, unreached, keeper.ErrUnused, context.Canceled, unreached}, true},
			{[]error{revoked, revoked, revoked, revoked, revoked, revoked, revoked}, false},
			{[]error{nil, nil, nil, nil, nil, nil}, false},
		} {
			v := at("")
			v.Provider, v.Host = fmt.Sprint("p", i), fmt.Sprint(i, ".example")
			for n, outcome := range tt.outcomes {
				v.Connection = fmt.Sprint(n)
				if through, _ := ask(t, w.k, v, outcome); !through {
					t.Fatalf("%d: request %d is held back", i, n)
				}
			}
			began := time.Now()
			through, retryAfter := ask(t, w.k, v, keeper.ErrUnused)
			if through == tt.open || time.Since(began) != 0 {
				t.Errorf("%v: let through %v, after %s", tt.outcomes, through, time.Since(began))
			}
			if tt.open && (retryAfter < 2500*time.Millisecond || retryAfter > 5*time.Second) {
				t.Errorf("%v: try again in %s", tt.outcomes, retryAfter)
			}
			other := v
			other.Host = "other.example"
			if through, _ := ask(t, w.k, other, keeper.ErrUnused); !through {
				t.Error("another host is held back")
			}
		}
	})
}

// TestBreakerProbes: an open breaker lets one request through at a time, after
// pauses that grow to five minutes, and closes at the first answer.
func TestBreakerProbes(t *testing.T) {
	gates(t, func(t *testing.T, w *world) {
		for range 5 {
			ask(t, w.k, at("one"), unknown)
		}
		var pauses []time.Duration
		for range 12 {
			through, retryAfter := ask(t, w.k, at("one"), nil)
			if through {
				t.Fatal("let through before its pause was over")
			}
			pauses = append(pauses, retryAfter)
			time.Sleep(retryAfter)
			probe, err := w.k.Visit(t.Context(), at("probe"))
			if err != nil {
				t.Fatalf("after the pause of %s: %v", retryAfter, err)
			}
			if through, _ := ask(t, w.k, at("beside"), nil); through {
				t.Fatal("two at once find out")
			}
			time.Sleep(10 * time.Second)
			probe(unknown)
		}
		for i, pause := range pauses {
			want := min(5*time.Second<<i, 5*time.Minute)
			if pause < want/2 || pause > want {
				t.Errorf("pause %d is %s, want %s or up to half of it less", i, pause, want)
			}
		}
		time.Sleep(5 * time.Minute)
		if through, _ := ask(t, w.k, at("last"), revoked); !through {
			t.Fatal("nobody is let through")
		}
		for i := range 50 {
			if through, _ := ask(t, w.k, at(fmt.Sprint(i)), nil); !through {
				t.Fatal("held back although the provider answers")
			}
		}
		if n := w.k.Breakers(); n != 0 {
			t.Errorf("%d breakers are remembered", n)
		}
		if got, want := alarms(t, w), []string{"provider.down a", "provider.up a"}; !slices.Equal(got, want) {
			t.Errorf("alarms %v, want %v", got, want)
		}
	})
}

// TestProbeThatSendsNothing: who was to find out and did not send anything makes
// room for another.
func TestProbeThatSendsNothing(t *testing.T) {
	gates(t, func(t *testing.T, w *world) {
		slow := at("one")
		slow.Limits = provider.Limits{Concurrency: 6, Rate: provider.Rate{Count: 6, Per: oauth.Lifetime(time.Minute)}}
		for range 5 {
			ask(t, w.k, slow, unreached)
		}
		time.Sleep(5 * time.Second)
		if through, _ := ask(t, w.k, slow, keeper.ErrUnused); !through {
			t.Fatal("nobody is let through")
		}
		elsewhere := slow
		elsewhere.Host = "b.example"
		ask(t, w.k, elsewhere, revoked) // the last of this minute
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() {
			_, err := w.k.Visit(ctx, slow) // the rate lets nobody through for a while
			gone <- err
		}()
		synctest.Wait()
		if through, _ := ask(t, w.k, slow, nil); through {
			t.Fatal("two at once find out")
		}
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Minute)
		if through, _ := ask(t, w.k, slow, nil); !through {
			t.Error("nobody is let through any more")
		}
	})
}

// TestBreakerSendsWaitersAway: who waits for a turn does not wait for a provider
// that turns out to be down, and late failures make it no worse.
func TestBreakerSendsWaitersAway(t *testing.T) {
	gates(t, func(t *testing.T, w *world) {
		narrow := at("")
		narrow.Limits.Concurrency, narrow.Limits.Rate = 8, fast.Rate
		var out []func(error)
		for i := range 8 {
			narrow.Connection = fmt.Sprint(i)
			out = append(out, must[func(error)](t)(w.k.Visit(t.Context(), narrow)))
		}
		elsewhere := narrow
		elsewhere.Host = "b.example"
		var waiting sync.WaitGroup
		var through atomic.Int32
		passed := make(chan error, 1)
		waiting.Go(func() {
			leave, err := w.k.Visit(t.Context(), elsewhere)
			if err == nil {
				leave(keeper.ErrUnused)
			}
			passed <- err
		})
		for i := range 40 {
			v := narrow
			v.Connection, v.Urgent, v.Owner = fmt.Sprint("w", i), i%2 == 0, fmt.Sprint(i%3)
			waiting.Go(func() {
				leave, err := w.k.Visit(t.Context(), v)
				if err == nil {
					through.Add(1)
					time.Sleep(time.Second)
					leave(unknown)
				} else if _, _, ok := keeper.HeldBack(err); !ok {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		for _, leave := range out[:5] {
			leave(unknown)
		}
		waiting.Wait()
		if n := through.Load(); n > 4 { // those who took the places of the first four
			t.Errorf("%d are let through", n)
		}
		if err := <-passed; err != nil {
			t.Errorf("one for another host got %v", err)
		}
		for _, leave := range out[5:] {
			leave(unknown)
		}
		if let, retryAfter := ask(t, w.k, narrow, nil); let || retryAfter > 4*time.Second {
			t.Errorf("let through %v, try again in %s", let, retryAfter)
		}
		if got, want := alarms(t, w), []string{"provider.down a"}; !slices.Equal(got, want) {
			t.Errorf("alarms %v, want %v", got, want)
		}
	})
}

// TestRetryAfterOfBreakers: what the provider asks for is longer than the own
// pause, and counts.
func TestRetryAfterOfBreakers(t *testing.T) {
	gates(t, func(t *testing.T, w *world) {
		asked := *closed
		asked.RetryAfter = 2 * time.Minute
		for range 5 {
			ask(t, w.k, at("one"), &asked)
		}
		if through, retryAfter := ask(t, w.k, at("one"), nil); through || retryAfter != 2*time.Minute {
			t.Errorf("let through %v, try again in %s", through, retryAfter)
		}
	})
}

// TestOneAlarm: however many keepers see an outage, it is told once, and its end
// once; and the next outage is told again.
func TestOneAlarm(t *testing.T) {
	gates(t, func(t *testing.T, w *world) {
		keepers := []*keeper.Keeper{w.k, w.another(), w.another()}
		for range 2 {
			for _, k := range keepers {
				for range 7 {
					ask(t, k, at("one"), unreached)
				}
			}
			time.Sleep(5 * time.Minute)
			for _, k := range keepers {
				if through, _ := ask(t, k, at("one"), nil); !through {
					t.Fatal("nobody is let through")
				}
			}
		}
		want := []string{"provider.down a", "provider.up a", "provider.down a", "provider.up a"}
		if got := alarms(t, w); !slices.Equal(got, want) {
			t.Errorf("alarms %v, want %v", got, want)
		}
	})
}

// TestAlarmOutlivesTheProcess: a process that starts after an outage says that
// it is over, and one that starts without says nothing.
func TestAlarmOutlivesTheProcess(t *testing.T) {
	gates(t, func(t *testing.T, w *world) {
		ask(t, w.k, at("one"), nil)
		if got := alarms(t, w); len(got) > 0 {
			t.Errorf("alarms %v, and nothing has happened", got)
		}
		for _, alarm := range []string{keeper.EventProviderDown, keeper.EventBadClient, keeper.EventBadDefinition} {
			event := keeper.Event{At: time.Now(), Type: alarm, Provider: "a", Actor: "keeper"}
			must[bool](t)(w.db.Keeper().Record(t.Context(), event, alarm, keeper.EventProviderUp))
			w.start()
			ask(t, w.k, at("one"), revoked)
			ask(t, w.k, at("one"), nil)
			ask(t, w.k, at("one"), nil)
			if got := alarms(t, w); got[len(got)-1] != "provider.up a" || got[len(got)-2] != alarm+" a" {
				t.Errorf("alarms %v", got)
			}
		}
		if got := alarms(t, w); len(got) != 6 {
			t.Errorf("alarms %v", got)
		}
	})
}

// lamedLog is a store that does not record events of providers for a while:
// before they are there, or after.
type lamedLog struct {
	keeper.Store
	before, after bool
}

var errLamed = errors.New("the disk is full")

func (l *lamedLog) Record(ctx context.Context, event keeper.Event, types ...string) (bool, error) {
	if l.before {
		return false, errLamed
	}
	done, err := l.Store.Record(ctx, event, types...)
	if l.after {
		return false, errLamed
	}
	return done, err
}

// TestAlarmsAreNotLost: an alarm that the store did not take is told with the
// next outcome, and once.
func TestAlarmsAreNotLost(t *testing.T) {
	for _, applied := range []bool{false, true} {
		gates(t, func(t *testing.T, w *world) {
			store := &lamedLog{Store: w.store, before: !applied, after: applied}
			w.store = store
			w.start()
			for range 5 {
				ask(t, w.k, at("one"), unknown)
			}
			store.before, store.after = false, false
			time.Sleep(5 * time.Second)
			ask(t, w.k, at("one"), unknown)
			if got, want := alarms(t, w), []string{"provider.down a"}; !slices.Equal(got, want) {
				t.Errorf("applied %v: alarms %v, want %v", applied, got, want)
			}
			store.before, store.after = !applied, applied
			time.Sleep(5 * time.Minute)
			ask(t, w.k, at("one"), nil)
			store.before, store.after = false, false
			ask(t, w.k, at("one"), nil)
			if got, want := alarms(t, w), []string{"provider.down a", "provider.up a"}; !slices.Equal(got, want) {
				t.Errorf("applied %v: alarms %v, want %v", applied, got, want)
			}
		})
	}
}

// TestTwoHosts: an outage of two hosts of one provider is one outage, which ends
// with both.
func TestTwoHosts(t *testing.T) {
	gates(t, func(t *testing.T, w *world) {
		second := at("two")
		second.Host = "b.example"
		for range 5 {
			ask(t, w.k, at("one"), unknown)
			ask(t, w.k, second, unknown)
		}
		time.Sleep(5 * time.Minute)
		ask(t, w.k, at("one"), nil)
		if got, want := alarms(t, w), []string{"provider.down a"}; !slices.Equal(got, want) {
			t.Errorf("alarms %v, want %v", got, want)
		}
		ask(t, w.k, second, nil)
		if got, want := alarms(t, w), []string{"provider.down a", "provider.up a"}; !slices.Equal(got, want) {
			t.Errorf("alarms %v, want %v", got, want)
		}
	})
}

// TestRefusedAppStops: where the provider refuses our registration, one request
// at a time finds out whether that has changed, after minutes; other
// registrations go on, at the same host.
func TestRefusedAppStops(t *testing.T) {
	gates(t, func(t *testing.T, w *world) {
		ask(t, w.k, at("one"), badClient)
		var last time.Duration
		for i := range 8 {
			through, retryAfter := ask(t, w.k, at("one"), nil)
			if through || retryAfter < 30*time.Second || retryAfter > 15*time.Minute || retryAfter < last {
				t.Fatalf("let through %v, pause %d is %s after %s", through, i, retryAfter, last)
			}
			last = retryAfter
			other := at("one")
			other.Provider = "b"
			if through, _ := ask(t, w.k, other, nil); !through {
				t.Fatal("another registration is held back")
			}
			time.Sleep(retryAfter)
			for _, outcome := range [][]error{{badClient}, {revoked, badClient}, {unreached, badClient}}[i%3] { // two say nothing of the registration
				if through, _ := ask(t, w.k, at("one"), outcome); !through {
					t.Fatal("nobody is let through")
				}
			}
		}
		time.Sleep(15 * time.Minute)
		ask(t, w.k, at("one"), nil)
		if through, _ := ask(t, w.k, at("one"), nil); !through || w.k.Breakers() != 0 {
			t.Error("held back although the provider takes the registration again")
		}
	})
}

// TestThrottledAppPauses: where the provider throttles request after request,
// the registration pauses; not where each connection has a limit of its own.
func TestThrottledAppPauses(t *testing.T) {
	gates(t, func(t *testing.T, w *world) {
		asked := *throttled
		asked.RetryAfter = 90 * time.Second
		own := at("")
		own.Provider, own.Limits.Connection = "b", provider.Rate{Count: 10, Per: oauth.Lifetime(10 * time.Minute)}
		for i := range 5 {
			v := at(fmt.Sprint(i))
			ask(t, w.k, v, &asked)
			own.Connection = fmt.Sprint(i)
			ask(t, w.k, own, &asked)
		}
		if through, retryAfter := ask(t, w.k, at("one"), nil); through || retryAfter != 90*time.Second {
			t.Errorf("let through %v, try again in %s", through, retryAfter)
		}
		if through, _ := ask(t, w.k, own, nil); !through {
			t.Error("one connection's limit holds back another")
		}
		if got := alarms(t, w); len(got) > 0 {
			t.Errorf("alarms %v", got)
		}
	})
}
