package issuer_test

import (
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
)

// concurrently calls f n times at once and collects what it returns.
func (e *site) concurrently(n int, f func(int) reply) []reply {
	e.t.Helper()
	replies, start, all := make([]reply, n), make(chan struct{}), sync.WaitGroup{}
	for i := range n {
		all.Go(func() {
			<-start
			replies[i] = f(i)
		})
	}
	close(start)
	all.Wait()
	return replies
}

// TestFiftyRefreshesOfOneToken is the promise to a client whose processes race.
func TestFiftyRefreshesOfOneToken(t *testing.T) {
	t.Parallel()
	for name, policy := range formats {
		t.Run(name, func(t *testing.T) {
			e := newSite(t, setup{})
			as := e.variant("variant", policy)
			token := e.login(as).RefreshToken
			for round := range 4 {
				replies := e.concurrently(50, func(int) reply { return e.refresh(as, token) })
				winner := replies[0].tokens(t)
				for _, r := range replies {
					if tokens := r.tokens(t); tokens.RefreshToken != winner.RefreshToken || tokens.AccessToken != winner.AccessToken {
						t.Fatal("two of the racing answers differ")
					}
				}
				e.must(e.db.Ready(e.ctx()))
				if grant := e.grant(); grant.Generation != uint32(round+2) || grant.Retries != uint32(49*(round+1)) {
					t.Fatalf("round %d: generation %d, %d retries", round, grant.Generation, grant.Retries)
				}
				token = winner.RefreshToken
			}
			if n := len(e.events("")); n != len(e.events("client.saved"))+len(e.events("user.saved"))+len(e.events("key."))+1 {
				t.Errorf("a race left events: %+v", e.events("grant."))
			}
		})
	}
}

// TestRaceWithoutAWindow: with strict single use one process wins and the
// others convict. No two successors live.
func TestRaceWithoutAWindow(t *testing.T) {
	e := newSite(t, setup{})
	strict := e.variant("strict", issuer.Policy{RetryWindow: issuer.None, Format: issuer.FormatOpaque})
	tokens := e.login(strict)
	won := map[string]bool{}
	for _, r := range e.concurrently(16, func(int) reply { return e.refresh(strict, tokens.RefreshToken) }) {
		if r.status == 200 {
			won[r.tokens(t).RefreshToken] = true
			continue
		}
		r.wantError(t, 400, oauth.InvalidGrant)
	}
	if len(won) != 1 {
		t.Fatalf("%d successors", len(won))
	}
	for token := range won {
		e.refresh(strict, token).wantError(t, 400, oauth.InvalidGrant)
	}
	e.wantEvent(issuer.EventReuseDetected, issuer.CauseRefreshTokenReused)
}

// TestRefreshAgainstRevoke: after a revocation is acknowledged, nothing lives.
func TestRefreshAgainstRevoke(t *testing.T) {
	t.Parallel()
	e := newSite(t, setup{})
	for range 25 {
		tokens := e.login(app)
		replies := e.concurrently(8, func(i int) reply {
			if i == 5 {
				return e.post(issuer.RevokePath, app, "token", tokens.RefreshToken)
			}
			return e.refresh(app, tokens.RefreshToken)
		})
		for i, r := range replies {
			switch {
			case i == 5 && r.status != 200:
				t.Fatalf("the revocation was answered %d %s", r.status, r.body)
			case i == 5:
			case r.status == 200:
				next := r.tokens(t)
				e.wantConvicted(t, app, []oauth.TokenResponse{tokens, next})
			default:
				r.wantError(t, 400, oauth.InvalidGrant)
			}
		}
	}
	if events := e.events(issuer.EventReuseDetected); len(events) != 0 {
		t.Errorf("a race was taken for theft: %+v", events)
	}
}

// TestRefreshAgainstTheft: of a client and a thief with an older token, who
// race, none keeps a live token.
func TestRefreshAgainstTheft(t *testing.T) {
	t.Parallel()
	e := newSite(t, setup{})
	for range 25 {
		first := e.login(app)
		second := e.refreshed(app, first.RefreshToken)
		third := e.refreshed(app, second.RefreshToken)
		held := []string{first.RefreshToken, third.RefreshToken}
		replies := e.concurrently(2, func(i int) reply { return e.refresh(app, held[i]) })
		replies[0].wantError(t, 400, oauth.InvalidGrant)
		chain := []oauth.TokenResponse{first, second, third}
		if replies[1].status == 200 {
			chain = append(chain, replies[1].tokens(t))
		}
		e.wantConvicted(t, app, chain)
	}
	if n := len(e.events(issuer.EventReuseDetected)); n != 25 {
		t.Errorf("%d convictions, want 25", n)
	}
}

// TestManyChainsAtOnce: grants do not disturb each other.
func TestManyChainsAtOnce(t *testing.T) {
	e := newSite(t, setup{})
	replies := e.concurrently(16, func(int) reply {
		tokens := e.login(app)
		for range 9 {
			tokens = e.refreshed(app, tokens.RefreshToken)
		}
		return e.refresh(app, tokens.RefreshToken)
	})
	seen := map[string]bool{}
	for _, r := range replies {
		seen[r.tokens(t).RefreshToken] = true
	}
	if len(seen) != 16 {
		t.Errorf("%d distinct tokens", len(seen))
	}
	for _, grant := range e.grants() {
		if grant.Generation != 11 || grant.Retries != 0 || !grant.Live(e.clock.now().Add(time.Hour)) {
			t.Errorf("grant %+v", grant)
		}
	}
}
