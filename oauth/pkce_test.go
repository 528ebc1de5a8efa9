package oauth_test

import (
	"strings"
	"testing"

	"github.com/evergrant/evergrant/oauth"
)

// The example of RFC 7636 appendix B.
const (
	rfcVerifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	rfcChallenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

func TestChallengeOfRFC7636(t *testing.T) {
	if got := oauth.Challenge(rfcVerifier); got != rfcChallenge {
		t.Errorf("Challenge = %s, want %s", got, rfcChallenge)
	}
	if !oauth.ValidVerifier(rfcVerifier) || !oauth.ValidChallenge(rfcChallenge) || !oauth.VerifyChallenge(rfcVerifier, rfcChallenge) {
		t.Error("the example of appendix B is refused")
	}
}

func TestVerifyChallenge(t *testing.T) {
	other := strings.Replace(rfcVerifier, "d", "e", 1)
	tests := []struct {
		name, verifier, challenge string
	}{
		{"other verifier", other, rfcChallenge},
		{"other challenge", rfcVerifier, oauth.Challenge(other)},
		{"plain", rfcVerifier, rfcVerifier},
		{"empty challenge", rfcVerifier, ""},
		{"empty verifier", "", rfcChallenge},
		{"both empty", "", ""},
		{"short verifier with its challenge", "short", oauth.Challenge("short")},
		{"padded challenge", rfcVerifier, rfcChallenge + "="},
		{"cut challenge", rfcVerifier, rfcChallenge[:42]},
		{"standard alphabet", rfcVerifier, strings.ReplaceAll(rfcChallenge, "-", "+")},
		{"other case", strings.ToUpper(rfcVerifier), rfcChallenge},
		{"space after the verifier", rfcVerifier + " ", rfcChallenge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if oauth.VerifyChallenge(tt.verifier, tt.challenge) {
				t.Errorf("%q answers %q", tt.verifier, tt.challenge)
			}
		})
	}
}

func TestValidVerifier(t *testing.T) {
	for length := range 200 {
		if got, want := oauth.ValidVerifier(strings.Repeat("a", length)), length >= 43 && length <= 128; got != want {
			t.Errorf("%d characters: %t, want %t", length, got, want)
		}
	}
	const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
	for c := range 256 {
		for at := range 43 {
			verifier := []byte(rfcVerifier)
			verifier[at] = byte(c)
			if got, want := oauth.ValidVerifier(string(verifier)), strings.IndexByte(unreserved, byte(c)) >= 0; got != want {
				t.Fatalf("character %q at %d: %t, want %t", rune(c), at, got, want)
			}
		}
	}
}

func TestValidChallenge(t *testing.T) {
	tests := []struct {
		name, challenge string
		want            bool
	}{
		{"appendix B", rfcChallenge, true},
		{"zeroes", strings.Repeat("A", 43), true},
		{"empty", "", false},
		{"one less", rfcChallenge[:42], false},
		{"one more", rfcChallenge + "A", false},
		{"padded", rfcChallenge + "=", false},
		{"standard alphabet", strings.Repeat("+", 42) + "A", false},
		{"space", strings.Repeat("A", 42) + " ", false},
		{"bits left over", strings.Repeat("A", 42) + "B", false},
		{"line break inside", strings.Repeat("A", 42) + "\n", false},
		{"line break behind", rfcChallenge + "\n", false},
		{"digest of 33 bytes", strings.Repeat("A", 44), false},
		{"hexadecimal", strings.Repeat("0", 64), false},
		{"not ASCII", strings.Repeat("A", 41) + "é", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := oauth.ValidChallenge(tt.challenge); got != tt.want {
				t.Errorf("ValidChallenge(%q) = %t", tt.challenge, got)
			}
		})
	}
}
