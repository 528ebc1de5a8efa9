package provider_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/provider"
)

// metadata is the metadata of an issuer, all of whose endpoints are at base.
func metadata(issuer, base, more string) string {
	return fmt.Sprintf(`{"issuer":%q,"authorization_endpoint":"%s/authorize","token_endpoint":"%s/token","revocation_endpoint":"%s/revoke"%s}`, issuer, base, base, base, more)
}

// publisher is an issuer that publishes documents by path, and grants tokens.
func publisher(t *testing.T) (server *recorder, documents map[string]string) {
	documents = map[string]string{"/token": success, "/revoke": `{}`}
	server = record(t, func(w hw, r *hr) {
		if document, ok := documents[r.URL.Path]; ok {
			say(200, document)(w, r)
			return
		}
		say(404, `{}`)(w, r)
	})
	return server, documents
}

func uris(requests []seen) string {
	var all []string
	for _, r := range requests {
		all = append(all, r.method+" "+strings.SplitN(r.uri, "?", 2)[0])
	}
	return strings.Join(all, ", ")
}

// TestDiscover holds that a provider with metadata needs its issuer only, and is
// asked for it once.
func TestDiscover(t *testing.T) {
	const (
		rfc8414 = "/.well-known/oauth-authorization-server"
		openid  = "/.well-known/openid-configuration"
	)
	tests := []struct {
		name, path, at, more string
		asked                string
		authorization        string // prefix
		form                 string
	}{
		{name: "RFC 8414", at: rfc8414, asked: "GET " + rfc8414, authorization: "Basic ", form: "grant_type=refresh_token&refresh_token=old-refresh"},
		{name: "with a path", path: "/realm/one", at: rfc8414 + "/realm/one", asked: "GET " + rfc8414 + "/realm/one", authorization: "Basic ", form: "grant_type=refresh_token&refresh_token=old-refresh"},
		{name: "with a slash", path: "/", at: rfc8414, asked: "GET " + rfc8414, authorization: "Basic ", form: "grant_type=refresh_token&refresh_token=old-refresh"},
		{name: "OpenID Connect", path: "/realm", at: "/realm" + openid, asked: "GET " + rfc8414 + "/realm, GET /realm" + openid, authorization: "Basic ", form: "grant_type=refresh_token&refresh_token=old-refresh"},
		{name: "that wants the secret in the body", at: rfc8414, more: `,"token_endpoint_auth_methods_supported":["private_key_jwt","client_secret_post"]`, asked: "GET " + rfc8414,
			form: "client_id=app&client_secret=s3cr&t+&grant_type=refresh_token&refresh_token=old-refresh"},
		{name: "that takes both", at: rfc8414, more: `,"token_endpoint_auth_methods_supported":["client_secret_post","client_secret_basic"]`, asked: "GET " + rfc8414,
			authorization: "Basic ", form: "grant_type=refresh_token&refresh_token=old-refresh"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server, documents := publisher(t)
			issuer := server.URL + tt.path
			documents[tt.at] = metadata(issuer, server.URL, tt.more)
			p := register(t, provider.Definition{Name: "acme", Issuer: issuer})
			for range 2 {
				answer, err := p.Send(t.Context(), refresh)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := p.Read(answer); err != nil {
					t.Fatal(err)
				}
			}
			where, err := p.AuthorizeURL(t.Context(), provider.Authorization{State: "st"})
			if err != nil || !strings.HasPrefix(where, server.URL+"/authorize?") {
				t.Errorf("%s, %v", where, err)
			}
			if err := p.Revoke(t.Context(), refresh); err != nil {
				t.Error(err)
			}
			got := server.requests()
			if want := tt.asked + ", POST /token, POST /token, POST /revoke"; uris(got) != want {
				t.Errorf("asked %s\nwant %s", uris(got), want)
			}
			sent := got[len(got)-2]
			if readable(sent.form) != tt.form || !strings.HasPrefix(sent.header.Get("Authorization"), tt.authorization) {
				t.Errorf("sent %s, %s", readable(sent.form), sent.header)
			}
		})
	}
}

// TestDiscoverRefuses holds that nothing is sent where metadata cannot be
// trusted or had, and what that means.
func TestDiscoverRefuses(t *testing.T) {
	const place = "/.well-known/oauth-authorization-server"
	tests := []struct {
		name   string
		answer func(base string) func(hw, *hr)
		class  provider.Class
		detail string
	}{
		{"none", func(string) func(hw, *hr) { return say(404, `{}`) }, provider.BadDefinition, "status 404"},
		{"down", func(string) func(hw, *hr) { return say(503, ``) }, provider.Transient, "status 503"},
		{"too many requests", func(string) func(hw, *hr) { return say(429, ``) }, provider.Transient, "status 429"},
		{"dropped", func(string) func(hw, *hr) { return drop }, provider.Transient, "EOF"},
		{"of another issuer", func(base string) func(hw, *hr) { return say(200, metadata("https://evil.example", base, "")) }, provider.BadDefinition, "https://evil.example"},
		{"with another slash", func(base string) func(hw, *hr) { return say(200, metadata(base+"/", base, "")) }, provider.BadDefinition, "exactly"},
		{"no JSON", func(string) func(hw, *hr) { return say(200, `<html>`) }, provider.BadDefinition, "not its metadata"},
		{"other types", func(string) func(hw, *hr) { return say(200, `{"issuer":1}`) }, provider.BadDefinition, "not its metadata"},
		{"too large", func(base string) func(hw, *hr) {
			return say(200, metadata(base, base, `,"x":"`+strings.Repeat("x", 2<<20)+`"`))
		}, provider.BadDefinition, "not its metadata"},
		{"endpoint that is no URL", func(base string) func(hw, *hr) { return say(200, metadata(base, "ftp://x", "")) }, provider.BadDefinition, "https"},
		{"endpoint with a name in braces", func(base string) func(hw, *hr) { return say(200, metadata(base, base+"/{client_secret}", "")) }, provider.BadDefinition, "https"},
		{"no token endpoint", func(base string) func(hw, *hr) { return say(200, `{"issuer":"`+base+`"}`) }, provider.BadDefinition, "endpoint"},
		{"redirect", func(string) func(hw, *hr) {
			return func(w hw, r *hr) { w.Header().Set("Location", place); w.WriteHeader(302) }
		}, provider.BadDefinition, "status 302"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := record(t, nil)
			server.answer = tt.answer(server.URL)
			p := register(t, provider.Definition{Name: "acme", Issuer: server.URL})
			_, err := p.Send(t.Context(), refresh)
			e := failure(t, err)
			if e.Outcome != provider.NotSent || e.Class != tt.class || !strings.Contains(e.Detail, tt.detail) {
				t.Error(e)
			}
			if strings.Contains(uris(server.requests()), "/token") {
				t.Error(uris(server.requests()))
			}
			if _, err := p.AuthorizeURL(t.Context(), provider.Authorization{}); failure(t, err).Outcome != provider.NotSent {
				t.Error(err)
			}
		})
	}
}

