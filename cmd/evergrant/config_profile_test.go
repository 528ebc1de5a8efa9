package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/issuer/profile"
	"github.com/evergrant/evergrant/oauth"
)

// legacyLines are keys of other servers with what the options of their profile
// come to.
func legacyLines() []struct{ profile, line, want string } {
	return []struct{ profile, line, want string }{
		{"fos", "access_token_lifetime: 7200", `{"fos":{"access_token_lifetime":7200}}`},
		{"fos", "access_token_lifetime: 2h", `{"fos":{"access_token_lifetime":7200}}`},
		{"fos", "access_token_lifetime: ${SECONDS}", `{"fos":{"access_token_lifetime":90}}`},
		{"fos", "refresh_token_lifetime: 86400", `{"fos":{"refresh_token_lifetime":86400}}`},
		{"fos", "refresh_token_lifetime: 36500d", `{"fos":{"refresh_token_lifetime":3153600000}}`},
		{"fos", "auth_code_lifetime: 45", `{"fos":{"auth_code_lifetime":45}}`},
		{"fos", "token_type: Bearer", `{"fos":{"token_type":"Bearer"}}`},
		{"fos", "supported_scopes: [read, write]", `{"fos":{"supported_scopes":["read","write"]}}`},
		{"fos", "supported_scopes: read write", `{"fos":{"supported_scopes":["read","write"]}}`},
		{"fos", "enforce_redirect: false", `{"fos":{"enforce_redirect":false}}`},
		{"fos", "enforce_redirect: true", `{"fos":{"enforce_redirect":true}}`},
		{"fos", "enforce_state: true", `{"fos":{"enforce_state":true}}`},
		{"fos", "enforce_state: false", `{}`},
		{"fos", "response_extra_headers: {X-Frame-Options: DENY, Access-Control-Allow-Origin: '*'}",
			`{"fos":{"response_extra_headers":{"Access-Control-Allow-Origin":"*","X-Frame-Options":"DENY"}}}`},
		{"fos", "response_extra_headers: []", `{}`},
		{"fos", "realm: My realm", `{"fos":{"realm":"My realm"}}`},

		{"bshaffer", "access_lifetime: 7200", `{"bshaffer":{"access_lifetime":7200}}`},
		{"bshaffer", "access_lifetime: 2h", `{"bshaffer":{"access_lifetime":7200}}`},
		{"bshaffer", "refresh_token_lifetime: 86400", `{"bshaffer":{"refresh_token_lifetime":86400}}`},
		{"bshaffer", "refresh_token_lifetime: 0", `{"bshaffer":{"refresh_token_lifetime":0}}`},
		{"bshaffer", "auth_code_lifetime: 45", `{"bshaffer":{"auth_code_lifetime":45}}`},
		{"bshaffer", "always_issue_new_refresh_token: true", `{"bshaffer":{"always_issue_new_refresh_token":true}}`},
		{"bshaffer", "unset_refresh_token_after_use: false", `{"bshaffer":{"unset_refresh_token_after_use":false}}`},
		{"bshaffer", "enforce_pkce: true", `{"bshaffer":{"enforce_pkce":true}}`},
		{"bshaffer", "require_exact_redirect_uri: true", `{"bshaffer":{"require_exact_redirect_uri":true}}`},
		{"bshaffer", "use_jwt_access_tokens: true", `{"bshaffer":{"use_jwt_access_tokens":true}}`},
		{"bshaffer", "enforce_state: false", `{"bshaffer":{"enforce_state":false}}`},
		{"bshaffer", "enforce_redirect: true", `{"bshaffer":{"enforce_redirect":true}}`},
		{"bshaffer", "allow_implicit: false", `{}`},
		{"bshaffer", "allow_credentials_in_request_body: false", `{"bshaffer":{"allow_credentials_in_request_body":false}}`},
		{"bshaffer", "allow_public_clients: false", `{"bshaffer":{"allow_public_clients":false}}`},
		{"bshaffer", "www_realm: My realm", `{"bshaffer":{"www_realm":"My realm"}}`},
		{"bshaffer", "default_scope: [read]", `{"bshaffer":{"default_scope":["read"]}}`},
		{"bshaffer", "default_scope: read write", `{"bshaffer":{"default_scope":["read","write"]}}`},
		{"bshaffer", "require_scope: true", `{"bshaffer":{"require_scope":true}}`},
		{"bshaffer", "token_param_name: access_token", `{}`},
		{"bshaffer", "token_bearer_header_name: Bearer", `{}`},
		{"bshaffer", "use_openid_connect: false", `{}`},
		{"bshaffer", "id_lifetime: 3600", `{}`},
		{"bshaffer", "store_encrypted_token_string: true", `{}`},
		{"bshaffer", "jwt_extra_payload_callable: null", `{}`},
		{"bshaffer", "issuer: ''", `{}`},
	}
}

