package main

import "github.com/ncruces/go-sqlite3"

// ncruces uses the native interface of ncruces/go-sqlite3: its database/sql
// driver would want the name that mattn's driver registers.
type ncruces struct {
	conn                                       *sqlite3.Conn
	beginStmt, commitStmt, insertStmt, rotStmt *sqlite3.Stmt
}

func openNcruces(path string) (engine, error) {
	conn, err := sqlite3.Open(path)
	if err != nil {
		return nil, err
	}
	return &ncruces{conn: conn}, nil
}

func (n *ncruces) exec(sql string) error { return n.conn.Exec(sql) }

func (n *ncruces) scalar(sql string) (string, error) {
	stmt, _, err := n.conn.Prepare(sql)
	if err != nil {
		return "", err
	}
	defer stmt.Close()
	if !stmt.Step() {
		return "", stmt.Err()
	}
	return stmt.ColumnText(0), nil
}

func (n *ncruces) prepare() error {
	for sql, stmt := range map[string]**sqlite3.Stmt{
		"BEGIN IMMEDIATE": &n.beginStmt, "COMMIT": &n.commitStmt, insertSQL: &n.insertStmt, rotateSQL: &n.rotStmt,
	} {
		var err error
		if *stmt, _, err = n.conn.Prepare(sql); err != nil {
			return err
		}
	}
	return nil
}

func (n *ncruces) begin() error  { return n.beginStmt.Exec() }
func (n *ncruces) commit() error { return n.commitStmt.Exec() }

func (n *ncruces) insert(id []byte, g grant) error {
	s := n.insertStmt
	if err := s.BindBlob(1, id); err != nil {
		return err
	}
	for i, text := range []string{g.client, g.subject, g.scope} {
		if err := s.BindText(2+i, text); err != nil {
			return err
		}
	}
	if err := n.bindInts(s, 5, g.keyID, g.rotatedAt, g.rotatedAt+14*day, g.rotatedAt+day/24); err != nil {
		return err
	}
	return s.Exec()
}

func (n *ncruces) rotate(id []byte, generation, now int64) (bool, error) {
	s := n.rotStmt
	if err := s.BindBlob(1, id); err != nil {
		return false, err
	}
	if err := n.bindInts(s, 2, generation, now, now+14*day, now+day/24); err != nil {
		return false, err
	}
	if err := s.Exec(); err != nil {
		return false, err
	}
	return n.conn.Changes() == 1, nil
}

func (n *ncruces) bindInts(s *sqlite3.Stmt, first int, values ...int64) error {
	for i, v := range values {
		if err := s.BindInt64(first+i, v); err != nil {
			return err
		}
	}
	return nil
}

func (n *ncruces) close() error {
	for _, s := range []*sqlite3.Stmt{n.beginStmt, n.commitStmt, n.insertStmt, n.rotStmt} {
		s.Close()
	}
	return n.conn.Close()
}
