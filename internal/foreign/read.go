package foreign

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant"
)

// plan is what is read of a source.
type plan struct {
	clients query[evergrant.ImportClient]
	users   query[evergrant.ImportUser]
	tokens  []query[evergrant.ImportToken]
	check   func(ctx context.Context) error // what stands against reading the tokens
}

// query reads rows of one sort and makes something of each.
type query[T any] struct {
	base   string // the table, as t; "" where there is none
	joined string // further tables
	fields []field
	where  string                          // which rows there are at all
	gone   string                          // which of them are of no use any more; "" for none
	tail   string                          // the order, and how many
	before func(ctx context.Context) error // the query, or nil
	read   func(row) (T, error)
}

// field is a column of a query: a name, and the SQL for it.
type field struct{ name, expression string }

// live is the condition of the rows that are read. What is not known to be gone,
// since a column is null, is not gone.
func (q query[T]) live() string {
	live := q.where
	if q.gone != "" {
		live = and(q.where, "(("+q.gone+") IS NOT TRUE)")
	}
	return live
}

func and(one, other string) string {
	if one == "" || other == "" {
		return one + other
	}
	return one + " AND " + other
}

func where(condition string) string {
	if condition == "" {
		return ""
	}
	return " WHERE " + condition
}

// byClient has tokens come client by client. Whoever stores them keeps an index by
// client, and so writes one part of it after the other.
func byClient(column string) string { return " ORDER BY " + column }

// count counts the rows of a table that fulfil a condition, or all where it is "".
// A table that is not there has none.
func count(ctx context.Context, s *Source, base, condition string) (n int64, err error) {
	if base == "" {
		return 0, nil
	}
	err = s.conn.QueryRowContext(ctx, "SELECT count(*) FROM "+base+where(condition)).Scan(&n)
	if err != nil {
		return 0, s.place.hide(fmt.Errorf("%s: %w", s.place.name, err))
	}
	return n, nil
}

// sequence runs a query. Rows come as the consumer takes them: none is kept.
func sequence[T any](ctx context.Context, s *Source, q query[T]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		if q.base == "" {
			return
		}
		if err := stream(ctx, s, q, yield); err != nil {
			var none T
			yield(none, s.place.hide(fmt.Errorf("%s: %w", s.place.name, err)))
		}
	}
}

// stream gives what it read, and the error at which the reading ended, unless
// the consumer ended it.
func stream[T any](ctx context.Context, s *Source, q query[T], yield func(T, error) bool) error {
	r := row{index: map[string]int{}, values: make([]sql.NullString, len(q.fields))}
	expressions, targets := make([]string, len(q.fields)), make([]any, len(q.fields))
	for i, f := range q.fields {
		r.index[f.name], expressions[i], targets[i] = i, f.expression, &r.values[i]
	}
	if q.before != nil {
		if err := q.before(ctx); err != nil {
			return err
		}
	}
	rows, err := s.conn.QueryContext(ctx, "SELECT "+strings.Join(expressions, ", ")+" FROM "+q.base+q.joined+where(q.live())+q.tail)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		made, err := q.read(r)
		if errors.Is(err, errExpired) {
			s.expired++
			continue
		}
		if !yield(made, err) {
			return nil
		}
	}
	return rows.Err()
}

// row is one row as text, whatever the types of its columns are.
type row struct {
	index  map[string]int
	values []sql.NullString
}

func (r row) text(name string) string { return r.values[r.index[name]].String }

func (r row) null(name string) bool { return !r.values[r.index[name]].Valid }

// yes reads a boolean, which is a number in some databases.
func (r row) yes(name string) bool {
	switch strings.ToLower(r.text(name)) {
	case "1", "t", "true", "\x01":
		return true
	}
	return false
}

// number reads a whole number.
func (r row) number(name string) (int64, error) {
	n, err := strconv.ParseInt(r.text(name), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s is not a whole number", name)
	}
	return n, nil
}

// time reads a time that is text or, in the zero time of some databases, none.
func (r row) time(name string, where *time.Location) (time.Time, error) {
	if r.null(name) {
		return time.Time{}, nil
	}
	at, err := parseTime(r.text(name), where)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s is not a time", name)
	}
	return at, nil
}

// parseTime reads a time as databases write it (ISO 8601 with a space or a T). It
// is meant in a location, unless it says its distance to UTC. The zero time is
// what MySQL writes of a date that it did not take.
func parseTime(text string, where *time.Location) (time.Time, error) {
	if strings.HasPrefix(text, "0000-00-00") {
		return time.Time{}, nil
	}
	if len(text) > 10 && text[10] == 'T' {
		text = text[:10] + " " + text[11:]
	}
	var at time.Time
	var err error
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05Z07", "2006-01-02"} {
		if at, err = time.ParseInLocation(layout, text, where); err == nil {
			return at.UTC(), nil
		}
	}
	return at, err
}
