package main

import (
	"fmt"

	"github.com/evergrant/evergrant"
	"github.com/spf13/cobra"
)

func (in *invocation) clientHabits() *cobra.Command {
	var forget bool
	cmd := &cobra.Command{
		Use: "habits [ID]", Short: "Shows what clients rely on that one stricter setting would end", Args: atMost(1),
	}
	cmd.Flags().BoolVar(&forget, "forget", false, "start counting anew for the client")
	cmd.RunE = in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, args []string) error {
		var id string
		if len(args) == 1 {
			id = args[0]
		}
		if forget {
			if id == "" {
				return usage(cmd, "--forget needs the ID of a client")
			}
			if err := admin.ForgetHabits(cmd.Context(), id); err != nil {
				return found(err, "client", id)
			}
			return in.done("forgotten", "what client "+id+" relied on; it is counted anew")
		}
		return listing[evergrant.Habit]{
			head: []string{"CLIENT", "HABIT", "THE CLIENT", "SETTING", "WHICH"},
			row: func(h evergrant.Habit) []string {
				return []string{h.ClientID, h.Habit, h.Does, h.Setting, consequence(h)}
			},
			empty: "nothing that a stricter setting would end was seen; what a client relies on is counted as it comes",
		}.show(in, admin.Habits(cmd.Context(), id))
	})
	return cmd
}

// consequence says what the setting that ends a habit would break, or that it
// breaks nothing more.
func consequence(h evergrant.Habit) string {
	verb := "would break: "
	switch {
	case h.Past:
		verb = "is in force, past: "
	case h.Setting == "":
		verb = "is not needed, it ends by itself: "
	}
	return verb + fmt.Sprintf("%s since %s, last %s", plural(int(h.Count), "request"), localTime(h.First), localTime(h.Last))
}

// atMost is a command's Args for up to so many arguments.
func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) <= n {
			return nil
		}
		return usage(cmd, fmt.Sprintf("expected as arguments: %s", cmd.UseLine()))
	}
}
