package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/issuer/profile"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
	"github.com/goccy/go-yaml/ast"
)

const (
	defaultListen  = "127.0.0.1:8080"
	defaultDataDir = "./evergrant-data"
	rootKeyEnv     = "EVERGRANT_ROOT_KEY"
)

// config is what the configuration file, the environment and the flags of
// serve come to. It prints and marshals without its secrets.
type config struct {
	Listen         string          `json:"listen"`
	PublicURL      string          `json:"public_url"` // empty: made of the address that is listened on
	DataDir        string          `json:"data_dir"`
	Database       databaseAddress `json:"database,omitzero"` // PostgreSQL; zero: SQLite in the data directory
	BehindProxy    bool            `json:"behind_proxy"`
	TLS            tlsFiles        `json:"tls,omitzero"`
	RootKey        secret.Text     `json:"root_key,omitzero"`
	RootKeyFile    string          `json:"root_key_file,omitempty"`
	RootKeyCommand string          `json:"-"` // may show a secret
	Issuer         issuerConfig    `json:"issuer"`
	Keeper         keeperConfig    `json:"keeper"`

	only     string            // part of the server that runs alone, by a flag
	file     string            // name in messages
	places   map[string]string // where each key was set, by path
	unread   map[string]bool   // secrets that could not be read, by path
	made     map[string]*issuer.Profile
	warnings problems
}

type tlsFiles struct {
	CertFile string `json:"cert_file"`
	KeyFile  string `json:"key_file"`
}

type issuerConfig struct {
	Profile string `json:"profile"`
	// Legacy are keys of the profile's own server, under their names there.
	Legacy profile.Options        `json:"legacy,omitzero"`
	Unsafe []issuer.Compatibility `json:"unsafe_compatibility,omitempty"`
	issuer.Policy
	DraftExpiryNames bool              `json:"draft_expiry_names"`
	EventRetention   issuer.Lifetime   `json:"event_retention"`
	Scopes           map[string]string `json:"scopes,omitempty"`
	Clients          []declaredClient  `json:"clients,omitempty"`
	Users            []declaredUser    `json:"users,omitempty"`
}

// declaredClient is a client with its secret in clear, which the database keeps
// a verifier of.
type declaredClient struct {
	issuer.Client
	Secret secret.Text `json:"secret,omitzero"` // empty for a public client
	path   string      // of its keys in the file
	legacy []legacyValue
}

type declaredUser struct {
	Username string          `json:"username"`
	Password secret.Text     `json:"password"`
	Info     json.RawMessage `json:"info,omitempty"` // a JSON object
	path     string
}

// overrides are the flags that win over the file; empty ones do not.
type overrides struct{ listen, dataDir string }

// loadConfig reads a configuration file, or takes the defaults where file is
// "", and refuses what is wrong or unsafe. The error is problems where it is
// about the configuration. The returned config is useful for messages even then.
func loadConfig(file string, flags overrides, env func(string) (string, bool)) (*config, error) {
	var data []byte
	if file != "" {
		var err error
		if data, err = os.ReadFile(file); err != nil {
			return nil, &failure{what: err.Error(), next: "name the configuration file with --config, or leave the flag out to run with the defaults"}
		}
	}
	c, inClear, wrong := parseConfig(file, data, env)
	if flags.listen != "" {
		c.Listen, c.places["listen"] = flags.listen, "--listen"
	}
	if flags.dataDir != "" {
		c.DataDir, c.places["data_dir"] = flags.dataDir, "--data"
	}
	wrong = append(wrong, c.check(env)...)
	if info, err := os.Stat(file); err == nil && inClear && info.Mode().Perm()&0o004 != 0 {
		c.warn(file, "everybody on this machine can read the file, which contains a secret; run `chmod o-r %s`, or take secrets from ${VARIABLES}", file)
	}
	if len(wrong) > 0 {
		return c, wrong
	}
	return c, nil
}

func (c *config) warn(place, format string, args ...any) {
	c.warnings = append(c.warnings, problem{place, fmt.Sprintf(format, args...)})
}

