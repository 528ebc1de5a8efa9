package provider_test

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

func basicOf(pair string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
}

// TestRequest holds how requests are written, in each of the ways that providers
// ask for.
func TestRequest(t *testing.T) {
	type params = map[string]*string
	tests := []struct {
		name   string
		change func(*provider.Definition, *provider.Config)
		call   provider.Call
		method string // POST where empty
		uri    string // /token where empty
		form   string // the body's parameters, by name
		body   string // instead of form
		header map[string]string
	}{
		{name: "refresh, RFC 6749 section 6", call: refresh, form: "client_id=app&client_secret=s3cr&t+&grant_type=refresh_token&refresh_token=old-refresh",
			header: map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json", "User-Agent": "evergrant", "Authorization": "", "Accept-Encoding": "identity"}},
		{name: "exchange, section 4.1.3 and RFC 7636", call: exchange,
			form: "client_id=app&client_secret=s3cr&t+&code=the-code&code_verifier=the-verifier&grant_type=authorization_code&redirect_uri=https://keeper.example/connect/callback"},
		{name: "exchange without PKCE", call: provider.Call{Kind: provider.Exchange, Code: secret.NewText("c")},
			form: "client_id=app&client_secret=s3cr&t+&code=c&grant_type=authorization_code&redirect_uri=https://keeper.example/connect/callback"},
		{name: "exchange where the provider does not know PKCE", call: exchange, change: func(d *provider.Definition, _ *provider.Config) { d.Authorize.PKCE = "none" },
			form: "client_id=app&client_secret=s3cr&t+&code=the-code&grant_type=authorization_code&redirect_uri=https://keeper.example/connect/callback"},
		{name: "client_credentials, section 4.4.2", call: provider.Call{Kind: provider.ClientCredentials},
			change: func(d *provider.Definition, _ *provider.Config) { d.Authorize.Scopes = []string{"a", "b"} },
			form:   "client_id=app&client_secret=s3cr&t+&grant_type=client_credentials&scope=a b"},
		{name: "scopes of the registration, with another separator", call: provider.Call{Kind: provider.ClientCredentials},
			change: func(d *provider.Definition, cfg *provider.Config) {
				d.Authorize.Scopes, d.Authorize.ScopeSeparator, cfg.Scopes = []string{"a"}, ",", []string{"c", "d"}
			},
			form: "client_id=app&client_secret=s3cr&t+&grant_type=client_credentials&scope=c,d"},
		{name: "Basic, section 2.3.1", call: refresh, change: func(d *provider.Definition, _ *provider.Config) { d.Token.ClientAuth = provider.AuthBasic },
			form: "grant_type=refresh_token&refresh_token=old-refresh", header: map[string]string{"Authorization": basicOf("app:s3cr%26t%2B")}},
		{name: "Basic not encoded", call: refresh, change: func(d *provider.Definition, _ *provider.Config) { d.Token.ClientAuth = provider.AuthBasicRaw },
			form: "grant_type=refresh_token&refresh_token=old-refresh", header: map[string]string{"Authorization": basicOf("app:s3cr&t+")}},
		{name: "secret as user of Basic (Stripe)", call: refresh, change: func(d *provider.Definition, _ *provider.Config) { d.Token.ClientAuth = provider.AuthSecretAsUser },
			form: "grant_type=refresh_token&refresh_token=old-refresh", header: map[string]string{"Authorization": basicOf("s3cr&t+:")}},
		{name: "no secret on refresh (Clover)", call: refresh, change: func(d *provider.Definition, _ *provider.Config) { d.Refresh.ClientAuth = provider.AuthID },
			form: "client_id=app&grant_type=refresh_token&refresh_token=old-refresh"},
		{name: "nothing of the client", call: refresh, change: func(d *provider.Definition, _ *provider.Config) { d.Refresh.ClientAuth = provider.AuthNone },
			form: "grant_type=refresh_token&refresh_token=old-refresh"},
		{name: "public client", call: refresh, change: func(d *provider.Definition, cfg *provider.Config) {
			d.Token.ClientAuth, cfg.ClientSecrets = provider.AuthBasic, nil
		}, form: "client_id=app&grant_type=refresh_token&refresh_token=old-refresh", header: map[string]string{"Authorization": ""}},
		{name: "second secret", call: provider.Call{Kind: provider.ClientCredentials, Secret: 1}, change: func(_ *provider.Definition, cfg *provider.Config) {
			cfg.ClientSecrets = append(cfg.ClientSecrets, secret.NewText("older"))
		}, form: "client_id=app&client_secret=older&grant_type=client_credentials"},
		{name: "a secret that is not there", call: provider.Call{Kind: provider.ClientCredentials, Secret: 7}, form: "client_id=app&grant_type=client_credentials"},
		{name: "JSON (Eventix)", call: refresh, change: func(d *provider.Definition, _ *provider.Config) { d.Token.Body = provider.BodyJSON },
			body:   `{"client_id":"app","client_secret":"s3cr\u0026t+","grant_type":"refresh_token","refresh_token":"old-refresh"}`,
			header: map[string]string{"Content-Type": "application/json"}},
		{name: "in the query, with Basic (Gong)", call: refresh, change: func(d *provider.Definition, _ *provider.Config) {
			d.Token.Body, d.Token.ClientAuth = provider.BodyQuery, provider.AuthBasic
		}, uri: "/token?grant_type=refresh_token&refresh_token=old-refresh", header: map[string]string{"Content-Type": "", "Content-Length": "0"}},
		{name: "in a query that is there already", call: refresh, change: func(d *provider.Definition, _ *provider.Config) {
			d.TokenURL += "?v=2"
			d.Token.Body, d.Token.ClientAuth = provider.BodyQuery, provider.AuthNone
		}, uri: "/token?v=2&grant_type=refresh_token&refresh_token=old-refresh"},
		{name: "GET of the access token (Instagram)", call: refresh, change: func(d *provider.Definition, _ *provider.Config) {
			d.Refresh = provider.Request{URL: strings.Replace(d.TokenURL, "/token", "/refresh_access_token", 1), Method: "GET", ClientAuth: provider.AuthNone,
				GrantType: "ig_refresh_token", Params: params{"refresh_token": nil, "access_token": new("{access_token}")}}
		}, method: "GET", uri: "/refresh_access_token?access_token=old-access&grant_type=ig_refresh_token"},
		{name: "exchange of the access token (Facebook)", call: refresh, change: func(d *provider.Definition, _ *provider.Config) {
			d.Refresh = provider.Request{GrantType: "fb_exchange_token", Params: params{"refresh_token": nil, "fb_exchange_token": new("{access_token}")}}
		}, form: "client_id=app&client_secret=s3cr&t+&fb_exchange_token=old-access&grant_type=fb_exchange_token"},
		{name: "renamed parameter (TikTok)", call: refresh, change: func(d *provider.Definition, _ *provider.Config) {
			d.Token.Params = params{"client_id": nil, "client_key": new("{client_id}")}
		}, form: "client_key=app&client_secret=s3cr&t+&grant_type=refresh_token&refresh_token=old-refresh"},
		{name: "type instead of grant_type (Basecamp)", call: refresh, change: func(d *provider.Definition, _ *provider.Config) {
			d.Refresh.Params = params{"grant_type": nil, "type": new("refresh")}
		}, form: "client_id=app&client_secret=s3cr&t+&refresh_token=old-refresh&type=refresh"},
		{name: "a call's parameters over those of all", call: refresh, change: func(d *provider.Definition, _ *provider.Config) {
			d.Token.Params = params{"a": new("common"), "b": new("common"), "c": new("common")}
			d.Refresh.Params = params{"b": new("own"), "c": nil}
			d.Exchange.Params = params{"d": new("other")}
		}, form: "a=common&b=own&client_id=app&client_secret=s3cr&t+&grant_type=refresh_token&refresh_token=old-refresh"},
		{name: "action in the body (Withings), scope on refresh (WHOOP)", call: refresh, change: func(d *provider.Definition, _ *provider.Config) {
			d.Token.Params = params{"action": new("requesttoken"), "scope": new("{scope}")}
		}, form: "action=requesttoken&client_id=app&client_secret=s3cr&t+&grant_type=refresh_token&refresh_token=old-refresh&scope=read write"},
		{name: "last access token as refresh token (Flexiti's text)", call: refresh, change: func(d *provider.Definition, _ *provider.Config) {
			d.Refresh.Params = params{"refresh_token": new("{access_token}")}
		}, form: "client_id=app&client_secret=s3cr&t+&grant_type=refresh_token&refresh_token=old-access"},
		{name: "asked-for lifetime, empty and absent values", call: provider.Call{Kind: provider.Refresh, RefreshToken: secret.NewText("r")}, change: func(d *provider.Definition, _ *provider.Config) {
			d.Token.Params = params{"expires_in": new("172800"), "blank": new(""), "owner": new("{owner}"), "now": new("{now}")}
		}, form: "blank=&client_id=app&client_secret=s3cr&t+&expires_in=172800&grant_type=refresh_token&now=1893553445&refresh_token=r"},
		{name: "first that is not empty", call: provider.Call{Kind: provider.Refresh, AccessToken: secret.NewText("a")}, change: func(d *provider.Definition, _ *provider.Config) {
			d.Refresh.Params = params{"token": new("{refresh_token|access_token}/{owner|client_id}")}
		}, form: "client_id=app&client_secret=s3cr&t+&grant_type=refresh_token&token=a/app"},
		{name: "headers", call: refresh, change: func(d *provider.Definition, _ *provider.Config) {
			d.Token.Headers = map[string]string{"User-Agent": "web:app:v1", "X-Api-Key": "{client_id}", "X-Both": "common"}
			d.Refresh.Headers = map[string]string{"Accept": "*/*", "x-both": "own", "Authorization": "Bearer {access_token}"}
		}, form: "client_id=app&client_secret=s3cr&t+&grant_type=refresh_token&refresh_token=old-refresh",
			header: map[string]string{"User-Agent": "web:app:v1", "Accept": "*/*", "X-Api-Key": "app", "X-Both": "own", "Authorization": "Bearer old-access"}},
		{name: "params in the URL", call: provider.Call{Kind: provider.ClientCredentials, Params: map[string]string{"tenant": "a/../b c?d#é"}}, change: func(d *provider.Definition, cfg *provider.Config) {
			cfg.Params = map[string]string{"set": "fixed"}
			d.Params = map[string]provider.Param{"tenant": {Pattern: ".*"}, "none": {Pattern: "x?"}, "set": {}}
			d.TokenURL = strings.Replace(d.TokenURL, "/token", "/{params.tenant}/{params.none}/{params.set}?t={params.tenant}", 1)
		}, uri: "/a%2F..%2Fb%20c%3Fd%23%C3%A9//fixed?t=a%2F..%2Fb%20c%3Fd%23%C3%A9", form: "client_id=app&client_secret=s3cr&t+&grant_type=client_credentials"},
		{name: "another method", call: refresh, change: func(d *provider.Definition, _ *provider.Config) { d.Token.Method = "PUT" }, method: "PUT",
			form: "client_id=app&client_secret=s3cr&t+&grant_type=refresh_token&refresh_token=old-refresh"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := record(t, say(200, success))
			p := register(t, plain(server.URL), func(cfg *provider.Config) {
				if tt.change != nil {
					tt.change(&cfg.Definition, cfg)
				}
			})
			if _, err := p.Send(t.Context(), tt.call); err != nil {
				t.Fatal(err)
			}
			requests := server.requests()
			if len(requests) != 1 {
				t.Fatalf("%d requests", len(requests))
			}
			got := requests[0]
			if want := cmp.Or(tt.method, "POST"); got.method != want {
				t.Errorf("method %s", got.method)
			}
			if want := cmp.Or(tt.uri, "/token"); got.uri != want {
				t.Errorf("URI %s\nwant %s", got.uri, want)
			}
			if tt.body != "" {
				if got.body != tt.body {
					t.Errorf("body %s\nwant %s", got.body, tt.body)
				}
			} else if form := readable(got.form); form != tt.form {
				t.Errorf("form %s\nwant %s", form, tt.form)
			}
			for name, want := range tt.header {
				if value := got.header.Get(name); value != want {
					t.Errorf("header %s: %q, want %q", name, value, want)
				}
			}
		})
	}
}

