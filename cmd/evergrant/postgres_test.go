package main

import (
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/internal/pgtest"
)

// databasePassword is in the connection strings of tests; their server asks for
// none.
const databasePassword = "hush-database"

// onPostgres is the configuration of a server on a database.
func onPostgres(url, more string) string {
	return "database: \"" + strings.Replace(url, "@", ":"+databasePassword+"@", 1) + "\"\npublic_url: http://127.0.0.1:8080\n" + more
}

// startReplica is start for a server whose public URL is not where it listens.
func startReplica(t *testing.T, dir, config string, args ...string) *running {
	t.Helper()
	address := freeAddress(t)
	s := start(t, dir, config, append(args, "--listen", address)...)
	s.url = "http://" + address
	return s
}

// freeAddress is one on which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func TestServeOnPostgres(t *testing.T) {
	url, dir := pgtest.Database(t), t.TempDir()
	s := startReplica(t, dir, onPostgres(url, seeds))
	first := s.login()
	second := s.refresh(first.Refresh)
	if again := s.refresh(first.Refresh); second.Refresh == "" || again != second {
		t.Errorf("refresh gave %+v, and again %+v", second, again)
	}
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ready"} {
		if body := s.get(path, http.StatusOK); !strings.Contains(body, want) {
			t.Errorf("%s has no %q: %.200s", path, want, body)
		}
	}
	if events := s.ok("event", "list"); !strings.Contains(events, "grant.created") {
		t.Errorf("events are %s", events)
	}
	if _, err := os.Stat(filepath.Join(dir, databaseName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a SQLite database: %v", err)
	}
	code, name := s.stop(), strings.SplitN(url[strings.LastIndexByte(url, '/')+1:], "?", 2)[0]
	if out := s.stdout.String(); !strings.Contains(out, "\nits database is          "+name+" at 127.0.0.1:") {
		t.Errorf("it says %q", out)
	}
	if code != exitDone || strings.Contains(s.stdout.String()+s.stderr.String(), databasePassword) {
		t.Errorf("status %d, %s%s", code, s.stdout, s.stderr)
	}
	again := startReplica(t, dir, onPostgres(url, seeds), "--json")
	if third := again.refresh(second.Refresh); third.Refresh == "" {
		t.Errorf("after a restart a refresh gave %+v", third)
	}
	again.stop()
	if ready := document[map[string]string](t, again.stdout.String()); !strings.Contains(ready["database"], " at 127.0.0.1:") || ready["data_dir"] != dir {
		t.Errorf("ready: %v", ready)
	}
}

// TestRootKeysOfReplicas has the second server on a database with each root key
// that it may have.
func TestRootKeysOfReplicas(t *testing.T) {
	url, dir := pgtest.Database(t), t.TempDir()
	first := startReplica(t, dir, onPostgres(url, seeds))
	grant := first.login()
	root := contents(t, dir)[rootKeyName]
	refused := func(name, dir, config, want string) {
		t.Helper()
		before := contents(t, dir)
		r := run(t, environment(), "", "serve", "--listen", "127.0.0.1:0", "--data", dir, "--config", writeConfig(t, onPostgres(url, config)))
		if r.code != exitFailed || !strings.Contains(r.stderr, want) || strings.Contains(r.stderr, databasePassword) {
			t.Errorf("%s: status %d, %q, want %q", name, r.code, r.stderr, want)
		}
		after := contents(t, dir)
		delete(after, lockName)
		if !sameFiles(before, after) {
			t.Errorf("%s: files are %v", name, after)
		}
	}
	refused("the same directory", dir, seeds, "evergrant: another process uses the data directory "+dir+
		"\nstop the server that runs there, or name another directory with --data: each server on this machine needs one of its own\n")
	refused("none", t.TempDir(), seeds, "\nother servers use ")
	refused("none", t.TempDir(), seeds, " already: give this one the same root key, as that file, or with root_key_file or EVERGRANT_ROOT_KEY. Nothing was changed\n")
	refused("another one", t.TempDir(), "root_key: "+testRoot+"\n"+seeds,
		"evergrant: the root key is not the one that this database was made with\nall servers on one database need the same root key: give this one that of the server that was started first; nothing was changed\n")
	second := startReplica(t, t.TempDir(), onPostgres(url, "root_key: "+root+seeds))
	if answer := second.refresh(grant.Refresh); answer.Refresh == "" {
		t.Errorf("with the same one: %+v", answer)
	}
}

