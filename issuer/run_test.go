package issuer_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evergrant/evergrant/internal/testdb"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/storetest"
	"github.com/prometheus/client_golang/prometheus"
)

// runner is a server whose Run goes on in a bubble of synctest: time is the
// bubble's, and requests go without a network, which the bubble cannot see
// through.
type runner struct {
	t      *testing.T
	db     *testdb.DB
	server *issuer.Server
	admin  *issuer.Admin
	ring   *secret.Ring
	log    journal
	stop   func() error
}

func newRunner(t *testing.T, fail func(method string) error) *runner {
	t.Helper()
	r := &runner{t: t}
	var err error
	r.db, err = testdb.New(t).Open(t.Context())
	r.must(err)
	t.Cleanup(func() { r.db.Close() })
	r.ring, err = secret.OpenRing(t.Context(), secret.NewRoot(), r.db, time.Now, false)
	r.must(err)
	r.server, err = issuer.New(issuer.Config{
		Issuer: "https://issuer.example", Keys: r.ring, EventRetention: 6 * time.Hour,
		Store: storetest.Faulty{Store: r.db, Before: fail}, Log: slog.New(slog.NewTextHandler(&r.log, nil)),
		Scopes: map[string]string{"read": "Read"}, Metrics: prometheus.NewRegistry(),
	})
	r.must(err)
	r.admin = issuer.NewAdmin(r.server, r.db)
	_, err = r.admin.SaveClient(t.Context(), operator, issuer.Client{
		ID: app.id, Secrets: []secret.Verifier{secret.NewVerifier(secret.NewText(app.secret))},
		GrantTypes: []string{oauth.GrantPassword, oauth.GrantRefreshToken}, Policy: issuer.Policy{Format: issuer.FormatOpaque, RefreshTokenLifetime: issuer.Lifetime(90 * time.Minute)},
	})
	r.must(err)
	_, err = r.admin.SaveUser(t.Context(), operator, issuer.User{Username: owner, Password: secret.NewVerifier(secret.NewText(ownerPassword))})
	r.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.server.Run(ctx) }()
	r.stop = func() error {
		cancel()
		return <-ended
	}
	return r
}

func (r *runner) must(err error) {
	if err != nil {
		r.t.Helper()
		r.t.Fatal(err)
	}
}

func (r *runner) post(pairs ...string) reply {
	req := httptest.NewRequest("POST", issuer.TokenPath, strings.NewReader(formOf(pairs...).Encode()))
	req.Header.Set("Content-Type", oauth.FormType)
	req.Header.Set("Authorization", oauth.BasicHeader(app.id, app.secret))
	w := httptest.NewRecorder()
	r.server.ServeHTTP(w, req)
	return reply{w.Code, w.Header(), w.Body.String()}
}

func (r *runner) login() oauth.TokenResponse {
	r.t.Helper()
	return r.post("grant_type", "password", "username", owner, "password", ownerPassword).tokens(r.t)
}

func (r *runner) rows() map[string]int64 {
	r.t.Helper()
	stats, err := r.db.Stats(r.t.Context())
	r.must(err)
	return stats.Rows
}

// TestRunPurges: what is dead goes within minutes, and what lives stays.
func TestRunPurges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRunner(t, nil)
		dies, lives := r.login(), r.login()
		for range 4 {
			time.Sleep(time.Hour)
			lives = r.post("grant_type", "refresh_token", "refresh_token", lives.RefreshToken).tokens(t)
		}
		synctest.Wait()
		if rows := r.rows(); rows["grants"] != 1 || rows["events"] == 0 {
			t.Errorf("rows %v, want the grant that is refreshed, and its event", rows)
		}
		r.post("grant_type", "refresh_token", "refresh_token", dies.RefreshToken).wantError(t, 400, oauth.InvalidGrant)
		r.post("grant_type", "refresh_token", "refresh_token", lives.RefreshToken).tokens(t)
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if rows := r.rows(); rows["events"] != 0 || rows["grants"] != 0 || rows["clients"] != 1 || rows["users"] != 1 || rows["keys"] != 1 {
			t.Errorf("rows %v", rows)
		}
		if err := r.stop(); err != nil {
			t.Errorf("Run ended with %v", err)
		}
		if r.log.String() != "" {
			t.Errorf("log: %s", r.log.String())
		}
	})
}

// TestRunTakesOverKeys: what another process added or deleted holds within
// seconds.
func TestRunTakesOverKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRunner(t, nil)
		before := r.ring.Records()[0]
		added := secret.KeyRecord{ID: 2, Root: before.Root, CreatedAt: time.Now(), ActiveFrom: time.Now()}
		r.must(r.db.AddKey(t.Context(), added))
		if r.ring.Current().ID != 1 {
			t.Error("the key is known before it was looked for")
		}
		time.Sleep(16 * time.Second)
		synctest.Wait()
		if r.ring.Current().ID != 2 {
			t.Error("the new key is not known")
		}
		r.must(r.db.DeleteKey(t.Context(), 1))
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if _, err := r.ring.Key(1); !errors.Is(err, secret.ErrUnknownKey) {
			t.Errorf("the deleted key: %v", err)
		}
		r.must(r.stop())
	})
}

// TestRunGoesOnAfterFailures: it says so, and tries again.
func TestRunGoesOnAfterFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var failing atomic.Bool
		failing.Store(true)
		r := newRunner(t, func(method string) error {
			if method == "Purge" && failing.Load() {
				return issuer.ErrUnavailable
			}
			return nil
		})
		r.login()
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if n := r.rows()["grants"]; n != 1 || !strings.Contains(r.log.String(), "purge failed") {
			t.Errorf("%d grants, log %s", n, r.log.String())
		}
		failing.Store(false)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := r.rows()["grants"]; n != 0 {
			t.Errorf("%d grants", n)
		}
		wrong := secret.KeyRecord{ID: 2, Root: "of another", CreatedAt: time.Now(), ActiveFrom: time.Now()}
		r.must(r.db.AddKey(t.Context(), wrong))
		time.Sleep(time.Minute)
		synctest.Wait()
		if !strings.Contains(r.log.String(), "keys were not reloaded") || r.ring.Current().ID != 1 {
			t.Errorf("key %d, log %s", r.ring.Current().ID, r.log.String())
		}
		r.login()
		r.must(r.stop())
	})
}

// TestAMonth: a client that refreshes every hour leaves one row, and no events.
func TestAMonth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRunner(t, nil)
		r.must(r.stop())
		tokens := r.login()
		for range 30 {
			for range 24 {
				time.Sleep(time.Hour)
				tokens = r.post("grant_type", "refresh_token", "refresh_token", tokens.RefreshToken).tokens(t)
			}
			_, err := r.admin.Purge(t.Context())
			r.must(err)
		}
		if rows := r.rows(); rows["grants"] != 1 || rows["events"] != 0 {
			t.Errorf("rows %v", rows)
		}
	})
}
