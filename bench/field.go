package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/bench"
)

// modulePath is where go finds this module's directory.
const modulePath = "github.com/evergrant/evergrant"

// field is everything that the measurements share.
type field struct {
	dir           string // temporary, removed at the end
	cores         bench.Cores
	options       options
	progress      io.Writer
	credentials   credentials
	database      string // PostgreSQL's version, "" where none is needed
	server, peers string // programs
	hydra         string
	absent        map[string]string // why a target cannot run, by its server and store
}

// prepare makes credentials and builds the programs that the targets need. What
// others own and is not to be had is noted, and shown in place of figures.
func (f *field) prepare(ctx context.Context, chosen []target) error {
	f.credentials = credentials{clientSecret: randomText(), password: randomText()}
	f.server, f.peers, f.hydra = f.options.server, f.options.peers, f.options.hydra
	f.absent = map[string]string{}
	root, err := f.output(ctx, ".", "go", "list", "-m", "-f", "{{.Dir}}", modulePath)
	if err != nil {
		return fmt.Errorf("run this inside a copy of the module %s: %w", modulePath, err)
	}
	needs := func(which func(target) bool) bool { return slices.ContainsFunc(chosen, which) }
	if f.server == "" && needs(target.ours) {
		f.server = filepath.Join(f.dir, "evergrant")
		if err := f.build(ctx, root, "./cmd/evergrant", f.server); err != nil {
			return err
		}
	}
	if f.peers == "" && needs(func(t target) bool { return !t.ours() && !t.postgres }) {
		f.peers = filepath.Join(f.dir, "peers")
		if err := f.build(ctx, filepath.Join(root, "bench", "peers"), ".", f.peers); err != nil {
			return err
		}
	}
	if needs(func(t target) bool { return t.postgres }) {
		f.prepareShared(ctx, chosen)
	}
	return nil
}

// prepareShared finds PostgreSQL, and builds Hydra.
func (f *field) prepareShared(ctx context.Context, chosen []target) {
	var err error
	if f.database, err = bench.PostgresVersion(ctx); err != nil {
		for _, t := range chosen {
			if t.postgres {
				f.absent[t.Peer+t.Store] = err.Error()
			}
		}
		return
	}
	if i := slices.IndexFunc(chosen, func(t target) bool { return t.Peer == hydra }); i >= 0 && f.hydra == "" {
		f.hydra = filepath.Join(f.dir, "hydra")
		if err := f.buildHydra(ctx, f.hydra); err != nil {
			f.absent[hydra+chosen[i].Store] = "it could not be built: " + err.Error()
		}
	}
}

// makeDir makes a temporary directory that everybody may pass through: where this
// process is root, PostgreSQL's user has one within.
func makeDir(parent, pattern string) (string, error) {
	dir, err := os.MkdirTemp(parent, pattern)
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711)
}

func (f *field) build(ctx context.Context, dir, from, to string) error {
	fmt.Fprintf(f.progress, "building %s\n", filepath.Base(to))
	_, err := f.output(ctx, dir, "go", "build", "-o", to, from)
	return err
}

// output runs a program that ends by itself on all cores and answers what it
// prints.
func (f *field) output(ctx context.Context, dir string, argv ...string) (string, error) {
	argv = f.cores.OnAllCores(argv...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "GOMAXPROCS=")
	}), "CGO_ENABLED=0")
	var said bytes.Buffer
	cmd.Stderr = io.MultiWriter(f.progress, &said)
	out, err := cmd.Output()
	if err != nil {
		last := strings.TrimSpace(said.String())
		return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, last[strings.LastIndexByte(last, '\n')+1:])
	}
	return strings.TrimSpace(string(out)), nil
}

// randomText is 256 bits that need no escaping anywhere.
func randomText() string {
	text := make([]byte, 32)
	rand.Read(text)
	return base64.RawURLEncoding.EncodeToString(text)
}

