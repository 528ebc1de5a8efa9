package keeper_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/keeper"
)

// TestMemoryIsForReaders: what the schedule renews takes no memory, however many
// there are, unless somebody reads it. One that was read is served on from memory
// over its renewal, and forgotten at the one after that.
func TestMemoryIsForReaders(t *testing.T) {
	running(t, func(t *testing.T, w *world) {
		const connections = 5
		var down atomic.Bool
		w.faulty(func(string) error {
			if down.Load() {
				return errDown
			}
			return nil
		}, nil)
		for i := range connections {
			w.connect(fmt.Sprint("c", i), "away")
		}
		w.token("c0", keeper.Want{})
		runIn(t, func() {
			for _, want := range []int{1, 0} {
				before := w.row("c0").Generation
				for range 20 {
					time.Sleep(time.Minute)
				}
				if n := w.k.Remembered(); n != want || w.row("c0").Generation != before+1 {
					t.Errorf("%d tokens are in memory, want %d; generation %d", n, want, w.row("c0").Generation)
				}
				down.Store(true)
				token, err := w.k.Token(t.Context(), "c0", keeper.Want{})
				if served := err == nil && token.Generation == before+1; served != (want == 1) || !served && !errors.Is(err, errDown) {
					t.Errorf("while the database is away: generation %d, %v", token.Generation, err)
				}
				down.Store(false)
			}
		}, w.k)
		for i := range connections {
			if row := w.row(fmt.Sprint("c", i)); row.Generation < 3 {
				t.Errorf("%s was not renewed: generation %d", row.ID, row.Generation)
			}
		}
	}, short("away"))
}
