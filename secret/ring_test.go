package secret_test

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/internal/testdb"
	"github.com/evergrant/evergrant/secret"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// openStore opens the database at a place, or a new one for "".
func openStore(t testing.TB, place testdb.Place) *testdb.DB {
	t.Helper()
	if place == "" {
		place = testdb.New(t)
	}
	db, err := place.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// start is when the clocks of these tests begin; stores keep milliseconds.
var start = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func openRing(t testing.TB, root secret.Root, store secret.KeyStore) *secret.Ring {
	t.Helper()
	ring, err := secret.OpenRing(t.Context(), root, store, func() time.Time { return start }, false)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

// derivedKeys computes the material of key number 1 in the way that the package
// comment tells.
func derivedKeys(t *testing.T, root []byte) [][]byte {
	t.Helper()
	derive := func(key []byte, purpose string) []byte {
		out, err := hkdf.Key(sha256.New, key, nil, "evergrant/"+purpose, 32)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	seed := derive(root, "key/1")
	all := [][]byte{root, seed, derive(seed, "sign/ed25519")}
	for _, name := range []string{"code-mac", "refresh-mac", "access-seal", "access-id", "browser-seal"} {
		all = append(all, derive(seed, name+"/mac"), derive(seed, name+"/aead"))
	}
	return all
}

func ids(records []secret.KeyRecord) []uint32 {
	list := []uint32{}
	for _, record := range records {
		list = append(list, record.ID)
	}
	return list
}

func keys(t *testing.T, store secret.KeyStore) []secret.KeyRecord {
	t.Helper()
	records, err := store.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return records
}

func TestOpenRingMakesTheFirstKey(t *testing.T) {
	path := testdb.New(t)
	store, root := openStore(t, path), secret.NewRoot()
	ring := openRing(t, root, store)
	records := keys(t, store)
	if len(records) != 1 {
		t.Fatalf("the store has keys %v", ids(records))
	}
	first := records[0]
	if first.ID != 1 || first.Root != root.Fingerprint() || !first.CreatedAt.Equal(start) || !first.ActiveFrom.Equal(start) || first.SealedRSA != nil {
		t.Errorf("the first key is %+v", first)
	}
	if ring.Current().ID != 1 || len(ring.Keys()) != 1 || len(ring.Records()) != 1 {
		t.Errorf("current %v, keys %v", ring.Current(), ring.Keys())
	}

	mac := ring.Current().MAC(secret.RefreshMAC, []byte("data"))
	again := openRing(t, root, openStore(t, path))
	if got := keys(t, store); len(got) != 1 {
		t.Errorf("opening again made keys %v", ids(got))
	}
	if again.Current().ID != 1 || !again.Current().VerifyMAC(secret.RefreshMAC, []byte("data"), mac[:]) {
		t.Error("the reopened ring does not verify what the first one made")
	}
}

func TestOpenRingRefusesAnotherRoot(t *testing.T) {
	store, root := openStore(t, ""), secret.NewRoot()
	openRing(t, root, store)
	before := fmt.Sprint(keys(t, store))
	for _, withRSA := range []bool{false, true} {
		ring, err := secret.OpenRing(t.Context(), secret.NewRoot(), &readOnly{t, store}, time.Now, withRSA)
		if !errors.Is(err, secret.ErrWrongRoot) || ring != nil {
			t.Errorf("got %v, %v", ring, err)
		}
	}
	if after := fmt.Sprint(keys(t, store)); after != before {
		t.Errorf("the keys were %s and are %s", before, after)
	}
}

func TestOpenRingRefusesNoRoot(t *testing.T) {
	store := openStore(t, "")
	ring, err := secret.OpenRing(t.Context(), secret.Root{}, &readOnly{t, store}, time.Now, false)
	if !errors.Is(err, secret.ErrRootSyntax) || ring != nil {
		t.Errorf("got %v, %v", ring, err)
	}
}

// readOnly is a store that nothing may be written to.
type readOnly struct {
	t *testing.T
	secret.KeyStore
}

func (r *readOnly) AddKey(context.Context, secret.KeyRecord) error {
	r.t.Error("a key was added")
	return nil
}

func (r *readOnly) DeleteKey(context.Context, uint32) error {
	r.t.Error("a key was deleted")
	return nil
}

func TestRotateWithLead(t *testing.T) {
	clock := &clock{now: start}
	store := openStore(t, "")
	ring, err := secret.OpenRing(t.Context(), secret.NewRoot(), store, clock.read, false)
	if err != nil {
		t.Fatal(err)
	}
	const lead = time.Hour
	record, err := ring.Rotate(t.Context(), lead, false)
	if err != nil || record.ID != 2 || !record.CreatedAt.Equal(start) || !record.ActiveFrom.Equal(start.Add(lead)) {
		t.Fatalf("the new key is %+v, %v", record, err)
	}
	tests := []struct {
		name    string
		after   time.Duration
		current uint32
	}{
		{"at once", 0, 1},
		{"just before", lead - time.Millisecond, 1},
		{"at its time", lead, 2},
		{"later", 24 * time.Hour, 2},
		{"when the clock was set back", 0, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			clock.set(start.Add(tt.after))
			if got := ring.Current().ID; got != tt.current {
				t.Errorf("key %d is current, want %d", got, tt.current)
			}
			if got := fmt.Sprint(ring.Keys()); got != "[key 1 key 2]" {
				t.Errorf("the keys in force are %s: a pending one must be published", got)
			}
			for _, id := range []uint32{1, 2} {
				if key, err := ring.Key(id); err != nil || key.ID != id {
					t.Errorf("key %d does not verify: %v", id, err)
				}
			}
		})
	}
}

// TestRotateWhileAKeyIsPending holds that the newest active key is current, also
// where an older one becomes active after it.
func TestRotateWhileAKeyIsPending(t *testing.T) {
	clock := &clock{now: start}
	ring, err := secret.OpenRing(t.Context(), secret.NewRoot(), openStore(t, ""), clock.read, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, lead := range []time.Duration{time.Hour, 0} { // keys 2 and 3
		if _, err := ring.Rotate(t.Context(), lead, false); err != nil {
			t.Fatal(err)
		}
	}
	for _, after := range []time.Duration{0, 2 * time.Hour} {
		clock.set(start.Add(after))
		if got := ring.Current().ID; got != 3 {
			t.Errorf("after %v key %d is current", after, got)
		}
	}
}

func TestRetiredKeysGoOnVerifying(t *testing.T) {
	ring := openRing(t, secret.NewRoot(), openStore(t, ""))
	data := []byte("data")
	var macs [][secret.MACSize]byte
	for range 4 {
		macs = append(macs, ring.Current().MAC(secret.CodeMAC, data))
		if _, err := ring.Rotate(t.Context(), 0, false); err != nil {
			t.Fatal(err)
		}
	}
	for i, mac := range macs {
		key, err := ring.Key(uint32(i + 1))
		if err != nil || !key.VerifyMAC(secret.CodeMAC, data, mac[:]) {
			t.Errorf("key %d does not verify what it made: %v", i+1, err)
		}
	}
	if ring.Current().ID != 5 {
		t.Errorf("current is %v", ring.Current())
	}
	if got := ids(ring.Records()); !slices.Equal(got, []uint32{1, 2, 3, 4, 5}) {
		t.Errorf("the records are %v", got)
	}
}

func TestDelete(t *testing.T) {
	clock := &clock{now: start}
	store := openStore(t, "")
	ring, err := secret.OpenRing(t.Context(), secret.NewRoot(), store, clock.read, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, lead := range []time.Duration{0, 0, time.Hour} { // keys 2, 3 and, pending, 4
		if _, err := ring.Rotate(t.Context(), lead, false); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []uint32{3, 4, 5, 4294967295} { // current, pending, unknown
		if err := ring.Delete(t.Context(), id); !errors.Is(err, secret.ErrCurrentKey) {
			t.Errorf("deleting key %d: %v, want ErrCurrentKey", id, err)
		}
	}
	if err := ring.Delete(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Key(2); !errors.Is(err, secret.ErrUnknownKey) {
		t.Errorf("the deleted key: %v, want ErrUnknownKey", err)
	}
	for _, again := range []uint32{2, 0} { // not in use
		if err := ring.Delete(t.Context(), again); err != nil {
			t.Errorf("deleting key %d: %v", again, err)
		}
	}
	if got, want := ids(keys(t, store)), []uint32{1, 3, 4}; !slices.Equal(got, want) || !slices.Equal(ids(ring.Records()), want) {
		t.Errorf("left are %v, in force %v, want %v", got, ring.Keys(), want)
	}
	clock.set(start.Add(time.Hour))
	if err := ring.Delete(t.Context(), 3); err != nil || ring.Current().ID != 4 {
		t.Errorf("after the next key became current: %v, current is %v", err, ring.Current())
	}
	if record, err := ring.Rotate(t.Context(), 0, false); err != nil || record.ID != 5 {
		t.Errorf("the next number is %d, %v: a number must not come back", record.ID, err)
	}
}

// TestKeysAboveTheNewestVerify holds that a ring on an older copy of the
// database, or one that has not reloaded, takes what later keys made.
func TestKeysAboveTheNewestVerify(t *testing.T) {
	path, root, data := testdb.New(t), secret.NewRoot(), []byte("data")
	behind := openRing(t, root, openStore(t, path))
	ahead := openRing(t, root, openStore(t, path))
	for range 3 {
		if _, err := ahead.Rotate(t.Context(), 0, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := ahead.Delete(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	newest := ahead.Current()
	mac, sealed := newest.MAC(secret.RefreshMAC, data), newest.Seal(secret.AccessSeal, data, nil)

	key, err := behind.Key(4)
	if err != nil || !key.VerifyMAC(secret.RefreshMAC, data, mac[:]) {
		t.Fatalf("key 4 does not verify: %v", err)
	}
	if opened, err := key.Open(secret.AccessSeal, sealed, nil); err != nil || string(opened) != "data" {
		t.Errorf("it opens %q, %v", opened, err)
	}
	forged := openRing(t, secret.NewRoot(), openStore(t, "")).Current().MAC(secret.RefreshMAC, data)
	if key.VerifyMAC(secret.RefreshMAC, data, forged[:]) {
		t.Error("it verifies what the holder of another root key made")
	}
	if behind.Current().ID != 1 || len(behind.Keys()) != 1 {
		t.Error("the ring counts a key that it does not know as its own")
	}
	for _, id := range []uint32{0, 2} {
		if _, err := ahead.Key(id); !errors.Is(err, secret.ErrUnknownKey) {
			t.Errorf("key %d: %v, want ErrUnknownKey", id, err)
		}
	}

	if err := behind.Reload(t.Context()); err != nil || behind.Current().ID != 4 {
		t.Errorf("after Reload %v is current, %v", behind.Current(), err)
	}
	if _, err := behind.Key(2); !errors.Is(err, secret.ErrUnknownKey) {
		t.Errorf("after Reload key 2, deleted elsewhere: %v", err)
	}
}

func TestReloadKeepsDerivedKeys(t *testing.T) {
	ring := openRing(t, secret.NewRoot(), openStore(t, ""))
	before := ring.Current()
	if err := ring.Reload(t.Context()); err != nil || ring.Current() != before {
		t.Errorf("the key was derived again: %v", err)
	}
}

func TestRecordsAreACopy(t *testing.T) {
	ring := openRing(t, secret.NewRoot(), openStore(t, ""))
	ring.Records()[0].ID = 99
	if got := ring.Records()[0].ID; got != 1 || ring.Current() == nil {
		t.Errorf("the ring's record was changed: %d", got)
	}
}

func TestRingPrintsNoKey(t *testing.T) {
	rootKey, root := plantedRoot(t)
	ring := openRing(t, root, openStore(t, ""))
	ring.Current().Signers()
	for _, v := range append(everywhere(ring), ring.Keys(), ring.Records()) {
		for _, material := range derivedKeys(t, rootKey) {
			checkPrintings(t, v, material)
		}
	}
}
