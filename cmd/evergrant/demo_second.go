package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant"
)

// second is a server in a process of its own, which can be killed.
type second struct {
	admin *evergrant.Client
	cmd   *exec.Cmd
	ended chan struct{}
}

// secondWords are its command line.
func secondWords(dir string) []string {
	return []string{"serve", "--config", filepath.Join(dir, "evergrant.yaml"), "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0"}
}

// secondEnv is an environment without a root key: the second server makes its
// own.
func secondEnv(env []string) []string {
	return slices.DeleteFunc(env, func(variable string) bool { return strings.HasPrefix(variable, rootKeyEnv+"=") })
}

// startSecond starts a server on the configuration file and the data in dir, and
// waits until it is ready. It ends with the context at the latest.
func startSecond(ctx context.Context, dir string) (*second, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &second{cmd: exec.CommandContext(ctx, program, append(secondWords(dir), "--json", "--log-level", "error")...), ended: make(chan struct{})}
	s.cmd.Env = secondEnv(os.Environ())
	var stderr bytes.Buffer
	s.cmd.Stderr = &stderr
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	slow := time.AfterFunc(demoTimeout, func() { _ = s.cmd.Process.Kill() })
	defer slow.Stop()
	var ready struct{ Issuer string }
	failed := json.NewDecoder(stdout).Decode(&ready)
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait() // how it ended is in its ProcessState
	}()
	if failed != nil {
		s.end(os.Kill)
		return nil, fmt.Errorf("the second server did not start: %s", strings.TrimSpace(stderr.String()))
	}
	token, err := adminToken(filepath.Join(dir, "data", adminTokenFile))
	s.admin = &evergrant.Client{Server: ready.Issuer, Token: token, HTTP: &http.Client{Timeout: demoTimeout}}
	return s, err
}

// end sends a signal to the process, unless it has ended, and waits for its end.
func (s *second) end(signal os.Signal) *os.ProcessState {
	_ = s.cmd.Process.Signal(signal)
	<-s.ended
	return s.cmd.ProcessState
}
