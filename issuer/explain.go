package issuer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/evergrant/evergrant/secret"
)

// Explanation says why a grant or token is alive or dead.
type Explanation struct {
	Kind    string  `json:"kind"` // "grant", "authorization_code", "refresh_token" or "access_token"
	Alive   bool    `json:"alive"`
	Verdict string  `json:"verdict"`          // one sentence
	Cause   Cause   `json:"cause,omitempty"`  // why it is dead
	Repair  string  `json:"repair,omitempty"` // what makes it good again
	Grant   *Grant  `json:"grant,omitempty"`  // absent where it was purged or never was
	Events  []Event `json:"events"`           // of the grant, newest first
}

const askAgain = "Send the resource owner through the authorization endpoint again."

// Explain takes the id of a grant, or a token in clear, which it neither spends
// nor records. ErrNotFound where it is neither.
func (a *Admin) Explain(ctx context.Context, subject string) (Explanation, error) {
	subject = strings.TrimSpace(subject)
	if id, err := ParseGrantID(subject); err == nil {
		return a.explain(ctx, "grant", id, func(e *Explanation) {})
	}
	if ref, ok := a.server.grantOf(subject); ok {
		kind := "refresh_token"
		if ref.generation == 0 {
			kind = "authorization_code"
		}
		return a.explain(ctx, kind, ref.grant, func(e *Explanation) { a.explainRef(e, ref) })
	}
	now := a.server.cfg.now()
	claims, err := a.server.openAccess(subject, time.Unix(0, 0)) // expired ones too
	if grant, kind, foreignErr := a.server.foreignGrant(ctx, subject, secret.ForeignRefresh, secret.ForeignAccess); err != nil && foreignErr == nil {
		return a.explain(ctx, "imported_"+string(kind)+"_token", grant.ID, func(e *Explanation) {
			if kind == secret.ForeignRefresh {
				a.explainRef(e, tokenRef{grant: grant.ID, generation: 1})
			}
		})
	}
	if err != nil {
		return Explanation{}, fmt.Errorf("neither the id of a grant nor a token of this server: %w", ErrNotFound)
	}
	if claims.Generation == 0 {
		e := Explanation{Kind: "access_token", Events: []Event{}}
		return e, a.explainAccess(ctx, &e, claims, now)
	}
	e, err := a.explain(ctx, "access_token", claims.Grant, func(e *Explanation) {})
	if err != nil {
		return e, err
	}
	return e, a.explainAccess(ctx, &e, claims, now)
}

// explain tells of a grant, and then of the token that it was asked through.
func (a *Admin) explain(ctx context.Context, kind string, id GrantID, more func(*Explanation)) (Explanation, error) {
	e := Explanation{Kind: kind, Events: []Event{}}
	events, err := a.lists.Events(ctx, EventFilter{Grant: id})
	if err != nil {
		return e, err
	}
	e.Events = append(e.Events, events...)
	grant, err := a.server.cfg.Store.Grant(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound) && kind == "grant" && len(events) == 0:
		return e, fmt.Errorf("no grant has this id: %w", ErrNotFound)
	case errors.Is(err, ErrNotFound):
		e.Cause, e.Repair = CauseGrantUnknown, askAgain
		e.Verdict = "The grant has no row any more: it ended and was purged, or was made after the backup that this database was restored from."
		return e, nil
	case err != nil:
		return e, err
	}
	e.Grant = &grant
	now := a.server.cfg.now()
	if e.Cause = grant.deadCause(now); e.Cause == "" {
		e.Alive = true
		e.Verdict = fmt.Sprintf("The grant is alive at generation %d, last renewed %s.", grant.Generation, ago(now, grant.RotatedAt))
	} else {
		e.Repair, e.Verdict = askAgain, deadVerdict(grant, e.Cause, now)
	}
	more(&e)
	return e, nil
}

func deadVerdict(g Grant, cause Cause, now time.Time) string {
	switch cause {
	case CauseGrantRevoked:
		return fmt.Sprintf("The grant was revoked %s, because: %s.", ago(now, g.RevokedAt), g.RevokedCause)
	case CauseGrantEnded:
		return fmt.Sprintf("The grant reached the end of its absolute lifetime %s.", ago(now, g.EndsAt))
	case CauseCodeExpired:
		return fmt.Sprintf("The authorization code was never redeemed and expired %s.", ago(now, g.ExpiresAt))
	}
	return fmt.Sprintf("The refresh token was not used for its whole idle lifetime and expired %s.", ago(now, g.ExpiresAt))
}

// explainRef tells what would happen to a code or refresh token if it were
// presented now.
func (a *Admin) explainRef(e *Explanation, ref tokenRef) {
	if !e.Alive {
		return
	}
	behind := int64(e.Grant.Generation) - int64(ref.generation)
	switch {
	case behind == 0 && ref.generation == 0:
		e.Verdict = "The authorization code has not been redeemed and is good."
	case behind == 0:
		e.Verdict = "This is the current refresh token, and it is good. " + e.Verdict
	case behind < 0:
		e.Verdict = "This refresh token is ahead of its row: the database was restored from a backup. It is good, and using it heals the row. " + e.Verdict
	case ref.generation == 0:
		e.Alive, e.Cause, e.Repair = false, CauseCodeReplayed, "Use the refresh token."
		e.Verdict = "The authorization code was redeemed. Presenting it again would revoke the grant. " + e.Verdict
	default:
		e.Alive, e.Cause, e.Repair = false, CauseRefreshTokenReused, "Use the newest refresh token."
		e.Verdict = fmt.Sprintf("This refresh token is of generation %d and was used. Within the retry window it would be answered again if it is the previous one; otherwise presenting it would revoke the grant. %s", ref.generation, e.Verdict)
	}
}

func (a *Admin) explainAccess(ctx context.Context, e *Explanation, claims accessClaims, now time.Time) error {
	alive, err := a.server.accessAlive(ctx, claims)
	expires := time.Unix(claims.ExpiresAt, 0).UTC()
	switch {
	case err != nil:
		return err
	case !now.Before(expires):
		e.Alive, e.Cause, e.Repair = false, "access_token_expired", "Refresh it."
		e.Verdict = fmt.Sprintf("The access token expired %s. %s", ago(now, expires), e.Verdict)
	case !alive && e.Cause == "":
		e.Alive, e.Cause, e.Repair = false, "access_token_revoked", "Refresh it."
		e.Verdict = "The access token was revoked, or its client was deleted. " + e.Verdict
	case alive:
		e.Alive, e.Cause, e.Repair = true, "", "" // even where its grant cannot be refreshed any more
		e.Verdict = fmt.Sprintf("The access token is good for another %s. %s", expires.Sub(now).Round(time.Second), e.Verdict)
	}
	e.Verdict = strings.TrimSpace(e.Verdict)
	return nil
}

func ago(now, t time.Time) string {
	return fmt.Sprintf("%s ago (%s)", now.Sub(t).Round(time.Second), t.Format(time.RFC3339))
}
