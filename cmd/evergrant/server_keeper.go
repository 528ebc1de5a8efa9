package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
	"github.com/prometheus/client_golang/prometheus"
)

// spoolName is the directory, in the data directory, of answers of providers
// that the database did not take.
const spoolName = "spool"

func (c *config) spoolDir() string {
	if c.Keeper.SpoolDir != "" {
		return c.Keeper.SpoolDir
	}
	return filepath.Join(c.DataDir, spoolName)
}

// openKeeper makes the keeper, its providers and the worker that tells webhooks.
func (s *server) openKeeper(c *config, p program, keys *secret.Ring, metrics prometheus.Registerer) error {
	for i := range c.Keeper.Providers {
		registration := c.registration(&c.Keeper.Providers[i], s.url)
		registration.Now = p.now
		made, err := provider.New(registration)
		if err != nil {
			return &failure{what: "provider " + registration.Name + ": " + err.Error(), next: "mend keeper.providers of the configuration"}
		}
		s.providers = append(s.providers, made)
	}
	spool := c.spoolDir()
	if err := os.MkdirAll(spool, 0o700); err != nil {
		return &failure{what: "spool directory: " + err.Error(), next: "name a directory that can be written with keeper.spool_dir"}
	}
	var err error
	s.keeper, err = keeper.New(keeper.Config{
		Store: s.store.connections(), Keys: keys, Providers: s.providers, RefreshAhead: time.Duration(c.Keeper.RefreshAhead),
		Spool: spool, Metrics: metrics, Log: s.log, Now: p.now,
	})
	return err
}

// openHooks makes the worker that tells webhooks of events.
func (s *server) openHooks(c *config, p program) (err error) {
	config := hook.Config{Store: s.store, Log: s.log, Now: p.now}
	for _, h := range c.Keeper.Webhooks {
		config.Hooks = append(config.Hooks, hook.Hook{Name: h.Name, URL: h.URL, Secret: h.Secret, Events: h.Events})
	}
	s.hooks, err = hook.New(config)
	return err
}

// kept says what the keeper keeps.
func (s *server) kept(ctx context.Context) (string, error) {
	counts, err := s.store.connections().Counts(ctx)
	if err != nil {
		return "", err
	}
	total, states := 0, map[string]int{}
	for _, of := range counts {
		for state, n := range of {
			total += n
			states[string(state)] += n
		}
	}
	text := plural(total, "connection") + " at " + plural(len(s.providers), "provider")
	delete(states, string(keeper.Active))
	if others := connectionCounts(states); others != "" {
		text += " (" + others + ")"
	}
	known := map[string]bool{}
	for _, p := range s.providers {
		known[p.Name()] = true
	}
	var orphaned []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if !known[name] {
			orphaned = append(orphaned, name)
		}
	}
	if len(orphaned) > 0 {
		text += fmt.Sprintf("; not configured: %s", strings.Join(orphaned, ", "))
	}
	return text, nil
}
