package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/secret"
)

// refusal is a problem document about a connection.
type refusal struct {
	Code       string    `json:"code"`
	Cause      string    `json:"cause"`
	Since      time.Time `json:"since"`
	ConnectURL string    `json:"connect_url"`
}

func (t *tour) revokeOwner(ctx context.Context) error {
	before, err := t.admin.Connection(ctx, onEventix)
	if err != nil {
		return err
	}
	for _, grant := range t.eventix.Grants() {
		if grant.Owner == "bob" {
			t.eventix.Revoke(grant.ID)
		}
	}
	e, err := t.call(ctx, http.MethodGet, proxyPath(onEventix), nil)
	if err != nil {
		return err
	}
	told := decode[refusal](e)
	t.promise(e.status == http.StatusConflict && told.Code == evergrant.CodeReauthorize && told.Cause == string(keeper.CauseRevoked) && !told.Since.IsZero(),
		"the application is told that only the owner can help, why, and since when", "%s, code %q, cause %q, since %s", statusLine(e.status), told.Code, told.Cause, told.Since.Format(time.RFC3339))
	link := strings.HasPrefix(told.ConnectURL, t.base+"/connect/")
	t.promise(link, "and where he does that", "connect_url %q", told.ConnectURL)
	code, _ := t.runCommand(ctx, "token", onEventix)
	t.promise(code == exitReauthorize, "evergrant token ends with a status of its own, for scripts", "status %d", code)
	if err := t.hear(ctx, keeper.EventReauthorize, "the application hears of it by itself: one webhook, and its signature is good"); err != nil {
		return err
	}
	if err := t.explainRevocation(ctx); err != nil {
		return err
	}
	if !link {
		return fmt.Errorf("there is no link to follow: %s", e.outcome())
	}
	t.out.aside("The application sends him to connect_url, and he consents again:")
	_, last, err := t.walk(ctx, told.ConnectURL)
	if err != nil {
		return err
	}
	after, err := t.admin.Connection(ctx, onEventix)
	if err != nil {
		return err
	}
	back := last.status == http.StatusOK && after.State == evergrant.ConnectionActive && after.Generation > before.Generation
	t.promise(back, "the connection that the application knows lives again, under the same id", "the page is %q, %s is %s, generation %d became %d", last.title(), after.ID, after.State, before.Generation, after.Generation)
	return t.hear(ctx, keeper.EventRecovered, "the application hears of that, too")
}

// hear waits for the one webhook about the connection whose owner revoked it, and
// shows the line that checks its signature.
func (t *tour) hear(ctx context.Context, eventType, text string) error {
	var found []notice
	refused := 0
	_, err := t.await(ctx, t.patience, func() (bool, error) {
		found, refused = t.hooks.heard(eventType, onEventix)
		return len(found) > 0 || refused > 0, nil
	})
	if err != nil {
		return err
	}
	if len(found) > 0 {
		t.out.aside("POST " + hooksPath + ", and how its receiver computes the v1 of Evergrant-Signature: " + found[0].signature)
		t.out.command(found[0].command(t.hooks.secret)...)
	}
	t.promise(len(found) == 1 && refused == 0, text, "heard %s: %d, with another signature: %d", eventType, len(found), refused)
	return nil
}

func (t *tour) explainRevocation(ctx context.Context) error {
	e, err := t.admin.Explain(ctx, secret.NewText(onEventix))
	if err != nil {
		return err
	}
	if err := t.command(func(in *invocation) error { return in.showExplanation(e) }, "explain", onEventix); err != nil {
		return err
	}
	t.promise(!e.Alive && e.Cause == string(keeper.CauseRevoked) && e.Repair != "", "evergrant explain says what happened, and what repairs it", "alive is %t, cause %q, repair: %s", e.Alive, e.Cause, e.Repair)
	return nil
}
