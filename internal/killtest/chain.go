package killtest

import (
	"fmt"

	"github.com/evergrant/evergrant/issuer"
)

// chain is a grant as its client knows it: each answer is noted here before the
// next request is sent.
type chain struct {
	client   string
	id       issuer.GrantID
	code     string // until it is redeemed
	previous Answer // before the last one, if any
	last     Answer // none while there is only a code
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
	return c.last.Generation()
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

// send refreshes with a chain's newest token and notes the answer. It reports
// whether there was one.
func (l *Load) send(c *chain) bool {
	a, err := l.App.Refresh(l.t.Context(), c.client, c.last.Tokens.RefreshToken)
	if err != nil {
		c.pending = true
		return false
	}
	l.Refreshed.Add(1)
	return l.note(c, a)
}

// note takes over an answer to a chain's newest token or code.
func (l *Load) note(c *chain, a Answer) bool {
	if !a.OK() || a.Grant() != c.id || a.Generation() != c.generation()+1 {
		l.t.Errorf("grant %s at generation %d, killed at %q before: answered %v", c.id, c.generation(), l.Before, a)
		return false
	}
	c.code, c.previous, c.last, c.pending = "", c.last, a, false
	return true
}

// again sends a token that was used already and checks that the answer is the
// one that was given then.
func (l *Load) again(c *chain, token string, then Answer) bool {
	a, err := l.App.Refresh(l.t.Context(), c.client, token)
	if err != nil {
		return false
	}
	l.Refreshed.Add(1)
	if !a.Same(then) {
		l.t.Errorf("grant %s: first answered %v, then %v, and not the same bytes", c.id, then, a)
		return false
	}
	return true
}

// obtain makes a grant with the owner's password.
func (l *Load) obtain(c *chain) bool {
	a, err := l.App.Grant(l.t.Context(), c.client)
	if err != nil {
		l.unanswered.Add(1)
		return false
	}
	if !a.OK() || a.Generation() != 1 {
		l.t.Errorf("password grant: %v", a)
		return false
	}
	c.id, c.last = a.Grant(), a
	return true
}

func (l *Load) redeem(c *chain) bool {
	a, err := l.App.Redeem(l.t.Context(), c.client, c.code)
	if err != nil {
		c.pending = true
		return false
	}
	return l.note(c, a)
}

// revoke ends a grant.
func (l *Load) revoke(c *chain) bool {
	c.end = unsure
	a, err := l.App.Revoke(l.t.Context(), c.client, c.last.Tokens.RefreshToken)
	if err != nil {
		return false
	}
	if !a.OK() {
		l.t.Errorf("grant %s: revocation answered %v", c.id, a)
		return false
	}
	c.end = ended
	if l.Ended != nil {
		l.Ended(c.client, c.last)
	}
	return true
}
