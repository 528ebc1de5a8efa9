package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
)

// TestRestoreConnections is the whole story: connections that were refreshed,
// made, deleted and paused after a backup, and what a restore makes of each.
func TestRestoreConnections(t *testing.T) {
	k := startKeeping(t, "")
	old := k.connect("ann", "--owner", "Ann")
	k.connect("dead", "--owner", "Dora")
	k.connect("bob")
	file := k.backup()
	renewed := strings.TrimSpace(k.ok("token", "ann", "--force"))
	k.connect("later", "--owner", "Lars")
	k.ok("connection", "delete", "dead")
	k.ok("connection", "pause", "bob")
	k.stop()

	config := writeConfig(t, k.config(""))
	report := document[restoreReport](t, k.ok("restore", file, "--json", "--config", config))
	var lost, doubts []string
	for _, c := range report.LostConnections {
		lost = append(lost, c.ID+" "+c.Owner)
	}
	for _, d := range report.InDoubt {
		doubts = append(doubts, fmt.Sprint(d.ID, " ", d.Owner, " ", d.Repairs, " ", d.Until.IsZero()))
	}
	if !slices.Equal(lost, []string{"later Lars"}) || !slices.Equal(doubts, []string{"ann Ann true false", "bob  true false"}) {
		t.Errorf("lost %q, in doubt %q", lost, doubts)
	}
	if want := []string{"connection bob was paused since the backup and is not any more", "connection dead was deleted since the backup, and is again"}; !slices.Equal(report.Changed, want) {
		t.Errorf("changed %q, want %q", report.Changed, want)
	}
	if !strings.HasPrefix(report.InDoubt[0].Repair, "a spent refresh token still works: start the server before ") {
		t.Errorf("repair %q", report.InDoubt[0].Repair)
	}

	s := start(t, k.dir, k.config(""))
	// Its refresh token was spent seconds ago: within the replay window it gives
	// the successor again.
	eventually(t, func() bool {
		c := document[evergrant.Connection](t, s.ok("connection", "show", "ann", "--json"))
		return c.State == evergrant.ConnectionActive
	})
	if token := strings.TrimSpace(s.ok("token", "ann")); token == old.Access || !k.active(token) || !k.active(renewed) {
		t.Errorf("the restored connection gives %q", token)
	}
	for _, gone := range []string{"later", "dead"} {
		if r := s.run("", "connection", "show", gone); r.code != exitFailed {
			t.Errorf("%s is there: %s", gone, r.out)
		}
	}
	if out := s.ok("event", "list", "--type", "database.restored"); !strings.Contains(out, "1 connections made since the backup were lost") || !strings.Contains(out, "2 connections are in doubt") {
		t.Errorf("event %s", out)
	}
}

// TestRestoreConnectionsElsewhere restores where neither the old database nor
// the providers are known.
func TestRestoreConnectionsElsewhere(t *testing.T) {
	k := startKeeping(t, "")
	k.connect("ann", "--owner", "Ann")
	file := k.backup()
	k.stop()
	dir := t.TempDir()
	if err := createFile(filepath.Join(dir, rootKeyName), contents(t, k.dir)[rootKeyName]); err != nil {
		t.Fatal(err)
	}
	r := run(t, environment(), "", "restore", file, "--data", dir)
	if r.code != exitDone || !strings.Contains(r.out, "\nconnections in doubt: their refresh tokens may have been spent since the backup, and none is sent blindly: 1\n  ann  home  Ann  access token until ") ||
		!strings.Contains(r.out, "its provider is not in the configuration; add it, or name the file with --config to see what repairs it\n") ||
		!strings.Contains(r.stderr, "`evergrant connection refresh ID --even-in-doubt` saves the owner that\n") {
		t.Errorf("status %d, %q, %q", r.code, r.out, r.stderr)
	}
}

