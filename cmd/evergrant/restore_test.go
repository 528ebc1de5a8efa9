package main

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/issuer"
)

// backup makes a backup of a running server and returns its file.
func (s *running) backup() string {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "backup.db")
	s.ok("backup", file)
	return file
}

func TestBackup(t *testing.T) {
	s := start(t, t.TempDir(), seeds)
	file := filepath.Join(t.TempDir(), "backup.db")
	r := s.run("", "backup", file)
	if r.code != exitDone || strings.ContainsRune(r.stderr, '\r') || !strings.HasPrefix(r.out, "backed up ") || !strings.Contains(r.stderr, "root key is needed to restore it and is not in it") {
		t.Errorf("status %d, %q, %q", r.code, r.out, r.stderr)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 || info.Size() == 0 {
		t.Errorf("backup: %v, %v", info, err)
	}
	if r := s.run("", "backup", file); r.code != exitFailed || r.stderr != "evergrant: "+file+" exists\nchoose another name, or replace it with --force\n" {
		t.Errorf("again: status %d, %q", r.code, r.stderr)
	}
	if answer := document[map[string]any](t, s.ok("backup", file, "--force", "--json")); answer["file"] != file {
		t.Errorf("answer: %v", answer)
	}
	if r := s.run("", "backup", filepath.Join(file, "x")); r.code != exitFailed || !strings.Contains(r.stderr, "\nchoose a directory that can be written\n") {
		t.Errorf("no directory: status %d, %q", r.code, r.stderr)
	}
	s.stop()
	if r := s.run("", "backup", file, "--force"); r.code != exitUnavailable {
		t.Errorf("no server: status %d, %q", r.code, r.stderr)
	}
	left, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(left) != 1 {
		t.Errorf("files beside the backup: %v, %v", left, err)
	}
}

// TestRestore is the whole story: what was granted and revoked after a backup,
// and what a restore of it makes of each.
func TestRestore(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, seeds)
	lives, revoked, stolen, old := s.login(), s.login(), s.login(), s.login()
	file := s.backup()

	for range 50 {
		lives = s.refresh(lives.Refresh)
	}
	s.ok("grant", "revoke", s.explain(revoked.Refresh).Grant.ID)
	next := s.refresh(stolen.Refresh)
	s.refresh(next.Refresh)
	s.refresh(stolen.Refresh) // a thief
	made := s.login()
	s.revokeAccess(made.Access)
	s.ok("key", "rotate", "--now")
	keyed := s.login()
	s.ok("client", "create", "later")
	s.ok("client", "update", "TestClient", "--name", "later")

	if r := s.run("", "restore", file); r.code != exitFailed || !strings.Contains(r.stderr, "evergrant: another process uses the data directory") {
		t.Errorf("while the server runs: status %d, %q", r.code, r.stderr)
	}
	lost := []string{s.explain(made.Refresh).Grant.ID, s.explain(keyed.Refresh).Grant.ID}
	again := []string{s.explain(revoked.Refresh).Grant.ID, s.explain(stolen.Refresh).Grant.ID}
	s.stop()

	report := document[restoreReport](t, s.ok("restore", file, "--json"))
	var gone, ended []string
	for _, g := range report.Lost {
		gone = append(gone, g.ID.String())
	}
	for _, g := range report.Revoked {
		ended = append(ended, g.ID.String()+" "+string(g.RevokedCause))
	}
	if !sameSet(gone, lost) {
		t.Errorf("lost %v, want %v", gone, lost)
	}
	if want := []string{again[0] + " operator_request", again[1] + " refresh_token_reused"}; !sameSet(ended, want) {
		t.Errorf("revoked again %v, want %v", ended, want)
	}
	if want := []string{"key 2 was made since the backup and is kept", "client TestClient was changed since the backup and is as it was then",
		"client later was added since the backup and is gone"}; !slices.Equal(report.Changed, want) {
		t.Errorf("changed %q, want %q", report.Changed, want)
	}
	if report.RevokedAccessTokens != 1 || report.Unknown != "" || report.Backup != file {
		t.Errorf("report is %+v", report)
	}
	if size, err := os.Stat(report.Replaced); err != nil || size.Size() == 0 || filepath.Dir(report.Replaced) != dir {
		t.Errorf("the replaced database %q: %v", report.Replaced, err)
	}
	tidy(t, dir)

	s = start(t, dir, seeds)
	for name, test := range map[string]struct{ token, want string }{
		"renewed since":      {lives.Refresh, ""},
		"untouched":          {old.Refresh, ""},
		"revoked since":      {revoked.Refresh, "invalid_grant"},
		"convicted since":    {stolen.Refresh, "invalid_grant"},
		"its last token too": {next.Refresh, "invalid_grant"},
		"made since":         {made.Refresh, "invalid_grant"},
	} {
		if answer := s.refresh(test.token); answer.Error != test.want {
			t.Errorf("%s: %+v, want error %q", name, answer, test.want)
		}
	}
	for _, want := range []string{"grant.healed", "database.restored"} {
		if events := s.ok("event", "list", "--type", want); !strings.Contains(events, want) {
			t.Errorf("no event %s", want)
		}
	}
}

