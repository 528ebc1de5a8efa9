package main

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
)

const (
	onConnecting = "Three providers, and a hundred connections more"
	onReading    = "A token for whoever asks"
	onCrash      = "A crash in mid-refresh"
	onRenewing   = "Renewals as they happen"
	onRevoked    = "A user who takes the access back"
	onRecovery   = "After the crash"
	onBoth       = "Both ends"
	onOutage     = "An outage that nobody notices"
	onBalance    = "The providers' books"
	toItsEnd     = "the step goes through to its end"
)

// mischief is what goes wrong in one step of the keeper's part, and all promises
// that it breaks.
type mischief struct {
	step   string
	broken []string
	before deed        // the step begins
	change func(*call) // answers of the server in the step
	after  deed        // the step has ended
}

// deed does something to a server and a tour of it.
type deed func(t *testing.T, e *example, touring *tour)

// at changes the nth answer of one path, in a step; every one where n is 0.
func at(path string, n int, change func(*call)) func(*call) {
	return func(c *call) {
		if c.path == path && (n == 0 || c.nth == n) {
			change(c)
		}
	}
}

// titled makes a page another one.
func titled(c *call) { c.body = []byte("<title>Welcome back</title>") }

func without(id string) func([]map[string]any) []map[string]any {
	return func(all []map[string]any) []map[string]any {
		return slices.DeleteFunc(all, func(item map[string]any) bool { return item["id"] == id })
	}
}

// answersOf changes answers for one connection.
func answersOf(id, action string, n int, change func(*call)) func(*call) {
	return at(connectionPath(id, action), n, change)
}

func proxied(id string, n int, change func(*call)) func(*call) { return at(proxyPath(id), n, change) }

// rounds are several lots of mischief, each of which one tour goes through. Each
// promise is broken in one of them and, but for those that cannot, kept in
// another, so that none breaks only because another one does.
func rounds() map[string][]mischief {
	return map[string][]mischief{"one": roundOne(), "two": roundTwo(), "three": roundThree(), "four": {
		{step: onConnecting, broken: []string{"the application gets a link for its user", toItsEnd}, change: at("/v1/connect-sessions", 1, setting("connection", "another"))},
	}}
}

func roundOne() []mischief {
	return []mischief{
		{step: onConnecting, broken: []string{"Flexiti needs no owner: the app itself is connected, with nothing to begin with"}, change: at("/v1/connections", 1, setting("state", "paused"))},
		{step: onConnecting, broken: []string{"the proxy calls Tink's API for her, and the application never sees a token"}, change: proxied(onTink, 1, setting("owner", "eve"))},
		{step: onConnecting, broken: []string{"he consents there, comes back, and is connected"}, change: at("/connect/callback", 1, status(http.StatusBadGateway))},
		{step: onConnecting, broken: []string{"all connections are alive: the providers' APIs take their tokens"}, before: pausedSoon("eventix-001"), change: proxied("eventix-015", 1, status(http.StatusBadGateway))},
		{step: onReading, broken: []string{"the application gets an access token that Eventix takes"}, change: answersOf(onEventix, "/token", 1, setting("access_token", "of another"))},
		{step: onReading, broken: []string{"who needs the token for a while says for how long, and gets one that lives for so long"}, change: answersOf(onTink, "/token", 1, setting("expires_at", time.Now()))},
		{step: onReading, broken: []string{"evergrant token prints an access token that lives, and nothing else"}, change: answersOf(onFlexiti, "/token", 3, setting("access_token", "sim_at_dead"))},
		{step: onCrash, broken: []string{"it is killed when the providers have acted, and before it has seen an answer"}, before: xeroDoesNotAct},
		{step: onRenewing, broken: []string{"and so is each of the hundred", "the APIs take the new tokens of all"}, after: resumed("eventix-001")}, // since it was paused
		{step: onRevoked, broken: []string{"the application is told that only the owner can help, why, and since when"}, change: proxied(onEventix, 1, setting("cause", "consent_required"))},
		{step: onRevoked, broken: []string{"the application hears of it by itself: one webhook, and its signature is good", "the application hears of that, too"}, before: anotherSecret},
		{step: onRecovery, broken: []string{"Xero, which bears that for half an hour: the same refresh token is sent again, and the answer that was lost comes anew"}}, // none was lost, as it had not acted
		{step: onBoth, broken: []string{"the issuer answers as Eventix does: a year but a second, and the companies that the token is for"}, change: at("/tokens", 1, setting("refresh_token_expires_in", 31536000))},
		{step: onOutage, broken: []string{"the keeper finds out that Eventix is down, and stops asking"}, before: func(_ *testing.T, _ *example, t *tour) { t.eventixAuth.url = t.flexitiURL }},
		{step: onOutage, broken: []string{"all of its connections were renewed when it was back, none is in doubt, none needs its owner"}, change: at("/v1/connections", 0, items(without("eventix-011")))},
		{step: onBalance, broken: []string{"no provider was asked for more at once than its definition allows"}, before: crowded},
	}
}

