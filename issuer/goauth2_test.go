package issuer_test

import (
	"testing"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
)

// TestMistakesOfGoOAuth2 makes the three requests that go-oauth2/oauth2 v4.5.4
// answers with new tokens: a token of one client with scope "read", refreshed
// with a wrong secret, by another client, and with a wider scope.
func TestMistakesOfGoOAuth2(t *testing.T) {
	for name, policy := range map[string]issuer.Policy{
		"rotated": {Format: issuer.FormatOpaque},
		"kept":    {Format: issuer.FormatOpaque, Rotation: issuer.RotateNever},
		"signed":  {},
	} {
		t.Run(name, func(t *testing.T) {
			e := newSite(t, setup{})
			as := e.variant("variant", policy)
			tokens := e.login(as, "scope", "read")
			token := tokens.RefreshToken
			e.refresh(party{as.id, "wrong"}, token).wantError(t, 401, oauth.InvalidClient)
			e.refresh(other, token).wantError(t, 400, oauth.InvalidGrant)
			e.refresh(as, token, "scope", "read write").wantError(t, 400, oauth.InvalidScope)
			// None of them has cost the client anything, or gained the others.
			if grant := e.grant(); grant.Generation != 1 || !grant.Live(e.clock.now()) {
				t.Errorf("grant %+v", grant)
			}
			if next := e.refreshed(as, token); next.Scope != "read" {
				t.Errorf("scope %q", next.Scope)
			}
			e.wantAlive("access token", tokens.AccessToken)
		})
	}
}
