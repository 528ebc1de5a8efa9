package mariatest

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver "mysql"
)

const (
	// role is whom tests connect as, with a password, as in production.
	role     = "evergrant"
	password = "p@ss/wörd" // has what an address must escape
	escaped  = "p%40ss%2Fw%C3%B6rd"
	// patience is how long anything here may take before it counts as failed.
	patience = time.Minute
)

// shared is the server of [Database].
var shared struct {
	mu     sync.Mutex
	server *server
	number int // of the last database
}

// server is a MariaDB server.
type server struct {
	who   *syscall.Credential
	dir   string
	port  int
	cmd   *exec.Cmd
	ended chan struct{}
	admin *sql.DB // by its socket
}

// Main runs the tests of a package, which is what run does, and then takes down
// what they shared. It returns the status to exit with.
func Main(run func() int) int {
	status := run()
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
// share, and gives its address: mysql://user:password@host:port/name. It goes with
// the test.
func Database(t testing.TB) string {
	t.Helper()
	s, name, err := prepare()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := s.admin.Exec("DROP DATABASE " + name); err != nil {
			t.Error(err)
		}
	})
	return fmt.Sprintf("mysql://%s:%s@127.0.0.1:%d/%s", role, escaped, s.port, name)
}

// Password is the password that is in the addresses, in clear.
func Password() string { return password }

func prepare() (*server, string, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server == nil {
		s, err := start()
		if err != nil {
			return nil, "", errors.Join(err, s.remove())
		}
		shared.server = s
	}
	shared.number++
	name := "test_" + strconv.Itoa(shared.number)
	_, err := shared.server.admin.Exec("CREATE DATABASE " + name + " CHARACTER SET utf8mb4")
	return shared.server, name, err
}

// start makes a server's files, starts it, and waits until it answers.
func start() (*server, error) {
	s := &server{ended: make(chan struct{})}
	var err error
	if s.who, err = servant(); err != nil {
		return s, err
	}
	if s.dir, err = newDirectory(s.who); err != nil {
		return s, err
	}
	install, err := tool("mariadb-install-db")
	if err != nil {
		return s, err
	}
	cmd := exec.Command(install, "--no-defaults", "--datadir="+s.file("data"), "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
	cmd.Dir, cmd.SysProcAttr = s.dir, &syscall.SysProcAttr{Credential: s.who}
	if said, err := cmd.CombinedOutput(); err != nil {
		return s, fmt.Errorf("mariadb-install-db: %w: %s", err, said)
	}
	for range 5 { // where the port is taken meanwhile
		if err = s.begin(); err == nil {
			break
		}
	}
	if err != nil {
		return s, err
	}
	_, err = s.admin.Exec("CREATE USER " + role + "@'127.0.0.1' IDENTIFIED BY '" + password + "'")
	if err == nil {
		_, err = s.admin.Exec("GRANT ALL ON *.* TO " + role + "@'127.0.0.1' WITH GRANT OPTION")
	}
	return s, err
}

func (s *server) file(name string) string { return filepath.Join(s.dir, name) }

// begin starts the server on a free port.
func (s *server) begin() (err error) {
	if s.port, err = freePort(); err != nil {
		return err
	}
	program, err := tool("mariadbd")
	if err != nil {
		return err
	}
	log, err := os.Create(s.file("log"))
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = exec.Command(program, "--no-defaults", "--datadir="+s.file("data"), "--socket="+s.file("socket"), "--pid-file="+s.file("pid"),
		"--bind-address=127.0.0.1", "--port="+strconv.Itoa(s.port), "--skip-name-resolve", "--innodb-buffer-pool-size=128M",
		"--innodb-flush-log-at-trx-commit=2", "--default-time-zone=+00:00")
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = s.dir, log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.who}
	leave(s.cmd.SysProcAttr)
	if err := fork(s.cmd); err != nil {
		return err
	}
	ended := make(chan struct{})
	s.ended = ended
	go func() {
		s.cmd.Wait()
		close(ended)
	}()
	if s.admin, err = sql.Open("mysql", "root@unix("+s.file("socket")+")/"); err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if s.admin.Ping() == nil {
			return nil
		}
		select {
		case <-ended:
			deadline = time.Time{}
		default:
		}
	}
	said, _ := os.ReadFile(s.file("log"))
	return errors.Join(fmt.Errorf("MariaDB does not start; its log: %s", said), s.admin.Close(), s.stop())
}

// stop ends the server and waits until it is gone.
func (s *server) stop() error {
	if s.cmd == nil || s.cmd.Process == nil {
		return nil
	}
	s.cmd.Process.Kill() // there is nothing in it to keep
	select {
	case <-s.ended:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("MariaDB's process %d does not end", s.cmd.Process.Pid)
	}
}

// remove takes the server and its files away.
func (s *server) remove() error {
	var err error
	if s.admin != nil {
		err = s.admin.Close()
	}
	err = errors.Join(err, s.stop())
	if s.dir != "" {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}
