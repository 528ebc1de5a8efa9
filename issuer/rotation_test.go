package issuer_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
)

// legacy is a site whose profiles are made for a test.
func legacy(t testing.TB, profile issuer.Profile, unsafe ...issuer.Compatibility) *site {
	t.Helper()
	return newSite(t, setup{config: func(c *issuer.Config) {
		c.Profiles, c.Unsafe = map[string]*issuer.Profile{"legacy": &profile}, unsafe
	}})
}

// TestOnce: a refresh spends its token and gives none. A lost answer is answered
// again within the window; afterwards the token is refused, and since it had no
// successor that could be somebody else's, nothing is revoked.
func TestOnce(t *testing.T) {
	e := newSite(t, setup{})
	client := e.variant("once", issuer.Policy{Rotation: issuer.RotateOnce, Format: issuer.FormatOpaque})
	first := e.login(client)
	e.clock.advance(time.Minute)
	second := e.refresh(client, first.RefreshToken)
	if tokens := second.tokens(t); tokens.RefreshToken != "" || tokens.RefreshTokenExpiresIn != 0 {
		t.Fatalf("a refresh token in %s", second.body)
	}
	if again := e.refresh(client, first.RefreshToken); again.body != second.body {
		t.Errorf("the retry got %s, the first answer was %s", again.body, second.body)
	}
	e.clock.advance(61 * time.Second)
	if told := e.refresh(client, first.RefreshToken).wantError(t, 400, oauth.InvalidGrant); told == "" {
		t.Error("no description")
	}
	e.wantAlive("the access token of the only refresh", second.tokens(t).AccessToken)
	e.wantEvent(issuer.EventGrantRefused, issuer.CauseRefreshTokenSpent)
	if events := e.events(issuer.EventReuseDetected); len(events) > 0 {
		t.Errorf("convicted: %+v", events)
	}
	e.clock.advance(2 * time.Hour) // the access token is over, and so is the row
	e.refresh(client, first.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
	if e.grant().Generation != 2 {
		t.Errorf("%+v", e.grant())
	}
}

// TestOnceAtTheSameTime: of many refreshes of one token at once all get the one
// answer.
func TestOnceAtTheSameTime(t *testing.T) {
	e := newSite(t, setup{})
	client := e.variant("once", issuer.Policy{Rotation: issuer.RotateOnce})
	first := e.login(client)
	answers := make([]string, 20)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() { answers[i] = e.refresh(client, first.RefreshToken).body })
	}
	all.Wait()
	for _, answer := range answers {
		if answer != answers[0] {
			t.Errorf("%s beside %s", answer, answers[0])
		}
	}
}

