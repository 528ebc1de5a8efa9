package sqlite_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/sqlite"
)

// Environment variables that turn the test binary into a server.
const (
	serverDir      = "EVERGRANT_TEST_SERVER"    // the directory of its database
	serverLogPages = "EVERGRANT_TEST_LOG_PAGES" // sqlite.Options.LogPages
)

func TestMain(m *testing.M) {
	dir := os.Getenv(serverDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := serveUntilKilled(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func databaseIn(dir string) string { return filepath.Join(dir, "evergrant.db") }
func rootIn(dir string) string     { return filepath.Join(dir, "root.key") }

// killSwitch ends the process at a step of the store.
type killSwitch struct {
	seen  sync.Map // names of steps that were passed
	armed atomic.Pointer[aim]
}

// aim is at a passage of a step: 1 is the next.
type aim struct {
	step string
	left atomic.Int64
}

// passed does not return from the passage that is aimed at: the process ends as
// by kill -9, without a deferred call, a flush or a closed file.
func (k *killSwitch) passed(step string) {
	k.seen.LoadOrStore(step, true)
	if a := k.armed.Load(); a == nil || a.step != step || a.left.Add(-1) != 0 {
		return
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		panic(err)
	}
	select {}
}

// serveUntilKilled is the server process. It tells its address on standard
// output and ends when its standard input does, that is, with its parent.
func serveUntilKilled(dir string) error {
	rootText, err := os.ReadFile(rootIn(dir))
	if err != nil {
		return err
	}
	root, err := secret.ParseRoot(rootText)
	if err != nil {
		return err
	}
	logPages, err := strconv.Atoi(os.Getenv(serverLogPages))
	if err != nil {
		return err
	}
	var kill killSwitch
	service, err := openService(context.Background(), databaseIn(dir), root, sqlite.Options{Step: kill.passed, LogPages: logPages}, nil)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", service.server)
	mux.HandleFunc("GET /test/state", func(w http.ResponseWriter, r *http.Request) {
		state, err := service.state(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		json.NewEncoder(w).Encode(state)
	})
	mux.HandleFunc("POST /test/arm", func(w http.ResponseWriter, r *http.Request) {
		passages, err := strconv.ParseInt(r.FormValue("passages"), 10, 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		target := &aim{step: r.FormValue("step")}
		target.left.Store(passages)
		seen := []string{}
		kill.seen.Range(func(step, _ any) bool {
			seen = append(seen, step.(string))
			return true
		})
		json.NewEncoder(w).Encode(seen)
		http.NewResponseController(w).Flush() // the process may end before this function returns
		kill.armed.Store(target)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println(listener.Addr())
	return http.Serve(listener, mux)
}

// state is what a server says of its database beside the protocol.
type state struct {
	Grants map[string]issuer.Grant `json:"grants"` // by id
	Alarms int                     `json:"alarms"` // events that say that a token was reused or its row was behind
}

func (s *service) state(ctx context.Context) (state, error) {
	result := state{Grants: map[string]issuer.Grant{}}
	rows, err := s.rows(ctx)
	if err != nil {
		return result, err
	}
	for id, row := range rows {
		result.Grants[id.String()] = row
	}
	for _, alarm := range []string{issuer.EventGrantHealed, issuer.EventReuseDetected} {
		counts, err := s.events(ctx, alarm)
		if err != nil {
			return result, err
		}
		result.Alarms += len(counts)
	}
	return result, nil
}

// process is a server process, whose parent this one is.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr bytes.Buffer
	app    *app
}

// spawn starts a server process and returns before it is ready.
func spawn(dir string, logPages int) (*process, io.Reader, error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	p := &process{cmd: exec.Command(executable)}
	p.cmd.Env = append(os.Environ(), serverDir+"="+dir, serverLogPages+"="+strconv.Itoa(logPages), "GORACE=halt_on_error=1")
	p.cmd.Stderr = &p.stderr
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, nil, err
	}
	return p, stdout, p.cmd.Start()
}

// startServer starts a server process and waits until it is ready.
func startServer(t *testing.T, dir string, logPages int, site site) *process {
	t.Helper()
	p, stdout, err := spawn(dir, logPages)
	if err != nil {
		t.Fatal(err)
	}
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the server did not start: %v, %v: %s", err, p.cmd.Wait(), p.stderr.String())
	}
	p.app = newApp(site, "http://"+strings.TrimSpace(address), keptAlive())
	return p
}

// killed waits for the end of the process and fails unless it was a kill.
func (p *process) killed(t *testing.T) {
	t.Helper()
	if p.app != nil {
		p.app.http.CloseIdleConnections()
	}
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != -1 || p.stderr.Len() > 0 {
		t.Fatalf("the server ended by itself: %v: %s", err, p.stderr.String())
	}
}

// fail ends the test, and with it the process, with what that has to say.
func (p *process) fail(t *testing.T, cause error) {
	t.Helper()
	p.cmd.Process.Kill()
	t.Fatalf("%v; the server: %v: %s", cause, p.cmd.Wait(), p.stderr.String())
}

// operate calls one of the endpoints that only these tests have.
func (p *process) operate(t *testing.T, method, path string, result any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, p.app.base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := p.app.http.Do(request)
	if err != nil {
		p.fail(t, fmt.Errorf("%s: %w", path, err))
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

// declaredSteps are the values of the store's Step constants, from its source,
// so that one which is added is killed at as well.
func declaredSteps(t *testing.T) []string {
	t.Helper()
	steps := map[string]bool{}
	files := must[[]string](t)(filepath.Glob("*.go"))
	for _, name := range files {
		if !strings.HasSuffix(name, "_test.go") {
			collectSteps(t, name, steps)
		}
	}
	if len(steps) < 5 {
		t.Fatalf("only the steps %v found in the source", steps)
	}
	return slices.Sorted(maps.Keys(steps))
}

func collectSteps(t *testing.T, name string, steps map[string]bool) {
	t.Helper()
	file := must[*ast.File](t)(parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution))
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Names) != 1 || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Step") {
			return true
		}
		if literal, ok := spec.Values[0].(*ast.BasicLit); ok && literal.Kind == token.STRING {
			steps[must[string](t)(strconv.Unquote(literal.Value))] = true
		}
		return true
	})
}
