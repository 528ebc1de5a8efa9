package issuer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// odd is a profile that differs in about everything, beside the standard.
func odd(c *issuer.Config) {
	c.Profiles = map[string]*issuer.Profile{
		"standard": {},
		"odd": {
			Name: "odd", TokenPath: "/odd/token", RevokePath: "/odd/revoke",
			QueryRequests: true, JSONRequests: true, MultipartRequests: true, BasicWins: true, AnySecret: true,
			OpenRevocation: true, Revoked: `{"gone": true}`,
			Fields: []string{"info", "scope", "access_token", "unheard_of"},
			Header: http.Header{"X-Odd": {"1", "2"}},
			Errors: map[issuer.Cause]oauth.Error{
				issuer.CauseGrantTypeUnknown: {Code: "what", Description: "{grant_type}, <{grant_type}>", URI: "https://a.example/b"},
				issuer.CauseTokenForged:      {Code: "forged", Status: http.StatusTeapot},
			},
			NullDescription: true,
		},
	}
}

// oddly registers a client of that profile.
func (e *site) oddly(id, profile string) party {
	e.t.Helper()
	return e.register(party{id, secret.NewSecret().Reveal()}, issuer.Client{
		RedirectURIs: []string{callback}, Profile: profile, Policy: issuer.Policy{Format: issuer.FormatOpaque},
		GrantTypes: []string{oauth.GrantAuthorizationCode, oauth.GrantPassword, oauth.GrantRefreshToken, oauth.GrantClientCredentials},
	})
}

// TestStandardBesideProfiles: what one client's profile has is nobody else's.
func TestStandardBesideProfiles(t *testing.T) {
	e := newSite(t, setup{config: odd})
	as := e.oddly("odd", "odd")
	get := e.request(issuer.TokenPath+"?grant_type=client_credentials", "")
	get.Method = http.MethodGet
	inJSON := e.request(issuer.TokenPath, `{"grant_type":"client_credentials"}`)
	inJSON.Header.Set("Content-Type", "application/json")
	twice := e.request(issuer.TokenPath, "grant_type=client_credentials&client_secret=x")
	for name, req := range map[string]*http.Request{"GET": get, "JSON": inJSON, "two methods": twice} {
		again := req.Clone(e.ctx())
		again.Body, _ = req.GetBody()
		again.Header.Set("Authorization", oauth.BasicHeader(as.id, as.secret))
		if r := e.do(again); r.status != 200 || r.header.Get("X-Odd") != "1" {
			t.Errorf("%s: %d %s for the client of the profile", name, r.status, r.body)
		}
		req.Header.Set("Authorization", oauth.BasicHeader(app.id, app.secret))
		if r := e.do(req); r.failure() != oauth.InvalidRequest || r.header.Get("X-Odd") != "" {
			t.Errorf("%s: %d %s for another client", name, r.status, r.body)
		}
	}
	e.refreshed(app, e.login(app).RefreshToken)
}

// TestProfileAnswers: members in the profile's order, and errors in its words.
func TestProfileAnswers(t *testing.T) {
	e := newSite(t, setup{config: odd})
	as := e.oddly("odd", "odd")
	for _, c := range []struct {
		form []string
		want string
	}{
		{[]string{"grant_type", "a<\"b"}, `400 {"error":"what","error_description":"a\u003c\"b, \u003ca\u003c\"b\u003e","error_uri":"https://a.example/b"}`},
		{[]string{"grant_type", "refresh_token", "refresh_token", "x"}, `418 {"error":"forged","error_description":null}`},
		{[]string{"grant_type", "refresh_token"}, `400 {"error":"invalid_request","error_description":"The parameter refresh_token is missing."}`},
	} {
		r := e.post("/odd/token", as, c.form...)
		if got := fmt.Sprintf("%d %s", r.status, r.body); got != c.want {
			t.Errorf("%v: %s, want %s", c.form, got, c.want)
		}
	}
	r := e.post("/odd/token", as, "grant_type", "client_credentials", "scope", "read")
	if !strings.HasPrefix(r.body, `{"scope":"read","access_token":"ega_`) || strings.Count(r.body, ":") != 2 {
		t.Errorf("answer %s", r.body)
	}
	if got := strings.Join(r.header["X-Odd"], ","); got != "1,2" {
		t.Errorf("header %q", got)
	}
	if r := e.post("/odd/token", app, "grant_type", "client_credentials"); r.status != 404 {
		t.Errorf("the path of another profile: %d", r.status)
	}
}

