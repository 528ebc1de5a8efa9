package main

import (
	"fmt"

	"github.com/evergrant/evergrant/issuer"
)

// shownGrants is how many grants of each list a restore prints; --json has all.
const shownGrants = 20

func (in *invocation) showRestored(r *restoreReport) error {
	if in.json {
		return in.printJSON(r)
	}
	if err := details(in.stdout, [][2]string{{"restored", r.Backup}, {"replaced, and kept as", r.Replaced}}); err != nil {
		return err
	}
	if r.Unknown != "" {
		fmt.Fprintln(in.stdout, "\n"+printable(r.Unknown)+": what was granted since the backup is lost, and what was revoked since is alive again; neither can be listed")
		fmt.Fprintln(in.stderr, "revoke again what you know was revoked, with `evergrant grant revoke ID` once the server runs")
		return nil
	}
	if err := in.showGrants("lost: alive, and made since the backup; these clients have to ask their owners again", r.Lost,
		func(g issuer.Grant) string { return "made " + localTime(g.CreatedAt) }); err != nil {
		return err
	}
	if err := in.showGrants("revoked since the backup, and again now", r.Revoked,
		func(g issuer.Grant) string {
			return "revoked " + localTime(g.RevokedAt) + ": " + string(g.RevokedCause)
		}); err != nil {
		return err
	}
	if r.RevokedAccessTokens > 0 {
		fmt.Fprintf(in.stdout, "\n%d access tokens that were revoked since the backup are good again until they expire; `evergrant key rotate --now` and `evergrant key delete` end them at once\n", r.RevokedAccessTokens)
	}
	if len(r.Changed) > 0 {
		fmt.Fprintln(in.stdout, "\nother changes since the backup")
	}
	for _, line := range r.Changed {
		fmt.Fprintln(in.stdout, "  "+printable(line))
	}
	return nil
}

func (in *invocation) showGrants(title string, grants []issuer.Grant, what func(issuer.Grant) string) error {
	fmt.Fprintf(in.stdout, "\n%s: %d\n", title, len(grants))
	var rows [][]string
	for _, g := range grants[:min(len(grants), shownGrants)] {
		rows = append(rows, []string{"  " + g.ID.String(), g.ClientID, g.Subject, what(g)})
	}
	if err := table(in.stdout, nil, rows); err != nil {
		return err
	}
	if more := len(grants) - shownGrants; more > 0 {
		fmt.Fprintf(in.stdout, "  and %d more\n", more)
	}
	return nil
}
