package pgtest

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestServersEndWithTheProcess holds that no server outlives a test process that
// is killed.
func TestServersEndWithTheProcess(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), abandonEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer io.Copy(io.Discard, out)
	line, err := bufio.NewReader(out).ReadString('\n')
	cmd.Process.Kill()
	cmd.Wait()
	dir, ok := strings.CutSuffix(line, " <nil>\n")
	if !ok || filepath.Dir(dir) == "/" {
		t.Fatalf("it said %q, %v", line, err)
	}
	defer os.RemoveAll(dir)
	until(t, "all of the servers' processes are gone", func() bool { return len(inside(t, dir)) == 0 })
}
