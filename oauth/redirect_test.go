package oauth_test

import (
	"errors"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/oauth"
)

func TestCheckRedirectURI(t *testing.T) {
	tests := []struct {
		uri    string
		reason string // "" where the URI may be registered
	}{
		{"https://app.example/callback", ""},
		{"https://app.example", ""},
		{"https://app.example:8443/cb?tenant=1&x=%20", ""},
		{"HTTPS://APP.example/cb", ""},
		{"https://[2001:db8::1]/cb", ""},
		{"https://*.app.example/cb", ""}, // never matches more than itself
		{"http://localhost:8080/cb", ""},
		{"http://localhost/", ""},
		{"http://127.0.0.1/cb", ""},
		{"http://127.0.0.1:51004/cb", ""},
		{"http://127.255.255.254/cb", ""},
		{"http://[::1]/cb", ""},
		{"http://[::1]:8080/cb", ""},
		{"com.example.app:/oauth2redirect", ""}, // the example of RFC 8252 section 7.1
		{"com.example.app://callback", ""},
		{"com.example.app:callback", ""},

		{"", "not an absolute URI"},
		{"/callback", "not an absolute URI"},
		{"callback", "not an absolute URI"},
		{"//app.example/cb", "not an absolute URI"},
		{"app.example/cb", "not an absolute URI"},
		{" https://app.example/cb", "not an absolute URI"},
		{"https://app.example/\x00", "not an absolute URI"},
		{"https://app.example/cb\n", "not an absolute URI"},
		{"https://app.example/%zz", "not an absolute URI"},
		{"https://good.example\\@evil.example/", "not an absolute URI"},
		{"http://[::1/cb", "not an absolute URI"},
		{"http://::1/cb", "not an absolute URI"},
		{"http://127.0.0.%31/cb", "not an absolute URI"},
		{"http://127.0.0.1:port/cb", "not an absolute URI"},

		{"https://app.example/cb ", "a character that a URI cannot have"},
		{"https://app.example/c b", "a character that a URI cannot have"},
		{"https://app.example/c\\b", "a character that a URI cannot have"},
		{"https://app.example/<cb>", "a character that a URI cannot have"},
		{`https://app.example/"cb"`, "a character that a URI cannot have"},
		{"https://app.example/{tenant}", "a character that a URI cannot have"},
		{"https://app.example/zurück", "a character that a URI cannot have"},
		{"https://аpp.example/cb", "a character that a URI cannot have"}, // a Cyrillic a

		{"https://app.example/cb#", "a fragment"},
		{"https://app.example/cb#top", "a fragment"},
		{"https://app.example/#/cb", "a fragment"},
		{"http://127.0.0.1#@evil.example/", "a fragment"},
		{"com.example.app:/cb#x", "a fragment"},

		{"https://user@app.example/cb", "a user name"},
		{"https://user:password@app.example/cb", "a user name"},
		{"https://@app.example/cb", "a user name"},
		{"http://127.0.0.1:80@evil.example/cb", "a user name"},
		{"com.example.app://user@host/cb", "a user name"},

		{"https:", "it has no host"},
		{"https:///cb", "it has no host"},
		{"https:app.example/cb", "it has no host"},
		{"https://:8443/cb", "it has no host"},
		{"https://?code=1", "it has no host"},

		{"http://app.example/cb", "loopback hosts only"},
		{"http:///cb", "loopback hosts only"},
		{"http://0.0.0.0/cb", "loopback hosts only"},
		{"http://[::]/cb", "loopback hosts only"},
		{"http://10.0.0.1/cb", "loopback hosts only"},
		{"http://127.0.0.1.evil.example/cb", "loopback hosts only"},
		{"http://127.0.0.1./cb", "loopback hosts only"},
		{"http://localhost./cb", "loopback hosts only"},
		{"http://localhost.evil.example/cb", "loopback hosts only"},
		{"http://LOCALHOST/cb", "loopback hosts only"},
		{"http://127.1/cb", "loopback hosts only"},
		{"http://2130706433/cb", "loopback hosts only"},
		{"http://0x7f000001/cb", "loopback hosts only"},
		{"http://0177.0.0.1/cb", "loopback hosts only"},
		{"http://[::1%25lo]/cb", "loopback hosts only"},

		{"javascript:alert(1)", "its scheme must be https"},
		{"data:text/html,x", "its scheme must be https"},
		{"file:///etc/passwd", "its scheme must be https"},
		{"myapp://cb", "its scheme must be https"},
		{"ftp://app.example/cb", "its scheme must be https"},
		{"urn:ietf:wg:oauth:2.0:oob", "its scheme must be https"},
		{"mailto:a@app.example", "its scheme must be https"},
	}
	for _, tt := range tests {
		t.Run(tt.uri, func(t *testing.T) {
			err := oauth.CheckRedirectURI(tt.uri)
			switch {
			case tt.reason == "" && err != nil:
				t.Error(err)
			case tt.reason != "" && !errors.Is(err, oauth.ErrRedirectURI):
				t.Errorf("got %v, want ErrRedirectURI", err)
			case tt.reason != "" && (!strings.Contains(err.Error(), tt.reason) || !strings.Contains(err.Error(), tt.uri)):
				t.Errorf("%q names not both %q and the URI", err, tt.reason)
			}
		})
	}
}

