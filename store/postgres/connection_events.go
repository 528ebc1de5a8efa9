package postgres

import (
	"cmp"
	"context"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/store/column"
	"github.com/jackc/pgx/v5"
)

const (
	keeperColumns = "connection, provider, tenant, generation, class"
	allColumns    = eventColumns + ", id, " + keeperColumns

	// logEvents stores events, in their order, for a statement that held the row of
	// a connection ($1), and deletes of that one what is beyond its newest 100.
	// keeperEventArgs are $3 to $14.
	logEvents = `, logged AS (INSERT INTO events (at, type, client_id, subject, actor, address, cause, detail, ` + keeperColumns + `)
			SELECT e.at, e.type, '', e.owner, e.actor, e.address, e.cause, e.detail, e.connection, e.provider, e.tenant, e.generation, e.class
			FROM held, unnest($3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
				$10::text[], $11::text[], $12::text[], $13::bigint[], $14::text[]) WITH ORDINALITY
				AS e (at, type, owner, actor, address, cause, detail, connection, provider, tenant, generation, class, number)
			ORDER BY e.number),
		pruned AS (DELETE FROM events WHERE connection = $1 AND $1 <> '' AND cardinality($3::bigint[]) > 0 AND EXISTS (SELECT FROM held)
			AND id <= (SELECT id FROM events WHERE connection = $1 ORDER BY id DESC LIMIT 1 OFFSET greatest(0, 100 - cardinality($3::bigint[]))))`

	// recordEvent stores an event where the newest one of a provider ($15) that is
	// of one of the types ($2) is not of its own. It looks among the events of no
	// connection, which are few: the index of providers has all that connections
	// went through as well.
	recordEvent = `WITH held AS (SELECT WHERE cardinality($2::text[]) = 0 OR ($4::text[])[1] IS DISTINCT FROM (SELECT type FROM events
			WHERE connection = '' AND provider || '' = $15 AND type = ANY ($2::text[]) ORDER BY id DESC LIMIT 1))` + logEvents + holdsRow
	// lockAlarms lets one process at a time look for a provider's newest alarm and
	// record another.
	lockAlarms = "SELECT pg_advisory_xact_lock(17782, $1::integer)"

	rememberOnce = "INSERT INTO once (name, until) VALUES ($1, $3) ON CONFLICT (name) DO UPDATE SET until = $3 WHERE once.until <= $2"
)

// keeperEventArgs are the arguments of logEvents: a column of all events each.
func keeperEventArgs(events []keeper.Event) []any {
	n := len(events)
	at, generations := make([]int64, n), make([]int64, n)
	var texts [10][]string
	for i := range texts {
		texts[i] = make([]string, n)
	}
	for i, e := range events {
		at[i], generations[i] = column.Millis(e.At), int64(e.Generation)
		for j, text := range [...]string{e.Type, e.Owner, e.Actor, e.Address, string(e.Cause), e.Detail, e.Connection, e.Provider, e.Tenant, string(e.Class)} {
			texts[j][i] = clean(text)
		}
	}
	return []any{at, texts[0], texts[1], texts[2], texts[3], texts[4], texts[5], texts[6], texts[7], texts[8], generations, texts[9]}
}

// scanKeeperEvent reads allColumns.
func scanKeeperEvent(row pgx.CollectableRow) (k keeper.Event, err error) {
	var generation int64
	e, err := scanEvent(row, &k.Connection, &k.Provider, &k.Tenant, &generation, (*string)(&k.Class))
	k.ID, k.At, k.Type, k.Owner, k.Actor, k.Address, k.Detail = e.ID, e.At, e.Type, e.Subject, e.Actor, e.Address, e.Detail
	k.Cause, k.Generation = keeper.Cause(e.Cause), uint64(generation)
	return k, err
}

// Record implements [keeper.EventStore].
func (k Keeper) Record(ctx context.Context, event keeper.Event, types ...string) (did bool, err error) {
	among := make([]string, len(types))
	for i, t := range types {
		among[i] = clean(t)
	}
	name := clean(event.Provider)
	args := append([]any{clean(event.Connection), among}, keeperEventArgs([]keeper.Event{event})...)
	record := func(ctx context.Context, s session) error {
		return s.QueryRow(ctx, recordEvent, append(args, name)...).Scan(&did)
	}
	if len(types) == 0 {
		err = k.db.write(ctx, record)
	} else {
		err = k.db.transact(ctx, func(ctx context.Context, s session) error {
			if _, err := s.Exec(ctx, lockAlarms, int32(crc32.ChecksumIEEE([]byte(name)))); err != nil {
				return err
			}
			return record(ctx, s) // a statement of its own, which sees what the one before has recorded
		})
	}
	if did = did && err == nil; did {
		k.db.happened()
	}
	return did, orUnproven(err)
}

// Once implements [keeper.EventStore].
func (k Keeper) Once(ctx context.Context, name string, at, until time.Time) (isNew bool, err error) {
	err = k.db.write(ctx, func(ctx context.Context, s session) error {
		tag, err := s.Exec(ctx, rememberOnce, clean(name), column.Millis(at), column.Millis(until))
		isNew = tag.RowsAffected() == 1
		return err
	})
	return isNew && err == nil, orUnproven(err)
}

// Events implements [keeper.EventStore].
func (k Keeper) Events(ctx context.Context, filter keeper.EventFilter) (events []keeper.Event, err error) {
	query, args := keeperEventsQuery(filter)
	err = k.db.read(ctx, func(ctx context.Context, s session) (err error) {
		events, err = all(ctx, s, query, args, scanKeeperEvent)
		return err
	})
	return events, err
}

// keeperEventsQuery looks for texts as events keep them. What chooses first is
// read as one run of an index (connection_lists.go).
func keeperEventsQuery(filter keeper.EventFilter) (string, []any) {
	var c conditions
	order, edge, run := " DESC", cmp.Or(filter.Before, math.MaxInt64), "(%[1]s, id) < (?, ?) AND %[1]s >= ?"
	if filter.After != 0 {
		order, edge, run = "", filter.After, "(%[1]s, id) > (?, ?) AND %[1]s <= ?"
		c.add("id < ?", cmp.Or(filter.Before, math.MaxInt64))
	}
	by := ""
	choose := func(column, value string) {
		switch {
		case value == "":
		case by == "":
			by = column + order + ", "
			c.add(fmt.Sprintf(run+" AND %[1]s <> ''", column), value, edge, value)
		default:
			c.add(column+" = ?", value)
		}
	}
	choose("connection", clean(filter.Connection))
	choose("provider", clean(filter.Provider))
	if filter.Tenant != nil {
		choose("tenant", clean(*filter.Tenant))
	}
	if by == "" { // none of these, and the keeper's half is read
		c.add("connection IS NOT NULL AND id > ? AND id < ?", filter.After, cmp.Or(filter.Before, math.MaxInt64))
	}
	if filter.Tenant != nil && *filter.Tenant == "" {
		c.add("tenant = ''")
	}
	return c.query("SELECT "+allColumns+" FROM events", by+"id"+order, filter.Limit), c.args
}
