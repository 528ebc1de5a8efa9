//go:build unix

package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	driver "zombiezen.com/go/sqlite"
)

// limitedFile names the database on which TestCommitFails works when it is run
// as a child.
const limitedFile = "EVERGRANT_TEST_LIMITED_FILE"

// TestCommitFails lets commits fail half-way in the write to the log: the
// process may make no file longer, so that the kernel refuses. Everybody in the
// batch is told, nothing is half done, and when there is room again the same
// process serves again. It then ends as by kill -9, and all that was answered
// is in the file.
//
// The limit is one of the whole process, so that a child bears it.
func TestCommitFails(t *testing.T) {
	if path := os.Getenv(limitedFile); path != "" {
		failToCommit(t, path)
		return
	}
	path := tempPath(t)
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCommitFails$", "-test.v")
	child.Env = append(os.Environ(), limitedFile+"="+path)
	child.Stderr = os.Stderr
	out, err := child.Output()
	if status, ok := errors.AsType[*exec.ExitError](err); !ok || status.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("%v: %s", err, out)
	}
	db := open(t, path, Options{})
	check(t, db.Check(t.Context()))
	answered := 0
	for scanner := bufio.NewScanner(strings.NewReader(string(out))); scanner.Scan(); {
		var text string
		var generation uint32
		if n, _ := fmt.Sscanf(scanner.Text(), "answered %32s %d", &text, &generation); n != 2 {
			continue
		}
		answered++
		id, err := issuer.ParseGrantID(text)
		check(t, err)
		if got, err := db.Grant(t.Context(), id); err != nil || got.Generation != generation {
			t.Errorf("%+v, %v; generation %d was answered", got, err, generation)
		}
	}
	if answered != 32 {
		t.Errorf("%d answers in %s", answered, out)
	}
}

// failToCommit is the child. It prints what it answered last for each grant.
func failToCommit(t *testing.T, path string) {
	signal.Ignore(syscall.SIGXFSZ)
	var log journal
	db := open(t, path, Options{Log: log.logger()})
	grants := createMany(t, db, 32)
	lengthen(t, logSize(t, db)+frame/2)
	refreshTogether(t, db, grants, func(_ int, rotated bool, err error) {
		if rotated || !errors.Is(err, issuer.ErrUnavailable) || driver.ErrCode(err).ToPrimary() != driver.ResultIOErr {
			t.Errorf("%v, %v", rotated, err)
		}
	})
	if err := db.Ready(t.Context()); !errors.Is(err, issuer.ErrUnavailable) {
		t.Errorf("ready: %v", err)
	}
	lengthen(t, -1)
	refreshTogether(t, db, grants, func(i int, rotated bool, err error) {
		if !rotated || err != nil {
			t.Errorf("%v, %v", rotated, err)
		}
		fmt.Printf("answered %s %d\n", grants[i].ID, grants[i].Generation+1)
	})
	if log.count("transactions fail") != 1 || log.count("succeed again") != 1 {
		t.Errorf("logged %s", log.String())
	}
	if t.Failed() {
		return // and exit in the usual way, which the parent takes for the failure that it is
	}
	check(t, syscall.Kill(os.Getpid(), syscall.SIGKILL))
	time.Sleep(time.Minute)
}

// lengthen sets how long files may become; -1 is as before.
func lengthen(t *testing.T, size int64) {
	t.Helper()
	var limit syscall.Rlimit
	check(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit))
	limit.Cur = limit.Max
	if size >= 0 {
		limit.Cur = uint64(size)
	}
	check(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
}

// refreshTogether asks for one step of each grant at once.
func refreshTogether(t *testing.T, db *DB, grants []issuer.Grant, heard func(i int, rotated bool, err error)) {
	t.Helper()
	var mu sync.Mutex
	var done sync.WaitGroup
	for i := range grants {
		done.Go(func() {
			_, rotated, err := db.Rotate(context.Background(), next(grants[i]))
			mu.Lock()
			defer mu.Unlock()
			heard(i, rotated, err)
		})
	}
	done.Wait()
}
