package providertest_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
)

// TestDoubleSpend presents a consumed refresh token again: the family dies where
// refresh tokens are for single use, and lives on where they only rotate.
func TestDoubleSpend(t *testing.T) {
	for _, test := range []struct {
		rotation provider.Rotation
		kills    bool
	}{{"", true}, {provider.RotationSingleUse, true}, {provider.RotationRotating, false}} {
		d := providertest.Plain()
		d.Rotation = test.rotation
		b := serve(t, d)
		grant, access, one := b.connect("alice")
		two := b.refreshed(one).text("refresh_token")
		three := b.refreshed(two).text("refresh_token")
		if !b.sim.Alive(three) || len(b.sim.Stats().DoubleSpends) != 0 {
			t.Fatal("the family is not sound")
		}
		b.pass(time.Minute)
		b.want(b.refresh(one), 400, "error_description", "The refresh token was used before.")
		b.pass(time.Minute)
		b.want(b.refresh(two), 400, "error_description", "The refresh token was used before.")

		stats := b.sim.Stats()
		want := []providertest.DoubleSpend{
			{Grant: grant, Generation: 1, At: began.Add(time.Minute), Killed: test.kills},
			{Grant: grant, Generation: 2, At: began.Add(2 * time.Minute)},
		}
		families, state := 0, providertest.Live
		if test.kills {
			families, state = 1, providertest.Killed
		}
		if !reflect.DeepEqual(stats.DoubleSpends, want) || stats.FamiliesRevoked != families {
			t.Errorf("%q: double spends %+v, families %d", test.rotation, stats.DoubleSpends, stats.FamiliesRevoked)
		}
		g := b.sim.Grant(grant)
		if g.State != state || g.Generation != 3 || !slices.Equal(g.Spends, []int{1, 1, 0}) || (g.Cause != "") != test.kills {
			t.Errorf("%q: the grant is %+v", test.rotation, g)
		}
		if b.sim.Alive(three) == test.kills || b.sim.Alive(access) == test.kills {
			t.Errorf("%q: what is left lives: %t", test.rotation, b.sim.Alive(three))
		}
	}
}

// TestConcurrentRefreshes is what happens to a keeper without a lock.
func TestConcurrentRefreshes(t *testing.T) {
	b := serve(t, providertest.Plain())
	grant, _, refresh := b.connect("alice")
	together := make(chan struct{})
	var arrived sync.WaitGroup
	arrived.Add(8)
	b.sim.Inject(providertest.Rule{Fault: providertest.Fault{Before: func() {
		arrived.Done()
		<-together
	}}})
	statuses := make(chan int, 8)
	for range 8 {
		go func() { statuses <- b.refresh(refresh).status }()
	}
	arrived.Wait()
	close(together)
	count := map[int]int{}
	for range 8 {
		count[<-statuses]++
	}
	s := b.sim.Stats()
	if count[200] != 1 || count[400] != 7 || s.Concurrent != 8 || s.FamiliesRevoked != 1 || len(s.DoubleSpends) != 7 || b.sim.Grant(grant).State != providertest.Killed {
		t.Errorf("statuses %v, stats %+v", count, s)
	}
	b.sim.Clear()
	b.refresh(refresh)
	if s = b.sim.Stats(); s.Concurrent != 8 || s.FamiliesRevoked != 1 {
		t.Errorf("afterwards: %+v", s)
	}
}

