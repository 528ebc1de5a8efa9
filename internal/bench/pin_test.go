package bench

import (
	"strings"
	"testing"
)

func TestPin(t *testing.T) {
	t.Setenv(pinnedVariable, "4")
	pinned, err := Pin()
	if err != nil || pinned != (Cores{Pinned: true, Count: 4}) {
		t.Fatalf("%+v, %v", pinned, err)
	}
	tests := []struct{ name, got, want string }{
		{"server", strings.Join(pinned.OnServerCore("evergrant", "serve"), " "), "taskset -c 0 evergrant serve"},
		{"build", strings.Join(pinned.OnAllCores("go", "build"), " "), "taskset -c 0-3 go build"},
		{"server, loose", strings.Join(Cores{Count: 4}.OnServerCore("evergrant", "serve"), " "), "evergrant serve"},
		{"build, loose", strings.Join(Cores{Count: 4}.OnAllCores("go", "build"), " "), "go build"},
	}
	for _, test := range tests {
		if test.got != test.want {
			t.Errorf("%s: %q, want %q", test.name, test.got, test.want)
		}
	}
}

// Without taskset nothing is pinned, and nothing fails.
func TestPinWithoutTaskset(t *testing.T) {
	t.Setenv(pinnedVariable, "")
	t.Setenv("PATH", t.TempDir())
	loose, err := Pin()
	if err != nil || loose.Pinned || loose.Count < 1 {
		t.Errorf("%+v, %v", loose, err)
	}
}

func TestServerEnv(t *testing.T) {
	if one, loose := (Cores{Pinned: true}).ServerEnv(), (Cores{}).ServerEnv(); one != "GOMAXPROCS=" || loose != "GOMAXPROCS=1" {
		t.Errorf("%q, %q", one, loose)
	}
}
