package oauth_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// holder has v where programs put things that they print later.
type holder[T any] struct {
	Value   T
	Pointer *T
	List    []T
	Table   map[string]T
	Any     any
}

// buried has v where fmt cannot ask it how it prints.
type buried[T any] struct {
	hidden T
	inner  struct{ hidden T }
}

func hold[T any](v T) holder[T] {
	return holder[T]{v, &v, []T{v}, map[string]T{"key": v}, v}
}

func bury[T any](v T) *buried[T] {
	return &buried[T]{v, struct{ hidden T }{v}}
}

// printings are the texts of v in each way of printing and logging.
func printings(v any) map[string]string {
	texts := map[string]string{"error": fmt.Errorf("failed: %v", v).Error(), "joined errors": errors.Join(fmt.Errorf("%+v", v)).Error()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%60.3v", "%-5s"} {
		texts[verb] = fmt.Sprintf(verb, v)
	}
	var text, json bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("printed", "value", v, slog.Group("group", "value", v))
	slog.New(slog.NewJSONHandler(&json, nil)).Info("printed", "value", v, slog.Group("group", "value", v))
	texts["slog text"], texts["slog JSON"] = text.String(), json.String()
	return texts
}

// checkPrintings holds that no way of printing v shows one of the secrets.
func checkPrintings(t *testing.T, v any, secrets ...string) {
	t.Helper()
	for how, text := range printings(v) {
		for _, secret := range secrets {
			if strings.Contains(text, secret) || strings.Contains(text, fmt.Sprintf("%x", secret)) || strings.Contains(text, fmt.Sprintf("%X", secret)) {
				t.Errorf("%s of %T shows %s: %s", how, v, secret, text)
			}
		}
	}
}
