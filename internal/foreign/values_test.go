package foreign

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/secret"
)

func TestList(t *testing.T) {
	for text, want := range map[string][]string{
		"": nil, " \n": nil, "N;": nil, "null": nil, "a:0:{}": nil, "[]": nil, "{}": nil,
		`a:2:{i:0;s:1:"x";i:1;s:2:"yz";}`:       {"x", "yz"},
		`a:2:{i:7;s:1:"x";s:3:"key";s:1:"y";}`:  {"x", "y"},
		`a:1:{i:-3;s:0:"";}`:                    {""},
		`a:1:{i:0;s:4:"";";";}`:                 {`";";`},
		`a:1:{i:0;s:5:"jürg";}`:                 {"jürg"},
		`a:1:{i:0;s:12:"a:1:{i:0;N;}";}`:        {"a:1:{i:0;N;}"},
		`["https:\/\/a.example\/b", "x y"]`:     {"https://a.example/b", "x y"},
		`{"10": "c", "0": "a", "2": "b"}`:       {"a", "b", "c"},
		"https://a.example,https://b.example":   {"https://a.example", "https://b.example"},
		"https://a.example\r\nurn:x, \t urn:y ": {"https://a.example", "urn:x", "urn:y"},
	} {
		if got, err := list(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"a:", "a:1:{", "a:0:{}x", "a:1:{}", `a:2:{i:0;s:1:"x";}`, `a:1:{i:0;s:1:"x";i:1;s:1:"y";}`, `a:1:{i:0;s:2:"x";}`, `a:1:{i:0;s:1:"xy";}`,
		`a:1:{i:0;i:1;}`, `a:1:{i:0;a:0:{}}`, `a:1:{i:0;O:1:"X":0:{}}`, `a:1:{i:;s:1:"x";}`, `a:1:{d:0.5;s:1:"x";}`, `a:1:{i:0;s:-1:"";}`, `a:1:{i:0;s:9999999:"x";}`,
		`a:1:{i:0;s:99999999:"x";}`, `a:1:{i:0;N;}`, `a:1:{i:0;b:1;}`, "a:99999:{}", "a:-1:{}", `a:01:{i:0;s:1:'x';}`, "a:100000:{}",
		`["x"`, `[1]`, `["x", null, 1]`, `{"a": "x"}`, `{"0": 1}`, "a:1:{" + strings.Repeat("i:0;", 300_000) + "}",
	} {
		if got, err := list(text); err == nil {
			t.Errorf("%.80q was read as %q", text, got)
		}
	}
}

func FuzzList(f *testing.F) {
	for _, seed := range []string{
		"", "N;", `a:2:{i:0;s:1:"x";i:1;s:2:"yz";}`, `a:1:{s:1:"k";s:3:"";}";}`, `["x"]`, `{"0":"x"}`, "a,b", "a:1:{i:0;s:7:\"", "a:10000:{i:0;s:0:\"\";",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := list(text)
		if err != nil && got != nil {
			t.Fatalf("%q: %q, %v", text, got, err)
		}
		size := 0
		for _, s := range got {
			size += len(s)
		}
		if size > 3*len(text) { // what is not UTF-8 in JSON grows
			t.Fatalf("%q became %d bytes", text, size)
		}
		// What PHP would write of it reads as it.
		var again strings.Builder
		fmt.Fprintf(&again, "a:%d:{", len(got))
		for i, s := range got {
			fmt.Fprintf(&again, `i:%d;s:%d:"%s";`, i, len(s), s)
		}
		again.WriteString("}")
		if back, err := phpStrings(again.String()); len(got) <= maxPHPStrings && again.Len() < maxPHPBytes && (err != nil || !slices.Equal(back, got)) {
			t.Fatalf("%q: %q, %v", again.String(), back, err)
		}
	})
}

