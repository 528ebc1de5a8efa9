package sqlite_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/killtest"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/store/sqlite"
	driver "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

const (
	growthClients = 64        // that refresh at once
	logHeader     = 32        // bytes at the beginning of a write-ahead log
	logFrame      = 1024 + 24 // bytes that a page takes in it
)

// TestGrowth refreshes many grants many times, and finds the database as large
// as before. EVERGRANT_GROWTH sets how many, as GRANTSxREFRESHES: 100x100
// unless it does.
func TestGrowth(t *testing.T) {
	grants, refreshes := 100, 100
	if text := os.Getenv("EVERGRANT_GROWTH"); text != "" {
		if _, err := fmt.Sscanf(text, "%dx%d", &grants, &refreshes); err != nil || grants < 1 || refreshes < 1 {
			t.Fatalf("EVERGRANT_GROWTH=%q is not of the form 1000x1000", text)
		}
	}
	// The log is to be moved into the file some ten times at least.
	options := sqlite.Options{LogPages: min(16384, grants*refreshes/16)}
	g := newGrower(t, options, grants)
	g.truncateLog()
	made := fileSize(t, g.path)
	g.refreshAll(1)
	g.truncateLog()
	rows, size := g.stats().Rows, fileSize(t, g.path)

	longest := make(chan int64)
	done := make(chan struct{})
	go func() { longest <- longestLog(g.path, done) }()
	began := time.Now()
	g.refreshAll(refreshes)
	took := time.Since(began)
	close(done)
	log := <-longest
	g.truncateLog()
	after, sizeAfter := g.stats().Rows, fileSize(t, g.path)

	growth, growthSinceMade := percent(size, sizeAfter), percent(made, sizeAfter)
	t.Logf("%d grants x %d refreshes in %v: %.0f refreshes/s", grants, refreshes, took.Round(time.Millisecond), float64(grants*refreshes)/took.Seconds())
	t.Logf("rows before %v, after %v", rows, after)
	t.Logf("file of new grants %d bytes, refreshed once %d, then %d: %+.2f %% (%+.2f %% in all)", made, size, sizeAfter, growth, growthSinceMade)
	t.Logf("longest log %d bytes, moved at %d", log, options.LogPages*logFrame)
	if !maps.Equal(rows, after) {
		t.Errorf("rows were %v and are %v", rows, after)
	}
	// A generation takes no byte where it is 1, then one, and two from 128 on:
	// pages that were filled to the last byte are split once.
	if growth >= 5 || growthSinceMade >= 10 {
		t.Errorf("the file grew by %.2f %%, by %.2f %% in all", growth, growthSinceMade)
	}
	// While the log is moved into the file it goes on growing, but not again by
	// as much as made it due.
	if bound := int64(logHeader + 2*options.LogPages*logFrame); log > bound {
		t.Errorf("the log grew to %d bytes, the bound is %d", log, bound)
	}
	g.countWrites()
}

func percent(before, after int64) float64 { return float64(after-before) / float64(before) * 100 }

// grower is a server with grants to refresh.
type grower struct {
	t       *testing.T
	path    string
	site    killtest.Site
	service *service
	app     *killtest.App
	newest  []killtest.Answer // of each grant
}

func newGrower(t *testing.T, o sqlite.Options, grants int) *grower {
	t.Helper()
	g := &grower{t: t, path: filepath.Join(t.TempDir(), "evergrant.db"), site: killtest.NewSite(), newest: make([]killtest.Answer, grants)}
	g.open(o)
	if err := g.service.Populate(t.Context(), g.site); err != nil {
		t.Fatal(err)
	}
	g.each(func(i int) error {
		a, err := g.app.Grant(t.Context(), killtest.OpaqueClient)
		g.newest[i] = a
		return expect(a, err, 1)
	})
	return g
}

func (g *grower) open(o sqlite.Options) {
	g.service = must[*service](g.t)(openService(g.t.Context(), g.path, g.site.Root, o, nil))
	g.app = killtest.NewApp(g.site, "https://issuer.test", killtest.InProcess{Handler: g.service.Server})
	store := g.service.Store
	g.t.Cleanup(func() {
		if err := store.Close(); err != nil {
			g.t.Error(err)
		}
	})
}

func expect(a killtest.Answer, err error, generation uint32) error {
	if err == nil && (!a.OK() || a.Generation() != generation) {
		err = fmt.Errorf("%v, expected generation %d", a, generation)
	}
	return err
}

// each has the clients do something once for each grant, each for its own.
func (g *grower) each(f func(i int) error) {
	g.t.Helper()
	var all sync.WaitGroup
	for client := range growthClients {
		all.Go(func() {
			for i := client; i < len(g.newest); i += growthClients {
				if err := f(i); err != nil {
					g.t.Errorf("grant %d: %v", i, err)
					return
				}
			}
		})
	}
	all.Wait()
	if g.t.Failed() {
		g.t.FailNow()
	}
}