// TestFromOnceToAlways: a client that is moved to rotation goes on with the token
// that it has, and theft is found from then on. One that has spent its token
// keeps the access token it got for it.
func TestFromOnceToAlways(t *testing.T) {
	e := newSite(t, setup{})
	client := e.variant("moving", issuer.Policy{Rotation: issuer.RotateOnce})
	spent, fresh := e.login(client), e.login(client)
	last := e.refreshed(client, spent.RefreshToken)
	registered, err := e.db.Client(e.ctx(), client.id)
	e.must(err)
	registered.Rotation = issuer.RotateAlways
	_, err = e.admin.SaveClient(e.ctx(), operator, registered)
	e.must(err)

	e.clock.advance(2 * time.Minute)
	e.refresh(client, spent.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
	e.wantAlive("the access token of the refresh before", last.AccessToken)

	next := e.refreshed(client, fresh.RefreshToken)
	next = e.refreshed(client, next.RefreshToken)
	e.clock.advance(2 * time.Minute)
	e.refresh(client, fresh.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
	e.wantDead("the newest access token after a theft", next.AccessToken)
}

// TestAdditive: every refresh token that was ever given out stays good, and each
// refresh gives a new one. It is had only by name.
func TestAdditive(t *testing.T) {
	e := legacy(t, issuer.Profile{}, issuer.UnsafeAdditive)
	client := e.variant("additive", issuer.Policy{Rotation: issuer.RotateAdditive})
	tokens := []string{e.login(client).RefreshToken}
	for range 4 {
		e.clock.advance(time.Hour)
		for _, token := range tokens {
			tokens = append(tokens, e.refreshed(client, token).RefreshToken)
		}
	}
	seen := map[string]bool{}
	for _, token := range tokens {
		seen[token] = true
	}
	if len(seen) != len(tokens) || e.grant().Generation != uint32(len(tokens)) {
		t.Errorf("%d different tokens of %d, generation %d", len(seen), len(tokens), e.grant().Generation)
	}
	e.clock.advance(15 * 24 * time.Hour)
	e.refresh(client, tokens[0]).wantError(t, 400, oauth.InvalidGrant)
}

// TestAdditiveAtTheSameTime: no refresh of an older token is turned away because
// others are under way.
func TestAdditiveAtTheSameTime(t *testing.T) {
	e := legacy(t, issuer.Profile{}, issuer.UnsafeAdditive)
	client := e.variant("additive", issuer.Policy{Rotation: issuer.RotateAdditive})
	first := e.login(client).RefreshToken
	answers := make([]reply, 16)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() { answers[i] = e.refresh(client, first) })
	}
	all.Wait()
	for _, answer := range answers {
		answer.tokens(t)
	}
}

// TestUnsafeByNameOnly: what is not safe is refused unless it was asked for.
func TestUnsafeByNameOnly(t *testing.T) {
	e := newSite(t, setup{})
	for name, policy := range map[string]issuer.Policy{
		string(issuer.UnsafeAdditive):          {Rotation: issuer.RotateAdditive},
		string(issuer.UnsafePublicWithoutPKCE): {PKCE: issuer.PKCENever},
		string(issuer.UnsafeRedirectPrefix):    {Redirects: issuer.RedirectPrefix},
	} {
		_, err := e.admin.SaveClient(e.ctx(), operator, issuer.Client{ID: "c", Policy: policy})
		wantInError(t, err, issuer.ErrBadClient, name)
		config := issuer.Config{Issuer: e.url, Store: e.db, Keys: e.ring, Policy: policy}
		_, err = issuer.New(config)
		wantInError(t, err, nil, name)
		config.Policy, config.Profiles = issuer.Policy{}, map[string]*issuer.Profile{"old": {Policy: policy}}
		_, err = issuer.New(config)
		wantInError(t, err, nil, name)
		config.Unsafe = []issuer.Compatibility{issuer.Compatibility(name)}
		if _, err := issuer.New(config); err != nil {
			t.Errorf("%s is named and refused: %v", name, err)
		}
	}
	_, err := issuer.New(issuer.Config{Issuer: e.url, Store: e.db, Keys: e.ring, Profiles: map[string]*issuer.Profile{"old": {Implicit: true}}})
	wantInError(t, err, nil, string(issuer.UnsafeImplicit))
	_, err = e.admin.SaveClient(e.ctx(), operator, issuer.Client{ID: "c", Profile: "nowhere"})
	wantInError(t, err, issuer.ErrBadClient, "nowhere")
	_, err = issuer.New(issuer.Config{Issuer: e.url, Store: e.db, Keys: e.ring, Profile: "nowhere"})
	wantInError(t, err, nil, "nowhere")
}

