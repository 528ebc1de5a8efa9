package main

import (
	"context"
	"database/sql"

	_ "modernc.org/sqlite"
)

// viaSQL is a driver behind database/sql, held to one pinned connection with
// prepared statements: the cheapest way to use that interface.
type viaSQL struct {
	db                                         *sql.DB
	conn                                       *sql.Conn
	beginStmt, commitStmt, insertStmt, rotStmt *sql.Stmt
}

func openModernc(path string) (engine, error) { return openSQL("sqlite", path) }

func openSQL(driverName, path string) (engine, error) {
	db, err := sql.Open(driverName, path)
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(context.Background())
	if err != nil {
		db.Close()
		return nil, err
	}
	return &viaSQL{db: db, conn: conn}, nil
}

func (v *viaSQL) exec(sql string) error {
	_, err := v.conn.ExecContext(context.Background(), sql)
	return err
}

func (v *viaSQL) scalar(sql string) (string, error) {
	rows, err := v.conn.QueryContext(context.Background(), sql)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return "", err
	}
	if !rows.Next() {
		return "", rows.Err()
	}
	var value string
	values := make([]any, len(names))
	for i := range values {
		values[i] = new(any)
	}
	values[0] = &value
	if err := rows.Scan(values...); err != nil {
		return "", err
	}
	return value, rows.Err()
}

func (v *viaSQL) prepare() error {
	for text, stmt := range map[string]**sql.Stmt{
		"BEGIN IMMEDIATE": &v.beginStmt, "COMMIT": &v.commitStmt, insertSQL: &v.insertStmt, rotateSQL: &v.rotStmt,
	} {
		var err error
		if *stmt, err = v.conn.PrepareContext(context.Background(), text); err != nil {
			return err
		}
	}
	return nil
}

func (v *viaSQL) begin() error {
	_, err := v.beginStmt.Exec()
	return err
}

func (v *viaSQL) commit() error {
	_, err := v.commitStmt.Exec()
	return err
}

func (v *viaSQL) insert(id []byte, g grant) error {
	_, err := v.insertStmt.Exec(id, g.client, g.subject, g.scope, g.keyID, g.rotatedAt, g.rotatedAt+14*day, g.rotatedAt+day/24)
	return err
}

func (v *viaSQL) rotate(id []byte, generation, now int64) (bool, error) {
	result, err := v.rotStmt.Exec(id, generation, now, now+14*day, now+day/24)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

func (v *viaSQL) close() error {
	v.conn.Close()
	return v.db.Close()
}
