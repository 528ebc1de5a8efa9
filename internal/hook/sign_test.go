package hook_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/secret"
)

func TestSign(t *testing.T) {
	key, at, body := secret.NewText("whsec"), time.Unix(1936776600, 5e8), []byte(`{"id":7}`)
	mac := hmac.New(sha256.New, []byte("whsec"))
	mac.Write([]byte(`1936776600.{"id":7}`))
	if got, want := hook.Sign(key, at, body), "t=1936776600,v1="+hex.EncodeToString(mac.Sum(nil)); got != want {
		t.Errorf("signature %q, want %q", got, want)
	}
	first := hook.Sign(key, at, body)
	for name, other := range map[string]string{
		"another secret": hook.Sign(secret.NewText("whsec2"), at, body),
		"another time":   hook.Sign(key, at.Add(time.Second), body),
		"another body":   hook.Sign(key, at, []byte(`{"id":8}`)),
	} {
		if first[strings.Index(first, "v1="):] == other[strings.Index(other, "v1="):] {
			t.Errorf("%s has the same signature", name)
		}
	}
}

func TestHookCheck(t *testing.T) {
	good := hook.Hook{Name: "app", URL: "https://app.example/hooks", Secret: secret.NewText("whsec"), Events: []string{"connection.*", "grant.reuse_detected", "*"}}
	for name, tt := range map[string]struct {
		change func(*hook.Hook)
		says   string // "" where it is good
	}{
		"good":                 {func(h *hook.Hook) {}, ""},
		"all events":           {func(h *hook.Hook) { h.Events = nil }, ""},
		"by http":              {func(h *hook.Hook) { h.URL = "http://app:3000/hooks" }, ""},
		"no name":              {func(h *hook.Hook) { h.Name = "" }, "needs a name"},
		"no URL":               {func(h *hook.Hook) { h.URL = "" }, "https://"},
		"no scheme":            {func(h *hook.Hook) { h.URL = "app.example/hooks?key=hush" }, "https://"},
		"another scheme":       {func(h *hook.Hook) { h.URL = "ftp://app.example/hush" }, "https://"},
		"no host":              {func(h *hook.Hook) { h.URL = "https:///hush" }, "https://"},
		"no URL at all":        {func(h *hook.Hook) { h.URL = "::hush" }, "https://"},
		"no secret":            {func(h *hook.Hook) { h.Secret = secret.Text{} }, "give it a secret"},
		"empty pattern":        {func(h *hook.Hook) { h.Events = []string{""} }, "not an event type"},
		"star in the middle":   {func(h *hook.Hook) { h.Events = []string{"connection.*.x"} }, "not an event type"},
		"star without dot":     {func(h *hook.Hook) { h.Events = []string{"conn*"} }, "not an event type"},
		"star twice":           {func(h *hook.Hook) { h.Events = []string{"**"} }, "not an event type"},
		"one bad among others": {func(h *hook.Hook) { h.Events = []string{"connection.*", "x*"} }, `"x*"`},
	} {
		t.Run(name, func(t *testing.T) {
			h := good
			tt.change(&h)
			err := h.Check()
			if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want it to say %q", err, tt.says)
			}
			if strings.Contains(fmt.Sprint(err), "hush") || strings.Contains(fmt.Sprint(err), "whsec") {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}
