package providertest_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
)

// life is how a dialect is spoken to and where its answers have the tokens.
type life struct {
	dialect   providertest.Dialect
	send      func(b *bench, pairs ...string) got // a token request
	authorize []string                            // further parameters
	tokens    string                              // path of the object with the tokens, "" for the answer itself
	exchange  []string                            // in place of grant_type and code
	scheme    string
	first     map[string]any // what else the code's answer has
	again     bool           // a refresh tells a refresh token
}

func lives() []life {
	form := (*bench).token
	return []life{
		{dialect: providertest.Plain(), send: form, again: true, first: map[string]any{"token_type": "Bearer", "expires_in": 3600.0, "scope": "read write"}},
		{dialect: providertest.Plain(), send: (*bench).basic, again: true},
		{dialect: providertest.Tink(), send: form, again: true, first: map[string]any{"expires_in": 1800.0}},
		{dialect: providertest.Eventix(), send: form, again: true, first: map[string]any{"expires_in": 259200.0, "refresh_token_expires_in": 31535999.0, "scope": nil}},
		{dialect: providertest.Eventix(), send: sendJSON, again: true},
		{dialect: providertest.Google(), send: form, authorize: []string{"access_type", "offline", "prompt", "consent"}, first: map[string]any{"expires_in": 3600.0}},
		{dialect: providertest.GitHub(), send: form, again: true, first: map[string]any{"expires_in": 28800.0, "refresh_token_expires_in": 15897600.0, "token_type": "bearer"}},
		{dialect: providertest.Xero(), send: (*bench).basic, again: true, first: map[string]any{"expires_in": 1800.0}},
		{dialect: providertest.Slack(), send: form, again: true, exchange: []string{"code"}, first: map[string]any{"ok": true, "token_type": "bot", "authed_user.token_type": "user"}},
		{dialect: providertest.Withings(), send: func(b *bench, pairs ...string) got { return form(b, append(pairs, "action", "requesttoken")...) }, tokens: "body.", again: true,
			first: map[string]any{"status": 0.0, "body.expires_in": 10800.0}},
		{dialect: providertest.Salesforce(), send: form, first: map[string]any{"expires_in": nil, "issued_at": "1767323045000"}},
		{dialect: providertest.Zoho(), send: form, authorize: []string{"access_type", "offline"}, scheme: "Zoho-oauthtoken", first: map[string]any{"expires_in": 3600.0}},
		{dialect: providertest.QuickBooks(), send: (*bench).basic, again: true, first: map[string]any{"x_refresh_token_expires_in": 8640000.0}},
		{dialect: providertest.FOS(), send: form, again: true, first: map[string]any{"token_type": "bearer", "scope": "read write"}},
		{dialect: providertest.FOS(), send: sendQuery, again: true},
		{dialect: providertest.Bshaffer(), send: form, first: map[string]any{"scope": "read write"}},
		{dialect: providertest.Bshaffer(), send: sendJSON},
	}
}

func pairsOf(pairs []string) map[string]string {
	fields := map[string]string{"client_id": "sim-client", "client_secret": "sim-secret"}
	for i := 0; i+1 < len(pairs); i += 2 {
		fields[pairs[i]] = pairs[i+1]
	}
	return fields
}

func sendJSON(b *bench, pairs ...string) got {
	body, err := json.Marshal(pairsOf(pairs))
	if err != nil {
		b.Fatal(err)
	}
	return b.do(b.request("POST", providertest.TokenPath, "application/json", string(body)))
}

func sendQuery(b *bench, pairs ...string) got {
	query := url.Values{}
	for name, value := range pairsOf(pairs) {
		query.Set(name, value)
	}
	return b.do(b.request("GET", providertest.TokenPath+"?"+query.Encode(), "", ""))
}

