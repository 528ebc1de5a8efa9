package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// process is the program as the operating system runs it.
type process struct {
	*running
	cmd *exec.Cmd
}

// startProcess runs `evergrant serve` in a process of its own, which is ended
// with the test.
func startProcess(t *testing.T, dir, config string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"serve", "--data", dir, "--listen", "127.0.0.1:0", "--config", writeConfig(t, config)}, args...)...)
	cmd.Env = append(os.Environ(), "EVERGRANT_TEST_PROCESS=1")
	stderr := &record{}
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{&running{t: t, dir: dir, stdout: &record{}, stderr: stderr}, cmd}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if p.url = regexp.MustCompile(`http://\S+`).FindString(lines.Text()); p.url != "" {
			go io.Copy(p.stdout, stdout)
			return p
		}
	}
	t.Fatalf("the process is not ready: %s", stderr)
	return nil
}

// end sends a signal and returns the exit status, -1 for a process that was
// killed.
func (p *process) end(signal os.Signal) int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.t.Fatal(err)
	}
	p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

func TestProcessSignals(t *testing.T) {
	for _, test := range []struct {
		name   string
		signal os.Signal
		code   int
	}{
		{"SIGTERM", syscall.SIGTERM, exitDone},
		{"SIGINT", os.Interrupt, exitDone},
		{"SIGKILL", os.Kill, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			p := startProcess(t, dir, seeds)
			grant := p.login()
			for range 5 {
				grant = p.refresh(grant.Refresh)
			}
			p.ok("client", "create", "made-before-the-end")
			if code := p.end(test.signal); code != test.code {
				t.Errorf("status %d, want %d: %s", code, test.code, p.stderr)
			}
			s := start(t, dir, seeds) // the lock ended with the process
			if answer := s.refresh(grant.Refresh); answer.Refresh == "" {
				t.Errorf("after %s a refresh gives %+v", test.name, answer)
			}
			s.ok("client", "show", "made-before-the-end")
		})
	}
}

// TestFirstStartBrokenOff begins with what a first start leaves that was killed
// after one of its steps.
func TestFirstStartBrokenOff(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string]string
	}{
		{"after the directory", nil},
		{"after the lock", map[string]string{lockName: ""}},
		{"after the root key", map[string]string{lockName: "", rootKeyName: testRoot + "\n"}},
		{"after the empty database", map[string]string{lockName: "", rootKeyName: testRoot + "\n", databaseName: ""}},
		{"empty database without root key", map[string]string{databaseName: ""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range test.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			start(t, dir, seeds).login()
			if root := contents(t, dir)[rootKeyName]; test.files[rootKeyName] != "" && root != test.files[rootKeyName] {
				t.Error("the root key was replaced")
			}
		})
	}
}

// TestBackupUnderLoad takes backups while clients refresh, and looks whether
// every grant lives on in each of them.
func TestBackupUnderLoad(t *testing.T) {
	s := start(t, t.TempDir(), seeds)
	root := contents(t, s.dir)[rootKeyName]
	const clients, backups = 8, 3
	stop := make(chan struct{})
	newest := make([]tokens, clients)
	for i := range newest {
		newest[i] = s.login()
	}
	var work sync.WaitGroup
	for i := range newest {
		work.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				answer := s.refresh(newest[i].Refresh)
				if answer.Refresh == "" {
					t.Errorf("refresh during a backup: %+v", answer)
					return
				}
				newest[i] = answer
			}
		})
	}
	var files []string
	for range backups {
		files = append(files, s.backup())
	}
	close(stop)
	work.Wait()
	s.stop()
	for _, file := range files {
		dir := t.TempDir()
		if err := createFile(filepath.Join(dir, rootKeyName), root); err != nil {
			t.Fatal(err)
		}
		if r := run(t, environment(), "", "restore", file, "--data", dir); r.code != exitDone {
			t.Fatalf("restore: status %d, %q", r.code, r.stderr)
		}
		restored := start(t, dir, seeds)
		for i := range newest {
			if answer := restored.refresh(newest[i].Refresh); answer.Refresh == "" {
				t.Errorf("client %d is logged out by the restore: %+v", i, answer)
			}
		}
		restored.stop()
	}
}

// TestOneServerPerDirectory has a process hold the directory, and all that would
// change it refuse.
func TestOneServerPerDirectory(t *testing.T) {
	p := startProcess(t, t.TempDir(), seeds)
	file := p.backup()
	for _, args := range [][]string{{"serve", "--listen", "127.0.0.1:0"}, {"restore", file}} {
		r := p.run("", args...)
		if r.code != exitFailed || !strings.HasPrefix(r.stderr, "evergrant: another process uses the data directory") {
			t.Errorf("%v: status %d, %q", args, r.code, r.stderr)
		}
	}
	p.login()
}
