package postgres

import (
	"context"
	"strconv"
	"strings"

	"github.com/evergrant/evergrant/issuer"
)

// countTo is up to how many rows of a table are counted one by one.
const countTo = 10_000

// statistics gives the bytes of all tables, and the rows of each: exactly up to
// countTo, and beyond as many as PostgreSQL estimates, which is what the last
// vacuum or analyze found on a page times the pages that there are.
func statistics(tables []string) string {
	const rows = `, (SELECT CASE WHEN n > :max THEN greatest(n,
			(SELECT reltuples / greatest(relpages, 1) * (pg_relation_size(oid) / current_setting('block_size')::bigint) FROM pg_class WHERE oid = ':table'::regclass)::bigint)
		ELSE n END FROM (SELECT count(*) AS n FROM (SELECT FROM :table LIMIT :max + 1) AS first) AS counted)`
	query := "SELECT (SELECT sum(pg_total_relation_size(name::regclass))::bigint FROM unnest($1::text[]) AS name)"
	for _, table := range tables {
		query += strings.NewReplacer(":table", table, ":max", strconv.Itoa(countTo)).Replace(rows)
	}
	return query
}

// Stats implements [issuer.Lists]. Rows of tables that have more than 10,000 are
// estimated. The bytes are those of the tables and their indexes, with the room
// in them that is free.
func (db *DB) Stats(ctx context.Context) (stats issuer.Stats, err error) {
	tables := []string{
		"grants", "clients", "users", "habits", "revoked_access_tokens", "events", "keys",
		"connections", "journal", "once", "planned", "deliveries",
	}
	counts := make([]int64, len(tables))
	into := []any{&stats.DatabaseBytes}
	for i := range counts {
		into = append(into, &counts[i])
	}
	err = db.read(ctx, func(ctx context.Context, s session) error {
		return s.QueryRow(ctx, statistics(tables), tables).Scan(into...)
	})
	if err != nil {
		return issuer.Stats{}, err
	}
	stats.Rows = map[string]int64{}
	for i, table := range tables {
		stats.Rows[table] = counts[i]
	}
	return stats, nil
}
