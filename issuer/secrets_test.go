package issuer_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// harvest collects every secret of a run.
type harvest struct {
	e       *site
	secrets []string
}

func (h *harvest) keep(secrets ...string) {
	for _, s := range secrets {
		if s != "" {
			h.secrets = append(h.secrets, s)
		}
	}
}

func (h *harvest) tokens(tokens oauth.TokenResponse) oauth.TokenResponse {
	h.keep(tokens.AccessToken, tokens.RefreshToken)
	return tokens
}

// TestNothingSecretIsWrittenDown does everything that can be done, right and
// wrong, and then looks for every secret in the log at debug level, all error
// answers, all events, and the metrics.
func TestNothingSecretIsWrittenDown(t *testing.T) {
	t.Parallel()
	e := newFaulty(t, setup{})
	h := &harvest{e: e.site, secrets: []string{app.secret, other.secret, resources.secret, ownerPassword, chosenSecret, url.QueryEscape(chosenSecret), e.root.Base64(), verifier}}
	jwt := e.variant("jwt", issuer.Policy{})
	h.keep(jwt.secret)
	_, err := e.admin.SaveUser(e.ctx(), operator, issuer.User{Username: "ada", Password: chosen()})
	e.must(err)
	h.failures(e)
	for _, as := range []party{app, jwt} {
		h.flows(as)
		h.mistakes(as)
	}
	h.administration()

	events, err := json.Marshal(e.events(""))
	e.must(err)
	gathered, err := e.metrics.Gather()
	e.must(err)
	written := map[string]string{"the log": e.log.String(), "error answers": e.answers.String(), "events": string(events), "metrics": fmt.Sprint(gathered)}
	for where, text := range written {
		if len(text) < 500 {
			t.Errorf("%s: only %q; was the run a run?", where, text)
		}
		for _, s := range h.secrets {
			if strings.Contains(text, s) {
				t.Errorf("%q is in %s", s, where)
			}
		}
	}
	if len(h.secrets) < 40 {
		t.Errorf("only %d secrets were collected", len(h.secrets))
	}
}

// flows are the right requests.
func (h *harvest) flows(as party) {
	e := h.e
	first := h.tokens(e.login(as))
	second := h.tokens(e.refreshed(as, first.RefreshToken))
	h.tokens(e.refreshed(as, first.RefreshToken, "scope", "read"))
	code := e.code(as)
	h.keep(code)
	redeemed := h.tokens(e.redeem(as, code).tokens(e.t))
	h.tokens(e.post(issuer.TokenPath, as, "grant_type", "client_credentials").tokens(e.t))
	h.tokens(e.post(issuer.TokenPath, as, "grant_type", "password", "username", "ada", "password", chosenSecret).tokens(e.t))
	e.introspect(second.AccessToken)
	e.revoke(as, redeemed.AccessToken)
	e.revoke(as, redeemed.RefreshToken)
}

