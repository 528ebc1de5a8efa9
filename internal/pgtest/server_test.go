package pgtest

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestKill holds that a killed server is gone as a whole and at once, and that
// what it had acknowledged is there when it starts again, at the same address.
func TestKill(t *testing.T) {
	t.Parallel()
	s := Start(t)
	s.Create(t, "a")
	sql(t, s.URL("a"), "CREATE TABLE t (n int)")
	for i := range 3 {
		sql(t, s.URL("a"), fmt.Sprintf("INSERT INTO t VALUES (%d)", i))
		open := connect(t, s.URL("a"))
		open.ask("SELECT 'open'")
		open.answer()
		if running := inside(t, s.dir); len(running) < 5 {
			t.Fatalf("processes %v", running)
		}
		s.Kill(t)
		s.Kill(t) // again is nothing
		if running := inside(t, s.dir); len(running) > 0 {
			t.Errorf("processes %v are left", running)
		}
		if conn, err := net.Dial("tcp", s.Address()); err == nil {
			conn.Close()
			t.Error("somebody listens yet")
		}
		s.Restart(t)
	}
	if got := sql(t, s.URL("a"), "SELECT string_agg(n::text, ' ' ORDER BY n) FROM t"); got != "0 1 2" {
		t.Errorf("rows %q", got)
	}
	if !strings.Contains(s.Log(), "was not properly shut down") {
		t.Errorf("the log knows of no crash: %s", s.Log())
	}
}

// TestNothingIsLeft holds that a server goes with its test, killed or not: its
// processes, files and shared memory.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testing.T, *Server){
		"running": func(*testing.T, *Server) {},
		"stopped": func(t *testing.T, s *Server) { s.Stop(t) },
		"killed":  func(t *testing.T, s *Server) { s.Kill(t) },
		"frozen and thawed": func(t *testing.T, s *Server) {
			s.Freeze(t)
			s.Thaw(t)
		},
	} {
		var dir string
		var segments []string
		t.Run(name, func(t *testing.T) {
			s := Start(t)
			dir, segments = s.dir, strings.Fields(s.lockFile()[6])
			if !segmentExists(t, segments) {
				t.Fatalf("segment %v is not listed", segments)
			}
			end(t, s)
		})
		if running := inside(t, dir); len(running) > 0 {
			t.Errorf("%s: processes %v are left", name, running)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s: the directory is left: %v", name, err)
		}
		if segmentExists(t, segments) {
			t.Errorf("%s: a segment of shared memory is left", name)
		}
	}
}

// segmentExists looks for a segment of System V shared memory by its key and id.
func segmentExists(t *testing.T, words []string) bool {
	t.Helper()
	text, err := os.ReadFile("/proc/sysvipc/shm")
	if err != nil || len(words) != 2 {
		t.Fatal(words, err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); fields[0] == words[0] && fields[1] == words[1] {
			return true
		}
	}
	return false
}

// TestSettings holds that the server keeps what the tests count on, and that
// tests connect as a role that owns its database and is nobody else.
func TestSettings(t *testing.T) {
	url := Database(t)
	for name, want := range map[string]string{"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "jit": "off", "max_connections": "200", "listen_addresses": "127.0.0.1"} {
		if got := sql(t, url, "SHOW "+name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	got := sql(t, url, "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication FROM pg_roles WHERE rolname = current_user")
	if got != "f|f|f|f" {
		t.Errorf("the role may %s", got)
	}
	sql(t, url, "CREATE TABLE t (n int)")
}

// TestFreeze holds that a frozen server keeps its connections and answers when it
// is thawed.
func TestFreeze(t *testing.T) {
	t.Parallel()
	s := Start(t)
	s.Create(t, "a")
	open := connect(t, s.URL("a"))
	open.ask("SELECT 1")
	if got := open.answer(); got != "1" {
		t.Fatal(got)
	}
	s.Freeze(t)
	open.ask("SELECT 2")
	for _, pid := range append(children(s.process.cmd.Process.Pid), s.process.cmd.Process.Pid) {
		if e := processes()[pid]; e.state != 'T' {
			t.Errorf("process %d is %q", pid, e.state)
		}
	}
	s.Thaw(t)
	if got := open.answer(); got != "2" {
		t.Fatal(got)
	}
}

// TestConfigure holds that a setting is in force at once.
func TestConfigure(t *testing.T) {
	t.Parallel()
	s := Start(t)
	s.Create(t, "a")
	s.Configure(t, "work_mem", "5MB", "log_line_prefix", "it's ")
	until(t, "the setting is in force", func() bool { return sql(t, s.URL("a"), "SHOW work_mem") == "5MB" })
	if got := s.Exec(t, "a", "SHOW log_line_prefix"); got != "it's " {
		t.Errorf("prefix %q", got)
	}
}

// TestStartThatFails holds that the error has what the server complained of, and
// that a server that runs already is not started.
func TestStartThatFails(t *testing.T) {
	t.Parallel()
	s := Start(t)
	s.Stop(t)
	if err := s.set("nonsense = 1"); err != nil {
		t.Fatal(err)
	}
	if err := s.begin(); err == nil || !strings.Contains(err.Error(), `unrecognized configuration parameter "nonsense"`) {
		t.Errorf("error %v", err)
	}
	if _, err := s.exec("SELECT 1"); err == nil {
		t.Error("a server that does not run answers")
	}
}

// TestTakenPort holds that a server goes to another port where the first is
// taken.
func TestTakenPort(t *testing.T) {
	t.Parallel()
	one, two := Start(t), Start(t)
	two.Stop(t)
	two.port = one.port
	if err := two.begin(); err == nil || !strings.Contains(err.Error(), "could not bind") {
		t.Fatalf("error %v", err)
	}
	if err := two.startAnywhere(); err != nil || two.port == one.port {
		t.Fatalf("started at %s, %v", two.Address(), err)
	}
}

// TestTools holds that a program that is missing is named with its package, and
// that the newest version is taken.
func TestTools(t *testing.T) {
	if _, err := tool("no-such-program"); err == nil || !strings.Contains(err.Error(), "apt-get install postgresql") {
		t.Errorf("error %v", err)
	}
	path, err := tool("postgres")
	if err != nil {
		t.Fatal(err)
	}
	if version, err := run(nil, "", path, "--version"); err != nil || !strings.Contains(version, "PostgreSQL") {
		t.Errorf("%s is %q, %v", path, version, err)
	}
	if _, err := trySQL("postgres://127.0.0.1:1/", "SELECT 1"); err == nil || !strings.HasPrefix(err.Error(), "psql: exit status 2") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("error %v", err)
	}
	t.Setenv("PGHOST", "nowhere")
	t.Setenv("LANG", "de_DE.UTF-8")
	if env := strings.Join(environment(), "\n"); strings.Contains(env, "PGHOST") || strings.Contains(env, "de_DE") {
		t.Errorf("environment %s", env)
	}
}

// TestDirectories holds that servers get a directory that they can reach, with a
// short path, wherever temporary files usually go.
func TestDirectories(t *testing.T) {
	for name, at := range map[string]string{"closed to others": t.TempDir(), "long": "/tmp/" + strings.Repeat("x", longestPlace), "none": "/nonexistent"} {
		t.Setenv("TMPDIR", at)
		other := &syscall.Credential{Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid())}
		dir, err := newDirectory(other)
		if err != nil {
			t.Fatal(name, err)
		}
		defer os.Remove(dir)
		if strings.HasPrefix(dir, at) || len(dir) > longestPlace+30 {
			t.Errorf("%s: the directory is %s", name, dir)
		}
	}
}
