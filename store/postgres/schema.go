package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// schema1 is the first layout: the tables and columns of SQLite's, which hold
// the same (package column). Times are Unix milliseconds, 0 where there is none.
//
// A refresh by a client changes columns of grants that no index covers, and
// finds room on the row's page (fillfactor), so that it is a heap-only update.
// purge_hour is the one column that says when to look at a grant again; only
// purging moves it. The journal's rows are those of connections; lease, intent
// and answer of a refresh at a provider change it alone, heap-only as well.
//
// rotate_grants is the compare-and-set of refreshes. It is a function because its
// plan is kept by the session then, of whoever has it: to plan the statement takes
// as long as to execute it. A plan that was kept since the table was small must be
// good when it is not, so each row is looked up by its id: the settings leave the
// planner no other way, and IS TRUE none by the client, of whom there are few. What
// it gives is a type of its own: a column that a later release adds to grants must
// not change that under a call.
//
// Text is compared bytewise where it is listed in order. Each table's rows are
// found by what begins its primary key, so that tables can be partitioned or
// distributed by it; nothing has a foreign key.
//
// The ids of events come out of a sequence, in which a later number may be
// committed before an earlier one. Whoever reads on by id must not pass over a
// number that is still to come, so each writer shows, as a shared advisory lock
// until its transaction ends, a number that all of its ids are above (events.go).
const schema1 = `
CREATE TABLE grants (
	id                uuid PRIMARY KEY,
	client_id         text COLLATE "C" NOT NULL,
	subject           text COLLATE "C" NOT NULL,
	scope             text NOT NULL,
	generation        bigint NOT NULL,
	key_id            bigint NOT NULL,
	created_at        bigint NOT NULL,
	rotated_at        bigint NOT NULL,
	expires_at        bigint NOT NULL,
	ends_at           bigint NOT NULL,
	access_expires_at bigint NOT NULL,
	revoked_at        bigint NOT NULL,
	revoked_cause     text NOT NULL,
	retries           bigint NOT NULL,
	purge_hour        bigint NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX grants_purge ON grants (purge_hour, id);
CREATE INDEX grants_client ON grants (client_id, id);
CREATE INDEX grants_subject ON grants (subject, id);

CREATE TYPE rotated_grant AS (
	id uuid, client_id text, subject text, scope text, generation bigint, key_id bigint, created_at bigint, rotated_at bigint,
	expires_at bigint, ends_at bigint, access_expires_at bigint, revoked_at bigint, revoked_cause text, retries bigint
);
CREATE FUNCTION rotate_grants(ids uuid[], clients text[], was bigint[], becomes bigint[], keys bigint[], ats bigint[], expiries bigint[],
		access_expiries bigint[]) RETURNS SETOF rotated_grant LANGUAGE plpgsql
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
	RETURN QUERY UPDATE grants SET generation = r.becomes, key_id = r.key_id, rotated_at = r.at,
		expires_at = CASE WHEN r.expires_at = 0 OR grants.ends_at > 0 AND grants.ends_at < r.expires_at
			THEN grants.ends_at ELSE r.expires_at END,
		access_expires_at = CASE WHEN r.access_expires_at = 0 OR grants.ends_at > 0 AND grants.ends_at < r.access_expires_at
			THEN grants.ends_at ELSE r.access_expires_at END
		FROM unnest(ids, clients, was, becomes, keys, ats, expiries, access_expiries)
			AS r (id, client_id, was, becomes, key_id, at, expires_at, access_expires_at)
		WHERE grants.id = r.id AND (grants.client_id = r.client_id) IS TRUE AND grants.generation = r.was AND grants.revoked_at = 0
			AND (grants.expires_at = 0 OR grants.expires_at > r.at) AND (grants.ends_at = 0 OR grants.ends_at > r.at)
		RETURNING grants.id, grants.client_id, grants.subject, grants.scope, grants.generation, grants.key_id, grants.created_at, grants.rotated_at,
			grants.expires_at, grants.ends_at, grants.access_expires_at, grants.revoked_at, grants.revoked_cause, grants.retries;
END $$;

CREATE TABLE clients (id text COLLATE "C" PRIMARY KEY, doc text NOT NULL);
CREATE TABLE users (username text COLLATE "C" PRIMARY KEY, doc text NOT NULL);

CREATE TABLE revoked_access_tokens (
	jti        text COLLATE "C" PRIMARY KEY,
	expires_at bigint NOT NULL
);
CREATE INDEX revoked_access_tokens_expiry ON revoked_access_tokens (expires_at);

CREATE TABLE keys (
	id          bigint PRIMARY KEY,
	root        text NOT NULL,
	created_at  bigint NOT NULL,
	active_from bigint NOT NULL,
	sealed_rsa  bytea
);

CREATE TABLE connections (
	id                 text COLLATE "C" PRIMARY KEY,
	provider           text COLLATE "C" NOT NULL,
	tenant             text COLLATE "C" NOT NULL,
	owner              text COLLATE "C" NOT NULL,
	state              text NOT NULL,
	cause              text NOT NULL,
	since              bigint NOT NULL,
	background         text NOT NULL,
	params             text NOT NULL,
	metadata           text NOT NULL,
	scope              text NOT NULL,
	asked              text NOT NULL,
	token_type         text NOT NULL,
	generation         bigint NOT NULL,
	issued_at          bigint NOT NULL,
	expires_at         bigint NOT NULL,
	refresh_expires_at bigint NOT NULL,
	ends_at            bigint NOT NULL,
	refreshable        boolean NOT NULL,
	rotates            boolean NOT NULL,
	due_at             bigint NOT NULL,
	attempt            bigint NOT NULL,
	class              text NOT NULL,
	error              text NOT NULL,
	warned_at          bigint NOT NULL,
	created_at         bigint NOT NULL,
	updated_at         bigint NOT NULL,
	key_id             bigint NOT NULL,
	tokens             bytea
);
CREATE INDEX connections_due ON connections (provider, due_at, id) WHERE due_at > 0;
CREATE INDEX connections_provider ON connections (provider, state, id);
CREATE INDEX connections_owner ON connections (owner, id) WHERE owner <> '';
CREATE INDEX connections_tenant ON connections (tenant, id) WHERE tenant <> '';
CREATE INDEX connections_key ON connections (key_id, id);

CREATE TABLE journal (
	connection  text COLLATE "C" PRIMARY KEY,
	fence       bigint NOT NULL,
	lease_until bigint NOT NULL,
	request_id  text,
	kind        text,
	renews      bigint,
	sent_at     bigint,
	deadline    bigint,
	answer_key  bigint,
	answer      bytea
) WITH (fillfactor = 70);
CREATE INDEX journal_key ON journal (answer_key) WHERE answer_key > 0;

CREATE TABLE once (name text COLLATE "C" PRIMARY KEY, until bigint NOT NULL);
CREATE INDEX once_until ON once (until);

CREATE SEQUENCE event_numbers MINVALUE 0 START 0;
SELECT nextval('event_numbers');
CREATE FUNCTION next_event() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_advisory_xact_lock_shared((17782::bigint << 48) + (SELECT last_value FROM event_numbers));
	RETURN nextval('event_numbers');
END $$;
CREATE TABLE events (
	id         bigint PRIMARY KEY DEFAULT next_event(),
	at         bigint NOT NULL,
	type       text COLLATE "C" NOT NULL,
	grant_id   uuid,
	client_id  text NOT NULL,
	subject    text NOT NULL,
	actor      text NOT NULL,
	address    text NOT NULL,
	cause      text NOT NULL,
	detail     text NOT NULL,
	connection text COLLATE "C",
	provider   text COLLATE "C" NOT NULL DEFAULT '',
	tenant     text COLLATE "C" NOT NULL DEFAULT '',
	generation bigint NOT NULL DEFAULT 0,
	class      text NOT NULL DEFAULT ''
);
CREATE INDEX events_at ON events (at);
CREATE INDEX events_grant ON events (grant_id, id) WHERE grant_id IS NOT NULL;
CREATE INDEX events_issuer ON events (id) WHERE connection IS NULL;
CREATE INDEX events_keeper ON events (id) WHERE connection IS NOT NULL;
CREATE INDEX events_connection ON events (connection, id) WHERE connection IS NOT NULL;
CREATE INDEX events_provider ON events (provider, id) WHERE provider <> '';
CREATE INDEX events_tenant ON events (tenant, id) WHERE tenant <> '';

CREATE TABLE planned ("only" integer PRIMARY KEY CHECK ("only" = 1), event bigint NOT NULL);

CREATE TABLE deliveries (
	id         bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	hook       text COLLATE "C" NOT NULL,
	event      bigint NOT NULL,
	type       text NOT NULL,
	body       bytea NOT NULL,
	created_at bigint NOT NULL,
	attempts   bigint NOT NULL,
	next_at    bigint NOT NULL,
	done_at    bigint NOT NULL,
	status     bigint NOT NULL,
	error      text NOT NULL
);
CREATE INDEX deliveries_due ON deliveries (hook, next_at, id) WHERE next_at > 0;
CREATE INDEX deliveries_created ON deliveries (created_at);
`

