package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/evergrant/evergrant/issuer"
	"github.com/spf13/cobra"
)

func (in *invocation) configCommand() *cobra.Command {
	var file string
	check := &cobra.Command{
		Use: "check", Short: "Checks a configuration file and shows what it comes to", Args: exactly(0),
		RunE: func(*cobra.Command, []string) error { return in.checkConfig(file) },
	}
	check.Flags().StringVar(&file, "config", "", "configuration `FILE` (default none: the defaults)")
	return group("config", "Checks the configuration", check)
}

func (in *invocation) checkConfig(file string) error {
	c, err := loadConfig(file, overrides{dataDir: in.data}, in.env)
	wrong, _ := asProblems(err)
	if err != nil && wrong == nil {
		return err
	}
	name := orText(file, "(defaults)")
	if in.json {
		if err := in.printJSON(struct {
			File     string   `json:"file"`
			OK       bool     `json:"ok"`
			Problems problems `json:"problems,omitempty"`
			Warnings problems `json:"warnings,omitempty"`
			Settings *config  `json:"settings,omitempty"`
		}{name, err == nil, wrong, c.warnings, c}); err != nil {
			return err
		}
	}
	for _, warning := range c.warnings {
		fmt.Fprintln(in.stderr, "warning:", printable(warning.String()))
	}
	if err != nil || in.json {
		return err
	}
	fmt.Fprintln(in.stdout, printable(name)+": ok")
	return details(in.stdout, c.summary(in.env))
}

// summary are the settings in effect, for people.
func (c *config) summary(env func(string) (string, bool)) [][2]string {
	lines := [][2]string{
		{"  listen", c.Listen},
		{"  public URL", orText(c.PublicURL, "of the address that is listened on")},
		{"  https", map[bool]string{true: c.TLS.CertFile, false: "no"}[c.TLS != (tlsFiles{})]},
		{"  behind a proxy", map[bool]string{true: "yes: addresses are taken from its headers", false: "no"}[c.BehindProxy]},
		{"  data directory", c.DataDir},
		{"  database", c.place()},
		{"  root key", c.rootKeySource(env)},
		{"  profile", strings.Join(c.profileLines(), "; ")},
		{"  unsafe_compatibility", strings.Join(named(c.Issuer.Unsafe), " ")},
		{"  scopes", orText(strings.Join(slices.Sorted(maps.Keys(c.Issuer.Scopes)), " "), "none")},
		{"  clients", counted(len(c.Issuer.Clients), func(i int) string { return c.Issuer.Clients[i].ID })},
		{"  users", counted(len(c.Issuer.Users), func(i int) string { return c.Issuer.Users[i].Username })},
		{"  events are kept", c.Issuer.EventRetention.String()},
	}
	p := c.policyOf(issuer.Client{})
	lines = append(lines, [][2]string{
		{"  access_token_lifetime", p.AccessTokenLifetime.String()},
		{"  access_token_format", string(p.Format)},
		{"  access_token_signing_alg", string(p.SigningAlg)},
		{"  authorization_code_lifetime", p.CodeLifetime.String()},
		{"  refresh_token_lifetime", p.RefreshTokenLifetime.String()},
		{"  grant_lifetime", p.GrantLifetime.String()},
		{"  refresh_token_rotation", string(p.Rotation)},
		{"  refresh_token_retry_window", p.RetryWindow.String()},
		{"  require_pkce", string(p.PKCE)},
		{"  redirect_matching", string(p.Redirects)},
	}...)
	return append(lines, c.Keeper.summary(c.spoolDir())...)
}

func (k *keeperConfig) summary(spool string) [][2]string {
	return [][2]string{
		{"  providers", counted(len(k.Providers), func(i int) string { return k.Providers[i].summary() })},
		{"  further definitions", k.Definitions},
		{"  refresh_ahead", k.RefreshAhead.String()},
		{"  private networks", map[bool]string{true: "allowed: provider URLs may be http and point into them", false: ""}[k.AllowPrivateNetworks]},
		{"  spool directory", spool},
		{"  webhooks", counted(len(k.Webhooks), func(i int) string { return k.Webhooks[i].Name + ": " + strings.Join(k.Webhooks[i].Events, " ") })},
	}
}

// summary is the name, and of what definition it is where that has another.
func (p *declaredProvider) summary() string {
	if p.Base == "" || p.Base == p.Name {
		return p.Name
	}
	return p.Name + ": " + p.Base
}

// rootKeySource says where the root key comes from.
func (c *config) rootKeySource(env func(string) (string, bool)) string {
	switch {
	case !c.RootKey.Empty():
		return "root_key"
	case c.RootKeyFile != "":
		return "the file " + c.RootKeyFile
	case c.RootKeyCommand != "":
		return "root_key_command"
	}
	if _, ok := env(rootKeyEnv); ok {
		return rootKeyEnv
	}
	return "the file " + filepath.Join(c.DataDir, rootKeyName) + ", made at the first start"
}

// counted is a number and the names, cut after the first ten.
func counted(n int, name func(int) string) string {
	if n == 0 {
		return "0"
	}
	var names []string
	for i := range min(n, 10) {
		names = append(names, name(i))
	}
	if n > 10 {
		names = append(names, "...")
	}
	return strconv.Itoa(n) + " (" + strings.Join(names, ", ") + ")"
}
