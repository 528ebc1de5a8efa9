package keeper_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
	"github.com/evergrant/evergrant/secret"
)

// runIn runs the background of keepers while f goes on, and waits for its end.
func runIn(t *testing.T, f func(), keepers ...*keeper.Keeper) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	for _, k := range keepers {
		go func() { ended <- k.Run(ctx) }()
	}
	f()
	stop()
	for range keepers {
		if err := <-ended; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	}
}

// TestReseal: after a change of keys all tokens and answers are sealed under the
// newest one while they are read, and then the old key can go.
func TestReseal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, closeWorld := newBubble(t, single())
		defer closeWorld()
		const connections = 60
		var ids []string
		for i := range connections {
			ids = append(ids, fmt.Sprint("c", i))
			w.connect(ids[i], "single")
		}
		// One has an answer in the journal that the definition cannot read.
		w.sims["single"].Inject(providertest.Rule{Times: 1, Fault: providertest.Fault{Body: func(body []byte) []byte {
			return []byte(strings.Replace(string(body), `"access_token"`, `"token"`, 1))
		}}})
		w.unusable("c0", keeper.Want{After: 1})
		before := w.row("c1")

		must[secret.KeyRecord](t)(w.ring.Rotate(t.Context(), 0, false))
		other := w.another()
		runIn(t, func() {
			time.Sleep(time.Second)
			if got := w.k.Resealing(); got.Key != 2 || got.Left == 0 || got.Left > connections/2 {
				t.Errorf("after a second: %+v", got)
			}
			for _, id := range ids {
				must[keeper.Token](t)(w.k.Token(t.Context(), id, keeper.Want{}))
			}
			time.Sleep(2 * time.Minute)
		}, w.k, other)
		if a, b := w.k.Resealing(), other.Resealing(); a.Left != 0 || b.Left != 0 || a.Done+b.Done < connections {
			t.Errorf("at the end: %+v and %+v", a, b)
		}
		if stale := must[[]string](t)(w.store.Stale(t.Context(), 2, "", 1000)); len(stale) > 0 {
			t.Errorf("still sealed under the old key: %v", stale)
		}
		if after := w.row("c1"); after.Tokens.KeyID != 2 || after.Generation != before.Generation || !after.DueAt.Equal(before.DueAt) || after.State != before.State {
			t.Errorf("the row was %+v and is %+v", before, after)
		}
		var told []string
		for _, event := range must[[]keeper.Event](t)(w.store.Events(t.Context(), keeper.EventFilter{After: -1, Limit: 1000})) {
			if event.Type == keeper.EventResealed {
				told = append(told, event.Detail)
			}
		}
		if len(told) != 1 || !strings.Contains(told[0], "key 2") {
			t.Errorf("told %q", told)
		}

		if err := w.ring.Delete(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		for _, id := range ids[1:] {
			must[keeper.Token](t)(w.k.Token(t.Context(), id, keeper.Want{Force: true}))
		}
		// The answer can still be read, by a mended definition.
		w.change = func(cfg *keeper.Config) {
			def := w.sims["single"].Definition(w.urls["single"])
			def.Response.AccessToken = "token|access_token"
			cfg.Providers = []*provider.Provider{newProvider(t, "single", def, w.clock.now, w.dials["single"])}
		}
		w.start()
		time.Sleep(time.Hour)
		if token := w.token("c0", keeper.Want{}); token.Generation < 2 {
			t.Errorf("generation %d", token.Generation)
		}
	})
}

// TestResealTwice: each new key is told of.
func TestResealTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, closeWorld := newBubble(t, single())
		defer closeWorld()
		w.connect("one", "single")
		runIn(t, func() {
			for range 2 {
				must[secret.KeyRecord](t)(w.ring.Rotate(t.Context(), 0, false))
				time.Sleep(2 * time.Minute)
			}
		}, w.k)
		events := must[[]keeper.Event](t)(w.store.Events(t.Context(), keeper.EventFilter{After: -1, Limit: 1000}))
		n := 0
		for _, event := range events {
			if event.Type == keeper.EventResealed {
				n++
			}
		}
		if row := w.row("one"); n != 2 || row.Tokens.KeyID != 3 {
			t.Errorf("%d events, and the row is sealed under key %d", n, row.Tokens.KeyID)
		}
		if got := w.k.Resealing(); got.Key != 3 || got.Done != 1 || got.Left != 0 {
			t.Errorf("told is %+v", got)
		}
	})
}

// TestResealGoesOn: one row that cannot be opened does not stop the others, and is
// not said to be done.
func TestResealGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, closeWorld := newBubble(t, single())
		defer closeWorld()
		w.connect("b", "single")
		damaged := w.row("b")
		damaged.ID, damaged.Tokens.Data = "a-lost", []byte("nobody sealed this")
		if err := w.store.Create(t.Context(), damaged, keeper.Event{At: time.Now(), Type: keeper.EventCreated, Connection: "a-lost"}); err != nil {
			t.Fatal(err)
		}
		w.connect("c", "single")
		must[secret.KeyRecord](t)(w.ring.Rotate(t.Context(), 0, false))
		runIn(t, func() { time.Sleep(2 * time.Minute) }, w.k)
		if stale := must[[]string](t)(w.store.Stale(t.Context(), 2, "", 10)); !slices.Equal(stale, []string{"a-lost"}) {
			t.Errorf("sealed under old keys: %v", stale)
		}
		if got := w.k.Resealing(); got.Left != 1 || got.Done != 2 {
			t.Errorf("told is %+v", got)
		}
		for _, event := range must[[]keeper.Event](t)(w.store.Events(t.Context(), keeper.EventFilter{After: -1, Limit: 1000})) {
			if event.Type == keeper.EventResealed {
				t.Error("all is said to be sealed anew")
			}
		}
	})
}
