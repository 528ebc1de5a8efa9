package issuer_test

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// The example of RFC 7636 appendix B.
const (
	verifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

// authorizationRequest is a good request of a client. More pairs of names and
// values replace parameters; an empty value removes one.
func (e *site) authorizationRequest(as party, more ...string) url.Values {
	redirectURI := callback
	if as == public {
		redirectURI = loopback
	}
	values := formOf("response_type", "code", "client_id", as.id, "redirect_uri", redirectURI, "state", "af0ifjsldkj",
		"code_challenge", challenge, "code_challenge_method", "S256")
	for pair := range slices.Chunk(more, 2) {
		values.Del(pair[0])
		if pair[1] != "" {
			values.Set(pair[0], pair[1])
		}
	}
	return values
}

// authorizePage is what the authorization endpoint answers the browser.
func (e *site) authorizePage(request url.Values) reply {
	e.t.Helper()
	return e.get(issuer.AuthorizePath + "?" + request.Encode())
}

// authorize is what the browser carries back to the client.
func (e *site) authorize(request url.Values) url.Values {
	e.t.Helper()
	return e.authorizePage(request).carried(e.t)
}

// carried is the query of a redirect to the client.
func (r reply) carried(t testing.TB) url.Values {
	t.Helper()
	to, err := url.Parse(r.header.Get("Location"))
	if err != nil || r.status != http.StatusSeeOther || to.Host == "" {
		t.Fatalf("no redirect to a client: %d %q %s", r.status, r.header.Get("Location"), r.body)
	}
	return to.Query()
}

// code is an authorization code for a client.
func (e *site) code(as party, more ...string) string {
	e.t.Helper()
	answer := e.authorize(e.authorizationRequest(as, more...))
	if answer.Get("code") == "" {
		e.t.Fatalf("no code in %v", answer)
	}
	return answer.Get("code")
}

// redeem presents a code as its client would. More pairs replace parameters.
func (e *site) redeem(as party, code string, more ...string) reply {
	e.t.Helper()
	form := e.authorizationRequest(as)
	pairs := []string{"grant_type", "authorization_code", "code", code, "redirect_uri", form.Get("redirect_uri"), "code_verifier", verifier}
	for i := 0; i < len(more); i += 2 {
		if at := slices.Index(pairs, more[i]); at >= 0 && at%2 == 0 {
			pairs[at+1] = more[i+1]
		} else {
			pairs = append(pairs, more[i], more[i+1])
		}
	}
	return e.post(issuer.TokenPath, as, pairs...)
}

func TestAuthorizationAnswer(t *testing.T) {
	e := newSite(t, setup{})
	r := e.authorizePage(e.authorizationRequest(app, "scope", "read"))
	answer := r.carried(t)
	if !strings.HasPrefix(r.header.Get("Location"), callback+"?") {
		t.Errorf("Location %s", r.header.Get("Location"))
	}
	if answer.Get("state") != "af0ifjsldkj" || answer.Get("iss") != e.url || len(answer) != 3 {
		t.Errorf("answer %v, want code, state and iss (RFC 9207)", answer)
	}
	if r.header.Get("Cache-Control") != "no-store" || r.header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("headers %v", r.header)
	}
	grant := e.grant()
	if grant.Generation != 0 || grant.Subject != owner || grant.ClientID != app.id || grant.Scope.String() != "read" || grant.ExpiresAt.Sub(e.clock.now()) != time.Minute {
		t.Errorf("grant %+v", grant)
	}
	event := e.wantEvent(issuer.EventGrantCreated, "")
	if event.Actor != "user:"+owner || event.Address != clientAddress(t, e) || event.Grant != grant.ID || event.ClientID != app.id || !strings.Contains(event.Detail, "scope read") {
		t.Errorf("event %+v", event)
	}
	if answer := e.authorize(e.authorizationRequest(app, "state", "")); answer.Has("state") {
		t.Errorf("state %q came of nothing", answer.Get("state"))
	}
}

