package postgres

import (
	"context"
	"strconv"
	"strings"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/store/column"
	"github.com/jackc/pgx/v5"
)

// conditions collects the WHERE clause of a list.
type conditions struct {
	texts []string
	args  []any
}

// add adds a condition, in which each ? is the place of an argument.
func (c *conditions) add(text string, args ...any) {
	for _, arg := range args {
		c.args = append(c.args, arg)
		text = strings.Replace(text, "?", "$"+strconv.Itoa(len(c.args)), 1)
	}
	c.texts = append(c.texts, text)
}

// query is a SELECT with the conditions, in an order, of at most limit rows. It
// takes args.
func (c *conditions) query(selected, order string, limit int) string {
	if len(c.texts) > 0 {
		selected += " WHERE " + strings.Join(c.texts, " AND ")
	}
	return selected + " ORDER BY " + order + " LIMIT " + strconv.Itoa(column.Capped(limit))
}

// all are the rows of a query; nil where there are none.
func all[T any](ctx context.Context, s session, query string, args []any, scan pgx.RowToFunc[T]) ([]T, error) {
	rows, err := s.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.AppendRows([]T(nil), rows, scan)
}

// Grants implements [issuer.Lists].
func (db *DB) Grants(ctx context.Context, filter issuer.GrantFilter) (grants []issuer.Grant, err error) {
	if !storable(filter.ClientID, filter.Subject) {
		return nil, nil
	}
	query, args := grantsQuery(filter)
	err = db.read(ctx, func(ctx context.Context, s session) (err error) {
		grants, err = all(ctx, s, query, args, scanGrant)
		return err
	})
	return grants, err
}

func grantsQuery(filter issuer.GrantFilter) (string, []any) {
	var c conditions
	if filter.ClientID != "" {
		c.add("client_id = ?", filter.ClientID)
	}
	if filter.Subject != "" {
		c.add("subject = ?", filter.Subject)
	}
	if !filter.After.IsZero() {
		c.add("id > ?", [16]byte(filter.After))
	}
	return c.query("SELECT "+grantColumns+" FROM grants", "id", filter.Limit), c.args
}

// Events implements [issuer.Lists].
func (db *DB) Events(ctx context.Context, filter issuer.EventFilter) (events []issuer.Event, err error) {
	query, args := eventsQuery(filter)
	err = db.read(ctx, func(ctx context.Context, s session) (err error) {
		events, err = all(ctx, s, query, args, func(row pgx.CollectableRow) (issuer.Event, error) { return scanEvent(row) })
		return err
	})
	return events, err
}

// eventsQuery looks for texts as events keep them.
func eventsQuery(filter issuer.EventFilter) (string, []any) {
	c := conditions{texts: []string{"connection IS NULL"}} // the issuer's half
	if !filter.Grant.IsZero() {
		c.add("grant_id = ?", [16]byte(filter.Grant))
	}
	if filter.ClientID != "" {
		c.add("client_id = ?", clean(filter.ClientID))
	}
	if filter.Subject != "" {
		c.add("subject = ?", clean(filter.Subject))
	}
	if prefix, ok := strings.CutSuffix(filter.Type, "."); ok {
		c.add("type >= ? AND type < ?", clean(filter.Type), clean(prefix)+"/") // '/' follows '.'
	} else if filter.Type != "" {
		c.add("type = ?", clean(filter.Type))
	}
	if filter.Before != 0 {
		c.add("id < ?", filter.Before)
	}
	return c.query("SELECT "+eventColumns+", id FROM events", "id DESC", filter.Limit), c.args
}
