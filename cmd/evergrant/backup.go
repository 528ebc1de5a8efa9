package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
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

// withoutBackup answers the operator who asks for a copy of PostgreSQL with what
// makes one: its own tools do that better, and to wherever the database is.
// Whoever else asks is the API's to refuse.
func (c *config) withoutBackup(api http.Handler, operator secret.Text) http.Handler {
	if c.Database.IsZero() {
		return api
	}
	answer, err := json.Marshal(evergrant.Problem{
		Type: "about:blank", Title: http.StatusText(http.StatusNotImplemented), Status: http.StatusNotImplemented,
		Detail: "this server keeps its data in PostgreSQL (" + c.Database.String() + "), which is backed up with its own tools",
		Next:   "`" + c.Database.dump("FILE") + "` writes a copy while the servers run; docs/POSTGRES.md says how to restore it",
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := oauth.BearerToken(r.Header.Get("Authorization"))
		if err != nil || r.URL.Path != "/v1/backup" || r.Method != http.MethodGet || operator.Empty() || !operator.Equal(token) {
			api.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotImplemented)
		w.Write(answer)
	})
}

// dump is the command that copies the database to a file. The password is for
// PGPASSWORD or ~/.pgpass.
func (a databaseAddress) dump(file string) string {
	return "pg_dump --format=custom --file=" + file + " " + a.flags()
}

// flags name the database to PostgreSQL's programs.
func (a databaseAddress) flags() string {
	return shellWords("--host="+strings.Join(a.Hosts, ","), "--port="+strings.Join(a.Ports, ","), "--username="+a.User, "--dbname="+a.Database)
}

// shellWords quotes words for a shell where they need it.
func shellWords(words ...string) string {
	for i, word := range words {
		if strings.ContainsFunc(word, func(c rune) bool { return !strings.ContainsRune(plain, c) }) {
			words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// plain are the characters that no shell takes for its own.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=.,/:@%+"

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
