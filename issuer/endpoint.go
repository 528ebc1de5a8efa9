package issuer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/evergrant/evergrant/oauth"
)

// tokenRequest is a request to one of the endpoints that a client calls
// directly.
type tokenRequest struct {
	params oauth.Params
	// credentials are the client's, nil until the request was read, and a closure
	// since fmt would show them.
	credentials func() (oauth.ClientAuth, error)
	profile     *Profile    // in which it is answered
	client      *registered // that the request names, not authenticated; nil where it names none that is known
	query       bool        // its parameters stand in the URL
	address     string
	actor       string // "client:ID" once the client is authenticated, before that as claimed
}

// endpoint is a page that clients call directly.
type endpoint struct {
	serve  func(context.Context, *tokenRequest) (any, error)
	path   string                // of the standard
	own    func(*Profile) string // the path that a profile has for it; nil where none has, and all clients speak the standard
	query  bool                  // GET is served where the profile has it
	token  bool                  // a request that names no client has the profile of its token's
	method Cause                 // of a request by another method
}

// route serves an endpoint at its path and at those of the profiles.
func (s *Server) route(e endpoint) {
	paths := map[string]bool{e.path: true}
	if e.own != nil {
		for _, profile := range s.cfg.Profiles {
			paths[cmp.Or(e.own(profile), e.path)] = true
		}
	}
	for path := range paths {
		s.mux.HandleFunc(path, s.tokenEndpoint(e, path))
	}
}

// tokenEndpoint wraps what an endpoint does with a request into what they all
// share: one form of requests, no caching, and errors as RFC 6749 section 5.2
// says, or the profile. A nil result is an empty answer.
func (s *Server) tokenEndpoint(e endpoint, path string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Cache-Control", "no-store")
		header.Set("Pragma", "no-cache")
		header.Set("Access-Control-Allow-Origin", "*") // for clients in browsers; no cookie means anything here
		if r.Method == http.MethodOptions {
			s.serveOptions(w, e, path)
			return
		}
		req, err := s.readRequest(w, r, e, path)
		if errors.Is(err, errNoPage) {
			http.NotFound(w, r)
			return
		}
		maps.Copy(header, req.profile.Header)
		var result any
		if err == nil {
			result, err = e.serve(r.Context(), req)
		}
		if err != nil {
			s.fail(w, r, req, err)
			return
		}
		s.writeJSON(w, http.StatusOK, result)
	}
}

// serveOptions answers browsers that ask before they send a request (CORS), which
// names no client then.
func (s *Server) serveOptions(w http.ResponseWriter, e endpoint, path string) {
	header, status, profile := w.Header(), http.StatusNoContent, s.profileFor(e, path, nil)
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Profiles)) {
		if profile == nil && e.own(s.cfg.Profiles[name]) == path {
			profile = s.cfg.Profiles[name]
		}
	}
	header.Set("Access-Control-Allow-Methods", profile.allow(e))
	header.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
	if profile.Allow != "" {
		header.Set("Allow", profile.Allow)
		status = http.StatusOK
	}
	w.WriteHeader(status)
}

// secretInQuery names a parameter of the query that belongs into the body
// (RFC 6749 sections 2.3.1 and 3.2), or "".
func secretInQuery(query url.Values) string {
	for _, name := range []string{"client_secret", "refresh_token", "code", "password", "token", "grant_type", "client_id", "code_verifier", "username"} {
		if query.Has(name) {
			return name
		}
	}
	return ""
}

// writeJSON answers with a JSON document, or with nothing for nil.
func (s *Server) writeJSON(w http.ResponseWriter, status int, document any) {
	if document == nil {
		w.WriteHeader(status)
		return
	}
	body, encoded := document.(encodedJSON)
	if !encoded {
		var err error
		if body, err = json.Marshal(document); err != nil {
			s.cfg.log().Error("an answer could not be encoded", "error", err)
			status, body = http.StatusInternalServerError, encodedJSON(`{"error":"server_error"}`)
		}
	}
	w.Header().Set("Content-Type", contentTypeJSON)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body) // a client that has gone asks again
}

