package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// gcPercent spends some 15 MB on collecting garbage a fourth as often. What lives
// on the heap is a few MB, so that the default collects many times a second and
// costs 13 % of a refresh (docs/PERFORMANCE.md).
const gcPercent = 400

func (in *invocation) serveCommand() *cobra.Command {
	var file, listen, only, logLevel, logFormat string
	cmd := &cobra.Command{
		Use: "serve", Short: "Runs the server until it is interrupted", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if only != "" && only != onlyIssuer && only != onlyKeeper {
				return usage(cmd, fmt.Sprintf("--only %q is not issuer or keeper", only))
			}
			log, err := newLog(in.stderr, logLevel, logFormat)
			if err != nil {
				return usage(cmd, err.Error())
			}
			return in.serve(cmd.Context(), file, listen, only, log)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&file, "config", "", "configuration `FILE` (default none: the defaults)")
	flags.StringVar(&listen, "listen", "", "`ADDR` to listen on, with port 0 for any free one (default "+defaultListen+")")
	flags.StringVar(&only, "only", "", "run one `part` only: issuer or keeper")
	flags.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&logFormat, "log-format", "text", "text or json")
	return cmd
}

// The parts of a server.
const (
	onlyIssuer = "issuer"
	onlyKeeper = "keeper"
)

func (in *invocation) serve(ctx context.Context, file, listen, only string, log *slog.Logger) error {
	c, err := loadConfig(file, overrides{listen, in.data}, in.env)
	if err != nil {
		return err
	}
	c.only = only
	for _, warning := range c.warnings {
		log.Warn(warning.Text, "at", warning.Place)
	}
	in.tune()
	s, err := openServer(ctx, c, in.program, in.stderr, log)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.declare(ctx, c, file != ""); err != nil {
		return err
	}
	if err := in.greet(ctx, s, c.profileLines()); err != nil {
		return err
	}
	return s.run(ctx)
}

// tune sets what the Go runtime should do differently for this program, unless
// its own variables say so. A commit spends a tenth of a millisecond in the
// kernel until the disk has flushed; with a single processor the runtime would
// mostly let that time pass, so it gets a second one to run requests on.
func (in *invocation) tune() {
	if gogc, _ := in.env("GOGC"); gogc == "" {
		debug.SetGCPercent(gcPercent)
	}
	if procs, _ := in.env("GOMAXPROCS"); procs == "" && runtime.GOMAXPROCS(0) == 1 {
		runtime.GOMAXPROCS(2)
	}
}

// greet says where the server is, in which profiles it speaks, what it keeps and
// what to try next.
func (in *invocation) greet(ctx context.Context, s *server, profiles []string) error {
	lines := [][2]string{{"evergrant is ready at", s.url}, {"its data is in", s.dataDir}}
	told := map[string]string{"issuer": s.url, "data_dir": s.dataDir}
	if s.database != "" {
		lines[1] = [2]string{"its database is", s.database}
		told["database"] = s.database
	}
	if s.only != onlyKeeper {
		for _, line := range profiles {
			lines = append(lines, [2]string{"it speaks the profile", line})
		}
		told["profile"] = strings.Join(profiles, "; ")
	}
	if s.keeper != nil {
		kept, err := s.kept(ctx)
		if err != nil {
			return err
		}
		lines, told["keeps"] = append(lines, [2]string{"it keeps", kept}), kept
	}
	if in.json {
		return in.printJSON(told)
	}
	next := "evergrant client list"
	if s.only == onlyKeeper || len(s.providers) > 0 {
		next = "evergrant connection list"
	}
	if s.url != defaultServer {
		next += " --server " + s.url
	}
	if s.dataDir != defaultDataDir {
		next += " --data " + s.dataDir
	}
	return details(in.stdout, append(lines, [2]string{"next, in another shell:", next}))
}

func newLog(w io.Writer, level, format string) (*slog.Logger, error) {
	var options slog.HandlerOptions
	var at slog.Level
	if err := at.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q is not debug, info, warn or error", level)
	}
	options.Level = at
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, &options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, &options)), nil
	}
	return nil, fmt.Errorf("--log-format %q is not text or json", format)
}
