package secret_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/evergrant/evergrant/secret"
)

var purposes = []secret.Purpose{secret.CodeMAC, secret.RefreshMAC, secret.AccessSeal, secret.AccessID, secret.BrowserSeal,
	secret.TokenSeal, secret.AnswerSeal, secret.ConnectSeal}

// plantedKey is key number 1 of the planted root key.
func plantedKey(t testing.TB) *secret.Key {
	t.Helper()
	_, root := plantedRoot(t)
	return openRing(t, root, openStore(t, "")).Current()
}

// TestDerivation holds the bytes of keys, MACs and seals, which were computed
// by other software: a version that changes them loses every token.
func TestDerivation(t *testing.T) {
	_, root := plantedRoot(t)
	if got, want := root.Fingerprint(), "06d98fe5d7a0d4ae"; got != want {
		t.Errorf("the fingerprint is %s, want %s", got, want)
	}
	key := plantedKey(t)
	for p, want := range map[secret.Purpose]string{
		secret.CodeMAC:     "f2fb8d3a68c324637a79ac4c95cfc4f5aa8ebf7ada",
		secret.RefreshMAC:  "acb3db896cc5259b64a8f6e69893ab43789f5796ce",
		secret.AccessSeal:  "a606f9fff079ba4621eaac73f0b3d14f3bc5cbf86c",
		secret.AccessID:    "7074f62e68e1b0500ed380f7067a38bec51aa32ea3",
		secret.BrowserSeal: "ce485d67a576265da8b1f9311e1d07db3b327e09bd",
		secret.TokenSeal:   "c96dc9159fde95b84fc69adf49306f62913876b349",
		secret.AnswerSeal:  "de47cfca396eb40f6a3c2f64bb8be3958f30918cd1",
		secret.ConnectSeal: "924a80682563cbce8ef5d238d47f40c4200c7cc971",
	} {
		if got := key.MAC(p, []byte("sample")); hex.EncodeToString(got[:]) != want {
			t.Errorf("the MAC of purpose %d is %x, want %s", p, got, want)
		}
	}
	const sealed = "affb87e53047c95386d9a8677995445264946e4d9c3f586c6570fd9c5d3c5a96f178"
	if got := key.Seal(secret.AccessSeal, []byte("sample"), []byte("with")); hex.EncodeToString(got) != sealed {
		t.Errorf("the seal is %x, want %s", got, sealed)
	}
}

// otherKeys are keys that must take nothing of the planted one's: another
// number under the same root key, and the same number under another.
func otherKeys(t *testing.T) map[string]*secret.Key {
	t.Helper()
	_, root := plantedRoot(t)
	next, err := openRing(t, root, openStore(t, "")).Key(2)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*secret.Key{"the next key": next, "the key of another root": openRing(t, secret.NewRoot(), openStore(t, "")).Current()}
}

func TestMAC(t *testing.T) {
	key, data := plantedKey(t), []byte("key id, grant id, generation")
	if secret.MACSize%3 != 0 || secret.MACSize*8 < 160 {
		t.Errorf("a MAC of %d bytes", secret.MACSize)
	}
	seen := map[[secret.MACSize]byte]secret.Purpose{}
	for _, p := range purposes {
		mac := key.MAC(p, data)
		if other, twice := seen[mac]; twice {
			t.Errorf("purposes %d and %d give the same MAC", p, other)
		}
		seen[mac] = p
		if mac != key.MAC(p, bytes.Clone(data)) {
			t.Errorf("purpose %d gives another MAC the second time", p)
		}
		for _, q := range purposes {
			if key.VerifyMAC(q, data, mac[:]) != (p == q) {
				t.Errorf("the MAC of purpose %d is taken for purpose %d: %t", p, q, p != q)
			}
		}
		for name, other := range otherKeys(t) {
			if other.VerifyMAC(p, data, mac[:]) {
				t.Errorf("%s takes the MAC", name)
			}
		}
	}
}

func TestVerifyMACRefuses(t *testing.T) {
	key, data := plantedKey(t), []byte("data")
	mac := key.MAC(secret.RefreshMAC, data)
	for bit := range len(mac) * 8 {
		flipped := mac
		flipped[bit/8] ^= 1 << (bit % 8)
		if key.VerifyMAC(secret.RefreshMAC, data, flipped[:]) {
			t.Errorf("bit %d may be flipped", bit)
		}
	}
	for length := range mac {
		if key.VerifyMAC(secret.RefreshMAC, data, mac[:length]) {
			t.Errorf("%d bytes of it suffice", length)
		}
	}
	if key.VerifyMAC(secret.RefreshMAC, data, append(mac[:], 0)) || key.VerifyMAC(secret.RefreshMAC, data, nil) {
		t.Error("a longer MAC or none is taken")
	}
	for _, other := range []string{"", "dat", "data\x00", "Data"} {
		if key.VerifyMAC(secret.RefreshMAC, []byte(other), mac[:]) {
			t.Errorf("it is taken for %q", other)
		}
	}
	if empty := key.MAC(secret.RefreshMAC, nil); !key.VerifyMAC(secret.RefreshMAC, []byte{}, empty[:]) {
		t.Error("the MAC of nothing is not taken")
	}
}