func TestConfigLegacyKeys(t *testing.T) {
	covered := map[string]bool{}
	for _, test := range legacyLines() {
		name, _, _ := strings.Cut(test.line, ":")
		covered[test.profile+" "+name] = true
		t.Run(test.profile+" "+test.line, func(t *testing.T) {
			for _, text := range []string{
				"issuer:\n  profile: " + test.profile + "\n  " + test.line,
				"issuer:\n  " + test.line + "\n  profile: ${PROFILE}", // whatever comes first
			} {
				c, wrong := load(t, text, overrides{}, environment("SECONDS", "90", "PROFILE", test.profile))
				if got, _ := json.Marshal(c.Issuer.Legacy); len(wrong) > 0 || len(c.warnings) > 0 || string(got) != test.want || c.Issuer.Profile != test.profile {
					t.Errorf("problems %q, warnings %v, options %s, want %s", wrong, c.warnings, got, test.want)
				}
			}
		})
	}
	for _, name := range profileNames() {
		for _, key := range legacyKeys(name) {
			if !covered[name+" "+key.name] {
				t.Errorf("the key %s of %s has no test", key.name, name)
			}
		}
	}
}

// TestConfigProfilePolicy has the policy that holds for a client, from its own
// keys, those of its profile, the server's and those of its profile.
func TestConfigProfilePolicy(t *testing.T) {
	const hour, day = issuer.Lifetime(time.Hour), issuer.Lifetime(24 * time.Hour)
	for _, test := range []struct {
		name, server, client string
		secret               bool
		want                 func(*issuer.Policy)
	}{
		{"standard", "", "", true, func(*issuer.Policy) {}},
		{"fos: own duration", "profile: fos\n  access_token_lifetime: 2h", "", true, func(p *issuer.Policy) { p.AccessTokenLifetime = 2 * hour }},
		{"fos: seconds", "profile: fos\n  access_token_lifetime: 7200", "", true, func(p *issuer.Policy) { p.AccessTokenLifetime = 2 * hour }},
		{"fos: by name as well", "profile: fos\n  access_token_lifetime: 7200", "profile: fos", true, func(p *issuer.Policy) { p.AccessTokenLifetime = 2 * hour }},
		{"fos: the client's", "profile: fos\n  access_token_lifetime: 7200", "access_token_lifetime: 10800", true, func(p *issuer.Policy) { p.AccessTokenLifetime = 3 * hour }},
		{"fos: of a client alone", "", "profile: fos\n      access_token_lifetime: 10800", true, func(p *issuer.Policy) { p.AccessTokenLifetime = 3 * hour }},
		{"fos: refresh tokens", "profile: fos", "refresh_token_lifetime: 86400", true, func(p *issuer.Policy) { p.RefreshTokenLifetime = day }},
		{"fos: codes", "profile: fos", "auth_code_lifetime: 45", true, func(p *issuer.Policy) { p.CodeLifetime = issuer.Lifetime(45 * time.Second) }},

		{"bshaffer: lifetimes", "profile: bshaffer\n  access_lifetime: 7200\n  refresh_token_lifetime: 0\n  auth_code_lifetime: 45", "", true, func(p *issuer.Policy) {
			p.AccessTokenLifetime, p.RefreshTokenLifetime, p.CodeLifetime = 2*hour, issuer.None, issuer.Lifetime(45*time.Second)
		}},
		{"bshaffer: the client's lifetimes", "profile: bshaffer\n  access_lifetime: 1", "access_lifetime: 7200\n      refresh_token_lifetime: 86400\n      auth_code_lifetime: 45", true, func(p *issuer.Policy) {
			p.AccessTokenLifetime, p.RefreshTokenLifetime, p.CodeLifetime = 2*hour, day, issuer.Lifetime(45*time.Second)
		}},
		{"bshaffer: once", "profile: bshaffer", "", true, func(p *issuer.Policy) { p.Rotation = issuer.RotateOnce }},
		{"bshaffer: both", "profile: bshaffer\n  always_issue_new_refresh_token: true\n  unset_refresh_token_after_use: true", "", true, func(p *issuer.Policy) { p.Rotation = issuer.RotateAlways }},
		{"bshaffer: unset follows always", "profile: bshaffer\n  always_issue_new_refresh_token: true", "", true, func(p *issuer.Policy) { p.Rotation = issuer.RotateAlways }},
		{"bshaffer: never", "profile: bshaffer\n  unset_refresh_token_after_use: false", "", true, func(p *issuer.Policy) { p.Rotation = issuer.RotateNever }},
		{"bshaffer: additive", "profile: bshaffer\n  unsafe_compatibility: [additive_refresh_tokens]\n  always_issue_new_refresh_token: true\n  unset_refresh_token_after_use: false", "", true,
			func(p *issuer.Policy) { p.Rotation = issuer.RotateAdditive }},
		{"bshaffer: half from the client", "profile: bshaffer\n  unsafe_compatibility: [additive_refresh_tokens]\n  unset_refresh_token_after_use: false", "always_issue_new_refresh_token: true", true,
			func(p *issuer.Policy) { p.Rotation = issuer.RotateAdditive }},
		{"bshaffer: the client rotates", "profile: bshaffer", "always_issue_new_refresh_token: true", true, func(p *issuer.Policy) { p.Rotation = issuer.RotateAlways }},
		{"bshaffer: in our words", "profile: bshaffer", "refresh_token_rotation: always", true, func(p *issuer.Policy) { p.Rotation = issuer.RotateAlways }},
		{"bshaffer: a client's own profile", "", "profile: bshaffer\n      unset_refresh_token_after_use: false", true, func(p *issuer.Policy) { p.Rotation = issuer.RotateNever }},
		{"bshaffer: PKCE", "profile: bshaffer\n  enforce_pkce: true", "", true, func(p *issuer.Policy) { p.PKCE = issuer.PKCEAlways }},
		{"bshaffer: PKCE of a client", "profile: bshaffer", "enforce_pkce: true", true, func(p *issuer.Policy) { p.PKCE = issuer.PKCEAlways }},
		{"bshaffer: a confidential client without PKCE", "profile: bshaffer\n  enforce_pkce: true", "enforce_pkce: false", true, func(p *issuer.Policy) { p.PKCE = issuer.PKCEPublicClients }},
		{"bshaffer: a public client without PKCE", "profile: bshaffer\n  unsafe_compatibility: [public_clients_without_pkce]", "enforce_pkce: false", false, func(p *issuer.Policy) { p.PKCE = issuer.PKCENever }},
		{"bshaffer: redirect URIs", "profile: bshaffer\n  unsafe_compatibility: [redirect_prefix]\n  require_exact_redirect_uri: false", "", true, func(p *issuer.Policy) { p.Redirects = issuer.RedirectPrefix }},
		{"bshaffer: exact ones of a client", "profile: bshaffer\n  unsafe_compatibility: [redirect_prefix]\n  require_exact_redirect_uri: false", "require_exact_redirect_uri: true", true,
			func(p *issuer.Policy) { p.Redirects = issuer.RedirectExact }},
		{"bshaffer: JWT", "profile: bshaffer\n  use_jwt_access_tokens: true", "", true, func(p *issuer.Policy) { p.Format = issuer.FormatJWT }},

		{"eventix", "profile: eventix", "", true, func(p *issuer.Policy) { p.AccessTokenLifetime, p.Rotation = 3*day, issuer.RotateAlways }},
		{"eventix: ours", "profile: eventix\n  access_token_lifetime: 1h", "refresh_token_lifetime: 1d", true, func(p *issuer.Policy) { p.AccessTokenLifetime, p.RefreshTokenLifetime = hour, day }},

		{"standard with all that is unsafe", "unsafe_compatibility: [additive_refresh_tokens, public_clients_without_pkce, redirect_prefix]\n  refresh_token_rotation: additive\n  require_pkce: never\n  redirect_matching: prefix", "", true,
			func(p *issuer.Policy) {
				p.Rotation, p.PKCE, p.Redirects = issuer.RotateAdditive, issuer.PKCENever, issuer.RedirectPrefix
			}},
		{"a client stricter than that", "unsafe_compatibility: [additive_refresh_tokens]\n  refresh_token_rotation: additive", "refresh_token_rotation: once\n      require_pkce: always\n      redirect_matching: exact", true,
			func(p *issuer.Policy) { p.Rotation = issuer.RotateOnce }},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := "issuer:\n  " + orText(test.server, "profile: standard") + "\n  clients:\n    - id: a\n      " + orText(test.client, "name: A")
			if test.secret {
				text += "\n      secret: a-long-secret"
			}
			c, wrong := load(t, text, overrides{}, environment())
			if len(wrong) > 0 {
				t.Fatalf("problems %q", wrong)
			}
			client := c.Issuer.Clients[0].Client
			got := c.policyOf(client)
			want := got
			test.want(&want)
			if got != want {
				t.Errorf("policy %+v\n  want %+v", got, want)
			}
			// The server takes it, and comes to the same.
			cfg := issuer.Config{Profiles: c.profiles(), Profile: c.profileName(), Unsafe: c.Issuer.Unsafe, Policy: c.Issuer.Policy}
			if named := cfg.Profiles[c.profileOf(client)]; named == nil {
				t.Error("the profile is not there")
			}
			if err := cfg.Policy.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestConfigProfileRefused has each refusal about profiles.
func TestConfigProfileRefused(t *testing.T) {
	risk := func(name issuer.Compatibility) string { return issuer.Compatibilities()[name] }
	notSafe := func(what string, name issuer.Compatibility, instead string) string {
		return what + " is not safe: " + risk(name) + "; " + instead + ", or name it under issuer: unsafe_compatibility: [" + string(name) + "]"
	}
	const fos, bshaffer, client = "issuer:\n  profile: fos\n  ", "issuer:\n  profile: bshaffer\n  ", "clients:\n    - id: a\n      "
	const whole = "write seconds such as 3600, or a duration such as 1h"
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"unknown profile", "issuer: {profile: foo}", []string{`FILE:1: profile "foo" is not known; write standard, bshaffer, eventix or fos`}},
		{"unknown profile of a client", "issuer:\n  clients:\n    - {id: a, profile: foo}", []string{`FILE:3: profile "foo" is not known; write standard, bshaffer, eventix or fos`}},
		{"profile in a variable", "issuer: {profile: '${HUSH}'}", []string{"FILE:1: profile: the value of ${HUSH} is not valid; write standard, bshaffer, eventix or fos"}},
		{"profile that is none", "issuer: {profile: [fos]}", []string{"FILE:1: issuer.profile has the wrong type; write one value"}},
		{"profile in a variable that is not set", "issuer: {profile: '${NOT_SET}'}", []string{
			"FILE:1: issuer.profile takes the environment variable NOT_SET, which is not set; set it, or write the value here"}},
		{"unsafe that is not known", "issuer:\n  unsafe_compatibility:\n    - implicit\n    - plain_pkce", []string{
			`FILE:4: unsafe_compatibility "plain_pkce" is not known; known ones are additive_refresh_tokens, implicit, public_clients_without_pkce, redirect_prefix`}},
		{"unsafe in a variable", "issuer: {unsafe_compatibility: ['${HUSH}']}", []string{
			`FILE:1: the value of ${HUSH} is not valid; known ones are additive_refresh_tokens, implicit, public_clients_without_pkce, redirect_prefix`}},
		{"unsafe that is no list", "issuer: {unsafe_compatibility: implicit}", []string{"FILE:1: issuer.unsafe_compatibility has the wrong type; write a list, such as `[one, two]`"}},

		{"bshaffer's key in standard", "issuer:\n  access_lifetime: 3600", []string{
			"FILE:2: access_lifetime is a key of the profile bshaffer, and the profile here is standard; write access_token_lifetime, or set profile: bshaffer"}},
		{"bshaffer's key in fos", fos + "www_realm: x", []string{
			"FILE:3: www_realm is a key of the profile bshaffer, and the profile here is fos; delete it, or set profile: bshaffer"}},
		{"fos' key in bshaffer", bshaffer + "realm: x", []string{
			"FILE:3: realm is a key of the profile fos, and the profile here is bshaffer; delete it, or set profile: fos"}},
		{"fos' key in eventix", "issuer:\n  supported_scopes: read\n  profile: eventix", []string{
			"FILE:2: supported_scopes is a key of the profile fos, and the profile here is eventix; delete it, or set profile: fos"}},
		{"another's key of a client", bshaffer + client + "profile: fos\n      access_lifetime: 60", []string{
			"FILE:6: access_lifetime is a key of the profile bshaffer, and the profile here is fos; write access_token_lifetime, or set profile: bshaffer"}},
		{"server's key at a client", bshaffer + client + "enforce_state: false", []string{"FILE:5: enforce_state holds for all clients; move it to issuer"}},
		{"unknown key of a client", bshaffer + client + "colour: red", []string{
			`FILE:5: unknown key "colour" in a client; known keys here are access_lifetime, access_token_format, access_token_lifetime, access_token_signing_alg, ` +
				`always_issue_new_refresh_token, auth_code_lifetime, authorization_code_lifetime, enforce_pkce, grant_lifetime, grant_types, id, introspect, name, profile, ` +
				`redirect_matching, redirect_uris, refresh_token_lifetime, refresh_token_retry_window, refresh_token_rotation, require_exact_redirect_uri, require_pkce, scopes, secret, tenant, trusted, unset_refresh_token_after_use`}},
		{"seconds in standard", "issuer: {refresh_token_lifetime: 86400}", []string{
			`FILE:1: refresh_token_lifetime: "86400" is not a duration: write a number with d, h, m or s, such as 14d, 1h or 90s; write a duration such as 14d, 1h or 60s`}},

		{"seconds that are none", bshaffer + "access_lifetime: soon", []string{
			`FILE:3: access_lifetime: "soon" is not a duration: write a number with d, h, m or s, such as 14d, 1h or 90s; ` + whole}},
		{"parts of a second", bshaffer + "access_lifetime: 1500ms", []string{`FILE:3: access_lifetime: "1500ms" is not in whole seconds; ` + whole}},
		{"seconds below 0", bshaffer + "refresh_token_lifetime: -1", []string{"FILE:3: refresh_token_lifetime must be from 0 to 3153600000 seconds; " + whole}},
		{"more seconds than that", fos + "access_token_lifetime: 9999999999", []string{"FILE:3: access_token_lifetime must be from 0 to 3153600000 seconds; " + whole}},
		{"0 in bshaffer", bshaffer + "access_lifetime: 0", []string{
			"FILE:3: access_lifetime 0 does not mean for ever: tokens would expire at once; give a number of seconds; " + whole}},
		{"0 in fos", fos + "refresh_token_lifetime: 0", []string{"FILE:3: refresh_token_lifetime: 0 is the default there; " + whole}},
		{"0 of a client", fos + client + "access_token_lifetime: 0", []string{"FILE:5: access_token_lifetime: 0 is the default there; " + whole}},
		{"long code", bshaffer + client + "auth_code_lifetime: 601", []string{"FILE:5: auth_code_lifetime must be from 1 to 600 seconds; " + whole}},
		{"code lifetime of fos", fos + "auth_code_lifetime: 601", []string{"FILE:3: auth_code_lifetime must be from 0 to 600 seconds; " + whole}},
		{"truth", bshaffer + "enforce_state: 1", []string{`FILE:3: enforce_state: "1" is not true or false; write true or false`}},
		{"token type", fos + "token_type: ''", []string{
			"FILE:3: token_type: it is empty, or has characters that cannot be told; write printable ASCII characters without quotes and backslashes"}},
		{"realm with quotes", bshaffer + "www_realm: 'a\"b'", []string{
			"FILE:3: www_realm: it is empty, or has characters that cannot be told; write printable ASCII characters without quotes and backslashes"}},
		{"scopes that are one text", bshaffer + "default_scope: 'a \"b'", []string{
			"FILE:3: default_scope: " + oauth.ErrScopeSyntax.Error() + "; write a list such as [read, write]"}},
		{"a default scope that is never used", bshaffer + "require_scope: true\n  default_scope: read", []string{
			"FILE:4: default_scope is never used where require_scope is true; delete one of them"}},
		{"scopes in a list", fos + "supported_scopes: ['a b']", []string{
			`FILE:3: "a b" is not one scope of printable ASCII characters without spaces, quotes and backslashes; change or delete it`}},
		{"header", fos + "response_extra_headers: {'X Y': a}", []string{`FILE:3: "X Y" is not the name of a header; write letters, digits and hyphens`}},
		{"header in two lines", fos + "response_extra_headers:\n    X: |\n      a\n      b\n", []string{
			"FILE:4: issuer.response_extra_headers.X contains a line break or another control character; write it on one line"}},
		{"headers in a list", fos + "response_extra_headers: [a]", []string{
			"FILE:3: response_extra_headers has the wrong type; write keys and values, such as `key: value`"}},

		{"token_param_name", bshaffer + "token_param_name: token", []string{
			"FILE:3: token_param_name is always access_token in this version, since resource servers read tokens, and choose where; delete the key"}},
		{"token_bearer_header_name", bshaffer + "token_bearer_header_name: OAuth", []string{
			"FILE:3: token_bearer_header_name is always Bearer in this version, since resource servers read tokens, and choose where; delete the key"}},
		{"use_openid_connect", bshaffer + "use_openid_connect: true", []string{
			"FILE:3: use_openid_connect is always false in this version, since there is no OpenID Connect yet; delete the key"}},
		{"id_lifetime", bshaffer + "id_lifetime: 60", []string{"FILE:3: id_lifetime is always 3600 in this version, since there is no OpenID Connect yet; delete the key"}},
		{"store_encrypted_token_string", bshaffer + "store_encrypted_token_string: false", []string{
			"FILE:3: store_encrypted_token_string is always true in this version, since no token is stored, in whatever form; delete the key"}},
		{"jwt_extra_payload_callable", bshaffer + "jwt_extra_payload_callable: extra", []string{
			"FILE:3: jwt_extra_payload_callable is always null in this version, since the claims are those of RFC 9068; delete the key"}},
		{"issuer", bshaffer + "issuer: https://x.example", []string{
			"FILE:3: issuer is always empty in this version, since the issuer of tokens is public_url; delete the key"}},
		{"a list where one value is had", bshaffer + "use_openid_connect: [true]", []string{
			"FILE:3: use_openid_connect is always false in this version, since there is no OpenID Connect yet; delete the key"}},

		{"two lifetimes", bshaffer + "access_lifetime: 60\n  access_token_lifetime: 1m", []string{"FILE:3: access_lifetime says the same as access_token_lifetime at FILE:4; keep one"}},
		{"two code lifetimes", fos + "authorization_code_lifetime: 1m\n  auth_code_lifetime: 60", []string{
			"FILE:4: auth_code_lifetime says the same as authorization_code_lifetime at FILE:3; keep one"}},
		{"two of a client", bshaffer + client + "access_lifetime: 60\n      access_token_lifetime: 1m", []string{"FILE:5: access_lifetime says the same as access_token_lifetime at FILE:6; keep one"}},
		{"two rotations", bshaffer + "always_issue_new_refresh_token: true\n  refresh_token_rotation: always", []string{
			"FILE:3: always_issue_new_refresh_token says the same as refresh_token_rotation at FILE:4; keep one"}},
		{"two rotations of a client", bshaffer + client + "unset_refresh_token_after_use: true\n      refresh_token_rotation: once", []string{
			"FILE:5: unset_refresh_token_after_use says the same as refresh_token_rotation at FILE:6; keep one"}},
		{"two on PKCE", bshaffer + "enforce_pkce: true\n  require_pkce: always", []string{"FILE:3: enforce_pkce says the same as require_pkce at FILE:4; keep one"}},
		{"two on redirects", bshaffer + "require_exact_redirect_uri: true\n  redirect_matching: exact", []string{
			"FILE:3: require_exact_redirect_uri says the same as redirect_matching at FILE:4; keep one"}},
		{"two formats", bshaffer + "use_jwt_access_tokens: true\n  access_token_format: jwt", []string{"FILE:3: use_jwt_access_tokens says the same as access_token_format at FILE:4; keep one"}},

		{"additive", "issuer:\n  refresh_token_rotation: additive", []string{"FILE:2: " + notSafe("refresh_token_rotation as it is", issuer.UnsafeAdditive, "write always")}},
		{"additive of a client", "issuer:\n  " + client + "refresh_token_rotation: additive", []string{"FILE:4: " + notSafe("refresh_token_rotation as it is", issuer.UnsafeAdditive, "write always")}},
		{"PKCE for nobody", "issuer:\n  require_pkce: never", []string{"FILE:2: " + notSafe("require_pkce as it is", issuer.UnsafePublicWithoutPKCE, "write public_clients")}},
		{"PKCE for nobody, of a client", "issuer:\n  unsafe_compatibility: [implicit]\n  " + client + "require_pkce: never", []string{
			"FILE:5: " + notSafe("require_pkce as it is", issuer.UnsafePublicWithoutPKCE, "write public_clients")}},
		{"prefix", "issuer:\n  redirect_matching: prefix", []string{"FILE:2: " + notSafe("redirect_matching as it is", issuer.UnsafeRedirectPrefix, "write exact")}},
		{"prefix of a client", "issuer:\n  " + client + "redirect_matching: prefix", []string{"FILE:4: " + notSafe("redirect_matching as it is", issuer.UnsafeRedirectPrefix, "write exact")}},
		{"bshaffer's additive", bshaffer + "always_issue_new_refresh_token: true\n  unset_refresh_token_after_use: false", []string{
			"FILE:4: " + notSafe("unset_refresh_token_after_use as it is", issuer.UnsafeAdditive, "write true")}},
		{"half of it from the client", bshaffer + "unset_refresh_token_after_use: false\n  " + client + "always_issue_new_refresh_token: true", []string{
			"FILE:6: " + notSafe("always_issue_new_refresh_token as it is", issuer.UnsafeAdditive, "write false")}},
		{"bshaffer's PKCE", bshaffer + "enforce_pkce: false", []string{
			"FILE:3: " + notSafe("enforce_pkce as it is", issuer.UnsafePublicWithoutPKCE, "delete the key: then only public clients need PKCE")}},
		{"PKCE of a public client", bshaffer + client + "enforce_pkce: false", []string{
			"FILE:5: " + notSafe("enforce_pkce as it is", issuer.UnsafePublicWithoutPKCE, "delete the key: then only public clients need PKCE")}},
		{"bshaffer's redirects", bshaffer + "require_exact_redirect_uri: false", []string{"FILE:3: " + notSafe("require_exact_redirect_uri as it is", issuer.UnsafeRedirectPrefix, "write true")}},
		{"redirects of a client", bshaffer + client + "require_exact_redirect_uri: false", []string{
			"FILE:5: " + notSafe("require_exact_redirect_uri as it is", issuer.UnsafeRedirectPrefix, "write true")}},
		{"bshaffer's implicit", bshaffer + "allow_implicit: true", []string{"FILE:3: " + notSafe("allow_implicit as it is", issuer.UnsafeImplicit, "write false")}},
		{"implicit of a client", bshaffer + client + "grant_types: [implicit]", []string{"FILE:5: " + notSafe("the grant type implicit", issuer.UnsafeImplicit, "delete it")}},
		{"implicit without a profile that has it", "issuer:\n  unsafe_compatibility: [implicit]\n  " + client + "grant_types: [implicit]", []string{
			"FILE:5: the grant type implicit is not in the profile standard as it is set here; delete it, or give the client a profile that has it"}},
		{"all of it", bshaffer + "allow_implicit: true\n  require_exact_redirect_uri: false\n  colour: 1\n  realm: x", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, wrong := load(t, test.text, overrides{}, environment("HUSH", "hush"))
			if test.want == nil {
				if len(wrong) != 4 {
					t.Errorf("not all at once: %q", wrong)
				}
				return
			}
			if fmt.Sprintf("%q", wrong) != fmt.Sprintf("%q", test.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(wrong, "\n"), strings.Join(test.want, "\n"))
			}
			if shown := fmt.Sprintf("%v %+v %v", wrong, c, c.warnings); strings.Contains(shown, "hush") {
				t.Errorf("the value of a variable is shown: %s", shown)
			}
		})
	}
}

