package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // for --time-zone on a machine that has none

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/internal/foreign"
	"github.com/evergrant/evergrant/issuer/profile"
	"github.com/spf13/cobra"
)

// importTimeout bounds one request of an import: a server writes its answers for
// at most a minute.
const importTimeout = 2 * time.Minute

// importFlags are what an import is told beside its source.
type importFlags struct {
	kind, profile, zone              string
	tables                           []string
	iterations                       int
	hexTokens, dryRun, revokeMissing bool
	revive                           bool
}

func (in *invocation) importCommand() *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use: "import SOURCE", Args: exactly(1),
		Short: "Takes over clients, users and live tokens from the database of another server",
		Long: `Takes over clients, users and live tokens from the database of another authorization
server, which is only read and may go on meanwhile. Running it again changes what the
other server has changed since, and nothing else. docs/IMPORT.md is the guide.

SOURCE is sqlite:PATH, mysql://USER@HOST/DATABASE or postgres://USER@HOST/DATABASE. ${NAME}
in it takes an environment variable, so that no password stands in the list of processes:
	evergrant import 'mysql://app:${OLD_PASSWORD}@db.example/app'`,
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, args []string) error {
			return in.importFrom(cmd, admin, args[0], f)
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.kind, "from", "", "whose tables they are: `"+strings.Join(foreign.Kinds(), ", ")+"` (default: found by the tables)")
	flags.StringArrayVar(&f.tables, "table", nil, "`ROLE=NAME` of a table that is not called as usual, such as users=members; repeat for several; users= reads none")
	flags.StringVar(&f.profile, "profile", "", "`profile` of the clients (default bshaffer, fos or standard, after where they come from)")
	flags.StringVar(&f.zone, "time-zone", "UTC", "`zone` of the times in a bshaffer database, such as Europe/Paris: PHP's date.timezone")
	flags.IntVar(&f.iterations, "iterations", 5000, "of Symfony's message digest, `N` as security.yml of a fos source has it")
	flags.BoolVar(&f.hexTokens, "hex-tokens", false, "doorkeeper's tokens of 64 hexadecimal digits are tokens (default_generator_method :hex), not their digests")
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what would be done, and change nothing")
	flags.BoolVar(&f.revive, "revive", false, "take refresh tokens, too, that may have ended here since an earlier run")
	flags.BoolVar(&f.revokeMissing, "revoke-missing", false, "revoke tokens that the source has no longer, even where they are most of what was imported")
	return in.administration(cmd)
}

func (in *invocation) importFrom(cmd *cobra.Command, admin *evergrant.Client, address string, f importFlags) error {
	options, err := f.options(cmd, in.now)
	if err != nil {
		return err
	}
	if address, err = in.withVariables(address); err != nil {
		return err
	}
	admin.HTTP = &http.Client{Timeout: importTimeout}
	im := &importing{in: in, admin: admin, flags: f, patience: importPatience, report: newImportReport(f.dryRun)}
	defer in.progress("")
	// Asked before the source is read: what comes to it later is not gone from it.
	asked, err := admin.Import(cmd.Context(), evergrant.ImportBatch{Source: "-", Profile: f.profile, DryRun: true})
	if err != nil {
		return err
	}
	im.readAt = asked.At
	in.progress("reading the source ...")
	if im.source, err = foreign.Open(cmd.Context(), address, options); err != nil {
		return unreadable(cmd.Context(), err)
	}
	defer im.source.Close()
	started := in.now()
	err = im.run(cmd.Context())
	im.report.Seconds = in.now().Sub(started).Seconds()
	in.progress("")
	if err != nil {
		return err
	}
	return im.show()
}

// unreadable is what a user is told of a source that cannot be opened or read.
func unreadable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &failure{what: "interrupted", next: "run it again: it goes on where it stopped"}
	}
	return &failure{what: "the source cannot be read: " + flat(err), next: "mend that and run it again: it goes on where it stopped, and the source is only read"}
}

func (f importFlags) options(cmd *cobra.Command, now func() time.Time) (foreign.Options, error) {
	options := foreign.Options{Kind: f.kind, Tables: map[string]string{}, Iterations: f.iterations, HexTokens: f.hexTokens, Now: now}
	if f.kind != "" && !slices.Contains(foreign.Kinds(), f.kind) {
		return options, usage(cmd, fmt.Sprintf("--from %q is not one of %s", f.kind, strings.Join(foreign.Kinds(), ", ")))
	}
	for _, pair := range f.tables {
		role, name, ok := strings.Cut(pair, "=")
		if !ok || role == "" {
			return options, usage(cmd, fmt.Sprintf("--table %q is not ROLE=NAME", pair))
		}
		options.Tables[role] = name
	}
	if f.iterations < 1 {
		return options, usage(cmd, "--iterations must be above 0")
	}
	var err error
	if options.Location, err = time.LoadLocation(f.zone); err != nil {
		return options, usage(cmd, fmt.Sprintf("--time-zone %q is not a time zone such as Europe/Paris", f.zone))
	}
	return options, nil
}

// profileOf is the profile of clients that come from a kind of server.
func (f importFlags) profileOf(kind string) string {
	switch {
	case f.profile != "":
		return f.profile
	case kind == profile.NameBshaffer || kind == profile.NameFOS:
		return kind
	}
	return standardProfile
}

// withVariables puts environment variables into an address: as they are, but in
// front of a URL's host, where they are escaped.
func (in *invocation) withVariables(address string) (string, error) {
	variable := regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)
	scheme, host := strings.Index(address, "://"), strings.LastIndexByte(address, '@')
	var out strings.Builder
	end := 0
	for _, at := range variable.FindAllStringSubmatchIndex(address, -1) {
		name := address[at[2]:at[3]]
		value, ok := in.env(name)
		if !ok {
			return "", &failure{exitUsage, "the source takes the environment variable " + name + ", which is not set", "set it, or write what it stands for"}
		}
		if scheme >= 0 && at[0] > scheme && at[0] < host {
			value = strings.TrimPrefix(url.UserPassword("", value).String(), ":")
		}
		out.WriteString(address[end:at[0]] + value)
		end = at[1]
	}
	return out.String() + address[end:], nil
}
