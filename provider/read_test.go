package provider_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

// answerOf is an answer to a refresh.
func answerOf(status int, body string) provider.Answer {
	return provider.Answer{Status: status, Body: []byte(body), Kind: provider.Refresh, SentAt: sentAt}
}

// read is what tests compare of tokens.
type read struct {
	access, refresh, kind string
	scope                 []string
	expires, refreshEnds  time.Duration // after sentAt; 0 for the zero time
	params                map[string]string
	kept                  string // as JSON
	extra                 map[string]string
	salvaged              bool
}

func readOf(t *testing.T, tokens provider.Tokens) read {
	t.Helper()
	got := read{access: tokens.AccessToken.Reveal(), refresh: tokens.RefreshToken.Reveal(), kind: tokens.TokenType,
		scope: tokens.Scope, params: tokens.Params, salvaged: tokens.Salvaged}
	if !tokens.ExpiresAt.IsZero() {
		got.expires = tokens.ExpiresAt.Sub(sentAt)
	}
	if !tokens.RefreshExpiresAt.IsZero() {
		got.refreshEnds = tokens.RefreshExpiresAt.Sub(sentAt)
	}
	if tokens.Kept != nil {
		encoded, err := json.Marshal(tokens.Kept)
		if err != nil {
			t.Error(err)
		}
		got.kept = string(encoded)
	}
	for name, token := range tokens.Extra {
		if got.extra == nil {
			got.extra = map[string]string{}
		}
		got.extra[name] = token.Reveal()
	}
	return got
}

