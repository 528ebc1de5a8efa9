package main

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
)

// shortSecret is the length in characters below which a secret can be guessed
// over the network in spite of throttling.
const shortSecret = 8

// check finds what single keys cannot show: values that are unsafe together.
func (c *config) check(env func(string) (string, bool)) problems {
	var wrong problems
	bad := func(path, text string) { wrong = append(wrong, problem{c.placeOf(path), text}) }
	host := c.checkListen(bad)
	c.checkPublicURL(host, bad)
	c.checkTLS(bad)
	c.checkDatabase()
	c.checkRootKey(env, bad)
	exposed := !loopback(host) || (c.PublicURL != "" && !loopback(hostOf(c.PublicURL)))
	c.settle()
	c.checkProfiles(bad)
	c.checkClients(exposed, bad)
	c.checkUsers(exposed, bad)
	return append(wrong, c.checkKeeper(exposed)...)
}

// placeOf is where a path was set, or the mapping that it is missing from.
func (c *config) placeOf(path string) string {
	for ; path != ""; path = path[:max(strings.LastIndexAny(path, ".["), 0)] {
		if place, ok := c.places[path]; ok {
			return place
		}
	}
	return "configuration"
}

// checkListen returns the host that is listened on.
func (c *config) checkListen(bad func(path, text string)) string {
	host, port, err := net.SplitHostPort(c.Listen)
	if _, err2 := strconv.ParseUint(port, 10, 16); err != nil || err2 != nil {
		bad("listen", "listen must be HOST:PORT with a port of 0 to 65535; write for example "+defaultListen)
		return "127.0.0.1" // so that no second problem comes of it
	}
	if !loopback(host) && c.TLS == (tlsFiles{}) && !c.BehindProxy {
		bad("listen", "listening on "+c.Listen+" would send tokens and secrets over the network in clear; set tls with cert_file and key_file, or behind_proxy: true if a proxy with https stands before it, or listen on 127.0.0.1")
	}
	return host
}

func (c *config) checkPublicURL(listenHost string, bad func(path, text string)) {
	if c.PublicURL == "" {
		switch {
		case c.BehindProxy:
			bad("behind_proxy", "behind_proxy needs public_url; set it to the https URL of the proxy under which clients reach this server")
		case unspecified(listenHost):
			bad("listen", "clients cannot reach a server under "+c.Listen+"; set public_url to the URL under which they do")
		}
		return
	}
	u, err := url.Parse(c.PublicURL)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.User != nil:
		bad("public_url", "public_url must be an https URL without user, query and fragment (RFC 8414 section 2); write for example https://login.example.com")
	case strings.Trim(u.Path, "/") != "":
		bad("public_url", "public_url must not have a path, since the server answers at the root; give it a host name of its own")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		bad("public_url", "public_url must be https unless its host is loopback (RFC 8414 section 2); write https://"+u.Host)
	case u.Scheme == "http" && c.TLS != (tlsFiles{}):
		bad("public_url", "public_url is http and tls is set; write https://"+u.Host+", or delete tls")
	case u.Scheme == "https" && c.TLS == (tlsFiles{}) && !c.BehindProxy:
		bad("public_url", "public_url is https and nothing here speaks https; set tls with cert_file and key_file, or behind_proxy: true if a proxy does")
	}
}

func (c *config) checkTLS(bad func(path, text string)) {
	switch {
	case c.TLS == (tlsFiles{}):
	case c.places["tls.cert_file"] == "":
		bad("tls", "tls has no cert_file; add the file with the certificate chain in PEM")
	case c.places["tls.key_file"] == "":
		bad("tls", "tls has no key_file; add the file with the private key in PEM")
	case c.TLS.CertFile != "" && c.TLS.KeyFile != "":
		if _, err := tls.LoadX509KeyPair(c.TLS.CertFile, c.TLS.KeyFile); err != nil {
			bad("tls", "the certificate cannot be used: "+err.Error()+"; name a certificate and its private key, both in PEM")
		}
	}
}

// checkDatabase warns of a database across the network without TLS, and of
// servers on it that would refuse each other's tokens.
func (c *config) checkDatabase() {
	if !c.Database.IsZero() && c.PublicURL == "" {
		c.warn(c.placeOf("database"), "servers on one database need the same public_url, which is the issuer of all tokens; set it before a second server is started")
	}
	remote := slices.ContainsFunc(c.Database.Hosts, func(host string) bool { return !loopback(host) && !strings.HasPrefix(host, "/") })
	if remote && !c.Database.Encrypted {
		c.warn(c.placeOf("database"), "what the database is told may cross the network in clear; add sslmode=verify-full to its connection string, and sslrootcert where its certificate needs one")
	}
}

