package providertest

import (
	"cmp"
	"encoding/json"
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
)

// answer is what a request is answered with.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// content makes an answer with a body of some type.
func content(status int, kind string, body []byte) answer {
	return answer{status, http.Header{"Content-Type": {kind}, "Cache-Control": {"no-store"}}, body}
}

// jsonAnswer makes an answer of what encoding/json can write.
func jsonAnswer(status int, value any) answer {
	body, err := json.Marshal(value)
	if err != nil {
		panic(err) // templates and faults are the program's own
	}
	return content(status, "application/json", body)
}

// refused is a request that is refused.
type refused struct {
	why   Refusal
	text  string
	after time.Duration // of a throttle: when it is over
}

func refuse(why Refusal, format string, args ...any) *refused {
	return &refused{why: why, text: fmt.Sprintf(format, args...)}
}

// usualCode is how RFC 6749 section 5.2 and RFC 6750 section 3.1 say it.
func usualCode(why Refusal) Code {
	const bad = http.StatusBadRequest
	return map[Refusal]Code{
		RefuseRequest: {Status: bad, Value: oauth.InvalidRequest}, RefuseGrantType: {Status: bad, Value: oauth.UnsupportedGrantType},
		RefuseClient: {Status: http.StatusUnauthorized, Value: oauth.InvalidClient}, RefuseScope: {Status: bad, Value: oauth.InvalidScope},
		RefuseCode: {Status: bad, Value: oauth.InvalidGrant}, RefuseRefresh: {Status: bad, Value: oauth.InvalidGrant},
		RefuseExpired: {Status: bad, Value: oauth.InvalidGrant}, RefuseEarly: {Status: bad, Value: oauth.InvalidGrant},
		RefuseThrottled: {Status: http.StatusTooManyRequests, Value: "slow_down"}, RefuseConsent: {Status: bad, Value: oauth.AccessDenied},
		RefuseToken: {Status: http.StatusUnauthorized, Value: oauth.InvalidToken}, RefusePower: {Status: http.StatusForbidden, Value: oauth.InsufficientScope},
		RefuseOwner: {Status: http.StatusNotFound, Value: "not_found"}, RefuseTaken: {Status: http.StatusConflict, Value: "conflict"},
	}[why]
}

// code is how the dialect says a refusal.
func (d *Dialect) code(r *refused) Code {
	own, usual := d.Codes[r.why], usualCode(r.why)
	if own.Value == nil {
		own.Value = usual.Value
	}
	if own.Status == 0 && !slices.Contains([]Refusal{RefuseToken, RefusePower, RefuseOwner, RefuseTaken}, r.why) {
		own.Status = d.FailureStatus
	}
	own.Text, own.Status = cmp.Or(own.Text, r.text), cmp.Or(own.Status, usual.Status)
	return own
}

// failure answers a refusal.
func (d *Dialect) failure(q *request, r *refused) answer {
	code := d.code(r)
	a := d.render(q, code.Status, cmp.Or(d.Failure, plainFailure), values{"error": code.Value, "error_description": code.Text, "status": code.Status})
	if code.Status == http.StatusTooManyRequests && r.after > 0 {
		a.header.Set("Retry-After", strconv.Itoa(int((r.after+time.Second-1)/time.Second)))
	}
	if r.why == RefuseToken {
		a.header.Set("WWW-Authenticate", fmt.Sprintf("Bearer error=%q", fmt.Sprint(code.Value)))
	}
	return a
}

// render fills a template, changes it as the fault of the request says, and
// writes it in the form that the dialect has for the request.
func (d *Dialect) render(q *request, status int, template string, known values) answer {
	filled := known.template(template)
	for _, field := range q.fault.Unset {
		change(filled, field, nil, true)
	}
	for field, value := range q.fault.Set {
		value, _ = known.fill(value)
		if !change(filled, field, value, false) {
			filled.(map[string]any)[field] = value
		}
	}
	if d.Shape != nil && status == http.StatusOK {
		filled = d.Shape(filled)
	}
	return d.encode(q, status, filled)
}

func (d *Dialect) encode(q *request, status int, value any) answer {
	fields, isObject := value.(map[string]any)
	if !d.FormAnswers || !isObject || !forTokens(q.Kind) || strings.Contains(q.http.Header.Get("Accept"), "application/json") {
		return jsonAnswer(status, value)
	}
	form := url.Values{}
	for name, field := range fields {
		form.Set(name, fmt.Sprint(field))
	}
	return content(status, oauth.FormType, []byte(form.Encode()))
}

