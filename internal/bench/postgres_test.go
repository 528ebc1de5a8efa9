package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func unchanged(argv ...string) []string { return argv }

// passable is a temporary directory that PostgreSQL's user can pass through.
func passable(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o711), os.Chmod(filepath.Dir(dir), 0o711)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPostgres(t *testing.T) {
	ctx := t.Context()
	version, err := PostgresVersion(ctx)
	if err != nil || !strings.HasPrefix(version, "PostgreSQL 1") {
		t.Fatalf("%q, %v", version, err)
	}
	p, err := StartPostgres(ctx, passable(t), map[string]string{"shared_buffers": "16MB"}, unchanged)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	if err := p.Exec(ctx, "postgres", "CREATE DATABASE bench"); err != nil {
		t.Fatal(err)
	}
	if err := p.Exec(ctx, "bench", `CREATE TABLE "Odd name" AS SELECT generate_series(1, 1000)`, "CREATE TABLE empty (n int)"); err != nil {
		t.Fatal(err)
	}
	// What it says is committed is on disk, and its own setting was taken.
	for sql, want := range map[string]int64{
		"SELECT (current_setting('fsync') = 'on' AND current_setting('synchronous_commit') = 'on')::int": 1,
		"SELECT setting::bigint * 8 FROM pg_settings WHERE name = 'shared_buffers'":                      16 * 1024,
		`SELECT sum(generate_series) FROM "Odd name"`:                                                    500500,
	} {
		if got, err := p.Number(ctx, "bench", sql); err != nil || got != want {
			t.Errorf("%s gives %d, %v", sql, got, err)
		}
	}
	stats, err := p.Stats(ctx, "bench")
	if err != nil || stats.TotalRows() != 1000 || len(stats.Rows) != 2 || stats.Bytes < 1<<20 {
		t.Errorf("%+v, %v", stats, err)
	}
	if files, err := filepath.Glob(p.Log); err != nil || len(files) == 0 {
		t.Errorf("no log at %s, %v", p.Log, err)
	}
	own, err := ReadUsage(p.PID)
	if err != nil {
		t.Fatal(err)
	}
	if tree, err := ReadTree(p.PID); err != nil || tree.Memory <= own.Memory {
		t.Errorf("the server alone uses %+v, with its children %+v, %v", own, tree, err)
	}
	p.Stop()
	if !gone(p.PID) {
		t.Error("the server lives on")
	}
}

func TestPostgresTellsWhatWentWrong(t *testing.T) {
	ctx := t.Context()
	p, err := StartPostgres(ctx, passable(t), nil, unchanged)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	if err := p.Exec(ctx, "postgres", "SELECT nothing"); err == nil || !strings.Contains(err.Error(), `"nothing" does not exist`) {
		t.Errorf("error %v", err)
	}
	if n, err := p.Number(ctx, "postgres", "SELECT 'many'"); err == nil {
		t.Errorf("many is %d", n)
	}
	if _, err := p.Stats(ctx, "missing"); err == nil {
		t.Error("no error for a database that is not there")
	}
	if _, err := StartPostgres(ctx, passable(t), map[string]string{"shared_buffers": "many"}, unchanged); err == nil || !strings.Contains(err.Error(), "shared_buffers") {
		t.Errorf("a setting that is none: %v", err)
	}
	if _, err := StartPostgres(ctx, filepath.Join(t.TempDir(), "nothing"), nil, unchanged); err == nil {
		t.Error("no error for a directory that does not exist")
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := StartPostgres(over, passable(t), nil, unchanged); err == nil {
		t.Error("no error when it is too late")
	}
}
