package sqlite

import (
	"context"
	"strings"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/store/column"
	driver "zombiezen.com/go/sqlite"
)

// conditions collects the WHERE clause of a list.
type conditions struct {
	texts []string
	args  []any
}

func (c *conditions) add(text string, args ...any) {
	c.texts, c.args = append(c.texts, text), append(c.args, args...)
}

func (c *conditions) where() string {
	if len(c.texts) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.texts, " AND ")
}

// Grants implements [issuer.Lists].
func (db *DB) Grants(ctx context.Context, filter issuer.GrantFilter) (grants []issuer.Grant, err error) {
	query, args := grantsQuery(filter)
	err = db.readers.scan(ctx, func(conn *driver.Conn) error {
		return run(conn, query, func(stmt *driver.Stmt) error {
			grants = append(grants, scanGrant(stmt))
			return nil
		}, args...)
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
		c.add("id > ?", filter.After[:])
	}
	return "SELECT " + grantColumns + " FROM grants" + c.where() + " ORDER BY id LIMIT ?", append(c.args, column.Capped(filter.Limit))
}

// Events implements [issuer.Lists].
func (db *DB) Events(ctx context.Context, filter issuer.EventFilter) (events []issuer.Event, err error) {
	query, args := eventsQuery(filter)
	err = db.readers.scan(ctx, func(conn *driver.Conn) error {
		return run(conn, query, func(stmt *driver.Stmt) error {
			events = append(events, scanEvent(stmt))
			return nil
		}, args...)
	})
	return events, err
}

func eventsQuery(filter issuer.EventFilter) (string, []any) {
	var c conditions
	if !filter.Grant.IsZero() {
		c.add("grant_id = ?", filter.Grant[:])
	} else {
		c.add("(connection IS NULL) = 1") // the issuer's half
	}
	if filter.ClientID != "" {
		c.add("client_id = ?", filter.ClientID)
	}
	if filter.Subject != "" {
		c.add("subject = ?", filter.Subject)
	}
	if prefix, ok := strings.CutSuffix(filter.Type, "."); ok {
		c.add("type >= ? AND type < ?", filter.Type, prefix+"/") // '/' follows '.'
	} else if filter.Type != "" {
		c.add("type = ?", filter.Type)
	}
	if filter.Before != 0 {
		c.add("id < ?", filter.Before)
	}
	return "SELECT " + eventColumns + ", id FROM events" + c.where() + " ORDER BY id DESC LIMIT ?", append(c.args, column.Capped(filter.Limit))
}

// Stats implements [issuer.Lists].
func (db *DB) Stats(ctx context.Context) (stats issuer.Stats, err error) {
	tables := []string{
		"grants", "clients", "users", "habits", "revoked_access_tokens", "events", "keys",
		"connections", "journal", "once", "planned", "deliveries",
	}
	query := "SELECT (page_count - freelist_count) * page_size"
	for _, table := range tables {
		query += ", (SELECT count(*) FROM " + table + ")"
	}
	query += " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
	stats.Rows = map[string]int64{}
	err = db.readers.scan(ctx, func(conn *driver.Conn) error {
		return run(conn, query, func(stmt *driver.Stmt) error {
			stats.DatabaseBytes = stmt.ColumnInt64(0)
			for i, table := range tables {
				stats.Rows[table] = stmt.ColumnInt64(i + 1)
			}
			return nil
		})
	})
	return stats, err
}