func (s *running) explain(token string) evergrant.Explanation {
	s.t.Helper()
	r := s.run(token, "explain", "-", "--json")
	if r.code != 0 {
		s.t.Fatalf("explain: %s", r.stderr)
	}
	return document[evergrant.Explanation](s.t, r.out)
}

func (s *running) revokeAccess(token string) {
	s.t.Helper()
	req, _ := http.NewRequest("POST", s.url+"/oauth/revoke", strings.NewReader(url.Values{"token": {token}}.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("TestClient", "TestSecret")
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("revoke: %v, %v", resp, err)
	}
	resp.Body.Close()
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

// tidy says whether a restore left anything behind.
func tidy(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasSuffix(name, "-wal") && !strings.Contains(name, "before-restore") || strings.HasSuffix(name, "-shm") || name == restoringName || name == restoredName {
			t.Errorf("the restore left %s", name)
		}
	}
}

// TestRestoreTells has what is printed for people of each kind of report.
func TestRestoreTells(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var lost []issuer.Grant
	for i := range shownRows + 3 {
		lost = append(lost, issuer.Grant{ID: issuer.GrantID{byte(i)}, ClientID: "app", Subject: "ann", CreatedAt: at})
	}
	revoked := []issuer.Grant{{ID: issuer.GrantID{0xff}, ClientID: "app", Subject: "b\x1b[2Jb", RevokedAt: at, RevokedCause: issuer.CauseRefreshTokenReused}}
	for _, test := range []struct {
		name   string
		report restoreReport
		want   []string
		not    string
	}{
		{"all", restoreReport{Backup: "b.db", Replaced: "old.db", Lost: lost, Revoked: revoked, Changed: []string{"client x was deleted"}, RevokedAccessTokens: 2}, []string{
			"restored               b.db\nreplaced, and kept as  old.db\n",
			"\nlost: alive, and made since the backup; these clients have to ask their owners again: 23\n  00000000000000000000000000000000  app  ann  made " + localTime(at) + "\n",
			"\n  and 3 more\n", "\nrevoked since the backup, and again now: 1\n  ff000000000000000000000000000000  app  b\ufffd[2Jb  revoked " + localTime(at) + ": refresh_token_reused\n",
			"\n2 access tokens that were revoked", "\nother changes since the backup\n  client x was deleted\n"}, "14000000000000000000000000000000"},
		{"nothing lost", restoreReport{Backup: "b.db"}, []string{"ask their owners again: 0\n", "and again now: 0\n"}, "other changes"},
		{"unknown", restoreReport{Backup: "b.db", Unknown: "it cannot be read"}, []string{
			"\nit cannot be read: what was granted since the backup is lost, and what was revoked since is alive again; neither can be listed\n"}, "again now"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			if err := (&invocation{stdout: &out, stderr: &out}).showRestored(&test.report); err != nil {
				t.Fatal(err)
			}
			for _, want := range test.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in\n%s", want, out.String())
				}
			}
			if strings.Contains(out.String(), test.not) {
				t.Errorf("%q in\n%s", test.not, out.String())
			}
		})
	}
}

