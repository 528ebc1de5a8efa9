package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// jsonObject reads a mapping as a JSON object whose members keep their order.
func (r *reader) jsonObject(dst *json.RawMessage) field {
	return func(path string, n ast.Node) {
		before := len(r.problems)
		var out []byte
		switch n.(type) {
		case *ast.MappingNode, *ast.MappingValueNode:
			out = r.appendJSON(nil, path, n)
		case *ast.NullNode:
		default:
			r.wrongType(n, path, "keys and values, such as `key: value`")
		}
		if len(r.problems) == before {
			*dst = out
		}
	}
}

// appendJSON writes a value of YAML as JSON. Numbers are kept as they are written
// where JSON writes them so.
func (r *reader) appendJSON(out []byte, path string, n ast.Node) []byte {
	number := func(value any) []byte {
		if text := n.GetToken().Value; json.Valid([]byte(text)) {
			return append(out, text...)
		}
		text, _ := json.Marshal(value)
		return append(out, text...)
	}
	switch n := n.(type) {
	case *ast.NullNode:
		return append(out, "null"...)
	case *ast.BoolNode:
		return strconv.AppendBool(out, n.Value)
	case *ast.IntegerNode:
		return number(n.Value)
	case *ast.FloatNode:
		return number(n.Value)
	case *ast.StringNode, *ast.LiteralNode:
		raw, _ := scalarText(n)
		text, _ := r.expand(path, n, raw)
		return appendText(out, text)
	case *ast.SequenceNode:
		out = append(out, '[')
		for i, item := range n.Values {
			if i > 0 {
				out = append(out, ',')
			}
			out = r.appendJSON(out, fmt.Sprintf("%s[%d]", path, i), item)
		}
		return append(out, ']')
	case *ast.MappingNode, *ast.MappingValueNode:
		out = append(out, '{')
		first := true
		r.anyMapping(lastKey(path), func(path, key string, value, _ ast.Node) {
			if !first {
				out = append(out, ',')
			}
			first = false
			out = r.appendJSON(append(appendText(out, key), ':'), path, value)
		})(path, n)
		return append(out, '}')
	}
	r.wrongType(n, path, "text, a number, true, false, null, a list or keys and values")
	return out
}

// appendText writes a JSON string as it is, without the escapes for HTML.
func appendText(out []byte, text string) []byte {
	var line strings.Builder
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	encoder.Encode(text)
	return append(out, strings.TrimSuffix(line.String(), "\n")...)
}
