package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/keeper"
)

// renewals are what the keeper has renewed since the tour began to look, and what
// it has told of Eventix.
type renewals struct {
	mu      sync.Mutex
	newest  map[string]uint64 // generation, by connection
	total   int
	unseen  []evergrant.Event // of the connections whose renewals are shown one by one
	eventix map[string]int    // by type of event
}

// add counts an event. The first tokens of a connection are no renewal.
func (r *renewals) add(e evergrant.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.newest == nil {
		r.newest, r.eventix = map[string]uint64{}, map[string]int{}
	}
	switch renewal := e.Type == keeper.EventRefreshed || e.Type == keeper.EventReminted; {
	case e.Connection == "" && e.Provider == "eventix":
		r.eventix[e.Type]++
		return
	case !renewal || e.Generation < 2:
		return
	}
	r.newest[e.Connection] = e.Generation
	r.total++
	if e.Connection == onTink || e.Connection == onEventix || e.Connection == onFlexiti {
		r.unseen = append(r.unseen, e)
	}
}

// ofEventix is how many events of a type came that are about Eventix itself.
func (r *renewals) ofEventix(eventType string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.eventix[eventType]
}

// since is how often a connection was renewed after a generation, and after its
// first one.
func (r *renewals) since(id string, generation uint64) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(0, int(r.newest[id])-max(1, int(generation)))
}

// take gives what is to be shown, and the numbers of renewals and of connections
// that were renewed.
func (r *renewals) take() (unseen []evergrant.Event, total, connections int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	unseen, r.unseen = r.unseen, nil
	return unseen, r.total, len(r.newest)
}

// follow begins to count renewals, by the server's stream of events.
func (t *tour) follow(ctx context.Context) error {
	newest := int64(0)
	for event, err := range t.admin.Events(ctx, evergrant.EventFilter{}) {
		if err != nil {
			return err
		}
		newest = event.ID
		break
	}
	ctx, t.unfollow = context.WithCancel(ctx)
	stream := &evergrant.Client{Server: t.admin.Server, Token: t.admin.Token, HTTP: &http.Client{}} // without the time limit of an answer
	t.following.Go(func() {
		for event, err := range stream.FollowEvents(ctx, evergrant.EventFilter{}, newest) {
			if err != nil {
				return // the counts stay as they are, and promises about them break
			}
			t.renewals.add(event)
		}
	})
	return nil
}

// showRenewals shows the renewals of single connections that came since the last
// call, and on a terminal the number of all.
func (t *tour) showRenewals() {
	if t.stage == nil {
		return
	}
	unseen, total, connections := t.renewals.take()
	for _, e := range unseen {
		how := "refreshed"
		if e.Type == keeper.EventReminted {
			how = "minted anew"
		}
		t.out.line(fmt.Sprintf("%s  %-12s %s, generation %d", e.At.Local().Format("15:04:05.000"), e.Connection, how, e.Generation))
	}
	if total > 0 {
		t.out.live(fmt.Sprintf("%s of %s", plural(total, "renewal"), plural(connections, "connection")))
	}
}

func (t *tour) renew(ctx context.Context) error {
	t.out.command("curl -N", "-H "+quote("Authorization: Bearer "+t.admin.Token.Reveal()), "-H 'Accept: text/event-stream'", quote(t.base+"/v1/events?type=connection."))
	t.out.aside("The renewals of single connections, as they come:")
	since := func(id string) int { return t.renewals.since(id, t.askedFor[id]) }
	crowd := 0
	_, err := t.await(ctx, shortLife+t.patience, func() (bool, error) {
		crowd = 0
		for i := range t.crowd {
			if id, _ := inCrowd(i + 1); t.renewals.since(id, 1) > 0 {
				crowd++
			}
		}
		return since(onTink) > 0 && since(onEventix) > 0 && since(onFlexiti) > 0 && crowd == t.crowd, nil
	})
	if err != nil {
		return err
	}
	t.promise(since(onTink) > 0 && since(onEventix) > 0 && since(onFlexiti) > 0, "the connection at each provider is renewed by itself", "at Tink: %d, at Eventix: %d, at Flexiti: %d", since(onTink), since(onEventix), since(onFlexiti))
	t.promise(crowd == t.crowd, "and so is each of the hundred", "%d of %d", crowd, t.crowd)
	answered, err := t.callEach(ctx)
	if err != nil {
		return err
	}
	t.promise(answered == len(t.owners()), "the APIs take the new tokens of all", "%d of %d calls were answered", answered, len(t.owners()))
	code, history := t.runCommand(ctx, "connection history", onTink)
	t.promise(code == exitDone && strings.Contains(history, keeper.EventReminted) && strings.Contains(history, keeper.EventCreated), "the history of a connection has all of it",
		"status %d, it has %d renewals", code, strings.Count(history, keeper.EventReminted))
	return nil
}
