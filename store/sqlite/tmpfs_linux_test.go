package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/evergrant/evergrant/issuer"
)

// TestFullDisk fills a real file system of 1 MiB, where the user may mount one;
// TestCommitFails and TestFullDatabase stand for it elsewhere.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Logf("no file system can be mounted here (%v)", err)
		return
	}
	t.Cleanup(func() { check(t, syscall.Unmount(dir, 0)) })
	db := open(t, filepath.Join(dir, "evergrant.db"), Options{})
	g := create1(t, db)

	ballast := filepath.Join(dir, "ballast")
	file, err := os.Create(ballast)
	check(t, err)
	for err == nil {
		_, err = file.Write(make([]byte, 4096))
	}
	check(t, file.Close())
	// The log fills what is left of its last block.
	for err = nil; err == nil; {
		var after issuer.Grant
		if after, _, err = db.Rotate(t.Context(), next(g)); err == nil {
			g = after
		}
	}
	if !errors.Is(err, issuer.ErrUnavailable) {
		t.Errorf("error is %v", err)
	}
	unavailableStep(t, db, g)
	if err := db.Ready(t.Context()); !errors.Is(err, issuer.ErrUnavailable) {
		t.Errorf("ready: %v", err)
	}

	check(t, os.Remove(ballast))
	goodStep(t, db, g)
	check(t, db.Ready(t.Context()))
	check(t, db.Check(t.Context()))
}

// asNobody gives this goroutine's thread the file permissions of another user,
// since no file is read-only to root.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	runtime.LockOSThread() // and never unlocked where the permissions cannot be taken back
	if os.Geteuid() == 0 {
		check(t, syscall.Setfsuid(65534))
		defer func() { check(t, syscall.Setfsuid(0)) }()
	}
	f()
	runtime.UnlockOSThread()
}

func TestOpenReadOnly(t *testing.T) {
	for _, what := range []string{"file", "directory"} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "evergrant.db")
			open(t, path, Options{}).Close()
			target := map[string]string{"file": path, "directory": dir}[what]
			for name := path; name != "/"; name = filepath.Dir(name) {
				if strings.HasPrefix(name, os.TempDir()) && name != os.TempDir() && os.Geteuid() == 0 {
					check(t, os.Chown(name, 65534, -1))
				}
			}
			check(t, os.Chmod(target, map[string]os.FileMode{"file": 0o400, "directory": 0o500}[what]))
			defer os.Chmod(target, 0o700)
			var err error
			asNobody(t, func() {
				var db *DB
				if db, err = Open(t.Context(), path, Options{}); err == nil {
					db.Close()
				}
			})
			if !errors.Is(err, issuer.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), "mend the permissions") {
				t.Errorf("error is %v", err)
			}
		})
	}
}
