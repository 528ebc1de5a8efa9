package providertest

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
)

// State is how a grant stands.
type State string

// The states.
const (
	Live    State = "live"
	Killed  State = "killed"  // by the provider, because a refresh token or a code was used twice
	Revoked State = "revoked" // by its owner, its client, or a cap of the provider
)

// grant is an owner's decision, and what descended from it.
type grant struct {
	Grant
	online   bool     // it has no refresh token
	current  *token   // the refresh token that is to be used next
	before   *token   // the one before it, where it still works as well
	sinceNew int      // refreshes since the refresh token changed
	access   []*token // that may still live, oldest first
	history  []string
}

// token is an access or a refresh token.
type token struct {
	value      string
	access     bool
	grant      *grant // nil of a client's own access token
	generation int
	scope      oauth.Scope
	expires    time.Time   // zero is never
	ended      bool        // though its grant may live
	order      int         // among the refresh tokens of its grant
	presented  []time.Time // to the limit of refreshes
	consumed   time.Time   // its first use that replaced it; zero while it is good
	next       issued      // what its last use gave
	used       bool        // an access token, at the API
}

// issued is what a token answer tells.
type issued struct {
	access, refresh *token
	telling         bool // of the refresh token
}

// code is an authorization code.
type code struct {
	owner, redirect, challenge string
	scope                      oauth.Scope
	expires                    time.Time
	online                     bool
	redeemed                   bool
	grant                      *grant // that it continues, or that it began
}

func (s *Simulator) mint(prefix string) string {
	return prefix + randomText(cmp.Or(s.dialect.TokenLength, 32))
}

func after(now time.Time, life time.Duration) time.Time {
	if life == 0 {
		return time.Time{}
	}
	return now.Add(life)
}

func over(end, now time.Time) bool { return !end.IsZero() && !now.Before(end) }

// begin makes a grant; with a cap of grants the owner's oldest ends.
func (s *Simulator) begin(owner string, scope oauth.Scope, now time.Time) *grant {
	s.owners[owner] = true
	g := &grant{Grant: Grant{ID: fmt.Sprintf("grant-%d", len(s.grants)+1), Owner: owner, Scope: scope, Begun: now, State: Live}}
	if most := s.dialect.GrantsPerOwner; most > 0 {
		alive := slices.DeleteFunc(slices.Clone(s.grants), func(g *grant) bool { return g.Owner != owner || g.State != Live })
		if len(alive) >= most {
			s.end(alive[0], Revoked, "the owner has more than so many grants", now)
		}
	}
	s.grants = append(s.grants, g)
	g.tell(now, "begun for %s", owner)
	return g
}

