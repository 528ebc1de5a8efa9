package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/column"
	"github.com/jackc/pgx/v5"
)

// table says where documents of one kind are kept. What changes one takes the
// event first; what an import changes at once does not.
type table struct{ get, put, remove, change, list, getAll, putAll string }

func clients() table {
	return table{
		get: "SELECT doc FROM clients WHERE id = $1",
		put: `WITH step AS (INSERT INTO clients (id, doc) VALUES ($10, $11)
			ON CONFLICT (id) DO UPDATE SET doc = excluded.doc RETURNING id)` + recordStep,
		getAll: "SELECT id, doc FROM clients WHERE id = ANY ($1)",
		putAll: `INSERT INTO clients (id, doc) SELECT name, doc FROM unnest($1::text[], $2::text[]) AS puts (name, doc) ORDER BY name
			ON CONFLICT (id) DO UPDATE SET doc = excluded.doc`,
		remove: `WITH step AS (DELETE FROM clients WHERE id = $10 RETURNING id),
			forgotten AS (DELETE FROM habits USING step WHERE habits.client_id = step.id)` + recordStep,
		change: "WITH step AS (UPDATE clients SET doc = $11 WHERE id = $10 AND doc = $12 RETURNING id)" + recordStep,
		list:   "SELECT doc FROM clients WHERE id > $1 ORDER BY id LIMIT $2",
	}
}

func users() table {
	return table{
		get: "SELECT doc FROM users WHERE username = $1",
		put: `WITH step AS (INSERT INTO users (username, doc) VALUES ($10, $11)
			ON CONFLICT (username) DO UPDATE SET doc = excluded.doc RETURNING username)` + recordStep,
		getAll: "SELECT username, doc FROM users WHERE username = ANY ($1)",
		putAll: `INSERT INTO users (username, doc) SELECT name, doc FROM unnest($1::text[], $2::text[]) AS puts (name, doc) ORDER BY name
			ON CONFLICT (username) DO UPDATE SET doc = excluded.doc`,
		remove: "WITH step AS (DELETE FROM users WHERE username = $10 RETURNING username)" + recordStep,
		change: "WITH step AS (UPDATE users SET doc = $11 WHERE username = $10 AND doc = $12 RETURNING username)" + recordStep,
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
	return db.put(ctx, users(), user.Username, user, event)
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
		stored, err := db.doc(ctx, t, key)
		return stored == string(doc), err
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
		_, err := db.doc(ctx, t, key)
		if errors.Is(err, issuer.ErrNotFound) {
			return true, nil
		}
		return false, err
	})
}

// rehash changes a document if it is still what was read, unless change gives "".
// Where somebody else changed it meanwhile, that is read.
func (db *DB) rehash(ctx context.Context, t table, key string, event issuer.Event, change func(doc string) (string, error)) (bool, error) {
	for {
		old, err := db.doc(ctx, t, key)
		if err != nil {
			return false, err
		}
		doc, err := change(old)
		if err != nil || doc == "" {
			return false, err
		}
		changed, err := db.record(ctx, t.change, eventArgs(event, key, doc, old)...)
		if outcomeUnknown(err) {
			changed, err = 1, db.settle(ctx, err, func(ctx context.Context) (bool, error) {
				stored, err := db.doc(ctx, t, key)
				return stored == doc, err
			})
		}
		if err != nil || changed > 0 {
			return err == nil, err
		}
	}
}

// doc is a document as it is stored, or ErrNotFound.
func (db *DB) doc(ctx context.Context, t table, key string) (doc string, err error) {
	if !storable(key) {
		return "", issuer.ErrNotFound
	}
	err = db.read(ctx, func(ctx context.Context, s session) error {
		err := s.QueryRow(ctx, t.get, key).Scan(&doc)
		if errors.Is(err, pgx.ErrNoRows) {
			return issuer.ErrNotFound
		}
		return err
	})
	return doc, err
}
