package structure

import (
	"bufio"
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/evergrant/evergrant"

// layers is the height of every package of the module. A package may import
// those below it and none beside or above it, except where siblings says so.
var layers = map[string]int{
	"oauth": 0, "secret": 0,
	"issuer": 1, "provider": 1, "probe": 1, ".": 1, "internal/hook": 1,
	"keeper": 2, "store/column": 2, "issuer/profile": 2, "internal/foreign": 2,
	"store/sqlite": 3, "store/postgres": 3, "internal/web": 3, "internal/bench": 3,
	"store/storetest": 3, "providertest": 3,
	"bench":         4,
	"bench/scale":   4,
	"cmd/evergrant": 4,

	"internal/structure": 0,
	// For tests alone: servers, the load of what is killed, and the database that a
	// suite runs on.
	"internal/pgtest": 0, "internal/mariatest": 0, "internal/foreign/foreigntest": 0, "internal/killtest": 2, "internal/testdb": 4,
}

// forTests are packages that tests import and nothing else does: they count as
// tests, and may do what tests may.
var forTests = []string{"store/storetest", "internal/pgtest", "internal/mariatest", "internal/foreign/foreigntest", "internal/killtest", "internal/testdb"}

// allowed narrows what the layers permit: what a package may import from this
// module, in full.
var allowed = map[string][]string{
	"oauth": {}, "secret": {}, "internal/structure": {}, "internal/pgtest": {}, "internal/mariatest": {}, "internal/foreign/foreigntest": {},
	"issuer":           {"oauth", "secret"},
	"provider":         {"oauth", "secret"},
	"probe":            {"oauth"},
	"internal/hook":    {"oauth", "secret"},
	".":                {"oauth", "secret"},
	"keeper":           {"oauth", "secret", "provider"},
	"issuer/profile":   {"oauth", "issuer"},
	"internal/foreign": {".", "oauth", "secret"},
	"store/column":     {"oauth", "secret", "issuer"},
	"internal/web":     {"oauth", "secret", "issuer", "provider", "keeper", "internal/hook"},
	"internal/bench":   {".", "oauth"},
	"bench":            {"internal/bench", ".", "oauth", "secret"},
	"bench/scale":      {"internal/bench", "issuer", "store/postgres"},
}

// source is one parsed Go file of the module.
type source struct {
	name, dir string
	test      bool
	lines     int
	code      int // lines that are neither blank nor comment
	syntax    *ast.File
}

// sources parses the whole module, nested modules left out. It reads the files
// itself, so that the test cache sees them change.
func sources(t *testing.T) ([]source, *token.FileSet) {
	t.Helper()
	root, fset := os.DirFS("../.."), token.NewFileSet()
	var all []source
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, nested := fs.Stat(root, path.Join(name, "go.mod"))
			if name != "." && (nested == nil || strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		syntax, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		all = append(all, source{name, path.Dir(name), strings.HasSuffix(name, "_test.go"), bytes.Count(text, []byte("\n")), codeLines(text), syntax})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("only %d Go files found: is the test in its place?", len(all))
	}
	return all, fset
}

func codeLines(text []byte) int {
	n, lines := 0, bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" && !strings.HasPrefix(line, "//") {
			n++
		}
	}
	return n
}

func TestImportsPointDown(t *testing.T) {
	all, _ := sources(t)
	for _, s := range all {
		if _, known := layers[s.dir]; !known {
			t.Errorf("%s: package %s has no layer; add it to layers and to docs/ARCHITECTURE.md", s.name, s.dir)
		}
		for _, spec := range s.syntax.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			target, ours := strings.CutPrefix(imported, module)
			if !ours {
				database := strings.Contains(imported, "sqlite") || strings.Contains(imported, "pgx") || strings.Contains(imported, "mysql")
				if database && !strings.HasPrefix(s.dir, "store/") && !strings.HasPrefix(s.dir, "internal/foreign") && s.dir != "internal/mariatest" {
					t.Errorf("%s imports the driver %s: only stores do, and what reads other servers' databases", s.name, imported)
				}
				continue
			}
			target = strings.TrimPrefix(target, "/")
			if target == "" {
				target = "."
			}
			if s.test || target == s.dir {
				continue // tests may use any package
			}
			if list, narrow := allowed[s.dir]; narrow && !slices.Contains(list, target) {
				t.Errorf("%s imports %s; %s may import %v", s.name, target, s.dir, list)
			}
			if layers[target] >= layers[s.dir] {
				t.Errorf("%s imports %s, which is not below it", s.name, target)
			}
			// testdb opens either database for the tests of packages that run on any, and
			// scale measures one.
			if strings.HasPrefix(target, "store/") && target != "store/column" && !slices.Contains([]string{"cmd/evergrant", "internal/testdb", "bench/scale"}, s.dir) {
				t.Errorf("%s imports %s: only cmd names a database", s.name, target)
			}
			if slices.Contains(forTests, target) && !slices.Contains(forTests, s.dir) {
				t.Errorf("%s imports %s, which is for tests", s.name, target)
			}
		}
	}
}

func TestImportDepth(t *testing.T) {
	all, _ := sources(t)
	below := map[string]map[string]bool{}
	for _, s := range all {
		for _, spec := range s.syntax.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			if target, ours := strings.CutPrefix(imported, module+"/"); ours && !s.test {
				if below[s.dir] == nil {
					below[s.dir] = map[string]bool{}
				}
				below[s.dir][target] = true
			}
		}
	}
	var depth func(string) int
	depth = func(dir string) int {
		deepest := 0
		for target := range below[dir] {
			deepest = max(deepest, depth(target))
		}
		return deepest + 1
	}
	for dir := range below {
		if d := depth(dir); d > 5 {
			t.Errorf("%s stands on a chain of %d packages; 5 is the ceiling", dir, d)
		}
	}
}

