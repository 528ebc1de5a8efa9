package sqlite

import (
	"errors"
	"fmt"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/store/column"
	driver "zombiezen.com/go/sqlite"
)

const (
	// pageSize of new files. Each refresh writes the whole page that holds its
	// row to the log, so that small pages write less.
	pageSize = 1024
	// busyTimeout is how long a connection waits for the lock of another
	// process before it gives up: long enough for any transaction of ours,
	// short enough for a request to be answered.
	busyTimeout = 2 * time.Second
	// openTimeout is the same for opening, which no request waits for.
	openTimeout = 15 * time.Second
	// writerCache is the page cache of the connection that writes, in KiB: room
	// for all that the largest batch changes, so that none is written twice.
	writerCache = 8 << 10
	// logLimit is what a write-ahead log that once grew beyond it is cut back
	// to. It stands above the usual size, because a log that is overwritten in
	// place is flushed faster than one that grows again.
	logLimit = 64 << 20
)

// openConn opens one connection and reads back the settings that durability
// rests on: some drivers are compiled so that write-ahead logging alone is not
// durable, and some file systems cannot do it.
func openConn(path string) (*driver.Conn, error) {
	conn, err := driver.OpenConn(path, driver.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	conn.SetBusyTimeout(busyTimeout)
	if err := settle(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func settle(conn *driver.Conn) error {
	for _, pragma := range []string{
		"synchronous = FULL",
		"fullfsync = ON", // where a plain fsync does not reach the disk (macOS)
		"checkpoint_fullfsync = ON",
		"wal_autocheckpoint = 0", // see checkpoint.go
		"temp_store = MEMORY",
		"trusted_schema = OFF",
		fmt.Sprintf("journal_size_limit = %d", logLimit),
	} {
		if err := run(conn, "PRAGMA "+pragma, nil); err != nil {
			return err
		}
	}
	synchronous, err := number(conn, "PRAGMA synchronous")
	if err == nil && synchronous != 2 {
		err = fmt.Errorf("synchronous is %d, not 2 (FULL): commits would not be durable", synchronous)
	}
	return err
}

// openWriter opens the connection that writes.
func openWriter(path string) (*driver.Conn, error) {
	return openWith(path, fmt.Sprintf("PRAGMA cache_size = %d", -writerCache))
}

// openReader opens a connection that cannot write.
func openReader(path string) (*driver.Conn, error) {
	return openWith(path, "PRAGMA query_only = ON")
}

func openWith(path, pragma string) (*driver.Conn, error) {
	conn, err := openConn(path)
	if err != nil {
		return nil, err
	}
	if err := run(conn, pragma, nil); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// useLog puts the file into write-ahead logging, which it then stays in, and
// fixes the page size of an empty one.
func useLog(conn *driver.Conn) error {
	if err := run(conn, fmt.Sprintf("PRAGMA page_size = %d", pageSize), nil); err != nil {
		return err
	}
	var mode string
	err := run(conn, "PRAGMA journal_mode = WAL", func(stmt *driver.Stmt) error {
		mode = stmt.ColumnText(0)
		return nil
	})
	if err == nil && mode != "wal" {
		err = fmt.Errorf("write-ahead logging is not possible here (journal mode %q): put the database on a local disk", mode)
	}
	return err
}

// run executes one statement, which the connection keeps prepared, and calls
// row, which may be nil, for each row. Arguments are integers, bool, string,
// []byte, time.Time, which is stored in milliseconds, or nil.
func run(conn *driver.Conn, query string, row func(*driver.Stmt) error, args ...any) error {
	stmt, err := conn.Prepare(query)
	if err != nil {
		return err
	}
	for i, arg := range args {
		bind(stmt, i+1, arg)
	}
	for {
		more, err := stmt.Step()
		if err != nil || !more {
			return err
		}
		if row == nil {
			continue
		}
		if err := row(stmt); err != nil {
			return errors.Join(err, stmt.Reset())
		}
	}
}

func bind(stmt *driver.Stmt, param int, arg any) {
	switch arg := arg.(type) {
	case int64:
		stmt.BindInt64(param, arg)
	case int:
		stmt.BindInt64(param, int64(arg))
	case uint32:
		stmt.BindInt64(param, int64(arg))
	case uint64:
		stmt.BindInt64(param, int64(arg))
	case bool:
		stmt.BindBool(param, arg)
	case time.Time:
		stmt.BindInt64(param, column.Millis(arg))
	case string:
		stmt.BindText(param, arg)
	case []byte:
		stmt.BindBytes(param, arg)
	case nil:
		stmt.BindNull(param)
	default:
		panic(fmt.Sprintf("sqlite: cannot bind %T", arg))
	}
}

// number is the first column of a query's last row, 0 where there is none.
func number(conn *driver.Conn, query string, args ...any) (n int64, err error) {
	err = run(conn, query, func(stmt *driver.Stmt) error {
		n = stmt.ColumnInt64(0)
		return nil
	}, args...)
	return n, err
}

// blob copies a column that holds bytes; nil for NULL.
func blob(stmt *driver.Stmt, col int) []byte {
	if stmt.ColumnIsNull(col) {
		return nil
	}
	b := make([]byte, stmt.ColumnLen(col))
	stmt.ColumnBytes(col, b)
	return b
}

// unavailable makes an error that of a database which cannot serve at the moment,
// in the words of both halves.
func unavailable(err error) error {
	if errors.Is(err, issuer.ErrUnavailable) {
		return err
	}
	return column.Unavailable(err, issuer.ErrUnavailable, keeper.ErrUnavailable)
}

// errClosed answers whoever comes after Close.
var errClosed = unavailable(errors.New("it is closed"))

// classify makes errors of a database that cannot serve at the moment
// unavailable, and leaves all others as they are.
func classify(err error) error {
	switch driver.ErrCode(err).ToPrimary() {
	case driver.ResultBusy, driver.ResultLocked, driver.ResultFull, driver.ResultReadOnly, driver.ResultIOErr,
		driver.ResultCantOpen, driver.ResultPerm, driver.ResultNoMem, driver.ResultProtocol:
		return unavailable(err)
	}
	return err
}

// broken reports whether an error casts doubt on the connection, rather than
// on the one statement that met it.
func broken(err error) bool {
	switch driver.ErrCode(err).ToPrimary() {
	case driver.ResultOK, driver.ResultError, driver.ResultConstraint, driver.ResultFull, driver.ResultTooBig,
		driver.ResultMismatch, driver.ResultInterrupt:
		return false
	}
	return true
}
