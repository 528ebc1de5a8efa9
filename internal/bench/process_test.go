package bench

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// command starts the test program itself as a server that behaves as said.
func command(t *testing.T, how string) Command {
	t.Helper()
	return Command{
		Argv: []string{os.Args[0], "127.0.0.1:0"},
		Env:  []string{behaviour + "=" + how},
		Log:  filepath.Join(t.TempDir(), "log"),
	}
}

// gone reports whether no process with the id is left.
func gone(pid int) bool { return syscall.Kill(pid, 0) == syscall.ESRCH }

func TestStartWaitsUntilReady(t *testing.T) {
	for _, how := range []string{"ready", "slow"} {
		t.Run(how, func(t *testing.T) {
			server, err := Start(t.Context(), command(t, how))
			if err != nil {
				t.Fatal(err)
			}
			defer server.Stop()
			if err := Ask(t.Context(), "http://"+server.Address+"/readyz"); err != nil {
				t.Errorf("started, but: %v", err)
			}
			if gone(server.PID) {
				t.Error("the process id is not that of a process")
			}
			server.Stop()
			if !gone(server.PID) {
				t.Error("the process lives on after Stop")
			}
		})
	}
}

func TestStartWithAKnownAddress(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	c := command(t, "ready")
	c.Argv[1], c.Address = address, address
	server, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	if server.Address != address {
		t.Errorf("address %s, want %s", server.Address, address)
	}
	log, err := os.ReadFile(c.Log)
	if err != nil || !strings.Contains(string(log), address) || !strings.Contains(string(log), "last words") {
		t.Errorf("the log does not have both outputs: %q, %v", log, err)
	}
}

func TestStartTellsWhatWentWrong(t *testing.T) {
	tests := []struct {
		name, how string
		patience  time.Duration
		want      string
	}{
		{"the process ends at once", "dies", time.Minute, "the last words"},
		{"it prints no address", "silent", 300 * time.Millisecond, "did not start"},
		{"it is never ready", "never ready", 2 * time.Second, "/readyz answered 503"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := command(t, test.how)
			c.Patience = test.patience
			server, err := Start(t.Context(), c)
			if err == nil {
				server.Stop()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("%q does not say %q", err, test.want)
			}
		})
	}
}

func TestStartWithoutAProgramOrALog(t *testing.T) {
	missing := command(t, "ready")
	missing.Argv[0] = filepath.Join(t.TempDir(), "nothing")
	unwritable := command(t, "ready")
	unwritable.Log = filepath.Join(t.TempDir(), "no", "log")
	for name, c := range map[string]Command{"program": missing, "log": unwritable} {
		t.Run(name, func(t *testing.T) {
			if server, err := Start(t.Context(), c); err == nil {
				server.Stop()
				t.Fatal("no error")
			}
		})
	}
}

// A server with a fixed address that ends before it is ready is noticed at
// once, and not after the whole patience.
func TestStartNoticesAnEarlyEnd(t *testing.T) {
	c := command(t, "dies")
	c.Address = "127.0.0.1:1"
	server, err := Start(t.Context(), c)
	if err == nil {
		server.Stop()
		t.Fatal("no error")
	}
	if !strings.Contains(err.Error(), "the process has ended") {
		t.Errorf("%q", err)
	}
}

func TestStopKillsAServerThatDoesNotEnd(t *testing.T) {
	c := command(t, "stubborn")
	c.Patience = 2 * time.Second
	server, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	server.Stop()
	if !gone(server.PID) {
		t.Error("the process lives on")
	}
	server.Stop() // a second time does no harm
}

func TestServerEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server, err := Start(ctx, command(t, "ready"))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	cancel()
	<-server.ended
	if !gone(server.PID) {
		t.Error("the process lives on")
	}
}
