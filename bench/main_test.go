package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/bench"
)

// quickly are arguments that measure the test program instead of the real
// servers, as briefly as possible.
func quickly(t *testing.T, how string, more ...string) []string {
	t.Helper()
	t.Setenv(behaviour, how)
	return append([]string{
		"-server", os.Args[0], "-peers", os.Args[0], "-hydra", os.Args[0], "-dir", passable(t),
		"-clients", "1,2", "-grants", "4", "-seconds", "0.05", "-warmup", "0.02", "-repeat", "1",
	}, more...)
}

// passable is a temporary directory that PostgreSQL's user can pass through.
func passable(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o711), os.Chmod(filepath.Dir(dir), 0o711)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestRunMeasuresEverything(t *testing.T) {
	out, dir, servers := &bytes.Buffer{}, t.TempDir(), passable(t)
	asJSON, asMarkdown := filepath.Join(dir, "report.json"), filepath.Join(dir, "report.md")
	args := quickly(t, "rotates", "-dir", servers, "-json", asJSON, "-markdown", asMarkdown)
	progress := &bytes.Buffer{}
	if err := run(t.Context(), bench.Cores{Count: 2}, args, out, progress); err != nil {
		t.Fatalf("%v\n%s", err, progress)
	}
	var report bench.Report
	text, err := os.ReadFile(asJSON)
	if err == nil {
		err = json.Unmarshal(text, &report)
	}
	if err != nil {
		t.Fatal(err)
	}
	// echo and five servers at two numbers of clients, three on PostgreSQL at one,
	// four introspections and three times client_credentials.
	if len(report.Rows) != 2+2*5+3+4+3 || len(report.Ratios) != 5+2 {
		t.Errorf("%d rows, %d ratios", len(report.Rows), len(report.Ratios))
	}
	for _, row := range report.Rows {
		if row.Requests == 0 || row.Errors != 0 || row.P99 <= 0 {
			t.Errorf("%+v", row)
		}
		if strings.HasPrefix(row.Store, "PostgreSQL") { // whose log is real, and which nobody wrote to
			if row.RowsGrown.Max != 0 || row.WAL.Max < 1e6 || row.Clients != 2 || row.MemoryBefore == 0 {
				t.Errorf("growth of %s: %v %v %v", row.Peer, row.RowsGrown, row.BytesPer1000, row.WAL)
			}
			continue
		}
		if ours := row.Peer == "evergrant"; ours != (row.RowsGrown != nil) || ours && (row.RowsGrown.Max != 0 || row.BytesPer1000.Max != 0 || row.WAL.Max != 2e6) {
			t.Errorf("growth of %s: %v %v %v", row.Peer, row.RowsGrown, row.BytesPer1000, row.WAL)
		}
	}
	if !strings.HasPrefix(report.Machine.Database, "PostgreSQL 1") {
		t.Errorf("the database is %q", report.Machine.Database)
	}
	if report.Machine.Pinned || report.Machine.Cores != 2 || report.Machine.Repeat != 1 || report.Machine.FlushRate <= 0 {
		t.Errorf("%+v", report.Machine)
	}
	written, err := os.ReadFile(asMarkdown)
	if err != nil || !bytes.Equal(written, out.Bytes()) || !strings.Contains(out.String(), "**Not pinned**") {
		t.Errorf("%v, printed and written differ, or do not say that nothing was pinned:\n%s", err, out)
	}
	left, err := os.ReadDir(servers)
	if err != nil || len(left) != 0 {
		t.Errorf("files were left behind: %v, %v", left, err)
	}
}

