package sqlite

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/store/storetest"
)

// BenchmarkRotate measures durable refreshes of random grants, each goroutine
// waiting for its own before it asks for the next.
func BenchmarkRotate(b *testing.B) {
	db, err := Open(b.Context(), filepath.Join(b.TempDir(), "bench.db"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	grants := fill(b, db, 20_000)
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			benchmarkRotate(b, db, grants, goroutines)
		})
	}
}

// fill creates grants, concurrently so that they share commits.
func fill(b *testing.B, db *DB, count int) []issuer.Grant {
	b.Helper()
	start := time.UnixMilli(1_700_000_000_000).UTC()
	grants := make([]issuer.Grant, count)
	var filling sync.WaitGroup
	for part := range slices.Chunk(grants, count/64+1) {
		filling.Go(func() {
			for i := range part {
				part[i] = usualGrant(start)
				if err := db.CreateGrant(b.Context(), part[i], issuer.Event{At: start, Type: issuer.EventGrantCreated, Grant: part[i].ID}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	filling.Wait()
	return grants
}

func benchmarkRotate(b *testing.B, db *DB, grants []issuer.Grant, goroutines int) {
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
				rotated, ok, err := db.Rotate(b.Context(), issuer.Rotation{
					ID: grant.ID, ClientID: grant.ClientID, From: grant.Generation, To: grant.Generation + 1, KeyID: grant.KeyID,
					At: grant.RotatedAt.Add(time.Second), ExpiresAt: grant.ExpiresAt.Add(time.Second),
					AccessExpiresAt: grant.AccessExpiresAt.Add(time.Second),
				})
				if err != nil || !ok {
					b.Errorf("refresh of %+v: %v, %v", grant, ok, err)
					return
				}
				latencies[g] = append(latencies[g], time.Since(began))
				*grant = rotated
			}
		})
	}
	done.Wait()
	b.StopTimer()
	all := slices.Concat(latencies...)
	slices.Sort(all)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "refreshes/s")
	for name, q := range map[string]float64{"p50-ms": 0.5, "p99-ms": 0.99, "p99.9-ms": 0.999, "max-ms": 1} {
		b.ReportMetric(all[int(q*float64(len(all)-1))].Seconds()*1e3, name)
	}
}

// BenchmarkRead measures the two reads of an introspection.
func BenchmarkRead(b *testing.B) {
	db, err := Open(b.Context(), filepath.Join(b.TempDir(), "bench.db"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	grants := fill(b, db, 20_000)
	random := rand.New(rand.NewPCG(1, 1))
	b.Run("Grant", func(b *testing.B) {
		for b.Loop() {
			if _, err := db.Grant(b.Context(), grants[random.IntN(len(grants))].ID); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("AccessTokenRevoked", func(b *testing.B) {
		for b.Loop() {
			if revoked, err := db.AccessTokenRevoked(b.Context(), "b2f1c0e86a5d4d0f"); err != nil || revoked {
				b.Fatal(revoked, err)
			}
		}
	})
}

// usualGrant is one as a server makes them: generated ids, a handful of scopes.
func usualGrant(at time.Time) issuer.Grant {
	return issuer.Grant{
		ID: issuer.NewGrantID(), ClientID: "mobile-banking-app", Subject: "7c0f6a9e-4a57-4d3f-9d67-0b6f4a8f2c11",
		Scope:      oauth.Scope{"openid", "profile", "offline_access", "accounts:read", "transactions:read"},
		Generation: 1, KeyID: 1, CreatedAt: at, RotatedAt: at,
		ExpiresAt: at.Add(14 * 24 * time.Hour), AccessExpiresAt: at.Add(time.Hour),
	}
}

// BenchmarkImport imports 1,000 clients, 100,000 users and 500,000 tokens, and then
// the same again.
func BenchmarkImport(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		db := open(b, tempPath(b), Options{})
		batches := slices.Collect(storetest.Batches(1_000, 100_000, 500_000, 1_000))
		for _, run := range []string{"first-s", "second-s"} {
			b.StartTimer()
			began, longest := time.Now(), time.Duration(0)
			for _, batch := range batches {
				one := time.Now()
				if _, err := db.Import(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
				longest = max(longest, time.Since(one))
			}
			b.ReportMetric(time.Since(began).Seconds(), run)
			b.ReportMetric(float64(longest.Milliseconds()), "longest-ms-"+run)
			b.StopTimer()
		}
		check(b, db.Close())
		b.StartTimer()
	}
}
