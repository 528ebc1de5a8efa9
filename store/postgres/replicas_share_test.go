package postgres

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/evergrant/evergrant/internal/killtest"
	"github.com/evergrant/evergrant/internal/pgtest"
)

// TestOneTokenAtThreeReplicas sends one token many times at once to three
// servers: all answers are one and the same, and it is the grant's next
// generation.
func TestOneTokenAtThreeReplicas(t *testing.T) {
	c := newCluster(t, replica{URL: pgtest.Database(t)}, 3)
	const rounds = 200
	for _, times := range []int{16, 64} {
		for _, client := range []string{killtest.OpaqueClient, killtest.JWTClient} {
			t.Run(fmt.Sprintf("%d times, %s", times, client), func(t *testing.T) {
				a, err := c.load.App.Grant(t.Context(), client)
				last := answered(t, a, err)
				for range rounds / 2 {
					last = c.atOnce(t, client, last, times)
				}
				row, err := c.service.Store.Grant(t.Context(), last.Grant())
				if err != nil || row.Generation != rounds/2+1 || !row.RevokedAt.IsZero() {
					t.Errorf("%+v, %v", row, err)
				}
			})
		}
	}
	if state, err := c.service.State(t.Context()); err != nil || state.Alarms > 0 {
		t.Errorf("%d alarms, %v", state.Alarms, err)
	}
}

// atOnce sends the newest token many times, and gives the answer of all.
func (c *cluster) atOnce(t *testing.T, client string, last killtest.Answer, times int) killtest.Answer {
	t.Helper()
	answers, errs := make([]killtest.Answer, times), make([]error, times)
	var all sync.WaitGroup
	for i := range times {
		all.Go(func() { answers[i], errs[i] = c.load.App.Refresh(t.Context(), client, last.Tokens.RefreshToken) })
	}
	all.Wait()
	must(t, errors.Join(errs...))
	for _, a := range answers {
		if !a.Same(answers[0]) || a.Generation() != last.Generation()+1 || a.Grant() != last.Grant() {
			t.Fatalf("generation %d was answered %v and %v", last.Generation(), answers[0], a)
		}
	}
	return answers[0]
}

// TestRevocationIsSeenAtOnce revokes at one server and asks another at once.
func TestRevocationIsSeenAtOnce(t *testing.T) {
	c := newCluster(t, replica{URL: pgtest.Database(t)}, 3)
	ctx := t.Context()
	active := func(app *killtest.App, client, token string) bool {
		t.Helper()
		seen, err := app.Introspect(ctx, client, token)
		must(t, err)
		return seen.Active
	}
	const rounds = 150
	for i := range rounds {
		client := []string{killtest.OpaqueClient, killtest.JWTClient}[i%2]
		here, there := c.at(c.servers[i%3]), c.at(c.servers[(i+1)%3])
		a, err := here.Grant(ctx, client)
		first := answered(t, a, err)
		a, err = there.Refresh(ctx, client, first.Tokens.RefreshToken)
		newest := answered(t, a, err)
		for _, token := range []string{first.Tokens.AccessToken, newest.Tokens.AccessToken, newest.Tokens.RefreshToken} {
			if !active(here, client, token) || !active(there, client, token) {
				t.Fatalf("round %d: a good token is not active", i)
			}
		}
		// One access token, which leaves the rest as it is.
		a, err = here.Revoke(ctx, client, first.Tokens.AccessToken)
		answered(t, a, err)
		if active(there, client, first.Tokens.AccessToken) || !active(there, client, newest.Tokens.AccessToken) {
			t.Fatalf("round %d: one access token was revoked", i)
		}
		// The grant, with all of its tokens.
		a, err = here.Revoke(ctx, client, newest.Tokens.RefreshToken)
		answered(t, a, err)
		c.checkEnded(client, newest)
		if t.Failed() {
			return
		}
	}
}
