package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	driver "zombiezen.com/go/sqlite"
)

// Backup writes a copy of the database as it is when Backup begins, while
// others read and write. The copy is a database file without free pages; it
// holds no credential in clear, but names of users and their grants, and tokens
// that whoever has the root key can open. It is first made beside the database,
// with mode 0600, and takes as much room there.
func (db *DB) Backup(ctx context.Context, w io.Writer) error {
	file, err := os.CreateTemp(filepath.Dir(db.path), filepath.Base(db.path)+".backup-*")
	if err != nil {
		return unavailable(err)
	}
	defer os.Remove(file.Name())
	err = db.readers.do(ctx, func(*driver.Conn) error { return vacuumInto(ctx, db.path, file.Name()) })
	if err == nil {
		_, err = io.Copy(w, file)
	}
	return errors.Join(err, file.Close())
}

// vacuumInto copies the database at path to an empty file.
func vacuumInto(ctx context.Context, path, copy string) error {
	conn, err := openConn(path)
	if err != nil {
		return err
	}
	conn.SetInterrupt(ctx.Done())
	err = errors.Join(run(conn, "VACUUM INTO ?", nil, copy), conn.Close())
	if driver.ErrCode(err) == driver.ResultInterrupt {
		return ctx.Err()
	}
	return err
}

// Check reads the whole database and says whether it is sound and of the
// layout that this release knows.
func (db *DB) Check(ctx context.Context) error {
	return db.readers.scan(ctx, func(conn *driver.Conn) error {
		if _, err := schemaVersion(conn); err != nil {
			return err
		}
		var errs []error
		err := run(conn, "PRAGMA integrity_check", func(stmt *driver.Stmt) error {
			if text := stmt.ColumnText(0); text != "ok" {
				errs = append(errs, fmt.Errorf("database %s is damaged, restore a backup: %s", db.path, text))
			}
			return nil
		})
		return errors.Join(append(errs, err)...)
	})
}
