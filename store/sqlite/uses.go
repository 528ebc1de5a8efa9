package sqlite

import (
	"context"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/store/column"
	driver "zombiezen.com/go/sqlite"
)

const (
	// countUse counts for clients that there are: a process may have waited with
	// what it counted until one was deleted.
	countUse = `INSERT INTO habits (client_id, habit, count, first_at, last_at) SELECT ?1, ?2, ?3, ?4, ?5
		WHERE EXISTS (SELECT 1 FROM clients WHERE id = ?1)
		ON CONFLICT (client_id, habit) DO UPDATE SET count = count + excluded.count,
			first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at)`
	forgetUses = "DELETE FROM habits WHERE client_id = ?"
)

// CountUses implements [issuer.UseStore].
func (db *DB) CountUses(ctx context.Context, uses []issuer.Use) error {
	return db.writer.do(ctx, whole(func(conn *driver.Conn) error {
		for _, u := range uses {
			if err := run(conn, countUse, nil, u.ClientID, string(u.Habit), u.Count, u.First, u.Last); err != nil {
				return err
			}
		}
		return nil
	}))
}

// ForgetUses implements [issuer.UseStore].
func (db *DB) ForgetUses(ctx context.Context, clientID string) error {
	return db.writer.do(ctx, func(conn *driver.Conn) error { return run(conn, forgetUses, nil, clientID) })
}

// Uses implements [issuer.Lists].
func (db *DB) Uses(ctx context.Context, filter issuer.UseFilter) (uses []issuer.Use, err error) {
	query, args := usesQuery(filter)
	err = db.readers.scan(ctx, func(conn *driver.Conn) error {
		return run(conn, query, func(stmt *driver.Stmt) error {
			uses = append(uses, issuer.Use{
				ClientID: stmt.ColumnText(0), Habit: issuer.Habit(stmt.ColumnText(1)), Count: stmt.ColumnInt64(2),
				First: column.Time(stmt.ColumnInt64(3)), Last: column.Time(stmt.ColumnInt64(4)),
			})
			return nil
		}, args...)
	})
	return uses, err
}

func usesQuery(filter issuer.UseFilter) (string, []any) {
	var c conditions
	if filter.ClientID != "" {
		c.add("client_id = ?", filter.ClientID)
	}
	if filter.AfterClient != "" {
		c.add("(client_id, habit) > (?, ?)", filter.AfterClient, string(filter.AfterHabit))
	}
	return "SELECT client_id, habit, count, first_at, last_at FROM habits" + c.where() + " ORDER BY client_id, habit LIMIT ?",
		append(c.args, column.Capped(filter.Limit))
}
