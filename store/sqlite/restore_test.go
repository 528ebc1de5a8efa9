package sqlite_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/killtest"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/store/sqlite"
)

// history is a grant with every answer that its client was ever given.
type history struct {
	client   string
	answers  []killtest.Answer
	backedUp int  // how many of them are older than the backup
	lost     bool // the client never got the last one
	singled  bool // has a part in the test of its own
}

func (h *history) id() issuer.GrantID { return h.answers[0].Grant() }

// newest is the last answer that the client has.
func (h *history) newest() killtest.Answer {
	if h.lost {
		return h.answers[len(h.answers)-2]
	}
	return h.answers[len(h.answers)-1]
}

// clock is a clock that only the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// disaster is a server that is lost, and the one that comes after it.
type disaster struct {
	t    *testing.T
	ctx  context.Context
	site killtest.Site
	dir  string
	clock
	service *service
	http    *httptest.Server
	app     *killtest.App
	grants  []*history
}

func newDisaster(t *testing.T) *disaster {
	t.Helper()
	d := &disaster{t: t, ctx: t.Context(), site: killtest.NewSite(), dir: t.TempDir(), clock: clock{now: time.UnixMilli(1_700_000_000_000)}}
	d.open()
	if err := d.service.Populate(d.ctx, d.site); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.close() })
	return d
}

func (d *disaster) open() {
	d.service = must[*service](d.t)(openService(d.ctx, databaseIn(d.dir), d.site.Root, sqlite.Options{}, d.Now))
	d.http = httptest.NewServer(d.service.Server)
	d.app = killtest.NewApp(d.site, d.http.URL, killtest.KeptAlive())
}

func (d *disaster) close() {
	d.app.HTTP.CloseIdleConnections()
	d.http.Close()
	if err := d.service.Store.Close(); err != nil {
		d.t.Error(err)
	}
}

// backup copies the database and notes that it did, as an operator's request
// does.
func (d *disaster) backup() {
	d.t.Helper()
	event := issuer.Event{At: d.Now(), Type: issuer.EventBackedUp, Actor: "operator"}
	if err := d.service.Store.Record(d.ctx, event); err != nil {
		d.t.Fatal(err)
	}
	file := must[*os.File](d.t)(os.Create(filepath.Join(d.dir, "backup.db")))
	if err := errors.Join(d.service.Store.Backup(d.ctx, file), file.Close()); err != nil {
		d.t.Fatal(err)
	}
}

// restore ends the server and starts another on the backup.
func (d *disaster) restore() {
	d.t.Helper()
	d.close()
	for _, beside := range []string{"-wal", "-shm"} {
		if _, err := os.Stat(databaseIn(d.dir) + beside); err == nil {
			d.t.Fatalf("a closed database leaves its %s file", beside)
		}
	}
	if err := os.Rename(filepath.Join(d.dir, "backup.db"), databaseIn(d.dir)); err != nil {
		d.t.Fatal(err)
	}
	store := must[*sqlite.DB](d.t)(sqlite.Open(d.ctx, databaseIn(d.dir), sqlite.Options{}))
	_, err := store.Restored(d.ctx, d.Now())
	if err := errors.Join(err, store.Close()); err != nil {
		d.t.Fatal(err)
	}
	d.open()
}

// refresh sends a grant's newest token of all and notes the answer.
func (d *disaster) refresh(h *history) {
	d.t.Helper()
	d.advance(tick)
	last := h.answers[len(h.answers)-1]
	a := must[killtest.Answer](d.t)(d.app.Refresh(d.ctx, h.client, last.Tokens.RefreshToken))
	if !a.OK() || a.Generation() != last.Generation()+1 {
		d.t.Fatalf("grant %s: refresh of generation %d answered %v", h.id(), last.Generation(), a)
	}
	h.answers = append(h.answers, a)
}

// present sends any token of a grant.
func (d *disaster) present(h *history, a killtest.Answer) killtest.Answer {
	d.t.Helper()
	d.advance(tick)
	return must[killtest.Answer](d.t)(d.app.Refresh(d.ctx, h.client, a.Tokens.RefreshToken))
}

