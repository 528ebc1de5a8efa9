package sqlite

import (
	"context"
	"strings"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/store/column"
	driver "zombiezen.com/go/sqlite"
)

const (
	// historyLength is how many events of a connection are kept.
	historyLength = 100

	keeperColumns     = "connection, provider, tenant, generation, class"
	allColumns        = eventColumns + ", id, " + keeperColumns
	insertKeeperEvent = "INSERT INTO events (" + eventColumns + ", " + keeperColumns + ")" +
		" VALUES (?, ?, NULL, '', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	pruneHistory = `DELETE FROM events WHERE connection = ?1
		AND id <= (SELECT id FROM events WHERE connection = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)`
	rememberOnce = "INSERT INTO once (name, until) VALUES (?1, ?3) ON CONFLICT (name) DO UPDATE SET until = ?3 WHERE until <= ?2"
)

// logEvents appends the keeper's events, and deletes of each connection what is
// beyond its history.
func logEvents(conn *driver.Conn, events ...keeper.Event) error {
	for _, e := range events {
		err := run(conn, insertKeeperEvent, nil, e.At, e.Type, e.Owner, e.Actor, e.Address, string(e.Cause), e.Detail,
			e.Connection, e.Provider, e.Tenant, e.Generation, string(e.Class))
		if err == nil && e.Connection != "" {
			err = run(conn, pruneHistory, nil, e.Connection, historyLength)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// scanKeeperEvent reads allColumns.
func scanKeeperEvent(stmt *driver.Stmt) keeper.Event {
	e := scanEvent(stmt)
	return keeper.Event{
		ID: e.ID, At: e.At, Type: e.Type, Owner: e.Subject, Actor: e.Actor, Address: e.Address, Cause: keeper.Cause(e.Cause), Detail: e.Detail,
		Connection: stmt.ColumnText(10), Provider: stmt.ColumnText(11), Tenant: stmt.ColumnText(12),
		Generation: uint64(stmt.ColumnInt64(13)), Class: provider.Class(stmt.ColumnText(14)),
	}
}

// Record implements [keeper.EventStore].
func (k Keeper) Record(ctx context.Context, event keeper.Event, types ...string) (bool, error) {
	const newest = "SELECT type FROM events WHERE connection = '' AND provider = ? AND type IN ("
	return k.db.when(ctx, func(conn *driver.Conn) (bool, error) {
		if len(types) > 0 {
			args := []any{event.Provider}
			for _, t := range types {
				args = append(args, t)
			}
			last, err := texts(conn, newest+strings.Repeat(", ?", len(types))[2:]+") ORDER BY id DESC LIMIT 1", args...)
			if err != nil || len(last) > 0 && last[0] == event.Type {
				return false, err
			}
		}
		return true, logEvents(conn, event)
	})
}

// Once implements [keeper.EventStore].
func (k Keeper) Once(ctx context.Context, name string, at, until time.Time) (bool, error) {
	return k.db.when(ctx, func(conn *driver.Conn) (bool, error) {
		err := run(conn, rememberOnce, nil, name, at, until)
		return err == nil && conn.Changes() == 1, err
	})
}

// Events implements [keeper.EventStore].
func (k Keeper) Events(ctx context.Context, filter keeper.EventFilter) (events []keeper.Event, err error) {
	query, args := keeperEventsQuery(filter)
	err = k.db.readers.scan(ctx, func(conn *driver.Conn) error {
		return run(conn, query, func(stmt *driver.Stmt) error {
			events = append(events, scanKeeperEvent(stmt))
			return nil
		}, args...)
	})
	return events, err
}

func keeperEventsQuery(filter keeper.EventFilter) (string, []any) {
	var c conditions
	if filter.Connection != "" {
		c.add("connection = ?", filter.Connection)
	}
	if filter.Provider != "" {
		c.add("provider = ? AND provider <> ''", filter.Provider)
	}
	if filter.Tenant != nil && *filter.Tenant != "" {
		c.add("tenant = ? AND tenant <> ''", *filter.Tenant)
	}
	if len(c.texts) == 0 { // no index of the keeper's events alone is used
		c.add("(connection IS NULL) = 0")
	}
	if filter.Tenant != nil && *filter.Tenant == "" {
		c.add("tenant = ''")
	}
	order := " DESC"
	if filter.After != 0 {
		c.add("id > ?", filter.After)
		order = ""
	}
	if filter.Before != 0 {
		c.add("id < ?", filter.Before)
	}
	return "SELECT " + allColumns + " FROM events" + c.where() + " ORDER BY id" + order + " LIMIT ?", append(c.args, column.Capped(filter.Limit))
}
