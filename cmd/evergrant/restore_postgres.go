package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/store/postgres"
)

// restorePostgres prepares an older state of PostgreSQL, which its own tools have
// put in place, for what happened since. There is nothing that it could be
// compared with, so that what was lost is not listed.
func (in *invocation) restorePostgres(ctx context.Context, c *config) (*restoreReport, error) {
	in.progress("looking at the database ...")
	defer in.progress("")
	url, now := c.Database.url.Reveal(), in.now()
	if n, err := postgres.Sessions(ctx, url); err != nil {
		return nil, c.unusable(err)
	} else if n > 0 {
		return nil, &failure{
			what: c.Database.String() + " is in use, by " + plural(n, "session") + " of evergrant",
			next: "stop all servers on it, and a pooler before it, and run this again; nothing was changed",
		}
	}
	keys, err := c.keysIn(ctx)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, &failure{what: c.Database.String() + " has no keys: nothing was restored there", next: "put the copy in place with pg_restore first; docs/POSTGRES.md says how"}
	}
	root, err := c.needRoot(ctx, in.env, in.stderr)
	if err != nil {
		return nil, err
	}
	if !root.Made(keys) {
		return nil, c.wrongRoot()
	}
	db, err := c.openDatabase(ctx, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	doubts, err := db.Restored(ctx, now)
	if err != nil {
		return nil, err
	}
	report := &restoreReport{
		Backup: c.Database.String(), Unknown: "what this state replaces is not here to be compared with",
		Lost: []issuer.Grant{}, Revoked: []issuer.Grant{}, LostConnections: []keeper.Connection{}, Changed: []string{},
	}
	if report.InDoubt, err = c.doubts(ctx, db.connections(), doubts, now); err != nil {
		return nil, err
	}
	return report, db.Record(ctx, restoredEvent(now, fmt.Sprintf("prepared after PostgreSQL was brought back to an older state; %d connections are in doubt", len(report.InDoubt))))
}