// parseConfig reads the text of a file called name, over the defaults. inClear
// says that it contains a secret.
func parseConfig(name string, data []byte, env func(string) (string, bool)) (c *config, inClear bool, wrong problems) {
	r := &reader{file: name, env: env, places: map[string]string{}, unread: map[string]bool{}}
	c = &config{Listen: defaultListen, DataDir: defaultDataDir, file: name, places: r.places, unread: r.unread}
	c.Issuer.Profile = standardProfile
	c.Issuer.EventRetention = issuer.Lifetime(90 * 24 * time.Hour)
	c.Keeper.RefreshAhead = defaultRefreshAhead
	r.document(data, fields{
		"listen":       r.nonempty(&c.Listen),
		"public_url":   r.text(&c.PublicURL),
		"data_dir":     r.nonempty(&c.DataDir),
		"behind_proxy": r.boolean(&c.BehindProxy),
		"tls": r.mapping("tls", fields{
			"cert_file": r.nonempty(&c.TLS.CertFile),
			"key_file":  r.nonempty(&c.TLS.KeyFile),
			"acme":      r.notYet("certificates by ACME are"),
		}),
		"database":         r.database(&c.Database),
		"root_key":         r.secretText(&c.RootKey),
		"root_key_file":    r.text(&c.RootKeyFile),
		"root_key_command": r.text(&c.RootKeyCommand),
		"issuer":           r.issuer(&c.Issuer),
		"keeper":           r.keeper(&c.Keeper),
	})
	return c, r.inClear, r.problems
}

func (r *reader) nonempty(dst *string) field {
	return func(path string, n ast.Node) {
		var text string
		if r.text(&text)(path, n); text != "" {
			*dst = text
		} else if raw, ok := scalarText(n); ok && raw == "" {
			r.bad(n, "%s is empty; give it a value or delete the key", path)
		}
	}
}

// database reads where the database is. What the text says is told to nobody
// before its password is out of it.
func (r *reader) database(dst *databaseAddress) field {
	return func(path string, n ast.Node) {
		var url secret.Text
		before, inClear := len(r.problems), r.inClear
		r.secretText(&url)(path, n)
		if len(r.problems) > before || url.Empty() {
			return
		}
		read, err := parseDatabase(url)
		if err != nil {
			r.bad(n, "%v; %s", err, nextDatabase)
		}
		if *dst = read; !read.withPassword {
			r.inClear = inClear
		}
	}
}

func (r *reader) issuer(c *issuerConfig) field {
	known := r.policy(&c.Policy)
	known["profile"] = r.profile(&c.Profile)
	known["unsafe_compatibility"] = r.unsafe(&c.Unsafe)
	known["draft_expiry_names"] = r.boolean(&c.DraftExpiryNames)
	known["event_retention"] = r.parsed("write a duration such as 90d", func(text string) (err error) {
		if err = c.EventRetention.UnmarshalText([]byte(text)); err == nil && c.EventRetention <= 0 {
			err = errors.New("event_retention must be above 0")
		}
		return err
	})
	known["scopes"] = r.scopes(&c.Scopes)
	known["clients"] = r.list(func(path string, n ast.Node) {
		client := declaredClient{path: path}
		r.client(&client)(path, n)
		if len(client.GrantTypes) == 0 {
			client.GrantTypes = []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken}
		}
		c.Clients = append(c.Clients, client)
	})
	known["users"] = r.list(func(path string, n ast.Node) {
		user := declaredUser{path: path}
		r.mapping("a user", fields{
			"username": r.nonempty(&user.Username),
			"password": r.secretText(&user.Password),
			"info":     r.jsonObject(&user.Info),
		})(path, n)
		c.Users = append(c.Users, user)
	})
	return func(path string, n ast.Node) {
		r.serverProfile = orText(r.peek(n, "profile"), standardProfile)
		r.profiled("issuer", r.serverProfile, known, func(_ legacyKey, change legacyChange) error {
			changed := c.Legacy
			change(&changed)
			if err := changed.Check(); err != nil {
				return err
			}
			c.Legacy = changed
			return nil
		})(path, n)
	}
}

