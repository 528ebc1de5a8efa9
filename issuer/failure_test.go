package issuer_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/store/storetest"
)

// fault makes calls of one method fail, before or after they are done.
type fault struct {
	method string // "" for every one
	done   bool   // the write is done all the same
	err    error
	struck atomic.Int32
}

// faulty is a site whose writes fail while a fault is set.
type faulty struct {
	*site
	fault atomic.Pointer[fault]
}

func newFaulty(t testing.TB, s setup) *faulty {
	t.Helper()
	e := &faulty{}
	strike := func(done bool) func(string) error {
		return func(method string) error {
			f := e.fault.Load()
			if f == nil || f.done != done || f.method != "" && f.method != method {
				return nil
			}
			f.struck.Add(1)
			return f.err
		}
	}
	s.wrap = func(store issuer.Store) issuer.Store {
		return storetest.Faulty{Store: store, Before: strike(false), After: strike(true)}
	}
	e.site = newSite(t, s)
	return e
}

// during does something while a fault is set, which must have struck.
func (e *faulty) during(f *fault, do func()) {
	e.t.Helper()
	e.fault.Store(f)
	do()
	e.fault.Store(nil)
	if f.struck.Load() == 0 {
		e.t.Errorf("%s was not called", f.method)
	}
}

// failures are what a store may return, and what a client is told of it.
var failures = map[string]failure{
	"unavailable": {fmt.Errorf("%w: database or disk is full", issuer.ErrUnavailable), 503, oauth.TemporarilyUnavailable},
	"unknown":     {errors.New("disk I/O error"), 500, oauth.ServerError},
	"too late":    {context.DeadlineExceeded, 503, oauth.TemporarilyUnavailable},
}

type failure struct {
	err    error
	status int
	code   string
}

