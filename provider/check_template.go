package provider

import (
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// What templates may name, besides params.
const (
	namesInURL      = "client_id owner uuid now"
	namesInRequest  = "client_id client_secret redirect_uri scope owner uuid now"
	namesInExchange = namesInRequest + " code code_verifier"
	namesOfTokens   = namesInRequest + " access_token refresh_token"
	namesInAPI      = namesInRequest + " access_token"
	namesOfOwner    = "client_id redirect_uri scope state code_challenge owner uuid now"
)

// When the provider has told what: params that it tells are known later than
// those that a connection is made with.
const (
	atAuthorization = iota
	atExchange      // the redirect is known
	afterwards      // a token answer is known
)

// place is where a template stands.
type place struct {
	path  string
	names string
	stage int
	saved map[string]bool // by earlier steps; nil outside of steps
}

// templates checks all templates, and notes which params they use.
func (c *checker) templates() {
	exchangeURL := atExchange
	if c.Exchange.URL != "" {
		exchangeURL = afterwards
	}
	c.url(c.Issuer, place{path: "issuer"})
	c.url(c.AuthorizeURL, place{"authorize_url", namesInURL, atAuthorization, nil})
	c.url(c.TokenURL, place{"token_url", namesInURL, exchangeURL, nil})
	c.url(c.RevokeURL, place{"revoke_url", namesInURL, afterwards, nil})
	for _, name := range slices.Sorted(maps.Keys(c.Authorize.Params)) {
		if text := c.Authorize.Params[name]; text != nil {
			c.template(*text, place{"authorize.params." + name, namesOfOwner, atAuthorization, nil})
		}
	}
	c.requestTemplates(c.Token, place{"token", namesInRequest, atExchange, nil})
	c.requestTemplates(c.Exchange, place{"exchange", namesInExchange, atExchange, nil})
	c.requestTemplates(c.Refresh, place{"refresh", namesOfTokens, afterwards, nil})
	c.requestTemplates(c.ClientCredentials, place{"client_credentials", namesInRequest, atAuthorization, nil})
	c.requestTemplates(c.Revoke, place{"revoke", namesOfTokens, afterwards, nil})
	saved := map[string]bool{}
	for i, step := range c.Remint.Steps {
		c.requestTemplates(step.Request, place{"remint.steps." + strconv.Itoa(i), namesOfTokens, afterwards, saved})
		for name := range step.Save {
			saved[name] = true
		}
	}
	c.url(c.API.BaseURL, place{"api.base_url", namesInURL, afterwards, nil})
	c.headerTemplates(c.API.Headers, place{"api.headers.", namesInAPI, afterwards, nil})
	if text := c.API.Authorization; text != "" {
		c.template(text, place{"api.authorization", namesInAPI, afterwards, nil})
		if names, err := templateNames(text); err == nil && !slices.Contains(names, "access_token") {
			c.bad("api.authorization", "api.authorization does not send the token; write {access_token} where it belongs")
		}
	}
	if c.API.Check != "" && (c.API.BaseURL == "" || c.API.Check[0] != '/') {
		c.bad("api.check", "api.check must be a path below api.base_url that begins with /; write for example /users/me, and base_url beside it")
	}
}

func (c *checker) requestTemplates(r Request, p place) {
	path, names := p.path, p.names
	p.path, p.names = path+".url", namesInURL
	c.url(r.URL, p)
	p.names = names
	for _, name := range slices.Sorted(maps.Keys(r.Params)) {
		if text := r.Params[name]; text != nil {
			p.path = path + ".params." + name
			c.template(*text, p)
		}
	}
	p.path = path + ".headers."
	c.headerTemplates(r.Headers, p)
}

func (c *checker) headerTemplates(headers map[string]string, p place) {
	path := p.path
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		p.path = path + name
		c.template(headers[name], p)
	}
}

