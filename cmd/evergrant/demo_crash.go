package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
)

// crash is the server that is killed, with two providers that it has alone.
type crash struct {
	tink, xero       *providertest.Simulator
	tinkURL, xeroURL string
	stops            []func()
	server           *second
	before           map[string]held // by connection
}

// held is what a connection had before the crash.
type held struct {
	token      evergrant.Token
	generation uint64 // of the keeper
	issued     int    // by the provider, how often
	spends     int    // index of the refresh token among those of its grant
}

// The connections at the server that is killed.
const (
	onSecondTink = "tink-carol"
	onSecondXero = "xero-dave"
)

// xeroConfig registers an app at a simulated Xero.
const xeroConfig = `    - name: xero
      definition: xero
      client_id: ` + simClient + `
      client_secret: ` + simSecret + `
      token_url: %[1]s/token
      api: {base_url: %[1]s/api}
      limits: {timeout: 3s}
`

// leaseOver is longer than the lease for a request to one of these providers.
const leaseOver = 15 * time.Second

func newCrash() *crash {
	c := &crash{tink: newSimulator(providertest.Tink(), crashLife), xero: newSimulator(providertest.Xero(), crashLife), before: map[string]held{}}
	var stopTink, stopXero func()
	c.tinkURL, stopTink = providertest.Listen(c.tink)
	c.xeroURL, stopXero = providertest.Listen(c.xero)
	c.stops = []func(){stopTink, stopXero}
	return c
}

func (c *crash) close() {
	if c.server != nil {
		c.server.end(os.Kill)
	}
	for _, stop := range c.stops {
		stop()
	}
}

// provider is the provider of a connection, and its owner there.
func (c *crash) provider(id string) (sim *providertest.Simulator, owner string) {
	if id == onSecondXero {
		return c.xero, "dave"
	}
	return c.tink, "carol"
}

// grant is the grant of a connection as its provider sees it.
func (c *crash) grant(id string) providertest.Grant {
	sim, owner := c.provider(id)
	for _, g := range sim.Grants() {
		if g.Owner == owner {
			return g
		}
	}
	return providertest.Grant{}
}

// spent is how often the refresh token was taken that a connection had before the
// crash.
func (c *crash) spent(id string) int {
	spends, at := c.grant(id).Spends, c.before[id].spends
	if at >= len(spends) {
		return 0
	}
	return spends[at]
}

func secondConnections() []string { return []string{onSecondTink, onSecondXero} }

func (t *tour) crashServer(ctx context.Context) error {
	if err := t.beginSecond(ctx); err != nil {
		return err
	}
	killed, err := t.killSecond(ctx)
	if err != nil {
		return err
	}
	acted := 0
	for _, id := range secondConnections() {
		if t.crash.grant(id).Generation == t.crash.before[id].issued+1 {
			acted++
		}
	}
	t.promise(killed && acted == 2, "it is killed when the providers have acted, and before it has seen an answer", "killed by a signal: %t, new tokens were issued by %d of 2 providers", killed, acted)

	t.out.aside("It is started again, on what it left behind. Meanwhile the application goes on:")
	if err := t.startSecond(ctx); err != nil {
		return err
	}
	same := 0
	for _, id := range secondConnections() {
		e, err := t.show(t.ask(ctx, t.crash.server.admin, http.MethodGet, connectionPath(id, "/token"), nil))
		if err != nil {
			return err
		}
		if e.status == http.StatusOK && decode[evergrant.Token](e).AccessToken.Equal(t.crash.before[id].token.AccessToken.Reveal()) {
			same++
		}
	}
	t.promise(same == 2, "it notices nothing: the tokens of before still live, and it is given them", "%d of 2 are the same", same)
	return nil
}

// beginSecond starts the second server and makes its connections.
func (t *tour) beginSecond(ctx context.Context) error {
	dir := t.secondDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := createFile(filepath.Join(dir, "evergrant.yaml"), keeperConfigHead+fmt.Sprintf(tinkConfig, t.crash.tinkURL)+fmt.Sprintf(xeroConfig, t.crash.xeroURL)+fmt.Sprintf(boxOfficeConfig, t.base)); err != nil {
		return err
	}
	if err := t.startSecond(ctx); err != nil {
		return err
	}
	admin := t.crash.server.admin
	t.crash.tink.Connect("carol")
	_, tokens := t.crash.xero.Connect("dave")
	for _, in := range []evergrant.NewConnection{
		{ID: onSecondTink, Provider: "tink", Owner: "carol"},
		{ID: onSecondXero, Provider: "xero", Owner: "dave", Tokens: evergrant.Tokens{AccessToken: tokens.AccessToken, RefreshToken: tokens.RefreshToken, ExpiresAt: tokens.ExpiresAt}},
	} {
		if _, err := admin.CreateConnection(ctx, in); err != nil {
			return err
		}
		token, err := admin.AccessToken(ctx, in.ID, evergrant.TokenOptions{})
		if err != nil {
			return err
		}
		c, err := admin.Connection(ctx, in.ID)
		if err != nil {
			return err
		}
		grant := t.crash.grant(in.ID)
		t.crash.before[in.ID] = held{token, c.Generation, grant.Generation, len(grant.Spends) - 1}
	}
	return nil
}

