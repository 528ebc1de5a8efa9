package web

import (
	"sync"
	"time"
)

// Bounds of guessing: so many wrong tokens at once from one address, and one
// more each so often.
const (
	guessBurst = 10
	guessEvery = 6 * time.Second
	guessSize  = 10_000 // addresses that are remembered
)

// guesses counts wrong tokens by network address, in memory.
type guesses struct {
	now  func() time.Time
	mu   sync.Mutex
	full map[string]time.Time // when an address may guess the whole burst again
}

// wait is how long an address has to wait before it may try.
func (g *guesses) wait(address string) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	left := max(0, g.full[address].Sub(g.now())) // a time that is not set is centuries before
	return max(0, left-(guessBurst-1)*guessEvery)
}

// wrong counts a wrong guess.
func (g *guesses) wrong(address string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	if len(g.full) >= guessSize {
		for other, full := range g.full {
			if full.Before(now) {
				delete(g.full, other)
			}
		}
		if len(g.full) >= guessSize {
			clear(g.full)
		}
	}
	full := g.full[address]
	if full.Before(now) {
		full = now
	}
	g.full[address] = full.Add(guessEvery)
}
