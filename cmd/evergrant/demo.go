package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/secret"
	"github.com/spf13/cobra"
)

func (in *invocation) demoCommand() *cobra.Command {
	var listen string
	var once bool
	cmd := &cobra.Command{
		Use: "demo", Short: "Shows on real traffic what the server promises, and stays up to be tried", Args: exactly(0),
		Long: "Starts a server on an empty temporary directory, and simulated providers, and walks through what the server\n" +
			"promises, on its HTTP interface: each request as a curl line to paste, what came back, and what was checked.\n" +
			"Then it stays up until it is interrupted. With --once it ends after the tour, with status 0 only if every\n" +
			"promise was kept.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case in.data != "":
				return usage(cmd, "the demo makes a data directory of its own; leave --data out")
			case in.json && !once:
				return usage(cmd, "--json prints the outcome at the end, and without --once there is none; add --once")
			}
			return in.demo(cmd.Context(), listen, once)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", defaultListen, "`ADDR` to listen on, with port 0 for any free one")
	cmd.Flags().BoolVar(&once, "once", false, "end after the tour")
	return cmd
}

// demoConfig is the seeds' example as a configuration file. A code lives longer
// than usual, so that there is time to look at it.
const demoConfig = `issuer:
  authorization_code_lifetime: 5m
  scopes:
    read: See your photos
    write: Add and delete photos
  clients:
    - id: ` + demoClient + `
      name: Test Client
      secret: ` + demoSecret + `
      grant_types: [password, authorization_code, refresh_token, client_credentials]
      scopes: [read, write]
      redirect_uris: [http://127.0.0.1` + callbackPath + `]
    - id: api
      name: The resource server
      secret: ApiSecret
      introspect: true
` + legacyConfig + `  users:
    - username: ` + demoUsername + `
      password: ` + demoPassword + `
      info: {companies: [{guid: 5f2a7c1e, name: Festival}]}
`

// demo runs a server as serve does, on a directory that is removed at the end,
// and the tour against it.
func (in *invocation) demo(ctx context.Context, listen string, once bool) (err error) {
	temporary, _ := in.env("TMPDIR")
	dir, err := os.MkdirTemp(temporary, "evergrant-demo-")
	if err != nil {
		return &failure{what: err.Error(), next: "name a directory that can be written with TMPDIR"}
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	application, err := newApp(in.now)
	if err != nil {
		return err
	}
	defer application.listener.Close()
	providers, err := simulate()
	if err != nil {
		return err
	}
	stage := newStage(providers, application.hooks, dir)
	defer stage.close()
	s, err := in.demoServer(ctx, dir, listen, demoConfig+providers.config(application.hook()))
	if err != nil {
		return err
	}
	application.issuer = s.url

	serving, stop := context.WithCancel(ctx)
	var servers sync.WaitGroup
	failed := make(chan error, 1)
	servers.Go(func() { failed <- s.run(serving) })
	servers.Go(func() { application.run(serving) })
	defer func() {
		stop()
		servers.Wait()
		err = errors.Join(err, s.close())
	}()
	return in.guide(ctx, s, application, stage, once, failed)
}

// demoServer opens the server that the demo shows, with a configuration file in
// dir, as nobody's environment has it.
func (in *invocation) demoServer(ctx context.Context, dir, listen, config string) (*server, error) {
	file := filepath.Join(dir, "evergrant.yaml")
	if err := createFile(file, config); err != nil {
		return nil, err
	}
	p := program{env: func(string) (string, bool) { return "", false }, now: in.now}
	c, err := loadConfig(file, overrides{listen, filepath.Join(dir, "data")}, p.env)
	if err != nil {
		return nil, err
	}
	s, err := openServer(ctx, c, p, io.Discard, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	if err := s.declare(ctx, c, true); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// demoTimeout bounds one request of the tour, so that a server which hangs
// breaks a promise.
const demoTimeout = 20 * time.Second

// guide gives the tour and then, unless once, shows what goes on until the
// context ends.
func (in *invocation) guide(ctx context.Context, s *server, application *app, stage *stage, once bool, failed <-chan error) error {
	token, err := adminToken(filepath.Join(s.dataDir, adminTokenFile))
	if err != nil {
		return err
	}
	t := in.newTour(s.url, token, application.redirect(), stage)
	t.out.heading("Evergrant: a tour on real traffic")
	t.out.prose("The server is at " + s.url + ", on an empty database, and knows the client " + demoClient + " with secret " + demoSecret +
		" and the user " + demoUsername + " with password " + demoPassword + ". Every command can be pasted into another terminal; in answers, long tokens are shortened.")
	started := in.now()
	if err := t.run(ctx, steps()); err != nil {
		return err
	}
	outcome := in.sum(t, in.now().Sub(started))
	if once {
		return outcome
	}
	stage.calm()
	t.farewell(application, filepath.Dir(s.dataDir))
	var ended error
	_, _ = t.await(ctx, forever, func() (bool, error) { // which shows renewals
		select {
		case ended = <-failed:
			return true, nil
		default:
			return false, nil
		}
	})
	return errors.Join(outcome, ended)
}

// newTour prepares a tour that is written to stdout, unless a JSON document is.
func (in *invocation) newTour(base string, token secret.Text, redirect string, stage *stage) *tour {
	client := &http.Client{Timeout: demoTimeout}
	t := &tour{stage: stage, base: base, redirect: redirect, http: client, out: &story{w: in.stdout, colour: in.colourful()}}
	if _, ok := terminal(in.stdout); ok {
		t.out.last = &lastLine{w: in.stdout}
		t.out.w = t.out.last
	}
	t.admin = &evergrant.Client{Server: base, Token: token, HTTP: client}
	if in.json {
		t.out = &story{w: io.Discard}
	}
	return t
}

// colourful reports whether stdout is a terminal that shows colours, and nobody
// asked for none (https://no-color.org).
func (in *invocation) colourful() bool {
	none, _ := in.env("NO_COLOR")
	kind, _ := in.env("TERM")
	_, ok := terminal(in.stdout)
	return ok && none == "" && kind != "dumb"
}

// sum says how the tour came out. The error names the promises that broke.
func (in *invocation) sum(t *tour, took time.Duration) error {
	broken := t.broken()
	kept := len(t.promises) - len(broken)
	if in.json {
		err := in.printJSON(struct {
			Kept     int       `json:"kept"`
			Broken   int       `json:"broken"`
			Promises []promise `json:"promises"`
		}{kept, len(broken), t.promises})
		if err != nil {
			return err
		}
	}
	t.out.heading("The end of the tour")
	colour := green
	if len(broken) > 0 {
		colour = red
	}
	t.out.prose(t.out.paint(colour, fmt.Sprintf("%s kept, %d broken, in %s.", plural(kept, "promise"), len(broken), took.Round(10*time.Millisecond))))
	if len(broken) == 0 {
		return nil
	}
	f := &failure{what: fmt.Sprintf("%s broken", plural(len(broken), "promise"))}
	for _, p := range broken {
		t.out.prose("✗ " + p.Step + ": " + p.Promise + " (" + p.Compared + ")")
		f.what += "; in " + p.Step + ": " + p.Promise
	}
	f.next = "run the demo again without --once to look at the server that did this"
	return f
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
