package postgres

import (
	"context"
	"fmt"
)

// Version is the layout of a database, 0 for an empty one, and the one that this
// release knows. Nothing is changed. The error wraps [ErrNotOurs] or [ErrNewer]
// where the database is not for this program.
func Version(ctx context.Context, url string) (version, known int, err error) {
	known = len(migrations())
	err = look(ctx, url, func(ctx context.Context, s session) error {
		version, err = schemaVersion(ctx, s, known)
		return err
	})
	return version, known, err
}

// Sessions counts the sessions of evergrant at a database, those that a pooler
// keeps for it among them.
func Sessions(ctx context.Context, url string) (n int, err error) {
	const query = `SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid()
		AND datname = current_database() AND usename = current_user AND application_name = current_setting('application_name')`
	err = look(ctx, url, func(ctx context.Context, s session) error { return s.QueryRow(ctx, query).Scan(&n) })
	return n, err
}

// look reads a database that is not open, and may not be ours.
func look(ctx context.Context, url string, f func(ctx context.Context, s session) error) error {
	address, err := ParseAddress(url)
	if err != nil {
		return err
	}
	pool, err := connect(ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	db := &DB{address: address, pool: pool, deadline: defaultDeadline}
	if err := db.read(ctx, f); err != nil {
		return fmt.Errorf("database %s: %w", address, db.explain(err))
	}
	return nil
}
