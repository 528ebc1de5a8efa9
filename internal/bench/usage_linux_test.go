package bench

import (
	"os"
	"testing"
	"time"
)

// The kernel's own files are as the parsers expect them.
func TestReadUsageOfThisProcess(t *testing.T) {
	before, err := ReadUsage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if before.Memory < 1<<20 {
		t.Errorf("%d bytes for a Go program", before.Memory)
	}
	if tree, err := ReadTree(os.Getpid()); err != nil || tree.CPU < before.CPU {
		t.Errorf("%+v and then %+v with all that it started, %v", before, tree, err)
	}
	busy, err := ReadBusy()
	if err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); time.Since(begun) < 10*time.Second; {
		after, err := ReadUsage(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		busyAfter, err := ReadBusy()
		if err != nil {
			t.Fatal(err)
		}
		if after.CPU > before.CPU && busyAfter > busy {
			return
		}
	}
	t.Error("reading files for ten seconds used no CPU")
}
