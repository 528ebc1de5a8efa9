package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

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
	_, _, wrong := parseConfig("FILE", []byte("x: 1\ntls: {x: 1}\nissuer: {x: 1, clients: [{x: 1}], users: [{x: 1}]}"), environment())
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
	if len(wrong) != 5 || keys < 40 {
		t.Errorf("%d keys were found in %d places", keys, len(wrong))
	}
}

// TestDocumentedConfiguration checks the sample of the document.
func TestDocumentedConfiguration(t *testing.T) {
	_, sample, _ := strings.Cut(readDoc(t, "CONFIGURATION.md"), "```yaml\n")
	sample, _, _ = strings.Cut(sample, "```")
	_, wrong := load(t, sample, overrides{}, environment("TEST_CLIENT_SECRET", "TestSecret", "BSHAFFER_PASSWORD", "brent123"))
	if len(wrong) > 0 || sample == "" {
		t.Errorf("%q", wrong)
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
	if commands < 28 {
		t.Errorf("%d commands were found", commands)
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `evergrant ([a-z]+)( [a-z-]+)?").FindAllStringSubmatch(doc, -1) {
		cmd, rest, err := (&invocation{}).root().Find(strings.Fields(row[1] + row[2]))
		if err != nil || len(rest) > 0 || cmd.HasSubCommands() {
			t.Errorf("docs/COMMANDS.md has %q, which is no command", row[0])
		}
	}
}
