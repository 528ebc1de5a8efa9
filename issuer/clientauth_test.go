package issuer_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// machine registers a client for client_credentials with given verifiers.
func (e *site) machine(id string, secrets ...secret.Verifier) {
	e.t.Helper()
	_, err := e.admin.SaveClient(e.ctx(), operator, issuer.Client{ID: id, Secrets: secrets, GrantTypes: []string{oauth.GrantClientCredentials}})
	e.must(err)
}

// attempt asks for a token by client_credentials with a given Authorization
// header and further parameters.
func (e *site) attempt(authorization []string, more ...string) reply {
	e.t.Helper()
	form := formOf(more...)
	form.Set("grant_type", "client_credentials")
	req := e.request(issuer.TokenPath, form.Encode())
	req.Header["Authorization"] = authorization
	return e.do(req)
}

// rawBasic is a Basic header without the form-urlencoding of RFC 6749 section
// 2.3.1, as many clients send it.
func rawBasic(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
}

func TestClientAuthentication(t *testing.T) {
	t.Parallel()
	e := newSite(t, setup{})
	e.machine("chosen", chosen())
	e.machine("a+b c%41", chosen())
	encoded, raw := oauth.BasicHeader("chosen", chosenSecret), rawBasic("chosen", chosenSecret)
	for name, c := range map[string]struct {
		authorization []string
		more          []string
		status        int
		code          string
	}{
		"Basic, encoded":              {[]string{encoded}, nil, 200, ""},
		"Basic, raw":                  {[]string{raw}, nil, 200, ""},
		"Basic in capitals":           {[]string{strings.Replace(raw, "Basic", "BASIC", 1)}, nil, 200, ""},
		"Basic, and the same id":      {[]string{encoded}, []string{"client_id", "chosen"}, 200, ""},
		"in the body":                 {nil, []string{"client_id", "chosen", "client_secret", chosenSecret}, 200, ""},
		"id with reserved, encoded":   {[]string{oauth.BasicHeader("a+b c%41", chosenSecret)}, nil, 200, ""},
		"id with reserved, raw":       {[]string{rawBasic("a+b c%41", chosenSecret)}, nil, 200, ""},
		"id with reserved, body":      {nil, []string{"client_id", "a+b c%41", "client_secret", chosenSecret}, 200, ""},
		"raw id beside raw Basic":     {[]string{rawBasic("a+b c%41", chosenSecret)}, []string{"client_id", "a+b c%41"}, 200, ""},
		"two methods":                 {[]string{encoded}, []string{"client_id", "chosen", "client_secret", chosenSecret}, 400, oauth.InvalidRequest},
		"two methods, secret alone":   {[]string{encoded}, []string{"client_secret", chosenSecret}, 400, oauth.InvalidRequest},
		"two headers":                 {[]string{encoded, encoded}, nil, 400, oauth.InvalidRequest},
		"another id in the body":      {[]string{encoded}, []string{"client_id", app.id}, 400, oauth.InvalidRequest},
		"Bearer":                      {[]string{"Bearer " + strings.Repeat("x", 20)}, nil, 401, oauth.InvalidClient},
		"Bearer, and a secret":        {[]string{"Bearer x"}, []string{"client_id", "chosen", "client_secret", chosenSecret}, 401, oauth.InvalidClient},
		"no scheme":                   {[]string{"Y2hvc2VuOng="}, nil, 401, oauth.InvalidClient},
		"empty header":                {[]string{""}, nil, 401, oauth.InvalidClient},
		"no credentials":              {[]string{"Basic "}, nil, 401, oauth.InvalidClient},
		"not base64":                  {[]string{"Basic ***"}, nil, 401, oauth.InvalidClient},
		"unpadded base64":             {[]string{"Basic " + strings.TrimRight(raw[6:], "=") + "x"}, nil, 401, oauth.InvalidClient},
		"no colon":                    {[]string{"Basic " + base64.StdEncoding.EncodeToString([]byte("chosen"))}, nil, 401, oauth.InvalidClient},
		"no id":                       {[]string{rawBasic("", chosenSecret)}, nil, 401, oauth.InvalidClient},
		"NUL":                         {[]string{rawBasic("chosen\x00", chosenSecret)}, nil, 401, oauth.InvalidClient},
		"no secret":                   {nil, []string{"client_id", "chosen"}, 401, oauth.InvalidClient},
		"empty secret in the body":    {nil, []string{"client_id", "chosen", "client_secret", ""}, 401, oauth.InvalidClient},
		"empty secret by Basic":       {[]string{rawBasic("chosen", "")}, nil, 401, oauth.InvalidClient},
		"secret alone":                {nil, []string{"client_secret", chosenSecret}, 401, oauth.InvalidClient},
		"another client's secret":     {[]string{oauth.BasicHeader("chosen", app.secret)}, nil, 401, oauth.InvalidClient},
		"encoded twice":               {[]string{oauth.BasicHeader("chosen", url.QueryEscape(chosenSecret))}, nil, 401, oauth.InvalidClient},
		"encoded in the body as well": {nil, []string{"client_id", "chosen", "client_secret", url.QueryEscape(chosenSecret)}, 401, oauth.InvalidClient},
		"other case of the id":        {[]string{oauth.BasicHeader("Chosen", chosenSecret)}, nil, 401, oauth.InvalidClient},
		"unknown client":              {[]string{oauth.BasicHeader("unknown", chosenSecret)}, nil, 401, oauth.InvalidClient},
		"unknown, generated secret":   {[]string{oauth.BasicHeader("unknown", app.secret)}, nil, 401, oauth.InvalidClient},
		"unknown, no secret":          {nil, []string{"client_id", "unknown"}, 401, oauth.InvalidClient},
		"a password in the id":        {[]string{oauth.BasicHeader(strings.Repeat("x", 300), "x")}, nil, 401, oauth.InvalidClient},
	} {
		t.Run(name, func(t *testing.T) {
			e.clock.advance(time.Hour) // no throttling here
			r := e.attempt(c.authorization, c.more...)
			if c.status == 200 {
				r.tokens(t)
				return
			}
			r.wantError(t, c.status, c.code)
		})
	}
	// A client that is unknown is told the same as one with a wrong secret.
	e.clock.advance(time.Hour)
	unknown, wrong := e.attempt([]string{rawBasic("unknown", "x")}), e.attempt([]string{rawBasic("app", "x")})
	if unknown.body != wrong.body || unknown.status != wrong.status {
		t.Errorf("%s differs from %s", unknown.body, wrong.body)
	}
}

