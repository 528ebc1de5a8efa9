package provider

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// plain is a definition that works, in two lines.
const plain = "name: acme\ntoken_url: https://acme.example/token\n"

const unknownKey = `unknown key "nme"; known keys here are access_token, api, authorize, authorize_url, client_credentials, docs, errors, exchange, facts, grant, issuer, limits, name, params, refresh, refresh_token, remint, response, revoke, revoke_url, title, token, token_url`

// everyKey has every key of a definition.
const everyKey = `name: acme-2
title: Acme
docs: https://docs.acme.example/oauth
issuer: https://acme.example
authorize_url: https://{params.sub}.acme.example/authorize?x=1
token_url: https://{params.sub}.acme.example/token
revoke_url: https://acme.example/{client_id}/revoke
grant: authorization_code
params:
  sub: {title: Subdomain, pattern: "[a-z]+", default: www}
  api: {from: "answer:instance_url", pattern: "https://[a-z]+\\.acme\\.example"}
authorize:
  params: {client_id: null, client_key: "{client_id}"}
  scopes: [a, b]
  scope_separator: ","
  pkce: none
  keep: {realm: realmId}
token: {method: POST, body: json, client_auth: basic_raw, params: {a: b}, headers: {X-Key: "{client_id}"}}
exchange: {url: "https://acme.example/x", body: multipart, params: {code: "{code}", v: "{code_verifier}"}}
refresh: {method: GET, body: query, grant_type: fb_exchange_token, params: {refresh_token: null, t: "{access_token|refresh_token}"}}
client_credentials: {client_auth: id}
revoke: {client_auth: none, params: {t: "{refresh_token}"}}
response:
  envelope: body|data
  access_token: accessToken
  refresh_token: refreshToken
  token_type: type
  scope: scopes
  expires: [{path: a.0.b, form: unix_ms}, {path: c}]
  refresh_ends: [{path: d, form: days_clock}]
  keep: {name: user.name}
  extra: {user: authed_user}
  success: {path: ok, is: ["true"], has: r}
  error_code: error.code|code
  error_detail: error.text
  prolongs: true
errors:
  - {status: 400, path: reason, is: ["1", "2"], has: dead, class: revoked}
  - {status: 409, class: throttled, retry_after: 10s}
access_token: {lifetime: 1h, zero_is_forever: true, refresh_ahead: 5m, one_at_a_time: true, no_early_refresh: 10m}
refresh_token: {rotation: rotating, replay_window: 30m, idle_lifetime: 60d, lifetime: 365d, dies_with_access_token: true}
remint:
  steps:
    - {grant_type: client_credentials, save: {first: access_token}}
    - {url: "https://acme.example/{saved.first}", headers: {Authorization: "Bearer {saved.first}"}}
api: {base_url: "{params.api}/v1", authorization: "Token {access_token}", headers: {X-Owner: "{owner}"}, check: /me}
limits: {concurrency: 2, rate: {count: 10, per: 1s}, connection: {count: 10, per: 10m}, timeout: 20s}
facts:
  refresh_token.replay_window: {known: read, source: "https://docs.acme.example", note: For 30 minutes.}
`

func TestParseEveryKey(t *testing.T) {
	d, err := Parse("a.yaml", []byte(everyKey))
	if err != nil {
		t.Fatal(err)
	}
	// Each field has a value, so that none is forgotten here or by the reader.
	var look func(path string, v reflect.Value)
	look = func(path string, v reflect.Value) {
		if v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.Struct {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			if v.IsZero() {
				t.Errorf("%s is empty", path)
			}
			return
		}
		for i := range v.NumField() {
			look(path+"."+v.Type().Field(i).Name, v.Field(i))
		}
	}
	for name, v := range reflect.ValueOf(d).Fields() {
		if v.Type() != reflect.TypeFor[Request]() {
			look(name.Name, v)
		}
	}
	for at, empty := range map[string]bool{
		"exchange": d.Exchange.URL == "", "grant type": d.Refresh.GrantType == "", "headers": d.Token.Headers["X-Key"] != "{client_id}",
		"method": d.Refresh.Method != "GET", "body": d.Token.Body != BodyJSON || d.Refresh.Body != BodyQuery, "client_auth": d.Token.ClientAuth != AuthBasicRaw,
		"param": *d.Token.Params["a"] != "b", "inlined": d.Errors[0].Path != "reason" || d.Remint.Steps[0].GrantType != "client_credentials",
		"removed":  func() bool { text, set := d.Refresh.Params["refresh_token"]; return !set || text != nil }(),
		"lifetime": d.RefreshToken.Lifetime != oauth.Lifetime(365*24*time.Hour),
	} {
		if empty {
			t.Errorf("%s is not as written", at)
		}
	}
	text, err := yaml.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse("b.yaml", text)
	if err != nil || !reflect.DeepEqual(d, again) {
		t.Errorf("%v\nwritten and read again:\n%s\n%+v\n%+v", err, text, d, again)
	}
}