// readable writes parameters in order, not encoded.
func readable(form map[string][]string) string {
	var fields []string
	for _, name := range slices.Sorted(maps.Keys(form)) {
		for _, value := range form[name] {
			fields = append(fields, name+"="+value)
		}
	}
	return strings.Join(fields, "&")
}

// TestRequestMultipart reads the parts of a multipart body.
func TestRequestMultipart(t *testing.T) {
	server := record(t, say(200, success))
	d := plain(server.URL)
	d.Token.Body = provider.BodyMultipart
	if _, err := register(t, d).Send(t.Context(), refresh); err != nil {
		t.Fatal(err)
	}
	got := server.requests()[0]
	kind, params, err := mime.ParseMediaType(got.header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" {
		t.Fatalf("content type %q, %v", kind, err)
	}
	form, err := multipart.NewReader(strings.NewReader(got.body), params["boundary"]).ReadForm(1 << 20)
	if err != nil || readable(form.Value) != "client_id=app&client_secret=s3cr&t+&grant_type=refresh_token&refresh_token=old-refresh" {
		t.Errorf("form %v, %v", form, err)
	}
}

// TestRequestUUID holds that a request id is a UUID, and new in each request.
func TestRequestUUID(t *testing.T) {
	server := record(t, say(200, success))
	d := plain(server.URL)
	d.Token.Headers = map[string]string{"x-reference-id": "{uuid}"}
	p := register(t, d)
	for range 2 {
		if _, err := p.Send(t.Context(), refresh); err != nil {
			t.Fatal(err)
		}
	}
	got := server.requests()
	first, second := got[0].header.Get("x-reference-id"), got[1].header.Get("x-reference-id")
	if uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`); !uuid.MatchString(first) || first == second {
		t.Errorf("%q and %q", first, second)
	}
}

// TestRequestHeaderBreaks holds that a value cannot begin a header of its own.
func TestRequestHeaderBreaks(t *testing.T) {
	server := record(t, say(200, success))
	d := plain(server.URL)
	d.Token.Headers = map[string]string{"X-Owner": "{owner}"}
	_, err := register(t, d).Send(t.Context(), provider.Call{Kind: provider.Refresh, Owner: "alice\r\nX-Admin: true"})
	if e := failure(t, err); e.Outcome != provider.NotSent || e.Class != provider.BadDefinition || len(server.requests()) != 0 {
		t.Error(e)
	}
}

// TestRequestHosts holds that a param cannot lead secrets to another host than
// it seems to name.
func TestRequestHosts(t *testing.T) {
	for _, value := range []string{"x@evil.example/", "evil.example#", "evil.example?", `evil.example\`, "evil.example/%2e", "a b", "a\nb", "é", "{client_id}", "%61"} {
		d := plain("https://{params.host}")
		d.AuthorizeURL = ""
		d.Params = map[string]provider.Param{"host": {Pattern: `(?s).*`}}
		_, err := register(t, d).Send(t.Context(), provider.Call{Kind: provider.Refresh, Params: map[string]string{"host": value}})
		if e := failure(t, err); e.Outcome != provider.NotSent || e.Class != provider.BadDefinition || !strings.Contains(e.Detail, "host") && !strings.Contains(e.Detail, "URL") {
			t.Errorf("%q: %v", value, e)
		}
	}
}

// TestRemint takes Tink's way back: a token of the app, a code for the user, and
// its exchange.
func TestRemint(t *testing.T) {
	answers := []string{`{"access_token":"client-token","expires_in":1800}`, `{"code":"new-code"}`, success}
	server := record(t, nil)
	step := 0
	server.answer = func(w hw, r *hr) { say(200, answers[step])(w, r); step++ }
	p := register(t, tink(server.URL))
	answer, err := p.Send(t.Context(), provider.Call{Kind: provider.Reminting, Owner: "alice", Scope: []string{"a:read", "b:read"}})
	if err != nil {
		t.Fatal(err)
	}
	if tokens, err := p.Read(answer); err != nil || tokens.AccessToken.Reveal() != "new-access" || answer.Kind != provider.Reminting {
		t.Errorf("%v, %v", tokens, err)
	}
	want := []struct{ uri, form, authorization string }{
		{"/token", "client_id=app&client_secret=s3cr&t+&grant_type=client_credentials&scope=authorization:grant", ""},
		{"/authorization-grant", "external_user_id=alice&scope=a:read,b:read", "Bearer client-token"},
		{"/token", "client_id=app&client_secret=s3cr&t+&code=new-code&grant_type=authorization_code", ""},
	}
	got := server.requests()
	if len(got) != len(want) {
		t.Fatalf("%d requests", len(got))
	}
	for i, want := range want {
		if got[i].uri != want.uri || readable(got[i].form) != want.form || got[i].header.Get("Authorization") != want.authorization {
			t.Errorf("step %d: %s %s, %s", i, got[i].uri, readable(got[i].form), got[i].header.Get("Authorization"))
		}
	}
	if encoded, _ := json.Marshal(answer); !strings.Contains(string(encoded), "new-code") {
		t.Error("what was saved is not known as a secret")
	}
}

// tink is a provider that gives codes without the owner.
func tink(base string) provider.Definition {
	d := plain(base)
	d.Authorize.ScopeSeparator = ","
	d.Remint.Steps = []provider.Step{
		{Request: provider.Request{GrantType: "client_credentials", Params: map[string]*string{"scope": new("authorization:grant")}}, Save: map[string]string{"client_token": "access_token"}},
		{Request: provider.Request{URL: base + "/authorization-grant", Params: map[string]*string{"external_user_id": new("{owner}"), "scope": new("{scope}")},
			Headers: map[string]string{"Authorization": "Bearer {saved.client_token}"}}, Save: map[string]string{"code": "code"}},
		{Request: provider.Request{GrantType: "authorization_code", Params: map[string]*string{"redirect_uri": nil}}},
	}
	return d
}

// TestRemintStops holds that a step that fails ends a re-mint, that nothing is
// sent twice, and that the token of a step is never taken for the connection's.
func TestRemintStops(t *testing.T) {
	first, second := say(200, `{"access_token":"client-token"}`), say(200, `{"code":"new-code"}`)
	cut := func(w hw, r *hr) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, `{"access_token":"client-to`)
	}
	tests := []struct {
		name     string
		answers  []func(hw, *hr)
		requests int
		class    provider.Class
		outcome  provider.Outcome
		sendFail bool
	}{
		{"first refused", []func(hw, *hr){say(401, `{"error":"invalid_client"}`)}, 1, provider.BadClient, provider.Refused, false},
		{"second refused", []func(hw, *hr){first, say(403, `{"errorCode":"no"}`)}, 2, provider.BadDefinition, provider.Refused, false},
		{"second down", []func(hw, *hr){first, say(502, `<html>`)}, 2, provider.Transient, provider.Unknown, false},
		{"third refused", []func(hw, *hr){first, second, say(400, `{"error":"invalid_grant"}`)}, 3, provider.Revoked, provider.Refused, false},
		{"second dropped", []func(hw, *hr){first, drop}, 2, provider.Ambiguous, provider.Unknown, true},
		{"first broken off", []func(hw, *hr){cut}, 1, provider.Ambiguous, provider.Unknown, false},
		{"first without what is needed", []func(hw, *hr){say(200, `{"token":"other"}`)}, 1, provider.BadDefinition, provider.Unknown, false},
		{"second without what is needed but with a token", []func(hw, *hr){first, say(200, `{"access_token":"not-the-owners"}`)}, 2, provider.BadDefinition, provider.Unknown, true},
		{"an error with success", []func(hw, *hr){first, say(200, `{"error":"server_error"}`)}, 2, provider.Transient, provider.Refused, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			step := 0
			server := record(t, nil)
			server.answer = func(w hw, r *hr) { tt.answers[min(step, len(tt.answers)-1)](w, r); step++ }
			p := register(t, tink(server.URL))
			answer, err := p.Send(t.Context(), provider.Call{Kind: provider.Reminting, Owner: "alice"})
			if (err != nil) != tt.sendFail {
				t.Fatalf("%v, %v", answer, err)
			}
			if err == nil {
				_, err = p.Read(answer)
			}
			if e := failure(t, err); e.Class != tt.class || e.Outcome != tt.outcome || len(server.requests()) != tt.requests {
				t.Errorf("%v after %d requests", e, len(server.requests()))
			}
		})
	}
}

