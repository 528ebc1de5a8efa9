package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// unknown stands in a table where a value is not known.
const unknown = "–"

// busyLimit is the generator's load above which a rate may be the generator's
// and not the server's.
const busyLimit = 0.9

// othersLimit is how many cores other work may use before the figures are
// called into doubt. Some is the kernel's, on behalf of the server.
const othersLimit = 0.25

// WriteJSON writes the report as one indented JSON object.
func (r Report) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// WriteMarkdown writes the report as a Markdown table whose columns are
// aligned, so that it reads well on a terminal too, between a line about the
// machine and the comparisons.
func (r Report) WriteMarkdown(w io.Writer) error {
	var text strings.Builder
	text.WriteString(r.Machine.line() + "\n\n")
	text.WriteString(Table(columns, r.cells()))
	for i, ratio := range r.Ratios {
		if i == 0 {
			text.WriteString("\n")
		}
		text.WriteString("- " + ratio.line() + "\n")
	}
	for _, warning := range r.warnings() {
		text.WriteString("\n" + warning + "\n")
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func (m Machine) line() string {
	where := "The server ran on core 0 and the load generator on core 1, each with that core alone."
	if !m.Pinned {
		where = "**Not pinned**: server and load generator shared the cores (pinning needs taskset and two cores), GOMAXPROCS=1 for the server."
	}
	machine := fmt.Sprintf("%s, %s, %d cores", m.Go, m.System, m.Cores)
	if m.CPU != "" {
		machine += " (" + m.CPU + ")"
	}
	if m.Database != "" {
		machine += ", " + m.Database
		where = strings.Replace(where, "The server ran", "The server, with its database, ran", 1)
	}
	runs := fmt.Sprintf("the median [min–max] of %d runs of %g s, each on a fresh server,", m.Repeat, m.Seconds)
	if m.Repeat == 1 {
		runs = fmt.Sprintf("one run of %g s on a fresh server", m.Seconds)
	}
	return fmt.Sprintf("%s. %s Each line is %s after %g s of warm-up. The disk made a 4 KiB block durable %s times per second.",
		machine, where, runs, m.Warmup, Count(m.FlushRate))
}

// columns are the table's headings.
var columns = []string{
	"server", "store", "access token", "mode", "clients:", "requests/s:", "p50 ms:", "p99 ms:",
	"CPU s per 1000:", "RSS MB:", "bytes grown per 1000:", "rows grown:", "WAL MB:", "errors:",
}

func (r Report) cells() [][]string {
	var cells [][]string
	for _, row := range r.Rows {
		if row.Absent != "" {
			cells = append(cells, row.absent())
			continue
		}
		cells = append(cells, []string{
			row.Peer, row.Store, row.AccessToken, string(row.Mode), strconv.Itoa(row.Clients),
			row.Rate.Text(Count), fmt.Sprintf("%.2f", row.P50), fmt.Sprintf("%.2f", row.P99),
			known(row.CPUPer1000 > 0, fmt.Sprintf("%.4f", row.CPUPer1000)),
			known(row.Memory > 0, megabytes(row.MemoryBefore)+" → "+megabytes(row.Memory)),
			worst(row.BytesPer1000, Count), worst(row.RowsGrown, Count),
			worst(row.WAL, func(v float64) string { return fmt.Sprintf("%.1f", v/1e6) }),
			strconv.Itoa(row.Errors),
		})
	}
	return cells
}

// absent is a line without figures.
func (r Row) absent() []string {
	cells := []string{r.Peer, r.Store, r.AccessToken, string(r.Mode), strconv.Itoa(r.Clients), "not measured"}
	for len(cells) < len(columns) {
		cells = append(cells, unknown)
	}
	return cells
}

// Text writes "median [min–max]", or the median alone where there is but one
// value.
func (r Range) Text(number func(float64) string) string {
	if r.Min == r.Max {
		return number(r.Median)
	}
	return fmt.Sprintf("%s [%s–%s]", number(r.Median), number(r.Min), number(r.Max))
}

// worst writes the greatest value: growth is promised for every run.
func worst(r *Range, number func(float64) string) string {
	if r == nil {
		return unknown
	}
	return number(r.Max)
}

func known(is bool, text string) string {
	if !is {
		return unknown
	}
	return text
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.0f", float64(bytes)/1e6) }

// Count writes a number in full, with commas between thousands; small
// ones that are not whole get a decimal.
func Count(v float64) string {
	if v > -10 && v < 10 && v != float64(int64(v)) {
		return fmt.Sprintf("%.1f", v)
	}
	digits := strconv.FormatFloat(v, 'f', 0, 64)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// Table is a Markdown table in which every column is as wide as its widest cell.
// Headings of columns that hold numbers end in a colon, which is not shown.
func Table(columns []string, rows [][]string) string {
	w := &strings.Builder{}
	headings, numeric, widths := make([]string, len(columns)), make([]bool, len(columns)), make([]int, len(columns))
	for i, column := range columns {
		headings[i], numeric[i] = strings.CutSuffix(column, ":")
		widths[i] = utf8.RuneCountInString(headings[i])
		for _, row := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	line := func(cells []string) {
		for i, cell := range cells {
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if numeric[i] {
				cell = padding + cell
			} else {
				cell += padding
			}
			w.WriteString("| " + cell + " ")
		}
		w.WriteString("|\n")
	}
	line(headings)
	for i, width := range widths {
		rule := strings.Repeat("-", width+2)
		if numeric[i] {
			rule = rule[1:] + ":"
		}
		w.WriteString("|" + rule)
	}
	w.WriteString("|\n")
	for _, row := range rows {
		line(row)
	}
	return w.String()
}

func (r Ratio) line() string {
	return fmt.Sprintf("%s %s (%s), %s, %d clients: %s times the rate of %s; p99 %.2f ms against %.2f ms",
		r.Peer, r.AccessToken, r.Store, r.Mode, r.Clients,
		r.Rate.Text(func(v float64) string { return fmt.Sprintf("%.2f", v) }), r.Versus, r.P99, r.PeerP99)
}

// warnings names the rows that must not be read as they stand.
func (r Report) warnings() []string {
	var warnings []string
	for _, row := range r.Rows {
		name := fmt.Sprintf("%s %s (%s), %s, %d clients", row.Peer, row.AccessToken, row.Store, row.Mode, row.Clients)
		if row.Absent != "" {
			warnings = append(warnings, fmt.Sprintf("**%s was not measured**: %s", row.Peer, row.Absent))
		}
		if row.Errors > 0 {
			warnings = append(warnings, fmt.Sprintf("**%s: %d requests failed**, the first with: %s", name, row.Errors, row.Failure))
		}
		if row.GeneratorBusy > busyLimit {
			warnings = append(warnings, fmt.Sprintf("%s: the load generator was busy for %.0f %% of the time; the server may be faster.", name, row.GeneratorBusy*100))
		}
	}
	disturbed, most := 0, 0.0
	for _, row := range r.Rows {
		if row.OthersBusy > othersLimit {
			disturbed, most = disturbed+1, max(most, row.OthersBusy)
		}
	}
	if disturbed > 0 {
		warnings = append(warnings, fmt.Sprintf("**The machine was not quiet**: during %d of these %d lines other work used up to %.1f of its %d cores.",
			disturbed, len(r.Rows), most, r.Machine.Cores))
	}
	return warnings
}
