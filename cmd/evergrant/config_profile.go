package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/issuer/profile"
	"github.com/goccy/go-yaml/ast"
)

// standardProfile is the name of what is no other server's.
const standardProfile = "standard"

// peek is the text of a key that is needed before the others are read, "" where
// it has none. What is wrong with it is said when its turn comes.
func (r *reader) peek(n ast.Node, key string) string {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	}
	for _, pair := range pairs {
		if raw, ok := scalarText(pair.Value); ok && pairKey(pair) == key {
			silent := reader{file: r.file, env: r.env}
			text, _ := silent.expand(key, pair.Value, raw)
			return text
		}
	}
	return ""
}

// profileNames are what profile can be.
func profileNames() []string { return append([]string{standardProfile}, profile.Names()...) }

func (r *reader) profile(dst *string) field {
	names := profileNames()
	last := len(names) - 1
	return r.parsed("write "+strings.Join(names[:last], ", ")+" or "+names[last], func(text string) error {
		if !slices.Contains(names, text) {
			return fmt.Errorf("profile %q is not known", text)
		}
		*dst = text
		return nil
	})
}

// unsafe reads what is wanted although it is not safe.
func (r *reader) unsafe(dst *[]issuer.Compatibility) field {
	return r.list(func(path string, n ast.Node) {
		var text string
		before := len(r.problems)
		r.text(&text)(path, n)
		name := issuer.Compatibility(text)
		if _, ok := issuer.Compatibilities()[name]; ok {
			*dst = append(*dst, name)
		} else if len(r.problems) == before {
			raw, _ := scalarText(n)
			r.bad(n, "%s; known ones are %s", withoutValue(fmt.Errorf("unsafe_compatibility %q is not known", text), raw, text), strings.Join(named(slices.Sorted(maps.Keys(issuer.Compatibilities()))), ", "))
		}
	})
}

// named are names as text.
func named[T ~string](names []T) []string {
	var texts []string
	for _, name := range names {
		texts = append(texts, string(name))
	}
	return texts
}

// profiled reads a mapping that may have the known keys and those of the server
// whose profile holds here.
func (r *reader) profiled(name, named string, known fields, set func(legacyKey, legacyChange) error) field {
	client := name != "issuer"
	for _, key := range legacyKeys(named) {
		if !client || key.perClient {
			known[key.name] = key.read(r, func(change legacyChange) error { return set(key, change) })
		}
	}
	return r.anyMapping(name, func(path, key string, value, at ast.Node) {
		if read, ok := known[key]; ok {
			read(path, value)
			return
		}
		if wrong := notHere(key, named); wrong != "" {
			r.bad(at, "%s", wrong)
			return
		}
		r.unknown(name, key, known, at)
	})
}

// notHere says why a key of some profile is not known where it stands, or "".
func notHere(name, named string) string {
	is := func(key legacyKey) bool { return key.name == name }
	if slices.ContainsFunc(legacyKeys(named), is) {
		return name + " holds for all clients; move it to issuer"
	}
	for _, other := range profile.Names() {
		keys := legacyKeys(other)
		if at := slices.IndexFunc(keys, is); at >= 0 {
			instead := "delete it"
			if ours := keys[at].ours; ours != "" {
				instead = "write " + ours
			}
			return fmt.Sprintf("%s is a key of the profile %s, and the profile here is %s; %s, or set profile: %s", name, other, named, instead, other)
		}
	}
	return ""
}
