package main

import (
	"strconv"

	"github.com/evergrant/evergrant"
	"github.com/spf13/cobra"
)

// pageOf is how many grants or events are listed unless --limit says otherwise.
const pageOf = 100

func (in *invocation) grantCommand() *cobra.Command {
	return in.administration(group("grant", "Lists grants and revokes them",
		in.grantList(), in.grantShow(), in.grantRevoke()))
}

func (in *invocation) grantList() *cobra.Command {
	var filter evergrant.GrantFilter
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "Lists grants", Args: exactly(0),
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, _ []string) error {
			return listing[evergrant.Grant]{
				head: []string{"ID", "CLIENT", "SUBJECT", "SCOPE", "GENERATION", "STATE", "RENEWED", "EXPIRES"},
				row: func(g evergrant.Grant) []string {
					return []string{g.ID, g.ClientID, g.Subject, g.Scope.String(), generation(g), grantState(g), localTime(g.RotatedAt), localTime(g.ExpiresAt)}
				},
				empty: "no such grants; a grant is made when a client gets its first token for a resource owner",
				limit: limit,
			}.show(in, admin.Grants(cmd.Context(), filter))
		}),
	}
	cmd.Flags().StringVar(&filter.ClientID, "client", "", "only those of a client, by its `id`")
	cmd.Flags().StringVar(&filter.Subject, "subject", "", "only those of a resource owner, by `name`")
	cmd.Flags().IntVar(&limit, "limit", pageOf, "at most so many; 0 for all")
	return cmd
}

func generation(g evergrant.Grant) string { return strconv.FormatUint(uint64(g.Generation), 10) }

// grantState is one word, and the cause where the grant was revoked.
func grantState(g evergrant.Grant) string {
	switch {
	case g.Alive:
		return "alive"
	case !g.RevokedAt.IsZero():
		return "revoked: " + g.RevokedCause
	}
	return "expired"
}

func (in *invocation) grantShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Shows one grant; `evergrant explain ID` says what happened to it", Args: exactly(1),
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, args []string) error {
			grant, err := admin.Grant(cmd.Context(), args[0])
			if err != nil {
				return found(err, "grant", args[0])
			}
			if in.json {
				return in.printJSON(grant)
			}
			return details(in.stdout, grantDetails(grant))
		}),
	}
}

func grantDetails(g evergrant.Grant) [][2]string {
	return [][2]string{
		{"grant", g.ID},
		{"client", g.ClientID},
		{"subject", g.Subject},
		{"scope", g.Scope.String()},
		{"state", grantState(g)},
		{"generation", generation(g)},
		{"answers given again", strconv.FormatUint(uint64(g.Retries), 10)},
		{"key", keyOf(g)},
		{"created", localTime(g.CreatedAt)},
		{"renewed", localTime(g.RotatedAt)},
		{"access token expires", localTime(g.AccessExpiresAt)},
		{"expires unless renewed", localTime(g.ExpiresAt)},
		{"ends", localTime(g.EndsAt)},
		{"revoked", localTime(g.RevokedAt)},
	}
}

// keyOf is the key that made the current tokens.
func keyOf(g evergrant.Grant) string {
	switch {
	case g.KeyID != 0:
		return strconv.FormatUint(uint64(g.KeyID), 10)
	case g.Generation == 1:
		return "none: the refresh token is of the server that it was imported from"
	}
	return "none: the last refresh gave no refresh token"
}

func (in *invocation) grantRevoke() *cobra.Command {
	var filter evergrant.GrantFilter
	cmd := &cobra.Command{
		Use: "revoke ID", Aliases: []string{"delete"}, Short: "Revokes a grant and with it all its tokens, or all grants of a client or user", Args: cobra.MaximumNArgs(1),
	}
	cmd.Flags().StringVar(&filter.ClientID, "client", "", "instead of ID: all of a client, by its `id`")
	cmd.Flags().StringVar(&filter.Subject, "subject", "", "instead of ID: all of a resource owner, by `name`; with --client of both")
	cmd.RunE = in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, args []string) error {
		all := filter != evergrant.GrantFilter{}
		if all == (len(args) == 1) {
			return usage(cmd, "give the ID of a grant, or --client or --subject for all of theirs")
		}
		if all {
			revoked, err := admin.RevokeGrants(cmd.Context(), filter)
			if err != nil {
				return err
			}
			return in.done("revoked", plural(revoked, "grant"))
		}
		if err := admin.RevokeGrant(cmd.Context(), args[0]); err != nil {
			return found(err, "grant", args[0])
		}
		return in.done("revoked", "grant "+args[0])
	})
	return cmd
}
