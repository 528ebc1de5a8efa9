package sqlite

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/evergrant/evergrant/issuer"
)

// restored writes a backup to a file and opens it.
func restored(t *testing.T, backup []byte) *DB {
	t.Helper()
	path := tempPath(t)
	check(t, os.WriteFile(path, backup, 0o600))
	return open(t, path, Options{})
}

// TestBackupWhileWriting copies a database that everybody writes to. In each
// round of writes all grants move from one generation to the next, in their
// order: a copy in which a later grant is ahead of an earlier one, or two
// generations behind, is no state that ever was.
func TestBackupWhileWriting(t *testing.T) {
	db := open(t, tempPath(t), Options{LogPages: 100})
	grants := createMany(t, db, 200)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			for i := range grants {
				select {
				case <-stop:
					return
				default:
				}
				got, rotated, err := db.Rotate(context.Background(), next(grants[i]))
				if err != nil || !rotated {
					t.Error(rotated, err)
					return
				}
				grants[i] = got
			}
		}
	}()
	var copies [][]byte
	for range 3 {
		var backup bytes.Buffer
		check(t, db.Backup(t.Context(), &backup))
		copies = append(copies, backup.Bytes())
	}
	close(stop)
	<-stopped
	for _, backup := range copies {
		checkCopy(t, restored(t, backup), grants)
	}
	noLeftovers(t, db)
}

func checkCopy(t *testing.T, db *DB, grants []issuer.Grant) {
	t.Helper()
	check(t, db.Check(t.Context()))
	first, last := uint32(0), uint32(0)
	for i := range grants {
		got, err := db.Grant(t.Context(), grants[i].ID)
		if err != nil || got.Generation > grants[i].Generation {
			t.Fatalf("%+v, %v; the grant itself is %+v", got, err, grants[i])
		}
		if i == 0 {
			first, last = got.Generation, got.Generation
		}
		if got.Generation > last || got.Generation+1 < first {
			t.Fatalf("grant %d is at %d after one at %d", i, got.Generation, last)
		}
		last = got.Generation
	}
	g, err := db.Grant(t.Context(), grants[0].ID)
	check(t, err)
	goodStep(t, db, g) // it is no relic: it goes on
}

// noLeftovers wants no file beside the database but its own.
func noLeftovers(t *testing.T, db *DB) {
	t.Helper()
	left, err := filepath.Glob(db.path + ".backup-*")
	if err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestBackupIsForItsOwnerOnly(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	create1(t, db)
	check(t, db.Backup(t.Context(), writerFunc(func(p []byte) (int, error) {
		files, err := filepath.Glob(db.path + ".backup-*")
		check(t, err)
		for _, name := range files {
			if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", name, info.Mode(), err)
			}
		}
		return len(p), nil
	})))
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestBackupFails(t *testing.T) {
	db := open(t, tempPath(t), Options{})
	create1(t, db)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.Backup(ended, &bytes.Buffer{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if err := vacuumInto(ended, db.path, tempPath(t)); !errors.Is(err, context.Canceled) { // as if it ended on the way
		t.Errorf("error is %v", err)
	}
	broken := errors.New("broken pipe")
	if err := db.Backup(t.Context(), writerFunc(func([]byte) (int, error) { return 0, broken })); !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
	noLeftovers(t, db)

	check(t, os.Rename(filepath.Dir(db.path), filepath.Dir(db.path)+".away"))
	if err := db.Backup(t.Context(), &bytes.Buffer{}); !errors.Is(err, issuer.ErrUnavailable) {
		t.Errorf("error is %v", err)
	}
	check(t, os.Rename(filepath.Dir(db.path)+".away", filepath.Dir(db.path)))
	check(t, os.Rename(db.path, db.path+".away"))
	if err := db.Backup(t.Context(), &bytes.Buffer{}); !errors.Is(err, issuer.ErrUnavailable) {
		t.Errorf("error is %v", err)
	}
	check(t, os.Rename(db.path+".away", db.path))
	noLeftovers(t, db)

	check(t, db.Close())
	if err := db.Backup(t.Context(), &bytes.Buffer{}); !errors.Is(err, issuer.ErrUnavailable) {
		t.Errorf("error is %v", err)
	}
	noLeftovers(t, db)
}

func TestCheckFindsDamage(t *testing.T) {
	path := tempPath(t)
	db := open(t, path, Options{})
	createMany(t, db, 300)
	check(t, db.Check(t.Context()))
	check(t, db.Close())

	content, err := os.ReadFile(path)
	check(t, err)
	for page := 60; page < 70; page++ {
		copy(content[page*pageSize+8:], bytes.Repeat([]byte{0xa5}, 500))
	}
	check(t, os.WriteFile(path, content, 0o600))
	damaged := open(t, path, Options{})
	if err := damaged.Check(t.Context()); err == nil {
		t.Error("the damage was not found")
	}
}
