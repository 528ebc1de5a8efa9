package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// testRoot is a root key; no test compares what is derived from it.
const testRoot = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// environment makes the lookup of environment variables from pairs.
func environment(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i+1 < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

// writeConfig writes a configuration file that only its owner can read.
func writeConfig(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "evergrant.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// load loads a configuration text and returns the problems, without the
// directory of the file.
func load(t testing.TB, text string, flags overrides, env func(string) (string, bool)) (*config, []string) {
	t.Helper()
	path := writeConfig(t, text)
	c, err := loadConfig(path, flags, env)
	wrong, ok := asProblems(err)
	if err != nil && !ok {
		t.Fatal(err)
	}
	var lines []string
	for _, p := range wrong {
		lines = append(lines, strings.ReplaceAll(p.String(), path, "FILE"))
	}
	return c, lines
}

const sample = `listen: 127.0.0.1:8080
public_url: http://127.0.0.1:8080
data_dir: ./evergrant-data
database: ""
root_key: ""
issuer:
  profile: standard
  access_token_lifetime: 1h
  access_token_format: jwt
  authorization_code_lifetime: 60s
  refresh_token_lifetime: 14d
  grant_lifetime: 0
  refresh_token_rotation: always
  refresh_token_retry_window: 60s
  scopes: {read: "Read your data"}
  clients:
    - {id: TestClient, secret: TestSecret, grant_types: [password, authorization_code, refresh_token, client_credentials],
       redirect_uris: [], scopes: [read], access_token_lifetime: 1h}
  users:
    - {username: bshaffer, password: brent123}
`

func TestConfigSample(t *testing.T) {
	c, wrong := load(t, sample, overrides{}, environment())
	if len(wrong) > 0 || len(c.warnings) > 0 {
		t.Fatalf("problems %q, warnings %v", wrong, c.warnings)
	}
	if c.Issuer.GrantLifetime != issuer.None || c.Issuer.RefreshTokenLifetime != issuer.Lifetime(14*24*time.Hour) {
		t.Errorf("lifetimes are %v and %v", c.Issuer.GrantLifetime, c.Issuer.RefreshTokenLifetime)
	}
	if got := c.Issuer.Scopes["read"]; got != "Read your data" {
		t.Errorf("scope read is described as %q", got)
	}
	client := c.Issuer.Clients[0]
	if client.ID != "TestClient" || client.Secret.Reveal() != "TestSecret" || len(client.GrantTypes) != 4 || !client.Scopes.Equal(oauth.Scope{"read"}) {
		t.Errorf("client is %+v", client)
	}
	if user := c.Issuer.Users[0]; user.Username != "bshaffer" || user.Password.Reveal() != "brent123" {
		t.Errorf("user is %+v", user)
	}
}

func TestConfigEveryKey(t *testing.T) {
	c, wrong := load(t, `
listen: 10.1.2.3:9000
public_url: https://login.example.com/
data_dir: /var/lib/evergrant
behind_proxy: true
root_key: `+testRoot+`
issuer:
  access_token_signing_alg: EdDSA
  draft_expiry_names: true
  event_retention: 30d
  clients:
    - id: app
      name: My app
      secret: a-long-enough-secret
      introspect: true
      trusted: true
      redirect_uris: ["https://app.example/cb", "com.example.app:/cb"]
      access_token_lifetime: 5m
      access_token_format: opaque
      access_token_signing_alg: RS256
      authorization_code_lifetime: 30s
      refresh_token_lifetime: 30d
      grant_lifetime: 90d
      refresh_token_rotation: public_clients
      refresh_token_retry_window: 0
    - id: spa
`, overrides{}, environment())
	if len(wrong) > 0 || len(c.warnings) > 0 {
		t.Fatalf("problems %q, warnings %v", wrong, c.warnings)
	}
	if c.Listen != "10.1.2.3:9000" || c.DataDir != "/var/lib/evergrant" || !c.BehindProxy || !c.Issuer.DraftExpiryNames {
		t.Errorf("settings are %+v", c)
	}
	if c.Issuer.SigningAlg != secret.EdDSA || time.Duration(c.Issuer.EventRetention) != 30*24*time.Hour || !c.usesRS256() {
		t.Errorf("issuer is %+v", c.Issuer)
	}
	app, spa := c.Issuer.Clients[0], c.Issuer.Clients[1]
	want := issuer.Policy{
		AccessTokenLifetime: issuer.Lifetime(5 * time.Minute), CodeLifetime: issuer.Lifetime(30 * time.Second),
		RefreshTokenLifetime: issuer.Lifetime(30 * 24 * time.Hour), GrantLifetime: issuer.Lifetime(90 * 24 * time.Hour),
		Rotation: issuer.RotatePublicClients, RetryWindow: issuer.None, Format: issuer.FormatOpaque, SigningAlg: secret.RS256,
	}
	if app.Policy != want || !app.Introspect || !app.Trusted || app.Name != "My app" || len(app.RedirectURIs) != 2 {
		t.Errorf("client app is %+v", app)
	}
	if !spa.Public() || !spa.Secret.Empty() || !spa.Allows(oauth.GrantAuthorizationCode) || !spa.Allows(oauth.GrantRefreshToken) {
		t.Errorf("a client with an id only is %+v", spa)
	}
}

// TestConfigRefused has each thing that is refused with the exact message: its
// line, what is wrong, and what to do.
func TestConfigRefused(t *testing.T) {
	const keysHere = "behind_proxy, data_dir, database, issuer, keeper, listen, public_url, root_key, root_key_command, root_key_file, tls"
	const clear = "would send tokens and secrets over the network in clear; set tls with cert_file and key_file, or behind_proxy: true if a proxy with https stands before it, or listen on 127.0.0.1"
	const behind = "listen: 0.0.0.0:80\nbehind_proxy: true\npublic_url: https://x.example\nissuer:\n"
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"unknown key", "listn: 1", []string{`FILE:1: unknown key "listn"; known keys here are ` + keysHere}},
		{"unknown key of a user", "issuer:\n  users:\n    - username: a\n      password: 12345678a\n      email: x", []string{
			`FILE:5: unknown key "email" in a user; known keys here are info, password, username`}},
		{"unknown key of tls", "tls: {cert: a}", []string{`FILE:1: unknown key "cert" in tls; known keys here are acme, cert_file, key_file`}},
		{"twice", "listen: 127.0.0.1:1\nlisten: 127.0.0.1:2", []string{"FILE:2: listen is set twice, first at FILE:1; keep one"}},
		{"not a mapping", "- a", []string{"FILE:1: the file has the wrong type; write keys and values, such as `key: value`"}},
		{"wrong type: mapping", "listen: {a: b}", []string{"FILE:1: listen has the wrong type; write text"}},
		{"wrong type: number", "public_url: 8080", []string{"FILE:1: public_url has the wrong type; write text in quotes"}},
		{"wrong type: text for a mapping", "issuer: yes", []string{"FILE:1: issuer has the wrong type; write keys and values, such as `key: value`"}},
		{"wrong type: text for a list", "issuer:\n  clients: a", []string{"FILE:2: issuer.clients has the wrong type; write a list, such as `[one, two]`"}},
		{"wrong type: list for a lifetime", "issuer:\n  grant_lifetime: [1]", []string{"FILE:2: issuer.grant_lifetime has the wrong type; write one value"}},
		{"wrong type: boolean", "behind_proxy: maybe", []string{`FILE:1: behind_proxy: "maybe" is not true or false; write true or false`}},
		{"wrong type: secret", "issuer:\n  clients:\n    - {id: a, secret: 12345678}", []string{
			"FILE:3: issuer.clients[0].secret has the wrong type; write text in quotes"}},
		{"no value", "listen:", []string{"FILE:1: listen has no value; give it one or delete the key"}},
		{"empty value", `data_dir: ""`, []string{"FILE:1: data_dir is empty; give it a value or delete the key"}},
		{"alias", "listen: &a 127.0.0.1:1\ndata_dir: *a", []string{
			"FILE:1: listen uses a YAML anchor, alias or tag, which the configuration does not know; write the value out",
			"FILE:2: data_dir uses a YAML anchor, alias or tag, which the configuration does not know; write the value out"}},
		{"merge key", "<<: {listen: a}", []string{"FILE:1: this key is not plain text; write it as a word, without anchors, << or ?"}},
		{"two documents", "listen: 127.0.0.1:1\n---\nlisten: 127.0.0.1:2", []string{
			"FILE:3: a second YAML document begins; keep the configuration in one document, without ---"}},
		{"not YAML", "listen: [\n", []string{
			"FILE:1: not valid YAML: sequence end token ']' not found; check indentation, quotes and brackets"}},
		{"not YAML in a secret", "issuer:\n  clients:\n    - {id: a, secret: \"hush hush}\n", []string{
			"FILE:3: not valid YAML: could not find end character of double-quoted text; check indentation, quotes and brackets"}},
		{"unset variable", "listen: ${NOT_SET}", []string{
			"FILE:1: listen takes the environment variable NOT_SET, which is not set; set it, or write the value here"}},
		{"empty variable", "root_key: ${EMPTY}", []string{"FILE:1: root_key is empty because ${EMPTY} is; set the variable, or delete the key"}},
		{"bad variable", "listen: a${B-C}", []string{
			"FILE:1: listen has a ${ that begins no variable name; write ${NAME}, or $${ for the characters themselves"}},
		{"bad value in a variable", "issuer:\n  grant_lifetime: ${HUSH}", []string{
			"FILE:2: grant_lifetime: the value of ${HUSH} is not valid; write a duration such as 14d, 1h or 60s"}},
		{"bad list item in a variable", "issuer:\n  clients:\n    - id: a\n      redirect_uris:\n        - ${HUSH}", []string{
			"FILE:5: the value of ${HUSH} is not valid; change or delete it"}},
		{"database", "\ndatabase: mysql://ann:hush@h/d", []string{
			`FILE:2: database is neither a URL that begins with postgres:// nor a connection string of PostgreSQL; write for example "postgres://evergrant:${PASSWORD}@db.example.com/evergrant", with %2F for a / in the password, or delete the key for the embedded SQLite`}},
		{"acme", "tls: {cert_file: a, key_file: b, acme: {}}", []string{"FILE:1: certificates by ACME are not in this version yet; delete acme",
			"FILE:1: the certificate cannot be used: open a: no such file or directory; name a certificate and its private key, both in PEM"}},
		{"lifetime", "issuer:\n  access_token_lifetime: 1 hour", []string{
			`FILE:2: access_token_lifetime: "1 hour" is not a duration: write a number with d, h, m or s, such as 14d, 1h or 90s; write a duration such as 14d, 1h or 60s`}},
		{"lifetime without unit", "issuer:\n  access_token_lifetime: 3600", []string{
			`FILE:2: access_token_lifetime: "3600" is not a duration: write a number with d, h, m or s, such as 14d, 1h or 90s; write a duration such as 14d, 1h or 60s`}},
		{"endless access token", "issuer:\n  access_token_lifetime: 0", []string{
			"FILE:2: access_token_lifetime must be above 0: access tokens always expire; write a duration such as 14d, 1h or 60s"}},
		{"code lifetime", "issuer:\n  authorization_code_lifetime: 1h", []string{
			"FILE:2: authorization_code_lifetime must be above 0 and at most 10m (RFC 6749 section 4.1.2); write a duration such as 14d, 1h or 60s"}},
		{"retry window", "issuer:\n  refresh_token_retry_window: 2h", []string{
			"FILE:2: refresh_token_retry_window must be at most 1h: within it a stolen token is served; write a duration such as 14d, 1h or 60s"}},
		{"event retention", "issuer:\n  event_retention: 0", []string{"FILE:2: event_retention must be above 0; write a duration such as 90d"}},
		{"rotation", "issuer:\n  refresh_token_rotation: sometimes", []string{
			`FILE:2: refresh_token_rotation "sometimes" is not one of always, never, public_clients, once, additive; write always, never, public_clients, once or additive`}},
		{"format", "issuer:\n  access_token_format: saml", []string{`FILE:2: access_token_format "saml" is not one of jwt, opaque; write jwt or opaque`}},
		{"algorithm", "issuer:\n  access_token_signing_alg: HS256", []string{
			`FILE:2: access_token_signing_alg "HS256" is not one of ES256, EdDSA, RS256; write ES256, EdDSA or RS256`}},
		{"algorithm of a client", "issuer:\n  clients:\n    - id: a\n      access_token_signing_alg: none", []string{
			`FILE:4: access_token_signing_alg "none" is not one of ES256, EdDSA, RS256; write ES256, EdDSA or RS256`}},
		{"scope name", "issuer:\n  scopes:\n    'a b': x", []string{
			`FILE:3: "a b" is not one scope of printable ASCII characters without spaces, quotes and backslashes; rename it`}},

		{"listen", "listen: localhost", []string{"FILE:1: listen must be HOST:PORT with a port of 0 to 65535; write for example 127.0.0.1:8080"}},
		{"port", "listen: 127.0.0.1:70000", []string{"FILE:1: listen must be HOST:PORT with a port of 0 to 65535; write for example 127.0.0.1:8080"}},
		{"in clear", "\npublic_url: https://x.example\nlisten: 10.0.0.1:80\n", []string{"FILE:3: listening on 10.0.0.1:80 " + clear,
			"FILE:2: public_url is https and nothing here speaks https; set tls with cert_file and key_file, or behind_proxy: true if a proxy does"}},
		{"in clear on all addresses", "listen: :80\n", []string{"FILE:1: listening on :80 " + clear,
			"FILE:1: clients cannot reach a server under :80; set public_url to the URL under which they do"}},
		{"proxy without URL", "listen: 0.0.0.0:80\nbehind_proxy: true", []string{
			"FILE:2: behind_proxy needs public_url; set it to the https URL of the proxy under which clients reach this server"}},
		{"URL in clear", "behind_proxy: true\npublic_url: http://x.example", []string{
			"FILE:2: public_url must be https unless its host is loopback (RFC 8414 section 2); write https://x.example"}},
		{"URL that nothing serves", "public_url: https://127.0.0.1:8080", []string{
			"FILE:1: public_url is https and nothing here speaks https; set tls with cert_file and key_file, or behind_proxy: true if a proxy does"}},
		{"URL with path", "public_url: http://localhost:1/auth", []string{
			"FILE:1: public_url must not have a path, since the server answers at the root; give it a host name of its own"}},
		{"URL with query", "public_url: http://localhost:1?a=b", []string{
			"FILE:1: public_url must be an https URL without user, query and fragment (RFC 8414 section 2); write for example https://login.example.com"}},
		{"URL that is none", "public_url: login.example.com", []string{
			"FILE:1: public_url must be an https URL without user, query and fragment (RFC 8414 section 2); write for example https://login.example.com"}},
		{"tls without key", "tls: {cert_file: a}", []string{"FILE:1: tls has no key_file; add the file with the private key in PEM"}},
		{"tls without certificate", "tls: {key_file: a}", []string{"FILE:1: tls has no cert_file; add the file with the certificate chain in PEM"}},
		{"root key", "root_key: hush", []string{
			"FILE:1: a root key is 32 random bytes in base64, such as `openssl rand -base64 32` prints; give the one that this server was first started with"}},
		{"root key twice", "root_key: " + testRoot + "\nroot_key_file: a", []string{
			"FILE:2: the root key is given in more than one way (root_key, root_key_file); keep one"}},
		{"root key three times", "root_key_command: a\nroot_key_file: a\nroot_key: " + testRoot, []string{
			"FILE:1: the root key is given in more than one way (root_key, root_key_file, root_key_command); keep one"}},

		{"client without id", "issuer:\n  clients:\n    - name: x", []string{"FILE:3: a client has no id; add one"}},
		{"client twice", "issuer:\n  clients:\n    - id: x\n    - id: y\n    - id: x", []string{"FILE:5: client x is declared twice, first at FILE:3; keep one"}},
		{"client with empty secret", "issuer:\n  clients:\n    - id: x\n      secret: ''", []string{
			"FILE:4: the secret of client x is empty; give it a value, or delete the key for a public client"}},
		{"client with grant type", "issuer:\n  clients:\n    - id: x\n      grant_types: [saml]", []string{
			`FILE:3: client "x": grant type "saml" is not one of [authorization_code client_credentials password refresh_token implicit]; mend or delete this client`}},
		{"public client with client_credentials", "issuer:\n  clients:\n    - id: x\n      grant_types: [client_credentials]", []string{
			`FILE:3: client "x": client_credentials needs a secret (RFC 6749 section 4.4); mend or delete this client`}},
		{"trusted public client", "issuer:\n  clients:\n    - {id: x, trusted: true}", []string{
			`FILE:3: client "x": a public client cannot be trusted: anybody can use its id (RFC 8252 section 8.6); mend or delete this client`}},
		{"redirect URI", "issuer:\n  clients:\n    - id: x\n      redirect_uris:\n        - https://ok.example\n        - http://x.example/", []string{
			"FILE:6: redirect URI http://x.example/: http is allowed for loopback hosts only; use https; change or delete it"}},
		{"scope of a client", "issuer:\n  clients:\n    - id: x\n      scopes: ['a b']", []string{
			`FILE:4: "a b" is not one scope of printable ASCII characters without spaces, quotes and backslashes; change or delete it`}},
		{"secret with a line break", "issuer:\n  clients:\n    - id: x\n      secret: |\n        hush hush\n", []string{
			"FILE:4: issuer.clients[0].secret contains a line break or another control character; write it on one line"}},
		{"user without name", "issuer:\n  users:\n    - password: 123456789a", []string{"FILE:3: a user has no username; add one"}},
		{"user without password", "issuer:\n  users:\n    - username: a", []string{"FILE:3: user a has no password; add one"}},
		{"user with empty password", "issuer:\n  users:\n    - {username: a, password: ''}", []string{
			"FILE:3: the password of user a is empty; give it a value, or delete the user"}},
		{"user twice", "issuer:\n  users:\n    - {username: a, password: 123456789a}\n    - {username: a, password: 123456789b}", []string{
			"FILE:4: user a is declared twice, first at FILE:3; keep one"}},
		{"user name", "issuer:\n  users:\n    - {username: \"a\\tb\", password: 123456789a}", []string{
			`FILE:3: user "a\tb": the user name must be 1 to 255 bytes of UTF-8 without control characters; mend it`}},
		{"short secrets beyond loopback", behind + "  clients:\n    - {id: x, secret: hush123}\n  users:\n    - {username: u, password: hush}", []string{
			"FILE:6: the secret of client x has fewer than 8 characters, which can be guessed; use a longer one",
			"FILE:8: the password of user u has fewer than 8 characters, which can be guessed; use a longer one"}},
		{"all at once", "listn: 1\nlisten: x\nissuer:\n  profile: foo\n  clients:\n    - {}\n", []string{
			`FILE:1: unknown key "listn"; known keys here are ` + keysHere,
			`FILE:4: profile "foo" is not known; write standard, bshaffer, eventix or fos`,
			"FILE:2: listen must be HOST:PORT with a port of 0 to 65535; write for example 127.0.0.1:8080",
			"FILE:6: a client has no id; add one"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, wrong := load(t, test.text, overrides{}, environment("EMPTY", "", "HUSH", "hush"))
			if fmt.Sprintf("%q", wrong) != fmt.Sprintf("%q", test.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(wrong, "\n"), strings.Join(test.want, "\n"))
			}
			shown := fmt.Sprintf("%v %+v %v", wrong, c, c.warnings)
			if strings.Contains(shown, "hush") {
				t.Errorf("a secret is shown: %s", shown)
			}
		})
	}
}