func roundTwo() []mischief {
	return []mischief{
		{step: onConnecting, broken: []string{"at Tink the app names its user, and she is connected without a browser"}, change: at("/v1/connections", 2, status(http.StatusOK))},
		{step: onConnecting, broken: []string{"he is told what it is about before he is sent to Eventix"}, change: func(c *call) {
			if strings.HasPrefix(c.path, "/connect/") && c.method == http.MethodGet && c.path != "/connect/callback" {
				titled(c)
			}
		}},
		{step: onConnecting, broken: []string{"each becomes a connection that the keeper keeps fresh from now on"}, change: at("/v1/connections", 17, setting("id", "another"))},
		{step: onReading, broken: []string{"and no refresh token, which nobody ever gets from the keeper"}, change: answersOf(onEventix, "/token", 1, setting("refresh_token", "sim_rt_x"))},
		{step: onReading, broken: []string{"who wants a new one gets a new one"}, change: sameAgain()},
		{step: onConnecting, before: func(_ *testing.T, e *example, _ *tour) { e.mute(onTink) }},
		{step: onRenewing, broken: []string{"the connection at each provider is renewed by itself"}}, // since nothing is heard of it
		{step: onRenewing, broken: []string{"the history of a connection has all of it"}, change: answersOf(onTink, "/history", 1, items(none))},
		{step: onRevoked, broken: []string{"evergrant token ends with a status of its own, for scripts"}, change: answersOf(onEventix, "/token", 1, setting("code", ""))},
		{step: onRevoked, broken: []string{"evergrant explain says what happened, and what repairs it"}, change: at("/v1/explain", 1, setting("repair", ""))},
		{step: onRevoked, broken: []string{"the connection that the application knows lives again, under the same id"}, change: answersOf(onEventix, "", 2, setting("state", "reauthorize"))},
		{step: onBoth, broken: []string{"after three refreshes both ends are at the same generation"}, change: at("/v1/explain", 1, func(c *call) {
			grant := c.get("grant").(map[string]any)
			grant["generation"] = 5
			c.set("grant", grant)
		})},
		{step: onOutage, broken: []string{"every call of the application was answered, before, during and after"}, change: proxied("eventix-007", 2, status(http.StatusServiceUnavailable))},
		{step: onOutage, broken: []string{"the operator is told once that Eventix is down, and once that it is back"}, change: at("/v1/events", 0, items(twice))},
		{step: onBalance, broken: []string{"no refresh token was ever sent after it was spent", "no provider ended a grant for what the keeper did"}, before: spendTwice},
	}
}

func roundThree() []mischief {
	return []mischief{
		{step: onCrash, broken: []string{"it notices nothing: the tokens of before still live, and it is given them"}, before: xeroAnswers},
		{step: onBoth, broken: []string{toItsEnd}, change: at("/tokens", 1, setting("access_token", nil))},
		{step: onRenewing, broken: []string{"the APIs take the new tokens of all"}, change: proxied("eventix-022", 1, setting("owner", "eve"))},
		{step: onRevoked, broken: []string{"and where he does that", toItsEnd}, change: proxied(onEventix, 1, setting("connect_url", "https://evil.example/connect/x"))},
		{step: onRecovery, broken: []string{
			"Xero, which bears that for half an hour: the same refresh token is sent again, and the answer that was lost comes anew", // it was not lost
			"Tink: the refresh token that is spent is left alone, and new tokens are minted for its user",
			"both grants live, and neither owner was asked for anything",
		}, before: func(_ *testing.T, _ *example, t *tour) { t.crash.tink.Revoke(t.crash.grant(onSecondTink).ID) }},
	}
}

// sameAgain gives the first token of Flexiti again where a new one is wanted.
func sameAgain() func(*call) {
	var first any
	return answersOf(onFlexiti, "/token", 0, func(c *call) {
		switch c.nth {
		case 1:
			first = c.get("access_token")
		case 2:
			c.set("access_token", first)
		}
	})
}

// anotherSecret is what the receiver of webhooks believes to be theirs.
func anotherSecret(_ *testing.T, _ *example, touring *tour) {
	touring.hooks.mu.Lock()
	defer touring.hooks.mu.Unlock()
	touring.hooks.secret = "AnotherSecret"
}

// xeroDoesNotAct keeps a refresh waiting until the test ends.
func xeroDoesNotAct(t *testing.T, _ *example, touring *tour) {
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) })
	touring.crash.xero.Inject(providertest.Rule{Times: 1, Kind: provider.Refresh, Fault: providertest.Fault{NotActed: true, Before: func() { <-ended }}})
}

// xeroAnswers has a refresh answered before the server is killed.
func xeroAnswers(_ *testing.T, _ *example, touring *tour) {
	touring.crash.xero.Inject(providertest.Rule{Times: 1, Kind: provider.Refresh})
}

