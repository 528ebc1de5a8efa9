package storetest

import (
	"time"

	"github.com/evergrant/evergrant/secret"
)

func keyCases() []contract {
	return []contract{
		{"there are no keys at first", noKeys},
		{"keys are read back with every field, lowest number first", keysAreRead},
		{"a number that is taken is ErrKeyExists and nothing changes", keyExists},
		{"a deleted key is gone, and one that is not there is no error", keyIsDeleted},
		{"a ring can be opened, rotated and opened again", ringWorks},
		{"a ring keeps a key under which something is sealed", ringKeepsKey},
	}
}

// newKey is a record with no field empty.
func newKey(id uint32) secret.KeyRecord {
	return secret.KeyRecord{ID: id, Root: "fingerprint", CreatedAt: start(), ActiveFrom: start().Add(time.Hour), SealedRSA: []byte{0, 1, 2, 0xff}}
}

// keys are the records, as a list that can be compared.
func (f *fixture) keys() []any {
	f.Helper()
	records, err := f.Keys(f.Context())
	f.ok(err)
	var list []any
	for _, record := range records {
		record.CreatedAt, record.ActiveFrom = record.CreatedAt.UTC(), record.ActiveFrom.UTC()
		list = append(list, record)
	}
	return list
}

func noKeys(f *fixture) { f.equal(f.keys(), []any(nil)) }

func keysAreRead(f *fixture) {
	plain := newKey(3)
	plain.SealedRSA = nil
	last := newKey(1<<32 - 1)
	for _, record := range []secret.KeyRecord{last, newKey(1), plain} {
		f.ok(f.AddKey(f.Context(), record))
	}
	f.equal(f.keys(), []any{newKey(1), plain, last})
}

func keyExists(f *fixture) {
	f.ok(f.AddKey(f.Context(), newKey(1)))
	other := newKey(1)
	other.Root = "another"
	f.is(f.AddKey(f.Context(), other), secret.ErrKeyExists)
	f.equal(f.keys(), []any{newKey(1)})
}

func keyIsDeleted(f *fixture) {
	f.ok(f.AddKey(f.Context(), newKey(1)))
	f.ok(f.AddKey(f.Context(), newKey(2)))
	f.ok(f.DeleteKey(f.Context(), 1))
	f.ok(f.DeleteKey(f.Context(), 1))
	f.equal(f.keys(), []any{newKey(2)})
	f.ok(f.AddKey(f.Context(), newKey(1)))
	f.equal(f.keys(), []any{newKey(1), newKey(2)})
}

func ringWorks(f *fixture) {
	root := secret.NewRoot()
	ring, err := secret.OpenRing(f.Context(), root, f.Store, start, false)
	f.ok(err)
	_, err = ring.Rotate(f.Context(), 0, false)
	f.ok(err)
	f.reopen()
	again, err := secret.OpenRing(f.Context(), root, f.Store, start, false)
	f.ok(err)
	f.equal(again.Current().ID, uint32(2))
	_, err = secret.OpenRing(f.Context(), secret.NewRoot(), f.Store, start, false)
	f.is(err, secret.ErrWrongRoot)
}

func ringKeepsKey(f *fixture) {
	ring, err := secret.OpenRing(f.Context(), secret.NewRoot(), f.Store, start, false)
	f.ok(err)
	c := idle("c")
	c.Tokens = ring.Seal(secret.TokenSeal, []byte("tokens"), []byte("c"))
	c = f.keep(c)
	_, err = ring.Rotate(f.Context(), 0, false)
	f.ok(err)
	f.is(ring.Delete(f.Context(), 1), secret.ErrKeyInUse)
	tokens, err := ring.Open(secret.TokenSeal, f.connection("c").Tokens, []byte("c"))
	f.ok(err)
	f.equal(string(tokens), "tokens")

	c = f.lease("c", start())
	c.Tokens = ring.Seal(secret.TokenSeal, tokens, []byte("c"))
	f.commit(c)
	f.ok(ring.Delete(f.Context(), 1))
	_, err = ring.Key(1)
	f.is(err, secret.ErrUnknownKey)
}
