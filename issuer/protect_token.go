package issuer

import (
	"bytes"
	"context"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// place is where an access token stands in a request (RFC 6750 section 2).
type place int

const (
	inHeader place = iota
	inForm
	inQuery
)

// presentedAccess is an access token of a request, and what it is.
type presentedAccess struct {
	place   place
	token   string // "" where there is none in the place for it
	active  bool
	expired bool
	access  Access   // of an active one
	profile *Profile // of the token's client, or the server's
}

// presentedAccess finds the access tokens of a request that count. The error is
// the store's.
func (s *Server) presentedAccess(r *http.Request) ([]presentedAccess, error) {
	found := headerTokens(r)
	if s.readsForms() {
		found = append(found, formTokens(r)...)
	}
	if token := r.URL.Query().Get("access_token"); token != "" {
		found = append(found, presentedAccess{place: inQuery, token: token})
	}
	for i := range found {
		if err := s.inspectPresented(r.Context(), &found[i]); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(found, func(p presentedAccess) bool { return !p.counts() }), nil
}

// readsForms reports whether some profile has tokens in form bodies.
func (s *Server) readsForms() bool {
	for _, profile := range s.cfg.Profiles {
		if profile.resource().Form {
			return true
		}
	}
	return false
}

// counts reports whether a token stands where its profile reads it, or the
// profile has an error for that there is none.
func (p presentedAccess) counts() bool {
	resource := p.profile.resource()
	switch {
	case p.place == inQuery:
		return resource.Query
	case p.place == inForm:
		return resource.Form && (p.token != "" || resource.Empty.Code != "")
	}
	return p.token != "" || resource.Malformed.Code != ""
}

// headerTokens are those of Authorization headers, "" for one that is no bearer
// token.
func headerTokens(r *http.Request) []presentedAccess {
	var found []presentedAccess
	for _, header := range r.Header["Authorization"] {
		scheme, token, _ := strings.Cut(header, " ")
		if token = strings.TrimSpace(token); !strings.EqualFold(scheme, oauth.Bearer) {
			token = ""
		}
		found = append(found, presentedAccess{place: inHeader, token: token})
	}
	return found
}

// formTokens are those of a form body, of which the next handler misses nothing.
func formTokens(r *http.Request) []presentedAccess {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != oauth.FormType || r.Method == http.MethodGet || r.Body == nil {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(r.Body, maxBody)) // an error comes again to the next handler
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(body), r.Body), r.Body}
	values, err := url.ParseQuery(string(body))
	if err != nil || len(body) == maxBody || !values.Has("access_token") {
		return nil
	}
	var found []presentedAccess
	for _, token := range values["access_token"] {
		found = append(found, presentedAccess{place: inForm, token: token})
	}
	return found
}

// inspectPresented says what a token is, and of one that is not good whether it
// was.
func (s *Server) inspectPresented(ctx context.Context, p *presentedAccess) error {
	p.profile = s.profile
	if p.token == "" {
		return nil
	}
	seen, client, err := s.Inspect(ctx, p.token)
	if err != nil {
		return err
	}
	if seen.Active {
		scope, err := oauth.ParseScope(seen.Scope)
		p.active, p.access = true, Access{seen.Subject, client, scope}
		p.profile = s.cfg.profileOf(client)
		return err
	}
	clientID := ""
	if clientID, p.expired, err = s.lapsed(ctx, p.token); clientID == "" || err != nil {
		return err
	}
	of, err := s.clients.get(ctx, clientID)
	if err == nil {
		p.profile = of.profile
	}
	return ignoreNotFound(err)
}

// lapsed says of an access token that is not active whose it was, and whether it
// has expired. The client is "" where it never was one.
func (s *Server) lapsed(ctx context.Context, token string) (clientID string, expired bool, err error) {
	now := s.cfg.now()
	if claims, err := s.openAccess(token, time.Unix(0, 0)); err == nil {
		return claims.ClientID, now.Unix() >= claims.ExpiresAt, nil
	}
	grant, _, err := s.foreignGrant(ctx, token, secret.ForeignAccess)
	if err != nil {
		return "", false, ignoreNotFound(err)
	}
	return grant.ClientID, slices.Contains([]Cause{CauseGrantEnded, CauseRefreshTokenExpired}, grant.deadCause(now)), nil
}
