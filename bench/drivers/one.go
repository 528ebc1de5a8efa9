package main

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"time"
)

// job is what a child process measures: one driver at one setting, once for
// each batch size.
type job struct {
	Driver   string
	Path     string
	Settings settings
	Rows     int
	Batches  []int
	Length   time.Duration
}

// result is a child's answer, with one sample for each batch size.
type result struct {
	Version  string // of SQLite
	RowBytes int64  // size of the database divided by its rows
	Samples  []sample
}

// startOne runs the job in a process of its own.
func startOne(j job, progress io.Writer) (result, error) {
	text, err := json.Marshal(j)
	if err != nil {
		return result{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return result{}, err
	}
	limit := 2*time.Minute + 2*time.Duration(len(j.Batches))*j.Length
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	child := exec.CommandContext(ctx, self, "-one", string(text))
	child.Stderr = progress
	out, err := child.Output()
	if err != nil {
		return result{}, err
	}
	var r result
	return r, json.Unmarshal(out, &r)
}

// measureOne is the child's side of startOne.
func measureOne(text string, out io.Writer) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	d, err := chooseDrivers(j.Driver)
	if err != nil {
		return err
	}
	defer os.Remove(j.Path)
	db, err := newDatabase(d[0], j)
	if err != nil {
		return err
	}
	defer db.engine.close()
	var r result
	if r.Version, err = db.engine.scalar("SELECT sqlite_version()"); err != nil {
		return err
	}
	for _, batch := range j.Batches {
		s, err := measure(db, batch, j.Length)
		if err != nil {
			return err
		}
		r.Samples = append(r.Samples, s)
	}
	info, err := os.Stat(j.Path)
	if err != nil {
		return err
	}
	r.RowBytes = info.Size() / int64(j.Rows)
	return json.NewEncoder(out).Encode(r)
}

func newDatabase(d driver, j job) (*database, error) {
	e, err := create(d, j.Path, j.Settings)
	if err != nil {
		return nil, err
	}
	db := &database{
		path: j.Path, settings: j.Settings, engine: e,
		random: rand.New(rand.NewPCG(1, 2)), now: time.Now().UnixMilli(),
	}
	err = fill(db, j.Rows)
	if err == nil {
		err = warm(db)
	}
	if err != nil {
		e.close()
		return nil, err
	}
	return db, nil
}
