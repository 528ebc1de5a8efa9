package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/spf13/cobra"
)

// followEvery is how often --follow asks for new events.
const followEvery = time.Second

func (in *invocation) eventCommand() *cobra.Command {
	return in.administration(group("event", "Shows the audit log", in.eventList()))
}

func eventHead() []string {
	return []string{"AT", "TYPE", "CLIENT", "SUBJECT", "GRANT", "CAUSE", "ACTOR", "ADDRESS", "DETAIL"}
}

func eventRow(e evergrant.Event) []string {
	return []string{localTime(e.At), e.Type, e.ClientID, e.Subject, e.Grant, e.Cause, e.Actor, e.Address, e.Detail}
}

func (in *invocation) eventList() *cobra.Command {
	var filter evergrant.EventFilter
	var limit int
	var follow bool
	cmd := &cobra.Command{
		Use: "list", Short: "Lists events, newest first; with --follow oldest first and then as they come", Args: exactly(0),
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, _ []string) error {
			if follow {
				return in.follow(cmd.Context(), admin, filter, limit)
			}
			return listing[evergrant.Event]{
				head:  eventHead(),
				row:   eventRow,
				empty: "no such events; events record security decisions, not usual refreshes",
				limit: limit,
			}.show(in, admin.Events(cmd.Context(), filter))
		}),
	}
	cmd.Flags().StringVar(&filter.Grant, "grant", "", "only those of a grant, by its `id`")
	cmd.Flags().StringVar(&filter.ClientID, "client", "", "only those of a client, by its `id`")
	cmd.Flags().StringVar(&filter.Subject, "subject", "", "only those of a resource owner, by `name`")
	cmd.Flags().StringVar(&filter.Type, "type", "", "only those of a `type`, such as grant.reuse_detected, or grant. for all that begin so")
	cmd.Flags().IntVar(&limit, "limit", pageOf, "at most so many; 0 for all")
	cmd.Flags().BoolVar(&follow, "follow", false, "go on until interrupted; with --json one document on each line")
	return cmd
}

// follow prints the newest events and then each new one, until the context ends.
func (in *invocation) follow(ctx context.Context, admin *evergrant.Client, filter evergrant.EventFilter, limit int) error {
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	last := int64(0)
	for first := true; ; first = false {
		var fresh []evergrant.Event
		for event, err := range admin.Events(ctx, filter) {
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			if event.ID <= last || (first && limit > 0 && len(fresh) == limit) {
				break
			}
			fresh = append(fresh, event)
		}
		for _, event := range slices.Backward(fresh) {
			last = event.ID
			if err := in.printEvent(event); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
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
