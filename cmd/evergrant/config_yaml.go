package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/secret"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// problem is one thing that is wrong with the configuration.
type problem struct {
	Place string `json:"place"` // "FILE:LINE", a flag or an environment variable
	Text  string `json:"problem"`
}

func (p problem) String() string { return p.Place + ": " + p.Text }

// problems is all that is wrong, as an error.
type problems []problem

func (p problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}

// reader walks the syntax tree of a configuration file, notes where each key
// was set, and collects what is wrong instead of stopping at the first.
type reader struct {
	file     string
	env      func(string) (string, bool)
	problems problems
	places   map[string]string // by path, such as "issuer.clients[0].secret"
	unread   map[string]bool   // secrets that have a problem already, by path
	inClear  bool              // the file itself holds a secret

	serverProfile string // of clients that name none, while they are read
}

// field reads the value of one key; fields are the keys that a mapping may have.
type (
	field  func(path string, n ast.Node)
	fields map[string]field
)

func (r *reader) bad(n ast.Node, format string, args ...any) {
	r.problems = append(r.problems, problem{r.place(n), fmt.Sprintf(format, args...)})
}

func (r *reader) place(n ast.Node) string {
	return fmt.Sprintf("%s:%d", r.file, n.GetToken().Position.Line)
}

// document parses the file and reads its one mapping. Messages of the parser
// are used without its excerpts of the file, which could show a secret.
func (r *reader) document(data []byte, known fields) {
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		place, text := r.file+":1", "cannot be read as YAML"
		if e, ok := errors.AsType[yaml.Error](err); ok && e.GetToken() != nil {
			place, text = fmt.Sprintf("%s:%d", r.file, e.GetToken().Position.Line), e.GetMessage()
		}
		r.problems = append(r.problems, problem{place, "not valid YAML: " + text + "; check indentation, quotes and brackets"})
		return
	}
	first := true
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil:
		case !first:
			r.bad(doc.Body, "a second YAML document begins; keep the configuration in one document, without ---")
		default:
			r.mapping("", known)("", doc.Body)
			first = false
		}
	}
}

// mapping reads a mapping that may have the known keys.
func (r *reader) mapping(name string, known fields) field {
	return r.anyMapping(name, func(path, key string, value ast.Node, at ast.Node) {
		if read, ok := known[key]; ok {
			read(path, value)
		} else {
			r.unknown(name, key, known, at)
		}
	})
}

func (r *reader) unknown(name, key string, known fields, at ast.Node) {
	r.bad(at, "unknown key %q%s; known keys here are %s", key, in(name), strings.Join(slices.Sorted(maps.Keys(known)), ", "))
}

func in(name string) string {
	if name == "" {
		return ""
	}
	return " in " + name
}

// anyMapping calls read for each pair of a mapping, with the path of its key.
// A mapping without content is none.
func (r *reader) anyMapping(name string, read func(path, key string, value, at ast.Node)) field {
	return func(path string, n ast.Node) {
		var pairs []*ast.MappingValueNode
		switch n := n.(type) {
		case *ast.NullNode:
		case *ast.MappingNode:
			pairs = n.Values
		case *ast.MappingValueNode:
			pairs = []*ast.MappingValueNode{n}
		default:
			r.wrongType(n, name, "keys and values, such as `key: value`")
		}
		seen := map[string]string{}
		for _, pair := range pairs {
			key, ok := pair.Key.(*ast.StringNode)
			if !ok {
				r.bad(pair.Key, "this key%s is not plain text; write it as a word, without anchors, << or ?", in(name))
				continue
			}
			if earlier, ok := seen[key.Value]; ok {
				r.bad(key, "%s is set twice, first at %s; keep one", key.Value, earlier)
				continue
			}
			seen[key.Value] = r.place(key)
			at := key.Value
			if path != "" {
				at = path + "." + at
			}
			r.places[at] = r.place(key)
			read(at, key.Value, pair.Value, key)
		}
	}
}

// list reads a list, each item with the path that ends in its index.
func (r *reader) list(read field) field {
	return func(path string, n ast.Node) {
		switch n := n.(type) {
		case *ast.NullNode:
		case *ast.SequenceNode:
			for i, item := range n.Values {
				at := fmt.Sprintf("%s[%d]", path, i)
				r.places[at] = r.place(item)
				read(at, item)
			}
		default:
			r.wrongType(n, path, "a list, such as `[one, two]`")
		}
	}
}