func TestConfigFlags(t *testing.T) {
	c, wrong := load(t, "listen: 127.0.0.1:1\ndata_dir: a", overrides{"127.0.0.1:2", "b"}, environment())
	if len(wrong) > 0 || c.Listen != "127.0.0.1:2" || c.DataDir != "b" {
		t.Errorf("problems %q, settings %+v", wrong, c)
	}
	_, err := loadConfig("", overrides{listen: "0.0.0.0:80"}, environment())
	if err == nil || !strings.HasPrefix(err.Error(), "--listen: listening on 0.0.0.0:80 would send") {
		t.Errorf("--listen on all addresses: %v", err)
	}
}

func TestConfigDefaults(t *testing.T) {
	c, err := loadConfig("", overrides{}, environment())
	if err != nil || c.Listen != defaultListen || c.DataDir != defaultDataDir || len(c.warnings) > 0 {
		t.Errorf("defaults are %+v, %v", c, err)
	}
	for _, text := range []string{"", "# nothing\n", "issuer:\n", "issuer:\n  clients:\n  scopes:\n", "tls:\n"} {
		if _, wrong := load(t, text, overrides{}, environment()); len(wrong) > 0 {
			t.Errorf("%q: %q", text, wrong)
		}
	}
	if _, err := loadConfig(filepath.Join(t.TempDir(), "none.yaml"), overrides{}, environment()); err == nil {
		t.Error("a file that is not there is no error")
	}
}

