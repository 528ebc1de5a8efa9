package provider

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTemplateNames(t *testing.T) {
	tests := []struct {
		text  string
		names []string
		ok    bool
	}{
		{"", nil, true},
		{"plain", nil, true},
		{"{client_id}", []string{"client_id"}, true},
		{"a{b}c{d|e.f-g}h", []string{"b", "d", "e.f-g"}, true},
		{"{a}{a}", []string{"a", "a"}, true},
		{"{params.x_1}", []string{"params.x_1"}, true},
		{"{", nil, false}, {"}", nil, false}, {"{}", nil, false}, {"{a", nil, false}, {"a}", nil, false}, {"{a}}", nil, false},
		{"{{a}}", nil, false}, {"{a|}", nil, false}, {"{|a}", nil, false}, {"{a b}", nil, false}, {"{a{b}", nil, false}, {"{é}", nil, false},
		{`{"json":1}`, nil, false},
	}
	for _, tt := range tests {
		names, err := templateNames(tt.text)
		if (err == nil) != tt.ok || tt.ok && !slices.Equal(names, tt.names) {
			t.Errorf("%q: %q, %v", tt.text, names, err)
		}
	}
}

func TestTemplateRender(t *testing.T) {
	v := values{"a": "1", "b": "&/ é", "params.host": "acme.example", "params.origin": "https://acme.example:8443", "params.none": "", "c": "acme.example"}
	tests := []struct {
		text, want, url string // url is "" where it cannot be one
	}{
		{"x", "x", ""},
		{"{a}-{b}", "1-&/ é", ""},
		{"{none}", "", ""},
		{"{none|a}", "1", ""},
		{"{params.none|b}", "&/ é", ""},
		{"https://acme.example/{b}/x?y={b}", "https://acme.example/&/ é/x?y=&/ é", "https://acme.example/%26%2F%20%C3%A9/x?y=%26%2F%20%C3%A9"},
		{"https://{params.host}/x", "https://acme.example/x", "https://acme.example/x"},
		{"{params.origin}/x", "https://acme.example:8443/x", "https://acme.example:8443/x"},
		{"{params.origin}/{params.origin}", "https://acme.example:8443/https://acme.example:8443", "https://acme.example:8443/https%3A%2F%2Facme.example%3A8443"},
		{"https://x{params.none}.example/{params.none}", "https://x.example/", "https://x.example/"},
		{"https://x.example?{a}", "https://x.example?1", "https://x.example?1"},
		{"https://{c}/x", "https://acme.example/x", ""},
		{"https://x.example/{none}", "https://x.example/", ""},
		{"https://x.example/{params.other}", "https://x.example/", ""},
		{"https://user@x.example/", "https://user@x.example/", ""},
		{"https://x.example/#a", "https://x.example/#a", ""},
		{"/x", "/x", ""},
		{"https:///x", "https:///x", ""},
	}
	for _, tt := range tests {
		got, err := v.render(tt.text)
		if err != nil || got != tt.want {
			t.Errorf("%s: %s, %v", tt.text, got, err)
		}
		u, err := v.renderURL(tt.text)
		if (err == nil) != (tt.url != "") || err == nil && u.String() != tt.url {
			t.Errorf("%s as URL: %v, %v", tt.text, u, err)
		}
		if err != nil && strings.Contains(err.Error(), "é") {
			t.Errorf("%s shows a value: %v", tt.text, err)
		}
	}
}

// TestFind follows paths.
func TestFind(t *testing.T) {
	root, whole := parseJSON([]byte(`{"a":{"b":[{"c":1},"x",null,""],".d":2},"e.f":3,"e":{"f":4,"g":5},"t":"{\"u\":{\"v\":6}}","l":"[7]","half":"{\"u\":1","n":null,"z":0,"no":false}`))
	if !whole {
		t.Fatal("not whole")
	}
	tests := map[string]string{
		"a.b.0.c": "1", "a.b.1": "x", "a.b.2": "", "a.b.3": "", "a.b.4": "", "a.b.-1": "", "a.b.x": "", "a.b.0.c.d": "", "a..d": "2", "e.f": "3", "e.g": "5",
		"t.u.v": "6", "l.0": "7", "half.u": "", "n": "", "z": "0", "no": "false", "x|n|z": "0", "n|a.b.3|a.b.1": "x", "": "", ".": "", "a.": "", "|": "",
	}
	for path, want := range tests {
		if got := text(find(root, path)); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if got := find(nil, "a.b"); got != nil {
		t.Error(got)
	}
}

// FuzzTemplate holds that a param stays where it stands: in its part of the
// host, or in one segment of the path, or in one value of the query.
func FuzzTemplate(f *testing.F) {
	for _, value := range []string{"x", "", "a/b", "..", "evil.example/", "evil.example#", "@", "%2f", "[::1]", "a b", "\x00", "é", "{client_id}", "https://x"} {
		f.Add(value, "https://{params.x}.acme.example/{params.x}?a={params.x}&b=1")
		f.Add(value, value)
	}
	f.Fuzz(func(t *testing.T, value, template string) {
		v := values{"params.x": value, "client_secret": "s3cr&t+"}
		if names, err := templateNames(template); err == nil {
			if _, err := v.render(template); err != nil {
				t.Fatalf("%q has the names %q and cannot be written: %v", template, names, err)
			}
			v.renderURL(template)
		}
		u, err := v.renderURL("https://{params.x}.acme.example/{params.x}?a={params.x}&b=1")
		if err != nil {
			return
		}
		if query := u.Query(); !strings.HasSuffix(u.Host, ".acme.example") && !strings.Contains(value, "/") || u.User != nil || query.Get("b") != "1" {
			t.Fatalf("%q: %s", value, u)
		}
		if !strings.Contains(value, "/") && (u.Path != "/"+value || u.Query().Get("a") != value) {
			t.Fatalf("%q: %s", value, u)
		}
	})
}

// FuzzExpiry holds that every text in every form gives a time after now that can
// be stored, or none.
func FuzzExpiry(f *testing.F) {
	for _, value := range []string{"3600", "3599.5", "3.6e3", "-1", "1e400", "NaN", "1893553445", "1893553445000", "2030-01-02T03:04:05+14:00", "2030-01-02 03:04:05", "Wed, 02 Jan 2030 04:04:05 GMT", "1:02:03", ""} {
		f.Add(value, int64(1893553445))
	}
	f.Fuzz(func(t *testing.T, value string, now int64) {
		from := time.Unix(now%(1<<36), 0)
		for _, form := range []string{"", "seconds", "milliseconds", "unix", "unix_ms", "rfc3339", "http_date", "days_clock", "auto", "other"} {
			at, ok := Expiry{Form: form}.at(value, from)
			if ok && (!at.After(from) || at.Sub(from) > maxLifetime || at.Before(from.Add(time.Millisecond)) && form == "seconds") {
				t.Fatalf("%q as %s: %v", value, form, at)
			}
		}
		if wait := (Answer{RetryAfter: value, Date: value, SentAt: from}).retryAfter(); wait < 0 || wait > 24*time.Hour {
			t.Fatalf("%q: %v", value, wait)
		}
	})
}