// fail answers with an error and logs what the client is not told.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, req *tokenRequest, err error) {
	told := req.profile.told(err)
	told.Description = strings.ReplaceAll(told.Description, askedGrantType, req.params.Get("grant_type"))
	status := told.HTTPStatus()
	var refusal *Refusal
	switch {
	case status == http.StatusUnauthorized && told.Code == oauth.InvalidClient:
		w.Header().Set("WWW-Authenticate", `Basic realm="`+s.cfg.Issuer+`", charset="UTF-8"`)
	case errors.As(err, &refusal) && refusal.RetryAfter > 0:
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(refusal.RetryAfter.Seconds()))))
	case status == http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	}
	level := slog.LevelDebug
	if status >= 500 {
		level = slog.LevelError
	}
	s.cfg.log().Log(r.Context(), level, "request refused", "path", r.URL.Path, "status", status, "code", told.Code, "error", err)
	s.metrics.refused(r.URL.Path, told.Code)
	s.writeJSON(w, status, req.profile.errorBody(told))
}

// token is the token endpoint (RFC 6749 section 3.2).
func (s *Server) token(ctx context.Context, req *tokenRequest) (any, error) {
	started := s.cfg.clock()
	grantType := req.params.Get("grant_type")
	issue := issues(grantType)
	switch profile := req.profile; {
	case grantType == "", profile.GrantTypes != nil && !profile.GrantTypes.MatchString(grantType):
		return nil, refuse(CauseGrantTypeMissing)
	case issue == nil && profile.GrantTypeFirst:
		return nil, refuse(CauseGrantTypeUnknown)
	}
	client, err := s.authenticateClient(ctx, req)
	if err != nil {
		return nil, err
	}
	if req.query {
		s.count(client.ID, HabitQueryRequest)
	}
	allowed := client.Allows(grantType)
	switch {
	case issue == nil:
		return nil, refuse(CauseGrantTypeUnknown)
	case !allowed && grantType == oauth.GrantClientCredentials && client.Public():
		return nil, refuse(CauseClientPublic)
	case !allowed:
		return nil, s.refuseGrantType(ctx, client, req)
	}
	if err := s.canSign(ctx, client.policy); err != nil {
		return nil, err
	}
	response, err := issue(s, ctx, client, req)
	if err != nil {
		return nil, err
	}
	s.metrics.issued(grantType, s.cfg.clock().Sub(started))
	return s.tokenBody(ctx, client, response), nil
}

// issues is what a grant type does, nil for one that is not known.
func issues(grantType string) func(*Server, context.Context, *registered, *tokenRequest) (oauth.TokenResponse, error) {
	switch grantType {
	case oauth.GrantRefreshToken:
		return (*Server).refresh
	case oauth.GrantAuthorizationCode:
		return (*Server).redeem
	case oauth.GrantPassword:
		return (*Server).password
	case oauth.GrantClientCredentials:
		return (*Server).clientCredentials
	}
	return nil
}

// canSign makes sure, before anything is written, that an access token can be
// signed. A replica may not have loaded a key yet that another one has made for
// an algorithm that was new to both.
func (s *Server) canSign(ctx context.Context, policy Policy) error {
	if policy.Format == FormatOpaque {
		return nil
	}
	if _, err := s.cfg.Keys.Current().Signer(policy.SigningAlg); err == nil {
		return nil
	}
	if err := s.cfg.Keys.Reload(ctx); err != nil {
		return err
	}
	if _, err := s.cfg.Keys.Current().Signer(policy.SigningAlg); err != nil {
		return fmt.Errorf("%w: no key for %s yet: %w", ErrUnavailable, policy.SigningAlg, err)
	}
	return nil
}

// askedScope is the scope parameter, nil where it is omitted.
func (c *registered) askedScope(params oauth.Params) (oauth.Scope, error) {
	if c.profile.IgnoreScope {
		return nil, nil
	}
	scope, err := oauth.ParseScope(params.Get("scope"))
	if err != nil {
		return nil, refuse(CauseScopeSyntax)
	}
	return scope, nil
}
