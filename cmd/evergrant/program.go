package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/spf13/cobra"
)

// Exit statuses.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitReauthorize = 3 // a connection needs its owner again
	exitUnavailable = 4 // the server or a provider
)

// program is evergrant as a value: what it takes from its surroundings apart
// from arguments and streams.
type program struct {
	env func(string) (string, bool)
	now func() time.Time
}

// invocation is one run of the program with the flags that all commands share.
type invocation struct {
	program
	stdin          io.Reader
	stdout, stderr io.Writer
	json           bool
	data           string // directory of the server, "" for the default
	server, token  string
}

// Run runs one command to its end and returns the exit status.
func (p program) Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	in := &invocation{program: p, stdin: stdin, stdout: stdout, stderr: stderr}
	root := in.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return in.report(root.ExecuteContext(ctx))
}

func (in *invocation) root() *cobra.Command {
	root := group("evergrant", "keeps OAuth 2 grants alive: no grant is lost, and no stolen one survives",
		in.serveCommand(), in.demoCommand(), in.tokenCommand(), in.clientCommand(), in.userCommand(), in.grantCommand(),
		in.connectionCommand(), in.providerCommand(), in.keyCommand(), in.eventCommand(), in.webhookCommand(), in.explainCommand(),
		in.purgeCommand(), in.migrateCommand(), in.importCommand(), in.backupCommand(), in.restoreCommand(), in.configCommand(), in.versionCommand(),
		in.completionCommand())
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, err.Error()) })
	root.PersistentFlags().BoolVar(&in.json, "json", false, "print one JSON document on stdout")
	root.PersistentFlags().StringVar(&in.data, "data", "", "data `directory` of the server (default "+defaultDataDir+")")
	return root
}

// group is a command that only has commands below it.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, SuggestionsMinimumDistance: 2,
		Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			what := fmt.Sprintf("unknown command %q", args[0])
			if close := cmd.SuggestionsFor(args[0]); len(close) > 0 {
				what += ", did you mean " + strings.Join(close, " or ") + "?"
			}
			return usage(cmd, what)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(cmd.ErrOrStderr())
			cmd.Help()
			return usage(cmd, "a command is missing")
		},
	}
	cmd.AddCommand(commands...)
	return cmd
}

// exactly is a command's Args for so many arguments.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return usage(cmd, fmt.Sprintf("expected as arguments: %s", cmd.UseLine()))
	}
}

// failure is an error as the user sees it: what went wrong and what to do.
type failure struct {
	code int // exit status; 0 means exitFailed
	what string
	next string
}

func (f *failure) Error() string { return f.what }

func usage(cmd *cobra.Command, what string) error {
	return &failure{exitUsage, what, fmt.Sprintf("run `%s --help` to see how it is used", cmd.CommandPath())}
}

// report prints an error, what happened first and then the next step, and
// returns the exit status.
func (in *invocation) report(err error) int {
	if err == nil {
		return exitDone
	}
	if all, ok := asProblems(err); ok {
		for _, p := range all {
			fmt.Fprintln(in.stderr, printable(p.String()))
		}
		fmt.Fprintln(in.stderr, "mend the configuration and check it with `evergrant config check --config FILE`; docs/CONFIGURATION.md has every key")
		return exitFailed
	}
	f := failureOf(err)
	fmt.Fprintln(in.stderr, "evergrant: "+printable(f.what))
	if f.next != "" {
		fmt.Fprintln(in.stderr, printable(f.next))
	}
	return max(f.code, exitFailed)
}

// failureOf is the table from errors to what the user sees.
func failureOf(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if dead, ok := errors.AsType[*evergrant.ReauthorizationError](err); ok {
		return reauthorize(dead)
	}
	problem, refused := errors.AsType[*evergrant.Problem](err)
	switch {
	case errors.Is(err, evergrant.ErrUnreachable):
		return &failure{exitUnavailable, err.Error(), "start it with `evergrant serve`, or name another one with --server"}
	case errors.Is(err, context.Canceled):
		return &failure{exitFailed, "interrupted", "run the command again; what it was doing may have been done"}
	case !refused:
		return &failure{exitFailed, err.Error(), ""}
	case problem.Status == http.StatusUnauthorized:
		return &failure{exitFailed, problem.Error(), "give the admin token of this server with --token or EVERGRANT_TOKEN, or name its data directory with --data"}
	case problem.Status == http.StatusServiceUnavailable, problem.Status == http.StatusBadGateway, problem.Status == http.StatusGatewayTimeout:
		next := orText(problem.Next, "try again in a moment; the server's log says more")
		if problem.Code == evergrant.CodeUnavailable && problem.RetryAfter > 0 {
			next += "; try again in " + problem.RetryAfter.String()
		}
		return &failure{exitUnavailable, problem.Error(), next}
	}
	return &failure{exitFailed, problem.Error(), orText(problem.Next, "the lists of `evergrant client|user|grant|connection|provider|key|event list` show what there is")}
}

// reauthorize says why only the owner can bring a connection back, since when,
// and where.
func reauthorize(dead *evergrant.ReauthorizationError) *failure {
	f := &failure{exitReauthorize, strings.TrimSuffix(dead.Error(), "."), dead.Problem.Next}
	if dead.Cause != "" && !strings.Contains(f.what, dead.Cause) {
		f.what += " (" + dead.Cause + ")"
	}
	if !dead.Since.IsZero() && !strings.Contains(f.what, " since ") {
		f.what += ", since " + localTime(dead.Since)
	}
	if dead.ConnectURL != "" {
		f.next = "send its owner to " + dead.ConnectURL + " to connect again"
	}
	return f
}

func orText(text, other string) string {
	if text != "" {
		return text
	}
	return other
}
