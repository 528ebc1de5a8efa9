package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/sqlite"
)

// pair is a current database and a copy of an older one, which compare reads.
type pair struct {
	t               *testing.T
	path            string
	current, copied *sqlite.DB
	now             time.Time
}

func newPair(t *testing.T) *pair {
	t.Helper()
	dir := t.TempDir()
	open := func(name string) *sqlite.DB {
		db, err := sqlite.Open(t.Context(), filepath.Join(dir, name), sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db
	}
	return &pair{t, filepath.Join(dir, "current"), open("current"), open("copied"), time.Now().UTC().Truncate(time.Millisecond)}
}

func (p *pair) compare() *restoreReport {
	p.t.Helper()
	p.current.Close()
	report, err := compare(p.t.Context(), p.path, p.copied, p.now)
	if err != nil || report.Unknown != "" {
		p.t.Fatalf("%+v, %v", report, err)
	}
	return report
}

// key adds a key that was made some hours ago, by a server with a root key.
func (p *pair) key(db *sqlite.DB, id uint32, root string, hours int) {
	p.t.Helper()
	at := p.now.Add(-time.Duration(hours) * time.Hour)
	if err := db.AddKey(p.t.Context(), secret.KeyRecord{ID: id, Root: root, CreatedAt: at, ActiveFrom: at}); err != nil {
		p.t.Fatal(err)
	}
}

func TestRestoreKeys(t *testing.T) {
	type key struct {
		id    uint32
		hours int
	}
	for _, test := range []struct {
		name         string
		root         string // of the current database
		current, old []key
		want         []uint32
		told         []string
	}{
		{"as they were", "r", []key{{1, 9}}, []key{{1, 9}}, []uint32{1}, []string{}},
		{"one made since", "r", []key{{1, 9}, {2, 1}}, []key{{1, 9}}, []uint32{1, 2}, []string{"key 2 was made since the backup and is kept"}},
		{"one deleted since", "r", []key{{2, 8}}, []key{{1, 9}, {2, 8}}, []uint32{2}, []string{"key 1 was deleted since the backup, and is again"}},
		{"made and deleted since", "r", []key{{2, 8}, {3, 1}}, []key{{1, 9}, {2, 8}}, []uint32{2, 3},
			[]string{"key 3 was made since the backup and is kept", "key 1 was deleted since the backup, and is again"}},
		{"all deleted since", "r", []key{{2, 1}}, []key{{1, 9}}, []uint32{1, 2}, []string{"key 2 was made since the backup and is kept",
			"key 1 is in force again; if it was deleted since the backup, run `evergrant key delete 1`"}},
		{"a fresh database", "r", []key{{1, 1}}, []key{{1, 9}, {2, 8}}, []uint32{1, 2}, []string{}},
		{"of another server", "other", []key{{2, 1}, {3, 1}}, []key{{1, 9}}, []uint32{1}, []string{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPair(t)
			for _, k := range test.current {
				p.key(p.current, k.id, test.root, k.hours)
			}
			for _, k := range test.old {
				p.key(p.copied, k.id, "r", k.hours)
			}
			report := p.compare()
			if !slices.Equal(report.Changed, test.told) {
				t.Errorf("told %q, want %q", report.Changed, test.told)
			}
			keys, err := p.copied.Keys(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var ids []uint32
			for _, k := range keys {
				ids = append(ids, k.ID)
			}
			if !slices.Equal(ids, test.want) {
				t.Errorf("keys are %v, want %v", ids, test.want)
			}
		})
	}
}

// TestRestoreKeyInUse restores a copy whose connections are sealed under a key
// that was deleted since: without it their tokens would be lost.
func TestRestoreKeyInUse(t *testing.T) {
	p := newPair(t)
	p.key(p.current, 2, "r", 8)
	p.key(p.copied, 1, "r", 9)
	p.key(p.copied, 2, "r", 8)
	row := keeper.Connection{
		ID: "ann", Provider: "acme", State: keeper.Active, Generation: 1, CreatedAt: p.now, UpdatedAt: p.now,
		Tokens: secret.Sealed{KeyID: 1, Data: []byte("sealed")},
	}
	if err := p.copied.Keeper().Create(t.Context(), row, keeper.Event{At: p.now, Type: keeper.EventCreated, Connection: "ann", Actor: "operator"}); err != nil {
		t.Fatal(err)
	}
	report := p.compare()
	told := slices.ContainsFunc(report.Changed, func(line string) bool {
		return strings.HasPrefix(line, "key 1 was deleted since the backup and is in force again, because tokens in the copy are sealed under it")
	})
	keys, err := p.copied.Keys(t.Context())
	if !told || err != nil || len(keys) != 2 {
		t.Errorf("told %q; %d keys, %v", report.Changed, len(keys), err)
	}
}

// grant adds a grant that never expires to a database.
func (p *pair) grant(db *sqlite.DB, id issuer.GrantID) {
	p.t.Helper()
	at := p.now.Add(-time.Hour)
	grant := issuer.Grant{ID: id, ClientID: "c", Subject: "u", Scope: oauth.Scope{"read"}, Generation: 1, KeyID: 1, CreatedAt: at, RotatedAt: at}
	event := issuer.Event{At: at, Type: issuer.EventGrantCreated, Grant: id, ClientID: "c", Subject: "u", Actor: "client:c"}
	if err := db.CreateGrant(p.t.Context(), grant, event); err != nil {
		p.t.Fatal(err)
	}
}

// TestRestoreEndedGrants has grants that the current database has no row of.
func TestRestoreEndedGrants(t *testing.T) {
	p := newPair(t)
	p.key(p.current, 1, "r", 9)
	p.key(p.copied, 1, "r", 9)
	convicted, unknown, both := issuer.NewGrantID(), issuer.NewGrantID(), issuer.NewGrantID()
	for _, id := range []issuer.GrantID{convicted, unknown, both} {
		p.grant(p.copied, id)
	}
	p.grant(p.current, both)
	event := issuer.Event{At: p.now.Add(-time.Minute), Type: issuer.EventReuseDetected, Grant: convicted, Actor: "client:c", Cause: issuer.CauseRefreshTokenReused}
	if err := p.current.Record(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	report := p.compare()
	if len(report.Revoked) != 1 || report.Revoked[0].ID != convicted || len(report.Lost) != 0 {
		t.Errorf("report is %+v", report)
	}
	for id, cause := range map[issuer.GrantID]issuer.Cause{convicted: issuer.CauseRefreshTokenReused, unknown: "", both: ""} {
		grant, err := p.copied.Grant(t.Context(), id)
		if err != nil || grant.RevokedCause != cause {
			t.Errorf("grant is %+v, %v; want cause %q", grant, err, cause)
		}
	}
}

// TestRestorePages has more grants, clients and users than one page of a list.
func TestRestorePages(t *testing.T) {
	p := newPair(t)
	p.key(p.current, 1, "r", 9)
	p.key(p.copied, 1, "r", 9)
	for i := range 120 {
		name := string([]byte{'a' + byte(i/10), '0' + byte(i%10)})
		event := issuer.Event{At: p.now, Type: issuer.EventClientSaved, Actor: "server"}
		client := issuer.Client{ID: name, GrantTypes: []string{oauth.GrantRefreshToken}, UpdatedAt: p.now}
		user := issuer.User{Username: name, Password: secret.Slow(), UpdatedAt: p.now}
		for _, db := range []*sqlite.DB{p.current, p.copied} {
			if err := db.PutClient(t.Context(), client, event); err != nil {
				t.Fatal(err)
			}
			if err := db.PutUser(t.Context(), user, event); err != nil {
				t.Fatal(err)
			}
		}
	}
	event := issuer.Event{At: p.now, Type: issuer.EventUserDeleted, Actor: "operator"}
	if err := p.current.DeleteUser(t.Context(), "l9", event); err != nil {
		t.Fatal(err)
	}
	report := p.compare()
	if want := []string{"user l9 was deleted since the backup and is there again"}; !slices.Equal(report.Changed, want) {
		t.Errorf("changed %q, want %q", report.Changed, want)
	}
}
