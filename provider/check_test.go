package provider

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	inRequest = "client_id, client_secret, redirect_uri, scope, owner, uuid, now"
	noURL     = " is not an https URL without user and fragment; write for example https://login.example.com/oauth/token"
	noName    = " has braces that hold no name, or do not match; write names in braces, such as {client_id}"
	noPath    = " is not a path in an answer; write keys with dots between them, such as data.token, and | between alternatives"
	anyHost   = " be any host, and secrets are sent there; give the param a pattern of the hosts that it may be"
	anything  = ", which may be anything; write https:// before it, or give the param a pattern that begins with https://"
)

// TestRefusedIdentity has what is refused of names, endpoints and params, with
// the exact message.
func TestRefusedIdentity(t *testing.T) {
	const rename = "name must be at most 64 lower case letters, digits and single hyphens between them, such as acme-sandbox; rename it"
	const tokenURL = "token_url: https://acme.example/token"
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"no name", tokenURL, []string{"FILE:1: the definition has no name; add it"}},
		{"name in upper case", "name: Acme\n" + tokenURL, []string{"FILE:1: " + rename}},
		{"name with _", "name: ac_me\n" + tokenURL, []string{"FILE:1: " + rename}},
		{"name with hyphens", "name: ac--me\n" + tokenURL, []string{"FILE:1: " + rename}},
		{"long name", "name: " + strings.Repeat("a", 65) + "\n" + tokenURL, []string{"FILE:1: " + rename}},
		{"no endpoint", "\nname: acme", []string{"FILE:1: there is neither token_url nor issuer; add the one that the provider has"}},
		{"client_credentials without endpoint", "name: acme\ngrant: client_credentials", []string{"FILE:1: there is neither token_url nor issuer; add the one that the provider has"}},
		{"docs", plain + "docs: see there", []string{"FILE:3: docs is not a web address; write the URL of the provider's documentation"}},
		{"grant", plain + "grant: password", []string{"FILE:3: grant is none of its values; write one of authorization_code, client_credentials"}},
		{"pkce", plain + "authorize: {pkce: plain}", []string{"FILE:3: authorize.pkce is none of its values; write one of S256, none"}},
		{"scope", plain + "authorize:\n  scopes:\n    - a b\n    - c\n    - ''\n    - a\"", []string{
			"FILE:5: authorize.scopes.0 is not one scope; write each as an item of its own, without spaces, quotes and backslashes",
			"FILE:7: authorize.scopes.2 is not one scope; write each as an item of its own, without spaces, quotes and backslashes",
			"FILE:8: authorize.scopes.3 is not one scope; write each as an item of its own, without spaces, quotes and backslashes"}},
		{"keep of the redirect", plain + "authorize: {keep: {Realm: realmId, dc: ''}}", []string{
			`FILE:3: authorize.keep has the name "Realm"; write it in lower case letters, digits and _, with a letter first`,
			"FILE:3: authorize.keep.dc is empty; write the name of a parameter of the redirect"}},

		{"param name", plain + "authorize_url: https://{params.Sub}.acme.example/\nparams: {Sub: {}}", []string{
			`FILE:4: params has the name "Sub"; write it in lower case letters, digits and _, with a letter first`}},
		{"pattern", plain + "authorize_url: https://{params.a}.acme.example/\nparams:\n  a:\n    pattern: '['", []string{
			"FILE:6: params.a.pattern cannot be used: error parsing regexp: missing closing ]: `[`; write a regular expression as https://pkg.go.dev/regexp/syntax has them"}},
		{"pattern that a group would mend", plain + "authorize_url: https://{params.a}.acme.example/\nparams: {a: {pattern: 'a)|(b'}}", []string{
			"FILE:4: params.a.pattern cannot be used: error parsing regexp: unexpected ): `a)|(b`; write a regular expression as https://pkg.go.dev/regexp/syntax has them"}},
		{"default", plain + "authorize_url: https://{params.a}.acme.example/\nparams:\n  a:\n    pattern: '[a-z]+'\n    default: abc.d", []string{
			"FILE:7: params.a.default does not match the pattern of the param; change one of them"}},
		{"default without pattern", plain + "authorize_url: https://{params.a}.acme.example/\nparams: {a: {default: a/b}}", []string{
			"FILE:4: params.a.default does not match the pattern of the param; change one of them"}},
		{"from", plain + "authorize_url: https://{params.a}.acme.example/\nparams: {a: {from: 'query:x', default: a}}", []string{
			"FILE:4: params.a.from must be redirect:NAME or answer:PATH; write for example redirect:accounts-server or answer:instance_url"}},
		{"from without a name", plain + "refresh: {url: 'https://{params.a}.acme.example/'}\nparams: {a: {from: 'redirect:'}}", []string{
			"FILE:4: params.a.from must be redirect:NAME or answer:PATH; write for example redirect:accounts-server or answer:instance_url"}},
		{"from with a wrong path", plain + "refresh: {url: 'https://{params.a}.acme.example/'}\nparams: {a: {from: 'answer:a b'}}", []string{
			"FILE:4: params.a.from must be redirect:NAME or answer:PATH; write for example redirect:accounts-server or answer:instance_url"}},
		{"param that nothing uses", plain + "params: {a: {}}", []string{"FILE:3: params.a is used nowhere; write {params.a} where it belongs, or delete it"}},
	} {
		t.Run(test.name, func(t *testing.T) { refused(t, test.text, test.want) })
	}
}

