package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/provider"
)

func TestProviderCheck(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, bad := write("good.yaml", mine), write("bad.yaml", "name: bad\ntoken_url: https://a.example/token\nauthorize_url: https://a.example/\ncolour: red\nrefresh_token:\n  rotation: sometimes\n")
	r := run(t, environment(), "", "provider", "check", good)
	if r.code != exitDone || r.out != good+": ok\n" || r.stderr != "" {
		t.Errorf("good: status %d, %q, %q", r.code, r.out, r.stderr)
	}
	r = run(t, environment(), "", "provider", "check", good, bad)
	if r.code != exitFailed || r.out != good+": ok\n" || !strings.HasPrefix(r.stderr, bad+`:4: unknown key "colour"`) || !strings.Contains(r.stderr, "\n"+bad+":6: refresh_token.rotation ") ||
		!strings.HasSuffix(r.stderr, "\nevergrant: 1 of 2 definitions cannot be used\nmend the lines above; `evergrant provider schema` has every key for an editor\n") {
		t.Errorf("bad: status %d, %q, %q", r.code, r.out, r.stderr)
	}
	r = run(t, environment(), "", "provider", "check", good, bad, "--json")
	checked := document[[]struct {
		File     string
		OK       bool
		Name     string
		Problems provider.Problems
	}](t, r.out)
	if r.code != exitFailed || len(checked) != 2 || !checked[0].OK || checked[0].Name != "mine" || checked[1].OK || len(checked[1].Problems) != 2 || checked[1].Problems[0].Place != bad+":4" {
		t.Errorf("JSON: status %d, %+v", r.code, checked)
	}
	r = run(t, environment(), "", "provider", "check", filepath.Join(dir, "none.yaml"))
	if r.code != exitFailed || !strings.Contains(r.stderr, "no such file or directory\nname files that each have one definition in YAML\n") {
		t.Errorf("no file: status %d, %q", r.code, r.stderr)
	}
	if r = run(t, environment(), "", "provider", "check"); r.code != exitUsage || !strings.HasPrefix(r.stderr, "evergrant: expected as arguments: evergrant provider check FILE...") {
		t.Errorf("no argument: status %d, %q", r.code, r.stderr)
	}
}

func TestProviderSchemaAndCatalogue(t *testing.T) {
	r := run(t, environment(), "", "provider", "schema")
	if r.code != exitDone || !json.Valid([]byte(r.out)) || !strings.Contains(r.out, "token_url") {
		t.Errorf("schema: status %d, %.200q", r.code, r.out)
	}
	r = run(t, environment(), "", "provider", "catalogue")
	if r.code != exitDone || !strings.HasPrefix(r.out, "NAME ") || !strings.Contains(r.out, "\ntink ") || !strings.Contains(r.out, "\neventix ") || !strings.Contains(r.out, "\nflexiti ") {
		t.Errorf("catalogue: status %d, %.200q", r.code, r.out)
	}
	entries := document[[]struct{ Name, Title string }](t, run(t, environment(), "", "provider", "catalogue", "--json").out)
	if len(entries) != len(provider.Builtin().Names()) || entries[0].Name == "" {
		t.Errorf("%d entries", len(entries))
	}
}

func TestProviderIsShown(t *testing.T) {
	var out strings.Builder
	in := &invocation{stdout: &out, stderr: &out}
	p := evergrant.Provider{Name: "x", Title: "X", State: "bad_client", Since: at2026, Detail: "the client is refused", Connections: map[string]int{"paused": 1, "active": 2, "in_doubt": 0},
		Params: map[string]evergrant.ProviderParam{
			"host": {From: "answer:host"}, "region": {Title: "Region", Default: "eu"},
		}}
	if err := in.showProvider(p); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"state         bad_client since " + localTime(at2026) + "\n", "detail        the client is refused\n", "connections   2 active, 1 paused\n",
		"param host    text, told by the provider\n", "param region  Region, eu unless told otherwise\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	for state, want := range map[string]evergrant.Delivery{
		"delivered": {DoneAt: at2026, Attempts: 1}, "given up": {Attempts: 9}, "waiting": {NextAt: at2026}, "failed, again at": {NextAt: at2026, Attempts: 2},
	} {
		if got, at := deliveryState(want); got != state || state != "given up" && at != localTime(at2026) {
			t.Errorf("%+v is %q at %q", want, got, at)
		}
	}
}