func (d *disaster) count(h *history, eventType string) int {
	d.t.Helper()
	events := must[[]issuer.Event](d.t)(d.service.Store.Events(d.ctx, issuer.EventFilter{Grant: h.id(), Type: eventType}))
	return len(events)
}

const (
	restoredGrants  = 80
	refreshesAfter  = 1000
	untouchedGrants = 8 // have no refresh between backup and restore
	// tick is the time between two requests: so short that all of them fit into
	// one retry window.
	tick = 10 * time.Millisecond
)

// lose builds a database, makes a backup, goes on, and restores the backup in
// place of the database. With rotate the signing key is replaced in between.
func lose(t *testing.T, rotate bool) *disaster {
	t.Helper()
	d, random := newDisaster(t), rand.New(rand.NewPCG(1, 2))
	for i := range restoredGrants {
		h := &history{client: []string{killtest.OpaqueClient, killtest.JWTClient}[i%2]}
		h.answers = []killtest.Answer{must[killtest.Answer](t)(d.app.Grant(d.ctx, h.client))}
		d.grants = append(d.grants, h)
		for range random.IntN(6) {
			d.refresh(h)
		}
	}
	// One client has just lost an answer when the backup is made.
	d.refresh(d.grants[0])
	d.grants[0].lost = true
	d.backup()
	for _, h := range d.grants {
		h.backedUp = len(h.answers)
	}
	for i := range refreshesAfter {
		if i == refreshesAfter/2 && rotate {
			admin := issuer.NewAdmin(d.service.Server, d.service.Store)
			if _, err := admin.RotateKeys(d.ctx, issuer.Actor{Name: "operator"}, 0); err != nil {
				t.Fatal(err)
			}
		}
		touched := restoredGrants - untouchedGrants
		x := random.Float64() // squared, so that some grants get many and some next to none
		d.refresh(d.grants[untouchedGrants+int(x*x*float64(touched))])
	}
	d.restore()
	return d
}

// TestRestoredBackupLogsNobodyOut restores a backup after 1,000 further
// refreshes: every client goes on with the token it has, and a thief who has
// an older one is still found.
func TestRestoredBackupLogsNobodyOut(t *testing.T) {
	for _, c := range []struct {
		name   string
		rotate bool
	}{{"the same key", false}, {"key rotated since the backup", true}} {
		t.Run(c.name, func(t *testing.T) {
			d := lose(t, c.rotate)
			d.lostAnswersComeAgain()
			d.everybodyGoesOn()
			d.thievesAreConvicted()
		})
	}
}

// lostAnswersComeAgain has clients retry who were not answered before the
// restore: grants[0] since before the backup, and three since after it.
func (d *disaster) lostAnswersComeAgain() {
	t, h := d.t, d.grants[0]
	if a := d.present(h, h.newest()); !a.Same(h.answers[len(h.answers)-1]) {
		t.Errorf("an answer that was lost before the backup: then %v, now %v, and not the same bytes", h.answers[len(h.answers)-1], a)
	}
	h.lost = false
	for _, h := range d.busy(3) {
		lost := h.answers[len(h.answers)-1]
		h.lost = true
		a := d.present(h, h.newest())
		if !a.OK() || a.Generation() != lost.Generation() {
			t.Errorf("an answer that was lost after the backup: then %v, now %v", lost, a)
		}
		if n := d.count(h, issuer.EventGrantHealed); n != 1 {
			t.Errorf("grant %s was healed %d times by the retry", h.id(), n)
		}
		if again := d.present(h, h.newest()); !again.Same(a) {
			t.Errorf("the retry of a retry: first %v, then %v, and not the same bytes", a, again)
		}
		h.lost, h.answers[len(h.answers)-1] = false, a
	}
}

