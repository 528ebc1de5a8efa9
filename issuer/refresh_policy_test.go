package issuer_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/storetest"
)

// tally counts what reaches a store.
type tally struct {
	storetest.Faulty
	reads, writes atomic.Int64
}

func (c *tally) Grant(ctx context.Context, id issuer.GrantID) (issuer.Grant, error) {
	c.reads.Add(1)
	return c.Faulty.Grant(ctx, id)
}

func (c *tally) AccessTokenRevoked(ctx context.Context, jti string) (bool, error) {
	c.reads.Add(1)
	return c.Faulty.AccessTokenRevoked(ctx, jti)
}

func (c *tally) Client(ctx context.Context, id string) (issuer.Client, error) {
	c.reads.Add(1)
	return c.Faulty.Client(ctx, id)
}

func (c *tally) User(ctx context.Context, username string) (issuer.User, error) {
	c.reads.Add(1)
	return c.Faulty.User(ctx, username)
}

// tallied is a site whose store counts.
func tallied(t testing.TB) (*site, *tally) {
	t.Helper()
	count := &tally{}
	e := newSite(t, setup{wrap: func(s issuer.Store) issuer.Store {
		count.Faulty = storetest.Faulty{Store: s, Before: func(string) error {
			count.writes.Add(1)
			return nil
		}}
		return count
	}})
	return e, count
}

// took counts the reads and writes that f causes.
func (c *tally) took(f func()) (reads, writes int64) {
	r, w := c.reads.Load(), c.writes.Load()
	f()
	return c.reads.Load() - r, c.writes.Load() - w
}

// TestWhatARequestCosts holds the promise of one row write per refresh, and of
// none where tokens are not rotated. The clients are cached: the clock stands.
func TestWhatARequestCosts(t *testing.T) {
	e, count := tallied(t)
	never := e.variant("never", issuer.Policy{Rotation: issuer.RotateNever})
	for name, c := range map[string]struct {
		reads, writes int64
		do            func(spent, current oauth.TokenResponse)
	}{
		"refresh":                        {0, 1, func(_, current oauth.TokenResponse) { e.refreshed(app, current.RefreshToken) }},
		"narrowed refresh":               {1, 1, func(_, current oauth.TokenResponse) { e.refreshed(app, current.RefreshToken, "scope", "read") }},
		"retry":                          {0, 2, func(spent, _ oauth.TokenResponse) { e.refreshed(app, spent.RefreshToken) }},
		"introspection of an access one": {2, 0, func(_, current oauth.TokenResponse) { e.introspect(current.AccessToken) }},
		"introspection of a refresh one": {1, 0, func(_, current oauth.TokenResponse) { e.introspect(current.RefreshToken) }},
		"client_credentials": {0, 0, func(oauth.TokenResponse, oauth.TokenResponse) {
			e.post(issuer.TokenPath, app, "grant_type", "client_credentials").tokens(t)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			spent := e.login(app)
			current := e.refreshed(app, spent.RefreshToken)
			e.introspect(current.AccessToken)
			if reads, writes := count.took(func() { c.do(spent, current) }); reads != c.reads || writes != c.writes {
				t.Errorf("%d reads and %d writes, want %d and %d", reads, writes, c.reads, c.writes)
			}
		})
	}
	kept := e.login(never)
	if reads, writes := count.took(func() { e.refreshed(never, kept.RefreshToken) }); reads != 1 || writes != 0 {
		t.Errorf("without rotation %d reads and %d writes, want 1 and 0", reads, writes)
	}
}

