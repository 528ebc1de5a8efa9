package provider

import (
	"fmt"
	"net/url"
	"strings"
)

// piece is one part of a template: a literal text, or the names in a pair of
// braces.
type piece struct {
	literal string
	names   []string
}

// parseTemplate takes a template apart. There is no way to write a literal
// brace: no provider has asked for one.
func parseTemplate(text string) ([]piece, error) {
	var pieces []piece
	for rest := text; rest != ""; {
		literal, after, opened := strings.Cut(rest, "{")
		if strings.Contains(literal, "}") {
			return nil, fmt.Errorf("%q closes a brace that it did not open", text)
		}
		if literal != "" {
			pieces = append(pieces, piece{literal: literal})
		}
		if !opened {
			break
		}
		inside, after, closed := strings.Cut(after, "}")
		if !closed {
			return nil, fmt.Errorf("%q opens a brace and does not close it", text)
		}
		names := strings.Split(inside, "|")
		for _, name := range names {
			if name == "" || strings.ContainsFunc(name, notInName) {
				return nil, fmt.Errorf("%q names {%s}: a name has letters, digits, dots, underscores and hyphens", text, inside)
			}
		}
		pieces = append(pieces, piece{names: names})
		rest = after
	}
	return pieces, nil
}

func notInName(c rune) bool {
	letter := 'a' <= c|0x20 && c|0x20 <= 'z'
	return !letter && (c < '0' || c > '9') && !strings.ContainsRune("._-", c)
}

// templateNames are the names in a template, in order.
func templateNames(text string) ([]string, error) {
	pieces, err := parseTemplate(text)
	var names []string
	for _, p := range pieces {
		names = append(names, p.names...)
	}
	return names, err
}

// values are what templates name. What is not there is not known; what is there
// and empty is a param that may be.
type values map[string]string

// of is the first of some names' values that is not empty, with its name.
func (v values) of(names []string) (name, value string) {
	for _, name := range names {
		if v[name] != "" {
			return name, v[name]
		}
	}
	return names[len(names)-1], ""
}

// render writes a template. Names without a value give nothing.
func (v values) render(text string) (string, error) {
	pieces, err := parseTemplate(text)
	var out strings.Builder
	for _, p := range pieces {
		out.WriteString(p.literal)
		if p.names != nil {
			_, value := v.of(p.names)
			out.WriteString(value)
		}
	}
	return out.String(), err
}

// renderURL writes a template of a URL. Values are percent-encoded, but for
// params that make its scheme, host and port. Those may be told by a stranger:
// nothing in them may end the host in another place than it seems to.
func (v values) renderURL(text string) (*url.URL, error) {
	pieces, err := parseTemplate(text)
	if err != nil {
		return nil, err
	}
	var out strings.Builder
	for _, p := range pieces {
		out.WriteString(p.literal)
		if p.names == nil {
			continue
		}
		name, value := v.of(p.names)
		if _, known := v[name]; !known {
			return nil, fmt.Errorf("the URL %s needs {%s}, which is not known", text, name)
		}
		if pastHost(out.String()) {
			out.WriteString(strings.ReplaceAll(url.QueryEscape(value), "+", "%20"))
			continue
		}
		if !strings.HasPrefix(name, "params.") || strings.ContainsFunc(value, notInOrigin) {
			return nil, fmt.Errorf("the URL %s cannot have this value of {%s} in its host", text, name)
		}
		out.WriteString(value)
	}
	u, err := url.Parse(out.String())
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, fmt.Errorf("%s does not make an absolute URL", text) // the error of url.Parse would show the values
	}
	return u, nil
}

// pastHost reports whether a URL that is being written has a path or query.
func pastHost(s string) bool {
	_, rest, ok := strings.Cut(s, "://")
	return ok && strings.ContainsAny(rest, "/?#")
}

func notInOrigin(c rune) bool { return notInName(c) && !strings.ContainsRune(":/[]", c) }
