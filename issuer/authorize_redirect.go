package issuer

import (
	"cmp"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/oauth"
)

// redirectURI is where the answer to a request goes: the redirect_uri that it
// gives, if that is registered, or the one that alone is.
func (s *Server) redirectURI(client *registered, given string) (string, error) {
	matches := func(match func(registered, given string) bool) bool {
		return slices.ContainsFunc(client.RedirectURIs, func(uri string) bool { return match(uri, given) })
	}
	_, fragment, _ := strings.Cut(given, "#")
	switch {
	case given == "" && len(client.RedirectURIs) == 0:
		return "", refuse(CauseAuthorizeRedirectNone)
	case given == "" && len(client.RedirectURIs) > 1:
		return "", refuse(CauseAuthorizeRedirectAmbiguous)
	case given == "" && client.profile.RequireRedirect:
		return "", refuse(CauseAuthorizeRedirectMissing)
	case given == "":
		return client.RedirectURIs[0], nil
	case fragment != "":
		return "", refuse(CauseAuthorizeRedirectFragment)
	case matches(oauth.MatchRedirectURI):
		return given, nil
	case client.policy.Redirects == RedirectPrefix && matches(oauth.MatchRedirectPrefix):
		s.count(client.ID, HabitRedirectPrefix)
		return given, nil
	}
	return "", refuse(CauseAuthorizeRedirect)
}

// parameter is one that a redirect carries.
type parameter struct{ name, value string }

// redirectBack is where the browser goes at the end (RFC 6749 sections 4.1.2 and
// 4.2.2), with the issuer beside the answer (RFC 9207) where the profile has no
// other order.
type redirectBack struct {
	uri, state, issuer string
	profile            *Profile
	implicit           bool // response_type=token
}

// succeed sends the answer, a code or an access token, where the profile has the
// code.
func (b redirectBack) succeed(w http.ResponseWriter, answer []parameter) {
	fields := b.profile.RedirectFields
	if fields == nil {
		fields = []string{"code", "iss", "state"}
	}
	b.send(w, b.ordered(fields, map[string][]parameter{"code": answer}), b.implicit)
}

// fail sends an error.
func (b redirectBack) fail(w http.ResponseWriter, err error) {
	told, fields := b.profile.told(err), b.profile.ErrorFields
	if fields == nil {
		fields = []string{"error", "error_description", "error_uri", "iss", "state"}
	}
	refusal, _ := errors.AsType[*Refusal](err)
	fragment := b.implicit && refusal != nil && slices.Contains(b.profile.FragmentErrors, refusal.Cause)
	b.send(w, b.ordered(fields, map[string][]parameter{
		"error":             {{"error", told.Code}},
		"error_description": {{"error_description", told.Description}},
		"error_uri":         {{"error_uri", told.URI}},
	}), fragment)
}

// ordered puts the parts of an answer in the order of fields.
func (b redirectBack) ordered(fields []string, parts map[string][]parameter) []parameter {
	parts["state"] = []parameter{{"state", b.state}}
	parts["iss"] = []parameter{{"iss", b.issuer}}
	var all []parameter
	for _, name := range fields {
		all = append(all, parts[name]...)
	}
	return all
}

// send redirects with what has a value, in the query or in the fragment.
func (b redirectBack) send(w http.ResponseWriter, answer []parameter, fragment bool) {
	u, err := url.Parse(b.uri)
	if err != nil { // it was registered, or begins as one that was
		http.Error(w, "bad redirect URI", http.StatusInternalServerError)
		return
	}
	var encoded []string
	for _, p := range answer {
		if p.value != "" {
			encoded = append(encoded, url.QueryEscape(p.name)+"="+url.QueryEscape(p.value))
		}
	}
	text := strings.Join(encoded, "&")
	if !fragment {
		if u.RawQuery != "" { // the registered URI's own, kept as it is (RFC 6749 section 3.1.2)
			u.RawQuery += "&"
		}
		u.RawQuery += text
	}
	location := u.String()
	if fragment {
		location += "#" + text
	}
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Location", location)
	w.WriteHeader(cmp.Or(b.profile.RedirectStatus, http.StatusSeeOther)) // never 307, which would post the password on (RFC 9700 section 4.12)
}

// showRefusal shows the resource owner an error that must not go to the client.
func (s *Server) showRefusal(w http.ResponseWriter, r *http.Request, profile *Profile, err error) {
	told := profile.told(err)
	if profile.ErrorsAsJSON && told.HTTPStatus() < http.StatusInternalServerError {
		w.Header().Set("Pragma", "no-cache")
		maps.Copy(w.Header(), profile.Header)
		s.fail(w, r, &tokenRequest{profile: profile}, err)
		return
	}
	if told.HTTPStatus() >= 500 {
		s.cfg.log().Error("authorization page failed", "error", err)
	}
	s.metrics.refused(r.URL.Path, told.Code)
	s.showError(w, r, told.HTTPStatus(), told.Description)
}

func (s *Server) showError(w http.ResponseWriter, r *http.Request, status int, message string) {
	if s.cfg.ErrorPage != nil {
		s.cfg.ErrorPage(w, r, status, message)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, message+"\n")
}