// round is a load that several targets take in turns.
type round struct {
	mode    bench.Mode
	clients int
}

// rounds lists the loads: those that the promise is about for every number of
// clients, the others for the middle one.
func rounds(clients []int) []round {
	var all []round
	for _, mode := range []bench.Mode{bench.Echo, bench.Refresh} {
		for _, n := range clients {
			all = append(all, round{mode, n})
		}
	}
	middle := clients[len(clients)/2]
	return append(all, round{bench.Introspect, middle}, round{bench.ClientCredentials, middle})
}

// measureAll makes every measurement and writes the report.
func (f *field) measureAll(ctx context.Context, chosen []target) (bench.Report, error) {
	report := bench.Report{Machine: f.machine()}
	var err error
	if report.Machine.FlushRate, err = bench.FlushRate(f.dir, 500*time.Millisecond); err != nil {
		return report, err
	}
	largest := slices.Max(f.options.clients)
	for _, r := range rounds(f.options.clients) {
		var taking []target
		for _, t := range chosen {
			why, absent := f.absent[t.Peer+t.Store]
			switch {
			case !t.takes(r, largest):
			case absent:
				report.Rows = append(report.Rows, bench.Row{Cell: r.cell(t), Absent: why})
			default:
				taking = append(taking, t)
			}
		}
		samples, err := f.takeTurns(ctx, taking, r)
		if err != nil {
			return report, err
		}
		for i, t := range taking {
			report.Rows = append(report.Rows, bench.Summarize(r.cell(t), samples[i]))
		}
		if r.mode == bench.Refresh && r.clients == largest {
			report.Ratios = compare(taking, r, samples)
		}
	}
	return report, nil
}

// takeTurns measures each target once in every repetition.
func (f *field) takeTurns(ctx context.Context, taking []target, r round) ([][]bench.Sample, error) {
	samples := make([][]bench.Sample, len(taking))
	for repetition := range f.options.repeat {
		for i, t := range taking {
			sample, err := f.measure(ctx, t, r.cell(t))
			if err != nil {
				return nil, fmt.Errorf("%s %s, %s, %d clients: %w", t.Peer, t.AccessToken, r.mode, r.clients, err)
			}
			samples[i] = append(samples[i], sample)
			fmt.Fprintf(f.progress, "%d/%d %-18s %2d clients  %-10s %-7s %8.0f/s  p99 %8.2f ms  %d errors\n",
				repetition+1, f.options.repeat, r.mode, r.clients, t.Peer, t.AccessToken,
				sample.Rate(), float64(sample.P99)/float64(time.Millisecond), sample.Errors)
		}
	}
	return samples, nil
}

func (r round) cell(t target) bench.Cell {
	return bench.Cell{Subject: t.Subject, Mode: r.mode, Clients: r.clients}
}

// compare sets ours against the fastest peer in memory, and ours on PostgreSQL
// against the one peer there as well.
func compare(taking []target, r round, samples [][]bench.Sample) []bench.Ratio {
	var ratios []bench.Ratio
	for _, versus := range []string{"go-oauth2", hydra} {
		peer := slices.IndexFunc(taking, func(t target) bool { return t.Peer == versus })
		if peer < 0 {
			continue
		}
		for i, t := range taking {
			if t.ours() && (t.postgres || versus != hydra) {
				ratios = append(ratios, bench.Compare(r.cell(t), samples[i], versus, samples[peer]))
			}
		}
	}
	return ratios
}

func (f *field) machine() bench.Machine {
	return bench.Machine{
		Go: runtime.Version(), Database: f.database, System: runtime.GOOS + "/" + runtime.GOARCH, CPU: cpuModel(),
		Cores: f.cores.Count, Pinned: f.cores.Pinned,
		Seconds: f.options.seconds, Warmup: f.options.warmup, Repeat: f.options.repeat,
	}
}

// cpuModel is what Linux says of the processor, "" elsewhere.
func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
