// Command peers runs one of the servers that Evergrant is measured against:
//
//	peers -peer echo|go-oauth2|fosite -listen 127.0.0.1:0
//
// The first line on its standard output is the address that it listens on.
// It is a module of its own, so that the peers' dependencies stay out of
// Evergrant's.
//
// Every peer knows the public client "opaque" (password and refresh_token),
// the confidential client "service" (client_credentials), the user "bench" and
// the scope "read", and serves /oauth/token, /oauth/introspect where it can,
// and /readyz. The secret of the client and the password of the user come from
// the environment: BENCH_CLIENT_SECRET and BENCH_PASSWORD.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	publicClient  = "opaque"
	serviceClient = "service"
	username      = "bench"
	scope         = "read"
)

// credentials are what the load generator will present.
type credentials struct {
	clientSecret string
	password     string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := credentials{
		clientSecret: cmp.Or(os.Getenv("BENCH_CLIENT_SECRET"), "secret"),
		password:     cmp.Or(os.Getenv("BENCH_PASSWORD"), "password"),
	}
	if err := run(ctx, os.Args[1:], c, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, c credentials, out io.Writer) error {
	flags := flag.NewFlagSet("peers", flag.ContinueOnError)
	peer := flags.String("peer", "echo", "server to run: echo, go-oauth2 or fosite")
	listen := flags.String("listen", "127.0.0.1:0", "address to listen on")
	if err := flags.Parse(args); err != nil {
		return err
	}
	handler, err := newPeer(*peer, c)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, listener.Addr())
	return serve(ctx, listener, handler)
}

// newPeer builds the named server and adds the readiness path.
func newPeer(name string, c credentials) (http.Handler, error) {
	peers := map[string]func(credentials) (*http.ServeMux, error){
		"echo":      newEcho,
		"go-oauth2": newGoOAuth2,
		"fosite":    newFosite,
	}
	build, ok := peers[name]
	if !ok {
		return nil, fmt.Errorf("unknown peer %q", name)
	}
	mux, err := build(c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	return mux, nil
}

// serve answers requests until the context ends.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(listener); ctx.Err() == nil {
		return err
	}
	return nil
}