// TestEveryWriteThatDecides fails each write that a token answer rests on. The
// client is told to ask again, and asking again comes out as if nothing had
// happened.
func TestEveryWriteThatDecides(t *testing.T) {
	t.Parallel()
	flows := map[string]struct {
		method string
		policy issuer.Policy
		// prepare makes the request that will fail. again checks what comes of the
		// same request after the failure; done says that the write had been done.
		prepare func(e *faulty, as party) (request func() reply)
		again   func(t *testing.T, e *faulty, as party, r reply, done bool)
	}{
		"password": {
			method:  "CreateGrant",
			prepare: func(e *faulty, as party) func() reply { return e.loginRequest(as) },
			again:   func(t *testing.T, e *faulty, as party, r reply, _ bool) { e.refreshed(as, r.tokens(t).RefreshToken) },
		},
		"refresh": {
			method: "Rotate",
			prepare: func(e *faulty, as party) func() reply {
				token := e.login(as).RefreshToken
				return func() reply { return e.refresh(as, token) }
			},
			again: wantOneChain,
		},
		"narrowed refresh": {
			method: "Rotate",
			prepare: func(e *faulty, as party) func() reply {
				token := e.login(as).RefreshToken
				return func() reply { return e.refresh(as, token, "scope", "read") }
			},
			again: wantOneChain,
		},
		"healing refresh": {
			method: "Rotate",
			prepare: func(e *faulty, as party) func() reply {
				first := e.login(as)
				backup := e.backup()
				token := e.refreshed(as, e.refreshed(as, first.RefreshToken).RefreshToken).RefreshToken
				e.restore(backup)
				return func() reply { return e.refresh(as, token) }
			},
			again: func(t *testing.T, e *faulty, as party, r reply, done bool) {
				wantOneChain(t, e, as, r, done)
				e.wantEvent(issuer.EventGrantHealed, "")
			},
		},
		"healing in place": {
			method: "Rotate",
			policy: issuer.Policy{Rotation: issuer.RotateNever},
			prepare: func(e *faulty, as party) func() reply {
				rotating := e.variant(as.id, issuer.Policy{})
				first := e.login(rotating)
				backup := e.backup()
				token := e.refreshed(rotating, first.RefreshToken).RefreshToken
				e.restore(backup)
				kept := issuer.Client{GrantTypes: []string{oauth.GrantPassword, oauth.GrantRefreshToken}, Policy: issuer.Policy{Rotation: issuer.RotateNever}}
				e.register(as, kept)
				return func() reply { return e.refresh(as, token) }
			},
			again: func(t *testing.T, e *faulty, as party, r reply, _ bool) {
				e.refreshed(as, r.tokens(t).RefreshToken)
				e.wantEvent(issuer.EventGrantHealed, "")
			},
		},
		"reused refresh token": {
			method: "Revoke",
			prepare: func(e *faulty, as party) func() reply {
				token := e.login(as).RefreshToken
				e.refreshed(as, e.refreshed(as, token).RefreshToken)
				return func() reply { return e.refresh(as, token) }
			},
			again: func(t *testing.T, e *faulty, _ party, r reply, _ bool) {
				r.wantError(t, 400, oauth.InvalidGrant)
				e.wantEvent(issuer.EventReuseDetected, issuer.CauseRefreshTokenReused)
			},
		},
		"replayed code": {
			method: "Revoke",
			prepare: func(e *faulty, as party) func() reply {
				code := e.code(as)
				e.redeem(as, code).tokens(e.t)
				return func() reply { return e.redeem(as, code) }
			},
			again: func(t *testing.T, e *faulty, _ party, r reply, _ bool) {
				r.wantError(t, 400, oauth.InvalidGrant)
				e.wantEvent(issuer.EventCodeReplayed, issuer.CauseCodeReplayed)
			},
		},
		"code": {
			method: "Rotate",
			prepare: func(e *faulty, as party) func() reply {
				code := e.code(as)
				return func() reply { return e.redeem(as, code) }
			},
			again: func(t *testing.T, e *faulty, as party, r reply, done bool) {
				if !done {
					e.refreshed(as, r.tokens(t).RefreshToken)
					return
				}
				// A code has no retry window: it was spent, so it convicts.
				r.wantError(t, 400, oauth.InvalidGrant)
				if grant := e.grant(); grant.RevokedCause != issuer.CauseCodeReplayed {
					t.Errorf("grant %+v", grant)
				}
			},
		},
	}
	for name, flow := range flows {
		for kind, failure := range failures {
			for _, done := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/done=%t", name, kind, done), func(t *testing.T) {
					e := newFaulty(t, setup{})
					if flow.policy.Rotation == "" {
						e.variant("variant", issuer.Policy{Format: issuer.FormatOpaque})
					}
					as := e.variant("variant", flow.policy)
					request := flow.prepare(e, as)
					e.during(&fault{method: flow.method, done: done, err: failure.err}, func() {
						for range 3 {
							description := request().wantError(t, failure.status, failure.code)
							if strings.Contains(description, "disk") {
								t.Errorf("the client is told of our disk: %s", description)
							}
							if done {
								break // the next one would find it done
							}
						}
					})
					flow.again(t, e, as, request(), done)
				})
			}
		}
	}
}

// loginRequest is a password grant to be made later.
func (e *site) loginRequest(as party) func() reply {
	return func() reply {
		return e.post(issuer.TokenPath, as, "grant_type", "password", "username", owner, "password", ownerPassword)
	}
}

// wantOneChain checks that a refresh after a failure gave what the failed one
// would have given: one step, and the same tokens however often it is asked.
func wantOneChain(t *testing.T, e *faulty, as party, r reply, _ bool) {
	t.Helper()
	tokens := r.tokens(t)
	grant := e.grant()
	again := e.refreshed(as, tokens.RefreshToken)
	if after := e.grant(); after.Generation != grant.Generation+1 || !after.Live(e.clock.now()) {
		t.Errorf("grant %+v", after)
	}
	e.wantAlive("access token", tokens.AccessToken)
	e.wantAlive("refresh token", again.RefreshToken)
}

