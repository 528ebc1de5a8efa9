package provider

import (
	"maps"
	"reflect"

	"github.com/goccy/go-yaml/ast"
)

// Overlay reads fields of a definition over base: mappings are merged, all else
// is replaced, and null takes away what base has (in params of requests, where
// null removes a standard parameter, it does that). Params of base that nothing
// uses any more are dropped. Texts are read as the nodes have them: variables
// are put in by the caller. The error is Problems, whose places are in the file
// of the fields.
func Overlay(base Definition, file string, fields []*ast.MappingValueNode) (Definition, error) {
	r := newReader(file)
	r.clears = true
	d := base
	if len(fields) > 0 {
		r.lines[""] = line(fields[0].Key)
		r.read("", &ast.MappingNode{Values: fields}, reflect.ValueOf(&d).Elem())
	}
	d.dropUnused(base.Params, r.lines)
	r.judge(&d)
	return r.result(d)
}

// dropUnused takes away params that only what was replaced did use, but for
// those that were set again.
func (d *Definition) dropUnused(params map[string]Param, set map[string]int) {
	c := &checker{Definition: d, used: map[string]bool{}}
	c.templates()
	d.Params = maps.Clone(d.Params)
	for name := range params {
		if _, again := set["params."+name]; !again && !c.used[name] {
			delete(d.Params, name)
		}
	}
}
