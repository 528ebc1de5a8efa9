package issuer_test

import (
	"slices"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"pgregory.net/rapid"
)

// model says what must become of one grant's tokens, from the rules alone.
type model struct {
	window, idle, life time.Duration // 0: none

	tokens             []string          // refresh tokens; index i is generation i+1
	access             map[string]string // by scope, of the current generation
	born, rotated, now time.Time
	revoked            bool
	convictions        int
}

// verdicts of the model.
const (
	rotated = "rotated"
	retried = "retried"
	refused = "invalid_grant"
	tooWide = "invalid_scope"
)

func (m *model) expires() time.Time {
	var at time.Time
	if m.idle > 0 {
		at = m.rotated.Add(m.idle)
	}
	if end := m.ends(); !end.IsZero() && (at.IsZero() || end.Before(at)) {
		at = end
	}
	return at
}

func (m *model) ends() time.Time {
	if m.life == 0 {
		return time.Time{}
	}
	return m.born.Add(m.life)
}

func (m *model) alive() bool {
	return !m.revoked && (m.expires().IsZero() || m.now.Before(m.expires()))
}

// present says what a refresh by the grant's client with the token at an index
// must come to, and takes the step.
func (m *model) present(index int, wide bool) string {
	last := len(m.tokens) - 1
	inWindow := index == last-1 && m.window > 0 && m.now.Sub(m.rotated) <= m.window
	switch {
	case !m.alive():
		return refused
	case index < last && !inWindow:
		m.revoked = true
		m.convictions++
		return refused
	case wide:
		return tooWide
	case index == last:
		m.rotated, m.access = m.now, map[string]string{}
		return rotated
	}
	return retried
}

// TestRefreshRules runs random histories of one grant against the model.
func TestRefreshRules(t *testing.T) {
	t.Parallel()
	e := newSite(t, setup{})
	for name, m := range map[string]model{
		"usual":          {window: time.Minute, idle: 14 * 24 * time.Hour},
		"strict":         {idle: time.Hour},
		"short and long": {window: 10 * time.Second, idle: 10 * time.Minute, life: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			as := e.variant(name, issuer.Policy{
				Format: issuer.FormatOpaque, RetryWindow: orNone(m.window),
				RefreshTokenLifetime: orNone(m.idle), GrantLifetime: orNone(m.life),
			})
			rapid.Check(t, func(rt *rapid.T) { (&history{e: e, as: as, model: m}).run(rt) })
		})
	}
}

func orNone(d time.Duration) issuer.Lifetime {
	if d == 0 {
		return issuer.None
	}
	return issuer.Lifetime(d)
}

// history is one random history.
type history struct {
	e  *site
	as party
	model
	id     issuer.GrantID
	issued []string // every access token
}

func (h *history) run(rt *rapid.T) {
	first := h.e.login(h.as)
	h.born, h.rotated, h.now = h.e.clock.now(), h.e.clock.now(), h.e.clock.now()
	h.tokens, h.issued, h.access = []string{first.RefreshToken}, []string{first.AccessToken}, map[string]string{"read write": first.AccessToken}
	h.id = h.e.events(issuer.EventGrantCreated)[0].Grant
	rt.Repeat(map[string]func(*rapid.T){
		"refresh":  func(rt *rapid.T) { h.present(rt, len(h.tokens)-1) },
		"refresh ": func(rt *rapid.T) { h.present(rt, len(h.tokens)-1) }, // twice as often
		"retry":    func(rt *rapid.T) { h.present(rt, max(0, len(h.tokens)-2)) },
		"steal":    func(rt *rapid.T) { h.present(rt, rapid.IntRange(0, len(h.tokens)-1).Draw(rt, "generation")) },
		"advance":  h.advance,
		"foreign":  h.foreign,
		"revoke":   h.revoke,
		"inspect":  h.inspect,
		"":         h.check,
	})
	h.inspect(rt)
}

