package main

import "zombiezen.com/go/sqlite"

type zombiezen struct {
	conn                                       *sqlite.Conn
	beginStmt, commitStmt, insertStmt, rotStmt *sqlite.Stmt
}

func openZombiezen(path string) (engine, error) {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite, sqlite.OpenCreate)
	if err != nil {
		return nil, err
	}
	return &zombiezen{conn: conn}, nil
}

func (z *zombiezen) exec(sql string) error {
	stmt, _, err := z.conn.PrepareTransient(sql)
	if err != nil {
		return err
	}
	defer stmt.Finalize()
	_, err = stmt.Step()
	return err
}

func (z *zombiezen) scalar(sql string) (string, error) {
	stmt, _, err := z.conn.PrepareTransient(sql)
	if err != nil {
		return "", err
	}
	defer stmt.Finalize()
	if _, err := stmt.Step(); err != nil {
		return "", err
	}
	return stmt.ColumnText(0), nil
}

func (z *zombiezen) prepare() error {
	for sql, stmt := range map[string]**sqlite.Stmt{
		"BEGIN IMMEDIATE": &z.beginStmt, "COMMIT": &z.commitStmt, insertSQL: &z.insertStmt, rotateSQL: &z.rotStmt,
	} {
		var err error
		if *stmt, err = z.conn.Prepare(sql); err != nil {
			return err
		}
	}
	return nil
}

// run steps a statement that answers no rows and makes it ready for the next use.
func (z *zombiezen) run(stmt *sqlite.Stmt) error {
	if _, err := stmt.Step(); err != nil {
		return err
	}
	return stmt.Reset()
}

func (z *zombiezen) begin() error  { return z.run(z.beginStmt) }
func (z *zombiezen) commit() error { return z.run(z.commitStmt) }

func (z *zombiezen) insert(id []byte, g grant) error {
	s := z.insertStmt
	s.BindBytes(1, id)
	s.BindText(2, g.client)
	s.BindText(3, g.subject)
	s.BindText(4, g.scope)
	s.BindInt64(5, g.keyID)
	s.BindInt64(6, g.rotatedAt)
	s.BindInt64(7, g.rotatedAt+14*day)
	s.BindInt64(8, g.rotatedAt+day/24)
	return z.run(s)
}

func (z *zombiezen) rotate(id []byte, generation, now int64) (bool, error) {
	s := z.rotStmt
	s.BindBytes(1, id)
	s.BindInt64(2, generation)
	s.BindInt64(3, now)
	s.BindInt64(4, now+14*day)
	s.BindInt64(5, now+day/24)
	if err := z.run(s); err != nil {
		return false, err
	}
	return z.conn.Changes() == 1, nil
}

func (z *zombiezen) close() error { return z.conn.Close() }
