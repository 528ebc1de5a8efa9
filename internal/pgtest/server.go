package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// administrator may do everything on a server; only this package uses it.
	administrator = "postgres"
	// role is whom tests connect as. It owns its databases and is otherwise
	// nobody, as in production.
	role = "evergrant"
)

// Server is one PostgreSQL server. Its methods are called by one goroutine at a
// time, and outside of synctest bubbles; [Server.URL] and [Server.Exec] by any.
type Server struct {
	name    string // by which a standby is known to its primary
	who     *syscall.Credential
	dir     string
	port    int
	process *process
}

// Start starts an empty server, which goes with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := newServer("s1")
	if err == nil {
		err = s.create()
	}
	return s.keep(t, err)
}

// keep takes a server down at the end of a test.
func (s *Server) keep(t testing.TB, err error) *Server {
	t.Helper()
	if err != nil {
		t.Fatal(errors.Join(err, s.remove()))
	}
	t.Cleanup(func() {
		if err := s.remove(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func newServer(name string) (*Server, error) {
	s := &Server{name: name}
	var err error
	if s.who, err = servant(); err != nil {
		return s, err
	}
	s.dir, err = newDirectory(s.who)
	return s, err
}

// settings are those of a small server whose promises are kept: what it says is
// committed is on disk. All of its shared memory is in its directory, but for a
// few bytes by which it knows that it runs alone.
const settings = `
listen_addresses = '127.0.0.1'
max_connections = 200
shared_buffers = 32MB
dynamic_shared_memory_type = mmap
fsync = on
synchronous_commit = on
jit = off
wal_level = replica
wal_keep_size = 256MB
wal_log_hints = on
hot_standby = on
wal_retrieve_retry_interval = 100ms
log_timezone = UTC
timezone = UTC
`

// create makes the server's files and starts it.
func (s *Server) create() error {
	if err := s.tool("initdb", "-D", s.data(), "-U", administrator, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"); err != nil {
		return err
	}
	if err := s.set(settings, "unix_socket_directories = "+quoted(s.dir)); err != nil {
		return err
	}
	if err := s.startAnywhere(); err != nil {
		return err
	}
	_, err := s.exec("CREATE ROLE " + role + " LOGIN")
	return err
}

// set adds to the settings of a server that does not run.
func (s *Server) set(lines ...string) error {
	file, err := os.OpenFile(filepath.Join(s.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(strings.Join(lines, "\n") + "\n")
	return errors.Join(err, file.Close())
}

// quoted writes text as a value in a file of settings, or as one of SQL.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// startAnywhere starts the server on a port that is free: on another one where
// somebody was faster.
func (s *Server) startAnywhere() (err error) {
	for range 5 {
		if s.port, err = freePort(); err != nil {
			return err
		}
		if err = s.begin(); err == nil || !strings.Contains(err.Error(), "could not bind") {
			return err
		}
	}
	return err
}

// freePort finds a port below those that the kernel gives to outgoing
// connections: a server that is down for a moment finds its own free again.
func freePort() (int, error) {
	const lowest, highest = 15000, 32000
	for range 100 {
		port := lowest + rand.IntN(highest-lowest)
		if listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, listener.Close()
		}
	}
	return 0, errors.New("no free port on 127.0.0.1")
}

// begin starts the server and waits until it answers.
func (s *Server) begin() error {
	os.Remove(s.file("postmaster.pid")) // of one that was killed; its number may be another process's by now
	program, err := tool("postgres")
	if err != nil {
		return err
	}
	s.process, err = start(s.who, s.dir, s.logFile(), syscall.SIGQUIT, program, "-D", s.data(), "-p", strconv.Itoa(s.port))
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); s.process.running() && time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if lines := s.lockFile(); len(lines) > 7 && strings.TrimSpace(lines[7]) == "ready" {
			return nil
		}
	}
	return errors.Join(fmt.Errorf("PostgreSQL does not start; its log: %s", s.Log()), s.process.kill())
}

// lockFile is what a server writes of itself: its process, directory, start,
// port, socket directory, address, shared memory and state, a line each.
func (s *Server) lockFile() []string {
	text, _ := os.ReadFile(s.file("postmaster.pid"))
	return strings.Split(string(text), "\n")
}

func (s *Server) data() string            { return filepath.Join(s.dir, "data") }
func (s *Server) file(name string) string { return filepath.Join(s.data(), name) }
func (s *Server) logFile() string         { return filepath.Join(s.dir, "log") }

// tool runs one of PostgreSQL's programs as the servant.
func (s *Server) tool(name string, args ...string) error {
	program, err := tool(name)
	if err == nil {
		_, err = run(s.who, s.dir, program, args...)
	}
	return err
}

// remove takes the server and its files away.
func (s *Server) remove() error {
	if s.dir == "" {
		return nil
	}
	err := s.process.stop(syscall.SIGINT)
	if lines := s.lockFile(); len(lines) > 6 { // it was killed and not started again
		if words := strings.Fields(lines[6]); len(words) == 2 {
			segment, _ := strconv.Atoi(words[1])
			forget(segment)
		}
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// Address is where the server listens: host:port.
func (s *Server) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// URL is the connection string of one of the server's databases.
func (s *Server) URL(database string) string { return URL(database, s) }

// URL is the connection string of a database for whichever of the servers can be
// written to.
func URL(database string, servers ...*Server) string {
	var hosts []string
	for _, s := range servers {
		hosts = append(hosts, s.Address())
	}
	url := fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", role, strings.Join(hosts, ","), database)
	if len(hosts) > 1 {
		url += "&target_session_attrs=read-write"
	}
	return url
}

// Create makes an empty database.
func (s *Server) Create(t testing.TB, database string) {
	t.Helper()
	if err := s.createDatabase(database); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) createDatabase(name string) error {
	_, err := s.exec(fmt.Sprintf("CREATE DATABASE %s OWNER %s TEMPLATE template0", name, role))
	return err
}

// Exec runs SQL as the server's administrator, in a database ("" for the one that
// every server has), and gives the answer: a line for each row, its columns
// divided by |.
func (s *Server) Exec(t testing.TB, database, sql string) string {
	t.Helper()
	answer, err := s.execIn(database, sql)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func (s *Server) exec(statements ...string) (string, error) { return s.execIn("", statements...) }

// execIn runs statements, each by itself.
func (s *Server) execIn(database string, statements ...string) (string, error) {
	program, err := tool("psql")
	if err != nil {
		return "", err
	}
	if database == "" {
		database = "postgres"
	}
	args := []string{"-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", s.dir, "-p", strconv.Itoa(s.port), "-U", administrator, "-d", database}
	for _, sql := range statements {
		args = append(args, "-c", sql)
	}
	return run(s.who, s.dir, program, args...)
}

// Kill kills the server and all of its processes at one moment, and waits until
// none is left.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if err := s.process.kill(); err != nil {
		t.Fatal(err)
	}
}

// Stop ends the server as an operator does, without waiting for its clients.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if err := s.process.stop(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
}

// Restart starts a server that was killed or stopped again, at its old address.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if s.process.running() {
		t.Fatal("the server runs: kill or stop it before")
	}
	if err := s.begin(); err != nil {
		t.Fatal(err)
	}
}

// Freeze stops all of the server's processes where they are, until Thaw: its
// connections stay open, and nobody answers.
func (s *Server) Freeze(t testing.TB) {
	t.Helper()
	if !s.process.running() {
		t.Fatal("the server does not run")
	}
	pid := s.process.cmd.Process.Pid
	freeze(pid)
	freeze(children(pid)...)
}

// Thaw lets a frozen server go on.
func (s *Server) Thaw(t testing.TB) {
	t.Helper()
	pid := s.process.cmd.Process.Pid
	for _, pid := range append(children(pid), pid) {
		syscall.Kill(pid, syscall.SIGCONT)
	}
}

// Configure changes settings of the running server: names and values in turn.
func (s *Server) Configure(t testing.TB, pairs ...string) {
	t.Helper()
	if err := s.configure(pairs...); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) configure(pairs ...string) error {
	var statements []string
	for pair := range slices.Chunk(pairs, 2) {
		statements = append(statements, fmt.Sprintf("ALTER SYSTEM SET %s = %s", pair[0], quoted(pair[1])))
	}
	_, err := s.exec(append(statements, "SELECT pg_reload_conf()")...)
	return err
}

// Log is what the server has said so far.
func (s *Server) Log() string {
	text, _ := os.ReadFile(s.logFile())
	return string(bytes.TrimSpace(text))
}
