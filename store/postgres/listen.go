package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	listenEvents = "LISTEN evergrant_events"
	// notifyEvents tells the listeners of all processes. It waits for no disk and no
	// standby: what it tells of has been committed already. It is never part of the
	// transaction that stores events, since those that notify commit one by one.
	notifyEvents = "SELECT set_config('synchronous_commit', 'off', TRUE), pg_notify('evergrant_events', '')"
	// notifyPause is the least time between two of them, and between two times that a
	// process wakes its listeners: others may notify at the same time.
	notifyPause = 20 * time.Millisecond
	// listenPause is how long after a connection for listening broke the next one
	// is made, at first; it doubles up to listenPauseMax.
	listenPause    = 250 * time.Millisecond
	listenPauseMax = 5 * time.Second
)

// wakes tells listeners, in this process and others, that there are new events.
// It may fail to: who listens looks by himself from time to time.
type wakes struct {
	db     *DB
	ctx    context.Context // ends with close
	close  func()          // ends all goroutines, and waits for them
	events chan struct{}   // has one where events were committed since the last notification
	heard  chan struct{}   // has one where there was a notification since listeners were woken

	mu        sync.Mutex
	listeners map[chan struct{}]bool
	leave     context.CancelFunc // ends the connection that listens, which is held while anybody does
	work      sync.WaitGroup
}

func newWakes(db *DB) *wakes {
	ctx, cancel := context.WithCancel(context.Background())
	w := &wakes{
		db: db, ctx: ctx, events: make(chan struct{}, 1), heard: make(chan struct{}, 1), listeners: map[chan struct{}]bool{},
	}
	w.close = func() {
		w.mu.Lock() // so that no listener begins afterwards
		cancel()
		w.mu.Unlock()
		w.work.Wait()
	}
	w.work.Go(func() { w.paced(w.events, w.notify) })
	w.work.Go(func() { w.paced(w.heard, w.wakeAll) })
	return w
}

// happened tells who listens, soon, that events were committed.
func (db *DB) happened() { wake(db.wakes.events) }

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // is awake
	}
}

// paced calls f for all that came on a channel since the last time.
func (w *wakes) paced(c <-chan struct{}, f func()) {
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-c:
		}
		f()
		pause(w.ctx, notifyPause)
	}
}

// notify tells the listeners of all processes.
func (w *wakes) notify() {
	err := w.db.read(w.ctx, func(ctx context.Context, s session) error {
		_, err := s.Exec(ctx, notifyEvents)
		return err
	})
	if err != nil && w.ctx.Err() == nil {
		w.db.log.Debug("listeners were not told of new events, and see them when they look", "error", err)
	}
}

// wakeAll tells the listeners of this process.
func (w *wakes) wakeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.listeners {
		wake(c)
	}
}

// pause waits for a time, or until the context ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// Listen implements [hook.Listener]. All listeners of a database share one
// connection, beside those of the pool.
func (db *DB) Listen(ctx context.Context) <-chan struct{} {
	w, c := db.wakes, make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() != nil || w.ctx.Err() != nil {
		return c
	}
	if w.listeners[c] = true; len(w.listeners) == 1 {
		var listening context.Context
		listening, w.leave = context.WithCancel(w.ctx)
		w.work.Go(func() { w.listen(listening) })
	}
	context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if delete(w.listeners, c); len(w.listeners) == 0 {
			w.leave()
		}
	})
	return c
}

// listen passes notifications on until the context ends, with one connection
// after the other.
func (w *wakes) listen(ctx context.Context) {
	wait := listenPause
	for ctx.Err() == nil {
		err := w.hear(ctx, func() {
			if wait > listenPause {
				w.db.log.Info("new events are told by the database again")
			}
			wait = listenPause
		})
		if ctx.Err() != nil {
			return
		}
		if wait == listenPause { // once, not at every attempt
			w.db.log.Warn("new events are not told by the database: they are looked for every now and then until it does again", "error", err)
		}
		pause(ctx, wait)
		wait = min(2*wait, listenPauseMax)
	}
}

// hear listens with one connection until it breaks or the context ends. It calls
// begun when the connection listens.
func (w *wakes) hear(ctx context.Context, begun func()) error {
	config := w.db.pool.Config().ConnConfig
	config.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) { wake(w.heard) }
	beginning, cancel := context.WithTimeout(ctx, w.db.deadline)
	defer cancel()
	conn, err := pgx.ConnectConfig(beginning, config)
	if err != nil {
		return err
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.db.deadline)
		defer cancel()
		conn.Close(ending)
	}()
	if _, err := conn.Exec(beginning, listenEvents); err != nil {
		return err
	}
	begun()
	wake(w.heard) // there may be events since the last connection broke
	for err == nil {
		err = conn.PgConn().WaitForNotification(ctx)
	}
	return err
}
