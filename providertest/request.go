package providertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
)

// Kinds of requests beside those of package provider.
const (
	KindToken     provider.Kind = "token" // of a grant type that is not known
	KindAuthorize provider.Kind = "authorize"
	KindOwner     provider.Kind = "owner"
	KindRevoke    provider.Kind = "revoke"
	KindAPI       provider.Kind = "api"
	KindMetadata  provider.Kind = "metadata"
	KindOther     provider.Kind = "other" // to a path that is not there
	Everything    provider.Kind = "*"     // in a Rule: all kinds
)

// forTokens reports whether a request asks for tokens.
func forTokens(kind provider.Kind) bool {
	return slices.Contains([]provider.Kind{KindToken, provider.Exchange, provider.Refresh, provider.ClientCredentials, provider.Reminting}, kind)
}

// Request is one request to a simulator.
type Request struct {
	Kind   provider.Kind
	Number int    // of its kind, from 1
	Grant  string // "" where it names none that is known
	At     time.Time
}

// request is one request with all that it says.
type request struct {
	Request
	http    *http.Request
	base    string            // URL of the simulator as the request knows it
	form    provider.Body     // "" where it has another
	params  map[string]string // by their standard names
	problem string            // why they cannot be read
	fault   Fault
}

// mostBody is what is read of a request.
const mostBody = 1 << 20

func readRequest(r *http.Request) *request {
	q := &request{http: r, base: "http://" + r.Host, params: map[string]string{}}
	if r.TLS != nil {
		q.base = "https://" + r.Host
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, mostBody))
	if err != nil {
		q.problem = "The body broke off."
		return q
	}
	kind, fields, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case r.Method == http.MethodGet, len(body) == 0 && r.URL.RawQuery != "":
		q.form = provider.BodyQuery
		q.readForm(r.URL.RawQuery)
	case kind == oauth.FormType:
		q.form = provider.BodyForm
		q.readForm(string(body))
	case kind == "application/json":
		q.form = provider.BodyJSON
		q.readJSON(body)
	case kind == "multipart/form-data":
		q.form = provider.BodyMultipart
		q.readMultipart(body, fields["boundary"])
	default:
		q.problem = fmt.Sprintf("The content type %q is not read.", kind)
	}
	return q
}

func (q *request) readForm(encoded string) {
	values, err := url.ParseQuery(encoded)
	if err != nil {
		q.problem = "The parameters are not form-encoded."
	}
	for name, given := range values {
		if len(given) > 1 {
			q.problem = "The parameter " + oauth.Legal(name) + " is given more than once."
		}
		q.params[name] = given[0]
	}
}

func (q *request) readJSON(body []byte) {
	var fields map[string]any
	if json.Unmarshal(body, &fields) != nil {
		q.problem = "The body is not a JSON object."
	}
	for name, value := range fields {
		switch value := value.(type) {
		case string, float64, bool:
			q.params[name] = fmt.Sprint(value)
		case nil:
		default:
			q.problem = "The parameter " + oauth.Legal(name) + " is not a text."
		}
	}
}

func (q *request) readMultipart(body []byte, boundary string) {
	form, err := multipart.NewReader(bytes.NewReader(body), boundary).ReadForm(mostBody)
	if err != nil {
		q.problem = "The parts of the body cannot be read."
		return
	}
	for name, given := range form.Value {
		q.params[name] = given[0]
	}
}

// standardize gives the parameters of a token request their standard names. One
// that has another name here is not known by its standard one.
func (d *Dialect) standardize(q *request) {
	given := maps.Clone(q.params)
	for standard, name := range d.Names {
		delete(q.params, standard)
		if value, ok := given[name]; ok {
			q.params[standard] = value
		}
	}
}

// grantType is the standard grant type that a token request asks for, "" where
// it asks for none that is known.
func (d *Dialect) grantType(q *request) string {
	written := q.params["grant_type"]
	switch {
	case written == "" && d.DefaultGrant != Inferred:
		return d.DefaultGrant
	case written == "" && q.params["code"] != "":
		return oauth.GrantAuthorizationCode
	case written == "" && q.params["refresh_token"] != "":
		return oauth.GrantRefreshToken
	case written == "":
		return oauth.GrantClientCredentials
	case d.GrantTypes != nil:
		return d.GrantTypes[written]
	}
	return written
}

// understands checks what a token request looks like, before what it asks for.
func (d *Dialect) understands(q *request) *refused {
	forms := d.Bodies
	if len(forms) == 0 {
		forms = []provider.Body{provider.BodyForm}
	}
	switch {
	case q.http.Method != http.MethodPost && !slices.Contains(forms, provider.BodyQuery):
		return refuse(RefuseRequest, "The method must be POST.")
	case q.form == provider.BodyMultipart && !slices.Contains(forms, q.form):
		return refuse(RefuseRequest, "The body is multipart/form-data, whatever its header was meant to say: send one of %v.", forms)
	case q.problem != "":
		return refuse(RefuseRequest, "%s", q.problem)
	case !slices.Contains(forms, q.form):
		return refuse(RefuseRequest, "The parameters are not read as %s: send one of %v.", q.form, forms)
	}
	for _, name := range d.RequireHeader {
		if q.http.Header.Get(name) == "" {
			return refuse(RefuseRequest, "The header %s is missing.", name)
		}
	}
	for name, value := range d.Require {
		if given := q.params[name]; given == "" || value != "" && given != value {
			return refuse(RefuseRequest, "The parameter %s is missing or wrong.", name)
		}
	}
	return nil
}

// proven checks who sent a request. It holds the mutex.
func (s *Simulator) proven(q *request) *refused {
	ways := s.dialect.ClientAuth
	if len(ways) == 0 {
		ways = []provider.ClientAuth{provider.AuthBody, provider.AuthBasic}
	}
	var is provider.ClientAuth
	id, given := q.params["client_id"], q.params["client_secret"]
	if header := q.http.Header.Get("Authorization"); header != "" {
		basic, err := oauth.ParseBasic(header)
		if err != nil {
			return refuse(RefuseClient, "The Authorization header is not Basic credentials.")
		}
		switch id, given = basic.ID, basic.Secret; {
		case slices.Contains(ways, provider.AuthSecretAsUser) && basic.RawSecret == "":
			is, id, given = provider.AuthSecretAsUser, s.options.ClientID, basic.RawID
		case slices.Contains(ways, provider.AuthBasicRaw):
			is, id, given = provider.AuthBasicRaw, basic.RawID, basic.RawSecret
		default:
			is = provider.AuthBasic
		}
	} else if given != "" {
		is = provider.AuthBody
	} else if id != "" {
		is = provider.AuthID
	} else {
		is, id = provider.AuthNone, s.options.ClientID
	}
	secretless := is == provider.AuthID || is == provider.AuthNone
	switch {
	case !slices.Contains(ways, is):
		return refuse(RefuseClient, "The client proves itself by %s: do it by one of %v.", is, ways)
	case id != s.options.ClientID, !secretless && !s.knowsSecret(given):
		return refuse(RefuseClient, "The client or its secret is wrong.")
	}
	return nil
}

func (s *Simulator) knowsSecret(given string) bool {
	for _, text := range s.secrets {
		if text.Equal(given) {
			return true
		}
	}
	return false
}