func (t *tour) startSecond(ctx context.Context) (err error) {
	t.out.command(append([]string{commandName()}, secondWords(t.secondDir())...)...)
	t.crash.server, err = startSecond(ctx, t.secondDir())
	return err
}

// killSecond has both connections refreshed, and kills the server while the
// providers hold their answers back. It reports whether a signal ended it.
func (t *tour) killSecond(ctx context.Context) (killed bool, err error) {
	arrived, release := make(chan struct{}, 2), make(chan struct{})
	defer close(release)
	for _, sim := range []*providertest.Simulator{t.crash.tink, t.crash.xero} {
		sim.Inject(providertest.Rule{Times: 1, Kind: provider.Refresh, Fault: providertest.Fault{After: func() {
			arrived <- struct{}{}
			<-release
		}}})
	}
	var asked [2]exchange
	var failed [2]error
	var asking sync.WaitGroup
	for i, id := range secondConnections() {
		asking.Go(func() {
			asked[i], failed[i] = t.ask(ctx, t.crash.server.admin, http.MethodPost, connectionPath(id, "/refresh"), nil)
		})
	}
	_, err = t.await(ctx, t.patience, func() (bool, error) { return len(arrived) == 2, nil })
	state := t.crash.server.end(os.Kill)
	asking.Wait()
	for i, e := range asked {
		t.out.command(e.curl...)
		if failed[i] != nil {
			t.out.block("→ no answer: " + failed[i].Error())
		} else {
			t.out.answer(e)
		}
	}
	t.out.command("kill -9", strconv.Itoa(state.Pid()))
	status, ok := state.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && errors.Join(failed[:]...) != nil, err
}

// recovered waits until both connections are renewed.
func (t *tour) recovered(ctx context.Context) (map[string]evergrant.Connection, error) {
	found := map[string]evergrant.Connection{}
	_, err := t.await(ctx, leaseOver+t.patience, func() (bool, error) {
		renewed := true
		for _, id := range secondConnections() {
			c, err := t.crash.server.admin.Connection(ctx, id)
			if err != nil {
				return false, err
			}
			found[id] = c
			renewed = renewed && c.Generation > t.crash.before[id].generation
		}
		return renewed, nil
	})
	return found, err
}

func (t *tour) afterCrash(ctx context.Context) error {
	if t.crash.server == nil {
		return errors.New("the second server is not running")
	}
	admin := t.crash.server.admin
	found, err := t.recovered(ctx)
	if err != nil {
		return err
	}
	for _, id := range secondConnections() {
		t.commandOn(ctx, admin, "connection history", id)
	}
	live := func(id string) bool {
		return found[id].State == evergrant.ConnectionActive && found[id].Generation > t.crash.before[id].generation
	}
	tink, xero := t.crash.spent(onSecondTink), t.crash.spent(onSecondXero)
	t.promise(live(onSecondTink) && tink == 1, "Tink: the refresh token that is spent is left alone, and new tokens are minted for its user",
		"state %q, generation %d, the refresh token was taken: %d", found[onSecondTink].State, found[onSecondTink].Generation, tink)
	t.promise(live(onSecondXero) && xero == 2, "Xero, which bears that for half an hour: the same refresh token is sent again, and the answer that was lost comes anew",
		"state %q, generation %d, the refresh token was taken: %d", found[onSecondXero].State, found[onSecondXero].Generation, xero)
	owners, ended := []string{}, 0
	for _, id := range secondConnections() {
		e, err := t.show(t.ask(ctx, admin, http.MethodGet, proxyPath(id), nil))
		if err != nil {
			return err
		}
		owners = append(owners, e.whose())
	}
	for _, sim := range []*providertest.Simulator{t.crash.tink, t.crash.xero} {
		ended += sim.Stats().FamiliesRevoked
	}
	t.promise(owners[0] == "carol" && owners[1] == "dave" && ended == 0, "both grants live, and neither owner was asked for anything", "their APIs know %q, grants that ended: %d", owners, ended)
	return nil
}
