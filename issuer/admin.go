package issuer

import (
	"context"
	"errors"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// Actor is who administers, and from where.
type Actor struct {
	Name    string // "operator", or "server" for what the configuration file declares
	Address string // network address, empty on the machine itself
}

// Admin changes clients, users, grants and keys. It validates, records who did
// what, and lets the server forget what it had cached. Errors are ErrNotFound,
// those that wrap ErrBadClient or ErrBadUser, or the store's.
type Admin struct {
	server   *Server
	lists    Lists
	arrivals arrivals
}

// NewAdmin administers a server.
func NewAdmin(server *Server, lists Lists) *Admin { return &Admin{server: server, lists: lists} }

// Lists are the queries.
func (a *Admin) Lists() Lists { return a.lists }

// SaveClient creates or replaces a client. Without grant types it gets
// authorization_code and refresh_token.
func (a *Admin) SaveClient(ctx context.Context, actor Actor, client Client) (Client, error) {
	now := a.server.cfg.now()
	if len(client.GrantTypes) == 0 {
		client.GrantTypes = []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken}
	}
	client.CreatedAt, client.UpdatedAt, client.Imported = now, now, Origin{}
	if old, err := a.server.cfg.Store.Client(ctx, client.ID); err == nil {
		client.CreatedAt, client.Foreign = old.CreatedAt, old.Foreign
	} else if !errors.Is(err, ErrNotFound) {
		return Client{}, err
	}
	if err := client.Check(); err != nil {
		return Client{}, err
	}
	if err := a.server.checkReserved(client); err != nil {
		return Client{}, err
	}
	if err := a.server.checkProfile(client); err != nil {
		return Client{}, err
	}
	if err := a.server.ensureAlgorithm(ctx, client.SigningAlg); err != nil {
		return Client{}, err
	}
	event := a.event(actor, EventClientSaved)
	event.ClientID = client.ID
	err := a.server.cfg.Store.PutClient(ctx, client, event)
	a.server.clients.forget(client.ID)
	return client, err
}

// DeleteClient revokes a client's grants and deletes the client.
func (a *Admin) DeleteClient(ctx context.Context, actor Actor, id string) error {
	if _, err := a.server.cfg.Store.Client(ctx, id); err != nil {
		return err
	}
	event := a.event(actor, EventClientDeleted)
	event.ClientID = id
	return a.deleteWithGrants(ctx, actor, GrantFilter{ClientID: id}, CauseClientDeleted, func() error {
		defer a.server.clients.forget(id)
		return a.server.cfg.Store.DeleteClient(ctx, id, event)
	})
}

// deleteWithGrants deletes a client or user and the grants that a filter
// chooses. The grants go first, so that a failure in between leaves somebody who
// can be deleted again, rather than live grants of nobody that whoever is next
// registered under the name would inherit.
func (a *Admin) deleteWithGrants(ctx context.Context, actor Actor, filter GrantFilter, cause Cause, remove func() error) error {
	if _, err := a.RevokeGrants(ctx, actor, filter, cause); err != nil {
		return err
	}
	if err := remove(); err != nil {
		return err
	}
	_, err := a.RevokeGrants(ctx, actor, filter, cause) // whatever was granted between the two steps
	return err
}

// SaveUser creates or replaces a user.
func (a *Admin) SaveUser(ctx context.Context, actor Actor, user User) (User, error) {
	now := a.server.cfg.now()
	user.CreatedAt, user.UpdatedAt, user.Imported = now, now, Origin{}
	if old, err := a.server.cfg.Store.User(ctx, user.Username); err == nil {
		user.CreatedAt = old.CreatedAt
	} else if !errors.Is(err, ErrNotFound) {
		return User{}, err
	}
	if err := user.Check(); err != nil {
		return User{}, err
	}
	event := a.event(actor, EventUserSaved)
	event.Subject = user.Username
	return user, a.server.cfg.Store.PutUser(ctx, user, event)
}

