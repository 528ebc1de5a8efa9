package main

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
	"github.com/goccy/go-yaml/ast"
)

// defaultRefreshAhead is how long before its expiry an access token is
// refreshed.
const defaultRefreshAhead = issuer.Lifetime(5 * time.Minute)

type keeperConfig struct {
	RefreshAhead         issuer.Lifetime    `json:"refresh_ahead"`
	Definitions          string             `json:"definitions,omitempty"` // directory of further definitions
	AllowPrivateNetworks bool               `json:"allow_private_networks"`
	SpoolDir             string             `json:"spool_dir,omitempty"` // "": in the data directory
	Providers            []declaredProvider `json:"providers,omitempty"`
	Webhooks             []declaredWebhook  `json:"webhooks,omitempty"`
}

// declaredProvider is an app that is registered at a provider.
type declaredProvider struct {
	Name          string            `json:"name"`
	Base          string            `json:"definition,omitempty"` // its name in the catalogue; empty where all of it is given here
	ClientID      string            `json:"client_id"`
	ClientSecrets []secret.Text     `json:"client_secrets,omitempty"`
	Scopes        oauth.Scope       `json:"scopes,omitempty"`
	Params        map[string]string `json:"params,omitempty"`

	path       string                  // of its keys in the file
	fields     []*ast.MappingValueNode // of the definition, as given here
	variables  map[string]string       // what was written where variables were put into fields, by place
	unread     bool                    // a field or secret has a problem already
	definition provider.Definition     // what all of it comes to
}

// declaredWebhook is a program elsewhere that is told of events.
type declaredWebhook struct {
	Name   string      `json:"name"`
	URL    string      `json:"-"` // whose path may be a secret
	Secret secret.Text `json:"secret"`
	Events []string    `json:"events"` // patterns such as connection.*
	path   string
}

func (r *reader) keeper(c *keeperConfig) field {
	return r.mapping("keeper", fields{
		"refresh_ahead": r.parsed("write a duration such as 5m", func(text string) (err error) {
			if err = c.RefreshAhead.UnmarshalText([]byte(text)); err == nil && c.RefreshAhead <= 0 {
				err = errors.New("refresh_ahead must be above 0")
			}
			return err
		}),
		"definitions":            r.nonempty(&c.Definitions),
		"allow_private_networks": r.boolean(&c.AllowPrivateNetworks),
		"spool_dir":              r.nonempty(&c.SpoolDir),
		"providers": r.list(func(path string, n ast.Node) {
			p := declaredProvider{path: path, variables: map[string]string{}}
			r.provider(&p)(path, n)
			c.Providers = append(c.Providers, p)
		}),
		"webhooks": r.list(func(path string, n ast.Node) {
			hook := declaredWebhook{path: path}
			r.mapping("a webhook", fields{
				"name":   r.nonempty(&hook.Name),
				"url":    r.nonempty(&hook.URL),
				"secret": r.secretText(&hook.Secret),
				"events": r.texts(&hook.Events, knownEvents),
			})(path, n)
			c.Webhooks = append(c.Webhooks, hook)
		}),
	})
}

// provider reads a registration. Keys that are not the registration's own are
// fields of the definition, which provider.Overlay reads when the catalogue is
// known.
func (r *reader) provider(p *declaredProvider) field {
	own := fields{
		"name":          r.nonempty(&p.Name),
		"definition":    r.nonempty(&p.Base),
		"client_id":     r.nonempty(&p.ClientID),
		"client_secret": r.clientSecret(p),
		"client_secrets": r.list(func(path string, n ast.Node) {
			r.clientSecret(p)(path, n)
		}),
		"scopes": r.texts((*[]string)(&p.Scopes), oneScope),
	}
	known := slices.Sorted(maps.Keys(own))
	known = append(known, definitionKeys()...)
	return r.anyMapping("a provider", func(path, key string, value, at ast.Node) {
		read, ok := own[key]
		switch {
		case ok:
			read(path, value)
		case key == "params":
			r.providerParams(p, path, value, at)
		case slices.Contains(known, key):
			r.keepField(p, path, value, at)
		default:
			r.bad(at, "unknown key %q in a provider%s; known keys here are %s", key, didYouMean(key, known), strings.Join(slices.Sorted(slices.Values(known)), ", "))
		}
	})
}