// TestRefusedClientsAreNoted: with who, from where and why.
func TestRefusedClientsAreNoted(t *testing.T) {
	t.Parallel()
	e := newSite(t, setup{config: func(c *issuer.Config) {
		c.Address = func(r *http.Request) string { return r.Header.Get("X-Test-Address") }
	}})
	for _, c := range []struct {
		id, secret string
		cause      issuer.Cause
	}{{"app", "x", issuer.CauseClientSecretWrong}, {"unknown", "x", issuer.CauseClientUnknown}, {"nobody\"\n", "x", issuer.CauseClientUnknown}, {"public", "x", issuer.CauseClientSecretWrong}} {
		req := e.request(issuer.TokenPath, "grant_type=refresh_token&refresh_token=x")
		req.Header.Set("Authorization", oauth.BasicHeader(c.id, c.secret))
		req.Header.Set("X-Test-Address", "198.51.100.7")
		e.do(req).wantError(t, 401, oauth.InvalidClient)
		event := e.events(issuer.EventClientRefused)[0]
		if name := oauth.Legal(c.id); event.Cause != c.cause || event.ClientID != name || event.Actor != "client:"+name || event.Address != "198.51.100.7" || !event.At.Equal(e.clock.now()) {
			t.Errorf("event %+v", event)
		}
	}
	// What can be no client's id is not written down, however often it comes.
	before := len(e.events(""))
	e.attempt([]string{oauth.BasicHeader(strings.Repeat("x", 20_000), "x")}).wantError(t, 401, oauth.InvalidClient)
	if n := len(e.events("")); n != before {
		t.Errorf("%d events came of an endless id", n-before)
	}
}

// TestActorIsTheRegisteredClient: also where the id only fits undecoded.
func TestActorIsTheRegisteredClient(t *testing.T) {
	e := newSite(t, setup{})
	as := e.register(party{"a+b", secret.NewSecret().Reveal()}, issuer.Client{GrantTypes: []string{oauth.GrantPassword, oauth.GrantRefreshToken}})
	req := e.request(issuer.TokenPath, formOf("grant_type", "password", "username", owner, "password", ownerPassword).Encode())
	req.Header.Set("Authorization", rawBasic(as.id, as.secret))
	e.do(req).tokens(t)
	if event := e.wantEvent(issuer.EventGrantCreated, ""); event.Actor != "client:a+b" || event.ClientID != "a+b" {
		t.Errorf("event %+v", event)
	}
}

