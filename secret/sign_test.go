package secret_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/testdb"
	"github.com/evergrant/evergrant/secret"
	"github.com/go-jose/go-jose/v4"
)

var base64url = base64.RawURLEncoding

// compact is the compact JWS of a payload (RFC 7515 section 7.1), put together
// by hand.
func compact(t *testing.T, signer *secret.Signer, payload string) string {
	t.Helper()
	header := fmt.Sprintf(`{"alg":%q,"kid":%q}`, signer.Algorithm, signer.KeyID)
	text := base64url.EncodeToString([]byte(header)) + "." + base64url.EncodeToString([]byte(payload))
	signature, err := signer.Sign([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64url.EncodeToString(signature)
}

// withRSA opens a ring whose first key signs with every algorithm.
func withRSA(t *testing.T, root secret.Root, store secret.KeyStore) *secret.Ring {
	t.Helper()
	ring, err := secret.OpenRing(t.Context(), root, store, func() time.Time { return start }, true)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// TestSignatures verifies, for each algorithm, by go-jose and with the public
// key in the form in which a resource server gets it, and that a ring reopened
// on the same database signs the same.
func TestSignatures(t *testing.T) {
	path, root := testdb.New(t), secret.NewRoot()
	ring := withRSA(t, root, openStore(t, path))
	reopened := openRing(t, root, openStore(t, path))
	if got := ring.Records()[0]; len(got.SealedRSA) == 0 || !bytes.Equal(got.SealedRSA, reopened.Records()[0].SealedRSA) {
		t.Fatal("the RSA key is not kept")
	}
	sizes := map[secret.Algorithm]int{secret.ES256: 64, secret.EdDSA: 64, secret.RS256: 256}
	for i, alg := range secret.Algorithms() {
		t.Run(string(alg), func(t *testing.T) {
			signer, err := ring.Current().Signer(alg)
			if err != nil || signer.Algorithm != alg || ring.Current().Signers()[i] != signer {
				t.Fatalf("got %v, %v", signer, err)
			}
			document, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{signer.JWK()}})
			if err != nil {
				t.Fatal(err)
			}
			var published jose.JSONWebKeySet
			if err := json.Unmarshal(document, &published); err != nil || len(published.Key(signer.KeyID)) != 1 {
				t.Fatalf("published is %s, %v", document, err)
			}
			public := published.Key(signer.KeyID)[0]
			if public.Use != "sig" || public.Algorithm != string(alg) || !public.IsPublic() || !public.Valid() {
				t.Errorf("published is %s", document)
			}
			for _, payload := range []string{"", `{"sub":"bshaffer"}`, string(make([]byte, 5000))} {
				token := compact(t, signer, payload)
				if token != compact(t, signer, payload) {
					t.Error("the second signature differs")
				}
				if again, err := reopened.Current().Signer(alg); err != nil || compact(t, again, payload) != token {
					t.Errorf("the reopened ring signs otherwise: %v", err)
				}
				parsed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
				if err != nil {
					t.Fatal(err)
				}
				if verified, err := parsed.Verify(public); err != nil || string(verified) != payload {
					t.Errorf("go-jose says %v", err)
				}
				signature := parsed.Signatures[0].Signature
				if len(signature) != sizes[alg] {
					t.Errorf("a signature of %d bytes", len(signature))
				}
				signature[len(signature)-1] ^= 1
				if _, err := parsed.Verify(public); err == nil {
					t.Error("a damaged signature is taken")
				}
			}
		})
	}
}

// TestSigningKeys holds kids and signatures that were computed by other
// software: a version that changes them breaks every token that is verified by
// a published key.
func TestSigningKeys(t *testing.T) {
	key := plantedKey(t)
	tests := []struct {
		alg            secret.Algorithm
		kid, signature string
	}{
		{secret.ES256, "YAKpYorjqtpZcZDI", "2669143dff9a9181d46d8b5cd445f586241f0e4d661e4c47a35648ec0336beb5817e96c2d9701a562335349b652549ae0065897abbe0f9dd57685b140bf294ac"},
		{secret.EdDSA, "Jf6PCuNIpjdaWF7w", "0354cecac69c9057213ac57647782b5fdbc30f0ffbb72f2b8ee9d74c970e5d0e96a24d582f6ae792e62ca74252640efbd43ccfc7b34d932e8a8fddd549746801"},
	}
	for _, tt := range tests {
		signer, err := key.Signer(tt.alg)
		if err != nil {
			t.Fatal(err)
		}
		if signer.KeyID != tt.kid {
			t.Errorf("%s: the kid is %s, want %s", tt.alg, signer.KeyID, tt.kid)
		}
		if got, err := signer.Sign([]byte("sample")); err != nil || hex.EncodeToString(got) != tt.signature {
			t.Errorf("%s: the signature is %x, %v\nwant %s", tt.alg, got, err, tt.signature)
		}
	}
}

// TestKeyIDIsThumbprint computes the thumbprints of RFC 7638 section 3.2 and
// RFC 8037 section 2 from the public keys.
func TestKeyIDIsThumbprint(t *testing.T) {
	_, root := plantedRoot(t)
	ring := withRSA(t, root, openStore(t, ""))
	encode := func(n *big.Int) string { return base64url.EncodeToString(n.Bytes()) }
	for _, signer := range ring.Current().Signers() {
		var canonical string
		switch public := signer.Public.(type) {
		case *ecdsa.PublicKey:
			point, err := public.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			canonical = fmt.Sprintf(`{"crv":"P-256","kty":"EC","x":%q,"y":%q}`, base64url.EncodeToString(point[1:33]), base64url.EncodeToString(point[33:]))
		case ed25519.PublicKey:
			canonical = fmt.Sprintf(`{"crv":"Ed25519","kty":"OKP","x":%q}`, base64url.EncodeToString(public))
		case *rsa.PublicKey:
			canonical = fmt.Sprintf(`{"e":"AQAB","kty":"RSA","n":%q}`, encode(public.N))
			if public.N.BitLen() != 2048 || public.E != 65537 {
				t.Errorf("an RSA key of %d bits with exponent %d", public.N.BitLen(), public.E)
			}
		}
		digest := sha256.Sum256([]byte(canonical))
		if want := base64url.EncodeToString(digest[:])[:16]; signer.KeyID != want {
			t.Errorf("%s: kid %s, want %s", signer.Algorithm, signer.KeyID, want)
		}
	}
}

func TestSignersOfAKeyWithoutRSA(t *testing.T) {
	key := plantedKey(t)
	for _, alg := range []secret.Algorithm{secret.RS256, "", "none", "HS256", "es256"} {
		if signer, err := key.Signer(alg); !errors.Is(err, secret.ErrNoSigningKey) || signer != nil {
			t.Errorf("%q: got %v, %v; want ErrNoSigningKey", alg, signer, err)
		}
	}
	var algs []secret.Algorithm
	for _, signer := range key.Signers() {
		algs = append(algs, signer.Algorithm)
	}
	if !slices.Equal(algs, []secret.Algorithm{secret.ES256, secret.EdDSA}) {
		t.Errorf("it signs with %v", algs)
	}
	if again, err := key.Signer(secret.ES256); err != nil || again != key.Signers()[0] {
		t.Errorf("the signer is made anew: %v", err)
	}
}

func TestSigningKeysDiffer(t *testing.T) {
	_, root := plantedRoot(t)
	ring, seen := openRing(t, root, openStore(t, "")), map[string]bool{}
	for range 3 {
		if _, err := ring.Rotate(t.Context(), 0, false); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range append(ring.Keys(), openRing(t, secret.NewRoot(), openStore(t, "")).Keys()...) {
		for _, signer := range key.Signers() {
			if seen[signer.KeyID] {
				t.Errorf("kid %s comes twice", signer.KeyID)
			}
			seen[signer.KeyID] = true
		}
	}
	if len(seen) != 10 {
		t.Errorf("%d signing keys", len(seen))
	}
}

// TestSealedRSA holds that the stored RSA key is worth nothing without the root
// key, nor in the record of another key.
func TestSealedRSA(t *testing.T) {
	db, root := openStore(t, ""), secret.NewRoot()
	ring := withRSA(t, root, db)
	if _, err := ring.Rotate(t.Context(), 0, false); err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Current().Signer(secret.RS256); !errors.Is(err, secret.ErrNoSigningKey) {
		t.Errorf("key 2 was made without an RSA key: %v", err)
	}
	signer, err := ring.Keys()[0].Signer(secret.RS256)
	if err != nil {
		t.Fatal(err)
	}
	sealed := ring.Records()[0].SealedRSA
	modulus := signer.Public.(*rsa.PublicKey).N.Bytes()
	if bytes.Contains(sealed, modulus[:32]) {
		t.Error("the stored form shows the key")
	}

	changed := func(name string, change func([]secret.KeyRecord)) {
		records := keys(t, db)
		change(records)
		_, err := secret.OpenRing(t.Context(), root, &fixed{records: records}, time.Now, false)
		if !errors.Is(err, secret.ErrSealed) {
			t.Errorf("%s: %v, want ErrSealed", name, err)
		}
	}
	changed("in the record of key 2", func(records []secret.KeyRecord) { records[1].SealedRSA = sealed })
	changed("a bit flipped", func(records []secret.KeyRecord) { records[0].SealedRSA[40] ^= 1 })
	changed("cut", func(records []secret.KeyRecord) { records[0].SealedRSA = records[0].SealedRSA[:20] })

	records := keys(t, db)
	records[1].SealedRSA = []byte{} // as some drivers give a column without value
	if _, err := secret.OpenRing(t.Context(), root, &fixed{records: records}, time.Now, false); err != nil {
		t.Errorf("no bytes for no RSA key: %v", err)
	}
}

// fixed is a store that has certain records, which a test has damaged.
type fixed struct {
	secret.KeyStore
	records []secret.KeyRecord
}

func (f *fixed) Keys(context.Context) ([]secret.KeyRecord, error) { return f.records, nil }

func TestSignerPrintsNoKey(t *testing.T) {
	rootKey, root := plantedRoot(t)
	ring := withRSA(t, root, openStore(t, ""))
	for _, signer := range ring.Current().Signers() {
		if got, want := fmt.Sprintf("%+v", signer), string(signer.Algorithm)+" key "+signer.KeyID; got != want {
			t.Errorf("printed %q, want %q", got, want)
		}
		for _, v := range append(everywhere(signer), signer.JWK()) {
			for _, material := range derivedKeys(t, rootKey) {
				checkPrintings(t, v, material)
			}
		}
	}
}
