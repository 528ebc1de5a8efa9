package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	driver "zombiezen.com/go/sqlite"
)

const (
	// batchLimit is how many operations one transaction takes: enough that the
	// flush of the disk is shared, few enough that the first does not wait long
	// for the last.
	batchLimit = 256
	// patience is how long a caller whose context has ended waits for the
	// outcome of an operation that is being written.
	patience = 5 * time.Second
)

// Steps of the path that a write takes, in their order, as Options.Step is
// told them. What a crash at each leaves:
//
//   - begin, begun: the file is untouched; the lock ends with the process.
//   - applied: changed pages are in memory, or in the log without the mark of a
//     commit, which recovery ignores.
//   - commit: as before. A crash within the commit leaves a log whose last
//     checksums do not match, ignored, or that is complete: all of the batch
//     or none of it. Nobody was answered.
//   - committed, answer: the log is flushed and the batch is durable. Nobody was
//     answered, and whoever asks again finds it done.
//   - checkpoint, checkpointed: the log is flushed before pages are copied from
//     it, and is not overwritten before the copies are flushed. A crash
//     between leaves the whole log, which recovery reads again.
const (
	StepBegin        = "begin"        // before BEGIN
	StepBegun        = "begun"        // after BEGIN
	StepApplied      = "applied"      // after each operation
	StepCommit       = "commit"       // before COMMIT
	StepCommitted    = "committed"    // after COMMIT
	StepAnswer       = "answer"       // before the callers hear of it
	StepCheckpoint   = "checkpoint"   // before the log is moved into the file
	StepCheckpointed = "checkpointed" // after it
)

// operation is one caller's write.
type operation struct {
	run   func(*driver.Conn) error
	state atomic.Int32 // waiting, then taken or left
	err   error        // of run, until the batch is answered
	done  chan error   // has room for the one answer
}

const (
	waiting = iota
	taken   // by the writer: it will be answered
	left    // by its caller: it will not run
)

// writer owns the one connection that writes. Its goroutine takes all
// operations that wait, runs them in one transaction, and answers them when the
// commit is durable: one flush of the disk serves them all, and a lone
// operation is never delayed.
type writer struct {
	path        string
	file        os.FileInfo  // which file path named when it was opened
	conn        *driver.Conn // nil after a failure, until it is opened anew
	anchor      *driver.Conn // keeps the index of the log, shared in memory, while conn is opened anew
	failing     bool         // the last transaction failed
	log         *slog.Logger
	step        func(string)
	queue       chan *operation
	closing     chan struct{}
	stopped     chan struct{}
	checkpoints checkpointer
}

// newWriter takes over conn and starts the goroutine.
func newWriter(path string, conn *driver.Conn, o Options) (*writer, error) {
	file, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	anchor, err := openReader(path)
	if err != nil {
		return nil, err
	}
	if _, err := schemaVersion(anchor); err != nil { // the first read joins the log
		return nil, errors.Join(err, anchor.Close())
	}
	w := &writer{
		path: path, file: file, conn: conn, anchor: anchor, log: o.Log, step: o.Step,
		queue:   make(chan *operation, 4*batchLimit),
		closing: make(chan struct{}),
		stopped: make(chan struct{}),
	}
	w.startCheckpoints(o.LogPages)
	go w.serve()
	return w, nil
}

// do runs f in a transaction and returns its error when the outcome is durable.
// f is one statement, or wrapped by whole. Where the context ends before f was
// begun, f does not run and the error is the context's.
func (w *writer) do(ctx context.Context, f func(*driver.Conn) error) error {
	op, err := w.ask(ctx, f)
	if err != nil {
		return err
	}
	select {
	case err := <-op.done:
		return err
	case <-ctx.Done():
		if op.state.CompareAndSwap(waiting, left) {
			return ctx.Err()
		}
	case <-w.stopped:
		if op.state.CompareAndSwap(waiting, left) {
			return errClosed
		}
	}
	select {
	case err := <-op.done:
		return err
	case <-time.After(patience):
		return fmt.Errorf("sqlite: the disk did not answer in time, so the outcome is not known: %w", ctx.Err())
	}
}

// ask puts f into the queue and does not wait for it.
func (w *writer) ask(ctx context.Context, f func(*driver.Conn) error) (*operation, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case <-w.closing:
		return nil, errClosed
	default:
	}
	op := &operation{run: f, done: make(chan error, 1)}
	select {
	case w.queue <- op:
		return op, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-w.closing:
		return nil, errClosed
	}
}

func (w *writer) serve() {
	defer close(w.stopped)
	batch := make([]*operation, 0, batchLimit)
	for {
		select {
		case op := <-w.queue:
			// Let those run who are ready to ask as well. Without this, on one
			// CPU, each send to the queue runs this goroutine next and every
			// batch is one operation.
			runtime.Gosched()
			w.commit(w.gather(batch[:0], op))
		case <-w.checkpoints.passed:
			w.afterPass()
		case <-w.closing:
			for {
				select {
				case op := <-w.queue:
					w.commit(w.gather(batch[:0], op))
				default:
					return
				}
			}
		}
	}
}

