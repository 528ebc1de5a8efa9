package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/sqlite"
	"github.com/spf13/cobra"
)

// A restore prepares a copy of the backup as evergrant.db.restoring, which means
// nothing to anybody and is overwritten by the next attempt. Renaming it to
// evergrant.db.restored decides: from then on the restore is carried out, by
// this process or by the next one that opens the data directory.
const (
	restoringName = databaseName + ".restoring"
	restoredName  = databaseName + ".restored"
)

func (in *invocation) restoreCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "restore FILE", Args: cobra.ArbitraryArgs,
		Short: "Puts a backup in place of the database of a stopped server, and lists what that loses",
		Long: "Puts a backup in place of the database of a stopped server, and lists what that loses.\n\n" +
			"With PostgreSQL there is no FILE: pg_restore, or whatever else brought an older state back, comes first, and this prepares what it left.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := loadConfig(file, overrides{dataDir: in.data}, in.env)
			if err != nil {
				return err
			}
			var report *restoreReport
			switch {
			case c.Database.IsZero() && len(args) != 1:
				return exactly(1)(cmd, args)
			case c.Database.IsZero():
				report, err = in.restore(cmd.Context(), c, args[0])
			case len(args) > 0:
				return usage(cmd, "with PostgreSQL there is no FILE: put the copy in place with pg_restore, then run this without one")
			default:
				report, err = in.restorePostgres(cmd.Context(), c)
			}
			if err != nil {
				return err
			}
			return in.showRestored(report)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration `FILE` of the server, for its data directory and root key")
	return cmd
}

func (in *invocation) restore(ctx context.Context, c *config, backup string) (*restoreReport, error) {
	if ok, err := hasContent(backup); err != nil || !ok {
		return nil, errors.Join(err, &failure{what: backup + " is no backup: there is no such file, or it is empty", next: "name a file that `evergrant backup` wrote"})
	}
	lock, err := lockDataDir(c.DataDir)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if _, err := finishRestore(c.DataDir, in.now()); err != nil {
		return nil, err
	}
	root, err := c.needRoot(ctx, in.env, in.stderr)
	if err != nil {
		return nil, err
	}
	in.progress("copying the backup ...")
	defer in.progress("")
	restoring := filepath.Join(c.DataDir, restoringName)
	if err := copyBackup(backup, restoring); err != nil {
		return nil, err
	}
	in.progress("checking the backup ...")
	report, err := prepareRestore(ctx, c, root, in.now())
	if err != nil {
		return nil, errors.Join(err, removeDatabase(restoring))
	}
	if err := os.Rename(restoring, filepath.Join(c.DataDir, restoredName)); err != nil {
		return nil, err
	}
	if err := syncDir(c.DataDir); err != nil {
		return nil, err
	}
	report.Backup = backup
	if report.Replaced, err = finishRestore(c.DataDir, in.now()); err != nil {
		return nil, &failure{what: "the restore is decided and not finished: " + err.Error(), next: "mend that; then the next start of the server finishes it"}
	}
	return report, nil
}

// prepareRestore checks the copy, brings it up to date and applies to it what
// must not be forgotten. It leaves one durable file without a write-ahead log.
func prepareRestore(ctx context.Context, c *config, root secret.Root, now time.Time) (report *restoreReport, err error) {
	path := filepath.Join(c.DataDir, restoringName)
	copied, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		return nil, &failure{what: "the backup cannot be used: " + err.Error(), next: "nothing was changed; try an older backup"}
	}
	defer func() {
		if err = errors.Join(err, copied.Close()); err == nil {
			err = noLog(path)
		}
	}()
	if err := copied.Check(ctx); err != nil {
		return nil, &failure{what: "the backup is damaged: " + err.Error(), next: "nothing was changed; try an older backup"}
	}
	if err := checkRoot(ctx, copied, root); err != nil {
		return nil, err
	}
	doubts, err := copied.Restored(ctx, now) // before anything is added to its events, which tell its age
	if err != nil {
		return nil, err
	}
	report, err = compare(ctx, c.sqlitePath(), copied, now)
	if err != nil {
		return nil, err
	}
	if report.InDoubt, err = c.doubts(ctx, copied.Keeper(), doubts, now); err != nil {
		return nil, err
	}
	return report, copied.Record(ctx, restoredEvent(now, fmt.Sprintf(
		"%d grants and %d connections made since the backup were lost, %d revocations were applied again, %d connections are in doubt",
		len(report.Lost), len(report.LostConnections), len(report.Revoked), len(report.InDoubt))))
}

