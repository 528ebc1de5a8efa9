package sqlite

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() storetest.Database {
		path := filepath.Join(t.TempDir(), "evergrant.db")
		return func() storetest.Database {
			db := open(t, path, Options{})
			return storetest.Database{Store: db, Keeper: db.Keeper(), Hooks: db}
		}
	})
}

// open opens a database; whoever closes it first, it is closed in the end.
func open(t testing.TB, path string, o Options) *DB {
	t.Helper()
	db, err := Open(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// writes calls every method of a store that writes, each with good arguments.
func writes(ctx context.Context, s issuer.Store, g issuer.Grant) map[string]func() error {
	now, e := g.CreatedAt, issuer.Event{At: g.CreatedAt, Type: "test", Actor: "server"}
	return map[string]func() error{
		"CreateGrant": func() error { return s.CreateGrant(ctx, usualGrant(now), e) },
		"Rotate": func() error {
			_, _, err := s.Rotate(ctx, next(g))
			return err
		},
		"Retried": func() error { return s.Retried(ctx, g.ID) },
		"Revoke": func() error {
			_, err := s.Revoke(ctx, g.ID, now, e)
			return err
		},
		"RevokeAccessToken": func() error { return s.RevokeAccessToken(ctx, "jti", now, e) },
		"Record":            func() error { return s.Record(ctx, e) },
		"Purge": func() error {
			_, err := s.Purge(ctx, now, time.Time{})
			return err
		},
		"PutClient":    func() error { return s.PutClient(ctx, issuer.Client{ID: "shop"}, e) },
		"DeleteClient": func() error { return s.DeleteClient(ctx, "gone", e) },
		"PutUser":      func() error { return s.PutUser(ctx, issuer.User{Username: "alice"}, e) },
		"DeleteUser":   func() error { return s.DeleteUser(ctx, "gone", e) },
		"RehashClient": func() error {
			_, err := s.RehashClient(ctx, "gone", "a", "b", e)
			return err
		},
		"RehashUser": func() error {
			_, err := s.RehashUser(ctx, "gone", "a", "b", e)
			return err
		},
		"Import": func() error {
			_, err := s.Import(ctx, issuer.Batch{Grants: []issuer.Grant{usualGrant(now)}, Event: e})
			return err
		},
		"CountUses":  func() error { return s.CountUses(ctx, []issuer.Use{{ClientID: "gone", Habit: issuer.HabitRetry}}) },
		"ForgetUses": func() error { return s.ForgetUses(ctx, "gone") },
		"AddKey":     func() error { return s.AddKey(ctx, secret.KeyRecord{ID: 1}) },
		"DeleteKey":  func() error { return s.DeleteKey(ctx, 1) },
	}
}

// TestFaulty checks the fault wrapper of storetest on a real store: what failed
// before is not done, what failed after is, and no fault is no change. A dry run
// writes nothing, and has no fault.
func TestFaulty(t *testing.T) {
	fault := errors.New("fault")
	fail := func(string) error { return fault }
	for _, c := range []struct {
		name          string
		before, after func(string) error
		fails, writes bool
	}{{"before", fail, nil, true, false}, {"after", nil, fail, true, true}, {"never", nil, nil, false, true}} {
		t.Run(c.name, func(t *testing.T) {
			db := open(t, tempPath(t), Options{})
			g := create1(t, db)
			was, err := db.Stats(t.Context())
			check(t, err)
			calls := writes(t.Context(), storetest.Faulty{Store: db, Before: c.before, After: c.after}, g)
			for name, call := range calls {
				err := call()
				if errors.Is(err, fault) != c.fails && !errors.Is(err, issuer.ErrNotFound) {
					t.Errorf("%s: %v", name, err)
				}
			}
			faulty := storetest.Faulty{Store: db, Before: c.before, After: c.after}
			if done, err := faulty.Import(t.Context(), issuer.Batch{Grants: []issuer.Grant{g}, DryRun: true}); err != nil || done.Grants.Unchanged != 1 {
				t.Errorf("dry run: %+v, %v", done, err)
			}
			got, err := db.Grant(t.Context(), g.ID)
			check(t, err)
			is, err := db.Stats(t.Context())
			check(t, err)
			if got.RevokedAt.IsZero() == c.writes || (is.Rows["events"] > was.Rows["events"]) != c.writes || is.Rows["clients"] == 1 != c.writes {
				t.Errorf("%+v, rows %v after %v", got, is.Rows, was.Rows)
			}
		})
	}
	var names []string
	db := open(t, tempPath(t), Options{})
	calls := writes(t.Context(), storetest.Faulty{Store: db, Before: func(method string) error {
		names = append(names, method)
		return nil
	}}, create1(t, db))
	for want, call := range calls {
		call()
		if got := names[len(names)-1]; got != want {
			t.Errorf("%s is called %s", want, got)
		}
	}
	if slices.Sort(names); len(slices.Compact(names)) != len(calls) {
		t.Errorf("names %v", names)
	}
}
