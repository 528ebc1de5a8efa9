package foreign

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// place is a database that can be connected to.
type place struct {
	dialect
	name    string // safe to show
	secrets []string
	open    func() (*sql.DB, error)
	db      *sql.DB
}

// parseAddress reads the address of a database.
func parseAddress(address string) (*place, error) {
	scheme, rest, _ := strings.Cut(address, ":")
	switch scheme {
	case "sqlite":
		return sqlitePlace(rest)
	case "mysql", "mariadb":
		return networkPlace(address, mysqlPlace)
	case "postgres", "postgresql":
		return networkPlace(address, postgresPlace)
	}
	return nil, errors.New("the address of the database must be sqlite:PATH, mysql://user:password@host:port/database or postgres://user:password@host:port/database")
}

// sqlitePlace is a file. The path is made absolute, so that the name of the
// source does not depend on where one stands.
func sqlitePlace(path string) (*place, error) {
	path = strings.TrimPrefix(path, "//")
	if path == "" {
		return nil, errors.New("the address of a SQLite database must be sqlite:PATH")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	p := &place{dialect: sqlite, name: shortened("sqlite:" + (&url.URL{Path: path}).EscapedPath())}
	p.open = func() (*sql.DB, error) {
		if _, err := os.Stat(path); err != nil { // SQLite would not say which
			return nil, err
		}
		return openSQLite(path)
	}
	return p, nil
}

func openSQLite(path string) (*sql.DB, error) {
	uri := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: "mode=ro&_pragma=busy_timeout(10000)"}
	return sql.Open("sqlite", uri.String())
}

// longest is how long the name of a place may be: that of a source, which is a
// kind longer, has at most 255 bytes.
const longest = 240

// shortened leaves the beginning of a name out that is too long. Paths differ at
// their end.
func shortened(name string) string {
	if len(name) > longest {
		name = "..." + name[len(name)-longest+3:]
	}
	return name
}

// networkPlace reads a URL before anything else does whose errors might show it.
func networkPlace(address string, read func(*url.URL) (*place, error)) (*place, error) {
	u, err := url.Parse(address)
	if err != nil || u.Opaque != "" {
		return nil, errors.New("the address of the database is not a URL: in user, password and database, write what is not a letter, digit or one of -._~ as % and two hexadecimal digits")
	}
	p, err := read(u)
	if p == nil {
		p = &place{}
	}
	password, _ := u.User.Password()
	p.secrets = []string{password, url.QueryEscape(password), url.PathEscape(password), u.Query().Get("password"), u.Query().Get("sslpassword")}
	if err != nil {
		return nil, p.hide(fmt.Errorf("the address of the database: %w", err))
	}
	return p, nil
}

// hide takes passwords out of an error, should a driver ever show one.
func (p *place) hide(err error) error {
	text := err.Error()
	for _, secret := range p.secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "[redacted]")
		}
	}
	if text == err.Error() {
		return err
	}
	return &hidden{text, err}
}

// hidden is an error whose text is not shown as it is.
type hidden struct {
	text string
	err  error
}

func (h *hidden) Error() string        { return h.text }
func (h *hidden) Is(target error) bool { return errors.Is(h.err, target) }

func mysqlPlace(u *url.URL) (*place, error) {
	database := strings.TrimPrefix(u.Path, "/")
	if database == "" {
		return nil, errors.New("it names no database: mysql://user:password@host:port/database")
	}
	parameters := u.Query()
	config := mysql.NewConfig()
	config.Net, config.Addr = "tcp", net.JoinHostPort(u.Hostname(), port(u, 3306))
	if socket := parameters.Get("socket"); socket != "" {
		config.Net, config.Addr = "unix", socket
	}
	parameters.Del("socket")
	// The driver reads its parameters in the syntax of its own.
	dsn := config.FormatDSN()
	separator := "?"
	if strings.Contains(dsn, "?") {
		separator = "&"
	}
	config, err := mysql.ParseDSN(dsn + separator + parameters.Encode())
	if err != nil {
		return nil, err
	}
	config.User = u.User.Username()
	config.Passwd, _ = u.User.Password()
	config.DBName = database
	config.ParseTime, config.MultiStatements = false, false
	config.Logger = &mysql.NopLogger{} // what it says is in the errors
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	return &place{
		dialect: maria, name: shortened(shown("mysql", config.Addr, database)),
		open: func() (*sql.DB, error) { return sql.OpenDB(connector), nil },
	}, nil
}

func port(u *url.URL, usual int) string {
	if p := u.Port(); p != "" {
		return p
	}
	return strconv.Itoa(usual)
}

func postgresPlace(u *url.URL) (*place, error) {
	config, err := pgx.ParseConfig(u.String())
	if err != nil {
		if cause := errors.Unwrap(err); cause != nil { // without the address
			err = cause
		}
		return nil, err
	}
	if u.Query().Get("default_query_exec_mode") == "" {
		config.DefaultQueryExecMode = pgx.QueryExecModeExec // leaves nothing behind in a pooler's session
	}
	host := config.Host
	if !strings.HasPrefix(host, "/") {
		host = net.JoinHostPort(host, strconv.Itoa(int(config.Port)))
	}
	return &place{
		dialect: postgres, name: shortened(shown("postgres", host, config.Database)),
		open: func() (*sql.DB, error) { return stdlib.OpenDB(*config), nil },
	}, nil
}

// shown is an address without who connects and how.
func shown(scheme, host, database string) string {
	return scheme + "://" + url.PathEscape(strings.ToLower(host)) + "/" + url.PathEscape(database)
}

// connect opens the database, and begins the one transaction in which all of it
// is read.
func (p *place) connect(ctx context.Context) (*sql.Conn, error) {
	var err error
	if p.db, err = p.open(); err != nil {
		return nil, err
	}
	conn, err := p.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if p.dialect.name == sqlite.name {
		return p.connectSQLite(ctx, conn)
	}
	if err := p.begin(ctx, conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// close gives up all connections, and with them the transaction.
func (p *place) close() error {
	if p.db == nil {
		return nil
	}
	return p.db.Close()
}
