package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/evergrant/evergrant"
)

// stage is what the keeper's part of the tour has beside the server.
type stage struct {
	*simulated
	hooks    *receiver
	dir      string        // for the server that is killed
	patience time.Duration // with what should come at once
	crowd    int           // connections at Eventix beside the one that a browser makes
	renewals renewals
	askedFor map[string]uint64 // the last generation that the tour itself asked for, by connection
	crash    *crash

	following sync.WaitGroup
	unfollow  context.CancelFunc
}

// demoPatience is how long the tour waits for what should come at once, so that
// a busy machine breaks no promise.
const demoPatience = 30 * time.Second

// lookEvery is how often the tour looks whether what it waits for has come.
const lookEvery = 100 * time.Millisecond

// forever is longer than anybody looks at a demo.
const forever = 100 * 365 * 24 * time.Hour

func newStage(s *simulated, hooks *receiver, dir string) *stage {
	return &stage{simulated: s, hooks: hooks, dir: dir, patience: demoPatience, crowd: demoCrowd, askedFor: map[string]uint64{}, crash: newCrash(), unfollow: func() {}}
}

// close ends what the tour started.
func (s *stage) close() {
	s.unfollow()
	s.following.Wait()
	s.crash.close()
	s.stop()
}

// The connections of the tour: one at each provider, and a crowd at Eventix.
const (
	onTink    = "tink-alice"
	onEventix = "eventix-bob"
	onFlexiti = "flexiti"
	demoCrowd = 100
)

func inCrowd(i int) (id, owner string) {
	return fmt.Sprintf("eventix-%03d", i), fmt.Sprintf("user-%03d", i)
}

// owners are the connections of the tour with the owners that the providers'
// APIs tell.
func (s *stage) owners() map[string]string {
	all := map[string]string{onTink: "alice", onEventix: "bob", onFlexiti: "client"}
	for i := range s.crowd {
		id, owner := inCrowd(i + 1)
		all[id] = owner
	}
	return all
}

// keeperSteps are the part of the tour that shows the keeper.
func keeperSteps() []step {
	return []step{
		{"Three providers, and a hundred connections more", "From here on this server is on the other side: it holds the tokens that an application has at other " +
			"people's servers. Tink, Eventix and Flexiti are simulated, at addresses of this machine, and are spoken to by the definitions " +
			"that come with the program. Their access tokens live for seconds.", (*tour).connectAll},
		{"A token for whoever asks", "An application never refreshes anything. It asks for a token when it needs one, or has the server put it on a call.", (*tour).read},
		{"A crash in mid-refresh", "A second server, in a process of its own, is killed while its requests are at the providers: " +
			"they have issued new tokens, and nobody has heard of them.", (*tour).crashServer},
		{"Renewals as they happen", "Meanwhile the keeper of the first server has been at work: each connection is renewed when a quarter of its token's life is left, " +
			"or a bit earlier.", (*tour).renew},
		{"A user who takes the access back", "The owner of a connection revokes it at Eventix, in the settings of his account there. " +
			"No server is told of such a thing; it comes to light at the next call.", (*tour).revokeOwner},
		{"After the crash", "The killed process held a lease on both connections. It ends by itself, after which the new process resolves what the journal says was broken off: " +
			"nothing is sent blindly.", (*tour).afterCrash},
		{"Both ends", "The first server speaks as Eventix does to a client with that profile; the keeper of the second one holds that client's token, by the definition of Eventix. " +
			"Each is the other's proof.", (*tour).bothEnds},
		{"An outage that nobody notices", "The authorization server of Eventix goes down before a hundred and one connections are due there; its API goes on. " +
			"An application calls that API all the time, by the proxy.", (*tour).outage},
		{"The providers' books", "What the simulators counted: all that a keeper can do wrong is seen on their side.", (*tour).balance},
	}
}

