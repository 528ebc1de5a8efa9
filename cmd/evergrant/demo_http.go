package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/oauth"
)

// exchange is one request, as words of a curl command, and what came back.
type exchange struct {
	curl   []string
	status int // 0 where no answer came
	header http.Header
	body   []byte
}

// mostBody bounds in bytes what is read of an answer.
const mostBody = 1 << 20

// send does a request without following redirects. The exchange has the command
// even where there is an error.
func send(client *http.Client, req *http.Request) (exchange, error) {
	direct := *client
	direct.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := direct.Do(req)
	e := exchange{curl: curl(req)} // cookies are on the request by now
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the URL, which stands in the command
		}
		return e, err
	}
	defer resp.Body.Close()
	e.status, e.header = resp.StatusCode, resp.Header
	e.body, err = io.ReadAll(io.LimitReader(resp.Body, mostBody))
	return e, err
}

// form is a POST of pairs of names and values, in their order, by the client
// whose "id:secret" is given, or by none.
func form(ctx context.Context, target, client string, pairs ...string) (*http.Request, error) {
	var body strings.Builder
	for i := 0; i+1 < len(pairs); i += 2 {
		if i > 0 {
			body.WriteByte('&')
		}
		body.WriteString(url.QueryEscape(pairs[i]) + "=" + url.QueryEscape(pairs[i+1]))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(body.String()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", oauth.FormType)
	if id, secret, ok := strings.Cut(client, ":"); ok {
		req.SetBasicAuth(id, secret)
	}
	return req, nil
}

// decode reads a JSON answer; what does not fit is the zero value, which no
// promise is content with.
func decode[T any](e exchange) T {
	var out T
	if json.Unmarshal(e.body, &out) != nil {
		return *new(T)
	}
	return out
}

// refused reports whether an exchange ended with an OAuth error.
func (e exchange) refused(code string) bool {
	return e.status == http.StatusBadRequest && decode[oauth.Error](e).Code == code
}

// outcome is the status and the error code, in a few words.
func (e exchange) outcome() string {
	words := []string{statusLine(e.status)}
	if code := cmp.Or(decode[oauth.Error](e).Code, decode[evergrant.Problem](e).Code); code != "" {
		words = append(words, code)
	}
	return strings.Join(words, ", ")
}

var pageTitle = regexp.MustCompile(`<title>([^<]*)</title>`)

// title is that of a page, "" of what is none.
func (e exchange) title() string {
	if found := pageTitle.FindSubmatch(e.body); found != nil {
		return html.UnescapeString(string(found[1]))
	}
	return ""
}

// claims are those of a JWT access token. They are read without verifying it,
// which is good enough to show them and for nothing else.
func claims(token string) (scope, subject string) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", ""
	}
	said := decode[struct {
		Scope   string `json:"scope"`
		Subject string `json:"sub"`
	}](exchange{body: payload})
	return said.Scope, said.Subject
}

// curl is a request as the words of a command line, each fit to be pasted into
// a POSIX shell. An option and its value are one word.
func curl(req *http.Request) []string {
	words := []string{"curl"}
	body := requestBody(req)
	switch {
	case req.Method == http.MethodPost && body != "", req.Method == http.MethodGet && body == "":
	default:
		words = append(words, "-X "+req.Method)
	}
	if id, secret, ok := req.BasicAuth(); ok {
		words = append(words, "-u "+quote(id+":"+secret))
	}
	names := make([]string, 0, len(req.Header))
	for name := range req.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value := req.Header.Get(name)
		switch {
		case name == "Authorization" && strings.HasPrefix(value, "Basic "):
		case name == "Content-Type" && value == oauth.FormType && body != "":
		case name == "Cookie":
			words = append(words, "-b "+quote(value))
		default:
			words = append(words, "-H "+quote(name+": "+value))
		}
	}
	words = append(words, quote(req.URL.String()))
	if body != "" {
		words = append(words, "-d "+quote(body))
	}
	return words
}

func requestBody(req *http.Request) string {
	if req.GetBody == nil {
		return ""
	}
	reader, err := req.GetBody()
	if err != nil {
		return ""
	}
	body, err := io.ReadAll(reader)
	if err != nil {
		return ""
	}
	return string(body)
}

// plainWord has no character that means something to a shell.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+:,./-]+$`)

// quote makes one word of a POSIX shell.
func quote(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