func TestSealAndOpen(t *testing.T) {
	key := plantedKey(t)
	long := bytes.Repeat([]byte("long "), 2000)
	for _, plaintext := range [][]byte{nil, []byte("x"), []byte("claims of a token"), long} {
		for _, associated := range [][]byte{nil, []byte("row 7"), long} {
			name := fmt.Sprintf("%d bytes with %d", len(plaintext), len(associated))
			before, beside := bytes.Clone(plaintext), bytes.Clone(associated)
			sealed := key.Seal(secret.AccessSeal, plaintext, associated)
			if len(sealed) != 12+len(plaintext)+16 {
				t.Errorf("%s: sealed it has %d bytes", name, len(sealed))
			}
			if !bytes.Equal(sealed, key.Seal(secret.AccessSeal, plaintext, associated)) {
				t.Errorf("%s: the second seal differs", name)
			}
			if len(plaintext) > 4 && bytes.Contains(sealed, plaintext[:5]) {
				t.Errorf("%s: the plaintext shows", name)
			}
			again := bytes.Clone(sealed)
			opened, err := key.Open(secret.AccessSeal, sealed, associated)
			if err != nil || !bytes.Equal(opened, plaintext) {
				t.Errorf("%s: opened %q, %v", name, opened, err)
			}
			if !bytes.Equal(plaintext, before) || !bytes.Equal(associated, beside) || !bytes.Equal(sealed, again) {
				t.Errorf("%s: an argument was changed", name)
			}
		}
	}
	withNone, withEmpty := key.Seal(secret.AccessSeal, []byte("x"), nil), key.Seal(secret.AccessSeal, []byte("x"), []byte{})
	if !bytes.Equal(withNone, withEmpty) {
		t.Error("no associated data and empty associated data differ")
	}
}

// TestSealNonces holds that different input is sealed under different nonces,
// wherever the border between its two parts lies: a nonce used for two
// plaintexts would open both.
func TestSealNonces(t *testing.T) {
	key, seen := plantedKey(t), map[string]string{}
	const text = "associated and plaintext"
	for border := range len(text) + 1 {
		for _, p := range purposes {
			nonce := string(key.Seal(p, []byte(text[border:]), []byte(text[:border]))[:12])
			name := fmt.Sprintf("purpose %d, border %d", p, border)
			if other, twice := seen[nonce]; twice {
				t.Errorf("%s has the nonce of %s", name, other)
			}
			seen[nonce] = name
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	key, plaintext, associated := plantedKey(t), []byte("claims"), []byte("row 7")
	sealed := key.Seal(secret.AccessSeal, plaintext, associated)
	refuses := func(name string, k *secret.Key, p secret.Purpose, sealed, associated []byte) {
		t.Helper()
		if opened, err := k.Open(p, sealed, associated); !errors.Is(err, secret.ErrSealed) || opened != nil {
			t.Errorf("%s: opened %q, %v", name, opened, err)
		}
	}
	for bit := range len(sealed) * 8 {
		flipped := bytes.Clone(sealed)
		flipped[bit/8] ^= 1 << (bit % 8)
		refuses(fmt.Sprintf("bit %d flipped", bit), key, secret.AccessSeal, flipped, associated)
	}
	for length := range sealed {
		refuses(fmt.Sprintf("cut to %d bytes", length), key, secret.AccessSeal, sealed[:length], associated)
		refuses(fmt.Sprintf("the last %d bytes", length), key, secret.AccessSeal, sealed[len(sealed)-length:], associated)
	}
	refuses("longer", key, secret.AccessSeal, append(bytes.Clone(sealed), 0), associated)
	refuses("nothing", key, secret.AccessSeal, nil, associated)
	refuses("without associated data", key, secret.AccessSeal, sealed, nil)
	refuses("with other associated data", key, secret.AccessSeal, sealed, []byte("row 8"))
	refuses("with longer associated data", key, secret.AccessSeal, sealed, []byte("row 7."))
	for _, p := range purposes {
		if p != secret.AccessSeal {
			refuses(fmt.Sprintf("for purpose %d", p), key, p, sealed, associated)
		}
	}
	for name, other := range otherKeys(t) {
		refuses("by "+name, other, secret.AccessSeal, sealed, associated)
	}
}

func TestKeyPrintsAsItsNumber(t *testing.T) {
	rootKey, root := plantedRoot(t)
	ring := openRing(t, root, openStore(t, ""))
	key := ring.Current()
	key.Signers()
	for _, verb := range formatted {
		if got := fmt.Sprintf(verb, key); got != "key 1" {
			t.Errorf("%s prints %q", verb, got)
		}
	}
	if high, err := ring.Key(4294967295); err != nil || fmt.Sprint(high) != "key 4294967295" {
		t.Errorf("the highest number prints %v, %v", high, err)
	}
	derived := derivedKeys(t, rootKey)
	for _, v := range append(everywhere(key), *key, struct{ Key secret.Key }{*key}) {
		for _, material := range derived {
			checkPrintings(t, v, material)
		}
	}
}
