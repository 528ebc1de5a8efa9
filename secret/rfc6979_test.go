package secret

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/hex"
	"math/big"
	"testing"
)

// TestSignES256OfRFC6979 are the signatures with SHA-256 of appendix A.2.5.
func TestSignES256OfRFC6979(t *testing.T) {
	d, err := hex.DecodeString("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d)
	if err != nil {
		t.Fatal(err)
	}
	for message, want := range map[string]string{
		"sample": "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
		"test":   "f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083",
	} {
		got, err := signES256(key, []byte(message))
		if err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%s: %x, %v\nwant %s", message, got, err, want)
		}
	}
}

// TestSignES256IsPadded signs until R and S have begun with a zero byte, which
// ASN.1 leaves out and JWS must not.
func TestSignES256IsPadded(t *testing.T) {
	key := deriveECDSA([]byte("seed"))
	shortR, shortS := false, false
	for i := 0; !shortR || !shortS; i++ {
		message := []byte{byte(i), byte(i >> 8)}
		signature, err := signES256(key, message)
		if err != nil || len(signature) != 64 || i > 20_000 {
			t.Fatalf("signature %d: %x, %v", i, signature, err)
		}
		shortR, shortS = shortR || signature[0] == 0, shortS || signature[32] == 0
		digest := sha256.Sum256(message)
		r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		if !ecdsa.Verify(&key.PublicKey, digest[:], r, s) {
			t.Fatalf("signature %d is wrong", i)
		}
	}
}