func TestParseForms(t *testing.T) {
	d, err := Parse("a.yaml", []byte("# a comment\n---\n'name': \"acme\"\ntoken_url: >-\n  https://acme.example/token\nrefresh_token: {rotation: 'fixed', lifetime: 0}\nresponse:\n  keep: {}\nauthorize: {params: {a: '', b: ~}}\n"))
	if err != nil || d.Name != "acme" || d.TokenURL != "https://acme.example/token" || d.RefreshToken.Lifetime != oauth.None || *d.Authorize.Params["a"] != "" || d.Authorize.Params["b"] != nil {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestParseRefused has what is refused for its shape, with the exact message.
func TestParseRefused(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"unknown key", plain + "nme: a", []string{"FILE:3: " + unknownKey}},
		{"unknown key below", plain + "token:\n  bdy: json", []string{`FILE:4: unknown key "bdy" in token; known keys here are body, client_auth, grant_type, headers, method, params, url`}},
		{"unknown key of an inlined struct", plain + "errors: [{sttus: 1, class: revoked}]", []string{
			`FILE:3: unknown key "sttus" in errors.0; known keys here are class, has, is, path, retry_after, status`,
			"FILE:3: errors.0 has no condition and would hold for every answer; add status, or path with is or has"}},
		{"inline", plain + "token: {inline: {}}", []string{`FILE:3: unknown key "inline" in token; known keys here are body, client_auth, grant_type, headers, method, params, url`}},
		{"twice", plain + "name: b", []string{"FILE:3: name is set twice, first in line 1; keep one"}},
		{"twice below", plain + "params:\n  a: {}\n  a: {}\nauthorize_url: https://{params.a}.acme.example", []string{"FILE:5: params.a is set twice, first in line 4; keep one"}},
		{"number for a text", plain + "title: 12", []string{"FILE:3: title has the wrong type; write text in quotes"}},
		{"boolean for a text", plain + "response: {success: {path: ok, is: [true]}}", []string{"FILE:3: response.success.is.0 has the wrong type; write text in quotes"}},
		{"template without quotes", plain + "refresh:\n  params:\n    id: {client_id}", []string{"FILE:5: refresh.params.id has the wrong type; write text; one that begins with { must be in quotes"}},
		{"text for a list", plain + "errors: a", []string{"FILE:3: errors has the wrong type; write a list, such as `[one, two]`"}},
		{"text for a mapping", plain + "token: a", []string{"FILE:3: token has the wrong type; write keys and values, such as `key: value`"}},
		{"list for a mapping", plain + "params: [a]", []string{"FILE:3: params has the wrong type; write keys and values, such as `key: value`"}},
		{"text for a boolean", plain + "access_token: {one_at_a_time: 'true'}", []string{"FILE:3: access_token.one_at_a_time has the wrong type; write true or false"}},
		{"text for a number", plain + "limits: {concurrency: many}", []string{"FILE:3: limits.concurrency has the wrong type; write a whole number"}},
		{"fraction for a number", plain + "limits: {concurrency: 1.5}", []string{"FILE:3: limits.concurrency has the wrong type; write a whole number"}},
		{"too large", plain + "limits: {concurrency: 99999999999999999999}", []string{"FILE:3: limits.concurrency has the wrong type; write a whole number"}},
		{"duration", plain + "access_token: {lifetime: 1 hour}", []string{"FILE:3: access_token.lifetime is not a duration; write a number with d, h, m or s, such as 14d, 1h or 90s"}},
		{"duration without unit", plain + "access_token: {lifetime: 3600}", []string{"FILE:3: access_token.lifetime is not a duration; write a number with d, h, m or s, such as 14d, 1h or 90s"}},
		{"list for a duration", plain + "access_token: {lifetime: [1h]}", []string{"FILE:3: access_token.lifetime has the wrong type; write a duration"}},
		{"no value", "name:\ntoken_url: https://acme.example/token", []string{"FILE:1: name has no value; give it one or delete the key"}},
		{"no mapping", plain + "token:", []string{"FILE:3: token has no value; give it one or delete the key"}},
		{"no header", plain + "token: {headers: {a: ~}}", []string{"FILE:3: token.headers.a has no value; give it one or delete the key"}},
		{"not a mapping", "- a", []string{"FILE:1: the definition has the wrong type; write keys and values, such as `key: value`"}},
		{"number as key", plain + "authorize: {keep: {1: a}}", []string{"FILE:3: this key in authorize.keep is not plain text; write it as a word, in quotes if it is a number, and without anchors, << or ?"}},
		{"alias", "name: &a acme\ntitle: *a\ntoken_url: https://acme.example/token", []string{
			"FILE:1: name uses a YAML anchor, alias or tag, which definitions do not know; write the value out",
			"FILE:2: title uses a YAML anchor, alias or tag, which definitions do not know; write the value out"}},
		{"tag", plain + "title: !!str a", []string{"FILE:3: title uses a YAML anchor, alias or tag, which definitions do not know; write the value out"}},
		{"merge key", plain + "<<: {title: a}", []string{"FILE:3: this key is not plain text; write it as a word, in quotes if it is a number, and without anchors, << or ?"}},
		{"two documents", plain + "---\n" + plain, []string{"FILE:4: a second YAML document begins; write each definition into a file of its own"}},
		{"empty", "# nothing\n", []string{"FILE:1: the file is empty; write at least name and token_url, or name and issuer"}},
		{"not YAML", plain + "token: {a: [\n", []string{"FILE:3: not valid YAML: sequence end token ']' not found; check indentation, quotes and brackets"}},
		{"all at once, by line", "title: 1\ngrant: password\nname: A\ntokn_url: x", []string{
			"FILE:1: title has the wrong type; write text in quotes",
			"FILE:1: there is neither token_url nor issuer; add the one that the provider has",
			"FILE:2: grant is none of its values; write one of authorization_code, client_credentials",
			"FILE:3: name must be at most 64 lower case letters, digits and single hyphens between them, such as acme-sandbox; rename it",
			"FILE:4: " + strings.Replace(unknownKey, "nme", "tokn_url", 1)}},
	} {
		t.Run(test.name, func(t *testing.T) { refused(t, test.text, test.want) })
	}
}

