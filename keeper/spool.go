package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/evergrant/evergrant/secret"
)

// spool keeps sealed answers that the store did not take: the only copies of
// their tokens. They are in memory, and in files of a directory where there is
// one, so that they outlive the process as well.
type spool struct {
	dir     string // "" for none
	mu      sync.Mutex
	answers map[string]spooled // by request id
}

// spooled is an answer on its way to the journal.
type spooled struct {
	Connection string
	RequestID  string
	Answer     secret.Sealed
}

const spoolSuffix = ".answer"

// openSpool takes over what an earlier process left. A file that cannot be read
// is left where it is and told.
func openSpool(dir string) (*spool, error) {
	s := &spool{dir: dir, answers: map[string]spooled{}}
	if dir == "" {
		return s, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool directory: %w", err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"+spoolSuffix))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		var kept spooled
		text, err := os.ReadFile(name)
		if err == nil {
			err = json.Unmarshal(text, &kept)
		}
		if err != nil || kept.RequestID != strings.TrimSuffix(filepath.Base(name), spoolSuffix) {
			return nil, fmt.Errorf("%s holds an answer of a provider and cannot be read: move it away, keep it, and ask for help (%w)", name, errors.Join(err, secret.ErrSealed))
		}
		s.answers[kept.RequestID] = kept
	}
	return s, nil
}

// put keeps an answer. After a nil error it outlives the process, if there is a
// directory; after an error it is in memory only.
func (s *spool) put(kept spooled) error {
	s.mu.Lock()
	s.answers[kept.RequestID] = kept
	s.mu.Unlock()
	if s.dir == "" {
		return nil
	}
	text, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	return writeDurably(s.path(kept.RequestID), text)
}

func (s *spool) path(requestID string) string { return filepath.Join(s.dir, requestID+spoolSuffix) }

// writeDurably writes a file that a crash leaves whole or not at all.
func writeDurably(path string, text []byte) error {
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// get gives the answer with a request id.
func (s *spool) get(requestID string) (secret.Sealed, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, ok := s.answers[requestID]
	return kept.Answer, ok
}

// drop forgets an answer whose tokens are durable elsewhere, or that nobody
// waits for any more.
func (s *spool) drop(requestID string) error {
	s.mu.Lock()
	_, there := s.answers[requestID]
	delete(s.answers, requestID)
	s.mu.Unlock()
	if !there || s.dir == "" {
		return nil
	}
	if err := os.Remove(s.path(requestID)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// drain moves what it can into the journal, and returns the ids of the
// connections whose intents have their answers now.
func (s *spool) drain(ctx context.Context, store Store) (ids []string, err error) {
	s.mu.Lock()
	all := make([]spooled, 0, len(s.answers))
	for _, kept := range s.answers {
		all = append(all, kept)
	}
	s.mu.Unlock()
	for _, kept := range all {
		open, failed := store.Answer(ctx, kept.Connection, kept.RequestID, kept.Answer)
		if failed != nil && !errors.Is(failed, ErrNotFound) {
			err = errors.Join(err, failed)
			continue
		}
		if open {
			ids = append(ids, kept.Connection)
		}
		err = errors.Join(err, s.drop(kept.RequestID))
	}
	return ids, err
}
