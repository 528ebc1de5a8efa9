package issuer

import (
	"context"
	"errors"
	"strings"
	"time"
)

// revoke is the revocation endpoint (RFC 7009). A refresh token or code ends
// its grant and with it every token; an access token ends alone. A token that
// is not ours, or dead already, is answered with 200 (section 2.2); one of
// another client is refused (section 2.1). The hint is not needed: the form of
// a token says what it is.
func (s *Server) revoke(ctx context.Context, req *tokenRequest) (any, error) {
	client, err := s.authenticateClient(ctx, req)
	if err != nil {
		return nil, err
	}
	token := req.params.Get("token")
	if token == "" {
		return nil, refuseBecause(CauseBadRequest, "The parameter token is missing.")
	}
	if ref, ok := s.grantOf(token); ok {
		return nil, s.revokeGrant(ctx, client, req, ref)
	}
	claims, err := s.openAccess(token, s.cfg.now())
	if err != nil {
		return nil, nil
	}
	if claims.ClientID != client.ID {
		return nil, refuse(CauseOtherClient)
	}
	event := Event{
		At: s.cfg.now(), Type: EventAccessTokenRevoked, ClientID: client.ID, Subject: claims.Subject,
		Actor: req.actor, Address: req.address, Cause: CauseClientRequest,
	}
	if claims.Generation > 0 {
		event.Grant = claims.Grant
	}
	return nil, s.cfg.Store.RevokeAccessToken(ctx, claims.ID, time.Unix(claims.ExpiresAt, 0).UTC(), event)
}

// grantOf finds the grant of a genuine refresh token or code of any generation.
func (s *Server) grantOf(token string) (tokenRef, bool) {
	if strings.HasPrefix(token, CodePrefix) {
		ref, _, err := s.parseCode(token, codeBinding{})
		return ref, err == nil
	}
	ref, err := s.parseRefreshToken(token)
	return ref, err == nil
}

func (s *Server) revokeGrant(ctx context.Context, client *registered, req *tokenRequest, ref tokenRef) error {
	grant, err := s.cfg.Store.Grant(ctx, ref.grant)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if grant.ClientID != client.ID {
		return refuse(CauseOtherClient)
	}
	event := s.grantEvent(req, EventGrantRevoked, grant, CauseClientRequest)
	_, err = s.cfg.Store.Revoke(ctx, grant.ID, event.At, event)
	if errors.Is(err, ErrNotFound) {
		return nil // purged in between
	}
	return err
}