// mistakes are requests that are refused, each with something secret in it.
func (h *harvest) mistakes(as party) {
	e := h.e
	tokens, code := h.tokens(e.login(as)), e.code(as)
	h.keep(code)
	stray := secret.NewSecret().Reveal()
	h.keep(stray)
	e.refresh(party{as.id, stray}, tokens.RefreshToken)
	e.refresh(party{as.id, chosenSecret}, tokens.RefreshToken)
	e.refresh(other, tokens.RefreshToken)
	e.refresh(as, tokens.RefreshToken, "scope", "admin")
	e.refresh(as, tokens.RefreshToken[:50])
	e.refresh(as, tokens.AccessToken)
	e.redeem(as, tokens.RefreshToken)
	e.redeem(as, code, "code_verifier", strings.Repeat(stray, 2)[:43])
	e.redeem(as, code, "redirect_uri", "https://evil.example/")
	e.redeem(as, code).tokens(e.t)
	e.redeem(as, code)
	for _, password := range []string{stray, chosenSecret, tokens.RefreshToken} {
		e.post(issuer.TokenPath, as, "grant_type", "password", "username", owner, "password", password)
	}
	e.post(issuer.TokenPath, as, "grant_type", stray)
	e.post(issuer.TokenPath, as, "grant_type", "password", "username", owner, "password", stray, "scope", `"`+stray)
	e.do(e.request(issuer.TokenPath, "grant_type=password&password="+stray+"&password="+stray))
	e.do(e.request(issuer.TokenPath, "password="+stray+"%zz"))
	e.do(e.request(issuer.TokenPath+"?client_secret="+stray, "grant_type=password"))
	for _, authorization := range []string{"Bearer " + tokens.AccessToken, "Basic " + stray, stray, rawBasic(as.id+"\x00", stray)} {
		e.attempt([]string{authorization})
	}
	e.attempt([]string{oauth.BasicHeader(as.id, as.secret)}, "client_secret", stray)
	e.post(issuer.IntrospectPath, other, "token", tokens.AccessToken)
	e.post(issuer.RevokePath, other, "token", tokens.RefreshToken)
	e.authorizePage(e.authorizationRequest(as, "state", stray, "redirect_uri", "https://evil.example/"+stray))
	e.get(issuer.AuthorizePath + "?client_id=" + as.id + "&state=" + stray + "&state=" + stray)
	next := h.tokens(e.refreshed(as, tokens.RefreshToken))
	h.tokens(e.refreshed(as, next.RefreshToken))
	e.clock.advance(time.Hour)
	e.refresh(as, tokens.RefreshToken).wantError(e.t, 400, oauth.InvalidGrant)
}

// failures are answers while the database does not work.
func (h *harvest) failures(e *faulty) {
	tokens := h.tokens(e.login(app))
	e.during(&fault{err: fmt.Errorf("%w: disk full", issuer.ErrUnavailable)}, func() {
		e.refresh(app, tokens.RefreshToken).wantError(e.t, 503, oauth.TemporarilyUnavailable)
		e.post(issuer.RevokePath, app, "token", tokens.AccessToken).wantError(e.t, 503, oauth.TemporarilyUnavailable)
		e.authorize(e.authorizationRequest(app))
		e.loginRequest(app)()
	})
	backup := e.backup()
	ahead := h.tokens(e.refreshed(app, h.tokens(e.refreshed(app, tokens.RefreshToken)).RefreshToken))
	e.restore(backup)
	h.tokens(e.refreshed(app, ahead.RefreshToken))
}

// administration is what operators do with tokens and secrets.
func (h *harvest) administration() {
	e := h.e
	tokens := h.tokens(e.login(app))
	for _, subject := range []string{tokens.AccessToken, tokens.RefreshToken, tokens.RefreshToken[:30] + "x"} {
		explained, err := e.admin.Explain(e.ctx(), subject)
		if err != nil {
			e.answers.Write([]byte(err.Error() + "\n"))
		}
		fmt.Fprintf(&e.answers, "%+v\n", explained)
	}
	_, err := e.admin.SaveClient(e.ctx(), operator, issuer.Client{ID: "bad", Secrets: []secret.Verifier{chosenSecret}})
	fmt.Fprintln(&e.answers, err)
	_, err = e.admin.SaveUser(e.ctx(), operator, issuer.User{Username: "bad", Password: chosenSecret})
	fmt.Fprintln(&e.answers, err)
	_, err = e.admin.RotateKeys(e.ctx(), operator, 0)
	e.must(err)
	for _, key := range e.ring.Keys() {
		fmt.Fprintf(&e.log, "%v %+v %s %#v\n", key, key, key, key.Signers())
	}
	e.owner = func(http.ResponseWriter, *http.Request, *issuer.Authorization) (issuer.Answer, bool) {
		return issuer.Answer{Denied: true}, true
	}
	e.authorize(e.authorizationRequest(app))
	e.must(e.admin.DeleteClient(e.ctx(), operator, app.id))
}