// policy are the keys that the issuer and each client have. Each is checked as
// soon as it is read, so that its own line can be named.
func (r *reader) policy(p *issuer.Policy) fields {
	set := func(mend string, read func(next *issuer.Policy, text string) error) field {
		return r.parsed(mend, func(text string) error {
			next := *p
			if err := cmp.Or(read(&next, text), next.Check()); err != nil {
				return err
			}
			*p = next
			return nil
		})
	}
	lifetime := func(at func(*issuer.Policy) *issuer.Lifetime) field {
		return set("write a duration such as 14d, 1h or 60s", func(next *issuer.Policy, text string) error {
			return at(next).UnmarshalText([]byte(text))
		})
	}
	return fields{
		"access_token_lifetime":       lifetime(func(p *issuer.Policy) *issuer.Lifetime { return &p.AccessTokenLifetime }),
		"authorization_code_lifetime": lifetime(func(p *issuer.Policy) *issuer.Lifetime { return &p.CodeLifetime }),
		"refresh_token_lifetime":      lifetime(func(p *issuer.Policy) *issuer.Lifetime { return &p.RefreshTokenLifetime }),
		"grant_lifetime":              lifetime(func(p *issuer.Policy) *issuer.Lifetime { return &p.GrantLifetime }),
		"refresh_token_retry_window":  lifetime(func(p *issuer.Policy) *issuer.Lifetime { return &p.RetryWindow }),
		"refresh_token_rotation": set("write always, never, public_clients, once or additive", func(next *issuer.Policy, text string) error {
			next.Rotation = issuer.RotationPolicy(text)
			return nil
		}),
		"access_token_format": set("write jwt or opaque", func(next *issuer.Policy, text string) error {
			next.Format = issuer.TokenFormat(text)
			return nil
		}),
		"access_token_signing_alg": set("write ES256, EdDSA or RS256", func(next *issuer.Policy, text string) error {
			next.SigningAlg = secret.Algorithm(text)
			return nil
		}),
		"require_pkce": set("write always, public_clients or never", func(next *issuer.Policy, text string) error {
			next.PKCE = issuer.PKCEPolicy(text)
			return nil
		}),
		"redirect_matching": set("write exact or prefix", func(next *issuer.Policy, text string) error {
			next.Redirects = issuer.RedirectMatching(text)
			return nil
		}),
	}
}

func (r *reader) scopes(dst *map[string]string) field {
	*dst = map[string]string{}
	return r.anyMapping("scopes", func(path, key string, value, at ast.Node) {
		if err := oneScope(key); err != nil {
			r.bad(at, "%v; rename it", err)
			return
		}
		var words string
		r.text(&words)(path, value)
		(*dst)[key] = words
	})
}

func oneScope(text string) error {
	if scope, err := oauth.ParseScope(text); err != nil || len(scope) != 1 {
		return fmt.Errorf("%q is not one scope of printable ASCII characters without spaces, quotes and backslashes", text)
	}
	return nil
}

func (r *reader) client(c *declaredClient) field {
	known := r.policy(&c.Policy)
	known["id"] = r.nonempty(&c.ID)
	known["name"] = r.text(&c.Name)
	known["secret"] = r.secretText(&c.Secret)
	known["grant_types"] = r.texts(&c.GrantTypes, func(string) error { return nil })
	known["redirect_uris"] = r.texts(&c.RedirectURIs, oauth.CheckRedirectURI)
	known["scopes"] = r.texts((*[]string)(&c.Scopes), oneScope)
	known["introspect"] = r.boolean(&c.Introspect)
	known["trusted"] = r.boolean(&c.Trusted)
	known["tenant"] = r.nonempty(&c.Tenant)
	known["profile"] = r.profile(&c.Profile)
	return func(path string, n ast.Node) {
		named := orText(r.peek(n, "profile"), r.serverProfile)
		r.profiled("a client", named, known, func(key legacyKey, change legacyChange) error {
			var alone profile.Options
			change(&alone)
			if err := alone.Check(); err != nil {
				return err
			}
			c.legacy = append(c.legacy, legacyValue{key, change})
			return nil
		})(path, n)
	}
}

// usesRS256 reports whether any client is to get tokens signed with RS256,
// which needs a key of its own.
func (c *config) usesRS256() bool {
	if c.Issuer.SigningAlg == secret.RS256 {
		return true
	}
	for _, client := range c.Issuer.Clients {
		if client.SigningAlg == secret.RS256 {
			return true
		}
	}
	return false
}

// publicURL is the issuer identifier for a server that listens on an address.
func (c *config) publicURL(addr net.Addr) string {
	if c.PublicURL != "" {
		return strings.TrimSuffix(c.PublicURL, "/")
	}
	host, _, err := net.SplitHostPort(c.Listen)
	_, port, err2 := net.SplitHostPort(addr.String())
	if err != nil || err2 != nil {
		return "http://" + addr.String()
	}
	scheme := "http"
	if c.TLS != (tlsFiles{}) {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}
