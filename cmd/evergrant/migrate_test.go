package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/sqlite"
)

// history is what happened to a connection, as it is listed.
func (s *running) history(id string) []evergrant.Event {
	s.t.Helper()
	return document[[]evergrant.Event](s.t, s.ok("connection", "history", id, "--json"))
}

// house is a server on SQLite with a grant and a connection, to be moved.
type house struct {
	*keeping
	both string // its configuration but for the database
}

func newHouse(t *testing.T) *house {
	t.Helper()
	third := start(t, t.TempDir(), strings.Replace(seeds, "issuer:\n", "issuer:\n  access_token_lifetime: 1h\n  access_token_format: opaque\n", 1))
	h := &house{keeping: &keeping{third: third}}
	h.both = "public_url: http://127.0.0.1:8080\n" + h.config("") + seeds
	h.running = startReplica(t, t.TempDir(), h.both)
	return h
}

// TestMove is the whole story: a server on SQLite, its database copied, and what
// its clients and connections see of the server on PostgreSQL.
func TestMove(t *testing.T) {
	h := newHouse(t)
	lives, retried, revoked, replayed := h.login(), h.login(), h.login(), h.login()
	h.ok("grant", "revoke", h.explain(revoked.Refresh).Grant.ID)
	stolen := h.refresh(replayed.Refresh)
	stolen = h.refresh(stolen.Refresh)
	h.ok("client", "create", "made-by-hand")
	h.connect("gone")
	h.ok("connection", "delete", "gone")
	h.connect("ann", "--owner", "Ann")
	token := strings.TrimSpace(h.ok("token", "ann", "--force"))
	before := h.history("ann")
	lost := h.refresh(retried.Refresh) // an answer that does not arrive
	path := filepath.Join(h.dir, databaseName)
	url := pgtest.Database(t)
	target := strings.Replace(url, "@", ":"+databasePassword+"@", 1)
	config := writeConfig(t, h.both)
	if r := h.run("", "migrate", "--from", "sqlite:"+path, "--to", target, "--config", config); r.code != exitFailed || !strings.HasPrefix(r.stderr, "evergrant: another process uses the data directory") {
		t.Errorf("while the server runs: status %d, %q", r.code, r.stderr)
	}
	h.stop()

	unchanged := contents(t, h.dir)
	r := h.run("", "migrate", "--from", "sqlite:"+path, "--to", target, "--config", config)
	if r.code != exitDone || strings.Contains(r.out+r.stderr, databasePassword) || strings.ContainsRune(r.stderr, '\r') ||
		!regexp.MustCompile(`(?s)^copied +\S+evergrant.db\nto +test_\d+ at 127.0.0.1:\d+\n.*  grants +4\n.*  connections +1\n.*checked +4 grants, and the tokens of 1 connection\n$`).MatchString(r.out) ||
		!strings.Contains(r.stderr, "next: set database in the configuration of each server") {
		t.Fatalf("status %d, %q, %q", r.code, r.out, r.stderr)
	}
	if !sameFiles(unchanged, contents(t, h.dir)) {
		t.Error("the source was changed")
	}
	if r := h.run("", "migrate", "--from", "sqlite:", "--to", target, "--config", config); r.code != exitFailed || !strings.Contains(r.stderr, "in use already") || !strings.Contains(r.stderr, "\nnothing was copied or lost") {
		t.Errorf("again: status %d, %q", r.code, r.stderr)
	}

	h.running = startReplica(t, h.dir, onPostgres(url, strings.TrimPrefix(h.both, "public_url: http://127.0.0.1:8080\n")))
	if again := h.refresh(retried.Refresh); again != lost || again.Refresh == "" {
		t.Errorf("a retry gives %+v, and gave %+v", again, lost)
	}
	for name, test := range map[string]struct{ token, want string }{
		"lives": {lives.Refresh, ""}, "revoked": {revoked.Refresh, "invalid_grant"}, "replayed": {replayed.Refresh, "invalid_grant"}, "its newest": {stolen.Refresh, "invalid_grant"},
	} {
		if name == "its newest" { // after the replay
			h.refresh(replayed.Refresh)
		}
		if answer := h.refresh(test.token); answer.Error != test.want {
			t.Errorf("%s: %+v, want error %q", name, answer, test.want)
		}
	}
	if got := strings.TrimSpace(h.ok("token", "ann")); got != token || !h.active(got) {
		t.Errorf("the connection gives %q, and gave %q", got, token)
	}
	if after := h.history("ann"); !reflect.DeepEqual(after, before) || len(after) < 2 {
		t.Errorf("history is %+v, and was %+v", after, before)
	}
	if renewed := strings.TrimSpace(h.ok("token", "ann", "--force")); renewed == token || !h.active(renewed) {
		t.Errorf("a renewal gives %q", renewed)
	}
	if r := h.run("", "connection", "show", "gone"); r.code != exitFailed {
		t.Errorf("a deleted connection is there: %s", r.out)
	}
	h.ok("client", "show", "made-by-hand")
	h.get("/readyz", http.StatusOK)
}

