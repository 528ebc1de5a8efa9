package hook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// Bounds of the work.
const (
	pollInterval = time.Second      // how often to look for events, whoever tells of them or not, and for deliveries that are due
	sendTimeout  = 15 * time.Second // of one attempt
	claimFor     = time.Minute      // until somebody else may take a delivery that was begun: longer than an attempt
	planBatch    = 500              // events
	sendBatch    = 16               // deliveries to one webhook at once
)

// delays are how long after each failed attempt the next one is made. After the
// last one a delivery is given up, two days after its event.
var delays = [...]time.Duration{
	10 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

// Config is what a Worker is made of. Store is required.
type Config struct {
	Store     Store
	Hooks     []Hook
	Transport http.RoundTripper // like http.DefaultTransport where nil
	Log       *slog.Logger      // slog.Default() where nil
	Now       func() time.Time  // time.Now where nil
}

// Worker delivers events to webhooks: each at least once, and in no certain
// order. Several, in one process or many, may share a store.
type Worker struct {
	cfg    Config
	client *http.Client
	wake   []chan struct{} // one for each webhook
}

// New makes a Worker. The error says what is wrong with a webhook.
func New(cfg Config) (*Worker, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Transport == nil {
		cfg.Transport = http.DefaultTransport.(*http.Transport).Clone()
	}
	w := &Worker{cfg: cfg, client: &http.Client{
		Transport: cfg.Transport, Timeout: sendTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	names := map[string]bool{}
	for _, h := range cfg.Hooks {
		if err := h.Check(); err != nil {
			return nil, err
		}
		if names[h.Name] {
			return nil, fmt.Errorf("webhook %s: the name is taken by another one", h.Name)
		}
		names[h.Name] = true
		w.wake = append(w.wake, make(chan struct{}, 1))
	}
	return w, nil
}

// Run delivers until the context ends. It returns nil then, and never before. An
// attempt that the end breaks off is made again by whoever runs next.
func (w *Worker) Run(ctx context.Context) error {
	var work sync.WaitGroup
	for i, h := range w.cfg.Hooks {
		work.Go(func() {
			w.repeat(ctx, "webhook "+h.Name, w.wake[i], func() (bool, error) { return w.deliver(ctx, h) })
		})
	}
	var told <-chan struct{}
	if len(w.cfg.Hooks) > 0 { // otherwise nobody waits for the plan
		told = Listen(ctx, w.cfg.Store)
	}
	w.repeat(ctx, "webhooks", told, func() (bool, error) { return w.plan(ctx) })
	work.Wait()
	return nil
}

// repeat does a step again at once while it says that there is more, and
// otherwise after a while or when it is woken.
func (w *Worker) repeat(ctx context.Context, what string, wake <-chan struct{}, step func() (more bool, err error)) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	failing := false
	for ctx.Err() == nil {
		more, err := step()
		if ctx.Err() == nil && failing != (err != nil) { // once, not every second
			failing = err != nil
			if failing {
				w.cfg.Log.Error(what+": the store fails; nothing is lost, it goes on when the store does", "error", err)
			} else {
				w.cfg.Log.Info(what + ": the store works again")
			}
		}
		if more && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-wake:
		}
	}
}

// plan makes deliveries of events that are new. The first time ever it begins
// with the events to come: what happened before there were webhooks is not news.
func (w *Worker) plan(ctx context.Context) (more bool, err error) {
	store := w.cfg.Store
	from, begun, err := store.Planned(ctx)
	if err != nil {
		return false, err
	}
	if !begun {
		last, err := store.LastEvent(ctx)
		if err == nil {
			_, err = store.Plan(ctx, 0, last, nil)
		}
		return false, err
	}
	events, err := store.Feed(ctx, from, planBatch)
	if err != nil || len(events) == 0 {
		return false, err
	}
	// Where another process was faster, the next round sees what is left.
	planned, err := store.Plan(ctx, from, events[len(events)-1].ID, w.deliveries(events))
	if err != nil {
		return false, err
	}
	if planned {
		for _, wake := range w.wake {
			select {
			case wake <- struct{}{}:
			default:
			}
		}
	}
	return len(events) == planBatch, nil
}

// deliveries are what events mean for the webhooks.
func (w *Worker) deliveries(events []Event) (all []Delivery) {
	now := w.cfg.Now()
	for _, e := range events {
		body, err := json.Marshal(struct {
			ID   int64           `json:"id"`
			Type string          `json:"type"`
			At   time.Time       `json:"at"`
			Data json.RawMessage `json:"data"`
		}{e.ID, e.Type, e.At, e.Document})
		if err != nil {
			w.cfg.Log.Error("an event cannot be told to webhooks", "event", e.ID, "type", e.Type, "error", err)
			continue
		}
		for _, h := range w.cfg.Hooks {
			if h.wants(e.Type) {
				all = append(all, Delivery{Hook: h.Name, Event: e.ID, Type: e.Type, Body: body, CreatedAt: now, NextAt: now})
			}
		}
	}
	return all
}

// deliver makes the attempts that are due at a webhook.
func (w *Worker) deliver(ctx context.Context, h Hook) (more bool, err error) {
	now := w.cfg.Now()
	claimed, err := w.cfg.Store.Claim(ctx, h.Name, now, now.Add(claimFor), sendBatch)
	if err != nil {
		return false, err
	}
	errs := make([]error, len(claimed))
	var sending sync.WaitGroup
	for i, d := range claimed {
		sending.Go(func() { errs[i] = w.attempt(ctx, h, d) })
	}
	sending.Wait()
	return len(claimed) == sendBatch, errors.Join(errs...)
}

// attempt sends a delivery once and stores what came of it. Where that is not
// stored, the delivery is made again: a receiver sees some twice, and none never.
func (w *Worker) attempt(ctx context.Context, h Hook, d Delivery) error {
	status, err := w.send(ctx, h, d)
	if status == 0 && ctx.Err() != nil {
		return nil // broken off by the end of the work: it counts for nothing
	}
	now := w.cfg.Now()
	d.Attempts, d.Status, d.NextAt, d.Error = d.Attempts+1, status, time.Time{}, ""
	switch {
	case err == nil:
		d.DoneAt = now
	case d.Attempts > len(delays):
		d.Error = err.Error()
		w.cfg.Log.Warn("a delivery was given up", "webhook", h.Name, "delivery", d.ID, "event", d.Type, "attempts", d.Attempts, "error", err)
	default:
		d.Error, d.NextAt = err.Error(), now.Add(delays[d.Attempts-1])
	}
	return w.cfg.Store.Settle(context.WithoutCancel(ctx), d)
}
