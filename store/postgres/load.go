package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/evergrant/evergrant/issuer"
	"github.com/jackc/pgx/v5"
)

// Source is another database of the same tables and columns, which Load copies.
type Source interface {
	// Count counts the rows of a table.
	Count(table string) (int64, error)
	// Rows are the rows of a table with the named columns, as int64 (booleans too),
	// string, []byte or nil.
	Rows(table string, columns ...string) iter.Seq2[[]any, error]
	// Last is the highest id that was ever given to a row of events or deliveries.
	Last(table string) (int64, error)
}

// Loaded is what Load copied.
type Loaded struct {
	Rows map[string]int64 `json:"rows"` // per table
	// Mended counts the descriptions in which a NUL, or what is not UTF-8, was
	// replaced by U+FFFD, for PostgreSQL holds neither.
	Mended int64 `json:"mended_texts"`
}

// ErrNotEmpty says that a database has rows already.
var ErrNotEmpty = errors.New("this database is in use already: make an empty one with CREATE DATABASE, and name that")

// shownRows is how many rows an error names at most.
const shownRows = 20

// Tables are the tables that Load copies, in order.
func Tables() []string {
	return []string{
		"keys", "clients", "users", "habits", "grants", "revoked_access_tokens", "connections", "journal", "once", "planned", "deliveries", "events",
	}
}

// Load copies all rows of another database into this one, which must be empty:
// in one transaction, with the positions of sequences, and counts them. After an
// error nothing is there, unless the error says that it is not known. It hears
// every thousand rows how far it is.
func (db *DB) Load(ctx context.Context, from Source, progress func(table string, done, of int64)) (Loaded, error) {
	l := &load{from: from, progress: progress, loaded: Loaded{Rows: map[string]int64{}}}
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return Loaded{}, classify(err)
	}
	defer conn.Release()
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		l.tx = tx
		return l.all(ctx)
	})
	switch {
	case !l.complete && ctx.Err() != nil: // the driver says what it broke off for that
		err = ctx.Err()
	case l.complete && outcomeUnknown(err):
		err = fmt.Errorf("the connection broke while the copy was being committed, and whether it was is not known: run the same again, which copies into an empty database only: %w", err)
	}
	if err != nil {
		return Loaded{}, classify(err)
	}
	return l.loaded, nil
}

// load is one run of Load.
type load struct {
	tx       pgx.Tx
	from     Source
	progress func(table string, done, of int64)
	loaded   Loaded
	complete bool // but for the commit

	refused []string // rows that cannot be stored, the first of them
	count   int      // of all of those
}

func (l *load) all(ctx context.Context) error {
	tables := strings.Join(Tables(), ", ")
	for _, sql := range []string{
		"SET LOCAL statement_timeout = 0", "SET LOCAL idle_in_transaction_session_timeout = 0",
		"LOCK TABLE " + tables + " IN EXCLUSIVE MODE", // a server that is started meanwhile waits, and finds all
	} {
		if _, err := l.tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	for _, table := range Tables() {
		var used bool
		if err := l.tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+table+")").Scan(&used); err != nil {
			return err
		}
		if used {
			return fmt.Errorf("%w (table %s has rows)", ErrNotEmpty, table)
		}
	}
	for _, table := range Tables() {
		if err := l.table(ctx, table); err != nil {
			return fmt.Errorf("table %s: %w", table, err)
		}
	}
	if l.count > 0 {
		return fmt.Errorf("%d rows have a NUL in a text, or what is not UTF-8, and PostgreSQL holds neither: %s", l.count, strings.Join(l.refused, ", "))
	}
	for table, sequence := range map[string]string{"events": "'event_numbers'", "deliveries": "pg_get_serial_sequence('deliveries', 'id')"} {
		last, err := l.from.Last(table)
		if err != nil {
			return err
		}
		if last == 0 {
			continue
		}
		if _, err := l.tx.Exec(ctx, "SELECT setval("+sequence+", $1)", last); err != nil {
			return err
		}
	}
	_, err := l.tx.Exec(ctx, "ANALYZE "+tables)
	l.complete = err == nil
	return err
}

// table copies one table, and compares how many rows there were and are.
func (l *load) table(ctx context.Context, table string) error {
	names, types, err := l.columns(ctx, table)
	if err != nil {
		return err
	}
	of, err := l.from.Count(table)
	if err != nil {
		return err
	}
	next, stop := iter.Pull2(l.from.Rows(table, names...))
	defer stop()
	before, done := l.count, int64(0)
	var source error // COPY would tell it as the server's
	_, err = l.tx.CopyFrom(ctx, pgx.Identifier{table}, names, pgx.CopyFromFunc(func() ([]any, error) {
		for {
			var row []any
			var more bool
			if row, source, more = next(); !more || source != nil {
				return nil, source
			}
			if done%1000 == 0 {
				l.progress(table, done, of)
			}
			done++
			var ok bool
			if ok, source = l.convert(table, names, types, row); ok || source != nil {
				return row, source
			}
		}
	}))
	if err = cmp.Or(source, err); err != nil {
		return err
	}
	var there int64
	if err := l.tx.QueryRow(ctx, "SELECT count(*) FROM "+table).Scan(&there); err != nil {
		return err
	}
	if there += int64(l.count - before); there != of {
		return fmt.Errorf("%d rows were to be copied, and %d were: nothing is kept of the copy", of, there)
	}
	l.loaded.Rows[table] = of
	return nil
}

// columns are the names and types of a table's columns.
func (l *load) columns(ctx context.Context, table string) (names, types []string, err error) {
	rows, err := l.tx.Query(ctx, `SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute
		WHERE attrelid = to_regclass($1::text) AND attnum > 0 AND NOT attisdropped ORDER BY attnum`, table)
	if err != nil {
		return nil, nil, err
	}
	var name, kind string
	_, err = pgx.ForEachRow(rows, []any{&name, &kind}, func() error {
		names, types = append(names, name), append(types, kind)
		return nil
	})
	return names, types, err
}

// convert makes the values of a row those of its columns' types. It gives false
// for a row that cannot be stored, and notes it.
func (l *load) convert(table string, names, types []string, row []any) (bool, error) {
	for i, value := range row {
		switch value := value.(type) {
		case int64:
			if types[i] == "boolean" {
				row[i] = value != 0
			}
		case []byte:
			if types[i] != "uuid" {
				continue
			}
			if len(value) != 16 {
				return false, fmt.Errorf("column %s has %d bytes where 16 are an id", names[i], len(value))
			}
			row[i] = [16]byte(value)
		case string:
			switch {
			case storable(value):
			case table == "events" || names[i] == "error": // words for people
				row[i] = clean(value)
				l.loaded.Mended++
			default:
				if l.count++; l.count <= shownRows {
					l.refused = append(l.refused, fmt.Sprintf("%s %q (%s)", table, rowName(row[0]), names[i]))
				}
				return false, nil
			}
		}
	}
	return true, nil
}

// rowName is the value of a row's first column as people know it.
func rowName(value any) string {
	if id, ok := value.([16]byte); ok {
		return issuer.GrantID(id).String()
	}
	return fmt.Sprint(value)
}