func TestRefusedRequests(t *testing.T) {
	const auth = "body, basic, basic_raw, secret_as_user, id, none"
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"body", plain + "token: {body: xml}", []string{"FILE:3: token.body is none of its values; write one of form, json, query, multipart"}},
		{"client_auth", plain + "refresh: {client_auth: jwt}", []string{"FILE:3: refresh.client_auth is none of its values; write one of " + auth}},
		{"method", plain + "revoke: {method: post}", []string{"FILE:3: revoke.method is none of its values; write one of POST, GET, PUT, PATCH, DELETE"}},
		{"body of a GET", plain + "token: {method: GET}\nrefresh: {body: json}", []string{"FILE:4: refresh is a GET, whose parameters go into the URL; write body: query"}},
		{"token.url", plain + "token: {url: 'https://a.example/'}", []string{"FILE:3: token.url has no meaning; write the URL as token_url"}},
		{"grant_type of all", plain + "token: {grant_type: a}", []string{"FILE:3: token.grant_type has no meaning; write it in exchange, refresh or client_credentials"}},
		{"grant_type of a revocation", plain + "revoke: {grant_type: a}", []string{"FILE:3: revoke.grant_type has no meaning; write it in exchange, refresh or client_credentials"}},
		{"parameter without a name", plain + "exchange: {params: {'': a}}", []string{"FILE:3: exchange.params has a parameter without a name; name or delete it"}},
		{"header name", plain + "token: {headers: {'a b': c}}", []string{`FILE:3: token.headers has the name "a b", which no header can have; correct it`}},
		{"header of ours", plain + "api: {headers: {content-length: '1'}}", []string{"FILE:3: api.headers sets content-length, which is written for each request; delete it"}},
		{"header in two lines", plain + "token:\n  headers:\n    a: \"b\\nc: d\"", []string{"FILE:5: token.headers.a contains a line break or another control character; write it on one line"}},
		{"Authorization twice", plain + "token: {client_auth: basic}\nrefresh: {headers: {authorization: a}}", []string{
			"FILE:4: refresh sets the header Authorization, which client_auth: basic writes; delete one of them"}},
		{"Authorization twice in a step", plain + "remint: {steps: [{grant_type: a, client_auth: basic_raw, headers: {Authorization: a}}]}", []string{
			"FILE:3: remint.steps.0 sets the header Authorization, which client_auth: basic_raw writes; delete one of them"}},

		{"last step saves", plain + "remint:\n  steps:\n    - save: {a: b}", []string{
			"FILE:5: remint.steps.0 saves values, but the last step gives the tokens and nothing comes after it; delete save, or add the step that uses them"}},
		{"saved name", plain + "remint: {steps: [{save: {A: b}}, {}]}", []string{`FILE:3: remint.steps.0.save has the name "A"; write it in lower case letters, digits and _, with a letter first`}},
		{"saved path", plain + "remint: {steps: [{save: {a: 'b..c'}}, {}]}", []string{"FILE:3: remint.steps.0.save.a" + noPath}},
		{"used before it is saved", plain + "remint:\n  steps:\n    - params: {c: '{saved.code}'}\n      save: {code: code}\n    - params: {c: '{saved.code}', d: '{saved.cod}'}", []string{
			"FILE:5: remint.steps.0.params.c uses {saved.code}, which no earlier step saves; save it there, or correct the name",
			"FILE:7: remint.steps.1.params.d uses {saved.cod}, which no earlier step saves; save it there, or correct the name"}},
		{"saved outside of steps", plain + "refresh: {params: {c: '{saved.code}'}}", []string{
			"FILE:3: refresh.params.c uses {saved.code}, which is not known here; known are " + inRequest + ", access_token, refresh_token, params.NAME"}},

		{"api.check", plain + "api: {check: /me}", []string{"FILE:3: api.check must be a path below api.base_url that begins with /; write for example /users/me, and base_url beside it"}},
		{"api.check without /", plain + "api: {base_url: 'https://a.example', check: me}", []string{
			"FILE:3: api.check must be a path below api.base_url that begins with /; write for example /users/me, and base_url beside it"}},
		{"api.authorization", plain + "api: {authorization: 'Bearer {client_id}'}", []string{"FILE:3: api.authorization does not send the token; write {access_token} where it belongs"}},
	} {
		t.Run(test.name, func(t *testing.T) { refused(t, test.text, test.want) })
	}
}

