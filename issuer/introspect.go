package issuer

import (
	"context"
	"errors"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// introspect is the introspection endpoint (RFC 7662). The caller must
// authenticate with a secret (section 2.1); it sees tokens that were issued to
// it, and all tokens if it is a resource server. Whatever the reason, a token
// that is no good gets the same answer (section 2.2).
func (s *Server) introspect(ctx context.Context, req *tokenRequest) (any, error) {
	client, err := s.authenticateClient(ctx, req)
	if err != nil {
		return nil, err
	}
	if client.Public() {
		return nil, refuseClient("A public client cannot introspect: it has no secret to authenticate with (RFC 7662 section 2.1).")
	}
	token := req.params.Get("token")
	if token == "" {
		return nil, refuse(CauseTokenMissing)
	}
	seen, err := s.inspect(ctx, token)
	if err != nil {
		return nil, err
	}
	if seen.ClientID != client.ID && !client.Introspect {
		return oauth.Introspection{}, nil
	}
	return seen, nil
}

func refuseClient(detail string) error {
	return &Refusal{Cause: CauseClientSecretWrong, Detail: detail}
}

// Inspect says what an access token is at this moment, and whose it is, for a
// resource server in the same process. Any other text, a refresh token too, is
// not active, and then there is no client. The error is the store's.
func (s *Server) Inspect(ctx context.Context, token string) (oauth.Introspection, Client, error) {
	seen, err := s.inspectAccess(ctx, token)
	if err != nil || !seen.Active {
		return oauth.Introspection{}, Client{}, err
	}
	client, err := s.clients.get(ctx, seen.ClientID)
	if err != nil {
		return oauth.Introspection{}, Client{}, ignoreNotFound(err)
	}
	return seen, client.Client, nil
}

// inspect says what a token is at this moment. It has no side effect: a reused
// refresh token that is only looked at convicts nobody.
func (s *Server) inspect(ctx context.Context, token string) (oauth.Introspection, error) {
	if ref, err := s.parseRefreshToken(token); err == nil {
		return s.inspectRefresh(ctx, ref)
	}
	if claims, err := s.openAccess(token, s.cfg.now()); err == nil {
		return s.inspectClaims(ctx, claims)
	}
	return s.inspectForeign(ctx, token, secret.ForeignRefresh, secret.ForeignAccess)
}

func (s *Server) inspectAccess(ctx context.Context, token string) (oauth.Introspection, error) {
	claims, err := s.openAccess(token, s.cfg.now())
	if err != nil {
		return s.inspectForeign(ctx, token, secret.ForeignAccess)
	}
	return s.inspectClaims(ctx, claims)
}

func (s *Server) inspectClaims(ctx context.Context, claims accessClaims) (oauth.Introspection, error) {
	alive, err := s.accessAlive(ctx, claims)
	if err != nil || !alive {
		return oauth.Introspection{}, err
	}
	seen := oauth.Introspection{
		Active: true, Scope: claims.Scope.String(), ClientID: claims.ClientID, TokenType: oauth.Bearer,
		ExpiresAt: claims.ExpiresAt, IssuedAt: claims.IssuedAt, Subject: claims.Subject,
		Audience: []string{s.cfg.Issuer}, Issuer: s.cfg.Issuer, ID: claims.ID,
	}
	if claims.Generation > 0 {
		seen.Username = claims.Subject
	}
	return seen, nil
}

// accessAlive looks up what an access token cannot know of itself: that it, its
// grant or its client has ended.
func (s *Server) accessAlive(ctx context.Context, claims accessClaims) (bool, error) {
	if _, err := s.clients.get(ctx, claims.ClientID); err != nil {
		return false, ignoreNotFound(err)
	}
	if claims.Generation > 0 {
		grant, err := s.cfg.Store.Grant(ctx, claims.Grant)
		if err != nil || !grant.RevokedAt.IsZero() {
			return false, ignoreNotFound(err)
		}
	}
	revoked, err := s.cfg.Store.AccessTokenRevoked(ctx, claims.ID)
	return !revoked, err
}

func (s *Server) inspectRefresh(ctx context.Context, ref tokenRef) (oauth.Introspection, error) {
	grant, err := s.cfg.Store.Grant(ctx, ref.grant)
	if err != nil {
		return oauth.Introspection{}, ignoreNotFound(err)
	}
	if _, err := s.clients.get(ctx, grant.ClientID); err != nil {
		return oauth.Introspection{}, ignoreNotFound(err)
	}
	// A token ahead of its row would be healed, so it is good; one behind is
	// spent, even while a retry would still be answered.
	if !grant.Live(s.cfg.now()) || ref.generation < grant.Generation {
		return oauth.Introspection{}, nil
	}
	seen := oauth.Introspection{
		Active: true, Scope: grant.Scope.String(), ClientID: grant.ClientID, Username: grant.Subject,
		TokenType: oauth.HintRefreshToken, IssuedAt: grant.RotatedAt.Unix(), Subject: grant.Subject, Issuer: s.cfg.Issuer,
	}
	if !grant.ExpiresAt.IsZero() {
		seen.ExpiresAt = grant.ExpiresAt.Unix()
	}
	return seen, nil
}

func ignoreNotFound(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
