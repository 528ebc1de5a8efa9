package bench

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sampleOf is a run of one second.
func sampleOf(requests int, p50, p99 time.Duration) Sample {
	return Sample{Result: Result{Requests: requests, Elapsed: time.Second, P50: p50, P99: p99}}
}

func TestSummarize(t *testing.T) {
	cell := Cell{Subject{"evergrant", "SQLite", "opaque"}, Refresh, 64}
	samples := []Sample{
		sampleOf(3000, 3*time.Millisecond, 9*time.Millisecond),
		sampleOf(1000, 1*time.Millisecond, 4*time.Millisecond),
		sampleOf(2000, 2*time.Millisecond, 30*time.Millisecond),
	}
	for i := range samples {
		samples[i].CPU = time.Second
		samples[i].MemoryBefore, samples[i].Memory = 10e6, int64(20e6+i)
		samples[i].Growth = &Growth{Bytes: int64(i) * 1024, Rows: int64(i), WAL: 5e6}
		samples[i].Busy, samples[i].Others = float64(i)/10, float64(i)/5
	}
	samples[1].Errors, samples[1].Failure = 2, "second"
	samples[2].Errors, samples[2].Failure = 3, "third"
	row := Summarize(cell, samples)
	if row.Cell != cell {
		t.Errorf("cell %+v", row.Cell)
	}
	for name, check := range map[string][2]float64{
		"median rate":    {row.Rate.Median, 2000},
		"least rate":     {row.Rate.Min, 1000},
		"greatest rate":  {row.Rate.Max, 3000},
		"p50":            {row.P50, 2},
		"p99":            {row.P99, 9},
		"CPU per 1000":   {row.CPUPer1000, 0.5},
		"memory before":  {float64(row.MemoryBefore), 10e6},
		"memory":         {float64(row.Memory), 20e6 + 1},
		"requests":       {float64(row.Requests), 6000},
		"errors":         {float64(row.Errors), 5},
		"busy":           {row.GeneratorBusy, 0.2},
		"others":         {row.OthersBusy, 0.4},
		"bytes, median":  {row.BytesPer1000.Median, 1024},
		"rows, greatest": {row.RowsGrown.Max, 2},
		"log":            {row.WAL.Median, 5e6},
	} {
		if check[0] != check[1] {
			t.Errorf("%s is %v, want %v", name, check[0], check[1])
		}
	}
	if row.Failure != "second" {
		t.Errorf("failure %q", row.Failure)
	}
}

func TestSummarizeWhatIsNotKnown(t *testing.T) {
	grown := sampleOf(1000, 1, 1)
	grown.Growth = &Growth{}
	tests := map[string][]Sample{
		"nothing":          nil,
		"no growth":        {sampleOf(1000, 1, 1)},
		"growth once only": {grown, sampleOf(1000, 1, 1)},
		"no requests":      {{}},
	}
	for name, samples := range tests {
		t.Run(name, func(t *testing.T) {
			row := Summarize(Cell{}, samples)
			if row.BytesPer1000 != nil || row.RowsGrown != nil || row.WAL != nil || row.CPUPer1000 != 0 {
				t.Errorf("%+v", row)
			}
		})
	}
}

func TestCompareTakesPairs(t *testing.T) {
	ours := []Sample{sampleOf(300, 0, 4*time.Millisecond), sampleOf(100, 0, 8*time.Millisecond), sampleOf(200, 0, 6*time.Millisecond)}
	theirs := []Sample{sampleOf(200, 0, 16*time.Millisecond), sampleOf(100, 0, 20*time.Millisecond), sampleOf(100, 0, 24*time.Millisecond)}
	got := Compare(Cell{Clients: 64}, ours, "go-oauth2", theirs)
	want := Ratio{Cell{Clients: 64}, "go-oauth2", Range{1.5, 1, 2}, 6, 20}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := Compare(Cell{}, ours[:2], "nobody", []Sample{{}}); got.Rate != (Range{}) {
		t.Errorf("%+v against a peer that answered nothing", got)
	}
}

func TestRangeOfAnEvenNumber(t *testing.T) {
	if got := RangeOf([]float64{4, 1, 3, 2}); got != (Range{2.5, 1, 4}) {
		t.Errorf("%+v", got)
	}
}