func TestRefusedTemplates(t *testing.T) {
	const answerHost = "\nparams: {h: {pattern: 'https://[a-z]+', from: 'answer:host'}, r: {pattern: '[a-z]+', from: 'redirect:dc'}}\n"
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"unknown", plain + "token:\n  params: {a: b}\n  headers:\n    X: '{foo}'", []string{"FILE:6: token.headers.X uses {foo}, which is not known here; known are " + inRequest + ", params.NAME"}},
		{"one of two", plain + "api: {headers: {X: '{owner|foo.bar}'}}", []string{"FILE:3: api.headers.X uses {foo.bar}, which is not known here; known are " + inRequest + ", access_token, params.NAME"}},
		{"secret in the browser", plain + "authorize: {params: {a: '{client_secret}'}}", []string{
			"FILE:3: authorize.params.a uses {client_secret}, which is not known here; known are client_id, redirect_uri, scope, state, code_challenge, owner, uuid, now, params.NAME"}},
		{"code on refresh", plain + "refresh: {params: {a: '{code}'}}", []string{"FILE:3: refresh.params.a uses {code}, which is not known here; known are " + inRequest + ", access_token, refresh_token, params.NAME"}},
		{"refresh token on exchange", plain + "exchange: {params: {a: '{refresh_token}'}}", []string{"FILE:3: exchange.params.a uses {refresh_token}, which is not known here; known are " + inRequest + ", code, code_verifier, params.NAME"}},
		{"token for all", plain + "token: {params: {a: '{access_token}'}}", []string{"FILE:3: token.params.a uses {access_token}, which is not known here; known are " + inRequest + ", params.NAME"}},
		{"token of the app itself", plain + "client_credentials: {params: {a: '{access_token}'}}", []string{"FILE:3: client_credentials.params.a uses {access_token}, which is not known here; known are " + inRequest + ", params.NAME"}},
		{"step", plain + "remint: {steps: [{params: {a: '{state}'}}]}", []string{"FILE:3: remint.steps.0.params.a uses {state}, which is not known here; known are " + inRequest + ", access_token, refresh_token, params.NAME, saved.NAME"}},
		{"open brace", plain + "api: {authorization: '{access_token'}", []string{"FILE:3: api.authorization" + noName}},
		{"closing brace", plain + "revoke: {params: {a: 'b}'}}", []string{"FILE:3: revoke.params.a" + noName}},
		{"no name", plain + "token: {params: {a: '{}'}}", []string{"FILE:3: token.params.a" + noName}},
		{"space in a name", plain + "token: {params: {a: '{client id}'}}", []string{"FILE:3: token.params.a" + noName}},
		{"not declared", plain + "authorize_url: https://{params.sub}.acme.example/", []string{"FILE:3: authorize_url uses {params.sub}, which is not declared; add sub to params"}},
		{"told too late", plain + "authorize_url: '{params.h}/'" + answerHost + "exchange: {params: {a: '{params.h}', b: '{params.r}'}}\nauthorize: {params: {c: '{params.r}'}}", []string{
			"FILE:3: authorize_url needs {params.h} before the provider tells it (from: answer:host); give the param a default",
			"FILE:5: exchange.params.a needs {params.h} before the provider tells it (from: answer:host); give the param a default",
			"FILE:6: authorize.params.c needs {params.r} before the provider tells it (from: redirect:dc); give the param a default"}},
		{"token_url told too late", "name: acme\ntoken_url: '{params.h}/token'" + answerHost, []string{
			"FILE:2: token_url needs {params.h} before the provider tells it (from: answer:host); give the param a default"}},

		{"no URL", plain + "revoke_url: revoke", []string{"FILE:3: revoke_url" + noURL}},
		{"scheme", plain + "authorize_url: ftp://acme.example/", []string{"FILE:3: authorize_url" + noURL}},
		{"scheme by a name", plain + "authorize_url: '{owner}://acme.example/'", []string{"FILE:3: authorize_url continues the host that {owner} begins; write / after it, or the whole host as a param"}},
		{"user", plain + "authorize_url: https://a:b@acme.example/", []string{"FILE:3: authorize_url" + noURL}},
		{"fragment", plain + "exchange: {url: 'https://acme.example/#a'}", []string{"FILE:3: exchange.url" + noURL}},
		{"no host", plain + "api: {base_url: 'https:///a'}", []string{"FILE:3: api.base_url" + noURL}},
		{"control character", plain + "api: {base_url: \"https://a.example/\\n\"}", []string{"FILE:3: api.base_url" + noURL}},
		{"query of an issuer", "name: acme\nissuer: https://acme.example/?a=b", []string{"FILE:2: issuer" + noURL}},
		{"name in an issuer", "name: acme\nissuer: https://acme.example/{client_id}", []string{"FILE:2: issuer uses {client_id}, which is not known here; known are params.NAME"}},
		{"secret in a URL", plain + "revoke: {url: 'https://acme.example/{access_token}'}", []string{"FILE:3: revoke.url puts {access_token} into a URL, which logs show; send it as a parameter or in a header"}},
		{"state in a URL", plain + "authorize_url: 'https://acme.example/{state}'", []string{"FILE:3: authorize_url uses {state}, which is not known here; known are client_id, owner, uuid, now, params.NAME"}},

		{"name in a host", plain + "authorize_url: 'https://{owner}.acme.example/'", []string{"FILE:3: authorize_url has {owner} in its host, where only params may stand; write the host out, or declare a param"}},
		{"any host", plain + "authorize_url: 'https://{params.h}/'\nparams: {h: {}}", []string{"FILE:3: authorize_url lets {params.h}" + anyHost}},
		{"any host with a port", plain + "authorize_url: 'https://{params.h}:8443/'\nparams: {h: {}}", []string{"FILE:3: authorize_url lets {params.h}" + anyHost}},
		{"any host by its end", plain + "authorize_url: 'https://login.{params.h}'\nparams: {h: {}}", []string{"FILE:3: authorize_url lets {params.h}" + anyHost}},
		{"any host by its top", plain + "authorize_url: 'https://{params.h}.com/'\nparams: {h: {}}", []string{"FILE:3: authorize_url lets {params.h}" + anyHost}},
		{"any host by a suffix", plain + "authorize_url: 'https://{params.h}acme.co.example/'\nparams: {h: {}}", []string{"FILE:3: authorize_url lets {params.h}" + anyHost}},
		{"any origin", plain + "authorize_url: '{params.h}/a'\nparams: {h: {}}", []string{"FILE:3: authorize_url begins with {params.h}" + anything}},
		{"any origin by its pattern", plain + "authorize_url: '{params.h}'\nparams: {h: {pattern: '.*'}}", []string{"FILE:3: authorize_url begins with {params.h}" + anything}},
		{"owner as origin", plain + "authorize_url: '{owner}/'", []string{"FILE:3: authorize_url begins with {owner}" + anything}},
		{"origin with a suffix", plain + "authorize_url: '{params.h}.evil.example/'\nparams: {h: {pattern: 'https://a'}}", []string{
			"FILE:3: authorize_url continues the host that {params.h} begins; write / after it, or the whole host as a param"}},
	} {
		t.Run(test.name, func(t *testing.T) { refused(t, test.text, test.want) })
	}
}

