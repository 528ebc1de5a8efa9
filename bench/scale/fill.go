package main

import (
	"context"
	"crypto/md5"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/evergrant/evergrant/internal/bench"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/store/postgres"
)

// scale is a run: one server with two databases.
type scale struct {
	options
	cores        bench.Cores
	server       *bench.Postgres
	version      string
	progress     io.Writer
	small, large *database
	lines        []*line
}

func (s *scale) close() {
	for _, d := range []*database{s.small, s.large} {
		if d != nil && d.store != nil {
			d.store.Close()
		}
	}
}

// database has grants that a rule makes, so that none has to be remembered but
// for its generation.
type database struct {
	name        string
	store       *postgres.DB
	generations []uint32 // of each grant
	sizes       sizes
	took        time.Duration // to fill it
}

// sizes are bytes.
type sizes struct{ table, key, indexes, perPage int64 }

// Every eighth grant is of one client; each is of a subject of its own.
const clients = 8

// grantID is the id of grant n: random to look at, and known to both the
// database that makes it and to whoever asks for it.
func grantID(n int) issuer.GrantID { return md5.Sum([]byte(strconv.Itoa(n))) }

func clientID(n int) string { return "mobile-app-" + strconv.Itoa(n%clients) }

// makeGrants makes the grants $1 to $2-1, as the store would: redeemed at $3, to
// expire after 90 days and to end after a year, in Unix milliseconds.
const makeGrants = `INSERT INTO grants (id, client_id, subject, scope, generation, key_id, created_at, rotated_at,
	expires_at, ends_at, access_expires_at, revoked_at, revoked_cause, retries, purge_hour)
	SELECT md5(n::text)::uuid, 'mobile-app-' || n %% %[4]d, 'user-' || n, 'offline read', 1, 1, %[3]d, %[3]d,
	%[3]d + 90 * 86400000::bigint, %[3]d + 365 * 86400000::bigint, %[3]d + 3600000, 0, '', 0, %[3]d / 3600000 + 90 * 24
	FROM generate_series(%[1]d, %[2]d - 1) AS n`

// chunk is how many grants one statement makes.
const chunk = 100_000

// fill makes both databases.
func (s *scale) fill(ctx context.Context) (err error) {
	if s.small, err = s.database(ctx, "small", s.options.small); err != nil {
		return err
	}
	s.large, err = s.database(ctx, "large", s.options.large)
	return err
}

// database makes one with so many grants. Its tables are the store's own.
func (s *scale) database(ctx context.Context, name string, grants int) (*database, error) {
	if err := s.server.Exec(ctx, "postgres", "CREATE DATABASE "+name); err != nil {
		return nil, err
	}
	d := &database{name: name, generations: make([]uint32, grants)}
	var err error
	if d.store, err = postgres.Open(ctx, s.server.URL(name), postgres.Options{}); err != nil {
		return nil, err
	}
	for n := range d.generations {
		d.generations[n] = 1
	}
	began := time.Now()
	for from := 0; from < grants; from += chunk {
		to := min(from+chunk, grants)
		if err := s.server.Exec(ctx, name, "SET synchronous_commit = off", fmt.Sprintf(makeGrants, from, to, began.UnixMilli(), clients)); err != nil {
			return d, err
		}
		if to%1_000_000 == 0 {
			fmt.Fprintf(s.progress, "%s of %s grants after %v\n", bench.Count(float64(to)), bench.Count(float64(grants)), time.Since(began).Round(time.Second))
		}
	}
	if err := s.server.Exec(ctx, name, "VACUUM (ANALYZE) grants", "CHECKPOINT"); err != nil {
		return d, err
	}
	d.took = time.Since(began)
	d.sizes, err = s.sizes(ctx, d)
	return d, err
}

func (s *scale) sizes(ctx context.Context, d *database) (z sizes, err error) {
	for into, sql := range map[*int64]string{
		&z.table:   "SELECT pg_table_size('grants')",
		&z.key:     "SELECT pg_relation_size('grants_pkey')",
		&z.indexes: "SELECT pg_indexes_size('grants')",
		&z.perPage: "SELECT greatest(1, count(*) * current_setting('block_size')::bigint / pg_relation_size('grants')) FROM grants",
	} {
		if *into, err = s.server.Number(ctx, d.name, sql); err != nil {
			return z, err
		}
	}
	return z, nil
}

// touch changes every page of a table, so that none is changed for the first time
// since the last checkpoint later on.
func (s *scale) touch(ctx context.Context, d *database) error {
	every := max(1, d.sizes.perPage/2)
	return s.server.Exec(ctx, d.name, fmt.Sprintf(
		"UPDATE grants SET retries = retries WHERE id IN (SELECT md5(n::text)::uuid FROM generate_series(0, %d, %d) AS n)", len(d.generations)-1, every))
}

// check compares the grants with the refreshes that were done: none was lost, and
// none done twice. It also learns how many updates were heap-only.
func (s *scale) check(ctx context.Context) error {
	for _, d := range []*database{s.small, s.large} {
		want := int64(0)
		for _, generation := range d.generations {
			want += int64(generation)
		}
		got, err := s.server.Number(ctx, d.name, "SELECT sum(generation)::bigint FROM grants")
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("the generations of the %s database add up to %d, and those of the answers to %d", d.name, got, want)
		}
	}
	return nil
}
