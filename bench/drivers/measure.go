package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"time"
)

// database is one open file with the state that a client of it would keep.
type database struct {
	path        string
	settings    settings
	engine      engine
	ids         [][]byte
	generations []int64
	random      *rand.Rand
	now         int64 // milliseconds since 1970, of the benchmark's start
}

// sample is one measured interval.
type sample struct {
	Rate    float64       // updates per second
	CPU     time.Duration // process CPU per update
	Worst   time.Duration // longest commit, checkpoints included
	Written float64       // bytes handed to write calls per update, 0 where /proc is absent
}

// fill inserts the rows in batches and checkpoints them.
func fill(db *database, rows int) error {
	for start := 0; start < rows; start += 1000 {
		if err := db.engine.begin(); err != nil {
			return err
		}
		for range min(1000, rows-start) {
			id := make([]byte, 16)
			for i := range id {
				id[i] = byte(db.random.Uint32())
			}
			db.ids = append(db.ids, id)
			db.generations = append(db.generations, 1)
			if err := db.engine.insert(id, exampleGrant(db.random, db.now)); err != nil {
				return err
			}
		}
		if err := db.engine.commit(); err != nil {
			return err
		}
	}
	return checkpoint(db)
}

func exampleGrant(r *rand.Rand, now int64) grant {
	return grant{
		client:    fmt.Sprintf("client-%08x", r.Uint32()),
		subject:   fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", r.Uint32(), r.Uint32N(1<<16), r.Uint32N(1<<12), r.Uint32N(1<<12), r.Uint64N(1<<48)),
		scope:     "openid profile email offline_access accounts:read transactions:read payments:write statements:read tickets:write contacts:read messages:read",
		keyID:     3,
		rotatedAt: now,
	}
}

// checkpoint moves the whole WAL into the database, so that the next write
// starts at the WAL's beginning and the file keeps its size.
func checkpoint(db *database) error {
	busy, err := db.engine.scalar("PRAGMA wal_checkpoint(RESTART)")
	if err == nil && busy != "0" {
		err = fmt.Errorf("checkpoint was blocked: %s", busy)
	}
	return err
}

// warm updates rows until the WAL file has reached the size at which it is
// checkpointed: a WAL that still grows pays for file metadata at each flush.
func warm(db *database) error {
	target := int64(db.settings.Autocheckpoint) * int64(db.settings.PageSize)
	for range 10_000 {
		if info, err := os.Stat(db.path + "-wal"); err == nil && info.Size() >= target {
			break
		}
		if err := transaction(db, 256); err != nil {
			return err
		}
	}
	return checkpoint(db)
}

// transaction rotates batch random rows in one durable commit.
func transaction(db *database, batch int) error {
	if err := db.engine.begin(); err != nil {
		return err
	}
	for range batch {
		i := db.random.IntN(len(db.ids))
		changed, err := db.engine.rotate(db.ids[i], db.generations[i], db.now)
		if err != nil {
			return err
		}
		if !changed {
			return fmt.Errorf("row %d was not at generation %d", i, db.generations[i])
		}
		db.generations[i]++
	}
	return db.engine.commit()
}

// measure runs transactions of batch updates for the given time. It starts on
// a checkpointed WAL and ends with a checkpoint inside the measured time, so
// that rare checkpoints are paid for in full.
func measure(db *database, batch int, length time.Duration) (sample, error) {
	if err := checkpoint(db); err != nil {
		return sample{}, err
	}
	var worst time.Duration
	updates, cpu, written, start := 0, processCPU(), bytesWritten(), time.Now()
	for time.Since(start) < length {
		began := time.Now()
		if err := transaction(db, batch); err != nil {
			return sample{}, err
		}
		worst = max(worst, time.Since(began))
		updates += batch
	}
	if err := checkpoint(db); err != nil {
		return sample{}, err
	}
	took := time.Since(start)
	return sample{
		Rate:    float64(updates) / took.Seconds(),
		CPU:     (processCPU() - cpu) / time.Duration(updates),
		Worst:   worst,
		Written: float64(bytesWritten()-written) / float64(updates),
	}, nil
}

func processCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// bytesWritten reads wchar of /proc/self/io.
func bytesWritten() int64 {
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0
	}
	var rchar, wchar int64
	if _, err := fmt.Sscanf(string(text), "rchar: %d\nwchar: %d", &rchar, &wchar); err != nil {
		return 0
	}
	return wchar
}

// flushRate answers how many 4 KiB overwrites of a preallocated file the disk
// makes durable in a second: the ceiling of single commits.
func flushRate(dir string, length time.Duration) (float64, error) {
	file, err := os.CreateTemp(dir, "flush")
	if err != nil {
		return 0, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	page := slices.Repeat([]byte{'x'}, 4096)
	for range 256 {
		if _, err := file.Write(page); err != nil {
			return 0, err
		}
	}
	if err := file.Sync(); err != nil {
		return 0, err
	}
	count, start := 0, time.Now()
	for ; time.Since(start) < length; count++ {
		if _, err := file.WriteAt(page, int64(count%256)*4096); err != nil {
			return 0, err
		}
		if err := syscall.Fdatasync(int(file.Fd())); err != nil {
			return 0, err
		}
	}
	return float64(count) / time.Since(start).Seconds(), nil
}