// TestReplayWindow is when a consumed refresh token works again.
func TestReplayWindow(t *testing.T) {
	const window = 30 * time.Minute
	withings := providertest.Withings()
	withings.Require, withings.ReplayWindow = nil, window
	withings.Answer, withings.Failure, withings.FailureStatus = "", "", 0
	xero := providertest.Xero()
	xero.ClientAuth = nil
	tests := []struct {
		name    string
		dialect providertest.Dialect
		between func(b *bench, lost got)
		works   bool
	}{
		{"at once", xero, func(*bench, got) {}, true},
		{"at the end", xero, func(b *bench, _ got) { b.pass(window) }, true},
		{"after the end", xero, func(b *bench, _ got) { b.pass(window + 1) }, false},
		{"the successor was used", xero, func(b *bench, lost got) { b.refreshed(lost.text("refresh_token")) }, false},
		{"the access token was used", xero, func(b *bench, lost got) { b.me(lost.text("access_token")) }, true},
		{"until used, it was not", withings, func(*bench, got) {}, true},
		{"until used, it was", withings, func(b *bench, lost got) { b.me(lost.text("access_token")) }, false},
		{"until used, too late", withings, func(b *bench, _ got) { b.pass(window + 1) }, false},
		{"no window", providertest.Plain(), func(*bench, got) {}, false},
		{"revoked", xero, func(b *bench, _ got) { b.sim.Revoke("grant-1") }, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := serve(t, test.dialect)
			_, _, refresh := b.connect("alice")
			lost := b.refreshed(refresh)
			test.between(b, lost)
			if b.sim.Alive(refresh) != test.works {
				t.Errorf("it says that the refresh token works: %t", !test.works)
			}
			again := b.refresh(refresh)
			if works := again.text("access_token") != ""; works != test.works {
				t.Fatalf("the refresh token worked: %d %s", again.status, again.body)
			}
			if !test.works {
				return
			}
			b.refreshed(again.text("refresh_token"))
			b.want(b.refresh(lost.text("refresh_token")), 400, "error_description", "The refresh token is revoked.")
			if s := b.sim.Stats(); len(s.DoubleSpends) != 0 {
				t.Errorf("double spends: %+v", s.DoubleSpends)
			}
		})
	}
}

// TestWindowBeginsAtTheFirstUse does not slide when the token is replayed.
func TestWindowBeginsAtTheFirstUse(t *testing.T) {
	d := providertest.Xero()
	d.ClientAuth = nil
	b := serve(t, d)
	_, _, refresh := b.connect("alice")
	for range 3 {
		b.refreshed(refresh)
		b.pass(15 * time.Minute)
	}
	b.want(b.refresh(refresh), 400, "error", "invalid_grant")
	if n := b.sim.Grant("grant-1").Spends; !slices.Equal(n, []int{3, 0, 0, 0}) {
		t.Errorf("spends %v", n)
	}
}

// TestRotationChanges is a provider that changes its ways while grants live.
func TestRotationChanges(t *testing.T) {
	b := serve(t, providertest.Google())
	_, _, refresh := b.connect("alice")
	b.want(b.refreshed(refresh), 200, "refresh_token", nil)
	b.want(b.refreshed(refresh), 200, "refresh_token", nil)

	b.sim.Change(func(d *providertest.Dialect) { d.Rotation = provider.RotationSingleUse })
	next := b.refreshed(refresh).text("refresh_token")
	if next == "" || next == refresh || b.sim.Alive(refresh) {
		t.Fatal("it does not rotate")
	}
	b.sim.Change(func(d *providertest.Dialect) { d.Rotation, d.RepeatsFixed = provider.RotationFixed, true })
	b.want(b.refreshed(next), 200, "refresh_token", next)
	b.want(b.refreshed(next), 200, "refresh_token", next)
	b.want(b.refresh(refresh), 400, "error", "invalid_grant")

	b.sim.Change(func(d *providertest.Dialect) { d.Rotation = provider.RotationNone })
	b.want(b.refreshed(next), 200, "refresh_token", nil)
	_, access, none := b.connect("bob")
	if access == "" || none != "" {
		t.Errorf("a refresh token where there are none: %q", none)
	}
	b.sim.Change(func(d *providertest.Dialect) { d.Rotation, d.AccessTokenRefreshes = provider.RotationFixed, true })
	if g := b.refreshed(access); g.text("refresh_token") == "" {
		t.Errorf("a grant without a refresh token got none: %s", g.body)
	}
}

func TestLifetimes(t *testing.T) {
	d := providertest.Plain()
	d.NoEarlyRefresh = time.Minute
	b := serve(t, d)
	_, access, refresh := b.connect("alice")
	b.want(b.refresh(refresh), 400, "error_description", "The access token has not expired yet.")
	b.pass(59*time.Minute - 1)
	b.want(b.refresh(refresh), 400, "error_description", "The access token has not expired yet.")
	b.pass(1)
	refresh = b.refreshed(refresh).text("refresh_token")
	b.pass(time.Minute - 1)
	b.want(b.me(access), 200, "owner", "alice")
	b.pass(1)
	b.want(b.me(access), 401, "error", "invalid_token")
	b.pass(14*24*time.Hour - time.Minute - 1)
	if !b.sim.Alive(refresh) {
		t.Error("the refresh token died early")
	}
	b.pass(1)
	b.want(b.refresh(refresh), 400, "error_description", "The refresh token has expired.")
	if s := b.sim.Stats(); len(s.DoubleSpends) != 0 {
		t.Errorf("double spends %v", s.DoubleSpends)
	}
}

