package secret_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// holder has a value where programs put things that they print later.
type holder[T any] struct {
	Value   T
	Pointer *T
	List    []T
	Table   map[string]T
	Any     any
}

// buried has a value where fmt cannot ask it how it prints.
type buried[T any] struct {
	hidden T
	list   []T
	table  map[string]T
	any    any
	inner  struct{ hidden T }
}

// everywhere are v itself, a pointer to it, and structures that hold it.
func everywhere[T any](v T) []any {
	held := holder[T]{v, &v, []T{v}, map[string]T{"key": v}, v}
	hidden := buried[T]{v, []T{v}, map[string]T{"key": v}, v, struct{ hidden T }{v}}
	return []any{v, &v, held, &held, hidden, &hidden, []any{held, hidden}, map[string]any{"held": held, "hidden": hidden}}
}

// formatted are the verbs for which fmt asks a value, and unformatted those for
// which it does not.
var (
	formatted   = []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%t", "%f", "%c", "%U", "%60.3v", "%-5s"}
	unformatted = []string{"%p", "%T", "%!"}
)

// printings are the texts of v in each way of printing, logging and encoding.
func printings(v any) map[string]string {
	texts := map[string]string{
		"error":         fmt.Errorf("failed: %v", v).Error(),
		"joined errors": errors.Join(fmt.Errorf("%+v", v), fmt.Errorf("%s", v)).Error(),
		"Sprintln":      fmt.Sprintln("printed", v),
	}
	for _, verb := range slices.Concat(formatted, unformatted) {
		texts[verb] = fmt.Sprintf(verb, v)
	}
	var text, asJSON, plain bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).With("with", v).Info("printed", "value", v, slog.Group("group", "value", v))
	slog.New(slog.NewJSONHandler(&asJSON, nil)).With("with", v).Info("printed", "value", v, slog.Group("group", "value", v))
	log.New(&plain, "", 0).Println("printed", v)
	texts["slog text"], texts["slog JSON"], texts["log"] = text.String(), asJSON.String(), plain.String()
	encoders := map[string]func(any) ([]byte, error){
		"JSON": json.Marshal, "XML": xml.Marshal, "YAML": func(v any) ([]byte, error) { return yaml.Marshal(v) },
	}
	for name, encode := range encoders {
		encoded, err := encode(v)
		texts[name] = string(encoded)
		if err != nil {
			texts[name+" error"] = err.Error()
		}
	}
	return texts
}

// forms are the ways in which bytes show in a text.
func forms(key []byte) []string {
	list := strings.Trim(fmt.Sprintf("%v", key), "[]")
	source := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", key), "[]byte{"), "}")
	return []string{
		string(key), hex.EncodeToString(key), strings.ToUpper(hex.EncodeToString(key)), fmt.Sprintf("% x", key), fmt.Sprintf("% X", key),
		base64.RawStdEncoding.EncodeToString(key), base64.RawURLEncoding.EncodeToString(key),
		list, source, strings.ReplaceAll(list, " ", ","), strings.Trim(fmt.Sprintf("%q", string(key)), `"`),
	}
}

// checkPrintings holds that no way of printing v shows planted, nor a half of
// it, in any form.
func checkPrintings(t *testing.T, v any, planted []byte) {
	t.Helper()
	half := len(planted) / 2
	secrets := append(append(forms(planted), forms(planted[:half])...), forms(planted[half:])...)
	for how, text := range printings(v) {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s of %T shows %q: %s", how, v, secret, text)
				break
			}
		}
	}
}

// TestCheckPrintingsFinds holds that the search of these tests finds what it is
// for.
func TestCheckPrintingsFinds(t *testing.T) {
	planted := []byte("correct horse \x00\xff battery")
	for _, v := range []any{planted, string(planted), struct{ key []byte }{planted}, struct{ key [24]byte }{[24]byte(planted)}} {
		found := 0
		for _, text := range printings(v) {
			for _, form := range forms(planted) {
				if strings.Contains(text, form) {
					found++
					break
				}
			}
		}
		if found < 8 {
			t.Errorf("a plain %T was found in %d printings only", v, found)
		}
	}
}
