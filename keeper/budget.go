package keeper

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/evergrant/evergrant/provider"
)

// gate stands before every request to a provider. It keeps to what the provider
// bears (budget), serves owners in turn, and lets nothing through to a provider
// that is down (breaker). It is this process's: replicas have each their own.
// Its memory is for what waits and what was lately sent.
type gate struct {
	events EventStore
	log    *slog.Logger
	now    func() time.Time
	random func() float64

	mu       sync.Mutex
	budgets  map[string]*budget  // by registration
	hosts    map[string]*breaker // by token host, while it fails
	apps     map[string]*breaker // by registration, while it is refused
	telling  sync.Mutex          // over mu; so that events are stored in the order of what happened
	outcomes map[string]*news    // by registration
}

func newGate(k *Keeper) *gate {
	return &gate{
		events: k.cfg.Store, log: k.cfg.Log, now: k.cfg.Now, random: k.cfg.Rand,
		budgets: map[string]*budget{}, hosts: map[string]*breaker{}, apps: map[string]*breaker{}, outcomes: map[string]*news{},
	}
}

// errUnused is told to leave by who was let through and sent nothing.
var errUnused = errors.New("no request was sent")

// enter waits for the turn of a request: urgent ones, for which somebody waits,
// go before those of the schedule. leave must be called once, with the outcome
// of the last request: nil, the *provider.Error, or errUnused where none was
// sent. The error is a *heldBack, at once, where the provider is down, or the
// context's.
func (g *gate) enter(ctx context.Context, p *provider.Provider, host, owner, connection string, urgent bool) (leave func(err error), err error) {
	return g.admitted(ctx, &visit{
		provider: p.Name(), limits: p.Definition().Limits,
		host: host, owner: owner, connection: connection, urgent: urgent,
	})
}

// visit is one request on its way through the gate.
type visit struct {
	provider   string
	limits     provider.Limits
	host       string
	owner      string
	connection string
	urgent     bool

	began   time.Time     // when it was let through
	decided chan struct{} // closed when err is what it is
	settled bool          // the same, for holders of gate.mu
	err     error
}

func (v *visit) turn() string { return turn("", v.owner, v.connection) }

func (v *visit) settle(err error) {
	v.settled, v.err = true, err
	close(v.decided)
}

func (g *gate) admitted(ctx context.Context, v *visit) (leave func(err error), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	v.decided = make(chan struct{})
	g.mu.Lock()
	b := g.budget(v)
	if err := g.check(b, v); err != nil {
		g.mu.Unlock()
		return nil, err
	}
	b.queue(v).push(v.turn(), v)
	g.admit(b)
	g.mu.Unlock()
	select {
	case <-v.decided:
	case <-ctx.Done():
		g.mu.Lock()
		if !v.settled {
			b.queue(v).remove(v.turn(), v)
			v.settle(ctx.Err())
			g.unused(v)
		}
		g.mu.Unlock()
	}
	if v.err != nil {
		return nil, v.err
	}
	var once sync.Once
	return func(err error) { once.Do(func() { g.leave(b, v, err) }) }, nil
}

// leave gives the place of a request to the next, and learns from its outcome.
func (g *gate) leave(b *budget, v *visit, err error) {
	g.mu.Lock()
	b.running--
	if errors.Is(err, errUnused) {
		b.giveBack(v)
	}
	tell := g.learn(b, v, err)
	g.admit(b)
	g.mu.Unlock()
	for _, name := range tell {
		g.tell(name)
	}
}

// admit lets through as many as the budget allows, and comes again when it will
// allow more. It holds mu.
func (g *gate) admit(b *budget) {
	for b.running < b.concurrency {
		now := g.now()
		if b.urgent.empty() && b.background.empty() {
			return
		}
		if wait := b.sent.wait(b.rate, now); wait > 0 {
			if !b.waking {
				b.waking = true
				time.AfterFunc(wait, func() {
					g.mu.Lock()
					defer g.mu.Unlock()
					b.waking = false
					g.admit(b)
				})
			}
			return
		}
		v := b.next()
		b.running++
		v.began = now
		b.sent.add(now)
		b.count(v.connection, now)
		v.settle(nil)
	}
}

// room is how many requests of the schedule may be under way at a provider now:
// none while it is known to be down, one where that is to be found out.
func (g *gate) room(p *provider.Provider) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	def := p.Definition()
	room := limitsOf(def.Limits).Concurrency
	standing := []*breaker{g.apps[p.Name()]}
	if oneHost(def) {
		standing = append(standing, g.hosts[p.TokenHost(nil)])
	}
	for _, b := range standing {
		switch {
		case b == nil || b.until.IsZero():
		case b.probe == nil && !g.now().Before(b.until):
			room = min(room, 1)
		default:
			room = 0
		}
	}
	return room
}

// budget is what one registration at a provider may send, and who waits for it.
type budget struct {
	concurrency int
	rate        provider.Rate
	each        provider.Rate // of one connection; none where zero

	running    int
	waking     bool // admit comes again by itself
	sent       window
	sentBy     map[string]*window // by connection, where each is limited
	sweep      int                // at how many of them to look for idle ones
	urgent     fairQueue[*visit]
	background fairQueue[*visit]
	overtaken  int // how often in a row urgent ones went before background ones
}

// mostOvertaken bounds how often in a row urgent requests go before those of the
// schedule, which would otherwise become urgent themselves.
const mostOvertaken = 7

