package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/issuer/profile"
	"github.com/evergrant/evergrant/oauth"
)

// The clients of other servers that the demo declares: one of a server of
// bshaffer's library, and one of an API like Eventix's.
const (
	legacyClient = "LegacyClient"
	legacyLogin  = legacyClient + ":LegacySecret"
	boxOffice    = "box-office"
	boxSecret    = "BoxSecret"
)

// legacyConfig declares them.
const legacyConfig = `    - id: ` + legacyClient + `
      name: A client of bshaffer/oauth2-server-php
      profile: bshaffer
      secret: LegacySecret
      grant_types: [password, refresh_token]
    - id: ` + boxOffice + `
      name: A box office at an API like Eventix's
      profile: eventix
      secret: ` + boxSecret + `
      grant_types: [password, refresh_token]
`

// boxOfficeConfig registers it at the other end: in a keeper, by the definition of
// Eventix, at this server.
const boxOfficeConfig = `    - name: ` + boxOffice + `
      definition: eventix
      client_id: ` + boxOffice + `
      client_secret: ` + boxSecret + `
      authorize_url: %[1]s/tokens/authorize
      token_url: %[1]s/tokens
      limits: {timeout: 3s}
`

// legacyPath is the token endpoint of that server.
func legacyPath() string { return profile.Bshaffer(profile.BshafferOptions{}).TokenPath }

// moveClient takes a client from the defaults of its old server to lossless
// rotation, while it is in use.
func (t *tour) moveClient(ctx context.Context) error {
	// As its old server had it, for a tour after another one.
	if _, _, err := t.admin.UpdateClient(ctx, legacyClient, map[string]any{"refresh_token_rotation": nil}, evergrant.SecretChange{}); err != nil {
		return err
	}
	failed := 0
	post := func(pairs ...string) (exchange, oauth.TokenResponse, error) {
		e, err := t.post(ctx, legacyLogin, legacyPath(), pairs...)
		if e.status != http.StatusOK {
			failed++
		}
		return e, decode[oauth.TokenResponse](e), err
	}
	login := []string{"grant_type", oauth.GrantPassword, "username", demoUsername, "password", demoPassword}
	_, first, err := post(login...)
	if err != nil {
		return err
	}
	e, _, err := post("grant_type", oauth.GrantRefreshToken, "refresh_token", first.RefreshToken)
	if err != nil {
		return err
	}
	t.promise(legacyShape.Match(e.body), "it is answered as by its old server, member by member: a refresh gives no refresh token", "%s", e.body)
	_, kept, err := post(login...)
	if err != nil {
		return err
	}
	t.out.aside("It has signed in again, and holds a fresh refresh token. What would break if it were treated better?")
	_, report := t.runCommand(ctx, "client", "habits", legacyClient)
	t.promise(strings.Contains(report, "no_refresh_token") && strings.Contains(report, "refresh_token_rotation"), "the report says what the client relies on, and which setting ends it", "%s", lineWith(report, "no_refresh_token"))
	t.runCommand(ctx, "client", "update", legacyClient, "--refresh-token-rotation", "always")

	was, renewed := kept, 0
	for range 3 {
		_, next, err := post("grant_type", oauth.GrantRefreshToken, "refresh_token", was.RefreshToken)
		if err != nil {
			return err
		}
		if next.RefreshToken != "" && next.RefreshToken != was.RefreshToken {
			renewed++
		}
		was = next
	}
	t.promise(renewed == 3, "from the next request on each refresh gives the next refresh token", "%d of 3 refreshes gave one", renewed)
	return t.loseLegacy(ctx, was, &failed)
}

