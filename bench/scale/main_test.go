package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/bench"
	"github.com/evergrant/evergrant/issuer"
)

// passable is a temporary directory that PostgreSQL's user can pass through.
func passable(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o711), os.Chmod(filepath.Dir(dir), 0o711)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// started is a run with a server and both databases, before any measurement.
func started(t *testing.T, args ...string) *scale {
	t.Helper()
	o, err := parse(append([]string{"-dir", passable(t), "-buffers", "64MB", "-log", "1GB"}, args...), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	server, err := bench.StartPostgres(t.Context(), o.dir, o.settings(), bench.Cores{}.OnServerCore)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	s := &scale{options: o, server: server, progress: io.Discard}
	t.Cleanup(s.close)
	if err := s.fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func number(t *testing.T, s *scale, d *database, sql string) int64 {
	t.Helper()
	n, err := s.server.Number(t.Context(), d.name, sql)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Fifty times as many grants: refreshes are of the same kind and weigh the
// same, counted in what the database did for each.
func TestRefreshesDoNotGrowWithGrants(t *testing.T) {
	s := started(t, "-small", "1000", "-large", "50000", "-hot", "1000", "-length", "200ms", "-settle", "50ms", "-rounds", "1")
	if err := s.measure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.check(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*database{s.small, s.large} {
		if n := number(t, s, d, "SELECT count(*) FROM grants"); int(n) != len(d.generations) {
			t.Errorf("%d rows for %d grants", n, len(d.generations))
		}
	}
	log := map[string]float64{}
	for _, l := range s.lines {
		for _, m := range l.samples {
			if m.Requests == 0 || m.P99 <= 0 || m.log <= 0 {
				t.Errorf("%s database, %s: %+v", l.database.name, l.name, m)
			}
		}
		log[l.database.name+" "+l.name] = l.over(func(m sample) float64 { return m.per(float64(m.log)) }).Median
	}
	for _, name := range []string{"large any of all", "large any of 1,000"} {
		if small, large := log["small any of all"], log[name]; large > 2*small {
			t.Errorf("%s: %.0f bytes of log for each refresh, %.0f in the small database: %v", name, large, small, log)
		}
	}
}

func TestRunWritesTheReport(t *testing.T) {
	out, dir := &bytes.Buffer{}, passable(t)
	args := strings.Fields("-small 100 -large 1000 -hot 100 -length 50ms -settle 20ms -rounds 1 -goroutines 4 -buffers 64MB -log 1GB -dir " + dir)
	if err := run(t.Context(), bench.Cores{Count: 2}, args, out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"PostgreSQL 1", "**not pinned**", "|    100 | any of all  ", "|  1,000 | any of 100  ", "| after a checkpoint", "bytes per grant"} {
		if !strings.Contains(strings.ReplaceAll(out.String(), "any of all, after", "| after"), want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("files were left behind: %v, %v", left, err)
	}
}

func TestReport(t *testing.T) {
	at := func(rate int, p99 time.Duration) sample {
		return sample{Result: bench.Result{Requests: rate, Elapsed: time.Second, P50: p99 / 2, P99: p99}, log: int64(rate) * 200, images: int64(rate) / 2, cpu: time.Second}
	}
	small := &database{name: "small", generations: make([]uint32, 10), sizes: sizes{table: 2000, key: 400, indexes: 1000}, took: time.Second}
	base := &line{name: "any", database: small, samples: []sample{at(1000, 4e6), at(2000, 2e6)}}
	other := &line{name: "others", database: small, against: base, samples: []sample{at(1000, 8e6), at(1000, 2e6)}}
	other.samples[1].busy, other.samples[0].others = 0.95, 1.5
	s := &scale{options: options{rounds: 2}, cores: bench.Cores{Pinned: true, Count: 2}, small: small, large: small, lines: []*line{base, other}}
	text := regexp.MustCompile(` +`).ReplaceAllString(s.report(), " ")
	for _, want := range []string{
		"| 10 | any | 1,500 [1,000–2,000] | | 1.50 | 3.00 [2.00–4.00] | | 750.0 | 200 | 0.50 |",
		"| 10 | others | 1,000 | 0.75 | 2.50 | 5.00 [2.00–8.00] | 1.50 | 1000.0 | 200 | 0.50 |",
		"| 10 | 0 | 200 | 40 | 60 | 1s |",
		"small database, others: the goroutines' core was busy for 95 % of the time.",
		"**The machine was not quiet**: small database, others: other work used up to 1.5 cores.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

// Grants that SQL made are those that the program asks for, as the store reads
// them. One that somebody else refreshed, and a sum that does not come out, are
// told and not measured.
func TestGrantsAreTheStoresOwn(t *testing.T) {
	s := started(t, "-small", "64", "-large", "64", "-hot", "64", "-length", "20ms", "-settle", "0s", "-rounds", "1")
	for _, n := range []int{0, 9, 63} {
		grant, err := s.small.store.Grant(t.Context(), grantID(n))
		if err != nil {
			t.Fatal(err)
		}
		if grant.ClientID != clientID(n) || grant.Subject != "user-"+strconv.Itoa(n) || grant.Scope.String() != "offline read" ||
			grant.Generation != 1 || !grant.Live(grant.CreatedAt.AddDate(0, 0, 89)) || grant.Live(grant.CreatedAt.AddDate(0, 0, 91)) {
			t.Errorf("%+v", grant)
		}
	}
	if _, err := s.small.store.Grant(t.Context(), grantID(64)); !errors.Is(err, issuer.ErrNotFound) {
		t.Errorf("a grant too many: %v", err)
	}
	if err := s.check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.server.Exec(t.Context(), "small", fmt.Sprintf("UPDATE grants SET generation = 5 WHERE id = '%x'", [16]byte(grantID(7)))); err != nil {
		t.Fatal(err)
	}
	if err := s.check(t.Context()); err == nil || !strings.Contains(err.Error(), "the generations of the small database add up to 68, and those of the answers to 64") {
		t.Errorf("error %v", err)
	}
	if err := s.measure(t.Context()); err == nil || !strings.Contains(err.Error(), "grant 7 did not go from generation 1 to the next: it is at 5") {
		t.Errorf("error %v", err)
	}
}

// Every grant belongs to one goroutine and can be chosen, and those that are
// refreshed often lie over the whole table.
func TestPick(t *testing.T) {
	d := &database{generations: make([]uint32, 1003)}
	for _, among := range []int{1003, 64, 70} {
		l := &line{database: d, among: among}
		random, owner := rand.New(rand.NewPCG(1, 2)), map[int]int{}
		for range 100_000 {
			goroutine := random.IntN(64)
			n := l.pick(random, goroutine, 64)
			if was, taken := owner[n]; taken && was != goroutine {
				t.Fatalf("grant %d belongs to %d and to %d", n, was, goroutine)
			}
			owner[n] = goroutine
		}
		chosen := slices.Sorted(func(yield func(int) bool) {
			for n := range owner {
				if !yield(n) {
					return
				}
			}
		})
		if len(chosen) != among || chosen[0] != 0 || chosen[among-1] >= 1003 || chosen[among-1] < 1003*9/10 {
			t.Errorf("of %d grants %d were chosen, %d to %d", among, len(chosen), chosen[0], chosen[len(chosen)-1])
		}
	}
}

func TestParse(t *testing.T) {
	o, err := parse(nil, io.Discard)
	want := options{10_000, 10_000_000, 10_000, 10 * time.Second, 90 * time.Second, 5, 64, "8GB", "24GB", os.TempDir()}
	if err != nil || !reflect.DeepEqual(o, want) {
		t.Errorf("%+v, %v", o, err)
	}
	for _, args := range []string{"-large 63", "-hot 63", "-small 63", "-hot 2000 -large 1000", "-rounds 0", "-goroutines 0", "-length 0s", "-settle -1s", "more", "-fast"} {
		if o, err := parse(strings.Fields(args), io.Discard); err == nil {
			t.Errorf("%s is taken as %+v", args, o)
		}
	}
	if _, err := parse([]string{"-h"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}

func TestRunTellsWhatWentWrong(t *testing.T) {
	for args, want := range map[string]string{
		"-dir /nowhere": "/nowhere",
		"-log much":     "max_wal_size",
		"-fast":         "flag provided but not defined",
	} {
		err := run(t.Context(), bench.Cores{Count: 2}, append([]string{"-dir", passable(t)}, strings.Fields(args)...), io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", args, err)
		}
	}
}
