package secret_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/secret"
)

// longPassword has more than the 72 bytes that bcrypt takes.
const longPassword = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789chars after 72 are ignored"

// foreignVectors are verifiers of other software: of the RFCs 1321, 6070, 7914,
// of FIPS 180-4, of the reference implementation of argon2, of libxcrypt, and
// of the definitions of the forms that Django and Symfony have, written in
// Python.
var foreignVectors = []struct {
	form, password string
	verifier       secret.Verifier
}{
	{"bcrypt", "U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"},
	{"bcrypt", "x", "$2b$05$CCCCCCCCCCCCCCCCCCCCC.Xn7FSvv79c6bu/kgV/.kBlx/ChE9.FW"},
	{"bcrypt", "rasmuslerdorf", "$2y$07$BCryptRequires22Chrcte/VlQH0piJtjXl.0t1XkA8pw9dMXTpOq"},
	{"bcrypt", longPassword, "$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui"},
	{"argon2i", "password", "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA"},
	{"argon2i", "password", "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8"},
	{"argon2id", "password", "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"},
	{"argon2id", "password", "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc"},
	{"argon2", "password", "argon2$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc"},
	{"pbkdf2_sha1", "password", "pbkdf2_sha1$4096$salt$SwB5AbdlSJq+rUnZJvch0GWkKcE="},
	{"pbkdf2_sha256", "Password", "pbkdf2_sha256$80000$NaCl$TdzY9guYviGDDO5e8icB+WQaRBjQTAQUrv8Ih2s0q1Y="},
	{"bcrypt_sha256", "correct horse é", "bcrypt_sha256$$2b$06$abcdefghijklmnopqrstuuZbGsOOipDCGTcvnHJK1giRHnDAAcyHO"},
	{"bcrypt", "x", "bcrypt$$2b$05$CCCCCCCCCCCCCCCCCCCCC.Xn7FSvv79c6bu/kgV/.kBlx/ChE9.FW"},
	{"md5", "abc", "{md5}900150983cd24fb0d6963f7d28e17f72"},
	{"sha1", "abc", "{sha1}a9993e364706816aba3e25717850c26c9cd0d89d"},
	{"sha1", "abc", "{sha1}A9993E364706816ABA3E25717850C26C9CD0D89D"},
	{"sha256", "abc", "{sha256}ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
	{"sha512", "abc", "{sha512}ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"},
	{"symfony", "correct horse", "{symfony}sha512$5000$e3b0c44298fc1c149afbf4c8996fb92$0kqPdskrzPSs8CBh1s0lf1cuezQFbw4BK8b7EdvGA7h+ZbXWtVAtlpwshQWTa4ID/Ssz0UZ3ReEGdUpfnpmqNQ=="},
	{"symfony", "correct horse", "{symfony}sha512$5000$$3EUoYUcEHt4+j+xEwkHN9+h0Dn7QTmS3MkQNlBs/kQTEC8S9+E4iq11+69pb6XUxJRJZDRmg9wPM5RrvhLtuRg=="},
	{"symfony", "correct horse", "{symfony}sha256$1$a$b$lFl+lCGbt94BxOiSo40PmVklgTYSxMi2CZYN6Zhk/q8="},
	{"symfony", "correct horse", "{symfony}sha1$2$NaCl$uUk+psHygJQXOn7AaFRRM+ZHC64="},
}

func TestForeignVerifier(t *testing.T) {
	for _, tt := range foreignVectors {
		v, err := secret.ForeignVerifier(string(tt.verifier))
		if err != nil || v != tt.verifier || v.Check() != nil || !v.Foreign() {
			t.Errorf("%s: %q, %v, foreign: %t", tt.verifier, string(v), err, v.Foreign())
			continue
		}
		if !v.Verify(secret.NewText(tt.password)) {
			t.Errorf("%s refuses %q", string(v), tt.password)
		}
		if wrong := "X" + tt.password[1:]; v.Verify(secret.NewText(wrong)) {
			t.Errorf("%s takes %q", string(v), wrong)
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			if got := fmt.Sprintf(verb, v); got != tt.form+" verifier" {
				t.Errorf("%s prints %q", verb, got)
			}
		}
	}
}

// TestForeignVerifierOfOurs holds that our own forms pass, and are not foreign.
func TestForeignVerifierOfOurs(t *testing.T) {
	for _, own := range []secret.Verifier{chosenVerifier, generatedVerifier, secret.Slow(), secret.NewVerifier(chosen)} {
		if v, err := secret.ForeignVerifier(string(own)); err != nil || v != own || v.Foreign() {
			t.Errorf("%s: %v, %v, foreign: %t", own, v, err, v.Foreign())
		}
	}
	for _, text := range []secret.Verifier{"", "x", "$argon2id$", "hmac-sha256$!$!"} {
		if text.Foreign() {
			t.Errorf("%q counts as another server's", string(text))
		}
	}
	// The cost is ours and the length of the digest is not.
	short := secret.Verifier("$argon2id$v=19$m=19456,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$AAECAwQFBgcICQoLDA0ODw")
	if short.Check() != nil || !short.Foreign() || short.Verify(chosen) {
		t.Errorf("a digest of 16 bytes: %v, foreign: %t", short.Check(), short.Foreign())
	}
}

// TestForeignVerifierTakesNoGeneratedSecret holds that a secret of our own form
// is checked by the quick form alone, whatever the verifier is.
func TestForeignVerifierTakesNoGeneratedSecret(t *testing.T) {
	if v := secret.Verifier(fmt.Sprintf("{sha256}%x", sha256.Sum256([]byte(generated.Reveal())))); !v.Foreign() || v.Verify(generated) {
		t.Error("it takes one by its digest")
	}
	quick, slow := time.Hour, time.Hour
	for _, tt := range foreignVectors {
		started := time.Now()
		if tt.verifier.Verify(generated) {
			t.Errorf("%s takes a generated secret", tt.verifier)
		}
		quick = min(quick, time.Since(started))
	}
	for range 3 {
		started := time.Now()
		secret.Slow().Verify(chosen)
		slow = min(slow, time.Since(started))
	}
	if slow < 50*quick {
		t.Errorf("a generated secret costs %v, another one %v", quick, slow)
	}
}

// TestForeignVerifierCostsWhatOursDoes holds that the quick forms of old do not
// tell who has not signed in yet: beside them our slow one is spent, which takes
// thousands of times as long.
func TestForeignVerifierCostsWhatOursDoes(t *testing.T) {
	least := func(v secret.Verifier, presented secret.Text) time.Duration {
		best := time.Hour
		for range 3 {
			started := time.Now()
			v.Verify(presented)
			best = min(best, time.Since(started))
		}
		return best
	}
	for _, v := range []secret.Verifier{
		"{md5}900150983cd24fb0d6963f7d28e17f72", "{sha1}a9993e364706816aba3e25717850c26c9cd0d89d",
		"{symfony}sha1$2$NaCl$uUk+psHygJQXOn7AaFRRM+ZHC64=", "pbkdf2_sha1$1$salt$SwB5AbdlSJq+rUnZJvch0GWkKcE=",
	} {
		quick := least(v, generated)
		for _, presented := range []string{"abc", "wrong"} {
			if cost := least(v, secret.NewText(presented)); cost < 50*quick {
				t.Errorf("%s costs %v, a generated secret %v", v, cost, quick)
			}
		}
	}
}

// TestForeignVerifierRefuses holds what is refused, in which words, and that they
// show nothing of a digest.
func TestForeignVerifierRefuses(t *testing.T) {
	const salt, digest = "c29tZXNhbHQ", "bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc"
	const bcryptRest = "CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
	const sha256Digest = "TdzY9guYviGDDO5e8icB+WQaRBjQTAQUrv8Ih2s0q1Y="
	for _, tt := range []struct{ text, says string }{
		{"", "does not begin"},
		{"correct horse", "does not begin"},
		{"correct$horse$battery$staple$of$some$length", "begins with correct$"},
		{"abc$def", "does not begin"},
		{"a9993e364706816aba3e25717850c26c9cd0d89d", "does not begin"},
		{"scrypt$16384$mysalt$8$1$" + digest, "begins with scrypt$"},
		{"$argon2d$v=19$m=256,t=2,p=2$" + salt + "$" + digest, "begins with $argon2d$"},
		{"$6$rounds=5000$" + salt + "$" + digest, "begins with $6$"},
		{"$2x$05$" + bcryptRest, "begins with $2x$"},
		{"{SSHA}" + salt + digest, "begins with {SSHA}"},
		{"$2a$", "bcrypt: it is not of 60 characters"},
		{"$2a$05$" + bcryptRest + "A", "bcrypt: it is not of 60 characters"},
		{"$2a$05$" + bcryptRest[1:] + "!", "bcrypt: it is not of 60 characters"},
		{"$2a$5$" + bcryptRest + "A", "bcrypt: it is not of 60 characters"},
		{"$2a$03$" + bcryptRest, "bcrypt: cost 3 is not within 4 to 15"},
		{"$2a$16$" + bcryptRest, "bcrypt: cost 16 is not within 4 to 15"},
		{"$2a$31$" + bcryptRest, "bcrypt: cost 31 is not within"},
		{"$2a$05$" + bcryptRest + "\n", "bcrypt: it is not of 60"},
		{"$argon2id$v=16$m=256,t=2,p=2$" + salt + "$" + digest, "argon2id: it is not v=19"},
		{"$argon2id$m=256,t=2,p=2$" + salt + "$" + digest, "argon2id: it is not v=19"},
		{"$argon2id$v=19$m=262145,t=1,p=1$" + salt + "$" + digest, "more than this server spends"},
		{"$argon2id$v=19$m=262144,t=5,p=1$" + salt + "$" + digest, "more than this server spends"},
		{"$argon2id$v=19$m=9999999,t=1,p=1$" + salt + "$" + digest, "more than this server spends"},
		{"$argon2id$v=19$m=99999999,t=1,p=1$" + salt + "$" + digest, "it is not v=19"},
		{"$argon2i$v=19$m=1024,t=1,p=65$" + salt + "$" + digest, "more than this server spends"},
		{"$argon2i$v=19$m=256,t=0,p=1$" + salt + "$" + digest, "less than RFC 9106"},
		{"$argon2i$v=19$m=256,t=1,p=0$" + salt + "$" + digest, "less than RFC 9106"},
		{"$argon2i$v=19$m=15,t=1,p=2$" + salt + "$" + digest, "less than RFC 9106"},
		{"$argon2i$v=19$m=256,t=1,p=2$AAAA$" + digest, "its salt is not"},
		{"$argon2i$v=19$m=256,t=1,p=2$A$" + digest, "its salt is not"},
		{"$argon2i$v=19$m=256,t=1,p=2$" + strings.Repeat("A", 400) + "$" + digest, "its salt is not"},
		{"$argon2i$v=19$m=256,t=1,p=2$" + salt + "$AAAA", "its digest is not"},
		{"$argon2i$v=19$m=256,t=1,p=2$" + salt + "$A", "its digest is not"},
		{"argon2$" + digest, "argon2: there is no $argon2"},
		{"argon2$argon2d$v=19$m=256,t=2,p=2$" + salt + "$" + digest, "argon2: it begins with $argon2d$"},
		{"bcrypt_sha256$" + bcryptRest, "bcrypt_sha256: there is no $2"},
		{"bcrypt_sha256$$2b$20$" + bcryptRest, "bcrypt_sha256: bcrypt: cost 20"},
		{"bcrypt$bcrypt$$2b$05$" + bcryptRest, "bcrypt: there is no $2"},
		{"pbkdf2_sha256$1000$" + sha256Digest, "it is not iterations$salt$digest"},
		{"pbkdf2_sha256$1000$$" + sha256Digest, "it is not iterations$salt$digest"},
		{"pbkdf2_sha256$0$NaCl$" + sha256Digest, "its iterations are not 1 to 5000000"},
		{"pbkdf2_sha256$5000001$NaCl$" + sha256Digest, "its iterations are not 1 to 5000000"},
		{"pbkdf2_sha256$many$NaCl$" + sha256Digest, "its iterations are not 1 to 5000000"},
		{"pbkdf2_sha256$1000$NaCl$AAAA", "its digest is not base64 of 32 bytes"},
		{"pbkdf2_sha1$1000$NaCl$" + sha256Digest, "its digest is not base64 of 20 bytes"},
		{"{sha1}900150983cd24fb0d6963f7d28e17f72", "sha1: it is not of 40 hexadecimal digits"},
		{"{md5}g00150983cd24fb0d6963f7d28e17f72", "md5: it is not of 32 hexadecimal digits"},
		{"{symfony}", "symfony: it is not sha1"},
		{"{symfony}md5$1$salt$AAAA", "symfony: it is not sha1"},
		{"{symfony}sha256$1$" + sha256Digest, "symfony: it is not sha1"},
		{"{symfony}sha256$100001$salt$" + sha256Digest, "its iterations are not 1 to 100000"},
		{"{symfony}sha256$1$salt$AAAA", "its digest is not base64 of 32 bytes"},
	} {
		v, err := secret.ForeignVerifier(tt.text)
		if v != "" || !errors.Is(err, secret.ErrVerifierSyntax) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q: %q, %v; want %q", tt.text, string(v), err, tt.says)
			continue
		}
		for _, part := range []string{salt, digest, bcryptRest, sha256Digest, "horse", "a9993e3"} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("%q: the error shows %q: %v", tt.text, part, err)
			}
		}
		if secret.Verifier(tt.text).Foreign() || secret.Verifier(tt.text).Check() == nil {
			t.Errorf("%q is known", tt.text)
		}
	}
}

