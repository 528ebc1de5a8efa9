package sqlite

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"strings"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/secret"
	driver "zombiezen.com/go/sqlite"
)

// ErrOlder says that a database that is only read has a layout of an earlier
// release.
var ErrOlder = errors.New("this database was written by an older release of evergrant: run `evergrant migrate` on it first")

// Export is a database file that is read out, as it is at one moment. Nothing is
// written to it. It is not safe for concurrent use.
type Export struct{ conn *driver.Conn }

// OpenExport opens the database file at path, which no server may have open: the
// context ends reads. The error wraps [ErrNotOurs], [ErrNewer] or [ErrOlder]
// where the file cannot be read out.
func OpenExport(ctx context.Context, path string) (*Export, error) {
	if _, err := os.Stat(path); err != nil { // SQLite says less
		return nil, fmt.Errorf("database %w", err)
	}
	conn, err := driver.OpenConn(path, driver.OpenReadOnly)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", path, explain(err))
	}
	conn.SetInterrupt(ctx.Done())
	version, err := schemaVersion(conn)
	if err == nil && version < len(migrations()) {
		err = ErrOlder
	}
	if err == nil {
		err = run(conn, "BEGIN", nil) // what the first read sees, all others see
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", path, explain(err)), conn.Close())
	}
	return &Export{conn}, nil
}

// Close closes the file.
func (e *Export) Close() error {
	e.conn.SetInterrupt(nil)
	return errors.Join(run(e.conn, "COMMIT", nil), e.conn.Close())
}

// Count counts the rows of a table.
func (e *Export) Count(table string) (int64, error) {
	return number(e.conn, "SELECT count(*) FROM "+identifier(table))
}

// Last is the highest id that was ever given to a row of events or deliveries; 0
// where none was.
func (e *Export) Last(table string) (int64, error) {
	return number(e.conn, "SELECT seq FROM sqlite_sequence WHERE name = ?", table)
}

// Rows are all rows of a table with the named columns: int64, string, []byte or
// nil, each row a slice of its own. The journal's connection is the id, not the
// number. An error ends the sequence.
func (e *Export) Rows(table string, columns ...string) iter.Seq2[[]any, error] {
	from, values := identifier(table), make([]string, len(columns))
	for i, column := range columns {
		values[i] = identifier(table) + "." + identifier(column)
		if table == "journal" && column == "connection" {
			values[i] = `connections."id"`
		}
	}
	if table == "journal" {
		from += " JOIN connections ON connections.number = journal.connection"
	}
	query := "SELECT " + strings.Join(values, ", ") + " FROM " + from
	return func(yield func([]any, error) bool) {
		stop := errors.New("stop")
		err := run(e.conn, query, func(stmt *driver.Stmt) error {
			if !yield(copied(stmt), nil) {
				return stop
			}
			return nil
		})
		if err != nil && !errors.Is(err, stop) {
			yield(nil, fmt.Errorf("sqlite: table %s: %w", table, err))
		}
	}
}

// copied is a row of its own.
func copied(stmt *driver.Stmt) []any {
	row := make([]any, stmt.ColumnCount())
	for i := range row {
		switch stmt.ColumnType(i) {
		case driver.TypeInteger:
			row[i] = stmt.ColumnInt64(i)
		case driver.TypeText:
			row[i] = stmt.ColumnText(i)
		case driver.TypeBlob:
			row[i] = blob(stmt, i)
		}
	}
	return row
}

// identifier quotes the name of a table or column.
func identifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// Keys are the records of all keys.
func (e *Export) Keys() ([]secret.KeyRecord, error) { return readKeys(e.conn) }

// Grant reads one grant, or gives issuer.ErrNotFound.
func (e *Export) Grant(id issuer.GrantID) (issuer.Grant, error) { return readGrant(e.conn, id) }

// Connection reads one connection with its open intent, or gives
// keeper.ErrNotFound.
func (e *Export) Connection(id string) (keeper.Connection, error) {
	_, c, err := readConnection(e.conn, id)
	return c, err
}

// Version is the layout of the database file at path, 0 where there is none, and
// the one that this release knows. Nothing is changed.
func Version(path string) (version, known int, err error) {
	known = len(migrations())
	if file, err := os.Stat(path); errors.Is(err, os.ErrNotExist) || err == nil && file.Size() == 0 {
		return 0, known, nil
	}
	conn, err := driver.OpenConn(path, driver.OpenReadOnly)
	if err == nil {
		version, err = schemaVersion(conn)
		err = errors.Join(err, conn.Close())
	}
	if err != nil {
		return 0, known, fmt.Errorf("database %s: %w", path, explain(err))
	}
	return version, known, nil
}
