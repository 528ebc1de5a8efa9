package oauth_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/evergrant/evergrant/oauth"
)

func FuzzParseScope(f *testing.F) {
	for _, seed := range []string{"", " ", "read", "read write read", "  a  b ", "a\"b", "a\\b", "a\tb", "é", "\x7f", "! # [ ] ~"} {
		f.Add(seed, "read")
		f.Add("read write", seed)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		s, err := oauth.ParseScope(a)
		if err != nil {
			if !errors.Is(err, oauth.ErrScopeSyntax) || s != nil {
				t.Fatalf("ParseScope(%q) = %v, %v", a, s, err)
			}
			return
		}
		again, err := oauth.ParseScope(s.String())
		if err != nil || !slices.Equal(again, s) {
			t.Fatalf("%q comes back as %q, %v", s, again, err)
		}
		if s.String() != strings.Join(strings.Fields(s.String()), " ") || s.String() != oauth.Legal(s.String()) {
			t.Fatalf("%q is no wire form", s)
		}
		for i, token := range s {
			if slices.Contains(s[:i], token) || !slices.Contains(strings.Split(a, " "), token) {
				t.Fatalf("%q has %q twice, or it is not in %q", s, token, a)
			}
		}
		other, err := oauth.ParseScope(b)
		if err != nil {
			return
		}
		if !s.Covers(nil) || !s.Equal(s) || s.Equal(other) != (s.Covers(other) && other.Covers(s)) {
			t.Fatalf("%q and %q are no sets", s, other)
		}
		if union, _ := oauth.ParseScope(a + " " + b); !union.Covers(s) || !union.Covers(other) || union.Equal(s) != s.Covers(other) {
			t.Fatalf("%q is not the union of %q and %q", union, s, other)
		}
	})
}

func FuzzParseParams(f *testing.F) {
	for _, seed := range []string{
		"", "a", "a=", "a=1&b=2", "a=1&a=2", "a=&a=1", "resource=&resource=x&resource=y", "audience=%00", "a=%zz", "a;b", "&&=&",
		"v=+%25%26%2B%C2%A3%E2%82%AC", "a=%ff", "%0A=1&%0A=2", "grant_type=refresh_token&refresh_token=egr_x&scope=read+write",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, encoded string) {
		p, err := oauth.ParseParams(encoded)
		if err != nil {
			refused, ok := errors.AsType[*oauth.ParamsError](err)
			if !ok || refused.Reason == "" || refused.Reason != oauth.Legal(refused.Reason) {
				t.Fatalf("ParseParams(%q): %v", encoded, err)
			}
			return
		}
		given, err := url.ParseQuery(encoded)
		if err != nil {
			t.Fatalf("%q was accepted: %v", encoded, err)
		}
		for name, values := range given {
			all := p.All(name)
			if len(values) > 1 && name != "resource" && name != "audience" {
				t.Fatalf("%q has %q more than once", encoded, name)
			}
			if p.Has(name) != (len(all) > 0) || p.Has(name) != (p.Get(name) != "") || p.Has(name) && p.Get(name) != all[0] {
				t.Fatalf("%q: Has, Get and All of %q differ", encoded, name)
			}
			for _, value := range all {
				if value == "" || strings.Contains(value, "\x00") || !utf8.ValidString(value) || !slices.Contains(values, value) {
					t.Fatalf("%q: %q has the value %q", encoded, name, value)
				}
			}
		}
		if printed := fmt.Sprintf("%+v", p); strings.ContainsAny(printed, "\r\n\x1b") || len(printed) > len("params[]")+len(encoded) {
			t.Fatalf("%q prints as %q", encoded, printed)
		}
	})
}