// TestRepairs has what a definition lets repair without the owner.
func TestRepairs(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	live := keeper.Connection{Provider: "p", Since: now.Add(-time.Minute), IssuedAt: now.Add(-time.Hour), ExpiresAt: now.Add(time.Hour)}
	window := provider.RefreshToken{ReplayWindow: oauth.Lifetime(10 * time.Minute)}
	for _, test := range []struct {
		name       string
		definition provider.Definition
		change     func(*keeper.Connection)
		itself     bool
		how        string
	}{
		{"fixed", provider.Definition{RefreshToken: provider.RefreshToken{Rotation: provider.RotationFixed}}, nil, true, "its refresh token does not change"},
		{"said to be fixed", provider.Definition{RefreshToken: provider.RefreshToken{Rotation: provider.RotationFixed}}, func(c *keeper.Connection) { c.Rotates = true }, false, "its owner has to connect again, unless"},
		{"re-mint", provider.Definition{Remint: provider.Remint{Steps: []provider.Step{{}}}}, nil, true, "the provider gives new tokens without the owner"},
		{"client credentials", provider.Definition{Grant: oauth.GrantClientCredentials}, nil, true, "the provider gives new tokens without the owner"},
		{"window", provider.Definition{RefreshToken: window}, nil, true, "a spent refresh token still works: start the server before " + localTime(now.Add(9*time.Minute-10*time.Second))},
		{"window over", provider.Definition{RefreshToken: window}, func(c *keeper.Connection) { c.Since = now.Add(-time.Hour) }, false, "its owner has to connect again, unless"},
		{"window longer than the tokens live", provider.Definition{RefreshToken: window}, func(c *keeper.Connection) { c.IssuedAt = c.ExpiresAt.Add(-time.Minute) }, false, "its owner"},
		{"check", provider.Definition{AccessToken: provider.AccessToken{OneAtATime: true}, API: provider.API{Check: "/me"}}, nil, true, "whether its access token still lives tells"},
		{"check of a dead token", provider.Definition{AccessToken: provider.AccessToken{OneAtATime: true}, API: provider.API{Check: "/me"}}, func(c *keeper.Connection) { c.ExpiresAt = now }, false, "its owner"},
		{"single use", provider.Definition{}, nil, false, "its owner has to connect again, unless it was not refreshed since the backup"},
		{"not configured", provider.Definition{}, func(c *keeper.Connection) { c.Provider = "q" }, false, "its provider is not in the configuration"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, connection := &config{}, live
			c.Keeper.Providers = []declaredProvider{{Name: "p", definition: test.definition}}
			if test.change != nil {
				test.change(&connection)
			}
			if itself, how := c.repair(connection, now); itself != test.itself || !strings.HasPrefix(how, test.how) {
				t.Errorf("%v, %q; want %v, %q", itself, how, test.itself, test.how)
			}
		})
	}
}

// TestRestoreTellsOfConnections has what is printed for people.
func TestRestoreTellsOfConnections(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	report := restoreReport{Backup: "b.db"}
	for i := range shownRows + 2 {
		report.LostConnections = append(report.LostConnections, keeper.Connection{ID: fmt.Sprint("lost", i), Provider: "p", Owner: "o", CreatedAt: at})
	}
	report.InDoubt = []doubtful{{ID: "one", Provider: "p", Owner: "b\x1b[2Jb", Until: at, Repairs: true, Repair: "somehow"}, {ID: "two", Provider: "p", Repair: "ask"}}
	var out, stderr strings.Builder
	if err := (&invocation{stdout: &out, stderr: &stderr}).showRestored(&report); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"\nconnections lost: made since the backup; their owners have to connect again: 22\n  lost0   p  o  made " + localTime(at) + "\n", "\n  and 2 more\n",
		"none is sent blindly: 2\n  one  p  b\ufffd[2Jb  access token until " + localTime(at) + "  repairs itself: somehow\n  two  p  -       no live access token                     ask\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Count(stderr.String(), "\n") != 1 || !strings.HasPrefix(stderr.String(), "once the server runs: ") {
		t.Errorf("stderr %q", stderr.String())
	}
	stderr.Reset()
	report.InDoubt = report.InDoubt[:1]
	if err := (&invocation{stdout: &out, stderr: &stderr}).showRestored(&report); err != nil || stderr.Len() > 0 {
		t.Errorf("error %v, stderr %q", err, stderr.String())
	}
}
