package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/foreign/foreigntest"
)

// TestImportProgress has progress on a terminal; in a pipe there is none, as
// TestImportText shows by its exact messages.
func TestImportProgress(t *testing.T) {
	o := newOldServer(t, "bshaffer", foreigntest.SQLite, 300, 2, 400)
	s := start(t, t.TempDir(), importConfig)
	_, tty, screen := openTerminal(t)
	var out bytes.Buffer
	args := []string{"import", o.address, "--server", s.url, "--data", s.dir}
	if code := (program{env: environment(), now: time.Now}).Run(t.Context(), args, strings.NewReader(""), &out, tty); code != exitDone {
		t.Errorf("status %d: %q", code, screen)
	}
	for _, want := range []string{"\r\x1b[Kreading the source ...", "\r\x1b[Kusers: 200 of 300", "\r\x1b[Ktokens: 300 of 4", "\r\x1b[Ktokens that the source has no longer: 0 of 400", "\r\x1b[Knext: let the clients"} {
		eventually(t, func() bool { return strings.Contains(screen.String(), want) })
	}
	if strings.Contains(screen.String(), foreigntest.Token(0)) || strings.Contains(out.String(), "\r") {
		t.Error("a token is on the screen, or progress in the output")
	}
}