// TestRemintNotSent holds that a first step that cannot be sent says so, and a
// later one that something was.
func TestRemintNotSent(t *testing.T) {
	server := record(t, say(200, `{"access_token":"client-token"}`))
	nowhere := listen(t, hang)
	d := tink(server.URL)
	d.Remint.Steps[1].URL = strings.Replace(nowhere.url, "http", "https", 1)
	_, err := register(t, d).Send(t.Context(), provider.Call{Kind: provider.Reminting, Owner: "alice"})
	if e := failure(t, err); e.Outcome != provider.Unknown || e.Class != provider.Ambiguous || nowhere.requests.Load() != 0 {
		t.Error(e)
	}
	d.Remint.Steps[0].URL = d.Remint.Steps[1].URL
	_, err = register(t, d).Send(t.Context(), provider.Call{Kind: provider.Reminting, Owner: "alice"})
	if e := failure(t, err); e.Outcome != provider.NotSent || e.Class != provider.Transient || len(server.requests()) != 1 {
		t.Error(e)
	}
	_, err = register(t, plain(server.URL)).Send(t.Context(), provider.Call{Kind: provider.Reminting})
	if e := failure(t, err); e.Outcome != provider.NotSent || e.Class != provider.BadDefinition {
		t.Error(e)
	}
}