func TestMatchRedirectURI(t *testing.T) {
	const web, loop, loop6 = "https://app.example/cb", "http://127.0.0.1/cb", "http://[::1]/cb"
	tests := []struct {
		name, registered, given string
		want                    bool
	}{
		{"the same", web, web, true},
		{"the same with a query", web + "?a=1", web + "?a=1", true},
		{"private-use scheme", "com.example.app:/cb", "com.example.app:/cb", true},
		{"loopback, the same", loop, loop, true},
		{"loopback, port added", loop, "http://127.0.0.1:51004/cb", true},
		{"loopback, port left out", "http://127.0.0.1:3000/cb", loop, true},
		{"loopback, other port", "http://127.0.0.1:3000/cb", "http://127.0.0.1:51004/cb", true},
		{"loopback, no path", "http://127.0.0.1", "http://127.0.0.1:3000", true},
		{"loopback, query", loop + "?a=1", "http://127.0.0.1:3000/cb?a=1", true},
		{"loopback IPv6, port added", loop6, "http://[::1]:51004/cb", true},
		{"loopback IPv6, other port", "http://[::1]:1/cb", "http://[::1]:2/cb", true},
		{"loopback, another of 127/8", "http://127.0.0.2/cb", "http://127.0.0.2:1/cb", true},

		{"empty", web, "", false},
		{"path added", web, web + "/", false},
		{"path below", web, web + "/deeper", false},
		{"path cut", web, "https://app.example/c", false},
		{"path in another case", web, "https://app.example/CB", false},
		{"path traversal", web, "https://app.example/x/../cb", false},
		{"path traversal out", web, web + "/../evil", false},
		{"encoded traversal", web, web + "/%2e%2e/evil", false},
		{"encoded letter", web, "https://app.example/%63b", false},
		{"encoded slash", web, "https://app.example%2Fcb", false},
		{"double slash", web, "https://app.example//cb", false},
		{"dot segment", web, "https://app.example/./cb", false},
		{"query added", web, web + "?x=1", false},
		{"empty query added", web, web + "?", false},
		{"query in another order", web + "?a=1&b=2", web + "?b=2&a=1", false},
		{"fragment added", web, web + "#x", false},
		{"empty fragment added", web, web + "#", false},
		{"port added", web, "https://app.example:443/cb", false},
		{"host in another case", web, "https://APP.example/cb", false},
		{"scheme in another case", web, "HTTPS://app.example/cb", false},
		{"dot behind the host", web, "https://app.example./cb", false},
		{"subdomain", web, "https://x.app.example/cb", false},
		{"host as a prefix", web, "https://app.example.evil.example/cb", false},
		{"user added", web, "https://app.example@evil.example/cb", false},
		{"http for https", web, "http://app.example/cb", false},
		{"space behind", web, web + " ", false},
		{"line break behind", web, web + "\r\n", false},
		{"NUL behind", web, web + "\x00", false},
		{"wildcard is a character", "https://*.app.example/cb", "https://x.app.example/cb", false},
		{"javascript", web, "javascript:alert(1)", false},
		{"private-use scheme, slashes added", "com.example.app:/cb", "com.example.app:///cb", false},
		{"private-use scheme, port", "com.example.app://127.0.0.1/cb", "com.example.app://127.0.0.1:1/cb", false},

		{"localhost has no free port", "http://localhost/cb", "http://localhost:51004/cb", false},
		{"localhost is not 127.0.0.1", loop, "http://localhost/cb", false},
		{"127.0.0.1 is not localhost", "http://localhost/cb", loop, false},
		{"IPv6 is not IPv4", loop, loop6, false},
		{"mapped IPv4 is not IPv4", loop, "http://[::ffff:127.0.0.1]/cb", false},
		{"other spelling of IPv6", loop6, "http://[0:0:0:0:0:0:0:1]/cb", false},
		{"another of 127/8", loop, "http://127.0.0.2/cb", false},
		{"zone", loop6, "http://[::1%25lo]/cb", false},
		{"https on loopback", "https://127.0.0.1/cb", "https://127.0.0.1:8443/cb", false},
		{"loopback, other scheme", loop, "https://127.0.0.1:51004/cb", false},
		{"loopback, scheme in another case", loop, "HTTP://127.0.0.1:51004/cb", false},
		{"loopback, other path", loop, "http://127.0.0.1:51004/other", false},
		{"loopback, path encoded", loop, "http://127.0.0.1:51004/%63b", false},
		{"loopback, query added", loop, "http://127.0.0.1:51004/cb?x", false},
		{"loopback, fragment added", loop, "http://127.0.0.1:51004/cb#x", false},
		{"loopback as user", loop, "http://127.0.0.1:80@evil.example/cb", false},
		{"loopback as user, no port", loop, "http://127.0.0.1@evil.example/cb", false},
		{"user before loopback", loop, "http://user@127.0.0.1:80/cb", false},
		{"empty user before loopback", loop, "http://@127.0.0.1:80/cb", false},
		{"fragment with a host", loop, "http://127.0.0.1:80#@evil.example/cb", false},
		{"query with a host", loop, "http://127.0.0.1:80?@evil.example/cb", false},
		{"backslash with a host", loop, "http://127.0.0.1:80\\@evil.example/cb", false},
		{"loopback as subdomain", loop, "http://127.0.0.1.evil.example/cb", false},
		{"loopback, dot behind", loop, "http://127.0.0.1.:80/cb", false},
		{"loopback in decimal", loop, "http://2130706433/cb", false},
		{"loopback, short", loop, "http://127.1:80/cb", false},
		{"loopback, encoded", loop, "http://127.0.0.%31:80/cb", false},
		{"not loopback", "http://10.0.0.1/cb", "http://10.0.0.1:80/cb", false},
		{"port is no number", loop, "http://127.0.0.1:80evil.example/cb", false},
		{"two ports", loop, "http://127.0.0.1:80:81/cb", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := oauth.MatchRedirectURI(tt.registered, tt.given); got != tt.want {
				t.Errorf("MatchRedirectURI(%q, %q) = %t", tt.registered, tt.given, got)
			}
		})
	}
}

