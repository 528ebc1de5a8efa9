package main

import "fmt"

// engine is one SQLite driver with one open database and its prepared
// statements. The benchmark drives every driver through it.
type engine interface {
	// exec runs one statement that returns nothing.
	exec(sql string) error
	// scalar answers the first column of the first row.
	scalar(sql string) (string, error)
	// prepare compiles insertSQL, rotateSQL, BEGIN IMMEDIATE and COMMIT.
	prepare() error
	begin() error
	commit() error
	insert(id []byte, values grant) error
	// rotate reports whether the compare-and-set changed the row.
	rotate(id []byte, generation, now int64) (bool, error)
	close() error
}

// grant holds the columns of a row except its id and generation, about 250
// bytes when stored.
type grant struct {
	client, subject, scope string
	keyID                  int64
	rotatedAt              int64 // milliseconds since 1970
}

// A day in milliseconds, the unit of every time column.
const day = 24 * 60 * 60 * 1000

const (
	columns = `
	client TEXT NOT NULL,
	subject TEXT NOT NULL,
	scope TEXT NOT NULL,
	generation INTEGER NOT NULL,
	key_id INTEGER NOT NULL,
	rotated_at INTEGER NOT NULL,
	expires_at INTEGER NOT NULL,
	access_expires_at INTEGER NOT NULL,
	revoked_at INTEGER NOT NULL`

	insertSQL = `INSERT INTO grants (id, client, subject, scope, generation, key_id, rotated_at, expires_at, access_expires_at, revoked_at)
		VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6, ?7, ?8, 0)`

	rotateSQL = `UPDATE grants SET generation = generation + 1, rotated_at = ?3, expires_at = ?4, access_expires_at = ?5
		WHERE id = ?1 AND generation = ?2 AND revoked_at = 0 AND expires_at > ?3`
)

// layout is a way to store the table.
type layout struct{ Name, Create string }

var layouts = []layout{
	{"rowid + index", "CREATE TABLE grants (id BLOB NOT NULL PRIMARY KEY," + columns + ")"},
	{"WITHOUT ROWID", "CREATE TABLE grants (id BLOB NOT NULL PRIMARY KEY," + columns + ") WITHOUT ROWID"},
}

// driver names a SQLite driver and opens one connection to a file.
type driver struct {
	name string
	open func(path string) (engine, error)
}

// settings are the storage choices that the benchmark compares.
type settings struct {
	PageSize       int // bytes
	Autocheckpoint int // pages
	Cache          int // KiB; SQLite's own default is 2000
	Layout         layout
}

// create opens a new database with the settings and proves that they took.
func create(d driver, path string, s settings) (engine, error) {
	e, err := d.open(path)
	if err != nil {
		return nil, err
	}
	if err := configure(e, s); err != nil {
		e.close()
		return nil, fmt.Errorf("%s: %w", d.name, err)
	}
	return e, nil
}

func configure(e engine, s settings) error {
	for _, sql := range []string{
		fmt.Sprintf("PRAGMA page_size=%d", s.PageSize),
		"PRAGMA synchronous=FULL",
		fmt.Sprintf("PRAGMA cache_size=-%d", s.Cache),
		s.Layout.Create,
	} {
		if err := e.exec(sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	// These two answer a row, so they go the way of a query.
	if _, err := e.scalar("PRAGMA journal_mode=WAL"); err != nil {
		return err
	}
	if _, err := e.scalar(fmt.Sprintf("PRAGMA wal_autocheckpoint=%d", s.Autocheckpoint)); err != nil {
		return err
	}
	for name, want := range map[string]string{
		"journal_mode":       "wal",
		"synchronous":        "2", // FULL
		"page_size":          fmt.Sprint(s.PageSize),
		"wal_autocheckpoint": fmt.Sprint(s.Autocheckpoint),
	} {
		got, err := e.scalar("PRAGMA " + name)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("PRAGMA %s is %q, not %q", name, got, want)
		}
	}
	return e.prepare()
}
