package issuer_test

import (
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
)

// TestStepMadeAfterItsAnswerWasGivenUp lets a step that a hanging database made
// in the end be found by its client, who was told to try again for longer than
// the retry window.
func TestStepMadeAfterItsAnswerWasGivenUp(t *testing.T) {
	t.Parallel()
	const window = time.Minute // the default
	for name, tt := range map[string]struct {
		asks  []time.Duration // when the client asks again during the outage, each after the last one
		after time.Duration   // since the outage was over, that it asks again
		other bool            // another client's step is what shows that it is over
		good  bool
	}{
		"it asks as soon as the database works": {asks: []time.Duration{10 * time.Minute}, after: time.Second, good: true},
		"it asks seldom":                        {asks: []time.Duration{time.Hour, time.Hour}, after: time.Hour, good: true},
		"it never asked meanwhile":              {after: 24 * time.Hour, good: true},
		"others come first":                     {asks: []time.Duration{10 * time.Minute}, after: window, other: true, good: true},
		"others come first, and it is late":     {asks: []time.Duration{10 * time.Minute}, after: window + time.Second, other: true},
	} {
		t.Run(name, func(t *testing.T) {
			e := newFaulty(t, setup{})
			as := e.variant("variant", issuer.Policy{Format: issuer.FormatOpaque})
			beside := e.login(app)
			tokens := e.login(as)
			e.during(&fault{method: "Rotate", done: true, err: issuer.ErrUnavailable}, func() {
				e.refresh(as, tokens.RefreshToken).wantError(t, 503, oauth.TemporarilyUnavailable)
			})
			for _, ask := range tt.asks {
				e.clock.advance(ask)
				e.during(&fault{method: "Rotate", err: issuer.ErrUnavailable}, func() {
					e.refresh(as, tokens.RefreshToken).wantError(t, 503, oauth.TemporarilyUnavailable)
				})
			}
			if tt.other {
				e.refreshed(app, beside.RefreshToken)
			}
			e.clock.advance(tt.after)
			again := e.refresh(as, tokens.RefreshToken)
			if !tt.good {
				again.wantError(t, 400, oauth.InvalidGrant)
				e.wantEvent(issuer.EventReuseDetected, issuer.CauseRefreshTokenReused)
				return
			}
			next := e.refreshed(as, again.tokens(t).RefreshToken) // and with it the outage is over
			e.clock.advance(window + time.Second)
			e.refresh(as, again.tokens(t).RefreshToken).wantError(t, 400, oauth.InvalidGrant)
			e.wantDead("the successor", next.RefreshToken)
		})
	}
}

// TestOutageOpensNoOldWindow holds that an outage of the database gives no time to
// whoever has a token that was spent before.
func TestOutageOpensNoOldWindow(t *testing.T) {
	t.Parallel()
	e := newFaulty(t, setup{})
	as := e.variant("variant", issuer.Policy{Format: issuer.FormatOpaque})
	spent := e.login(as)
	next := e.refreshed(as, spent.RefreshToken)
	e.clock.advance(time.Minute + time.Second)
	e.during(&fault{method: "Rotate", err: issuer.ErrUnavailable}, func() {
		e.refresh(as, next.RefreshToken).wantError(t, 503, oauth.TemporarilyUnavailable)
	})
	e.refresh(as, spent.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
	e.wantConvicted(t, as, []oauth.TokenResponse{next})
}