func TestRefusedAnswers(t *testing.T) {
	const nothing = " has a path and nothing to compare it with; add is or has"
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"paths", plain + "response: {envelope: a., access_token: 'a|', refresh_token: '|a', token_type: a..b, scope: 'a b', error_code: a||b, error_detail: ' '}", []string{
			"FILE:3: response.envelope" + noPath, "FILE:3: response.access_token" + noPath, "FILE:3: response.refresh_token" + noPath, "FILE:3: response.token_type" + noPath,
			"FILE:3: response.scope" + noPath, "FILE:3: response.error_code" + noPath, "FILE:3: response.error_detail" + noPath}},
		{"paths of expiries", plain + "response:\n  expires:\n    - {path: a..b}\n    - {form: unix}\n    - {path: a, form: ms}", []string{
			"FILE:5: response.expires.0.path" + noPath, "FILE:6: response.expires.1 has no path; add it",
			"FILE:7: response.expires.2.form is none of its values; write one of seconds, milliseconds, unix, unix_ms, rfc3339, http_date, days_clock, auto"}},
		{"paths of refresh_ends", plain + "response: {refresh_ends: [{path: 'a '}]}", []string{"FILE:3: response.refresh_ends.0.path" + noPath}},
		{"keep", plain + "response:\n  keep: {B: a, c: ''}", []string{
			`FILE:4: response.keep has the name "B"; write it in lower case letters, digits and _, with a letter first`, "FILE:4: response.keep.c" + noPath}},
		{"extra", plain + "response:\n  extra: {'': a, c: a b}", []string{
			`FILE:4: response.extra has the name ""; write it in lower case letters, digits and _, with a letter first`, "FILE:4: response.extra.c" + noPath}},
		{"success without path", plain + "response: {success: {is: ['0']}}", []string{"FILE:3: response.success has no path to compare; add one"}},
		{"success without value", plain + "response: {success: {path: ok}}", []string{"FILE:3: response.success" + nothing}},
		{"success with a wrong path", plain + "response: {success: {path: o k, is: ['0']}}", []string{"FILE:3: response.success.path" + noPath}},
		{"prolongs", plain + "response: {prolongs: true}", []string{"FILE:3: response.prolongs needs access_token.lifetime, by which it prolongs; add it"}},
		{"prolongs for ever", plain + "response: {prolongs: true}\naccess_token: {lifetime: 0}", []string{"FILE:3: response.prolongs needs access_token.lifetime, by which it prolongs; add it"}},

		{"rule without class", plain + "errors:\n  - status: 400", []string{"FILE:4: errors.0 has no class; add it"}},
		{"rule with another class", plain + "errors:\n  - {status: 400, class: dead}", []string{
			"FILE:4: errors.0.class is none of its values; write one of transient, throttled, ambiguous, revoked, refresh_token_expired, bad_client, bad_definition, consent_required"}},
		{"a verdict of the keeper", plain + "errors:\n  - {status: 400, class: lost_race}", []string{
			"FILE:4: errors.0.class is none of its values; write one of transient, throttled, ambiguous, revoked, refresh_token_expired, bad_client, bad_definition, consent_required"}},
		{"rule for everything", plain + "errors: [{class: revoked}]", []string{"FILE:3: errors.0 has no condition and would hold for every answer; add status, or path with is or has"}},
		{"rule without path", plain + "errors: [{status: 400, has: a, class: revoked}]", []string{"FILE:3: errors.0 has no path to compare; add one"}},
		{"rule without value", plain + "errors: [{path: a, class: revoked}]", []string{"FILE:3: errors.0" + nothing}},
		{"rule with a wrong path", plain + "errors: [{path: a b, has: a, class: revoked}]", []string{"FILE:3: errors.0.path" + noPath}},
		{"status", plain + "errors: [{status: 99, class: revoked}, {status: 600, class: revoked}, {status: -1, class: revoked}]", []string{
			"FILE:3: errors.2.status is below 0; write 0 or more", "FILE:3: errors.0.status is no HTTP status; write 100 to 599",
			"FILE:3: errors.1.status is no HTTP status; write 100 to 599", "FILE:3: errors.2.status is no HTTP status; write 100 to 599"}},
		{"retry_after", plain + "errors: [{status: 400, class: revoked, retry_after: 1s}, {status: 401, class: transient, retry_after: 0}]", []string{
			"FILE:3: errors.0.retry_after has a meaning for transient and throttled alone; delete it or change the class",
			"FILE:3: errors.1.retry_after must be above 0; write a duration such as 90s, or delete it"}},
	} {
		t.Run(test.name, func(t *testing.T) { refused(t, test.text, test.want) })
	}
}

