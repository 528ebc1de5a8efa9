package issuer

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"

	"github.com/evergrant/evergrant/oauth"
)

// Response types of authorization requests (RFC 6749 sections 4.1.1 and 4.2.1).
const (
	responseCode  = "code"
	responseToken = "token"
)

// routeAuthorize serves the authorization endpoint at its path and at those of
// the profiles.
func (s *Server) routeAuthorize() {
	paths := map[string]bool{AuthorizePath: true}
	for _, profile := range s.cfg.Profiles {
		paths[cmp.Or(profile.AuthorizePath, AuthorizePath)] = true
	}
	for path := range paths {
		s.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { s.serveAuthorize(w, r, path) })
	}
}

// serveAuthorize is the authorization endpoint (RFC 6749 section 3.1). Until
// client and redirect URI are known to belong together, errors are shown to the
// resource owner and never redirected (section 4.1.2.1).
func (s *Server) serveAuthorize(w http.ResponseWriter, r *http.Request, path string) {
	if s.cfg.AskOwner == nil {
		s.showError(w, r, http.StatusNotFound, "This server has no authorization page.")
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodPost && s.redirectPostedRequest(w, r, path) {
		return
	}
	var client *registered
	profile := s.profile
	params, err := oauth.ParseParams(r.URL.RawQuery)
	if err == nil {
		client, err = s.authorizationClient(r, params)
	}
	if client != nil {
		profile = client.profile
	}
	served := path == AuthorizePath || path == s.profile.AuthorizePath || path == profile.AuthorizePath
	known := err == nil || protocolError(err).HTTPStatus() < http.StatusInternalServerError // whether the client has the path
	switch {
	case !served && known:
		http.NotFound(w, r)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodPost: // not HEAD, since answering can create a grant
		w.Header().Set("Allow", "GET, POST")
		s.showError(w, r, http.StatusMethodNotAllowed, "Use GET.")
		return
	case err != nil:
		s.showRefusal(w, r, profile, err)
		return
	}
	redirectURI, err := s.redirectURI(client, params.Get("redirect_uri"))
	if err != nil {
		s.showRefusal(w, r, profile, err)
		return
	}
	s.authorize(w, r, client, params, redirectBack{
		uri: redirectURI, state: params.Get("state"), issuer: s.cfg.Issuer,
		profile: profile, implicit: params.Get("response_type") == responseToken,
	})
}

// authorize asks the resource owner, and sends the browser back to the client.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request, client *registered, params oauth.Params, back redirectBack) {
	scope, err := s.checkAuthorization(client, params)
	if err != nil {
		back.fail(w, err)
		return
	}
	ask := &Authorization{
		Client: client.Client, Scope: scope, RedirectURI: back.uri,
		Descriptions: s.describe(scope), server: s, address: s.cfg.address(r),
	}
	answer, decided := s.cfg.AskOwner(w, r, ask)
	if !decided {
		return
	}
	var sent []parameter
	switch {
	case answer.Denied:
		err = refuse(CauseOwnerDenied)
	case answer.Subject == "" || !ask.Scope.Covers(answer.Scope):
		err = fmt.Errorf("AskOwner answered without a subject or with more scope than was asked for: %w",
			&oauth.Error{Code: oauth.ServerError, Description: "The server failed. Its log says why."})
	case back.implicit:
		sent, err = s.grantToken(r.Context(), client, ask, answer)
	default:
		sent, err = s.grantCode(r.Context(), client, ask, answer, params)
	}
	if err != nil {
		if protocolError(err).HTTPStatus() >= http.StatusInternalServerError {
			s.cfg.log().Error("authorization failed", "client", client.ID, "error", err)
		}
		back.fail(w, err)
		return
	}
	back.succeed(w, sent)
}