// TestShownErrors: where client and redirect URI are not known to belong
// together, the owner is told and nothing is redirected (RFC 6749 section
// 4.1.2.1).
func TestShownErrors(t *testing.T) {
	e := newSite(t, setup{})
	two := e.register(party{"two", secret.NewSecret().Reveal()}, issuer.Client{RedirectURIs: []string{callback, callback + "/two"}})
	none := e.register(party{"none", secret.NewSecret().Reveal()}, issuer.Client{})
	for name, c := range map[string]struct {
		request url.Values
		says    string
	}{
		"no client":               {e.authorizationRequest(app, "client_id", ""), "client_id is missing"},
		"unknown client":          {e.authorizationRequest(app, "client_id", "unknown"), "not registered here"},
		"foreign redirect":        {e.authorizationRequest(app, "redirect_uri", "https://evil.example/callback"), "not registered for this client"},
		"longer redirect":         {e.authorizationRequest(app, "redirect_uri", callback+"/x"), "to the letter"},
		"redirect with a query":   {e.authorizationRequest(app, "redirect_uri", callback+"?x=1"), "to the letter"},
		"other case":              {e.authorizationRequest(app, "redirect_uri", "https://App.example/callback"), "to the letter"},
		"climbing redirect":       {e.authorizationRequest(app, "redirect_uri", callback+"/../callback"), "to the letter"},
		"other port":              {e.authorizationRequest(app, "redirect_uri", "https://app.example:8443/callback"), "to the letter"},
		"several, and none named": {e.authorizationRequest(two, "redirect_uri", ""), "redirect_uri is missing"},
		"none registered":         {e.authorizationRequest(none), "not registered for this client"},
		"none at all":             {e.authorizationRequest(none, "redirect_uri", ""), "redirect_uri is missing"},
		"duplicate client":        {url.Values{"client_id": {app.id, other.id}}, "client_id is given more than once"},
		"duplicate state":         {url.Values{"client_id": {app.id}, "state": {"a", "b"}}, "state is given more than once"},
		"markup":                  {url.Values{"<script>\"": {"a", "b"}}, "given more than once"},
	} {
		t.Run(name, func(t *testing.T) {
			r := e.authorizePage(c.request)
			if r.status != 400 || r.header.Get("Location") != "" || !strings.Contains(r.body, c.says) {
				t.Errorf("%d, Location %q, %q; want 400 and %q", r.status, r.header.Get("Location"), r.body, c.says)
			}
			if kind := r.header.Get("Content-Type"); kind != "text/plain; charset=utf-8" {
				t.Errorf("Content-Type %q", kind)
			}
		})
	}
	for _, raw := range []string{"client_id=%zz", "a;b", "%"} {
		if r := e.get(issuer.AuthorizePath + "?" + raw); r.status != 400 || r.header.Get("Location") != "" {
			t.Errorf("query %q: %d", raw, r.status)
		}
	}
	if n := len(e.grants()); n != 0 {
		t.Errorf("%d grants came of errors", n)
	}
}

