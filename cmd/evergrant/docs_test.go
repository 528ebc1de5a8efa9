package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/issuer/profile"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func readDoc(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestEveryKeyIsDocumented takes the keys from what the reader says of an
// unknown one in each place.
func TestEveryKeyIsDocumented(t *testing.T) {
	doc := readDoc(t, "CONFIGURATION.md")
	_, _, wrong := parseConfig("FILE", []byte("x: 1\ntls: {x: 1}\nissuer: {x: 1, clients: [{x: 1}], users: [{x: 1}]}\nkeeper: {x: 1, providers: [{x: 1}], webhooks: [{x: 1}]}"), environment())
	for _, name := range profile.Names() {
		_, _, more := parseConfig("FILE", []byte("issuer: {profile: "+name+", x: 1, clients: [{x: 1}]}"), environment())
		wrong = append(wrong, more...)
	}
	keys := 0
	for _, p := range wrong {
		_, list, ok := strings.Cut(p.Text, "known keys here are ")
		if !ok {
			t.Errorf("another problem: %v", p)
		}
		for key := range strings.SplitSeq(list, ", ") {
			keys++
			if !regexp.MustCompile("`(tls\\.)?" + key + "[`:]").MatchString(doc) {
				t.Errorf("docs/CONFIGURATION.md does not have the key %s", key)
			}
		}
	}
	if len(wrong) != 8+2*len(profile.Names()) || keys < 200 {
		t.Errorf("%d keys were found in %d places", keys, len(wrong))
	}
}

// TestDocumentedConfiguration checks the samples of the documents.
func TestDocumentedConfiguration(t *testing.T) {
	env := func(name string) (string, bool) {
		if name == rootKeyEnv {
			return "", false
		}
		return "value-of-" + name, true
	}
	for document, samples := range map[string]int{"CONFIGURATION.md": 3, "KEEPER.md": 2, "POSTGRES.md": 2} {
		found := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(readDoc(t, document), -1)
		if len(found) != samples {
			t.Errorf("docs/%s has %d samples, want %d", document, len(found), samples)
		}
		for _, sample := range found {
			if _, wrong := load(t, sample[1], overrides{}, env); len(wrong) > 0 {
				t.Errorf("docs/%s: %q in\n%s", document, wrong, sample[1])
			}
		}
	}
}

// TestGuideNamesCommands holds that the commands and flags of the guide are
// there.
func TestGuideNamesCommands(t *testing.T) {
	lines := regexp.MustCompile("evergrant ((?:[a-z]+ ?)+)([^`\n)#<]*)").FindAllStringSubmatch(readDoc(t, "KEEPER.md"), -1)
	if len(lines) < 12 {
		t.Fatalf("only %d commands were found", len(lines))
	}
	for _, line := range lines {
		words := strings.Fields(line[1])
		cmd, rest, err := (&invocation{}).root().Find(words)
		if err != nil || cmd.HasSubCommands() || !cmd.HasParent() {
			t.Errorf("%q is no command", line[0])
			continue
		}
		if len(rest) == len(words) {
			t.Errorf("%q is no command", line[0])
		}
		for _, flag := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(line[2], -1) {
			if cmd.Flags().Lookup(flag[1]) == nil && cmd.InheritedFlags().Lookup(flag[1]) == nil {
				t.Errorf("%q: there is no flag --%s", line[0], flag[1])
			}
		}
	}
}

func TestEveryCommandIsDocumented(t *testing.T) {
	doc := readDoc(t, "COMMANDS.md")
	commands := 0
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, below := range cmd.Commands() {
			visit(below)
		}
		if cmd.HasSubCommands() {
			return
		}
		commands++
		if !strings.Contains(doc, "`"+cmd.CommandPath()) {
			t.Errorf("docs/COMMANDS.md does not have `%s`", cmd.CommandPath())
		}
		if cmd.Name() == "demo" {
			return
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !strings.Contains(doc, "--"+f.Name) {
				t.Errorf("docs/COMMANDS.md does not have --%s of `%s`", f.Name, cmd.CommandPath())
			}
		})
	}
	visit((&invocation{}).root())
	if commands < 44 {
		t.Errorf("%d commands were found", commands)
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `evergrant ([a-z]+)( [a-z-]+)?").FindAllStringSubmatch(doc, -1) {
		cmd, rest, err := (&invocation{}).root().Find(strings.Fields(row[1] + row[2]))
		if err != nil || len(rest) > 0 || cmd.HasSubCommands() {
			t.Errorf("docs/COMMANDS.md has %q, which is no command", row[0])
		}
	}
}