// limitsOf fills in what a provider is believed to bear where nobody knows.
func limitsOf(l provider.Limits) provider.Limits {
	if l.Concurrency <= 0 {
		l.Concurrency = 8
	}
	if l.Rate.Count <= 0 || l.Rate.Per <= 0 {
		l.Rate = provider.Rate{Count: 20, Per: 1e9}
	}
	if l.Connection.Count <= 0 || l.Connection.Per <= 0 {
		l.Connection = provider.Rate{}
	}
	return l
}

// budget is that of a visit's provider. It holds mu.
func (g *gate) budget(v *visit) *budget {
	b := g.budgets[v.provider]
	if b == nil {
		limits := limitsOf(v.limits)
		b = &budget{concurrency: limits.Concurrency, rate: steady(limits.Rate), each: steady(limits.Connection), sentBy: map[string]*window{}, sweep: leastSweep}
		g.budgets[v.provider] = b
	}
	return b
}

func (b *budget) queue(v *visit) *fairQueue[*visit] {
	if v.urgent {
		return &b.urgent
	}
	return &b.background
}

// next is whose turn it is. Somebody waits.
func (b *budget) next() *visit {
	overtake := b.overtaken < mostOvertaken || b.background.empty()
	if b.urgent.empty() || !overtake {
		b.overtaken = 0
		return b.background.pop()
	}
	b.overtaken++
	return b.urgent.pop()
}

// exhausted is how long a connection must wait for its own rate.
func (b *budget) exhausted(connection string, now time.Time) time.Duration {
	w := b.sentBy[connection]
	if b.each.Count == 0 || w == nil {
		return 0
	}
	return w.wait(b.each, now)
}

// count remembers that a connection sends a request now.
func (b *budget) count(connection string, now time.Time) {
	if b.each.Count == 0 {
		return
	}
	if len(b.sentBy) >= b.sweep {
		for id, w := range b.sentBy {
			if w.wait(provider.Rate{Count: 1, Per: b.each.Per}, now) <= 0 {
				delete(b.sentBy, id)
			}
		}
		b.sweep = max(leastSweep, 2*len(b.sentBy))
	}
	if b.sentBy[connection] == nil {
		b.sentBy[connection] = &window{}
	}
	b.sentBy[connection].add(now)
}

// giveBack takes back what was counted of a request that was not sent: another
// process was faster, such as another replica with the same list of what is due.
func (b *budget) giveBack(v *visit) {
	b.sent.remove(v.began)
	if w := b.sentBy[v.connection]; w != nil {
		w.remove(v.began)
	}
}

// mostRemembered bounds what a window remembers.
const mostRemembered = 1024

// steady is a rate that a window can hold, never above the given one: half of
// the count in half of the time, as often as is needed.
func steady(r provider.Rate) provider.Rate {
	for r.Count > mostRemembered {
		r.Count, r.Per = r.Count/2, (r.Per+1)/2
	}
	return r
}

// window remembers when the last requests began, so that in no span of time of a
// rate there are more than it allows.
type window struct{ began []time.Time }

// wait is how long until one more may begin; not above 0 where it may now.
func (w *window) wait(rate provider.Rate, now time.Time) time.Duration {
	per := time.Duration(rate.Per)
	old := 0
	for old < len(w.began) && now.Sub(w.began[old]) >= per {
		old++
	}
	w.began = slices.Delete(w.began, 0, old)
	if len(w.began) < rate.Count {
		return 0
	}
	return per - now.Sub(w.began[len(w.began)-rate.Count])
}

func (w *window) add(now time.Time) { w.began = append(w.began, now) }

func (w *window) remove(began time.Time) {
	if i := slices.Index(w.began, began); i >= 0 {
		w.began = slices.Delete(w.began, i, i+1)
	}
}

// fairQueue serves owners in turn, and what each of them has in its order.
type fairQueue[T comparable] struct {
	turns   []string // owners that wait, whose turn is next first
	waiting map[string][]T
}

// turn is whose turn something takes: its owner's, or its own where it has none.
func turn(tenant, owner, connection string) string {
	if owner == "" {
		return "connection " + connection
	}
	return "owner " + tenant + "/" + owner
}

func (q *fairQueue[T]) empty() bool { return len(q.turns) == 0 }

func (q *fairQueue[T]) push(turn string, v T) {
	if q.waiting == nil {
		q.waiting = map[string][]T{}
	}
	if len(q.waiting[turn]) == 0 {
		q.turns = append(q.turns, turn)
	}
	q.waiting[turn] = append(q.waiting[turn], v)
}

// pop takes out what is next. The queue is not empty.
func (q *fairQueue[T]) pop() T {
	turn := q.turns[0]
	v := q.waiting[turn][0]
	q.turns = slices.Delete(q.turns, 0, 1)
	if q.waiting[turn] = slices.Delete(q.waiting[turn], 0, 1); len(q.waiting[turn]) > 0 {
		q.turns = append(q.turns, turn)
	} else {
		delete(q.waiting, turn)
	}
	return v
}

func (q *fairQueue[T]) remove(turn string, v T) {
	left := slices.DeleteFunc(q.waiting[turn], func(other T) bool { return other == v })
	if len(left) > 0 {
		q.waiting[turn] = left
		return
	}
	delete(q.waiting, turn)
	q.turns = slices.DeleteFunc(q.turns, func(other string) bool { return other == turn })
}

// all lists what waits, in no order.
func (q *fairQueue[T]) all() (everything []T) {
	for _, waiting := range q.waiting {
		everything = append(everything, waiting...)
	}
	return everything
}