func TestConfigVariables(t *testing.T) {
	env := environment("A", "a", "B", "${A}", "YAML", `x", trusted: true, id: "y`, "HOURS", "3h", "PROXY", "true", "EMPTY", "")
	for _, test := range []struct{ name, text, want string }{
		{"whole", "${A}", "a"},
		{"inside", "x${A}y${A}", "xaya"},
		{"not looked at again", "${B}", "${A}"},
		{"cannot inject YAML", "${YAML}", `x", trusted: true, id: "y`},
		{"escaped", "$${A}", "${A}"},
		{"escaped twice", "$$${A}", "$${A}"},
		{"dollars", "$ $$ $A a$", "$ $$ $A a$"},
		{"empty beside text", "x${EMPTY}", "x"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, wrong := load(t, "issuer: {clients: [{id: c, name: '"+test.text+"'}]}", overrides{}, env)
			if len(wrong) > 0 || len(c.Issuer.Clients) != 1 || c.Issuer.Clients[0].Name != test.want || c.Issuer.Clients[0].Trusted {
				t.Errorf("problems %q, clients %+v, want name %q", wrong, c.Issuer.Clients, test.want)
			}
		})
	}
	c, wrong := load(t, "public_url: https://x.example\nbehind_proxy: ${PROXY}\nissuer: {access_token_lifetime: \"${HOURS}\"}", overrides{}, env)
	if len(wrong) > 0 || !c.BehindProxy || c.Issuer.AccessTokenLifetime != issuer.Lifetime(3*time.Hour) {
		t.Errorf("problems %q, settings %+v", wrong, c)
	}
}