// unreadable is a store that says nothing of clients and users while it has an
// error.
type unreadable struct {
	issuer.Store
	err *error
}

func (u unreadable) Client(ctx context.Context, id string) (issuer.Client, error) {
	if *u.err != nil {
		return issuer.Client{}, *u.err
	}
	return u.Store.Client(ctx, id)
}

func (u unreadable) User(ctx context.Context, name string) (issuer.User, error) {
	if *u.err != nil {
		return issuer.User{}, *u.err
	}
	return u.Store.User(ctx, name)
}

// TestInfoIsNotWorthAToken: tokens that a step has made are given although what is
// told of the resource owner cannot be read.
func TestInfoIsNotWorthAToken(t *testing.T) {
	var failure error
	e := newSite(t, setup{config: odd, wrap: func(s issuer.Store) issuer.Store { return unreadable{s, &failure} }})
	as := e.oddly("odd", "odd")
	_, err := e.admin.SaveUser(e.ctx(), operator, issuer.User{
		Username: owner, Password: secret.NewVerifier(secret.NewText(ownerPassword)), Info: json.RawMessage(`{ "a": [1, 2] }`),
	})
	e.must(err)
	code := e.code(as)
	if r := e.redeem(as, code); !strings.HasPrefix(r.body, `{"info":{"a":[1,2]},"scope":"read write"`) {
		t.Errorf("answer %s", r.body)
	}
	code = e.code(as)
	failure = errors.New("the database is on fire")
	if r := e.redeem(as, code); r.status != 200 || !strings.HasPrefix(r.body, `{"scope":"read write","access_token":"ega_`) {
		t.Errorf("answer %d %s", r.status, r.body)
	}
	if log := e.log.String(); !strings.Contains(log, "without info") || !strings.Contains(log, "on fire") {
		t.Errorf("the log does not say so: %s", log)
	}
}

// TestUnreadableClients: whose profile cannot be known is answered as the server's
// clients are.
func TestUnreadableClients(t *testing.T) {
	var failure error
	e := newSite(t, setup{config: odd, wrap: func(s issuer.Store) issuer.Store { return unreadable{s, &failure} }})
	as := e.oddly("odd", "odd")
	e.clock.advance(2 * time.Second) // what was cached is forgotten
	failure = issuer.ErrUnavailable
	for _, path := range []string{issuer.TokenPath, "/odd/token"} {
		e.post(path, as, "grant_type", "client_credentials").wantError(t, 503, oauth.TemporarilyUnavailable)
	}
	failure = nil
	if r := e.post(issuer.TokenPath, as, "grant_type", "client_credentials"); r.status != 200 {
		t.Errorf("then %d %s", r.status, r.body)
	}
}

