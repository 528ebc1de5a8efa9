package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"slices"

	"github.com/evergrant/evergrant"
)

// importGone is what became of tokens that were imported once and that the source
// has no longer.
type importGone struct {
	Imported int `json:"imported"` // live, and not refreshed on this server yet
	Gone     int `json:"gone"`     // of them, from the source
	Revoked  int `json:"revoked"`
	// Refused says that nothing was revoked, because it would have been too much.
	Refused bool `json:"refused"`
}

// gone looks for tokens that the source has no longer, since somebody has used or
// revoked them there, and revokes them here. It looks first and counts: a source
// that is not the one of before, or was emptied, must not end what lives on here.
func (im *importing) gone(ctx context.Context) error {
	var ranges []evergrant.ImportGone
	g := &im.report.Gone
	clients, err := im.clients(ctx)
	if err != nil {
		return err
	}
	for _, client := range clients {
		for part := range im.parts(client) {
			counted, err := im.askGone(ctx, part)
			if err != nil {
				return err
			}
			g.Imported, g.Gone = g.Imported+counted.Imported, g.Gone+counted.Revoked
			if part.DryRun = false; counted.Revoked > 0 {
				ranges = append(ranges, part)
			}
			im.in.progress("tokens that the source has no longer: %d of %d", g.Gone, g.Imported)
		}
	}
	imported := g.Imported
	if im.flags.dryRun {
		imported += im.report.Tokens.Created // a real run has them there before it looks
	}
	if g.Refused = g.Gone > 0 && !im.flags.revokeMissing && (len(im.live) == 0 || 2*g.Gone > imported); g.Refused || im.flags.dryRun {
		return nil
	}
	for _, part := range ranges {
		revoked, err := im.askGone(ctx, part)
		g.Revoked += revoked.Revoked
		if err != nil {
			return err
		}
		im.in.progress("revoking: %d of %d", g.Revoked, g.Gone)
	}
	return nil
}

func (im *importing) askGone(ctx context.Context, part evergrant.ImportGone) (answer evergrant.ImportedGone, err error) {
	err = im.retry(ctx, func() (err error) {
		answer, err = im.admin.ImportGone(ctx, part)
		return err
	})
	return answer, err
}

// parts are the questions about a client's tokens, each about a range of ids, as
// dry runs.
func (im *importing) parts(client string) func(yield func(evergrant.ImportGone) bool) {
	live := im.live[client]
	slices.SortFunc(live, func(a, b grantID) int { return bytes.Compare(a[:], b[:]) })
	return func(yield func(evergrant.ImportGone) bool) {
		after := ""
		for {
			part := evergrant.ImportGone{Source: im.report.Source, ClientID: client, After: after, ReadAt: im.readAt, DryRun: true, Live: []string{}}
			n := min(len(live), importBatch)
			for _, id := range live[:n] {
				part.Live = append(part.Live, hex.EncodeToString(id[:]))
			}
			if live = live[n:]; len(live) > 0 {
				after = part.Live[n-1]
				part.Until = after
			}
			if !yield(part) || len(live) == 0 {
				return
			}
		}
	}
}
