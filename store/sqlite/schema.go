package sqlite

import (
	"errors"
	"fmt"

	driver "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// applicationID marks the file as ours (bytes 68 to 71 of its header): "EvGr".
const applicationID = 0x45764772

// schema1 is the first layout. Times are Unix milliseconds, 0 where there is
// none.
//
// A refresh changes columns of grants that no index covers, so that it rewrites
// one row in place and nothing else. purge_hour is the one column that says when
// to look at a grant again; only purging moves it. The two other indexes hold
// the id as well, so that pages of a listing come out in order.
//
// grants keeps its rowid: with small pages a WITHOUT ROWID table would spill
// every row to overflow pages, four times the size.
const schema1 = `
CREATE TABLE grants (
	id                BLOB PRIMARY KEY NOT NULL,
	client_id         TEXT NOT NULL,
	subject           TEXT NOT NULL,
	scope             TEXT NOT NULL,
	generation        INTEGER NOT NULL,
	key_id            INTEGER NOT NULL,
	created_at        INTEGER NOT NULL,
	rotated_at        INTEGER NOT NULL,
	expires_at        INTEGER NOT NULL,
	ends_at           INTEGER NOT NULL,
	access_expires_at INTEGER NOT NULL,
	revoked_at        INTEGER NOT NULL,
	revoked_cause     TEXT NOT NULL,
	retries           INTEGER NOT NULL,
	purge_hour        INTEGER NOT NULL
) STRICT;
CREATE INDEX grants_purge ON grants (purge_hour);
CREATE INDEX grants_client ON grants (client_id, id);
CREATE INDEX grants_subject ON grants (subject, id);

CREATE TABLE clients (id TEXT PRIMARY KEY NOT NULL, doc TEXT NOT NULL) STRICT;
CREATE TABLE users (username TEXT PRIMARY KEY NOT NULL, doc TEXT NOT NULL) STRICT;

CREATE TABLE revoked_access_tokens (
	jti        TEXT PRIMARY KEY NOT NULL,
	expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX revoked_access_tokens_expiry ON revoked_access_tokens (expires_at);

CREATE TABLE events (
	id        INTEGER PRIMARY KEY AUTOINCREMENT,
	at        INTEGER NOT NULL,
	type      TEXT NOT NULL,
	grant_id  BLOB,
	client_id TEXT NOT NULL,
	subject   TEXT NOT NULL,
	actor     TEXT NOT NULL,
	address   TEXT NOT NULL,
	cause     TEXT NOT NULL,
	detail    TEXT NOT NULL
) STRICT;
CREATE INDEX events_grant ON events (grant_id) WHERE grant_id IS NOT NULL;
CREATE INDEX events_at ON events (at);

CREATE TABLE keys (
	id          INTEGER PRIMARY KEY,
	root        TEXT NOT NULL,
	created_at  INTEGER NOT NULL,
	active_from INTEGER NOT NULL,
	sealed_rsa  BLOB
) STRICT;
`

// schema2 adds the keeper's and the webhooks' tables.
//
// A refresh at a provider is four durable writes. The first three, lease, intent
// and answer, change the row of the journal alone, which is small until the
// answer comes; the tokens, which may fill pages of their own, are written by the
// commit alone. What a commit does not change stands in no other index than
// connections_due. The journal's rows are those of connections by number, which
// VACUUM keeps because it has a name.
//
// connections_provider begins with the provider and then has one run of ids for
// each of the few states: lists by provider, by state or by both read such runs
// and merge them, as does what is due by provider and what is sealed by key.
//
// The keeper's events have a connection, ” where they are of a provider, and
// the issuer's have none; events_half has the ids of each half in order. Their
// owner is the subject.
const schema2 = `
CREATE TABLE connections (
	number             INTEGER PRIMARY KEY,
	id                 TEXT NOT NULL UNIQUE,
	provider           TEXT NOT NULL,
	tenant             TEXT NOT NULL,
	owner              TEXT NOT NULL,
	state              TEXT NOT NULL,
	cause              TEXT NOT NULL,
	since              INTEGER NOT NULL,
	background         TEXT NOT NULL,
	params             TEXT NOT NULL,
	metadata           TEXT NOT NULL,
	scope              TEXT NOT NULL,
	asked              TEXT NOT NULL,
	token_type         TEXT NOT NULL,
	generation         INTEGER NOT NULL,
	issued_at          INTEGER NOT NULL,
	expires_at         INTEGER NOT NULL,
	refresh_expires_at INTEGER NOT NULL,
	ends_at            INTEGER NOT NULL,
	refreshable        INTEGER NOT NULL,
	rotates            INTEGER NOT NULL,
	due_at             INTEGER NOT NULL,
	attempt            INTEGER NOT NULL,
	class              TEXT NOT NULL,
	error              TEXT NOT NULL,
	warned_at          INTEGER NOT NULL,
	created_at         INTEGER NOT NULL,
	updated_at         INTEGER NOT NULL,
	key_id             INTEGER NOT NULL,
	tokens             BLOB
) STRICT;
CREATE INDEX connections_due ON connections (provider, due_at, id) WHERE due_at > 0;
CREATE INDEX connections_provider ON connections (provider, state, id);
CREATE INDEX connections_owner ON connections (owner, id) WHERE owner <> '';
CREATE INDEX connections_tenant ON connections (tenant, id) WHERE tenant <> '';
CREATE INDEX connections_key ON connections (key_id, id);

CREATE TABLE journal (
	connection  INTEGER PRIMARY KEY,
	fence       INTEGER NOT NULL,
	lease_until INTEGER NOT NULL,
	request_id  TEXT,
	kind        TEXT,
	renews      INTEGER,
	sent_at     INTEGER,
	deadline    INTEGER,
	answer_key  INTEGER,
	answer      BLOB
) STRICT;
CREATE INDEX journal_key ON journal (answer_key) WHERE answer_key > 0;

CREATE TABLE once (name TEXT PRIMARY KEY NOT NULL, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX once_until ON once (until);

ALTER TABLE events ADD COLUMN connection TEXT;
ALTER TABLE events ADD COLUMN provider TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN tenant TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE events ADD COLUMN class TEXT NOT NULL DEFAULT '';
CREATE INDEX events_half ON events ((connection IS NULL));
CREATE INDEX events_connection ON events (connection) WHERE connection IS NOT NULL;
CREATE INDEX events_provider ON events (provider) WHERE provider <> '';
CREATE INDEX events_tenant ON events (tenant) WHERE tenant <> '';

CREATE TABLE planned (
	only  INTEGER PRIMARY KEY CHECK (only = 1),
	event INTEGER NOT NULL
) STRICT;

CREATE TABLE deliveries (
	id         INTEGER PRIMARY KEY AUTOINCREMENT,
	hook       TEXT NOT NULL,
	event      INTEGER NOT NULL,
	type       TEXT NOT NULL,
	body       BLOB NOT NULL,
	created_at INTEGER NOT NULL,
	attempts   INTEGER NOT NULL,
	next_at    INTEGER NOT NULL,
	done_at    INTEGER NOT NULL,
	status     INTEGER NOT NULL,
	error      TEXT NOT NULL
) STRICT;
CREATE INDEX deliveries_due ON deliveries (hook, next_at) WHERE next_at > 0;
CREATE INDEX deliveries_created ON deliveries (created_at);
`

// schema3 adds what clients rely on.
const schema3 = `
CREATE TABLE habits (
	client_id TEXT NOT NULL,
	habit     TEXT NOT NULL,
	count     INTEGER NOT NULL,
	first_at  INTEGER NOT NULL,
	last_at   INTEGER NOT NULL,
	PRIMARY KEY (client_id, habit)
) STRICT, WITHOUT ROWID;
`

// migrations are the steps from an empty file to the present layout; step i
// leads to version i+1. Released steps are never edited.
func migrations() []string { return []string{schema1, schema2, schema3} }

// Errors of Open and Check. Their texts say what to do.
var (
	// ErrNotOurs says that the file is something else than our database.
	ErrNotOurs = errors.New("this file is not an Evergrant database: name another path, or move the file away")
	// ErrNewer says that a later release has written the database.
	ErrNewer = errors.New("this database was written by a newer release of evergrant: run that release, or restore a backup made by this one")
)

// migrate brings the database to the present layout.
func migrate(conn *driver.Conn) error {
	for {
		version, err := schemaVersion(conn)
		if err != nil || version == len(migrations()) {
			return err
		}
		if err := transaction(conn, func() error { return advance(conn) }); err != nil {
			return fmt.Errorf("migration from version %d: %w", version, err)
		}
	}
}

// advance makes one step, in a transaction that also moves the version number:
// a crash leaves a version from which the next start goes on. It reads the
// version again, because another process may have migrated meanwhile.
func advance(conn *driver.Conn) error {
	version, err := schemaVersion(conn)
	if err != nil || version == len(migrations()) {
		return err
	}
	if err := sqlitex.ExecuteScript(conn, migrations()[version], nil); err != nil {
		return err
	}
	if err := run(conn, fmt.Sprintf("PRAGMA application_id = %d", applicationID), nil); err != nil {
		return err
	}
	return run(conn, fmt.Sprintf("PRAGMA user_version = %d", version+1), nil)
}

// schemaVersion reads how many migrations the file has seen, 0 for an empty
// one. The error is ErrNotOurs or ErrNewer where this program must not go on.
func schemaVersion(conn *driver.Conn) (int, error) {
	application, err := number(conn, "PRAGMA application_id")
	if err != nil {
		return 0, err
	}
	version, err := number(conn, "PRAGMA user_version")
	if err != nil {
		return 0, err
	}
	tables, err := number(conn, "SELECT count(*) FROM sqlite_schema")
	switch {
	case err != nil:
		return 0, err
	case application != applicationID && (application != 0 || version != 0 || tables != 0):
		return 0, ErrNotOurs
	case version > int64(len(migrations())):
		return 0, fmt.Errorf("schema version %d, this release knows %d: %w", version, len(migrations()), ErrNewer)
	}
	return int(version), nil
}

// touch writes what is there already: it succeeds where any write would.
func touch(conn *driver.Conn) error {
	return run(conn, fmt.Sprintf("PRAGMA user_version = %d", len(migrations())), nil)
}

// transaction runs f between BEGIN IMMEDIATE and COMMIT, or ROLLBACK where f
// fails.
func transaction(conn *driver.Conn, f func() error) error {
	if err := run(conn, "BEGIN IMMEDIATE", nil); err != nil {
		return err
	}
	err := f()
	if err == nil {
		err = run(conn, "COMMIT", nil)
	}
	if err != nil && !conn.AutocommitEnabled() {
		return errors.Join(err, run(conn, "ROLLBACK", nil))
	}
	return err
}
