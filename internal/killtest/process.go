package killtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/secret"
)

// Environment variables that turn a test binary into a server.
const (
	placeVariable = "EVERGRANT_TEST_SERVER"
	rootVariable  = "EVERGRANT_TEST_SERVER_ROOT"
)

// StatePath is where a server tells its [Service.State], beside the protocol.
const StatePath = "/test/state"

// Place says what this process is: a server on the database that is there, or the
// tests, where it is "". The TestMain of a package asks it first.
func Place() string { return os.Getenv(placeVariable) }

// Serve is the server process. It tells its address on standard output and ends
// when its standard input does, that is, with its parent at the latest; what was
// asked is answered before. more adds to what it serves.
func Serve[S Store](ctx context.Context, store S, more func(*http.ServeMux)) error {
	root, err := secret.ParseRoot([]byte(os.Getenv(rootVariable)))
	if err != nil {
		return err
	}
	service, err := NewService(ctx, store, root, nil)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", service.Server)
	mux.HandleFunc("GET "+StatePath, func(w http.ResponseWriter, r *http.Request) {
		state, err := service.State(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		json.NewEncoder(w).Encode(state)
	})
	more(mux)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux}
	ended := make(chan error, 1)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		patience, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		ended <- server.Shutdown(patience)
	}()
	fmt.Println(listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return errors.Join(<-ended, store.Close())
}

// Process is a server process, whose parent this one is.
type Process struct {
	Address string // host:port
	App     *App

	cmd    *exec.Cmd
	stdin  io.Closer
	stderr bytes.Buffer
	ended  error
	done   chan struct{} // closed when it has ended, and ended is there
}

// Spawn starts a server process, which goes with the test, and returns before it
// is ready. more is added to its environment.
func Spawn(t *testing.T, place string, site Site, more ...string) (*Process, io.Reader) {
	t.Helper()
	executable := Must[string](t)(os.Executable())
	p := &Process{cmd: exec.Command(executable), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), placeVariable+"="+place, rootVariable+"="+site.Root.Base64(), "GORACE=halt_on_error=1")
	p.cmd.Env = append(p.cmd.Env, more...)
	p.cmd.Stderr = &p.stderr
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	// A pipe of our own: Wait would close one of its, with the address in it.
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout = in
	err = p.cmd.Start()
	in.Close()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		p.ended = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Kill()
		<-p.done
		out.Close()
		if p.App != nil {
			p.App.HTTP.CloseIdleConnections()
		}
	})
	return p, out
}

// Start starts a server process and waits until it is ready.
func Start(t *testing.T, place string, site Site, more ...string) *Process {
	t.Helper()
	p, stdout := Spawn(t, place, site, more...)
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		p.Fail(t, fmt.Errorf("the server did not start: %w", err))
	}
	p.Address = strings.TrimSpace(address)
	p.App = NewApp(site, "http://"+p.Address, KeptAlive())
	return p
}

// Kill kills the process, with a signal that it cannot catch. It may have ended.
func (p *Process) Kill() { p.cmd.Process.Kill() }

// Killed waits for the end of the process and fails unless it was a kill.
func (p *Process) Killed(t *testing.T) {
	t.Helper()
	<-p.done
	if p.App != nil {
		p.App.HTTP.CloseIdleConnections()
	}
	var exit *exec.ExitError
	if !errors.As(p.ended, &exit) || exit.ExitCode() != -1 || p.stderr.Len() > 0 {
		t.Fatalf("the server ended by itself: %v: %s", p.ended, p.stderr.String())
	}
}

// Stop ends the process as an operator does, and waits for it.
func (p *Process) Stop(t *testing.T) {
	t.Helper()
	p.stdin.Close()
	<-p.done
	if p.ended != nil || p.stderr.Len() > 0 {
		t.Fatalf("the server did not end well: %v: %s", p.ended, p.stderr.String())
	}
}

// Fail ends the test, and with it the process, with what that has to say.
func (p *Process) Fail(t *testing.T, cause error) {
	t.Helper()
	p.Kill()
	<-p.done
	t.Fatalf("%v; the server: %v: %s", cause, p.ended, p.stderr.String())
}

// Operate calls one of the endpoints that only these servers have.
func (p *Process) Operate(t *testing.T, method, path string, result any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, p.App.base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := p.App.HTTP.Do(request)
	if err != nil {
		p.Fail(t, fmt.Errorf("%s: %w", path, err))
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(response.Body)
		t.Fatalf("%s: %d %s", path, response.StatusCode, body)
	}
	if result != nil {
		if err := json.NewDecoder(response.Body).Decode(result); err != nil {
			t.Fatal(err)
		}
	}
}
