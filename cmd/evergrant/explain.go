package main

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/secret"
	"github.com/spf13/cobra"
)

func (in *invocation) explainCommand() *cobra.Command {
	return in.administration(&cobra.Command{
		Use: "explain GRANT|CONNECTION|TOKEN|-", Args: exactly(1),
		Short: "Says why a grant, connection or token is alive or dead, and what repairs it",
		Long: "Says why a grant, connection or token is alive or dead, and what repairs it. The token is neither spent nor recorded.\n" +
			"With - it is read from stdin, so that it does not stand in the history of the shell.",
		RunE: func(cmd *cobra.Command, args []string) error {
			of := secret.NewText(args[0])
			if args[0] == "-" {
				var err error
				if of, err = in.pipedSecret(cmd, "token"); err != nil {
					return err
				}
			}
			admin, err := in.admin()
			if err != nil {
				return err
			}
			explanation, err := admin.Explain(cmd.Context(), of)
			if p, ok := errors.AsType[*evergrant.Problem](err); ok && p.Status == http.StatusNotFound && p.Next == "" {
				return &failure{what: "this is neither the id of a grant or connection nor a token of this server", // and may be a token of another, not to be shown
					next: "check that it is complete; `evergrant grant list` and `evergrant connection list` show ids"}
			}
			if err != nil {
				return err
			}
			if in.json {
				return in.printJSON(explanation)
			}
			return in.showExplanation(explanation)
		},
	})
}

func (in *invocation) showExplanation(e evergrant.Explanation) error {
	state := "dead"
	if e.Alive {
		state = "alive"
	}
	lines := [][2]string{{state, e.Verdict}, {"kind", e.Kind}, {"cause", e.Cause}, {"repair", e.Repair}}
	if e.Grant != nil {
		lines = append(lines, grantDetails(*e.Grant)...)
	}
	if e.Connection != nil {
		lines = append(lines, connectionDetails(*e.Connection)...)
	}
	if err := details(in.stdout, lines); err != nil {
		return err
	}
	if len(e.Events) == 0 {
		fmt.Fprintln(in.stderr, "no events are kept of it; usual refreshes are not recorded")
		return nil
	}
	fmt.Fprintln(in.stdout, "\ntime line")
	var rows [][]string
	for _, event := range slices.Backward(e.Events) {
		rows = append(rows, []string{localTime(event.At), event.Type, event.Class, event.Cause, event.Actor, event.Address, event.Detail})
	}
	_, rows = filled(make([]string, len(rows[0])), rows)
	return table(in.stdout, nil, rows)
}