// tokenAnswer answers with tokens.
func (s *Simulator) tokenAnswer(q *request, out issued) answer {
	template, known := cmp.Or(s.dialect.Answer, plainAnswer), s.values(q, out)
	if out.access.grant != nil && strings.Contains(template, "{user_access_token}") {
		known["user_access_token"] = s.newAccess(out.access.grant, out.access.scope, q.At).value
	}
	return s.dialect.render(q, http.StatusOK, template, known)
}

// values are what the templates of token answers may name.
func (s *Simulator) values(q *request, out issued) values {
	t := out.access
	known := s.facts(q, t.grant)
	maps.Copy(known, values{"access_token": t.value, "scope_list": t.scope, "issued_at": q.At.Unix(), "issued_at_ms": q.At.UnixMilli()})
	known.expiry("expires", t.expires, q.At)
	if len(t.scope) > 0 {
		known["scope"] = strings.Join(t.scope, cmp.Or(s.dialect.ScopeSeparator, " "))
	}
	if out.refresh != nil {
		known.expiry("refresh_expires", out.refresh.expires, q.At)
	}
	if out.telling {
		known["refresh_token"] = out.refresh.value
	}
	return known
}

// facts are what all templates may name.
func (s *Simulator) facts(q *request, g *grant) values {
	known := values{"base": q.base}
	if g != nil {
		maps.Copy(known, values{"owner": g.Owner, "owner_id": ownerID(g.Owner), "grant": g.ID})
	}
	return known
}

// ownerID is how the provider names an owner.
func ownerID(owner string) string { return "id-" + owner }

// change sets or removes a field wherever it stands, and reports whether it did.
func change(in any, field string, value any, remove bool) bool {
	did := false
	switch in := in.(type) {
	case map[string]any:
		for name := range maps.Clone(in) {
			switch {
			case name != field:
				did = change(in[name], field, value, remove) || did
			case remove:
				delete(in, name)
				did = true
			default:
				in[name], did = value, true
			}
		}
	case []any:
		for _, element := range in {
			did = change(element, field, value, remove) || did
		}
	}
	return did
}

var placeholder = regexp.MustCompile(`\{(?:(text|null):)?([a-z_0-9]+)\}`)

// values are what stands for the names in a template.
type values map[string]any

// template reads a template and fills it.
func (v values) template(text string) any {
	var parsed any
	if err := json.Unmarshal([]byte(text), &parsed); err != nil {
		panic(fmt.Sprintf("providertest: the template %s is not JSON: %v", text, err))
	}
	filled, _ := v.fill(parsed)
	return filled
}

// fill replaces what stands in braces. It is false for a field that is left out.
func (v values) fill(value any) (any, bool) {
	switch value := value.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, field := range value {
			if filled, ok := v.fill(field); ok {
				out[name] = filled
			}
		}
		return out, true
	case []any:
		out := []any{}
		for _, element := range value {
			if filled, ok := v.fill(element); ok {
				out = append(out, filled)
			}
		}
		return out, true
	case string:
		return v.text(value)
	}
	return value, true
}

func (v values) text(text string) (any, bool) {
	parts := placeholder.FindStringSubmatch(text)
	if parts == nil || parts[0] != text {
		return placeholder.ReplaceAllStringFunc(text, func(braces string) string {
			return fmt.Sprint(cmp.Or(v[placeholder.FindStringSubmatch(braces)[2]], any("")))
		}), true
	}
	value, ok := v[parts[2]]
	switch {
	case ok && parts[1] == "text":
		return fmt.Sprint(value), true
	case !ok && parts[1] == "null":
		return nil, true
	}
	return value, ok
}

// expiry adds all the forms in which an end can be told; none where it never
// comes.
func (v values) expiry(name string, at, now time.Time) {
	if at.IsZero() {
		return
	}
	left := at.Sub(now)
	maps.Copy(v, values{
		name + "_in": int64(left / time.Second), name + "_ms": left.Milliseconds(), name + "_at": at.Unix(), name + "_at_ms": at.UnixMilli(),
		name + "_at_rfc3339": at.UTC().Format(time.RFC3339), name + "_at_http": at.UTC().Format(http.TimeFormat),
		name + "_clock": fmt.Sprintf("%d:%02d:%02d", int(left.Hours())/24, int(left.Hours())%24, int(left.Minutes())%60),
	})
}
