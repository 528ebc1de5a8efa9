package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/sqlite"
)

// restoreReport is what a restore did and what it lost.
type restoreReport struct {
	Backup   string `json:"backup"`
	Replaced string `json:"replaced,omitempty"` // the database as it was, under its new name
	// Unknown says why it cannot be known what was lost; the lists are empty then.
	Unknown string         `json:"unknown,omitempty"`
	Lost    []issuer.Grant `json:"lost_grants"`   // alive, and made since the backup
	Revoked []issuer.Grant `json:"revoked_again"` // revoked since the backup, and again in the restored database
	// LostConnections were made since the backup.
	LostConnections []keeper.Connection `json:"lost_connections"`
	// InDoubt are connections that may have been refreshed since the backup.
	InDoubt []doubtful `json:"connections_in_doubt"`
	// Changed tells of keys, clients, users and connections that were made,
	// changed or deleted since the backup.
	Changed []string `json:"changed"`
	// RevokedAccessTokens counts access tokens that were revoked since, and are
	// good again until they expire.
	RevokedAccessTokens int `json:"revoked_access_tokens"`
}

// restoration compares the database that is replaced with the copy of the
// backup that will take its place.
type restoration struct {
	current, copied *sqlite.DB
	now             time.Time
	report          *restoreReport
}

// compare looks for what the current database knows and the copy of a backup
// does not. Revocations and deleted keys are put into the copy, since forgetting
// them would bring back to life what was stolen.
func compare(ctx context.Context, database string, copied *sqlite.DB, now time.Time) (*restoreReport, error) {
	report := &restoreReport{Lost: []issuer.Grant{}, Revoked: []issuer.Grant{}, LostConnections: []keeper.Connection{}, Changed: []string{}}
	if used, err := hasContent(database); err != nil || !used {
		report.Unknown = "there is no database here that the backup replaces"
		return report, err
	}
	current, err := sqlite.Open(ctx, database, sqlite.Options{})
	if err == nil {
		defer current.Close()
		err = current.Check(ctx)
	}
	if err != nil {
		report.Unknown = "the database that the backup replaces cannot be read (" + err.Error() + ")"
		return report, nil
	}
	r := &restoration{current, copied, now, report}
	for _, step := range []func(context.Context) error{r.accessTokens, r.keys, r.grants, r.endedGrants, r.clients, r.users, r.connections} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("comparing the backup with the database that it replaces: %w", err)
		}
	}
	return report, nil
}

func (r *restoration) changed(format string, args ...any) {
	r.report.Changed = append(r.report.Changed, fmt.Sprintf(format, args...))
}

// grants goes through the current ones.
func (r *restoration) grants(ctx context.Context) error {
	return eachGrant(ctx, r.current, func(g issuer.Grant) error {
		old, err := r.copied.Grant(ctx, g.ID)
		switch {
		case errors.Is(err, issuer.ErrNotFound):
			if g.Live(r.now) {
				r.report.Lost = append(r.report.Lost, g)
			}
			return nil
		case err != nil:
			return err
		case !g.RevokedAt.IsZero() && old.RevokedAt.IsZero():
			return r.revokeAgain(ctx, old, g.RevokedAt, g.RevokedCause)
		}
		return nil
	})
}

// endedGrants goes through those of the backup that the current database has no
// row of any more. One that was revoked has been purged since, and its event
// tells.
func (r *restoration) endedGrants(ctx context.Context) error {
	return eachGrant(ctx, r.copied, func(old issuer.Grant) error {
		if !old.Live(r.now) {
			return nil
		}
		if _, err := r.current.Grant(ctx, old.ID); !errors.Is(err, issuer.ErrNotFound) {
			return err
		}
		events, err := r.current.Events(ctx, issuer.EventFilter{Grant: old.ID})
		if err != nil {
			return err
		}
		revoking := []string{issuer.EventGrantRevoked, issuer.EventReuseDetected, issuer.EventCodeReplayed}
		for _, event := range events {
			if slices.Contains(revoking, event.Type) {
				return r.revokeAgain(ctx, old, event.At, event.Cause)
			}
		}
		return nil
	})
}

func (r *restoration) revokeAgain(ctx context.Context, g issuer.Grant, at time.Time, cause issuer.Cause) error {
	event := issuer.Event{
		At: r.now, Type: issuer.EventGrantRevoked, Grant: g.ID, ClientID: g.ClientID, Subject: g.Subject, Actor: "operator",
		Cause: cause, Detail: "revoked after the backup was made, and again by its restore",
	}
	if _, err := r.copied.Revoke(ctx, g.ID, at, event); err != nil {
		return err
	}
	g.RevokedAt, g.RevokedCause = at, cause
	r.report.Revoked = append(r.report.Revoked, g)
	return nil
}

