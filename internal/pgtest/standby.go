package pgtest

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"
)

// pair is the value of synchronous_standby_names on both servers of a pair: a
// commit waits for the other one, whichever that is.
const pair = "s1, s2"

// Standby starts a synchronous standby, which goes with the test. From now on a
// commit on s is acknowledged when the standby has it on disk as well, and waits
// for ever where there is no standby.
func (s *Server) Standby(t testing.TB) *Server {
	t.Helper()
	name := "s2"
	if s.name == name {
		name = "s1"
	}
	standby, err := newServer(name)
	if err == nil {
		err = s.copyTo(standby)
	}
	standby.keep(t, err)
	if err := s.await(standby); err != nil {
		t.Fatal(err)
	}
	return standby
}

// copyTo makes a copy of the running server s, as its standby, and starts it. The
// standby has the setting by which its primary waits for it: once promoted, it
// waits as well.
func (s *Server) copyTo(standby *Server) error {
	if _, err := s.exec("ALTER SYSTEM SET synchronous_standby_names = " + quoted(pair)); err != nil { // in force when it is there
		return err
	}
	err := s.tool("pg_basebackup", "-d", s.internal(""), "-D", standby.data(), "-X", "stream", "--checkpoint=fast", "--no-sync")
	if err != nil {
		return err
	}
	if err := standby.follow(s); err != nil {
		return err
	}
	return standby.startAnywhere()
}

// internal is the connection string by which servers reach s.
func (s *Server) internal(name string) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=postgres application_name=%s", s.port, administrator, name)
}

// follow makes a server that does not run a standby of another.
func (s *Server) follow(primary *Server) error {
	err := os.WriteFile(s.file("standby.signal"), nil, 0o644)
	return errors.Join(err, s.set("unix_socket_directories = "+quoted(s.dir), "primary_conninfo = "+quoted(primary.internal(s.name))))
}

// await lets commits on s wait for the standby, once it has caught up.
func (s *Server) await(standby *Server) error {
	if err := s.configure("synchronous_standby_names", pair); err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		state, err := s.exec("SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming' AND application_name = " + quoted(standby.name))
		if err != nil || state == "sync" {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the standby does not become synchronous: it is %q; its log: %s", state, standby.Log())
		}
	}
}

// Promote makes a standby the primary. As it was told to wait for a standby
// itself, its commits hang until it has one ([Server.Rejoin]) or is told to be
// [Server.Alone].
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	if promoted := s.Exec(t, "", "SELECT pg_promote(true, 60)"); promoted != "t" {
		t.Fatalf("the standby was not promoted; its log: %s", s.Log())
	}
}

// Alone lets commits wait for no standby, those that wait already among them.
func (s *Server) Alone(t testing.TB) {
	t.Helper()
	s.Configure(t, "synchronous_standby_names", "")
}

// Rejoin makes a former primary, which was killed or stopped, the synchronous
// standby of the one that was promoted in its place. What it had not sent
// before is gone.
func (s *Server) Rejoin(t testing.TB, primary *Server) {
	t.Helper()
	if s.process.running() {
		t.Fatal("the server runs: kill or stop it before")
	}
	if err := s.rejoin(primary); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) rejoin(primary *Server) error {
	os.Remove(s.file("postmaster.pid")) // of the one that was killed
	// The primary's files tell of its promotion after the next checkpoint only.
	if _, err := primary.exec("CHECKPOINT"); err != nil {
		return err
	}
	if err := s.tool("pg_rewind", "-D", s.data(), "--source-server", primary.internal(""), "--no-sync"); err != nil {
		return err
	}
	// The settings are the primary's now.
	if err := errors.Join(s.follow(primary), s.begin()); err != nil {
		return err
	}
	return primary.await(s)
}