// present refreshes with a token and compares the answer with the model's.
func (h *history) present(rt *rapid.T, index int) {
	scope := rapid.SampledFrom([]string{"", "", "read", "write", "write read", "admin", "read admin"}).Draw(rt, "scope")
	wide := scope == "admin" || scope == "read admin"
	want := h.model.present(index, wide)
	r := h.e.refresh(h.as, h.tokens[index], "scope", scope)
	switch want {
	case refused, tooWide:
		if r.status != 400 || r.failure() != want {
			rt.Fatalf("generation %d, scope %q: %d %s, want %s", index+1, scope, r.status, r.body, want)
		}
		return
	}
	if r.status != 200 {
		rt.Fatalf("generation %d, scope %q: %d %s, want it %s", index+1, scope, r.status, r.body, want)
	}
	tokens := r.tokens(h.e.t)
	if want == rotated {
		if slices.Contains(h.tokens, tokens.RefreshToken) {
			rt.Fatalf("an old refresh token was given again as a new one")
		}
		h.tokens = append(h.tokens, tokens.RefreshToken)
	} else if tokens.RefreshToken != h.tokens[len(h.tokens)-1] {
		rt.Fatalf("a retry gave another refresh token")
	}
	if scope == "" {
		scope = "read write"
	}
	if before := h.access[scope]; before != "" && before != tokens.AccessToken {
		rt.Fatalf("a retry gave another access token")
	}
	h.access[scope] = tokens.AccessToken
	h.issued = append(h.issued, tokens.AccessToken)
	if tokens.Scope != scope {
		rt.Fatalf("scope %q, want %q", tokens.Scope, scope)
	}
}

// advance moves the clock, often to the moments at which something changes.
func (h *history) advance(rt *rapid.T) {
	next := h.now.Add(time.Duration(rapid.IntRange(0, 90_000).Draw(rt, "milliseconds")) * time.Millisecond)
	moments := []time.Time{next, next, next, h.rotated.Add(h.window), h.rotated.Add(h.window + time.Millisecond)}
	if at := h.expires(); !at.IsZero() {
		moments = append(moments, at.Add(-time.Millisecond), at)
	}
	if at := rapid.SampledFrom(moments).Draw(rt, "to"); at.After(h.now) {
		h.now = at
		h.e.clock.set(at)
	}
}

// foreign lets another client present a token, which must never matter.
func (h *history) foreign(rt *rapid.T) {
	index := rapid.IntRange(0, len(h.tokens)-1).Draw(rt, "generation")
	if r := h.e.refresh(other, h.tokens[index]); r.status != 400 || r.failure() != oauth.InvalidGrant {
		rt.Fatalf("another client: %d %s", r.status, r.body)
	}
	if r := h.e.post(issuer.RevokePath, other, "token", h.tokens[index]); r.status != 400 || r.failure() != oauth.InvalidGrant {
		rt.Fatalf("revocation by another client: %d %s", r.status, r.body)
	}
}

// revoke ends the grant by one of its refresh tokens, once in a while.
func (h *history) revoke(rt *rapid.T) {
	if rapid.IntRange(0, 5).Draw(rt, "really") > 0 {
		return
	}
	index := rapid.IntRange(0, len(h.tokens)-1).Draw(rt, "generation")
	if r := h.e.post(issuer.RevokePath, h.as, "token", h.tokens[index]); r.status != 200 {
		rt.Fatalf("revocation: %d %s", r.status, r.body)
	}
	h.revoked = true
}

// check compares the row with the model.
func (h *history) check(rt *rapid.T) {
	grant, err := h.e.db.Grant(h.e.ctx(), h.id)
	if err != nil {
		rt.Fatal(err)
	}
	if int(grant.Generation) != len(h.tokens) || !grant.RotatedAt.Equal(h.rotated) || !grant.ExpiresAt.Equal(h.expires()) || grant.RevokedAt.IsZero() == h.revoked {
		rt.Fatalf("the row is %+v; the model says generation %d, rotated %s, expires %s, revoked %t", grant, len(h.tokens), h.rotated, h.expires(), h.revoked)
	}
}

// inspect compares what a resource server sees of the grant with the model.
func (h *history) inspect(rt *rapid.T) {
	last := len(h.tokens) - 1
	if active := h.e.introspect(h.tokens[last]).Active; active != h.alive() {
		rt.Fatalf("the current refresh token is active: %t", active)
	}
	if last > 0 && h.e.introspect(h.tokens[last-1]).Active {
		rt.Fatalf("a spent refresh token is active")
	}
	if token := h.issued[len(h.issued)-1]; h.revoked && h.e.introspect(token).Active {
		rt.Fatalf("an access token of a revoked grant is active")
	}
	events, err := h.e.db.Events(h.e.ctx(), issuer.EventFilter{Grant: h.id, Type: issuer.EventReuseDetected})
	if err != nil || len(events) != h.convictions {
		rt.Fatalf("%d convictions, want %d (%v)", len(events), h.convictions, err)
	}
}
