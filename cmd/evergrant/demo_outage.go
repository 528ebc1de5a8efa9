package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
)

// callEvery is the pace at which the application calls Eventix's API during the
// outage.
const callEvery = 40 * time.Millisecond

// callers are an application that calls a provider's API for one connection
// after the other.
type callers struct {
	stop   context.CancelFunc
	done   sync.WaitGroup
	calls  int
	failed []string // what came instead of an answer
}

// callInTurn begins to call; end waits for the last answer.
func (t *tour) callInTurn(ctx context.Context, ids []string) *callers {
	c, whose := &callers{}, t.owners()
	calling, stop := context.WithCancel(ctx)
	c.stop = stop
	c.done.Go(func() {
		tick := time.NewTicker(callEvery)
		defer tick.Stop()
		for i := 0; calling.Err() == nil; i++ {
			id := ids[i%len(ids)]
			e, err := t.ask(ctx, t.admin, http.MethodGet, proxyPath(id), nil)
			c.calls++
			if err != nil || e.whose() != whose[id] {
				c.failed = append(c.failed, id+": "+e.outcome())
			}
			select {
			case <-tick.C:
			case <-calling.Done():
			}
		}
	})
	return c
}

func (c *callers) end() {
	c.stop()
	c.done.Wait()
}

func (t *tour) outage(ctx context.Context) error {
	before, err := t.quiet(ctx)
	if err != nil {
		return err
	}
	if err := t.eventixAuth.down(ctx); err != nil {
		return err
	}
	application := t.callInTurn(ctx, slices.Sorted(maps.Keys(before)))
	defer application.end()
	if err := t.whileDown(ctx); err != nil {
		return err
	}
	t.out.aside("Eventix is back. The keeper tries one request, and then goes on with the rest:")
	if _, err = t.await(ctx, outageLife+t.patience, func() (bool, error) {
		for id, c := range before {
			if t.renewals.since(id, c.Generation) == 0 {
				return false, nil
			}
		}
		return true, nil
	}); err != nil {
		return err
	}
	application.end()
	t.promise(application.calls > 0 && len(application.failed) == 0, "every call of the application was answered, before, during and after",
		"%s, of which failed: %s", plural(application.calls, "call"), someOf(application.failed))
	after, err := t.connections(ctx, "eventix")
	if err != nil {
		return err
	}
	renewed := 0
	for id, c := range after {
		if c.Generation > before[id].Generation && c.State == evergrant.ConnectionActive && c.Attempt == 0 {
			renewed++
		}
	}
	t.promise(renewed == t.crowd+1, "all of its connections were renewed when it was back, none is in doubt, none needs its owner", "%d of %d", renewed, t.crowd+1)
	return t.tellOutage(ctx)
}

// whileDown waits until the keeper knows of the outage, and ends it.
func (t *tour) whileDown(ctx context.Context) error {
	req, err := form(ctx, t.eventixAuth.url+providertest.TokenPath, "", "grant_type", oauth.GrantRefreshToken)
	if err != nil {
		return err
	}
	e, refused := send(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: demoTimeout}, req)
	t.out.command(e.curl...)
	t.out.block(fmt.Sprintf("→ no answer: %v", refused))
	down, err := t.await(ctx, outageLife+t.patience, func() (bool, error) { return t.renewals.ofEventix(keeper.EventProviderDown) > 0, nil })
	if err := errors.Join(t.comesBack(ctx), err); err != nil {
		return err
	}
	t.promise(errors.Is(refused, syscall.ECONNREFUSED) && down, "the keeper finds out that Eventix is down, and stops asking", "a request to it: %v, it is known to be down: %t", refused, down)
	return nil
}

// quiet waits until nothing is due at Eventix, so that its end cuts no request
// off whose refresh token would then be in doubt. It returns its connections.
func (t *tour) quiet(ctx context.Context) (found map[string]evergrant.Connection, err error) {
	_, err = t.await(ctx, outageLife, func() (bool, error) {
		if found, err = t.connections(ctx, "eventix"); err != nil {
			return false, err
		}
		soon := time.Now().Add(time.Second)
		for _, c := range found {
			if !c.DueAt.IsZero() && c.DueAt.Before(soon) {
				return false, nil
			}
		}
		return true, nil
	})
	return found, err
}

// comesBack has the host answer again. Its port may still be in use for a moment.
func (t *tour) comesBack(ctx context.Context) error {
	var failed error
	up, err := t.await(ctx, t.patience, func() (bool, error) {
		failed = t.eventixAuth.up()
		return failed == nil, nil
	})
	if err == nil && !up {
		err = failed
	}
	return err
}

func someOf(all []string) string {
	switch {
	case len(all) == 0:
		return "0"
	case len(all) > 3:
		return fmt.Sprintf("%d, such as %s", len(all), strings.Join(all[:3], "; "))
	}
	return strings.Join(all, "; ")
}

// tellOutage shows what the operator was told.
func (t *tour) tellOutage(ctx context.Context) error {
	code, _ := t.runCommand(ctx, "event list", "--provider eventix", "--type provider.")
	told := map[string]int{}
	for event, err := range t.admin.Events(ctx, evergrant.EventFilter{Provider: "eventix", Type: "provider."}) {
		if err != nil {
			return err
		}
		told[event.Type]++
	}
	t.promise(code == exitDone && told[keeper.EventProviderDown] == 1 && told[keeper.EventProviderUp] == 1 && len(told) == 2, "the operator is told once that Eventix is down, and once that it is back",
		"down: %d, up: %d", told[keeper.EventProviderDown], told[keeper.EventProviderUp])
	return nil
}

func (t *tour) balance(context.Context) error {
	spent, ended, most := 0, 0, 0
	rows := [][]string{}
	for _, of := range []struct {
		name string
		sim  *providertest.Simulator
	}{{"tink", t.tink}, {"eventix", t.eventix}, {"flexiti", t.flexiti}} {
		stats := of.sim.Stats()
		renewals := stats.Requests[provider.Refresh] + stats.Requests[provider.Reminting] + stats.Requests[provider.ClientCredentials]
		rows = append(rows, []string{of.name, fmt.Sprint(renewals), fmt.Sprint(stats.Concurrent), fmt.Sprint(len(stats.DoubleSpends)), fmt.Sprint(stats.FamiliesRevoked)})
		spent, ended, most = spent+len(stats.DoubleSpends), ended+stats.FamiliesRevoked, max(most, stats.Concurrent)
	}
	var shown strings.Builder
	if err := table(&shown, []string{"PROVIDER", "REQUESTS", "AT ONCE", "SPENT TWICE", "GRANTS ENDED"}, rows); err != nil {
		return err
	}
	t.out.block(shown.String())
	t.promise(spent == 0, "no refresh token was ever sent after it was spent", "%d were", spent)
	t.promise(ended == 0, "no provider ended a grant for what the keeper did", "%d were ended", ended)
	t.promise(most <= eventixAtOnce, "no provider was asked for more at once than its definition allows", "at most %d at once, of %d", most, eventixAtOnce)
	return nil
}