func TestNothingExpiresByDefault(t *testing.T) {
	b := serve(t, providertest.Dialect{Name: "zero"})
	_, access, refresh := b.connect("alice")
	b.pass(100 * 365 * 24 * time.Hour)
	b.want(b.me(access), 200, "owner", "alice")
	b.want(b.refresh(refresh), 200, "expires_in", nil)
}

func TestFixedTokensSlide(t *testing.T) {
	b := serve(t, providertest.Google())
	_, _, refresh := b.connect("alice")
	for range 3 {
		b.pass(179 * 24 * time.Hour)
		b.refreshed(refresh)
	}
	b.pass(180 * 24 * time.Hour)
	b.want(b.refresh(refresh), 400, "error_description", "The refresh token has expired.")
}

func TestClientRate(t *testing.T) {
	d := providertest.Plain()
	d.ClientRate = provider.Rate{Count: 2, Per: oauth.Lifetime(time.Minute)}
	b := serve(t, d)
	_, _, refresh := b.connect("alice")
	refresh = b.refreshed(refresh).text("refresh_token")
	b.pass(30 * time.Second)
	b.want(b.token("grant_type", "client_credentials"), 200, "token_type", "Bearer")
	b.pass(500 * time.Millisecond)
	g := b.refresh(refresh)
	b.want(g, 429, "error", "slow_down")
	if g.header.Get("Retry-After") != "30" { // 29.5 s
		t.Errorf("Retry-After %q", g.header.Get("Retry-After"))
	}
	b.pass(30 * time.Second)
	b.refreshed(refresh)
}

func TestSecretsChange(t *testing.T) {
	b := serve(t, providertest.Plain())
	_, _, refresh := b.connect("alice")
	b.sim.SetSecrets("new", "newer")
	b.want(b.refresh(refresh), 401, "error", "invalid_client")
	refresh = b.refresh(refresh, "client_secret", "new").text("refresh_token")
	refresh = b.refresh(refresh, "client_secret", "newer").text("refresh_token")
	b.sim.SetSecrets()
	b.want(b.refresh(refresh, "client_secret", "newer"), 401, "error", "invalid_client")
	if !b.sim.Alive(refresh) {
		t.Error("a refused client spent the refresh token")
	}
}

func TestOwnerRevokes(t *testing.T) {
	b := serve(t, providertest.Plain())
	grant, access, refresh := b.connect("alice")
	other, _, kept := b.connect("alice")
	b.sim.Revoke(grant)
	b.sim.Revoke("unknown")
	b.want(b.refresh(refresh), 400, "error_description", "The refresh token is revoked.")
	b.want(b.me(access), 401, "error", "invalid_token")
	b.refreshed(kept)
	if g := b.sim.Grant(grant); g.State != providertest.Revoked || g.Cause != "by its owner" || b.sim.Grant(other).State != providertest.Live {
		t.Errorf("the grants are %+v", b.sim.Grants())
	}
	if g := b.sim.Grant("unknown"); g.ID != "" {
		t.Errorf("an unknown grant is %+v", g)
	}
}

func TestStats(t *testing.T) {
	b := serve(t, providertest.Plain())
	_, access, refresh := b.connect("alice")
	for range 3 {
		refresh = b.refreshed(refresh).text("refresh_token")
		b.pass(10 * time.Second)
	}
	b.token("grant_type", "client_credentials")
	b.token("grant_type", "odd")
	b.token("grant_type", "authorization_code", "code", "x")
	b.me(access)
	b.authorize()
	b.do(b.request("POST", providertest.RevokePath, oauth.FormType, ""))
	b.do(b.request("GET", "/elsewhere", "", ""))
	b.do(b.request("GET", "/.well-known/openid-configuration", "", ""))
	s := b.sim.Stats()
	want := map[provider.Kind]int{provider.Refresh: 3, provider.ClientCredentials: 1, provider.Exchange: 1, providertest.KindToken: 1,
		providertest.KindAPI: 1, providertest.KindAuthorize: 1, providertest.KindRevoke: 1, providertest.KindOther: 1, providertest.KindMetadata: 1}
	if !reflect.DeepEqual(s.Requests, want) {
		t.Errorf("requests %v", s.Requests)
	}
	for interval, peak := range map[time.Duration]int{time.Second: 3, 10 * time.Second: 3, 10*time.Second + 1: 4, time.Minute: 6} {
		if n := s.Peak(interval); n != peak {
			t.Errorf("peak of %s: %d, want %d", interval, n, peak)
		}
	}
	if s.Concurrent != 1 || len(s.TokenRequests) != 6 || (providertest.Stats{}).Peak(time.Hour) != 0 {
		t.Errorf("stats %+v", s)
	}
	s.Requests[provider.Refresh], s.TokenRequests[0] = 100, time.Time{}
	if again := b.sim.Stats(); again.Requests[provider.Refresh] != 3 || again.TokenRequests[0].IsZero() {
		t.Error("what was returned is still connected with what is counted")
	}
	grants := b.sim.Grants()
	grants[0].Spends[0] = 100
	if b.sim.Grants()[0].Spends[0] != 1 {
		t.Error("a grant that was returned is still connected with the simulator's")
	}
}