func TestPublicClients(t *testing.T) {
	e := newSite(t, setup{})
	tokens := e.redeem(public, e.code(public)).tokens(t)
	form := func() string {
		return formOf("grant_type", "refresh_token", "refresh_token", tokens.RefreshToken).Encode()
	}
	// golang.org/x/oauth2 tries Basic with an empty secret first.
	req := e.request(issuer.TokenPath, form())
	req.Header.Set("Authorization", oauth.BasicHeader(public.id, ""))
	tokens = e.do(req).tokens(t)
	tokens = e.do(e.request(issuer.TokenPath, form()+"&client_id=public&client_secret=")).tokens(t)
	tokens = e.refreshed(public, tokens.RefreshToken)
	// It has no secret, so none is right.
	for _, wrong := range []string{"x", secret.NewSecret().Reveal()} {
		e.refresh(party{public.id, wrong}, tokens.RefreshToken).wantError(t, 401, oauth.InvalidClient)
	}
	e.post(issuer.TokenPath, public, "grant_type", "client_credentials").wantError(t, 400, oauth.UnauthorizedClient)
	e.post(issuer.IntrospectPath, public, "token", tokens.AccessToken).wantError(t, 401, oauth.InvalidClient)
	e.refreshed(public, tokens.RefreshToken)
}

// TestSecretsAreReplaced: the old and the new one both hold meanwhile.
func TestSecretsAreReplaced(t *testing.T) {
	e := newSite(t, setup{})
	fresh := secret.NewSecret()
	old, added := rawBasic("rolling", chosenSecret), rawBasic("rolling", fresh.Reveal())
	e.machine("rolling", chosen())
	e.attempt([]string{old}).tokens(t)
	e.attempt([]string{added}).wantError(t, 401, oauth.InvalidClient)
	e.machine("rolling", chosen(), secret.NewVerifier(fresh))
	e.attempt([]string{old}).tokens(t)
	e.attempt([]string{added}).tokens(t)
	e.machine("rolling", secret.NewVerifier(fresh))
	e.attempt([]string{old}).wantError(t, 401, oauth.InvalidClient) // though it was remembered as right
	e.attempt([]string{added}).tokens(t)
}

func TestClientThrottling(t *testing.T) {
	e := newSite(t, setup{})
	e.machine("chosen", chosen())
	right, generated := []string{rawBasic("chosen", chosenSecret)}, []string{rawBasic(app.id, app.secret)}
	e.attempt(right).tokens(t)
	wrong := func(id string) reply {
		return e.attempt([]string{rawBasic(id, secret.NewSecret().Reveal())}) // quick to check
	}
	for range 10 {
		wrong("chosen").wantError(t, 401, oauth.InvalidClient)
	}
	r := wrong("chosen")
	r.wantError(t, 429, oauth.TemporarilyUnavailable)
	if after := r.header.Get("Retry-After"); after != "60" {
		t.Errorf("Retry-After %s", after)
	}
	// A right secret passes: one that was right before, and any generated one.
	e.attempt(right).tokens(t)
	for range 9 {
		wrong(app.id).wantError(t, 401, oauth.InvalidClient)
	}
	e.attempt(generated).tokens(t)
	// Other clients are not concerned, and a minute gives one more attempt.
	wrong("unknown").wantError(t, 401, oauth.InvalidClient)
	e.clock.advance(time.Minute - time.Millisecond)
	if r := wrong("chosen"); r.header.Get("Retry-After") != "1" {
		t.Errorf("%d, Retry-After %q", r.status, r.header.Get("Retry-After"))
	}
	e.clock.advance(time.Millisecond)
	wrong("chosen").wantError(t, 401, oauth.InvalidClient)
	wrong("chosen").wantError(t, 429, oauth.TemporarilyUnavailable)
	if n := len(e.events(issuer.EventClientRefused)); n != 21 {
		t.Errorf("%d events, want one for each failure and none for what was throttled", n)
	}
}