// TestFirstServersAtOnce starts servers without a root key at the same instant:
// one makes it, and the others leave nothing behind.
func TestFirstServersAtOnce(t *testing.T) {
	url := pgtest.Database(t)
	type ended struct {
		result
		dir string
	}
	const servers = 4
	all := make(chan ended, servers)
	for range servers {
		dir, config := t.TempDir(), writeConfig(t, onPostgres(url, ""))
		go func() {
			c, err := loadConfig(config, overrides{"127.0.0.1:0", dir}, environment())
			if err != nil {
				all <- ended{result{exitFailed, "", err.Error()}, dir}
				return
			}
			in := &invocation{stderr: &record{}}
			log, _ := newLog(in.stderr, "info", "text")
			s, err := openServer(t.Context(), c, program{env: environment(), now: time.Now}, in.stderr, log)
			if err == nil {
				err = s.close()
			}
			all <- ended{result{in.report(err), "", in.stderr.(*record).String()}, dir}
		}()
	}
	made := 0
	for range servers {
		e := <-all
		_, there := contents(t, e.dir)[rootKeyName]
		switch {
		case e.code == exitDone && there:
			made++
		case e.code == exitDone || there || !strings.Contains(e.stderr, "the same root key"):
			t.Errorf("status %d, root key %v, %s", e.code, there, e.stderr)
		}
	}
	if made != 1 {
		t.Errorf("%d servers made a root key", made)
	}
}

// TestServeRefusesADatabase has databases that cannot be served.
func TestServeRefusesADatabase(t *testing.T) {
	server := pgtest.Start(t)
	for _, name := range []string{"other", "newer", "empty"} {
		server.Create(t, name)
	}
	server.Exec(t, "other", "CREATE TABLE public.other (id integer)")
	startReplica(t, t.TempDir(), onPostgres(server.URL("newer"), "")).stop()
	server.Exec(t, "newer", "UPDATE evergrant SET version = 1000, oldest = 1000")
	moved := t.TempDir()
	start(t, moved, "").stop()
	for _, test := range []struct {
		name, url, dir string
		code           int
		want           string
	}{
		{"another program's", server.URL("other"), t.TempDir(), exitFailed, "none is Evergrant's: make an empty one with CREATE DATABASE"},
		{"a newer release's", server.URL("newer"), t.TempDir(), exitFailed, "this database was written by a newer release of evergrant"},
		{"none", server.URL("none"), t.TempDir(), exitUnavailable, "\nlook whether PostgreSQL runs there and lets this user in"},
		{"no server", "postgres://ann@127.0.0.1:1/d?sslmode=disable", t.TempDir(), exitUnavailable, "database d at 127.0.0.1:1: "},
		{"not moved", server.URL("empty"), moved, exitFailed, "empty at " + server.Address() + " is empty, and there is a database in the data directory: " + filepath.Join(moved, databaseName) +
			"\ncopy it with `evergrant migrate --from sqlite:" + filepath.Join(moved, databaseName) + "` and the same --config, or move it away to begin anew; nothing was changed\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := run(t, environment(), "", "serve", "--listen", "127.0.0.1:0", "--data", test.dir, "--config", writeConfig(t, onPostgres(test.url, "")))
			if r.code != test.code || !strings.Contains(r.stderr, test.want) || strings.Contains(r.stderr, databasePassword) || strings.Count(r.stderr, "\n") != 2 {
				t.Errorf("status %d, %q; want %d, %q", r.code, r.stderr, test.code, test.want)
			}
			if _, made := contents(t, test.dir)[rootKeyName]; made != (test.dir == moved) {
				t.Errorf("root key: %v", made)
			}
		})
	}
	if tables := server.Exec(t, "empty", "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"); strings.TrimSpace(tables) != "0" {
		t.Errorf("the refused database has %s tables", tables)
	}
}

