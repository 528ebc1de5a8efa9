package issuer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/evergrant/evergrant/oauth"
)

func TestEscapedText(t *testing.T) {
	for text, want := range map[string]string{
		"":                       `""`,
		`read write`:             `"read write"`,
		"https://a/b?c=<d>&e":    `"https:\/\/a\/b?c=<d>&e"`,
		`"\`:                     `"\"\\"`,
		"\b\f\n\r\t\x00\x1f\x7f": `"\b\f\n\r\t\u0000\u001f` + "\x7f\"",
		"é€😀":                    `"\u00e9\u20ac\ud83d\ude00"`,
	} {
		if got := escapedText(text); got != want {
			t.Errorf("%q became %s, want %s", text, got, want)
		}
	}
}

func FuzzEscapedText(f *testing.F) {
	for _, seed := range []string{"", "a/b", "\"\\", "é😀\u2028", "\x00\n\xff", "\ufffd"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var back string
		escaped := escapedText(text)
		if err := json.Unmarshal([]byte(escaped), &back); err != nil || back != strings.ToValidUTF8(text, "\ufffd") && utf8.ValidString(text) {
			t.Fatalf("%q became %s, which is %q, %v", text, escaped, back, err)
		}
		for _, c := range []byte(escaped) {
			if c < 0x20 || c >= utf8.RuneSelf {
				t.Fatalf("%q became %s", text, escaped)
			}
		}
	})
}

// TestToldInOrder: an error that says itself what to tell comes before what a
// profile has for its cause, and that before the standard's.
func TestToldInOrder(t *testing.T) {
	p := &Profile{Errors: map[Cause]oauth.Error{CauseCodeMissing: {Code: "profile"}}}
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("%w: %w", refuse(CauseCodeMissing), &oauth.Error{Code: "own"}), "own"},
		{fmt.Errorf("wrapped: %w", refuse(CauseCodeMissing)), "profile"},
		{refuseBecause(CauseCodeMissing, "a detail"), "profile"},
		{refuse(CauseTokenForged), oauth.InvalidGrant},
		{&oauth.ParamsError{Reason: "bad"}, oauth.InvalidRequest},
		{ErrUnavailable, oauth.TemporarilyUnavailable},
		{errors.New("a defect"), oauth.ServerError},
	} {
		told := p.told(c.err)
		if told.Code != c.want {
			t.Errorf("%v is told as %v, want %s", c.err, told, c.want)
		}
		told.Description = "changed"
		if again := p.told(c.err); again.Description == "changed" {
			t.Errorf("%v: what was told of it has changed for all", c.err)
		}
	}
}

func TestLeft(t *testing.T) {
	plain, down := &registered{profile: &Profile{}}, &registered{profile: &Profile{RoundDown: true}}
	for d, want := range map[time.Duration][2]int64{
		365 * 24 * time.Hour:                    {31536000, 31535999},
		365*24*time.Hour - time.Millisecond:     {31536000, 31535999},
		365*24*time.Hour - 999*time.Millisecond: {31536000, 31535999},
		365*24*time.Hour - time.Second:          {31535999, 31535998},
		time.Second:                             {1, 0},
		time.Millisecond:                        {1, 0},
		-time.Hour:                              {0, 0},
	} {
		if plain.left(d) != want[0] || down.left(d) != want[1] {
			t.Errorf("%v: %d and %d, want %v", d, plain.left(d), down.left(d), want)
		}
	}
}

// TestJSONObject: members in order, names and values apart.
func TestJSONObject(t *testing.T) {
	var o jsonObject
	if got := string(o.close()); got != "{}" {
		t.Errorf("empty: %s", got)
	}
	o.text("a", "<é/>")
	o.member("b", "null")
	if got := string(o.close()); got != `{"a":"\u003cé/\u003e","b":null}` {
		t.Errorf("got %s", got)
	}
	o = jsonObject{escape: true}
	o.text("a", "é/")
	if got := string(o.close()); got != `{"a":"\u00e9\/"}` {
		t.Errorf("got %s", got)
	}
}
