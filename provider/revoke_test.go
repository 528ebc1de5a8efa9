package provider_test

import (
	"errors"
	"io"
	"net"
	"testing"

	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

// TestRevoke holds how revocations are sent and what their answers mean.
func TestRevoke(t *testing.T) {
	type def = provider.Definition
	const form = "client_id=app&client_secret=s3cr&t+&token=old-refresh&token_type_hint=refresh_token"
	slack := func(d *def) {
		d.Response.Success = &provider.Match{Path: "ok", Is: []string{"true"}}
		d.RevokeURL, d.Revoke = "", provider.Request{URL: d.RevokeURL, Headers: map[string]string{"Authorization": "Bearer {access_token}"}, ClientAuth: provider.AuthNone,
			Params: map[string]*string{"token": nil, "token_type_hint": nil}}
	}
	tests := []struct {
		name   string
		change func(*def)
		call   provider.Call
		status int
		body   string
		form   string
		class  provider.Class // "" for success
	}{
		{name: "RFC 7009", call: refresh, status: 200, form: form},
		{name: "without a refresh token", call: provider.Call{AccessToken: secret.NewText("a")}, status: 200, form: "client_id=app&client_secret=s3cr&t+&token=a&token_type_hint=access_token"},
		{name: "204", call: refresh, status: 204, form: form},
		{name: "something in the body", call: refresh, status: 200, body: `{"revoked":true}`, form: form},
		{name: "what all requests have", call: refresh, status: 200, form: "client_id=app&token=old-refresh&x=y",
			change: func(d *def) {
				d.Token.ClientAuth, d.Token.Params = provider.AuthID, map[string]*string{"x": new("y")}
				d.Revoke.Params = map[string]*string{"token_type_hint": nil}
			}},
		{name: "not valid any more, which RFC 7009 calls success", call: refresh, status: 400, body: `{"error":"invalid_grant"}`, form: form},
		{name: "not valid, in another way", call: refresh, status: 400, body: `{"error":"invalid_token"}`, form: form},
		{name: "bad client", call: refresh, status: 401, body: `{"error":"invalid_client"}`, form: form, class: provider.BadClient},
		{name: "down", call: refresh, status: 503, form: form, class: provider.Transient},
		{name: "throttled", call: refresh, status: 429, form: form, class: provider.Throttled},
		{name: "not found", call: refresh, status: 404, form: form, class: provider.BadDefinition},
		{name: "redirect", call: refresh, status: 302, form: form, class: provider.BadDefinition},
		{name: "ok (Slack)", call: refresh, change: slack, status: 200, body: `{"ok":true,"revoked":true}`},
		{name: "not ok (Slack)", call: refresh, change: slack, status: 200, body: `{"ok":false,"error":"x"}`, class: provider.BadDefinition},
		{name: "sign of success missing", call: refresh, change: slack, status: 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := record(t, say(tt.status, tt.body))
			d := plain(server.URL)
			d.RevokeURL = server.URL + "/revoke"
			if tt.change != nil {
				tt.change(&d)
			}
			err := register(t, d).Revoke(t.Context(), tt.call)
			if tt.class == "" && err != nil || tt.class != "" && failure(t, err).Class != tt.class {
				t.Error(err)
			}
			got := server.requests()
			if len(got) != 1 || got[0].uri != "/revoke" || readable(got[0].form) != tt.form {
				t.Errorf("%s %s", uris(got), readable(got[0].form))
			}
		})
	}
}

// TestRevokeCannot is a provider without an endpoint for it, or that is not
// there.
func TestRevokeCannot(t *testing.T) {
	server := record(t, say(200, ``))
	if err := register(t, plain(server.URL)).Revoke(t.Context(), refresh); !errors.Is(err, provider.ErrCannotRevoke) {
		t.Error(err)
	}
	server.answer = func(w hw, r *hr) {
		say(200, `{"issuer":"`+server.URL+`","token_endpoint":"`+server.URL+`/token"}`)(w, r)
	}
	if err := register(t, provider.Definition{Name: "acme", Issuer: server.URL}).Revoke(t.Context(), refresh); !errors.Is(err, provider.ErrCannotRevoke) {
		t.Error(err)
	}
	w := listen(t, func(conn net.Conn) { io.WriteString(conn, "") })
	d := plain(w.url)
	d.RevokeURL = w.url
	if e := failure(t, register(t, d).Revoke(t.Context(), refresh)); e.Outcome != provider.Unknown || w.requests.Load() != 1 {
		t.Error(e)
	}
}
