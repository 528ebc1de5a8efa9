package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"sync"
)

// Purpose separates the keys that one numbered key is used for, so that what
// was made for one is worth nothing for another.
type Purpose int

// The purposes.
const (
	CodeMAC      Purpose = iota // authorization codes
	RefreshMAC                  // refresh tokens
	AccessSeal                  // opaque access tokens
	AccessID                    // the jti of access tokens, which carries the grant
	BrowserSeal                 // cookies of sign-in pages
	TokenSeal                   // tokens that a keeper holds
	AnswerSeal                  // answers of providers, before they are read
	ConnectSeal                 // links to the page where an owner connects
	purposeCount                // not a purpose
)

var purposeNames = [purposeCount]string{"code-mac", "refresh-mac", "access-seal", "access-id", "browser-seal", "token-seal", "answer-seal", "connect-seal"}

// MACSize is the length of a token's MAC in bytes: 168 bits, above the 160 that
// RFC 6749 section 10.10 recommends, and a multiple of three so that base64
// leaves no bits over.
const MACSize = 21

// Errors of opening what was sealed.
var (
	ErrSealed     = errors.New("secret: sealed data is damaged or was not made by this key")
	ErrUnknownKey = errors.New("secret: unknown or deleted key")
)

// Key is one numbered key. It prints as its number.
type Key struct {
	ID uint32
	*material
}

// material is what of a key must not print. It is apart from Key because fmt,
// which does not ask unexported fields, follows one pointer for some verbs.
type material struct {
	macs  [purposeCount]macKey
	aeads [purposeCount]cipher.AEAD
	signers
}

// newKey derives the key with a number; rsaDER is its RSA key or nil.
func newKey(root Root, id uint32, rsaDER []byte) *Key {
	seed := derive(root.bytes(), "key/"+strconv.FormatUint(uint64(id), 10), 32)
	k := &Key{id, &material{signers: signers{seed: seed, rsaDER: rsaDER}}}
	for p, name := range purposeNames {
		k.macs[p].key = derive(seed, name+"/mac", 32)
		block, err := aes.NewCipher(derive(seed, name+"/aead", 32))
		if err != nil {
			panic(err) // only for a wrong key length
		}
		if k.aeads[p], err = cipher.NewGCM(block); err != nil {
			panic(err) // only for a wrong block size
		}
	}
	return k
}

// MAC is the truncated HMAC-SHA-256 of data (RFC 2104) under the purpose's key.
func (k *Key) MAC(p Purpose, data []byte) [MACSize]byte {
	sum := k.macs[p].sum(data)
	return [MACSize]byte(sum[:])
}

// macKey computes HMAC-SHA-256. It keeps the states that the key alone decides
// for the next use: they are half of the work for data as short as a token.
type macKey struct {
	key    []byte
	states sync.Pool // of hash.Hash
}

func (m *macKey) sum(parts ...[]byte) (sum [sha256.Size]byte) {
	h, ok := m.states.Get().(hash.Hash)
	if !ok {
		h = hmac.New(sha256.New, m.key)
	}
	for _, part := range parts {
		h.Write(part)
	}
	h.Sum(sum[:0])
	h.Reset()
	m.states.Put(h)
	return sum
}

// VerifyMAC reports in constant time whether mac is the MAC of data.
func (k *Key) VerifyMAC(p Purpose, data, mac []byte) bool {
	want := k.MAC(p, data)
	return hmac.Equal(want[:], mac)
}

// Seal encrypts and authenticates plaintext with AES-256-GCM; the same input
// gives the same output, because the nonce is an HMAC of it. So an equal
// request is answered with equal bytes, at the price that equal plaintexts are
// seen to be equal. associated is authenticated only. The result is nonce (12
// bytes), ciphertext and tag (16 bytes).
func (k *Key) Seal(p Purpose, plaintext, associated []byte) []byte {
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(associated)))
	nonce := k.macs[p].sum(length[:], associated, plaintext)
	aead := k.aeads[p]
	out := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plaintext)+aead.Overhead())
	copy(out, nonce[:])
	return aead.Seal(out, out[:aead.NonceSize()], plaintext, associated)
}

// Open reverses Seal. The error is ErrSealed.
func (k *Key) Open(p Purpose, sealed, associated []byte) ([]byte, error) {
	aead := k.aeads[p]
	if len(sealed) < aead.NonceSize()+aead.Overhead() {
		return nil, ErrSealed
	}
	nonce, ciphertext := sealed[:aead.NonceSize()], sealed[aead.NonceSize():]
	plaintext, err := aead.Open(nil, nonce, ciphertext, associated)
	if err != nil {
		return nil, ErrSealed
	}
	return plaintext, nil
}

// Format prints the key's number and nothing of its material.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "key %d", k.ID) }
