package secret_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/secret"
)

// Verifiers that were computed by other software, with the salt 00 01 … 0f.
const (
	chosenVerifier    secret.Verifier = "$argon2id$v=19$m=19456,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$uVi3OD0oyiLyo2eI+qYzJvm7wr+tYcQUay8ISCZS7Jo"
	generatedVerifier secret.Verifier = "hmac-sha256$AAECAwQFBgcICQoLDA0ODw$M95YrIDMezgsTUfxbh8+NbiJvImIyRibCDnihQQeP4U"
)

// The secrets of these verifiers.
var (
	chosen    = secret.NewText("brent123")
	generated = secret.NewText("egs_" + strings.Repeat("A", 43))
)

func TestNewSecret(t *testing.T) {
	form, seen := regexp.MustCompile(`^egs_[A-Za-z0-9_-]{43}$`), map[string]bool{}
	for range 100 {
		made := secret.NewSecret()
		if !form.MatchString(made.Reveal()) || !secret.Generated(made) || seen[made.Reveal()] {
			t.Fatalf("made %q", made.Reveal())
		}
		if b, err := base64.RawURLEncoding.DecodeString(made.Reveal()[4:]); err != nil || len(b) != 32 {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		seen[made.Reveal()] = true
	}
	if got := fmt.Sprintf("%+v", secret.NewSecret()); got != "[redacted]" {
		t.Errorf("it prints %q", got)
	}
}

func TestGenerated(t *testing.T) {
	full := strings.Repeat("A", 43)
	for text, want := range map[string]bool{
		"egs_" + full: true, "egs_" + strings.Repeat("-", 21) + strings.Repeat("_", 22): true,
		"": false, "brent123": false, full: false, "egs_": false, "egs_" + full[1:]: false, "egs_" + full + "A": false,
		"EGS_" + full: false, "egr_" + full: false, " egs_" + full: false, "egs_" + full + "\n": false, "egs_" + full[1:] + "+": false,
		"egs_" + full[1:] + "\n": false, "x\negs_" + full: false, "egs_" + full[2:] + "é": false,
	} {
		if secret.Generated(secret.NewText(text)) != want {
			t.Errorf("Generated(%q) = %t", text, !want)
		}
	}
}

func TestVerifierOfGeneratedSecret(t *testing.T) {
	if !generatedVerifier.Verify(generated) {
		t.Error("the known verifier refuses its secret")
	}
	made := secret.NewSecret()
	first, second := secret.NewVerifier(made), secret.NewVerifier(made)
	if first == second {
		t.Error("two verifiers of a secret have one salt")
	}
	for _, v := range []secret.Verifier{first, second} {
		if !regexp.MustCompile(`^hmac-sha256\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`).MatchString(string(v)) || v.Check() != nil {
			t.Errorf("the form %q, %v", string(v), v.Check())
		}
		if !v.Verify(made) || !v.Verify(secret.NewText(made.Reveal())) {
			t.Error("it refuses its secret")
		}
		if v.Verify(secret.NewSecret()) || v.Verify(generated) {
			t.Error("it takes another secret")
		}
	}
	for i := range made.Reveal()[4:] {
		changed := []byte(made.Reveal())
		changed[4+i] ^= 1
		if first.Verify(secret.NewText(string(changed))) && secret.Generated(secret.NewText(string(changed))) {
			t.Errorf("character %d may differ", i)
		}
	}
}

// TestVerifierOfChosenSecret also holds what the checks cost in relation to each
// other, from which nobody may learn about the client. Each call of argon2id is
// slow, so this test makes few of them.
func TestVerifierOfChosenSecret(t *testing.T) {
	cost := func(v secret.Verifier, presented secret.Text, want bool) time.Duration {
		t.Helper()
		started := time.Now()
		if v.Verify(presented) != want {
			t.Errorf("%s verifies %q: %t", v, presented.Reveal(), !want)
		}
		return time.Since(started)
	}
	quickest := func(v secret.Verifier, presented secret.Text) time.Duration {
		t.Helper()
		least := cost(v, presented, false)
		for range 20 {
			least = min(least, cost(v, presented, false))
		}
		return least
	}
	quick := max(
		quickest(generatedVerifier, secret.NewSecret()), // a wrong secret
		quickest(chosenVerifier, generated),             // a client with the other form
		quickest(secret.Slow(), generated),              // an unknown client
		quickest("hmac-sha256$!$!", generated),          // a damaged verifier
		quickest("hmac-sha256$$", generated),            // one with an empty digest
	)
	wrong := secret.NewText("Brent123")
	for name, slow := range map[string]time.Duration{
		"the right secret":             cost(chosenVerifier, chosen, true),
		"a wrong secret":               cost(chosenVerifier, wrong, false),
		"an unknown client":            cost(secret.Slow(), wrong, false),
		"a client with the other form": cost(generatedVerifier, wrong, false),
		"a damaged verifier":           cost("$argon2id$", wrong, false),
		"the empty secret":             cost(chosenVerifier, secret.Text{}, false),
	} {
		if slow < 50*quick {
			t.Errorf("%s costs %v, a generated secret %v", name, slow, quick)
		}
	}

	made := secret.NewVerifier(chosen)
	if !regexp.MustCompile(`^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`).MatchString(string(made)) || made.Check() != nil {
		t.Errorf("the form %q, %v", string(made), made.Check())
	}
	if made == chosenVerifier || !made.Verify(chosen) {
		t.Error("a new verifier has an old salt, or refuses its secret")
	}
}

// TestVerifiersDoNotCross holds that a digest is worth nothing in the other
// form.
func TestVerifiersDoNotCross(t *testing.T) {
	fields := strings.Split(string(generatedVerifier), "$")
	crossed := secret.Verifier("$argon2id$v=19$m=19456,t=2,p=1$" + fields[1] + "$" + fields[2])
	if crossed.Check() != nil || crossed.Verify(generated) {
		t.Error("a keyed digest passes as argon2id")
	}
}

func TestVerifierCheck(t *testing.T) {
	const params, salt, digest = "$argon2id$v=19$m=19456,t=2,p=1", "AAECAwQFBgcICQoLDA0ODw", "uVi3OD0oyiLyo2eI+qYzJvm7wr+tYcQUay8ISCZS7Jo"
	tests := []struct {
		name     string
		verifier secret.Verifier
		known    bool
	}{
		{"argon2id", chosenVerifier, true},
		{"keyed", generatedVerifier, true},
		{"Slow", secret.Slow(), true},
		{"empty", "", false},
		{"the secret itself", "brent123", false},
		{"a generated secret itself", secret.Verifier("egs_" + strings.Repeat("A", 43)), false},
		{"bcrypt", "$2y$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy", true},
		{"argon2i", secret.Verifier("$argon2i$v=19$m=19456,t=2,p=1$" + salt + "$" + digest), true},
		{"argon2id, other memory", secret.Verifier("$argon2id$v=19$m=65536,t=2,p=1$" + salt + "$" + digest), true},
		{"argon2id, too much memory", secret.Verifier("$argon2id$v=19$m=1048576,t=2,p=1$" + salt + "$" + digest), false},
		{"argon2id, other version", secret.Verifier("$argon2id$v=16$m=19456,t=2,p=1$" + salt + "$" + digest), false},
		{"argon2id, no version", secret.Verifier("$argon2id$m=19456,t=2,p=1$" + salt + "$" + digest), false},
		{"no digest field", secret.Verifier(params + "$" + salt), false},
		{"a field more", secret.Verifier(params + "$" + salt + "$" + digest + "$"), false},
		{"text before", secret.Verifier("x" + params + "$" + salt + "$" + digest), false},
		{"line break behind", chosenVerifier + "\n$", false},
		{"salt not base64", secret.Verifier(params + "$!$" + digest), false},
		{"digest not base64", secret.Verifier(params + "$" + salt + "$!"), false},
		{"digest padded", chosenVerifier + "=", false},
		{"digest in the URL-safe alphabet", secret.Verifier(params + "$" + salt + "$" + strings.ReplaceAll(digest, "+", "-")), false},
		{"bits left over in the digest", secret.Verifier(params + "$" + salt + "$" + digest[:42] + "p"), false},
		{"keyed, salt not base64", secret.Verifier("hmac-sha256$!$" + digest), false},
		{"keyed, other name", secret.Verifier("hmac-sha512$" + salt + "$" + digest), false},
		{"keyed, name in upper case", secret.Verifier("HMAC-SHA256$" + salt + "$" + digest), false},
		{"keyed, with a dollar in front", secret.Verifier("$hmac-sha256$" + salt + "$" + digest), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.verifier.Check()
			if tt.known && err != nil || !tt.known && !errors.Is(err, secret.ErrVerifierSyntax) {
				t.Errorf("got %v", err)
			}
			if err != nil && tt.verifier != "" && strings.Contains(err.Error(), string(tt.verifier)) {
				t.Errorf("the error shows the verifier: %v", err)
			}
			if tt.verifier != generatedVerifier && tt.verifier.Verify(generated) {
				t.Error("it takes a secret")
			}
		})
	}
}

