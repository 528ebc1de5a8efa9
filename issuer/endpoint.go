package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"mime"
	"net/http"
	"net/url"
	"strconv"

	"github.com/evergrant/evergrant/oauth"
)

// tokenRequest is a request to one of the endpoints that a client calls
// directly.
type tokenRequest struct {
	params        oauth.Params
	authorization []string // values of the Authorization header
	address       string
	actor         string // "client:ID" once the client is authenticated, before that as claimed
}

// tokenEndpoint wraps what an endpoint does with a request into what they all
// share: POST only, form bodies only, no caching, and errors as RFC 6749
// section 5.2 says. A nil result is an empty answer.
func (s *Server) tokenEndpoint(serve func(context.Context, *tokenRequest) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Cache-Control", "no-store")
		header.Set("Pragma", "no-cache")
		header.Set("Access-Control-Allow-Origin", "*") // for clients in browsers; no cookie means anything here
		if r.Method == http.MethodOptions {
			header.Set("Access-Control-Allow-Methods", http.MethodPost)
			header.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		if r.Method != http.MethodPost {
			header.Set("Allow", http.MethodPost)
			s.fail(w, r, &oauth.Error{Code: oauth.InvalidRequest, Description: "Use POST.", Status: http.StatusMethodNotAllowed})
			return
		}
		req, err := s.readRequest(w, r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		result, err := serve(r.Context(), req)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		s.writeJSON(w, http.StatusOK, result)
	}
}

// readRequest reads the form body of a token, revocation or introspection
// request.
func (s *Server) readRequest(w http.ResponseWriter, r *http.Request) (*tokenRequest, error) {
	if given := r.Header.Get("Content-Type"); given != oauth.FormType {
		if media, _, err := mime.ParseMediaType(given); err != nil || media != oauth.FormType {
			return nil, refuseBecause(CauseBadRequest, "The Content-Type must be %s.", oauth.FormType)
		}
	}
	if r.URL.RawQuery != "" {
		if name := secretInQuery(r.URL.Query()); name != "" {
			return nil, refuseBecause(CauseBadRequest, "Send %s in the body, never in the URL.", name)
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &oauth.Error{Code: oauth.InvalidRequest, Description: "The body is larger than 64 KiB.", Status: http.StatusRequestEntityTooLarge}
	case err != nil:
		return nil, refuseBecause(CauseBadRequest, "The body could not be read to its end.")
	}
	params, err := oauth.ParseParams(string(body))
	if err != nil {
		return nil, err
	}
	return &tokenRequest{params: params, authorization: r.Header["Authorization"], address: s.cfg.address(r)}, nil
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
	body, err := json.Marshal(document)
	if err != nil {
		s.cfg.log().Error("an answer could not be encoded", "error", err)
		status, body = http.StatusInternalServerError, []byte(`{"error":"server_error"}`)
	}
	w.Header().Set("Content-Type", contentTypeJSON)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body) // a client that has gone asks again
}

// fail answers with an error and logs what the client is not told.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	told := protocolError(err)
	status := told.HTTPStatus()
	var refusal *Refusal
	switch {
	case status == http.StatusUnauthorized:
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
	s.writeJSON(w, status, told)
}

// token is the token endpoint (RFC 6749 section 3.2).
func (s *Server) token(ctx context.Context, req *tokenRequest) (any, error) {
	started := s.cfg.clock()
	grantType := req.params.Get("grant_type")
	if grantType == "" {
		return nil, refuseBecause(CauseBadRequest, "The parameter grant_type is missing.")
	}
	client, err := s.authenticateClient(ctx, req)
	if err != nil {
		return nil, err
	}
	var issue func(context.Context, *registered, *tokenRequest) (oauth.TokenResponse, error)
	switch grantType {
	case oauth.GrantRefreshToken:
		issue = s.refresh
	case oauth.GrantAuthorizationCode:
		issue = s.redeem
	case oauth.GrantPassword:
		issue = s.password
	case oauth.GrantClientCredentials:
		issue = s.clientCredentials
	default:
		return nil, refuse(CauseGrantTypeUnknown)
	}
	if !client.Allows(grantType) {
		return nil, refuse(CauseGrantTypeForbidden)
	}
	if err := s.canSign(ctx, client.policy); err != nil {
		return nil, err
	}
	response, err := issue(ctx, client, req)
	if err != nil {
		return nil, err
	}
	s.metrics.issued(grantType, s.cfg.clock().Sub(started))
	return response, nil
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
func askedScope(params oauth.Params) (oauth.Scope, error) {
	scope, err := oauth.ParseScope(params.Get("scope"))
	if err != nil {
		return nil, refuse(CauseScopeSyntax)
	}
	return scope, nil
}
