//go:build !linux

package pgtest

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// leave does nothing: there is no such signal here, and a server outlives a test
// process that is killed.
func leave(*syscall.SysProcAttr, syscall.Signal) {}

// processes lists those of the machine (ps of POSIX).
func processes() map[int]entry {
	all := map[int]entry{}
	text, _ := exec.Command("ps", "-A", "-o", "pid=,ppid=,stat=").Output()
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) == 3 {
			pid, _ := strconv.Atoi(words[0])
			above, _ := strconv.Atoi(words[1])
			all[pid] = entry{above, words[2][0]}
		}
	}
	return all
}

// forget removes a segment of System V shared memory that a killed server left.
func forget(segment int) { exec.Command("ipcrm", "-m", strconv.Itoa(segment)).Run() }