func TestConfigProfileWarnings(t *testing.T) {
	on := func(name issuer.Compatibility) string {
		return string(name) + " is on, although it is not safe: " + issuer.Compatibilities()[name]
	}
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"profiles as they come", "issuer: {profile: fos}", nil},
		{"one of each", "issuer:\n  unsafe_compatibility:\n    - implicit\n    - redirect_prefix\n    - public_clients_without_pkce\n    - additive_refresh_tokens", []string{
			"FILE:3: " + on(issuer.UnsafeImplicit), "FILE:4: " + on(issuer.UnsafeRedirectPrefix),
			"FILE:5: " + on(issuer.UnsafePublicWithoutPKCE), "FILE:6: " + on(issuer.UnsafeAdditive)}},
		{"lifetimes in seconds", "issuer:\n  profile: bshaffer\n  refresh_token_lifetime: 60\n  access_lifetime: 120", []string{
			"FILE:3: refresh_token_lifetime 1m is shorter than access_token_lifetime 2m, so that a client which refreshes at expiry is logged out; make it longer"}},
		{"an access token's alone", "issuer:\n  profile: bshaffer\n  clients:\n    - id: a\n      access_lifetime: 9999999", []string{
			"FILE:5: refresh_token_lifetime 14d is shorter than access_token_lifetime 115d17h46m39s, so that a client which refreshes at expiry is logged out; make it longer"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := writeConfig(t, test.text)
			c, err := loadConfig(path, overrides{}, environment())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, warning := range c.warnings {
				got = append(got, strings.ReplaceAll(warning.String(), path, "FILE"))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

// TestConfigProfileOfClients has several profiles on one server, and the scopes
// that fos names.
func TestConfigProfileOfClients(t *testing.T) {
	c, wrong := load(t, `
issuer:
  profile: fos
  supported_scopes: [read, write]
  scopes: {read: "Read your data"}
  unsafe_compatibility: [implicit]
  clients:
    - {id: a, secret: a-long-secret, grant_types: [authorization_code, implicit]}
    - {id: b, secret: a-long-secret, profile: bshaffer, access_lifetime: 60}
    - {id: c, secret: a-long-secret, profile: standard}
    - {id: d, secret: a-long-secret, profile: fos}
`, overrides{}, environment())
	if len(wrong) > 0 {
		t.Fatalf("problems %q", wrong)
	}
	if fmt.Sprint(c.Issuer.Scopes) != "map[read:Read your data write:write]" {
		t.Errorf("scopes %v", c.Issuer.Scopes)
	}
	profiles := c.profiles()
	if len(profiles) != len(profile.Names())+1 || profiles[standardProfile].Name != "" || c.profileName() != "fos" {
		t.Errorf("profiles %v, of the server %q", profiles, c.profileName())
	}
	for i, want := range []string{"fos", "bshaffer", "standard", "fos"} {
		if got := c.profileOf(c.Issuer.Clients[i].Client); got != want {
			t.Errorf("client %d has the profile %s, want %s", i, got, want)
		}
	}
	if lines := strings.Join(c.profileLines(), "\n"); lines != "fos, at /oauth/v2/token /oauth/v2/auth as well\n"+
		"bshaffer, at "+ownPaths(profiles["bshaffer"])+" as well, for 1 (b) of the clients\nstandard, for 1 (c) of the clients" {
		t.Errorf("lines\n%s", lines)
	}
	c, _ = load(t, "", overrides{}, environment())
	if lines := c.profileLines(); len(lines) != 1 || lines[0] != "standard" || c.profileName() != "" {
		t.Errorf("without a file: %q", lines)
	}
}

// TestConfigProfileShown looks at what `evergrant config check` says.
func TestConfigProfileShown(t *testing.T) {
	file := writeConfig(t, "issuer:\n  profile: bshaffer\n  access_lifetime: 7200\n  always_issue_new_refresh_token: true\n  unsafe_compatibility: [redirect_prefix]\n  require_exact_redirect_uri: false\n")
	r := run(t, environment(), "", "config", "check", "--config", file)
	for _, want := range []string{"profile +bshaffer, at /token /authorize", "unsafe_compatibility +redirect_prefix\n", "access_token_lifetime +2h\n",
		"refresh_token_rotation +always\n", "require_pkce +public_clients\n", "redirect_matching +prefix\n"} {
		if !regexp.MustCompile(want).MatchString(r.out) {
			t.Errorf("no %q in\n%s", want, r.out)
		}
	}
	if r.code != exitDone || !strings.Contains(r.stderr, "warning: "+file+":5: redirect_prefix is on, although it is not safe: whoever controls a page") {
		t.Errorf("status %d, stderr %q", r.code, r.stderr)
	}
	r = run(t, environment(), "", "config", "check", "--config", file, "--json")
	checked := document[struct{ Settings config }](t, r.out)
	if got := checked.Settings.Issuer; got.Profile != "bshaffer" || got.Legacy.Bshaffer.AccessLifetime == nil || *got.Legacy.Bshaffer.AccessLifetime != 7200 || len(got.Unsafe) != 1 {
		t.Errorf("settings %s", r.out)
	}
}