func TestParseTime(t *testing.T) {
	amsterdam, err := time.LoadLocation("Europe/Amsterdam")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		text  string
		where *time.Location
		want  string
	}{
		{"2026-05-06 07:08:09", time.UTC, "2026-05-06T07:08:09Z"},
		{"2026-05-06 07:08:09", amsterdam, "2026-05-06T05:08:09Z"},
		{"2026-01-06 07:08:09", amsterdam, "2026-01-06T06:08:09Z"},
		{"2026-05-06T07:08:09", time.UTC, "2026-05-06T07:08:09Z"},
		{"2026-05-06 07:08:09.123456", time.UTC, "2026-05-06T07:08:09.123456Z"},
		{"2026-05-06 07:08:09+00", amsterdam, "2026-05-06T07:08:09Z"},
		{"2026-05-06 07:08:09.5+02:00", time.UTC, "2026-05-06T05:08:09.5Z"},
		{"2026-05-06 07:08:09-03", time.UTC, "2026-05-06T10:08:09Z"},
		{"2026-05-06T07:08:09Z", amsterdam, "2026-05-06T07:08:09Z"},
		{"2026-05-06", amsterdam, "2026-05-05T22:00:00Z"},
		{"0000-00-00 00:00:00", time.UTC, "0001-01-01T00:00:00Z"},
		{"1970-01-01 01:00:00", amsterdam, "1970-01-01T00:00:00Z"},
	} {
		got, err := parseTime(tt.text, tt.where)
		if err != nil || got.Format(time.RFC3339Nano) != tt.want || got.Location() != time.UTC {
			t.Errorf("%s in %v: %v, %v", tt.text, tt.where, got, err)
		}
	}
	for _, text := range []string{"", "infinity", "-infinity", "now", "1767000000", "2026-13-01 00:00:00", "2026-02-30", "2026-05-06 25:00:00", "2026-05-06 07:08:09 BC"} {
		if got, err := parseTime(text, time.UTC); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

func FuzzParseTime(f *testing.F) {
	for _, seed := range []string{"", "2026-05-06 07:08:09", "2026-05-06T07:08:09.123+02:00", "0000-00-00", "2026-05-06 07:08:09-03"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		at, err := parseTime(text, time.UTC)
		if err != nil || at.IsZero() {
			return
		}
		again, err := parseTime(at.Format("2006-01-02 15:04:05.999999999Z07:00"), time.Local)
		if err != nil || !again.Equal(at) || at.Format("2006")[:4] != text[:4] && text[:4] != at.AddDate(0, 0, 1).Format("2006") && text[:4] != at.AddDate(0, 0, -1).Format("2006") {
			t.Fatalf("%q became %v, and that %v, %v", text, at, again, err)
		}
	})
}

func TestPassword(t *testing.T) {
	for text, form := range map[string]string{
		"900150983cd24fb0d6963f7d28e17f72":                                 "md5",
		"a9993e364706816aba3e25717850c26c9cd0d89d":                         "sha1",
		"BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD": "sha256",
		"ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f": "sha512",
		"{sha1}a9993e364706816aba3e25717850c26c9cd0d89d": "sha1",
	} {
		v, err := password(text)
		if err != nil || fmt.Sprint(v) != form+" verifier" || !v.Verify(secret.NewText("abc")) {
			t.Errorf("%s: %v, %v", text, v, err)
		}
	}
	for _, text := range []string{"", "abc", "correct horse", "a9993e364706816aba3e25717850c26c9cd0d8", "$1$salt$qJH7.N4xYta3aEG/dfqo/0", "abcdef0123"} {
		if v, err := password(text); err == nil || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v, %v", text, v, err)
		}
	}
}

func TestFOSPassword(t *testing.T) {
	digest := "3EUoYUcEHt4+j+xEwkHN9+h0Dn7QTmS3MkQNlBs/kQTEC8S9+E4iq11+69pb6XUxJRJZDRmg9wPM5RrvhLtuRg=="
	if v, err := fosPassword(digest, "", 5000); err != nil || !v.Verify(secret.NewText("correct horse")) {
		t.Errorf("without a salt: %v, %v", v, err)
	}
	if v, err := fosPassword("9459 7e", "", 1); err == nil {
		t.Errorf("something odd: %v", v)
	}
	for text, form := range map[string]string{
		"a9993e364706816aba3e25717850c26c9cd0d89d":                         "sha1$7$salt$",
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad": "sha256$7$salt$",
		"lFl+lCGbt94BxOiSo40PmVklgTYSxMi2CZYN6Zhk/q8=":                     "sha256$7$salt$",
		digest: "sha512$7$salt$",
	} {
		if v, err := fosPassword(text, "salt", 7); err != nil || !strings.HasPrefix(string(v), "{symfony}"+form) || v.Check() != nil {
			t.Errorf("%s: %q, %v", text, string(v), err)
		}
	}
	for _, text := range []string{"", "plain", "AAAA", "$apr1$x$y", digest[1:]} {
		if v, err := fosPassword(text, "salt", 7); err == nil || len(text) > 5 && strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v, %v", text, v, err)
		}
	}
}

// TestRowErrorsHideTokens holds what an error says of a row, and that a name with
// something odd in it cannot forge a line.
func TestRowErrorsHideTokens(t *testing.T) {
	token := evergrant.ImportToken{Token: secret.NewText("ABCDEFG"), ClientID: "a\nb", Subject: "jürgen"}
	if got := tokenError(token, errNoSecret).Error(); got != `token of client "a\nb", user jürgen: it is confidential and has no secret` {
		t.Errorf("got %s", got)
	}
	if got := clientError("", errNoSecret).Error(); got != `client "": it is confidential and has no secret` {
		t.Errorf("got %s", got)
	}
	if got := userError(strings.Repeat("é", 200), errNoPassword).Error(); len(got) > 2000 || strings.Contains(got, "é") {
		t.Errorf("got %s", got)
	}
}
