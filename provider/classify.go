package provider

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/evergrant/evergrant/oauth"
)

const (
	// maxShown bounds a text that is quoted of an answer, in characters.
	maxShown = 200
	// maxText bounds the text of which it is taken, in bytes.
	maxText = 1 << 20
	// minSecret is how long a text must be to be looked for in others, in bytes:
	// a shorter one is part of words.
	minSecret = 4
)

// refusal is the error that an answer without tokens is: by the definition's
// rules, then by its status and by the codes of RFC 6749 section 5.2.
func (p *Provider) refusal(a Answer, doc document) *Error {
	code, detail := p.errorOf(doc)
	secrets := append(p.answerSecrets(doc), a.Sent...)
	e := &Error{Status: a.Status, Code: p.clean(code, secrets), Detail: p.clean(detail, secrets), RetryAfter: a.retryAfter()}
	if e.Detail == "" {
		e.Detail = p.clean(doc.describe(), secrets)
	}
	for _, rule := range p.cfg.Definition.Errors {
		if rule.fits(a, doc) {
			e.Class, e.Outcome = rule.Class, Refused
			if rule.Class == Ambiguous {
				e.Outcome = Unknown
			}
			if e.RetryAfter == 0 && rule.RetryAfter > 0 {
				e.RetryAfter = time.Duration(rule.RetryAfter)
			}
			return e
		}
	}
	e.Class, e.Outcome = p.classify(a, doc, code)
	return e
}

// fits reports whether all conditions of a rule hold.
func (r *ErrorRule) fits(a Answer, doc document) bool {
	return (r.Status == 0 || r.Status == a.Status) && r.Match.holds(doc)
}

// classify decides without the definition's rules.
func (p *Provider) classify(a Answer, doc document, code string) (Class, Outcome) {
	byCode, known := classes[code]
	if !known {
		byCode = BadDefinition
	}
	broken := a.Cut || !doc.whole
	switch {
	case a.Status/100 == 2 && p.saysError(doc, code):
		return byCode, Refused
	case a.Status/100 == 2 && broken:
		return Ambiguous, Unknown
	case a.Status == http.StatusServiceUnavailable && a.RetryAfter != "":
		return Throttled, Unknown
	case a.Status/100 == 5 && p.spends(a.Kind):
		return Ambiguous, Unknown
	case a.Status/100 == 5:
		return Transient, Unknown
	case a.Status == http.StatusSeeOther: // the answer to a request that was carried out (RFC 9110 section 15.4.4)
		return BadDefinition, Unknown
	case a.Status/100 == 3:
		return BadDefinition, Refused
	case a.Status == http.StatusTooManyRequests:
		return Throttled, Refused
	case a.Status == http.StatusRequestTimeout, a.Status == http.StatusTooEarly:
		return Transient, Refused
	case a.Status/100 == 4 && code == "" && (broken || doc.html && (a.Status == http.StatusUnauthorized || a.Status == http.StatusForbidden)): // a firewall's page
		return Transient, Refused
	case a.Status/100 == 4:
		return byCode, Refused
	}
	return BadDefinition, Unknown
}

// classes are what error codes mean: those of RFC 6749 section 5.2, OpenID
// Connect Core section 3.1.2.6 and RFC 8628 section 3.5.
var classes = map[string]Class{
	oauth.InvalidGrant:           Revoked,
	oauth.InvalidClient:          BadClient,
	oauth.UnauthorizedClient:     BadClient,
	oauth.InvalidRequest:         BadDefinition,
	oauth.UnsupportedGrantType:   BadDefinition,
	oauth.InvalidScope:           BadDefinition,
	"interaction_required":       ConsentRequired,
	"consent_required":           ConsentRequired,
	"login_required":             ConsentRequired,
	oauth.TemporarilyUnavailable: Transient,
	oauth.ServerError:            Transient,
	"slow_down":                  Throttled,
}

// saysError reports whether an answer with a status of success says that it is
// an error.
func (p *Provider) saysError(doc document, code string) bool {
	if success := p.cfg.Definition.Response.Success; success != nil {
		return find(doc.root, success.Path) != nil && !success.holds(doc)
	}
	return code != ""
}

// spends reports whether a request that was carried out cannot be made again.
func (p *Provider) spends(kind Kind) bool {
	rotation := p.cfg.Definition.RefreshToken.Rotation
	return kind == Exchange || kind == Refresh && rotation != RotationFixed && rotation != RotationNone
}

// errorOf is the error code and its description, "" where an answer has none.
// Zeros, false and what is empty are none: some providers write them beside
// tokens.
func (p *Provider) errorOf(doc document) (code, detail string) {
	r := &p.cfg.Definition.Response
	switch v := find(doc.root, r.ErrorCode).(type) {
	case map[string]any: // such as {"error": {"code": ..., "message": ...}}
		code = text(find(v, "code|type|status|error"))
		detail = text(find(v, "message|description|error_description"))
	default:
		code = text(v)
	}
	if value, ok := number(code); ok && value == 0 || code == "false" {
		code = ""
	}
	if detail == "" {
		detail = text(find(doc.root, r.ErrorDetail))
	}
	if detail == "" {
		detail = text(find(doc.root, "message|errorMessage|error_message|reason"))
	}
	return code, detail
}

// describe says what an answer is that says nothing of itself.
func (d document) describe() string {
	switch root := d.root.(type) {
	case map[string]any:
		names := slices.DeleteFunc(slices.Sorted(maps.Keys(root)), func(name string) bool { return !isWord(name) })
		return "the answer has the fields " + strings.Join(names, ", ")
	case nil:
		if d.html {
			return "the answer is a page in HTML or XML"
		}
		return "the answer is neither JSON nor a form"
	}
	return "the answer is no JSON object"
}

// isWord reports whether the name of a field can be shown: what does not look
// like words may be a secret.
func isWord(name string) bool {
	capitals := 0
	for _, c := range name {
		switch {
		case c >= 'A' && c <= 'Z':
			capitals++
		case (c < 'a' || c > 'z') && c != '_' && c != '-':
			return false
		}
	}
	return len(name) <= 40 && capitals <= 3
}

// answerSecrets are the tokens in an answer.
func (p *Provider) answerSecrets(doc document) []string {
	r := &p.cfg.Definition.Response
	var secrets []string
	for _, node := range []any{doc.root, nested(find(doc.root, r.Envelope))} {
		for _, path := range []string{r.AccessToken, r.RefreshToken, "access_token", "refresh_token", "id_token", "client_secret"} {
			secrets = append(secrets, text(find(node, path)))
		}
	}
	return secrets
}

// clean is the function clean with the app's own secrets beside those given.
func (p *Provider) clean(s string, secrets []string) string {
	for _, own := range p.cfg.ClientSecrets {
		secrets = append(secrets, own.Reveal())
	}
	return clean(s, secrets...)
}

// clean makes a text fit to be shown: without secrets, printable, in one line,
// and cut to 200 characters.
func clean(s string, secrets ...string) string {
	s = s[:min(len(s), maxText)]
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) }) // one may be part of another
	for _, hidden := range secrets {
		if len(hidden) >= minSecret {
			s = strings.ReplaceAll(s, hidden, "[redacted]")
		}
	}
	s = strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return ' '
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if runes := []rune(s); len(runes) > maxShown {
		s = string(runes[:maxShown-1]) + "…"
	}
	return s
}
