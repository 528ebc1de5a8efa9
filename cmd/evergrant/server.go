package main

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/internal/web"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Bounds of connections. A request is at most some kilobytes and is answered in
// milliseconds, so that these end only what has gone wrong or means harm.
const (
	readTimeout     = 30 * time.Second
	writeTimeout    = time.Minute
	idleTimeout     = 2 * time.Minute
	maxHeaderBytes  = 64 << 10
	shutdownTimeout = 10 * time.Second
)

// server is a running server: everything that a configuration wires together.
type server struct {
	url      string // issuer identifier
	dataDir  string
	database string // where PostgreSQL is; "" for SQLite in the data directory
	log      *slog.Logger
	admin    *issuer.Admin
	store    database
	issuer   *issuer.Server
	only     string // part that is run alone: issuer or keeper; "" for both
	stopping chan struct{}
	http     *http.Server
	listener net.Listener
	closers  []func() error // in the order of opening

	keeper    *keeper.Keeper // nil where only the issuer runs
	providers []*provider.Provider
	hooks     *hook.Worker
}

// openServer takes the data directory, listens and wires a server, which does
// not answer before run. The root key is found, and compared with the database,
// before anything is written to the database.
func openServer(ctx context.Context, c *config, p program, stderr io.Writer, log *slog.Logger) (s *server, err error) {
	s = &server{dataDir: c.DataDir, database: c.Database.String(), log: log, only: c.only, stopping: make(chan struct{})}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	lock, err := lockDataDir(c.DataDir)
	if err != nil {
		return s, err
	}
	s.closers = append(s.closers, lock.Close)
	if err := removeLeftBackups(c.DataDir); err != nil {
		return s, err
	}
	if err := s.listen(c); err != nil {
		return s, err
	}
	if c.Database.IsZero() {
		if replaced, err := finishRestore(c.DataDir, p.now()); err != nil {
			return s, err
		} else if replaced != "" {
			log.Warn("a restore that was broken off is finished", "replaced", replaced)
		}
	}
	keys, err := s.openDatabase(ctx, c, p, stderr)
	if err != nil {
		return s, err
	}
	token, err := adminToken(filepath.Join(c.DataDir, adminTokenFile))
	if err != nil {
		return s, err
	}
	return s, s.wire(c, p, keys, token)
}

// openDatabase finds the root key, or makes it at the first start of all, and
// opens the database with it. A root key that was made for a database in which
// another process was faster is worth nothing, and is taken away again.
func (s *server) openDatabase(ctx context.Context, c *config, p program, stderr io.Writer) (*secret.Ring, error) {
	records, err := c.keysIn(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.notMoved(records); err != nil {
		return nil, err
	}
	root, made, err := c.findOrMakeRoot(ctx, p.env, stderr, records)
	if err != nil {
		return nil, err
	}
	if !root.Made(records) {
		return nil, c.wrongRoot()
	}
	if s.store, err = c.openDatabase(ctx, s.log); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, s.store.Close)
	keys, err := secret.OpenRing(ctx, root, s.store, p.now, c.usesRS256())
	if errors.Is(err, secret.ErrWrongRoot) {
		err = c.wrongRoot()
		if made != "" {
			err = errors.Join(err, os.Remove(made))
		}
	}
	return keys, err
}

