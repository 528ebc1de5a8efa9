package bench

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is the unit of the times in /proc/PID/stat. The kernel calls
// it USER_HZ and keeps it at 100 on every architecture that Go runs on.
const ticksPerSecond = 100

// Usage is what a process has used so far.
type Usage struct {
	// CPU is user and system time of the process and its ended children, in
	// steps of 10 ms.
	CPU time.Duration
	// Memory is the proportional set size in bytes: its own pages, and its
	// share of those that others map too.
	Memory int64
}

// ReadUsage reads the usage of a process from /proc, which only Linux has.
func ReadUsage(pid int) (Usage, error) { return readUsage(os.DirFS("/proc"), pid) }

// ReadTree reads the usage of a process and of all that it started, directly or
// not.
func ReadTree(pid int) (Usage, error) { return readTree(os.DirFS("/proc"), pid) }

func readTree(proc fs.FS, pid int) (Usage, error) {
	total, err := readUsage(proc, pid)
	if err != nil {
		return Usage{}, err
	}
	entries, err := fs.ReadDir(proc, ".")
	if err != nil {
		return Usage{}, err
	}
	children := map[int][]int{}
	for _, entry := range entries {
		child, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue // no process
		}
		if stat, err := fs.ReadFile(proc, entry.Name()+"/stat"); err == nil { // else it has ended
			if parent, _, err := parseStat(stat); err == nil {
				children[parent] = append(children[parent], child)
			}
		}
	}
	for left := children[pid]; len(left) > 0; left = left[1:] {
		left = append(left, children[left[0]]...)
		if usage, err := readUsage(proc, left[0]); err == nil {
			total.CPU += usage.CPU
			total.Memory += usage.Memory
		}
	}
	return total, nil
}

func readUsage(proc fs.FS, pid int) (Usage, error) {
	dir := strconv.Itoa(pid)
	stat, err := fs.ReadFile(proc, dir+"/stat")
	if err != nil {
		return Usage{}, err
	}
	_, cpu, err := parseStat(stat)
	if err != nil {
		return Usage{}, err
	}
	rollup, err := fs.ReadFile(proc, dir+"/smaps_rollup")
	if err != nil {
		return Usage{}, err
	}
	memory, err := parseRollup(rollup)
	return Usage{CPU: cpu, Memory: memory}, err
}

// parseStat reads the parent, field 4, and adds utime, stime, cutime and cstime,
// the fields 14 to 17. The second field is the program's name in parentheses and
// may hold anything.
func parseStat(stat []byte) (parent int, cpu time.Duration, err error) {
	end := bytes.LastIndexByte(stat, ')')
	fields := strings.Fields(string(stat[end+1:]))
	if end < 0 || len(fields) < 15 {
		return 0, 0, fmt.Errorf("stat has %d fields", len(fields))
	}
	if parent, err = strconv.Atoi(fields[1]); err != nil {
		return 0, 0, fmt.Errorf("stat: %w", err)
	}
	ticks := int64(0)
	for _, field := range fields[11:15] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("stat: %w", err)
		}
		ticks += n
	}
	return parent, time.Duration(ticks) * (time.Second / ticksPerSecond), nil
}

// parseRollup finds the line "Pss:  123 kB".
func parseRollup(rollup []byte) (int64, error) {
	for line := range strings.Lines(string(rollup)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "Pss:" && fields[2] == "kB" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			return n * 1024, err
		}
	}
	return 0, fmt.Errorf("smaps_rollup has no Pss")
}

// ReadBusy is the time that all cores together have been busy since the system
// started, whoever used them, a hypervisor that took them away included. It
// reads /proc/stat, which only Linux has.
func ReadBusy() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseBusy(stat)
}

// parseBusy adds the fields of the first line but idle and iowait, up to steal;
// guest time, which follows, is within user time.
func parseBusy(stat []byte) (time.Duration, error) {
	line, _, _ := strings.Cut(string(stat), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %d fields", len(fields))
	}
	ticks := int64(0)
	for i, field := range fields[1:9] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		if idle := i == 3 || i == 4; !idle {
			ticks += n
		}
	}
	return time.Duration(ticks) * (time.Second / ticksPerSecond), nil
}

// FlushRate is how many times in a second an overwritten 4 KiB block of a file
// in the directory can be made durable: the ceiling for a server that commits
// one request at a time. A rate far above 10,000 means that the directory is
// not on a disk.
func FlushRate(dir string, length time.Duration) (float64, error) {
	file, err := os.CreateTemp(dir, "flush")
	if err != nil {
		return 0, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	block := bytes.Repeat([]byte{'x'}, 4096)
	if _, err := file.Write(block); err != nil {
		return 0, err
	}
	count, start := 0, time.Now()
	for ; time.Since(start) < length; count++ {
		if _, err := file.WriteAt(block, 0); err != nil {
			return 0, err
		}
		if err := file.Sync(); err != nil {
			return 0, err
		}
	}
	return float64(count) / time.Since(start).Seconds(), nil
}