// TestReadiness stops the database under a server, freezes it and starts it
// again.
func TestReadiness(t *testing.T) {
	server := pgtest.Start(t)
	server.Create(t, "d")
	s := startReplica(t, t.TempDir(), onPostgres(server.URL("d"), seeds))
	grant := s.login()
	ready := func(want int) {
		t.Helper()
		eventually(t, func() bool {
			resp, err := http.Get(s.url + "/readyz")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			return resp.StatusCode == want
		})
		s.get("/healthz", http.StatusOK)
	}
	for _, outage := range []struct {
		name       string
		begin, end func()
	}{
		{"stopped", func() { server.Stop(t) }, func() { server.Restart(t) }},
		{"killed", func() { server.Kill(t) }, func() { server.Restart(t) }},
		{"frozen", func() { server.Freeze(t) }, func() { server.Thaw(t) }},
	} {
		ready(http.StatusOK)
		outage.begin()
		ready(http.StatusServiceUnavailable)
		if body := s.get("/readyz", http.StatusServiceUnavailable); !strings.HasPrefix(body, "not ready: ") || strings.Contains(body, databasePassword) {
			t.Errorf("%s: %q", outage.name, body)
		}
		outage.end()
		ready(http.StatusOK)
		if grant = s.refresh(grant.Refresh); grant.Refresh == "" {
			t.Fatalf("%s: a refresh afterwards gave %+v", outage.name, grant)
		}
	}
}

// TestBackupOfPostgres runs what the command says.
func TestBackupOfPostgres(t *testing.T) {
	server := pgtest.Start(t)
	server.Create(t, "d")
	s := startReplica(t, t.TempDir(), onPostgres(server.URL("d"), seeds))
	target := filepath.Join(t.TempDir(), "backup")
	r := s.run("", "backup", target)
	first, second, _ := strings.Cut(r.stderr, "\n")
	if r.code != exitFailed || first != "evergrant: this server keeps its data in PostgreSQL (d at "+server.Address()+"), which is backed up with its own tools" ||
		!strings.HasPrefix(second, "`pg_dump --format=custom --file=FILE --host=127.0.0.1 --port=") || strings.Contains(r.stderr, databasePassword) {
		t.Errorf("status %d, %q", r.code, r.stderr)
	}
	if left, err := os.ReadDir(filepath.Dir(target)); err != nil || len(left) > 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
	if out := s.ok("event", "list", "--type", "database.backed_up"); strings.Contains(out, "database.backed_up") {
		t.Errorf("an event says that a backup was made: %s", out)
	}
	for _, token := range []string{"", "Bearer wrong"} { // others learn nothing
		req, _ := http.NewRequest("GET", s.url+"/v1/backup", nil)
		req.Header.Set("Authorization", token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("with %q: %v, %v", token, resp, err)
		}
		resp.Body.Close()
	}
	command := strings.Replace(strings.SplitN(second, "`", 3)[1], "FILE", target, 1)
	if out, err := exec.Command("/bin/sh", "-c", "PATH=$PATH:$(ls -d /usr/lib/postgresql/*/bin | tail -1) "+command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v, %s", command, err, out)
	}
	if info, err := os.Stat(target); err != nil || info.Size() == 0 {
		t.Errorf("the backup: %v", err)
	}
}

