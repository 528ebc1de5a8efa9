package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/evergrant/evergrant/internal/bench"
	"github.com/evergrant/evergrant/secret"
)

// databaseName is that of a target's database in its PostgreSQL.
const databaseName = "bench"

// running is a started target and the places where its storage is told.
type running struct {
	servers    []*bench.Server // the first is the one that is asked for tokens
	postgres   *bench.Postgres // nil where there is none
	admin      string          // address of the administration, where it has its own
	adminToken string          // "" where the server does not tell
	data       string
}

// stop ends what runs, the database last.
func (r *running) stop() {
	for _, server := range r.servers {
		server.Stop()
	}
	if r.postgres != nil {
		r.postgres.Stop()
	}
}

// usage is of all processes together.
func (r *running) usage() bench.Usage {
	servers := r.servers
	if r.postgres != nil {
		servers = append(servers[:len(servers):len(servers)], r.postgres.Server)
	}
	var total bench.Usage
	for _, server := range servers {
		usage, _ := bench.ReadTree(server.PID)
		total.CPU += usage.CPU
		total.Memory += usage.Memory
	}
	return total
}

// start runs the target's server in a directory of its own.
func (f *field) start(ctx context.Context, t target, dir string) (_ *running, err error) {
	r := &running{}
	defer func() {
		if err != nil {
			r.stop()
		}
	}()
	if t.postgres {
		if r.postgres, err = f.startPostgres(ctx, dir); err != nil {
			return nil, err
		}
	}
	switch {
	case t.ours():
		err = f.startOurs(ctx, r, dir, max(t.issuers, 1))
	case t.Peer == hydra:
		err = f.startHydra(ctx, r, dir)
	default:
		err = f.startPeer(ctx, r, t.Peer, dir)
	}
	return r, err
}

// startPostgres starts a PostgreSQL on the server's core. Its settings are those
// of a small production server: what it says is committed has been flushed.
func (f *field) startPostgres(ctx context.Context, dir string) (*bench.Postgres, error) {
	settings := map[string]string{"shared_buffers": "512MB", "max_wal_size": "4GB"}
	p, err := bench.StartPostgres(ctx, dir, settings, f.cores.OnServerCore)
	if err != nil {
		return nil, err
	}
	if err := p.Exec(ctx, "postgres", "CREATE DATABASE "+databaseName); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

func (f *field) startPeer(ctx context.Context, r *running, peer, dir string) error {
	server, err := bench.Start(ctx, bench.Command{
		Argv: f.cores.OnServerCore(f.peers, "-peer", peer, "-listen", "127.0.0.1:0"),
		Env:  []string{f.cores.ServerEnv(), "BENCH_CLIENT_SECRET=" + f.credentials.clientSecret, "BENCH_PASSWORD=" + f.credentials.password},
		Log:  filepath.Join(dir, "log"),
	})
	if err != nil {
		return err
	}
	r.servers = append(r.servers, server)
	return nil
}

// startOurs starts a number of servers, which are one to their clients.
func (f *field) startOurs(ctx context.Context, r *running, dir string, issuers int) error {
	root, public := secret.NewRoot(), ""
	for i := range issuers {
		address, err := bench.FreeAddress()
		if err != nil {
			return err
		}
		if public == "" {
			public = address
		}
		text := f.credentials.configuration(public) + "root_key: " + root.Base64() + "\n"
		if r.postgres != nil {
			text += "database: " + r.postgres.URL(databaseName) + "\n"
		}
		config := filepath.Join(dir, fmt.Sprintf("evergrant-%d.yaml", i))
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return err
		}
		r.data = filepath.Join(dir, fmt.Sprintf("data-%d", i))
		server, err := bench.Start(ctx, bench.Command{
			Argv:    f.cores.OnServerCore(f.server, "serve", "--config", config, "--data", r.data, "--listen", address),
			Env:     []string{f.cores.ServerEnv()},
			Address: address,
			Log:     filepath.Join(dir, fmt.Sprintf("log-%d", i)),
		})
		if err != nil {
			return err
		}
		r.servers = append(r.servers, server)
	}
	if r.postgres != nil { // which tells of itself
		return nil
	}
	token, err := os.ReadFile(filepath.Join(r.data, "admin.token"))
	r.adminToken = strings.TrimSpace(string(token))
	return err
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