// loseLegacy loses an answer of the moved client.
func (t *tour) loseLegacy(ctx context.Context, has oauth.TokenResponse, failed *int) error {
	pairs := []string{"grant_type", oauth.GrantRefreshToken, "refresh_token", has.RefreshToken}
	req, err := form(ctx, t.base+legacyPath(), legacyLogin, pairs...)
	if err != nil {
		return err
	}
	lost, seen, err := sendAndCut(t.http.Timeout, req)
	t.out.command(lost.curl...)
	t.out.block("→ connection cut, no answer: " + seen)
	if err != nil {
		return err
	}
	e, err := t.post(ctx, legacyLogin, legacyPath(), pairs...)
	if err != nil {
		return err
	}
	if e.status != http.StatusOK {
		*failed++
	}
	was, again := decode[oauth.TokenResponse](lost), decode[oauth.TokenResponse](e)
	t.promise(was.RefreshToken != "" && again.RefreshToken == was.RefreshToken && again.AccessToken == was.AccessToken,
		"a lost answer, which was a new sign-in before, is given again", "%s, lost %s, got %s", e.outcome(), was.RefreshToken, again.RefreshToken)
	t.promise(*failed == 0, "no request of the client has failed on the way", "failed: %d", *failed)
	return nil
}

// legacyShape is an answer with the members of that server in its order, and no
// refresh token.
var legacyShape = regexp.MustCompile(`^\{"access_token":"[^"]+","expires_in":3600,"token_type":"Bearer","scope":null\}$`)

// lineWith is the first line of a text that has a word.
func lineWith(text, word string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// bothEnds lets the second server keep a token that the first one issues, which
// speaks as Eventix does.
func (t *tour) bothEnds(ctx context.Context) error {
	if t.crash.server == nil {
		return errors.New("the second server is not running")
	}
	admin := t.crash.server.admin
	e, err := t.postJSON(ctx, "/tokens", map[string]string{
		"grant_type": oauth.GrantPassword, "username": demoUsername, "password": demoPassword, "client_id": boxOffice, "client_secret": boxSecret,
	})
	if err != nil {
		return err
	}
	issued := decode[struct {
		AccessToken  string          `json:"access_token"`
		RefreshToken string          `json:"refresh_token"`
		ExpiresIn    int64           `json:"expires_in"` // or the keeper renews it at once, of its own accord
		Year         int64           `json:"refresh_token_expires_in"`
		Info         json.RawMessage `json:"info"`
	}](e)
	t.promise(issued.Year == 365*24*3600-1 && len(issued.Info) > 0, "the issuer answers as Eventix does: a year but a second, and the companies that the token is for", "%d s, info %s", issued.Year, issued.Info)
	e, err = t.show(t.ask(ctx, admin, http.MethodPost, "/v1/connections", map[string]any{
		"provider": boxOffice, "id": boxOffice, "owner": demoUsername,
		"tokens": map[string]any{"access_token": issued.AccessToken, "refresh_token": issued.RefreshToken, "expires_in": issued.ExpiresIn},
	}))
	if err != nil {
		return err
	}
	if e.status != http.StatusCreated {
		return fmt.Errorf("the connection was not made: %s", e.outcome())
	}
	for range 3 {
		if e, err = t.show(t.ask(ctx, admin, http.MethodPost, connectionPath(boxOffice, "/refresh"), nil)); err != nil {
			return err
		}
	}
	held, err := admin.AccessToken(ctx, boxOffice, evergrant.TokenOptions{})
	if err != nil {
		return err
	}
	grant, err := t.explained(ctx, held.AccessToken.Reveal())
	if err != nil {
		return err
	}
	c, err := admin.Connection(ctx, boxOffice)
	if err != nil {
		return err
	}
	defer func() {
		t.out.aside("The second server has done its part and is stopped.")
		t.crash.server.end(os.Interrupt)
		t.crash.server = nil
	}()
	t.promise(grant.Generation == 4 && c.Generation == 4 && grant.Alive, "after three refreshes both ends are at the same generation", "the issuer is at %d, the keeper at %d", grant.Generation, c.Generation)
	return nil
}

// postJSON sends a JSON document to an endpoint of the server and shows both ways.
func (t *tour) postJSON(ctx context.Context, path string, document any) (exchange, error) {
	body, err := json.Marshal(document)
	if err != nil {
		return exchange{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.base+path, bytes.NewReader(body))
	if err != nil {
		return exchange{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	return t.show(send(t.http, req))
}