// TestAddressThrottling: who tries many ids is stopped as well.
func TestAddressThrottling(t *testing.T) {
	e := newSite(t, setup{config: func(c *issuer.Config) {
		c.Address = func(r *http.Request) string { return r.Header.Get("X-Test-Address") }
	}})
	attempt := func(i int, address string) reply {
		req := e.request(issuer.TokenPath, "grant_type=client_credentials")
		req.Header.Set("Authorization", rawBasic("client-"+strconv.Itoa(i), app.secret))
		req.Header.Set("X-Test-Address", address)
		return e.do(req)
	}
	for i := range 100 {
		attempt(i, "198.51.100.7").wantError(t, 401, oauth.InvalidClient)
	}
	attempt(100, "198.51.100.7").wantError(t, 429, oauth.TemporarilyUnavailable)
	attempt(101, "198.51.100.8").wantError(t, 401, oauth.InvalidClient)
	e.clock.advance(time.Second)
	attempt(102, "198.51.100.7").wantError(t, 401, oauth.InvalidClient)
	attempt(103, "198.51.100.7").wantError(t, 429, oauth.TemporarilyUnavailable)
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	e := newSite(t, setup{})
	_, err := e.admin.SaveUser(e.ctx(), operator, issuer.User{Username: "Zoë", Password: chosen()})
	e.must(err)
	login := func(username, password string) reply {
		return e.post(issuer.TokenPath, app, "grant_type", "password", "username", username, "password", password)
	}
	if tokens := login("Zoë", chosenSecret).tokens(t); e.wantAlive("access token", tokens.AccessToken).Username != "Zoë" {
		t.Error("the subject is another")
	}
	for name, c := range map[string]struct{ username, password string }{
		"wrong password":   {"Zoë", "wrong"},
		"unknown user":     {"nobody", chosenSecret},
		"other case":       {"zoë", chosenSecret},
		"other's password": {owner, chosenSecret},
		"a control":        {"Zoë\n", chosenSecret},
		"endless":          {strings.Repeat("Z", 300), chosenSecret},
	} {
		t.Run(name, func(t *testing.T) {
			if description := login(c.username, c.password).wantError(t, 400, oauth.InvalidGrant); description != "Wrong user name or password." {
				t.Errorf("description %q tells more", description)
			}
		})
	}
	for _, event := range e.events(issuer.EventLoginFailed) {
		if event.Cause != issuer.CauseCredentialsWrong || event.ClientID != app.id || event.Address != clientAddress(t, e) || !strings.HasPrefix(event.Actor, "user:") {
			t.Errorf("event %+v", event)
		}
	}
	if n := len(e.events(issuer.EventLoginFailed)); n != 4 {
		t.Errorf("%d events, want 4: names that can be nobody's are not noted", n)
	}
}

func TestSignInThrottling(t *testing.T) {
	e := newSite(t, setup{config: func(c *issuer.Config) {
		c.Address = func(r *http.Request) string { return r.Header.Get("X-Test-Address") }
	}})
	login := func(username, password, address string) reply {
		req := e.request(issuer.TokenPath, formOf("grant_type", "password", "username", username, "password", password).Encode())
		req.Header.Set("Authorization", oauth.BasicHeader(app.id, app.secret))
		req.Header.Set("X-Test-Address", address)
		return e.do(req)
	}
	guess := secret.NewSecret().Reveal()
	for i := range 10 {
		name := []string{owner, strings.ToUpper(owner)}[i%2] // they are one account to a guesser
		login(name, guess, "198.51.100.7").wantError(t, 400, oauth.InvalidGrant)
	}
	r := login(owner, guess, "198.51.100.7")
	r.wantError(t, 429, oauth.TemporarilyUnavailable)
	if r.header.Get("Retry-After") != "60" {
		t.Errorf("Retry-After %q", r.header.Get("Retry-After"))
	}
	login(owner, ownerPassword, "198.51.100.7").wantError(t, 429, oauth.TemporarilyUnavailable)
	login(owner, ownerPassword, "198.51.100.8").tokens(t) // a stranger cannot lock the owner out
	if n := len(e.events(issuer.EventLoginFailed)); n != 11 {
		t.Errorf("%d events, want ten failures and one that throttling began", n)
	}
	// Right passwords do not count.
	for range 30 {
		login(owner, ownerPassword, "198.51.100.9").tokens(t)
	}
	// Guessing from many addresses is stopped too, after a hundred.
	for i := range 90 {
		login(owner, guess, fmt.Sprintf("203.0.113.%d", i)).wantError(t, 400, oauth.InvalidGrant)
	}
	login(owner, guess, "203.0.113.200").wantError(t, 429, oauth.TemporarilyUnavailable)
}

// TestManySignInsAtOnce: right passwords that wait for their turn are no guesses.
func TestManySignInsAtOnce(t *testing.T) {
	e := newSite(t, setup{})
	for _, r := range e.concurrently(40, func(int) reply { return e.loginRequest(app)() }) {
		r.tokens(t)
	}
}

// TestReplicaForgetsClients: what another process changed of a client holds
// after a second; the own changes hold at once.
func TestReplicaForgetsClients(t *testing.T) {
	e := newSite(t, setup{})
	first := e.server
	e.attempt([]string{rawBasic(app.id, app.secret)}).tokens(t)
	e.open() // another process on the same database
	e.must(e.admin.DeleteClient(e.ctx(), operator, app.id))
	e.attempt([]string{rawBasic(app.id, app.secret)}).wantError(t, 401, oauth.InvalidClient)
	e.handler.Store(first)
	e.attempt([]string{rawBasic(app.id, app.secret)}).tokens(t)
	e.clock.advance(time.Second)
	e.attempt([]string{rawBasic(app.id, app.secret)}).wantError(t, 401, oauth.InvalidClient)
}