func TestFilesAndFunctionsStaySmall(t *testing.T) {
	all, fset := sources(t)
	var files, functions []int
	for _, s := range all {
		if s.test {
			continue
		}
		files = append(files, s.lines)
		if s.lines > 600 {
			t.Errorf("%s has %d lines; 600 is the ceiling", s.name, s.lines)
		}
		for _, decl := range s.syntax.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			lines := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1
			functions = append(functions, lines)
			if lines > 100 {
				t.Errorf("%s: %s has %d lines; 100 is the ceiling", s.name, fn.Name, lines)
			}
		}
	}
	slices.Sort(files)
	slices.Sort(functions)
	t.Logf("files: median %d lines; functions: median %d, 95th percentile %d", files[len(files)/2], functions[len(functions)/2], functions[len(functions)*95/100])
	if median := files[len(files)/2]; median > 180 {
		t.Errorf("the median file has %d lines; 180 is the ceiling", median)
	}
	if p95 := functions[len(functions)*95/100]; p95 > 50 {
		t.Errorf("the 95th percentile of functions has %d lines; 50 is the ceiling", p95)
	}
}

func TestInterfacesStaySmall(t *testing.T) {
	all, _ := sources(t)
	code, interfaces := 0, 0
	for _, s := range all {
		if s.test {
			continue
		}
		code += s.code
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			iface, ok := spec.Type.(*ast.InterfaceType)
			if !ok {
				return true
			}
			interfaces++
			if methods := iface.Methods.NumFields(); methods > 9 {
				t.Errorf("%s: interface %s has %d methods; 9 is the ceiling", s.name, spec.Name, methods)
			}
			return true
		})
	}
	if perThousand := float64(interfaces) / float64(code) * 1000; perThousand > 1.5 {
		t.Errorf("%d interfaces in %d lines of code: %.1f per thousand; 1.5 is the ceiling", interfaces, code, perThousand)
	}
}

func TestTestsAreAsLongAsCode(t *testing.T) {
	all, _ := sources(t)
	code, tests := 0, 0
	for _, s := range all {
		if s.test || slices.Contains(forTests, s.dir) {
			tests += s.code
		} else {
			code += s.code
		}
	}
	ratio := float64(tests) / float64(code)
	t.Logf("%d lines of tests for %d lines of code: %.2f", tests, code, ratio)
	if ratio < 1.2 {
		t.Errorf("%.2f lines of tests per line of code; 1.2 is the floor", ratio)
	}
}

func TestEverythingExportedIsDocumented(t *testing.T) {
	all, _ := sources(t)
	packages := map[string]bool{}
	for _, s := range all {
		if s.test {
			continue
		}
		packages[s.dir] = packages[s.dir] || s.syntax.Doc != nil
		for _, decl := range s.syntax.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && exportedReceiver(d) && d.Doc == nil {
					t.Errorf("%s: %s has no doc comment", s.name, d.Name)
				}
			case *ast.GenDecl:
				undocumented(t, s, d)
			}
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		if !packages[dir] {
			t.Errorf("package %s has no package comment", dir)
		}
	}
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	receiver := d.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	name, ok := receiver.(*ast.Ident)
	return ok && name.IsExported()
}

// undocumented finds exported types, constants and variables without a comment
// of their own, beside them, or on their group.
func undocumented(t *testing.T, s source, d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if spec.Name.IsExported() && d.Doc == nil && spec.Doc == nil {
				t.Errorf("%s: type %s has no doc comment", s.name, spec.Name)
			}
		case *ast.ValueSpec:
			for _, name := range spec.Names {
				if name.IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
					t.Errorf("%s: %s has no doc comment", s.name, name)
				}
			}
		}
	}
}

// TestTimeComesIn holds that nothing below cmd asks the clock itself: time
// comes in as a function, with time.Now as the default of a constructor.
func TestTimeComesIn(t *testing.T) {
	clockReaders := []string{"cmd/evergrant", "bench", "bench/scale", "internal/bench"}
	all, fset := sources(t)
	for _, s := range all {
		if s.test || slices.Contains(clockReaders, s.dir) || slices.Contains(forTests, s.dir) {
			continue
		}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			fn, ok := n.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				return true
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				selector, ok := call.Fun.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				pkg, ok := selector.X.(*ast.Ident)
				isClock := ok && pkg.Name == "time" && slices.Contains([]string{"Now", "Since", "Until"}, selector.Sel.Name)
				if isClock && fn.Name.Name != "clock" {
					t.Errorf("%s: %s reads the clock; take the time as a function", fset.Position(call.Pos()), fn.Name)
				}
				return true
			})
			return false
		})
	}
}

// TestNoInitAndNoForbiddenNames holds two small rules: no init functions, and
// no package names that say nothing.
func TestNoInitAndNoForbiddenNames(t *testing.T) {
	says := []string{"util", "utils", "common", "base", "core", "helper", "helpers", "types", "models", "impl"}
	all, _ := sources(t)
	for _, s := range all {
		if slices.Contains(says, s.syntax.Name.Name) || slices.Contains(says, path.Base(s.dir)) {
			t.Errorf("%s: the package name %s says nothing", s.name, s.syntax.Name.Name)
		}
		for _, decl := range s.syntax.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" && !s.test {
				t.Errorf("%s has an init function", s.name)
			}
		}
	}
}

// TestTestsDoNotSkip holds that no test skips: a part that is missing must fail.
func TestTestsDoNotSkip(t *testing.T) {
	all, fset := sources(t)
	for _, s := range all {
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if ok && s.test && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, selector.Sel.Name) {
				t.Errorf("%s: tests do not skip", fset.Position(selector.Pos()))
			}
			return true
		})
	}
}