func TestMatchRedirectPrefix(t *testing.T) {
	const web, root = "https://app.example/cb", "https://app.example"
	tests := []struct {
		name, registered, given string
		want                    bool
	}{
		{"the same", web, web, true},
		{"path below", web, web + "/deeper", true},
		{"path goes on", web, web + "-more", true},
		{"query added", web, web + "?x=1", true},
		{"path in another case", web, "https://app.example/CB/x", true},
		{"host in another case", web, "https://APP.example/cb", true},
		{"scheme in another case", web, "HTTPS://app.example/cb", true},
		{"below the host", root, root + "/cb", true},
		{"below the same port", "https://app.example:8443/cb", "https://app.example:8443/cb/x", true},
		{"query goes on", web + "?a=1", web + "?a=12&b=2", true},
		{"a dot in a name", web, web + "/a..b/.c", true},
		{"traversal in the query", web, web + "?to=/../x", true},
		{"private-use scheme", "com.example.app:/cb", "com.example.app:/cb/x", true},

		{"empty", web, "", false},
		{"shorter", web, "https://app.example/c", false},
		{"other path", web, "https://app.example/other", false},
		{"host goes on", root, "https://app.example.evil.example", false},
		{"host goes on with a path", root, "https://app.examples/cb", false},
		{"port added", root, "https://app.example:8443", false},
		{"port goes on", "https://app.example:80", "https://app.example:8080", false},
		{"user", root, "https://app.example@evil.example/", false},
		{"user and password", root, "https://app.example:x@evil.example/", false},
		{"http for https", web, "http://app.example/cb", false},
		{"traversal", web, web + "/../evil", false},
		{"traversal to the end", web, web + "/..", false},
		{"encoded traversal", web, web + "/%2e%2e/evil", false},
		{"encoded slash", web, web + "/..%2fevil", false},
		{"encoded backslash", web, web + "/..%5cevil", false},
		{"dot segment", web, web + "/./x", false},
		{"traversal of an opaque path", "com.example.app:cb", "com.example.app:cb/../x", false},
		{"fragment", web, web + "#x", false},
		{"empty fragment", web, web + "#", false},
		{"space", web, web + "/a b", false},
		{"backslash", web, web + "\\..\\evil", false},
		{"line break", web, web + "/\r\nX: y", false},
		{"not a URI", web, web + "/%zz", false},
		{"letter that folds to one of the scheme", web, "http\u017f://app.example/cb", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := oauth.MatchRedirectPrefix(tt.registered, tt.given); got != tt.want {
				t.Errorf("MatchRedirectPrefix(%q, %q) = %t", tt.registered, tt.given, got)
			}
		})
	}
}

