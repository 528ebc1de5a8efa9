package bench

import (
	"cmp"
	"slices"
	"time"
)

// Subject is one server in one configuration.
type Subject struct {
	// Peer is the server's name.
	Peer string `json:"peer"`
	// Store says where its grants are kept.
	Store string `json:"store"`
	// AccessToken is the format of its access tokens.
	AccessToken string `json:"access_token"`
}

// Cell is what is measured again and again: a subject under one load.
type Cell struct {
	Subject
	Mode    Mode `json:"mode"`
	Clients int  `json:"clients"`
}

// Sample is one measured run of a cell. CPU, Memory, Busy and Others are zero
// where the system does not tell them.
type Sample struct {
	Result
	// CPU is what the server's process used during the run.
	CPU time.Duration
	// MemoryBefore and Memory are its proportional set size in bytes.
	MemoryBefore, Memory int64
	// Growth is nil for a server that does not tell what it stores.
	Growth *Growth
	// Busy is the share of one core that the generator used, 0 to 1.
	Busy float64
	// Others is how many cores anything else on the machine used.
	Others float64
}

// Growth is what a server's storage gained during one run.
type Growth struct {
	Bytes int64 // of live data
	Rows  int64
	WAL   int64 // size of the write-ahead log at the end, in bytes
}

// Range is the middle, the least and the greatest of several values.
type Range struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// Row is one line of the report: a cell with all its runs taken together.
// Values that are not known are absent from the JSON.
type Row struct {
	Cell
	Rate          Range   `json:"requests_per_second"`
	P50           float64 `json:"p50_ms"` // median of the runs' medians
	P99           float64 `json:"p99_ms"` // median of the runs' 99th percentiles
	CPUPer1000    float64 `json:"cpu_seconds_per_1000,omitzero"`
	MemoryBefore  int64   `json:"memory_before_bytes,omitzero"` // median of the runs
	Memory        int64   `json:"memory_bytes,omitzero"`        // median of the runs
	BytesPer1000  *Range  `json:"bytes_grown_per_1000,omitempty"`
	RowsGrown     *Range  `json:"rows_grown,omitempty"` // per run
	WAL           *Range  `json:"wal_bytes,omitempty"`
	Requests      int     `json:"requests"` // of all runs
	Errors        int     `json:"errors"`   // of all runs
	Failure       string  `json:"failure,omitempty"`
	GeneratorBusy float64 `json:"generator_busy,omitzero"` // greatest of the runs
	OthersBusy    float64 `json:"others_busy,omitzero"`    // greatest of the runs
	// Absent says why there are no runs, "" where there are.
	Absent string `json:"absent,omitempty"`
}

// Ratio compares one of our cells with a peer's at the same load. Runs that
// were made one after the other are compared in pairs, so that a slow moment of
// the machine weighs on both.
type Ratio struct {
	Cell
	Versus  string  `json:"versus"`
	Rate    Range   `json:"rate_ratio"`
	P99     float64 `json:"p99_ms"`
	PeerP99 float64 `json:"versus_p99_ms"`
}

// Machine is what the figures depend on besides the servers.
type Machine struct {
	Go        string  `json:"go"`
	System    string  `json:"system"`
	CPU       string  `json:"cpu,omitempty"`
	Cores     int     `json:"cores"`
	Pinned    bool    `json:"pinned"`             // server on core 0, generator on core 1
	Database  string  `json:"database,omitempty"` // name and version of the database server
	FlushRate float64 `json:"flushes_per_second"`
	// Seconds, Warmup and Repeat say how long each cell was measured.
	Seconds float64 `json:"seconds"`
	Warmup  float64 `json:"warmup_seconds"`
	Repeat  int     `json:"repeat"`
}

// Report is everything that a benchmark found.
type Report struct {
	Machine Machine `json:"machine"`
	Rows    []Row   `json:"rows"`
	Ratios  []Ratio `json:"ratios"`
}

// Summarize takes the runs of one cell together.
func Summarize(cell Cell, samples []Sample) Row {
	over := func(value func(Sample) float64) Range { return rangeOf(samples, value) }
	row := Row{
		Cell:         cell,
		Rate:         over(func(s Sample) float64 { return s.Rate() }),
		P50:          over(func(s Sample) float64 { return milliseconds(s.P50) }).Median,
		P99:          over(func(s Sample) float64 { return milliseconds(s.P99) }).Median,
		CPUPer1000:   over(func(s Sample) float64 { return per1000(s.CPU.Seconds(), s) }).Median,
		MemoryBefore: int64(over(func(s Sample) float64 { return float64(s.MemoryBefore) }).Median),
		Memory:       int64(over(func(s Sample) float64 { return float64(s.Memory) }).Median),
	}
	for _, s := range samples {
		row.Requests += s.Requests
		row.Errors += s.Errors
		row.Failure = cmp.Or(row.Failure, s.Failure)
		row.GeneratorBusy = max(row.GeneratorBusy, s.Busy)
		row.OthersBusy = max(row.OthersBusy, s.Others)
	}
	if len(samples) > 0 && !slices.ContainsFunc(samples, func(s Sample) bool { return s.Growth == nil }) {
		bytes := over(func(s Sample) float64 { return per1000(float64(s.Growth.Bytes), s) })
		rows := over(func(s Sample) float64 { return float64(s.Growth.Rows) })
		wal := over(func(s Sample) float64 { return float64(s.Growth.WAL) })
		row.BytesPer1000, row.RowsGrown, row.WAL = &bytes, &rows, &wal
	}
	return row
}

// Compare sets the runs of one cell against those of a peer's, pair by pair.
func Compare(cell Cell, samples []Sample, versus string, peer []Sample) Ratio {
	var pairs []float64
	for i := range min(len(samples), len(peer)) {
		if rate := peer[i].Rate(); rate > 0 {
			pairs = append(pairs, samples[i].Rate()/rate)
		}
	}
	p99 := func(s Sample) float64 { return milliseconds(s.P99) }
	return Ratio{
		Cell: cell, Versus: versus,
		Rate:    RangeOf(pairs),
		P99:     rangeOf(samples, p99).Median,
		PeerP99: rangeOf(peer, p99).Median,
	}
}

func rangeOf[T any](items []T, value func(T) float64) Range {
	var values []float64
	for _, item := range items {
		values = append(values, value(item))
	}
	return RangeOf(values)
}

// RangeOf is all zero where there is nothing to take the range of.
func RangeOf(values []float64) Range {
	n := len(values)
	if n == 0 {
		return Range{}
	}
	values = slices.Sorted(slices.Values(values))
	return Range{Median: (values[(n-1)/2] + values[n/2]) / 2, Min: values[0], Max: values[n-1]}
}

func per1000(total float64, s Sample) float64 {
	if s.Requests == 0 {
		return 0
	}
	return total / float64(s.Requests) * 1000
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
