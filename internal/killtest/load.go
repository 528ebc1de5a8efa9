package killtest

import (
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
)

// newGrants is how many grants a client makes between two kills.
const newGrants = 2

// Load is the clients of a server, or of several that share a database, and all
// that they were ever told.
type Load struct {
	App       *App         // how they reach a server
	Before    string       // where the server was killed last, for messages
	Refreshed atomic.Int64 // refreshes that were answered
	// Ended, where it is not nil, hears of each grant whose revocation was answered,
	// before anything else is done with it.
	Ended func(client string, newest Answer)

	t          *testing.T
	workers    []*worker
	orphans    map[string]bool // grants that were made without anybody being told, by id
	allowance  int             // how many of them are accounted for
	unanswered atomic.Int64    // requests for a new grant that were not answered
}

// worker is one concurrent client.
type worker struct {
	client string
	role   func(*Load, *worker) bool // what it does, until false: there was no answer
	random *rand.Rand
	own    *chain   // which it refreshes all the time
	others []*chain // that it made
	made   int      // of them since it began to work
}

func (w *worker) chains() []*chain { return append([]*chain{w.own}, w.others...) }

// NewLoad makes clients of all kinds, each with a grant.
func NewLoad(t *testing.T, app *App, random *rand.Rand) *Load {
	t.Helper()
	l := &Load{t: t, App: app, orphans: map[string]bool{}}
	for i, role := range []func(*Load, *worker) bool{
		(*Load).refreshOnly, (*Load).refreshOnly, (*Load).refreshOnly, (*Load).refreshOnly, (*Load).refreshOnly,
		(*Load).refreshAndRetry, (*Load).refreshAndRetry, (*Load).refreshTwice, (*Load).refreshTwice,
		(*Load).acquire, (*Load).acquire, (*Load).revokeOften,
	} {
		w := &worker{client: []string{OpaqueClient, JWTClient}[i%2], role: role, random: rand.New(rand.NewPCG(random.Uint64(), uint64(i)))}
		w.own = &chain{client: w.client}
		if !l.obtain(w.own) {
			t.FailNow()
		}
		l.workers = append(l.workers, w)
	}
	return l
}

// Forget ends the account of requests without answer: what they did can be seen
// by now, since their server is dead.
func (l *Load) Forget() {
	l.allowance = len(l.orphans)
	l.unanswered.Store(0)
}

// Except takes a grant that the test made itself out of the account.
func (l *Load) Except(id issuer.GrantID) {
	l.orphans[id.String()] = true
	l.allowance++
}

// Work lets all clients do what they do, each for as long as goOn says, which
// hears whether the client was answered.
func (l *Load) Work(goOn func(answered bool) bool) {
	l.each(func(w *worker) {
		for w.made = 0; goOn(w.role(l, w)); {
		}
	})
}

// each lets all workers do something at once.
func (l *Load) each(f func(*worker)) {
	var all sync.WaitGroup
	for _, w := range l.workers {
		all.Go(func() { f(w) })
	}
	all.Wait()
}

// The roles.

func (l *Load) refreshOnly(w *worker) bool { return l.send(w.own) }

// refreshAndRetry is a client that loses every other answer.
func (l *Load) refreshAndRetry(w *worker) bool {
	return l.send(w.own) && (w.random.IntN(2) == 0 || l.again(w.own, w.own.previous.Tokens.RefreshToken, w.own.last))
}

// refreshTwice is a client whose processes refresh at the same time.
func (l *Load) refreshTwice(w *worker) bool {
	var answers [3]Answer
	var errs [3]error
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			answers[i], errs[i] = l.App.Refresh(l.t.Context(), w.client, w.own.last.Tokens.RefreshToken)
		})
	}
	all.Wait()
	first := Answer{}
	for i, a := range answers {
		switch {
		case errs[i] != nil:
		case first.Status == 0:
			first = a
		case !a.Same(first):
			l.t.Errorf("grant %s: one token was answered %v and %v, and not the same bytes", w.own.id, first, a)
			return false
		}
	}
	if first.Status == 0 {
		w.own.pending = true
		return false
	}
	l.Refreshed.Add(1)
	return l.note(w.own, first) && errs == [3]error{}
}

// acquire is a client that makes a few grants, with passwords and codes, and
// refreshes all that it has.
func (l *Load) acquire(w *worker) bool {
	if w.made == newGrants || w.random.IntN(2) == 0 {
		return l.send(w.own)
	}
	w.made++
	c := &chain{client: w.client}
	if w.made%2 == 0 {
		if !l.obtain(c) {
			return false
		}
		w.others = append(w.others, c)
		return l.send(c)
	}
	a, err := l.App.Authorize(l.t.Context(), c.client)
	if err != nil {
		l.unanswered.Add(1)
		return false
	}
	if a.Status != http.StatusSeeOther || a.Code == "" {
		l.t.Errorf("authorization: %v", a)
		return false
	}
	c.code = a.Code
	c.id, _ = tokenRef(a.Code)
	w.others = append(w.others, c)
	return w.random.IntN(4) == 0 || l.redeem(c)
}

// revokeOften is a client that logs its user out again.
func (l *Load) revokeOften(w *worker) bool {
	if w.made == newGrants || w.random.IntN(2) == 0 {
		return l.send(w.own)
	}
	w.made++
	c := &chain{client: w.client}
	if !l.obtain(c) {
		return false
	}
	w.others = append(w.others, c)
	return l.send(c) && l.revoke(c) && l.refused(c)
}

// refused checks that a grant has ended.
func (l *Load) refused(c *chain) bool {
	use, token := l.App.Refresh, c.last.Tokens.RefreshToken
	if c.code != "" {
		use, token = l.App.Redeem, c.code
	}
	a, err := use(l.t.Context(), c.client, token)
	if err == nil && !a.Refuses(oauth.InvalidGrant) {
		l.t.Errorf("grant %s has ended, and its newest token is answered %v", c.id, a)
	}
	return err == nil
}
