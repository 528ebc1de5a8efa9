package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/bench"
)

// report is Markdown: how it was measured, what was measured, and what the rows
// take.
func (s *scale) report() string {
	where := "the server on core 0, the goroutines on core 1"
	if !s.cores.Pinned {
		where = "**not pinned**: server and goroutines shared the cores"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s with shared_buffers %s, %d cores, %s. %d goroutines, each line the median [min–max] of %d measurements of %v, taken in turns after %v of load.\n\n",
		s.version, s.buffers, s.cores.Count, where, s.goroutines, s.rounds, s.length, s.settle)
	b.WriteString(bench.Table([]string{
		"grants:", "refreshed", "refreshes/s:", "against small:", "p50 ms:", "p99 ms:", "against small:",
		"CPU µs of the server:", "log bytes:", "page images:",
	}, s.cells()))
	b.WriteString("\n")
	b.WriteString(bench.Table([]string{"grants:", "table MB:", "bytes per grant:", "primary key:", "other indexes:", "filled in:"}, s.sizeCells()))
	for _, l := range s.lines {
		if busy := l.over(func(m sample) float64 { return m.busy }); busy.Max > 0.9 {
			fmt.Fprintf(&b, "\n%s database, %s: the goroutines' core was busy for %.0f %% of the time.\n", l.database.name, l.name, busy.Max*100)
		}
		if others := l.over(func(m sample) float64 { return m.others }); others.Max > 0.25 {
			fmt.Fprintf(&b, "\n**The machine was not quiet**: %s database, %s: other work used up to %.1f cores.\n", l.database.name, l.name, others.Max)
		}
	}
	return b.String()
}

// over is the range of a value over a line's measurements.
func (l *line) over(value func(sample) float64) bench.Range {
	var values []float64
	for _, m := range l.samples {
		values = append(values, value(m))
	}
	return bench.RangeOf(values)
}

// ratio sets a line against another, pair by pair: measurements of one round
// were taken one after the other.
func (l *line) ratio(value func(sample) float64) string {
	if l.against == nil {
		return ""
	}
	var pairs []float64
	for i, m := range l.samples {
		pairs = append(pairs, value(m)/value(l.against.samples[i]))
	}
	return fmt.Sprintf("%.2f", bench.RangeOf(pairs).Median)
}

func (s *scale) cells() [][]string {
	milliseconds := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	two := func(v float64) string { return fmt.Sprintf("%.2f", v) }
	var rows [][]string
	for _, l := range s.lines {
		p99 := func(m sample) float64 { return milliseconds(m.P99) }
		rows = append(rows, []string{
			bench.Count(float64(len(l.database.generations))), l.name,
			l.over(sample.rate).Text(bench.Count), l.ratio(sample.rate),
			two(l.over(func(m sample) float64 { return milliseconds(m.P50) }).Median),
			l.over(p99).Text(two), l.ratio(p99),
			fmt.Sprintf("%.1f", l.over(func(m sample) float64 { return m.per(float64(m.cpu.Microseconds())) }).Median),
			bench.Count(l.over(func(m sample) float64 { return m.per(float64(m.log)) }).Median),
			two(l.over(func(m sample) float64 { return m.per(float64(m.images)) }).Median),
		})
	}
	return rows
}

func (s sample) rate() float64 { return s.Rate() }

func (s *scale) sizeCells() [][]string {
	var rows [][]string
	for _, d := range []*database{s.small, s.large} {
		grants := float64(len(d.generations))
		per := func(bytes int64) string { return bench.Count(float64(bytes) / grants) }
		rows = append(rows, []string{
			bench.Count(grants), fmt.Sprintf("%.0f", float64(d.sizes.table)/1e6), per(d.sizes.table),
			per(d.sizes.key), per(d.sizes.indexes - d.sizes.key), d.took.Round(time.Second).String(),
		})
	}
	return rows
}