// TestLife takes each dialect that has a browser through consent, code, API,
// refresh and API.
func TestLife(t *testing.T) {
	for _, l := range lives() {
		t.Run(l.dialect.Name, func(t *testing.T) {
			t.Parallel()
			b := serve(t, l.dialect)
			separator := l.dialect.ScopeSeparator
			if separator == "" {
				separator = " "
			}
			code := b.code(append(l.authorize, "scope", "read"+separator+"write", "login_hint", "alice")...)
			exchange := []string{"grant_type", "authorization_code", "code", code, "redirect_uri", callback}
			if l.exchange != nil {
				exchange = []string{"code", code, "redirect_uri", callback}
			}
			one := l.send(b, exchange...)
			access, refresh := one.text(l.tokens+"access_token"), one.text(l.tokens+"refresh_token")
			if one.status != http.StatusOK || !strings.HasPrefix(access, "sim_at_") || !strings.HasPrefix(refresh, "sim_rt_") {
				t.Fatalf("the code gave %d %s", one.status, one.body)
			}
			for path, value := range l.first {
				b.want(one, http.StatusOK, path, value)
			}
			b.wantMe(l, access, "alice", 1)
			b.pass(time.Minute)
			two := l.send(b, "grant_type", "refresh_token", "refresh_token", refresh)
			next, told := two.text(l.tokens+"access_token"), two.at(l.tokens+"refresh_token") != nil
			if two.status != http.StatusOK || next == access || told != l.again {
				t.Fatalf("the refresh gave %d %s", two.status, two.body)
			}
			b.wantMe(l, next, "alice", 2)
			b.checkRotation(l, refresh, two.text(l.tokens+"refresh_token"))
			g := b.sim.Grants()[0]
			if g.Owner != "alice" || !slices.Equal(g.Scope, oauth.Scope{"read", "write"}) || g.State != providertest.Live || g.Generation != 2 || g.Uses != 2 || g.Spends[0] != 1 {
				t.Errorf("the grant is %+v", g)
			}
		})
	}
}

func (b *bench) wantMe(l life, access, owner string, generation int) {
	b.Helper()
	scheme := "Bearer"
	if l.scheme != "" {
		scheme = l.scheme
	}
	g := b.do(b.request("GET", providertest.MePath, "", "", "Authorization", scheme+" "+access))
	b.want(g, http.StatusOK, "owner", owner)
	b.want(g, http.StatusOK, "generation", float64(generation))
	if l.scheme != "" {
		b.want(b.me(access), http.StatusUnauthorized, "error", "invalid_token")
	}
}

// checkRotation holds what the provider would do with the refresh token that was
// spent, and with the one that it gave, against the dialect.
func (b *bench) checkRotation(l life, spent, next string) {
	b.Helper()
	fixed := l.dialect.Rotation == provider.RotationFixed
	if fixed && l.again && next != spent {
		b.Errorf("a fixed refresh token changed")
	}
	if !fixed && next == spent {
		b.Errorf("the refresh token did not change")
	}
	// Withings: the API was called with the new access token.
	works := fixed || l.dialect.ReplayWindow > 0 && !l.dialect.UntilUsed
	if b.sim.Alive(spent) != works {
		b.Errorf("the spent refresh token works is %t, want %t", !works, works)
	}
	if next != "" && !b.sim.Alive(next) {
		b.Errorf("the new refresh token does not work")
	}
}

