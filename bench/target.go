package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/internal/bench"
)

// Names that our configuration and bench/peers agree on.
const (
	serviceClient = "service"
	username      = "bench"
)

// target is one server in one configuration, with the loads that it can take.
type target struct {
	bench.Subject
	clientID string // public client whose grants are refreshed
	modes    []bench.Mode
	// bearer says that introspection is authorized by an access token of the
	// service client, and not by its secret.
	bearer bool
}

// ours reports whether the target is Evergrant.
func (t target) ours() bool { return t.Peer == "evergrant" }

// targets lists all there are, in the order of the table.
func targets() []target {
	memory := func(peer, token string) bench.Subject {
		return bench.Subject{Peer: peer, Store: "memory", AccessToken: token}
	}
	durable := func(token string) bench.Subject {
		return bench.Subject{Peer: "evergrant", Store: "SQLite, durable", AccessToken: token}
	}
	all := []bench.Mode{bench.Refresh, bench.Introspect, bench.ClientCredentials}
	return []target{
		{Subject: bench.Subject{Peer: "echo", Store: "none", AccessToken: "none"}, clientID: "opaque", modes: []bench.Mode{bench.Echo}},
		{Subject: memory("go-oauth2", "opaque"), clientID: "opaque", modes: []bench.Mode{bench.Refresh, bench.ClientCredentials}},
		// fosite hashes secrets with bcrypt, which would be all that an
		// introspection authorized by one shows.
		{Subject: memory("fosite", "opaque"), clientID: "opaque", modes: all, bearer: true},
		{Subject: durable("opaque"), clientID: "opaque", modes: all},
		{Subject: durable("EdDSA"), clientID: "eddsa", modes: all[:2]},
		{Subject: durable("ES256"), clientID: "es256", modes: all[:2]},
	}
}

// choose answers the targets that the names select: a server, or a server and
// its token format, such as evergrant:eddsa. No names select all.
func choose(names []string) ([]target, error) {
	if len(names) == 0 {
		return targets(), nil
	}
	var chosen []target
	used := map[string]bool{}
	for _, t := range targets() {
		for _, name := range names {
			if name != t.Peer && name != t.Peer+":"+strings.ToLower(t.AccessToken) {
				continue
			}
			used[name] = true
			if !slices.ContainsFunc(chosen, func(other target) bool { return other.Subject == t.Subject }) {
				chosen = append(chosen, t)
			}
		}
	}
	for _, name := range names {
		if !used[name] {
			return nil, fmt.Errorf("-only: no server is called %q; there are echo, go-oauth2, fosite and evergrant, the last also as evergrant:opaque, evergrant:eddsa and evergrant:es256", name)
		}
	}
	return chosen, nil
}

// credentials are made anew for each benchmark.
type credentials struct {
	clientSecret string
	password     string
}

// basic is the Authorization header of the service client (RFC 6749, section
// 2.3.1). Neither part has a character that form encoding would change.
func (c credentials) basic() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(serviceClient+":"+c.clientSecret))
}

// running is a started server and the places where its storage is told.
type running struct {
	*bench.Server
	adminToken string // "" where the server does not tell
	data       string
}

// start runs the target's server in a directory of its own.
func (f *field) start(ctx context.Context, t target, dir string) (*running, error) {
	if t.ours() {
		return f.startOurs(ctx, dir)
	}
	server, err := bench.Start(ctx, bench.Command{
		Argv: f.cores.onServerCore(f.peers, "-peer", t.Peer, "-listen", "127.0.0.1:0"),
		Env:  []string{f.cores.serverEnv(), "BENCH_CLIENT_SECRET=" + f.credentials.clientSecret, "BENCH_PASSWORD=" + f.credentials.password},
		Log:  filepath.Join(dir, "log"),
	})
	if err != nil {
		return nil, err
	}
	return &running{Server: server}, nil
}

func (f *field) startOurs(ctx context.Context, dir string) (*running, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	data, config := filepath.Join(dir, "data"), filepath.Join(dir, "evergrant.yaml")
	if err := os.WriteFile(config, []byte(f.credentials.configuration(address)), 0o600); err != nil {
		return nil, err
	}
	server, err := bench.Start(ctx, bench.Command{
		Argv:    f.cores.onServerCore(f.server, "serve", "--config", config, "--data", data, "--listen", address),
		Env:     []string{f.cores.serverEnv()},
		Address: address,
		Log:     filepath.Join(dir, "log"),
	})
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(filepath.Join(data, "admin.token"))
	if err != nil {
		server.Stop()
		return nil, err
	}
	return &running{Server: server, adminToken: strings.TrimSpace(string(token)), data: data}, nil
}

// configuration is Evergrant's for the benchmark: rotation always, all
// lifetimes and the retry window as they are by default.
func (c credentials) configuration(address string) string {
	return fmt.Sprintf(`public_url: http://%s
issuer:
  refresh_token_rotation: always
  scopes: {read: "Read your data"}
  clients:
    - {id: opaque, grant_types: [password, refresh_token], scopes: [read], access_token_format: opaque}
    - {id: eddsa, grant_types: [password, refresh_token], scopes: [read], access_token_format: jwt, access_token_signing_alg: EdDSA}
    - {id: es256, grant_types: [password, refresh_token], scopes: [read], access_token_format: jwt, access_token_signing_alg: ES256}
    - {id: %s, secret: "%s", grant_types: [client_credentials], scopes: [read], introspect: true, access_token_format: opaque}
  users:
    - {username: %s, password: "%s"}
`, address, serviceClient, c.clientSecret, username, c.password)
}

// freeAddress is a loopback address that nobody listened on a moment ago.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}
