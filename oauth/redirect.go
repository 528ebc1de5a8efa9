package oauth

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
)

// ErrRedirectURI says that a redirect URI cannot be registered. It is wrapped
// with the reason.
var ErrRedirectURI = errors.New("oauth: bad redirect URI")

// CheckRedirectURI says whether a redirect URI may be registered: absolute and
// of characters that a URI may have (RFC 3986 section 2), without fragment or
// user (RFC 6749 section 3.1.2), and https, or http on a loopback host, or a
// private-use scheme with a dot in it (RFC 8252 sections 7.1 and 7.3). The error
// wraps ErrRedirectURI.
func CheckRedirectURI(uri string) error {
	bad := func(reason string) error { return &redirectError{uri, reason} }
	u, err := url.Parse(uri)
	switch {
	case err != nil || !u.IsAbs():
		return bad("it is not an absolute URI")
	case strings.ContainsFunc(uri, notInURI):
		return bad("it has a character that a URI cannot have; percent-encode it")
	case u.Fragment != "" || strings.Contains(uri, "#"):
		return bad("it has a fragment")
	case u.User != nil:
		return bad("it contains a user name")
	case u.Scheme == "https" && u.Hostname() != "":
		return nil
	case u.Scheme == "https":
		return bad("it has no host")
	case u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return bad("http is allowed for loopback hosts only; use https")
	case strings.Contains(u.Scheme, "."):
		return nil
	}
	return bad("its scheme must be https, http on a loopback host, or a private-use scheme such as com.example.app")
}

// notInURI reports whether c is neither reserved, unreserved nor a percent sign.
func notInURI(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune("\"<>\\^`{|}", c) }

type redirectError struct{ uri, reason string }

func (e *redirectError) Error() string { return "redirect URI " + e.uri + ": " + e.reason }
func (e *redirectError) Unwrap() error { return ErrRedirectURI }

// MatchRedirectURI reports whether given is the registered URI: equal as
// strings (RFC 9700 section 4.1.3), except that the port of a loopback IP
// address may differ (RFC 8252 section 7.3).
func MatchRedirectURI(registered, given string) bool {
	if registered == given {
		return true
	}
	reg, ok := cutLoopbackPort(registered)
	if !ok {
		return false
	}
	got, ok := cutLoopbackPort(given)
	return ok && reg == got
}

// MatchRedirectPrefix reports whether given begins as the registered URI does,
// whatever the case, at the same scheme, host and port, as some older servers
// match. It is not safe: whoever controls a page below the registered URI, or an
// open redirect there, gets codes (RFC 9700 section 4.1). A path with . or .. in
// it never matches, nor does what could not be registered itself.
func MatchRedirectPrefix(registered, given string) bool {
	r, err := url.Parse(registered)
	if err != nil || CheckRedirectURI(given) != nil || len(given) < len(registered) {
		return false
	}
	g, err := url.Parse(given)
	if err != nil || !strings.EqualFold(r.Scheme, g.Scheme) || !strings.EqualFold(r.Host, g.Host) {
		return false
	}
	path, _, _ := strings.Cut(given, "?")
	path, err = url.PathUnescape(path)
	for segment := range strings.FieldsFuncSeq(path, isSlash) {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return err == nil && strings.EqualFold(given[:len(registered)], registered)
}

// isSlash takes a backslash for a slash, as browsers do.
func isSlash(c rune) bool { return c == '/' || c == '\\' }

// cutLoopbackPort returns an http URI on a loopback IP literal without its
// port, all other characters kept as they are, and false for any other URI.
func cutLoopbackPort(uri string) (string, bool) {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "http" || u.User != nil || !isLoopbackIP(u.Hostname()) {
		return "", false
	}
	rest, ok := strings.CutPrefix(uri, "http://"+u.Host)
	if !ok {
		return "", false
	}
	return "http://" + u.Hostname() + rest, true
}

func isLoopback(host string) bool { return host == "localhost" || isLoopbackIP(host) }

func isLoopbackIP(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Zone() == "" && addr.IsLoopback()
}
