package provider

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/url"
	"strconv"
	"strings"
)

const (
	// maxValues bounds the values that are read of an answer in JSON: a list of
	// small numbers takes twenty times its length in memory.
	maxValues = 100_000
	// maxDepth bounds how deep they are nested.
	maxDepth = 100
	// maxForm bounds an answer in form encoding, in bytes.
	maxForm = 1 << 20
)

// document is the body of an answer, as far as it can be read: whatever its
// content type says, since many providers' do not fit.
type document struct {
	root  any  // of maps, lists, texts, json.Number, booleans and nil; nil where the body is neither JSON nor a form
	whole bool // root has all that the body had
	html  bool
}

// parse reads a body. cut says that it broke off.
func parse(body []byte, cut bool) document {
	body = bytes.TrimSpace(bytes.TrimPrefix(unzip(body), []byte("\uFEFF")))
	if len(body) == 0 {
		return document{whole: !cut}
	}
	switch body[0] {
	case '{', '[':
		root, whole := parseJSON(body)
		return document{root: root, whole: whole}
	case '"':
		text, whole := parseJSON(body)
		return document{root: nested(text), whole: whole}
	case '<':
		return document{html: true, whole: !cut}
	}
	return document{root: parseForm(body, cut), whole: !cut}
}

// unzip unpacks a body that a server compressed unasked.
func unzip(body []byte) []byte {
	if !bytes.HasPrefix(body, []byte{0x1f, 0x8b}) {
		return body
	}
	r, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return body
	}
	plain, _ := io.ReadAll(io.LimitReader(r, maxAnswer)) // what breaks off is found by its syntax
	return plain
}

// parseForm reads form encoding. Of a form that broke off the last value is
// left out, which may lack its end.
func parseForm(body []byte, cut bool) any {
	if cut {
		body = body[:max(0, bytes.LastIndexByte(body, '&'))]
	}
	if len(body) > maxForm || !bytes.ContainsRune(body, '=') {
		return nil
	}
	fields, _ := url.ParseQuery(string(body)) // with those that it can read
	root := map[string]any{}
	for name, given := range fields {
		root[name] = given[0]
	}
	return root
}

// parseJSON reads as much of a JSON text as is complete: from one that broke
// off, or that has a fault, all that stands before. whole says that it has
// neither.
func parseJSON(text []byte) (root any, whole bool) {
	s := salvage{dec: json.NewDecoder(bytes.NewReader(text)), length: int64(len(text))}
	s.dec.UseNumber()
	return s.value(0)
}

// salvage is a JSON text that is being read token by token.
type salvage struct {
	dec    *json.Decoder
	length int64
	values int
}

// value reads one value. Of an object or array without end it gives what it has,
// of any other without end nothing.
func (s *salvage) value(depth int) (v any, whole bool) {
	s.values++
	if s.values > maxValues || depth > maxDepth {
		return nil, false
	}
	token, err := s.dec.Token()
	if err != nil {
		return nil, false
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return s.object(depth + 1)
		}
		return s.array(depth + 1)
	case json.Number:
		if s.dec.InputOffset() == s.length { // more digits may have followed
			return nil, false
		}
	}
	return token, true
}

func (s *salvage) object(depth int) (any, bool) {
	object := map[string]any{}
	for s.dec.More() {
		key, err := s.dec.Token()
		name, ok := key.(string)
		if err != nil || !ok {
			return object, false
		}
		v, whole := s.value(depth)
		if whole || v != nil {
			object[name] = v
		}
		if !whole {
			return object, false
		}
	}
	_, err := s.dec.Token()
	return object, err == nil
}

func (s *salvage) array(depth int) (any, bool) {
	array := []any{}
	for s.dec.More() {
		v, whole := s.value(depth)
		if whole || v != nil {
			array = append(array, v)
		}
		if !whole {
			return array, false
		}
	}
	_, err := s.dec.Token()
	return array, err == nil
}

// find is the value at the first of some paths that has one, or nil. Null and
// the empty text are none.
func find(node any, paths string) any {
	for path := range strings.SplitSeq(paths, "|") {
		if v := at(node, path); v != nil && v != "" {
			return v
		}
	}
	return nil
}

// at is the value at a path. A dot may also be part of a name, as in ".expires",
// and an object or array may be JSON in a text.
func at(node any, path string) any {
	switch node := nested(node).(type) {
	case map[string]any:
		if v, ok := node[path]; ok {
			return v
		}
		for i, c := range path {
			if child, ok := node[path[:i]]; ok && c == '.' {
				if v := at(child, path[i+1:]); v != nil {
					return v
				}
			}
		}
	case []any:
		first, rest, deeper := strings.Cut(path, ".")
		i, err := strconv.Atoi(first)
		if err != nil || i < 0 || i >= len(node) {
			return nil
		}
		if deeper {
			return at(node[i], rest)
		}
		return node[i]
	}
	return nil
}

// nested is the object or array that a text has in JSON, and else v itself.
func nested(v any) any {
	if text, ok := v.(string); ok && (strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[")) {
		if inner, whole := parseJSON([]byte(text)); whole {
			return inner
		}
	}
	return v
}

// text is a scalar as JSON writes it, a text without its quotes, and "" for all
// else.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	}
	return ""
}
