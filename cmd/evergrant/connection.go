package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/evergrant/evergrant"
	"github.com/spf13/cobra"
)

func (in *invocation) connectionCommand() *cobra.Command {
	return in.administration(group("connection", "Lists the connections to providers, makes and repairs them",
		in.connectionList(), in.connectionShow(), in.connectionHistory(), in.connectionConnect(), in.connectionCreate(),
		in.connectionRefresh(), in.connectionPause(), in.connectionResume(), in.connectionDelete()))
}

func (in *invocation) connectionList() *cobra.Command {
	var filter evergrant.ConnectionFilter
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "Lists connections", Args: exactly(0),
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, _ []string) error {
			return listing[evergrant.Connection]{
				head: []string{"ID", "PROVIDER", "TENANT", "OWNER", "STATE", "GENERATION", "EXPIRES", "DUE", "LAST ERROR"},
				row: func(c evergrant.Connection) []string {
					return []string{c.ID, c.Provider, c.Tenant, c.Owner, connectionState(c), renewalsOf(c), localTime(c.ExpiresAt), localTime(c.DueAt), c.ErrorClass}
				},
				empty:  "no such connections; `evergrant connection connect PROVIDER` makes a page on which an owner connects, and `evergrant connection create PROVIDER` takes tokens that you have",
				limit:  limit,
				sparse: true,
			}.show(in, admin.Connections(cmd.Context(), filter))
		}),
	}
	cmd.Flags().StringVar(&filter.Provider, "provider", "", "only those to a provider, by its `name`")
	cmd.Flags().StringVar(&filter.Owner, "owner", "", "only those of an `owner`")
	cmd.Flags().StringVar(&filter.State, "state", "", "only those that are active, in_doubt, reauthorize or paused")
	cmd.Flags().StringVar(&filter.Tenant, "tenant", "", "only those of a `tenant`")
	cmd.Flags().IntVar(&limit, "limit", pageOf, "at most so many; 0 for all")
	return cmd
}

func renewalsOf(c evergrant.Connection) string { return strconv.FormatUint(c.Generation, 10) }

// connectionState is one word, and the cause where there is one.
func connectionState(c evergrant.Connection) string {
	if c.Cause == "" {
		return c.State
	}
	return c.State + ": " + c.Cause
}

func (in *invocation) connectionShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Shows one connection; `evergrant explain ID` says what happened to it", Args: exactly(1),
		RunE: in.onConnection((*evergrant.Client).Connection),
	}
}

// onConnection is a command's RunE that does something with the connection that
// it names, and shows it.
func (in *invocation) onConnection(do func(*evergrant.Client, context.Context, string) (evergrant.Connection, error)) func(*cobra.Command, []string) error {
	return in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, args []string) error {
		connection, err := do(admin, cmd.Context(), args[0])
		if err != nil {
			return found(err, "connection", args[0])
		}
		return in.showConnection(connection)
	})
}

func (in *invocation) showConnection(c evergrant.Connection) error {
	if in.json {
		return in.printJSON(c)
	}
	return details(in.stdout, connectionDetails(c))
}

func connectionDetails(c evergrant.Connection) [][2]string {
	lines := [][2]string{
		{"connection", c.ID},
		{"provider", c.Provider},
		{"tenant", c.Tenant},
		{"owner", c.Owner},
		{"state", connectionState(c)},
		{"since", localTime(c.Since)},
		{"refreshed in the background", c.Background},
		{"can be renewed without the owner", yes(c.Refreshable)},
		{"generation", renewalsOf(c)},
		{"scope", c.Scope.String()},
		{"scope asked for", c.Asked.String()},
		{"tokens issued", localTime(c.IssuedAt)},
		{"access token expires", localTime(c.ExpiresAt)},
		{"refresh token expires unless used", localTime(c.RefreshExpiresAt)},
		{"ends", localTime(c.EndsAt)},
		{"due", localTime(c.DueAt)},
		{"failed attempts", count(c.Attempt)},
		{"last error", strings.TrimPrefix(c.ErrorClass+": "+c.Error, ": ")},
		{"created", localTime(c.CreatedAt)},
		{"updated", localTime(c.UpdatedAt)},
	}
	for _, name := range slices.Sorted(maps.Keys(c.Params)) {
		lines = append(lines, [2]string{"param " + name, c.Params[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(c.Metadata)) {
		lines = append(lines, [2]string{"metadata " + name, fmt.Sprint(c.Metadata[name])})
	}
	return lines
}

// count is a number, "" for none.
func count(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func (in *invocation) connectionHistory() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "history ID", Short: "Lists what happened to a connection, newest first", Args: exactly(1),
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, args []string) error {
			err := listing[evergrant.Event]{
				head: []string{"AT", "TYPE", "GENERATION", "CLASS", "CAUSE", "ACTOR", "ADDRESS", "DETAIL"},
				row: func(e evergrant.Event) []string {
					return []string{localTime(e.At), e.Type, count(int(e.Generation)), e.Class, e.Cause, e.Actor, e.Address, e.Detail}
				},
				empty:  "no events of this connection are kept",
				limit:  limit,
				sparse: true,
			}.show(in, admin.History(cmd.Context(), args[0]))
			return found(err, "connection", args[0])
		}),
	}
	cmd.Flags().IntVar(&limit, "limit", pageOf, "at most so many; 0 for all")
	return cmd
}