// refused parses a text and compares what is said of it.
func refused(t *testing.T, text string, want []string) {
	t.Helper()
	d, err := Parse("FILE", []byte(text))
	problems, ok := err.(Problems)
	if !ok {
		t.Fatalf("the error is %T %v", err, err)
	}
	if got := problems.Error(); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	if d.Name != "" {
		t.Errorf("%s came with the error", d.Name)
	}
}

// overlaid reads a text as fields over a base.
func overlaid(t *testing.T, base Definition, text string) (Definition, error) {
	t.Helper()
	file, err := parser.ParseBytes([]byte(text), 0, parser.AllowDuplicateMapKey())
	if err != nil {
		t.Fatal(err)
	}
	switch body := file.Docs[0].Body.(type) {
	case *ast.MappingNode:
		return Overlay(base, "conf.yaml", body.Values)
	case *ast.MappingValueNode:
		return Overlay(base, "conf.yaml", []*ast.MappingValueNode{body})
	}
	return Overlay(base, "conf.yaml", nil)
}

func TestOverlay(t *testing.T) {
	base, err := Parse("a.yaml", []byte(everyKey))
	if err != nil {
		t.Fatal(err)
	}
	d, err := overlaid(t, base, `
title: Ours
token:
  params: {c: "{owner}"}
  headers: {X-Key: null, X-Other: a}
params:
  sub: {default: eu}
response:
  success: {has: ok}
errors: []
refresh_token: {replay_window: null}
refresh:
  params: {t: null}
limits: null
docs: null
`)
	if err != nil {
		t.Fatal(err)
	}
	want, err := Parse("a.yaml", []byte(everyKey))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(base, want) {
		t.Errorf("the base has changed: %+v", base)
	}
	want.Title, want.Docs, want.Limits, want.Errors = "Ours", "", Limits{}, []ErrorRule{}
	want.Token.Params["c"], want.Refresh.Params["t"] = new("{owner}"), nil
	want.Token.Headers = map[string]string{"X-Other": "a"}
	want.Params["sub"] = Param{Title: "Subdomain", Pattern: "[a-z]+", Default: "eu"}
	want.Response.Success.Has = "ok"
	want.RefreshToken.ReplayWindow = 0
	if !reflect.DeepEqual(d, want) {
		t.Errorf("got\n%+v\nwant\n%+v", d, want)
	}
	if same, err := overlaid(t, base, "# nothing"); err != nil || !reflect.DeepEqual(same, base) {
		t.Errorf("without fields: %+v, %v", same, err)
	}
}