// TestAppliedRotationIsAnsweredWithItsTokens compares the tokens that a failed
// but applied step made with those that its retry gives.
func TestAppliedRotationIsAnsweredWithItsTokens(t *testing.T) {
	t.Parallel()
	for name, policy := range formats {
		t.Run(name, func(t *testing.T) {
			e := newFaulty(t, setup{})
			as := e.variant("variant", policy)
			first := e.login(as)
			e.during(&fault{method: "Rotate", done: true, err: failures["unknown"].err}, func() {
				e.refresh(as, first.RefreshToken).wantError(t, 500, oauth.ServerError)
			})
			grant := e.grant()
			if grant.Generation != 2 {
				t.Fatalf("generation %d: the fault did not apply the step", grant.Generation)
			}
			got := e.refreshed(as, first.RefreshToken)
			again := e.refreshed(as, first.RefreshToken)
			if got.AccessToken != again.AccessToken || got.RefreshToken != again.RefreshToken {
				t.Error("the answers differ")
			}
			if seen := e.wantAlive("access token", got.AccessToken); seen.IssuedAt != grant.RotatedAt.Unix() {
				t.Errorf("issued at %d, the step was at %d", seen.IssuedAt, grant.RotatedAt.Unix())
			}
			if after := e.grant(); after.Generation != 2 {
				t.Errorf("generation %d", after.Generation)
			}
		})
	}
}

// TestWritesThatDecideNothing: where only a count or an event is lost, the
// answer stands.
func TestWritesThatDecideNothing(t *testing.T) {
	t.Parallel()
	for kind, failure := range failures {
		for _, done := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/done=%t", kind, done), func(t *testing.T) {
				e := newFaulty(t, setup{})
				tokens := e.login(app)
				next := e.refreshed(app, tokens.RefreshToken)
				e.during(&fault{method: "Retried", done: done, err: failure.err}, func() {
					if again := e.refreshed(app, tokens.RefreshToken); again.RefreshToken != next.RefreshToken {
						t.Error("the retry has another refresh token")
					}
				})
				for name, request := range map[string]func(){
					"other client's token": func() { e.refresh(other, next.RefreshToken).wantError(t, 400, oauth.InvalidGrant) },
					"wrong secret":         func() { e.refresh(party{app.id, "wrong"}, next.RefreshToken).wantError(t, 401, oauth.InvalidClient) },
					"wrong password": func() {
						e.post(issuer.TokenPath, app, "grant_type", "password", "username", owner, "password", "wrong").wantError(t, 400, oauth.InvalidGrant)
					},
				} {
					e.during(&fault{method: "Record", done: done, err: failure.err}, request)
					if !strings.Contains(e.log.String(), "an event was not recorded") {
						t.Errorf("%s: nobody hears that its event is lost", name)
					}
				}
				e.refreshed(app, next.RefreshToken)
			})
		}
	}
}

func TestRevocationThatFails(t *testing.T) {
	t.Parallel()
	for kind, failure := range failures {
		for _, done := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/done=%t", kind, done), func(t *testing.T) {
				e := newFaulty(t, setup{})
				tokens := e.login(app)
				for method, token := range map[string]string{"RevokeAccessToken": tokens.AccessToken, "Revoke": tokens.RefreshToken} {
					e.during(&fault{method: method, done: done, err: failure.err}, func() {
						e.post(issuer.RevokePath, app, "token", token).wantError(t, failure.status, failure.code)
					})
					if r := e.post(issuer.RevokePath, app, "token", token); r.status != 200 {
						t.Errorf("again: %d %s", r.status, r.body)
					}
					e.wantDead(method, token)
				}
				if n := len(e.events(issuer.EventGrantRevoked)) + len(e.events(issuer.EventAccessTokenRevoked)); n != 2 {
					t.Errorf("%d events for two revocations", n)
				}
			})
		}
	}
}

// TestAuthorizationThatFails: the browser carries the error to the client, and
// the owner can be asked again.
func TestAuthorizationThatFails(t *testing.T) {
	t.Parallel()
	for kind, failure := range failures {
		for _, done := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/done=%t", kind, done), func(t *testing.T) {
				e := newFaulty(t, setup{})
				var answer url.Values
				e.during(&fault{method: "CreateGrant", done: done, err: failure.err}, func() { answer = e.authorize(e.authorizationRequest(app)) })
				if answer.Get("error") != failure.code || answer.Get("state") != "af0ifjsldkj" || answer.Get("code") != "" {
					t.Errorf("answer %v", answer)
				}
				e.redeem(app, e.code(app)).tokens(t)
			})
		}
	}
}

