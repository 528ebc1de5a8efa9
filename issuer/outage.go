package issuer

import (
	"sync"
	"time"
)

// outageSlack is how long before its failure was seen a step may have been asked
// for: longer than any store waits.
const outageSlack = 15 * time.Second

// outage is the last time during which the store made no steps, as this server
// saw it. A step that was asked for then may be made later, when the answer was
// given up: its client could not retry within the window, and is no thief.
type outage struct {
	mu    sync.Mutex
	began time.Time // zero where there was none
	ended time.Time // zero while it lasts
}

// saw notes at a time whether a step was made, or failed.
func (o *outage) saw(at time.Time, made, failed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch lasts := !o.began.IsZero() && o.ended.IsZero(); {
	case failed && !lasts:
		o.began, o.ended = at, time.Time{}
	case made && lasts:
		o.ended = at
	}
}

// since is from when a retry window is counted that began at a time.
func (o *outage) since(at, now time.Time) time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.began.IsZero() || at.Before(o.began.Add(-outageSlack)):
		return at
	case o.ended.IsZero():
		return now
	case at.Before(o.ended):
		return o.ended
	}
	return at
}
