package issuer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

func TestSaveClient(t *testing.T) {
	e := newSite(t, setup{})
	saved, err := e.admin.SaveClient(e.ctx(), operator, issuer.Client{ID: "plain", Secrets: []secret.Verifier{chosen()}})
	e.must(err)
	if !slices.Equal(saved.GrantTypes, []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken}) || !saved.CreatedAt.Equal(e.clock.now()) {
		t.Errorf("saved %+v", saved)
	}
	event := e.events(issuer.EventClientSaved)[0]
	if event.ClientID != "plain" || event.Actor != "operator" || event.Address != operator.Address {
		t.Errorf("event %+v", event)
	}
	e.clock.advance(time.Hour)
	again, err := e.admin.SaveClient(e.ctx(), operator, issuer.Client{ID: "plain", Name: "Plain", GrantTypes: []string{oauth.GrantPassword}})
	e.must(err)
	if !again.CreatedAt.Equal(saved.CreatedAt) || !again.UpdatedAt.Equal(e.clock.now()) || again.DisplayName() != "Plain" || saved.DisplayName() != "plain" {
		t.Errorf("saved again %+v", again)
	}
	before := len(e.events(""))
	for name, bad := range map[string]issuer.Client{
		"no id":        {},
		"grant type":   {ID: "x", GrantTypes: []string{"device_code"}},
		"redirect URI": {ID: "x", RedirectURIs: []string{"http://evil.example/"}},
	} {
		if _, err := e.admin.SaveClient(e.ctx(), operator, bad); !errors.Is(err, issuer.ErrBadClient) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(e.events("")); n != before {
		t.Errorf("%d events came of refused registrations", n-before)
	}
}

// TestChangesHoldAtOnce: what was cached of a client is forgotten.
func TestChangesHoldAtOnce(t *testing.T) {
	e := newSite(t, setup{})
	e.login(app)
	client, err := e.db.Client(e.ctx(), app.id)
	e.must(err)
	client.Policy.AccessTokenLifetime = issuer.Lifetime(time.Minute)
	_, err = e.admin.SaveClient(e.ctx(), operator, client)
	e.must(err)
	if tokens := e.login(app); tokens.ExpiresIn != 60 {
		t.Errorf("expires in %d", tokens.ExpiresIn)
	}
}