// TestFailures is how each dialect says no.
func TestFailures(t *testing.T) {
	basic, form := (*bench).basic, (*bench).token
	tests := []struct {
		dialect providertest.Dialect
		send    func(*bench, ...string) got
		pairs   []string
		status  int
		path    string
		value   any
	}{
		{providertest.Plain(), form, []string{"refresh_token", "x"}, 400, "error", "unsupported_grant_type"},
		{providertest.Plain(), form, []string{"grant_type", "password"}, 400, "error", "unsupported_grant_type"},
		{providertest.Plain(), form, []string{"grant_type", "refresh_token"}, 400, "error", "invalid_request"},
		{providertest.Plain(), form, []string{"grant_type", "refresh_token", "refresh_token", "x"}, 400, "error", "invalid_grant"},
		{providertest.Plain(), form, []string{"grant_type", "authorization_code", "code", "x"}, 400, "error", "invalid_grant"},
		{providertest.Plain(), form, []string{"grant_type", "client_credentials", "client_secret", "x"}, 401, "error", "invalid_client"},
		{providertest.Plain(), form, []string{"grant_type", "client_credentials", "client_id", "x"}, 401, "error", "invalid_client"},
		{providertest.Plain(), sendJSON, []string{"grant_type", "client_credentials"}, 400, "error", "invalid_request"},
		{providertest.Plain(), sendQuery, []string{"grant_type", "client_credentials"}, 400, "error", "invalid_request"},
		{providertest.Tink(), form, []string{"grant_type", "refresh_token", "refresh_token", "x"}, 400, "errorCode", "oauth.invalid_grant"},
		{providertest.Tink(), form, []string{"grant_type", "authorization_code", "code", "x"}, 400, "errorMessage", "The code is not known."},
		{providertest.Tink(), basic, []string{"grant_type", "client_credentials"}, 401, "errorCode", "oauth.invalid_client"},
		{providertest.Eventix(), form, []string{"grant_type", "client_credentials"}, 400, "error", "unsupported_grant_type"},
		{providertest.Eventix(), form, []string{"grant_type", "refresh_token", "refresh_token", "x"}, 400, "message", "The refresh token is not known."},
		{providertest.Flexiti(), sendJSON, nil, 400, "error", "invalid_request"},
		{providertest.Flexiti(), form, []string{"grant_type", "client_credential"}, 400, "error", "unsupported_grant_type"},
		{providertest.Flexiti(), form, []string{"client_secret", "x"}, 401, "error", "invalid_client"},
		{providertest.GitHub(), form, []string{"grant_type", "refresh_token", "refresh_token", "x"}, 200, "error", "bad_refresh_token"},
		{providertest.GitHub(), form, []string{"grant_type", "authorization_code", "code", "x"}, 200, "error", "bad_verification_code"},
		{providertest.GitHub(), form, []string{"grant_type", "refresh_token", "client_secret", "x"}, 200, "error", "incorrect_client_credentials"},
		{providertest.Xero(), form, []string{"grant_type", "refresh_token", "refresh_token", "x"}, 401, "error", "invalid_client"},
		{providertest.Slack(), form, []string{"grant_type", "refresh_token", "refresh_token", "x"}, 200, "error", "invalid_refresh_token"},
		{providertest.Slack(), form, []string{"code", "x"}, 200, "error", "invalid_code"},
		{providertest.Slack(), form, []string{"code", "x"}, 200, "ok", false},
		{providertest.Slack(), form, nil, 200, "error", "invalid_grant_type"},
		{providertest.Withings(), form, []string{"grant_type", "refresh_token", "refresh_token", "x"}, 200, "status", 503.0},
		{providertest.Withings(), form, []string{"action", "requesttoken", "grant_type", "refresh_token", "refresh_token", "x"}, 200, "status", 401.0},
		{providertest.Withings(), form, []string{"action", "requesttoken", "grant_type", "refresh_token", "client_secret", "x"}, 200, "status", 342.0},
		{providertest.Withings(), form, []string{"action", "other", "grant_type", "refresh_token"}, 200, "status", 503.0},
		{providertest.Salesforce(), form, []string{"grant_type", "refresh_token", "refresh_token", "x"}, 400, "error_description", "expired access/refresh token"},
		{providertest.Zoho(), form, []string{"grant_type", "refresh_token", "refresh_token", "x"}, 400, "error_description", nil},
		{providertest.Meta(), form, []string{"grant_type", "fb_exchange_token", "fb_exchange_token", "x"}, 400, "error.code", 190.0},
		{providertest.Meta(), form, []string{"grant_type", "refresh_token", "refresh_token", "x"}, 400, "error.code", 100.0},
		{providertest.Meta(), form, []string{"grant_type", "fb_exchange_token", "client_secret", "x"}, 400, "error.code", 101.0},
		{providertest.FOS(), form, []string{"grant_type", "word"}, 400, "error_description", "Invalid grant_type parameter or parameter missing"},
		{providertest.FOS(), form, []string{"grant_type", "client_credentials", "client_secret", "x"}, 400, "error", "invalid_client"},
		{providertest.FOS(), sendJSON, []string{"grant_type", "client_credentials"}, 400, "error", "invalid_request"},
		{providertest.FOS(), form, []string{"grant_type", "refresh_token", "refresh_token", "x"}, 400, "error_description", "Invalid refresh token"},
		{providertest.FOS(), form, []string{"grant_type", "authorization_code", "code", "x"}, 400, "error_description", "Code doesn't exist or is invalid for the client"},
		{providertest.Bshaffer(), form, []string{"grant_type", "word"}, 400, "error", "unsupported_grant_type"},
		{providertest.Bshaffer(), form, []string{"grant_type", "client_credentials", "client_secret", "x"}, 400, "error", "invalid_client"},
		{providertest.Bshaffer(), form, []string{"grant_type", "refresh_token", "refresh_token", "x"}, 400, "error", "invalid_grant"},
	}
	for _, test := range tests {
		t.Run(test.dialect.Name+" "+strings.Join(test.pairs, " "), func(t *testing.T) {
			t.Parallel()
			b := serve(t, test.dialect)
			g := test.send(b, test.pairs...)
			b.want(g, test.status, test.path, test.value)
			if kind := g.header.Get("Content-Type"); kind != "application/json" || g.header.Get("Cache-Control") != "no-store" {
				t.Errorf("the headers are %v", g.header)
			}
		})
	}
}

func TestDialectNamesAndTemplates(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range providertest.Dialects() {
		if seen[d.Name] || d.Name != strings.ToLower(d.Name) || d.Name == "" {
			t.Errorf("the name %q is taken, or unfit for a definition", d.Name)
		}
		seen[d.Name] = true
		for _, template := range []string{d.Answer, d.Failure} {
			if template != "" && !json.Valid([]byte(template)) {
				t.Errorf("%s: %s is not JSON", d.Name, template)
			}
		}
	}
	if len(seen) != 15 {
		t.Errorf("%d dialects", len(seen))
	}
}
