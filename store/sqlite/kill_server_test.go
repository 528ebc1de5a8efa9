package sqlite_test

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/evergrant/evergrant/internal/killtest"
	"github.com/evergrant/evergrant/store/sqlite"
)

// serverLogPages is the environment variable of a server's sqlite.Options.LogPages.
const serverLogPages = "EVERGRANT_TEST_LOG_PAGES"

func TestMain(m *testing.M) {
	path := killtest.Place()
	if path == "" {
		os.Exit(m.Run())
	}
	if err := serveUntilKilled(path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// killSwitch ends the process at a step of the store.
type killSwitch struct {
	seen  sync.Map // names of steps that were passed
	armed atomic.Pointer[aim]
}

// aim is at a passage of a step: 1 is the next.
type aim struct {
	step string
	left atomic.Int64
}

// passed does not return from the passage that is aimed at: the process ends as
// by kill -9, without a deferred call, a flush or a closed file.
func (k *killSwitch) passed(step string) {
	k.seen.LoadOrStore(step, true)
	if a := k.armed.Load(); a == nil || a.step != step || a.left.Add(-1) != 0 {
		return
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		panic(err)
	}
	select {}
}

// serveUntilKilled is the server process.
func serveUntilKilled(path string) error {
	logPages, err := strconv.Atoi(os.Getenv(serverLogPages))
	if err != nil {
		return err
	}
	var kill killSwitch
	store, err := sqlite.Open(context.Background(), path, sqlite.Options{Step: kill.passed, LogPages: logPages})
	if err != nil {
		return err
	}
	return killtest.Serve(context.Background(), store, func(mux *http.ServeMux) { mux.HandleFunc("POST /test/arm", kill.arm) })
}

// arm aims at the passage of a step that a request names, and answers which steps
// were passed.
func (k *killSwitch) arm(w http.ResponseWriter, r *http.Request) {
	passages, err := strconv.ParseInt(r.FormValue("passages"), 10, 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	target := &aim{step: r.FormValue("step")}
	target.left.Store(passages)
	seen := []string{}
	k.seen.Range(func(step, _ any) bool {
		seen = append(seen, step.(string))
		return true
	})
	json.NewEncoder(w).Encode(seen)
	http.NewResponseController(w).Flush() // the process may end before this function returns
	k.armed.Store(target)
}

// declaredSteps are the values of the store's Step constants, from its source,
// so that one which is added is killed at as well.
func declaredSteps(t *testing.T) []string {
	t.Helper()
	steps := map[string]bool{}
	files := must[[]string](t)(filepath.Glob("*.go"))
	for _, name := range files {
		if !strings.HasSuffix(name, "_test.go") {
			collectSteps(t, name, steps)
		}
	}
	if len(steps) < 5 {
		t.Fatalf("only the steps %v found in the source", steps)
	}
	return slices.Sorted(maps.Keys(steps))
}

func collectSteps(t *testing.T, name string, steps map[string]bool) {
	t.Helper()
	file := must[*ast.File](t)(parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution))
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Names) != 1 || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Step") {
			return true
		}
		if literal, ok := spec.Values[0].(*ast.BasicLit); ok && literal.Kind == token.STRING {
			steps[must[string](t)(strconv.Unquote(literal.Value))] = true
		}
		return true
	})
}
