package issuer

import (
	"net/netip"
	"sync"
	"time"
)

// limit is a token bucket: so many at once, and one more each so often.
type limit struct {
	burst int
	every time.Duration
}

// The limits. An account is a client or user seen from one address; from all
// addresses together a user has more, so that a stranger cannot lock them out
// at once.
var (
	perAccountLimit = limit{10, time.Minute}
	perUserLimit    = limit{100, 10 * time.Second}
	perAddressLimit = limit{100, time.Second}
	noteLimit       = limit{1, 10 * time.Minute}
)

// throttleSize bounds the memory of a throttle: about 100 bytes a key.
const throttleSize = 100_000

// throttle counts against limits per key, in memory.
type throttle struct {
	now     func() time.Time
	mu      sync.Mutex
	buckets map[string]bucket
}

// bucket is when it would be full again: a bucket in the past is full.
type bucket struct{ full time.Time }

type limitedKey struct {
	key string
	limit
}

// network is what one subscriber has of an address: all of an IPv4 address, and
// the first 64 bits of an IPv6 one. Where it is neither, it is the text.
func network(address string) string {
	addr, err := netip.ParseAddr(address)
	if err != nil || addr.Unmap().Is4() {
		return address
	}
	prefix, err := addr.WithZone("").Prefix(64)
	if err != nil {
		return address
	}
	return prefix.String()
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, buckets: map[string]bucket{}}
}

// take counts one against a key. It returns 0, or how long to wait where the
// limit is reached; then nothing was counted.
func (t *throttle) take(key string, l limit) time.Duration {
	return t.takeAll([]limitedKey{{key, l}})
}

// takeAll counts one against every key, or against none.
func (t *throttle) takeAll(keys []limitedKey) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if len(t.buckets) > throttleSize {
		t.sweep(now)
	}
	var wait time.Duration
	for _, k := range keys {
		room := time.Duration(k.burst-1) * k.every
		wait = max(wait, max(0, t.buckets[k.key].full.Sub(now))-room) // the inner max: a time before now may be centuries before
	}
	if wait > 0 {
		return wait
	}
	for _, k := range keys {
		full := t.buckets[k.key].full
		if full.Before(now) {
			full = now
		}
		t.buckets[k.key] = bucket{full.Add(k.every)}
	}
	return 0
}

// giveBack undoes takeAll, for an attempt that turned out well.
func (t *throttle) giveBack(keys []limitedKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range keys {
		if b, ok := t.buckets[k.key]; ok {
			t.buckets[k.key] = bucket{b.full.Add(-k.every)}
		}
	}
}

// sweep drops full buckets, and everything where that is not enough.
func (t *throttle) sweep(now time.Time) {
	for key, b := range t.buckets {
		if b.full.Before(now) {
			delete(t.buckets, key)
		}
	}
	if len(t.buckets) > throttleSize {
		clear(t.buckets)
	}
}