func (r *reader) clientSecret(p *declaredProvider) field {
	return func(path string, n ast.Node) {
		var text secret.Text
		r.secretText(&text)(path, n)
		p.unread = p.unread || r.unread[path]
		p.ClientSecrets = append(p.ClientSecrets, text)
	}
}

// definitionKeys are the keys of a definition but its name, which a
// registration has itself.
func definitionKeys() []string {
	var keys []string
	for definition := range reflect.TypeFor[provider.Definition]().Fields() {
		if name, _, _ := strings.Cut(definition.Tag.Get("yaml"), ","); name != "name" {
			keys = append(keys, name)
		}
	}
	return keys
}

// providerParams reads what both halves call params: a text is the value for all
// connections, a mapping belongs to the definition.
func (r *reader) providerParams(p *declaredProvider, path string, n, key ast.Node) {
	p.Params = map[string]string{}
	described := ast.Mapping(key.GetToken(), false)
	r.anyMapping("params", func(path, name string, value, at ast.Node) {
		switch value.(type) {
		case *ast.MappingNode, *ast.MappingValueNode:
			r.expandBelow(p, path, value)
			described.Values = append(described.Values, keyed(at, value))
		default:
			var text string
			r.text(&text)(path, value)
			p.Params[name] = text
		}
	})(path, n)
	if len(described.Values) > 0 {
		p.fields = append(p.fields, keyed(key, described))
	}
}

func (r *reader) keepField(p *declaredProvider, path string, n, key ast.Node) {
	r.expandBelow(p, path, n)
	p.fields = append(p.fields, keyed(key, n))
}

// keyed is a key, which is one of a mapping already, with a value.
func keyed(key, value ast.Node) *ast.MappingValueNode {
	return ast.MappingValue(key.GetToken(), key.(ast.MapKeyNode), value)
}

// expandBelow puts environment variables into the texts of a field, and notes
// where it did: what is wrong with those lines is told without their values.
func (r *reader) expandBelow(p *declaredProvider, path string, n ast.Node) {
	expand := func(text *string) {
		expanded, ok := r.expand(path, n, *text)
		p.unread = p.unread || !ok
		if ok && expanded != *text {
			p.variables[r.place(n)] = *text
			*text = expanded
		}
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		for _, pair := range n.Values {
			r.expandBelow(p, path, pair)
		}
	case *ast.MappingValueNode:
		r.expandBelow(p, path+"."+pairKey(n), n.Value)
	case *ast.SequenceNode:
		for i, item := range n.Values {
			r.expandBelow(p, fmt.Sprintf("%s[%d]", path, i), item)
		}
	case *ast.StringNode:
		expand(&n.Value)
	case *ast.LiteralNode:
		expand(&n.Value.Value)
	}
}

func pairKey(n *ast.MappingValueNode) string {
	if key, ok := n.Key.(*ast.StringNode); ok {
		return key.Value
	}
	return n.Key.GetToken().Value
}

// didYouMean names the known words that are close to one that is not known.
func didYouMean(word string, known []string) string {
	var close []string
	for _, candidate := range known {
		long := len(word) > 3 && len(candidate) > 3
		if distance(word, candidate) <= 2 || long && (strings.Contains(candidate, word) || strings.Contains(word, candidate)) {
			close = append(close, candidate)
		}
	}
	if len(close) == 0 {
		return ""
	}
	return ", did you mean " + strings.Join(close[:min(len(close), 5)], " or ") + "?"
}

// distance is how many letters are inserted, deleted or replaced between two
// words (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for i := range row {
		row[i] = i
	}
	for i := range len(a) {
		left := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := left
			if a[i] != b[j] {
				cost++
			}
			left = row[j+1]
			row[j+1] = min(cost, row[j]+1, left+1)
		}
	}
	return row[len(b)]
}
