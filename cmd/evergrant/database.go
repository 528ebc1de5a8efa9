package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/postgres"
	"github.com/evergrant/evergrant/store/sqlite"
)

// database is what a server keeps everything in: SQLite in its data directory,
// or PostgreSQL, which any number of servers share.
type database interface {
	issuer.Store
	issuer.Lists
	hook.Store
	// connections is the keeper's half.
	connections() connections
	// Restored prepares a restored copy, see sqlite.DB.
	Restored(ctx context.Context, now time.Time) ([]string, error)
	// Ready says what keeps the database from being written.
	Ready(ctx context.Context) error
	// Backup writes a copy.
	Backup(ctx context.Context, w io.Writer) error
	Close() error
}

// connections is what the keeper and its API read and write.
type connections interface {
	keeper.Store
	keeper.Lists
}

type sqliteDatabase struct{ *sqlite.DB }

func (d sqliteDatabase) connections() connections { return d.Keeper() }

type postgresDatabase struct{ *postgres.DB }

func (d postgresDatabase) connections() connections { return d.Keeper() }

// Backup refuses: whoever asks as the operator is told before what to do, see
// withoutBackup.
func (postgresDatabase) Backup(context.Context, io.Writer) error {
	return errors.New("PostgreSQL is backed up with its own tools")
}

// databaseAddress is where PostgreSQL is. The zero value is SQLite in the data
// directory. It prints and marshals without user and password.
type databaseAddress struct {
	url          secret.Text
	withPassword bool
	postgres.Address
}

// schemes of the URLs of PostgreSQL.
const scheme, longScheme = "postgres://", "postgresql://"

const nextDatabase = `write for example "postgres://evergrant:${PASSWORD}@db.example.com/evergrant", with %2F for a / in the password, or delete the key for the embedded SQLite`

// parseDatabase reads a URL or a connection string. No error shows any of it.
func parseDatabase(url secret.Text) (databaseAddress, error) {
	text := url.Reveal()
	isURL := strings.HasPrefix(text, scheme) || strings.HasPrefix(text, longScheme)
	if !isURL && (strings.Contains(text, "://") || !strings.Contains(text, "=")) {
		return databaseAddress{}, errors.New("database is neither a URL that begins with " + scheme + " nor a connection string of PostgreSQL")
	}
	parsed, err := postgres.ParseAddress(text)
	if err != nil {
		return databaseAddress{}, err
	}
	user, _, _ := strings.Cut(text, "@")
	_, user, _ = strings.Cut(user, "://")
	with := strings.Contains(strings.ToLower(text), "password") || isURL && strings.Contains(text, "@") && strings.Contains(user, ":")
	return databaseAddress{url, with, parsed}, nil
}

// IsZero reports whether the database is SQLite in the data directory.
func (a databaseAddress) IsZero() bool { return a.url.Empty() }

// String names the database; it is empty for SQLite.
func (a databaseAddress) String() string {
	if a.IsZero() {
		return ""
	}
	return a.Address.String()
}

// MarshalText is String.
func (a databaseAddress) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

func (c *config) sqlitePath() string { return filepath.Join(c.DataDir, databaseName) }

// clockSkew is how far the clocks of servers on one database may differ. SQLite's
// are on one machine.
func (c *config) clockSkew() time.Duration {
	if c.Database.IsZero() {
		return 0
	}
	return 10 * time.Second
}

// place tells people where the database is.
func (c *config) place() string { return orText(c.Database.String(), c.sqlitePath()) }

// keysIn reads the keys of the database without changing anything.
func (c *config) keysIn(ctx context.Context) ([]secret.KeyRecord, error) {
	if c.Database.IsZero() {
		keys, err := sqlite.KeysIn(c.sqlitePath())
		return keys, c.unusable(err)
	}
	keys, err := postgres.KeysIn(ctx, c.Database.url.Reveal())
	return keys, c.unusable(err)
}

// notMoved refuses an empty PostgreSQL where the data directory has a SQLite
// database: whoever begins anew by mistake logs everybody out.
func (c *config) notMoved(keys []secret.KeyRecord) error {
	if c.Database.IsZero() || len(keys) > 0 {
		return nil
	}
	if left, err := sqlite.KeysIn(c.sqlitePath()); err == nil && len(left) == 0 {
		return nil
	}
	return &failure{
		what: c.Database.String() + " is empty, and there is a database in the data directory: " + c.sqlitePath(),
		next: "copy it with `evergrant migrate --from sqlite:" + c.sqlitePath() + "` and the same --config, or move it away to begin anew; nothing was changed",
	}
}

// openDatabase opens the database, and brings it to the present layout.
func (c *config) openDatabase(ctx context.Context, log *slog.Logger) (database, error) {
	if c.Database.IsZero() {
		db, err := sqlite.Open(ctx, c.sqlitePath(), sqlite.Options{Log: log})
		if err != nil {
			return nil, c.unusable(err)
		}
		return sqliteDatabase{db}, nil
	}
	db, err := postgres.Open(ctx, c.Database.url.Reveal(), postgres.Options{Log: log})
	if err != nil {
		return nil, c.unusable(err)
	}
	return postgresDatabase{db}, nil
}

// unusable says what to do about a database that cannot be opened.
func (c *config) unusable(err error) error {
	switch {
	case err == nil:
		return nil
	case c.Database.IsZero():
		return &failure{what: err.Error(), next: "see docs/CONFIGURATION.md for data_dir; `evergrant restore` puts a backup in place of a damaged database"}
	}
	f := &failure{what: flat(err), next: "see docs/POSTGRES.md for how the database is set up"}
	if errors.Is(err, issuer.ErrUnavailable) {
		f.code, f.next = exitUnavailable, "look whether PostgreSQL runs there and lets this user in; `psql` with the same connection string tells"
	}
	return f
}

// flat is an error's text on one line: the driver lists the hosts that it tried
// on lines of their own.
func flat(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
