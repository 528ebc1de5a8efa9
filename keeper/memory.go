package keeper

import (
	"sync"
	"time"
)

// staleAfter bounds how long a process serves a token from memory without a look
// at the store, where another process may have renewed, paused or deleted it.
const staleAfter = 10 * time.Second

// memory holds published tokens for reading: only those that were read lately,
// so that idle connections cost nothing.
type memory struct {
	mu     sync.RWMutex
	tokens map[string]*published
	sweep  int // at how many entries to look for dead ones
}

// published is a token that is durable and may be seen.
type published struct {
	token Token
	until time.Time // after which the store is asked
	read  bool      // and not only renewed
}

const leastSweep = 1024

// get gives a token that can be served as it is.
func (m *memory) get(id string, now time.Time, want *Want) (Token, bool) {
	m.mu.RLock()
	p := m.tokens[id]
	m.mu.RUnlock()
	if p == nil || !now.Before(p.until) || !p.token.serves(now, want) {
		return Token{}, false
	}
	return p.token, true
}

// last gives a token that the store would be asked about, if it could.
func (m *memory) last(id string, now time.Time, want *Want) (Token, bool) {
	m.mu.RLock()
	p := m.tokens[id]
	m.mu.RUnlock()
	if p == nil || !p.token.serves(now, want) {
		return Token{}, false
	}
	return p.token, true
}

// serves reports whether a token is what is wanted.
func (t *Token) serves(now time.Time, want *Want) bool {
	if want.Force || want.After >= t.Generation || !want.of(t.tenant) {
		return false
	}
	if want.MinTTL <= 0 { // as usual: a difference of times costs a quarter of the read
		return t.ExpiresAt.IsZero() || now.Before(t.ExpiresAt)
	}
	return t.ExpiresAt.IsZero() || t.ExpiresAt.Sub(now) >= want.MinTTL
}

// put publishes a token, unless a newer one is there. One that was not read but
// only renewed takes the place of one that was read, and is gone after the next
// renewal.
func (m *memory) put(id string, token Token, now, until time.Time, read bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.tokens[id]
	if old != nil && old.token.Generation > token.Generation {
		return
	}
	if !read && (old == nil || !old.read) {
		delete(m.tokens, id)
		return
	}
	if m.tokens == nil {
		m.tokens, m.sweep = map[string]*published{}, leastSweep
	}
	m.tokens[id] = &published{token, until, read}
	if len(m.tokens) < m.sweep {
		return
	}
	for id, p := range m.tokens {
		if end := p.token.ExpiresAt; !now.Before(p.until) && !now.Before(end) { // or nobody knows its end
			delete(m.tokens, id)
		}
	}
	m.sweep = max(leastSweep, 2*len(m.tokens))
}

func (m *memory) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.tokens, id)
}