func (in *invocation) connectionConnect() *cobra.Command {
	var ask evergrant.Connect
	var params []string
	cmd := &cobra.Command{
		Use: "connect PROVIDER", Args: exactly(1),
		Short: "Prints the URL of a page on which an owner connects, or with --id reconnects",
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, args []string) (err error) {
			if ask.Params, err = readParams(cmd, params); err != nil {
				return err
			}
			ask.Provider = args[0]
			session, err := admin.ConnectSession(cmd.Context(), ask)
			if err != nil {
				return found(err, "provider", args[0])
			}
			if in.json {
				return in.printJSON(session)
			}
			fmt.Fprintf(in.stderr, "send the owner's browser there before %s; the connection is %s\n", localTime(session.ExpiresAt), printable(session.Connection))
			_, err = fmt.Fprintln(in.stdout, printable(session.URL))
			return err
		}),
	}
	cmd.Flags().StringVar(&ask.Owner, "owner", "", "`who` connects, as your application names its users")
	cmd.Flags().StringVar(&ask.Connection, "id", "", "the connection to repair, or the `id` of the new one (default a random one)")
	cmd.Flags().StringVar(&ask.Tenant, "tenant", "", "`tenant` of the connection")
	cmd.Flags().StringVar(&ask.ReturnURL, "return-url", "", "`URL` to which the browser goes afterwards")
	paramFlag(cmd, &params)
	return cmd
}

func paramFlag(cmd *cobra.Command, params *[]string) {
	cmd.Flags().StringArrayVar(params, "param", nil, "`NAME=VALUE` that the provider's definition asks for; repeat for several")
}

// readParams reads the values of --param.
func readParams(cmd *cobra.Command, given []string) (map[string]string, error) {
	params := map[string]string{}
	for _, text := range given {
		name, value, ok := strings.Cut(text, "=")
		if _, twice := params[name]; !ok || name == "" || twice {
			return nil, usage(cmd, fmt.Sprintf("--param %q is not NAME=VALUE, or its name is given twice", text))
		}
		params[name] = value
	}
	return params, nil
}

func (in *invocation) connectionRefresh() *cobra.Command {
	var evenInDoubt bool
	cmd := &cobra.Command{
		Use: "refresh ID", Short: "Renews the tokens of a connection now", Args: exactly(1),
		RunE: in.onConnection(func(admin *evergrant.Client, ctx context.Context, id string) (evergrant.Connection, error) {
			in.progress("asking the provider ...")
			defer in.progress("")
			return admin.Refresh(ctx, id, evenInDoubt)
		}),
	}
	cmd.Flags().BoolVar(&evenInDoubt, "even-in-doubt", false, "send a refresh token that may have been spent; some providers end the grant at that")
	return cmd
}

func (in *invocation) connectionPause() *cobra.Command {
	return &cobra.Command{
		Use: "pause ID", Short: "Stops all work on a connection and gives no token of it", Args: exactly(1),
		RunE: in.onConnection((*evergrant.Client).Pause),
	}
}

func (in *invocation) connectionResume() *cobra.Command {
	return &cobra.Command{
		Use: "resume ID", Short: "Ends a pause", Args: exactly(1),
		RunE: in.onConnection((*evergrant.Client).Resume),
	}
}

func (in *invocation) connectionDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete ID", Short: "Revokes a connection at its provider, where that can be done, and deletes it", Args: exactly(1),
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, args []string) error {
			deleted, err := admin.DeleteConnection(cmd.Context(), args[0])
			if err != nil {
				return found(err, "connection", args[0])
			}
			if in.json {
				return in.printJSON(struct {
					Gone bool `json:"deleted"`
					evergrant.Deleted
				}{true, deleted})
			}
			fmt.Fprintln(in.stdout, "deleted connection "+printable(args[0]))
			if !deleted.Revoked {
				fmt.Fprintln(in.stderr, printable("the provider did not revoke it: "+orText(deleted.Problem, "it has no revocation endpoint, or there was nothing to revoke")+
					"; its owner can remove the app in the account there"))
			}
			return nil
		}),
	}
}