func restoredEvent(now time.Time, detail string) issuer.Event {
	return issuer.Event{At: now, Type: issuer.EventRestored, Actor: "operator", Cause: issuer.CauseRestore, Detail: detail}
}

// checkRoot refuses a backup whose tokens the root key cannot verify.
func checkRoot(ctx context.Context, copied *sqlite.DB, root secret.Root) error {
	keys, err := copied.Keys(ctx)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return &failure{what: "the backup has no keys: no server ever ran on it", next: "nothing was changed; name a file that `evergrant backup` wrote"}
	}
	if !root.Made(keys) {
		return &failure{what: "the root key is not the one that the backup was made with", next: "nothing was changed; put the root key of that server into root.key of the data directory, or give it by the configuration"}
	}
	return nil
}

// finishRestore carries out a restore that was decided, and returns the name
// that the replaced database has now: "" where there was none, or no restore.
// Broken off after any step it is carried out by the next call:
//
//  1. the old database and its log get a second name beside the first;
//  2. the old log loses its first name, for SQLite would play it into
//     whatever database is beside it;
//  3. the new database takes the old one's name, which replaces it at once.
func finishRestore(dir string, now time.Time) (replaced string, err error) {
	restored, database := filepath.Join(dir, restoredName), filepath.Join(dir, databaseName)
	if decided, err := hasContent(restored); err != nil || !decided {
		return "", err
	}
	keep := database + ".before-restore-" + now.UTC().Format("20060102T150405.000Z")
	for _, suffix := range []string{"", "-wal"} {
		switch kept, err := keepAs(database+suffix, keep+suffix); {
		case err != nil:
			return "", err
		case kept:
			replaced = keep
		}
	}
	if err := errors.Join(syncDir(dir), removeAll(database+"-wal", database+"-shm"), syncDir(dir)); err != nil {
		return "", err
	}
	if err := os.Rename(restored, database); err != nil {
		return "", err
	}
	return replaced, syncDir(dir)
}

// keepAs gives a file a second name, or copies it where the file system has no
// links. It reports whether there was a file.
func keepAs(path, second string) (bool, error) {
	err := os.Link(path, second)
	switch {
	case err == nil, errors.Is(err, os.ErrExist):
		return true, nil
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	}
	return true, copyFile(path, second)
}

// copyBackup puts a copy of the backup where the restore works on it.
func copyBackup(backup, restoring string) error {
	if err := removeDatabase(restoring); err != nil { // of an attempt that broke off
		return err
	}
	if err := copyFile(backup, restoring); err != nil {
		return errors.Join(&failure{what: "copying the backup: " + err.Error(), next: "make room in the data directory, which needs as much as the backup is large"}, removeDatabase(restoring))
	}
	return nil
}

// copyFile copies durably to a new file that only its owner can read.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// noLog reports an error where a database that was closed left a log behind.
func noLog(path string) error {
	left, err := hasContent(path + "-wal")
	if left {
		err = errors.New("the copy of the backup still has a write-ahead log; nothing was changed")
	}
	return err
}

// removeDatabase removes a database file and what SQLite puts beside it.
func removeDatabase(path string) error { return removeAll(path+"-wal", path+"-shm", path) }

func removeAll(paths ...string) error {
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
