package oauth_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime/multipart"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/evergrant/evergrant/oauth"
)

func TestParseJSONParams(t *testing.T) {
	for body, want := range map[string]map[string]string{
		`{}`:                     {},
		` {"a":"1","b":"é\n/"} `: {"a": "1", "b": "é\n/"},
		`{"a":1,"b":-2.50e3,"c":12345678901234567890}`: {"a": "1", "b": "-2.50e3", "c": "12345678901234567890"},
		`{"a":true,"b":false,"c":null,"d":""}`:         {"a": "true", "b": "false", "c": "", "d": ""},
		`{"":"x"}`:                                     {"": "x"},
		`{"\u0061":"\u0062\ud83d\ude00"}`:              {"a": "b😀"},
	} {
		p, err := oauth.ParseJSONParams([]byte(body))
		if err != nil {
			t.Errorf("%s: %v", body, err)
		}
		for name, value := range want {
			if p.Get(name) != value || p.Has(name) != (value != "") {
				t.Errorf("%s: %q is %q", body, name, p.Get(name))
			}
		}
	}
	for body, says := range map[string]string{
		"":                            "not a JSON object",
		"null":                        "not a JSON object",
		`"a"`:                         "not a JSON object",
		`[{"a":"1"}]`:                 "not a JSON object",
		`{"a":"1"`:                    "not a JSON object",
		`{"a":"1",}`:                  "not a JSON object",
		`{"a" "1"}`:                   "not a JSON object",
		`{"a":}`:                      "not a JSON object",
		`{a:1}`:                       "not a JSON object",
		`{"a":1} {"a":1}`:             "not a JSON object",
		`{"a":"1"}x`:                  "not a JSON object",
		"{\"a\":\"\xff\"}":            "not a JSON object",
		"{\"\xff\":1}":                "not a JSON object",
		`{"a":"1","a":"1"}`:           "parameter a is given more than once",
		`{"a":null,"a":1}`:            "parameter a is given more than once",
		`{"resource":1,"resource":2}`: "parameter resource is given more than once",
		`{"a":{"b":"c"}}`:             "parameter a must be a text or a number",
		`{"a":[]}`:                    "parameter a must be a text or a number",
		`{"é\"":[]}`:                  "parameter ?? must be a text or a number",
		`{"a":"\u0000"}`:              "parameter a is not UTF-8 or contains a NUL",
	} {
		_, err := oauth.ParseJSONParams([]byte(body))
		refused, ok := errors.AsType[*oauth.ParamsError](err)
		if !ok || !strings.Contains(refused.Reason, says) {
			t.Errorf("%s: %v, want %q", body, err, says)
		}
	}
}

const crlf = "\r\n"

// part is one of a multipart/form-data body with the boundary b.
func part(disposition, value string) string {
	return "--b" + crlf + "Content-Disposition: form-data" + disposition + crlf + crlf + value + crlf
}

func TestParseMultipart(t *testing.T) {
	for body, want := range map[string]map[string]string{
		"--b--": {},
		part(`; name="a"`, "1") + part(`; name="b"`, "é"+crlf+"&=%41") + "--b--":  {"a": "1", "b": "é" + crlf + "&=%41"},
		part(`; name=a`, "1") + "--b--" + crlf + "the rest":                       {"a": "1"},
		part(`; name="file"; filename="x.txt"`, "1") + "--b--":                    {"file": ""},
		part(`; name="resource"`, "1") + part(`; name="resource"`, "2") + "--b--": {"resource": "1"},
	} {
		p, err := oauth.ParseMultipart([]byte(body), "b")
		if err != nil {
			t.Errorf("%q: %v", body, err)
		}
		for name, value := range want {
			if p.Get(name) != value {
				t.Errorf("%q: %q is %q", body, name, p.Get(name))
			}
		}
	}
	for body, says := range map[string]string{
		"":                      "not valid multipart/form-data",
		"a=1":                   "not valid multipart/form-data",
		part(`; name="a"`, "1"): "not valid multipart/form-data",
		"--b" + crlf + "nonsense" + crlf + crlf + "--b--":           "not valid multipart/form-data",
		part(`; name="a"`, "1") + part(`; name="a"`, "1") + "--b--": "parameter a is given more than once",
		part(`; name="a"`, "\xff") + "--b--":                        "parameter a is not UTF-8",
		part(`; name="a"`, "\x00") + "--b--":                        "parameter a is not UTF-8 or contains a NUL",
	} {
		_, err := oauth.ParseMultipart([]byte(body), "b")
		refused, ok := errors.AsType[*oauth.ParamsError](err)
		if !ok || !strings.Contains(refused.Reason, says) {
			t.Errorf("%q: %v, want %q", body, err, says)
		}
	}
	if _, err := oauth.ParseMultipart([]byte("--b--"), ""); err == nil {
		t.Error("without a boundary")
	}
}

