package keeper

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func openMarks(t *testing.T, dir string) *sending {
	t.Helper()
	s, err := openSending(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestMarksOutliveTheProcess holds what a process may conclude from the marks of
// one that was killed.
func TestMarksOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	first := openMarks(t, dir)
	sent, unsent := first.newRequestID(), first.newRequestID()
	if err := first.mark(sent, "one"); err != nil {
		t.Fatal(err)
	}
	if first.never(sent) || !first.never(unsent) {
		t.Error("the process itself does not know what it sent")
	}
	second := openMarks(t, dir)
	if second.never(sent) {
		t.Error("a request that may have been sent is taken for one that was not")
	}
	if known := second.never(unsent); known != (runtime.GOOS == "linux") {
		t.Errorf("that a request was not sent is known is %t", known)
	}
	beside := second.newRequestID()
	if err := second.mark(beside, "two"); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "linux" && first.never(beside) {
		t.Error("the mark of a process beside is not seen")
	}
	first.unmark(sent)
	if !first.never(sent) || runtime.GOOS == "linux" && !openMarks(t, dir).never(sent) {
		t.Error("the mark stays")
	}
}

// TestMarksOfElsewhereSayNothing holds that the lack of a mark counts only where
// it would be.
func TestMarksOfElsewhereSayNothing(t *testing.T) {
	dir := t.TempDir()
	elsewhere := openMarks(t, dir).newRequestID()
	if err := os.RemoveAll(filepath.Join(dir, originFile)); err != nil { // the directory was made anew
		t.Fatal(err)
	}
	for name, s := range map[string]*sending{
		"a directory made anew": openMarks(t, dir), "another directory": openMarks(t, t.TempDir()), "memory": openMarks(t, ""),
	} {
		if s.never(elsewhere) {
			t.Errorf("%s: a request of elsewhere is taken for one that was never sent", name)
		}
		own := s.newRequestID()
		if !s.never(own) || len(own) != originSize+24 || strings.ContainsAny(own, "/.") {
			t.Errorf("%s: its own request %q", name, own)
		}
		if err := s.mark(own, "one"); err != nil || s.never(own) {
			t.Errorf("%s: marked, %v", name, err)
		}
		s.unmark(own)
		if !s.never(own) {
			t.Errorf("%s: the mark stays", name)
		}
	}
}

// TestMarkCannotBeWritten gives an error, before anything would be sent.
func TestMarkCannotBeWritten(t *testing.T) {
	if runtime.GOOS != "linux" {
		return // marks are in memory
	}
	dir := filepath.Join(t.TempDir(), "spool")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := openMarks(t, dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.mark(s.newRequestID(), "one"); err == nil {
		t.Error("it was written")
	}
}
