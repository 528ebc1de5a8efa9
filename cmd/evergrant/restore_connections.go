package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
)

// doubtful is a restored connection whose refresh token may have been spent
// since the backup.
type doubtful struct {
	ID       string    `json:"id"`
	Provider string    `json:"provider"`
	Tenant   string    `json:"tenant,omitempty"`
	Owner    string    `json:"owner,omitempty"`
	Until    time.Time `json:"access_token_until,omitzero"` // given out until then; zero where it is over, or never is
	Repairs  bool      `json:"repairs_itself"`
	Repair   string    `json:"repair"` // how, or what to do
}

// doubts says what to do about each connection in doubt.
func (c *config) doubts(ctx context.Context, copied connections, ids []string, now time.Time) ([]doubtful, error) {
	all := []doubtful{}
	for _, id := range ids {
		connection, err := copied.Connection(ctx, id)
		if errors.Is(err, keeper.ErrNotFound) {
			continue // deleted again
		}
		if err != nil {
			return nil, err
		}
		d := doubtful{ID: id, Provider: connection.Provider, Tenant: connection.Tenant, Owner: connection.Owner}
		if now.Before(connection.ExpiresAt) {
			d.Until = connection.ExpiresAt
		}
		d.Repairs, d.Repair = c.repair(connection, now)
		all = append(all, d)
	}
	return all, nil
}

// repair says whether a restored connection repairs itself, by its provider's
// definition, and how, or what to do.
func (c *config) repair(connection keeper.Connection, now time.Time) (itself bool, how string) {
	var known *provider.Definition
	for i := range c.Keeper.Providers {
		if c.Keeper.Providers[i].Name == connection.Provider {
			known = &c.Keeper.Providers[i].definition
		}
	}
	if known == nil {
		return false, "its provider is not in the configuration; add it, or name the file with --config to see what repairs it"
	}
	window := time.Duration(known.RefreshToken.ReplayWindow)
	if lifetime := connection.ExpiresAt.Sub(connection.IssuedAt); lifetime > 0 {
		window = min(window, lifetime/2)
	}
	window -= min(10*time.Second, window/10) // as the keeper keeps clear of its end
	switch closes := connection.Since.Add(window); {
	case known.RefreshToken.Rotation == provider.RotationFixed && !connection.Rotates:
		return true, "its refresh token does not change"
	case len(known.Remint.Steps) > 0 || known.Grant == oauth.GrantClientCredentials:
		return true, "the provider gives new tokens without the owner"
	case now.Before(closes):
		return true, "a spent refresh token still works: start the server before " + localTime(closes)
	case known.AccessToken.OneAtATime && known.API.Check != "" && now.Before(connection.ExpiresAt):
		return true, "whether its access token still lives tells whether it was refreshed: start the server before " + localTime(connection.ExpiresAt)
	}
	return false, "its owner has to connect again, unless it was not refreshed since the backup"
}

// connections goes through those of both databases. What was deleted since the
// backup is deleted again: its owner may have asked for that.
func (r *restoration) connections(ctx context.Context) error {
	err := eachConnection(ctx, r.current.Keeper(), func(c keeper.Connection) error {
		old, err := r.copied.Keeper().Connection(ctx, c.ID)
		switch {
		case errors.Is(err, keeper.ErrNotFound):
			r.report.LostConnections = append(r.report.LostConnections, c)
			return nil
		case err != nil:
			return err
		case c.State == keeper.Paused && old.State != keeper.Paused:
			r.changed("connection %s was paused since the backup and is not any more", c.ID)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return eachConnection(ctx, r.copied.Keeper(), func(old keeper.Connection) error {
		if _, err := r.current.Keeper().Connection(ctx, old.ID); !errors.Is(err, keeper.ErrNotFound) {
			return err
		}
		events, err := r.current.Keeper().Events(ctx, keeper.EventFilter{Connection: old.ID, Limit: 1})
		if err != nil || len(events) == 0 || events[0].Type != keeper.EventDeleted {
			return err // the database is another server's, or the event is purged
		}
		return r.deleteAgain(ctx, old)
	})
}

func (r *restoration) deleteAgain(ctx context.Context, old keeper.Connection) error {
	event := keeper.Event{
		At: r.now, Type: keeper.EventDeleted, Connection: old.ID, Provider: old.Provider, Tenant: old.Tenant, Owner: old.Owner, Actor: "operator",
		Detail: "deleted after the backup was made, and again by its restore",
	}
	leased, ok, err := r.copied.Keeper().Lease(ctx, old.ID, r.now, r.now.Add(time.Minute))
	if err == nil && ok {
		ok, err = r.copied.Keeper().Delete(ctx, old.ID, leased.Fence, event)
	}
	if err == nil && !ok {
		err = fmt.Errorf("connection %s is being changed", old.ID)
	}
	if err == nil {
		r.changed("connection %s was deleted since the backup, and is again", old.ID)
	}
	return err
}

// eachConnection goes through all connections of a database.
func eachConnection(ctx context.Context, db keeper.Lists, do func(keeper.Connection) error) error {
	filter := keeper.Filter{Limit: 1000}
	for {
		page, err := db.Connections(ctx, filter)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, connection := range page {
			if err := do(connection); err != nil {
				return err
			}
		}
		filter.After = page[len(page)-1].ID
	}
}

func (in *invocation) showLostConnections(lost []keeper.Connection) error {
	if len(lost) == 0 {
		return nil
	}
	fmt.Fprintf(in.stdout, "\nconnections lost: made since the backup; their owners have to connect again: %d\n", len(lost))
	return in.firstRows(len(lost), func(i int) []string {
		return []string{"  " + lost[i].ID, lost[i].Provider, lost[i].Owner, "made " + localTime(lost[i].CreatedAt)}
	})
}

func (in *invocation) showDoubts(doubts []doubtful) error {
	if len(doubts) == 0 {
		return nil
	}
	fmt.Fprintf(in.stdout, "\nconnections in doubt: their refresh tokens may have been spent since the backup, and none is sent blindly: %d\n", len(doubts))
	err := in.firstRows(len(doubts), func(i int) []string {
		d, token := doubts[i], "no live access token"
		if !d.Until.IsZero() {
			token = "access token until " + localTime(d.Until)
		}
		how := d.Repair
		if d.Repairs {
			how = "repairs itself: " + how
		}
		return []string{"  " + d.ID, d.Provider, d.Owner, token, how}
	})
	for _, d := range doubts {
		if !d.Repairs {
			fmt.Fprintln(in.stderr, "once the server runs: `evergrant connection connect PROVIDER --id ID` makes the page on which an owner connects again; where you know that a connection was not refreshed since the backup, `evergrant connection refresh ID --even-in-doubt` saves the owner that")
			break
		}
	}
	return err
}