func TestCount(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 5.4: "5.4", -0.25: "-0.2", 9: "9", 12.6: "13", 999: "999", 1000: "1,000", 1234567: "1,234,567", -4096: "-4,096",
	} {
		if got := Count(v); got != want {
			t.Errorf("%v is written %q, want %q", v, got, want)
		}
	}
}

func exampleReport() Report {
	ours := Cell{Subject{"evergrant", "SQLite, durable", "opaque"}, Refresh, 64}
	peer := Cell{Subject{"go-oauth2", "memory", "opaque"}, Refresh, 64}
	return Report{
		Machine: Machine{
			Go: "go1.26.0", System: "linux/amd64", CPU: "Example CPU", Cores: 2, Pinned: true,
			FlushRate: 4833.4, Seconds: 5, Warmup: 1, Repeat: 3,
		},
		Rows: []Row{
			{
				Cell: peer, Rate: Range{21126, 17683, 21738}, P50: 2.7, P99: 16.3, CPUPer1000: 0.047,
				MemoryBefore: 139e6, Memory: 2112e6, Requests: 316890, GeneratorBusy: 0.47, OthersBusy: 0.1,
			},
			{
				Cell: ours, Rate: Range{32323, 29692, 35596}, P50: 1.9, P99: 4.1, CPUPer1000: 0.028,
				MemoryBefore: 38e6, Memory: 40e6, Requests: 484845, Errors: 2, Failure: "status 503: temporarily_unavailable",
				BytesPer1000: &Range{0, 0, 0.5}, RowsGrown: &Range{}, WAL: &Range{20.5e6, 20e6, 21e6}, GeneratorBusy: 0.95, OthersBusy: 0.75,
			},
			{Cell: Cell{Subject{"echo", "none", "none"}, Echo, 1}, Rate: Range{16022, 16022, 16022}, P50: 0.06, P99: 0.2, Requests: 80110},
		},
		Ratios: []Ratio{{Cell: ours, Versus: "go-oauth2", Rate: Range{1.53, 1.36, 1.64}, P99: 4.1, PeerP99: 16.3}},
	}
}

func TestReportIsWrittenAsBefore(t *testing.T) {
	loose := exampleReport()
	loose.Machine.Pinned, loose.Machine.CPU, loose.Machine.Repeat = false, "", 1
	loose.Rows, loose.Ratios = loose.Rows[2:], nil
	shared := exampleReport()
	shared.Machine.Database, shared.Ratios = "PostgreSQL 15.1", nil
	shared.Rows = []Row{{
		Cell:   Cell{Subject{"hydra", "PostgreSQL, durable", "opaque"}, Refresh, 64},
		Absent: "it could not be built: the network is down",
	}}
	tests := map[string]func(*bytes.Buffer) error{
		"shared.md":   func(b *bytes.Buffer) error { return shared.WriteMarkdown(b) },
		"report.md":   func(b *bytes.Buffer) error { return exampleReport().WriteMarkdown(b) },
		"report.json": func(b *bytes.Buffer) error { return exampleReport().WriteJSON(b) },
		"loose.md":    func(b *bytes.Buffer) error { return loose.WriteMarkdown(b) },
	}
	for name, write := range tests {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			if err := write(&got); err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(filepath.Join("testdata", name))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				written := filepath.Join(t.ArtifactDir(), name)
				os.WriteFile(written, got.Bytes(), 0o644)
				t.Errorf("differs from testdata/%s (see go test -artifacts):\n%s", name, got.String())
			}
		})
	}
}

// Every line of the table has the same width, whatever stands in it.
func TestTableIsAligned(t *testing.T) {
	var text strings.Builder
	if err := exampleReport().WriteMarkdown(&text); err != nil {
		t.Fatal(err)
	}
	width := 0
	for line := range strings.Lines(text.String()) {
		if !strings.HasPrefix(line, "|") {
			continue
		}
		if runes := len([]rune(line)); width == 0 {
			width = runes
		} else if runes != width {
			t.Errorf("%d characters, not %d: %s", runes, width, line)
		}
	}
	if width == 0 {
		t.Error("no table")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("the disk is full") }

func TestWritingFails(t *testing.T) {
	if err := exampleReport().WriteMarkdown(failing{}); err == nil {
		t.Error("no error from WriteMarkdown")
	}
	if err := exampleReport().WriteJSON(failing{}); err == nil {
		t.Error("no error from WriteJSON")
	}
}
