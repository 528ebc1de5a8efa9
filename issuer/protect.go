package issuer

import (
	"context"
	"net/http"
	"strings"

	"github.com/evergrant/evergrant/oauth"
)

// Resource is how the protected resources of a profile speak; see
// [Server.Protect]. An error without a code is told by its status alone.
type Resource struct {
	Realm string // of WWW-Authenticate; the issuer where it is ""
	// Form and Query have a token in a form body, or in the query, as the parameter
	// access_token as well (RFC 6750 sections 2.2 and 2.3).
	Form, Query bool
	// Fields are the attributes of WWW-Authenticate after the realm, in their order:
	// of error, error_description and scope. The scope is the one that is needed.
	Fields []string
	// ScopeAlways tells the scope with Empty, Unknown and Expired as well, and in
	// the body too, and not with Scope alone.
	ScopeAlways bool

	Missing   oauth.Error // no token
	Malformed oauth.Error // an Authorization header without a bearer token; no token where this has no code
	Empty     oauth.Error // a form whose access_token is empty; no token where this has no code
	Several   oauth.Error // more than one token
	Unknown   oauth.Error // not a token, or one that was revoked
	Expired   oauth.Error
	Scope     oauth.Error // not all of the scope that is needed
}

// rfc6750 is how protected resources speak where no profile says otherwise.
var rfc6750 = Resource{
	Fields:  []string{"error", "error_description", "scope"},
	Missing: oauth.Error{Status: http.StatusUnauthorized}, // section 3.1: without a code
	Several: oauth.Error{Code: oauth.InvalidRequest, Description: "Send one access token only."},
	Unknown: oauth.Error{Code: oauth.InvalidToken, Description: "The access token is not one of this server, or was revoked."},
	Expired: oauth.Error{Code: oauth.InvalidToken, Description: "The access token has expired."},
	Scope:   oauth.Error{Code: oauth.InsufficientScope, Description: "The access token does not have the scope that this needs."},
}

func (p *Profile) resource() *Resource {
	if p.Resource == nil {
		return &rfc6750
	}
	return p.Resource
}

// Access is what an access token says to a protected resource.
type Access struct {
	Subject string // the resource owner's user name, or the client's id where it acts for itself
	Client  Client
	Scope   oauth.Scope
}

type accessKey struct{}

// AccessOf is what [Server.Protect] found in the request with this context, and
// false in any other.
func AccessOf(ctx context.Context) (Access, bool) {
	access, ok := ctx.Value(accessKey{}).(Access)
	return access, ok
}

// Protect is a handler for a protected resource in the same process. It lets
// requests through that have an access token of this server with at least the
// scope (RFC 6750), which [AccessOf] tells, and answers others as the profile of
// the token's client has it: the server's where that is not known.
func (s *Server) Protect(scope oauth.Scope, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given, err := s.presentedAccess(r)
		if err != nil {
			s.cfg.log().Error("a protected resource cannot look at access tokens", "path", r.URL.Path, "error", err)
			w.Header().Set("Retry-After", "1")
			s.refuseAccess(w, s.standard, *protocolError(err), nil)
			return
		}
		first := presentedAccess{profile: s.profile}
		if len(given) > 0 {
			first = given[0]
		}
		resource := first.profile.resource()
		var needed oauth.Scope
		if resource.ScopeAlways {
			needed = scope
		}
		switch {
		case len(given) == 0:
			s.refuseAccess(w, first.profile, resource.Missing, nil)
		case len(given) > 1:
			s.refuseAccess(w, first.profile, resource.Several, nil)
		case first.token == "" && first.place == inHeader:
			s.refuseAccess(w, first.profile, resource.Malformed, nil)
		case first.token == "":
			s.refuseAccess(w, first.profile, resource.Empty, needed)
		case first.expired:
			s.refuseAccess(w, first.profile, resource.Expired, needed)
		case !first.active:
			s.refuseAccess(w, first.profile, resource.Unknown, needed)
		case !first.access.Scope.Covers(scope):
			s.refuseAccess(w, first.profile, resource.Scope, scope)
		default:
			if first.place != inHeader {
				s.count(first.access.Client.ID, HabitTokenInRequest)
			}
			if first.place == inQuery {
				w.Header().Set("Cache-Control", "private") // RFC 6750 section 2.3
			}
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), accessKey{}, first.access)))
		}
	})
}

// refuseAccess answers for a protected resource.
func (s *Server) refuseAccess(w http.ResponseWriter, profile *Profile, told oauth.Error, needed oauth.Scope) {
	resource, header, status := profile.resource(), w.Header(), told.HTTPStatus()
	header.Set("Cache-Control", "no-store")
	header.Set("Pragma", "no-cache")
	if given := profile.Header.Get("Cache-Control"); given != "" {
		header.Set("Cache-Control", given)
	}
	if status < http.StatusInternalServerError {
		header.Set("WWW-Authenticate", resource.challenge(s.cfg.Issuer, told, needed))
	}
	if told.Code == "" {
		w.WriteHeader(status)
		return
	}
	body := jsonObject{escape: profile.EscapeJSON}
	body.text("error", told.Code)
	if told.Description != "" {
		body.text("error_description", told.Description)
	}
	if resource.ScopeAlways && len(needed) > 0 {
		body.text("scope", needed.String())
	}
	s.writeJSON(w, status, body.close())
}

// challenge is a WWW-Authenticate header (RFC 6750 section 3).
func (r *Resource) challenge(issuer string, told oauth.Error, needed oauth.Scope) string {
	realm := r.Realm
	if realm == "" {
		realm = issuer
	}
	header := "Bearer realm=" + quoted(realm)
	values := map[string]string{"error": told.Code, "error_description": told.Description, "scope": needed.String()}
	for _, name := range r.Fields {
		if values[name] != "" {
			header += ", " + name + "=" + quoted(values[name])
		}
	}
	return header
}

// quoted is a quoted-string (RFC 9110 section 5.6.4).
func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
