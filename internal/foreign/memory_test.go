package foreign

import (
	"context"
	"runtime"
	"testing"
)

// TestMemory holds that a source is read with a heap that does not grow with its
// rows.
func TestMemory(t *testing.T) {
	const tokens = 200_000
	for _, dialect := range dialects {
		t.Run(dialect, func(t *testing.T) {
			address, db := filled(t, dialect, "bshaffer", 1000, 100, tokens)
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			s := opened(t, address, Options{})
			var before, during runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			read, most := 0, uint64(0)
			for _, err := range s.Tokens(context.Background()) {
				if err != nil {
					t.Fatal(err)
				}
				if read++; read%20_000 == 0 {
					runtime.GC()
					runtime.ReadMemStats(&during)
					most = max(most, during.HeapAlloc)
				}
			}
			if read != tokens {
				t.Errorf("%d tokens", read)
			}
			const slack = 4 << 20 // their texts alone are 8 MB
			if most > before.HeapAlloc+slack {
				t.Errorf("a heap of %d kB became %d kB", before.HeapAlloc>>10, most>>10)
			}
			t.Logf("a heap of %d kB became at most %d kB", before.HeapAlloc>>10, most>>10)
		})
	}
}
