package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/spf13/cobra"
)

func (in *invocation) backupCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "backup FILE", Args: exactly(1),
		Short: "Writes a consistent copy of the running server's database; the root key is not in it",
		RunE: func(cmd *cobra.Command, args []string) error {
			target := args[0]
			if _, err := os.Lstat(target); err == nil && !force {
				return &failure{what: target + " exists", next: "choose another name, or replace it with --force"}
			}
			admin, err := in.admin()
			if err != nil {
				return err
			}
			stats, err := admin.Stats(cmd.Context())
			if err != nil {
				return err
			}
			size, err := in.backup(cmd.Context(), admin, target)
			if err != nil {
				return err
			}
			grants, connections := stats.Rows["grants"], stats.Rows["connections"]
			fmt.Fprintln(in.stderr, "the root key is needed to restore it and is not in it: keep a copy of root.key, or of what your configuration names, in another place")
			if in.json {
				return in.printJSON(map[string]any{"file": target, "bytes": size, "grants": grants, "connections": connections})
			}
			_, err = fmt.Fprintf(in.stdout, "backed up %d bytes to %s, with %d grants and %d connections\n", size, target, grants, connections)
			return err
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace FILE if it exists")
	return in.administration(cmd)
}

// backup writes to a file beside the target, which takes the target's name when
// it is complete and durable: whatever breaks off leaves the target as it was.
func (in *invocation) backup(ctx context.Context, admin *evergrant.Client, target string) (size int64, err error) {
	dir := filepath.Dir(target)
	file, err := os.CreateTemp(dir, ".evergrant-backup-*") // mode 0600
	if err != nil {
		return 0, &failure{what: err.Error(), next: "choose a directory that can be written"}
	}
	defer func() {
		if err != nil {
			os.Remove(file.Name())
		}
	}()
	size, err = admin.Backup(ctx, io.MultiWriter(file, &meter{in: in, now: in.now}))
	in.progress("")
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return size, err
	}
	if err := os.Rename(file.Name(), target); err != nil {
		return size, err
	}
	return size, syncDir(dir)
}

// meter shows how many bytes have passed, twice a second.
type meter struct {
	in    *invocation
	now   func() time.Time
	bytes int64
	shown time.Time
}

func (m *meter) Write(b []byte) (int, error) {
	m.bytes += int64(len(b))
	if now := m.now(); now.Sub(m.shown) > 500*time.Millisecond {
		m.shown = now
		m.in.progress("%d MiB", m.bytes>>20)
	}
	return len(b), nil
}