func TestRestoreRefuses(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, seeds)
	s.login()
	good := s.backup()
	s.stop()
	elsewhere := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(elsewhere, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	damaged := []byte(strings.Clone(string(whole)))
	for i := 3000; i < len(damaged); i += 7 {
		damaged[i] ^= 0x55
	}
	other := start(t, t.TempDir(), seeds)
	foreign := other.backup()
	before := contents(t, dir)
	for _, test := range []struct{ name, file, want string }{
		{"no file", filepath.Join(elsewhere, "none"), "is no backup: there is no such file, or it is empty\nname a file"},
		{"empty file", write("empty", ""), "is no backup: there is no such file, or it is empty\nname a file"},
		{"not a database", write("text", strings.Repeat("text", 4000)), "evergrant: the backup cannot be used: "},
		{"truncated", write("short", string(whole[:len(whole)/2])), "evergrant: the backup "},
		{"damaged", write("damaged", string(damaged)), "evergrant: the backup "},
		{"another server's", foreign, "evergrant: the root key is not the one that the backup was made with\nnothing was changed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := s.run("", "restore", test.file)
			if r.code != exitFailed || !strings.Contains(r.stderr, test.want) || strings.Count(r.stderr, "\n") != 2 {
				t.Errorf("status %d, %q, want %q", r.code, r.stderr, test.want)
			}
			if !sameFiles(before, contents(t, dir)) {
				t.Error("the data directory was changed")
			}
			tidy(t, dir)
		})
	}
	t.Run("without root key", func(t *testing.T) {
		r := run(t, environment(), "", "restore", good, "--data", t.TempDir())
		if r.code != exitFailed || !strings.Contains(r.stderr, "evergrant: the root key is missing") {
			t.Errorf("status %d, %q", r.code, r.stderr)
		}
	})
}

// TestRestoreElsewhere restores on a machine that has the root key only.
func TestRestoreElsewhere(t *testing.T) {
	s := start(t, t.TempDir(), seeds)
	grant := s.login()
	file := s.backup()
	s.stop()
	root, err := os.ReadFile(filepath.Join(s.dir, rootKeyName))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := writeConfig(t, "data_dir: "+dir+"\nroot_key: "+string(root))
	r := run(t, environment(), "", "restore", file, "--config", config)
	if r.code != exitDone || !strings.Contains(r.out, "there is no database here that the backup replaces: what was granted since the backup is lost") || strings.Contains(r.out, "replaced, and kept") {
		t.Fatalf("status %d, %q, %q", r.code, r.out, r.stderr)
	}
	tidy(t, dir)
	moved := start(t, dir, "root_key: "+string(root)+seeds)
	if answer := moved.refresh(grant.Refresh); answer.Refresh == "" {
		t.Errorf("refresh: %+v", answer)
	}
}