// TestDiscoverAgain holds that a failure is not remembered, that metadata is
// read again after a day, and that an old one is used on where there is no new
// one.
func TestDiscoverAgain(t *testing.T) {
	const place = "/.well-known/oauth-authorization-server"
	server, documents := publisher(t)
	now := sentAt
	p := register(t, provider.Definition{Name: "acme", Issuer: server.URL}, func(cfg *provider.Config) { cfg.Now = func() time.Time { return now } })
	send := func() error { _, err := p.Send(t.Context(), refresh); return err }
	if send() == nil {
		t.Fatal("there is no metadata yet")
	}
	documents[place] = metadata(server.URL, server.URL, "")
	if err := send(); err != nil {
		t.Fatal(err)
	}
	now = now.Add(25 * time.Hour)
	documents[place], documents["/two/token"] = metadata(server.URL, server.URL+"/two", ""), success
	if err := send(); err != nil {
		t.Fatal(err)
	}
	if got := uris(server.requests()); !strings.HasSuffix(got, "GET "+place+", POST /two/token") {
		t.Error(got)
	}
	now = now.Add(25 * time.Hour)
	delete(documents, place)
	if err := send(); err != nil {
		t.Errorf("old metadata was not used: %v", err)
	}
}

// TestDiscoverTogether holds that many callers ask once, and that each waits no
// longer than its own context.
func TestDiscoverTogether(t *testing.T) {
	server, documents := publisher(t)
	documents["/.well-known/oauth-authorization-server"] = metadata(server.URL, server.URL, "")
	granting, asked := server.answer, make(chan struct{})
	release := make(chan struct{})
	server.answer = func(w hw, r *hr) {
		if strings.HasPrefix(r.URL.Path, "/.well-known") {
			close(asked)
			<-release
		}
		granting(w, r)
	}
	p := register(t, provider.Definition{Name: "acme", Issuer: server.URL})
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if _, err := p.Send(t.Context(), refresh); err != nil {
				t.Error(err)
			}
		})
	}
	<-asked
	over, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.Send(over, refresh)
	if e := failure(t, err); e.Outcome != provider.NotSent || e.Class != provider.Transient {
		t.Error(e)
	}
	close(release)
	all.Wait()
	if got := strings.Count(uris(server.requests()), "GET"); got != 1 {
		t.Errorf("asked %d times", got)
	}
}

// TestDiscoverByParams holds that an issuer may differ between connections.
func TestDiscoverByParams(t *testing.T) {
	server, documents := publisher(t)
	for _, tenant := range []string{"one", "two"} {
		documents["/.well-known/oauth-authorization-server/"+tenant] = metadata(server.URL+"/"+tenant, server.URL, "")
	}
	p := register(t, provider.Definition{Name: "acme", Issuer: server.URL + "/{params.tenant}", Params: map[string]provider.Param{"tenant": {}}})
	for _, tenant := range []string{"one", "two", "one", "two"} {
		if _, err := p.Send(t.Context(), provider.Call{Kind: provider.ClientCredentials, Params: map[string]string{"tenant": tenant}}); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Count(uris(server.requests()), "GET"); got != 2 {
		t.Error(uris(server.requests()))
	}
	_, err := p.Send(t.Context(), provider.Call{Kind: provider.ClientCredentials})
	if e := failure(t, err); e.Outcome != provider.NotSent || !strings.Contains(e.Detail, "params.tenant") {
		t.Error(e)
	}
	if _, _, err := p.Redirected(url.Values{"iss": {"https://other.example"}}); err != nil {
		t.Errorf("an issuer that cannot be known was compared: %v", err)
	}
}

// TestDiscoverIssuerInRedirect holds that iss must be in the redirect where the
// metadata says so (RFC 9207 section 2.4).
func TestDiscoverIssuerInRedirect(t *testing.T) {
	server, documents := publisher(t)
	documents["/.well-known/oauth-authorization-server"] = metadata(server.URL, server.URL, `,"authorization_response_iss_parameter_supported":true`)
	p := register(t, provider.Definition{Name: "acme", Issuer: server.URL})
	if _, err := p.AuthorizeURL(t.Context(), provider.Authorization{State: "st"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Redirected(url.Values{"code": {"c"}}); err == nil {
		t.Error("a redirect without iss was taken")
	}
	if _, _, err := p.Redirected(url.Values{"code": {"c"}, "iss": {server.URL}}); err != nil {
		t.Error(err)
	}
}