// listen comes before everything that needs the URL, which has the port in it.
func (s *server) listen(c *config) error {
	listener, err := net.Listen("tcp", c.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return &failure{what: c.Listen + " is in use", next: "stop what listens there, or choose another address with --listen, such as --listen 127.0.0.1:0 for any free port"}
	}
	if err != nil {
		return &failure{what: "cannot listen: " + err.Error(), next: "choose another address with --listen"}
	}
	s.closers = append(s.closers, func() error {
		if err := listener.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	s.url, s.listener = c.publicURL(listener.Addr()), listener
	if c.TLS == (tlsFiles{}) {
		return nil
	}
	certificate, err := tls.LoadX509KeyPair(c.TLS.CertFile, c.TLS.KeyFile)
	if err != nil {
		return err
	}
	s.listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"}})
	return nil
}

// wire joins the parts into one handler. The issuer is there even where only the
// keeper runs, whose API takes its tokens, and purges and administers the
// database that both share; its endpoints are not.
func (s *server) wire(c *config, p program, keys *secret.Ring, token secret.Text) error {
	address := connectionAddress
	if c.BehindProxy {
		address = proxiedAddress
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	pages, err := web.NewPages(web.PagesConfig{PublicURL: s.url, Keys: keys, User: s.store.User, Log: s.log, Now: p.now})
	if err != nil {
		return err
	}
	s.issuer, err = issuer.New(issuer.Config{
		Issuer: s.url, Store: s.store, Keys: keys,
		Profiles: c.profiles(), Profile: c.profileName(), Unsafe: c.Issuer.Unsafe,
		Policy: c.Issuer.Policy, Scopes: c.Issuer.Scopes, Reserved: web.Scopes(), DraftExpiryNames: c.Issuer.DraftExpiryNames,
		EventRetention: time.Duration(c.Issuer.EventRetention), ClockSkew: c.clockSkew(),
		AskOwner: pages.Ask, ErrorPage: pages.Error, Address: address, Metrics: metrics, Log: s.log, Now: p.now,
	})
	if err != nil {
		return err
	}
	s.admin = issuer.NewAdmin(s.issuer, s.store)
	api := web.APIConfig{
		Token: token, Admin: s.admin, Database: s.store, Inspect: s.issuer.Inspect, Hooks: s.store, Stopping: s.stopping,
		Keys: keys, PublicURL: s.url, Address: address, Log: s.log, Now: p.now,
	}
	if s.only != onlyIssuer {
		if err := s.openKeeper(c, p, keys, metrics); err != nil {
			return err
		}
		api.Keeper, api.Providers, api.Connections, api.Events = s.keeper, s.providers, s.store.connections(), s.store.connections()
	}
	if err := s.openHooks(c, p); err != nil {
		return err
	}
	connect, err := web.NewConnect(api)
	if err != nil {
		return err
	}
	console, err := web.NewConsole(api)
	if err != nil {
		return err
	}
	site := web.SiteConfig{
		Issuer: s.issuer, Pages: pages, Ready: s.store.Ready, API: c.withoutBackup(web.NewAPI(api), token), Connect: connect, Console: console,
		Metrics: promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}),
		Address: address, Log: s.log, Now: p.now,
	}
	if s.only == onlyKeeper {
		site.Issuer = nil
	}
	s.http = &http.Server{
		Handler:           web.NewSite(site),
		ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	return nil
}

// run serves until the context ends, then answers what has been asked, for at
// most ten seconds, waits for the refreshes that have been sent to providers,
// and returns nil.
func (s *server) run(ctx context.Context) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	work.Go(func() { s.issuer.Run(background) })
	work.Go(func() { s.hooks.Run(background) })
	if s.keeper != nil {
		work.Go(func() { s.keeper.Run(background) })
	}
	defer work.Wait()
	defer stop()

	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(s.listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	s.log.Info("stopping: no new requests are taken")
	close(s.stopping)
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := s.http.Shutdown(patience); err != nil {
		s.log.Warn("requests were broken off after ten seconds", "error", err)
		s.http.Close()
	}
	return nil
}

// close gives back what openServer took, last first. Closing again is nothing.
func (s *server) close() error {
	var all error
	for i := len(s.closers) - 1; i >= 0; i-- {
		all = errors.Join(all, s.closers[i]())
	}
	s.closers = nil
	return all
}

// leastToken is the length of the shortest admin token that is taken from a
// file that somebody else made: 128 bits in base64.
const leastToken = 22

// adminToken reads the admin token, or makes it at the first start.
func adminToken(path string) (secret.Text, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		token := newAdminToken()
		return token, createFile(path, token.Reveal()+"\n")
	}
	if err != nil {
		return secret.Text{}, err
	}
	token := strings.TrimSpace(string(text))
	if len(token) < leastToken || strings.ContainsAny(token, " \t\r\n") {
		return secret.Text{}, &failure{what: path + " has no admin token, or one that can be guessed", next: "delete the file; a new token is made at the next start"}
	}
	return secret.NewText(token), nil
}

// newAdminToken makes a token of 256 bits.
func newAdminToken() secret.Text {
	return secret.NewText("egadm_" + base64.RawURLEncoding.EncodeToString(secret.Bytes(32)))
}
