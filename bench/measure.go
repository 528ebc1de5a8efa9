package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/evergrant/evergrant/internal/bench"
)

// measure makes one measurement of a cell, on a fresh server.
func (f *field) measure(ctx context.Context, t target, cell bench.Cell) (sample bench.Sample, err error) {
	// Warming up and measuring may each wait for answers as long as a load is
	// patient; the rest is for starting and seeding.
	length := seconds(f.options.warmup) + seconds(f.options.seconds)
	ctx, cancel := context.WithTimeout(ctx, length+5*time.Minute)
	defer cancel()
	dir, err := makeDir(f.dir, "server-")
	if err != nil {
		return sample, err
	}
	defer os.RemoveAll(dir)
	server, err := f.start(ctx, t, dir)
	if err != nil {
		return sample, err
	}
	defer server.stop()
	load, err := f.load(ctx, t, cell, server)
	if err != nil {
		return sample, err
	}
	generator, err := bench.Dial(ctx, load)
	if err != nil {
		return sample, err
	}
	defer generator.Close()
	warm, err := generator.Run(ctx, seconds(f.options.warmup))
	if err != nil {
		return sample, err
	}
	before, err := look(ctx, server)
	if err != nil {
		return sample, err
	}
	result, err := generator.Run(ctx, seconds(f.options.seconds))
	if err != nil {
		return sample, err
	}
	after, err := look(ctx, server)
	if err != nil {
		return sample, err
	}
	sample = after.since(before, result)
	if sample.Failure == "" { // a warm-up that failed leaves nothing to trust
		sample.Failure = warm.Failure
	}
	sample.Errors += warm.Errors
	return sample, nil
}

// load gets the tokens that the virtual clients begin with.
func (f *field) load(ctx context.Context, t target, cell bench.Cell, server *running) (bench.Load, error) {
	address := server.servers[0].Address
	load := bench.Load{Mode: cell.Mode, Clients: cell.Clients, ClientID: t.clientID}
	for _, s := range server.servers {
		load.Addresses = append(load.Addresses, s.Address)
	}
	var seeds []bench.Tokens
	var err error
	switch cell.Mode {
	case bench.Echo:
		seeds = make([]bench.Tokens, cell.Clients)
		for i := range seeds {
			seeds[i].Refresh = fmt.Sprintf("echo-%059d", i) // as long as a refresh token
		}
	case bench.ClientCredentials:
		load.Authorization = f.credentials.basic()
	case bench.Refresh, bench.Introspect:
		grants := cell.Clients
		if t.postgres {
			grants *= max(1, f.options.grants/cell.Clients)
		}
		if t.Peer == hydra {
			load.Path = "/oauth2/token"
			seeds, err = f.seedHydra(ctx, server, t.clientID, grants)
		} else {
			seeds, err = bench.Seed(ctx, address, t.clientID, username, f.credentials.password, grants)
		}
	}
	if err != nil {
		return load, err
	}
	for _, seed := range seeds {
		if cell.Mode == bench.Introspect {
			load.Tokens = append(load.Tokens, seed.Access)
		} else {
			load.Tokens = append(load.Tokens, seed.Refresh)
		}
	}
	if cell.Mode == bench.Introspect {
		load.Authorization, err = f.introspector(ctx, t, address)
	}
	return load, err
}

// introspector is the Authorization header of whoever asks about tokens.
func (f *field) introspector(ctx context.Context, t target, address string) (string, error) {
	if !t.bearer {
		return f.credentials.basic(), nil
	}
	tokens, err := bench.RequestToken(ctx, "http://"+address+"/oauth/token", f.credentials.basic(), url.Values{"grant_type": {"client_credentials"}, "scope": {"read"}})
	return "Bearer " + tokens.Access, err
}

// snapshot is how things stand between two runs.
type snapshot struct {
	server, generator bench.Usage
	busy              time.Duration // of the whole machine
	stats             *bench.Stats  // nil where the server does not tell
	wal               int64         // bytes
}

// look takes a snapshot. A system without /proc tells no usage, which is left
// at zero and shown as not known.
func look(ctx context.Context, server *running) (snapshot, error) {
	var s snapshot
	s.server = server.usage()
	s.generator, _ = bench.ReadUsage(os.Getpid())
	s.busy, _ = bench.ReadBusy()
	var stats bench.Stats
	var err error
	var log string
	switch {
	case server.postgres != nil:
		log = server.postgres.Log
		stats, err = server.postgres.Stats(ctx, databaseName)
	case server.adminToken != "":
		log = filepath.Join(server.data, "*-wal")
		stats, err = bench.ReadStats(ctx, server.servers[0].Address, server.adminToken)
	default:
		return s, nil
	}
	if err != nil {
		return s, err
	}
	s.stats = &stats
	s.wal, err = sizeOf(log)
	return s, err
}

// since joins what changed between two snapshots with what the load saw.
func (s snapshot) since(before snapshot, result bench.Result) bench.Sample {
	server, generator := s.server.CPU-before.server.CPU, s.generator.CPU-before.generator.CPU
	perCore := float64(max(result.Elapsed, 1))
	sample := bench.Sample{
		Result:       result,
		CPU:          server,
		MemoryBefore: before.server.Memory,
		Memory:       s.server.Memory,
		Busy:         float64(generator) / perCore,
		Others:       max(0, float64(s.busy-before.busy-server-generator)/perCore),
	}
	if s.stats != nil && before.stats != nil {
		sample.Growth = &bench.Growth{
			Bytes: s.stats.Bytes - before.stats.Bytes,
			Rows:  s.stats.TotalRows() - before.stats.TotalRows(),
			WAL:   s.wal,
		}
	}
	return sample
}

// sizeOf adds the sizes of the files that a pattern names.
func sizeOf(pattern string) (int64, error) {
	names, err := filepath.Glob(pattern)
	if err != nil {
		return 0, err
	}
	total := int64(0)
	for _, name := range names {
		info, err := os.Stat(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // a log may end between the two calls
		}
		if err != nil {
			return 0, err
		}
		total += info.Size()
	}
	return total, nil
}
