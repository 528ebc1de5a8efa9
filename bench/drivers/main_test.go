package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The test program is also the child process that measures one driver.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-one" {
		if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// every runs a test with each driver and layout on a new database.
func every(t *testing.T, test func(t *testing.T, e engine, path string)) {
	drivers, err := chooseDrivers("zombiezen,modernc,mattn,ncruces")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range drivers {
		for _, l := range layouts {
			t.Run(d.name+"/"+l.Name, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "test.db")
				e, err := create(d, path, settings{1024, 500, 4000, l})
				if err != nil {
					t.Fatal(err)
				}
				defer e.close()
				test(t, e, path)
			})
		}
	}
}

func TestSettingsAreInForce(t *testing.T) {
	every(t, func(t *testing.T, e engine, _ string) {
		for name, want := range map[string]string{
			"synchronous": "2", "journal_mode": "wal", "page_size": "1024", "wal_autocheckpoint": "500", "cache_size": "-4000",
		} {
			if got, err := e.scalar("PRAGMA " + name); err != nil || got != want {
				t.Errorf("%s is %q, %v, want %q", name, got, err, want)
			}
		}
	})
}

func TestRotateIsACompareAndSet(t *testing.T) {
	every(t, func(t *testing.T, e engine, _ string) {
		id, now := []byte("0123456789abcdef"), int64(1_700_000_000_000)
		if err := e.insert(id, grant{client: "c", subject: "s", scope: "read", keyID: 1, rotatedAt: now}); err != nil {
			t.Fatal(err)
		}
		steps := []struct {
			name       string
			id         []byte
			generation int64
			now        int64
			want       bool
		}{
			{"first", id, 1, now, true},
			{"the same again", id, 1, now, false},
			{"the next", id, 2, now + 1, true},
			{"a future one", id, 9, now, false},
			{"another row", []byte("fedcba9876543210"), 1, now, false},
			{"after its end", id, 3, now + 15*day, false},
		}
		for _, step := range steps {
			if err := e.begin(); err != nil {
				t.Fatal(err)
			}
			got, err := e.rotate(step.id, step.generation, step.now)
			if err != nil || got != step.want {
				t.Errorf("%s: %v, %v", step.name, got, err)
			}
			if err := e.commit(); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := e.scalar("SELECT generation FROM grants"); err != nil || got != "3" {
			t.Errorf("generation %q, %v", got, err)
		}
	})
}

// Rows are as large as the comparison says, whatever the layout.
func TestRowsAreOfTheUsualSize(t *testing.T) {
	drivers, err := chooseDrivers("zombiezen")
	if err != nil {
		t.Fatal(err)
	}
	for pageSize, limits := range map[int][2]int64{1024: {250, 330}, 4096: {250, 330}} {
		path := filepath.Join(t.TempDir(), "test.db")
		db, err := newDatabase(drivers[0], job{Path: path, Settings: settings{pageSize, 100, 2000, layouts[0]}, Rows: 5000})
		if err != nil {
			t.Fatal(err)
		}
		db.engine.close()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if size := info.Size() / 5000; size < limits[0] || size > limits[1] {
			t.Errorf("%d bytes per row with pages of %d", size, pageSize)
		}
	}
}

func TestMeasureCountsWhatItDid(t *testing.T) {
	drivers, err := chooseDrivers("zombiezen")
	if err != nil {
		t.Fatal(err)
	}
	db, err := newDatabase(drivers[0], job{Path: filepath.Join(t.TempDir(), "test.db"), Settings: settings{1024, 100, 2000, layouts[0]}, Rows: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer db.engine.close()
	before := total(db.generations)
	got, err := measure(db, 16, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	updates := total(db.generations) - before
	if got.Rate <= 0 || got.Rate > float64(updates)/0.05 || updates%16 != 0 || got.Worst <= 0 {
		t.Errorf("%+v after %d updates", got, updates)
	}
	if sum, err := db.engine.scalar("SELECT sum(generation) FROM grants"); err != nil || sum != fmt.Sprint(total(db.generations)) {
		t.Errorf("the rows have %s generations, %v, want %d", sum, err, total(db.generations))
	}
	db.generations[0]--
	db.ids, db.generations = db.ids[:1], db.generations[:1]
	if _, err := measure(db, 1, time.Millisecond); err == nil {
		t.Error("a row at another generation is no error")
	}
}

func total(generations []int64) (sum int64) {
	for _, g := range generations {
		sum += g
	}
	return sum
}

func TestRunWritesOneLinePerCell(t *testing.T) {
	out, file := &bytes.Buffer{}, filepath.Join(t.TempDir(), "table.md")
	err := run([]string{
		"-rows", "500", "-seconds", "0.02", "-repeat", "2", "-pages", "1024", "-checkpoints", "1024", "-batches", "1,16",
		"-dir", t.TempDir(), "-markdown", file,
	}, out, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"zombiezen", "modernc", "mattn", "ncruces"} {
		if n := strings.Count(out.String(), "| "+name+" | 3."); n != 4 { // two layouts, two batches
			t.Errorf("%d lines for %s", n, name)
		}
	}
	if written, err := os.ReadFile(file); err != nil || !bytes.Equal(written, out.Bytes()) {
		t.Errorf("%v: printed and written differ", err)
	}
}

func TestRunRefuses(t *testing.T) {
	for name, args := range map[string][]string{
		"driver":    {"-drivers", "zombiezen,oracle"},
		"pages":     {"-pages", "small"},
		"batches":   {"-batches", "0"},
		"rows":      {"-rows", "0"},
		"repeat":    {"-repeat", "0"},
		"flag":      {"-fast"},
		"directory": {"-dir", "/nowhere"},
		"page size": {"-dir", t.TempDir(), "-drivers", "zombiezen", "-pages", "1000", "-rows", "10", "-seconds", "0.01"},
		"child":     {"-one", "{"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := run(args, io.Discard, io.Discard); err == nil {
				t.Error("no error")
			}
		})
	}
}
