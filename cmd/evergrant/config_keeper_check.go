package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/internal/web"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
)

// checkKeeper makes definitions of what the registrations give, and finds what
// is wrong or unsafe in them.
func (c *config) checkKeeper(exposed bool) problems {
	var wrong problems
	bad := func(path, text string) { wrong = append(wrong, problem{c.placeOf(path), text}) }
	c.checkWebhooks(exposed, bad)
	if len(c.Keeper.Providers) == 0 && c.Keeper.Definitions == "" {
		return wrong
	}
	catalogue, found := c.catalogue()
	if len(found) > 0 {
		return append(wrong, found...) // without it, too much else would seem to be missing
	}
	seen := map[string]string{}
	for i := range c.Keeper.Providers {
		p := &c.Keeper.Providers[i]
		if p.Name == "" {
			if _, ok := c.places[p.path+".name"]; !ok {
				bad(p.path, "a provider has no name; add one, under which connections find it")
			}
			continue
		}
		if earlier, ok := seen[p.Name]; ok {
			bad(p.path, "provider "+p.Name+" is registered twice, first at "+earlier+"; give each a name of its own")
			continue
		}
		seen[p.Name] = c.placeOf(p.path)
		before := len(wrong)
		c.checkCredentials(p, bad)
		wrong = append(wrong, c.define(p, catalogue)...)
		if len(wrong) > before || p.unread {
			continue
		}
		if c.checkURLs(p, bad); len(wrong) > before {
			continue
		}
		if _, err := provider.New(c.registration(p, defaultServer)); err != nil {
			bad(p.path, err.Error())
		}
	}
	return wrong
}

// catalogue is the built-in one with the definitions of the directory over it.
func (c *config) catalogue() (*provider.Catalogue, problems) {
	catalogue := provider.Builtin()
	dir := c.Keeper.Definitions
	if dir == "" {
		return catalogue, nil
	}
	place := c.placeOf("keeper.definitions")
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		reason := "it is a file"
		if err != nil {
			reason = err.Error()
		}
		return catalogue, problems{{place, "definitions names no directory: " + reason + "; name one with *.yaml files, or delete the key"}}
	}
	over, err := catalogue.Over(os.DirFS(dir))
	if found, ok := errors.AsType[provider.Problems](err); ok {
		var wrong problems
		for _, p := range found {
			wrong = append(wrong, problem{filepath.Join(dir, p.Place), p.Text})
		}
		return catalogue, wrong
	}
	if err != nil {
		return catalogue, problems{{place, "definitions: " + err.Error() + "; mend the directory"}}
	}
	return over, nil
}

// checkCredentials looks at what a registration must have whatever its
// definition is.
func (c *config) checkCredentials(p *declaredProvider, bad func(path, text string)) {
	_, id := c.places[p.path+".client_id"]
	_, one := c.places[p.path+".client_secret"]
	_, many := c.places[p.path+".client_secrets"]
	switch {
	case !id:
		bad(p.path, "provider "+p.Name+" has no client_id; add the one that the provider gave you when you registered your app")
	case one && many:
		bad(p.path+".client_secrets", "provider "+p.Name+" has client_secret and client_secrets; keep one")
	}
	for i, text := range p.ClientSecrets {
		path := p.path + ".client_secret"
		if many && !one {
			path = fmt.Sprintf("%ss[%d]", path, i)
		}
		if text.Empty() && !c.unread[path] {
			bad(path, "the client_secret of provider "+p.Name+" is empty; give it a value, or delete the key for a public client")
		}
	}
}