// ask sends a request to a server's API as an application does.
func (t *tour) ask(ctx context.Context, server *evergrant.Client, method, path string, document any) (exchange, error) {
	var body bytes.Buffer
	if document != nil {
		if err := json.NewEncoder(&body).Encode(document); err != nil {
			return exchange{}, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, server.Server+path, bytes.NewReader(bytes.TrimSpace(body.Bytes())))
	if err != nil {
		return exchange{}, err
	}
	req.Header.Set("Authorization", "Bearer "+server.Token.Reveal())
	if document != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return send(t.http, req)
}

// call is ask of the tour's server, and shows both ways.
func (t *tour) call(ctx context.Context, method, path string, document any) (exchange, error) {
	return t.show(t.ask(ctx, t.admin, method, path, document))
}

func connectionPath(id, action string) string { return "/v1/connections/" + id + action }

func proxyPath(id string) string { return "/v1/proxy/" + id + "/me" }

// whose is the owner whom a provider's API tells for the token that it was called
// with; "" where it took none.
func (e exchange) whose() string {
	if e.status != http.StatusOK {
		return ""
	}
	return decode[struct{ Owner string }](e).Owner
}

// asBearer calls a provider's API as the holder of an access token does.
func (t *tour) asBearer(ctx context.Context, api, token string) (exchange, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, api+"/api/me", nil)
	if err != nil {
		return exchange{}, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return send(t.http, req)
}

// runCommand runs a command of this program on the tour's server, and shows it
// with all that it prints. It returns what went to stdout.
func (t *tour) runCommand(ctx context.Context, words ...string) (code int, printed string) {
	return t.commandOn(ctx, t.admin, words...)
}

func (t *tour) commandOn(ctx context.Context, server *evergrant.Client, words ...string) (code int, printed string) {
	t.out.command(administration(server, words...)...)
	var stdout, stderr bytes.Buffer
	p := program{env: func(string) (string, bool) { return "", false }, now: time.Now}
	args := strings.Fields(strings.Join(words, " ")) // of which none has a blank in it
	code = p.Run(ctx, append(args, "--server", server.Server, "--token", server.Token.Reveal()), strings.NewReader(""), &stdout, &stderr)
	t.out.block(shorten(stdout.String() + stderr.String()))
	return code, stdout.String()
}

// await waits until something holds, showing renewals as they come, and reports
// whether it came to hold.
func (t *tour) await(ctx context.Context, patience time.Duration, holds func() (bool, error)) (bool, error) {
	deadline := time.Now().Add(patience)
	for {
		t.showRenewals()
		held, err := holds()
		switch {
		case held || err != nil:
			return held, err
		case !time.Now().Before(deadline):
			return false, nil
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// connections are all connections at a provider, by id.
func (t *tour) connections(ctx context.Context, at string) (map[string]evergrant.Connection, error) {
	all := map[string]evergrant.Connection{}
	for c, err := range t.admin.Connections(ctx, evergrant.ConnectionFilter{Provider: at}) {
		if err != nil {
			return nil, err
		}
		all[c.ID] = c
	}
	return all, nil
}

// walk goes with a browser from a connect link to where it ends, and shows each
// page.
func (t *tour) walk(ctx context.Context, link string) (first, last exchange, err error) {
	b, err := t.newBrowser()
	if err != nil {
		return first, last, err
	}
	if first, err = b.open(ctx, link); err != nil || first.status != http.StatusOK {
		return first, first, err
	}
	if last, err = b.press(ctx, link); err != nil {
		return first, last, err
	}
	at, err := url.Parse(link)
	for hops := 0; err == nil && last.status/100 == 3 && hops < 5; hops++ {
		if at, err = at.Parse(last.header.Get("Location")); err == nil {
			last, err = b.open(ctx, at.String())
		}
	}
	return first, last, err
}

// secondDir is the directory of the server that is killed.
func (s *stage) secondDir() string { return filepath.Join(s.dir, "second") }
