package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	neturl "net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// shared is the server of [Database], how many databases it has had, and which
// of them a test has.
var shared struct {
	mu     sync.Mutex
	server *Server
	number int
	owned  map[testing.TB][]string
}

// Main runs the tests of a package, and then takes down what they shared. It
// returns the status to exit with.
func Main(m *testing.M) int {
	status := m.Run()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server != nil {
		if err := shared.server.remove(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return status
}

// Database makes an empty database on the server that all tests of this process
// share, and gives its connection string. It goes with the test, and with it all
// connections to it that are left: after whatever the test has made since its
// first database was cleaned up. It may be called from any goroutine, and in a
// synctest bubble.
func Database(t testing.TB) string {
	t.Helper()
	var url string
	var err error
	outside(func() { url, err = another(t) })
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// another makes one more database for a test on the shared server, which the
// first call starts.
func another(t testing.TB) (url string, err error) {
	shared.mu.Lock()
	if shared.server == nil {
		s, err := newServer("s1")
		if err == nil {
			err = s.create()
		}
		if err != nil {
			shared.mu.Unlock()
			return "", errors.Join(err, s.remove())
		}
		shared.server, shared.owned = s, map[testing.TB][]string{}
	}
	shared.number++
	server, name := shared.server, fmt.Sprintf("test_%d", shared.number)
	first := shared.owned[t] == nil
	shared.owned[t] = append(shared.owned[t], name)
	shared.mu.Unlock()
	if first {
		t.Cleanup(func() {
			var err error
			if outside(func() { err = drop(t) }); err != nil {
				t.Error(err)
			}
		})
	}
	return server.URL(name), server.createDatabase(name)
}

// drop takes the databases of a test away.
func drop(t testing.TB) error {
	shared.mu.Lock()
	var statements []string
	for _, name := range shared.owned[t] {
		statements = append(statements, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
	}
	delete(shared.owned, t)
	server := shared.server
	shared.mu.Unlock()
	_, err := server.exec(statements...)
	return err
}

// Dump writes a copy of the database that a connection string names, as an
// operator makes one: pg_dump's custom format.
func Dump(url string, w io.Writer) error {
	program, err := tool("pg_dump")
	if err != nil {
		return err
	}
	cmd := exec.Command(program, "--format=custom", "--compress=0", "--dbname="+url)
	cmd.Stdout = w
	return finish(cmd)
}

// Load is [Database] with what is in a dump.
func Load(t testing.TB, dump []byte) string {
	t.Helper()
	url := Database(t)
	program, err := tool("pg_restore")
	if err == nil {
		cmd := exec.Command(program, "--exit-on-error", "--single-transaction", "--no-owner", "--dbname="+url)
		cmd.Stdin = bytes.NewReader(dump)
		err = finish(cmd)
	}
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// Files gives the paths of the files in which the shared server keeps the
// database that a connection string names, written out completely.
func Files(t testing.TB, url string) []string {
	t.Helper()
	shared.mu.Lock()
	server := shared.server
	shared.mu.Unlock()
	config, err := neturl.Parse(url)
	if err != nil || server == nil || config.Host != server.Address() {
		t.Fatalf("%s is not on the shared server", url)
	}
	directory := server.Exec(t, strings.TrimPrefix(config.Path, "/"), "CHECKPOINT; SELECT 'base/' || oid FROM pg_database WHERE datname = current_database()")
	files, err := filepath.Glob(filepath.Join(server.data(), directory, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in %s: %v", directory, err)
	}
	return files
}
