// Command drivers compares SQLite drivers, page sizes, checkpoint intervals
// and table layouts by the one write that a token refresh needs: a durable
// compare-and-set of one random row of 100,000, committed alone or in groups.
//
//	taskset -c 0 env GOMAXPROCS=1 go run . -markdown drivers.md
//
// Every database runs in WAL mode with synchronous=FULL, which is read back
// and not assumed. Each driver runs in a process of its own, because two of
// them share one translated SQLite with its allocator and page cache. They
// take turns within each repetition, so that a busy moment of the machine hits
// all of them. It needs Linux.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

type options struct {
	rows, repeat int
	cache        int // KiB
	length       time.Duration
	dir          string
	drivers      []driver
	pages        []int
	checkpoints  []int
	batches      []int
}

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "drivers:", err)
		os.Exit(1)
	}
}

func run(args []string, out, progress io.Writer) error {
	flags := flag.NewFlagSet("drivers", flag.ContinueOnError)
	seconds := flags.Float64("seconds", 2, "length of one measurement")
	names := flags.String("drivers", "zombiezen,modernc,mattn,ncruces", "drivers to measure")
	pages := flags.String("pages", "1024,4096", "page sizes in bytes")
	checkpoints := flags.String("checkpoints", "1000,20000", "wal_autocheckpoint values in pages")
	batches := flags.String("batches", "1,16,64,256", "updates per commit")
	markdown := flags.String("markdown", "", "also write the table to this file")
	one := flags.String("one", "", "internal: measure the cell set given as JSON and print its result as JSON")
	var o options
	flags.IntVar(&o.rows, "rows", 100_000, "rows in the table")
	flags.IntVar(&o.cache, "cache", 2000, "page cache in KiB; the default is SQLite's own")
	flags.IntVar(&o.repeat, "repeat", 3, "measurements of each cell; the median is reported")
	flags.StringVar(&o.dir, "dir", os.TempDir(), "directory for the databases; must be on a real disk")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *one != "" {
		return measureOne(*one, out)
	}
	o.length = time.Duration(*seconds * float64(time.Second))
	var err error
	if o.drivers, err = chooseDrivers(*names); err != nil {
		return err
	}
	for list, text := range map[*[]int]string{&o.pages: *pages, &o.checkpoints: *checkpoints, &o.batches: *batches} {
		if *list, err = numbers(text); err != nil {
			return err
		}
	}
	if o.rows < 1 || o.repeat < 1 || o.length <= 0 {
		return errors.New("-rows, -repeat and -seconds must be positive")
	}
	if *markdown != "" {
		file, err := os.Create(*markdown)
		if err != nil {
			return err
		}
		defer file.Close()
		out = io.MultiWriter(out, file)
	}
	return compare(o, out, progress)
}

func chooseDrivers(names string) ([]driver, error) {
	known := []driver{{"zombiezen", openZombiezen}, {"modernc", openModernc}, {"mattn", openMattn}, {"ncruces", openNcruces}}
	var chosen []driver
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(known, func(d driver) bool { return d.name == name })
		if i < 0 {
			return nil, fmt.Errorf("unknown driver %q", name)
		}
		chosen = append(chosen, known[i])
	}
	return chosen, nil
}

func numbers(text string) ([]int, error) {
	var list []int
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("not a list of positive numbers: %q", text)
		}
		list = append(list, n)
	}
	return list, nil
}

// compare measures every combination and writes one table row for each.
func compare(o options, out, progress io.Writer) error {
	dir, err := os.MkdirTemp(o.dir, "drivers")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	flushes, err := flushRate(dir, o.length)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s, GOMAXPROCS %d; %d rows; page cache %d KiB; %d × %s per cell, median [min–max]; the disk makes %.0f 4 KiB overwrites durable per second.\n\n",
		runtime.Version(), runtime.GOMAXPROCS(0), o.rows, o.cache, o.repeat, o.length, flushes)
	fmt.Fprintln(out, "| driver | SQLite | page | autocheckpoint | layout | bytes per row | updates per commit | updates/s | CPU µs per update | bytes written per update | worst commit ms |")
	fmt.Fprintln(out, "|---|---|---:|---:|---|---:|---:|---:|---:|---:|---:|")
	for _, page := range o.pages {
		for _, autocheckpoint := range o.checkpoints {
			for _, l := range layouts {
				s := settings{page, autocheckpoint, o.cache, l}
				fmt.Fprintf(progress, "%s page %d B, autocheckpoint %d, %s\n", time.Now().Format(time.TimeOnly), page, autocheckpoint, l.Name)
				if err := compareDrivers(o, s, dir, out, progress); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// compareDrivers measures all drivers at one setting, taking turns.
func compareDrivers(o options, s settings, dir string, out, progress io.Writer) error {
	results := map[string][]result{}
	for range o.repeat {
		for _, d := range o.drivers {
			job := job{
				Driver: d.name, Path: filepath.Join(dir, d.name+".db"), Settings: s,
				Rows: o.rows, Batches: o.batches, Length: o.length,
			}
			got, err := startOne(job, progress)
			if err != nil {
				return fmt.Errorf("%s: %w", d.name, err)
			}
			results[d.name] = append(results[d.name], got)
		}
	}
	for _, d := range o.drivers {
		for i, batch := range o.batches {
			if err := writeRow(out, d, s, batch, i, results[d.name]); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeRow writes the table row of one batch size, which is the one at index
// in the samples of each result.
func writeRow(out io.Writer, d driver, s settings, batch, index int, results []result) error {
	var samples []sample
	for _, r := range results {
		samples = append(samples, r.Samples[index])
	}
	slices.SortFunc(samples, func(a, b sample) int { return cmp.Compare(a.Rate, b.Rate) })
	middle := samples[len(samples)/2]
	worst := slices.MaxFunc(samples, func(a, b sample) int { return cmp.Compare(a.Worst, b.Worst) }).Worst
	_, err := fmt.Fprintf(out, "| %s | %s | %d | %d | %s | %d | %d | %.0f [%.0f–%.0f] | %.1f | %.0f | %.1f |\n",
		d.name, results[0].Version, s.PageSize, s.Autocheckpoint, s.Layout.Name, results[0].RowBytes,
		batch, middle.Rate, samples[0].Rate, samples[len(samples)-1].Rate,
		float64(middle.CPU)/1e3, middle.Written, float64(worst)/1e6)
	return err
}