// busy singles out some of the grants that went far beyond the backup.
func (d *disaster) busy(n int) (found []*history) {
	for _, h := range d.grants[untouchedGrants:] {
		if len(h.answers) >= h.backedUp+6 && h.backedUp >= 3 && len(found) < n && !h.singled {
			h.singled = true
			found = append(found, h)
		}
	}
	if len(found) < n {
		d.t.Fatalf("only %d grants with enough refreshes", len(found))
	}
	return found
}

// everybodyGoesOn has every client refresh with the newest token it has, some
// of them with many processes at once, and then again.
func (d *disaster) everybodyGoesOn() {
	t := d.t
	d.thiefComesFirst(d.busy(1)[0])
	d.convictedBeforeTheClientCame(d.busy(1)[0])
	d.raceToHeal(d.busy(1)[0])
	healed, out := 0, 0
	for _, h := range d.grants {
		want := d.count(h, issuer.EventGrantHealed)
		row := must[issuer.Grant](t)(d.service.Store.Grant(d.ctx, h.id()))
		if !row.RevokedAt.IsZero() {
			continue // the thief's
		}
		if row.Generation < h.newest().Generation() {
			want++
		}
		if a := d.present(h, h.newest()); a.OK() && a.Generation() == h.newest().Generation()+1 {
			h.answers = append(h.answers, a)
		} else {
			out++
			t.Errorf("grant %s, row %d, client %d: answered %v", h.id(), row.Generation, h.newest().Generation(), a)
			continue
		}
		d.refresh(h)
		if n := d.count(h, issuer.EventGrantHealed); n != want {
			t.Errorf("grant %s, row %d, client %d: healed %d times, expected %d", h.id(), row.Generation, h.newest().Generation(), n, want)
		}
		healed += want
	}
	t.Logf("%d grants, %d refreshes since the backup: %d healed, %d logged out", len(d.grants), refreshesAfter, healed, out)
	if healed < len(d.grants)/2 {
		t.Errorf("only %d of %d grants were behind", healed, len(d.grants))
	}
}

// thiefComesFirst has a thief use a token from between backup and restore
// before the client comes back. It is served, since the row is older still; the
// client is served as well, and then the thief is found.
func (d *disaster) thiefComesFirst(h *history) {
	t := d.t
	thief := d.present(h, h.answers[len(h.answers)-4])
	if !thief.OK() {
		t.Errorf("a token from between backup and restore: %v", thief)
	}
	if a := d.present(h, h.newest()); a.OK() && a.Generation() == h.newest().Generation()+1 {
		h.answers = append(h.answers, a)
	} else {
		t.Errorf("the client after the thief: %v", a)
	}
	if n := d.count(h, issuer.EventGrantHealed); n != 2 {
		t.Errorf("healed %d times, expected once for each of the two", n)
	}
	d.convicted(h, thief)
}

// convictedBeforeTheClientCame has a thief use a token that is older than the
// backup.
func (d *disaster) convictedBeforeTheClientCame(h *history) { d.convicted(h, h.answers[0]) }

// raceToHeal has fifty processes of one client come back at once.
func (d *disaster) raceToHeal(h *history) {
	t := d.t
	answers := make([]killtest.Answer, 50)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			a, err := d.app.Refresh(d.ctx, h.client, h.newest().Tokens.RefreshToken)
			if err != nil {
				t.Error(err)
			}
			answers[i] = a
		})
	}
	all.Wait()
	for _, a := range answers {
		if !a.Same(answers[0]) || a.Generation() != h.newest().Generation()+1 {
			t.Fatalf("fifty at once: %v and %v", answers[0], a)
		}
	}
	if n := d.count(h, issuer.EventGrantHealed); n != 1 {
		t.Errorf("fifty at once: healed %d times", n)
	}
	h.answers = append(h.answers, answers[0])
}

