package issuer

import (
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// fixedID is a grant id that every fuzzing process knows.
var fixedID = GrantID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

// breaks are texts that look like tokens of a prefix and trip up decoders.
func breaks(prefix string, size int) []string {
	return []string{"", prefix, prefix + strings.Repeat("\n", size), prefix + "AAA" + strings.Repeat("\r", size-3), prefix + strings.Repeat("A", size), prefix + strings.Repeat("_", size)}
}

func FuzzRefreshToken(f *testing.F) {
	s := bareServer(f, noon)
	f.Add(refreshToken(s.cfg.Keys.Current(), fixedID, 1))
	f.Add(refreshToken(s.cfg.Keys.Current(), fixedID, 1<<32-1))
	for _, seed := range breaks(RefreshPrefix, 60) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		ref, err := s.parseRefreshToken(token)
		if err != nil {
			if !isCause(err, CauseTokenForged) {
				t.Errorf("error %v", err)
			}
			return
		}
		key, err := s.cfg.Keys.Key(ref.keyID)
		if err != nil || ref.generation == 0 || refreshToken(key, ref.grant, ref.generation) != token {
			t.Errorf("%q is read as %+v, which is written in another way", token, ref)
		}
	})
}

func FuzzCode(f *testing.F) {
	s := bareServer(f, noon)
	key := s.cfg.Keys.Current()
	binding := codeBinding{"app", "https://app.example/cb", oauth.Challenge(strings.Repeat("v", 43))}
	f.Add(authorizationCode(key, fixedID, binding), "app", "https://app.example/cb", oauth.Challenge(strings.Repeat("v", 43)))
	f.Add(authorizationCode(key, fixedID, codeBinding{}), "", "", "")
	for _, seed := range breaks(CodePrefix, 88) {
		f.Add(seed, "app", "", "")
	}
	f.Fuzz(func(t *testing.T, code, client, redirectURI, challenge string) {
		asked := codeBinding{client, redirectURI, challenge}
		ref, bound, err := s.parseCode(code, asked)
		if err != nil {
			if !isCause(err, CauseTokenForged) || bound {
				t.Errorf("bound %t, error %v", bound, err)
			}
			return
		}
		key, err := s.cfg.Keys.Key(ref.keyID)
		if err != nil || ref.generation != 0 || (authorizationCode(key, ref.grant, asked) == code) != bound {
			t.Errorf("%q is read as %+v, bound %t", code, ref, bound)
		}
	})
}

func FuzzAccessToken(f *testing.F) {
	s := bareServer(f, noon)
	key := s.cfg.Keys.Current()
	claims := accessClaims{Grant: fixedID, Generation: 3, ClientID: "app", Subject: "bshaffer", Scope: oauth.Scope{"read"}, IssuedAt: noon().Unix(), ExpiresAt: noon().Unix() + 60}
	for _, policy := range []Policy{{Format: FormatOpaque}, {Format: FormatJWT, SigningAlg: secret.ES256}, {Format: FormatJWT, SigningAlg: secret.EdDSA}} {
		token, err := s.mintAccess(key, policy, claims)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(token, noon().Unix())
		f.Add(token[:len(token)-1], int64(0))
		f.Add(token, noon().Unix()+60)
	}
	for _, seed := range breaks(AccessPrefix, 60) {
		f.Add(seed, int64(0))
	}
	for _, seed := range []string{".", "..", "e30.e30.", "eyJhbGciOiJub25lIn0.e30.", strings.Repeat(".", 100)} {
		f.Add(seed, int64(0))
	}
	f.Fuzz(func(t *testing.T, token string, at int64) {
		opened, err := s.openAccess(token, time.Unix(at, 0))
		if err != nil {
			if err != errNotOurs || opened.ID != "" || !opened.Grant.IsZero() {
				t.Errorf("%+v with error %v", opened, err)
			}
			return
		}
		if opened.ClientID != "app" || opened.Grant != fixedID || at >= opened.ExpiresAt {
			t.Errorf("%q was made by nobody and says %+v", token, opened)
		}
	})
}

func FuzzUnmarshalClaims(f *testing.F) {
	f.Add([]byte{})
	f.Add(accessClaims{}.marshal())
	f.Add(accessClaims{ClientID: "app", Subject: "ü", Scope: oauth.Scope{"a", "b"}, IssuedAt: 1 << 40, ExpiresAt: 1 << 62}.marshal())
	f.Add(append(make([]byte, 22), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01))
	f.Fuzz(func(t *testing.T, b []byte) {
		claims, err := unmarshalClaims(b)
		if err != nil {
			return
		}
		again, err := unmarshalClaims(claims.marshal())
		if err != nil || again.Grant != claims.Grant || again.ExpiresAt != claims.ExpiresAt || again.Subject != claims.Subject || again.Scope.String() != claims.Scope.String() {
			t.Errorf("%+v became %+v, %v", claims, again, err)
		}
	})
}
