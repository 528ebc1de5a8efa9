package sqlite

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/store/column"
	driver "zombiezen.com/go/sqlite"
)

const (
	// heldProviders and heldKeys jump through an index from one value to the next.
	heldProviders = `WITH RECURSIVE held (name) AS (SELECT min(provider) FROM connections
		UNION ALL SELECT (SELECT min(provider) FROM connections WHERE provider > name) FROM held WHERE name IS NOT NULL)
		SELECT name FROM held WHERE name IS NOT NULL`
	heldKeys = `WITH RECURSIVE held (key) AS (SELECT 0
		UNION ALL SELECT (SELECT min(key_id) FROM connections WHERE key_id > key) FROM held WHERE key < ?1)
		SELECT key FROM held WHERE key > 0 AND key < ?1`

	dueConnections = `SELECT id, provider, tenant, owner, due_at FROM connections CROSS JOIN journal ON connection = number
		WHERE provider = ?1 AND due_at > 0 AND due_at <= ?2 AND lease_until <= ?2 ORDER BY due_at, id LIMIT ?3`
	staleTokens  = "SELECT id FROM connections WHERE key_id = ?1 AND id > ?2 ORDER BY id LIMIT ?3"
	staleAnswers = `SELECT id FROM journal CROSS JOIN connections ON number = connection
		WHERE answer_key > 0 AND answer_key < ?1 AND id > ?2 ORDER BY id LIMIT ?3`
	countConnections = "SELECT provider, state, count(*) FROM connections GROUP BY provider, state"
)

// Due implements [keeper.ConnectionStore].
func (k Keeper) Due(ctx context.Context, at time.Time, limit int, providers ...string) (due []keeper.Due, err error) {
	err = k.db.readers.scan(ctx, func(conn *driver.Conn) (err error) {
		if len(providers) == 0 {
			if providers, err = texts(conn, heldProviders); err != nil {
				return err
			}
		}
		var runs [][]any
		for _, name := range slices.Compact(slices.Sorted(slices.Values(providers))) {
			runs = append(runs, []any{name, at, limit})
		}
		due, err = merged(conn, dueConnections, runs, limit, func(stmt *driver.Stmt) (keeper.Due, error) {
			row := columns{stmt: stmt}
			return keeper.Due{ID: row.text(), Provider: row.text(), Tenant: row.text(), Owner: row.text(), DueAt: row.time()}, nil
		}, func(a, b keeper.Due) int { return cmp.Or(a.DueAt.Compare(b.DueAt), cmp.Compare(a.ID, b.ID)) })
		return err
	})
	return due, err
}

// Stale implements [keeper.ConnectionStore].
func (k Keeper) Stale(ctx context.Context, key uint32, after string, limit int) (ids []string, err error) {
	err = k.db.readers.scan(ctx, func(conn *driver.Conn) (err error) {
		if ids, err = texts(conn, staleAnswers, key, after, limit); err != nil {
			return err
		}
		return run(conn, heldKeys, func(stmt *driver.Stmt) error {
			tokens, err := texts(conn, staleTokens, stmt.ColumnInt64(0), after, limit)
			ids = append(ids, tokens...)
			return err
		}, key)
	})
	slices.Sort(ids)
	ids = slices.Compact(ids)
	return ids[:min(len(ids), limit)], err
}

// Connections implements [keeper.Lists].
func (k Keeper) Connections(ctx context.Context, filter keeper.Filter) (connections []keeper.Connection, err error) {
	limit := column.Capped(filter.Limit)
	err = k.db.readers.scan(ctx, func(conn *driver.Conn) error {
		runs, query, err := connectionRuns(conn, filter)
		if err != nil {
			return err
		}
		connections, err = merged(conn, query, runs, limit, func(stmt *driver.Stmt) (c keeper.Connection, err error) {
			_, c, err = scanConnection(stmt)
			return c, err
		}, func(a, b keeper.Connection) int { return cmp.Compare(a.ID, b.ID) })
		return err
	})
	return connections, err
}

// connectionRuns are the query of a list, and its arguments for each run of an
// index that it reads.
func connectionRuns(conn *driver.Conn, filter keeper.Filter) (runs [][]any, query string, err error) {
	var c conditions
	byState := (filter.Provider != "" || filter.State != "") && filter.Owner == "" && (filter.Tenant == nil || *filter.Tenant == "")
	runs = [][]any{nil}
	if byState {
		c.texts = append(c.texts, "provider = ? AND state = ?")
		runs, err = stateRuns(conn, filter)
	}
	if filter.Owner != "" {
		c.add("owner = ? AND owner <> ''", filter.Owner)
	}
	if filter.Tenant != nil && *filter.Tenant != "" {
		c.add("tenant = ? AND tenant <> ''", *filter.Tenant)
	} else if filter.Tenant != nil {
		c.add("tenant = ''")
	}
	if filter.Provider != "" && !byState {
		c.add("provider = ?", filter.Provider)
	}
	if filter.State != "" && !byState {
		c.add("state = ?", string(filter.State))
	}
	c.add("id > ?", filter.After)
	for i := range runs {
		runs[i] = append(append(runs[i], c.args...), column.Capped(filter.Limit))
	}
	return runs, listConnections + c.where() + " ORDER BY id LIMIT ?", err
}

// stateRuns are the runs of connections_provider of one provider or of all, and
// of one state or of all.
func stateRuns(conn *driver.Conn, filter keeper.Filter) (runs [][]any, err error) {
	providers, states := []string{filter.Provider}, []keeper.State{filter.State}
	if filter.Provider == "" {
		providers, err = texts(conn, heldProviders)
	}
	if filter.State == "" {
		states = []keeper.State{keeper.Active, keeper.InDoubt, keeper.Reauthorize, keeper.Paused}
	}
	for _, name := range providers {
		for _, state := range states {
			runs = append(runs, []any{name, string(state)})
		}
	}
	return runs, err
}

// merged reads some runs of an index, each with arguments of its own and each in
// order, and gives the first rows of all together.
func merged[T any](conn *driver.Conn, query string, runs [][]any, limit int, scan func(*driver.Stmt) (T, error), compare func(a, b T) int) (rows []T, err error) {
	for _, args := range runs {
		err := run(conn, query, func(stmt *driver.Stmt) error {
			row, err := scan(stmt)
			rows = append(rows, row)
			return err
		}, args...)
		if err != nil {
			return nil, err
		}
		slices.SortFunc(rows, compare)
		rows = rows[:min(len(rows), limit)]
	}
	return rows, nil
}

// texts are the first column of a query.
func texts(conn *driver.Conn, query string, args ...any) (list []string, err error) {
	err = run(conn, query, func(stmt *driver.Stmt) error {
		list = append(list, stmt.ColumnText(0))
		return nil
	}, args...)
	return list, err
}

// Counts implements [keeper.Lists].
func (k Keeper) Counts(ctx context.Context) (map[string]map[keeper.State]int, error) {
	counts := map[string]map[keeper.State]int{}
	err := k.db.readers.scan(ctx, func(conn *driver.Conn) error {
		return run(conn, countConnections, func(stmt *driver.Stmt) error {
			name := stmt.ColumnText(0)
			if counts[name] == nil {
				counts[name] = map[keeper.State]int{}
			}
			counts[name][keeper.State(stmt.ColumnText(1))] = stmt.ColumnInt(2)
			return nil
		})
	})
	return counts, err
}
