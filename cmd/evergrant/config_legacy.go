package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/issuer/profile"
	"github.com/evergrant/evergrant/oauth"
	"github.com/goccy/go-yaml/ast"
)

// legacyKey is a key of another server's configuration.
type legacyKey struct {
	name      string
	ours      string // our key for the same thing; "" where there is none
	perClient bool   // it may be set for a client as well
	read      legacyField
}

// legacyField reads what a key says, and sets it unless that is refused.
type legacyField func(r *reader, set func(legacyChange) error) field

// legacyChange puts what a key says where it belongs.
type legacyChange func(*profile.Options)

// legacyValue is what a client says of a key.
type legacyValue struct {
	key    legacyKey
	change legacyChange
}

// legacyKeys are those of a profile's server.
func legacyKeys(name string) []legacyKey {
	switch name {
	case profile.NameFOS:
		return fosKeys()
	case profile.NameBshaffer:
		return bshafferKeys()
	}
	return nil
}

// fosKeys are those of fos_oauth_server.service.options.
func fosKeys() []legacyKey {
	lifetime := func(at func(*profile.Options) *int64) legacyField {
		return inSeconds(func(o *profile.Options, n int64) { *at(o) = n }, errors.New("0 is the default there"))
	}
	return []legacyKey{
		{"access_token_lifetime", "access_token_lifetime", true, lifetime(func(o *profile.Options) *int64 { return &o.FOS.AccessTokenLifetime })},
		{"refresh_token_lifetime", "refresh_token_lifetime", true, lifetime(func(o *profile.Options) *int64 { return &o.FOS.RefreshTokenLifetime })},
		{"auth_code_lifetime", "authorization_code_lifetime", true, lifetime(func(o *profile.Options) *int64 { return &o.FOS.AuthCodeLifetime })},
		{"token_type", "", false, word(func(o *profile.Options, text string) { o.FOS.TokenType = text })},
		{"realm", "", false, word(func(o *profile.Options, text string) { o.FOS.Realm = text })},
		{"supported_scopes", "", false, scopes(func(o *profile.Options, scope oauth.Scope) { o.FOS.SupportedScopes = scope })},
		{"enforce_redirect", "", false, truth(func(o *profile.Options, b bool) { o.FOS.EnforceRedirect = &b })},
		{"enforce_state", "", false, truth(func(o *profile.Options, b bool) { o.FOS.EnforceState = b })},
		{"response_extra_headers", "", false, headers(func(o *profile.Options, all map[string]string) { o.FOS.ResponseExtraHeaders = all })},
	}
}

// bshafferKeys are those of the array that OAuth2\Server is made with.
func bshafferKeys() []legacyKey {
	lifetime := func(at func(*profile.Options) **int64) legacyField {
		return inSeconds(func(o *profile.Options, n int64) { *at(o) = &n }, nil)
	}
	yes := func(at func(*profile.Options) **bool) legacyField {
		return truth(func(o *profile.Options, b bool) { *at(o) = &b })
	}
	return []legacyKey{
		{"access_lifetime", "access_token_lifetime", true, lifetime(func(o *profile.Options) **int64 { return &o.Bshaffer.AccessLifetime })},
		{"refresh_token_lifetime", "refresh_token_lifetime", true, lifetime(func(o *profile.Options) **int64 { return &o.Bshaffer.RefreshTokenLifetime })},
		{"auth_code_lifetime", "authorization_code_lifetime", true, lifetime(func(o *profile.Options) **int64 { return &o.Bshaffer.AuthCodeLifetime })},
		{"always_issue_new_refresh_token", "refresh_token_rotation", true, yes(func(o *profile.Options) **bool { return &o.Bshaffer.AlwaysIssueNewRefreshToken })},
		{"unset_refresh_token_after_use", "refresh_token_rotation", true, yes(func(o *profile.Options) **bool { return &o.Bshaffer.UnsetRefreshTokenAfterUse })},
		{"enforce_pkce", "require_pkce", true, truth(func(o *profile.Options, b bool) { o.Bshaffer.EnforcePKCE = b })},
		{"require_exact_redirect_uri", "redirect_matching", true, yes(func(o *profile.Options) **bool { return &o.Bshaffer.RequireExactRedirectURI })},
		{"use_jwt_access_tokens", "access_token_format", false, truth(func(o *profile.Options, b bool) { o.Bshaffer.UseJWTAccessTokens = b })},
		{"enforce_state", "", false, yes(func(o *profile.Options) **bool { return &o.Bshaffer.EnforceState })},
		{"enforce_redirect", "", false, truth(func(o *profile.Options, b bool) { o.Bshaffer.EnforceRedirect = b })},
		{"allow_implicit", "", false, truth(func(o *profile.Options, b bool) { o.Bshaffer.AllowImplicit = b })},
		{"allow_credentials_in_request_body", "", false, yes(func(o *profile.Options) **bool { return &o.Bshaffer.AllowCredentialsInRequestBody })},
		{"allow_public_clients", "", false, yes(func(o *profile.Options) **bool { return &o.Bshaffer.AllowPublicClients })},
		{"www_realm", "", false, word(func(o *profile.Options, text string) { o.Bshaffer.WWWRealm = text })},
		{"default_scope", "", false, scopes(func(o *profile.Options, scope oauth.Scope) { o.Bshaffer.DefaultScope = scope })},
		{"require_scope", "", false, truth(func(o *profile.Options, b bool) { o.Bshaffer.RequireScope = b })},
		{"token_param_name", "", false, always("access_token", "resource servers read tokens, and choose where")},
		{"token_bearer_header_name", "", false, always("Bearer", "resource servers read tokens, and choose where")},
		{"use_openid_connect", "", false, always("false", "there is no OpenID Connect yet")},
		{"id_lifetime", "", false, always("3600", "there is no OpenID Connect yet")},
		{"store_encrypted_token_string", "", false, always("true", "no token is stored, in whatever form")},
		{"jwt_extra_payload_callable", "", false, always("null", "the claims are those of RFC 9068")},
		{"issuer", "", false, always("", "the issuer of tokens is public_url")},
	}
}