// DeleteUser revokes a user's grants and deletes the user.
func (a *Admin) DeleteUser(ctx context.Context, actor Actor, username string) error {
	if _, err := a.server.cfg.Store.User(ctx, username); err != nil {
		return err
	}
	event := a.event(actor, EventUserDeleted)
	event.Subject = username
	return a.deleteWithGrants(ctx, actor, GrantFilter{Subject: username}, CauseUserDeleted, func() error {
		return a.server.cfg.Store.DeleteUser(ctx, username, event)
	})
}

// RevokeGrant revokes one grant and with it all its tokens.
func (a *Admin) RevokeGrant(ctx context.Context, actor Actor, id GrantID) error {
	grant, err := a.server.cfg.Store.Grant(ctx, id)
	if err != nil {
		return err
	}
	return a.revoke(ctx, actor, grant, CauseOperatorRequest)
}

// RevokeGrants revokes all grants that a filter chooses, one by one, and counts
// them. After an error the call can be made again.
func (a *Admin) RevokeGrants(ctx context.Context, actor Actor, filter GrantFilter, cause Cause) (int, error) {
	revoked := 0
	for {
		grants, err := a.lists.Grants(ctx, filter)
		if err != nil || len(grants) == 0 {
			return revoked, err
		}
		for _, grant := range grants {
			if !grant.RevokedAt.IsZero() {
				continue
			}
			err := a.revoke(ctx, actor, grant, cause)
			if errors.Is(err, ErrNotFound) {
				continue // purged meanwhile
			}
			if err != nil {
				return revoked, err
			}
			revoked++
		}
		filter.After = grants[len(grants)-1].ID
	}
}

func (a *Admin) revoke(ctx context.Context, actor Actor, grant Grant, cause Cause) error {
	event := a.event(actor, EventGrantRevoked)
	event.Grant, event.ClientID, event.Subject, event.Cause = grant.ID, grant.ClientID, grant.Subject, cause
	_, err := a.server.cfg.Store.Revoke(ctx, grant.ID, event.At, event)
	return err
}

// Keys are the records of the keys in force.
func (a *Admin) Keys() []secret.KeyRecord { return a.server.cfg.Keys.Records() }

// RotateKeys adds a key that begins to make tokens after lead. The new key can
// sign RS256 if the old one can.
func (a *Admin) RotateKeys(ctx context.Context, actor Actor, lead time.Duration) (secret.KeyRecord, error) {
	_, err := a.server.cfg.Keys.Current().Signer(secret.RS256)
	record, err := a.server.cfg.Keys.Rotate(ctx, lead, err == nil)
	if err != nil {
		return record, err
	}
	event := a.event(actor, EventKeyRotated)
	event.Detail = "new key " + keyName(record.ID)
	return record, a.server.cfg.Store.Record(ctx, event)
}

// DeleteKey ends a retired key at once: tokens that it made are refused.
func (a *Admin) DeleteKey(ctx context.Context, actor Actor, id uint32) error {
	if err := a.server.cfg.Keys.Delete(ctx, id); err != nil {
		return err
	}
	event := a.event(actor, EventKeyDeleted)
	event.Detail = "key " + keyName(id)
	return a.server.cfg.Store.Record(ctx, event)
}

// Purge deletes what is dead now, to the end.
func (a *Admin) Purge(ctx context.Context) (Purged, error) {
	now := a.server.cfg.now()
	return a.server.cfg.Store.Purge(ctx, now, now.Add(-a.server.cfg.eventRetention()))
}

// BackingUp records that somebody takes a copy of the database. It goes before
// the copy, which then says itself when it was made.
func (a *Admin) BackingUp(ctx context.Context, actor Actor) error {
	return a.server.cfg.Store.Record(ctx, a.event(actor, EventBackedUp))
}

func (a *Admin) event(actor Actor, eventType string) Event {
	return Event{At: a.server.cfg.now(), Type: eventType, Actor: actor.Name, Address: actor.Address}
}