// TestNarrowingForGood: in such a profile a refresh that asks for less narrows
// what can be asked for ever after, and one that asks for more costs nothing.
func TestNarrowingForGood(t *testing.T) {
	e := legacy(t, issuer.Profile{NarrowForGood: true})
	client := party{"narrow", app.secret}
	e.register(client, issuer.Client{GrantTypes: []string{oauth.GrantPassword, oauth.GrantRefreshToken}, Profile: "legacy"})
	first := e.login(client)
	second := e.refreshed(client, first.RefreshToken, "scope", "read")
	if again := e.refreshed(client, first.RefreshToken, "scope", "read"); again.RefreshToken != second.RefreshToken || again.Scope != "read" {
		t.Errorf("the retry got scope %q", again.Scope)
	}
	e.refresh(client, second.RefreshToken, "scope", "read write").wantError(t, 400, oauth.InvalidScope)
	third := e.refreshed(client, second.RefreshToken)
	if second.Scope != "read" || third.Scope != "read" || e.grant().Scope.String() != "read" {
		t.Errorf("scopes %q, %q, %q", second.Scope, third.Scope, e.grant().Scope)
	}
}

// TestPolicyOfAProfile: a client's own setting wins over its profile's, that one
// over the server's, that over what the server's profile has.
func TestPolicyOfAProfile(t *testing.T) {
	hours := func(n int) issuer.Lifetime { return issuer.Lifetime(time.Duration(n) * time.Hour) }
	e := newSite(t, setup{policy: issuer.Policy{RefreshTokenLifetime: hours(300)}, config: func(c *issuer.Config) {
		c.Profiles = map[string]*issuer.Profile{
			"old":    {Policy: issuer.Policy{AccessTokenLifetime: hours(2), RefreshTokenLifetime: hours(200)}},
			"server": {Policy: issuer.Policy{AccessTokenLifetime: hours(3), RefreshTokenLifetime: hours(999)}},
		}
		c.Profile = "server"
	}})
	for name, c := range map[string]struct {
		client          issuer.Client
		access, refresh int64
	}{
		"the server's":         {issuer.Client{}, 3, 300},
		"its profile's":        {issuer.Client{Profile: "old"}, 2, 200},
		"its own":              {issuer.Client{Profile: "old", Policy: issuer.Policy{AccessTokenLifetime: hours(1)}}, 1, 200},
		"the server's by name": {issuer.Client{Profile: "server"}, 3, 300},
		"its own, no profile":  {issuer.Client{Policy: issuer.Policy{RefreshTokenLifetime: hours(5)}}, 3, 5},
	} {
		t.Run(name, func(t *testing.T) {
			c.client.GrantTypes = []string{oauth.GrantPassword, oauth.GrantRefreshToken}
			e.register(party{"c", app.secret}, c.client)
			tokens := e.login(party{"c", app.secret})
			if tokens.ExpiresIn != c.access*3600 || tokens.RefreshTokenExpiresIn != c.refresh*3600 {
				t.Errorf("%d and %d s", tokens.ExpiresIn, tokens.RefreshTokenExpiresIn)
			}
		})
	}
}

// TestWholeSeconds: where a server counts in seconds, a refresh token is good in
// the second in which it expires, and not in the next.
func TestWholeSeconds(t *testing.T) {
	e := legacy(t, issuer.Profile{WholeSeconds: true})
	client := party{"seconds", app.secret}
	e.register(client, issuer.Client{GrantTypes: []string{oauth.GrantPassword, oauth.GrantRefreshToken}, Profile: "legacy"})
	begin := e.clock.now()
	for late, good := range map[time.Duration]bool{0: true, 740 * time.Millisecond: true, 751 * time.Millisecond: false} {
		e.clock.set(begin) // 250 ms into a second
		token := e.login(client).RefreshToken
		e.clock.set(begin.Add(14*24*time.Hour + late))
		if answer := e.refresh(client, token); (answer.status == 200) != good {
			t.Errorf("%v after the lifetime: %s", late, answer.body)
		}
	}
}

// wantInError checks that an error wraps another one, if that is given, and says
// a word.
func wantInError(t testing.TB, err, wraps error, word string) {
	t.Helper()
	if err == nil || wraps != nil && !errors.Is(err, wraps) || !strings.Contains(err.Error(), word) {
		t.Errorf("got %v, want an error that says %q", err, word)
	}
}
