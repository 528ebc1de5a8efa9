// Command scale measures refreshes in a small and in a large database of one
// PostgreSQL, which it starts itself, in turns and in one run:
//
//	go run ./bench/scale                                   10,000 and 10,000,000 grants, about a quarter of an hour
//	go run ./bench/scale -large 200000 -settle 0s          a short look
//
// A refresh here is the compare-and-set of store/postgres, asked for by 64
// goroutines that each wait for their own: what is measured is the store and
// the database, without HTTP. Where taskset and two cores exist, the server is
// held to core 0 and this program to core 1.
//
// Grants are refreshed in three ways: any of all, any of 10,000 that lie all over
// the table, and any of all right after a checkpoint, when the first change of
// each page writes the whole page to the log (full_page_writes). The first two
// are measured when every page has been changed since the last checkpoint.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/evergrant/evergrant/internal/bench"
)

// options are the flags.
type options struct {
	small, large int // grants
	hot          int // of them, that are refreshed often
	length       time.Duration
	settle       time.Duration
	rounds       int
	goroutines   int
	buffers, log string
	dir          string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cores, err := bench.Pin()
	if err == nil {
		err = run(ctx, cores, os.Args[1:], os.Stdout, os.Stderr)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func parse(args []string, usage io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("scale", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.IntVar(&o.small, "small", 10_000, "grants of the small database")
	flags.IntVar(&o.large, "large", 10_000_000, "grants of the large database")
	flags.IntVar(&o.hot, "hot", 10_000, "grants of the large database that are refreshed where only some are")
	flags.DurationVar(&o.length, "length", 10*time.Second, "length of a measurement")
	flags.DurationVar(&o.settle, "settle", 90*time.Second, "load on the large database before the first measurement, until its pages are known to every session")
	flags.IntVar(&o.rounds, "rounds", 5, "measurements of each line of the table")
	flags.IntVar(&o.goroutines, "goroutines", 64, "refreshes that are asked for at once")
	flags.StringVar(&o.buffers, "buffers", "8GB", "shared_buffers: room for both databases")
	flags.StringVar(&o.log, "log", "24GB", "max_wal_size: no checkpoint comes but those that are part of the measurement")
	flags.StringVar(&o.dir, "dir", os.TempDir(), "directory for the server's data; must be on a real disk, with 2 kB for each grant and room for the log")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.goroutines < 1 || o.rounds < 1 || o.length <= 0 || o.settle < 0:
		return o, errors.New("-goroutines, -rounds and -length must be more than nothing")
	case min(o.small, o.large, o.hot) < o.goroutines || o.hot > o.large:
		return o, errors.New("-small, -large and -hot must be at least -goroutines, and -hot at most -large")
	}
	return o, nil
}

// run measures, writes the report, and only then says what went wrong.
func run(ctx context.Context, cores bench.Cores, args []string, out, progress io.Writer) error {
	o, err := parse(args, progress)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "evergrant-scale-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil { // PostgreSQL's user passes through
		return err
	}
	server, err := bench.StartPostgres(ctx, dir, o.settings(), cores.OnServerCore)
	if err != nil {
		return err
	}
	defer server.Stop()
	s := &scale{options: o, cores: cores, server: server, progress: progress}
	if s.version, err = bench.PostgresVersion(ctx); err != nil {
		return err
	}
	defer s.close()
	if err := s.fill(ctx); err != nil {
		return err
	}
	if err := s.measure(ctx); err != nil {
		return err
	}
	if err := s.check(ctx); err != nil {
		return err
	}
	_, err = io.WriteString(out, s.report())
	return err
}

// settings are PostgreSQL's. Both databases fit into its memory, and checkpoints
// come when they are asked for.
func (o options) settings() map[string]string {
	return map[string]string{
		"shared_buffers": o.buffers, "max_wal_size": o.log, "checkpoint_timeout": "1h",
		// Files of the log are used again, as on a server that has run for long.
		"min_wal_size": "2GB",
	}
}
