package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/postgres"
	"github.com/evergrant/evergrant/store/sqlite"
)

// checkedGrants is how many grants are compared after a copy. Their ids are
// random, and so are those.
const checkedGrants = 1000

// moved is what a copy came to.
type moved struct {
	From string `json:"from"`
	To   string `json:"to"`
	postgres.Loaded
	Grants      int `json:"checked_grants"`      // that are on the copy what they were
	Connections int `json:"checked_connections"` // all of them, and their tokens open
	// Unreadable are connections whose tokens open neither there nor here.
	Unreadable []string `json:"unreadable_connections,omitempty"`
	Spooled    int      `json:"spooled_answers"` // that wait in the data directory
}

// move copies a SQLite database to PostgreSQL. The root key is compared before
// anything is written, and the source is only read.
func (in *invocation) move(ctx context.Context, c *config, path string) error {
	if path == "" {
		path = c.sqlitePath()
	} else if c.places["data_dir"] == "" {
		c.DataDir = filepath.Dir(path) // of the root key and the spool
	}
	defer in.progress("")
	if lock, err := lockServed(filepath.Dir(path)); err != nil {
		return err
	} else if lock != nil {
		defer lock.Close()
	}
	from, err := sqlite.OpenExport(ctx, path)
	if err != nil {
		return &failure{what: err.Error(), next: "name the database file of a stopped server, such as --from sqlite:" + filepath.Join(defaultDataDir, databaseName)}
	}
	defer from.Close()
	root, err := in.movable(ctx, c, from, path)
	if err != nil {
		return err
	}
	to, err := postgres.Open(ctx, c.Database.url.Reveal(), postgres.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return c.unusable(err)
	}
	defer to.Close()
	report := moved{From: path, To: c.Database.String()}
	report.Loaded, err = to.Load(ctx, from, func(table string, done, of int64) { in.progress("copying %s: %d of %d", table, done, of) })
	if err != nil {
		return c.notLoaded(err)
	}
	if err := in.check(ctx, from, to, root, &report); err != nil {
		return &failure{what: "the copy is not what it was copied from: " + err.Error(), next: "drop " + report.To + " and go on with " + path + ", which is as it was"}
	}
	left, err := filepath.Glob(filepath.Join(c.spoolDir(), "*.answer"))
	if report.Spooled = len(left); err != nil {
		return err
	}
	in.progress("")
	return in.showMoved(report)
}

// lockServed takes the lock of a directory in which a server has run; there is
// none to take elsewhere.
func lockServed(dir string) (*os.File, error) {
	if _, err := os.Stat(filepath.Join(dir, lockName)); err != nil {
		return nil, nil
	}
	return lockDataDir(dir)
}

// movable finds the root key, and refuses what cannot be copied before anything
// is written.
func (in *invocation) movable(ctx context.Context, c *config, from *sqlite.Export, path string) (secret.Root, error) {
	keys, err := from.Keys()
	if err != nil {
		return secret.Root{}, err
	}
	if len(keys) == 0 {
		return secret.Root{}, &failure{what: path + " has no keys: no server ever ran on it", next: "there is nothing to copy; start the server on " + c.Database.String()}
	}
	sqliteToo := *c
	sqliteToo.Database = databaseAddress{} // what is said of a root key is said of the source
	root, err := sqliteToo.needRoot(ctx, in.env, in.stderr)
	if err != nil {
		return root, err
	}
	if !root.Made(keys) {
		return root, &failure{what: secret.ErrWrongRoot.Error(), next: "give the root key that " + path + " was made with; nothing was copied"}
	}
	there, err := c.keysIn(ctx)
	if err == nil && len(there) > 0 {
		err = c.notLoaded(postgres.ErrNotEmpty)
	}
	return root, err
}

