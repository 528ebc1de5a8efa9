package secret_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/testdb"
	"github.com/evergrant/evergrant/secret"
)

var errDown = errors.New("the database is down")

// faulty is a store that fails on order, before or after it has done its work.
type faulty struct {
	secret.KeyStore
	failKeys, failAdd, failDelete bool
	afterwards                    bool // the work is done and the answer is lost
	empty                         bool // Keys finds none
}

func (f *faulty) Keys(ctx context.Context) ([]secret.KeyRecord, error) {
	if f.failKeys || f.empty {
		return nil, errIf(f.failKeys)
	}
	return f.KeyStore.Keys(ctx)
}

func (f *faulty) AddKey(ctx context.Context, record secret.KeyRecord) error {
	if f.failAdd && !f.afterwards {
		return errDown
	}
	return errors.Join(f.KeyStore.AddKey(ctx, record), errIf(f.failAdd))
}

func (f *faulty) DeleteKey(ctx context.Context, id uint32) error {
	if f.failDelete && !f.afterwards {
		return errDown
	}
	return errors.Join(f.KeyStore.DeleteKey(ctx, id), errIf(f.failDelete))
}

func errIf(fails bool) error {
	if fails {
		return errDown
	}
	return nil
}

func TestOpenRingWhenTheStoreFails(t *testing.T) {
	tests := []struct {
		name  string
		store faulty
		made  int // keys afterwards
	}{
		{"Keys fails", faulty{failKeys: true}, 0},
		{"AddKey fails and was not applied", faulty{failAdd: true}, 0},
		{"AddKey fails and was applied", faulty{failAdd: true, afterwards: true}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			db, root := openStore(t, ""), secret.NewRoot()
			tt.store.KeyStore = db
			if ring, err := secret.OpenRing(t.Context(), root, &tt.store, time.Now, false); !errors.Is(err, errDown) || ring != nil {
				t.Errorf("got %v, %v", ring, err)
			}
			if got := keys(t, db); len(got) != tt.made {
				t.Errorf("the store has keys %v", ids(got))
			}
			if ring := openRing(t, root, db); ring.Current().ID != 1 || len(keys(t, db)) != 1 {
				t.Errorf("the next start finds %v", ring.Keys())
			}
		})
	}
	t.Run("the first key is not there afterwards", func(t *testing.T) {
		if _, err := secret.OpenRing(t.Context(), secret.NewRoot(), &faulty{KeyStore: openStore(t, ""), empty: true}, time.Now, false); !errors.Is(err, secret.ErrNoKeys) {
			t.Errorf("got %v, want ErrNoKeys", err)
		}
	})
}

func TestRingGoesOnWhenTheStoreFails(t *testing.T) {
	store := &faulty{KeyStore: openStore(t, "")}
	ring := openRing(t, secret.NewRoot(), store)
	if _, err := ring.Rotate(t.Context(), 0, false); err != nil {
		t.Fatal(err)
	}
	unchanged := func(name string) {
		t.Helper()
		if ring.Current().ID != 2 || !slices.Equal(ids(ring.Records()), []uint32{1, 2}) {
			t.Errorf("%s: the keys in force are %v", name, ring.Keys())
		}
	}

	store.failKeys = true
	if err := ring.Reload(t.Context()); !errors.Is(err, errDown) {
		t.Errorf("Reload: %v", err)
	}
	if _, err := ring.Rotate(t.Context(), 0, false); !errors.Is(err, errDown) {
		t.Errorf("Rotate: %v", err)
	}
	unchanged("Keys fails")

	store.failKeys, store.failAdd = false, true
	if record, err := ring.Rotate(t.Context(), 0, false); !errors.Is(err, errDown) || record.ID != 0 {
		t.Errorf("Rotate: %+v, %v", record, err)
	}
	unchanged("AddKey fails")

	store.failAdd, store.failDelete = false, true
	if err := ring.Delete(t.Context(), 1); !errors.Is(err, errDown) {
		t.Errorf("Delete: %v", err)
	}
	unchanged("DeleteKey fails")

	store.failDelete, store.empty = false, true
	if err := ring.Reload(t.Context()); !errors.Is(err, secret.ErrNoKeys) {
		t.Errorf("Reload of a store without keys: %v, want ErrNoKeys", err)
	}
	unchanged("the keys are gone")

	store.empty, store.failAdd, store.afterwards = false, true, true
	if _, err := ring.Rotate(t.Context(), 0, false); !errors.Is(err, errDown) {
		t.Errorf("Rotate: %v", err)
	}
	unchanged("AddKey fails and was applied")
	store.failAdd = false
	if record, err := ring.Rotate(t.Context(), 0, false); err != nil || record.ID != 4 || ring.Current().ID != 4 {
		t.Errorf("the next Rotate: %+v, %v", record, err)
	}
}