// schema2 adds what clients rely on, and a rotate_grants that can narrow a grant
// for good. The first one, which has no scopes, stays for processes of the release
// before; all that is said of it holds for both. A scope is in no index, so that a
// step that narrows is heap-only, too.
const schema2 = `
CREATE TABLE habits (
	client_id text COLLATE "C" NOT NULL,
	habit     text COLLATE "C" NOT NULL,
	count     bigint NOT NULL,
	first_at  bigint NOT NULL,
	last_at   bigint NOT NULL,
	PRIMARY KEY (client_id, habit)
);

CREATE FUNCTION rotate_grants(ids uuid[], clients text[], was bigint[], becomes bigint[], keys bigint[], ats bigint[], expiries bigint[],
		access_expiries bigint[], scopes text[]) RETURNS SETOF rotated_grant LANGUAGE plpgsql
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
	RETURN QUERY UPDATE grants SET generation = r.becomes, key_id = r.key_id, rotated_at = r.at,
		expires_at = CASE WHEN r.expires_at = 0 OR grants.ends_at > 0 AND grants.ends_at < r.expires_at
			THEN grants.ends_at ELSE r.expires_at END,
		access_expires_at = CASE WHEN r.access_expires_at = 0 OR grants.ends_at > 0 AND grants.ends_at < r.access_expires_at
			THEN grants.ends_at ELSE r.access_expires_at END,
		scope = coalesce(r.scope, grants.scope)
		FROM unnest(ids, clients, was, becomes, keys, ats, expiries, access_expiries, scopes)
			AS r (id, client_id, was, becomes, key_id, at, expires_at, access_expires_at, scope)
		WHERE grants.id = r.id AND (grants.client_id = r.client_id) IS TRUE AND grants.generation = r.was AND grants.revoked_at = 0
			AND (grants.expires_at = 0 OR grants.expires_at > r.at) AND (grants.ends_at = 0 OR grants.ends_at > r.at)
		RETURNING grants.id, grants.client_id, grants.subject, grants.scope, grants.generation, grants.key_id, grants.created_at, grants.rotated_at,
			grants.expires_at, grants.ends_at, grants.access_expires_at, grants.revoked_at, grants.revoked_cause, grants.retries;
END $$;
`

