package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/foreign/foreigntest"
)

// line lies between the command and the server, and can be cut.
type line struct {
	*httptest.Server
	t       *testing.T
	target  atomic.Pointer[running]
	batches atomic.Int32 // that have come, the question before them among them
	// before and after are asked about batch n, ahead of its way to the server and
	// when its answer is back. The line is cut where they say so.
	before, after func(n int) bool
	mu            sync.Mutex // where a command in a process of its own asks, whose requests order nothing here
}

func newLine(t *testing.T, s *running) *line {
	t.Helper()
	never := func(int) bool { return false }
	l := &line{t: t, before: never, after: never}
	l.target.Store(s)
	l.Server = httptest.NewServer(http.HandlerFunc(l.pass))
	t.Cleanup(l.Close)
	return l
}

func (l *line) pass(w http.ResponseWriter, r *http.Request) {
	n := 0
	if strings.HasPrefix(r.URL.Path, "/v1/import") {
		n = int(l.batches.Add(1))
	}
	l.mu.Lock()
	before, after := l.before, l.after
	l.mu.Unlock()
	if n > 0 && before(n) {
		cut(w)
		return
	}
	body, _ := io.ReadAll(r.Body)
	req, err := http.NewRequestWithContext(r.Context(), r.Method, l.target.Load().url+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header = r.Header.Clone()
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		cut(w)
		return
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || n > 0 && after(n) {
		cut(w)
		return
	}
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	w.WriteHeader(resp.StatusCode)
	w.Write(answer)
}

// cut breaks a connection off without an answer.
func cut(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		conn.Close()
	}
}

// importThrough runs an import over the line.
func (l *line) importThrough(ctx context.Context, o *oldServer, now func() time.Time) result {
	l.t.Helper()
	var out, stderr bytes.Buffer
	args := []string{"import", o.address, "--json", "--server", l.URL, "--data", l.target.Load().dir}
	code := program{env: environment(), now: now}.Run(ctx, args, strings.NewReader(""), &out, &stderr)
	return result{code, out.String(), stderr.String()}
}

// manyRows is a source of ten batches.
func manyRows(t *testing.T) *oldServer {
	return newOldServer(t, "fos", foreigntest.SQLite, 1500, 10, 6000)
}

// wantAll checks that all of a source is on the server, each once, and that one
// more run finds nothing to do.
func (s *running) wantAll(o *oldServer) {
	s.t.Helper()
	report := s.importFrom(o)
	refresh, access := o.live()
	if report.Clients.Unchanged != o.clients || report.Users.Unchanged != o.users || report.Tokens.Unchanged != refresh+access || report.Gone.Gone > 0 {
		s.t.Errorf("one more run reports %+v", report)
	}
	stats := document[struct {
		Rows map[string]int `json:"rows"`
	}](s.t, s.stats())
	if stats.Rows["grants"] != refresh+access || stats.Rows["users"] != o.users || stats.Rows["clients"] != o.clients+2 {
		s.t.Errorf("the server has %v", stats.Rows)
	}
	m := &movedIn{s, o}
	for i := 0; i < o.tokens; i += o.tokens/7 + 1 {
		if !foreigntest.Expired(i) {
			m.refreshes(i, foreigntest.Token(i))
		}
	}
}

// stats are the sizes of the database.
func (s *running) stats() string {
	s.t.Helper()
	admin, err := (&invocation{program: program{env: environment("EVERGRANT_SERVER", s.url)}, data: s.dir}).admin()
	if err != nil {
		s.t.Fatal(err)
	}
	stats, err := admin.Stats(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprintf(`{"rows":{"grants":%d,"users":%d,"clients":%d}}`, stats.Rows["grants"], stats.Rows["users"], stats.Rows["clients"])
}

// TestImportCut cuts the line at every batch, once before it reaches the server and
// once when its answer is on the way back.
func TestImportCut(t *testing.T) {
	for name, at := range map[string]func(l *line, cut func(int) bool){
		"before": func(l *line, cut func(int) bool) { l.before = cut },
		"after":  func(l *line, cut func(int) bool) { l.after = cut },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits between two attempts
			o := manyRows(t)
			s := start(t, t.TempDir(), importConfig)
			l := newLine(t, s)
			var cuts atomic.Int32
			at(l, func(n int) bool { return n > 1 && n%2 == 0 && cuts.Add(1) > 0 }) // each again is an odd one, or a later
			r := l.importThrough(t.Context(), o, time.Now)
			if r.code != exitDone || cuts.Load() < 8 {
				t.Fatalf("status %d after %d cuts: %s", r.code, cuts.Load(), r.stderr)
			}
			report := document[importReport](t, r.out)
			refresh, access := o.live()
			if report.Tokens.Created+report.Tokens.Unchanged != refresh+access || name == "before" && report.Tokens.Unchanged > 0 || name == "after" && report.Tokens.Unchanged == 0 {
				t.Errorf("report %+v", report.Tokens)
			}
			s.wantAll(o)
		})
	}
}

