package issuer_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
	"github.com/prometheus/client_golang/prometheus"
)

// skew is how far the clocks of the two servers are apart, and may be.
const skew = 10 * time.Second

// replicas are two servers on one store, the second of which has a clock that
// goes before. on sends what follows to one of them.
func replicas(t *testing.T, policy issuer.Policy) (e *site, on func(i int)) {
	t.Helper()
	var config issuer.Config
	e = newSite(t, setup{policy: policy, config: func(c *issuer.Config) {
		c.ClockSkew = skew
		config = *c
	}})
	before := func() time.Time { return e.clock.now().Add(skew) }
	ring, err := secret.OpenRing(e.ctx(), e.root, e.db, before, false)
	e.must(err)
	config.Now, config.Keys, config.Metrics = before, ring, prometheus.NewRegistry()
	second, err := issuer.New(config)
	e.must(err)
	servers := []*issuer.Server{e.server, second}
	return e, func(i int) { e.handler.Store(servers[i]) }
}

// TestClocksOfReplicasDiffer lets each request of a client be answered by
// another server than the one before: nobody is logged out, and no lifetime is
// off by more than the clocks are.
func TestClocksOfReplicasDiffer(t *testing.T) {
	t.Parallel()
	for first := range 2 {
		second := 1 - first
		t.Run(fmt.Sprintf("the first request at server %d", first), func(t *testing.T) {
			for name, policy := range map[string]issuer.Policy{
				"usual":        {Format: issuer.FormatJWT},
				"short window": {RetryWindow: issuer.Lifetime(2 * time.Second), Format: issuer.FormatOpaque},
				"long window":  {RetryWindow: issuer.Lifetime(time.Hour)},
			} {
				t.Run(name, func(t *testing.T) {
					e, on := replicas(t, policy)
					as := e.variant("variant", policy)
					window := time.Duration(policy.RetryWindow.Or(issuer.Lifetime(time.Minute)))
					on(first)
					tokens := e.login(as)
					for i := range 20 {
						on((first + i) % 2)
						next := e.refreshed(as, tokens.RefreshToken)
						for _, other := range []int{(first + i + 1) % 2, (first + i) % 2} { // the answer was lost, or two raced
							on(other)
							e.wantAlive("the access token", next.AccessToken)
							if again := e.refreshed(as, tokens.RefreshToken); again.RefreshToken != next.RefreshToken || again.AccessToken != next.AccessToken {
								t.Fatal("a retry at another server has other tokens")
							}
						}
						if i%5 == 4 { // the last moment of the window, whoever measures it
							e.clock.advance(window)
							on((first + i + 1) % 2)
							if again := e.refreshed(as, tokens.RefreshToken); again.RefreshToken != next.RefreshToken {
								t.Fatal("a retry within the window has another refresh token")
							}
						}
						tokens = next
						e.clock.advance(time.Second)
					}
					if events := e.events(issuer.EventReuseDetected); len(events) > 0 {
						t.Errorf("taken for a thief: %+v", events)
					}

					on(first)
					last := e.refreshed(as, tokens.RefreshToken)
					e.clock.advance(window + 2*skew + time.Millisecond)
					on(second)
					e.refresh(as, tokens.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
					e.wantConvicted(t, as, []oauth.TokenResponse{last})
				})
			}
		})
	}
}

// TestLifetimesBesideClocks holds that a lifetime which one server began and
// another judges is longer or shorter by no more than the clocks differ.
func TestLifetimesBesideClocks(t *testing.T) {
	t.Parallel()
	const life = time.Hour
	policy := issuer.Policy{
		RefreshTokenLifetime: issuer.Lifetime(life), AccessTokenLifetime: issuer.Lifetime(life), CodeLifetime: issuer.Lifetime(time.Minute), Format: issuer.FormatJWT,
	}
	for first := range 2 {
		second := 1 - first
		for _, tt := range []struct {
			after time.Duration
			good  bool
		}{{life - skew - time.Second, true}, {life + skew, false}} {
			t.Run(fmt.Sprintf("from server %d, %v later", first, tt.after), func(t *testing.T) {
				e, on := replicas(t, policy)
				as := e.variant("variant", policy)
				on(first)
				tokens := e.refreshed(as, e.login(as).RefreshToken)
				e.clock.advance(tt.after)
				on(second)
				if !tt.good {
					e.wantDead("the access token", tokens.AccessToken)
					e.refresh(as, tokens.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
					return
				}
				e.wantAlive("the access token", tokens.AccessToken)
				e.refreshed(as, tokens.RefreshToken)
			})
		}
		for after, good := range map[time.Duration]bool{time.Minute - skew - time.Second: true, time.Minute + skew: false} {
			t.Run(fmt.Sprintf("a code from server %d, %v later", first, after), func(t *testing.T) {
				e, on := replicas(t, policy)
				on(first)
				code := e.code(app)
				e.clock.advance(after)
				on(second)
				if answer := e.redeem(app, code); good {
					answer.tokens(t)
				} else {
					answer.wantError(t, 400, oauth.InvalidGrant)
				}
			})
		}
	}
}

// TestKeyOfAnotherReplica lets a server make a key that is used at once: its
// tokens hold at the other one before that has heard of it.
func TestKeyOfAnotherReplica(t *testing.T) {
	t.Parallel()
	for _, policy := range []issuer.Policy{
		{Format: issuer.FormatJWT, SigningAlg: secret.ES256}, {Format: issuer.FormatJWT, SigningAlg: secret.EdDSA}, {Format: issuer.FormatOpaque},
	} {
		t.Run(string(policy.Format)+" "+string(policy.SigningAlg), func(t *testing.T) {
			e, on := replicas(t, policy)
			as := e.variant("variant", policy)
			on(0)
			tokens := e.login(as)
			_, err := e.ring.Rotate(e.ctx(), 0, false)
			e.must(err)
			next := e.refreshed(as, tokens.RefreshToken)
			on(1)
			e.wantAlive("the access token", next.AccessToken)
			if again := e.refreshed(as, tokens.RefreshToken); again.AccessToken != next.AccessToken {
				t.Error("a retry has another access token")
			}
			e.refreshed(as, next.RefreshToken)
		})
	}
}