func TestParamsWith(t *testing.T) {
	p, err := oauth.ParseParams("a=1&b=2")
	if err != nil {
		t.Fatal(err)
	}
	q := p.With("c", "3").With("a", "9")
	if p.Has("c") || p.Get("a") != "1" || q.Get("a") != "9" || q.Get("b") != "2" || q.Get("c") != "3" {
		t.Errorf("%v became %v", p, q)
	}
	if none := (oauth.Params{}).With("a", "1"); none.Get("a") != "1" {
		t.Errorf("%v", none)
	}
	if printed := fmt.Sprintf("%v %+v", q, q); strings.ContainsAny(printed, "1239") {
		t.Errorf("prints as %s", printed)
	}
}

// checkParams checks what parameters have whatever form they came in.
func checkParams(t *testing.T, p oauth.Params, err error) bool {
	t.Helper()
	if err != nil {
		refused, ok := errors.AsType[*oauth.ParamsError](err)
		if !ok || refused.Reason == "" || refused.Reason != oauth.Legal(refused.Reason) {
			t.Fatalf("error %v", err)
		}
		return false
	}
	if printed := fmt.Sprintf("%+v", p); strings.ContainsAny(printed, "\r\n\x1b") {
		t.Fatalf("prints as %q", printed)
	}
	return true
}

func FuzzParseJSONParams(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":"1"}`, `{"a":1,"a":2}`, `{"a":{}}`, `{"a":null}`, `[]`, `{"a":"\ud800"}`, "{\"a\":\"\xff\"}", `{"a":1}}`, `{"a":1e999,"b":true}`, `{"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := oauth.ParseJSONParams(body)
		if !checkParams(t, p, err) {
			return
		}
		var members map[string]any
		if err := json.Unmarshal(body, &members); err != nil || !utf8.Valid(body) {
			if !strings.Contains(fmt.Sprint(err), "cannot unmarshal number") { // 1e999 is a text here
				t.Fatalf("%q was accepted: %v", body, err)
			}
			return
		}
		for name, value := range members {
			switch value := value.(type) {
			case string:
				if p.Get(name) != value {
					t.Fatalf("%q: %q is %q", body, name, p.Get(name))
				}
			case nil:
				if p.Has(name) {
					t.Fatalf("%q: null is %q", body, p.Get(name))
				}
			case map[string]any, []any:
				t.Fatalf("%q: a nested value was accepted", body)
			}
		}
	})
}

func FuzzParseMultipart(f *testing.F) {
	for _, seed := range []string{"--b--", part(`; name="a"`, "1") + "--b--", part(`; name="a"; filename="b"`, "1") + "--b--", part("", "1") + "--b--", "--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=41\r\n--b--"} {
		f.Add([]byte(seed), "b")
	}
	f.Fuzz(func(t *testing.T, body []byte, boundary string) {
		p, err := oauth.ParseMultipart(body, boundary)
		checkParams(t, p, err)
		if len(boundary) > 0 {
			return
		}
		// What is written with a boundary of its own is read as it was.
		var b strings.Builder
		w := multipart.NewWriter(&b)
		value := strings.ToValidUTF8(strings.ReplaceAll(string(body), "\x00", ""), "")
		if err := errors.Join(w.WriteField("a", value), w.Close()); err != nil {
			t.Fatal(err)
		}
		again, err := oauth.ParseMultipart([]byte(b.String()), w.Boundary())
		if err != nil || again.Get("a") != value {
			t.Fatalf("%q was read as %q, %v", value, again.Get("a"), err)
		}
	})
}

// TestFormsAgree: the same parameters in three forms.
func TestFormsAgree(t *testing.T) {
	values := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"a/b+c é&=%"}}
	form, err := oauth.ParseParams(values.Encode())
	if err != nil {
		t.Fatal(err)
	}
	object, err := oauth.ParseJSONParams([]byte(`{"grant_type":"refresh_token","refresh_token":"a/b+c é&=%"}`))
	if err != nil {
		t.Fatal(err)
	}
	parts, err := oauth.ParseMultipart([]byte(part(`; name="grant_type"`, "refresh_token")+part(`; name="refresh_token"`, "a/b+c é&=%")+"--b--"), "b")
	if err != nil {
		t.Fatal(err)
	}
	for name := range values {
		if form.Get(name) != object.Get(name) || form.Get(name) != parts.Get(name) {
			t.Errorf("%s: %q, %q and %q", name, form.Get(name), object.Get(name), parts.Get(name))
		}
	}
}
