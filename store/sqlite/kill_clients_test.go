package sqlite_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
)

// chain is a grant as its client knows it: each answer is noted here before the
// next request is sent.
type chain struct {
	client   string
	id       issuer.GrantID
	code     string // until it is redeemed
	previous answer // before the last one, if any
	last     answer // none while there is only a code
	pending  bool   // the newest token or code was sent, and no answer came
	end      ending
}

// ending is how far a revocation has come.
type ending int

const (
	alive  ending = iota
	unsure        // asked for
	ended         // and answered
)

// generation is the newest that the client was told of.
func (c *chain) generation() uint32 {
	if c.code != "" {
		return 0
	}
	return c.last.generation()
}

// contradicts says what a row has that cannot be after what the client was told.
func (c *chain) contradicts(row issuer.Grant) string {
	most := c.generation()
	if c.pending {
		most++
	}
	switch revoked := !row.RevokedAt.IsZero(); {
	case row.Generation < c.generation():
		return fmt.Sprintf("generation %d was answered, the row went back to %d", c.generation(), row.Generation)
	case row.Generation > most:
		return fmt.Sprintf("generation %d was answered and no more than %d asked for, the row is at %d", c.generation(), most, row.Generation)
	case c.end == ended && !revoked:
		return "a revocation that was answered is forgotten"
	case c.end == alive && revoked:
		return "revoked, and nobody asked for it: " + string(row.RevokedCause)
	}
	return ""
}

// worker is one concurrent client.
type worker struct {
	client string
	role   func(*round, *worker) bool // what it does, until false: the server is gone
	random *rand.Rand
	own    *chain   // which it refreshes all the time
	others []*chain // that it made
	made   int      // of them in this cycle
}

func (w *worker) chains() []*chain { return append([]*chain{w.own}, w.others...) }

// send refreshes with a chain's newest token and notes the answer. It reports
// whether there was one.
func (r *round) send(c *chain) bool {
	a, err := r.app.refresh(r.t.Context(), c.client, c.last.tokens.RefreshToken)
	if err != nil {
		c.pending = true
		return false
	}
	r.refreshed.Add(1)
	return r.note(c, a)
}

// note takes over an answer to a chain's newest token or code.
func (r *round) note(c *chain, a answer) bool {
	if !a.ok() || a.grant() != c.id || a.generation() != c.generation()+1 {
		r.t.Errorf("grant %s at generation %d, killed at %q before: answered %v", c.id, c.generation(), r.before, a)
		return false
	}
	c.code, c.previous, c.last, c.pending = "", c.last, a, false
	return true
}

// again sends a token that was used already and checks that the answer is the
// one that was given then.
func (r *round) again(c *chain, token string, then answer) bool {
	a, err := r.app.refresh(r.t.Context(), c.client, token)
	if err != nil {
		return false
	}
	r.refreshed.Add(1)
	if !a.same(then) {
		r.t.Errorf("grant %s: first answered %v, then %v, and not the same bytes", c.id, then, a)
		return false
	}
	return true
}

// obtain makes a grant with the owner's password.
func (r *round) obtain(c *chain) bool {
	a, err := r.app.grant(r.t.Context(), c.client)
	if err != nil {
		r.unanswered.Add(1)
		return false
	}
	if !a.ok() || a.generation() != 1 {
		r.t.Errorf("password grant: %v", a)
		return false
	}
	c.id, c.last = a.grant(), a
	return true
}

// The roles.

func (r *round) refreshOnly(w *worker) bool { return r.send(w.own) }

// refreshAndRetry is a client that loses every other answer.
func (r *round) refreshAndRetry(w *worker) bool {
	return r.send(w.own) && (w.random.IntN(2) == 0 || r.again(w.own, w.own.previous.tokens.RefreshToken, w.own.last))
}

// refreshTwice is a client whose processes refresh at the same time.
func (r *round) refreshTwice(w *worker) bool {
	var answers [3]answer
	var errs [3]error
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			answers[i], errs[i] = r.app.refresh(r.t.Context(), w.client, w.own.last.tokens.RefreshToken)
		})
	}
	all.Wait()
	first := answer{}
	for i, a := range answers {
		switch {
		case errs[i] != nil:
		case first.status == 0:
			first = a
		case !a.same(first):
			r.t.Errorf("grant %s: one token was answered %v and %v, and not the same bytes", w.own.id, first, a)
			return false
		}
	}
	if first.status == 0 {
		w.own.pending = true
		return false
	}
	r.refreshed.Add(1)
	return r.note(w.own, first) && errs == [3]error{}
}

