package bench

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
)

// pinnedVariable tells the re-executed process how many cores the machine had
// before it was held to one of them.
const pinnedVariable = "EVERGRANT_BENCH_CORES"

const (
	serverCore    = "0"
	generatorCore = "1"
)

// Cores says where things run.
type Cores struct {
	// Pinned says that servers are held to core 0, and this process to core 1.
	Pinned bool
	// Count is how many the machine has.
	Count int
}

// Pin holds this process to the generator's core by executing itself under
// taskset, in which case it does not return. Where that cannot be done, it
// answers cores that are not pinned.
func Pin() (Cores, error) {
	if count, err := strconv.Atoi(os.Getenv(pinnedVariable)); err == nil {
		return Cores{Pinned: true, Count: count}, nil
	}
	loose := Cores{Count: runtime.NumCPU()}
	taskset, err := exec.LookPath("taskset")
	if err != nil || loose.Count < 2 || !runsOn(taskset, serverCore) || !runsOn(taskset, generatorCore) {
		return loose, nil
	}
	self, err := os.Executable()
	if err != nil {
		return loose, err
	}
	argv := append([]string{taskset, "-c", generatorCore, self}, os.Args[1:]...)
	env := append(os.Environ(), pinnedVariable+"="+strconv.Itoa(loose.Count), "GOMAXPROCS=1")
	return loose, fmt.Errorf("%s: %w", taskset, syscall.Exec(taskset, argv, env))
}

// runsOn reports whether this process may use the core at all: a container may
// have been given others.
func runsOn(taskset, core string) bool {
	return exec.Command(taskset, "-c", core, "true").Run() == nil
}

// OnServerCore is the command line that runs a program on the server's core.
func (c Cores) OnServerCore(argv ...string) []string {
	if !c.Pinned {
		return argv
	}
	return append([]string{"taskset", "-c", serverCore}, argv...)
}

// ServerEnv leaves it to a server that has one core what to make of it, and
// otherwise grants it one processor.
func (c Cores) ServerEnv() string {
	if c.Pinned {
		return "GOMAXPROCS=" // empty counts as not set, which hides this process's own
	}
	return "GOMAXPROCS=1"
}

// OnAllCores undoes for a program what Pin did to this process.
func (c Cores) OnAllCores(argv ...string) []string {
	if !c.Pinned {
		return argv
	}
	return append([]string{"taskset", "-c", "0-" + strconv.Itoa(c.Count-1)}, argv...)
}
