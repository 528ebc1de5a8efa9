package main

import (
	"fmt"

	"github.com/evergrant/evergrant"
	"github.com/spf13/cobra"
)

func (in *invocation) purgeCommand() *cobra.Command {
	return in.administration(&cobra.Command{
		Use: "purge", Args: exactly(0),
		Short: "Deletes what is dead now, as the server does by itself in the background",
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, _ []string) error {
			in.progress("purging ...")
			purged, err := admin.Purge(cmd.Context())
			in.progress("")
			if err != nil {
				return err
			}
			if in.json {
				return in.printJSON(purged)
			}
			_, err = fmt.Fprintf(in.stdout, "purged %d grants, %d revoked access tokens, %d events\n", purged.Grants, purged.AccessTokens, purged.Events)
			return err
		}),
	})
}
