package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// The example that the demo declares, and its tour uses. The secrets are no
// secrets: they are printed.
const (
	demoClient   = "TestClient"
	demoSecret   = "TestSecret"
	demoUsername = "bshaffer"
	demoPassword = "brent123"
	demoScope    = "read write"
	testClient   = demoClient + ":" + demoSecret
	apiClient    = "api:ApiSecret" // the resource server
)

// tour shows what a server promises on its HTTP interface, and checks it. All
// that it knows of the server is its URL and the admin token.
type tour struct {
	*stage // of the keeper's part

	base     string // URL of the server, which is its issuer identifier too
	redirect string // a redirect URI of the client
	admin    *evergrant.Client
	http     *http.Client
	out      *story

	at       string              // title of the step
	first    oauth.TokenResponse // of the grant that most steps follow
	newest   oauth.TokenResponse // of the same grant
	grant    string              // its id
	promises []promise           // that were checked
}

// promise is one that was checked, and how it came out.
type promise struct {
	Step     string `json:"step"`
	Promise  string `json:"promise"`
	Kept     bool   `json:"kept"`
	Compared string `json:"compared"` // what with what
}

// step is a part of the tour. An error of run is what kept it from its end.
type step struct {
	title, about string
	run          func(*tour, context.Context) error
}

// steps are the tour, in its order: each goes on from what the last one left.
func steps() []step { return slices.Concat(issuerSteps(), keeperSteps()) }

// issuerSteps are the part of the tour that shows the issuer.
func issuerSteps() []step {
	return []step{
		{"Issue", "A client gives its user's name and password for tokens: the password grant, which is a legacy and " +
			"off unless a client lists it. One row is written; the tokens are derived from it and stored nowhere.", (*tour).issue},
		{"Refresh", "The refresh token is used up and its successor comes back: rotation, one compare-and-set of the same row.", (*tour).refresh},
		{"A race: one refresh, 20 times at once", "20 processes of one client refresh with the same token in the same moment. " +
			"One of them moves the grant on; the others are given the very same tokens, so that no chain forks and nobody is logged out.", (*tour).race},
		{"A lost answer, and its retry", "The connection is cut after the server has answered and before the client has seen a byte. " +
			"Within the retry window of 60 s the client may ask again, and is given what was lost.", (*tour).loseAnswer},
		{"A narrower scope", "A refresh may ask for less than was granted. That narrows the access token, never the refresh token. " +
			"It may not ask for more, and asking costs nothing.", (*tour).narrow},
		{"Introspection", "A resource server asks what a token is worth at this moment (RFC 7662).", (*tour).introspect},
		{"A client for itself", "With client_credentials a client gets a token in its own name, without a resource owner (RFC 6749 section 4.4).", (*tour).clientCredentials},
		{"Authorization code with PKCE", "The owner signs in and consents in a browser; the client gets a code through the browser and " +
			"redeems it with the verifier that only it knows (RFC 7636). The code works once. This is a grant of its own.", (*tour).authorize},
		{"A client of another server", "It was made for bshaffer/oauth2-server-php and is not changed: same path, same fields, and by that server's defaults one refresh for each sign-in. " +
			"Then one setting takes it to lossless rotation, while it is in use.", (*tour).moveClient},
		{"A thief with an old token", "Somebody found the very first refresh token, in a log or an old copy, and uses it. " +
			"One of the two holders of this grant is not the client; nobody can tell which, so the grant ends for both.", (*tour).theft},
		{"Revocation", "A client that is done with a grant revokes its refresh token (RFC 7009), here on a fresh grant. " +
			"With it goes every access token, at once.", (*tour).revoke},
	}
}

