package postgres

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/store/storetest"
	"github.com/jackc/pgx/v5"
)

// fillGrants stores a number of usual grants in one statement.
func fillGrants(t testing.TB, s session, count int) {
	t.Helper()
	g := usualGrant()
	execute(t, s, `INSERT INTO grants (id, client_id, subject, scope, generation, key_id, created_at, rotated_at, expires_at, ends_at,
		access_expires_at, revoked_at, revoked_cause, retries, purge_hour)
		SELECT gen_random_uuid(), $1, gen_random_uuid()::text, $2, 1, 1, $3::bigint, $3, $4, 0, $5::bigint, 0, '', 0, $4::bigint / 3600000 FROM generate_series(1, $6::integer)`,
		g.ClientID, g.Scope.String(), g.CreatedAt.UnixMilli(), g.ExpiresAt.UnixMilli(), g.AccessExpiresAt.UnixMilli(), count)
}

// BenchmarkRotate measures durable refreshes of random grants, each goroutine
// waiting for its own before it asks for the next.
func BenchmarkRotate(b *testing.B) {
	url := pgtest.Database(b)
	db := opened(b, url)
	conn := connected(b, url)
	fillGrants(b, conn, 100_000)
	execute(b, conn, "VACUUM ANALYZE grants")
	rows, err := conn.Query(b.Context(), "SELECT "+grantColumns+" FROM grants ORDER BY id") // which is in no order on disk
	must(b, err)
	grants, err := pgx.CollectRows(rows, scanGrant)
	must(b, err)
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			benchmarkRotate(b, db, grants, goroutines)
		})
	}
}

func benchmarkRotate(b *testing.B, db *DB, grants []issuer.Grant, goroutines int) {
	f := watched(db)
	var next atomic.Int64
	var done sync.WaitGroup
	latencies := make([][]time.Duration, goroutines)
	mine := len(grants) / goroutines
	b.ResetTimer()
	for g := range goroutines {
		done.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), 1))
			for next.Add(1) <= int64(b.N) {
				grant := &grants[g*mine+random.IntN(mine)]
				began := time.Now()
				*grant = stepped(b, db, *grant)
				latencies[g] = append(latencies[g], time.Since(began))
			}
		})
	}
	done.Wait()
	b.StopTimer()
	all := slices.Concat(latencies...)
	slices.Sort(all)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "refreshes/s")
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(float64(b.N)/float64(f.count()), "refreshes/batch")
}

// BenchmarkImport imports 1,000 clients, 100,000 users and 500,000 tokens, and then
// the same again.
func BenchmarkImport(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		db := opened(b, pgtest.Database(b))
		batches := slices.Collect(storetest.Batches(1_000, 100_000, 500_000, 1_000))
		for _, run := range []string{"first-s", "second-s"} {
			b.StartTimer()
			began, longest := time.Now(), time.Duration(0)
			for _, batch := range batches {
				one := time.Now()
				_, err := db.Import(b.Context(), batch)
				must(b, err)
				longest = max(longest, time.Since(one))
			}
			b.ReportMetric(time.Since(began).Seconds(), run)
			b.ReportMetric(float64(longest.Milliseconds()), "longest-ms-"+run)
			b.StopTimer()
		}
		must(b, db.Close())
		b.StartTimer()
	}
}
