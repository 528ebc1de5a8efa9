package postgres

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/store/column"
	"github.com/jackc/pgx/v5"
)

// What stands in one index in several runs, each in order, is read run by run,
// of each no more than is asked for, and then put into one order. A run is
// written as a range of the index, in the index's order: given an equality and
// the order of ids alone, the planner may walk all ids and pick.
const (
	// heldProviders and heldKeys jump through an index from one value to the next.
	heldProviders = `WITH RECURSIVE held (name) AS (SELECT min(provider) FROM connections
			UNION ALL SELECT (SELECT min(provider) FROM connections WHERE provider > name) FROM held WHERE name IS NOT NULL)
		SELECT name FROM held WHERE name IS NOT NULL`
	heldKeys = `WITH RECURSIVE held (key) AS (SELECT 0::bigint
			UNION ALL SELECT (SELECT min(key_id) FROM connections WHERE key_id > key) FROM held WHERE key < $1)
		SELECT key FROM held WHERE key > 0 AND key < $1`

	// dueConnections takes providers, or none for all, a time, and a limit.
	dueConnections = "SELECT due.* FROM (SELECT unnest($1::text[]) AS name UNION ALL SELECT name FROM (" + heldProviders + `) AS known
			WHERE cardinality($1::text[]) = 0) AS names,
		LATERAL (SELECT id, provider, tenant, owner, due_at` + bothTables + `
			WHERE provider = names.name AND due_at > 0 AND due_at <= $2 AND lease_until <= $2 ORDER BY due_at, id LIMIT $3) AS due
		ORDER BY due_at, id LIMIT $3`
	// staleConnections takes a key, an id and a limit. Answers are few.
	staleConnections = "SELECT run.id FROM (" + heldKeys + `) AS keys,
			LATERAL (SELECT id FROM connections WHERE (key_id, id) > (keys.key, $2) AND key_id <= keys.key ORDER BY key_id, id LIMIT $3) AS run
		UNION SELECT connection FROM journal WHERE answer_key > 0 AND answer_key < $1 AND connection > $2
		ORDER BY id LIMIT $3`
	countConnections = "SELECT provider, state, count(*) FROM connections GROUP BY provider, state"
)

// Due implements [keeper.ConnectionStore].
func (k Keeper) Due(ctx context.Context, at time.Time, limit int, providers ...string) (due []keeper.Due, err error) {
	names := slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(providers))), func(name string) bool { return !storable(name) })
	if len(names) == 0 && len(providers) > 0 {
		return nil, nil
	}
	args := []any{append([]string{}, names...), column.Millis(at), int64(limit)}
	err = k.db.read(ctx, func(ctx context.Context, s session) (err error) {
		due, err = all(ctx, s, dueConnections, args, func(row pgx.CollectableRow) (d keeper.Due, err error) {
			var dueAt int64
			err = row.Scan(&d.ID, &d.Provider, &d.Tenant, &d.Owner, &dueAt)
			d.DueAt = column.Time(dueAt)
			return d, err
		})
		return err
	})
	return due, err
}

// Stale implements [keeper.ConnectionStore].
func (k Keeper) Stale(ctx context.Context, key uint32, after string, limit int) (ids []string, err error) {
	err = k.db.read(ctx, func(ctx context.Context, s session) (err error) {
		ids, err = all(ctx, s, staleConnections, []any{int64(key), clean(after), int64(limit)}, pgx.RowTo[string])
		return err
	})
	return ids, err
}

// Connections implements [keeper.Lists].
func (k Keeper) Connections(ctx context.Context, filter keeper.Filter) (connections []keeper.Connection, err error) {
	if filter.Tenant != nil && !storable(*filter.Tenant) || !storable(filter.Provider, filter.Owner, string(filter.State), filter.After) {
		return nil, nil
	}
	query, args := connectionsQuery(filter)
	err = k.db.read(ctx, func(ctx context.Context, s session) (err error) {
		connections, err = all(ctx, s, query, args, scanConnection)
		return err
	})
	return connections, err
}

func connectionsQuery(filter keeper.Filter) (string, []any) {
	var c conditions
	ofTenant := filter.Tenant != nil && *filter.Tenant != ""
	switch {
	case filter.Owner != "" && ofTenant:
		c.add("tenant = ?", *filter.Tenant)
	case filter.Tenant != nil && !ofTenant:
		c.add("tenant = ''")
	}
	order := "id"
	switch {
	case filter.Owner != "":
		order = c.run("owner", filter.Owner, filter.After)
	case ofTenant:
		order = c.run("tenant", *filter.Tenant, filter.After)
	case filter.Provider != "" || filter.State != "":
		return c.stateRuns(filter)
	default:
		c.add("id > ?", filter.After)
	}
	if filter.Provider != "" {
		c.add("provider = ?", filter.Provider)
	}
	if filter.State != "" {
		c.add("state = ?", string(filter.State))
	}
	return c.query(listConnections, order, filter.Limit), c.args
}

// run chooses one run of an index whose first column is not empty and whose
// second is the id, after an id, and gives its order.
func (c *conditions) run(column, value, after string) (order string) {
	c.add("("+column+", id) > (?, ?) AND "+column+" <= ? AND "+column+" <> ''", value, after, value)
	return column + ", id"
}

// stateRuns is the query of a list by provider, by state or by both: of each
// provider and state the index has one run.
func (c *conditions) stateRuns(filter keeper.Filter) (string, []any) {
	names, states := "("+heldProviders+")", "unnest(ARRAY ['"+strings.Join([]string{
		string(keeper.Active), string(keeper.InDoubt), string(keeper.Reauthorize), string(keeper.Paused),
	}, "', '")+"'])"
	given := func(value string) string {
		c.args = append(c.args, value)
		return "(SELECT $" + strconv.Itoa(len(c.args)) + "::text)"
	}
	if filter.Provider != "" {
		names = given(filter.Provider)
	}
	if filter.State != "" {
		states = given(string(filter.State))
	}
	c.add("(provider, state, id) > (names.name, states.state, ?) AND (provider, state) <= (names.name, states.state)", filter.After)
	var merged conditions
	return merged.query("SELECT run.* FROM "+names+" AS names (name), "+states+" AS states (state), LATERAL ("+
		c.query(listConnections, "provider, state, id", filter.Limit)+") AS run", "id", filter.Limit), c.args
}

// Counts implements [keeper.Lists].
func (k Keeper) Counts(ctx context.Context) (map[string]map[keeper.State]int, error) {
	counts := map[string]map[keeper.State]int{}
	err := k.db.read(ctx, func(ctx context.Context, s session) error {
		rows, err := s.Query(ctx, countConnections)
		if err != nil {
			return err
		}
		clear(counts) // it may be tried again
		var name, state string
		var count int
		_, err = pgx.ForEachRow(rows, []any{&name, &state, &count}, func() error {
			if counts[name] == nil {
				counts[name] = map[keeper.State]int{}
			}
			counts[name][keeper.State(state)] = count
			return nil
		})
		return err
	})
	return counts, err
}
