package provider_test

import (
	"fmt"
	"math"
	"net"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

// TestClassify are answers that give no tokens.
func TestClassify(t *testing.T) {
	type def = provider.Definition
	type rule = provider.ErrorRule
	type match = provider.Match
	rules := func(rules ...rule) func(*def) { return func(d *def) { d.Errors = rules } }
	fixed := func(d *def) { d.RefreshToken.Rotation = provider.RotationFixed }
	none := func(d *def) { d.RefreshToken.Rotation = provider.RotationNone }
	const (
		refused = provider.Refused
		unknown = provider.Unknown
	)
	tests := []struct {
		name    string
		change  func(*def)
		answer  provider.Answer
		class   provider.Class
		outcome provider.Outcome
		code    string
		detail  string // a part
	}{
		{"RFC 6749 section 5.2", nil, answerOf(400, `{"error":"invalid_grant","error_description":"expired"}`), provider.Revoked, refused, "invalid_grant", "expired"},
		{"invalid_client", nil, answerOf(401, `{"error":"invalid_client"}`), provider.BadClient, refused, "invalid_client", ""},
		{"unauthorized_client", nil, answerOf(400, `{"error":"unauthorized_client"}`), provider.BadClient, refused, "unauthorized_client", ""},
		{"invalid_request", nil, answerOf(400, `{"error":"invalid_request"}`), provider.BadDefinition, refused, "invalid_request", ""},
		{"unsupported_grant_type", nil, answerOf(400, `{"error":"unsupported_grant_type"}`), provider.BadDefinition, refused, "unsupported_grant_type", ""},
		{"invalid_scope", nil, answerOf(400, `{"error":"invalid_scope"}`), provider.BadDefinition, refused, "invalid_scope", ""},
		{"interaction_required", nil, answerOf(400, `{"error":"interaction_required"}`), provider.ConsentRequired, refused, "interaction_required", ""},
		{"consent_required", nil, answerOf(400, `{"error":"consent_required"}`), provider.ConsentRequired, refused, "consent_required", ""},
		{"login_required", nil, answerOf(403, `{"error":"login_required"}`), provider.ConsentRequired, refused, "login_required", ""},
		{"temporarily_unavailable", nil, answerOf(400, `{"error":"temporarily_unavailable"}`), provider.Transient, refused, "temporarily_unavailable", ""},
		{"server_error", nil, answerOf(400, `{"error":"server_error"}`), provider.Transient, refused, "server_error", ""},
		{"slow_down", nil, answerOf(400, `{"error":"slow_down"}`), provider.Throttled, refused, "slow_down", ""},
		{"a code of nobody", nil, answerOf(400, `{"error":"no_such_code"}`), provider.BadDefinition, refused, "no_such_code", ""},
		{"no code", nil, answerOf(404, `{"message":"Not here","x":1}`), provider.BadDefinition, refused, "", "Not here"},
		{"nothing", nil, answerOf(400, ``), provider.BadDefinition, refused, "", "neither JSON nor a form"},
		{"a code in a form", nil, answerOf(400, `error=invalid_grant&error_description=no+more`), provider.Revoked, refused, "invalid_grant", "no more"},
		{"an error object", nil, answerOf(401, `{"error":{"code":403,"type":"OAuthException","message":"session over"}}`), provider.BadDefinition, refused, "403", "session over"},
		{"an array", nil, answerOf(400, `[{"message":"no","errorCode":"X"}]`), provider.BadDefinition, refused, "", "no JSON object"},
		{"text as 401 (Jobber)", nil, answerOf(401, `Unauthorized`), provider.BadDefinition, refused, "", "neither"},

		{"429", nil, answerOf(429, `{"error":"invalid_grant"}`), provider.Throttled, refused, "invalid_grant", ""},
		{"408", nil, answerOf(408, ``), provider.Transient, refused, "", ""},
		{"425", nil, answerOf(425, ``), provider.Transient, refused, "", ""},
		{"a firewall's 403", nil, answerOf(403, "<!DOCTYPE html><title>Attention</title>"), provider.Transient, refused, "", "page in HTML"},
		{"a firewall's 401", nil, answerOf(401, "\r\n<html>"), provider.Transient, refused, "", "page in HTML"},
		{"another HTML page", nil, answerOf(404, "<html>"), provider.BadDefinition, refused, "", "page in HTML"},
		{"400 broken off", nil, cutOf(400, `{"err`), provider.Transient, refused, "", ""},
		{"400 broken off after the code", nil, cutOf(400, `{"error":"invalid_grant","error_desc`), provider.Revoked, refused, "invalid_grant", ""},

		{"500", nil, answerOf(500, `{"error":"invalid_grant"}`), provider.Ambiguous, unknown, "invalid_grant", ""},
		{"502", nil, answerOf(502, `<html>bad gateway`), provider.Ambiguous, unknown, "", ""},
		{"504 of a fixed refresh token", fixed, answerOf(504, ``), provider.Transient, unknown, "", ""},
		{"504 without refresh tokens", none, answerOf(504, ``), provider.Transient, unknown, "", ""},
		{"503", nil, answerOf(503, ``), provider.Ambiguous, unknown, "", ""},
		{"503 with Retry-After", nil, provider.Answer{Status: 503, RetryAfter: "1", Kind: provider.Refresh}, provider.Throttled, unknown, "", ""},
		{"500 of an exchange", fixed, provider.Answer{Status: 500, Kind: provider.Exchange}, provider.Ambiguous, unknown, "", ""},
		{"500 of client_credentials", nil, provider.Answer{Status: 500, Kind: provider.ClientCredentials}, provider.Transient, unknown, "", ""},
		{"500 of a re-mint", nil, provider.Answer{Status: 500, Kind: provider.Reminting}, provider.Transient, unknown, "", ""},

		{"301", nil, answerOf(301, ``), provider.BadDefinition, refused, "", ""},
		{"302", nil, answerOf(302, `<html>`), provider.BadDefinition, refused, "", ""},
		{"303, which answers for what was done", nil, answerOf(303, ``), provider.BadDefinition, unknown, "", ""},
		{"307", nil, answerOf(307, ``), provider.BadDefinition, refused, "", ""},
		{"tokens with 500", nil, answerOf(500, success), provider.Ambiguous, unknown, "", ""},
		{"tokens with 302", nil, answerOf(302, success), provider.BadDefinition, refused, "", ""},
		{"a status of nobody", nil, answerOf(999, ``), provider.BadDefinition, unknown, "", ""},

		{"200 and an error (GitHub)", rules(rule{Match: match{Path: "error", Is: []string{"bad_refresh_token"}}, Class: provider.Revoked}),
			answerOf(200, `{"error":"bad_refresh_token","error_description":"gone","error_uri":"https://docs"}`), provider.Revoked, refused, "bad_refresh_token", "gone"},
		{"200 and an error of RFC 6749", nil, answerOf(200, `{"error":"invalid_grant"}`), provider.Revoked, refused, "invalid_grant", ""},
		{"200 and an error without name", nil, answerOf(200, `{"error":"oops"}`), provider.BadDefinition, refused, "oops", ""},
		{"200 and an error as form", nil, answerOf(200, `error=incorrect_client_credentials`), provider.BadDefinition, refused, "incorrect_client_credentials", ""},
		{"200 and ok: false (Slack)", func(d *def) {
			d.Response.Success = &match{Path: "ok", Is: []string{"true"}}
			d.Errors = []rule{{Match: match{Path: "error", Is: []string{"token_revoked", "token_expired"}}, Class: provider.Revoked}}
		}, answerOf(200, `{"ok":false,"error":"token_revoked"}`), provider.Revoked, refused, "token_revoked", ""},
		{"200, ok: false and tokens", func(d *def) { d.Response.Success = &match{Path: "ok", Is: []string{"true"}} },
			answerOf(200, `{"ok":false,"access_token":"a","refresh_token":"r"}`), provider.BadDefinition, refused, "", ""},
		{"200 without the sign of success", func(d *def) { d.Response.Success = &match{Path: "ok", Is: []string{"true"}} },
			answerOf(200, `{"access_token":"a","refresh_token":"r"}`), provider.BadDefinition, unknown, "", ""},
		{"200 and status 401 (Withings)", func(d *def) {
			d.Response.Success, d.Response.ErrorCode = &match{Path: "status", Is: []string{"0"}}, "status"
			d.Errors = []rule{{Match: match{Path: "status", Is: []string{"401"}}, Class: provider.Revoked}}
		}, answerOf(200, `{"status":401,"body":{},"error":"XRequestID: Not provided invalid refresh_token"}`), provider.Revoked, refused, "401", ""},
		{"200 and result 1001 (Coros)", func(d *def) {
			prolongs(d)
			d.Response.Success, d.Response.ErrorCode = &match{Path: "result", Is: []string{"0000"}}, "result"
		}, answerOf(200, `{"result":"1001","message":"invalid"}`), provider.BadDefinition, refused, "1001", "invalid"},
		{"a prolonging answer that is HTML", prolongs, answerOf(200, `<html>OK`), provider.BadDefinition, unknown, "", ""},
		{"a prolonging answer that broke off", prolongs, cutOf(200, `O`), provider.Ambiguous, unknown, "", ""},
		{"a prolonging answer with an error", prolongs, answerOf(200, `{"code":"77"}`), provider.BadDefinition, refused, "77", ""},
		{"a prolonging answer to an exchange", prolongs, provider.Answer{Status: 200, Body: []byte("OK"), Kind: provider.Exchange}, provider.BadDefinition, unknown, "", ""},

		{"200 and neither tokens nor error", nil, answerOf(200, `{"foo":1,"bar":{}}`), provider.BadDefinition, unknown, "", "bar, foo"},
		{"200 and nothing", nil, answerOf(200, ``), provider.BadDefinition, unknown, "", ""},
		{"200 and a page", nil, answerOf(200, `<html>login`), provider.BadDefinition, unknown, "", "page in HTML"},
		{"204", nil, answerOf(204, ``), provider.BadDefinition, unknown, "", ""},
		{"access token of a wrong type", nil, answerOf(200, `{"access_token":{"a":1},"refresh_token":"r"}`), provider.BadDefinition, unknown, "", "access_token, refresh_token"},
		{"access token that is true", nil, answerOf(200, `{"access_token":true,"refresh_token":"r"}`), provider.BadDefinition, unknown, "", ""},
		{"empty access token", nil, answerOf(200, `{"access_token":"","refresh_token":"r"}`), provider.BadDefinition, unknown, "", ""},
		{"envelope of a wrong type", func(d *def) { d.Response.Envelope = "data" }, answerOf(200, `{"data":[],"access_token":"a"}`), provider.BadDefinition, unknown, "", ""},
		{"200 broken off at once", nil, cutOf(200, ``), provider.Ambiguous, unknown, "", ""},

		{"HubSpot's status", rules(rule{Match: match{Path: "status", Is: []string{"BAD_REFRESH_TOKEN"}}, Class: provider.Revoked}),
			answerOf(400, `{"status":"BAD_REFRESH_TOKEN","message":"missing or unknown refresh token"}`), provider.Revoked, refused, "", "missing or unknown"},
		{"Tink's errorCode", func(d *def) {
			d.Response.ErrorCode, d.Response.ErrorDetail = "errorCode", "errorMessage"
			d.Errors = []rule{{Status: 400, Match: match{Path: "errorCode", Has: "INVALID_GRANT"}, Class: provider.Revoked}}
		}, answerOf(400, `{"errorCode":"oauth.invalid_grant","errorMessage":"spent"}`), provider.Revoked, refused, "oauth.invalid_grant", "spent"},
		{"Zoho's throttle dressed as denial", rules(rule{Match: match{Path: "error", Is: []string{"Access Denied"}}, Class: provider.Throttled, RetryAfter: oauth.Lifetime(time.Minute)}),
			answerOf(400, `{"error":"Access Denied"}`), provider.Throttled, refused, "Access Denied", ""},
		{"Atlassian's 403", rules(rule{Status: 403, Class: provider.RefreshTokenExpired}), answerOf(403, `{"error":"x"}`), provider.RefreshTokenExpired, refused, "x", ""},
		{"Apigee's fault", func(d *def) {
			d.Response.ErrorCode, d.Response.ErrorDetail = "fault.detail.errorcode", "fault.faultstring"
		},
			answerOf(401, `{"fault":{"faultstring":"Invalid","detail":{"errorcode":"oauth.v2.x"}}}`), provider.BadDefinition, refused, "oauth.v2.x", "Invalid"},
		{"the first rule that fits, and all its conditions", rules(
			rule{Status: 401, Match: match{Path: "error", Is: []string{"x"}}, Class: provider.BadClient},
			rule{Status: 400, Match: match{Path: "error", Is: []string{"y"}, Has: "y"}, Class: provider.BadClient},
			rule{Status: 400, Match: match{Path: "error", Is: []string{"y", "x"}}, Class: provider.ConsentRequired},
			rule{Status: 400, Class: provider.BadClient}), answerOf(400, `{"error":"x"}`), provider.ConsentRequired, refused, "x", ""},
		{"a rule for 500 that knows better", rules(rule{Status: 500, Class: provider.Transient}), answerOf(500, ``), provider.Transient, refused, "", ""},
		{"a rule that says that nothing is known", rules(rule{Status: 400, Class: provider.Ambiguous}), answerOf(400, ``), provider.Ambiguous, unknown, "", ""},
		{"a rule for a number", rules(rule{Match: match{Path: "code", Is: []string{"40102"}}, Class: provider.Revoked}), answerOf(200, `{"code":40102}`), provider.Revoked, refused, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := plain("https://acme.example")
			if tt.change != nil {
				tt.change(&d)
			}
			_, err := register(t, d).Read(tt.answer)
			e := failure(t, err)
			if e.Class != tt.class || e.Outcome != tt.outcome || e.Status != tt.answer.Status || e.Code != tt.code || !strings.Contains(e.Detail, tt.detail) {
				t.Errorf("got %v", e)
			}
		})
	}
}

