package secret

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// KeyRecord is what a store keeps of a numbered key: no key material but an RSA
// key, sealed under the root key.
type KeyRecord struct {
	ID         uint32
	Root       string    // fingerprint of the root key it is derived from
	CreatedAt  time.Time // when it was made
	ActiveFrom time.Time // when it begins to make tokens; published and verifying before
	SealedRSA  []byte    // nil unless the key can sign RS256
}

// KeyStore keeps the records of keys. Its methods are atomic and durable.
type KeyStore interface {
	// Keys are all records, lowest number first. It sees what any process wrote.
	Keys(ctx context.Context) ([]KeyRecord, error)
	// AddKey stores a record unless its number is taken; then the error is
	// ErrKeyExists and nothing changed.
	AddKey(ctx context.Context, record KeyRecord) error
	// DeleteKey removes a record; one that is not there is no error. Where
	// something that the store keeps is still sealed under the key, the error is
	// ErrKeyInUse and nothing changed.
	DeleteKey(ctx context.Context, id uint32) error
}

// Errors of rings.
var (
	ErrKeyExists  = errors.New("secret: a key with this number exists")
	ErrNoKeys     = errors.New("secret: the store has lost all keys")
	ErrWrongRoot  = errors.New("the root key is not the one that this database was made with")
	ErrCurrentKey = errors.New("only a retired key can be deleted; this one makes tokens, or is about to")
	ErrKeyInUse   = errors.New("connections are still sealed under this key; the keeper seals them anew under the newest one: wait until it has")
)

// Ring is the set of keys that is in force. It is safe for concurrent use.
type Ring struct {
	root  Root
	store KeyStore
	now   func() time.Time

	reload sync.Mutex // so that what was read first does not replace what was read later
	keys   atomic.Pointer[ringState]
}

type ringState struct {
	records []KeyRecord // lowest number first
	byID    map[uint32]*Key
}

// OpenRing loads the keys of a store and makes the first one where there is
// none; withRSA says whether that one can sign RS256. A root key that is not
// the store's is refused with ErrWrongRoot, and an empty one with ErrRootSyntax,
// before anything is written.
func OpenRing(ctx context.Context, root Root, store KeyStore, now func() time.Time, withRSA bool) (*Ring, error) {
	if root.Empty() {
		return nil, ErrRootSyntax
	}
	r := &Ring{root: root, store: store, now: now}
	if err := r.Reload(ctx); err != nil {
		return nil, err
	}
	if len(r.keys.Load().records) > 0 {
		return r, nil
	}
	if _, err := r.add(ctx, 0, withRSA); err != nil && !errors.Is(err, ErrKeyExists) {
		return nil, err // a key that exists by now is another process's first one: as good as ours
	}
	return r, r.Reload(ctx)
}

// Reload takes over what other processes have added or deleted. Where it fails,
// the known keys stay in force.
func (r *Ring) Reload(ctx context.Context) error {
	r.reload.Lock()
	defer r.reload.Unlock()
	records, err := r.store.Keys(ctx)
	if err != nil {
		return err
	}
	state := &ringState{records: records, byID: map[uint32]*Key{}}
	old := r.keys.Load()
	if old != nil && len(records) == 0 {
		return ErrNoKeys
	}
	if !r.root.Made(records) {
		return ErrWrongRoot
	}
	for _, record := range records {
		if old != nil && old.byID[record.ID] != nil {
			state.byID[record.ID] = old.byID[record.ID]
			continue
		}
		rsaDER, err := r.openRSA(record)
		if err != nil {
			return err
		}
		state.byID[record.ID] = newKey(r.root, record.ID, rsaDER)
	}
	r.keys.Store(state)
	return nil
}

// Made reports whether all keys of the records are derived from the root key.
func (r Root) Made(records []KeyRecord) bool {
	fingerprint := r.Fingerprint()
	return !slices.ContainsFunc(records, func(record KeyRecord) bool { return record.Root != fingerprint })
}

// Current is the key that makes tokens: the newest that is active.
func (r *Ring) Current() *Key {
	state := r.keys.Load()
	return state.byID[state.current(r.now()).ID]
}

func (s *ringState) current(now time.Time) KeyRecord {
	for i := len(s.records) - 1; i > 0; i-- {
		if !now.Before(s.records[i].ActiveFrom) {
			return s.records[i]
		}
	}
	return s.records[0]
}

// Key is the key with a number, for verifying, or ErrUnknownKey. A number above
// all known ones is not unknown: its key was made after the copy of the
// database that this one was restored from, or by another process since the
// last Reload, and only the holder of the root key can have used it.
func (r *Ring) Key(id uint32) (*Key, error) {
	state := r.keys.Load()
	if key := state.byID[id]; key != nil {
		return key, nil
	}
	if id <= state.records[len(state.records)-1].ID {
		return nil, ErrUnknownKey
	}
	return newKey(r.root, id, nil), nil
}

// Keys are all keys in force, lowest number first, pending ones included.
func (r *Ring) Keys() []*Key {
	state := r.keys.Load()
	keys := make([]*Key, 0, len(state.records))
	for _, record := range state.records {
		keys = append(keys, state.byID[record.ID])
	}
	return keys
}

// Records are the records of the keys in force, lowest number first.
func (r *Ring) Records() []KeyRecord { return slices.Clone(r.keys.Load().records) }

// Rotate adds a key that begins to make tokens after lead, which must outlast
// the time for which others cache the public keys. The old keys go on
// verifying. Where two processes rotate at once, one of them gets ErrKeyExists.
func (r *Ring) Rotate(ctx context.Context, lead time.Duration, withRSA bool) (KeyRecord, error) {
	if err := r.Reload(ctx); err != nil {
		return KeyRecord{}, err
	}
	record, err := r.add(ctx, lead, withRSA)
	if err != nil {
		return KeyRecord{}, err
	}
	return record, r.Reload(ctx)
}

func (r *Ring) add(ctx context.Context, lead time.Duration, withRSA bool) (KeyRecord, error) {
	now := r.now()
	record := KeyRecord{ID: 1, Root: r.root.Fingerprint(), CreatedAt: now, ActiveFrom: now.Add(lead)}
	if known := r.keys.Load().records; len(known) > 0 {
		record.ID = known[len(known)-1].ID + 1
	}
	if withRSA {
		der, err := newRSA()
		if err != nil {
			return KeyRecord{}, err
		}
		record.SealedRSA = r.wrapping().Seal(AccessSeal, der, associated(record.ID))
	}
	return record, r.store.AddKey(ctx, record)
}

// Delete ends a retired key: what it made is refused from now on. The key that
// makes tokens, and any number above it, gives ErrCurrentKey, and one under
// which something is still sealed ErrKeyInUse; a number that is not in use is no
// error.
func (r *Ring) Delete(ctx context.Context, id uint32) error {
	if id >= r.Current().ID {
		return ErrCurrentKey
	}
	if err := r.store.DeleteKey(ctx, id); err != nil {
		return err
	}
	return r.Reload(ctx)
}

// wrapping is key number 0, which seals keys and nothing else.
func (r *Ring) wrapping() *Key { return newKey(r.root, 0, nil) }

func (r *Ring) openRSA(record KeyRecord) ([]byte, error) {
	if len(record.SealedRSA) == 0 {
		return nil, nil
	}
	der, err := r.wrapping().Open(AccessSeal, record.SealedRSA, associated(record.ID))
	if err != nil {
		return nil, fmt.Errorf("RSA key of key %d: %w", record.ID, err)
	}
	return der, nil
}

func associated(id uint32) []byte { return fmt.Appendf(nil, "rsa/%d", id) }
