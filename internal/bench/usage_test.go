package bench

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// stat is a line of /proc/PID/stat with the given name and times.
func stat(name, times string) string {
	return "42 (" + name + ") S 1 42 42 0 -1 4194560 900 0 0 0 " + times + " 20 0 8 0 1234 1000 500\n"
}

const rollup = `00400000-7ffc00000000 ---p 00000000 00:00 0    [rollup]
Rss:               30000 kB
Pss:               12345 kB
Pss_Dirty:          2000 kB
`

func TestReadUsage(t *testing.T) {
	tests := []struct {
		name         string
		stat, rollup string
		cpu          time.Duration
		memory       int64
		wrong        string // part of the error, "" for none
	}{
		{"usual", stat("evergrant", "150 50 0 0"), rollup, 2 * time.Second, 12345 * 1024, ""},
		{"with ended children", stat("evergrant", "1 2 3 4"), rollup, 100 * time.Millisecond, 12345 * 1024, ""},
		{"name with spaces and parentheses", stat("a) b (c 1 2", "7 0 0 0"), rollup, 70 * time.Millisecond, 12345 * 1024, ""},
		{"no parenthesis", "42 evergrant S 1", rollup, 0, 0, "stat has"},
		{"too few fields", "42 (evergrant) S 1 2 3", rollup, 0, 0, "stat has 4 fields"},
		{"times are no numbers", stat("evergrant", "1 x 3 4"), rollup, 0, 0, "stat:"},
		{"parent is no number", strings.Replace(stat("evergrant", "1 2 3 4"), "S 1", "S x", 1), rollup, 0, 0, "stat:"},
		{"no Pss", stat("evergrant", "1 2 3 4"), "Rss: 30000 kB\n", 0, 0, "no Pss"},
		{"Pss is no number", stat("evergrant", "1 2 3 4"), "Pss: many kB\n", 0, 0, "invalid syntax"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			proc := fstest.MapFS{"42/stat": {Data: []byte(test.stat)}, "42/smaps_rollup": {Data: []byte(test.rollup)}}
			got, err := readUsage(proc, 42)
			if test.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), test.wrong) {
					t.Fatalf("error %v, want %q", err, test.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got != (Usage{test.cpu, test.memory}) {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestReadUsageOfNobody(t *testing.T) {
	for name, proc := range map[string]fstest.MapFS{
		"no process": {},
		"no memory":  {"42/stat": {Data: []byte(stat("evergrant", "1 2 3 4"))}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := readUsage(proc, 42); err == nil {
				t.Error("no error")
			}
		})
	}
}

// A tree is the process with its children and theirs, and without those of
// others. What has ended while it is read is left out.
func TestReadTree(t *testing.T) {
	child := func(parent string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte("7 (postgres) S " + parent + " 42 42 0 -1 4194560 900 0 0 0 1 2 3 4 20 0 8 0 1234 1000 500\n")}
	}
	memory := &fstest.MapFile{Data: []byte("Pss: 1000 kB\n")}
	proc := fstest.MapFS{
		"42/stat": child("1"), "42/smaps_rollup": memory,
		"50/stat": child("42"), "50/smaps_rollup": memory,
		"51/stat": child("42"), // ends before its memory is read
		"60/stat": child("50"), "60/smaps_rollup": memory,
		"61/stat": child("1"), "61/smaps_rollup": memory, // somebody else's
		"62/stat":      {Data: []byte("half")},
		"63/cmdline":   memory,
		"net/sockstat": memory,
	}
	got, err := readTree(proc, 42)
	if err != nil || got != (Usage{300 * time.Millisecond, 3000 * 1024}) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := readTree(proc, 43); err == nil {
		t.Error("no error for a process that is not there")
	}
}

func TestParseBusy(t *testing.T) {
	tests := []struct {
		name, stat string
		want       time.Duration
		wrong      string
	}{
		{"usual", "cpu  100 20 30 99999 8888 4 5 6 70 80\ncpu0 1 2 3 4\n", 1650 * time.Millisecond, ""},
		{"without guests", "cpu 1 1 1 1 1 1 1 1\n", 60 * time.Millisecond, ""},
		{"too short", "cpu 1 2 3\n", 0, "begins with 4 fields"},
		{"another file", "intr 1 2 3 4 5 6 7 8 9\n", 0, "begins with 10 fields"},
		{"no numbers", "cpu 1 2 3 4 5 6 7 x\n", 0, "/proc/stat:"},
		{"nothing", "", 0, "begins with 0 fields"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseBusy([]byte(test.stat))
			if got != test.want || (err == nil) != (test.wrong == "") || err != nil && !strings.Contains(err.Error(), test.wrong) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

func TestFlushRate(t *testing.T) {
	rate, err := FlushRate(t.TempDir(), 20*time.Millisecond)
	if err != nil || rate <= 0 {
		t.Errorf("%v, %v", rate, err)
	}
	if _, err := FlushRate(t.TempDir()+"/nothing", time.Millisecond); err == nil {
		t.Error("no error for a directory that does not exist")
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte(stat("evergrant", "1 2 3 4")))
	f.Add([]byte(stat(") (", "1 2 3 4")))
	f.Add([]byte(")"))
	f.Fuzz(func(t *testing.T, text []byte) {
		parseStat(text)
		parseRollup(text)
		parseBusy(text)
	})
}