func TestRefusedBehaviour(t *testing.T) {
	const above0 = " must be above 0; write a duration such as 90s, or delete it"
	const both = " needs both count and per, above 0; write for example {count: 10, per: 10m}"
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"rotation", plain + "refresh_token: {rotation: always}", []string{"FILE:3: refresh_token.rotation is none of its values; write one of none, fixed, rotating, single_use"}},
		{"window of a fixed token", plain + "refresh_token:\n  rotation: fixed\n  replay_window: 5m", []string{"FILE:5: refresh_token.replay_window has no meaning where rotation is fixed; delete it"}},
		{"window without tokens", plain + "refresh_token: {rotation: none, replay_window: 5m}", []string{"FILE:3: refresh_token.replay_window has no meaning where rotation is none; delete it"}},
		{"lifetimes without tokens", plain + "refresh_token:\n  rotation: none\n  idle_lifetime: 1d\n  dies_with_access_token: true", []string{
			"FILE:5: refresh_token.idle_lifetime has no meaning where rotation is none; delete it", "FILE:6: refresh_token.dies_with_access_token has no meaning where rotation is none; delete it"}},
		{"idle beyond the end", plain + "refresh_token: {idle_lifetime: 10d, lifetime: 9d}", []string{"FILE:3: refresh_token.idle_lifetime is above refresh_token.lifetime; write at most that"}},
		{"dies with what never dies", plain + "refresh_token: {dies_with_access_token: true}\naccess_token: {lifetime: 0}", []string{
			"FILE:3: refresh_token.dies_with_access_token has no meaning where access_token.lifetime is 0, never; delete one of them"}},
		{"refresh_ahead of nothing", plain + "access_token: {refresh_ahead: 0}", []string{"FILE:3: access_token.refresh_ahead" + above0}},
		{"refresh_ahead of all", plain + "access_token: {lifetime: 5m, refresh_ahead: 5m}", []string{
			"FILE:3: access_token.refresh_ahead is not below access_token.lifetime, so that every use would refresh; write less"}},
		{"refresh_ahead too early", plain + "access_token: {no_early_refresh: 30s, refresh_ahead: 31s}", []string{
			"FILE:3: access_token.refresh_ahead is above access_token.no_early_refresh, when a refresh is refused yet; write at most that"}},
		{"no_early_refresh of nothing", plain + "access_token: {no_early_refresh: 0}", []string{"FILE:3: access_token.no_early_refresh" + above0}},
		{"concurrency", plain + "limits: {concurrency: -1}", []string{"FILE:3: limits.concurrency is below 0; write 0 or more"}},
		{"rate without time", plain + "limits: {rate: {count: 1}}", []string{"FILE:3: limits.rate" + both}},
		{"rate without count", plain + "limits: {connection: {per: 1m}}", []string{"FILE:3: limits.connection" + both}},
		{"rate in no time", plain + "limits: {rate: {count: 1, per: 0}}", []string{"FILE:3: limits.rate" + both}},
		{"no timeout", plain + "limits: {timeout: 0}", []string{"FILE:3: limits.timeout" + above0}},
		{"long timeout", plain + "limits: {timeout: 5m1s}", []string{"FILE:3: limits.timeout is above 5m; write at most that"}},

		{"fact of nothing", plain + "facts:\n  refresh_token.rotates: {known: read, source: a}", []string{
			`FILE:4: facts has "refresh_token.rotates", which is no field of a definition; write the dotted path of one, such as refresh_token.rotation`}},
		{"fact below a text", plain + "facts: {name.a: {known: read, source: a}}", []string{
			`FILE:3: facts has "name.a", which is no field of a definition; write the dotted path of one, such as refresh_token.rotation`}},
		{"fact of an item", plain + "facts: {errors.first.class: {known: read, source: a}, errors.0.class: {known: read, source: a}}", []string{
			`FILE:3: facts has "errors.first.class", which is no field of a definition; write the dotted path of one, such as refresh_token.rotation`}},
		{"fact without source", plain + "facts: {grant: {known: read}}", []string{"FILE:3: facts.grant has no source; add it"}},
		{"fact known otherwise", plain + "facts: {grant: {known: measured, source: a}, remint: {source: b}}", []string{
			"FILE:3: facts.grant.known is none of its values; write one of read, believed", "FILE:3: facts.remint has no known; add it"}},
	} {
		t.Run(test.name, func(t *testing.T) { refused(t, test.text, test.want) })
	}
}