// TestOpenRevocation: whoever has a token of a client with that profile revokes
// it, and no other client's.
func TestOpenRevocation(t *testing.T) {
	e := newSite(t, setup{config: func(c *issuer.Config) {
		odd(c)
		c.Profile = "odd"
	}})
	loose, strict := e.oddly("loose", ""), e.oddly("strict", "standard")
	revoke := func(as party, token string) reply {
		return e.post(issuer.RevokePath, as, "token", token)
	}
	tokens := func(as party) (string, string) {
		// The profile's answers have no refresh token.
		code := e.code(as)
		r := e.redeem(as, code)
		var answer struct {
			Access string `json:"access_token"`
		}
		e.must(json.Unmarshal([]byte(r.body), &answer))
		return code, answer.Access
	}
	nobody := party{"", ""}
	for _, as := range []party{nobody, {"loose", "wrong"}, {"unheard_of", "wrong"}, strict} {
		e.clock.advance(time.Hour)
		code, access := tokens(loose)
		status, want := 200, `{"gone": true}`
		if as == strict { // speaks as the standard does
			want = ""
		}
		for _, token := range []string{access, code} {
			if r := revoke(as, token); r.status != status || r.body != want {
				t.Errorf("%q revokes: %d %s", as.id, r.status, r.body)
			}
			e.wantDead("a token that "+as.id+" revoked", access)
		}
	}
	for i, event := range append(e.events(issuer.EventAccessTokenRevoked), e.events(issuer.EventGrantRevoked)...) {
		if event.Actor != "client:loose" || event.ClientID != "loose" || !strings.Contains(event.Detail, "without the client's secret") {
			t.Errorf("event %d: %+v", i, event)
		}
	}
	code, access := tokens(loose)
	revoke(loose, access)
	revoke(loose, code)
	e.wantUses("loose", map[issuer.Habit]int64{issuer.HabitOpenRevocation: 8, issuer.HabitNoPKCE: 0})
	if event := e.events(issuer.EventGrantRevoked)[0]; event.Detail != "" {
		t.Errorf("event %+v", event)
	}
	// A client that has left the profile is safe from it.
	code, access = tokens(strict)
	for _, as := range []party{nobody, {"strict", "wrong"}, loose} {
		for _, token := range []string{access, code} {
			if r := revoke(as, token); r.status < 400 {
				t.Errorf("%q revokes a token of another profile: %d %s", as.id, r.status, r.body)
			}
		}
	}
	e.wantAlive("a token of another profile", access)
}

// TestOpenRevocationByToken: whoever has a token names its client by it, whatever
// profile the server has.
func TestOpenRevocationByToken(t *testing.T) {
	e := newSite(t, setup{config: odd})
	loose, strict := e.oddly("loose", "odd"), e.oddly("strict", "")
	revoke := func(path, token string) reply {
		return e.do(e.request(path, formOf("token", token).Encode()))
	}
	for _, path := range []string{issuer.RevokePath, "/odd/revoke"} {
		code := e.code(loose)
		tokens := e.redeem(loose, code)
		access := strings.Split(tokens.body, `"`)[7]
		for _, token := range []string{access, code} {
			if r := revoke(path, token); r.status != 200 || r.body != `{"gone": true}` {
				t.Errorf("%s: %d %s", path, r.status, r.body)
			}
		}
		e.wantDead("the access token", access)
		other := e.login(strict)
		want := map[string]int{issuer.RevokePath: 401, "/odd/revoke": 404}[path]
		for _, token := range []string{other.AccessToken, other.RefreshToken, "x", ""} {
			if r := revoke(path, token); r.status != want {
				t.Errorf("%s: %d %s, want %d", path, r.status, r.body, want)
			}
		}
		e.wantAlive("a token of another client", other.RefreshToken)
	}
}

// TestHabitsOfRequests: what a request relied on is counted once its client is
// known to have sent it.
func TestHabitsOfRequests(t *testing.T) {
	e := newSite(t, setup{config: odd})
	as := e.oddly("odd", "odd")
	app := e.register(party{"native", ""}, issuer.Client{Profile: "odd", GrantTypes: []string{oauth.GrantPassword}})
	get := func(query string) reply {
		req := e.request(issuer.TokenPath+"?"+query, "")
		req.Method = http.MethodGet
		return e.do(req)
	}
	get("grant_type=client_credentials&client_id=odd&client_secret=wrong").wantError(t, 401, oauth.InvalidClient)
	if r := get("grant_type=client_credentials&client_id=odd&client_secret=" + as.secret); r.status != 200 {
		t.Errorf("answer %d %s", r.status, r.body)
	}
	get("grant_type=refresh_token&refresh_token=x&client_id=odd&client_secret=" + as.secret)
	e.post(issuer.TokenPath, party{app.id, "anything"}, "grant_type", "client_credentials")
	e.wantUses("odd", map[issuer.Habit]int64{issuer.HabitQueryRequest: 2})
	e.wantUses("native", map[issuer.Habit]int64{issuer.HabitAnySecret: 1})
	if log := e.log.String(); strings.Contains(log, as.secret) || strings.Contains(log, "client_secret=") {
		t.Error("the log has a query")
	}
}