// migration is one step from an empty database to the present layout.
type migration struct {
	sql string
	// since is the version whose programs can still work on this layout: a step
	// that only adds leaves it, so that old and new processes run side by side
	// while a release is rolled out; what the old ones need is taken away by a later
	// release.
	since int
}

// migrations are the steps; step i leads to version i+1. Released steps are never
// edited.
func migrations() []migration { return []migration{{schema1, 1}, {schema2, 1}} }

// Errors of Open. Their texts say what to do.
var (
	// ErrNotOurs says that the database has tables of something else.
	ErrNotOurs = errors.New("this database has tables, and none is Evergrant's: make an empty one with CREATE DATABASE, or name another")
	// ErrNewer says that a later release has written the database, in a layout
	// that this one does not understand.
	ErrNewer = errors.New("this database was written by a newer release of evergrant: run that release, or restore a backup made by this one")
)

// errNoVersion says that what tells the layout is gone.
var errNoVersion = errors.New("the table evergrant has not one row, as it must: restore a backup")

// migrateKey is the advisory lock of migrations.
const migrateKey = 0x45764772 << 24

const (
	// countTables counts the tables where ours are, and ours of migrations. Those
	// of extensions are nobody's data.
	countTables = `SELECT count(*), count(*) FILTER (WHERE relname = 'evergrant') FROM pg_class
		WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) AND relkind IN ('r', 'p')
		AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e')`
	// createVersion makes the table of one row that says how many migrations the
	// database has seen, and the oldest version whose programs can work on it.
	createVersion = `CREATE TABLE evergrant (version integer NOT NULL, oldest integer NOT NULL, touched bigint NOT NULL);
		INSERT INTO evergrant VALUES (0, 0, 0)`
	// beginMigration lets a migration take its time, but wait neither for another
	// one nor for somebody's long transaction, with all others behind it.
	lockMigration  = "SELECT pg_advisory_xact_lock($1)"
	beginMigration = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '15s'"
)