// TestRestoreOverDamage replaces a database that cannot be read, with a log
// that must not be played into the new one.
func TestRestoreOverDamage(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, seeds)
	grant := s.login()
	file := s.backup()
	s.stop()
	database := filepath.Join(dir, databaseName)
	garbage := strings.Repeat("garbage!", 4000)
	for _, name := range []string{database, database + "-wal"} {
		if err := os.WriteFile(name, []byte(garbage), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := s.run("", "restore", file)
	if r.code != exitDone || !strings.Contains(r.out, "the database that the backup replaces cannot be read (") || !strings.Contains(r.stderr, "revoke again what you know was revoked") {
		t.Fatalf("status %d, %q, %q", r.code, r.out, r.stderr)
	}
	kept, err := filepath.Glob(database + ".before-restore-*")
	if err != nil || len(kept) == 0 {
		t.Fatalf("the damaged database was not kept: %v, %v", kept, err)
	}
	if text, err := os.ReadFile(kept[0]); err != nil || string(text) != garbage {
		t.Errorf("the damaged database was changed: %v", err)
	}
	tidy(t, dir)
	s = start(t, dir, seeds)
	if answer := s.refresh(grant.Refresh); answer.Refresh == "" {
		t.Errorf("refresh: %+v", answer)
	}
}

// TestFinishRestore breaks a restore off after each of its steps, and looks at
// what the next call makes of it.
func TestFinishRestore(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	earlier := ".before-restore-20260102T030000.000Z"
	steps := []struct {
		name string
		do   func(t *testing.T, database string)
	}{
		{"decided", func(*testing.T, string) {}},
		{"database has a second name", func(t *testing.T, database string) { link(t, database, database+earlier) }},
		{"log has a second name", func(t *testing.T, database string) { link(t, database+"-wal", database+earlier+"-wal") }},
		{"log lost its first name", func(t *testing.T, database string) { remove(t, database+"-wal") }},
		{"index is gone", func(t *testing.T, database string) { remove(t, database+"-shm") }},
		{"renamed", func(t *testing.T, database string) {
			if err := os.Rename(filepath.Join(filepath.Dir(database), restoredName), database); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for broken, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			dir := t.TempDir()
			database := filepath.Join(dir, databaseName)
			for name, text := range map[string]string{databaseName: "old", databaseName + "-wal": "old log", databaseName + "-shm": "old index", restoredName: "new"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, done := range steps[:broken+1] {
				done.do(t, database)
			}
			for range 2 { // the second finds nothing to do
				if _, err := finishRestore(dir, now); err != nil {
					t.Fatal(err)
				}
			}
			files := contents(t, dir)
			if files[databaseName] != "new" {
				t.Errorf("the database is %q", files[databaseName])
			}
			var kept []string
			for name, text := range files {
				if strings.Contains(name, ".before-restore-") {
					kept = append(kept, text)
				}
			}
			if !slices.Contains(kept, "old") || !slices.Contains(kept, "old log") {
				t.Errorf("kept are %q", kept)
			}
			tidy(t, dir)
		})
	}
	t.Run("not decided", func(t *testing.T) {
		dir := t.TempDir()
		for _, name := range []string{databaseName, restoringName} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		before := contents(t, dir)
		if _, err := finishRestore(dir, now); err != nil || !sameFiles(before, contents(t, dir)) {
			t.Errorf("something was done: %v, %v", err, contents(t, dir))
		}
	})
}

func link(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Link(from, to); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// TestServeFinishesRestore starts a server where a restore was decided and
// broken off.
func TestServeFinishesRestore(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, seeds)
	grant := s.login()
	file := s.backup()
	later := s.login()
	s.stop()
	if err := copyFile(file, filepath.Join(dir, restoredName)); err != nil {
		t.Fatal(err)
	}
	s = start(t, dir, seeds)
	if !strings.Contains(s.stderr.String(), "a restore that was broken off is finished") {
		t.Errorf("the log does not tell: %s", s.stderr)
	}
	if answer := s.refresh(grant.Refresh); answer.Refresh == "" {
		t.Errorf("refresh: %+v", answer)
	}
	if answer := s.refresh(later.Refresh); answer.Error != "invalid_grant" {
		t.Errorf("a grant made after the backup: %+v", answer)
	}
}

func TestCreateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := createFile(path, "one"); err != nil {
		t.Fatal(err)
	}
	if err := createFile(path, "two"); err == nil {
		t.Error("a file was replaced")
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "one" {
		t.Errorf("the file has %q, %v", text, err)
	}
}