// TestBadBodies: forms of requests that only a profile has, broken.
func TestBadBodies(t *testing.T) {
	e := newSite(t, setup{config: odd})
	as := e.oddly("odd", "odd")
	for name, c := range map[string]struct {
		contentType, body string
		status            int
	}{
		"multipart":             {"multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"grant_type\"\r\n\r\nclient_credentials\r\n--b--\r\n", 200},
		"without a boundary":    {"multipart/form-data", "--b--", 400},
		"of another boundary":   {"multipart/form-data; boundary=c", "--b--", 400},
		"cut":                   {"multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"grant_type\"\r\n\r\nclient", 400},
		"twice the same":        {"multipart/form-data; boundary=b", strings.Repeat("--b\r\nContent-Disposition: form-data; name=\"grant_type\"\r\n\r\nclient_credentials\r\n", 2) + "--b--\r\n", 400},
		"too large a form":      {"multipart/form-data; boundary=b", strings.Repeat("x", 64<<10+1), 413},
		"too large an object":   {"application/json", `{"grant_type":"` + strings.Repeat("x", 64<<10) + `"}`, 413},
		"an object":             {"application/json", `{"grant_type":"client_credentials"}`, 200},
		"an object and more":    {"application/json", `{"grant_type":"client_credentials"}{}`, 400},
		"an object, not UTF-8":  {"application/json", "{\"grant_type\":\"client_credentials\",\"scope\":\"\xff\"}", 400},
		"an object with NUL":    {"application/json", `{"grant_type":"client_credentials","scope":"\u0000"}`, 400},
		"an object with a list": {"application/json", `{"grant_type":"client_credentials","scope":[]}`, 400},
	} {
		t.Run(name, func(t *testing.T) {
			req := e.request(issuer.TokenPath, c.body)
			req.Header.Set("Content-Type", c.contentType)
			req.Header.Set("Authorization", oauth.BasicHeader(as.id, as.secret))
			if r := e.do(req); r.status != c.status || c.status != 200 && r.failure() != oauth.InvalidRequest {
				t.Errorf("%d %s, want %d", r.status, r.body, c.status)
			}
		})
	}
}

// TestMetadataOfProfiles: what the server's profile leaves out is not announced.
func TestMetadataOfProfiles(t *testing.T) {
	for _, implicit := range []bool{false, true} {
		e := newSite(t, setup{config: func(c *issuer.Config) {
			c.Profiles = map[string]*issuer.Profile{"other": {RedirectFields: []string{"state", "code"}, Implicit: implicit}}
			c.Profile, c.Unsafe = "other", []issuer.Compatibility{issuer.UnsafeImplicit}
		}})
		var m oauth.Metadata
		e.document(issuer.MetadataPath, &m)
		types, modes := strings.Join(m.ResponseTypesSupported, " "), strings.Join(m.ResponseModesSupported, " ")
		want := map[bool]string{false: "code;query", true: "code token;query fragment"}[implicit]
		if m.AuthorizationResponseIssSupported || types+";"+modes != want || strings.Contains(strings.Join(m.GrantTypesSupported, " "), oauth.GrantImplicit) != implicit {
			t.Errorf("implicit %t: %+v", implicit, m)
		}
	}
}
