package postgres

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"

	"github.com/evergrant/evergrant/issuer"
)

const (
	// batchesAtOnce is how many batches are in flight at most.
	batchesAtOnce = 2
	// batchLimit is how many rotations one statement makes: enough that the flush
	// of the disk and the way to the server are shared, few enough that the first
	// does not wait long for the last.
	batchLimit = 256
)

// errClosed answers whoever comes after Close.
var errClosed = unavailable(errors.New("it is closed"))

// rotation is what one caller asked for, and its answer.
type rotation struct {
	issuer.Rotation
	grant   issuer.Grant
	rotated bool
	err     error
	done    chan struct{} // closed when the answer is there
}

// batcher makes rotations in batches: those that wait while the last ones are in
// flight go together, and a lone one goes at once. There is a goroutine for each
// batch in flight, and none at other times. Two batches have no grant in common,
// so that none waits for the other.
type batcher struct {
	commit  func([]*rotation)
	mu      sync.Mutex
	waiting []*rotation // in the order in which they were asked for
	busy    map[issuer.GrantID]bool
	flying  int
	flights sync.WaitGroup
	closed  bool
}

func newBatcher(db *DB) *batcher {
	return &batcher{commit: db.rotateBatch, busy: map[issuer.GrantID]bool{}}
}

// rotate makes a rotation as one of a batch. The caller may leave until that is
// in flight.
func (b *batcher) rotate(ctx context.Context, r issuer.Rotation) (issuer.Grant, bool, error) {
	one := &rotation{Rotation: r, done: make(chan struct{})}
	if err := b.ask(one); err != nil {
		return issuer.Grant{}, false, err
	}
	select {
	case <-one.done:
	case <-ctx.Done():
		if b.leave(one) {
			return issuer.Grant{}, false, ctx.Err()
		}
		<-one.done
	}
	return one.grant, one.rotated, one.err
}

func (b *batcher) ask(one *rotation) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return errClosed
	}
	b.waiting = append(b.waiting, one)
	if b.flying < batchesAtOnce {
		b.flying++
		b.flights.Go(b.fly)
	}
	return nil
}

// leave takes a rotation back. It reports false where that is in flight.
func (b *batcher) leave(one *rotation) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.waiting, one)
	if i >= 0 {
		b.waiting = slices.Delete(b.waiting, i, i+1)
	}
	return i >= 0
}

// fly makes batches until nothing waits.
func (b *batcher) fly() {
	// Let those run who are ready to ask as well. Without this, on one CPU, each
	// would be a batch of its own until all batches are in flight.
	runtime.Gosched()
	for batch := b.next(nil); len(batch) > 0; batch = b.next(batch) {
		b.commit(batch)
		for _, one := range batch {
			close(one.done)
		}
	}
}

// next lets go of the batch that was made last, and takes what waits, at most
// one rotation of each grant, and none of a grant that is in flight: whoever made
// that one takes it next. Rows are in the order of their ids, so that batches of
// two processes do not wait for each other in a circle.
func (b *batcher) next(last []*rotation) (batch []*rotation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, one := range last {
		delete(b.busy, one.ID)
	}
	b.waiting = slices.DeleteFunc(b.waiting, func(one *rotation) bool {
		if len(batch) == batchLimit || b.busy[one.ID] {
			return false
		}
		b.busy[one.ID] = true
		batch = append(batch, one)
		return true
	})
	if len(batch) == 0 {
		b.flying--
	}
	slices.SortFunc(batch, func(a, b *rotation) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return batch
}

// close answers what waits, and refuses all that comes later.
func (b *batcher) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.flights.Wait()
}

// rotateBatch makes a batch of rotations. Where the server refuses it as a whole,
// each is tried alone, so that a bad one does not fail its neighbours.
func (db *DB) rotateBatch(batch []*rotation) {
	ctx := context.Background() // each caller was in time
	rows, err := db.rotateGrants(ctx, batch)
	switch {
	case outcomeUnknown(err):
		db.settleBatch(ctx, batch, err)
		return
	case len(batch) > 1 && (sqlState(err) == deadlock || err != nil && !errors.Is(err, issuer.ErrUnavailable)):
		for i := range batch {
			db.rotateBatch(batch[i : i+1])
		}
		return
	}
	var losers []*rotation
	for _, one := range batch {
		if one.grant, one.rotated = rows[one.ID]; err != nil {
			one.err = err
		} else if !one.rotated {
			losers = append(losers, one)
		}
	}
	db.eachRow(ctx, losers, func(one *rotation, row issuer.Grant) { one.grant = row })
}

// settleBatch reads what became of a batch whose outcome is not known.
func (db *DB) settleBatch(ctx context.Context, batch []*rotation, cause error) {
	db.eachRow(ctx, batch, func(one *rotation, row issuer.Grant) {
		one.grant, one.rotated, one.err = settleRotation(one.Rotation, row, cause)
	})
	for _, one := range batch {
		if one.err != nil && !errors.Is(one.err, issuer.ErrNotFound) {
			one.err = unproven(cause)
		}
	}
}

// eachRow reads the grants of rotations as they stand.
func (db *DB) eachRow(ctx context.Context, batch []*rotation, f func(*rotation, issuer.Grant)) {
	if len(batch) == 0 {
		return
	}
	rows, err := db.grantRows(ctx, batch)
	for _, one := range batch {
		row, ok := rows[one.ID]
		switch {
		case err != nil:
			one.err = err
		case !ok:
			one.err = issuer.ErrNotFound
		default:
			f(one, row)
		}
	}
}
