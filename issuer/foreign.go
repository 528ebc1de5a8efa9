package issuer

import (
	"context"
	"errors"
	"strings"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// presented finds what a refresh token says: one of ours by its MAC, without a
// database, or of a client that was imported one of the server that it came
// from. Whether such a one is genuine its grant's row says, since nobody finds a
// text whose keyed digest is the id of a grant. The error is a *Refusal with
// CauseTokenForged.
func (s *Server) presented(c *registered, token string) (tokenRef, error) {
	ref, err := s.parseRefreshToken(token)
	if err == nil || c.Foreign == "" || strings.HasPrefix(token, RefreshPrefix) {
		return ref, err
	}
	s.count(c.ID, HabitImportedToken)
	return s.foreignRef(secret.ForeignRefresh, token), nil
}

// foreignRef is what a token of another server refers to, if it was imported.
func (s *Server) foreignRef(kind secret.ForeignKind, token string) tokenRef {
	return tokenRef{grant: s.cfg.Keys.Foreign(kind, secret.NewText(token)), generation: 1}
}

// foreignGrant is the grant of an imported token of one of the kinds that is not
// one of ours, and which it is. ErrNotFound where there is none.
func (s *Server) foreignGrant(ctx context.Context, token string, kinds ...secret.ForeignKind) (Grant, secret.ForeignKind, error) {
	if ours(token) {
		return Grant{}, "", ErrNotFound
	}
	for _, kind := range kinds {
		grant, err := s.cfg.Store.Grant(ctx, s.foreignRef(kind, token).grant)
		if !errors.Is(err, ErrNotFound) {
			return grant, kind, err
		}
	}
	return Grant{}, "", ErrNotFound
}

// ours reports whether a text begins as our tokens do.
func ours(token string) bool {
	return strings.HasPrefix(token, RefreshPrefix) || strings.HasPrefix(token, CodePrefix) || strings.HasPrefix(token, AccessPrefix)
}

// inspectForeign says what a token of another server is, of one of the kinds.
func (s *Server) inspectForeign(ctx context.Context, token string, kinds ...secret.ForeignKind) (oauth.Introspection, error) {
	grant, kind, err := s.foreignGrant(ctx, token, kinds...)
	if err != nil {
		return oauth.Introspection{}, ignoreNotFound(err)
	}
	if kind == secret.ForeignRefresh {
		return s.inspectRefresh(ctx, tokenRef{grant: grant.ID, generation: 1})
	}
	return s.inspectForeignAccess(ctx, grant)
}

// inspectForeignAccess says what the access token is whose own grant this is.
func (s *Server) inspectForeignAccess(ctx context.Context, grant Grant) (oauth.Introspection, error) {
	if !grant.Live(s.cfg.now()) {
		return oauth.Introspection{}, nil
	}
	if _, err := s.clients.get(ctx, grant.ClientID); err != nil {
		return oauth.Introspection{}, ignoreNotFound(err)
	}
	seen := oauth.Introspection{
		Active: true, Scope: grant.Scope.String(), ClientID: grant.ClientID, TokenType: oauth.Bearer, Username: grant.Subject,
		ExpiresAt: grant.ExpiresAt.Unix(), IssuedAt: grant.RotatedAt.Unix(), Subject: grant.Subject,
		Audience: []string{s.cfg.Issuer}, Issuer: s.cfg.Issuer, ID: grant.ID.String(),
	}
	if grant.Subject == grant.ClientID {
		seen.Username = ""
	}
	return seen, nil
}