// TestDeleteClient revokes its grants, in pages.
func TestDeleteClient(t *testing.T) {
	t.Parallel()
	e := newSite(t, setup{})
	var last oauth.TokenResponse
	for range 120 {
		last = e.login(app)
	}
	bystander := e.login(other)
	e.must(e.admin.DeleteClient(e.ctx(), operator, app.id))
	for _, grant := range e.grants() {
		if dead := !grant.RevokedAt.IsZero(); dead != (grant.ClientID == app.id) || dead && grant.RevokedCause != issuer.CauseClientDeleted {
			t.Fatalf("grant %+v", grant)
		}
	}
	event := e.events(issuer.EventGrantRevoked)[0]
	if event.Actor != "operator" || event.Cause != issuer.CauseClientDeleted || event.ClientID != app.id || event.Subject != owner {
		t.Errorf("event %+v", event)
	}
	if event := e.wantEvent(issuer.EventClientDeleted, ""); event.ClientID != app.id || event.Actor != "operator" {
		t.Errorf("event %+v", event)
	}
	e.wantDead("access token", last.AccessToken)
	e.refresh(app, last.RefreshToken).wantError(t, 401, oauth.InvalidClient)
	e.refreshed(other, bystander.RefreshToken)
	if err := e.admin.DeleteClient(e.ctx(), operator, app.id); !errors.Is(err, issuer.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	// Whoever registers the id anew does not inherit the old grants.
	e.register(app, issuer.Client{GrantTypes: []string{oauth.GrantPassword, oauth.GrantRefreshToken}})
	e.refresh(app, last.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
}

func TestUsers(t *testing.T) {
	e := newSite(t, setup{})
	user, err := e.admin.SaveUser(e.ctx(), operator, issuer.User{Username: "ada", Password: chosen()})
	e.must(err)
	e.clock.advance(time.Hour)
	again, err := e.admin.SaveUser(e.ctx(), operator, issuer.User{Username: "ada", Password: secret.NewVerifier(secret.NewText(ownerPassword))})
	e.must(err)
	if !again.CreatedAt.Equal(user.CreatedAt) || !again.UpdatedAt.Equal(e.clock.now()) {
		t.Errorf("saved %+v, then %+v", user, again)
	}
	if event := e.events(issuer.EventUserSaved)[0]; event.Subject != "ada" || event.Actor != "operator" {
		t.Errorf("event %+v", event)
	}
	for name, bad := range map[string]issuer.User{"no name": {Password: chosen()}, "no password": {Username: "x"}, "control": {Username: "a\tb", Password: chosen()}} {
		if _, err := e.admin.SaveUser(e.ctx(), operator, bad); !errors.Is(err, issuer.ErrBadUser) {
			t.Errorf("%s: %v", name, err)
		}
	}
	tokens := e.post(issuer.TokenPath, app, "grant_type", "password", "username", "ada", "password", ownerPassword).tokens(t)
	bystander := e.login(app)
	e.must(e.admin.DeleteUser(e.ctx(), operator, "ada"))
	e.wantDead("access token", tokens.AccessToken)
	e.refresh(app, tokens.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
	e.wantAlive("another owner's", bystander.AccessToken)
	e.wantEvent(issuer.EventGrantRevoked, issuer.CauseUserDeleted)
	if event := e.wantEvent(issuer.EventUserDeleted, ""); event.Subject != "ada" {
		t.Errorf("event %+v", event)
	}
	e.post(issuer.TokenPath, app, "grant_type", "password", "username", "ada", "password", ownerPassword).wantError(t, 400, oauth.InvalidGrant)
	if err := e.admin.DeleteUser(e.ctx(), operator, "ada"); !errors.Is(err, issuer.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
}

func TestRevokeByOperator(t *testing.T) {
	e := newSite(t, setup{})
	tokens := e.login(app)
	id := e.grant().ID
	e.must(e.admin.RevokeGrant(e.ctx(), operator, id))
	e.must(e.admin.RevokeGrant(e.ctx(), operator, id)) // again: nothing more happens
	e.wantDead("access token", tokens.AccessToken)
	if event := e.wantEvent(issuer.EventGrantRevoked, issuer.CauseOperatorRequest); event.Actor != "operator" || event.Address != operator.Address || event.Grant != id {
		t.Errorf("event %+v", event)
	}
	if err := e.admin.RevokeGrant(e.ctx(), operator, issuer.NewGrantID()); !errors.Is(err, issuer.ErrNotFound) {
		t.Errorf("a grant that is none: %v", err)
	}
	e.login(app)
	e.login(app)
	n, err := e.admin.RevokeGrants(e.ctx(), operator, issuer.GrantFilter{ClientID: app.id, Subject: owner}, issuer.CauseRestore)
	if err != nil || n != 2 {
		t.Errorf("%d revoked, %v", n, err)
	}
	if n, err := e.admin.RevokeGrants(e.ctx(), operator, issuer.GrantFilter{ClientID: other.id}, issuer.CauseRestore); err != nil || n != 0 {
		t.Errorf("%d revoked, %v", n, err)
	}
}

// ghosts lists a grant that is purged before it can be revoked.
type ghosts struct {
	issuer.Lists
	ghost issuer.Grant
}

func (l *ghosts) Grants(ctx context.Context, filter issuer.GrantFilter) ([]issuer.Grant, error) {
	grants, err := l.Lists.Grants(ctx, filter)
	if filter.After.IsZero() {
		grants = append([]issuer.Grant{l.ghost}, grants...)
	}
	return grants, err
}

// TestRevokeAmongPurged: a grant that vanishes meanwhile does not save others.
func TestRevokeAmongPurged(t *testing.T) {
	e := newSite(t, setup{})
	e.login(app)
	admin := issuer.NewAdmin(e.server, &ghosts{e.db, issuer.Grant{ID: issuer.NewGrantID(), ClientID: app.id}})
	n, err := admin.RevokeGrants(e.ctx(), operator, issuer.GrantFilter{ClientID: app.id}, issuer.CauseOperatorRequest)
	if err != nil || n != 1 {
		t.Errorf("%d revoked, %v", n, err)
	}
	e.must(admin.DeleteClient(e.ctx(), operator, app.id))
}

// TestAdministrationThatFails: after a failure the same command finishes the
// work, also where the write had been done and its answer was lost.
func TestAdministrationThatFails(t *testing.T) {
	t.Parallel()
	user := issuer.User{Username: "ada", Password: chosen()}
	client := issuer.Client{ID: "new", Secrets: []secret.Verifier{chosen()}}
	for method, command := range map[string]func(e *faulty) error{
		"PutClient":    func(e *faulty) error { _, err := e.admin.SaveClient(e.ctx(), operator, client); return err },
		"PutUser":      func(e *faulty) error { _, err := e.admin.SaveUser(e.ctx(), operator, user); return err },
		"DeleteClient": func(e *faulty) error { return e.admin.DeleteClient(e.ctx(), operator, app.id) },
		"DeleteUser":   func(e *faulty) error { return e.admin.DeleteUser(e.ctx(), operator, owner) },
		"Revoke":       func(e *faulty) error { return e.admin.DeleteClient(e.ctx(), operator, app.id) },
		"AddKey":       func(e *faulty) error { _, err := e.admin.RotateKeys(e.ctx(), operator, 0); return err },
		"DeleteKey":    func(e *faulty) error { return e.admin.DeleteKey(e.ctx(), operator, 1) },
		"Record":       func(e *faulty) error { _, err := e.admin.RotateKeys(e.ctx(), operator, 0); return err },
		"Purge":        func(e *faulty) error { _, err := e.admin.Purge(e.ctx()); return err },
	} {
		for _, done := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/done=%t", method, done), func(t *testing.T) {
				e := newFaulty(t, setup{})
				if method == "DeleteKey" {
					_, err := e.admin.RotateKeys(e.ctx(), operator, 0)
					e.must(err)
				}
				tokens := e.login(app)
				e.during(&fault{method: method, done: done, err: failures["unknown"].err}, func() {
					if err := command(e); !errors.Is(err, failures["unknown"].err) {
						t.Errorf("error %v", err)
					}
				})
				if err := command(e); err != nil && !(done && errors.Is(err, issuer.ErrNotFound)) {
					t.Errorf("again: %v", err)
				}
				if deletes := method == "DeleteClient" || method == "DeleteUser" || method == "Revoke"; deletes {
					if grant := e.grant(); grant.RevokedAt.IsZero() {
						t.Errorf("the grant of what was deleted lives: %+v", grant)
					}
					e.wantDead("access token", tokens.AccessToken)
				}
			})
		}
	}
}

func TestKeys(t *testing.T) {
	e := newSite(t, setup{})
	record, err := e.admin.RotateKeys(e.ctx(), operator, time.Hour)
	e.must(err)
	if record.ID != 2 || record.SealedRSA != nil || !record.ActiveFrom.Equal(e.clock.now().Add(time.Hour)) || len(e.admin.Keys()) != 2 {
		t.Errorf("record %+v", record)
	}
	if event := e.wantEvent(issuer.EventKeyRotated, ""); event.Detail != "new key 2" || event.Actor != "operator" {
		t.Errorf("event %+v", event)
	}
	for _, id := range []uint32{1, 2, 3} {
		if err := e.admin.DeleteKey(e.ctx(), operator, id); !errors.Is(err, secret.ErrCurrentKey) {
			t.Errorf("key %d was deleted: %v", id, err)
		}
	}
	e.clock.advance(time.Hour)
	e.must(e.admin.DeleteKey(e.ctx(), operator, 1))
	if event := e.wantEvent(issuer.EventKeyDeleted, ""); event.Detail != "key 1" || len(e.admin.Keys()) != 1 {
		t.Errorf("event %+v", event)
	}
}

// TestRS256IsMadeWhereItIsNeeded: the first client that wants it, or the server,
// gets a key that can sign it, and key rotation keeps that.
func TestRS256IsMadeWhereItIsNeeded(t *testing.T) {
	e := newSite(t, setup{policy: issuer.Policy{SigningAlg: secret.RS256}})
	if records := e.ring.Records(); len(records) != 2 || records[1].SealedRSA == nil {
		t.Fatalf("keys %+v", records)
	}
	as := e.variant("rs", issuer.Policy{})
	if alg := decodeSegment(t, e.login(as).AccessToken, 0)["alg"]; alg != "RS256" {
		t.Errorf("alg %v", alg)
	}
	e.variant("rs2", issuer.Policy{SigningAlg: secret.RS256})
	if n := len(e.ring.Records()); n != 2 {
		t.Errorf("%d keys: the second client made another", n)
	}
	record, err := e.admin.RotateKeys(e.ctx(), operator, 0)
	e.must(err)
	if record.SealedRSA == nil {
		t.Error("after a rotation nothing signs RS256")
	}
	e.login(as)
}

// latecomer is a store in which another process adds a key first.
type latecomer struct {
	issuer.Store
	first func()
}

func (s *latecomer) AddKey(ctx context.Context, record secret.KeyRecord) error {
	if first := s.first; first != nil {
		s.first = nil
		first()
	}
	return s.Store.AddKey(ctx, record)
}

// TestTwoReplicasStartWithRS256: both find that a key is missing, and one of
// them is faster.
func TestTwoReplicasStartWithRS256(t *testing.T) {
	t.Parallel()
	for name, withRSA := range map[string]bool{"which is the one": true, "which is another": false} {
		t.Run(name, func(t *testing.T) {
			e := newSite(t, setup{})
			late := &latecomer{Store: e.db}
			ring, err := secret.OpenRing(e.ctx(), e.root, late, e.clock.now, false)
			e.must(err)
			late.first = func() {
				faster, err := secret.OpenRing(e.ctx(), e.root, e.db, e.clock.now, false)
				e.must(err)
				_, err = faster.Rotate(e.ctx(), 0, withRSA)
				e.must(err)
			}
			_, err = issuer.New(issuer.Config{Issuer: e.url, Store: late, Keys: ring, Now: e.clock.now, Policy: issuer.Policy{SigningAlg: secret.RS256}})
			e.must(err)
			if _, err := ring.Current().Signer(secret.RS256); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestStatsAndLists(t *testing.T) {
	e := newSite(t, setup{})
	e.login(app)
	stats, err := e.admin.Lists().Stats(e.ctx())
	e.must(err)
	if stats.Rows["grants"] != 1 || stats.Rows["clients"] != 4 || stats.DatabaseBytes == 0 {
		t.Errorf("stats %+v", stats)
	}
}