func TestConfigWarnings(t *testing.T) {
	const lifetimes = "refresh_token_lifetime %s is shorter than access_token_lifetime %s, so that a client which refreshes at expiry is logged out; make it longer"
	for _, test := range []struct{ name, text, want string }{
		{"short secret", "issuer: {clients: [{id: a, secret: b}]}",
			"FILE:1: the secret of client a has fewer than 8 characters; it will be refused once the server listens beyond loopback"},
		{"short password", "issuer: {users: [{username: a, password: b}]}",
			"FILE:1: the password of user a has fewer than 8 characters; it will be refused once the server listens beyond loopback"},
		{"lifetimes", "issuer:\n  refresh_token_lifetime: 30m", "FILE:2: " + fmt.Sprintf(lifetimes, "30m", "1h")},
		{"lifetimes of a client", "issuer:\n  refresh_token_lifetime: 2h\n  clients:\n    - id: a\n      access_token_lifetime: 1d", "FILE:5: " + fmt.Sprintf(lifetimes, "2h", "1d")},
		{"endless refresh token", "issuer:\n  refresh_token_lifetime: 0", ""},
		{"client inherits", "issuer:\n  refresh_token_lifetime: 2h\n  clients:\n    - id: a", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := writeConfig(t, test.text)
			c, err := loadConfig(path, overrides{}, environment())
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.ReplaceAll(c.warnings.Error(), path, "FILE"); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestConfigReadableByOthers(t *testing.T) {
	for _, test := range []struct {
		name, text string
		mode       os.FileMode
		warned     bool
	}{
		{"secret for all", "issuer: {clients: [{id: a, secret: hush-hush}]}", 0o644, true},
		{"secret for the group", "issuer: {clients: [{id: a, secret: hush-hush}]}", 0o640, false},
		{"root key for all", "root_key: " + testRoot, 0o644, true},
		{"no secret", "issuer: {clients: [{id: a}]}", 0o644, false},
		{"secret in a variable", "issuer: {clients: [{id: a, secret: '${HUSH}'}]}", 0o644, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := writeConfig(t, test.text)
			if err := os.Chmod(path, test.mode); err != nil {
				t.Fatal(err)
			}
			c, err := loadConfig(path, overrides{}, environment("HUSH", "hush-hush"))
			if err != nil {
				t.Fatal(err)
			}
			if warned := strings.Contains(c.warnings.Error(), "chmod o-r"); warned != test.warned {
				t.Errorf("warnings %v, want one: %v", c.warnings, test.warned)
			}
		})
	}
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(testRoot), 0o644); err != nil {
		t.Fatal(err)
	}
	c, wrong := load(t, "root_key_file: "+key, overrides{}, environment())
	if len(wrong) > 0 || !strings.Contains(c.warnings.Error(), "everybody on this machine can read the root key") {
		t.Errorf("problems %q, warnings %v", wrong, c.warnings)
	}
}

func TestConfigRootKeyVariable(t *testing.T) {
	for _, test := range []struct{ name, text, value, want string }{
		{"good", "", testRoot, ""},
		{"empty", "", "", rootKeyEnv + ": is set and empty; give it the root key, or unset it"},
		{"bad", "", "hush", rootKeyEnv + ": " + secret.ErrRootSyntax.Error() + "; give the one that this server was first started with"},
		{"beside root_key", "root_key: " + testRoot, testRoot, "FILE:1: the root key is given in more than one way (" + rootKeyEnv + ", root_key); keep one"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, wrong := load(t, test.text, overrides{}, environment(rootKeyEnv, test.value))
			if got := strings.Join(wrong, "\n"); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestConfigShowsNoSecret prints a configuration in every way that code does.
func TestConfigShowsNoSecret(t *testing.T) {
	c, wrong := load(t, "root_key: "+testRoot+"\nissuer:\n  clients: [{id: a, secret: hush-client}]\n  users: [{username: u, password: hush-user}]", overrides{}, environment())
	if len(wrong) > 0 {
		t.Fatal(wrong)
	}
	document, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	command, _, _ := parseConfig("", nil, environment())
	command.RootKeyCommand = "fetch --password hush"
	commandDocument, _ := json.Marshal(command)
	for _, shown := range []string{string(document), string(commandDocument), fmt.Sprintf("%v %+v", c, c), fmt.Sprint(c.summary(environment()), command.summary(environment()))} {
		if strings.Contains(shown, "hush") || strings.Contains(shown, testRoot) {
			t.Errorf("a secret is shown: %s", shown)
		}
	}
}

// FuzzConfig looks for a file that ends the program, a problem without a place,
// and a message that shows what stands in a variable.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("keeper: {}\ntls: {cert_file: a, acme: 1}\nbehind_proxy: ${HUSH}\n"))
	f.Add([]byte("issuer: {clients: [{id: \"${HUSH}\", redirect_uris: [\"${HUSH}\"]}], event_retention: ${HUSH}}"))
	f.Add([]byte("a: &b [*b]\n<<: *b\n? {a: b}\n: c\n--- !!map\n"))
	f.Add([]byte("listen: |\n  x\n y: \"\n"))
	f.Add([]byte("keeper: {providers: [{name: google, client_id: ${HUSH}, client_secrets: [\"${HUSH}\"], refresh_token: {rotation: \"${HUSH}\"}, params: {a: \"${HUSH}\", b: {pattern: \"${HUSH}\"}}}]}"))
	f.Add([]byte("keeper: {webhooks: [{url: \"https://${HUSH}\", secret: ${HUSH}, events: [\"${HUSH}\"]}], refresh_ahead: ${HUSH}}"))
	f.Add([]byte("keeper: {providers: [{name: x, token_url: \"http://${HUSH}/\", token: [{headers: {a: \"${HUSH}\"}}], errors: [{is: [\"${HUSH}\"], class: \"${HUSH}\"}]}]}"))
	f.Add([]byte("issuer: {profile: bshaffer, access_lifetime: ${HUSH}, www_realm: \"${HUSH}\", issuer: \"${HUSH}\", unsafe_compatibility: [\"${HUSH}\"], clients: [{id: a, enforce_pkce: false, profile: \"${HUSH}\"}]}"))
	f.Add([]byte("issuer: {supported_scopes: \"${HUSH} a\", profile: fos, response_extra_headers: {a: \"${HUSH}\"}, access_token_lifetime: 0, users: [{username: u, password: p, info: {a: [1, {b: \"${HUSH}\"}]}}]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		const hush = "hidden-value-of-a-variable"
		if strings.Contains(string(data), hush) {
			return
		}
		env := environment("HUSH", hush)
		c, _, wrong := parseConfig("FILE", data, env)
		parsed := len(wrong)
		wrong = append(wrong, c.check(env)...)
		for i, p := range wrong {
			if !strings.HasPrefix(p.Place, "FILE:") || p.Text == "" {
				t.Errorf("problem without place or text: %q", p)
			}
			if i < parsed && strings.Contains(p.Text, hush) {
				t.Errorf("the value of a variable is shown: %q", p)
			}
		}
	})
}