// TestReloadRefusesAnotherRoot is a database swapped under a running server.
func TestReloadRefusesAnotherRoot(t *testing.T) {
	store := &faulty{KeyStore: openStore(t, "")}
	ring := openRing(t, secret.NewRoot(), store)
	other := openStore(t, "")
	openRing(t, secret.NewRoot(), other)
	before := ring.Current()
	store.KeyStore = other
	if err := ring.Reload(t.Context()); !errors.Is(err, secret.ErrWrongRoot) || ring.Current() != before {
		t.Errorf("got %v, current is %v", err, ring.Current())
	}
	if _, err := ring.Rotate(t.Context(), 0, false); !errors.Is(err, secret.ErrWrongRoot) || len(keys(t, other)) != 1 {
		t.Errorf("Rotate: %v, the other database has keys %v", err, ids(keys(t, other)))
	}
}

// meeting is a store in which two callers of AddKey meet before either adds.
type meeting struct {
	secret.KeyStore
	here *sync.WaitGroup
}

func (m *meeting) AddKey(ctx context.Context, record secret.KeyRecord) error {
	m.here.Done()
	m.here.Wait()
	return m.KeyStore.AddKey(ctx, record)
}

func TestTwoRingsMakeTheFirstKey(t *testing.T) {
	path, root := testdb.New(t), secret.NewRoot()
	var here, done sync.WaitGroup
	here.Add(2)
	rings, errs := make([]*secret.Ring, 2), make([]error, 2)
	for i := range rings {
		store := &meeting{openStore(t, path), &here}
		done.Go(func() {
			rings[i], errs[i] = secret.OpenRing(t.Context(), root, store, func() time.Time { return start.Add(time.Duration(i) * time.Hour) }, false)
		})
	}
	done.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	a, b := rings[0].Records(), rings[1].Records()
	if len(a) != 1 || len(b) != 1 || !a[0].CreatedAt.Equal(b[0].CreatedAt) || a[0].ID != 1 {
		t.Errorf("they have %+v and %+v", a, b)
	}
	mac := rings[0].Current().MAC(secret.CodeMAC, nil)
	if !rings[1].Current().VerifyMAC(secret.CodeMAC, nil, mac[:]) {
		t.Error("one does not verify what the other made")
	}
}

func TestTwoRingsWithTwoRootsMakeTheFirstKey(t *testing.T) {
	path := testdb.New(t)
	var here, done sync.WaitGroup
	here.Add(2)
	errs := make([]error, 2)
	for i := range errs {
		store := &meeting{openStore(t, path), &here}
		done.Go(func() { _, errs[i] = secret.OpenRing(t.Context(), secret.NewRoot(), store, time.Now, false) })
	}
	done.Wait()
	if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs...), secret.ErrWrongRoot) {
		t.Errorf("got %v; want one ErrWrongRoot", errs)
	}
}

