package oauth_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/oauth"
)

// basic is an Authorization header of credentials as they are.
func basic(pair string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
}

func TestParseBasic(t *testing.T) {
	tests := []struct {
		name, header                 string
		id, secret, rawID, rawSecret string
	}{
		{"RFC 6749 section 2.3.1", "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3",
			"s6BhdRkqt3", "7Fjfp0ZBr1KtDRbnfVdmIw", "s6BhdRkqt3", "7Fjfp0ZBr1KtDRbnfVdmIw"},
		{"RFC 7617 section 2", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Aladdin", "open sesame", "Aladdin", "open sesame"},
		{"RFC 7617 section 2.1", "Basic dGVzdDoxMjPCow==", "test", "123£", "test", "123£"},
		{"encoded", basic("a%3Ab:p%20q%2B%25"), "a:b", "p q+%", "a%3Ab", "p%20q%2B%25"},
		{"encoded with plus for space", basic("my+app:p+q"), "my app", "p q", "my+app", "p+q"},
		{"encoded UTF-8", basic("id:%C2%A3%E2%82%AC"), "id", "£€", "id", "%C2%A3%E2%82%AC"},
		{"raw with a plus", basic("id:a+b"), "id", "a b", "id", "a+b"},
		{"raw with a lone percent sign", basic("id:100%"), "id", "100%", "id", "100%"},
		{"raw with what is no escape", basic("id:%zz"), "id", "%zz", "id", "%zz"},
		{"raw id with an escape that is not text", basic("a%FFb:x"), "a%FFb", "x", "a%FFb", "x"},
		{"raw secret that decodes to a NUL", basic("id:50%00"), "id", "50%00", "id", "50%00"},
		{"raw Latin-1 secret", basic("id:\xa3"), "id", "\xa3", "id", "\xa3"},
		{"colons in the secret", basic("id:a:b:"), "id", "a:b:", "id", "a:b:"},
		{"empty secret", basic("id:"), "id", "", "id", ""},
		{"scheme in lower case", "basic " + strings.TrimPrefix(basic("id:s"), "Basic "), "id", "s", "id", "s"},
		{"scheme in upper case", "BASIC " + strings.TrimPrefix(basic("id:s"), "Basic "), "id", "s", "id", "s"},
		{"several spaces after the scheme", "Basic   " + strings.TrimPrefix(basic("id:s"), "Basic "), "id", "s", "id", "s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := oauth.ParseBasic(tt.header)
			want := oauth.ClientAuth{Method: oauth.AuthBasic, ID: tt.id, Secret: tt.secret, RawID: tt.rawID, RawSecret: tt.rawSecret}
			if err != nil || got != want {
				t.Errorf("got %q %q, raw %q %q, %v", got.ID, got.Secret, got.RawID, got.RawSecret, err)
			}
		})
	}
}

