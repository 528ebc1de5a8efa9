package provider

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// userAgent is what requests call themselves: some providers refuse those
// without a name.
const userAgent = "evergrant"

// request writes one request to the provider: r, taken together by over, with
// the standard parameters below its own.
func (p *Provider) request(ctx context.Context, r Request, standard map[string]*string, v values) (*http.Request, error) {
	if r.URL == "" {
		return nil, unwritten(errNoEndpoint)
	}
	u, err := v.renderURL(r.URL)
	if err == nil {
		err = p.permitted(u)
	}
	if err != nil {
		return nil, unwritten(err)
	}
	header := http.Header{"Accept": {"application/json"}, "User-Agent": {userAgent}, "Accept-Encoding": {"identity"}}
	templates := maps.Clone(standard)
	if r.GrantType != "" {
		templates["grant_type"] = &r.GrantType
	}
	authenticate(r.ClientAuth, v, templates, header)
	maps.Copy(templates, r.Params)
	params, err := v.renderAll(templates)
	if err != nil {
		return nil, unwritten(err)
	}
	body, err := write(r, params, u, header)
	if err != nil {
		return nil, unwritten(err)
	}
	for name, template := range r.Headers {
		value, err := v.render(template)
		if err == nil && strings.ContainsFunc(value, unicode.IsControl) {
			err = fmt.Errorf("the header %s would have a line break or another control character", name)
		}
		if err != nil {
			return nil, unwritten(err)
		}
		header.Set(name, value)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, unwritten(fmt.Errorf("the definition's method %q cannot be sent", r.Method))
	}
	req.Header = header
	req.GetBody = nil // so that net/http cannot send it again
	return req, nil
}

// unwritten is a request that could not be written.
func unwritten(err error) *Error {
	return &Error{Class: BadDefinition, Outcome: NotSent, Detail: clean(err.Error())}
}

// over takes r together with what all token requests have in common.
func (r Request) over(common Request) Request {
	r.URL = cmp.Or(r.URL, common.URL)
	r.Method = cmp.Or(r.Method, common.Method, http.MethodPost)
	r.Body = cmp.Or(r.Body, common.Body, BodyForm)
	r.ClientAuth = cmp.Or(r.ClientAuth, common.ClientAuth)
	r.GrantType = cmp.Or(r.GrantType, common.GrantType)
	params, headers := map[string]*string{}, map[string]string{}
	maps.Copy(params, common.Params)
	maps.Copy(params, r.Params)
	for _, set := range []map[string]string{common.Headers, r.Headers} {
		for name, value := range set {
			headers[http.CanonicalHeaderKey(name)] = value
		}
	}
	r.Params, r.Headers = params, headers
	return r
}

// standard are the templates of the parameters that a grant type of RFC 6749
// asks for (sections 4.1.3, 4.4.2 and 6). Those that come out empty are not sent.
func standard(grant string) map[string]*string {
	params := map[string]*string{}
	switch grant {
	case oauth.GrantAuthorizationCode:
		params["code"], params["redirect_uri"], params["code_verifier"] = new("{code|saved.code}"), new("{redirect_uri}"), new("{code_verifier}")
	case oauth.GrantRefreshToken:
		params["refresh_token"] = new("{refresh_token}")
	case oauth.GrantClientCredentials:
		params["scope"] = new("{scope}")
	}
	return params
}

// authenticate adds what proves who the client is. A client without a secret
// says its id.
func authenticate(auth ClientAuth, v values, params map[string]*string, header http.Header) {
	id, clientSecret := v["client_id"], v["client_secret"]
	if clientSecret == "" && auth != AuthNone {
		auth = AuthID
	}
	switch auth {
	case AuthBody:
		params["client_id"], params["client_secret"] = new("{client_id}"), new("{client_secret}")
	case AuthID:
		params["client_id"] = new("{client_id}")
	case AuthBasic:
		header.Set("Authorization", oauth.BasicHeader(id, clientSecret))
	case AuthBasicRaw:
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(id+":"+clientSecret)))
	case AuthSecretAsUser:
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(clientSecret+":")))
	}
}

// renderAll writes parameters. Removed ones are left out, and those that come
// out empty unless their template is.
func (v values) renderAll(templates map[string]*string) (map[string]string, error) {
	params := map[string]string{}
	for name, template := range templates {
		if template == nil {
			continue
		}
		value, err := v.render(*template)
		if err != nil {
			return nil, err
		}
		if value != "" || *template == "" {
			params[name] = value
		}
	}
	return params, nil
}

// write puts parameters into the body, or into the URL's query.
func write(r Request, params map[string]string, u *url.URL, header http.Header) ([]byte, error) {
	fields := url.Values{}
	for name, value := range params {
		fields.Set(name, value)
	}
	switch {
	case r.Body == BodyQuery || r.Method == http.MethodGet:
		u.RawQuery = strings.Trim(u.RawQuery+"&"+fields.Encode(), "&")
		return nil, nil
	case r.Body == BodyJSON:
		header.Set("Content-Type", "application/json")
		return json.Marshal(params)
	case r.Body == BodyMultipart:
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		for _, name := range slices.Sorted(maps.Keys(params)) {
			form.WriteField(name, params[name]) // a buffer takes everything
		}
		form.Close()
		header.Set("Content-Type", form.FormDataContentType())
		return body.Bytes(), nil
	}
	header.Set("Content-Type", oauth.FormType)
	return []byte(fields.Encode()), nil
}

// values are what templates may name in a call.
func (p *Provider) values(call Call) values {
	scope := call.Scope
	if scope == nil {
		scope = p.Scopes()
	}
	v := values{
		"client_id":     p.cfg.ClientID,
		"client_secret": p.clientSecret(call.Secret).Reveal(),
		"redirect_uri":  p.cfg.RedirectURI,
		"code":          call.Code.Reveal(),
		"code_verifier": call.CodeVerifier.Reveal(),
		"access_token":  call.AccessToken.Reveal(),
		"refresh_token": call.RefreshToken.Reveal(),
		"scope":         strings.Join(scope, p.cfg.Definition.Authorize.ScopeSeparator),
		"owner":         call.Owner,
		"uuid":          uuid(),
		"now":           strconv.FormatInt(p.cfg.Now().Unix(), 10),
	}
	if p.cfg.Definition.Authorize.PKCE == pkceNone {
		delete(v, "code_verifier")
	}
	maps.DeleteFunc(v, func(_, value string) bool { return value == "" })
	for name, value := range p.params(call.Params) {
		v["params."+name] = value
	}
	return v
}

func (p *Provider) clientSecret(i int) secret.Text {
	if i < 0 || i >= len(p.cfg.ClientSecrets) {
		return secret.Text{}
	}
	return p.cfg.ClientSecrets[i]
}

// secrets are the values of v that no text of ours may show, but for the client
// secret, which is always known.
func (v values) secrets() []string {
	var secrets []string
	for name, value := range v {
		if slices.Contains(secretNames, name) || strings.HasPrefix(name, "saved.") {
			secrets = append(secrets, value)
		}
	}
	return secrets
}

var secretNames = []string{"code", "code_verifier", "access_token", "refresh_token"}

// uuid is a random UUID (RFC 9562 section 5.4).
func uuid() string {
	b := secret.Bytes(16)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