// TestMoveRefuses has what cannot be copied, and to where not. Nothing is
// written.
func TestMoveRefuses(t *testing.T) {
	h := newHouse(t)
	h.login()
	h.stop()
	path := filepath.Join(h.dir, databaseName)
	server := pgtest.Start(t)
	for _, name := range []string{"empty", "used"} {
		server.Create(t, name)
	}
	startReplica(t, t.TempDir(), onPostgres(server.URL("used"), "")).stop()
	unused := filepath.Join(t.TempDir(), "unused.db")
	db, err := sqlite.Open(t.Context(), unused, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("text", 4000)), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := server.URL("empty")
	for _, test := range []struct {
		name string
		args []string
		env  []string
		code int
		want string
	}{
		{"to without from", []string{"--to", empty}, nil, exitUsage, "evergrant: --to needs --from"},
		{"another source", []string{"--from", path, "--to", empty}, nil, exitUsage, "evergrant: --from must be sqlite:PATH"},
		{"no target", []string{"--from", "sqlite:" + path}, nil, exitUsage, "evergrant: nothing says where to copy to"},
		{"another target", []string{"--from", "sqlite:" + path, "--to", "mysql://ann:hush@db/d"}, nil, exitUsage, "evergrant: --to is neither a URL that begins with postgres://"},
		{"broken target", []string{"--from", "sqlite:" + path, "--to", "postgres://ann:hu/sh@db/d"}, nil, exitUsage, "evergrant: the connection string of the database is not understood"},
		{"no file", []string{"--from", "sqlite:" + path + ".none", "--to", empty}, nil, exitFailed, "no such file or directory\nname the database file of a stopped server"},
		{"no database", []string{"--from", "sqlite:" + text, "--to", empty}, nil, exitFailed, "this file is not an Evergrant database"},
		{"unused", []string{"--from", "sqlite:" + unused, "--to", empty}, nil, exitFailed, "has no keys: no server ever ran on it"},
		{"wrong root key", []string{"--from", "sqlite:" + path, "--to", empty}, []string{rootKeyEnv, testRoot}, exitFailed, "the root key is not the one that this database was made with\ngive the root key that " + path},
		{"no server", []string{"--from", "sqlite:" + path, "--to", "postgres://ann@127.0.0.1:1/d?sslmode=disable"}, nil, exitUnavailable, "database d at 127.0.0.1:1: "},
		{"in use", []string{"--from", "sqlite:" + path, "--to", server.URL("used")}, nil, exitFailed, "this database is in use already: make an empty one with CREATE DATABASE, and name that\nnothing was copied or lost"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			before := contents(t, h.dir)
			r := run(t, environment(test.env...), "", append([]string{"migrate"}, test.args...)...)
			if r.code != test.code || !strings.Contains(r.stderr, test.want) || r.out != "" || strings.Contains(r.stderr, "ann:") {
				t.Errorf("status %d, %q, %q; want %d, %q", r.code, r.out, r.stderr, test.code, test.want)
			}
			if !sameFiles(before, contents(t, h.dir)) {
				t.Error("the source was changed")
			}
		})
	}
	if tables := server.Exec(t, "empty", "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"); strings.TrimSpace(tables) != "0" {
		t.Errorf("the target has %s tables", tables)
	}
	t.Run("without root key", func(t *testing.T) {
		remove(t, filepath.Join(h.dir, rootKeyName))
		r := run(t, environment(), "", "migrate", "--from", "sqlite:"+path, "--to", empty)
		if r.code != exitFailed || !strings.HasPrefix(r.stderr, "evergrant: the root key is missing: there is no "+h.dir) {
			t.Errorf("status %d, %q", r.code, r.stderr)
		}
	})
}

