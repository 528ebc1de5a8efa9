package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/issuer"
)

const (
	importNames   = 5   // that are shown of those to whom one thing happened
	importReasons = 200 // that are told apart

	importExpired  = issuer.ImportExpired
	importNoClient = issuer.ImportNoClient
	importKept     = "kept as it is here: it was changed here, or is not from this source"
)

// importReport is what an import came to.
type importReport struct {
	Source  string       `json:"source"`
	Kind    string       `json:"kind"`
	Profile string       `json:"profile"`
	DryRun  bool         `json:"dry_run"`
	Clients importCount  `json:"clients"`
	Users   importCount  `json:"users"`
	Tokens  importCount  `json:"tokens"`
	Notes   []importNote `json:"notes"`
	Gone    importGone   `json:"gone"`
	// UnknownScopes are not in the server's configuration.
	UnknownScopes []string `json:"unknown_scopes"`
	Seconds       float64  `json:"seconds"`
}

// importCount counts what became of rows of a kind.
type importCount struct {
	Created   int   `json:"created"`
	Updated   int   `json:"updated"`
	Unchanged int   `json:"unchanged"`
	Kept      int   `json:"kept"`
	Expired   int64 `json:"expired"` // or revoked there
	Skipped   int   `json:"skipped"`
}

// importNote is what happened to some rows, and why.
type importNote struct {
	Kind   string   `json:"kind"`
	Reason string   `json:"reason"`
	Count  int      `json:"count"`
	Names  []string `json:"names"`          // of the first ones
	Part   bool     `json:"part,omitempty"` // they were imported all the same
}

func newImportReport(dryRun bool) importReport {
	return importReport{DryRun: dryRun, Notes: []importNote{}, UnknownScopes: []string{}}
}

// of is the count of a kind.
func (r *importReport) of(kind string) *importCount {
	switch kind {
	case "client":
		return &r.Clients
	case "user":
		return &r.Users
	}
	return &r.Tokens
}

// add counts what became of a batch.
func (r *importReport) add(answer evergrant.ImportReport) {
	for kind, counted := range map[string]evergrant.ImportCount{"client": answer.Clients, "user": answer.Users, "token": answer.Tokens} {
		count := r.of(kind)
		count.Created += counted.Created
		count.Updated += counted.Updated
		count.Unchanged += counted.Unchanged
		count.Kept += len(counted.Kept)
		for _, name := range counted.Kept {
			r.note(importNote{Kind: kind, Reason: importKept}, name)
		}
	}
	for _, s := range answer.Skipped {
		r.skip(s)
	}
	for _, scope := range answer.UnknownScopes {
		if at, there := slices.BinarySearch(r.UnknownScopes, scope); !there && len(r.UnknownScopes) < importReasons {
			r.UnknownScopes = slices.Insert(r.UnknownScopes, at, scope)
		}
	}
}

// skip counts what was not imported, or not all of it.
func (r *importReport) skip(s evergrant.ImportSkip) {
	switch {
	case s.Kind == "token" && s.Reason == importExpired:
		r.Tokens.Expired++
		return
	case !s.Part:
		r.of(s.Kind).Skipped++
	}
	r.note(importNote{Kind: s.Kind, Reason: s.Reason, Part: s.Part}, s.Name)
}

func (r *importReport) note(n importNote, name string) {
	at := slices.IndexFunc(r.Notes, func(other importNote) bool {
		return other.Kind == n.Kind && other.Reason == n.Reason && other.Part == n.Part
	})
	if at < 0 && len(r.Notes) >= importReasons && n.Reason != "other reasons" {
		n.Reason = "other reasons"
		r.note(n, name)
		return
	}
	if at < 0 {
		at, r.Notes = len(r.Notes), append(r.Notes, n)
	}
	r.Notes[at].Count++
	if len(r.Notes[at].Names) < importNames {
		r.Notes[at].Names = append(r.Notes[at].Names, name)
	}
}

// show prints the report, and fails where something was not done.
func (im *importing) show() error {
	r := &im.report
	slices.SortStableFunc(r.Notes, func(a, b importNote) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(b.Count, a.Count))
	})
	if im.in.json {
		if err := im.in.printJSON(r); err != nil {
			return err
		}
	} else if err := im.showText(); err != nil {
		return err
	}
	if r.Gone.Refused {
		return &failure{what: fmt.Sprintf("the source has %s of %s no longer: more than half, so that none of them was revoked", plural(r.Gone.Gone, "token"), imported(r.Gone.Imported)),
			next: "look whether it is the right source, and whole; if they are to end here too, run it again with --revoke-missing"}
	}
	im.showNext()
	return nil
}

func imported(n int) string {
	return fmt.Sprintf("the %d that were imported and not refreshed here yet", n)
}

func (im *importing) showText() error {
	r, in := &im.report, im.in
	did := "imported"
	if r.DryRun {
		did = "would import"
	}
	fmt.Fprintln(in.stdout, printable(did+" from "+r.Source+", with the profile "+r.Profile))
	rows := [][]string{}
	for _, row := range []struct {
		kind  string
		count importCount
	}{{"clients", r.Clients}, {"users", r.Users}, {"tokens", r.Tokens}} {
		c := row.count
		cells := []string{row.kind}
		for _, n := range []int{c.Created, c.Updated, c.Unchanged, c.Kept, int(c.Expired), c.Skipped} {
			cells = append(cells, strconv.Itoa(n))
		}
		rows = append(rows, cells)
	}
	if err := table(in.stdout, []string{"", "CREATED", "UPDATED", "UNCHANGED", "KEPT", "EXPIRED", "SKIPPED"}, rows); err != nil {
		return err
	}
	for _, n := range r.Notes {
		names := strings.Join(n.Names, ", ")
		if n.Count > len(n.Names) {
			names += ", ..."
		}
		fmt.Fprintln(in.stdout, printable(fmt.Sprintf("%s: %s (%s)", plural(n.Count, n.Kind), n.Reason, names)))
	}
	switch {
	case r.Gone.Refused:
	case r.Gone.Gone > 0 && r.DryRun:
		fmt.Fprintf(in.stdout, "would revoke %d of %s: the source has them no longer\n", r.Gone.Gone, imported(r.Gone.Imported))
	case r.Gone.Revoked > 0:
		fmt.Fprintf(in.stdout, "revoked %d of %s: the source has them no longer\n", r.Gone.Revoked, imported(r.Gone.Imported))
	}
	return nil
}

// showNext says what to do now.
func (im *importing) showNext() {
	r := &im.report
	if len(r.UnknownScopes) > 0 {
		fmt.Fprintln(im.in.stderr, printable("scopes that this server does not know: "+strings.Join(r.UnknownScopes, ", ")+
			"; tokens keep them, and clients get them anew once issuer.scopes has them or the client lists them"))
	}
	next := "next: let the clients come here, then run this again: it finds what the old server did in between"
	switch {
	case r.DryRun:
		next = "nothing was written; run it without --dry-run to import"
	case r.Clients.Created+r.Clients.Updated+r.Users.Created+r.Users.Updated+r.Tokens.Created+r.Gone.Revoked == 0:
		next = "nothing has changed there since the last time"
	}
	fmt.Fprintln(im.in.stderr, next)
}
