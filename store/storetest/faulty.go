package storetest

import (
	"context"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
)

// Faulty is a store whose writes fail on request. Before is asked ahead of each
// method that writes, with the method's name: where it gives an error, that is
// returned and nothing is done. After is asked when a write succeeded: its
// error is returned though the write is done, as when an answer is lost. Either
// may be nil. Reads always pass.
type Faulty struct {
	issuer.Store
	Before, After func(method string) error
}

func (f Faulty) write(method string, apply func() error) error {
	return faulted(f.Before, f.After, method, apply)
}

// faulted calls a method between its two faults.
func faulted(before, after func(string) error, method string, apply func() error) error {
	if before != nil {
		if err := before(method); err != nil {
			return err
		}
	}
	if err := apply(); err != nil || after == nil {
		return err
	}
	return after(method)
}

// faultedAnswer is faulted for a method that answers: with an error it gives the
// zero value.
func faultedAnswer[T any](before, after func(string) error, method string, apply func() (T, error)) (answer T, err error) {
	err = faulted(before, after, method, func() (err error) {
		answer, err = apply()
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	return answer, nil
}

// CreateGrant implements [issuer.GrantStore].
func (f Faulty) CreateGrant(ctx context.Context, g issuer.Grant, e issuer.Event) error {
	return f.write("CreateGrant", func() error { return f.Store.CreateGrant(ctx, g, e) })
}

// Rotate implements [issuer.GrantStore].
func (f Faulty) Rotate(ctx context.Context, r issuer.Rotation) (g issuer.Grant, rotated bool, err error) {
	err = f.write("Rotate", func() (err error) {
		g, rotated, err = f.Store.Rotate(ctx, r)
		return err
	})
	if err != nil {
		return issuer.Grant{}, false, err
	}
	return g, rotated, nil
}

// Retried implements [issuer.GrantStore].
func (f Faulty) Retried(ctx context.Context, id issuer.GrantID) error {
	return f.write("Retried", func() error { return f.Store.Retried(ctx, id) })
}

// Revoke implements [issuer.GrantStore].
func (f Faulty) Revoke(ctx context.Context, id issuer.GrantID, at time.Time, e issuer.Event) (did bool, err error) {
	err = f.write("Revoke", func() (err error) {
		did, err = f.Store.Revoke(ctx, id, at, e)
		return err
	})
	return did && err == nil, err
}

// RevokeAccessToken implements [issuer.GrantStore].
func (f Faulty) RevokeAccessToken(ctx context.Context, jti string, expires time.Time, e issuer.Event) error {
	return f.write("RevokeAccessToken", func() error { return f.Store.RevokeAccessToken(ctx, jti, expires, e) })
}

// Record implements [issuer.GrantStore].
func (f Faulty) Record(ctx context.Context, e issuer.Event) error {
	return f.write("Record", func() error { return f.Store.Record(ctx, e) })
}

// Purge implements [issuer.GrantStore].
func (f Faulty) Purge(ctx context.Context, before, eventsBefore time.Time) (purged issuer.Purged, err error) {
	err = f.write("Purge", func() (err error) {
		purged, err = f.Store.Purge(ctx, before, eventsBefore)
		return err
	})
	return purged, err
}

// PutClient implements [issuer.Registry].
func (f Faulty) PutClient(ctx context.Context, c issuer.Client, e issuer.Event) error {
	return f.write("PutClient", func() error { return f.Store.PutClient(ctx, c, e) })
}

// DeleteClient implements [issuer.Registry].
func (f Faulty) DeleteClient(ctx context.Context, id string, e issuer.Event) error {
	return f.write("DeleteClient", func() error { return f.Store.DeleteClient(ctx, id, e) })
}

// PutUser implements [issuer.Registry].
func (f Faulty) PutUser(ctx context.Context, u issuer.User, e issuer.Event) error {
	return f.write("PutUser", func() error { return f.Store.PutUser(ctx, u, e) })
}

// DeleteUser implements [issuer.Registry].
func (f Faulty) DeleteUser(ctx context.Context, username string, e issuer.Event) error {
	return f.write("DeleteUser", func() error { return f.Store.DeleteUser(ctx, username, e) })
}

// RehashClient implements [issuer.Registry].
func (f Faulty) RehashClient(ctx context.Context, id string, old, verifier secret.Verifier, e issuer.Event) (bool, error) {
	return faultedAnswer(f.Before, f.After, "RehashClient", func() (bool, error) { return f.Store.RehashClient(ctx, id, old, verifier, e) })
}

// RehashUser implements [issuer.Registry].
func (f Faulty) RehashUser(ctx context.Context, username string, old, verifier secret.Verifier, e issuer.Event) (bool, error) {
	return faultedAnswer(f.Before, f.After, "RehashUser", func() (bool, error) { return f.Store.RehashUser(ctx, username, old, verifier, e) })
}

// Import implements [issuer.Importer]. A dry run writes nothing, and passes.
func (f Faulty) Import(ctx context.Context, batch issuer.Batch) (issuer.Imported, error) {
	if batch.DryRun {
		return f.Store.Import(ctx, batch)
	}
	return faultedAnswer(f.Before, f.After, "Import", func() (issuer.Imported, error) { return f.Store.Import(ctx, batch) })
}

// CountUses implements [issuer.UseStore].
func (f Faulty) CountUses(ctx context.Context, uses []issuer.Use) error {
	return f.write("CountUses", func() error { return f.Store.CountUses(ctx, uses) })
}

// ForgetUses implements [issuer.UseStore].
func (f Faulty) ForgetUses(ctx context.Context, clientID string) error {
	return f.write("ForgetUses", func() error { return f.Store.ForgetUses(ctx, clientID) })
}

// AddKey implements [secret.KeyStore].
func (f Faulty) AddKey(ctx context.Context, record secret.KeyRecord) error {
	return f.write("AddKey", func() error { return f.Store.AddKey(ctx, record) })
}

// DeleteKey implements [secret.KeyStore].
func (f Faulty) DeleteKey(ctx context.Context, id uint32) error {
	return f.write("DeleteKey", func() error { return f.Store.DeleteKey(ctx, id) })
}
