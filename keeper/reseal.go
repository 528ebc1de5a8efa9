package keeper

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Resealing is how far the sealing under the newest key is.
type Resealing struct {
	Key  uint32 `json:"key"`
	Done int    `json:"done"` // by this process
	Left int    `json:"left"` // still sealed under older keys
}

const (
	resealEvery = time.Minute
	// recountEvery is when to look again although nothing was left: a process
	// that knew of the newest key later than this one may have used an older one.
	recountEvery = time.Hour
	resealBatch  = 256
	// resealPause leaves the database to others: at most 50 rows a second.
	resealPause = 20 * time.Millisecond
)

// Resealing says how far this process is with sealing all tokens and answers
// under the newest key, which Run does after each change of keys. When none are
// left, older keys can be deleted.
func (k *Keeper) Resealing() Resealing {
	k.resealed.Lock()
	defer k.resealed.Unlock()
	return k.resealed.Resealing
}

// reseals seals anew until the context ends.
func (k *Keeper) reseals(ctx context.Context) {
	var clean uint32 // the key below which nothing was left
	var counted time.Time
	for {
		if err := k.cfg.Keys.Reload(ctx); err != nil && ctx.Err() == nil {
			k.cfg.Log.Error("keys were not reloaded; the known ones stay in force", "error", err)
		}
		if key, now := k.cfg.Keys.Current().ID, k.now(); key != clean || now.Before(counted) || now.Sub(counted) >= recountEvery {
			err := k.resealAll(ctx, key)
			if err != nil && ctx.Err() == nil {
				k.cfg.Log.Error("sealing under the newest key broke off and goes on in a minute", "error", err)
			}
			if counted = now; err == nil && k.Resealing().Left == 0 {
				clean = key
			}
		}
		if sleep(ctx, resealEvery) != nil {
			return
		}
	}
}

// resealAll seals every row that is there under the newest key.
func (k *Keeper) resealAll(ctx context.Context, key uint32) error {
	left, err := k.stale(ctx, key)
	if err != nil {
		return err
	}
	k.resealed.Lock()
	if k.resealed.Key != key {
		k.resealed.Resealing = Resealing{Key: key}
	}
	k.resealed.Left = left
	k.resealed.Unlock()
	if left == 0 {
		return nil
	}
	done, failed := 0, 0
	for after := ""; ; {
		ids, err := k.cfg.Store.Stale(ctx, key, after, resealBatch)
		if err != nil || len(ids) == 0 {
			return errors.Join(err, k.tellResealed(ctx, key, done, failed))
		}
		for _, id := range ids {
			if err := sleep(ctx, resealPause); err != nil {
				return err
			}
			did, err := k.reseal(ctx, id, key)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.Is(err, errOnItsWay):
				continue
			case err != nil:
				failed++
				k.cfg.Log.Error("a connection was not sealed under the newest key", "connection", id, "error", err)
				continue
			}
			done += did
			k.resealed.Lock()
			k.resealed.Done, k.resealed.Left = k.resealed.Done+did, max(0, k.resealed.Left-1)
			k.resealed.Unlock()
		}
		after = ids[len(ids)-1]
	}
}

// stale counts what is sealed under keys below one.
func (k *Keeper) stale(ctx context.Context, key uint32) (n int, err error) {
	for after := ""; ; {
		ids, err := k.cfg.Store.Stale(ctx, key, after, 1000)
		if err != nil || len(ids) == 0 {
			return n, err
		}
		n, after = n+len(ids), ids[len(ids)-1]
	}
}

// tellResealed stores, once over all replicas, that nothing is sealed under
// older keys any more.
func (k *Keeper) tellResealed(ctx context.Context, key uint32, done, failed int) error {
	left, err := k.cfg.Store.Stale(ctx, key, "", 1)
	if err != nil || len(left) > 0 || failed > 0 || done == 0 {
		return err
	}
	now := k.now()
	if isNew, err := k.cfg.Store.Once(ctx, fmt.Sprintf("resealed/%d", key), now, now.Add(365*day)); err != nil || !isNew {
		return err
	}
	_, err = k.cfg.Store.Record(ctx, Event{
		At: now, Type: EventResealed, Actor: "keeper",
		Detail: fmt.Sprintf("All tokens are sealed under key %d: older keys seal nothing any more.", key),
	})
	return err
}

// errOnItsWay says that a request for a connection is on its way: its answer
// comes beside the lease, so the row is left for later.
var errOnItsWay = errors.New("a request is on its way")

// reseal seals one row under the newest key, under its lease. It gives 1, or 0
// where another process did it or the row is gone.
func (k *Keeper) reseal(ctx context.Context, id string, key uint32) (did int, err error) {
	_, err = k.change(ctx, id, func(c *Connection) ([]Event, error) {
		if c.Intent != nil && c.Intent.Answer.Empty() && k.now().Before(c.Intent.Deadline) {
			return nil, errOnItsWay
		}
		old := *c
		if !c.Tokens.Empty() && c.Tokens.KeyID < key {
			h, err := k.openTokens(*c)
			if err != nil {
				return nil, err
			}
			k.sealTokens(c, h)
		}
		if c.Intent != nil && !c.Intent.Answer.Empty() && c.Intent.Answer.KeyID < key {
			answer, err := k.openAnswer(c.ID, c.Intent.RequestID, c.Intent.Answer)
			if err != nil {
				return nil, err
			}
			intent := *c.Intent
			intent.Answer = k.sealAnswer(c.ID, intent.RequestID, answer)
			c.Intent = &intent
		}
		if c.Tokens.KeyID == old.Tokens.KeyID && c.Intent == old.Intent {
			return nil, errUnchanged
		}
		return nil, nil
	})
	switch {
	case err == nil:
		return 1, nil
	case errors.Is(err, errUnchanged) || errors.Is(err, ErrNotFound):
		return 0, nil
	}
	return 0, err
}
