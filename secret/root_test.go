package secret_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/secret"
)

// plantedRoot are 32 bytes that do not occur by chance, and the root key that
// they are. In base64 they have characters of both alphabets.
func plantedRoot(t testing.TB) ([]byte, secret.Root) {
	t.Helper()
	key := make([]byte, secret.RootSize)
	for i := range key {
		key[i] = byte(i*7 + 0xa1)
	}
	root, err := secret.ParseRoot([]byte(base64.StdEncoding.EncodeToString(key)))
	if err != nil {
		t.Fatal(err)
	}
	return key, root
}

func TestParseRoot(t *testing.T) {
	key, _ := plantedRoot(t)
	key[0], key[1] = 0xfb, 0xff // + and / or - and _
	want, err := secret.ParseRoot([]byte(base64.StdEncoding.EncodeToString(key)))
	if err != nil {
		t.Fatal(err)
	}
	std, url := base64.StdEncoding.EncodeToString(key), base64.URLEncoding.EncodeToString(key)
	if !strings.Contains(std, "/") || !strings.Contains(url, "_") {
		t.Fatal("the example does not tell the alphabets apart")
	}
	for name, text := range map[string]string{
		"standard": std, "standard, no padding": strings.TrimRight(std, "="),
		"URL-safe": url, "URL-safe, no padding": strings.TrimRight(url, "="),
		"line break behind": std + "\n", "white space around": " \t\r\n" + url + "\r\n ",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := secret.ParseRoot([]byte(text))
			if err != nil || got.Base64() != want.Base64() || got.Fingerprint() != want.Fingerprint() || got.Empty() {
				t.Errorf("got fingerprint %s, %v", got.Fingerprint(), err)
			}
		})
	}
	if want.Base64() != std {
		t.Error("the clear form is not what was read")
	}
}

func TestParseRootRefuses(t *testing.T) {
	key, _ := plantedRoot(t)
	std := base64.StdEncoding.EncodeToString(key)
	for name, text := range map[string]string{
		"empty": "", "white space": " \n", "padding": "====",
		"one byte less": base64.StdEncoding.EncodeToString(key[:31]), "one byte more": base64.StdEncoding.EncodeToString(append(key[:32:32], 0)),
		"hexadecimal": hex.EncodeToString(key), "the bytes themselves": string(key),
		"two keys": std + "\n" + std, "space inside": std[:20] + " " + std[20:], "name before": "root_key: " + std, "quoted": `"` + std + `"`,
		"both alphabets": "+_" + std[2:], "no base64": strings.Repeat("!", 43), "padding inside": std[:20] + "=" + std[20:],
	} {
		t.Run(name, func(t *testing.T) {
			root, err := secret.ParseRoot([]byte(text))
			if !errors.Is(err, secret.ErrRootSyntax) || !root.Empty() {
				t.Fatalf("got %v, %v", root, err)
			}
			if text != "" && len(text) > 8 && strings.Contains(err.Error(), text) {
				t.Errorf("the error shows the text: %v", err)
			}
		})
	}
}

func TestNewRoot(t *testing.T) {
	seen := map[string]bool{}
	for range 50 {
		root := secret.NewRoot()
		again, err := secret.ParseRoot([]byte(root.Base64() + "\n"))
		if err != nil || again.Base64() != root.Base64() || again.Fingerprint() != root.Fingerprint() || root.Empty() {
			t.Fatalf("a new root key does not come back: %v", err)
		}
		if len(root.Fingerprint()) != 16 || seen[root.Fingerprint()] || seen[root.Base64()] {
			t.Fatal("a fingerprint is not 8 bytes, or it came twice")
		}
		seen[root.Fingerprint()], seen[root.Base64()] = true, true
	}
}

func TestRootFingerprint(t *testing.T) {
	key, root := plantedRoot(t)
	want, err := hkdf.Key(sha256.New, key, nil, "evergrant/fingerprint", 8)
	if err != nil || root.Fingerprint() != hex.EncodeToString(want) {
		t.Errorf("got %s, want %x, %v", root.Fingerprint(), want, err)
	}
	for i := range 256 {
		flipped := bytes.Clone(key)
		flipped[i/8] ^= 1 << (i % 8)
		other, err := secret.ParseRoot([]byte(base64.StdEncoding.EncodeToString(flipped)))
		if err != nil || other.Fingerprint() == root.Fingerprint() {
			t.Fatalf("with bit %d flipped it is still %s, %v", i, other.Fingerprint(), err)
		}
	}
}

func TestRootEmpty(t *testing.T) {
	var none secret.Root
	if !none.Empty() || secret.NewRoot().Empty() {
		t.Error("only the zero value is empty")
	}
	if got := fmt.Sprint(none); got != "[redacted]" {
		t.Errorf("it prints %q", got)
	}
}

func TestRootIsRedacted(t *testing.T) {
	key, root := plantedRoot(t)
	for _, verb := range formatted {
		if got := fmt.Sprintf(verb, root); strings.TrimSpace(got) != "[redacted]" {
			t.Errorf("%s prints %q", verb, got)
		}
	}
	for _, v := range everywhere(root) {
		checkPrintings(t, v, key)
	}
	for _, v := range everywhere(&root) {
		checkPrintings(t, v, key)
	}
	got, err := json.Marshal(map[string]any{"root": root})
	if want := `{"root":"[redacted]"}`; err != nil || string(got) != want {
		t.Errorf("as JSON: %s, %v", got, err)
	}
}
