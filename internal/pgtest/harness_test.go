package pgtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv(abandonEnv) != "" {
		abandon()
	}
	os.Exit(Main(m))
}

// abandonEnv tells a process that it is to start servers, say where they are,
// and wait to be killed.
const abandonEnv = "EVERGRANT_PGTEST_ABANDON"

func abandon() {
	s, err := newServer("s1")
	if err == nil {
		err = s.create()
	}
	p := &Pooler{server: s}
	if err == nil {
		p.port, err = freePort()
	}
	if err == nil {
		err = p.begin()
	}
	fmt.Println(s.dir, err)
	select {}
}

// sql runs SQL as tests do: by a connection string.
func sql(t testing.TB, url, statements string) string {
	t.Helper()
	answer, err := trySQL(url, statements)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func trySQL(url, statements string) (string, error) {
	program, err := tool("psql")
	if err != nil {
		return "", err
	}
	return run(nil, "", program, "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", statements)
}

// until waits for what must come.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not come about that %s", what)
		}
	}
}

// inside lists the processes that work in a directory or below, which a server's
// do.
func inside(t testing.TB, dir string) (found []string) {
	t.Helper()
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(entries) == 0 {
		t.Fatal("no processes are listed", err)
	}
	for _, entry := range entries {
		if at, err := os.Readlink(filepath.Join(entry, "cwd")); err == nil && strings.HasPrefix(at, dir) {
			found = append(found, filepath.Base(entry))
		}
	}
	return found
}

// session is a psql that stays connected.
type session struct {
	t    testing.TB
	ask  func(statement string)
	line chan string // what it prints
}

func connect(t testing.TB, url string) *session {
	t.Helper()
	program, err := tool("psql")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-X", "-A", "-t", "-q", "-d", url)
	cmd.Env = environment()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &session{t: t, line: make(chan string, 100), ask: func(statement string) { stdin.Write([]byte(statement + ";\n")) }}
	cmd.Stdout, cmd.Stderr = lines(s.line), lines(s.line)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return s
}

// answer is what is printed next.
func (s *session) answer() string {
	s.t.Helper()
	select {
	case line := <-s.line:
		return line
	case <-time.After(patience):
		s.t.Fatal("no answer")
		return ""
	}
}

// lines takes what a program prints, as it prints it.
type lines chan string

func (l lines) Write(text []byte) (int, error) {
	l <- strings.TrimSpace(string(text))
	return len(text), nil
}