// TestImportInterrupted ends the command in the middle, or the server for good: the
// next run completes what is there.
func TestImportInterrupted(t *testing.T) {
	o := manyRows(t)
	t.Run("by a signal", func(t *testing.T) {
		t.Parallel()
		s := start(t, t.TempDir(), importConfig)
		l := newLine(t, s)
		ctx, interrupt := context.WithCancel(t.Context())
		l.after = func(n int) bool {
			if n == 6 {
				interrupt()
			}
			return n >= 6
		}
		r := l.importThrough(ctx, o, time.Now)
		if r.code != exitFailed || r.stderr != "evergrant: interrupted\nrun it again: it goes on where it stopped\n" || r.out != "" {
			t.Errorf("status %d, %q", r.code, r.stderr)
		}
		s.wantPart(o)
	})
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		s := start(t, t.TempDir(), importConfig)
		l := newLine(t, s)
		cmd := exec.Command(os.Args[0], "import", o.address, "--server", l.URL, "--data", s.dir)
		cmd.Env = append(os.Environ(), "EVERGRANT_TEST_PROCESS=1")
		process := make(chan *os.Process, 1)
		l.mu.Lock()
		l.before = func(n int) bool {
			if n == 7 {
				(<-process).Kill()
			}
			return n >= 7
		}
		l.mu.Unlock()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		process <- cmd.Process
		if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != -1 {
			t.Errorf("the process ended by itself: %v", err)
		}
		s.wantPart(o)
	})
	t.Run("no server any more", func(t *testing.T) {
		t.Parallel()
		s := start(t, t.TempDir(), importConfig)
		l := newLine(t, s)
		var late atomic.Bool
		l.before = func(n int) bool {
			if n >= 8 {
				late.Store(true)
			}
			return n >= 8
		}
		now := func() time.Time { // its patience is over when the line is
			if late.Load() {
				return time.Now().Add(time.Hour)
			}
			return time.Now()
		}
		r := l.importThrough(t.Context(), o, now)
		if r.code != exitUnavailable || !strings.HasPrefix(r.stderr, "evergrant: the server cannot be reached at ") ||
			!strings.HasSuffix(r.stderr, "\nlook whether the server is well, and run it again: it goes on where it stopped\n") {
			t.Errorf("status %d, %q", r.code, r.stderr)
		}
		s.wantPart(o)
	})
}

// wantPart checks that a run has left a part, and lets the next one complete it.
func (s *running) wantPart(o *oldServer) {
	s.t.Helper()
	refresh, access := o.live()
	report := s.importFrom(o)
	if report.Tokens.Unchanged == 0 || report.Tokens.Created == 0 || report.Tokens.Created+report.Tokens.Unchanged != refresh+access {
		s.t.Errorf("the next run reports %+v", report.Tokens)
	}
	s.wantAll(o)
}

// TestImportOverRestart has the server restart in the middle: the command waits.
func TestImportOverRestart(t *testing.T) {
	o := manyRows(t)
	first := start(t, t.TempDir(), importConfig)
	l := newLine(t, first)
	down, up := make(chan struct{}), make(chan struct{})
	var once sync.Once
	l.after = func(n int) bool {
		if n < 5 {
			return false
		}
		once.Do(func() { close(down) })
		select {
		case <-up:
			return false
		default:
			return true
		}
	}
	answered := make(chan result, 1)
	go func() { answered <- l.importThrough(t.Context(), o, time.Now) }()
	<-down
	first.stop()
	second := start(t, first.dir, importConfig)
	l.target.Store(second)
	close(up)
	if r := <-answered; r.code != exitDone {
		t.Fatalf("status %d: %s", r.code, r.stderr)
	}
	second.wantAll(o)
}

// TestImportOfBrokenSource has a source that ends in the middle.
func TestImportOfBrokenSource(t *testing.T) {
	o := manyRows(t)
	s := start(t, t.TempDir(), importConfig)
	path := strings.TrimPrefix(o.address, "sqlite:")
	o.exec("PRAGMA journal_mode = WAL") // read as it is, without a copy
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(t.TempDir(), "broken.db")
	damaged := bytes.Clone(whole)
	for page := len(damaged) / 4096 / 2; page < len(damaged)/4096; page++ {
		copy(damaged[page*4096:], bytes.Repeat([]byte{0xff}, 4096))
	}
	if err := os.WriteFile(broken, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	r := s.run("", "import", "sqlite:"+broken)
	if r.code != exitFailed || !strings.HasPrefix(r.stderr, "evergrant: the source cannot be read: ") || !strings.Contains(r.stderr, "malformed") {
		t.Errorf("status %d, %q", r.code, r.stderr)
	}
	if events := s.ok("event", "list", "--type", "grant.revoked", "--json"); strings.TrimSpace(events) != "[]" {
		t.Errorf("a run that failed has revoked something: %s", events)
	}
}
