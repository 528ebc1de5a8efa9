package provider

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/evergrant/evergrant/oauth"
)

// fault is one thing that is wrong with a definition, at a dotted path of its
// keys.
type fault struct{ path, text string }

// checker looks for what cannot work in a definition.
type checker struct {
	*Definition
	found []fault
	used  map[string]bool // params
}

// faults are all that is wrong with a definition.
func (d *Definition) faults() []fault {
	c := &checker{Definition: d, used: map[string]bool{}}
	c.shape("", reflect.ValueOf(*d))
	c.identity()
	c.templates()
	c.params()
	c.requests()
	c.response()
	c.errors()
	c.lifetimes()
	c.limits()
	c.facts()
	return c.found
}

func (c *checker) bad(path, format string, args ...any) {
	c.found = append(c.found, fault{path, fmt.Sprintf(format, args...)})
}

// shape looks for required fields that are empty, and for texts that are none of
// their possible values, as the tags say.
func (c *checker) shape(path string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			c.shape(path, v.Elem())
		}
	case reflect.Map:
		names := v.MapKeys()
		slices.SortFunc(names, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, name := range names {
			c.shape(join(path, name.String()), v.MapIndex(name))
		}
	case reflect.Slice:
		for i := range v.Len() {
			c.shape(join(path, strconv.Itoa(i)), v.Index(i))
		}
	case reflect.Int:
		if v.Int() < 0 {
			c.bad(path, "%s is below 0; write 0 or more", path)
		}
	case reflect.Struct:
		for _, f := range reflect.VisibleFields(v.Type()) {
			if name, options, _ := strings.Cut(f.Tag.Get("yaml"), ","); name != "" {
				c.field(path, name, options == "", f.Tag.Get("enum"), v.FieldByIndex(f.Index))
			}
		}
	}
}

func (c *checker) field(path, name string, required bool, enum string, v reflect.Value) {
	at := join(path, name)
	switch {
	case required && v.IsZero():
		c.bad(at, "%s has no %s; add it", title(path), name)
	case enum != "" && !v.IsZero() && !slices.Contains(strings.Split(enum, ","), v.String()):
		c.bad(at, "%s is none of its values; write one of %s", at, strings.ReplaceAll(enum, ",", ", "))
	}
	c.shape(at, v)
}

var (
	definitionName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	valueName      = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	answerPath     = regexp.MustCompile(`^\.?[^.|\s]+(\.[^.|\s]+)*(\|\.?[^.|\s]+(\.[^.|\s]+)*)*$`)
	headerName     = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$") // RFC 9110 section 5.1
)

// ownHeaders are written by the program itself.
const ownHeaders = " Host Content-Length Transfer-Encoding Connection "

func (c *checker) identity() {
	if c.Name != "" && (!definitionName.MatchString(c.Name) || len(c.Name) > 64) {
		c.bad("name", "name must be at most 64 lower case letters, digits and single hyphens between them, such as acme-sandbox; rename it")
	}
	if u, err := url.Parse(c.Docs); c.Docs != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		c.bad("docs", "docs is not a web address; write the URL of the provider's documentation")
	}
	for i, token := range c.Authorize.Scopes {
		if scope, err := oauth.ParseScope(token); err != nil || !scope.Equal(oauth.Scope{token}) || len(scope) != 1 {
			at := "authorize.scopes." + strconv.Itoa(i)
			c.bad(at, "%s is not one scope; write each as an item of its own, without spaces, quotes and backslashes", at)
		}
	}
	c.names("authorize.keep", c.Authorize.Keep)
	for _, name := range slices.Sorted(maps.Keys(c.Authorize.Keep)) {
		if c.Authorize.Keep[name] == "" {
			c.bad("authorize.keep."+name, "authorize.keep.%s is empty; write the name of a parameter of the redirect", name)
		}
	}
}

// names checks the keys of a map that are names of ours.
func (c *checker) names(path string, values map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !valueName.MatchString(name) {
			c.bad(path+"."+name, "%s has the name %q; write it in lower case letters, digits and _, with a letter first", path, name)
		}
	}
}

// defaultPattern is that of a param without one.
const defaultPattern = `[A-Za-z0-9.-]+`