func (g *grant) tell(now time.Time, format string, args ...any) {
	g.history = append(g.history, now.UTC().Format("2006-01-02 15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (s *Simulator) end(g *grant, state State, cause string, now time.Time) {
	if g.State == Live {
		g.State, g.Cause = state, cause
		g.tell(now, "%s: %s", state, cause)
	}
}

// newAccess adds an access token to a grant; beyond the cap the oldest end.
func (s *Simulator) newAccess(g *grant, scope oauth.Scope, now time.Time) *token {
	t := &token{value: s.mint("sim_at_"), access: true, grant: g, generation: g.Generation, scope: scope, expires: after(now, s.dialect.AccessLife)}
	s.tokens[t.value] = t
	g.access = slices.DeleteFunc(append(g.access, t), func(t *token) bool { return t.ended || over(t.expires, now) })
	if most := s.dialect.LiveAccessTokens; most > 0 {
		for _, old := range g.access[:max(0, len(g.access)-most)] {
			old.ended = true
		}
	}
	return t
}

func (s *Simulator) newRefresh(g *grant, beside *token, now time.Time) *token {
	t := &token{value: s.mint("sim_rt_"), grant: g, generation: g.Generation, scope: g.Scope, expires: s.refreshEnds(beside, now)}
	t.order, g.Spends, g.current = len(g.Spends), append(g.Spends, 0), t
	s.tokens[t.value] = t
	return t
}

func (s *Simulator) refreshEnds(beside *token, now time.Time) time.Time {
	if s.dialect.RefreshDiesWithAccess {
		return beside.expires
	}
	return after(now, s.dialect.RefreshIdle)
}

// first gives the tokens with which a grant begins, or begins anew.
func (s *Simulator) first(g *grant, now time.Time) issued {
	g.Generation++
	out := issued{access: s.newAccess(g, g.Scope, now)}
	if s.dialect.rotation() != provider.RotationNone && !g.online {
		out.refresh, out.telling = s.newRefresh(g, out.access, now), true
	}
	g.tell(now, "generation %d issued", g.Generation)
	return out
}

// refresh spends a refresh token, or what is accepted as one.
func (s *Simulator) refresh(value string, asked oauth.Scope, now time.Time) (issued, *refused) {
	d, t := &s.dialect, s.tokens[value]
	if t == nil || t.grant == nil || t.access && !d.AccessTokenRefreshes {
		return issued{}, refuse(RefuseRefresh, "The refresh token is not known.")
	}
	if wait := limited(&t.presented, d.TokenRate, now); wait > 0 {
		return issued{}, &refused{RefuseThrottled, "Too many refreshes with one refresh token.", wait}
	}
	g := t.grant
	if !t.consumed.IsZero() && !s.replayable(t, now) {
		s.doubleSpent(t, now)
		return issued{}, refuse(RefuseRefresh, "The refresh token was used before.")
	}
	switch {
	case g.State != Live || t.ended:
		return issued{}, refuse(RefuseRefresh, "The refresh token is revoked.")
	case over(t.expires, now), over(after(g.Begun, d.GrantLife), now):
		return issued{}, refuse(RefuseExpired, "The refresh token has expired.")
	case !g.Scope.Covers(asked):
		return issued{}, refuse(RefuseScope, "The scope is wider than what was granted.")
	}
	if n := len(g.access); d.NoEarlyRefresh > 0 && n > 0 && now.Before(g.access[n-1].expires.Add(-d.NoEarlyRefresh)) {
		return issued{}, refuse(RefuseEarly, "The access token has not expired yet.")
	}
	if len(asked) == 0 {
		asked = g.Scope
	}
	return s.renew(t, asked, now), nil
}

// replayable reports whether a consumed refresh token works once more.
func (s *Simulator) replayable(t *token, now time.Time) bool {
	switch next := t.next; {
	case s.dialect.ReplayWindow == 0 || now.Sub(t.consumed) > s.dialect.ReplayWindow:
		return false
	case next.refresh != nil && !next.refresh.consumed.IsZero():
		return false
	case s.dialect.UntilUsed && next.access.used:
		return false
	}
	return true
}

// renew gives the next tokens of a grant for a refresh token that is good.
func (s *Simulator) renew(t *token, scope oauth.Scope, now time.Time) issued {
	d, g := &s.dialect, t.grant
	if !t.access {
		g.Spends[t.order]++
	}
	g.Generation++
	out := issued{access: s.newAccess(g, scope, now)}
	old := t
	if t.access && g.current != nil {
		old = g.current // an access token stands in for the refresh token beside it
	}
	switch d.rotation() {
	case provider.RotationNone:
	case provider.RotationFixed:
		out.refresh, out.telling = s.keep(g, out.access, now)
	default:
		s.consume(old, now)
		if !d.OneShot {
			out.refresh, out.telling = s.newRefresh(g, out.access, now), true
		}
	}
	old.next = out
	g.tell(now, "generation %d issued for the tokens of generation %d", g.Generation, t.generation)
	return out
}

// consume marks a refresh token as replaced. Where it is replayed, the refresh
// token that its last use gave ends: nobody got it.
func (s *Simulator) consume(t *token, now time.Time) {
	if t.consumed.IsZero() {
		t.consumed = now
	} else if t.next.refresh != nil {
		t.next.refresh.ended = true
	}
}

// keep prolongs a refresh token that stays the same, or changes it when that is
// due, and says whether it is told.
func (s *Simulator) keep(g *grant, beside *token, now time.Time) (t *token, told bool) {
	if g.current == nil {
		return s.newRefresh(g, beside, now), true // rotation was other before
	}
	g.sinceNew++
	if every := s.dialect.ChangeEvery; every > 0 && g.sinceNew >= every {
		if g.before != nil {
			g.before.ended = true
		}
		g.before, g.sinceNew = g.current, 0
		return s.newRefresh(g, beside, now), true
	}
	g.current.expires = s.refreshEnds(beside, now)
	return g.current, s.dialect.RepeatsFixed
}

// doubleSpent records that a consumed refresh token came again, which ends the
// grant where refresh tokens are for single use.
func (s *Simulator) doubleSpent(t *token, now time.Time) {
	kills := s.dialect.rotation() == provider.RotationSingleUse && t.grant.State == Live
	s.stats.DoubleSpends = append(s.stats.DoubleSpends, DoubleSpend{Grant: t.grant.ID, Generation: t.generation, At: now, Killed: kills})
	t.grant.tell(now, "refresh token of generation %d came again, %s after it was consumed", t.generation, now.Sub(t.consumed))
	if kills {
		s.stats.FamiliesRevoked++
		s.end(t.grant, Killed, fmt.Sprintf("the refresh token of generation %d was used twice", t.generation), now)
	}
}

// redeem gives tokens for a code. A second use of the code ends what the first
// began where refresh tokens are for single use (RFC 6749 section 4.1.2).
func (s *Simulator) redeem(value, redirect, verifier string, now time.Time) (issued, *refused) {
	c := s.codes[value]
	switch {
	case c == nil:
		return issued{}, refuse(RefuseCode, "The code is not known.")
	case c.redeemed:
		if s.dialect.rotation() == provider.RotationSingleUse {
			s.end(c.grant, Killed, "its code was used twice", now)
		}
		return issued{}, refuse(RefuseCode, "The code was used before.")
	case over(c.expires, now):
		return issued{}, refuse(RefuseCode, "The code has expired.")
	case c.redirect != redirect:
		return issued{}, refuse(RefuseCode, "The redirect_uri is not that of the authorization request.")
	case c.challenge != "" && !oauth.VerifyChallenge(verifier, c.challenge):
		return issued{}, refuse(RefuseCode, "The code_verifier does not answer the code_challenge.")
	}
	return s.follow(c, now), nil
}

// follow gives the tokens of a code, for the grant that it continues or a new
// one.
func (s *Simulator) follow(c *code, now time.Time) issued {
	c.redeemed = true
	if c.grant == nil || c.grant.State != Live {
		c.grant = s.begin(c.owner, c.scope, now)
	}
	c.grant.online = c.online
	return s.first(c.grant, now)
}

// limited counts a request against a rate, and is how long to wait where it is
// one too many.
func limited(times *[]time.Time, rate provider.Rate, now time.Time) time.Duration {
	if rate.Count == 0 {
		return 0
	}
	per := time.Duration(rate.Per)
	*times = slices.DeleteFunc(*times, func(t time.Time) bool { return now.Sub(t) >= per })
	if len(*times) >= rate.Count {
		return per - now.Sub((*times)[0])
	}
	*times = append(*times, now)
	return 0
}
