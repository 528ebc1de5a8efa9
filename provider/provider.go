// Package provider calls third-party authorization servers. What is known of one
// is data, a [Definition]; no provider has code of its own. Built in is a
// [Catalogue] of them.
//
// A [Provider] is a definition with an app that is registered there. [Provider.Send]
// sends one request once and says of a failure whether it was sent,
// [Provider.Read] reads the answer, and an [Error] says what that means for a
// connection: so a caller can write down what it is about to do and what came of
// it, and never spends a refresh token twice without knowing.
//
// # Templates
//
// Texts of a definition may name values in braces. {a|b} is the first of them
// that is not empty.
//
//	client_id, client_secret, redirect_uri   of the registered app
//	params.NAME                              of the connection
//	owner, scope                             of the connection
//	access_token, refresh_token              of the connection
//	code, code_verifier                      of an exchange
//	state, code_challenge                    of an authorization request
//	saved.NAME                               by an earlier step of a re-mint
//	uuid                                     random, new for each request
//	now                                      in seconds since the epoch
//
// In URLs values are percent-encoded. In their host only params may stand.
package provider

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// Config registers an app of ours at a provider.
type Config struct {
	Name          string // of the registration; the definition's where empty
	Definition    Definition
	ClientID      string
	ClientSecrets []secret.Text     // the next is tried where one is refused; none for a public client
	RedirectURI   string            // of the callback; may be empty where owners do not connect
	Scopes        oauth.Scope       // asked for; the definition's where empty
	Params        map[string]string // for all connections

	// AllowPrivateNetworks permits http URLs and loopback, private and link-local
	// addresses.
	AllowPrivateNetworks bool
	// Dial opens connections; a net.Dialer where nil. Addresses are checked
	// before it is called with a literal IP address.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	TLS  *tls.Config      // roots and the like; the system's where nil
	Now  func() time.Time // time.Now where nil
}

// Provider is a third-party authorization server at which an app of ours is
// registered. It is safe for concurrent use.
type Provider struct {
	cfg       Config
	patterns  map[string]*regexp.Regexp // of params
	fixed     map[string]bool           // params that only the registration sets
	resolve   func(ctx context.Context, host string) ([]netip.Addr, error)
	once      *http.Transport // for token requests
	api       *http.Transport
	discovery discovery
}

// New checks a registration and its definition.
func New(cfg Config) (*Provider, error) {
	if cfg.Name == "" {
		cfg.Name = cfg.Definition.Name
	}
	fail := func(err error) (*Provider, error) { return nil, fmt.Errorf("provider %s: %w", cfg.Name, err) }
	var found []error
	for _, f := range cfg.Definition.faults() {
		found = append(found, errors.New(f.text))
	}
	if len(found) > 0 {
		return fail(errors.Join(found...))
	}
	if cfg.ClientID == "" {
		return fail(errors.New("there is no client_id; write the one that the provider gave the app"))
	}
	if slices.ContainsFunc(cfg.ClientSecrets, secret.Text.Empty) {
		return fail(errors.New("a client secret is empty; leave it out for a public client"))
	}
	if insecure := cfg.Definition.insecure(); insecure != "" && !cfg.AllowPrivateNetworks {
		return fail(fmt.Errorf("%s is not https; correct it, or set allow_private_networks", insecure))
	}
	cfg.Definition.fill()
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{}).DialContext
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	p := &Provider{cfg: cfg, patterns: map[string]*regexp.Regexp{}}
	for name, param := range cfg.Definition.Params {
		pattern, err := param.compile()
		if err != nil {
			return fail(err)
		}
		p.patterns[name] = pattern
	}
	p.fixed = p.decidingHosts()
	for name, value := range cfg.Params {
		if pattern, known := p.patterns[name]; !known || !pattern.MatchString(value) {
			return fail(fmt.Errorf("its definition has no param %s, or one that must match another pattern than this value", name))
		}
	}
	p.resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	}
	p.once, p.api = p.onceTransport(), p.apiTransport()
	p.discovery = discovery{turn: make(chan struct{}, 1), found: map[string]*discovered{}}
	return p, nil
}

// urls are all that are called or shown.
func (d *Definition) urls() []string {
	urls := []string{d.Issuer, d.AuthorizeURL, d.Token.URL, d.TokenURL, d.RevokeURL,
		d.Exchange.URL, d.Refresh.URL, d.ClientCredentials.URL, d.Revoke.URL, d.API.BaseURL}
	for _, step := range d.Remint.Steps {
		urls = append(urls, step.URL)
	}
	return urls
}

// insecure is the first URL that is not https, or "".
func (d *Definition) insecure() string {
	urls := d.urls()
	i := slices.IndexFunc(urls, func(u string) bool { return strings.HasPrefix(strings.ToLower(u), "http://") })
	if i < 0 {
		return ""
	}
	return urls[i]
}

// decidingHosts are the params that stand for a whole host and that may be any
// host: client secrets and tokens are sent there, so that who makes a connection
// must not choose it.
func (p *Provider) decidingHosts() map[string]bool {
	fixed := map[string]bool{}
	for _, url := range p.cfg.Definition.urls() {
		host := url
		if _, rest, ok := strings.Cut(url, "://"); ok {
			host = rest
		}
		host, _, _ = strings.Cut(host, "/")
		if inDomain(host) {
			continue
		}
		names, _ := templateNames(host) // New has checked it
		for _, name := range names {
			name = strings.TrimPrefix(name, "params.")
			pattern := p.patterns[name]
			fixed[name] = fixed[name] || pattern != nil && p.cfg.Definition.Params[name].Pattern != "" && slices.ContainsFunc(foreignHosts, pattern.MatchString)
		}
	}
	return fixed
}

// foreignHosts are values that only a param matches that may be any host.
var foreignHosts = []string{"attacker.example", "attacker.example:8443", "https://attacker.example", "http://attacker.example", "https://attacker.example/path"}

// Name is the name of the registration.
func (p *Provider) Name() string { return p.cfg.Name }

// Format prints the name, whatever the verb.
func (p *Provider) Format(f fmt.State, _ rune) { io.WriteString(f, p.cfg.Name) }

// LogValue is the name.
func (p *Provider) LogValue() slog.Value { return slog.StringValue(p.cfg.Name) }

// Definition is what is known of the provider, with all defaults filled in.
func (p *Provider) Definition() *Definition { return &p.cfg.Definition }

// Secrets is how many client secrets there are to be tried.
func (p *Provider) Secrets() int { return max(1, len(p.cfg.ClientSecrets)) }

// Scopes are what authorization requests ask for.
func (p *Provider) Scopes() oauth.Scope {
	if len(p.cfg.Scopes) > 0 {
		return p.cfg.Scopes
	}
	return p.cfg.Definition.Authorize.Scopes
}

// TokenHost is the host of the token endpoint for a connection with these
// params, the unit of outages. Where it is to be discovered, it is taken to be
// the issuer's.
func (p *Provider) TokenHost(params map[string]string) string {
	d := &p.cfg.Definition
	common := d.Refresh
	if d.Grant == oauth.GrantClientCredentials {
		common = d.ClientCredentials
	}
	v := p.values(Call{Params: params})
	for _, template := range []string{common.URL, d.Token.URL, d.TokenURL, d.Issuer} {
		if u, err := v.renderURL(template); err == nil {
			return u.Host
		}
	}
	return p.cfg.Name
}