// run goes through steps. The error is the context's; what the server did wrong
// is in promises.
func (t *tour) run(ctx context.Context, all []step) error {
	for i, s := range all {
		t.take(ctx, fmt.Sprintf("%d/%d ", i+1, len(all)), s)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// take goes through one step.
func (t *tour) take(ctx context.Context, number string, s step) {
	t.at = s.title
	t.out.heading(number + s.title)
	t.out.prose(s.about)
	if err := s.run(t, ctx); err != nil && ctx.Err() == nil {
		t.promise(false, "the step goes through to its end", "%v", err)
	}
}

// promise checks one and shows it, with what was compared.
func (t *tour) promise(kept bool, text, compared string, args ...any) {
	p := promise{t.at, text, kept, shorten(fmt.Sprintf(compared, args...))}
	t.promises = append(t.promises, p)
	t.out.promise(p)
}

// broken are the promises that were not kept.
func (t *tour) broken() []promise {
	var broken []promise
	for _, p := range t.promises {
		if !p.Kept {
			broken = append(broken, p)
		}
	}
	return broken
}

// post sends a form to an endpoint as a client and shows both ways.
func (t *tour) post(ctx context.Context, client, path string, pairs ...string) (exchange, error) {
	req, err := form(ctx, t.base+path, client, pairs...)
	if err != nil {
		return exchange{}, err
	}
	return t.show(send(t.http, req))
}

// show shows an exchange.
func (t *tour) show(e exchange, err error) (exchange, error) {
	t.out.command(e.curl...)
	if err == nil {
		t.out.answer(e)
	}
	return e, err
}

// refreshWith is a refresh with a token, and more parameters in pairs.
func (t *tour) refreshWith(ctx context.Context, token string, more ...string) (exchange, oauth.TokenResponse, error) {
	pairs := append([]string{"grant_type", oauth.GrantRefreshToken, "refresh_token", token}, more...)
	e, err := t.post(ctx, testClient, issuer.TokenPath, pairs...)
	return e, decode[oauth.TokenResponse](e), err
}

// introspected is what the resource server learns of a token.
func (t *tour) introspected(ctx context.Context, token string) (oauth.Introspection, error) {
	e, err := t.post(ctx, apiClient, issuer.IntrospectPath, "token", token)
	if err == nil && e.status != http.StatusOK {
		err = fmt.Errorf("introspection was answered with %s", e.outcome())
	}
	return decode[oauth.Introspection](e), err
}

// stored reads the grant that the tour follows, as `evergrant grant show` does,
// without showing it.
func (t *tour) stored(ctx context.Context) (evergrant.Grant, error) {
	return t.admin.Grant(ctx, t.grant)
}

// command shows a command of administration and what it prints.
func (t *tour) command(print func(*invocation) error, words ...string) error {
	t.out.command(administration(t.admin, words...)...)
	var printed bytes.Buffer
	err := print(&invocation{stdout: &printed, stderr: &printed})
	t.out.block(printed.String())
	return err
}

// administration is a command of administration on a server.
func administration(server *evergrant.Client, words ...string) []string {
	words = append([]string{commandName()}, words...)
	return append(words, "--server "+quote(server.Server), "--token "+quote(server.Token.Reveal()))
}

// showGrant shows a grant as `evergrant grant show` does.
func (t *tour) showGrant(g evergrant.Grant) error {
	return t.command(func(in *invocation) error { return details(in.stdout, grantDetails(g)) }, "grant", "show", g.ID)
}

// explained asks which grant a token is of, and says if there is none.
func (t *tour) explained(ctx context.Context, token string) (evergrant.Grant, error) {
	e, err := t.admin.Explain(ctx, secret.NewText(token))
	if err != nil {
		return evergrant.Grant{}, err
	}
	if e.Grant == nil {
		return evergrant.Grant{}, fmt.Errorf("the server knows no grant of the token %s", shorten(token))
	}
	return *e.Grant, nil
}

// commandName is how this program was called, where it was by a path, so that
// commands can be pasted.
func commandName() string {
	if called := os.Args[0]; filepath.Base(called) == "evergrant" {
		return quote(called)
	}
	return "evergrant"
}
