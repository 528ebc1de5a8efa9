package main

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// printable replaces what would steer a terminal: names in events come from
// whoever sent a request.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// printJSON writes the one document of --json.
func (in *invocation) printJSON(v any) error {
	encoder := json.NewEncoder(in.stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// table writes rows aligned under their head.
func table(w io.Writer, head []string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(head) > 0 {
		fmt.Fprintln(tw, strings.Join(head, "\t"))
	}
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = printable(orText(cell, "-"))
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	return tw.Flush()
}

// details writes one thing, a name and a value on each line, without the empty
// ones.
func details(w io.Writer, pairs [][2]string) error {
	var rows [][]string
	for _, pair := range pairs {
		if pair[1] != "" {
			rows = append(rows, []string{pair[0], pair[1]})
		}
	}
	return table(w, nil, rows)
}

// listing says how a list of things is shown.
type listing[T any] struct {
	head  []string
	row   func(T) []string
	empty string // what an empty list says on stderr, with what to do
	limit int    // 0 shows all
	// sparse leaves out the columns that are empty in all rows.
	sparse bool
}

// show reads the sequence up to the limit and writes it as a table or as a JSON
// array.
func (l listing[T]) show(in *invocation, items iter.Seq2[T, error]) error {
	found, more, err := take(items, l.limit)
	if err != nil {
		return err
	}
	if in.json {
		return in.printJSON(found)
	}
	if len(found) == 0 {
		fmt.Fprintln(in.stderr, l.empty)
		return nil
	}
	rows := make([][]string, len(found))
	for i, item := range found {
		rows[i] = l.row(item)
	}
	head := l.head
	if l.sparse {
		head, rows = filled(head, rows)
	}
	if err := table(in.stdout, head, rows); err != nil {
		return err
	}
	if more {
		fmt.Fprintf(in.stderr, "only the first %d are shown; --limit 0 shows all\n", l.limit)
	}
	return nil
}

// filled are the columns of a table in which anything stands.
func filled(head []string, rows [][]string) ([]string, [][]string) {
	var names []string
	cut := make([][]string, len(rows))
	for column, name := range head {
		if !slices.ContainsFunc(rows, func(row []string) bool { return row[column] != "" }) {
			continue
		}
		names = append(names, name)
		for i, row := range rows {
			cut[i] = append(cut[i], row[column])
		}
	}
	return names, cut
}

// take reads at most limit items of a sequence and says whether there are more.
func take[T any](items iter.Seq2[T, error], limit int) (found []T, more bool, err error) {
	found = []T{}
	for item, err := range items {
		if err != nil {
			return nil, false, err
		}
		if limit > 0 && len(found) == limit {
			return found, true, nil
		}
		found = append(found, item)
	}
	return found, false, nil
}

// localTime is a time in a table; "" for the zero time.
func localTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.RFC3339)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}
