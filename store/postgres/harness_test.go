package postgres

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
)

// openedWith is opened with options.
func openedWith(t testing.TB, url string, o Options) *DB {
	t.Helper()
	db, err := Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// usualGrant is a grant like most.
func usualGrant() issuer.Grant {
	at := time.UnixMilli(1_700_000_000_000).UTC()
	return issuer.Grant{
		ID: issuer.NewGrantID(), ClientID: "mobile-banking-app", Subject: "7c0f6a9e-4a57-4d3f-9d67-0b6f4a8f2c11",
		Scope:      oauth.Scope{"openid", "profile", "offline_access", "accounts:read", "transactions:read"},
		Generation: 1, KeyID: 1, CreatedAt: at, RotatedAt: at,
		ExpiresAt: at.Add(14 * 24 * time.Hour), AccessExpiresAt: at.Add(time.Hour),
	}
}

// created stores usual grants.
func created(t testing.TB, db *DB, count int) []issuer.Grant {
	t.Helper()
	grants := make([]issuer.Grant, count)
	var creating sync.WaitGroup
	for i := range grants {
		grants[i] = usualGrant()
		creating.Go(func() {
			if err := db.CreateGrant(t.Context(), grants[i], event(issuer.EventGrantCreated, grants[i])); err != nil {
				t.Error(err)
			}
		})
	}
	creating.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return grants
}

func event(kind string, g issuer.Grant) issuer.Event {
	return issuer.Event{At: g.CreatedAt, Type: kind, Grant: g.ID, ClientID: g.ClientID, Actor: "server"}
}

// next is the usual step of a grant.
func next(g issuer.Grant) issuer.Rotation {
	at := g.RotatedAt.Add(time.Second)
	return issuer.Rotation{
		ID: g.ID, ClientID: g.ClientID, From: g.Generation, To: g.Generation + 1, KeyID: g.KeyID,
		At: at, ExpiresAt: at.Add(14 * 24 * time.Hour), AccessExpiresAt: at.Add(time.Hour),
	}
}

// stepped makes the usual step of a grant, which must be good.
func stepped(t testing.TB, db *DB, g issuer.Grant) issuer.Grant {
	t.Helper()
	got, rotated, err := db.Rotate(t.Context(), next(g))
	if err != nil || !rotated || got.Generation != g.Generation+1 {
		t.Fatalf("%+v, %v, %v", got, rotated, err)
	}
	return got
}

// refused makes the usual step of a grant, which must be unavailable.
func refused(t testing.TB, db *DB, g issuer.Grant) error {
	t.Helper()
	got, rotated, err := db.Rotate(t.Context(), next(g))
	if rotated || !errors.Is(err, issuer.ErrUnavailable) {
		t.Fatalf("%+v, %v, %v", got, rotated, err)
	}
	return err
}
