package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/column"
	"github.com/jackc/pgx/v5"
)

const (
	selectKeys = "SELECT id, root, created_at, active_from, sealed_rsa FROM keys ORDER BY id"
	insertKey  = "INSERT INTO keys (id, root, created_at, active_from, sealed_rsa) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO NOTHING"

	// holdSeals waits until all that is about to seal something has been committed,
	// and keeps the next ones waiting; who waits for long itself lets them pass.
	waitForSeals = "SELECT set_config('lock_timeout', $1, TRUE)"
	holdSeals    = "LOCK TABLE connections, journal IN SHARE MODE"
	keyInUse     = `SELECT EXISTS (SELECT FROM connections WHERE key_id = $1 AND key_id > 0) OR
		EXISTS (SELECT FROM journal WHERE answer_key = $1 AND answer_key > 0)`
)

// Keys implements [secret.KeyStore].
func (db *DB) Keys(ctx context.Context) (records []secret.KeyRecord, err error) {
	err = db.read(ctx, func(ctx context.Context, s session) (err error) {
		records, err = readKeys(ctx, s)
		return err
	})
	return records, err
}

func readKeys(ctx context.Context, s session) ([]secret.KeyRecord, error) {
	return all(ctx, s, selectKeys, nil, func(row pgx.CollectableRow) (r secret.KeyRecord, err error) {
		var created, active int64
		err = row.Scan(&r.ID, &r.Root, &created, &active, &r.SealedRSA)
		r.CreatedAt, r.ActiveFrom = column.Time(created), column.Time(active)
		return r, err
	})
}

// KeysIn reads the keys of a database that is not open, without changing it, so
// that a wrong root key can be refused before anything is written. There are none
// where the database is empty. The error wraps [ErrNotOurs], [ErrNewer] or
// [issuer.ErrUnavailable] as that of [Open] does.
func KeysIn(ctx context.Context, url string) (records []secret.KeyRecord, err error) {
	address, err := ParseAddress(url)
	if err != nil {
		return nil, err
	}
	pool, err := connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	db := &DB{address: address, pool: pool, deadline: defaultDeadline}
	err = db.read(ctx, func(ctx context.Context, s session) error {
		version, err := schemaVersion(ctx, s, len(migrations()))
		if err == nil && version > 0 {
			records, err = readKeys(ctx, s)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", address, db.explain(err))
	}
	return records, nil
}

// AddKey implements [secret.KeyStore].
func (db *DB) AddKey(ctx context.Context, record secret.KeyRecord) error {
	if !storable(record.Root) {
		return errText
	}
	err := db.write(ctx, func(ctx context.Context, s session) error {
		tag, err := s.Exec(ctx, insertKey, record.ID, record.Root, column.Millis(record.CreatedAt), column.Millis(record.ActiveFrom), record.SealedRSA)
		if err == nil && tag.RowsAffected() == 0 {
			err = secret.ErrKeyExists
		}
		return err
	})
	return db.settle(ctx, err, func(ctx context.Context) (bool, error) {
		records, err := db.Keys(ctx)
		return slices.ContainsFunc(records, func(r secret.KeyRecord) bool {
			return r.ID == record.ID && r.Root == record.Root && bytes.Equal(r.SealedRSA, record.SealedRSA) &&
				r.CreatedAt.Equal(column.Stored(record.CreatedAt)) && r.ActiveFrom.Equal(column.Stored(record.ActiveFrom))
		}), err
	})
}

// DeleteKey implements [secret.KeyStore]. What may be sealed under a key are the
// tokens of connections and the answers in the journal.
func (db *DB) DeleteKey(ctx context.Context, id uint32) error {
	err := db.transact(ctx, func(ctx context.Context, s session) error {
		if _, err := s.Exec(ctx, waitForSeals, strconv.FormatInt(db.deadline.Milliseconds()/2, 10)); err != nil {
			return err
		}
		if _, err := s.Exec(ctx, holdSeals); err != nil {
			return err
		}
		var used bool
		if err := s.QueryRow(ctx, keyInUse, id).Scan(&used); err != nil {
			return err
		}
		if used {
			return secret.ErrKeyInUse
		}
		_, err := s.Exec(ctx, "DELETE FROM keys WHERE id = $1", id)
		return err
	})
	return db.settle(ctx, err, func(ctx context.Context) (bool, error) {
		records, err := db.Keys(ctx)
		return !slices.ContainsFunc(records, func(r secret.KeyRecord) bool { return r.ID == id }), err
	})
}
