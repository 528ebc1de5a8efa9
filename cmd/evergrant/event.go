package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/evergrant/evergrant"
	"github.com/spf13/cobra"
)

func (in *invocation) eventCommand() *cobra.Command {
	return in.administration(group("event", "Shows the audit log", in.eventList(), in.eventFollow()))
}

func eventHead() []string {
	return []string{"AT", "TYPE", "CLIENT", "SUBJECT", "GRANT", "CONNECTION", "PROVIDER", "TENANT", "OWNER", "CLASS", "CAUSE", "ACTOR", "ADDRESS", "DETAIL"}
}

func eventRow(e evergrant.Event) []string {
	return []string{localTime(e.At), e.Type, e.ClientID, e.Subject, e.Grant, e.Connection, e.Provider, e.Tenant, e.Owner, e.Class, e.Cause, e.Actor, e.Address, e.Detail}
}

func (in *invocation) eventList() *cobra.Command {
	var filter evergrant.EventFilter
	var limit int
	var follow bool
	cmd := &cobra.Command{
		Use: "list", Short: "Lists events, newest first; with --follow oldest first and then as they come", Args: exactly(0),
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, _ []string) error {
			if follow {
				return in.followFrom(cmd.Context(), admin, filter, limit)
			}
			return listing[evergrant.Event]{
				head:   eventHead(),
				row:    eventRow,
				empty:  "no such events; events record decisions, not usual refreshes of clients",
				limit:  limit,
				sparse: true,
			}.show(in, admin.Events(cmd.Context(), filter))
		}),
	}
	eventFlags(cmd, &filter)
	cmd.Flags().IntVar(&limit, "limit", pageOf, "at most so many; 0 for all")
	cmd.Flags().BoolVar(&follow, "follow", false, "go on until interrupted; with --json one document on each line")
	return cmd
}

// eventFlags are the flags that choose events.
func eventFlags(cmd *cobra.Command, filter *evergrant.EventFilter) {
	cmd.Flags().StringVar(&filter.Grant, "grant", "", "only those of a grant, by its `id`")
	cmd.Flags().StringVar(&filter.ClientID, "client", "", "only those of a client, by its `id`")
	cmd.Flags().StringVar(&filter.Subject, "subject", "", "only those of a resource owner, by `name`")
	cmd.Flags().StringVar(&filter.Connection, "connection", "", "only those of a connection, by its `id`")
	cmd.Flags().StringVar(&filter.Provider, "provider", "", "only those of a provider and its connections, by its `name`")
	cmd.Flags().StringVar(&filter.Tenant, "tenant", "", "only those of a `tenant`")
	cmd.Flags().StringVar(&filter.Type, "type", "", "only those of a `type`, such as grant.reuse_detected, or grant. for all that begin so")
}

func (in *invocation) eventFollow() *cobra.Command {
	var filter evergrant.EventFilter
	var after int64
	cmd := &cobra.Command{
		Use: "follow", Short: "Prints events as they happen, until it is interrupted; with --json one document on each line", Args: exactly(0),
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, _ []string) error {
			return in.follow(cmd.Context(), admin, filter, after)
		}),
	}
	eventFlags(cmd, &filter)
	cmd.Flags().Int64Var(&after, "after", -1, "begin after the event with an `id`, 0 for the first one there is, instead of now")
	return cmd
}

// followFrom prints the newest events, oldest first, and then each new one.
func (in *invocation) followFrom(ctx context.Context, admin *evergrant.Client, filter evergrant.EventFilter, limit int) error {
	newest, _, err := take(admin.Events(ctx, filter), limit)
	if err != nil {
		return err
	}
	last := int64(0)
	for _, event := range slices.Backward(newest) {
		last = event.ID
		if err := in.printEvent(event); err != nil {
			return err
		}
	}
	return in.follow(ctx, admin, filter, last)
}

// follow prints events as they happen, until the context ends.
func (in *invocation) follow(ctx context.Context, admin *evergrant.Client, filter evergrant.EventFilter, after int64) error {
	for event, err := range admin.FollowEvents(ctx, filter, after) {
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := in.printEvent(event); err != nil {
			return err
		}
	}
	return nil
}

// printEvent writes one event on one line; a table cannot be aligned before its
// rows are known.
func (in *invocation) printEvent(e evergrant.Event) error {
	if in.json {
		return json.NewEncoder(in.stdout).Encode(e)
	}
	words := []string{localTime(e.At), e.Type}
	for i, cell := range eventRow(e) {
		if i > 1 && cell != "" {
			words = append(words, strings.ToLower(eventHead()[i])+"="+strconv.Quote(cell))
		}
	}
	_, err := fmt.Fprintln(in.stdout, strings.Join(words, " "))
	return err
}