func (g *grower) refresh(i int) error {
	a, err := g.app.Refresh(g.t.Context(), killtest.OpaqueClient, g.newest[i].Tokens.RefreshToken)
	err = expect(a, err, g.newest[i].Generation()+1)
	g.newest[i] = a
	return err
}

func (g *grower) refreshAll(times int) {
	for range times {
		g.each(g.refresh)
	}
}

func (g *grower) stats() issuer.Stats {
	g.t.Helper()
	return must[issuer.Stats](g.t)(g.service.Store.Stats(g.t.Context()))
}

// inspect opens another connection to the database.
func (g *grower) inspect() *driver.Conn {
	g.t.Helper()
	conn := must[*driver.Conn](g.t)(driver.OpenConn(g.path, driver.OpenReadWrite))
	conn.SetBusyTimeout(10 * time.Second)
	return conn
}

// truncateLog moves the log into the file and empties it.
func (g *grower) truncateLog() {
	g.t.Helper()
	conn := g.inspect()
	defer conn.Close()
	err := sqlitex.ExecuteTransient(conn, "PRAGMA wal_checkpoint(TRUNCATE)", &sqlitex.ExecOptions{
		ResultFunc: func(stmt *driver.Stmt) error {
			if stmt.ColumnInt(0) != 0 {
				return fmt.Errorf("the log is in use")
			}
			return nil
		},
	})
	if err != nil {
		g.t.Fatal(err)
	}
	if size := fileSize(g.t, g.path+"-wal"); size != 0 {
		g.t.Fatalf("the emptied log has %d bytes", size)
	}
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	return must[os.FileInfo](t)(os.Stat(path)).Size()
}

// longestLog watches the size of the log until done.
func longestLog(path string, done <-chan struct{}) (longest int64) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		if file, err := os.Stat(path + "-wal"); err == nil {
			longest = max(longest, file.Size())
		}
		select {
		case <-ticker.C:
		case <-done:
			return longest
		}
	}
}

// countWrites has triggers count what refreshes write, and reads from the log
// how many pages a refresh that is alone changes.
func (g *grower) countWrites() {
	t := g.t
	t.Helper()
	g.truncateLog()
	alone := min(len(g.newest), 100)
	for i := range alone {
		if err := g.refresh(i); err != nil {
			t.Fatal(err)
		}
	}
	pages := (fileSize(t, g.path+"-wal") - logHeader) / logFrame
	t.Logf("%d refreshes, each alone in its transaction, wrote %d pages", alone, pages)
	if pages < int64(alone) || pages > int64(alone)+int64(alone)/20 {
		t.Errorf("%d refreshes wrote %d pages to the log, expected one each", alone, pages)
	}
	g.addTriggers()
	g.refreshAll(3)
	writes, want := g.countedWrites(), map[string]int{"UPDATE grants": 3 * len(g.newest)}
	t.Logf("%d refreshes wrote the rows %v", 3*len(g.newest), writes)
	if !maps.Equal(writes, want) {
		t.Errorf("%d refreshes wrote the rows %v, expected %v", 3*len(g.newest), writes, want)
	}
}

// addTriggers makes SQLite count each row that is written, whoever writes it.
func (g *grower) addTriggers() {
	g.t.Helper()
	conn := g.inspect()
	defer conn.Close()
	script := "CREATE TABLE test_writes (what TEXT PRIMARY KEY, times INTEGER NOT NULL);\n"
	for table := range g.stats().Rows {
		for _, verb := range []string{"INSERT", "UPDATE", "DELETE"} {
			script += fmt.Sprintf("CREATE TRIGGER test_%s_%s AFTER %s ON %s BEGIN"+
				" INSERT INTO test_writes VALUES ('%s %s', 1) ON CONFLICT (what) DO UPDATE SET times = times + 1; END;\n",
				verb, table, verb, table, verb, table)
		}
	}
	if err := sqlitex.ExecuteScript(conn, script, nil); err != nil {
		g.t.Fatal(err)
	}
}

func (g *grower) countedWrites() map[string]int {
	g.t.Helper()
	conn := g.inspect()
	defer conn.Close()
	writes := map[string]int{}
	err := sqlitex.ExecuteTransient(conn, "SELECT what, times FROM test_writes", &sqlitex.ExecOptions{
		ResultFunc: func(stmt *driver.Stmt) error {
			writes[stmt.ColumnText(0)] = stmt.ColumnInt(1)
			return nil
		},
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return writes
}