// TestRead are successes in the dialects of providers.
func TestRead(t *testing.T) {
	type def = provider.Definition
	hour := time.Hour
	day := 24 * hour
	bare := read{access: "a", refresh: "r"}
	tests := []struct {
		name   string
		change func(*def)
		status int // 200 where 0
		body   string
		want   read
	}{
		{name: "RFC 6749 section 5.1", body: `{"access_token":"2YotnFZFEjr1zCsicMWpAA","token_type":"example","expires_in":3600,"refresh_token":"tGzv3JOkF0XG5Qx2TlKWIA","example_parameter":"example_value"}`,
			want: read{access: "2YotnFZFEjr1zCsicMWpAA", refresh: "tGzv3JOkF0XG5Qx2TlKWIA", kind: "example", expires: hour}},
		{name: "Tink", body: `{"access_token":"a","token_type":"bearer","expires_in":1800,"refresh_token":"r","scope":"accounts:read,user:read","id_hint":null}`,
			want: read{access: "a", refresh: "r", kind: "bearer", expires: hour / 2, scope: []string{"accounts:read", "user:read"}}},
		{name: "Eventix", body: `{"token_type":"Bearer","expires_in":259200,"access_token":"a","refresh_token":"r","refresh_token_expires_in":31535999,"info":{"companies":[{"guid":"g-1"}]}}`,
			change: func(d *def) {
				d.Response.Keep = map[string]string{"company": "info.companies.0.guid", "info": "info", "none": "x"}
			},
			want: read{access: "a", refresh: "r", kind: "Bearer", expires: 3 * day, refreshEnds: 365*day - time.Second, kept: `{"company":"g-1","info":{"companies":[{"guid":"g-1"}]}}`}},
		{name: "Flexiti", body: `{"token_type":"Bearer","access_token":"a","expires_in":1199,"refresh_token":"r","scope":"merchant"}`,
			change: func(d *def) { d.RefreshToken.DiesWithAccessToken = true },
			want:   read{access: "a", refresh: "r", kind: "Bearer", expires: 1199 * time.Second, refreshEnds: 1199 * time.Second, scope: []string{"merchant"}}},
		{name: "201", status: 201, body: `{"access_token":"a","refresh_token":"r"}`, want: bare},
		{name: "BOM and white space", body: "\uFEFF \r\n{\"access_token\":\"a\",\"refresh_token\":\"r\"}\n\n", want: bare},
		{name: "JSON in a text", body: `"{\"access_token\":\"a\",\"refresh_token\":\"r\"}"`, want: bare},
		{name: "form", body: `access_token=a&refresh_token=r%20&scope=x%20y&expires_in=28800&token_type=bearer&x=1&x=2`,
			want: read{access: "a", refresh: "r ", scope: []string{"x", "y"}, expires: 8 * hour, kind: "bearer"}},
		{name: "something after the JSON", body: `{"access_token":"a","refresh_token":"r"}<!-- cached -->`, want: bare},
		{name: "compressed unasked", body: zip(`{"access_token":"a","refresh_token":"r"}`), want: bare},
		{name: "no refresh token", body: `{"access_token":"a"}`, want: read{access: "a"}},
		{name: "null everywhere", body: `{"access_token":"a","refresh_token":null,"scope":null,"token_type":null,"expires_in":null,"error":null}`, want: read{access: "a"}},
		{name: "empty everywhere", body: `{"access_token":"a","refresh_token":"","scope":"","token_type":"","expires_in":"","error":"","error_description":""}`, want: read{access: "a"}},
		{name: "error: {} beside tokens", body: `{"error":{},"access_token":"a","refresh_token":"r"}`, want: bare},
		{name: "error: 0 beside tokens", body: `{"error":0,"access_token":"a","refresh_token":"r"}`, want: bare},
		{name: "error: [] and false beside tokens", body: `{"error":[],"error_description":false,"access_token":"a","refresh_token":"r"}`, want: bare},
		{name: "tokens that are numbers", body: `{"access_token":12345678901234567890,"refresh_token":1}`, want: read{access: "12345678901234567890", refresh: "1"}},
		{name: "types that do not fit", body: `{"access_token":"a","refresh_token":{},"scope":{"a":1},"token_type":[1],"expires_in":{"x":1},"refresh_token_expires_in":true}`, want: read{access: "a"}},
		{name: "16 KB tokens", body: `{"access_token":"` + strings.Repeat("a", 16<<10) + `","refresh_token":"` + strings.Repeat("r", 16<<10) + `"}`,
			want: read{access: strings.Repeat("a", 16<<10), refresh: strings.Repeat("r", 16<<10)}},
		{name: "escapes", body: `{"access_token":"a\/\u00e9\ud83d\ude00","refresh_token":"\u0072"}`, want: read{access: "a/é😀", refresh: "r"}},
		{name: "the same name twice", body: `{"access_token":"x","access_token":"a","refresh_token":"r"}`, want: bare},
		{name: "scope with spaces, commas and pluses, twice", body: `{"access_token":"a","scope":"read, write+read  admin"}`, want: read{access: "a", scope: []string{"read", "write", "admin"}}},
		{name: "scope as array (Twitch)", body: `{"access_token":"a","scope":["chat:read","chat:edit",null,1,"chat:read"]}`, want: read{access: "a", scope: []string{"chat:read", "chat:edit", "1"}}},
		{name: "scope with what none can have", body: `{"access_token":"a","scope":"read \"x\" caf\u00e9 write\u0000"}`, want: read{access: "a", scope: []string{"read"}}},
		{name: "token type that no header bears", body: `{"access_token":"a","token_type":"Bearer\r\nX: y"}`, want: read{access: "a"}},
		{name: "other names", body: `{"data":{"token":"a"},"api_key":"no","rt":"r","lifetime":"60","rights":"x"}`,
			change: func(d *def) {
				d.Response.AccessToken, d.Response.RefreshToken, d.Response.Scope = "none|data.token|api_key", "rt", "rights"
				d.Response.Expires = []provider.Expiry{{Path: "lifetime"}}
			}, want: read{access: "a", refresh: "r", expires: time.Minute, scope: []string{"x"}}},
		{name: "envelope (Withings)", body: `{"status":0,"body":{"userid":363,"access_token":"a","refresh_token":"r","expires_in":10800,"scope":"user.info,user.metrics"}}`,
			change: func(d *def) {
				d.Response.Envelope, d.Response.Keep = "body", map[string]string{"user": "body.userid"}
				d.Response.Success = &provider.Match{Path: "status", Is: []string{"0"}}
			}, want: read{access: "a", refresh: "r", expires: 3 * hour, scope: []string{"user.info", "user.metrics"}, kept: `{"user":363}`}},
		{name: "envelope as text", body: `{"data":"{\"access_token\":\"a\",\"refresh_token\":\"r\",\"expires_in\":60}"}`,
			change: func(d *def) { d.Response.Envelope = "data" }, want: read{access: "a", refresh: "r", expires: time.Minute}},
		{name: "envelope that is missing", body: `{"ok":true,"access_token":"a","refresh_token":"r"}`,
			change: func(d *def) { d.Response.Envelope = "authed_user" }, want: bare},
		{name: "two tokens (Slack)", body: `{"ok":true,"access_token":"xoxb","token_type":"bot","team":{"id":"T1"},"authed_user":{"id":"U1","access_token":"xoxp","refresh_token":"r","expires_in":43200,"token_type":"user"}}`,
			change: func(d *def) {
				d.Response.Success, d.Response.Envelope = &provider.Match{Path: "ok", Is: []string{"true"}}, "authed_user"
				d.Response.Extra = map[string]string{"user": "authed_user", "none": "team"}
				d.Response.Keep = map[string]string{"team": "team.id", "whole": "authed_user", "one": "authed_user.access_token"}
			}, want: read{access: "xoxp", refresh: "r", kind: "user", expires: 12 * hour, kept: `{"team":"T1"}`, extra: map[string]string{"user": "xoxp"}}},
		{name: "param told by the answer (Salesforce)", body: `{"access_token":"a","instance_url":"https://na1.salesforce.com","api":"not a host!"}`,
			change: func(d *def) {
				d.Params = map[string]provider.Param{"instance": {From: "answer:instance_url", Pattern: `https://[a-z0-9.-]+\.salesforce\.com`}, "api": {From: "answer:api"}}
				d.API.BaseURL, d.API.Headers = "{params.instance}/services", map[string]string{"X": "{params.api}"}
			}, want: read{access: "a", params: map[string]string{"instance": "https://na1.salesforce.com"}}},
		{name: "param told by the answer that may not be so", body: `{"access_token":"a","instance_url":"https://evil.example/.salesforce.com"}`,
			change: func(d *def) {
				d.Params = map[string]provider.Param{"instance": {From: "answer:instance_url", Pattern: `https://[a-z0-9.-]+\.salesforce\.com`}}
				d.API.BaseURL = "{params.instance}/services"
			}, want: read{access: "a"}},
		{name: "old tokens prolonged (Coros)", body: `{"result":"0000","message":"OK"}`, change: prolongs, want: read{expires: 30 * day}},
		{name: "old tokens prolonged in one word", body: "OK", change: prolongs, want: read{expires: 30 * day}},
		{name: "no rotation, no refresh token's end", body: `{"access_token":"a","refresh_token_expires_in":5}`,
			change: func(d *def) { d.RefreshToken.Rotation = provider.RotationNone }, want: read{access: "a"}},
		{name: "too much metadata", body: `{"access_token":"a","x":"` + strings.Repeat("x", 64<<10) + `","y":"` + strings.Repeat("y", 60<<10) + `","z":"` + strings.Repeat("z", 60<<10) + `"}`,
			change: func(d *def) { d.Response.Keep = map[string]string{"x": "x", "y": "y", "z": "z"} }, want: read{access: "a", kept: `{"y":"` + strings.Repeat("y", 60<<10) + `"}`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := plain("https://acme.example")
			if tt.change != nil {
				tt.change(&d)
			}
			if tt.status == 0 {
				tt.status = 200
			}
			tokens, err := register(t, d).Read(answerOf(tt.status, tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if got := readOf(t, tokens); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func prolongs(d *provider.Definition) {
	d.Response.Prolongs, d.AccessToken.Lifetime = true, oauth.Lifetime(30*24*time.Hour)
	d.Response.ErrorCode = "code"
}

func zip(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(s))
	w.Close()
	return b.String()
}

// TestReadCut cuts an answer at every byte: either all tokens are read as they
// were meant, or the outcome is not known.
func TestReadCut(t *testing.T) {
	bodies := map[string]string{
		"JSON":             `{"token_type":"Bearer","access_token":"the-access","expires_in":7200,"refresh_token":"the-refresh","scope":"a b","info":{"x":[1,2]}}`,
		"refresh first":    `{"refresh_token":"the-refresh","expires_in":7200,"scope":"a b","access_token":"the-access","info":{}}`,
		"form":             `access_token=the-access&expires_in=7200&refresh_token=the-refresh&scope=a+b`,
		"envelope":         `{"status":0,"data":{"access_token":"the-access","expires_in":7200,"refresh_token":"the-refresh"},"more":[{}]}`,
		"envelope in text": `{"data":"{\"access_token\":\"the-access\",\"refresh_token\":\"the-refresh\",\"expires_in\":7200}","more":1}`,
		"bot and user":     `{"ok":true,"access_token":"the-bot","refresh_token":"bot-refresh","data":{"access_token":"the-access","refresh_token":"the-refresh"},"x":1}`,
	}
	for name, body := range bodies {
		for _, rotation := range []provider.Rotation{provider.RotationSingleUse, provider.RotationFixed} {
			t.Run(fmt.Sprint(name, " ", rotation), func(t *testing.T) {
				d := plain("https://acme.example")
				d.RefreshToken.Rotation = rotation
				if strings.Contains(body, `"data"`) {
					d.Response.Envelope = "data"
				}
				p, salvaged := register(t, d), 0
				for i := range len(body) {
					for _, cut := range []bool{true, false} { // servers without Content-Length break off unnoticed
						if !cut && name == "form" {
							continue // and forms do so invisibly
						}
						answer := answerOf(200, body[:i])
						answer.Cut = cut
						tokens, err := p.Read(answer)
						if err != nil {
							want := provider.Ambiguous
							if !cut && !strings.HasPrefix(body[:i], "{") {
								want = provider.BadDefinition // nothing shows that it broke off
							}
							if e := failure(t, err); e.Outcome != provider.Unknown || e.Class != want {
								t.Fatalf("cut at %d: %v", i, e)
							}
							continue
						}
						salvaged++
						got := readOf(t, tokens)
						if got.access != "the-access" || got.refresh != "the-refresh" && (rotation != provider.RotationFixed || got.refresh != "") ||
							got.expires != 2*time.Hour && got.expires != 0 || !got.salvaged {
							t.Fatalf("cut at %d: %+v", i, got)
						}
					}
				}
				if salvaged < 5 {
					t.Errorf("only %d cuts were salvaged", salvaged)
				}
				answer := answerOf(200, body) // all is there, and the connection broke after it
				answer.Cut = name != "form"
				if tokens, err := p.Read(answer); err != nil || tokens.Salvaged != answer.Cut {
					t.Errorf("whole: %v, %v", tokens, err)
				}
			})
		}
	}
}

// TestReadFaultyJSON holds that a fault in JSON does not lose what stands before
// it.
func TestReadFaultyJSON(t *testing.T) {
	p := register(t, plain("https://acme.example"))
	for _, body := range []string{
		`{"access_token":"a","refresh_token":"r",}`,
		`{"access_token":"a","refresh_token":"r","x":'y'}`,
		"{\"access_token\":\"a\",\"refresh_token\":\"r\",\"x\":\"line\nbreak\"}",
		`{"access_token":"a","refresh_token":"r","x":NaN}`,
		`{"access_token":"a","refresh_token":"r","x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`,
		`{"access_token":"a","refresh_token":"r","x":[` + strings.Repeat("0,", 1_000_000) + `0]}`,
	} {
		tokens, err := p.Read(answerOf(200, body))
		if err != nil || tokens.AccessToken.Reveal() != "a" || tokens.RefreshToken.Reveal() != "r" || !tokens.Salvaged {
			t.Errorf("%.60s: %v, %v", body, tokens, err)
		}
	}
}

// TestReadIsPure holds that reading changes neither answer nor definition, and
// gives the same again, also after the journal.
func TestReadIsPure(t *testing.T) {
	d := plain("https://acme.example")
	d.Response.Keep = map[string]string{"x": "x"}
	p := register(t, d)
	answer := answerOf(200, `{"access_token":"a","refresh_token":"r","expires_in":60,"x":[1,{"y":null}]}`)
	answer.Sent = []string{"one", "three", "two"}
	journal, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	first, err := p.Read(answer)
	if err != nil {
		t.Fatal(err)
	}
	var kept provider.Answer
	if err := json.Unmarshal(journal, &kept); err != nil || !reflect.DeepEqual(kept, answer) {
		t.Fatalf("%+v, %v", kept, err)
	}
	if second, err := p.Read(kept); err != nil || !reflect.DeepEqual(readOf(t, first), readOf(t, second)) {
		t.Errorf("%+v, %v", second, err)
	}
	p.Read(answerOf(400, `{"error":"invalid_grant"}`))
	if again, _ := json.Marshal(answer); !bytes.Equal(again, journal) {
		t.Errorf("the answer is now %s", again)
	}
}

// TestReadMended holds that an answer that was not understood gives its tokens
// to a mended definition.
func TestReadMended(t *testing.T) {
	d := plain("https://acme.example")
	answer := answerOf(200, `{"result":{"accessToken":"a","refreshToken":"r"}}`)
	_, err := register(t, d).Read(answer)
	if e := failure(t, err); e.Class != provider.BadDefinition || e.Outcome != provider.Unknown || !strings.Contains(e.Detail, "result") {
		t.Error(e)
	}
	d.Response.Envelope, d.Response.AccessToken, d.Response.RefreshToken = "result", "accessToken", "refreshToken"
	if tokens, err := register(t, d).Read(answer); err != nil || !tokens.RefreshToken.Equal("r") {
		t.Errorf("%v, %v", tokens, err)
	}
}

// TestPrinting holds that nothing prints a secret.
func TestPrinting(t *testing.T) {
	p := register(t, plain("https://acme.example"))
	answer := answerOf(200, `{"access_token":"SECRET-access","refresh_token":"SECRET-refresh"}`)
	answer.Sent = []string{"SECRET-sent"}
	tokens, err := p.Read(answer)
	if err != nil {
		t.Fatal(err)
	}
	tokens.Extra = map[string]secret.Text{"x": secret.NewText("SECRET-extra")}
	call := refresh
	call.AccessToken = secret.NewText("SECRET-call")
	holder := struct {
		Provider *provider.Provider
		Answer   provider.Answer
		Pointer  *provider.Answer
		List     []provider.Answer
		Any      any
		Tokens   provider.Tokens
		Call     provider.Call
	}{p, answer, &answer, []provider.Answer{answer}, answer, tokens, call}
	for how, text := range printings(holder) {
		if strings.Contains(text, "SECRET") || strings.Contains(text, "s3cr") || strings.Contains(text, "83, 69, 67") || strings.Contains(text, "83 69 67") {
			t.Errorf("%s: %s", how, text)
		}
	}
	for how, text := range printings(answer) {
		if !strings.Contains(text, "answer with status 200 and 65 bytes") {
			t.Errorf("%s: %s", how, text)
		}
	}
	for how, text := range printings(p) {
		if !strings.Contains(text, "acme") || len(text) > 100 {
			t.Errorf("%s: %s", how, text)
		}
	}
	answer.Cut = true
	if text := fmt.Sprint(answer); !strings.HasSuffix(text, "broken off") {
		t.Error(text)
	}
}

// printings are the texts of v in ways of printing and logging.
func printings(v any) map[string]string {
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("printed", "value", v)
	texts := map[string]string{"slog": out.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		texts[verb] = fmt.Sprintf(verb, v)
	}
	return texts
}
