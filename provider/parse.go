package provider

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/evergrant/evergrant/oauth"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Parse reads one definition in YAML. file is its name in errors. The error is
// Problems: unknown keys, wrong types, values that cannot work together.
func Parse(file string, data []byte) (Definition, error) {
	r := newReader(file)
	var d Definition
	if body := r.document(data); body != nil {
		r.read("", body, reflect.ValueOf(&d).Elem())
		r.judge(&d)
	}
	return r.result(d)
}

// reader puts a syntax tree into values by reflection on their types. It notes
// the line of each key, and collects what is wrong instead of stopping at the
// first. What it says of a value does not quote it, since one that an overlay
// took from a variable may be a secret.
type reader struct {
	file   string
	lines  map[string]int  // of keys and list items, by dotted path
	unread map[string]bool // values that have a problem already, by path
	found  []finding
	clears bool // null takes away what was there
}

type finding struct {
	line int
	text string
}

func newReader(file string) *reader {
	return &reader{file: file, lines: map[string]int{}, unread: map[string]bool{}}
}

func (r *reader) add(line int, format string, args ...any) {
	r.found = append(r.found, finding{line, fmt.Sprintf(format, args...)})
}

func (r *reader) bad(n ast.Node, path, format string, args ...any) {
	r.unread[path] = true
	r.add(line(n), format, args...)
}

func line(n ast.Node) int { return n.GetToken().Position.Line }

// judge adds the faults of what was read, but for those of values that could
// not be read.
func (r *reader) judge(d *Definition) {
	for _, f := range d.faults() {
		if !r.unread[f.path] && !r.unread[""] {
			r.add(r.line(f.path), "%s", f.text)
		}
	}
}

// line is where a path was set, or else the nearest above it that was.
func (r *reader) line(path string) int {
	for path != "" {
		if n, ok := r.lines[path]; ok {
			return n
		}
		path = path[:max(0, strings.LastIndexByte(path, '.'))]
	}
	return cmp.Or(r.lines[""], 1)
}

func (r *reader) result(d Definition) (Definition, error) {
	if len(r.found) == 0 {
		return d, nil
	}
	slices.SortStableFunc(r.found, func(a, b finding) int { return a.line - b.line })
	problems := make(Problems, len(r.found))
	for i, f := range r.found {
		problems[i] = Problem{fmt.Sprintf("%s:%d", r.file, f.line), f.text}
	}
	return Definition{}, problems
}

// document parses the file and gives its one body, or nil where there is a
// problem.
func (r *reader) document(data []byte) (body ast.Node) {
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		at, text := 1, "cannot be read as YAML"
		if e, ok := errors.AsType[yaml.Error](err); ok && e.GetToken() != nil {
			at, text = e.GetToken().Position.Line, e.GetMessage()
		}
		r.add(at, "not valid YAML: %s; check indentation, quotes and brackets", text)
		return nil
	}
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil:
		case body != nil:
			r.add(line(doc.Body), "a second YAML document begins; write each definition into a file of its own")
		default:
			body = doc.Body
		}
	}
	if body == nil {
		r.add(1, "the file is empty; write at least name and token_url, or name and issuer")
	}
	return body
}

// read puts a node into a value, over what the value has already.
func (r *reader) read(path string, n ast.Node, dst reflect.Value) {
	if _, null := n.(*ast.NullNode); null {
		if removes := dst.Type() == reflect.TypeFor[*string](); r.clears || removes {
			dst.SetZero()
		} else {
			r.bad(n, path, "%s has no value; give it one or delete the key", title(path))
		}
		return
	}
	if dst.Type() == reflect.TypeFor[oauth.Lifetime]() {
		r.lifetime(path, n, dst)
		return
	}
	switch dst.Kind() {
	case reflect.Pointer:
		next := reflect.New(dst.Type().Elem())
		if !dst.IsNil() {
			next.Elem().Set(dst.Elem())
		}
		r.read(path, n, next.Elem())
		dst.Set(next)
	case reflect.Struct:
		r.fields(path, n, dst)
	case reflect.Map:
		r.entries(path, n, dst)
	case reflect.Slice:
		r.items(path, n, dst)
	default:
		r.scalar(path, n, dst)
	}
}

// fields reads a mapping whose keys are those of a struct.
func (r *reader) fields(path string, n ast.Node, dst reflect.Value) {
	known := keys(dst.Type())
	for key, pair := range r.pairs(path, n) {
		if index, ok := known[key]; ok {
			r.read(join(path, key), pair.Value, dst.FieldByIndex(index))
			continue
		}
		r.add(line(pair.Key), "unknown key %q%s; known keys here are %s", key, in(path), strings.Join(slices.Sorted(maps.Keys(known)), ", "))
	}
}