func TestVerifierPrintsItsForm(t *testing.T) {
	for verifier, want := range map[secret.Verifier]string{
		chosenVerifier:    "argon2id verifier",
		secret.Slow():     "argon2id verifier",
		generatedVerifier: "hmac-sha256 verifier",
		"":                "unknown verifier",
		planted:           "unknown verifier",
		"$" + planted:     "unknown verifier",
		planted + "$x":    "unknown verifier",
		"$hmac-sha256$x":  "unknown verifier",
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			if got := fmt.Sprintf(verb, verifier); got != want {
				t.Errorf("%s prints %q, want %q", verb, got, want)
			}
		}
		if got := fmt.Sprint(struct{ Secrets []secret.Verifier }{[]secret.Verifier{verifier}}); got != "{["+want+"]}" {
			t.Errorf("in a struct it prints %q", got)
		}
	}
	if got := fmt.Errorf("client: %v", chosenVerifier).Error(); got != "client: argon2id verifier" {
		t.Errorf("in an error it prints %q", got)
	}
}

// TestVerifierJSON holds that a verifier, which is there to be stored, keeps its
// value in JSON.
func TestVerifierJSON(t *testing.T) {
	got, err := json.Marshal([]secret.Verifier{generatedVerifier})
	var back []secret.Verifier
	if err != nil || json.Unmarshal(got, &back) != nil || back[0] != generatedVerifier {
		t.Errorf("got %s, %v", got, err)
	}
}
