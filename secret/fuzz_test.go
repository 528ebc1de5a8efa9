package secret_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/secret"
)

func FuzzParseRoot(f *testing.F) {
	key, root := plantedRoot(f)
	for _, seed := range []string{
		"", "\n", "=", root.Base64(), root.Base64() + "\n", base64.RawURLEncoding.EncodeToString(key), root.Base64()[1:], "AA" + root.Base64(),
		root.Base64()[:20] + "\n" + root.Base64()[20:], string(key), strings.Repeat("A", 43), strings.Repeat("_", 43), strings.Repeat("/", 42) + "_",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		root, err := secret.ParseRoot(text)
		if !bytes.Equal(text, before) {
			t.Fatal("the text was changed")
		}
		if err != nil {
			if !errors.Is(err, secret.ErrRootSyntax) || !root.Empty() {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		clear, err := base64.StdEncoding.DecodeString(root.Base64())
		if err != nil || len(clear) != secret.RootSize || root.Empty() || fmt.Sprint(root) != "[redacted]" {
			t.Fatalf("%q: %d bytes, %v", text, len(clear), err)
		}
		again, err := secret.ParseRoot([]byte(root.Base64()))
		if err != nil || again.Base64() != root.Base64() || again.Fingerprint() != root.Fingerprint() {
			t.Fatalf("%q does not come back: %v", text, err)
		}
		if !bytes.Contains(text, []byte(base64.RawStdEncoding.EncodeToString(clear)[:42])) && !bytes.ContainsAny(text, "-_\r\n") {
			t.Fatalf("%q is another root key", text)
		}
	})
}

// FuzzVerifier stays with generated secrets, whose check is quick whatever the
// verifier is.
func FuzzVerifier(f *testing.F) {
	for _, seed := range []secret.Verifier{
		"", "$", "$$", "hmac-sha256$$", "hmac-sha256$AA$AA", "$argon2id$v=19$m=19456,t=2,p=1$$", secret.Slow(), chosenVerifier, generatedVerifier,
		generatedVerifier[:60], generatedVerifier + "$", "brent123", "$2y$10$x", "hmac-sha256$A\nA$AA",
	} {
		f.Add(string(seed))
	}
	f.Fuzz(func(t *testing.T, text string) {
		v := secret.Verifier(text)
		err := v.Check()
		if err != nil && !errors.Is(err, secret.ErrVerifierSyntax) {
			t.Fatalf("%q: %v", text, err)
		}
		printed := fmt.Sprintf("%+v", v)
		if printed != "argon2id verifier" && printed != "hmac-sha256 verifier" && !v.Foreign() && (printed != "unknown verifier" || err == nil) {
			t.Fatalf("%q prints %q", text, printed)
		}
		if !v.Verify(generated) {
			return
		}
		if err != nil || !strings.HasPrefix(text, "hmac-sha256$") || v.Verify(secret.NewText("egs_"+strings.Repeat("B", 43))) {
			t.Fatalf("%q takes secrets that it was not made of", text)
		}
	})
}

func FuzzKeyOpen(f *testing.F) {
	key := plantedKey(f)
	sealed := key.Seal(secret.AccessSeal, []byte("claims"), []byte("row 7"))
	f.Add([]byte{}, []byte{})
	f.Add(sealed, []byte("row 7"))
	f.Add(sealed, []byte("row 8"))
	f.Add(sealed[:27], []byte("row 7"))
	f.Add(sealed[:28], []byte("row 7"))
	f.Add(append(bytes.Clone(sealed), 0), []byte("row 7"))
	f.Add(key.Seal(secret.BrowserSeal, []byte("claims"), nil), []byte{})
	f.Fuzz(func(t *testing.T, data, associated []byte) {
		// What opens was sealed by this key, byte for byte.
		plaintext, err := key.Open(secret.AccessSeal, data, associated)
		if err != nil && (!errors.Is(err, secret.ErrSealed) || plaintext != nil) {
			t.Fatalf("opened %q, %v", plaintext, err)
		}
		if err == nil && !bytes.Equal(key.Seal(secret.AccessSeal, plaintext, associated), data) {
			t.Fatalf("%x opens, and was not sealed", data)
		}
		// What is sealed opens, with its associated data and for its purpose only.
		made := key.Seal(secret.AccessID, data, associated)
		if opened, err := key.Open(secret.AccessID, made, associated); err != nil || !bytes.Equal(opened, data) {
			t.Fatalf("%x opens as %x, %v", data, opened, err)
		}
		if _, err := key.Open(secret.AccessSeal, made, associated); !errors.Is(err, secret.ErrSealed) {
			t.Fatalf("it opens for another purpose: %v", err)
		}
		if _, err := key.Open(secret.AccessID, made, append(bytes.Clone(associated), 'x')); !errors.Is(err, secret.ErrSealed) {
			t.Fatalf("it opens with other associated data: %v", err)
		}
		mac := key.MAC(secret.CodeMAC, data)
		if !key.VerifyMAC(secret.CodeMAC, data, mac[:]) || key.VerifyMAC(secret.CodeMAC, data, associated) != bytes.Equal(mac[:], associated) {
			t.Fatalf("the MAC %x of %x", mac, data)
		}
	})
}
