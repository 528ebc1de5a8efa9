package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/spf13/cobra"
)

// keyLead is how long a new key is published before it makes tokens: longer
// than resource servers usually cache public keys.
const keyLead = 10 * time.Minute

func (in *invocation) keyCommand() *cobra.Command {
	return in.administration(group("key", "Lists the keys that make tokens, and replaces them",
		in.keyList(), in.keyShow(), in.keyRotate(), in.keyDelete()))
}

func (in *invocation) keyList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "Lists the keys in force", Args: exactly(0),
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, _ []string) error {
			keys, err := admin.Keys(cmd.Context())
			if err != nil {
				return err
			}
			if in.json {
				return in.printJSON(keys)
			}
			rows := make([][]string, len(keys))
			for i, key := range keys {
				rows[i] = []string{keyNumber(key), key.State, localTime(key.ActiveFrom), localTime(key.CreatedAt), yes(key.RS256)}
			}
			return table(in.stdout, []string{"ID", "STATE", "ACTIVE FROM", "CREATED", "RS256"}, rows)
		}),
	}
}

func keyNumber(key evergrant.Key) string { return strconv.FormatUint(uint64(key.ID), 10) }

func (in *invocation) keyShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Shows one key", Args: exactly(1),
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, args []string) error {
			keys, err := admin.Keys(cmd.Context())
			if err != nil {
				return err
			}
			for _, key := range keys {
				if keyNumber(key) == args[0] {
					return in.showKey(key)
				}
			}
			return &failure{what: fmt.Sprintf("there is no key %q", args[0]), next: "`evergrant key list` shows the keys in force"}
		}),
	}
}

func (in *invocation) showKey(key evergrant.Key) error {
	if in.json {
		return in.printJSON(key)
	}
	return details(in.stdout, [][2]string{
		{"id", keyNumber(key)},
		{"state", key.State},
		{"active from", localTime(key.ActiveFrom)},
		{"created", localTime(key.CreatedAt)},
		{"signs RS256", yes(key.RS256)},
	})
}

func (in *invocation) keyRotate() *cobra.Command {
	var now, wait bool
	cmd := &cobra.Command{
		Use: "rotate", Aliases: []string{"create"}, Args: exactly(0),
		Short: "Adds a key that makes tokens after 10 minutes, in which resource servers learn of it; old ones go on verifying",
		Long: "Adds a key that makes tokens after 10 minutes, in which resource servers learn of it; old ones go on verifying.\n" +
			"What connections hold is then sealed anew under it. With --wait, or with --now on a terminal, the command waits until\n" +
			"that is done; from then on no connection needs an older key.",
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, _ []string) error {
			lead := keyLead
			if now {
				lead = 0
			}
			key, err := admin.RotateKeys(cmd.Context(), lead)
			if err != nil {
				return err
			}
			if err := in.showKey(key); err != nil {
				return err
			}
			if _, watched := terminal(in.stderr); wait || now && watched {
				return in.awaitResealing(cmd.Context(), admin, key.ID)
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&now, "now", false, "use the new key at once; resource servers that cache public keys may refuse its tokens for a while")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the tokens of all connections are sealed under the new key")
	return cmd
}

// resealingEvery is how often the server is asked how far it is.
const resealingEvery = 500 * time.Millisecond

// awaitResealing waits until nothing is sealed under keys below one, or no keeper
// runs that would do it.
func (in *invocation) awaitResealing(ctx context.Context, admin *evergrant.Client, key uint32) error {
	ticker := time.NewTicker(resealingEvery)
	defer ticker.Stop()
	defer in.progress("")
	for {
		at, err := admin.Resealing(ctx)
		if err != nil || at == nil || at.Key >= key && at.Left == 0 {
			return err
		}
		if at.Key < key {
			in.progress("waiting for the new key to be used ...")
		} else {
			in.progress("sealing anew: %d done, %d left", at.Done, at.Left)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (in *invocation) keyDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete ID", Short: "Ends a retired key: what it made is refused at once", Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseUint(args[0], 10, 32)
			if err != nil {
				return usage(cmd, fmt.Sprintf("%q is not the number of a key", args[0]))
			}
			admin, err := in.admin()
			if err != nil {
				return err
			}
			if err := admin.DeleteKey(cmd.Context(), uint32(id)); err != nil {
				return found(err, "key", args[0])
			}
			return in.done("deleted", "key "+args[0])
		},
	}
}
