package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// newVerifier makes a PKCE code verifier (RFC 7636 section 4.1).
func newVerifier() string { return randomText(32) }

// authorizeURL is where a client sends the browser (RFC 6749 section 4.1.1).
func authorizeURL(base, redirect, state, verifier string) string {
	query := "?response_type=code&client_id=" + demoClient + "&redirect_uri=" + url.QueryEscape(redirect)
	if state != "" {
		query += "&state=" + url.QueryEscape(state)
	}
	return base + issuer.AuthorizePath + query + "&code_challenge_method=S256&code_challenge=" + oauth.Challenge(verifier)
}

// browser keeps cookies and says where a form came from, as browsers do.
type browser struct {
	*tour
	client *http.Client
}

func (t *tour) newBrowser() (browser, error) {
	jar, err := cookiejar.New(nil)
	client := *t.http
	client.Jar = jar
	return browser{t, &client}, err
}

// press posts a form that is nothing but a button.
func (b browser) press(ctx context.Context, page string) (exchange, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, page, nil)
	if err != nil {
		return exchange{}, err
	}
	req.Header.Set("Origin", b.base)
	return b.show(send(b.client, req))
}

// open shows a page, or posts a form to it.
func (b browser) open(ctx context.Context, page string, pairs ...string) (exchange, error) {
	if len(pairs) == 0 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
		if err != nil {
			return exchange{}, err
		}
		return b.show(send(b.client, req))
	}
	req, err := form(ctx, page, "", pairs...)
	if err != nil {
		return exchange{}, err
	}
	req.Header.Set("Origin", b.base)
	return b.show(send(b.client, req))
}

func (t *tour) authorize(ctx context.Context) error {
	verifier, state := newVerifier(), randomText(8)
	back, err := t.consent(ctx, authorizeURL(t.base, t.redirect, state, verifier))
	if err != nil {
		return err
	}
	answer := back.Query()
	t.promise(answer.Get("code") != "" && answer.Get("state") == state && answer.Get("iss") == t.base,
		"the code comes back to the client, with its state and the issuer", "code %s, state %q, iss %q", answer.Get("code"), answer.Get("state"), answer.Get("iss"))

	t.out.aside("Somebody saw the code on its way, but does not know the verifier:")
	e, err := t.redeem(ctx, answer.Get("code"), newVerifier())
	if err != nil {
		return err
	}
	t.promise(e.refused(oauth.InvalidGrant), "without the verifier the code is worth nothing", "%s", e.outcome())

	t.out.aside("The client does:")
	if e, err = t.redeem(ctx, answer.Get("code"), verifier); err != nil {
		return err
	}
	tokens := decode[oauth.TokenResponse](e)
	t.promise(e.status == http.StatusOK && tokens.AccessToken != "" && tokens.RefreshToken != "", "code and verifier give tokens, and the attempt before spent nothing",
		"%s, %s, %s", e.outcome(), tokens.AccessToken, tokens.RefreshToken)

	t.out.aside("The same request once more:")
	if e, err = t.redeem(ctx, answer.Get("code"), verifier); err != nil {
		return err
	}
	t.promise(e.refused(oauth.InvalidGrant), "a code works once: its replay is refused", "%s", e.outcome())
	return t.replayed(ctx, tokens)
}

// consent signs the owner in and allows everything, and returns where the
// browser is sent at the end.
func (t *tour) consent(ctx context.Context, page string) (*url.URL, error) {
	b, err := t.newBrowser()
	if err != nil {
		return nil, err
	}
	signIn, err := b.open(ctx, page)
	if err != nil {
		return nil, err
	}
	asked := bytes.Contains(signIn.body, []byte(`name="password"`))
	if _, err = b.open(ctx, page, "username", demoUsername, "password", demoPassword, "action", "sign_in"); err != nil {
		return nil, err
	}
	consent, err := b.open(ctx, page)
	if err != nil {
		return nil, err
	}
	offered := bytes.Contains(consent.body, []byte(`value="write"`))
	t.promise(asked && offered, "the owner is asked to sign in, and then what to allow", "a password field: %t, a choice for write: %t", asked, offered)
	e, err := b.open(ctx, page, "username", demoUsername, "scope", "read", "scope", "write", "action", "allow")
	if err != nil {
		return nil, err
	}
	back, err := url.Parse(e.header.Get("Location"))
	if err != nil || e.status != http.StatusSeeOther {
		return nil, fmt.Errorf("the browser was not sent back to the client: %s", statusLine(e.status))
	}
	return back, nil
}

func (t *tour) redeem(ctx context.Context, code, verifier string) (exchange, error) {
	return t.post(ctx, testClient, issuer.TokenPath, "grant_type", oauth.GrantAuthorizationCode, "code", code, "redirect_uri", t.redirect, "code_verifier", verifier)
}

// replayed checks that a replay ended what the code had given.
func (t *tour) replayed(ctx context.Context, tokens oauth.TokenResponse) error {
	seen, err := t.introspected(ctx, tokens.AccessToken)
	if err != nil {
		return err
	}
	t.promise(!seen.Active, "and what it had given is revoked: the access token is inactive", "active is %t", seen.Active)
	e, err := t.admin.Explain(ctx, secret.NewText(tokens.RefreshToken))
	if err != nil {
		return err
	}
	if e.Grant == nil {
		return errors.New("the server knows no grant of the code")
	}
	if err := t.showGrant(*e.Grant); err != nil {
		return err
	}
	t.promise(e.Grant.RevokedCause == string(issuer.CauseCodeReplayed), "the grant says why", "revoked because of %q", e.Grant.RevokedCause)
	return nil
}
