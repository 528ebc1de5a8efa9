package killtest

import (
	"context"
	"math/rand/v2"

	"github.com/evergrant/evergrant/issuer"
)

// Recalled is what Recall found of requests that had no answer.
type Recalled struct {
	Kept, Lost int // refreshes that were done, and that were not
	Orphans    int // grants that nobody was told of, since the last time
}

// Recall compares the rows of the database with what the clients were told.
func (l *Load) Recall(s State) (found Recalled) {
	t, unknown := l.t, map[string]bool{}
	for id := range s.Grants {
		unknown[id] = true
	}
	if s.Alarms > 0 {
		t.Errorf("%d grants have events that say that a token was reused, or came to a row that was behind it", s.Alarms)
	}
	for _, w := range l.workers {
		for _, c := range w.chains() {
			row, ok := s.Grants[c.id.String()]
			delete(unknown, c.id.String())
			if !ok {
				t.Errorf("grant %s, which was answered at generation %d, is unknown after a kill at %q", c.id, c.generation(), l.Before)
				continue
			}
			if problem := c.contradicts(row); problem != "" {
				t.Errorf("grant %s after a kill at %q: %s", c.id, l.Before, problem)
			}
			switch {
			case !c.pending || c.end != alive:
			case row.Generation > c.generation():
				found.Kept++
			default:
				found.Lost++
			}
		}
	}
	for id := range unknown {
		if !l.orphans[id] {
			l.orphans[id] = true
			found.Orphans++
		}
	}
	if made, asked := len(l.orphans)-l.allowance, int(l.unanswered.Load()); made > asked {
		t.Errorf("%d grants that nobody was told of after %d requests without answer", made, asked)
	}
	for id := range l.orphans {
		if !unknown[id] {
			t.Errorf("grant %s was there after one restart and is not after another", id)
		}
	}
	return found
}

// Resolve lets the clients find out, after a kill, what has become of what they
// asked for, as they would, and checks that their tokens are good.
func (l *Load) Resolve(s State) {
	l.each(func(w *worker) { l.resolve(w, s.Grants) })
}

func (l *Load) resolve(w *worker, rows map[string]issuer.Grant) {
	if !l.continued(w.own, rows[w.own.id.String()], w.random) {
		l.t.Errorf("grant %s could not go on after a kill at %q", w.own.id, l.Before)
	}
	for i, c := range w.others {
		row, recent := rows[c.id.String()], i >= len(w.others)-newGrants
		good := true
		switch {
		case c.end == ended:
			good = !recent || l.refused(c)
		case c.end == unsure:
			good = l.revoke(c) && l.refused(c)
		case c.code != "":
			good = l.redeemed(c, row)
		case c.pending || recent || w.random.IntN(16) == 0:
			good = l.continued(c, row, w.random)
		}
		if !good {
			l.t.Errorf("grant %s was not served after a kill at %q", c.id, l.Before)
			return
		}
	}
}

// continued refreshes with the newest token that the client has, twice: there
// is one successor, whether or not it was made before the kill. Where it was
// not, the token before still gets the answer that it got.
func (l *Load) continued(c *chain, row issuer.Grant, random *rand.Rand) bool {
	if row.Generation == c.generation() && c.previous.OK() && random.IntN(2) == 0 {
		if !l.again(c, c.previous.Tokens.RefreshToken, c.last) {
			return false
		}
	}
	return l.send(c) && l.again(c, c.previous.Tokens.RefreshToken, c.last)
}

// redeemed presents a code, which is good unless it was spent by a request that
// got no answer: then it ends the grant, as there is no retry of a code.
func (l *Load) redeemed(c *chain, row issuer.Grant) bool {
	if row.Generation == 0 {
		return l.redeem(c)
	}
	c.end = ended
	return l.refused(c)
}

// Examine compares all that a database holds, after the last kill, with what the
// clients were told, and its events with its rows.
func Examine[S Store](ctx context.Context, l *Load, service *Service[S]) Recalled {
	t := l.t
	t.Helper()
	last := Must[State](t)(service.State(ctx))
	found := l.Recall(last)
	known := len(l.orphans)
	for _, w := range l.workers {
		known += len(w.chains())
	}
	if len(last.Grants) != known {
		t.Errorf("%d grants, %d made", len(last.Grants), known)
	}
	created := Must[map[issuer.GrantID]int](t)(service.events(ctx, issuer.EventGrantCreated))
	ended := Must[map[issuer.GrantID]int](t)(service.events(ctx, issuer.EventGrantRevoked))
	for id, count := range Must[map[issuer.GrantID]int](t)(service.events(ctx, issuer.EventCodeReplayed)) {
		ended[id] += count
	}
	for _, row := range last.Grants {
		if created[row.ID] != 1 {
			t.Errorf("grant %s has %d events of its making", row.ID, created[row.ID])
		}
		if (ended[row.ID] == 1) == row.RevokedAt.IsZero() || ended[row.ID] > 1 {
			t.Errorf("grant %s, revoked at %q, has %d events of its end", row.ID, row.RevokedAt, ended[row.ID])
		}
	}
	if len(created) != known {
		t.Errorf("%d grants, events of the making of %d", known, len(created))
	}
	return found
}
