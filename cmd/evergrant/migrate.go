package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/postgres"
	"github.com/evergrant/evergrant/store/sqlite"
	"github.com/spf13/cobra"
)

// sqliteScheme begins the name of a SQLite file as a source.
const sqliteScheme = "sqlite:"

func (in *invocation) migrateCommand() *cobra.Command {
	var file, from, to string
	cmd := &cobra.Command{
		Use: "migrate", Args: exactly(0),
		Short: "Brings the database to the layout of this release; or copies SQLite to PostgreSQL",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(file, overrides{dataDir: in.data}, in.env)
			if err != nil {
				return err
			}
			if from == "" && to != "" {
				return usage(cmd, "--to needs --from: write --from sqlite:PATH as well")
			}
			if from == "" {
				return in.migrate(cmd.Context(), c)
			}
			path, ok := strings.CutPrefix(from, sqliteScheme)
			if !ok {
				return usage(cmd, "--from must be sqlite:PATH")
			}
			if to != "" {
				if c.Database, err = parseDatabase(secret.NewText(to)); err != nil {
					return usage(cmd, strings.Replace(err.Error(), "database is neither", "--to is neither", 1))
				}
			}
			if c.Database.IsZero() {
				return usage(cmd, "nothing says where to copy to: set database in the configuration, or give --to postgres://...")
			}
			return in.move(cmd.Context(), c, path)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration `FILE` of the server, for its database, data directory and root key")
	cmd.Flags().StringVar(&from, "from", "", "copy from `sqlite:PATH`; without PATH the database in the data directory")
	cmd.Flags().StringVar(&to, "to", "", "copy to `postgres://...` (default: database of the configuration); a password is better in the configuration, or in PGPASSWORD")
	return cmd
}

// migrate brings a database to the layout of this release, as a server does at
// its start.
func (in *invocation) migrate(ctx context.Context, c *config) error {
	if c.Database.IsZero() {
		lock, err := lockDataDir(c.DataDir)
		if err != nil {
			return err
		}
		defer lock.Close()
		if _, err := finishRestore(c.DataDir, in.now()); err != nil {
			return err
		}
	}
	in.progress("migrating ...")
	defer in.progress("")
	before, known, err := c.layout(ctx)
	if err != nil {
		return err
	}
	db, err := c.openDatabase(ctx, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	in.progress("")
	if in.json {
		return in.printJSON(map[string]any{"database": c.place(), "from": before, "to": max(before, known)})
	}
	text := fmt.Sprintf("%s is brought from layout %d to %d", c.place(), before, known)
	switch {
	case before >= known: // a newer one with which this release can work
		text = fmt.Sprintf("%s has layout %d already", c.place(), before)
	case before == 0:
		text = fmt.Sprintf("%s is new, with layout %d", c.place(), known)
	}
	_, err = fmt.Fprintln(in.stdout, text)
	return err
}

// layout is that of the database, 0 for an empty one, and the one of this
// release.
func (c *config) layout(ctx context.Context) (version, known int, err error) {
	if c.Database.IsZero() {
		version, known, err = sqlite.Version(c.sqlitePath())
	} else {
		version, known, err = postgres.Version(ctx, c.Database.url.Reveal())
	}
	return version, known, c.unusable(err)
}
