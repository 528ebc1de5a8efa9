package postgres

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// within is how long a test waits for what comes soon.
const within = 20 * time.Second

// eventually waits until something is so.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, within)
		}
	}
}

// listening counts the connections to a database that listen.
func listening(t testing.TB, s session) int {
	return value[int](t, s, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = $1", listenEvents)
}

// told waits until a listener is told something.
func told(t testing.TB, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(within):
		t.Fatalf("nothing was told within %v", within)
	}
}

// listener begins to listen, and waits until it does.
func listener(t testing.TB, db *DB, url string) (c <-chan struct{}, leave func()) {
	t.Helper()
	watch := connected(t, url)
	ctx, leave := context.WithCancel(t.Context())
	c = db.Listen(ctx)
	told(t, c) // when it begins, since something may have happened before
	if n := listening(t, watch); n == 0 {
		t.Fatal("no connection listens")
	}
	return c, leave
}

// TestEventsAreTold: what one process records is told to all others, whatever
// stores it.
func TestEventsAreTold(t *testing.T) {
	url := pgtest.Database(t)
	here, there := opened(t, url), opened(t, url)
	ours, leave := listener(t, here, url)
	defer leave()
	theirs, leave := listener(t, there, url)
	defer leave()
	g := usualGrant()
	for what, step := range map[string]func(ctx context.Context) error{
		"Record":    func(ctx context.Context) error { return here.Record(ctx, someEvent("x")) },
		"PutClient": func(ctx context.Context) error { return here.PutClient(ctx, issuer.Client{ID: "c"}, someEvent("x")) },
		"RevokeAccessToken": func(ctx context.Context) error {
			return here.RevokeAccessToken(ctx, "jti", time.Now(), someEvent("x"))
		},
		"CreateGrant": func(ctx context.Context) error { return here.CreateGrant(ctx, g, someEvent("x")) },
		"the keeper's Record": func(ctx context.Context) error {
			_, err := here.Keeper().Record(ctx, keeper.Event{Type: "x", Provider: "p"})
			return err
		},
		"Create": func(ctx context.Context) error {
			return here.Keeper().Create(ctx, keeper.Connection{ID: "c", State: keeper.Active}, keeper.Event{Type: "x", Connection: "c"})
		},
	} {
		if err := step(t.Context()); err != nil {
			t.Fatal(what, err)
		}
		told(t, ours)
		told(t, theirs)
	}
	// What stores no event tells of none.
	for what, step := range map[string]func(ctx context.Context) error{
		"a deletion of nothing": func(ctx context.Context) error {
			if err := here.DeleteClient(ctx, "none", someEvent("x")); !errors.Is(err, issuer.ErrNotFound) {
				return errors.New("it was found")
			}
			return nil
		},
		"a revocation that was made": func(ctx context.Context) error {
			return here.RevokeAccessToken(ctx, "jti", time.Now(), someEvent("x"))
		},
	} {
		if err := step(t.Context()); err != nil {
			t.Fatal(what, err)
		}
		select {
		case <-theirs:
			t.Errorf("%s was told", what)
		case <-time.After(4 * notifyPause):
		}
	}
}

