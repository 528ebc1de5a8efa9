package oauth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"unicode/utf8"
)

// ClientAuth is how a request says which client sent it (RFC 6749 section 2.3).
// It prints and marshals without its secrets. (An unexported field of another
// struct is beyond the reach of Format: do not keep one there.)
type ClientAuth struct {
	Method string // AuthBasic, AuthPost or AuthNone
	ID     string
	Secret string `json:"-"`
	// RawID and RawSecret are the Basic credentials without form decoding.
	// RFC 6749 section 2.3.1 has both encoded with form-urlencoding before
	// Basic, which many clients omit; they equal ID and Secret unless decoding
	// changed something.
	RawID     string
	RawSecret string `json:"-"`
}

// Errors of client authentication (RFC 6749 section 2.3).
var (
	ErrNoClient      = errors.New("oauth: the request names no client")
	ErrTwoMethods    = errors.New("oauth: the request authenticates the client in two ways")
	ErrBasicSyntax   = errors.New("oauth: the Authorization header is not valid Basic credentials")
	ErrOtherClient   = errors.New("oauth: client_id in the body differs from the authenticated client")
	ErrOtherAuth     = errors.New("oauth: the Authorization header has a scheme other than Basic")
	ErrTwoAuthHeader = errors.New("oauth: more than one Authorization header")
)

// ParseClientAuth finds the client's authentication in the Authorization
// header values and the body's parameters. A client_id in the body beside
// Basic credentials is accepted when it names the same client (RFC 6749
// section 3.2.1); a client_secret beside them is a second method.
func ParseClientAuth(authorization []string, body Params) (ClientAuth, error) {
	id, secret := body.Get("client_id"), body.Get("client_secret")
	if len(authorization) == 0 {
		switch {
		case id == "":
			return ClientAuth{}, ErrNoClient
		case secret == "":
			return ClientAuth{Method: AuthNone, ID: id, RawID: id}, nil
		}
		return ClientAuth{Method: AuthPost, ID: id, RawID: id, Secret: secret, RawSecret: secret}, nil
	}
	if len(authorization) > 1 {
		return ClientAuth{}, ErrTwoAuthHeader
	}
	auth, err := ParseBasic(authorization[0])
	switch {
	case err != nil:
		return ClientAuth{}, err
	case secret != "":
		return auth, ErrTwoMethods
	case id != "" && id != auth.ID && id != auth.RawID:
		return auth, ErrOtherClient
	}
	return auth, nil
}

// ParseBasic reads an Authorization header with Basic credentials (RFC 7617
// section 2), decoded as RFC 6749 section 2.3.1 says. The error is
// ErrOtherAuth or ErrBasicSyntax. Neither id has a NUL or is other than UTF-8.
func ParseBasic(header string) (ClientAuth, error) {
	scheme, encoded, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return ClientAuth{}, ErrOtherAuth
	}
	pair, err := base64.StdEncoding.DecodeString(strings.TrimLeft(encoded, " "))
	if err != nil || strings.ContainsRune(string(pair), 0) {
		return ClientAuth{}, ErrBasicSyntax
	}
	rawID, rawSecret, ok := strings.Cut(string(pair), ":")
	if !ok || rawID == "" || !utf8.ValidString(rawID) {
		return ClientAuth{}, ErrBasicSyntax
	}
	return ClientAuth{Method: AuthBasic, ID: unescape(rawID), Secret: unescape(rawSecret), RawID: rawID, RawSecret: rawSecret}, nil
}

// unescape decodes form-urlencoding, and leaves alone what is not encoded text:
// a secret sent raw may look like anything.
func unescape(s string) string {
	if decoded, err := url.QueryUnescape(s); err == nil && isText(decoded) {
		return decoded
	}
	return s
}

// BasicHeader is the Authorization header that RFC 6749 section 2.3.1 asks for.
func BasicHeader(id, secret string) string {
	pair := url.QueryEscape(id) + ":" + url.QueryEscape(secret)
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
}

// BearerToken is the token of an Authorization header with the Bearer scheme
// (RFC 6750 section 2.1), and false if the header is none.
func BearerToken(header string) (string, bool) {
	scheme, rest, _ := strings.Cut(header, " ")
	token := strings.TrimLeft(rest, " ")
	if token == "" || !strings.EqualFold(scheme, Bearer) {
		return "", false
	}
	return token, true
}

// Format prints the method and the client, never the secret, whatever the verb.
func (a ClientAuth) Format(f fmt.State, _ rune) {
	io.WriteString(f, a.Method+" "+Legal(a.ID))
}