// template checks the names in a text, and reports whether they are in order.
func (c *checker) template(text string, p place) bool {
	names, err := templateNames(text)
	if err != nil {
		c.bad(p.path, "%s has braces that hold no name, or do not match; write names in braces, such as {client_id}", p.path)
		return false
	}
	before := len(c.found)
	for _, name := range names {
		kind, rest, dotted := strings.Cut(name, ".")
		switch {
		case dotted && kind == "params":
			c.param(rest, p, !strings.Contains(text, "|"))
		case dotted && kind == "saved" && p.saved != nil:
			if !p.saved[rest] {
				c.bad(p.path, "%s uses {%s}, which no earlier step saves; save it there, or correct the name", p.path, name)
			}
		case slices.Contains(strings.Fields(p.names), name):
		case p.names == namesInURL && slices.Contains(secretNames, name):
			c.bad(p.path, "%s puts {%s} into a URL, which logs show; send it as a parameter or in a header", p.path, name)
		default:
			c.bad(p.path, "%s uses {%s}, which is not known here; known are %s", p.path, name, strings.Join(known(p), ", "))
		}
	}
	return len(c.found) == before
}

func known(p place) []string {
	names := append(strings.Fields(p.names), "params.NAME")
	if p.saved != nil {
		names = append(names, "saved.NAME")
	}
	return names
}

// param checks the use of a param. alone says that there is no other value to
// take in its place.
func (c *checker) param(name string, p place, alone bool) {
	c.used[name] = true
	param, declared := c.Params[name]
	from, _, _ := strings.Cut(param.From, ":")
	switch {
	case !declared:
		c.bad(p.path, "%s uses {params.%s}, which is not declared; add %s to params", p.path, name, name)
	case !alone || param.Default != "":
	case from == "answer" && p.stage < afterwards, from == "redirect" && p.stage < atExchange:
		c.bad(p.path, "%s needs {params.%s} before the provider tells it (from: %s); give the param a default", p.path, name, param.From)
	}
}

var inBraces = regexp.MustCompile(`\{[^}]*\}`)

// url checks a URL with names in it, all but that of its host. http is let
// through: a registration may allow it.
func (c *checker) url(text string, p place) {
	if text == "" || !c.template(text, p) {
		return
	}
	if first := inBraces.FindString(text); first != "" && strings.HasPrefix(text, first) {
		c.urlParam(text, first, p)
		return
	}
	u, err := url.Parse(inBraces.ReplaceAllString(text, "1"))
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.Fragment != "" || u.RawQuery != "" && p.path == "issuer" {
		c.bad(p.path, "%s is not an https URL without user and fragment; write for example https://login.example.com/oauth/token", p.path)
		return
	}
	_, rest, _ := strings.Cut(text, "://")
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		rest = rest[:end]
	}
	host, _, _ := strings.Cut(rest, ":")
	c.host(host, p)
}

// host checks which params decide a host, to which secrets are sent: whoever
// makes a connection gives them.
func (c *checker) host(host string, p place) {
	end := strings.LastIndexByte(host, '}')
	if end < 0 {
		return
	}
	names, _ := templateNames(host)
	for _, name := range names {
		param, ok := strings.CutPrefix(name, "params.")
		switch {
		case !ok:
			c.bad(p.path, "%s has {%s} in its host, where only params may stand; write the host out, or declare a param", p.path, name)
		case !inDomain(host) && c.Params[param].Pattern == "":
			c.bad(p.path, "%s lets {%s} be any host, and secrets are sent there; give the param a pattern of the hosts that it may be", p.path, name)
		}
	}
}

// inDomain reports whether the end of a host is written out, as a domain that
// one owner has.
func inDomain(host string) bool {
	domain := host[strings.LastIndexByte(host, '}')+1:]
	return strings.HasPrefix(domain, ".") && strings.Count(domain, ".") > 1
}

// urlParam checks a URL that begins with params, which are whole origins.
func (c *checker) urlParam(text, first string, p place) {
	if rest := text[len(first):]; rest != "" && rest[0] != '/' && rest[0] != '?' {
		c.bad(p.path, "%s continues the host that {%s} begins; write / after it, or the whole host as a param", p.path, first[1:len(first)-1])
		return
	}
	names, _ := templateNames(first)
	for _, name := range names {
		param, ok := strings.CutPrefix(name, "params.")
		pattern := c.Params[param].Pattern
		if literal, err := regexp.Compile(pattern); err == nil && ok {
			if prefix, _ := literal.LiteralPrefix(); strings.HasPrefix(prefix, "http") {
				continue
			}
		}
		c.bad(p.path, "%s begins with {%s}, which may be anything; write https:// before it, or give the param a pattern that begins with https://", p.path, name)
	}
}