// acquire is a client that makes a few grants, with passwords and codes, and
// refreshes all that it has.
func (r *round) acquire(w *worker) bool {
	if w.made == newGrants || w.random.IntN(2) == 0 {
		return r.send(w.own)
	}
	w.made++
	c := &chain{client: w.client}
	if w.made%2 == 0 {
		if !r.obtain(c) {
			return false
		}
		w.others = append(w.others, c)
		return r.send(c)
	}
	a, err := r.app.authorize(r.t.Context(), c.client)
	if err != nil {
		r.unanswered.Add(1)
		return false
	}
	if a.status != http.StatusSeeOther || a.code == "" {
		r.t.Errorf("authorization: %v", a)
		return false
	}
	c.code = a.code
	c.id, _ = tokenRef(a.code)
	w.others = append(w.others, c)
	return w.random.IntN(4) == 0 || r.redeem(c)
}

func (r *round) redeem(c *chain) bool {
	a, err := r.app.redeem(r.t.Context(), c.client, c.code)
	if err != nil {
		c.pending = true
		return false
	}
	return r.note(c, a)
}

// revokeOften is a client that logs its user out again.
func (r *round) revokeOften(w *worker) bool {
	if w.made == newGrants || w.random.IntN(2) == 0 {
		return r.send(w.own)
	}
	w.made++
	c := &chain{client: w.client}
	if !r.obtain(c) {
		return false
	}
	w.others = append(w.others, c)
	return r.send(c) && r.end(c) && r.refused(c)
}

// end revokes a grant.
func (r *round) end(c *chain) bool {
	c.end = unsure
	a, err := r.app.revoke(r.t.Context(), c.client, c.last.tokens.RefreshToken)
	if err != nil {
		return false
	}
	if !a.ok() {
		r.t.Errorf("grant %s: revocation answered %v", c.id, a)
		return false
	}
	c.end = ended
	return true
}

// refused checks that a grant has ended.
func (r *round) refused(c *chain) bool {
	use, token := r.app.refresh, c.last.tokens.RefreshToken
	if c.code != "" {
		use, token = r.app.redeem, c.code
	}
	a, err := use(r.t.Context(), c.client, token)
	if err == nil && !a.refuses(oauth.InvalidGrant) {
		r.t.Errorf("grant %s has ended, and its newest token is answered %v", c.id, a)
	}
	return err == nil
}

// resolve lets a worker find out, after a restart, what has become of what it
// asked for, as a client would, and checks that its tokens are good.
func (r *round) resolve(w *worker, rows map[string]issuer.Grant) {
	if !r.continued(w.own, rows[w.own.id.String()], w.random) {
		r.t.Errorf("grant %s could not go on after a kill at %q", w.own.id, r.before)
	}
	for i, c := range w.others {
		row, recent := rows[c.id.String()], i >= len(w.others)-newGrants
		good := true
		switch {
		case c.end == ended:
			good = !recent || r.refused(c)
		case c.end == unsure:
			good = r.end(c) && r.refused(c)
		case c.code != "":
			good = r.redeemed(c, row)
		case c.pending || recent || w.random.IntN(16) == 0:
			good = r.continued(c, row, w.random)
		}
		if !good {
			r.t.Errorf("grant %s was not served after a kill at %q", c.id, r.before)
			return
		}
	}
}

// continued refreshes with the newest token that the client has, twice: there
// is one successor, whether or not it was made before the kill. Where it was
// not, the token before still gets the answer that it got.
func (r *round) continued(c *chain, row issuer.Grant, random *rand.Rand) bool {
	if row.Generation == c.generation() && c.previous.ok() && random.IntN(2) == 0 {
		if !r.again(c, c.previous.tokens.RefreshToken, c.last) {
			return false
		}
	}
	return r.send(c) && r.again(c, c.previous.tokens.RefreshToken, c.last)
}

// redeemed presents a code, which is good unless it was spent by a request that
// got no answer: then it ends the grant, as there is no retry of a code.
func (r *round) redeemed(c *chain, row issuer.Grant) bool {
	if row.Generation == 0 {
		return r.redeem(c)
	}
	c.end = ended
	return r.refused(c)
}
