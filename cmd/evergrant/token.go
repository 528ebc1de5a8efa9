package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/oauth"
	"github.com/spf13/cobra"
)

func (in *invocation) tokenCommand() *cobra.Command {
	var minTTL string
	var force, header bool
	cmd := &cobra.Command{
		Use: "token CONNECTION", Args: exactly(1),
		Short: "Prints a fresh access token of a connection, and nothing else",
		Long: "Prints a fresh access token of a connection, and nothing else, so that it can be used in place:\n" +
			"  curl -H \"$(evergrant token CONNECTION --header)\" https://api.example.com/\n" +
			"Ends with status 3 where the owner has to connect again, and with 4 where the provider or the server is down.",
		RunE: func(cmd *cobra.Command, args []string) error {
			options := evergrant.TokenOptions{Force: force}
			lifetime, err := oauth.ParseLifetime(minTTL)
			if err != nil && minTTL != "" {
				return usage(cmd, "--min-ttl: "+err.Error())
			}
			options.MinTTL = max(0, time.Duration(lifetime))
			admin, err := in.admin()
			if err != nil {
				return err
			}
			token, err := admin.AccessToken(cmd.Context(), args[0], options)
			if err != nil {
				return found(err, "connection", args[0])
			}
			return in.printToken(token, header)
		},
	}
	cmd.Flags().StringVar(&minTTL, "min-ttl", "", "`duration` for which the token must live at least, such as 60s")
	cmd.Flags().BoolVar(&force, "force", false, "refresh even a fresh token")
	cmd.Flags().BoolVar(&header, "header", false, "print it as the header Authorization of a request")
	return in.administration(cmd)
}

func (in *invocation) printToken(token evergrant.Token, header bool) error {
	kind := token.TokenType
	if kind == "" || strings.EqualFold(kind, "bearer") {
		kind = "Bearer" // as APIs want it written
	}
	text := token.AccessToken.Reveal()
	switch {
	case in.json:
		return in.printJSON(struct {
			evergrant.Token
			AccessToken string `json:"access_token"` // in clear: it is what was asked for
		}{token, text})
	case header:
		text = "Authorization: " + kind + " " + text
	}
	_, err := fmt.Fprintln(in.stdout, printable(text))
	return err
}