func FuzzParseClientAuth(f *testing.F) {
	for _, seed := range []string{
		"", "Basic", "Basic ", "Basic !", "Bearer x", basic("id:s"), basic("id"), basic(":"), basic("a%3Ab:p%20q"), basic("a%00b:%00"),
		basic("id:100%"), basic("\xff:x"), "basic  aWQ6cw==", "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3",
	} {
		f.Add(seed, "grant_type=password")
		f.Add(seed, "client_id=id")
		f.Add(seed, "client_id=id&client_secret=s")
	}
	f.Fuzz(func(t *testing.T, header, body string) {
		p, err := oauth.ParseParams(body)
		if err != nil {
			return
		}
		var headers []string
		if header != "" {
			headers = []string{header}
		}
		auth, err := oauth.ParseClientAuth(headers, p)
		if err != nil {
			known := []error{oauth.ErrNoClient, oauth.ErrTwoMethods, oauth.ErrBasicSyntax, oauth.ErrOtherClient, oauth.ErrOtherAuth}
			if !slices.ContainsFunc(known, func(e error) bool { return errors.Is(err, e) }) {
				t.Fatalf("%q and %q: %v", header, body, err)
			}
			return
		}
		if auth.ID == "" || auth.RawID == "" || (auth.Method == oauth.AuthBasic) != (header != "") || (auth.Method == oauth.AuthNone) && auth.Secret != "" {
			t.Fatalf("%q and %q: %s", header, body, auth)
		}
		for _, id := range []string{auth.ID, auth.RawID} {
			if !utf8.ValidString(id) || strings.Contains(id, "\x00") {
				t.Fatalf("%q and %q: id %q", header, body, id)
			}
		}
		if auth.Method == oauth.AuthBasic && (p.Has("client_secret") || p.Has("client_id") && p.Get("client_id") != auth.ID && p.Get("client_id") != auth.RawID) {
			t.Fatalf("%q and %q are two clients or methods: %s", header, body, auth)
		}
		if printed := fmt.Sprint(auth); len(printed) > len(auth.Method)+1+len(auth.ID) || strings.ContainsAny(printed, "\r\n\x1b") {
			t.Fatalf("%q prints as %q", auth.ID, printed)
		}
	})
}

// FuzzParseBasic puts any pair through the encoding of RFC 6749 section 2.3.1,
// and any text through the parser.
func FuzzParseBasic(f *testing.F) {
	f.Add("s6BhdRkqt3", "7Fjfp0ZBr1KtDRbnfVdmIw")
	f.Add("a:b", " %&+£€")
	f.Add("", "x")
	f.Add("id", "")
	f.Add("a\x00b", "\xff")
	f.Fuzz(func(t *testing.T, id, secret string) {
		sent := id != "" && !strings.Contains(id+secret, "\x00") && utf8.ValidString(id) && utf8.ValidString(secret)
		got, err := oauth.ParseBasic(oauth.BasicHeader(id, secret))
		if sent && (err != nil || got.ID != id || got.Secret != secret) {
			t.Fatalf("%q %q comes back as %q %q, %v", id, secret, got.ID, got.Secret, err)
		}
		raw, err := oauth.ParseBasic(basic(id + ":" + secret))
		if sent && !strings.Contains(id, ":") && (err != nil || raw.RawID != id || raw.RawSecret != secret) {
			t.Fatalf("raw %q %q comes back as %q %q, %v", id, secret, raw.RawID, raw.RawSecret, err)
		}
		if _, err := oauth.ParseBasic(id + " " + secret); err != nil && !errors.Is(err, oauth.ErrOtherAuth) && !errors.Is(err, oauth.ErrBasicSyntax) {
			t.Fatal(err)
		}
		if token, ok := oauth.BearerToken(id + " " + secret); ok != (token != "") || ok && !strings.HasSuffix(secret, token) && !strings.Contains(id, " ") {
			t.Fatalf("Bearer token %q, %t of %q %q", token, ok, id, secret)
		}
	})
}

// loopbackPort finds the port of an http URI on a loopback IP, by other means
// than the code under test.
var loopbackPort = regexp.MustCompile(`^http://([0-9.]+|\[[0-9a-fA-F:.]+\])(:[0-9]*)?([/?#].*)?$`)

func withoutLoopbackPort(uri string) string {
	parts := loopbackPort.FindStringSubmatch(uri)
	if parts == nil {
		return uri
	}
	addr, err := netip.ParseAddr(strings.Trim(parts[1], "[]"))
	if err != nil || !addr.IsLoopback() {
		return uri
	}
	return "http://" + parts[1] + parts[3]
}

