package providertest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/goccy/go-yaml"
)

// Transcript is what an app and one provider say to each other, as the
// provider's documentation shows it. It knows nothing of definitions: [Conform]
// holds one against it.
//
// Requests are written as HTTP writes them: the method and the URL, header
// lines, and after an empty line the body, which is a form or JSON. An
// Authorization of the scheme Basic is written decoded. Answers are the status
// and the content type, and after an empty line the body.
//
// Names after a $ are replaced: ID and SECRET of the client, REDIRECT its
// redirect URI, STATE, CHALLENGE, VERIFIER, CODE, OWNER, the tokens of the
// connection ACCESS and REFRESH, those of an answer A and R, BASE the URL of the
// server, UNIX+n and RFC3339+n the time n seconds after the request. ANY is
// whatever is not empty.
type Transcript struct {
	Source    string            `yaml:"source"`    // URL of the documentation
	With      map[string]string `yaml:"with"`      // params that whoever connects gives
	Metadata  string            `yaml:"metadata"`  // of the issuer (RFC 8414)
	Authorize string            `yaml:"authorize"` // request; the scopes asked for are first and second, here and everywhere
	Redirect  map[string]string `yaml:"redirect"`  // further parameters of the redirect to the app
	Told      map[string]string `yaml:"told"`      // params that they are

	Exchange          *Turn  `yaml:"exchange"`
	ClientCredentials *Turn  `yaml:"client_credentials"`
	Refresh           *Turn  `yaml:"refresh"`
	Remint            []Turn `yaml:"remint"` // of which the last gives the tokens
	Revoke            string `yaml:"revoke"` // request
	API               string `yaml:"api"`    // a request to the API

	Errors []Failure `yaml:"errors"` // of a refresh
}

// Turn is a request and its answer, with what the answer gives besides the
// tokens. Lifetimes count from the request; 0 is without end, or not known.
type Turn struct {
	Request      string            `yaml:"request"`
	Answer       string            `yaml:"answer"`
	Lives        oauth.Lifetime    `yaml:"lives"`
	RefreshLives oauth.Lifetime    `yaml:"refresh_lives"`
	Scope        []string          `yaml:"scope"`
	Params       map[string]string `yaml:"params"`
	Kept         map[string]any    `yaml:"kept"`
	Extra        map[string]string `yaml:"extra"`
}

// Failure is an answer that is an error.
type Failure struct {
	Status int            `yaml:"status"`
	Body   string         `yaml:"body"`
	Class  provider.Class `yaml:"class"`
	Code   string         `yaml:"code"` // how the provider calls it; not compared where ""
	Wait   oauth.Lifetime `yaml:"wait"` // until it can be tried again; not known where 0
}

// ReadTranscript reads a transcript in YAML. A key that there is not is an
// error.
func ReadTranscript(data []byte) (Transcript, error) {
	var t Transcript
	err := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict()).Decode(&t)
	switch {
	case err != nil:
	case t.Source == "":
		err = errors.New("there is no source; add the URL of the provider's documentation")
	case slices.ContainsFunc(t.Errors, func(f Failure) bool { return f.Status < 200 || f.Status > 599 }):
		err = errors.New("an error has no HTTP status; write 200 to 599")
	}
	return t, err
}

// words are what stands for the names after a $.
type words map[string]string

var word = regexp.MustCompile(`"\$UNIX\+\d+"|\$(?:UNIX|RFC3339)\+\d+|\$[A-Z]+`)

// in replaces the names in a text. A time in seconds loses its quotes.
func (w words) in(text string) string {
	return word.ReplaceAllStringFunc(text, func(name string) string {
		name, seconds, timed := strings.Cut(strings.Trim(name, `"`)[1:], "+")
		if !timed {
			return w[name]
		}
		left, _ := strconv.Atoi(seconds) // digits
		at := began.Add(time.Duration(left) * time.Second)
		if name == "UNIX" {
			return strconv.FormatInt(at.Unix(), 10)
		}
		return at.Format(time.RFC3339)
	})
}

// split takes the head of a request or an answer from its body.
func split(text string) (first string, header, body string) {
	head, body, _ := strings.Cut(text, "\n\n")
	first, header, _ = strings.Cut(strings.TrimSpace(head), "\n")
	return first, header, strings.TrimSpace(body)
}