// redirectPostedRequest turns an authorization request in a form body (RFC 6749
// section 3.1) into a GET, and reports whether it did. A form with an action is
// an answer of the resource owner to AskOwner's pages.
func (s *Server) redirectPostedRequest(w http.ResponseWriter, r *http.Request, path string) bool {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		s.showError(w, r, http.StatusBadRequest, "The form could not be read.")
		return true
	}
	if r.PostForm.Has("action") {
		return false
	}
	http.Redirect(w, r, s.cfg.Issuer+path+"?"+r.PostForm.Encode(), http.StatusSeeOther)
	return true
}

// authorizationClient finds the client of a request.
func (s *Server) authorizationClient(r *http.Request, params oauth.Params) (*registered, error) {
	id := params.Get("client_id")
	if id == "" {
		return nil, refuse(CauseAuthorizeClient)
	}
	client, err := s.clients.get(r.Context(), id)
	if errors.Is(err, ErrNotFound) {
		return nil, refuse(CauseAuthorizeUnknownClient)
	}
	return client, err
}

// checkAuthorization checks the rest of the request, whose errors go back to the
// client (RFC 6749 sections 4.1.2.1 and 4.2.2.1), and returns the scope that it
// asks for.
func (s *Server) checkAuthorization(client *registered, params oauth.Params) (oauth.Scope, error) {
	if err := client.checkResponseType(params); err != nil {
		return nil, err
	}
	scope, err := s.requestedScope(client, "", params)
	if refusal, ok := errors.AsType[*Refusal](err); ok && refusal.Cause == CauseScopeForbidden {
		err = refuse(CauseScopeUnknown) // nobody tells the two apart here
	}
	switch {
	case err != nil:
		return nil, err
	case client.profile.RequireState && !params.Has("state"):
		return nil, refuse(CauseStateMissing)
	case params.Get("response_type") == responseToken:
		return scope, nil
	}
	return scope, client.checkChallenge(params)
}

// checkResponseType refuses what the client cannot be sent, or not in this way.
func (c *registered) checkResponseType(params oauth.Params) error {
	grantType, mode := oauth.GrantAuthorizationCode, "query"
	switch params.Get("response_type") {
	case "":
		return refuse(CauseResponseTypeMissing)
	case responseCode:
	case responseToken:
		if !c.profile.Implicit {
			return refuse(CauseResponseTypeImplicit)
		}
		grantType, mode = oauth.GrantImplicit, "fragment"
	default:
		return refuse(CauseResponseTypeUnknown)
	}
	switch asked := params.Get("response_mode"); {
	case !c.Allows(grantType):
		return refuse(CauseResponseTypeForbidden)
	case asked != "" && asked != mode:
		return refuseBecause(CauseBadRequest, "Only response_mode=%s is supported.", mode)
	}
	return nil
}

// checkChallenge holds the client to PKCE (RFC 7636 section 4.4.1): as far as its
// policy asks for a challenge, and to any that it sends.
func (c *registered) checkChallenge(params oauth.Params) error {
	switch challenge := params.Get("code_challenge"); {
	case challenge == "" && c.needsChallenge():
		return refuse(CauseChallengeMissing)
	case challenge == "":
		return nil
	case params.Get("code_challenge_method") != oauth.S256:
		return refuse(CauseChallengeMethod)
	case !oauth.ValidChallenge(challenge):
		return refuseBecause(CauseBadRequest, "The code_challenge is not the base64url form of a SHA-256 digest.")
	}
	return nil
}

// needsChallenge reports whether the client must use PKCE.
func (c *registered) needsChallenge() bool {
	return c.policy.PKCE == PKCEAlways || c.policy.PKCE == PKCEPublicClients && c.Public()
}

func (s *Server) describe(scope oauth.Scope) map[string]string {
	words := map[string]string{}
	for _, token := range scope {
		words[token] = token
		if known := cmp.Or(s.cfg.Scopes[token], s.cfg.Reserved[token]); known != "" {
			words[token] = known
		}
	}
	return words
}
