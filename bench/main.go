// Command bench measures Evergrant beside its peers, in one run and with one
// load generator:
//
//	go run ./bench                     everything, about ten minutes
//	go run ./bench -quick              a short run, to see that it works
//	go run ./bench -only evergrant,go-oauth2 -clients 64 -json result.json
//
// Every measurement starts a fresh server in a process of its own, gets it
// tokens over HTTP, warms it up, loads it, and stops it. Where taskset and two
// cores exist, servers are pinned to core 0 and the generator to core 1.
// Refreshes are measured for every number of clients, introspection and
// client_credentials for the middle one. Servers on PostgreSQL have a fresh one
// each, on the same core, and are measured with the greatest number of clients. The servers take turns within each
// repetition, so that a slow moment of the machine hits all of them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/evergrant/evergrant/internal/bench"
)

// options are the flags.
type options struct {
	clients       []int
	seconds       float64
	warmup        float64
	repeat        int
	only          []string
	dir           string
	json          string
	markdown      string
	grants        int    // of a target on PostgreSQL
	server, peers string // programs that are already built, "" to build them
	hydra         string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	where, err := bench.Pin()
	if err == nil {
		err = run(ctx, where, os.Args[1:], os.Stdout, os.Stderr)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, where bench.Cores, args []string, out, progress io.Writer) error {
	o, err := parse(args, progress)
	if err != nil {
		return err
	}
	chosen, err := choose(o.only)
	if err != nil {
		return err
	}
	dir, err := makeDir(o.dir, "evergrant-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	f := &field{dir: dir, cores: where, options: o, progress: progress}
	if err := f.prepare(ctx, chosen); err != nil {
		return err
	}
	report, err := f.measureAll(ctx, chosen)
	if err != nil {
		return err
	}
	return publish(report, o, out)
}

// parse reads the flags. -quick changes the defaults of others, and those that
// are given beside it stand.
func parse(args []string, usage io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(usage)
	quick := flags.Bool("quick", false, "a short run, as if with -clients 1,16 -seconds 0.5 -warmup 0.2 -repeat 1")
	clients := flags.String("clients", "1,16,64", "numbers of virtual clients")
	only := flags.String("only", "", "servers to measure, such as evergrant,go-oauth2 or evergrant:eddsa")
	flags.Float64Var(&o.seconds, "seconds", 5, "length of a measurement")
	flags.Float64Var(&o.warmup, "warmup", 1, "seconds of load before a measurement")
	flags.IntVar(&o.repeat, "repeat", 3, "measurements of each line of the table")
	flags.IntVar(&o.grants, "grants", 512, "grants that the clients of a server on PostgreSQL refresh in turn")
	flags.StringVar(&o.dir, "dir", os.TempDir(), "directory for the servers' data; must be on a real disk")
	flags.StringVar(&o.json, "json", "", "write the report as JSON to this file")
	flags.StringVar(&o.markdown, "markdown", "", "write the report as Markdown to this file")
	flags.StringVar(&o.server, "server", "", "evergrant program to measure, instead of building it")
	flags.StringVar(&o.peers, "peers", "", "program of bench/peers to measure, instead of building it")
	flags.StringVar(&o.hydra, "hydra", "", "program of Ory Hydra to measure, instead of building it")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if *quick {
		given := map[string]bool{}
		flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
		for name, value := range map[string]string{"clients": "1,16", "seconds": "0.5", "warmup": "0.2", "repeat": "1"} {
			if !given[name] {
				flags.Set(name, value)
			}
		}
	}
	if *only != "" {
		o.only = strings.Split(strings.ToLower(*only), ",")
	}
	for text := range strings.SplitSeq(*clients, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 1 || n > 1000 {
			return o, fmt.Errorf("-clients: %q is not a number from 1 to 1000", text)
		}
		o.clients = append(o.clients, n)
	}
	slices.Sort(o.clients)
	o.clients = slices.Compact(o.clients)
	if o.grants < 1 || o.grants > 100_000 {
		return o, errors.New("-grants must be 1 to 100000")
	}
	if o.seconds <= 0 || o.seconds > 600 || o.warmup < 0 || o.warmup > 600 || o.repeat < 1 || o.repeat > 100 {
		return o, errors.New("-seconds and -warmup may be at most 600, -repeat 1 to 100")
	}
	return o, nil
}

// publish writes the report everywhere, and only then tells of failed requests.
func publish(report bench.Report, o options, out io.Writer) error {
	if err := report.WriteMarkdown(out); err != nil {
		return err
	}
	if err := errors.Join(writeFile(o.json, report.WriteJSON), writeFile(o.markdown, report.WriteMarkdown)); err != nil {
		return err
	}
	failed := 0
	for _, row := range report.Rows {
		failed += row.Errors
	}
	if failed > 0 {
		return fmt.Errorf("%d requests failed", failed)
	}
	return nil
}

func writeFile(name string, write func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(file), file.Close())
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