// TestMoveTells has what is said of what cannot be read, and of what waits in
// the spool.
func TestMoveTells(t *testing.T) {
	h := newHouse(t)
	h.connect("ann")
	h.connect("odd")
	h.stop()
	damaged, err := sqlite.Open(t.Context(), filepath.Join(h.dir, databaseName), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, leased, err := damaged.Keeper().Lease(t.Context(), "odd", time.Now().Add(time.Hour), time.Now().Add(2*time.Hour))
	if err != nil || !leased {
		t.Fatal(leased, err)
	}
	c.Tokens = secret.Sealed{KeyID: c.Tokens.KeyID, Data: []byte("no such thing")}
	c.Error = "it said \xff"
	if done, err := damaged.Keeper().Commit(t.Context(), c.Fence, c.Generation, c); err != nil || !done {
		t.Fatal(done, err)
	}
	if err := damaged.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.dir, spoolName, "x.answer"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := writeConfig(t, onPostgres(pgtest.Database(t), h.config("")))
	r := h.run("", "migrate", "--from", "sqlite:", "--config", config, "--json") // to where the configuration says
	report := document[moved](t, r.out)
	if r.code != exitDone || report.Connections != 2 || len(report.Unreadable) != 1 || report.Unreadable[0] != "odd" || report.Spooled != 1 || report.Mended != 1 || report.Rows["connections"] != 2 {
		t.Errorf("status %d, %+v", r.code, report)
	}
	for _, want := range []string{"connection odd has tokens that the root key does not open, as they were before", "1 description had characters that PostgreSQL does not hold"} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("no %q in %q", want, r.stderr)
		}
	}
	var out, stderr strings.Builder
	if err := (&invocation{stdout: &out, stderr: &stderr}).showMoved(report); err != nil || !strings.Contains(stderr.String(), "1 answer of providers in the spool directory: start the first server with the same data directory") {
		t.Errorf("%v, %q", err, stderr.String())
	}
}

// TestMoveInterrupted ends a copy before it begins to write.
func TestMoveInterrupted(t *testing.T) {
	h := newHouse(t)
	h.stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, stderr strings.Builder
	p := program{env: environment(), now: time.Now}
	code := p.Run(ctx, []string{"migrate", "--data", h.dir, "--from", "sqlite:", "--to", pgtest.Database(t)}, strings.NewReader(""), &out, &stderr)
	if code != exitFailed || out.String() != "" {
		t.Errorf("status %d, %q, %q", code, out.String(), stderr.String())
	}
}

func TestMigrate(t *testing.T) {
	url, dir := pgtest.Database(t), t.TempDir()
	onSQLite := []string{"migrate", "--data", dir}
	onServer := []string{"migrate", "--data", t.TempDir(), "--config", writeConfig(t, onPostgres(url, ""))}
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"SQLite, new", onSQLite, "^" + dir + `/evergrant.db is new, with layout \d+\n$`},
		{"SQLite, again", onSQLite, `/evergrant.db has layout \d+ already\n$`},
		{"SQLite, for programs", append(onSQLite, "--json"), `(?s)"database": "` + dir + `/evergrant.db",.*"from": 3,.*"to": 3`},
		{"PostgreSQL, new", onServer, `^test_\d+ at 127.0.0.1:\d+ is new, with layout \d+\n$`},
		{"PostgreSQL, again", onServer, ` has layout \d+ already\n$`},
		{"PostgreSQL, for programs", append(onServer, "--json"), `(?s)"database": "test_\d+ at 127.0.0.1:\d+",.*"from": \d+,.*"to": \d+`},
	} {
		r := run(t, environment(), "", test.args...)
		if r.code != exitDone || r.stderr != "" || !regexp.MustCompile(test.want).MatchString(r.out) {
			t.Errorf("%s: status %d, %q, %q", test.name, r.code, r.out, r.stderr)
		}
	}
	start(t, dir, "")
	if r := run(t, environment(), "", onSQLite...); r.code != exitFailed || !strings.HasPrefix(r.stderr, "evergrant: another process uses the data directory") {
		t.Errorf("while a server runs: status %d, %q", r.code, r.stderr)
	}
	startReplica(t, t.TempDir(), onPostgres(url, ""))
	if r := run(t, environment(), "", onServer...); r.code != exitDone {
		t.Errorf("while a server runs on PostgreSQL: status %d, %q", r.code, r.stderr)
	}
}
