package main

import (
	"bytes"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWrap(t *testing.T) {
	for _, test := range []struct {
		name, text, newline, want string
		width                     int
	}{
		{"short", "one two", "\n", "one two", 7},
		{"at a blank", "one two three", "\n", "one two\nthree", 7},
		{"exactly", "one two three", "\n", "one two\nthree", 8},
		{"several times", "one two three four", "\n", "one\ntwo\nthree\nfour", 5},
		{"long words stay whole", "see 1234567890 there", "\n", "see\n1234567890\nthere", 6},
		{"a long word alone", "1234567890", "\n", "1234567890", 4},
		{"later lines are indented", "one two three", "\n  ", "one two\n  three", 7},
		{"and have less room", "one two three four", "\n   ", "one two\n   three\n   four", 8},
		{"indentation is kept", "    one two", "\n", "    one\ntwo", 8},
		{"nothing but blanks", "          ", "\n", "          ", 4},
		{"columns are kept", "name   value", "\n", "name   value", 12},
		{"characters count, not bytes", "…… ……", "\n", "…… ……", 5},
		{"empty", "", "\n", "", 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := wrap(test.text, test.width, test.newline); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

func FuzzWrap(f *testing.F) {
	f.Add("one two three", 7)
	f.Add("   ", 1)
	f.Add("\x80 \xff", 0)
	f.Fuzz(func(t *testing.T, text string, width int) {
		wrapped := wrap(text, width, "\n")
		words := func(s string) string {
			return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\n' }), " ")
		}
		if words(wrapped) != words(text) {
			t.Errorf("%q became %q", text, wrapped)
		}
	})
}

func TestLayOutIsTheSameCommand(t *testing.T) {
	long := strings.Repeat("x", 2*storyWidth)
	for _, test := range []struct {
		name  string
		words []string
		lines int
	}{
		{"short", []string{"printf", "'[%s]'", "a", "'b c'"}, 1},
		{"long words", []string{"printf", "'[%s]'", long, "a", "'" + long + " y'", "b"}, 5},
		{"a long first argument", []string{"echo", long, long}, 2},
		{"many words", append([]string{"printf", "'[%s]'"}, strings.Split(strings.Repeat("word ", 60)+"end", " ")...), 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			laidOut := layOut(test.words)
			run := func(command string) string {
				out, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput()
				if err != nil {
					t.Fatal(err)
				}
				return string(out)
			}
			if got, want := run(laidOut), run(strings.Join(test.words, " ")); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if got := strings.Count(laidOut, "\n") + 1; got != test.lines {
				t.Errorf("%d lines:\n%s", got, laidOut)
			}
		})
	}
}

func TestShortenLeavesWhatTellsTokensApart(t *testing.T) {
	jwt := "eyJhbGciOiJF" + strings.Repeat("x", 40) + ".eyJpc3M" + strings.Repeat("y", 40) + "." + strings.Repeat("z", 30) + "12345678"
	refresh := "egr_AAAAAQkf" + strings.Repeat("x", 40) + "12345678"
	for _, test := range []struct{ name, text, want string }{
		{"a JWT", `{"access_token":"` + jwt + `"}`, `{"access_token":"eyJhbGciOiJF…12345678"}`},
		{"a refresh token", "it is " + refresh + ".", "it is egr_AAAAAQkf…12345678."},
		{"a code in a URL", "http://host/?code=" + strings.Replace(refresh, "egr_", "egc_", 1) + "&iss=x", "http://host/?code=egc_AAAAAQkf…12345678&iss=x"},
		{"two", refresh + " became " + refresh, "egr_AAAAAQkf…12345678 became egr_AAAAAQkf…12345678"},
		{"no token", "egr_short and eyJ.x are none", "egr_short and eyJ.x are none"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := shorten(test.text); got != test.want {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestAnswersAreShown(t *testing.T) {
	to := func(location string) http.Header { return http.Header{"Location": {location}} }
	for _, test := range []struct {
		name, want string
		e          exchange
	}{
		{"JSON", "    → 200 OK\n    {\n      \"a\": 1\n    }\n", exchange{status: 200, body: []byte(`{"a":1}`)}},
		{"text", "    → 502 Bad Gateway\n    sorry\n", exchange{status: 502, body: []byte("sorry\n")}},
		{"nothing", "    → 200 OK\n    (an empty body)\n", exchange{status: 200}},
		{"a page", "    → 200 OK\n    (a page: Sign in)\n", exchange{status: 200, body: []byte("<html><title>Sign in</title>")}},
		{"a redirect", "    → 303 See Other, to http://host/\n", exchange{status: 303, header: to("http://host/")}},
		{"a redirect to the page itself", "    → 303 See Other, to the same page\n", exchange{status: 303, header: to("?a=b")}},
		{"no answer", "    → no answer\n", exchange{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			(&story{w: &out}).answer(test.e)
			if out.String() != test.want {
				t.Errorf("got\n%s", &out)
			}
		})
	}
}

func TestPromisesAreShown(t *testing.T) {
	kept := promise{"Issue", "the token is good", true, "good is true"}
	broken := promise{"Issue", "the token is good", false, "good is false"}
	for _, test := range []struct {
		name, want string
		promise    promise
		colour     bool
	}{
		{"kept", "  ✓ the token is good (good is true)\n", kept, false},
		{"broken", "  ✗ BROKEN: the token is good (good is false)\n", broken, false},
		{"kept, in colour", "  \x1b[32m✓ \x1b[0mthe token is good (good is true)\n", kept, true},
		{"broken, in colour", "  \x1b[1;31m✗ BROKEN: \x1b[0mthe token is good (good is false)\n", broken, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			(&story{w: &out, colour: test.colour}).promise(test.promise)
			if out.String() != test.want {
				t.Errorf("got %q", out.String())
			}
		})
	}
}

func TestStoryFitsItsWidth(t *testing.T) {
	text := strings.Repeat("several words of different lengths ", 20) + "end"
	var out bytes.Buffer
	s := &story{w: &out}
	s.heading("A title")
	s.prose(text)
	s.aside(text)
	s.block("    " + text + "\n\n" + text)
	s.promise(promise{"", text, true, text})
	s.answer(exchange{status: 303, header: http.Header{"Location": {text}}})
	for line := range strings.Lines(out.String()) {
		line = strings.TrimSuffix(line, "\n")
		if utf8.RuneCountInString(line) > storyWidth || strings.HasSuffix(line, " ") {
			t.Errorf("%d characters: %q", utf8.RuneCountInString(line), line)
		}
	}
}

// TestLive holds that a live line is overwritten by whatever comes next, and that
// only a terminal has one.
func TestLive(t *testing.T) {
	var out bytes.Buffer
	last := &lastLine{w: &out}
	s := &story{w: last, last: last}
	s.live("1 renewal")
	s.live("1 renewal")
	s.live("2 renewals")
	s.line("a line")
	s.prose("text")
	s.live("2 renewals")
	const clear = "\r\x1b[K"
	if want := "  1 renewal" + clear + "  2 renewals" + clear + "    a line\n  text\n  2 renewals"; out.String() != want {
		t.Errorf("got  %q\nwant %q", &out, want)
	}
	out.Reset()
	(&story{w: &out}).live("1 renewal")
	if out.Len() > 0 {
		t.Errorf("what is no terminal gets %q", &out)
	}
}

func TestShorten(t *testing.T) {
	long := strings.Repeat("a1B_-", 20)
	for _, test := range []struct{ name, text, want string }{
		{"a simulator's token", "is sim_at_KBNtCBI36jSqwPM1JPNDAEzkNtnTOfBn.", "is sim_at_KBNtC…NtnTOfBn."},
		{"its code", "?code=sim_code_LPjzvzjf01DVV-2rWZEOQnFTVn6XRdfq&state=x", "?code=sim_code_LPj…Vn6XRdfq&state=x"},
		{"a sealed text in a URL", "http://127.0.0.1:1/connect/" + long + "?x", "http://127.0.0.1:1/connect/a1B_-a1B_-a1…B_-a1B_-?x"},
		{"words", "sim_client and 127.0.0.1", "sim_client and 127.0.0.1"},
	} {
		if got := shorten(test.text); got != test.want {
			t.Errorf("%s: %q", test.name, got)
		}
	}
}
