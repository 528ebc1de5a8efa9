package provider

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/oauth"
	"github.com/goccy/go-yaml"
)

var update = flag.Bool("update", false, "write definition.schema.json anew")

// TestSchemaIsOfTheStruct holds that the published schema is what the types and
// comments of definition.go come to.
func TestSchemaIsOfTheStruct(t *testing.T) {
	want := generate(t)
	if *update {
		if err := os.WriteFile("definition.schema.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Log("written; build anew to embed it")
		return
	}
	if !bytes.Equal(Schema(), want) {
		t.Error("definition.schema.json is not that of definition.go; run go test ./provider -run TestSchemaIsOfTheStruct -update")
	}
	Schema()[0] = 'x'
	if Schema()[0] != '{' {
		t.Error("a caller can change the schema")
	}
}

// TestSchemaDescribesEverything: what people see while they write a definition.
func TestSchemaDescribesEverything(t *testing.T) {
	var schema struct {
		Properties map[string]struct{ Description string }
		Defs       map[string]struct {
			Description string
			Properties  map[string]struct{ Description string }
		} `json:"$defs"`
	}
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	if len(schema.Properties) < 20 || len(schema.Defs) < 12 {
		t.Errorf("%d keys and %d types", len(schema.Properties), len(schema.Defs))
	}
	for key, property := range schema.Properties {
		if property.Description == "" {
			t.Errorf("%s has no description", key)
		}
	}
	for name, def := range schema.Defs {
		if def.Description == "" {
			t.Errorf("%s has no description", name)
		}
		for key, property := range def.Properties {
			if property.Description == "" {
				t.Errorf("%s.%s has no description", name, key)
			}
		}
	}
}

// TestSchemaAgreesWithParse: the schema accepts what Parse does, and refuses
// what Parse refuses for its shape.
func TestSchemaAgreesWithParse(t *testing.T) {
	files, err := filepath.Glob("definitions/*.yaml")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(t, data); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	if err := validate(t, []byte(everyKey)); err != nil {
		t.Errorf("a definition with every key: %v", err)
	}
	for _, test := range []struct{ text, want string }{
		{"token_url: https://a.example/token", "name is missing"},
		{plain + "tokn_url: a", "tokn_url is not known"},
		{plain + "token: {body: xml}", "/token/body: is none of"},
		{plain + "token: {url: 1}", "/token/url: has the wrong type"},
		{plain + "token: {params: {a: [1]}}", "/token/params/a: has the wrong type"},
		{plain + "params: {a: {defalt: b}}", "/params/a: defalt is not known"},
		{plain + "errors: [{status: 400}]", "/errors/0: class is missing"},
		{plain + "errors: [{status: 400, class: replayed}]", "/errors/0/class: is none of"},
		{plain + "errors: {}", "/errors: has the wrong type"},
		{plain + "limits: {concurrency: -1}", "/limits/concurrency: is below"},
		{plain + "limits: {timeout: 1 hour}", "/limits/timeout: fits nothing"},
		{plain + "limits: {timeout: 90}", "/limits/timeout: fits nothing"},
		{plain + "access_token: {lifetime: 1d1h30m}", ""},
		{plain + "access_token: {lifetime: 0}", ""},
		{plain + "remint: {steps: [{urll: a}]}", "/remint/steps/0: urll is not known"},
		{plain + "facts: {grant: {known: guessed, source: a}}", "/facts/grant/known: is none of"},
	} {
		err := validate(t, []byte(test.text))
		if got := fmt.Sprint(err); test.want == "" && err != nil || !strings.Contains(got, test.want) {
			t.Errorf("%s: %s; want %q", test.text, got, test.want)
		}
		if _, refused := Parse("a.yaml", []byte(test.text)); (refused != nil) != (err != nil) {
			t.Errorf("%s: the schema says %v, Parse %v", test.text, err, refused)
		}
	}
}

// generate makes the schema from the types, tags and comments of definition.go.
func generate(t *testing.T) []byte {
	t.Helper()
	g := &generator{comments: comments(t), defs: map[string]any{
		"Duration": map[string]any{
			"description": "numbers with d, h, m, s or ms, such as 14d, 1h30m or 90s; 0 is none",
			"anyOf":       []any{map[string]any{"const": 0}, map[string]any{"type": "string", "pattern": `^(0|(\d+d)?(\d+(\.\d+)?(h|ms|m|s))*)$`}},
		},
	}}
	root := g.object(reflect.TypeFor[Definition]())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["$id"] = "https://raw.githubusercontent.com/evergrant/evergrant/main/provider/definition.schema.json"
	root["title"] = "Definition of a provider"
	root["$defs"] = g.defs
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(root); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

type generator struct {
	comments map[string]string // by TYPE or TYPE.FIELD
	defs     map[string]any
}

// of is the schema of a type; structs become definitions of their own.
func (g *generator) of(t reflect.Type) map[string]any {
	switch {
	case t == reflect.TypeFor[oauth.Lifetime]():
		return map[string]any{"$ref": "#/$defs/Duration"}
	case t == reflect.TypeFor[*string]():
		return map[string]any{"type": []string{"string", "null"}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return g.of(t.Elem())
	case reflect.Struct:
		if g.defs[t.Name()] == nil {
			g.defs[t.Name()] = g.object(t)
		}
		return map[string]any{"$ref": "#/$defs/" + t.Name()}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": g.of(t.Elem())}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": g.of(t.Elem())}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		return map[string]any{"type": "integer", "minimum": 0}
	}
	return map[string]any{"type": "string"}
}

func (g *generator) object(t reflect.Type) map[string]any {
	properties, required := map[string]any{}, []string{}
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == "" {
			continue
		}
		owner := t.Name()
		if len(f.Index) > 1 { // of an inlined struct
			owner = t.Field(f.Index[0]).Name
		}
		property := g.of(f.Type)
		property["description"] = g.comments[owner+"."+f.Name]
		if enum := f.Tag.Get("enum"); enum != "" {
			property["enum"] = strings.Split(enum, ",")
		}
		properties[name] = property
		if options == "" {
			required = append(required, name)
		}
	}
	object := map[string]any{"type": "object", "description": g.comments[t.Name()], "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		object["required"] = required
	}
	return object
}

// comments are those of the types and fields of definition.go, without the name
// that they begin with.
func comments(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "definition.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		decl, ok := n.(*ast.GenDecl)
		if !ok || decl.Tok != token.TYPE {
			return true
		}
		spec := decl.Specs[0].(*ast.TypeSpec)
		all[spec.Name.Name] = plainText(spec.Name.Name, decl.Doc)
		if fields, ok := spec.Type.(*ast.StructType); ok {
			for _, f := range fields.Fields.List {
				for _, name := range f.Names {
					doc := f.Doc
					if doc == nil {
						doc = f.Comment
					}
					all[spec.Name.Name+"."+name.Name] = plainText(name.Name, doc)
				}
			}
		}
		return true
	})
	return all
}

