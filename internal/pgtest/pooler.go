package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Pooler is a pgbouncer in front of a server, with transaction pooling: each
// transaction may run in another session.
type Pooler struct {
	server  *Server // whose directory and user it shares
	port    int
	process *process
}

// poolers is the configuration of a pooler: the port of the server, its own, and
// the file of users. Sessions are few, so that clients do change them.
const poolers = `[databases]
* = host=127.0.0.1 port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = trust
auth_file = %s
pool_mode = transaction
default_pool_size = 10
max_client_conn = 1000
`

// Pooler starts a pooler in front of the server, which goes with the test.
func (s *Server) Pooler(t testing.TB) *Pooler {
	t.Helper()
	p := &Pooler{server: s}
	var err error
	for range 5 { // where the port is taken meanwhile
		if p.port, err = freePort(); err != nil {
			break
		}
		if err = p.begin(); err == nil || p.process == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.process.kill(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// begin starts the pooler and waits until it listens.
func (p *Pooler) begin() error {
	program, err := bouncer()
	if err != nil {
		return err
	}
	base := filepath.Join(p.server.dir, "pooler"+strconv.Itoa(p.port))
	users, config, log := base+".users", base+".ini", base+".log"
	err = errors.Join(
		os.WriteFile(users, []byte(`"`+role+`" ""`+"\n"), 0o644),
		os.WriteFile(config, fmt.Appendf(nil, poolers, p.server.port, p.port, users), 0o644))
	if err != nil {
		return err
	}
	os.Remove(log) // of the last time
	p.process, err = start(p.server.who, p.server.dir, log, syscall.SIGKILL, program, config)
	if err != nil {
		return err
	}
	var said []byte
	for deadline := time.Now().Add(patience); p.process.running() && time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if said, _ = os.ReadFile(log); bytes.Contains(said, []byte("process up")) {
			return nil
		}
	}
	said, _ = os.ReadFile(log)
	return errors.Join(fmt.Errorf("pgbouncer does not start; its log: %s", said), p.process.kill())
}

func (p *Pooler) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }

// URL is the connection string of one of the server's databases through the
// pooler.
func (p *Pooler) URL(database string) string {
	return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", role, p.address(), database)
}

// Kill kills the pooler, and waits until it is gone.
func (p *Pooler) Kill(t testing.TB) {
	t.Helper()
	if err := p.process.kill(); err != nil {
		t.Fatal(err)
	}
}

// Restart starts a pooler that was killed again, at its old address.
func (p *Pooler) Restart(t testing.TB) {
	t.Helper()
	if p.process.running() {
		t.Fatal("the pooler runs: kill it before")
	}
	if err := p.begin(); err != nil {
		t.Fatal(err)
	}
}
