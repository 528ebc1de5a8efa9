package issuer

import (
	"cmp"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/evergrant/evergrant/oauth"
)

const multipartType = "multipart/form-data"

// errNoPage says that a path is not served.
var errNoPage = errors.New("issuer: there is no such page")

// profileFor is the profile in which a request to a path is answered, nil where
// there is no such page for it. It is that of the client that the request names, or
// the server's where that is nil.
func (s *Server) profileFor(e endpoint, path string, client *registered) *Profile {
	profile := s.profile
	switch {
	case e.own == nil:
		return s.standard
	case client != nil:
		profile = client.profile
	}
	if path != e.path && path != e.own(profile) && path != e.own(s.profile) {
		return nil
	}
	return profile
}

// readRequest reads a token, revocation or introspection request, finds the
// client that it names and with it the profile, and refuses what the profile does
// not have. But for errNoPage the request is never nil and has a profile.
func (s *Server) readRequest(w http.ResponseWriter, r *http.Request, e endpoint, path string) (*tokenRequest, error) {
	req := &tokenRequest{address: s.cfg.address(r), query: r.Method == http.MethodGet}
	params, media, bad := s.readParams(w, r)
	req.params = params
	auth, authErr := oauth.ParseClientAuth(r.Header["Authorization"], params)
	body, bodyErr := auth, authErr
	if errors.Is(authErr, oauth.ErrOtherAuth) || errors.Is(authErr, oauth.ErrBasicSyntax) {
		body, bodyErr = oauth.ParseClientAuth(nil, params)
	}
	client, err := s.named(r.Context(), body)
	if e.token && params.Has("token") && errors.Is(bodyErr, oauth.ErrNoClient) {
		client, err = s.tokenClient(r.Context(), params.Get("token"))
	}
	if err != nil {
		req.profile = s.profile
		return req, err
	}
	req.client, req.profile = client, s.profileFor(e, path, client)
	if req.profile == nil {
		return nil, errNoPage
	}
	if req.profile.BasicWins {
		auth, authErr = body, bodyErr
		if auth.ID != "" {
			authErr = nil
		}
	}
	req.credentials = func() (oauth.ClientAuth, error) { return auth, authErr }
	if !req.profile.serves(r.Method, e) {
		w.Header().Set("Allow", req.profile.allow(e))
		return req, refuse(e.method)
	}
	if err := cmp.Or(req.profile.refuseForm(r, media), bad); err != nil {
		return req, err
	}
	if req.profile.QueryScope && r.URL.RawQuery != "" && !params.Has("scope") {
		if scope := r.URL.Query().Get("scope"); scope != "" {
			req.params = params.With("scope", scope)
		}
	}
	return req, nil
}

// serves reports whether a method is served.
func (p *Profile) serves(method string, e endpoint) bool {
	return method == http.MethodPost || method == http.MethodGet && p.QueryRequests && e.query
}

// allow names the methods that are served.
func (p *Profile) allow(e endpoint) string {
	if p.serves(http.MethodGet, e) {
		return "GET, POST"
	}
	return cmp.Or(p.Allow, http.MethodPost)
}

// named is the client that a request says it is from, nil where there is none.
func (s *Server) named(ctx context.Context, auth oauth.ClientAuth) (*registered, error) {
	if auth.ID == "" || len(auth.RawID) > maxIDLength {
		return nil, nil
	}
	client, err := s.clients.get(ctx, auth.ID)
	if errors.Is(err, ErrNotFound) && auth.RawID != auth.ID {
		client, err = s.clients.get(ctx, auth.RawID)
	}
	return client, ignoreNotFound(err)
}