func TestTwoRingsRotateAtOnce(t *testing.T) {
	path, root := testdb.New(t), secret.NewRoot()
	var here, done sync.WaitGroup
	rings, errs := make([]*secret.Ring, 2), make([]error, 2)
	openRing(t, root, openStore(t, path)) // makes the first key, so that these do not
	for i := range rings {
		rings[i] = openRing(t, root, &meeting{openStore(t, path), &here})
	}
	here.Add(2)
	for i := range rings {
		done.Go(func() { _, errs[i] = rings[i].Rotate(t.Context(), 0, false) })
	}
	done.Wait()
	won, lost := 0, 1
	if errs[0] != nil {
		won, lost = 1, 0
	}
	if errs[won] != nil || !errors.Is(errs[lost], secret.ErrKeyExists) {
		t.Fatalf("got %v; want one ErrKeyExists", errs)
	}
	if got := ids(rings[won].Records()); !slices.Equal(got, []uint32{1, 2}) {
		t.Errorf("the winner has keys %v", got)
	}
	if err := rings[lost].Reload(t.Context()); err != nil || rings[lost].Current().ID != 2 {
		t.Errorf("the loser reloads to %v, %v", rings[lost].Current(), err)
	}
	here.Add(1)
	if record, err := rings[lost].Rotate(t.Context(), 0, false); err != nil || record.ID != 3 {
		t.Errorf("the loser's next: %+v, %v", record, err)
	}
}

// slowReader is a store whose next Keys, once armed, holds what it has read
// until it is let go.
type slowReader struct {
	secret.KeyStore
	armed         atomic.Bool
	holding, free chan struct{}
}

func (s *slowReader) Keys(ctx context.Context) ([]secret.KeyRecord, error) {
	records, err := s.KeyStore.Keys(ctx)
	if s.armed.CompareAndSwap(true, false) {
		close(s.holding)
		<-s.free
	}
	return records, err
}

// TestReloadDoesNotGoBack holds that a slow Reload does not bring back a key
// that was deleted while it ran.
func TestReloadDoesNotGoBack(t *testing.T) {
	store := &slowReader{KeyStore: openStore(t, ""), holding: make(chan struct{}), free: make(chan struct{})}
	ring := openRing(t, secret.NewRoot(), store)
	if _, err := ring.Rotate(t.Context(), 0, false); err != nil {
		t.Fatal(err)
	}
	store.armed.Store(true)
	var both sync.WaitGroup
	both.Go(func() {
		if err := ring.Reload(t.Context()); err != nil {
			t.Error(err)
		}
	})
	<-store.holding
	deleted := make(chan struct{})
	both.Go(func() {
		defer close(deleted)
		if err := ring.Delete(t.Context(), 1); err != nil {
			t.Error(err)
		}
	})
	select { // Delete either overtakes the Reload now, or waits for it
	case <-deleted:
	case <-time.After(100 * time.Millisecond):
	}
	close(store.free)
	both.Wait()
	if _, err := ring.Key(1); !errors.Is(err, secret.ErrUnknownKey) {
		t.Errorf("the deleted key is back: %v", err)
	}
}

// TestRingConcurrently lets the race detector see all methods at once.
func TestRingConcurrently(t *testing.T) {
	ring := openRing(t, secret.NewRoot(), openStore(t, ""))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 20 {
				current := ring.Current()
				mac := current.MAC(secret.RefreshMAC, []byte("data"))
				if key, err := ring.Key(current.ID); err != nil || !key.VerifyMAC(secret.RefreshMAC, []byte("data"), mac[:]) {
					t.Errorf("key %d: %v", current.ID, err)
				}
				if _, err := current.Signer(secret.EdDSA); err != nil || len(ring.Keys()) < 1 || len(ring.Records()) < 1 {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		all.Go(func() {
			for range 5 {
				if _, err := ring.Rotate(t.Context(), 0, false); err != nil && !errors.Is(err, secret.ErrKeyExists) {
					t.Error(err)
				}
				if err := ring.Reload(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if got := len(ring.Records()); got < 6 || int(ring.Current().ID) != got {
		t.Errorf("%d keys, %v is current", got, ring.Current())
	}
}
