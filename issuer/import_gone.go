package issuer

import (
	"bytes"
	"context"
	"errors"
	"time"
)

// Gone asks which tokens of a client another server has no longer: those whose
// grants have ids above After, up to and with Until (to the end where it is
// zero), and are not among Live.
type Gone struct {
	Source       string
	ClientID     string
	After, Until GrantID
	Live         []GrantID
	ReadAt       time.Time // since then the other server may have got tokens that are not in Live
	DryRun       bool      // count only
}

// GoneReport counts grants.
type GoneReport struct {
	Imported int `json:"imported"` // live, and not refreshed here yet
	Revoked  int `json:"revoked"`  // of them, since the other server has their token no longer
}

// ImportGone revokes the grants of a client whose imported tokens the other
// server has no longer: somebody has used or revoked them there. It spares every
// grant that was refreshed here. A client that did not come from the source has
// none. After an error the call can be made again.
func (a *Admin) ImportGone(ctx context.Context, actor Actor, in Gone) (GoneReport, error) {
	report := GoneReport{}
	if err := checkSource(in.Source); err != nil {
		return report, err
	}
	client, err := a.server.cfg.Store.Client(ctx, in.ClientID)
	if err != nil || client.Foreign != in.Source {
		return report, ignoreNotFound(err)
	}
	spared := make(map[GrantID]bool, len(in.Live))
	for _, id := range in.Live {
		spared[id] = true
	}
	now, filter := a.server.cfg.now(), GrantFilter{ClientID: in.ClientID, After: in.After, Limit: 1000}
	for {
		grants, err := a.lists.Grants(ctx, filter)
		if err != nil || len(grants) == 0 {
			return report, err
		}
		for _, g := range grants {
			if !in.Until.IsZero() && bytes.Compare(g.ID[:], in.Until[:]) > 0 {
				return report, nil
			}
			if g.KeyID != 0 || g.Generation != 1 || !g.Live(now) {
				continue
			}
			report.Imported++
			if spared[g.ID] || g.CreatedAt.After(in.ReadAt) {
				continue
			}
			if !in.DryRun {
				err := a.revoke(ctx, actor, g, CauseImportGone)
				if errors.Is(err, ErrNotFound) {
					continue // purged meanwhile
				}
				if err != nil {
					return report, err
				}
			}
			report.Revoked++
		}
		filter.After = grants[len(grants)-1].ID
	}
}
