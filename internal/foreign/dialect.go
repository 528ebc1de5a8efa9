package foreign

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// dialect is what differs between the databases.
type dialect struct {
	name       string
	quote      string   // around names
	statements []string // that begin the snapshot
	columns    string   // lists tables, columns and types
	castTimes  bool     // a time must be asked for as text, or the driver makes another of it
}

var (
	sqlite = dialect{
		name: "sqlite", quote: `"`, castTimes: true,
		statements: []string{"BEGIN"},
		columns: `SELECT m.name, c.name, c.type FROM sqlite_master AS m, pragma_table_info(m.name) AS c
			WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite\_%' ESCAPE '\'`,
	}
	maria = dialect{
		name: "mysql", quote: "`",
		statements: []string{
			"SET SESSION net_write_timeout = 3600", // the consumer may take its time
			"SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
			"START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
		},
		columns: `SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = database()`,
	}
	postgres = dialect{
		name: "postgres", quote: `"`, castTimes: true,
		statements: []string{
			"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
			"SET LOCAL TimeZone = 'UTC'",
			"SET LOCAL DateStyle = 'ISO'",
			"SET LOCAL statement_timeout = 0",
			"SET LOCAL idle_in_transaction_session_timeout = 0",
		},
		columns: `SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = ANY (current_schemas(false))`,
	}
)

// quoted is a name as SQL has it.
func (d dialect) quoted(name string) string {
	return d.quote + strings.ReplaceAll(name, d.quote, d.quote+d.quote) + d.quote
}

// time asks for a time as the database writes it.
func (d dialect) time(expression string) string {
	if d.castTimes {
		return "CAST(" + expression + " AS TEXT)"
	}
	return expression
}

func (d dialect) begin(ctx context.Context, conn *sql.Conn) error {
	for _, statement := range d.statements {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// connectSQLite begins the transaction on a file. Unless the file has a
// write-ahead log, one who reads keeps all others from writing: such a file is
// copied in a moment, and the copy read.
func (p *place) connectSQLite(ctx context.Context, conn *sql.Conn) (*sql.Conn, error) {
	var mode string
	if err := conn.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if strings.EqualFold(mode, "wal") {
		if err := p.begin(ctx, conn); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return conn, nil
	}
	dir, err := os.MkdirTemp("", "evergrant-import")
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	defer os.RemoveAll(dir) // while it is open: nothing of it stays, even if this process is killed
	copied := filepath.Join(dir, "copy")
	_, err = conn.ExecContext(ctx, "VACUUM INTO ?", copied)
	if err = errors.Join(err, conn.Close(), p.db.Close()); err != nil {
		return nil, fmt.Errorf("copying the file to %s, which is done for one without a write-ahead log: %w", dir, err)
	}
	if p.db, err = openSQLite(copied); err != nil {
		return nil, err
	}
	if conn, err = p.db.Conn(ctx); err != nil {
		return nil, err
	}
	err = p.begin(ctx, conn)
	if err == nil {
		_, err = p.tables(ctx, conn) // the first read opens the file
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// tables lists the tables that this user may read.
func (p *place) tables(ctx context.Context, conn *sql.Conn) (map[string]*table, error) {
	rows, err := conn.QueryContext(ctx, p.columns)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	tables := map[string]*table{}
	for rows.Next() {
		var name, column, form string
		if err := rows.Scan(&name, &column, &form); err != nil {
			return nil, err
		}
		if tables[name] == nil {
			tables[name] = &table{name, map[string]columnOf{}}
		}
		tables[name].columns[strings.ToLower(column)] = columnOf{column, form}
	}
	return tables, rows.Err()
}