// TestRedirectedErrors: the rest goes back to the client, with state and iss.
func TestRedirectedErrors(t *testing.T) {
	e := newSite(t, setup{})
	machine := e.register(party{"machine", secret.NewSecret().Reveal()}, issuer.Client{RedirectURIs: []string{callback}, GrantTypes: []string{oauth.GrantClientCredentials}})
	limited := e.register(party{"limited", secret.NewSecret().Reveal()}, issuer.Client{RedirectURIs: []string{callback}, Scopes: oauth.Scope{"read"}})
	for name, c := range map[string]struct {
		request url.Values
		code    string
	}{
		"no response type":       {e.authorizationRequest(app, "response_type", ""), oauth.InvalidRequest},
		"token":                  {e.authorizationRequest(app, "response_type", "token"), oauth.UnsupportedResponseType},
		"hybrid":                 {e.authorizationRequest(app, "response_type", "code id_token"), oauth.UnsupportedResponseType},
		"not this grant type":    {e.authorizationRequest(machine), oauth.UnauthorizedClient},
		"fragment mode":          {e.authorizationRequest(app, "response_mode", "fragment"), oauth.InvalidRequest},
		"no challenge":           {e.authorizationRequest(app, "code_challenge", ""), oauth.InvalidRequest},
		"no challenge by public": {e.authorizationRequest(public, "code_challenge", ""), oauth.InvalidRequest},
		"plain":                  {e.authorizationRequest(app, "code_challenge_method", "plain"), oauth.InvalidRequest},
		"plain by default":       {e.authorizationRequest(app, "code_challenge_method", ""), oauth.InvalidRequest},
		"lower case method":      {e.authorizationRequest(app, "code_challenge_method", "s256"), oauth.InvalidRequest},
		"no digest":              {e.authorizationRequest(app, "code_challenge", verifier[:42]), oauth.InvalidRequest},
		"padded digest":          {e.authorizationRequest(app, "code_challenge", challenge+"="), oauth.InvalidRequest},
		"unknown scope":          {e.authorizationRequest(app, "scope", "read admin"), oauth.InvalidScope},
		"scope of others":        {e.authorizationRequest(limited, "scope", "read write"), oauth.InvalidScope},
		"scope syntax":           {e.authorizationRequest(app, "scope", "re\"ad"), oauth.InvalidScope},
	} {
		t.Run(name, func(t *testing.T) {
			answer := e.authorize(c.request)
			if answer.Get("error") != c.code || answer.Get("state") != "af0ifjsldkj" || answer.Get("iss") != e.url || answer.Has("code") {
				t.Errorf("answer %v, want %s", answer, c.code)
			}
			if text := answer.Get("error_description"); text == "" || !legalText.MatchString(text) {
				t.Errorf("description %q", text)
			}
		})
	}
	if r := e.authorizePage(e.authorizationRequest(app, "response_mode", "query")); r.carried(t).Get("code") == "" {
		t.Error("response_mode=query was refused")
	}
	if n := len(e.grants()); n != 1 {
		t.Errorf("%d grants", n)
	}
}

// TestRedirectURIs is about which URI the browser is sent to.
func TestRedirectURIs(t *testing.T) {
	e := newSite(t, setup{})
	native := e.register(party{"native", ""}, issuer.Client{RedirectURIs: []string{"http://127.0.0.1/cb", "http://[::1]/cb", "com.example.app:/cb", "http://localhost/cb"}})
	queried := e.register(party{"queried", secret.NewSecret().Reveal()}, issuer.Client{RedirectURIs: []string{callback + "?tenant=a%20b&x=1;y=2"}})
	for given, good := range map[string]bool{
		"http://127.0.0.1/cb": true, "http://127.0.0.1:49152/cb": true, "http://[::1]:61023/cb": true, "com.example.app:/cb": true, "http://localhost/cb": true,
		"http://127.0.0.1:49152/cb/x": false, "http://localhost:49152/cb": false, "http://127.0.0.2:49152/cb": false, "https://127.0.0.1/cb": false, "com.example.app:/other": false,
	} {
		r := e.authorizePage(e.authorizationRequest(native, "redirect_uri", given))
		if sent := strings.HasPrefix(r.header.Get("Location"), given+"?"); sent != good {
			t.Errorf("%s: %d %s", given, r.status, r.header.Get("Location"))
		}
	}
	// Omitted where one is registered; its own query is kept (section 3.1.2).
	r := e.authorizePage(e.authorizationRequest(queried, "redirect_uri", ""))
	if !strings.HasPrefix(r.header.Get("Location"), callback+"?tenant=a%20b&x=1;y=2&") {
		t.Errorf("Location %s", r.header.Get("Location"))
	}
	to, err := url.Parse(r.header.Get("Location"))
	e.must(err)
	e.redeem(queried, url.Values(to.Query()).Get("code"), "redirect_uri", "").tokens(t)
}