// define makes the definition of a registration: the one that it names, or that
// has its name, or none, with its own fields over it.
func (c *config) define(p *declaredProvider, catalogue *provider.Catalogue) problems {
	base, ok := catalogue.Definition(cmp.Or(p.Base, p.Name))
	if !ok && p.Base != "" {
		path := p.path + ".definition"
		return problems{{c.placeOf(path), "there is no definition " + p.Base + didYouMean(p.Base, catalogue.Names()) +
			"; `evergrant provider catalogue` lists them, or delete the key and give token_url and authorize_url here"}}
	}
	if !ok {
		base = provider.Definition{Name: p.Name}
		if !p.gives("issuer", "token_url") {
			return problems{{c.placeOf(p.path), "the catalogue has no definition " + p.Name + didYouMean(p.Name, catalogue.Names()) +
				"; name one with definition, or give issuer, or token_url and authorize_url"}}
		}
	}
	p.definition = base
	if len(p.fields) == 0 || p.unread {
		return nil
	}
	made, err := provider.Overlay(base, c.file, p.fields)
	if found, ok := errors.AsType[provider.Problems](err); ok {
		return p.without(found)
	}
	if err != nil {
		return problems{{c.placeOf(p.path), err.Error()}}
	}
	p.definition = made
	return nil
}

func (p *declaredProvider) gives(keys ...string) bool {
	for _, field := range p.fields {
		for _, key := range keys {
			if pairKey(field) == key {
				return true
			}
		}
	}
	return false
}

// without are the problems of a definition without what stands in variables,
// which may be secret.
func (p *declaredProvider) without(found provider.Problems) problems {
	var wrong problems
	for _, f := range found {
		text := f.Text
		if raw, ok := p.variables[f.Place]; ok {
			text = "the value of " + raw + " is not valid; mend the variable"
		}
		wrong = append(wrong, problem{f.Place, text})
	}
	return wrong
}

// registration is what the keeper is to know of an app, for a server that
// browsers reach at a URL.
func (c *config) registration(p *declaredProvider, publicURL string) provider.Config {
	return provider.Config{
		Name: p.Name, Definition: p.definition, ClientID: p.ClientID, ClientSecrets: p.ClientSecrets,
		RedirectURI: publicURL + web.CallbackPath, Scopes: p.Scopes, Params: p.Params,
		AllowPrivateNetworks: c.Keeper.AllowPrivateNetworks,
	}
}

// templated is one name in braces, whose value is known only later.
var templated = regexp.MustCompile(`\{[^{}]*\}`)

// checkURLs refuses what would send secrets in clear or into this network.
func (c *config) checkURLs(p *declaredProvider, bad func(path, text string)) {
	const mend = "; write an https URL of a public host, or set keeper.allow_private_networks: true for tests and providers in your own network"
	for _, at := range definitionURLs(p.definition) {
		u, err := url.Parse(templated.ReplaceAllString(at.url, "x"))
		if err != nil || u.Host == "" {
			continue // relative, or refused with the definition
		}
		path := p.path + "." + at.key
		clear, private := u.Scheme == "http", privateHost(u.Hostname())
		switch {
		case c.Keeper.AllowPrivateNetworks && clear && !private:
			c.warn(c.placeOf(path), "%s of provider %s is http: secrets and tokens cross the network in clear", at.key, p.Name)
		case c.Keeper.AllowPrivateNetworks:
		case clear:
			bad(path, at.key+" of provider "+p.Name+" is http, which would send secrets and tokens in clear"+mend)
		case private:
			bad(path, at.key+" of provider "+p.Name+" points into a private network ("+u.Hostname()+")"+mend)
		}
	}
}

// keyURL is a URL of a definition and the key under which it stands.
type keyURL struct{ key, url string }

func definitionURLs(d provider.Definition) []keyURL {
	urls := []keyURL{
		{"issuer", d.Issuer}, {"authorize_url", d.AuthorizeURL}, {"token_url", d.TokenURL}, {"revoke_url", d.RevokeURL},
		{"token.url", d.Token.URL}, {"exchange.url", d.Exchange.URL}, {"refresh.url", d.Refresh.URL},
		{"client_credentials.url", d.ClientCredentials.URL}, {"revoke.url", d.Revoke.URL}, {"api.base_url", d.API.BaseURL},
	}
	for i, step := range d.Remint.Steps {
		urls = append(urls, keyURL{fmt.Sprintf("remint.steps[%d].url", i), step.URL})
	}
	return urls
}

