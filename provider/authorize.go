package provider

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/oauth"
)

// Authorization is an authorization request.
type Authorization struct {
	State     string
	Challenge string // S256 code challenge; not sent where the definition has no PKCE
	Params    map[string]string
	Scope     oauth.Scope // p.Scopes() where nil
	Owner     string
}

// AuthorizeURL is where the owner's browser is sent (RFC 6749 section 4.1.1).
// The error is an *[Error].
func (p *Provider) AuthorizeURL(ctx context.Context, a Authorization) (string, error) {
	d := &p.cfg.Definition
	v := p.values(Call{Params: a.Params, Scope: a.Scope, Owner: a.Owner})
	delete(v, "client_secret")
	v["state"], v["code_challenge"] = a.State, a.Challenge
	template := d.AuthorizeURL
	if template == "" {
		found, err := p.discover(ctx, v)
		if err != nil {
			return "", err
		}
		template = found.AuthorizationEndpoint
	}
	if template == "" || p.cfg.RedirectURI == "" {
		return "", unwritten(errors.New("owners cannot be sent to the provider without its authorize_url and a redirect URI of ours"))
	}
	u, err := v.renderURL(template)
	if err == nil {
		err = p.permitted(u)
	}
	if err != nil {
		return "", unwritten(err)
	}
	templates := map[string]*string{
		"response_type": new("code"), "client_id": new("{client_id}"), "redirect_uri": new("{redirect_uri}"),
		"scope": new("{scope}"), "state": new("{state}"),
	}
	if d.Authorize.PKCE != pkceNone && a.Challenge != "" {
		templates["code_challenge"], templates["code_challenge_method"] = new("{code_challenge}"), new(oauth.S256)
	}
	maps.Copy(templates, d.Authorize.Params)
	params, err := v.renderAll(templates)
	if err != nil {
		return "", unwritten(err)
	}
	query := url.Values{}
	for name, value := range params {
		query.Set(name, value)
	}
	u.RawQuery = strings.Trim(u.RawQuery+"&"+query.Encode(), "&")
	return u.String(), nil
}

// pkceNone says that a provider does not know PKCE.
const pkceNone = "none"

// Redirected takes what the redirect to the callback tells of a connection:
// params and metadata to keep. issuer, where the provider publishes one, is
// compared with the parameter iss (RFC 9207), which must be there if the
// metadata, where it has been read, says so. (It is not compared where it
// differs between connections.)
func (p *Provider) Redirected(query map[string][]string) (params map[string]string, kept map[string]any, err error) {
	if err := p.checkIssuer(query["iss"]); err != nil {
		return nil, nil, err
	}
	told := map[string]any{}
	for name, given := range query {
		if len(given) > 0 {
			told[name] = given[0]
		}
	}
	params = p.told(told, "redirect:")
	for name, param := range p.cfg.Definition.Params {
		from, ok := strings.CutPrefix(param.From, "redirect:")
		if ok && text(told[from]) != "" && params[name] == "" {
			return nil, nil, fmt.Errorf("%s: the provider's redirect has a value of %s that %s cannot have; mend the param's pattern if it is right", p.cfg.Name, from, name)
		}
	}
	return params, Tokens{}.keep(told, p.cfg.Definition.Authorize.Keep), nil
}

func (p *Provider) checkIssuer(given []string) error {
	names, err := templateNames(p.cfg.Definition.Issuer)
	if p.cfg.Definition.Issuer == "" || len(names) > 0 || err != nil {
		return nil
	}
	issuer := p.cfg.Definition.Issuer
	switch found := p.discovery.get(issuer); {
	case len(given) == 0 && (found == nil || !found.AuthorizationResponseIssSupported):
		return nil
	case len(given) != 1 || given[0] != issuer:
		return fmt.Errorf("%s: the redirect does not say that it comes from %s; begin to connect anew", p.cfg.Name, issuer)
	}
	return nil
}

// CheckParams fills in defaults and refuses params that the definition does not
// have, that do not match its patterns or that are missing. One that the
// provider tells need not be given, and one that the registration sets cannot be
// given otherwise.
func (p *Provider) CheckParams(params map[string]string) (map[string]string, error) {
	known := p.cfg.Definition.Params
	for _, name := range slices.Sorted(maps.Keys(params)) {
		param, ok := known[name]
		set := p.cfg.Params[name]
		switch {
		case !ok && len(known) == 0:
			return nil, fmt.Errorf("%s has no params; leave %q out", p.cfg.Name, name)
		case !ok:
			return nil, fmt.Errorf("%s has no param %q; it has %s", p.cfg.Name, name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		case p.fixed[name] && params[name] != "" && params[name] != cmp.Or(set, param.Default):
			return nil, fmt.Errorf("the param %s of %s decides where secrets are sent; set it in the registration, under params", name, p.cfg.Name)
		case set != "" && params[name] != set && params[name] != "":
			return nil, fmt.Errorf("the param %s of %s is set by its registration; leave it out", name, p.cfg.Name)
		case params[name] != "" && !p.patterns[name].MatchString(params[name]):
			return nil, fmt.Errorf("the param %s of %s must match %s", name, p.cfg.Name, param.Pattern)
		}
	}
	filled := p.params(params)
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if _, ok := filled[name]; !ok && known[name].From == "" {
			return nil, fmt.Errorf("%s needs the param %s (%s)", p.cfg.Name, name, known[name].Title)
		}
	}
	return filled, nil
}

// params are those of a connection, with defaults, and over all what the
// registration sets for every connection. One that is empty is there only if it
// may be empty.
func (p *Provider) params(given map[string]string) map[string]string {
	params := map[string]string{}
	for name, param := range p.cfg.Definition.Params {
		value := p.cfg.Params[name]
		if value == "" && !p.fixed[name] {
			value = given[name]
		}
		if value == "" {
			value = param.Default
		}
		if value != "" || param.From == "" && p.patterns[name].MatchString("") {
			params[name] = value
		}
	}
	return params
}
