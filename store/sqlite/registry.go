package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/column"
	driver "zombiezen.com/go/sqlite"
)

// table says where documents of one kind are kept. What is kept beside one goes
// with it: forget, which may be "".
type table struct{ get, put, remove, forget, list string }

func clients() table {
	return table{
		get:    "SELECT doc FROM clients WHERE id = ?",
		put:    "INSERT INTO clients (id, doc) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET doc = excluded.doc",
		remove: "DELETE FROM clients WHERE id = ?",
		forget: forgetUses,
		list:   "SELECT doc FROM clients WHERE id > ? ORDER BY id LIMIT ?",
	}
}

func users() table {
	return table{
		get:    "SELECT doc FROM users WHERE username = ?",
		put:    "INSERT INTO users (username, doc) VALUES (?, ?) ON CONFLICT (username) DO UPDATE SET doc = excluded.doc",
		remove: "DELETE FROM users WHERE username = ?",
		list:   "SELECT doc FROM users WHERE username > ? ORDER BY username LIMIT ?",
	}
}

// Client implements [issuer.Registry].
func (db *DB) Client(ctx context.Context, id string) (issuer.Client, error) {
	return get[issuer.Client](ctx, db, clients(), id)
}

// PutClient implements [issuer.Registry].
func (db *DB) PutClient(ctx context.Context, client issuer.Client, event issuer.Event) error {
	return put(ctx, db, clients(), client.ID, client, event)
}

// DeleteClient implements [issuer.Registry].
func (db *DB) DeleteClient(ctx context.Context, id string, event issuer.Event) error {
	return db.remove(ctx, clients(), id, event)
}

// RehashClient implements [issuer.Registry].
func (db *DB) RehashClient(ctx context.Context, id string, old, verifier secret.Verifier, event issuer.Event) (bool, error) {
	return db.rehash(ctx, clients(), id, event, func(doc string) (string, error) { return column.RehashClient(doc, old, verifier) })
}

// Clients implements [issuer.Lists].
func (db *DB) Clients(ctx context.Context, after string, limit int) ([]issuer.Client, error) {
	return list[issuer.Client](ctx, db, clients(), after, limit)
}

// User implements [issuer.Registry].
func (db *DB) User(ctx context.Context, username string) (issuer.User, error) {
	return get[issuer.User](ctx, db, users(), username)
}

// PutUser implements [issuer.Registry].
func (db *DB) PutUser(ctx context.Context, user issuer.User, event issuer.Event) error {
	return put(ctx, db, users(), user.Username, user, event)
}

// DeleteUser implements [issuer.Registry].
func (db *DB) DeleteUser(ctx context.Context, username string, event issuer.Event) error {
	return db.remove(ctx, users(), username, event)
}

// RehashUser implements [issuer.Registry].
func (db *DB) RehashUser(ctx context.Context, username string, old, verifier secret.Verifier, event issuer.Event) (bool, error) {
	return db.rehash(ctx, users(), username, event, func(doc string) (string, error) { return column.RehashUser(doc, old, verifier) })
}

// Users implements [issuer.Lists].
func (db *DB) Users(ctx context.Context, after string, limit int) ([]issuer.User, error) {
	return list[issuer.User](ctx, db, users(), after, limit)
}

func get[T any](ctx context.Context, db *DB, t table, key string) (document T, err error) {
	found := false
	err = db.readers.do(ctx, func(conn *driver.Conn) error {
		return run(conn, t.get, func(stmt *driver.Stmt) error {
			found = true
			return decode(stmt, &document)
		}, key)
	})
	if err == nil && !found {
		err = issuer.ErrNotFound
	}
	return document, err
}

func list[T any](ctx context.Context, db *DB, t table, after string, limit int) (documents []T, err error) {
	err = db.readers.scan(ctx, func(conn *driver.Conn) error {
		return run(conn, t.list, func(stmt *driver.Stmt) error {
			var document T
			err := decode(stmt, &document)
			documents = append(documents, document)
			return err
		}, after, column.Capped(limit))
	})
	return documents, err
}

func put[T any](ctx context.Context, db *DB, t table, key string, document T, event issuer.Event) error {
	doc, err := json.Marshal(document)
	if err != nil {
		return fmt.Errorf("sqlite: %q cannot be stored: %w", key, err)
	}
	return db.writer.do(ctx, whole(func(conn *driver.Conn) error {
		if err := run(conn, t.put, nil, key, string(doc)); err != nil {
			return err
		}
		return insertEvent(conn, event)
	}))
}