// thievesAreConvicted has thieves come after the clients did, with tokens from
// before the backup and from between it and the restore.
func (d *disaster) thievesAreConvicted() {
	convicted := 0
	for _, h := range d.grants[untouchedGrants:] {
		between := len(h.answers) - h.backedUp - 2 // the last two are from after the restore
		if h.backedUp < 2 || between < 2 || d.count(h, issuer.EventReuseDetected) > 0 {
			continue
		}
		d.convicted(h, h.answers[[]int{0, h.backedUp - 1, h.backedUp, h.backedUp + between - 1}[convicted%4]])
		convicted++
	}
	if convicted < 12 {
		d.t.Errorf("only %d grants with tokens for a thief", convicted)
	}
}

// convicted presents an older token and checks that it ends the grant for both
// of its holders, with one event.
func (d *disaster) convicted(h *history, stolen killtest.Answer) {
	t := d.t
	t.Helper()
	if a := d.present(h, stolen); !a.Refuses(oauth.InvalidGrant) {
		t.Errorf("grant %s at generation %d: a stolen token of generation %d answered %v", h.id(), h.newest().Generation(), stolen.Generation(), a)
	}
	row := must[issuer.Grant](t)(d.service.Store.Grant(d.ctx, h.id()))
	if row.RevokedAt.IsZero() || row.RevokedCause != issuer.CauseRefreshTokenReused {
		t.Errorf("grant %s after a theft: revoked at %v, cause %q", h.id(), row.RevokedAt, row.RevokedCause)
	}
	if n := d.count(h, issuer.EventReuseDetected); n != 1 {
		t.Errorf("grant %s after a theft: %d events", h.id(), n)
	}
	if a := d.present(h, h.newest()); !a.Refuses(oauth.InvalidGrant) {
		t.Errorf("grant %s after a theft: the newest token answered %v", h.id(), a)
	}
}

// TestRestoredBackupKnowsNothingOfItsFuture restores a backup in which a grant
// looks as if it were over, or had hardly begun, though its client went on.
func TestRestoredBackupKnowsNothingOfItsFuture(t *testing.T) {
	const idle = 14 * 24 * time.Hour // the default
	for _, c := range []struct {
		name              string
		backup, use, lost time.Duration // after the making of the grant
		purged            bool          // before the client comes back
	}{
		{"a client who comes daily", 12 * time.Hour, 20 * time.Hour, 40 * time.Hour, false},
		{"idle lifetime over since the backup", idle - 12*time.Hour, idle - 2*time.Hour, idle + 10*time.Hour, false},
		{"idle lifetime over since the backup, and purged", idle - 12*time.Hour, idle - 2*time.Hour, idle + 10*time.Hour, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDisaster(t)
			h := &history{client: killtest.OpaqueClient}
			h.answers = []killtest.Answer{must[killtest.Answer](t)(d.app.Grant(d.ctx, h.client))}
			d.advance(c.backup)
			d.backup()
			d.advance(c.use - c.backup)
			d.refresh(h)
			d.advance(c.lost - c.use)
			d.restore()
			if c.purged {
				must[issuer.Purged](t)(d.service.Store.Purge(d.ctx, d.Now(), time.Time{}))
			}
			d.refresh(h)
			if n := d.count(h, issuer.EventGrantHealed); n != 1 {
				t.Errorf("healed %d times", n)
			}
		})
	}
	t.Run("a code that was redeemed since the backup", func(t *testing.T) {
		d := newDisaster(t)
		code := must[killtest.Answer](t)(d.app.Authorize(d.ctx, killtest.JWTClient)).Code
		d.backup()
		h := &history{client: killtest.JWTClient}
		h.answers = []killtest.Answer{must[killtest.Answer](t)(d.app.Redeem(d.ctx, h.client, code))}
		d.refresh(h)
		d.advance(time.Hour)
		d.restore()
		d.refresh(h)
		if a := must[killtest.Answer](t)(d.app.Redeem(d.ctx, h.client, code)); !a.Refuses(oauth.InvalidGrant) {
			t.Errorf("the code again: %v", a)
		}
		if a := d.present(h, h.newest()); !a.Refuses(oauth.InvalidGrant) || d.count(h, issuer.EventCodeReplayed) != 1 {
			t.Errorf("after a replay of the code: %v", a)
		}
	})
}