func TestAuthorizationMethods(t *testing.T) {
	e := newSite(t, setup{})
	request := e.authorizationRequest(app)
	posted := e.do(e.request(issuer.AuthorizePath, request.Encode()))
	location, err := url.Parse(posted.header.Get("Location"))
	e.must(err)
	if posted.status != http.StatusSeeOther || location.Path != issuer.AuthorizePath || location.Query().Encode() != request.Encode() {
		t.Errorf("a posted request was answered %d with %s", posted.status, location)
	}
	twice := e.request(issuer.AuthorizePath, request.Encode()+"&state=again")
	if location := e.do(twice).header.Get("Location"); e.get(strings.TrimPrefix(location, e.url)).status != 400 {
		t.Error("a duplicate parameter was lost on the way from POST to GET")
	}
	if r := e.do(e.request(issuer.AuthorizePath, strings.Repeat("a", 65<<10))); r.status != 400 {
		t.Errorf("a body above the cap: %d", r.status)
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodHead} { // HEAD, because a link preview must not create a grant
		req := e.request(issuer.AuthorizePath+"?"+request.Encode(), "")
		req.Method = method
		if r := e.do(req); r.status != 405 || r.header.Get("Allow") != "GET, POST" {
			t.Errorf("%s: %d, Allow %q", method, r.status, r.header.Get("Allow"))
		}
	}
	if n := len(e.grants()); n != 0 {
		t.Errorf("%d grants", n)
	}
}

// TestIssuerWithAPath: a server below a path of its host redirects within it.
func TestIssuerWithAPath(t *testing.T) {
	e := newSite(t, setup{config: func(c *issuer.Config) { c.Issuer += "/tenant" }})
	posted := e.do(e.request(issuer.AuthorizePath, e.authorizationRequest(app).Encode()))
	if location := posted.header.Get("Location"); !strings.HasPrefix(location, e.url+"/tenant"+issuer.AuthorizePath+"?") {
		t.Errorf("a posted request was sent to %s", location)
	}
}

// TestAskOwner walks through an owner's pages: the form is served, the answer
// comes by POST, and only then a code is made.
func TestAskOwner(t *testing.T) {
	e := newSite(t, setup{})
	e.owner = func(w http.ResponseWriter, r *http.Request, ask *issuer.Authorization) (issuer.Answer, bool) {
		if r.Method != http.MethodPost {
			io.WriteString(w, "a form for "+ask.Client.ID+": "+ask.Descriptions["read"]+", "+ask.Descriptions["write"])
			return issuer.Answer{}, false
		}
		user, err := ask.SignIn(r.Context(), r.PostFormValue("username"), secret.NewText(r.PostFormValue("password")))
		if err != nil {
			http.Error(w, "no", http.StatusForbidden)
			return issuer.Answer{}, false
		}
		return issuer.Answer{Subject: user.Username, Scope: oauth.Scope{"read"}, Denied: r.PostFormValue("action") == "deny"}, true
	}
	page := issuer.AuthorizePath + "?" + e.authorizationRequest(app).Encode()
	if r := e.get(page); r.status != 200 || r.body != "a form for app: Read your data, Change your data" {
		t.Fatalf("%d %s", r.status, r.body)
	}
	answer := func(action, password string) reply {
		return e.do(e.request(page, formOf("action", action, "username", owner, "password", password).Encode()))
	}
	if r := answer("allow", "wrong"); r.status != 403 {
		t.Errorf("wrong password: %d", r.status)
	}
	event := e.wantEvent(issuer.EventLoginFailed, issuer.CauseCredentialsWrong)
	if event.Actor != "user:"+owner || event.ClientID != app.id || event.Address != clientAddress(t, e) {
		t.Errorf("event %+v", event)
	}
	if denied := answer("deny", ownerPassword).carried(t); denied.Get("error") != oauth.AccessDenied || denied.Get("state") != "af0ifjsldkj" || denied.Get("iss") != e.url {
		t.Errorf("denied: %v", denied)
	}
	if len(e.grants()) != 0 {
		t.Error("a refusal left a grant")
	}
	if strings.Contains(e.log.String(), "level=ERROR") {
		t.Error("an owner's refusal is logged as an error")
	}
	tokens := e.redeem(app, answer("allow", ownerPassword).carried(t).Get("code")).tokens(t)
	if tokens.Scope != "read" {
		t.Errorf("scope %q, the owner granted a part", tokens.Scope)
	}
	for _, event := range e.events(issuer.EventLoginSucceeded) {
		if event.Actor != "user:"+owner || event.Subject != owner || event.ClientID != app.id || event.Address != clientAddress(t, e) {
			t.Errorf("event %+v", event)
		}
	}
	if n := len(e.events(issuer.EventLoginSucceeded)); n != 2 {
		t.Errorf("%d sign-ins are noted, want 2", n)
	}
}

