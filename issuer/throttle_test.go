package issuer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/secret"
	"pgregory.net/rapid"
)

// handClock is moved by hand.
type handClock struct{ at time.Time }

func (c *handClock) now() time.Time { return c.at }

func TestThrottle(t *testing.T) {
	c := &handClock{noon()}
	th := newThrottle(c.now)
	l := limit{3, 10 * time.Second}
	for i := range 3 {
		if wait := th.take("a", l); wait != 0 {
			t.Fatalf("attempt %d: wait %s", i, wait)
		}
	}
	for range 5 { // waiting does not make it longer
		if wait := th.take("a", l); wait != 10*time.Second {
			t.Errorf("wait %s", wait)
		}
	}
	if wait := th.take("b", l); wait != 0 {
		t.Errorf("another key waits %s", wait)
	}
	c.at = c.at.Add(4 * time.Second)
	if wait := th.take("a", l); wait != 6*time.Second {
		t.Errorf("wait %s", wait)
	}
	c.at = c.at.Add(6 * time.Second)
	if th.take("a", l) != 0 || th.take("a", l) != 10*time.Second {
		t.Error("one more each ten seconds")
	}
	c.at = c.at.Add(time.Hour) // full again, and no fuller
	for i := range 3 {
		if wait := th.take("a", l); wait != 0 {
			t.Errorf("attempt %d: wait %s", i, wait)
		}
	}
	if th.take("a", l) == 0 {
		t.Error("an hour gave more than a burst")
	}
}

// TestThrottleTakesAllOrNothing: a key that is at its limit costs the others
// nothing.
func TestThrottleTakesAllOrNothing(t *testing.T) {
	c := &handClock{noon()}
	th := newThrottle(c.now)
	narrow, wide := limitedKey{"narrow", limit{1, time.Minute}}, limitedKey{"wide", limit{2, time.Second}}
	keys := []limitedKey{narrow, wide}
	if th.takeAll(keys) != 0 {
		t.Fatal("the first waits")
	}
	for range 10 {
		if wait := th.takeAll(keys); wait != time.Minute {
			t.Errorf("wait %s, want the longest", wait)
		}
	}
	if th.take("wide", wide.limit) != 0 {
		t.Error("refused attempts were counted")
	}
	th.giveBack(keys)
	if th.takeAll(keys) != 0 {
		t.Error("what was given back is not there")
	}
	th.giveBack([]limitedKey{{"unheard of", narrow.limit}})
	if len(th.buckets) != 2 {
		t.Errorf("%d buckets", len(th.buckets))
	}
}

// TestThrottleRules: in no span of time are more let through than the burst and
// what has flowed in since.
func TestThrottleRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := limit{rapid.IntRange(1, 5).Draw(t, "burst"), time.Duration(rapid.IntRange(1, 1000).Draw(t, "every")) * time.Millisecond}
		c := &handClock{noon()}
		th := newThrottle(c.now)
		var passed []time.Time
		for range rapid.IntRange(1, 60).Draw(t, "attempts") {
			c.at = c.at.Add(time.Duration(rapid.IntRange(0, 1500).Draw(t, "pause")) * time.Millisecond)
			wait := th.take("k", l)
			if wait == 0 {
				passed = append(passed, c.at)
			} else if wait < 0 || wait > l.every {
				t.Fatalf("wait %s, and one more comes each %s", wait, l.every)
			}
		}
		for i := range passed {
			for j := i; j < len(passed); j++ {
				if most := l.burst + int(passed[j].Sub(passed[i])/l.every); j-i+1 > most {
					t.Fatalf("%d of %d passed within %s", j-i+1, most, passed[j].Sub(passed[i]))
				}
			}
		}
	})
}

// TestThrottleIsBounded: full buckets are swept out, and everything where that
// is not enough.
func TestThrottleIsBounded(t *testing.T) {
	c := &handClock{noon()}
	th := newThrottle(c.now)
	l := limit{2, time.Second}
	fill := func(prefix string) {
		for i := range throttleSize + 1 {
			th.buckets[fmt.Sprint(prefix, i)] = bucket{c.at.Add(l.every)}
		}
	}
	fill("old")
	c.at = c.at.Add(time.Minute)
	th.take("kept", l)
	th.take("again", l)
	if n := len(th.buckets); n != 2 {
		t.Errorf("%d buckets after a minute, want the two in use", n)
	}
	fill("busy")
	th.take("last", l)
	if n := len(th.buckets); n != 1 {
		t.Errorf("%d buckets, want the last alone", n)
	}
}

