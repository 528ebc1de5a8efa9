package main

import (
	"fmt"

	"github.com/evergrant/evergrant/issuer"
)

// shownRows is how many of each list a restore prints; --json has all.
const shownRows = 20

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
		return in.showDoubts(r.InDoubt)
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
	if err := in.showLostConnections(r.LostConnections); err != nil {
		return err
	}
	if err := in.showDoubts(r.InDoubt); err != nil {
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
	return in.firstRows(len(grants), func(i int) []string {
		return []string{"  " + grants[i].ID.String(), grants[i].ClientID, grants[i].Subject, what(grants[i])}
	})
}

// firstRows prints the first rows of a list, and how many there are beside.
func (in *invocation) firstRows(n int, row func(int) []string) error {
	var rows [][]string
	for i := range min(n, shownRows) {
		rows = append(rows, row(i))
	}
	if err := table(in.stdout, nil, rows); err != nil {
		return err
	}
	if more := n - shownRows; more > 0 {
		fmt.Fprintf(in.stdout, "  and %d more\n", more)
	}
	return nil
}