// TestRestoreOfPostgres puts an older copy in place with PostgreSQL's own tools,
// as the guide says, and looks at what came of each connection and grant.
func TestRestoreOfPostgres(t *testing.T) {
	server := pgtest.Start(t)
	server.Create(t, "d")
	server.Create(t, "copy")
	third := start(t, t.TempDir(), strings.Replace(seeds, "issuer:\n", "issuer:\n  access_token_lifetime: 1h\n  access_token_format: opaque\n", 1))
	k := &keeping{third: third}
	both := k.config("") + seeds
	k.running = startReplica(t, t.TempDir(), onPostgres(server.URL("d"), both))
	old := k.connect("ann", "--owner", "Ann")
	grant := k.login()
	file := filepath.Join(t.TempDir(), "dump")
	tool(t, "pg_dump", "--format=custom", "--file="+file, server.URL("d"))
	renewed := strings.TrimSpace(k.ok("token", "ann", "--force"))
	later := k.refresh(grant.Refresh)
	tool(t, "pg_restore", "--no-owner", "--exit-on-error", "--dbname="+server.URL("copy"), file)

	config := writeConfig(t, onPostgres(server.URL("d"), both))
	restore := func(args ...string) result {
		return run(t, environment(), "", slices.Concat([]string{"restore", "--data", k.dir}, args)...)
	}
	if r := restore("--config", config); r.code != exitFailed || !strings.Contains(r.stderr, " is in use, by ") || !strings.Contains(r.stderr, "stop all servers on it") {
		t.Errorf("while a server runs: status %d, %q", r.code, r.stderr)
	}
	if r := restore("--config", config, file); r.code != exitUsage || !strings.Contains(r.stderr, "evergrant: with PostgreSQL there is no FILE") {
		t.Errorf("with a file: status %d, %q", r.code, r.stderr)
	}
	k.stop()
	config = writeConfig(t, onPostgres(server.URL("copy"), both))
	if r := run(t, environment(), "", "restore", "--data", t.TempDir(), "--config", config); r.code != exitFailed || !strings.Contains(r.stderr, "evergrant: the root key is missing") {
		t.Errorf("without root key: status %d, %q", r.code, r.stderr)
	}
	if r := run(t, environment(rootKeyEnv, testRoot), "", "restore", "--data", t.TempDir(), "--config", config); r.code != exitFailed || !strings.Contains(r.stderr, "evergrant: the root key is not the one") {
		t.Errorf("wrong root key: status %d, %q", r.code, r.stderr)
	}
	r := restore("--config", config)
	if r.code != exitDone || !strings.HasPrefix(r.out, "restored  copy at ") || !strings.Contains(r.out, "neither can be listed") ||
		!strings.Contains(r.out, "none is sent blindly: 1\n  ann  home  Ann  access token until ") || strings.Contains(r.out+r.stderr, databasePassword) {
		t.Errorf("status %d, %q, %q", r.code, r.out, r.stderr)
	}

	k.running = startReplica(t, k.dir, onPostgres(server.URL("copy"), both))
	if answer := k.refresh(later.Refresh); answer.Refresh == "" {
		t.Errorf("a token that the copy does not know: %+v", answer)
	}
	eventually(t, func() bool { // by the replay window of its provider
		return document[evergrant.Connection](t, k.ok("connection", "show", "ann", "--json")).State == evergrant.ConnectionActive
	})
	if token := strings.TrimSpace(k.ok("token", "ann")); token == old.Access || !k.active(token) || !k.active(renewed) {
		t.Errorf("the restored connection gives %q", token)
	}
	for _, want := range []string{"grant.healed", "database.restored"} {
		if events := k.ok("event", "list", "--type", want); !strings.Contains(events, want) {
			t.Errorf("no event %s", want)
		}
	}
	k.stop()
	server.Create(t, "empty")
	config = writeConfig(t, onPostgres(server.URL("empty"), both))
	if r := restore("--config", config); r.code != exitFailed || !strings.Contains(r.stderr, " has no keys: nothing was restored there\nput the copy in place with pg_restore first") {
		t.Errorf("an empty database: status %d, %q", r.code, r.stderr)
	}
}

// tool runs one of PostgreSQL's programs.
func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	path := name
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name); len(found) > 0 {
		path = found[len(found)-1]
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v, %s", name, err, out)
	}
}
