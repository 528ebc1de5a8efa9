package postgres

import (
	"context"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/store/column"
	"github.com/jackc/pgx/v5"
)

const (
	// countUses counts for clients that there are: a process may have waited with
	// what it counted until one was deleted. All go in one order, so that two
	// processes do not wait for each other in a circle.
	countUses = `INSERT INTO habits (client_id, habit, count, first_at, last_at)
		SELECT u.client_id, u.habit, sum(u.count), min(u.first_at), max(u.last_at)
		FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[]) AS u (client_id, habit, count, first_at, last_at)
		WHERE EXISTS (SELECT FROM clients WHERE id = u.client_id)
		GROUP BY u.client_id, u.habit ORDER BY u.client_id, u.habit
		ON CONFLICT (client_id, habit) DO UPDATE SET count = habits.count + excluded.count,
			first_at = least(habits.first_at, excluded.first_at), last_at = greatest(habits.last_at, excluded.last_at)`
	forgetUses = "DELETE FROM habits WHERE client_id = $1"
)

// CountUses implements [issuer.UseStore]. Where the outcome is not known, what is
// counted again may be counted twice.
func (db *DB) CountUses(ctx context.Context, uses []issuer.Use) error {
	var clients, habits []string
	var counts, first, last []int64
	for _, u := range uses {
		if !storable(u.ClientID, string(u.Habit)) {
			return errText
		}
		clients, habits = append(clients, u.ClientID), append(habits, string(u.Habit))
		counts, first, last = append(counts, u.Count), append(first, column.Millis(u.First)), append(last, column.Millis(u.Last))
	}
	return db.write(ctx, func(ctx context.Context, s session) error {
		_, err := s.Exec(ctx, countUses, clients, habits, counts, first, last)
		return err
	})
}

// ForgetUses implements [issuer.UseStore].
func (db *DB) ForgetUses(ctx context.Context, clientID string) error {
	if !storable(clientID) {
		return nil
	}
	return db.write(ctx, func(ctx context.Context, s session) error {
		_, err := s.Exec(ctx, forgetUses, clientID)
		return err
	})
}

// Uses implements [issuer.Lists].
func (db *DB) Uses(ctx context.Context, filter issuer.UseFilter) (uses []issuer.Use, err error) {
	if !storable(filter.ClientID, filter.AfterClient, string(filter.AfterHabit)) {
		return nil, nil
	}
	query, args := usesQuery(filter)
	err = db.read(ctx, func(ctx context.Context, s session) (err error) {
		uses, err = all(ctx, s, query, args, func(row pgx.CollectableRow) (u issuer.Use, err error) {
			var first, last int64
			err = row.Scan(&u.ClientID, (*string)(&u.Habit), &u.Count, &first, &last)
			u.First, u.Last = column.Time(first), column.Time(last)
			return u, err
		})
		return err
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
	return c.query("SELECT client_id, habit, count, first_at, last_at FROM habits", "client_id, habit", filter.Limit), c.args
}