// keys are the fields of a struct by their names in YAML, those of inlined
// structs included.
func keys(t reflect.Type) map[string][]int {
	known := map[string][]int{}
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); name != "" {
			known[name] = f.Index
		}
	}
	return known
}

// entries reads a mapping of free keys, into a copy of the map that was there.
func (r *reader) entries(path string, n ast.Node, dst reflect.Value) {
	next := reflect.MakeMap(dst.Type())
	for key, value := range dst.Seq2() {
		next.SetMapIndex(key, value)
	}
	for key, pair := range r.pairs(path, n) {
		at, value := reflect.ValueOf(key), reflect.New(dst.Type().Elem()).Elem()
		if _, null := pair.Value.(*ast.NullNode); null && r.clears && value.Kind() != reflect.Pointer {
			next.SetMapIndex(at, reflect.Value{})
			continue
		}
		if old := next.MapIndex(at); old.IsValid() {
			value.Set(old)
		}
		r.read(join(path, key), pair.Value, value)
		next.SetMapIndex(at, value)
	}
	dst.Set(next)
}

// items reads a list in place of what was there.
func (r *reader) items(path string, n ast.Node, dst reflect.Value) {
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		r.wrongType(n, path, "a list, such as `[one, two]`")
		return
	}
	dst.Set(reflect.MakeSlice(dst.Type(), len(list.Values), len(list.Values)))
	for i, item := range list.Values {
		at := join(path, strconv.Itoa(i))
		r.lines[at] = line(item)
		r.read(at, item, dst.Index(i))
	}
}

func (r *reader) lifetime(path string, n ast.Node, dst reflect.Value) {
	text, ok := scalarText(n)
	if !ok {
		r.wrongType(n, path, "a duration")
		return
	}
	lifetime, err := oauth.ParseLifetime(text)
	if err != nil {
		r.bad(n, path, "%s is not a duration; write a number with d, h, m or s, such as 14d, 1h or 90s", path)
	}
	dst.Set(reflect.ValueOf(lifetime))
}

func (r *reader) scalar(path string, n ast.Node, dst reflect.Value) {
	text, ok := scalarText(n)
	switch node := n.(type) {
	case *ast.StringNode, *ast.LiteralNode:
		if dst.Kind() == reflect.String {
			dst.SetString(text)
			return
		}
	case *ast.BoolNode:
		if dst.Kind() == reflect.Bool {
			dst.SetBool(node.Value)
			return
		}
	case *ast.IntegerNode:
		if number, err := strconv.Atoi(text); err == nil && dst.Kind() == reflect.Int {
			dst.SetInt(int64(number))
			return
		}
	}
	switch {
	case dst.Kind() == reflect.Bool:
		r.wrongType(n, path, "true or false")
	case dst.Kind() == reflect.Int:
		r.wrongType(n, path, "a whole number")
	case ok:
		r.wrongType(n, path, "text in quotes")
	default:
		r.wrongType(n, path, "text; one that begins with { must be in quotes")
	}
}

// pairs are the pairs of a mapping by key. Their lines are noted.
func (r *reader) pairs(path string, n ast.Node) iter.Seq2[string, *ast.MappingValueNode] {
	return func(yield func(string, *ast.MappingValueNode) bool) {
		var pairs []*ast.MappingValueNode
		switch n := n.(type) {
		case *ast.MappingNode:
			pairs = n.Values
		case *ast.MappingValueNode:
			pairs = []*ast.MappingValueNode{n}
		default:
			r.wrongType(n, path, "keys and values, such as `key: value`")
		}
		seen := map[string]int{}
		for _, pair := range pairs {
			key, ok := pair.Key.(*ast.StringNode)
			if !ok {
				r.add(line(pair.Key), "this key%s is not plain text; write it as a word, in quotes if it is a number, and without anchors, << or ?", in(path))
				continue
			}
			if earlier, twice := seen[key.Value]; twice {
				r.add(line(key), "%s is set twice, first in line %d; keep one", join(path, key.Value), earlier)
				continue
			}
			seen[key.Value] = line(key)
			r.lines[join(path, key.Value)] = line(key)
			if !yield(key.Value, pair) {
				return
			}
		}
	}
}

func (r *reader) wrongType(n ast.Node, path, want string) {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		r.bad(n, path, "%s uses a YAML anchor, alias or tag, which definitions do not know; write the value out", title(path))
	default:
		r.bad(n, path, "%s has the wrong type; write %s", title(path), want)
	}
}

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

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func title(path string) string { return cmp.Or(path, "the definition") }

func in(path string) string {
	if path == "" {
		return ""
	}
	return " in " + path
}