func plainText(name string, doc *ast.CommentGroup) string {
	first, _, _ := strings.Cut(doc.Text(), "\n\n")
	text := strings.Join(strings.Fields(first), " ")
	return strings.TrimSuffix(regexp.MustCompile(`^`+name+` ((is|are) )?`).ReplaceAllString(text, ""), ".")
}

// validate holds a document in YAML against the schema, with as much of JSON
// Schema as it uses.
func validate(t *testing.T, data []byte) error {
	t.Helper()
	var schema map[string]any
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	var document any
	if err := yaml.Unmarshal(data, &document); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	return conforms(schema, schema["$defs"].(map[string]any), "", document)
}

func conforms(schema, defs map[string]any, at string, v any) error {
	if ref, ok := schema["$ref"].(string); ok {
		if err := conforms(defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any), defs, at, v); err != nil {
			return err
		}
	}
	if types := list(schema["type"]); types != nil && !slices.ContainsFunc(types, func(name any) bool { return isOf(name.(string), v) }) {
		return fmt.Errorf("%s: has the wrong type", at)
	}
	if enum := list(schema["enum"]); enum != nil && !slices.Contains(enum, v) {
		return fmt.Errorf("%s: is none of %v", at, enum)
	}
	if want, ok := schema["const"]; ok && want != v {
		return fmt.Errorf("%s: is not %v", at, want)
	}
	if pattern, ok := schema["pattern"].(string); ok && isOf("string", v) && !regexp.MustCompile(pattern).MatchString(v.(string)) {
		return fmt.Errorf("%s: does not match", at)
	}
	if least, ok := schema["minimum"].(float64); ok && v.(float64) < least {
		return fmt.Errorf("%s: is below %v", at, least)
	}
	if any := list(schema["anyOf"]); any != nil && !slices.ContainsFunc(any, func(one interface{}) bool {
		return conforms(one.(map[string]interface{}), defs, at, v) == nil
	}) {
		return fmt.Errorf("%s: fits nothing", at)
	}
	switch v := v.(type) {
	case []any:
		for i, item := range v {
			if err := conforms(schema["items"].(map[string]any), defs, fmt.Sprintf("%s/%d", at, i), item); err != nil {
				return err
			}
		}
	case map[string]any:
		return conformsObject(schema, defs, at, v)
	}
	return nil
}

func conformsObject(schema, defs map[string]any, at string, v map[string]any) error {
	if schema["$ref"] != nil {
		return nil // looked at already
	}
	for _, name := range list(schema["required"]) {
		if _, ok := v[name.(string)]; !ok {
			return fmt.Errorf("%s: %s is missing", at, name)
		}
	}
	properties, _ := schema["properties"].(map[string]any)
	for name, value := range v {
		property, ok := properties[name].(map[string]any)
		if !ok {
			property, ok = schema["additionalProperties"].(map[string]any)
		}
		if !ok {
			return fmt.Errorf("%s: %s is not known", at, name)
		}
		if err := conforms(property, defs, at+"/"+name, value); err != nil {
			return err
		}
	}
	return nil
}

// list is a list, or a value as a list of one; nil where there is none.
func list(v any) []any {
	if v == nil {
		return nil
	}
	if many, ok := v.([]any); ok {
		return many
	}
	return []any{v}
}

func isOf(name string, v any) bool {
	switch v := v.(type) {
	case nil:
		return name == "null"
	case string:
		return name == "string"
	case bool:
		return name == "boolean"
	case float64:
		return name == "integer" && v == math.Trunc(v)
	case []any:
		return name == "array"
	}
	return name == "object"
}