// notLoaded says what to do about a copy that failed.
func (c *config) notLoaded(err error) error {
	f := &failure{what: c.Database.String() + ": " + flat(err), next: "nothing was copied; mend that and run the command again"}
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, postgres.ErrNotEmpty):
		f.next = "nothing was copied or lost: a copy goes into an empty database only"
	case errors.Is(err, issuer.ErrUnavailable):
		f.code, f.next = exitUnavailable, "look whether PostgreSQL is well, and run the command again: it copies into an empty database only"
	}
	return f
}

// check looks at the copy as a server does: the root key opens its keys, what was
// sealed opens, and its rows are those of the source.
func (in *invocation) check(ctx context.Context, from *sqlite.Export, to *postgres.DB, root secret.Root, report *moved) error {
	in.progress("checking the copy ...")
	ring, err := secret.OpenRing(ctx, root, to, in.now, false)
	if err != nil {
		return err
	}
	keys, err := from.Keys()
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(ring.Records(), keys) {
		return errors.New("its keys are others")
	}
	grants, err := to.Grants(ctx, issuer.GrantFilter{Limit: checkedGrants})
	if err != nil {
		return err
	}
	for _, copied := range grants {
		was, err := from.Grant(copied.ID)
		if err != nil || !reflect.DeepEqual(was, copied) {
			return cmp.Or(err, fmt.Errorf("grant %s is another", copied.ID))
		}
		report.Grants++
	}
	return eachConnection(ctx, to.Keeper(), func(listed keeper.Connection) error {
		copied, err := to.Keeper().Connection(ctx, listed.ID)
		if err != nil {
			return err
		}
		was, err := from.Connection(listed.ID)
		if err != nil {
			return err
		}
		was.Error, copied.Error = "", "" // words may have been mended
		if !reflect.DeepEqual(was, copied) {
			return fmt.Errorf("connection %s is another", listed.ID)
		}
		if !opens(ring, copied) {
			report.Unreadable = append(report.Unreadable, listed.ID)
		}
		if report.Connections++; report.Connections%1000 == 0 {
			in.progress("checking connections: %d of %d", report.Connections, report.Rows["connections"])
		}
		return nil
	})
}

// opens reports whether what a connection has sealed can be opened, for the rows
// that package keeper names.
func opens(ring *secret.Ring, c keeper.Connection) bool {
	open := func(p secret.Purpose, sealed secret.Sealed, row string) bool {
		if sealed.Empty() {
			return true
		}
		_, err := ring.Open(p, sealed, []byte(row))
		return err == nil
	}
	if !open(secret.TokenSeal, c.Tokens, "connection/"+c.ID) {
		return false
	}
	return c.Intent == nil || open(secret.AnswerSeal, c.Intent.Answer, "answer/"+c.ID+"/"+c.Intent.RequestID)
}

func (in *invocation) showMoved(m moved) error {
	for _, id := range m.Unreadable {
		fmt.Fprintln(in.stderr, printable("connection "+id+" has tokens that the root key does not open, as they were before: its owner has to connect again"))
	}
	if m.Mended > 0 {
		fmt.Fprintf(in.stderr, "%s had characters that PostgreSQL does not hold, which were replaced\n", plural(int(m.Mended), "description"))
	}
	if in.json {
		return in.printJSON(m)
	}
	lines := [][2]string{{"copied", m.From}, {"to", m.To}}
	for _, table := range postgres.Tables() {
		lines = append(lines, [2]string{"  " + table, fmt.Sprint(m.Rows[table])})
	}
	lines = append(lines, [2]string{"checked", plural(m.Grants, "grant") + ", and the tokens of " + plural(m.Connections, "connection")})
	if err := details(in.stdout, lines); err != nil {
		return err
	}
	if m.Spooled > 0 {
		fmt.Fprintf(in.stderr, "%s of providers in the spool directory: start the first server with the same data directory, which puts them into the database\n", plural(m.Spooled, "answer"))
	}
	_, err := fmt.Fprintln(in.stderr, "next: set database in the configuration of each server, and give all of them the same root key; never start a server on "+printable(m.From)+" again, whose refresh tokens are spent from now on")
	return err
}