// saying is the answer that a turn writes.
func (w words) saying(text string) (answer, error) {
	first, _, body := split(text)
	status, kind, _ := strings.Cut(first, " ")
	code, err := strconv.Atoi(status)
	if err != nil || code < 200 || code > 599 {
		return answer{}, fmt.Errorf("the answer %q does not begin with a status", first)
	}
	return content(code, kind, []byte(w.in(body))), nil
}

// differences are what a request has otherwise than one that is written in a
// transcript.
func (w words) differences(got heard, text string) []string {
	first, header, body := split(text)
	method, target, _ := strings.Cut(first, " ")
	address, rawQuery, _ := strings.Cut(target, "?")
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return []string{fmt.Sprintf("the query of %s cannot be read: %v", target, err)}
	}
	var found []string
	if got.method != method {
		found = append(found, fmt.Sprintf("the method is %s, not %s", got.method, method))
	}
	if is, err := url.PathUnescape(got.url); err != nil || is != w.in(address) {
		found = append(found, fmt.Sprintf("it goes to %s, not to %s", got.url, w.in(address)))
	}
	found = append(found, w.compare("the query", flat(got.query), flat(query))...)
	found = append(found, w.headers(got.header, header)...)
	return append(found, w.body(got, body)...)
}

// headers compares the headers that are written, and the authorization.
func (w words) headers(got http.Header, written string) []string {
	want, is := map[string]string{}, map[string]string{}
	for line := range strings.Lines(written) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		want[http.CanonicalHeaderKey(name)] = value
		is[http.CanonicalHeaderKey(name)] = got.Get(name)
	}
	if given := got.Get("Authorization"); given != "" {
		is["Authorization"] = decodedBasic(given)
	}
	return w.compare("the header", is, want)
}

// decodedBasic is an Authorization header with its Basic credentials as they
// were before they were encoded.
func decodedBasic(header string) string {
	if basic, err := oauth.ParseBasic(header); err == nil {
		return "Basic " + basic.RawID + ":" + basic.RawSecret
	}
	return header
}

// body compares the body of a request.
func (w words) body(got heard, written string) []string {
	kind, _, _ := strings.Cut(got.header.Get("Content-Type"), ";")
	want, wantKind := map[string]string{}, ""
	switch {
	case strings.HasPrefix(written, "{"):
		want, wantKind = object([]byte(written)), "application/json"
	case written != "":
		fields, err := url.ParseQuery(written)
		if err != nil {
			return []string{fmt.Sprintf("the form %s cannot be read: %v", written, err)}
		}
		want, wantKind = flat(fields), oauth.FormType
	}
	if kind != wantKind {
		return []string{fmt.Sprintf("the body is of the type %q, not %q", kind, wantKind)}
	}
	is := map[string]string{}
	if strings.HasPrefix(string(got.body), "{") {
		is = object(got.body)
	} else if fields, err := url.ParseQuery(string(got.body)); err == nil {
		is = flat(fields)
	}
	return w.compare("the body", is, want)
}

// compare says in which names two lists of values differ. Names are replaced in
// those that are wanted.
func (w words) compare(where string, is, want map[string]string) []string {
	names := maps.Clone(is)
	maps.Copy(names, want)
	var found []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		got, there := is[name]
		text, wanted := want[name]
		switch value := w.in(text); {
		case !wanted:
			found = append(found, fmt.Sprintf("%s has %s, which is not wanted: %q", where, name, got))
		case !there || got == "":
			found = append(found, fmt.Sprintf("%s has no %s, which is to be %q", where, name, value))
		case text != "$ANY" && got != value:
			found = append(found, fmt.Sprintf("%s has %s = %q, not %q", where, name, got, value))
		}
	}
	return found
}

// flat are fields with one value each; those with more are written in a way that
// nothing else is.
func flat(fields url.Values) map[string]string {
	out := map[string]string{}
	for name, values := range fields {
		out[name] = strings.Join(values, " and ")
	}
	return out
}

// object are the fields of a JSON object; nested values as JSON.
func object(text []byte) map[string]string {
	fields, out := map[string]any{}, map[string]string{}
	if err := json.Unmarshal(text, &fields); err != nil {
		return map[string]string{"": "no JSON object: " + err.Error()}
	}
	for name, value := range fields {
		if s, ok := value.(string); ok {
			out[name] = s
			continue
		}
		encoded, err := json.Marshal(value)
		out[name] = cmp.Or(string(encoded), fmt.Sprint(err))
	}
	return out
}
