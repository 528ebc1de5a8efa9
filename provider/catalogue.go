package provider

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a definition.
type Problem struct {
	Place string `json:"place"` // "FILE:LINE"
	Text  string `json:"problem"`
}

// Problems is all that is wrong, as an error.
type Problems []Problem

// Error is one line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].Place + ": " + p[i].Text
	}
	return strings.Join(lines, "\n")
}

// Catalogue is a set of definitions by name.
type Catalogue struct{ definitions map[string]Definition }

//go:embed definitions/*.yaml
var builtin embed.FS

//go:embed definition.schema.json
var schema string

// Builtin is the catalogue that comes with the program. It is read anew by each
// call.
func Builtin() *Catalogue {
	files, err := fs.Sub(builtin, "definitions")
	if err == nil {
		var c *Catalogue
		if c, err = new(Catalogue).Over(files); err == nil {
			return c
		}
	}
	panic("provider: a built-in definition is wrong: " + err.Error())
}

// Over is c with the definitions of all *.yaml files of a directory added, or
// put in place of those with the same name. The error is Problems.
func (c *Catalogue) Over(dir fs.FS) (*Catalogue, error) {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil, Problems{{".", "the directory of definitions cannot be read: " + reason(err)}}
	}
	var problems Problems
	added, files := map[string]Definition{}, map[string]string{}
	for _, entry := range entries {
		file := entry.Name()
		if path.Ext(file) == ".yml" {
			problems = append(problems, Problem{file, "definitions are in files that end in .yaml; rename it"})
		}
		if path.Ext(file) != ".yaml" || entry.IsDir() {
			continue
		}
		data, err := fs.ReadFile(dir, file)
		if err != nil {
			problems = append(problems, Problem{file, "cannot be read: " + reason(err)})
			continue
		}
		d, err := Parse(file, data)
		if wrong, ok := errors.AsType[Problems](err); ok {
			problems = append(problems, wrong...)
			continue
		}
		if earlier, twice := files[d.Name]; twice {
			problems = append(problems, Problem{file, fmt.Sprintf("the name %s is that of the definition in %s; rename one of them", d.Name, earlier)})
		}
		added[d.Name], files[d.Name] = d, file
	}
	if len(problems) > 0 {
		return nil, problems
	}
	all := maps.Clone(added)
	for name, d := range c.definitions {
		if _, replaced := added[name]; !replaced {
			all[name] = d
		}
	}
	return &Catalogue{all}, nil
}

// reason is an error of the file system without the name of the file.
func reason(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// Definition is the one with a name. It shares maps with the catalogue and is
// not to be changed; Overlay makes another.
func (c *Catalogue) Definition(name string) (Definition, bool) {
	d, ok := c.definitions[name]
	return d, ok
}

// Names of all definitions, in order.
func (c *Catalogue) Names() []string { return slices.Sorted(maps.Keys(c.definitions)) }

// Schema is the JSON Schema (2020-12) of a definition file.
func Schema() []byte { return []byte(schema) }