// keys takes over those that were made since the backup, whose tokens are with
// clients by now, and deletes again those that were deleted.
func (r *restoration) keys(ctx context.Context) error {
	current, err := r.current.Keys(ctx)
	if err != nil {
		return err
	}
	old, err := r.copied.Keys(ctx)
	if err != nil {
		return err
	}
	if len(current) == 0 || current[0].Root != old[0].Root {
		return nil // of another server, whose keys say nothing of these
	}
	newestOld, newest := old[len(old)-1].ID, current[len(current)-1].ID
	for _, key := range current {
		if key.ID > newestOld {
			if err := r.copied.AddKey(ctx, key); err != nil {
				return err
			}
			r.changed("key %d was made since the backup and is kept", key.ID)
		}
	}
	find := func(id uint32) *secret.KeyRecord {
		if i := slices.IndexFunc(current, func(k secret.KeyRecord) bool { return k.ID == id }); i >= 0 {
			return &current[i]
		}
		return nil
	}
	sameServer := slices.ContainsFunc(old, func(key secret.KeyRecord) bool {
		now := find(key.ID)
		return now != nil && now.CreatedAt.Equal(key.CreatedAt)
	})
	for _, key := range old {
		switch {
		case find(key.ID) != nil || key.ID > newest:
		case !sameServer:
			r.changed("key %d is in force again; if it was deleted since the backup, run `evergrant key delete %d`", key.ID, key.ID)
		default:
			err := r.copied.DeleteKey(ctx, key.ID)
			switch {
			case errors.Is(err, secret.ErrKeyInUse):
				r.changed("key %d was deleted since the backup and is in force again, because tokens in the copy are sealed under it; run `evergrant key delete %d` when they are sealed anew", key.ID, key.ID)
			case err != nil:
				return err
			default:
				r.changed("key %d was deleted since the backup, and is again", key.ID)
			}
		}
	}
	return nil
}

// accessTokens counts the revocations since the newest event of the backup,
// before anything is added to its events.
func (r *restoration) accessTokens(ctx context.Context) error {
	newest, err := r.copied.Events(ctx, issuer.EventFilter{Limit: 1})
	if err != nil || len(newest) == 0 {
		return err
	}
	filter := issuer.EventFilter{Type: issuer.EventAccessTokenRevoked}
	for {
		events, err := r.current.Events(ctx, filter)
		if err != nil || len(events) == 0 {
			return err
		}
		for _, event := range events {
			if !event.At.After(newest[0].At) {
				return nil
			}
			r.report.RevokedAccessTokens++
			filter.Before = event.ID
		}
	}
}

func (r *restoration) clients(ctx context.Context) error {
	name := func(c issuer.Client) (string, time.Time) { return c.ID, c.UpdatedAt }
	return differences(ctx, r, "client", (*sqlite.DB).Clients, name)
}

func (r *restoration) users(ctx context.Context) error {
	name := func(u issuer.User) (string, time.Time) { return u.Username, u.UpdatedAt }
	return differences(ctx, r, "user", (*sqlite.DB).Users, name)
}

// differences tells of clients or users that are not as they are now.
func differences[T any](ctx context.Context, r *restoration, kind string,
	list func(*sqlite.DB, context.Context, string, int) ([]T, error), key func(T) (string, time.Time)) error {
	all := func(db *sqlite.DB) (map[string]time.Time, error) {
		times := map[string]time.Time{}
		for after := ""; ; {
			page, err := list(db, ctx, after, 0)
			if err != nil || len(page) == 0 {
				return times, err
			}
			for _, item := range page {
				name, updated := key(item)
				after, times[name] = name, updated
			}
		}
	}
	current, err := all(r.current)
	old, err2 := all(r.copied)
	if err := cmp.Or(err, err2); err != nil {
		return err
	}
	var lines []string
	for name, updated := range current {
		if before, ok := old[name]; !ok {
			lines = append(lines, fmt.Sprintf("%s %s was added since the backup and is gone", kind, name))
		} else if !before.Equal(updated) {
			lines = append(lines, fmt.Sprintf("%s %s was changed since the backup and is as it was then", kind, name))
		}
	}
	for name := range old {
		if _, ok := current[name]; !ok {
			lines = append(lines, fmt.Sprintf("%s %s was deleted since the backup and is there again", kind, name))
		}
	}
	slices.Sort(lines)
	r.report.Changed = append(r.report.Changed, lines...)
	return nil
}

// eachGrant goes through all grants of a database.
func eachGrant(ctx context.Context, db *sqlite.DB, do func(issuer.Grant) error) error {
	filter := issuer.GrantFilter{Limit: 1000}
	for {
		page, err := db.Grants(ctx, filter)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, grant := range page {
			if err := do(grant); err != nil {
				return err
			}
		}
		filter.After = page[len(page)-1].ID
	}
}
