package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/foreign/foreigntest"
)

// sizeVariable, set to "full", makes [TestImportSize] one of its full size.
const sizeVariable = "EVERGRANT_IMPORT"

// importMemory is what the command may take, in MiB: what it has on its way, and 16
// bytes of each token.
const importMemory = 192

// TestImportSize imports a large source by a process of its own, into a server that
// is one, and tells how long it took and what it needed.
func TestImportSize(t *testing.T) {
	full := os.Getenv(sizeVariable) == "full"
	users, clients, tokens, samples := 5000, 100, 20_000, 40
	if full {
		users, clients, tokens, samples = 100_000, 1000, 500_000, 400
	}
	for _, test := range []struct {
		kind, dialect string
		onPostgres    bool // the server's own data
		always        bool
	}{
		{"bshaffer", foreigntest.SQLite, false, true},
		{"fos", foreigntest.MySQL, false, false},
		{"doorkeeper", foreigntest.Postgres, false, false},
		{"bshaffer", foreigntest.MySQL, true, false},
	} {
		if !test.always && !full {
			continue
		}
		t.Run(fmt.Sprintf("%s in %s, on PostgreSQL %v", test.kind, test.dialect, test.onPostgres), func(t *testing.T) {
			o := newOldServer(t, test.kind, test.dialect, users, clients, tokens)
			var p *process
			if test.onPostgres {
				p = startReplicas(t, importConfig, nil)[0]
			} else {
				p = startProcess(t, t.TempDir(), importConfig)
			}
			report := p.measured("first", o, full)
			refresh, access := o.live()
			if report.Clients.Created != clients || report.Users.Created != users || report.Tokens.Created != refresh+access || len(report.Notes) > 0 {
				t.Errorf("report %+v", report)
			}
			m := &movedIn{p.running, o}
			for n := range samples {
				i := n * (tokens / samples)
				i += n % 10 // each sort of expiry
				if foreigntest.Expired(i) {
					m.wantRefused("an expired token", i, foreigntest.Token(i))
					continue
				}
				m.wantSeen("the refresh token", foreigntest.Token(i), i, foreigntest.ExpiresAt(o.kind, i))
				m.refreshes(i, foreigntest.Token(i))
				if foreigntest.AccessLive(i) {
					m.wantSeen("the access token", foreigntest.AccessToken(i), i, foreigntest.AccessExpiresAt(i))
				}
			}
			again := p.measured("second", o, full)
			if again.Clients.Unchanged != clients || again.Users.Unchanged != users || again.Tokens.Unchanged != refresh+access || again.Gone.Gone > 0 {
				t.Errorf("the second run reports %+v", again)
			}
		})
	}
}

// measured imports and tells what it took.
func (p *process) measured(which string, o *oldServer, full bool) importReport {
	p.t.Helper()
	cmd := exec.Command(os.Args[0], "import", o.address, "--json", "--profile", "standard", "--server", p.url, "--data", p.dir)
	cmd.Env = append(os.Environ(), "EVERGRANT_TEST_PROCESS=1")
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	began := time.Now()
	if err := cmd.Run(); err != nil {
		p.t.Fatalf("%v: %s", err, stderr.String())
	}
	took := time.Since(began)
	used := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	peak := used.Maxrss / 1024 // of KiB, but for macOS
	if runtime.GOOS == "darwin" {
		peak /= 1024
	}
	p.t.Logf("%s run: %.1f s, of which the command used %.1f s of processor time and at most %d MiB; the server has needed at most %d MiB",
		which, took.Seconds(), (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), peak, p.peak())
	if full && peak > importMemory {
		p.t.Errorf("the command has taken %d MiB, and %d are the most", peak, importMemory)
	}
	return document[importReport](p.t, out.String())
}

// peak is the most memory that a process has had, in MiB; 0 where the system does
// not tell.
func (p *process) peak() int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, line, _ := strings.Cut(string(status), "VmHWM:")
	kib, _ := strconv.Atoi(strings.Fields(line)[0])
	return kib / 1024
}
