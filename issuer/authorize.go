package issuer

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"

	"github.com/evergrant/evergrant/oauth"
)

// serveAuthorize is the authorization endpoint (RFC 6749 section 3.1). Until
// client and redirect URI are known to belong together, errors are shown to the
// resource owner and never redirected (section 4.1.2.1).
func (s *Server) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	if s.cfg.AskOwner == nil {
		s.showError(w, r, http.StatusNotFound, "This server has no authorization page.")
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	switch r.Method {
	case http.MethodGet: // not HEAD, since answering can create a grant
	case http.MethodPost:
		if s.redirectPostedRequest(w, r) {
			return
		}
	default:
		w.Header().Set("Allow", "GET, POST")
		s.showError(w, r, http.StatusMethodNotAllowed, "Use GET.")
		return
	}
	params, err := oauth.ParseParams(r.URL.RawQuery)
	if err != nil {
		s.showError(w, r, http.StatusBadRequest, err.Error())
		return
	}
	client, redirectURI, err := s.authorizationClient(r, params)
	if err != nil {
		s.showRefusal(w, r, err)
		return
	}
	back := redirectBack{redirectURI, params.Get("state"), s.cfg.Issuer}
	scope, err := s.checkAuthorization(client, params)
	if err != nil {
		back.fail(w, r, err)
		return
	}
	ask := &Authorization{
		Client: client.Client, Scope: scope, RedirectURI: redirectURI,
		Descriptions: s.describe(scope), server: s, address: s.cfg.address(r),
	}
	answer, decided := s.cfg.AskOwner(w, r, ask)
	if !decided {
		return
	}
	if err := s.grantCode(w, r, client, ask, answer, back, params.Get("code_challenge")); err != nil {
		if protocolError(err).HTTPStatus() >= http.StatusInternalServerError {
			s.cfg.log().Error("authorization failed", "client", client.ID, "error", err)
		}
		back.fail(w, r, err)
	}
}

// redirectPostedRequest turns an authorization request in a form body (RFC 6749
// section 3.1) into a GET, and reports whether it did. A form with an action is
// an answer of the resource owner to AskOwner's pages.
func (s *Server) redirectPostedRequest(w http.ResponseWriter, r *http.Request) bool {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		s.showError(w, r, http.StatusBadRequest, "The form could not be read.")
		return true
	}
	if r.PostForm.Has("action") {
		return false
	}
	http.Redirect(w, r, s.cfg.Issuer+AuthorizePath+"?"+r.PostForm.Encode(), http.StatusSeeOther)
	return true
}

// authorizationClient finds the client and the redirect URI of a request.
func (s *Server) authorizationClient(r *http.Request, params oauth.Params) (*registered, string, error) {
	id := params.Get("client_id")
	if id == "" {
		return nil, "", refuseBecause(CauseBadRequest, "The parameter client_id is missing.")
	}
	client, err := s.clients.get(r.Context(), id)
	if errors.Is(err, ErrNotFound) {
		return nil, "", refuseBecause(CauseBadRequest, "The client is not registered here.")
	}
	if err != nil {
		return nil, "", err
	}
	given := params.Get("redirect_uri")
	registeredURIs := client.RedirectURIs
	switch {
	case given == "" && len(registeredURIs) == 1:
		return client, registeredURIs[0], nil
	case given == "":
		return nil, "", refuseBecause(CauseBadRequest, "The parameter redirect_uri is missing.")
	case slices.ContainsFunc(registeredURIs, func(uri string) bool { return oauth.MatchRedirectURI(uri, given) }):
		return client, given, nil
	}
	return nil, "", refuseBecause(CauseBadRequest, "The redirect_uri is not registered for this client. It must be the same to the letter.")
}