// readParams reads the parameters of a request in any form that some profile
// takes, of the query where it is not a POST, and says in which media type they
// came. It is "" and there are no parameters where it is none of those.
func (s *Server) readParams(w http.ResponseWriter, r *http.Request) (oauth.Params, string, error) {
	if r.Method != http.MethodPost {
		params, err := oauth.ParseParams(r.URL.RawQuery)
		return params, "", err
	}
	media, boundary := oauth.FormType, ""
	if given := r.Header.Get("Content-Type"); given != oauth.FormType {
		parsed, attributes, err := mime.ParseMediaType(given)
		known := parsed == oauth.FormType || parsed == contentTypeJSON || parsed == multipartType
		if err != nil || !known {
			return oauth.Params{}, "", nil
		}
		media, boundary = parsed, attributes["boundary"]
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return oauth.Params{}, media, &oauth.Error{Code: oauth.InvalidRequest, Description: "The body is larger than 64 KiB.", Status: http.StatusRequestEntityTooLarge}
	case err != nil:
		return oauth.Params{}, media, refuseBecause(CauseBadRequest, "The body could not be read to its end.")
	}
	var params oauth.Params
	switch media {
	case contentTypeJSON:
		params, err = oauth.ParseJSONParams(body)
	case multipartType:
		params, err = oauth.ParseMultipart(body, boundary)
	default:
		params, err = oauth.ParseParams(string(body))
	}
	return params, media, err
}

// refuseForm refuses parameters in a form that the profile does not have.
func (p *Profile) refuseForm(r *http.Request, media string) error {
	switch {
	case r.Method != http.MethodPost:
		return nil
	case media == contentTypeJSON && p.JSONRequests, media == multipartType && p.MultipartRequests, media == oauth.FormType:
	case p.JSONRequests && media == multipartType:
		return refuseBecause(CauseContentType, "Send the parameters as JSON (%s) or as a form (%s), not as %s.", contentTypeJSON, oauth.FormType, media)
	case p.JSONRequests:
		return refuseBecause(CauseContentType, "Send the parameters as JSON (%s) or as a form (%s).", contentTypeJSON, oauth.FormType)
	default:
		return refuse(CauseContentType)
	}
	if r.URL.RawQuery != "" && !p.QueryRequests {
		if name := secretInQuery(r.URL.Query()); name != "" {
			return refuseBecause(CauseBadRequest, "Send %s in the body, never in the URL.", name)
		}
	}
	return nil
}

// refuseGrantType refuses a grant type that the client may not use. Where the
// profile has that last, a code or refresh token that is no good is refused
// first, and nothing is done to its grant.
func (s *Server) refuseGrantType(ctx context.Context, c *registered, req *tokenRequest) error {
	forbidden := refuse(CauseGrantTypeForbidden)
	if !c.profile.GrantTypeLast {
		return forbidden
	}
	var err error
	switch req.params.Get("grant_type") {
	case oauth.GrantPassword:
		if !req.params.Has("username") || !req.params.Has("password") {
			return refuse(CauseLoginMissing) // but whether they are right is not told to whom it does not concern
		}
	case oauth.GrantRefreshToken:
		err = s.examineRefreshToken(ctx, c, req.params.Get("refresh_token"))
	case oauth.GrantAuthorizationCode:
		err = s.examineCode(ctx, c, req)
	}
	if err != nil {
		return err
	}
	return forbidden
}

// examineRefreshToken says why a refresh token is no good, and convicts nobody.
func (s *Server) examineRefreshToken(ctx context.Context, c *registered, token string) error {
	if token == "" {
		return refuse(CauseRefreshTokenMissing)
	}
	ref, err := s.presented(c, token)
	if err != nil {
		return err
	}
	row, err := s.cfg.Store.Grant(ctx, ref.grant)
	if err != nil {
		return unknownGrant(err)
	}
	now := s.cfg.now()
	dead, reused := row.deadCause(now), s.reused(c, row, ref, now) && c.policy.Rotation != RotateAdditive
	switch {
	case row.ClientID != c.ID && !(c.profile.ExpiredFirst && dead == CauseRefreshTokenExpired):
		return refuse(CauseOtherClient)
	case reused && row.ended():
		return refuse(CauseRefreshTokenSpent)
	case dead != "":
		return refuse(dead)
	case reused:
		return refuse(CauseRefreshTokenReused)
	}
	return nil
}