// TestRotationNever: the refresh token stays, byte for byte, and nothing is
// written.
func TestRotationNever(t *testing.T) {
	e, count := tallied(t)
	never := e.variant("never", issuer.Policy{Rotation: issuer.RotateNever})
	first := e.login(never)
	begin := e.grant()
	for i := range 5 {
		e.clock.advance(24 * time.Hour)
		var next oauth.TokenResponse
		_, writes := count.took(func() { next = e.refreshed(never, first.RefreshToken, "scope", "read") })
		if writes != 0 {
			t.Errorf("%d writes", writes)
		}
		if next.RefreshToken != first.RefreshToken || next.AccessToken == first.AccessToken || next.Scope != "read" || next.ExpiresIn != 3600 {
			t.Fatalf("answer %+v", next)
		}
		if want := first.RefreshTokenExpiresIn - int64(i+1)*86400; next.RefreshTokenExpiresIn != want {
			t.Errorf("refresh token expires in %d s, want %d: its lifetime does not slide", next.RefreshTokenExpiresIn, want)
		}
		if seen := e.wantAlive("access token", next.AccessToken); seen.IssuedAt != e.clock.now().Unix() || seen.ExpiresAt != e.clock.now().Add(time.Hour).Unix() {
			t.Errorf("issued %d, expires %d", seen.IssuedAt, seen.ExpiresAt)
		}
	}
	if after := e.grant(); after.Generation != begin.Generation || !after.RotatedAt.Equal(begin.RotatedAt) {
		t.Errorf("the row moved: %+v", after)
	}
	e.refresh(never, first.RefreshToken, "scope", "admin").wantError(t, 400, oauth.InvalidScope)
	e.refresh(other, first.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
	e.clock.set(begin.ExpiresAt)
	e.refresh(never, first.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
}

func TestRotationOfPublicClients(t *testing.T) {
	e := newSite(t, setup{policy: issuer.Policy{Rotation: issuer.RotatePublicClients}})
	native := e.register(party{"native", ""}, issuer.Client{GrantTypes: []string{oauth.GrantPassword, oauth.GrantRefreshToken}})
	confidential, bare := e.login(app), e.login(native)
	if next := e.refreshed(app, confidential.RefreshToken); next.RefreshToken != confidential.RefreshToken {
		t.Error("a confidential client's token was rotated")
	}
	if next := e.refreshed(native, bare.RefreshToken); next.RefreshToken == bare.RefreshToken {
		t.Error("a public client's token was not rotated")
	}
}

// TestPolicyChange: a client whose tokens were rotated is set to never, and
// back.
func TestPolicyChange(t *testing.T) {
	e := newSite(t, setup{})
	client := func(rotation issuer.RotationPolicy) {
		e.register(app, issuer.Client{GrantTypes: []string{oauth.GrantPassword, oauth.GrantRefreshToken}, Policy: issuer.Policy{Rotation: rotation}})
	}
	client(issuer.RotateAlways)
	first := e.login(app)
	second := e.refreshed(app, first.RefreshToken)
	client(issuer.RotateNever)
	_, err := e.admin.RotateKeys(e.ctx(), operator, 0)
	e.must(err)
	if again := e.refreshed(app, first.RefreshToken); again.RefreshToken != second.RefreshToken || again.AccessToken != second.AccessToken {
		t.Error("a retry under another policy was answered with other tokens")
	}
	if kept := e.refreshed(app, second.RefreshToken); kept.RefreshToken != second.RefreshToken {
		t.Error("the refresh token was rotated")
	}
	client(issuer.RotateAlways)
	third := e.refreshed(app, second.RefreshToken)
	client(issuer.RotateNever)
	e.clock.advance(time.Hour)
	e.refresh(app, second.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
	e.wantConvicted(t, app, []oauth.TokenResponse{first, second, third})
}

// TestRefreshExpiry is about the exact moment at which a refresh token ends.
func TestRefreshExpiry(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	lifetime := func(d time.Duration) issuer.Lifetime { return issuer.Lifetime(d) }
	for name, c := range map[string]struct {
		policy issuer.Policy
		steps  []time.Duration // between refreshes that are good
		after  time.Duration   // until one that is not, and good a millisecond earlier
		cause  issuer.Cause
	}{
		"idle":                  {after: 14 * day, cause: issuer.CauseRefreshTokenExpired},
		"idle slides":           {steps: []time.Duration{13 * day, 13 * day, 14*day - time.Millisecond}, after: 14 * day, cause: issuer.CauseRefreshTokenExpired},
		"idle per client":       {policy: issuer.Policy{RefreshTokenLifetime: lifetime(time.Hour)}, steps: []time.Duration{time.Hour - 1e6}, after: time.Hour, cause: issuer.CauseRefreshTokenExpired},
		"absolute":              {policy: issuer.Policy{GrantLifetime: lifetime(30 * day)}, steps: []time.Duration{13 * day, 13 * day}, after: 4 * day, cause: issuer.CauseGrantEnded},
		"absolute without idle": {policy: issuer.Policy{GrantLifetime: lifetime(day), RefreshTokenLifetime: issuer.None}, steps: []time.Duration{time.Hour}, after: 23 * time.Hour, cause: issuer.CauseGrantEnded},
		"absolute from start":   {policy: issuer.Policy{GrantLifetime: lifetime(2 * time.Hour)}, after: 2 * time.Hour, cause: issuer.CauseGrantEnded},
	} {
		for _, rotation := range []issuer.RotationPolicy{issuer.RotateAlways, issuer.RotateNever} {
			if rotation == issuer.RotateNever && len(c.steps) > 0 && c.cause != issuer.CauseGrantEnded {
				continue // nothing slides
			}
			t.Run(name+" "+string(rotation), func(t *testing.T) {
				if rotation == issuer.RotateNever && name == "absolute" {
					c.steps, c.after, c.policy.RefreshTokenLifetime = nil, 30*day, issuer.None
				}
				e := newSite(t, setup{})
				c.policy.Rotation = rotation
				as := e.variant("variant", c.policy)
				early, late := e.login(as), e.login(as)
				for _, step := range c.steps {
					e.clock.advance(step)
					early, late = e.refreshed(as, early.RefreshToken), e.refreshed(as, late.RefreshToken)
				}
				e.clock.advance(c.after - time.Millisecond)
				last := e.refreshed(as, early.RefreshToken)
				e.wantAlive("refresh token", late.RefreshToken)
				e.clock.advance(time.Millisecond)
				e.refresh(as, late.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
				e.refresh(as, late.RefreshToken, "scope", "read").wantError(t, 400, oauth.InvalidGrant)
				e.wantDead("refresh token", late.RefreshToken)
				e.wantEvent(issuer.EventGrantRefused, c.cause)
				if c.cause == issuer.CauseGrantEnded { // no access token outlives the grant
					e.wantDead("access token", last.AccessToken)
				}
			})
		}
	}
}

// TestLifetimesAreCappedAtTheEnd: what the client is told near the end of a
// grant.
func TestLifetimesAreCappedAtTheEnd(t *testing.T) {
	e := newSite(t, setup{})
	as := e.variant("variant", issuer.Policy{GrantLifetime: issuer.Lifetime(2 * time.Hour), AccessTokenLifetime: issuer.Lifetime(90 * time.Minute)})
	first := e.login(as)
	if first.ExpiresIn != 90*60 || first.RefreshTokenExpiresIn != 2*3600 {
		t.Errorf("expires in %d and %d", first.ExpiresIn, first.RefreshTokenExpiresIn)
	}
	e.clock.advance(time.Hour)
	second := e.refreshed(as, first.RefreshToken)
	if second.ExpiresIn != 3600 || second.RefreshTokenExpiresIn != 3600 {
		t.Errorf("expires in %d and %d", second.ExpiresIn, second.RefreshTokenExpiresIn)
	}
}

// TestKeptTokensDoNotOutliveTheirRow: without rotation the row does not know of
// later access tokens, and is purged when the refresh token has expired. None
// may be promised for longer.
func TestKeptTokensDoNotOutliveTheirRow(t *testing.T) {
	e := newSite(t, setup{})
	never := e.variant("never", issuer.Policy{Rotation: issuer.RotateNever, RefreshTokenLifetime: issuer.Lifetime(2 * time.Hour)})
	first := e.login(never)
	e.clock.advance(2*time.Hour - time.Minute)
	last := e.refreshed(never, first.RefreshToken)
	e.clock.advance(time.Duration(last.ExpiresIn-1) * time.Second)
	_, err := e.admin.Purge(e.ctx())
	e.must(err)
	e.wantAlive("an access token within its expires_in", last.AccessToken)
}

// TestNarrowing: a narrowed access token never narrows the refresh token (RFC
// 6749 section 6).
func TestNarrowing(t *testing.T) {
	t.Parallel()
	for name, policy := range formats {
		if policy.SigningAlg == secret.RS256 {
			continue // as ES256 here, and slow to make a key for
		}
		for _, rotation := range []issuer.RotationPolicy{issuer.RotateAlways, issuer.RotateNever} {
			t.Run(name+" "+string(rotation), func(t *testing.T) {
				e := newSite(t, setup{})
				policy.Rotation = rotation
				as := e.variant("variant", policy)
				tokens := e.login(as)
				for _, ask := range []struct{ scope, want string }{
					{"read", "read"}, {"", "read write"}, {"write", "write"}, {"write read", "write read"}, {"read  read", "read"}, {"", "read write"},
				} {
					e.clock.advance(time.Minute)
					tokens = e.refreshed(as, tokens.RefreshToken, "scope", ask.scope)
					if tokens.Scope != ask.want {
						t.Errorf("asked %q, got %q, want %q", ask.scope, tokens.Scope, ask.want)
					}
					if seen := e.wantAlive("access token", tokens.AccessToken); seen.Scope != ask.want {
						t.Errorf("access token has scope %q, want %q", seen.Scope, ask.want)
					}
					if seen := e.wantAlive("refresh token", tokens.RefreshToken); seen.Scope != "read write" {
						t.Errorf("refresh token has scope %q", seen.Scope)
					}
				}
			})
		}
	}
}

// TestWideningLeavesTheTokenUnspent: a scope that cannot be had costs nothing.
func TestWideningLeavesTheTokenUnspent(t *testing.T) {
	e := newSite(t, setup{})
	tokens := e.login(app, "scope", "read")
	for _, scope := range []string{"write", "read write", "admin", "read admin", "READ"} {
		e.refresh(app, tokens.RefreshToken, "scope", scope).wantError(t, 400, oauth.InvalidScope)
	}
	if grant := e.grant(); grant.Generation != 1 {
		t.Errorf("generation %d", grant.Generation)
	}
	second := e.refreshed(app, tokens.RefreshToken)
	if second.Scope != "read" {
		t.Errorf("scope %q", second.Scope)
	}
	// A retry that asks for more is refused as well, and changes nothing.
	e.refresh(app, tokens.RefreshToken, "scope", "read write").wantError(t, 400, oauth.InvalidScope)
	e.refreshed(app, second.RefreshToken)
	// A thief is not saved by asking for too much.
	e.refresh(app, tokens.RefreshToken, "scope", "read write").wantError(t, 400, oauth.InvalidGrant)
	e.wantEvent(issuer.EventReuseDetected, issuer.CauseRefreshTokenReused)
}