// TestAccepted has what looks wrong and is not.
func TestAccepted(t *testing.T) {
	const params = "params: {a: {pattern: 'https?://[a-z.]+'}, b: {}, c: {pattern: 'x|y'}, d: {from: 'redirect:dc', default: z}, e: {from: 'answer:e'}}\n"
	for name, text := range map[string]string{
		"tokens that somebody has":     plain,
		"discovery alone":              "name: acme\nissuer: https://acme.example",
		"http":                         "name: acme\ntoken_url: http://auth.internal:8080/token",
		"loopback":                     "name: acme\ntoken_url: http://[::1]:8080/token?x=y",
		"params in hosts":              "name: acme\ntoken_url: '{params.a}'\nauthorize_url: https://{params.b}.acme.example:{params.c}/{params.b}?e={params.d}&f={params.b|params.e}\nrefresh: {url: 'https://{params.c}/{params.e}'}\n" + params,
		"exchange elsewhere":           "name: acme\ntoken_url: 'https://acme.example/{params.e}'\nexchange: {url: 'https://acme.example/x'}\nparams: {e: {from: 'answer:e'}}",
		"told and not used":            plain + "params: {e: {from: 'answer:e'}}",
		"explicit nothing":             plain + "refresh_token: {rotation: fixed, replay_window: 0, lifetime: 0}",
		"window of a single-use token": plain + "refresh_token: {replay_window: 30s}",
		"refresh at the threshold":     plain + "access_token: {no_early_refresh: 30s, refresh_ahead: 30s}",
		"step with its own header":     plain + "token: {client_auth: basic}\nremint: {steps: [{url: 'https://a.example/{params.p}', headers: {Authorization: a}, save: {x: y}}, {url: 'https://a.example/{saved.x}'}]}\nparams: {p: {}}",
		"rule by status":               plain + "errors: [{status: 404, class: revoked}, {status: 503, class: throttled, retry_after: 1m}]",
		"parameter with a strange key": plain + "token: {params: {'a.b[c]': d}}",
		"header with a name":           plain + "token: {headers: {'x-a!': '{uuid}'}}",
		"GET without a body":           plain + "token: {method: GET}\nrefresh: {body: query}",
	} {
		if _, err := Parse("FILE", []byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEnumsAreTheConstants holds that the values in the tags are the constants.
func TestEnumsAreTheConstants(t *testing.T) {
	constants := map[string][]string{}
	for _, name := range []string{"definition.go", "class.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			group, ok := decl.(*ast.GenDecl)
			if !ok || group.Tok != token.CONST {
				continue
			}
			for _, spec := range group.Specs {
				value := spec.(*ast.ValueSpec)
				kind := "untyped"
				if typed, ok := value.Type.(*ast.Ident); ok {
					kind = typed.Name
				}
				if len(value.Values) == 1 {
					if literal, ok := value.Values[0].(*ast.BasicLit); ok {
						text, _ := strconv.Unquote(literal.Value)
						constants[kind] = append(constants[kind], text)
					}
				}
			}
		}
	}
	enum := func(t reflect.Type, field string) []string {
		f, _ := t.FieldByName(field)
		return strings.Split(f.Tag.Get("enum"), ",")
	}
	of := func(kind string) []string { return constants[kind] }
	request := reflect.TypeFor[Request]()
	classes := slices.DeleteFunc(of("Class"), func(class string) bool { return class == string(LostRace) || class == string(Replayed) }) // verdicts of the keeper
	for _, test := range []struct {
		name      string
		tag, want []string
	}{
		{"body", enum(request, "Body"), of("Body")},
		{"client_auth", enum(request, "ClientAuth"), of("ClientAuth")},
		{"rotation", enum(reflect.TypeFor[RefreshToken](), "Rotation"), of("Rotation")},
		{"class", enum(reflect.TypeFor[ErrorRule](), "Class"), classes},
		{"form and known", append(enum(reflect.TypeFor[Expiry](), "Form"), enum(reflect.TypeFor[Fact](), "Known")...), of("untyped")},
	} {
		if !slices.Equal(test.tag, test.want) || len(test.want) < 4 {
			t.Errorf("%s: the tag has %v, the constants are %v", test.name, test.tag, test.want)
		}
	}
}
