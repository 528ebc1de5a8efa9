package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/provider"
	"github.com/spf13/cobra"
)

func (in *invocation) providerCommand() *cobra.Command {
	return group("provider", "Shows the providers of the server, and checks definitions of providers",
		in.administration(in.providerList()), in.administration(in.providerShow()),
		in.providerCatalogue(), in.providerCheck(), in.providerSchema())
}

func (in *invocation) providerList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "Lists the providers at which the server has an app", Args: exactly(0),
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, _ []string) error {
			providers, err := admin.Providers(cmd.Context())
			if err != nil {
				return err
			}
			if in.json {
				return in.printJSON(providers)
			}
			if len(providers) == 0 {
				fmt.Fprintln(in.stderr, "no providers yet; register one under keeper.providers of the configuration, see docs/KEEPER.md")
				return nil
			}
			rows := make([][]string, len(providers))
			for i, p := range providers {
				rows[i] = []string{p.Name, p.Title, p.Definition, providerState(p), p.Rotation, connectionCounts(p.Connections)}
			}
			return table(in.stdout, []string{"NAME", "TITLE", "DEFINITION", "STATE", "REFRESH TOKENS", "CONNECTIONS"}, rows)
		}),
	}
}

func providerState(p evergrant.Provider) string {
	if p.Since.IsZero() || p.State == "up" {
		return p.State
	}
	return p.State + " since " + localTime(p.Since)
}

// connectionCounts are numbers by state, such as "3 active, 1 paused".
func connectionCounts(counts map[string]int) string {
	var parts []string
	for _, state := range slices.Sorted(maps.Keys(counts)) {
		if counts[state] > 0 {
			parts = append(parts, strconv.Itoa(counts[state])+" "+state)
		}
	}
	return strings.Join(parts, ", ")
}

func (in *invocation) providerShow() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Shows one provider, and how what is known of it is known", Args: exactly(1),
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, args []string) error {
			p, err := admin.Provider(cmd.Context(), args[0])
			if err != nil {
				return found(err, "provider", args[0])
			}
			if in.json {
				return in.printJSON(p)
			}
			return in.showProvider(p)
		}),
	}
}

func (in *invocation) showProvider(p evergrant.Provider) error {
	lines := [][2]string{
		{"provider", p.Name},
		{"title", p.Title},
		{"definition", p.Definition},
		{"documentation", p.Docs},
		{"state", providerState(p)},
		{"detail", p.Detail},
		{"connections", connectionCounts(p.Connections)},
		{"begins with the owner's consent", yes(p.NeedsOwner)},
		{"scopes", p.Scopes.String()},
		{"API", p.APIBaseURL},
		{"refresh tokens", p.Rotation},
		{"a spent one still works for", p.ReplayWindow},
		{"new tokens without owner", yes(p.Remints)},
		{"access tokens live", p.AccessTokenLifetime},
		{"unused refresh tokens live", p.RefreshTokenIdle},
		{"grants live", p.GrantLifetime},
	}
	for _, name := range slices.Sorted(maps.Keys(p.Params)) {
		param := p.Params[name]
		told := orText(param.Title, "text")
		if param.From != "" {
			told += ", told by the provider"
		}
		if param.Default != "" {
			told += ", " + param.Default + " unless told otherwise"
		}
		lines = append(lines, [2]string{"param " + name, told})
	}
	if err := details(in.stdout, lines); err != nil || len(p.Facts) == 0 {
		return err
	}
	fmt.Fprintln(in.stdout, "\nhow it is known")
	var rows [][]string
	for _, path := range slices.Sorted(maps.Keys(p.Facts)) {
		rows = append(rows, []string{path, p.Facts[path].Known, p.Facts[path].Source, p.Facts[path].Note})
	}
	return table(in.stdout, nil, rows)
}

func (in *invocation) providerCatalogue() *cobra.Command {
	return &cobra.Command{
		Use: "catalogue", Short: "Lists the definitions that come with the program", Args: exactly(0),
		RunE: func(*cobra.Command, []string) error {
			type entry struct {
				Name  string `json:"name"`
				Title string `json:"title,omitempty"`
				Docs  string `json:"docs,omitempty"`
			}
			var entries []entry
			var rows [][]string
			catalogue := provider.Builtin()
			for _, name := range catalogue.Names() {
				definition, _ := catalogue.Definition(name)
				entries = append(entries, entry{name, definition.Title, definition.Docs})
				rows = append(rows, []string{name, definition.Title, definition.Docs})
			}
			if in.json {
				return in.printJSON(entries)
			}
			return table(in.stdout, []string{"NAME", "TITLE", "DOCUMENTATION"}, rows)
		},
	}
}

func (in *invocation) providerCheck() *cobra.Command {
	return &cobra.Command{
		Use: "check FILE...", Short: "Checks definitions of providers, line by line",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(cmd, "expected as arguments: "+cmd.UseLine())
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error { return in.checkDefinitions(args) },
	}
}

// checkDefinitions checks all files before it says which are wrong.
func (in *invocation) checkDefinitions(files []string) error {
	type checked struct {
		File     string            `json:"file"`
		OK       bool              `json:"ok"`
		Name     string            `json:"name,omitempty"`
		Problems provider.Problems `json:"problems,omitempty"`
	}
	var all []checked
	wrong := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return &failure{what: err.Error(), next: "name files that each have one definition in YAML"}
		}
		definition, err := provider.Parse(file, data)
		found, listed := errors.AsType[provider.Problems](err)
		if err != nil && !listed {
			found = provider.Problems{{Place: file + ":1", Text: err.Error()}}
		}
		if err != nil {
			wrong++
		}
		all = append(all, checked{file, err == nil, definition.Name, found})
	}
	if in.json {
		if err := in.printJSON(all); err != nil {
			return err
		}
	}
	for _, c := range all {
		for _, p := range c.Problems {
			fmt.Fprintln(in.stderr, printable(p.Place+": "+p.Text))
		}
		if c.OK && !in.json {
			fmt.Fprintln(in.stdout, printable(c.File)+": ok")
		}
	}
	if wrong > 0 {
		return &failure{what: fmt.Sprintf("%d of %s cannot be used", wrong, plural(len(files), "definition")), next: "mend the lines above; `evergrant provider schema` has every key for an editor"}
	}
	return nil
}

func (in *invocation) providerSchema() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Prints the JSON Schema of a definition, for editors", Args: exactly(0),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(in.stdout, strings.TrimSpace(string(provider.Schema())))
			return err
		},
	}
}