// checkAuthorization checks the rest of the request, whose errors go back to the
// client (RFC 6749 section 4.1.2.1, RFC 7636 section 4.4.1).
func (s *Server) checkAuthorization(client *registered, params oauth.Params) (oauth.Scope, error) {
	invalid := func(description string) error {
		return &oauth.Error{Code: oauth.InvalidRequest, Description: description}
	}
	switch responseType := params.Get("response_type"); {
	case responseType == "":
		return nil, invalid("The parameter response_type is missing.")
	case responseType != "code":
		return nil, &oauth.Error{Code: oauth.UnsupportedResponseType, Description: "Only response_type=code is supported."}
	case !client.Allows(oauth.GrantAuthorizationCode):
		return nil, &oauth.Error{Code: oauth.UnauthorizedClient, Description: "The client is not registered for the authorization_code grant."}
	case params.Get("response_mode") != "" && params.Get("response_mode") != "query":
		return nil, invalid("Only response_mode=query is supported.")
	case params.Get("code_challenge") == "":
		return nil, invalid("The parameter code_challenge is missing (PKCE, RFC 7636).")
	case params.Get("code_challenge_method") != oauth.S256:
		return nil, invalid("The code_challenge_method must be S256; plain is not accepted.")
	case !oauth.ValidChallenge(params.Get("code_challenge")):
		return nil, invalid("The code_challenge is not the base64url form of a SHA-256 digest.")
	}
	return s.requestedScope(client.Client, params)
}

// grantCode creates the grant that the owner decided on, durably, and sends the
// code to the client. A crash in between leaves a grant that nobody can redeem
// and that is purged when its code has expired.
func (s *Server) grantCode(w http.ResponseWriter, r *http.Request, client *registered, ask *Authorization, answer Answer, back redirectBack, challenge string) error {
	if answer.Denied {
		return &oauth.Error{Code: oauth.AccessDenied, Description: "The resource owner refused."}
	}
	if answer.Subject == "" || !ask.Scope.Covers(answer.Scope) {
		return fmt.Errorf("AskOwner answered without a subject or with more scope than was asked for: %w",
			&oauth.Error{Code: oauth.ServerError, Description: "The server failed. Its log says why."})
	}
	key, now := s.cfg.Keys.Current(), s.cfg.now()
	grant := Grant{
		ID: NewGrantID(), ClientID: client.ID, Subject: answer.Subject, Scope: answer.Scope, KeyID: key.ID,
		CreatedAt: now, RotatedAt: now,
		EndsAt: client.policy.GrantLifetime.After(now),
	}
	grant.ExpiresAt = capped(client.policy.CodeLifetime.After(now), grant.EndsAt)
	event := Event{
		At: now, Type: EventGrantCreated, Grant: grant.ID, ClientID: client.ID, Subject: answer.Subject,
		Actor: "user:" + answer.Subject, Address: ask.address, Detail: "authorization code grant, scope " + answer.Scope.String(),
	}
	if err := s.cfg.Store.CreateGrant(r.Context(), grant, event); err != nil {
		return err
	}
	code := authorizationCode(key, grant.ID, codeBinding{client.ID, ask.RedirectURI, challenge})
	back.send(w, r, url.Values{"code": {code}})
	return nil
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

// redirectBack is where the browser goes at the end (RFC 6749 section 4.1.2),
// with the issuer beside the answer (RFC 9207).
type redirectBack struct{ uri, state, issuer string }

func (b redirectBack) send(w http.ResponseWriter, r *http.Request, answer url.Values) {
	u, err := url.Parse(b.uri)
	if err != nil { // it was registered, or is one with another port
		http.Error(w, "bad redirect URI", http.StatusInternalServerError)
		return
	}
	if b.state != "" {
		answer.Set("state", b.state)
	}
	answer.Set("iss", b.issuer)
	if u.RawQuery != "" { // the registered URI's own, kept as it is (RFC 6749 section 3.1.2)
		u.RawQuery += "&"
	}
	u.RawQuery += answer.Encode()
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, u.String(), http.StatusSeeOther) // never 307, which would post the password on (RFC 9700 section 4.12)
}

func (b redirectBack) fail(w http.ResponseWriter, r *http.Request, err error) {
	told := protocolError(err)
	answer := url.Values{"error": {told.Code}}
	if told.Description != "" {
		answer.Set("error_description", told.Description)
	}
	b.send(w, r, answer)
}

// showRefusal shows the resource owner an error that must not go to the client.
func (s *Server) showRefusal(w http.ResponseWriter, r *http.Request, err error) {
	told := protocolError(err)
	if told.HTTPStatus() >= 500 {
		s.cfg.log().Error("authorization page failed", "error", err)
	}
	s.metrics.refused(AuthorizePath, told.Code)
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
