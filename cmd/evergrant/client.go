package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/secret"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (in *invocation) clientCommand() *cobra.Command {
	return in.administration(group("client", "Registers clients and changes them",
		in.clientList(), in.clientShow(), in.clientCreate(), in.clientUpdate(), in.clientRotateSecret(), in.clientHabits(), in.clientDelete()))
}

func (in *invocation) clientList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "Lists the clients", Args: exactly(0),
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, _ []string) error {
			return listing[evergrant.Registration]{
				head: []string{"ID", "NAME", "KIND", "GRANT TYPES", "SCOPES", "DECLARED", "UPDATED"},
				row: func(c evergrant.Registration) []string {
					return []string{c.ID, c.Name, clientKind(c), strings.Join(c.GrantTypes, " "), orText(c.Scopes.String(), "(all)"), yes(c.Declared), localTime(c.UpdatedAt)}
				},
				empty: "no clients yet; register one with `evergrant client create ID`",
			}.show(in, admin.Clients(cmd.Context()))
		}),
	}
}

func clientKind(c evergrant.Registration) string {
	if c.Public {
		return "public"
	}
	return "confidential"
}

func (in *invocation) clientShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Shows one client", Args: exactly(1),
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, args []string) error {
			client, err := admin.Client(cmd.Context(), args[0])
			if err != nil {
				return found(err, "client", args[0])
			}
			return in.showClient(client, secret.Text{})
		}),
	}
}

// showClient prints a client, and its secret where it is told this once.
func (in *invocation) showClient(c evergrant.Registration, told secret.Text) error {
	if in.json {
		return in.printJSON(struct {
			evergrant.Registration
			Secret string `json:"secret,omitempty"`
		}{c, told.Reveal()})
	}
	err := details(in.stdout, [][2]string{
		{"id", c.ID},
		{"name", c.Name},
		{"kind", clientKind(c)},
		{"secret", told.Reveal()},
		{"secrets in force", strconv.Itoa(c.Secrets)},
		{"secrets are kept as", strings.Join(c.SecretForms, ", ")},
		{"grant types", strings.Join(c.GrantTypes, " ")},
		{"redirect URIs", strings.Join(c.RedirectURIs, " ")},
		{"scopes", orText(c.Scopes.String(), "(all)")},
		{"introspect", yes(c.Introspect)},
		{"trusted", yes(c.Trusted)},
		{"tenant", c.Tenant},
		{"profile", c.Profile},
		{"access_token_lifetime", c.AccessTokenLifetime},
		{"authorization_code_lifetime", c.CodeLifetime},
		{"refresh_token_lifetime", c.RefreshTokenLifetime},
		{"grant_lifetime", c.GrantLifetime},
		{"refresh_token_rotation", c.Rotation},
		{"refresh_token_retry_window", c.RetryWindow},
		{"access_token_format", c.Format},
		{"access_token_signing_alg", c.SigningAlg},
		{"require_pkce", c.PKCE},
		{"redirect_matching", c.Redirects},
		{"imported from", c.ImportedFrom},
		{"declared in the configuration", yes(c.Declared)},
		{"created", localTime(c.CreatedAt)},
		{"updated", localTime(c.UpdatedAt)},
	})
	if err == nil && !told.Empty() {
		fmt.Fprintln(in.stderr, "the secret is shown this once; keep it now")
	}
	return err
}

// clientFlags are the settings of a client. Each flag's name is the key of the
// client document with hyphens; the lists have the name of one item.
func clientFlags(flags *pflag.FlagSet) {
	flags.String("name", "", "what resource owners see instead of the id")
	flags.StringSlice("grant-type", nil, "authorization_code, refresh_token, client_credentials, password or implicit; repeat for several (default authorization_code and refresh_token)")
	flags.StringArray("redirect-uri", nil, "`URI` to which codes may go; repeat for several")
	flags.StringSlice("scope", nil, "`scope` that the client may ask for; repeat for several (default all)")
	flags.Bool("introspect", false, "a resource server that may introspect tokens of all clients")
	flags.Bool("trusted", false, "no consent page for resource owners")
	flags.String("tenant", "", "`tenant` whose connections its tokens reach, with a scope of the keeper")
	for _, name := range []string{"access-token-lifetime", "authorization-code-lifetime", "refresh-token-lifetime", "grant-lifetime", "refresh-token-retry-window"} {
		flags.String(name, "", "`duration` such as 14d, 1h or 60s, 0 for none (default the server's)")
	}
	flags.String("refresh-token-rotation", "", "always, never, public_clients, once or additive (default the server's)")
	flags.String("access-token-format", "", "jwt or opaque (default the server's)")
	flags.String("access-token-signing-alg", "", "ES256, EdDSA or RS256 (default the server's)")
	flags.String("profile", "", "wire behaviour: standard, fos, bshaffer or eventix (default the server's)")
	flags.String("require-pkce", "", "always, public_clients or never (default the server's)")
	flags.String("redirect-matching", "", "exact or prefix (default the server's)")
}

