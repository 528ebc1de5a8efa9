package keeper_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
)

// TestFourDaysOfOutage lets a provider be away for four days: two in which no
// connection can be made, and two in which it answers 503. Nobody is asked to
// reauthorize, one alarm is raised, and when it is back all connections recover
// without a herd.
func TestFourDaysOfOutage(t *testing.T) {
	t.Parallel()
	for _, rotation := range []provider.Rotation{provider.RotationFixed, provider.RotationSingleUse} {
		t.Run(string(rotation), func(t *testing.T) {
			t.Parallel()
			half := 48 * time.Hour
			if rotation == provider.RotationFixed { // which is the easy one
				half = 12 * time.Hour
			}
			synctest.Test(t, func(t *testing.T) { testOutage(t, rotation, half) })
		})
	}
}

func testOutage(t *testing.T, rotation provider.Rotation, half time.Duration) {
	const connections, perSecond = 80, 4
	dialect := providertest.Dialect{
		Name: "away", Rotation: rotation, AccessLife: 20 * time.Minute, RefreshIdle: 60 * 24 * time.Hour,
		ClientRate: provider.Rate{Count: perSecond, Per: 1e9},
	}
	w, closeWorld := newBubble(t, dialect)
	defer closeWorld()
	sim, reachable := w.sims["away"], w.dials["away"]
	var unreachable atomic.Bool
	w.dials["away"] = func(ctx context.Context, network, address string) (net.Conn, error) {
		if unreachable.Load() {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		}
		return reachable(ctx, network, address)
	}
	w.start()
	var ids []string
	for i := range connections {
		ids = append(ids, fmt.Sprintf("away-%d", i))
		w.connect(ids[i], "away")
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.k.Run(ctx) }()
	time.Sleep(time.Hour)
	before := len(sim.Stats().TokenRequests)
	if before < 2*connections {
		t.Fatalf("only %d requests in the first hour", before)
	}

	unreachable.Store(true)
	time.Sleep(half)
	sim.Inject(providertest.Rule{Until: time.Now().Add(half), Fault: providertest.Unavailable(http.StatusServiceUnavailable, "")})
	unreachable.Store(false)
	time.Sleep(half)
	during := len(sim.Stats().TokenRequests) - before
	if most := int(half / time.Minute); during > most {
		t.Errorf("%d requests in %v of 503", during, half)
	}
	if _, err := w.k.Token(t.Context(), ids[0], keeper.Want{}); err == nil {
		t.Error("a token is given that is over since days")
	}

	time.Sleep(30 * time.Minute)
	stop()
	if err := <-ended; err != nil && ctx.Err() == nil {
		t.Error(err)
	}
	stats := sim.Stats()
	stats.TokenRequests = stats.TokenRequests[before+during:]
	if peak := stats.Peak(time.Second); peak > perSecond {
		t.Errorf("%d requests in a second when it came back; the budget is %d", peak, perSecond)
	}
	for _, id := range ids {
		row := w.row(id)
		if row.State != keeper.Active || !row.ExpiresAt.After(time.Now()) {
			t.Errorf("%s is %s, its token expires at %v: %s", id, row.State, row.ExpiresAt, row.Error)
		}
		if slices.Contains(w.events(id), keeper.EventReauthorize) {
			t.Errorf("%s was asked to reauthorize", id)
		}
	}
	var alarms []string
	for _, event := range must[[]keeper.Event](t)(w.db.Keeper().Events(t.Context(), keeper.EventFilter{Provider: "away", After: -1, Limit: 1000})) {
		if event.Connection == "" {
			alarms = append(alarms, event.Type)
		}
	}
	if !slices.Equal(alarms, []string{keeper.EventProviderDown, keeper.EventProviderUp}) {
		t.Errorf("alarms %v", alarms)
	}
	if len(stats.DoubleSpends)+stats.FamiliesRevoked > 0 {
		t.Errorf("double spends: %v", stats.DoubleSpends)
	}

	t.Logf("%d requests in the hour before, %d in %v of 503, %d in the half hour after, at most %d a second",
		before, during, half, len(stats.TokenRequests), stats.Peak(time.Second))
}
