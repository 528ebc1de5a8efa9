package secret

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"sync"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Algorithm is a signature algorithm of JOSE (RFC 7518 section 3.1, RFC 8037).
type Algorithm string

// The algorithms. All sign deterministically: ES256 as RFC 6979 says, EdDSA and
// RS256 (PKCS #1 v1.5) by their nature.
const (
	ES256 Algorithm = "ES256"
	EdDSA Algorithm = "EdDSA"
	RS256 Algorithm = "RS256"
)

// Algorithms lists every supported algorithm.
func Algorithms() []Algorithm { return []Algorithm{ES256, EdDSA, RS256} }

// ErrNoSigningKey says that a key cannot sign with an algorithm: it is RS256
// and the key was made without an RSA key.
var ErrNoSigningKey = errors.New("secret: key has no signing key for the algorithm")

// signers are a key's signing keys, made at first use. The elliptic ones are
// derived from the seed; an RSA key cannot be and is stored.
type signers struct {
	seed   []byte
	rsaDER []byte
	once   sync.Once
	byAlg  map[Algorithm]*Signer
}

// Signer signs with one algorithm. It prints as its key id.
type Signer struct {
	Algorithm Algorithm
	KeyID     string // kid: the first 16 characters of the key's JWK thumbprint (RFC 7638)
	Public    crypto.PublicKey
	sign      func(message []byte) ([]byte, error)
}

// Sign returns the JWS signature of message (RFC 7515): for ES256 the 64 bytes
// R ‖ S (RFC 7518 section 3.4).
func (s *Signer) Sign(message []byte) ([]byte, error) { return s.sign(message) }

// JWK is the public half (RFC 7517).
func (s *Signer) JWK() jose.JSONWebKey {
	return jose.JSONWebKey{Key: s.Public, KeyID: s.KeyID, Algorithm: string(s.Algorithm), Use: "sig"}
}

// Format prints the key id and nothing of the private key.
func (s *Signer) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "%s key %s", s.Algorithm, s.KeyID) }

// Signer is the key's signer for an algorithm, or ErrNoSigningKey.
func (k *Key) Signer(alg Algorithm) (*Signer, error) {
	k.once.Do(k.makeSigners)
	if s := k.byAlg[alg]; s != nil {
		return s, nil
	}
	return nil, ErrNoSigningKey
}

// Signers are all signers of the key, in the order of Algorithms.
func (k *Key) Signers() []*Signer {
	k.once.Do(k.makeSigners)
	var all []*Signer
	for _, alg := range Algorithms() {
		if s := k.byAlg[alg]; s != nil {
			all = append(all, s)
		}
	}
	return all
}

func (s *signers) makeSigners() {
	s.byAlg = map[Algorithm]*Signer{}
	ed := ed25519.NewKeyFromSeed(derive(s.seed, "sign/ed25519", ed25519.SeedSize))
	s.add(EdDSA, ed.Public(), func(m []byte) ([]byte, error) { return ed25519.Sign(ed, m), nil })
	ec := deriveECDSA(s.seed)
	s.add(ES256, ec.Public(), func(m []byte) ([]byte, error) { return signES256(ec, m) })
	if s.rsaDER == nil {
		return
	}
	if key, err := x509.ParsePKCS1PrivateKey(s.rsaDER); err == nil {
		s.add(RS256, key.Public(), func(m []byte) ([]byte, error) {
			digest := sha256.Sum256(m)
			return rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
		})
	}
}

func (s *signers) add(alg Algorithm, public crypto.PublicKey, sign func([]byte) ([]byte, error)) {
	thumbprint, err := (&jose.JSONWebKey{Key: public}).Thumbprint(crypto.SHA256)
	if err != nil {
		panic(err) // only for a key type that JOSE does not know
	}
	kid := base64.RawURLEncoding.EncodeToString(thumbprint)[:16]
	s.byAlg[alg] = &Signer{Algorithm: alg, KeyID: kid, Public: public, sign: sign}
}

// deriveECDSA makes a P-256 key by "extra random bits" (FIPS 186-5 appendix
// A.2.1): 48 derived bytes reduced to 1 … n-1.
func deriveECDSA(seed []byte) *ecdsa.PrivateKey {
	curve := elliptic.P256()
	d := new(big.Int).SetBytes(derive(seed, "sign/p256", 48))
	d.Mod(d, new(big.Int).Sub(curve.Params().N, big.NewInt(1))).Add(d, big.NewInt(1))
	key, err := ecdsa.ParseRawPrivateKey(curve, d.FillBytes(make([]byte, 32)))
	if err != nil {
		panic(err) // d is in range by construction
	}
	return key
}

// signES256 signs deterministically (RFC 6979, which crypto/ecdsa follows where
// it is given no source of randomness) and turns ASN.1 into R ‖ S.
func signES256(key *ecdsa.PrivateKey, message []byte) ([]byte, error) {
	digest := sha256.Sum256(message)
	der, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	input, r, s := cryptobyte.String(der), new(big.Int), new(big.Int)
	var inner cryptobyte.String
	if !input.ReadASN1(&inner, asn1.SEQUENCE) || !inner.ReadASN1Integer(r) || !inner.ReadASN1Integer(s) {
		return nil, errors.New("secret: ECDSA signature is not ASN.1")
	}
	out := make([]byte, 64)
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out, nil
}

// newRSA makes a 2048-bit key in PKCS #1 form.
func newRSA() ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKCS1PrivateKey(key), nil
}
