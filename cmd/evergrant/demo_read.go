package main

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/evergrant/evergrant"
)

// enough is the life that the tour asks of a token: less than nine tenths of
// shortLife, so that a renewal always gives it.
const enough = 3 * time.Second

func (t *tour) read(ctx context.Context) error {
	e, token, err := t.token(ctx, onEventix, "")
	if err != nil {
		return err
	}
	at, err := t.show(t.asBearer(ctx, t.eventixAPI, token.AccessToken.Reveal()))
	if err != nil {
		return err
	}
	t.promise(e.status == http.StatusOK && at.whose() == "bob", "the application gets an access token that Eventix takes", "%s, and at Eventix %s of %q", e.outcome(), at.outcome(), at.whose())
	t.promise(e.status == http.StatusOK && !bytes.Contains(e.body, []byte("refresh_token")), "and no refresh token, which nobody ever gets from the keeper", "refresh_token is there: %t", bytes.Contains(e.body, []byte("refresh_token")))

	asked := time.Now()
	if e, token, err = t.token(ctx, onTink, "?min_ttl="+enough.String()); err != nil {
		return err
	}
	left := token.ExpiresAt.Sub(asked)
	t.promise(e.status == http.StatusOK && left >= enough, "who needs the token for a while says for how long, and gets one that lives for so long",
		"%s, asked for %s, it lives for %s", e.outcome(), enough, left.Round(time.Millisecond))

	t.out.aside("Before a purchase, say, an application wants a token that is new in any case:")
	before, err := t.admin.AccessToken(ctx, onFlexiti, evergrant.TokenOptions{})
	if err != nil {
		return err
	}
	if e, token, err = t.token(ctx, onFlexiti, "?force=true"); err != nil {
		return err
	}
	renewed := e.status == http.StatusOK && !token.AccessToken.Empty() && !token.AccessToken.Equal(before.AccessToken.Reveal())
	t.promise(renewed, "who wants a new one gets a new one", "%s, %s became %s", e.outcome(), before.AccessToken.Reveal(), token.AccessToken.Reveal())

	// The renewals at Tink and Flexiti may be the ones that were asked for here.
	// Whatever comes later is the keeper's own doing.
	for _, id := range []string{onTink, onFlexiti} {
		c, err := t.admin.Connection(ctx, id)
		if err != nil {
			return err
		}
		t.askedFor[id] = c.Generation
	}

	t.out.aside("In a script:")
	code, printed := t.runCommand(ctx, "token", onFlexiti)
	line, rest, _ := strings.Cut(printed, "\n")
	t.promise(code == exitDone && rest == "" && t.flexiti.Alive(line), "evergrant token prints an access token that lives, and nothing else", "status %d, %q", code, printed)
	return nil
}

// token asks for a token of a connection, and shows it.
func (t *tour) token(ctx context.Context, id, query string) (exchange, evergrant.Token, error) {
	e, err := t.call(ctx, http.MethodGet, connectionPath(id, "/token"+query), nil)
	return e, decode[evergrant.Token](e), err
}
