package secret_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/secret"
	"github.com/goccy/go-yaml"
)

const planted = "hunter2-correct-horse"

func TestTextIsRedacted(t *testing.T) {
	text := secret.NewText(planted)
	for _, verb := range formatted {
		if got := fmt.Sprintf(verb, text); strings.TrimSpace(got) != "[redacted]" {
			t.Errorf("%s prints %q", verb, got)
		}
	}
	for _, v := range everywhere(text) {
		checkPrintings(t, v, []byte(planted))
	}
	for _, v := range everywhere(&text) {
		checkPrintings(t, v, []byte(planted))
	}
	type password struct{ secret.Text }
	checkPrintings(t, password{text}, []byte(planted))
	checkPrintings(t, fmt.Errorf("client %v: %w", text, &refused{text}), []byte(planted))
	checkPrintings(t, map[secret.Text]secret.Text{text: text}, []byte(planted))
	checkPrintings(t, func() secret.Text { return text }, []byte(planted))
}

// refused is an error that holds a secret.
type refused struct{ presented secret.Text }

func (r *refused) Error() string { return "wrong secret" }

func TestTextOfNothingIsRedacted(t *testing.T) {
	var none *secret.Text
	for _, v := range []any{secret.Text{}, secret.NewText("")} {
		if got := fmt.Sprintf("%+v", v); got != "[redacted]" {
			t.Errorf("%#v prints %q: whether there is a secret shows", v, got)
		}
	}
	if got := fmt.Sprintf("%v", none); got != "<nil>" {
		t.Errorf("a nil pointer prints %q", got)
	}
}

func TestTextReveal(t *testing.T) {
	for _, value := range []string{"", "s", planted, "with \x00 and \xff", "[redacted]"} {
		text := secret.NewText(value)
		if text.Reveal() != value {
			t.Errorf("%q is revealed as %q", value, text.Reveal())
		}
		if text.Empty() != (value == "") {
			t.Errorf("Empty of %q is %t", value, text.Empty())
		}
	}
	var zero secret.Text
	if zero.Reveal() != "" || !zero.Empty() || !zero.Equal("") || zero.Equal("x") {
		t.Error("the zero value is not the empty text")
	}
}

func TestTextEqual(t *testing.T) {
	text := secret.NewText(planted)
	for other, want := range map[string]bool{
		planted: true, "": false, planted + "x": false, planted[1:]: false, strings.ToUpper(planted): false, "[redacted]": false,
		strings.Repeat("x", len(planted)): false,
	} {
		if text.Equal(other) != want {
			t.Errorf("Equal(%q) = %t", other, !want)
		}
	}
}

func TestTextJSON(t *testing.T) {
	type config struct {
		Password secret.Text   `json:"password"`
		Absent   secret.Text   `json:"absent,omitzero"`
		More     []secret.Text `json:"more"`
		Pointer  *secret.Text  `json:"pointer"`
	}
	var c config
	if err := json.Unmarshal([]byte(`{"password":"hunter2-correct-horse","more":["a",""],"pointer":"p"}`), &c); err != nil {
		t.Fatal(err)
	}
	if c.Password.Reveal() != planted || c.More[0].Reveal() != "a" || !c.More[1].Empty() || c.Pointer.Reveal() != "p" || !c.Absent.Empty() {
		t.Error("the configuration was not read in clear")
	}
	got, err := json.Marshal(c)
	if want := `{"password":"[redacted]","more":["[redacted]","[redacted]"],"pointer":"[redacted]"}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
	for _, bad := range []string{`{"password":1}`, `{"password":["hunter2-correct-horse"]}`, `{"password":{"x":"hunter2-correct-horse"}}`} {
		if err := json.Unmarshal([]byte(bad), &c); err == nil || strings.Contains(err.Error(), planted) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestTextYAML(t *testing.T) {
	var c struct {
		Password secret.Text            `yaml:"password"`
		Named    map[string]secret.Text `yaml:"named"`
	}
	if err := yaml.Unmarshal([]byte("password: hunter2-correct-horse\nnamed: {a: b c}\n"), &c); err != nil {
		t.Fatal(err)
	}
	if c.Password.Reveal() != planted || c.Named["a"].Reveal() != "b c" {
		t.Error("the configuration was not read in clear")
	}
	got, err := yaml.Marshal(c)
	if err != nil || strings.Contains(string(got), planted) || strings.Count(string(got), "[redacted]") != 2 {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestBytes(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		b := secret.Bytes(32)
		if len(b) != 32 || seen[string(b)] {
			t.Fatalf("%d bytes, or the same again", len(b))
		}
		seen[string(b)] = true
	}
	if len(secret.Bytes(0)) != 0 {
		t.Error("no bytes are some")
	}
}
