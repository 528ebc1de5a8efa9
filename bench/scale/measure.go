package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/bench"
	"github.com/evergrant/evergrant/issuer"
)

// line is one way of refreshing the grants of a database, and what was measured.
type line struct {
	name     string
	database *database
	among    int  // how many grants are refreshed
	fresh    bool // right after a checkpoint
	against  *line
	samples  []sample
}

// sample is one measurement.
type sample struct {
	bench.Result
	log    int64 // bytes of the write-ahead log
	images int64 // of whole pages in it
	cpu    time.Duration
	busy   float64 // of this program's core
	others float64 // cores that anything else used
}

func (s sample) per(total float64) float64 { return total / float64(max(s.Requests, 1)) }

// measure takes each line in turn, in every round.
func (s *scale) measure(ctx context.Context) error {
	base := &line{name: "any of all", database: s.small, among: s.options.small}
	afterBase := &line{name: "any of all, after a checkpoint", database: s.small, among: s.options.small, fresh: true, against: base}
	s.lines = []*line{
		base,
		{name: "any of all", database: s.large, among: s.options.large, against: base},
		{name: fmt.Sprintf("any of %s", bench.Count(float64(s.options.hot))), database: s.large, among: s.options.hot, against: base},
		afterBase,
		{name: "any of all, after a checkpoint", database: s.large, among: s.options.large, fresh: true, against: afterBase},
	}
	for _, l := range s.lines[:2] {
		if err := s.touch(ctx, l.database); err != nil {
			return err
		}
	}
	if s.settle > 0 {
		fmt.Fprintf(s.progress, "refreshing for %v before the first measurement\n", s.settle)
		if _, err := s.refresh(ctx, s.lines[1], s.settle); err != nil {
			return err
		}
	}
	for round := range s.rounds {
		for _, l := range s.lines {
			if err := s.take(ctx, l); err != nil {
				return fmt.Errorf("%s database, %s: %w", l.database.name, l.name, err)
			}
			last := l.samples[len(l.samples)-1]
			fmt.Fprintf(s.progress, "%d/%d %-6s %-32s %8.0f/s  p99 %6.2f ms  %6.0f bytes of log\n", round+1, s.rounds,
				l.database.name, l.name, last.Rate(), float64(last.P99)/float64(time.Millisecond), last.per(float64(last.log)))
		}
	}
	return nil
}

// take measures a line once, and leaves behind a table whose pages have all been
// changed since the last checkpoint.
func (s *scale) take(ctx context.Context, l *line) error {
	if l.fresh {
		if err := s.server.Exec(ctx, "postgres", "CHECKPOINT"); err != nil {
			return err
		}
	}
	before, err := s.look(ctx)
	if err != nil {
		return err
	}
	result, err := s.refresh(ctx, l, s.length)
	if err != nil {
		return err
	}
	after, err := s.look(ctx)
	if err != nil {
		return err
	}
	l.samples = append(l.samples, after.since(before, result))
	if !l.fresh {
		return nil
	}
	return errors.Join(s.touch(ctx, s.small), s.touch(ctx, s.large))
}

// snapshot is how things stand between two loads.
type snapshot struct {
	log, images             int64
	server, generator, busy time.Duration
}

func (s *scale) look(ctx context.Context) (n snapshot, err error) {
	if n.log, err = s.server.Number(ctx, "postgres", "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint"); err != nil {
		return n, err
	}
	if n.images, err = s.server.Number(ctx, "postgres", "SELECT wal_fpi FROM pg_stat_wal"); err != nil {
		return n, err
	}
	server, _ := bench.ReadTree(s.server.PID) // zero where there is no /proc
	own, _ := bench.ReadUsage(os.Getpid())
	n.server, n.generator = server.CPU, own.CPU
	n.busy, _ = bench.ReadBusy()
	return n, nil
}

func (n snapshot) since(before snapshot, result bench.Result) sample {
	server, own := n.server-before.server, n.generator-before.generator
	elapsed := float64(max(result.Elapsed, 1))
	return sample{
		Result: result, log: n.log - before.log, images: n.images - before.images, cpu: server,
		busy: float64(own) / elapsed, others: max(0, float64(n.busy-before.busy-server-own)/elapsed),
	}
}

// refresh has goroutines refresh grants, each its own ones, for a while.
func (s *scale) refresh(ctx context.Context, l *line, length time.Duration) (bench.Result, error) {
	began := time.Now()
	latencies := make([][]time.Duration, s.goroutines)
	failures := make([]error, s.goroutines)
	var all sync.WaitGroup
	for g := range s.goroutines {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), uint64(began.UnixNano())))
			for now := began; failures[g] == nil && now.Sub(began) < length; {
				n := l.pick(random, g, s.goroutines)
				failures[g] = l.database.refresh(ctx, n, now)
				after := time.Now()
				latencies[g] = append(latencies[g], after.Sub(now))
				now = after
			}
		})
	}
	all.Wait()
	taken := slices.Sorted(slices.Values(slices.Concat(latencies...)))
	return bench.Result{
		Requests: len(taken), Elapsed: time.Since(began),
		P50: bench.Quantile(taken, 500), P99: bench.Quantile(taken, 990),
	}, errors.Join(failures...)
}

// pick chooses one of the grants that belong to a goroutine. Where not all are
// refreshed, those that are lie evenly over the whole table.
func (l *line) pick(random *rand.Rand, goroutine, goroutines int) int {
	mine := (l.among - goroutine + goroutines - 1) / goroutines
	return (goroutine + goroutines*random.IntN(mine)) * (len(l.database.generations) / l.among)
}

// refresh takes grant n one generation further.
func (d *database) refresh(ctx context.Context, n int, now time.Time) error {
	from := d.generations[n]
	grant, rotated, err := d.store.Rotate(ctx, issuer.Rotation{
		ID: grantID(n), ClientID: clientID(n), From: from, To: from + 1, KeyID: 1,
		At: now, ExpiresAt: now.Add(90 * 24 * time.Hour), AccessExpiresAt: now.Add(time.Hour),
	})
	if err != nil {
		return err
	}
	if !rotated || grant.Generation != from+1 {
		return fmt.Errorf("grant %d did not go from generation %d to the next: it is at %d", n, from, grant.Generation)
	}
	d.generations[n] = from + 1
	return nil
}