func cutOf(status int, body string) provider.Answer {
	answer := answerOf(status, body)
	answer.Cut = true
	return answer
}

// TestErrorTexts holds how errors are shown.
func TestErrorTexts(t *testing.T) {
	for want, e := range map[string]provider.Error{
		"transient: not sent: dial: refused":                       {Class: provider.Transient, Outcome: provider.NotSent, Detail: "dial: refused"},
		"ambiguous: outcome unknown, status 502":                   {Class: provider.Ambiguous, Status: 502},
		"revoked: refused, status 400, invalid_grant: it is spent": {Class: provider.Revoked, Outcome: provider.Refused, Status: 400, Code: "invalid_grant", Detail: "it is spent"},
	} {
		if got := e.Error(); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

// TestErrorsShowNoSecrets holds that what is quoted of an answer has no secret
// of the request or the answer, and is short and printable.
func TestErrorsShowNoSecrets(t *testing.T) {
	call := provider.Call{Kind: provider.Refresh, AccessToken: secret.NewText("SECRET-sent-access"), RefreshToken: secret.NewText("SECRET-sent-refresh"),
		Code: secret.NewText("SECRET-sent-code"), CodeVerifier: secret.NewText("SECRET-sent-verifier")}
	sent := "SECRET-sent-access, SECRET-sent-refresh, SECRET-sent-code, SECRET-sent-verifier, SECRET-client"
	bodies := map[string]string{
		"echo":              `{"error":"invalid: SECRET-sent-refresh","error_description":"` + sent + `"}`,
		"echo at the cut":   `{"error":"x","error_description":"` + strings.Repeat("x", 190) + sent + `"}`,
		"tokens of its own": `{"ok":false,"error":"SECRET-new","error_description":"SECRET-new and SECRET-nested SECRET-id","access_token":"SECRET-new","data":{"refresh_token":"SECRET-nested"},"id_token":"SECRET-id"}`,
		"a name":            `{"SECRET-sent-refresh":1,"` + strings.Repeat("SECRET", 20) + `":1}`,
		"a form":            `error=x&error_description=SECRET-sent-refresh`,
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			server := record(t, say(400, body))
			d := plain(server.URL)
			d.Response.Envelope = "data"
			p := register(t, d, func(cfg *provider.Config) { cfg.ClientSecrets = []secret.Text{secret.NewText("SECRET-client")} })
			answer, err := p.Send(t.Context(), call)
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.Read(answer)
			if text := fmt.Sprintf("%v %+v", err, failure(t, err)); strings.Contains(text, "SECRET") {
				t.Error(text)
			}
		})
	}
	w := listen(t, func(conn net.Conn) { fmt.Fprintf(conn, "HTTP/1.1 %s\r\n\r\n", strings.ReplaceAll(sent, ",", "")) })
	_, err := register(t, plain(w.url), func(cfg *provider.Config) { cfg.ClientSecrets = []secret.Text{secret.NewText("SECRET-client")} }).Send(t.Context(), call)
	if text := failure(t, err).Error(); strings.Contains(text, "SECRET") || !strings.Contains(text, "redacted") {
		t.Error(text)
	}
}

