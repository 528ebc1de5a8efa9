package issuer_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// TestRestoredBackupLogsNobodyOut: the client's token is ahead of its row.
func TestRestoredBackupLogsNobodyOut(t *testing.T) {
	t.Parallel()
	for _, ahead := range []int{1, 2, 3, 40} {
		t.Run(fmt.Sprint(ahead), func(t *testing.T) {
			e := newSite(t, setup{})
			chain := []oauth.TokenResponse{e.login(app)}
			chain = append(chain, e.refreshed(app, chain[0].RefreshToken))
			backup := e.backup()
			for range ahead {
				e.clock.advance(time.Minute)
				chain = append(chain, e.refreshed(app, chain[len(chain)-1].RefreshToken))
			}
			e.restore(backup)
			last := chain[len(chain)-1]
			e.wantAlive("the client's refresh token", last.RefreshToken)
			healed := e.refreshed(app, last.RefreshToken)
			if grant := e.grant(); grant.Generation != uint32(len(chain)+1) || !grant.Live(e.clock.now()) {
				t.Errorf("grant %+v", grant)
			}
			event := e.wantEvent(issuer.EventGrantHealed, "")
			if event.ClientID != app.id || event.Actor != "client:app" || event.Address != clientAddress(t, e) || event.Grant != e.grant().ID ||
				!strings.Contains(event.Detail, fmt.Sprintf("at generation 2, the client at %d", len(chain))) {
				t.Errorf("event %+v", event)
			}
			if !strings.Contains(e.log.String(), "level=ERROR msg=\"grant healed") {
				t.Error("nothing in the log raises an alarm")
			}
			// A lost answer after the healing is given again, as ever.
			if again := e.refreshed(app, last.RefreshToken); again.RefreshToken != healed.RefreshToken || again.AccessToken != healed.AccessToken {
				t.Error("the retry of a healing refresh was answered with other tokens")
			}
			if n := len(e.events(issuer.EventGrantHealed)); n != 1 {
				t.Errorf("%d healings", n)
			}
			// Theft is still found: an older token convicts.
			e.refresh(app, chain[len(chain)-2].RefreshToken).wantError(t, 400, oauth.InvalidGrant)
			e.wantEvent(issuer.EventReuseDetected, issuer.CauseRefreshTokenReused)
			e.wantConvicted(t, app, append(chain[1:], healed))
		})
	}
}