func (c *config) checkRootKey(env func(string) (string, bool), bad func(path, text string)) {
	fromEnv, ok := env(rootKeyEnv)
	if ok {
		c.places[rootKeyEnv] = rootKeyEnv
	}
	if ok && fromEnv == "" {
		bad(rootKeyEnv, "is set and empty; give it the root key, or unset it")
	}
	var given []string
	for _, source := range []struct {
		path string
		set  bool
	}{
		{rootKeyEnv, c.places[rootKeyEnv] != ""},
		{"root_key", !c.RootKey.Empty()},
		{"root_key_file", c.RootKeyFile != ""},
		{"root_key_command", c.RootKeyCommand != ""},
	} {
		if source.set {
			given = append(given, source.path)
		}
	}
	if len(given) > 1 {
		bad(given[len(given)-1], "the root key is given in more than one way ("+strings.Join(given, ", ")+"); keep one")
	}
	for _, given := range [][2]string{{"root_key", c.RootKey.Reveal()}, {rootKeyEnv, fromEnv}} {
		if _, err := secret.ParseRoot([]byte(given[1])); err != nil && given[1] != "" {
			bad(given[0], err.Error()+"; give the one that this server was first started with")
		}
	}
	if info, err := os.Stat(c.RootKeyFile); c.RootKeyFile != "" && err == nil && info.Mode().Perm()&0o004 != 0 {
		c.warn(c.placeOf("root_key_file"), "everybody on this machine can read the root key; run `chmod 600 %s`", c.RootKeyFile)
	}
}

func (c *config) checkClients(exposed bool, bad func(path, text string)) {
	seen := map[string]string{}
	for i := range c.Issuer.Clients {
		client := &c.Issuer.Clients[i]
		if client.ID == "" {
			if _, ok := c.places[client.path+".id"]; !ok {
				bad(client.path, "a client has no id; add one")
			}
			continue
		}
		if earlier, ok := seen[client.ID]; ok {
			bad(client.path, "client "+client.ID+" is declared twice, first at "+earlier+"; keep one")
		}
		seen[client.ID] = c.placeOf(client.path)
		_, secretSet := c.places[client.path+".secret"]
		c.checkSecret(client.path+".secret", "client "+client.ID, "secret", "delete the key for a public client", secretSet, client.Secret, exposed, bad)
		checked := client.Client
		if secretSet {
			checked.Secrets = []secret.Verifier{secret.Slow()} // stands for the secret's own, which takes time to make
		}
		if err := checked.Check(); err != nil {
			text := strings.TrimPrefix(err.Error(), issuer.ErrBadClient.Error()+" ")
			bad(client.path, "client "+text+"; mend or delete this client")
		}
		c.warnLifetimes(*client)
	}
	c.warnLifetimes(declaredClient{path: "issuer"})
}

// warnLifetimes warns of a refresh token that dies before the access token that
// it is to renew, once, where one of the two was set.
func (c *config) warnLifetimes(client declaredClient) {
	policy := c.policyOf(client.Client)
	access, refresh := policy.AccessTokenLifetime, policy.RefreshTokenLifetime
	if refresh <= 0 || refresh >= access {
		return
	}
	for _, key := range []string{"refresh_token_lifetime", "access_token_lifetime", "access_lifetime"} {
		if place, set := c.places[client.path+"."+key]; set {
			c.warn(place, "refresh_token_lifetime %s is shorter than access_token_lifetime %s, so that a client which refreshes at expiry is logged out; make it longer", refresh, access)
			return
		}
	}
}

func (c *config) checkUsers(exposed bool, bad func(path, text string)) {
	seen := map[string]string{}
	for _, user := range c.Issuer.Users {
		if _, ok := c.places[user.path+".username"]; !ok {
			bad(user.path, "a user has no username; add one")
			continue
		}
		if user.Username == "" {
			continue // said already
		}
		if err := (issuer.User{Username: user.Username, Password: secret.Slow()}).Check(); err != nil {
			bad(user.path, strings.TrimPrefix(err.Error(), "bad ")+"; mend it")
			continue
		}
		if earlier, ok := seen[user.Username]; ok {
			bad(user.path, "user "+user.Username+" is declared twice, first at "+earlier+"; keep one")
		}
		seen[user.Username] = c.placeOf(user.path)
		if _, ok := c.places[user.path+".password"]; !ok {
			bad(user.path, "user "+user.Username+" has no password; add one")
			continue
		}
		c.checkSecret(user.path+".password", "user "+user.Username, "password", "delete the user", true, user.Password, exposed, bad)
	}
}

// checkSecret refuses an empty secret, and a short one of a server that others
// can reach; on loopback a short one is for trying things out.
func (c *config) checkSecret(path, of, what, orElse string, set bool, text secret.Text, exposed bool, bad func(path, text string)) {
	switch n := len(text.Reveal()); {
	case !set || c.unread[path]:
	case n == 0:
		bad(path, "the "+what+" of "+of+" is empty; give it a value, or "+orElse)
	case n < shortSecret && exposed:
		bad(path, "the "+what+" of "+of+" has fewer than 8 characters, which can be guessed; use a longer one")
	case n < shortSecret:
		c.warn(c.placeOf(path), "the %s of %s has fewer than 8 characters; it will be refused once the server listens beyond loopback", what, of)
	}
}

// loopback reports whether a host is this machine.
func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && addr.IsLoopback())
}

// unspecified reports whether a host means all addresses of this machine.
func unspecified(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "" || (err == nil && addr.IsUnspecified())
}

func hostOf(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// asProblems is what is wrong with the configuration, if the error says that.
func asProblems(err error) (problems, bool) { return errors.AsType[problems](err) }