// TestHistory tells a grant's story, and neither it nor the log has a token.
func TestHistory(t *testing.T) {
	var log bytes.Buffer
	b := serveWith(t, providertest.Plain(), providertest.Options{Log: slog.New(slog.NewJSONHandler(&log, nil))})
	grant, access, refresh := b.connect("alice")
	b.me(access)
	b.me(access)
	b.pass(time.Minute)
	b.refreshed(refresh)
	b.pass(time.Second)
	b.sim.Inject(providertest.Rule{Times: 1, Fault: providertest.DropAfter()})
	b.refresh(refresh)
	b.sim.Revoke(grant)
	want := []string{
		"2026-01-02 03:04:05.000 begun for alice",
		"2026-01-02 03:04:05.000 generation 1 issued",
		"2026-01-02 03:04:05.000 access token of generation 1 first used",
		"2026-01-02 03:05:05.000 generation 2 issued for the tokens of generation 1",
		"2026-01-02 03:05:06.000 refresh token of generation 1 came again, 1s after it was consumed",
		"2026-01-02 03:05:06.000 killed: the refresh token of generation 1 was used twice",
	}
	if history := b.sim.History(grant); !slices.Equal(history, want) {
		t.Errorf("the history is\n%s", strings.Join(history, "\n"))
	}
	if b.sim.History("unknown") != nil {
		t.Error("an unknown grant has a history")
	}
	if text := log.String(); strings.Contains(text, "sim_") || strings.Count(text, "\n") != 4 || !strings.Contains(text, `"kind":"refresh","grant":"grant-1","status":400,"acted":true,"dropped":true`) {
		t.Errorf("the log is\n%s", text)
	}
}

func TestWhoseToken(t *testing.T) {
	b := serve(t, providertest.Plain())
	grant, access, refresh := b.connect("alice")
	client := b.token("grant_type", "client_credentials").text("access_token")
	for token, want := range map[string]string{access: grant, refresh: grant, client: "", "unknown": ""} {
		if is := b.sim.GrantOf(token); is != want {
			t.Errorf("a token of %q is of %q", want, is)
		}
	}
	if !b.sim.Alive(client) || b.sim.Alive("unknown") {
		t.Error("the client's token is dead, or an unknown one alive")
	}
	g := b.me(client)
	b.want(g, http.StatusOK, "owner", nil)
	b.want(b.refresh(client), 400, "error", "invalid_grant")
}

func TestAPI(t *testing.T) {
	b := serve(t, providertest.Plain())
	_, access, refresh := b.connect("alice")
	g := b.do(b.request("POST", providertest.APIPath+"/things/7?x=1", "application/octet-stream", "\x00", "Authorization", "bearer "+access))
	b.want(g, 200, "path", "/api/things/7")
	b.want(g, 200, "method", "POST")
	for _, authorization := range []string{"", "Bearer", "Bearer x", "Basic " + access, "Bearer " + refresh, access} {
		g := b.do(b.request("GET", providertest.MePath, "", "", "Authorization", authorization))
		b.want(g, 401, "error", "invalid_token")
		if g.header.Get("WWW-Authenticate") != `Bearer error="invalid_token"` {
			t.Errorf("%q: the headers are %v", authorization, g.header)
		}
	}
	if n := b.sim.Grants()[0].Uses; n != 1 {
		t.Errorf("%d uses", n)
	}
}