// TestOverlayAlone is a provider without a definition: all of it is in the
// fields.
func TestOverlayAlone(t *testing.T) {
	d, err := overlaid(t, Definition{Name: "acme"}, "authorize_url: https://acme.example/authorize\ntoken_url: https://acme.example/token")
	if err != nil || d.Name != "acme" || d.TokenURL != "https://acme.example/token" {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestOverlayDropsParams: a registration that gives a URL itself need not give
// the param of which the definition makes it.
func TestOverlayDropsParams(t *testing.T) {
	ours, _ := Builtin().Definition("evergrant")
	d, err := overlaid(t, ours, "issuer: https://login.corp.example")
	if err != nil || len(d.Params) != 0 || len(ours.Params) != 1 {
		t.Errorf("%+v, %v", d.Params, err)
	}
	flexiti, _ := Builtin().Definition("flexiti")
	if d, err := overlaid(t, flexiti, "token_url: http://127.0.0.1:1/flexiti/online-api/oauth/token"); err != nil || len(d.Params) != 1 {
		t.Errorf("a param that is used elsewhere too: %+v, %v", d.Params, err)
	}
}

func TestOverlayRefused(t *testing.T) {
	flexiti, _ := Builtin().Definition("flexiti")
	base := Definition{Name: "acme", TokenURL: "https://acme.example/token", RefreshToken: RefreshToken{Rotation: RotationFixed}}
	for _, test := range []struct {
		name string
		base Definition
		text string
		want string
	}{
		{"unknown key", base, "\n\nnme: a", "conf.yaml:3: " + unknownKey},
		{"against the base", base, "title: a\nrefresh_token:\n  replay_window: 5m", "conf.yaml:3: refresh_token.replay_window has no meaning where rotation is fixed; delete it"},
		{"what the base has is shown at the first line", Definition{Name: "acme"}, "\ntitle: a\ndocs: https://a.example", "conf.yaml:2: there is neither token_url nor issuer; add the one that the provider has"},
		{"nothing over nothing", Definition{}, "", "conf.yaml:1: the definition has no name; add it\nconf.yaml:1: there is neither token_url nor issuer; add the one that the provider has"},
		{"declared and not used", base, "params: {a: {}}", "conf.yaml:1: params.a is used nowhere; write {params.a} where it belongs, or delete it"},
		{"declared again and not used", flexiti, "params: {api: {default: https://b.flexiti.fi/flexiti/online-api}}\ntoken_url: https://a.flexiti.fi/\napi: null",
			"conf.yaml:1: params.api is used nowhere; write {params.api} where it belongs, or delete it"},
		{"taken away and used", flexiti, "params: {api: null}", "conf.yaml:1: token_url uses {params.api}, which is not declared; add api to params\nconf.yaml:1: api.base_url uses {params.api}, which is not declared; add api to params"},
		{"twice", base, "title: a\ntitle: b", "conf.yaml:2: title is set twice, first in line 1; keep one"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := overlaid(t, test.base, test.text); err == nil || err.Error() != test.want {
				t.Errorf("got\n%v\nwant\n%s", err, test.want)
			}
		})
	}
}

// TestProblemsDoNotQuoteValues: what an overlay has may come out of a variable
// and be a secret.
func TestProblemsDoNotQuoteValues(t *testing.T) {
	for _, text := range []string{
		"title: [hush]", "grant: hush", "docs: hush", "issuer: hush", "token_url: https://hush@a.example/", "token_url: '{hush hush'", "token_url: 'hush}'",
		"access_token: {lifetime: hush}", "limits: {concurrency: hush}", "api: {base_url: 'https://a.example', check: hush}", "token: {headers: {a: \"hush\\nhush\"}}",
		"params: {a: {pattern: hush, default: hush2}}", "params: {a: {from: hush}}", "response: {access_token: hush..hush}", "authorize: {scopes: ['hush hush']}", "api: {authorization: hush}",
	} {
		_, err := overlaid(t, Definition{Name: "acme", TokenURL: "https://acme.example/token"}, text)
		if err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzParse looks for a file that ends the program, a problem without a place,
// and a definition that is refused where it is read again.
func FuzzParse(f *testing.F) {
	f.Add([]byte(plain))
	for row := range strings.SplitSeq(everyKey, "\n") {
		f.Add([]byte(plain + row)) // short ones, which the fuzzer can make shorter in time
	}
	for _, text := range []string{"name: [", "? a\n: b", "a: &x [*x]", "<<: *a", "token: {params: {a: ~}}", "params: {a: {pattern: '('}}", "token_url: 'https://{params.a}{'", "---\n---\na: b", "errors: [[]]", "\xff", "a: !!int b", "x: |\n y"} {
		f.Add([]byte(text))
	}
	place := regexp.MustCompile(`^FILE:[1-9][0-9]*$`)
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Parse("FILE", data)
		if err == nil {
			text, err := yaml.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := Parse("AGAIN", text); err != nil || again.Name != d.Name {
				t.Fatalf("%v\n%s", err, text)
			}
			return
		}
		problems, ok := err.(Problems)
		if !ok || len(problems) == 0 {
			t.Fatalf("%T %v", err, err)
		}
		for _, p := range problems {
			if !place.MatchString(p.Place) || p.Text == "" || strings.Contains(fmt.Sprint(p), "%!") {
				t.Fatalf("%+v", p)
			}
		}
	})
}