// TestVerifiedSecretsAreBounded, and know no verifier but the one that was
// asked.
func TestVerifiedSecretsAreBounded(t *testing.T) {
	v := newVerifiedSecrets()
	text := secret.NewText("a")
	v.add("verifier", text)
	if !v.has("verifier", text) || v.has("another", text) || v.has("verifier", secret.NewText("b")) || v.has("verifie", secret.NewText("ra")) {
		t.Error("a secret is remembered for something else")
	}
	for i := range verifiedSecretsSize {
		v.add("verifier", secret.NewText(fmt.Sprint(i)))
	}
	if len(v.ok) > verifiedSecretsSize {
		t.Errorf("%d are remembered", len(v.ok))
	}
}

// registryOf is a Registry of as many clients as are asked for.
type registryOf struct {
	Store
	reads  atomic.Int64
	during func()
}

func (r *registryOf) Client(_ context.Context, id string) (Client, error) {
	r.reads.Add(1)
	if r.during != nil {
		r.during()
	}
	if id == "unknown" {
		return Client{}, ErrNotFound
	}
	return Client{ID: id}, nil
}

func TestClientCache(t *testing.T) {
	c, registry := &handClock{noon()}, &registryOf{}
	cache := newClientCache(Config{Store: registry, Now: c.now})
	get := func(id string, reads int64) {
		t.Helper()
		before := registry.reads.Load()
		if client, err := cache.get(t.Context(), id); err != nil || client.ID != id || client.policy.Format != FormatJWT {
			t.Errorf("%+v, %v", client, err)
		}
		if n := registry.reads.Load() - before; n != reads {
			t.Errorf("%d reads, want %d", n, reads)
		}
	}
	get("a", 1)
	get("a", 0)
	c.at = c.at.Add(clientCacheTTL - 1)
	get("a", 0)
	c.at = c.at.Add(1)
	get("a", 1)
	cache.forget("a")
	get("a", 1)
	for range 2 {
		if _, err := cache.get(t.Context(), "unknown"); !errors.Is(err, ErrNotFound) {
			t.Errorf("error %v", err)
		}
	}
	// What was read before a change is not kept after it.
	registry.during = func() { cache.forget("b") }
	get("b", 1)
	registry.during = nil
	get("b", 1)
	get("b", 0)
	for i := range clientCacheSize + 10 {
		get(fmt.Sprint("c", i), 1)
	}
	if n := len(cache.entries); n > clientCacheSize {
		t.Errorf("%d entries", n)
	}
}

// TestHashingIsBounded: who waits for a processor and goes away costs nothing.
func TestHashingIsBounded(t *testing.T) {
	s := bareServer(t, noon)
	for range cap(s.hashing) {
		s.hashing <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	for range 5 {
		waiting.Go(func() {
			_, _, err := s.verifySlowly(ctx, []limitedKey{{"k", perAccountLimit}}, func() bool { panic("checked without a processor") })
			if !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
		})
	}
	cancel()
	waiting.Wait()
	if len(s.failures.buckets) != 0 {
		t.Error("an attempt that was not made was counted")
	}
}

func TestNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.7":                  "192.0.2.7",
		"::ffff:192.0.2.7":           "::ffff:192.0.2.7",
		"2001:db8:1:2:3:4:5:6":       "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff::1":       "2001:db8:1:2::/64",
		"2001:db8:1:3::1":            "2001:db8:1:3::/64",
		"fe80::1%eth0":               "fe80::/64",
		"not an address":             "not an address",
		"":                           "",
		"2001:db8:1:2:3:4:5:6:7:8:9": "2001:db8:1:2:3:4:5:6:7:8:9",
	} {
		if got := network(address); got != want {
			t.Errorf("network(%q) = %q, want %q", address, got, want)
		}
	}
}