// TestClosedDatabase: every endpoint that needs the database says so.
func TestClosedDatabase(t *testing.T) {
	e := newSite(t, setup{})
	tokens, code := e.login(app), e.code(app)
	e.clock.advance(2 * time.Second) // past what is cached of clients
	e.checkNothingLeaked()
	e.must(e.db.Close())
	for name, r := range map[string]reply{
		"refresh":            e.refresh(app, tokens.RefreshToken),
		"narrowed refresh":   e.refresh(app, tokens.RefreshToken, "scope", "read"),
		"code":               e.redeem(app, code),
		"password":           e.loginRequest(app)(),
		"client credentials": e.post(issuer.TokenPath, app, "grant_type", "client_credentials"),
		"revoke":             e.post(issuer.RevokePath, app, "token", tokens.RefreshToken),
		"introspect":         e.post(issuer.IntrospectPath, resources, "token", tokens.AccessToken),
	} {
		t.Run(name, func(t *testing.T) { r.wantError(t, 503, oauth.TemporarilyUnavailable) })
	}
	if r := e.get(issuer.AuthorizePath + "?" + e.authorizationRequest(app).Encode()); r.status != 503 || r.header.Get("Location") != "" {
		t.Errorf("authorization page: %d %s", r.status, r.body)
	}
	for _, path := range []string{issuer.MetadataPath, issuer.JWKSPath} {
		if r := e.get(path); r.status != 200 {
			t.Errorf("%s: %d", path, r.status)
		}
	}
	e.open()
	e.refreshed(app, tokens.RefreshToken)
}

// TestReadsThatFailInTheMiddle: the client is known from the cache, and the
// grant cannot be read.
func TestReadsThatFailInTheMiddle(t *testing.T) {
	e := newSite(t, setup{})
	never := e.variant("never", issuer.Policy{Rotation: issuer.RotateNever})
	tokens, kept := e.login(app), e.login(never)
	e.introspect(tokens.AccessToken)
	e.introspect(kept.AccessToken)
	bare := e.post(issuer.TokenPath, app, "grant_type", "client_credentials").tokens(t)
	e.checkNothingLeaked()
	e.must(e.db.Close())
	for name, r := range map[string]reply{
		"narrowed refresh":          e.refresh(app, tokens.RefreshToken, "scope", "read"),
		"refresh without rotation":  e.refresh(never, kept.RefreshToken),
		"password":                  e.loginRequest(app)(),
		"revoke":                    e.post(issuer.RevokePath, app, "token", tokens.RefreshToken),
		"introspect refresh token":  e.post(issuer.IntrospectPath, resources, "token", tokens.RefreshToken),
		"introspect access token":   e.post(issuer.IntrospectPath, resources, "token", tokens.AccessToken),
		"introspect without a row":  e.post(issuer.IntrospectPath, resources, "token", bare.AccessToken),
		"revoke without a row":      e.post(issuer.RevokePath, app, "token", bare.AccessToken),
		"an unknown client":         e.refresh(party{"unknown", "x"}, tokens.RefreshToken),
		"a client in the raw forms": e.refresh(party{"unknown client", "x"}, tokens.RefreshToken),
	} {
		t.Run(name, func(t *testing.T) { r.wantError(t, 503, oauth.TemporarilyUnavailable) })
	}
	e.open()
}

// noUsers is a store that cannot read users while it is down.
type noUsers struct {
	issuer.Store
	down atomic.Bool
}

func (s *noUsers) User(ctx context.Context, username string) (issuer.User, error) {
	if s.down.Load() {
		return issuer.User{}, issuer.ErrUnavailable
	}
	return s.Store.User(ctx, username)
}

// TestOutageDoesNotThrottle: failures of ours are not failed sign-ins.
func TestOutageDoesNotThrottle(t *testing.T) {
	users := &noUsers{}
	e := newSite(t, setup{wrap: func(s issuer.Store) issuer.Store {
		users.Store = s
		return users
	}})
	users.down.Store(true)
	for range 20 {
		e.loginRequest(app)().wantError(t, 503, oauth.TemporarilyUnavailable)
	}
	users.down.Store(false)
	e.loginRequest(app)().tokens(t)
}
