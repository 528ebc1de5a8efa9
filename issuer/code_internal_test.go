package issuer

import (
	"strings"
	"testing"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// TestCodesTellTheirPartsApart: the redirect URI and the challenge are right or
// wrong each for itself, and both are wrong for another client.
func TestCodesTellTheirPartsApart(t *testing.T) {
	s := bareServer(t, noon)
	key, id := s.cfg.Keys.Current(), NewGrantID()
	made := codeBinding{"app", "https://app.example/cb", oauth.Challenge(strings.Repeat("v", 43))}
	code := authorizationCode(key, id, made)
	for name, c := range map[string]struct {
		asked               codeBinding
		redirect, challenge bool
	}{
		"all right":        {made, true, true},
		"other redirect":   {codeBinding{made.clientID, made.redirectURI + "/", made.challenge}, false, true},
		"no redirect":      {codeBinding{made.clientID, "", made.challenge}, false, true},
		"other challenge":  {codeBinding{made.clientID, made.redirectURI, oauth.Challenge(strings.Repeat("w", 43))}, true, false},
		"no challenge":     {codeBinding{made.clientID, made.redirectURI, ""}, true, false},
		"swapped":          {codeBinding{made.clientID, made.challenge, made.redirectURI}, false, false},
		"other client":     {codeBinding{"ap", made.redirectURI, made.challenge}, false, false},
		"client moved on":  {codeBinding{"apphttps://app.example/cb", "", made.challenge}, false, false},
		"nothing":          {codeBinding{}, false, false},
		"no client":        {codeBinding{"", made.redirectURI, made.challenge}, false, false},
		"challenge as URI": {codeBinding{made.clientID, made.challenge, made.challenge}, false, true},
	} {
		ref, redirect, challenge, err := s.matchCode(code, c.asked)
		if err != nil || ref.grant != id || redirect != c.redirect || challenge != c.challenge {
			t.Errorf("%s: %t, %t, %v", name, redirect, challenge, err)
		}
	}
}

// TestCodePartsBelongToTheirCode: the second MAC of one code is none of another,
// nor is one half of it the other.
func TestCodePartsBelongToTheirCode(t *testing.T) {
	s := bareServer(t, noon)
	key := s.cfg.Keys.Current()
	binding := codeBinding{"app", "same", "same"}
	decoded := func(code string) []byte {
		b, err := token64.DecodeString(strings.TrimPrefix(code, CodePrefix))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	one, two := decoded(authorizationCode(key, NewGrantID(), binding)), decoded(authorizationCode(key, NewGrantID(), binding))
	bound := refSize + secret.MACSize
	mixed := append(append([]byte(nil), one[:bound]...), two[bound:]...)
	_, redirect, challenge, err := s.matchCode(CodePrefix+token64.EncodeToString(mixed), binding)
	if err != nil || redirect || challenge {
		t.Errorf("the second MAC of another code: %t, %t, %v", redirect, challenge, err)
	}
	swapped := append([]byte(nil), one...)
	copy(swapped[bound:], one[bound+redirectMACSize:])
	copy(swapped[bound+secret.MACSize-redirectMACSize:], one[bound:bound+redirectMACSize])
	_, redirect, challenge, err = s.matchCode(CodePrefix+token64.EncodeToString(swapped), binding)
	if err != nil || redirect || challenge {
		t.Errorf("halves that have changed places: %t, %t, %v", redirect, challenge, err)
	}
	if redirectMACSize*8 < 80 || (secret.MACSize-redirectMACSize)*8 < 80 {
		t.Errorf("halves of %d and %d bytes", redirectMACSize, secret.MACSize-redirectMACSize)
	}
}
