package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Files of a data directory, beside the admin token.
const (
	databaseName = "evergrant.db"
	rootKeyName  = "root.key"
	lockName     = "evergrant.lock"
)

// lockDataDir makes the data directory where there is none, and takes the lock
// that one process at a time can have. It ends with the process, or when the
// file is closed.
func lockDataDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, &failure{what: "data directory: " + err.Error(), next: "name a directory that can be written with --data or data_dir"}
	}
	file, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, &failure{what: "data directory: " + err.Error(), next: "run this as the user that the directory belongs to, or name another with --data"}
	}
	switch err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		file.Close()
		return nil, &failure{what: "another process uses the data directory " + dir, next: "stop the server that runs there, or name another directory with --data: each server on this machine needs one of its own"}
	case err != nil:
		file.Close()
		return nil, fmt.Errorf("lock of data directory %s: %w", dir, err)
	}
	return file, nil
}

// createFile writes a new file that only its owner can read, durably. It never
// replaces one: the error is then fs.ErrExist.
func createFile(path, text string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// hasContent reports whether there is a file that is not empty.
func hasContent(path string) (bool, error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Size() > 0, err
}

// removeLeftBackups removes the copies that a server which was killed in the
// middle of a backup has left. It needs the lock of the data directory.
func removeLeftBackups(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, databaseName+".backup-*"))
	if err != nil {
		return err
	}
	return removeAll(left...)
}
