package sqlite

import (
	driver "zombiezen.com/go/sqlite"
)

// defaultLogPages makes checkpoints rare. Many refreshes of one grant, or of
// neighbours, then cost one page in the database file; and a log of this size
// is still read in a fraction of a second after a crash.
const defaultLogPages = 16 << 10

// checkpointer copies the log into the database file while the writer goes on.
//
// SQLite would do it inside every thousandth commit or so, and let everybody
// wait for the flush of scattered pages. Here a goroutine with a connection of
// its own copies and flushes what is in the log when it starts. By then the
// log has grown, and it can only be overwritten from its beginning when all of
// it is copied; under constant load that moment never comes by itself.
// Therefore the writer itself copies the rest, which is short, between two
// transactions.
type checkpointer struct {
	begin   chan struct{}
	passed  chan struct{}
	stopped chan struct{}
	pages   int64 // Options.LogPages
	// The writer's own:
	running bool  // a pass is under way
	due     int64 // the length of the log that begins the next pass
}

// startCheckpoints starts the goroutine, which stopCheckpoints ends.
func (w *writer) startCheckpoints(pages int) {
	w.checkpoints = checkpointer{
		begin: make(chan struct{}, 1), passed: make(chan struct{}, 1), stopped: make(chan struct{}),
		pages: int64(pages), due: int64(pages),
	}
	go func() {
		defer close(w.checkpoints.stopped)
		for range w.checkpoints.begin {
			w.pass()
			w.checkpoints.passed <- struct{}{}
		}
	}()
}

func (w *writer) stopCheckpoints() {
	close(w.checkpoints.begin)
	<-w.checkpoints.stopped
}

// pass copies what is in the log now. Where it fails, all is left to the writer.
func (w *writer) pass() {
	w.step(StepCheckpoint)
	conn, err := openConn(w.path)
	if err == nil {
		_, _, err = checkpoint(conn, "PASSIVE")
		conn.Close()
	}
	if err != nil {
		w.log.Error("moving the write-ahead log in the background failed", "path", w.path, "error", err)
	}
	w.step(StepCheckpointed)
}

// afterCommit begins a pass when the log has grown enough.
func (w *writer) afterCommit() {
	pages, copied, err := checkpoint(w.conn, "NOOP")
	if err != nil {
		w.log.Error("the length of the write-ahead log is not known", "path", w.path, "error", err)
		return
	}
	c := &w.checkpoints
	if pages < c.pages { // overwritten from its beginning since the last pass
		c.due = c.pages
	}
	if !c.running && pages >= c.due && copied < pages {
		c.running = true
		c.begin <- struct{}{}
	}
}

// afterPass copies the rest of the log. Where a long read, such as a backup,
// still needs old pages of it, the next pass waits for more to have come.
func (w *writer) afterPass() {
	c := &w.checkpoints
	c.running = false
	if w.conn == nil {
		return
	}
	pages, _, err := checkpoint(w.conn, "PASSIVE")
	if err != nil {
		w.log.Error("moving the write-ahead log failed; it grows until that succeeds", "path", w.path, "error", err)
	}
	c.due = max(c.pages, pages+c.pages/8)
}

// checkpoint says how many pages the log has and how many of them are copied.
func checkpoint(conn *driver.Conn, mode string) (pages, copied int64, err error) {
	err = run(conn, "PRAGMA wal_checkpoint("+mode+")", func(stmt *driver.Stmt) error {
		pages, copied = stmt.ColumnInt64(1), stmt.ColumnInt64(2)
		return nil
	})
	return pages, copied, err
}
