package keeper_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/internal/testdb"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/secret"
)

// processEnv holds, in a process that a test starts, what it is to do.
const processEnv = "EVERGRANT_KEEPER_PROCESS"

func TestMain(m *testing.M) {
	if text := os.Getenv(processEnv); text != "" {
		var order order
		if err := json.Unmarshal([]byte(text), &order); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		if err := order.run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if life := os.Getenv(scaleProviderEnv); life != "" {
		if err := serveScale(life); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(pgtest.Main(m))
}

// order is what a keeper process is told.
type order struct {
	Dir       string // of the spool
	Place     testdb.Place
	Root      string
	Providers map[string]string // name of a dialect → URL of its simulator
	Ahead     time.Duration     // of the clock
	Timeout   time.Duration     // of requests
	Limit     int               // requests to a provider at once; the default where 0
	KillAt    string            // the step at which to die, "" for none
	KillAfter int               // how many times it is passed before
	Readers   int               // goroutines that read tokens all the time
	IDs       []string          // that are read
}

// run is a whole keeper process. It ends when its standard input does.
func (o order) run() error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	now := func() time.Time { return time.Now().Add(o.Ahead) }
	root, err := secret.ParseRoot([]byte(o.Root))
	if err != nil {
		return err
	}
	db, err := o.Place.Open(ctx)
	if err != nil {
		return err
	}
	ring, err := secret.OpenRing(ctx, root, db, now, false)
	if err != nil {
		return err
	}
	var passed atomic.Int64
	cfg := keeper.Config{
		Store: db.Keeper(), Keys: ring, Spool: filepath.Join(o.Dir, "spool"), Now: now,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Step: func(name string) {
			if name == o.KillAt && passed.Add(1) == int64(o.KillAfter+1) {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		},
	}
	for name, url := range o.Providers {
		p, err := o.provider(name, url, now)
		if err != nil {
			return err
		}
		cfg.Providers = append(cfg.Providers, p)
	}
	k, err := keeper.New(cfg)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var readers sync.WaitGroup
	for range o.Readers {
		readers.Go(func() {
			for ctx.Err() == nil {
				k.Token(ctx, o.IDs[rand.IntN(len(o.IDs))], keeper.Want{Force: rand.IntN(4) == 0})
				time.Sleep(time.Millisecond)
			}
		})
	}
	err = k.Run(ctx)
	readers.Wait()
	if ctx.Err() != nil {
		err = nil
	}
	return errors.Join(err, db.Close())
}

// process is a keeper that runs in a process of its own.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr *syncBuffer
	ended  chan struct{}
}

// spawn starts a keeper process and waits until it works, or has killed itself.
func spawn(t testing.TB, o order) *process {
	t.Helper()
	text := must[[]byte](t)(json.Marshal(o))
	p := &process{cmd: exec.Command(os.Args[0]), stderr: &syncBuffer{}, ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), processEnv+"="+string(text))
	p.cmd.Stderr = p.stderr
	stdout := must[io.ReadCloser](t)(p.cmd.StdoutPipe())
	p.stdin = must[io.WriteCloser](t)(p.cmd.StdinPipe())
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !bufio.NewScanner(stdout).Scan() {
		p.cmd.Wait()
		t.Fatalf("the keeper process does not start: %s", p.stderr)
	}
	go func() {
		p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.ended
	})
	return p
}

// kill kills the process from outside, unless it has done so itself.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

// stopAll ends processes as an operator does, all at once since each finishes what
// it has begun, and fails where one complains.
func stopAll(t testing.TB, all []*process) {
	t.Helper()
	for _, p := range all {
		p.stdin.Close()
	}
	for _, p := range all {
		select {
		case <-p.ended:
		case <-time.After(time.Minute):
			t.Fatal("the keeper process does not end")
		}
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			t.Fatalf("the keeper process ended with status %d: %s", code, p.stderr)
		}
	}
}

// within waits for the process to kill itself, and kills it if it does not.
func (p *process) within(d time.Duration) (itself bool) {
	select {
	case <-p.ended:
		return true
	case <-time.After(d):
		p.kill()
		return false
	}
}

// syncBuffer keeps what a process says.
type syncBuffer struct {
	mu   sync.Mutex
	text []byte
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	return len(p), nil
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text)
}