// clientPatch are the members of the client document that flags were given for.
// An empty value resets a member to the default.
func clientPatch(flags *pflag.FlagSet) map[string]any {
	patch := map[string]any{}
	known := pflag.NewFlagSet("", pflag.ContinueOnError)
	clientFlags(known)
	flags.Visit(func(f *pflag.Flag) {
		if known.Lookup(f.Name) == nil {
			return
		}
		key := strings.ReplaceAll(f.Name, "-", "_")
		switch value := f.Value.(type) {
		case pflag.SliceValue:
			patch[key+"s"] = value.GetSlice()
		default:
			patch[key] = f.Value.String()
			if f.Value.Type() == "bool" {
				patch[key] = f.Value.String() == "true"
			} else if f.Value.String() == "" {
				patch[key] = nil
			}
		}
	})
	return patch
}

func (in *invocation) clientCreate() *cobra.Command {
	var public, secretStdin bool
	cmd := &cobra.Command{
		Use: "create ID", Short: "Registers a client, with a generated secret unless told otherwise", Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if public && secretStdin {
				return usage(cmd, "a public client has no secret: give --public or --secret-stdin, not both")
			}
			change, err := in.secretChange(cmd, secretStdin)
			if err != nil {
				return err
			}
			var client evergrant.Registration
			members, err := json.Marshal(clientPatch(cmd.Flags()))
			if err != nil {
				return err
			}
			if err := json.Unmarshal(members, &client); err != nil {
				return err
			}
			client.ID, client.Public = args[0], public
			change.Generate = change.Generate && !public
			admin, err := in.admin()
			if err != nil {
				return err
			}
			created, told, err := admin.CreateClient(cmd.Context(), client, change)
			if err != nil {
				return taken(err, "client", args[0], "update")
			}
			return in.showClient(created, told)
		},
	}
	cmd.Flags().BoolVar(&public, "public", false, "without secret, such as an app on the owner's device")
	cmd.Flags().BoolVar(&secretStdin, "secret-stdin", false, "read the secret from stdin instead of generating one")
	clientFlags(cmd.Flags())
	return cmd
}

func (in *invocation) clientUpdate() *cobra.Command {
	var dropOld bool
	cmd := &cobra.Command{
		Use: "update ID", Short: "Changes settings of a client; an empty value goes back to the default", Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			patch := clientPatch(cmd.Flags())
			if dropOld {
				patch["secrets"] = 1
			}
			if len(patch) == 0 {
				return usage(cmd, "nothing to change: no setting was given")
			}
			return in.patchClient(cmd, args[0], patch, evergrant.SecretChange{})
		},
	}
	cmd.Flags().BoolVar(&dropOld, "drop-old-secrets", false, "refuse all secrets but the newest")
	clientFlags(cmd.Flags())
	return cmd
}

func (in *invocation) clientRotateSecret() *cobra.Command {
	var keepOld, secretStdin bool
	cmd := &cobra.Command{
		Use: "rotate-secret ID", Short: "Gives a client a new secret, generated unless --secret-stdin", Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			change, err := in.secretChange(cmd, secretStdin)
			if err != nil {
				return err
			}
			change.KeepOld = keepOld
			if err := in.patchClient(cmd, args[0], nil, change); err != nil || !keepOld {
				return err
			}
			fmt.Fprintf(in.stderr, "the old secret still works; once the client uses the new one, run `evergrant client update %s --drop-old-secrets`\n", printable(args[0]))
			return nil
		},
	}
	cmd.Flags().BoolVar(&keepOld, "keep-old", false, "let the old secret work beside the new one")
	cmd.Flags().BoolVar(&secretStdin, "secret-stdin", false, "read the secret from stdin instead of generating one")
	return cmd
}

// secretChange is a generated secret, or the one on stdin.
func (in *invocation) secretChange(cmd *cobra.Command, stdin bool) (change evergrant.SecretChange, err error) {
	if change.Generate = !stdin; stdin {
		change.Set, err = in.pipedSecret(cmd, "secret")
	}
	return change, err
}

func (in *invocation) patchClient(cmd *cobra.Command, id string, patch map[string]any, change evergrant.SecretChange) error {
	admin, err := in.admin()
	if err != nil {
		return err
	}
	client, told, err := admin.UpdateClient(cmd.Context(), id, patch, change)
	if err != nil {
		return found(err, "client", id)
	}
	if client.Declared {
		fmt.Fprintln(in.stderr, "the client is declared in the configuration file, which wins at the next start: change it there as well")
	}
	return in.showClient(client, told)
}

func (in *invocation) clientDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete ID", Short: "Deletes a client and revokes its grants", Args: exactly(1),
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, args []string) error {
			if err := admin.DeleteClient(cmd.Context(), args[0]); err != nil {
				return found(err, "client", args[0])
			}
			return in.done("deleted", "client "+args[0]+" and revoked its grants")
		}),
	}
}

// done says that something was done, for commands that have nothing to show.
func (in *invocation) done(verb, what string) error {
	if in.json {
		return in.printJSON(map[string]bool{verb: true})
	}
	_, err := fmt.Fprintln(in.stdout, verb, printable(what))
	return err
}