func (r *reader) wrongType(n ast.Node, path, want string) {
	if path == "" {
		path = "the file"
	}
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		r.bad(n, "%s uses a YAML anchor, alias or tag, which the configuration does not know; write the value out", path)
	case *ast.NullNode:
		r.bad(n, "%s has no value; give it one or delete the key", path)
	default:
		r.bad(n, "%s has the wrong type; write %s", path, want)
	}
}

// parsed reads a scalar with a function that says what is wrong with its text.
func (r *reader) parsed(mend string, set func(text string) error) field {
	return func(path string, n ast.Node) {
		raw, ok := scalarText(n)
		if !ok {
			r.wrongType(n, path, "one value")
			return
		}
		text, ok := r.expand(path, n, raw)
		if !ok {
			return
		}
		if err := set(text); err != nil {
			wrong := withoutValue(err, raw, text)
			if !strings.Contains(wrong, lastKey(path)) {
				wrong = lastKey(path) + ": " + wrong
			}
			r.bad(n, "%s; %s", wrong, mend)
		}
	}
}

// withoutValue is the error unless the text came out of a variable, in which
// case it may show a secret.
func withoutValue(err error, raw, text string) string {
	if raw == text {
		return err.Error()
	}
	return "the value of " + raw + " is not valid"
}

func lastKey(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

// scalarText is a scalar as it is written in the file.
func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// text reads text. Numbers and true or false must stand in quotes, so that
// nothing is lost in between (`secret: 0123` is a number to YAML).
func (r *reader) text(dst *string) field {
	return func(path string, n ast.Node) {
		raw, ok := scalarText(n)
		switch n.(type) {
		case *ast.StringNode, *ast.LiteralNode:
		default:
			if ok {
				r.wrongType(n, path, "text in quotes")
			} else {
				r.wrongType(n, path, "text")
			}
			return
		}
		if text, ok := r.expand(path, n, raw); ok {
			*dst = text
		}
	}
}

// secretText reads a secret, and notes whether the file shows it.
func (r *reader) secretText(dst *secret.Text) field {
	return func(path string, n ast.Node) {
		var text string
		before := len(r.problems)
		r.text(&text)(path, n)
		if strings.ContainsFunc(text, func(c rune) bool { return c < 0x20 || c == 0x7f }) {
			r.bad(n, "%s contains a line break or another control character; write it on one line", path)
		}
		if r.unread[path] = len(r.problems) > before; r.unread[path] {
			return
		}
		raw, _ := scalarText(n)
		r.inClear = r.inClear || (text != "" && raw == text)
		*dst = secret.NewText(text)
	}
}

func (r *reader) texts(dst *[]string, check func(string) error) field {
	return r.list(func(path string, n ast.Node) {
		var text string
		before := len(r.problems)
		r.text(&text)(path, n)
		if len(r.problems) > before {
			return
		}
		if err := check(text); err != nil {
			raw, _ := scalarText(n)
			r.bad(n, "%s; change or delete it", withoutValue(err, raw, text))
			return
		}
		*dst = append(*dst, text)
	})
}

func (r *reader) boolean(dst *bool) field {
	return r.parsed("write true or false", func(text string) error {
		if text != "true" && text != "false" {
			return fmt.Errorf("%q is not true or false", text)
		}
		*dst = text == "true"
		return nil
	})
}

// notYet refuses a key whose time will come.
func (r *reader) notYet(what string) field {
	return func(path string, n ast.Node) {
		r.problems = append(r.problems, problem{r.places[path], what + " not in this version yet; delete " + lastKey(path)})
	}
}

// expand puts environment variables into a text: ${NAME} is replaced once, and
// what it stands for is not looked at again; $${ is a ${ in clear.
func (r *reader) expand(path string, n ast.Node, raw string) (string, bool) {
	var out strings.Builder
	for rest := raw; rest != ""; {
		before, after, found := strings.Cut(rest, "${")
		if !found {
			out.WriteString(rest)
			break
		}
		if literal, ok := strings.CutSuffix(before, "$"); ok {
			out.WriteString(literal + "${")
			rest = after
			continue
		}
		name, after, closed := strings.Cut(after, "}")
		if !closed || !variableName(name) {
			r.bad(n, "%s has a ${ that begins no variable name; write ${NAME}, or $${ for the characters themselves", path)
			return "", false
		}
		value, ok := r.env(name)
		if !ok {
			r.bad(n, "%s takes the environment variable %s, which is not set; set it, or write the value here", path, name)
			return "", false
		}
		out.WriteString(before + value)
		rest = after
	}
	if raw != "" && out.Len() == 0 {
		r.bad(n, "%s is empty because %s is; set the variable, or delete the key", path, raw)
		return "", false
	}
	return out.String(), true
}

func variableName(s string) bool {
	for i, c := range []byte(s) {
		letter := c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
