package issuer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
	"pgregory.net/rapid"
)

// keyList is a secret.KeyStore without a database: these tests are of parts that
// touch none.
type keyList struct{ records []secret.KeyRecord }

func (l *keyList) Keys(context.Context) ([]secret.KeyRecord, error) {
	return slices.Clone(l.records), nil
}

func (l *keyList) AddKey(_ context.Context, record secret.KeyRecord) error {
	l.records = append(l.records, record)
	return nil
}

func (l *keyList) DeleteKey(_ context.Context, id uint32) error {
	l.records = slices.DeleteFunc(l.records, func(r secret.KeyRecord) bool { return r.ID == id })
	return nil
}

// noStore panics when it is called.
type noStore struct{ Store }

// bareServer has keys and no database.
func bareServer(t testing.TB, now func() time.Time) *Server {
	t.Helper()
	clock := now
	if clock == nil {
		clock = time.Now
	}
	root, err := secret.ParseRoot([]byte(strings.Repeat("A", 43) + "=")) // so that fuzzing processes agree on tokens
	if err != nil {
		t.Fatal(err)
	}
	ring, err := secret.OpenRing(t.Context(), root, &keyList{}, clock, false)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Issuer: "https://issuer.example", Store: noStore{}, Keys: ring, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func noon() time.Time { return time.Date(2031, 5, 17, 12, 0, 0, 0, time.UTC) }

// TestGenerationsKeepToTheirKind: a MAC of ours under a generation that this
// kind of token cannot have.
func TestGenerationsKeepToTheirKind(t *testing.T) {
	s := bareServer(t, noon)
	key, id := s.cfg.Keys.Current(), NewGrantID()
	if _, err := s.parseRefreshToken(refreshToken(key, id, 0)); !isCause(err, CauseTokenForged) {
		t.Errorf("refresh token of generation 0: %v", err)
	}
	for _, generation := range []uint32{1, 2, 1<<32 - 1} {
		ref, err := s.parseRefreshToken(refreshToken(key, id, generation))
		if err != nil || ref != (tokenRef{key.ID, id, generation}) {
			t.Errorf("%+v, %v", ref, err)
		}
	}
	binding := codeBinding{"app", "https://app.example/callback", oauth.Challenge(strings.Repeat("v", 43))}
	code := authorizationCode(key, id, binding)
	ref, bound, err := s.parseCode(code, binding)
	if err != nil || !bound || ref != (tokenRef{key.ID, id, 0}) {
		t.Errorf("%+v, %t, %v", ref, bound, err)
	}
	of1 := tokenRef{key.ID, id, 1}.bytes()
	own, bound1 := key.MAC(secret.CodeMAC, of1), binding.mac(key, of1)
	forged := CodePrefix + token64.EncodeToString(append(append(of1, own[:]...), bound1[:]...))
	if _, _, err := s.parseCode(forged, binding); !isCause(err, CauseTokenForged) {
		t.Errorf("code of generation 1: %v", err)
	}
}

func isCause(err error, cause Cause) bool {
	refusal, ok := errors.AsType[*Refusal](err)
	return ok && refusal.Cause == cause
}

// TestCodeBindingIsUnambiguous: no part of a binding can be moved to another.
func TestCodeBindingIsUnambiguous(t *testing.T) {
	s := bareServer(t, noon)
	key, id := s.cfg.Keys.Current(), NewGrantID()
	bindings := []codeBinding{
		{"a", "b", "c"}, {"ab", "", "c"}, {"", "ab", "c"}, {"a", "bc", ""}, {"", "", "abc"}, {"a\x00\x00\x00\x01b", "", "c"}, {"b", "a", "c"}, {},
	}
	for i, made := range bindings {
		for j, asked := range bindings {
			if _, bound, err := s.parseCode(authorizationCode(key, id, made), asked); err != nil || bound != (i == j) {
				t.Errorf("made for %q, asked for %q: %t, %v", made, asked, bound, err)
			}
		}
	}
}

// TestPurposesAreSeparate: a MAC for a code is none for a refresh token.
func TestPurposesAreSeparate(t *testing.T) {
	s := bareServer(t, noon)
	key := s.cfg.Keys.Current()
	ref := tokenRef{key.ID, NewGrantID(), 1}.bytes()
	mac := key.MAC(secret.CodeMAC, ref)
	if _, err := s.parseRefreshToken(RefreshPrefix + token64.EncodeToString(append(ref, mac[:]...))); err == nil {
		t.Error("a refresh token was made with the key of codes")
	}
	claims := accessClaims{Grant: NewGrantID(), Generation: 1, ExpiresAt: noon().Unix() + 60}
	sealed := key.Seal(secret.AccessID, claims.marshal(), nil)
	if _, err := s.openAccess(AccessPrefix+token64.EncodeToString(append([]byte{0, 0, 0, 1}, sealed...)), noon()); err == nil {
		t.Error("an access token was sealed with the key of jtis")
	}
}

// TestAccessTokenRoundTrip: what is minted opens to the same claims, in every
// format, and equal claims give equal bytes.
func TestAccessTokenRoundTrip(t *testing.T) {
	s := bareServer(t, noon)
	key := s.cfg.Keys.Current()
	policies := []Policy{{Format: FormatOpaque}, {Format: FormatJWT, SigningAlg: secret.ES256}, {Format: FormatJWT, SigningAlg: secret.EdDSA}}
	rapid.Check(t, func(t *rapid.T) {
		scope, _ := oauth.ParseScope(strings.Join(rapid.SliceOfN(rapid.StringMatching(`[!#-\[\]-~]{1,12}`), 0, 4).Draw(t, "scope"), " "))
		claims := accessClaims{
			Grant: NewGrantID(), Generation: rapid.Uint32().Draw(t, "generation"),
			ClientID: rapid.StringMatching(`[ -~]{1,40}`).Draw(t, "client"), Subject: rapid.String().Draw(t, "subject"), Scope: scope,
			IssuedAt: noon().Unix() - rapid.Int64Range(0, 1e9).Draw(t, "age"), ExpiresAt: noon().Unix() + rapid.Int64Range(1, 1e9).Draw(t, "left"),
		}
		for _, policy := range policies {
			token, err := s.mintAccess(key, policy, claims)
			again, _ := s.mintAccess(key, policy, claims)
			if err != nil || token != again {
				t.Fatalf("minted %q and %q, %v", token, again, err)
			}
			opened, err := s.openAccess(token, noon())
			if err != nil || opened.ID == "" {
				t.Fatalf("%+v, %v", opened, err)
			}
			opened.ID = ""
			if fmt.Sprintf("%+v", opened) != fmt.Sprintf("%+v", claims) {
				t.Fatalf("opened %+v, minted %+v", opened, claims)
			}
			if _, err := s.openAccess(token, time.Unix(claims.ExpiresAt, 0)); err == nil {
				t.Fatal("an expired token opens")
			}
		}
	})
}

// TestPolicyOver: a client's own settings win, one by one, and the defaults fill
// what nobody set.
func TestPolicyOver(t *testing.T) {
	full := Policy{1, 2, 3, 4, RotateNever, 5, FormatOpaque, secret.RS256, PKCENever, RedirectPrefix}
	if got := full.Over(DefaultPolicy()); got != full {
		t.Errorf("%+v", got)
	}
	if got := (Policy{}).Over(full); got != full {
		t.Errorf("%+v", got)
	}
	if got := (Policy{GrantLifetime: None, RetryWindow: None, RefreshTokenLifetime: None}).Over(full); got.GrantLifetime != None || got.RetryWindow != None || got.RefreshTokenLifetime != None || got.CodeLifetime != 2 {
		t.Errorf("an explicit nothing inherits: %+v", got)
	}
	merged := Policy{Rotation: RotatePublicClients}.Over(Policy{CodeLifetime: 7}).Over(DefaultPolicy())
	if merged.Rotation != RotatePublicClients || merged.CodeLifetime != 7 || merged.Format != FormatJWT || merged.RetryWindow != Lifetime(time.Minute) {
		t.Errorf("%+v", merged)
	}
	if err := DefaultPolicy().Check(); err != nil {
		t.Error(err)
	}
}

func TestRotates(t *testing.T) {
	confidential := Client{Secrets: []secret.Verifier{"x"}}
	for policy, want := range map[RotationPolicy][2]bool{RotateAlways: {true, true}, RotateNever: {false, false}, RotatePublicClients: {true, false}} {
		p := Policy{Rotation: policy}
		if p.rotates(Client{}) != want[0] || p.rotates(confidential) != want[1] {
			t.Errorf("%s: public %t, confidential %t", policy, p.rotates(Client{}), p.rotates(confidential))
		}
	}
}

func TestCapped(t *testing.T) {
	early, late, never := noon(), noon().Add(1), time.Time{}
	for _, c := range []struct{ t, end, want time.Time }{
		{early, late, early}, {late, early, early}, {early, early, early}, {early, never, early}, {never, late, late}, {never, never, never},
	} {
		if got := capped(c.t, c.end); !got.Equal(c.want) {
			t.Errorf("capped(%s, %s) = %s", c.t, c.end, got)
		}
	}
}

// TestMemoryIsNotMovedByTheClock: what is kept in memory counts durations, which
// a step of the wall clock must not stretch to an hour.
func TestMemoryIsNotMovedByTheClock(t *testing.T) {
	s := bareServer(t, nil)
	for name, now := range map[string]func() time.Time{"throttle": s.failures.now, "notes": s.noted.now, "client cache": s.clients.cfg.clock} {
		if at := now().String(); !strings.Contains(at, " m=") {
			t.Errorf("%s goes by %s, which has no monotonic reading", name, at)
		}
	}
	if at := s.cfg.now(); strings.Contains(at.String(), " m=") || at.Location() != time.UTC || at.Nanosecond()%1e6 != 0 {
		t.Errorf("rows would go by %s", at)
	}
}

// TestEveryCauseIsMapped: a refusal that no row of the table knows would be an
// error of ours.
func TestEveryCauseIsMapped(t *testing.T) {
	for cause, told := range refusals {
		if told.Code == "" || told.Description == "" && cause != CauseBadRequest || oauth.Legal(told.Description) != told.Description {
			t.Errorf("%s: %+v", cause, told)
		}
		if got := protocolError(fmt.Errorf("wrapped: %w", refuse(cause))); got.Code != told.Code || got.Description != told.Description {
			t.Errorf("%s is told as %+v", cause, got)
		}
		if refuse(cause).Error() != string(cause) {
			t.Errorf("%s prints as %s", cause, refuse(cause))
		}
	}
	if got := protocolError(refuse("unheard of")); got.Code != oauth.ServerError {
		t.Errorf("%+v", got)
	}
	detailed := refuseBecause(CauseBadRequest, "no %s", "\"ü\"")
	if detailed.Error() != "bad_request: no ????" && detailed.Error() != "bad_request: no ???" {
		t.Errorf("%q", detailed.Error())
	}
}

// TestUnknownRows: an error that is none of ours stays what it is.
func TestUnknownRows(t *testing.T) {
	other := errors.New("other")
	if !errors.Is(unknownGrant(other), other) || !isCause(unknownGrant(ErrNotFound), CauseGrantUnknown) {
		t.Error("unknownGrant")
	}
	if ignoreNotFound(ErrNotFound) != nil || !errors.Is(ignoreNotFound(other), other) {
		t.Error("ignoreNotFound")
	}
}