func TestRunTellsGrowth(t *testing.T) {
	dir := t.TempDir()
	args := quickly(t, "grows", "-only", "evergrant:opaque", "-json", filepath.Join(dir, "report.json"))
	if err := run(t.Context(), bench.Cores{Count: 2}, args, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	var report bench.Report
	text, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err == nil {
		err = json.Unmarshal(text, &report)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range report.Rows {
		if want := 4096 / float64(row.Requests) * 1000; row.RowsGrown.Max != 1 || row.BytesPer1000.Max != want {
			t.Errorf("%v rows, %v bytes per 1000, want 1 and %v", row.RowsGrown.Max, row.BytesPer1000.Max, want)
		}
	}
	if len(report.Ratios) != 0 {
		t.Error("ratios without a peer")
	}
}

// A server that fails requests is reported in full, and then as an error.
func TestRunTellsFailedRequests(t *testing.T) {
	out := &bytes.Buffer{}
	err := run(t.Context(), bench.Cores{Count: 2}, quickly(t, "static", "-only", "go-oauth2"), out, io.Discard)
	if err == nil || !strings.HasSuffix(err.Error(), "requests failed") {
		t.Errorf("error %v", err)
	}
	if !strings.Contains(out.String(), "the answer's refresh token is the one that was sent") {
		t.Errorf("the report does not say why:\n%s", out)
	}
}

func TestRunTellsWhatWentWrong(t *testing.T) {
	tests := []struct {
		name, how string
		more      []string
		want      string
	}{
		{"server dies", "dies", []string{"-only", "evergrant:eddsa"}, "evergrant EdDSA, refresh, 1 clients"},
		{"unknown server", "rotates", []string{"-only", "keycloak"}, `no server is called "keycloak"`},
		{"hydra does not migrate", "no hydra", []string{"-only", "hydra"}, "I die"},
		{"server on PostgreSQL dies", "dies", []string{"-only", "evergrant:postgres"}, "evergrant opaque, refresh, 2 clients"},
		{"unknown flag", "rotates", []string{"-fast"}, "flag provided but not defined"},
		{"report cannot be written", "rotates", []string{"-only", "echo", "-json", "/nowhere/report.json"}, "/nowhere/report.json"},
		{"no such directory", "rotates", []string{"-dir", "/nowhere"}, "/nowhere"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := run(t.Context(), bench.Cores{Count: 2}, quickly(t, test.how, test.more...), io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

// The program that go builds from this module takes the configuration that the
// runner writes, and every load, without an error and without growing: three
// formats on SQLite, and one and two servers on PostgreSQL.
func TestRunMeasuresEvergrant(t *testing.T) {
	out, progress := &bytes.Buffer{}, &bytes.Buffer{}
	args := []string{"-only", "evergrant", "-clients", "2", "-grants", "4", "-seconds", "0.3", "-warmup", "0.1", "-repeat", "1", "-dir", passable(t)}
	if err := run(t.Context(), bench.Cores{Count: 2}, args, out, progress); err != nil {
		t.Fatalf("%v\n%s\n%s", err, progress, out)
	}
	if n := strings.Count(out.String(), "| evergrant |"); n != 3+2+3+1 {
		t.Errorf("%d lines:\n%s", n, out)
	}
}

// What others own and cannot be had is told in its line, and the rest is measured.
func TestRunTellsWhatIsMissing(t *testing.T) {
	out, progress := &bytes.Buffer{}, &bytes.Buffer{}
	args := quickly(t, "rotates", "-only", "hydra,go-oauth2", "-clients", "1", "-hydra", "")
	t.Setenv("GOPROXY", "off")
	t.Setenv("GOMODCACHE", t.TempDir())
	t.Setenv("GOFLAGS", "-modcacherw")
	if err := run(t.Context(), bench.Cores{Count: 2}, args, out, progress); err != nil {
		t.Fatalf("%v\n%s", err, progress)
	}
	for _, want := range []string{"| go-oauth2 |", "| not measured |", "**hydra was not measured**: it could not be built: go mod download"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}

func TestBuildNeedsTheModule(t *testing.T) {
	t.Chdir(t.TempDir())
	err := run(t.Context(), bench.Cores{Count: 2}, []string{"-only", "evergrant"}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "run this inside a copy of the module") {
		t.Errorf("error %v", err)
	}
}

func TestParse(t *testing.T) {
	defaults := options{clients: []int{1, 16, 64}, grants: 512, seconds: 5, warmup: 1, repeat: 3, dir: os.TempDir()}
	with := func(change func(*options)) options {
		o := defaults
		change(&o)
		return o
	}
	tests := []struct {
		name string
		args string
		want options
	}{
		{"nothing", "", defaults},
		{"quick", "-quick", with(func(o *options) { o.clients, o.seconds, o.warmup, o.repeat = []int{1, 16}, 0.5, 0.2, 1 })},
		{"quick but", "-quick -clients 64 -repeat 2", with(func(o *options) { o.clients, o.seconds, o.warmup, o.repeat = []int{64}, 0.5, 0.2, 2 })},
		{"clients in order", "-clients 64,1,64", with(func(o *options) { o.clients = []int{1, 64} })},
		{"some servers", "-only evergrant:EdDSA,echo", with(func(o *options) { o.only = []string{"evergrant:eddsa", "echo"} })},
		{"files", "-json a -markdown b -dir c -server d -peers e -hydra f -grants 9", with(func(o *options) {
			o.json, o.markdown, o.dir, o.server, o.peers = "a", "b", "c", "d", "e"
			o.hydra, o.grants = "f", 9
		})},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := parse(strings.Fields(test.args), io.Discard)
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("%+v, %v, want %+v", got, err, test.want)
			}
		})
	}
	for _, args := range []string{
		"-clients 0", "-grants 0", "-grants 100001", "-clients x", "-clients 1,,2", "-clients 1001", "-seconds 0", "-seconds 601", "-warmup -1", "-repeat 0", "-repeat 101", "more",
	} {
		if o, err := parse(strings.Fields(args), io.Discard); err == nil {
			t.Errorf("%s is taken as %+v", args, o)
		}
	}
	if _, err := parse([]string{"-h"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}

func TestChoose(t *testing.T) {
	tests := []struct{ only, want string }{
		{"", "echo none, go-oauth2 opaque, fosite opaque, evergrant opaque, evergrant EdDSA, evergrant ES256, hydra opaque, evergrant opaque 1, evergrant opaque 2"},
		{"evergrant", "evergrant opaque, evergrant EdDSA, evergrant ES256, evergrant opaque 1, evergrant opaque 2"},
		{"evergrant:es256,go-oauth2", "go-oauth2 opaque, evergrant ES256"},
		{"evergrant:opaque", "evergrant opaque"},
		{"evergrant:postgres,hydra", "hydra opaque, evergrant opaque 1, evergrant opaque 2"},
		{"evergrant,evergrant:opaque", "evergrant opaque, evergrant EdDSA, evergrant ES256, evergrant opaque 1, evergrant opaque 2"},
	}
	for _, test := range tests {
		var names []string
		if test.only != "" {
			names = strings.Split(test.only, ",")
		}
		chosen, err := choose(names)
		var got []string
		for _, c := range chosen {
			name := c.Peer + " " + c.AccessToken
			if c.ours() && c.postgres {
				name += fmt.Sprint(" ", c.issuers)
			}
			got = append(got, name)
		}
		if err != nil || strings.Join(got, ", ") != test.want {
			t.Errorf("%q chooses %v, %v", test.only, got, err)
		}
	}
	if _, err := choose([]string{"evergrant", "evergrant:rs256"}); err == nil {
		t.Error("an unknown format is taken")
	}
}

func TestRounds(t *testing.T) {
	got := rounds([]int{1, 16, 64})
	want := []round{
		{bench.Echo, 1}, {bench.Echo, 16}, {bench.Echo, 64},
		{bench.Refresh, 1}, {bench.Refresh, 16}, {bench.Refresh, 64},
		{bench.Introspect, 16}, {bench.ClientCredentials, 16},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}

func TestSizeOf(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{"a.db-wal": 100, "b.db-wal": 20, "a.db": 4000} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := sizeOf(filepath.Join(dir, "*-wal")); err != nil || got != 120 {
		t.Errorf("%d, %v", got, err)
	}
	if got, err := sizeOf(filepath.Join(dir, "nothing")); err != nil || got != 0 {
		t.Errorf("%d, %v", got, err)
	}
	if _, err := sizeOf("["); err == nil {
		t.Error("no error for a pattern that is none")
	}
}

// Credentials differ between runs and need no escaping.
func TestCredentials(t *testing.T) {
	one, two := randomText(), randomText()
	if one == two || len(one) != 43 || strings.Trim(one, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
		t.Errorf("%q, %q", one, two)
	}
	c := credentials{clientSecret: "s", password: "p"}
	if got := c.basic(); got != "Basic c2VydmljZTpz" {
		t.Error(got)
	}
}
