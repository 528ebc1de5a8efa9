package keeper_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
)

// TestWarnedOnceWhateverTheJitter lets a refresh be due by one throw of the dice
// and not by the next: the owner, who was warned before, is not warned again, and
// the refresh is done.
func TestWarnedOnceWhateverTheJitter(t *testing.T) {
	d := single()
	d.AccessLife, d.RefreshIdle, d.GrantLife = day, 90*day, 365*day
	w := newWorld(t, d)
	var early atomic.Bool
	early.Store(true)
	w.change = func(cfg *keeper.Config) {
		cfg.Rand = func() float64 {
			if early.Load() {
				return 0.99
			}
			return 0
		}
	}
	w.start()
	w.connect("one", "single")
	for range 5 {
		w.clock.move(71 * day)
		w.attended(t)
	}
	row := w.row("one")
	if n := w.count("one", keeper.EventExpiring); n != 1 || row.WarnedAt.IsZero() {
		t.Fatalf("with ten days left the owner was warned %d times", n)
	}
	w.clock.move(row.DueAt.Sub(w.clock.now()))
	early.Store(false)
	w.attended(t)
	if n := w.count("one", keeper.EventExpiring); n != 1 {
		t.Errorf("the owner was warned %d times", n)
	}
	if renewed := w.row("one"); renewed.Generation != row.Generation+1 || !renewed.WarnedAt.Equal(row.WarnedAt) {
		t.Errorf("the row is %+v", renewed)
	}
}

// TestRefreshAsksForWhatWasGranted: where a definition sends a scope with a
// refresh, it is what the owner granted, and not what they were asked for, which
// a provider refuses (RFC 6749 section 6); where nobody told what was granted, it
// is what is always asked for.
func TestRefreshAsksForWhatWasGranted(t *testing.T) {
	for name, tt := range map[string]struct {
		asked, withheld, told oauth.Scope
		sent                  string
	}{
		"all":     {asked: oauth.Scope{"read", "write"}, told: oauth.Scope{"read", "write"}, sent: "read write"},
		"less":    {asked: oauth.Scope{"read", "write"}, withheld: oauth.Scope{"write"}, told: oauth.Scope{"read"}, sent: "read"},
		"nothing": {asked: oauth.Scope{"read", "write"}, sent: "read write"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := single()
			d.Definition.Authorize.Scopes, d.Withheld = tt.asked, tt.withheld
			d.Definition.Refresh.Params = map[string]*string{"scope": new("{scope}")}
			w := consenting(t, d)
			if tt.told == nil {
				w.sims["single"].Inject(providertest.Rule{Kind: provider.Exchange, Fault: providertest.Set("scope", nil)})
			}
			_, row, err := w.k.Finish(t.Context(), w.visit(w.link(keeper.Connect{Provider: "single", Connection: "one"})), cookie)
			if err != nil || !row.Scope.Equal(tt.told) {
				t.Fatalf("granted is %v, %v", row.Scope, err)
			}
			for _, sent := range []string{strings.ToUpper(tt.sent), tt.sent} { // of which the first is what is not sent
				w.sims["single"].Change(func(d *providertest.Dialect) { d.Require = map[string]string{"scope": sent} })
				w.clock.move(time.Hour) // beyond the pause after a failure
				_, err := w.k.Token(t.Context(), "one", keeper.Want{MinTTL: time.Minute})
				if (err == nil) != (sent == tt.sent) {
					t.Errorf("where only %q is taken: %v", sent, err)
				}
			}
		})
	}
}
