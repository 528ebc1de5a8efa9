package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	neturl "net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// shared is the server of [Database], with what tests have of it.
var shared struct {
	mu     sync.Mutex
	server *Server
	number int                        // of the last name that was given
	owned  map[testing.TB][]*database // by the tests that run
	ready  []*database                // prepared, and without a test
}

// database is one of the shared server's.
type database struct {
	name  string
	empty string // SQL that makes it what it was when it had been prepared; "" where it was not
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
	return owned(t, func(s *Server) (*database, error) {
		d := &database{name: nextName()}
		return d, s.createDatabase(d.name)
	})
}

// Prepared is [Database] with the tables that prepare makes in an empty one,
// which must be the same for all tests of the process: a test's database is
// emptied after it, and given to the next one under another name. That takes a
// fifth of the time.
func Prepared(t testing.TB, prepare func(url string) error) string {
	t.Helper()
	return owned(t, func(s *Server) (*database, error) {
		shared.mu.Lock()
		if last := len(shared.ready) - 1; last >= 0 {
			d := shared.ready[last]
			shared.ready = shared.ready[:last]
			shared.mu.Unlock()
			return d, nil
		}
		shared.mu.Unlock()
		d := &database{name: nextName()}
		if err := s.createDatabase(d.name); err != nil {
			return nil, err
		}
		if err := prepare(s.URL(d.name)); err != nil {
			return nil, err
		}
		var err error
		d.empty, err = s.execIn(d.name, "ANALYZE", howToEmpty)
		return d, err
	})
}

// howToEmpty writes the SQL that empties all tables that are empty, and sets all
// sequences to where they are.
const howToEmpty = `
SELECT string_agg(statement, '; ') FROM (
	SELECT format('DELETE FROM %I', relname) FROM pg_class
	WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND reltuples = 0
	UNION ALL
	SELECT format('SELECT setval(%L, %s, %L)', sequencename, coalesce(last_value, start_value), last_value IS NOT NULL) FROM pg_sequences
) AS statements (statement)`

// owned gives a test a database of the shared server, which the first call
// starts.
func owned(t testing.TB, get func(*Server) (*database, error)) (url string) {
	t.Helper()
	var err error
	outside(func() {
		var s *Server
		var d *database
		if s, err = sharedServer(); err == nil {
			d, err = get(s)
		}
		if err == nil {
			url = s.URL(d.name)
			own(t, d)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return url
}

func sharedServer() (*Server, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server != nil {
		return shared.server, nil
	}
	s, err := newServer("s1")
	if err == nil {
		err = s.create()
	}
	if err != nil {
		return nil, errors.Join(err, s.remove())
	}
	shared.server, shared.owned, shared.ready = s, map[testing.TB][]*database{}, nil
	return s, nil
}

// nextName is a name that no database has had: who still connects to one of
// before finds nothing.
func nextName() string {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	shared.number++
	return fmt.Sprintf("test_%d", shared.number)
}

// own notes that a test has a database. The first time, it sees to it that the
// test gives up all that it has in the end.
func own(t testing.TB, d *database) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.owned[t] == nil {
		t.Cleanup(func() {
			var err error
			if outside(func() { err = giveUp(t) }); err != nil {
				t.Error(err)
			}
		})
	}
	shared.owned[t] = append(shared.owned[t], d)
}

// giveUp takes the databases of a test away, or makes them ready for another.
func giveUp(t testing.TB) (err error) {
	shared.mu.Lock()
	all, s := shared.owned[t], shared.server
	delete(shared.owned, t)
	shared.mu.Unlock()
	for _, d := range all {
		if d.empty != "" && s.renew(d) == nil {
			shared.mu.Lock()
			shared.ready = append(shared.ready, d)
			shared.mu.Unlock()
			continue
		}
		_, failed := s.exec("DROP DATABASE IF EXISTS " + d.name + " WITH (FORCE)")
		err = errors.Join(err, failed)
	}
	return err
}

// renew empties a database and gives it another name.
func (s *Server) renew(d *database) error {
	name := nextName()
	_, err := s.execIn(d.name,
		"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
		d.empty, `\c postgres`, "ALTER DATABASE "+d.name+" RESET ALL", "ALTER DATABASE "+d.name+" RENAME TO "+name)
	if err == nil {
		d.name = name
	}
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

// Files gives the paths of the files in which the shared server keeps the tables
// and indexes of the database that a connection string names, written out
// completely.
func Files(t testing.TB, url string) []string {
	t.Helper()
	shared.mu.Lock()
	server := shared.server
	shared.mu.Unlock()
	config, err := neturl.Parse(url)
	if err != nil || server == nil || config.Host != server.Address() {
		t.Fatalf("%s is not on the shared server", url)
	}
	const firstOwn = "16384" // below are the catalogues' (FirstNormalObjectId)
	listed := server.Exec(t, strings.TrimPrefix(config.Path, "/"), "CHECKPOINT; SELECT pg_relation_filepath(oid) FROM pg_class WHERE relfilenode > 0 AND oid >= "+firstOwn)
	var files []string
	for name := range strings.FieldsSeq(listed) {
		files = append(files, server.file(name))
	}
	return files
}
