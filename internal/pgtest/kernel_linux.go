package pgtest

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// leave makes the kernel send a child its last signal when the thread ends that
// started it (prctl(2), PR_SET_PDEATHSIG).
func leave(attributes *syscall.SysProcAttr, last syscall.Signal) { attributes.Pdeathsig = last }

// processes lists those of the machine (proc(5), /proc/pid/stat: the name, which
// may hold anything, is in brackets).
func processes() map[int]entry {
	all := map[int]entry{}
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil { // it has ended meanwhile
			continue
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		above, _ := strconv.Atoi(fields[1])
		all[pid] = entry{above, fields[0][0]}
	}
	return all
}

// forget removes a segment of System V shared memory that a killed server left.
func forget(segment int) {
	const remove = 0 // IPC_RMID
	syscall.Syscall(syscall.SYS_SHMCTL, uintptr(segment), remove, 0)
}
