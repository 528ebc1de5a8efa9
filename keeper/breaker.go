package keeper

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/provider"
)

const (
	// opensAfter is how many failures in a row open a breaker.
	opensAfter = 5
	// Pauses of a breaker before it lets one request through: of a host that is
	// down or throttles, and of an app that is refused, which stays so until an
	// operator does something.
	downPause, longestDownPause       = 5 * time.Second, 5 * time.Minute
	refusedPause, longestRefusedPause = time.Minute, 15 * time.Minute
	// probePause is when to try again while another request finds out.
	probePause = 2 * time.Second
	// tellTimeout bounds the writing of an event, for which a request waits.
	tellTimeout = 5 * time.Second
)

// breaker stops what would fail. It is there while something fails and gone
// after the first success. Once open it lets one request through at a time, each
// after a longer pause than the last.
type breaker struct {
	failures int // in a row
	openings int // in a row
	last     *provider.Error
	until    time.Time // when one is let through; zero while it is closed
	probe    *visit    // the one that is let through
}

// wait is how long it stops a request; 0 where it does not.
func (b *breaker) wait(now time.Time) time.Duration {
	switch {
	case b.until.IsZero():
		return 0
	case b.probe != nil:
		return probePause
	}
	return max(0, b.until.Sub(now))
}

func (b *breaker) held(wait time.Duration) *heldBack {
	return heldFor(b.last.Class, wait, "the provider fails for all connections, the last time: "+b.last.Error())
}

func heldFor(class provider.Class, wait time.Duration, why string) *heldBack {
	return &heldBack{class, wait, fmt.Sprintf("nothing was sent, try again in %s: %s", max(wait, time.Second).Round(time.Second), why)}
}

// standing are the breakers before a visit. It holds mu.
func (g *gate) standing(v *visit) (all []*breaker) {
	for _, b := range []*breaker{g.hosts[v.host], g.apps[v.provider]} {
		if b != nil && !b.until.IsZero() {
			all = append(all, b)
		}
	}
	return all
}

// check stops a visit that had no chance, and otherwise makes it the probe of
// the breakers that are open. It holds mu.
func (g *gate) check(b *budget, v *visit) error {
	now := g.now()
	if wait := b.exhausted(v.connection, now); wait > 0 {
		return heldFor(provider.Throttled, wait, "the connection has used up what the provider allows it")
	}
	open := g.standing(v)
	for _, br := range open {
		if wait := br.wait(now); wait > 0 {
			return br.held(wait)
		}
	}
	for _, br := range open {
		br.probe = v
	}
	return nil
}

// unused lets another one find out what v did not. It holds mu.
func (g *gate) unused(v *visit) {
	for _, br := range g.standing(v) {
		if br.probe == v {
			br.probe = nil
		}
	}
}

// learn takes the outcome of a request. It names the registrations of which
// there may be something to tell. It holds mu.
func (g *gate) learn(b *budget, v *visit, err error) (tell []string) {
	failure, _ := errors.AsType[*provider.Error](err)
	if err != nil && failure == nil {
		g.unused(v)
		return nil
	}
	if hostDown(failure) {
		if g.fail(g.hosts, v.host, v, failure, opensAfter, downPause, longestDownPause) {
			n := g.newsOf(v.provider)
			n.down[v.host] = true
			n.detail = fmt.Sprintf("%s failed %d times in a row, the last time: %s", v.host, opensAfter, failure.Error())
		}
		if len(g.newsOf(v.provider).down) > 0 {
			tell = append(tell, v.provider)
		}
		g.unused(v) // of the app's breaker: nobody knows
		return tell
	}
	delete(g.hosts, v.host) // whatever the answer was, there was one
	for name, n := range g.outcomes {
		if n.down[v.host] {
			delete(n.down, v.host)
			n.detail = v.host + " answers again."
			tell = append(tell, name)
		}
	}
	switch {
	case failure != nil && failure.Class == provider.BadClient:
		g.fail(g.apps, v.provider, v, failure, 1, refusedPause, longestRefusedPause)
	case failure != nil && failure.Class == provider.Throttled && b.each.Count == 0:
		g.fail(g.apps, v.provider, v, failure, opensAfter, downPause, longestDownPause)
	case failure == nil:
		delete(g.apps, v.provider)
		if g.newsOf(v.provider).told != EventProviderUp {
			tell = append(tell, v.provider)
		}
	default:
		g.unused(v)
	}
	return tell
}

