package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/secret"
	"github.com/spf13/cobra"
)

const (
	defaultServer  = "http://" + defaultListen
	adminTokenFile = "admin.token"
)

// administration gives a command the flags that name the server.
func (in *invocation) administration(cmd *cobra.Command) *cobra.Command {
	flags := cmd.PersistentFlags()
	flags.StringVar(&in.server, "server", "", "`URL` of the server (default $EVERGRANT_SERVER or "+defaultServer+")")
	flags.StringVar(&in.token, "token", "", "admin `token` (default $EVERGRANT_TOKEN or the file "+adminTokenFile+" in the data directory)")
	return cmd
}

// dataDir is the data directory that --data names, or the default one.
func (in *invocation) dataDir() string { return orText(in.data, defaultDataDir) }

// admin is the client of the running server.
func (in *invocation) admin() (*evergrant.Client, error) {
	fromEnv, _ := in.env("EVERGRANT_SERVER")
	server := orText(in.server, orText(fromEnv, defaultServer))
	u, err := url.Parse(server)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		return nil, &failure{exitUsage, fmt.Sprintf("%q is not the URL of a server", server), "write for example --server " + defaultServer}
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, &failure{exitUsage, "the admin token would cross the network in clear to " + u.Host, "name the server by its https URL"}
	}
	token, err := in.adminToken()
	if err != nil {
		return nil, err
	}
	return &evergrant.Client{Server: server, Token: token}, nil
}

// onServer is a command's RunE that administers the running server.
func (in *invocation) onServer(run func(cmd *cobra.Command, admin *evergrant.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		admin, err := in.admin()
		if err != nil {
			return err
		}
		return run(cmd, admin, args)
	}
}

// found says of what the server does not have that it is not there.
func found(err error, kind, name string) error {
	problem, ok := errors.AsType[*evergrant.Problem](err)
	if !ok || problem.Status != http.StatusNotFound || problem.Next != "" {
		return err
	}
	return &failure{what: fmt.Sprintf("there is no %s %s on this server", kind, name), next: "`evergrant " + kind + " list` shows what there is"}
}

// taken says of what the server has already how to change it.
func taken(err error, kind, name, change string) error {
	problem, ok := errors.AsType[*evergrant.Problem](err)
	if !ok || problem.Status != http.StatusConflict {
		return err
	}
	return &failure{what: fmt.Sprintf("%s %s exists already", kind, name), next: fmt.Sprintf("change it with `evergrant %s %s %s`, or choose another name", kind, change, name)}
}

func (in *invocation) adminToken() (secret.Text, error) {
	fromEnv, _ := in.env("EVERGRANT_TOKEN")
	if given := orText(in.token, fromEnv); given != "" {
		return secret.NewText(given), nil
	}
	path := filepath.Join(in.dataDir(), adminTokenFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return secret.Text{}, &failure{exitFailed, "no admin token: there is no " + path,
			"start `evergrant serve`, which makes it, or name the server's data directory with --data, or give the token with EVERGRANT_TOKEN"}
	}
	if err != nil {
		return secret.Text{}, &failure{exitFailed, err.Error(), "run this as the user that the server runs as, or give the token with EVERGRANT_TOKEN"}
	}
	return secret.NewText(strings.TrimSpace(string(text))), nil
}