// gather takes what waits, beginning with op, except what its callers have left.
func (w *writer) gather(batch []*operation, op *operation) []*operation {
	for {
		if op.state.CompareAndSwap(waiting, taken) {
			batch = append(batch, op)
		}
		if len(batch) == batchLimit {
			return batch
		}
		select {
		case op = <-w.queue:
		default:
			return batch
		}
	}
}

// commit writes a batch and answers it.
func (w *writer) commit(batch []*operation) {
	if len(batch) == 0 {
		return
	}
	failure := w.transact(batch)
	if failure == nil && w.failing {
		w.failing = false
		w.log.Info("transactions succeed again", "path", w.path)
	}
	w.step(StepAnswer)
	for _, op := range batch {
		if failure != nil {
			op.err = failure
		}
		op.done <- classify(op.err)
	}
	if failure == nil {
		w.afterCommit()
	}
}

// transact runs a batch in one transaction. An error means that nothing of it
// was done, and that the database is unavailable.
func (w *writer) transact(batch []*operation) error {
	if err := w.connect(); err != nil {
		return err
	}
	w.step(StepBegin)
	if err := run(w.conn, "BEGIN IMMEDIATE", nil); err != nil {
		return w.fail(err)
	}
	w.step(StepBegun)
	for _, op := range batch {
		op.err = op.run(w.conn)
		if broken(op.err) || w.conn.AutocommitEnabled() { // SQLite itself rolls back after some errors
			return w.fail(op.err)
		}
		w.step(StepApplied)
	}
	w.step(StepCommit)
	if err := run(w.conn, "COMMIT", nil); err != nil {
		return w.fail(err)
	}
	w.step(StepCommitted)
	return nil
}

// fail undoes the transaction. Unless somebody else just held the lock, the
// connection is closed as well, so that nothing it remembers is served: what is
// true is what a new one reads from the file.
//
// A commit whose flush failed stays invisible: its pages lie behind the end
// that the shared index of the log knows, and the next commit overwrites them.
// It must not be built upon, since a kernel that failed to flush a page may
// never try again; therefore the anchor keeps the index alive meanwhile. Only
// a crash before the next commit can make those pages count, if all of them
// can be read; the callers know no outcome and ask again, which finds it done.
func (w *writer) fail(cause error) error {
	if !w.failing { // once, not for each of thousands
		w.failing = true
		w.log.Error("transactions fail and are answered as unavailable", "path", w.path, "error", cause)
	}
	if !w.conn.AutocommitEnabled() {
		run(w.conn, "ROLLBACK", nil) // where this fails too, closing undoes it
	}
	if driver.ErrCode(cause).ToPrimary() != driver.ResultBusy {
		w.disconnect()
	}
	return unavailable(cause)
}

func (w *writer) disconnect() {
	if w.conn == nil {
		return
	}
	if err := w.conn.Close(); err != nil {
		w.log.Error("closing a broken connection failed", "path", w.path, "error", err)
	}
	w.conn = nil
}

// connect opens the connection where there is none, on the file that Open
// opened and no other, because the readers still have that one.
func (w *writer) connect() error {
	if w.conn != nil {
		return nil
	}
	file, err := os.Stat(w.path)
	if err != nil {
		return unavailable(err)
	}
	if !os.SameFile(file, w.file) {
		return unavailable(fmt.Errorf("%s was replaced while in use: restart", w.path))
	}
	conn, err := openWriter(w.path)
	if err != nil {
		return unavailable(err)
	}
	w.conn = conn
	return nil
}

// whole makes an operation of several statements atomic within its batch: where
// it fails, what it did is undone and its neighbours are not touched.
func whole(f func(*driver.Conn) error) func(*driver.Conn) error {
	return func(conn *driver.Conn) error {
		if err := run(conn, "SAVEPOINT operation", nil); err != nil {
			return err
		}
		err := f(conn)
		if err != nil && conn.AutocommitEnabled() {
			return err
		}
		if err != nil {
			err = errors.Join(err, run(conn, "ROLLBACK TO operation", nil))
		}
		return errors.Join(err, run(conn, "RELEASE operation", nil))
	}
}

// when runs f, an operation that says whether it did something, as a whole.
func (db *DB) when(ctx context.Context, f func(*driver.Conn) (bool, error)) (bool, error) {
	did := false // read only after the writer has answered
	err := db.writer.do(ctx, whole(func(conn *driver.Conn) (err error) {
		did, err = f(conn)
		return err
	}))
	if err != nil {
		return false, err
	}
	return did, nil
}

// close answers what waits and ends the goroutine and the connection. Being the
// last connection, its end moves the log into the file and removes the log.
func (w *writer) close() error {
	close(w.closing)
	<-w.stopped
	w.stopCheckpoints()
	err := w.anchor.Close()
	if w.conn != nil {
		err = errors.Join(err, w.conn.Close())
	}
	return err
}