func (db *DB) remove(ctx context.Context, t table, key string, event issuer.Event) error {
	return db.writer.do(ctx, whole(func(conn *driver.Conn) error {
		if err := run(conn, t.remove, nil, key); err != nil {
			return err
		}
		if conn.Changes() == 0 {
			return issuer.ErrNotFound
		}
		if t.forget != "" {
			if err := run(conn, t.forget, nil, key); err != nil {
				return err
			}
		}
		return insertEvent(conn, event)
	}))
}

// rehash changes a document, unless change gives "".
func (db *DB) rehash(ctx context.Context, t table, key string, event issuer.Event, change func(doc string) (string, error)) (bool, error) {
	return db.when(ctx, func(conn *driver.Conn) (bool, error) {
		docs, err := texts(conn, t.get, key)
		if err != nil {
			return false, err
		}
		if len(docs) == 0 {
			return false, issuer.ErrNotFound
		}
		doc, err := change(docs[0])
		if err != nil || doc == "" {
			return false, err
		}
		if err := run(conn, t.put, nil, key, doc); err != nil {
			return false, err
		}
		return true, insertEvent(conn, event)
	})
}

func decode(stmt *driver.Stmt, document any) error {
	if err := json.NewDecoder(stmt.ColumnReader(0)).Decode(document); err != nil {
		return fmt.Errorf("sqlite: damaged document: %w", err)
	}
	return nil
}

// Keys implements [secret.KeyStore].
func (db *DB) Keys(ctx context.Context) (records []secret.KeyRecord, err error) {
	err = db.readers.do(ctx, func(conn *driver.Conn) (err error) {
		records, err = readKeys(conn)
		return err
	})
	return records, err
}

// KeysIn reads the keys of a database file that nobody has opened, without
// changing it, so that a wrong root key can be refused before anything is
// written. There are none where there is no file, or an empty one.
func KeysIn(path string) (records []secret.KeyRecord, err error) {
	if file, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || err == nil && file.Size() == 0 {
		return nil, nil
	}
	conn, err := driver.OpenConn(path, driver.OpenReadOnly)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", path, explain(err))
	}
	version, err := schemaVersion(conn)
	if err == nil && version > 0 {
		records, err = readKeys(conn)
	}
	if err = errors.Join(err, conn.Close()); err != nil {
		return nil, fmt.Errorf("database %s: %w", path, explain(err))
	}
	return records, nil
}

func readKeys(conn *driver.Conn) (records []secret.KeyRecord, err error) {
	const query = "SELECT id, root, created_at, active_from, sealed_rsa FROM keys ORDER BY id"
	err = run(conn, query, func(stmt *driver.Stmt) error {
		records = append(records, secret.KeyRecord{
			ID:         uint32(stmt.ColumnInt64(0)),
			Root:       stmt.ColumnText(1),
			CreatedAt:  column.Time(stmt.ColumnInt64(2)),
			ActiveFrom: column.Time(stmt.ColumnInt64(3)),
			SealedRSA:  blob(stmt, 4),
		})
		return nil
	})
	return records, err
}

// AddKey implements [secret.KeyStore].
func (db *DB) AddKey(ctx context.Context, record secret.KeyRecord) error {
	const query = "INSERT INTO keys (id, root, created_at, active_from, sealed_rsa) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
	var sealed any // NULL unless there is one
	if record.SealedRSA != nil {
		sealed = record.SealedRSA
	}
	return db.writer.do(ctx, func(conn *driver.Conn) error {
		err := run(conn, query, nil, record.ID, record.Root, column.Millis(record.CreatedAt), column.Millis(record.ActiveFrom), sealed)
		if err == nil && conn.Changes() == 0 {
			return secret.ErrKeyExists
		}
		return err
	})
}

// DeleteKey implements [secret.KeyStore]. What may be sealed under a key are the
// tokens of connections and the answers in the journal.
func (db *DB) DeleteKey(ctx context.Context, id uint32) error {
	const sealed = `SELECT EXISTS (SELECT 1 FROM connections WHERE key_id = ?1 AND key_id > 0)
		OR EXISTS (SELECT 1 FROM journal WHERE answer_key = ?1 AND answer_key > 0)`
	return db.writer.do(ctx, func(conn *driver.Conn) error {
		used, err := number(conn, sealed, id)
		if err == nil && used != 0 {
			err = secret.ErrKeyInUse
		}
		if err != nil {
			return err
		}
		return run(conn, "DELETE FROM keys WHERE id = ?", nil, id)
	})
}