// pausedSoon pauses a connection as soon as it is there.
func pausedSoon(id string) deed {
	return func(t *testing.T, _ *example, touring *tour) {
		go func() {
			for t.Context().Err() == nil {
				if _, err := touring.admin.Pause(t.Context(), id); err == nil {
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		}()
	}
}

func resumed(id string) deed {
	return func(t *testing.T, _ *example, touring *tour) {
		if _, err := touring.admin.Resume(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}

// refreshAt asks Eventix for a refresh, behind the keeper's back.
func refreshAt(t *testing.T, url, token string) {
	req, err := form(t.Context(), url+providertest.TokenPath, "", "grant_type", oauth.GrantRefreshToken, "refresh_token", token,
		"client_id", simClient, "client_secret", simSecret)
	if err == nil {
		_, err = send(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, req)
	}
	if err != nil {
		t.Error(err)
	}
}

// spendTwice has a provider end a grant.
func spendTwice(t *testing.T, _ *example, touring *tour) {
	_, tokens := touring.eventix.Connect("mallory")
	for range 2 {
		refreshAt(t, touring.eventixAuth.url, tokens.RefreshToken.Reveal())
	}
}

// crowded asks Eventix for more at once than it bears.
func crowded(t *testing.T, _ *example, touring *tour) {
	touring.eventixAuth.url = "http://" + touring.eventixAuth.address
	touring.eventix.Clear()
	all := make(chan struct{})
	var arrived sync.WaitGroup
	arrived.Add(eventixAtOnce + 1)
	touring.eventix.Inject(providertest.Rule{Times: eventixAtOnce + 1, Fault: providertest.Fault{NotActed: true, Before: func() {
		arrived.Done()
		<-all
	}}})
	var asking sync.WaitGroup
	for range eventixAtOnce + 1 {
		asking.Go(func() { refreshAt(t, touring.eventixAuth.url, "unknown") })
	}
	arrived.Wait()
	close(all)
	asking.Wait()
}

// TestKeeperTourSeesWhatIsBroken goes through the keeper's part of the tour
// several times at once, with much that goes wrong in each, and holds that just
// the promises break that should. It takes as long as the tour.
func TestKeeperTourSeesWhatIsBroken(t *testing.T) {
	asProcess(t)
	var mu sync.Mutex
	promised, sabotaged := map[string]bool{}, map[string]bool{}
	var going sync.WaitGroup
	for name, round := range rounds() {
		going.Go(func() {
			t.Run(name, func(t *testing.T) {
				tour := goWrong(t, round)
				mu.Lock()
				defer mu.Unlock()
				for _, p := range tour.promises {
					promised[p.Step+": "+p.Promise] = true
				}
				for _, m := range round {
					for _, promise := range m.broken {
						sabotaged[m.step+": "+promise] = true
					}
				}
			})
		})
	}
	going.Wait()
	for promise := range promised {
		if !sabotaged[promise] {
			t.Errorf("nothing shows that it is checked: %s", promise)
		}
	}
	if len(promised) < 30 {
		t.Errorf("only %d promises were checked", len(promised))
	}
}

// goWrong goes through the steps up to the last one in which something goes
// wrong.
func goWrong(t *testing.T, round []mischief) *tour {
	e := startExample(t, "")
	e.stage.patience = 2 * time.Second // less than what a request of the killed server may take
	e.stage.crowd = 24
	tour := e.tour(io.Discard)
	want := map[string]bool{}
	last := round[len(round)-1].step
	for _, s := range keeperSteps() {
		var now []mischief
		for _, m := range round {
			if m.step == s.title {
				now = append(now, m)
			}
		}
		e.use(func(c *call) {
			for _, m := range now {
				if m.change != nil {
					m.change(c)
				}
			}
		})
		for _, m := range now {
			for _, promise := range m.broken {
				want[m.step+": "+promise] = true
			}
			if m.before != nil {
				m.before(t, e, tour)
			}
		}
		tour.take(t.Context(), "", s)
		for _, m := range now {
			if m.after != nil {
				m.after(t, e, tour)
			}
		}
		if s.title == last {
			break
		}
	}
	e.use(nil)
	broken := map[string]bool{}
	for _, p := range tour.broken() {
		broken[p.Step+": "+p.Promise] = true
		if !want[p.Step+": "+p.Promise] {
			t.Errorf("broken without a reason: %s: %s (%s)", p.Step, p.Promise, p.Compared)
		}
	}
	for promise := range want {
		if !broken[promise] {
			t.Errorf("not broken: %s", promise)
		}
	}
	return tour
}

// TestKeeperTourWithoutServer holds that the steps end where nobody answers.
func TestKeeperTourWithoutServer(t *testing.T) {
	e := startExample(t, "")
	e.url = "http://127.0.0.1:1"
	tour := e.tour(io.Discard)
	tour.patience = 0
	for _, s := range keeperSteps() {
		if slices.Contains([]string{onConnecting, onReading, onRevoked, onOutage}, s.title) {
			tour.take(t.Context(), "", s)
		}
	}
	for _, p := range tour.promises {
		if p.Promise != toItsEnd || p.Kept {
			t.Errorf("%s: %s is kept: %t (%s)", p.Step, p.Promise, p.Kept, p.Compared)
		}
	}
	if len(tour.promises) != 4 {
		t.Errorf("%d promises", len(tour.promises))
	}
}
