package storetest

import (
	"time"

	"github.com/evergrant/evergrant/issuer"
)

func accessTokenCases() []contract {
	return []contract{
		{"a revoked access token is remembered, others are not", tokenIsRemembered},
		{"revoking records its event, once", tokenRecordsOnce},
	}
}

func (f *fixture) revokeToken(jti string, expires time.Time) {
	f.Helper()
	f.ok(f.RevokeAccessToken(f.Context(), jti, expires, newEvent(issuer.EventAccessTokenRevoked, newGrant())))
}

func (f *fixture) tokenRevoked(jti string) bool {
	f.Helper()
	revoked, err := f.AccessTokenRevoked(f.Context(), jti)
	f.ok(err)
	return revoked
}

func tokenIsRemembered(f *fixture) {
	f.equal(f.tokenRevoked("one"), false)
	f.revokeToken("one", start())
	for jti, want := range map[string]bool{"one": true, "two": false, "ONE": false, "on": false, "": false} {
		if got := f.tokenRevoked(jti); got != want {
			f.Errorf("%q revoked: %v", jti, got)
		}
	}
}

func tokenRecordsOnce(f *fixture) {
	g := newGrant()
	e := newEvent(issuer.EventAccessTokenRevoked, g)
	for range 2 {
		f.ok(f.RevokeAccessToken(f.Context(), "one", start(), e))
	}
	f.equal(f.events(issuer.EventFilter{}), []issuer.Event{e})
}
