package postgres

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
)

// TestWritesAreSettled: a write whose answer was lost is answered by what the
// database holds then: done, or not known.
func TestWritesAreSettled(t *testing.T) {
	url := pgtest.Database(t)
	distant, w := through(t, url)
	db, whole := opened(t, distant), opened(t, url)
	ctx, at := t.Context(), time.UnixMilli(1_900_000_000_000).UTC()
	key := secret.KeyRecord{ID: 7, Root: "marked", CreatedAt: at, ActiveFrom: at, SealedRSA: []byte("x")}
	for _, step := range []struct {
		what, sent string
		write      func() error
	}{
		{"AddKey", "marked", func() error { return db.AddKey(ctx, key) }},
		{"PutClient", "marked", func() error { return db.PutClient(ctx, issuer.Client{ID: "marked"}, someEvent("x")) }},
		{"PutUser", "marked", func() error { return db.PutUser(ctx, issuer.User{Username: "marked"}, someEvent("x")) }},
		{"RevokeAccessToken", "marked", func() error { return db.RevokeAccessToken(ctx, "marked", at, someEvent("x")) }},
		{"DeleteKey", "commit\x00", func() error { return db.DeleteKey(ctx, 7) }},
		{"DeleteClient", "marked", func() error { return db.DeleteClient(ctx, "marked", someEvent("x")) }},
		{"DeleteUser", "marked", func() error { return db.DeleteUser(ctx, "marked", someEvent("x")) }},
	} {
		before := lastEvent(t, whole)
		for _, after := range []bool{false, true} {
			w.breakAt(step.sent, after)
			err := step.write()
			if after && err != nil {
				t.Errorf("%s was done, and the answer lost: %v", step.what, err)
			}
			if !after && (!errors.Is(err, issuer.ErrUnavailable) || !strings.Contains(err.Error(), "not known")) {
				t.Errorf("%s was not done: %v", step.what, err)
			}
			if !w.broke() {
				t.Errorf("%s did not meet the broken wire", step.what)
			}
		}
		want := before + 1
		if strings.HasSuffix(step.what, "Key") {
			want = before // records no event
		}
		if last := lastEvent(t, whole); last != want {
			t.Errorf("%s: the last event is %d, want %d", step.what, last, want)
		}
	}
	if records, err := whole.Keys(ctx); err != nil || len(records) != 0 {
		t.Errorf("keys %v, %v", records, err)
	}
	if revoked, err := whole.AccessTokenRevoked(ctx, "marked"); err != nil || !revoked {
		t.Errorf("revoked %v, %v", revoked, err)
	}
	// What is recorded and no more cannot be proven.
	for _, after := range []bool{false, true} {
		w.breakAt("marked", after)
		if err := db.Record(ctx, someEvent("marked")); !errors.Is(err, issuer.ErrUnavailable) {
			t.Errorf("Record, done %v: %v", after, err)
		}
	}
}