// TestErrorsArePrintable holds that what is quoted of an answer is one short
// line.
func TestErrorsArePrintable(t *testing.T) {
	p := register(t, plain("https://acme.example"))
	for _, text := range []string{"line\\nbreak\\u001b[31mred\\u202eltr\\u0000", strings.Repeat("é", 5000), strings.Repeat(" ", 5000), "\xff\xfe"} {
		_, err := p.Read(answerOf(400, `{"error":"`+text+`","error_description":"`+text+`"}`))
		e := failure(t, err)
		for _, shown := range []string{e.Code, e.Detail} {
			if utf8.RuneCountInString(shown) > 200 || !utf8.ValidString(shown) || strings.ContainsFunc(shown, func(c rune) bool { return !unicode.IsPrint(c) }) {
				t.Errorf("%q", shown)
			}
		}
	}
}

// TestRetryAfter reads the header (RFC 9110 section 10.2.3) in both forms.
func TestRetryAfter(t *testing.T) {
	httpDate := func(at time.Time) string { return at.Format("Mon, 02 Jan 2006 15:04:05 GMT") }
	p := register(t, plain("https://acme.example"))
	tests := []struct {
		header, date string
		want         time.Duration
	}{
		{"", "", 0}, {"0", "", 0}, {"-5", "", 0}, {"soon", "", 0}, {"NaN", "", 0}, {"Inf", "", 0},
		{"17", "", 17 * time.Second}, {"1.5", "", 1500 * time.Millisecond}, {"3600", "", time.Hour},
		{"99999999999999999999", "", 24 * time.Hour}, {"1e300", "", 24 * time.Hour}, {fmt.Sprint(math.MaxInt64), "", 24 * time.Hour},
		{httpDate(sentAt.Add(time.Minute)), "", time.Minute},
		{httpDate(sentAt.Add(-time.Minute)), "", 0},
		{httpDate(sentAt.Add(time.Hour)), httpDate(sentAt.Add(59 * time.Minute)), time.Minute}, // its clock is ahead of ours
		{httpDate(sentAt.AddDate(5, 0, 0)), "", 24 * time.Hour},
		{httpDate(time.Time{}), "", 0},
	}
	for _, tt := range tests {
		answer := answerOf(429, ``)
		answer.RetryAfter, answer.Date = tt.header, tt.date
		_, err := p.Read(answer)
		if got := failure(t, err).RetryAfter; got != tt.want {
			t.Errorf("%q at %q: %v, want %v", tt.header, tt.date, got, tt.want)
		}
	}
	d := plain("https://acme.example")
	d.Errors = []provider.ErrorRule{{Status: 400, Class: provider.Throttled, RetryAfter: oauth.Lifetime(time.Minute)}}
	for header, want := range map[string]time.Duration{"": time.Minute, "5": 5 * time.Second} {
		answer := answerOf(400, ``)
		answer.RetryAfter = header
		_, err := register(t, d).Read(answer)
		if got := failure(t, err).RetryAfter; got != want {
			t.Errorf("a rule with %q: %v", header, got)
		}
	}
}