// TestThiefComesBeforeTheClientAfterRestore: the older token heals the row, and
// whoever comes second convicts or heals further.
func TestThiefComesBeforeTheClientAfterRestore(t *testing.T) {
	e := newSite(t, setup{})
	first := e.login(app)
	backup := e.backup()
	second := e.refreshed(app, first.RefreshToken)
	third := e.refreshed(app, second.RefreshToken)
	fourth := e.refreshed(app, third.RefreshToken)
	e.restore(backup)
	thief := e.refreshed(app, second.RefreshToken) // generation 2 heals to 3
	if thief.RefreshToken != third.RefreshToken {
		t.Error("generation 3 has another refresh token than before the restore")
	}
	client := e.refreshed(app, fourth.RefreshToken) // 4 heals to 5
	e.refresh(app, thief.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
	e.wantConvicted(t, app, []oauth.TokenResponse{second, third, fourth, thief, client})
	if n := len(e.events(issuer.EventGrantHealed)); n != 2 {
		t.Errorf("%d healings, want 2", n)
	}
}

// TestHealingChecksWhatARefreshChecks: a token ahead of its row is still bound
// to its client, its scope and its lifetime.
func TestHealingChecksWhatARefreshChecks(t *testing.T) {
	e := newSite(t, setup{})
	chain := []oauth.TokenResponse{e.login(app, "scope", "read")}
	backup := e.backup()
	for range 3 {
		chain = append(chain, e.refreshed(app, chain[len(chain)-1].RefreshToken))
	}
	e.restore(backup)
	last := chain[3].RefreshToken
	e.refresh(other, last).wantError(t, 400, oauth.InvalidGrant)
	e.refresh(app, last, "scope", "write").wantError(t, 400, oauth.InvalidScope)
	if grant := e.grant(); grant.Generation != 1 {
		t.Errorf("a refused request healed the row to generation %d", grant.Generation)
	}
	healed := e.refreshed(app, last, "scope", "read")
	e.must(e.admin.RevokeGrant(e.ctx(), operator, e.grant().ID))
	e.refresh(app, healed.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
	e.restore(backup)
	e.clock.advance(14 * 24 * time.Hour)
	e.refresh(app, healed.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
}

// TestHealingWithoutRotation: a token that is kept, ahead of its row because
// the policy changed after the backup.
func TestHealingWithoutRotation(t *testing.T) {
	e := newSite(t, setup{})
	first := e.login(app)
	backup := e.backup()
	third := e.refreshed(app, e.refreshed(app, first.RefreshToken).RefreshToken)
	e.restore(backup)
	e.register(app, issuer.Client{GrantTypes: []string{oauth.GrantPassword, oauth.GrantRefreshToken}, Policy: issuer.Policy{Rotation: issuer.RotateNever}})
	for range 2 {
		if kept := e.refreshed(app, third.RefreshToken); kept.RefreshToken != third.RefreshToken {
			t.Error("the refresh token was rotated")
		}
	}
	e.wantEvent(issuer.EventGrantHealed, "")
	if grant := e.grant(); grant.Generation != 3 {
		t.Errorf("generation %d, want the token's own", grant.Generation)
	}
	e.clock.advance(2 * time.Minute)
	e.refresh(app, first.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
	e.wantEvent(issuer.EventReuseDetected, issuer.CauseRefreshTokenReused)
}

// TestConcurrentHealing: many processes of one client come back at once.
func TestConcurrentHealing(t *testing.T) {
	e := newSite(t, setup{})
	first := e.login(app)
	backup := e.backup()
	last := e.refreshed(app, e.refreshed(app, first.RefreshToken).RefreshToken)
	e.restore(backup)
	got := e.concurrently(20, func(int) reply { return e.refresh(app, last.RefreshToken) })
	for _, r := range got {
		if r.tokens(t).RefreshToken != got[0].tokens(t).RefreshToken {
			t.Error("two healed answers differ")
		}
	}
	e.wantEvent(issuer.EventGrantHealed, "")
	if grant := e.grant(); grant.Generation != 4 {
		t.Errorf("generation %d", grant.Generation)
	}
}

func TestKeysRotateBetweenRefreshes(t *testing.T) {
	t.Parallel()
	for name, policy := range formats {
		t.Run(name, func(t *testing.T) {
			e := newSite(t, setup{})
			as := e.variant("variant", policy)
			rotate := func() uint32 {
				record, err := e.admin.RotateKeys(e.ctx(), operator, 0)
				e.must(err)
				return record.ID
			}
			first := e.login(as)
			lost := e.refreshed(as, first.RefreshToken)
			rotate()
			if again := e.refreshed(as, first.RefreshToken); again.RefreshToken != lost.RefreshToken || again.AccessToken != lost.AccessToken {
				t.Error("a retry across a key rotation was answered with other tokens")
			}
			third := e.refreshed(as, lost.RefreshToken)
			rotate()
			fourth := e.refreshed(as, third.RefreshToken)
			for _, tokens := range []oauth.TokenResponse{first, lost, third, fourth} {
				e.wantAlive("access token", tokens.AccessToken)
			}
			e.clock.advance(time.Hour)
			e.refresh(as, first.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
			e.wantEvent(issuer.EventReuseDetected, issuer.CauseRefreshTokenReused)
		})
	}
}

func TestDeletedKeyRefuses(t *testing.T) {
	e, count := tallied(t)
	jwt := e.variant("jwt", issuer.Policy{})
	opaque, signed := e.login(app), e.login(jwt)
	_, err := e.admin.RotateKeys(e.ctx(), operator, 0)
	e.must(err)
	fresh := e.login(app)
	e.must(e.admin.DeleteKey(e.ctx(), operator, 1))
	e.login(jwt) // the clients are in the cache
	reads, writes := count.took(func() {
		e.refresh(app, opaque.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
		e.refresh(jwt, signed.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
	})
	if reads+writes != 0 {
		t.Errorf("a token of a deleted key cost %d reads and %d writes", reads, writes)
	}
	for _, token := range []string{opaque.AccessToken, opaque.RefreshToken, signed.AccessToken, signed.RefreshToken} {
		e.wantDead("a token of a deleted key", token)
	}
	e.refreshed(app, fresh.RefreshToken)
}

// TestRetryUnderADeletedKey: the presented token is good, but the key of its
// successor, which it would be answered with, was deleted.
func TestRetryUnderADeletedKey(t *testing.T) {
	for _, format := range []issuer.TokenFormat{issuer.FormatOpaque, issuer.FormatJWT} {
		t.Run(string(format), func(t *testing.T) {
			e := newSite(t, setup{})
			as := e.variant("variant", issuer.Policy{Format: format})
			first := e.login(as)
			for range 2 {
				_, err := e.admin.RotateKeys(e.ctx(), operator, 0)
				e.must(err)
				if len(e.admin.Keys()) == 2 {
					e.refreshed(as, first.RefreshToken)
				}
			}
			e.must(e.admin.DeleteKey(e.ctx(), operator, 2))
			e.refresh(as, first.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
		})
	}
}

// TestRestoreBeforeAKeyRotation: the client's token names a key that the
// restored database has never heard of. Only we can have made it.
func TestRestoreBeforeAKeyRotation(t *testing.T) {
	t.Parallel()
	for name, policy := range formats {
		t.Run(name, func(t *testing.T) {
			e := newSite(t, setup{})
			as := e.variant("variant", policy)
			first := e.login(as)
			backup, before := e.backup(), len(e.ring.Records())
			_, err := e.admin.RotateKeys(e.ctx(), operator, 0)
			e.must(err)
			second := e.refreshed(as, first.RefreshToken)
			e.restore(backup)
			if n := len(e.ring.Records()); n != before {
				t.Fatalf("%d keys in the backup, want %d", n, before)
			}
			third := e.refreshed(as, second.RefreshToken)
			e.wantEvent(issuer.EventGrantHealed, "")
			e.wantAlive("access token", third.AccessToken)
			e.wantAlive("refresh token", third.RefreshToken)
			if again := e.refreshed(as, second.RefreshToken); again.AccessToken != third.AccessToken || again.RefreshToken != third.RefreshToken {
				t.Error("the retry was answered with other tokens")
			}
			e.refreshed(as, third.RefreshToken)
		})
	}
}

// TestPendingKeyIsPublishedAndNotUsed: lead is for caches of the public keys.
func TestPendingKeyIsPublishedAndNotUsed(t *testing.T) {
	e := newSite(t, setup{})
	as := e.variant("variant", issuer.Policy{SigningAlg: secret.ES256})
	tokens := e.login(as)
	record, err := e.admin.RotateKeys(e.ctx(), operator, 10*time.Minute)
	e.must(err)
	kid := func(token string) string { return decodeSegment(t, token, 0)["kid"].(string) }
	old := kid(tokens.AccessToken)
	if published := e.jwks(); len(published.Key(old)) != 1 || len(published.Keys) != 4 {
		t.Errorf("%d keys are published, want an EC and an Edwards key for each of two numbers", len(published.Keys))
	}
	e.clock.advance(10*time.Minute - time.Millisecond)
	tokens = e.refreshed(as, tokens.RefreshToken)
	if got := kid(tokens.AccessToken); got != old {
		t.Error("the pending key was used")
	}
	e.clock.advance(time.Millisecond)
	tokens = e.refreshed(as, tokens.RefreshToken)
	if got := kid(tokens.AccessToken); got == old || len(e.jwks().Key(got)) != 1 {
		t.Errorf("key %s of record %d", got, record.ID)
	}
}
