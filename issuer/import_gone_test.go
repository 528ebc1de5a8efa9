package issuer_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// manyMoved imports a client with so many refresh tokens, "r0" and on, and gives
// the ids of their grants in order.
func (e *site) manyMoved(count int) []issuer.GrantID {
	e.t.Helper()
	batch := issuer.Import{Clients: []issuer.ImportClient{movedClient()}}
	for n := range count {
		batch.Tokens = append(batch.Tokens, e.movedToken(fmt.Sprintf("r%d", n)))
	}
	return e.imports(batch).IDs
}

// gone asks what is gone, as of now.
func (e *site) gone(in issuer.Gone) issuer.GoneReport {
	e.t.Helper()
	in.Source, in.ClientID, in.ReadAt = oldSource, moved.id, e.clock.now()
	report, err := e.admin.ImportGone(e.ctx(), operator, in)
	e.must(err)
	return report
}

func TestImportGone(t *testing.T) {
	e := newSite(t, setup{})
	ids := e.manyMoved(6)
	expiring := e.movedToken("expiring")
	expiring.ExpiresAt = e.clock.now().Add(time.Second)
	access := issuer.ImportToken{Access: true, Token: secret.NewText("access"), ClientID: moved.id, Subject: owner, ExpiresAt: e.clock.now().Add(time.Hour)}
	e.imports(issuer.Import{Tokens: []issuer.ImportToken{expiring, access}})
	e.clock.advance(time.Minute)
	own := e.login(moved)          // never was on the other server
	e.refreshed(moved, "r5")       // refreshed here
	later := e.movedToken("later") // came to the other server after it was read
	later.IssuedAt = e.clock.now().Add(time.Second)
	readAt := e.clock.now()
	e.clock.advance(time.Minute)
	e.imports(issuer.Import{Tokens: []issuer.ImportToken{later}})

	live := []issuer.GrantID{ids[0], ids[1], issuer.NewGrantID()}
	question := issuer.Gone{Source: oldSource, ClientID: moved.id, Live: live, ReadAt: readAt, DryRun: true}
	before := e.state()
	want := issuer.GoneReport{Imported: 7, Revoked: 4} // r2, r3, r4 and the access token
	if report, err := e.admin.ImportGone(e.ctx(), operator, question); err != nil || report != want {
		t.Errorf("a dry run counts %+v, %v", report, err)
	}
	if e.state() != before {
		t.Error("a dry run writes")
	}
	question.DryRun = false
	if report, err := e.admin.ImportGone(e.ctx(), operator, question); err != nil || report != want {
		t.Errorf("revoked %+v, %v", report, err)
	}
	for _, token := range []string{"r0", "r1", "later"} {
		e.refreshed(moved, token)
	}
	e.refreshed(moved, own.RefreshToken)
	for _, token := range []string{"r2", "r3", "r4"} {
		e.refresh(moved, token).wantError(t, 400, oauth.InvalidGrant)
	}
	e.wantDead("the access token that is gone", "access")
	if events := e.events(issuer.EventGrantRevoked); len(events) != 4 || events[0].Cause != issuer.CauseImportGone || events[0].Actor != "operator" {
		t.Errorf("events %+v", events)
	}
	if report, err := e.admin.ImportGone(e.ctx(), operator, question); err != nil || report.Revoked != 0 {
		t.Errorf("again: %+v, %v", report, err)
	}
}

// TestImportGoneRanges asks about ranges of ids, of more grants than one page has.
func TestImportGoneRanges(t *testing.T) {
	e := newSite(t, setup{})
	ids := append(e.manyMoved(600), e.imports(issuer.Import{Tokens: e.moreTokens(600)}).IDs...)
	slices.SortFunc(ids, func(a, b issuer.GrantID) int { return bytes.Compare(a[:], b[:]) })
	for _, test := range []struct {
		after, until int // places in ids; -1 for none
		want         int
	}{{-1, -1, 1200}, {-1, 0, 1}, {0, 1, 1}, {99, 1149, 1050}, {1149, -1, 50}, {1199, -1, 0}} {
		in := issuer.Gone{DryRun: true}
		if test.after >= 0 {
			in.After = ids[test.after]
		}
		if test.until >= 0 {
			in.Until = ids[test.until]
		}
		if report := e.gone(in); report.Imported != test.want || report.Revoked != test.want {
			t.Errorf("from %d to %d: %+v, want %d", test.after, test.until, report, test.want)
		}
	}
	in := issuer.Gone{After: ids[99], Until: ids[1149], Live: ids[100:1149]}
	if report := e.gone(in); report != (issuer.GoneReport{Imported: 1050, Revoked: 1}) {
		t.Errorf("report %+v", report)
	}
	if grant, err := e.db.Grant(e.ctx(), ids[1149]); err != nil || grant.RevokedCause != issuer.CauseImportGone {
		t.Errorf("grant %+v, %v", grant, err)
	}
}

func (e *site) moreTokens(count int) []issuer.ImportToken {
	var tokens []issuer.ImportToken
	for n := range count {
		tokens = append(tokens, e.movedToken(fmt.Sprintf("more %d", n)))
	}
	return tokens
}

// TestImportGoneOfOthers has clients that no import of the source brought: they
// lose nothing.
func TestImportGoneOfOthers(t *testing.T) {
	e := newSite(t, setup{})
	e.manyMoved(1)
	tokens := e.login(app)
	before := e.state()
	for name, in := range map[string]issuer.Gone{
		"a client of this server": {Source: oldSource, ClientID: app.id},
		"no client":               {Source: oldSource, ClientID: "nobody"},
		"another source":          {Source: "fos at db.example/shop", ClientID: moved.id},
	} {
		in.ReadAt = e.clock.now().Add(time.Hour)
		if report, err := e.admin.ImportGone(e.ctx(), operator, in); err != nil || report != (issuer.GoneReport{}) {
			t.Errorf("%s: %+v, %v", name, report, err)
		}
	}
	if e.state() != before {
		t.Error("something was written")
	}
	e.refreshed(app, tokens.RefreshToken)
	e.refreshed(moved, "r0")
}

// TestImportGoneFaults fails a revocation, done or not; asking again comes out as
// if nothing had happened.
func TestImportGoneFaults(t *testing.T) {
	for name, done := range map[string]bool{"not done": false, "done": true} {
		t.Run(name, func(t *testing.T) {
			e := newFaulty(t, setup{})
			ids := e.manyMoved(3)
			in := issuer.Gone{Source: oldSource, ClientID: moved.id, Live: ids[2:], ReadAt: e.clock.now()}
			e.during(&fault{method: "Revoke", done: done, err: issuer.ErrUnavailable}, func() {
				if _, err := e.admin.ImportGone(e.ctx(), operator, in); !errors.Is(err, issuer.ErrUnavailable) {
					t.Errorf("the error is %v", err)
				}
			})
			e.gone(issuer.Gone{Live: ids[2:]})
			if events := e.events(issuer.EventGrantRevoked); len(events) != 2 {
				t.Errorf("%d events of two revocations", len(events))
			}
			e.refreshed(moved, "r2")
		})
	}
}
