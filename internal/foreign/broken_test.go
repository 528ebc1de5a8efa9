package foreign

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/internal/foreign/foreigntest"
	"github.com/evergrant/evergrant/secret"
)

// planted is in every token, secret and password of these tests that is not to be
// shown.
const planted = "hunter2"

// TestRows reads odd rows of each kind: what becomes of them, and what is said of
// those that cannot be used.
func TestRows(t *testing.T) {
	t.Parallel()
	const bcrypt = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
	const sha1 = "a9993e364706816aba3e25717850c26c9cd0d89d"
	for _, tt := range []struct {
		kind    string
		rows    []string
		clients []string // id, form of the secret, grant types, redirect URIs, scope
		users   []string
		tokens  []string // text, client, subject, scope, expiry
		skipped []string
	}{
		{
			kind: "bshaffer",
			rows: []string{
				"INSERT INTO oauth_scopes VALUES ('write', FALSE), ('read', TRUE)",
				"INSERT INTO oauth_clients VALUES ('a', 'x', 'https://a.example/1  https://a.example/2', NULL, NULL, NULL)",
				"INSERT INTO oauth_clients VALUES ('b', '', '', 'implicit  client_credentials urn:x', '', NULL)",
				"INSERT INTO oauth_clients VALUES ('c', '" + bcrypt + "', '', 'password', ' read  write ', NULL)",
				"INSERT INTO oauth_clients VALUES ('d', '$2y$" + planted + "', '', '', NULL, NULL)",
				"INSERT INTO oauth_users (username, password) VALUES ('u', '" + sha1 + "'), ('v', '" + bcrypt + "'), ('w', '" + planted + "'), ('x', NULL)",
				"INSERT INTO oauth_refresh_tokens VALUES ('r1', 'a', NULL, '1970-01-01 00:00:00', NULL), ('r2', 'a', 'u', '1970-01-01 01:00:00', ' read  write ')",
				"INSERT INTO oauth_refresh_tokens VALUES ('r3', 'a', 'u', '2026-05-06 07:08:10', NULL), ('r4', 'a', 'u', '2026-05-06 07:08:09', NULL), ('r5', 'a', 'u', '2020-01-01 00:00:00', NULL)",
				"INSERT INTO oauth_refresh_tokens VALUES ('" + planted + "', 'a', 'u', 'tomorrow', NULL), ('', 'a', 'u', '2037-01-01 00:00:00', NULL), ('" + planted + "2', '', 'u', '2037-01-01 00:00:00', NULL)",
				"INSERT INTO oauth_refresh_tokens VALUES ('r6', 'a', 'u', '0000-00-00 00:00:00', NULL)",
				"INSERT INTO oauth_access_tokens VALUES ('a1', 'a', 'u', '1970-01-01 00:00:00', NULL), ('eyJ.eyJ.sig', 'a', 'u', '2037-01-01 00:00:00', NULL), ('eyJ." + planted + "', 'a', 'u', '2037-01-01 00:00:00', NULL)",
			},
			clients: []string{
				"a clear authorization_code,password,refresh_token,client_credentials https://a.example/1,https://a.example/2 [read write]",
				"b public implicit,client_credentials,urn:x  []", "c bcrypt password  [read write]",
			},
			users: []string{"u sha1", "v bcrypt"},
			tokens: []string{
				"r1 a  [] never", "r2 a u [read write] never", "r3 a u [] 2026-05-06T07:08:10Z", "r6 a u [] never", "eyJ.eyJ.sig a u [] 2037-01-01T00:00:00Z",
			},
			skipped: []string{
				"client d: secret: unknown form of secret verifier: bcrypt: it is not of 60 characters, or has others than bcrypt's",
				"user w: what verifies the password is not known here: secret: unknown form of secret verifier: it does not begin with the name of a form",
				"user x: what verifies the password is not known here: secret: unknown form of secret verifier: it does not begin with the name of a form",
				"token of client a, user u: expires is not a time", "token of client a, user u: it is empty", `token of client "", user u: it has no client`,
				"token of client a, user u: it is a JWT that was cut off, since its column is too short",
			},
		},
		{
			kind: "fos",
			rows: []string{
				"INSERT INTO oauth2_client VALUES (1, 'x', 'a:1:{i:0;s:5:\"uri:a\";}', 's', 'a:2:{i:0;s:5:\"token\";i:1;s:13:\"refresh_token\";}', 'App')",
				"INSERT INTO oauth2_client VALUES (2, 'y', '', NULL, 'password,urn:y', NULL), (3, 'z', 'a:1:{" + planted + "', 's', '', NULL), (4, 'z', '', 's', '{\"x\":1}', NULL), (5, 'v', '[]', '$2y$" + planted + "', '[]', NULL)",
				"INSERT INTO fos_user VALUES (1, 'u', 'u', 'u@x', 'u@x', TRUE, NULL, '" + bcrypt + "', NULL, ''), (2, '', 'v', 'v@x', 'v@x', TRUE, 'salt', 'lFl+lCGbt94BxOiSo40PmVklgTYSxMi2CZYN6Zhk/q8=', NULL, '')",
				"INSERT INTO fos_user VALUES (3, 'w', 'w', 'w@x', 'w@x', FALSE, NULL, '" + bcrypt + "', NULL, ''), (4, 'x', 'x', 'x@x', 'x@x', TRUE, NULL, '" + planted + "', NULL, ''), (5, 'y', 'y', 'y@x', 'y@x', TRUE, NULL, '', NULL, '')",
				"INSERT INTO oauth2_refresh_token VALUES (1, 1, NULL, 'r1', NULL, NULL), (2, 1, 2, 'r2', 0, ' a  b '), (3, 2, 99, 'r3', 1778051290, NULL), (4, 1, 1, 'r4', 1778051289, NULL), (5, 1, 1, 'r5', 5, NULL)",
				"INSERT INTO oauth2_refresh_token VALUES (6, 99, 1, '" + planted + "', NULL, NULL), (7, 1, 3, '" + planted + "2', NULL, NULL), (8, 1, 1, '" + planted + "3', 'soon', NULL)",
			},
			clients: []string{"1_x clear implicit,refresh_token uri:a []", "2_y public password,urn:y  []"},
			users:   []string{"u bcrypt", "v@x symfony"},
			tokens:  []string{"r1 1_x  [] never", "r2 1_x v@x [a b] never", "r3 2_y 99 [] 2026-05-06T07:08:10Z"},
			skipped: []string{
				"client 3_z: redirect_uris: it is not an array of strings as PHP serializes one", "client 4_z: allowed_grant_types: it is not a JSON object of numbered strings",
				"client 5_v: secret: unknown form of secret verifier: bcrypt: it is not of 60 characters, or has others than bcrypt's",
				"user w: the user is disabled or locked in the other server", "user x: what verifies the password is not known here: it is none of bcrypt, argon2 and Symfony's digests",
				"user y: the user has no password in the other server", `token of client "", user u: it has no client`,
				"token of client 1_x, user w: the user is disabled or locked in the other server", "token of client 1_x, user u: expires is not a whole number",
			},
		},
		{
			kind: "doorkeeper",
			rows: []string{
				"INSERT INTO oauth_applications VALUES (1, 'App', 'a', 's', 'uri:a\r\nuri:b', 'read  write', TRUE, '', ''), (2, 'B', 'b', '', '', '', FALSE, '', ''), (3, 'C', 'c', '', '', '', TRUE, '', '')",
				"INSERT INTO oauth_applications VALUES (4, 'D', 'd', '$2a$" + planted + "', '', '', TRUE, '', ''), (5, 'E', 'e', '" + bcrypt + "', '', '', TRUE, '', '')",
				"INSERT INTO users VALUES (1, 'u@x', '" + bcrypt + "', 'u', '', ''), (2, 'v@x', '', NULL, '', ''), (3, 'w@x', '" + planted + "', '', '', ''), (4, '', '" + bcrypt + "', '', '', '')",
				"INSERT INTO oauth_access_tokens VALUES (1, 1, 1, 'a1', 'r1', 7200, 'read', '2026-05-06 07:00:00', NULL, ''), (2, 2, 1, 'a2', 'r2', 60, NULL, '2026-05-06 07:00:00', NULL, 'r1')",
				"INSERT INTO oauth_access_tokens VALUES (3, NULL, 1, 'a3', NULL, NULL, '', '2026-05-06 07:00:00', NULL, ''), (4, 1, 1, 'a4', 'r4', 7200, '', '2026-05-06 07:00:00', '2026-05-06 07:01:00', '')",
				"INSERT INTO oauth_access_tokens VALUES (5, 1, 1, 'a5', '', 1, '', '2020-01-01 00:00:00', NULL, ''), (6, 4, 99, '" + planted + "', NULL, 7200, '', '2026-05-06 07:00:00', NULL, ''), (7, 1, 1, '" + planted + "2', NULL, 'x', '', '2026-05-06 07:00:00', NULL, '')",
				"INSERT INTO oauth_access_tokens VALUES (8, 1, 1, '" + planted + "3', NULL, 7200, '', 'now', NULL, '')",
			},
			clients: []string{"a clear authorization_code,refresh_token,client_credentials uri:a,uri:b [read write]", "b public refresh_token  []", "e bcrypt refresh_token,client_credentials  []"},
			users:   []string{"u bcrypt", "4 bcrypt"},
			tokens: []string{
				"r1 a u [read] never", "r2 a v@x [] never", "a1 a u [read] 2026-05-06T09:00:00Z", "a3 a  [] never",
			},
			skipped: []string{
				"client c: it is confidential and has no secret", "client d: secret: unknown form of secret verifier: bcrypt: it is not of 60 characters, or has others than bcrypt's",
				"user v@x: the user has no password in the other server", "user w@x: what verifies the password is not known here: secret: unknown form of secret verifier: it does not begin with the name of a form",
				`token of client "", user 4: it has no client`, "token of client a, user u: lifetime is not a whole number", "token of client a, user u: created is not a time",
			},
		},
		{
			kind: "django",
			rows: []string{
				"INSERT INTO oauth2_provider_application VALUES (1, 'a', 'uri:a uri:b', 'confidential', 'authorization-code', 's$t', 'App', NULL, TRUE, '', '', '', FALSE), (2, 'b', '', 'public', 'implicit', '" + planted + "', '', NULL, FALSE, '', '', '', FALSE)",
				"INSERT INTO oauth2_provider_application VALUES (3, 'c', '', 'confidential', 'client-credentials', 'pbkdf2_sha1$4096$salt$SwB5AbdlSJq+rUnZJvch0GWkKcE=', '', NULL, FALSE, '', '', '', TRUE), (4, 'd', '', 'confidential', 'openid-hybrid', 'bcrypt_sha256$" + bcrypt + "', '', NULL, FALSE, '', '', '', TRUE)",
				"INSERT INTO oauth2_provider_application VALUES (5, 'e', '', 'confidential', 'password', '', '', NULL, FALSE, '', '', '', TRUE), (6, 'f', '', 'confidential', 'urn:device', 's', '', NULL, FALSE, '', '', '', TRUE), (7, 'g', '', 'confidential', 'password', 'scrypt$1$2$3$4$" + planted + "', '', NULL, FALSE, '', '', '', TRUE)",
				"INSERT INTO auth_user VALUES (1, 'pbkdf2_sha1$4096$salt$SwB5AbdlSJq+rUnZJvch0GWkKcE=', NULL, FALSE, 'u', '', '', '', FALSE, TRUE, ''), (2, '!" + planted + "', NULL, FALSE, 'v', '', '', '', FALSE, TRUE, ''), (3, '', NULL, FALSE, 'w', '', '', '', FALSE, FALSE, ''), (4, 'scrypt$1$2$3$4$" + planted + "', NULL, FALSE, 'x', '', '', '', FALSE, TRUE, '')",
				"INSERT INTO oauth2_provider_accesstoken VALUES (1, 'a1', 1, '2026-05-06 07:08:10.5', 'read', 1, 1, '2026-05-06 07:00:00.123456', '', NULL), (2, 'a2', 2, '2026-05-06 07:08:09', 'read', 1, 1, '2026-05-06 07:00:00', '', NULL)",
				"INSERT INTO oauth2_provider_accesstoken VALUES (3, '" + planted + "', 3, '2037-01-01 00:00:00', '', NULL, NULL, '2026-05-06 07:00:00', '', NULL), (4, 'a4', 4, '2020-01-01 00:00:00', 'write', 1, 1, '2026-05-06 07:00:00', '', 3)",
				"INSERT INTO oauth2_provider_accesstoken VALUES (5, '" + planted + "5', 5, 'later', '', 1, 1, '2026-05-06 07:00:00', '', NULL), (6, '" + planted + "6', 6, '2037-01-01 00:00:00', '', 1, 3, '2026-05-06 07:00:00', '', NULL), (7, '" + planted + "7', 7, '2037-01-01 00:00:00', '', 1, 1, 'x', '', NULL)",
				"INSERT INTO oauth2_provider_refreshtoken VALUES (1, 'r1', 1, 1, 1, '2026-05-06 07:00:00', '', NULL, NULL), (2, 'r2', NULL, 1, 2, '2026-05-06 07:00:00', '', NULL, NULL), (3, 'r3', NULL, 1, 77, '2026-05-06 07:00:00', '', NULL, NULL), (4, 'r4', NULL, 1, 1, '2026-05-06 07:00:00', '', '2026-05-06 07:00:01', NULL)",
			},
			clients: []string{"a clear authorization_code,refresh_token uri:a,uri:b []", "b public implicit  []", "c pbkdf2_sha1 client_credentials  []", "d bcrypt_sha256 authorization_code,refresh_token  []"},
			users:   []string{"u pbkdf2_sha1"},
			tokens:  []string{"r1 a u [read] never", "r2 a v [] never", "r3 a 77 [write] never", "a1 a u [read] 2026-05-06T07:08:10.5Z"},
			skipped: []string{
				"client e: it is confidential and has no secret", "client f: the grant type urn:device is not known here", "client g: secret: unknown form of secret verifier: it does not begin with the name of a form",
				"user v: the user has no password in the other server", "user w: the user is disabled or locked in the other server",
				"user x: what verifies the password is not known here: secret: unknown form of secret verifier: it does not begin with the name of a form",
				`token of client "": it has no client`, "token of client a, user u: expires is not a time", "token of client a, user w: the user is disabled or locked in the other server", "token of client a, user u: created is not a time",
			},
		},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			address, db := empty(t, foreigntest.SQLite, tt.kind)
			db.SetMaxOpenConns(1)
			run(t, db, "PRAGMA foreign_keys = off")
			run(t, db, tt.rows...)
			s := opened(t, address, Options{Iterations: 1})
			clients, skippedClients, err1 := collect(s.Clients(context.Background()))
			users, skippedUsers, err2 := collect(s.Users(context.Background()))
			tokens, skippedTokens, err3 := collect(s.Tokens(context.Background()))
			if err1 != nil || err2 != nil || err3 != nil {
				t.Fatal(err1, err2, err3)
			}
			same(t, "clients", printed(clients, clientLine), tt.clients)
			same(t, "users", printed(users, userLine), tt.users)
			same(t, "tokens", printed(tokens, tokenLine), tt.tokens)
			skipped := slices.Concat(skippedClients, skippedUsers, skippedTokens)
			// Tokens come client by client, and in any order of those of one.
			same(t, "skipped", slices.Sorted(slices.Values(skipped)), slices.Sorted(slices.Values(tt.skipped)))
			if strings.Contains(strings.Join(skipped, " "), planted) {
				t.Errorf("%q shows a secret", skipped)
			}
		})
	}
}

func printed[T any](values []T, line func(T) string) (lines []string) {
	for _, v := range values {
		lines = append(lines, line(v))
	}
	return lines
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func clientLine(c evergrant.ImportClient) string {
	form := "public"
	if !c.Secret.Empty() {
		form = "clear"
	} else if c.Verifier != "" {
		form = formOf(c.Verifier)
	}
	return strings.Join([]string{c.ID, form, strings.Join(c.GrantTypes, ","), strings.Join(c.RedirectURIs, ","), "[" + c.Scope + "]"}, " ")
}

func userLine(u evergrant.ImportUser) string { return u.Username + " " + formOf(u.Password) }

func tokenLine(t evergrant.ImportToken) string {
	expires := "never"
	if !t.ExpiresAt.IsZero() {
		expires = t.ExpiresAt.Format(time.RFC3339Nano)
	}
	return strings.Join([]string{t.Token.Reveal(), t.ClientID, t.Subject, "[" + t.Scope + "]", expires}, " ")
}

// formOf is how a verifier prints.
func formOf(v secret.Verifier) string {
	form, _, _ := strings.Cut(fmt.Sprint(v), " ")
	return form
}
