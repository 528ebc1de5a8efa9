package keeper

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/evergrant/evergrant/secret"
)

// sending marks requests that are about to leave this machine. The journal's
// intent is durable before anything is sent, and so says "maybe"; a mark is
// written after it, without waiting for the disk, which costs microseconds and
// outlives the process though not the machine. So for a process that was killed,
// an intent of this machine's present boot without a mark was certainly never
// sent, and its refresh token can be.
type sending struct {
	dir    string // "" for marks in memory only
	origin string // begins the ids of requests that have their marks here

	mu    sync.Mutex
	marks map[string]bool
}

const (
	originFile = "origin"
	markSuffix = ".sending"
	originSize = 16 // characters of a request id
)

// openSending finds the marks that an earlier process of the same boot left.
func openSending(dir string) (*sending, error) {
	s := &sending{dir: dir, origin: newOrigin(secret.Bytes(16)), marks: map[string]bool{}}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if dir == "" || err != nil { // elsewhere than on Linux marks do not outlive the process
		s.dir = ""
		return s, nil
	}
	path := filepath.Join(dir, originFile) // so that a directory that was made anew is another one
	place, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		place = []byte(hex.EncodeToString(secret.Bytes(16)))
		err = writeDurably(path, place)
	}
	if err != nil {
		return nil, err
	}
	s.origin = newOrigin(boot, place)
	names, err := filepath.Glob(filepath.Join(dir, s.origin+"*"+markSuffix))
	for _, name := range names {
		s.marks[strings.TrimSuffix(filepath.Base(name), markSuffix)] = true
	}
	return s, err
}

func newOrigin(parts ...[]byte) string {
	h := sha256.New()
	for _, part := range parts {
		h.Write(part)
	}
	return hex.EncodeToString(h.Sum(nil))[:originSize]
}

func (s *sending) newRequestID() string { return s.origin + hex.EncodeToString(secret.Bytes(12)) }

func (s *sending) path(requestID string) string { return filepath.Join(s.dir, requestID+markSuffix) }

// mark says that a request may be sent from now on. Where that cannot be
// written, it must not be sent.
func (s *sending) mark(requestID, connection string) error {
	s.mu.Lock()
	s.marks[requestID] = true
	s.mu.Unlock()
	if s.dir == "" {
		return nil
	}
	return os.WriteFile(s.path(requestID), []byte(connection), 0o600)
}

// unmark says that a request was not sent, or that what came of it is durable.
func (s *sending) unmark(requestID string) {
	s.mu.Lock()
	marked := s.marks[requestID]
	delete(s.marks, requestID)
	s.mu.Unlock()
	if marked && s.dir != "" {
		os.Remove(s.path(requestID)) // one that stays is swept
	}
}

// never reports whether a request was certainly not sent.
func (s *sending) never(requestID string) bool {
	if !strings.HasPrefix(requestID, s.origin) {
		return false
	}
	s.mu.Lock()
	marked := s.marks[requestID]
	s.mu.Unlock()
	if marked || s.dir == "" {
		return !marked
	}
	_, err := os.Stat(s.path(requestID)) // another process on the same directory may have marked it
	return errors.Is(err, fs.ErrNotExist)
}

// sweep removes marks, of this boot and of earlier ones, whose intents are gone.
func (s *sending) sweep(ctx context.Context, store Store) error {
	if s.dir == "" {
		return nil
	}
	names, err := filepath.Glob(filepath.Join(s.dir, "*"+markSuffix))
	for _, name := range names {
		requestID := strings.TrimSuffix(filepath.Base(name), markSuffix)
		connection, readErr := os.ReadFile(name)
		if readErr != nil {
			continue // somebody else swept it
		}
		c, readErr := store.Connection(ctx, string(connection))
		if readErr != nil && !errors.Is(readErr, ErrNotFound) {
			return readErr
		}
		if c.Intent == nil || c.Intent.RequestID != requestID {
			s.unmark(requestID)
			os.Remove(name)
		}
	}
	return err
}