// privateHost reports whether a host is an address that no public server has.
func privateHost(host string) bool {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return host == "localhost" || strings.HasSuffix(host, ".localhost")
	}
	addr = addr.Unmap()
	return addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast() || addr.IsUnspecified()
}

func (c *config) checkWebhooks(exposed bool, bad func(path, text string)) {
	seen := map[string]string{}
	for i := range c.Keeper.Webhooks {
		hook := &c.Keeper.Webhooks[i]
		if _, ok := c.places[hook.path+".url"]; !ok {
			bad(hook.path, "a webhook has no url; add the one that is to be told of events")
			continue
		}
		if hook.URL == "" {
			continue // said already
		}
		u, err := url.Parse(hook.URL)
		switch {
		case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.Fragment != "":
			bad(hook.path+".url", "url of a webhook must be an https URL without user and fragment; write for example https://app.example.com/hooks")
			continue
		case c.Keeper.AllowPrivateNetworks:
		case u.Scheme == "http" || privateHost(u.Hostname()):
			bad(hook.path+".url", "url of a webhook is http or points into a private network; write an https URL of a public host, or set keeper.allow_private_networks: true")
		}
		// The path of a URL may be a secret, and names are shown.
		hook.Name = cmp.Or(hook.Name, u.Host)
		if earlier, ok := seen[hook.Name]; ok {
			bad(hook.path, "webhook "+hook.Name+" is there twice, first at "+earlier+"; give each a name of its own")
		}
		seen[hook.Name] = c.placeOf(hook.path)
		if len(hook.Events) == 0 {
			hook.Events = []string{"*"}
		}
		path := hook.path + ".secret"
		if _, ok := c.places[path]; !ok {
			bad(hook.path, "webhook "+hook.Name+" has no secret, by which its receiver knows that an event is from here; add one, such as `openssl rand -base64 32` prints")
			continue
		}
		c.checkSecret(path, "webhook "+hook.Name, "secret", "delete the webhook", true, hook.Secret, exposed, bad)
	}
}

// knownEvents says whether a pattern can match any event.
func knownEvents(pattern string) error {
	prefix, all := strings.CutSuffix(pattern, "*")
	for _, event := range eventTypes() {
		if event == pattern || all && (prefix == "" || strings.HasSuffix(prefix, ".") && strings.HasPrefix(event, prefix)) {
			return nil
		}
	}
	known := eventTypes()
	for _, event := range eventTypes() {
		family, _, _ := strings.Cut(event, ".")
		if !slices.Contains(known, family+".*") {
			known = append(known, family+".*")
		}
	}
	return fmt.Errorf("there are no events %q%s", pattern, didYouMean(pattern, known))
}

// eventTypes are all that can happen, of both halves.
func eventTypes() []string {
	return []string{
		keeper.EventCreated, keeper.EventConnected, keeper.EventRefreshed, keeper.EventReminted, keeper.EventFailed, keeper.EventInDoubt,
		keeper.EventRecovered, keeper.EventReauthorize, keeper.EventExpiring, keeper.EventScopeChanged, keeper.EventRotationChanged,
		keeper.EventPaused, keeper.EventResumed, keeper.EventDeleted, keeper.EventProviderDown, keeper.EventProviderUp,
		keeper.EventBadClient, keeper.EventBadDefinition, keeper.EventResealed,
		issuer.EventGrantCreated, issuer.EventGrantHealed, issuer.EventGrantRevoked, issuer.EventReuseDetected, issuer.EventCodeReplayed,
		issuer.EventGrantRefused, issuer.EventAccessTokenRevoked, issuer.EventClientRefused, issuer.EventClientSaved, issuer.EventClientDeleted,
		issuer.EventLoginSucceeded, issuer.EventLoginFailed, issuer.EventUserSaved, issuer.EventUserDeleted, issuer.EventKeyRotated,
		issuer.EventKeyDeleted, issuer.EventBackedUp, issuer.EventRestored,
	}
}