func FuzzRedirectURI(f *testing.F) {
	for _, seed := range []string{
		"https://app.example/cb", "http://127.0.0.1/cb", "http://127.0.0.1:51004/cb", "http://[::1]:1/cb", "http://localhost:1/cb",
		"http://127.0.0.1:80@evil.example/cb", "http://127.0.0.1#@evil.example", "http://127.0.0.1.evil.example", "http://127.0.0.1:/",
		"https://:1/", "com.example.app:/cb", "javascript:alert(1)", "http://[::ffff:127.0.0.1]/", "http://[::1%25lo]/", "https://a/b c", "//x",
	} {
		f.Add("http://127.0.0.1/cb", seed)
		f.Add(seed, "http://127.0.0.1:51004/cb")
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, registered, given string) {
		matches := oauth.MatchRedirectURI(registered, given)
		if matches != oauth.MatchRedirectURI(given, registered) || !oauth.MatchRedirectURI(registered, registered) {
			t.Fatalf("matching %q and %q is no equivalence", registered, given)
		}
		if matches && withoutLoopbackPort(registered) != withoutLoopbackPort(given) {
			t.Fatalf("%q matches %q", registered, given)
		}
		err := oauth.CheckRedirectURI(registered)
		if err != nil {
			if !errors.Is(err, oauth.ErrRedirectURI) {
				t.Fatal(err)
			}
			return
		}
		u, err := url.Parse(registered)
		if err != nil || !u.IsAbs() || u.User != nil || u.Fragment != "" || strings.ContainsAny(registered, "# \t\r\n\\\"<>") {
			t.Fatalf("%q may be registered", registered)
		}
		if u.Scheme == "https" && u.Hostname() == "" || u.Scheme == "javascript" || u.Scheme == "data" {
			t.Fatalf("%q may be registered", registered)
		}
		if !matches {
			return
		}
		// What matches leads to the same place as what was registered.
		v, err := url.Parse(given)
		if err != nil || v.Scheme != u.Scheme || v.Hostname() != u.Hostname() || v.RequestURI() != u.RequestURI() || v.User != nil || v.Fragment != "" {
			t.Fatalf("%q matches %q and leads elsewhere", registered, given)
		}
	})
}

func FuzzPKCE(f *testing.F) {
	f.Add(rfcVerifier, rfcChallenge)
	f.Add("short", "")
	f.Add(strings.Repeat("~", 128), strings.Repeat("A", 43))
	f.Add(strings.Repeat("a", 129), strings.Repeat("A", 42)+"\n")
	f.Add(rfcVerifier+"\n", rfcChallenge+"=")
	verifiers := regexp.MustCompile(`\A[A-Za-z0-9._~-]{43,128}\z`)
	challenges := regexp.MustCompile(`\A[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]\z`) // the last character has two bits over
	f.Fuzz(func(t *testing.T, verifier, challenge string) {
		if oauth.ValidVerifier(verifier) != verifiers.MatchString(verifier) {
			t.Fatalf("verifier %q", verifier)
		}
		if oauth.ValidChallenge(challenge) != challenges.MatchString(challenge) {
			t.Fatalf("challenge %q", challenge)
		}
		own := oauth.Challenge(verifier)
		if digest, err := base64.RawURLEncoding.DecodeString(own); err != nil || len(digest) != 32 || !oauth.ValidChallenge(own) {
			t.Fatalf("challenge %q of %q", own, verifier)
		}
		if oauth.VerifyChallenge(verifier, own) != oauth.ValidVerifier(verifier) {
			t.Fatalf("%q does not answer its own challenge", verifier)
		}
		if oauth.VerifyChallenge(verifier, challenge) && challenge != own {
			t.Fatalf("%q answers %q", verifier, challenge)
		}
	})
}

func FuzzLegal(f *testing.F) {
	for _, seed := range []string{"", "plain", "\"\\\r\n", "é€😀", "\xff"} {
		f.Add(seed)
	}
	legal := regexp.MustCompile(`\A[\x20-\x21\x23-\x5b\x5d-\x7e]*\z`)
	f.Fuzz(func(t *testing.T, s string) {
		got := oauth.Legal(s)
		if !legal.MatchString(got) || utf8.RuneCountInString(s) != len(got) || legal.MatchString(s) && got != s {
			t.Fatalf("Legal(%q) = %q", s, got)
		}
	})
}

func FuzzParseLifetime(f *testing.F) {
	for _, seed := range []string{"", "0", "14d", "1h30m", "90s", "1d12h", "-1h", "1.5h", "99999999999d", "0d0s", "2540400h10m10s", "µ", "1d\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lifetime, err := oauth.ParseLifetime(text)
		if err != nil {
			if lifetime != 0 || !strings.Contains(err.Error(), fmt.Sprintf("%q", text)) {
				t.Errorf("%q: %d, %v", text, lifetime, err)
			}
			return
		}
		if lifetime == 0 || lifetime < oauth.None || lifetime > 0 && time.Duration(lifetime)%time.Millisecond != 0 {
			t.Errorf("%q is read as %d", text, lifetime)
		}
		again, err := oauth.ParseLifetime(lifetime.String())
		if err != nil || again != lifetime {
			t.Errorf("%q is read as %d, printed as %q, and read as %d, %v", text, lifetime, lifetime, again, err)
		}
	})
}
