package main

import (
	"strconv"

	"github.com/evergrant/evergrant"
	"github.com/spf13/cobra"
)

func (in *invocation) webhookCommand() *cobra.Command {
	return in.administration(group("webhook", "Shows what was told to webhooks", in.webhookDeliveries()))
}

func (in *invocation) webhookDeliveries() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "deliveries", Short: "Lists the deliveries to webhooks, newest first", Args: exactly(0),
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, _ []string) error {
			return listing[evergrant.Delivery]{
				head: []string{"ID", "WEBHOOK", "EVENT", "TYPE", "STATE", "ATTEMPTS", "STATUS", "AT", "ERROR"},
				row: func(d evergrant.Delivery) []string {
					state, at := deliveryState(d)
					return []string{strconv.FormatInt(d.ID, 10), d.Hook, strconv.FormatInt(d.Event, 10), d.Type, state, strconv.Itoa(d.Attempts), count(d.Status), at, d.Error}
				},
				empty: "no deliveries; webhooks are set under keeper.webhooks of the configuration",
				limit: limit,
			}.show(in, admin.Deliveries(cmd.Context()))
		}),
	}
	cmd.Flags().IntVar(&limit, "limit", pageOf, "at most so many; 0 for all")
	return cmd
}

// deliveryState is what became of a delivery, and since or until when.
func deliveryState(d evergrant.Delivery) (state, at string) {
	switch {
	case !d.DoneAt.IsZero():
		return "delivered", localTime(d.DoneAt)
	case d.NextAt.IsZero():
		return "given up", ""
	case d.Attempts == 0:
		return "waiting", localTime(d.NextAt)
	}
	return "failed, again at", localTime(d.NextAt)
}