// FuzzRedirectPrefix: what matches by prefix is on the same host, without a user,
// and below the registered path after a browser has walked its dots.
func FuzzRedirectPrefix(f *testing.F) {
	for _, rest := range []string{"", "/x", "/../x", "/%2e%2e/x", "/..%2f", "@evil.example/", ".evil.example", ":8443/", "#x", "?x=/../", "\\\\evil.example", "/%zz", "%2f..", "/.", "//..//"} {
		f.Add("https://app.example/cb", "https://app.example/cb"+rest)
		f.Add("https://app.example", "HTTPS://App.example"+rest)
		f.Add("com.example.app:/cb", "com.example.app:/cb"+rest)
	}
	f.Fuzz(func(t *testing.T, registered, given string) {
		if oauth.CheckRedirectURI(registered) != nil || !oauth.MatchRedirectPrefix(registered, given) {
			return
		}
		if err := oauth.CheckRedirectURI(given); err != nil {
			t.Fatal(err)
		}
		r, _ := url.Parse(registered)
		g, _ := url.Parse(given)
		walked := g.ResolveReference(&url.URL{Path: g.Path})
		if !strings.EqualFold(r.Host, g.Host) || g.User != nil || r.Opaque == "" && !strings.HasPrefix(strings.ToLower(walked.Path), strings.TrimRight(strings.ToLower(path.Clean("/"+r.Path)), "/")) {
			t.Fatalf("%q matches %q and leads to %q", registered, given, walked)
		}
	})
}
