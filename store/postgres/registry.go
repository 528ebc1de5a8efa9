package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/store/column"
	"github.com/jackc/pgx/v5"
)

// table says where documents of one kind are kept. What changes one takes the
// event first.
type table struct{ get, put, remove, list string }

func clients() table {
	return table{
		get: "SELECT doc FROM clients WHERE id = $1",
		put: `WITH step AS (INSERT INTO clients (id, doc) VALUES ($10, $11)
			ON CONFLICT (id) DO UPDATE SET doc = excluded.doc RETURNING id)` + recordStep,
		remove: "WITH step AS (DELETE FROM clients WHERE id = $10 RETURNING id)" + recordStep,
		list:   "SELECT doc FROM clients WHERE id > $1 ORDER BY id LIMIT $2",
	}
}

func users() table {
	return table{
		get: "SELECT doc FROM users WHERE username = $1",
		put: `WITH step AS (INSERT INTO users (username, doc) VALUES ($10, $11)
			ON CONFLICT (username) DO UPDATE SET doc = excluded.doc RETURNING username)` + recordStep,
		remove: "WITH step AS (DELETE FROM users WHERE username = $10 RETURNING username)" + recordStep,
		list:   "SELECT doc FROM users WHERE username > $1 ORDER BY username LIMIT $2",
	}
}

// Client implements [issuer.Registry].
func (db *DB) Client(ctx context.Context, id string) (issuer.Client, error) {
	return get[issuer.Client](ctx, db, clients(), id)
}

// PutClient implements [issuer.Registry].
func (db *DB) PutClient(ctx context.Context, client issuer.Client, event issuer.Event) error {
	return db.put(ctx, clients(), client.ID, client, event)
}

// DeleteClient implements [issuer.Registry].
func (db *DB) DeleteClient(ctx context.Context, id string, event issuer.Event) error {
	return db.remove(ctx, clients(), id, event)
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
	return db.put(ctx, users(), user.Username, user, event)
}

// DeleteUser implements [issuer.Registry].
func (db *DB) DeleteUser(ctx context.Context, username string, event issuer.Event) error {
	return db.remove(ctx, users(), username, event)
}

// Users implements [issuer.Lists].
func (db *DB) Users(ctx context.Context, after string, limit int) ([]issuer.User, error) {
	return list[issuer.User](ctx, db, users(), after, limit)
}

func get[T any](ctx context.Context, db *DB, t table, key string) (document T, err error) {
	found, err := documents[T](ctx, db, t.get, key)
	if err == nil && len(found) == 0 {
		err = issuer.ErrNotFound
	}
	if err != nil {
		return document, err
	}
	return found[0], nil
}

func list[T any](ctx context.Context, db *DB, t table, after string, limit int) ([]T, error) {
	return documents[T](ctx, db, t.list, after, column.Capped(limit))
}

// documents are those that a query gives for a key, and more arguments.
func documents[T any](ctx context.Context, db *DB, query, key string, more ...any) (found []T, err error) {
	if !storable(key) {
		return nil, nil
	}
	err = db.read(ctx, func(ctx context.Context, s session) (err error) {
		found, err = all(ctx, s, query, append([]any{key}, more...), func(row pgx.CollectableRow) (document T, err error) {
			var doc []byte
			if err := row.Scan(&doc); err != nil {
				return document, err
			}
			if err := json.Unmarshal(doc, &document); err != nil {
				return document, fmt.Errorf("postgres: damaged document: %w", err)
			}
			return document, nil
		})
		return err
	})
	return found, err
}

func (db *DB) put(ctx context.Context, t table, key string, document any, event issuer.Event) error {
	if !storable(key) {
		return errText
	}
	doc, err := json.Marshal(document)
	if err != nil {
		return fmt.Errorf("postgres: %q cannot be stored: %w", key, err)
	}
	_, err = db.record(ctx, t.put, eventArgs(event, key, string(doc))...)
	return db.settle(ctx, err, func(ctx context.Context) (bool, error) {
		stored, err := documents[json.RawMessage](ctx, db, t.get, key)
		return len(stored) > 0 && string(stored[0]) == string(doc), err
	})
}

func (db *DB) remove(ctx context.Context, t table, key string, event issuer.Event) error {
	if !storable(key) {
		return issuer.ErrNotFound
	}
	removed, err := db.record(ctx, t.remove, eventArgs(event, key)...)
	if err == nil && removed == 0 {
		return issuer.ErrNotFound
	}
	return db.settle(ctx, err, func(ctx context.Context) (bool, error) {
		stored, err := documents[json.RawMessage](ctx, db, t.get, key)
		return len(stored) == 0, err
	})
}