func TestParseBasicRefuses(t *testing.T) {
	tests := []struct {
		name, header string
		want         error
	}{
		{"empty", "", oauth.ErrOtherAuth},
		{"Bearer", "Bearer abc", oauth.ErrOtherAuth},
		{"Digest", `Digest username="id"`, oauth.ErrOtherAuth},
		{"scheme that begins like Basic", "Basically aWQ6cw==", oauth.ErrOtherAuth},
		{"space before the scheme", " Basic aWQ6cw==", oauth.ErrOtherAuth},
		{"tab after the scheme", "Basic\taWQ6cw==", oauth.ErrOtherAuth},
		{"scheme only", "Basic", oauth.ErrBasicSyntax},
		{"scheme and space", "Basic ", oauth.ErrBasicSyntax},
		{"not base64", "Basic !!!!", oauth.ErrBasicSyntax},
		{"not encoded at all", "Basic id:secret", oauth.ErrBasicSyntax},
		{"no padding", "Basic aWQ6cw", oauth.ErrBasicSyntax},
		{"URL-safe alphabet", "Basic aWQ6_-8=", oauth.ErrBasicSyntax},
		{"space after the credentials", "Basic aWQ6cw== ", oauth.ErrBasicSyntax},
		{"a second word", "Basic aWQ6cw== x", oauth.ErrBasicSyntax},
		{"no colon", basic("idsecret"), oauth.ErrBasicSyntax},
		{"colon encoded", basic("id%3Asecret"), oauth.ErrBasicSyntax},
		{"empty id", basic(":secret"), oauth.ErrBasicSyntax},
		{"nothing but a colon", basic(":"), oauth.ErrBasicSyntax},
		{"NUL in the id", basic("i\x00d:secret"), oauth.ErrBasicSyntax},
		{"NUL in the secret", basic("id:sec\x00ret"), oauth.ErrBasicSyntax},
		{"id in Latin-1", basic("J\xfcrgen:secret"), oauth.ErrBasicSyntax},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := oauth.ParseBasic(tt.header)
			if !errors.Is(err, tt.want) || got != (oauth.ClientAuth{}) {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

// TestParseBasicNoNULByEscape holds that an id on its way to a database has no
// NUL, however it was written.
func TestParseBasicNoNULByEscape(t *testing.T) {
	got, err := oauth.ParseBasic(basic("a%00b:x"))
	if err != nil || got.ID != "a%00b" || got.RawID != "a%00b" {
		t.Errorf("got %q, raw %q, %v; want both as sent", got.ID, got.RawID, err)
	}
}

func TestParseClientAuth(t *testing.T) {
	tests := []struct {
		name          string
		authorization []string
		body          string
		want          oauth.ClientAuth
	}{
		{"Basic", []string{basic("id:s%2F")}, "grant_type=password",
			oauth.ClientAuth{Method: oauth.AuthBasic, ID: "id", Secret: "s/", RawID: "id", RawSecret: "s%2F"}},
		{"Basic and the same client_id", []string{basic("id:s")}, "client_id=id",
			oauth.ClientAuth{Method: oauth.AuthBasic, ID: "id", Secret: "s", RawID: "id", RawSecret: "s"}},
		{"Basic and the same client_id once decoded", []string{basic("a%3Ab:s")}, "client_id=a%3Ab",
			oauth.ClientAuth{Method: oauth.AuthBasic, ID: "a:b", Secret: "s", RawID: "a%3Ab", RawSecret: "s"}},
		{"raw Basic and the same client_id", []string{basic("a+b:s")}, "client_id=a%2Bb",
			oauth.ClientAuth{Method: oauth.AuthBasic, ID: "a b", Secret: "s", RawID: "a+b", RawSecret: "s"}},
		{"Basic and empty parameters", []string{basic("id:s")}, "client_id=&client_secret=",
			oauth.ClientAuth{Method: oauth.AuthBasic, ID: "id", Secret: "s", RawID: "id", RawSecret: "s"}},
		{"post", nil, "client_id=s6BhdRkqt3&client_secret=7Fjfp0ZBr1KtDRbnfVdmIw",
			oauth.ClientAuth{Method: oauth.AuthPost, ID: "s6BhdRkqt3", Secret: "7Fjfp0ZBr1KtDRbnfVdmIw", RawID: "s6BhdRkqt3", RawSecret: "7Fjfp0ZBr1KtDRbnfVdmIw"}},
		{"post is decoded once", nil, "client_id=a%2525&client_secret=b%252B",
			oauth.ClientAuth{Method: oauth.AuthPost, ID: "a%25", Secret: "b%2B", RawID: "a%25", RawSecret: "b%2B"}},
		{"none", []string{}, "client_id=app", oauth.ClientAuth{Method: oauth.AuthNone, ID: "app", RawID: "app"}},
		{"none, with an empty secret", nil, "client_id=app&client_secret=", oauth.ClientAuth{Method: oauth.AuthNone, ID: "app", RawID: "app"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := oauth.ParseClientAuth(tt.authorization, params(t, tt.body))
			if err != nil || got != tt.want {
				t.Errorf("got %s %q %q, raw %q %q, %v", got.Method, got.ID, got.Secret, got.RawID, got.RawSecret, err)
			}
		})
	}
}

func TestParseClientAuthRefuses(t *testing.T) {
	tests := []struct {
		name          string
		authorization []string
		body          string
		want          error
	}{
		{"nothing", nil, "", oauth.ErrNoClient},
		{"empty client_id", nil, "client_id=", oauth.ErrNoClient},
		{"secret without client_id", nil, "client_secret=s", oauth.ErrNoClient},
		{"Basic and secret", []string{basic("id:s")}, "client_id=id&client_secret=s", oauth.ErrTwoMethods},
		{"Basic and secret only", []string{basic("id:s")}, "client_secret=s", oauth.ErrTwoMethods},
		{"Basic and secret of another client", []string{basic("id:s")}, "client_id=other&client_secret=s", oauth.ErrTwoMethods},
		{"Basic and another client_id", []string{basic("id:s")}, "client_id=other", oauth.ErrOtherClient},
		{"Basic and client_id in another case", []string{basic("id:s")}, "client_id=ID", oauth.ErrOtherClient},
		{"two headers", []string{basic("id:s"), basic("id:s")}, "", oauth.ErrTwoAuthHeader},
		{"two headers of two schemes", []string{"Bearer x", basic("id:s")}, "client_id=id", oauth.ErrTwoAuthHeader},
		{"empty header", []string{""}, "client_id=id&client_secret=s", oauth.ErrOtherAuth},
		{"Bearer and post", []string{"Bearer x"}, "client_id=id&client_secret=s", oauth.ErrOtherAuth},
		{"damaged Basic and post", []string{"Basic %"}, "client_id=id&client_secret=s", oauth.ErrBasicSyntax},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := oauth.ParseClientAuth(tt.authorization, params(t, tt.body)); !errors.Is(err, tt.want) {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
	if _, err := oauth.ParseClientAuth(nil, oauth.Params{}); !errors.Is(err, oauth.ErrNoClient) {
		t.Errorf("no parameters at all: %v", err)
	}
}

func TestBasicHeader(t *testing.T) {
	if got, want := oauth.BasicHeader("s6BhdRkqt3", "7Fjfp0ZBr1KtDRbnfVdmIw"), "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3"; got != want {
		t.Errorf("the example of RFC 6749 section 2.3.1 is %s, want %s", got, want)
	}
	// The example of RFC 6749 appendix B.
	if got, want := oauth.BasicHeader("id", " %&+£€"), basic("id:+%25%26%2B%C2%A3%E2%82%AC"); got != want {
		t.Errorf("the example of RFC 6749 appendix B is %s, want %s", got, want)
	}
	for _, pair := range [][2]string{{"id", "secret"}, {"a:b", "c:d"}, {"a b+c%", "%41+ "}, {"ü", "€\n"}, {"id", ""}} {
		got, err := oauth.ParseBasic(oauth.BasicHeader(pair[0], pair[1]))
		if err != nil || got.ID != pair[0] || got.Secret != pair[1] {
			t.Errorf("%q comes back as %q %q, %v", pair, got.ID, got.Secret, err)
		}
	}
}

func TestBearerToken(t *testing.T) {
	tests := []struct {
		name, header, token string
		ok                  bool
	}{
		{"RFC 6750 section 2.1", "Bearer mF_9.B5f-4.1JqM", "mF_9.B5f-4.1JqM", true},
		{"lower case", "bearer abc", "abc", true},
		{"several spaces", "Bearer   abc", "abc", true},
		{"empty header", "", "", false},
		{"scheme only", "Bearer", "", false},
		{"empty token", "Bearer ", "", false},
		{"nothing but spaces", "Bearer    ", "", false},
		{"Basic", "Basic aWQ6cw==", "", false},
		{"no space", "Bearerabc", "", false},
		{"space in front", " Bearer abc", "", false},
		{"token only", "abc", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if token, ok := oauth.BearerToken(tt.header); token != tt.token || ok != tt.ok {
				t.Errorf("got %q, %t", token, ok)
			}
		})
	}
}

func TestClientAuthPrintsWithoutSecrets(t *testing.T) {
	const planted, raw = "p/w hunter2", "p%2Fw+hunter2"
	auth, err := oauth.ParseBasic(oauth.BasicHeader("TestClient", planted))
	if err != nil || auth.Secret != planted || auth.RawSecret != raw {
		t.Fatal("the secret is not planted")
	}
	for _, v := range []any{auth, &auth, hold(auth)} {
		checkPrintings(t, v, planted, raw, "hunter2")
	}
	if got := fmt.Sprintf("%+v", auth); got != "client_secret_basic TestClient" {
		t.Errorf("printed %q", got)
	}
	encoded, err := json.Marshal(auth)
	if err != nil || strings.Contains(string(encoded), "hunter2") || !strings.Contains(string(encoded), "TestClient") {
		t.Errorf("as JSON: %s, %v", encoded, err)
	}
}

func TestClientAuthPrintsOneLine(t *testing.T) {
	auth, err := oauth.ParseBasic(basic("a%0Alevel=ERROR:x"))
	if got := fmt.Sprint(auth); err != nil || got != "client_secret_basic a?level=ERROR" {
		t.Errorf("printed %q, %v", got, err)
	}
}