// TestNotificationsAreFew: many events are told of together, and the last of them
// for certain.
func TestNotificationsAreFew(t *testing.T) {
	url := pgtest.Database(t)
	db := opened(t, url)
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	heard, count := make(chan struct{}, 1), 0
	config.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) { count++; wake(heard) }
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	execute(t, conn, listenEvents)
	const events = 400
	began := time.Now()
	var recording sync.WaitGroup
	for range 8 {
		recording.Go(func() {
			for range events / 8 {
				if err := db.Record(t.Context(), someEvent("x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	recording.Wait()
	limit := int(time.Since(began)/notifyPause) + 2
	time.Sleep(2 * notifyPause)
	execute(t, conn, "SELECT") // takes what has come
	if t.Logf("%d notifications of %d events", count, events); count == 0 || count > limit || count > events/2 {
		t.Errorf("%d notifications of %d events, want at most %d", count, events, limit)
	}
	count = 0
	if err := db.Record(t.Context(), someEvent("last")); err != nil {
		t.Fatal(err)
	}
	for count == 0 {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		if err := conn.PgConn().WaitForNotification(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// TestListenersAreWokenSeldom: where many processes notify, one that listens does
// not look for each of them, nor falls behind.
func TestListenersAreWokenSeldom(t *testing.T) {
	url := pgtest.Database(t)
	db, other := opened(t, url), connected(t, url)
	c, leave := listener(t, db, url)
	defer leave()
	woken := 0
	count := func() {
		select {
		case <-c:
			woken++
		default:
		}
	}
	began := time.Now()
	const notified = 500
	for range notified {
		execute(t, other, "NOTIFY evergrant_events")
		count()
	}
	limit := int(time.Since(began)/notifyPause) + 2
	if t.Logf("woken %d times by %d notifications", woken, notified); woken == 0 || woken > limit || woken > notified/2 {
		t.Errorf("woken %d times by %d notifications, want at most %d", woken, notified, limit)
	}
	for quiet := 0; quiet < 10; quiet++ { // all that came has been told of soon
		time.Sleep(notifyPause)
		if before := woken; quiet > 2 {
			if count(); woken != before {
				t.Fatal("what was told of comes later, and later")
			}
		} else {
			count()
		}
	}
	execute(t, other, "NOTIFY evergrant_events")
	told(t, c)
}

// TestListenersShareAConnection: it is made when the first one comes, and goes
// with the last one.
func TestListenersShareAConnection(t *testing.T) {
	url := pgtest.Database(t)
	db, watch := opened(t, url), connected(t, url)
	if err := db.Record(t.Context(), someEvent("x")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if n := listening(t, watch); n != 0 {
			t.Errorf("%d connections listen for nobody", n)
		}
		one, leaveOne := listener(t, db, url)
		ctx, leaveTwo := context.WithCancel(t.Context())
		two := db.Listen(ctx)
		if err := db.Record(t.Context(), someEvent("x")); err != nil {
			t.Fatal(err)
		}
		told(t, one)
		told(t, two)
		if n := listening(t, watch); n != 1 {
			t.Errorf("%d connections listen for two", n)
		}
		leaveOne()
		if err := db.Record(t.Context(), someEvent("x")); err != nil {
			t.Fatal(err)
		}
		told(t, two)
		leaveTwo()
		eventually(t, "no connection listens", func() bool { return listening(t, watch) == 0 })
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	db.Listen(over)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db.Listen(t.Context())
	db.happened()
	if n := listening(t, watch); n != 0 {
		t.Errorf("%d connections listen for who had left, or to a closed database", n)
	}
}

// TestCloseEndsListening, though somebody listens.
func TestCloseEndsListening(t *testing.T) {
	url := pgtest.Database(t)
	db, watch := opened(t, url), connected(t, url)
	_, leave := listener(t, db, url)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no connection listens", func() bool { return listening(t, watch) == 0 })
	leave()
}

// TestListenerSurvivesItsConnection: when it is killed there is soon another one,
// and the listener is told to look.
func TestListenerSurvivesItsConnection(t *testing.T) {
	url := pgtest.Database(t)
	var log logged
	db := openedWith(t, url, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	watch := connected(t, url)
	c, leave := listener(t, db, url)
	defer leave()
	for round := range 2 {
		if n := value[int](t, watch, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND query = $1", listenEvents); n != 1 {
			t.Fatalf("%d connections were killed", n)
		}
		told(t, c)
		eventually(t, "another connection listens", func() bool { return listening(t, watch) == 1 })
		if err := db.Record(t.Context(), someEvent("x")); err != nil {
			t.Fatal(err)
		}
		told(t, c)
		if n := log.count("not told by the database"); n != round+1 {
			t.Errorf("the log says %d times that listening failed, want %d", n, round+1)
		}
	}
}

// TestListenerOutlivesTheServer: while there is none, listening is tried again,
// which the log says once.
func TestListenerOutlivesTheServer(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	server.Create(t, "ours")
	var log logged
	db := openedWith(t, server.URL("ours"), Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	c, leave := listener(t, db, server.URL("ours"))
	defer leave()
	server.Kill(t)
	db.happened() // cannot be told
	eventually(t, "the log says so", func() bool { return log.count("not told by the database") == 1 })
	time.Sleep(4 * listenPause)
	server.Restart(t)
	told(t, c)
	if n, again := log.count("not told by the database"), log.count("told by the database again"); n != 1 || again != 1 {
		t.Errorf("the log says %d times that listening failed, and %d times that it works again", n, again)
	}
	if err := db.Record(t.Context(), someEvent("x")); err != nil {
		t.Fatal(err)
	}
	told(t, c)
}

// TestListenerBehindAPooler: where each transaction may have another session,
// nothing is told for certain. Everything else works, who looks by himself sees
// all, and what a shared session is told is not kept.
func TestListenerBehindAPooler(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	server.Create(t, "ours")
	pooled := server.Pooler(t)
	db := opened(t, pooled.URL("ours"))
	c, leave := listener(t, db, server.URL("ours"))
	defer leave()
	other := connected(t, server.URL("ours"))
	var last int64
	for i := range 50 {
		if err := db.Record(t.Context(), someEvent("x")); err != nil {
			t.Fatal(err)
		}
		execute(t, other, "NOTIFY evergrant_events")
		if events, err := db.Feed(t.Context(), last, 10); err != nil || len(events) != 1 {
			t.Fatalf("%d: %v, %v", i, events, err)
		} else {
			last = events[0].ID
		}
	}
	select {
	case <-c: // the pooler may pass some on
	default:
	}
	for _, conn := range db.pool.AcquireAllIdle(t.Context()) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if n, err := conn.Conn().WaitForNotification(ctx); err == nil && n != nil {
			t.Errorf("%v was kept", n)
		}
		cancel()
		conn.Release()
	}
}