// TestForeignVerifierBoundsWork holds that no password makes Symfony's message
// digest, which goes over all of it again and again, take long.
func TestForeignVerifierBoundsWork(t *testing.T) {
	v := secret.Verifier("{symfony}sha1$10000$NaCl$uUk+psHygJQXOn7AaFRRM+ZHC64=")
	started := time.Now()
	v.Verify(secret.NewText(strings.Repeat("x", 4096)))
	longest := time.Since(started)
	started = time.Now()
	v.Verify(secret.NewText(strings.Repeat("x", 1<<20)))
	if longer := time.Since(started); longer > 20*longest {
		t.Errorf("a password of 1 MiB costs %v, one of 4 KiB %v", longer, longest)
	}
}

// FuzzForeignVerifier stays with generated secrets, whose check is quick whatever
// the verifier is.
func FuzzForeignVerifier(f *testing.F) {
	for _, tt := range foreignVectors {
		f.Add(string(tt.verifier))
	}
	for _, seed := range []string{"", "$", "{}", "{symfony}$$$", "$2a$", "bcrypt$bcrypt$", "argon2$argon2$", "$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$", planted} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := secret.ForeignVerifier(text)
		if (err == nil) != (secret.Verifier(text).Check() == nil) || err == nil && string(v) != text || err != nil && v != "" {
			t.Fatalf("%q: %q, %v", text, string(v), err)
		}
		if err != nil && !errors.Is(err, secret.ErrVerifierSyntax) {
			t.Fatalf("%q: %v", text, err)
		}
		if err != nil && len(text) > 20 && strings.Contains(err.Error(), text[len(text)-20:]) {
			t.Fatalf("%q: the error shows its end: %v", text, err)
		}
		if v.Foreign() && v.Verify(generated) {
			t.Fatalf("%q takes a generated secret", text)
		}
	})
}