// TestAskOwnerMisuse: an answer that cannot be is an error of ours, and grants
// nothing.
func TestAskOwnerMisuse(t *testing.T) {
	for name, answer := range map[string]issuer.Answer{
		"no subject":       {Scope: oauth.Scope{"read"}},
		"more than asked":  {Subject: owner, Scope: oauth.Scope{"read", "write"}},
		"unheard of scope": {Subject: owner, Scope: oauth.Scope{"admin"}},
		"nothing":          {},
	} {
		t.Run(name, func(t *testing.T) {
			e := newSite(t, setup{})
			e.owner = func(http.ResponseWriter, *http.Request, *issuer.Authorization) (issuer.Answer, bool) {
				return answer, true
			}
			got := e.authorize(e.authorizationRequest(app, "scope", "read"))
			if got.Get("error") != oauth.ServerError || got.Has("code") || len(e.grants()) != 0 {
				t.Errorf("answer %v, %d grants", got, len(e.grants()))
			}
			if !strings.Contains(e.log.String(), "level=ERROR") {
				t.Error("nobody hears of it")
			}
		})
	}
}

// TestAskOwnerCannotChangeTheRegistration: what it is given is its own copy.
func TestAskOwnerCannotChangeTheRegistration(t *testing.T) {
	e := newSite(t, setup{})
	as := e.register(party{"limited", secret.NewSecret().Reveal()}, issuer.Client{
		RedirectURIs: []string{callback}, Scopes: oauth.Scope{"read", "write"}, GrantTypes: []string{oauth.GrantAuthorizationCode, oauth.GrantPassword},
	})
	e.owner = func(_ http.ResponseWriter, _ *http.Request, ask *issuer.Authorization) (issuer.Answer, bool) {
		granted := slices.DeleteFunc(ask.Scope, func(token string) bool { return token == "read" })
		ask.Scope = granted
		return issuer.Answer{Subject: owner, Scope: granted}, true
	}
	if tokens := e.redeem(as, e.code(as)).tokens(t); tokens.Scope != "write" {
		t.Errorf("scope %q", tokens.Scope)
	}
	if tokens := e.login(as); tokens.Scope != "read write" {
		t.Errorf("the client's scope is now %q", tokens.Scope)
	}
}

func TestErrorPage(t *testing.T) {
	e := newSite(t, setup{config: func(c *issuer.Config) {
		c.ErrorPage = func(w http.ResponseWriter, _ *http.Request, status int, message string) {
			w.WriteHeader(status)
			io.WriteString(w, "page: "+message)
		}
	}})
	if r := e.authorizePage(url.Values{}); r.status != 400 || r.body != "page: The parameter client_id is missing." {
		t.Errorf("%d %q", r.status, r.body)
	}
}