// migrate brings the database to the present layout, and proves that it can be
// written.
func (db *DB) migrate(ctx context.Context, steps []migration) error {
	var version int
	err := db.run(ctx, func(ctx context.Context, s session) (err error) {
		version, err = schemaVersion(ctx, s, len(steps))
		return err
	})
	if err == nil && version < len(steps) {
		err = db.advance(ctx, steps)
	}
	if err == nil {
		err = db.proven(ctx)
	}
	return db.explain(err)
}

// advance takes the steps that the database has not seen, in one transaction
// under a lock: a crash leaves the layout of before, and of processes that start
// together one migrates while the others wait. Only the commit has a deadline.
func (db *DB) advance(ctx context.Context, steps []migration) error {
	conn, err := db.acquire(ctx)
	if err != nil {
		return err
	}
	err = db.use(ctx, conn, func(ctx context.Context, s session) error {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		if err := take(ctx, tx, steps); err != nil {
			return errors.Join(err, tx.Rollback(ctx))
		}
		ctx, cancel := context.WithTimeout(ctx, db.deadline)
		defer cancel()
		return tx.Commit(ctx)
	})
	if outcomeUnknown(err) {
		err = fmt.Errorf("whether the migration was committed is not known: start again, which goes on from what is there: %w", err)
	}
	return classify(err)
}

// take takes the steps in a transaction. It reads the version under the lock,
// because another process may have migrated meanwhile.
func take(ctx context.Context, tx session, steps []migration) error {
	if _, err := tx.Exec(ctx, beginMigration); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, lockMigration, int64(migrateKey)); err != nil {
		return err
	}
	version, err := schemaVersion(ctx, tx, len(steps))
	if err != nil || version >= len(steps) {
		return err
	}
	if version == 0 {
		if _, err := tx.Exec(ctx, createVersion); err != nil {
			return err
		}
	}
	oldest := 0
	for i, step := range steps {
		oldest = max(oldest, step.since)
		if i < version {
			continue
		}
		if _, err := tx.Exec(ctx, step.sql); err != nil {
			return fmt.Errorf("migration to version %d: %w", i+1, err)
		}
	}
	_, err = tx.Exec(ctx, "UPDATE evergrant SET version = $1, oldest = $2", len(steps), oldest)
	return err
}

// schemaVersion reads how many migrations the database has seen, 0 for an empty
// one. The error is ErrNotOurs or ErrNewer where a program that knows so many
// must not go on.
func schemaVersion(ctx context.Context, s session, known int) (version int, err error) {
	var tables, ours int
	if err := s.QueryRow(ctx, countTables).Scan(&tables, &ours); err != nil || tables == 0 {
		return 0, err
	}
	if ours == 0 {
		return 0, ErrNotOurs
	}
	var oldest int
	err = s.QueryRow(ctx, "SELECT version, oldest FROM evergrant").Scan(&version, &oldest)
	switch {
	case sqlState(err) == undefinedColumn:
		return 0, ErrNotOurs
	case errors.Is(err, pgx.ErrNoRows):
		return 0, errNoVersion
	case err != nil:
		return 0, err
	case oldest > known:
		return 0, fmt.Errorf("schema version %d, this release knows %d: %w", version, known, ErrNewer)
	}
	return version, nil
}

// explain adds to an error of opening what to do about it.
func (db *DB) explain(err error) error {
	role := pgx.Identifier{db.pool.Config().ConnConfig.User}.Sanitize()
	switch sqlState(err) {
	case noPrivilege, noSchema:
		return fmt.Errorf("the role lacks rights: the database's owner runs GRANT USAGE, CREATE ON SCHEMA public TO %[1]s and, where the tables are"+
			" another role's, GRANT ALL ON ALL TABLES IN SCHEMA public TO %[1]s and GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO %[1]s: %[2]w", role, err)
	case readOnly:
		return fmt.Errorf("the database is read-only: name the primary, or all servers and target_session_attrs=read-write: %w", err)
	case lockTimeout:
		return classify(fmt.Errorf("another process migrates the database, or keeps a table locked: start again when it has ended: %w", err))
	}
	return err
}

// touch writes what is there already: it succeeds where any write would.
func touch(ctx context.Context, s session) error {
	tag, err := s.Exec(ctx, "UPDATE evergrant SET touched = touched + 1")
	if err == nil && tag.RowsAffected() != 1 {
		err = errNoVersion
	}
	return err
}
