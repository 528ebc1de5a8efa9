package foreigntest

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"
)

// The dialects.
const (
	SQLite   = "sqlite"
	MySQL    = "mysql"
	Postgres = "postgres"
)

// Connect opens the database at an address, as package foreign has them, to write
// to it, and names its dialect. The file of a SQLite database is made where it is
// missing.
func Connect(address string) (db *sql.DB, dialect string, err error) {
	if path, ok := strings.CutPrefix(address, "sqlite:"); ok {
		db, err = sql.Open("sqlite", path+"?_pragma=busy_timeout(10000)&_pragma=synchronous(off)")
		return db, SQLite, err
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, "", err
	}
	if u.Scheme == "mysql" {
		config := mysql.NewConfig()
		config.User, config.Net, config.Addr, config.DBName = u.User.Username(), "tcp", u.Host, strings.TrimPrefix(u.Path, "/")
		config.Passwd, _ = u.User.Password()
		connector, err := mysql.NewConnector(config)
		if err != nil {
			return nil, "", err
		}
		return sql.OpenDB(connector), MySQL, nil
	}
	parameters := u.Query()
	parameters.Set("default_query_exec_mode", "simple_protocol") // statements of 100 kB are not worth preparing
	parameters.Set("TimeZone", "UTC")
	u.RawQuery = parameters.Encode()
	db, err = sql.Open("pgx", u.String())
	return db, Postgres, err
}

// Fill makes the tables of a kind of server, as it makes them itself, and fills
// them in one transaction.
func Fill(db *sql.DB, dialect, kind string, users, clients, refreshTokens int) error {
	if users < 1 || clients < 1 {
		return errors.New("there must be a user and a client")
	}
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, statement := range Schema(dialect, kind) {
		if _, err := tx.Exec(statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	f := &filler{tx: tx, kind: kind, users: users, clients: clients, tokens: refreshTokens}
	switch kind {
	case "bshaffer":
		f.bshaffer()
	case "fos":
		f.fos()
	case "doorkeeper":
		f.doorkeeper()
	case "django":
		f.django()
	}
	if f.err != nil {
		return f.err
	}
	return tx.Commit()
}

// filler inserts rows, until something goes wrong.
type filler struct {
	tx                     *sql.Tx
	kind                   string
	users, clients, tokens int
	err                    error
}

// rows inserts n rows into a table, many at once. row gives the values of row i, or
// nil for none.
func (f *filler) rows(table string, n int, row func(i int) []any) {
	const most = 1000
	var text strings.Builder
	pending := 0
	flush := func() {
		if f.err != nil || pending == 0 {
			return
		}
		if _, err := f.tx.Exec("INSERT INTO " + table + " VALUES " + text.String()); err != nil {
			f.err = fmt.Errorf("%s: %w", table, err)
		}
		text.Reset()
		pending = 0
	}
	for i := range n {
		values := row(i)
		if values == nil || f.err != nil {
			continue
		}
		if pending > 0 {
			text.WriteByte(',')
		}
		text.WriteByte('(')
		for j, value := range values {
			if j > 0 {
				text.WriteByte(',')
			}
			text.WriteString(literal(value))
		}
		text.WriteByte(')')
		if pending++; pending == most {
			flush()
		}
	}
	flush()
}

// literal is a value as SQL has it. No text of this package has a backslash, which
// MySQL would take for the beginning of something.
func literal(value any) string {
	switch v := value.(type) {
	case nil:
		return "NULL"
	case string:
		return "'" + strings.ReplaceAll(v, "'", "''") + "'"
	case bool:
		return strings.ToUpper(fmt.Sprint(v))
	}
	return fmt.Sprint(value)
}

// optional is NULL for "".
func optional(text string) any {
	if text == "" {
		return nil
	}
	return text
}