// inSeconds reads a lifetime: whole numbers are seconds. Where zero is an error, 0
// is one.
func inSeconds(put func(*profile.Options, int64), zero error) legacyField {
	return func(r *reader, set func(legacyChange) error) field {
		return r.parsed("write seconds such as 3600, or a duration such as 1h", func(text string) error {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				var l issuer.Lifetime
				if l, err = oauth.ParseLifetime(text); err != nil {
					return err
				}
				if n = max(0, int64(time.Duration(l)/time.Second)); l > 0 && time.Duration(l)%time.Second != 0 {
					return fmt.Errorf("%q is not in whole seconds", text)
				}
			}
			if n == 0 && zero != nil {
				return zero
			}
			return set(func(o *profile.Options) { put(o, n) })
		})
	}
}

func truth(put func(*profile.Options, bool)) legacyField {
	return func(r *reader, set func(legacyChange) error) field {
		return r.parsed("write true or false", func(text string) error {
			if text != "true" && text != "false" {
				return fmt.Errorf("%q is not true or false", text)
			}
			return set(func(o *profile.Options) { put(o, text == "true") })
		})
	}
}

// word reads a text that is not empty and stands in headers and answers.
func word(put func(*profile.Options, string)) legacyField {
	return func(r *reader, set func(legacyChange) error) field {
		return r.parsed("write printable ASCII characters without quotes and backslashes", func(text string) error {
			if text == "" || oauth.Legal(text) != text {
				return errors.New("it is empty, or has characters that cannot be told")
			}
			return set(func(o *profile.Options) { put(o, text) })
		})
	}
}

// always reads a key that has one value in this version.
func always(value, why string) legacyField {
	return func(r *reader, _ func(legacyChange) error) field {
		return func(path string, n ast.Node) {
			text, ok := scalarText(n)
			if _, null := n.(*ast.NullNode); null {
				text, ok = "null", true
			}
			if ok {
				text, ok = r.expand(path, n, text)
			}
			if !ok || text != value {
				r.bad(n, "%s is always %s in this version, since %s; delete the key", lastKey(path), orText(value, "empty"), why)
			}
		}
	}
}

// scopes reads scopes as a list, or as a text with spaces between them.
func scopes(put func(*profile.Options, oauth.Scope)) legacyField {
	return func(r *reader, set func(legacyChange) error) field {
		return func(path string, n ast.Node) {
			var scope oauth.Scope
			before := len(r.problems)
			if _, text := scalarText(n); text {
				r.parsed("write a list such as [read, write]", func(text string) (err error) {
					scope, err = oauth.ParseScope(text)
					return err
				})(path, n)
			} else {
				r.texts((*[]string)(&scope), oneScope)(path, n)
			}
			r.take(n, before, set, func(o *profile.Options) { put(o, scope) })
		}
	}
}

// take sets what was read without a problem since before.
func (r *reader) take(n ast.Node, before int, set func(legacyChange) error, change legacyChange) {
	if len(r.problems) > before {
		return
	}
	if err := set(change); err != nil {
		r.bad(n, "%v", err)
	}
}

// headers reads fields of HTTP headers. An empty list has none, as in PHP.
func headers(put func(*profile.Options, map[string]string)) legacyField {
	return func(r *reader, set func(legacyChange) error) field {
		return func(path string, n ast.Node) {
			if list, ok := n.(*ast.SequenceNode); ok && len(list.Values) == 0 {
				return
			}
			all, before := map[string]string{}, len(r.problems)
			r.anyMapping(lastKey(path), func(path, key string, value, at ast.Node) {
				if strings.Trim(key, headerCharacters) != "" || key == "" {
					r.bad(at, "%q is not the name of a header; write letters, digits and hyphens", key)
					return
				}
				var text string
				r.text(&text)(path, value)
				if strings.ContainsFunc(text, func(c rune) bool { return c < 0x20 || c == 0x7f }) {
					r.bad(value, "%s contains a line break or another control character; write it on one line", path)
				}
				all[key] = text
			})(path, n)
			r.take(n, before, set, func(o *profile.Options) { put(o, all) })
		}
	}
}

// headerCharacters are those of a token (RFC 9110 section 5.6.2) that names of
// headers have in practice.
const headerCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