// hostDown reports whether a failure says that the host does not work, rather
// than something about a connection or the app.
func hostDown(failure *provider.Error) bool {
	if failure == nil {
		return false
	}
	switch failure.Class {
	case provider.Transient, provider.Ambiguous:
		return true
	case provider.Throttled:
		return failure.Status == http.StatusServiceUnavailable
	}
	return false
}

// fail counts a failure, and reports whether it opened the breaker. Who waits
// before it is sent away. It holds mu.
func (g *gate) fail(breakers map[string]*breaker, key string, v *visit, failure *provider.Error, most int, first, longest time.Duration) (opened bool) {
	br := breakers[key]
	if br == nil {
		br = &breaker{}
		breakers[key] = br
	}
	br.failures++
	wasOpen, probe := !br.until.IsZero(), br.probe == v
	if probe {
		br.probe = nil
	}
	if wasOpen && !probe || !wasOpen && br.failures < most {
		return false // what was on its way when it opened says nothing new
	}
	br.openings++
	br.last = failure
	pause := backoff(first, longest, br.openings, g.random())
	br.until = g.now().Add(max(pause, min(failure.RetryAfter, longestRefusedPause)))
	for _, b := range g.budgets {
		for _, q := range []*fairQueue[*visit]{&b.urgent, &b.background} {
			for _, waiting := range q.all() {
				if g.hosts[waiting.host] == br || g.apps[waiting.provider] == br {
					q.remove(waiting.turn(), waiting)
					waiting.settle(br.held(br.until.Sub(g.now())))
					g.unused(waiting)
				}
			}
		}
	}
	return !wasOpen
}

// news is what is told of a registration: that hosts of it are down, or none any
// more.
type news struct {
	down   map[string]bool
	detail string
	told   string // the last event that was stored, "" where it is not known
}

// newsOf is that of a registration. It holds mu.
func (g *gate) newsOf(name string) *news {
	n := g.outcomes[name]
	if n == nil {
		n = &news{down: map[string]bool{}}
		g.outcomes[name] = n
	}
	return n
}

// tell stores the event that a registration is down, or up again, once over all
// replicas. Where it fails, the next outcome tries again.
func (g *gate) tell(name string) {
	g.telling.Lock()
	defer g.telling.Unlock()
	g.mu.Lock()
	n := g.newsOf(name)
	event := Event{At: g.now().UTC(), Type: EventProviderUp, Provider: name, Actor: "keeper", Detail: n.detail}
	if len(n.down) > 0 {
		event.Type, event.Class = EventProviderDown, provider.Transient
	}
	told := n.told
	g.mu.Unlock()
	if told == event.Type {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), tellTimeout)
	defer cancel()
	if err := g.record(ctx, event, told); err != nil {
		g.log.Error("an event was not stored; the next outcome tries again", "provider", name, "event", event.Type, "error", err)
		return
	}
	g.mu.Lock()
	n.told = event.Type
	g.mu.Unlock()
}

func (g *gate) record(ctx context.Context, event Event, told string) error {
	types := []string{EventProviderDown, EventProviderUp}
	if told == "" && event.Type == EventProviderUp { // an earlier process may have ended while an alarm stood
		types = append(types, EventBadClient, EventBadDefinition)
		newest, err := g.newest(ctx, event.Provider, types)
		if err != nil || newest == "" || newest == EventProviderUp {
			return err
		}
		event.Detail = "It answers again."
	}
	stored, err := g.events.Record(ctx, event, types...)
	if err == nil && stored {
		g.log.Warn(event.Type, "provider", event.Provider, "detail", event.Detail)
	}
	return err
}

// newest is the newest event of a provider that is of one of the types, within
// its newest thousand events.
func (g *gate) newest(ctx context.Context, name string, types []string) (string, error) {
	events, err := g.events.Events(ctx, EventFilter{Provider: name, Limit: 1000})
	if err != nil {
		return "", err
	}
	for _, e := range events {
		if slices.Contains(types, e.Type) {
			return e.Type, nil
		}
	}
	return "", nil
}

// oneHost reports whether all connections of a provider have the same token
// host.
func oneHost(def *provider.Definition) bool {
	_, rest, _ := strings.Cut(def.TokenURL, "://")
	host, _, _ := strings.Cut(rest, "/")
	return !strings.Contains(host, "{")
}