// compile makes the expression that a whole value must match.
func (p Param) compile() (*regexp.Regexp, error) {
	pattern := p.Pattern
	if pattern == "" {
		pattern = defaultPattern
	}
	if _, err := regexp.Compile(pattern); err != nil { // before a group is put around it, which could mend it
		return nil, err
	}
	return regexp.Compile(`\A(?:` + pattern + `)\z`)
}

func (c *checker) params() {
	for _, name := range slices.Sorted(maps.Keys(c.Params)) {
		param, at := c.Params[name], "params."+name
		if !valueName.MatchString(name) {
			c.bad(at, "params has the name %q; write it in lower case letters, digits and _, with a letter first", name)
		}
		pattern, err := param.compile()
		switch {
		case err != nil:
			c.bad(at+".pattern", "%s.pattern cannot be used: %v; write a regular expression as https://pkg.go.dev/regexp/syntax has them", at, err)
		case param.Default != "" && !pattern.MatchString(param.Default):
			c.bad(at+".default", "%s.default does not match the pattern of the param; change one of them", at)
		}
		from, rest, _ := strings.Cut(param.From, ":")
		if ok := from == "redirect" && rest != "" || from == "answer" && answerPath.MatchString(rest); param.From != "" && !ok {
			c.bad(at+".from", "%s.from must be redirect:NAME or answer:PATH; write for example redirect:accounts-server or answer:instance_url", at)
		}
		if !c.used[name] && param.From == "" { // somebody would be asked for it in vain
			c.bad(at, "%s is used nowhere; write {%s} where it belongs, or delete it", at, at)
		}
	}
}

// requests checks what a request is written with, apart from its templates.
func (c *checker) requests() {
	if c.TokenURL == "" && c.Issuer == "" {
		c.bad("token_url", "there is neither token_url nor issuer; add the one that the provider has")
	}
	if c.Token.URL != "" {
		c.bad("token.url", "token.url has no meaning; write the URL as token_url")
	}
	for _, r := range []struct {
		path string
		Request
	}{{"token", c.Token}, {"revoke", c.Revoke}} {
		if r.GrantType != "" {
			c.bad(r.path+".grant_type", "%s.grant_type has no meaning; write it in exchange, refresh or client_credentials", r.path)
		}
	}
	c.request("token", c.Token, c.Token)
	c.request("exchange", c.Exchange, c.Token)
	c.request("refresh", c.Refresh, c.Token)
	c.request("client_credentials", c.ClientCredentials, c.Token)
	c.request("revoke", c.Revoke, c.Token)
	for i, step := range c.Remint.Steps {
		at := "remint.steps." + strconv.Itoa(i)
		common := c.Token
		if step.GrantType == "" {
			common.ClientAuth = AuthNone
		}
		c.request(at, step.Request, common)
		c.named(at+".save", step.Save)
		if i == len(c.Remint.Steps)-1 && len(step.Save) > 0 {
			c.bad(at+".save", "%s saves values, but the last step gives the tokens and nothing comes after it; delete save, or add the step that uses them", at)
		}
	}
	c.headers("api.headers", c.API.Headers)
}

func (c *checker) request(path string, r, common Request) {
	whole := r.over(common)
	if whole.Method == http.MethodGet && r.Body != "" && r.Body != BodyQuery {
		c.bad(path+".body", "%s is a GET, whose parameters go into the URL; write body: query", path)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Params)) {
		if name == "" {
			c.bad(path+".params", "%s.params has a parameter without a name; name or delete it", path)
		}
	}
	c.headers(path+".headers", r.Headers)
	auth := whole.ClientAuth
	for name := range r.Headers {
		if strings.EqualFold(name, "Authorization") && (auth == AuthBasic || auth == AuthBasicRaw || auth == AuthSecretAsUser) {
			c.bad(path+".headers", "%s sets the header Authorization, which client_auth: %s writes; delete one of them", path, auth)
		}
	}
}

func (c *checker) headers(path string, headers map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		at := path + "." + name
		switch {
		case !headerName.MatchString(name):
			c.bad(at, "%s has the name %q, which no header can have; correct it", path, name)
		case strings.Contains(strings.ToLower(ownHeaders), " "+strings.ToLower(name)+" "):
			c.bad(at, "%s sets %s, which is written for each request; delete it", path, name)
		case strings.ContainsFunc(headers[name], func(r rune) bool { return r < ' ' || r == 0x7f }):
			c.bad(at, "%s contains a line break or another control character; write it on one line", at)
		}
	}
}
